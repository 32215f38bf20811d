//! Nodes: how they become durable, and how they are read.

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use undercroft_ca::nodes::LastClock;
use undercroft_ca::store::NodeFact;
use undercroft_log::leaf::Digest;
use undercroft_log::store::StoreError;

use super::database::{Database, unavailable};
use super::read::{array, unsigned};

/// How long a spent exchange is remembered: longer than its connection can live.
const REMEMBERED: i64 = 24 * 60 * 60;

/// Why a node gets nothing.
pub(super) enum Refused {
    /// The exchange has led to a certificate before.
    Spent,
    /// The TPM is another node's, or the node has another TPM.
    Claimed,
    /// A later attestation is known.
    Overtaken,
}

impl Refused {
    /// What a refused entry says.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Spent => "this exchange has led to a certificate before",
            Self::Claimed => "the TPM is another node's, or the node has another TPM",
            Self::Overtaken => "a later attestation of this TPM is known",
        }
    }
}

/// Takes a node in, or in again.
pub(super) async fn attested(
    connection: &mut SqliteConnection,
    node: &NodeFact,
    now: Option<Timestamp>,
) -> Result<Option<Refused>, sqlx::Error> {
    let now = now.unwrap_or_default().as_second();
    sqlx::query("DELETE FROM spent_exchange WHERE spent < ?")
        .bind(now - REMEMBERED)
        .execute(&mut *connection)
        .await?;
    let spent = sqlx::query(
        "INSERT INTO spent_exchange (transcript, spent) VALUES (?, ?) ON CONFLICT (transcript) DO NOTHING",
    )
    .bind(node.transcript.0.to_vec())
    .bind(now)
    .execute(&mut *connection)
    .await?;
    if spent.rows_affected() != 1 {
        return Ok(Some(Refused::Spent));
    }
    let others: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM node WHERE (endorsement = ?1 AND (domain <> ?2 OR spiffe_id <> ?3))
         OR (spiffe_id = ?3 AND endorsement <> ?1)",
    )
    .bind(node.endorsement.0.to_vec())
    .bind(node.domain.clone())
    .bind(node.spiffe_id.clone())
    .fetch_one(&mut *connection)
    .await?;
    if others != 0 {
        return Ok(Some(Refused::Claimed));
    }
    let LastClock { milliseconds, resets, restarts, safe, firmware } = node.clock;
    let taken = sqlx::query(
        "INSERT INTO node (endorsement, domain, spiffe_id, attestation_key, milliseconds, resets, restarts, safe, firmware,
         transcript, evidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (endorsement) DO UPDATE SET attestation_key = excluded.attestation_key,
         milliseconds = excluded.milliseconds, resets = excluded.resets, restarts = excluded.restarts,
         safe = excluded.safe, firmware = excluded.firmware, transcript = excluded.transcript, evidence = excluded.evidence
         WHERE (excluded.resets, excluded.milliseconds) > (node.resets, node.milliseconds)
         OR excluded.attestation_key <> node.attestation_key",
    )
    .bind(node.endorsement.0.to_vec())
    .bind(node.domain.clone())
    .bind(node.spiffe_id.clone())
    .bind(node.attestation_key.clone())
    .bind(i64::try_from(milliseconds).unwrap_or(i64::MAX))
    .bind(i64::from(resets))
    .bind(i64::from(restarts))
    .bind(i64::from(safe))
    .bind(firmware.cast_signed())
    .bind(node.transcript.0.to_vec())
    .bind(node.evidence.0.to_vec())
    .execute(connection)
    .await?;
    Ok((taken.rows_affected() != 1).then_some(Refused::Overtaken))
}

/// Gives a TPM free. Gives whether it was a node's.
pub(super) async fn released(
    connection: &mut SqliteConnection,
    endorsement: Digest,
) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query("DELETE FROM node WHERE endorsement = ?")
        .bind(endorsement.0.to_vec())
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() == 1)
}

type Row = (Vec<u8>, String, String, Vec<u8>, i64, i64, i64, bool, i64, Vec<u8>, Vec<u8>);

const COLUMNS: &str = "endorsement, domain, spiffe_id, attestation_key, milliseconds, resets, restarts, safe, firmware, transcript, evidence";

impl Database {
    /// The node with this endorsement key.
    pub(super) async fn node_of(&self, endorsement: Digest) -> Result<Option<NodeFact>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE endorsement = ?");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(endorsement.0.to_vec());
        let row: Option<Row> = query.fetch_optional(&self.reader).await.map_err(unavailable)?;
        row.map(fact).transpose()
    }

    /// The node of this SPIFFE ID.
    pub(super) async fn node_named(&self, spiffe_id: &str) -> Result<Option<NodeFact>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE spiffe_id = ?");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(spiffe_id.to_owned());
        let row: Option<Row> = query.fetch_optional(&self.reader).await.map_err(unavailable)?;
        row.map(fact).transpose()
    }

    /// Nodes of a domain, a page.
    pub(super) async fn nodes_of(
        &self,
        domain: &str,
        after: &str,
        most: u32,
    ) -> Result<Vec<NodeFact>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM node WHERE domain = ? AND spiffe_id > ? ORDER BY spiffe_id LIMIT ?"
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(domain.to_owned())
            .bind(after.to_owned())
            .bind(i64::from(most));
        let rows: Vec<Row> = query.fetch_all(&self.reader).await.map_err(unavailable)?;
        rows.into_iter().map(fact).collect()
    }
}

fn fact(row: Row) -> Result<NodeFact, StoreError> {
    let (
        endorsement,
        domain,
        spiffe_id,
        attestation_key,
        milliseconds,
        resets,
        restarts,
        safe,
        firmware,
        t,
        evidence,
    ) = row;
    let count = |what: i64| {
        u32::try_from(what).map_err(|_| StoreError::Damaged(format!("{what} is no count of a TPM's")))
    };
    Ok(NodeFact {
        endorsement: Digest(array(endorsement)?),
        domain,
        spiffe_id,
        attestation_key,
        clock: LastClock {
            milliseconds: unsigned(milliseconds)?,
            resets: count(resets)?,
            restarts: count(restarts)?,
            safe,
            firmware: firmware.cast_unsigned(),
        },
        transcript: Digest(array(t)?),
        evidence: Digest(array(evidence)?),
    })
}
