//! The traits that a token's backend implements.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use undercroft_keys::{KeyAlgorithm, PublicKey};

use crate::{
    Activate, CommandNumber, DestroyKey, Error, ErrorKind, KeyUri, Ledger, LedgerPlaces, SignGated,
    SignPrehashed, TokenIdentity, TokenNote,
};

/// A token, opened: it makes keys, finds them again and lists them. Destroying a key is a ceremony: a value of its own,
/// [`DestroyKey`].
///
/// Implementations are shared between threads; calls queue up for the token's sessions and may fail with
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the queue is full.
#[async_trait]
pub trait KeyManager: fmt::Debug + Send + Sync {
    /// Makes a key inside the token, not extractable, for signing alone, and reads its attributes back.
    ///
    /// # Errors
    /// `Exists` if the URI already names a key (which is left as it is), `Unsupported` if the token cannot make
    /// the algorithm, `Fault` if the attributes read back are not those asked for (the key is destroyed again).
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error>;

    /// Finds a key and checks that it is of the expected algorithm and cannot be exported.
    ///
    /// # Errors
    /// `NotFound` if the URI matches no key or several; `Denied` if the key can be exported; `Unsupported` if it is
    /// of another kind than `algorithm`.
    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error>;

    /// The signing keys that the token holds.
    async fn list(&self) -> Result<Vec<StoredKey>, Error>;

    /// A key that the token forgets when it is dropped: for linting what a real key will sign before one exists.
    ///
    /// # Errors
    /// `Unsupported` if the token cannot make the algorithm.
    async fn throwaway(&self, algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error>;

    /// Makes a key that signs only what one of `gates` has authorised, signature by signature. See [`SignGated`].
    ///
    /// # Errors
    /// As [`KeyManager::create`]; `Unsupported` if the token has no such keys, or for these gates.
    async fn create_gated(
        &self,
        uri: &KeyUri,
        _algorithm: KeyAlgorithm,
        _gates: &[PublicKey],
    ) -> Result<Key, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{uri} is in a token that has no gated keys; TPMs have them"),
        ))
    }

    /// What the token can remember and attest to for a log, at these places in it.
    ///
    /// # Errors
    /// `Unsupported` if it keeps no ledger.
    fn ledger(&self, _places: LedgerPlaces) -> Result<Arc<dyn Ledger>, Error> {
        Err(Error::new(ErrorKind::Unsupported, "this token attests to nothing; TPMs do"))
    }

    /// The attestation key at a handle, beside the token's endorsement keys.
    ///
    /// # Errors
    /// `Unsupported` if the token is no TPM.
    fn activation(&self, _handle: u32) -> Result<Arc<dyn Activate>, Error> {
        Err(Error::new(ErrorKind::Unsupported, "this token has no endorsement key; TPMs have"))
    }

    /// What the token says of itself, for ceremonies, which take no other device than the one that was planned.
    ///
    /// # Errors
    /// `Unsupported` if it has no serial number.
    async fn identity(&self) -> Result<TokenIdentity, Error> {
        Err(Error::new(ErrorKind::Unsupported, "this token has no serial number; PKCS#11 tokens have"))
    }

    /// The means to destroy keys, for ceremonies.
    ///
    /// # Errors
    /// `Unsupported` if keys of this token are destroyed with its own tools alone.
    fn destruction(&self) -> Result<Arc<dyn DestroyKey>, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "keys of this token are destroyed with its own tools; PKCS#11 tokens do it for us",
        ))
    }

    /// Where the token remembers the head of a log that `name` names.
    ///
    /// # Errors
    /// `Unsupported` if it remembers nothing that programs give it.
    fn note(&self, _name: &str) -> Result<Arc<dyn TokenNote>, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this token keeps no notes; PKCS#11 tokens do, and TPMs have counters",
        ))
    }
}

/// A private key in a token.
#[async_trait]
pub trait SigningKey: fmt::Debug + Send + Sync {
    /// What the key is and how it signs; fixed for the key's life.
    fn algorithm(&self) -> KeyAlgorithm;

    /// The public half, as read from the token when the key was opened.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`, which is *not* hashed by the caller: the implementation hashes it as the algorithm says.
    ///
    /// The signature is as X.509 carries it (ECDSA: DER `ECDSA-Sig-Value`). It is not verified here, save the
    /// first one after the token was opened or came back: a token may have been swapped behind our back. Callers
    /// verify what they release.
    ///
    /// # Errors
    /// `Unavailable` if the token is gone or busy, `Denied` if it refuses, `Fault` if its first signature does
    /// not verify under [`SigningKey::public_key`].
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;

    /// The same, and which command of its token it was, where the token keeps a ledger.
    ///
    /// # Errors
    /// As [`SigningKey::sign`].
    async fn sign_counted(&self, message: &[u8]) -> Result<Counted, Error> {
        Ok(Counted { signature: self.sign(message).await?, command: None })
    }
}

/// A signature, and where it stands in its token's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The signature, as X.509 carries it.
    pub signature: Vec<u8>,
    /// The command that made it.
    pub command: Option<CommandNumber>,
}

/// Says where a key lives, as far as the token can tell.
#[async_trait]
pub trait ProveCustody: fmt::Debug + Send + Sync {
    /// Collects evidence from the token now. It is judged elsewhere (`undercroft-attestors`), so that an auditor
    /// can judge it again.
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error>;

    /// Collects evidence in answer to a challenge of whoever will judge it, where the token can answer one; others ignore it, and
    /// their evidence shows no more than that it was written down once.
    ///
    /// # Errors
    /// As [`ProveCustody::custody_evidence`].
    async fn answer(&self, _challenge: [u8; 32]) -> Result<CustodyEvidence, Error> {
        self.custody_evidence().await
    }

    /// How often the token was connected to so far: a greater number says that it was away, and that custody is to be proved
    /// again. Backends that cannot tell always say 0.
    fn connections(&self) -> u64 {
        0
    }
}

/// Evidence of where a key lives: documented bytes that cross from the token's host to whoever judges them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyEvidence {
    /// What the bytes are: `pkcs11-attributes-v1` or `tpm2-public-v1`. Each backend documents its own.
    pub format: &'static str,
    /// The evidence.
    pub bytes: Vec<u8>,
}

/// A key and what its token can do with it. Capabilities are separate values, so that a caller holds only what
/// it may use.
#[derive(Clone, Debug)]
pub struct Key {
    /// Signs.
    pub signer: Arc<dyn SigningKey>,
    /// Proves where the key lives.
    pub custody: Arc<dyn ProveCustody>,
    /// For a key that signs only what a gate has authorised: how. [`Key::signer`] is refused by its token.
    pub gated: Option<Arc<dyn SignGated>>,
    /// Signs digests that others have made; nothing for Ed25519 and for gated keys.
    pub prehashed: Option<Arc<dyn SignPrehashed>>,
}

/// A key as [`KeyManager::list`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// A URI that names this key and no other on the token.
    pub uri: KeyUri,
    /// The public half, if it is of a kind that Undercroft uses.
    pub public_key: Option<PublicKey>,
}
