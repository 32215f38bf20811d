//! Authorities: an intermediate's certificate and the handle of its key.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use undercroft_keymgr::Key;
use undercroft_keys::SignatureAlgorithm;
use undercroft_log::leaf::{Caller, Channel, Digest, Evidence};

use crate::certificate::{AuthorityCertificate, Constraints};
use crate::gated::{Gatekeepers, Signing};
use crate::issuance::{Decision, PrepareError, Prepared};
use crate::names::{SERVER_PATH, TrustDomain};
use crate::policy::Grant;
use crate::profile::{Kind, PolicyArc};
use crate::serial::{Entropy, NoEntropy, SerialNumber};
use crate::subject::{Subject, SubjectError};
use crate::tbs::{CertificateSpec, CrlSpec, Issuer, SignedBy, Urls};
use crate::time::{EmptyValidity, Validity};

/// The intermediate of one domain, ready to sign.
#[derive(Clone)]
pub struct Authority {
    name: String,
    domain: TrustDomain,
    certificate: AuthorityCertificate,
    /// The root that has signed it.
    root: AuthorityCertificate,
    key: Key,
    gates: Option<Arc<dyn Gatekeepers>>,
    issuer: Issuer,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "authority {} of {} ({:?})", self.name, self.domain.as_str(), self.signing())
    }
}

/// What is certified, and why.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// What policy allows.
    pub grant: &'a Grant,
    /// Who asked.
    pub caller: Caller,
    /// The key that is certified.
    pub public_key: &'a undercroft_keys::PublicKey,
    /// SHA-256 of the request, where there was one.
    pub request: Option<Digest>,
    /// Evidence that decided besides.
    pub evidence: Vec<Evidence>,
}

impl Authority {
    /// Joins a certificate and its key.
    ///
    /// # Errors
    /// They do not belong together, the certificate is not signed by one of the domain's roots, or it is not an
    /// intermediate of that domain.
    pub fn new(
        name: String,
        domain: TrustDomain,
        certificate: AuthorityCertificate,
        roots: &[AuthorityCertificate],
        key: Key,
        urls: Urls,
    ) -> Result<Self, AuthorityError> {
        let refuse = |what: String| AuthorityError { authority: name.clone(), what };
        if key.signer.public_key() != certificate.public_key() {
            return Err(refuse(format!(
                "its certificate is for the key {} and its token holds {}; correct the key's URI or the certificate",
                certificate.public_key().id(),
                key.signer.public_key().id()
            )));
        }
        let root = roots.iter().find(|root| root.is_self_signed() && certificate.is_issued_by(root));
        let Some(root) = root.cloned() else {
            return Err(refuse(format!(
                "its certificate is signed by none of the roots of `{}`; correct the certificate or the roots",
                domain.as_str()
            )));
        };
        if certificate.is_self_signed() {
            return Err(refuse("its certificate is a root, and roots stay offline".into()));
        }
        if certificate.uris() != [domain.id_string()] {
            return Err(refuse(format!(
                "its certificate is for {:?} and not for {}",
                certificate.uris(),
                domain.id_string()
            )));
        }
        if let Constraints::Uris(hosts) = certificate.constraints()
            && *hosts != [domain.as_str()]
        {
            return Err(refuse(format!("its name constraints permit {hosts:?} and not {}", domain.as_str())));
        }
        let issuer = Issuer {
            name: certificate.subject().clone(),
            key_identifier: certificate.subject_key_identifier().to_vec(),
            algorithm: key.signer.algorithm().signature_algorithm(),
            validity: certificate.validity(),
            urls,
        };
        Ok(Self { name, domain, certificate, root, key, gates: None, issuer })
    }

    /// The same authority with the gates that its key was made with. Without them a gated key signs nothing.
    #[must_use]
    pub fn with_gates(self, gates: Arc<dyn Gatekeepers>) -> Self {
        Self { gates: Some(gates), ..self }
    }

