//! A second opinion on what is to be signed: how a gate decides, from the log's entry alone and by its own copy of
//! policy.
//!
//! Nothing that the CA says is believed. The names, the key and the period are read from the to-be-signed bytes; policy
//! is asked whether this caller may have that; and the certificate that it may have is built here, too, and compared
//! with those bytes, so that nothing is in them that no policy gave.

mod crl;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use undercroft_keys::PublicKey;
use undercroft_log::leaf::{Channel, Intent, Object};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use crate::authority::subject;
use crate::certificate::AuthorityCertificate;
use crate::csr::Wishes;
use crate::names::{DnsName, Identity, SERVER_PATH, SpiffeId, TrustDomain, is_reserved, parse_spiffe_id};
use crate::policy::{Grant, Policy, Refusal, Request};
use crate::profile::{Kind, PolicyArc, Profile};
use crate::serial::SerialNumber;
use crate::tbs::{CertificateSpec, Issuer, SignedBy, Urls, certificate};
use crate::time::{BACKDATE, Lifetime, Validity};

/// How far the time of an entry may be from the gate's: an old intent that nobody used is not for later.
const FRESH: Duration = Duration::from_secs(600);

/// What one authority may sign, as another party sees it.
#[derive(Clone, Debug)]
pub struct Review {
    /// The trust domain that it issues for.
    pub domain: TrustDomain,
    /// What its certificates take from it.
    pub issuer: Issuer,
    /// The policy of whoever reviews.
    pub policy: Policy,
    /// The arc of the certificate policies.
    pub arc: PolicyArc,
    /// The profile of enrolled callers; none if the authority enrols nobody.
    pub enrols: Option<Profile>,
    /// The DNS names that the daemon's own certificates may have; none if it has no such certificates.
    pub server_names: Vec<DnsName>,
    /// Callers whose CA certificates have been approved once for all. Nobody else gets one.
    pub authorities: BTreeSet<String>,
    /// For how long its CRLs may be good; none if it signs no CRLs.
    pub crls: Option<Lifetime>,
}

impl Review {
    /// What certificates take from an authority, by its own certificate.
    pub fn issuer(
        certificate: &AuthorityCertificate,
        key: undercroft_keys::KeyAlgorithm,
        urls: Urls,
    ) -> Issuer {
        Issuer {
            name: certificate.subject().clone(),
            key_identifier: certificate.subject_key_identifier().to_vec(),
            algorithm: key.signature_algorithm(),
            validity: certificate.validity(),
            urls,
        }
    }

