//! What the quorum says of roots, and who answers for what is below them.

use std::collections::BTreeMap;

use undercroft_audit::Known;
use undercroft_audit::ceremony::{Given, verify};
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_log_files::Folder;

use super::*;
use crate::maker::Maker;
use crate::plans;

const ROOTS: Action = Action::BundleRoots;

/// Writes another text as what was stated, which the transcript then says, too.
fn rewrite(c: &mut Copy, text: &str) {
    std::fs::write(c.places.out.join("second-roots.json"), text).unwrap();
    let at = c.step("done", "second-roots");
    let written = Digest::of(text.as_bytes()).to_string();
    c.log.edit_body(at, |body| body["step"]["output"] = json!(written));
}

/// The quorum approves that text, and the result.
fn then_stated(c: &mut Copy, text: &str) {
    let at = c.approval(ROOTS);
    c.log.edit_body(at, |body| body["about"] = json!(text));
    c.sign_again(at, &["alice", "bob"], |s| s.object = Digest::of(text.as_bytes()));
    c.approve_again();
}

fn stated(c: &Copy) -> RootsStatement {
    let text = std::fs::read_to_string(c.places.out.join("second-roots.json")).unwrap();
    RootsStatement::parse(&text).unwrap()
}

/// The statement says something else, and everybody has approved that.
fn restate(c: &mut Copy, change: impl FnOnce(&mut RootsStatement)) {
    let mut statement = stated(c);
    change(&mut statement);
    let text = statement.text().unwrap();
    rewrite(c, &text);
    then_stated(c, &text);
}

fn approved_otherwise(
    c: &mut Copy,
    who: &[&str],
    change: impl FnOnce(&mut undercroft_ca::approval::Statement),
) {
    let at = c.approval(ROOTS);
    c.sign_again(at, who, change);
}

#[test]
fn another_statement_about_roots() {
    const OTHER: &[&str] = &["statement-about", "statement-text"];
    each_is_found(&[
        ("it names another root", |c| restate(c, |s| s.roots[0].sha256 = Digest([0; 32])), OTHER),
        ("it leaves a root out", |c| restate(c, |s| drop(s.roots.pop())), OTHER),
        ("a root has another name", |c| restate(c, |s| s.roots[1].subject = "CN=Somebody".into()), OTHER),
        ("it is about another domain", |c| restate(c, |s| s.domain = "edge.example".into()), OTHER),
        ("it has another number", |c| restate(c, |s| s.number = 7), OTHER),
        (
            "it is good for longer",
            |c| restate(c, |s| s.ends = "2046-01-01T00:00:00Z".parse().unwrap()),
            OTHER,
        ),
        (
            "it says the same in other words",
            |c| {
                let text = stated(c).text().unwrap().replace("  ", " ");
                rewrite(c, &text);
                then_stated(c, &text);
            },
            OTHER,
        ),
        (
            "the file alone is another one",
            |c| {
                let text = stated(c).text().unwrap().replace("\"number\": 2", "\"number\": 3");
                std::fs::write(c.places.out.join("second-roots.json"), text).unwrap();
            },
            &["output-digest"],
        ),
        (
            "it is the one that was rehearsed",
            |c| {
                let path = c.places.rehearsal.join("REHEARSAL-second-roots.json");
                let text = std::fs::read_to_string(path).unwrap();
                rewrite(c, &text);
                c.approve_again();
                approved_otherwise(c, &["alice", "bob"], |s| s.object = Digest::of(text.as_bytes()));
            },
            &["statement-text"],
        ),
        (
            "another one lies beside it",
            |c| {
                let text = stated(c).text().unwrap().replace("\"number\": 2", "\"number\": 3");
                let path = c.places.out.join("copies/second-roots.json");
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            },
            &["output-extra"],
        ),
        (
            "that of the rehearsal lies beside it",
            |c| {
                let name = "REHEARSAL-second-roots.json";
                std::fs::copy(c.places.rehearsal.join(name), c.places.out.join(name)).unwrap();
            },
            &["output-extra"],
        ),
    ]);
}

#[test]
fn another_approval_of_what_is_stated_about_roots() {
    each_is_found(&[
        (
            "nobody has approved it",
            |c| {
                let at = c.approval(ROOTS);
                c.log.remove(at);
            },
            &["statement-missing"],
        ),
        (
            "the text with the approval is another one",
            |c| {
                let text = stated(c).text().unwrap().replace("\"number\": 2", "\"number\": 3");
                let at = c.approval(ROOTS);
                c.log.edit_body(at, |body| body["about"] = json!(text));
            },
            &["statement-about"],
        ),
        (
            "the text is not with the approval",
            |c| {
                let at = c.approval(ROOTS);
                c.log.edit_body(at, |body| drop(body.as_object_mut().unwrap().remove("about")));
            },
            &["statement-about"],
        ),
        (
            "one has approved it twice",
            |c| approved_otherwise(c, &["alice", "alice"], |_| {}),
            &["approval-quorum"],
        ),
        (
            "whoever asked has approved it",
            |c| approved_otherwise(c, &["alice", "carol"], |_| {}),
            &["approval-requester"],
        ),
        (
            "a stranger has approved it",
            |c| approved_otherwise(c, &["alice", "mallory"], |_| {}),
            &["approval-signature"],
        ),
        (
            "something else was approved",
            |c| approved_otherwise(c, &["alice", "bob"], |s| s.object = Digest::of(b"x")),
            &["approval-object"],
        ),
        (
            "it was approved in another ceremony",
            |c| {
                approved_otherwise(c, &["alice", "bob"], |s| {
                    s.origin = "ca.example/undercroft/ceremony/2025-11/1".into();
                });
            },
            &["approval-origin"],
        ),
        (
            "it was too late",
            |c| {
                approved_otherwise(c, &["alice", "bob"], |s| {
                    s.expires = "2026-11-22T07:00:00Z".parse().unwrap();
                });
            },
            &["approval-expired"],
        ),
        (
            "it was approved as if it were a rotation's bundle",
            |c| approved_otherwise(c, &["alice", "bob"], |s| s.action = Action::Bundle),
            // So it stands where the result is approved.
            &["approval-action", "approval-object", "order", "statement-missing"],
        ),
        (
            "it was approved twice",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(ROOTS);
                    let body = c.log.value(at)["body"].clone();
                    c.log.insert(at + 1, "approval", body);
                })
            },
            &["approval-replayed", "order"],
        ),
        (
            "it was approved after the result",
            |c| {
                then_approved(c, |c| {
                    let at = c.approval(ROOTS);
                    c.log.move_entry(at, at + 1);
                })
            },
            &["order"],
        ),
    ]);
}

