//! A ceremony with everything that belongs to it: the one before, the corporation's, its rehearsal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use hsm_sim::software::SoftwareKey;
use undercroft_audit::Known;
use undercroft_audit::ceremony::{Given, Verdict, Verified, Wanted, verify};
use undercroft_ca::approval::{Action, Statement};
use undercroft_ca::plan::Plan;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Digest;
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, leaf_hash};
use undercroft_log_files::Folder;

use crate::log::Log;
use crate::maker::{Made, Maker, software, write_request};
use crate::persons::PERSONS;
use crate::plans::{self, Foreign};

/// Made once for all tests, which look at copies.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(World::new);

pub(crate) struct World {
    _folder: tempfile::TempDir,
    pub(crate) plan: Plan,
    pub(crate) made: Made,
    pub(crate) rehearsal: Made,
    pub(crate) previous: Made,
    /// The corporation's own ceremony, which has no terms, and its folder.
    pub(crate) corporate: (Made, PathBuf),
    places: Places,
}

/// The folders of a ceremony.
#[derive(Clone)]
pub(crate) struct Places {
    pub(crate) out: PathBuf,
    pub(crate) requests: PathBuf,
    pub(crate) rehearsal: PathBuf,
    pub(crate) previous: PathBuf,
}

impl Places {
    fn in_folder(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        Self {
            out: at("out"),
            requests: at("requests"),
            rehearsal: at("rehearsal"),
            previous: at("previous"),
        }
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::in_folder(folder.path());
        let log_key = software(KeyAlgorithm::Ed25519);
        let maker = |plan: Plan, out: PathBuf, begins: &str| Maker {
            plan,
            log_key: log_key.clone(),
            existing: BTreeMap::new(),
            requests: places.requests.clone(),
            request_keys: BTreeMap::new(),
            out,
            begins: begins.parse().unwrap(),
            rehearsal: None,
            previous: None,
            roster_before: None,
        };
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();

        let previous_plan = plans::parse(&plans::previous());
        let previous = maker(previous_plan.clone(), places.previous.clone(), "2025-11-22T08:00:00Z").run();
        let corporate_out = folder.path().join("corporate");
        let corporate =
            maker(plans::parse(&plans::corporate()), corporate_out.clone(), "2025-01-01T08:00:00Z").run();
        let old_root = read(places.previous.join("old-root.pem"));
        let corporate_root = read(corporate_out.join("corporate.pem"));
        let answer_out = folder.path().join("answer");
        Maker {
            existing: corporate.roots.clone(),
            ..maker(
                plans::parse(&plans::corporate_answer(&corporate_root, &old_root)),
                answer_out.clone(),
                "2026-01-01T08:00:00Z",
            )
        }
        .run();

        let requested = ["intermediate-1", "intermediate-2", "new-ocsp"];
        let request_keys: BTreeMap<String, Arc<SoftwareKey>> =
            requested.map(|name| (name.to_owned(), software(KeyAlgorithm::EcdsaP256))).into();
        for (name, key) in &request_keys {
            write_request(&places.requests, &format!("prod.example/{name}"), key);
        }
        for (name, bytes) in [
            ("backup/new-root.wrapped", b"wrapped".to_vec()),
            ("corporate/answer.pem", read(answer_out.join("answer.pem")).into_bytes()),
        ] {
            let path = places.requests.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }

        let before = previous.head(&places.previous.join("transcript"));
        let head = Checkpoint::open(&before.checkpoint, &previous.log.verifier()).unwrap();
        let plan = plans::parse(&plans::everything(&Foreign {
            previous: Digest::of(head.text().as_bytes()).to_string(),
            old_root,
            old_key_id: previous.roots["old-root"].public_key().id().to_string(),
            corporate_root,
        }));
        let ours = |plan: Plan, out: PathBuf, begins: &str| Maker {
            existing: previous.roots.clone(),
            request_keys: request_keys.clone(),
            ..maker(plan, out, begins)
        };
        // The simulator's keys are its own.
        let rehearsal = Maker {
            log_key: software(KeyAlgorithm::Ed25519),
            ..ours(plan.clone().rehearsed().unwrap(), places.rehearsal.clone(), "2026-11-21T08:00:00Z")
        }
        .run();
        let made = Maker {
            rehearsal: Some(rehearsal.head(&places.rehearsal.join("transcript"))),
            previous: Some(before),
            roster_before: previous_plan.terms().map(|terms| terms.roster.clone()),
            ..ours(plan.clone(), places.out.clone(), "2026-11-22T08:00:00Z")
        }
        .run();
        Self {
            _folder: folder,
            plan,
            made,
            rehearsal,
            previous,
            corporate: (corporate, corporate_out),
            places,
        }
    }

