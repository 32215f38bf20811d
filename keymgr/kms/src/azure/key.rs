//! A version of a key, and how it signs.

use std::sync::Arc;

use async_trait::async_trait;
use azure_security_keyvault_keys::models::{KeyClientSignOptions, SignParameters};
use undercroft_keymgr::{Error, ErrorKind, SignPrehashed, SigningKey, ToSign};
use undercroft_keys::{KeyAlgorithm, MessageDigest, PublicKey};

use super::error::Doing;
use super::jwk;
use super::vault::VaultInner;
use crate::signing::Shown;

/// A private key in a vault.
#[derive(Debug)]
pub(super) struct VaultKey {
    vault: Arc<VaultInner>,
    name: String,
    version: String,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    subject: String,
    shown: Shown,
}

impl VaultKey {
    pub(super) fn new(
        vault: Arc<VaultInner>,
        (name, version): (String, String),
        algorithm: KeyAlgorithm,
        public_key: PublicKey,
        subject: String,
    ) -> Self {
        Self { vault, name, version, algorithm, public_key, subject, shown: Shown::default() }
    }

    async fn apply(&self, to_sign: ToSign) -> Result<Vec<u8>, Error> {
        let fault = |what: String| Error::new(ErrorKind::Fault, format!("{}: {what}", self.subject));
        let parameters = SignParameters {
            algorithm: jwk::to_azure(self.algorithm),
            value: Some(to_sign.bytes(self.algorithm)?),
        };
        let doing = Doing {
            what: format!("{} did not sign", self.subject),
            needs: ("Microsoft.KeyVault/vaults/keys/sign/action", "Key Vault Crypto User"),
            repeatable: false,
        };
        let (name, version) = (self.name.clone(), self.version.clone());
        let outages = self.vault.calls.outages();
        let answer = self
            .vault
            .call(doing, move |client| {
                let (name, parameters) = (name.clone(), parameters.clone());
                let options = KeyClientSignOptions {
                    key_version: Some(version.clone()),
                    ..KeyClientSignOptions::default()
                };
                async move { client.sign(&name, parameters.try_into()?, Some(options)).await?.into_model() }
            })
            .await?;
        if answer.kid.as_deref() != Some(self.vault.kid(&self.name, &self.version).as_str()) {
            return Err(fault(format!("the signature came as one by {:?}", answer.kid)));
        }
        let raw = answer.result.unwrap_or_default();
        let signature = jwk::signature(self.algorithm, &raw).ok_or_else(|| {
            fault(format!("{} bytes came as a signature, which {} has not", raw.len(), self.algorithm))
        })?;
        self.shown.release(outages, (self.algorithm, &self.public_key), &to_sign, signature, &self.subject)
    }
}

#[async_trait]
impl SigningKey for VaultKey {
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
impl SignPrehashed for VaultKey {
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
