//! Custody is proved again while the daemon runs: of keys whose token was away, and now and then of all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use undercroft_ca::service::{CertificateAuthority, StartError};
use undercroft_cli::Failure;

/// How often is looked whether a token was connected to anew. It costs a few loads.
const LOOK: Duration = Duration::from_secs(1);

/// Proves again until it is told to stop. A key that is not where it must be stops the daemon.
pub(crate) async fn keep(
    ca: Arc<CertificateAuthority>,
    every: Duration,
    stop: watch::Sender<bool>,
) -> Result<(), Failure> {
    let mut stopping = stop.subscribe();
    let mut all = Instant::now() + every;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // An error means that nobody can tell us to go on, which is the same.
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        }
        let is_due = Instant::now() >= all;
        match ca.prove_custody(is_due).await {
            Ok(0) => {}
            Ok(keys) => tracing::info!(keys, "custody is proved again"),
            Err(error @ StartError::Custody(_)) => {
                stop.send_replace(true);
                return Err(error.into());
            }
            // The token is away again, or the log has stopped, which is told elsewhere.
            Err(error) => tracing::warn!(%error, "custody is not proved; trying again"),
        }
        if is_due {
            all = Instant::now() + every;
        }
    }
}
