//! CRLs that are given as data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use undercroft_attestors::chain::crl::Crl;
use undercroft_attestors::chain::{Certificate, ChainError};

struct Ca {
    key: KeyPair,
    params: CertificateParams,
}

impl Ca {
    fn new(usages: &[KeyUsagePurpose]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Maker");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = usages.to_vec();
        Self { key: KeyPair::generate().unwrap(), params }
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_der(self.params.self_signed(&self.key).unwrap().der()).unwrap()
    }

    fn leaf(&self, serial: &[u8]) -> Certificate {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let issuer = Issuer::from_params(&self.params, &self.key);
        Certificate::from_der(params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der())
            .unwrap()
    }

    fn list(&self, change: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[7, 7]),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 12, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        let mut may_sign = self.params.clone();
        may_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
        params.signed_by(&Issuer::from_params(&may_sign, &self.key)).unwrap().der().to_vec()
    }
}

const BOTH: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

#[test]
fn who_is_on_a_fresh_list_of_the_issuer_is_revoked() {
    let ca = Ca::new(&BOTH);
    let issuer = ca.certificate();
    let list = ca.list(|_| {});
    let check = |list: &[u8], serial: &[u8], at: &str| {
        Crl::from_der(list)?.check(&ca.leaf(serial), &issuer, at.parse().unwrap())
    };
    let now = "2026-11-22T12:00:00Z";
    assert_eq!(check(&list, &[7, 8], now), Ok(()));
    assert!(matches!(check(&list, &[7, 7], now), Err(ChainError::Revoked(..))));
    for at in ["2026-12-01T00:00:01Z", "2025-12-31T23:59:59Z"] {
        assert!(matches!(check(&list, &[7, 8], at), Err(ChainError::StaleCrl(..))), "{at}");
    }
    // The first and the last moment are in it.
    for at in ["2026-01-01T00:00:00Z", "2026-12-01T00:00:00Z"] {
        assert_eq!(check(&list, &[7, 8], at), Ok(()), "{at}");
    }
    let list = Crl::from_der(&list).unwrap();
    assert!(list.claims(&issuer) && !list.claims(&ca.leaf(&[7, 8])));
}

#[test]
fn lists_that_are_not_taken() {
    let (ca, other) = (Ca::new(&BOTH), Ca::new(&BOTH));
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let leaf = ca.leaf(&[7, 8]);
    let check = |list: &[u8], issuer: &Certificate| Crl::from_der(list)?.check(&leaf, issuer, now);
    let list = ca.list(|_| {});
    // Of another CA of the same name.
    assert!(matches!(check(&other.list(|_| {}), &ca.certificate()), Err(ChainError::Signature(..))));
    for at in 0..list.len() {
        let mut changed = list.clone();
        changed[at] ^= 1;
        assert!(check(&changed, &ca.certificate()).is_err(), "byte {at}");
    }
    assert!(check(&[&list[..], &[0]].concat(), &ca.certificate()).is_err());
    assert!(check(&list[..list.len() - 1], &ca.certificate()).is_err());
    let mut sealed = Ca::new(&[KeyUsagePurpose::KeyCertSign]);
    sealed.key = ca.key;
    assert!(matches!(check(&list, &sealed.certificate()), Err(ChainError::Crl(..))));
    // One of some certificates alone: the distribution point is critical.
    let point = CrlDistributionPoint { uris: vec!["http://maker.example/crl".into()] };
    let point = CrlIssuingDistributionPoint { distribution_point: point, scope: None };
    let partial = other.list(|params| params.issuing_distribution_point = Some(point));
    assert!(matches!(Crl::from_der(&partial), Err(ChainError::Crl(..))));
}
