//! One logged-in session and the handles that it knows.

use std::collections::HashMap;
use std::sync::Arc;

use cryptoki::context::Info;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};
use undercroft_keymgr::{Error, ErrorKind, ToSign};
use undercroft_keys::{KeyAlgorithm, PublicKey};

use crate::attributes;
use crate::error::failed;
use crate::mechanism;
use crate::module::Module;

/// A session, between jobs: whoever wants it holds its module, which nobody initialises anew meanwhile.
pub(crate) struct Held {
    /// Always there, until it is dropped.
    session: Option<TokenSession>,
    module: Arc<Module>,
    /// The life of the module that it belongs to.
    life: u64,
}

impl Held {
    pub(crate) fn new(module: Arc<Module>, life: u64, session: Session, slot: Slot) -> Self {
        let session = TokenSession { session, slot, module: module.clone(), keys: HashMap::new() };
        Self { session: Some(session), module, life }
    }

    /// Does `job` in the session.
    ///
    /// # Errors
    /// Those of `job`; `Unavailable` if the module was initialised anew.
    pub(crate) fn with<T>(
        &mut self,
        job: impl FnOnce(&mut TokenSession) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let life = self.module.hold();
        match &mut self.session {
            Some(session) if *life == self.life => job(session),
            _ => {
                let message = "the session went with its module, which was initialised anew; try again";
                Err(Error::new(ErrorKind::Unavailable, message).undone())
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let life = self.module.hold();
        if *life != self.life {
            // The number of its handle may be that of a session of the new life, which is not to be closed.
            std::mem::forget(self.session.take().map(|session| session.session));
        }
    }
}

/// A session of one token. When it dies, everything that it knew dies with it and is found again by the next.
pub(crate) struct TokenSession {
    pub(crate) session: Session,
    pub(crate) slot: Slot,
    module: Arc<Module>,
    keys: HashMap<Vec<u8>, Known>,
}

#[derive(Clone, Copy)]
struct Known {
    handle: ObjectHandle,
    /// A signature made in this session has verified under the public key that we expect.
    proven: bool,
}

impl TokenSession {
    /// The handle of the private key whose CKA_ID is `id`, after comparing its public half with `expected`.
    pub(crate) fn private_key(
        &mut self,
        id: &[u8],
        expected: &PublicKey,
        subject: &str,
    ) -> Result<ObjectHandle, Error> {
        if let Some(known) = self.keys.get(id) {
            return Ok(known.handle);
        }
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.to_vec())];
        let found =
            self.session.find_objects(&template).map_err(failed(format!("cannot look for {subject}")))?;
        let [handle] = found[..] else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("{subject} is not in its token any more ({} keys have its CKA_ID)", found.len()),
            ));
        };
        let found = attributes::public_key(&self.session, id, subject)?;
        if found != *expected {
            return Err(Error::new(
                ErrorKind::Fault,
                format!(
                    "{subject} has become another key: {} instead of {}. Nothing is signed with it; find out who changed the token",
                    found.id(),
                    expected.id()
                ),
            ));
        }
        self.keys.insert(id.to_vec(), Known { handle, proven: false });
        Ok(handle)
    }

    /// Signs, and verifies the first signature that a key makes in this session.
    pub(crate) fn sign(
        &mut self,
        id: &[u8],
        algorithm: KeyAlgorithm,
        expected: &PublicKey,
        input: &ToSign,
        subject: &str,
    ) -> Result<Vec<u8>, Error> {
        let handle = self.private_key(id, expected, subject)?;
        let signature = sign(&self.session, handle, algorithm, input, subject)?;
        if let Some(known) = self.keys.get_mut(id)
            && !known.proven
        {
            input.verify(expected, algorithm, &signature).map_err(|_| {
                Error::new(
                    ErrorKind::Fault,
                    format!("the first signature of {subject} does not verify under its public key {}; its token has another private key under that name", expected.id()),
                )
            })?;
            known.proven = true;
        }
        Ok(signature)
    }

    /// Whether the token has what keys of `algorithm` need. Asked before one is made: a key that cannot sign would be left.
    ///
    /// # Errors
    /// `Unsupported`, with the mechanism that is missing.
    pub(crate) fn supports(&self, algorithm: KeyAlgorithm, subject: &str) -> Result<(), Error> {
        let has = self
            .module
            .pkcs11()
            .get_mechanism_list(self.slot)
            .map_err(failed(format!("cannot ask what the token of {subject} can do")))?;
        match mechanism::needed(algorithm).into_iter().find(|needed| !has.contains(needed)) {
            None => Ok(()),
            Some(missing) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the token cannot make {subject} as {algorithm}: it has no {missing}; use another algorithm or token"
                ),
            )),
        }
    }

    pub(crate) fn module_info(&self, subject: &str) -> Result<Info, Error> {
        self.module.pkcs11().get_library_info().map_err(failed(format!("cannot ask the module of {subject}")))
    }

    pub(crate) fn token_info(&self, subject: &str) -> Result<TokenInfo, Error> {
        self.module
            .pkcs11()
            .get_token_info(self.slot)
            .map_err(failed(format!("cannot ask the token of {subject}")))
    }
}

/// Signs `input` with the key at `handle`.
pub(crate) fn sign(
    session: &Session,
    handle: ObjectHandle,
    algorithm: KeyAlgorithm,
    input: &ToSign,
    subject: &str,
) -> Result<Vec<u8>, Error> {
    let (mechanism, input) = mechanism::signing(algorithm, input)?;
    let raw =
        session.sign(&mechanism, handle, &input).map_err(failed(format!("cannot sign with {subject}")))?;
    mechanism::x509_signature(algorithm, raw)
}
