//! What keys were to sign, and what they have signed.

use jiff::Timestamp;
use undercroft_ca::lint;
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::revocation::ocsp::{each_response, each_signature};
use undercroft_ca::time::BACKDATE;
use undercroft_keys::{KeyId, PublicKey, SignatureAlgorithm};
use undercroft_log::leaf::{Channel, Digest, Intent, Object, Outcome, OutcomeResult, ToBeSigned};
use undercroft_log_files::FolderError;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, TbsCertificate};
use x509_parser::revocation_list::TbsCertList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::AlgorithmIdentifier;

use super::Reader;
use super::place::About;
use super::revoked::Issued;
use crate::parallel;

/// How many seconds after it was decided an intent may have been stamped: it waits for a disk that stalls.
pub(super) const STAMPED_LATE: i64 = 600;

/// An intent without an outcome yet.
pub(super) struct Open {
    key: KeyId,
    algorithm: SignatureAlgorithm,
    object: Object,
    /// Absent if its blob is.
    tbs: Option<Vec<u8>>,
    /// The certificate that it would make, by a digest that is cut short.
    certificate: Option<[u8; 16]>,
}

/// A signature over the bytes of an intent, by the key that the intent names.
pub(super) struct Signed {
    index: u64,
    key: PublicKey,
    algorithm: SignatureAlgorithm,
    tbs: Vec<u8>,
    signature: Vec<u8>,
}

/// What a TBSCertificate says by itself, whatever stands around its intent.
pub(super) struct Certificate {
    /// What lint finds.
    broken: Vec<String>,
    /// Absent if it cannot be read.
    fields: Option<Fields>,
}

struct Fields {
    serial: Vec<u8>,
    has_algorithm: bool,
    uris: Vec<String>,
    begins: ASN1Time,
    ends: ASN1Time,
    /// The key to which an authority delegates OCSP, if it does.
    responder: Option<KeyId>,
    /// The URL of the CRL that it names.
    crl: Option<String>,
}

impl Certificate {
    pub(super) fn read(tbs: &[u8], algorithm: SignatureAlgorithm) -> Self {
        let broken = lint::certificate_alone(tbs).err().unwrap_or_default();
        let fields = TbsCertificate::from_der(tbs).ok().map(|(_, certificate)| Fields {
            serial: certificate.raw_serial().to_vec(),
            has_algorithm: is_algorithm(algorithm, &certificate.signature),
            uris: uris(&certificate).into_iter().map(str::to_owned).collect(),
            begins: certificate.validity.not_before,
            ends: certificate.validity.not_after,
            responder: responder(&certificate),
            crl: crl_of(&certificate),
        });
        Self { broken: broken.iter().map(ToString::to_string).collect(), fields }
    }
}

