//! Proofs of single entries, made from files.

use std::fs;
use std::path::Path;

use undercroft_audit::{ProveError, prove};
use undercroft_ca::verify::standing;
use undercroft_log::leaf::{Body, Leaf, OutcomeResult};
use undercroft_log::proof::{TlogProof, TlogProofError};
use undercroft_log::tree::ProofError;
use undercroft_log_files::Folder;
use x509_parser::prelude::FromDer as _;

use crate::installation::INSTALLATION;
use crate::log::Log;

/// The reference vectors: a log of seven entries, and the proof of the one at 4, as other
/// implementations made them.
const KEY: &str = "ca.example/audit/1+ad4048ac+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const CHECKPOINT: &str = "ca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\u{2014} ca.example/audit/1 rUBIrC4eTHuW6wdyuiFAP6Eq6pBPo51cwJF1ULonnLjjbmM5FcOvVaFGY2kVW25W15kP80MTG8ZSlIK03TPOBpyeKwg=\n\u{2014} witness.example/w1 IDJKvgAAAABlU/EAKWO139Xp03BsJF9QP51hAdVSHg+erDnIp0EpEwk82iMUbYteqih+WsRG2Vr+Yv+95qbSiuUlTMs7byTY+8Z4Ag==\n";
const PROOF_OF_4: &str = "c2sp.org/tlog-proof@v1\nindex 4\nUUFYUnUVBkx7vTW0TJ8Rrdz8OLQ5VU/Juw2LfGYcPo8=\nDP2ldv9LKeozw6/a7tG9Y362VLKKBDAvyrX9fbB4Acw=\nJWueiCXl03CkrgBdCQHqKRl34pJ/XPjj5yZg3QlRnts=\n\n";

/// A log of so many short entries, which say nothing.
pub(crate) fn short(size: usize) -> Log {
    let entries = (0..size).map(|n| format!("entry-{n}").into_bytes()).collect();
    Log { entries, blobs: Vec::new(), ..INSTALLATION.prod.clone() }
}

#[test]
fn a_proof_is_written_as_other_implementations_write_it() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::new(directory.path());
    folder.append(0, short(7).entries.iter().map(Vec::as_slice)).unwrap();
    folder.write_checkpoint(CHECKPOINT).unwrap();
    let (entry, proof) = prove(&folder, &KEY.parse().unwrap(), 4).unwrap();
    assert_eq!(entry, b"entry-4");
    assert_eq!(proof.to_string(), format!("{PROOF_OF_4}{CHECKPOINT}"));
}

#[test]
fn every_entry_of_logs_of_all_shapes_can_be_proven() {
    // Up to tiles of level 2, where nodes are folded from partial tiles.
    for (size, step) in [(1, 1), (2, 1), (3, 1), (255, 17), (256, 17), (257, 16), (600, 31), (66_000, 4711)] {
        let log = short(size);
        let directory = tempfile::tempdir().unwrap();
        let folder = log.write(directory.path());
        let mut indexes: Vec<_> = (0..size).step_by(step).collect();
        indexes.push(size - 1);
        for index in indexes {
            let (entry, proof) = prove(&folder, &log.verifier(), index as u64).unwrap();
            assert_eq!(entry, log.entries[index]);
            let read: TlogProof = proof.to_string().parse().unwrap();
            assert_eq!(read.verify(&entry, &log.verifier()).unwrap().size, size as u64, "{index} of {size}");
        }
    }
}

#[test]
fn a_certificate_is_proven_by_what_the_auditor_writes() {
    let log = &INSTALLATION.prod;
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    for outcome in log.all("outcome") {
        let Body::Outcome(outcome) = Leaf::parse(&log.entries[outcome as usize]).unwrap().body else {
            panic!()
        };
        let OutcomeResult::Signature(signature) = outcome.result else { continue };
        let (entry, proof) = prove(&folder, &log.verifier(), outcome.intent).unwrap();
        let certificate = certificate(&entry, &signature.0);
        let stands = standing(&certificate, &entry, &proof.to_string(), &log.verifier()).unwrap();
        assert_eq!((stands.index, stands.checkpoint.size), (outcome.intent, log.entries.len() as u64));
        // Its neighbour is no proof of it.
        let (other, proof) = prove(&folder, &log.verifier(), outcome.intent + 1).unwrap();
        assert!(standing(&certificate, &other, &proof.to_string(), &log.verifier()).is_err());
    }
}

