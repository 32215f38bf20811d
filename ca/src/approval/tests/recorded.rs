//! Signatures of FIDO keys as people have made them with OpenSSH (`recorded/README.md`).

use super::sshsig::NotSigned;
use super::*;

/// What they are of, and for.
const SIGNED: &[u8] =
    b"Z0dzRu/AfSjNd7H1LlEk/vxw/tuGVeY3NSzb8wxSw6lAN9o+nefDntF9Ij3u9oj6Jhis6aQP6iCv3YHHcKfd9A==\n";
const FOR: &str = "file";

const VERIFIED: [&str; 2] =
    [include_str!("recorded/ecdsa-verified.sig"), include_str!("recorded/ed25519-verified.sig")];
const TOUCHED: [&str; 2] =
    [include_str!("recorded/ecdsa-touched.sig"), include_str!("recorded/ed25519-touched.sig")];
const UNTOUCHED: &str = include_str!("recorded/ecdsa-untouched.sig");

fn judged(armoured: &str, message: &[u8]) -> Result<(), NotSigned> {
    let signature = sshsig::parse(armoured).unwrap();
    sshsig::verify(&signature, &SshSig::signed_data(FOR, signature.hash_alg(), message).unwrap())
}

/// The key that it says to be of, as OpenSSH writes it.
fn key(armoured: &str) -> String {
    SshPublicKey::from(sshsig::parse(armoured).unwrap().public_key().clone()).to_openssh().unwrap()
}

/// The signature with one bit of its flags turned.
fn with_flags_turned(armoured: &str, bit: u8) -> String {
    let body: String = armoured.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut blob = <base64ct::Base64 as base64ct::Encoding>::decode_vec(&body).unwrap();
    let at = blob.len() - 5;
    blob[at] ^= bit;
    hostile::in_lines(&blob)
}

#[test]
fn keys_that_knew_their_person_count() {
    for armoured in VERIFIED {
        let ssh = Ssh::new();
        assert!(ssh.accepts_for(FOR, &key(armoured), SIGNED, armoured));
        judged(armoured, SIGNED).unwrap();
        assert!(matches!(judged(armoured, b"something else"), Err(NotSigned::Wrong)));
        // And for nothing that we ask for.
        let roster = RosterConfig { quorum: 1, persons: vec![person("alice", &[&key(armoured)])] };
        let refused = Roster::new(roster).unwrap().verify(SIGNED, &[armoured.to_owned()]).unwrap_err();
        assert!(refused.to_string().contains("another namespace"), "{refused}");
    }
}

#[test]
fn keys_that_did_not_know_their_person_do_not() {
    for armoured in TOUCHED {
        assert!(Ssh::new().accepts_for(FOR, &key(armoured), SIGNED, armoured));
        assert!(matches!(judged(armoured, SIGNED), Err(NotSigned::NotVerified)));
        // Nor do they when somebody says afterwards that they did.
        assert!(matches!(judged(&with_flags_turned(armoured, 4), SIGNED), Err(NotSigned::Wrong)));
    }
    assert!(matches!(judged(UNTOUCHED, SIGNED), Err(NotSigned::NotPresent)));
    assert!(matches!(judged(&with_flags_turned(UNTOUCHED, 5), SIGNED), Err(NotSigned::Wrong)));
}
