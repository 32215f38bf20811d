//! Revocations and CRLs: how they become durable, and how they are read.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;
use undercroft_ca::revocation::facts::{
    Change, CrlFact, IssuedFact, Revocations, Series, StoredCrl, Wanted, reason_from_code,
};
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::tbs::Revoked;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Body, Leaf, RevocationEvent, ToBeSigned};
use undercroft_log::store::StoreError;

use super::database::{Database, unavailable};
use super::read::{array, timestamp, unsigned};

/// Changes the state of certificates. Gives the serial number of one whose state cannot change so.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    entry: i64,
    change: &Change,
) -> Result<Option<SerialNumber>, sqlx::Error> {
    for (serial, end) in &change.certificates {
        let sql = match change.event {
            // Since it was put on hold, if it was: nobody was to trust it from then on.
            RevocationEvent::Revoke => {
                "INSERT INTO revocation (issuer, serial, date, reason, not_after, changed)
                 VALUES (?1, ?2, ?3, ?4, coalesce(?5, (SELECT not_after FROM certificate WHERE issuer = ?1 AND serial = ?2)), ?6)
                 ON CONFLICT (issuer, serial) DO UPDATE SET
                 date = iif(reason = 6, date, excluded.date), reason = excluded.reason, changed = excluded.changed
                 WHERE reason IN (6, 8)"
            }
            RevocationEvent::Hold => {
                "INSERT INTO revocation (issuer, serial, date, reason, not_after, changed)
                 VALUES (?1, ?2, ?3, ?4, coalesce(?5, (SELECT not_after FROM certificate WHERE issuer = ?1 AND serial = ?2)), ?6)
                 ON CONFLICT (issuer, serial) DO UPDATE SET
                 date = excluded.date, reason = excluded.reason, changed = excluded.changed
                 WHERE reason = 8"
            }
            RevocationEvent::Release => {
                "UPDATE revocation SET date = ?3, reason = ?4, not_after = coalesce(?5, not_after), changed = ?6
                 WHERE issuer = ?1 AND serial = ?2 AND reason = 6"
            }
        };
        let changed = sqlx::query(sql)
            .bind(change.issuer.as_bytes().to_vec())
            .bind(serial.as_bytes().to_vec())
            .bind(change.date.as_second())
            .bind(i64::from(change.code()))
            .bind(end.map(Timestamp::as_second))
            .bind(entry)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        if changed != 1 {
            return Ok(Some(*serial));
        }
    }
    Ok(None)
}

/// Revokes the serial number of an intent that was abandoned, if it was that of a certificate.
pub(super) async fn abandon(
    connection: &mut SqliteConnection,
    entry: i64,
    intent: i64,
    now: Option<Timestamp>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO revocation (issuer, serial, date, reason, not_after, changed)
         SELECT issuer, serial, ?1, 0, not_after, ?2 FROM certificate WHERE id = ?3
         ON CONFLICT (issuer, serial) DO UPDATE SET reason = 0, changed = excluded.changed WHERE reason IN (6, 8)",
    )
    .bind(now.unwrap_or_default().as_second())
    .bind(entry)
    .bind(intent)
    .execute(connection)
    .await
    .map(drop)
}

