//! What is known of a node once its evidence has been judged.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use undercroft_attestors::tpm::event_log::{
    Authority, Boot, EventLogError, SecureBoot, SignatureEntry, VerifiedLog,
};
use undercroft_attestors::tpm::node::{Attested, Since};
use undercroft_log::leaf::Digest;
use undercroft_tpm_wire::HashAlgorithm;

/// Who can vouch for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attestor {
    /// Its TPM.
    Tpm,
}

impl Attestor {
    /// As policies and the log write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
        }
    }
}

/// What is known of a node. Nothing in it is the node's own word.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Its TPM, and the key that the certificate is for.
    pub attested: Attested,
    /// Its boot, where policy wants the firmware's log.
    pub boot: Option<BootClaims>,
}

/// What is known of a node's boot.
#[derive(Clone, Debug)]
pub struct BootClaims {
    /// The log, which replays to the quote.
    pub log: VerifiedLog,
    /// What was booted.
    pub boot: Boot,
    /// What PCR 7 says, or why it cannot be read: not every machine has Secure Boot.
    pub secure_boot: Result<SecureBoot, EventLogError>,
}

impl Claims {
    /// SHA-256 of the DER of the endorsement key's SubjectPublicKeyInfo: who the TPM is.
    pub fn endorsement(&self) -> Digest {
        Digest(self.attested.binding().endorsement)
    }

    /// Who has vouched for the node.
    pub fn attestors(&self) -> BTreeSet<Attestor> {
        [Attestor::Tpm].into()
    }

    /// The same as Rego sees it (`docs/node-policy.md`, "Rego").
    pub fn as_input(&self, domain: &str) -> Value {
        json!({
            "domain": domain,
            "selectors": self.selectors(),
            "tpm": tpm(&self.attested),
            "boot": self.boot.as_ref().map(BootClaims::as_input),
        })
    }

    /// What policies select by.
    pub fn selectors(&self) -> BTreeSet<String> {
        let mut selectors: BTreeSet<_> = self.attested.selectors().into_iter().collect();
        if let Some(boot) = &self.boot {
            selectors.extend(boot.selectors());
        }
        selectors
    }
}

fn tpm(attested: &Attested) -> Value {
    let [manufacturer, model, version] = attested.names();
    let clock = attested.clock();
    let mut banks = BTreeMap::<_, BTreeMap<String, String>>::new();
    for (bank, pcr, value) in attested.pcrs() {
        banks.entry(name_of(*bank)).or_default().insert(pcr.to_string(), hex::encode(value));
    }
    json!({
        "endorsement": hex::encode(attested.binding().endorsement),
        "manufacturer": manufacturer,
        "model": model,
        "version": version,
        "class": attested.class().as_str(),
        "assurance": attested.assurance().as_str(),
        "key_born": attested.born(),
        "firmware": attested.firmware().map(|firmware| format!("{firmware:016x}")),
        "since": since(attested.since()),
        "clock": {
            "milliseconds": clock.milliseconds,
            "resets": clock.resets,
            "restarts": clock.restarts,
            "safe": clock.safe,
        },
        "pcrs": banks,
    })
}

/// What happened since the last time, in a word.
pub fn since(since: Since) -> &'static str {
    match since {
        Since::First => "first",
        Since::Running => "running",
        Since::Resumed => "resumed",
        Since::Rebooted => "rebooted",
    }
}

impl BootClaims {
    fn as_input(&self) -> Value {
        let Boot { images, commands, exited, .. } = &self.boot;
        let images = images.iter().flatten();
        let images: Vec<_> =
            images.map(|image| json!({ "digest": hex::encode(&image.digest), "says": image.says })).collect();
        let commands = commands.iter().flatten();
        let commands: Vec<_> = commands.map(|(says, text)| json!({ "says": says, "text": text })).collect();
        let secure_boot = self.secure_boot.as_ref().ok().map(secure_boot);
        json!({ "secure_boot": secure_boot, "exited": exited, "images": images, "commands": commands })
    }

    fn selectors(&self) -> Vec<String> {
        let Ok(secure_boot) = &self.secure_boot else { return vec!["boot:secure-boot:unknown".to_owned()] };
        let state = if secure_boot.enabled { "on" } else { "off" };
        let mut selectors = vec![format!("boot:secure-boot:{state}")];
        // What vouched for an image says something only where signatures were checked.
        if secure_boot.enabled {
            let vouched =
                secure_boot.authorities.iter().map(|authority| hex::encode(authority.fingerprint()));
            selectors.extend(vouched.map(|fingerprint| format!("boot:authority:{fingerprint}")));
        }
        selectors
    }
}

fn secure_boot(read: &SecureBoot) -> Value {
    let set = |fingerprints: &mut dyn Iterator<Item = [u8; 32]>| {
        fingerprints.map(hex::encode).collect::<BTreeSet<_>>()
    };
    let vouched = read.driver_authorities.iter().chain(&read.authorities);
    json!({
        "enabled": read.enabled,
        "db": set(&mut read.allowed.entries().iter().map(SignatureEntry::fingerprint)),
        "dbx": set(&mut read.forbidden.entries().iter().map(SignatureEntry::fingerprint)),
        "authorities": set(&mut vouched.map(Authority::fingerprint)),
        "sbat": read.sbat.as_ref().map(|level| &level.0),
        "dma_protection_disabled": read.dma_protection_disabled,
        "old_shim": read.old_shim,
    })
}

/// A bank, as policies write it.
pub(super) fn name_of(bank: HashAlgorithm) -> &'static str {
    match bank {
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    }
}
