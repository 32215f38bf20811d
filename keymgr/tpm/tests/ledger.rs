//! The ledger on swtpm: what it attests to is what was done, and what was done behind our back shows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod device;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use futures::executor::block_on;
use hsm_sim::swtpm::{Manufacture, Swtpm};
use undercroft_keymgr::{Attestation, CommandNumber, ErrorKind, Key, KeyManager, Ledger, LedgerPlaces};
use undercroft_keys::{KeyAlgorithm, SignatureAlgorithm};
use undercroft_tpm_wire::attest::{Attest, Attested, counter};
use undercroft_tpm_wire::command::{self, AuditDigest, CommandCode, command_digest};
use undercroft_tpm_wire::{PublicArea, Signature};

use device::{open, tool, tpm, uri};

const PLACES: LedgerPlaces = LedgerPlaces { attestation_key: 0x8101_0100, counter: 0x0180_0100 };

fn ledger(tpm: &Arc<dyn KeyManager>) -> Arc<dyn Ledger> {
    tpm.ledger(PLACES).unwrap()
}

/// The public area as the TPM itself tells it.
fn area(key: &Key) -> PublicArea {
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&evidence.bytes).unwrap();
    PublicArea::parse(&hex::decode(json["key"]["public"].as_str().unwrap()).unwrap()).unwrap()
}

/// What an auditor would replay.
struct Replay {
    signer: PublicArea,
    digest: AuditDigest,
}

impl Replay {
    /// The epoch that begins with an attestation.
    fn after(signer: &PublicArea, closed: &Attestation, qualifying: &[u8]) -> Self {
        let mut own = Self { signer: signer.clone(), digest: AuditDigest::EMPTY };
        let command = command::get_command_audit_digest(&signer.name(), qualifying);
        own.add(command, attested(CommandCode::GET_COMMAND_AUDIT_DIGEST, closed));
        own
    }

    fn add(&mut self, cp_hash: [u8; 32], rp_hash: [u8; 32]) {
        self.digest = self.digest.extend(&cp_hash, &rp_hash);
    }

    fn signed(&mut self, key: &PublicArea, message: &[u8], signature: &[u8]) {
        let signature = Signature::from_x509(key.scheme(), key.curve(), signature).unwrap();
        let command = command::sign(&key.name(), digest(&SHA256, message).as_ref(), key.scheme());
        self.add(command, command::signed(&signature.encode()));
    }

    /// What a closing attestation says, after its signature and its qualifying data were checked.
    fn close(&self, closed: &Attestation, qualifying: &[u8]) -> (u64, bool) {
        let attest = verified(&self.signer, closed, qualifying);
        let Attested::CommandAudit { epoch, digest, .. } = attest.attested else { panic!() };
        (epoch, digest == Some(*self.digest.as_bytes()))
    }
}

fn attested(code: CommandCode, attestation: &Attestation) -> [u8; 32] {
    command::attested(code, &attestation.attest, &attestation.signature)
}

fn verified(signer: &PublicArea, attestation: &Attestation, qualifying: &[u8]) -> Attest {
    let signature = Signature::parse(&attestation.signature).unwrap().to_x509().unwrap();
    let key = signer.public_key().unwrap();
    key.verify(SignatureAlgorithm::EcdsaP256Sha256, &attestation.attest, &signature).unwrap();
    let attest = Attest::parse(&attestation.attest).unwrap();
    assert_eq!(attest.qualifying, qualifying);
    attest
}

#[test]
fn every_command_is_attested_to() {
    let (_folder, _running, device) = tpm();
    let tpm = open(&device);
    let key = block_on(tpm.create(&uri(&device, 0x8101_0001), KeyAlgorithm::EcdsaP256)).unwrap();
    let rsa_uri = uri(&device, 0x8101_0002);
    let rsa = block_on(tpm.create(&rsa_uri, "rsa-2048-pss".parse().unwrap())).unwrap();
    let ledger = ledger(&tpm);
    let (ecc_area, rsa_area) = (area(&key), area(&rsa));
    block_on(async {
        ledger.provision().await.unwrap();
        ledger.provision().await.unwrap();
        let signer = PublicArea::parse(&ledger.attestation_key().await.unwrap()).unwrap();
        let codes: Vec<_> = ledger.audited().await.unwrap().into_iter().map(CommandCode).collect();
        assert!(CommandCode::REQUIRED.iter().all(|code| codes.contains(code)));

        let first = ledger.close_epoch([1; 32]).await.unwrap();
        let mut replay = Replay::after(&signer, &first, &[1; 32]);
        let mut expected = first.command;
        assert_eq!(expected.ordinal, 1);
        let mut next = || {
            expected.ordinal += 1;
            expected
        };
        for (key, area) in [(&key, &ecc_area), (&rsa, &rsa_area)] {
            for n in 0..20_u8 {
                let counted = key.signer.sign_counted(&[n]).await.unwrap();
                assert_eq!(counted.command, Some(next()));
                replay.signed(area, &[n], &counted.signature);
            }
        }
        let index = counter::name(PLACES.counter);
        let before = ledger.counter().await.unwrap();
        assert_eq!(ledger.increment().await.unwrap(), next());
        replay.add(command::nv_increment(&index), command::done(CommandCode::NV_INCREMENT));
        let certified = ledger.certify_counter([7; 32]).await.unwrap();
        assert_eq!(certified.command, next());
        replay.add(
            command::nv_certify(&signer.name(), &index, &[7; 32]),
            attested(CommandCode::NV_CERTIFY, &certified),
        );
        let attest = verified(&signer, &certified, &[7; 32]);
        assert_eq!(attest.attested, Attested::Counter { index, value: before + 1 });

        let second = ledger.close_epoch([2; 32]).await.unwrap();
        assert_eq!(replay.close(&second, &[2; 32]), (first.command.epoch, true));
        assert_eq!(second.command, CommandNumber { epoch: first.command.epoch + 1, ordinal: 1 });
        let Attested::CommandAudit { commands, .. } = verified(&signer, &second, &[2; 32]).attested else {
            panic!()
        };
        assert_eq!(commands, command_digest(&codes));
    });
}

