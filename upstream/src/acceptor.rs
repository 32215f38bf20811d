//! The TLS acceptor: who a peer is, before any request of it is read.
//!
//! A client certificate is optional. Where one is presented it must verify under the roots of the trust domain that
//! it names and be directly under an authority of ours ([`undercroft_proto::identity`]); a peer with any other
//! certificate is turned away in the handshake, with an alert.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use undercroft_ca::verify::holder;
use undercroft_proto::connect::{channel_binding, crypto_provider};
use undercroft_proto::identity::{DomainAnchors, IdentityError, Side, spiffe_id_of_verified, verify};

use crate::server_certificates::ServerCertificates;

/// How long a peer may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The SPIFFE ID of its certificate; none if it presented none.
    pub spiffe_id: Option<String>,
    /// When that certificate ends: from then on the peer is nobody, however long its connection lives.
    pub until: Option<Timestamp>,
    /// Where it is.
    pub address: SocketAddr,
    /// The tls-exporter of the connection (RFC 9266): what an exchange is bound to.
    pub binding: Option<[u8; 32]>,
}

/// Who may vouch for clients now: asked at each handshake, since roots are rotated.
pub type Anchors = Arc<dyn Fn() -> Arc<[DomainAnchors]> + Send + Sync>;

/// Accepts connections on `listener` until the stream is dropped. At most so many are open or shaking hands at once; more
/// wait in the kernel's backlog.
///
/// # Errors
/// The TLS configuration is impossible.
pub fn accept(
    listener: TcpListener,
    anchors: Anchors,
    certificates: Arc<ServerCertificates>,
    most: usize,
) -> Result<ReceiverStream<io::Result<Connection>>, TlsError> {
    let provider = crypto_provider();
    let verifier = ClientIdentity { algorithms: provider.signature_verification_algorithms, anchors };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every connection shows its certificate: a resumed one would show an old verdict.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(connections(listener, config, most))
}

/// Accepts connections of anybody, who is asked for no certificate and speaks HTTP/1.1; as [`accept`].
///
/// # Errors
/// The TLS configuration is impossible.
pub fn accept_anybody(
    listener: TcpListener,
    certificates: Arc<ServerCertificates>,
    most: usize,
) -> Result<ReceiverStream<io::Result<Connection>>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(connections(listener, config, most))
}

fn connections(
    listener: TcpListener,
    config: ServerConfig,
    most: usize,
) -> ReceiverStream<io::Result<Connection>> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (connections, accepted) = mpsc::channel(16);
    tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(most));
        while !connections.is_closed() {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: waiting for some is better than spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, connections) = (acceptor.clone(), connections.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE, shake_hands(acceptor, tcp, address, permit)).await {
                    // The server has stopped if this fails.
                    Ok(Ok(connection)) => drop(connections.send(Ok(connection)).await),
                    Ok(Err(error)) => {
                        tracing::info!(%address, error = ?error.to_string(), "a TLS handshake failed")
                    }
                    Err(_) => tracing::info!(%address, "a TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(accepted)
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    let stream = acceptor.accept(tcp).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let spiffe_id = certificate.map(spiffe_id_of_verified).transpose().map_err(io::Error::other)?;
    let holder = certificate.map(|certificate| holder(certificate)).transpose().map_err(io::Error::other)?;
    let until = holder.map(|holder| holder.validity.not_after());
    let binding = channel_binding(stream.get_ref().1);
    Ok(Connection { stream, peer: Peer { spiffe_id, until, address, binding }, _permit: permit })
}

/// A connection whose peer is known.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Verifies client certificates by the trust domain that they name.
struct ClientIdentity {
    algorithms: WebPkiSupportedAlgorithms,
    anchors: Anchors,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}

impl ClientCertVerifier for ClientIdentity {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        verify(&(self.anchors)(), end_entity, &[], Side::Client, now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(alert)
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

/// The TLS alert that tells a peer why it is turned away, as far as alerts go.
fn alert(error: IdentityError) -> TlsError {
    use rustls::CertificateError;
    let told = match &error {
        IdentityError::NotValidNow => CertificateError::Expired,
        IdentityError::UnknownIssuer | IdentityError::UnknownDomain(_) => CertificateError::UnknownIssuer,
        IdentityError::Certificate(_) => CertificateError::BadEncoding,
        IdentityError::NoSpiffeId | IdentityError::SeveralUris => {
            CertificateError::ApplicationVerificationFailure
        }
    };
    tracing::info!(error = ?error.to_string(), "a client certificate was turned away");
    TlsError::InvalidCertificate(told)
}
