//! Forgeries, each made from the honest boot by one change, with the rule that finds it. Numbers are those of the cases
//! that every verifier of event logs must refuse (44 to 57).

#[path = "forgeries/configuration.rs"]
mod configuration;
#[path = "forgeries/data.rs"]
mod data;

use std::collections::{BTreeMap, BTreeSet};

use hsm_sim::measured_boot::{
    BOOT_SERVICES_APPLICATION, CERT_X509, EFI_ACTION, GLOBAL, GPT_EVENT, IMAGE_SECURITY, IPL, MeasuredBoot,
    NO_ACTION, OWNER, S_CRTM_VERSION, SEPARATOR, SHIM_LOCK, SimBank, SimEvent, VARIABLE_AUTHORITY,
    VARIABLE_DRIVER_CONFIG, certificate, databases, gpt, image, secure_boot, signature_list, variable,
};
use undercroft_attestors::tpm::event_log::{
    EventLogError, MAX_DATA, MAX_EVENTS, MAX_LOG, PcrValues, Requirements, Rule, SbatLevel,
};
use undercroft_tpm_wire::HashAlgorithm;

use crate::{PCRS, hashes, judge, quoted, requirements, values};

/// What is handed in, and what was quoted.
pub(crate) struct Forgery {
    pub(crate) log: Vec<u8>,
    pub(crate) values: Result<PcrValues, EventLogError>,
    pub(crate) wanted: Requirements,
}

impl Forgery {
    fn judged(&self) -> Result<(), EventLogError> {
        judge(&self.log, &self.values.clone()?, &self.wanted).map(|_| ())
    }
}

/// The log is forged, and the TPM has what was really booted.
fn log(change: impl FnOnce(&mut MeasuredBoot)) -> Forgery {
    let honest = MeasuredBoot::honest();
    let mut forged = honest.clone();
    change(&mut forged);
    assert_ne!(forged, honest);
    Forgery { log: forged.log(), values: Ok(values(&honest)), wanted: requirements() }
}

/// What is booted is another thing, and the log says so.
fn boot(change: impl FnOnce(&mut MeasuredBoot)) -> Forgery {
    let mut boot = MeasuredBoot::honest();
    change(&mut boot);
    Forgery { log: boot.log(), values: Ok(values(&boot)), wanted: requirements() }
}

/// What is booted is `really`, and the log says what `change` makes of it: both replay.
fn retold(really: impl FnOnce(&mut MeasuredBoot), change: impl FnOnce(&mut MeasuredBoot)) -> Forgery {
    let mut real = MeasuredBoot::honest();
    really(&mut real);
    let mut told = real.clone();
    change(&mut told);
    Forgery { log: told.log(), values: Ok(values(&real)), wanted: requirements() }
}

/// The log is changed as bytes.
fn bytes(change: impl FnOnce(&mut Vec<u8>)) -> Forgery {
    let mut forged = log_of_honest();
    change(&mut forged);
    assert_ne!(forged, log_of_honest());
    Forgery { log: forged, values: Ok(values(&MeasuredBoot::honest())), wanted: requirements() }
}

/// Something else was quoted, and the log is honest.
fn quote(values: Result<PcrValues, EventLogError>) -> Forgery {
    Forgery { log: log_of_honest(), values, wanted: requirements() }
}

fn wanting(change: impl FnOnce(&mut Requirements)) -> Forgery {
    let mut wanted = requirements();
    change(&mut wanted);
    Forgery { wanted, ..quote(Ok(values(&MeasuredBoot::honest()))) }
}

fn log_of_honest() -> Vec<u8> {
    MeasuredBoot::honest().log()
}

fn own() -> Vec<Vec<u8>> {
    MeasuredBoot::honest().values(SimBank::Sha256, 0)
}

