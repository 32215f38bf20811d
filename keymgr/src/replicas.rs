//! One key in several tokens: one dies, and the others sign.
//!
//! Calls go to the first that serves. One that is unavailable rests until it answers again, which a thread of its own
//! finds out, and never by signing: a signature that nobody asked for is one that no log knows of. One that answers what
//! cannot be is taken out for good.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use undercroft_keys::{KeyAlgorithm, MessageDigest, PublicKey};

use crate::{Counted, Error, ErrorKind, Key, SignPrehashed, SigningKey};

/// How soon a replica that rests is asked again, at first and at most.
const ASKED_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What happened to a replica, for whoever keeps a log for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaNews {
    /// It rests: it is not available.
    Rests {
        /// Which one.
        uri: String,
        /// Why.
        why: String,
    },
    /// It serves again.
    Serves {
        /// Which one.
        uri: String,
    },
    /// It was taken out, and stays out until the program is started again.
    IsOut {
        /// Which one.
        uri: String,
        /// What it answered.
        why: String,
    },
}

/// A key, each of whose tokens holds it.
pub struct Replicas {
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    replicas: Vec<Arc<Replica>>,
}

struct Replica {
    uri: String,
    key: Key,
    state: Mutex<State>,
    /// Wakes the thread that asks it again.
    dropped: Condvar,
    tell: Arc<dyn Fn(ReplicaNews) + Send + Sync>,
}

#[derive(Clone, Debug)]
enum State {
    Serves,
    Rests(String),
    Out(String),
    /// Nobody has it any more.
    Dropped,
}

impl Replicas {
    /// The key that `replicas` are, each with the URI that it was opened by; the first is preferred. `tell` hears what
    /// happens to them.
    ///
    /// # Errors
    /// `NotFound` if there are none; `Denied` if they are not one key, or one of them signs by a gate alone.
    pub fn new(
        replicas: Vec<(String, Key)>,
        tell: impl Fn(ReplicaNews) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let Some((first, key)) = replicas.first() else {
            return Err(Error::new(ErrorKind::NotFound, "none of a key's replicas is there"));
        };
        let (algorithm, public_key) = (key.signer.algorithm(), key.signer.public_key().clone());
        for (uri, key) in &replicas {
            if (key.signer.algorithm(), key.signer.public_key()) != (algorithm, &public_key) {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!(
                        "{uri} is no replica of {first}: it holds the key {} ({}) and not {} ({algorithm}); correct the URI",
                        key.signer.public_key().id(),
                        key.signer.algorithm(),
                        public_key.id()
                    ),
                ));
            }
            if key.gated.is_some() {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!("{uri} signs what a gate has authorised and cannot be a replica"),
                ));
            }
        }
        let tell: Arc<dyn Fn(ReplicaNews) + Send + Sync> = Arc::new(tell);
        let replica = |(uri, key)| {
            let (state, dropped) = (Mutex::new(State::Serves), Condvar::new());
            Arc::new(Replica { uri, key, state, dropped, tell: tell.clone() })
        };
        Ok(Self { algorithm, public_key, replicas: replicas.into_iter().map(replica).collect() })
    }

    /// The key, for whoever takes keys. What it says of its custody is what its first replica says: ask each.
    pub fn into_key(self) -> Result<Key, Error> {
        let own = Arc::new(self);
        let Some(first) = own.replicas.first() else {
            return Err(Error::new(ErrorKind::NotFound, "none of a key's replicas is there"));
        };
        let prehashed = own.replicas.iter().all(|replica| replica.key.prehashed.is_some());
        Ok(Key {
            custody: first.key.custody.clone(),
            gated: None,
            prehashed: prehashed.then(|| own.clone() as Arc<dyn SignPrehashed>),
            signer: own,
        })
    }

    /// Those to ask, in order: those that serve, and if none does those that rest.
    fn to_ask(&self) -> Result<Vec<&Arc<Replica>>, Error> {
        let states: Vec<_> = self.replicas.iter().map(|replica| replica.state().clone()).collect();
        let those = |wanted: fn(&State) -> bool| -> Vec<_> {
            self.replicas.iter().zip(&states).filter(|(_, state)| wanted(state)).map(|(one, _)| one).collect()
        };
        let serving = those(|state| matches!(state, State::Serves));
        if !serving.is_empty() {
            return Ok(serving);
        }
        let resting = those(|state| matches!(state, State::Rests(_)));
        if !resting.is_empty() {
            return Ok(resting);
        }
        let why: Vec<_> = self
            .replicas
            .iter()
            .zip(&states)
            .map(|(one, state)| format!("{}: {}", one.uri, state.why()))
            .collect();
        Err(Error::new(
            ErrorKind::Fault,
            format!("every replica of the key {} was taken out: {}", self.public_key.id(), why.join("; ")),
        ))
    }
}

