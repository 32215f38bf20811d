//! The forgeries as data that other verifiers can be run against (`conformance/README.md`): written from the table, and judged
//! from what was written. UNDERCROFT_WRITE_VECTORS=1 writes them anew.

use std::collections::{BTreeMap, BTreeSet};

use hsm_sim::measured_boot::{MeasuredBoot, SimBank};
use serde_json::{Map, Value, json};
use undercroft_attestors::tpm::event_log::{PcrValues, Requirements, SbatLevel};
use undercroft_tpm_wire::HashAlgorithm;

use crate::forgeries::{Forgery, table};
use crate::{PCRS, judge, requirements, values};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/event-log/index.json");

/// The longest insertion that is written down.
const LONGEST: usize = 16 * 1024;

fn hexes(hashes: &BTreeSet<[u8; 32]>) -> Value {
    hashes.iter().map(hex::encode).collect()
}

fn wanted_as_json(wanted: &Requirements) -> Value {
    json!({
        "secure-boot": wanted.secure_boot,
        "dbx-has": hexes(&wanted.forbidden),
        "db-has-only": wanted.allowed.as_ref().map(hexes),
        "authorities": wanted.authorities.as_ref().map(hexes),
        "sbat": wanted.sbat.0,
        "dma-protection": wanted.dma_protection,
        "exited": wanted.exited,
    })
}

fn values_as_json(values: &PcrValues) -> Value {
    let value = |pcr: u8| Some((pcr.to_string(), hex::encode(values.get(pcr)?).into()));
    Value::Object((0..24).filter_map(value).collect::<Map<_, _>>())
}

/// What is taken out of the honest log at a place, and put in there.
fn patch(honest: &[u8], forged: &[u8]) -> Option<Value> {
    let same = |(a, b): &(&u8, &u8)| a == b;
    let at = honest.iter().zip(forged).take_while(same).count();
    let (old, new) = (&honest[at..], &forged[at..]);
    let behind = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    let (old, new) = (&old[..old.len() - behind], &new[..new.len() - behind]);
    (new.len() <= LONGEST).then(|| json!({"at": at, "remove": old.len(), "insert": hex::encode(new)}))
}

fn written() -> String {
    let honest = MeasuredBoot::honest();
    let (log, own) = (honest.log(), values(&honest));
    let mut rows = Vec::new();
    for (name, rule, Forgery { log: forged, values, wanted }) in table() {
        // Values that no quote has, and logs that are long and nothing else, are no vectors.
        let (Ok(values), Some(patch)) = (values, patch(&log, &forged)) else { continue };
        let mut change = Map::new();
        if forged != log {
            change.insert("log".into(), patch);
        }
        if values_as_json(&values) != values_as_json(&own) {
            change.insert("values".into(), values_as_json(&values));
        }
        if values.bank() != own.bank() {
            change.insert("bank".into(), "sha384".into());
        }
        if wanted_as_json(&wanted) != wanted_as_json(&requirements()) {
            change.insert("wanted".into(), wanted_as_json(&wanted));
        }
        rows.push(json!({"name": name, "expected": rule.code(), "change": change}));
    }
    let index = json!({
        "honest": {
            "log": hex::encode(&log),
            "bank": "sha256",
            "values": values_as_json(&own),
            "wanted": wanted_as_json(&requirements()),
            "extends": MeasuredBoot { banks: vec![SimBank::Sha256], ..honest }.extends(),
        },
        "forgeries": rows,
    });
    serde_json::to_string_pretty(&index).unwrap() + "\n"
}

fn index() -> Value {
    serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn set(value: &Value) -> Option<BTreeSet<[u8; 32]>> {
    Some(value.as_array()?.iter().map(|one| bytes(one).try_into().unwrap()).collect())
}

fn wanted(value: &Value) -> Requirements {
    Requirements {
        secure_boot: value["secure-boot"].as_bool().unwrap(),
        forbidden: set(&value["dbx-has"]).unwrap(),
        allowed: set(&value["db-has-only"]),
        authorities: set(&value["authorities"]),
        sbat: SbatLevel(serde_json::from_value(value["sbat"].clone()).unwrap()),
        dma_protection: value["dma-protection"].as_bool().unwrap(),
        exited: value["exited"].as_bool().unwrap(),
    }
}

/// What a verifier says to the honest log with one change.
fn judged(honest: &Value, change: &Value) -> Result<(), String> {
    let of = |member: &str| change.get(member).unwrap_or(&honest[member]).clone();
    let mut log = bytes(&honest["log"]);
    if let Some(patch) = change.get("log") {
        let number = |name: &str| usize::try_from(patch[name].as_u64().unwrap()).unwrap();
        log.splice(number("at")..number("at") + number("remove"), bytes(&patch["insert"]));
    }
    let bank = match of("bank").as_str().unwrap() {
        "sha256" => HashAlgorithm::Sha256,
        "sha384" => HashAlgorithm::Sha384,
        other => panic!("{other}"),
    };
    let values = of("values");
    let values = values.as_object().unwrap().iter();
    let values: BTreeMap<u8, _> = values.map(|(pcr, value)| (pcr.parse().unwrap(), bytes(value))).collect();
    let judged = PcrValues::new(bank, values).and_then(|values| judge(&log, &values, &wanted(&of("wanted"))));
    judged.map(|_| ()).map_err(|error| error.rule.code().to_owned())
}

#[test]
fn the_vectors_are_those_of_the_table() {
    let written = written();
    if std::env::var_os("UNDERCROFT_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(FILE).parent().unwrap()).unwrap();
        std::fs::write(FILE, &written).unwrap();
    }
    assert!(written == std::fs::read_to_string(FILE).unwrap(), "UNDERCROFT_WRITE_VECTORS=1 writes them anew");
}

#[test]
fn each_vector_is_refused_by_its_code_and_the_honest_log_is_not() {
    let index = index();
    let honest = &index["honest"];
    assert_eq!(judged(honest, &json!({})), Ok(()));
    assert!(PCRS.iter().all(|pcr| honest["values"][pcr.to_string()].is_string()));
    let forgeries = index["forgeries"].as_array().unwrap();
    for row in forgeries {
        let expected = row["expected"].as_str().unwrap().to_owned();
        assert_eq!(judged(honest, &row["change"]), Err(expected), "{}", row["name"]);
    }
    assert!(forgeries.len() >= 100, "{}", forgeries.len());
}
