//! Nodes that attest: one exchange, one certificate; one TPM, one node; and everything in the log. Evidence is made on swtpm.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use undercroft_attestors::exchange::{
    self, Answer, Challenge, Hello, Signed, TpmAnswer, TpmHello, Wanted, transcript,
};
use undercroft_attestors::tpm::node::Purpose;
use undercroft_ca::csr;
use undercroft_ca::nodes::{NodePolicy, Record, appraise};
use undercroft_ca::serial::{Entropy, NoEntropy};
use undercroft_ca::service::{AttestedNode, CertificateAuthority, ServiceError};
use undercroft_keymgr::EndorsementKey;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::{
    Base64Bytes, Body, Caller, Channel, Digest, Freezable, RefusedAction, Verdict, VerdictResult,
};
use undercroft_tpm::{NodeKey, NodeTpm, Statement};

use crate::rig::{Options, Rig};

/// The exporter of a connection.
const HERE: [u8; 32] = [7; 32];
/// Of another.
const THERE: [u8; 32] = [8; 32];

/// A node with a TPM of its own.
struct Node {
    swtpm: Swtpm,
    _running: RunningSwtpm,
    _folder: tempfile::TempDir,
    tpm: NodeTpm,
    endorsement: EndorsementKey,
    key: NodeKey,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::manufacture(folder.path(), Manufacture::WithEndorsement).unwrap();
        let running = swtpm.start().unwrap();
        let mut tpm = NodeTpm::open(Some(&swtpm.tcti())).unwrap();
        let mut endorsement = tpm.endorsements().unwrap().remove(0);
        let [_, intermediate] = swtpm.manufacturer();
        endorsement.chain.push(der(&fs::read_to_string(intermediate).unwrap()));
        let key = tpm.create_key().unwrap();
        Self { swtpm, _running: running, _folder: folder, tpm, endorsement, key }
    }

    /// A policy that takes it, with its endorsement key named `called` if that is said.
    fn policy(&self, called: Option<&str>, pcrs: &str) -> NodePolicy {
        let [root, _] = self.swtpm.manufacturer();
        let id = match called {
            None => "{ek}\"".to_owned(),
            Some(name) => format!("{{name}}\"\nnames = {{ \"{}\" = \"{name}\" }}", self.hash()),
        };
        let text = format!(
            "[tpm]\npcrs = {{ sha256 = [{pcrs}] }}\nevent-log = false\n\
             [[tpm.maker]]\nfile = \"root.pem\"\nclass = \"simulated\"\n\
             [[rule]]\nname = \"nodes\"\ndomain = \"prod.example\"\nprofile = \"svid\"\nassurance = \"software\"\n\
             lifetime = {{ software = \"20m\" }}\nspiffe-id = \"spiffe://prod.example/node/{id}\n"
        );
        NodePolicy::parse("nodes.toml", &text, |_| Ok(fs::read(&root).unwrap())).unwrap()
    }

    fn hash(&self) -> String {
        let area = undercroft_tpm_wire::PublicArea::parse(&self.endorsement.public).unwrap();
        Digest::of(area.public_key().unwrap().spki()).to_string()
    }

    fn id(&self) -> String {
        format!("spiffe://prod.example/node/{}", self.hash())
    }

    fn hello(&mut self) -> Hello {
        let info = csr::request_info(self.key.public_key()).unwrap();
        let signature = self.tpm.sign(&self.key, &info).unwrap();
        let request = csr::signed_request(&info, KeyAlgorithm::EcdsaP256, &signature).unwrap();
        Hello {
            domain: "prod.example".into(),
            request: Base64Bytes(request),
            tpm: TpmHello {
                endorsement: Base64Bytes(self.endorsement.public.clone()),
                chain: self.endorsement.chain.iter().cloned().map(Base64Bytes).collect(),
                attestation_key: Base64Bytes(self.tpm.attestation_key().unwrap()),
                key: Base64Bytes(self.key.public().to_vec()),
            },
        }
    }

    fn show(&mut self, wanted: &Wanted, transcript: &[u8; 32], mac: Option<Vec<u8>>) -> Answer {
        let quote =
            self.tpm.quote(&wanted.selection().unwrap(), &Purpose::Quote.qualifying(transcript)).unwrap();
        let certify = self.tpm.certify(&self.key, &Purpose::Key.qualifying(transcript)).unwrap();
        let signed = |Statement { attest, signature }| Signed {
            attest: Base64Bytes(attest),
            signature: Base64Bytes(signature),
        };
        Answer {
            tpm: TpmAnswer {
                mac: mac.map(Base64Bytes),
                quote: signed(quote.signed),
                pcrs: quote.values.into_iter().map(Base64Bytes).collect(),
                certify: signed(certify),
                creation: None,
                event_log: None,
            },
        }
    }

    /// What it answers to a challenge, on a connection.
    fn answer(&mut self, hello: &[u8], challenge: &[u8], exported: &[u8; 32]) -> Answer {
        let asked: Challenge = exchange::read(challenge).unwrap();
        let opened =
            self.tpm.activate(&self.endorsement, &asked.tpm.credential.0, &asked.tpm.secret.0).unwrap();
        let transcript = transcript(hello, Some(challenge), exported);
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &opened), &transcript);
        self.show(&asked.tpm.wanted, &transcript, Some(mac.as_ref().to_vec()))
    }

    /// What it answers without one.
    fn at_once(&mut self, hello: &[u8], wanted: &Wanted, exported: &[u8; 32]) -> Vec<u8> {
        json(&self.show(wanted, &transcript(hello, None, exported), None))
    }

    /// A whole exchange.
    async fn attest(&mut self, ca: &CertificateAuthority) -> Result<AttestedNode, ServiceError> {
        let hello = json(&self.hello());
        let (exchange, challenge) = ca.challenge(&hello, HERE).await?;
        let answer = json(&self.answer(&hello, &challenge, &HERE));
        ca.answer(exchange, &answer).await
    }
}

