//! What a node's TPM gives is judged by the steps that judge nodes (`undercroft_attestors::tpm::node`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use aws_lc_rs::hmac;
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use jiff::Timestamp;
use undercroft_attestors::chain::Certificate;
use undercroft_attestors::tpm::credential::{self, Credential};
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_attestors::tpm::node::{
    Attested, Candidate, Certification, Maker, Policy, Purpose, Quote, TpmClass,
};
use undercroft_keymgr::{EndorsementKey, ErrorKind};
use undercroft_keys::PublicKey;
use undercroft_tpm::{NodeKey, NodeTpm};
use undercroft_tpm_wire::pcr::PcrSelection;
use undercroft_tpm_wire::{HashAlgorithm, PublicArea};

const T: [u8; 32] = [9; 32];
const SECRET: &[u8] = b"a secret of 24 bytes, ok";

fn swtpm(how: Manufacture) -> (tempfile::TempDir, Swtpm, RunningSwtpm) {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(&folder.path().join("tpm"), how).unwrap();
    let running = tpm.start().unwrap();
    (folder, tpm, running)
}

fn open(tpm: &Swtpm) -> NodeTpm {
    NodeTpm::open(Some(&tpm.tcti())).unwrap()
}

fn policy(tpm: &Swtpm) -> Policy {
    let maker = |path| Maker {
        certificate: certificate(&path),
        class: TpmClass::Simulated,
        manufacturers: Vec::new(),
    };
    Policy { makers: tpm.manufacturer().into_iter().map(maker).collect(), ..Policy::default() }
}

fn certificate(pem: &std::path::Path) -> Certificate {
    let parsed = x509_cert::Certificate::from_pem(std::fs::read(pem).unwrap()).unwrap();
    Certificate::from_der(&der::Encode::to_der(&parsed).unwrap()).unwrap()
}

fn candidate<'p>(policy: &'p Policy, endorsement: &EndorsementKey, attests: &[u8]) -> Candidate<'p> {
    let endorsement = Endorsement::read(&endorsement.public, &endorsement.chain).unwrap();
    let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    policy.endorse(endorsement, at).unwrap().candidate(attests).unwrap()
}

fn boot() -> PcrSelection {
    PcrSelection::of(HashAlgorithm::Sha256, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]).unwrap()
}

/// A whole exchange for `requested`, with each endorsement key in turn.
fn attest(tpm: &mut NodeTpm, policy: &Policy, key: &NodeKey, requested: &PublicKey) -> Vec<Attested> {
    let mut attested = Vec::new();
    for endorsement in tpm.endorsements().unwrap() {
        let candidate = candidate(policy, &endorsement, &tpm.attestation_key().unwrap());
        let Credential { credential, secret } = candidate.credential(SECRET, &[7; 64]).unwrap();
        let opened = tpm.activate(&endorsement, &credential, &secret).unwrap();
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &opened), &T);
        let bound = candidate.activated(SECRET, T, mac.as_ref()).unwrap();
        let quote = tpm.quote(&boot(), &Purpose::Quote.qualifying(&T)).unwrap();
        let certified = tpm.certify(key, &Purpose::Key.qualifying(&T)).unwrap();
        let shown =
            Quote { attest: &quote.signed.attest, signature: &quote.signed.signature, values: &quote.values };
        let quoted = bound.quoted(&shown, &boot(), None).unwrap();
        let certification = Certification {
            public: key.public(),
            attest: &certified.attest,
            signature: &certified.signature,
        };
        attested.push(quoted.certified(&certification, requested).unwrap());
    }
    attested
}

#[test]
fn a_node_attests_with_each_of_its_endorsement_keys_those_of_curves_first() {
    let (_folder, swtpm, _running) = swtpm(Manufacture::WithEndorsement);
    let policy = policy(&swtpm);
    let mut tpm = open(&swtpm);
    let key = tpm.create_key().unwrap();
    let attested = attest(&mut tpm, &policy, &key, key.public_key());
    assert_eq!(attested.len(), 2);
    assert_ne!(attested[0].binding().endorsement, attested[1].binding().endorsement);
    let first = &tpm.endorsements().unwrap()[0];
    assert!(PublicArea::parse(&first.public).unwrap().curve().is_some());

    // Another connection, and so another attestation key object: it is the same key. What was kept is loaded again.
    let before = tpm.attestation_key().unwrap();
    drop(tpm);
    let mut tpm = open(&swtpm);
    assert_eq!(tpm.attestation_key().unwrap(), before);
    let kept = NodeKey::new(key.public().to_vec(), key.private().to_vec()).unwrap();
    attest(&mut tpm, &policy, &kept, key.public_key());
    tpm.sign(&kept, b"a message").unwrap();
    // As often as it likes: no slot is left behind.
    for _ in 0..4 {
        let mut again = open(&swtpm);
        let made = again.create_key().unwrap();
        assert_ne!(made.public_key(), key.public_key());
        again.sign(&made, b"a message").unwrap();
    }
}

