//! Threads that own a token's sessions, so that callers never block and never share one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use futures::channel::oneshot;

use crate::deadlines::{Deadline, Deadlines, Expire};
use crate::{Error, ErrorKind};

/// So many threads whose token does not answer are left to themselves and replaced. After that the pool has fewer, and
/// in the end none, until some of them come back: a module that hangs for ever must not eat the process.
pub const MOST_LEFT_BEHIND: usize = 8;

/// Does a job in a session, and says whether its caller was still there.
type Job<S> = Box<dyn FnOnce(&mut Slot<S>) -> bool + Send>;

/// A pool of threads, each with one session `S`, fed by one bounded queue, first come, first served.
///
/// A session is opened by its own thread when the first job reaches it, and thrown away when a job fails with
/// [`ErrorKind::Unavailable`]: the next job opens a new one. So a token that goes away and comes back needs no
/// restart, and whatever a session caches (handles, logins) goes with it.
///
/// Each call has a limit, from when it was asked to its answer. What waits for longer is never begun. A thread that is
/// in the middle of a call then is left behind, and another takes its place ([`MOST_LEFT_BEHIND`]); what it answers in
/// the end goes nowhere, and so does its session.
///
/// Dropping the pool waits for the jobs that run, no longer than the limit, and until nothing is left of the threads that
/// are done.
pub struct SessionThreads<S: 'static> {
    crew: Arc<Crew<S>>,
    queue: Option<Sender<Job<S>>>,
    deadlines: Deadlines,
    limit: Duration,
}

impl<S: 'static> SessionThreads<S> {
    /// Starts `count` threads whose queue holds at most `depth` waiting jobs. `open` makes a session; `limit` is how
    /// long a call may take.
    ///
    /// # Errors
    /// `Unavailable` if the operating system gives no thread.
    pub fn start(
        name: &str,
        count: usize,
        depth: usize,
        limit: Duration,
        open: impl Fn() -> Result<S, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let no_thread =
            |error| Error::with_source(ErrorKind::Unavailable, format!("no thread for {name}"), error);
        let deadlines = Deadlines::start(format!("{name}-limits")).map_err(no_thread)?;
        let (queue, jobs) = bounded(depth);
        let crew = Arc::new(Crew {
            name: name.to_owned(),
            count,
            jobs,
            open: Box::new(open),
            roll: Mutex::default(),
            left: Condvar::new(),
            reopened: AtomicU64::new(0),
        });
        let own = Self { crew, queue: Some(queue), deadlines, limit };
        for _ in 0..count {
            Crew::join(&own.crew, &mut own.crew.roll()).map_err(no_thread)?;
        }
        Ok(own)
    }

    /// How often a session was opened in place of one that was lost: a greater number says that the token was away.
    pub fn reopened(&self) -> u64 {
        self.crew.reopened.load(Ordering::Relaxed)
    }

    /// Runs `job` with a session and gives its result.
    ///
    /// # Errors
    /// Those of `job` and of opening a session; `Unavailable` at once, without waiting, when the queue is full, and
    /// when there is no result in time.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(self.limit, |slot| slot.run(job)).await
    }

    /// The same, for a job that may take longer than most.
    ///
    /// # Errors
    /// As [`SessionThreads::run`].
    pub async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(limit.max(self.limit), |slot| slot.run(job)).await
    }

    /// The same, for a job that is done once more, in a new session, if the session that it was done in turns out to
    /// be dead and it is certain that nothing was done in it ([`Error::is_undone`]).
    ///
    /// # Errors
    /// As [`SessionThreads::run`].
    pub async fn run_again<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(self.limit, |slot| slot.run_again(job)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce(&mut Slot<S>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        let deadline = Deadline::after(limit);
        let call = Arc::new(Call {
            progress: Mutex::new(Progress::Queued(answer)),
            deadline,
            limit,
            crew: self.crew.clone(),
        });
        let asked = call.clone();
        let job: Job<S> = Box::new(move |slot| {
            if !asked.begin() {
                return true;
            }
            // A panic is a bug; its caller is told, and the next one gets a new session on a thread that still lives.
            let result = catch_unwind(AssertUnwindSafe(|| job(slot)));
            asked.answer(result.unwrap_or_else(|_| {
                slot.session = None;
                let name = &slot.crew.name;
                Err(Error::new(ErrorKind::Fault, format!("a job on {name} panicked; this is a bug")))
            }))
        });
        let Some(queue) = &self.queue else { return Err(self.crew.stopped()) };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Error::new(
                ErrorKind::Unavailable,
                format!("the queue of {} is full; try again in a moment", self.crew.name),
            )
            .undone(),
            TrySendError::Disconnected(_) => self.crew.stopped(),
        })?;
        self.deadlines.watch(deadline, call);
        result.await.unwrap_or_else(|_| Err(self.crew.stopped()))
    }
}

