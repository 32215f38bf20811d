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
    pub(crate) fn new(module: Arc<Module>, session: Session, slot: Slot) -> Self {
        Self { session, slot, module, keys: HashMap::new() }
    }

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
