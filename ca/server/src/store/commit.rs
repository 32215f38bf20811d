//! Making a batch durable.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Sqlite};
use undercroft_ca::store::Effect;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::leaf::Digest;
use undercroft_log::store::{Batch, CommitError, Head, LogStore, StoreError};
use undercroft_log::tile::encode_hashes;

use super::database::{Database, unavailable};
use super::freeze::{freeze, release};
use super::{node, revocation};

/// Rows in a statement. One statement a row is ten times slower (reference: crates.md).
const ROWS: usize = 128;

/// How many bits of an entry's id are its index.
pub(super) const INDEX_BITS: u32 = 40;

/// One log in the database.
#[derive(Clone, Debug)]
pub struct SqliteLog {
    pub(super) database: Database,
    pub(super) id: i64,
}

impl SqliteLog {
    pub(super) fn new(database: Database, id: i64) -> Self {
        Self { database, id }
    }

    /// The id of an entry of this log.
    pub(super) fn entry_id(&self, index: u64) -> i64 {
        (self.id << INDEX_BITS) | i64::try_from(index).unwrap_or(i64::MAX)
    }
}

/// Why a transaction stops.
pub(super) enum Stop {
    /// For a reason of ours, before anything could be durable.
    Because(CommitError),
    /// SQLite.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

#[async_trait]
impl LogStore<Effect> for SqliteLog {
    async fn head(&self) -> Result<Head, StoreError> {
        self.read_head().await
    }

    async fn commit(&self, batch: Batch<Effect>) -> Result<(), CommitError> {
        let mut connection = self
            .database
            .writer
            .acquire()
            .await
            .map_err(|error| CommitError::Unavailable(error.to_string()))?;
        let unavailable = |error: sqlx::Error| CommitError::Unavailable(error.to_string());
        // Statements of our own instead of sqlx's transaction: SQLite rolls back by itself when the disk is full, and
        // sqlx would go on believing in a transaction that is gone.
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(unavailable)?;
        let written = match self.write(&mut connection, &batch).await {
            Ok(()) => {
                sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map_err(|error| after_commit(&error))
            }
            Err(Stop::Because(error)) => Err(error),
            Err(Stop::Sql(error)) => Err(before_commit(&error)),
        };
        match written {
            Ok(_) => Ok(()),
            Err(error) => {
                // It fails if SQLite has rolled back already, which is what it is for.
                let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
                Err(error)
            }
        }
    }

    async fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let mut connection = self.database.writer.acquire().await.map_err(unavailable)?;
        self.insert_checkpoint(&mut connection, checkpoint).await.map_err(unavailable)
    }
}

/// What a failed statement means: nothing is there, since nothing was committed. A failed fsync still means that the disk
/// cannot be believed from now on; there may be one before the commit, when a batch is larger than SQLite's cache.
fn before_commit(error: &sqlx::Error) -> CommitError {
    const FSYNC: &str = "1034";
    const FOLDER_FSYNC: &str = "1290";
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some(FSYNC | FOLDER_FSYNC) => CommitError::Unknown(error.to_string()),
        _ => CommitError::Unavailable(error.to_string()),
    }
}

/// What a failed COMMIT means. A full disk and a busy lock leave the transaction undone, says SQLite; of anything else,
/// a failed fsync above all, nobody knows what the disk has.
fn after_commit(error: &sqlx::Error) -> CommitError {
    const BUSY: &str = "5";
    const FULL: &str = "13";
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some(BUSY | FULL) => CommitError::Unavailable(error.to_string()),
        _ => CommitError::Unknown(error.to_string()),
    }
}

