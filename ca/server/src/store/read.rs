//! Reading logs and facts.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Row as _;
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::store::{CertificateFact, Enrolment, Facts, NodeFact};
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Bundle, Digest, Rotation};
use undercroft_log::store::{Head, LogReader, StoreError};
use undercroft_log::tile::decode_hashes;
use undercroft_log::tree::{Hash, TILE_WIDTH};

use super::commit::{INDEX_BITS, SqliteLog};
use super::database::{Database, unavailable};

impl SqliteLog {
    pub(super) async fn read_head(&self) -> Result<Head, StoreError> {
        // By the writer: a reader's snapshot may be older than the last commit.
        let (size, root, time): (i64, Vec<u8>, Option<i64>) =
            sqlx::query_as("SELECT size, root, time FROM log WHERE id = ?")
                .bind(self.id)
                .fetch_one(&self.database.writer)
                .await
                .map_err(unavailable)?;
        let uses: Vec<(Vec<u8>, i64)> = sqlx::query_as("SELECT key, sequence FROM key_use WHERE log = ?")
            .bind(self.id)
            .fetch_all(&self.database.writer)
            .await
            .map_err(unavailable)?;
        let sequences = uses
            .into_iter()
            .map(|(key, sequence)| Ok((KeyId::from(array(key)?), unsigned(sequence)?)))
            .collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        Ok(Head {
            size: unsigned(size)?,
            root: Hash::from(array(root)?),
            time: time.map(timestamp).transpose()?,
            sequences,
        })
    }
}

#[async_trait]
impl LogReader for SqliteLog {
    async fn kept_checkpoint(&self) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT note FROM checkpoint WHERE log = ? ORDER BY size DESC LIMIT 1")
            .bind(self.id)
            .fetch_optional(&self.database.writer)
            .await
            .map_err(unavailable)
    }

    async fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let entries: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT leaf FROM entry WHERE id >= ? AND id < ? ORDER BY id")
                .bind(self.entry_id(range.start))
                .bind(self.entry_id(range.end))
                .fetch_all(&self.database.reader)
                .await
                .map_err(unavailable)?;
        match entries.len() as u64 == wanted {
            true => Ok(entries),
            false => Err(StoreError::Damaged(format!(
                "of the entries {} to {} only {} are there",
                range.start,
                range.end,
                entries.len()
            ))),
        }
    }

    async fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, StoreError> {
        let hashes: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT hashes FROM tile WHERE log = ? AND level = ? AND tile = ?")
                .bind(self.id)
                .bind(i64::from(level))
                .bind(index as i64)
                .fetch_optional(&self.database.reader)
                .await
                .map_err(unavailable)?;
        let hashes =
            hashes.ok_or_else(|| StoreError::Damaged(format!("tile {index} of level {level} is missing")))?;
        decode_hashes(&hashes, TILE_WIDTH)
            .map_err(|error| StoreError::Damaged(format!("tile {index} of level {level}: {error}")))
    }

    async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT bytes FROM blob WHERE sha256 = ?")
            .bind(digest.0.to_vec())
            .fetch_optional(&self.database.reader)
            .await
            .map_err(unavailable)
    }
}

#[async_trait]
impl Facts for Database {
    async fn node(&self, endorsement: Digest) -> Result<Option<NodeFact>, StoreError> {
        self.node_of(endorsement).await
    }

    async fn node_of_id(&self, spiffe_id: &str) -> Result<Option<NodeFact>, StoreError> {
        self.node_named(spiffe_id).await
    }

    async fn nodes(&self, domain: &str, after: &str, most: u32) -> Result<Vec<NodeFact>, StoreError> {
        self.nodes_of(domain, after, most).await
    }

    async fn open_intents(&self, origin: &str) -> Result<Vec<u64>, StoreError> {
        let rows = sqlx::query(
            "SELECT open_intent.id & ((1 << 40) - 1) AS position FROM open_intent, log
             WHERE log.origin = ? AND open_intent.id >= (log.id << 40) AND open_intent.id < ((log.id + 1) << 40)
             ORDER BY open_intent.id",
        )
        .bind(origin)
        .fetch_all(&self.writer)
        .await
        .map_err(unavailable)?;
        debug_assert_eq!(INDEX_BITS, 40);
        rows.iter().map(|row| unsigned(row.try_get(0).map_err(unavailable)?)).collect()
    }

