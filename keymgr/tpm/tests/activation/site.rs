//! A TPM with an endorsement, its manufacturer, and a witness with a software key.

use std::path::PathBuf;

use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use jiff::Timestamp;
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::custody::{self, Custody};
use undercroft_attestors::tpm::activation::Statement;
use undercroft_attestors::tpm::credential;
use undercroft_attestors::tpm::evidence::{Activation, EndorsementText, FORMAT};
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::{AttestationPlace, Device, KeyManager, SigningKey};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::cosignature::WitnessKey;
use undercroft_tpm_wire::PublicArea;

pub(crate) const ATTESTATION_KEY: u32 = 0x8101_0100;

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) device: Device,
    pub(crate) trust: Trust,
    pub(crate) witness: WitnessKey,
    signer: SoftwareKey,
    activation: PathBuf,
    _running: RunningSwtpm,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::manufacture(folder.path(), Manufacture::WithEndorsement).unwrap();
        let running = tpm.start().unwrap();
        let activation = folder.path().join("activation.json");
        let mut device = tpm.device("edge");
        device.attestation =
            Some(AttestationPlace { handle: ATTESTATION_KEY, activation: Some(activation.clone()) });
        let signer = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let witness = witness(&signer);
        let anchors = tpm.manufacturer().map(|path| certificate(&path)).to_vec();
        let trust = Trust {
            endorsement: Anchors::new(anchors),
            activators: vec![witness.clone()],
            ..Trust::default()
        };
        Self { folder, device, trust, witness, signer, activation, _running: running }
    }

    /// What a witness does: verifies, encloses a secret, and says that it was opened.
    pub(crate) fn activate(&self, tpm: &dyn KeyManager, endorsement: usize) -> Activation {
        let activation = tpm.activation(ATTESTATION_KEY).unwrap();
        let attests = PublicArea::parse(&block_on(activation.attestation_key()).unwrap()).unwrap();
        let endorsements = block_on(activation.endorsements()).unwrap();
        assert_eq!(endorsements.len(), 2, "swtpm has an RSA and a P-384 endorsement key");
        let own = &endorsements[endorsement];
        let text = EndorsementText::new(&own.public, &own.chain);
        let read = text.read().unwrap();
        let endorsed = read.verify(&self.trust.endorsement, now()).unwrap();
        let enclosed = credential::make(&read.public, &attests.name(), &[1; 32], &[2; 64]).unwrap();
        let opened = block_on(activation.activate(own, &enclosed.credential, &enclosed.secret)).unwrap();
        assert_eq!(opened, [1; 32]);
        let statement =
            Statement::new(&attests.name(), read.certificate.digest(), read.chain_digest(), endorsed.anchor);
        let activation = Activation { certificate: self.say(&statement, now()), endorsement: text };
        std::fs::write(&self.activation, serde_json::to_vec(&activation).unwrap()).unwrap();
        activation
    }

    /// Whatever a witness who lies, or errs, would sign.
    pub(crate) fn say(&self, statement: &Statement, at: Timestamp) -> String {
        let message = statement.message(&self.witness, at).unwrap();
        statement.signed(&self.witness, at, &block_on(self.signer.sign(&message)).unwrap())
    }

    pub(crate) fn judge(&self, evidence: &[u8], key: &PublicKey) -> Custody {
        custody::judge(FORMAT, evidence, key, &self.trust, now())
    }
}

#[expect(clippy::disallowed_methods, reason = "swtpm makes certificates that are valid from now")]
pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().try_into().unwrap()
}

pub(crate) fn witness(signer: &SoftwareKey) -> WitnessKey {
    WitnessKey::ed25519("witness.example/w1".parse().unwrap(), signer.public_key().clone()).unwrap()
}

pub(crate) fn certificate(pem: &std::path::Path) -> Certificate {
    use x509_cert::der::{DecodePem as _, Encode as _};
    let pem = std::fs::read(pem).unwrap();
    let parsed = x509_cert::Certificate::from_pem(pem).unwrap();
    Certificate::from_der(&parsed.to_der().unwrap()).unwrap()
}
