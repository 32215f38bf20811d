//! Random schedules under a simulated clock: whatever is alive verifies, for whoever polls.
//!
//! A bundle that was the published one at any moment within the last refresh hint may be what a client holds, since each
//! client polls at some moment of every hint. Phases begin as early as they may, or later; they may be hastened. What is
//! alive is every certificate that was issued and has not ended, with the chain that came with it.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use undercroft_keys::KeyAlgorithm;
use webpki::{EndEntityCert, KeyUsage};

use super::pki::{Pki, at};
use super::*;
use crate::certificate::to_pem;
use crate::names::parse_trust_domain;

/// Schedules of `make test`; `make soak` walks ten thousand.
const SCHEDULES: usize = 200;

/// One verification in so many is OpenSSL's, too.
const SAMPLE: usize = 3000;

/// Random numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `from` to `to`, both included.
    fn within(&mut self, from: i64, to: i64) -> i64 {
        from + (self.throw() % (to - from + 1) as u64) as i64
    }

    fn one_in(&mut self, count: i64) -> bool {
        self.within(1, count) == 1
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.within(0, all.len() as i64 - 1) as usize]
    }
}

/// Something that was issued: itself first, then what came with it.
struct Issued {
    chain: Vec<Vec<u8>>,
    not_after: Timestamp,
    by_old: bool,
}

/// A consumer that polls.
struct Poller {
    first: i64,
    every: i64,
}

/// The world of one schedule.
struct World {
    pki: Pki,
    rotation: Rotation,
    leaf_lifetime: Lifetime,
    hint: Lifetime,
    /// Each with when it was published.
    bundles: Vec<(Timestamp, Bundle)>,
    issued: Vec<Issued>,
    pollers: Vec<Poller>,
    verified: usize,
}

/// What did not verify, and when.
type Failed = String;

impl World {
    fn new(dice: &mut Dice, of_root: bool, schedule: Schedule) -> Self {
        // P-256 verifies fastest by far, and what is verified does not depend on it.
        let algorithm = match dice.within(1, 12) {
            1 => KeyAlgorithm::EcdsaP384,
            2 => KeyAlgorithm::Ed25519,
            _ => KeyAlgorithm::EcdsaP256,
        };
        let pki = Pki::new(algorithm, of_root, at(-3600));
        let leaf_lifetime = Lifetime::seconds(dice.within(600, 24 * 3600) as u64);
        // From far shorter than a leaf lives to longer than it does.
        let most = leaf_lifetime.as_seconds() as i64 * 3 / 2;
        let hint = Lifetime::seconds(dice.within(30, most) as u64);
        let hint_seconds = hint.as_seconds() as i64;
        let pollers = (0..dice.within(0, 3))
            .map(|_| Poller { first: dice.within(0, hint_seconds - 1), every: dice.within(1, hint_seconds) })
            .collect();
        let roots = of_root
            .then(|| Roots::new(pki.old_root.certificate.clone(), pki.new_root.certificate.clone()).unwrap());
        let rotation =
            Rotation::plan("prod.example".into(), 1, schedule, pki.replaced(), roots, at(0)).unwrap();
        let cross = match of_root {
            true => vec![pki.new_by_old.clone(), pki.old_by_new.clone()],
            false => Vec::new(),
        };
        let has_cross = schedule != Schedule::Emergency || dice.one_in(2);
        let rotation = rotation.with_cross(if has_cross { cross } else { Vec::new() }, 1, at(0)).unwrap();
        let domain = parse_trust_domain("prod.example").unwrap();
        let first = Bundle::first(domain, vec![pki.old_root.certificate.clone()], hint);
        Self {
            rotation,
            leaf_lifetime,
            hint,
            bundles: vec![(at(-1_000_000), first)],
            issued: Vec::new(),
            pollers,
            verified: 0,
            pki,
        }
    }

    fn published(&self) -> &Bundle {
        &self.bundles.last().unwrap().1
    }