fn at(boot: &MeasuredBoot, pcr: u32, kind: u32, contains: &[u8]) -> usize {
    boot.position(pcr, kind, contains).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Where a variable of Secure Boot is measured.
fn config(boot: &MeasuredBoot, name: &str) -> usize {
    let of =
        |event: &SimEvent| event.kind == VARIABLE_DRIVER_CONFIG && event.data[32..].starts_with(&utf16(name));
    boot.events.iter().position(of).unwrap()
}

fn set(boot: &mut MeasuredBoot, name: &str, vendor: [u8; 16], value: &[u8]) {
    let place = config(boot, name);
    boot.events[place] = secure_boot(name, vendor, value);
}

fn separator(boot: &MeasuredBoot, pcr: u32) -> usize {
    at(boot, pcr, SEPARATOR, &[])
}

/// An event behind everything that the boot measured: the operating system can do so.
fn later(event: SimEvent) -> impl FnOnce(&mut MeasuredBoot) {
    move |boot| boot.events.push(event)
}

fn authority(name: &str, vendor: [u8; 16], value: &[u8]) -> SimEvent {
    SimEvent::of_data(7, VARIABLE_AUTHORITY, variable(vendor, name, value))
}

fn no_action(pcr: u32, data: &[u8]) -> SimEvent {
    SimEvent { pcr, kind: NO_ACTION, data: data.to_vec(), measured: None }
}

fn locality(value: &[u8]) -> SimEvent {
    no_action(0, &[b"StartupLocality\0", value].concat())
}

/// The bytes of the header's data begin here, and those of the events here: two algorithms.
const SPEC_ID: usize = 32;
const EVENTS: usize = SPEC_ID + 16 + 8 + 4 + 2 * 4 + 1;

fn parsing() -> Vec<(&'static str, Rule, Forgery)> {
    vec![
        ("the log is empty", Rule::Truncated, bytes(Vec::clear)),
        ("43: the log ends inside an event", Rule::Truncated, bytes(|log| log.truncate(log.len() - 1))),
        ("43: a byte follows the log", Rule::Truncated, bytes(|log| log.push(0))),
        (
            "56: EventSize is 0xffffffff",
            Rule::Truncated,
            bytes(|log| log[EVENTS + 12 + 22 + 34..][..4].fill(0xff)),
        ),
        ("56: the Spec ID event's size is 0xffffffff", Rule::Truncated, bytes(|log| log[28..32].fill(0xff))),
        ("56: more bytes than the limit", Rule::TooLarge, bytes(|log| log.resize(MAX_LOG + 1, 0))),
        (
            "56: data above the limit",
            Rule::TooLarge,
            boot(later(SimEvent::of_data(8, IPL, vec![0; MAX_DATA + 1]))),
        ),
        (
            "56: more events than the limit, none of them with digests",
            Rule::TooLarge,
            bytes(|log| {
                // One bank, so that so many events fit into the bytes.
                let mut boot = MeasuredBoot { banks: vec![SimBank::Sha1], events: Vec::new() };
                boot.events = vec![no_action(0, &[]); MAX_EVENTS];
                *log = boot.log();
            }),
        ),
        (
            "37: a log of SHA-1 alone for a quote of SHA-256",
            Rule::LegacyFormat,
            bytes(|log| {
                log.drain(..EVENTS);
            }),
        ),
        ("an older Spec ID event", Rule::LegacyFormat, bytes(|log| log[SPEC_ID + 14] = b'2')),
        ("the header extends a PCR", Rule::LegacyFormat, bytes(|log| log[4] = 4)),
        ("the header's digest is not zero", Rule::SpecId, bytes(|log| log[8] = 1)),
        ("the header is of PCR 7", Rule::SpecId, bytes(|log| log[0] = 7)),
        ("specification 1.2", Rule::SpecId, bytes(|log| log[SPEC_ID + 21] = 1)),
        ("55: NumberOfAlgorithms is 0", Rule::SpecId, bytes(|log| log[SPEC_ID + 24] = 0)),
        ("55: NumberOfAlgorithms is 2^32-1", Rule::SpecId, bytes(|log| log[SPEC_ID + 24..][..4].fill(0xff))),
        ("55: vendorInfo is longer than there is", Rule::SpecId, bytes(|log| log[EVENTS - 1] = 1)),
        ("55: an unknown algorithm", Rule::Algorithm, bytes(|log| log[SPEC_ID + 28] = 0x77)),
        (
            "55: an algorithm twice",
            Rule::Algorithm,
            bytes(|log| log.copy_within(SPEC_ID + 28..SPEC_ID + 32, SPEC_ID + 32)),
        ),
        ("55: SHA-256 with 20 bytes", Rule::DigestSize, bytes(|log| log[SPEC_ID + 34] = 20)),
        ("55: SHA-1 with 65535 bytes", Rule::DigestSize, bytes(|log| log[SPEC_ID + 30..][..2].fill(0xff))),
        ("an event with no digest", Rule::Digests, bytes(|log| log[EVENTS + 8] = 0)),
        ("an event with 2^32-1 digests", Rule::Digests, bytes(|log| log[EVENTS + 8..][..4].fill(0xff))),
        ("a digest of another algorithm", Rule::Digests, bytes(|log| log[EVENTS + 12] = 0x0c)),
        (
            "a digest of one algorithm twice",
            Rule::Digests,
            bytes(|log| {
                // As long as one of SHA-1, so that the event can be read.
                let second = EVENTS + 12 + 22;
                log[second] = 4;
                log.drain(second + 2 + 20..second + 2 + 32);
            }),
        ),
        ("an event of PCR 24", Rule::PcrIndex, boot(|boot| boot.events[1].pcr = 24)),
        ("an event of PCR 2^32-1", Rule::PcrIndex, boot(|boot| boot.events[1].pcr = u32::MAX)),
        ("a second Spec ID event", Rule::SpecIdTwice, boot(later(no_action(0, b"Spec ID Event03\0")))),
        (
            "a second Spec ID event of another version",
            Rule::SpecIdTwice,
            boot(later(no_action(0, b"Spec ID Event02\0"))),
        ),
    ]
}

fn replaying() -> Vec<(&'static str, Rule, Forgery)> {
    let place = |boot: &MeasuredBoot| at(boot, 4, BOOT_SERVICES_APPLICATION, &utf16("grubx64"));
    let mut table = vec![
        (
            "44: an event removed",
            Rule::PcrMismatch,
            log(|boot| {
                boot.events.remove(place(boot));
            }),
        ),
        (
            "44: two events of one PCR in the other order",
            Rule::PcrMismatch,
            log(|boot| {
                let (first, second) = (at(boot, 4, BOOT_SERVICES_APPLICATION, &[]), place(boot));
                boot.events.swap(first, second);
            }),
        ),
        (
            "44: a digest changed",
            Rule::PcrMismatch,
            log(|boot| {
                let place = place(boot);
                boot.events[place].measured = Some(b"a genuine one".to_vec());
            }),
        ),
        ("44: an event added", Rule::PcrMismatch, log(later(image("\\more.efi", "more")))),
        (
            "44: an event moved to another PCR",
            Rule::PcrMismatch,
            log(|boot| {
                let place = place(boot);
                boot.events[place].pcr = 9;
            }),
        ),
        (
            "45: all events of a PCR omitted",
            Rule::PcrMismatch,
            log(|boot| boot.events.retain(|event| event.pcr != 14)),
        ),
        ("45: all events omitted", Rule::PcrMismatch, log(|boot| boot.events.clear())),
        (
            "an event said to be extended by nothing",
            Rule::PcrMismatch,
            log(|boot| {
                let place = place(boot);
                boot.events[place].kind = NO_ACTION;
            }),
        ),
        (
            "the log is cut behind the separators",
            Rule::PcrMismatch,
            log(|boot| {
                let last = separator(boot, 7);
                boot.events.truncate(last + 1);
            }),
        ),
        (
            "57: the log of another boot",
            Rule::PcrMismatch,
            log(|boot| {
                let kernel = at(boot, 4, BOOT_SERVICES_APPLICATION, &utf16("vmlinuz"));
                boot.events[kernel] = image("\\vmlinuz-6.1.0-17-amd64", "kernel 6.1.0-17");
            }),
        ),
        ("54: StartupLocality 3 that was 0", Rule::PcrMismatch, log(|boot| boot.events[0] = locality(&[3]))),
        (
            "54: a H-CRTM that there was not",
            Rule::PcrMismatch,
            log(|boot| {
                boot.events.remove(0);
                boot.events[0].kind = 0x8000_0010;
            }),
        ),
        ("54: StartupLocality 1", Rule::StartupLocality, log(|boot| boot.events[0] = locality(&[1]))),
        (
            "54: StartupLocality of 2 bytes",
            Rule::StartupLocality,
            log(|boot| boot.events[0] = locality(&[0, 0])),
        ),
        ("54: StartupLocality of no byte", Rule::StartupLocality, log(|boot| boot.events[0] = locality(&[]))),
        (
            "54: StartupLocality twice",
            Rule::StartupLocality,
            log(|boot| boot.events.insert(0, locality(&[0]))),
        ),
        ("54: StartupLocality after PCR 0 was extended", Rule::StartupLocality, log(later(locality(&[0])))),
        ("54: StartupLocality of PCR 1", Rule::StartupLocality, log(|boot| boot.events[0].pcr = 1)),
        (
            "54: StartupLocality 3 and a H-CRTM",
            Rule::StartupLocality,
            log(|boot| {
                boot.events[0] = locality(&[3]);
                boot.events[1].kind = 0x8000_0010;
            }),
        ),
        (
            "37: a quote of a bank that the log has not",
            Rule::BankNotInLog,
            quote(PcrValues::new(HashAlgorithm::Sha384, [(7, vec![0; 48])].into())),
        ),
        ("CVE-2022-0317: a quote over no PCR", Rule::NoPcr, quote(quoted(&own(), &[]))),
        ("CVE-2022-0317: a quote over PCR 4 alone", Rule::PcrNotQuoted, quote(quoted(&own(), &[4]))),
        ("CVE-2022-0317: a quote without PCR 5", Rule::PcrNotQuoted, quote(quoted(&own(), &[4, 7]))),
        (
            "CVE-2024-29039: the value of PCR 15, replayed to be PCR 7's, and no value of PCR 7",
            Rule::PcrMismatch,
            quote({
                let own = own();
                let values = [(15, own[7].clone()), (7, own[15].clone())].into();
                PcrValues::new(HashAlgorithm::Sha256, values)
            }),
        ),
        (
            "39: a value that is too long",
            Rule::ValueSize,
            quote(PcrValues::new(HashAlgorithm::Sha256, [(7, vec![0; 33])].into())),
        ),
        (
            "37: values of SHA-1 said to be of SHA-256",
            Rule::ValueSize,
            quote(PcrValues::new(HashAlgorithm::Sha256, [(7, vec![0; 20])].into())),
        ),
        (
            "a PCR that D-RTM resets",
            Rule::PcrResettable,
            quote(PcrValues::new(
                HashAlgorithm::Sha256,
                [(7, own()[7].clone()), (17, vec![0xff; 32])].into(),
            )),
        ),
        (
            "an event of a PCR that D-RTM resets",
            Rule::PcrResettable,
            boot(later(SimEvent::of_data(17, IPL, "late"))),
        ),
        ("an event of the debug PCR", Rule::PcrResettable, boot(later(SimEvent::of_data(16, IPL, "debug")))),
    ];
    for pcr in PCRS {
        let mut other = own();
        other[usize::from(pcr)][0] ^= 0x80;
        table.push(("a quoted value is another one", Rule::PcrMismatch, quote(quoted(&other, &PCRS))));
    }
    table
}

/// Firmware that has a SHA-256 bank and does not extend it.
#[test]
fn a_bank_without_measurements_is_refused() {
    let boot = MeasuredBoot::honest();
    let mut log = boot.log();
    for event in boot.events.iter().filter(|event| event.measured.is_some()) {
        let digest = event.digest(SimBank::Sha256);
        let place = log.windows(32).position(|part| part == digest).unwrap();
        log[place..place + 32].fill(0);
    }
    // The TPM is extended with zeros, or not at all.
    let zeros = PCRS.iter().map(|pcr| (*pcr, vec![0; 32])).collect();
    let empty = PcrValues::new(HashAlgorithm::Sha256, zeros).unwrap();
    let mut extended: BTreeMap<u8, Vec<u8>> = PCRS.iter().map(|pcr| (*pcr, vec![0; 32])).collect();
    for event in boot.events.iter().filter(|event| event.measured.is_some()) {
        let value = extended.get_mut(&u8::try_from(event.pcr).unwrap()).unwrap();
        *value = SimBank::Sha256.digest(&[value.as_slice(), &[0; 32]].concat());
    }
    let extended = PcrValues::new(HashAlgorithm::Sha256, extended).unwrap();
    for values in [empty, extended] {
        assert_eq!(judge(&log, &values, &requirements()).unwrap_err().rule, Rule::ZeroDigest);
    }
}

/// All of them: `vectors.rs` writes them down for others.
pub(crate) fn table() -> Vec<(&'static str, Rule, Forgery)> {
    [parsing(), replaying(), data::forgeries(), configuration::forgeries()].into_iter().flatten().collect()
}

#[test]
fn every_forgery_is_refused_by_its_rule() {
    let mut found = BTreeSet::from([Rule::ZeroDigest.code()]);
    let table = table();
    let mut wrong = Vec::new();
    for (name, rule, forgery) in &table {
        match forgery.judged() {
            Err(error) if error.rule == *rule => _ = found.insert(rule.code()),
            other => wrong.push(format!("{name}: {rule} was to refuse it, and it is {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.code()).collect();
    assert_eq!(all.len(), Rule::ALL.len(), "codes are unique");
    assert_eq!(found, all, "each rule has a forgery");
    println!("{} forgeries, {} rules", table.len(), all.len());
}

/// Where not all is wanted, less is refused: the honest boot is refused by no requirement alone either.
#[test]
fn what_is_not_wanted_is_not_demanded() {
    let off = boot(|boot| set(boot, "SecureBoot", GLOBAL, &[0]));
    judge(&off.log, &off.values.unwrap(), &Requirements { secure_boot: false, ..requirements() }).unwrap();
    let disabled = boot(|boot| {
        let place = separator(boot, 7);
        boot.events.insert(place, SimEvent::of_data(7, EFI_ACTION, "DMA Protection Disabled"));
    });
    judge(
        &disabled.log,
        &disabled.values.unwrap(),
        &Requirements { dma_protection: false, ..requirements() },
    )
    .unwrap();
    judge(
        &log_of_honest(),
        &quoted(&own(), &[7]).unwrap(),
        &Requirements { exited: false, ..requirements() },
    )
    .unwrap();
}

/// Shim's own list and MokList may vouch with what is allowed, and need not stand in db.
#[test]
fn shims_own_lists_are_not_the_firmwares() {
    let owned = [&OWNER[..], &certificate("vendor")].concat();
    for event in [
        authority("vendor_db", IMAGE_SECURITY, &owned),
        authority("MokList", SHIM_LOCK, &owned),
        authority("MokList", SHIM_LOCK, &certificate("vendor")),
        // Shim before 15.3 leaves the owner out, and logs six bytes too many, of which it measures five.
        authority("db", IMAGE_SECURITY, &certificate("uefi")),
        {
            let mut event = authority("db", IMAGE_SECURITY, &certificate("uefi"));
            event.measured.as_mut().unwrap().extend([0; 5]);
            event.data.extend([0, 0, 0, 0, 0, 0xaf]);
            event
        },
    ] {
        let more = boot(later(event));
        judge(&more.log, &more.values.unwrap(), &more.wanted).unwrap();
    }
}

#[test]
fn the_page_has_every_code() {
    let page = include_str!("../../../docs/event-log.md");
    for rule in Rule::ALL {
        assert!(page.contains(&format!("| `{}` |", rule.code())), "{rule}");
    }
}
