//! The database file.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use undercroft_log::store::StoreError;
use undercroft_log::tree::Hash;
use undercroft_log_files::{Lock, LockError};

use super::SqliteLog;

/// `PRAGMA application_id`: says that a file is ours ("UCFT").
const APPLICATION: i64 = 0x5543_4654;

/// `PRAGMA user_version`: the version of the schema.
pub(crate) const SCHEMA: i64 = 6;

/// What `schema.sql` makes.
const FIRST: i64 = 3;

/// The way from each older version to the one after it.
const STEPS: [(i64, &str); 5] = [
    (1, include_str!("schema_2.sql")),
    (2, include_str!("schema_3.sql")),
    (3, include_str!("schema_4.sql")),
    (4, include_str!("schema_5.sql")),
    (5, include_str!("schema_6.sql")),
];

/// How long a reader waits for a lock. Writers never compete: there is one connection that writes.
const BUSY: Duration = Duration::from_secs(5);

/// Connections that read at once.
const READERS: u32 = 4;

/// An open database.
#[derive(Clone, Debug)]
pub struct Database {
    pub(super) writer: SqlitePool,
    pub(super) reader: SqlitePool,
    /// Held until the database is closed: see [`DatabaseError::InUse`].
    lock: Arc<Lock>,
}

impl Database {
    /// Opens the database at `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let failed = |error: sqlx::Error| DatabaseError::Unavailable {
            path: path.display().to_string(),
            error: error.to_string(),
        };
        let unavailable = |error: std::io::Error| DatabaseError::Unavailable {
            path: path.display().to_string(),
            error: error.to_string(),
        };
        // Whoever can read the file can lock it, and so stop all issuance. SQLite gives its other files the same mode.
        let mut owned = OpenOptions::new();
        owned.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = owned.open(path).map_err(unavailable)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(unavailable)?;
        // Not the file itself: SQLite's own locks are on that, and closing it here would release them (fcntl(2)).
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let lock = Lock::take(Path::new(&beside)).map_err(|error| match error {
            LockError::Held => DatabaseError::InUse { path: path.display().to_string() },
            LockError::Unavailable(error) => unavailable(error),
        })?;
        drop(file);
        let options = SqliteConnectOptions::from_str("sqlite:")
            .map_err(failed)?
            .filename(path)
            .create_if_missing(true)
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit returns when it is on the disk, and not when the disk has promised to write it.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            // Whoever reads a million rows wakes up the less often.
            .row_buffer_size(1024)
            .pragma("wal_autocheckpoint", "4000");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(options.read_only(true).create_if_missing(false));
        let database = Self { writer, reader, lock: Arc::new(lock) };
        database.prepare_schema(path).await?;
        database.settle().await.map_err(failed)?;
        Ok(database)
    }

    /// Folds what a process that died has left in the write-ahead log into the file. It may read well and not be on the
    /// disk: after a failed fsync Linux forgets that pages were never written (fsync(2)), and the next power cut takes
    /// them. Before anything is signed on top of them, they are written again.
    async fn settle(&self) -> Result<(), sqlx::Error> {
        let (busy, _, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writer).await?;
        match busy {
            0 => Ok(()),
            // Nobody of ours can be: we hold the lock.
            _ => Err(sqlx::Error::Protocol("another program reads the database".into())),
        }
    }

    async fn prepare_schema(&self, path: &Path) -> Result<(), DatabaseError> {
        let path = path.display().to_string();
        let failed =
            |error: sqlx::Error| DatabaseError::Unavailable { path: path.clone(), error: error.to_string() };
        let pragma = async |name: &'static str| -> Result<i64, DatabaseError> {
            sqlx::query_scalar(name).fetch_one(&self.writer).await.map_err(failed)
        };
        let application = pragma("PRAGMA application_id").await?;
        let version = pragma("PRAGMA user_version").await?;
        let tables: i64 = pragma("SELECT count(*) FROM sqlite_schema").await?;
        match (application, version) {
            (APPLICATION, SCHEMA) => Ok(()),
            (APPLICATION, 1..SCHEMA) => {
                let mut transaction = self.writer.begin().await.map_err(failed)?;
                for (from, sql) in STEPS.iter().filter(|(from, _)| *from >= version) {
                    tracing::info!(from, "the database gets a newer schema");
                    sqlx::raw_sql(*sql).execute(&mut *transaction).await.map_err(failed)?;
                }
                transaction.commit().await.map_err(failed)
            }
            (APPLICATION, other) => Err(DatabaseError::Version { path, version: other }),
            _ if tables > 0 => Err(DatabaseError::Foreign { path }),
            _ => {
                let mut transaction = self.writer.begin().await.map_err(failed)?;
                sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *transaction).await.map_err(failed)?;
                sqlx::raw_sql("PRAGMA application_id = 1430472276;")
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed)?;
                for (_, sql) in STEPS.iter().filter(|(from, _)| *from >= FIRST) {
                    sqlx::raw_sql(*sql).execute(&mut *transaction).await.map_err(failed)?;
                }
                transaction.commit().await.map_err(failed)
            }
        }
    }

    /// The log of that origin; an empty one if it is not there yet.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn log(&self, origin: &str) -> Result<SqliteLog, StoreError> {
        sqlx::query("INSERT INTO log (origin, size, root) VALUES (?, 0, ?) ON CONFLICT (origin) DO NOTHING")
            .bind(origin)
            .bind(&Hash::empty_root().as_bytes()[..])
            .execute(&self.writer)
            .await
            .map_err(unavailable)?;
        let id: i64 = sqlx::query_scalar("SELECT id FROM log WHERE origin = ?")
            .bind(origin)
            .fetch_one(&self.writer)
            .await
            .map_err(unavailable)?;
        Ok(SqliteLog::new(self.clone(), id))
    }

    /// Closes the database, for every value that shares it: the write-ahead log is folded into the file, and another
    /// process may have it.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
        self.lock.release();
    }
}

pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Why the database cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Another daemon uses it: a second one would abandon what the first has under way.
    #[error("another daemon uses the database {path}; stop it first")]
    InUse {
        /// The file.
        path: String,
    },
    /// It cannot be opened or made.
    #[error("the database {path} cannot be opened: {error}")]
    Unavailable {
        /// The file.
        path: String,
        /// What SQLite says.
        error: String,
    },
    /// A database of something else.
    #[error("{path} is a database of another program; choose another file")]
    Foreign {
        /// The file.
        path: String,
    },
    /// Another version of ours.
    #[error(
        "the database {path} has schema version {version}, and this program knows version {SCHEMA}; use the program that wrote it"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: i64,
    },
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_application_id_in_sql_is_the_constant() {
        assert_eq!(super::APPLICATION, 1_430_472_276);
    }
}
