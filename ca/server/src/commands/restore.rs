//! `undercroft restore`: a backup into an empty database. What it is worth is said by those who remember more.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::json;
use undercroft_ca::freeze::Freezes;
use undercroft_ca::store::{Effect, Facts as _};
use undercroft_cli::{Failure, StrictArgs, Terminal, read_text};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Digest, Freezable, Leaf};
use undercroft_log::note::VerifierKey;
use undercroft_log::store::{LogReader as _, LogStore as _};
use undercroft_log::tree::{GrowingTree, TILE_WIDTH, leaf_hash};

use super::backup::finished;
use super::client::block_on;
use crate::backup::{COPY, CopyOf, LogOf, MANIFEST, Manifest};
use crate::config::Config;
use crate::http::Http;
use crate::keepers::Keeper;
use crate::serve::log_key;
use crate::store::{Database, SqliteLog};
use crate::witnesses::size_seen;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// The folder of the backup.
    #[arg(long)]
    from: PathBuf,
    /// The daemon's configuration.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: PathBuf,
    /// Verify everything and ask who remembers more, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Restore it although somebody remembers more; the rest must then be put back with `undercroft recover refill`.
    #[arg(long)]
    behind: bool,
    #[command(flatten)]
    strict: StrictArgs,
}

/// What somebody remembers of a log.
struct Memory {
    origin: String,
    who: String,
    told: Told,
}

enum Told {
    /// Nothing more than the backup has.
    Agrees(String),
    /// More, or something else.
    Disagrees(String),
    /// It did not answer.
    Silent(String),
}

impl RestoreArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        block_on(self.restore(terminal))
    }

    async fn restore(&self, terminal: &Terminal) -> Result<(), Failure> {
        let manifest_at = self.from.join(MANIFEST);
        let manifest = Manifest::parse(&read_text(&manifest_at)?)
            .map_err(|error| Failure::usage(format!("{}: {error}", manifest_at.display())))?;
        let copy = manifest.copy.clone().ok_or_else(|| {
            Failure::usage(format!("{} names no copy: the backup was not finished", manifest_at.display()))
        })?;
        let config =
            Config::read(&self.config, self.strict.secrecy(), crate::backends(self.strict.secrecy()))?;
        let keys = is_of_this_installation(&config, &manifest).await?;
        let place = config.database.clone();
        let target = is_empty(&place, &manifest, self.dry_run).await?;
        // Beside its place, so that it is renamed and not copied again.
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = tempfile::Builder::new().prefix(".restore-").tempdir_in(folder);
        let beside = beside
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", folder.display())))?;
        let restored = beside.path().join(COPY);
        receive(&self.from.join(COPY), &restored, &copy, terminal)?;
        let database = Database::open(&restored).await?;
        let checked = self.check(&database, &manifest, &keys, &config, terminal).await;
        database.close().await;
        drop(database);
        let memories = checked?;
        let behind = memories.iter().any(|memory| matches!(memory.told, Told::Disagrees(_)));
        let writes = !self.dry_run && (!behind || self.behind);
        if let Some(target) = target {
            // Its lock is held until the other file is in its place.
            target.close().await;
            if writes {
                put(&restored, &place)?;
            }
            drop(target);
        }
        tell(&manifest, &memories, behind, writes, terminal)?;
        match behind && !self.behind {
            true => Err(Failure::tampered(
                "somebody remembers more than the backup has, and nothing was written; restore a newer one, or give --behind and put the rest back from a mirror with `undercroft recover refill`",
            )),
            false => Ok(()),
        }
    }

    /// Whether the copy holds what its manifest says; and what others remember of its logs.
    async fn check(
        &self,
        database: &Database,
        manifest: &Manifest,
        keys: &[VerifierKey],
        config: &Config,
        terminal: &Terminal,
    ) -> Result<Vec<Memory>, Failure> {
        let logs = database.logs().await?;
        if logs.len() != manifest.logs.len() {
            return Err(changed(format!(
                "it holds {} logs, and its manifest {}",
                logs.len(),
                manifest.logs.len()
            )));
        }
        let progress = terminal.progress(logs.iter().map(|(_, head)| head.size).sum(), "verifying");
        let mut frozen = Vec::new();
        for log in &manifest.logs {
            let store = database.log(&log.origin).await?;
            let key = keys.iter().find(|key| key.name().as_str() == log.origin);
            verify(&store, log, key, &mut frozen, |entries| progress.advance(entries)).await?;
        }
        drop(progress);
        let stored = Freezes::from_entries(&database.freezes().await?)?;
        let mut stored: Vec<_> = stored.list().into_iter().map(|frozen| frozen.what).collect();
        stored.sort();
        frozen.sort();
        if stored != frozen {
            return Err(changed("what is frozen in it is not what its log says".to_owned()));
        }
        self.ask(database, manifest, keys, config, terminal).await
    }

    /// Asks everybody who can be reached, and says it before anything is written.
    async fn ask(
        &self,
        database: &Database,
        manifest: &Manifest,
        keys: &[VerifierKey],
        config: &Config,
        terminal: &Terminal,
    ) -> Result<Vec<Memory>, Failure> {
        let http = Http::new()?;
        let mut memories = Vec::new();
        for (domain, key) in config.domains.iter().zip(keys) {
            let origin = domain.origin.as_str();
            let Some(log) = manifest.log(origin) else { continue };
            let store = database.log(origin).await?;
            for hardware in &domain.hardware {
                let opened = Keeper::open(hardware, &config.tokens, key, &store, database).await;
                let told = match opened {
                    Ok(_) => Told::Agrees("remembers nothing newer".to_owned()),
                    Err(failure) if failure.status() == undercroft_cli::ExitStatus::Tampered => {
                        Told::Disagrees(failure.to_string())
                    }
                    Err(failure) => Told::Silent(failure.to_string()),
                };
                let who = format!("device `{}`", hardware.device());
                memories.push(Memory { origin: origin.to_owned(), who, told });
            }
            let Some(note) = &log.checkpoint else { continue };
            let witnesses = config.witnesses.iter().flat_map(|policy| policy.witnesses());
            let witnesses = witnesses
                .filter_map(|witness| Some((format!("witness `{}`", witness.name), witness.url.clone()?)));
            let gates = domain.authorities.iter().flat_map(|authority| &authority.gates);
            let gates = gates.map(|gate| (format!("gate `{}`", gate.name), gate.url.clone()));
            for (who, url) in witnesses.chain(gates) {
                let told = match size_seen(&http, &url, note).await {
                    Ok(seen) if seen > log.head.size => Told::Disagrees(format!(
                        "has seen {seen} entries, and the backup has {}",
                        log.head.size
                    )),
                    Ok(seen) => Told::Agrees(format!("has seen {seen} entries of {}", log.head.size)),
                    Err(why) => Told::Silent(why),
                };
                memories.push(Memory { origin: origin.to_owned(), who, told });
            }
        }
        for memory in &memories {
            let (word, what) = memory.told.words();
            terminal.say(format!("{word}: {} of {}: {what}", memory.who, memory.origin))?;
        }
        Ok(memories)
    }
}

