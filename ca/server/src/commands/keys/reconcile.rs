//! `undercroft keys reconcile`: what a provider of keys has logged of their use, against the intents of a log.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use undercroft_ca::provider_log::azure::KeyVaultAudit;
use undercroft_ca::provider_log::cloudtrail::CloudTrail;
use undercroft_ca::provider_log::google::CloudAudit;
use undercroft_ca::provider_log::{Comparison, KeyComparison, ProviderLog, Signed, Uses};
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
    /// The provider's files, not compressed, and folders of such files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Whose files they are.
    #[arg(long, value_enum, default_value_t = Kind::Cloudtrail)]
    provider: Kind,
    /// How many seconds the clocks of the CA and of the provider may be apart.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    allowance: u32,
}

/// What a provider keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// AWS: CloudTrail's files, or a record a line.
    Cloudtrail,
    /// Google: Cloud Audit Logs, Data Access, as an array or an entry a line.
    Google,
    /// Azure: diagnostic logs of Key Vault or Managed HSM, category AuditEvent.
    Azure,
}

impl Kind {
    /// In sentences.
    fn name(self) -> &'static str {
        match self {
            Self::Cloudtrail => "CloudTrail",
            Self::Google => "Cloud Audit Logs",
            Self::Azure => "Key Vault's diagnostic logs",
        }
    }

    fn cloud(self) -> &'static str {
        match self {
            Self::Cloudtrail => "AWS KMS",
            Self::Google => "Google Cloud KMS",
            Self::Azure => "Azure Key Vault",
        }
    }

    /// Reads files, each of which must be the provider's.
    fn read(self, files: &[PathBuf]) -> Result<ProviderLog, Failure> {
        let (mut aws, mut google, mut azure) =
            (CloudTrail::default(), CloudAudit::default(), KeyVaultAudit::default());
        for file in files {
            let bytes = read_plain(file, MAX_FILE).map_err(|error| unread(&error))?.unwrap_or_default();
            let read = match self {
                Self::Cloudtrail => aws.read(&bytes).map_err(|error| error.to_string()),
                Self::Google => google.read(&bytes).map_err(|error| error.to_string()),
                Self::Azure => azure.read(&bytes).map_err(|error| error.to_string()),
            };
            read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        }
        Ok(match self {
            Self::Cloudtrail => aws.finish(),
            Self::Google => google.finish(),
            Self::Azure => azure.finish(),
        })
    }
}

