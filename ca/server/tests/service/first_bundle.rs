//! The first bundle of a domain has the quorum's word, where a ceremony with a roster has made its root.

use hsm_sim::persons::Persons;
use undercroft_ca::approval::{Action, NAMESPACE, PersonConfig, Roster, RosterConfig, Statement, Wanted};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::names::parse_trust_domain;
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_ca::service::{KnownCeremony, StartError};
use undercroft_ca::time::Validity;
use undercroft_log::leaf::{Approval, Body, Digest, TranscriptHead};

use crate::rig::{Options, Rig, RootRig};

const PROD: &str = "prod.example";
const CEREMONY: &str = "ca.example/undercroft/ceremony/2026-11/1";

struct Place {
    rig: Rig,
    quorum: Persons,
}

impl Place {
    fn new() -> Self {
        Self { rig: Rig::new(), quorum: Persons::new(&["alice", "bob", "carol", "mallory"]).unwrap() }
    }

    fn roster(&self, names: &[&str]) -> Roster {
        let persons = self.quorum.keys().unwrap().into_iter().filter(|(name, _)| names.contains(&&**name));
        let persons = persons.map(|(name, key)| PersonConfig { name, keys: vec![key] }).collect();
        Roster::new(RosterConfig { quorum: 2, persons }).unwrap()
    }

    fn root(&self) -> AuthorityCertificate {
        self.rig.domains[1].roots[0].clone()
    }

    /// The text of a statement about prod.example, good from the day before to `ends`.
    fn text(&self, number: u64, roots: &[&AuthorityCertificate], begins: &str, ends: &str) -> String {
        let validity = Validity::new(begins.parse().unwrap(), ends.parse().unwrap()).unwrap();
        let domain = parse_trust_domain(PROD).unwrap();
        RootsStatement::new(&domain, number, roots, validity).text().unwrap()
    }

    fn good(&self, number: u64) -> String {
        self.text(number, &[&self.root()], "2026-11-21T00:00:00Z", "2027-12-31T00:00:00Z")
    }

    /// What these persons have approved of a text.
    fn approved(&self, text: &str, by: &[&str], change: impl FnOnce(&mut Statement)) -> Approval {
        let object = Digest::of(text.as_bytes());
        let wanted = Wanted { action: Action::BundleRoots, object, origin: CEREMONY };
        let roster = self.roster(&["alice", "bob", "carol"]);
        let expires = "2027-12-31T00:00:00Z".parse().unwrap();
        let mut statement = Statement::new(wanted, &roster, "carol".into(), expires, [7; 16]);
        change(&mut statement);
        let statement = statement.text().unwrap();
        let signatures = by.iter().map(|name| self.quorum.sign(name, NAMESPACE, &statement).unwrap());
        Approval {
            signatures: signatures.collect(),
            statement,
            by: by.iter().map(ToString::to_string).collect(),
            about: Some(text.to_owned()),
        }
    }

    fn ceremony(&self, stated: Vec<Approval>) -> KnownCeremony {
        KnownCeremony {
            plan: Digest::of(b"plan"),
            transcript: TranscriptHead { verifier_key: "x".into(), checkpoint: "x".into() },
            origin: CEREMONY.into(),
            formal_for: vec![parse_trust_domain(PROD).unwrap()],
            stated,
        }
    }

    fn options(&self, stated: Vec<Approval>) -> Options {
        Options {
            roster: Some(self.roster(&["alice", "bob", "carol"])),
            ceremonies: vec![self.ceremony(stated)],
            ..Options::default()
        }
    }

    fn start(&self, options: &Options) -> Result<(), StartError> {
        self.rig.start(options, async |_| ())
    }

    /// Why it did not start, and that nothing was published.
    fn refused(&self, options: &Options) -> String {
        let refused = self.start(options).unwrap_err();
        assert!(matches!(&refused, StartError::Unstated(_)), "{refused}");
        let log = self.rig.log_of(PROD);
        assert!(!log.iter().any(|body| matches!(body, Body::Bundle(_) | Body::Approval(_))), "{log:?}");
        refused.to_string()
    }
}

const BOTH: &[&str] = &["alice", "bob"];

