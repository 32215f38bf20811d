//! The forgeries of `conformance/tpm/index.json`, each of which differs in one thing from evidence that swtpm made.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use base64ct::{Base64, Encoding as _};
use serde_json::Value;
use undercroft_attestors::chain::Certificate;
use undercroft_attestors::chain::crl::Crl;
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_attestors::tpm::event_log::{EventLog, Rule};
use undercroft_attestors::tpm::node::{
    Assurance, Attested, Certification, Clock, Creation, Maker, Policy, Quote, Quoted, Refusal, Since,
    TpmClass, TpmId, WeakFirmware, WeakKeys,
};
use undercroft_keys::PublicKey;
use undercroft_tpm_wire::HashAlgorithm;
use undercroft_tpm_wire::pcr::PcrSelection;

fn index() -> Value {
    serde_json::from_str(include_str!("../conformance/tpm/index.json")).unwrap()
}

/// Replaces what is in `change`, and keeps the rest.
fn overlay(whole: &mut Value, change: &Value) {
    match (whole, change) {
        (Value::Object(whole), Value::Object(change)) => {
            for (name, value) in change {
                overlay(whole.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (whole, change) => *whole = change.clone(),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn many(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(|one| Base64::decode_vec(one.as_str().unwrap()).unwrap()).collect()
}

fn policy(input: &Value) -> Policy {
    let ids = |list: &Value| {
        list.as_array().map(|list| list.iter().map(|id| TpmId::PublicKey(array(id))).collect::<Vec<_>>())
    };
    let maker = |der: Vec<u8>| Maker {
        certificate: Certificate::from_der(&der).unwrap(),
        class: TpmClass::Simulated,
        manufacturers: Vec::new(),
    };
    Policy {
        makers: many(&input["anchors"]).into_iter().map(maker).collect(),
        allowed: ids(&input["allowed"]),
        denied: ids(&input["denied"]).unwrap_or_default(),
        crls: input["crls"].as_array().map_or(Vec::new(), |_| {
            many(&input["crls"]).iter().map(|der| Crl::from_der(der).unwrap()).collect()
        }),
        crl_required: input["crl-required"] == true,
        weak_firmware: input["weak-firmware"].as_array().into_iter().flatten().map(weak).collect(),
        unsafe_clock: input["unsafe-clock"] == true,
        ..Policy::default()
    }
}

fn weak(row: &Value) -> WeakFirmware {
    let version = |name: &str| u32::try_from(row[name].as_u64().unwrap()).unwrap();
    WeakFirmware {
        manufacturer: row["manufacturer"].as_str().unwrap().to_owned().leak(),
        versions: (version("first"), version("last")),
        keys: match row["keys"].as_str().unwrap() {
            "rsa" => WeakKeys::Rsa,
            "ecc-signing" => WeakKeys::EccSigning,
            other => panic!("{other}"),
        },
        advisory: "a row of the table",
    }
}

/// The whole way, with the event log if there is one.
fn judge(input: &Value, policy: &Policy) -> Result<Attested, String> {
    if let Some(log) = input.get("event-log") {
        let values = quoted(input, policy).map(|quoted| quoted.boot_pcrs(HashAlgorithm::Sha256));
        let values = values.map_err(|refusal| refusal.code().to_string())?;
        let verified = values.and_then(|values| EventLog::parse(&bytes(log))?.verify(&values));
        verified.map_err(|error| error.rule.code().to_owned())?;
    }
    steps(input, policy).map_err(|refusal| refusal.code().to_string())
}

fn quoted<'p>(input: &Value, policy: &'p Policy) -> Result<Quoted<'p>, Refusal> {
    let (ek, quote) = (&input["ek"], &input["quote"]);
    let number = |name: &str| input["last"][name].as_u64().unwrap();
    let last = Clock {
        milliseconds: number("clock"),
        resets: number("resets") as u32,
        restarts: number("restarts") as u32,
        safe: true,
        firmware: 0,
    };
    let endorsement = Endorsement::read(&bytes(&ek["public"]), &many(&ek["chain"]))?;
    let genuine = policy.endorse(endorsement, input["at"].as_str().unwrap().parse().unwrap())?;
    let candidate = genuine.candidate(&bytes(&input["ak"]))?;
    let bound =
        candidate.activated(&bytes(&input["secret"]), array(&input["transcript"]), &bytes(&input["mac"]))?;
    let values: Vec<_> = quote["values"].as_array().unwrap().iter().map(bytes).collect();
    let (attest, signature) = (bytes(&quote["attest"]), bytes(&quote["signature"]));
    let quote = Quote { attest: &attest, signature: &signature, values: &values };
    let asked = PcrSelection::parse(&bytes(&input["asked"])).unwrap();
    bound.quoted(&quote, &asked, Some(&last))
}

fn steps(input: &Value, policy: &Policy) -> Result<Attested, Refusal> {
    let quoted = quoted(input, policy)?;
    let key = &input["key"];
    let (public, attest, signature) =
        (bytes(&key["public"]), bytes(&key["attest"]), bytes(&key["signature"]));
    let certification = Certification { public: &public, attest: &attest, signature: &signature };
    let requested = PublicKey::from_spki(&bytes(&input["requested"])).unwrap();
    match key.get("creation-data") {
        None => quoted.certified(&certification, &requested),
        Some(data) => {
            let fresh = bytes(&input["transcript"]).try_into().unwrap();
            quoted.certified_at_creation(
                &certification,
                &Creation { data: &bytes(data), fresh: &fresh },
                &requested,
            )
        }
    }
}

fn honest() -> Value {
    index()["honest"].clone()
}

#[test]
fn honest_evidence_is_believed() {
    let input = honest();
    let attested = judge(&input, &policy(&input)).unwrap();
    assert_eq!(attested.key().spki(), bytes(&input["requested"]));
    assert_eq!(attested.assurance(), Assurance::Software);
    assert_eq!(attested.since(), Since::Rebooted);
    let selectors = attested.selectors();
    for begins in ["tpm:pub_hash:", "tpm:class:simulated", "tpm:firmware:", "tpm:pcr:sha256:7:"] {
        assert!(selectors.iter().any(|selector| selector.starts_with(begins)), "{begins}: {selectors:?}");
    }
    for variant in index()["honest-too"].as_array().unwrap() {
        let mut input = honest();
        overlay(&mut input, &variant["change"]);
        let attested = judge(&input, &policy(&input));
        let born = variant["change"].get("key").is_some_and(|key| key.get("creation-data").is_some());
        let selectors = attested.unwrap_or_else(|code| panic!("{}: {code}", variant["name"])).selectors();
        assert_eq!(selectors.contains(&"tpm:key-born:true".to_owned()), born);
    }
}

/// What an event log is replayed to is what was quoted, and nothing that the operating system extends.
#[test]
fn an_event_log_is_held_to_the_quoted_values() {
    let input = honest();
    let policy = policy(&input);
    let quoted = quoted(&input, &policy).unwrap();
    let of_boot = quoted.boot_pcrs(HashAlgorithm::Sha256).unwrap();
    let mut compared = 0;
    for (bank, pcr, value) in quoted.pcrs().iter().filter(|(bank, _, _)| *bank == HashAlgorithm::Sha256) {
        let expected = (*pcr <= 9 || *pcr == 14).then_some(value.as_slice());
        assert_eq!(of_boot.get(*pcr), expected, "{bank:?} {pcr}");
        compared += usize::from(expected.is_some());
    }
    assert!(compared > 0);
    // Nothing was quoted in that bank, so that nothing can be said of it.
    assert_eq!(quoted.boot_pcrs(HashAlgorithm::Sha512).unwrap_err().rule, Rule::NoPcr);
}

#[test]
fn each_forgery_is_refused_by_its_code() {
    let index = index();
    let forgeries = index["forgeries"].as_array().unwrap();
    let mut wrong = Vec::new();
    for forgery in forgeries {
        let mut input = honest();
        overlay(&mut input, &forgery["change"]);
        let got = judge(&input, &policy(&input)).err().unwrap_or_else(|| "believed".to_owned());
        if got != forgery["expected"] {
            wrong.push(format!(
                "{}. {}: {}, and not {got}",
                forgery["forgery"], forgery["name"], forgery["expected"]
            ));
        }
    }
    assert!(forgeries.len() >= 60 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_flipped_byte_of_what_is_signed_or_named_is_refused() {
    let input = honest();
    let policy = policy(&input);
    for path in [
        ["quote", "attest"],
        ["quote", "signature"],
        ["key", "attest"],
        ["key", "signature"],
        ["key", "public"],
        ["ek", "public"],
    ] {
        let whole = bytes(&input[path[0]][path[1]]);
        for at in 0..whole.len() {
            let (mut changed, mut input) = (whole.clone(), input.clone());
            changed[at] ^= 0x01;
            input[path[0]][path[1]] = hex::encode(changed).into();
            assert!(judge(&input, &policy).is_err(), "{path:?}, byte {at}");
        }
    }
    let whole = bytes(&input["ak"]);
    for at in 0..whole.len() {
        let (mut changed, mut input) = (whole.clone(), input.clone());
        changed[at] ^= 0x01;
        input["ak"] = hex::encode(changed).into();
        assert!(judge(&input, &policy).is_err(), "ak, byte {at}");
    }
}

#[test]
fn cve_2024_29038_and_29040_the_magic_is_checked() {
    named(29);
}

#[test]
fn cve_2024_29039_and_2022_0317_the_selection_is_what_was_asked() {
    named(34);
    named(36);
}

#[test]
fn cve_2023_38201_an_activation_is_of_this_exchange() {
    named(23);
}

#[test]
fn cve_2022_3500_and_2023_3674_a_bad_signature_is_a_refusal() {
    named(31);
}

#[test]
fn cve_2021_3406_an_endorsement_key_leads_to_an_anchor() {
    named(1);
}

fn named(number: u64) {
    let index = index();
    let rows: Vec<_> =
        index["forgeries"].as_array().unwrap().iter().filter(|row| row["forgery"] == number).collect();
    assert!(!rows.is_empty());
    for row in rows {
        let mut input = honest();
        overlay(&mut input, &row["change"]);
        assert_eq!(judge(&input, &policy(&input)).err().as_deref(), row["expected"].as_str(), "{row}");
    }
}

#[test]
fn policy_decides_on_makers_lists_and_firmware() {
    let input = honest();
    let refused = |change: &dyn Fn(&mut Policy)| {
        let mut policy = policy(&input);
        change(&mut policy);
        judge(&input, &policy).err().unwrap_or_else(|| "believed".to_owned())
    };
    assert_eq!(refused(&|_| {}), "believed");
    assert_eq!(refused(&|policy| policy.makers.clear()), "ek-chain");
    assert_eq!(refused(&|policy| policy.makers[0].manufacturers = vec!["id:49465800".into()]), "ek-maker");
    assert_eq!(refused(&|policy| policy.crl_required = true), "crl-missing");
    let certificate = Certificate::from_der(&many(&input["ek"]["chain"])[0]).unwrap();
    let serial = certificate.fields().serial_number().as_bytes();
    let issuer = certificate.issuer_der().to_vec();
    let id = |serial: &[u8]| TpmId::Certificate {
        issuer: issuer.clone(),
        serial: serial.iter().copied().skip_while(|byte| *byte == 0).collect(),
    };
    assert_eq!(refused(&|policy| policy.denied = vec![id(serial)]), "ek-denied");
    assert_eq!(refused(&|policy| policy.denied = vec![id(&[serial, &[1]].concat())]), "believed");
    assert_eq!(refused(&|policy| policy.allowed = Some(vec![id(serial)])), "believed");
    assert_eq!(refused(&|policy| policy.allowed = Some(Vec::new())), "ek-not-allowed");
    for (versions, keys, expected) in [
        ((0, u32::MAX), WeakKeys::Rsa, "firmware-weak"),
        ((0, u32::MAX), WeakKeys::EccSigning, "firmware-weak"),
        ((0, 0), WeakKeys::Rsa, "believed"),
        ((0, 0), WeakKeys::EccSigning, "believed"),
    ] {
        let weak = WeakFirmware { manufacturer: "id:00001014", versions, keys, advisory: "a test" };
        assert_eq!(refused(&|policy| policy.weak_firmware = vec![weak.clone()]), expected, "{weak:?}");
    }
}

#[test]
fn an_attestation_key_is_recalled_with_its_own_endorsement_key_alone() {
    let input = honest();
    let policy = policy(&input);
    let candidate = || {
        let endorsement =
            Endorsement::read(&bytes(&input["ek"]["public"]), &many(&input["ek"]["chain"])).unwrap();
        let at = input["at"].as_str().unwrap().parse().unwrap();
        policy.endorse(endorsement, at).unwrap().candidate(&bytes(&input["ak"])).unwrap()
    };
    let binding = candidate().binding();
    assert!(candidate().recalled(&binding, [0; 32]).is_ok());
    let (mut tpm, mut key) = (binding.clone(), binding);
    tpm.endorsement[0] ^= 1;
    key.attestation_key[5] ^= 1;
    for other in [tpm, key] {
        assert_eq!(candidate().recalled(&other, [0; 32]).unwrap_err().code().as_str(), "ak-binding");
    }
}
