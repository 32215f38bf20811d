//! What people took back, and gave back.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::encoding::{HexKeyId, HexSerial, utc_seconds};
use super::Caller;

/// What was done to certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationEvent {
    /// They are revoked, for ever.
    Revoke,
    /// They are on hold: revoked until they are released.
    Hold,
    /// They are not on hold any more.
    Release,
}

/// Why certificates were revoked (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nothing is said.
    Unspecified,
    /// The key may be in other hands.
    KeyCompromise,
    /// The key of an authority may be in other hands.
    CaCompromise,
    /// The subject's name or affiliation has changed.
    AffiliationChanged,
    /// It has been replaced.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// A privilege in it was withdrawn.
    PrivilegeWithdrawn,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|reason| reason.to_string() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(Self::to_string).collect();
            format!(
                "`{text}` is no reason; say {} (certificateHold is a hold, removeFromCRL a release; RFC 5280 section 5.3.1)",
                known.join(", ")
            )
        })
    }
}

/// Certificates were revoked, put on hold, or released. All of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// What was done.
    pub event: RevocationEvent,
    /// The trust domain.
    pub domain: String,
    /// The key that issued them.
    pub issuer: HexKeyId,
    /// Their serial numbers: at least one, at most [`MOST_SERIALS`].
    pub serials: Vec<HexSerial>,
    /// Why. Of [`RevocationEvent::Revoke`] alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// Since when.
    #[serde(with = "utc_seconds")]
    pub date: Timestamp,
    /// Who asked.
    pub caller: Caller,
}

/// The most serial numbers of an entry: they fit into its 65,535 bytes with everything else.
pub const MOST_SERIALS: usize = 1000;