#[test]
fn a_signature_behind_our_back_shows() {
    let (folder, running, device) = tpm();
    let tpm = open(&device);
    let key_uri = uri(&device, 0x8101_0001);
    block_on(tpm.create(&key_uri, KeyAlgorithm::EcdsaP256)).unwrap();
    let signer = block_on(async {
        let ledger = ledger(&tpm);
        ledger.provision().await.unwrap();
        PublicArea::parse(&ledger.attestation_key().await.unwrap()).unwrap()
    });
    let first = block_on(ledger(&tpm).close_epoch([1; 32])).unwrap();
    drop(tpm);
    tool(&device, &folder, "echo rogue > m; tpm2_sign -c 0x81010001 -g sha256 -o sig m");
    let tpm = open(&device);
    let second = block_on(ledger(&tpm).close_epoch([2; 32])).unwrap();
    let replay = Replay::after(&signer, &first, &[1; 32]);
    assert_eq!(replay.close(&second, &[2; 32]), (first.command.epoch, false));
    drop(running);
}

#[test]
fn a_reset_shows_and_loses_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
    let (device, running) = (swtpm.device("edge"), swtpm.start().unwrap());
    let tpm = open(&device);
    let (signer, first, counter) = block_on(async {
        let ledger = ledger(&tpm);
        ledger.provision().await.unwrap();
        let signer = PublicArea::parse(&ledger.attestation_key().await.unwrap()).unwrap();
        (signer, ledger.close_epoch([1; 32]).await.unwrap(), ledger.counter().await.unwrap())
    });
    drop(tpm);
    drop(running);
    let _running = swtpm.start().unwrap();
    let tpm = open(&device);
    let second = block_on(ledger(&tpm).close_epoch([2; 32])).unwrap();
    let before = verified(&signer, &first, &[1; 32]);
    let after = verified(&signer, &second, &[2; 32]);
    assert_eq!(after.resets, before.resets + 1);
    assert!(matches!(after.attested, Attested::CommandAudit { digest: None, .. }));
    // What is audited, and the counter, have outlived it.
    assert_eq!(block_on(ledger(&tpm).counter()).unwrap(), counter);
    assert!(block_on(ledger(&tpm).audited()).is_ok());
}

#[test]
fn a_counter_that_was_made_again_does_not_go_back() {
    let (folder, running, device) = tpm();
    let tpm = open(&device);
    let reached = block_on(async {
        let ledger = ledger(&tpm);
        ledger.provision().await.unwrap();
        ledger.close_epoch([0; 32]).await.unwrap();
        for _ in 0..3 {
            ledger.increment().await.unwrap();
        }
        ledger.counter().await.unwrap()
    });
    drop(tpm);
    tool(&device, &folder, "tpm2_nvundefine 0x01800100");
    let tpm = open(&device);
    let ledger = ledger(&tpm);
    assert_eq!(block_on(ledger.counter()).unwrap_err().kind(), ErrorKind::NotFound);
    block_on(ledger.provision()).unwrap();
    assert!(block_on(ledger.counter()).unwrap() > reached);
    drop(running);
}

#[test]
fn what_is_not_ours_is_refused() {
    let (folder, _running, device) = tpm();
    let tpm = open(&device);
    // A key that signs anything is no attestation key, and ordinary memory no counter.
    block_on(tpm.create(&uri(&device, PLACES.attestation_key), KeyAlgorithm::EcdsaP256)).unwrap();
    drop(tpm);
    tool(&device, &folder, "tpm2_nvdefine 0x01800100 -s 8 -a 'authread|authwrite'");
    let tpm = open(&device);
    let refused = block_on(ledger(&tpm).provision()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    let refused = block_on(ledger(&tpm).counter()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exists, "{refused}");
    let nothing = tpm.ledger(LedgerPlaces { attestation_key: 0x8101_0200, counter: 0x0180_0200 }).unwrap();
    for refused in
        [block_on(nothing.attestation_key()).unwrap_err(), block_on(nothing.audited()).unwrap_err()]
    {
        assert!(refused.to_string().contains("keys provision"), "{refused}");
    }
}
