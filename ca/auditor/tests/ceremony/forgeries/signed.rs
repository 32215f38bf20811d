//! What was signed.

use super::*;

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
