use hsm_sim::measured_boot::{
    CERT_SHA256, GLOBAL, IMAGE_SECURITY, MeasuredBoot, NO_ACTION, OWNER, SHIM_LOCK, SimBank, SimEvent,
    VARIABLE_AUTHORITY, VARIABLE_BOOT, VARIABLE_DRIVER_CONFIG, certificate, command, image, revoked,
    secure_boot, signature_list, variable,
};
use undercroft_attestors::tpm::event_log::{ChangeKind, EventLog, changes};

use crate::{quoted, verified};

fn said(after: &MeasuredBoot) -> Vec<String> {
    let changes = changes(&verified(&MeasuredBoot::honest()), &verified(after));
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_same_boot_has_no_changes() {
    assert_eq!(said(&MeasuredBoot::honest()), Vec::<String>::new());
}

#[test]
fn another_boot_loader_is_named_by_its_path_with_both_digests() {
    let mut boot = MeasuredBoot::honest();
    let grub = boot.position(
        4,
        0x8000_0003,
        &"grubx64".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
    );
    boot.events[grub.unwrap()] = image("\\EFI\\debian\\grubx64.efi", "grub, patched");
    let digest = |text: &str| hex::encode(hsm_sim::measured_boot::SimBank::Sha256.digest(text.as_bytes()));
    assert_eq!(
        said(&boot),
        [format!(
            "PCR 4: the boot image that the log calls PciRoot(0)/Pci(1d,0)/NVMe(1)/HD(2,GPT,42424242-4242-4242-4242-424242424242)/\\EFI\\debian\\grubx64.efi changed from {} to {}",
            digest("grub"),
            digest("grub, patched")
        )]
    );
}

#[test]
fn an_update_of_dbx_and_sbat_says_how_much() {
    let mut boot = MeasuredBoot::honest();
    let dbx = boot.position(7, VARIABLE_DRIVER_CONFIG, b"d\0b\0x\0").unwrap();
    boot.events[dbx] = secure_boot("dbx", IMAGE_SECURITY, &signature_list(CERT_SHA256, &revoked(100)[3..]));
    let sbat = boot.position(7, VARIABLE_AUTHORITY, b"sbat,1").unwrap();
    boot.events[sbat] = SimEvent::of_data(
        7,
        VARIABLE_AUTHORITY,
        variable(SHIM_LOCK, "SbatLevel", b"sbat,1,2024010900\nshim,4\n"),
    );
    let said = said(&boot);
    assert!(said[0].starts_with("PCR 7: the variable dbx changed from "), "{said:?}");
    assert!(said[0].ends_with("(22 entries more, 3 entries less)"), "{said:?}");
    assert!(
        said[1].ends_with("(from \"sbat,1,2023012900 shim,2 grub,3\" to \"sbat,1,2024010900 shim,4\")"),
        "{said:?}"
    );
    assert_eq!(said.len(), 2);
}

#[test]
fn secure_boot_turned_off_and_a_command_line_changed_are_told() {
    let mut boot = MeasuredBoot::honest();
    let variable = boot.position(7, VARIABLE_DRIVER_CONFIG, b"S\0e\0c\0").unwrap();
    boot.events[variable] = secure_boot("SecureBoot", GLOBAL, &[0]);
    let line = boot.position(8, 0xd, b"kernel_cmdline").unwrap();
    boot.events[line] = command("kernel_cmdline", "/vmlinuz init=/bin/sh");
    let said = said(&boot);
    assert!(
        said[0].contains("the variable SecureBoot changed") && said[0].ends_with("(from 1 to 0)"),
        "{said:?}"
    );
    assert!(said[1].contains("the kernel's command line changed"), "{said:?}");
    assert!(said[1].ends_with("to \"/vmlinuz init=/bin/sh\")"), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[test]
fn what_is_new_or_gone_or_in_another_order_is_told() {
    let mut boot = MeasuredBoot::honest();
    let gone = boot.position(8, 0xd, b"insmod lvm").unwrap();
    boot.events.remove(gone);
    boot.events.push(image("\\evil.efi", "evil"));
    let mok = boot.position(14, 0xd, b"MokList\0").unwrap();
    boot.events.swap(mok, mok + 1);
    let said = said(&boot);
    assert!(said[0].contains("\\evil.efi is new, with "), "{said:?}");
    assert!(said[1].starts_with("PCR 8: the text \"insmod lvm\" (grub_cmd) is gone, which had "), "{said:?}");
    assert_eq!(said[2], "PCR 14: the events came in another order");
    assert_eq!(said.len(), 3);
}

#[test]
fn a_pcr_that_was_quoted_once_is_not_compared() {
    let boot = MeasuredBoot::honest();
    let values = boot.values(hsm_sim::measured_boot::SimBank::Sha256, 0);
    let log = EventLog::parse(&boot.log()).unwrap();
    let [few, fewer] = [[4_u8, 7], [5, 7]].map(|pcrs| log.verify(&quoted(&values, &pcrs).unwrap()).unwrap());
    let told = changes(&few, &fewer);
    assert_eq!(told.iter().map(|change| change.pcr).collect::<Vec<_>>(), [4, 5]);
    assert!(told.iter().all(|change| change.kind == ChangeKind::NotCompared));
}

/// The SbatLevel is text; what vouched is not.
#[test]
fn another_entry_of_db_that_vouched_has_no_text() {
    let mut boot = MeasuredBoot::honest();
    let vouched = boot.position(7, VARIABLE_AUTHORITY, &certificate("uefi")).unwrap();
    let entry = [&OWNER[..], &certificate("windows")].concat();
    boot.events[vouched] = SimEvent::of_data(7, VARIABLE_AUTHORITY, variable(IMAGE_SECURITY, "db", &entry));
    let said = said(&boot);
    assert!(
        said[0].starts_with("PCR 7: the entry of db that vouched for an image changed from "),
        "{said:?}"
    );
    assert!(!said[0].contains("(from"), "{said:?}");
    assert_eq!(said.len(), 1);
}

/// PCR 0 starts with the locality of TPM2_Startup, and the other PCRs with zeros.
#[test]
fn another_locality_of_startup_is_a_change_of_pcr_0_alone() {
    let from = |locality: u8| {
        let mut boot = MeasuredBoot::honest();
        let told = boot.position(0, NO_ACTION, b"StartupLocality").unwrap();
        *boot.events[told].data.last_mut().unwrap() = locality;
        // Two images of PCR 4 in another order, in one of both.
        if locality == 3 {
            let images: Vec<_> =
                (0..boot.events.len()).filter(|at| boot.events[*at].kind == 0x8000_0003).collect();
            boot.events.swap(images[0], images[1]);
        }
        let values = quoted(&boot.values(SimBank::Sha256, locality), &crate::PCRS).unwrap();
        EventLog::parse(&boot.log()).unwrap().verify(&values).unwrap()
    };
    let said: Vec<_> = changes(&from(0), &from(3)).iter().map(ToString::to_string).collect();
    assert!(
        said[0].starts_with("PCR 0: TPM2_Startup") && said[0].ends_with("(locality 0 before, 3 now)"),
        "{said:?}"
    );
    assert!(said[1].starts_with("PCR 4: the events") && !said[1].contains("locality"), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
}

/// A variable that was measured whole is verified with its name; where the value alone was measured, the name is what the log says.
#[test]
fn a_boot_variable_is_named_as_far_as_it_was_measured() {
    const ORDER: &[u8] = b"B\0o\0o\0t\0O\0r\0d\0e\0r\0";
    let of = |event: SimEvent| {
        let mut boot = MeasuredBoot::honest();
        let order = boot.position(1, VARIABLE_BOOT, ORDER).unwrap();
        boot.events[order] = event;
        boot
    };
    let value = [1, 0, 0, 0];
    let told = variable(GLOBAL, "BootOrder", &value);
    let whole = of(SimEvent::of_data(1, VARIABLE_BOOT, told.clone()));
    let alone = of(SimEvent::of(1, VARIABLE_BOOT, told.clone(), value));
    let neither = of(SimEvent::of(1, VARIABLE_BOOT, told, *b"something else"));
    let names = |boot: &MeasuredBoot| -> Vec<String> {
        changes(&verified(&MeasuredBoot::honest()), &verified(boot))
            .into_iter()
            .map(|change| change.component)
            .collect()
    };
    let (verified_name, told_name) = ("the variable BootOrder", "the variable that the log calls BootOrder");
    assert_eq!(names(&whole), [verified_name]);
    let alone = names(&alone);
    assert!(alone.contains(&told_name.to_owned()) && alone.contains(&verified_name.to_owned()), "{alone:?}");
    let neither = names(&neither);
    assert!(neither.iter().any(|name| name.ends_with("that the log calls BootOrder")), "{neither:?}");
    assert!(!neither.contains(&told_name.to_owned()), "{neither:?}");
}
