//! A key in AWS KMS, which signs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, MessageType, SigningAlgorithmSpec};
use undercroft_keymgr::{Error, ErrorKind, SignPrehashed, SigningKey, ToSign};
use undercroft_keys::{KeyAlgorithm, MessageDigest, PublicKey, RsaBits};

use crate::calls::Failed;
use crate::signing::Shown;

use super::error::{Failure, sort};
use super::service::Service;

/// How KMS makes a key of `algorithm`, and how it signs with it.
///
/// # Errors
/// `Unsupported` for Ed25519. KMS has such keys, but wants the message itself, of 4,096 bytes at most, and what an
/// authority signs may be longer.
pub(super) fn specs(algorithm: KeyAlgorithm) -> Result<(KeySpec, SigningAlgorithmSpec), Error> {
    let rsa = |bits: RsaBits| match bits {
        RsaBits::B2048 => KeySpec::Rsa2048,
        RsaBits::B3072 => KeySpec::Rsa3072,
        RsaBits::B4096 => KeySpec::Rsa4096,
    };
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Ok((KeySpec::EccNistP256, SigningAlgorithmSpec::EcdsaSha256)),
        KeyAlgorithm::EcdsaP384 => Ok((KeySpec::EccNistP384, SigningAlgorithmSpec::EcdsaSha384)),
        // The salt is as long as the digest (AWS KMS Developer Guide, "Key spec reference").
        KeyAlgorithm::RsaPss(bits) => Ok((rsa(bits), SigningAlgorithmSpec::RsassaPssSha256)),
        KeyAlgorithm::RsaPkcs1(bits) => Ok((rsa(bits), SigningAlgorithmSpec::RsassaPkcs1V15Sha256)),
        KeyAlgorithm::Ed25519 => Err(Error::new(
            ErrorKind::Unsupported,
            "AWS KMS signs messages of 4,096 bytes at most with ed25519; choose another algorithm",
        )),
    }
}

/// A key that was opened, known by its ARN.
pub(super) struct AwsKey {
    pub(super) service: Arc<Service>,
    pub(super) arn: String,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) signing: SigningAlgorithmSpec,
    pub(super) public_key: PublicKey,
    pub(super) subject: String,
    pub(super) shown: Shown,
}

impl AwsKey {
    async fn sign_this(&self, what: ToSign) -> Result<Vec<u8>, Error> {
        // Every algorithm that KMS is asked for signs a digest.
        let digest = what.bytes(self.algorithm)?;
        let outages = self.service.calls.outages();
        let request = self
            .service
            .client
            .sign()
            .key_id(&self.arn)
            .message(Blob::new(digest))
            .message_type(MessageType::Digest)
            .signing_algorithm(self.signing.clone());
        let failure = Failure { subject: self.subject.clone(), operation: "Sign" };
        let (arn, signing) = (self.arn.clone(), self.signing.clone());
        let attempt = move || {
            let (request, failure, arn, signing) =
                (request.clone(), failure.clone(), arn.clone(), signing.clone());
            async move {
                let answer = request.send().await.map_err(|error| sort(&failure, error))?;
                let subject = &failure.subject;
                if answer.key_id() != Some(&arn) || answer.signing_algorithm() != Some(&signing) {
                    let found = format!(
                        "{subject} is {arn}, but AWS signed with {} and {}",
                        answer.key_id().unwrap_or("no key"),
                        answer.signing_algorithm().map_or("no algorithm", SigningAlgorithmSpec::as_str)
                    );
                    return Err(Failed::Finally(Error::new(ErrorKind::Fault, found)));
                }
                let signature = answer.signature.filter(|signature| !signature.as_ref().is_empty());
                let none = || Error::new(ErrorKind::Fault, format!("{subject}: AWS gave no signature"));
                Ok(signature.ok_or_else(none)?.into_inner())
            }
        };
        let signature = self.service.calls.run(attempt).await?;
        self.shown.release(outages, (self.algorithm, &self.public_key), &what, signature, &self.subject)
    }
}

#[async_trait]
impl SigningKey for AwsKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign_this(ToSign::Message(message.to_vec())).await
    }
}

#[async_trait]
impl SignPrehashed for AwsKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        self.sign_this(ToSign::Digest(digest.clone())).await
    }
}

impl fmt::Debug for AwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsKey({}, {}, {})", self.subject, self.algorithm, self.arn)
    }
}
