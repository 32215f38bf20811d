//! Logs that were made again, hash by hash, and signed with their own key: every byte is what the checkpoint covers,
//! and what the entries say does not hold together.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use undercroft_audit::Report;
use undercroft_ca::names::Identity;
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::subject::Subject;
use undercroft_ca::tbs::{self, CertificateSpec, SignedBy};
use undercroft_ca::time::Validity;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, SignatureAlgorithm};
use undercroft_log::leaf::Digest;

use crate::installation::{INSTALLATION, Installation, OPERATOR_ID, Signer, software};
use crate::log::Log;

/// A lie: the log that tells it, how it is told (which gives the entry that it stands in), and the rules that find it.
struct Lie {
    name: &'static str,
    log: fn(&Installation) -> &Log,
    tell: fn(&mut Log) -> u64,
    rules: &'static [&'static str],
}

const CONTROL: fn(&Installation) -> &Log = |all| &all.control;
const PROD: fn(&Installation) -> &Log = |all| &all.prod;
const CEREMONY: fn(&Installation) -> &Log = |all| &all.ceremony;

const fn lie(
    name: &'static str,
    log: fn(&Installation) -> &Log,
    rules: &'static [&'static str],
    tell: fn(&mut Log) -> u64,
) -> Lie {
    Lie { name, log, tell, rules }
}

/// What a leaf that somebody made up says.
pub(crate) struct Leaf<'a> {
    authority: &'a Signer,
    uri: &'a str,
    serial: u8,
    validity: (Timestamp, Timestamp),
    algorithm: SignatureAlgorithm,
}

impl<'a> Leaf<'a> {
    /// One that the CA could have made at the end of the log.
    fn honest(log: &Log, authority: &'a Signer, uri: &'a str) -> Self {
        let now = time(log, log.entries.len() as u64 - 1);
        let validity = (now, now + SignedDuration::from_hours(1));
        Self { authority, uri, serial: 0x7e, validity, algorithm: authority.issuer.algorithm }
    }

    pub(crate) fn of_prod(log: &Log) -> Self {
        Self::honest(log, &INSTALLATION.prod_authority, "spiffe://prod.example/ns/a/sa/x")
    }

    pub(crate) fn called(self, uri: &'a str) -> Self {
        Self { uri, ..self }
    }

    pub(crate) fn numbered(self, serial: u8) -> Self {
        Self { serial, ..self }
    }

    pub(crate) fn tbs(&self) -> Vec<u8> {
        let (subject, own_key) = (Subject::new("Example", None).unwrap(), software(KeyAlgorithm::EcdsaP256));
        let mut issuer = self.authority.issuer.clone();
        issuer.algorithm = self.algorithm;
        let spec = CertificateSpec {
            profile: &Profile::standard(Kind::Svid),
            policy_arc: &"1.3.6.1.4.1.32473.1".parse().unwrap(),
            serial: SerialNumber::from_bytes([self.serial; 16]).unwrap(),
            validity: Validity::new(self.validity.0, self.validity.1).unwrap(),
            subject: &subject,
            public_key: own_key.public_key(),
            identity: &Identity { uri: Some(self.uri.to_owned()), ..Identity::default() },
            path_length: None,
            constraints: None,
        };
        tbs::certificate(&spec, SignedBy::Issuer(&issuer)).unwrap().der().to_vec()
    }
}

fn time(log: &Log, index: u64) -> Timestamp {
    log.value(index)["time"].as_str().unwrap().parse().unwrap()
}

fn base64(bytes: &[u8]) -> Value {
    json!(Base64::encode_string(bytes))
}

/// Appends an intent for bytes that somebody made up, otherwise as the last one is, and its outcome, signed.
pub(crate) fn issue(log: &mut Log, authority: &Signer, tbs: &[u8], edit: impl FnOnce(&mut Value)) -> u64 {
    let mut body = log.value(log.last("intent"))["body"].clone();
    body["tbs"] = json!({ "der": base64(tbs) });
    body["key_id"] = json!(authority.key.public_key().id().to_string());
    edit(&mut body);
    let intent = log.push("intent", body);
    let signature = block_on(authority.key.sign(tbs)).unwrap();
    log.push("outcome", json!({ "intent": intent, "result": { "signature": base64(&signature) } }));
    intent
}

/// As [`issue`], by the intermediate of prod.example.
fn issue_in_prod(log: &mut Log, leaf: &Leaf<'_>, edit: impl FnOnce(&mut Value)) -> u64 {
    issue(log, leaf.authority, &leaf.tbs(), edit)
}

/// The to-be-signed bytes of an intent.
fn tbs_of(log: &Log, intent: u64) -> Vec<u8> {
    Base64::decode_vec(log.value(intent)["body"]["tbs"]["der"].as_str().unwrap()).unwrap()
}

