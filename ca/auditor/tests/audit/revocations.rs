//! Revocations, CRLs and OCSP responses that the log of a domain should not have (`docs/revocation.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use undercroft_ca::issuance::MERKLE_ROOT;
use undercroft_ca::names::Identity;
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::revocation::ocsp::each_response;
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::subject::Subject;
use undercroft_ca::tbs::RevocationReason::{self, CertificateHold, KeyCompromise, RemoveFromCrl, Superseded};
use undercroft_ca::tbs::{
    self, CertificateIds, CertificateSpec, CrlScope, CrlSpec, HttpUrl, Issuer, OcspSpec, Revoked, SignedBy,
    Status,
};
use undercroft_ca::time::Validity;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::Digest;
use undercroft_log::tree::{GrowingTree, leaf_hash};

use crate::installation::{INSTALLATION, Signer, software};
use crate::lies::{issue, replaced};
use crate::log::Log;

/// Serial numbers, by their bytes: two of the first shard, and two of the second.
const A: u8 = 0x10;
const B: u8 = 0x11;
const C: u8 = 0x70;
const D: u8 = 0x71;

/// What a CRL lists.
type List<'a> = &'a [(u8, Option<RevocationReason>)];

/// The log of a domain whose authority has two shards and a responder, and what time it is.
#[derive(Clone)]
struct World {
    log: Log,
    now: Timestamp,
    /// When certificates were revoked.
    dates: BTreeMap<u8, Timestamp>,
    number: u64,
    responder: Arc<SoftwareKey>,
}

/// The serial number of a certificate, and when and why it was revoked.
type Told = (u8, Option<(Timestamp, Option<RevocationReason>)>);

impl World {
    /// Four certificates, CRLs that list none of them, and a responder; then A is revoked and C put on hold.
    fn new() -> Self {
        let mut world = Self::before_shards();
        for shard in [0, 1] {
            world.crl(Some(shard), None, &[]);
        }
        world.pass(1000);
        world.revoke(A, "revoke", Some("key-compromise"));
        world.revoke(C, "hold", None);
        world.pass(1000);
        world
    }