#[test]
fn what_was_made_for_others_is_refused_by_the_tpm() {
    let (_folder, swtpm, _running) = swtpm(Manufacture::WithEndorsement);
    let mut tpm = open(&swtpm);
    let attests = PublicArea::parse(&tpm.attestation_key().unwrap()).unwrap().name();
    for endorsement in tpm.endorsements().unwrap() {
        let area = PublicArea::parse(&endorsement.public).unwrap();
        let other = PublicArea::parse(tpm.create_key().unwrap().public()).unwrap().name();
        let made = credential::make(&area, &other, SECRET, &[7; 64]).unwrap();
        let refused = tpm.activate(&endorsement, &made.credential, &made.secret).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let mut made = credential::make(&area, &attests, SECRET, &[7; 64]).unwrap();
        *made.credential.last_mut().unwrap() ^= 1;
        let refused = tpm.activate(&endorsement, &made.credential, &made.secret).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let refused = tpm.activate(&endorsement, &[1; 5000], &made.secret).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    }
    // A key of another TPM, and one of this TPM that was changed.
    let (_other_folder, other, _other_running) = self::swtpm(Manufacture::Bare);
    let foreign = open(&other).create_key().unwrap();
    let refused = tpm.sign(&foreign, b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    let own = tpm.create_key().unwrap();
    let mut private = own.private().to_vec();
    *private.last_mut().unwrap() ^= 1;
    let changed = NodeKey::new(own.public().to_vec(), private).unwrap();
    assert_eq!(tpm.sign(&changed, b"x").unwrap_err().kind(), ErrorKind::Denied);
    // None of it has used up a slot.
    tpm.sign(&own, b"x").unwrap();
    let none = open(&other).endorsements().unwrap_err();
    assert!(none.kind() == ErrorKind::NotFound && none.to_string().contains("0x01c0000a"), "{none}");
}

#[test]
fn a_key_that_could_leave_or_attests_is_no_key_of_a_certificate() {
    let (_folder, swtpm, _running) = swtpm(Manufacture::Bare);
    let mut tpm = open(&swtpm);
    let key = tpm.create_key().unwrap();
    let attests = tpm.attestation_key().unwrap();
    assert_eq!(NodeKey::new(attests, Vec::new()).unwrap_err().kind(), ErrorKind::Denied);
    for bit in [0x02, 0x10, 0x20] {
        // objectAttributes are the bytes 4 to 8 of a TPMT_PUBLIC (Part 2, section 12.2.4).
        let mut public = key.public().to_vec();
        public[7] &= !bit;
        let refused = NodeKey::new(public, key.private().to_vec()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{bit:#x}: {refused}");
    }
    for cut in [0, 1, key.public().len() - 1] {
        assert!(NodeKey::new(key.public()[..cut].to_vec(), Vec::new()).is_err());
    }
}

#[test]
fn pcrs_that_a_tpm_does_not_have_are_not_quoted() {
    let (_folder, swtpm, _running) = swtpm(Manufacture::Bare);
    let mut tpm = open(&swtpm);
    // swtpm_setup allocates SHA-256 alone.
    let absent = PcrSelection::of(HashAlgorithm::Sha512, &[0]).unwrap();
    let refused = tpm.quote(&absent, &T).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let all: Vec<u8> = (0..24).collect();
    let quote = tpm.quote(&PcrSelection::of(HashAlgorithm::Sha256, &all).unwrap(), &T).unwrap();
    assert_eq!(quote.values.len(), 24);
    // PCRs 17 to 22 start with ones (PTP section 4.6.2).
    assert!(quote.values[17].iter().all(|byte| *byte == 0xff) && quote.values[16] == [0; 32]);
}
