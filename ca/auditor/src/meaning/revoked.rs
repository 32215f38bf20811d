//! What was taken back, and whether CRLs and OCSP responses say so.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use undercroft_ca::lint::ocsp_responses_alone;
use undercroft_ca::revocation::ocsp::each_response;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Digest, Intent, MOST_SERIALS, Revocation, RevocationEvent};
use undercroft_log::tree::{GrowingTree, leaf_hash};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::TbsCertList;
use x509_parser::x509::ReasonCode;

use super::Reader;
use super::place::About;
use super::signed::{STAMPED_LATE, short};

/// A certificate, by a digest of issuer and serial number that is cut short.
pub(super) type Certificate = [u8; 16];

/// What has become of certificates, as the log says it.
#[derive(Default)]
pub(super) struct Revoked {
    states: HashMap<Certificate, State>,
    /// Of each issuer, what was ever revoked or held.
    by_issuer: HashMap<KeyId, HashSet<Certificate>>,
    /// Of each issuer and scope of CRLs, the last number.
    numbers: HashMap<(KeyId, String), u64>,
    /// The numbers of complete CRLs.
    bases: HashSet<(KeyId, String, u64)>,
    /// Keys to which an authority has delegated that they answer for it.
    responders: HashSet<KeyId>,
    /// The keys that there are, by SHA-1 of their bits: how OCSP names issuers.
    issuers: HashMap<Vec<u8>, KeyId>,
}

/// The state of a certificate that is not good, or was not once.
#[derive(Clone, Copy)]
struct State {
    now: What,
    /// When the log said so.
    since: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Held,
    Revoked,
    Released,
}

impl Revoked {
    pub(super) fn key(&mut self, key: &undercroft_keys::PublicKey) {
        self.issuers.insert(key.subject_key_identifier().as_bytes().to_vec(), key.id());
    }

    pub(super) fn responder(&mut self, key: KeyId) {
        self.responders.insert(key);
    }

    /// A serial number of which no certificate left the CA.
    pub(super) fn abandoned(&mut self, issuer: KeyId, certificate: Certificate, since: Timestamp) {
        self.put(issuer, certificate, What::Revoked, since);
    }

    fn put(&mut self, issuer: KeyId, certificate: Certificate, now: What, since: Timestamp) {
        self.states.insert(certificate, State { now, since });
        self.by_issuer.entry(issuer).or_default().insert(certificate);
    }
}

