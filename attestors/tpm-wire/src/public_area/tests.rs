//! Vectors made by swtpm 0.7.1 and printed by tpm2-tools 5.4 (`tpm2_create`, `tpm2_readpublic -f der`).

use proptest::prelude::*;

use super::*;

const ECC: &str = "0023000b00040072000000100018000b000300100020c1a3fae9d019c259261fc6194fc0c04dc88c6b365d41ddc8c02d2e12bd1238ce00203c11df2faf72180b14e45a8abcfb001a7afe254acf130e44d6b2c343191225a7";
const ECC_NAME: &str = "000b07d58bb171ec209165a29db344a7fb2128d4c90da774f4630964dce19306ea1d";
const ECC_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004c1a3fae9d019c259261fc6194fc0c04dc88c6b365d41ddc8c02d2e12bd1238ce3c11df2faf72180b14e45a8abcfb001a7afe254acf130e44d6b2c343191225a7";
const RSA: &str = "0001000b00040072000000100016000b0800000000000100a916a4f27d0a087b6edb3a47c7d727b19f987c169cc3d9b97d0ff3a76e20ee5f55c9518f3e8896a03926983a226fb1dbf5458953e8a83028c29147e2b660ad94328fd43410b0fcde087f908b45315bdf8fcace3d69dcdf276eb7d1452abb11cb21f0d8e27e32da9d4f78ec6826a9834d46719e6415281e5ef7f8b208f99caf19713257e93eda7d7fa4b1a93a87e8c0fcf8123b590fad2d7276c3d96272ba2521e81ef3977be325f584c1417fae1fb295b2141daeb0f82867674a5bed8bc70c8e56f83b30219f23b7edbf1bf6d0544da02ce9054ab614cd1f132d06dab84c3310d1390510f023d528a9fab32df60bc73d26bb75f8a21d61649e0ea91370c57565";
const RSA_NAME: &str = "000b4f278d934a70c80cf46796e097ecab75fc80485d0086dfc3b6bd1b8badc7cae4";
const RSA_SPKI: &str = "30820122300d06092a864886f70d01010105000382010f003082010a0282010100a916a4f27d0a087b6edb3a47c7d727b19f987c169cc3d9b97d0ff3a76e20ee5f55c9518f3e8896a03926983a226fb1dbf5458953e8a83028c29147e2b660ad94328fd43410b0fcde087f908b45315bdf8fcace3d69dcdf276eb7d1452abb11cb21f0d8e27e32da9d4f78ec6826a9834d46719e6415281e5ef7f8b208f99caf19713257e93eda7d7fa4b1a93a87e8c0fcf8123b590fad2d7276c3d96272ba2521e81ef3977be325f584c1417fae1fb295b2141daeb0f82867674a5bed8bc70c8e56f83b30219f23b7edbf1bf6d0544da02ce9054ab614cd1f132d06dab84c3310d1390510f023d528a9fab32df60bc73d26bb75f8a21d61649e0ea91370c575650203010001";
const STORAGE: &str = "0023000b0003007200000006008000430010000300100020d00bfb38651a5f5887b7f0b8b48cc2b512a8de349e9ce147aa121f42ab0fd5330020a60af006884ecb7c9742a960d9a6b239558a5610d7b91fac31bc683f30335ac8";
const STORAGE_NAME: &str = "000b39b227a67cba3ca7324193cfebd948843f80a52abfdf23612f7f1aa05bf3b673";

fn parse(text: &str) -> PublicArea {
    PublicArea::parse(&hex::decode(text).unwrap()).unwrap()
}

#[test]
fn names_and_keys_agree_with_tpm2_tools() {
    for (area, name, spki) in
        [(ECC, ECC_NAME, Some(ECC_SPKI)), (RSA, RSA_NAME, Some(RSA_SPKI)), (STORAGE, STORAGE_NAME, None)]
    {
        let parsed = parse(area);
        assert_eq!(hex::encode(parsed.encode()), area);
        assert_eq!(parsed.name().to_string(), name);
        if let Some(spki) = spki {
            assert_eq!(hex::encode(parsed.public_key().unwrap().spki()), spki);
        }
    }
}

#[test]
fn attributes_are_named() {
    let attributes = parse(ECC).attributes;
    assert_eq!(attributes.to_string(), "fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|sign");
    assert!(attributes.has(ObjectAttributes::FIXED_TPM | ObjectAttributes::SIGN));
    assert!(!attributes.has(ObjectAttributes::SIGN | ObjectAttributes::RESTRICTED));
    assert!(parse(STORAGE).attributes.has(ObjectAttributes::RESTRICTED | ObjectAttributes::DECRYPT));
}

#[test]
fn coordinates_without_leading_zeros_are_padded() {
    let mut area = parse(ECC);
    let PublicKind::Ecc(ecc) = &mut area.kind else { panic!() };
    ecc.x = vec![1];
    // (1, y) is no point of P-256, but the width is right: the refusal is of the point and not of the length.
    let refused = area.public_key().unwrap_err();
    assert_eq!(refused, PublicKeyError::InvalidPoint);
}

#[test]
fn what_is_not_a_public_area_is_refused() {
    let good = hex::decode(ECC).unwrap();
    let changed = |index: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[index] = value;
        PublicArea::parse(&bytes).unwrap_err()
    };
    assert_eq!(changed(1, 0x25), WireError::Unknown { field: "TPMT_PUBLIC.type", value: 0x25 });
    assert_eq!(changed(3, 0x04), WireError::Unknown { field: "TPMT_PUBLIC.nameAlg", value: 4 }); // SHA-1
    assert_eq!(changed(4, 0x80), WireError::NotCanonical("TPMA_OBJECT"));
    assert_eq!(changed(13, 0x1a), WireError::Unknown { field: "scheme", value: 0x1a }); // ECDAA
    assert_eq!(changed(15, 0x04), WireError::Unknown { field: "scheme.hashAlg", value: 4 });
    assert_eq!(changed(17, 0x05), WireError::Unknown { field: "TPMS_ECC_PARMS.curveID", value: 5 }); // P-521
    assert_eq!(
        changed(20, 0xff),
        WireError::TooLong { field: "TPMS_ECC_POINT.x", length: 0xff20, limit: 66 }
    );
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(PublicArea::parse(&trailing), Err(WireError::Trailing(1)));
    assert_eq!(PublicArea::parse(&good[..good.len() - 1]), Err(WireError::Truncated("TPMS_ECC_POINT.y")));
    assert_eq!(PublicArea::parse(&[]), Err(WireError::Truncated("TPMT_PUBLIC.type")));
}

#[test]
fn an_rsa_exponent_other_than_65537_is_no_key_of_ours() {
    let mut area = parse(RSA);
    let PublicKind::Rsa(rsa) = &mut area.kind else { panic!() };
    rsa.exponent = 3;
    assert_eq!(area.public_key(), Err(PublicKeyError::RsaExponent));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_what_parses_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(area) = PublicArea::parse(&bytes) {
            prop_assert_eq!(area.encode(), bytes);
        }
    }

    #[test]
    fn a_changed_byte_changes_the_name_or_is_refused(index in 0usize..88, bit in 0u8..8) {
        let mut bytes = hex::decode(ECC).unwrap();
        bytes[index] ^= 1 << bit;
        if let Ok(area) = PublicArea::parse(&bytes) {
            prop_assert_ne!(area.name().to_string(), ECC_NAME);
        }
    }
}
