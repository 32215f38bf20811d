//! What there was before the ceremony: plan, rehearsal, the ceremony before.

use super::*;

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
            &["order", "previous-missing"],
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

/// alice and bob were the roster; dora came, and whoever asks.
#[test]
fn another_roster_without_the_old_quorum() {
    const ROSTER: Action = Action::Roster;
    fn roster(c: &mut Copy, who: &[&str], change: impl FnOnce(&mut undercroft_ca::approval::Statement)) {
        let at = c.approval(ROSTER);
        c.sign_again(at, who, change);
        c.approve_again();
    }
    each_is_found(&[
        (
            "nobody has approved the roster",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(ROSTER);
                    c.log.remove(at);
                })
            },
            &["previous-roster"],
        ),
        (
            "the new roster has approved itself",
            |c| roster(c, &["alice", "dora"], |_| {}),
            &["approval-signature", "previous-roster"],
        ),
        (
            "one of the old one alone",
            |c| roster(c, &["bob"], |_| {}),
            &["approval-quorum", "previous-roster"],
        ),
        (
            "another roster was approved",
            |c| roster(c, &["alice", "bob"], |s| s.object = Digest::of(b"x")),
            &["approval-object", "previous-roster"],
        ),
        (
            "for another ceremony",
            |c| {
                roster(c, &["alice", "bob"], |s| {
                    s.origin = "ca.example/undercroft/ceremony/2027-11/1".into()
                });
            },
            &["approval-origin", "previous-roster"],
        ),
        (
            "it names the new roster as its own",
            |c| {
                let new = c.statement(c.approval(Action::CeremonyPlan)).roster;
                roster(c, &["alice", "bob"], |s| s.roster = new);
            },
            &["approval-roster", "previous-roster"],
        ),
        (
            "it had expired",
            |c| roster(c, &["alice", "bob"], |s| s.expires = "2026-11-22T07:00:00Z".parse().unwrap()),
            &["approval-expired", "previous-roster"],
        ),
        (
            "it stands in front of the ceremony before",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(ROSTER);
                    c.log.move_entry(at, at - 1);
                })
            },
            &["order"],
        ),
    ]);
}
