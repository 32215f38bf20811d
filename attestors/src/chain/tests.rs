use std::process::Command;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use der::asn1::BitString;
use rcgen::{BasicConstraints as Basic, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::crl::{Crl, MAX_CRL};
use super::*;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = match is_ca {
        IsCa::Ca(_) => vec![KeyUsagePurpose::KeyCertSign],
        _ => Vec::new(),
    };
    params.is_ca = is_ca;
    params
}

/// A root, and below it so many others, the last of which is no CA. Each CA has its path length.
fn chain(lengths: &[Option<u8>]) -> Vec<Certificate> {
    let mut issuer: Option<(CertificateParams, KeyPair)> = None;
    let mut made = Vec::new();
    for (number, length) in lengths.iter().map(Some).chain([None]).enumerate() {
        let is_ca = match length {
            Some(Some(length)) => IsCa::Ca(Basic::Constrained(*length)),
            Some(None) => IsCa::Ca(Basic::Unconstrained),
            None => IsCa::ExplicitNoCa,
        };
        let (own, key) = (params(&format!("number {number}"), is_ca), KeyPair::generate().unwrap());
        let certificate = match &issuer {
            None => own.self_signed(&key),
            Some((above, signs)) => own.signed_by(&key, &Issuer::from_params(above, signs)),
        };
        made.push(Certificate::from_der(certificate.unwrap().der()).unwrap());
        issuer = Some((own, key));
    }
    made
}

fn climbs(chain: &[Certificate]) -> Result<usize, ChainError> {
    let (leaf, rest) = chain.split_last().unwrap();
    let anchors = Anchors::new(vec![rest[0].clone()]);
    let (anchor, path) = leaf.path(&rest[1..], &anchors, now())?;
    assert_eq!((anchor, path.last()), (&rest[0], Some(&rest[0])));
    let issuers: Vec<_> = rest.iter().rev().cloned().collect();
    assert_eq!(path, issuers, "the nearest first");
    Ok(path.len())
}

#[test]
fn a_path_length_counts_the_authorities_below() {
    for (lengths, expected) in [
        (&[None, None, None][..], Ok(3)),
        (&[Some(2), Some(1), Some(0)], Ok(3)),
        (&[Some(1), Some(1), Some(0)], Err("number 0")),
        (&[Some(2), Some(0), Some(0)], Err("number 1")),
        (&[Some(0)], Ok(1)),
        (&[Some(0), None], Err("number 0")),
        (&[Some(4), Some(3), Some(2), Some(1), Some(0)], Ok(5)),
        (&[Some(3), Some(3), Some(2), Some(1), Some(0)], Err("number 0")),
    ] {
        match (climbs(&chain(lengths)), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{lengths:?}"),
            (Err(ChainError::NoAuthority(subject, why)), Err(name)) => {
                assert_eq!((subject, why.as_str()), (format!("CN={name}"), "its path length is exceeded"));
            }
            (got, _) => panic!("{lengths:?}: {got:?}"),
        }
    }
    assert_eq!(climbs(&chain(&[None; 6])), Err(ChainError::TooLong(5)));
}

#[test]
fn a_certificate_is_its_bytes() {
    let chain = chain(&[None, None]);
    assert_ne!(chain[0], chain[1]);
    assert_eq!(chain[1], Certificate::from_der(chain[1].der()).unwrap());
    assert_eq!(chain[1].issuer_der(), chain[0].fields().subject().to_der().unwrap());
    assert_eq!(chain[0].digest().as_slice(), Sha256::digest(chain[0].der()).as_slice());
    assert_eq!(format!("{:?}", chain[0]), "Certificate(CN=number 0)");
    let (none, two) = (Anchors::default(), Anchors::new(chain[..2].to_vec()));
    assert_eq!((none.is_empty(), none.len(), two.is_empty(), two.len()), (true, 0, false, 2));
    for anchor in &chain[..2] {
        assert_eq!(two.with_digest(&anchor.digest()), Some(anchor));
    }
    assert_eq!(two.with_digest(&chain[2].digest()), None);
}

/// The same to-be-signed bytes, said to be signed by another algorithm, and signed by it.
fn signed_again(
    der: &[u8],
    old: ObjectIdentifier,
    new: ObjectIdentifier,
    sign: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let outer = SignedRef::from_der(der).unwrap();
    let (old, new) = (old.to_der().unwrap(), new.to_der().unwrap());
    let mut tbs = outer.tbs.to_der().unwrap();
    let place = tbs.windows(old.len()).position(|some| some == old).unwrap();
    tbs[place..place + old.len()].copy_from_slice(&new);
    let algorithm = spki::AlgorithmIdentifierRef {
        oid: ObjectIdentifier::from_der(&new).unwrap(),
        parameters: outer.algorithm.parameters,
    };
    let signature = BitString::from_bytes(&sign(&tbs)).unwrap();
    let parts = [tbs.clone(), algorithm.to_der().unwrap(), signature.to_der().unwrap()].concat();
    let length = (parts.len() as u16).to_be_bytes();
    [&[0x30, 0x82][..], &length, &parts].concat()
}

