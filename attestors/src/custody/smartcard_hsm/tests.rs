use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bp256::BrainpoolP256r1;
use ecdsa::SigningKey;
use ecdsa::signature::hazmat::PrehashSigner as _;
use proptest::prelude::*;

use super::*;
use crate::custody::{Custody, Grade};
use crate::trust::Trust;

/// The root of CardContact's SmartCard-HSMs, DESRCACC100001, as CardContact publishes it.
const CARD_CONTACT: &str = include_str!("desrcacc100001.hex");

const SHA_256: &str = "04007f00070202020203";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn object(tag: &str, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        length @ 0..0x80 => vec![length as u8],
        length @ 0x80..0x100 => vec![0x81, length as u8],
        length => vec![0x82, (length >> 8) as u8, length as u8],
    };
    [hex::decode(tag).unwrap(), length, content.to_vec()].concat()
}

/// Keys on the two curves that certificates have.
enum Pair {
    Brainpool(Box<SigningKey<BrainpoolP256r1>>),
    P256(EcdsaKeyPair),
}

impl Pair {
    fn brainpool(seed: u8) -> Self {
        Self::Brainpool(Box::new(SigningKey::from_slice(&[seed; 32]).unwrap()))
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn point(&self) -> Vec<u8> {
        match self {
            Self::Brainpool(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Brainpool(key) => {
                let signature: bp256::r1::ecdsa::Signature =
                    key.sign_prehash(&Sha256::digest(message)).unwrap();
                signature.to_bytes().to_vec()
            }
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
        }
    }

    /// As OpenSSL and the standards write them, in the order of the objects 81 to 85.
    fn domain(&self) -> [&'static str; 5] {
        match self {
            Self::Brainpool(_) => [
                "a9fb57dba1eea9bc3e660a909d838d726e3bf623d52620282013481d1f6e5377",
                "7d5a0975fc2c3057eef67530417affe7fb8055c126dc5c6ce94a4b44f330b5d9",
                "26dc5c6ce94a4b44f330b5d9bbd77cbf958416295cf7e1ce6bccdc18ff8c07b6",
                "048bd2aeb9cb7e57cb2c4b482ffc81b7afb9de27e1e3bd23c23a4453bd9ace3262547ef835c3dac4fd97f8461a14611dc9c27745132ded8e545c1d54c72f046997",
                "a9fb57dba1eea9bc3e660a909d838d718c397aa3b561a6f7901e0e82974856a7",
            ],
            Self::P256(_) => [
                "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
                "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
                "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
                "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
                "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
            ],
        }
    }
}

/// What stands in a certificate.
struct Fields {
    profile: u8,
    issuer: &'static str,
    algorithm: &'static str,
    domain: Option<[&'static str; 5]>,
    holder: &'static str,
    role_of: &'static str,
    role: &'static [u8],
    from: [u8; 6],
    last: [u8; 6],
    more: Vec<u8>,
}

impl Fields {
    fn new(issuer: &'static str, holder: &'static str, role: &'static [u8]) -> Self {
        Self {
            profile: 0,
            issuer,
            algorithm: SHA_256,
            domain: None,
            holder,
            role_of: "2b0601040181c31f030101",
            role,
            from: [2, 4, 0, 1, 3, 1],
            last: [3, 1, 1, 2, 3, 1],
            more: Vec::new(),
        }
    }

    fn key(&self, key: &Pair) -> Vec<u8> {
        let mut inside = object("06", &hex::decode(self.algorithm).unwrap());
        for (tag, number) in ["81", "82", "83", "84", "85"].iter().zip(self.domain.iter().flatten()) {
            inside.extend(object(tag, &hex::decode(number).unwrap()));
        }
        inside.extend(object("86", &key.point()));
        if self.domain.is_some() {
            inside.extend(object("87", &[1]));
        }
        object("7f49", &inside)
    }

    fn body(&self, key: &Pair, dated: bool) -> Vec<u8> {
        let mut inside = object("5f29", &[self.profile]);
        inside.extend(object("42", self.issuer.as_bytes()));
        inside.extend(self.key(key));
        inside.extend(object("5f20", self.holder.as_bytes()));
        if dated {
            let role = [object("06", &hex::decode(self.role_of).unwrap()), object("53", self.role)].concat();
            inside.extend(object("7f4c", &role));
            inside.extend(object("5f25", &self.from));
            inside.extend(object("5f24", &self.last));
        }
        inside.extend(&self.more);
        object("7f4e", &inside)
    }

    fn signed(&self, key: &Pair, by: &Pair, dated: bool) -> Vec<u8> {
        let body = self.body(key, dated);
        object(
            "7f21",
            &[object("5f37", &by.sign(&body)), body].iter().rev().flatten().copied().collect::<Vec<_>>(),
        )
    }
}

/// A maker of devices, one of its devices, and a key that was made in it.
struct Maker {
    root: (Pair, Fields),
    issuer: (Pair, Fields),
    device: (Pair, Fields),
    key: Pair,
    request: Fields,
    outer: &'static str,
}

impl Maker {
    /// Brainpool, as CardContact's are: domain parameters at the root alone.
    fn new() -> Self {
        Self::of(Pair::brainpool(11), Pair::brainpool(12), Pair::brainpool(13))
    }

    fn of(root: Pair, issuer: Pair, device: Pair) -> Self {
        let domain = Some(root.domain());
        let key = Pair::p256();
        let request =
            Fields { domain: Some(key.domain()), ..Fields::new("XXCAKEYS00001", "XXKEYS0000001", &[]) };
        Self {
            root: (root, Fields { domain, ..Fields::new("XXSRCATEST00001", "XXSRCATEST00001", &[0xc0]) }),
            issuer: (issuer, Fields::new("XXSRCATEST00001", "XXDICATEST00001", &[0x80])),
            device: (device, Fields::new("XXDICATEST00001", "XXDEVICE00000001", &[0x00])),
            key,
            request,
            outer: "XXDEVICE00000001",
        }
    }

    fn root(&self) -> Vec<u8> {
        self.root.1.signed(&self.root.0, &self.root.0, true)
    }

    fn anchors(&self) -> CardAnchors {
        CardAnchors::new(&[self.root()]).unwrap()
    }

    /// EF.C_DevAut.
    fn chain(&self) -> Vec<u8> {
        let device = self.device.1.signed(&self.device.0, &self.issuer.0, true);
        [device, self.issuer.1.signed(&self.issuer.0, &self.root.0, true)].concat()
    }

    fn request(&self) -> Vec<u8> {
        let inner = self.request.signed(&self.key, &self.key, false);
        let signed = [inner, object("42", self.outer.as_bytes())].concat();
        let signature = object("5f37", &self.device.0.sign(&signed));
        object("67", &[signed, signature].concat())
    }

    fn key(&self) -> PublicKey {
        let spki = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        PublicKey::from_spki(&[hex::decode(spki).unwrap(), self.key.point()].concat()).unwrap()
    }

    fn judged(&self) -> Result<String, String> {
        judge(&[self.request()], &[self.chain()], &self.key(), &self.anchors(), now())
    }
}

#[test]
fn card_contacts_root_is_read_and_verifies_under_its_own_key() {
    let bytes = hex::decode(CARD_CONTACT.trim_end()).unwrap();
    let anchors = CardAnchors::new(std::slice::from_ref(&bytes)).unwrap();
    let [anchor] = &anchors.0[..] else { panic!("one") };
    assert_eq!((anchor.holder.as_str(), anchor.key.curve()), ("DESRCACC100001", Curve::BrainpoolP256r1));
    assert_eq!(anchor.validity.from.to_string(), "2012-11-09T00:00:00Z");
    assert_eq!(anchor.validity.until.to_string(), "2032-11-09T00:00:00Z");
    assert_eq!(anchors.with_digest(&Sha256::digest(&bytes).into()), anchors);
    assert!(anchors.with_digest(&[0; 32]).is_empty());
    // Each byte counts.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(CardAnchors::new(&[changed]).is_err(), "{at}");
    }
    for end in 0..bytes.len() {
        assert!(CardAnchors::new(&[bytes[..end].to_vec()]).is_err(), "{end}");
    }
    assert!(CardAnchors::new(&[[bytes.clone(), vec![0]].concat()]).is_err());
    assert!(CardAnchors::new(&[[bytes.clone(), bytes].concat()]).is_err());
}

#[test]
fn a_key_that_was_made_in_the_device_is_attested_to() {
    let proven = Maker::new().judged().unwrap();
    assert!(proven.contains("XXSRCATEST00001") && proven.contains("XXDEVICE00000001"), "{proven}");
    assert!(proven.contains("DKEK"), "{proven}");
    // P-256, and one below the other with their own parameters.
    Maker::of(Pair::p256(), Pair::p256(), Pair::p256()).judged().unwrap();
    let mut mixed = Maker::of(Pair::p256(), Pair::brainpool(3), Pair::brainpool(4));
    mixed.issuer.1.domain = Some(mixed.issuer.0.domain());
    mixed.judged().unwrap();
    // An empty list of extensions, as CardContact's issuers have it; certificates apart; and what else a token shows.
    let mut maker = Maker::new();
    maker.issuer.1.more = object("65", &[]);
    maker.judged().unwrap();
    let issuer = maker.issuer.1.signed(&maker.issuer.0, &maker.root.0, true);
    let device = maker.device.1.signed(&maker.device.0, &maker.issuer.0, true);
    let (other, key) = (Maker::new().request(), maker.key());
    judge(&[other, maker.request()], &[issuer, device], &key, &maker.anchors(), now()).unwrap();
}

#[test]
fn every_forgery_is_refused_by_its_name() {
    type Change = fn(&mut Maker);
    let rows: &[(Change, &str)] = &[
        (|m| m.key = Pair::p256(), "another key"),
        (|m| m.request.domain = None, "another key"),
        (|m| m.request.domain = Some(Pair::brainpool(1).domain()), "another key"),
        (|m| m.request.more = object("65", &object("73", &[6, 1, 1])), "key domain"),
        (|m| m.outer = "XXDEVICE00000002", "the device XXDEVICE00000002 is not shown"),
        (|m| m.device.1.issuer = "XXDICATEST00002", "the issuer of devices XXDICATEST00002 is not shown"),
        (|m| m.issuer.1.issuer = "XXSRCATEST00002", "the root XXSRCATEST00002 is not trusted here"),
        // Somebody who has a device makes certificates, or an issuer of devices states keys himself.
        (|m| m.device.1.role = &[0x80], "XXDEVICE00000001 is not one of a device: its role is 80"),
        (|m| m.issuer.1.role = &[0x00], "XXDICATEST00001 is not one of an issuer of devices: its role is 00"),
        (|m| m.issuer.1.role = &[0xc0], "not one of an issuer"),
        (|m| m.issuer.1.role = &[0x40], "not one of an issuer"),
        (|m| m.issuer.1.role = &[0x80, 0x00], "authorisation"),
        (|m| m.device.1.role_of = "04007f000703010202", "authorisation"),
        (|m| m.device.1.last = [2, 6, 1, 1, 2, 1], "XXDEVICE00000001 is not valid at"),
        (|m| m.device.1.from = [2, 6, 1, 1, 2, 3], "XXDEVICE00000001 is not valid at"),
        (|m| m.issuer.1.last = [2, 6, 1, 1, 2, 1], "XXDICATEST00001 is not valid at"),
        (|m| m.device.1.from = [2, 4, 1, 3, 0, 1], "a date is none"),
        (|m| m.device.1.from = [2, 4, 0, 1, 3, 10], "a date is none"),
        (|m| m.device.1.profile = 1, "profile identifier"),
        (|m| m.device.1.algorithm = "04007f00070202020204", "an algorithm that is not known"),
        (|m| m.device.1.algorithm = "04007f00070202020201", "an algorithm that is not known"),
        (|m| m.device.1.more = object("65", &object("73", &[6, 1, 1])), "has extensions"),
        (|m| m.device.1.more = object("04", &[]), "left over"),
        (|m| m.device.1.holder = "SHORT", "reference"),
        (|m| m.device.1.domain = Some(Pair::p256().domain()), "does not verify"),
        // A curve of somebody's own: another generator, for which he knows the key.
        (
            |m| {
                let mut domain = Pair::brainpool(1).domain();
                domain[3] = Box::leak(hex::encode(Pair::brainpool(7).point()).into_boxed_str());
                m.device.1.domain = Some(domain);
            },
            "no curve that is known here",
        ),
    ];
    let honest = Maker::new();
    let (key, anchors) = (honest.key(), honest.anchors());
    for (number, (change, what)) in rows.iter().enumerate() {
        let mut maker = Maker::new();
        if number > 0 {
            maker.key = Pair::p256();
        }
        let own = if number > 0 { maker.key() } else { key.clone() };
        change(&mut maker);
        let refused = judge(&[maker.request()], &[maker.chain()], &own, &anchors, now()).unwrap_err();
        assert!(refused.contains(what), "{what}: {refused}");
    }
}

#[test]
fn every_signature_is_verified_under_the_key_above_it() {
    let honest = Maker::new();
    let strange = || Pair::brainpool(99);
    // The certificates are honest, and each signature in turn is by somebody else.
    let device = honest.device.1.signed(&honest.device.0, &honest.issuer.0, true);
    let issuer = honest.issuer.1.signed(&honest.issuer.0, &honest.root.0, true);
    let by_others = [
        (
            honest.device.1.signed(&honest.device.0, &strange(), true),
            issuer.clone(),
            "XXDICATEST00001 on XXDEVICE",
        ),
        (
            device.clone(),
            honest.issuer.1.signed(&honest.issuer.0, &strange(), true),
            "XXSRCATEST00001 on XXDICA",
        ),
        // His own device under an honest name, and his own issuer.
        (
            honest.device.1.signed(&strange(), &honest.issuer.0, true),
            issuer.clone(),
            "XXDEVICE00000001 on the request",
        ),
        (
            device.clone(),
            honest.issuer.1.signed(&strange(), &honest.root.0, true),
            "XXDICATEST00001 on XXDEVICE",
        ),
    ];
    for (device, issuer, what) in by_others {
        let refused = judge(&[honest.request()], &[device, issuer], &honest.key(), &honest.anchors(), now());
        let refused = refused.unwrap_err();
        assert!(refused.contains(what) && refused.contains("does not verify"), "{what}: {refused}");
    }
    // A root of the same name.
    let mut other = Maker::new();
    other.root.0 = strange();
    let refused = judge(&[honest.request()], &[honest.chain()], &honest.key(), &other.anchors(), now());
    assert!(refused.unwrap_err().contains("XXSRCATEST00001 on XXDICATEST00001"));
    let nobody = CardAnchors::default();
    let refused = judge(&[honest.request()], &[honest.chain()], &honest.key(), &nobody, now());
    assert!(refused.unwrap_err().contains("is not trusted here"));
    // No byte of the request or of the chain can be another.
    let honest = Maker::of(Pair::p256(), Pair::p256(), Pair::p256());
    let (request, chain) = (honest.request(), honest.chain());
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 0x01;
        let judged = judge(&[changed], std::slice::from_ref(&chain), &honest.key(), &honest.anchors(), now());
        assert!(judged.is_err(), "byte {at} of the request");
    }
    for at in 0..chain.len() {
        let mut changed = chain.clone();
        changed[at] ^= 0x01;
        let judged =
            judge(std::slice::from_ref(&request), &[changed], &honest.key(), &honest.anchors(), now());
        assert!(judged.is_err(), "byte {at} of the chain");
    }
}

#[test]
fn roots_that_are_none_are_no_anchors() {
    type Change = fn(&mut Maker);
    let rows: &[(Change, &str)] = &[
        (|m| m.root.1.role = &[0x80], "not one of a root"),
        (|m| m.root.1.issuer = "XXSRCATEST00002", "was issued by"),
        (|m| m.root.1.domain = None, "domain parameters are missing"),
        (|m| m.root.1.domain = Some(Pair::p256().domain()), "does not verify under its own key"),
        (|m| m.root.1.more = object("65", &[1]), "extensions"),
    ];
    for (change, what) in rows {
        let mut maker = Maker::new();
        change(&mut maker);
        let refused = CardAnchors::new(&[maker.root()]).unwrap_err().to_string();
        assert!(refused.contains(what), "{what}: {refused}");
    }
    let maker = Maker::new();
    let by_another = maker.root.1.signed(&maker.root.0, &Pair::brainpool(5), true);
    assert!(CardAnchors::new(&[by_another]).unwrap_err().to_string().contains("does not verify"));
    // An anchor whose time is over proves nothing.
    let mut late = Maker::new();
    late.root.1.last = [2, 6, 1, 1, 2, 1];
    assert!(late.judged().unwrap_err().contains("XXSRCATEST00001 is not valid"));
}

#[test]
fn a_token_that_shows_too_much_is_not_looked_at() {
    let maker = Maker::new();
    let refusal = |requests: usize, pieces: usize| {
        let (requests, pieces) = (vec![maker.request(); requests], vec![maker.chain(); pieces]);
        judge(&requests, &pieces, &maker.key(), &maker.anchors(), now()).unwrap_err()
    };
    assert!(refusal(9, 1).contains("more than 8"));
    assert!(refusal(1, 9).contains("more than 8"));
    assert!(refusal(1, 5).contains("more than 8"));
    assert!(refusal(0, 1).contains("missing"));
    assert!(refusal(1, 0).contains("is not shown"));
    let long = object("67", &[0; 3000]);
    let refused = judge(&[long], &[maker.chain()], &maker.key(), &maker.anchors(), now()).unwrap_err();
    assert!(refused.contains("longer than 2048"), "{refused}");
    let five = [maker.chain(), maker.chain(), maker.chain()].concat();
    let refused = judge(&[maker.request()], &[five], &maker.key(), &maker.anchors(), now()).unwrap_err();
    assert!(refused.contains("more than 4"), "{refused}");
}

#[test]
fn an_rsa_key_is_attested_to_by_its_numbers() {
    let spki = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let key = PublicKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(&spki)).unwrap();
    let Numbers::Rsa { n, e } = key.numbers() else { panic!("RSA") };
    let maker = Maker::new();
    let request = |n: &[u8], e: &[u8]| {
        let algorithm = hex::decode("04007f00070202020102").unwrap();
        let numbers = [object("06", &algorithm), object("81", n), object("82", e)].concat();
        let body = [
            object("5f29", &[0]),
            object("42", b"XXCAKEYS00001"),
            object("7f49", &numbers),
            object("5f20", b"XXKEYS0000001"),
        ]
        .concat();
        let inner = object("7f21", &[object("7f4e", &body), object("5f37", &[0; 256])].concat());
        let signed = [inner, object("42", maker.outer.as_bytes())].concat();
        object("67", &[signed.clone(), object("5f37", &maker.device.0.sign(&signed))].concat())
    };
    let judged = |request: Vec<u8>| judge(&[request], &[maker.chain()], &key, &maker.anchors(), now());
    judged(request(n, e)).unwrap();
    let mut other = n.to_vec();
    other[5] ^= 1;
    assert!(judged(request(&other, e)).unwrap_err().contains("another key"));
    assert!(judged(request(n, &[3])).unwrap_err().contains("another key"));
}

