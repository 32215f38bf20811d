//! A log that is served somewhere, brought to a folder: as it is served, for an audit of the server, or into a mirror
//! that only ever grows.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use futures::StreamExt as _;
use undercroft_cli::{Failure, Progress, Terminal};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Digest, Leaf};
use undercroft_log::note::VerifierKey;
use undercroft_log::tile::{MAX_ENTRY, TileKind, TilePath, decode_entries};
use undercroft_log::tree::{Hash, TILE_WIDTH, leaf_hash};
use undercroft_log_files::Folder;

use crate::fetch::Server;
use crate::{no_audit, unread};

/// Files that are asked for at a time.
const AT_A_TIME: usize = 8;

/// The most bytes of a checkpoint.
const MAX_CHECKPOINT: usize = 64 * 1024;

/// The most bytes of a blob.
const MAX_BLOB: u64 = 256 * 1024 * 1024;

/// Files that may be missing before the rest is not asked for: the log is found wanting either way.
const MOST_MISSING: usize = 16;

/// Bundles that are added to a mirror at a time.
const BUNDLES: u64 = 64;

/// What a mirror has become.
pub(crate) struct Mirrored {
    /// How many entries it holds.
    pub(crate) size: u64,
    /// How many it held before.
    pub(crate) before: u64,
}

/// Copies a log to an empty folder as the server has it, whatever that is: it is for an audit to say what is wrong.
pub(crate) async fn copy(
    server: &Server,
    key: &VerifierKey,
    to: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let (note, checkpoint) = checkpoint(server, key).await?;
    let progress = terminal.progress(tiles(checkpoint.size), "fetch");
    let missing = fetch_tiles(server, TilePath::all(checkpoint.size), to, &progress).await?;
    drop(progress);
    // Whoever has the log's key can sign any size: what was given up is not gone through.
    let end = match missing.len() {
        ..MOST_MISSING => checkpoint.size.div_ceil(TILE_WIDTH as u64),
        _ => missing.iter().map(|tile| tile.index()).min().unwrap_or_default(),
    };
    let copied = Folder::new(to);
    let wanted = blobs(0..end, |bundle| copied.bundle(bundle, checkpoint.size).unwrap_or_default());
    fetch_blobs(server, wanted, to, terminal).await?;
    write(to, "checkpoint", note.as_bytes())
}

/// Brings a mirror up to date. It changes only if the server's log is the continuation of it.
pub(crate) async fn update(
    server: &Server,
    key: &VerifierKey,
    folder: &Folder,
    terminal: &Terminal,
) -> Result<Mirrored, Failure> {
    let shown = folder.path().display().to_string();
    let (note, now) = checkpoint(server, key).await?;
    let before = held(folder, key)?;
    if now.size < before.size {
        return Err(Failure::tampered(format!(
            "{shown} holds {} signed entries of {}, and {} says that there are {}: the log went back; keep both",
            before.size,
            key.name(),
            server.url("checkpoint"),
            now.size
        )));
    }
    let width = TILE_WIDTH as u64;
    let bundles = before.size / width..now.size.div_ceil(width);
    let new = TilePath::all(now.size).filter(|tile| !folder.path().join(tile.to_string()).exists());
    // Beside the mirror: what does not lead to the checkpoint never comes into it.
    let staging =
        tempfile::tempdir().map_err(|error| Failure::failed(format!("a temporary folder: {error}")))?;
    let progress = terminal.progress(tiles(now.size).saturating_sub(tiles(before.size)), "fetch");
    let missing = fetch_tiles(server, new, staging.path(), &progress).await?;
    drop(progress);
    if let Some(tile) = missing.first() {
        return Err(Failure::tampered(format!(
            "{}: the server's checkpoint covers it, and the server does not have it; {shown} is as it was",
            server.url(&tile.to_string())
        )));
    }
    let staged = Staged { folder, staging: Folder::new(staging.path()), size: now.size };
    staged.continues(&before, &now).map_err(|what| {
        Failure::tampered(format!(
            "{}: {what}; {shown} is as it was: keep it, it is evidence",
            server.url("checkpoint")
        ))
    })?;
    let mut wanted = blobs(bundles.clone(), |bundle| staged.bundle(bundle).unwrap_or_default());
    wanted.retain(|(digest, _)| !folder.path().join(format!("blobs/{digest}")).exists());
    fetch_blobs(server, wanted.clone(), staging.path(), terminal).await?;
    let blobs = staged.blobs(wanted).map_err(|what| {
        Failure::tampered(format!("{}: {what}; {shown} is as it was", server.url("blobs")))
    })?;
    let progress = terminal.progress(now.size - before.size, "mirror");
    let mut size = before.size;
    for first in bundles.clone().step_by(BUNDLES as usize) {
        let mut entries = Vec::new();
        for bundle in first..bundles.end.min(first + BUNDLES) {
            entries.extend(staged.bundle(bundle).map_err(Failure::tampered)?);
        }
        let skipped = (size - first * width).min(entries.len() as u64) as usize;
        let new = entries.iter().skip(skipped).map(Vec::as_slice);
        folder.append(size, new).map_err(|error| unread(&error))?;
        let added = (entries.len() - skipped) as u64;
        size += added;
        progress.advance(added);
    }
    drop(progress);
    for blob in blobs {
        let bytes = staged.staging.blob(blob).map_err(|error| unread(&error))?;
        folder.write_blob(&bytes.unwrap_or_default()).map_err(|error| unread(&error))?;
    }
    folder.write_checkpoint(&note).map_err(|error| unread(&error))?;
    // The mirror has the hashes that follow from the entries. A server that has others serves a log that others
    // cannot verify.
    match staged.other_tile()? {
        None => Ok(Mirrored { size: now.size, before: before.size }),
        Some(tile) => Err(Failure::tampered(format!(
            "{} is not what follows from the entries that the server has; {shown} holds the right one",
            server.url(&tile.to_string())
        ))),
    }
}

