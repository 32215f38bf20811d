//! Lists of revoked certificates (RFC 5280 section 5), given as data.

use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use x509_cert::crl::CertificateList;

use super::{Certificate, ChainError, Signed};

/// The longest list that is read.
pub const MAX_CRL: usize = 4 * 1024 * 1024;

/// A list of which nothing is known but that it is one. It is complete: deltas and lists of some certificates alone have
/// critical extensions, and are refused.
#[derive(Clone, Debug)]
pub struct Crl {
    signed: Signed,
    list: CertificateList,
    issuer: Vec<u8>,
}

impl Crl {
    /// Reads one.
    ///
    /// # Errors
    /// It is no DER of a CRL, too long, or has a critical extension.
    pub fn from_der(der: &[u8]) -> Result<Self, ChainError> {
        if der.len() > MAX_CRL {
            return Err(ChainError::Malformed(format!("a CRL has {} bytes, more than {MAX_CRL}", der.len())));
        }
        let malformed = |error: der::Error| ChainError::Malformed(format!("a CRL: {error}"));
        let signed = Signed::read(der)?;
        let list = CertificateList::from_der(der).map_err(malformed)?;
        let fields = &list.tbs_cert_list;
        let name = fields.issuer.to_string();
        // RFC 5280 section 5.1.1.2.
        if fields.signature.oid != signed.algorithm {
            return Err(ChainError::Crl(name, "its two signature algorithms differ"));
        }
        let entries = fields.revoked_certificates.iter().flatten();
        let entries = entries.flat_map(|entry| entry.crl_entry_extensions.iter().flatten());
        if fields.crl_extensions.iter().flatten().chain(entries).any(|extension| extension.critical) {
            return Err(ChainError::Crl(name, "it has a critical extension, so it is not complete"));
        }
        let issuer = fields.issuer.to_der().map_err(malformed)?;
        Ok(Self { signed, list, issuer })
    }

    /// Whether it is by the name of this issuer. Only [`Crl::check`] looks at its signature.
    pub fn claims(&self, issuer: &Certificate) -> bool {
        self.issuer == issuer.0.subject
    }

    /// Checks that `issuer` signed the list, that it is of this time, and that `certificate` is not on it.
    ///
    /// # Errors
    /// [`ChainError::Revoked`], [`ChainError::StaleCrl`], or whatever else is wrong with the list.
    pub fn check(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        at: Timestamp,
    ) -> Result<(), ChainError> {
        let name = || issuer.subject();
        self.signed.is_by(issuer, &|| format!("CRL of {}", issuer.subject()))?;
        let usage = issuer.extension::<x509_cert::ext::pkix::KeyUsage>()?;
        if usage.is_some_and(|usage| !usage.crl_sign()) {
            return Err(ChainError::Crl(name(), "the issuer's key may not sign lists"));
        }
        let fields = &self.list.tbs_cert_list;
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        let now = u64::try_from(at.as_second()).unwrap_or(0);
        // RFC 5280 section 5.1.2.5: whoever issues lists says until when.
        let until = fields.next_update.as_ref().map(seconds);
        if until.is_none_or(|until| now > until) || now < seconds(&fields.this_update) {
            return Err(ChainError::StaleCrl(name(), at));
        }
        let serial = certificate.0.fields.serial_number();
        let mut revoked = fields.revoked_certificates.iter().flatten();
        match revoked.any(|entry| entry.serial_number == *serial) {
            true => Err(ChainError::Revoked(certificate.subject(), name())),
            false => Ok(()),
        }
    }
}
