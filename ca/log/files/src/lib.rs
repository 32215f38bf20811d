//! Logs in folders.
//!
//! A folder holds a log as C2SP tlog-tiles serves it, so that it can be put on any web server as it is:
//!
//! ```text
//! checkpoint                  the signed head
//! tile/entries/000.p/7        entries
//! tile/0/000.p/7              hashes
//! blobs/<sha256>              large objects that entries name
//! ```
//!
//! [`Folder`] reads one, and takes entries in; a ceremony's transcript and an export of the daemon's log are the same
//! kind of folder. [`FolderStore`] is a store for the sequencer, for the ceremony.

mod durable;
mod folder;
mod lock;
mod store;

pub use folder::{Folder, FolderError, read_plain};
pub use lock::{Lock, LockError};
pub use store::FolderStore;