    async fn enrolment(&self, token: Digest) -> Result<Option<Enrolment>, StoreError> {
        let row: Option<(String, i64, i64)> =
            sqlx::query_as("SELECT id, expires, redeemed FROM enrolment WHERE token = ?")
                .bind(token.0.to_vec())
                .fetch_optional(&self.reader)
                .await
                .map_err(unavailable)?;
        row.map(|(id, expires, redeemed)| {
            Ok(Enrolment { id, expires: timestamp(expires)?, redeemed: redeemed != 0 })
        })
        .transpose()
    }

    async fn bundle(&self, domain: &str) -> Result<Option<Bundle>, StoreError> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM bundle WHERE domain = ?")
            .bind(domain)
            .fetch_optional(&self.writer)
            .await
            .map_err(unavailable)?;
        body.map(|body| json(&body)).transpose()
    }

    async fn rotations(&self, domain: &str) -> Result<Vec<Rotation>, StoreError> {
        let bodies: Vec<String> =
            sqlx::query_scalar("SELECT body FROM rotation WHERE domain = ? ORDER BY number")
                .bind(domain)
                .fetch_all(&self.writer)
                .await
                .map_err(unavailable)?;
        bodies.iter().map(|body| json(body)).collect()
    }

    async fn ends_last(&self, issuers: &[KeyId]) -> Result<Option<CertificateFact>, StoreError> {
        let mut last: Option<CertificateFact> = None;
        for issuer in issuers {
            // What was revoked is waited for no longer; what is on hold (6) may be released (8), and is. No index helps: it would cost each issuance more than this costs a rotation. By a reader, so that nobody waits.
            let row: Option<(Vec<u8>, String, i64)> = sqlx::query_as(
                "SELECT serial, name, not_after FROM certificate WHERE issuer = ? AND NOT EXISTS (
                     SELECT 1 FROM revocation
                     WHERE revocation.issuer = certificate.issuer AND revocation.serial = certificate.serial
                       AND revocation.reason NOT IN (6, 8)
                 ) ORDER BY not_after DESC LIMIT 1",
            )
            .bind(issuer.as_bytes().to_vec())
            .fetch_optional(&self.reader)
            .await
            .map_err(unavailable)?;
            let Some((serial, name, not_after)) = row else { continue };
            let serial = serial.try_into().ok().and_then(SerialNumber::from_bytes);
            let serial = serial.ok_or_else(|| StoreError::Damaged("a serial number that is none".into()))?;
            let fact = CertificateFact { serial, issuer: *issuer, name, not_after: timestamp(not_after)? };
            if last.as_ref().is_none_or(|last| last.not_after < fact.not_after) {
                last = Some(fact);
            }
        }
        Ok(last)
    }

    async fn policy(&self) -> Result<Option<Digest>, StoreError> {
        let row: Option<Vec<u8>> = sqlx::query_scalar("SELECT sha256 FROM policy")
            .fetch_optional(&self.writer)
            .await
            .map_err(unavailable)?;
        row.map(|sha256| array(sha256).map(Digest)).transpose()
    }

    async fn anchor(&self, origin: &str, counter: u32) -> Result<Option<(u64, u64)>, StoreError> {
        let row: Option<(i64, i64)> = sqlx::query_as(
            "SELECT value, entry FROM anchor, log WHERE log.id = anchor.log AND log.origin = ? AND counter = ?",
        )
        .bind(origin)
        .bind(i64::from(counter))
        .fetch_optional(&self.writer)
        .await
        .map_err(unavailable)?;
        row.map(|(value, entry)| Ok((unsigned(value)?, unsigned(entry)?))).transpose()
    }

    async fn freezes(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.freezing_entries().await
    }

    async fn approval_is_carried_out(&self, nonce: [u8; 16]) -> Result<bool, StoreError> {
        self.was_carried_out(nonce).await
    }

    async fn ceremony_is_adopted(&self, checkpoint: Digest) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM ceremony WHERE checkpoint = ?)")
            .bind(checkpoint.0.to_vec())
            .fetch_one(&self.writer)
            .await
            .map_err(unavailable)
    }
}

/// The body of an entry, kept as a fact.
fn json<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Damaged(error.to_string()))
}

pub(super) fn array(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    let length = bytes.len();
    bytes.try_into().map_err(|_| StoreError::Damaged(format!("a hash of {length} bytes")))
}

pub(super) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Damaged(format!("a negative number ({value})")))
}

pub(super) fn timestamp(second: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_second(second).map_err(|error| StoreError::Damaged(error.to_string()))
}
