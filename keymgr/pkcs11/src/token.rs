//! A token and the keys in it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::slot::Limit;
use undercroft_keymgr::{
    DestroyKey, Device, Error, ErrorKind, Key, KeyManager, KeyUri, Pin, Pkcs11Uri, SessionThreads,
    SignPrehashed, SigningKey, StoredKey, TimeLimit, ToSign, TokenIdentity, TokenNote,
};
use undercroft_keys::{KeyAlgorithm, MessageDigest, PublicKey};

use crate::attributes::{self, Protection};
use crate::create::{self, Lifetime};
use crate::custody::{Custody, trimmed, version};
use crate::destroy::Destruction;
use crate::error::failed;
use crate::module::{Module, TokenDescription};
use crate::note::Note;
use crate::session::{Held, TokenSession, sign};

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
    threads: SessionThreads<Held>,
    pub(crate) door: Door,
}

impl TokenInner {
    /// [`SessionThreads::reopened`].
    pub(crate) fn reopened(&self) -> u64 {
        self.threads.reopened()
    }

    /// [`SessionThreads::run`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut TokenSession) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.threads.run(move |held| held.with(job)).await
    }

    /// [`SessionThreads::run_within`].
    pub(crate) async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce(&mut Held) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.threads.run_within(limit, job).await
    }

    /// [`SessionThreads::run_again`].
    pub(crate) async fn run_again<T: Send + 'static>(
        &self,
        mut job: impl FnMut(&mut TokenSession) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.threads.run_again(move |held| held.with(&mut job)).await
    }
}

/// How sessions of this token are opened.
#[derive(Clone)]
pub(crate) struct Door {
    module: Arc<Module>,
    device: Arc<TokenDescription>,
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
        let description = Arc::new(TokenDescription { name: name.clone(), uri: uri.clone() });
        let pin = Pin::of(device)?;
        module.serves(&description);
        let door = Door { module, device: description, pin };
        // A PIN is tried here, once, before any thread could.
        let info = door.open(Access::ReadOnly)?.with(|session| session.token_info(&device.name))?;
        let wanted = device.sessions.map_or(DEFAULT_SESSIONS, usize::from);
        let allowed = match info.max_session_count() {
            Limit::Max(limit) => usize::try_from(limit).unwrap_or(usize::MAX).max(1),
            Limit::Infinite | Limit::Unavailable => usize::MAX,
        };
        let opener = door.clone();
        let threads = SessionThreads::start(
            &device.name,
            wanted.min(allowed),
            QUEUE,
            device.time_limit.duration(),
            move || opener.open(Access::ReadOnly),
        )?;
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
    /// Opens a session and logs in. A module that does not let us is initialised anew, where that can be done.
    pub(crate) fn open(&self, access: Access) -> Result<Held, Error> {
        match self.try_open(access) {
            Err(error)
                if error.kind() == ErrorKind::Unavailable && self.module.begin_new_life(&self.device) =>
            {
                self.try_open(access)
            }
            opened => opened,
        }
    }

    fn try_open(&self, access: Access) -> Result<Held, Error> {
        let name = &self.device.name;
        let life = self.module.hold();
        let (slot, info) = self.module.find_token(&self.device)?;
        let session = match access {
            Access::ReadOnly => self.module.pkcs11().open_ro_session(slot),
            Access::ReadWrite => self.module.pkcs11().open_rw_session(slot),
        }
        .map_err(failed(format!("cannot open a session on device `{name}`")))?;
        if info.login_required() {
            self.module.login(name, &session, slot, info.serial_number(), self.pin.as_ref())?;
        }
        Ok(Held::new(self.module.clone(), *life, session, slot))
    }
}

