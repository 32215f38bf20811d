use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};

use super::*;

const HSM: [u64; 9] = [1, 3, 6, 1, 4, 1, 41482, 4, 3];

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn pair() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    [&[0x03, bytes.len() as u8 + 1, 0x00], bytes].concat()
}

fn with(last: [u64; 2], content: Vec<u8>) -> CustomExtension {
    let oid = [&HSM[..7], &last[..]].concat();
    CustomExtension::from_oid_content(&oid, content)
}

/// What a YubiHSM 2 says of a key that was made in it and may sign.
fn of_hsm() -> Vec<CustomExtension> {
    let capabilities = bit_string(&0xe0u64.to_be_bytes());
    vec![with([4, 3], bit_string(&[0x01])), with([4, 5], capabilities)]
}

struct Token {
    root: (KeyPair, CertificateParams),
    device: (KeyPair, CertificateParams),
    key: KeyPair,
}

impl Token {
    fn new() -> Self {
        Self { root: (pair(), ca("Maker Root")), device: (pair(), ca("Device 4711")), key: pair() }
    }

    fn makers(&self) -> Anchors {
        let root = self.root.1.self_signed(&self.root.0).unwrap();
        Anchors::new(vec![Certificate::from_der(root.der()).unwrap()])
    }

    fn key(&self) -> PublicKey {
        PublicKey::from_spki(&self.key.subject_public_key_info()).unwrap()
    }

    /// The device's certificate, and the attestation with these extensions.
    fn shows(&self, extensions: Vec<CustomExtension>) -> Vec<Certificate> {
        let root = Issuer::from_params(&self.root.1, &self.root.0);
        let device = self.device.1.signed_by(&self.device.0, &root).unwrap();
        let mut attestation = params("Attestation id 0x0001");
        attestation.custom_extensions = extensions;
        let issuer = Issuer::from_params(&self.device.1, &self.device.0);
        let attestation = attestation.signed_by(&self.key, &issuer).unwrap();
        [device, attestation].iter().map(|made| Certificate::from_der(made.der()).unwrap()).collect()
    }

    fn judged(&self, extensions: Vec<CustomExtension>) -> Result<String, String> {
        judge(&self.shows(extensions), &self.key(), &self.makers(), now())
    }
}

#[test]
fn a_key_that_was_made_in_the_token_is_attested_to() {
    let token = Token::new();
    let proven = token.judged(of_hsm()).unwrap();
    assert!(proven.contains("Maker Root") && proven.contains("Attestation id 0x0001"), "{proven}");
    // A YubiKey says its firmware, and attests to nothing that was imported.
    token.judged(vec![with([3, 3], vec![0x04, 0x03, 5, 4, 3])]).unwrap();
}

#[test]
fn what_is_said_of_the_key_must_be_that_it_stays() {
    let token = Token::new();
    let refusal = |origin: &[u8], capabilities: Option<Vec<u8>>| {
        let mut extensions = vec![with([4, 3], bit_string(origin))];
        extensions.extend(capabilities.map(|content| with([4, 5], content)));
        token.judged(extensions).unwrap_err()
    };
    let signs = || Some(bit_string(&0xe0u64.to_be_bytes()));
    for origin in [&[0x02][..], &[0x03], &[0x10], &[0x11], &[0x00], &[], &[0x01, 0x00]] {
        assert!(refusal(origin, signs()).contains("not made in"), "{origin:?}");
    }
    assert!(refusal(&[0x01], None).contains("what the key may do"));
    assert!(refusal(&[0x01], Some(bit_string(&[0xe0]))).contains("eight bytes"));
    assert!(refusal(&[0x01], Some(vec![0x04, 0x01, 0xe0])).contains("no BIT STRING"));
    for capabilities in [(0x1_00e0u64).to_be_bytes(), (0x1_00e0u64).to_le_bytes()] {
        assert!(refusal(&[0x01], Some(bit_string(&capabilities))).contains("exported"));
    }
}

#[test]
fn only_an_attestation_of_this_key_by_a_maker_who_is_believed_proves_it() {
    let (token, other) = (Token::new(), Token::new());
    let shown = token.shows(of_hsm());
    let judged = |shown: &[Certificate], key: &PublicKey, makers: &Anchors, at: Timestamp| {
        judge(shown, key, makers, at).unwrap_err()
    };
    assert!(judged(&shown, &other.key(), &token.makers(), now()).contains("no vendor attestation"));
    assert!(judged(&shown, &token.key(), &other.makers(), now()).contains("proves nothing"));
    assert!(judged(&shown, &token.key(), &Anchors::default(), now()).contains("proves nothing"));
    // Without the device's certificate nothing leads anywhere, and an ordinary certificate of the key attests to nothing.
    assert!(judged(&shown[1..], &token.key(), &token.makers(), now()).contains("proves nothing"));
    assert!(
        judged(&token.shows(vec![]), &token.key(), &token.makers(), now()).contains("no vendor attestation")
    );
    let early = "1970-01-01T00:00:00Z".parse().unwrap();
    assert!(judged(&shown, &token.key(), &token.makers(), early).contains("proves nothing"));
    let many = vec![shown[0].clone(); MOST + 1];
    assert!(judged(&many, &token.key(), &token.makers(), now()).contains("more than 16"));
    // Two extensions of one kind are none.
    let twice = [of_hsm(), of_hsm()].concat();
    assert!(token.judged(twice).is_err());
}

#[test]
fn a_device_that_is_no_ca_attests_to_nothing() {
    let mut token = Token::new();
    token.device.1 = params("Device 4711");
    assert!(token.judged(of_hsm()).unwrap_err().contains("not one of a CA"));
}

/// The whole evidence of a PKCS#11 token whose module calls itself so.
fn graded(token: &Token, module: &str, makers: Anchors) -> crate::custody::Custody {
    let certificates: Vec<_> = token.shows(of_hsm()).iter().map(|shown| hex::encode(shown.der())).collect();
    let evidence = serde_json::json!({
        "module": {"manufacturer": module, "description": "PKCS#11", "version": "2.7"},
        "token": {"label": "ca", "manufacturer": module, "model": "HSM", "serial": "4711", "hardware": "2.4", "firmware": "2.4"},
        "key": {
            "label": "ca", "id": "01", "spki": hex::encode(token.key().spki()), "sensitive": true,
            "always_sensitive": true, "extractable": false, "never_extractable": true, "local": true,
        },
        "certificates": certificates,
    });
    let trust = crate::trust::Trust { endorsement: makers, ..crate::trust::Trust::default() };
    crate::custody::judge(
        "pkcs11-attributes-v1",
        evidence.to_string().as_bytes(),
        &token.key(),
        &trust,
        now(),
    )
}

#[test]
fn evidence_with_an_attestation_is_proven_to_who_believes_the_maker_and_never_for_software() {
    use crate::custody::Grade;
    let token = Token::new();
    assert_eq!(graded(&token, "Yubico (www.yubico.com)", token.makers()).grade, Grade::Proven);
    let nobody = graded(&token, "Yubico (www.yubico.com)", Anchors::default());
    assert_eq!(nobody.grade, Grade::Declared);
    assert!(nobody.findings.iter().any(|finding| finding.contains("proves nothing")), "{nobody:?}");
    assert_eq!(graded(&token, "SoftHSM", token.makers()).grade, Grade::Software);
}
