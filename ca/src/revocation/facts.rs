//! What is known of revocations: what becomes durable with the log's entries, and how it is read.

use async_trait::async_trait;
use jiff::Timestamp;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Reason, RevocationEvent};
use undercroft_log::store::StoreError;

use crate::serial::SerialNumber;
use crate::tbs::{RevocationReason, Revoked};

/// Certificates whose state changes, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is done.
    pub event: RevocationEvent,
    /// The key that issued them.
    pub issuer: KeyId,
    /// Their serial numbers, each with the end of its certificate if that was looked up.
    pub certificates: Vec<(SerialNumber, Option<Timestamp>)>,
    /// Why, of [`RevocationEvent::Revoke`].
    pub reason: Reason,
    /// Since when.
    pub date: Timestamp,
}

impl Change {
    /// The reasonCode (RFC 5280 section 5.3.1) that the certificates have from here on; 0 for none.
    pub fn code(&self) -> u8 {
        match self.event {
            RevocationEvent::Revoke => reason_of(self.reason).map_or(0, |reason| reason as u8),
            RevocationEvent::Hold => RevocationReason::CertificateHold as u8,
            RevocationEvent::Release => RevocationReason::RemoveFromCrl as u8,
        }
    }
}

/// A reason as CRLs write it: `unspecified` is left out (RFC 5280 section 5.3.1).
pub fn reason_of(reason: Reason) -> Option<RevocationReason> {
    Some(match reason {
        Reason::Unspecified => return None,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::CaCompromise => RevocationReason::CaCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        Reason::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
    })
}

/// A reasonCode that is stored.
///
/// # Errors
/// It is none that we write.
pub fn reason_from_code(code: u8) -> Result<Option<RevocationReason>, StoreError> {
    Ok(Some(match code {
        0 => return Ok(None),
        1 => RevocationReason::KeyCompromise,
        2 => RevocationReason::CaCompromise,
        3 => RevocationReason::AffiliationChanged,
        4 => RevocationReason::Superseded,
        5 => RevocationReason::CessationOfOperation,
        6 => RevocationReason::CertificateHold,
        8 => RevocationReason::RemoveFromCrl,
        9 => RevocationReason::PrivilegeWithdrawn,
        other => return Err(StoreError::Damaged(format!("the reason {other} of a revocation"))),
    }))
}

/// A series of CRLs, in which numbers only grow: that of all certificates of a key, or that of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The key.
    pub issuer: KeyId,
    /// The shard; none for all certificates.
    pub shard: Option<u16>,
}

/// A CRL of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFact {
    /// Its series.
    pub series: Series,
    /// Of a delta CRL, the number of its base.
    pub delta_of: Option<u64>,
    /// Its number.
    pub number: u64,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// The last change that it knows of.
    pub covers: u64,
}

/// A CRL as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCrl {
    /// What it is.
    pub fact: CrlFact,
    /// Its TBSCertList.
    pub tbs: Vec<u8>,
    /// The signature over it.
    pub signature: Vec<u8>,
}

/// A certificate that the CA has issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedFact {
    /// In the order of issuance; grows.
    pub position: u64,
    /// The key that issued it.
    pub issuer: KeyId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// Its SPIFFE ID, or its subject.
    pub name: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Which certificates are looked for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Those with these serial numbers.
    Serials(&'a [SerialNumber]),
    /// Those with this name.
    Named(&'a str),
}

/// Reads what is known. Pages are short, and nothing is held between them.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Certificates that have not expired.
    async fn live(&self, wanted: Wanted<'_>, now: Timestamp) -> Result<Vec<IssuedFact>, StoreError>;

    /// Certificates of a key that have not expired, from behind a position on, at most `most`.
    async fn issued_since(
        &self,
        issuer: KeyId,
        position: u64,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<IssuedFact>, StoreError>;

    /// What has become of a certificate, if anything has.
    async fn state(&self, issuer: KeyId, serial: SerialNumber) -> Result<Option<Revoked>, StoreError>;

    /// What is not good among the certificates of a key that had not expired at `alive`, in the order of serial numbers,
    /// from `first` on and before `end`, at most `most`. Those that were released are among them.
    async fn revoked(
        &self,
        issuer: KeyId,
        first: SerialNumber,
        end: Option<SerialNumber>,
        alive: Timestamp,
        most: u32,
    ) -> Result<Vec<Revoked>, StoreError>;

    /// The certificates of a key whose state changed after the change `since`, with the changes, at most `most`, in their order.
    async fn changes(&self, issuer: KeyId, since: u64, most: u32) -> Result<Vec<(u64, Revoked)>, StoreError>;

    /// The last change of the state of a certificate of a key; 0 if there is none.
    async fn last_change(&self, issuer: KeyId) -> Result<u64, StoreError>;

    /// The newest CRLs of a key, and their deltas.
    async fn crls(&self, issuer: KeyId) -> Result<Vec<StoredCrl>, StoreError>;

    /// The last number of each series of a key.
    async fn crl_numbers(&self, issuer: KeyId) -> Result<Vec<(Option<u16>, u64)>, StoreError>;
}
