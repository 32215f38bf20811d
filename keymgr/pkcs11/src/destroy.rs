//! The end of a key.

use std::sync::Arc;

use async_trait::async_trait;
use cryptoki::object::{Attribute, ObjectClass};
use undercroft_keymgr::{DestroyKey, Error, ErrorKind, KeyUri, TimeLimit};
use undercroft_keys::KeyId;

use crate::error::failed;
use crate::token::{Access, TokenInner, find, pkcs11_uri};

/// Destroys keys of one token.
#[derive(Debug)]
pub(crate) struct Destruction(pub(crate) Arc<TokenInner>);

#[async_trait]
impl DestroyKey for Destruction {
    async fn destroy(&self, uri: &KeyUri, id: KeyId) -> Result<(), Error> {
        let (wanted, what, door) = (pkcs11_uri(uri)?.clone(), uri.to_string(), self.0.door.clone());
        let job = move |_: &mut _| {
            door.open(Access::ReadWrite)?.with(|writer| {
                let found = find(writer, &wanted, &what)?;
                if found.public_key.id() != id {
                    return Err(Error::new(
                        ErrorKind::Denied,
                        format!(
                            "{what} is the key {} and not {id}; nothing was destroyed",
                            found.public_key.id()
                        ),
                    ));
                }
                for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
                    let template = [Attribute::Class(class), Attribute::Id(found.id.clone())];
                    let halves = writer.session.find_objects(&template);
                    for half in halves.map_err(failed(format!("cannot look for {what}")))? {
                        writer
                            .session
                            .destroy_object(half)
                            .map_err(failed(format!("cannot destroy {what}")))?;
                    }
                }
                match find(writer, &wanted, &what) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(error),
                    Ok(_) => Err(Error::new(
                        ErrorKind::Fault,
                        format!("the token says that it destroyed {what}, and the key is still there"),
                    )),
                }
            })
        };
        self.0.run_within(TimeLimit::TO_MAKE_KEYS, job).await
    }
}
