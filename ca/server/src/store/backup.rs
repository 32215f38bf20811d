//! A copy of the database as it is at one moment.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use undercroft_log::leaf::LogHead;
use undercroft_log::store::StoreError;
use undercroft_log::tree::Hash;

use super::database::{Database, unavailable};

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The logs, each by its origin, with how much of it there is.
    pub logs: Vec<(String, LogHead)>,
}

impl Database {
    /// Copies the database into a file that is empty or not there, while others write (SQLite's VACUUM INTO reads one
    /// snapshot, and keeps no writer waiting).
    ///
    /// # Errors
    /// The disk is full, or the database does not answer.
    pub async fn snapshot(&self, into: &Path) -> Result<Snapshot, StoreError> {
        let place: String = sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            .fetch_one(&self.reader)
            .await
            .map_err(unavailable)?;
        // A connection of its own: the one that writes is not kept from writing.
        let mut connection = SqliteConnectOptions::new()
            .filename(place)
            .create_if_missing(false)
            .connect()
            .await
            .map_err(unavailable)?;
        let copied = sqlx::query("VACUUM INTO ?")
            .bind(into.to_string_lossy().into_owned())
            .execute(&mut connection)
            .await;
        connection.close().await.map_err(unavailable)?;
        copied.map_err(unavailable)?;
        let copy = SqliteConnectOptions::new().filename(into).read_only(true).immutable(true);
        let mut copy = copy.connect().await.map_err(unavailable)?;
        let logs = logs(&mut copy).await;
        copy.close().await.map_err(unavailable)?;
        Ok(Snapshot { logs: logs? })
    }

    /// The logs that it holds, by their origins, with how much of each there is.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn logs(&self) -> Result<Vec<(String, LogHead)>, StoreError> {
        let mut connection = self.writer.acquire().await.map_err(unavailable)?;
        logs(&mut connection).await
    }
}

async fn logs(connection: &mut SqliteConnection) -> Result<Vec<(String, LogHead)>, StoreError> {
    let rows: Vec<(String, i64, Vec<u8>)> =
        sqlx::query_as("SELECT origin, size, root FROM log ORDER BY origin")
            .fetch_all(connection)
            .await
            .map_err(unavailable)?;
    let damaged = |what: &str| StoreError::Damaged(format!("the head of a log has {what}"));
    rows.into_iter()
        .map(|(origin, size, root)| {
            let size = u64::try_from(size).map_err(|_| damaged("a negative size"))?;
            let root: [u8; 32] = root.try_into().map_err(|_| damaged("a root of another length"))?;
            Ok((origin, LogHead { size, root: Hash::from(root) }))
        })
        .collect()
}