/// A call, as its thread and the clock see it: whoever is first answers.
struct Call<S: 'static, T> {
    progress: Mutex<Progress<T>>,
    deadline: Deadline,
    limit: Duration,
    crew: Arc<Crew<S>>,
}

enum Progress<T> {
    Queued(oneshot::Sender<Result<T, Error>>),
    Running(oneshot::Sender<Result<T, Error>>),
    Over,
}

impl<S, T> Call<S, T> {
    fn progress(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be begun: there is time left, and somebody who waits for the answer.
    fn begin(&self) -> bool {
        let mut progress = self.progress();
        match std::mem::replace(&mut *progress, Progress::Over) {
            Progress::Queued(answer) if self.deadline.is_past() => {
                let _ = answer.send(Err(self.waited()));
                false
            }
            Progress::Queued(answer) if !answer.is_canceled() => {
                *progress = Progress::Running(answer);
                true
            }
            _ => false,
        }
    }

    /// Answers it, and says whether that was in time.
    fn answer(&self, result: Result<T, Error>) -> bool {
        match std::mem::replace(&mut *self.progress(), Progress::Over) {
            Progress::Running(answer) => {
                // A caller that went away needs no answer.
                let _ = answer.send(result);
                true
            }
            _ => false,
        }
    }

    fn waited(&self) -> Error {
        let message = format!(
            "{} had no time for it within {:?}, so it was not done; try again later",
            self.crew.name, self.limit
        );
        Error::new(ErrorKind::Unavailable, message).undone()
    }
}

impl<S, T: Send> Expire for Call<S, T> {
    fn is_over(&self) -> bool {
        matches!(*self.progress(), Progress::Over)
    }

    fn expire(&self) {
        // Held until the crew knows: the thread may come back at any moment.
        let mut progress = self.progress();
        match std::mem::replace(&mut *progress, Progress::Over) {
            Progress::Queued(answer) => {
                let _ = answer.send(Err(self.waited()));
            }
            Progress::Running(answer) => {
                Crew::leave_behind(&self.crew);
                let _ = answer.send(Err(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "{} has not answered within {:?}; what it answers later goes nowhere. See whether the token or its module hangs",
                        self.crew.name, self.limit
                    ),
                )));
            }
            Progress::Over => {}
        }
    }
}

/// The threads of a pool.
struct Crew<S: 'static> {
    name: String,
    /// How many there shall be.
    count: usize,
    jobs: Receiver<Job<S>>,
    open: Box<dyn Fn() -> Result<S, Error> + Send + Sync>,
    roll: Mutex<Roll>,
    left: Condvar,
    reopened: AtomicU64,
}

#[derive(Default)]
struct Roll {
    /// How many were ever started, for their names.
    started: usize,
    /// How many take jobs.
    serving: usize,
    /// How many were left behind in a call.
    behind: usize,
    /// Nobody takes anybody's place any more.
    closing: bool,
    /// All that were started, by number.
    threads: BTreeMap<usize, JoinHandle<()>>,
    /// Those that are done, and end by themselves.
    ended: BTreeSet<usize>,
}

