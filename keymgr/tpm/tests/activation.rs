//! Activation and certification on swtpm: a TPM proves where a key lives, and every forgery of the proof is found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod device;
#[path = "activation/forgeries.rs"]
mod forgeries;
#[path = "activation/site.rs"]
mod site;

use undercroft_attestors::custody::Grade;
use undercroft_attestors::tpm::credential;
use undercroft_keymgr::ErrorKind;
use undercroft_keys::KeyAlgorithm;
use undercroft_tpm_wire::PublicArea;

use device::{open, tool, uri};
use futures::executor::block_on;
use site::{ATTESTATION_KEY, Site};

#[test]
fn a_key_is_proven_by_a_manufacturer_and_an_activator() {
    let site = Site::new();
    let tpm = open(&site.device);
    for number in [0, 1] {
        site.activate(&*tpm, number);
        let key =
            block_on(tpm.create(&uri(&site.device, 0x8101_1000 + number as u32), KeyAlgorithm::EcdsaP256));
        let key = key.unwrap();
        let evidence = block_on(key.custody.custody_evidence()).unwrap();
        assert_eq!(evidence.format, "tpm2-certify-v1");
        let judged = site.judge(&evidence.bytes, key.signer.public_key());
        assert_eq!(judged.grade, Grade::Proven, "{judged:?}");
        assert!(
            judged.findings.iter().any(|finding| finding.contains("witness.example/w1 saw at")),
            "{judged:?}"
        );
        assert!(judged.findings.iter().any(|finding| finding.contains("model swtpm")), "{judged:?}");
    }
}

#[test]
fn without_activation_nothing_is_proven() {
    let site = Site::new();
    let tpm = open(&site.device);
    // Neither an attestation key, nor anybody who has seen it.
    let made = block_on(tpm.create(&uri(&site.device, 0x8101_1000), KeyAlgorithm::EcdsaP256)).unwrap();
    let refused = block_on(made.custody.custody_evidence()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(refused.to_string().contains("undercroft keys activate"), "{refused}");
    block_on(tpm.activation(ATTESTATION_KEY).unwrap().attestation_key()).unwrap();
    let evidence = block_on(made.custody.custody_evidence()).unwrap();
    let judged = site.judge(&evidence.bytes, made.signer.public_key());
    assert_eq!(judged.grade, Grade::Software, "{judged:?}");
    assert!(judged.findings.iter().any(|finding| finding.contains("activation: asserted")), "{judged:?}");
}

/// RSA and ECC, ours and the other's.
#[test]
fn credentials_are_those_of_tpm2_tools() {
    let site = Site::new();
    let (endorsements, attests) = {
        let tpm = open(&site.device);
        let activation = tpm.activation(ATTESTATION_KEY).unwrap();
        (block_on(activation.endorsements()).unwrap(), block_on(activation.attestation_key()).unwrap())
    };
    let name = PublicArea::parse(&attests).unwrap().name();
    // The key of swtpm's P-384 template is authorised by its password, RSA's by a session.
    let ways = [
        ("tpm2_createek -c ek.ctx -G rsa -u ek.pub", "-P session:s.ctx"),
        ("tpm2_readpublic -Q -c 0x81010016 -o ek.pub; tpm2_readpublic -Q -c 0x81010016 -t ek.ctx", ""),
    ];
    for (endorsement, (make, authorise)) in endorsements.iter().zip(ways) {
        let area = PublicArea::parse(&endorsement.public).unwrap();
        // Ours, opened by theirs: their file has a magic, a version, and then both structures.
        let made = credential::make(&area, &name, b"sixteen bytes ok", &[7; 64]).unwrap();
        let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
        let file =
            [&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1][..], &sized(&made.credential), &sized(&made.secret)];
        std::fs::write(site.folder.path().join("ours"), file.concat()).unwrap();
        tool(&site.device, &site.folder, make);
        tool(
            &site.device,
            &site.folder,
            &format!(
                "tpm2_startauthsession --policy-session -S s.ctx; tpm2_policysecret -Q -S s.ctx -c e; \
                 tpm2_activatecredential -Q -c {ATTESTATION_KEY:#x} -C ek.ctx -i ours -o opened {authorise}; \
                 tpm2_flushcontext s.ctx; tpm2_flushcontext -t || true"
            ),
        );
        assert_eq!(std::fs::read(site.folder.path().join("opened")).unwrap(), b"sixteen bytes ok");
        // Theirs, opened by ours.
        std::fs::write(site.folder.path().join("secret"), b"theirs, 16 bytes").unwrap();
        tool(
            &site.device,
            &site.folder,
            &format!("tpm2_makecredential -Q -T none -u ek.pub -s secret -n {name} -o theirs"),
        );
        let theirs = std::fs::read(site.folder.path().join("theirs")).unwrap();
        let split = |bytes: &[u8]| {
            let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            (bytes[2..2 + length].to_vec(), bytes[2 + length..].to_vec())
        };
        let (blob, rest) = split(&theirs[8..]);
        let (secret, _) = split(&rest);
        let tpm = open(&site.device);
        let opened = block_on(tpm.activation(ATTESTATION_KEY).unwrap().activate(endorsement, &blob, &secret));
        assert_eq!(opened.unwrap(), b"theirs, 16 bytes");
    }
}

#[test]
fn a_credential_for_another_key_is_not_opened() {
    let site = Site::new();
    let tpm = open(&site.device);
    let activation = tpm.activation(ATTESTATION_KEY).unwrap();
    let attests = PublicArea::parse(&block_on(activation.attestation_key()).unwrap()).unwrap();
    let another =
        PublicArea::parse(&block_on(tpm.activation(ATTESTATION_KEY + 1).unwrap().attestation_key()).unwrap());
    for endorsement in block_on(activation.endorsements()).unwrap() {
        let area = PublicArea::parse(&endorsement.public).unwrap();
        let open = |credential: &[u8], secret: &[u8]| {
            block_on(activation.activate(&endorsement, credential, secret))
        };
        let good = credential::make(&area, &attests.name(), &[5; 32], &[9; 64]).unwrap();
        assert_eq!(open(&good.credential, &good.secret).unwrap(), [5; 32]);
        let other = credential::make(&area, &another.as_ref().unwrap().name(), &[5; 32], &[8; 64]).unwrap();
        assert_eq!(open(&other.credential, &other.secret).unwrap_err().kind(), ErrorKind::Denied);
        let mut changed = good.credential.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(open(&changed, &good.secret).unwrap_err().kind(), ErrorKind::Denied);
        assert!(open(&good.credential, &other.secret).is_err());
        assert!(open(&good.credential, &[]).is_err());
        assert_eq!(open(&[0; 2000], &good.secret).unwrap_err().kind(), ErrorKind::Denied);
        // And the TPM goes on.
        assert_eq!(open(&good.credential, &good.secret).unwrap(), [5; 32]);
    }
}
