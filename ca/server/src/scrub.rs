//! The background scrub: a task for each log that reads all of it again, slowly, as long as the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use undercroft_log::scrub::{Scrub, ScrubError, Step};
use undercroft_log::sequencer::{Fatal, Watch};
use undercroft_log::store::LogReader;

/// Between two bundles, which take a millisecond or two: about one hundredth of a processor. A million entries take
/// seven minutes.
const BETWEEN_BUNDLES: Duration = Duration::from_millis(100);

/// Between two passes, in pauses: what is short need not be read all the time.
const BETWEEN_PASSES: u32 = 50;

/// Scrubs a log until it stops. If something older was lost or changed, the log is stopped, and this ends with an alarm.
pub(crate) async fn keep<E>(watch: Watch<E>, log: Arc<dyn LogReader>) -> Result<(), Fatal> {
    keep_paced(watch, log, async || tokio::time::sleep(BETWEEN_BUNDLES).await).await
}

/// As [`keep`], with the pause as an argument.
pub(crate) async fn keep_paced<E>(
    watch: Watch<E>,
    log: Arc<dyn LogReader>,
    pause: impl AsyncFn(),
) -> Result<(), Fatal> {
    let mut scrub = Scrub::default();
    let mut pauses = 0;
    loop {
        if pauses == 0 {
            pauses = match scrub.step(&*log, || watch.newest()).await {
                Ok(Step::Went) => 1,
                Ok(Step::Nothing) => BETWEEN_PASSES,
                Ok(Step::Passed(checkpoint)) => {
                    tracing::debug!(log = watch.origin(), size = checkpoint.size, "scrubbed");
                    BETWEEN_PASSES
                }
                Err(ScrubError::Unavailable(why)) => {
                    tracing::warn!(log = watch.origin(), %why, "cannot be scrubbed now");
                    BETWEEN_PASSES
                }
                Err(ScrubError::Changed(what)) => {
                    let alarm = format!("the log {} is not what it was: {what}", watch.origin());
                    tracing::error!("{alarm}");
                    watch.stop(&alarm);
                    return Err(Fatal::Alarm(alarm));
                }
            };
        }
        pause().await;
        pauses -= 1;
        // The database is closed when the logs have stopped.
        if watch.has_stopped() {
            return Ok(());
        }
    }
}
