#![no_main]
//! Approvals: a signature as it is, and in its armour.
use base64ct::{Base64, Encoding as _};
use undercroft_fuzz::ROSTER;

/// What the seeds are signatures over.
const MESSAGE: &[u8] = b"approved\n";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let armoured = format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        Base64::encode_string(bytes)
    );
    let texts = [armoured, String::from_utf8_lossy(bytes).into_owned()];
    for text in texts {
        if ROSTER.verify(MESSAGE, std::slice::from_ref(&text)).is_ok() {
            assert!(ROSTER.verify(b"another", &[text]).is_err(), "forged");
        }
    }
});
