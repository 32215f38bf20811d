//! Why a node is not what it says: a code that stays, and words (`docs/attestation.md`).

use std::fmt;

use crate::chain::ChainError;
use crate::tpm::attestation_key::AttestationKeyError;
use crate::tpm::endorsement::EndorsementError;
use undercroft_tpm_wire::WireError;

macro_rules! codes {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// The rule that was broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $text] $variant),+ }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it is written everywhere.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

codes! {
    EkMalformed = "ek-malformed", EkChain = "ek-chain", EkProfile = "ek-profile", EkKey = "ek-key",
    EkMismatch = "ek-mismatch", EkTemplate = "ek-template", EkRevoked = "ek-revoked", CrlStale = "crl-stale",
    CrlMissing = "crl-missing", CrlInvalid = "crl-invalid", EkDenied = "ek-denied", EkNotAllowed = "ek-not-allowed",
    EkMaker = "ek-maker", FirmwareWeak = "firmware-weak", AkMalformed = "ak-malformed",
    AkAttributes = "ak-attributes", AkScheme = "ak-scheme", AkKey = "ak-key", AkPolicy = "ak-policy",
    AkActivation = "ak-activation", AkBinding = "ak-binding", AkHierarchy = "ak-hierarchy",
    AttestMalformed = "attest-malformed", AttestMagic = "attest-magic", AttestType = "attest-type",
    AttestSignature = "attest-signature", AttestScheme = "attest-scheme", AttestSigner = "attest-signer",
    AttestQualifying = "attest-qualifying", QuoteSelection = "quote-selection", QuoteValues = "quote-values",
    QuoteDigest = "quote-digest", ClockUnsafe = "clock-unsafe", ClockBack = "clock-back",
    KeyMalformed = "key-malformed", KeyName = "key-name", KeyAttributes = "key-attributes", KeyWeak = "key-weak",
    KeyHierarchy = "key-hierarchy", KeyMismatch = "key-mismatch", CreationMalformed = "creation-malformed",
    CreationHash = "creation-hash", CreationInfo = "creation-info",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a node is refused. It never holds a secret or an expected value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {why}")]
pub struct Refusal {
    code: Code,
    why: String,
}

impl Refusal {
    pub(super) fn new(code: Code, why: impl fmt::Display) -> Self {
        Self { code, why: why.to_string() }
    }

    /// The rule that was broken.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<EndorsementError> for Refusal {
    fn from(error: EndorsementError) -> Self {
        let code = match &error {
            EndorsementError::NoCertificate | EndorsementError::Public(_) => Code::EkMalformed,
            EndorsementError::Chain(ChainError::Malformed(_) | ChainError::TooLong(_)) => Code::EkMalformed,
            EndorsementError::Chain(ChainError::Key(..)) | EndorsementError::Key(_) => Code::EkKey,
            EndorsementError::Chain(_) => Code::EkChain,
            EndorsementError::Profile(_) | EndorsementError::Model(_) => Code::EkProfile,
            EndorsementError::OtherKey => Code::EkMismatch,
            EndorsementError::NotEndorsement(_) => Code::EkTemplate,
        };
        Self::new(code, error)
    }
}

impl From<AttestationKeyError> for Refusal {
    fn from(error: AttestationKeyError) -> Self {
        let code = match &error {
            AttestationKeyError::Lacks(_) | AttestationKeyError::Decrypts => Code::AkAttributes,
            AttestationKeyError::Scheme(_) => Code::AkScheme,
            AttestationKeyError::Key(_) => Code::AkKey,
            AttestationKeyError::Signature(_) => Code::AttestMalformed,
            AttestationKeyError::OtherScheme(_) => Code::AttestScheme,
            AttestationKeyError::DoesNotVerify => Code::AttestSignature,
        };
        Self::new(code, error)
    }
}

/// What is wrong with a TPMS_ATTEST.
pub(super) fn of_attest(error: WireError) -> Refusal {
    Refusal::new(of_attest_code(&error), error)
}

/// The rule that it breaks.
pub(crate) fn of_attest_code(error: &WireError) -> Code {
    match error {
        WireError::Unknown { field: "TPMS_ATTEST.magic", .. } => Code::AttestMagic,
        WireError::Unknown { field: "TPMS_ATTEST.type", .. } => Code::AttestType,
        WireError::Unknown { field: "TPMS_PCR_SELECTION.hash", .. }
        | WireError::NotCanonical("TPMS_PCR_SELECTION" | "TPMS_PCR_SELECTION.sizeofSelect") => {
            Code::QuoteSelection
        }
        _ => Code::AttestMalformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_one_of_the_page_and_the_other_way_round() {
        let page = include_str!("../../../../docs/attestation.md");
        let (_, table) = page.split_once("## Codes").unwrap();
        let (table, _) = table.split_once("## What is not here").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let mut told: Vec<_> =
            rows.flat_map(|row| row.split(", ")).map(|code| code.trim_matches('`')).collect();
        let mut known: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
    }
}
