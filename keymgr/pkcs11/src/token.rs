//! A token and the keys in it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use undercroft_keymgr::{
    Device, Error, ErrorKind, Key, KeyManager, KeyUri, Pin, Pkcs11Uri, SessionThreads, SignPrehashed,
    SigningKey, StoredKey, ToSign, TokenNote,
};
use undercroft_keys::{KeyAlgorithm, MessageDigest, PublicKey};

use crate::attributes::{self, Protection};
use crate::create::{self, Lifetime};
use crate::custody::Custody;
use crate::error::failed;
use crate::module::Module;
use crate::note::Note;
use crate::session::{TokenSession, sign};

/// Sessions where neither the device nor the token says otherwise. More than cores seldom helps an HSM.
const DEFAULT_SESSIONS: usize = 4;

/// Jobs that may wait for a session before callers are told to come back.
const QUEUE: usize = 1024;

/// A PKCS#11 token, opened and logged in.
#[derive(Debug)]
pub(crate) struct Token(Arc<TokenInner>);

/// What keys share with their token.
#[derive(Debug)]
pub(crate) struct TokenInner {
    pub(crate) threads: SessionThreads<TokenSession>,
    pub(crate) door: Door,
}

/// How sessions of this token are opened.
#[derive(Clone)]
pub(crate) struct Door {
    module: Arc<Module>,
    name: String,
    uri: Pkcs11Uri,
    pin: Option<Pin>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Token {
    /// Opens the token: finds it, and logs in once so that a wrong PIN is told now.
    pub(crate) fn open(device: &Device, uri: &Pkcs11Uri) -> Result<Self, Error> {
        let name = device.name.clone();
        let path: &Path = uri.module_path.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("device `{name}`: its URI names no module; add ?module-path=/path/of/the/library.so"),
            )
        })?;
        let module = Module::load(path)?;
        let (_, info) = module.find_token(&name, |slot, info| is_wanted(uri, slot, info))?;
        let pin = Pin::of(device)?;
        let door = Door { module, name, uri: uri.clone(), pin };
        // A PIN is tried here, once, before any thread could.
        drop(door.open(Access::ReadOnly)?);
        let wanted = device.sessions.map_or(DEFAULT_SESSIONS, usize::from);
        let allowed = match info.max_session_count() {
            Limit::Max(limit) => usize::try_from(limit).unwrap_or(usize::MAX).max(1),
            Limit::Infinite | Limit::Unavailable => usize::MAX,
        };
        let opener = door.clone();
        let threads = SessionThreads::start(&door.name, wanted.min(allowed), QUEUE, move || {
            opener.open(Access::ReadOnly)
        })?;
        Ok(Self(Arc::new(TokenInner { threads, door })))
    }

    fn key(&self, found: Found, algorithm: KeyAlgorithm, subject: String) -> Key {
        let Found { id, label, public_key } = found;
        let signer = Arc::new(TokenKey {
            token: self.0.clone(),
            id: id.clone(),
            algorithm,
            public_key: public_key.clone(),
            subject: subject.clone(),
        });
        let prehashed = algorithm.signature_algorithm().digest();
        Key {
            prehashed: prehashed.map(|_| signer.clone() as Arc<dyn SignPrehashed>),
            signer,
            custody: Arc::new(Custody { token: self.0.clone(), id, label, public_key, subject }),
            gated: None,
        }
    }
}

impl Door {
    pub(crate) fn open(&self, access: Access) -> Result<TokenSession, Error> {
        let (slot, info) =
            self.module.find_token(&self.name, |slot, info| is_wanted(&self.uri, slot, info))?;
        let session = match access {
            Access::ReadOnly => self.module.pkcs11().open_ro_session(slot),
            Access::ReadWrite => self.module.pkcs11().open_rw_session(slot),
        }
        .map_err(failed(format!("cannot open a session on device `{}`", self.name)))?;
        if info.login_required() {
            self.module.login(&self.name, &session, slot, info.serial_number(), self.pin.as_ref())?;
        }
        Ok(TokenSession::new(self.module.clone(), session, slot))
    }
}

/// Tokens pad their strings with blanks (PKCS #11 3.1 section 3.2).
fn is_wanted(uri: &Pkcs11Uri, slot: Slot, info: &TokenInfo) -> bool {
    let agrees =
        |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has.trim_end());
    agrees(&uri.token, info.label())
        && agrees(&uri.serial, info.serial_number())
        && agrees(&uri.manufacturer, info.manufacturer_id())
        && agrees(&uri.model, info.model())
        && uri.slot_id.is_none_or(|wanted| wanted == slot.id())
}

/// A key pair found in a token.
struct Found {
    id: Vec<u8>,
    label: String,
    public_key: PublicKey,
}

