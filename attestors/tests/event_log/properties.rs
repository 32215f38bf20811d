use hsm_sim::measured_boot::{MeasuredBoot, SimBank, SimEvent};
use proptest::prelude::*;
use undercroft_attestors::tpm::event_log::{Bank, EventLog, SecureBoot, changes};

use crate::{PCRS, quoted, values, verified};

fn event() -> impl Strategy<Value = SimEvent> {
    let kind =
        prop_oneof![Just(3_u32), Just(4), Just(0xd), Just(0x8000_0001), Just(0x8000_00e0), any::<u32>()];
    let data = || proptest::collection::vec(any::<u8>(), 0..80);
    (0_u32..24, kind, data(), proptest::option::of(data())).prop_map(|(pcr, kind, data, other)| {
        let measured = (kind != 3).then(|| other.unwrap_or_else(|| data.clone()));
        SimEvent { pcr, kind, data, measured }
    })
}

fn boot() -> impl Strategy<Value = MeasuredBoot> {
    let banks = proptest::sample::subsequence(vec![SimBank::Sha1, SimBank::Sha256, SimBank::Sha384], 1..=3);
    (banks.prop_shuffle(), proptest::collection::vec(event(), 0..20))
        .prop_map(|(banks, events)| MeasuredBoot { banks, events })
}

proptest! {
    #[test]
    fn what_firmware_writes_parses_to_what_it_measured(boot in boot()) {
        let log = EventLog::parse(&boot.log()).unwrap();
        prop_assert_eq!(log.encode(), boot.log());
        prop_assert_eq!(log.events().len(), boot.events.len());
        for (event, made) in log.events().iter().zip(&boot.events) {
            prop_assert_eq!((event.pcr, event.kind.0, &event.data), (made.pcr, made.kind, &made.data));
            prop_assert_eq!(event.digest(Bank::Sha1).is_some(), boot.banks.contains(&SimBank::Sha1));
            if boot.banks.contains(&SimBank::Sha256) {
                prop_assert_eq!(event.digest(Bank::Sha256).unwrap(), made.digest(SimBank::Sha256));
            }
        }
    }

    #[test]
    fn what_replays_is_what_the_tpm_has(boot in boot()) {
        // Nothing of PCRs that were not quoted is told, and what is told was measured.
        let Ok(log) = EventLog::parse(&boot.log()) else { return Ok(()) };
        let own = boot.values(SimBank::Sha256, 0);
        if let Ok(verified) = log.verify(&quoted(&own, &[7, 8, 9, 14]).unwrap()) {
            for event in verified.measured() {
                let made = &boot.events[event.number - 1];
                prop_assert!([7, 8, 9, 14].contains(&event.pcr));
                prop_assert_eq!(&event.digest, &made.digest(SimBank::Sha256));
            }
            prop_assert!(changes(&verified, &verified).is_empty());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_what_parses_encodes_to_itself(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let behind = [MeasuredBoot { banks: vec![SimBank::Sha256], events: Vec::new() }.log(), bytes.clone()].concat();
        for bytes in [bytes, behind] {
            if let Ok(log) = EventLog::parse(&bytes) {
                prop_assert_eq!(log.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_changes_nothing_of_secure_boot(place in 0_usize..30_000, bit in 0_u8..8) {
        let honest = MeasuredBoot::honest();
        let mut log = honest.log();
        let place = place % log.len();
        log[place] ^= 1 << bit;
        let judged = EventLog::parse(&log).and_then(|log| {
            let verified = log.verify(&values(&honest))?;
            Ok((SecureBoot::read(&verified)?, verified))
        });
        if let Ok((secure_boot, verified_log)) = judged {
            prop_assert_eq!(secure_boot, SecureBoot::read(&verified(&honest)).unwrap());
            let digests = |log: &undercroft_attestors::tpm::event_log::VerifiedLog| -> Vec<_> {
                log.measured().iter().map(|event| (event.pcr, event.digest.clone())).collect()
            };
            prop_assert_eq!(digests(&verified_log), digests(&verified(&honest)));
        }
    }
}

#[test]
fn pcrs_are_those_that_the_honest_boot_extends() {
    let extended: std::collections::BTreeSet<_> =
        MeasuredBoot::honest().events.iter().map(|event| event.pcr).collect();
    assert_eq!(extended, PCRS.into_iter().map(u32::from).collect());
}
