//! One thing is changed, and found by its name. The forger has every key of the ceremony, and where it helps, the quorum's:
//! transcripts are signed again, and the result is approved again.

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
type Forgery = (&'static str, fn(&mut Copy), &'static [&'static str]);

fn each_is_found(forgeries: &[Forgery]) {
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
fn then_approved(copy: &mut Copy, change: impl FnOnce(&mut Copy)) {
    change(copy);
    copy.approve_again();
}

#[test]
fn another_order() {
    each_is_found(&[
        (
            "a step is removed",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "backup");
                    c.log.remove(at);
                    c.log.remove(at);
                })
            },
            &["step-missing", "step-order"],
        ),
        (
            "the last step is removed",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "retire-vault");
                    c.log.remove(at);
                    c.log.remove(at);
                })
            },
            &["step-missing"],
        ),
        (
            "two steps change places",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "backup");
                    for (from, to) in [(at + 2, at), (at + 3, at + 1)] {
                        c.log.move_entry(from, to);
                    }
                })
            },
            &["step-order", "step-twice"],
        ),
        (
            "a step is begun twice",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "backup");
                    let body = c.log.value(at)["body"].clone();
                    c.log.insert(at + 1, "ceremony", body);
                })
            },
            &["step-twice"],
        ),
        (
            "a step has another number",
            |c| {
                then_approved(c, |c| {
                    for event in ["step", "done"] {
                        let at = c.step(event, "retire-vault");
                        c.log.edit_body(at, |body| body["step"]["number"] = json!(99));
                    }
                })
            },
            &["step-missing", "step-unknown"],
        ),
        (
            "a step has another name",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "unseal");
                    c.log.edit_body(at, |body| body["step"]["artefact"] = json!("unseal-2"));
                })
            },
            &["step-artefact"],
        ),
        (
            "a step was never begun",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "unseal");
                    c.log.remove(at);
                })
            },
            &["done-without-step"],
        ),
        (
            "a step is not done before the next",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("done", "unseal");
                    c.log.remove(at);
                })
            },
            &["step-missing", "step-open"],
        ),
        (
            "nothing says what a step wrote",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("done", "new-crl");
                    c.log.edit_body(at, |body| drop(body["step"].as_object_mut().unwrap().remove("output")));
                })
            },
            &["done-output"],
        ),
        (
            "a step says that it wrote, and writes nothing",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("done", "retire-vault");
                    c.log.edit_body(at, |body| body["step"]["output"] = json!("00".repeat(32)));
                })
            },
            &["done-output"],
        ),
        (
            "a step has written when it is begun",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "new-crl");
                    c.log.edit_body(at, |body| body["step"]["output"] = json!("00".repeat(32)));
                })
            },
            &["done-output"],
        ),
        (
            "a key is recorded outside of every step",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "backup");
                    let body = c.log.value(c.find("root new-root"))["body"].clone();
                    c.log.insert(at, "key", body);
                })
            },
            &["key-other", "outside-step"],
        ),
        (
            "nothing says that every step was done",
            |c| {
                let at = c.find(r#""event":"awaiting""#);
                c.log.remove(at);
            },
            &["approval-action", "approval-missing", "order"],
        ),
        (
            "something follows the end",
            |c| {
                let body = told(c, "note", "one more thing");
                c.log.push("ceremony", body);
            },
            &["after-end"],
        ),
        ("the end is missing", |c| drop(c.log.entries.pop()), &["not-closed"]),
        (
            "it was given up",
            |c| {
                let at = c.find(r#""event":"closed""#);
                c.log.edit_body(at, |body| body["event"] = json!("aborted"));
            },
            &["aborted"],
        ),
        (
            "another title",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"opened""#);
                    c.log.edit_body(at, |body| body["text"] = json!("Something else"));
                })
            },
            &["opened"],
        ),
        (
            "a title of a rehearsal",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"opened""#);
                    c.log.edit_body(at, |body| body["text"] = json!("REHEARSAL: Rotation of 2026"));
                })
            },
            &["opened"],
        ),
        (
            "the key of the transcript has no record",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("the transcript");
                    c.log.remove(at);
                })
            },
            &["custody", "key-missing", "order", "transcript-key"],
        ),
        (
            "the record is of another key than the transcript's",
            |c| {
                then_approved(c, |c| {
                    let key = software(KeyAlgorithm::Ed25519);
                    let at = c.find("the transcript");
                    c.log
                        .edit_body(at, |body| of_key(body, &key, evidence(&key, crate::maker::SERIAL, true)));
                })
            },
            &["custody", "transcript-key"],
        ),
        (
            "the plan stands there twice",
            |c| {
                then_approved(c, |c| {
                    let at = c.log.first("policy");
                    let mut body = c.log.value(at)["body"].clone();
                    body["previous"] = body["sha256"].clone();
                    c.log.insert(at + 1, "policy", body);
                })
            },
            &["order"],
        ),
        (
            "an entry that has no place there",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "backup");
                    let body =
                        json!({ "version": "1", "configuration": "00".repeat(32), "development": false });
                    c.log.insert(at, "start", body);
                })
            },
            &["order"],
        ),
        (
            "a device is recognised after the steps began",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"device""#);
                    let (body, to) = (c.log.value(at)["body"].clone(), c.step("step", "new-root"));
                    c.log.insert(to, "ceremony", body);
                })
            },
            &["order"],
        ),
        (
            "the rehearsal stands behind the devices",
            |c| {
                then_approved(c, |c| {
                    let (from, to) = (c.find(r#""event":"rehearsed""#), c.step("step", "unseal") - 1);
                    c.log.move_entry(from, to);
                })
            },
            &["order"],
        ),
        (
            "an intent is of another artefact",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "new-crl");
                    c.log.edit_body(at, |body| body["rule"] = json!("old-crl"));
                })
            },
            &["intent", "intent-artefact"],
        ),
        (
            "an intent was forgotten",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("abandoned");
                    c.log.remove(at);
                })
            },
            &["attempt", "intent-open"],
        ),
    ]);
}

