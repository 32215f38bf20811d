//! `attest --dry-run`: what would be sent, and to nobody.

use serde_json::{Value, json};
use undercroft_attestors::exchange::{Answer, BankName, Wanted, WantedBank};
use undercroft_attestors::tpm::event_log::{Boot, EventLog, PcrValues, SecureBoot};
use undercroft_ca::serial::Entropy;
use undercroft_cli::{Failure, Terminal};
use undercroft_keymgr::EndorsementKey;
use undercroft_log::leaf::Digest;
use undercroft_tpm::NodeTpm;
use undercroft_tpm_wire::attest::Attest;
use undercroft_tpm_wire::{HashAlgorithm, PublicArea};

use crate::config::Config;
use crate::evidence::{Evidence, read_event_log};

/// What firmware, boot loader and shim extend.
const OF_BOOT: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];

/// Makes the evidence, for an exchange with a transcript that nobody has, and shows it.
///
/// # Errors
/// The TPM is missing or does not do it.
pub fn show(config: &Config, entropy: &dyn Entropy, terminal: &Terminal) -> Result<(), Failure> {
    let mut tpm = NodeTpm::open(config.tcti.as_deref())?;
    let endorsements = tpm.endorsements()?;
    let keys = endorsements.iter().map(endorsement).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = endorsements.into_iter().next() else {
        return Err(Failure::failed("the TPM has no endorsement key"));
    };
    let mut transcript = [0; 32];
    entropy.fill(&mut transcript).map_err(|error| Failure::failed(error.to_string()))?;
    let key = tpm.create_key()?;
    let attests =
        PublicArea::parse(&tpm.attestation_key()?).map_err(|error| Failure::failed(error.to_string()))?;
    let mut evidence = Evidence::new(tpm, first, key, config.event_log.clone());
    let hello = evidence.hello(&config.domain)?;
    let pcrs = vec![WantedBank { bank: BankName::Sha256, pcrs: OF_BOOT.to_vec() }];
    let Answer { tpm: answer } = evidence.answer(&Wanted { pcrs, event_log: false }, &transcript, None)?;
    let said = Attest::parse(&answer.quote.attest.0).map_err(|error| Failure::failed(error.to_string()))?;
    let values: Vec<_> = OF_BOOT.into_iter().zip(answer.pcrs.iter().map(|value| value.0.clone())).collect();
    let shown = |(pcr, value): &(u8, Vec<u8>)| (pcr.to_string(), Value::from(hex::encode(value)));
    let value = json!({
        "domain": config.domain,
        "server": config.server,
        "endorsement-keys": keys,
        "attestation-key": hex::encode(attests.name().as_bytes()),
        "pcrs": { "sha256": values.iter().map(shown).collect::<serde_json::Map<_, _>>() },
        "clock": {
            "milliseconds": said.clock,
            "resets": said.resets,
            "restarts": said.restarts,
            "safe": said.safe,
            "firmware": format!("{:016x}", said.firmware),
        },
        "event-log": event_log(config, values.into_iter().collect()),
        "hello": hello,
        "sent": false,
    });
    terminal.result(&value, || words(&value))
}

fn endorsement(key: &EndorsementKey) -> Result<Value, Failure> {
    let area = PublicArea::parse(&key.public).map_err(|error| Failure::failed(error.to_string()))?;
    let public = area.public_key().map_err(|error| Failure::failed(error.to_string()))?;
    let certificate = key.chain.first().map(Vec::as_slice).unwrap_or_default();
    let issuer = issuer(certificate).unwrap_or_else(|| "a certificate that cannot be read".to_owned());
    Ok(json!({
        "algorithm": public.key_type().to_string(),
        "pub-hash": Digest::of(public.spki()).to_string(),
        "certified-by": issuer,
        "certificates": key.chain.len(),
    }))
}

fn issuer(certificate: &[u8]) -> Option<String> {
    use der::Decode as _;
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().issuer().to_string())
}

/// What the firmware's event log says, if it is the log of what was quoted.
fn event_log(config: &Config, values: std::collections::BTreeMap<u8, Vec<u8>>) -> Value {
    let judged = || -> Result<Value, String> {
        let bytes = read_event_log(&config.event_log).map_err(|error| error.to_string())?;
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let log = EventLog::parse(&bytes).map_err(|error| told(&error))?;
        let values = PcrValues::new(HashAlgorithm::Sha256, values).map_err(|error| told(&error))?;
        let log = log.verify(&values).map_err(|error| told(&error))?;
        let secure_boot = match SecureBoot::read(&log) {
            Ok(state) => json!({ "enabled": state.enabled }),
            Err(error) => json!({ "unknown": error.to_string() }),
        };
        let boot = Boot::read(&log).map_err(|error| told(&error))?;
        let image = |image: &undercroft_attestors::tpm::event_log::Image| json!({ "sha256": hex::encode(&image.digest), "says": image.says });
        Ok(json!({
            "bytes": bytes.len(),
            "replays": true,
            "events": log.measured().len(),
            "secure-boot": secure_boot,
            "images": boot.images.map(|images| images.iter().map(image).collect::<Vec<_>>()),
        }))
    };
    judged().unwrap_or_else(|error| json!({ "replays": false, "error": error }))
}

fn words(value: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = vec![format!(
        "Nothing was sent. {} would see, for {}:",
        text(&value["server"]),
        text(&value["domain"])
    )];
    for key in value["endorsement-keys"].as_array().into_iter().flatten() {
        lines.push(format!(
            "endorsement key  {} {} (pub_hash), certified by {}",
            text(&key["algorithm"]),
            text(&key["pub-hash"]),
            text(&key["certified-by"])
        ));
    }
    lines.push(format!("attestation key  {} (Name)", text(&value["attestation-key"])));
    for (pcr, content) in value["pcrs"]["sha256"].as_object().into_iter().flatten() {
        lines.push(format!("PCR {pcr:>2} sha256    {}", text(content)));
    }
    let clock = &value["clock"];
    lines.push(format!(
        "clock            {} ms, {} resets, {} restarts, {}; firmware {}",
        clock["milliseconds"],
        clock["resets"],
        clock["restarts"],
        if clock["safe"] == true { "safe" } else { "not safe: it may have gone back after a loss of power" },
        text(&clock["firmware"])
    ));
    let log = &value["event-log"];
    match log["replays"] == true {
        true => {
            lines.push(format!("event log        replays to these PCRs: {} events", log["events"]));
            lines.push(format!("Secure Boot      {}", log["secure-boot"]));
            for image in log["images"].as_array().into_iter().flatten() {
                let says = image["says"].as_str().unwrap_or("an image");
                lines.push(format!("booted           {} {says}", text(&image["sha256"])));
            }
        }
        false => lines.push(format!("event log        {}", text(&log["error"]))),
    }
    lines.join("\n") + "\n"
}