impl Reader<'_> {
    /// Certificates were issued before they are taken back, each change is one that there is, and it is dated then.
    pub(super) fn revocation(&mut self, index: u64, time: Timestamp, revocation: &Revocation) {
        self.belongs(index, &revocation.domain);
        let count = revocation.serials.len();
        if count == 0 || count > MOST_SERIALS {
            self.find(index, "revocation", format!("it is about {count} certificates"));
        }
        if revocation.reason.is_some() != (revocation.event == RevocationEvent::Revoke) {
            self.find(index, "revocation", "revocations have a reason, holds and releases have none");
        }
        let late = time.as_second() - revocation.date.as_second();
        if !(0..=STAMPED_LATE).contains(&late) {
            self.find(index, "revocation", format!("it is of {}, and says {}", time, revocation.date));
        }
        let issuer = revocation.issuer.0;
        for serial in &revocation.serials {
            let certificate = short(issuer, &serial.0);
            let shown = hex::encode(serial.0);
            if !self.serials.contains_key(&certificate) && self.place.first_epoch && self.is_whole() {
                self.find(index, "revocation", format!("{shown} was never issued by the key {issuer}"));
            }
            let state = self.revoked.states.get(&certificate).map(|state| state.now);
            let next = match (revocation.event, state) {
                (RevocationEvent::Revoke, None | Some(What::Held | What::Released)) => Some(What::Revoked),
                (RevocationEvent::Hold, None | Some(What::Released)) => Some(What::Held),
                (RevocationEvent::Release, Some(What::Held)) => Some(What::Released),
                // In a later epoch it may have been held before.
                (RevocationEvent::Release, None) if !self.place.first_epoch => Some(What::Released),
                _ => None,
            };
            match next {
                Some(next) => self.revoked.put(issuer, certificate, next, time),
                None if self.is_whole() => {
                    self.find(index, "revocation", format!("the state of {shown} cannot change so"));
                }
                None => {}
            }
        }
    }

    /// A CRL of an online authority: its number grows, it lists what was taken back and nothing else, and a complete one
    /// leaves nothing out.
    pub(super) fn published_crl(&mut self, index: u64, intent: &Intent, list: &TbsCertList<'_>) {
        if !matches!(self.place.about, About::Control | About::Domain) || !self.is_whole() {
            return;
        }
        let issuer = intent.key_id.0;
        let (scope, delta_of) = scope(list);
        let number = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLNumber(number) => u64::try_from(number).ok(),
            _ => None,
        });
        let number = number.unwrap_or_default();
        let last = self.revoked.numbers.insert((issuer, scope.clone()), number);
        if last.is_some_and(|last| number <= last) {
            self.find(index, "crl", format!("its number is {number}, and {last:?} was before it"));
        }
        match delta_of {
            Some(base) => {
                let is_known = self.revoked.bases.contains(&(issuer, scope.clone(), base));
                if !is_known && self.place.first_epoch {
                    self.find(index, "crl", format!("it changes the CRL {base}, which there is not"));
                }
            }
            None => {
                self.revoked.bases.insert((issuer, scope.clone(), number));
            }
        }
        let this_update = list.this_update.timestamp();
        let mut listed = HashSet::new();
        for entry in &list.revoked_certificates {
            let certificate = short(issuer, entry.raw_serial());
            listed.insert(certificate);
            let reason = entry.reason_code().map(|(_, reason)| reason);
            let state = self.revoked.states.get(&certificate).map(|state| state.now);
            let wrong = match (state, reason) {
                (None, _) => self.place.first_epoch,
                (Some(What::Revoked), Some(ReasonCode::RemoveFromCRL)) => true,
                _ => false,
            };
            if wrong {
                let serial = hex::encode(entry.raw_serial());
                self.find(index, "crl", format!("it lists {serial}, of which the log does not say so"));
            }
        }
        // Shards list those of their own range; which those are is not in the log.
        if delta_of.is_none() && scope.is_empty() {
            let missing = self.revoked.by_issuer.get(&issuer).into_iter().flatten().filter(|certificate| {
                let state = self.revoked.states.get(*certificate);
                let counts = state.is_some_and(|state| {
                    state.now != What::Released && state.since.as_second() + STAMPED_LATE < this_update
                });
                let lives = self.serials.get(*certificate).is_some_and(|end| *end >= this_update);
                counts && lives && !listed.contains(*certificate)
            });
            let missing = missing.count();
            if missing > 0 {
                self.find(index, "crl", format!("it leaves out {missing} certificates that are revoked"));
            }
        }
    }

    /// A batch of OCSP responses says of certificates of ours what the log says.
    pub(super) fn responses(&mut self, index: u64, intent: &Intent, tbs: &[u8]) {
        let told = match ocsp_responses_alone(tbs) {
            Ok(told) => told,
            Err(findings) => {
                for finding in findings {
                    self.find(index, "lint", finding.to_string());
                }
                return;
            }
        };
        let mut tree = GrowingTree::new();
        each_response(tbs).unwrap_or_default().iter().for_each(|data| tree.push(leaf_hash(data)));
        if !intent.evidence.iter().any(|evidence| evidence.sha256 == Digest(*tree.root().as_bytes())) {
            self.find(index, "ocsp", "its Merkle root is that of other responses");
        }
        if !self.is_whole() {
            return;
        }
        if !self.revoked.responders.contains(&intent.key_id.0) {
            self.find(index, "ocsp", format!("nobody has made the key {} a responder's", intent.key_id.0));
        }
        for told in told {
            // By SHA-256 it says the same again, which lint has seen to; keys are known by SHA-1 here.
            let Some(issuer) = self.revoked.issuers.get(&told.issuer.2).copied() else { continue };
            let certificate = short(issuer, &told.serial);
            let serial = hex::encode(&told.serial);
            let state = self.revoked.states.get(&certificate).copied();
            let wrong = match (state, told.revoked) {
                _ if !self.serials.contains_key(&certificate) => self.place.first_epoch.then_some("knows"),
                (None, Some(_)) => self.place.first_epoch.then_some("takes back"),
                (Some(State { now: What::Held | What::Revoked, since }), None) => {
                    (since.as_second() + STAMPED_LATE < told.period.0).then_some("calls good")
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                self.find(
                    index,
                    "ocsp",
                    format!("it says of {serial} what the log does not: the log never {wrong} it"),
                );
            }
        }
    }
}

/// The URL of the shard that a CRL covers, empty for all certificates; and, of a delta, the number of its base.
fn scope(list: &TbsCertList<'_>) -> (String, Option<u64>) {
    let (mut scope, mut delta_of) = (String::new(), None);
    for extension in list.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => {
                if let Some(DistributionPointName::FullName(names)) = &point.distribution_point
                    && let [GeneralName::URI(uri)] = names[..]
                {
                    uri.clone_into(&mut scope);
                }
            }
            _ if extension.oid.to_id_string() == "2.5.29.27" => {
                delta_of = x509_parser::asn1_rs::Integer::from_der(extension.value)
                    .ok()
                    .and_then(|(_, base)| base.as_u64().ok());
            }
            _ => {}
        }
    }
    (scope, delta_of)
}