    fn before_shards() -> Self {
        let mut log = INSTALLATION.prod.clone();
        // What was abandoned would stand on every CRL.
        let outcomes = log.all("outcome").into_iter();
        let abandoned: Vec<_> =
            outcomes.filter(|at| log.value(*at)["body"]["result"]["abandoned"].is_string()).collect();
        abandoned.into_iter().rev().for_each(|at| log.remove(at));
        let now = log.value(log.entries.len() as u64 - 1)["time"].as_str().unwrap().parse().unwrap();
        let responder = software(KeyAlgorithm::EcdsaP256);
        let mut world = Self { log, now, dates: BTreeMap::new(), number: 0, responder: responder.clone() };
        world.record(&responder);
        for serial in [A, B, C, D] {
            world.svid(serial, 24);
        }
        world.responder(&responder, 24, |tbs| tbs);
        world.crl(None, None, &[]);
        world
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Stamps what was written since `first`.
    fn stamp(&mut self, first: u64) -> u64 {
        let now = json!(self.now.to_string());
        for index in first..self.log.entries.len() as u64 {
            self.log.edit(index, |entry| entry["time"] = now.clone());
        }
        first
    }

    fn record(&mut self, key: &SoftwareKey) {
        let mut body = self.log.value(self.log.last("key"))["body"].clone();
        body["spki"] = json!(Base64::encode_string(key.public_key().spki()));
        body["key_id"] = json!(key.public_key().id().to_string());
        body["algorithm"] = json!("ecdsa-p256");
        let at = self.log.push("key", body);
        self.stamp(at);
    }

    fn certificate(&self, kind: Kind, serial: u8, hours: i64, key: &SoftwareKey, issuer: &Issuer) -> Vec<u8> {
        let end = self.now + SignedDuration::from_hours(hours);
        let uri = (kind == Kind::Svid).then(|| format!("spiffe://prod.example/ns/a/sa/{serial}"));
        let spec = CertificateSpec {
            profile: &Profile::standard(kind),
            policy_arc: &"1.3.6.1.4.1.32473.1".parse().unwrap(),
            serial: number(serial),
            validity: Validity::new(self.now, end).unwrap(),
            subject: &Subject::new("prod.example", None).unwrap(),
            public_key: key.public_key(),
            identity: &Identity { uri, ..Identity::default() },
            path_length: None,
            constraints: None,
        };
        tbs::certificate(&spec, SignedBy::Issuer(issuer)).unwrap().der().to_vec()
    }

    fn svid(&mut self, serial: u8, hours: i64) -> u64 {
        let key = software(KeyAlgorithm::EcdsaP256);
        let tbs = self.certificate(Kind::Svid, serial, hours, &key, &issuer());
        self.intend("certificate", "svid", &tbs)
    }

    /// Delegates answers to a key.
    fn responder(&mut self, key: &SoftwareKey, hours: i64, change: impl Fn(Vec<u8>) -> Vec<u8>) -> u64 {
        // A serial number for each.
        let serial = 0x30 + u8::try_from(self.log.entries.len() % 0x20).unwrap();
        let tbs = change(self.certificate(Kind::OcspSigner, serial, hours, key, &issuer()));
        self.intend("certificate", "ocsp-signer", &tbs)
    }

    /// An intent of the authority and its signature.
    fn intend(&mut self, object: &str, profile: &str, tbs: &[u8]) -> u64 {
        let at = issue(&mut self.log, authority(), tbs, |body| {
            body["object"] = json!(object);
            body["profile"] = json!(profile);
            body["evidence"] = json!([]);
        });
        self.stamp(at)
    }

    fn revoke(&mut self, serial: u8, event: &str, reason: Option<&str>) -> u64 {
        self.revoke_by(serial, event, reason, self.now)
    }

    fn revoke_by(&mut self, serial: u8, event: &str, reason: Option<&str>, date: Timestamp) -> u64 {
        let mut body = json!({
            "event": event,
            "domain": "prod.example",
            "issuer": authority().key.public_key().id().to_string(),
            "serials": [hex::encode([serial; 16])],
            "date": date.to_string(),
            "caller": { "id": "uid:0", "by": "unix-socket" },
        });
        if let Some(reason) = reason {
            body["reason"] = json!(reason);
        }
        let at = self.log.push("revocation", body);
        // Whoever is revoked while on hold is revoked since then.
        if event != "release" {
            self.dates.entry(serial).or_insert(self.now);
        } else {
            self.dates.insert(serial, self.now);
        }
        self.stamp(at)
    }

    fn list(&self, list: List<'_>) -> Vec<Revoked> {
        let date = |serial| self.dates.get(serial).copied().unwrap_or(self.now);
        list.iter()
            .map(|(serial, reason)| Revoked { serial: number(*serial), date: date(serial), reason: *reason })
            .collect()
    }

    fn crl(&mut self, shard: Option<u16>, delta_of: Option<u64>, list: List<'_>) -> u64 {
        self.number += 1;
        let (period, list) = (self.period(3600), self.list(list));
        self.crl_of(shard, delta_of, self.number, period, &list)
    }

    fn period(&self, seconds: i64) -> Validity {
        Validity::new(self.now, self.now + SignedDuration::from_secs(seconds)).unwrap()
    }

    fn crl_of(
        &mut self,
        shard: Option<u16>,
        delta_of: Option<u64>,
        number: u64,
        period: Validity,
        list: &[Revoked],
    ) -> u64 {
        let issuer = issuer();
        let url: Option<HttpUrl> = shard.map(|shard| issuer.urls.shard(shard));
        let scope = CrlScope { shard: url.as_ref(), delta_of, freshest: None };
        let spec = CrlSpec { issuer: &issuer, number, period, revoked: list, scope };
        let tbs = tbs::crl(&spec).unwrap().der().to_vec();
        self.intend("crl", "crl", &tbs)
    }

    fn ocsp(&mut self, statuses: &[Told]) -> u64 {
        let key = self.responder.clone();
        self.ocsp_by(&key, self.period(3600), statuses)
    }

    fn ocsp_by(&mut self, key: &SoftwareKey, period: Validity, statuses: &[Told]) -> u64 {
        let statuses = statuses.iter().map(|(serial, told)| Status {
            serial: number(*serial),
            revoked: told.map(|(date, reason)| Revoked { serial: number(*serial), date, reason }),
        });
        let spec = OcspSpec {
            issuer: &CertificateIds::new(&issuer().name, authority().key.public_key()).unwrap(),
            responder: *key.public_key().subject_key_identifier().as_bytes(),
            period,
            statuses: &statuses.collect::<Vec<_>>(),
        };
        let (batch, each) = tbs::ocsp_responses(&spec).unwrap();
        let mut tree = GrowingTree::new();
        each_response(batch.der()).unwrap().iter().for_each(|data| tree.push(leaf_hash(data)));
        let mut body = self.log.value(self.log.last("intent"))["body"].clone();
        body["object"] = json!("ocsp-responses");
        body["profile"] = json!("ocsp-responses");
        body["tbs"] = json!({ "der": Base64::encode_string(batch.der()) });
        body["key_id"] = json!(key.public_key().id().to_string());
        body["evidence"] = json!([{ "format": MERKLE_ROOT, "sha256": hex::encode(tree.root().as_bytes()) }]);
        let intent = self.log.push("intent", body);
        let signed: Vec<_> = each.iter().map(|data| block_on(key.sign(data)).unwrap()).collect();
        let blob = tbs::signatures(&signed).unwrap();
        let named = json!({ "sha256": Digest::of(&blob).to_string(), "length": blob.len() });
        self.log.blobs.push(blob);
        self.log.push("outcome", json!({ "intent": intent, "result": { "signatures": named } }));
        self.stamp(intent)
    }

    /// Both shards and the whole, of what [`World::new`] leaves; deltas may follow in the next second.
    fn all(&mut self) -> [u64; 3] {
        let all = [
            self.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]),
            self.crl(Some(0), None, &[(A, Some(KeyCompromise))]),
            self.crl(Some(1), None, &[(C, Some(CertificateHold))]),
        ];
        self.pass(1);
        all
    }

    fn date(&self, serial: u8) -> Timestamp {
        self.dates[&serial]
    }

    fn found(&self) -> BTreeSet<&'static str> {
        self.log.audit().findings.iter().map(|finding| finding.rule).collect()
    }
}

