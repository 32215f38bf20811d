#![no_main]
//! Endorsement keys: a TPMT_PUBLIC behind its length, and the to-be-signed bytes of a certificate, which their issuer signs.
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_fuzz::{MAKER, PAST, signed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(certificate) = Certificate::from_der(bytes) {
        assert_eq!(certificate.der(), bytes);
        assert!(Certificate::from_der(&[bytes, &[0]].concat()).is_err());
    }
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let Some((public, tbs)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
    let anchors = Anchors::new(vec![MAKER.clone()]);
    let Ok(read) = Endorsement::read(public, &[signed(tbs)]) else { return };
    assert!(read.verify(&Anchors::default(), "2030-01-01T00:00:00Z".parse().unwrap()).is_err());
    assert!(read.verify(&anchors, PAST).is_err());
    let Ok(endorsed) = read.verify(&anchors, "2030-01-01T00:00:00Z".parse().unwrap()) else { return };
    assert_eq!(read.public.encode(), public);
    assert_eq!(endorsed.issuers, [MAKER.clone()]);
    // Whoever reads these, in a terminal or in a rule, reads plain text.
    assert!(endorsed.names.iter().all(|name| name.bytes().all(|byte| (0x20..0x7f).contains(&byte))));
});