impl Reader<'_> {
    pub(super) fn intent(
        &mut self,
        index: u64,
        time: Timestamp,
        sequence: u64,
        intent: Intent,
        read: Option<Certificate>,
    ) -> Result<(), FolderError> {
        let key = intent.key_id.0;
        self.freezes.intent(index, &intent);
        self.use_of_key(index, sequence, &intent);
        self.belongs(index, &intent.domain);
        self.is_in_force(index, intent.policy);
        if intent.caller.by == Channel::EnrolmentToken {
            self.redeem(index, time, &intent);
        }
        if intent.caller.by == Channel::Attestation {
            self.rests_on_evidence(index, time, &intent);
        }
        let tbs = match &intent.tbs {
            ToBeSigned::Der(der) => Some(der.0.clone()),
            ToBeSigned::Blob { sha256, length } => self.blob(index, *sha256, *length)?,
        };
        let object = intent.object;
        let mut certificate = None;
        match (&tbs, object) {
            (Some(tbs), Object::Certificate) => {
                let read = read.unwrap_or_else(|| Certificate::read(tbs, intent.algorithm));
                certificate = read.fields.as_ref().map(|fields| short(key, &fields.serial));
                self.certificate(index, time, &intent, read);
            }
            (Some(tbs), Object::Crl) => self.crl(index, time, &intent, tbs),
            (Some(tbs), Object::CertificateRequest) => self.certificate_request(index, &intent, tbs),
            (Some(tbs), Object::OcspResponses) => self.responses(index, time, &intent, tbs),
            (None, _) => {}
        }
        self.ledger.intent(key);
        self.open.insert(index, Open { key, algorithm: intent.algorithm, object, tbs, certificate });
        Ok(())
    }

    /// A request asks for the key that signs it, and no log but a transcript has one.
    fn certificate_request(&mut self, index: u64, intent: &Intent, tbs: &[u8]) {
        match undercroft_ca::csr::requested_key(tbs) {
            Ok(key) if key.id() == intent.key_id.0 => {}
            Ok(key) => {
                self.find(index, "intent", format!("it asks for the key {} and not for its own", key.id()))
            }
            Err(error) => self.find(index, "intent", format!("it is no certification request: {error}")),
        }
        if intent.caller.by != Channel::Ceremony {
            self.find(index, "intent", "only ceremonies ask for certificates of authorities");
        }
    }

    /// The key has a custody record, signs as the record says, and no use of it is missing.
    fn use_of_key(&mut self, index: u64, sequence: u64, intent: &Intent) {
        let key = intent.key_id.0;
        let expected = self.sequences.get(&key).map_or(1, |last| last + 1);
        if sequence != expected && self.is_whole() {
            self.find(
                index,
                "sequence",
                format!("it is use {sequence} of the key {key}, and should be use {expected}"),
            );
        }
        self.sequences.insert(key, sequence);
        match self.keys.get(&key).map(|recorded| recorded.algorithm) {
            None if self.is_whole() => {
                self.find(index, "custody", format!("the key {key} has no custody record in front of it"));
            }
            Some(recorded) if recorded.signature_algorithm() != intent.algorithm => self.find(
                index,
                "algorithm",
                format!("it is to be signed with {}, and its key is {recorded}", intent.algorithm),
            ),
            _ => {}
        }
    }

    /// A token is good once, for one ID, until it expires.
    fn redeem(&mut self, index: u64, time: Timestamp, intent: &Intent) {
        let mut named = intent.evidence.iter().map(|evidence| evidence.sha256);
        let token = named.find_map(|digest| Some((digest, self.tokens.get(&digest)?)));
        let wrong = match token {
            None => (self.place.first_epoch && self.is_whole()).then_some("it names no token in front of it"),
            Some((digest, _)) if !self.redeemed.insert(digest) => Some("its token was used before"),
            Some((_, token)) if token.expires.as_second() + STAMPED_LATE < time.as_second() => {
                Some("its token had expired")
            }
            Some((_, token)) => (token.id != intent.caller.id).then_some("its token was good for another ID"),
        };
        if let Some(wrong) = wrong {
            self.find(index, "enrolment", wrong);
        }
    }

    fn certificate(&mut self, index: u64, time: Timestamp, intent: &Intent, read: Certificate) {
        for broken in read.broken {
            self.find(index, "lint", broken);
        }
        let Some(Fields { serial, has_algorithm, uris, begins, ends, responder, crl }) = read.fields else {
            return;
        };
        if let Some(responder) = responder {
            self.revoked.responder(intent.key_id.0, responder, ends.timestamp());
            // Nobody asks whether it is revoked (RFC 6960 section 4.2.2.2.1), so that it must not live long.
            let longest = match self.place.about {
                About::Ceremony => Profile::ocsp_signer_of_root().max_lifetime().0,
                _ => Profile::standard(Kind::OcspSigner).lifetime().0 + BACKDATE,
            };
            let lives = ends.timestamp() - begins.timestamp();
            if lives > longest.as_secs() as i64 {
                self.find(index, "ocsp", format!("a responder's certificate lives for {lives} seconds"));
            }
        }
        let issued = Issued { ends: ends.timestamp(), point: self.revoked.point(crl) };
        if self.serials.insert(short(intent.key_id.0, &serial), issued).is_some() {
            self.find(index, "serial", "its serial number has been used before");
        }
        self.has_algorithm(index, intent.algorithm, has_algorithm);
        // A root that domains share is for each of them and names none.
        let domains: Vec<_> = intent.domain.split(' ').collect();
        if let Some(other) =
            uris.iter().find(|uri| !trust_domain(uri).is_some_and(|own| domains.contains(&own)))
        {
            self.find(
                index,
                "names",
                format!("it is for `{}`, and its certificate is {other}'s", intent.domain),
            );
        }
        if intent.caller.by == Channel::EnrolmentToken && uris != [intent.caller.id.as_str()] {
            self.find(index, "enrolment", format!("its certificate is not {}'s", intent.caller.id));
        }
        if intent.caller.by == Channel::Attestation && uris != [intent.caller.id.as_str()] {
            self.find(index, "verdict", format!("its certificate is not {}'s", intent.caller.id));
        }
        if let Ok(ends) = Timestamp::from_second(ends.timestamp()) {
            let wrong = self.rotations.certificate(intent.key_id.0, ends);
            self.find_of_rotation(index, "rotation", wrong);
        }
        // Plans have dates of their own; online, a certificate begins when it is asked for.
        if self.place.about != About::Ceremony {
            let earliest = time.as_second() - STAMPED_LATE - BACKDATE.as_secs() as i64;
            if begins.timestamp() < earliest || ends.timestamp() + STAMPED_LATE < time.as_second() {
                self.find(index, "validity", format!("its certificate is valid from {begins} to {ends}"));
            }
        }
    }

    fn crl(&mut self, index: u64, time: Timestamp, intent: &Intent, tbs: &[u8]) {
        match TbsCertList::from_der(tbs) {
            Ok(([], list)) => {
                let has_algorithm = is_algorithm(intent.algorithm, &list.signature);
                self.has_algorithm(index, intent.algorithm, has_algorithm);
                self.published_crl(index, time, intent, &list);
            }
            Ok(_) => self.find(index, "lint", "bytes follow the TBSCertList"),
            Err(error) => self.find(index, "lint", format!("it is no TBSCertList: {error}")),
        }
    }

    fn has_algorithm(&mut self, index: u64, algorithm: SignatureAlgorithm, has: bool) {
        if !has {
            self.find(index, "algorithm", format!("it is to be signed with {algorithm}, and says another"));
        }
    }

    pub(super) fn outcome(
        &mut self,
        index: u64,
        time: Timestamp,
        outcome: Outcome,
    ) -> Result<(), FolderError> {
        let Some(open) = self.open.remove(&outcome.intent) else {
            if !self.bad.contains(&outcome.intent) {
                self.find(
                    index,
                    "outcome",
                    format!("entry {} is no intent that waits for an outcome", outcome.intent),
                );
            }
            return Ok(());
        };
        let is_batch = matches!(outcome.result, OutcomeResult::Signatures(_));
        if is_batch != (open.object == Object::OcspResponses)
            && !matches!(outcome.result, OutcomeResult::Abandoned(_))
        {
            self.find(
                index,
                "outcome",
                "batches of OCSP responses have many signatures, and nothing else has",
            );
            return Ok(());
        }
        match outcome.result {
            OutcomeResult::Abandoned(_) => {
                self.intents.abandoned += 1;
                self.revoked.concluded(outcome.intent, false);
                if let Some(certificate) = open.certificate {
                    let issued = self.serials.get(&certificate).copied();
                    self.revoked.abandoned(open.key, certificate, time, issued);
                }
            }
            OutcomeResult::Signatures(named) => {
                self.intents.signed += 1;
                if let Some(blob) = self.blob(index, named.sha256, named.length)? {
                    self.batch(index, &open, &blob);
                }
            }
            OutcomeResult::Signature(signature) => {
                self.intents.signed += 1;
                self.revoked.concluded(outcome.intent, true);
                if let Some(what) = self.freezes.signed(outcome.intent) {
                    self.find(index, "frozen", format!("it was signed while the {what} was frozen"));
                }
                let (Some(recorded), Some(tbs)) = (self.keys.get(&open.key), open.tbs) else {
                    return Ok(());
                };
                let key = recorded.public_key.clone();
                if let Err(what) = self.ledger.signed(outcome.command, open.key, &tbs, &signature.0) {
                    self.find(index, "ledger", what);
                }
                let (algorithm, signature) = (open.algorithm, signature.0);
                self.signatures.push(Signed { index, key, algorithm, tbs, signature });
            }
        }
        Ok(())
    }

    /// Each response of a batch has a signature.
    fn batch(&mut self, index: u64, open: &Open, blob: &[u8]) {
        let (Some(recorded), Some(tbs)) = (self.keys.get(&open.key), &open.tbs) else { return };
        let (key, algorithm) = (recorded.public_key.clone(), open.algorithm);
        let (Ok(each), Ok(signatures)) = (each_response(tbs), each_signature(blob)) else {
            self.find(index, "signature", "the signatures of its responses cannot be read");
            return;
        };
        if each.len() != signatures.len() {
            self.find(
                index,
                "signature",
                format!("{} responses, {} signatures", each.len(), signatures.len()),
            );
        }
        let signed = each.into_iter().zip(signatures);
        self.signatures.extend(signed.map(|(tbs, signature)| Signed {
            index,
            key: key.clone(),
            algorithm,
            tbs,
            signature,
        }));
    }

    /// Verifies what has come together, on every processor.
    pub(super) fn verify_signatures(&mut self) {
        let signatures = std::mem::take(&mut self.signatures);
        let verified = parallel::each(&signatures, |signed| {
            signed.key.verify(signed.algorithm, &signed.tbs, &signed.signature).is_ok()
        });
        for (signed, _) in signatures.iter().zip(verified).filter(|(_, verified)| !verified) {
            let what = format!("the key {} has not signed the intent's bytes", signed.key.id());
            self.find(signed.index, "signature", what);
        }
    }
}

