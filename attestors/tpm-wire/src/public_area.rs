//! TPMT_PUBLIC and its Name.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use undercroft_keys::{KeyType, Numbers, PublicKey, PublicKeyError};

use crate::ObjectAttributes;
use crate::wire::{Reader, WireError, push_buffer};

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_SHA256: u16 = 0x000b;
const ALG_SHA384: u16 = 0x000c;
const ALG_SHA512: u16 = 0x000d;
const ALG_NULL: u16 = 0x0010;
pub(crate) const ALG_RSASSA: u16 = 0x0014;
pub(crate) const ALG_RSAPSS: u16 = 0x0016;
pub(crate) const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;

/// The longest digest, and so the longest authPolicy.
const MAX_DIGEST: usize = 64;
/// The longest RSA modulus: 4096 bits.
const MAX_MODULUS: usize = 512;
/// The longest coordinate: P-521 has 66 bytes, and is refused by its name and not by a length.
const MAX_COORDINATE: usize = 66;

/// A hash algorithm that Undercroft accepts from a TPM. SHA-1 is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    pub(crate) fn from_id(id: u16, field: &'static str) -> Result<Self, WireError> {
        match id {
            ALG_SHA256 => Ok(Self::Sha256),
            ALG_SHA384 => Ok(Self::Sha384),
            ALG_SHA512 => Ok(Self::Sha512),
            _ => Err(WireError::Unknown { field, value: id.into() }),
        }
    }

    pub(crate) const fn id(self) -> u16 {
        match self {
            Self::Sha256 => ALG_SHA256,
            Self::Sha384 => ALG_SHA384,
            Self::Sha512 => ALG_SHA512,
        }
    }

    /// The length of a digest in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of a message.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// The Name of an object: its nameAlg and the digest of its public area (Part 1, section 16).
///
/// Two names are equal only if the algorithm is the same too.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// A Name as a TPM wrote it.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes as in a TPM2B_NAME: nameAlg, then the digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A hierarchy of objects, by its handle (Part 2, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// TPM_RH_OWNER.
    Owner,
    /// TPM_RH_ENDORSEMENT.
    Endorsement,
    /// TPM_RH_PLATFORM.
    Platform,
    /// TPM_RH_NULL: what is in it is gone after a reset.
    Null,
}

impl Hierarchy {
    const fn handle(self) -> u32 {
        match self {
            Self::Owner => 0x4000_0001,
            Self::Null => 0x4000_0007,
            Self::Endorsement => 0x4000_000b,
            Self::Platform => 0x4000_000c,
        }
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// The symmetric algorithm of a storage key (TPMT_SYM_DEF_OBJECT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetric {
    /// TPM_ALG_NULL: not a storage key.
    None,
    /// AES in CFB mode, with a key of so many bits.
    AesCfb(u16),
}

/// The signing scheme that a key is fixed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TPM_ALG_NULL: the caller chooses.
    None,
    /// ECDSA.
    Ecdsa(HashAlgorithm),
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(HashAlgorithm),
    /// RSASSA-PSS.
    RsaPss(HashAlgorithm),
}

/// A curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// TPMS_ECC_PARMS and the point. The KDF scheme is always TPM_ALG_NULL (Part 2, section 12.2.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EccParameters {
    /// For storage keys.
    pub symmetric: Symmetric,
    /// For signing keys.
    pub scheme: Scheme,
    /// The curve.
    pub curve: Curve,
    /// The x coordinate as the TPM wrote it.
    pub x: Vec<u8>,
    /// The y coordinate as the TPM wrote it.
    pub y: Vec<u8>,
}

/// TPMS_RSA_PARMS and the modulus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaParameters {
    /// For storage keys.
    pub symmetric: Symmetric,
    /// For signing keys.
    pub scheme: Scheme,
    /// The length of the modulus in bits.
    pub bits: u16,
    /// The public exponent; 0 stands for 65537.
    pub exponent: u32,
    /// The modulus, big-endian.
    pub modulus: Vec<u8>,
}

/// What kind of key a public area describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKind {
    /// TPM_ALG_ECC.
    Ecc(EccParameters),
    /// TPM_ALG_RSA.
    Rsa(RsaParameters),
}

/// TPMT_PUBLIC (Part 2, section 12.2.4) of an asymmetric key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicArea {
    /// The hash of Names and policies.
    pub name_algorithm: HashAlgorithm,
    /// What the object may do and how it is held.
    pub attributes: ObjectAttributes,
    /// The policy digest, or nothing.
    pub auth_policy: Vec<u8>,
    /// The kind of key.
    pub kind: PublicKind,
}

