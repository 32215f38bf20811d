//! FIDO keys: an authenticator in software, which follows OpenSSH's PROTOCOL.u2f and PROTOCOL.sshsig to the letter, and
//! `ssh-keygen -Y verify` as the judge of whether it does.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use super::hostile::{armour, string};
use super::*;

/// The person touched the key.
const UP: u8 = 1;
/// The key knew the person.
const UV: u8 = 4;

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

/// An authenticator with one resident key.
struct Authenticator {
    pair: Pair,
    application: &'static str,
}

/// What the authenticator does, and the hands that it is in.
#[derive(Clone, Copy)]
struct Touch {
    flags: u8,
    counter: u32,
    namespace: &'static str,
    message: &'static [u8],
}

const TOUCH: Touch = Touch { flags: UP | UV, counter: 5, namespace: NAMESPACE, message: MESSAGE };

impl Authenticator {
    fn ed25519() -> Self {
        Self {
            pair: Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()),
            application: "ssh:",
        }
    }

    fn ecdsa() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair: Pair::Ecdsa(key), application: "ssh:ceremony" }
    }

    fn kind(&self) -> &'static str {
        match self.pair {
            Pair::Ed25519(_) => "sk-ssh-ed25519@openssh.com",
            Pair::Ecdsa(_) => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// The public key as it stands in files and signatures.
    fn blob(&self) -> Vec<u8> {
        let key = match &self.pair {
            Pair::Ed25519(pair) => string(pair.public_key().as_ref()),
            Pair::Ecdsa(pair) => [string(b"nistp256"), string(pair.public_key().as_ref())].concat(),
        };
        [string(self.kind().as_bytes()), key, string(self.application.as_bytes())].concat()
    }

    fn line(&self) -> String {
        use base64ct::{Base64, Encoding as _};
        format!("{} {}", self.kind(), Base64::encode_string(&self.blob()))
    }

    fn roster(&self) -> Roster {
        Roster::new(RosterConfig { quorum: 1, persons: vec![person("alice", &[&self.line()])] }).unwrap()
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ed25519(pair) => string(pair.sign(bytes).as_ref()),
            Pair::Ecdsa(pair) => {
                let fixed = pair.sign(&SystemRandom::new(), bytes).unwrap();
                let (r, s) = fixed.as_ref().split_at(32);
                string(&[mpint(r), mpint(s)].concat())
            }
        }
    }

    /// An armoured SSHSIG. `told` are the flags that the file tells, which are those that were signed unless somebody lies.
    fn approve(&self, touch: Touch, told: u8) -> String {
        let Touch { flags, counter, namespace, message } = touch;
        let message = digest(&SHA512, message);
        let signed = [
            b"SSHSIG".to_vec(),
            string(namespace.as_bytes()),
            string(b""),
            string(b"sha512"),
            string(message.as_ref()),
        ]
        .concat();
        let framed = [
            digest(&SHA256, self.application.as_bytes()).as_ref(),
            &[flags],
            &counter.to_be_bytes(),
            digest(&SHA256, &signed).as_ref(),
        ]
        .concat();
        let signature =
            [string(self.kind().as_bytes()), self.sign(&framed), vec![told], counter.to_be_bytes().to_vec()]
                .concat();
        armour(&self.blob(), namespace, "sha512", &signature)
    }
}

/// RFC 4251 section 5: as short as it can be, and not negative.
fn mpint(bytes: &[u8]) -> Vec<u8> {
    let mut value: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if value.first().is_some_and(|byte| byte & 0x80 != 0) {
        value.insert(0, 0);
    }
    string(&value)
}

#[test]
fn a_fido_key_counts_when_it_knew_who_touched_it() {
    let ssh = Ssh::new();
    for key in [Authenticator::ed25519(), Authenticator::ecdsa()] {
        let roster = key.roster();
        let good = key.approve(TOUCH, TOUCH.flags);
        assert_eq!(roster.verify(MESSAGE, std::slice::from_ref(&good)).unwrap(), ["alice"], "{}", key.kind());
        assert!(ssh.accepts(&key.line(), MESSAGE, &good), "OpenSSH refuses what we accept: {}", key.kind());

        let another = Touch { message: b"another", ..TOUCH };
        let elsewhere = Touch { namespace: "file", ..TOUCH };
        let flags = |flags| Touch { flags, ..TOUCH };
        for (touch, told, accepted_by_openssh, part) in [
            // `ssh-keygen -Y verify` asks for neither flag: sshd does, for logins.
            (flags(UP), UP, true, "did not verify who touched it"),
            (flags(UV), UV, true, "nobody touched"),
            (flags(0), 0, true, "nobody touched"),
            // Flags that the key did not sign.
            (flags(UP), UP | UV, false, "does not verify"),
            (flags(0), UP | UV, false, "does not verify"),
            (another, UP | UV, false, "does not verify"),
            (elsewhere, UP | UV, false, "another namespace"),
        ] {
            let approval = key.approve(touch, told);
            let refused = roster.verify(MESSAGE, std::slice::from_ref(&approval)).unwrap_err().to_string();
            assert!(refused.contains(part), "{} {told:#x}: {refused}", key.kind());
            assert_eq!(ssh.accepts(&key.line(), MESSAGE, &approval), accepted_by_openssh, "{part}");
        }
        let refused = roster.verify(MESSAGE, &[key.approve(flags(UP), UP)]).unwrap_err().to_string();
        assert!(refused.contains("ssh-keygen -t ed25519-sk -O verify-required"), "{refused}");
    }
}

#[test]
fn a_fido_key_signs_for_its_application_alone() {
    let ssh = Ssh::new();
    let key = Authenticator::ed25519();
    let other = Authenticator { application: "ssh:other", ..Authenticator::ed25519() };
    // Made for `ssh:other`, and told to be of the key that is for `ssh:`.
    let mixed = Authenticator { pair: Authenticator::ed25519().pair, application: "ssh:other" };
    let approval = mixed.approve(TOUCH, TOUCH.flags);
    assert_eq!(other.roster().verify(MESSAGE, std::slice::from_ref(&approval)).unwrap(), ["alice"]);
    assert!(ssh.accepts(&other.line(), MESSAGE, &approval));
    let refused = key.roster().verify(MESSAGE, std::slice::from_ref(&approval)).unwrap_err().to_string();
    assert!(refused.contains("nobody on the roster"), "{refused}");
    assert!(!ssh.accepts(&key.line(), MESSAGE, &approval));
}