/// Replaces bytes that stand once in others.
pub(crate) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    let [at] = at[..] else { panic!("{} times", at.len()) };
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// The last certificate of prod.example with other bytes in it, signed.
fn with_other_bytes(log: &mut Log, from: &[u8], to: &[u8]) -> u64 {
    let tbs = replaced(&Leaf::of_prod(log).tbs(), from, to);
    issue(log, &INSTALLATION.prod_authority, &tbs, |_| {})
}

/// keyUsage, critical, digitalSignature; and the same with keyCertSign.
const DIGITAL_SIGNATURE: &[u8] = &[0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x07, 0x80];
const KEY_CERT_SIGN: &[u8] = &[0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x02, 0x84];

/// Appends the last enrolment's intent anew, for a certificate of `uri`.
fn enrol(log: &mut Log, uri: &str, edit: impl FnOnce(&mut Value)) -> u64 {
    let authority = &INSTALLATION.control_authority;
    let tbs = Leaf::honest(log, authority, uri).tbs();
    issue(log, authority, &tbs, edit)
}

/// Appends an enrolment token for `id`.
fn token(log: &mut Log, id: &str) -> Value {
    let mut body = log.value(log.last("enrolment"))["body"].clone();
    body["token"] = json!(Digest::of(b"another token").to_string());
    body["id"] = json!(id);
    log.push("enrolment", body.clone());
    body["token"].clone()
}

const BOB: &str = "spiffe://control.example/operator/bob";

/// Appends that the last rotation has gone on, phase by phase, all at once.
fn go_on(log: &mut Log, phases: &[&str]) -> u64 {
    let at =
        log.all("rotation").into_iter().rfind(|at| log.value(*at)["body"]["event"] == "advanced").unwrap();
    let mut body = log.value(at)["body"].clone();
    let now = log.value(log.entries.len() as u64 - 1)["time"].clone();
    let mut last = at;
    for phase in phases {
        let phase = json!({ "phase": phase, "since": now });
        body["phases"].as_array_mut().unwrap().push(phase);
        last = log.push("rotation", body.clone());
    }
    last
}

/// Appends a rotation of the authority with this key, from its plan to its end, all at once.
fn retire(log: &mut Log, old_key: &str) -> u64 {
    let now = log.value(log.entries.len() as u64 - 1)["time"].as_str().unwrap().to_owned();
    retire_at(log, old_key, &now)
}

/// The same, at another time.
fn retire_at(log: &mut Log, old_key: &str, now: &str) -> u64 {
    let domain = log.value(log.last("bundle"))["body"]["domain"].clone();
    let mut body = json!({
        "event": "planned", "domain": domain, "number": 1, "schedule": "accelerated", "planned": now, "phases": [],
        "authorities": [{ "old": "i1", "old_key": old_key, "new": "i2" }],
        "caller": { "id": "uid:0", "by": "unix-socket" },
    });
    let mut at = log.push("rotation", body.clone());
    log.edit(at, |entry| entry["time"] = json!(now));
    body["event"] = json!("advanced");
    for phase in ["pre-publish", "switch", "drain", "retire"] {
        body["phases"].as_array_mut().unwrap().push(json!({ "phase": phase, "since": now }));
        at = log.push("rotation", body.clone());
    }
    at
}

/// Appends a rotation of an authority under which nothing is alive, as far as `phases`, and that it was given up then.
fn abandon(log: &mut Log, phases: &[&str]) -> u64 {
    let now = log.value(log.entries.len() as u64 - 1)["time"].clone();
    let domain = log.value(log.last("bundle"))["body"]["domain"].clone();
    let mut body = json!({
        "event": "planned", "domain": domain, "number": 1, "schedule": "accelerated", "planned": now, "phases": [],
        "authorities": [{ "old": "i1", "old_key": "00".repeat(32), "new": "i2" }],
        "caller": { "id": "uid:0", "by": "unix-socket" },
    });
    log.push("rotation", body.clone());
    body["event"] = json!("advanced");
    for phase in phases {
        body["phases"].as_array_mut().unwrap().push(json!({ "phase": phase, "since": now }));
        log.push("rotation", body.clone());
    }
    body["event"] = json!("abandoned");
    log.push("rotation", body)
}

/// Appends the last rotation again, changed.
fn again(log: &mut Log, change: impl FnOnce(&mut Value)) -> u64 {
    let mut body = log.value(log.last("rotation"))["body"].clone();
    change(&mut body);
    log.push("rotation", body)
}

fn zeros() -> Value {
    json!("00".repeat(32))
}

