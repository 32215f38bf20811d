//! Entries and steps that are missing, moved, or others.

use super::*;

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
            &["approval-action", "approval-missing", "order", "statement-missing"],
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
