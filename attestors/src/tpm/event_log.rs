//! The event log of a measured boot (TCG "PC Client Platform Firmware Profile", PFP, 1.05 and 1.06), judged without a TPM.
//!
//! A log is parsed ([`EventLog`]), replayed to the PCR values that a quote signs ([`VerifiedLog`]), and read: what PCR 7
//! says of Secure Boot ([`SecureBoot`]), what was booted ([`Boot`]), whether that will do ([`Requirements`]), and what
//! changed since an earlier boot ([`changes`]). `docs/event-log.md` says what each step proves and what none can.
//!
//! Only digests and their order inside a PCR are measured. Types are not, and data only where the digest is of it; so
//! [`Content`] holds data as verified or as opaque, and nothing is decided by what is opaque.

mod boot;
mod change;
mod content;
mod cursor;
mod device_path;
mod event_type;
mod refusal;
mod secure_boot;
mod signature_database;
mod variable;
mod verify;
mod wire;

pub use boot::{Boot, Image, MokMeasurement};
pub use change::{Change, ChangeKind, Named, changes, changes_since};
pub use content::{Content, Gpt, Measured, Opaque, Partition};
pub use event_type::EventType;
pub use refusal::{EventLogError, Rule};
pub use secure_boot::{Authority, Requirements, SbatLevel, SecureBoot, Vouched};
pub use signature_database::{Guid, SignatureDatabase, SignatureEntry};
pub use variable::Variable;
pub use verify::{PcrValues, VerifiedLog};
pub use wire::{Bank, Event, EventLog, MAX_DATA, MAX_EVENTS, MAX_LOG};