#[async_trait]
impl KeyManager for Token {
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let pkcs11 = pkcs11_uri(uri)?;
        let Some(label) = pkcs11.object.clone() else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{uri} gives the new key no label; add object=… to it"),
            ));
        };
        let (id, door, what) = (pkcs11.id.clone(), self.0.door.clone(), subject.clone());
        let found = self
            .0
            .threads
            .run(move |_| {
                // A read-write session of its own, closed at once: the ones that sign need not be able to write.
                let writer = door.open(Access::ReadWrite)?;
                if create::exists(&writer.session, &label, id.as_deref(), &what)? {
                    return Err(Error::new(
                        ErrorKind::Exists,
                        format!("{what} exists already and was not touched; choose another object or id"),
                    ));
                }
                let (_, id) =
                    create::key_pair(&writer.session, algorithm, &label, id, Lifetime::Token, &what)?;
                let public_key = attributes::public_key(&writer.session, &id, &what)?;
                Ok(Found { id, label, public_key })
            })
            .await?;
        let key = self.key(found, algorithm, subject);
        // Its first signature is verified by the session; after that the key is known to work.
        key.signer.sign(b"undercroft: a new key signs for the first time").await?;
        Ok(key)
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let wanted = pkcs11_uri(uri)?.clone();
        let what = subject.clone();
        let found = self.0.threads.run(move |session| find(session, &wanted, &what)).await?;
        if found.public_key.key_type() != algorithm.key_type() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{subject} is a {} key, but {algorithm} was expected; correct the algorithm or the URI",
                    found.public_key.key_type()
                ),
            ));
        }
        Ok(self.key(found, algorithm, subject))
    }

    async fn list(&self) -> Result<Vec<StoredKey>, Error> {
        let uri = self.0.door.uri.clone();
        self.0
            .threads
            .run(move |session| {
                let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Sign(true)];
                let keys = session.session.find_objects(&template).map_err(failed("cannot list the keys"))?;
                keys.into_iter()
                    .map(|key| {
                        let (id, label) = attributes::id_and_label(&session.session, key)?;
                        let public_key = attributes::public_key(&session.session, &id, &label).ok();
                        let uri = Pkcs11Uri { object: Some(label), id: Some(id), ..uri.clone() };
                        Ok(StoredKey { uri: KeyUri::Pkcs11(uri), public_key })
                    })
                    .collect()
            })
            .await
    }

    fn note(&self, name: &str) -> Result<Arc<dyn TokenNote>, Error> {
        Ok(Arc::new(Note::new(self.0.clone(), name)))
    }

    async fn throwaway(&self, algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        let subject = format!("a throwaway {algorithm} key in device `{}`", self.0.door.name);
        let door = self.0.door.clone();
        let what = subject.clone();
        // Session objects die with their session: one thread keeps it for as long as the key lives.
        let threads = SessionThreads::start("throwaway", 1, 16, move || {
            let session = door.open(Access::ReadOnly)?;
            let (handle, id) =
                create::key_pair(&session.session, algorithm, "throwaway", None, Lifetime::Session, &what)?;
            Ok(ThrowawaySession { session, handle, id })
        })?;
        let what = subject.clone();
        let public_key =
            threads.run(move |own| attributes::public_key(&own.session.session, &own.id, &what)).await?;
        Ok(Arc::new(ThrowawayKey { threads, algorithm, public_key, subject }))
    }
}

fn pkcs11_uri(uri: &KeyUri) -> Result<&Pkcs11Uri, Error> {
    match uri {
        KeyUri::Pkcs11(uri) => Ok(uri),
        _ => Err(Error::new(ErrorKind::Unsupported, format!("{uri} names no PKCS#11 key"))),
    }
}

fn find(session: &mut TokenSession, uri: &Pkcs11Uri, subject: &str) -> Result<Found, Error> {
    if uri.object.is_none() && uri.id.is_none() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("{subject} names a token but no key; add object=… or id=… to it"),
        ));
    }
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec())));
    template.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let keys =
        session.session.find_objects(&template).map_err(failed(format!("cannot look for {subject}")))?;
    let handle = match keys[..] {
        [handle] => handle,
        [] => {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{subject} is not in its token; make it with `undercroft keys create`, or correct the URI"
                ),
            ));
        }
        _ => {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{subject} matches {} keys; add id=… to name one of them", keys.len()),
            ));
        }
    };
    if Protection::read(&session.session, handle, subject)?.extractable {
        return Err(Error::new(
            ErrorKind::Denied,
            format!("{subject} can be exported from its token (CKA_EXTRACTABLE); make a new key that cannot"),
        ));
    }
    let (id, label) = attributes::id_and_label(&session.session, handle)?;
    let public_key = attributes::public_key(&session.session, &id, subject)?;
    Ok(Found { id, label, public_key })
}

/// A private key in the token.
struct TokenKey {
    token: Arc<TokenInner>,
    id: Vec<u8>,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    subject: String,
}

#[async_trait]
impl SigningKey for TokenKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign_any(ToSign::Message(message.to_vec())).await
    }
}

#[async_trait]
impl SignPrehashed for TokenKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        digest.suits(self.algorithm)?;
        self.sign_any(ToSign::Digest(digest.clone())).await
    }
}

impl TokenKey {
    async fn sign_any(&self, input: ToSign) -> Result<Vec<u8>, Error> {
        let (id, algorithm, public_key) = (self.id.clone(), self.algorithm, self.public_key.clone());
        let subject = self.subject.clone();
        self.token
            .threads
            .run(move |session| session.sign(&id, algorithm, &public_key, &input, &subject))
            .await
    }
}

/// A session, and the one key pair that dies with it.
struct ThrowawaySession {
    session: TokenSession,
    handle: ObjectHandle,
    id: Vec<u8>,
}

struct ThrowawayKey {
    threads: SessionThreads<ThrowawaySession>,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    subject: String,
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
        let (algorithm, input) = (self.algorithm, ToSign::Message(message.to_vec()));
        let subject = self.subject.clone();
        self.threads.run(move |own| sign(&own.session.session, own.handle, algorithm, &input, &subject)).await
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.subject, self.public_key)
    }
}

impl fmt::Debug for ThrowawayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.subject, self.public_key)
    }
}
