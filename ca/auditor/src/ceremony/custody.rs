//! Keys: each where the plan wants one, and where its evidence says that it lives, judged again.

use std::collections::BTreeMap;

use serde::Serialize;
use undercroft_attestors::custody::{self, Demand, Grade};
use undercroft_attestors::trust::Trust;
use undercroft_ca::plan::{Keys, Mode, Plan, PlannedKey, What};
use undercroft_ca::transcript::purpose_of_root;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::{KeyEvent, OutcomeResult};
use undercroft_log_files::FolderError;

use super::devices::{self, Told};
use super::order::{KeySeen, PURPOSE_OF_TRANSCRIPT, Replay, StepSeen};
use super::record::Transcript;
use super::verdict::{Checks, Subject};

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct KeyTold {
    pub(crate) entry: u64,
    pub(crate) purpose: String,
    pub(crate) event: KeyEvent,
    pub(crate) algorithm: String,
    pub(crate) key_id: String,
    pub(crate) uri: String,
    pub(crate) grade: String,
    pub(crate) findings: Vec<String>,
}

/// What came of it.
pub(crate) struct Judged {
    /// The keys that the steps are about.
    pub(crate) keys: Keys,
    /// What is known of each key that is recorded.
    pub(crate) records: Vec<KeyTold>,
    /// Whether a key is worth less than the plan demands, so that it is a trial at best.
    pub(crate) is_trial: bool,
}

/// What the plan wants of a key.
struct WantedKey<'a> {
    purpose: String,
    step: Option<u64>,
    algorithm: KeyAlgorithm,
    demand: Demand,
    events: &'static [KeyEvent],
    device: Option<&'a PlannedKey>,
    /// The key that it must be, if that is known.
    is: Option<&'a PublicKey>,
}

/// Judges the keys.
pub(crate) fn judge(
    transcript: &Transcript<'_>,
    plan: &Plan,
    replay: &Replay<'_>,
    told: &BTreeMap<String, Told>,
    trust: &Trust,
    development: bool,
    checks: &mut Checks,
) -> Result<Judged, FolderError> {
    let wanted = wanted(plan, replay);
    let (mut keys, mut records, mut is_trial) = (Keys::default(), Vec::new(), false);
    let mut found: BTreeMap<&str, PublicKey> = BTreeMap::new();
    for seen in &replay.keys {
        let Ok(public_key) = PublicKey::from_spki(&seen.key.spki.0) else { continue };
        let evidence = transcript.evidence(seen.key)?.unwrap_or_default();
        let custody = custody::judge(&seen.key.format, &evidence, &public_key, trust, seen.entry.time);
        records.push(KeyTold {
            entry: seen.entry.index,
            purpose: seen.key.purpose.clone(),
            event: seen.key.event,
            algorithm: seen.key.algorithm.to_string(),
            key_id: public_key.id().to_string(),
            uri: seen.key.uri.clone(),
            grade: custody.grade.to_string(),
            findings: custody.findings.clone(),
        });
        let Some(wanted) = wanted.iter().find(|it| it.purpose == seen.key.purpose && it.step == seen.step)
        else {
            let what = format!("the plan wants no key of `{}` here", seen.key.purpose);
            checks.entry(Subject::Custody, seen.entry.index, "key-other", what);
            continue;
        };
        match found.get(&*wanted.purpose) {
            Some(before) if *before != public_key => {
                let what =
                    format!("another key of `{}` was recorded before: {}", wanted.purpose, before.id());
                checks.entry(Subject::Custody, seen.entry.index, "key-twice", what);
                continue;
            }
            _ => drop(found.insert(&wanted.purpose, public_key.clone())),
        }
        is_as_wanted(seen, wanted, &public_key, plan, checks);
        let required = match plan.mode() {
            Mode::Production => wanted.demand.grade(development),
            Mode::Rehearsal => Grade::Unknown,
        };
        is_trial |= plan.mode() == Mode::Production && custody.grade < wanted.demand.grade(false);
        if custody.grade < required {
            let what = format!(
                "the key of {} is graded `{}`, and the plan demands `{required}`: {}",
                wanted.purpose,
                custody.grade,
                custody.findings.join("; ")
            );
            checks.entry(Subject::Custody, seen.entry.index, "custody-grade", what);
        }
        // A rehearsal that used the real tokens has made keys that somebody could trust.
        if plan.mode() == Mode::Rehearsal && custody.grade > Grade::Software {
            let what = format!(
                "the key of {} is graded `{}`, and a rehearsal is on simulators",
                wanted.purpose, custody.grade
            );
            checks.entry(Subject::Custody, seen.entry.index, "custody-simulated", what);
        }
        let device = wanted.device.and_then(|key| Some((&key.device, told.get(&key.device)?)));
        if let Some(((name, device), serial)) = device.zip(devices::serial(transcript, seen.key))
            && device.serial != serial
        {
            let what = format!(
                "its evidence is of the token with serial {serial}, and the device `{name}` has serial {}",
                device.serial
            );
            checks.entry(Subject::Devices, seen.entry.index, "device-serial", what);
        }
    }
    for wanted in &wanted {
        if !found.contains_key(&*wanted.purpose) {
            let what = format!("no key of `{}` is recorded where it is made or opened", wanted.purpose);
            checks.wrong(Subject::Custody, "key-missing", what);
        }
    }
    for seen in &replay.steps {
        match seen.step.what {
            What::Open(root) | What::Root(root) => {
                let key = found.get(&*purpose_of_root(root.name()));
                keys.roots.extend(key.map(|key| (root.name().to_owned(), key.clone())));
            }
            _ => {
                let key = seen.step.requested().and_then(|requested| found.get(&*requested.purpose));
                let request = seen.intents.last().and_then(|intent| intent.intent.request);
                keys.requests.extend(key.map(|key| (seen.step.name().to_owned(), (key.clone(), request))));
            }
        }
    }
    let graded = |grade: &str| records.iter().filter(|record| record.grade == grade).count();
    let grades = ["proven", "declared", "software", "unknown"].into_iter();
    let grades: Vec<_> =
        grades.filter(|grade| graded(grade) > 0).map(|grade| format!("{} {grade}", graded(grade))).collect();
    checks.compared(
        Subject::Custody,
        format!("{} records of keys, judged again: {}", records.len(), grades.join(", ")),
    );
    Ok(Judged { keys, records, is_trial })
}

