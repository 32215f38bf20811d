//! The certificates of an authority that are still good, as its log has them. Every intent counts as issued.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Body, Intent, Leaf, Object, OutcomeResult, RevocationEvent, ToBeSigned};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use crate::names::{Identity, SERVER_PATH};
use crate::profile::Kind;
use crate::serial::SerialNumber;

/// The profile of OCSP responders, whose certificates have no names.
const OCSP_SIGNER: &str = "ocsp-signer";

/// A certificate that is still good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The index of its intent.
    pub index: u64,
    /// Who asked for it.
    pub caller: String,
    /// The profile that shaped it.
    pub profile: String,
    /// What kind of certificate it is.
    pub kind: Kind,
    /// Its names.
    pub identity: Identity,
    /// Its serial number.
    pub serial: SerialNumber,
    /// When it ends.
    pub not_after: Timestamp,
    /// Nobody was given it, as far as the log says. It is revoked all the same, and nobody needs another.
    pub abandoned: bool,
    /// It was revoked, and not put on hold alone.
    pub revoked: bool,
}

/// Those of one authority, as far as its log was read.
#[derive(Clone, Debug)]
pub struct LiveCertificates {
    authority: KeyId,
    now: Timestamp,
    found: BTreeMap<u64, Live>,
}

impl LiveCertificates {
    /// Of the authority with this key, at this time. Nothing was read yet.
    pub fn new(authority: KeyId, now: Timestamp) -> Self {
        Self { authority, now, found: BTreeMap::new() }
    }

    /// Reads the next entry of the log.
    ///
    /// # Errors
    /// It is the intent of a certificate that cannot be read, so that nobody could say what has to be replaced.
    pub fn read(&mut self, leaf: &Leaf) -> Result<(), String> {
        match &leaf.body {
            Body::Intent(intent)
                if intent.key_id.0 == self.authority && intent.object == Object::Certificate =>
            {
                let live = parse(leaf.index, intent).ok_or_else(|| {
                    format!("entry {} is the intent of no certificate that can be read", leaf.index)
                })?;
                if live.not_after > self.now {
                    self.found.insert(leaf.index, live);
                }
            }
            Body::Outcome(outcome) => {
                if let (Some(live), OutcomeResult::Abandoned(_)) =
                    (self.found.get_mut(&outcome.intent), &outcome.result)
                {
                    live.abandoned = true;
                }
            }
            Body::Revocation(revocation)
                if revocation.issuer.0 == self.authority && revocation.event == RevocationEvent::Revoke =>
            {
                let serials: BTreeSet<_> = revocation.serials.iter().map(|serial| serial.0).collect();
                for live in self.found.values_mut() {
                    live.revoked |= serials.contains(live.serial.as_bytes());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Those that are still to be revoked. What was abandoned is revoked by its outcome.
    pub fn to_revoke(&self) -> impl Iterator<Item = &Live> {
        self.found.values().filter(|live| !live.abandoned && !live.revoked)
    }

    /// All of them, in the order of the log.
    pub fn all(&self) -> impl Iterator<Item = &Live> {
        self.found.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

fn parse(index: u64, intent: &Intent) -> Option<Live> {
    let ToBeSigned::Der(der) = &intent.tbs else { return None };
    let (_, certificate) = TbsCertificate::from_der(&der.0).ok()?;
    let (mut identity, mut is_authority) = (Identity::default(), false);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => identity.uri = Some((*uri).to_owned()),
                        GeneralName::DNSName(name) => identity.dns_names.push(name.parse().ok()?),
                        _ => return None,
                    }
                }
            }
            ParsedExtension::BasicConstraints(constraints) => is_authority = constraints.ca,
            _ => {}
        }
    }
    let is_server = identity.uri.as_ref().is_some_and(|uri| uri.ends_with(SERVER_PATH));
    Some(Live {
        index,
        caller: intent.caller.id.clone(),
        profile: intent.profile.clone(),
        kind: match (is_authority, is_server) {
            _ if intent.profile == OCSP_SIGNER => Kind::OcspSigner,
            (true, _) => Kind::SpireCa,
            (false, true) => Kind::Server,
            (false, false) => Kind::Svid,
        },
        identity,
        serial: SerialNumber::from_bytes(certificate.raw_serial().try_into().ok()?)?,
        not_after: Timestamp::from_second(certificate.validity.not_after.timestamp()).ok()?,
        abandoned: false,
        revoked: false,
    })
}
