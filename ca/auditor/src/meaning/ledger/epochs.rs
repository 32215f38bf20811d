//! The epochs of a ledger, each replayed from the commands that the log knows.

use std::collections::BTreeMap;

use serde::Serialize;
use undercroft_log::leaf::LedgerNumber;
use undercroft_tpm_wire::Name;
use undercroft_tpm_wire::command::{AuditDigest, CpHash, RpHash};

/// What is known of an epoch of a TPM's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Epoch {
    /// Its number, as the TPM counts them.
    pub epoch: u64,
    /// The Name of the key that attests to it, hexadecimal, once one does. Another TPM counts epochs of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attested_by: Option<String>,
    /// How many of its commands stand in the log.
    pub commands: u64,
    /// Whether the log accounts for it.
    #[serde(flatten)]
    pub covered: Covered,
}

/// Whether the log accounts for everything that a TPM did in an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "covered")]
pub enum Covered {
    /// The TPM attests to exactly the commands that stand in the log.
    Complete,
    /// It does not, or nobody can tell.
    Uncovered {
        /// Why.
        reason: String,
        /// At most so many signatures that do not stand in the log, all over bytes that do, if the gates kept their
        /// word; nothing where a key of the TPM has no gate.
        #[serde(skip_serializing_if = "Option::is_none")]
        hidden: Option<u64>,
    },
    /// It was not closed yet.
    Open,
}

/// The epochs that one attestation key speaks of, and those that were read before it came.
#[derive(Default)]
pub(super) struct Epochs {
    replays: BTreeMap<u64, Replay>,
    /// Epochs that are complete, with the number of their commands.
    complete: BTreeMap<u64, u64>,
    /// The statement that closed the last epoch.
    last: Option<Closing>,
    /// What other keys attested to.
    before: Vec<Epoch>,
}

/// A statement that closes an epoch.
#[derive(Clone)]
pub(super) struct Closing {
    pub(super) epoch: u64,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) commands: [u8; 32],
    pub(super) resets: u32,
    pub(super) restarts: u32,
    pub(super) signer: Name,
}

#[derive(Default)]
struct Replay {
    commands: BTreeMap<u64, (CpHash, RpHash)>,
    closing: Option<Closing>,
    /// Why it is uncovered, whatever its digest says.
    broken: Option<String>,
    /// At most so many signatures of it do not stand in the log, once a statement came that bounds them.
    hidden: Option<u64>,
}

impl Epochs {
    /// A command of a TPM.
    ///
    /// # Errors
    /// Another stands in its place.
    pub(super) fn add(&mut self, number: LedgerNumber, hashes: (CpHash, RpHash)) -> Result<(), String> {
        let LedgerNumber { epoch, ordinal } = number;
        if self.complete.contains_key(&epoch) {
            return Err(format!(
                "it says that it is command {ordinal} of epoch {epoch}, which is complete without it"
            ));
        }
        let replay = self.replays.entry(epoch).or_default();
        if replay.commands.insert(ordinal, hashes).is_some() {
            return Err(format!("command {ordinal} of epoch {epoch} stands twice"));
        }
        self.settle(epoch);
        Ok(())
    }

    /// A statement. At most `hidden` signatures can have been made by then that do not stand in the log.
    ///
    /// # Errors
    /// It comes too late.
    pub(super) fn close(&mut self, closing: Closing, hidden: u64) -> Result<(), String> {
        let epoch = closing.epoch;
        let is_other_key = self.last.as_ref().is_some_and(|last| last.signer != closing.signer);
        if is_other_key {
            self.before = std::mem::take(self).given_up(hidden);
        }
        let broken = match &self.last {
            None if is_other_key => Some("another key attests, or another TPM".to_owned()),
            None => Some("the log does not say what came before it".to_owned()),
            Some(last) if epoch <= last.epoch => {
                return Err(format!("epoch {epoch} is closed after epoch {}", last.epoch));
            }
            Some(last) if closing.resets != last.resets => {
                Some("the TPM was reset, which drops what it had not attested to".to_owned())
            }
            Some(last) if epoch - 1 != last.epoch => {
                Some(format!("{}: somebody else read the ledger", nothing_closes(last.epoch + 1)))
            }
            Some(last) if closing.commands != last.commands => {
                Some("what is audited was changed, which drops what was not attested to".to_owned())
            }
            Some(last) if closing.restarts != last.restarts => Some("the TPM was restarted".to_owned()),
            Some(_) => None,
        };
        for (_, skipped) in self.replays.range_mut(..epoch).filter(|(_, replay)| replay.closing.is_none()) {
            skipped.hidden.get_or_insert(hidden);
        }
        let replay = self.replays.entry(epoch).or_default();
        replay.broken = broken;
        replay.hidden = Some(hidden);
        replay.closing = Some(closing.clone());
        self.last = Some(closing);
        self.settle(epoch);
        Ok(())
    }