#[test]
fn another_time() {
    each_is_found(&[
        ("a day before the window", |c| then_approved(c, |c| shift(c, -1)), &["window"]),
        ("a day behind the window", |c| then_approved(c, |c| shift(c, 1)), &["window"]),
        (
            "one entry before the window",
            |c| {
                then_approved(c, |c| {
                    c.log.edit(0, |value| value["time"] = json!("2026-11-22T07:59:59Z"));
                })
            },
            &["window"],
        ),
        (
            "the clock goes back",
            |c| {
                then_approved(c, |c| {
                    let at = c.step("step", "backup");
                    c.log.edit(at, |value| value["time"] = json!("2026-11-22T08:00:00Z"));
                })
            },
            &["time"],
        ),
    ]);
}

#[test]
fn another_approval() {
    const PLAN: Action = Action::CeremonyPlan;
    fn plan(c: &mut Copy, who: &[&str], change: impl FnOnce(&mut undercroft_ca::approval::Statement)) {
        let at = c.approval(PLAN);
        c.sign_again(at, who, change);
        c.approve_again();
    }
    each_is_found(&[
        (
            "nobody has approved the plan",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(PLAN);
                    c.log.remove(at);
                })
            },
            &["approval-missing"],
        ),
        (
            "nobody has approved the result",
            |c| {
                let at = c.approval(Action::CeremonyResult);
                c.log.remove(at);
            },
            &["approval-missing", "order"],
        ),
        ("the requester has approved", |c| plan(c, &["alice", "carol"], |_| {}), &["approval-requester"]),
        (
            "the requester calls herself otherwise",
            |c| plan(c, &["alice", "carol"], |s| s.requester = "dora".into()),
            &["approval-requester"],
        ),
        (
            "somebody else is said to have asked",
            |c| plan(c, &["alice", "bob"], |s| s.requester = "dora".into()),
            &["approval-requester"],
        ),
        ("one person twice", |c| plan(c, &["alice", "alice"], |_| {}), &["approval-quorum"]),
        ("one person alone", |c| plan(c, &["bob"], |_| {}), &["approval-quorum"]),
        ("nobody at all", |c| plan(c, &[], |_| {}), &["approval-quorum"]),
        (
            "somebody who is not on the roster",
            |c| plan(c, &["alice", "mallory"], |_| {}),
            &["approval-signature"],
        ),
        (
            "another action",
            |c| plan(c, &["alice", "bob"], |s| s.action = Action::Rotation),
            &["approval-action"],
        ),
        (
            "another object",
            |c| plan(c, &["alice", "bob"], |s| s.object = Digest::of(b"x")),
            &["approval-object"],
        ),
        (
            "another log",
            |c| plan(c, &["alice", "bob"], |s| s.origin = "ca.example/undercroft/rehearsal/2026-11/1".into()),
            &["approval-origin"],
        ),
        (
            "another roster",
            |c| plan(c, &["alice", "bob"], |s| s.roster = Digest::of(b"x")),
            &["approval-roster"],
        ),
        (
            "it had expired",
            |c| plan(c, &["alice", "bob"], |s| s.expires = "2026-11-22T07:00:00Z".parse().unwrap()),
            &["approval-expired"],
        ),
        (
            "it was used before",
            |c| plan(c, &["alice", "bob"], |s| s.nonce = hex::encode([3; 16])),
            &["approval-replayed"],
        ),
        (
            "the statement was changed after it was signed",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(PLAN);
                    c.log.edit_body(at, |body| {
                        let text = body["statement"].as_str().unwrap().replace("2026-12-01", "2026-12-02");
                        body["statement"] = json!(text);
                    });
                })
            },
            &["approval-signature"],
        ),
        (
            "signed for something else",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(PLAN);
                    let text = c.statement(at).text().unwrap();
                    let signatures = ["alice", "bob"].map(|name| PERSONS.sign(name, "file", &text));
                    c.log.edit_body(at, |body| body["signatures"] = json!(signatures));
                })
            },
            &["approval-signature"],
        ),
        (
            "other names than those who signed",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(PLAN);
                    c.log.edit_body(at, |body| body["by"] = json!(["alice", "dora"]));
                })
            },
            &["approval-names"],
        ),
        (
            "no statement",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(PLAN);
                    c.log.edit_body(at, |body| body["statement"] = json!("yes"));
                })
            },
            &["approval-statement"],
        ),
        (
            "something was changed after the result was approved",
            |c| {
                let at = c.find(r#""event":"note""#);
                c.log.edit_body(at, |body| body["text"] = json!("nothing happened"));
            },
            &["approval-object"],
        ),
        (
            "the result of something else was approved",
            |c| {
                let at = c.approval(Action::CeremonyResult);
                c.sign_again(at, &["alice", "bob"], |s| s.object = Digest::of(b"x"));
            },
            &["approval-object"],
        ),
        (
            "a deviation that nobody approved",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(Action::CeremonyDeviation);
                    c.log.remove(at);
                })
            },
            &["deviation-approval"],
        ),
        (
            "a deviation with another text",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"deviation""#);
                    c.log.edit_body(at, |body| body["text"] = json!(deviation("other", "nothing")));
                })
            },
            &["deviation-approval"],
        ),
        (
            "an approval of a deviation without the deviation",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"deviation""#);
                    c.log.remove(at);
                })
            },
            &["order"],
        ),
        (
            "a deviation without a reason",
            |c| {
                then_approved(c, |c| {
                    let text = deviation("other", " ");
                    let at = c.find(r#""event":"deviation""#);
                    c.log.edit_body(at, |body| body["text"] = json!(text.clone()));
                    let at = c.approval(Action::CeremonyDeviation);
                    c.sign_again(at, &["alice", "bob"], |s| s.object = Digest::of(text.as_bytes()));
                })
            },
            &["deviation-format"],
        ),
    ]);
}

