//! What the fuzz targets share: keys, an installation, and what stands around the part that is foreign.

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use undercroft_attestors::chain::Certificate;
use undercroft_ca::approval::{PersonConfig, Roster, RosterConfig};
use undercroft_ca::csr::Csr;
use undercroft_ca::names::{TrustDomain, parse_trust_domain};
use undercroft_ca::policy::{Known, Request};
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::serial::SerialNumber;
use undercroft_keys::PublicKey;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::leaf::Leaf;
use undercroft_log::note::VerifierKey;

/// The key of swtpm whose public area and evidence are among the seeds.
pub static TPM_KEY: LazyLock<PublicKey> = LazyLock::new(|| {
    let point = include_bytes!("../corpus/tpm_public/swtpm-p256");
    undercroft_tpm_wire::PublicArea::parse(point).unwrap().public_key().unwrap()
});

/// The key of the log in C2SP's examples, whose checkpoints and proofs are among the seeds.
pub static LOG_KEY: LazyLock<VerifierKey> =
    LazyLock::new(|| include_str!("../corpus/vkey/c2sp").trim_end().parse().unwrap());

/// Its checkpoint, cosigned.
pub const COSIGNED: &str = include_str!("../corpus/note/c2sp");

/// The key of the witness that has cosigned it.
pub static WITNESS_KEY: LazyLock<WitnessKey> =
    LazyLock::new(|| include_str!("../corpus/witness_key/c2sp").trim_end().parse().unwrap());

/// A serial number.
pub static SERIAL: LazyLock<SerialNumber> = LazyLock::new(|| SerialNumber::from_bytes([1; 16]).unwrap());

/// A sound request that wishes for nothing.
pub static CSR: LazyLock<Csr> = LazyLock::new(|| Csr::from_der(&request(&[])).unwrap());

/// Persons who have signed the seeds of approvals: one with each kind of key that OpenSSH makes without a device.
pub static ROSTER: LazyLock<Roster> = LazyLock::new(|| {
    let keys = include_str!("../corpus/approval-keys").lines().map(str::to_owned).collect();
    let persons = vec![PersonConfig { name: "alice".to_owned(), keys }];
    Roster::new(RosterConfig { quorum: 1, persons }).unwrap()
});

/// A key that signs what a target wants to be signed, and its name.
pub static EXCHANGE_KEY: LazyLock<VerifierKey> = LazyLock::new(|| {
    let key = PublicKey::from_ed25519(PAIR.public_key().as_ref()).unwrap();
    VerifierKey::new("ca.example/undercroft/control/1".parse().unwrap(), key).unwrap()
});

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// Signs something with the key of these targets.
pub fn sign(message: &[u8]) -> Vec<u8> {
    PAIR.sign(message).as_ref().to_vec()
}

/// A maker of TPMs, whose key is that of these targets.
pub static MAKER: LazyLock<Certificate> =
    LazyLock::new(|| Certificate::from_der(include_bytes!("../corpus/maker")).unwrap());

/// A time before the maker.
pub const PAST: Timestamp = Timestamp::UNIX_EPOCH;

/// A certificate or a list of these to-be-signed bytes, signed by the maker.
pub fn signed(tbs: &[u8]) -> Vec<u8> {
    let signature = tlv(0x03, &[&[0], PAIR.sign(tbs).as_ref()].concat());
    tlv(0x30, &[tbs, undercroft_keys::SignatureAlgorithm::Ed25519.der(), &signature].concat())
}

/// What an installation knows.
pub fn known() -> Known<'static> {
    static DOMAINS: LazyLock<[TrustDomain; 3]> = LazyLock::new(|| {
        ["control.example", "prod.example", "edge.example"].map(|name| parse_trust_domain(name).unwrap())
    });
    static PROFILES: LazyLock<[Profile; 8]> = LazyLock::new(|| Kind::ALL.map(Profile::standard));
    Known { domains: &*DOMAINS, profiles: &*PROFILES }
}

/// A request for an SVID of prod.example.
pub fn request_for(spiffe_id: &str) -> Request<'_> {
    Request {
        domain: "prod.example",
        profile: "svid",
        spiffe_id,
        dns_names: &[],
        lifetime: None,
        public_key: CSR.public_key(),
        wishes: CSR.wishes(),
    }
}

/// An entry with the envelope of `leaf` and that body, as the sequencer stamps it.
pub fn entry(leaf: &Leaf, body: &str) -> String {
    let Leaf { origin, index, time, sequence, .. } = leaf;
    let origin = serde_json::Value::from(origin.as_str());
    let sequence = sequence.map_or(String::new(), |sequence| format!(r#""sequence":{sequence},"#));
    let kind = leaf.body.kind();
    format!(
        r#"{{"v":1,"origin":{origin},"index":{index},"time":"{time}","kind":"{kind}",{sequence}"body":{body}}}"#
    )
}

/// A request with these attributes (the content of its `[0]`, RFC 2986 section 4.1), signed: what reads attributes does
/// so behind the signature, where no mutation would ever come.
pub fn request(attributes: &[u8]) -> Vec<u8> {
    let spki = PublicKey::from_ed25519(PAIR.public_key().as_ref()).unwrap();
    let info = tlv(0x30, &[&[0x02, 0x01, 0x00, 0x30, 0x00], spki.spki(), &tlv(0xa0, attributes)].concat());
    let signature = tlv(0x03, &[&[0x00], PAIR.sign(&info).as_ref()].concat());
    let algorithm = undercroft_keys::SignatureAlgorithm::Ed25519.der();
    tlv(0x30, &[&info, algorithm, &signature].concat())
}

/// DER: tag, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let header = match value.len() {
        0..=0x7f => vec![tag, length[3]],
        0x80..=0xff => vec![tag, 0x81, length[3]],
        0x100..=0xffff => vec![tag, 0x82, length[2], length[3]],
        _ => vec![tag, 0x83, length[1], length[2], length[3]],
    };
    [&header, value].concat()
}
