//! An exported log that is tampered with, and what others keep of it: an auditor a checkpoint, a witness its
//! cosignatures, and the owner of a certificate his proof.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};

use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use tempfile::TempDir;
use undercroft_audit::prove;
use undercroft_ca::tbs::{CrlScope, CrlSpec};
use undercroft_ca::time::Validity;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::leaf::Digest;
use undercroft_log::note::Note;
use undercroft_log::tile::push_entry;
use undercroft_log::tree::Hash;
use undercroft_log_files::Folder;

use crate::installation::{INSTALLATION, software};
use crate::lies::{Leaf, issue};
use crate::log::Log;
use crate::proofs::certificate;

/// Entries: two full bundles and a partial one, with two levels of tiles above them.
pub(super) const SIZE: usize = 600;

/// A size that the log had before.
pub(super) const EARLIER: usize = 300;

/// The intent of the certificate whose owner has kept its proof: in the third bundle.
pub(super) const OWNED: usize = 590;

/// The honest log: that of a domain, with a policy's worth of refusals and a certificate near its end.
static HONEST: LazyLock<Log> = LazyLock::new(|| {
    let mut log = INSTALLATION.prod.clone();
    let refusal = log.value(log.last("refusal"))["body"].clone();
    let fill = |log: &mut Log, size| {
        while log.entries.len() < size {
            let mut refusal = refusal.clone();
            refusal["reason"] = format!("for reason {}", log.entries.len()).into();
            log.push("refusal", refusal);
        }
    };
    // A CRL that is a blob, under the key of the authority.
    fill(&mut log, OWNED - 2);
    let crl = crl();
    let blob = serde_json::json!({ "blob": { "sha256": Digest::of(&crl).to_string(), "length": crl.len() } });
    issue(&mut log, &INSTALLATION.prod_authority, &crl, |body| {
        body["object"] = "crl".into();
        body["tbs"] = blob;
    });
    log.blobs.push(crl);
    let tbs = Leaf::of_prod(&log).tbs();
    let owned =
        issue(&mut log, &INSTALLATION.prod_authority, &tbs, |body| body["object"] = "certificate".into());
    assert_eq!(owned, OWNED as u64);
    fill(&mut log, SIZE);
    log
});

/// A TBSCertList of the authority that lists nothing, since nothing was revoked.
fn crl() -> Vec<u8> {
    let time = |text: &str| text.parse().unwrap();
    let spec = CrlSpec {
        issuer: &INSTALLATION.prod_authority.issuer,
        number: 1,
        period: Validity::new(time("2026-11-22T08:00:00Z"), time("2026-11-29T08:00:00Z")).unwrap(),
        revoked: &[],
        scope: CrlScope::default(),
    };
    undercroft_ca::tbs::crl(&spec).unwrap().der().to_vec()
}

static WITNESS: LazyLock<(WitnessKey, Arc<SoftwareKey>)> = LazyLock::new(|| {
    let key = software(KeyAlgorithm::Ed25519);
    let name = "witness.example/w1".parse().unwrap();
    (WitnessKey::ed25519(name, key.public_key().clone()).unwrap(), key)
});

/// The honest checkpoint at a size, cosigned.
fn cosigned(size: usize) -> String {
    let log = Log { entries: HONEST.entries[..size].to_vec(), ..HONEST.clone() };
    let note = log.sign(size as u64, log.root());
    let (witness, key) = &*WITNESS;
    let time = "2026-11-22T12:00:00Z".parse().unwrap();
    let message = witness.message(Note::parse(&note).unwrap().unverified_text(), time).unwrap();
    let line = witness.line(time, &block_on(key.sign(&message)).unwrap());
    format!("{note}{line}")
}

pub(super) fn encoded() -> Hash {
    Hash::empty_root()
}

pub(super) struct Export {
    pub(super) log: Log,
    directory: TempDir,
}

impl Export {
    pub(super) fn new() -> Self {
        let export = Self { log: HONEST.clone(), directory: tempfile::tempdir().unwrap() };
        let folder = export.log.write(&export.path("log"));
        folder.write_checkpoint(&cosigned(SIZE)).unwrap();
        fs::write(export.path("log.vkey"), format!("{}\n", export.log.verifier())).unwrap();
        fs::write(export.path("kept"), cosigned(SIZE)).unwrap();
        let policy = format!("witness w1 {}\nquorum w1\n", WITNESS.0);
        fs::write(export.path("witnesses.policy"), policy).unwrap();
        export.keep_proof();
        export
    }

