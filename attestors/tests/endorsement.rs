//! Endorsement certificates of a manufacturer of our own, honest and with one thing changed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_keys::{KeyType, PublicKey};
use undercroft_tpm_wire::endorsement::EndorsementKind;
use undercroft_tpm_wire::{PublicArea, PublicKind};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn der_name(parts: &[(&[u8], &str)]) -> Vec<u8> {
    let tlv = |tag: u8, content: &[u8]| [&[tag, content.len() as u8][..], content].concat();
    let sets = parts.iter().map(|(oid, value)| {
        let attribute = [tlv(0x06, oid), tlv(0x0c, value.as_bytes())].concat();
        tlv(0x31, &tlv(0x30, &attribute))
    });
    let name = tlv(0x30, &sets.collect::<Vec<_>>().concat());
    tlv(0x30, &tlv(0xa4, &name))
}

const MANUFACTURER: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x01];
const MODEL: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x02];
const VERSION: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x03];

fn tpm_names() -> Vec<u8> {
    der_name(&[(MANUFACTURER, "id:55434654"), (MODEL, "test"), (VERSION, "id:1")])
}

fn extension(oid: &[u64], content: Vec<u8>, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

const SAN_OID: &[u64] = &[2, 5, 29, 17];

struct Maker {
    root: KeyPair,
    root_params: CertificateParams,
    intermediate: KeyPair,
    intermediate_params: CertificateParams,
    key: KeyPair,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// What the certificate of a P-256 endorsement key has.
fn honest() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    params.custom_extensions = vec![extension(SAN_OID, tpm_names(), true)];
    params
}

impl Maker {
    fn new() -> Self {
        let key = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            root: key(),
            root_params: ca("Maker Root"),
            intermediate: key(),
            intermediate_params: ca("Maker Intermediate"),
            key: key(),
        }
    }

    fn root_der(&self) -> Vec<u8> {
        self.root_params.self_signed(&self.root).unwrap().der().to_vec()
    }

    fn intermediate_der(&self) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.root_params, &self.root);
        self.intermediate_params.signed_by(&self.intermediate, &issuer).unwrap().der().to_vec()
    }

    fn leaf(&self, params: &CertificateParams) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.intermediate_params, &self.intermediate);
        params.signed_by(&self.key, &issuer).unwrap().der().to_vec()
    }

    fn area(&self) -> PublicArea {
        let mut area = EndorsementKind::P256.template();
        let point = self.key.public_key_raw();
        if let PublicKind::Ecc(ecc) = &mut area.kind {
            (ecc.x, ecc.y) = (point[1..33].to_vec(), point[33..].to_vec());
        }
        assert_eq!(area.public_key(), PublicKey::from_ec_point(KeyType::P256, point));
        area
    }

    fn anchors(&self) -> Anchors {
        Anchors::new(vec![Certificate::from_der(&self.root_der()).unwrap()])
    }

    fn judge(&self, area: &PublicArea, chain: &[Vec<u8>], at: Timestamp) -> Result<String, String> {
        let read = Endorsement::read(&area.encode(), chain).map_err(|error| error.to_string())?;
        let endorsed = read.verify(&self.anchors(), at).map_err(|error| error.to_string())?;
        Ok(format!("{} / {}", endorsed.manufacturer, endorsed.model))
    }

    fn refusal(&self, params: &CertificateParams) -> String {
        self.judge(&self.area(), &[self.leaf(params), self.intermediate_der()], now()).unwrap_err()
    }
}

#[test]
fn an_honest_certificate_leads_to_its_maker() {
    let maker = Maker::new();
    let (leaf, intermediate) = (maker.leaf(&honest()), maker.intermediate_der());
    let said = maker.judge(&maker.area(), &[leaf.clone(), intermediate.clone()], now()).unwrap();
    assert_eq!(said, "CN=Maker Root / manufacturer id:55434654, model test, version id:1");
    // In whatever order, with more than is needed, and without purposes.
    let stranger = Maker::new().intermediate_der();
    maker.judge(&maker.area(), &[leaf, stranger, intermediate.clone()], now()).unwrap();
    let mut params = honest();
    params.extended_key_usages.clear();
    maker.judge(&maker.area(), &[maker.leaf(&params), intermediate], now()).unwrap();
}

#[test]
fn certificates_that_lead_nowhere() {
    let maker = Maker::new();
    let (leaf, intermediate) = (maker.leaf(&honest()), maker.intermediate_der());
    let refused =
        |chain: &[Vec<u8>], at: &str| maker.judge(&maker.area(), chain, at.parse().unwrap()).unwrap_err();
    let (noon, chain) = ("2026-11-22T12:00:00Z", [leaf.clone(), intermediate.clone()]);
    assert!(refused(&[], noon).contains("no certificate of an endorsement key"));
    assert!(
        refused(std::slice::from_ref(&leaf), noon).contains("neither an anchor nor among the intermediates")
    );
    assert!(refused(&chain, "1970-01-01T00:00:00Z").contains("not valid at"));
    assert!(refused(&chain, "9000-01-01T00:00:00Z").contains("not valid at"));
    // Another maker of the same names.
    let other = Maker::new();
    assert!(refused(&[leaf.clone(), other.intermediate_der()], noon).contains("is not by the key of"));
    assert!(refused(&[other.leaf(&honest()), intermediate.clone()], noon).contains("is not by the key of"));
    // Self-signed under the issuer's name.
    let mut own = honest();
    own.distinguished_name = maker.root_params.distinguished_name.clone();
    let own = own.self_signed(&maker.key).unwrap().der().to_vec();
    assert!(refused(&[own], noon).contains("is not by the key of"));
    // Changed, cut off, with more behind it, too long, too many.
    for at in [leaf.len() - 1, leaf.len() / 2] {
        let mut changed = leaf.clone();
        changed[at] ^= 1;
        assert!(maker.judge(&maker.area(), &[changed, intermediate.clone()], now()).is_err());
    }
    for broken in [&leaf[..leaf.len() - 1], &[&leaf[..], &[0]].concat(), &[], &[0x30, 0x80, 0, 0]] {
        let said = refused(&[broken.to_vec(), intermediate.clone()], noon);
        assert!(said.contains("malformed"), "{said}");
    }
    assert!(refused(&[vec![0x30; 20_000]], noon).contains("more than 16384"));
    let many: Vec<_> = std::iter::once(leaf).chain(vec![intermediate; 5]).collect();
    assert!(refused(&many, noon).contains("more than 4"));
}

