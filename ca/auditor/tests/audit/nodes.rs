//! Certificates that rest on the evidence of nodes: each on evidence that was taken, once, of one TPM as one node.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use undercroft_log::leaf::Digest;

use crate::installation::INSTALLATION;
use crate::lies::{Leaf, issue};
use crate::log::Log;

const NODE: &str = "spiffe://prod.example/node/a";
const OTHER: &str = "spiffe://prod.example/node/b";

/// Appends a verdict that takes the TPM `tpm` as `id`, on the evidence and the exchange `evidence`.
fn take(log: &mut Log, id: &str, tpm: &str, evidence: &str) -> u64 {
    let blob =
        |bytes: &str| json!({ "sha256": Digest::of(bytes.as_bytes()).to_string(), "length": bytes.len() });
    for bytes in [evidence, "the policy"] {
        if !log.blobs.contains(&bytes.as_bytes().to_vec()) {
            log.blobs.push(bytes.into());
        }
    }
    let accepted = json!({
        "rule": "nodes", "spiffe_id": id, "assurance": "hardware",
        "transcript": Digest::of(format!("exchange of {evidence}").as_bytes()).to_string(),
        "attestation_key": "AAs=",
        "clock": { "milliseconds": 1, "resets": 2, "restarts": 3, "safe": true, "firmware": [4, 5] },
        "selectors": [],
    });
    log.push("verdict", json!({
        "domain": "prod.example", "attestor": "tpm", "endorsement": Digest::of(tpm.as_bytes()).to_string(),
        "evidence": blob(evidence), "policy": blob("the policy"), "result": { "accepted": accepted },
    }))
}

/// Appends a certificate for `id` that rests on evidence.
fn certify(log: &mut Log, id: &str, evidence: &str, serial: u8, edit: impl FnOnce(&mut Value)) -> u64 {
    let tbs = Leaf::of_prod(log).called(id).numbered(serial).tbs();
    issue(log, &INSTALLATION.prod_authority, &tbs, |body| {
        body["caller"] = json!({ "id": id, "by": "attestation" });
        let sha256 = Digest::of(evidence.as_bytes()).to_string();
        body["evidence"] = json!([{ "format": "undercroft-node-evidence/v1", "sha256": sha256 }]);
        edit(body);
    })
}

/// A log in which a node has attested twice, and another once.
fn honest() -> Log {
    let mut log = INSTALLATION.prod.clone();
    take(&mut log, NODE, "tpm 1", "first");
    certify(&mut log, NODE, "first", 0x71, |_| {});
    take(&mut log, OTHER, "tpm 2", "other");
    certify(&mut log, OTHER, "other", 0x72, |_| {});
    take(&mut log, NODE, "tpm 1", "second");
    certify(&mut log, NODE, "second", 0x73, |_| {});
    log
}

fn release(log: &mut Log, tpm: &str) {
    let time = log.value(0)["time"].clone();
    log.push("enrolment", json!({
        "event": "node-released", "token": Digest::of(tpm.as_bytes()).to_string(), "id": NODE, "expires": time,
        "caller": { "id": "uid:0", "by": "unix-socket" },
    }));
}

#[test]
fn nodes_that_attest_are_no_finding() {
    assert_eq!(honest().audit().findings, []);
    // What was refused, whoever it was, and what was taken and led to nothing.
    let mut log = honest();
    let refused = take(&mut log, NODE, "tpm 1", "third");
    log.edit_body(refused, |body| {
        body["result"] = json!({ "refused": { "code": "ek-chain", "reason": "x" } });
        body["domain"] = json!("nobody.example");
    });
    take(&mut log, OTHER, "tpm 1", "fourth");
    assert_eq!(log.audit().findings, []);
    let mut log = honest();
    release(&mut log, "tpm 1");
    take(&mut log, OTHER.replace("/b", "/c").as_str(), "tpm 1", "third");
    certify(&mut log, &OTHER.replace("/b", "/c"), "third", 0x74, |_| {});
    assert_eq!(log.audit().findings, []);
}

#[test]
fn what_rests_on_no_evidence_of_its_own_is_found() {
    type Tell = fn(&mut Log) -> u64;
    let lies: [(&str, Tell, &str); 12] = [
        ("evidence that nobody judged", |log| certify(log, NODE, "third", 0x74, |_| {}), "verdict"),
        ("evidence that was used before", |log| certify(log, NODE, "second", 0x74, |_| {}), "verdict"),
        (
            "evidence that was judged afterwards",
            |log| {
                let intent = certify(log, NODE, "third", 0x74, |_| {});
                take(log, NODE, "tpm 1", "third");
                intent
            },
            "verdict",
        ),
        (
            "evidence of another node",
            |log| {
                take(log, OTHER, "tpm 2", "third");
                certify(log, NODE, "third", 0x74, |_| {})
            },
            "verdict",
        ),
        (
            "evidence that was refused",
            |log| {
                let at = take(log, NODE, "tpm 1", "third");
                log.edit_body(at, |body| {
                    body["result"] = json!({ "refused": { "code": "ak-scheme", "reason": "x" } });
                });
                certify(log, NODE, "third", 0x74, |_| {})
            },
            "verdict",
        ),
        (
            "no evidence",
            |log| {
                take(log, NODE, "tpm 1", "third");
                certify(log, NODE, "third", 0x74, |body| body["evidence"] = json!([]))
            },
            "verdict",
        ),
        (
            "two exchanges for one certificate",
            |log| {
                take(log, NODE, "tpm 1", "third");
                certify(log, NODE, "third", 0x74, |body| {
                    let twice = body["evidence"][0].clone();
                    body["evidence"] = json!([twice, twice]);
                })
            },
            "verdict",
        ),
        (
            "one exchange judged twice",
            |log| {
                let at = take(log, NODE, "tpm 1", "third");
                let transcript =
                    log.value(log.first("verdict"))["body"]["result"]["accepted"]["transcript"].clone();
                log.edit_body(at, |body| body["result"]["accepted"]["transcript"] = transcript);
                certify(log, NODE, "third", 0x74, |_| {})
            },
            "verdict",
        ),
        (
            "one TPM as two nodes",
            |log| {
                take(log, "spiffe://prod.example/node/c", "tpm 1", "third");
                certify(log, "spiffe://prod.example/node/c", "third", 0x74, |_| {})
            },
            "verdict",
        ),
        (
            "one node with two TPMs",
            |log| {
                take(log, NODE, "tpm 3", "third");
                certify(log, NODE, "third", 0x74, |_| {})
            },
            "verdict",
        ),
        (
            "a verdict on a TPM that no maker vouches for",
            |log| {
                let at = take(log, NODE, "tpm 1", "third");
                log.edit_body(at, |body| drop(body.as_object_mut().unwrap().remove("endorsement")));
                at
            },
            "verdict",
        ),
        (
            "evidence that is not there",
            |log| {
                let at = take(log, NODE, "tpm 1", "third");
                log.blobs.retain(|blob| blob != b"third");
                at
            },
            "blob",
        ),
    ];
    for (name, tell, rule) in lies {
        let mut log = honest();
        let entry = tell(&mut log);
        let report = log.audit();
        let found: BTreeSet<_> = report.findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(found, BTreeSet::from([rule]), "{name}: {:#?}", report.findings);
        assert_eq!(report.findings[0].entry, Some(entry), "{name}: {:#?}", report.findings);
    }
}
