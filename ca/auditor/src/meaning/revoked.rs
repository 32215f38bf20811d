//! What was taken back, and whether CRLs and OCSP responses say so.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use undercroft_ca::lint::ocsp_responses_alone;
use undercroft_ca::revocation::facts::reason_of;
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

/// For how many seconds a CRL or OCSP response may have been in the making when its intent is stamped.
const MADE_LATE: i64 = 3600;

/// reasonCode certificateHold and removeFromCRL (RFC 5280 section 5.3.1).
const HOLD: u8 = 6;
const REMOVE: u8 = 8;

/// The URL of a CRL that certificates name, as the reader counts them; 0 is none.
pub(super) type Point = u32;

/// A certificate that an intent would make.
#[derive(Clone, Copy)]
pub(super) struct Issued {
    /// notAfter, Unix seconds.
    pub(super) ends: i64,
    /// Its CRL distribution point.
    pub(super) point: Point,
}

/// Certificates in a CRL, each with revocationDate (Unix seconds) and reasonCode.
type Listed = HashMap<Certificate, (i64, u8)>;

/// Issuer and URL of the shard, which is empty for all certificates.
type Scope = (KeyId, String);

/// Certificates and when they changed (Unix seconds), in the order of the log.
type Changes = Vec<(i64, Certificate)>;

/// What has become of certificates, as the log says it.
#[derive(Default)]
pub(super) struct Revoked {
    states: HashMap<Certificate, State>,
    /// The states before, of those that changed more than once.
    earlier: HashMap<Certificate, Vec<State>>,
    /// When certificates changed: of each issuer all, and those that name a CRL by itself.
    changes: HashMap<(KeyId, Option<Point>), Changes>,
    /// The URLs that certificates name, from 1 on.
    points: HashMap<String, Point>,
    /// Of each scope, number and thisUpdate of the last CRL, signed or not.
    last: HashMap<Scope, (u64, i64)>,
    /// Of each scope, the complete CRL that was signed last.
    bases: HashMap<Scope, Base>,
    /// Complete CRLs whose intents wait for an outcome.
    unsigned: HashMap<u64, (Scope, Base)>,
    /// Of each issuer that has shards, when the first of them was signed, and the URL of its CRL of all certificates.
    shards: HashMap<KeyId, (i64, String)>,
    /// By whom an authority has itself represented, and until when.
    responders: HashMap<(KeyId, KeyId), i64>,
    /// The keys that there are, by SHA-1 of their bits: how OCSP names issuers.
    issuers: HashMap<Vec<u8>, KeyId>,
}

/// A complete CRL.
struct Base {
    number: u64,
    this_update: i64,
    /// thisUpdate of the complete CRL that was signed before it.
    before: Option<i64>,
    listed: Listed,
}

/// The state of a certificate that is not good, or was not once.
#[derive(Clone, Copy)]
struct State {
    now: What,
    /// reasonCode; 0 for none.
    reason: u8,
    /// Since when it is so, as CRLs write it. Absent if the log does not say it to the second.
    date: Option<i64>,
    /// When the log said so.
    since: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Held,
    Revoked,
    Released,
}

impl State {
    /// Whether something that is said of the certificate is this: since when and why it is revoked, or that it is not.
    fn is(&self, told: Option<(i64, u8)>) -> bool {
        match told {
            None => self.now == What::Released,
            Some((date, reason)) => {
                self.now != What::Released
                    && reason == self.reason
                    && self.date.is_none_or(|known| known == date)
            }
        }
    }
}

impl Revoked {
    pub(super) fn key(&mut self, key: &undercroft_keys::PublicKey) {
        self.issuers.insert(key.subject_key_identifier().as_bytes().to_vec(), key.id());
    }

    /// An authority lets a key answer for it until then.
    pub(super) fn responder(&mut self, issuer: KeyId, key: KeyId, ends: i64) {
        let until = self.responders.entry((issuer, key)).or_insert(ends);
        *until = ends.max(*until);
    }

    /// The URL of a CRL that a certificate names.
    pub(super) fn point(&mut self, url: Option<String>) -> Point {
        let Some(url) = url else { return 0 };
        let next = Point::try_from(self.points.len() + 1).unwrap_or(Point::MAX);
        *self.points.entry(url).or_insert(next)
    }

