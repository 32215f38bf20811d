//! The rules for CRLs.

use x509_parser::asn1_rs::{Any, Class, Integer, Tag};
use x509_parser::extensions::{
    CRLDistributionPoints, DistributionPointName, GeneralName, ParsedExtension, X509Extension,
};
use x509_parser::prelude::{ASN1Time, FromDer};
use x509_parser::revocation_list::RevokedCertificate;
use x509_parser::x509::{AlgorithmIdentifier, X509Name, X509Version};

use super::{Finding, Rule, hold, unreadable};
use crate::tbs::{CrlSpec, HttpUrl, RevocationReason, Revoked, ToBeSigned};

/// A TBSCertList, and what it should say. Its entries are read one by one, and once for all rules: there may be a million.
pub(super) struct Granted<'a> {
    list: List<'a>,
    spec: &'a CrlSpec<'a>,
    /// Whether those are revoked that were to be, since when they were to be.
    entries: Result<(), String>,
    /// Whether each is for its reason.
    reasons: Result<(), String>,
}

impl<'a> Granted<'a> {
    fn new(list: List<'a>, spec: &'a CrlSpec<'a>) -> Self {
        let (mut entries, mut reasons) = (Ok(()), Ok(()));
        let mut expected = spec.revoked.iter();
        for entry in list.entries() {
            let (entry, revoked) = match (entry, expected.next()) {
                (Ok(entry), Some(revoked)) => (entry, revoked),
                (Ok(_), None) => {
                    entries = entries.and_then(|()| hold(false, others));
                    break;
                }
                // Nothing behind it can be read.
                (Err(error), _) => {
                    entries = entries.and_then(|()| Err(error.clone()));
                    reasons = reasons.and(Err(error));
                    break;
                }
            };
            entries = entries.and_then(|()| is_entry(&entry, revoked, &list));
            reasons = reasons.and_then(|()| is_reason(&entry, revoked, spec));
        }
        let left = expected.next().is_some();
        let entries =
            entries.and_then(|()| hold(!left, || "fewer certificates are revoked than was decided".into()));
        Self { list, spec, entries, reasons }
    }
}

fn others() -> String {
    "other certificates are revoked than was decided".into()
}

fn is_entry(entry: &RevokedCertificate<'_>, revoked: &Revoked, list: &List<'_>) -> Result<(), String> {
    let since = entry.revocation_date.timestamp();
    hold(entry.raw_serial() == revoked.serial.as_bytes() && since == revoked.date.as_second(), others)?;
    hold(since <= list.this_update.timestamp(), || "a certificate is revoked after thisUpdate".into())
}

fn is_reason(entry: &RevokedCertificate<'_>, revoked: &Revoked, spec: &CrlSpec<'_>) -> Result<(), String> {
    let right = match (entry.extensions(), revoked.reason) {
        ([], None) => true,
        ([extension], Some(reason)) if !extension.critical => {
            matches!(extension.parsed_extension(), ParsedExtension::ReasonCode(read) if read.0 == reason as u8)
        }
        _ => false,
    };
    hold(right, || format!("the reason for {} is another", revoked.serial))?;
    let removed = revoked.reason == Some(RevocationReason::RemoveFromCrl);
    hold(!removed || spec.scope.delta_of.is_some(), || {
        format!("{} is removed from a CRL that is no delta", revoked.serial)
    })
}

/// A TBSCertList (RFC 5280 section 5.1.2) as x509-parser reads its parts.
struct List<'a> {
    version: X509Version,
    signature: AlgorithmIdentifier<'a>,
    issuer: X509Name<'a>,
    this_update: ASN1Time,
    next_update: ASN1Time,
    /// The content of revokedCertificates; none if the list is absent.
    revoked: Option<&'a [u8]>,
    extensions: Vec<X509Extension<'a>>,
}

