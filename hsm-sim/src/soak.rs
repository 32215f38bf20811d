//! Signing for as long as it takes while the token is killed again and again.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that backends share: it fails by panicking, and measures how long a token is missed"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use undercroft_keymgr::{ErrorKind, Key};

/// Callers at once.
const CALLERS: u64 = 8;

/// How long the token lives between its deaths.
const LIFE: Duration = Duration::from_secs(1);

/// A token that is back serves within this.
const BACK: Duration = Duration::from_secs(2);

/// Signatures that every run of the tests can afford; `UNDERCROFT_SOAK_SIGNATURES` says how many there are else.
const SIGNATURES: u64 = 500;

/// One death for so many signatures, at least: fast tokens sign on until there were enough.
const PER_DEATH: u64 = 250;

/// What a soak saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soaked {
    /// Right signatures.
    pub signed: u64,
    /// Errors, all of them `Unavailable`.
    pub refused: u64,
    /// How often the token was killed.
    pub deaths: u64,
    /// How long the longest wait was, from the token's return to the next signature.
    pub longest: Duration,
}

/// Signs with `key` while `kill` kills the token once a second; it comes back when `kill` returns.
///
/// # Panics
/// A signature is wrong, an error is another than `Unavailable`, or a token that is back does not serve in time.
pub fn run(key: &Key, kill: impl FnMut(u64) + Send) -> Soaked {
    let wanted = std::env::var("UNDERCROFT_SOAK_SIGNATURES").ok();
    let wanted =
        wanted.map_or(SIGNATURES, |number| number.parse().expect("UNDERCROFT_SOAK_SIGNATURES is a number"));
    let (signed, refused, deaths) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (back, longest) = (Mutex::new(None::<Instant>), Mutex::new(Duration::ZERO));
    let lock = |of: &Mutex<Option<Instant>>| *of.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let (back, longest, deaths) = (&back, &longest, &deaths);
        let killer = scope.spawn(move || {
            let mut kill = kill;
            while stopped.recv_timeout(LIFE) == Err(mpsc::RecvTimeoutError::Timeout) {
                *back.lock().unwrap_or_else(PoisonError::into_inner) = None;
                kill(deaths.load(Ordering::SeqCst));
                *back.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                deaths.fetch_add(1, Ordering::SeqCst);
            }
        });
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (signed, refused) = (&signed, &refused);
                scope.spawn(move || {
                    let algorithm = key.signer.algorithm().signature_algorithm();
                    for number in 0_u64.. {
                        let message = [caller.to_be_bytes(), number.to_be_bytes()].concat();
                        let since = lock(back);
                        match block_on(key.signer.sign(&message)) {
                            Ok(signature) => {
                                let right = key.signer.public_key().verify(algorithm, &message, &signature);
                                right.expect("a wrong signature was released");
                                if let Some(since) = since {
                                    // The first that signs after the return has waited for the longest.
                                    let mut back = back.lock().unwrap_or_else(PoisonError::into_inner);
                                    if *back == Some(since) {
                                        *back = None;
                                        let waited = since.elapsed();
                                        let mut longest =
                                            longest.lock().unwrap_or_else(PoisonError::into_inner);
                                        *longest = waited.max(*longest);
                                    }
                                }
                                let enough = signed.fetch_add(1, Ordering::SeqCst) + 1 >= wanted;
                                if enough && deaths.load(Ordering::SeqCst) >= wanted / PER_DEATH {
                                    return;
                                }
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                                refused.fetch_add(1, Ordering::SeqCst);
                                let late = since
                                    .is_some_and(|since| lock(back) == Some(since) && since.elapsed() > BACK);
                                assert!(
                                    !late,
                                    "the token is back, and is not served after {BACK:?}: {error}"
                                );
                                // Nobody hammers a token that is away.
                                std::thread::sleep(Duration::from_millis(5));
                            }
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("no caller panics");
        }
        drop(stop);
        killer.join().expect("the killer does not panic");
    });
    let longest = *longest.lock().unwrap_or_else(PoisonError::into_inner);
    Soaked {
        signed: signed.into_inner(),
        refused: refused.into_inner(),
        deaths: deaths.into_inner(),
        longest,
    }
}
