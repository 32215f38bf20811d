//! `undercroft recover`: what to do when entries of a log are lost (`docs/recovery.md`). The daemon is stopped; nothing
//! but the configuration, the tokens and files is needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use undercroft_ca::log_key::LogKey;
use undercroft_ca::recovery::{Statement, effects_of, next_epoch};
use undercroft_ca::serial::Entropy as _;
use undercroft_ca::store::Effect;
use undercroft_ca::time::Lifetime;
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_cli::{Failure, StrictArgs, Terminal, read_text, write_file};
use undercroft_log::Clock as _;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Draft, Epoch, Leaf, LogHead, Recovery, RecoveryWay};
use undercroft_log::note::VerifierKey;
use undercroft_log::sequencer::{self, Append, Limits};
use undercroft_log::store::{Batch, Entry, Head, LogStore};
use undercroft_log::tree::{GrowingTree, TILE_WIDTH, leaf_hash};
use undercroft_log_files::Folder;

use super::client::block_on;
use super::compromise::{CompromiseArgs, PlanArgs};
use crate::config::{Config, Domain};
use crate::serve::log_key;
use crate::store::{Database, SqliteLog};

/// Commands about lost entries.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RecoverCommand {
    /// Put lost entries back from a mirror or an export, byte for byte.
    Refill {
        #[command(flatten)]
        log: LogArgs,
        /// The folder with the mirror.
        #[arg(long)]
        from: PathBuf,
    },
    /// Write the statement that the quorum signs so that a log goes on under another origin.
    Statement {
        #[command(flatten)]
        log: LogArgs,
        /// The newest checkpoint of the log that anybody has: a witness's, or a certificate's proof.
        #[arg(long)]
        newest: PathBuf,
        /// Why.
        #[arg(long)]
        reason: String,
        /// How long the statement may be carried out.
        #[arg(long, default_value = "24h")]
        expires: Lifetime,
        /// The file that it is written to.
        #[arg(long)]
        out: PathBuf,
    },
    /// Carry a signed statement out: begin the log's next epoch.
    NewEpoch {
        #[command(flatten)]
        log: LogArgs,
        /// The statement.
        #[arg(long)]
        statement: PathBuf,
        /// A signature over it (`ssh-keygen -Y sign -n undercroft-approval-v1`); one for each person.
        #[arg(long = "approval", required = true)]
        approvals: Vec<PathBuf>,
        /// Verify everything, and begin nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the plan of a recovery from a compromise, and the statement that the quorum signs. The daemon runs.
    Plan(PlanArgs),
    /// Carry a plan out that the quorum has approved, as far as it can be now. The daemon runs.
    Compromise(CompromiseArgs),
}

/// Which log it is.
#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    /// The daemon's configuration.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: PathBuf,
    /// The trust domain whose log it is.
    #[arg(long)]
    domain: String,
    #[command(flatten)]
    strict: StrictArgs,
}

impl RecoverCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::Refill { log, from } => {
                block_on(async { refill(&Place::open(&log).await?, &from, terminal).await })
            }
            Self::Statement { log, newest, reason, expires, out } => block_on(async {
                state(&Place::open(&log).await?, &newest, reason, expires, &out, terminal).await
            }),
            Self::NewEpoch { log, statement, approvals, dry_run } => block_on(async {
                begin(&Place::open(&log).await?, &statement, &approvals, dry_run, terminal).await
            }),
            Self::Plan(args) => args.run(terminal),
            Self::Compromise(args) => args.run(terminal),
        }
    }
}

/// A log, and what it takes to write to it.
struct Place {
    config: Config,
    /// Where in the configuration its domain is.
    at: usize,
    database: Database,
    log: SqliteLog,
    key: LogKey,
}

impl Place {
    async fn open(args: &LogArgs) -> Result<Self, Failure> {
        let config =
            Config::read(&args.config, args.strict.secrecy(), crate::backends(args.strict.secrecy()))?;
        let at = config.domains.iter().position(|domain| domain.name.as_str() == args.domain);
        let at = at.ok_or_else(|| Failure::usage(format!("no domain `{}`", args.domain)))?;
        let domain = &config.domains[at];
        // The database's lock says whether a daemon runs.
        let database = Database::open(&config.database).await?;
        let log = database.log(domain.origin.as_str()).await?;
        let key = log_key(&config, domain).await?;
        Ok(Self { config, at, database, log, key })
    }

    fn domain(&self) -> &Domain {
        &self.config.domains[self.at]
    }

    fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// A checkpoint of the log, cosigned by as many witnesses as the configuration wants.
    fn checkpoint(&self, note: &str, from: &Path) -> Result<Checkpoint, Failure> {
        let wrong = |what: String| Failure::tampered(format!("{}: {what}", from.display()));
        let checkpoint = Checkpoint::open(note, self.verifier()).map_err(|error| wrong(error.to_string()))?;
        if let Some(witnesses) = &self.config.witnesses {
            witnesses.open(note).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(checkpoint)
    }
}

/// Appends what the stored log lacks. Everything is compared before anything is written.
async fn refill(place: &Place, from: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let folder = Folder::new(from);
    let wrong = |what: String| Failure::tampered(format!("{}: {what}", from.display()));
    let note = folder.checkpoint().map_err(|error| wrong(error.to_string()))?;
    let note = note.ok_or_else(|| Failure::usage(format!("{} holds no log", from.display())))?;
    let mirrored = place.checkpoint(&note, from)?;
    let stored = place.log.head().await?;
    if mirrored.size <= stored.size {
        return Err(Failure::usage(format!(
            "{} holds {} entries, and {} are stored: there is nothing to put back",
            from.display(),
            mirrored.size,
            stored.size
        )));
    }
    let progress = terminal.progress(2 * mirrored.size, "recover refill");
    let mut tree = GrowingTree::new();
    for entry in entries(&folder, mirrored.size) {
        if tree.size() == stored.size && tree.root() != stored.root {
            return Err(wrong(format!(
                "its first {} entries are not those that are stored: the log has forked, and no refill mends that",
                stored.size
            )));
        }
        tree.push(leaf_hash(&entry?));
        progress.advance(1);
    }
    if tree.root() != mirrored.root {
        return Err(wrong("its entries are not those that its checkpoint covers".to_owned()));
    }
    let mut head = stored.clone();
    let mut tree = GrowingTree::new();
    let mut lost = Vec::new();
    for entry in entries(&folder, mirrored.size) {
        let entry = entry?;
        if tree.size() < stored.size {
            tree.push(leaf_hash(&entry));
        } else {
            lost.push(entry);
        }
        let is_last = tree.size() + lost.len() as u64 == mirrored.size;
        if lost.len() == TILE_WIDTH || (is_last && !lost.is_empty()) {
            let taken = std::mem::take(&mut lost);
            head = put_back(place, &folder, head, &mut tree, taken).await?;
        }
        progress.advance(1);
    }
    drop(progress);
    let statement = format!(
        "{} of {} entries were put back from a mirror whose checkpoint has the root {}\n",
        mirrored.size - stored.size,
        mirrored.size,
        mirrored.root
    );
    let recovery = Recovery { way: RecoveryWay::Refilled, statement, approvals: Vec::new() };
    append(place, &place.key, &place.log, vec![Body::Recovery(recovery)]).await?;
    place.database.close().await;
    let value = json!({ "refilled": mirrored.size - stored.size, "size": mirrored.size });
    terminal.result(&value, || {
        format!(
            "{} entries were put back; {} has {} again, and an entry that says so\n",
            mirrored.size - stored.size,
            place.domain().origin,
            mirrored.size
        )
    })
}

/// The entries of a mirror, one by one.
fn entries(folder: &Folder, size: u64) -> impl Iterator<Item = Result<Vec<u8>, Failure>> {
    (0..size.div_ceil(TILE_WIDTH as u64)).flat_map(move |bundle| match folder.bundle(bundle, size) {
        Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(Failure::tampered(error.to_string()))],
    })
}

/// Commits entries as they are, with what must become durable with them.
async fn put_back(
    place: &Place,
    folder: &Folder,
    expected: Head,
    tree: &mut GrowingTree,
    lost: Vec<Vec<u8>>,
) -> Result<Head, Failure> {
    let mut head = expected.clone();
    let mut batch = Vec::with_capacity(lost.len());
    for entry in lost {
        let leaf = Leaf::parse(&entry).map_err(|error| Failure::tampered(error.to_string()))?;
        if let (Body::Intent(intent), Some(sequence)) = (&leaf.body, leaf.sequence) {
            head.sequences.insert(intent.key_id.0, sequence);
        }
        let mut blobs = Vec::new();
        for (digest, _) in leaf.body.blobs() {
            let blob = folder.blob(digest).map_err(|error| Failure::tampered(error.to_string()))?;
            let missing = || Failure::tampered(format!("the mirror lacks the blob {digest}"));
            blobs.push(blob.ok_or_else(missing)?);
        }
        head.time = Some(leaf.time);
        head.size += 1;
        tree.push(leaf_hash(&entry));
        batch.push(Entry { leaf: entry.into(), effects: effects_of(&leaf).into(), blobs: blobs.into() });
    }
    head.root = tree.root();
    let full_tiles = tree.full_tiles_since(expected.size).collect();
    let batch = Batch { expected, head: head.clone(), entries: batch, full_tiles, checkpoint: None };
    place.log.commit(batch).await.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(head)
}

