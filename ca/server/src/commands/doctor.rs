//! `undercroft doctor`: does this machine have what the configuration wants, and what does it have besides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::executor::block_on;
use jiff::Timestamp;
use serde::Serialize;
use undercroft_attestors::custody;
use undercroft_attestors::custody::Grade;
use undercroft_attestors::trust::Trust;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{ExitStatus, Failure, StrictArgs, Terminal};
use undercroft_keymgr::{Key, Secrecy, Sighting};
use undercroft_log::Clock as _;

use crate::config::{Authority, Config, Domain};
use crate::serve::log_key;

/// An authority that ends sooner than this is told of.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// The configuration. Without it, only what this machine has is shown.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    strict: StrictArgs,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Check {
    what: String,
    verdict: Verdict,
    /// What it means and what to do.
    text: String,
    #[serde(skip)]
    status: ExitStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Good,
    Note,
    Bad,
}

impl Check {
    fn new(what: impl Into<String>, found: Result<String, Failure>) -> Self {
        match found {
            Ok(text) => Self { what: what.into(), verdict: Verdict::Good, text, status: ExitStatus::Done },
            Err(failure) => Self {
                what: what.into(),
                verdict: Verdict::Bad,
                text: failure.to_string(),
                status: failure.status(),
            },
        }
    }

    fn note(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Note, text: text.into(), status: ExitStatus::Done }
    }
}

impl DoctorArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let mut checks = machine(self.strict.secrecy());
        if let Some(path) = &self.config {
            match Config::read(path, self.strict.secrecy(), crate::backends(self.strict.secrecy())) {
                Ok(config) => checks.extend(block_on(examine(&config, SystemClock.now()))),
                Err(failure) => checks.push(Check::new("configuration", Err(failure))),
            }
        }
        terminal.result(&checks, || {
            let mark = |verdict| match verdict {
                Verdict::Good => "ok  ",
                Verdict::Note => "note",
                Verdict::Bad => "BAD ",
            };
            checks.iter().map(|c| format!("{} {:32} {}\n", mark(c.verdict), c.what, c.text)).collect()
        })?;
        let bad: Vec<_> = checks.iter().filter(|check| check.verdict == Verdict::Bad).collect();
        match bad.first() {
            None => Ok(()),
            Some(first) => Err(Failure::new(
                first.status,
                format!("{} of {} checks are bad, the first: {}", bad.len(), checks.len(), first.what),
            )),
        }
    }
}

/// What this machine has: it can be used, or it says what is missing. Nothing of it is bad, since nobody may want it.
fn machine(secrecy: Secrecy) -> Vec<Check> {
    let found = crate::backends(secrecy).into_iter().flat_map(|backend| backend.survey());
    found
        .map(|Sighting { what, usable }| match usable {
            Ok(uri) => Check::new(what, Ok(format!("uri = \"{uri}\""))),
            Err(missing) => Check::note(what, missing),
        })
        .collect()
}

async fn examine(config: &Config, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![Check::new("configuration", Ok(format!("digest {}", config.digest)))];
    if config.development {
        checks.push(Check::note("development mode", "keys in software are accepted: never in production"));
    }
    for device in config.tokens.devices() {
        let opened = config.tokens.manager(device).map(|_| device.uri.to_string()).map_err(Failure::from);
        checks.push(Check::new(format!("device {}", device.name), opened));
    }
    for domain in &config.domains {
        let required = domain.custody.grade(config.development);
        let of_log = domain.log_custody.grade(config.development);
        let found = examine_log_keys(config, domain, of_log, now).await;
        checks.push(Check::new(format!("{} log key", domain.name.as_str()), found));
        for authority in &domain.authorities {
            checks.extend(examine_authority(config, domain, authority, required, now).await);
        }
    }
    checks.push(Check::new("database", folder_can_be_written(&config.database)));
    checks.push(admin_socket(&config.admin_socket));
    checks
}

/// With the vkeys that witnesses and auditors are given, before the first start, too.
async fn examine_log_keys(
    config: &Config,
    domain: &Domain,
    required: Grade,
    now: Timestamp,
) -> Result<String, Failure> {
    let log_key = log_key(config, domain).await?;
    let vkeys = [Some(log_key.verifier().to_string()), log_key.second().map(ToString::to_string)];
    let mut found = Vec::new();
    for (key, vkey) in log_key.keys().zip(vkeys.into_iter().flatten()) {
        found.push(format!("{}; vkey {vkey}", judge(key, required, &config.trust, now).await?));
    }
    Ok(found.join("; second key: "))
}

async fn examine_authority(
    config: &Config,
    domain: &Domain,
    authority: &Authority,
    required: Grade,
    now: Timestamp,
) -> Vec<Check> {
    let what = format!("{} authority {}", domain.name.as_str(), authority.name);
    let found = authority_key(config, authority, required, now).await;
    let validity = authority.certificate.validity();
    let signed = domain.roots.iter().any(|root| authority.certificate.is_issued_by(root));
    let certificate = match (signed, validity.contains(now)) {
        (false, _) => Err(Failure::usage("its certificate is signed by none of the domain's roots")),
        (true, false) => Err(Failure::usage(format!("its certificate is valid from {validity} only"))),
        (true, true) => Ok(format!("certificate valid until {}", validity.not_after())),
    };
    let mut checks = vec![Check::new(what.clone(), found), Check::new(what.clone(), certificate)];
    if validity.contains(now) && validity.not_after() < now + SOON {
        checks
            .push(Check::note(what, format!("its certificate ends at {}: rotate it", validity.not_after())));
    }
    checks
}

async fn authority_key(
    config: &Config,
    authority: &Authority,
    required: Grade,
    now: Timestamp,
) -> Result<String, Failure> {
    let key = config.tokens.open(&authority.key, authority.algorithm).await?;
    let held = key.signer.public_key();
    if authority.certificate.public_key() != held {
        return Err(Failure::usage(format!(
            "{} holds the key {}, which its certificate is not for",
            authority.key,
            held.id()
        )));
    }
    judge(&key, required, &config.trust, now).await
}

/// What a key is and where it lives, if that is good enough.
async fn judge(key: &Key, required: Grade, trust: &Trust, now: Timestamp) -> Result<String, Failure> {
    let evidence = key.custody.custody_evidence().await?;
    let judged = custody::judge(evidence.format, &evidence.bytes, key.signer.public_key(), trust, now);
    match judged.grade >= required {
        true => Ok(format!("{}, custody {}", key.signer.algorithm(), judged.grade)),
        false => Err(Failure::refused(format!(
            "custody is graded `{}`, and `{required}` is required: {}",
            judged.grade,
            judged.findings.join("; ")
        ))),
    }
}

fn folder_can_be_written(database: &Path) -> Result<String, Failure> {
    let folder = database.parent().unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| {
        Failure::unreachable(format!("{} cannot be written: {error}", folder.display()))
    };
    tempfile::tempfile_in(folder).map(drop).map_err(failed)?;
    Ok(match database.exists() {
        true => database.display().to_string(),
        false => format!("{} will be made", database.display()),
    })
}

fn admin_socket(path: &Path) -> Check {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Check::new("daemon", Ok(format!("runs, and listens on {}", path.display()))),
        Err(_) => Check::note("daemon", format!("does not run (nobody listens on {})", path.display())),
    }
}
