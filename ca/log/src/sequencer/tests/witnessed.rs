//! The sequencer with witnesses beside it.

use super::*;

/// A witness that answers as it is told to; honestly if it is told nothing.
struct Script {
    key: crate::cosignature::WitnessKey,
    pair: Ed25519KeyPair,
    answers: Mutex<VecDeque<NotCosigned>>,
    asked: Mutex<Vec<(u64, Wait)>>,
    /// What it says when its round is over.
    late: (Sender<String>, Receiver<String>),
}

impl Script {
    fn new(answers: &[NotCosigned]) -> Arc<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let key = PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
        let key = crate::cosignature::WitnessKey::ed25519("witness.example".parse().unwrap(), key).unwrap();
        let answers = Mutex::new(answers.iter().cloned().collect());
        let late = async_channel::unbounded();
        Arc::new(Self { key, pair, answers, asked: Mutex::default(), late })
    }
}

#[async_trait]
impl Cosigner for Script {
    async fn cosign(
        &self,
        signed: &SignedCheckpoint,
        _: Arc<dyn LogReader>,
        wait: Wait,
    ) -> Result<Vec<String>, NotCosigned> {
        self.asked.lock().unwrap().push((signed.checkpoint().size, wait));
        match self.answers.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => {
                let message = self.key.message(&signed.checkpoint().text(), at(100)).unwrap();
                Ok(vec![self.key.line(at(100), self.pair.sign(&message).as_ref())])
            }
        }
    }

    async fn alarm(&self) -> String {
        self.late.1.recv().await.unwrap()
    }
}

#[test]
fn entries_that_want_witnesses_get_their_lines_and_others_do_not_wait() {
    let script = Script::new(&[]);
    let (receipts, ended) =
        run_with(Memory::failing(&[]), Key::new(&[]), Some(script.clone()), async |running| {
            let witnessed = (0..40).map(|n| {
                let assurance = if n % 2 == 0 { Assurance::Witnessed } else { Assurance::Signed };
                running.log.append_assured(entry(&n.to_string()), assurance)
            });
            join_all(witnessed).await
        });
    assert_eq!(ended, Ok(()));
    for (n, receipt) in receipts.into_iter().enumerate() {
        let receipt = receipt.unwrap();
        assert_eq!(receipt.index(), n as u64);
        let proof = receipt.proof();
        proof.verify(receipt.leaf(), &Key::new(&[]).verifier).unwrap();
        let note = crate::note::Note::parse(&proof.checkpoint).unwrap();
        assert!(n % 2 == 1 || script.key.verify(&note).is_ok(), "{n}");
    }
    let asked = script.asked.lock().unwrap().clone();
    assert!(asked.is_sorted_by_key(|(size, _)| *size) && !asked.is_empty(), "{asked:?}");
    assert!(asked.iter().all(|(_, wait)| *wait == Wait::ForEnough), "{asked:?}");
}

#[test]
fn without_witnesses_signed_is_all_there_is() {
    let (told, _) = run(Memory::failing(&[]), Key::new(&[]), async |running| {
        running.log.append_assured(entry("a"), Assurance::Witnessed).await.map(|receipt| receipt.index())
    });
    assert_eq!(told, Ok(0));
}

#[test]
fn too_few_witnesses_stop_those_entries_that_want_them_and_no_others() {
    let few = NotCosigned::TooFew("w1 is away".into());
    let script = Script::new(&[few.clone(), few.clone()]);
    let (told, ended) = run_with(Memory::failing(&[]), Key::new(&[]), Some(script), async |running| {
        let first = running.log.append_assured(entry("a"), Assurance::Witnessed).await;
        let second = running.log.append(entry("b")).await.map(|receipt| receipt.index());
        // By now the witness has been asked twice and answers from here on.
        let mut third = running.log.append_assured(entry("c"), Assurance::Witnessed).await;
        while let Err(AppendError::Unwitnessed { .. }) = third {
            third = running.log.append_assured(entry("c"), Assurance::Witnessed).await;
        }
        (first.unwrap_err(), second, third.is_ok())
    });
    assert_eq!(ended, Ok(()));
    let unwitnessed = AppendError::Unwitnessed { index: 0, why: few.to_string() };
    assert_eq!(told, (unwitnessed, Ok(1), true));
}

