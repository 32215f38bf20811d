//! A synthetic measured boot: what UEFI firmware, shim, GRUB and Linux would log and extend, about 120 events.
//!
//! It is written after the specification (TCG "PC Client Platform Firmware Profile", 1.05) and after recorded logs, and not
//! after our parser, with which it shares no code. `tpm2_eventlog` reads it, and a swtpm that is extended with it
//! ([`MeasuredBoot::extends`]) can be quoted.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, digest};

/// EFI_GLOBAL_VARIABLE.
pub const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
pub const IMAGE_SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// SHIM_LOCK_GUID.
pub const SHIM_LOCK: [u8; 16] =
    [0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23];
/// EFI_CERT_X509_GUID.
pub const CERT_X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// EFI_CERT_SHA256_GUID.
pub const CERT_SHA256: [u8; 16] =
    [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];
/// Who owns the entries of the databases: nobody in particular.
pub const OWNER: [u8; 16] = [0x77; 16];

/// EV_POST_CODE.
pub const POST_CODE: u32 = 0x1;
/// EV_NO_ACTION.
pub const NO_ACTION: u32 = 0x3;
/// EV_SEPARATOR.
pub const SEPARATOR: u32 = 0x4;
/// EV_EVENT_TAG.
pub const EVENT_TAG: u32 = 0x6;
/// EV_S_CRTM_CONTENTS.
pub const S_CRTM_CONTENTS: u32 = 0x7;
/// EV_S_CRTM_VERSION.
pub const S_CRTM_VERSION: u32 = 0x8;
/// EV_PLATFORM_CONFIG_FLAGS.
pub const PLATFORM_CONFIG_FLAGS: u32 = 0xa;
/// EV_IPL.
pub const IPL: u32 = 0xd;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_VARIABLE_BOOT.
pub const VARIABLE_BOOT: u32 = 0x8000_0002;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
pub const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_BOOT_SERVICES_DRIVER.
pub const BOOT_SERVICES_DRIVER: u32 = 0x8000_0004;
/// EV_EFI_GPT_EVENT.
pub const GPT_EVENT: u32 = 0x8000_0006;
/// EV_EFI_ACTION.
pub const EFI_ACTION: u32 = 0x8000_0007;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB.
pub const PLATFORM_FIRMWARE_BLOB: u32 = 0x8000_0008;
/// EV_EFI_VARIABLE_AUTHORITY.
pub const VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

/// A PCR bank that the boot extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimBank {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl SimBank {
    /// TPM_ALG_ID.
    pub fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// What tpm2-tools call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
        }
    }

    /// The digest of some bytes.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        digest(self.algorithm(), bytes).as_ref().to_vec()
    }
}

/// Something that firmware measured and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimEvent {
    /// The PCR that is extended.
    pub pcr: u32,
    /// TCG_EVENTTYPE.
    pub kind: u32,
    /// What is logged.
    pub data: Vec<u8>,
    /// What is hashed; none if nothing is extended, and the digests are zero.
    pub measured: Option<Vec<u8>>,
}

impl SimEvent {
    /// An event whose digest is that of its data.
    pub fn of_data(pcr: u32, kind: u32, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self { pcr, kind, measured: Some(data.clone()), data }
    }

    /// An event whose digest is that of something else.
    pub fn of(pcr: u32, kind: u32, data: impl Into<Vec<u8>>, measured: impl Into<Vec<u8>>) -> Self {
        Self { pcr, kind, data: data.into(), measured: Some(measured.into()) }
    }

    /// What it extends a bank with.
    pub fn digest(&self, bank: SimBank) -> Vec<u8> {
        match &self.measured {
            Some(measured) => bank.digest(measured),
            None => vec![0; bank.digest(&[]).len()],
        }
    }
}

/// A boot, as the list of what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredBoot {
    /// The banks that are extended.
    pub banks: Vec<SimBank>,
    /// What was measured, in order.
    pub events: Vec<SimEvent>,
}

