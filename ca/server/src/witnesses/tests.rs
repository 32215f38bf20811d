use std::collections::VecDeque;
use std::sync::Mutex as Cell;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use hsm_sim::software::SoftwareKey;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use undercroft_ca::log_key::LogKey;
use undercroft_ca::store::Effect;
use undercroft_cli::system::SystemClock;
use undercroft_keymgr::{Key, SigningKey as _};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock as _;
use undercroft_log::add_checkpoint::{AddRefusal, Seen};
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::leaf::{Body, Draft, Outcome, OutcomeResult};
use undercroft_log::note::VerifierKey;
use undercroft_log::sequencer::{self, Append, Limits};

use super::*;
use crate::http::MAX_ANSWER;
use crate::store::{Database, SqliteLog};

const ORIGIN: &str = "ca.example/undercroft/prod.example/1";

/// A log, and a checkpoint of it at each size from 1 on.
struct Witnessed {
    log: Arc<SqliteLog>,
    key: VerifierKey,
    checkpoints: Vec<SignedCheckpoint>,
    _folder: tempfile::TempDir,
}

impl Witnessed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("undercroft.db")).await.unwrap();
        let store = Arc::new(database.log(ORIGIN).await.unwrap());
        let key = Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap());
        let key = LogKey::new(
            ORIGIN.parse().unwrap(),
            Key { signer: key.clone(), custody: key, gated: None, prehashed: None },
        )
        .unwrap();
        let (clock, limits) = (Arc::new(SystemClock), Limits::default());
        let opened = sequencer::open::<Effect>(store.clone(), Arc::new(key), clock, limits).await;
        let (log, driver) = opened.unwrap();
        let driver = tokio::spawn(driver);
        let mut checkpoints = Vec::new();
        for n in 0..5 {
            let result = OutcomeResult::Abandoned(n.to_string());
            let draft = Draft::new(&Body::Outcome(Outcome { intent: 0, result, command: None })).unwrap();
            log.append(Append::new(draft)).await.unwrap();
            checkpoints.push(log.checkpoint().unwrap());
        }
        log.close();
        driver.await.unwrap().unwrap();
        Self { log: store, key: log.key().clone(), checkpoints, _folder: folder }
    }

    /// Asks for the cosignatures of the checkpoint at `size`.
    async fn ask(&self, witnesses: &Witnesses, size: usize, wait: Wait) -> Result<Vec<String>, NotCosigned> {
        witnesses.cosign(&self.checkpoints[size - 1], self.log.clone(), wait).await
    }
}

/// What a witness of these tests does when it is asked.
enum Does {
    /// Answers this.
    Answers(u16, String),
    /// Cosigns whatever it is shown, with another key than its own.
    ByAnotherKey,
    /// Cosigns a checkpoint that it was not shown.
    SomethingElse,
    /// Waits until the test lets it go on, and then does what comes next in the list.
    Waits,
}

/// A witness on a port of its own.
struct Fake {
    name: &'static str,
    key: WitnessKey,
    signer: SoftwareKey,
    log: VerifierKey,
    seen: Cell<Seen>,
    /// What it does each time. When nothing is left it judges as a witness must, and cosigns.
    does: Cell<VecDeque<Does>>,
    /// Requests that it has seen.
    asked: Semaphore,
    go_on: Semaphore,
}

impl Fake {
    fn new(name: &'static str, log: &VerifierKey, does: impl IntoIterator<Item = Does>) -> Arc<Self> {
        let signer = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let key =
            WitnessKey::ed25519(format!("{name}.example").parse().unwrap(), signer.public_key().clone());
        Arc::new(Self {
            name,
            key: key.unwrap(),
            signer,
            log: log.clone(),
            seen: Cell::default(),
            does: Cell::new(does.into_iter().collect()),
            asked: Semaphore::new(0),
            go_on: Semaphore::new(0),
        })
    }

    async fn line(&self, text: &str, signer: &SoftwareKey) -> String {
        let now = SystemClock.now();
        let message = self.key.message(text, now).unwrap();
        self.key.line(now, &signer.sign(&message).await.unwrap())
    }

