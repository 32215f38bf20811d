//! `undercroft keys reconcile`: what a provider of keys has logged of their use, against the intents of a log.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use undercroft_ca::provider_log::cloudtrail::CloudTrail;
use undercroft_ca::provider_log::{Comparison, KeyComparison, Signed, Uses};
use undercroft_cli::{Failure, Terminal, read_text};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, KeyEvidence, Leaf};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, TILE_WIDTH, leaf_hash};
use undercroft_log_files::{Folder, FolderError, read_plain};

/// The most bytes of a file of the provider's.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Arguments of `keys reconcile`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct ReconcileArgs {
    /// The folder with an export of the log: the one that holds `checkpoint`.
    log: PathBuf,
    /// The key (vkey) that must have signed the log.
    #[arg(long)]
    key: PathBuf,
    /// Log files of CloudTrail, not compressed, and folders of such files.
    #[arg(required = true)]
    cloudtrail: Vec<PathBuf>,
    /// How many seconds the clocks of the CA and of the provider may be apart.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    allowance: u32,
}

impl ReconcileArgs {
    pub(in crate::commands) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let key: VerifierKey = read_text(&self.key)?
            .trim_end()
            .parse()
            .map_err(|error| Failure::usage(format!("{}: {error}", self.key.display())))?;
        let uses = uses(&Folder::new(&self.log), &key, terminal)?;
        let mut trail = CloudTrail::default();
        for file in files(&self.cloudtrail)? {
            let bytes = read_plain(&file, MAX_FILE).map_err(|error| unread(&error))?.unwrap_or_default();
            trail.read(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        }
        let trail = trail.finish();
        let comparison = uses.compare(&trail, SignedDuration::from_secs(self.allowance.into()));
        if comparison.keys.is_empty() {
            return Err(Failure::usage(format!(
                "the log {} knows no key of AWS KMS, so that there is nothing to compare",
                key.name()
            )));
        }
        terminal.result(&comparison, || told(&comparison))?;
        match comparison.alarms() {
            0 => Ok(()),
            alarms => Err(Failure::tampered(format!(
                "{alarms} uses of keys are not what the log {} says: somebody else may use them (`undercroft keys show` names who may), or the export or CloudTrail's files are not whole",
                key.name()
            ))),
        }
    }
}

/// What the log says of its keys, if every entry is under its signed head.
fn uses(folder: &Folder, key: &VerifierKey, terminal: &Terminal) -> Result<Uses, Failure> {
    let note = folder.checkpoint().map_err(|error| unread(&error))?;
    let note = note.ok_or_else(|| {
        Failure::usage(format!("{} holds no checkpoint; export the log first", folder.path().display()))
    })?;
    let head = Checkpoint::open(&note, key)
        .map_err(|error| Failure::tampered(format!("{}: {error}", folder.path().display())))?;
    let (mut uses, mut tree) = (Uses::default(), GrowingTree::new());
    let progress = terminal.progress(head.size, "read");
    for bundle in 0..head.size.div_ceil(TILE_WIDTH as u64) {
        for entry in folder.bundle(bundle, head.size).map_err(|error| unread(&error))? {
            tree.push(leaf_hash(&entry));
            let leaf = Leaf::parse(&entry).map_err(|error| {
                Failure::tampered(format!("{}: entry {}: {error}", head.origin, tree.size() - 1))
            })?;
            let evidence = match &leaf.body {
                Body::Key(key) => Some(match &key.evidence {
                    KeyEvidence::Inline(bytes) => bytes.0.clone(),
                    KeyEvidence::Blob(blob) => {
                        folder.blob(blob.sha256).map_err(|error| unread(&error))?.ok_or_else(|| {
                            Failure::tampered(format!(
                                "entry {}: its blob {} is missing",
                                leaf.index, blob.sha256
                            ))
                        })?
                    }
                }),
                _ => None,
            };
            uses.enter(&leaf, evidence.as_deref());
            progress.advance(1);
        }
    }
    if (tree.size(), tree.root()) != (head.size, head.root) {
        return Err(Failure::tampered(format!(
            "{}: the entries are not those under the signed head: see undercroft-audit verify",
            head.origin
        )));
    }
    Ok(uses)
}

/// Files, and those in folders. Links are not followed.
fn files(places: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    places.iter().try_for_each(|place| walk(place, &mut files))?;
    Ok(files)
}

