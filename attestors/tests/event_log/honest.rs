use hsm_sim::measured_boot::{MeasuredBoot, SimBank};
use undercroft_attestors::tpm::event_log::{Content, EventLog, PcrValues};
use undercroft_tpm_wire::HashAlgorithm;

use crate::{PCRS, fingerprint, hashes, judge, quoted, requirements, tools, values, verified};

#[test]
fn an_honest_boot_is_accepted_and_told() {
    let boot = MeasuredBoot::honest();
    assert!((110..140).contains(&boot.events.len()), "{}", boot.events.len());
    let (secure_boot, told) = judge(&boot.log(), &values(&boot), &requirements()).unwrap();
    assert!(secure_boot.enabled && !secure_boot.dma_protection_disabled && !secure_boot.old_shim);
    assert_eq!(secure_boot.forbidden.hashes(), hashes(78));
    assert_eq!(secure_boot.allowed.entries().len(), 2);
    let vouched: Vec<_> =
        secure_boot.authorities.iter().map(|authority| authority.variable.as_str()).collect();
    assert_eq!(vouched, ["db", "Shim"]);
    assert_eq!(secure_boot.sbat.unwrap().0["shim"], 2);
    let images = told.images.unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!(images[0].digest, fingerprint(b"shim"));
    assert_eq!(
        images[0].says.as_deref(),
        Some(
            "PciRoot(0)/Pci(1d,0)/NVMe(1)/HD(2,GPT,42424242-4242-4242-4242-424242424242)/\\EFI\\debian\\shimx64.efi"
        )
    );
    assert_eq!(told.exited, Some(true));
    assert_eq!(told.tables.unwrap()[0].partitions.len(), 3);
    let commands = told.commands.unwrap();
    assert_eq!(commands.len(), 63);
    assert_eq!(commands[62].0, "kernel_cmdline");
    assert_eq!(commands[62].1, "/vmlinuz-6.1.0-18-amd64 root=/dev/vda1 ro quiet");
    let mok: Vec<_> = told.mok.unwrap().into_iter().map(|list| list.says.unwrap()).collect();
    assert_eq!(mok, ["MokList", "MokListX", "MokListTrusted"]);
}

#[test]
fn tpm2_eventlog_reads_the_made_log_and_comes_to_the_same_values() {
    let mut boot = MeasuredBoot::honest();
    // tpm2_eventlog 5.4 extends PCR 0 with the zeros of EV_NO_ACTION. No TPM does: see the recorded log of a laptop.
    boot.events.remove(0);
    for bank in [SimBank::Sha1, SimBank::Sha256] {
        let replayed = tools::replayed(&boot.log(), bank.name());
        assert_eq!(replayed.keys().copied().collect::<Vec<_>>(), PCRS);
        for (pcr, value) in replayed {
            assert_eq!(value, boot.values(bank, 0)[usize::from(pcr)], "PCR {pcr} of {}", bank.name());
        }
    }
}

#[test]
fn each_bank_that_we_believe_replays() {
    let mut boot = MeasuredBoot::honest();
    boot.banks = vec![SimBank::Sha384, SimBank::Sha1, SimBank::Sha256];
    let log = EventLog::parse(&boot.log()).unwrap();
    assert_eq!(log.encode(), boot.log());
    log.verify(&values(&boot)).unwrap();
    let wide = boot.values(SimBank::Sha384, 0);
    let wide = PCRS.iter().map(|pcr| (*pcr, wide[usize::from(*pcr)].clone())).collect();
    log.verify(&PcrValues::new(HashAlgorithm::Sha384, wide).unwrap()).unwrap();
}

#[test]
fn a_pcr_without_events_has_its_start_value() {
    let boot = MeasuredBoot::honest();
    let own = boot.values(SimBank::Sha256, 0);
    let log = EventLog::parse(&boot.log()).unwrap();
    let verified = log.verify(&quoted(&own, &[7, 10, 13]).unwrap()).unwrap();
    assert_eq!(verified.unquoted().iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 8, 9, 14]);
    assert!(verified.measured().iter().all(|event| event.pcr == 7));
}

#[test]
fn tpm2_startup_from_locality_3_and_4_starts_pcr_0_so() {
    for locality in [3, 4] {
        let mut boot = MeasuredBoot::honest();
        *boot.events[0].data.last_mut().unwrap() = locality;
        let own = quoted(&boot.values(SimBank::Sha256, locality), &PCRS).unwrap();
        let verified = EventLog::parse(&boot.log()).unwrap().verify(&own).unwrap();
        assert_eq!(verified.startup_locality(), locality);
    }
    // A H-CRTM is measured from locality 4, and there may be nothing that says so but its event.
    let mut boot = MeasuredBoot::honest();
    boot.events[0] = hsm_sim::measured_boot::SimEvent::of(0, 0x8000_0010, "HCRTM", "the first code");
    let own = quoted(&boot.values(SimBank::Sha256, 4), &PCRS).unwrap();
    assert_eq!(EventLog::parse(&boot.log()).unwrap().verify(&own).unwrap().startup_locality(), 4);
}

#[test]
fn data_that_is_not_measured_changes_no_fact() {
    let boot = MeasuredBoot::honest();
    let honest = judge(&boot.log(), &values(&boot), &requirements()).unwrap();
    let mut forged = boot.clone();
    for event in &mut forged.events {
        if event.measured.as_ref().is_some_and(|measured| *measured != event.data) && event.pcr != 8 {
            event.data = b"\x1b[2Jtrust me".to_vec();
        }
    }
    let (secure_boot, told) = judge(&forged.log(), &values(&boot), &requirements()).unwrap();
    assert_eq!(secure_boot, honest.0);
    let digests = |boot: &undercroft_attestors::tpm::event_log::Boot| -> Vec<Vec<u8>> {
        boot.images.iter().flatten().map(|image| image.digest.clone()).collect()
    };
    assert_eq!(digests(&told), digests(&honest.1));
    let log = EventLog::parse(&forged.log()).unwrap().verify(&values(&boot)).unwrap();
    for event in log.measured() {
        if let Content::Opaque(opaque) = &event.content {
            assert!(!opaque.says.iter().any(|says| says.contains('\x1b')), "{opaque:?}");
        }
    }
}

#[test]
fn an_image_stays_one_whatever_type_it_claims() {
    let boot = MeasuredBoot::honest();
    for kind in [0x1, 0xd, 0x8000_0008, 0x8000_0004, 0x6] {
        let mut forged = boot.clone();
        let shim = forged.position(4, hsm_sim::measured_boot::BOOT_SERVICES_APPLICATION, &[]).unwrap();
        forged.events[shim].kind = kind;
        let (_, told) = judge(&forged.log(), &values(&boot), &requirements()).unwrap();
        assert_eq!(told.images.unwrap()[0].digest, fingerprint(b"shim"), "{kind:#x}");
    }
}

#[test]
fn boot_aggregate_is_over_pcrs_0_to_9() {
    let boot = MeasuredBoot::honest();
    let own = boot.values(SimBank::Sha256, 0);
    let log = verified(&boot);
    assert_eq!(log.values().boot_aggregate().unwrap(), SimBank::Sha256.digest(&own[..10].concat()));
    assert_eq!(quoted(&own, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap().boot_aggregate(), None);
}
