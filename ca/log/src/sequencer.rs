//! The sequencer: stamps drafts, makes them durable in batches, and has each batch's head signed.
//!
//! ```text
//!  append ─▶ queue ─▶ ① take what is there ─▶ ② stamp ─▶ ③ commit ─▶ ④ recompute root ─▶ ⑤ sign ─▶ ⑥ receipts
//!                      └───────────── one future ─────────────┘       └──────── another, at the same time ────────┘
//! ```
//!
//! A batch is whatever has queued up while the one before was being committed: under load batches grow by
//! themselves, and a lone draft waits for nobody. While a head is being signed the next batch is already being
//! committed; if several were, the newest head alone is signed, and serves them all.
//!
//! What a crash means, step by step:
//! - before ③ won: nothing happened. Whoever asked got no answer, and may ask again.
//! - after ③, before ⑤: the entries are durable under a head that is not signed. When the log is opened again, that
//!   head is signed: the same size and root, hence (Ed25519) the same bytes. Two roots at one size cannot be.
//! - after ⑤, before ⑥: the checkpoint may be known or not; it is the same as the one that would be signed again.
//!   An intent whose receipt was lost was not signed, since signing takes the receipt; it is abandoned at start.
//!
//! Recovery is the same code as growth: [`open`] restores the tree from the store and signs the head, as after
//! every batch.

mod notary;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender, TrySendError, WeakSender};
use futures::channel::oneshot;
use futures::future::BoxFuture;
use jiff::Timestamp;

use notary::{Herald, Notary};
pub use watch::Watch;

use crate::Clock;
use crate::checkpoint::{Checkpoint, CheckpointSigner, SignedCheckpoint};
use crate::cosigning::{Cosigner, NotCosigned, Wait};
use crate::leaf::{Draft, LeafError};
use crate::note::VerifierKey;
use crate::receipt::{Promise, Receipt};
use crate::store::{Batch, CommitError, Entry, Head, LogReader, LogStore, StoreError};
use crate::tile::MAX_ENTRY;
use crate::tree::{GrowingTree, Hash, TILE_WIDTH, leaf_hash, partial_width, tile_root};

/// How much may wait and how much goes together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Drafts that may wait before callers are told to come back.
    pub queue: usize,
    /// Entries in a batch.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 4096, batch: 1024 }
    }
}

/// When to come back to a full queue: some batches will have been committed by then.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A log that is open for appending. Cheap to clone; the log closes when the last clone is dropped.
pub struct Log<E> {
    queue: Sender<Queued<E>>,
    /// Wakes the notary, as long as the log is open.
    grown: WeakSender<()>,
    shared: Arc<Shared>,
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), grown: self.grown.clone(), shared: self.shared.clone() }
    }
}

/// What callers, and the two halves of the sequencer, look at together. Never locked across an await.
struct Shared {
    key: VerifierKey,
    state: Mutex<State>,
}

struct State {
    tree: GrowingTree,
    /// Entries that are durable and wait for a signed head, in order.
    pending: Vec<Pending>,
    /// Whether a checkpoint is with the witnesses. Entries that want them wait for the next one.
    with_witnesses: bool,
    /// The newest signed head.
    latest: Option<SignedCheckpoint>,
    /// A signed head that the next commit takes along.
    unkept: Option<SignedCheckpoint>,
    /// Since when too few witnesses have cosigned.
    away: Option<Timestamp>,
    /// Why the sequencer has stopped.
    stopped: Option<String>,
}

struct Pending {
    index: u64,
    time: Timestamp,
    leaf: Arc<[u8]>,
    assurance: Assurance,
    answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

/// How much must be known of an entry before its receipt is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// It stands under a signed checkpoint.
    Signed,
    /// And enough witnesses have cosigned that one. The same as `Signed` for a log without witnesses.
    Witnessed,
}

struct Queued<E> {
    draft: Draft,
    effects: Arc<[E]>,
    blobs: Arc<[Vec<u8>]>,
    answer: Answer,
}

