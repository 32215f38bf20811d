//! The witness as an activator, with a software key of its own and a real swtpm: what it certifies, and all that it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use jiff::{SignedDuration, Timestamp};
use tower::ServiceExt as _;
use undercroft_attestors::chain::Anchors;
use undercroft_attestors::tpm::activation;
use undercroft_attestors::tpm::evidence::EndorsementText;
use undercroft_attestors::tpm::exchange::{BEGIN, Begin, Begun, Finish};
use undercroft_cli::endorsement_anchors;
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_keymgr::{Activate, Backend as _, EndorsementKey, KeyManager, SigningKey as _};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock;
use undercroft_log::cosignature::WitnessKey;
use undercroft_tpm::TpmBackend;
use undercroft_witness::activation::sessions::Sessions;
use undercroft_witness::activation::{Activator, NotActivated};
use undercroft_witness::serve::activating;

const HANDLE: u32 = 0x8101_0100;

/// A clock that is set by hand. It begins now, since swtpm's certificates do.
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A TPM, and who knows its manufacturer.
struct Site {
    tpm: Arc<dyn KeyManager>,
    endorsement: EndorsementKey,
    attests: Vec<u8>,
    key: WitnessKey,
    clock: Arc<Hand>,
    activator: Activator,
    folder: tempfile::TempDir,
    _running: RunningSwtpm,
}

impl Site {
    fn new() -> Self {
        Self::with(|_| Sessions::in_memory())
    }

    fn with(sessions: impl Fn(&Path) -> Sessions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::manufacture(folder.path(), Manufacture::WithEndorsement).unwrap();
        let running = swtpm.start().unwrap();
        let tpm = TpmBackend.open(&swtpm.device("edge")).unwrap();
        let own = tpm.activation(HANDLE).unwrap();
        let attests = block_on(own.attestation_key()).unwrap();
        let endorsement = block_on(own.endorsements()).unwrap().remove(0);
        let anchors = folder.path().join("anchors");
        std::fs::create_dir(&anchors).unwrap();
        for path in swtpm.manufacturer() {
            std::fs::copy(&path, anchors.join(path.file_name().unwrap())).unwrap();
        }
        let clock = Arc::new(Hand(Mutex::new(SystemClock.now())));
        let (key, activator) =
            activator(endorsement_anchors(&anchors).unwrap(), clock.clone(), sessions(folder.path()));
        Self { tpm, endorsement, attests, key, clock, activator, folder, _running: running }
    }

    fn own(&self) -> Arc<dyn Activate> {
        self.tpm.activation(HANDLE).unwrap()
    }

    fn step(&self) -> Begin {
        Begin {
            endorsement: EndorsementText::new(&self.endorsement.public, &self.endorsement.chain),
            attestation_key: hex::encode(&self.attests),
        }
    }

    /// What the TPM answers to a credential.
    fn opened(&self, begun: &Begun) -> Finish {
        let [credential, secret] = [&begun.credential, &begun.secret].map(|text| hex::decode(text).unwrap());
        let secret = block_on(self.own().activate(&self.endorsement, &credential, &secret)).unwrap();
        Finish {
            session: begun.session.clone(),
            attestation_key: hex::encode(&self.attests),
            secret: hex::encode(secret),
        }
    }

    fn finish(&self, finish: &Finish) -> Result<String, NotActivated> {
        block_on(self.activator.finish(finish)).map(|activation| activation.certificate)
    }
}

fn activator(anchors: Anchors, clock: Arc<Hand>, sessions: Sessions) -> (WitnessKey, Activator) {
    let signer = Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap());
    let key =
        WitnessKey::ed25519("witness.example/w1".parse().unwrap(), signer.public_key().clone()).unwrap();
    (key.clone(), Activator::new(key, signer, anchors, clock, Arc::new(SystemEntropy), sessions))
}

#[test]
fn what_was_seen_is_certified_and_nothing_else() {
    let site = Site::new();
    let begun = site.activator.begin(&site.step()).unwrap();
    let right = site.opened(&begun);
    let note = site.finish(&right).unwrap();
    let vouched = activation::open(&note, std::slice::from_ref(&site.key)).unwrap();
    assert_eq!(
        (vouched.by.as_str(), vouched.at.as_second()),
        ("witness.example/w1", site.clock.now().as_second())
    );
    // Once.
    assert!(matches!(site.finish(&right), Err(NotActivated::Session)));
    unknown_manufacturers(&site);
    keys_that_are_none(&site);
    wrong_answers(&site);
    sessions(&site);
}

