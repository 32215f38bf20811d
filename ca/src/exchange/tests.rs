use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use futures::executor::block_on;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyUsagePurpose, PublicKeyData as _};
use undercroft_keys::PublicKey;
use undercroft_log::checkpoint::{Checkpoint, SigningError};
use undercroft_log::tree::Hash;

use super::*;
use crate::certificate::AuthorityCertificate;

const CONTROL: &str = "ca.example/undercroft/control/1";
const CEREMONY: &str = "ca.example/undercroft/ceremony/first/1";
const REHEARSAL: &str = "ca.example/undercroft/rehearsal/first/1";

/// A key that signs files under a name.
struct Signer(VerifierKey, Ed25519KeyPair);

impl Signer {
    fn new(name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
        Self(VerifierKey::new(name.parse().unwrap(), key).unwrap(), pair)
    }

    fn seal(&self, message: &Message) -> String {
        block_on(message.seal(self)).unwrap()
    }

    fn checkpoint(&self) -> Vec<u8> {
        let text = Checkpoint { origin: self.0.name().clone(), size: 0, root: Hash::empty_root() }.text();
        format!("{text}\n{}", self.0.line(self.1.sign(text.as_bytes()).as_ref())).into_bytes()
    }
}

#[async_trait]
impl CheckpointSigner for Signer {
    fn key(&self) -> &VerifierKey {
        &self.0
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Ok(self.1.sign(message).as_ref().to_vec())
    }
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn part(name: &str, kind: Kind, bytes: &[u8]) -> Part {
    Part { name: name.parse().unwrap(), kind, bytes: bytes.to_vec() }
}

fn terms() -> Terms {
    Terms {
        origin: CONTROL.parse().unwrap(),
        policy: Digest::of(b"policy"),
        plan: Some(Digest::of(b"plan")),
        nonce: [7; 16],
        created: at("2026-11-22T10:00:00Z"),
        expires: at("2026-12-06T10:00:00Z"),
        answers: None,
    }
}

fn request() -> Message {
    let parts = vec![
        part("prod.example/intermediate.custody.json", Kind::Custody, b"{}"),
        part("checkpoint", Kind::Checkpoint, b"not looked at"),
    ];
    Message::new(terms(), parts).unwrap()
}

fn open(file: &str, key: &VerifierKey, edit: impl Fn(&mut Expected<'_>)) -> Result<Opened, Refusal> {
    let origin: KeyName = CONTROL.parse().unwrap();
    let mut expected = Expected {
        origin: &origin,
        policy: Digest::of(b"policy"),
        plan: Some(Digest::of(b"plan")),
        now: at("2026-11-23T00:00:00Z"),
    };
    edit(&mut expected);
    Opened::open(file.as_bytes(), Direction::Request, key, &expected)
}

#[test]
fn a_request_is_opened_as_it_was_made() {
    let signer = Signer::new(CONTROL, 1);
    let file = signer.seal(&request());
    let opened = open(&file, &signer.0, |_| {}).unwrap();
    assert_eq!((opened.message(), opened.digest()), (&request(), Digest::of(file.as_bytes())));
    // A request without a plan is for any; a little is allowed to clocks; the last second counts.
    let without = Message::new(Terms { plan: None, ..terms() }, request().parts().to_vec()).unwrap();
    open(&signer.seal(&without), &signer.0, |_| {}).unwrap();
    open(&file, &signer.0, |expected| expected.plan = None).unwrap();
    open(&file, &signer.0, |expected| expected.now = at("2026-11-22T09:59:00Z")).unwrap();
    open(&file, &signer.0, |expected| expected.now = at("2026-12-06T10:00:00Z")).unwrap();
}

#[test]
fn what_is_not_expected_is_refused_by_name() {
    let signer = Signer::new(CONTROL, 1);
    let good = signer.seal(&request());
    let refused = |edit: &dyn Fn(&mut Expected<'_>)| open(&good, &signer.0, edit).unwrap_err().name();
    assert_eq!(refused(&|expected| expected.now = at("2026-12-06T10:00:01Z")), "expired");
    assert_eq!(refused(&|expected| expected.now = at("2026-11-22T09:58:59Z")), "clock-before-created");
    assert_eq!(refused(&|expected| expected.policy = Digest::of(b"another")), "other-policy");
    assert_eq!(refused(&|expected| expected.plan = Some(Digest::of(b"another"))), "other-plan");
    let other: KeyName = "ca.other/undercroft/control/1".parse().unwrap();
    let expected = Expected {
        origin: &other,
        policy: Digest::of(b"policy"),
        plan: None,
        now: at("2026-11-23T00:00:00Z"),
    };
    let opened = Opened::open(good.as_bytes(), Direction::Request, &signer.0, &expected);
    assert_eq!(opened.unwrap_err().name(), "other-origin");
    // A key signs for its own installation alone.
    let foreign = Signer::new("ca.other/undercroft/control/1", 1);
    let refused = open(&foreign.seal(&request()), &foreign.0, |_| {}).unwrap_err();
    assert_eq!(refused.name(), "other-origin");
    // Another key, under the same name and under another.
    for (name, seed) in [(CONTROL, 2), ("ca.other/undercroft/control/1", 1)] {
        let refused = open(&good, &Signer::new(name, seed).0, |_| {}).unwrap_err();
        assert_eq!(refused.name(), "not-signed", "{refused}");
    }
    let as_response = Opened::open(
        good.as_bytes(),
        Direction::Response,
        &signer.0,
        &Expected { origin: &other, ..expected },
    );
    assert_eq!(as_response.unwrap_err().name(), "unknown-version");
}

/// The file again, with its text edited and signed by the right key: what another program of ours could make.
fn signed_again(signer: &Signer, edit: impl Fn(&str) -> String) -> String {
    let file = signer.seal(&request());
    let (text, rest) = file.split_once("\n\n").unwrap();
    let (_, parts) = rest.split_once("\n\n").unwrap();
    let text = edit(&format!("{text}\n"));
    format!("{text}\n{}\n{parts}", signer.0.line(signer.1.sign(text.as_bytes()).as_ref()))
}

#[test]
fn what_a_right_key_signs_must_still_be_a_request() {
    let signer = Signer::new(CONTROL, 1);
    let open = |file: &str| open(file, &signer.0, |_| {}).map(drop);
    open(&signed_again(&signer, str::to_owned)).unwrap();
    for (from, to, name) in [
        ("undercroft-request-v1", "undercroft-request-v2", "unknown-version"),
        ("undercroft-request-v1", "undercroft-response-v1", "unknown-version"),
        ("  \"policy\"", "  \"purpose\": \"x\",\n  \"policy\"", "unknown-member"),
        ("\"kind\": \"custody\"", "\"kind\": \"custody\", \"mode\": 7", "unknown-member"),
        ("\"kind\": \"custody\"", "\"kind\": \"executable\"", "unknown-member"),
        ("\"kind\": \"custody\"", "\"kind\": \"certificate\"", "malformed"),
        ("\"kind\": \"custody\"", "\"kind\": \"custody\", \"kind\": \"csr\"", "malformed"),
        ("prod.example/intermediate", "../intermediate", "malformed"),
        ("prod.example/intermediate", "/etc/intermediate", "malformed"),
        ("prod.example/intermediate", "prod.example//intermediate", "malformed"),
        ("prod.example/intermediate", "prod.example/.intermediate", "malformed"),
        (
            "\"checkpoint\",\n      \"kind\"",
            "\"PROD.example/intermediate.custody.json\",\n      \"kind\"",
            "malformed",
        ),
        ("\"length\": 2", "\"length\": 3", "altered"),
        ("\"length\": 2", "\"length\": -2", "malformed"),
        ("\"nonce\": \"07", "\"nonce\": \"7", "malformed"),
        ("2026-12-06", "2026-11-06", "malformed"),
        ("2026-12-06", "2027-12-06", "malformed"),
        ("\"created\": \"2026-11-22T10:00:00Z\"", "\"created\": 7", "malformed"),
        (CONTROL, "not a name", "malformed"),
        (CONTROL, "ca.example/undercroft/control/2", "other-origin"),
        ("}\n", "} {}\n", "malformed"),
    ] {
        let edited = signed_again(&signer, |text| {
            assert!(text.contains(from), "{from}");
            let at = text.rfind(from).filter(|_| from == "}\n").unwrap_or(text.find(from).unwrap());
            format!("{}{to}{}", &text[..at], &text[at + from.len()..])
        });
        let refused = open(&edited).unwrap_err();
        assert_eq!(refused.name(), name, "{from} -> {to}: {refused}");
    }
}

#[test]
fn a_file_that_was_changed_by_a_byte_is_refused() {
    let signer = Signer::new(CONTROL, 1);
    let file = signer.seal(&request());
    for position in 0..file.len() {
        for bit in [0x01, 0x20] {
            let mut changed = file.clone().into_bytes();
            changed[position] ^= bit;
            let expected = |changed: &[u8]| match std::str::from_utf8(changed) {
                Ok(text) => open(text, &signer.0, |_| {}).map(drop),
                Err(_) => Err(Refusal::Malformed(String::new())),
            };
            assert!(expected(&changed).is_err(), "byte {position}: {:?}", char::from(changed[position]));
        }
    }
}

#[test]
fn a_file_that_ends_early_or_late_is_refused() {
    let signer = Signer::new(CONTROL, 1);
    let file = signer.seal(&request());
    for length in (0..file.len()).filter(|length| file.is_char_boundary(*length)) {
        let refused = open(&file[..length], &signer.0, |_| {}).unwrap_err();
        assert!(["truncated", "altered"].contains(&refused.name()), "the first {length} bytes: {refused}");
    }
    let refused = open(file.trim_end(), &signer.0, |_| {}).unwrap_err();
    assert_eq!(refused.name(), "truncated");
    for more in ["\n", "AAAA\n", "x"] {
        assert!(open(&format!("{file}{more}"), &signer.0, |_| {}).is_err(), "{more:?}");
    }
    let signature = file.lines().find(|line| line.starts_with('\u{2014}')).unwrap();
    let twice = file.replace(signature, &format!("{signature}\n{signature}"));
    assert_eq!(open(&twice, &signer.0, |_| {}).unwrap_err().name(), "malformed");
    let large = format!("{file}{}", "A".repeat(MAX_BYTES));
    assert_eq!(open(&large, &signer.0, |_| {}).unwrap_err().name(), "too-large");
    let crlf = file.replace('\n', "\r\n");
    assert_eq!(open(&crlf, &signer.0, |_| {}).unwrap_err().name(), "unknown-version");
}

#[test]
fn messages_that_contradict_themselves_are_none() {
    let custody = || part("a.custody.json", Kind::Custody, b"{}");
    let answers = Answers { request: Digest::of(b"r"), ceremony: CEREMONY.parse().unwrap() };
    let answers = || Terms { answers: Some(answers.clone()), ..terms() };
    for (terms, parts, what) in [
        (terms(), vec![], "0 parts"),
        (terms(), vec![part("a.csr.pem", Kind::Csr, b"")], "is empty"),
        (terms(), vec![custody(), custody()], "stands twice"),
        (terms(), vec![custody(), part("A.custody.JSON", Kind::Custody, b"{}")], "stands twice"),
        (terms(), vec![part("a.pem", Kind::Certificate, b"x")], "the other way"),
        (answers(), vec![custody()], "the other way"),
        (Terms { expires: terms().created, ..terms() }, vec![custody()], "good for 90d"),
        (Terms { expires: at("2027-02-20T10:00:01Z"), ..terms() }, vec![custody()], "good for 90d"),
    ] {
        let refused = Message::new(terms, parts).unwrap_err().to_string();
        assert!(refused.contains(what), "{what}: {refused}");
    }
    let many = (0..=MAX_PARTS).map(|n| part(&format!("{n}"), Kind::Custody, b"{}")).collect();
    assert!(Message::new(terms(), many).is_err());
}

#[test]
fn a_token_that_signs_wrongly_makes_no_file() {
    struct Wrong(Signer);
    #[async_trait]
    impl CheckpointSigner for Wrong {
        fn key(&self) -> &VerifierKey {
            &self.0.0
        }

        async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SigningError> {
            Ok(vec![0; 64])
        }
    }
    let refused = block_on(request().seal(&Wrong(Signer::new(CONTROL, 1)))).unwrap_err().to_string();
    assert!(refused.contains("cannot be made"), "{refused}");
}

/// A root and what it signs, by rcgen.
struct Root {
    issuer: Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    params
}

impl Root {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = params(name, true);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn signs(&self, name: &str, key: &rcgen::KeyPair) -> String {
        params(name, true).signed_by(key, &self.issuer).unwrap().pem()
    }

    fn crl(&self) -> Vec<u8> {
        let crl = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 11, 22),
            next_update: rcgen::date_time_ymd(2027, 5, 22),
            crl_number: 7_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        crl.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    fn certificate(&self) -> AuthorityCertificate {
        AuthorityCertificate::from_pem(&self.pem).unwrap()
    }
}

/// An installation that has asked for an intermediate, and the ceremony that answers it.
struct Story {
    asked: Asked,
    ceremony: Signer,
    root: Root,
    intermediate: rcgen::KeyPair,
}

impl Story {
    fn new() -> Self {
        let intermediate = rcgen::KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&intermediate).unwrap().pem().unwrap();
        let request = Message::new(terms(), vec![part("p/i.csr.pem", Kind::Csr, csr.as_bytes())]).unwrap();
        let file = Signer::new(CONTROL, 1).seal(&request);
        let asked = Asked::of(&request, Digest::of(file.as_bytes())).unwrap();
        let written = serde_json::to_string(&asked).unwrap();
        assert_eq!(serde_json::from_str::<Asked>(&written).unwrap(), asked);
        Self { asked, ceremony: Signer::new(CEREMONY, 3), root: Root::new("Root"), intermediate }
    }

    fn parts(&self) -> Vec<Part> {
        vec![
            part("p/root.pem", Kind::Certificate, self.root.pem.as_bytes()),
            part("p/i.pem", Kind::Certificate, self.root.signs("I1", &self.intermediate).as_bytes()),
            part("p/root.crl", Kind::Crl, &self.root.crl()),
            part("transcript/checkpoint", Kind::Checkpoint, &self.ceremony.checkpoint()),
        ]
    }

    fn terms(&self) -> Terms {
        let answers = Answers { request: self.asked.request, ceremony: self.ceremony.0.name().clone() };
        Terms { nonce: [8; 16], answers: Some(answers), ..terms() }
    }

    fn judge(
        &self,
        terms: Terms,
        parts: Vec<Part>,
        installed: &[AuthorityCertificate],
    ) -> Result<Response, Refusal> {
        let file = self.ceremony.seal(&Message::new(terms, parts)?);
        let origin: KeyName = CONTROL.parse().unwrap();
        let expected = Expected {
            origin: &origin,
            policy: Digest::of(b"policy"),
            plan: None,
            now: at("2026-11-23T00:00:00Z"),
        };
        let opened = Opened::open(file.as_bytes(), Direction::Response, &self.ceremony.0, &expected)?;
        Response::judge(opened, &self.asked, &self.ceremony.0, installed)
    }
}

#[test]
fn a_response_shows_what_it_changes() {
    let story = Story::new();
    let response = story.judge(story.terms(), story.parts(), &[]).unwrap();
    assert_eq!(response.rehearsal(), None);
    let nothing = |_: &PartName| Ok::<_, ()>(None);
    let difference = Difference::new(&response, &[], nothing).unwrap();
    assert!(difference.files.iter().all(|file| file.state == State::New) && !difference.is_empty());
    assert_eq!((difference.roots_added.len(), difference.roots_removed.len()), (1, 0));
    assert!(difference.roots_added[0].contains("Root"), "{difference:?}");
    let says = |name: &str| {
        let file = difference.files.iter().find(|file| file.name.as_str() == name).unwrap();
        file.says.join("\n")
    };
    assert!(says("p/root.pem").contains("itself: a root"));
    let key = PublicKey::from_spki(&story.intermediate.subject_public_key_info()).unwrap();
    let intermediate = says("p/i.pem");
    assert!(intermediate.contains("I1") && intermediate.contains(&key.id().to_string()), "{intermediate}");
    assert!(says("p/root.crl").contains("number 7, 0 revoked"));

    // Beside the same files, and beside another root in the place of this one.
    let same = |name: &PartName| {
        let part = story_part(&response, name);
        Ok::<_, ()>(Some(part.bytes.clone()))
    };
    let installed = [story.root.certificate()];
    let difference = Difference::new(&response, &installed, same).unwrap();
    assert!(difference.is_empty() && difference.roots_added.is_empty());
    let old = Root::new("Old Root");
    let other =
        |name: &PartName| Ok::<_, ()>((name.as_str() == "p/root.pem").then(|| old.pem.clone().into_bytes()));
    let difference = Difference::new(&response, &[old.certificate()], other).unwrap();
    assert_eq!(difference.files[0].state, State::Changed);
    assert!(difference.roots_removed[0].contains("Old Root"), "{difference:?}");
    assert_eq!(difference.roots_added.len(), 1);
}

fn story_part<'a>(response: &'a Response, name: &PartName) -> &'a Part {
    response.opened().message().parts().iter().find(|part| part.name == *name).unwrap()
}