enum Answer {
    WhenDurable(oneshot::Sender<Result<Durable, AppendError>>),
    WithPromise(oneshot::Sender<Result<Promise, AppendError>>),
    WithReceipt(Assurance, oneshot::Sender<Result<Receipt, AppendError>>),
}

impl Answer {
    fn refuse(self, error: AppendError) {
        // Callers that went away need no answer.
        match self {
            Self::WhenDurable(answer) => drop(answer.send(Err(error))),
            Self::WithPromise(answer) => drop(answer.send(Err(error))),
            Self::WithReceipt(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

/// An entry that is durable, and not proven yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Its index.
    pub index: u64,
    /// When it was stamped.
    pub time: Timestamp,
}

/// What is appended: a draft, and what becomes durable with it.
#[derive(Clone, Debug)]
pub struct Append<E> {
    /// The entry.
    pub draft: Draft,
    /// Facts of the program above.
    pub effects: Vec<E>,
    /// Large objects that the entry names by digest.
    pub blobs: Vec<Vec<u8>>,
}

impl<E> Append<E> {
    /// An entry with nothing beside it.
    pub fn new(draft: Draft) -> Self {
        Self { draft, effects: Vec::new(), blobs: Vec::new() }
    }
}

impl<E> Log<E> {
    /// Appends an entry and waits until it stands under a signed checkpoint.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, append: Append<E>) -> Result<Receipt, AppendError> {
        self.append_assured(append, Assurance::Signed).await
    }

    /// Appends an entry and waits until as much is known of it as `assurance` says.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_assured(
        &self,
        append: Append<E>,
        assurance: Assurance,
    ) -> Result<Receipt, AppendError> {
        let (answer, receipt) = oneshot::channel();
        self.enqueue(append, Answer::WithReceipt(assurance, answer))?;
        receipt.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Appends an entry and waits until it is durable. Its receipt, under a signed checkpoint, is waited for later.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_promised(&self, append: Append<E>) -> Result<Promise, AppendError> {
        let (answer, promise) = oneshot::channel();
        self.enqueue(append, Answer::WithPromise(answer))?;
        promise.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Appends an entry and waits until it is durable.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_durable(&self, append: Append<E>) -> Result<Durable, AppendError> {
        let (answer, durable) = oneshot::channel();
        self.enqueue(append, Answer::WhenDurable(answer))?;
        durable.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Appends an entry that ends what an earlier one began, and waits until it is durable. It is never told to come
    /// back: there are no more of them than of entries that were let in.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_end(&self, append: Append<E>) -> Result<Durable, AppendError> {
        let (answer, durable) = oneshot::channel();
        let sent = self.queue.send(queued(append, Answer::WhenDurable(answer))).await;
        sent.map_err(|_| self.stopped())?;
        durable.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// The newest signed checkpoint; nothing before the first entry.
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.shared.state().latest.clone()
    }

    /// Since when too few witnesses have cosigned; nothing if enough did when they were asked last, or if nobody's
    /// cosignature is wanted.
    pub fn witnesses_away_since(&self) -> Option<Timestamp> {
        self.shared.state().away
    }

    /// The key that verifies the log's checkpoints; its name is the log's origin.
    pub fn key(&self) -> &VerifierKey {
        &self.shared.key
    }

    /// Takes no more drafts. What is queued is still done; then the driver ends.
    pub fn close(&self) {
        self.queue.close();
    }

    fn enqueue(&self, append: Append<E>, answer: Answer) -> Result<(), AppendError> {
        self.queue.try_send(queued(append, answer)).map_err(|error| match error {
            TrySendError::Full(_) => AppendError::Full { retry_after: RETRY_AFTER },
            TrySendError::Closed(_) => self.stopped(),
        })
    }

    fn stopped(&self) -> AppendError {
        let reason = self.shared.state().stopped.clone();
        AppendError::Stopped(reason.unwrap_or_else(|| "the log has been closed".to_owned()))
    }
}

fn queued<E>(append: Append<E>, answer: Answer) -> Queued<E> {
    Queued { draft: append.draft, effects: append.effects.into(), blobs: append.blobs.into(), answer }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an entry was not appended, or has no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much is waiting. Nothing was appended.
    #[error("the log is busy; try again in {} ms", retry_after.as_millis())]
    Full {
        /// When to come back.
        retry_after: Duration,
    },
    /// The draft makes no entry. Nothing was appended.
    #[error("{0}")]
    Malformed(String),
    /// Something that must become durable with the entry is not possible. Nothing was appended.
    #[error("{0}")]
    Refused(String),
    /// The clock is behind the last entry. Nothing was appended.
    #[error("the clock says {now}, which is before the last entry of the log ({last}); set the clock right")]
    ClockBehind {
        /// What the clock says.
        now: Timestamp,
        /// What the log says.
        last: Timestamp,
    },
    /// The store does not answer. Nothing was appended.
    #[error("{0}")]
    Unavailable(String),
    /// The entry is durable, but the log key could not sign now, so there is no receipt.
    #[error("the log key cannot sign: {why}")]
    Unsigned {
        /// The index of the entry.
        index: u64,
        /// Why.
        why: String,
    },
    /// The entry is durable and signed, but too few witnesses have cosigned it, so there is no receipt.
    #[error("{why}")]
    Unwitnessed {
        /// The index of the entry.
        index: u64,
        /// Why.
        why: String,
    },
    /// The sequencer has stopped. The entry may be durable or not.
    #[error("the log has stopped: {0}")]
    Stopped(String),
}

/// Why a log cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored is not what was signed: somebody changed it.
    #[error("the log {origin} is not what it was: {what}")]
    Tampered {
        /// The log.
        origin: String,
        /// What is wrong with it.
        what: String,
    },
    /// The log key cannot sign.
    #[error("the log key of {origin} cannot sign: {error}")]
    Unsigned {
        /// The log.
        origin: String,
        /// Why.
        error: String,
    },
}

/// Why the sequencer stopped. The program must open the log anew, or stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The store, or a bug.
    #[error("{0}")]
    Failed(String),
    /// A witness has seen another history of this log. Nothing may be issued until people have looked.
    #[error("{0}")]
    Alarm(String),
}

/// Drives a log until it is closed. Spawn it; the log does nothing without it.
pub type Driver = BoxFuture<'static, Result<(), Fatal>>;

/// Opens a log: restores its tree, compares it with what was signed last, and signs its head.
///
/// # Errors
/// See [`OpenError`].
pub async fn open<E: Send + Sync + 'static>(
    store: Arc<dyn LogStore<E>>,
    signer: Arc<dyn CheckpointSigner>,
    clock: Arc<dyn Clock>,
    limits: Limits,
) -> Result<(Log<E>, Driver), OpenError> {
    open_witnessed(store, signer, None, clock, limits).await
}

