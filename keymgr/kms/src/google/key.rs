//! A version of a key, and how it signs.

use std::sync::Arc;

use async_trait::async_trait;
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::{AsymmetricSignRequest, AsymmetricSignResponse, Digest};
use undercroft_keymgr::{Error, ErrorKind, SignPrehashed, SigningKey, ToSign};
use undercroft_keys::{DigestAlgorithm, KeyAlgorithm, MessageDigest, PublicKey};

use super::error::Doing;
use super::ring::{CRC32C, RingInner};
use crate::signing::Shown;

/// The most bytes that Google signs without our hashing them first ("Raw data limit" of its quotas).
const MAX_DATA: usize = 64 * 1024;

/// A private key in a key ring.
#[derive(Debug)]
pub(super) struct RingKey {
    ring: Arc<RingInner>,
    version: String,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    subject: String,
    shown: Shown,
}

impl RingKey {
    pub(super) fn new(
        ring: Arc<RingInner>,
        version: String,
        algorithm: KeyAlgorithm,
        public_key: PublicKey,
        subject: String,
    ) -> Self {
        Self { ring, version, algorithm, public_key, subject, shown: Shown::default() }
    }

    async fn apply(&self, to_sign: ToSign) -> Result<Vec<u8>, Error> {
        let request = self.request(to_sign.bytes(self.algorithm)?)?;
        let doing = Doing {
            what: format!("{} did not sign", self.subject),
            needs: ("cloudkms.cryptoKeyVersions.useToSign", "roles/cloudkms.signer"),
            repeatable: false,
        };
        let outages = self.ring.calls.outages();
        let ask =
            move |client: KeyManagementService| client.asymmetric_sign().with_request(request.clone()).send();
        let signature = self.believe(self.ring.call(doing, ask).await?)?;
        self.shown.release(outages, (self.algorithm, &self.public_key), &to_sign, signature, &self.subject)
    }

    /// A digest, or for Ed25519 the message, with its checksum.
    fn request(&self, bytes: Vec<u8>) -> Result<AsymmetricSignRequest, Error> {
        let checksum = i64::from(CRC32C.checksum(&bytes));
        let request = AsymmetricSignRequest::new().set_name(&self.version);
        let digest = match self.algorithm.signature_algorithm().digest() {
            Some(DigestAlgorithm::Sha256) => Digest::new().set_sha256(bytes),
            Some(DigestAlgorithm::Sha384) => Digest::new().set_sha384(bytes),
            Some(DigestAlgorithm::Sha512) => Digest::new().set_sha512(bytes),
            None if bytes.len() > MAX_DATA => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "{} cannot sign {} bytes: an Ed25519 key signs the message itself, and Google takes {MAX_DATA} bytes at most; use a key that signs digests",
                        self.subject,
                        bytes.len()
                    ),
                ));
            }
            None => return Ok(request.set_data(bytes).set_data_crc32c(checksum)),
        };
        Ok(request.set_digest(digest).set_digest_crc32c(checksum))
    }

    /// The checks that Google asks of its clients ("Verifying end-to-end data integrity").
    fn believe(&self, answer: AsymmetricSignResponse) -> Result<Vec<u8>, Error> {
        let fault = |what: &str| Error::new(ErrorKind::Fault, format!("{}: {what}", self.subject));
        if answer.name != self.version {
            return Err(fault(&format!("the signature came as one by {}", answer.name)));
        }
        let verified = match self.algorithm.signature_algorithm().digest() {
            Some(_) => answer.verified_digest_crc32c,
            None => answer.verified_data_crc32c,
        };
        if !verified {
            return Err(fault(
                "Google does not say that what it signed is what was sent: no checksum was verified",
            ));
        }
        match answer.signature_crc32c == Some(i64::from(CRC32C.checksum(&answer.signature))) {
            true => Ok(answer.signature.to_vec()),
            false => Err(fault("the signature does not have its checksum: it was changed on its way")),
        }
    }
}

#[async_trait]
impl SigningKey for RingKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.apply(ToSign::Message(message.to_vec())).await
    }
}

#[async_trait]
impl SignPrehashed for RingKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        self.apply(ToSign::Digest(digest.clone())).await
    }
}
