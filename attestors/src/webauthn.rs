//! WebAuthn attestation statements of the format `tpm` (WebAuthn level 2, section 8.3), as ACME's `device-attest-01` uses them
//! (draft-ietf-acme-device-attest, section 5): a TPM's word that a key lives in it, under the certificate of its attestation key.
//!
//! [`Statement::read`] takes the bytes apart; [`Statement::verify`] judges them. What is not proven is refused, with a code of
//! `docs/acme.md`.

mod ak_certificate;
mod cbor;

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use undercroft_keys::{KeyType, PublicKey, SignatureAlgorithm};
use undercroft_tpm_wire::attest::{Attest, Attested};
use undercroft_tpm_wire::{HashAlgorithm, Hierarchy, PublicArea, Signature};

use crate::chain::{Anchors, Certificate};
use crate::tpm::certify;
use crate::tpm::node;

/// The most bytes of an attestation object: six certificates, and some more.
pub const MAX_OBJECT: usize = 64 * 1024;

/// The format that is taken.
const FORMAT: &str = "tpm";
/// The version of its statements.
const VERSION: &str = "2.0";

/// COSE algorithms (RFC 9053 section 2.1, RFC 8812 section 2). RS1, -65535, signs SHA-1.
const ES256: i64 = -7;
const RS256: i64 = -257;

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
    StatementMalformed = "statement-malformed", StatementFormat = "statement-format",
    StatementAlgorithm = "statement-algorithm", AkCertificate = "ak-certificate", AkChain = "ak-chain",
    AttestMalformed = "attest-malformed", AttestMagic = "attest-magic", AttestSignature = "attest-signature",
    AttestType = "attest-type", AttestQualifying = "attest-qualifying", KeyMalformed = "key-malformed",
    KeyName = "key-name", KeyAttributes = "key-attributes", KeyHierarchy = "key-hierarchy", KeyWeak = "key-weak",
    IdentifierMissing = "identifier-missing", IdentifierMismatch = "identifier-mismatch",
}

/// Why a statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", code.as_str())]
pub struct Refusal {
    code: Code,
    why: String,
}

impl Refusal {
    fn new(code: Code, why: impl fmt::Display) -> Self {
        Self { code, why: why.to_string() }
    }

    /// The rule that was broken.
    pub fn code(&self) -> Code {
        self.code
    }
}

/// A statement that was read. Nothing is known of it yet.
#[derive(Clone, Debug)]
pub struct Statement {
    algorithm: i64,
    certificate: Certificate,
    intermediates: Vec<Certificate>,
    signature: Vec<u8>,
    attest: Vec<u8>,
    public: Vec<u8>,
}

/// What a statement must be about.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Whose attestation keys are taken.
    pub anchors: &'a Anchors,
    /// Whether the anchors themselves must have issued their certificates, and nobody below them.
    pub directly: bool,
    /// What the TPM signs for: the key authorization (RFC 8555 section 8.1).
    pub key_authorization: &'a str,
    /// Which device it must be: the value of its permanentIdentifier.
    pub identifier: &'a str,
}

/// A key that lives in the TPM of a device. Only [`Statement::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Device {
    key: PublicKey,
    identifier: String,
    attestation_key: Certificate,
    issuer: Certificate,
}

impl Device {
    /// The key that a certificate may be made for, and no other.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Who the device is.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The certificate of its attestation key.
    pub fn attestation_key(&self) -> &Certificate {
        &self.attestation_key
    }

    /// The certificate of who issued that.
    pub fn issuer(&self) -> &Certificate {
        &self.issuer
    }
}

impl Statement {
    /// Reads an attestation object (WebAuthn level 2, section 6.5.4). `authData` is no part of what ACME attests and not looked at.
    ///
    /// # Errors
    /// `statement-malformed`, `statement-format`, `statement-algorithm`, `ak-certificate`.
    pub fn read(object: &[u8]) -> Result<Self, Refusal> {
        if object.len() > MAX_OBJECT {
            let why = format!("the attestation object has more than {MAX_OBJECT} bytes");
            return Err(Refusal::new(Code::StatementMalformed, why));
        }
        let raw = cbor::read(object, FORMAT)?;
        if raw.version != VERSION {
            return Err(Refusal::new(Code::StatementFormat, "`ver` is not 2.0"));
        }
        if !matches!(raw.algorithm, ES256 | RS256) {
            let why = format!("`alg` is {}; taken are -7 (ES256) and -257 (RS256)", raw.algorithm);
            return Err(Refusal::new(Code::StatementAlgorithm, why));
        }
        let chain = raw.chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let mut chain = chain.map_err(|error| Refusal::new(Code::AkCertificate, error))?;
        if chain.is_empty() {
            return Err(Refusal::new(Code::StatementMalformed, "`x5c` is empty"));
        }
        let certificate = chain.remove(0);
        Ok(Self {
            algorithm: raw.algorithm,
            certificate,
            intermediates: chain,
            signature: raw.signature,
            attest: raw.attest,
            public: raw.public,
        })
    }