#[test]
fn the_quorums_word_stands_in_front_of_the_bundle() {
    let place = Place::new();
    let text = place.good(1);
    place.start(&place.options(vec![place.approved(&text, BOTH, |_| {})])).unwrap();
    let log = place.rig.log_of(PROD);
    let at = |wanted: fn(&Body) -> bool| log.iter().position(wanted).unwrap();
    let approval = at(|body| matches!(body, Body::Approval(_)));
    assert_eq!(approval + 1, at(|body| matches!(body, Body::Bundle(_))));
    let Body::Approval(approval) = &log[approval] else { panic!() };
    assert_eq!(
        (approval.about.as_deref(), &approval.by[..]),
        (Some(&*text), &["alice", "bob"].map(String::from)[..])
    );

    // What is published needs no word any more, even when the statement is over.
    place.rig.clock.advance(2 * 366 * 24 * 3600);
    place.start(&place.options(Vec::new())).unwrap();
    let bundles = |log: &[Body]| log.iter().filter(|body| matches!(body, Body::Bundle(_))).count();
    assert_eq!(bundles(&place.rig.log_of(PROD)), 1);
}

#[test]
fn without_the_quorums_word_no_bundle_is_published() {
    let place = Place::new();
    let good = place.good(1);
    let other = RootRig::new("other").certificate;
    let (early, late) = ("2026-11-21T00:00:00Z", "2027-12-31T00:00:00Z");
    let of = |text: &str| vec![place.approved(text, BOTH, |_| {})];
    let roots = |roots: &[&AuthorityCertificate]| of(&place.text(1, roots, early, late));
    let newer = |text: &str| vec![place.approved(&good, BOTH, |_| {}), place.approved(text, BOTH, |_| {})];
    let by = |who: &[&str]| vec![place.approved(&good, who, |_| {})];
    let with = |change: fn(&mut Statement)| vec![place.approved(&good, BOTH, change)];
    let another_text = {
        let mut approval = place.approved(&good, BOTH, |_| {});
        approval.about = Some(place.text(1, &[&place.root(), &other], early, late));
        vec![approval]
    };
    let without_text = vec![Approval { about: None, ..place.approved(&good, BOTH, |_| {}) }];
    for (stated, part) in [
        (vec![], "no transcript of a ceremony has the quorum's statement"),
        (without_text, "no transcript of a ceremony has the quorum's statement"),
        (of(&good.replace("prod.example", "edge.example")), "no transcript of a ceremony has"),
        (of(&good.replace("  ", " ")), "no transcript of a ceremony has"),
        (roots(&[&other]), "does not name the root"),
        (of(&place.text(1, &[&place.root()], early, "2026-11-22T00:00:00Z")), "is good from"),
        (of(&place.text(1, &[&place.root()], "2026-11-23T00:00:00Z", late)), "is good from"),
        // The newest counts, even where an older one would do.
        (newer(&place.text(2, &[&other], early, late)), "statement number 2"),
        (newer(&place.text(2, &[&place.root()], early, "2026-11-22T00:00:00Z")), "statement number 2"),
        (newer(&place.text(1, &[&place.root(), &other], early, late)), "two statements about its roots"),
        (by(&["alice"]), "1 of the 2 persons"),
        (by(&["alice", "alice"]), "1 of the 2 persons"),
        (by(&["alice", "mallory"]), "nobody on the roster"),
        (by(&["alice", "bob", "carol"]), "carol asked for it"),
        (another_text, "it is about"),
        (with(|s| s.action = Action::Bundle), "`bundle-roots` is wanted"),
        (with(|s| s.object = Digest::of(b"x")), "it is about"),
        (with(|s| s.origin = "ca.example/undercroft/rehearsal/2026-11/1".into()), "it is for"),
        (with(|s| s.roster = Digest::of(b"x")), "it names the roster"),
        (with(|s| s.expires = "2026-11-22T00:00:00Z".parse().unwrap()), "it was good until"),
    ] {
        let refused = place.refused(&place.options(stated));
        assert!(refused.contains(part), "{part}: {refused}");
        assert!(refused.contains("[[bundle-statement]]"), "the way out: {refused}");
    }
    // The roster of the installation, and not that of whoever signed.
    let mut options = place.options(of(&good));
    options.roster = Some(place.roster(&["alice", "bob"]));
    assert!(place.refused(&options).contains("it names the roster"));
}

#[test]
fn nobody_is_asked_where_nobody_could_answer() {
    for change in [
        // No roster at all; a ceremony of other domains, or without a roster; no ceremony.
        (|options| options.roster = None) as fn(&mut Options),
        |options| options.ceremonies[0].formal_for = vec![parse_trust_domain("edge.example").unwrap()],
        |options| options.ceremonies[0].formal_for.clear(),
        |options| options.ceremonies.clear(),
    ] {
        let place = Place::new();
        let mut options = place.options(Vec::new());
        change(&mut options);
        place.start(&options).unwrap();
        let log = place.rig.log_of(PROD);
        assert!(log.iter().any(|body| matches!(body, Body::Bundle(_))));
        assert!(!log.iter().any(|body| matches!(body, Body::Approval(_))));
    }
}