    /// Decides whether `tbs`, for which `intent` was logged at `time`, may be signed `now`. Gives the kind of certificate
    /// that it is.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn judge(
        &self,
        intent: &Intent,
        tbs: &[u8],
        time: Timestamp,
        now: Timestamp,
    ) -> Result<Kind, Refusal> {
        if intent.object != Object::Certificate {
            return Err(Refusal::new(
                "object",
                "a gated authority signs certificates and CRLs and nothing else",
            ));
        }
        self.is_ours(intent, time, now)?;
        let read = Read::new(tbs)?;
        // Valid from when it was asked for: a thief lays in no stock for later, and makes up no past.
        let from = time - BACKDATE;
        if !(from - FRESH..=from + FRESH).contains(&read.validity.not_before()) {
            return Err(Refusal::new(
                "not-from-now",
                format!("it is valid from {} on, and its entry is of {time}", read.validity.not_before()),
            ));
        }
        let grant = self.grant(intent, &read)?;
        let kind = grant.profile().kind();
        if kind.is_authority() && !self.authorities.contains(&intent.caller.id) {
            return Err(Refusal::new(
                "authority-not-approved",
                format!("nobody has approved that {} gets a CA certificate", intent.caller.id),
            ));
        }
        self.is_built_so(&grant, &read, tbs)?;
        Ok(kind)
    }

    /// Whether an intent is of now, and of this authority.
    fn is_ours(&self, intent: &Intent, time: Timestamp, now: Timestamp) -> Result<(), Refusal> {
        if time < now - FRESH || now + FRESH < time {
            return Err(Refusal::new(
                "stale",
                format!(
                    "the entry is of {time}, and it is {now}: make a new intent, or set the clocks right"
                ),
            ));
        }
        if intent.domain != self.domain.as_str() {
            return Err(Refusal::new(
                "domain",
                format!("the key is of `{}` and the intent of `{}`", self.domain.as_str(), intent.domain),
            ));
        }
        if intent.algorithm != self.issuer.algorithm {
            return Err(Refusal::new(
                "algorithm",
                format!("the key does not sign with {}", intent.algorithm),
            ));
        }
        Ok(())
    }

    /// What the gate's own policy gives this caller.
    fn grant(&self, intent: &Intent, read: &Read) -> Result<Grant, Refusal> {
        let built_in = |profile: &Profile, identity: Identity| {
            Grant::built_in(
                &intent.rule,
                self.policy.digest(),
                self.domain.clone(),
                profile.clone(),
                identity,
                Vec::new(),
            )
        };
        let grant = match intent.caller.by {
            Channel::Mtls => {
                let request = Request {
                    domain: &intent.domain,
                    profile: &intent.profile,
                    spiffe_id: read.uri.as_deref().unwrap_or_default(),
                    dns_names: &read.dns_names,
                    lifetime: Some(read.lifetime()),
                    public_key: &read.public_key,
                    wishes: &Wishes::default(),
                };
                return self.policy.decide(&caller(intent)?, &request);
            }
            Channel::Daemon => {
                let names = read.dns_names.iter().map(|name| name.parse());
                let names: Vec<DnsName> = names
                    .collect::<Result<_, _>>()
                    .map_err(|_| Refusal::new("dns-not-allowed", "a DNS name of it is none"))?;
                if names.is_empty() || !names.iter().all(|name| self.server_names.contains(name)) {
                    return Err(Refusal::new(
                        "dns-not-allowed",
                        format!("the daemon of `{}` may not be {:?}", self.domain.as_str(), read.dns_names),
                    ));
                }
                let uri = Some(format!("{}{SERVER_PATH}", self.domain.id_string()));
                built_in(&Profile::standard(Kind::Server), Identity { uri, dns_names: names, tpm: None })
            }
            Channel::EnrolmentToken => {
                let profile = self.enrols.as_ref().ok_or_else(|| {
                    Refusal::new("enrolment", format!("nobody is enrolled in `{}`", self.domain.as_str()))
                })?;
                let id = caller(intent)?;
                if *id.trust_domain() != self.domain {
                    return Err(Refusal::new("id-of-another-domain", format!("{id} is of another domain")));
                }
                if is_reserved(&id) || id.path().is_empty() {
                    return Err(Refusal::new("id-reserved", format!("{id} cannot be enrolled")));
                }
                built_in(profile, Identity::leaf(&id, Vec::new()))
            }
            // A gate has no evidence to judge, and believes nobody's verdict.
            Channel::UnixSocket
            | Channel::Anonymous
            | Channel::Ceremony
            | Channel::Attestation
            | Channel::Activation
            | Channel::Acme => {
                return Err(Refusal::new(
                    "caller-unknown",
                    format!("callers by {:?} get no certificates of this authority", intent.caller.by),
                ));
            }
        };
        // What policy says of a request, the daemon and those who enrol are held to as well.
        let profile = grant.profile();
        if intent.profile != profile.name() {
            return Err(Refusal::new(
                "profile",
                format!("callers by {:?} get no `{}`", intent.caller.by, intent.profile),
            ));
        }
        let key_type = read.public_key.key_type();
        if !profile.takes(key_type) {
            return Err(Refusal::new(
                "key-type",
                format!("profile `{}` takes no {key_type} keys", profile.name()),
            ));
        }
        let lifetime = read.lifetime();
        if lifetime > grant.lifetime() {
            return Err(Refusal::new(
                "lifetime-over-cap",
                format!("{lifetime} is more than {}", grant.lifetime()),
            ));
        }
        Ok(grant)
    }

    /// Builds what was granted and compares.
    fn is_built_so(&self, grant: &Grant, read: &Read, tbs: &[u8]) -> Result<(), Refusal> {
        let kind = grant.profile().kind();
        if !self.issuer.validity.covers(&read.validity) {
            return Err(Refusal::new("outlives-issuer", "it is valid when its issuer is not"));
        }
        let unbuildable = |error: &dyn std::fmt::Display| Refusal::new("unbuildable", error.to_string());
        let subject = subject(&self.domain, kind, &read.serial).map_err(|error| unbuildable(&error))?;
        let spec = CertificateSpec {
            profile: grant.profile(),
            policy_arc: &self.arc,
            serial: read.serial,
            validity: read.validity,
            subject: &subject,
            public_key: &read.public_key,
            identity: grant.identity(),
            path_length: (kind == Kind::SpireCa).then_some(0),
            constraints: None,
        };
        let built = certificate(&spec, SignedBy::Issuer(&self.issuer));
        let built = built.map_err(|error| unbuildable(&error))?;
        match built.der() == tbs {
            true => Ok(()),
            false => Err(Refusal::new(
                "not-what-was-granted",
                "the bytes to be signed are not the certificate that policy gives this caller: it names something else, or was built by another version",
            )),
        }
    }
}

fn caller(intent: &Intent) -> Result<SpiffeId, Refusal> {
    parse_spiffe_id(&intent.caller.id).map_err(|error| Refusal::new("caller-unknown", error.to_string()))
}

/// What a gate takes from to-be-signed bytes.
struct Read {
    serial: SerialNumber,
    validity: Validity,
    public_key: PublicKey,
    uri: Option<String>,
    dns_names: Vec<String>,
}

impl Read {
    fn new(tbs: &[u8]) -> Result<Self, Refusal> {
        let unreadable =
            |what: &dyn std::fmt::Display| Refusal::new("unreadable", format!("the TBSCertificate: {what}"));
        let (rest, certificate) = TbsCertificate::from_der(tbs).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"bytes follow it"));
        }
        let serial = certificate.raw_serial().try_into().ok().and_then(SerialNumber::from_bytes);
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| unreadable(&error))
        };
        let validity =
            Validity::new(at(certificate.validity.not_before)?, at(certificate.validity.not_after)?)
                .map_err(|error| unreadable(&error))?;
        let (mut uri, mut dns_names) = (None, Vec::new());
        for extension in certificate.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::URI(text) if uri.is_none() => uri = Some((*text).to_owned()),
                    GeneralName::DNSName(text) => dns_names.push((*text).to_owned()),
                    other => return Err(unreadable(&format_args!("a name that no profile has: {other:?}"))),
                }
            }
        }
        Ok(Self {
            serial: serial.ok_or_else(|| unreadable(&"its serial number is none of ours"))?,
            validity,
            public_key: PublicKey::from_spki(certificate.subject_pki.raw)
                .map_err(|error| unreadable(&error))?,
            uri,
            dns_names,
        })
    }

    /// The lifetime that was granted, unless the issuer's end cut it. Its begin has been looked at before, so that
    /// nothing overflows here.
    fn lifetime(&self) -> Lifetime {
        let from = self.validity.not_before() + BACKDATE;
        Lifetime(self.validity.not_after().duration_since(from).unsigned_abs())
    }
}

#[cfg(test)]
mod tests;
