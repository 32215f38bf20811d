//! How commands reach the daemon, and how its refusals are told.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::Channel;
use tonic::{Code, Status};
use undercroft_ca::certificate::{AuthorityCertificate, certificates_from_pem};
use undercroft_ca::names::SERVER_PATH;
use undercroft_cli::{Failure, read_text};
use undercroft_proto::connect::{ConnectError, Credentials, Server, connect, connect_admin};
use undercroft_proto::identity::DomainAnchors;

/// Where the daemon's API is.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// Where the daemon listens, as host:port.
    #[arg(long, env = "UNDERCROFT_SERVER")]
    server: String,
    /// The roots (PEM) of the trust domain by which the daemon is known: the control domain, usually.
    #[arg(long, env = "UNDERCROFT_ROOTS")]
    roots: PathBuf,
    /// The daemon's SPIFFE ID, if the roots do not say their domain.
    #[arg(long)]
    server_id: Option<String>,
}

/// Where the daemon's administration is.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// The daemon's administration socket.
    #[arg(long, env = "UNDERCROFT_ADMIN", default_value = "/run/undercroft/admin.sock")]
    admin: PathBuf,
}

impl ServerArgs {
    pub(super) async fn connect(&self, credentials: Option<Credentials>) -> Result<Channel, Failure> {
        let roots = read_roots(&self.roots)?;
        let spiffe_id = match &self.server_id {
            Some(id) => id.clone(),
            None => server_id(&roots).ok_or_else(|| {
                Failure::usage(format!(
                    "{}: the roots do not say which trust domain they are for; give --server-id",
                    self.roots.display()
                ))
            })?,
        };
        let domain = spiffe_id
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split('/').next())
            .ok_or_else(|| Failure::usage(format!("--server-id {spiffe_id}: it is no SPIFFE ID")))?;
        let roots = roots.iter().map(|root| CertificateDer::from(root.der().to_vec())).collect();
        let anchors = DomainAnchors::new(domain, roots, Vec::new());
        let server = Server { address: self.server.clone(), spiffe_id, anchors };
        connect(server, credentials).await.map_err(unreached)
    }
}

impl AdminArgs {
    pub(super) async fn connect(&self) -> Result<Channel, Failure> {
        connect_admin(&self.admin).await.map_err(unreached)
    }
}

/// The daemon is known by a reserved ID in the domain of its roots.
fn server_id(roots: &[AuthorityCertificate]) -> Option<String> {
    let uri = roots.first()?.uris().first()?;
    Some(format!("{uri}{SERVER_PATH}"))
}

/// Reads a PEM file of roots.
pub(super) fn read_roots(path: &Path) -> Result<Vec<AuthorityCertificate>, Failure> {
    let during = |failure: Failure| failure.during(path.display());
    certificates_from_pem(&read_text(path)?)
        .map_err(|error| during(error.into()))?
        .iter()
        .map(|der| AuthorityCertificate::from_der(der).map_err(|error| during(error.into())))
        .collect()
}

/// Reads a client's certificate chain and key.
pub(super) fn read_credentials(certificate: &Path, key: &Path) -> Result<Credentials, Failure> {
    let chain = certificates_from_pem(&read_text(certificate)?)
        .map_err(|error| Failure::from(error).during(certificate.display()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        Failure::usage(format!("{}: it is no private key in PEM: {error}", key.display()))
    })?;
    Ok((chain.into_iter().map(CertificateDer::from).collect(), private))
}

/// Runs a client's work.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(work)
}

/// What the daemon answered instead of what was asked for.
pub(super) fn told(status: Status) -> Failure {
    let message = status.message();
    // A status with a source was made on this side: the daemon has said nothing.
    if let Some(source) = std::error::Error::source(&status) {
        return Failure::unreachable(format!(
            "the connection to the daemon broke before it answered ({source}); what was asked for may have been done: look at `undercroft status` and ask again"
        ));
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => Failure::refused(message),
        Code::NotFound | Code::OutOfRange | Code::AlreadyExists | Code::FailedPrecondition => {
            Failure::usage(message)
        }
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
            Failure::unreachable(format!("the daemon cannot do it now: {message}"))
        }
        code => Failure::failed(format!("the daemon answered {code:?}: {message}")),
    }
}

fn unreached(error: ConnectError) -> Failure {
    match error {
        ConnectError::Unreachable { .. } => Failure::unreachable(error.to_string()),
        ConnectError::TurnedAway { .. } => Failure::refused(error.to_string()),
        ConnectError::Unbound { .. } => Failure::failed(error.to_string()),
        ConnectError::Address(_) | ConnectError::Tls(_) => Failure::usage(error.to_string()),
    }
}