fn authority() -> &'static Signer {
    &INSTALLATION.prod_authority
}

fn issuer() -> Issuer {
    let mut issuer = authority().issuer.clone();
    issuer.urls.crl_shards = Some("2".parse().unwrap());
    issuer
}

fn number(serial: u8) -> SerialNumber {
    SerialNumber::from_bytes([serial; 16]).unwrap()
}

/// Abandons the intent that was signed last.
fn abandon(world: &mut World) {
    let outcome = world.log.last("outcome");
    world.log.edit_body(outcome, |body| body["result"] = json!({ "abandoned": "the token is gone" }));
}

/// A forgery: a name, the rule that finds it, words of the finding, and how it is made, which gives the entry.
struct Forgery {
    name: &'static str,
    rule: &'static str,
    says: &'static str,
    make: fn(&mut World) -> u64,
}

const fn forgery(
    name: &'static str,
    rule: &'static str,
    says: &'static str,
    make: fn(&mut World) -> u64,
) -> Forgery {
    Forgery { name, rule, says, make }
}

const FORGERIES: &[Forgery] = &[
    // Revocations.
    forgery("a certificate that was never issued is revoked", "revocation", "never issued", |it| {
        it.revoke(0x66, "revoke", Some("superseded"))
    }),
    forgery("a release without a hold", "revocation", "cannot change so", |it| it.revoke(B, "release", None)),
    forgery("a release of what is revoked for ever", "revocation", "cannot change so", |it| {
        it.revoke(A, "release", None)
    }),
    forgery("a second release", "revocation", "cannot change so", |it| {
        it.revoke(C, "release", None);
        it.revoke(C, "release", None)
    }),
    forgery("a second revocation, for another reason", "revocation", "cannot change so", |it| {
        it.revoke(A, "revoke", Some("superseded"))
    }),
    forgery("a hold of what is revoked", "revocation", "cannot change so", |it| it.revoke(A, "hold", None)),
    forgery("a revocation without a reason", "revocation", "have a reason", |it| {
        it.revoke(B, "revoke", None)
    }),
    forgery("a hold with a reason", "revocation", "have a reason", |it| {
        it.revoke(B, "hold", Some("superseded"))
    }),
    forgery("a revocation that is dated back", "revocation", "it is of", |it| {
        let date = it.now - SignedDuration::from_secs(601);
        it.revoke_by(B, "revoke", Some("superseded"), date)
    }),
    forgery("a revocation of the future", "revocation", "it is of", |it| {
        let date = it.now + SignedDuration::from_secs(1);
        it.revoke_by(B, "revoke", Some("superseded"), date)
    }),
    // What a CRL lists.
    forgery("a revoked certificate that is left out", "crl", "leaves out 1", |it| {
        it.crl(None, None, &[(C, Some(CertificateHold))])
    }),
    forgery("a certificate on hold that is left out", "crl", "leaves out 1", |it| {
        it.crl(None, None, &[(A, Some(KeyCompromise))])
    }),
    forgery("a list that says nothing", "crl", "leaves out 2", |it| it.crl(None, None, &[])),
    forgery("an abandoned serial number that is left out", "crl", "leaves out 1", |it| {
        it.svid(0x12, 24);
        abandon(it);
        it.pass(1000);
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))])
    }),
    forgery("a certificate that was never revoked", "crl", "the log does not say so", |it| {
        it.crl(None, None, &[(A, Some(KeyCompromise)), (B, None), (C, Some(CertificateHold))])
    }),
    forgery("a certificate that was released long ago", "crl", "the log says another thing", |it| {
        let held = it.date(C);
        it.revoke(C, "release", None);
        it.dates.insert(C, held);
        it.pass(1000);
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))])
    }),
    forgery("another reason", "crl", "the log says another thing", |it| {
        it.crl(None, None, &[(A, Some(Superseded)), (C, Some(CertificateHold))])
    }),
    forgery("a reason that is kept silent", "crl", "the log says another thing", |it| {
        it.crl(None, None, &[(A, None), (C, Some(CertificateHold))])
    }),
    forgery("a revocation that is called a hold", "crl", "the log says another thing", |it| {
        it.crl(None, None, &[(A, Some(CertificateHold)), (C, Some(CertificateHold))])
    }),
    forgery("another date of revocation", "crl", "the log says another thing", |it| {
        let date = it.date(A) + SignedDuration::from_secs(60);
        it.dates.insert(A, date);
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))])
    }),
    forgery("a certificate twice", "crl", "lists before", |it| {
        let list = [(A, Some(KeyCompromise)), (A, Some(KeyCompromise)), (C, Some(CertificateHold))];
        it.crl(None, None, &list)
    }),
    forgery("a release in a complete CRL", "crl", "only a delta", |it| {
        it.revoke(C, "release", None);
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(RemoveFromCrl))])
    }),
    forgery("what expired before it stood on a CRL", "crl", "leaves out 1", |it| {
        it.all();
        it.svid(0x13, 1);
        it.revoke(0x13, "revoke", Some("superseded"));
        it.pass(2 * 3600);
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))])
    }),
    forgery("what expired, and stood on no CRL but one that was never signed", "crl", "leaves out 1", |it| {
        it.all();
        it.svid(0x13, 1);
        it.revoke(0x13, "revoke", Some("superseded"));
        it.pass(2 * 3600);
        let list = [(A, Some(KeyCompromise)), (0x13, Some(Superseded)), (C, Some(CertificateHold))];
        it.crl(None, None, &list);
        abandon(it);
        it.pass(60);
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))])
    }),
    // Numbers and times.
    forgery("a number that is used again", "crl", "its number is", |it| {
        it.all();
        let list = it.list(&[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
        it.crl_of(None, None, it.number - 2, it.period(3600), &list)
    }),
    forgery("a number that goes back", "crl", "its number is", |it| {
        it.all();
        let list = it.list(&[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
        it.crl_of(None, None, 1, it.period(3600), &list)
    }),
    forgery("the number of a base, for its delta", "crl", "its number is", |it| {
        it.all();
        it.crl_of(Some(0), Some(it.number - 1), it.number - 1, it.period(60), &[])
    }),
    forgery("a thisUpdate before the last", "crl", "its thisUpdate is before", |it| {
        it.all();
        it.now -= SignedDuration::from_secs(2);
        let (list, period) =
            (it.list(&[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]), it.period(3600));
        it.now += SignedDuration::from_secs(2);
        it.crl_of(None, None, it.number + 1, period, &list)
    }),
    forgery("a thisUpdate of the future", "crl", "its thisUpdate is", |it| {
        let period =
            Validity::new(it.now + SignedDuration::from_secs(1), it.now + SignedDuration::from_hours(1));
        let list = it.list(&[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
        it.crl_of(None, None, 100, period.unwrap(), &list)
    }),
    forgery("a CRL that was made for later", "crl", "its thisUpdate is", |it| {
        let period = it.period(9000);
        it.pass(3601);
        let list = it.list(&[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
        it.crl_of(None, None, 100, period, &list)
    }),
    // Deltas.
    forgery("a delta of a CRL that there is not", "crl", "the last that was signed", |it| {
        it.all();
        it.crl(None, Some(77), &[])
    }),
    forgery("a delta of a CRL of another shard", "crl", "the last that was signed", |it| {
        it.all();
        it.crl(Some(0), Some(it.number), &[])
    }),
    forgery("a delta without any base", "crl", "which there is not", |it| {
        it.log = World::before_shards().log;
        it.crl(Some(0), Some(1), &[])
    }),
    forgery("a delta of a base that was never signed", "crl", "the last that was signed", |it| {
        it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
        abandon(it);
        it.pass(1);
        it.crl(None, Some(it.number), &[])
    }),
    forgery("a delta of a base that was replaced", "crl", "the last that was signed", |it| {
        it.crl(None, Some(1), &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
        let old = it.number - 1;
        it.all();
        it.crl(Some(0), Some(old), &[])
    }),
    forgery("a delta that leaves a new revocation out", "crl", "of 1 certificates", |it| {
        it.all();
        it.revoke(B, "revoke", Some("superseded"));
        it.pass(1000);
        it.crl(None, Some(it.number - 2), &[])
    }),
    forgery("a delta that leaves a release out", "crl", "of 1 certificates", |it| {
        it.all();
        it.revoke(C, "release", None);
        it.pass(1000);
        it.crl(None, Some(it.number - 2), &[])
    }),
    forgery("a delta that leaves out that a hold became a revocation", "crl", "of 1 certificates", |it| {
        it.all();
        it.revoke(C, "revoke", Some("superseded"));
        it.pass(1000);
        it.crl(None, Some(it.number - 2), &[])
    }),
    forgery("a delta that releases what is on hold", "crl", "the log says another thing", |it| {
        it.all();
        it.pass(1000);
        it.crl(None, Some(it.number - 2), &[(C, Some(RemoveFromCrl))])
    }),
    forgery("a delta that releases what was never held", "crl", "the log does not say so", |it| {
        it.all();
        it.crl(None, Some(it.number - 2), &[(B, Some(RemoveFromCrl))])
    }),
    forgery("a delta that revokes what nobody revoked", "crl", "the log does not say so", |it| {
        it.all();
        it.crl(None, Some(it.number - 2), &[(B, Some(Superseded))])
    }),
    // Shards.
    forgery("a shard that leaves one of its own out", "crl", "leaves out 1", |it| it.crl(Some(0), None, &[])),
    forgery("the other shard that leaves one of its own out", "crl", "leaves out 1", |it| {
        it.crl(Some(1), None, &[])
    }),
    forgery("a shard that lists what names another", "crl", "names another CRL", |it| {
        it.crl(Some(0), None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))])
    }),
    forgery("a shard's delta that leaves one of its own out", "crl", "of 1 certificates", |it| {
        it.all();
        it.revoke(D, "revoke", Some("superseded"));
        it.pass(1000);
        it.crl(Some(1), Some(it.number), &[])
    }),
    forgery("a shard that was never made", "crl", "i1-1.crl, which there is not", |it| {
        *it = World::before_shards();
        it.crl(Some(0), None, &[]);
        it.revoke(C, "revoke", Some("superseded"));
        it.pass(1000);
        it.crl(None, None, &[(C, Some(Superseded))])
    }),
    // OCSP.
    forgery("`good` of a revoked certificate", "ocsp", "what the log does not", |it| it.ocsp(&[(A, None)])),
    forgery("`good` of a certificate on hold", "ocsp", "what the log does not", |it| {
        it.ocsp(&[(B, None), (C, None)])
    }),
    forgery("`revoked` of a good certificate", "ocsp", "what the log does not", |it| {
        it.ocsp(&[(B, Some((it.now, None)))])
    }),
    forgery("`revoked` of a certificate that was released long ago", "ocsp", "what the log does not", |it| {
        let held = it.date(C);
        it.revoke(C, "release", None);
        it.pass(1000);
        it.ocsp(&[(C, Some((held, Some(CertificateHold))))])
    }),
    forgery("another reason in an OCSP response", "ocsp", "what the log does not", |it| {
        it.ocsp(&[(A, Some((it.date(A), Some(Superseded))))])
    }),
    forgery("another date in an OCSP response", "ocsp", "what the log does not", |it| {
        let date = it.date(A) - SignedDuration::from_secs(5);
        it.ocsp(&[(A, Some((date, Some(KeyCompromise))))])
    }),
    forgery("a certificate that the log does not know", "ocsp", "does not know", |it| {
        it.ocsp(&[(0x66, None)])
    }),
    forgery("a Merkle root of other responses", "ocsp", "Merkle root", |it| {
        let at = it.ocsp(&[(B, None)]);
        it.log.edit_body(at, |body| body["evidence"][0]["sha256"] = json!("00".repeat(32)))
    }),
    forgery("a signer to whom nobody has delegated", "ocsp", "has not made a responder's", |it| {
        let key = software(KeyAlgorithm::EcdsaP256);
        it.record(&key);
        it.ocsp_by(&key, it.period(3600), &[(B, None)])
    }),
    forgery("responses by the certificate of a workload", "ocsp", "has not made a responder's", |it| {
        let key = software(KeyAlgorithm::EcdsaP256);
        it.record(&key);
        let tbs = it.certificate(Kind::Svid, 0x14, 1, &key, &issuer());
        it.intend("certificate", "svid", &tbs);
        it.ocsp_by(&key, it.period(3600), &[(B, None)])
    }),
    forgery("a response that outlives its signer's certificate", "ocsp", "longer than its signer", |it| {
        it.pass(22 * 3600);
        it.ocsp_by(&it.responder.clone(), it.period(3 * 3600), &[(B, None)])
    }),
    forgery("a signer whose certificate has expired", "ocsp", "longer than its signer", |it| {
        it.svid(0x15, 72);
        it.pass(25 * 3600);
        it.ocsp(&[(0x15, None)])
    }),
    forgery("a response of the future", "ocsp", "not of the time", |it| {
        let period =
            Validity::new(it.now + SignedDuration::from_secs(1), it.now + SignedDuration::from_hours(1));
        it.ocsp_by(&it.responder.clone(), period.unwrap(), &[(B, None)])
    }),
    forgery("a signer's certificate that lives for too long", "ocsp", "lives for", |it| {
        it.responder(&it.responder.clone(), 25, |tbs| tbs)
    }),
    forgery("a signer's certificate without id-pkix-ocsp-nocheck", "lint", "ocsp-no-check", |it| {
        // id-pkix-ocsp-nocheck becomes 1.3.6.1.5.5.7.48.1.15, which is nothing.
        let (it_is, it_is_not) = ([0x07, 0x30, 0x01, 0x05], [0x07, 0x30, 0x01, 0x0f]);
        it.responder(&it.responder.clone(), 24, |tbs| replaced(&tbs, &it_is, &it_is_not))
    }),
];

#[test]
fn every_forged_revocation_crl_and_response_is_found_where_it_stands_by_its_name() {
    for Forgery { name, rule, says, make } in FORGERIES {
        let mut world = World::new();
        let entry = make(&mut world);
        let report = world.log.audit();
        assert_eq!(world.found(), BTreeSet::from([*rule]), "{name}: {:#?}", report.findings);
        let first = &report.findings[0];
        assert_eq!(first.entry, Some(entry), "{name}: {:#?}", report.findings);
        let told = report.findings.iter().any(|finding| finding.what.contains(says));
        assert!(told, "{name}: {:#?}", report.findings);
        assert!(report.findings.iter().all(|finding| finding.entry == Some(entry)), "{name}");
    }
}

/// What the forgeries are made from, and each change that there is, told as it should be.
#[test]
fn what_is_told_as_the_log_says_it_is_no_finding() {
    let mut it = World::new();
    it.ocsp(&[
        (A, Some((it.date(A), Some(KeyCompromise)))),
        (B, None),
        (C, Some((it.date(C), Some(CertificateHold)))),
    ]);
    it.all();
    let (whole, first, second) = (it.number - 2, it.number - 1, it.number);
    let held = it.date(C);
    it.revoke(C, "release", None);
    it.revoke(B, "revoke", Some("superseded"));
    // What has just changed may be told either way, by deltas and by others.
    it.crl(None, Some(whole), &[]);
    it.crl(None, Some(whole), &[(B, Some(Superseded))]);
    it.ocsp(&[(B, None), (C, Some((held, Some(CertificateHold))))]);
    it.pass(1000);
    it.crl(None, Some(whole), &[(B, Some(Superseded)), (C, Some(RemoveFromCrl))]);
    it.crl(Some(0), Some(first), &[(B, Some(Superseded))]);
    it.crl(Some(1), Some(second), &[(C, Some(RemoveFromCrl))]);
    it.crl(None, None, &[(A, Some(KeyCompromise)), (B, Some(Superseded))]);
    it.crl(Some(1), None, &[]);
    it.ocsp(&[(B, Some((it.date(B), Some(Superseded)))), (C, None)]);
    // Held again, and revoked since then.
    it.dates.remove(&C);
    it.revoke(C, "hold", None);
    it.pass(1000);
    it.revoke(C, "revoke", Some("superseded"));
    it.pass(1000);
    it.crl(Some(1), None, &[(C, Some(Superseded))]);
    it.ocsp(&[(C, Some((it.date(C), Some(Superseded))))]);
    assert_eq!(it.log.audit().findings, []);
}

/// RFC 5280 section 3.3: on one CRL that is issued after it has expired, and on none from then on.
#[test]
fn what_has_expired_leaves_behind_the_first_crl_that_was_issued_after() {
    let mut it = World::new();
    it.svid(0x13, 1);
    it.revoke(0x13, "revoke", Some("superseded"));
    it.pass(2 * 3600);
    let all = [(A, Some(KeyCompromise)), (0x13, Some(Superseded)), (C, Some(CertificateHold))];
    it.crl(None, None, &all);
    it.crl(Some(0), None, &all[..2]);
    it.pass(60);
    it.crl(None, None, &[(A, Some(KeyCompromise)), (C, Some(CertificateHold))]);
    it.crl(Some(0), None, &[(A, Some(KeyCompromise))]);
    assert_eq!(it.log.audit().findings, []);
}
