//! What was signed: derived again from plan, keys and attempt, linted again, and every signature verified.

use std::fmt::Write as _;

use undercroft_ca::issuance::{PrepareError, Prepared};
use undercroft_ca::lint;
use undercroft_ca::plan::{Keys, Plan, StepError};
use undercroft_ca::profile::Profile;
use undercroft_keys::{PublicKey, SignatureAlgorithm};
use undercroft_log::leaf::{Intent, Object, OutcomeResult};
use undercroft_log_files::FolderError;

use super::custody::signature;
use super::order::{IntentSeen, Replay, StepSeen};
use super::record::Transcript;
use super::verdict::{Checks, Subject};

/// Seconds.
const DAY: u64 = 24 * 3600;

/// What a step has signed in the end.
pub(crate) struct SignedObject {
    /// The step's number.
    pub(crate) number: u64,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) tbs: Vec<u8>,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) signature: Vec<u8>,
}

/// Judges every intent and outcome; gives what was signed.
pub(crate) fn judge(
    transcript: &Transcript<'_>,
    plan: &Plan,
    replay: &Replay<'_>,
    keys: &Keys,
    checks: &mut Checks,
) -> Result<Vec<SignedObject>, FolderError> {
    let mut reader =
        Reader { transcript, plan, keys, checks, signed: Vec::new(), intents: 0, linted: 0, abandoned: 0 };
    for seen in &replay.steps {
        reader.step(seen)?;
    }
    let Reader { signed, intents, linted, abandoned, .. } = reader;
    checks.compared(
        Subject::ToBeSigned,
        format!("{intents} intents with the bytes that plan, keys and attempt give"),
    );
    let mut compared = format!("{linted} objects, built again and linted");
    for it in plan.ocsp_signers() {
        let longest = Profile::ocsp_signer_of_root().max_lifetime().as_seconds() / DAY;
        let lives = it.validity().not_after().as_second() - it.validity().not_before().as_second();
        let (name, lives) = (it.name(), lives.unsigned_abs().div_ceil(DAY));
        let _ = write!(compared, "; nobody can revoke {name}, which lives for {lives} days of {longest}");
    }
    checks.compared(Subject::Lint, compared);
    let compared = format!("{} signatures under the keys of their roots", signed.len());
    let compared = match abandoned {
        0 => compared,
        1 => format!("{compared}; 1 intent was abandoned, and says why"),
        some => format!("{compared}; {some} intents were abandoned, and say why"),
    };
    checks.compared(Subject::Signatures, compared);
    Ok(signed)
}

struct Reader<'r, 'c> {
    transcript: &'r Transcript<'r>,
    plan: &'r Plan,
    keys: &'r Keys,
    checks: &'c mut Checks,
    signed: Vec<SignedObject>,
    intents: usize,
    linted: usize,
    abandoned: usize,
}

impl Reader<'_, '_> {
    fn step(&mut self, seen: &StepSeen<'_>) -> Result<(), FolderError> {
        let signer = seen.step.signer().map(|name| self.keys.roots.get(name));
        let Some(signer) = signer else {
            for it in &seen.intents {
                let what = format!("nothing is signed in the step of `{}`", seen.step.name());
                self.checks.entry(Subject::ToBeSigned, it.entry.index, "intent-extra", what);
            }
            return Ok(());
        };
        let before = self.signed.len();
        for (attempt, it) in (1..).zip(&seen.intents) {
            self.intents += 1;
            let tbs = self.transcript.to_be_signed(it.intent)?;
            self.bytes(seen, it, attempt, tbs.as_deref());
            match it.outcome {
                Some((entry, OutcomeResult::Abandoned(why))) => {
                    self.abandoned += 1;
                    if why.trim().is_empty() {
                        self.wrong(
                            Subject::Signatures,
                            entry.index,
                            "abandoned",
                            "it does not say why nothing was signed",
                        );
                    }
                }
                Some((entry, result)) => {
                    if let (Some(tbs), Some(signature)) = (tbs, signature(result)) {
                        self.signature(entry.index, it, signer, &tbs, signature);
                        self.signed.push(SignedObject {
                            number: seen.step.number,
                            attempt,
                            tbs,
                            algorithm: it.intent.algorithm,
                            signature: signature.to_vec(),
                        });
                    }
                }
                None => {}
            }
        }
        match (self.signed.len() - before, seen.done) {
            (0, Some((entry, _))) => {
                let what =
                    format!("the step of `{}` is done, and nothing was signed in it", seen.step.name());
                self.wrong(Subject::Signatures, entry, "unsigned", what);
            }
            (more, _) if more > 1 => {
                let last = seen.intents.last().map_or(0, |it| it.entry.index);
                let what = format!("`{}` was signed {more} times", seen.step.name());
                self.wrong(Subject::Signatures, last, "signed-twice", what);
            }
            _ => {}
        }
        Ok(())
    }

