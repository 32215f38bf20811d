//! Statements of an HSM about a key, as Cloud HSM's Marvell (once Cavium) modules make them, by a module of our own.
//!
//! The format is that of Marvell's and Google's published verification scripts: big-endian, a response header of four
//! words, an information header, then the attributes of the public and of the private key as type, length and value,
//! and 256 bytes of signature by the partition's key over all before them. The partition's key is certified twice: by
//! the card, which the manufacturer certified, and by the owner, who certified the card, too.

use std::io::Write as _;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    SigningKey as _,
};
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::{Numbers, PublicKey};

/// What the statement says of the private key. [`Says::default`] is what an honest module says of a key made in it.
#[derive(Clone, Copy, Debug)]
pub struct Says {
    /// `OBJ_ATTR_SENSITIVE`.
    pub sensitive: bool,
    /// `OBJ_ATTR_EXTRACTABLE`.
    pub extractable: bool,
    /// `OBJ_ATTR_NEVER_EXTRACTABLE`.
    pub never_extractable: bool,
    /// `OBJ_ATTR_LOCAL`.
    pub local: bool,
    /// `OBJ_ATTR_SIGN`.
    pub sign: bool,
}

impl Default for Says {
    fn default() -> Self {
        Self { sensitive: true, extractable: false, never_extractable: true, local: true, sign: true }
    }
}

/// A module with two roots above it. Its keys are in memory: its word proves nothing but the form of such words.
#[derive(Debug)]
pub struct Module {
    partition: KeyPair,
    /// The manufacturer's root, PEM.
    pub manufacturer_root: String,
    /// The owner's root, PEM.
    pub owner_root: String,
    /// Partition and card as the manufacturer certified them, PEM, the partition first.
    pub manufacturer_chain: Vec<String>,
    /// The card as the owner certified it, PEM.
    pub owner_card: Vec<String>,
    /// The partition as the owner certified it, PEM.
    pub owner_partition: Vec<String>,
}

impl Module {
    /// The one module of this process: making its RSA keys takes a while.
    ///
    /// # Errors
    /// `Fault` if the library makes no keys.
    pub fn of_this_process() -> Result<&'static Self, Error> {
        static MODULE: OnceLock<Module> = OnceLock::new();
        if let Some(module) = MODULE.get() {
            return Ok(module);
        }
        let made =
            Self::make().map_err(|error| Error::with_source(ErrorKind::Fault, "a simulated HSM", error))?;
        Ok(MODULE.get_or_init(|| made))
    }

    /// Makes a module with roots of its own.
    ///
    /// # Errors
    /// The library makes no keys.
    pub fn make() -> Result<Self, rcgen::Error> {
        let rsa = || KeyPair::generate_for(&PKCS_RSA_SHA256);
        let root = |name: &str| CertifiedIssuer::self_signed(authority(name), rsa()?);
        let manufacturer = root("simulated manufacturer")?;
        let owner = root("simulated owner")?;
        let card_key = rsa()?;
        let partition = rsa()?;
        let owner_card = authority("HSM:1, certified by its owner").signed_by(&card_key, &owner)?;
        let owner_partition =
            authority("HSM:1:PARTN:1, certified by its owner").signed_by(&partition, &owner)?;
        let card = CertifiedIssuer::signed_by(authority("HSM:1"), card_key, &manufacturer)?;
        let by_card = authority("HSM:1:PARTN:1").signed_by(&partition, &card)?;
        Ok(Self {
            manufacturer_root: manufacturer.pem(),
            owner_root: owner.pem(),
            manufacturer_chain: vec![by_card.pem(), card.pem()],
            owner_card: vec![owner_card.pem()],
            owner_partition: vec![owner_partition.pem()],
            partition,
        })
    }

    /// A statement about `key`, signed and compressed (`CAVIUM_V2_COMPRESSED`).
    ///
    /// # Errors
    /// `Fault` if the key is of a kind that the module does not know, or the library does not sign.
    pub fn attest(&self, key: &PublicKey, says: Says) -> Result<Vec<u8>, Error> {
        let fault = |what: &str| Error::new(ErrorKind::Fault, format!("a simulated HSM: {what}"));
        let mut statement = body(key, says).ok_or_else(|| fault("no statements about keys of this kind"))?;
        let signature = self.partition.sign(&statement).map_err(|_| fault("no signature"))?;
        statement.extend(signature);
        compress(&statement).map_err(|_| fault("no compression"))
    }
}

/// Gzip, as the cloud delivers statements.
///
/// # Errors
/// Never in practice: it writes to memory.
pub fn compress(statement: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(statement)?;
    gzip.finish()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

const RSA: u8 = 0;
const EC: u8 = 3;
const PUBLIC: u8 = 2;
const PRIVATE: u8 = 3;

fn body(key: &PublicKey, says: Says) -> Option<Vec<u8>> {
    let (kind, value, exponent) = match key.numbers() {
        Numbers::Ec { x, y } => (EC, [&[4], x, y].concat(), None),
        Numbers::Rsa { n, e } => (RSA, n.to_vec(), Some(e)),
        Numbers::Ed25519 { .. } => return None,
    };
    let object = |class: u8, says: Says| {
        let flag = |value: bool| vec![u8::from(value)];
        let mut attributes = vec![
            (0x0, vec![class]),
            (0x1, flag(true)),
            (0x2, flag(class == PRIVATE)),
            (0x100, vec![kind]),
            (0x103, flag(says.sensitive)),
            (0x108, flag(says.sign)),
            (0x120, value.clone()),
            (0x162, flag(says.extractable)),
            (0x163, flag(says.local)),
            (0x164, flag(says.never_extractable)),
            (0x165, flag(says.sensitive)),
        ];
        attributes.extend(exponent.map(|exponent| (0x122, exponent.to_vec())));
        let mut bytes = Vec::new();
        for (kind, value) in &attributes {
            bytes.extend(u32::to_be_bytes(*kind));
            bytes.extend(u32::try_from(value.len()).ok()?.to_be_bytes());
            bytes.extend(value);
        }
        let mut object = Vec::new();
        object.extend(7u32.to_be_bytes());
        object.extend(u32::try_from(attributes.len()).ok()?.to_be_bytes());
        object.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
        object.extend(bytes);
        Some(object)
    };
    let loose = Says {
        sensitive: false,
        extractable: true,
        never_extractable: false,
        local: says.local,
        sign: false,
    };
    let public = object(PUBLIC, loose)?;
    let private = object(PRIVATE, says)?;
    let first: u16 = 8;
    let second = first + u16::try_from(public.len()).ok()?;
    let mut attributes = Vec::new();
    for half in [1, 3, first, second] {
        attributes.extend(half.to_be_bytes());
    }
    attributes.extend(public);
    attributes.extend(private);
    // The response header of four words, and four more words that the published scripts skip.
    let size = u32::try_from(attributes.len()).ok()?;
    let mut body = Vec::new();
    for word in [0, 3, 32 + size + 256, size, 0, 0, 0, 0] {
        body.extend(u32::to_be_bytes(word));
    }
    body.extend(attributes);
    Some(body)
}