    async fn answer(&self, request: &str) -> Response {
        self.asked.add_permits(1);
        let request: AddCheckpoint = request.parse().unwrap();
        let text = request.checkpoint.split_once("\n\n").unwrap().0.to_owned() + "\n";
        let mut does = self.does.lock().unwrap().pop_front();
        if matches!(does, Some(Does::Waits)) {
            self.go_on.acquire().await.unwrap().forget();
            does = self.does.lock().unwrap().pop_front();
        }
        match does {
            None | Some(Does::Waits) => {
                let judged = request.judge(&self.log, &self.seen.lock().unwrap().clone());
                match judged {
                    Ok(checkpoint) => {
                        *self.seen.lock().unwrap() = Seen { size: checkpoint.size, root: checkpoint.root };
                        self.line(&text, &self.signer).await.into_response()
                    }
                    Err(refusal) => {
                        let body = match &refusal {
                            AddRefusal::Conflict { size } => format!("{size}\n"),
                            other => other.to_string(),
                        };
                        (StatusCode::from_u16(refusal.status()).unwrap(), body).into_response()
                    }
                }
            }
            Some(Does::Answers(status, body)) => {
                (StatusCode::from_u16(status).unwrap(), body).into_response()
            }
            Some(Does::ByAnotherKey) => {
                let other = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
                self.line(&text, &other).await.into_response()
            }
            Some(Does::SomethingElse) => {
                let other = text.replace(ORIGIN, "ca.example/other");
                self.line(&other, &self.signer).await.into_response()
            }
        }
    }

    async fn serve(self: &Arc<Self>, listener: TcpListener) {
        let answer = async |State(fake): State<Arc<Self>>, request: String| fake.answer(&request).await;
        let router = Router::new().route("/add-checkpoint", post(answer)).with_state(self.clone());
        axum::serve(listener, router).await.unwrap();
    }
}

/// Those witnesses, each on a port, under a policy with this quorum (or group).
async fn witnesses(fakes: &[&Arc<Fake>], quorum: &str) -> Witnesses {
    let mut policy = String::new();
    for fake in fakes {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        policy += &format!("witness {} {} http://{address}/\n", fake.name, fake.key);
        let fake = (*fake).clone();
        tokio::spawn(async move { fake.serve(listener).await });
    }
    let policy: WitnessPolicy = (policy + quorum + "\n").parse().unwrap();
    Witnesses::new(Arc::new(policy), Http::new().unwrap(), Vec::new())
}

fn run(story: impl AsyncFnOnce(Witnessed)) {
    Runtime::new().unwrap().block_on(async { story(Witnessed::new().await).await });
}

#[test]
fn a_witness_that_does_not_do_its_work_is_counted_as_absent_and_one_that_saw_more_is_an_alarm() {
    run(async |log| {
        let answers = |status, body: &str| vec![Does::Answers(status, body.to_owned())];
        let absent = [
            (vec![Does::ByAnotherKey], "no cosignature of its key"),
            (vec![Does::SomethingElse], "no cosignature of its key"),
            (answers(200, ""), "no cosignature of its key"),
            (answers(200, "\u{2014} w1.example AAAA\n"), "no cosignature of its key"),
            (answers(200, &"x\n".repeat(MAX_ANSWER)), "length limit"),
            (answers(409, "many"), "names no size"),
            (answers(409, "-1"), "names no size"),
            ([0, 1, 0].map(|size| Does::Answers(409, format!("{size}\n"))).into(), "another size each time"),
            (answers(400, "no"), "400"),
            (answers(403, "no"), "403"),
            (answers(404, "no"), "404"),
            (answers(500, "no"), "500"),
            (answers(302, "elsewhere"), "302"),
        ];
        for (does, says) in absent {
            let w1 = Fake::new("w1", &log.key, does);
            let witnesses = witnesses(&[&w1], "quorum w1").await;
            let told = log.ask(&witnesses, 3, Wait::ForEnough).await;
            assert!(matches!(&told, Err(NotCosigned::TooFew(why)) if why.contains(says)), "{says}: {told:?}");
            // The next round is another: it is honest by now.
            assert_eq!(log.ask(&witnesses, 3, Wait::ForEnough).await.unwrap().len(), 1, "{says}");
        }
        let alarming = [
            (answers(409, "4\n"), "it has seen 4 entries"),
            (answers(409, "18446744073709551615"), "the log went back"),
            (answers(422, "another root\n"), "the log has forked (another root)"),
        ];
        for (does, says) in alarming {
            let w1 = Fake::new("w1", &log.key, does);
            let witnesses = witnesses(&[&w1], "quorum w1").await;
            let told = log.ask(&witnesses, 3, Wait::ForEnough).await;
            assert!(matches!(&told, Err(NotCosigned::Alarm(why)) if why.contains(says)), "{says}: {told:?}");
            assert!(witnesses.alarm().await.contains(says));
        }
    });
}

