//! Threads that own a token's sessions, so that callers never block and never share one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use futures::channel::oneshot;

use crate::{Error, ErrorKind};

type Job<S> = Box<dyn FnOnce(&mut Slot<S>) + Send>;

/// A pool of threads, each with one session `S`, fed by one bounded queue.
///
/// A session is opened by its own thread when the first job reaches it, and thrown away when a job fails with
/// [`ErrorKind::Unavailable`]: the next job opens a new one. So a token that goes away and comes back needs no
/// restart, and whatever a session caches (handles, logins) goes with it.
///
/// Dropping the pool waits for the jobs that run.
pub struct SessionThreads<S> {
    name: String,
    queue: Option<Sender<Job<S>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Slot<S> {
    session: Option<S>,
    open: Arc<dyn Fn() -> Result<S, Error> + Send + Sync>,
}

impl<S: 'static> SessionThreads<S> {
    /// Starts `count` threads whose queue holds at most `depth` waiting jobs. `open` makes a session.
    ///
    /// # Errors
    /// `Unavailable` if the operating system gives no thread.
    pub fn start(
        name: &str,
        count: usize,
        depth: usize,
        open: impl Fn() -> Result<S, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let open: Arc<dyn Fn() -> Result<S, Error> + Send + Sync> = Arc::new(open);
        let (queue, jobs): (Sender<Job<S>>, Receiver<Job<S>>) = bounded(depth);
        let threads = (0..count)
            .map(|number| {
                let jobs = jobs.clone();
                let open = open.clone();
                std::thread::Builder::new()
                    .name(format!("{name}-{number}"))
                    .spawn(move || {
                        let mut slot = Slot { session: None, open };
                        for job in jobs {
                            // A panic is a bug; its caller is told by the dropped answer, and the next caller
                            // gets a new session on a thread that still lives.
                            if catch_unwind(AssertUnwindSafe(|| job(&mut slot))).is_err() {
                                slot.session = None;
                            }
                        }
                    })
                    .map_err(|error| {
                        Error::with_source(ErrorKind::Unavailable, format!("no thread for {name}"), error)
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), queue: Some(queue), threads })
    }

    /// Runs `job` with a session and gives its result.
    ///
    /// # Errors
    /// Those of `job` and of opening a session; `Unavailable` at once, without waiting, when the queue is full.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        let job: Job<S> = Box::new(move |slot| {
            // A caller that went away needs no answer.
            let _ = answer.send(slot.run(job));
        });
        let Some(queue) = &self.queue else { return Err(self.stopped()) };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Error::new(
                ErrorKind::Unavailable,
                format!("the queue of {} is full; try again in a moment", self.name),
            ),
            TrySendError::Disconnected(_) => self.stopped(),
        })?;
        result.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Fault, format!("a job on {} panicked; this is a bug", self.name)))
        })
    }

    fn stopped(&self) -> Error {
        Error::new(ErrorKind::Fault, format!("the threads of {} have stopped", self.name))
    }
}

impl<S> Slot<S> {
    fn run<T>(&mut self, job: impl FnOnce(&mut S) -> Result<T, Error>) -> Result<T, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert((self.open)()?),
        };
        let result = job(session);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            self.session = None;
        }
        result
    }
}

impl<S> Drop for SessionThreads<S> {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Jobs cannot unwind past the loop, so there is no panic to hand on.
            let _ = thread.join();
        }
    }
}

impl<S> fmt::Debug for SessionThreads<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionThreads({}, {} threads)", self.name, self.threads.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures::executor::block_on;

    use super::*;

    fn gone() -> Error {
        Error::new(ErrorKind::Unavailable, "gone")
    }

    #[test]
    fn a_lost_session_is_opened_again_and_others_are_kept() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counter = opened.clone();
        let threads =
            SessionThreads::start("token", 1, 4, move || Ok(counter.fetch_add(1, Ordering::SeqCst))).unwrap();
        assert_eq!(block_on(threads.run(|session| Ok(*session))).unwrap(), 0);
        let refused = block_on(threads.run(|_| Err::<(), _>(Error::new(ErrorKind::Denied, "no"))));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(block_on(threads.run(|session| Ok(*session))).unwrap(), 0);
        assert!(block_on(threads.run(|_| Err::<(), _>(gone()))).is_err());
        assert_eq!(block_on(threads.run(|session| Ok(*session))).unwrap(), 1);
        assert_eq!(opened.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn failing_to_open_is_the_callers_error_and_is_tried_again() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counter = attempts.clone();
        let threads = SessionThreads::start("token", 1, 4, move || {
            if counter.fetch_add(1, Ordering::SeqCst) == 0 { Err(gone()) } else { Ok(()) }
        })
        .unwrap();
        assert_eq!(block_on(threads.run(|()| Ok(1))).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(block_on(threads.run(|()| Ok(1))).unwrap(), 1);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let threads = SessionThreads::start("token", 1, 1, || Ok(())).unwrap();
        let (entered, running) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let blocker = threads.run(move |()| {
            entered.send(()).unwrap();
            held.recv().unwrap();
            Ok(())
        });
        let waiting = threads.run(|()| Ok(()));
        let refused = threads.run(|()| Ok(()));
        // Each `run` enqueues when first polled; `join!` polls in order.
        let (_, _, third) = block_on(async {
            let mut blocker = Box::pin(blocker);
            assert!(futures::poll!(&mut blocker).is_pending());
            running.recv().unwrap();
            let mut waiting = Box::pin(waiting);
            assert!(futures::poll!(&mut waiting).is_pending());
            let third = refused.await;
            release.send(()).unwrap();
            (blocker.await.unwrap(), waiting.await.unwrap(), third)
        });
        let error = third.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("full"), "{error}");
    }

    #[test]
    fn a_panicking_job_is_told_and_the_thread_lives_on() {
        let threads = SessionThreads::start("token", 1, 1, || Ok(())).unwrap();
        let result = block_on(threads.run(|()| -> Result<(), Error> { panic!("job") }));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Fault);
        block_on(threads.run(|()| Ok(()))).unwrap();
    }
}
