//! Channels to the daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::identity::{DomainAnchors, Side, verify};

/// A client's own certificate chain, leaf first, and key.
pub type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Where the daemon is and how it is known.
#[derive(Debug)]
pub struct Server {
    /// Host and port.
    pub address: String,
    /// The SPIFFE ID that its certificate must carry.
    pub spiffe_id: String,
    /// The roots of that ID's trust domain.
    pub anchors: DomainAnchors,
}

/// Connects over TCP with TLS 1.3.
///
/// # Errors
/// The daemon cannot be reached, or is not who it should be.
pub async fn connect(server: Server, credentials: Option<Credentials>) -> Result<Channel, ConnectError> {
    dial(server, credentials, Arc::default()).await
}

/// As [`connect`], without a client certificate, for one exchange that is bound to its connection: gives the tls-exporter of
/// it, too (RFC 9266 section 2). A channel that connects again has another.
///
/// # Errors
/// As there.
pub async fn connect_bound(server: Server) -> Result<(Channel, [u8; 32]), ConnectError> {
    let exported = Arc::new(Mutex::new(None));
    let address = server.address.clone();
    let channel = dial(server, None, exported.clone()).await?;
    let exported = exported.lock().unwrap_or_else(PoisonError::into_inner).take();
    exported.map(|exported| (channel, exported)).ok_or(ConnectError::Unbound { address })
}

/// What the exporter of the newest connection gives.
type Exported = Arc<Mutex<Option<[u8; 32]>>>;

async fn dial(
    server: Server,
    credentials: Option<Credentials>,
    exported: Exported,
) -> Result<Channel, ConnectError> {
    let provider = crypto_provider();
    let verifier = ServerIdentity {
        algorithms: provider.signature_verification_algorithms,
        spiffe_id: server.spiffe_id,
        anchors: [server.anchors],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credentials {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let address = server.address;
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Address(address.clone()))?;
    let dial = address.clone();
    let service = tower::service_fn(move |_: Uri| {
        let (connector, name, dial) = (connector.clone(), name.clone(), dial.clone());
        let exported = exported.clone();
        async move {
            let tcp = TcpStream::connect(&dial).await?;
            tcp.set_nodelay(true)?;
            let stream = connector.connect(name, tcp).await?;
            *exported.lock().unwrap_or_else(PoisonError::into_inner) = channel_binding(stream.get_ref().1);
            accepted(stream).await.map(TokioIo::new)
        }
    });
    // The URI is a form: the connector dials.
    Endpoint::from_static("http://undercroft").connect_with_connector(service).await.map_err(|error| {
        match alert(&error) {
            Some(alert) => ConnectError::TurnedAway { address, alert },
            None => ConnectError::Unreachable { address, error },
        }
    })
}

/// The tls-exporter of a connection whose handshake is over (RFC 9266 section 2).
pub fn channel_binding<Data>(connection: &rustls::ConnectionCommon<Data>) -> Option<[u8; 32]> {
    connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

/// Waits until the daemon has accepted our certificate. In TLS 1.3 a client's handshake is over before the server has
/// looked at its certificate (RFC 8446 section 2); an HTTP/2 server speaks first (RFC 9113 section 3.4), and before
/// its first byte comes the alert, if there is one.
async fn accepted(mut stream: TlsStream<TcpStream>) -> io::Result<impl AsyncRead + AsyncWrite> {
    let first = [stream.read_u8().await?];
    let (reader, writer) = tokio::io::split(stream);
    Ok(tokio::io::join(io::Cursor::new(first).chain(reader), writer))
}

/// The alert by which the daemon turned our certificate away.
fn alert(error: &(dyn std::error::Error + 'static)) -> Option<AlertDescription> {
    let mut source = Some(error);
    while let Some(error) = source {
        let tls = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(TlsError::AlertReceived(alert)) = tls.and_then(|inner| inner.downcast_ref()) {
            return Some(*alert);
        }
        source = error.source();
    }
    None
}

/// Connects to the administration socket.
///
/// # Errors
/// Nobody listens there.
pub async fn connect_admin(socket: &Path) -> Result<Channel, ConnectError> {
    let path: PathBuf = socket.to_owned();
    let service = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://undercroft")
        .connect_with_connector(service)
        .await
        .map_err(|error| ConnectError::Unreachable { address: socket.display().to_string(), error })
}

/// Accepts the daemon by its SPIFFE ID, whatever it is called.
#[derive(Debug)]
struct ServerIdentity {
    algorithms: WebPkiSupportedAlgorithms,
    spiffe_id: String,
    anchors: [DomainAnchors; 1],
}

impl ServerCertVerifier for ServerIdentity {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let id = verify(&self.anchors, end_entity, intermediates, Side::Server, now)
            .map_err(|error| TlsError::General(error.to_string()))?;
        match id == self.spiffe_id {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The provider of cryptography that every TLS connection of ours uses.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Why the daemon was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("`{0}` is no address; write host:port")]
    Address(String),
    /// Nobody listens, or it is somebody else.
    #[error("cannot reach the daemon at {address}: {}", chain(error))]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        error: tonic::transport::Error,
    },
    /// TLS gave no exporter: a bug.
    #[error("the connection to {address} cannot be bound to: TLS gave no exporter")]
    Unbound {
        /// Where.
        address: String,
    },
    /// The daemon does not take the client's certificate.
    #[error(
        "the daemon at {address} turned the client certificate away (TLS alert {alert:?}): it must be valid now and directly under an authority of its trust domain"
    )]
    TurnedAway {
        /// Where.
        address: String,
        /// What it said.
        alert: AlertDescription,
    },
    /// The client's own certificate and key.
    #[error("the client's certificate and key: {0}")]
    Tls(#[from] TlsError),
}

/// tonic says "transport error" and hides the reason in the sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}
