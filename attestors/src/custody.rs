//! Where a key lives, and how well that is known.

mod aws;
mod azure;
mod google;
mod smartcard_hsm;
mod yubico;

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use undercroft_keys::PublicKey;
use undercroft_tpm_wire::{ObjectAttributes, PublicArea};

use crate::chain::Certificate;
use crate::tpm::evidence;
use crate::trust::Trust;
pub use google::{BadAnchor, HsmAnchors};
pub use smartcard_hsm::{BadCardAnchor, CardAnchors};

/// The most bytes of evidence that are read.
const MAX_EVIDENCE: usize = 64 * 1024;

/// How well it is known where a key lives. The order is that of trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing that can be judged.
    Unknown,
    /// A software module holds it: whoever reads the process's memory or disk has it.
    Software,
    /// The token says so, and nobody vouches for the token.
    Declared,
    /// A hardware statement verified to a vendor's anchor by a party other than the CA.
    Proven,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Software => "software",
            Self::Declared => "declared",
            Self::Proven => "proven",
        })
    }
}

/// What an installation or a plan demands of its keys. Keys in software are for development mode alone, which no
/// demand can stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// At least that the token says so.
    #[default]
    Declared,
    /// A statement of the hardware.
    Proven,
}

impl Demand {
    /// The lowest grade that meets it. In development mode keys in software meet the lower demand; who asks for proof gets
    /// proof or a refusal, whatever the mode.
    pub fn grade(self, development: bool) -> Grade {
        match (development, self) {
            (_, Self::Proven) => Grade::Proven,
            (true, Self::Declared) => Grade::Software,
            (false, Self::Declared) => Grade::Declared,
        }
    }
}

/// The judgement: a grade, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    /// The grade.
    pub grade: Grade,
    /// What was found, in words, for people and for the log.
    pub findings: Vec<String>,
}

impl Custody {
    fn new(grade: Grade, findings: Vec<String>) -> Self {
        Self { grade, findings }
    }

    fn unknown(finding: impl Into<String>) -> Self {
        Self::new(Grade::Unknown, vec![finding.into()])
    }
}

/// Judges evidence of where `key` lives. `format` says what the bytes are; each backend documents its own.
///
/// Evidence that is malformed, of an unknown format or about another key is graded [`Grade::Unknown`].
///
/// `trust` and `now` decide what statements of manufacturers and activators are worth; formats without any do not look.
pub fn judge(format: &str, evidence: &[u8], key: &PublicKey, trust: &Trust, now: Timestamp) -> Custody {
    if evidence.len() > MAX_EVIDENCE {
        return Custody::unknown(format!(
            "the evidence has {} bytes, more than {MAX_EVIDENCE}",
            evidence.len()
        ));
    }
    match format {
        "pkcs11-attributes-v1" => judge_pkcs11(evidence, false, key, trust, now),
        "smartcard-hsm-v1" => judge_pkcs11(evidence, true, key, trust, now),
        "tpm2-public-v1" => judge_tpm(evidence, key),
        evidence::FORMAT => evidence::judge(evidence, key, trust, now),
        "aws-kms-v1" => aws::judge(evidence, key),
        "google-kms-v1" => google::judge(evidence, key, &trust.hsm, now),
        "azure-key-v1" => azure::judge(evidence, key),
        "software-v1" => {
            Custody::new(Grade::Software, vec!["the key is held in memory by a simulator".into()])
        }
        other => {
            Custody::unknown(format!("evidence of the format `{other}` cannot be judged by this version"))
        }
    }
}