#[test]
fn a_number_that_stood_before_is_found() {
    let copy = WORLD.copy();
    let folder = Folder::new(copy.places.previous.join("transcript"));
    let key = WORLD.previous.log.verifier();
    let before = WORLD.previous.head(&copy.places.previous.join("transcript"));
    let head = undercroft_log::checkpoint::Checkpoint::open(&before.checkpoint, &key).unwrap();
    let root = std::fs::read_to_string(copy.places.previous.join("old-root.pem")).unwrap();
    for (number, found) in [(1, true), (2, false)] {
        let head = Digest::of(head.text().as_bytes()).to_string();
        let plan = plans::parse(&plans::restated(&head, &root, number));
        let out = tempfile::tempdir().unwrap();
        let maker = Maker {
            plan: plan.clone(),
            log_key: WORLD.made.log.key.clone(),
            existing: WORLD.previous.roots.clone(),
            requests: out.path().join("requests"),
            request_keys: BTreeMap::new(),
            out: out.path().to_owned(),
            begins: "2026-11-22T08:00:00Z".parse().unwrap(),
            rehearsal: None,
            previous: Some(before.clone()),
            roster_before: None,
        };
        let made = maker.run();
        let verified = verify(&Given {
            transcript: &Folder::new(out.path().join("transcript")),
            key: &made.log.verifier(),
            plan: &plan,
            outputs: Some(out.path()),
            requests: None,
            rehearsal: None,
            previous: Some((&folder, &key)),
            next: None,
            known: &Known::default(),
            wanted: Wanted::Ceremony,
        });
        let verdict = verified.unwrap().verdict;
        // It was not rehearsed, which is no matter here.
        let rules: BTreeSet<_> =
            verdict.findings().map(|it| it.rule).filter(|rule| *rule != "rehearsal-missing").collect();
        assert_eq!(rules, if found { BTreeSet::from(["statement-number"]) } else { BTreeSet::new() });
    }
}

/// Changes bytes of the OCSP signer's certificate, which the root then signs and everybody approves.
fn other_signer(c: &mut Copy, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let at = intent(c, "new-ocsp");
    sign_other(c, at, "new-root", |tbs| {
        let at = tbs.windows(from.len()).rposition(|window| window == from).unwrap();
        tbs[at..at + to.len()].copy_from_slice(to);
    });
    c.approve_again();
}

#[test]
fn another_ocsp_signer() {
    // id-kp-OCSPSigning and id-kp-serverAuth; id-pkix-ocsp-nocheck and another one beside it.
    const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
    const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    const NO_CHECK: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 5];
    const NONSENSE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 6];
    const SIGNED: &[&str] = &["lint", "output-content", "rehearsal-tbs", "tbs"];
    each_is_found(&[
        (
            "it lives a day longer than 90",
            |c| other_signer(c, b"270220000000Z", b"270221000000Z"),
            &["ocsp", "output-content", "rehearsal-tbs", "tbs"],
        ),
        ("it is a server's", |c| other_signer(c, OCSP_SIGNING, SERVER_AUTH), SIGNED),
        ("whether it is revoked is to be asked", |c| other_signer(c, NO_CHECK, NONSENSE), SIGNED),
        (
            "another root has signed it",
            |c| {
                then_approved(c, |c| {
                    let at = intent(c, "new-ocsp");
                    sign_other(c, at, "old-root", |_| {});
                })
            },
            &["output-content", "signature"],
        ),
        (
            "its key was never received",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("OCSP responder new-ocsp of new-root");
                    c.log.remove(at);
                })
            },
            &["key-missing", "rehearsal-tbs", "request-digest", "tbs"],
        ),
        (
            "its key is called an authority's",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("OCSP responder new-ocsp of new-root");
                    c.log.edit_body(at, |body| body["purpose"] = json!("authority new-ocsp of prod.example"));
                })
            },
            &["key-missing", "key-other", "rehearsal-tbs", "request-digest", "tbs"],
        ),
        (
            "its key is in software",
            |c| {
                then_approved(c, |c| {
                    let at = c.find("OCSP responder new-ocsp of new-root");
                    c.log.edit_body(at, |body| {
                        body["format"] = json!("software-v1");
                        body["grade"] = json!("software");
                    });
                })
            },
            &["custody-grade"],
        ),
        (
            "another request went in",
            |c| {
                write_request(&c.places.requests, "prod.example/new-ocsp", &software(KeyAlgorithm::EcdsaP256))
            },
            &["request-digest"],
        ),
        (
            "its request is missing",
            |c| std::fs::remove_file(c.places.requests.join("prod.example/new-ocsp.csr.pem")).unwrap(),
            &["evidence-missing"],
        ),
        (
            "its certificate is missing",
            |c| std::fs::remove_file(c.places.out.join("new-ocsp.pem")).unwrap(),
            &["output-missing"],
        ),
    ]);
}