#[test]
fn issuers_that_may_not_issue() {
    let mut maker = Maker::new();
    let sound = maker.intermediate_params.clone();
    let refusal = |maker: &Maker| maker.refusal(&honest());
    maker.intermediate_params.is_ca = IsCa::ExplicitNoCa;
    assert!(refusal(&maker).contains("it is not one of a CA"));
    maker.intermediate_params = sound.clone();
    maker.intermediate_params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert!(refusal(&maker).contains("its key may not sign certificates"));
    maker.intermediate_params = sound.clone();
    maker.intermediate_params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    assert!(refusal(&maker).contains("`CN=Maker Intermediate` is not valid at"));
    maker.intermediate_params = sound.clone();
    maker.intermediate_params.custom_extensions = vec![extension(&[1, 2, 3, 4], vec![5, 0], true)];
    assert!(refusal(&maker).contains("has the critical extension 1.2.3.4"));
    maker.intermediate_params = sound;
    maker.root_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert!(refusal(&maker).contains("its path length is exceeded"));
}

#[test]
fn certificates_of_something_else() {
    let maker = Maker::new();
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = honest();
        change(&mut params);
        maker.refusal(&params)
    };
    let san = |content: Vec<u8>| {
        with(&|params| params.custom_extensions = vec![extension(SAN_OID, content.clone(), true)])
    };
    for (said, expected) in [
        (with(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "the certificate of a CA"),
        (with(&|p| p.key_usages.clear()), "no key usage"),
        (
            with(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            "not keyEncipherment (RSA) or keyAgreement",
        ),
        (
            with(&|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::DigitalSignature]),
            "its key may sign",
        ),
        (
            // The certificates of attestation keys and of platforms have others.
            with(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])]),
            "not that of an endorsement key",
        ),
        (
            with(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "not that of an endorsement key",
        ),
        (with(&|p| p.custom_extensions.clear()), "no subjectAltName"),
        (
            with(&|p| p.custom_extensions.push(extension(&[1, 2, 3], vec![5, 0], true))),
            "critical extension 1.2.3",
        ),
        (san(vec![0x30, 5, 0x82, 3, b't', b'p', b'm']), "not exactly one directoryName"),
        (san(der_name(&[(MODEL, "test"), (VERSION, "id:1")])), "which manufacturer of TPM"),
        (san(der_name(&[(MANUFACTURER, "id:55434654"), (VERSION, "id:1")])), "which model of TPM"),
        (
            san(der_name(&[(MANUFACTURER, "a"), (MANUFACTURER, "b"), (MODEL, "test"), (VERSION, "id:1")])),
            "which manufacturer of TPM",
        ),
        (
            san(der_name(&[(MANUFACTURER, "a\nb"), (MODEL, "test"), (VERSION, "id:1")])),
            "which manufacturer of TPM",
        ),
        (san(vec![0x30, 0x80, 0, 0]), "malformed"),
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn public_areas_that_are_not_the_certified_key_in_its_template() {
    let maker = Maker::new();
    let chain = [maker.leaf(&honest()), maker.intermediate_der()];
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut area = maker.area().encode();
        change(&mut area);
        let read = Endorsement::read(&area, &chain).map_err(|error| error.to_string());
        read.and_then(|read| read.verify(&maker.anchors(), now()).map_err(|error| error.to_string()))
            .unwrap_err()
    };
    // TPMT_PUBLIC: type, nameAlg, attributes (0x000300b2), policy, AES-128-CFB, no scheme, curve, no KDF, x, y.
    for (said, expected) in [
        (with(&|area| area[5] = 0x02), "it is not restricted"),
        (with(&|area| area[5] = 0x01), "it is not decrypt"),
        (with(&|area| area[5] = 0x07), "it signs"),
        (with(&|area| area[7] = 0xb0), "it is not fixedTPM"),
        (with(&|area| area[7] = 0xa2), "it is not fixedParent"),
        (with(&|area| area[7] = 0x92), "it is not sensitiveDataOrigin"),
        (with(&|area| area[10] ^= 1), "its policy is none of the TCG's templates"),
        (with(&|area| area[45] = 0xc0), "protects with no AES-128 or AES-256"),
        (with(&|area| area[47] = 0x42), "TPMT_SYM_DEF_OBJECT"),
        (with(&|area| area[3] = 0x04), "TPMT_PUBLIC.nameAlg"),
        (with(&|area| area.push(0)), "follow the end"),
        (with(&|area| *area = EndorsementKind::P256.template().encode()), "unsound"),
        (with(&|area| *area = Maker::new().area().encode()), "of another key"),
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