#[test]
fn a_response_that_does_not_answer_is_refused_by_name() {
    let story = Story::new();
    let stranger = Root::new("Stranger");
    let another_key = rcgen::KeyPair::generate().unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut parts = story.parts();
        parts[at].bytes = bytes.to_vec();
        parts
    };
    let answers = |request: &[u8], ceremony: &str| Terms {
        answers: Some(Answers { request: Digest::of(request), ceremony: ceremony.parse().unwrap() }),
        ..story.terms()
    };
    let foreign = Terms { origin: "ca.other/undercroft/control/1".parse().unwrap(), ..story.terms() };
    let mut two = story.parts();
    two.push(part("checkpoint", Kind::Checkpoint, &story.ceremony.checkpoint()));
    let without_root = story.parts().split_off(1);
    let foreign_checkpoint = Signer::new(CEREMONY, 4).checkpoint();
    for (terms, parts, name) in [
        (answers(b"another", CEREMONY), story.parts(), "other-request"),
        (Terms { plan: Some(Digest::of(b"another")), ..story.terms() }, story.parts(), "other-plan"),
        (Terms { policy: Digest::of(b"another"), ..story.terms() }, story.parts(), "other-policy"),
        (foreign, story.parts(), "other-origin"),
        (story.terms(), with(1, stranger.signs("I1", &story.intermediate).as_bytes()), "other-root"),
        (story.terms(), without_root, "other-root"),
        (story.terms(), with(2, &stranger.crl()), "other-root"),
        (story.terms(), with(1, story.root.signs("I1", &another_key).as_bytes()), "other-request"),
        (story.terms(), with(1, b"no certificate"), "malformed"),
        (story.terms(), with(1, story.root.pem.repeat(2).as_bytes()), "malformed"),
        (story.terms(), with(2, b"no CRL"), "malformed"),
        (story.terms(), with(2, &[story.root.crl(), vec![0]].concat()), "malformed"),
        (story.terms(), with(3, &foreign_checkpoint), "malformed"),
        (story.terms(), story.parts().split_off(3), "ok"),
        (story.terms(), story.parts()[..3].to_vec(), "malformed"),
        (story.terms(), two, "malformed"),
    ] {
        let judged = story.judge(terms, parts, &[]);
        assert_eq!(judged.as_ref().err().map_or("ok", Refusal::name), name, "{judged:?}");
    }
    // What the installation has already vouches, too; and a root may be certified by another.
    let without_root = story.parts().split_off(1);
    story.judge(story.terms(), without_root, &[story.root.certificate()]).unwrap();
    let old = Root::new("Old Root");
    let cross = old.signs("Root", story.root.issuer.key());
    story.judge(story.terms(), with(1, cross.as_bytes()), &[old.certificate()]).unwrap();
}

