//! Requests of intermediates and OCSP signers: a CSR and a custody file for each, made where the key lives.

use std::path::Path;

use jiff::Timestamp;
use undercroft_attestors::trust::Trust;
use undercroft_ca::csr::Csr;
use undercroft_ca::custody::{CustodyFile, CustodyRecord, KeyUse};
use undercroft_ca::plan::{Plan, Requested};
use undercroft_cli::{Failure, read_text};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::KeyEvent;

/// The request of one artefact, checked against the plan.
pub(crate) struct Request<'a> {
    /// What the plan says of its key.
    pub(crate) of: Requested<'a>,
    pub(crate) csr: Csr,
    pub(crate) custody: CustodyRecord,
}

/// Reads every request of the plan.
pub(crate) fn read<'a>(
    plan: &'a Plan,
    folder: &Path,
    trust: &Trust,
    now: Timestamp,
) -> Result<Vec<Request<'a>>, Failure> {
    let mut requests: Vec<Request<'a>> = Vec::new();
    for of in plan.requested() {
        let request = read_one(of, folder, trust, now)?;
        let same = |other: &&Request<'_>| other.csr.public_key() == request.csr.public_key();
        if let Some(other) = requests.iter().find(same) {
            return Err(Failure::usage(format!(
                "the requests of `{}` and `{}` are for one key, which could then speak for both; make each a key of its own",
                other.of.name, request.of.name
            )));
        }
        requests.push(request);
    }
    Ok(requests)
}

fn read_one<'a>(
    of: Requested<'a>,
    folder: &Path,
    trust: &Trust,
    now: Timestamp,
) -> Result<Request<'a>, Failure> {
    let path = |ending: &str| folder.join(format!("{}.{ending}", of.request));
    let csr_path = path("csr.pem");
    let during = |path: &Path| format!("the request of `{}` ({})", of.name, path.display());
    let csr = Csr::from_pem(&read_text(&csr_path)?)
        .map_err(|error| Failure::from(error).during(during(&csr_path)))?;
    let custody_path = path("custody.json");
    let wrong = |what: String| Failure::usage(what).during(during(&custody_path));
    let file: CustodyFile =
        serde_json::from_str(&read_text(&custody_path)?).map_err(|error| wrong(error.to_string()))?;
    let algorithm: KeyAlgorithm = file.algorithm.parse().map_err(|error| wrong(format!("{error}")))?;
    if algorithm != of.algorithm || csr.public_key().key_type() != algorithm.key_type() {
        return Err(wrong(format!(
            "its key is {} ({algorithm}), and the plan says {}; make another key or correct the plan",
            csr.public_key().key_type(),
            of.algorithm
        )));
    }
    let used = KeyUse {
        event: KeyEvent::Received,
        purpose: of.purpose.clone(),
        uri: file.uri,
        public_key: csr.public_key(),
        algorithm,
    };
    let custody = CustodyRecord::judge(used, &file.format, &file.evidence.0, trust, now);
    Ok(Request { of, csr, custody })
}
