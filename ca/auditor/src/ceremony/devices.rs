//! Devices: as they said of themselves, with what the plan says and what the keys' evidence says.

use std::collections::BTreeMap;

use undercroft_ca::plan::{Mode, Plan, PlannedDevice};
use undercroft_log::leaf::Key;

use super::order::Replay;
use super::record::Transcript;
use super::verdict::{Checks, Subject};

/// The format of evidence that names the token.
const PKCS11: &str = "pkcs11-attributes-v1";

/// What a device said of itself: `<name>: <model>, firmware <version>, serial <number>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) model: String,
    pub(crate) firmware: String,
    pub(crate) serial: String,
}

impl Told {
    /// Reads what an entry says, for one of the plan's devices.
    fn parse(text: &str) -> Option<(&str, Self)> {
        let (name, rest) = text.split_once(": ")?;
        // A model may have commas in it; what stands behind it has not.
        let (rest, serial) = rest.rsplit_once(", serial ")?;
        let (model, firmware) = rest.rsplit_once(", firmware ")?;
        let told = Self { model: model.to_owned(), firmware: firmware.to_owned(), serial: serial.to_owned() };
        Some((name, told)).filter(|(_, told)| !told.serial.trim().is_empty())
    }
}

/// Judges the devices; gives what each said of itself, by its name in the plan.
pub(crate) fn judge(plan: &Plan, replay: &Replay<'_>, checks: &mut Checks) -> BTreeMap<String, Told> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let Some(terms) = plan.terms() else {
        checks.not_applicable(Subject::Devices, "the plan names no devices");
        return told;
    };
    for (entry, text) in &replay.devices {
        let Some((name, device)) = Told::parse(text) else {
            let what = "it does not say name, model, firmware and serial number of a device";
            checks.entry(Subject::Devices, entry.index, "device-unplanned", what);
            continue;
        };
        let Some(planned) = terms.devices.iter().find(|planned| planned.name == name) else {
            let what = format!("the device `{name}` is not in the plan");
            checks.entry(Subject::Devices, entry.index, "device-unplanned", what);
            continue;
        };
        let PlannedDevice { model, firmware, .. } = planned;
        if plan.mode() == Mode::Production && (model, firmware) != (&device.model, &device.firmware) {
            let what = format!(
                "the device `{name}` is a {}, firmware {}, and the plan says {model}, firmware {firmware}",
                device.model, device.firmware
            );
            checks.entry(Subject::Devices, entry.index, "device-model", what);
        }
        match told.get(name) {
            Some(before) if *before != device => {
                let what = format!("the device `{name}` was another one before: serial {}", before.serial);
                checks.entry(Subject::Devices, entry.index, "device-twice", what);
            }
            _ => drop(told.insert(name.to_owned(), device)),
        }
    }
    for planned in terms.devices.iter().filter(|planned| !told.contains_key(&planned.name)) {
        let what = format!("the device `{}` of the plan was never recognised", planned.name);
        checks.wrong(Subject::Devices, "device-missing", what);
    }
    let shown: Vec<_> = told
        .iter()
        .map(|(name, it)| format!("{name}: {}, firmware {}, serial {}", it.model, it.firmware, it.serial))
        .collect();
    checks.compared(Subject::Devices, shown.join("; "));
    told
}

/// The serial number of the token in a key's evidence, where its format names one.
pub(crate) fn serial(transcript: &Transcript<'_>, key: &Key) -> Option<String> {
    if key.format != PKCS11 {
        return None;
    }
    let evidence = transcript.evidence(key).ok().flatten()?;
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).ok()?;
    Some(evidence["token"]["serial"].as_str()?.to_owned())
}