impl Told {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Agrees(what) => ("agrees", what),
            Self::Disagrees(what) => ("DISAGREES", what),
            Self::Silent(what) => ("not reached", what),
        }
    }
}

fn changed(what: String) -> Failure {
    Failure::tampered(format!("the backup's copy was changed: {what}; take another backup"))
}

/// The keys of the configuration's logs, if they are those of the manifest's.
async fn is_of_this_installation(config: &Config, manifest: &Manifest) -> Result<Vec<VerifierKey>, Failure> {
    let other = |what: String| {
        Failure::usage(format!("the backup is of another installation: {what}. Nothing was written"))
    };
    let mut keys = Vec::new();
    for domain in &config.domains {
        let key = log_key(config, domain).await?.verifier().clone();
        let log = manifest.log(domain.origin.as_str());
        let log = log.ok_or_else(|| other(format!("it has no log {}", domain.origin)))?;
        if log.key.as_deref() != Some(&key.to_string()) {
            return Err(other(format!("its log {} has another key than this one ({key})", domain.origin)));
        }
        keys.push(key);
    }
    let is_known = |log: &&LogOf| config.domains.iter().any(|domain| domain.origin.as_str() == log.origin);
    match manifest.logs.iter().find(|log| log.key.is_some() && !is_known(log)) {
        Some(log) => Err(other(format!("its log {} is none of the configuration", log.origin))),
        None => Ok(keys),
    }
}

/// The database that is to be replaced, if it holds nothing. A state that is there is never overwritten.
async fn is_empty(place: &Path, manifest: &Manifest, dry_run: bool) -> Result<Option<Database>, Failure> {
    if dry_run && !place.exists() {
        return Ok(None);
    }
    let database = Database::open(place).await?;
    let backed_up = |origin: &str| manifest.log(origin).map_or(0, |log| log.head.size);
    let mut logs: Vec<_> = database.logs().await?.into_iter().filter(|(_, head)| head.size > 0).collect();
    // The one that has grown most since tells most.
    logs.sort_by_key(|(origin, head)| head.size.saturating_sub(backed_up(origin)));
    let Some((origin, head)) = logs.pop() else {
        return Ok(Some(database));
    };
    database.close().await;
    let backed_up = backed_up(&origin);
    let newer = if head.size > backed_up { ", which is newer" } else { "" };
    Err(Failure::refused(format!(
        "{} holds {} entries of {origin}{newer}, and the backup {backed_up}: a state is never overwritten. If it is to be given up, move its files away",
        place.display(),
        head.size
    )))
}