    /// How configuration and rules call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The domain that it issues for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    /// The root that has signed its certificate.
    pub fn root(&self) -> &AuthorityCertificate {
        &self.root
    }

    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// How its key signs: through its gates, if it has any.
    pub fn signing(&self) -> Signing<'_> {
        match (&self.key.gated, &self.gates) {
            (Some(key), Some(gates)) => Signing::AtGates(&**key, &**gates),
            // The signer of a gated key says that it wants gates.
            _ => Signing::Directly(&*self.key.signer),
        }
    }

    /// How it signs.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.issuer.algorithm
    }

    /// What certificates and CRLs take from it.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Where its CRL and certificate are published.
    pub fn urls(&self) -> &Urls {
        &self.issuer.urls
    }

    /// Builds and lints a CRL, by the daemon's own decision.
    pub(crate) fn prepare_crl(&self, spec: &CrlSpec<'_>, policy: Digest) -> Result<Prepared, PrepareError> {
        let decision = self.own_decision("crl", "built-in:crl", policy);
        Prepared::crl(spec, self.certificate.public_key(), decision)
    }

    /// What the daemon decides by itself.
    pub(crate) fn own_decision(&self, profile: &str, rule: &str, policy: Digest) -> Decision {
        let id = format!("{}{SERVER_PATH}", self.domain.id_string());
        Decision {
            domain: self.domain.as_str().to_owned(),
            profile: profile.to_owned(),
            caller: Caller { id, by: Channel::Daemon },
            rule: rule.to_owned(),
            policy,
            request: None,
            withheld: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// Builds and lints the certificate of an order.
    ///
    /// # Errors
    /// The authority has expired, the source of randomness is not available, or lint refuses.
    pub fn prepare(
        &self,
        order: Order<'_>,
        arc: &PolicyArc,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Prepared, OrderError> {
        let grant = order.grant;
        let kind = grant.profile().kind();
        let validity = Validity::within(&self.issuer.validity, now, grant.lifetime())
            .map_err(|error| OrderError::Expired { authority: self.name.clone(), error })?;
        let serial = SerialNumber::random(entropy)?;
        let subject = subject(&self.domain, kind, &serial)?;
        let spec = CertificateSpec {
            profile: grant.profile(),
            policy_arc: arc,
            serial,
            validity,
            subject: &subject,
            public_key: order.public_key,
            identity: grant.identity(),
            path_length: (kind == Kind::SpireCa).then_some(0),
            constraints: None,
        };
        let decision = Decision {
            domain: self.domain.as_str().to_owned(),
            profile: grant.profile().name().to_owned(),
            caller: order.caller,
            rule: grant.rule().to_owned(),
            policy: grant.policy(),
            request: order.request,
            withheld: grant.withheld().to_vec(),
            evidence: order.evidence,
        };
        let signer = self.certificate.public_key();
        Ok(Prepared::certificate(&spec, SignedBy::Issuer(&self.issuer), signer, decision)?)
    }
}

/// The subject of what an authority of `domain` signs. Leaves are their SPIFFE ID and need no name of their own; a CA
/// needs a name that no other CA has, since certificates find their issuer by it.
pub(crate) fn subject(
    domain: &TrustDomain,
    kind: Kind,
    serial: &SerialNumber,
) -> Result<Subject, SubjectError> {
    // A label for people, cut to what RFC 5280 allows; what counts is the URI.
    let domain: String = domain.as_str().chars().take(64).collect();
    match kind {
        Kind::SpireCa => Subject::new(&domain, Some(&format!("SPIRE CA {serial}"))),
        Kind::OcspSigner => Subject::new(&domain, Some("OCSP responder")),
        // WebAuthn level 2, section 8.3.1: it is empty.
        Kind::AttestationKey => Ok(Subject::empty()),
        _ => Subject::new(&domain, None),
    }
}

/// A certificate and a key that make no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authority `{authority}`: {what}")]
pub struct AuthorityError {
    /// Its name.
    pub authority: String,
    /// What is wrong.
    pub what: String,
}

/// Why an order cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The authority is not valid now.
    #[error("authority `{authority}` can issue nothing now: {error}")]
    Expired {
        /// Its name.
        authority: String,
        /// What is left.
        error: EmptyValidity,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Lint, or the builder.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}
