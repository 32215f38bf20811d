//! Transcripts: the one that is being written, and others that are read.

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use undercroft_ca::approval::Approved;
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::gated::Signing;
use undercroft_ca::issuance::{Issued, Prepared, abandoned, issue};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::store::Effect;
use undercroft_ca::transcript::Standing;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Failure, write_file};
use undercroft_keymgr::SigningKey;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Body, Ceremony, CeremonyEvent, CeremonyStep, Digest, Draft, Leaf, TranscriptHead,
};
use undercroft_log::note::{KeyName, VerifierKey};
use undercroft_log::sequencer::{self, Append, Driver, Limits, Log};
use undercroft_log::store::{LogReader as _, LogStore};
use undercroft_log::tree::{GrowingTree, leaf_hash};
use undercroft_log_files::{Folder, FolderStore};

/// The transcript of this ceremony.
pub(crate) struct Transcript {
    log: Log<Effect>,
    plan: Digest,
}

impl Transcript {
    /// Opens the transcript in a folder, a new one or one that was begun, and reads what stands in it. The driver is to be
    /// polled beside everything else.
    pub(crate) async fn open(
        folder: &Path,
        key: LogKey,
        plan: Digest,
    ) -> Result<(Self, Standing, Driver), Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::unreachable(format!("the transcript: {error}"));
        let store = Arc::new(FolderStore::open(folder).map_err(|error| wrong(&error))?);
        let verifier = key.verifier().to_string();
        let (log, driver) =
            sequencer::open(store.clone(), Arc::new(key), Arc::new(SystemClock), Limits::default()).await?;
        // Beside the transcript from the first, so that one that ends early can be verified, too.
        write_file(&folder.join("log.vkey"), format!("{verifier}\n").as_bytes())?;
        Ok((Self { log, plan }, standing_in(&store).await?, driver))
    }

    pub(crate) fn close(&self) {
        self.log.close();
    }

    /// Says something in words.
    pub(crate) async fn tell(&self, event: CeremonyEvent, text: impl Into<String>) -> Result<(), Failure> {
        self.append(Body::Ceremony(Ceremony::told(event, self.plan, text)), Vec::new()).await.map(drop)
    }

    /// Says something, and gives the checkpoint over everything up to it.
    pub(crate) async fn tell_last(&self, event: CeremonyEvent, text: &str) -> Result<Checkpoint, Failure> {
        self.append(Body::Ceremony(Ceremony::told(event, self.plan, text)), Vec::new()).await
    }

    pub(crate) async fn step(
        &self,
        event: CeremonyEvent,
        step: CeremonyStep,
        text: impl Into<String>,
    ) -> Result<(), Failure> {
        let body = Ceremony { step: Some(step), ..Ceremony::told(event, self.plan, text) };
        self.append(Body::Ceremony(body), Vec::new()).await.map(drop)
    }

    /// The text of the checkpoint over the first `size` entries, which nobody may have signed at that size.
    pub(crate) fn text_at(&self, path: &Path, origin: &KeyName, size: u64) -> Result<String, Failure> {
        let wrong = |what: String| Failure::tampered(format!("the transcript {}: {what}", path.display()));
        let stored = self.log.checkpoint().map_or(0, |signed| signed.checkpoint().size);
        let mut tree = GrowingTree::new();
        for bundle in 0..size.div_ceil(256) {
            let entries =
                Folder::new(path).bundle(bundle, stored).map_err(|error| wrong(error.to_string()))?;
            let left = usize::try_from(size - bundle * 256).unwrap_or(usize::MAX);
            entries.iter().take(left).for_each(|entry| tree.push(leaf_hash(entry)));
        }
        Ok(Checkpoint { origin: origin.clone(), size, root: tree.root() }.text())
    }

    /// Records where a key lives, with the evidence.
    pub(crate) async fn custody(&self, record: &CustodyRecord) -> Result<(), Failure> {
        self.append(record.entry.clone(), record.blobs.clone()).await.map(drop)
    }

    pub(crate) async fn approval(&self, approved: &Approved) -> Result<(), Failure> {
        self.append(Body::Approval(approved.entry()), Vec::new()).await.map(drop)
    }

    pub(crate) async fn append(&self, body: Body, blobs: Vec<Vec<u8>>) -> Result<Checkpoint, Failure> {
        let draft = Draft::new(&body).map_err(bug)?;
        let receipt = self.log.append(Append { draft, effects: Vec::new(), blobs }).await.map_err(failed)?;
        Ok(receipt.checkpoint().checkpoint().clone())
    }

    /// The cycle: intent, receipt, signature, outcome.
    pub(crate) async fn sign(&self, prepared: Prepared, key: &dyn SigningKey) -> Result<Issued, Failure> {
        let receipt = self.log.append(prepared.intent()).await.map_err(failed)?;
        let issued = issue(prepared, receipt, Signing::Directly(key)).await.map_err(failed)?;
        self.log.append(issued.outcome().map_err(bug)?).await.map_err(failed)?;
        Ok(issued)
    }

    pub(crate) async fn abandon(&self, intent: u64) -> Result<(), Failure> {
        let why = "the ceremony was interrupted before its signature was in the transcript";
        self.log.append(abandoned(intent, why).map_err(bug)?).await.map_err(failed)?;
        Ok(())
    }
}

