//! Making keys.

use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::KeyAlgorithm;

use crate::attributes::Protection;
use crate::error::failed;
use crate::mechanism;

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
    // Nothing of CKA_ENCRYPT: what a public half may do protects nobody, and tpm2-pkcs11 takes it for the bit that signs.
    public.extend([Attribute::Private(false), Attribute::Verify(true)]);
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