/// SEQUENCE { tbs, ecdsa-with-SHA256, BIT STRING }, put together by hand.
pub(crate) fn certificate(intent: &[u8], signature: &[u8]) -> Vec<u8> {
    let Body::Intent(intent) = Leaf::parse(intent).unwrap().body else { panic!() };
    let undercroft_log::leaf::ToBeSigned::Der(tbs) = intent.tbs else { panic!() };
    let bits = [&[0x03, u8::try_from(signature.len() + 1).unwrap(), 0x00], signature].concat();
    let content = [&tbs.0, intent.algorithm.der(), &bits].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let der = [&[0x30, 0x82], &length[..], &content].concat();
    x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    der
}

fn in_folder(size: usize, story: impl FnOnce(&Path, &Log, &dyn Fn(u64) -> Result<TlogProof, ProveError>)) {
    let log = short(size);
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    let prove = |index| prove(&folder, &log.verifier(), index).map(|(_, proof)| proof);
    story(directory.path(), &log, &prove);
}

#[test]
fn what_is_not_in_the_log_is_not_proven() {
    in_folder(7, |path, log, prove| {
        for index in [7, 8, u64::MAX] {
            let refused = prove(index).unwrap_err();
            assert!(matches!(refused, ProveError::Beyond { size: 7, .. }), "{refused}");
        }
        let of_another = INSTALLATION.control.verifier();
        let refused = undercroft_audit::prove(&Folder::new(path), &of_another, 0).unwrap_err();
        assert!(matches!(refused, ProveError::Checkpoint(_)), "{refused}");
        // A size that the files do not have: nothing is made up for it.
        for size in [8, 256, 1 << 40, u64::MAX] {
            Folder::new(path).write_checkpoint(&log.sign(size, log.root())).unwrap();
            assert!(prove(0).is_err(), "{size}");
            assert!(prove(size - 1).is_err(), "{size}");
        }
        fs::remove_file(path.join("checkpoint")).unwrap();
        assert!(matches!(prove(0).unwrap_err(), ProveError::NoCheckpoint));
    });
}

#[test]
fn files_that_do_not_lead_to_the_checkpoint_prove_nothing() {
    for (file, change, expected) in CHANGES {
        in_folder(600, |path, _, prove| {
            prove(300).unwrap();
            let file = path.join(file);
            let mut bytes = fs::read(&file).unwrap();
            change(&mut bytes);
            match bytes.is_empty() {
                true => fs::remove_file(&file).unwrap(),
                false => fs::write(&file, bytes).unwrap(),
            }
            let refused = prove(300).unwrap_err();
            assert!(expected(&refused), "{}: {refused}", file.display());
        });
    }
}

type Change = (&'static str, fn(&mut Vec<u8>), fn(&ProveError) -> bool);

/// Each is on the way from entry 300, which is entry 44 of its bundle (11 bytes each), to the root.
const CHANGES: &[Change] = &[
    (
        "tile/entries/001",
        |bytes| bytes[44 * 11 + 2] ^= 1,
        |error| matches!(error, ProveError::Proof(TlogProofError::Inclusion(ProofError::WrongRoot))),
    ),
    ("tile/entries/001", |bytes| bytes.truncate(1000), |error| matches!(error, ProveError::Folder(_))),
    ("tile/entries/001", Vec::clear, |error| matches!(error, ProveError::Folder(_))),
    (
        "tile/0/001",
        |bytes| bytes[32 * 45] ^= 1,
        |error| matches!(error, ProveError::Proof(TlogProofError::Inclusion(ProofError::WrongRoot))),
    ),
    ("tile/0/001", |bytes| bytes.truncate(32), |error| matches!(error, ProveError::Folder(_))),
    ("tile/0/001", Vec::clear, |error| matches!(error, ProveError::Node(_))),
    ("tile/1/000.p/2", Vec::clear, |error| matches!(error, ProveError::Node(_))),
    ("tile/1/000.p/2", |bytes| bytes[0] ^= 1, |error| matches!(error, ProveError::Proof(_))),
    ("tile/0/002.p/88", |bytes| bytes[0] ^= 1, |error| matches!(error, ProveError::Proof(_))),
    ("checkpoint", |bytes| bytes[0] ^= 1, |error| matches!(error, ProveError::Checkpoint(_))),
];