/// Asks one replica after the other, until one has done it or may have done it. A macro, since closures that lend to the
/// futures that they give have no type that can be written down.
macro_rules! ask {
    ($own:expr, $replica:ident => $call:expr) => {{
        let mut refusals = Vec::new();
        for $replica in $own.to_ask()? {
            match $call.await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    Replica::has_failed($replica, &error);
                    // What was perhaps signed is not signed a second time.
                    if !error.is_undone() && !REFUSALS.contains(&error.kind()) {
                        return Err(error);
                    }
                    refusals.push(format!("{}: {error}", $replica.uri));
                }
            }
        }
        let message =
            format!("no replica of the key {} can sign now: {}", $own.public_key.id(), refusals.join("; "));
        Err(Error::new(ErrorKind::Unavailable, message).undone())
    }};
}

/// With these a token has said no, and has done nothing.
const REFUSALS: [ErrorKind; 3] = [ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::Unsupported];

#[async_trait]
impl SigningKey for Replicas {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.sign_counted(message).await?.signature)
    }

    async fn sign_counted(&self, message: &[u8]) -> Result<Counted, Error> {
        ask!(self, replica => replica.key.signer.sign_counted(message))
    }
}

#[async_trait]
impl SignPrehashed for Replicas {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        digest.suits(self.algorithm)?;
        ask!(self, replica => replica.sign_digest(digest))
    }
}

impl Replica {
    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error> {
        match &self.key.prehashed {
            Some(prehashed) => prehashed.sign_digest(digest).await,
            None => Err(Error::new(ErrorKind::Unsupported, format!("{} signs no digests", self.uri))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(own: &Arc<Self>, error: &Error) {
        let mut state = own.state();
        let (uri, why) = (own.uri.clone(), error.to_string());
        if error.kind() == ErrorKind::Fault {
            *state = State::Out(why.clone());
            drop(state);
            (own.tell)(ReplicaNews::IsOut { uri, why });
        } else if matches!(*state, State::Serves) {
            *state = State::Rests(why.clone());
            drop(state);
            (own.tell)(ReplicaNews::Rests { uri, why });
            let (name, weak) = (format!("replica {}", own.uri), Arc::downgrade(own));
            if std::thread::Builder::new().name(name).spawn(move || Self::ask_again(&weak)).is_err() {
                // Without a thread it is asked again by whoever wants a signature.
                *own.state() = State::Serves;
            }
        }
    }

    /// Asks a replica that rests until it answers: for what it says of its key, which it looks up and compares for that.
    fn ask_again(weak: &Weak<Self>) {
        let (mut pause, longest) = ASKED_AGAIN;
        loop {
            let Some(own) = weak.upgrade() else { return };
            let waited =
                own.dropped.wait_timeout_while(own.state(), pause, |state| matches!(state, State::Rests(_)));
            if !matches!(*waited.unwrap_or_else(PoisonError::into_inner).0, State::Rests(_)) {
                return;
            }
            match block_on(own.key.custody.custody_evidence()) {
                Ok(_) => {
                    let mut state = own.state();
                    if matches!(*state, State::Rests(_)) {
                        *state = State::Serves;
                        drop(state);
                        (own.tell)(ReplicaNews::Serves { uri: own.uri.clone() });
                    }
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Fault => return Self::has_failed(&own, &error),
                Err(_) => pause = (pause * 2).min(longest),
            }
        }
    }
}

impl State {
    fn why(&self) -> &str {
        match self {
            Self::Serves | Self::Dropped => "serves",
            Self::Rests(why) | Self::Out(why) => why,
        }
    }
}

/// Ends the threads that ask again.
impl Drop for Replicas {
    fn drop(&mut self) {
        for replica in &self.replicas {
            *replica.state() = State::Dropped;
            replica.dropped.notify_all();
        }
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uris: Vec<_> = self.replicas.iter().map(|replica| replica.uri.as_str()).collect();
        write!(f, "Replicas({:?}, {})", self.public_key, uris.join(", "))
    }
}

#[cfg(test)]
mod tests;
