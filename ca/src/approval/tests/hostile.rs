//! Signatures that nobody's OpenSSH has made.

use base64ct::{Base64, Encoding as _};
use proptest::prelude::*;

use super::*;

/// RFC 4251 section 5: length and bytes.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// An armoured SSHSIG (OpenSSH PROTOCOL.sshsig).
pub(super) fn armour(key: &[u8], namespace: &str, hash: &str, signature: &[u8]) -> String {
    let blob = [
        b"SSHSIG".to_vec(),
        1_u32.to_be_bytes().to_vec(),
        string(key),
        string(namespace.as_bytes()),
        string(b""),
        string(hash.as_bytes()),
        string(signature),
    ]
    .concat();
    in_lines(&blob)
}

pub(super) fn in_lines(blob: &[u8]) -> String {
    let text = Base64::encode_string(blob);
    let lines: Vec<_> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}

fn ed25519() -> (Roster, Vec<u8>) {
    let ssh = Ssh::new();
    let key = ssh.key("a", &["-t", "ed25519"]);
    let roster = Roster::new(RosterConfig { quorum: 1, persons: vec![person("alice", &[&key])] }).unwrap();
    let signature = ssh.sign("a", NAMESPACE, MESSAGE);
    let body: String = signature.lines().filter(|line| !line.starts_with("---")).collect();
    (roster, Base64::decode_vec(&body).unwrap())
}

#[test]
fn a_signature_with_any_byte_changed_or_missing_counts_for_nothing() {
    let (roster, good) = ed25519();
    assert!(roster.verify(MESSAGE, &[in_lines(&good)]).is_ok());
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(roster.verify(MESSAGE, &[in_lines(&changed)]).is_err(), "byte {at}");
        assert!(roster.verify(MESSAGE, &[in_lines(&good[..at])]).is_err(), "the first {at} bytes");
    }
    assert!(roster.verify(MESSAGE, &[in_lines(&[&good[..], &[0]].concat())]).is_err());
}

#[test]
fn a_signature_that_is_longer_than_any_is_not_read() {
    let (roster, _) = ed25519();
    let refused = roster.verify(MESSAGE, &["x".repeat(20_000)]).unwrap_err().to_string();
    assert!(refused.contains("more than any signature"), "{refused}");
}

#[test]
fn a_signature_of_one_algorithm_is_not_one_of_another() {
    let (roster, good) = ed25519();
    let relabelled: Vec<u8> = {
        // The last `ssh-ed25519` is the signature's own.
        let at = good.windows(11).rposition(|window| window == b"ssh-ed25519").unwrap();
        let mut relabelled = good.clone();
        relabelled[at..at + 11].copy_from_slice(b"ssh-ed25518");
        relabelled
    };
    let refused = roster.verify(MESSAGE, &[in_lines(&relabelled)]).unwrap_err().to_string();
    assert!(refused.contains("algorithm") || refused.contains("no SSHSIG"), "{refused}");
}

#[test]
fn statements_that_are_malformed_are_none() {
    let ssh = Ssh::new();
    let key = ssh.key("a", &["-t", "ed25519"]);
    let roster = Roster::new(RosterConfig { quorum: 1, persons: vec![person("alice", &[&key])] }).unwrap();
    let good = super::statement(&roster, "carol").text().unwrap();
    Statement::parse(&good).unwrap();
    for (from, to) in [
        (NAMESPACE, "undercroft-approval-v2"),
        ("\"ceremony-plan\"", "\"ceremony-plans\""),
        ("\"nonce\": \"07", "\"nonce\": \"7"),
        ("\"nonce\": \"07", "\"nonce\": \"0g"),
        ("\"requester\"", "\"asker\""),
        ("\"requester\": \"carol\"", "\"requester\": \"carol\", \"reason\": \"\""),
        ("\"requester\": \"carol\"", "\"requester\": \"carol\", \"requester\": \"dave\""),
        ("2026-11-23T", "2026-13-23T"),
        ("}", ""),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(Statement::parse(&good.replacen(from, to, 1)).is_err(), "{from} -> {to}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(\\PC|\n){0,300}", body in "[A-Za-z0-9+/=\n]{0,300}") {
        static ROSTER: std::sync::LazyLock<Roster> = std::sync::LazyLock::new(|| ed25519().0);
        let _ = Statement::parse(&text);
        let armoured = format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n");
        for approval in [text, armoured] {
            prop_assert!(ROSTER.verify(MESSAGE, &[approval]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        static GOOD: std::sync::LazyLock<(Roster, Vec<u8>)> = std::sync::LazyLock::new(ed25519);
        // Behind the preamble and the version, where the parser goes on.
        let approval = in_lines(&[&GOOD.1[..10], &bytes].concat());
        prop_assert!(GOOD.0.verify(MESSAGE, &[approval]).is_err());
    }
}
