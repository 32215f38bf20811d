//! TPMA_OBJECT.

use std::fmt;

use crate::WireError;

/// The attributes of an object (Part 2, section 8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectAttributes(u32);

const NAMES: [(u32, &str); 12] = [
    (ObjectAttributes::FIXED_TPM, "fixedTPM"),
    (0x4, "stClear"),
    (ObjectAttributes::FIXED_PARENT, "fixedParent"),
    (ObjectAttributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    (ObjectAttributes::USER_WITH_AUTH, "userWithAuth"),
    (ObjectAttributes::ADMIN_WITH_POLICY, "adminWithPolicy"),
    (ObjectAttributes::NO_DA, "noDA"),
    (0x800, "encryptedDuplication"),
    (ObjectAttributes::RESTRICTED, "restricted"),
    (ObjectAttributes::DECRYPT, "decrypt"),
    (ObjectAttributes::SIGN, "sign"),
    (0x80000, "x509sign"),
];

impl ObjectAttributes {
    /// The hierarchy of the object cannot change, so it cannot leave its TPM.
    pub const FIXED_TPM: u32 = 0x2;
    /// The parent of the object cannot change.
    pub const FIXED_PARENT: u32 = 0x10;
    /// The TPM made the sensitive part itself.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 0x20;
    /// The authValue authorises use.
    pub const USER_WITH_AUTH: u32 = 0x40;
    /// Only the policy authorises administration.
    pub const ADMIN_WITH_POLICY: u32 = 0x80;
    /// Wrong authorisation values do not count against the TPM's lockout.
    pub const NO_DA: u32 = 0x400;
    /// The key works only on structures of known format.
    pub const RESTRICTED: u32 = 0x10000;
    /// The key decrypts.
    pub const DECRYPT: u32 = 0x20000;
    /// The key signs.
    pub const SIGN: u32 = 0x40000;

    pub(crate) fn from_bits(bits: u32) -> Result<Self, WireError> {
        let known = NAMES.iter().fold(0, |all, (bit, _)| all | bit);
        if bits & !known != 0 {
            return Err(WireError::NotCanonical("TPMA_OBJECT"));
        }
        Ok(Self(bits))
    }

    /// Attributes of ours, which are known.
    pub(crate) const fn of(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits, as the TPM writes them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every bit of `wanted` is set.
    pub const fn has(self, wanted: u32) -> bool {
        self.0 & wanted == wanted
    }
}

/// The names of the attributes that are set, joined by `|`.
impl fmt::Display for ObjectAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| *name).collect();
        f.write_str(&set.join("|"))
    }
}

impl fmt::Debug for ObjectAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectAttributes({self})")
    }
}