impl<'a> List<'a> {
    fn read(der: &'a [u8]) -> Result<Self, String> {
        let (after, list) = any(der)?;
        hold(after.is_empty(), || "bytes follow the TBSCertList".into())?;
        hold(list.tag() == Tag::Sequence, || "it is no SEQUENCE".into())?;
        let (rest, version) = X509Version::from_der(list.data).map_err(|error| error.to_string())?;
        let (rest, signature) = AlgorithmIdentifier::from_der(rest).map_err(|error| error.to_string())?;
        let (rest, issuer) = X509Name::from_der(rest).map_err(|error| error.to_string())?;
        let (rest, this_update) = ASN1Time::from_der(rest).map_err(|error| error.to_string())?;
        let (rest, next_update) = ASN1Time::from_der(rest).map_err(|error| error.to_string())?;
        let (rest, revoked) = match any(rest)? {
            (after, next) if next.class() == Class::Universal && next.tag() == Tag::Sequence => {
                (after, Some(next.data))
            }
            _ => (rest, None),
        };
        let (after, explicit) = any(rest)?;
        hold(after.is_empty(), || "something follows the extensions".into())?;
        hold(explicit.class() == Class::ContextSpecific && explicit.tag() == Tag(0), || {
            "there are no extensions".into()
        })?;
        let (after, sequence) = any(explicit.data)?;
        hold(after.is_empty(), || "something follows the extensions".into())?;
        let (mut rest, mut extensions) = (sequence.data, Vec::new());
        while !rest.is_empty() {
            let (after, extension) = X509Extension::from_der(rest).map_err(|error| error.to_string())?;
            extensions.push(extension);
            rest = after;
        }
        Ok(Self { version, signature, issuer, this_update, next_update, revoked, extensions })
    }

    /// The entries.
    fn entries(&self) -> impl Iterator<Item = Result<RevokedCertificate<'a>, String>> {
        let mut rest = self.revoked.unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match RevokedCertificate::from_der(rest) {
                Ok((after, entry)) => {
                    rest = after;
                    Some(Ok(entry))
                }
                Err(error) => {
                    rest = &[];
                    Some(Err(error.to_string()))
                }
            }
        })
    }

    /// The extension with this object identifier.
    fn extension(&self, oid: &str) -> Option<&X509Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid.to_id_string() == oid)
    }
}

fn any(der: &[u8]) -> Result<(&[u8], Any<'_>), String> {
    Any::from_der(der).map_err(|error| error.to_string())
}