#[test]
fn another_plan_rehearsal_or_ceremony_before() {
    each_is_found(&[
        (
            "the plan has one byte more",
            |c| c.plan.push('\n'),
            &["approval-object", "intent", "plan-digest", "plan-text", "rehearsal-plan", "rehearsal-unsound"],
        ),
        (
            "another text stands in the transcript",
            |c| {
                then_approved(c, |c| {
                    let at = c.log.first("policy");
                    let other = c.plan.replace("two sticks", "one stick").into_bytes();
                    c.log.edit_body(at, |body| {
                        body["sha256"] = json!(Digest::of(&other).to_string());
                        body["text"]["blob"] = json!(other.len());
                    });
                    let plan = c.plan.clone().into_bytes();
                    c.log.blobs.retain(|blob| *blob != plan);
                    c.log.blobs.push(other);
                })
            },
            &["ceremony", "plan-digest", "plan-text", "policy"],
        ),
        (
            "it was not rehearsed",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"rehearsed""#);
                    c.log.remove(at);
                })
            },
            &["rehearsal-missing"],
        ),
        (
            "the entry names no rehearsal",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"rehearsed""#);
                    c.log.edit_body(at, |body| drop(body.as_object_mut().unwrap().remove("transcript")));
                })
            },
            &["rehearsal-head"],
        ),
        (
            "another rehearsal is given",
            |c| {
                let at = c.rehearsal.first("policy") + 1;
                let body =
                    json!({ "event": "note", "plan": WORLD.plan.digest().to_string(), "text": "again" });
                c.rehearsal.insert(at, "ceremony", body);
            },
            &["rehearsal-head"],
        ),
        (
            "the rehearsal was not closed",
            |c| {
                then_approved(c, |c| {
                    c.rehearsal.entries.pop();
                    name_rehearsal(c);
                })
            },
            &["rehearsal-unsound"],
        ),
        (
            "the rehearsal left a step out",
            |c| {
                then_approved(c, |c| {
                    let is = |index: &u64| c.rehearsal.value(*index)["body"]["step"]["artefact"] == "backup";
                    let at = c.rehearsal.all("ceremony").into_iter().find(is).unwrap();
                    c.rehearsal.remove(at);
                    c.rehearsal.remove(at);
                    name_rehearsal(c);
                })
            },
            &["rehearsal-unsound"],
        ),
        (
            "another plan was rehearsed",
            |c| {
                then_approved(c, |c| {
                    for at in c.rehearsal.all("ceremony") {
                        c.rehearsal.edit_body(at, |body| body["plan"] = json!("00".repeat(32)));
                    }
                    name_rehearsal(c);
                })
            },
            &["rehearsal-plan", "rehearsal-unsound"],
        ),
        (
            "other bytes were rehearsed",
            |c| {
                then_approved(c, |c| {
                    let is = |index: &u64| c.rehearsal.value(*index)["body"]["rule"] == "new-crl";
                    let at = c.rehearsal.all("intent").into_iter().find(is).unwrap();
                    c.rehearsal.edit_body(at, |body| change_last_byte(&mut body["tbs"]["der"]));
                    name_rehearsal(c);
                })
            },
            &["rehearsal-tbs", "rehearsal-unsound"],
        ),
        (
            "the rehearsal was on the tokens of the ceremony",
            |c| {
                then_approved(c, |c| {
                    on_real_token(&mut c.rehearsal);
                    name_rehearsal(c);
                })
            },
            &["rehearsal-unsound"],
        ),
        (
            "the rehearsal is the ceremony itself",
            |c| {
                then_approved(c, |c| {
                    let head = head(&c.log);
                    let at = c.find(r#""event":"rehearsed""#);
                    c.log.edit_body(at, |body| body["transcript"] = head);
                })
            },
            &["rehearsal-head", "rehearsal-origin"],
        ),
        (
            "the ceremony before was not verified",
            |c| {
                then_approved(c, |c| {
                    let at = c.find(r#""event":"continues""#);
                    c.log.remove(at);
                })
            },
            &["previous-missing"],
        ),
        (
            "it continues another ceremony",
            |c| {
                then_approved(c, |c| {
                    let mut other = WORLD.previous.log.clone();
                    other.entries.pop();
                    let head = head(&other);
                    let at = c.find(r#""event":"continues""#);
                    c.log.edit_body(at, |body| body["transcript"] = head);
                })
            },
            &["previous-head"],
        ),
        (
            "the ceremony before is signed by another key",
            |c| {
                then_approved(c, |c| {
                    let mut other = WORLD.previous.log.clone();
                    other.key = software(KeyAlgorithm::Ed25519);
                    let head = head(&other);
                    let at = c.find(r#""event":"continues""#);
                    c.log.edit_body(at, |body| body["transcript"] = head);
                })
            },
            &["previous-head"],
        ),
        (
            "another key than that of the ceremony before signs the transcript",
            |c| {
                then_approved(c, |c| {
                    let key = software(KeyAlgorithm::Ed25519);
                    let at = c.find("the transcript");
                    c.log
                        .edit_body(at, |body| of_key(body, &key, evidence(&key, crate::maker::SERIAL, true)));
                    c.log.key = key;
                    c.key = c.log.verifier();
                })
            },
            &["previous-key"],
        ),
        (
            "the root of the ceremony before is another one",
            |c| {
                let mut other = WORLD.previous.log.clone();
                let at = other.first("outcome");
                other.edit_body(at, |body| change_last_byte(&mut body["result"]["signature"]));
                let path = c.places.previous.join("transcript");
                std::fs::remove_dir_all(&path).unwrap();
                other.write(&path);
            },
            &["previous-head", "previous-roots", "previous-unsound"],
        ),
    ]);
}

#[test]
fn another_device_or_key() {
    each_is_found(&[
        (
            "a device was never recognised",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("vault: YubiHSM");
                    c.log.remove(at);
                })
            },
            &["device-missing"],
        ),
        (
            "a device of another model",
            |c| then_approved(c, |c| device(c, "YubiHSM,", "SoftHSM,")),
            &["device-model"],
        ),
        (
            "a device with other firmware",
            |c| then_approved(c, |c| device(c, "firmware 2.4", "firmware 2.3")),
            &["device-model"],
        ),
        (
            "a device with another serial number than the keys'",
            |c| then_approved(c, |c| device(c, crate::maker::SERIAL, "666")),
            &["device-serial"],
        ),
        (
            "a device without a serial number",
            |c| then_approved(c, |c| device(c, crate::maker::SERIAL, "")),
            &["device-missing", "device-unplanned"],
        ),
        (
            "a device that is not in the plan",
            |c| then_approved(c, |c| device(c, "roots:", "laptop:")),
            &["device-missing", "device-unplanned"],
        ),
        (
            "a device is another one after an interruption",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("roots: YubiHSM");
                    let mut body = c.log.value(at)["body"].clone();
                    body["text"] = json!("roots: YubiHSM, firmware 2.4, serial 666");
                    c.log.insert(at + 1, "ceremony", body);
                })
            },
            &["device-twice"],
        ),
        (
            "the key of a root has no record",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("root old-root");
                    c.log.remove(at);
                })
            },
            &["custody", "key-missing", "output-chain", "signature", "tbs"],
        ),
        (
            "the key of a root can be read out",
            |c| {
                then_approved(c, |c| {
                    let key = WORLD.made.roots["new-root"].clone();
                    let at = c.find("root new-root");
                    c.log.edit_body(at, |body| {
                        of_key(body, &key, evidence(&key, crate::maker::SERIAL, false))
                    });
                })
            },
            &["custody", "custody-grade"],
        ),
        (
            "the evidence is about another key",
            |c| {
                then_approved(c, |c| {
                    let other = software(KeyAlgorithm::EcdsaP384);
                    let at = c.find("root new-root");
                    let bytes = evidence(&other, crate::maker::SERIAL, true);
                    c.log.edit_body(at, |body| body["evidence"] = json!(Base64::encode_string(&bytes)));
                })
            },
            &["custody", "custody-grade"],
        ),
        (
            "the key of a root is in a token of another serial number",
            |c| {
                then_approved(c, |c| {
                    let key = WORLD.made.roots["new-root"].clone();
                    let at = c.find("root new-root");
                    c.log.edit_body(at, |body| of_key(body, &key, evidence(&key, "666", true)));
                })
            },
            &["device-serial"],
        ),
        (
            "a key in software",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("root new-root");
                    c.log.edit_body(at, |body| {
                        body["format"] = json!("software-v1");
                        body["grade"] = json!("software");
                    });
                })
            },
            &["custody-grade"],
        ),
        (
            "a new root whose key was there before",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("root new-root");
                    c.log.edit_body(at, |body| body["event"] = json!("opened"));
                })
            },
            &["key-event"],
        ),
        (
            "the key is said to sign otherwise",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("root new-root");
                    c.log.edit_body(at, |body| body["algorithm"] = json!("ecdsa-p256"));
                })
            },
            &["algorithm", "key", "key-algorithm"],
        ),
        (
            "two keys of one root",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("root new-root");
                    let mut body = c.log.value(at)["body"].clone();
                    let key = software(KeyAlgorithm::EcdsaP384);
                    of_key(&mut body, &key, evidence(&key, crate::maker::SERIAL, true));
                    c.log.insert(at + 1, "key", body);
                })
            },
            &["key-twice"],
        ),
        (
            "a root's key stands in for one that exists",
            |c| {
                then_approved(c, |c| {
                    let key = WORLD.made.roots["new-root"].clone();
                    let at = c.find("root old-root");
                    c.log
                        .edit_body(at, |body| of_key(body, &key, evidence(&key, crate::maker::SERIAL, true)));
                })
            },
            &["custody", "intent", "key-other", "output-chain", "signature", "tbs"],
        ),
        (
            "the key of something else",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("authority intermediate-1");
                    c.log.edit_body(at, |body| {
                        body["purpose"] = json!("authority intermediate-9 of prod.example")
                    });
                })
            },
            &["key-missing", "key-other", "rehearsal-tbs", "request-digest", "tbs"],
        ),
    ]);
}

