//! Types and data that are not what was measured.

use super::*;

pub(super) fn forgeries() -> Vec<(&'static str, Rule, Forgery)> {
    let mut table = Vec::new();
    // 47: the data changed with the digest kept, for each type whose digest is of the data.
    for (pcr, kind, contains) in [
        (0, S_CRTM_VERSION, &b""[..]),
        (4, EFI_ACTION, b""),
        (5, EFI_ACTION, b"Success"),
        (5, GPT_EVENT, b""),
        (7, VARIABLE_DRIVER_CONFIG, b"S\0e\0c"),
        (7, VARIABLE_DRIVER_CONFIG, b"P\0K"),
        (7, VARIABLE_DRIVER_CONFIG, b"d\0b\0x"),
        (7, VARIABLE_AUTHORITY, b"d\0b\0"),
        (7, VARIABLE_AUTHORITY, b"sbat"),
        (4, SEPARATOR, b""),
        (7, SEPARATOR, b""),
    ] {
        table.push((
            "47: data changed",
            Rule::DigestOfData,
            log(|boot| {
                let place = at(boot, pcr, kind, contains);
                *boot.events[place].data.last_mut().unwrap() ^= 1;
            }),
        ));
    }
    let retyped = |pcr, kind, contains: &'static [u8], other| {
        log(move |boot| {
            let place = at(boot, pcr, kind, contains);
            boot.events[place].kind = other;
        })
    };
    table.extend([
        ("46: a variable said to be EV_UNUSED", Rule::EventType, retyped(7, VARIABLE_DRIVER_CONFIG, b"", 2)),
        ("46: a variable said to be something that no type is", Rule::EventType, retyped(7, VARIABLE_DRIVER_CONFIG, b"", 0x8000_00ff)),
        ("46: a variable said to be EV_IPL", Rule::EventType, retyped(7, VARIABLE_DRIVER_CONFIG, b"", IPL)),
        ("46: a variable said to be EV_EFI_VARIABLE_BOOT", Rule::EventType, retyped(7, VARIABLE_DRIVER_CONFIG, b"", 0x8000_0002)),
        ("46: an authority said to be a tag", Rule::EventType, retyped(7, VARIABLE_AUTHORITY, b"", 6)),
        ("46: a boot loader said to be EV_UNUSED", Rule::EventType, retyped(4, BOOT_SERVICES_APPLICATION, b"", 2)),
        ("46: a boot loader said to be an action", Rule::DigestOfData, retyped(4, BOOT_SERVICES_APPLICATION, b"", EFI_ACTION)),
        ("46: a boot loader said to be an action of a BIOS", Rule::DigestOfData, retyped(4, BOOT_SERVICES_APPLICATION, b"", 5)),
        ("46: a boot loader said to be a separator", Rule::DigestOfData, retyped(4, BOOT_SERVICES_APPLICATION, b"", SEPARATOR)),
        ("46: the separator of PCR 7 said to be an action", Rule::DisguisedSeparator, retyped(7, SEPARATOR, b"", EFI_ACTION)),
        ("46: the separator of PCR 4 said to be a boot loader", Rule::DisguisedSeparator, retyped(4, SEPARATOR, b"", BOOT_SERVICES_APPLICATION)),
        (
            "46: Secure Boot was off; its variables are said to be authorities, and the operating system adds others",
            Rule::VariableName,
            retold(
                |boot| {
                    set(boot, "SecureBoot", GLOBAL, &[0]);
                    let honest = MeasuredBoot::honest();
                    let names = ["SecureBoot", "PK", "KEK", "db", "dbx"];
                    // What was measured once cannot be measured again before the separator, whatever the log says.
                    boot.events.extend(names.map(|name| honest.events[config(&honest, name)].clone()));
                },
                |boot| {
                    let separator = separator(boot, 7);
                    for event in boot.events[..separator].iter_mut().filter(|event| event.pcr == 7) {
                        event.kind = VARIABLE_AUTHORITY;
                    }
                    // The fakes go before the separator in the log; the order of PCR 7 is measured, so they come after.
                },
            ),
        ),
        (
            "50: the separator of PCR 7 is missing",
            Rule::Separator,
            boot(|boot| {
                boot.events.remove(separator(boot, 7));
            }),
        ),
        ("50: two separators in PCR 7", Rule::Separator, boot(later(SimEvent::of_data(7, SEPARATOR, [0; 4])))),
        ("50: two separators in PCR 4", Rule::Separator, boot(later(SimEvent::of_data(4, SEPARATOR, [0; 4])))),
        (
            "50: the separator says that the firmware failed",
            Rule::SeparatorValue,
            boot(|boot| {
                let place = separator(boot, 7);
                boot.events[place] = SimEvent::of_data(7, SEPARATOR, [1, 0, 0, 0]);
            }),
        ),
        (
            "50: the separator has 8 bytes",
            Rule::SeparatorValue,
            boot(|boot| {
                let place = separator(boot, 4);
                boot.events[place] = SimEvent::of_data(4, SEPARATOR, [0; 8]);
            }),
        ),
        ("a partition table that is none", Rule::Gpt, boot(later(SimEvent::of_data(5, GPT_EVENT, "EFI PARTY")))),
        ("a partition table with 2^64-1 partitions", Rule::Gpt, boot(|boot| {
            let place = at(boot, 5, GPT_EVENT, &[]);
            let mut table = gpt(1);
            table[92..100].fill(0xff);
            boot.events[place] = SimEvent::of_data(5, GPT_EVENT, table);
        })),
        ("a partition table with entries of no bytes", Rule::Gpt, boot(|boot| {
            let place = at(boot, 5, GPT_EVENT, &[]);
            let mut table = gpt(1);
            table[84..88].fill(0);
            boot.events[place] = SimEvent::of_data(5, GPT_EVENT, table);
        })),
        ("a partition table with more behind it", Rule::Gpt, boot(|boot| {
            let place = at(boot, 5, GPT_EVENT, &[]);
            boot.events[place] = SimEvent::of_data(5, GPT_EVENT, [gpt(1), vec![0]].concat());
        })),
        (
            "a boot loader after the firmware was left, in PCR 5",
            Rule::AfterExit,
            boot(later(SimEvent::of_data(5, GPT_EVENT, gpt(1)))),
        ),
    ]);
    table
}