    /// What the owner of the certificate keeps.
    fn keep_proof(&self) {
        let (entry, proof) = prove(&self.folder(), &self.log.verifier(), OWNED as u64).unwrap();
        let outcome = self.log.value(OWNED as u64 + 1);
        let signature = outcome["body"]["result"]["signature"].as_str().unwrap().to_owned();
        let der = certificate(&entry, &Base64::decode_vec(&signature).unwrap());
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in Base64::encode_string(&der).as_bytes().chunks(64) {
            pem += &format!("{}\n", std::str::from_utf8(line).unwrap());
        }
        pem += "-----END CERTIFICATE-----\n";
        fs::write(self.path("leaf.pem"), pem).unwrap();
        fs::write(self.path("leaf.tlog-proof"), proof.to_string()).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn folder(&self) -> Folder {
        Folder::new(self.path("log"))
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(super) fn policy(&self) -> String {
        self.text("witnesses.policy")
    }

    pub(super) fn kept(&self) -> String {
        self.text("kept")
    }

    pub(super) fn owned(&self, ending: &str) -> String {
        self.text(&format!("leaf.{ending}"))
    }

    // What is done to it.

    fn refs(&self) -> Vec<&[u8]> {
        self.log.entries.iter().map(Vec::as_slice).collect()
    }

    pub(super) fn edited(&self) -> Vec<&[u8]> {
        static OTHER: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let mut log = HONEST.clone();
            log.edit_body(OWNED as u64, |body| {
                body["caller"]["id"] = "spiffe://control.example/operator/bob".into()
            });
            log.entries.swap_remove(OWNED)
        });
        let mut entries = self.refs();
        entries[OWNED] = &OTHER;
        entries
    }

    pub(super) fn deleted(&self) -> Vec<&[u8]> {
        let mut entries = self.refs();
        entries.remove(400);
        entries
    }

    pub(super) fn swapped(&self) -> Vec<&[u8]> {
        let mut entries = self.refs();
        entries.swap(OWNED, OWNED + 1);
        entries
    }

    pub(super) fn inserted(&self) -> Vec<&[u8]> {
        let mut entries = self.refs();
        entries.insert(400, entries[399]);
        entries
    }

    /// Writes bundles of these entries under the names of the honest ones, and touches no hash.
    pub(super) fn write_bundles(&self, entries: &[&[u8]]) {
        for (name, entries) in
            [("000", &entries[..256]), ("001", &entries[256..512]), ("002.p/88", &entries[512..])]
        {
            let mut bundle = Vec::new();
            entries.iter().for_each(|entry| push_entry(&mut bundle, entry).unwrap());
            fs::write(self.path("log/tile/entries").join(name), bundle).unwrap();
        }
    }

    /// Writes these entries and every hash over them, and leaves the checkpoint.
    pub(super) fn write_all(&self, entries: &[&[u8]]) {
        fs::remove_dir_all(self.path("log/tile")).unwrap();
        self.folder().append(0, entries.iter().copied()).unwrap();
    }

    /// Writes another log, signed with the stolen key.
    pub(super) fn rewrite(&self, log: &Log) {
        fs::remove_dir_all(self.path("log")).unwrap();
        log.write(&self.path("log"));
    }

    /// The files of before, signed and cosigned as they were.
    pub(super) fn roll_back(&self) {
        let earlier =
            Log { entries: self.log.entries[..EARLIER].to_vec(), blobs: Vec::new(), ..self.log.clone() };
        self.rewrite(&earlier);
        self.folder().write_checkpoint(&cosigned(EARLIER)).unwrap();
    }

    fn change(&self, file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    }

    pub(super) fn flip(&self, file: &str, at: usize) {
        self.change(&self.path("log").join(file), |bytes| bytes[at] ^= 1);
    }

    pub(super) fn append(&self, file: &str, more: &[u8]) {
        self.change(&self.path("log").join(file), |bytes| bytes.extend(more));
    }

    pub(super) fn remove(&self, file: &str) {
        fs::remove_file(self.path("log").join(file)).unwrap();
    }

