//! Which TPMs this machine has.

use std::fs;
use std::path::PathBuf;

use undercroft_keymgr::{Error, KeyUri, Sighting, TpmUri};

use crate::esys::Esys;

/// The variable by which tpm2-tools are told where the TPM is (tpm2-tools, common options).
const TOOLS: &str = "TPM2TOOLS_TCTI";

/// TPM_PT_MANUFACTURER and TPM_PT_FIRMWARE_VERSION_1 (TPM 2.0 Part 2, section 6.13).
const MANUFACTURER: u32 = 0x105;
const FIRMWARE: u32 = 0x10b;

/// The TPMs of the kernel, and the one that tpm2-tools use.
pub(crate) fn survey() -> Vec<Sighting> {
    let managed = devices("tpmrm");
    let mut places: Vec<_> = managed.iter().map(|device| format!("device:{}", device.display())).collect();
    places.extend(std::env::var(TOOLS).ok().filter(|place| !places.contains(place)));
    let mut sightings: Vec<_> = places.into_iter().map(look).collect();
    if sightings.is_empty() {
        sightings.push(match devices("tpm").first() {
            Some(device) => Sighting::wanting(
                format!("TPM {}", device.display()),
                "it has no resource manager (/dev/tpmrm0): Linux has one since 4.12, for TPM 2.0 alone",
            ),
            None => Sighting::wanting(
                "TPM",
                "no /dev/tpmrm0: switch the TPM on in the firmware, or add a virtual one to the machine",
            ),
        });
    }
    sightings
}

fn look(place: String) -> Sighting {
    let what = format!("TPM at {place}");
    match identity(&place) {
        Ok(identity) => {
            let uri = TpmUri { handle: None, tcti: Some(place) };
            Sighting::usable(format!("{what}, {identity}"), KeyUri::Tpm(uri))
        }
        Err(error) => Sighting::wanting(
            what,
            format!("{error}; its device belongs to the group `tss`: run as a member of it"),
        ),
    }
}

/// The manufacturer's four letters and the firmware's version.
fn identity(place: &str) -> Result<String, Error> {
    let mut esys = Esys::connect(place)?;
    let properties =
        esys.properties(MANUFACTURER).map_err(|error| error.failed("cannot read the TPM's properties"))?;
    let value = |wanted: u32| {
        properties.iter().find(|(property, _)| *property == wanted).map_or(0, |(_, value)| *value)
    };
    let letters: String =
        value(MANUFACTURER).to_be_bytes().into_iter().filter(u8::is_ascii_graphic).map(char::from).collect();
    let firmware = value(FIRMWARE);
    Ok(format!("{letters}, firmware {}.{}", firmware >> 16, firmware & 0xffff))
}

/// Devices of that name with a number.
fn devices(name: &str) -> Vec<PathBuf> {
    let of_name = |path: &PathBuf| {
        let number = path.file_name().and_then(|file| file.to_str()?.strip_prefix(name));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut found: Vec<_> = fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(of_name)
        .collect();
    found.sort();
    found
}