impl PublicArea {
    /// Parses a TPMT_PUBLIC.
    ///
    /// # Errors
    /// Everything that is not exactly one canonically encoded RSA or ECC public area of known algorithms.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16("TPMT_PUBLIC.type")?;
        let name_algorithm =
            HashAlgorithm::from_id(reader.u16("TPMT_PUBLIC.nameAlg")?, "TPMT_PUBLIC.nameAlg")?;
        let attributes = ObjectAttributes::from_bits(reader.u32("TPMT_PUBLIC.objectAttributes")?)?;
        let auth_policy = reader.buffer(MAX_DIGEST, "TPMT_PUBLIC.authPolicy")?.to_vec();
        let kind = match kind {
            ALG_ECC => PublicKind::Ecc(EccParameters::read(&mut reader)?),
            ALG_RSA => PublicKind::Rsa(RsaParameters::read(&mut reader)?),
            value => return Err(WireError::Unknown { field: "TPMT_PUBLIC.type", value: value.into() }),
        };
        reader.end()?;
        let area = Self { name_algorithm, attributes, auth_policy, kind };
        if area.encode() != bytes {
            return Err(WireError::NotCanonical("TPMT_PUBLIC"));
        }
        Ok(area)
    }

    /// The public area by which a gate's P-256 key is known to TPMs. Its Name is part of the policy of the keys that
    /// the gate releases, so this template never changes: nameAlg SHA-256; attributes `sign` and `userWithAuth`; no
    /// authPolicy; no symmetric algorithm; scheme ECDSA with SHA-256; curve P-256; no KDF; x and y of 32 bytes each.
    /// Nothing for keys of other types.
    pub fn of_gate(key: &PublicKey) -> Option<Self> {
        let Numbers::Ec { x, y } = key.numbers() else { return None };
        if key.key_type() != KeyType::P256 {
            return None;
        }
        Some(Self {
            name_algorithm: HashAlgorithm::Sha256,
            attributes: ObjectAttributes::from_bits(
                ObjectAttributes::SIGN | ObjectAttributes::USER_WITH_AUTH,
            )
            .ok()?,
            auth_policy: Vec::new(),
            kind: PublicKind::Ecc(EccParameters {
                symmetric: Symmetric::None,
                scheme: Scheme::Ecdsa(HashAlgorithm::Sha256),
                curve: Curve::P256,
                x: x.to_vec(),
                y: y.to_vec(),
            }),
        })
    }

    /// The scheme that the key is fixed to.
    pub fn scheme(&self) -> Scheme {
        match &self.kind {
            PublicKind::Ecc(ecc) => ecc.scheme,
            PublicKind::Rsa(rsa) => rsa.scheme,
        }
    }

    /// The curve, for ECC keys.
    pub fn curve(&self) -> Option<Curve> {
        match &self.kind {
            PublicKind::Ecc(ecc) => Some(ecc.curve),
            PublicKind::Rsa(_) => None,
        }
    }

    /// Whether the key signs only what its policy allows: it has one, and no password may use it.
    pub fn signs_by_policy_alone(&self) -> bool {
        !self.auth_policy.is_empty() && !self.attributes.has(ObjectAttributes::USER_WITH_AUTH)
    }

    /// The TPMT_PUBLIC as a TPM encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let kind = match &self.kind {
            PublicKind::Ecc(_) => ALG_ECC,
            PublicKind::Rsa(_) => ALG_RSA,
        };
        out.extend(kind.to_be_bytes());
        out.extend(self.name_algorithm.id().to_be_bytes());
        out.extend(self.attributes.bits().to_be_bytes());
        push_buffer(&mut out, &self.auth_policy);
        match &self.kind {
            PublicKind::Ecc(ecc) => ecc.write(&mut out),
            PublicKind::Rsa(rsa) => rsa.write(&mut out),
        }
        out
    }

    /// The Name: nameAlg and the digest of the encoded area.
    pub fn name(&self) -> Name {
        let mut name = self.name_algorithm.id().to_be_bytes().to_vec();
        name.extend(self.name_algorithm.digest(&self.encode()));
        Name(name)
    }

    /// The qualified Name of a primary object of a hierarchy (Part 1, section 26.5): nameAlg and the digest of the
    /// hierarchy's handle and the Name.
    pub fn qualified_in(&self, hierarchy: Hierarchy) -> Name {
        let mut name = self.name_algorithm.id().to_be_bytes().to_vec();
        let parent = hierarchy.handle().to_be_bytes();
        name.extend(self.name_algorithm.digest(&[&parent[..], self.name().as_bytes()].concat()));
        Name(name)
    }

    /// The key as everything outside TPMs knows it.
    ///
    /// # Errors
    /// The key is of a kind that Undercroft does not accept (see [`PublicKey::from_spki`]).
    pub fn public_key(&self) -> Result<PublicKey, PublicKeyError> {
        match &self.kind {
            PublicKind::Ecc(ecc) => ecc.public_key(),
            PublicKind::Rsa(rsa) if rsa.exponent == 0 || rsa.exponent == 65537 => {
                PublicKey::from_rsa_modulus(&rsa.modulus)
            }
            PublicKind::Rsa(_) => Err(PublicKeyError::RsaExponent),
        }
    }
}