/// Opens a log whose checkpoints are cosigned. Its head is shown to the witnesses before anything is appended: one that
/// has seen more of the log, or something else, knows that it went back.
///
/// # Errors
/// See [`OpenError`].
pub async fn open_witnessed<E: Send + Sync + 'static>(
    store: Arc<dyn LogStore<E>>,
    signer: Arc<dyn CheckpointSigner>,
    cosigner: Option<Arc<dyn Cosigner>>,
    clock: Arc<dyn Clock>,
    limits: Limits,
) -> Result<(Log<E>, Driver), OpenError> {
    let key = signer.key().clone();
    let origin = key.name().to_string();
    let head = store.head().await?;
    let tree = restore(&*store, head.size).await?;
    let tampered = |what: String| OpenError::Tampered { origin: origin.clone(), what };
    if tree.root() != head.root {
        return Err(tampered(format!(
            "its entries lead to the root {} and not to {}, which stands in its head",
            tree.root(),
            head.root
        )));
    }
    if let Some(note) = store.kept_checkpoint().await? {
        let kept = Checkpoint::open(&note, &key)
            .map_err(|error| tampered(format!("its last checkpoint does not verify: {error}")))?;
        if kept.size > head.size {
            return Err(tampered(format!(
                "a checkpoint was signed at size {}, but the log has size {}",
                kept.size, head.size
            )));
        }
        // What was signed is still the beginning of what is stored, or the log has been rewritten.
        let beginning = restore(&*store, kept.size).await?.root();
        if beginning != kept.root {
            return Err(tampered(format!(
                "a checkpoint was signed at size {} with root {}, but its entries now lead to the root {beginning}",
                kept.size, kept.root
            )));
        }
    }
    let latest = match head.size {
        0 => None,
        size => {
            let checkpoint = Checkpoint { origin: key.name().clone(), size, root: head.root };
            let signed = SignedCheckpoint::sign(checkpoint, &*signer).await;
            Some(signed.map_err(|error| OpenError::Unsigned { origin: origin.clone(), error: error.0 })?)
        }
    };
    let mut away = None;
    if let (Some(cosigner), Some(latest)) = (&cosigner, &latest) {
        // Witnesses that do not answer now may later; entries that need them wait for that. None is passed over because
        // others were enough: what the slowest knows may be why we must not go on.
        match cosigner.cosign(latest, store.clone(), Wait::ForAll).await {
            Ok(_) => {}
            Err(NotCosigned::Alarm(what)) => return Err(tampered(what)),
            Err(NotCosigned::TooFew(_) | NotCosigned::Store(_)) => away = Some(clock.now()),
        }
    }
    let shared = Arc::new(Shared {
        key,
        state: Mutex::new(State {
            tree,
            pending: Vec::new(),
            with_witnesses: false,
            away,
            latest: latest.clone(),
            unkept: latest,
            stopped: None,
        }),
    });
    let (queue, drafts) = async_channel::bounded(limits.queue);
    let (grown, to_sign) = async_channel::bounded(1);
    let wake = grown.downgrade();
    let appender = Appender {
        origin: serde_json::Value::from(shared.key.name().as_str()).to_string(),
        store: store.clone(),
        clock,
        drafts,
        batch: limits.batch,
        grown,
        shared: shared.clone(),
        head,
    };
    let (to_herald, rounds) = async_channel::bounded(1);
    let herald = cosigner.map(|cosigner| Herald {
        clock: appender.clock.clone(),
        cosigner,
        reader: store.clone(),
        rounds,
        again: wake.clone(),
        shared: shared.clone(),
    });
    let to_herald = herald.is_some().then_some(to_herald);
    let notary = Notary { signer, to_sign, to_herald, shared: shared.clone() };
    let driver = drive(appender, notary, herald, store, shared.clone());
    Ok((Log { queue, grown: wake, shared }, Box::pin(driver)))
}