fn walk(place: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", place.display()));
    if !std::fs::symlink_metadata(place).map_err(failed)?.is_dir() {
        files.push(place.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(place).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| walk(path, files))
}

fn told(comparison: &Comparison) -> String {
    let mut text: String = comparison.keys.iter().map(of_key).collect();
    for signed in &comparison.unattributed {
        text.push_str(&format!("by a key that CloudTrail does not name: {}\n", event(signed)));
    }
    if comparison.heads > 0 {
        text.push_str(&format!(
            "{} signatures by the log's own key, which are not compared\n",
            comparison.heads
        ));
    }
    if comparison.of_other_keys > 0 {
        text.push_str(&format!(
            "{} signatures by keys that are none of this log's\n",
            comparison.of_other_keys
        ));
    }
    if comparison.refused > 0 {
        text.push_str(&format!("{} calls that AWS refused\n", comparison.refused));
    }
    text
}

fn of_key(found: &KeyComparison) -> String {
    let KeyComparison { key, arns, signed, accounted, request, unaccounted, unseen } = found;
    let mut text = format!("{key} ({}): {signed} signatures, {accounted} with an intent\n", arns.join(", "));
    if let Some(signed) = request {
        text.push_str(&format!(
            "  older than what the log knows of the key, so its CSR: {}\n",
            event(signed)
        ));
    }
    for signed in unaccounted {
        text.push_str(&format!("  WITHOUT AN INTENT: {}\n", event(signed)));
    }
    for intent in unseen {
        text.push_str(&format!("  NOT IN CLOUDTRAIL: the signature of the intent {intent}\n"));
    }
    text
}

fn event(signed: &Signed) -> String {
    format!("{} at {} by {}", signed.event, signed.time, signed.by)
}

fn unread(error: &FolderError) -> Failure {
    match error {
        FolderError::Io { .. } => Failure::unreachable(error.to_string()),
        _ => Failure::tampered(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use futures::executor::block_on;
    use hsm_sim::software::SoftwareKey;
    use serde_json::{Value, json};
    use undercroft_ca::log_key::LogKey;
    use undercroft_cli::{ExitStatus, OutputFormat};
    use undercroft_keymgr::{Key, SigningKey as _};
    use undercroft_keys::KeyAlgorithm;
    use undercroft_log::checkpoint::SignedCheckpoint;
    use undercroft_log::leaf::Base64Bytes;
    use undercroft_log::note::KeyName;

    use super::*;

    const ORIGIN: &str = "ca.example/undercroft/prod.example/1";
    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    /// A log with one key of AWS KMS that has signed once, and its exported files.
    struct Exported {
        folder: tempfile::TempDir,
        key: Arc<SoftwareKey>,
        entries: Vec<Value>,
    }

    impl Exported {
        fn new() -> Self {
            let key_id = "ab".repeat(32);
            let evidence = json!({
                "endpoint": null,
                "key": {
                    "arn": ARN, "spki": "00", "spec": null, "usage": null, "state": null, "manager": null,
                    "origin": null, "multi_region": null, "custom_key_store": null, "cloud_hsm_cluster": null,
                },
                "policy": "{}", "grants": [],
            });
            let entries = vec![
                json!({"v": 1, "origin": ORIGIN, "index": 0, "time": "2026-11-22T08:00:00Z", "kind": "key", "body": {
                    "event": "opened", "purpose": "authority intermediate of prod.example", "key_id": key_id,
                    "spki": "AA==", "algorithm": "ecdsa-p256", "uri": "awskms:alias=ca", "grade": "declared",
                    "findings": [], "format": "aws-kms-v1",
                    "evidence": Base64Bytes(evidence.to_string().into_bytes()),
                }}),
                json!({"v": 1, "origin": ORIGIN, "index": 1, "time": "2026-11-22T08:01:00Z", "kind": "intent", "sequence": 1,
                "body": {
                    "object": "certificate", "domain": "prod.example", "profile": "workload", "key_id": key_id,
                    "algorithm": "ecdsa-p256-sha256", "tbs": {"der": "MAA="},
                    "caller": {"id": "spiffe://control.example/operator/a", "by": "mtls"}, "rule": "r",
                    "policy": "01".repeat(32),
                }}),
                json!({"v": 1, "origin": ORIGIN, "index": 2, "time": "2026-11-22T08:01:01Z", "kind": "outcome",
                    "body": {"intent": 1, "result": {"signature": "AQI="}}}),
            ];
            let key = Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap());
            let exported = Self { folder: tempfile::tempdir().unwrap(), key, entries };
            exported.write();
            exported
        }

        fn write(&self) {
            let origin: KeyName = ORIGIN.parse().unwrap();
            let entries: Vec<_> = self.entries.iter().map(|entry| entry.to_string().into_bytes()).collect();
            let mut tree = GrowingTree::new();
            entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
            let folder = Folder::new(self.folder.path().join("log"));
            folder.append(0, entries.iter().map(Vec::as_slice)).unwrap();
            let signer =
                Key { signer: self.key.clone(), custody: self.key.clone(), gated: None, prehashed: None };
            let log_key = LogKey::new(origin.clone(), signer).unwrap();
            let head = Checkpoint { origin: origin.clone(), size: entries.len() as u64, root: tree.root() };
            let head = block_on(SignedCheckpoint::sign(head, &log_key)).unwrap();
            folder.write_checkpoint(head.note()).unwrap();
            let vkey = VerifierKey::new(origin, self.key.public_key().clone()).unwrap();
            fs::write(self.folder.path().join("vkey"), vkey.to_string()).unwrap();
        }

        /// Runs the command over a file of CloudTrail's that says these signatures were made.
        fn reconciled(&self, signed: &[(&str, &str)]) -> Result<(), (ExitStatus, String)> {
            let records: Vec<_> = signed
                .iter()
                .map(|(id, time)| {
                    json!({
                        "eventID": id, "eventTime": time, "eventSource": "kms.amazonaws.com", "eventName": "Sign",
                        "userIdentity": {"arn": "arn:aws:iam::111122223333:role/ca"}, "resources": [{"ARN": ARN}],
                    })
                })
                .collect();
            let trail = self.folder.path().join("trail");
            fs::create_dir_all(&trail).unwrap();
            fs::write(trail.join("1.json"), json!({ "Records": records }).to_string()).unwrap();
            self.run(&trail)
        }

        fn run(&self, trail: &Path) -> Result<(), (ExitStatus, String)> {
            let args = ReconcileArgs {
                log: self.folder.path().join("log"),
                key: self.folder.path().join("vkey"),
                cloudtrail: vec![trail.to_owned()],
                allowance: 30,
            };
            let done = args.run(&Terminal::new(OutputFormat::Json));
            done.map_err(|failure| (failure.status(), failure.to_string()))
        }
    }

    #[test]
    fn one_signature_for_one_intent_passes_and_any_other_does_not() {
        let exported = Exported::new();
        exported.reconciled(&[("1", "2026-11-22T08:01:00Z")]).unwrap();
        for (signed, alarms) in [
            (vec![("1", "2026-11-22T08:01:00Z"), ("2", "2026-11-22T08:01:00Z")], "1 uses"),
            (vec![("1", "2026-11-22T08:01:00Z"), ("2", "2026-11-22T12:00:00Z")], "1 uses"),
            // The signature that the log has is not there, and two are that it has not.
            (vec![("1", "2026-11-22T08:00:10Z"), ("2", "2026-11-22T12:00:00Z")], "3 uses"),
        ] {
            let (status, message) = exported.reconciled(&signed).unwrap_err();
            assert_eq!(status, ExitStatus::Tampered);
            assert!(message.contains(alarms), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let mut exported = Exported::new();
        let trail = exported.folder.path().join("elsewhere");
        fs::write(&trail, [0x1f, 0x8b, 8, 0]).unwrap();
        let (status, message) = exported.run(&trail).unwrap_err();
        assert_eq!(status, ExitStatus::Usage);
        assert!(message.contains("gunzip"), "{message}");
        assert_eq!(exported.run(Path::new("/nowhere")).unwrap_err().0, ExitStatus::Usage);
        // A log that is not what was signed.
        let bundle = exported.folder.path().join("log/tile/entries/000.p/3");
        let mut bytes = fs::read(&bundle).unwrap();
        let at = bytes.windows(8).position(|window| window == b"workload").unwrap();
        bytes[at] = b'x';
        fs::write(&bundle, bytes).unwrap();
        let (status, message) = exported.reconciled(&[("1", "2026-11-22T08:01:00Z")]).unwrap_err();
        assert_eq!(status, ExitStatus::Tampered);
        assert!(message.contains("not those under the signed head"), "{message}");
        // A log without a key of AWS's.
        exported.entries[0]["body"]["format"] = "pkcs11-attributes-v1".into();
        exported.folder = tempfile::tempdir().unwrap();
        exported.write();
        let (status, message) = exported.reconciled(&[("1", "2026-11-22T08:01:00Z")]).unwrap_err();
        assert_eq!(status, ExitStatus::Usage);
        assert!(message.contains("knows no key of AWS KMS"), "{message}");
    }
}