fn unknown_manufacturers(site: &Site) {
    let (_, stranger) = activator(Anchors::default(), site.clock.clone(), Sessions::in_memory());
    let refused = stranger.begin(&site.step()).unwrap_err();
    assert!(matches!(refused, NotActivated::Endorsement(_)), "{refused}");
    assert!(refused.to_string().contains("does not lead to a manufacturer that is known here"), "{refused}");
    // A certificate that the same manufacturer made for something else: the intermediate's own.
    let mut step = site.step();
    step.endorsement.chain.remove(0);
    assert!(site.activator.begin(&step).is_err());
    // A certificate that somebody made himself, under the right names.
    let made = rcgen::generate_simple_self_signed(["tpm".to_owned()]).unwrap();
    step.endorsement = EndorsementText::new(&site.endorsement.public, &[made.cert.der().to_vec()]);
    let refused = site.activator.begin(&step).unwrap_err().to_string();
    assert!(refused.contains("is neither an anchor nor among the intermediates"), "{refused}");
    // Before the certificate begins.
    let now = site.clock.now();
    *site.clock.0.lock().unwrap() = now - SignedDuration::from_hours(24 * 365);
    let refused = site.activator.begin(&site.step()).unwrap_err().to_string();
    assert!(refused.contains("is not valid at"), "{refused}");
    *site.clock.0.lock().unwrap() = now;
}

fn keys_that_are_none(site: &Site) {
    let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut step = site.step();
        let mut area = site.attests.clone();
        change(&mut area);
        step.attestation_key = hex::encode(area);
        site.activator.begin(&step).unwrap_err()
    };
    // TPMA_OBJECT stands behind type and nameAlg; 0x00050472 is fixedTPM … restricted, sign.
    for (attributes, what) in [
        ([0x00, 0x04, 0x04, 0x72], "not restricted"),
        ([0x00, 0x05, 0x04, 0x70], "not fixedTPM"),
        ([0x00, 0x05, 0x04, 0x52], "not sensitiveDataOrigin"),
        ([0x00, 0x07, 0x04, 0x72], "decrypts"),
    ] {
        let refused = refusal(&|area| area[4..8].copy_from_slice(&attributes));
        assert!(matches!(refused, NotActivated::AttestationKey(_)), "{refused}");
        assert!(refused.to_string().contains(what), "{refused}");
    }
    assert!(matches!(refusal(&|area| area.push(0)), NotActivated::Malformed(_)));
    assert!(matches!(refusal(&|area| area.truncate(20)), NotActivated::Malformed(_)));
    // The public area of the endorsement key is that of another key than its certificate's.
    let mut step = site.step();
    step.endorsement.public = hex::encode(&site.attests);
    let refused = site.activator.begin(&step).unwrap_err();
    assert!(matches!(refused, NotActivated::Endorsement(_)), "{refused}");
}

fn wrong_answers(site: &Site) {
    let other = block_on(site.tpm.activation(HANDLE + 1).unwrap().attestation_key()).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Finish);
    let changes: [(Change<'_>, &str); 6] = [
        (&|finish| finish.secret = hex::encode([0; 32]), "the secret is not the one"),
        (&|finish| finish.secret.truncate(62), "the secret is not the one"),
        (&|finish| finish.secret.clear(), "the secret is not the one"),
        (&|finish| finish.secret = "x".into(), "malformed"),
        (&|finish| finish.attestation_key = hex::encode(&other), "begun for another attestation key"),
        (&|finish| finish.session = "00".repeat(16), "the session is unknown"),
    ];
    for (change, what) in changes {
        let begun = site.activator.begin(&site.step()).unwrap();
        let right = site.opened(&begun);
        let mut wrong = right.clone();
        change(&mut wrong);
        let refused = site.finish(&wrong).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
        // Whoever was wrong once does not try again, save where another session was named.
        assert_eq!(site.finish(&right).is_ok(), wrong.session != right.session, "{what}");
    }
    // The secret of one session is none in another.
    let [one, two] = [(); 2].map(|()| site.activator.begin(&site.step()).unwrap());
    let mut crossed = site.opened(&one);
    crossed.session = two.session;
    assert!(matches!(site.finish(&crossed), Err(NotActivated::Secret)));
}

fn sessions(site: &Site) {
    let begun = site.activator.begin(&site.step()).unwrap();
    let late = site.opened(&begun);
    let now = site.clock.now();
    *site.clock.0.lock().unwrap() = now + SignedDuration::from_secs(120);
    assert!(matches!(site.finish(&late), Err(NotActivated::Session)));
    // So many at a time, and room again when they have expired.
    let begin = || site.activator.begin(&site.step());
    let taken = (0..100).take_while(|_| begin().is_ok()).count();
    assert_eq!(taken, 64);
    assert!(matches!(begin(), Err(NotActivated::Busy)));
    *site.clock.0.lock().unwrap() = now + SignedDuration::from_secs(241);
    begin().unwrap();
}

