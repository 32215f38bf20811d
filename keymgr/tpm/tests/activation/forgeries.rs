//! Honest evidence with one thing changed: each is found by its name, and none is proven.

use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::SignedDuration;
use serde_json::{Value, json};
use undercroft_attestors::chain::Anchors;
use undercroft_attestors::custody::{self, Grade};
use undercroft_attestors::tpm::activation::Statement;
use undercroft_attestors::tpm::evidence::FORMAT;
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_tpm_wire::Signature;

use crate::device::{open, tool, uri};
use crate::site::{ATTESTATION_KEY, Site, now, witness};

/// Where things stand in a TPMS_ATTEST by a key whose Name has 34 bytes.
const EXTRA_DATA: usize = 4 + 2 + 2 + 34 + 2;
const NAME: usize = EXTRA_DATA + 32 + 17 + 8 + 2;

struct Honest {
    site: Site,
    evidence: Value,
    key: PublicKey,
    /// Of a second key in the same TPM, and of a second TPM.
    sister: Value,
    other: Value,
    other_site: Site,
}

impl Honest {
    fn new() -> Self {
        let (site, other_site) = (Site::new(), Site::new());
        let evidence_of = |site: &Site, handle: u32| {
            let tpm = open(&site.device);
            site.activate(&*tpm, 0);
            let key = block_on(tpm.create(&uri(&site.device, handle), KeyAlgorithm::EcdsaP256)).unwrap();
            let evidence = block_on(key.custody.answer([3; 32])).unwrap();
            let value: Value = serde_json::from_slice(&evidence.bytes).unwrap();
            (value, key.signer.public_key().clone())
        };
        let (evidence, key) = evidence_of(&site, 0x8101_1000);
        let (sister, _) = evidence_of(&site, 0x8101_1001);
        let (other, _) = evidence_of(&other_site, 0x8101_1000);
        Self { site, evidence, key, sister, other, other_site }
    }

    /// Judges what is left after a change.
    fn changed(&self, change: impl FnOnce(&mut Value)) -> custody::Custody {
        let mut evidence = self.evidence.clone();
        change(&mut evidence);
        self.site.judge(&serde_json::to_vec(&evidence).unwrap(), &self.key)
    }