impl<S: 'static> Crew<S> {
    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread.
    fn join(own: &Arc<Self>, roll: &mut Roll) -> std::io::Result<()> {
        let (crew, number) = (own.clone(), roll.started);
        let thread = std::thread::Builder::new().name(format!("{}-{number}", own.name));
        roll.threads.insert(number, thread.spawn(move || crew.serve(number))?);
        roll.started += 1;
        roll.serving += 1;
        Ok(())
    }

    fn serve(self: Arc<Self>, number: usize) {
        let mut slot = Slot { session: None, was_open: false, crew: self.clone() };
        for job in &self.jobs {
            if !job(&mut slot) {
                // Whatever hung for so long is not trusted with another job.
                slot.session = None;
                let mut roll = self.roll();
                roll.behind -= 1;
                if roll.serving >= self.count || roll.closing {
                    roll.ended.insert(number);
                    return;
                }
                roll.serving += 1;
            }
        }
        drop(slot);
        let mut roll = self.roll();
        roll.serving -= 1;
        roll.ended.insert(number);
        drop(roll);
        self.left.notify_all();
    }

    /// A thread is in a call whose time is over: another takes its place, if there are not too many like it.
    fn leave_behind(own: &Arc<Self>) {
        let mut roll = own.roll();
        roll.serving -= 1;
        roll.behind += 1;
        if !roll.closing && roll.behind <= MOST_LEFT_BEHIND {
            // Without a thread the pool is one smaller until this one comes back.
            let _ = Self::join(own, &mut roll);
        }
        drop(roll);
        own.left.notify_all();
    }

    fn stopped(&self) -> Error {
        Error::new(ErrorKind::Fault, format!("the threads of {} have stopped", self.name))
    }
}

/// What a thread works with.
struct Slot<S: 'static> {
    session: Option<S>,
    /// Whether it had a session before.
    was_open: bool,
    crew: Arc<Crew<S>>,
}

impl<S> Slot<S> {
    fn run<T>(&mut self, job: impl FnOnce(&mut S) -> Result<T, Error>) -> Result<T, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let session = (self.crew.open)()?;
                if std::mem::replace(&mut self.was_open, true) {
                    self.crew.reopened.fetch_add(1, Ordering::Relaxed);
                }
                none.insert(session)
            }
        };
        let result = job(session);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            self.session = None;
        }
        result
    }

    fn run_again<T>(&mut self, mut job: impl FnMut(&mut S) -> Result<T, Error>) -> Result<T, Error> {
        let was_open = self.session.is_some();
        match self.run(&mut job) {
            // It was open for some time, and nobody knew that it was dead. A new one that fails is another matter.
            Err(error) if was_open && error.is_undone() && self.session.is_none() => self.run(job),
            result => result,
        }
    }
}

impl<S> Drop for SessionThreads<S> {
    fn drop(&mut self) {
        self.queue = None;
        let mut roll = self.crew.roll();
        roll.closing = true;
        let waited = self.crew.left.wait_timeout_while(roll, self.limit, |roll| roll.serving > 0);
        let (mut roll, _) = waited.unwrap_or_else(PoisonError::into_inner);
        // Those that still run are left behind. Those that are done are waited for until nothing is left of them: a module's
        // libraries clean up when a thread ends, and must not when the process, which may be next, has cleaned them up.
        let ended: Vec<_> = std::mem::take(&mut roll.ended)
            .into_iter()
            .filter_map(|number| roll.threads.remove(&number))
            .collect();
        drop(roll);
        let own = std::thread::current().id();
        for thread in ended.into_iter().filter(|thread| thread.thread().id() != own) {
            // Jobs cannot unwind past the loop, so there is no panic to hand on.
            let _ = thread.join();
        }
    }
}

