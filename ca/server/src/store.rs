//! Storage: SQLite, in one file.
//!
//! [`Database`] opens the file; [`SqliteLog`] keeps one log in it and [`Database`] itself answers for facts. One
//! transaction a batch holds entries, tiles, facts and the new head, guarded by a compare-and-swap on the head; it is
//! durable when it returns (`synchronous = FULL`, write-ahead log).

mod backup;
mod commit;
mod database;
mod freeze;
mod node;
mod read;
mod revocation;

pub use backup::Snapshot;
pub use commit::SqliteLog;
pub(crate) use database::SCHEMA;
pub use database::{Database, DatabaseError};

#[cfg(test)]
mod tests;
