//! The node's configuration: one TOML file. Paths in it are relative to its own folder. `docs/node.md` has an example.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use undercroft_ca::certificate::{AuthorityCertificate, certificates_from_pem};
use undercroft_ca::names::{SERVER_PATH, parse_spiffe_id, parse_trust_domain};
use undercroft_ca::strict_toml;
use undercroft_ca::time::Lifetime;
use undercroft_cli::{Failure, read_text};
use undercroft_log::note::VerifierKey;

/// Where the kernel shows what the firmware measured.
const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConfig {
    server: String,
    domain: String,
    roots: PathBuf,
    server_id: Option<String>,
    server_roots: Option<PathBuf>,
    log_key: Option<PathBuf>,
    state: PathBuf,
    output: PathBuf,
    tcti: Option<String>,
    event_log: Option<PathBuf>,
    #[serde(default)]
    files: RawFiles,
    #[serde(default)]
    renewal: RawRenewal,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFiles {
    mode: Option<String>,
    group: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRenewal {
    #[serde(default)]
    key: KeyChoice,
    retry_least: Option<Lifetime>,
    retry_most: Option<Lifetime>,
}

/// Which key the next certificate is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChoice {
    /// Another one each time.
    #[default]
    New,
    /// The one of the certificate before, if it is still there.
    Keep,
}

/// A configuration whose parts agree with each other.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host and port of the daemon.
    pub server: String,
    /// The SPIFFE ID that the daemon's certificate must carry.
    pub server_id: String,
    /// The roots of that ID's trust domain; none if it is the node's own.
    pub server_roots: Option<Vec<AuthorityCertificate>>,
    /// The trust domain that the node wants to be in.
    pub domain: String,
    /// Its roots, as they were when the node was set up.
    pub roots: Vec<AuthorityCertificate>,
    /// The key of the log that certificates must stand in; any if none.
    pub log_key: Option<VerifierKey>,
    /// The folder for what is remembered.
    pub state: PathBuf,
    /// The folder that consumers read.
    pub output: PathBuf,
    /// How the TPM is reached; the kernel's resource manager if none.
    pub tcti: Option<String>,
    /// The firmware's event log.
    pub event_log: PathBuf,
    /// Permissions of the files in `output`.
    pub mode: u32,
    /// Their group; the process's own if none.
    pub group: Option<u32>,
    /// Which key the next certificate is for.
    pub key: KeyChoice,
    /// The first pause after a failure, and the longest.
    pub retry: (Duration, Duration),
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let raw: RawConfig = strict_toml::parse(&path.display().to_string(), &read_text(path)?)?;
        let base = path.parent().unwrap_or(Path::new("."));
        parse_trust_domain(&raw.domain).map_err(|error| wrong(format!("domain: {error}")))?;
        let own = format!("spiffe://{}", raw.domain);
        let server_id = raw.server_id.unwrap_or_else(|| format!("{own}{SERVER_PATH}"));
        let id = parse_spiffe_id(&server_id).map_err(|error| wrong(format!("server-id: {error}")))?;
        let server_roots = raw.server_roots.map(|file| read_roots(&base.join(file))).transpose()?;
        if id.trust_domain().as_str() != raw.domain && server_roots.is_none() {
            return Err(wrong(format!(
                "server-id {server_id} is of another trust domain than {}, so that its roots do not vouch for it: give server-roots",
                raw.domain
            )));
        }
        let log_key = |file: PathBuf| {
            let path = base.join(file);
            let key = read_text(&path)?.trim_end().parse();
            key.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
        };
        let mode = raw.files.mode.as_deref().unwrap_or("0640");
        let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| mode & 0o400 != 0 && mode & !0o660 == 0);
        let mode = mode.ok_or_else(|| {
            wrong("files.mode: write 0600, 0640 or 0660: whoever reads svid.key can use the key, so that it is never for everybody".to_owned())
        })?;
        let least = raw.renewal.retry_least.unwrap_or(Lifetime::seconds(5)).0;
        let most = raw.renewal.retry_most.unwrap_or(Lifetime::seconds(600)).0;
        if most < least {
            return Err(wrong("renewal: retry-most is less than retry-least".to_owned()));
        }
        Ok(Self {
            server: raw.server,
            server_id,
            server_roots,
            roots: read_roots(&base.join(raw.roots))?,
            domain: raw.domain,
            log_key: raw.log_key.map(log_key).transpose()?,
            state: base.join(raw.state),
            output: base.join(raw.output),
            tcti: raw.tcti,
            event_log: base.join(raw.event_log.unwrap_or_else(|| EVENT_LOG.into())),
            mode,
            group: raw.files.group,
            key: raw.renewal.key,
            retry: (least, most),
        })
    }
}

fn read_roots(path: &Path) -> Result<Vec<AuthorityCertificate>, Failure> {
    let during = |failure: Failure| failure.during(path.display());
    let roots = certificates_from_pem(&read_text(path)?).map_err(|error| during(error.into()))?;
    if roots.is_empty() {
        return Err(during(Failure::usage("there is no root in it")));
    }
    roots
        .iter()
        .map(|der| AuthorityCertificate::from_der(der).map_err(|error| during(error.into())))
        .collect()
}