fn der(pem: &str) -> Vec<u8> {
    undercroft_ca::certificate::certificates_from_pem(pem).unwrap().remove(0)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn rule<T>(told: Result<T, ServiceError>) -> &'static str {
    match told {
        Ok(_) => "",
        Err(ServiceError::Refused(refusal)) => refusal.rule,
        Err(other) => panic!("{other}"),
    }
}

fn options(policy: NodePolicy) -> Options {
    Options { nodes: Some(policy), ..Options::default() }
}

fn verdicts(rig: &Rig) -> Vec<Verdict> {
    let entries = rig.log_of("prod.example");
    entries
        .into_iter()
        .filter_map(|body| if let Body::Verdict(verdict) = body { Some(verdict) } else { None })
        .collect()
}

/// The codes of what was refused, verdicts and refusals alike, in the order of the log.
fn refused(rig: &Rig) -> Vec<String> {
    let told = |body| match body {
        Body::Verdict(Verdict { result: VerdictResult::Refused(refused), .. }) => Some(refused.code),
        Body::Refusal(refusal) if refusal.action == RefusedAction::Attest => Some(refusal.rule),
        _ => None,
    };
    rig.log_of("prod.example").into_iter().filter_map(told).collect()
}

/// How many certificates were signed for nodes.
fn issued(rig: &Rig) -> usize {
    let entries = rig.log_of("prod.example");
    let intents = entries
        .iter()
        .filter(|body| matches!(body, Body::Intent(intent) if intent.caller.by == Channel::Attestation));
    intents.count()
}