/// A key pair found in a token.
pub(crate) struct Found {
    pub(crate) id: Vec<u8>,
    label: String,
    pub(crate) public_key: PublicKey,
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
            .run_within(TimeLimit::TO_MAKE_KEYS, move |_| {
                // A read-write session of its own, closed at once: the ones that sign need not be able to write.
                let (signs, found) = door.open(Access::ReadWrite)?.with(|writer| {
                    if create::exists(&writer.session, &label, id.as_deref(), &what)? {
                        return Err(Error::new(
                            ErrorKind::Exists,
                            format!("{what} exists already and was not touched; choose another object or id"),
                        ));
                    }
                    writer.supports(algorithm, &what)?;
                    let (private, id) =
                        create::key_pair(&writer.session, algorithm, &label, id, Lifetime::Token, &what)?;
                    let public_key = attributes::public_key(&writer.session, &id, &what)?;
                    let signs =
                        create::first_signature(&writer.session, algorithm, private, &public_key, &what);
                    Ok((signs, Found { id, label, public_key }))
                })?;
                match signs {
                    Ok(()) => Ok(found),
                    Err(error) => door
                        .open(Access::ReadWrite)?
                        .with(|writer| Err(create::take_back(&writer.session, &found.id, algorithm, &error))),
                }
            })
            .await?;
        Ok(self.key(found, algorithm, subject))
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let wanted = pkcs11_uri(uri)?.clone();
        let what = subject.clone();
        let found = self.0.run_again(move |session| find(session, &wanted, &what)).await?;
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
        let uri = self.0.door.device.uri.clone();
        self.0
            .run_again(move |session| {
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

    async fn identity(&self) -> Result<TokenIdentity, Error> {
        let name = self.0.door.device.name.clone();
        let info = self.0.run_again(move |session| session.token_info(&name)).await?;
        Ok(TokenIdentity {
            model: trimmed(info.model()),
            serial: trimmed(info.serial_number()),
            firmware: version(info.firmware_version()),
        })
    }

    fn destruction(&self) -> Result<Arc<dyn DestroyKey>, Error> {
        Ok(Arc::new(Destruction(self.0.clone())))
    }

    fn note(&self, name: &str) -> Result<Arc<dyn TokenNote>, Error> {
        Ok(Arc::new(Note::new(self.0.clone(), name)))
    }

    async fn throwaway(&self, algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        let subject = format!("a throwaway {algorithm} key in device `{}`", self.0.door.device.name);
        let door = self.0.door.clone();
        let what = subject.clone();
        // Session objects die with their session: one thread keeps it for as long as the key lives.
        let threads = SessionThreads::start("throwaway", 1, 16, TimeLimit::TO_MAKE_KEYS, move || {
            let mut held = door.open(Access::ReadOnly)?;
            let (handle, id) = held.with(|own| {
                own.supports(algorithm, &what)?;
                create::key_pair(&own.session, algorithm, "throwaway", None, Lifetime::Session, &what)
            })?;
            Ok(ThrowawaySession { held, handle, id })
        })?;
        let what = subject.clone();
        let (public_key, id) = threads
            .run(move |ThrowawaySession { held, id, .. }| {
                let public_key = held.with(|own| attributes::public_key(&own.session, id, &what))?;
                Ok((public_key, id.clone()))
            })
            .await?;
        Ok(Arc::new(ThrowawayKey { threads, algorithm, public_key, id, subject }))
    }
}

pub(crate) fn pkcs11_uri(uri: &KeyUri) -> Result<&Pkcs11Uri, Error> {
    match uri {
        KeyUri::Pkcs11(uri) => Ok(uri),
        _ => Err(Error::new(ErrorKind::Unsupported, format!("{uri} names no PKCS#11 key"))),
    }
}

pub(crate) fn find(session: &mut TokenSession, uri: &Pkcs11Uri, subject: &str) -> Result<Found, Error> {
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
        self.token.run_again(move |session| session.sign(&id, algorithm, &public_key, &input, &subject)).await
    }
}

/// A session, and the one key pair that dies with it.
struct ThrowawaySession {
    held: Held,
    handle: ObjectHandle,
    id: Vec<u8>,
}

struct ThrowawayKey {
    threads: SessionThreads<ThrowawaySession>,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    id: Vec<u8>,
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
        let expected = self.id.clone();
        self.threads
            .run(move |ThrowawaySession { held, handle, id }| {
                // A session that was lost took its key with it, and the new one has made another.
                if *id != expected {
                    let message = format!("{subject} is gone, with the session that held it; begin again");
                    return Err(Error::new(ErrorKind::Unavailable, message).undone());
                }
                held.with(|own| sign(&own.session, *handle, algorithm, &input, &subject))
            })
            .await
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device.uri)
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
