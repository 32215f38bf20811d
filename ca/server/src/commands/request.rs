//! `undercroft issue` and `undercroft enrol`: a CSR in; a certificate out, checked before it is written.

use std::path::{Path, PathBuf};

use serde_json::json;
use undercroft_ca::certificate::{AuthorityCertificate, to_pem};
use undercroft_ca::csr::{Csr, der_from_pem};
use undercroft_ca::time::Lifetime;
use undercroft_ca::verify::{chain, standing};
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Failure, Terminal, read_text, write_file};
use undercroft_log::Clock as _;
use undercroft_log::note::VerifierKey;
use undercroft_proto::v1;
use undercroft_proto::v1::issuance_client::IssuanceClient;

use super::client::{ServerArgs, block_on, read_credentials, read_roots, told};

/// Arguments of `issue`.
#[derive(Debug, clap::Args)]
pub(super) struct IssueArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The caller's certificate chain (PEM, leaf first).
    #[arg(long, env = "UNDERCROFT_CERT")]
    cert: PathBuf,
    /// The caller's private key (PEM).
    #[arg(long, env = "UNDERCROFT_KEY")]
    key: PathBuf,
    /// The trust domain.
    #[arg(long)]
    domain: String,
    /// The profile, as policy names it.
    #[arg(long, default_value = "svid")]
    profile: String,
    /// The PKCS #10 request (PEM).
    #[arg(long)]
    csr: PathBuf,
    /// The SPIFFE ID; the one in the request if absent.
    #[arg(long, default_value = "")]
    id: String,
    /// A DNS name; may be repeated.
    #[arg(long)]
    dns: Vec<String>,
    /// The lifetime, such as 30m or 24h; the profile's own if absent.
    #[arg(long)]
    lifetime: Option<Lifetime>,
    /// Say what would be issued, and issue nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    receive: ReceiveArgs,
}

/// Arguments of `enrol`.
#[derive(Debug, clap::Args)]
pub(super) struct EnrolArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The file that holds the token.
    #[arg(long)]
    token_file: PathBuf,
    /// The PKCS #10 request (PEM). Only its key is taken.
    #[arg(long)]
    csr: PathBuf,
    #[command(flatten)]
    receive: ReceiveArgs,
}

/// What a certificate that comes back must agree with, and where it is written.
#[derive(Debug, clap::Args)]
struct ReceiveArgs {
    /// The folder for leaf.pem, chain.pem (leaf first), bundle.pem (roots), leaf.tlog-proof, leaf.entry and log.vkey.
    #[arg(long)]
    out: PathBuf,
    /// The roots (PEM) that the certificate must chain to; those that the daemon sends if absent.
    #[arg(long)]
    domain_roots: Option<PathBuf>,
    /// The key (vkey) of the log that it must stand in; the one that the daemon sends if absent.
    #[arg(long)]
    log_key: Option<PathBuf>,
}

impl IssueArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let csr = read_csr(&self.csr)?;
        let credentials = read_credentials(&self.cert, &self.key)?;
        let request = v1::IssueRequest {
            domain: self.domain,
            profile: self.profile,
            csr: csr.clone(),
            spiffe_id: self.id,
            dns_names: self.dns,
            lifetime_seconds: self.lifetime.map_or(0, Lifetime::as_seconds),
        };
        block_on(async {
            let mut client = IssuanceClient::new(self.server.connect(Some(credentials)).await?);
            if self.dry_run {
                let preview = client.preview(request).await.map_err(told)?.into_inner();
                return show(&preview, terminal);
            }
            let response = client.issue(request).await.map_err(told)?.into_inner();
            self.receive.take(&response, &csr, terminal)
        })
    }
}

impl EnrolArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let csr = read_csr(&self.csr)?;
        let token = read_text(&self.token_file)?.trim().to_owned();
        block_on(async {
            let mut client = IssuanceClient::new(self.server.connect(None).await?);
            let request = v1::EnrolRequest { token, csr: csr.clone() };
            let response = client.enrol(request).await.map_err(told)?.into_inner();
            self.receive.take(&response, &csr, terminal)
        })
    }
}