#[test]
fn a_node_gets_a_certificate_for_the_key_that_its_tpm_holds_and_the_log_has_all_that_decided() {
    let (rig, mut node) = (Rig::of_today(), Node::new());
    let policy = node.policy(None, "0, 7");
    let wanted = rig
        .start(&options(policy.clone()), async |ca| {
            let attested = node.attest(ca).await.unwrap();
            assert_eq!(attested.spiffe_id.to_string(), node.id());
            let leaf = undercroft_ca::verify::holder(&attested.issued.chain[0]).unwrap();
            assert_eq!(leaf.public_key.spki(), node.key.public_key().spki());
            let lives = leaf.validity.not_after().duration_since(rig.time());
            assert_eq!(lives.as_secs(), 20 * 60, "the lifetime of its assurance");
            let fact = ca.nodes_after("prod.example", "", 10).await.unwrap().remove(0);
            assert_eq!((fact.spiffe_id, fact.endorsement.to_string()), (node.id(), node.hash()));
            attested.wanted
        })
        .unwrap();
    assert_eq!(wanted, *policy.wanted());
    let entries = rig.log_of("prod.example");
    let place = |wanted: &dyn Fn(&Body) -> bool| entries.iter().position(wanted).unwrap();
    let verdict = place(&|body| matches!(body, Body::Verdict(_)));
    let intent = place(&|body| matches!(body, Body::Intent(intent) if intent.caller.id == node.id()));
    assert!(verdict < intent);
    let (Body::Verdict(verdict), Body::Intent(intent)) = (&entries[verdict], &entries[intent]) else {
        panic!()
    };
    assert_eq!(intent.evidence[0].sha256, verdict.evidence.sha256);
    assert_eq!(intent.rule, "node:nodes");
    // Whoever has the log alone comes to the same verdict.
    let (record, kept) = (rig.blob(verdict.evidence.sha256), rig.blob(verdict.policy.sha256));
    let (record, kept) = (Record::parse(&record).unwrap(), NodePolicy::from_bundle(&kept).unwrap());
    let again = appraise(&record, &kept, rig.time()).unwrap();
    let VerdictResult::Accepted(accepted) = &verdict.result else { panic!("{verdict:?}") };
    assert_eq!(again.admitted.spiffe_id.to_string(), accepted.spiffe_id);
    assert_eq!(again.transcript, accepted.transcript.0);
    assert_eq!(again.claims.selectors().into_iter().collect::<Vec<_>>(), accepted.selectors);
}

#[test]
fn a_node_that_was_here_before_answers_at_once_and_only_on_its_connection() {
    let (rig, mut node) = (Rig::of_today(), Node::new());
    let policy = node.policy(None, "0, 7");
    let wanted = policy.wanted().clone();
    rig.start(&options(policy), async |ca| {
        let hello = json(&node.hello());
        let answer = node.at_once(&hello, &wanted, &HERE);
        assert!(ca.answer_at_once(&hello, &answer, HERE).await.unwrap().is_none(), "it was never here");
        node.attest(ca).await.unwrap();
        let hello = json(&node.hello());
        let answer = node.at_once(&hello, &wanted, &HERE);
        let carried = ca.answer_at_once(&hello, &answer, THERE).await;
        assert_eq!(rule(carried), "attest-qualifying", "carried to another connection");
        let other = Wanted { pcrs: wanted.pcrs.clone(), event_log: true };
        let other =
            Wanted { pcrs: vec![exchange::WantedBank { pcrs: vec![7], ..other.pcrs[0].clone() }], ..other };
        let poor = node.at_once(&hello, &other, &HERE);
        assert!(ca.answer_at_once(&hello, &poor, HERE).await.unwrap().is_none(), "other PCRs");
        let answer = node.at_once(&hello, &wanted, &HERE);
        assert!(ca.answer_at_once(&hello, &answer, HERE).await.unwrap().is_some());
        let again = rule(ca.answer_at_once(&hello, &answer, HERE).await.map(|_| ()));
        assert_eq!(again, "clock-back", "the same once more");
    })
    .unwrap();
    assert_eq!(issued(&rig), 2);
    assert_eq!(refused(&rig), ["attest-qualifying", "clock-back"]);
}

