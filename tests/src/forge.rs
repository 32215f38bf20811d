//! The thief: somebody with the use of one domain's intermediate key, who makes certificates for another domain.

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SignatureAlgorithm as RcgenAlgorithm,
};
use undercroft_cli::{Environment, Failure, read_text, write_file};
use undercroft_keymgr::{KeyUri, Secrecy, SigningKey};
use undercroft_keys::KeyAlgorithm;

/// A key in a token, as rcgen wants it.
#[derive(Debug)]
struct Stolen {
    key: Arc<dyn SigningKey>,
    point: Vec<u8>,
}

impl PublicKeyData for Stolen {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static RcgenAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Stolen {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        block_on(self.key.sign(message)).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// What is forged, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Forgery<'a> {
    /// The environment file with the stolen key's device.
    pub devices: &'a Path,
    /// The stolen key, of an ECDSA P-256 intermediate.
    pub key: &'a str,
    /// The intermediate's certificate.
    pub intermediate: &'a Path,
    /// The names that the forged certificate speaks for.
    pub names: &'a [SanType],
}

impl Forgery<'_> {
    /// Signs a leaf and writes `<name>.pem` (leaf alone), `<name>.chain.pem` (with the intermediate) and
    /// `<name>.key`.
    ///
    /// # Errors
    /// The device cannot be used.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), Failure> {
        let failed = |error: rcgen::Error| Failure::failed(format!("forging: {error}"));
        let intermediate = read_text(self.intermediate)?;
        let issuer = Issuer::from_ca_cert_pem(&intermediate, self.steal()?).map_err(failed)?;
        let leaf_key = KeyPair::generate().map_err(failed)?;
        let leaf = self.leaf().signed_by(&leaf_key, &issuer).map_err(failed)?;
        let write =
            |ending: &str, text: &str| write_file(&folder.join(format!("{name}{ending}")), text.as_bytes());
        write(".key", &leaf_key.serialize_pem())?;
        write(".chain.pem", &format!("{}{intermediate}", leaf.pem()))?;
        write(".pem", &leaf.pem())
    }

    fn steal(&self) -> Result<Stolen, Failure> {
        let backends: Vec<Box<dyn undercroft_keymgr::Backend>> =
            vec![Box::new(undercroft_pkcs11::Pkcs11Backend), Box::new(undercroft_tpm::TpmBackend)];
        let environment = Environment::read(self.devices, Secrecy::Lenient, backends)?;
        let uri: KeyUri = self.key.parse()?;
        let algorithm: KeyAlgorithm =
            "ecdsa-p256".parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let key = block_on(environment.tokens.open(&uri, algorithm))?.signer;
        let spki = key.public_key().spki();
        // Of P-256, the point is the last 65 bytes of the SubjectPublicKeyInfo (RFC 5480 section 2.2).
        let point = spki[spki.len() - 65..].to_vec();
        Ok(Stolen { key, point })
    }

    fn leaf(&self) -> CertificateParams {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.serial_number = Some(SerialNumber::from_slice(&[0x42; 16]));
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        leaf.subject_alt_names = self.names.to_vec();
        leaf
    }
}

/// A URI as a name.
///
/// # Errors
/// It is not ASCII.
pub fn uri(text: &str) -> Result<SanType, Failure> {
    text.try_into().map(SanType::URI).map_err(|error| Failure::usage(format!("{text}: {error}")))
}

/// A DNS name as a name.
///
/// # Errors
/// It is not ASCII.
pub fn dns(text: &str) -> Result<SanType, Failure> {
    text.try_into().map(SanType::DnsName).map_err(|error| Failure::usage(format!("{text}: {error}")))
}
