//! Who is at the other end: the one SPIFFE ID in a certificate, verified under the roots of its own trust domain.

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// The roots that may vouch for the SPIFFE IDs of one trust domain, and the intermediates that we know below them.
///
/// Intermediates that a peer presents are never used. So a certificate that a subordinate CA has issued (a SPIRE
/// server's, which could mint any name in its domain) is not accepted, and a chain cannot be made long to cost us time.
#[derive(Clone, Debug)]
pub struct DomainAnchors {
    domain: String,
    roots: Vec<CertificateDer<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
}

/// Whether a peer is a client or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It presents itself to us as a client.
    Client,
    /// It presents itself to us as a server.
    Server,
}

impl DomainAnchors {
    /// The anchors of `domain`, a trust domain without scheme.
    pub fn new(
        domain: impl Into<String>,
        roots: Vec<CertificateDer<'static>>,
        intermediates: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { domain: domain.into(), roots, intermediates }
    }

    /// The trust domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// Verifies the certificate of a peer under the anchors of the trust domain that it names, and gives its SPIFFE ID.
///
/// `presented` are intermediates that may be used besides the known ones; clients of the daemon, who know roots alone,
/// pass what the server sent, and the daemon passes none.
///
/// # Errors
/// See [`IdentityError`].
pub fn verify(
    anchors: &[DomainAnchors],
    end_entity: &CertificateDer<'_>,
    presented: &[CertificateDer<'_>],
    side: Side,
    now: UnixTime,
) -> Result<String, IdentityError> {
    let certificate = EndEntityCert::try_from(end_entity)?;
    let id = one_uri(&certificate)?;
    let domain = trust_domain(&id)?;
    // One store for all roots would let one domain's authority speak for another: the domain in the ID picks them.
    let own = anchors
        .iter()
        .find(|anchors| anchors.domain == domain)
        .ok_or_else(|| IdentityError::UnknownDomain(domain.to_owned()))?;
    let roots =
        own.roots.iter().map(|root| webpki::anchor_from_trusted_cert(root)).collect::<Result<Vec<_>, _>>()?;
    let intermediates: Vec<_> = own
        .intermediates
        .iter()
        .map(|der| CertificateDer::from_slice(der))
        .chain(presented.iter().cloned())
        .collect();
    let usage = match side {
        Side::Client => KeyUsage::client_auth(),
        Side::Server => KeyUsage::server_auth(),
    };
    certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &roots,
        &intermediates,
        now,
        usage,
        None,
        None,
    )?;
    Ok(id)
}

/// The SPIFFE ID in a certificate that was verified before, in a handshake for instance.
///
/// # Errors
/// There is none.
pub fn spiffe_id_of_verified(end_entity: &CertificateDer<'_>) -> Result<String, IdentityError> {
    one_uri(&EndEntityCert::try_from(end_entity)?)
}

/// X509-SVID section 5.2: exactly one URI.
fn one_uri(certificate: &EndEntityCert<'_>) -> Result<String, IdentityError> {
    let mut uris = certificate.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => Err(IdentityError::NoSpiffeId),
        (Some(_), Some(_)) => Err(IdentityError::SeveralUris),
    }
}

/// The trust domain of an ID with a path. Whether the path is well formed is the business of whoever uses the ID.
fn trust_domain(id: &str) -> Result<&str, IdentityError> {
    id.strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
        .map(|(domain, _)| domain)
        .ok_or(IdentityError::NoSpiffeId)
}

impl From<webpki::Error> for IdentityError {
    fn from(error: webpki::Error) -> Self {
        match error {
            webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Self::NotValidNow,
            webpki::Error::UnknownIssuer => Self::UnknownIssuer,
            other => Self::Certificate(other),
        }
    }
}

/// Why a peer is nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not valid now.
    #[error("the certificate, or one above it, is not valid now")]
    NotValidNow,
    /// Not directly under an authority that we know.
    #[error("the certificate is not directly under a known authority of its trust domain")]
    UnknownIssuer,
    /// Malformed, for another use, or forbidden by an authority above it.
    #[error("the certificate does not verify under the roots of its trust domain: {0}")]
    Certificate(webpki::Error),
    /// No SPIFFE ID in it.
    #[error("the certificate carries no SPIFFE ID with a path")]
    NoSpiffeId,
    /// More than one URI.
    #[error("the certificate carries several URIs; an X.509-SVID has one")]
    SeveralUris,
    /// A domain that we have no roots for.
    #[error("the trust domain `{0}` is not known here")]
    UnknownDomain(String),
}