#[test]
fn of_two_who_bring_the_same_answer_at_once_one_gets_a_certificate() {
    let (rig, mut node) = (Rig::of_today(), Node::new());
    let policy = node.policy(None, "0");
    let wanted = policy.wanted().clone();
    rig.start(&options(policy), async |ca| {
        node.attest(ca).await.unwrap();
        let hello = json(&node.hello());
        let answer = node.at_once(&hello, &wanted, &HERE);
        let both = futures::join!(
            ca.answer_at_once(&hello, &answer, HERE),
            ca.answer_at_once(&hello, &answer, HERE)
        );
        let rules = [rule(both.0), rule(both.1)];
        assert_eq!(rules.iter().filter(|rule| rule.is_empty()).count(), 1, "{rules:?}");
        assert!(rules.iter().any(|rule| ["exchange-spent", "clock-back"].contains(rule)), "{rules:?}");
    })
    .unwrap();
    assert_eq!(issued(&rig), 2);
    assert_eq!(refused(&rig).len(), 1);
}

#[test]
fn what_is_not_an_answer_to_this_challenge_is_refused_and_logged() {
    let (rig, mut node, mut other) = (Rig::of_today(), Node::new(), Node::new());
    let policy = node.policy(None, "0");
    rig.start(&options(policy), async |ca| {
        let hello = json(&node.hello());
        let (mut exchange, challenge) = ca.challenge(&hello, HERE).await.unwrap();
        let good = node.answer(&hello, &challenge, &HERE);
        let foreign = {
            let t = transcript(&hello, Some(&challenge), &HERE);
            other.show(&exchange::read::<Challenge>(&challenge).unwrap().tpm.wanted, &t, None).tpm
        };
        let changed = |change: &dyn Fn(&mut TpmAnswer)| {
            let mut answer = good.clone();
            change(&mut answer.tpm);
            json(&answer)
        };
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("no MAC", changed(&|tpm| tpm.mac = None), "ak-activation"),
            ("an empty MAC", changed(&|tpm| tpm.mac = Some(Base64Bytes(vec![]))), "ak-activation"),
            ("a MAC of zeros", changed(&|tpm| tpm.mac = Some(Base64Bytes(vec![0; 32]))), "ak-activation"),
            ("no JSON", b"{".to_vec(), "exchange-malformed"),
            ("no UTF-8", vec![0xff, 0xfe], "exchange-malformed"),
            ("nothing", vec![], "exchange-malformed"),
            ("one member more", [&b"{\"x\":1,"[..], &json(&good)[1..]].concat(), "exchange-malformed"),
        ];
        for (what, answer, code) in cases {
            assert_eq!(rule(ca.answer(exchange, &answer).await), code, "{what}");
            (exchange, _) = ca.challenge(&hello, HERE).await.unwrap();
        }
        // A new challenge each time: what was right for an older one is not for this.
        assert_eq!(rule(ca.answer(exchange, &json(&good)).await), "ak-activation", "an old answer");
        let (there, asked) = ca.challenge(&hello, THERE).await.unwrap();
        let answer = json(&node.answer(&hello, &asked, &HERE));
        assert_eq!(rule(ca.answer(there, &answer).await), "ak-activation", "another connection");
        let mut honest = async |change: &dyn Fn(&mut TpmAnswer)| {
            let (exchange, challenge) = ca.challenge(&hello, HERE).await.unwrap();
            let mut answer = node.answer(&hello, &challenge, &HERE);
            change(&mut answer.tpm);
            rule(ca.answer(exchange, &json(&answer)).await)
        };
        let quote = |tpm: &mut TpmAnswer| tpm.quote = foreign.quote.clone();
        assert_eq!(honest(&quote).await, "attest-signature", "another TPM's quote");
        let certify = |tpm: &mut TpmAnswer| tpm.certify = foreign.certify.clone();
        assert_eq!(honest(&certify).await, "attest-signature", "another TPM's key");
        assert_eq!(
            honest(&|tpm| tpm.pcrs.push(Base64Bytes(vec![0; 32]))).await,
            "quote-values",
            "a value more"
        );
        let swapped = |tpm: &mut TpmAnswer| std::mem::swap(&mut tpm.quote, &mut tpm.certify);
        assert_eq!(honest(&swapped).await, "attest-qualifying", "certify for quote");
        assert_eq!(honest(&|_| ()).await, "", "and what is right is taken");
    })
    .unwrap();
    assert_eq!(issued(&rig), 1);
    assert_eq!(refused(&rig).len(), 13);
    assert!(
        verdicts(&rig)
            .iter()
            .all(|verdict| rig.blob(verdict.evidence.sha256).len() as u64 == verdict.evidence.length)
    );
}

