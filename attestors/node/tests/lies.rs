//! A daemon that lies, or is somebody else: each lie is found by its own words, and nothing is written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod daemon;

use std::os::unix::fs::PermissionsExt as _;

use undercroft_cli::ExitStatus;
use undercroft_cli::system::SystemClock;
use undercroft_node::exchange::{Attested, ExchangeError, attest};
use undercroft_node::output::Generation;

use daemon::{Daemon, Lie, Node};

fn run(node: &Node) -> Result<Attested, ExchangeError> {
    node.runtime.block_on(async { attest(&node.config(), &SystemClock).await })
}

#[test]
fn each_lie_of_a_daemon_is_found_and_nothing_is_written() {
    let node = Node::new();
    for (lie, status, told) in [
        (Lie::CredentialForAnotherKey, ExitStatus::Tampered, "not for this TPM and its attestation key"),
        (Lie::CredentialTooLong, ExitStatus::Tampered, "not for this TPM and its attestation key"),
        (Lie::Expired, ExitStatus::Tampered, "was good until"),
        (Lie::NoJson, ExitStatus::Tampered, "the daemon's challenge"),
        (Lie::Pcrs(vec![]), ExitStatus::Tampered, "PCRs that no TPM has"),
        (Lie::Pcrs(vec![24]), ExitStatus::Tampered, "PCRs that no TPM has"),
        (Lie::BankTwice, ExitStatus::Tampered, "PCRs that no TPM has"),
        (Lie::BankOfAnother, ExitStatus::Usage, "it has not all of Sha512"),
        (Lie::ChallengesTwice, ExitStatus::Tampered, "challenges twice"),
        (Lie::SaysNothing, ExitStatus::Unreachable, "without a word"),
        (Lie::AnotherKey, ExitStatus::Tampered, "for another key than the one in this TPM"),
        (Lie::AnotherRoot, ExitStatus::Tampered, "does not lead to the roots that are known here"),
        (Lie::Ended, ExitStatus::Tampered, "a certificate of the chain is valid from"),
        (Lie::NoChain, ExitStatus::Tampered, "there is no certificate"),
        (
            Lie::Id("spiffe://other.example/n"),
            ExitStatus::Tampered,
            "no workload of the trust domain prod.example",
        ),
        (Lie::Id("https://prod.example/n"), ExitStatus::Tampered, "no SPIFFE ID"),
        (Lie::TwoIds, ExitStatus::Tampered, "has 2 URIs"),
        (Lie::SaysAnotherId, ExitStatus::Tampered, "and the certificate says"),
        (Lie::ProofOfAnotherEntry, ExitStatus::Tampered, "does not stand where the proof says"),
        (Lie::ProofByAnotherKey, ExitStatus::Tampered, "the checkpoint in the proof"),
        (Lie::EntryOfAnotherCertificate, ExitStatus::Tampered, "the intent of another certificate"),
        (Lie::EntryOfAnotherDomain, ExitStatus::Tampered, "its intent is for the trust domain other.example"),
        (Lie::NoRoots, ExitStatus::Tampered, "it has no roots"),
        (Lie::BundleIsNone, ExitStatus::Tampered, "the SPIFFE bundle"),
        (Lie::WantsNonsense, ExitStatus::Tampered, "what it wants next time"),
        (Lie::IsAnotherServer, ExitStatus::Unreachable, "cannot reach the daemon"),
        (Lie::ServerUnderAnotherRoot, ExitStatus::Unreachable, "cannot reach the daemon"),
    ] {
        let daemon = Daemon::start(&node, lie.clone());
        let Err(error) = run(&node) else { panic!("{lie:?} is believed") };
        assert_eq!(error.failure.status(), status, "{lie:?}: {}", error.failure);
        assert!(error.failure.to_string().contains(told), "{lie:?}: {}", error.failure);
        assert!(!node.path("svid").exists() && !node.path("state").exists(), "{lie:?}");
        drop(daemon);
    }
    // The same daemon tells the truth, so that it was the lies.
    let daemon = Daemon::start(&node, Lie::None);
    let attested = run(&node).unwrap();
    assert!(!attested.at_once);
    assert_eq!(daemon.judged(), ["challenged"]);
    assert!(run(&node).unwrap().at_once);
    assert_eq!(daemon.judged(), ["challenged", "at once"]);
    drop(daemon);
    // What stands is not touched by a lie.
    let before = std::fs::read_link(node.path("svid/current")).unwrap();
    for lie in [Lie::AnotherKey, Lie::ProofByAnotherKey] {
        let _daemon = Daemon::start(&node, lie);
        run(&node).unwrap_err();
        assert_eq!(std::fs::read_link(node.path("svid/current")).unwrap(), before);
    }
}