    fn statement(&self) -> Statement {
        let note = self.evidence["attestation-key"]["activation"]["certificate"].as_str().unwrap();
        Statement::parse(note.split_inclusive("\n\n").next().unwrap().strip_suffix('\n').unwrap()).unwrap()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// Sets bytes of a hexadecimal string.
fn set(value: &mut Value, at: usize, to: &[u8]) {
    let mut changed = bytes(value);
    changed[at..at + to.len()].copy_from_slice(to);
    *value = json!(hex::encode(changed));
}

/// One test, since making two TPMs takes longest.
#[test]
fn every_forgery_is_found_by_its_name() {
    let honest = Honest::new();
    let proven = honest.changed(|_| {});
    assert_eq!(proven.grade, Grade::Proven, "{proven:?}");
    what_is_malformed(&honest);
    what_was_not_certified(&honest);
    keys_that_attest_to_anything(&honest);
    who_vouches_for_what(&honest);
    trust_in_others(&honest);
}

fn found(custody: &custody::Custody, grade: Grade, finding: &str) {
    assert_eq!(custody.grade, grade, "{finding}: {custody:?}");
    assert!(custody.findings.iter().any(|found| found.contains(finding)), "{finding}: {custody:?}");
}

fn what_is_malformed(honest: &Honest) {
    let unknown = |change: &dyn Fn(&mut Value), finding: &str| {
        found(&honest.changed(change), Grade::Unknown, finding);
    };
    unknown(&|e| e["more"] = json!(1), "unknown field `more`");
    unknown(&|e| drop(e.as_object_mut().unwrap().remove("certify")), "missing field `certify`");
    unknown(&|e| e["key"]["public"] = json!("zz"), "the key's public area cannot be read");
    unknown(
        &|e| e["key"]["public"] = json!(format!("{}00", e["key"]["public"].as_str().unwrap())),
        "1 bytes follow",
    );
    unknown(
        &|e| e["attestation-key"]["public"] = json!(""),
        "the attestation key's public area cannot be read",
    );
    unknown(&|e| e["certify"]["challenge"] = json!("00"), "the challenge has not 32 bytes");
    unknown(&|e| e["certify"]["attest"] = json!("0x"), "the attestation cannot be read");
    unknown(
        &|e| e["certify"]["signature"] = json!("0018"),
        "the signature of the attestation key cannot be read",
    );
    unknown(&|e| e["attestation-key"]["activation"]["certificate"] = json!("x"), "no signed note");
    unknown(&|e| e["attestation-key"]["activation"]["endorsement"]["chain"] = json!(["AAAA"]), "malformed");
    unknown(
        &|e| e["attestation-key"]["activation"]["endorsement"]["chain"] = json!([]),
        "no certificate of an endorsement key",
    );
    let much = vec![b' '; 70_000];
    found(&honest.site.judge(&much, &honest.key), Grade::Unknown, "more than");
    let another = SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let evidence = serde_json::to_vec(&honest.evidence).unwrap();
    found(&honest.site.judge(&evidence, another.public_key()), Grade::Unknown, "about another key");
}

fn what_was_not_certified(honest: &Honest) {
    let unknown = |change: &dyn Fn(&mut Value), finding: &str| {
        found(&honest.changed(change), Grade::Unknown, finding);
    };
    let not_signed = "not by the attestation key over this attestation";
    // Any byte that the TPM signed.
    for at in [0, 4, 8, EXTRA_DATA, EXTRA_DATA + 40, NAME + 2, NAME + 33] {
        let original = bytes(&honest.evidence["certify"]["attest"])[at];
        unknown(&|e| set(&mut e["certify"]["attest"], at, &[original ^ 1]), not_signed);
    }
    unknown(&|e| e["certify"]["challenge"] = json!(hex::encode([4; 32])), "another challenge (extraData)");
    // The key of the same TPM beside it, with everything honest save whose it is.
    unknown(&|e| e["certify"] = honest.sister["certify"].clone(), "a key of another Name");
    unknown(&|e| e["certify"] = honest.other["certify"].clone(), not_signed);
    // A signature of another scheme, and one of zeros.
    unknown(
        &|e| set(&mut e["certify"]["signature"], 0, &[0x00, 0x18, 0x00, 0x0c]),
        "not that of the attestation key",
    );
    let zero = Signature::Ecdsa { hash: undercroft_tpm_wire::HashAlgorithm::Sha256, r: vec![0], s: vec![0] };
    unknown(&|e| e["certify"]["signature"] = json!(hex::encode(zero.encode())), not_signed);
}

/// A key that the TPM holds and that signs what it is given: made by tpm2-tools with all attributes but `restricted`, as a
/// thief would with the rights of root on the CA's host.
fn keys_that_attest_to_anything(honest: &Honest) {
    let site = &honest.site;
    let attestation = |e: &mut Value, to: [u8; 4]| {
        // TPMT_PUBLIC: type, nameAlg, attributes.
        set(&mut e["attestation-key"]["public"], 4, &to);
    };
    for (attributes, lacks) in [
        ([0x00, 0x04, 0x04, 0x72], "not restricted"),
        ([0x00, 0x05, 0x04, 0x70], "not fixedTPM"),
        ([0x00, 0x05, 0x04, 0x62], "not fixedParent"),
        ([0x00, 0x05, 0x04, 0x52], "not sensitiveDataOrigin"),
        ([0x00, 0x01, 0x04, 0x72], "not sign"),
        ([0x00, 0x07, 0x04, 0x72], "decrypts"),
    ] {
        let judged = honest.changed(|e| attestation(e, attributes));
        found(&judged, Grade::Unknown, lacks);
    }
    // A whole forgery: an unrestricted key signs an attestation that it made up, about the CA's own key.
    let forger = SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let judged = honest.changed(|e| {
        let attest = bytes(&e["certify"]["attest"]);
        let signature = block_on(forger.sign(&attest)).unwrap();
        let scheme = undercroft_tpm_wire::Scheme::Ecdsa(undercroft_tpm_wire::HashAlgorithm::Sha256);
        let signature = Signature::from_x509(scheme, None, &signature).unwrap();
        e["certify"]["signature"] = json!(hex::encode(signature.encode()));
        let undercroft_keys::Numbers::Ec { x, y } = forger.public_key().numbers() else { panic!() };
        let mut public = bytes(&e["attestation-key"]["public"]);
        let length = public.len();
        public[length - 66..length - 34].copy_from_slice(x);
        public[length - 32..].copy_from_slice(y);
        e["attestation-key"]["public"] = json!(hex::encode(public));
    });
    found(&judged, Grade::Unknown, "the certificate of the attestation key is that of another one");
    // A key from outside, which the TPM certifies as readily: its attributes say so.
    let folder = &site.folder;
    tool(
        &site.device,
        folder,
        &format!(
            "openssl ecparam -name prime256v1 -genkey -noout -out soft.pem; \
             tpm2_createprimary -Q -C o -G ecc -c root.ctx; \
             tpm2_flushcontext -t; tpm2_import -Q -C root.ctx -G ecc -i soft.pem -u soft.pub -r soft.priv -a 'userwithauth|sign'; \
             tpm2_flushcontext -t; tpm2_load -Q -C root.ctx -u soft.pub -r soft.priv -c soft.ctx; \
             tpm2_flushcontext -t; tpm2_certify -Q -c soft.ctx -C {ATTESTATION_KEY:#x} -g sha256 -o attest.bin -s sig.bin; \
             tpm2_flushcontext -t"
        ),
    );
    let public = std::fs::read(folder.path().join("soft.pub")).unwrap()[2..].to_vec();
    let area = undercroft_tpm_wire::PublicArea::parse(&public).unwrap();
    let refused = undercroft_attestors::tpm::certify::is_held(&area).unwrap_err().to_string();
    assert!(refused.contains("not fixedTPM"), "{refused}");
    // tpm2_certify cannot be given qualifying data, so that its attestation fails before that.
    let mut evidence = honest.evidence.clone();
    evidence["key"]["public"] = json!(hex::encode(&public));
    evidence["certify"]["attest"] =
        json!(hex::encode(std::fs::read(folder.path().join("attest.bin")).unwrap()));
    evidence["certify"]["signature"] =
        json!(hex::encode(std::fs::read(folder.path().join("sig.bin")).unwrap()));
    let judged = site.judge(&serde_json::to_vec(&evidence).unwrap(), &area.public_key().unwrap());
    found(&judged, Grade::Unknown, "another challenge (extraData)");
}

fn who_vouches_for_what(honest: &Honest) {
    let site = &honest.site;
    let with = |certificate: String| {
        honest.changed(|e| e["attestation-key"]["activation"]["certificate"] = json!(certificate))
    };
    let statement = honest.statement();
    found(&with(site.say(&statement, now())), Grade::Proven, "saw at");
    let changed = |change: fn(&mut Statement)| {
        let mut statement = statement.clone();
        change(&mut statement);
        with(site.say(&statement, now()))
    };
    // An activator who errs, or whose word is used for something else.
    found(&changed(|s| s.name = s.name.replace("000b", "000c")), Grade::Unknown, "that of another one");
    found(&changed(|s| s.certificate[0] ^= 1), Grade::Unknown, "others than those that the activator saw");
    found(&changed(|s| s.chain[0] ^= 1), Grade::Unknown, "others than those that the activator saw");
    found(
        &changed(|s| s.anchor[0] ^= 1),
        Grade::Software,
        "asserted: the manufacturer that the activator trusted",
    );
    // A certificate of an anchor that did not issue it: the intermediate's digest in place of the root's.
    let late = with(site.say(&statement, now() + SignedDuration::from_hours(1)));
    found(&late, Grade::Unknown, "certified in the future");
    let early = with(site.say(&statement, now() - SignedDuration::from_hours(24 * 365)));
    found(&early, Grade::Unknown, "is not valid at");
    // A signature over another statement, or by somebody else.
    let note = site.say(&statement, now());
    found(&with(note.replace("anchor ", "anchor  ")), Grade::Unknown, "its text is not the five lines");
    found(&with(note.replace("/v1\n", "/v2\n")), Grade::Unknown, "its text is not the five lines");
    let digit = if statement.to_string().contains("anchor 0") {
        ("anchor 0", "anchor 1")
    } else {
        ("anchor ", "anchor ")
    };
    if digit.0 != digit.1 {
        found(&with(note.replace(digit.0, digit.1)), Grade::Unknown, "does not verify");
    }
    let mut flipped = note.into_bytes();
    let end = flipped.len() - 8;
    flipped[end] = if flipped[end] == b'A' { b'B' } else { b'A' };
    found(&with(String::from_utf8(flipped).unwrap()), Grade::Unknown, "does not verify");
    let stranger = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let named_alike = witness(&stranger);
    let signed = block_on(stranger.sign(&statement.message(&named_alike, now()).unwrap())).unwrap();
    let of_stranger = with(statement.signed(&named_alike, now(), &signed));
    found(
        &of_stranger,
        Grade::Software,
        "asserted: the certificate of the attestation key is signed by no activator",
    );
    // The attestation key of another TPM, with all its papers, beside this TPM's key.
    let swapped = honest.changed(|e| e["attestation-key"] = honest.other["attestation-key"].clone());
    found(&swapped, Grade::Unknown, "not by the attestation key over this attestation");
    let papers = honest.changed(|e| {
        e["attestation-key"]["activation"] = honest.other["attestation-key"]["activation"].clone();
    });
    found(&papers, Grade::Software, "asserted");
    let endorsement = honest.changed(|e| {
        let other = honest.other["attestation-key"]["activation"]["endorsement"].clone();
        e["attestation-key"]["activation"]["endorsement"] = other;
    });
    found(&endorsement, Grade::Unknown, "others than those that the activator saw");
    // The endorsement key's public area is not signed for by the activator; its certificate is.
    let area = honest.changed(|e| {
        let other = honest.other["attestation-key"]["activation"]["endorsement"]["public"].clone();
        e["attestation-key"]["activation"]["endorsement"]["public"] = other;
    });
    found(&area, Grade::Unknown, "the endorsement certificate is of another key");
    for (attributes, what) in [
        ([0x00, 0x03, 0x00, 0xb0], "it is not fixedTPM"),
        ([0x00, 0x02, 0x00, 0xb2], "it is not restricted"),
        ([0x00, 0x01, 0x00, 0xb2], "it is not decrypt"),
        ([0x00, 0x07, 0x00, 0xb2], "it signs"),
    ] {
        let judged = honest.changed(|e| {
            set(&mut e["attestation-key"]["activation"]["endorsement"]["public"], 4, &attributes);
        });
        found(&judged, Grade::Unknown, what);
    }
    let policy = honest.changed(|e| {
        set(&mut e["attestation-key"]["activation"]["endorsement"]["public"], 12, &[0]);
    });
    found(&policy, Grade::Unknown, "its policy is none of the TCG's");
}

fn trust_in_others(honest: &Honest) {
    let evidence = serde_json::to_vec(&honest.evidence).unwrap();
    let judged = |trust: &Trust| custody::judge(FORMAT, &evidence, &honest.key, trust, now());
    found(&judged(&Trust::default()), Grade::Software, "asserted");
    let no_maker = Trust { endorsement: Anchors::default(), ..honest.site.trust.clone() };
    found(
        &judged(&no_maker),
        Grade::Software,
        "the manufacturer that the activator trusted is not trusted here",
    );
    let other_maker =
        Trust { endorsement: honest.other_site.trust.endorsement.clone(), ..honest.site.trust.clone() };
    found(&judged(&other_maker), Grade::Software, "not trusted here");
    let other_activator =
        Trust { activators: vec![honest.other_site.witness.clone()], ..honest.site.trust.clone() };
    found(&judged(&other_activator), Grade::Software, "signed by no activator");
    let both = Trust {
        activators: vec![honest.other_site.witness.clone(), honest.site.witness.clone()],
        ..honest.site.trust.clone()
    };
    assert_eq!(judged(&both).grade, Grade::Proven);
    // Hardware that calls itself something else is declared, and no more.
    let declared = honest.changed(|e| {
        e["tpm"]["manufacturer"] = json!("STM ");
        e["attestation-key"]["activation"] = Value::Null;
    });
    found(&declared, Grade::Declared, "activation: asserted: nobody certified the attestation key");
}