#[test]
fn a_late_answer_is_none_and_a_challenge_without_one_is_a_refusal() {
    let (rig, mut node) = (Rig::of_today(), Node::new());
    rig.start(&options(node.policy(None, "0")), async |ca| {
        let hello = json(&node.hello());
        for (seconds, code) in [(30, ""), (31, "exchange-unanswered")] {
            let (exchange, challenge) = ca.challenge(&hello, HERE).await.unwrap();
            let answer = json(&node.answer(&hello, &challenge, &HERE));
            rig.clock.advance(seconds);
            assert_eq!(rule(ca.answer(exchange, &answer).await), code, "after {seconds} s");
        }
        let (exchange, _) = ca.challenge(&hello, HERE).await.unwrap();
        assert_eq!(rule::<()>(Err(ca.unanswered(exchange).await)), "exchange-unanswered");
    })
    .unwrap();
    assert_eq!(refused(&rig), ["exchange-unanswered"; 2]);
}

#[test]
fn one_tpm_is_one_node_until_an_operator_releases_it() {
    let (rig, mut node, mut other) = (Rig::of_today(), Node::new(), Node::new());
    let uid = || Caller { id: "uid:1000".into(), by: Channel::UnixSocket };
    let named = |node: &Node, name: &str| options(node.policy(Some(name), "0"));
    rig.start(&named(&node, "a"), async |ca| drop(node.attest(ca).await.unwrap())).unwrap();
    rig.start(&named(&node, "b"), async |ca| {
        assert_eq!(rule(node.attest(ca).await), "ek-claimed");
    })
    .unwrap();
    rig.start(&named(&other, "a"), async |ca| {
        assert_eq!(rule(other.attest(ca).await), "node-claimed");
        assert_eq!(rule(ca.release_node(uid(), "spiffe://prod.example/node/z").await), "node-unknown");
        let released = ca.release_node(uid(), "spiffe://prod.example/node/a").await.unwrap();
        assert_eq!(released.endorsement.to_string(), node.hash());
        assert_eq!(rule(ca.release_node(uid(), "spiffe://prod.example/node/a").await), "node-unknown");
        assert_eq!(rule(other.attest(ca).await), "");
    })
    .unwrap();
    rig.start(&named(&node, "b"), async |ca| assert_eq!(rule(node.attest(ca).await), "")).unwrap();
    assert_eq!(refused(&rig), ["ek-claimed", "node-claimed"]);
    assert_eq!(issued(&rig), 3);
}

