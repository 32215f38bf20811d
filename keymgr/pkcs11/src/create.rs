//! Making keys.

use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use undercroft_keymgr::{Error, ErrorKind, ToSign};
use undercroft_keys::{KeyAlgorithm, PublicKey};

use crate::attributes::Protection;
use crate::error::failed;
use crate::{mechanism, session};

/// How long the key pair lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// A token object, until it is destroyed.
    Token,
    /// A session object, until its session closes.
    Session,
}

/// Makes a key pair for signing that cannot leave the token, and reads back that it is so.
///
/// Gives the handle of the private key and the CKA_ID of both halves.
pub(crate) fn key_pair(
    session: &Session,
    algorithm: KeyAlgorithm,
    label: &str,
    id: Option<Vec<u8>>,
    lifetime: Lifetime,
    subject: &str,
) -> Result<(ObjectHandle, Vec<u8>), Error> {
    let token = lifetime == Lifetime::Token;
    let id = match id {
        Some(id) => id,
        None => random_id()?,
    };
    let common =
        [Attribute::Token(token), Attribute::Id(id.clone()), Attribute::Label(label.as_bytes().to_vec())];
    let (mechanism, mut public) = mechanism::generation(algorithm);
    public.extend(common.clone());
    // Nothing of CKA_ENCRYPT and CKA_VERIFY: what a public half may do protects nobody, and tpm2-pkcs11 takes the one for
    // the TPM's bit that signs, and the other for that which decrypts.
    public.push(Attribute::Private(false));
    let mut private = common.to_vec();
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]);
    let (public, private) = session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(failed(format!("the token cannot make {subject} as {algorithm}")))?;
    match Protection::read(session, private, subject) {
        Ok(Protection::SOUND) => Ok((private, id)),
        Ok(other) => Err(undo(
            session,
            [public, private],
            Error::new(
                ErrorKind::Fault,
                format!(
                    "{subject} was made, but its attributes read back as {other:?}; it was destroyed again"
                ),
            ),
        )),
        Err(error) => Err(undo(session, [public, private], error)),
    }
}

/// Has a private key that was just made sign, and verifies the signature.
pub(crate) fn first_signature(
    session: &Session,
    algorithm: KeyAlgorithm,
    private: ObjectHandle,
    public_key: &PublicKey,
    subject: &str,
) -> Result<(), Error> {
    let input = ToSign::Message(b"undercroft: a new key signs for the first time".to_vec());
    let signature = session::sign(session, private, algorithm, &input, subject)?;
    input.verify(public_key, algorithm, &signature).map_err(|_| {
        Error::new(ErrorKind::Fault, format!("the first signature of {subject} does not verify"))
    })
}

/// Destroys a key pair that was made a moment ago and cannot sign, as `error` says: some modules make such keys, and say so
/// only then. It is done in a session of its own, since some keep what an operation that failed has used.
pub(crate) fn take_back(session: &Session, id: &[u8], algorithm: KeyAlgorithm, error: &Error) -> Error {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let found = session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())]);
        let destroyed =
            found.and_then(|found| found.into_iter().try_for_each(|key| session.destroy_object(key)));
        if let Err(left) = destroyed {
            return Error::new(
                error.kind(),
                format!(
                    "{error}. The key was made and could not be destroyed again ({left}); remove it with the token's own tool"
                ),
            );
        }
    }
    // The token was there to destroy it, so that it is not what failed.
    let kind = match error.kind() {
        ErrorKind::Unavailable => ErrorKind::Unsupported,
        kind => kind,
    };
    Error::new(
        kind,
        format!(
            "the token makes keys as {algorithm} and does not sign with them: {error}; it was destroyed again"
        ),
    )
}

/// Destroys a key pair that was made a moment ago and that nobody has used.
fn undo(session: &Session, objects: [ObjectHandle; 2], error: Error) -> Error {
    for object in objects {
        if let Err(left) = session.destroy_object(object) {
            return Error::new(
                error.kind(),
                format!(
                    "{error}. Half of it could not be destroyed again ({left}); remove it with the token's own tool"
                ),
            );
        }
    }
    error
}

/// Whether the token holds an object of that label or id, private or public.
pub(crate) fn exists(
    session: &Session,
    label: &str,
    id: Option<&[u8]>,
    subject: &str,
) -> Result<bool, Error> {
    let mut names = vec![Attribute::Label(label.as_bytes().to_vec())];
    names.extend(id.map(|id| Attribute::Id(id.to_vec())));
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for name in &names {
            let found = session
                .find_objects(&[Attribute::Class(class), name.clone()])
                .map_err(failed(format!("cannot look for {subject}")))?;
            if !found.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A CKA_ID that no other key has. It is set when the key is made, so that no crash leaves a key without one.
fn random_id() -> Result<Vec<u8>, Error> {
    let mut id = vec![0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        Error::with_source(ErrorKind::Unavailable, "the operating system gives no random bytes", error)
    })?;
    Ok(id)
}
