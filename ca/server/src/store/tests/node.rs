//! One TPM, one node; one exchange, one certificate; a clock that only goes forward.

use futures::future::join_all;
use undercroft_ca::nodes::LastClock;
use undercroft_ca::store::{Effect, Facts as _, NodeFact};
use undercroft_log::leaf::Digest;
use undercroft_log::sequencer::{Append, AppendError};

use super::{Place, with};

fn node(transcript: u8) -> NodeFact {
    NodeFact {
        endorsement: Digest([1; 32]),
        domain: "prod.example".into(),
        spiffe_id: "spiffe://prod.example/node/a".into(),
        attestation_key: vec![0, 0x0b, 3],
        clock: LastClock {
            milliseconds: u64::from(transcript),
            resets: 4,
            restarts: 5,
            safe: true,
            firmware: u64::MAX,
        },
        transcript: Digest([transcript; 32]),
        evidence: Digest([9; 32]),
    }
}

fn attested(fact: NodeFact) -> Append<Effect> {
    with("attested", vec![Effect::NodeAttested(fact)])
}

fn refused(told: Result<impl Sized, AppendError>) -> String {
    match told {
        Err(AppendError::Refused(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => String::new(),
    }
}

#[test]
fn a_node_is_kept_as_it_was_last_seen() {
    let place = Place::new();
    place.run(async |_, log| {
        log.append(attested(node(1))).await.unwrap();
        log.append(attested(node(2))).await.unwrap();
    });
    place.run(async |database, _| {
        let kept = Some(node(2));
        assert_eq!(database.node(Digest([1; 32])).await.unwrap(), kept);
        assert_eq!(database.node_of_id("spiffe://prod.example/node/a").await.unwrap(), kept);
        assert_eq!(database.nodes("prod.example", "", 10).await.unwrap(), [node(2)]);
        for (domain, after, most) in [
            ("prod.example", "spiffe://prod.example/node/a", 10),
            ("other.example", "", 10),
            ("prod.example", "", 0),
        ] {
            assert!(database.nodes(domain, after, most).await.unwrap().is_empty());
        }
        assert_eq!(database.node(Digest([2; 32])).await.unwrap(), None);
    });
}

#[test]
fn an_exchange_a_tpm_and_an_id_are_taken_once() {
    let place = Place::new();
    place.run(async |database, log| {
        let both = join_all([attested(node(1)), attested(node(1))].map(|append| log.append(append))).await;
        let both: Vec<_> = both.into_iter().map(refused).collect();
        assert_eq!(both, ["", "this exchange has led to a certificate before"]);
        let claimed = "the TPM is another node's, or the node has another TPM";
        let overtaken = "a later attestation of this TPM is known";
        let clock = |milliseconds, resets| LastClock { milliseconds, resets, ..node(1).clock };
        for (fact, why) in [
            (NodeFact { spiffe_id: "spiffe://prod.example/node/b".into(), ..node(2) }, claimed),
            (NodeFact { domain: "other.example".into(), ..node(2) }, claimed),
            (NodeFact { endorsement: Digest([2; 32]), ..node(2) }, claimed),
            (NodeFact { clock: clock(1, 4), ..node(2) }, overtaken),
            (NodeFact { clock: clock(0, 4), ..node(2) }, overtaken),
            (NodeFact { clock: clock(9, 3), ..node(2) }, overtaken),
            (node(1), "this exchange has led to a certificate before"),
            (NodeFact { clock: clock(0, 5), ..node(2) }, ""),
            // Its attestation key is another one, which was activated: the clock is that of the same TPM, or obfuscated.
            (NodeFact { attestation_key: vec![1], ..node(3) }, ""),
        ] {
            assert_eq!(refused(log.append(attested(fact.clone())).await), why, "{fact:?}");
        }
        let last = database.node(Digest([1; 32])).await.unwrap().unwrap();
        assert_eq!(last.transcript, Digest([3; 32]));
    });
}

#[test]
fn a_tpm_that_was_released_may_be_another_node() {
    let place = Place::new();
    let released = || with("released", vec![Effect::NodeReleased { endorsement: Digest([1; 32]) }]);
    place.run(async |database, log| {
        assert_eq!(refused(log.append(released()).await), "the TPM is no node's");
        log.append(attested(node(1))).await.unwrap();
        log.append(released()).await.unwrap();
        assert_eq!(database.node(Digest([1; 32])).await.unwrap(), None);
        let spent = refused(log.append(attested(node(1))).await);
        assert_eq!(spent, "this exchange has led to a certificate before", "what was spent stays so");
        let other = NodeFact { spiffe_id: "spiffe://prod.example/node/b".into(), ..node(2) };
        log.append(attested(other.clone())).await.unwrap();
        assert_eq!(database.node(Digest([1; 32])).await.unwrap(), Some(other));
    });
}