#[test]
fn something_else_was_signed() {
    each_is_found(&[
        (
            "other bytes, signed by the root",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "new-crl");
                    sign_other(c, at, "new-root", |tbs| {
                        // The CRL's number is the last byte.
                        *tbs.last_mut().unwrap() ^= 2;
                    });
                })
            },
            &["output-content", "rehearsal-tbs", "tbs"],
        ),
        (
            "a certificate that lint refuses, signed by the root",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "intermediate-1");
                    sign_other(c, at, "new-root", |tbs| {
                        // [0] { INTEGER 2 }: another version.
                        let at = tbs.windows(5).position(|window| window == [0xa0, 3, 2, 1, 2]).unwrap();
                        tbs[at + 4] = 1;
                    });
                })
            },
            &["lint", "output-content", "rehearsal-tbs", "tbs"],
        ),
        (
            "another profile around the same bytes",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "intermediate-1");
                    c.log.edit_body(at, |body| body["profile"] = json!("spire-ca"));
                })
            },
            &["intent"],
        ),
        (
            "another caller",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "intermediate-1");
                    c.log.edit_body(at, |body| body["caller"]["id"] = json!("somebody"));
                })
            },
            &["intent"],
        ),
        (
            "another request",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "intermediate-1");
                    c.log.edit_body(at, |body| body["request"] = json!("00".repeat(32)));
                })
            },
            &["request-digest"],
        ),
        (
            "an intent in a step of people",
            |c| {
                then_approved(c, |c| {
                    let (from, at) = (intent(c, "new-crl"), c.step("step", "backup") + 1);
                    let mut body = c.log.value(from)["body"].clone();
                    body["rule"] = json!("backup");
                    c.log.insert(at, "intent", body);
                    c.log.insert(
                        at + 1,
                        "outcome",
                        json!({ "intent": at, "result": { "abandoned": "a mistake" } }),
                    );
                })
            },
            &["intent-extra"],
        ),
        (
            "a signature is wrong",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "new-crl") + 1;
                    c.log.edit_body(at, |body| change_last_byte(&mut body["result"]["signature"]));
                })
            },
            &["output-content", "signature"],
        ),
        (
            "a signature by another root",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "new-crl");
                    sign_other(c, at, "old-root", |_| {});
                })
            },
            &["output-content", "signature"],
        ),
        (
            "an abandoned intent that does not say why",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("abandoned");
                    c.log.edit_body(at, |body| body["result"]["abandoned"] = json!(" "));
                })
            },
            &["abandoned"],
        ),
        (
            "a step is done, and nothing was signed",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "new-crl") + 1;
                    c.log.edit_body(at, |body| body["result"] = json!({ "abandoned": "the token was gone" }));
                })
            },
            &["output-content", "unsigned"],
        ),
        (
            "an artefact was signed twice",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "intermediate-2");
                    sign_other(c, at, "new-root", |_| {});
                })
            },
            &["attempt", "signed-twice"],
        ),
        (
            "the second attempt came first",
            |c| {
                then_approved(c, |c| {
                    let first = intent(c, "intermediate-2");
                    let tbs = c.log.value(first + 3)["body"]["tbs"].clone();
                    c.log.edit_body(first, |body| body["tbs"] = tbs);
                })
            },
            &["serial", "tbs"],
        ),
    ]);
}