/// What a cloud calls the key that evidence is about: the ARN of a key in AWS KMS, the name of a version in Google's, the
/// identifier (`kid`) in Azure's; none for other formats, and for evidence that cannot be read.
pub fn key_at_provider(format: &str, evidence: &[u8]) -> Option<String> {
    match format {
        "aws-kms-v1" => aws::arn(evidence),
        "google-kms-v1" => google::name(evidence),
        "azure-key-v1" => azure::kid(evidence),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pkcs11Evidence {
    module: Pkcs11Module,
    token: Pkcs11Token,
    key: Pkcs11Key,
    /// DER in hex.
    #[serde(default)]
    certificates: Vec<String>,
    /// In `smartcard-hsm-v1`, and only there.
    card_verifiable: Option<CardVerifiable>,
}

/// In hex.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardVerifiable {
    requests: Vec<String>,
    certificates: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pkcs11Module {
    manufacturer: String,
    description: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pkcs11Token {
    label: String,
    manufacturer: String,
    model: String,
    serial: String,
    hardware: String,
    firmware: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pkcs11Key {
    #[serde(rename = "label")]
    _label: String,
    #[serde(rename = "id")]
    _id: String,
    spki: String,
    sensitive: bool,
    always_sensitive: bool,
    extractable: bool,
    never_extractable: bool,
    local: bool,
}

/// Names by which software modules call themselves. Whoever lies here lies about hardware anyway, which is why no
/// attribute of a token is ever graded better than `declared`.
const SOFTWARE_MODULES: [&str; 4] = ["softhsm", "kryoptic", "nss", "opencryptoki soft"];

/// `of_card`: whether the format is the one with card-verifiable certificates.
fn judge_pkcs11(evidence: &[u8], of_card: bool, key: &PublicKey, trust: &Trust, now: Timestamp) -> Custody {
    let evidence: Pkcs11Evidence = match serde_json::from_slice(evidence) {
        Ok(evidence) => evidence,
        Err(error) => return Custody::unknown(format!("the evidence cannot be read: {error}")),
    };
    if evidence.card_verifiable.is_some() != of_card {
        return Custody::unknown("the evidence is of another format than it says");
    }
    if evidence.key.spki != hex::encode(key.spki()) {
        return Custody::unknown("the evidence is about another key");
    }
    let Pkcs11Token { label, manufacturer, model, serial, hardware, firmware } = &evidence.token;
    let mut findings = vec![format!(
        "token `{label}`: {manufacturer} {model}, serial {serial}, hardware {hardware}, firmware {firmware}"
    )];
    let unsound: Vec<_> = [
        (!evidence.key.sensitive, "CKA_SENSITIVE is false"),
        (!evidence.key.always_sensitive, "CKA_ALWAYS_SENSITIVE is false"),
        (evidence.key.extractable, "CKA_EXTRACTABLE is true"),
        (!evidence.key.never_extractable, "CKA_NEVER_EXTRACTABLE is false"),
        (!evidence.key.local, "CKA_LOCAL is false: the key was not made in the token"),
    ]
    .into_iter()
    .filter(|(wrong, _)| *wrong)
    .map(|(_, finding)| finding.to_owned())
    .collect();
    if !unsound.is_empty() {
        findings.extend(unsound);
        return Custody::new(Grade::Unknown, findings);
    }
    findings
        .push("the token says that the key was made in it, is sensitive and was never extractable".into());
    let Pkcs11Module { manufacturer: maker, description, version } = &evidence.module;
    let names = format!("{maker} {description} {manufacturer} {model}").to_lowercase();
    if SOFTWARE_MODULES.iter().any(|software| names.contains(software)) {
        findings.push(format!("{maker} {description} {version} is a software module"));
        return Custody::new(Grade::Software, findings);
    }
    // A module can show whatever it likes; what its vendor has signed it cannot make.
    let read = evidence.certificates.iter().map(|text| {
        let der = hex::decode(text).map_err(|error| error.to_string())?;
        Certificate::from_der(&der).map_err(|error| error.to_string())
    });
    // Others of a token's certificates may be of kinds that we do not read.
    let certificates: Vec<_> = read.filter_map(Result::ok).collect();
    let proven = match &evidence.card_verifiable {
        None => yubico::judge(&certificates, key, &trust.endorsement, now),
        Some(shown) => judge_card(shown, key, trust, now),
    };
    match proven {
        Ok(proven) => {
            findings.push(proven);
            Custody::new(Grade::Proven, findings)
        }
        Err(why) => {
            findings.push(why);
            Custody::new(Grade::Declared, findings)
        }
    }
}

fn judge_card(
    shown: &CardVerifiable,
    key: &PublicKey,
    trust: &Trust,
    now: Timestamp,
) -> Result<String, String> {
    let bytes = |all: &[String]| all.iter().map(hex::decode).collect::<Result<Vec<_>, _>>();
    let requests = bytes(&shown.requests).map_err(|error| format!("the device's request: {error}"))?;
    let certificates =
        bytes(&shown.certificates).map_err(|error| format!("a card-verifiable certificate: {error}"))?;
    smartcard_hsm::judge(&requests, &certificates, key, &trust.cards, now)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TpmEvidence {
    tpm: TpmSays,
    key: TpmKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TpmSays {
    manufacturer: String,
    vendor: String,
    firmware: String,
    specification: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TpmKey {
    handle: String,
    public: String,
}

/// The public area of the key that evidence of a TPM is about (`tpm2-public-v1`).
///
/// # Errors
/// It is no such evidence.
pub fn tpm_public_area(evidence: &[u8]) -> Result<PublicArea, String> {
    Ok(read_tpm(evidence)?.1)
}

/// The public area of the key that evidence is about, whatever a TPM's format it is of; nothing for other formats.
pub fn public_area_of(format: &str, evidence: &[u8]) -> Option<Result<PublicArea, String>> {
    match format {
        "tpm2-public-v1" => Some(tpm_public_area(evidence)),
        evidence::FORMAT => Some(evidence::public_area(evidence)),
        _ => None,
    }
}

fn read_tpm(evidence: &[u8]) -> Result<(TpmEvidence, PublicArea), String> {
    let evidence: TpmEvidence =
        serde_json::from_slice(evidence).map_err(|error| format!("the evidence cannot be read: {error}"))?;
    let malformed = |error: &dyn fmt::Display| format!("the public area cannot be read: {error}");
    let bytes = hex::decode(&evidence.key.public).map_err(|error| malformed(&error))?;
    let area = PublicArea::parse(&bytes).map_err(|error| malformed(&error))?;
    Ok((evidence, area))
}

fn judge_tpm(evidence: &[u8], key: &PublicKey) -> Custody {
    let (evidence, area) = match read_tpm(evidence) {
        Ok(read) => read,
        Err(what) => return Custody::unknown(what),
    };
    if area.public_key().as_ref() != Ok(key) {
        return Custody::unknown("the evidence is about another key");
    }
    let TpmSays { manufacturer, vendor, firmware, specification } = &evidence.tpm;
    let mut findings = vec![
        format!("TPM {specification}: {manufacturer} {vendor}, firmware {firmware}"),
        format!("handle {}, name {}, attributes {}", evidence.key.handle, area.name(), area.attributes),
    ];
    let held = ObjectAttributes::FIXED_TPM
        | ObjectAttributes::FIXED_PARENT
        | ObjectAttributes::SENSITIVE_DATA_ORIGIN
        | ObjectAttributes::SIGN;
    if !area.attributes.has(held) || area.attributes.has(ObjectAttributes::DECRYPT) {
        findings.push(
            "a key that stays in its TPM is fixedTPM, fixedParent, sensitiveDataOrigin and sign alone".into(),
        );
        return Custody::new(Grade::Unknown, findings);
    }
    if area.signs_by_policy_alone() {
        findings
            .push(format!("the TPM signs with it only under the policy {}", hex::encode(&area.auth_policy)));
    } else if area.attributes.has(ObjectAttributes::NO_DA) {
        findings.push(
            "the key was made without an authorisation value: whoever reaches this TPM may sign with it"
                .into(),
        );
    }
    // libtpms, the library behind swtpm, calls itself so.
    if manufacturer == "IBM" && vendor.contains("SW") {
        findings.push("this is swtpm, a TPM in software".into());
        return Custody::new(Grade::Software, findings);
    }
    findings
        .push("the key was not certified by an attestation key that is bound to an endorsement key".into());
    Custody::new(Grade::Declared, findings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A P-256 key of swtpm, as tpm2-tools printed it (see undercroft-tpm-wire).
    const AREA: &str = "0023000b00040072000000100018000b000300100020c1a3fae9d019c259261fc6194fc0c04dc88c6b365d41ddc8c02d2e12bd1238ce00203c11df2faf72180b14e45a8abcfb001a7afe254acf130e44d6b2c343191225a7";
    const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004c1a3fae9d019c259261fc6194fc0c04dc88c6b365d41ddc8c02d2e12bd1238ce3c11df2faf72180b14e45a8abcfb001a7afe254acf130e44d6b2c343191225a7";

    fn key() -> PublicKey {
        PublicKey::from_spki(&hex::decode(SPKI).unwrap()).unwrap()
    }

    fn other_key() -> PublicKey {
        PublicKey::from_ed25519(
            &hex::decode("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1").unwrap(),
        )
        .unwrap()
    }

    fn pkcs11() -> String {
        format!(
            r#"{{"module":{{"manufacturer":"Vendor","description":"HSM","version":"1.0"}},"token":{{"label":"ca","manufacturer":"Vendor","model":"HSM 9","serial":"77","hardware":"1.0","firmware":"2.3"}},"key":{{"label":"ca","id":"01","spki":"{SPKI}","sensitive":true,"always_sensitive":true,"extractable":false,"never_extractable":true,"local":true}}}}"#
        )
    }

    fn tpm() -> String {
        format!(
            r#"{{"tpm":{{"manufacturer":"STM ","vendor":"ST33","firmware":"00010101 00000002","specification":"1.59"}},"key":{{"handle":"0x81010001","public":"{AREA}"}}}}"#
        )
    }

    fn judged(format: &str, evidence: &[u8], key: &PublicKey) -> Custody {
        judge(format, evidence, key, &Trust::default(), Timestamp::UNIX_EPOCH)
    }

    fn grade(format: &str, evidence: &str) -> Grade {
        judged(format, evidence.as_bytes(), &key()).grade
    }

    #[test]
    fn a_sound_hsm_key_is_declared_and_a_software_one_is_called_so() {
        assert_eq!(grade("pkcs11-attributes-v1", &pkcs11()), Grade::Declared);
        for (from, to) in [
            ("\"Vendor\",\"description\":\"HSM\"", "\"SoftHSM\",\"description\":\"x\""),
            ("HSM 9", "SoftHSM v2"),
        ] {
            assert_eq!(grade("pkcs11-attributes-v1", &pkcs11().replace(from, to)), Grade::Software);
        }
    }

    #[test]
    fn every_attribute_counts() {
        for (from, to) in [
            ("\"sensitive\":true", "\"sensitive\":false"),
            ("\"always_sensitive\":true", "\"always_sensitive\":false"),
            ("\"extractable\":false", "\"extractable\":true"),
            ("\"never_extractable\":true", "\"never_extractable\":false"),
            ("\"local\":true", "\"local\":false"),
        ] {
            let custody = judged("pkcs11-attributes-v1", pkcs11().replace(from, to).as_bytes(), &key());
            assert_eq!(custody.grade, Grade::Unknown, "{to}");
            assert!(custody.findings.iter().any(|finding| finding.contains("CKA_")), "{custody:?}");
        }
    }

    #[test]
    fn a_sound_tpm_key_is_declared_and_swtpm_is_called_software() {
        assert_eq!(grade("tpm2-public-v1", &tpm()), Grade::Declared);
        let swtpm = tpm().replace("STM ", "IBM").replace("ST33", "SW   TPM");
        assert_eq!(grade("tpm2-public-v1", &swtpm), Grade::Software);
    }

    #[test]
    fn a_tpm_key_that_may_leave_is_unknown() {
        // 0x00040072 without fixedTPM (0x2), fixedParent (0x10), sensitiveDataOrigin (0x20); with decrypt (0x20000).
        for attributes in ["00040070", "00040062", "00040052", "00060072"] {
            let loose = tpm().replace("00040072", attributes);
            assert_eq!(grade("tpm2-public-v1", &loose), Grade::Unknown, "{attributes}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_unknown() {
        for (format, evidence) in [("pkcs11-attributes-v1", pkcs11()), ("tpm2-public-v1", tpm())] {
            let about_another = judged(format, evidence.as_bytes(), &other_key());
            assert_eq!(about_another, Custody::unknown("the evidence is about another key"));
            assert_eq!(grade(format, "{}"), Grade::Unknown);
            assert_eq!(grade(format, &evidence.replacen('{', "{\"more\":1,", 1)), Grade::Unknown);
            assert_eq!(grade(format, &format!("{evidence}x")), Grade::Unknown);
        }
        assert_eq!(grade("vendor-attestation-v9", "x"), Grade::Unknown);
        assert_eq!(grade("pkcs11-attributes-v1", &" ".repeat(70_000)), Grade::Unknown);
        assert_eq!(grade("software-v1", ""), Grade::Software);
    }

    #[test]
    fn grades_are_ordered_by_trust() {
        assert!(
            Grade::Unknown < Grade::Software
                && Grade::Software < Grade::Declared
                && Grade::Declared < Grade::Proven
        );
    }

    proptest! {
        #[test]
        fn arbitrary_evidence_is_never_graded_well(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for format in ["pkcs11-attributes-v1", "tpm2-public-v1", "tpm2-certify-v1"] {
                prop_assert_eq!(judged(format, &bytes, &key()).grade, Grade::Unknown);
            }
        }
    }
}