/// Copies the file, and compares what was copied with the manifest.
fn receive(from: &Path, to: &Path, copy: &CopyOf, terminal: &Terminal) -> Result<(), Failure> {
    let mut source = File::open(from).map_err(|error| {
        Failure::tampered(format!("{}: the backup is not whole: {error}", from.display()))
    })?;
    let failed =
        |error: std::io::Error| Failure::failed(format!("{} cannot be written: {error}", to.display()));
    let mut file = File::create_new(to).map_err(failed)?;
    let progress = terminal.progress(copy.length, "restore");
    let (mut digest, mut length, mut buffer) = (Context::new(&SHA256), 0, vec![0; 256 * 1024]);
    loop {
        let read = source.read(&mut buffer);
        let read = read.map_err(|error| Failure::failed(format!("{}: {error}", from.display())))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(failed)?;
        digest.update(&buffer[..read]);
        length += read as u64;
        progress.advance(read as u64);
    }
    let sha256: Digest = finished(digest);
    if (length, sha256) != (copy.length, copy.sha256) {
        return Err(changed(format!(
            "{} has {length} bytes with the digest {sha256}, and its manifest says {} and {}",
            from.display(),
            copy.length,
            copy.sha256
        )));
    }
    file.sync_all().map_err(failed)
}

/// Whether a log in the copy is what the manifest says: size, head, and the signed checkpoint that it reaches. Adds what
/// its entries leave frozen.
async fn verify(
    store: &SqliteLog,
    log: &LogOf,
    key: Option<&VerifierKey>,
    frozen: &mut Vec<Freezable>,
    mut advance: impl FnMut(u64),
) -> Result<(), Failure> {
    let origin = &log.origin;
    let head = store.head().await?;
    if (head.size, head.root) != (log.head.size, log.head.root) {
        return Err(changed(format!(
            "{origin} has {} entries in it, and {} in its manifest",
            head.size, log.head.size
        )));
    }
    let signed = match (key, &log.checkpoint) {
        (Some(key), Some(note)) => {
            let signed =
                Checkpoint::open(note, key).map_err(|error| changed(format!("{origin}: {error}")))?;
            if signed.size > head.size {
                return Err(changed(format!(
                    "{origin} is signed at {} entries, and {} are there",
                    signed.size, head.size
                )));
            }
            Some(signed)
        }
        (Some(_), None) if head.size > 0 => {
            return Err(changed(format!("{origin} has no signed checkpoint")));
        }
        _ => None,
    };
    let mut tree = GrowingTree::new();
    while tree.size() < head.size {
        let entries = store.entries(tree.size()..head.size.min(tree.size() + TILE_WIDTH as u64)).await?;
        advance(entries.len() as u64);
        for entry in entries {
            if signed.as_ref().is_some_and(|signed| signed.size == tree.size() && signed.root != tree.root())
            {
                return Err(changed(format!(
                    "{origin}: its first {} entries are not those that were signed",
                    tree.size()
                )));
            }
            tree.push(leaf_hash(&entry));
            let leaf = Leaf::parse(&entry).map_err(|error| changed(format!("{origin}: {error}")))?;
            for effect in undercroft_ca::recovery::effects_of(&leaf) {
                match effect {
                    Effect::Frozen { what } => frozen.push(what),
                    Effect::Unfrozen { what } => frozen.retain(|other| *other != what),
                    _ => {}
                }
            }
        }
    }
    if tree.root() != head.root {
        return Err(changed(format!("{origin}: its entries do not lead to its head")));
    }
    match signed {
        Some(signed) if signed.size == head.size && signed.root != head.root => {
            Err(changed(format!("{origin}: its entries are not those that were signed")))
        }
        _ => Ok(()),
    }
}

/// Renames the copy to its place. What an empty database has left beside it goes.
fn put(restored: &Path, place: &Path) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("{} cannot be written: {error}", place.display()));
    for suffix in ["-wal", "-shm"] {
        let mut beside = place.as_os_str().to_owned();
        beside.push(suffix);
        match std::fs::remove_file(&beside) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    File::open(restored).and_then(|file| file.sync_all()).map_err(failed)?;
    std::fs::rename(restored, place).map_err(failed)?;
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn tell(
    manifest: &Manifest,
    memories: &[Memory],
    behind: bool,
    written: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let told = memories.iter().map(|memory| {
        let (word, what) = memory.told.words();
        json!({ "log": memory.origin, "who": memory.who, "answer": word.to_lowercase(), "told": what })
    });
    let value = json!({
        "restored": written,
        "made": manifest.made.to_string(),
        "behind": behind,
        "memories": told.collect::<Vec<_>>(),
    });
    terminal.result(&value, || {
        let done = match written {
            true => "restored",
            false => "the backup is sound; nothing was written",
        };
        let way_on = match behind {
            true => "\nSomebody remembers more than the backup has, and the daemon does not start with it before the rest is put back from a mirror with `undercroft recover refill`.",
            false => "\nNobody who was reached remembers more. The daemon's start asks all of them again.",
        };
        format!("{done}: the state of {}{way_on}\n", manifest.made)
    })
}
