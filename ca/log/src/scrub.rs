//! Going through a stored log again, a bundle at a time, to see that nothing older was lost or changed.
//!
//! Opening a log looks at its right edge alone, and appending to it at nothing that is stored. So somebody looks at the
//! rest, again and again: every entry is hashed anew, every stored tile compared, and the root of all of it must be the
//! one that was signed. Whoever changes an old entry with every hash above it still has another root than the tree
//! that has grown in memory since.

use crate::checkpoint::Checkpoint;
use crate::leaf::{Digest, Leaf};
use crate::store::{LogReader, StoreError};
use crate::tree::{GrowingTree, TILE_WIDTH, leaf_hash};

/// How far the scrubbing of a log has come.
#[derive(Debug, Default)]
pub struct Scrub {
    pass: Option<Pass>,
}

/// One way through the log, up to a checkpoint.
#[derive(Debug)]
struct Pass {
    until: Checkpoint,
    tree: GrowingTree,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A bundle was gone through, and there are more.
    Went,
    /// Every entry that the checkpoint covers is as it was when that was signed.
    Passed(Checkpoint),
    /// There is nothing yet that was signed.
    Nothing,
}

/// Why a step found no peace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// The store does not answer; the same step may be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// Something older was lost or changed.
    #[error("{0}")]
    Changed(String),
}

impl From<StoreError> for ScrubError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
            StoreError::Damaged(what) => Self::Changed(what),
        }
    }
}

impl Scrub {
    /// Goes through the next bundle. A pass goes up to `newest`, the newest checkpoint when it begins, which must come
    /// from the memory of whoever signed it: what is stored may have been changed with the rest.
    ///
    /// # Errors
    /// See [`ScrubError`].
    pub async fn step(
        &mut self,
        log: &dyn LogReader,
        newest: impl FnOnce() -> Option<Checkpoint>,
    ) -> Result<Step, ScrubError> {
        let pass = match &mut self.pass {
            Some(pass) => pass,
            None => match newest() {
                Some(until) => self.pass.insert(Pass { until, tree: GrowingTree::new() }),
                None => return Ok(Step::Nothing),
            },
        };
        if pass.tree.size() < pass.until.size {
            pass.take_bundle(log).await?;
        }
        if pass.tree.size() < pass.until.size {
            return Ok(Step::Went);
        }
        pass.conclude()?;
        Ok(self.pass.take().map_or(Step::Nothing, |pass| Step::Passed(pass.until)))
    }
}

impl Pass {
    async fn take_bundle(&mut self, log: &dyn LogReader) -> Result<(), ScrubError> {
        let first = self.tree.size();
        let end = self.until.size.min(first + TILE_WIDTH as u64);
        let entries = log.entries(first..end).await?;
        let hashes: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        if hashes.len() == TILE_WIDTH {
            let stored = log.full_tile(0, first / TILE_WIDTH as u64).await?;
            if let Some(at) = (0..TILE_WIDTH).find(|at| stored.get(*at) != hashes.get(*at)) {
                let index = first + at as u64;
                return Err(changed(format!("entry {index}, or its hash in the stored tile")));
            }
        }
        for entry in &entries {
            has_its_blob(log, entry).await?;
        }
        // Only what was read to its end counts: a step may be tried again.
        let mut tree = self.tree.clone();
        hashes.into_iter().for_each(|hash| tree.push(hash));
        let above: Vec<_> = tree.full_tiles_since(first).filter(|tile| tile.level > 0).collect();
        for tile in above {
            if log.full_tile(tile.level, tile.index).await? != tile.hashes {
                return Err(changed(format!("tile {} of level {}", tile.index, tile.level)));
            }
        }
        tree.forget_before(tree.size());
        self.tree = tree;
        Ok(())
    }

    fn conclude(&self) -> Result<(), ScrubError> {
        let Checkpoint { size, root, .. } = &self.until;
        match self.tree.root() {
            now if now == *root => Ok(()),
            now => Err(changed(format!(
                "the first {size} entries, which lead to the root {now} and not to {root}:"
            ))),
        }
    }
}

fn changed(what: String) -> ScrubError {
    ScrubError::Changed(format!("{what} was changed behind our back"))
}

/// The large objects that an entry names are there, and are what it names.
async fn has_its_blob(log: &dyn LogReader, entry: &[u8]) -> Result<(), ScrubError> {
    // Few entries have one; parsing all of them would cost more than everything else.
    let names = |member: &[u8]| entry.windows(member.len()).any(|bytes| bytes == member);
    if !names(b"\"blob\"") && !names(b"\"length\"") {
        return Ok(());
    }
    for (digest, _) in Leaf::parse(entry).map(|leaf| leaf.body.blobs()).unwrap_or_default() {
        match log.blob(digest).await? {
            Some(blob) if Digest::of(&blob) == digest => {}
            Some(_) => return Err(changed(format!("the blob {digest}"))),
            None => return Err(ScrubError::Changed(format!("the blob {digest} is missing"))),
        }
    }
    Ok(())
}
