//! What every call to a cloud promises: no more at once than allowed, none for ever, and no second try of what may
//! have been done. See "Calls" in `docs/keys.md`.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::maybe_done;
use futures::poll;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use undercroft_keymgr::{Error, ErrorKind};

/// How many calls of a device are under way at once, unless it says otherwise.
pub(crate) const AT_ONCE: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// How many calls may wait for their turn.
const WAITING: usize = 1024;

/// The first pause before a call is tried again; it doubles from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: what comes back is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How one try of a call failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It is certain that the service did not do it: it was throttled, or the connection was refused. It is tried again.
    NotDone(Error),
    /// It was refused, or nobody knows whether it was done.
    Finally(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Finally(error)
    }
}

/// The calls of one device.
///
/// They are made by a thread of their own, so that whoever waits for one needs no runtime, or may have any. A call
/// whose caller goes away is given up.
pub(crate) struct Calls {
    device: String,
    handle: Handle,
    /// Dropped in the background: a runtime that waits for its tasks must not be dropped in an asynchronous context.
    runtime: Option<Runtime>,
    /// One permit a call, from when it was asked to its answer.
    taken: Arc<Semaphore>,
    /// One permit a call that is under way. Those who wait are served in the order in which they came.
    places: Arc<Semaphore>,
    limit: Duration,
    outages: AtomicU64,
}

impl Calls {
    /// Starts the thread that makes the calls of `device`. `limit` is the time from asking to the answer.
    ///
    /// # Errors
    /// `Unavailable` if the operating system gives no thread.
    pub(crate) fn start(device: &str, at_once: NonZeroUsize, limit: Duration) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(device)
            .enable_all()
            .build()
            .map_err(|error| {
                Error::with_source(ErrorKind::Unavailable, format!("no thread for device `{device}`"), error)
            })?;
        let mut calls = Self::on(device, at_once, limit, runtime.handle().clone());
        calls.runtime = Some(runtime);
        Ok(calls)
    }

    fn on(device: &str, at_once: NonZeroUsize, limit: Duration, handle: Handle) -> Self {
        Self {
            device: device.to_owned(),
            handle,
            runtime: None,
            taken: Arc::new(Semaphore::new(at_once.get() + WAITING)),
            places: Arc::new(Semaphore::new(at_once.get())),
            limit,
            outages: AtomicU64::new(0),
        }
    }

    /// Makes a call: `attempt` is one try of it.
    ///
    /// # Errors
    /// Those of `attempt`; `Unavailable` at once if too many wait already, and when the time is up.
    pub(crate) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F + Send + 'static) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let Ok(taken) = self.taken.clone().try_acquire_owned() else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("{WAITING} calls wait for device `{}` already; try again in a moment", self.device),
            ));
        };
        // Stands in line from now on, and not from when the other thread comes to it.
        let mut place = Box::pin(maybe_done(self.places.clone().acquire_owned()));
        let _ = poll!(place.as_mut());
        let (limit, device) = (self.limit, self.device.clone());
        let task = self.handle.spawn(async move {
            let mut last = None;
            let answer = tokio::time::timeout(limit, async {
                place.as_mut().await;
                let _place = place.as_mut().take_output();
                let mut pause = FIRST_PAUSE;
                loop {
                    match attempt().await {
                        Ok(answer) => return Ok(answer),
                        Err(Failed::Finally(error)) => return Err(error),
                        Err(Failed::NotDone(error)) => last = Some(error),
                    }
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            });
            let answer = answer.await.unwrap_or_else(|_| Err(out_of_time(&device, limit, last)));
            drop(taken);
            answer
        });
        let _given_up = GiveUp(task.abort_handle());
        let answer = task.await.unwrap_or_else(|stopped| match stopped.is_panic() {
            true => {
                let bug = format!("a call of device `{}` panicked; this is a bug", self.device);
                Err(Error::new(ErrorKind::Fault, bug))
            }
            false => Err(Error::new(ErrorKind::Unavailable, format!("device `{}` was closed", self.device))),
        });
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            self.outages.fetch_add(1, Ordering::SeqCst);
        }
        answer
    }

    /// How many calls have found the service away. What was shown before the last of them is to be shown again.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::SeqCst)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calls({}, {} places free)", self.device, self.places.available_permits())
    }
}

/// Stops a call when nobody waits for it any more.
struct GiveUp(AbortHandle);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn out_of_time(device: &str, limit: Duration, last: Option<Error>) -> Error {
    let message = format!("device `{device}` gave no answer within {limit:?}");
    match last {
        Some(last) => Error::with_source(ErrorKind::Unavailable, message, last),
        None => Error::new(ErrorKind::Unavailable, message),
    }
}

/// Between one half of `pause` and the whole of it, so that those who were turned away together do not come back
/// together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes it is the shortest: that is no reason to fail a call.
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause * u32::from(byte[0]) / 512
}

#[cfg(test)]
mod tests;
