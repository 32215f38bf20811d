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
fn cloud_uris_parse() {
    for text in [
        "awskms:region=eu-central-1;account=111122223333;alias=prod/intermediate_1",
        "awskms:region=us-gov-west-1;key-id=1234abcd-12ab-34cd-56ef-1234567890ab",
        "awskms:key-id=mrk-1234abcd12ab34cd56ef1234567890ab;endpoint=http://127.0.0.1:5000",
        "gcpkms:project=acme-pki;location=global;key-ring=prod;key=ca;version=1;endpoint=https://[::1]:443",
        "azurekv:vault=prod.managedhsm.azure.net;key=ca;version=78deebed173b48e48f55abf87ed4cf71",
        "azurekv:vault=prod.vault.azure.net;key=ca;endpoint=https://vault.internal",
    ] {
        let uri: KeyUri = text.parse().unwrap();
        assert_eq!(uri.to_string(), text);
        assert!(uri.names_a_key() && uri.scheme().is_cloud());
    }
    let KeyUri::AwsKms(uri) = "awskms:alias=ca".parse().unwrap() else { panic!() };
    assert_eq!(uri, AwsKmsUri { alias: Some("ca".into()), ..AwsKmsUri::default() });
    assert!(!"awskms:region=eu-central-1".parse::<KeyUri>().unwrap().names_a_key());
}

#[test]
fn requests_with_credentials_go_by_tls_or_stay_on_this_machine() {
    for scheme in ["awskms", "gcpkms", "azurekv"] {
        for endpoint in
            ["https://kms.internal", "https://10.0.0.1:8443", "http://127.9.9.9:1", "http://[::1]:80"]
        {
            let text = format!("{scheme}:endpoint={endpoint}");
            assert_eq!(text.parse::<KeyUri>().unwrap().to_string(), text);
        }
        for endpoint in [
            "http://kms.eu-central-1.amazonaws.com",
            "http://10.0.0.1:5000",
            "http://0.0.0.0:5000",
            "http://localhost:5000",
            "http://127.0.0.1.example.org:80",
            "http://127.0.0.1",
            "http://[::2]:80",
            "HTTP://127.0.0.1:80",
            "ftp://127.0.0.1:80",
            "127.0.0.1:80",
            "https://",
            "https://user:password@kms.internal",
            "https://kms.internal:0",
            "https://kms.internal:99999",
            "https://kms.internal:+1",
            "https://kms.internal/path",
            "https://kms.internal?query",
            "https://-kms.internal",
            "https://kms..internal",
        ] {
            let refusal = refusal(&format!("{scheme}:endpoint={endpoint}"));
            assert!(
                refusal.contains("it must be https://") && refusal.contains("loopback"),
                "{endpoint}: {refusal}"
            );
        }
    }
}

#[test]
fn what_is_wrong_in_a_cloud_uri_is_named() {
    for (text, part) in [
        ("awskms:zone=a", "known are region, account, alias, key-id, endpoint"),
        ("awskms:region=eu-central-1;region=eu-central-1", "`region` stands twice"),
        ("awskms:region=", "`region` cannot be"),
        ("awskms:region=EU-CENTRAL-1", "a region such as"),
        ("awskms:region=eu-1", "a region such as"),
        ("awskms:region=eu-central-1a", "a region such as"),
        ("awskms:region=evil.example.org/-x-1", "a region such as"),
        ("awskms:account=11112222333", "12 digits"),
        ("awskms:account=1111222233334", "12 digits"),
        ("awskms:account=11112222333x", "12 digits"),
        ("awskms:alias=alias/ca", "without the `alias/`"),
        ("awskms:alias=aws/s3", "AWS's own"),
        ("awskms:alias=ca%20root", "letters, digits"),
        ("awskms:key-id=1234ABCD-12ab-34cd-56ef-1234567890ab", "lower case"),
        ("awskms:key-id=1234abcd-12ab-34cd-56ef-1234567890", "the ID of a key"),
        ("awskms:key-id=mrk-1234", "the ID of a key"),
        ("awskms:key-id=arn:aws:kms:eu-central-1:111122223333:key/1234abcd", "an ARN's region and account"),
        ("awskms:alias=ca;key-id=mrk-1234abcd12ab34cd56ef1234567890ab", "give one of them"),
        ("gcpkms:projekt=a", "known are project, location, key-ring, key, version, endpoint"),
        ("gcpkms:project=short", "6 to 30"),
        ("gcpkms:project=1acme-pki", "a letter first"),
        ("gcpkms:project=acme-pki-", "no hyphen last"),
        ("gcpkms:project=acme/pki", "a project ID"),
        ("gcpkms:location=europe/west3", "a location"),
        ("gcpkms:key-ring=a/b", "1 to 63"),
        ("gcpkms:key=a%2fb", "1 to 63"),
        ("gcpkms:key=a;key=a", "`key` stands twice"),
        ("gcpkms:version=0", "the number of a version"),
        ("gcpkms:version=01", "the number of a version"),
        ("gcpkms:version=latest", "the number of a version"),
        ("azurekv:name=a", "known are vault, key, version, endpoint"),
        ("azurekv:vault=prod", "the host name of a vault"),
        ("azurekv:vault=https://prod.vault.azure.net", "the host name of a vault"),
        ("azurekv:vault=prod.vault.azure.net:443", "the host name of a vault"),
        ("azurekv:key=a_b", "letters, digits and hyphens"),
        ("azurekv:key=a/b", "letters, digits and hyphens"),
        ("azurekv:version=1", "32 hexadecimal digits"),
        ("azurekv:version=78DEEBED173B48E48F55ABF87ED4CF71", "lower case"),
    ] {
        assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
    }
    assert!(refusal("vault:x").contains("known are pkcs11:, tpm:, awskms:, gcpkms:, azurekv:"));
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
    let device_of_cloud: KeyUri = "awskms:region=eu-central-1;account=111122223333".parse().unwrap();
    let completed = |text: &str| text.parse::<KeyUri>().unwrap().completed_by(&device_of_cloud);
    assert_eq!(
        completed("awskms:alias=ca").unwrap().to_string(),
        "awskms:region=eu-central-1;account=111122223333;alias=ca"
    );
    let conflict = completed("awskms:account=999900001111;alias=ca").unwrap_err().to_string();
    assert!(conflict.contains("account `999900001111`") && conflict.contains("`111122223333`"), "{conflict}");
    assert!(matches!(completed("gcpkms:key=ca"), Err(UriError::Conflict { attribute: "scheme", .. })));
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
    fn arbitrary_values_are_refused_or_printed_as_they_were(
        name in "region|account|alias|key-id|endpoint|project|location|key-ring|key|version|vault",
        value in "(https?://)?[a-z0-9:/.@-]{0,40}",
    ) {
        for scheme in Scheme::ALL.into_iter().filter(|scheme| scheme.is_cloud()) {
            let text = format!("{scheme}:{name}={value}");
            if let Ok(uri) = text.parse::<KeyUri>() {
                prop_assert_eq!(uri.to_string(), text);
            }
        }
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
