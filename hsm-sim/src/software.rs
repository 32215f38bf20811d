//! Keys in memory, for tests of what stands above the joint to key hardware.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::digest::{Digest, SHA256, SHA384, SHA512};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use undercroft_keymgr::{
    CustodyEvidence, Error, ErrorKind, Key, KeyManager, KeyUri, ProveCustody, SignPrehashed, SigningKey,
    StoredKey,
};
use undercroft_keys::{DigestAlgorithm, KeyAlgorithm, MessageDigest, PublicKey, RsaBits};

/// A key manager whose keys are in memory. Any key URI names a key.
#[derive(Debug, Default)]
pub struct SoftwareKeys(Mutex<BTreeMap<String, Arc<SoftwareKey>>>);

/// A private key in memory.
pub struct SoftwareKey {
    pair: Pair,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SoftwareKey {
    /// Makes a key.
    ///
    /// # Errors
    /// `Fault` if the library refuses.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, Error> {
        let fault = |_| Error::new(ErrorKind::Fault, format!("cannot make a software {algorithm} key"));
        let (pair, spki) = match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => {
                let curve = match algorithm {
                    KeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
                    _ => &ECDSA_P384_SHA384_ASN1_SIGNING,
                };
                let pair = EcdsaKeyPair::generate(curve).map_err(fault)?;
                let spki = pair.public_key().as_der().map_err(fault)?.as_ref().to_vec();
                (Pair::Ecdsa(pair), spki)
            }
            KeyAlgorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(fault)?;
                let spki = pair.public_key().as_der().map_err(fault)?.as_ref().to_vec();
                (Pair::Ed25519(pair), spki)
            }
            KeyAlgorithm::RsaPss(bits) | KeyAlgorithm::RsaPkcs1(bits) => {
                let size = match bits {
                    RsaBits::B2048 => KeySize::Rsa2048,
                    RsaBits::B3072 => KeySize::Rsa3072,
                    RsaBits::B4096 => KeySize::Rsa4096,
                };
                let pair = RsaKeyPair::generate(size).map_err(fault)?;
                let spki = pair.public_key().as_der().map_err(fault)?.as_ref().to_vec();
                (Pair::Rsa(Box::new(pair)), spki)
            }
        };
        let public_key = PublicKey::from_spki(&spki)
            .map_err(|error| Error::with_source(ErrorKind::Fault, "a software key", error))?;
        Ok(Self { pair, algorithm, public_key })
    }

    fn key(self: &Arc<Self>) -> Key {
        let prehashed = self.algorithm.signature_algorithm().digest();
        let prehashed = prehashed.map(|_| self.clone() as Arc<dyn SignPrehashed>);
        Key { signer: self.clone(), custody: self.clone(), gated: None, prehashed }
    }
}

#[async_trait]
impl KeyManager for SoftwareKeys {
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.contains_key(&uri.to_string()) {
            return Err(Error::new(ErrorKind::Exists, format!("{uri} exists already")));
        }
        let key = Arc::new(SoftwareKey::generate(algorithm)?);
        keys.insert(uri.to_string(), key.clone());
        Ok(key.key())
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys
            .get(&uri.to_string())
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{uri} is not there")))?;
        if key.algorithm != algorithm {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{uri} is a {} key, not {algorithm}", key.algorithm),
            ));
        }
        Ok(key.key())
    }

    async fn list(&self) -> Result<Vec<StoredKey>, Error> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keys
            .iter()
            .filter_map(|(uri, key)| {
                Some(StoredKey { uri: uri.parse().ok()?, public_key: Some(key.public_key.clone()) })
            })
            .collect())
    }

    async fn throwaway(&self, algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        Ok(Arc::new(SoftwareKey::generate(algorithm)?))
    }
}

#[async_trait]
impl SigningKey for SoftwareKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let rng = SystemRandom::new();
        let fault = |_| Error::new(ErrorKind::Fault, "a software key refused to sign");
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&rng, message).map_err(fault)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                match self.algorithm {
                    KeyAlgorithm::RsaPss(_) => pair.sign(&RSA_PSS_SHA256, &rng, message, &mut signature),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature),
                }
                .map_err(fault)?;
                Ok(signature)
            }
        }
    }
}

#[async_trait]
impl SignPrehashed for SoftwareKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        digest.suits(self.algorithm)?;
        let fault = |_| Error::new(ErrorKind::Fault, "a software key refused to sign");
        let function = match digest.algorithm() {
            DigestAlgorithm::Sha256 => &SHA256,
            DigestAlgorithm::Sha384 => &SHA384,
            DigestAlgorithm::Sha512 => &SHA512,
        };
        let digest = Digest::import_less_safe(digest.as_bytes(), function).map_err(fault)?;
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign_digest(&digest).map_err(fault)?.as_ref().to_vec()),
            Pair::Ed25519(_) => Err(Error::new(ErrorKind::Unsupported, "Ed25519 signs whole messages")),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                match self.algorithm {
                    KeyAlgorithm::RsaPss(_) => pair.sign_digest(&RSA_PSS_SHA256, &digest, &mut signature),
                    _ => pair.sign_digest(&RSA_PKCS1_SHA256, &digest, &mut signature),
                }
                .map_err(fault)?;
                Ok(signature)
            }
        }
    }
}

#[async_trait]
impl ProveCustody for SoftwareKey {
    /// Honest evidence that there is nothing to prove.
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        Ok(CustodyEvidence { format: "software-v1", bytes: self.public_key.spki().to_vec() })
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareKey({}, {:?})", self.algorithm, self.public_key)
    }
}