    /// Lets go of an epoch that is complete: its outcomes may stand behind the entry that closes it.
    fn settle(&mut self, epoch: u64) {
        let is_complete = self.replays.get(&epoch).is_some_and(Replay::is_complete);
        if let Some(replay) = is_complete.then(|| self.replays.remove(&epoch)).flatten() {
            self.complete.insert(epoch, replay.commands.len() as u64);
        }
    }

    /// The epochs of a key that will attest to nothing more.
    fn given_up(self, hidden: u64) -> Vec<Epoch> {
        let mut epochs = self.conclude(hidden);
        for epoch in epochs.iter_mut().filter(|epoch| epoch.covered == Covered::Open) {
            epoch.covered = Covered::Uncovered { reason: nothing_closes(epoch.epoch), hidden: Some(hidden) };
        }
        epochs
    }

    /// Every epoch, with its verdict, in order. `hidden` is the bound for those that no statement bounds.
    pub(super) fn conclude(self, hidden: u64) -> Vec<Epoch> {
        let attested_by = self.last.as_ref().map(|last| last.signer.to_string());
        let closed = self.last.as_ref().map(|last| last.epoch);
        let complete =
            self.complete.into_iter().map(|(epoch, commands)| (epoch, commands, Covered::Complete));
        let others = self.replays.into_iter().map(|(epoch, replay)| {
            let hidden = Some(replay.hidden.unwrap_or(hidden));
            let covered = match &replay.closing {
                Some(_) => Covered::Uncovered { reason: replay.reason(), hidden },
                // What is behind the last statement waits for the next one; what was passed over never gets one.
                None if closed.is_none_or(|closed| epoch > closed) => Covered::Open,
                None => Covered::Uncovered { reason: nothing_closes(epoch), hidden },
            };
            (epoch, replay.commands.len() as u64, covered)
        });
        let mut own: Vec<_> = complete
            .chain(others)
            .map(|(epoch, commands, covered)| Epoch {
                epoch,
                attested_by: attested_by.clone(),
                commands,
                covered,
            })
            .collect();
        own.sort_by_key(|epoch| epoch.epoch);
        let mut epochs = self.before;
        epochs.extend(own);
        epochs
    }
}

fn nothing_closes(epoch: u64) -> String {
    format!("nothing closes epoch {epoch}")
}

impl Replay {
    fn is_complete(&self) -> bool {
        let attested = self.closing.as_ref().and_then(|closing| closing.digest);
        self.broken.is_none() && self.is_gapless() && attested == Some(*self.digest().as_bytes())
    }

    fn is_gapless(&self) -> bool {
        self.commands.keys().zip(1..).all(|(ordinal, expected)| *ordinal == expected)
    }

    fn digest(&self) -> AuditDigest {
        let extend = |digest: AuditDigest, (cp, rp): &(CpHash, RpHash)| digest.extend(cp, rp);
        self.commands.values().fold(AuditDigest::EMPTY, extend)
    }

    fn reason(&self) -> String {
        match &self.broken {
            Some(reason) => reason.clone(),
            None if !self.is_gapless() => "a command of it does not stand in the log".to_owned(),
            None => "the TPM did something that does not stand in the log".to_owned(),
        }
    }
}