async fn drive<E: Send + Sync + 'static>(
    appender: Appender<E>,
    notary: Notary,
    herald: Option<Herald<E>>,
    store: Arc<dyn LogStore<E>>,
    shared: Arc<Shared>,
) -> Result<(), Fatal> {
    let drafts = appender.drafts.clone();
    let cosigning = async {
        let cosigned = match herald {
            Some(herald) => herald.run().await,
            None => Ok(()),
        };
        if cosigned.is_err() {
            // Nothing more is taken; what waits is told why.
            drafts.close();
        }
        cosigned
    };
    let (appended, signed, cosigned) = futures::join!(appender.run(), notary.run(), cosigning);
    let result = appended.and(signed).and(cosigned);
    drafts.close();
    let (unkept, pending) = {
        let mut state = shared.state();
        state.stopped.get_or_insert_with(|| match &result {
            Ok(()) => "it has been closed".to_owned(),
            Err(fatal) => fatal.to_string(),
        });
        (state.unkept.take(), std::mem::take(&mut state.pending))
    };
    // Dropping what waits tells the callers that the log has stopped.
    drop(pending);
    while drafts.try_recv().is_ok() {}
    if let (Ok(()), Some(checkpoint)) = (&result, unkept) {
        store.keep_checkpoint(&checkpoint).await.map_err(|error| Fatal::Failed(error.to_string()))?;
    }
    result
}

