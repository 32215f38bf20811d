//! What is frozen, and which approvals were carried out.

use sqlx::sqlite::SqliteConnection;
use undercroft_log::leaf::Freezable;
use undercroft_log::store::{CommitError, StoreError};

use super::commit::Stop;
use super::database::{Database, unavailable};

/// Something is frozen by the entry with this id.
pub(super) async fn freeze(
    connection: &mut SqliteConnection,
    what: &Freezable,
    id: i64,
    entry: usize,
) -> Result<(), Stop> {
    let changed = sqlx::query("INSERT INTO freeze (what, entry) VALUES (?, ?) ON CONFLICT (what) DO NOTHING")
        .bind(text(what, entry)?)
        .bind(id)
        .execute(connection)
        .await?
        .rows_affected();
    one(changed, entry, "it is frozen already")
}

/// Something is frozen no more.
pub(super) async fn release(
    connection: &mut SqliteConnection,
    what: &Freezable,
    entry: usize,
) -> Result<(), Stop> {
    let changed = sqlx::query("DELETE FROM freeze WHERE what = ?")
        .bind(text(what, entry)?)
        .execute(connection)
        .await?
        .rows_affected();
    one(changed, entry, "it is not frozen")
}

/// One thing has one text: the members of JSON that we write have one order.
fn text(what: &Freezable, entry: usize) -> Result<String, Stop> {
    serde_json::to_string(what)
        .map_err(|error| Stop::Because(CommitError::Refused { entry, reason: error.to_string() }))
}

fn one(changed: u64, entry: usize, otherwise: &str) -> Result<(), Stop> {
    match changed {
        1 => Ok(()),
        _ => Err(Stop::Because(CommitError::Refused { entry, reason: otherwise.to_owned() })),
    }
}

impl Database {
    pub(super) async fn freezing_entries(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows: Vec<(String, Option<Vec<u8>>)> = sqlx::query_as(
            "SELECT freeze.what, entry.leaf FROM freeze LEFT JOIN entry ON entry.id = freeze.entry ORDER BY freeze.entry",
        )
        .fetch_all(&self.writer)
        .await
        .map_err(unavailable)?;
        let missing = |what: String| StoreError::Damaged(format!("the entry that froze {what} is missing"));
        rows.into_iter().map(|(what, leaf)| leaf.ok_or_else(|| missing(what))).collect()
    }

    pub(super) async fn was_carried_out(&self, nonce: [u8; 16]) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM approval_carried_out WHERE nonce = ?)")
            .bind(nonce.to_vec())
            .fetch_one(&self.writer)
            .await
            .map_err(unavailable)
    }
}