/// The keys that a plan wants records of, and where.
fn wanted<'a>(plan: &'a Plan, replay: &Replay<'a>) -> Vec<WantedKey<'a>> {
    let mut wanted = vec![WantedKey {
        purpose: PURPOSE_OF_TRANSCRIPT.to_owned(),
        step: None,
        algorithm: plan.transcript().algorithm,
        demand: plan.custody(),
        events: &[KeyEvent::Made, KeyEvent::Opened],
        device: Some(plan.transcript()),
        is: None,
    }];
    for StepSeen { step, .. } in &replay.steps {
        let number = Some(step.number);
        match step.what {
            What::Open(root) | What::Root(root) => wanted.push(WantedKey {
                purpose: purpose_of_root(root.name()),
                step: number,
                algorithm: root.key().algorithm,
                demand: plan.custody(),
                // In a rehearsal a simulator's key stands in for that of a root that exists, and may be made for it.
                events: match (root.certificate(), plan.mode()) {
                    (Some(_), Mode::Production) => &[KeyEvent::Opened],
                    (Some(_), Mode::Rehearsal) => &[KeyEvent::Opened, KeyEvent::Made],
                    (None, _) => &[KeyEvent::Made],
                },
                device: Some(root.key()),
                is: root.certificate().map(|it| it.public_key()).filter(|_| plan.mode() == Mode::Production),
            }),
            _ => wanted.extend(step.requested().map(|requested| WantedKey {
                purpose: requested.purpose,
                step: number,
                algorithm: requested.algorithm,
                demand: requested.custody.unwrap_or(plan.custody()),
                events: &[KeyEvent::Received],
                device: None,
                is: None,
            })),
        }
    }
    wanted
}

fn is_as_wanted(
    seen: &KeySeen<'_>,
    wanted: &WantedKey<'_>,
    public_key: &PublicKey,
    plan: &Plan,
    checks: &mut Checks,
) {
    let mut wrong = |rule, what: String| checks.entry(Subject::Custody, seen.entry.index, rule, what);
    let purpose = &wanted.purpose;
    if !wanted.events.contains(&seen.key.event) {
        wrong(
            "key-event",
            format!(
                "the key of {purpose} is said to be {:?}, and the plan wants {:?}",
                seen.key.event, wanted.events
            ),
        );
    }
    if seen.key.algorithm != wanted.algorithm {
        wrong(
            "key-algorithm",
            format!(
                "the key of {purpose} is {}, and the plan wants {}",
                seen.key.algorithm, wanted.algorithm
            ),
        );
    }
    if wanted.is.is_some_and(|key| key != public_key) {
        wrong("key-other", format!("it is not the key of the certificate of {purpose} in the plan"));
    }
    // A key that somebody else's certificate holds is nobody's own.
    let taken = plan.cross_certificates().iter().filter_map(|it| it.foreign());
    if taken.into_iter().any(|foreign| foreign.public_key() == public_key) {
        wrong("key-other", format!("the key of {purpose} is that of somebody else's root"));
    }
}

/// The signature of an outcome, if it has one.
pub(crate) fn signature(result: &OutcomeResult) -> Option<&[u8]> {
    match result {
        OutcomeResult::Signature(signature) => Some(&signature.0),
        // A ceremony answers no OCSP requests: such an outcome is of no intent of a plan.
        OutcomeResult::Abandoned(_) | OutcomeResult::Signatures(_) => None,
    }
}