/// Takes a number of a series. Gives whether it is higher than those before.
pub(super) async fn take_number(
    connection: &mut SqliteConnection,
    series: Series,
    number: u64,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "INSERT INTO crl_number (issuer, shard, number) VALUES (?, ?, ?)
         ON CONFLICT (issuer, shard) DO UPDATE SET number = excluded.number WHERE number < excluded.number",
    )
    .bind(series.issuer.as_bytes().to_vec())
    .bind(shard(series.shard))
    .bind(number as i64)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Keeps a CRL in place of the one before.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    fact: &CrlFact,
    intent: i64,
    signature: &[u8],
) -> Result<(), sqlx::Error> {
    let issuer = fact.series.issuer.as_bytes().to_vec();
    sqlx::query(
        "INSERT OR REPLACE INTO crl
         (issuer, shard, delta, delta_of, number, this_update, next_update, covers, intent, signature)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(issuer)
    .bind(shard(fact.series.shard))
    .bind(i64::from(fact.delta_of.is_some()))
    .bind(fact.delta_of.map(|number| number as i64))
    .bind(fact.number as i64)
    .bind(fact.this_update.as_second())
    .bind(fact.next_update.as_second())
    .bind(fact.covers as i64)
    .bind(intent)
    .bind(signature.to_vec())
    .execute(connection)
    .await
    .map(drop)
}

fn shard(shard: Option<u16>) -> i64 {
    shard.map_or(-1, i64::from)
}

#[async_trait]
impl Revocations for Database {
    async fn live(&self, wanted: Wanted<'_>, now: Timestamp) -> Result<Vec<IssuedFact>, StoreError> {
        let condition = match wanted {
            Wanted::Serials([]) => return Ok(Vec::new()),
            Wanted::Serials(serials) => format!("serial IN ({})", vec!["?"; serials.len()].join(",")),
            Wanted::Named(_) => "name = ?".to_owned(),
        };
        let sql = format!(
            "SELECT id, issuer, serial, name, not_after FROM certificate WHERE not_after >= ? AND {condition} ORDER BY id"
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(now.as_second());
        query = match wanted {
            Wanted::Serials(serials) => {
                serials.iter().fold(query, |query, serial| query.bind(serial.as_bytes().to_vec()))
            }
            Wanted::Named(name) => query.bind(name.to_owned()),
        };
        let rows: Vec<IssuedRow> = query.fetch_all(&self.reader).await.map_err(unavailable)?;
        rows.into_iter().map(issued).collect()
    }

    async fn issued_since(
        &self,
        issuer: KeyId,
        position: u64,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<IssuedFact>, StoreError> {
        // What has expired long ago is not even looked at.
        let position = match position {
            0 => {
                let first: Vec<Option<i64>> =
                    sqlx::query_scalar("SELECT min(id) FROM certificate WHERE not_after >= ?")
                        .bind(now.as_second())
                        .fetch_all(&self.reader)
                        .await
                        .map_err(unavailable)?;
                first.first().copied().flatten().map_or(0, |first| first.saturating_sub(1))
            }
            position => position as i64,
        };
        let rows: Vec<IssuedRow> = sqlx::query_as(
            "SELECT id, issuer, serial, name, not_after FROM certificate
             WHERE id > ? AND not_after >= ? AND issuer = ? ORDER BY id LIMIT ?",
        )
        .bind(position)
        .bind(now.as_second())
        .bind(issuer.as_bytes().to_vec())
        .bind(i64::from(most))
        .fetch_all(&self.reader)
        .await
        .map_err(unavailable)?;
        rows.into_iter().map(issued).collect()
    }

    async fn state(&self, issuer: KeyId, serial: SerialNumber) -> Result<Option<Revoked>, StoreError> {
        let rows: Vec<RevokedRow> =
            sqlx::query_as("SELECT serial, date, reason FROM revocation WHERE issuer = ? AND serial = ?")
                .bind(issuer.as_bytes().to_vec())
                .bind(serial.as_bytes().to_vec())
                .fetch_all(&self.reader)
                .await
                .map_err(unavailable)?;
        rows.into_iter().next().map(revoked).transpose()
    }

    async fn revoked(
        &self,
        issuer: KeyId,
        first: SerialNumber,
        end: Option<SerialNumber>,
        alive: Timestamp,
        most: u32,
    ) -> Result<Vec<Revoked>, StoreError> {
        // No serial number of ours begins with 0x80 or more.
        let end = end.map_or(vec![0x80], |end| end.as_bytes().to_vec());
        // Each value of a row is copied by itself, and a CRL may have a million rows: one number instead of two.
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT serial, date * 16 + reason FROM revocation
             WHERE issuer = ? AND serial >= ? AND serial < ? AND not_after >= ? ORDER BY serial LIMIT ?",
        )
        .bind(issuer.as_bytes().to_vec())
        .bind(first.as_bytes().to_vec())
        .bind(end)
        .bind(alive.as_second())
        .bind(i64::from(most))
        .fetch_all(&self.reader)
        .await
        .map_err(unavailable)?;
        rows.into_iter()
            .map(|(serial, both)| revoked((serial, both.div_euclid(16), both.rem_euclid(16))))
            .collect()
    }

    async fn changes(&self, issuer: KeyId, since: u64, most: u32) -> Result<Vec<(u64, Revoked)>, StoreError> {
        let rows: Vec<(i64, Vec<u8>, i64, i64)> = sqlx::query_as(
            "SELECT changed, serial, date, reason FROM revocation
             WHERE issuer = ? AND changed > ? ORDER BY changed, serial LIMIT ?",
        )
        .bind(issuer.as_bytes().to_vec())
        .bind(since as i64)
        .bind(i64::from(most))
        .fetch_all(&self.reader)
        .await
        .map_err(unavailable)?;
        rows.into_iter()
            .map(|(changed, serial, date, reason)| Ok((unsigned(changed)?, revoked((serial, date, reason))?)))
            .collect()
    }

    async fn last_change(&self, issuer: KeyId) -> Result<u64, StoreError> {
        let last: Vec<Option<i64>> =
            sqlx::query_scalar("SELECT max(changed) FROM revocation WHERE issuer = ?")
                .bind(issuer.as_bytes().to_vec())
                .fetch_all(&self.reader)
                .await
                .map_err(unavailable)?;
        unsigned(last.first().copied().flatten().unwrap_or_default())
    }

    async fn crls(&self, issuer: KeyId) -> Result<Vec<StoredCrl>, StoreError> {
        let rows: Vec<CrlRow> = sqlx::query_as(
            "SELECT shard, delta_of, number, this_update, next_update, covers, intent, signature
             FROM crl WHERE issuer = ?",
        )
        .bind(issuer.as_bytes().to_vec())
        .fetch_all(&self.reader)
        .await
        .map_err(unavailable)?;
        let mut crls = Vec::with_capacity(rows.len());
        for (shard, delta_of, number, this_update, next_update, covers, intent, signature) in rows {
            let fact = CrlFact {
                series: Series { issuer, shard: u16::try_from(shard).ok() },
                delta_of: delta_of.map(unsigned).transpose()?,
                number: unsigned(number)?,
                this_update: timestamp(this_update)?,
                next_update: timestamp(next_update)?,
                covers: unsigned(covers)?,
            };
            crls.push(StoredCrl { fact, tbs: self.to_be_signed(intent).await?, signature });
        }
        Ok(crls)
    }

    async fn crl_numbers(&self, issuer: KeyId) -> Result<Vec<(Option<u16>, u64)>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT shard, number FROM crl_number WHERE issuer = ?")
            .bind(issuer.as_bytes().to_vec())
            .fetch_all(&self.reader)
            .await
            .map_err(unavailable)?;
        rows.into_iter().map(|(shard, number)| Ok((u16::try_from(shard).ok(), unsigned(number)?))).collect()
    }
}

impl Database {
    /// The bytes that an intent is about.
    async fn to_be_signed(&self, intent: i64) -> Result<Vec<u8>, StoreError> {
        let damaged = |what: String| StoreError::Damaged(what);
        let leaf: Vec<u8> = sqlx::query_scalar("SELECT leaf FROM entry WHERE id = ?")
            .bind(intent)
            .fetch_one(&self.reader)
            .await
            .map_err(unavailable)?;
        match Leaf::parse(&leaf).map_err(|error| damaged(error.to_string()))?.body {
            Body::Intent(intent) => match intent.tbs {
                ToBeSigned::Der(der) => Ok(der.0),
                ToBeSigned::Blob { sha256, .. } => {
                    sqlx::query_scalar("SELECT bytes FROM blob WHERE sha256 = ?")
                        .bind(sha256.0.to_vec())
                        .fetch_one(&self.reader)
                        .await
                        .map_err(unavailable)
                }
            },
            _ => Err(damaged("a CRL of an entry that is no intent".into())),
        }
    }
}

type IssuedRow = (i64, Vec<u8>, Vec<u8>, String, i64);
type RevokedRow = (Vec<u8>, i64, i64);
type CrlRow = (i64, Option<i64>, i64, i64, i64, i64, i64, Vec<u8>);

fn issued((id, issuer, serial, name, not_after): IssuedRow) -> Result<IssuedFact, StoreError> {
    Ok(IssuedFact {
        position: unsigned(id)?,
        issuer: KeyId::from(array(issuer)?),
        serial: serial_number(&serial)?,
        name,
        not_after: timestamp(not_after)?,
    })
}

fn revoked((serial, date, reason): RevokedRow) -> Result<Revoked, StoreError> {
    let reason = reason_from_code(u8::try_from(reason).unwrap_or(u8::MAX))?;
    Ok(Revoked { serial: serial_number(&serial)?, date: timestamp(date)?, reason })
}

fn serial_number(bytes: &[u8]) -> Result<SerialNumber, StoreError> {
    bytes
        .try_into()
        .ok()
        .and_then(SerialNumber::from_bytes)
        .ok_or_else(|| StoreError::Damaged(format!("a serial number of {} bytes", bytes.len())))
}