    /// Calls `story` with what the daemon would know.
    fn with_facts<T>(&self, now: Timestamp, story: impl FnOnce(&Facts<'_>) -> T) -> T {
        let authorities = named(&self.pki);
        let consumers: Vec<_> = self
            .pollers
            .iter()
            .map(|poller| {
                let ago = (now.as_second() - at(0).as_second() - poller.first).rem_euclid(poller.every);
                let polled = Timestamp::from_second(now.as_second() - ago).unwrap();
                let held = self.bundles.iter().rfind(|(published, _)| *published <= polled).unwrap();
                Consumer {
                    id: "spiffe://control.example/server/prod".into(),
                    holds: Some(held.1.sequence()),
                    is_spire_server: false,
                    until: None,
                }
            })
            .collect();
        let by_old = self.issued.iter().filter(|issued| issued.by_old);
        let last = by_old.max_by_key(|issued| issued.not_after);
        let last = last.map(|issued| Live { name: "a leaf".into(), not_after: issued.not_after });
        story(&Facts {
            leaf_lifetime: self.leaf_lifetime,
            refresh_hint: self.hint,
            bundle: self.published().sequence(),
            consumers: &consumers,
            authorities: &authorities,
            last_of_old: last.as_ref(),
            new_has_issued: self.issued.iter().any(|issued| !issued.by_old),
        })
    }

    /// Goes on if it may, as the daemon does: what is published first, then the phase.
    fn advance(&mut self, steps: &[Step], now: Timestamp) {
        let gone_on = self.with_facts(now, |facts| self.rotation.advance_by(steps, facts, now));
        let Ok(gone_on) = gone_on else { return };
        if let Some(bundle) = gone_on.bundle(gone_on.phase().unwrap(), self.published()) {
            assert_eq!(bundle.sequence(), self.published().sequence() + 1);
            assert_eq!(bundle.refresh_hint(), self.hint);
            self.bundles.push((now, bundle));
        }
        self.rotation = gone_on;
    }

    fn issue(&mut self, dice: &mut Dice, now: Timestamp) {
        let by_old = match self.rotation.signer("i1") {
            "i1" => true,
            "i2" => false,
            other => panic!("{other}"),
        };
        let signer = if by_old { &self.pki.old_authority } else { &self.pki.new_authority };
        let root = match signer.certificate.is_issued_by(&self.pki.old_root.certificate) {
            true => &self.pki.old_root,
            false => &self.pki.new_root,
        };
        let lifetime = Lifetime::seconds(dice.within(60, self.leaf_lifetime.as_seconds() as i64) as u64);
        let beside = self.rotation.beside(&root.certificate, now).map(|cross| cross.der().to_vec());
        let above = [signer.certificate.der().to_vec()].into_iter().chain(beside);
        let (chain, not_after) = match dice.one_in(4) {
            false => {
                let (leaf, not_after) = signer.leaf(&self.pki.leaf, now, lifetime);
                ([leaf].into_iter().chain(above).collect(), not_after)
            }
            // A SPIRE server's CA, and a workload below it.
            true => {
                let ca = signer.spire_ca(now, lifetime);
                let (leaf, _) = ca.leaf(&self.pki.leaf, now, lifetime);
                let not_after = ca.certificate.validity().not_after();
                ([leaf, ca.certificate.der().to_vec()].into_iter().chain(above).collect(), not_after)
            }
        };
        self.issued.push(Issued { chain, not_after, by_old });
    }

    /// Every bundle that somebody may hold who polls at the refresh hint.
    fn held(&self, now: Timestamp) -> Vec<&Bundle> {
        let ends = self.bundles.iter().skip(1).map(|(published, _)| Some(*published)).chain([None]);
        let oldest = now.checked_sub(self.hint.0).unwrap();
        let held = self.bundles.iter().zip(ends).filter(|(_, end)| end.is_none_or(|end| end > oldest));
        held.map(|((_, bundle), _)| bundle).collect()
    }

    fn everything_verifies(&mut self, now: Timestamp) -> Result<(), Failed> {
        let mut verified = 0;
        for bundle in self.held(now) {
            let roots: Vec<_> = bundle.roots().iter().map(|root| CertificateDer::from(root.der())).collect();
            let anchors: Vec<_> =
                roots.iter().map(|root| webpki::anchor_from_trusted_cert(root).unwrap()).collect();
            for issued in self.issued.iter().filter(|issued| issued.not_after >= now) {
                verified += 1;
                verifies(issued, bundle, &anchors, now).map_err(|error| {
                    format!(
                        "in {:?} since {}, at {now}, under bundle {} of {}: {error}",
                        self.rotation.phase(),
                        self.rotation.since(),
                        bundle.sequence(),
                        self.published().sequence()
                    )
                })?;
            }
        }
        self.verified += verified;
        Ok(())
    }

    /// The next moment at which something may happen.
    fn next(&self, dice: &mut Dice, steps: &[Step], now: Timestamp) -> Timestamp {
        let step = dice.within(1, self.leaf_lifetime.as_seconds() as i64 / 3);
        let random = now.checked_add(Lifetime::seconds(step as u64).0).unwrap();
        // As early as it may go on, to the second.
        let blockers = self.with_facts(now, |facts| self.rotation.blockers_of(steps, facts, now));
        let dates = blockers.iter().filter_map(|blocker| blocker.until);
        dates.filter(|until| *until > now).fold(random, Timestamp::min)
    }
}

fn verifies(
    issued: &Issued,
    bundle: &Bundle,
    anchors: &[TrustAnchor<'_>],
    now: Timestamp,
) -> Result<(), Failed> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let chain: Vec<_> = issued.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf = EndEntityCert::try_from(&chain[0]).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(now.as_second()).unwrap();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let verdict = leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        anchors,
        &chain[1..],
        time,
        KeyUsage::client_auth(),
        None,
        None,
    );
    let verdict = verdict.map(drop).map_err(|error| error.to_string());
    if COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE) {
        assert_eq!(openssl(issued, bundle, now), verdict.is_ok(), "OpenSSL does not agree: {verdict:?}");
    }
    verdict
}

