#![no_main]
//! Lists of revoked certificates: as they are, and as to-be-signed bytes that their issuer has signed.
use jiff::Timestamp;
use undercroft_attestors::chain::ChainError;
use undercroft_attestors::chain::crl::Crl;
use undercroft_fuzz::{MAKER, PAST, signed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    if let Ok(list) = Crl::from_der(bytes) {
        assert!(Crl::from_der(&[bytes, &[0]].concat()).is_err());
        // Nobody has signed it but whoever made the seeds.
        let said = list.check(&MAKER, &MAKER, now);
        assert!(said.is_err() || list.claims(&MAKER));
    }
    let Ok(list) = Crl::from_der(&signed(bytes)) else { return };
    match list.check(&MAKER, &MAKER, now) {
        Ok(()) => assert!(list.check(&MAKER, &MAKER, PAST).is_err(), "a list of all times"),
        Err(ChainError::Revoked(..) | ChainError::StaleCrl(..) | ChainError::Crl(..)) => {}
        // Another algorithm than the maker's.
        Err(ChainError::Algorithm(..) | ChainError::Signature(..)) => {}
        Err(other) => panic!("{other}"),
    }
});
