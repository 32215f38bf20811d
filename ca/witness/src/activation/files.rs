//! An activation by files, for hosts without a network between them: `undercroft-witness activate begin | finish`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use undercroft_attestors::tpm::exchange::{ChallengeFile, Finish, MAX_MESSAGE, RequestFile};
use undercroft_cli::{Failure, Terminal, read_text, write_file};

use super::{Activator, NotActivated};

/// The most endorsement keys of one TPM: the TCG's profile has eight templates with a place for a certificate.
const MAX_ENDORSEMENTS: usize = 8;

/// The first step: reads what `undercroft keys activate` wrote, and writes what the TPM is to open.
#[derive(Debug, clap::Args)]
pub struct BeginArgs {
    /// The request, from the CA's host.
    request: PathBuf,
    /// The file that is written, for `undercroft keys activate --challenge`.
    #[arg(long)]
    out: PathBuf,
}

/// The second step: reads what the TPM found, and writes the certificate of its attestation key.
#[derive(Debug, clap::Args)]
pub struct FinishArgs {
    /// The answer, from the CA's host.
    answer: PathBuf,
    /// The file that is written, for `activation` of the device.
    #[arg(long)]
    out: PathBuf,
    /// Say what would be signed. Nothing is tried, signed or written, and the answer stays good.
    #[arg(long)]
    dry_run: bool,
}

/// The first step with a file.
///
/// # Errors
/// The file is none, no endorsement key in it leads to a manufacturer that is known, or the state cannot be written.
pub fn begin(activator: &Activator, args: &BeginArgs, terminal: &Terminal) -> Result<(), Failure> {
    let request: RequestFile = read(&args.request)?;
    if request.endorsements.is_empty() || request.endorsements.len() > MAX_ENDORSEMENTS {
        return Err(Failure::usage(format!(
            "{}: it has {} endorsement keys, and a TPM has 1 to {MAX_ENDORSEMENTS}",
            args.request.display(),
            request.endorsements.len()
        )));
    }
    let mut refusals = Vec::new();
    for step in request.steps() {
        let challenge = match activator.begin(&step) {
            Ok(begun) => begun,
            // Another of its endorsement keys may fare better.
            Err(NotActivated::Endorsement(refusal)) => {
                refusals.push(refusal.to_string());
                continue;
            }
            Err(error) => return Err(Failure::from(error).during(args.request.display())),
        };
        let until = challenge.until;
        let value = json!({ "session": challenge.session, "until": until, "challenge": args.out });
        write(&args.out, &ChallengeFile { endorsement: step.endorsement, challenge })?;
        return terminal
            .result(&value, || format!("{}: for one answer, until {until}\n", args.out.display()));
    }
    Err(Failure::refused(format!("{}: {}", args.request.display(), refusals.join("; "))))
}

/// The second step with a file.
///
/// # Errors
/// The file is none, or the answer is not the one that was asked for.
pub async fn finish(activator: &Activator, args: &FinishArgs, terminal: &Terminal) -> Result<(), Failure> {
    let answer: Finish = read(&args.answer)?;
    let during = |error: NotActivated| Failure::from(error).during(args.answer.display());
    if args.dry_run {
        let statement = activator.would_sign(&answer).map_err(during)?;
        let value = json!({ "dry-run": true, "name": statement.name, "statement": statement.to_string() });
        return terminal.result(&value, || {
            format!("if the secret is the one that was enclosed, this is signed:\n\n{statement}")
        });
    }
    let activation = activator.finish(&answer).await.map_err(during)?;
    write(&args.out, &activation)?;
    let value = json!({ "certificate": activation.certificate, "activation": args.out });
    terminal.result(&value, || {
        format!("{}\n{}: for `activation` of the device\n", activation.certificate, args.out.display())
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let text = read_text(path)?;
    // Each endorsement key is as much as goes in one message over HTTP.
    if text.len() > MAX_MESSAGE * MAX_ENDORSEMENTS {
        return Err(wrong(format!("has more than {} bytes", MAX_MESSAGE * MAX_ENDORSEMENTS)));
    }
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
    write_file(path, &text)
}

impl From<NotActivated> for Failure {
    fn from(error: NotActivated) -> Self {
        let message = error.to_string();
        match error {
            NotActivated::Malformed(_) => Self::usage(message),
            NotActivated::Busy => Self::unreachable(message),
            NotActivated::Broken(_) | NotActivated::Statement(_) => Self::failed(message),
            _ => Self::refused(message),
        }
    }
}