/// The whole evidence of a token whose module calls itself so.
fn graded(maker: &Maker, module: &str, format: &str, change: impl Fn(&mut serde_json::Value)) -> Custody {
    let mut evidence = serde_json::json!({
        "module": {"manufacturer": module, "description": "SmartCard-HSM", "version": "2.12"},
        "token": {"label": "ca", "manufacturer": module, "model": "HSM", "serial": "4711", "hardware": "2.4", "firmware": "4.1"},
        "key": {
            "label": "ca", "id": "01", "spki": hex::encode(maker.key().spki()), "sensitive": true,
            "always_sensitive": true, "extractable": false, "never_extractable": true, "local": true,
        },
        "card_verifiable": {"requests": [hex::encode(maker.request())], "certificates": [hex::encode(maker.chain())]},
    });
    change(&mut evidence);
    let trust = Trust { cards: maker.anchors(), ..Trust::default() };
    crate::custody::judge(format, evidence.to_string().as_bytes(), &maker.key(), &trust, now())
}

#[test]
fn evidence_is_proven_to_who_names_the_root_and_never_for_software_or_keys_that_may_leave() {
    let (maker, format) = (Maker::new(), "smartcard-hsm-v1");
    let grade = |module: &str, format: &str, change: fn(&mut serde_json::Value)| {
        graded(&maker, module, format, change).grade
    };
    assert_eq!(grade("CardContact", format, |_| ()), Grade::Proven);
    assert_eq!(grade("SoftHSM", format, |_| ()), Grade::Software);
    assert_eq!(grade("CardContact", "pkcs11-attributes-v1", |_| ()), Grade::Unknown);
    let without = |evidence: &mut serde_json::Value| {
        evidence.as_object_mut().unwrap().remove("card_verifiable");
    };
    assert_eq!(graded(&maker, "CardContact", format, without).grade, Grade::Unknown);
    for (member, value) in [("extractable", true), ("never_extractable", false), ("local", false)] {
        let change = |evidence: &mut serde_json::Value| evidence["key"][member] = value.into();
        assert_eq!(graded(&maker, "CardContact", format, change).grade, Grade::Unknown, "{member}");
    }
    for (member, what) in [("requests", "request"), ("certificates", "is not shown")] {
        let change = |evidence: &mut serde_json::Value| {
            evidence["card_verifiable"][member] = serde_json::json!([]);
        };
        let poor = graded(&maker, "CardContact", format, change);
        assert_eq!(poor.grade, Grade::Declared);
        assert!(poor.findings.iter().any(|finding| finding.contains(what)), "{poor:?}");
    }
    let evidence =
        graded(&Maker { outer: "XXDEVICE00000009", ..Maker::new() }, "CardContact", format, |_| ());
    assert_eq!(evidence.grade, Grade::Declared);
}

/// On P-256, since brainpool is slow without optimisation.
static HONEST: LazyLock<(Vec<u8>, Vec<u8>, PublicKey, CardAnchors)> = LazyLock::new(|| {
    let maker = Maker::of(Pair::p256(), Pair::p256(), Pair::p256());
    (maker.request(), maker.chain(), maker.key(), maker.anchors())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn arbitrary_bytes_prove_nothing_and_never_panic(
        request in proptest::collection::vec(any::<u8>(), 0..200),
        chain in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..900, with in any::<u8>(),
    ) {
        let (honest, honest_chain, key, anchors) = &*HONEST;
        let certificates = std::slice::from_ref(honest_chain);
        prop_assert!(judge(&[request], certificates, key, anchors, now()).is_err());
        prop_assert!(judge(std::slice::from_ref(honest), &[chain], key, anchors, now()).is_err());
        let mut changed = honest.clone();
        let at = at % changed.len();
        let same = changed[at] == with;
        changed[at] = with;
        prop_assert_eq!(judge(&[changed], certificates, key, anchors, now()).is_ok(), same);
    }
}