impl MeasuredBoot {
    /// An honest boot with Secure Boot: firmware, shim, GRUB and a Linux kernel, none of them special.
    pub fn honest() -> Self {
        let mut events = firmware();
        events.extend((0..8).map(|pcr| SimEvent::of_data(pcr, SEPARATOR, [0; 4])));
        events.extend(loaders());
        Self { banks: vec![SimBank::Sha1, SimBank::Sha256], events }
    }

    /// The log, as firmware writes it.
    pub fn log(&self) -> Vec<u8> {
        let mut data = b"Spec ID Event03\0".to_vec();
        data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        data.extend(u32::try_from(self.banks.len()).unwrap_or(0).to_le_bytes());
        for bank in &self.banks {
            data.extend(bank.id().to_le_bytes());
            data.extend(u16::try_from(bank.digest(&[]).len()).unwrap_or(0).to_le_bytes());
        }
        data.push(0);
        let mut log = vec![0, 0, 0, 0, 3, 0, 0, 0];
        log.extend([0; 20]);
        push_sized(&mut log, &data);
        for event in &self.events {
            log.extend(event.pcr.to_le_bytes());
            log.extend(event.kind.to_le_bytes());
            log.extend(u32::try_from(self.banks.len()).unwrap_or(0).to_le_bytes());
            for bank in &self.banks {
                log.extend(bank.id().to_le_bytes());
                log.extend(event.digest(*bank));
            }
            push_sized(&mut log, &event.data);
        }
        log
    }

    /// The values of PCRs 0 to 15 after the boot, for a TPM that was started at `locality`.
    pub fn values(&self, bank: SimBank, locality: u8) -> Vec<Vec<u8>> {
        let mut values = vec![vec![0; bank.digest(&[]).len()]; 16];
        if let Some(last) = values[0].last_mut() {
            *last = locality;
        }
        for event in self.events.iter().filter(|event| event.measured.is_some()) {
            if let Some(value) = values.get_mut(event.pcr as usize) {
                value.extend(event.digest(bank));
                *value = bank.digest(value);
            }
        }
        values
    }

    /// The arguments for `tpm2_pcrextend` that extend a TPM with the boot.
    pub fn extends(&self) -> Vec<String> {
        let hexadecimal =
            |bank: SimBank, event: &SimEvent| format!("{}={}", bank.name(), hex::encode(event.digest(bank)));
        let of = |event: &SimEvent| {
            let digests: Vec<_> = self.banks.iter().map(|bank| hexadecimal(*bank, event)).collect();
            format!("{}:{}", event.pcr, digests.join(","))
        };
        self.events.iter().filter(|event| event.measured.is_some()).map(of).collect()
    }

    /// Where the first event is of a PCR and type whose data contains something.
    pub fn position(&self, pcr: u32, kind: u32, contains: &[u8]) -> Option<usize> {
        self.events.iter().position(|event| {
            event.pcr == pcr
                && event.kind == kind
                && (contains.is_empty() || event.data.windows(contains.len()).any(|part| part == contains))
        })
    }
}