/// The server's checkpoint.
async fn checkpoint(server: &Server, key: &VerifierKey) -> Result<(String, Checkpoint), Failure> {
    let url = server.url("checkpoint");
    let note = server.get("checkpoint", MAX_CHECKPOINT).await?;
    let note =
        note.ok_or_else(|| Failure::usage(format!("{url} does not exist, so no log is served there")))?;
    let note = String::from_utf8(note).map_err(|_| Failure::tampered(format!("{url} is no text")))?;
    let opened = Checkpoint::open(&note, key)
        .map_err(|error| Failure::tampered(format!("{url}: {error} (checkpoint)")))?;
    Ok((note, opened))
}

/// What a mirror holds, by its own checkpoint; nothing at first.
fn held(folder: &Folder, key: &VerifierKey) -> Result<Checkpoint, Failure> {
    let shown = folder.path().display();
    let Some(note) = folder.checkpoint().map_err(|error| unread(&error))? else {
        let is_empty = fs::read_dir(folder.path()).map_or(true, |mut files| files.next().is_none());
        return match is_empty || folder.path().join("tile").is_dir() {
            true => Ok(Checkpoint { origin: key.name().clone(), size: 0, root: Hash::empty_root() }),
            false => Err(Failure::usage(format!(
                "{shown} holds something else than a log; choose an empty folder"
            ))),
        };
    };
    let held = Checkpoint::open(&note, key).map_err(|error| no_audit(error.into()).during(shown))?;
    Ok(held)
}

/// How many tiles a log of that size has.
fn tiles(size: u64) -> u64 {
    let width = TILE_WIDTH as u64;
    size.div_ceil(width) + (0..8).map(|level| (size >> (8 * level)).div_ceil(width)).sum::<u64>()
}

/// The most bytes that a tile can have.
fn most(tile: TilePath) -> usize {
    match tile.kind() {
        TileKind::Hashes(_) => 32 * tile.width(),
        TileKind::Entries => (2 + MAX_ENTRY) * tile.width(),
    }
}

/// Fetches tiles to a folder, some at a time. Gives those that the server does not have.
async fn fetch_tiles(
    server: &Server,
    wanted: impl Iterator<Item = TilePath>,
    to: &Path,
    progress: &Progress,
) -> Result<Vec<TilePath>, Failure> {
    let fetch = async |tile: TilePath| (tile, server.get(&tile.to_string(), most(tile)).await);
    let mut coming = futures::stream::iter(wanted).map(fetch).buffer_unordered(AT_A_TIME);
    let mut missing = Vec::new();
    while let Some((tile, bytes)) = coming.next().await {
        match bytes? {
            Some(bytes) => write(to, &tile.to_string(), &bytes)?,
            None => missing.push(tile),
        }
        if missing.len() >= MOST_MISSING {
            break;
        }
        progress.advance(1);
    }
    Ok(missing)
}

