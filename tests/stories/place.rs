//! A site in a temporary folder, with a daemon and somebody to call it.

use std::path::{Path, PathBuf};

use e2e::{Caller, Daemon, Domain, Issue, Ran, Site, request};
use serde_json::Value;
use undercroft_log::leaf::{Body, Leaf, Refusal};
use undercroft_log_files::Folder;

use crate::judges::judge_entries;

/// A site whose daemon runs, with an operator. Everything is stopped and removed when it is dropped.
pub(crate) struct Place {
    pub(crate) daemon: Option<Daemon>,
    pub(crate) operator: Caller,
    pub(crate) site: Site,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(domains: Vec<Domain>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::built(folder.path(), domains).unwrap();
        Self::of(folder, site)
    }

    /// A site that was built in `folder`.
    pub(crate) fn of(folder: tempfile::TempDir, site: Site) -> Self {
        let daemon = site.start().unwrap();
        let operator = site.enrolled(&daemon, "/operator/alice").unwrap();
        Self { daemon: Some(daemon), operator, site, _folder: folder }
    }

    /// `prod.example`, in SoftHSM.
    pub(crate) fn prod() -> Self {
        Self::new(vec![Domain::softhsm("prod.example", "ecdsa-p256")])
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Asks for the certificate of a workload, as the operator; answers go to `out` below the site.
    pub(crate) fn issue(&self, domain: &str, out: &str, more: &[&str]) -> Ran {
        let out = self.path(out);
        let id = format!("spiffe://{domain}/ns/pay/sa/ledger");
        let (_, csr) = request(&out, "leaf", "P-256", Some(&id)).unwrap();
        self.ask(&self.operator, &Issue { domain, profile: "svid", csr: &csr, out: &out, more })
    }

    pub(crate) fn ask(&self, caller: &Caller, issue: &Issue<'_>) -> Ran {
        self.site.issue(self.daemon(), caller, issue).unwrap().run().unwrap()
    }

    /// Runs a command over the administration socket and reads the JSON that it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.site.administer(arguments).unwrap().args(["--output", "json"]).done().unwrap();
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// The key (vkey) of a domain's log.
    pub(crate) fn log_key(&self, domain: &str) -> String {
        self.json(&["domain", "show", domain])["log-key"].as_str().unwrap().to_owned()
    }

    /// Exports the log of each domain and has it audited.
    pub(crate) fn export_and_audit(&self) {
        for domain in self.site.domains() {
            let key = self.log_key(&domain.name);
            std::fs::write(self.path(&domain.folder).join("log.vkey"), key + "\n").unwrap();
            self.site.export(domain).unwrap().done().unwrap();
            self.site.audit(domain).unwrap().done().unwrap().says("Everything is as it must be").unwrap();
        }
        let logs = self.site.domains().iter().map(|domain| self.path(&domain.folder).join("log"));
        judge_entries(&logs.collect::<Vec<_>>());
    }

    /// The refusals in an exported log.
    pub(crate) fn refusals(&self, folder: &str) -> Vec<Refusal> {
        bodies(&self.path(folder).join("log"))
            .into_iter()
            .filter_map(|body| match body {
                Body::Refusal(refusal) => Some(refusal),
                _ => None,
            })
            .collect()
    }

    /// Stops the daemon, which must end well.
    pub(crate) fn stop(&mut self) {
        assert_eq!(self.daemon.take().unwrap().stop().unwrap(), 0);
    }

    pub(crate) fn start(&mut self) {
        self.daemon = Some(self.site.start().unwrap());
    }
}

/// What the entries of a log in a folder say.
pub(crate) fn bodies(log: &Path) -> Vec<Body> {
    let folder = Folder::new(log);
    let note = folder.checkpoint().unwrap().unwrap();
    let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
    let bundles = (0..size.div_ceil(256)).flat_map(|bundle| folder.bundle(bundle, size).unwrap());
    bundles.map(|leaf| Leaf::parse(&leaf).unwrap().body).collect()
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}
