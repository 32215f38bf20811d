//! An attestation key in software signs here what no TPM would say; `keymgr/tpm` has attestations of swtpm verified.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use undercroft_keys::KeyType;
use undercroft_tpm_wire::{
    Curve, EccParameters, HashAlgorithm, Hierarchy, PublicKind, Scheme, Signature, Symmetric,
};

use super::*;

const HELD: u32 = 0x0004_0072;
const RESTRICTED: u32 = HELD | 0x0001_0000;

struct Soft(EcdsaKeyPair);

impl Soft {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn area(&self, attributes: u32) -> PublicArea {
        let point = self.0.public_key().as_ref();
        let (x, y) = (point[1..33].to_vec(), point[33..].to_vec());
        let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
        let area = PublicArea {
            name_algorithm: HashAlgorithm::Sha256,
            attributes: PublicArea::parse(include_bytes!("../../../../fuzz/corpus/tpm_public/swtpm-p256"))
                .unwrap()
                .attributes,
            auth_policy: Vec::new(),
            kind: PublicKind::Ecc(EccParameters {
                symmetric: Symmetric::None,
                scheme,
                curve: Curve::P256,
                x,
                y,
            }),
        };
        let key = undercroft_keys::PublicKey::from_ec_point(KeyType::P256, point);
        assert_eq!(area.public_key(), key);
        // TPMA_OBJECT stands behind type and nameAlg.
        let mut bytes = area.encode();
        bytes[4..8].copy_from_slice(&attributes.to_be_bytes());
        PublicArea::parse(&bytes).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let der = self.0.sign(&SystemRandom::new(), message).unwrap();
        let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
        Signature::from_x509(scheme, Some(Curve::P256), der.as_ref()).unwrap().encode()
    }
}

const CHALLENGE: [u8; 32] = [7; 32];

fn attest(signer: &PublicArea, attested: Attested) -> Attest {
    Attest {
        signer: signer.qualified_in(Hierarchy::Endorsement),
        qualifying: qualifying(&CHALLENGE).to_vec(),
        clock: 1,
        resets: 1,
        restarts: 0,
        safe: true,
        firmware: 1,
        attested,
    }
}

fn certified(area: &PublicArea) -> Attested {
    Attested::Certify { name: area.name(), qualified: area.qualified_in(Hierarchy::Owner) }
}

#[test]
fn each_rule_of_custody_refuses_what_breaks_it_alone() {
    let (signer, key, other) = (Soft::new(), Soft::new(), Soft::new());
    let (ak, area) = (signer.area(RESTRICTED), key.area(HELD));
    let judge = |ak: &PublicArea, area: &PublicArea, change: &dyn Fn(&mut Attest)| {
        let mut said = attest(ak, certified(area));
        change(&mut said);
        let said = said.encode();
        verify(ak, area, &CHALLENGE, &said, &signer.sign(&said))
    };
    assert_eq!(judge(&ak, &area, &|_| {}), Ok(()));
    let wrong = |change: &dyn Fn(&mut Attest)| judge(&ak, &area, change).unwrap_err();
    assert_eq!(wrong(&|said| said.qualifying = qualifying(&[8; 32]).to_vec()), CertifyError::Qualifying);
    assert_eq!(wrong(&|said| said.qualifying.truncate(16)), CertifyError::Qualifying);
    assert_eq!(wrong(&|said| said.attested = certified(&other.area(HELD))), CertifyError::Name);
    let born = Attested::Creation { name: area.name(), digest: vec![0; 32] };
    assert_eq!(wrong(&|said| said.attested = born.clone()), CertifyError::Kind);
    // Signed by another key, and something that is none.
    let said = attest(&ak, certified(&area)).encode();
    let refused =
        |said: &[u8], signature: &[u8]| verify(&ak, &area, &CHALLENGE, said, signature).unwrap_err();
    assert_eq!(refused(&said, &other.sign(&said)), AttestationKeyError::DoesNotVerify.into());
    assert!(matches!(refused(b"said", &signer.sign(b"said")), CertifyError::Attest(_)));
    // An attestation key that could sign anything.
    assert_eq!(
        judge(&signer.area(HELD), &area, &|_| {}),
        Err(AttestationKeyError::Lacks("restricted").into())
    );
    for (bit, name) in
        [(0x2, "fixedTPM"), (0x10, "fixedParent"), (0x20, "sensitiveDataOrigin"), (0x4_0000, "sign")]
    {
        let refused = judge(&ak, &key.area(HELD & !bit), &|_| {});
        assert_eq!(refused, Err(CertifyError::Lacks(name)));
        let refused = judge(&signer.area(RESTRICTED & !bit), &area, &|_| {});
        assert_eq!(refused, Err(AttestationKeyError::Lacks(name).into()));
    }
    let excess = |put: u32| judge(&ak, &key.area(HELD | put), &|_| {}).unwrap_err();
    assert!(matches!(excess(0x1_0000), CertifyError::Excess(what) if what.starts_with("restricted")));
    assert_eq!(excess(0x2_0000), CertifyError::Excess("decrypt"));
    assert_eq!(
        judge(&signer.area(RESTRICTED | 0x2_0000), &area, &|_| {}),
        Err(AttestationKeyError::Decrypts.into())
    );
}

#[test]
fn the_extra_data_of_custody_is_of_custody_alone() {
    let mut message = b"undercroft custody v1\n".to_vec();
    message.extend(CHALLENGE);
    assert_eq!(qualifying(&CHALLENGE).as_slice(), HashAlgorithm::Sha256.digest(&message));
}
