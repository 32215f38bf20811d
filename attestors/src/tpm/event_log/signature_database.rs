//! Lists of keys and hashes that Secure Boot trusts or distrusts (UEFI specification 2.10, section 32.4.1).

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::cursor::Cursor;
use super::refusal::{EventLogError, Rule};

/// EFI_GUID, as it is encoded: the first three fields are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// EFI_GLOBAL_VARIABLE: of SecureBoot, PK and KEK.
    pub const GLOBAL: Self = Self::of(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
    /// EFI_IMAGE_SECURITY_DATABASE_GUID: of db and dbx.
    pub const IMAGE_SECURITY: Self = Self::of(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f);
    /// SHIM_LOCK_GUID: of what shim measures.
    pub const SHIM_LOCK: Self = Self::of(0x605d_ab50, 0xe046, 0x4300, 0xabb6_3dd8_10dd_8b23);
    /// EFI_CERT_X509_GUID.
    pub const CERT_X509: Self = Self::of(0xa5c0_59a1, 0x94e4, 0x4aa7, 0x87b5_ab15_5c2b_f072);
    /// EFI_CERT_SHA256_GUID.
    pub const CERT_SHA256: Self = Self::of(0xc1c4_1626, 0x504c, 0x4092, 0xaca9_41f9_3693_4328);

    const fn of(a: u32, b: u16, c: u16, d: u64) -> Self {
        let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
        Self([a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
    }
}

/// As usual: lower case, with hyphens.
impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (place, index) in ORDER.into_iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[index])?;
        }
        Ok(())
    }
}

/// One EFI_SIGNATURE_DATA with the type of its list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignatureEntry {
    /// What kind of entry it is.
    pub kind: Guid,
    /// Who put it there.
    pub owner: Guid,
    /// The certificate, hash or whatever else the kind says.
    pub data: Vec<u8>,
}

impl SignatureEntry {
    /// What allow-lists name it by: the hash that it is, or SHA-256 of the certificate, or of whatever else it is.
    pub fn fingerprint(&self) -> [u8; 32] {
        match <[u8; 32]>::try_from(self.data.as_slice()) {
            Ok(hash) if self.kind == Guid::CERT_SHA256 => hash,
            _ => Sha256::digest(&self.data).into(),
        }
    }
}

/// The entries of PK, KEK, db or dbx, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureDatabase {
    entries: Vec<SignatureEntry>,
}

impl SignatureDatabase {
    /// The bytes before the signatures of a list: its type and three sizes.
    const HEADER: usize = 28;

    /// Parses EFI_SIGNATURE_LISTs, to the end of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        let mut entries = Vec::new();
        let mut lists = Cursor::new(bytes, Rule::SignatureDatabase);
        while !lists.is_empty() {
            let kind = Guid(lists.array("SignatureType")?);
            let list = lists.u32("SignatureListSize")?;
            let header = lists.u32("SignatureHeaderSize")?;
            let size = lists.u32("SignatureSize")?;
            let body = u64::from(list).checked_sub(Self::HEADER as u64).ok_or_else(|| {
                wrong(format!("a list of {list} bytes is shorter than the header of a list"))
            })?;
            let mut body = Cursor::new(lists.sized(body, "a list")?, Rule::SignatureDatabase);
            body.sized(header.into(), "SignatureHeader")?;
            if kind == Guid::CERT_SHA256 && size != 48 {
                return Err(wrong(format!("entries of SHA-256 have 48 bytes and not {size}")));
            }
            if size <= 16 {
                return Err(wrong(format!("entries of {size} bytes have no room for more than an owner")));
            }
            while !body.is_empty() {
                let mut entry = Cursor::new(body.sized(size.into(), "an entry")?, Rule::SignatureDatabase);
                let owner = Guid(entry.array("SignatureOwner")?);
                entries.push(SignatureEntry { kind, owner, data: entry.rest().to_vec() });
            }
        }
        Ok(Self { entries })
    }

    /// Reads what is published to be written into dbx: EFI_SIGNATURE_LISTs, bare or behind EFI_VARIABLE_AUTHENTICATION_2 (UEFI
    /// specification 2.10, section 8.2.2). Whoever signed it is not looked at.
    ///
    /// # Errors
    /// It is neither.
    pub fn of_update(bytes: &[u8]) -> Result<Self, EventLogError> {
        if let Some(lists) = Self::behind_authentication(bytes) {
            return Self::parse(lists);
        }
        Self::parse(bytes)
    }

    /// EFI_TIME (16 bytes), then WIN_CERTIFICATE_UEFI_GUID: its length, revision 0x0200, type 0x0ef1.
    fn behind_authentication(bytes: &[u8]) -> Option<&[u8]> {
        let (_, certificate) = bytes.split_first_chunk::<16>()?;
        let (length, kind) = (certificate.first_chunk::<4>()?, certificate.get(4..8)?);
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if kind == [0, 2, 0xf1, 0x0e] { certificate.get(length..) } else { None }
    }

    /// Its entries, in order.
    pub fn entries(&self) -> &[SignatureEntry] {
        &self.entries
    }

    /// The SHA-256 hashes of images in it.
    pub fn hashes(&self) -> BTreeSet<[u8; 32]> {
        let hashes = self.entries.iter().filter(|entry| entry.kind == Guid::CERT_SHA256);
        hashes.map(SignatureEntry::fingerprint).collect()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn wrong(what: String) -> EventLogError {
    EventLogError::new(Rule::SignatureDatabase, what)
}