#[test]
fn other_files() {
    fn replace(c: &Copy, name: &str, bytes: &[u8]) {
        std::fs::write(c.places.out.join(name), bytes).unwrap();
    }
    fn read(c: &Copy, name: &str) -> Vec<u8> {
        std::fs::read(c.places.out.join(name)).unwrap()
    }
    each_is_found(&[
        (
            "a file is missing",
            |c| std::fs::remove_file(c.places.out.join("new-root.pem")).unwrap(),
            &["output-missing"],
        ),
        (
            "a file has one byte more",
            |c| {
                let bytes = [&read(c, "new-root.pem")[..], b"\n"].concat();
                replace(c, "new-root.pem", &bytes);
            },
            &["output-digest"],
        ),
        (
            "two files are exchanged",
            |c| {
                let (one, two) =
                    (read(c, "prod.example/intermediate-1.pem"), read(c, "prod.example/intermediate-2.pem"));
                replace(c, "prod.example/intermediate-1.pem", &two);
                replace(c, "prod.example/intermediate-2.pem", &one);
            },
            &["output-content", "output-digest"],
        ),
        (
            "a file of the rehearsal in place of the ceremony's",
            |c| {
                let bytes = std::fs::read(c.places.rehearsal.join("REHEARSAL-new-root.pem")).unwrap();
                replace(c, "new-root.pem", &bytes);
            },
            &["output-content", "output-digest"],
        ),
        (
            "a file of the rehearsal, and the transcript says so",
            |c| {
                then_approved(c, |c| {
                    let bytes = std::fs::read(c.places.rehearsal.join("REHEARSAL-new-root.pem")).unwrap();
                    replace(c, "new-root.pem", &bytes);
                    let at = c.step("done", "new-root");
                    c.log
                        .edit_body(at, |body| body["step"]["output"] = json!(Digest::of(&bytes).to_string()));
                })
            },
            &["output-content"],
        ),
        (
            "no certificate at all",
            |c| {
                then_approved(c, |c| {
                    replace(c, "new-root.pem", b"nothing");
                    let at = c.step("done", "new-root");
                    c.log.edit_body(at, |body| {
                        body["step"]["output"] = json!(Digest::of(b"nothing").to_string())
                    });
                })
            },
            &["output-content"],
        ),
        (
            "a certificate that no step made",
            |c| {
                let bytes = std::fs::read(c.places.rehearsal.join("REHEARSAL-new-root.pem")).unwrap();
                replace(c, "prod.example/one-more.pem", &bytes);
            },
            &["output-extra"],
        ),
        (
            "a CRL that no step made",
            |c| {
                let bytes = read(c, "new-root.crl");
                replace(c, "root.bin", &bytes);
            },
            &["output-extra"],
        ),
        (
            "an answer that the corporate root did not give",
            |c| {
                then_approved(c, |c| {
                    let bytes = read(c, "cross/old-by-new.pem");
                    replace(c, "old-root-under-corporate.pem", &bytes);
                    std::fs::write(c.places.requests.join("corporate/answer.pem"), &bytes).unwrap();
                    let at = c.step("done", "corporate-answer");
                    c.log
                        .edit_body(at, |body| body["step"]["output"] = json!(Digest::of(&bytes).to_string()));
                })
            },
            &["output-chain"],
        ),
        (
            "other evidence",
            |c| {
                std::fs::write(c.places.requests.join("backup/new-root.wrapped"), b"other").unwrap();
            },
            &["evidence-digest"],
        ),
        (
            "evidence is missing",
            |c| {
                std::fs::remove_file(c.places.requests.join("backup/new-root.wrapped")).unwrap();
            },
            &["evidence-missing"],
        ),
        (
            "another answer went in",
            |c| {
                let bytes = read(c, "cross/old-by-new.pem");
                std::fs::write(c.places.requests.join("corporate/answer.pem"), bytes).unwrap();
            },
            &["evidence-digest"],
        ),
        (
            "another request went in",
            |c| {
                write_request(
                    &c.places.requests,
                    "prod.example/intermediate-1",
                    &software(KeyAlgorithm::EcdsaP256),
                );
            },
            &["request-digest"],
        ),
    ]);
}