/// The blobs that the entries in some bundles name, and their lengths. What cannot be read is for the audit to find.
fn blobs(bundles: Range<u64>, read: impl Fn(u64) -> Vec<Vec<u8>>) -> BTreeSet<(Digest, u64)> {
    bundles
        .flat_map(read)
        .filter_map(|entry| Leaf::parse(&entry).ok())
        .flat_map(|leaf| leaf.body.blobs())
        .collect()
}

/// Fetches blobs to a folder, some at a time.
async fn fetch_blobs(
    server: &Server,
    wanted: BTreeSet<(Digest, u64)>,
    to: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let progress = terminal.progress(wanted.len() as u64, "fetch blobs");
    let fetch = async |(digest, length): (_, u64)| {
        let path = format!("blobs/{digest}");
        let bytes = server.get(&path, length.min(MAX_BLOB) as usize).await;
        (path, bytes)
    };
    let mut coming = futures::stream::iter(wanted).map(fetch).buffer_unordered(AT_A_TIME);
    while let Some((path, bytes)) = coming.next().await {
        if let Some(bytes) = bytes? {
            write(to, &path, &bytes)?;
        }
        progress.advance(1);
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes));
    written.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// What was fetched for a mirror, and the mirror.
struct Staged<'a> {
    folder: &'a Folder,
    staging: Folder,
    size: u64,
}

impl Staged<'_> {
    /// The entries of a bundle, as fetched, or as the mirror has it if that was whole.
    fn bundle(&self, index: u64) -> Result<Vec<Vec<u8>>, String> {
        let Some(tile) = TilePath::at_size(TileKind::Entries, index, self.size) else {
            return Ok(Vec::new());
        };
        let read = |folder: &Folder| folder.tile(tile).map_err(|error| error.to_string());
        let bytes = match read(&self.staging)? {
            Some(bytes) => bytes,
            None => read(self.folder)?.unwrap_or_default(),
        };
        let entries = decode_entries(&bytes, tile.width()).map_err(|error| format!("{tile}: {error}"))?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// Whether the entries lead to the checkpoint, through the one that the mirror has.
    fn continues(&self, before: &Checkpoint, now: &Checkpoint) -> Result<(), String> {
        let width = TILE_WIDTH as u64;
        let whole = before.size - before.size % width;
        let mut tree = self.folder.tree(whole).map_err(|error| format!("the mirror itself: {error}"))?;
        let other = |size: u64, root: Hash, said: Hash| {
            format!(
                "its first {size} entries have the root {root}, and the checkpoint that was signed says {said}"
            )
        };
        if tree.size() == before.size && tree.root() != before.root {
            return Err(format!("the mirror itself: {}", other(before.size, tree.root(), before.root)));
        }
        for bundle in whole / width..now.size.div_ceil(width) {
            for entry in self.bundle(bundle)? {
                tree.push(leaf_hash(&entry));
                if tree.size() == before.size && tree.root() != before.root {
                    return Err(format!(
                        "{}, which the mirror has: it is another history",
                        other(before.size, tree.root(), before.root)
                    ));
                }
            }
            tree.forget_before(tree.size());
        }
        match tree.root() == now.root {
            true => Ok(()),
            false => Err(other(now.size, tree.root(), now.root)),
        }
    }

    /// The blobs that came, once all have come and each is what its name says.
    fn blobs(&self, wanted: BTreeSet<(Digest, u64)>) -> Result<Vec<Digest>, String> {
        let check = |(digest, length): (Digest, u64)| match self.staging.blob(digest) {
            Ok(Some(blob)) if blob.len() as u64 == length => Ok(digest),
            Ok(Some(blob)) => Err(format!("{digest} has {} bytes and not {length}", blob.len())),
            Ok(None) => Err(format!("{digest} is not there, and an entry names it")),
            Err(error) => Err(error.to_string()),
        };
        wanted.into_iter().map(check).collect()
    }

    /// A hash tile that the server has otherwise than the mirror, which made it from the entries.
    fn other_tile(&self) -> Result<Option<TilePath>, Failure> {
        for tile in TilePath::all(self.size).filter(|tile| tile.kind() != TileKind::Entries) {
            let read = |folder: &Folder| folder.tile(tile).map_err(|error| unread(&error));
            if let Some(fetched) = read(&self.staging)?
                && Some(fetched) != read(self.folder)?
            {
                return Ok(Some(tile));
            }
        }
        Ok(None)
    }
}
