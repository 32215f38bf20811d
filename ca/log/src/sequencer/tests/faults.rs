//! What is left when a write fails, or the process dies at it.

use futures::future::{Either, select};

use super::*;
use Fault::{
    KilledAfter, KilledBefore, None, OtherWriter, UnavailableAndNotPersisted, UnknownAndNotPersisted,
    UnknownButPersisted,
};

#[test]
fn faults_of_the_store() {
    for (fault, answer, stored) in [
        (UnavailableAndNotPersisted, "not available", 1),
        (UnknownAndNotPersisted, "not known", 1),
        (UnknownButPersisted, "not known", 2),
        (OtherWriter, "ok", 3),
    ] {
        let store = Memory::failing(&[None, fault]);
        let (told, ended) = run(store.clone(), Key::new(&[]), async |running| {
            running.log.append(entry("first")).await.unwrap();
            match running.log.append(entry("second")).await {
                Ok(receipt) => {
                    assert_eq!(receipt.index(), 2);
                    "ok".to_owned()
                }
                Err(error) => error.to_string(),
            }
        });
        assert!(told.contains(answer), "{fault:?}: {told}");
        assert_eq!(ended.is_err(), answer == "not known", "{fault:?}");
        assert_eq!(store.stored().entries.len(), stored, "{fault:?}");
        // Whatever happened, the log opens again and goes on.
        let (index, _) = run(store.clone(), Key::new(&[]), async |running| {
            running.log.append(entry("after")).await.unwrap().index()
        });
        assert_eq!(index, stored as u64, "{fault:?}");
    }
}

/// Opens the log, appends for a while and closes it, or is killed on the way. Gives the receipts that were told.
fn live(store: &Arc<Memory>, key: &Arc<Key>) -> Vec<Receipt> {
    let (kill, killed) = oneshot::channel();
    *store.killed.lock().unwrap() = Some(kill);
    let told = Mutex::new(Vec::new());
    let life = async {
        let clock = Arc::new(Hands(Mutex::new(100)));
        let limits = Limits { queue: 512, batch: 16 };
        let (log, driver) = open(store.clone(), key.clone(), clock, limits).await.unwrap();
        let story = async {
            for _ in 0..4 {
                let entries = (0..3).map(|n| log.append(entry(&n.to_string())));
                for receipt in join_all(entries).await.into_iter().flatten() {
                    told.lock().unwrap().push(receipt);
                }
            }
            log.close();
        };
        // It may have failed; what counts is what it leaves.
        let _ = futures::join!(story, driver);
    };
    match block_on(select(Box::pin(life), killed)) {
        Either::Left(((), _)) | Either::Right((Ok(()), _)) => {}
        Either::Right((Err(error), _)) => panic!("{error}"),
    }
    store.check();
    told.into_inner().unwrap()
}

/// Every write of three lives in a row, and everything that can become of one.
#[test]
fn whichever_write_fails_or_is_the_last_nothing_that_was_told_is_lost() {
    // Long enough for a tile to become full in the second life.
    let begun = Memory::failing(&[]);
    let (_, ended) = run(begun.clone(), Key::new(&[]), async |running| {
        join_all((0..240).map(|n| running.log.append(entry(&n.to_string())))).await
    });
    assert_eq!(ended, Ok(()));
    let faults = [
        UnavailableAndNotPersisted,
        UnknownAndNotPersisted,
        UnknownButPersisted,
        KilledBefore,
        KilledAfter,
        OtherWriter,
    ];
    for fault in faults {
        let mut writes = 0;
        loop {
            let list: Vec<_> = std::iter::repeat_n(None, writes).chain([fault]).collect();
            let (store, key) = (Memory::failing(&list), Key::new(&[]));
            *store.stored() = begun.stored().clone();
            let receipts: Vec<_> = (0..3).flat_map(|_| live(&store, &key)).collect();
            let stored = store.stored();
            assert_eq!(stored.tiles.len(), 1);
            let at = format!("{fault:?} at write {writes}");
            for receipt in &receipts {
                assert_eq!(stored.entries[receipt.index() as usize], receipt.leaf(), "{at}");
                receipt.proof().verify(receipt.leaf(), &key.verifier).unwrap();
            }
            // Whatever was signed, in whichever life: one root at each size, and that of what is stored now.
            let mut tree = GrowingTree::new();
            let mut roots = vec![tree.root()];
            for entry in &stored.entries {
                tree.push(leaf_hash(entry));
                roots.push(tree.root());
            }
            for text in key.signed.lock().unwrap().iter() {
                let checkpoint = Checkpoint::parse(text).unwrap();
                assert_eq!(roots.get(checkpoint.size as usize), Some(&checkpoint.root), "{at}");
            }
            if !store.faults.lock().unwrap().is_empty() {
                break;
            }
            writes += 1;
        }
        // Each life makes several batches and keeps a checkpoint at its end.
        assert!(writes > 10, "{fault:?}: {writes}");
    }
}