const LIES: &[Lie] = &[
    // What every entry says of itself.
    lie("an entry that cannot be read", CONTROL, &["leaf"], |log| {
        log.edit_body(log.last("refusal"), |body| body["more"] = json!(1))
    }),
    lie("an entry of another epoch", CONTROL, &["origin"], |log| {
        log.edit(log.last("refusal"), |entry| entry["origin"] = json!("ca.example/undercroft/control/2"))
    }),
    lie("an entry that says that it stands elsewhere", CONTROL, &["index"], |log| {
        log.edit(log.last("refusal"), |entry| entry["index"] = json!(0))
    }),
    lie("an entry that was stamped before the one in front of it", CONTROL, &["time"], |log| {
        log.edit(log.last("refusal"), |entry| entry["time"] = json!("2026-11-22T07:59:59Z"))
    }),
    // Keys and their custody.
    lie("a key that is none", CONTROL, &["key"], |log| {
        let mut body = log.value(log.last("key"))["body"].clone();
        body["spki"] = json!("MAA=");
        log.push("key", body)
    }),
    lie("a key under the id of another", CONTROL, &["key"], |log| {
        log.edit_body(log.last("key"), |body| body["key_id"] = zeros())
    }),
    lie("a key that would sign otherwise than it can", CONTROL, &["key"], |log| {
        let other = software(KeyAlgorithm::EcdsaP384);
        let mut body = log.value(log.last("key"))["body"].clone();
        body["spki"] = base64(other.public_key().spki());
        body["key_id"] = json!(other.public_key().id().to_string());
        log.push("key", body)
    }),
    lie("a software key that is called hardware", PROD, &["custody"], |log| {
        log.edit_body(log.last("key"), |body| body["grade"] = json!("declared"))
    }),
    lie("evidence of another key", PROD, &["custody"], |log| {
        // As a PKCS#11 token would give it, but the record is of the authority's key.
        let evidence = json!({
            "module": { "manufacturer": "Vendor", "description": "HSM", "version": "1.0" },
            "token": {
                "label": "ca", "manufacturer": "Vendor", "model": "9", "serial": "7", "hardware": "1", "firmware": "1"
            },
            "key": {
                "label": "i1", "id": "01", "spki": "00", "sensitive": true, "always_sensitive": true,
                "extractable": false, "never_extractable": true, "local": true
            }
        });
        log.edit_body(log.last("key"), |body| {
            body["grade"] = json!("declared");
            body["format"] = json!("pkcs11-attributes-v1");
            body["evidence"] = base64(evidence.to_string().as_bytes());
        })
    }),
    lie("an intent for a key that has no custody record", PROD, &["custody"], |log| {
        let thief = Signer {
            key: software(KeyAlgorithm::EcdsaP256),
            issuer: INSTALLATION.prod_authority.issuer.clone(),
        };
        let tbs = Leaf::of_prod(log).tbs();
        issue(log, &thief, &tbs, |_| {})
    }),
    // The uses of a key are counted.
    lie("a use of the key that is left out", PROD, &["sequence"], |log| {
        log.edit(log.last("intent"), |entry| {
            entry["sequence"] = json!(entry["sequence"].as_u64().unwrap() + 1)
        })
    }),
    lie("a use of the key that is counted twice", PROD, &["sequence"], |log| {
        log.edit(log.last("intent"), |entry| {
            entry["sequence"] = json!(entry["sequence"].as_u64().unwrap() - 1)
        })
    }),
    lie("a first use of the key that is not the first", PROD, &["sequence"], |log| {
        for intent in log.all("intent") {
            log.edit(intent, |entry| entry["sequence"] = json!(entry["sequence"].as_u64().unwrap() + 1));
        }
        log.first("intent")
    }),
    // Whose log it is.
    lie("a certificate for another domain", PROD, &["domain"], |log| {
        let leaf = Leaf { uri: "spiffe://other.example/a", ..Leaf::of_prod(log) };
        issue_in_prod(log, &leaf, |body| body["domain"] = json!("other.example"))
    }),
    lie("a certificate of another domain than the intent says", PROD, &["names"], |log| {
        let leaf = Leaf { uri: "spiffe://other.example/a", ..Leaf::of_prod(log) };
        issue_in_prod(log, &leaf, |_| {})
    }),
    lie("a certificate of a domain whose name begins alike", PROD, &["names"], |log| {
        let leaf = Leaf { uri: "spiffe://prod.example.org/a", ..Leaf::of_prod(log) };
        issue_in_prod(log, &leaf, |_| {})
    }),
    lie("a certificate for a domain that is hidden in the control log", CONTROL, &["domain"], |log| {
        let authority = &INSTALLATION.control_authority;
        let tbs = Leaf::honest(log, authority, "spiffe://prod.example/a").tbs();
        let policy = log.value(log.last("policy"))["body"]["sha256"].clone();
        issue(log, authority, &tbs, |body| {
            body["domain"] = json!("prod.example");
            body["caller"]["by"] = json!("mtls");
            body["policy"] = policy;
        })
    }),
    lie("the bundle of another domain", PROD, &["domain"], |log| {
        let mut body = log.value(log.first("bundle"))["body"].clone();
        body["domain"] = json!("other.example");
        log.push("bundle", body)
    }),
    lie("the refusal of another domain's request", PROD, &["domain"], |log| {
        log.edit_body(log.last("refusal"), |body| body["domain"] = json!("other.example"))
    }),
    // Policies, and plans.
    lie("an intent under another policy than the one in force", CONTROL, &["policy"], |log| {
        log.edit_body(log.last("intent"), |body| body["policy"] = zeros())
    }),
    lie("an intent under a policy that is no longer in force", CONTROL, &["policy"], |log| {
        let replaced = log.value(log.first("policy"))["body"]["sha256"].clone();
        let uri = "spiffe://control.example/operator/x";
        enrol(log, uri, |body| {
            body["caller"]["by"] = json!("mtls");
            body["policy"] = replaced;
        })
    }),
    lie("a refusal under a policy that is not in force", CONTROL, &["policy"], |log| {
        log.edit_body(log.last("refusal"), |body| body["policy"] = zeros())
    }),
    lie("intents under a policy that was never told", CEREMONY, &["policy"], |log| {
        log.remove(log.first("policy"));
        log.first("intent")
    }),
    lie("a policy whose text is another", CONTROL, &["policy"], |log| {
        log.edit_body(log.last("policy"), |body| body["text"]["inline"] = json!("# Nothing is allowed.\n"))
    }),
    lie("a policy that replaces another than the one in force", CONTROL, &["policy"], |log| {
        log.edit_body(log.last("policy"), |body| body["previous"] = zeros())
    }),
    lie("a policy that replaces nothing, where one is in force", CONTROL, &["policy"], |log| {
        log.edit_body(log.last("policy"), |body| drop(body.as_object_mut().unwrap().remove("previous")))
    }),
    lie("a first policy that replaces one", CONTROL, &["policy"], |log| {
        log.edit_body(log.first("policy"), |body| body["previous"] = zeros())
    }),
    lie("a ceremony of two plans", CEREMONY, &["ceremony"], |log| {
        log.edit_body(log.last("ceremony"), |body| body["plan"] = zeros())
    }),
    lie("a ceremony under something else than its plan", CEREMONY, &["ceremony"], |log| {
        let digest = json!(Digest::of(b"# Another plan.\n").to_string());
        for intent in log.all("intent") {
            log.edit_body(intent, |body| body["policy"] = digest.clone());
        }
        log.edit_body(log.first("policy"), |body| {
            *body = json!({ "sha256": digest, "text": { "inline": "# Another plan.\n" } });
        })
    }),
    lie("a transcript whose checkpoint its key has not signed", CONTROL, &["ceremony"], |log| {
        let other = INSTALLATION.prod.sign(1, INSTALLATION.prod.root());
        log.edit_body(log.last("ceremony"), |body| body["transcript"]["checkpoint"] = json!(other))
    }),
    lie("a transcript whose key is none", CONTROL, &["ceremony"], |log| {
        log.edit_body(log.last("ceremony"), |body| body["transcript"]["verifier_key"] = json!("x"))
    }),
    lie("a ceremony that is taken note of without its transcript", CONTROL, &["ceremony"], |log| {
        log.edit_body(log.last("ceremony"), |body| drop(body.as_object_mut().unwrap().remove("transcript")))
    }),
    // Large objects.
    lie("a blob that has another length", CEREMONY, &["blob"], |log| {
        log.edit_body(log.first("policy"), |body| body["text"]["blob"] = json!(1))
    }),
    lie("a list of revoked certificates that is not there", CEREMONY, &["blob"], |log| {
        let crl = crl(log);
        let sha256 = log.value(crl)["body"]["tbs"]["blob"]["sha256"].clone();
        log.blobs.retain(|blob| sha256 != Digest::of(blob).to_string());
        crl
    }),
    // The bytes that were to be signed.
    lie("a leaf that may sign certificates", PROD, &["lint"], |log| {
        with_other_bytes(log, DIGITAL_SIGNATURE, KEY_CERT_SIGN)
    }),
    lie("bytes that are no certificate", PROD, &["lint"], |log| {
        issue(log, &INSTALLATION.prod_authority, &[0x30, 0x00], |_| {})
    }),
    lie("bytes after a certificate", PROD, &["lint"], |log| {
        let tbs = [Leaf::of_prod(log).tbs(), vec![0x05, 0x00]].concat();
        issue(log, &INSTALLATION.prod_authority, &tbs, |_| {})
    }),
    lie("a certificate that is called a list of revoked ones", PROD, &["lint"], |log| {
        let leaf = Leaf { uri: "spiffe://other.example/a", ..Leaf::of_prod(log) };
        issue_in_prod(log, &leaf, |body| body["object"] = json!("crl"))
    }),
    lie("a list of revoked certificates with bytes after it", CEREMONY, &["lint"], |log| {
        let crl = crl(log);
        let sha256 = log.value(crl)["body"]["tbs"]["blob"]["sha256"].clone();
        let at = log.blobs.iter().position(|blob| sha256 == Digest::of(blob).to_string()).unwrap();
        log.blobs[at].extend([0x05, 0x00]);
        let (digest, length) = (Digest::of(&log.blobs[at]).to_string(), log.blobs[at].len());
        // Its outcome is left out: the root's key is not the liar's.
        log.remove(crl + 1);
        log.edit_body(crl, |body| body["tbs"]["blob"] = json!({ "sha256": digest, "length": length }))
    }),
    lie("a certificate that says that it is signed otherwise", PROD, &["algorithm"], |log| {
        let leaf = Leaf { algorithm: SignatureAlgorithm::EcdsaP384Sha384, ..Leaf::of_prod(log) };
        issue_in_prod(log, &leaf, |_| {})
    }),
    lie(
        "a list of revoked certificates that says that it is signed otherwise",
        CEREMONY,
        &["algorithm"],
        |log| {
            let crl = crl(log);
            let sha256 = log.value(crl)["body"]["tbs"]["blob"]["sha256"].clone();
            let at = log.blobs.iter().position(|blob| sha256 == Digest::of(blob).to_string()).unwrap();
            let (p384, p256) =
                (SignatureAlgorithm::EcdsaP384Sha384.der(), SignatureAlgorithm::EcdsaP256Sha256.der());
            log.blobs[at] = replaced(&log.blobs[at], p384, p256);
            let digest = Digest::of(&log.blobs[at]).to_string();
            log.remove(crl + 1);
            log.edit_body(crl, |body| body["tbs"]["blob"]["sha256"] = json!(digest))
        },
    ),
    lie("an intent to sign otherwise than the key does", PROD, &["algorithm"], |log| {
        let leaf = Leaf { algorithm: SignatureAlgorithm::EcdsaP384Sha384, ..Leaf::of_prod(log) };
        let intent = issue_in_prod(log, &leaf, |body| body["algorithm"] = json!("ecdsa-p384-sha384"));
        log.remove(intent + 1);
        intent
    }),
    lie("a serial number that was used before", PROD, &["serial"], |log| {
        let leaf = Leaf::of_prod(log);
        issue_in_prod(log, &leaf, |_| {});
        let again = Leaf { uri: "spiffe://prod.example/ns/a/sa/y", ..leaf };
        issue_in_prod(log, &again, |_| {})
    }),
    lie("the serial number of an abandoned intent", PROD, &["serial"], |log| {
        let abandoned = log
            .all("outcome")
            .into_iter()
            .find(|at| log.value(*at)["body"]["result"]["abandoned"].is_string());
        let intent = log.value(abandoned.unwrap())["body"]["intent"].as_u64().unwrap();
        let again = tbs_of(log, intent);
        issue(log, &INSTALLATION.prod_authority, &again, |_| {})
    }),
    lie("a certificate that was dated back", PROD, &["validity"], |log| {
        let mut leaf = Leaf::of_prod(log);
        leaf.validity.0 -= SignedDuration::from_hours(1);
        issue_in_prod(log, &leaf, |_| {})
    }),
    lie("a certificate that had ended when it was stamped", PROD, &["validity"], |log| {
        let mut leaf = Leaf::of_prod(log);
        leaf.validity = (
            leaf.validity.0 - SignedDuration::from_secs(608),
            leaf.validity.0 - SignedDuration::from_secs(602),
        );
        issue_in_prod(log, &leaf, |_| {})
    }),
    // What came of intents.
    lie("the outcome of an intent that is not there", PROD, &["outcome"], |log| {
        log.push("outcome", json!({ "intent": 9999, "result": { "abandoned": "x" } }))
    }),
    lie("the outcome of something that is no intent", PROD, &["outcome"], |log| {
        log.push("outcome", json!({ "intent": 0, "result": { "abandoned": "x" } }))
    }),
    lie("an outcome that stands in front of its intent", PROD, &["outcome"], |log| {
        let intent = issue_in_prod(log, &Leaf::of_prod(log), |_| {});
        log.entries.swap(intent as usize, intent as usize + 1);
        log.edit(intent, |entry| {
            entry["index"] = json!(intent);
            entry["body"]["intent"] = json!(intent + 1);
        });
        log.edit(intent + 1, |entry| entry["index"] = json!(intent + 1));
        intent
    }),
    lie("two outcomes of one intent", PROD, &["outcome"], |log| {
        let again = log.value(log.last("outcome"))["body"].clone();
        log.push("outcome", again)
    }),
    lie("an intent that was abandoned after it was signed", PROD, &["outcome"], |log| {
        let intent = log.last("intent");
        log.push("outcome", json!({ "intent": intent, "result": { "abandoned": "never mind" } }))
    }),
    lie("a signature of other bytes", PROD, &["signature"], |log| {
        let signature = block_on(INSTALLATION.prod_authority.key.sign(b"other bytes")).unwrap();
        log.edit_body(log.last("outcome"), |body| body["result"]["signature"] = base64(&signature))
    }),
    lie("a signature by another key", PROD, &["signature"], |log| {
        let tbs = tbs_of(log, log.last("intent"));
        let signature = block_on(software(KeyAlgorithm::EcdsaP256).sign(&tbs)).unwrap();
        log.edit_body(log.last("outcome"), |body| body["result"]["signature"] = base64(&signature))
    }),
    // Bundles.
    lie("a bundle that is left out", PROD, &["bundle"], |log| {
        log.edit_body(log.last("bundle"), |body| body["sequence"] = json!(3))
    }),
    lie("a bundle whose number was used before", PROD, &["bundle"], |log| {
        log.edit_body(log.last("bundle"), |body| body["sequence"] = json!(1))
    }),
    lie("a first bundle that is not the first", PROD, &["bundle"], |log| {
        log.edit_body(log.last("bundle"), |body| body["sequence"] = json!(3));
        log.edit_body(log.first("bundle"), |body| body["sequence"] = json!(2))
    }),
    lie("a bundle without roots", PROD, &["bundle", "rotation"], |log| {
        log.edit_body(log.last("bundle"), |body| body["roots"] = json!([]))
    }),
    lie("a bundle with something that is no certificate", PROD, &["bundle"], |log| {
        log.edit_body(log.last("bundle"), |body| body["roots"][1] = json!("MAA="))
    }),
    lie("a bundle with an intermediate in it", PROD, &["bundle"], |log| {
        let intermediate = base64(INSTALLATION.intermediate.der());
        log.edit_body(log.last("bundle"), |body| body["roots"].as_array_mut().unwrap().push(intermediate))
    }),
    lie("a root that nobody approved", PROD, &["bundle"], |log| {
        log.remove(log.last("approval"));
        log.last("bundle")
    }),
    lie("a root that nobody approved, behind an approval of something else", PROD, &["bundle"], |log| {
        log.edit_body(log.last("approval"), |body| {
            let statement = body["statement"].as_str().unwrap();
            body["statement"] =
                json!(statement.replace("\"action\": \"bundle\"", "\"action\": \"rotation\""));
        });
        log.last("bundle")
    }),
    lie("a root that comes back without an approval", PROD, &["bundle"], |log| {
        let mut body = log.value(log.last("bundle"))["body"].clone();
        body["sequence"] = json!(3);
        body["roots"].as_array_mut().unwrap().remove(0);
        log.push("bundle", body)
    }),
    // Rotations.
    lie("a rotation of another domain", PROD, &["domain"], |log| {
        let at = log.all("rotation")[2];
        log.edit_body(at, |body| body["domain"] = json!("other.example"))
    }),
    lie("a rotation that was never planned", PROD, &["rotation"], |log| {
        log.remove(log.first("rotation"));
        log.first("rotation")
    }),
    lie("a rotation whose number is left out", PROD, &["rotation"], |log| {
        for at in log.all("rotation") {
            log.edit_body(at, |body| body["number"] = json!(2));
        }
        log.first("rotation")
    }),
    lie("a rotation that begins in the middle", PROD, &["rotation"], |log| {
        let begun = log.value(log.all("rotation")[1])["body"]["phases"].clone();
        log.edit_body(log.first("rotation"), |body| body["phases"] = begun);
        log.remove(log.all("rotation")[1]);
        log.first("rotation")
    }),
    lie("a rotation that leaves a phase out", PROD, &["rotation"], |log| go_on(log, &["switch"])),
    lie("a rotation that goes back", PROD, &["rotation"], |log| go_on(log, &["pre-publish"])),
    lie("a rotation that goes on before anybody could have polled", PROD, &["rotation"], |log| {
        go_on(log, &["cross-sign"])
    }),
    lie("a rotation that becomes another one", PROD, &["rotation"], |log| {
        let mut body = log.value(log.all("rotation")[1])["body"].clone();
        body["authorities"][0]["new"] = json!("i3");
        log.push("rotation", body)
    }),
    lie("a phase that begins in the future", PROD, &["rotation"], |log| {
        log.edit_body(log.all("rotation")[1], |body| {
            body["phases"][0]["since"] = json!("2027-01-01T00:00:00Z")
        })
    }),
    lie("a phase whose bundle was not published", PROD, &["rotation"], |log| {
        log.remove(log.last("bundle"));
        log.all("rotation")[1]
    }),
    lie("a root in a rotation that is none", PROD, &["rotation"], |log| {
        log.edit_body(log.first("rotation"), |body| body["roots"]["new"] = json!("MAA="))
    }),
    lie("an authority that retires while what it issued lives", CONTROL, &["rotation"], |log| {
        let own = INSTALLATION.control_authority.key.public_key().id().to_string();
        retire(log, &own)
    }),
    lie("a certificate of an authority that has retired", PROD, &["rotation"], |log| {
        let key = INSTALLATION.prod_authority.key.public_key().id().to_string();
        for at in log.all("rotation").into_iter().rev() {
            log.remove(at);
        }
        // When everything has ended.
        retire_at(log, &key, "2027-06-01T00:00:00Z");
        let leaf = Leaf::of_prod(log);
        issue_in_prod(log, &leaf, |_| {})
    }),
    lie("a rotation that is abandoned when its authorities sign", CONTROL, &["rotation"], |log| {
        abandon(log, &["pre-publish", "switch"])
    }),
    lie("a rotation that is abandoned when its authorities have retired", CONTROL, &["rotation"], |log| {
        abandon(log, &["pre-publish", "switch", "drain", "retire"])
    }),
    lie("a rotation that is abandoned twice", CONTROL, &["rotation"], |log| {
        abandon(log, &["pre-publish"]);
        again(log, |_| {})
    }),
    lie("a rotation that goes on after it was abandoned", CONTROL, &["rotation"], |log| {
        let at = abandon(log, &["pre-publish"]);
        let now = log.value(at)["time"].clone();
        again(log, |body| {
            body["event"] = json!("advanced");
            body["phases"].as_array_mut().unwrap().push(json!({ "phase": "switch", "since": now }));
        })
    }),
    lie(
        "a rotation that is planned under the number of one that was abandoned",
        CONTROL,
        &["rotation"],
        |log| {
            abandon(log, &[]);
            again(log, |body| body["event"] = json!("planned"))
        },
    ),
    lie("another rotation than that which was planned is abandoned", CONTROL, &["rotation"], |log| {
        let at = abandon(log, &["pre-publish"]);
        log.edit_body(at, |body| body["authorities"][0]["new"] = json!("i3"));
        at
    }),
    lie("a rotation is abandoned in another phase than it was in", CONTROL, &["rotation"], |log| {
        let at = abandon(log, &["pre-publish"]);
        log.edit_body(at, |body| body["phases"] = json!([]));
        at
    }),
    lie("a rotation that is abandoned and was never planned", CONTROL, &["rotation"], |log| {
        let at = abandon(log, &[]);
        log.remove(at - 1);
        at - 1
    }),
    lie("a rotation that is abandoned while its root is published", PROD, &["rotation"], |log| {
        again(log, |body| {
            body["event"] = json!("abandoned");
            body.as_object_mut().unwrap().remove("blockers");
        })
    }),
    // Enrolments.
    lie("an enrolment without a token", CONTROL, &["enrolment"], |log| {
        log.edit_body(log.last("intent"), |body| body["evidence"] = json!([]))
    }),
    lie("an enrolment by a token that was never made", CONTROL, &["enrolment"], |log| {
        log.edit_body(log.last("intent"), |body| body["evidence"][0]["sha256"] = zeros())
    }),
    lie("an enrolment by a token that was made afterwards", CONTROL, &["enrolment"], |log| {
        let policy = log.value(log.last("policy"))["body"]["sha256"].clone();
        let digest = json!(Digest::of(b"another token").to_string());
        let intent = enrol(log, BOB, |body| {
            body["evidence"][0]["sha256"] = digest;
            body["caller"]["id"] = json!(BOB);
            body["policy"] = policy;
        });
        token(log, BOB);
        intent
    }),
    lie("a token that was used twice", CONTROL, &["enrolment"], |log| {
        let policy = log.value(log.last("policy"))["body"]["sha256"].clone();
        enrol(log, OPERATOR_ID, |body| body["policy"] = policy)
    }),
    lie("a token that had expired", CONTROL, &["enrolment"], |log| {
        log.edit_body(log.last("enrolment"), |body| body["expires"] = json!("2026-11-22T07:00:00Z"));
        log.last("intent")
    }),
    lie("a token that was good for somebody else", CONTROL, &["enrolment"], |log| {
        log.edit_body(log.last("enrolment"), |body| body["id"] = json!(BOB));
        log.last("intent")
    }),
    lie("an enrolment that gives somebody else's certificate", CONTROL, &["enrolment"], |log| {
        let policy = log.value(log.last("policy"))["body"]["sha256"].clone();
        let digest = token(log, BOB);
        enrol(log, OPERATOR_ID, |body| {
            body["evidence"][0]["sha256"] = digest;
            body["caller"]["id"] = json!(BOB);
            body["policy"] = policy;
        })
    }),
];

