//! `undercroft keys activate`: a witness sees that this TPM's attestation key lives beside its endorsement key, and says so;
//! over HTTP, or by files that people carry.

use std::path::{Path, PathBuf};

use serde_json::json;
use undercroft_attestors::tpm::activation::Statement;
use undercroft_attestors::tpm::attestation_key;
use undercroft_attestors::tpm::evidence::{Activation, EndorsementText};
use undercroft_attestors::tpm::exchange::{
    BEGIN, Begin, Begun, ChallengeFile, FINISH, Finish, Finished, RequestFile,
};
use undercroft_cli::{Failure, Terminal, read_text, write_file};
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
    /// The address of the witness that certifies the attestation key. Not one that the CA's operators run. Without it, the
    /// steps go by files: first a request is written, for `undercroft-witness activate begin`.
    #[arg(long)]
    witness: Option<String>,
    /// The file that `undercroft-witness activate begin` wrote: an answer to it is written, for `activate finish`.
    #[arg(long, conflicts_with = "witness")]
    challenge: Option<PathBuf>,
    /// The persistent handle of the attestation key. It is made if nothing is there.
    #[arg(long, default_value = "0x81010100")]
    attestation_key: String,
    /// The file that is written: what is for `activation` of the device, or the request, or the answer.
    #[arg(long)]
    out: PathBuf,
}

pub(super) async fn activate(args: &ActivateArgs, terminal: &Terminal) -> Result<(), Failure> {
    let tokens = args.devices.read()?.tokens;
    let handle = hexadecimal("--attestation-key", &args.attestation_key)?;
    let tpm = tokens.manager(tokens.device(&args.device)?)?.activation(handle)?;
    let attestation_key = tpm.attestation_key().await?;
    if let Some(challenge) = &args.challenge {
        return answer(args, challenge, &*tpm, &attestation_key, terminal).await;
    }
    let endorsements = tpm.endorsements().await?;
    if endorsements.is_empty() {
        return Err(Failure::unreachable(format!(
            "device `{}` has no certificate of an endorsement key; its manufacturer may offer it elsewhere, and a TPM without one proves nothing",
            args.device
        )));
    }
    let Some(witness) = &args.witness else {
        return request(args, &attestation_key, &endorsements, terminal);
    };
    let http = Http::new()?;
    let mut refusals = Vec::new();
    for endorsement in &endorsements {
        let tried = exchange(&http, witness, &*tpm, &attestation_key, endorsement).await?;
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
        write_json(&args.out, &activation)?;
        let value = json!({ "device": args.device, "name": name, "activation": args.out });
        return terminal.result(&value, || {
            format!(
                "{witness} certifies the attestation key {name}. For the device's table:\n\nattestation-key = \"{}\"\nactivation = {:?}\n",
                args.attestation_key,
                args.out.display().to_string()
            )
        });
    }
    Err(Failure::refused(format!("{witness} certifies nothing: {}", refusals.join("; "))))
}

/// The first step by a file: every endorsement key, since it is for others to say which manufacturers they know.
fn request(
    args: &ActivateArgs,
    attestation_key: &[u8],
    endorsements: &[EndorsementKey],
    terminal: &Terminal,
) -> Result<(), Failure> {
    let text = |key: &EndorsementKey| EndorsementText::new(&key.public, &key.chain);
    let file = RequestFile {
        attestation_key: hex::encode(attestation_key),
        endorsements: endorsements.iter().map(text).collect(),
    };
    write_json(&args.out, &file)?;
    let name = attestation_key::name(attestation_key).map_err(Failure::failed)?;
    let value = json!({ "device": args.device, "name": name, "request": args.out });
    terminal.result(&value, || {
        format!(
            "{}: the request for the attestation key {name}; for `undercroft-witness activate begin`\n",
            args.out.display()
        )
    })
}

/// The second step by a file: what the TPM finds in the credential.
async fn answer(
    args: &ActivateArgs,
    path: &Path,
    tpm: &dyn Activate,
    attestation_key: &[u8],
    terminal: &Terminal,
) -> Result<(), Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let file: ChallengeFile =
        serde_json::from_str(&read_text(path)?).map_err(|error| wrong(error.to_string()))?;
    let endorsements = tpm.endorsements().await?;
    let asked = |key: &&EndorsementKey| EndorsementText::new(&key.public, &key.chain) == file.endorsement;
    let endorsement = endorsements.iter().find(asked).ok_or_else(|| {
        wrong(format!("it is for another TPM: device `{}` has no such endorsement key", args.device))
    })?;
    let finish = opened(tpm, endorsement, attestation_key, &file.challenge)
        .await
        .map_err(|failure| failure.during(path.display()))?;
    write_json(&args.out, &finish)?;
    let value = json!({ "device": args.device, "answer": args.out, "until": file.challenge.until });
    terminal.result(&value, || {
        format!(
            "{}: the answer, good until {}; for `undercroft-witness activate finish`\n",
            args.out.display(),
            file.challenge.until
        )
    })
}

/// Has the TPM open a credential.
async fn opened(
    tpm: &dyn Activate,
    endorsement: &EndorsementKey,
    attestation_key: &[u8],
    begun: &Begun,
) -> Result<Finish, Failure> {
    let bytes = |text: &str| {
        hex::decode(text).map_err(|error| Failure::failed(format!("the credential is unsound: {error}")))
    };
    let secret = tpm.activate(endorsement, &bytes(&begun.credential)?, &bytes(&begun.secret)?).await?;
    Ok(Finish {
        session: begun.session.clone(),
        attestation_key: hex::encode(attestation_key),
        secret: hex::encode(secret),
    })
}

/// Both steps with one endorsement key. The inner error is a refusal, and another endorsement key may fare better.
async fn exchange(
    http: &Http,
    witness: &str,
    tpm: &dyn Activate,
    attestation_key: &[u8],
    endorsement: &EndorsementKey,
) -> Result<Result<String, String>, Failure> {
    let begin = Begin {
        endorsement: EndorsementText::new(&endorsement.public, &endorsement.chain),
        attestation_key: hex::encode(attestation_key),
    };
    let begun: Begun = match post(http, witness, BEGIN, &begin).await? {
        Ok(begun) => begun,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let finish = opened(tpm, endorsement, attestation_key, &begun)
        .await
        .map_err(|failure| failure.during(format_args!("{witness}: its answer")))?;
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

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
    write_file(path, &text)
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