fn openssl(issued: &Issued, bundle: &Bundle, now: Timestamp) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, all: Vec<&[u8]>| {
        let pem: String = all.iter().map(|der| to_pem("CERTIFICATE", der).unwrap()).collect();
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let roots = write("roots", bundle.roots().iter().map(AuthorityCertificate::der).collect());
    let above = write("above", issued.chain[1..].iter().map(Vec::as_slice).collect());
    let leaf = write("leaf", vec![&issued.chain[0]]);
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-attime", &now.as_second().to_string(), "-CAfile"]);
    command.arg(roots).arg("-untrusted").arg(above).arg(leaf);
    command.output().unwrap().status.success()
}

/// Walks one schedule from its beginning until everything old has ended. Gives how much was verified.
fn walk(seed: u64, of_root: bool, schedule: Schedule, steps: Option<&[Step]>) -> Result<usize, Failed> {
    let mut dice = Dice(seed);
    let mut world = World::new(&mut dice, of_root, schedule);
    let mut now = at(0);
    let mut after = 0;
    // Whatever is issued after the last phase has begun is as what was issued before.
    while after < 5 {
        let table = steps.unwrap_or(world.rotation.steps());
        world.issue(&mut dice, now);
        world.everything_verifies(now)?;
        let before = world.rotation.phase();
        // As early as it may, mostly; somebody may be late, and something may happen that makes it urgent.
        if !dice.one_in(4) || world.rotation.phase().is_none() {
            world.advance(table, now);
        }
        if steps.is_none() && dice.one_in(40) {
            let schedule = dice.pick(&[Schedule::Accelerated, Schedule::Emergency]);
            world.rotation = world.rotation.clone().by(schedule);
        }
        if world.rotation.phase() != before {
            world.everything_verifies(now)?;
        }
        after += usize::from(world.rotation.is_over());
        now = world.next(&mut dice, steps.unwrap_or(world.rotation.steps()), now);
        world.issued.retain(|issued| issued.by_old || issued.not_after >= now);
    }
    Ok(world.verified)
}

const ALL: [Schedule; 3] = [Schedule::Planned, Schedule::Accelerated, Schedule::Emergency];

#[test]
fn whatever_is_alive_verifies_for_whoever_polls() {
    let count = std::env::var("UNDERCROFT_ROTATIONS").ok().map_or(SCHEDULES, |count| count.parse().unwrap());
    let seed = std::env::var("UNDERCROFT_SOAK_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let next = AtomicUsize::new(0);
    let verified = AtomicUsize::new(0);
    let walk_some = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let (schedule, of_root) = (ALL[number % 3], !number.is_multiple_of(4));
            let walked = walk(seed + number as u64, of_root, schedule, None);
            let walked = walked.unwrap_or_else(|failed| panic!("seed {seed}, schedule {number}: {failed}"));
            verified.fetch_add(walked, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(walk_some);
        }
    });
    let verified = verified.into_inner();
    assert!(verified > 40 * count, "{verified} verifications are few");
    println!("{count} schedules, {verified} verifications");
}

/// The walk would see it: schedules that are too fast fail.
#[test]
fn schedules_that_are_too_fast_are_found() {
    let change = |schedule, change: fn(&mut Step)| {
        let mut table = steps(true, schedule).to_vec();
        table.iter_mut().for_each(change);
        table
    };
    let no_lag = change(Schedule::Emergency, |step| {
        (step.refresh_hints, step.taken) = (0, false);
    });
    let no_drain = change(Schedule::Emergency, |step| step.ended = false);
    let hasty = change(Schedule::Accelerated, |step| {
        (step.ended, step.leaf_lifetimes, step.refresh_hints, step.taken) = (false, 0, 0, false);
    });
    for (what, schedule, table) in [
        ("nobody has polled", Schedule::Emergency, no_lag),
        ("the old root goes while certificates under it live", Schedule::Emergency, no_drain),
        ("both, with cross-certificates", Schedule::Accelerated, hasty),
    ] {
        let failed = (0..12).filter(|seed| walk(*seed, true, schedule, Some(&table)).is_err()).count();
        assert!(failed > 3, "{what}: {failed} of 12 walks failed");
        // As the tables are, none does.
        let sound = steps(true, schedule);
        for seed in 0..5 {
            walk(seed, true, schedule, Some(sound)).unwrap_or_else(|failed| panic!("{what}: {failed}"));
        }
    }
}
