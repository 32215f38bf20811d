//! Devices and keys.

use super::*;

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