    /// Judges it at a time. Whether the attestation key's certificate is revoked is for whoever calls to find out.
    ///
    /// # Errors
    /// See [`Code`], in their order.
    pub fn verify(&self, expected: Expected<'_>, at: Timestamp) -> Result<Device, Refusal> {
        let identifier = ak_certificate::check(&self.certificate)?;
        let issuer = self.issuer(expected.anchors, expected.directly, at)?;
        let attest = Attest::parse(&self.attest).map_err(|error| match node::of_attest_code(&error) {
            node::Code::AttestMagic => Refusal::new(Code::AttestMagic, error),
            node::Code::AttestType => Refusal::new(Code::AttestType, error),
            _ => Refusal::new(Code::AttestMalformed, error),
        })?;
        self.is_signed()?;
        let Attested::Certify { name, qualified } = &attest.attested else {
            return Err(Refusal::new(Code::AttestType, "the attestation is no TPM2_Certify"));
        };
        // The hash of `alg` (section 8.3), which is SHA-256 in both.
        if attest.qualifying != Sha256::digest(expected.key_authorization)[..] {
            return Err(Refusal::new(
                Code::AttestQualifying,
                "the attestation was made for another challenge or another account (extraData)",
            ));
        }
        let key = certified(&self.public, name, qualified)?;
        let identifier = identifier.ok_or_else(|| {
            let why =
                "the certificate of the attestation key names no device: it has not one permanentIdentifier";
            Refusal::new(Code::IdentifierMissing, why)
        })?;
        if identifier != expected.identifier {
            return Err(Refusal::new(Code::IdentifierMismatch, "the TPM is another device than the order's"));
        }
        Ok(Device { key, identifier, attestation_key: self.certificate.clone(), issuer })
    }

    /// Whether the attestation key's certificate names one of these as its issuer.
    pub fn is_directly_below(&self, anchors: &Anchors) -> bool {
        anchors.has_subject(self.certificate.issuer_der())
    }

    fn issuer(&self, anchors: &Anchors, directly: bool, at: Timestamp) -> Result<Certificate, Refusal> {
        // Whoever is below an anchor may have taken its name, so that a name is no proof of being direct.
        let between = if directly { &[][..] } else { &self.intermediates };
        let path = self.certificate.path(between, anchors, at);
        // Clients send the issuer along, which may be the anchor itself: that is no other way to it.
        let (anchor, path) = path.map_err(|error| Refusal::new(Code::AkChain, error))?;
        Ok(path.first().unwrap_or(anchor).clone())
    }

    fn is_signed(&self) -> Result<(), Refusal> {
        let wrong = |why: &dyn fmt::Display| Refusal::new(Code::AttestSignature, why);
        let key = self.certificate.public_key().map_err(|error| wrong(&error))?;
        let signature = Signature::parse(&self.signature).map_err(|error| wrong(&error))?;
        let algorithm = match (self.algorithm, key.key_type(), &signature) {
            (ES256, KeyType::P256, Signature::Ecdsa { hash: HashAlgorithm::Sha256, .. }) => {
                SignatureAlgorithm::EcdsaP256Sha256
            }
            (RS256, KeyType::Rsa(_), Signature::RsaSsa(HashAlgorithm::Sha256, _)) => {
                SignatureAlgorithm::RsaPkcs1Sha256
            }
            _ => return Err(wrong(&"`alg`, `sig` and the attestation key are not of one scheme")),
        };
        let signature = signature.to_x509().map_err(|error| wrong(&error))?;
        key.verify(algorithm, &self.attest, &signature)
            .map_err(|_| wrong(&"`sig` is not by the attestation key over `certInfo`"))
    }
}

/// The certified key, if it stays in its TPM.
fn certified(
    public: &[u8],
    name: &undercroft_tpm_wire::Name,
    qualified: &undercroft_tpm_wire::Name,
) -> Result<PublicKey, Refusal> {
    let area = PublicArea::parse(public).map_err(|error| Refusal::new(Code::KeyMalformed, error))?;
    if *name != area.name() {
        return Err(Refusal::new(Code::KeyName, "the attestation is about a key of another Name"));
    }
    certify::is_held(&area).map_err(|error| Refusal::new(Code::KeyAttributes, error))?;
    if *qualified == area.name() || *qualified == area.qualified_in(Hierarchy::Null) {
        return Err(Refusal::new(Code::KeyHierarchy, "the key is in no hierarchy that lasts"));
    }
    area.public_key().map_err(|error| Refusal::new(Code::KeyWeak, error))
}

#[cfg(test)]
mod tests;