/// The intent of the list of revoked certificates in the transcript.
fn crl(log: &Log) -> u64 {
    log.all("intent").into_iter().find(|intent| log.value(*intent)["body"]["object"] == "crl").unwrap()
}

fn rules(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_lie_is_found_where_it_stands_and_nothing_else_is() {
    for Lie { name, log, tell, rules: expected } in LIES {
        let mut log = log(&INSTALLATION).clone();
        let entry = tell(&mut log);
        let report = log.audit();
        assert_eq!(rules(&report), expected.iter().copied().collect(), "{name}: {:#?}", report.findings);
        assert_eq!(report.findings[0].entry, Some(entry), "{name}: {:#?}", report.findings);
    }
}

/// The tellers themselves tell no lies: what they build is honest where a row changes nothing.
#[test]
fn what_the_lies_are_built_from_is_honest() {
    let mut prod = INSTALLATION.prod.clone();
    let leaf = Leaf::of_prod(&prod);
    issue_in_prod(&mut prod, &leaf, |_| {});
    assert_eq!(prod.audit().findings, []);
    let mut control = INSTALLATION.control.clone();
    let policy = control.value(control.last("policy"))["body"]["sha256"].clone();
    let digest = token(&mut control, BOB);
    enrol(&mut control, BOB, |body| {
        body["evidence"][0]["sha256"] = digest;
        body["caller"]["id"] = json!(BOB);
        body["policy"] = policy;
    });
    assert_eq!(control.audit().findings, []);
    // A rotation of an authority under which nothing is alive.
    let mut control = INSTALLATION.control.clone();
    retire(&mut control, &"00".repeat(32));
    assert_eq!(control.audit().findings, []);
    // One that was given up, and the next one.
    for phases in [&[][..], &["pre-publish"]] {
        let mut control = INSTALLATION.control.clone();
        abandon(&mut control, phases);
        again(&mut control, |body| {
            body["event"] = json!("planned");
            body["number"] = json!(2);
            body["phases"] = json!([]);
        });
        assert_eq!(control.audit().findings, []);
    }
}

/// What follows an entry that was dated back is compared with what stands in front of both.
#[test]
fn each_entry_that_was_dated_back_is_found() {
    let mut log = INSTALLATION.control.clone();
    let refusals = log.all("refusal");
    for (refusal, time) in refusals.iter().zip(["2026-11-22T07:59:58Z", "2026-11-22T07:59:59Z"]) {
        log.edit(*refusal, |entry| entry["time"] = json!(time));
    }
    let found: Vec<_> = log.audit().findings.iter().map(|finding| (finding.entry, finding.rule)).collect();
    assert_eq!(found, [(Some(refusals[0]), "time"), (Some(refusals[1]), "time")]);
}

#[test]
fn a_log_key_without_a_custody_record_is_found() {
    for log in [CONTROL, PROD, CEREMONY] {
        let mut log = log(&INSTALLATION).clone();
        let own = json!(log.key.public_key().id().to_string());
        while let Some(record) = log.all("key").into_iter().find(|at| log.value(*at)["body"]["key_id"] == own)
        {
            log.remove(record);
        }
        let report = log.audit();
        assert_eq!(rules(&report), BTreeSet::from(["custody"]), "{:#?}", report.findings);
        assert_eq!(report.findings[0].entry, None);
    }
}

/// A log that continues another says nothing of what was before.
#[test]
fn a_later_epoch_may_begin_in_the_middle() {
    for (log, begins_with) in [(CONTROL, "policy"), (PROD, "bundle"), (CONTROL, "enrolment")] {
        let mut log = log(&INSTALLATION).clone();
        let epoch = log.origin.as_str().strip_suffix('1').unwrap().to_owned() + "2";
        log.origin = epoch.parse().unwrap();
        for index in 0..log.entries.len() as u64 {
            log.edit(index, |entry| entry["origin"] = json!(epoch));
        }
        log.remove(log.first(begins_with));
        assert_eq!(log.audit().findings, [], "without its first {begins_with}");
    }
}

/// What a root that two domains share signs is for both of them, and for no third.
#[test]
fn a_ceremony_may_sign_for_several_domains_at_once() {
    let mut log = INSTALLATION.ceremony.clone();
    let root = log.first("intent");
    log.edit_body(root, |body| body["domain"] = json!("control.example lab.example"));
    assert_eq!(log.audit().findings, []);
    log.edit_body(root, |body| body["domain"] = json!("edge.example lab.example"));
    assert_eq!(rules(&log.audit()), BTreeSet::from(["names"]));
}