#[test]
fn what_a_rehearsal_made_says_so() {
    let mut story = Story::new();
    story.ceremony = Signer::new(REHEARSAL, 3);
    let response = story.judge(story.terms(), story.parts(), &[]).unwrap();
    assert_eq!(response.rehearsal().unwrap().as_str(), REHEARSAL);
    for (origin, name) in [
        ("ca.example/undercroft/control/1", "other-origin"),
        ("ca.example/undercroft/prod.example/1", "other-origin"),
        ("ca.example/undercroft/ceremony/first/2", "other-origin"),
        ("ca.example/other/ceremony/first/1", "other-origin"),
        ("ca.other/undercroft/ceremony/first/1", "other-origin"),
    ] {
        story.ceremony = Signer::new(origin, 3);
        let refused = story.judge(story.terms(), story.parts(), &[]).unwrap_err();
        assert_eq!(refused.name(), name, "{origin}: {refused}");
    }
}

fn any_part() -> impl Strategy<Value = (String, Vec<u8>)> {
    ("[a-z0-9]{1,8}(/[a-z0-9_-]{1,8}){0,2}", proptest::collection::vec(any::<u8>(), 1..200))
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(parts in proptest::collection::vec(any_part(), 1..8), nonce: [u8; 16]) {
        let signer = Signer::new(CONTROL, 1);
        let parts: BTreeMap<_, _> = parts.into_iter().collect();
        let parts = parts.iter().map(|(name, bytes)| part(name, Kind::Custody, bytes)).collect();
        let message = Message::new(Terms { nonce, ..terms() }, parts).unwrap();
        let opened = open(&signer.seal(&message), &signer.0, |_| {}).unwrap();
        prop_assert_eq!(opened.message(), &message);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(undercroft-request-v1\n)?(\\PC|\n){0,300}") {
        let opened = open(&text, &Signer::new(CONTROL, 1).0, |_| {});
        prop_assert!(opened.is_err());
    }

    #[test]
    fn names_lead_nowhere_else(text in "[a-zA-Z0-9./_\\\\ -]{0,20}") {
        if let Ok(name) = text.parse::<PartName>() {
            let path = std::path::Path::new(name.as_str());
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }
}