#[test]
fn witnesses_that_were_away_are_asked_again_although_nothing_is_appended() {
    let script = Script::new(&[NotCosigned::TooFew("w1 is away".into())]);
    let (cosigned, ended) =
        run_with(Memory::failing(&[]), Key::new(&[]), Some(script.clone()), async |running| {
            let watch = running.log.watch();
            running.log.append_assured(entry("a"), Assurance::Witnessed).await.unwrap_err();
            assert!(running.log.witnesses_away_since().is_some());
            while running.log.witnesses_away_since().is_some() {
                watch.ask_witnesses_again();
                futures::pending!();
            }
            running.log.checkpoint().unwrap()
        });
    assert_eq!(ended, Ok(()));
    assert!(script.key.verify(&crate::note::Note::parse(cosigned.note()).unwrap()).is_ok());
    assert!(script.asked.lock().unwrap().iter().all(|asked| *asked == (1, Wait::ForEnough)));
}

#[test]
fn witnesses_that_have_cosigned_are_not_asked_again_without_a_new_entry() {
    let script = Script::new(&[]);
    let ((), ended) = run_with(Memory::failing(&[]), Key::new(&[]), Some(script.clone()), async |running| {
        running.log.append_assured(entry("a"), Assurance::Witnessed).await.unwrap();
        running.log.watch().ask_witnesses_again();
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(*script.asked.lock().unwrap(), [(1, Wait::ForEnough)]);
}

#[test]
fn a_witness_that_has_seen_another_history_stops_the_log() {
    let alarm = NotCosigned::Alarm("it has seen 9 entries".into());
    let script = Script::new(std::slice::from_ref(&alarm));
    let store = Memory::failing(&[]);
    let (told, ended) = run_with(store.clone(), Key::new(&[]), Some(script), async |running| {
        let first = running.log.append_assured(entry("a"), Assurance::Witnessed).await.unwrap_err();
        (first, running.log.append(entry("b")).await.is_err())
    });
    assert_eq!(ended, Err(Fatal::Alarm("it has seen 9 entries".into())));
    assert!(matches!(told, (AppendError::Unwitnessed { index: 0, .. }, true)), "{told:?}");
    // It is asked before anything else at the next start.
    let clock = Arc::new(Hands(Mutex::new(100)));
    let script = Script::new(&[alarm]);
    let opened = block_on(open_witnessed(store, Key::new(&[]), Some(script), clock, Limits::default()));
    let Err(OpenError::Tampered { what, .. }) = opened else { panic!("it opens") };
    assert!(what.contains("it has seen 9 entries"), "{what}");
}

#[test]
fn a_witness_that_says_so_when_its_round_is_over_stops_the_log_too() {
    let script = Script::new(&[]);
    let store = Memory::failing(&[]);
    let (told, ended) = run_with(store.clone(), Key::new(&[]), Some(script.clone()), async |running| {
        running.log.append_assured(entry("a"), Assurance::Witnessed).await.unwrap();
        script.late.0.send("it has seen 9 entries".into()).await.unwrap();
        // Nothing else comes in, and the log stops all the same: what is asked for from then on is told why.
        while !running.log.queue.is_closed() {
            futures::pending!();
        }
        running.log.append(entry("b")).await.unwrap_err()
    });
    assert_eq!(ended, Err(Fatal::Alarm("it has seen 9 entries".into())));
    assert!(matches!(told, AppendError::Stopped(_)), "{told:?}");
    // At a start all are waited for, and not only as many as are enough.
    let clock = Arc::new(Hands(Mutex::new(100)));
    let script = Script::new(&[]);
    let opened =
        block_on(open_witnessed(store, Key::new(&[]), Some(script.clone()), clock, Limits::default()));
    assert!(opened.is_ok());
    assert_eq!(*script.asked.lock().unwrap(), [(1, Wait::ForAll)]);
}
