//! Approvals, deviations and the window.

use super::*;

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
fn a_clock_outside_of_the_window_or_no_rehearsal_pass_with_an_approved_deviation_alone() {
    for (kind, passes) in [("outside-window", true), ("other", false)] {
        let mut copy = WORLD.copy();
        shift(&mut copy, 1);
        deviate(&mut copy, kind);
        let verdict = copy.verify();
        assert_eq!(verdict.passed, passes, "{}", verdict.text());
        assert_eq!(verdict.deviations[0].kind, Some(kind.parse().unwrap()));
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
