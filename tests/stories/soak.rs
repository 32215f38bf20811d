//! The power goes at any moment, again and again, under load: kill -9, start, kill -9, start.
//!
//! `make test` does 50 rounds and `make soak` 1,000. When a round is killed, and what is killed in it, comes from a
//! seed, which is told when something is wrong: `UNDERCROFT_SOAK_SEED` repeats it, as far as threads and disks repeat
//! themselves, and `UNDERCROFT_SOAK_ROUNDS` says how many rounds there are.

mod ceremony;
mod load;
mod promises;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use e2e::Tool;
use undercroft_ca::serial::Entropy as _;
use undercroft_cli::system::SystemEntropy;
use undercroft_cli::{OutputFormat, Terminal};

use self::load::Load;
use self::promises::Promises;
use crate::place::Place;

/// Rounds that every run of the tests can afford.
const ROUNDS: u64 = 50;

/// Everything is exported and audited after as many rounds, or more if there are many: each audit reads the whole log.
const AUDIT_EVERY: u64 = 10;

/// A round under load ends within this many microseconds.
const LOADED: u64 = 300_000;

/// A start is over before this: it is killed in the middle.
const STARTING: u64 = 250_000;

/// A stop is over before this.
const STOPPING: u64 = 40_000;

#[test]
fn nothing_that_was_told_is_lost_or_told_twice_however_often_it_is_killed() {
    let rounds = number("UNDERCROFT_SOAK_ROUNDS").unwrap_or(ROUNDS);
    let audit_every = AUDIT_EVERY.max(rounds / 20);
    let mut chance = Chance::new(number("UNDERCROFT_SOAK_SEED"));
    let terminal = Terminal::new(if rounds > ROUNDS { OutputFormat::Text } else { OutputFormat::Json });
    terminal.say(format!("{rounds} rounds, UNDERCROFT_SOAK_SEED={}", chance.seed)).unwrap();
    let progress = terminal.progress(rounds, "kill -9");

    let mut place = Place::prod();
    let load = Load::new(&place);
    let mut promises = Promises::new(&place);
    place.stop();
    let tokens = Tokens::keep(&place);
    for round in 1..=rounds {
        if chance.one_in(4) {
            tokens.put_back();
            kill_a_start(&place, chance.below(STARTING));
        }
        tokens.put_back();
        place.start();
        let clients = load.begin(place.daemon().address());
        pause(chance.below(LOADED));
        let daemon = place.daemon.take().unwrap();
        if chance.one_in(8) {
            daemon.ask_to_stop().unwrap();
            pause(chance.below(STOPPING));
        }
        daemon.kill().unwrap();
        for answer in clients.answers() {
            promises.take(&answer);
        }
        if round % audit_every == 0 || round == rounds {
            tokens.put_back();
            place.start();
            place.export_and_audit();
            promises.are_kept(&place);
            place.stop();
        }
        progress.advance(1);
    }
    drop(progress);
    terminal.say(promises.told()).unwrap();
    // A round may be killed before anybody was answered; many are not.
    assert!(promises.certificates() as u64 > rounds, "{}", promises.told());
}

/// Starts the daemon and kills it before it is ready, most of the time: recovery is cut off, too.
fn kill_a_start(place: &Place, after: u64) {
    let mut command = place.site.serve().unwrap().into_command();
    let mut daemon = command.stderr(Stdio::null()).spawn().unwrap();
    pause(after);
    let ended = daemon.try_wait().unwrap();
    assert!(ended.is_none(), "the daemon ended by itself: {ended:?}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// How long it is left alone is the thing itself, and waits for nothing.
fn pause(microseconds: u64) {
    std::thread::sleep(Duration::from_micros(microseconds));
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, and must be a number")))
}

/// What SoftHSM's tokens were. It rewrites a token's file in place at each login, inside the daemon, so that kill -9
/// can leave half of one. A real token does not die with whoever uses it.
struct Tokens {
    folder: PathBuf,
    copy: PathBuf,
}

impl Tokens {
    fn keep(place: &Place) -> Self {
        let own = Self { folder: place.path("devices/softhsm"), copy: place.path("devices-as-they-were") };
        replace(&own.folder, &own.copy);
        own
    }

    fn put_back(&self) {
        replace(&self.copy, &self.folder);
    }
}

fn replace(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    Tool::foreign("cp").arg("-a").arg(from).arg(to).done().unwrap();
}

/// Chance that can be repeated (SplitMix64), and says by which seed if the test fails.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            SystemEntropy.fill(&mut bytes).unwrap();
            u64::from(u32::from_le_bytes(bytes))
        });
        Self { seed, state: seed }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

impl Drop for Chance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody is left to be told if that fails, too.
            let _ = Terminal::new(OutputFormat::Text).say(format!("UNDERCROFT_SOAK_SEED={}", self.seed));
        }
    }
}
