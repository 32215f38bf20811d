//! What tokens remember and attest to, so that a log can be held against it.

use std::fmt;

use async_trait::async_trait;

use crate::Error;

/// Which command of a token it was: they are counted from 1 in each epoch of the token's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandNumber {
    /// The epoch, as the token counts them.
    pub epoch: u64,
    /// The position in the epoch.
    pub ordinal: u64,
}

/// Where in a TPM its ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LedgerPlaces {
    /// The persistent handle of the key that attests.
    pub attestation_key: u32,
    /// The NV index of the counter.
    pub counter: u32,
}

/// A statement of a token, signed by its attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Which command of the ledger made it.
    pub command: CommandNumber,
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// A token that attests to what it did: an audit over commands, and a counter that never goes back.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Makes what the ledger needs: the attestation key, the counter, the list of audited commands. What is there
    /// already stays; what is there and is something else is refused.
    ///
    /// # Errors
    /// `Exists` if something else is at one of the places; `Unsupported` if the token cannot audit its commands.
    async fn provision(&self) -> Result<(), Error>;

    /// The TPMT_PUBLIC of the attestation key.
    ///
    /// # Errors
    /// `NotFound` if there is none, `Denied` if it could sign anything else than what its token says.
    async fn attestation_key(&self) -> Result<Vec<u8>, Error>;

    /// The codes of the commands that are audited, ascending.
    ///
    /// # Errors
    /// The token does not answer.
    async fn audited(&self) -> Result<Vec<u32>, Error>;

    /// Ends the epoch of the audit with an attestation that holds `qualifying`, and begins the next one, of which this
    /// is the first command.
    ///
    /// # Errors
    /// The token does not answer, or answers something else.
    async fn close_epoch(&self, qualifying: [u8; 32]) -> Result<Attestation, Error>;

    /// The value of the counter.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    async fn counter(&self) -> Result<u64, Error>;

    /// Counts up by one.
    ///
    /// # Errors
    /// The token does not answer, or does not count now.
    async fn increment(&self) -> Result<CommandNumber, Error>;

    /// The value of the counter, attested with `qualifying`.
    ///
    /// # Errors
    /// The token does not answer.
    async fn certify_counter(&self, qualifying: [u8; 32]) -> Result<Attestation, Error>;
}

/// A note that a token without counters keeps for us. Whoever may log in may change it.
#[async_trait]
pub trait TokenNote: fmt::Debug + Send + Sync {
    /// The note; nothing if there is none yet, and two if a crash came between writing one and removing the other.
    ///
    /// # Errors
    /// The token does not answer.
    async fn read(&self) -> Result<Vec<Vec<u8>>, Error>;

    /// Replaces the note.
    ///
    /// # Errors
    /// The token does not answer, or takes no notes. The old note may still be there, beside the new one or alone.
    async fn write(&self, note: &[u8]) -> Result<(), Error>;
}