#[test]
fn a_witness_that_has_seen_less_than_we_thought_is_shown_the_proof_from_there() {
    run(async |log| {
        let w1 = Fake::new("w1", &log.key, []);
        let before = witnesses(&[&w1], "quorum w1").await;
        log.ask(&before, 2, Wait::ForEnough).await.unwrap();
        // A daemon that has started anew knows nothing of it.
        let witnesses = witnesses(&[&w1], "quorum w1").await;
        for size in [2, 3, 5, 5] {
            let lines = log.ask(&witnesses, size, Wait::ForEnough).await.unwrap();
            let note = log.checkpoints[size - 1].with_lines(&lines);
            w1.key.verify(&Note::parse(note.note()).unwrap()).unwrap();
        }
        assert_eq!(w1.seen.lock().unwrap().size, 5);
    });
}

#[test]
fn a_witness_that_is_gone_or_does_not_answer_in_time_is_missed_until_it_is_back() {
    run(async |log| {
        let w1 = Fake::new("w1", &log.key, [Does::Waits]);
        let slow = witnesses(&[&w1], "quorum w1").await;
        let told = log.ask(&slow, 1, Wait::ForEnough).await;
        assert!(matches!(&told, Err(NotCosigned::TooFew(why)) if why.contains("too long")), "{told:?}");
        log.ask(&slow, 2, Wait::ForEnough).await.unwrap();

        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let w2 = Fake::new("w2", &log.key, []);
        let policy = format!("witness w2 {} http://{address}/\nquorum w2\n", w2.key).parse().unwrap();
        let gone = Witnesses::new(Arc::new(policy), Http::new().unwrap(), Vec::new());
        for wait in [Wait::ForEnough, Wait::ForAll] {
            let told = log.ask(&gone, 1, wait).await;
            assert!(matches!(&told, Err(NotCosigned::TooFew(why)) if why.contains("`w2`")), "{told:?}");
        }
        let listener = TcpListener::bind(address).await.unwrap();
        let back = w2.clone();
        tokio::spawn(async move { back.serve(listener).await });
        log.ask(&gone, 1, Wait::ForEnough).await.unwrap();
    });
}

#[test]
fn who_answers_when_others_have_made_the_quorum_is_heard_all_the_same() {
    run(async |log| {
        let w1 = Fake::new("w1", &log.key, []);
        let w2 = Fake::new("w2", &log.key, [Does::Waits, Does::Answers(409, "9\n".into())]);
        let witnesses = witnesses(&[&w1, &w2], "group any-of-them any w1 w2\nquorum any-of-them").await;
        // The slow one delays nothing: it answers when the round is over, and not before.
        assert_eq!(log.ask(&witnesses, 1, Wait::ForEnough).await.unwrap().len(), 1);
        w2.go_on.add_permits(1);
        let what = witnesses.alarm().await;
        assert!(what.contains("`w2`") && what.contains("it has seen 9 entries"), "{what}");
    });
}

#[test]
fn a_start_waits_for_all_even_if_fewer_would_be_enough() {
    run(async |log| {
        let w1 = Fake::new("w1", &log.key, []);
        let w2 = Fake::new("w2", &log.key, [Does::Waits, Does::Answers(422, "no\n".into())]);
        let witnesses = witnesses(&[&w1, &w2], "group any-of-them any w1 w2\nquorum any-of-them").await;
        let start = log.ask(&witnesses, 4, Wait::ForAll);
        let let_go = async {
            // Not before the other has cosigned.
            while !witnesses.contacts[0].known.try_lock().is_ok_and(|known| known.seen == 4) {
                tokio::task::yield_now().await;
            }
            w2.go_on.add_permits(1);
        };
        let (told, ()) = tokio::join!(start, let_go);
        assert!(matches!(&told, Err(NotCosigned::Alarm(why)) if why.contains("`w2`")), "{told:?}");
    });
}

#[test]
fn one_that_never_answers_costs_two_requests_and_none_is_shown_less_than_before() {
    run(async |log| {
        let w1 = Fake::new("w1", &log.key, []);
        let w2 = Fake::new("w2", &log.key, [Does::Waits]);
        let witnesses = witnesses(&[&w1, &w2], "group any-of-them any w1 w2\nquorum any-of-them").await;
        for size in 1..=5 {
            log.ask(&witnesses, size, Wait::ForEnough).await.unwrap();
        }
        assert_eq!(witnesses.contacts[1].turns.available_permits(), 0);
        assert!(w2.asked.available_permits() <= 1);
        // A round that was overtaken by a later one must not look like a log that went back.
        let told = log.ask(&witnesses, 2, Wait::ForEnough).await;
        assert!(matches!(&told, Err(NotCosigned::TooFew(why)) if why.contains("newer")), "{told:?}");
        assert_eq!(w1.asked.available_permits(), 5);
        w2.go_on.add_permits(1);
    });
}