async fn state(
    place: &Place,
    newest: &Path,
    reason: String,
    expires: Lifetime,
    out: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    // A `.tlog-proof` ends in the checkpoint; a checkpoint alone is one.
    let text = read_text(newest)?;
    let note = match text.split_once("\n\n") {
        Some((head, note)) if head.starts_with("c2sp.org/tlog-proof") => note.to_owned(),
        _ => text,
    };
    place.checkpoint(&note, newest)?;
    let stored = stored(&place.log).await?;
    let mut nonce = [0; 16];
    SystemEntropy.fill(&mut nonce).map_err(|error| Failure::failed(error.to_string()))?;
    let until = SystemClock.now() + expires.0;
    let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
    let statement = Statement::new(place.verifier(), stored, note, reason, until, nonce);
    let text = statement
        .and_then(|statement| statement.text())
        .map_err(|error| Failure::usage(error.to_string()))?;
    write_file(out, text.as_bytes())?;
    terminal.result(&json!({ "statement": out }), || {
        format!(
            "{} is to be signed by the quorum, each with `ssh-keygen -Y sign -f KEY -n {} {}`\n",
            out.display(),
            undercroft_ca::approval::NAMESPACE,
            out.display()
        )
    })
}

async fn begin(
    place: &Place,
    statement: &Path,
    approvals: &[PathBuf],
    dry_run: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let text = read_text(statement)?;
    let parsed = Statement::parse(&text).map_err(|error| Failure::usage(error.to_string()))?;
    let approvals = approvals.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
    let roster = place.config.recovery.as_ref().ok_or_else(|| {
        Failure::usage("the configuration has no [recovery] roster: nobody could approve it")
    })?;
    let who =
        roster.verify(text.as_bytes(), &approvals).map_err(|error| Failure::refused(error.to_string()))?;
    parsed
        .may_be_carried_out(place.verifier(), &stored(&place.log).await?, SystemClock.now())
        .map_err(|error| Failure::refused(error.to_string()))?;
    let origin = next_epoch(place.verifier().name()).map_err(|error| Failure::usage(error.to_string()))?;
    let next = place.database.log(origin.as_str()).await?;
    if next.head().await?.size > 0 {
        return Err(Failure::usage(format!("{origin} has entries already; set the domain's epoch to it")));
    }
    let value = json!({ "origin": origin.to_string(), "approved-by": who, "begun": !dry_run });
    if dry_run {
        return terminal.result(&value, || format!("approved by {}; nothing was begun\n", who.join(", ")));
    }
    let key = place.key.under(origin.clone()).map_err(|error| Failure::usage(error.to_string()))?;
    let epoch = Epoch { previous: parsed.log.clone(), checkpoint: parsed.newest.clone() };
    let recovery = Recovery { way: RecoveryWay::NewEpoch, statement: text, approvals };
    let vkey = key.verifier().to_string();
    append(place, &key, &next, vec![Body::Epoch(epoch), Body::Recovery(recovery)]).await?;
    place.database.close().await;
    terminal.result(&value, || {
        format!(
            "{origin} has begun, approved by {}.\nSet `epoch = {}` in the domain's configuration, give witnesses, gates and auditors its key\n  {vkey}\nand start the daemon.\n",
            who.join(", "),
            origin.as_str().rsplit('/').next().unwrap_or_default(),
        )
    })
}

async fn stored(log: &SqliteLog) -> Result<LogHead, Failure> {
    let head = log.head().await?;
    Ok(LogHead { size: head.size, root: head.root })
}

/// Appends entries to a log that no daemon has open. Witnesses hear of them when one does.
async fn append(place: &Place, key: &LogKey, log: &SqliteLog, bodies: Vec<Body>) -> Result<(), Failure> {
    let store: Arc<dyn LogStore<Effect>> = Arc::new(log.clone());
    let (log, driver) =
        sequencer::open(store, Arc::new(key.clone()), Arc::new(SystemClock), Limits::default()).await?;
    let appending = async {
        for body in bodies {
            let draft = Draft::new(&body).map_err(|error| Failure::failed(error.to_string()))?;
            let appended = log.append(Append::new(draft)).await;
            appended.map_err(|error| Failure::unreachable(format!("{}: {error}", place.domain().origin)))?;
        }
        log.close();
        Ok::<_, Failure>(())
    };
    let (appended, driven) = tokio::join!(appending, driver);
    appended?;
    driven.map_err(|error| Failure::failed(error.to_string()))
}
