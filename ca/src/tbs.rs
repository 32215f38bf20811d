//! To-be-signed bytes: the one place that builds them.
//!
//! Roots, intermediates, SPIRE CAs, SVIDs, server certificates and CRLs are all built here, from a profile and from
//! what was granted. Nothing else of a request can get in, since nothing else is a parameter.

mod crl;
mod extensions;
mod ocsp;

use der::asn1::{AnyRef, UintRef};
use der::{Decode, Encode, Sequence};
use undercroft_keys::{PublicKey, SignatureAlgorithm};
use x509_cert::ext::Extension;
use x509_cert::time::Validity as X509Validity;

pub use crl::{CrlScope, CrlSpec, RevocationReason, Revoked, crl};
pub(crate) use extensions::NO_MAILBOX;
pub use extensions::{DomainConstraints, HttpUrl, Urls};
pub use ocsp::{CertificateIds, OcspSpec, Status, ocsp_responses, signatures};

use crate::names::Identity;
use crate::profile::{Kind, PolicyArc, Profile, ProfileError};
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::time::{Validity, x509_time};

/// DER that somebody may sign once it is linted and logged: a TBSCertificate, a TBSCertList, or the CertificationRequestInfo of
/// an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToBeSigned(Vec<u8>);

impl ToBeSigned {
    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// A CertificationRequestInfo, which `csr` builds.
    pub(crate) fn certificate_request(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// Bytes that nobody built, for tests of lint.
    #[cfg(test)]
    pub(crate) fn from_der_unchecked(der: Vec<u8>) -> Self {
        Self(der)
    }
}

/// What a certificate takes from whoever signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The issuer's subject, byte for byte.
    pub name: Subject,
    /// The issuer's subject key identifier, as its own certificate has it: copied into the AKI.
    pub key_identifier: Vec<u8>,
    /// How its key signs.
    pub algorithm: SignatureAlgorithm,
    /// Its validity, which no certificate of it outlives.
    pub validity: Validity,
    /// Where its CRL and its certificate are published.
    pub urls: Urls,
}

/// Everything that decides what a certificate says.
#[derive(Clone, Debug)]
pub struct CertificateSpec<'a> {
    /// What kind of certificate it is.
    pub profile: &'a Profile,
    /// The arc of the certificate policies.
    pub policy_arc: &'a PolicyArc,
    /// Its number.
    pub serial: SerialNumber,
    /// Its period, already cut to the issuer's.
    pub validity: Validity,
    /// Whose it is.
    pub subject: &'a Subject,
    /// Its key.
    pub public_key: &'a PublicKey,
    /// The names in its subjectAltName.
    pub identity: &'a Identity,
    /// For authorities, how many more may lie below them; none for roots, which are not limited.
    pub path_length: Option<u8>,
    /// For intermediates below a shared root, what they may speak for.
    pub constraints: Option<&'a DomainConstraints>,
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug)]
pub enum SignedBy<'a> {
    /// An authority.
    Issuer(&'a Issuer),
    /// Its own key, in this way.
    Itself(SignatureAlgorithm),
}

/// TBSCertificate (RFC 5280 section 4.1.2), with names and keys taken over byte for byte.
#[derive(Sequence)]
struct TbsCertificate<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial_number: UintRef<'a>,
    signature: AnyRef<'a>,
    issuer: AnyRef<'a>,
    validity: X509Validity,
    subject: AnyRef<'a>,
    subject_public_key_info: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// X.509 version 3.
const V3: u8 = 2;

/// Builds a TBSCertificate.
///
/// # Errors
/// The parts cannot be encoded. Whether they make sense together is for lint to say.
pub fn certificate(spec: &CertificateSpec<'_>, signed_by: SignedBy<'_>) -> Result<ToBeSigned, TbsError> {
    let own_key_identifier = spec.public_key.subject_key_identifier();
    let (issuer_name, algorithm, issuer) = match signed_by {
        SignedBy::Issuer(issuer) => (&issuer.name, issuer.algorithm, Some(issuer)),
        SignedBy::Itself(algorithm) => (spec.subject, algorithm, None),
    };
    let mut extensions = vec![extensions::basic_constraints(spec.profile.kind(), spec.path_length)?];
    extensions.push(extensions::key_usage(spec.profile.kind())?);
    if !spec.profile.kind().is_authority() {
        extensions.push(extensions::extended_key_usage(spec.profile.kind())?);
    }
    extensions.push(extensions::subject_key_identifier(own_key_identifier.as_bytes())?);
    if let Some(issuer) = issuer {
        extensions.push(extensions::authority_key_identifier(&issuer.key_identifier)?);
    }
    extensions.push(extensions::certificate_policies(&spec.profile.policies(spec.policy_arc)?)?);
    extensions.extend(extensions::subject_alt_name(spec.identity)?);
    extensions.extend(spec.constraints.map(extensions::name_constraints).transpose()?);
    if let Some(issuer) = issuer {
        extensions.push(extensions::crl_distribution_point(&issuer.urls.crl_of(&spec.serial))?);
        // Whether a responder's own certificate is revoked is no question for a responder.
        let ocsp = issuer.urls.ocsp.as_ref().filter(|_| spec.profile.kind() != Kind::OcspSigner);
        extensions.push(extensions::authority_information_access(&issuer.urls.certificate, ocsp)?);
    }
    if spec.profile.kind() == Kind::OcspSigner {
        extensions.push(extensions::ocsp_no_check()?);
    }
    let tbs = TbsCertificate {
        version: V3,
        serial_number: UintRef::new(spec.serial.as_bytes())?,
        signature: AnyRef::from_der(algorithm.der())?,
        issuer: AnyRef::from_der(issuer_name.der())?,
        validity: X509Validity::new(
            x509_time(spec.validity.not_before())?,
            x509_time(spec.validity.not_after())?,
        ),
        subject: AnyRef::from_der(spec.subject.der())?,
        subject_public_key_info: AnyRef::from_der(spec.public_key.spki())?,
        extensions,
    };
    Ok(ToBeSigned(tbs.to_der()?))
}

/// Why to-be-signed bytes could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TbsError {
    /// Something cannot be encoded.
    #[error("the certificate cannot be encoded: {0}")]
    Der(#[from] der::Error),
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}