    /// A serial number of which no certificate left the CA.
    pub(super) fn abandoned(
        &mut self,
        issuer: KeyId,
        certificate: Certificate,
        since: Timestamp,
        issued: Option<Issued>,
    ) {
        // It stays revoked as it was, if it was.
        if self.states.get(&certificate).is_none_or(|state| state.now != What::Revoked) {
            let state = State { now: What::Revoked, reason: 0, date: None, since: since.as_second() };
            self.put(issuer, certificate, state, issued);
        }
    }

    fn put(&mut self, issuer: KeyId, certificate: Certificate, state: State, issued: Option<Issued>) {
        if let Some(before) = self.states.insert(certificate, state) {
            self.earlier.entry(certificate).or_default().push(before);
        }
        let point = issued.map(|issued| issued.point);
        for point in [None, point].into_iter().take(1 + usize::from(point.is_some())) {
            self.changes.entry((issuer, point)).or_default().push((state.since, certificate));
        }
    }

    /// Whether the log said so of a certificate at `at`, or thereafter: what was read while it changed may be either.
    fn may_say(&self, certificate: Certificate, at: i64, told: Option<(i64, u8)>) -> bool {
        let Some(state) = self.states.get(&certificate) else { return told.is_none() };
        if state.is(told) {
            return true;
        }
        let mut replaced = state.since;
        for earlier in self.earlier.get(&certificate).into_iter().flatten().rev() {
            if replaced + STAMPED_LATE < at {
                return false;
            }
            if earlier.is(told) {
                return true;
            }
            replaced = earlier.since;
        }
        // Before its first change it was good.
        told.is_none() && replaced + STAMPED_LATE >= at
    }

