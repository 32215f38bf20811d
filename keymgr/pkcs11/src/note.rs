//! Notes in a token: data objects (PKCS #11 3.1 section 4.6) that only who logs in can read or change.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use undercroft_keymgr::{Error, TokenNote};

use crate::error::failed;
use crate::token::{Access, TokenInner};

/// CKA_APPLICATION of our notes.
const APPLICATION: &[u8] = b"undercroft";

/// A note of that name in a token.
pub(crate) struct Note {
    token: Arc<TokenInner>,
    name: String,
}

impl Note {
    pub(crate) fn new(token: Arc<TokenInner>, name: &str) -> Self {
        Self { token, name: name.to_owned() }
    }

    fn subject(&self) -> String {
        format!("the note `{}`", self.name)
    }
}

#[async_trait]
impl TokenNote for Note {
    async fn read(&self) -> Result<Vec<Vec<u8>>, Error> {
        let (name, subject) = (self.name.clone(), self.subject());
        self.token
            .run_again(move |own| {
                let mut notes = Vec::new();
                for object in find(&own.session, &name, &subject)? {
                    let read = own.session.get_attributes(object, &[AttributeType::Value]);
                    for attribute in read.map_err(failed(format!("cannot read {subject}")))? {
                        if let Attribute::Value(value) = attribute {
                            notes.push(value);
                        }
                    }
                }
                Ok(notes)
            })
            .await
    }

    async fn write(&self, note: &[u8]) -> Result<(), Error> {
        let (token, name, subject) = (self.token.clone(), self.name.clone(), self.subject());
        let value = note.to_vec();
        self.token
            .run(move |_| {
                // Sessions that sign need no right to write.
                token.door.open(Access::ReadWrite)?.with(|writer| {
                    let session = &writer.session;
                    let old = find(session, &name, &subject)?;
                    let template = [
                        Attribute::Class(ObjectClass::DATA),
                        Attribute::Token(true),
                        Attribute::Private(true),
                        Attribute::Application(APPLICATION.to_vec()),
                        Attribute::Label(name.into_bytes()),
                        Attribute::Value(value),
                    ];
                    session.create_object(&template).map_err(failed(format!("cannot write {subject}")))?;
                    // The new one is there before the old one goes.
                    for object in old {
                        session
                            .destroy_object(object)
                            .map_err(failed(format!("cannot replace {subject}")))?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

fn find(session: &Session, name: &str, subject: &str) -> Result<Vec<ObjectHandle>, Error> {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Application(APPLICATION.to_vec()),
        Attribute::Label(name.as_bytes().to_vec()),
    ];
    session.find_objects(&template).map_err(failed(format!("cannot look for {subject}")))
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject())
    }
}
