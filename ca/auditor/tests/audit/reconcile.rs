//! Certificates that were met somewhere, against a log.

use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use undercroft_audit::{Fate, Register, Standing};
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, SignatureAlgorithm};

use crate::installation::INSTALLATION;

/// DER of a SEQUENCE or BIT STRING that is longer than 127 bytes, or not.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        ..128 => vec![tag, length as u8],
        128..256 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [&head[..], content].concat()
}

/// A certificate of these to-be-signed bytes, by whoever has the key.
fn signed_by(key: &SoftwareKey, tbs: &[u8]) -> Vec<u8> {
    let signature = block_on(key.sign(tbs)).unwrap();
    let signature = der(0x03, &[&[0], &signature[..]].concat());
    der(0x30, &[tbs, SignatureAlgorithm::EcdsaP256Sha256.der(), &signature].concat())
}

#[test]
fn what_a_key_signed_past_its_log_is_found_and_nothing_else_is() {
    let log = &INSTALLATION.prod;
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    let register = Register::read(&folder, &log.verifier()).unwrap();
    let key = &INSTALLATION.prod_authority.key;
    let thief = SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let mut fates = Vec::new();
    for intent in log.all("intent") {
        let body = log.value(intent)["body"].clone();
        let tbs = Base64::decode_vec(body["tbs"]["der"].as_str().unwrap()).unwrap();
        let certificate = signed_by(key, &tbs);
        let standing = register.look_up(&certificate);
        let Standing::Logged { index, caller, fate } = &standing else { panic!("{standing:?}") };
        assert_eq!((*index, caller.as_str()), (intent, body["caller"]["id"].as_str().unwrap()));
        assert_eq!(standing.is_an_alarm(), *fate == Fate::Abandoned);
        fates.push(*fate);
        // The same with another serial number: its last byte stands before the signature algorithm.
        let algorithm = SignatureAlgorithm::EcdsaP256Sha256.der();
        let at = tbs.windows(algorithm.len()).position(|bytes| bytes == algorithm).unwrap() - 1;
        let mut shadow = tbs.clone();
        shadow[at] ^= 1;
        let standing = register.look_up(&signed_by(key, &shadow));
        assert_eq!(standing, Standing::Unlogged { key: key.public_key().id() });
        assert!(standing.is_an_alarm());
        // Whatever it says: nobody else's signature is this log's business.
        assert_eq!(register.look_up(&signed_by(&thief, &tbs)), Standing::Foreign);
        assert_eq!(register.look_up(&signed_by(&thief, &shadow)), Standing::Foreign);
        assert_eq!(register.look_up(&certificate[..certificate.len() - 1]), Standing::Foreign);
    }
    assert!(fates.contains(&Fate::Signed) && fates.contains(&Fate::Abandoned), "{fates:?}");
    assert_eq!(register.look_up(b""), Standing::Foreign);
    assert_eq!(register.look_up(INSTALLATION.intermediate.der()), Standing::Foreign);
}