impl SqliteLog {
    async fn write(&self, connection: &mut SqliteConnection, batch: &Batch<Effect>) -> Result<(), Stop> {
        self.swap_head(connection, batch).await?;
        let first = batch.expected.size;
        let ids = || (first..).map(|index| self.entry_id(index));
        let rows: Vec<_> = ids().zip(&batch.entries).map(|(id, entry)| (id, entry.leaf.to_vec())).collect();
        insert(connection, "INSERT INTO entry (id, leaf) VALUES ", 2, rows, |query, (id, leaf)| {
            query.bind(id).bind(leaf)
        })
        .await?;
        for tile in &batch.full_tiles {
            sqlx::query("INSERT INTO tile (log, level, tile, hashes) VALUES (?, ?, ?, ?)")
                .bind(self.id)
                .bind(i64::from(tile.level))
                .bind(tile.index as i64)
                .bind(encode_hashes(&tile.hashes))
                .execute(&mut *connection)
                .await?;
        }
        for blob in batch.entries.iter().flat_map(|entry| entry.blobs.iter()) {
            sqlx::query("INSERT INTO blob (sha256, bytes) VALUES (?, ?) ON CONFLICT (sha256) DO NOTHING")
                .bind(&Digest::of(blob).0[..])
                .bind(&blob[..])
                .execute(&mut *connection)
                .await?;
        }
        self.apply(connection, batch).await?;
        for (key, sequence) in &batch.head.sequences {
            if batch.expected.sequences.get(key) != Some(sequence) {
                sqlx::query(
                    "INSERT INTO key_use (log, key, sequence) VALUES (?, ?, ?)
                     ON CONFLICT (log, key) DO UPDATE SET sequence = excluded.sequence",
                )
                .bind(self.id)
                .bind(&key.as_bytes()[..])
                .bind(*sequence as i64)
                .execute(&mut *connection)
                .await?;
            }
        }
        if let Some(checkpoint) = &batch.checkpoint {
            self.insert_checkpoint(connection, checkpoint).await?;
        }
        Ok(())
    }

    /// The compare-and-swap. Everything else in the transaction stands or falls with it.
    async fn swap_head(&self, connection: &mut SqliteConnection, batch: &Batch<Effect>) -> Result<(), Stop> {
        let swapped =
            sqlx::query("UPDATE log SET size = ?, root = ?, time = ? WHERE id = ? AND size = ? AND root = ?")
                .bind(batch.head.size as i64)
                .bind(&batch.head.root.as_bytes()[..])
                .bind(batch.head.time.map(|time| time.as_second()))
                .bind(self.id)
                .bind(batch.expected.size as i64)
                .bind(&batch.expected.root.as_bytes()[..])
                .execute(&mut *connection)
                .await?;
        match swapped.rows_affected() {
            1 => Ok(()),
            _ => Err(Stop::Because(CommitError::Lost)),
        }
    }