/// Manufacturers sign with each of these; what they do not sign with is in no list, so that it is refused.
#[test]
fn each_algorithm_of_makers_verifies_and_no_other_takes_its_place() {
    use const_oid::db::rfc5912::{ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512};
    let judged = |der: &[u8], root: &Certificate| {
        let leaf = Certificate::from_der(der).unwrap();
        leaf.verify(&[], &Anchors::new(vec![root.clone()]), now()).map(|_| ())
    };
    let folder = tempfile::tempdir().unwrap();
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let (root, key) =
            (params("root", IsCa::Ca(Basic::Unconstrained)), KeyPair::generate_for(kind).unwrap());
        let anchor = Certificate::from_der(root.self_signed(&key).unwrap().der()).unwrap();
        let leaf = params("leaf", IsCa::ExplicitNoCa);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&root, &key)).unwrap();
        let own =
            if kind == &rcgen::PKCS_ECDSA_P256_SHA256 { ECDSA_WITH_SHA_256 } else { ECDSA_WITH_SHA_384 };
        // The library signs with one hash a curve alone.
        let file = folder.path().join("key");
        std::fs::write(&file, key.serialize_pem()).unwrap();
        let sign = |hash: &str, message: &[u8]| {
            let covered = folder.path().join("message");
            std::fs::write(&covered, message).unwrap();
            let words = ["dgst", hash, "-sign"];
            let ran = Command::new("openssl").args(words).arg(&file).arg(&covered).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            ran.stdout
        };
        for (oid, algorithm, other) in
            [(ECDSA_WITH_SHA_256, "-sha256", "-sha384"), (ECDSA_WITH_SHA_384, "-sha384", "-sha256")]
        {
            let good = signed_again(leaf.der(), own, oid, &|message| sign(algorithm, message));
            assert_eq!(judged(&good, &anchor), Ok(()), "{oid}");
            let bad = signed_again(leaf.der(), own, oid, &|message| sign(other, message));
            assert!(matches!(judged(&bad, &anchor), Err(ChainError::Signature(..))), "{oid}");
        }
        let unknown = signed_again(leaf.der(), own, ECDSA_WITH_SHA_512, &|message| sign("-sha512", message));
        assert!(matches!(judged(&unknown, &anchor), Err(ChainError::Algorithm(..))));
    }
    let pkcs8 = aws_lc_rs::encoding::AsDer::as_der(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'static> = pkcs8.unwrap();
    for kind in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384, &rcgen::PKCS_RSA_SHA512] {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_ref().to_vec().into(), kind).unwrap();
        let root = params("root", IsCa::Ca(Basic::Unconstrained)).self_signed(&key).unwrap();
        let root = Certificate::from_der(root.der()).unwrap();
        assert_eq!(root.is_issued_by(&root), Ok(()), "{kind:?}");
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let root = params("root", IsCa::Ca(Basic::Unconstrained)).self_signed(&key).unwrap();
    let root = Certificate::from_der(root.der()).unwrap();
    assert_eq!(root.is_issued_by(&root), Ok(()));
}

#[test]
fn limits_are_where_they_are_said_to_be() {
    assert_eq!((MAX_CERTIFICATE, MAX_CRL, MAX_INTERMEDIATES), (16_384, 4_194_304, 4));
    let said = |error: ChainError| error.to_string();
    let certificate = |length| said(Certificate::from_der(&vec![0x30; length]).unwrap_err());
    assert!(certificate(16_385).contains("more than") && !certificate(16_384).contains("more than"));
    let list = |length| said(Crl::from_der(&vec![0x30; length]).unwrap_err());
    assert!(list(4_194_305).contains("more than") && !list(4_194_304).contains("more than"));
    // Both ends of a validity are in it (RFC 5280 section 4.1.2.5).
    let mut limited = params("limited", IsCa::Ca(Basic::Unconstrained));
    limited.not_before = rcgen::date_time_ymd(2026, 1, 1);
    limited.not_after = rcgen::date_time_ymd(2026, 12, 1);
    let limited = limited.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let limited = Certificate::from_der(limited.der()).unwrap();
    for (at, valid) in [
        ("2025-12-31T23:59:59Z", false),
        ("2026-01-01T00:00:00Z", true),
        ("2026-12-01T00:00:00Z", true),
        ("2026-12-01T00:00:01Z", false),
    ] {
        assert_eq!(limited.is_valid(at.parse().unwrap()).is_ok(), valid, "{at}");
    }
}