/// ① to ③: takes drafts, stamps them, makes them durable.
struct Appender<E> {
    /// The origin as a JSON string.
    origin: String,
    store: Arc<dyn LogStore<E>>,
    clock: Arc<dyn Clock>,
    drafts: Receiver<Queued<E>>,
    batch: usize,
    /// Wakes the notary. It is dropped with us, which ends the notary when everything is signed.
    grown: Sender<()>,
    shared: Arc<Shared>,
    head: Head,
}

/// A batch that is stamped and not durable.
struct Stamped<E> {
    head: Head,
    tree: GrowingTree,
    time: Timestamp,
    entries: Vec<Entry<E>>,
}

impl<E: Send + Sync + 'static> Appender<E> {
    async fn run(mut self) -> Result<(), Fatal> {
        while let Ok(first) = self.drafts.recv().await {
            let mut taken = vec![first];
            while taken.len() < self.batch {
                match self.drafts.try_recv() {
                    Ok(next) => taken.push(next),
                    Err(_) => break,
                }
            }
            self.append(taken).await?;
        }
        Ok(())
    }

    /// Makes drafts durable, or tells each why not.
    async fn append(&mut self, mut taken: Vec<Queued<E>>) -> Result<(), Fatal> {
        while !taken.is_empty() {
            let stamped = match self.stamp(&mut taken) {
                Some(stamped) => stamped,
                None => return Ok(()),
            };
            match self.commit(&stamped).await {
                Ok(()) => {
                    self.publish(stamped, taken);
                    return Ok(());
                }
                // One entry's effect is impossible: the others go on without it.
                Err(CommitError::Refused { entry, reason }) if entry < taken.len() => {
                    taken.remove(entry).answer.refuse(AppendError::Refused(reason));
                }
                Err(CommitError::Refused { reason, .. }) => {
                    return Err(Fatal::Failed(format!(
                        "the store refused an entry that is not in the batch: {reason}"
                    )));
                }
                // Another process was faster: its entries come first, and ours are stamped again.
                Err(CommitError::Lost) => self.reload().await?,
                Err(error @ CommitError::Unavailable(_)) => {
                    for queued in taken.drain(..) {
                        queued.answer.refuse(AppendError::Unavailable(error.to_string()));
                    }
                }
                Err(error @ CommitError::Unknown(_)) => return Err(Fatal::Failed(error.to_string())),
            }
        }
        Ok(())
    }

    /// Stamps drafts with index, time and sequence. Those that make no entry are told so and left out.
    fn stamp(&self, taken: &mut Vec<Queued<E>>) -> Option<Stamped<E>> {
        let now = self.clock.now();
        let time = Timestamp::from_second(now.as_second()).unwrap_or(now);
        if let Some(last) = self.head.time.filter(|last| time < *last) {
            for queued in taken.drain(..) {
                queued.answer.refuse(AppendError::ClockBehind { now: time, last });
            }
            return None;
        }
        let mut head = self.head.clone();
        head.time = Some(time);
        let mut tree = self.shared.state().tree.clone();
        let mut entries = Vec::with_capacity(taken.len());
        let mut position = 0;
        while position < taken.len() {
            let draft = &taken[position].draft;
            let sequence = draft.key().map(|key| head.sequences.get(&key).map_or(1, |last| last + 1));
            let leaf = draft.stamp(&self.origin, head.size, time, sequence);
            if leaf.len() > MAX_ENTRY {
                let error = AppendError::Malformed(LeafError::TooLong(leaf.len()).to_string());
                taken.remove(position).answer.refuse(error);
                continue;
            }
            if let (Some(key), Some(sequence)) = (draft.key(), sequence) {
                head.sequences.insert(key, sequence);
            }
            tree.push(leaf_hash(&leaf));
            head.size += 1;
            let queued = &taken[position];
            entries.push(Entry {
                leaf: leaf.into(),
                effects: queued.effects.clone(),
                blobs: queued.blobs.clone(),
            });
            position += 1;
        }
        if entries.is_empty() {
            return None;
        }
        head.root = tree.root();
        Some(Stamped { head, tree, time, entries })
    }

    async fn commit(&self, stamped: &Stamped<E>) -> Result<(), CommitError> {
        let checkpoint = self.shared.state().unkept.clone();
        let batch = Batch {
            expected: self.head.clone(),
            head: stamped.head.clone(),
            entries: stamped.entries.clone(),
            full_tiles: stamped.tree.full_tiles_since(self.head.size).collect(),
            checkpoint: checkpoint.clone(),
        };
        self.store.commit(batch).await?;
        let mut state = self.shared.state();
        if state.unkept == checkpoint {
            state.unkept = None;
        }
        Ok(())
    }

    /// The batch is durable: answers whoever waited for that, and hands the rest to the notary.
    fn publish(&mut self, stamped: Stamped<E>, taken: Vec<Queued<E>>) {
        let first = self.head.size;
        self.head = stamped.head;
        let mut state = self.shared.state();
        state.tree = stamped.tree;
        for ((index, entry), queued) in (first..).zip(stamped.entries).zip(taken) {
            match queued.answer {
                Answer::WhenDurable(answer) => {
                    drop(answer.send(Ok(Durable { index, time: stamped.time })));
                }
                Answer::WithPromise(promised) => {
                    let (answer, receipt) = oneshot::channel();
                    let (time, leaf, assurance) = (stamped.time, entry.leaf.clone(), Assurance::Signed);
                    state.pending.push(Pending { index, time, leaf, assurance, answer });
                    drop(promised.send(Ok(Promise { index, leaf: entry.leaf, receipt })));
                }
                Answer::WithReceipt(assurance, answer) => {
                    let time = stamped.time;
                    state.pending.push(Pending { index, time, leaf: entry.leaf, assurance, answer });
                }
            }
        }
        drop(state);
        // Full means that the notary has been woken already and not looked yet.
        let _ = self.grown.try_send(());
    }

    async fn reload(&mut self) -> Result<(), Fatal> {
        let fatal = |error: StoreError| {
            Fatal::Failed(format!("cannot follow the log after another process appended: {error}"))
        };
        let head = self.store.head().await.map_err(fatal)?;
        let tree = restore(&*self.store, head.size).await.map_err(fatal)?;
        if tree.root() != head.root || head.size <= self.head.size {
            return Err(Fatal::Failed("the log went back or changed under us".to_owned()));
        }
        // Receipts of ours that are still pending were to be made from the tree that goes.
        let mut state = self.shared.state();
        if !state.pending.is_empty() {
            for pending in state.pending.drain(..) {
                let reason = "another process has appended; the entry is durable, ask again".to_owned();
                let index = pending.index;
                drop(pending.answer.send(Err(AppendError::Unsigned { index, why: reason })));
            }
        }
        state.tree = tree;
        drop(state);
        self.head = head;
        Ok(())
    }
}

/// Restores the right edge of a tree of `size` leaves from its entries and full tiles.
async fn restore<R: LogReader + ?Sized>(reader: &R, size: u64) -> Result<GrowingTree, StoreError> {
    let width = TILE_WIDTH as u64;
    let mut edge: Vec<Vec<Hash>> = Vec::new();
    for level in 0..GrowingTree::levels(size) {
        let wanted = partial_width(size, level) as u64;
        let hashes = if level == 0 {
            let entries = reader.entries(size - wanted..size).await?;
            entries.iter().map(|entry| leaf_hash(entry)).collect()
        } else {
            let first = (size >> (8 * (level + 1))) * width;
            let mut roots = Vec::new();
            for index in first..first + wanted {
                let tile = reader.full_tile(level - 1, index).await?;
                let root = tile_root(&tile).ok_or_else(|| {
                    StoreError::Damaged(format!(
                        "tile {index} of level {} has {} hashes",
                        level - 1,
                        tile.len()
                    ))
                })?;
                roots.push(root);
            }
            roots
        };
        edge.push(hashes);
    }
    GrowingTree::from_edge(size, &edge).map_err(|error| StoreError::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