    /// What came of the intent of a complete CRL: those that were signed have deltas.
    pub(super) fn concluded(&mut self, intent: u64, is_signed: bool) {
        let Some((scope, base)) = self.unsigned.remove(&intent) else { return };
        if !is_signed {
            return;
        }
        if !scope.1.is_empty() {
            let all = of_all(&scope.1);
            self.shards.entry(scope.0).or_insert((base.this_update, all));
        }
        self.bases.insert(scope, base);
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
            let issued = self.serials.get(&certificate).copied();
            let before = self.revoked.states.get(&certificate).copied();
            let next = match (revocation.event, before.map(|state| state.now)) {
                (RevocationEvent::Revoke, None | Some(What::Held | What::Released)) => Some(What::Revoked),
                (RevocationEvent::Hold, None | Some(What::Released)) => Some(What::Held),
                (RevocationEvent::Release, Some(What::Held)) => Some(What::Released),
                // In a later epoch it may have been held before.
                (RevocationEvent::Release, None) if !self.place.first_epoch => Some(What::Released),
                _ => None,
            };
            let reason = match next {
                Some(What::Held) => HOLD,
                Some(What::Revoked) => revocation.reason.and_then(reason_of).map_or(0, |reason| reason as u8),
                Some(What::Released) | None => 0,
            };
            // Since it was put on hold, if it was: nobody was to trust it from then on.
            let date = match before {
                Some(State { now: What::Held, date, .. }) => date,
                None if !self.place.first_epoch => None,
                _ => Some(revocation.date.as_second()),
            };
            match next {
                Some(now) => {
                    let state = State { now, reason, date, since: time.as_second() };
                    self.revoked.put(issuer, certificate, state, issued);
                }
                None if self.is_whole() => {
                    self.find(index, "revocation", format!("the state of {shown} cannot change so"));
                }
                None => {}
            }
        }
    }

    /// A CRL of an online authority: its number and its time grow, it lists what was taken back and nothing else, as the
    /// log says it, and leaves nothing out.
    pub(super) fn published_crl(
        &mut self,
        index: u64,
        time: Timestamp,
        intent: &Intent,
        list: &TbsCertList<'_>,
    ) {
        if !matches!(self.place.about, About::Control | About::Domain) || !self.is_whole() {
            return;
        }
        let (url, delta_of) = scope(list);
        let scope = (intent.key_id.0, url);
        let this_update = list.this_update.timestamp();
        let number = self.numbered(index, time, &scope, list);
        let listed = self.listed(index, &scope, list, delta_of.is_some());
        let first_epoch = self.place.first_epoch;
        let Some(of) = delta_of else {
            let before = self.revoked.bases.get(&scope).map(|base| base.this_update);
            let missing = self.left_out(&scope, this_update, before, i64::MIN, |certificate| {
                listed.get(&certificate).copied()
            });
            let missing = missing.difference(&listed.keys().copied().collect()).count();
            if missing > 0 {
                self.find(index, "crl", format!("it leaves out {missing} certificates that are revoked"));
            }
            if scope.1.is_empty() {
                self.shards_are_there(index, scope.0, this_update, before);
            }
            self.revoked.unsigned.insert(index, (scope, Base { number, this_update, before, listed }));
            return;
        };
        let wrong = match self.revoked.bases.get(&scope) {
            Some(base) if base.number == of => {
                // What had changed long before its base was judged with that.
                let from = base.this_update - STAMPED_LATE;
                let union = |certificate| match listed.get(&certificate) {
                    Some((_, REMOVE)) => None,
                    Some(told) => Some(*told),
                    None => base.listed.get(&certificate).copied(),
                };
                let before = base.before;
                let wrong = self.left_out(&scope, this_update, before, from, union);
                let wrong = wrong.difference(&listed.keys().copied().collect()).count();
                (wrong > 0).then(|| {
                    format!("with the CRL {of} it says of {wrong} certificates what the log does not")
                })
            }
            Some(base) => {
                Some(format!("it changes the CRL {of}, and the last that was signed is {}", base.number))
            }
            None => first_epoch.then(|| format!("it changes the CRL {of}, which there is not")),
        };
        if let Some(wrong) = wrong {
            self.find(index, "crl", wrong);
        }
    }

    /// The number of a CRL, which grows with its time (RFC 5280 sections 5.2.3 and 5.1.2.4).
    fn numbered(&mut self, index: u64, time: Timestamp, scope: &Scope, list: &TbsCertList<'_>) -> u64 {
        let number = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLNumber(number) => u64::try_from(number).ok(),
            _ => None,
        });
        let number = number.unwrap_or_default();
        let this_update = list.this_update.timestamp();
        let last = self.revoked.last.insert(scope.clone(), (number, this_update));
        if let Some((last, _)) = last.filter(|(last, _)| number <= *last) {
            self.find(index, "crl", format!("its number is {number}, and {last} was before it"));
        }
        if last.is_some_and(|(_, last)| this_update < last) {
            self.find(index, "crl", "its thisUpdate is before that of the CRL before it");
        }
        if !(0..=MADE_LATE).contains(&(time.as_second() - this_update)) {
            self.find(index, "crl", format!("it is of {time}, and its thisUpdate is {}", list.this_update));
        }
        if list.next_update.is_none_or(|next| next.timestamp() <= this_update) {
            self.find(index, "crl", "its nextUpdate is not after its thisUpdate");
        }
        number
    }

    /// What a CRL lists, each of them as the log says it.
    fn listed(&mut self, index: u64, scope: &Scope, list: &TbsCertList<'_>, is_delta: bool) -> Listed {
        let this_update = list.this_update.timestamp();
        let own_point = self.revoked.points.get(&scope.1).copied();
        let mut listed = Listed::with_capacity(list.revoked_certificates.len());
        for entry in &list.revoked_certificates {
            let certificate = short(scope.0, entry.raw_serial());
            let reason = entry.reason_code().map_or(0, |(_, ReasonCode(code))| code);
            let told = (entry.revocation_date.timestamp(), reason);
            let says = match reason {
                REMOVE => None,
                _ => Some(told),
            };
            let is_known = self.revoked.states.contains_key(&certificate);
            let issued = self.serials.get(&certificate);
            let wrong = if listed.insert(certificate, told).is_some() {
                Some("which it lists before")
            } else if reason == REMOVE && !is_delta {
                Some("which only a delta can release")
            } else if !is_known && self.place.first_epoch {
                Some("of which the log does not say so")
            } else if is_known && !self.revoked.may_say(certificate, this_update, says) {
                Some("of which the log says another thing")
            } else if !scope.1.is_empty() && issued.is_some_and(|issued| Some(issued.point) != own_point) {
                Some("which names another CRL")
            } else {
                None
            };
            if let Some(wrong) = wrong {
                self.find(index, "crl", format!("it lists {}, {wrong}", hex::encode(entry.raw_serial())));
            }
        }
        listed
    }

    /// The certificates of a scope that changed since `from`, of which a CRL of `this_update` does not say what the log
    /// does. One that had expired when the complete CRL `before` was made has stood on that, and need stand on none
    /// any more (RFC 5280 section 3.3).
    fn left_out(
        &self,
        scope: &Scope,
        this_update: i64,
        before: Option<i64>,
        from: i64,
        told: impl Fn(Certificate) -> Option<(i64, u8)>,
    ) -> HashSet<Certificate> {
        let point = match scope.1.as_str() {
            "" => None,
            // A URL that no certificate names.
            url => Some(self.revoked.points.get(url).copied().unwrap_or_default()),
        };
        let changes = self.revoked.changes.get(&(scope.0, point)).map_or(&[][..], Vec::as_slice);
        let first = changes.partition_point(|(since, _)| *since < from);
        let ours = changes[first..].iter().map(|(_, certificate)| *certificate).filter(|certificate| {
            let ends = self.serials.get(certificate).map(|issued| issued.ends);
            ends.is_some_and(|ends| before.is_none_or(|before| ends >= before))
                && !self.revoked.may_say(*certificate, this_update, told(*certificate))
        });
        ours.collect()
    }

    /// Shards together leave nothing out: whatever is revoked and names one, names one that there is.
    fn shards_are_there(&mut self, index: u64, issuer: KeyId, this_update: i64, before: Option<i64>) {
        let Some((first, of_all)) = self.revoked.shards.get(&issuer) else { return };
        if first + STAMPED_LATE >= this_update {
            return;
        }
        let is_there =
            |url: &String| url == of_all || self.revoked.bases.contains_key(&(issuer, url.clone()));
        let gone: Vec<_> = self.revoked.points.iter().filter(|(url, _)| !is_there(url)).collect();
        let gone = gone.into_iter().filter(|(_, point)| {
            let changes = self.revoked.changes.get(&(issuer, Some(**point)));
            changes.into_iter().flatten().any(|(_, certificate)| {
                let ends = self.serials.get(certificate).map(|issued| issued.ends);
                ends.is_some_and(|ends| before.is_none_or(|before| ends >= before))
                    && !self.revoked.may_say(*certificate, this_update, None)
            })
        });
        let gone: Vec<_> = gone.map(|(url, _)| url.clone()).collect();
        for url in gone {
            self.find(index, "crl", format!("certificates that are revoked name {url}, which there is not"));
        }
    }

    /// A batch of OCSP responses says of certificates of ours what the log says.
    pub(super) fn responses(&mut self, index: u64, time: Timestamp, intent: &Intent, tbs: &[u8]) {
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
        let first_epoch = self.place.first_epoch;
        for told in told {
            // By SHA-256 it says the same again, which lint has seen to; keys are known by SHA-1 here.
            let Some(issuer) = self.revoked.issuers.get(&told.issuer.2).copied() else { continue };
            let certificate = short(issuer, &told.serial);
            let serial = hex::encode(&told.serial);
            let (this_update, next_update) = told.period;
            let says = told.revoked.map(|(date, reason)| (date, reason.unwrap_or_default()));
            let is_known = self.revoked.states.contains_key(&certificate);
            let until = self.revoked.responders.get(&(issuer, intent.key_id.0)).copied();
            let mut wrong = Vec::new();
            match until {
                None => wrong.push("by a key that its issuer has not made a responder's"),
                Some(until) if until < next_update => wrong.push("for longer than its signer may"),
                Some(_) => {}
            }
            if !(0..=MADE_LATE).contains(&(time.as_second() - this_update)) || next_update <= this_update {
                wrong.push("and is not of the time of its entry");
            }
            if !self.serials.contains_key(&certificate) {
                wrong.extend(first_epoch.then_some("which the log does not know"));
            } else if (is_known || first_epoch) && !self.revoked.may_say(certificate, this_update, says) {
                wrong.push("what the log does not");
            }
            for wrong in wrong {
                self.find(index, "ocsp", format!("it says of {serial} something, {wrong}"));
            }
        }
    }
}

/// The URL of the CRL of all certificates beside a shard's (`docs/revocation.md`): `…/i1.crl` of `…/i1-0.crl`.
fn of_all(shard: &str) -> String {
    let (stem, end) = shard.strip_suffix(".crl").map_or((shard, ""), |stem| (stem, ".crl"));
    let stem = stem.rsplit_once('-').map_or(stem, |(stem, _)| stem);
    format!("{stem}{end}")
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