    /// A copy that may be changed.
    pub(crate) fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::in_folder(folder.path());
        copy_folder(&self.places.out, &places.out);
        copy_folder(&self.places.requests, &places.requests);
        copy_folder(&self.places.rehearsal, &places.rehearsal);
        copy_folder(&self.places.previous, &places.previous);
        Copy {
            _folder: folder,
            places,
            plan: self.plan.text().to_owned(),
            log: self.made.log.clone(),
            rehearsal: self.rehearsal.log.clone(),
            key: self.made.log.verifier(),
            wanted: Wanted::Ceremony,
            alone: false,
        }
    }
}

/// A ceremony that may be changed.
pub(crate) struct Copy {
    _folder: tempfile::TempDir,
    pub(crate) places: Places,
    pub(crate) plan: String,
    pub(crate) log: Log,
    pub(crate) rehearsal: Log,
    /// The key that the auditor has.
    pub(crate) key: VerifierKey,
    pub(crate) wanted: Wanted,
    /// Without the transcripts of the rehearsal and of the ceremony before.
    pub(crate) alone: bool,
}

impl Copy {
    /// Writes the transcripts anew, each signed by its key, and verifies.
    pub(crate) fn verify(&self) -> Verdict {
        rewrite(&self.log, &self.places.out.join("transcript"));
        if self.rehearsal.entries != WORLD.rehearsal.log.entries {
            rewrite(&self.rehearsal, &self.places.rehearsal.join("transcript"));
        }
        self.verify_files()
    }

    /// Verifies the files as they are.
    pub(crate) fn verify_files(&self) -> Verdict {
        self.go_through().verdict
    }

    /// Verifies the files as they are, and keeps the record.
    pub(crate) fn go_through(&self) -> Verified {
        let plan = plans::parse(&self.plan);
        let folder = |path: &Path| Folder::new(path.join("transcript"));
        let (transcript, rehearsal, previous) =
            (folder(&self.places.out), folder(&self.places.rehearsal), folder(&self.places.previous));
        let (rehearsal_key, previous_key) = (self.rehearsal.verifier(), WORLD.previous.log.verifier());
        verify(&Given {
            transcript: &transcript,
            key: &self.key,
            plan: &plan,
            outputs: Some(&self.places.out),
            requests: Some(&self.places.requests),
            rehearsal: (!self.alone).then_some((&rehearsal, &rehearsal_key)),
            previous: (!self.alone).then_some((&previous, &previous_key)),
            next: None,
            known: &Known::default(),
            wanted: self.wanted,
        })
        .unwrap()
    }

    /// The index of the first entry that says `text` in its bytes.
    pub(crate) fn find(&self, text: &str) -> u64 {
        let has = |entry: &Vec<u8>| String::from_utf8_lossy(entry).contains(text);
        self.log.entries.iter().position(has).unwrap_or_else(|| panic!("no entry says {text}")) as u64
    }

    /// The index of the entry of a step.
    pub(crate) fn step(&self, event: &str, artefact: &str) -> u64 {
        self.find(&format!(r#""event":"{event}""#));
        let is = |index: &u64| {
            let body = &self.log.value(*index)["body"];
            body["event"] == event && body["step"]["artefact"] == artefact
        };
        (0..self.log.entries.len() as u64).find(is).unwrap()
    }

    /// The quorum approves the result anew, whatever it is now: what it cannot see must be found by others.
    pub(crate) fn approve_again(&mut self) {
        let awaiting = self.find(r#""event":"awaiting""#);
        let mut tree = GrowingTree::new();
        self.log.entries[..=awaiting as usize].iter().for_each(|entry| tree.push(leaf_hash(entry)));
        let head = Checkpoint { origin: self.log.origin.clone(), size: awaiting + 1, root: tree.root() };
        let object = Digest::of(head.text().as_bytes());
        let at = self.approval(Action::CeremonyResult);
        self.sign_again(at, &["alice", "bob"], |statement| statement.object = object);
    }

    /// The index of the approval of something.
    pub(crate) fn approval(&self, action: Action) -> u64 {
        let is = |index: &u64| {
            let text = self.log.value(*index)["body"]["statement"].as_str().unwrap().to_owned();
            Statement::parse(&text).is_ok_and(|statement| statement.action == action)
        };
        self.log.all("approval").into_iter().find(is).unwrap()
    }

    pub(crate) fn statement(&self, index: u64) -> Statement {
        Statement::parse(self.log.value(index)["body"]["statement"].as_str().unwrap()).unwrap()
    }

    /// Changes a statement and has it signed.
    pub(crate) fn sign_again(&mut self, index: u64, who: &[&str], change: impl FnOnce(&mut Statement)) {
        let mut statement = self.statement(index);
        change(&mut statement);
        let (text, signatures) = PERSONS.approve(&statement, who);
        let mut by: Vec<_> = who.to_vec();
        by.sort_unstable();
        by.dedup();
        self.log.edit_body(index, |body| {
            body["statement"] = text.into();
            body["signatures"] = signatures.into();
            body["by"] = by.into();
        });
    }
}

fn rewrite(log: &Log, path: &Path) {
    // Tiles of another log would stand in the way.
    std::fs::remove_dir_all(path).unwrap();
    log.write(path);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}
