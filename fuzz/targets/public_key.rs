#![no_main]
//! Public keys.
use undercroft_keys::{Numbers, PublicKey};

libfuzzer_sys::fuzz_target!(|spki: &[u8]| {
    let Ok(key) = PublicKey::from_spki(spki) else { return };
    let again = match key.numbers() {
        Numbers::Ec { x, y } => PublicKey::from_ec_point(key.key_type(), &[&[4], x, y].concat()),
        Numbers::Rsa { n, .. } => PublicKey::from_rsa_modulus(n),
        Numbers::Ed25519 { x } => PublicKey::from_ed25519(x),
    };
    assert_eq!((again.unwrap().spki(), key.spki()), (spki, spki));
});
