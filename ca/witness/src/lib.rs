//! A witness of logs (C2SP tlog-witness).
//!
//! It keeps, for each log that it knows, the last checkpoint that it has cosigned, and cosigns another only if that one
//! is consistent with it. A log that shows a different history to somebody else, or goes back to an older state, does
//! not get past a witness that it does not control. So a witness is worth something on another machine, of another
//! team, with a key of its own.
//!
//! The same program can be a [`gate`], with another key and another configuration.

pub mod activation;
pub mod config;
pub mod gate;
pub mod logs;
pub mod serve;
pub mod witness;

/// Makes the names in a folder durable.
fn sync_folder(folder: &std::path::Path) -> Result<(), undercroft_cli::Failure> {
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| undercroft_cli::Failure::failed(format!("{}: {error}", folder.display())))
}