/// Checks to-be-signed bytes of a CRL.
///
/// # Errors
/// The rules that they break.
pub fn crl(tbs: &ToBeSigned, spec: &CrlSpec<'_>) -> Result<(), Vec<Finding>> {
    let list = List::read(tbs.der()).map_err(unreadable)?;
    let granted = Granted::new(list, spec);
    let findings: Vec<_> = RULES.iter().filter_map(|(rule, check)| rule.judge(check(&granted))).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

type Check = fn(&Granted<'_>) -> Result<(), String>;

pub(super) const RULES: &[(Rule, Check)] = &[
    (Rule::new("crl-version-2", "RFC 5280 5.1.2.1"), |g| {
        hold(g.list.version.0 == 1, || "the version is not 2".into())
    }),
    (Rule::new("crl-algorithm", "RFC 5280 5.1.2.2"), |g| {
        let (_, expected) = AlgorithmIdentifier::from_der(g.spec.issuer.algorithm.der())
            .map_err(|error| error.to_string())?;
        hold(g.list.signature == expected, || format!("the algorithm is not {}", g.spec.issuer.algorithm))
    }),
    (Rule::new("crl-issuer", "RFC 5280 5.1.2.3"), |g| {
        hold(g.list.issuer.as_raw() == g.spec.issuer.name.der(), || "another issuer".into())
    }),
    (Rule::new("crl-period", "RFC 5280 5.1.2.4, 5.1.2.5"), |g| {
        let read = (g.list.this_update.timestamp(), g.list.next_update.timestamp());
        let period = &g.spec.period;
        hold(read == (period.not_before().as_second(), period.not_after().as_second()), || {
            "thisUpdate and nextUpdate are not those of the plan".into()
        })?;
        hold(g.spec.issuer.validity.covers(period), || "it is not within the validity of its issuer".into())
    }),
    (Rule::new("crl-empty-list-absent", "RFC 5280 5.1.2.6"), |g| {
        hold(g.list.revoked.is_none_or(|entries| !entries.is_empty()), || {
            "an empty list of revoked certificates must be absent".into()
        })
    }),
    (Rule::new("crl-entries", "RFC 5280 5.1.2.6"), |g| g.entries.clone()),
    (Rule::new("crl-entries-once", "RFC 5280 5.1.2.6"), |g| {
        // What was decided is what is there, by the rule above. It comes in order, mostly.
        let serials = || g.spec.revoked.iter().map(|revoked| revoked.serial);
        let distinct = serials().zip(serials().skip(1)).all(|(one, next)| one < next) || {
            let mut sorted: Vec<_> = serials().collect();
            sorted.sort_unstable();
            sorted.windows(2).all(|pair| pair[0] != pair[1])
        };
        hold(distinct, || "a certificate is revoked twice".into())
    }),
    (Rule::new("crl-reasons", "RFC 5280 5.3.1"), |g| g.reasons.clone()),
    (Rule::new("crl-number", "RFC 5280 5.2.3"), |g| {
        let number = g.list.extensions.iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLNumber(number) if !extension.critical => Some(number.to_string()),
            _ => None,
        });
        hold(number == Some(g.spec.number.to_string()) && g.spec.number > 0, || {
            format!("the CRL number is {number:?}; it must be {} and positive", g.spec.number)
        })
    }),
    (Rule::new("crl-delta-indicator", "RFC 5280 5.2.4"), |g| {
        let read = match g.list.extension(DELTA_CRL_INDICATOR) {
            None => None,
            Some(extension) => {
                hold(extension.critical, || "deltaCRLIndicator must be critical".into())?;
                let (_, base) = Integer::from_der(extension.value).map_err(|error| error.to_string())?;
                Some(base.as_u64().map_err(|error| error.to_string())?)
            }
        };
        hold(read == g.spec.scope.delta_of, || format!("it changes the CRL {read:?}"))?;
        hold(read.is_none_or(|base| base < g.spec.number), || "it changes a CRL that is newer".into())
    }),
    (Rule::new("crl-issuing-distribution-point", "RFC 5280 5.2.5"), |g| {
        let read = g.list.extension(ISSUING_DISTRIBUTION_POINT);
        let Some(extension) = read else {
            return hold(g.spec.scope.shard.is_none(), || "it does not say of which shard it is".into());
        };
        hold(extension.critical, || "issuingDistributionPoint must be critical".into())?;
        let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() else {
            return Err("issuingDistributionPoint cannot be read".into());
        };
        let all = !point.only_contains_user_certs
            && !point.only_contains_ca_certs
            && !point.only_contains_attribute_certs
            && !point.indirect_crl
            && point.only_some_reasons.is_none();
        hold(all && is_at(point.distribution_point.as_ref(), g.spec.scope.shard), || {
            "it is of another shard, or leaves something out".into()
        })
    }),
    (Rule::new("crl-freshest", "RFC 5280 5.2.6"), |g| {
        let Some(extension) = g.list.extension(FRESHEST_CRL) else {
            return hold(g.spec.scope.freshest.is_none(), || "it does not say where its deltas are".into());
        };
        hold(!extension.critical, || "freshestCRL must not be critical".into())?;
        hold(g.spec.scope.delta_of.is_none(), || "a delta CRL has no deltas".into())?;
        let (_, points) =
            CRLDistributionPoints::from_der(extension.value).map_err(|error| error.to_string())?;
        let right = matches!(&points.points[..], [point]
            if point.reasons.is_none()
                && point.crl_issuer.is_none()
                && is_at(point.distribution_point.as_ref(), g.spec.scope.freshest));
        hold(right, || "its deltas are elsewhere".into())
    }),
    (Rule::new("crl-authority-key", "RFC 5280 5.2.1"), |g| {
        let id = g.list.extensions.iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) if !extension.critical => id.key_identifier.clone(),
            _ => None,
        });
        hold(id.is_some_and(|id| id.0 == g.spec.issuer.key_identifier), || {
            "the authority key identifier is not the issuer's subject key identifier".into()
        })
    }),
    (Rule::new("crl-extensions-known", "RFC 5280 5.2"), |g| {
        let scope = &g.spec.scope;
        let more = [scope.shard.is_some(), scope.delta_of.is_some(), scope.freshest.is_some()];
        let expected = 2 + more.into_iter().filter(|there| *there).count();
        hold(g.list.extensions.len() == expected, || {
            "it has other extensions than its number, its issuer's key and what its scope wants".into()
        })
    }),
];

const DELTA_CRL_INDICATOR: &str = "2.5.29.27";
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
const FRESHEST_CRL: &str = "2.5.29.46";

/// Whether a distribution point is exactly this URL.
fn is_at(point: Option<&DistributionPointName<'_>>, url: Option<&HttpUrl>) -> bool {
    let Some(DistributionPointName::FullName(names)) = point else { return false };
    matches!(names[..], [GeneralName::URI(read)] if url.is_some_and(|url| url.as_str() == read))
}
