//! The rehearsal of the ceremony after, where a plan asks for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hsm_sim::software::SoftwareKey;
use undercroft_audit::ceremony::{Given, verify};
use undercroft_ca::plan::Plan;
use undercroft_log::leaf::TranscriptHead;
use undercroft_log_files::Folder;

use super::*;
use crate::log::Log;
use crate::maker::{Made, Maker};
use crate::plans;

struct After {
    folder: tempfile::TempDir,
    plan: Plan,
    made: Made,
}

impl After {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan =
            plans::parse(&plans::previous().replace("requester =", "rehearse-next = true\nrequester ="));
        let made = carried_out(plan.clone(), &folder.path().join("ceremony"), BTreeMap::new());
        Self { folder, plan, made }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A rehearsal, or another ceremony, with the root that this one has made, or without it.
    fn next(&self, name: &str, change: impl FnOnce(Plan) -> Plan, with_root: bool) -> (Log, TranscriptHead) {
        let root = std::fs::read_to_string(self.path("ceremony/old-root.pem")).unwrap();
        let plan = change(plans::parse(&plans::next(with_root.then_some(&root))));
        let made = carried_out(plan, &self.path(name), self.made.roots.clone());
        let head = made.head(&self.path(name).join("transcript"));
        (made.log, head)
    }

    /// What is found of the ceremony after, where the transcript has this entry, and that transcript is given.
    fn found(
        &self,
        named: Option<serde_json::Value>,
        given: Option<(&Path, &Log)>,
    ) -> BTreeSet<&'static str> {
        let mut log = self.made.log.clone();
        if let Some(head) = named {
            let is = |index: &u64| log.value(*index)["body"]["event"] == "awaiting";
            let at = log.all("ceremony").into_iter().find(is).unwrap();
            let mut body = json!({ "event": "next-rehearsed", "plan": self.plan.digest().to_string(), "text": "it was" });
            if !head.is_null() {
                body["transcript"] = head;
            }
            log.insert(at, "ceremony", body);
        }
        let forged = self.path("forged");
        let _ = std::fs::remove_dir_all(&forged);
        log.write(&forged);
        let (folder, key) = (Folder::new(&forged), log.verifier());
        let next = given.map(|(path, log)| (Folder::new(path.join("transcript")), log.verifier()));
        let verdict = verify(&Given {
            transcript: &folder,
            key: &key,
            plan: &self.plan,
            outputs: None,
            requests: None,
            rehearsal: None,
            previous: None,
            next: next.as_ref().map(|(folder, key)| (folder, key)),
            known: &undercroft_audit::Known::default(),
            wanted: Wanted::Development,
        });
        let verdict = verdict.unwrap().verdict;
        verdict
            .findings()
            .map(|it| it.rule)
            .filter(|rule| rule.starts_with("next") || *rule == "order")
            .collect()
    }
}

fn carried_out(plan: Plan, out: &Path, existing: BTreeMap<String, Arc<SoftwareKey>>) -> Made {
    let maker = Maker {
        plan,
        log_key: software(KeyAlgorithm::Ed25519),
        existing,
        requests: out.join("requests"),
        request_keys: BTreeMap::new(),
        out: out.to_owned(),
        begins: "2025-11-22T08:00:00Z".parse().unwrap(),
        rehearsal: None,
        previous: None,
        roster_before: None,
    };
    maker.run()
}

fn json_of(head: &TranscriptHead) -> serde_json::Value {
    serde_json::to_value(head).unwrap()
}

#[test]
fn the_ceremony_after_is_rehearsed_with_every_root_that_stays() {
    let after = After::new();
    let rehearsed = |plan: Plan| plan.rehearsed().unwrap();
    assert_eq!(after.found(None, None), BTreeSet::from(["next-missing"]));
    assert_eq!(after.found(Some(json!(null)), None), BTreeSet::from(["next-head"]));

    let (good, head) = after.next("good", rehearsed, true);
    assert!(after.found(Some(json_of(&head)), None).is_empty());
    assert!(after.found(Some(json_of(&head)), Some((&after.path("good"), &good))).is_empty());

    let (forgetful, other) = after.next("forgetful", rehearsed, false);
    let given = (&*after.path("forgetful"), &forgetful);
    assert_eq!(after.found(Some(json_of(&other)), Some(given)), BTreeSet::from(["next-roots"]));
    assert_eq!(after.found(Some(json_of(&head)), Some(given)), BTreeSet::from(["next-head", "next-roots"]));

    // No rehearsal, but a ceremony; and a rehearsal that did not go through.
    let (real, head) = after.next("real", |plan| plan, true);
    let given = (&*after.path("real"), &real);
    assert_eq!(after.found(Some(json_of(&head)), Some(given)), BTreeSet::from(["next-unsound"]));
    let mut cut = good;
    cut.entries.pop();
    let _ = std::fs::remove_dir_all(after.path("good/transcript"));
    cut.write(&after.path("good/transcript"));
    let head = Made { log: cut.clone(), roots: BTreeMap::new() }.head(&after.path("good/transcript"));
    let given = (&*after.path("good"), &cut);
    assert_eq!(after.found(Some(json_of(&head)), Some(given)), BTreeSet::from(["next-unsound"]));
}
