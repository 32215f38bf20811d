//! The rules for CRLs.

use std::collections::BTreeSet;

use x509_parser::asn1_rs::{Any, Error, Tag};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::TbsCertList;
use x509_parser::x509::AlgorithmIdentifier;

use super::{Finding, Rule, hold, unreadable};
use crate::tbs::{CrlSpec, ToBeSigned};

/// A TBSCertList, and what it should say.
pub(super) struct Granted<'a> {
    der: &'a [u8],
    list: TbsCertList<'a>,
    spec: &'a CrlSpec<'a>,
}

/// Checks to-be-signed bytes of a CRL.
///
/// # Errors
/// The rules that they break.
pub fn crl(tbs: &ToBeSigned, spec: &CrlSpec<'_>) -> Result<(), Vec<Finding>> {
    let (rest, list) = TbsCertList::from_der(tbs.der()).map_err(unreadable)?;
    if !rest.is_empty() {
        return Err(unreadable("bytes follow the TBSCertList"));
    }
    let granted = Granted { der: tbs.der(), list, spec };
    let findings: Vec<_> = RULES.iter().filter_map(|(rule, check)| rule.judge(check(&granted))).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// Whether there is a list of revoked certificates without an entry. x509-parser reads it like one that is absent, so that
/// we look at what follows nextUpdate ourselves.
fn has_empty_list(tbs: &[u8]) -> Result<bool, Error> {
    let (_, list) = Any::from_der(tbs).map_err(Error::from)?;
    let mut rest = list.data;
    for _ in ["version", "signature", "issuer", "thisUpdate", "nextUpdate"] {
        (rest, _) = Any::from_der(rest).map_err(Error::from)?;
    }
    let (_, next) = Any::from_der(rest).map_err(Error::from)?;
    Ok(next.tag() == Tag::Sequence && next.data.is_empty())
}

type Check = fn(&Granted<'_>) -> Result<(), String>;

pub(super) const RULES: &[(Rule, Check)] = &[
    (Rule::new("crl-version-2", "RFC 5280 5.1.2.1"), |g| {
        hold(g.list.version.is_some_and(|version| version.0 == 1), || "the version is not 2".into())
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
        let read = (g.list.this_update.timestamp(), g.list.next_update.map(|time| time.timestamp()));
        let period = &g.spec.period;
        hold(read == (period.not_before().as_second(), Some(period.not_after().as_second())), || {
            "thisUpdate and nextUpdate are not those of the plan".into()
        })?;
        hold(g.spec.issuer.validity.covers(period), || "it is not within the validity of its issuer".into())
    }),
    (Rule::new("crl-empty-list-absent", "RFC 5280 5.1.2.6"), |g| {
        let empty = has_empty_list(g.der).map_err(|error| error.to_string())?;
        hold(!empty, || "an empty list of revoked certificates must be absent".into())
    }),
    (Rule::new("crl-entries", "RFC 5280 5.1.2.6"), |g| {
        let read: Vec<_> = g
            .list
            .revoked_certificates
            .iter()
            .map(|entry| (entry.raw_serial().to_vec(), entry.revocation_date.timestamp()))
            .collect();
        let expected: Vec<_> = g
            .spec
            .revoked
            .iter()
            .map(|entry| (entry.serial.as_bytes().to_vec(), entry.date.as_second()))
            .collect();
        hold(read == expected, || "other certificates are revoked than the plan says".into())?;
        let distinct: BTreeSet<_> = read.iter().map(|(serial, _)| serial).collect();
        hold(distinct.len() == read.len(), || "a certificate is revoked twice".into())?;
        hold(read.iter().all(|(_, date)| *date <= g.list.this_update.timestamp()), || {
            "a certificate is revoked after thisUpdate".into()
        })
    }),
    (Rule::new("crl-reasons", "RFC 5280 5.3.1"), |g| {
        for (entry, revoked) in g.list.revoked_certificates.iter().zip(g.spec.revoked) {
            let reasons: Vec<_> =
                entry.extensions().iter().map(|extension| extension.parsed_extension()).collect();
            let right = match (&reasons[..], revoked.reason) {
                ([], None) => true,
                ([ParsedExtension::ReasonCode(read)], Some(reason)) => read.0 == reason as u8,
                _ => false,
            };
            hold(right, || format!("the reason for {} is another", revoked.serial))?;
        }
        Ok(())
    }),
    (Rule::new("crl-number", "RFC 5280 5.2.3"), |g| {
        let number = g.list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLNumber(number) if !extension.critical => Some(number.to_string()),
            _ => None,
        });
        hold(number == Some(g.spec.number.to_string()) && g.spec.number > 0, || {
            format!("the CRL number is {number:?}; it must be {} and positive", g.spec.number)
        })
    }),
    (Rule::new("crl-authority-key", "RFC 5280 5.2.1"), |g| {
        let id = g.list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) if !extension.critical => id.key_identifier.clone(),
            _ => None,
        });
        hold(id.is_some_and(|id| id.0 == g.spec.issuer.key_identifier), || {
            "the authority key identifier is not the issuer's subject key identifier".into()
        })
    }),
    (Rule::new("crl-extensions-known", "RFC 5280 5.2"), |g| {
        hold(g.list.extensions().len() == 2, || {
            "it has other extensions than its number and its issuer's key".into()
        })
    }),
];