fn firmware() -> Vec<SimEvent> {
    let locality = [b"StartupLocality\0".as_slice(), &[0]].concat();
    let mut events = vec![
        SimEvent { pcr: 0, kind: NO_ACTION, data: locality, measured: None },
        SimEvent::of_data(0, S_CRTM_VERSION, utf16("Undercroft Simulated Firmware 1.0\0")),
        SimEvent::of(
            0,
            PLATFORM_FIRMWARE_BLOB,
            [[0, 0, 0xa9, 0xff, 0, 0, 0, 0], [0, 0, 0x35, 0, 0, 0, 0, 0]].concat(),
            "PEI",
        ),
        SimEvent::of(
            0,
            PLATFORM_FIRMWARE_BLOB,
            [[0, 0, 0x80, 0xff, 0, 0, 0, 0], [0, 0, 0x29, 0, 0, 0, 0, 0]].concat(),
            "DXE",
        ),
        SimEvent::of(0, POST_CODE, "ACPI DATA", "tables"),
        secure_boot("SecureBoot", GLOBAL, &[1]),
        secure_boot("PK", GLOBAL, &signature_list(CERT_X509, &[certificate("platform")])),
        secure_boot("KEK", GLOBAL, &signature_list(CERT_X509, &[certificate("exchange")])),
        secure_boot("db", IMAGE_SECURITY, &databases(&["windows", "uefi"])),
        secure_boot("dbx", IMAGE_SECURITY, &signature_list(CERT_SHA256, &revoked(78))),
    ];
    for table in 0..4 {
        events.push(SimEvent::of(1, PLATFORM_CONFIG_FLAGS, "ACPI DATA", format!("table {table}")));
    }
    events.push(SimEvent::of_data(
        1,
        VARIABLE_BOOT,
        variable(GLOBAL, "BootOrder", &[3, 0, 0, 0, 1, 0, 2, 0]),
    ));
    for entry in 0..4 {
        let option = [&[1, 0, 0, 0], utf16(&format!("Option {entry}\0")).as_slice()].concat();
        let name = format!("Boot{entry:04X}");
        // As EDK 2 does it: the value alone is measured.
        events.push(SimEvent::of(1, VARIABLE_BOOT, variable(GLOBAL, &name, &option), option));
    }
    for rom in 1..3 {
        let path =
            [node(2, 1, &[0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0]), node(1, 1, &[0, rom]), node(4, 8, &[0; 20])];
        events.push(SimEvent::of(2, BOOT_SERVICES_DRIVER, image_load(&path.concat()), format!("rom {rom}")));
    }
    events.push(SimEvent::of_data(4, EFI_ACTION, "Calling EFI Application from Boot Option"));
    events
}

fn loaders() -> Vec<SimEvent> {
    let authority = |name: &str, vendor, value: &[u8]| {
        SimEvent::of_data(7, VARIABLE_AUTHORITY, variable(vendor, name, value))
    };
    let mut events = vec![
        authority("db", IMAGE_SECURITY, &[&OWNER[..], &certificate("uefi")].concat()),
        SimEvent::of_data(5, GPT_EVENT, gpt(3)),
        image("\\EFI\\debian\\shimx64.efi", "shim"),
        SimEvent::of(14, IPL, "MokList\0", "list"),
        SimEvent::of(14, IPL, "MokListX\0", "list x"),
        authority("SbatLevel", SHIM_LOCK, b"sbat,1,2023012900\nshim,2\ngrub,3\n"),
        SimEvent::of(14, IPL, "MokListTrusted\0", "trusted"),
        authority("Shim", SHIM_LOCK, &certificate("vendor")),
        image("\\EFI\\debian\\grubx64.efi", "grub"),
        SimEvent::of(9, IPL, "/EFI/debian/grub.cfg\0", "search and prefix"),
    ];
    for module in ["part_gpt", "ext2", "lvm", "gzio", "crypto", "gettext", "font"] {
        events.push(command("grub_cmd", &format!("insmod {module}")));
        events.push(SimEvent::of(9, IPL, format!("/grub/x86_64-efi/{module}.mod\0"), module));
    }
    for number in 0..54 {
        events.push(command("grub_cmd", &format!("set parameter_{number}={number}")));
    }
    events.extend([
        command("grub_cmd", "linux /vmlinuz-6.1.0-18-amd64 root=/dev/vda1 ro quiet"),
        image("\\vmlinuz-6.1.0-18-amd64", "kernel 6.1.0-18"),
        SimEvent::of(9, IPL, "/vmlinuz-6.1.0-18-amd64\0", "kernel file 6.1.0-18"),
        command("kernel_cmdline", "/vmlinuz-6.1.0-18-amd64 root=/dev/vda1 ro quiet"),
        SimEvent::of(9, IPL, "/initrd.img-6.1.0-18-amd64\0", "initrd 6.1.0-18"),
        SimEvent::of(
            9,
            EVENT_TAG,
            [&[0xed, 0x22, 0x3b, 0x8f, 0x1a, 0, 0, 0], &b"LOADED_IMAGE::LoadOptions\0"[..]].concat(),
            "options",
        ),
        SimEvent::of_data(5, EFI_ACTION, "Exit Boot Services Invocation"),
        SimEvent::of_data(5, EFI_ACTION, "Exit Boot Services Returned with Success"),
    ]);
    events
}

