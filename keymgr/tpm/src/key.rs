//! Keys in a TPM.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use undercroft_keymgr::{Counted, Error, ErrorKind, SessionThreads, SignPrehashed, SigningKey, ToSign};
use undercroft_keys::{KeyAlgorithm, MessageDigest, PublicKey};
use undercroft_tpm_wire::{PublicArea, Signature};

use crate::esys::{Esys, Hierarchy, Object};
use crate::template::{self, Guessing, Use};
use crate::tpm::Session;

/// Which key it is, and what it must be.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) handle: u32,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) public_key: PublicKey,
    pub(crate) subject: String,
}

/// A persistent key.
pub(crate) struct TpmKey {
    pub(crate) threads: Arc<SessionThreads<Session>>,
    pub(crate) identity: Identity,
}

#[async_trait]
impl SigningKey for TpmKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.identity.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.identity.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.sign_counted(message).await?.signature)
    }

    async fn sign_counted(&self, message: &[u8]) -> Result<Counted, Error> {
        self.sign_any(ToSign::Message(message.to_vec())).await
    }
}

#[async_trait]
impl SignPrehashed for TpmKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.identity.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.identity.public_key
    }

    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        digest.suits(self.identity.algorithm)?;
        Ok(self.sign_any(ToSign::Digest(digest.clone())).await?.signature)
    }
}

impl TpmKey {
    async fn sign_any(&self, input: ToSign) -> Result<Counted, Error> {
        let identity = self.identity.clone();
        self.threads.run(move |session| session.sign(&identity, &input)).await
    }
}

/// The signer of a gated key, which the TPM would refuse: it is told without asking.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Identity);

#[async_trait]
impl SigningKey for Refused {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "{} is gated: its TPM signs only what one of its gates has authorised; configure its gates",
                self.0.subject
            ),
        ))
    }
}

/// A primary key of the null hierarchy. Its template determines it until the TPM is reset, so it is made again for
/// each use and holds no slot in between.
pub(crate) struct ThrowawayKey {
    pub(crate) threads: Arc<SessionThreads<Session>>,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) unique: Vec<u8>,
    pub(crate) public_key: PublicKey,
}

#[async_trait]
impl SigningKey for ThrowawayKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let (algorithm, unique) = (self.algorithm, self.unique.clone());
        let input = ToSign::Message(message.to_vec());
        self.threads
            .run(move |session| {
                with_throwaway(&mut session.esys, algorithm, &unique, |esys, object| {
                    sign(esys, object, algorithm, &input, "a throwaway key")
                })
            })
            .await
    }
}

/// The public half of a throwaway key.
pub(crate) fn throwaway_public_key(
    esys: &mut Esys,
    algorithm: KeyAlgorithm,
    unique: &[u8],
) -> Result<PublicKey, Error> {
    with_throwaway(esys, algorithm, unique, |esys, object| Ok(read(esys, object, "a throwaway key")?.1))
}

fn with_throwaway<T>(
    esys: &mut Esys,
    algorithm: KeyAlgorithm,
    unique: &[u8],
    job: impl FnOnce(&mut Esys, Object) -> Result<T, Error>,
) -> Result<T, Error> {
    let template = template::signing_key(algorithm, Use::ByAuth(Guessing::Exempt), unique)?;
    let object = esys
        .create_primary(Hierarchy::Null, &template)
        .map_err(|error| error.failed(format!("cannot make a throwaway {algorithm} key")))?;
    with_transient(esys, object, job)
}

/// Runs `job` with a transient object and gives its slot back, whatever happened.
pub(crate) fn with_transient<T>(
    esys: &mut Esys,
    object: Object,
    job: impl FnOnce(&mut Esys, Object) -> Result<T, Error>,
) -> Result<T, Error> {
    let result = job(esys, object);
    let flushed = esys.flush(object).map_err(|code| code.failed("cannot give a transient slot back"));
    result.and_then(|value| flushed.map(|()| value))
}

/// The persistent object of a key that was there when it was opened.
pub(crate) fn persistent(esys: &mut Esys, identity: &Identity) -> Result<Object, Error> {
    esys.persistent(identity.handle)
        .map_err(|error| error.failed(format!("cannot look for {}", identity.subject)))?
        .ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("{} is not in its TPM any more", identity.subject))
        })
}

/// The public area and public key of an object.
pub(crate) fn read(esys: &mut Esys, object: Object, subject: &str) -> Result<(PublicArea, PublicKey), Error> {
    let bytes = esys.read_public(object).map_err(|error| error.failed(format!("cannot read {subject}")))?;
    let area = PublicArea::parse(&bytes).map_err(|error| {
        Error::with_source(ErrorKind::Unsupported, format!("the public area of {subject}"), error)
    })?;
    let key = area.public_key().map_err(|error| {
        Error::with_source(ErrorKind::Unsupported, format!("the public key of {subject}"), error)
    })?;
    Ok((area, key))
}

/// Lets the TPM sign the digest, after hashing what is not one yet.
pub(crate) fn sign(
    esys: &mut Esys,
    object: Object,
    algorithm: KeyAlgorithm,
    input: &ToSign,
    subject: &str,
) -> Result<Vec<u8>, Error> {
    let scheme = template::signature_scheme(algorithm)?;
    let signature = esys
        .sign(object, &input.bytes(algorithm)?, scheme)
        .map_err(|error| error.failed(format!("cannot sign with {subject}")))?;
    x509_signature(&signature)
}

/// A TPMT_SIGNATURE as X.509 carries it.
pub(crate) fn x509_signature(signature: &[u8]) -> Result<Vec<u8>, Error> {
    let malformed = |error| Error::with_source(ErrorKind::Fault, "the TPM gave a malformed signature", error);
    Signature::parse(signature).map_err(malformed)?.to_x509().map_err(malformed)
}

impl fmt::Debug for TpmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.identity.subject, self.identity.public_key)
    }
}

impl fmt::Debug for ThrowawayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a throwaway {} TPM key ({:?})", self.algorithm, self.public_key)
    }
}