/// The bytes name the algorithm with which they are to be signed (RFC 5280 sections 4.1.1.2 and 5.1.1.2).
fn is_algorithm(algorithm: SignatureAlgorithm, named: &AlgorithmIdentifier<'_>) -> bool {
    AlgorithmIdentifier::from_der(algorithm.der()).is_ok_and(|(_, own)| own == *named)
}

/// 16 bytes that stand for a serial number of a key: two that were the same by chance would be told as one used twice,
/// and there is no such chance.
pub(super) fn short(key: KeyId, serial: &[u8]) -> [u8; 16] {
    let Digest(digest) = Digest::of(&[&key.as_bytes()[..], serial].concat());
    *digest.first_chunk().unwrap_or(&[0; 16])
}

/// The key of a responder's certificate (RFC 6960 section 4.2.2.2).
fn responder(certificate: &TbsCertificate<'_>) -> Option<KeyId> {
    let delegates = certificate.extensions().iter().any(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::ExtendedKeyUsage(usage) if usage.ocsp_signing)
    });
    let key = PublicKey::from_spki(certificate.subject_pki.raw).ok()?;
    delegates.then(|| key.id())
}

/// The URL of the CRL that a certificate names (RFC 5280 section 4.2.1.13). Ours name one.
fn crl_of(certificate: &TbsCertificate<'_>) -> Option<String> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => {
            points.points.iter().find_map(|point| match &point.distribution_point {
                Some(DistributionPointName::FullName(names)) => names.iter().find_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                }),
                _ => None,
            })
        }
        _ => None,
    })
}

fn uris<'a>(certificate: &TbsCertificate<'a>) -> Vec<&'a str> {
    let mut uris = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            uris.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            }));
        }
    }
    uris
}

/// The trust domain that a SPIFFE ID begins with. Whether it is one is for lint to say.
fn trust_domain(uri: &str) -> Option<&str> {
    uri.strip_prefix("spiffe://")?.split('/').next()
}