impl EccParameters {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let symmetric = Symmetric::read(reader)?;
        let scheme = Scheme::read(reader)?;
        let curve = match reader.u16("TPMS_ECC_PARMS.curveID")? {
            CURVE_P256 => Curve::P256,
            CURVE_P384 => Curve::P384,
            value => return Err(WireError::Unknown { field: "TPMS_ECC_PARMS.curveID", value: value.into() }),
        };
        match reader.u16("TPMS_ECC_PARMS.kdf")? {
            ALG_NULL => {}
            value => return Err(WireError::Unknown { field: "TPMS_ECC_PARMS.kdf", value: value.into() }),
        }
        let x = reader.buffer(MAX_COORDINATE, "TPMS_ECC_POINT.x")?.to_vec();
        let y = reader.buffer(MAX_COORDINATE, "TPMS_ECC_POINT.y")?.to_vec();
        Ok(Self { symmetric, scheme, curve, x, y })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.symmetric.write(out);
        self.scheme.write(out);
        let curve = match self.curve {
            Curve::P256 => CURVE_P256,
            Curve::P384 => CURVE_P384,
        };
        out.extend(curve.to_be_bytes());
        out.extend(ALG_NULL.to_be_bytes());
        push_buffer(out, &self.x);
        push_buffer(out, &self.y);
    }

    fn public_key(&self) -> Result<PublicKey, PublicKeyError> {
        let (key_type, width) = match self.curve {
            Curve::P256 => (KeyType::P256, 32),
            Curve::P384 => (KeyType::P384, 48),
        };
        // Some TPMs strip leading zeros from coordinates; SEC 1 wants them.
        let mut point = vec![0x04];
        for coordinate in [&self.x, &self.y] {
            let padding = width - width.min(coordinate.len());
            point.extend(std::iter::repeat_n(0, padding));
            point.extend(coordinate);
        }
        PublicKey::from_ec_point(key_type, &point)
    }
}

impl RsaParameters {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            symmetric: Symmetric::read(reader)?,
            scheme: Scheme::read(reader)?,
            bits: reader.u16("TPMS_RSA_PARMS.keyBits")?,
            exponent: reader.u32("TPMS_RSA_PARMS.exponent")?,
            modulus: reader.buffer(MAX_MODULUS, "TPM2B_PUBLIC_KEY_RSA")?.to_vec(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.symmetric.write(out);
        self.scheme.write(out);
        out.extend(self.bits.to_be_bytes());
        out.extend(self.exponent.to_be_bytes());
        push_buffer(out, &self.modulus);
    }
}

impl Symmetric {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u16("TPMT_SYM_DEF_OBJECT.algorithm")? {
            ALG_NULL => Ok(Self::None),
            ALG_AES => {
                let bits = reader.u16("TPMT_SYM_DEF_OBJECT.keyBits")?;
                match reader.u16("TPMT_SYM_DEF_OBJECT.mode")? {
                    ALG_CFB => Ok(Self::AesCfb(bits)),
                    value => {
                        Err(WireError::Unknown { field: "TPMT_SYM_DEF_OBJECT.mode", value: value.into() })
                    }
                }
            }
            value => Err(WireError::Unknown { field: "TPMT_SYM_DEF_OBJECT.algorithm", value: value.into() }),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend(ALG_NULL.to_be_bytes()),
            Self::AesCfb(bits) => {
                out.extend(ALG_AES.to_be_bytes());
                out.extend(bits.to_be_bytes());
                out.extend(ALG_CFB.to_be_bytes());
            }
        }
    }
}

impl Scheme {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let scheme = match reader.u16("scheme")? {
            ALG_NULL => return Ok(Self::None),
            ALG_ECDSA => Self::Ecdsa,
            ALG_RSASSA => Self::RsaSsa,
            ALG_RSAPSS => Self::RsaPss,
            value => return Err(WireError::Unknown { field: "scheme", value: value.into() }),
        };
        Ok(scheme(HashAlgorithm::from_id(reader.u16("scheme.hashAlg")?, "scheme.hashAlg")?))
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (scheme, hash) = match self {
            Self::None => return out.extend(ALG_NULL.to_be_bytes()),
            Self::Ecdsa(hash) => (ALG_ECDSA, hash),
            Self::RsaSsa(hash) => (ALG_RSASSA, hash),
            Self::RsaPss(hash) => (ALG_RSAPSS, hash),
        };
        out.extend(scheme.to_be_bytes());
        out.extend(hash.id().to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