    /// The blob that an entry of the log names.
    pub(super) fn blob(&self) -> String {
        format!("blobs/{}", Digest::of(self.log.blobs.last().unwrap()))
    }

    pub(super) fn flip_blob(&self) {
        self.flip(&self.blob(), 100);
    }

    pub(super) fn replace_in_checkpoint(&self, from: &str, to: &str) {
        let note = self.folder().checkpoint().unwrap().unwrap();
        assert!(note.contains(from));
        self.folder().write_checkpoint(&note.replacen(from, to, 1)).unwrap();
    }

    pub(super) fn flip_root(&self) {
        self.replace_in_checkpoint(&self.log.root().to_string(), &INSTALLATION.control.root().to_string());
    }

    pub(super) fn sign_with_another_key(&self) {
        let thief = Log { key: software(KeyAlgorithm::Ed25519), ..self.log.clone() };
        self.folder().write_checkpoint(&thief.sign(SIZE as u64, thief.root())).unwrap();
    }

    pub(super) fn flip_cosignature(&self) {
        let note = self.folder().checkpoint().unwrap().unwrap();
        let (rest, signature) = note.trim_end().rsplit_once(' ').unwrap();
        let mut blob = Base64::decode_vec(signature).unwrap();
        *blob.last_mut().unwrap() ^= 1;
        self.folder().write_checkpoint(&format!("{rest} {}\n", Base64::encode_string(&blob))).unwrap();
    }

    // Who looks at it.

    fn audit_with(&self, command: &str, more: &[&str]) -> Output {
        let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
        audit.arg(command).arg(self.path("log")).arg("--key").arg(self.path("log.vkey")).args(more);
        audit.output().unwrap()
    }

    pub(super) fn audit(&self, more: &[&str]) -> Output {
        self.audit_with("verify", more)
    }

    pub(super) fn python(&self, more: &[&str]) -> Output {
        let mut python = verify_py("log");
        python.arg(self.path("log")).arg(self.path("log.vkey")).args(more).output().unwrap()
    }

    /// The bytes that the export has now for an entry, if any, sound or not.
    pub(super) fn entry_now(&self, index: usize) -> Option<Vec<u8>> {
        let name = format!("log/tile/entries/{:03}", index / 256);
        let path = [name.clone(), format!("{name}.p/88"), format!("{name}.p/87"), format!("{name}.p/89")]
            .into_iter()
            .chain((1..256).map(|width| format!("{name}.p/{width}")))
            .map(|name| self.path(&name))
            .find(|path| path.is_file())?;
        let bundle = fs::read(path).unwrap();
        let mut rest = &bundle[..];
        for _ in 0..index % 256 {
            let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
            rest = rest.get(2 + length..)?;
        }
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        rest.get(2..2 + length).map(<[u8]>::to_vec)
    }

    /// A proof of an entry from the export as it is now.
    pub(super) fn prove(&self, index: usize) -> String {
        let out = self.text("proofs");
        let ran = self.audit_with("prove", &[&index.to_string(), "--out", &out]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        self.text(&format!("proofs/{index}.tlog-proof"))
    }

    /// Both verifiers on the owner's certificate.
    pub(super) fn certificate(
        &self,
        entry: &[u8],
        proof: &str,
        policy: Option<&str>,
    ) -> [(&'static str, Output); 2] {
        let shown = self.path("now.entry");
        fs::write(&shown, entry).unwrap();
        let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
        audit.arg("certificate").arg(self.path("leaf.pem")).arg("--entry").arg(&shown);
        audit.args(["--proof", proof, "--key"]).arg(self.path("log.vkey"));
        audit.args(policy.iter().flat_map(|policy| ["--witness-policy", policy]));
        let mut python = verify_py("certificate");
        python.arg(self.path("leaf.pem")).arg(&shown).arg(proof).arg(self.path("log.vkey")).args(policy);
        [("undercroft-audit", audit.output().unwrap()), ("verify.py", python.output().unwrap())]
    }
}

/// `docs/verify.py`, by the Python that `make test` has installed the package `cryptography` for.
fn verify_py(command: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/pkilint/bin/python");
    assert!(python.is_file(), "pkilint is not installed; `make test` installs it");
    let mut verify = Command::new(python);
    verify.arg(root.join("docs/verify.py")).arg(command);
    verify
}
