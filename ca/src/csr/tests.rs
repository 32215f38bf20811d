use proptest::prelude::*;
use rcgen::{CertificateParams, CustomExtension, IsCa, KeyPair, SanType};

use super::*;

fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn wishes_are_read() {
    let der = request(|params| {
        params.subject_alt_names = vec![
            uri("spiffe://prod.example/ns/a"),
            SanType::DnsName("a.prod.example".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
        ];
        params.distinguished_name.push(rcgen::DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])];
    });
    let csr = Csr::from_der(&der).unwrap();
    assert_eq!(csr.digest(), Digest::of(&der));
    let wishes = csr.wishes();
    assert_eq!(wishes.uris, ["spiffe://prod.example/ns/a"]);
    assert_eq!(wishes.dns_names, ["a.prod.example"]);
    for wish in ["subject CN=root", "an IP address", "extension 1.2.3"] {
        assert!(wishes.others.iter().any(|other| other == wish), "{wish}: {:?}", wishes.others);
    }
}

/// In JSON each would be six bytes, and an entry of the log holds 65,535.
#[test]
fn control_characters_in_names_are_refused() {
    for name in [
        uri("spiffe://prod.example/\u{1}"),
        SanType::DnsName("a\n.example".try_into().unwrap()),
        SanType::Rfc822Name("a\u{7f}@example".try_into().unwrap()),
    ] {
        let der = request(|params| params.subject_alt_names = vec![name]);
        assert_eq!(Csr::from_der(&der).unwrap_err(), CsrError::ControlCharacter);
    }
}

#[test]
fn a_request_with_nothing_but_a_key_is_fine() {
    let csr = Csr::from_der(&request(|_| {})).unwrap();
    assert_eq!(csr.wishes(), &Wishes::default());
}

/// `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -subj /` of OpenSSL 3.0: SHA-256 all the same.
const OPENSSL_P384: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
MIH4MH8CAQAwADB2MBAGByqGSM49AgEGBSuBBAAiA2IABHp42jNOmw13CjuGVeB7\n\
1MJ98TVbALHNyhBX4QLiDAVBRZONaBi7nZYKuJweh9qokriA9vpLMkfHtREzoacw\n\
Gpid+dE0Wn4smH7WYF4b8OPqco8tliS3NeWXSqaUIkyYbaAAMAoGCCqGSM49BAMC\n\
A2kAMGYCMQCryiLXC1mPp0RlczkyTNMCO3r+YW3RWaIFT5jL2JnrczFheAuXv6Cu\n\
km8/qDPsU3QCMQD4Etdv7SkI6xG6vTjF+NTEtNn/TpxUtVdKNQwzDJLUHu0ncWyU\n\
iZmNZ8T1LZpTg3g=\n\
-----END CERTIFICATE REQUEST-----\n";

#[test]
fn digests_that_other_programs_choose_are_fine() {
    assert_eq!(Csr::from_pem(OPENSSL_P384).unwrap().public_key().key_type(), undercroft_keys::KeyType::P384);
}

#[test]
fn a_broken_signature_is_refused() {
    let mut der = request(|_| {});
    let last = der.len() - 1;
    der[last] ^= 1;
    assert_eq!(Csr::from_der(&der).unwrap_err(), CsrError::Signature);
    // Another key's request with this key put in: nobody proved to hold it.
    let (honest, other) = (request(|_| {}), request(|_| {}));
    let key =
        |der: &[u8]| x509_cert::request::CertReq::from_der(der).unwrap().info.public_key.to_der().unwrap();
    let (from, to) = (key(&honest), key(&other));
    let at = honest.windows(from.len()).position(|window| window == from).unwrap();
    let mut forged = honest.clone();
    forged[at..at + to.len()].copy_from_slice(&to);
    assert_eq!(Csr::from_der(&forged).unwrap_err(), CsrError::Signature);
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let der = request(|_| {});
    let mut trailing = der.clone();
    trailing.push(0);
    assert!(matches!(Csr::from_der(&trailing), Err(CsrError::Der(_))));
    assert!(matches!(Csr::from_der(&der[..der.len() - 1]), Err(CsrError::Der(_))));
    assert!(matches!(Csr::from_der(&[]), Err(CsrError::Der(_))));
    assert_eq!(Csr::from_der(&vec![0x30; MAX_CSR + 1]).unwrap_err(), CsrError::TooLong(MAX_CSR + 1));
    let many = request(|params| {
        params.subject_alt_names = (0..101).map(|n| uri(&format!("spiffe://a/{n}"))).collect();
    });
    assert_eq!(Csr::from_der(&many).unwrap_err(), CsrError::TooMany);
}

#[test]
fn keys_and_algorithms_that_are_not_ours_are_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let der = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    assert!(matches!(Csr::from_der(&der).unwrap_err(), CsrError::Key(_)));
    // ecdsa-with-SHA224 in the place of ecdsa-with-SHA256.
    let mut der = request(|_| {});
    let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let at = der.windows(8).position(|bytes| bytes == sha256).unwrap();
    der[at + 7] = 0x01;
    assert_eq!(Csr::from_der(&der).unwrap_err(), CsrError::Algorithm);
}

#[test]
fn requests_for_keys_in_tokens_read_back() {
    use hsm_sim::software::SoftwareKey;
    for algorithm in ["ecdsa-p256", "ecdsa-p384", "rsa-2048-pss", "rsa-2048-pkcs1", "ed25519"] {
        let key = SoftwareKey::generate(algorithm.parse().unwrap()).unwrap();
        let der = futures::executor::block_on(request_for(&key)).unwrap();
        let csr = Csr::from_der(&der).unwrap();
        assert_eq!(csr.public_key(), key.public_key());
        assert_eq!(csr.wishes(), &Wishes::default());
    }
}

#[test]
fn pem_is_read_strictly() {
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    Csr::from_pem(&pem).unwrap();
    assert_eq!(Csr::from_pem(&format!("{pem}{pem}")).unwrap_err(), CsrError::Count(2));
    assert!(matches!(Csr::from_pem(""), Err(CsrError::Pem(CertificateError::Count(0)))));
    assert!(matches!(Csr::from_pem("hello"), Err(CsrError::Pem(CertificateError::Pem(_)))));
    let label = pem.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    assert!(matches!(Csr::from_pem(&label), Err(CsrError::Pem(CertificateError::Label { .. }))));
    let garbage = pem.replacen('M', "!", 1);
    assert!(Csr::from_pem(&garbage).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Csr::from_der(&bytes);
        let _ = Csr::from_pem(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_changed_byte_is_refused(index in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut der = request(|params| params.subject_alt_names = vec![uri("spiffe://prod.example/a")]);
        let at = index.index(der.len());
        der[at] ^= 1 << bit;
        prop_assert!(Csr::from_der(&der).is_err());
    }
}
