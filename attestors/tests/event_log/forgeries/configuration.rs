//! Boots with a Secure Boot that will not do.

use super::*;

pub(super) fn forgeries() -> Vec<(&'static str, Rule, Forgery)> {
    let value =
        |name: &'static str, vendor, value: &'static [u8]| boot(move |boot| set(boot, name, vendor, value));
    let of_list = |change: fn(&mut Vec<u8>)| {
        boot(move |boot| {
            let mut list = signature_list(CERT_X509, &[certificate("uefi")]);
            change(&mut list);
            set(boot, "db", IMAGE_SECURITY, &list);
        })
    };
    let raw = |change: fn(&mut Vec<u8>)| {
        boot(move |boot| {
            let place = config(boot, "SecureBoot");
            let mut data = variable(GLOBAL, "SecureBoot", &[1]);
            change(&mut data);
            boot.events[place] = SimEvent::of_data(7, VARIABLE_DRIVER_CONFIG, data);
        })
    };
    let before = |event: SimEvent| {
        boot(move |boot| {
            let place = separator(boot, 7);
            boot.events.insert(place, event);
        })
    };
    let mut table = vec![
        ("49: Secure Boot off", Rule::SecureBootOff, value("SecureBoot", GLOBAL, &[0])),
        ("49: SecureBoot of 2 bytes", Rule::SecureBootValue, value("SecureBoot", GLOBAL, &[1, 0])),
        ("49: SecureBoot of no byte", Rule::SecureBootValue, value("SecureBoot", GLOBAL, &[])),
        ("49: SecureBoot is 2", Rule::SecureBootValue, value("SecureBoot", GLOBAL, &[2])),
        ("49: SecureBoot of another vendor", Rule::VariableName, value("SecureBoot", SHIM_LOCK, &[1])),
        (
            "db of the vendor of SecureBoot",
            Rule::VariableName,
            boot(|boot| set(boot, "db", GLOBAL, &databases(&["uefi"]))),
        ),
        ("49: SecureBoot twice", Rule::VariableTwice, before(secure_boot("SecureBoot", GLOBAL, &[1]))),
        (
            "49: SecureBoot first off, then on",
            Rule::VariableTwice,
            boot(|boot| {
                let place = config(boot, "SecureBoot");
                boot.events.insert(place, secure_boot("SecureBoot", GLOBAL, &[0]));
            }),
        ),
        (
            "49: SecureBoot after the separator",
            Rule::VariableAfterSeparator,
            boot(|boot| {
                let event = boot.events.remove(config(boot, "SecureBoot"));
                boot.events.push(event);
            }),
        ),
        (
            "dbx again after the separator",
            Rule::VariableAfterSeparator,
            boot(later(secure_boot("dbx", IMAGE_SECURITY, &[]))),
        ),
        ("setup mode", Rule::SetupMode, before(secure_boot("SetupMode", GLOBAL, &[1]))),
        ("audit mode", Rule::SetupMode, before(secure_boot("AuditMode", GLOBAL, &[1]))),
        ("setup mode that is neither", Rule::SecureBootValue, before(secure_boot("SetupMode", GLOBAL, &[2]))),
        ("PK is empty", Rule::EmptyDatabase, value("PK", GLOBAL, &[])),
        ("KEK is empty", Rule::EmptyDatabase, value("KEK", GLOBAL, &[])),
        ("db is empty", Rule::EmptyDatabase, value("db", IMAGE_SECURITY, &[])),
        ("a variable whose name is longer than it", Rule::Variable, raw(|data| data[16] = 0xff)),
        ("a variable whose name has 2^64-1 characters", Rule::Variable, raw(|data| data[16..24].fill(0xff))),
        ("a variable whose value has 2^64-1 bytes", Rule::Variable, raw(|data| data[24..32].fill(0xff))),
        ("a variable with more behind it", Rule::Variable, raw(|data| data.push(0))),
        (
            "a variable whose name is no UTF-16",
            Rule::Variable,
            raw(|data| data[32..34].copy_from_slice(&[0, 0xd8])),
        ),
        ("a list that is longer than the database", Rule::SignatureDatabase, of_list(|list| list[16] ^= 1)),
        ("a list of 2^32-1 bytes", Rule::SignatureDatabase, of_list(|list| list[16..20].fill(0xff))),
        (
            "a list that is shorter than its header",
            Rule::SignatureDatabase,
            of_list(|list| list[16..20].copy_from_slice(&[27, 0, 0, 0])),
        ),
        (
            "a list with a header of 2^32-1 bytes",
            Rule::SignatureDatabase,
            of_list(|list| list[20..24].fill(0xff)),
        ),
        ("a list with entries of no bytes", Rule::SignatureDatabase, of_list(|list| list[24..28].fill(0))),
        ("a list with half an entry", Rule::SignatureDatabase, of_list(|list| list[24] += 1)),
        (
            "hashes of 31 bytes",
            Rule::SignatureDatabase,
            boot(|boot| {
                let list = signature_list(hsm_sim::measured_boot::CERT_SHA256, &[vec![1; 31]]);
                set(boot, "dbx", IMAGE_SECURITY, &list);
            }),
        ),
        (
            "51: nothing vouched",
            Rule::NoAuthority,
            boot(|boot| {
                boot.events.retain(|event| {
                    event.kind != VARIABLE_AUTHORITY || event.data.windows(4).any(|part| part == b"sbat")
                });
            }),
        ),
        (
            "51: something vouched before the separator alone",
            Rule::NoAuthority,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"d\0b\0");
                let event = boot.events.remove(place);
                boot.events.retain(|event| event.kind != VARIABLE_AUTHORITY);
                let place = separator(boot, 7);
                boot.events.insert(place, event);
            }),
        ),
        (
            "what vouched is not in db",
            Rule::AuthorityNotInDb,
            boot(later(authority("db", IMAGE_SECURITY, &[&OWNER[..], &certificate("another")].concat()))),
        ),
        (
            "what vouched is in db with another owner",
            Rule::AuthorityNotInDb,
            boot(later(authority("db", IMAGE_SECURITY, &[&[1; 16][..], &certificate("uefi")].concat()))),
        ),
        (
            "what vouched is not in db, without an owner",
            Rule::AuthorityNotInDb,
            boot(later(authority("db", IMAGE_SECURITY, &certificate("another")))),
        ),
        (
            "an authority whose measured bytes end inside its value",
            Rule::Variable,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"S\0h\0i\0m\0");
                boot.events[place].measured.as_mut().unwrap().pop();
            }),
        ),
        (
            "an authority with 9 bytes too many",
            Rule::DigestOfData,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"S\0h\0i\0m\0");
                boot.events[place].measured.as_mut().unwrap().extend([0; 8]);
                boot.events[place].data.extend([0; 9]);
            }),
        ),
        (
            "what vouched for a driver is not in db",
            Rule::AuthorityNotInDb,
            before(authority("db", IMAGE_SECURITY, &[&OWNER[..], &certificate("another")].concat())),
        ),
        (
            "a list whose entry is an owner alone",
            Rule::SignatureDatabase,
            boot(|boot| set(boot, "db", IMAGE_SECURITY, &signature_list(CERT_X509, &[Vec::new()]))),
        ),
        (
            "an authority of db with an owner alone",
            Rule::AuthorityForm,
            boot(later(authority("db", IMAGE_SECURITY, &OWNER))),
        ),
        (
            "an authority of shim that is empty",
            Rule::AuthorityForm,
            boot(later(authority("Shim", SHIM_LOCK, &[]))),
        ),
        (
            "an authority from PK",
            Rule::VariableName,
            boot(later(authority("PK", GLOBAL, &certificate("platform")))),
        ),
        (
            "an authority from dbx",
            Rule::VariableName,
            boot(later(authority("dbx", IMAGE_SECURITY, &certificate("uefi")))),
        ),
        (
            "an authority of a stranger",
            Rule::VariableName,
            boot(later(authority("db", [9; 16], &certificate("uefi")))),
        ),
        (
            "53: a firmware debugger",
            Rule::DebugMode,
            before(SimEvent::of_data(7, EFI_ACTION, "UEFI Debug Mode")),
        ),
        (
            "53: a firmware debugger, after the separator",
            Rule::DebugMode,
            boot(later(SimEvent::of_data(7, EFI_ACTION, "UEFI Debug Mode"))),
        ),
        (
            "53: a firmware debugger, said to be a variable",
            Rule::Variable,
            retold(
                |boot| {
                    let place = separator(boot, 7);
                    boot.events.insert(place, SimEvent::of_data(7, EFI_ACTION, "UEFI Debug Mode"));
                },
                |boot| {
                    let place = at(boot, 7, EFI_ACTION, b"Debug");
                    boot.events[place].kind = VARIABLE_DRIVER_CONFIG;
                },
            ),
        ),
        (
            "an action of PCR 7 that nobody knows",
            Rule::Action,
            before(SimEvent::of_data(7, EFI_ACTION, "UEFI Debug Mode ")),
        ),
        (
            "an action of PCR 7 that is no text",
            Rule::Action,
            before(SimEvent::of_data(7, EFI_ACTION, [0xff, 0xfe])),
        ),
        (
            "DMA protection disabled",
            Rule::DmaProtection,
            before(SimEvent::of_data(7, EFI_ACTION, "DMA Protection Disabled")),
        ),
        (
            "a second SbatLevel, by the operating system",
            Rule::Sbat,
            boot(later(authority("SbatLevel", SHIM_LOCK, b"sbat,1,2030\nshim,9\ngrub,9\n"))),
        ),
        (
            "an SbatLevel without its own line",
            Rule::Sbat,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"sbat");
                boot.events[place] = authority("SbatLevel", SHIM_LOCK, b"shim,2\ngrub,3\n");
            }),
        ),
        (
            "an SbatLevel with a component twice",
            Rule::Sbat,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"sbat");
                boot.events[place] = authority("SbatLevel", SHIM_LOCK, b"sbat,1\nshim,1\nshim,2\ngrub,3\n");
            }),
        ),
        (
            "an SbatLevel of 2^32",
            Rule::Sbat,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"sbat");
                boot.events[place] = authority("SbatLevel", SHIM_LOCK, b"sbat,1\nshim,4294967296\ngrub,3\n");
            }),
        ),
        (
            "SbatLevel is missing",
            Rule::SbatTooLow,
            boot(|boot| {
                let place = at(boot, 7, VARIABLE_AUTHORITY, b"sbat");
                boot.events.remove(place);
            }),
        ),
        (
            "SbatLevel is too low",
            Rule::SbatTooLow,
            wanting(|wanted| wanted.sbat = SbatLevel([("grub".to_owned(), 4)].into())),
        ),
        (
            "SbatLevel knows nothing of a component",
            Rule::SbatTooLow,
            wanting(|wanted| wanted.sbat = SbatLevel([("systemd".to_owned(), 1)].into())),
        ),
        ("52: dbx lacks a hash", Rule::DbxLacks, wanting(|wanted| wanted.forbidden = hashes(79))),
        ("52: dbx is empty", Rule::DbxLacks, value("dbx", IMAGE_SECURITY, &[])),
        (
            "db has more than is allowed",
            Rule::DbNotAllowed,
            boot(|boot| set(boot, "db", IMAGE_SECURITY, &databases(&["windows", "uefi", "mine"]))),
        ),
        (
            "another vendor's shim",
            Rule::AuthorityNotAllowed,
            boot(later(authority("Shim", SHIM_LOCK, &certificate("mine")))),
        ),
        (
            "a key of the machine's owner",
            Rule::AuthorityNotAllowed,
            boot(later(authority("MokList", SHIM_LOCK, &certificate("owner")))),
        ),
        (
            "a key of the machine's owner, with an owner that looks like a certificate",
            Rule::AuthorityNotAllowed,
            boot(later(authority(
                "MokList",
                SHIM_LOCK,
                &[&certificate("owner")[..16], &certificate("owner")].concat(),
            ))),
        ),
        (
            "a vendor_db of somebody",
            Rule::AuthorityNotAllowed,
            boot(later(authority("vendor_db", IMAGE_SECURITY, &[&OWNER[..], &certificate("mine")].concat()))),
        ),
        (
            "a driver's authority that may not",
            Rule::AuthorityNotAllowed,
            before(authority("db", IMAGE_SECURITY, &[&OWNER[..], &certificate("windows")].concat())),
        ),
        (
            "the firmware was not left",
            Rule::NoExit,
            boot(|boot| {
                let place = at(boot, 5, EFI_ACTION, b"Success");
                boot.events.remove(place);
            }),
        ),
        (
            "leaving the firmware failed",
            Rule::NoExit,
            boot(|boot| {
                let place = at(boot, 5, EFI_ACTION, b"Success");
                boot.events[place] =
                    SimEvent::of_data(5, EFI_ACTION, "Exit Boot Services Returned with Failure");
            }),
        ),
    ];
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        table.push((
            "49: a variable is missing",
            Rule::VariableMissing,
            boot(|boot| {
                boot.events.remove(config(boot, name));
            }),
        ));
    }
    table
}