/// The DER of a request. Whether it is a good one is for the daemon to say.
fn read_csr(path: &Path) -> Result<Vec<u8>, Failure> {
    der_from_pem(&read_text(path)?).map_err(|error| Failure::from(error).during(path.display()))
}

fn show(preview: &v1::PreviewResponse, terminal: &Terminal) -> Result<(), Failure> {
    let lifetime = Lifetime::seconds(preview.lifetime_seconds);
    let value = json!({
        "rule": preview.rule,
        "spiffe-id": preview.spiffe_id,
        "dns-names": preview.dns_names,
        "lifetime-seconds": preview.lifetime_seconds,
        "withheld": preview.withheld,
    });
    terminal.result(&value, || {
        let mut text = format!("Rule `{}` grants {} for {lifetime}", preview.rule, preview.spiffe_id);
        if !preview.dns_names.is_empty() {
            text += &format!(" with {}", preview.dns_names.join(", "));
        }
        if !preview.withheld.is_empty() {
            text += &format!(", and withholds {}", preview.withheld.join(", "));
        }
        text + ". Nothing was issued.\n"
    })
}

impl ReceiveArgs {
    /// Checks what came back before a byte of it is written: the chain, that the certificate is for our key, and that
    /// it stands in the log.
    fn take(&self, response: &v1::IssueResponse, csr: &[u8], terminal: &Terminal) -> Result<(), Failure> {
        let wrong = |what: String| Failure::tampered(format!("the daemon's answer: {what}"));
        let sent = response
            .roots
            .iter()
            .map(|der| AuthorityCertificate::from_der(der).map_err(|error| wrong(format!("a root: {error}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let roots = match &self.domain_roots {
            Some(path) => read_roots(path)?,
            None => sent.clone(),
        };
        let holder =
            chain(&response.chain, &roots, SystemClock.now()).map_err(|error| wrong(error.to_string()))?;
        if holder.public_key != *Csr::from_der(csr)?.public_key() {
            return Err(wrong("the certificate is for another key than the request's".into()));
        }
        let key_text = match &self.log_key {
            Some(path) => read_text(path)?,
            None => response.log_key.clone(),
        };
        let key: VerifierKey =
            key_text.trim_end().parse().map_err(|error| wrong(format!("the log's key: {error}")))?;
        let Some(leaf) = response.chain.first() else { return Err(wrong("no certificate".into())) };
        let standing = standing(leaf, &response.entry, &response.tlog_proof, &key)
            .map_err(|error| wrong(error.to_string()))?;
        self.write(response, leaf, &sent, &key)?;
        let value = json!({
            "uris": holder.uris,
            "not-after": holder.validity.not_after().to_string(),
            "log": key.name().to_string(),
            "index": standing.index,
            "rule": standing.intent.rule,
            "withheld": standing.intent.withheld,
            "out": self.out,
        });
        terminal.result(&value, || {
            format!(
                "{} until {}, entry {} of {}, in {}\n",
                holder.uris.join(" "),
                holder.validity.not_after(),
                standing.index,
                key.name(),
                self.out.display()
            )
        })
    }

    fn write(
        &self,
        response: &v1::IssueResponse,
        leaf: &[u8],
        roots: &[AuthorityCertificate],
        key: &VerifierKey,
    ) -> Result<(), Failure> {
        let write = |name: &str, bytes: &[u8]| write_file(&self.out.join(name), bytes);
        let pem = |ders: &mut dyn Iterator<Item = &[u8]>| -> Result<String, Failure> {
            Ok(ders.map(|der| to_pem("CERTIFICATE", der)).collect::<Result<String, _>>()?)
        };
        write("leaf.tlog-proof", response.tlog_proof.as_bytes())?;
        write("leaf.entry", &response.entry)?;
        write("log.vkey", format!("{key}\n").as_bytes())?;
        write("bundle.pem", pem(&mut roots.iter().map(AuthorityCertificate::der))?.as_bytes())?;
        write("chain.pem", pem(&mut response.chain.iter().map(Vec::as_slice))?.as_bytes())?;
        // Last, so that whoever waits for it finds the rest.
        write("leaf.pem", pem(&mut [leaf].into_iter())?.as_bytes())
    }
}
