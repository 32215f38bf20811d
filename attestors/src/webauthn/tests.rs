use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::*;

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, content.len() as u8][..], content].concat()
}

/// A certificate of an attestation key, as section 8.3.1 wants it, of the device `device-7`.
fn attestation_key() -> CertificateParams {
    let attribute = |last: u8| {
        let attribute = [tlv(0x06, &[0x67, 0x81, 0x05, 0x02, last]), tlv(0x0c, b"id:1")].concat();
        tlv(0x31, &tlv(0x30, &attribute))
    };
    let directory = tlv(0xa4, &tlv(0x30, &[attribute(1), attribute(2), attribute(3)].concat()));
    let value = tlv(0xa0, &tlv(0x30, &tlv(0x0c, b"device-7")));
    let other = tlv(0xa0, &[tlv(0x06, &[0x2b, 6, 1, 5, 5, 7, 8, 3]), value].concat());
    let mut names =
        CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &[directory, other].concat()));
    names.set_criticality(true);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
    params.custom_extensions = vec![names];
    params
}

/// An attestation object with nothing in it but certificates.
fn object(chain: &[Vec<u8>]) -> Vec<u8> {
    let sized = |major: u8, content: &[u8]| {
        [&[major << 5 | 25][..], &(content.len() as u16).to_be_bytes(), content].concat()
    };
    let text = |text: &str| sized(3, text.as_bytes());
    let mut out = [&[0xa2][..], &text("fmt"), &text("tpm"), &text("attStmt"), &[0xa6]].concat();
    out.extend([text("ver"), text("2.0"), text("alg"), vec![0x26], text("x5c")].concat());
    out.push(0x80 | chain.len() as u8);
    out.extend(chain.iter().flat_map(|der| sized(2, der)));
    out.extend(
        ["sig", "certInfo", "pubArea"]
            .into_iter()
            .flat_map(|name| [text(name), sized(2, b"nothing")].concat()),
    );
    out
}

/// A SPIRE server's CA lies below an authority of ours. It may have a CA of its own, and give that the authority's name.
#[test]
fn an_authority_vouches_and_nothing_below_it() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let keys = [key(), key(), key(), key()];
    let [authority, server, namesake, ak] = &keys;
    let der = |certificate: rcgen::Certificate| certificate.der().to_vec();
    let (authority_params, server_params) = (ca("authority"), ca("server"));
    let anchor = der(authority_params.self_signed(authority).unwrap());
    let by_authority = Issuer::from_params(&authority_params, authority);
    let by_server = Issuer::from_params(&server_params, server);
    let by_namesake = Issuer::from_params(&authority_params, namesake);
    let below = der(server_params.signed_by(server, &by_authority).unwrap());
    let named = der(authority_params.signed_by(namesake, &by_server).unwrap());
    let anchors = Anchors::new(vec![Certificate::from_der(&anchor).unwrap()]);
    let judged = |chain: Vec<Vec<u8>>, directly| {
        let statement = Statement::read(&object(&chain)).unwrap();
        let expected =
            Expected { anchors: &anchors, directly, key_authorization: "t.a", identifier: "device-7" };
        let is_below = statement.is_directly_below(&anchors);
        (is_below, statement.verify(expected, now).map(drop).map_err(|refusal| refusal.code()).unwrap_err())
    };
    let honest = der(attestation_key().signed_by(ak, &by_authority).unwrap());
    let of_server = der(attestation_key().signed_by(ak, &by_server).unwrap());
    let of_namesake = der(attestation_key().signed_by(ak, &by_namesake).unwrap());
    // Behind the chain comes what the TPM says, which is nothing here.
    assert_eq!(judged(vec![honest.clone(), anchor], true), (true, Code::AttestMagic));
    assert_eq!(judged(vec![honest], true), (true, Code::AttestMagic));
    assert_eq!(judged(vec![of_server.clone(), below.clone()], false), (false, Code::AttestMagic));
    assert_eq!(judged(vec![of_server, below.clone()], true), (false, Code::AkChain));
    let chain = vec![of_namesake, named, below];
    assert_eq!(judged(chain.clone(), false), (true, Code::AttestMagic), "it is a chain");
    assert_eq!(judged(chain, true), (true, Code::AkChain));
}

#[test]
fn each_code_is_one_of_the_page() {
    let page = include_str!("../../../docs/acme.md");
    let (_, table) = page.split_once("the first thing that is wrong is told by its code").unwrap();
    let (table, _) = table.split_once("Only authorities themselves").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut told: Vec<_> = rows.flat_map(|row| row.split(", ")).map(|code| code.trim_matches('`')).collect();
    // The one that needs a database.
    told.retain(|code| *code != "ak-revoked");
    let mut known: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    told.sort_unstable();
    known.sort_unstable();
    assert_eq!(told, known);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..700usize, to in any::<u8>()) {
        let _ = Statement::read(&bytes);
        let key = key();
        let certificate = attestation_key().self_signed(&key).unwrap().der().to_vec();
        let mut whole = object(&[certificate]);
        prop_assert!(Statement::read(&whole).is_ok());
        let cut = at % whole.len();
        prop_assert!(Statement::read(&whole[..cut]).is_err());
        whole[cut] = to;
        let _ = Statement::read(&whole);
    }
}