#[test]
fn a_plan_of_another_name_or_without_a_ceremony_before_is_not_the_one() {
    for (from, to, rule) in [
        ("name = \"2026-11\"", "name = \"2026-12\"", "plan-origin"),
        ("previous = ", "# previous = ", "previous-unplanned"),
    ] {
        let mut copy = WORLD.copy();
        copy.plan = copy.plan.replacen(from, to, 1);
        let verdict = copy.verify();
        let found: BTreeSet<_> = verdict.findings().map(|it| it.rule).collect();
        assert!(found.contains(rule) && found.contains("plan-text"), "{}", verdict.text());
    }
}

#[test]
fn a_clock_outside_of_the_window_or_no_rehearsal_pass_with_an_approved_deviation_alone() {
    for (kind, passes) in [("outside-window", true), ("other", false)] {
        let mut copy = WORLD.copy();
        shift(&mut copy, 1);
        deviate(&mut copy, kind);
        let verdict = copy.verify();
        assert_eq!(verdict.passed, passes, "{}", verdict.text());
        assert_eq!(verdict.deviations[0].kind, kind);
    }
    for (kind, passes) in [("not-rehearsed", true), ("outside-window", false)] {
        let mut copy = WORLD.copy();
        let at = copy.find(r#""event":"rehearsed""#);
        copy.log.remove(at);
        deviate(&mut copy, kind);
        let verdict = copy.verify();
        assert_eq!(verdict.passed, passes, "{}", verdict.text());
    }
}

/// Makes the deviation another one, which the quorum approves, and then the result.
fn deviate(c: &mut Copy, kind: &str) {
    let text = deviation(kind, "there was no other way");
    let at = c.find(r#""event":"deviation""#);
    c.log.edit_body(at, |body| body["text"] = json!(text.clone()));
    let at = c.approval(Action::CeremonyDeviation);
    c.sign_again(at, &["alice", "bob"], |s| s.object = Digest::of(text.as_bytes()));
    c.approve_again();
}

#[test]
fn a_transcript_that_was_signed_again_by_another_key_is_refused_whole() {
    let mut copy = WORLD.copy();
    copy.log.key = software(KeyAlgorithm::Ed25519);
    let verdict = copy.verify();
    assert_eq!(verdict.findings().map(|it| it.rule).collect::<Vec<_>>(), ["checkpoint"]);
    assert!(!verdict.passed);
}

#[test]
fn a_transcript_with_changed_files_is_found_by_the_audit_of_the_log() {
    let copy = WORLD.copy();
    let size = copy.log.entries.len();
    let bundle = copy.places.out.join(format!("transcript/tile/entries/000.p/{size}"));
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(8).position(|window| window == b"Rotation").unwrap();
    bytes[at] = b'M';
    std::fs::write(bundle, bytes).unwrap();
    let verdict = copy.verify_files();
    let found: BTreeSet<_> = verdict.findings().map(|it| it.rule).collect();
    assert!(found.contains("entry") && found.contains("approval-object"), "{}", verdict.text());
}

#[test]
fn a_rehearsal_is_never_accepted_as_a_ceremony() {
    let mut copy = WORLD.copy();
    copy.places.out = copy.places.rehearsal.clone();
    copy.key = copy.rehearsal.verifier();
    for (wanted, passed) in
        [(Wanted::Ceremony, false), (Wanted::Development, false), (Wanted::Rehearsal, true)]
    {
        copy.wanted = wanted;
        let verdict = copy.verify_files();
        assert_eq!((verdict.outcome, verdict.passed), (Outcome::Rehearsal, passed), "{}", verdict.text());
    }
    // And a ceremony is no rehearsal.
    let mut copy = WORLD.copy();
    copy.wanted = Wanted::Rehearsal;
    let verdict = copy.verify_files();
    assert_eq!((verdict.outcome, verdict.passed), (Outcome::Accepted, false));
}

#[test]
fn a_rehearsal_on_real_tokens_is_none() {
    let mut copy = WORLD.copy();
    on_real_token(&mut copy.rehearsal);
    copy.verify();
    copy.places.out = copy.places.rehearsal.clone();
    copy.key = copy.rehearsal.verifier();
    copy.wanted = Wanted::Rehearsal;
    let verdict = copy.verify_files();
    assert_eq!(verdict.findings().map(|it| it.rule).collect::<Vec<_>>(), ["custody-simulated"]);
    assert!(!verdict.passed);
}

#[test]
fn a_rehearsal_under_the_name_of_the_ceremony_is_found_by_its_keys() {
    let mut copy = WORLD.copy();
    let mut log = WORLD.rehearsal.log.clone();
    log.origin = WORLD.made.log.origin.clone();
    for index in 0..log.entries.len() as u64 {
        log.edit(index, |value| value["origin"] = json!(log_origin()));
    }
    copy.key = log.verifier();
    copy.log = log;
    let found: BTreeSet<_> = copy.verify().findings().map(|it| it.rule).collect();
    for rule in ["opened", "custody-grade", "approval-missing", "window", "rehearsal-missing", "key-other"] {
        assert!(found.contains(rule), "{rule}: {found:?}");
    }
}

#[test]
fn a_ceremony_without_terms_is_for_development() {
    let copy = WORLD.copy();
    let plan = crate::plans::parse(&crate::plans::previous());
    let folder = undercroft_log_files::Folder::new(copy.places.previous.join("transcript"));
    let key = WORLD.previous.log.verifier();
    for (wanted, passed) in [(Wanted::Ceremony, false), (Wanted::Development, true)] {
        let verdict = undercroft_audit::ceremony::verify(&undercroft_audit::ceremony::Given {
            transcript: &folder,
            key: &key,
            plan: &plan,
            outputs: Some(&copy.places.previous),
            requests: None,
            rehearsal: None,
            previous: None,
            known: &undercroft_audit::Known::default(),
            wanted,
        })
        .unwrap()
        .verdict;
        assert_eq!((verdict.outcome, verdict.passed), (Outcome::Development, passed), "{}", verdict.text());
    }
}

fn log_origin() -> &'static str {
    WORLD.made.log.origin.as_str()
}

fn told(c: &Copy, event: &str, text: &str) -> Value {
    let plan = &c.log.value(0)["body"]["plan"];
    json!({ "event": event, "plan": plan, "text": text })
}

/// The first intent of an artefact.
fn intent(c: &Copy, artefact: &str) -> u64 {
    c.log.all("intent").into_iter().find(|at| c.log.value(*at)["body"]["rule"] == artefact).unwrap()
}

fn shift(c: &mut Copy, days: i64) {
    for index in 0..c.log.entries.len() as u64 {
        c.log.edit(index, |value| {
            let time: jiff::Timestamp = value["time"].as_str().unwrap().parse().unwrap();
            value["time"] = json!((time + jiff::SignedDuration::from_hours(24 * days)).to_string());
        });
    }
}

fn device(c: &mut Copy, from: &str, to: &str) {
    let at = c.find("roots: YubiHSM");
    c.log.edit_body(at, |body| {
        let text = body["text"].as_str().unwrap();
        assert!(text.contains(from));
        body["text"] = json!(text.replace(from, to));
    });
}

/// Makes the record of a key that of another one.
fn of_key(body: &mut Value, key: &hsm_sim::software::SoftwareKey, evidence: Vec<u8>) {
    body["key_id"] = json!(key.public_key().id().to_string());
    body["spki"] = json!(Base64::encode_string(key.public_key().spki()));
    body["evidence"] = json!(Base64::encode_string(&evidence));
}

fn change_last_byte(text: &mut Value) {
    let mut bytes = Base64::decode_vec(text.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *text = json!(Base64::encode_string(&bytes));
}

/// Changes the bytes of an intent, and has a root sign them.
fn sign_other(c: &mut Copy, intent: u64, root: &str, change: impl FnOnce(&mut Vec<u8>)) {
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

fn head(log: &crate::log::Log) -> Value {
    let checkpoint = log.sign(log.entries.len() as u64, log.root());
    json!({ "verifier_key": log.verifier().to_string(), "checkpoint": checkpoint })
}

/// The key of the new root is in a token in hardware.
fn on_real_token(rehearsal: &mut crate::log::Log) {
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
fn name_rehearsal(c: &mut Copy) {
    let head = head(&c.rehearsal);
    let at = c.find(r#""event":"rehearsed""#);
    c.log.edit_body(at, |body| body["transcript"] = head);
}