#[test]
fn a_node_that_was_stopped_gets_nothing() {
    let (rig, mut node) = (Rig::of_today(), Node::new());
    let uid = || Caller { id: "uid:1000".into(), by: Channel::UnixSocket };
    rig.start(&options(node.policy(None, "0")), async |ca| {
        node.attest(ca).await.unwrap();
        let id = node.id();
        let revoke = |reason| undercroft_ca::service::RevokeRequest {
            domain: "prod.example".into(),
            authority: None,
            certificates: undercroft_ca::service::Certificates::Named(id.clone()),
            event: undercroft_log::leaf::RevocationEvent::Revoke,
            reason: Some(reason),
        };
        ca.revoke(uid(), &revoke(undercroft_log::leaf::Reason::Superseded), false).await.unwrap();
        assert_eq!(rule(node.attest(ca).await), "", "a certificate that was replaced is no reason");
        let compromise = revoke(undercroft_log::leaf::Reason::KeyCompromise);
        ca.revoke(uid(), &compromise, false).await.unwrap();
        assert_eq!(rule(node.attest(ca).await), "node-revoked");
        rig.clock.advance(3600);
        assert_eq!(rule(node.attest(ca).await), "", "what was revoked has ended");
        ca.freeze(uid(), Freezable::Caller(node.id()), "stolen").await.unwrap();
        assert_eq!(rule(node.attest(ca).await), "frozen");
    })
    .unwrap();
    assert_eq!(refused(&rig), ["node-revoked", "frozen"]);
    assert_eq!(issued(&rig), 3);
}

#[test]
fn strangers_cannot_fill_the_log_and_do_not_keep_others_out() {
    let (rig, mut node, mut stranger) = (Rig::of_today(), Node::new(), Node::new());
    rig.start(&options(node.policy(None, "0")), async |ca| {
        let hello = json(&stranger.hello());
        for _ in 0..20 {
            assert_eq!(rule(ca.challenge(&hello, HERE).await), "ek-chain");
        }
        for _ in 0..100 {
            let told = ca.challenge(&hello, HERE).await.unwrap_err();
            assert!(matches!(told, ServiceError::Busy { .. }), "{told}");
        }
        for nonsense in [&b""[..], b"{}", &[0xff], b"[]", &vec![b' '; 3 * 1024 * 1024]] {
            assert_eq!(rule(ca.challenge(nonsense, HERE).await), "exchange-malformed");
        }
        assert_eq!(rule(node.attest(ca).await), "");
    })
    .unwrap();
    assert_eq!(refused(&rig).len(), 20);
}

#[test]
fn what_a_request_wants_besides_its_key_is_withheld() {
    let (rig, mut node) = (Rig::of_today(), Node::new());
    rig.start(&options(node.policy(None, "0")), async |ca| {
        let mut hello = node.hello();
        hello.domain = "control.example".into();
        let hello = json(&hello);
        let (exchange, challenge) = ca.challenge(&hello, HERE).await.unwrap();
        let answer = json(&node.answer(&hello, &challenge, &HERE));
        assert_eq!(rule(ca.answer(exchange, &answer).await), "node-no-rule", "no rule is for that domain");
        let mut broken = node.hello();
        let last = broken.request.0.len() - 1;
        broken.request.0[last] ^= 1;
        let told = rule(ca.challenge(&json(&broken), HERE).await);
        assert!(["csr-signature", "csr-malformed"].contains(&told), "{told}");
    })
    .unwrap();
}

#[test]
fn without_a_policy_nobody_attests() {
    let rig = Rig::new();
    rig.run(async |ca| assert_eq!(rule(ca.challenge(b"{}", HERE).await), "attestation-off"));
}

/// Random bytes that are always the same.
struct Stuck(AtomicU64);

impl Entropy for Stuck {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fetch_add(1, Ordering::SeqCst);
        buffer.fill(4);
        Ok(())
    }
}

#[test]
fn a_source_of_random_bytes_that_repeats_itself_is_noticed_at_start() {
    let rig = Rig::new();
    let entropy = Arc::new(Stuck(AtomicU64::default()));
    let options = Options { entropy: entropy.clone(), ..Options::default() };
    let told = rig.start(&options, async |_| ()).unwrap_err().to_string();
    assert!(told.contains("gives the same ones again"), "{told}");
    assert_eq!(entropy.0.load(Ordering::SeqCst), 2);
}