/// A variable of Secure Boot's configuration, in PCR 7.
pub fn secure_boot(name: &str, vendor: [u8; 16], value: &[u8]) -> SimEvent {
    SimEvent::of_data(7, VARIABLE_DRIVER_CONFIG, variable(vendor, name, value))
}

/// An image that is booted, in PCR 4, from a path on the second partition of a NVMe disk.
pub fn image(path: &str, contents: &str) -> SimEvent {
    let partition = [&[2, 0, 0, 0][..], &[0; 16], &[0x42; 16], &[2, 2]].concat();
    let path = [
        node(2, 1, &[0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0]),
        node(1, 1, &[0, 0x1d]),
        node(3, 23, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        node(4, 1, &partition),
        node(4, 4, &utf16(&format!("{path}\0"))),
    ];
    SimEvent::of(4, BOOT_SERVICES_APPLICATION, image_load(&path.concat()), contents)
}

/// A text of GRUB's, in PCR 8.
pub fn command(label: &str, text: &str) -> SimEvent {
    SimEvent::of(8, IPL, format!("{label}: {text}\0"), text)
}

/// UEFI_VARIABLE_DATA.
pub fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let mut data = vendor.to_vec();
    data.extend((name.len() as u64 / 2).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    [data.as_slice(), &name, value].concat()
}

/// An EFI_SIGNATURE_LIST of entries that are equally long.
pub fn signature_list(kind: [u8; 16], entries: &[Vec<u8>]) -> Vec<u8> {
    let size = 16 + entries.first().map_or(0, Vec::len);
    let mut list = kind.to_vec();
    for field in [28 + size * entries.len(), 0, size] {
        list.extend(u32::try_from(field).unwrap_or(u32::MAX).to_le_bytes());
    }
    for entry in entries {
        list.extend(OWNER);
        list.extend(entry);
    }
    list
}

/// A list for each certificate.
pub fn databases(names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| signature_list(CERT_X509, &[certificate(name)])).collect()
}

/// What stands for a certificate: a SEQUENCE of the length of one, with nothing sensible in it.
pub fn certificate(name: &str) -> Vec<u8> {
    let filler: Vec<u8> =
        (0..25).flat_map(|part| SimBank::Sha256.digest(format!("{name} {part}").as_bytes())).collect();
    [&[0x30, 0x82, 0x03, 0x20][..], &filler].concat()
}

/// The hashes of so many images that are revoked.
pub fn revoked(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| SimBank::Sha256.digest(format!("revoked {number}").as_bytes())).collect()
}

/// UEFI_GPT_DATA with so many partitions.
pub fn gpt(partitions: u8) -> Vec<u8> {
    let mut table = b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec();
    table.extend([0; 40]);
    table.extend([0xd1; 16]);
    table.extend([2, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
    table.extend(u64::from(partitions).to_le_bytes());
    for number in 0..partitions {
        table.extend([0xc1; 16]);
        table.extend([number + 1; 16]);
        table.extend((u64::from(number) * 1000 + 2048).to_le_bytes());
        table.extend((u64::from(number) * 1000 + 3047).to_le_bytes());
        table.extend([0; 80]);
    }
    table
}

/// UEFI_IMAGE_LOAD_EVENT.
fn image_load(path: &[u8]) -> Vec<u8> {
    let mut event =
        [0x18, 0x40, 0x12, 0xb6, 0, 0, 0, 0, 0xd5, 0x79, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    let path = [path, &node(0x7f, 0xff, &[])].concat();
    event.extend((path.len() as u64).to_le_bytes());
    event.extend(path);
    event
}

fn node(kind: u8, subkind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX).to_le_bytes();
    [&[kind, subkind], &length[..], data].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn push_sized(out: &mut Vec<u8>, data: &[u8]) {
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(data);
}