#[test]
fn another_endorsement_key_is_tried_if_policy_refuses_the_first() {
    let node = Node::new();
    let daemon = Daemon::start(&node, Lie::RefusesCurves("ek-chain"));
    let attested = run(&node).unwrap();
    assert!(!attested.at_once);
    assert_eq!(daemon.judged(), ["refused", "challenged"]);
    // The one that was taken is remembered.
    assert!(run(&node).unwrap().at_once);
    assert_eq!(daemon.judged(), ["refused", "challenged", "at once"]);
    drop(daemon);
    // Any other refusal is the end of it.
    let node = Node::new();
    let daemon = Daemon::start(&node, Lie::RefusesCurves("node-selector"));
    let error = run(&node).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("node-selector"));
    assert_eq!(error.failure.status(), ExitStatus::Refused);
    assert_eq!(daemon.judged(), ["refused"]);
}

#[test]
fn a_daemon_that_does_not_know_the_key_any_more_challenges_all_the_same() {
    let node = Node::new();
    let daemon = Daemon::start(&node, Lie::None);
    run(&node).unwrap();
    drop(daemon);
    let daemon = Daemon::start(&node, Lie::Forgets);
    assert!(!run(&node).unwrap().at_once);
    assert_eq!(daemon.judged(), ["challenged"]);
}

#[test]
fn a_key_is_kept_if_it_is_to_be_and_made_anew_if_its_tpm_forgot_it() {
    let mut node = Node::new();
    node.keep_key();
    let daemon = Daemon::start(&node, Lie::None);
    let first = run(&node).unwrap().generation.key;
    assert_eq!(run(&node).unwrap().generation.key, first);
    drop(daemon);
    node.clear_tpm();
    let _daemon = Daemon::start(&node, Lie::Forgets);
    assert_ne!(run(&node).unwrap().generation.key, first);
}

#[test]
fn files_have_the_mode_that_was_asked_for_and_damage_is_told() {
    let node = Node::new();
    let _daemon = Daemon::start(&node, Lie::None);
    let generation = run(&node).unwrap().generation;
    let mode =
        |name: &str| std::fs::metadata(generation.folder.join(name)).unwrap().permissions().mode() & 0o777;
    for file in undercroft_node::output::FILES {
        assert_eq!(mode(file), 0o640, "{file}");
    }
    assert_eq!(mode("."), 0o750);
    let output = node.path("svid");
    for (file, content) in [
        ("svid.pem", ""),
        ("svid.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
        ("svid.key", ""),
        ("svid.key", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
        ("bundle.pem", "nothing\n-----BEGIN CERTIFICATE-----\n"),
    ] {
        let generation = run(&node).unwrap().generation;
        std::fs::write(generation.folder.join(file), content).unwrap();
        let told = Generation::current(&output).unwrap_err();
        assert!(told.to_string().contains(file), "{file}: {told}");
    }
    // A file is missing, and another generation's key.
    let one = run(&node).unwrap().generation;
    let two = run(&node).unwrap().generation;
    std::fs::copy(one.folder.join("svid.key"), two.folder.join("svid.key")).unwrap();
    let told = Generation::current(&output).unwrap_err();
    assert!(told.to_string().contains("not the key of the certificate"), "{told}");
    std::fs::remove_file(two.folder.join("svid.key")).unwrap();
    assert!(Generation::current(&output).unwrap_err().to_string().contains("svid.key"));
    // What a process left that was killed, and what is not ours.
    std::fs::create_dir_all(output.join(".next/half")).unwrap();
    std::fs::create_dir_all(output.join("0123456789abcdef")).unwrap();
    std::fs::write(output.join("README"), "mine").unwrap();
    run(&node).unwrap();
    assert!(!output.join(".next").exists() && !output.join("0123456789abcdef").exists());
    assert!(output.join("README").exists());
}