/// Where the transcript in a folder stands; an empty one where there is none.
pub(crate) fn standing(folder: &Path) -> Result<Standing, Failure> {
    if !folder.join("head.json").exists() {
        return Ok(Standing::default());
    }
    let store = FolderStore::open(folder)
        .map_err(|error| Failure::unreachable(format!("the transcript: {error}")))?;
    block_on(standing_in(&store))
}

async fn standing_in(store: &FolderStore) -> Result<Standing, Failure> {
    let mut standing = Standing::default();
    let size = LogStore::<Effect>::head(store).await?.size;
    for entry in store.entries(0..size).await? {
        standing.read(&parsed(&entry)?);
    }
    Ok(standing)
}

/// A transcript that was read: of a rehearsal, or of the ceremony before.
pub(crate) struct Read {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) head: TranscriptHead,
    pub(crate) leaves: Vec<Leaf>,
}

impl Read {
    /// Reads a transcript whole: its checkpoint under `key`, or under the key that lies beside it, and every entry against
    /// the checkpoint.
    ///
    /// # Errors
    /// Status 5 where something was changed.
    pub(crate) fn folder(path: &Path, key: Option<VerifierKey>) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::tampered(format!("the transcript {}: {what}", path.display()));
        let key = match key {
            Some(key) => key,
            None => {
                let text = undercroft_cli::read_text(&path.join("log.vkey"))?;
                text.trim().parse().map_err(|error| wrong(format!("log.vkey: {error}")))?
            }
        };
        let folder = Folder::new(path);
        let note = folder.checkpoint().map_err(|error| wrong(error.to_string()))?;
        let note = note.ok_or_else(|| wrong("there is no checkpoint".into()))?;
        let checkpoint = Checkpoint::open(&note, &key).map_err(|error| wrong(error.to_string()))?;
        let (mut tree, mut leaves) = (GrowingTree::new(), Vec::new());
        for bundle in 0..checkpoint.size.div_ceil(256) {
            for entry in folder.bundle(bundle, checkpoint.size).map_err(|error| wrong(error.to_string()))? {
                tree.push(leaf_hash(&entry));
                leaves.push(parsed(&entry)?);
            }
        }
        if tree.root() != checkpoint.root {
            return Err(wrong("its entries are not those of its checkpoint".into()));
        }
        let head = TranscriptHead { verifier_key: key.to_string(), checkpoint: note };
        Ok(Self { checkpoint, head, leaves })
    }

    /// Where it stands.
    pub(crate) fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        self.leaves.iter().for_each(|leaf| standing.read(leaf));
        standing
    }
}

fn parsed(entry: &[u8]) -> Result<Leaf, Failure> {
    Leaf::parse(entry).map_err(|error| Failure::tampered(format!("the transcript: {error}")))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{error}. The transcript tells which steps are done; run again to go on"))
}

fn bug(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{error}; this is a bug"))
}
