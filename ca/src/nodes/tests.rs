//! Whole exchanges of a node in swtpm, judged by policies.

mod policies;
mod verdicts;

use std::path::Path;

use hsm_sim::measured_boot::{self, MeasuredBoot};
use hsm_sim::node::{BOOT_PCRS, SimNode};
use jiff::Timestamp;
use undercroft_attestors::exchange::{Challenge, TpmChallenge};
use undercroft_log::leaf::{Base64Bytes, Digest};

use super::{NodePolicy, Record, appraise, candidate};

pub(super) const EXPORTER: [u8; 32] = [0xe7; 32];
pub(super) const SECRET: [u8; 32] = [0x5e; 32];

/// A node, and the file of its maker's certificate.
pub(super) struct Lab {
    pub(super) node: SimNode,
    pub(super) folder: tempfile::TempDir,
}

impl Lab {
    pub(super) fn new(boot: &MeasuredBoot) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = SimNode::make(&folder.path().join("node"), boot).unwrap();
        Self { node, folder }
    }

    /// A policy: `rules` behind a `[tpm]` that believes the node's maker.
    pub(super) fn policy(&self, rules: &str) -> NodePolicy {
        self.read(&format!("{TPM}\n{rules}")).unwrap()
    }

    pub(super) fn read(&self, text: &str) -> Result<NodePolicy, super::NodePolicyError> {
        NodePolicy::parse("nodes.toml", text, |file| self.file(Path::new(file)))
    }

    /// Puts a file beside the policy.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Boots the machine otherwise, and lets it attest.
    pub(super) fn booted(&mut self, boot: &MeasuredBoot) -> Record {
        self.node.boot(boot).unwrap();
        self.record(&self.policy(RULE))
    }

    fn file(&self, name: &Path) -> Result<Vec<u8>, String> {
        let path = match name.to_str() {
            Some("maker.pem") => self.node.anchor(),
            _ => self.folder.path().join(name),
        };
        std::fs::read(path).map_err(|error| error.to_string())
    }

    /// A whole exchange, with a credential that the TPM opens.
    pub(super) fn record(&self, policy: &NodePolicy) -> Record {
        let hello = self.node.hello("prod.example").unwrap();
        let (_, _, candidate) = candidate(&hello, policy, now()).unwrap();
        let credential = candidate.credential(&SECRET, &[0x5d; 64]).unwrap();
        let challenge = Challenge {
            nonce: Digest([0x11; 32]),
            tpm: TpmChallenge {
                credential: Base64Bytes(credential.credential),
                secret: Base64Bytes(credential.secret),
                wanted: policy.wanted().clone(),
            },
            until: now(),
        };
        let challenge = serde_json::to_vec(&challenge).unwrap();
        let answer = self.node.answer(&hello, &challenge, &EXPORTER).unwrap();
        Record::begun(&hello, EXPORTER, None).challenged(&challenge, &SECRET).answered(&answer)
    }
}

pub(super) const TPM: &str = r#"
[tpm]
pcrs = { sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] }
event-log = true
maker = [{ file = "maker.pem", class = "simulated" }]
"#;

pub(super) const RULE: &str = r#"
[[rule]]
name = "all"
domain = "prod.example"
profile = "node"
spiffe-id = "spiffe://prod.example/node/{ek}"
assurance = "software"
"#;

/// swtpm's maker makes certificates that are valid from the moment on, and the clock of a test is its own.
pub(super) fn now() -> Timestamp {
    "2031-01-01T00:00:00Z".parse().unwrap()
}

#[test]
fn an_honest_node_is_taken_and_what_is_broken_is_not() {
    let lab = Lab::new(&MeasuredBoot::honest());
    let policy = lab.policy(RULE);
    let record = lab.record(&policy);
    let taken = appraise(&record, &policy, now()).unwrap();
    let id = taken.claims.endorsement();
    assert_eq!(taken.admitted.spiffe_id.to_string(), format!("spiffe://prod.example/node/{id}"));
    assert_eq!(taken.claims.attested.pcrs().len(), BOOT_PCRS.len());
    assert_eq!(Record::parse(&record.encode()).unwrap(), record);

    let other = |change: &dyn Fn(&mut Record)| {
        let mut record = record.clone();
        change(&mut record);
        appraise(&record, &policy, now()).unwrap_err().code
    };
    assert_eq!(other(&|record| record.exporter = Digest([0; 32])), "ak-activation");
    assert_eq!(other(&|record| record.secret = Some(Base64Bytes(vec![1; 32]))), "ak-activation");
    assert_eq!(other(&|record| record.secret = None), "ak-binding");
    assert_eq!(other(&|record| record.answer = None), "exchange-unanswered");
    assert_eq!(other(&|record| record.hello.push(' ')), "ak-activation");
    assert_eq!(
        other(&|record| record.hello = record.hello.replacen("prod.example", "x.example", 1)),
        "ak-activation"
    );
    assert_eq!(other(&|record| record.answer = Some("{}".to_owned())), "exchange-malformed");
    let mut lab = lab;
    lab.node.boot(&another_shim()).unwrap();
    let again = appraise(&lab.record(&policy), &policy, now()).unwrap();
    assert!(again.claims.attested.clock().resets > taken.claims.attested.clock().resets);
    lab.node.extend(4, [0x22; 32]).unwrap();
    assert_eq!(appraise(&lab.record(&policy), &policy, now()).unwrap_err().code, "event-log-pcr-mismatch");
}

/// Boots that differ from the honest one in one thing.
pub(super) fn another_shim() -> MeasuredBoot {
    let mut boot = MeasuredBoot::honest();
    let place = boot.position(4, measured_boot::BOOT_SERVICES_APPLICATION, b"").unwrap();
    boot.events[place] = measured_boot::image("\\EFI\\debian\\shimx64.efi", "another shim");
    boot
}

fn with_variable(name: &str, vendor: [u8; 16], value: &[u8]) -> MeasuredBoot {
    let mut boot = MeasuredBoot::honest();
    let written: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = (name.len() as u64).to_le_bytes();
    let place = boot.events.iter().position(|event| {
        event.pcr == 7 && event.data.get(16..24) == Some(&length) && event.data[32..].starts_with(&written)
    });
    boot.events[place.unwrap()] = measured_boot::secure_boot(name, vendor, value);
    boot
}

pub(super) fn secure_boot_off() -> MeasuredBoot {
    with_variable("SecureBoot", measured_boot::GLOBAL, &[0])
}

pub(super) fn old_dbx() -> MeasuredBoot {
    let list = measured_boot::signature_list(measured_boot::CERT_SHA256, &measured_boot::revoked(70));
    with_variable("dbx", measured_boot::IMAGE_SECURITY, &list)
}