    /// The bytes are those that plan, keys and attempt give, and so is everything that stands around them.
    fn bytes(&mut self, seen: &StepSeen<'_>, it: &IntentSeen<'_>, attempt: u32, tbs: Option<&[u8]>) {
        let index = it.entry.index;
        if attempt > 1
            && !matches!(seen.intents[attempt as usize - 2].outcome, Some((_, OutcomeResult::Abandoned(_))))
        {
            let what = "another attempt is made, and the one before was not abandoned";
            self.wrong(Subject::ToBeSigned, index, "attempt", what);
        }
        let prepared = match seen.step.prepare(self.plan, self.keys, attempt) {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return,
            Err(StepError::Prepare(PrepareError::Lint(broken))) => {
                for broken in broken {
                    self.wrong(Subject::Lint, index, "lint", broken.to_string());
                }
                return;
            }
            Err(error) => {
                let what = format!("the bytes of `{}` cannot be derived: {error}", seen.step.name());
                return self.wrong(Subject::ToBeSigned, index, "tbs", what);
            }
        };
        self.linted += 1;
        let Some(tbs) = tbs else {
            return self.wrong(Subject::ToBeSigned, index, "tbs", "its bytes are missing");
        };
        if it.intent.object == Object::Certificate
            && let Err(broken) = lint::certificate_alone(tbs)
        {
            for broken in broken {
                self.wrong(Subject::Lint, index, "lint", broken.to_string());
            }
        }
        if tbs != prepared.to_be_signed() {
            let what = format!(
                "the bytes of `{}` are not those that plan, keys and attempt {attempt} give: they differ from byte {} on",
                seen.step.name(),
                tbs.iter().zip(prepared.to_be_signed()).take_while(|(a, b)| a == b).count()
            );
            self.wrong(Subject::ToBeSigned, index, "tbs", what);
        } else if !is_described(&prepared, it.intent) {
            let what =
                format!("what stands around the bytes of `{}` is not what the plan gives", seen.step.name());
            self.wrong(Subject::ToBeSigned, index, "intent", what);
        }
    }

    fn signature(
        &mut self,
        entry: u64,
        it: &IntentSeen<'_>,
        signer: Option<&PublicKey>,
        tbs: &[u8],
        signature: &[u8],
    ) {
        let Some(key) = signer else {
            return self.wrong(
                Subject::Signatures,
                entry,
                "signature",
                "the key that should have signed is not known",
            );
        };
        if key.verify(it.intent.algorithm, tbs, signature).is_err() {
            let what = format!("the key {} has not signed the bytes of `{}`", key.id(), it.intent.rule);
            self.wrong(Subject::Signatures, entry, "signature", what);
        }
    }

    fn wrong(&mut self, subject: Subject, entry: u64, rule: &'static str, what: impl Into<String>) {
        self.checks.entry(subject, entry, rule, what);
    }
}

/// Whether an intent is what the plan makes of the bytes: profile, domain, rule, key and all.
fn is_described(prepared: &Prepared, intent: &Intent) -> bool {
    serde_json::from_str::<Intent>(prepared.intent().draft.body()).is_ok_and(|own| own == *intent)
}
