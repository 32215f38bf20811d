//! Commands over the administration socket: `status`, `domain`, `bundle` and `enrolment`.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use undercroft_ca::certificate::to_pem;
use undercroft_ca::time::Lifetime;
use undercroft_cli::{Failure, Terminal};
use undercroft_proto::v1;
use undercroft_proto::v1::admin_client::AdminClient;
use undercroft_proto::v1::issuance_client::IssuanceClient;

use super::client::{AdminArgs, block_on, told};
use super::freeze;
use super::stated::StatedArgs;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Commands about domains.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DomainCommand {
    /// List the trust domains.
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show a trust domain: its authorities, its log and the key that verifies it.
    Show {
        #[command(flatten)]
        admin: AdminArgs,
        /// The trust domain.
        name: String,
    },
}

/// Arguments of `bundle`.
#[derive(Debug, clap::Args)]
pub(super) struct BundleArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The trust domain.
    domain: String,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = BundleFormat::Pem)]
    format: BundleFormat,
    #[command(flatten)]
    stated: StatedArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum BundleFormat {
    /// The roots, one PEM block each.
    Pem,
    /// The SPIFFE bundle document (a JWK Set).
    Spiffe,
}

/// Commands about enrolment.
#[derive(Debug, clap::Subcommand)]
pub(super) enum EnrolmentCommand {
    /// Make a token that is good once, for one SPIFFE ID of the control domain.
    Create {
        #[command(flatten)]
        admin: AdminArgs,
        /// The SPIFFE ID, such as spiffe://control.example/operator/alice.
        id: String,
        /// How long the token may wait.
        #[arg(long, default_value = "1h")]
        lifetime: Lifetime,
        /// The file that the token is written to, readable by its owner alone. It must not exist yet.
        #[arg(long)]
        token_file: PathBuf,
    },
}

impl StatusArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let status = status(&self.admin)?;
        let freezes = freeze::freezes(&self.admin)?;
        let domains: Vec<_> = status.domains.iter().map(describe).collect();
        let value = json!({
            "version": status.version,
            "development": status.development,
            "control": status.control,
            "policy": status.policy,
            "rules": status.rules,
            "domains": domains,
            "frozen": freezes.iter().map(freeze::describe).collect::<Vec<_>>(),
        });
        terminal.result(&value, || {
            let mut text = format!(
                "undercroft {}{}\npolicy {} ({} rules)\n",
                status.version,
                if status.development { ", development mode: software keys are accepted" } else { "" },
                status.policy,
                status.rules
            );
            for frozen in &freezes {
                text += &format!("FROZEN: {}\n", freeze::line(frozen));
            }
            for domain in &status.domains {
                let control = if domain.name == status.control { "  (control)" } else { "" };
                text += &format!("\n{}{control}\n", domain.name);
                text += &details(domain);
            }
            text
        })
    }
}

impl DomainCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::List { admin } => {
                let status = status(&admin)?;
                let names: Vec<_> = status.domains.iter().map(|domain| domain.name.clone()).collect();
                terminal.result(&names, || names.iter().map(|name| format!("{name}\n")).collect())
            }
            Self::Show { admin, name } => {
                let status = status(&admin)?;
                let domain = status.domains.iter().find(|domain| domain.name == name).ok_or_else(|| {
                    let known: Vec<_> = status.domains.iter().map(|domain| &*domain.name).collect();
                    Failure::usage(format!("no domain `{name}`; known are {}", known.join(", ")))
                })?;
                terminal.result(&describe(domain), || format!("{}\n{}", domain.name, details(domain)))
            }
        }
    }
}

fn status(admin: &AdminArgs) -> Result<v1::Status, Failure> {
    block_on(async {
        let mut client = AdminClient::new(admin.connect().await?);
        Ok(client.get_status(v1::GetStatusRequest {}).await.map_err(told)?.into_inner())
    })
}

fn describe(domain: &v1::DomainStatus) -> Value {
    let authorities: Vec<_> = domain
        .authorities
        .iter()
        .map(|authority| {
            json!({
                "name": authority.name,
                "subject": authority.subject,
                "not-after": authority.not_after,
                "key-id": authority.key_id,
                "algorithm": authority.algorithm,
            })
        })
        .collect();
    json!({
        "name": domain.name,
        "log-key": domain.log_key,
        "log-size": domain.log_size,
        "checkpoint": domain.checkpoint,
        "bundle-sequence": domain.bundle_sequence,
        "authorities": authorities,
    })
}

fn details(domain: &v1::DomainStatus) -> String {
    let mut text = format!("  log        {} entries, key {}\n", domain.log_size, domain.log_key);
    text += &format!("  bundle     {}\n", domain.bundle_sequence);
    for authority in &domain.authorities {
        text += &format!(
            "  authority  {}: {}, {}, until {}\n",
            authority.name, authority.subject, authority.algorithm, authority.not_after
        );
    }
    text
}

impl BundleArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let bundle = block_on(async {
            let mut client = IssuanceClient::new(self.admin.connect().await?);
            let request = v1::GetBundleRequest { domain: self.domain.clone() };
            Ok(client.get_bundle(request).await.map_err(told)?.into_inner())
        })?;
        let stated = self.stated.judge(&self.domain, &bundle.roots)?;
        let pem =
            || bundle.roots.iter().map(|root| to_pem("CERTIFICATE", root)).collect::<Result<String, _>>();
        match self.format {
            BundleFormat::Spiffe => terminal.raw(format!("{}\n", bundle.spiffe_bundle).as_bytes()),
            BundleFormat::Pem => {
                let text = pem()?;
                let value = json!({
                    "domain": bundle.domain,
                    "sequence": bundle.sequence,
                    "roots": text,
                    "log-key": bundle.log_key,
                    "stated": stated,
                });
                terminal.result(&value, || text.clone())
            }
        }
    }
}

impl EnrolmentCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let Self::Create { admin, id, lifetime, token_file } = self;
        let mut file = create_secret(&token_file)?;
        let made = block_on(async {
            let mut client = AdminClient::new(admin.connect().await?);
            let request =
                v1::CreateEnrolmentRequest { spiffe_id: id.clone(), lifetime_seconds: lifetime.as_seconds() };
            Ok(client.create_enrolment(request).await.map_err(told)?.into_inner())
        });
        let written = made.and_then(|made| {
            use std::io::Write as _;
            let written = writeln!(file, "{}", made.token).and_then(|()| file.sync_all());
            written.map_err(|error| {
                Failure::failed(format!("{} cannot be written: {error}", token_file.display()))
            })?;
            Ok(made.expires)
        });
        let expires = written.inspect_err(|_| {
            // An empty file would only stand in the way of the next try.
            let _ = std::fs::remove_file(&token_file);
        })?;
        let value = json!({ "id": id, "expires": expires, "token-file": token_file });
        terminal.result(&value, || {
            format!("{} holds a token for {id}, good once until {expires}\n", token_file.display())
        })
    }
}

/// Makes a file that its owner alone can read.
fn create_secret(path: &Path) -> Result<std::fs::File, Failure> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::usage(format!("{} cannot be made: {error}", path.display())))
}
