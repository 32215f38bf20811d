//! Calls that must be answered in time, and the thread that ends those that are not.
//!
//! The only file of this crate that looks at a clock: how long a call has taken is no fact that anybody could hand in.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A call whose time can run out.
pub(crate) trait Expire: Send + Sync {
    /// Whether it was answered, so that nothing is left to end.
    fn is_over(&self) -> bool;

    /// Answers it with what happens when there was no answer in time.
    fn expire(&self);
}

/// When the time of a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        let now = now();
        // A limit that no clock reaches is as good as a day.
        Self(now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400)))
    }

    pub(crate) fn is_past(self) -> bool {
        now() >= self.0
    }
}

/// Whether something happened a moment ago.
#[derive(Debug)]
pub struct Recently {
    within: Duration,
    last: Option<Instant>,
}

impl Recently {
    /// A moment is `within`. Nothing has happened yet.
    pub const fn new(within: Duration) -> Self {
        Self { within, last: None }
    }

    /// It happens now.
    pub fn happens(&mut self) {
        self.last = Some(now());
    }

    /// Whether it did a moment ago.
    pub fn happened(&self) -> bool {
        self.last.is_some_and(|last| now().duration_since(last) <= self.within)
    }
}

/// Lets something be done at most once in a while.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Pace {
    /// Once in `every`, and at once the first time.
    pub const fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new(None) }
    }

    /// Whether it may be done now. Who is told so does it.
    pub fn allows(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let allowed = last.is_none_or(|last| now.duration_since(last) >= self.every);
        if allowed {
            *last = Some(now);
        }
        allowed
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place of the key managers that looks at a clock")]
fn now() -> Instant {
    Instant::now()
}

/// A thread that sleeps until the next deadline. It ends when this is dropped.
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By deadline, the next one first. Those that are over are dropped when they come to the front.
    calls: VecDeque<(Deadline, Arc<dyn Expire>)>,
    /// Until when the thread sleeps; nothing if it sleeps until it is woken.
    until: Option<Deadline>,
    stopped: bool,
}

impl Deadlines {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives none.
    pub(crate) fn start(name: String) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sees to it that `call` is ended at `deadline` if it is not over by then.
    pub(crate) fn watch(&self, deadline: Deadline, call: Arc<dyn Expire>) {
        let mut state = self.shared.lock();
        state.drop_what_is_over();
        // Nearly all calls have the same limit, so that the place is at the end or next to it.
        let place = state.calls.partition_point(|(other, _)| *other <= deadline);
        state.calls.insert(place, (deadline, call));
        if state.until.is_none_or(|until| deadline < until) {
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stopped {
            state.drop_what_is_over();
            let Some((deadline, call)) = state.calls.front() else {
                state.until = None;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (deadline, now) = (*deadline, now());
            if deadline.0 <= now {
                let call = call.clone();
                state.calls.pop_front();
                // Whoever is woken by it may ask again at once.
                drop(state);
                call.expire();
                state = self.lock();
                continue;
            }
            state.until = Some(deadline);
            let waited = self.changed.wait_timeout(state, deadline.0 - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn drop_what_is_over(&mut self) {
        while self.calls.front().is_some_and(|(_, call)| call.is_over()) {
            self.calls.pop_front();
        }
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // What it ends cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    struct Call {
        name: u32,
        over: AtomicBool,
        told: mpsc::Sender<u32>,
    }

    impl Expire for Call {
        fn is_over(&self) -> bool {
            self.over.load(Ordering::SeqCst)
        }

        fn expire(&self) {
            self.over.store(true, Ordering::SeqCst);
            self.told.send(self.name).unwrap();
        }
    }

    #[test]
    fn calls_end_in_the_order_of_their_deadlines_and_answered_ones_do_not() {
        let (told, ended) = mpsc::channel();
        let deadlines = Deadlines::start("deadlines".into()).unwrap();
        let watch = |name: u32, limit: u64, over: bool| {
            let call = Arc::new(Call { name, over: over.into(), told: told.clone() });
            deadlines.watch(Deadline::after(Duration::from_millis(limit)), call);
        };
        // The long ones first, so that the thread sleeps for too long unless it is woken.
        watch(4, 120, false);
        watch(3, 80, false);
        watch(0, 1, true);
        watch(2, 40, false);
        watch(1, 0, false);
        let order: Vec<_> = ended.iter().take(4).collect();
        assert_eq!(order, [1, 2, 3, 4]);
    }

    #[test]
    fn what_happened_is_forgotten_after_its_moment() {
        let mut recently = Recently::new(Duration::from_secs(3600));
        assert!(!recently.happened());
        recently.happens();
        assert!(recently.happened());
        let mut never = Recently::new(Duration::ZERO);
        never.happens();
        while never.happened() {}
    }

    #[test]
    fn a_pace_allows_one_of_many_and_another_after_its_while() {
        let pace = Pace::new(Duration::from_secs(3600));
        assert_eq!((0..100).filter(|_| pace.allows()).count(), 1);
        let pace = Pace::new(Duration::ZERO);
        assert_eq!((0..100).filter(|_| pace.allows()).count(), 100);
    }

    #[test]
    fn dropping_it_ends_nothing() {
        let (told, ended) = mpsc::channel();
        let deadlines = Deadlines::start("deadlines".into()).unwrap();
        let call = Arc::new(Call { name: 1, over: false.into(), told });
        deadlines.watch(Deadline::after(Duration::MAX), call);
        drop(deadlines);
        assert_eq!(ended.try_iter().count(), 0);
    }
}
