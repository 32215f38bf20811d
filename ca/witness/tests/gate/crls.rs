//! CRLs before a gate.

use undercroft_ca::tbs::RevocationReason::RemoveFromCrl;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::{Channel, Object};

use crate::site::{ALICE, Crl, Site, ask};

/// What a gate says of a CRL that was changed, or whose bytes were.
fn said_of(change: impl FnOnce(&mut Crl), bytes: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let mut site = Site::new();
    let mut crl = site.crl();
    change(&mut crl);
    let index = site.log_crl(&crl, bytes);
    let gate = site.gate();
    site.show(&gate, 0);
    ask(&gate, &site.log.application(index, site.log.size()))
}

#[test]
fn crls_of_now_pass_and_their_deltas() {
    let deltas = |crl: &mut Crl| crl.freshest = Some(crl.issuer.urls.crl.delta());
    assert_eq!(said_of(|_| {}, |tbs| tbs), "ok");
    assert_eq!(said_of(|crl| crl.revoked.clear(), |tbs| tbs), "ok");
    assert_eq!(said_of(deltas, |tbs| tbs), "ok");
    assert_eq!(said_of(|crl| crl.shard = Some(crl.issuer.urls.shard(1)), |tbs| tbs), "ok");
    assert_eq!(said_of(|crl| crl.period = (0, 7 * 24 * 3600), |tbs| tbs), "ok");
    let delta = |crl: &mut Crl| {
        crl.delta_of = Some(7);
        crl.revoked = vec![(1, 0, Some(RemoveFromCrl))];
    };
    assert_eq!(said_of(delta, |tbs| tbs), "ok");
}

#[test]
fn forged_crls_are_refused_by_name() {
    /// A name, the rule, and what is changed.
    type Case = (&'static str, &'static str, fn(&mut Crl));
    let cases: &[Case] = &[
        ("called a certificate", "unreadable", |it| it.intent.object = Object::Certificate),
        ("called a batch of responses", "object", |it| it.intent.object = Object::OcspResponses),
        ("of another domain", "domain", |it| it.intent.domain = "other.example".into()),
        ("of another algorithm", "algorithm", |it| {
            it.intent.algorithm = KeyAlgorithm::EcdsaP384.signature_algorithm();
        }),
        ("asked for by a caller", "caller-unknown", |it| it.intent.caller.by = Channel::Mtls),
        ("by somebody else's daemon", "caller-unknown", |it| it.intent.caller.id = ALICE.into()),
        ("of a profile", "profile", |it| it.intent.profile = "svid".into()),
        ("of the future", "not-from-now", |it| it.period = (1, 3600)),
        ("of the past", "not-from-now", |it| it.period = (-601, 3600)),
        ("good for too long", "lifetime-over-cap", |it| it.period = (0, 7 * 24 * 3600 + 1)),
        ("a number far ahead", "crl-number", |it| it.number = 601),
        ("a number far behind", "crl-number", |it| it.number = -601),
        ("a delta of something newer", "crl-number", |it| it.delta_of = Some(u64::from(u32::MAX))),
        ("a certificate twice", "crl-entry", |it| it.revoked = vec![(1, 0, None), (1, 0, None)]),
        ("out of order", "crl-entry", |it| it.revoked.reverse()),
        ("revoked in the future", "crl-entry", |it| it.revoked[0].1 = 1),
        ("a release in a complete CRL", "crl-entry", |it| it.revoked[0].2 = Some(RemoveFromCrl)),
        ("a shard that there is not", "crl-scope", |it| it.shard = Some(it.issuer.urls.shard(2))),
        ("a shard of another authority", "crl-scope", |it| {
            it.shard = Some("http://pki.example/i2-0.crl".parse().unwrap());
        }),
        ("another issuer's key", "not-what-was-granted", |it| it.issuer.key_identifier = vec![0x43; 20]),
        ("deltas elsewhere", "not-what-was-granted", |it| {
            it.freshest = Some("http://thief.example/i1-delta.crl".parse().unwrap());
        }),
        ("a delta that has deltas", "not-what-was-granted", |it| {
            it.delta_of = Some(7);
            it.freshest = Some(it.issuer.urls.crl.delta());
        }),
    ];
    for (name, rule, change) in cases {
        assert_eq!(said_of(change, |tbs| tbs), *rule, "{name}");
    }
    assert_eq!(said_of(|_| {}, |tbs| [tbs, vec![5, 0]].concat()), "unreadable");
    assert_eq!(said_of(|_| {}, |_| vec![0x30, 0]), "unreadable");
}

/// Certificates, however many are asked for, do not use up the rate of CRLs, nor witnesses that are away their way.
#[test]
fn crls_have_a_rate_of_their_own_and_wait_for_no_witness() {
    let mut site = Site::new();
    (site.rate, site.is_witnessed) = (0, true);
    let crl = site.crl();
    let crls: Vec<_> = (0..3).map(|_| site.log_crl(&crl, |tbs| tbs)).collect();
    let svid = site.log_svid();
    let gate = site.gate();
    site.show(&gate, 0);
    let said = |index| ask(&gate, &site.log.application(index, site.log.size()));
    assert_eq!(said(svid), "not-witnessed");
    assert_eq!([said(crls[0]), said(crls[1])], ["ok", "ok"]);
    assert_eq!(said(crls[0]), "used");
    assert_eq!(said(crls[2]), "rate");
}
