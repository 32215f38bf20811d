//! One thing is changed, and found by its name. The forger has every key of the ceremony, and where it helps, the quorum's:
//! transcripts are signed again, and the result is approved again.

mod after;
mod approvals;
mod before;
mod files;
mod keys;
mod order;
mod signed;
mod statements;
mod whole;

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use serde_json::{Value, json};
use undercroft_audit::ceremony::{Outcome, Wanted};
use undercroft_ca::approval::Action;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::Digest;

use crate::maker::{deviation, evidence, software, write_request};
use crate::persons::PERSONS;
use crate::world::{Copy, WORLD};

/// What is changed, how, and every finding that it must lead to, and no other.
pub(super) type Forgery = (&'static str, fn(&mut Copy), &'static [&'static str]);

pub(super) fn each_is_found(forgeries: &[Forgery]) {
    let mut wrong = Vec::new();
    for (name, forge, expected) in forgeries {
        let mut copy = WORLD.copy();
        forge(&mut copy);
        let verdict = copy.verify();
        let found: BTreeSet<_> = verdict.findings().map(|finding| finding.rule).collect();
        if found != expected.iter().copied().collect() {
            let told: Vec<_> = verdict.findings().map(ToString::to_string).collect();
            wrong.push(format!("{name}: {found:?}, not {expected:?}\n    {}", told.join("\n    ")));
        }
        assert!(!verdict.passed && verdict.outcome == Outcome::Refused, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Changes that the quorum then approves.
pub(super) fn then_approved(copy: &mut Copy, change: impl FnOnce(&mut Copy)) {
    change(copy);
    copy.approve_again();
}

/// Makes the deviation another one, which the quorum approves, and then the result.
pub(super) fn deviate(c: &mut Copy, kind: &str) {
    let text = deviation(kind, "there was no other way");
    let at = c.find(r#""event":"deviation""#);
    c.log.edit_body(at, |body| body["text"] = json!(text.clone()));
    let at = c.approval(Action::CeremonyDeviation);
    c.sign_again(at, &["alice", "bob"], |s| s.object = Digest::of(text.as_bytes()));
    c.approve_again();
}

pub(super) fn log_origin() -> &'static str {
    WORLD.made.log.origin.as_str()
}

pub(super) fn told(c: &Copy, event: &str, text: &str) -> Value {
    let plan = &c.log.value(0)["body"]["plan"];
    json!({ "event": event, "plan": plan, "text": text })
}

/// The first intent of an artefact.
pub(super) fn intent(c: &Copy, artefact: &str) -> u64 {
    c.log.all("intent").into_iter().find(|at| c.log.value(*at)["body"]["rule"] == artefact).unwrap()
}

pub(super) fn shift(c: &mut Copy, days: i64) {
    for index in 0..c.log.entries.len() as u64 {
        c.log.edit(index, |value| {
            let time: jiff::Timestamp = value["time"].as_str().unwrap().parse().unwrap();
            value["time"] = json!((time + jiff::SignedDuration::from_hours(24 * days)).to_string());
        });
    }
}

pub(super) fn device(c: &mut Copy, from: &str, to: &str) {
    let at = c.find("roots: YubiHSM");
    c.log.edit_body(at, |body| {
        let text = body["text"].as_str().unwrap();
        assert!(text.contains(from));
        body["text"] = json!(text.replace(from, to));
    });
}

/// Makes the record of a key that of another one.
pub(super) fn of_key(body: &mut Value, key: &hsm_sim::software::SoftwareKey, evidence: Vec<u8>) {
    body["key_id"] = json!(key.public_key().id().to_string());
    body["spki"] = json!(Base64::encode_string(key.public_key().spki()));
    body["evidence"] = json!(Base64::encode_string(&evidence));
}

pub(super) fn change_last_byte(text: &mut Value) {
    let mut bytes = Base64::decode_vec(text.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *text = json!(Base64::encode_string(&bytes));
}

/// Changes the bytes of an intent, and has a root sign them.
pub(super) fn sign_other(c: &mut Copy, intent: u64, root: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut tbs = Base64::decode_vec(c.log.value(intent)["body"]["tbs"]["der"].as_str().unwrap()).unwrap();
    change(&mut tbs);
    let signature = block_on(WORLD.made.roots[root].sign(&tbs)).unwrap();
    c.log.edit_body(intent, |body| body["tbs"]["der"] = json!(Base64::encode_string(&tbs)));
    let outcome =
        c.log.all("outcome").into_iter().find(|at| c.log.value(*at)["body"]["intent"] == intent).unwrap();
    c.log.edit_body(outcome, |body| {
        body["result"] = json!({ "signature": Base64::encode_string(&signature) })
    });
}

pub(super) fn head(log: &crate::log::Log) -> Value {
    let checkpoint = log.sign(log.entries.len() as u64, log.root());
    json!({ "verifier_key": log.verifier().to_string(), "checkpoint": checkpoint })
}

/// The key of the new root is in a token in hardware.
pub(super) fn on_real_token(rehearsal: &mut crate::log::Log) {
    let key = WORLD.rehearsal.roots["new-root"].clone();
    let is = |index: &u64| rehearsal.value(*index)["body"]["purpose"] == "root new-root";
    let at = rehearsal.all("key").into_iter().find(is).unwrap();
    rehearsal.edit_body(at, |body| {
        of_key(body, &key, evidence(&key, crate::maker::SERIAL, true));
        body["format"] = json!("pkcs11-attributes-v1");
        body["grade"] = json!("declared");
    });
}

/// The transcript names the rehearsal as it is now.
pub(super) fn name_rehearsal(c: &mut Copy) {
    let head = head(&c.rehearsal);
    let at = c.find(r#""event":"rehearsed""#);
    c.log.edit_body(at, |body| body["transcript"] = head);
}