#[test]
fn what_commands_enclose_is_kept_in_a_folder_once_and_for_a_day() {
    let site = Site::with(Sessions::in_state);
    let folder = site.folder.path().join("activations");
    let kept = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let again = || {
        let anchors = endorsement_anchors(&site.folder.path().join("anchors")).unwrap();
        activator(anchors, site.clock.clone(), Sessions::in_state(site.folder.path()))
    };
    // Another process finishes what this one began, and nobody finishes it again.
    let begun = site.activator.begin(&site.step()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&kept()[0])), (0o700, 0o600));
    let right = site.opened(&begun);
    let would = site.activator.would_sign(&right).unwrap();
    let (other, other_activator) = again();
    let activation = block_on(other_activator.finish(&right)).unwrap();
    assert_eq!(activation.endorsement, site.step().endorsement);
    let vouched = activation::open(&activation.certificate, &[other]).unwrap();
    assert_eq!((vouched.statement, kept().len()), (would, 0));
    for refused in [site.finish(&right).unwrap_err(), site.activator.would_sign(&right).unwrap_err()] {
        assert!(matches!(refused, NotActivated::Session), "{refused}");
    }
    wrong_answers(&site);
    for path in kept() {
        std::fs::remove_file(path).unwrap();
    }
    // To look at it is no try, whatever is said; a wrong try is one.
    let begun = site.activator.begin(&site.step()).unwrap();
    let right = site.opened(&begun);
    let wrong = Finish { secret: "00".repeat(32), ..right.clone() };
    assert!(site.activator.would_sign(&wrong).is_ok() && kept().len() == 1);
    assert!(matches!(site.finish(&wrong), Err(NotActivated::Secret)));
    assert!(matches!(site.finish(&right), Err(NotActivated::Session)));
    assert_eq!(kept().len(), 0);
    names_of_files(&site, &folder);
    // A day, and not a second more.
    let begun = site.activator.begin(&site.step()).unwrap();
    let late = site.opened(&begun);
    let now = site.clock.now();
    assert_eq!(begun.until, now + SignedDuration::from_hours(24));
    *site.clock.0.lock().unwrap() = begun.until;
    assert!(matches!(site.activator.would_sign(&late), Err(NotActivated::Session)));
    assert!(matches!(site.finish(&late), Err(NotActivated::Session)));
    *site.clock.0.lock().unwrap() = now;
    // So many at a time, and room again when they have expired.
    let taken = (0..100).take_while(|_| site.activator.begin(&site.step()).is_ok()).count();
    assert_eq!((taken, kept().len()), (64, 64));
    assert!(matches!(again().1.begin(&site.step()), Err(NotActivated::Busy)));
    *site.clock.0.lock().unwrap() = now + SignedDuration::from_hours(24);
    site.activator.begin(&site.step()).unwrap();
    assert_eq!(kept().len(), 1);
}

/// A session is named by what somebody else wrote, and is a file.
fn names_of_files(site: &Site, folder: &Path) {
    let begun = site.activator.begin(&site.step()).unwrap();
    let right = site.opened(&begun);
    let outside = site.folder.path().join(format!("{}.json", begun.session));
    std::fs::rename(folder.join(format!("{}.json", begun.session)), &outside).unwrap();
    for session in [
        format!("../{}", begun.session),
        outside.with_extension("").display().to_string(),
        begun.session.to_uppercase(),
        String::new(),
    ] {
        let refused = site.finish(&Finish { session, ..right.clone() }).unwrap_err();
        assert!(matches!(refused, NotActivated::Session), "{refused}");
    }
    // What somebody has changed there is told, and no session.
    let inside = folder.join(format!("{}.json", begun.session));
    let text = std::fs::read_to_string(&outside).unwrap();
    for (from, to) in [("\"secret\":\"", "\"secret\":\"0"), ("anchor ", "anchor 0"), ("{", "{\"more\":1,")] {
        std::fs::write(&inside, text.replacen(from, to, 1)).unwrap();
        assert!(matches!(site.finish(&right), Err(NotActivated::Broken(_))));
    }
    std::fs::write(&inside, &text).unwrap();
    site.finish(&right).unwrap();
    std::fs::remove_file(outside).unwrap();
}

#[test]
fn over_http_refusals_have_their_status() {
    let site = Site::new();
    let step = serde_json::to_string(&site.step()).unwrap();
    let mut loose = site.step();
    loose.attestation_key = loose.attestation_key.replacen("00050472", "00040472", 1);
    assert!(site.folder.path().exists());
    let router = activating(Arc::new(site.activator));
    let post = |path: &str, body: String| {
        let request = Request::post(format!("/{path}")).header("content-type", "application/json");
        let answer = router.clone().oneshot(request.body(Body::from(body)).unwrap());
        block_on(answer).unwrap().status()
    };
    assert_eq!(post(BEGIN, step.clone()), StatusCode::OK);
    assert_eq!(post(BEGIN, serde_json::to_string(&loose).unwrap()), StatusCode::FORBIDDEN);
    assert_eq!(post(BEGIN, step.replacen('{', "{\"more\":1,", 1)), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(post(BEGIN, "{".into()), StatusCode::BAD_REQUEST);
    assert_eq!(post(BEGIN, " ".repeat(200_000)), StatusCode::PAYLOAD_TOO_LARGE);
    let finish = r#"{"session":"00","attestation-key":"00","secret":"00"}"#;
    assert_eq!(post("activate/finish", finish.into()), StatusCode::FORBIDDEN);
}