impl ReconcileArgs {
    pub(in crate::commands) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let key: VerifierKey = read_text(&self.key)?
            .trim_end()
            .parse()
            .map_err(|error| Failure::usage(format!("{}: {error}", self.key.display())))?;
        let uses = uses(&Folder::new(&self.log), &key, terminal)?;
        let trail = self.provider.read(&files(&self.files)?)?;
        let comparison = uses.compare(&trail, SignedDuration::from_secs(self.allowance.into()));
        if comparison.keys.is_empty() {
            return Err(Failure::usage(format!(
                "the log {} knows no key of {}, so that there is nothing to compare",
                key.name(),
                self.provider.cloud()
            )));
        }
        terminal.result(&comparison, || told(&comparison, self.provider))?;
        match comparison.alarms() {
            0 => Ok(()),
            alarms => Err(Failure::tampered(format!(
                "{alarms} uses of keys are not what the log {} says: somebody else may use them (`undercroft keys show` names who may), or the export or the files of {} are not whole",
                key.name(),
                self.provider.name()
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

fn told(comparison: &Comparison, provider: Kind) -> String {
    let mut text: String = comparison.keys.iter().map(|key| of_key(key, provider)).collect();
    for signed in &comparison.unattributed {
        text.push_str(&format!("by a key that {} does not name: {}\n", provider.name(), event(signed)));
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
        text.push_str(&format!("{} calls that the provider refused\n", comparison.refused));
    }
    text
}

fn of_key(found: &KeyComparison, provider: Kind) -> String {
    let KeyComparison { key, names, signed, accounted, request, unaccounted, unseen } = found;
    let mut text = format!("{key} ({}): {signed} signatures, {accounted} with an intent\n", names.join(", "));
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
        text.push_str(&format!(
            "  NOT IN {}: the signature of the intent {intent}\n",
            provider.name().to_uppercase()
        ));
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
        provider: Kind,
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
            let exported =
                Self { folder: tempfile::tempdir().unwrap(), key, entries, provider: Kind::Cloudtrail };
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
                files: vec![trail.to_owned()],
                provider: self.provider,
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

    const VERSION: &str =
        "projects/acme-ca/locations/europe-west3/keyRings/prod/cryptoKeys/ca/cryptoKeyVersions/1";
    const KID: &str = "https://prod.vault.azure.net/keys/ca/0123456789abcdef0123456789abcdef";

    /// The same log whose key is with Google or Azure, and the provider's file of signatures at these times.
    fn elsewhere(provider: Kind, signed: &[(&str, &str)]) -> Result<(), (ExitStatus, String)> {
        let (format, evidence) = match provider {
            Kind::Azure => (
                "azure-key-v1",
                json!({
                    "endpoint": null, "release_policy": null, "attestation": null,
                    "key": {"kid": KID, "spki": "00", "kty": "EC-HSM", "key_ops": ["sign"]},
                }),
            ),
            _ => (
                "google-kms-v1",
                json!({
                    "endpoint": null, "attestation": null, "policies": [],
                    "key": {
                        "name": VERSION, "spki": "00", "algorithm": "EC_SIGN_P256_SHA256", "protection_level": "HSM",
                        "state": "ENABLED", "imported": false,
                    },
                }),
            ),
        };
        let mut exported = Exported::new();
        exported.entries[0]["body"]["format"] = format.into();
        exported.entries[0]["body"]["evidence"] =
            serde_json::to_value(Base64Bytes(evidence.to_string().into_bytes())).unwrap();
        exported.folder = tempfile::tempdir().unwrap();
        exported.write();
        exported.provider = provider;
        let records = signed.iter().map(|(id, time)| match provider {
            Kind::Azure => json!({
                "time": time, "category": "AuditEvent", "operationName": "KeySign", "resultType": "Success",
                "correlationId": id, "properties": {"id": KID, "httpStatusCode": 200},
            }),
            _ => json!({
                "insertId": id, "timestamp": time,
                "protoPayload": {
                    "serviceName": "cloudkms.googleapis.com", "methodName": "AsymmetricSign", "resourceName": VERSION,
                },
            }),
        });
        let file = exported.folder.path().join("provider.json");
        fs::write(&file, records.map(|record| format!("{record}\n")).collect::<String>()).unwrap();
        exported.run(&file)
    }

    #[test]
    fn signatures_by_google_and_azure_are_compared_alike() {
        for provider in [Kind::Google, Kind::Azure] {
            elsewhere(provider, &[("1", "2026-11-22T08:01:00Z")]).unwrap();
            for (signed, alarms) in [
                (vec![("1", "2026-11-22T08:01:00Z"), ("2", "2026-11-22T08:01:00.5Z")], "1 uses"),
                (vec![("1", "2026-11-22T08:01:00Z"), ("2", "2026-11-22T12:00:00Z")], "1 uses"),
                (vec![("1", "2026-11-22T08:00:10Z"), ("2", "2026-11-22T12:00:00Z")], "3 uses"),
            ] {
                let (status, message) = elsewhere(provider, &signed).unwrap_err();
                assert_eq!(status, ExitStatus::Tampered);
                assert!(message.contains(alarms) && message.contains(provider.name()), "{message}");
            }
            // The files of another, and a log whose key is with another.
            let mut exported = Exported::new();
            exported.provider = provider;
            let (status, message) = exported.reconciled(&[("1", "2026-11-22T08:01:00Z")]).unwrap_err();
            assert_eq!(status, ExitStatus::Usage);
            assert!(message.contains("no file of"), "{message}");
        }
        let mut exported = Exported::new();
        exported.provider = Kind::Google;
        let file = exported.folder.path().join("google.json");
        fs::write(&file, json!({"insertId": "1", "timestamp": "2026-11-22T08:01:00Z"}).to_string()).unwrap();
        let (status, message) = exported.run(&file).unwrap_err();
        assert_eq!(status, ExitStatus::Usage);
        assert!(message.contains("knows no key of Google Cloud KMS"), "{message}");
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
