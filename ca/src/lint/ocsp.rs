//! The rules for OCSP responses, read back with asn1-rs.

use x509_parser::asn1_rs::{Any, Class, GeneralizedTime, Tag};
use x509_parser::prelude::FromDer;

use super::{Finding, Rule, hold, unreadable};
use crate::serial::SerialNumber;
use crate::tbs::{OcspSpec, ToBeSigned};

/// What a response says of one certificate, under one name of its issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// AlgorithmIdentifier, and the hashes over the issuer's name and key.
    pub issuer: (Vec<u8>, Vec<u8>, Vec<u8>),
    /// The serial number.
    pub serial: Vec<u8>,
    /// If it is revoked, since when (Unix seconds) and the reasonCode.
    pub revoked: Option<(i64, Option<u8>)>,
    /// thisUpdate and nextUpdate, Unix seconds.
    pub period: (i64, i64),
}

/// A ResponseData as it is read.
struct Data {
    responder: Vec<u8>,
    produced_at: i64,
    told: Vec<Told>,
}

/// A batch, and what it should say.
pub(super) struct Granted<'a> {
    read: Vec<Data>,
    spec: &'a OcspSpec<'a>,
}

/// Checks to-be-signed bytes of a batch of OCSP responses.
///
/// # Errors
/// The rules that they break.
pub fn ocsp_responses(tbs: &ToBeSigned, spec: &OcspSpec<'_>) -> Result<(), Vec<Finding>> {
    let read = batch(tbs.der()).map_err(unreadable)?;
    let granted = Granted { read, spec };
    let findings: Vec<_> = RULES.iter().filter_map(|(rule, check)| rule.judge(check(&granted))).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// Reads a batch of OCSP responses, without knowing what it should say: for auditors.
///
/// # Errors
/// It is none.
pub fn ocsp_responses_alone(tbs: &[u8]) -> Result<Vec<Told>, Vec<Finding>> {
    let read = batch(tbs).map_err(unreadable)?;
    Ok(read.into_iter().flat_map(|data| data.told).collect())
}

type Check = fn(&Granted<'_>) -> Result<(), String>;

pub(super) const RULES: &[(Rule, Check)] = &[
    (Rule::new("ocsp-responder", "RFC 6960 4.2.2.3"), |g| {
        let other = g.read.iter().any(|data| data.responder != g.spec.responder);
        hold(!other, || "the responder is not named by its key".into())
    }),
    (Rule::new("ocsp-period", "RFC 6960 4.2.2.1, RFC 5019 2.2.4"), |g| {
        let period = (g.spec.period.not_before().as_second(), g.spec.period.not_after().as_second());
        let told =
            g.read.iter().flat_map(|data| data.told.iter().map(|told| (data.produced_at, told.period)));
        hold(told.into_iter().all(|(produced, told)| produced == period.0 && told == period), || {
            "producedAt, thisUpdate and nextUpdate are not those that were decided".into()
        })
    }),
    (Rule::new("ocsp-certificates", "RFC 6960 4.1.1"), |g| {
        hold(g.read.len() == g.spec.statuses.len(), || "more or fewer responses than certificates".into())?;
        for (data, status) in g.read.iter().zip(g.spec.statuses) {
            let expected = g.spec.issuer.hashes.iter().map(|(hash, name, key)| (*hash, &name[..], &key[..]));
            let same =
                data.told.iter().map(|told| (&told.issuer.0[..], &told.issuer.1[..], &told.issuer.2[..]));
            hold(same.eq(expected), || "the issuer is named in another way".into())?;
            hold(data.told.iter().all(|told| told.serial == status.serial.as_bytes()), || {
                format!("another certificate than {}", status.serial)
            })?;
        }
        Ok(())
    }),
    (Rule::new("ocsp-status", "RFC 6960 4.2.1, RFC 5280 5.3.1"), |g| {
        for (data, status) in g.read.iter().zip(g.spec.statuses) {
            let expected = status
                .revoked
                .as_ref()
                .map(|revoked| (revoked.date.as_second(), revoked.reason.map(|reason| reason as u8)));
            hold(data.told.iter().all(|told| told.revoked == expected), || {
                format!("the status of {} is another", status.serial)
            })?;
            hold(expected.is_none_or(|(date, _)| date <= g.spec.period.not_before().as_second()), || {
                format!("{} is revoked after thisUpdate", status.serial)
            })?;
            // removeFromCRL is of delta CRLs alone.
            hold(expected.is_none_or(|(_, reason)| reason != Some(8)), || {
                format!("{} is revoked because it was released", status.serial)
            })?;
        }
        Ok(())
    }),
];

fn batch(der: &[u8]) -> Result<Vec<Data>, String> {
    let (rest, list) = any(der)?;
    hold(rest.is_empty() && list.tag() == Tag::Sequence, || "it is no SEQUENCE OF ResponseData".into())?;
    elements(list.data)?.into_iter().map(data).collect()
}

fn data(data: Any<'_>) -> Result<Data, String> {
    let [responder, produced_at, list] = &elements(data.data)?[..] else {
        return Err("a ResponseData has other parts than a responder, a time and responses".into());
    };
    hold(is_context(responder, 2), || "the responder is not named by its key".into())?;
    let (_, key) = any(responder.data)?;
    Ok(Data {
        responder: key.data.to_vec(),
        produced_at: time(produced_at)?,
        told: elements(list.data)?.iter().map(told).collect::<Result<_, _>>()?,
    })
}

fn told(single: &Any<'_>) -> Result<Told, String> {
    let [id, status, this_update, next_update] = &elements(single.data)?[..] else {
        return Err("a SingleResponse has other parts than a certificate, a status and two times".into());
    };
    let [hash, name, key, serial] = &elements(id.data)?[..] else {
        return Err("a CertID has other parts than a hash, an issuer and a number".into());
    };
    let revoked = if is_context(status, 0) {
        hold(status.data.is_empty(), || "`good` says something".into())?;
        None
    } else if is_context(status, 1) {
        match &elements(status.data)?[..] {
            [at] => Some((time(at)?, None)),
            [at, reason] if is_context(reason, 0) => match any(reason.data)? {
                ([], code) if code.tag() == Tag::Enumerated && code.data.len() == 1 => {
                    Some((time(at)?, Some(code.data[0])))
                }
                _ => return Err("the reason of a revocation is none".into()),
            },
            _ => return Err("a RevokedInfo has other parts than a time and a reason".into()),
        }
    } else {
        return Err("a certificate is neither good nor revoked".into());
    };
    hold(is_context(next_update, 0), || "nextUpdate is missing".into())?;
    let (_, end) = any(next_update.data)?;
    let (_, hash_der) = der_of(id.data)?;
    hold(serial.data.len() == SerialNumber::SMALLEST.as_bytes().len(), || {
        "a serial number is none of ours".into()
    })?;
    hold(hash.tag() == Tag::Sequence, || "a hash has no name".into())?;
    Ok(Told {
        issuer: (hash_der.to_vec(), name.data.to_vec(), key.data.to_vec()),
        serial: serial.data.to_vec(),
        revoked,
        period: (time(this_update)?, time(&end)?),
    })
}

/// The first element, and its DER.
fn der_of(der: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (rest, _) = any(der)?;
    Ok((rest, &der[..der.len() - rest.len()]))
}

fn any(der: &[u8]) -> Result<(&[u8], Any<'_>), String> {
    Any::from_der(der).map_err(|error| error.to_string())
}

fn elements(mut content: &[u8]) -> Result<Vec<Any<'_>>, String> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let (rest, element) = any(content)?;
        elements.push(element);
        content = rest;
    }
    Ok(elements)
}

fn is_context(element: &Any<'_>, number: u32) -> bool {
    element.class() == Class::ContextSpecific && element.tag() == Tag(number)
}

fn time(element: &Any<'_>) -> Result<i64, String> {
    let time = GeneralizedTime::try_from(element.clone()).map_err(|error| error.to_string())?;
    let time = time.utc_datetime().map_err(|error| error.to_string())?;
    Ok(time.unix_timestamp())
}
