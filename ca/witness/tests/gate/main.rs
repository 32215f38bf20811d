//! The gate with a software key, on a folder, before a log whose operator may do what he likes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod crls;
mod http;
mod site;

use futures::executor::block_on;
use sha2::{Digest as _, Sha256};
use undercroft_ca::csr::request_info;
use undercroft_ca::profile::Kind;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::authorise::{Application, RequestApplication};
use undercroft_log::leaf::{Base64Bytes, Body, Digest, HexKeyId, Outcome, OutcomeResult, ToBeSigned};
use undercroft_log::tree::consistency_proof;
use undercroft_witness::gate::freeze::Freeze;
use undercroft_witness::gate::{Gate, is_gated};
use undercroft_witness::witness::WitnessError;

use site::{ALICE, Log, NONCE, ORIGIN, Site, ask, gated_area, key, said};

/// Something done to a good application.
type Change<'a> = &'a dyn Fn(&mut Application);

/// A server whose CA certificates nobody has approved.
const OTHER: &str = "spiffe://control.example/server/other";

/// A gate that has accepted a log with one request for an SVID in it; its index and the log's size.
fn opened() -> (Site, Gate, u64, u64) {
    let mut site = Site::new();
    let index = site.log_svid();
    let gate = site.gate();
    site.show(&gate, 0);
    let size = site.log.size();
    (site, gate, index, size)
}

fn status(answer: Result<(), WitnessError>) -> u16 {
    match answer {
        Ok(()) => 200,
        Err(WitnessError::Refused(refusal)) => refusal.status(),
        other => panic!("{other:?}"),
    }
}

fn tbs_of(site: &Site, index: u64) -> Vec<u8> {
    let leaf = undercroft_log::leaf::Leaf::parse(&site.log.entries[index as usize]).unwrap();
    match leaf.body {
        Body::Intent(undercroft_log::leaf::Intent { tbs: ToBeSigned::Der(der), .. }) => der.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_word_is_for_these_bytes_this_key_this_session_and_a_few_seconds() {
    let (site, gate, index, size) = opened();
    let word = block_on(gate.authorise(&site.log.application(index, size))).unwrap();
    let tbs = tbs_of(&site, index);
    assert!((1..=60).contains(&word.expiration), "it expires, and leaves no ticket: {}", word.expiration);
    let over = |key, tbs: &[u8], nonce: &[u8], expiration| {
        site.is_over(&word, &site.message(key, tbs, nonce, expiration))
    };
    assert!(over(&site.ca, &tbs, &NONCE, word.expiration));
    let mut other = tbs.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(!over(&site.ca, &other, &NONCE, word.expiration));
    assert!(!over(&site.new_ca, &tbs, &NONCE, word.expiration));
    assert!(!over(&site.ca, &tbs, &[0; 32], word.expiration));
    assert!(!over(&site.ca, &tbs, &[], word.expiration));
    for expiration in [0, -word.expiration, word.expiration + 1, i32::MAX] {
        assert!(!over(&site.ca, &tbs, &NONCE, expiration), "{expiration}");
    }
    // What was kept is what stands in the log, for whoever asks.
    let origin = hex::encode(Sha256::digest(ORIGIN));
    assert_eq!(block_on(gate.leaf(&origin, index)).unwrap().unwrap(), site.log.entries[index as usize]);
    assert_eq!(block_on(gate.leaf(&origin, index + 1)).unwrap(), None);
}

#[test]
fn an_index_is_good_for_one_word_over_restarts() {
    let (mut site, gate, index, size) = opened();
    let application = site.log.application(index, size);
    assert_eq!(ask(&gate, &application), "ok");
    assert_eq!(ask(&gate, &application), "used");
    let other_nonce = Application { nonce: Base64Bytes(vec![1; 32]), ..application.clone() };
    assert_eq!(ask(&gate, &other_nonce), "used");
    drop(gate);
    let gate = site.gate();
    assert_eq!(ask(&gate, &application), "used");
    // The same bytes at another place are another intent.
    let again = site.log_intent(site.intent(Kind::Svid, ToBeSigned::Der(Base64Bytes(tbs_of(&site, index)))));
    site.show(&gate, size);
    assert_eq!(ask(&gate, &site.log.application(again, site.log.size())), "ok");
    assert_eq!(ask(&gate, &site.log.application(index, site.log.size())), "used");
}

/// Many at once get one word between them.
#[test]
fn of_many_who_ask_at_once_one_gets_a_word() {
    let (mut site, gate, index, _) = opened();
    site.rate = 100;
    let application = site.log.application(index, site.log.size());
    let (gate, application) = (&gate, &application);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(move || ask(gate, application))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|said| *said == "ok").count(), 1, "{answers:?}");
    assert!(answers.iter().all(|said| said == "ok" || said == "used"), "{answers:?}");
}

