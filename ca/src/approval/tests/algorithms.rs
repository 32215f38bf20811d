//! Algorithms that count, and those that do not. OpenSSH has made the keys.

use super::hostile::{armour, string};
use super::*;

/// Deterministic DSA keys are long gone from OpenSSH's defaults, so that this line is made by hand: p, q, g and y of no
/// key at all, of the right lengths.
fn dsa() -> String {
    use base64ct::{Base64, Encoding as _};
    let number = |length: usize| {
        let mut bytes = vec![0x55; length];
        bytes[length - 1] = 1;
        string(&bytes)
    };
    let blob = [string(b"ssh-dss"), number(128), number(20), number(128), number(128)].concat();
    format!("ssh-dss {}", Base64::encode_string(&blob))
}

#[test]
fn keys_that_never_count_are_on_no_roster() {
    let ssh = Ssh::new();
    let short = ssh.key("short", &["-t", "rsa", "-b", "1024"]);
    for (key, part) in [(short, "an RSA key of 1024 bits"), (dsa(), "ssh-dss, which does not count")] {
        let persons = vec![person("alice", &[&key])];
        let refused = Roster::new(RosterConfig { quorum: 1, persons }).unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn rsa_signs_with_sha2_alone() {
    let ssh = Ssh::new();
    let key = ssh.key("rsa", &["-t", "rsa", "-b", "3072"]);
    let persons = vec![person("alice", &[&key])];
    let roster = Roster::new(RosterConfig { quorum: 1, persons }).unwrap();
    let good = ssh.sign("rsa", NAMESPACE, MESSAGE);
    roster.verify(MESSAGE, std::slice::from_ref(&good)).unwrap();
    assert!(ssh.accepts(&key, MESSAGE, &good));

    // What OpenSSL signs over what SSHSIG frames, by each hash.
    let blob = {
        use base64ct::{Base64, Encoding as _};
        Base64::decode_vec(key.split(' ').nth(1).unwrap()).unwrap()
    };
    let message = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, MESSAGE);
    let framed = [
        b"SSHSIG".to_vec(),
        string(NAMESPACE.as_bytes()),
        string(b""),
        string(b"sha512"),
        string(message.as_ref()),
    ]
    .concat();
    std::fs::write(ssh.0.path().join("framed"), framed).unwrap();
    ssh.run(&["-q", "-p", "-N", "", "-m", "PEM", "-f", "rsa"]);
    let by = |hash: &str, name: &[u8]| {
        let signed = Command::new("openssl")
            .args(["dgst", hash, "-sign", "rsa", "-out", "raw", "framed"])
            .current_dir(ssh.0.path())
            .output()
            .unwrap();
        assert!(signed.status.success(), "{signed:?}");
        let raw = std::fs::read(ssh.0.path().join("raw")).unwrap();
        armour(&blob, NAMESPACE, "sha512", &[string(name), string(&raw)].concat())
    };
    for (hash, name, counts) in [
        ("-sha256", &b"rsa-sha2-256"[..], true),
        ("-sha512", b"rsa-sha2-512", true),
        ("-sha1", b"ssh-rsa", false),
        ("-sha1", b"rsa-sha2-256", false),
        ("-sha256", b"rsa-sha2-512", false),
    ] {
        let approval = by(hash, name);
        assert_eq!(roster.verify(MESSAGE, std::slice::from_ref(&approval)).is_ok(), counts, "{hash}");
        assert_eq!(ssh.accepts(&key, MESSAGE, &approval), counts, "OpenSSH on {hash}");
    }
}
