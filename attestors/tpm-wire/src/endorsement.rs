//! Where a TPM keeps its endorsement keys and their certificates, and the templates that make them
//! (TCG "EK Credential Profile for TPM 2.0", version 2.6, sections 2.2.1.4, 2.2.1.5 and appendix B).

use crate::public_area::{EccParameters, RsaParameters};
use crate::{Curve, HashAlgorithm, ObjectAttributes, PublicArea, PublicKind, Scheme, Symmetric};

/// An endorsement key of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndorsementKind {
    /// L-1: RSA 2048, low range.
    Rsa2048,
    /// L-2: P-256, low range.
    P256,
    /// H-3: P-384, high range.
    P384,
    /// H-6: RSA 3072, high range.
    Rsa3072,
}

/// The NV indices of certificates that lead from endorsement certificates to a manufacturer's anchor.
pub const CHAIN_INDICES: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;

/// PolicySecret of the endorsement hierarchy, by SHA-256 (PolicyA).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyA or a policy that an NV index authorises, by SHA-384 (PolicyB).
const POLICY_B: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07,
    0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47,
    0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

impl EndorsementKind {
    /// All that we use, in the order in which a TPM's are looked for.
    pub const ALL: [Self; 4] = [Self::Rsa2048, Self::P256, Self::P384, Self::Rsa3072];

    /// The NV index of its certificate.
    pub const fn certificate(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x01c0_0002,
            Self::P256 => 0x01c0_000a,
            Self::P384 => 0x01c0_0016,
            Self::Rsa3072 => 0x01c0_001c,
        }
    }

    /// Whether the empty password of the key authorises it; else a session with PolicySecret does.
    pub const fn by_password(self) -> bool {
        matches!(self, Self::P384 | Self::Rsa3072)
    }

    /// The TPMT_PUBLIC that makes it.
    pub fn template(self) -> PublicArea {
        let (name_algorithm, policy, symmetric) = match self.by_password() {
            false => (HashAlgorithm::Sha256, &POLICY_A[..], Symmetric::AesCfb(128)),
            true => (HashAlgorithm::Sha384, &POLICY_B[..], Symmetric::AesCfb(256)),
        };
        // The unique field is all zeros in the low range, and empty in the high one.
        let zeros = |length| if self.by_password() { Vec::new() } else { vec![0; length] };
        let ecc = |curve, width| {
            let (x, y) = (zeros(width), zeros(width));
            PublicKind::Ecc(EccParameters { symmetric, scheme: Scheme::None, curve, x, y })
        };
        let rsa = |bits: u16| {
            let modulus = zeros(usize::from(bits) / 8);
            PublicKind::Rsa(RsaParameters { symmetric, scheme: Scheme::None, bits, exponent: 0, modulus })
        };
        let user = if self.by_password() { ObjectAttributes::USER_WITH_AUTH } else { 0 };
        PublicArea {
            name_algorithm,
            attributes: ObjectAttributes::of(
                ObjectAttributes::FIXED_TPM
                    | ObjectAttributes::FIXED_PARENT
                    | ObjectAttributes::SENSITIVE_DATA_ORIGIN
                    | ObjectAttributes::ADMIN_WITH_POLICY
                    | ObjectAttributes::RESTRICTED
                    | ObjectAttributes::DECRYPT
                    | user,
            ),
            auth_policy: policy.to_vec(),
            kind: match self {
                Self::Rsa2048 => rsa(2048),
                Self::P256 => ecc(Curve::P256, 32),
                Self::P384 => ecc(Curve::P384, 48),
                Self::Rsa3072 => rsa(3072),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_those_of_the_profile() {
        // Appendix B.3.3 and B.3.4: 0x000300b2; high range: with userWithAuth.
        for kind in EndorsementKind::ALL {
            let area = kind.template();
            let bits = if kind.by_password() { 0x0003_00f2 } else { 0x0003_00b2 };
            assert_eq!(area.attributes.bits(), bits, "{kind:?}");
            assert_eq!(PublicArea::parse(&area.encode()).unwrap(), area, "{kind:?}");
            assert_eq!(area.auth_policy.len(), area.name_algorithm.size());
        }
        let rsa = hex::encode(EndorsementKind::Rsa2048.template().encode());
        let begins = "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100";
        assert!(rsa.starts_with(begins) && rsa[begins.len()..].bytes().all(|digit| digit == b'0'), "{rsa}");
    }
}
