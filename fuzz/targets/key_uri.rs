#![no_main]
//! Key URIs, completed by a device's.
use undercroft_keymgr::KeyUri;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(uri) = text.parse::<KeyUri>() else { return };
    assert_eq!(uri.to_string().parse::<KeyUri>().unwrap(), uri);
    assert_eq!(uri.completed_by(&uri).unwrap(), uri);
    for device in [
        "pkcs11:token=prod?module-path=/lib/hsm.so",
        "tpm:tcti=device:/dev/tpmrm0",
        "awskms:region=eu-central-1;account=111122223333",
        "gcpkms:project=acme-pki;location=global;key-ring=prod",
        "azurekv:vault=prod.vault.azure.net;endpoint=http://127.0.0.1:4997",
    ] {
        let _ = uri.completed_by(&device.parse().unwrap());
    }
});
