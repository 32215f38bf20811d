use proptest::prelude::*;

use super::*;

fn refusal(text: &str) -> String {
    text.parse::<KeyUri>().unwrap_err().to_string()
}

#[test]
fn rfc_7512_examples_that_name_a_key_parse() {
    // Section 3, without the PINs that it shows.
    let uri: KeyUri = "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=private;id=%69%95%3E%5C%F4%BD%EC%91;serial=".replace(";serial=", "").parse().unwrap();
    let KeyUri::Pkcs11(parsed) = &uri else { panic!() };
    assert_eq!(parsed.token.as_deref(), Some("The Software PKCS#11 Softtoken"));
    assert_eq!(parsed.manufacturer.as_deref(), Some("Snake Oil, Inc."));
    assert_eq!(parsed.id.as_deref(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91][..]));
    assert_eq!(uri.to_string().parse::<KeyUri>().unwrap(), uri);
}

#[test]
fn tpm_uris_parse() {
    let uri: KeyUri = "tpm:handle=0x81010001;tcti=swtpm:path=/run/tpm%3b1/sock".parse().unwrap();
    let expected = TpmUri { handle: Some(0x8101_0001), tcti: Some("swtpm:path=/run/tpm;1/sock".into()) };
    assert_eq!(uri, KeyUri::Tpm(expected));
    assert_eq!(uri.to_string().parse::<KeyUri>().unwrap(), uri);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, part) in [
        ("", "no key URI"),
        ("/dev/tpm0", "no key URI"),
        ("file:key.pem", "`file:` is no scheme"),
        ("pkcs11:tokem=x", "`tokem` is no attribute of a pkcs11: URI; known are token,"),
        ("pkcs11:object=a;object=b", "`object` stands twice"),
        ("pkcs11:object=", "`object` cannot be"),
        ("pkcs11:object=a%00b", "control characters"),
        ("pkcs11:object=%ff", "UTF-8"),
        ("pkcs11:slot-id=x", "`slot-id` cannot be `x`"),
        ("pkcs11:id=", "1 to 255"),
        ("pkcs11:type=cert", "`type` is no attribute"),
        ("pkcs11:object=a?pin-value=1234", "PIN has no place"),
        ("pkcs11:object=a;pin-value=1234", "PIN has no place"),
        ("pkcs11:object=a?pin-source=|cat", "`pin-source` is no attribute"),
        ("tpm:handle=81010001", "`handle` cannot be `81010001`"),
        ("tpm:handle=0x80000001", "persistent handle of the owner"),
        ("tpm:handle=0x81800000", "persistent handle of the owner"),
        ("tpm:handle=0x1810100010", "persistent handle"),
        ("tpm:device=x", "known are handle, tcti"),
    ] {
        assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
    }
    assert!(refusal(&format!("pkcs11:object={}", "a".repeat(5000))).contains("too long"));
    assert!(!refusal("pkcs11:object=a?pin-value=1234").contains("1234"));
}

#[test]
fn a_device_fills_what_is_absent_and_may_not_contradict() {
    let device: KeyUri = "pkcs11:token=prod;serial=77?module-path=/lib/hsm.so".parse().unwrap();
    let key: KeyUri = "pkcs11:token=prod;object=ca".parse().unwrap();
    assert_eq!(
        key.completed_by(&device).unwrap().to_string(),
        "pkcs11:token=prod;serial=77;object=ca?module-path=/lib/hsm.so"
    );
    let other: KeyUri = "pkcs11:token=test;object=ca".parse().unwrap();
    let conflict = other.completed_by(&device).unwrap_err().to_string();
    assert!(conflict.contains("token `test`") && conflict.contains("`prod`"), "{conflict}");
    let tpm: KeyUri = "tpm:handle=0x81010001".parse().unwrap();
    assert!(matches!(tpm.completed_by(&device), Err(UriError::Conflict { attribute: "scheme", .. })));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        let _ = text.parse::<KeyUri>();
        let _ = format!("pkcs11:{text}").parse::<KeyUri>();
        let _ = format!("tpm:{text}").parse::<KeyUri>();
    }

    #[test]
    fn what_is_printed_parses_back(
        token in proptest::option::of("[^\\p{C}]{1,20}"),
        object in proptest::option::of("[^\\p{C}]{1,20}"),
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..30)),
        slot_id in proptest::option::of(any::<u64>()),
        path in proptest::option::of("(/[^\\p{C}/]{1,10}){1,4}"),
    ) {
        let uri = KeyUri::Pkcs11(Pkcs11Uri {
            token, object, id, slot_id, module_path: path.map(Into::into), ..Pkcs11Uri::default()
        });
        prop_assert_eq!(uri.to_string().parse::<KeyUri>().unwrap(), uri);
    }
}
