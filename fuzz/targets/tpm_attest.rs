#![no_main]
//! TPMS_ATTEST.
use undercroft_tpm_wire::attest::{Attest, Attested};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(attest) = Attest::parse(bytes) else { return };
    assert!(bytes.starts_with(&0xff54_4347_u32.to_be_bytes()));
    assert!(attest.signer.as_bytes().len() <= 66 && attest.qualifying.len() <= 66);
    // Nothing is read past, and nothing left over.
    assert!(Attest::parse(&bytes[..bytes.len() - 1]).is_err());
    assert!(Attest::parse(&[bytes, &[0]].concat()).is_err());
    assert_eq!(attest.encode(), bytes);
    match attest.attested {
        Attested::CommandAudit { commands, .. } => assert!(bytes.ends_with(&commands)),
        Attested::Counter { value, .. } => assert!(bytes.ends_with(&value.to_be_bytes())),
        Attested::Quote { digest, .. } | Attested::Creation { digest, .. } => {
            assert!(bytes.ends_with(&digest))
        }
        Attested::Certify { qualified, .. } => assert!(bytes.ends_with(qualified.as_bytes())),
    }
});