    async fn insert_checkpoint(
        &self,
        connection: &mut SqliteConnection,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO checkpoint (log, size, note) VALUES (?, ?, ?) ON CONFLICT (log, size) DO NOTHING",
        )
        .bind(self.id)
        .bind(checkpoint.checkpoint().size as i64)
        .bind(&**checkpoint.note())
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Applies the effects of a batch: the many in few statements, the rare ones each by its own.
    async fn apply(&self, connection: &mut SqliteConnection, batch: &Batch<Effect>) -> Result<(), Stop> {
        let first = batch.expected.size;
        let mut certificates = Vec::new();
        let mut opened = Vec::new();
        let mut resolved = Vec::new();
        let mut abandoned = Vec::new();
        for (position, entry) in batch.entries.iter().enumerate() {
            let id = self.entry_id(first + position as u64);
            for effect in entry.effects.iter() {
                match effect {
                    Effect::Certificate(fact) => {
                        opened.push(id);
                        certificates.push((id, fact));
                    }
                    Effect::Signed => opened.push(id),
                    Effect::Resolved { intent } => resolved.push(self.entry_id(*intent)),
                    Effect::Abandoned { intent } => {
                        resolved.push(self.entry_id(*intent));
                        abandoned.push((id, self.entry_id(*intent)));
                    }
                    Effect::Revocation(change) => {
                        if let Some(serial) = revocation::change(connection, id, change).await? {
                            let reason =
                                format!("the state of {serial} cannot change so any more; look again");
                            return Err(Stop::Because(CommitError::Refused { entry: position, reason }));
                        }
                    }
                    Effect::CrlNumbered { series, number } => {
                        if !revocation::take_number(connection, *series, *number).await? {
                            let reason =
                                format!("a CRL with the number {number} or a higher one was made before");
                            return Err(Stop::Because(CommitError::Refused { entry: position, reason }));
                        }
                    }
                    Effect::CrlSigned { intent, fact, signature } => {
                        revocation::keep(connection, fact, self.entry_id(*intent), signature).await?;
                    }
                    Effect::AnchorAnnounced { counter, value } => {
                        self.announce(connection, *counter, *value, first + position as u64).await?;
                    }
                    Effect::NodeAttested(fact) => {
                        if let Some(refused) = node::attested(connection, fact, batch.head.time).await? {
                            let reason = refused.reason().to_owned();
                            return Err(Stop::Because(CommitError::Refused { entry: position, reason }));
                        }
                    }
                    Effect::NodeReleased { endorsement } => {
                        if !node::released(connection, *endorsement).await? {
                            let reason = "the TPM is no node's".to_owned();
                            return Err(Stop::Because(CommitError::Refused { entry: position, reason }));
                        }
                    }
                    Effect::Frozen { what } => freeze(connection, what, id, position).await?,
                    Effect::Unfrozen { what } => release(connection, what, position).await?,
                    rare => apply_rare(connection, rare, position).await?,
                }
            }
        }
        let sql = "INSERT INTO certificate (id, serial, issuer, name, not_after) VALUES ";
        insert(connection, sql, 5, certificates, |query, (id, fact)| {
            query
                .bind(id)
                .bind(fact.serial.as_bytes().to_vec())
                .bind(fact.issuer.as_bytes().to_vec())
                .bind(fact.name.clone())
                .bind(fact.not_after.as_second())
        })
        .await?;
        for (entry, intent) in abandoned {
            revocation::abandon(connection, entry, intent, batch.head.time).await?;
        }
        insert(connection, "INSERT INTO open_intent (id) VALUES ", 1, opened, |query, id| query.bind(id))
            .await?;
        for chunk in chunks(&resolved) {
            let marks = vec!["?"; chunk.len()].join(",");
            let sql = format!("DELETE FROM open_intent WHERE id IN ({marks})");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for id in chunk {
                query = query.bind(*id);
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

impl SqliteLog {
    async fn announce(
        &self,
        connection: &mut SqliteConnection,
        counter: u32,
        value: u64,
        entry: u64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO anchor (log, counter, value, entry) VALUES (?, ?, ?, ?)
             ON CONFLICT (log, counter) DO UPDATE SET value = excluded.value, entry = excluded.entry",
        )
        .bind(self.id)
        .bind(i64::from(counter))
        .bind(value as i64)
        .bind(entry as i64)
        .execute(connection)
        .await
        .map(drop)
    }
}

type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// Inserts rows, many in a statement. `sql` ends in `VALUES `; each row has `columns` columns.
async fn insert<T>(
    connection: &mut SqliteConnection,
    sql: &'static str,
    columns: usize,
    rows: Vec<T>,
    bind: impl Fn(Query, T) -> Query,
) -> Result<(), sqlx::Error> {
    let row = format!("({})", vec!["?"; columns].join(","));
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        let count = chunk_size(rows.len());
        let mut query = sqlx::query(AssertSqlSafe(format!("{sql}{}", vec![row.as_str(); count].join(","))));
        for row in rows.by_ref().take(count) {
            query = bind(query, row);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Powers of two up to [`ROWS`], so that few different statements are prepared.
fn chunk_size(left: usize) -> usize {
    match left {
        ROWS.. => ROWS,
        _ => 1 << left.ilog2(),
    }
}

fn chunks(mut items: &[i64]) -> impl Iterator<Item = &[i64]> {
    std::iter::from_fn(move || {
        let (chunk, rest) =
            items.split_at(if items.is_empty() { return None } else { chunk_size(items.len()) });
        items = rest;
        Some(chunk)
    })
}

/// Effects of entries that come now and then. Those that are impossible refuse their entry.
async fn apply_rare(connection: &mut SqliteConnection, effect: &Effect, entry: usize) -> Result<(), Stop> {
    let refuse = |reason: &str| Stop::Because(CommitError::Refused { entry, reason: reason.to_owned() });
    let changed = match effect {
        Effect::EnrolmentMade { token, id, expires } => {
            sqlx::query("INSERT INTO enrolment (token, id, expires) VALUES (?, ?, ?) ON CONFLICT (token) DO NOTHING")
                .bind(token.0.to_vec())
                .bind(id.clone())
                .bind(expires.as_second())
        }
        Effect::EnrolmentRedeemed { token, now } => {
            sqlx::query("UPDATE enrolment SET redeemed = 1 WHERE token = ? AND redeemed = 0 AND expires >= ?")
                .bind(token.0.to_vec())
                .bind(now.as_second())
        }
        Effect::Bundle(bundle) => sqlx::query(
            "INSERT INTO bundle (domain, sequence, body) VALUES (?, ?, ?)
             ON CONFLICT (domain) DO UPDATE SET sequence = excluded.sequence, body = excluded.body
             WHERE excluded.sequence = bundle.sequence + 1",
        )
        .bind(bundle.domain.clone())
        .bind(bundle.sequence as i64)
        .bind(json(bundle)?),
        // The newest may change, and one may come after it.
        Effect::Rotation(rotation) => sqlx::query(
            "INSERT INTO rotation (domain, number, body)
             SELECT ?1, ?2, ?3 WHERE (SELECT ifnull(max(number), 0) FROM rotation WHERE domain = ?1) IN (?2 - 1, ?2)
             ON CONFLICT (domain, number) DO UPDATE SET body = excluded.body",
        )
        .bind(rotation.domain.clone())
        .bind(rotation.number as i64)
        .bind(json(rotation)?),
        Effect::Policy { policy } => sqlx::query(
            "INSERT INTO policy (only, sha256) VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET sha256 = excluded.sha256",
        )
        .bind(policy.0.to_vec()),
        Effect::CeremonyAdopted { checkpoint } => {
            sqlx::query("INSERT INTO ceremony (checkpoint) VALUES (?) ON CONFLICT (checkpoint) DO NOTHING")
                .bind(checkpoint.0.to_vec())
        }
        Effect::ApprovalCarriedOut { nonce } => {
            sqlx::query("INSERT INTO approval_carried_out (nonce) VALUES (?) ON CONFLICT (nonce) DO NOTHING")
                .bind(nonce.to_vec())
        }
        Effect::Certificate(_)
        | Effect::Signed
        | Effect::Resolved { .. }
        | Effect::Frozen { .. }
        | Effect::Unfrozen { .. }
        | Effect::Abandoned { .. }
        | Effect::Revocation(_)
        | Effect::CrlNumbered { .. }
        | Effect::CrlSigned { .. }
        | Effect::NodeAttested(_)
        | Effect::NodeReleased { .. }
        | Effect::AnchorAnnounced { .. } => return Ok(()),
    }
    .execute(connection)
    .await?
    .rows_affected();
    match (changed, effect) {
        (1, _) => Ok(()),
        (_, Effect::EnrolmentRedeemed { .. }) => Err(refuse("the token has been used or has expired")),
        (_, Effect::ApprovalCarriedOut { .. }) => Err(refuse("the approval was carried out before")),
        (_, Effect::Rotation(_)) => Err(refuse("it is not the newest rotation of its domain")),
        (_, Effect::Bundle(_)) => Err(refuse("another process has published a bundle; start again")),
        _ => Err(refuse("it is there already")),
    }
}

/// The body of an entry, as a fact.
fn json(body: &impl serde::Serialize) -> Result<String, Stop> {
    serde_json::to_string(body).map_err(|error| Stop::Because(CommitError::Unavailable(error.to_string())))
}
