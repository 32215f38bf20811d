//! The second half of the sequencer: heads are signed, receipts made, and checkpoints shown to witnesses.

use std::sync::Arc;

use async_channel::{Receiver, Sender, WeakSender};
use futures::channel::oneshot;
use futures::future::{Either, select};

use super::{AppendError, Assurance, Fatal, Pending, Shared};
use crate::Clock;
use crate::checkpoint::{Checkpoint, CheckpointSigner, SignedCheckpoint};
use crate::cosigning::{Cosigner, NotCosigned, Wait};
use crate::receipt::Receipt;
use crate::store::LogStore;
use crate::tree::{self, GrowingTree};

/// ④ to ⑥: has the newest head signed, and makes receipts.
pub(super) struct Notary {
    pub(super) signer: Arc<dyn CheckpointSigner>,
    pub(super) to_sign: Receiver<()>,
    /// Where signed heads go to be cosigned; nothing for a log without witnesses.
    pub(super) to_herald: Option<Sender<Round>>,
    pub(super) shared: Arc<Shared>,
}

/// A signed head on its way to the witnesses, and the receipts that wait for them.
pub(super) struct Round {
    signed: SignedCheckpoint,
    waiting: Vec<(Receipt, oneshot::Sender<Result<Receipt, AppendError>>)>,
}

impl Notary {
    pub(super) async fn run(self) -> Result<(), Fatal> {
        while self.to_sign.recv().await.is_ok() {
            self.sign_newest().await?;
        }
        // Entries that wait for witnesses who were busy until now.
        let nobody_waits = self.shared.state().pending.is_empty();
        match nobody_waits {
            true => Ok(()),
            false => self.sign_newest().await,
        }
    }

    async fn sign_newest(&self) -> Result<(), Fatal> {
        let (checkpoint, pending, to_herald) = {
            let mut state = self.shared.state();
            let size = state.tree.size();
            let root = state.tree.root();
            // The second code path: top-down recursion over kept nodes, against bottom-up growth.
            let again = tree::root(&state.tree, size);
            if again != Ok(root) {
                return Err(Fatal::Failed(format!(
                    "two ways to compute the root at size {size} disagree ({root} and {again:?}); nothing is signed"
                )));
            }
            let checkpoint = Checkpoint { origin: self.shared.key.name().clone(), size, root };
            let free = self.to_herald.as_ref().filter(|_| !state.with_witnesses);
            let waits = |pending: &Pending| {
                pending.assurance == Assurance::Witnessed && self.to_herald.is_some() && free.is_none()
            };
            let (waiting, taken) = std::mem::take(&mut state.pending).into_iter().partition(waits);
            state.pending = waiting;
            state.with_witnesses |= free.is_some();
            (checkpoint, taken, free)
        };
        let signed = SignedCheckpoint::sign(checkpoint, &*self.signer).await;
        let mut state = self.shared.state();
        match signed {
            Ok(signed) => {
                state.latest = Some(signed.clone());
                state.unkept = Some(signed.clone());
                let mut round = Round { signed, waiting: Vec::new() };
                for pending in pending {
                    match (receipt(&state.tree, &pending, &round.signed), pending.assurance) {
                        (Ok(receipt), Assurance::Witnessed) if to_herald.is_some() => {
                            round.waiting.push((receipt, pending.answer));
                        }
                        (receipt, _) => drop(pending.answer.send(receipt)),
                    }
                }
                // What is durable now and has no receipt yet begins where this checkpoint ends, or with what waits.
                let first = state.pending.iter().map(|pending| pending.index).min();
                let size = round.signed.checkpoint().size;
                state.tree.forget_before(first.map_or(size, |first| first.min(size)));
                if let Some(herald) = to_herald {
                    // There is room: the last round is over.
                    drop(herald.try_send(round));
                }
            }
            Err(error) => {
                // The entries are durable, and the next head that is signed covers them; their receipts are lost.
                state.with_witnesses &= to_herald.is_none();
                for Pending { index, answer, .. } in pending {
                    drop(answer.send(Err(AppendError::Unsigned { index, why: error.0.clone() })));
                }
            }
        }
        Ok(())
    }
}

/// ⑦, for logs that have witnesses: has signed heads cosigned, one at a time, while the log goes on.
pub(super) struct Herald<E> {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cosigner: Arc<dyn Cosigner>,
    pub(super) reader: Arc<dyn LogStore<E>>,
    pub(super) rounds: Receiver<Round>,
    /// Wakes the notary, as long as the log is open.
    pub(super) again: WeakSender<()>,
    pub(super) shared: Arc<Shared>,
}

impl<E: Send + Sync + 'static> Herald<E> {
    pub(super) async fn run(self) -> Result<(), Fatal> {
        loop {
            let round = std::pin::pin!(self.rounds.recv());
            match select(round, self.cosigner.alarm()).await {
                Either::Left((Ok(round), _)) => self.announce(round).await?,
                Either::Left((Err(_), _)) => return Ok(()),
                Either::Right((what, _)) => return Err(Fatal::Alarm(what)),
            }
        }
    }

    async fn announce(&self, round: Round) -> Result<(), Fatal> {
        let size = round.signed.checkpoint().size;
        let cosigned = self.cosigner.cosign(&round.signed, self.reader.clone(), Wait::ForEnough).await;
        let mut alarm = None;
        match cosigned {
            Ok(lines) => {
                let cosigned = round.signed.with_lines(&lines);
                let mut state = self.shared.state();
                state.away = None;
                if state.latest.as_ref().is_some_and(|latest| latest.checkpoint().size == size) {
                    state.latest = Some(cosigned.clone());
                }
                if state.unkept.as_ref().is_none_or(|newer| newer.checkpoint().size <= size) {
                    state.unkept = Some(cosigned.clone());
                }
                drop(state);
                for (receipt, answer) in round.waiting {
                    drop(answer.send(Ok(receipt.under(cosigned.clone()))));
                }
            }
            Err(error) => {
                self.shared.state().away.get_or_insert(self.clock.now());
                for (receipt, answer) in round.waiting {
                    let (index, why) = (receipt.index(), error.to_string());
                    drop(answer.send(Err(AppendError::Unwitnessed { index, why })));
                }
                if let NotCosigned::Alarm(what) = error {
                    alarm = Some(Fatal::Alarm(what));
                }
            }
        }
        let behind = {
            let mut state = self.shared.state();
            state.with_witnesses = false;
            state.tree.size() > size || !state.pending.is_empty()
        };
        if let (true, Some(again)) = (behind, self.again.upgrade()) {
            // Full means that the notary has been woken already.
            let _ = again.try_send(());
        }
        alarm.map_or(Ok(()), Err)
    }
}

fn receipt(tree: &GrowingTree, waiting: &Pending, signed: &SignedCheckpoint) -> Result<Receipt, AppendError> {
    let broken =
        |error: &dyn std::fmt::Display| AppendError::Stopped(format!("no proof for a new entry: {error}"));
    let path = tree::inclusion_proof(tree, waiting.index, signed.checkpoint().size)
        .map_err(|error| broken(&error))?;
    Receipt::new(waiting.index, waiting.time, waiting.leaf.clone(), path, signed.clone())
        .map_err(|error| broken(&error))
}