impl<S> fmt::Debug for SessionThreads<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionThreads({}, {} threads)", self.crew.name, self.crew.count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    use futures::executor::block_on;

    use super::*;

    /// Long enough never to be reached where it is not what is tested.
    const LIMIT: Duration = Duration::from_secs(60);

    /// What a library does when a thread ends that has used it; it takes its time.
    struct CleanedUp(Arc<AtomicUsize>);

    impl Drop for CleanedUp {
        fn drop(&mut self) {
            (0..10_000).for_each(|_| std::thread::yield_now());
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    thread_local! {
        static LIBRARY: std::cell::RefCell<Option<CleanedUp>> = const { std::cell::RefCell::new(None) };
    }

    #[test]
    fn nothing_is_left_of_the_threads_of_a_pool_that_is_dropped() {
        let cleaned = Arc::new(AtomicUsize::new(0));
        let threads = SessionThreads::start("token", 4, 16, LIMIT, || Ok(())).unwrap();
        let (entered, running) = mpsc::channel();
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let jobs = (0..4).map(|_| {
            let (cleaned, entered, held) = (cleaned.clone(), entered.clone(), held.clone());
            threads.run(move |()| {
                LIBRARY.with(|library| *library.borrow_mut() = Some(CleanedUp(cleaned)));
                entered.send(()).unwrap();
                // Until all four are in it, so that each is on a thread of its own.
                let _ = held.recv();
                Ok(())
            })
        });
        let jobs = futures::future::join_all(jobs);
        let mut jobs = Box::pin(jobs);
        assert!(block_on(async { futures::poll!(&mut jobs) }).is_pending());
        running.iter().take(4).for_each(drop);
        drop(release);
        block_on(jobs).into_iter().for_each(|done| done.unwrap());
        drop(threads);
        assert_eq!(cleaned.load(Ordering::SeqCst), 4);
    }

    fn gone() -> Error {
        Error::new(ErrorKind::Unavailable, "gone")
    }

    #[test]
    fn a_lost_session_is_opened_again_and_others_are_kept() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counter = opened.clone();
        let threads =
            SessionThreads::start("token", 1, 4, LIMIT, move || Ok(counter.fetch_add(1, Ordering::SeqCst)))
                .unwrap();
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
        let threads = SessionThreads::start("token", 1, 4, LIMIT, move || {
            if counter.fetch_add(1, Ordering::SeqCst) == 0 { Err(gone()) } else { Ok(()) }
        })
        .unwrap();
        assert_eq!(block_on(threads.run(|()| Ok(1))).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(block_on(threads.run(|()| Ok(1))).unwrap(), 1);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let threads = SessionThreads::start("token", 1, 1, LIMIT, || Ok(())).unwrap();
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
        let threads = SessionThreads::start("token", 1, 1, LIMIT, || Ok(())).unwrap();
        let result = block_on(threads.run(|()| -> Result<(), Error> { panic!("job") }));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Fault);
        block_on(threads.run(|()| Ok(()))).unwrap();
    }

    /// A pool that hangs in the jobs that are made with the handle: each takes one permit to come back.
    fn hangs() -> (mpsc::Sender<()>, impl Fn() -> Result<(), Error> + Clone) {
        let (permit, permits) = mpsc::channel();
        let permits = Arc::new(Mutex::new(permits));
        let hang = move || {
            permits.lock().unwrap().recv().unwrap();
            Ok(())
        };
        (permit, hang)
    }

    const SHORT: Duration = Duration::from_millis(40);

    #[test]
    fn a_call_that_hangs_is_told_in_time_and_another_thread_takes_the_place() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counter = opened.clone();
        let threads =
            SessionThreads::start("token", 1, 4, SHORT, move || Ok(counter.fetch_add(1, Ordering::SeqCst)))
                .unwrap();
        let (permit, hang) = hangs();
        let error = block_on(threads.run(move |_| hang())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("has not answered within 40ms") && !error.is_undone(), "{error}");
        // The one that hangs still does, and the pool serves with a session of its own.
        assert_eq!(block_on(threads.run(|session| Ok(*session))).unwrap(), 1);
        permit.send(()).unwrap();
        assert_eq!(block_on(threads.run(|session| Ok(*session))).unwrap(), 1);
        assert_eq!(threads.crew.roll().started, 2);
    }

    #[test]
    fn what_waited_too_long_is_never_done() {
        let threads = SessionThreads::start("token", 1, 4, SHORT, || Ok(())).unwrap();
        let (permit, hang) = hangs();
        let done = Arc::new(AtomicUsize::new(0));
        // Each pool thread hangs in turn, so that what waits is never reached in time.
        let calls: Vec<_> = (0..3)
            .map(|number| {
                let (hang, done) = (hang.clone(), done.clone());
                threads.run(move |()| {
                    done.fetch_add(1, Ordering::SeqCst);
                    if number == 0 { hang() } else { Ok(()) }
                })
            })
            .collect();
        let results = block_on(futures::future::join_all(calls));
        // The first was begun. Those behind it ran out of time with it, or were done by the thread in its place; never
        // both, and what was refused as undone was not done.
        let undone = results.iter().filter(|result| result.as_ref().is_err_and(Error::is_undone)).count();
        assert!(results[0].as_ref().is_err_and(|error| !error.is_undone()));
        permit.send(()).unwrap();
        drop(threads);
        assert_eq!(done.load(Ordering::SeqCst), 3 - undone);
    }

    #[test]
    fn a_caller_that_went_away_is_not_served() {
        let threads = SessionThreads::start("token", 1, 4, LIMIT, || Ok(())).unwrap();
        let (permit, hang) = hangs();
        let done = Arc::new(AtomicUsize::new(0));
        let counter = done.clone();
        block_on(async {
            let mut first = Box::pin(threads.run(move |()| hang()));
            assert!(futures::poll!(&mut first).is_pending());
            let mut second = Box::pin(threads.run(move |()| {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }));
            assert!(futures::poll!(&mut second).is_pending());
            drop(second);
            permit.send(()).unwrap();
            first.await.unwrap();
        });
        block_on(threads.run(|()| Ok(()))).unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn only_so_many_are_left_behind_and_those_that_come_back_serve() {
        let threads = SessionThreads::start("token", 2, 64, SHORT, || Ok(())).unwrap();
        let (permit, hang) = hangs();
        for _ in 0..MOST_LEFT_BEHIND + 2 {
            let hang = hang.clone();
            assert!(block_on(threads.run(move |()| hang())).is_err());
        }
        {
            let roll = threads.crew.roll();
            assert_eq!((roll.behind, roll.serving), (MOST_LEFT_BEHIND + 2, 0));
            assert_eq!(roll.started, 2 + MOST_LEFT_BEHIND);
        }
        // Nobody is left: calls are refused in time, undone.
        let refused = block_on(threads.run(|()| Ok(()))).unwrap_err();
        assert!(refused.is_undone(), "{refused}");
        for _ in 0..MOST_LEFT_BEHIND + 2 {
            permit.send(()).unwrap();
        }
        block_on(threads.run_within(LIMIT, |()| Ok(()))).unwrap();
        let mut roll = threads.crew.roll();
        while roll.behind > 0 {
            drop(roll);
            std::thread::yield_now();
            roll = threads.crew.roll();
        }
        assert_eq!(roll.serving, 2);
    }

    #[test]
    fn a_dead_session_is_replaced_once_and_only_where_nothing_was_done() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counter = opened.clone();
        let threads =
            SessionThreads::start("token", 1, 4, LIMIT, move || Ok(counter.fetch_add(1, Ordering::SeqCst)))
                .unwrap();
        // A new session that fails is not tried again.
        let first = block_on(threads.run_again(|_| Err::<(), _>(gone().undone())));
        assert!(first.is_err());
        assert_eq!(opened.load(Ordering::SeqCst), 1);
        block_on(threads.run(|_| Ok(()))).unwrap();
        // An old one is, once.
        let dead = |dead: usize| {
            move |session: &mut usize| if *session <= dead { Err(gone().undone()) } else { Ok(*session) }
        };
        assert_eq!(block_on(threads.run_again(dead(1))).unwrap(), 2);
        let twice = block_on(threads.run_again(dead(3)));
        assert!(twice.unwrap_err().is_undone());
        assert_eq!(opened.load(Ordering::SeqCst), 4);
        // What may have been done is not done again.
        block_on(threads.run(|_| Ok(()))).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let unsure = block_on(threads.run_again(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(gone())
        }));
        assert!(unsure.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn those_who_come_first_are_served_first() {
        let threads = SessionThreads::start("token", 1, 64, LIMIT, || Ok(Vec::new())).unwrap();
        let calls = (0..64).map(|number| {
            threads.run(move |served: &mut Vec<_>| {
                served.push(number);
                Ok(())
            })
        });
        for result in block_on(futures::future::join_all(calls)) {
            result.unwrap();
        }
        let served = block_on(threads.run(|served| Ok(served.clone()))).unwrap();
        assert_eq!(served, (0..64).collect::<Vec<_>>());
    }

    /// 64 callers who come again as soon as they are served, and four sessions that begin four jobs at a time: each of them
    /// says which it is before any of the four goes on, so that no clock and no scheduler has a part in the order.
    #[test]
    fn of_many_callers_on_few_sessions_none_is_starved() {
        const SESSIONS: usize = 4;
        const CALLERS: usize = 64;
        const ROUNDS: usize = 20;
        let threads = SessionThreads::start("token", SESSIONS, CALLERS, LIMIT, || Ok(())).unwrap();
        let (tickets, all_began) = (AtomicUsize::new(0), Arc::new(Barrier::new(SESSIONS)));
        let served = Arc::new(Mutex::new(Vec::new()));
        let caller = |caller: usize| {
            let (threads, tickets, all_began, served) = (&threads, &tickets, &all_began, &served);
            async move {
                for _ in 0..ROUNDS {
                    // Taken and queued in one step: nothing is awaited in between.
                    let ticket = tickets.fetch_add(1, Ordering::SeqCst);
                    let (all_began, served) = (all_began.clone(), served.clone());
                    let call = threads.run(move |_| {
                        served.lock().unwrap().push((ticket, caller));
                        all_began.wait();
                        Ok(())
                    });
                    call.await.unwrap();
                }
            }
        };
        block_on(futures::future::join_all((0..CALLERS).map(caller)));
        let served = served.lock().unwrap();
        assert_eq!(served.len(), CALLERS * ROUNDS);
        let mut done = vec![0; CALLERS];
        for (round, together) in served.chunks(SESSIONS).enumerate() {
            // First come, first served: the four who came next, whichever of them says so first.
            let came: BTreeSet<usize> = together.iter().map(|(ticket, _)| *ticket).collect();
            assert_eq!(came, (round * SESSIONS..(round + 1) * SESSIONS).collect());
            together.iter().for_each(|(_, caller)| done[*caller] += 1);
            let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
            assert!(
                most - least <= 2,
                "after round {round} somebody was served {most} times and another {least}"
            );
        }
        assert!(done.iter().all(|count| *count == ROUNDS), "{done:?}");
    }

    #[test]
    fn dropping_a_pool_waits_for_a_job_and_not_for_one_that_hangs() {
        let threads = SessionThreads::start("token", 1, 4, SHORT, || Ok(())).unwrap();
        let (permit, hang) = hangs();
        assert!(block_on(threads.run(move |()| hang())).is_err());
        drop(threads);
        permit.send(()).unwrap();
    }
}
