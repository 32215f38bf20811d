//! What devices remember of the logs, while the daemon runs: epochs are closed and logs anchored on timers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use undercroft_ca::ledger::LedgerKeeper;
use undercroft_ca::noted_head::{NotedHead, NotedHeadError};
use undercroft_ca::store::{Effect, Facts};
use undercroft_cli::Failure;
use undercroft_keymgr::Tokens;
use undercroft_log::leaf::CloseReason;
use undercroft_log::note::VerifierKey;
use undercroft_log::sequencer::Log;
use undercroft_log::store::LogStore;

use crate::config::Hardware;

/// A device that remembers one log.
pub(crate) enum Keeper {
    Ledger { keeper: LedgerKeeper, epoch: Duration, every: Duration },
    Note { note: NotedHead, every: Duration },
}

impl Keeper {
    /// Finds the device, and compares what it remembers with the log as it is stored, before anything is appended.
    pub(crate) async fn open(
        hardware: &Hardware,
        tokens: &Tokens,
        key: &VerifierKey,
        log: &dyn LogStore<Effect>,
        facts: &dyn Facts,
    ) -> Result<Self, Failure> {
        let manager = tokens.manager(tokens.device(hardware.device())?)?;
        match hardware {
            Hardware::Ledger { places, start, epoch, every, .. } => {
                let ledger = manager.ledger(*places)?;
                let keeper =
                    LedgerKeeper::open(ledger, *start, key.name().as_str(), log_reader(log), facts).await?;
                Ok(Self::Ledger { keeper, epoch: epoch.0, every: every.0 })
            }
            Hardware::Note { every, .. } => {
                let note = manager.note(&format!("head of {}", key.name()))?;
                let size = log.head().await.map_err(|error| Failure::from(NotedHeadError::from(error)))?.size;
                let note = NotedHead::open(note, key, size, log_reader(log)).await?;
                Ok(Self::Note { note, every: every.0 })
            }
        }
    }

    /// The log is open: the epoch that was left behind is closed.
    async fn begin(&self, log: &Log<Effect>) -> Result<(), Failure> {
        match self {
            Self::Ledger { keeper, .. } => Ok(keeper.close_epoch(log, CloseReason::Start).await?),
            Self::Note { .. } => Ok(()),
        }
    }

    /// Goes on until it is told to stop, and then ends what it has begun.
    async fn keep(&self, log: &Log<Effect>, mut stopping: watch::Receiver<bool>) {
        let (epoch, every) = match self {
            Self::Ledger { epoch, every, .. } => (*epoch, *every),
            Self::Note { every, .. } => (*every, *every),
        };
        let (mut epochs, mut anchors) = (ticks(epoch), ticks(every));
        loop {
            let done = tokio::select! {
                _ = epochs.tick() => self.close_epoch(log, CloseReason::Timer).await,
                _ = anchors.tick() => self.anchor(log).await,
                () = told_to_stop(&mut stopping) => break,
            };
            if let Err(failure) = done {
                // The log goes on: what is missing shows in an audit, as an epoch that is not covered.
                tracing::error!(%failure, "the hardware does not remember the log; trying again");
            }
        }
    }

    async fn end(&self, log: &Log<Effect>) {
        // What stands in the log now is remembered before the program goes; then the ledger is whole.
        let ended = match self.anchor(log).await {
            Ok(()) => self.close_epoch(log, CloseReason::Stop).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = ended {
            tracing::error!(%failure, "the hardware does not remember the log's end");
        }
    }

    async fn close_epoch(&self, log: &Log<Effect>, reason: CloseReason) -> Result<(), Failure> {
        match self {
            Self::Ledger { keeper, .. } => Ok(keeper.close_epoch(log, reason).await?),
            Self::Note { .. } => Ok(()),
        }
    }

    async fn anchor(&self, log: &Log<Effect>) -> Result<(), Failure> {
        match (self, log.checkpoint()) {
            (Self::Ledger { keeper, .. }, _) => Ok(keeper.anchor(log).await?),
            (Self::Note { note, .. }, Some(checkpoint)) => Ok(note.note(&checkpoint).await?),
            (Self::Note { .. }, None) => Ok(()),
        }
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell us to go on, which is the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Every so often, and not at once.
fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

fn log_reader(log: &dyn LogStore<Effect>) -> &dyn undercroft_log::store::LogReader {
    log
}

/// The keepers of all logs, while they run.
pub(crate) struct Keepers {
    kept: Vec<Arc<(Keeper, Log<Effect>)>>,
    running: JoinSet<()>,
}

impl Keepers {
    /// Begins: whatever a device has not attested to yet is attested to before anything new is signed.
    pub(crate) async fn begin(
        keepers: Vec<(Keeper, Log<Effect>)>,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Self, Failure> {
        let (mut kept, mut running) = (Vec::new(), JoinSet::new());
        for (keeper, log) in keepers {
            keeper.begin(&log).await?;
            let pair = Arc::new((keeper, log));
            kept.push(pair.clone());
            let stopping = stopping.clone();
            running.spawn(async move { pair.0.keep(&pair.1, stopping).await });
        }
        Ok(Self { kept, running })
    }

    /// Ends them, when nothing signs any more and the logs are still open.
    pub(crate) async fn end(mut self) {
        while self.running.join_next().await.is_some() {}
        for pair in &self.kept {
            pair.0.end(&pair.1).await;
        }
    }
}
