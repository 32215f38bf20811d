//! `undercroft keys activate`: a witness sees that this TPM's attestation key lives beside its endorsement key, and says so.

use std::path::PathBuf;

use serde_json::json;
use undercroft_attestors::tpm::activation::Statement;
use undercroft_attestors::tpm::attestation_key;
use undercroft_attestors::tpm::evidence::{Activation, EndorsementText};
use undercroft_attestors::tpm::exchange::{BEGIN, Begin, Begun, FINISH, Finish, Finished};
use undercroft_cli::{Failure, Terminal, write_file};
use undercroft_keymgr::{Activate, EndorsementKey};
use undercroft_log::note::Note;

use super::keys::DevicesArgs;
use crate::config::hexadecimal;
use crate::http::Http;

/// Arguments of `keys activate`.
#[derive(Debug, clap::Args)]
pub(super) struct ActivateArgs {
    #[command(flatten)]
    devices: DevicesArgs,
    /// The device, by its name in the environment.
    device: String,
    /// The address of the witness that certifies the attestation key. Not one that the CA's operators run.
    #[arg(long)]
    witness: String,
    /// The persistent handle of the attestation key. It is made if nothing is there.
    #[arg(long, default_value = "0x81010100")]
    attestation_key: String,
    /// The file that is written, for `activation` of the device.
    #[arg(long)]
    out: PathBuf,
}

pub(super) async fn activate(args: &ActivateArgs, terminal: &Terminal) -> Result<(), Failure> {
    let tokens = args.devices.read()?.tokens;
    let handle = hexadecimal("--attestation-key", &args.attestation_key)?;
    let tpm = tokens.manager(tokens.device(&args.device)?)?.activation(handle)?;
    let attestation_key = tpm.attestation_key().await?;
    let endorsements = tpm.endorsements().await?;
    if endorsements.is_empty() {
        return Err(Failure::unreachable(format!(
            "device `{}` has no certificate of an endorsement key; its manufacturer may offer it elsewhere, and a TPM without one proves nothing",
            args.device
        )));
    }
    let http = Http::new()?;
    let mut refusals = Vec::new();
    for endorsement in &endorsements {
        let tried = exchange(&http, &args.witness, &*tpm, &attestation_key, endorsement).await?;
        let certificate = match tried {
            Ok(certificate) => certificate,
            Err(refusal) => {
                refusals.push(refusal);
                continue;
            }
        };
        let name = is_ours(&certificate, &attestation_key)?;
        let endorsement = EndorsementText::new(&endorsement.public, &endorsement.chain);
        let activation = Activation { certificate, endorsement };
        let text =
            serde_json::to_vec_pretty(&activation).map_err(|error| Failure::failed(error.to_string()))?;
        write_file(&args.out, &text)?;
        let value = json!({ "device": args.device, "name": name, "activation": args.out });
        return terminal.result(&value, || {
            format!(
                "{} certifies the attestation key {name}. For the device's table:\n\nattestation-key = \"{}\"\nactivation = {:?}\n",
                args.witness,
                args.attestation_key,
                args.out.display().to_string()
            )
        });
    }
    Err(Failure::refused(format!("{} certifies nothing: {}", args.witness, refusals.join("; "))))
}

/// Both steps with one endorsement key. The inner error is a refusal, and another endorsement key may fare better.
async fn exchange(
    http: &Http,
    witness: &str,
    tpm: &dyn Activate,
    attestation_key: &[u8],
    endorsement: &EndorsementKey,
) -> Result<Result<String, String>, Failure> {
    let attestation_key = hex::encode(attestation_key);
    let begin = Begin {
        endorsement: EndorsementText::new(&endorsement.public, &endorsement.chain),
        attestation_key: attestation_key.clone(),
    };
    let begun: Begun = match post(http, witness, BEGIN, &begin).await? {
        Ok(begun) => begun,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let malformed = |error: hex::FromHexError| Failure::failed(format!("{witness}: its answer: {error}"));
    let credential = hex::decode(&begun.credential).map_err(malformed)?;
    let encrypted = hex::decode(&begun.secret).map_err(malformed)?;
    let secret = tpm.activate(endorsement, &credential, &encrypted).await?;
    let finish = Finish { session: begun.session, attestation_key, secret: hex::encode(secret) };
    let finished: Result<Finished, _> = post(http, witness, FINISH, &finish).await?;
    Ok(finished.map(|finished| finished.certificate))
}

async fn post<T: serde::de::DeserializeOwned>(
    http: &Http,
    witness: &str,
    path: &str,
    step: &impl serde::Serialize,
) -> Result<Result<T, String>, Failure> {
    let failed = |what: String| Failure::unreachable(format!("{witness}: {what}"));
    let body = serde_json::to_string(step).map_err(|error| failed(error.to_string()))?;
    let (status, text) = http.post(witness, path, "application/json", body).await.map_err(failed)?;
    match status.as_u16() {
        200 => serde_json::from_str(&text).map(Ok).map_err(|error| failed(format!("its answer: {error}"))),
        403 => Ok(Err(text.trim_end().to_owned())),
        404 => Err(Failure::usage(format!(
            "{witness} certifies no attestation keys: its configuration has no endorsement-anchors"
        ))),
        _ => Err(failed(format!("{status}: {}", text.trim_end()))),
    }
}

/// The Name in a certificate, which must be that of our key. Whether its signer is trusted is for whoever judges custody.
fn is_ours(certificate: &str, attestation_key: &[u8]) -> Result<String, Failure> {
    let wrong = |what: String| Failure::tampered(format!("the certificate that came: {what}"));
    let note = Note::parse(certificate).map_err(|error| wrong(error.to_string()))?;
    let statement = Statement::parse(note.unverified_text()).map_err(|error| wrong(error.to_string()))?;
    let own = attestation_key::name(attestation_key).map_err(wrong)?;
    match statement.name == own {
        true => Ok(own),
        false => Err(wrong(format!("it is for {}, and ours is {own}", statement.name))),
    }
}
