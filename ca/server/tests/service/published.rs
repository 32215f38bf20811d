//! CRLs and OCSP responses as time goes by.

use std::sync::Arc;

use hsm_sim::software::SoftwareKey;
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::service::{CertificateAuthority, Certificates, OcspAnswer, RevokeRequest};
use undercroft_ca::tbs::CertificateIds;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::{Caller, Channel, Freezable, Reason, RevocationEvent};

use crate::rig::{Mood, Options, Rig, ask, workload};

const HOUR: i64 = 3600;

fn options() -> Options {
    let key = SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    Options { responder: Some(Arc::new(key)), ..Options::default() }
}

/// The serial number of a new certificate.
async fn issued(ca: &CertificateAuthority) -> SerialNumber {
    let der = ask(ca, workload()).await.unwrap().chain[0].clone();
    // Its first INTEGER of 16 bytes, behind the version (RFC 5280 section 4.1).
    let at = der.windows(2).position(|bytes| bytes == [0x02, 0x10]).unwrap() + 2;
    SerialNumber::from_bytes(der[at..at + 16].try_into().unwrap()).unwrap()
}

fn is_listed(ca: &CertificateAuthority, serial: SerialNumber) -> bool {
    let crl = ca.served("/i1.crl").unwrap();
    crl.body.windows(16).any(|bytes| bytes == serial.as_bytes())
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[tag, u8::try_from(content.len()).unwrap()][..], &content].concat()
}

/// An OCSPRequest (RFC 6960 section 4.1.1).
fn request(ca: &CertificateAuthority, serial: SerialNumber) -> Vec<u8> {
    let authority = &ca.domain("prod.example").unwrap().authorities()[0];
    let certificate = authority.certificate();
    let ids = CertificateIds::new(certificate.subject(), certificate.public_key()).unwrap();
    let (hash, name, key) = &ids.hashes[0];
    let id = [hash.to_vec(), der(4, &[name]), der(4, &[key]), der(2, &[serial.as_bytes()])].concat();
    let id = der(0x30, &[&id]);
    der(0x30, &[&der(0x30, &[&der(0x30, &[&der(0x30, &[&id])])])])
}

/// Until when the answer is good; nothing if it is `tryLater`.
fn answered(ca: &CertificateAuthority, serial: SerialNumber) -> Option<jiff::Timestamp> {
    match ca.answer_ocsp("/ocsp", &request(ca, serial)).unwrap() {
        OcspAnswer::Signed(served) => Some(served.next_update),
        OcspAnswer::Refused(der) => {
            assert_eq!(der, [0x30, 3, 0x0a, 1, 3], "tryLater");
            None
        }
    }
}

/// RFC 5280 section 3.3: whatever expires between two CRLs stands on the one that comes after.
#[test]
fn what_has_expired_stands_on_one_more_crl_and_on_no_other() {
    let rig = Rig::new();
    let told = rig.start(&options(), async |ca| {
        let serial = issued(ca).await;
        assert!(ca.publish().await.is_empty());
        assert!(!is_listed(ca, serial));
        let caller = Caller { id: "uid:0".into(), by: Channel::UnixSocket };
        let request = RevokeRequest {
            domain: "prod.example".into(),
            authority: None,
            certificates: Certificates::Serials(vec![serial]),
            event: RevocationEvent::Revoke,
            reason: Some(Reason::Superseded),
        };
        ca.revoke(caller, &request, false).await.unwrap();
        // It expires before anybody could make a CRL.
        for listed in [true, false, false] {
            rig.clock.advance(13 * HOUR);
            assert!(ca.publish().await.is_empty());
            assert_eq!(is_listed(ca, serial), listed);
        }
    });
    told.unwrap();
}

#[test]
fn a_responder_whose_certificate_has_expired_answers_nothing_until_it_has_a_new_one() {
    let rig = Rig::new();
    let begin = undercroft_log::Clock::now(&*rig.clock);
    let told = rig.start(&options(), async |ca| {
        issued(ca).await;
        assert!(ca.publish().await.is_empty());
        rig.clock.advance(23 * HOUR + HOUR / 2);
        let serial = issued(ca).await;
        let authority = &rig.domains.iter().find(|domain| domain.name == "prod.example").unwrap().key;
        authority.set(Mood::Fails);
        // It is overdue and still good: responses end when it does.
        assert!(!ca.publish().await.is_empty());
        assert_eq!(answered(ca, serial), Some(begin + jiff::SignedDuration::from_hours(24)));
        rig.clock.advance(HOUR / 2 + 60);
        assert_eq!(answered(ca, serial), None);
        assert!(!ca.publish().await.is_empty());
        assert_eq!(answered(ca, serial), None, "nothing is signed for an expired responder");
        authority.set(Mood::Signs);
        rig.clock.advance(31);
        assert!(ca.publish().await.is_empty());
        let now = undercroft_log::Clock::now(&*rig.clock);
        assert_eq!(answered(ca, serial), Some(now + jiff::SignedDuration::from_hours(1)));
    });
    told.unwrap();
}

/// A compromised authority is frozen and still has to say what it has revoked.
#[test]
fn the_responder_of_a_frozen_authority_answers_beyond_the_end_of_its_certificate() {
    let rig = Rig::new();
    let told = rig.start(&options(), async |ca| {
        issued(ca).await;
        assert!(ca.publish().await.is_empty());
        rig.clock.advance(23 * HOUR + HOUR / 2);
        let serial = issued(ca).await;
        let domain = Freezable::Domain("prod.example".into());
        ca.freeze(Caller { id: "uid:0".into(), by: Channel::UnixSocket }, domain, "a test").await.unwrap();
        assert!(ask(ca, workload()).await.is_err(), "it is frozen");
        assert!(ca.publish().await.is_empty());
        let now = undercroft_log::Clock::now(&*rig.clock);
        assert_eq!(answered(ca, serial), Some(now + jiff::SignedDuration::from_hours(1)));
    });
    told.unwrap();
}