#[test]
fn what_does_not_stand_in_the_accepted_log_gets_no_word() {
    let (mut site, gate, index, size) = opened();
    let good = site.log.application(index, size);
    // Behind what was accepted.
    let later = site.log_svid();
    assert_eq!(ask(&gate, &site.log.application(later, size + 1)), format!("conflict {size}"));
    let mut wrong = site.log.application(later, size + 1);
    wrong.size = size;
    assert_eq!(ask(&gate, &wrong), "not-in-the-log");
    // With another entry's proof, with none, with too long a one, with what is no hash.
    let cases: [(&str, Change<'_>); 9] = [
        ("not-in-the-log", &|a| a.proof = site.log.application(0, size).proof),
        ("not-in-the-log", &|a| a.proof.clear()),
        ("not-in-the-log", &|a| a.proof.push(a.proof[0].clone())),
        ("malformed", &|a| a.proof = vec![a.proof[0].clone(); 64]),
        ("malformed", &|a| a.proof[0] = "no hash".into()),
        ("not-in-the-log", &|a| a.size = 0),
        ("conflict 4", &|a| a.size = 3),
        ("conflict 4", &|a| a.size = u64::MAX),
        // An entry that nobody logged.
        ("not-in-the-log", &|a| {
            let text = String::from_utf8(a.leaf.0.clone()).unwrap();
            a.leaf.0 = text.replace("\"sequence\":1", "\"sequence\":2").into_bytes();
        }),
    ];
    for (n, (rule, change)) in cases.into_iter().enumerate() {
        let mut application = good.clone();
        change(&mut application);
        assert_eq!(ask(&gate, &application), rule, "case {n}");
    }
    assert_eq!(ask(&gate, &good), "ok", "nothing of it has used the index up");
}

#[test]
fn what_is_no_intent_of_this_place_gets_no_word() {
    let (mut site, gate, index, size) = opened();
    let good = site.log.application(index, size);
    let cases: [(&str, Change<'_>); 10] = [
        ("malformed", &|a| a.index += 1),
        ("malformed", &|a| a.origin = "ca.example/undercroft/other.example/1".into()),
        ("malformed", &|a| a.leaf.0 = b"{}".to_vec()),
        ("malformed", &|a| a.leaf.0.clear()),
        ("malformed", &|a| a.leaf.0.push(b'}')),
        ("malformed", &|a| a.tbs = Some(Base64Bytes(tbs_of(&site, index)))),
        // Without a nonce a word would be for any session; a very long one would move what is signed.
        ("malformed", &|a| a.nonce.0.clear()),
        ("malformed", &|a| a.nonce.0.truncate(15)),
        ("malformed", &|a| a.nonce.0.push(0)),
        ("malformed", &|a| a.nonce.0 = vec![0; 4096]),
    ];
    for (n, (rule, change)) in cases.into_iter().enumerate() {
        let mut application = good.clone();
        change(&mut application);
        assert_eq!(ask(&gate, &application), rule, "case {n}");
    }
    assert_eq!(ask(&gate, &good), "ok", "nothing of it has used the index up");

    // In the log, and nothing that a gate releases.
    let body = Body::Outcome(Outcome {
        intent: index,
        result: OutcomeResult::Abandoned("so".into()),
        command: None,
    });
    let outcome = site.log.push(site.entry(ORIGIN, size, &body));
    let svid = |site: &Site| {
        let tbs = site.tbs(Kind::Svid, "spiffe://prod.example/ns/a/sa/b");
        site.intent(Kind::Svid, ToBeSigned::Der(Base64Bytes(tbs)))
    };
    let mut foreign = svid(&site);
    foreign.key_id = HexKeyId([9; 32].into());
    let mut uncertified = svid(&site);
    uncertified.key_id = HexKeyId(site.new_ca.id());
    let (foreign, uncertified) = (site.log_intent(foreign), site.log_intent(uncertified));
    let moved = Body::Intent(svid(&site));
    let moved = site.log.push(site.entry(ORIGIN, 77, &moved));
    let elsewhere = Body::Intent(svid(&site));
    let elsewhere =
        site.log.push(site.entry("ca.example/undercroft/other.example/1", site.log.size(), &elsewhere));
    let garbage = site.log.push(b"not an entry".to_vec());
    site.show(&gate, size);
    for (index, said) in [
        (outcome, "malformed"),
        (foreign, "unknown"),
        (uncertified, "unknown"),
        (moved, "malformed"),
        (elsewhere, "malformed"),
        (garbage, "malformed"),
    ] {
        assert_eq!(ask(&gate, &site.log.application(index, site.log.size())), said, "entry {index}");
    }
    // A whole other log that names the same key.
    let mut other = Log::new("ca.example/undercroft/other.example/1");
    let entry = site.entry("ca.example/undercroft/other.example/1", 0, &Body::Intent(svid(&site)));
    other.push(entry);
    assert_eq!(status(block_on(gate.add_checkpoint(&other.request(0, "")))), 404);
    assert_eq!(ask(&gate, &other.application(0, 1)), "unknown");
}

#[test]
fn its_own_policy_has_the_say() {
    let (mut site, gate, _, size) = opened();
    let log = |site: &mut Site, kind, uri, caller: &str| {
        let mut intent = site.intent(kind, ToBeSigned::Der(Base64Bytes(site.tbs(kind, uri))));
        intent.caller.id = caller.to_owned();
        site.log_intent(intent)
    };
    let id = "spiffe://prod.example/ns/a/sa/b";
    let rows = [
        (log(&mut site, Kind::Svid, "spiffe://prod.example/admin", ALICE), "id-not-allowed"),
        (log(&mut site, Kind::SpireCa, "spiffe://prod.example", ALICE), "no-rule"),
        (log(&mut site, Kind::SpireCa, "spiffe://prod.example", OTHER), "authority-not-approved"),
        (log(&mut site, Kind::Svid, id, OTHER), "no-rule"),
        (log(&mut site, Kind::Svid, id, "spiffe://control.example/nobody"), "caller-unknown"),
        (log(&mut site, Kind::Svid, id, ALICE), "ok"),
    ];
    let old = site.log_svid();
    site.show(&gate, size);
    let size = site.log.size();
    for (index, rule) in rows {
        assert_eq!(ask(&gate, &site.log.application(index, size)), rule);
    }
    // An old intent that nobody has used is not for later.
    site.clock.forward(601);
    let fresh = site.log_svid();
    site.show(&gate, size);
    let size = site.log.size();
    assert_eq!(ask(&gate, &site.log.application(old, size)), "stale");
    assert_eq!(ask(&gate, &site.log.application(fresh, size)), "ok");
}

#[test]
fn heads_only_grow_and_earlier_ones_count() {
    let (mut site, gate, index, size) = opened();
    site.log.fill("more", 300);
    site.show(&gate, size);
    let grown = site.log.size();
    // The same once more, and a head that it never saw.
    site.show(&gate, grown);
    assert_eq!(ask(&gate, &site.log.application(index, grown - 1)), format!("conflict {grown}"));
    // Another history under the same key, larger and as large; one that is not the log's; and one that went back.
    let mut fork = site.log.fork();
    fork.fill("fork", grown + 5);
    assert_eq!(status(block_on(gate.add_checkpoint(&fork.request(grown, "")))), 422);
    assert_eq!(status(block_on(gate.add_checkpoint(&fork.request(0, "")))), 409);
    let mut as_large = site.log.fork();
    as_large.fill("fork", grown);
    assert_eq!(status(block_on(gate.add_checkpoint(&as_large.request(grown, "")))), 422);
    let mut stranger = Log::new(ORIGIN);
    stranger.fill("stranger", grown + 1);
    assert_eq!(status(block_on(gate.add_checkpoint(&stranger.request(grown, "")))), 403);
    let back = site.log.until(size);
    for old in [0, 1] {
        match block_on(gate.add_checkpoint(&back.request(old, ""))) {
            Err(WitnessError::Refused(refusal)) => {
                assert_eq!(refusal, undercroft_log::add_checkpoint::AddRefusal::Conflict { size: grown })
            }
            other => panic!("{other:?}"),
        }
    }
    // None of it has changed anything: both heads that it accepted count, in the order of the log's batches or not.
    assert_eq!(ask(&gate, &fork.application(0, grown + 5)), "malformed");
    assert_eq!(ask(&gate, &site.log.application(index, size)), "ok");
    drop(gate);
    // A gate that starts anew knows the last one alone, and says so.
    let gate = site.gate();
    assert_eq!(ask(&gate, &site.log.application(index, size)), format!("conflict {grown}"));
    assert_eq!(ask(&gate, &site.log.application(index, grown)), "used");
    assert_eq!(status(block_on(gate.add_checkpoint(&back.request(0, "")))), 409);
}

/// A head was with its witnesses while the log, and the gate, went on.
#[test]
fn an_older_head_counts_once_it_is_shown_to_be_a_beginning_of_the_newest() {
    let mut site = Site::new();
    site.is_witnessed = true;
    let ca = site.log_spire_ca();
    let older = site.log.until(site.log.size());
    site.log.fill("more", 40);
    let gate = site.gate();
    site.show(&gate, 0);
    let newest = site.log.size();
    let cosigned = {
        let mut at_that_time = older.until(older.size());
        std::mem::swap(&mut at_that_time, &mut site.log);
        let line = site.cosignature();
        std::mem::swap(&mut at_that_time, &mut site.log);
        line
    };
    let show = |proof_from: &Log, head: &Log, old: u64| {
        let proof = consistency_proof(&proof_from.tree, head.size(), proof_from.size()).unwrap();
        let checkpoint = format!("{}{cosigned}", head.head()).into();
        status(block_on(gate.add_checkpoint(&AddCheckpoint { old, proof, checkpoint }.to_string())))
    };
    assert_eq!(ask(&gate, &site.log.application(ca, newest)), "not-witnessed");
    // Not a beginning of the newest, or shown against another one than that.
    let mut fork = site.log.fork();
    fork.fill("fork", older.size());
    assert_eq!(show(&site.log, &fork, newest), 422);
    assert_eq!(show(&site.log, &older, newest - 1), 400);
    assert_eq!(ask(&gate, &site.log.application(ca, newest)), "not-witnessed");
    assert_eq!(show(&site.log, &older, newest), 200);
    assert_eq!(ask(&gate, &site.log.application(ca, newest)), "ok");
}

/// Each CA certificate could make many others, so that there are few of them in a time.
#[test]
fn ca_certificates_have_a_rate_of_their_own() {
    let mut site = Site::new();
    let indices: Vec<_> = (0..3).map(|_| site.log_spire_ca()).collect();
    let leaf = site.log_svid();
    let gate = site.gate();
    site.show(&gate, 0);
    let told: Vec<_> =
        indices.iter().map(|index| ask(&gate, &site.log.application(*index, site.log.size()))).collect();
    assert_eq!(told, ["ok", "ok", "rate"]);
    assert_eq!(ask(&gate, &site.log.application(leaf, site.log.size())), "ok");
}

#[test]
fn bytes_that_an_entry_only_names_are_kept_with_it() {
    let (mut site, gate, _, size) = opened();
    let tbs = site.tbs(Kind::Svid, "spiffe://prod.example/ns/a/sa/b");
    let blob = |sha256, length| ToBeSigned::Blob { sha256, length };
    let digest = Digest::of(&tbs);
    let good = site.log_intent(site.intent(Kind::Svid, blob(digest, tbs.len() as u64)));
    let longer = site.log_intent(site.intent(Kind::Svid, blob(digest, tbs.len() as u64 + 1)));
    site.show(&gate, size);
    let ask = |index, tbs: Option<&[u8]>| {
        let mut application = site.log.application(index, site.log.size());
        application.tbs = tbs.map(|tbs| Base64Bytes(tbs.to_vec()));
        ask(&gate, &application)
    };
    let mut other = tbs.clone();
    other[20] ^= 1;
    for (index, tbs) in [
        (good, None),
        (good, Some(&other[..])),
        (good, Some(&tbs[1..])),
        (good, Some(&[])),
        (longer, Some(&tbs)),
    ] {
        assert_eq!(ask(index, tbs), "malformed", "{index}");
    }
    assert_eq!(block_on(gate.blob(&digest.to_string())).unwrap(), None);
    assert_eq!(ask(good, Some(&tbs)), "ok");
    assert_eq!(block_on(gate.blob(&digest.to_string())).unwrap().unwrap(), tbs);
    for odd in ["", "../frozen", &digest.to_string().to_uppercase(), &"0".repeat(64)] {
        assert_eq!(block_on(gate.blob(odd)).unwrap(), None, "{odd}");
    }
}

#[test]
fn a_freeze_stops_everything_and_what_nobody_can_read_is_one() {
    let (mut site, gate, index, size) = opened();
    let freeze = Freeze::in_folder(site.folder.path());
    let request = RequestApplication { key_id: HexKeyId(site.ca.id()), nonce: Base64Bytes(NONCE.to_vec()) };
    freeze.freeze("a drill").unwrap();
    assert_eq!(ask(&gate, &site.log.application(index, size)), "frozen");
    assert_eq!(said(block_on(gate.authorise_request(&request))), "frozen");
    drop(gate);
    let gate = site.gate();
    assert_eq!(ask(&gate, &site.log.application(index, size)), "frozen");
    assert!(freeze.release().unwrap());
    std::fs::create_dir(site.folder.path().join("frozen")).unwrap();
    assert_eq!(ask(&gate, &site.log.application(index, size)), "broken");
    assert_eq!(said(block_on(gate.authorise_request(&request))), "broken");
    std::fs::remove_dir(site.folder.path().join("frozen")).unwrap();
    // None of these has used the index up.
    assert_eq!(ask(&gate, &site.log.application(index, size)), "ok");
    assert_eq!(said(block_on(gate.authorise_request(&request))), "ok");
    let next = site.log_svid();
    site.show(&gate, size);
    assert_eq!(ask(&gate, &site.log.application(next, site.log.size())), "ok");
}

#[test]
fn no_more_pass_in_a_time_than_its_rate() {
    let mut site = Site::new();
    site.rate = 2;
    let first = site.log_svid();
    for _ in 0..3 {
        site.log_svid();
    }
    let gate = site.gate();
    site.show(&gate, 0);
    let size = site.log.size();
    let ask = |n| ask(&gate, &site.log.application(first + n, size));
    // What is refused for another reason takes nothing of it.
    assert_eq!([ask(0), ask(0), ask(0), ask(1), ask(2)], ["ok", "used", "used", "ok", "rate"]);
    site.clock.forward(59);
    assert_eq!(ask(2), "rate");
    site.clock.forward(1);
    assert_eq!([ask(2), ask(3)], ["ok", "ok"]);
}

#[test]
fn a_key_may_ask_for_its_one_request() {
    let (site, gate, ..) = opened();
    let apply = |key_id, nonce: &[u8]| {
        let nonce = Base64Bytes(nonce.to_vec());
        block_on(gate.authorise_request(&RequestApplication { key_id: HexKeyId(key_id), nonce }))
    };
    for key in [&site.ca, &site.new_ca] {
        let word = apply(key.id(), &NONCE).unwrap();
        let info = request_info(key).unwrap();
        assert!(site.is_over(&word, &site.message(key, &info, &NONCE, word.expiration)));
        assert!(!site.is_over(&word, &site.message(key, &info, &[0; 32], word.expiration)));
    }
    assert_eq!(said(apply([1; 32].into(), &NONCE)), "unknown");
    for nonce in [&[][..], &[0; 15], &[0; 33]] {
        assert_eq!(said(apply(site.ca.id(), nonce)), "malformed", "{}", nonce.len());
    }
}

#[test]
fn what_cannot_be_kept_gets_no_word() {
    let (site, gate, index, size) = opened();
    let place = site.folder.path().join("leaves").join(hex::encode(Sha256::digest(ORIGIN)));
    // No file can be there.
    std::fs::create_dir(&place).unwrap();
    assert_eq!(ask(&gate, &site.log.application(index, size)), "broken");
    std::fs::remove_dir(&place).unwrap();
    drop(gate);
    // Nothing more fits.
    std::os::unix::fs::symlink("/dev/full", &place).unwrap();
    let gate = site.gate();
    assert_eq!(ask(&gate, &site.log.application(index, size)), "broken");
    std::fs::remove_file(&place).unwrap();
    // Nobody knows what is there now, until it starts anew.
    assert_eq!(ask(&gate, &site.log.application(index, size)), "broken");
    drop(gate);
    assert_eq!(ask(&site.gate(), &site.log.application(index, size)), "ok");
}

#[test]
fn ca_certificates_want_witnesses_and_leaves_do_for_a_while_without() {
    let mut site = Site::new();
    site.is_witnessed = true;
    let (leaf, ca) = (site.log_svid(), site.log_spire_ca());
    let gate = site.gate();
    site.show(&gate, 0);
    let size = site.log.size();
    // None was cosigned yet. A line of somebody else, and the witness's over another head, are none.
    for lines in ["\u{2014} w1.example AAAAAAAA\n", "\u{2014} w2.example AAAAAAAA\n"] {
        let _ = block_on(gate.add_checkpoint(&site.log.request(size, lines)));
        for index in [leaf, ca] {
            assert_eq!(ask(&gate, &site.log.application(index, size)), "not-witnessed");
        }
    }
    site.show_cosigned(&gate, size);
    assert_eq!(ask(&gate, &site.log.application(ca, size)), "ok");
    // A log that rests has not been left by its witnesses.
    site.clock.forward(300);
    let (leaf, ca) = (site.log_svid(), site.log_spire_ca());
    let cosigned = size;
    site.show(&gate, cosigned);
    let size = site.log.size();
    assert_eq!(ask(&gate, &site.log.application(leaf, size)), "ok");
    assert_eq!(ask(&gate, &site.log.application(ca, size)), "not-witnessed");
    // They are away, and the last head that they cosigned is shown again and again.
    site.clock.forward(59);
    let late = site.log_svid();
    site.show(&gate, size);
    let size = site.log.size();
    assert_eq!(ask(&gate, &site.log.application(late, size)), "ok");
    site.clock.forward(1);
    let mut before = site.log.until(cosigned);
    let too_late = site.log_svid();
    std::mem::swap(&mut before, &mut site.log);
    site.show_cosigned(&gate, cosigned);
    std::mem::swap(&mut before, &mut site.log);
    site.show(&gate, size);
    let size = site.log.size();
    assert_eq!(ask(&gate, &site.log.application(too_late, size)), "not-witnessed");
    // They come back. A gate that starts anew waits for them.
    site.show_cosigned(&gate, size);
    assert_eq!(ask(&gate, &site.log.application(too_late, size)), "ok");
    assert_eq!(ask(&gate, &site.log.application(ca, size)), "ok");
    drop(gate);
    let gate = site.gate();
    let next = site.log_svid();
    site.show(&gate, size);
    assert_eq!(ask(&gate, &site.log.application(next, site.log.size())), "not-witnessed");
    site.show_cosigned(&gate, site.log.size());
    assert_eq!(ask(&gate, &site.log.application(next, site.log.size())), "ok");
}

#[test]
fn a_gates_key_is_p256_and_it_releases_gated_keys_alone() {
    let site = Site::new();
    for algorithm in [KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519] {
        let clock = site.clock.clone();
        let refused = Gate::new(key(algorithm), Vec::new(), None, site.folder.path(), clock).err().unwrap();
        assert!(refused.to_string().contains("must be ecdsa-p256"), "{refused}");
    }
    let gated = gated_area(&site.ca, site.gate_key.public_key());
    assert_eq!(is_gated(&gated), Ok(()));
    // Each attribute that it must or must not have: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign.
    for bit in [0x2_u32, 0x10, 0x20, 0x40, 0x40000] {
        let mut bytes = gated.encode();
        let attributes = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) ^ bit;
        bytes[4..8].copy_from_slice(&attributes.to_be_bytes());
        let area = undercroft_tpm_wire::PublicArea::parse(&bytes).unwrap();
        assert!(is_gated(&area).is_err(), "{}", area.attributes);
    }
    let plain = undercroft_tpm_wire::PublicArea::of_gate(&site.ca).unwrap();
    assert!(is_gated(&plain).unwrap_err().contains("not gated"));
}
