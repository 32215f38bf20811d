//! Revocations in the database: which changes there are, what is read, and that nobody waits for who reads.

use undercroft_ca::revocation::facts::{Change, CrlFact, Revocations as _, Series, Wanted};
use undercroft_ca::service::all_revoked;
use undercroft_ca::tbs::RevocationReason;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Reason, RevocationEvent};

use super::*;

fn issuer() -> KeyId {
    [7; 32].into()
}

fn serial(byte: u8) -> SerialNumber {
    SerialNumber::from_bytes([byte; 16]).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(noon().as_second() + second).unwrap()
}

fn changed(event: RevocationEvent, serials: &[u8], second: i64) -> Append<Effect> {
    let certificates = serials.iter().map(|byte| (serial(*byte), None)).collect();
    let reason = Reason::KeyCompromise;
    let change = Change { event, issuer: issuer(), certificates, reason, date: at(second) };
    with("revocation", vec![Effect::Revocation(change)])
}

/// Every change that there is, from every state: what `docs/revocation.md` says.
#[test]
fn what_is_revoked_stays_so() {
    use RevocationEvent::{Hold, Release, Revoke};
    let place = Place::new();
    place.run(async |database, log| {
        for byte in 1..=3 {
            log.append(with("intent", vec![certificate(byte)])).await.unwrap();
        }
        let state = async |byte| {
            let state = database.state(issuer(), serial(byte)).await.unwrap();
            state.map(|state| (state.reason, state.date))
        };
        let refused = async |event, second| log.append(changed(event, &[1], second)).await.unwrap_err();
        assert!(matches!(refused(Release, 0).await, AppendError::Refused(_)));
        log.append(changed(Hold, &[1], 1)).await.unwrap();
        assert!(matches!(refused(Hold, 2).await, AppendError::Refused(_)));
        log.append(changed(Release, &[1], 3)).await.unwrap();
        assert_eq!(state(1).await, Some((Some(RevocationReason::RemoveFromCrl), at(3))));
        assert!(matches!(refused(Release, 4).await, AppendError::Refused(_)));
        log.append(changed(Hold, &[1], 5)).await.unwrap();
        log.append(changed(Revoke, &[1], 6)).await.unwrap();
        // Since the hold: nobody was to trust it from then on.
        assert_eq!(state(1).await, Some((Some(RevocationReason::KeyCompromise), at(5))));
        for event in [Hold, Release, Revoke] {
            assert!(matches!(refused(event, 7).await, AppendError::Refused(_)), "{event:?}");
        }
        // All or none.
        let both = log.append(changed(Revoke, &[2, 1], 8)).await.unwrap_err();
        assert!(both.to_string().contains(&serial(1).to_string()), "{both}");
        assert_eq!(state(2).await, None);
        // What was never issued.
        assert!(log.append(changed(Revoke, &[9], 8)).await.is_err());
    });
}

#[test]
fn the_serial_number_of_an_abandoned_intent_is_revoked_with_its_outcome() {
    let place = Place::new();
    place.run(async |database, log| {
        log.append(with("intent", vec![certificate(1)])).await.unwrap();
        log.append(with("a crl", vec![Effect::Signed])).await.unwrap();
        log.append(with("outcome", vec![Effect::Abandoned { intent: 0 }])).await.unwrap();
        log.append(with("outcome", vec![Effect::Abandoned { intent: 1 }])).await.unwrap();
        assert_eq!(database.open_intents(ORIGIN).await.unwrap(), Vec::<u64>::new());
        let state = database.state(issuer(), serial(1)).await.unwrap().unwrap();
        assert_eq!((state.reason, state.date), (None, noon()));
        assert_eq!(database.changes(issuer(), 0, 10).await.unwrap().len(), 1);
    });
}

#[test]
fn certificates_are_found_by_serial_number_and_name_until_they_expire() {
    let place = Place::new();
    place.run(async |database, log| {
        for byte in 1..=3 {
            log.append(with("intent", vec![certificate(byte)])).await.unwrap();
        }
        let serials = [serial(2), serial(9)];
        let found = database.live(Wanted::Serials(&serials), noon()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.serial).collect::<Vec<_>>(), [serial(2)]);
        let named = database.live(Wanted::Named("spiffe://prod.example/a"), noon()).await.unwrap();
        assert_eq!(named.len(), 3);
        assert_eq!(database.live(Wanted::Named("spiffe://prod.example/b"), noon()).await.unwrap(), []);
        assert_eq!(database.live(Wanted::Serials(&serials), at(1)).await.unwrap(), []);
        let first = database.issued_since(issuer(), 0, noon(), 2).await.unwrap();
        assert_eq!(first.iter().map(|found| found.serial).collect::<Vec<_>>(), [serial(1), serial(2)]);
        let rest = database.issued_since(issuer(), first[1].position, noon(), 2).await.unwrap();
        assert_eq!(rest.iter().map(|found| found.serial).collect::<Vec<_>>(), [serial(3)]);
    });
}

#[test]
fn crl_numbers_only_grow_and_the_newest_crl_is_kept() {
    let place = Place::new();
    let series = Series { issuer: issuer(), shard: Some(3) };
    let numbered = |series, number| with("crl", vec![Effect::Signed, Effect::CrlNumbered { series, number }]);
    place.run(async |database, log| {
        log.append(numbered(series, 7)).await.unwrap();
        for number in [7, 6] {
            assert!(matches!(log.append(numbered(series, number)).await, Err(AppendError::Refused(_))));
        }
        // Another series has numbers of its own.
        log.append(numbered(Series { shard: None, ..series }, 2)).await.unwrap();
        log.append(numbered(series, 8)).await.unwrap();
        let mut numbers = database.crl_numbers(issuer()).await.unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, [(None, 2), (Some(3), 8)]);
    });
    let fact =
        CrlFact { series, delta_of: None, number: 8, this_update: noon(), next_update: at(60), covers: 5 };
    place.run(async |database, log| {
        let signed = Effect::CrlSigned { intent: 0, fact: fact.clone(), signature: vec![1, 2, 3] };
        log.append(with("outcome", vec![signed])).await.unwrap();
        // The entry is no intent, which is noticed.
        assert!(database.crls(issuer()).await.is_err());
    });
}

/// A reader that pauses between pages keeps no writer waiting, and still gets everything that was there when it began.
#[test]
fn writers_commit_while_a_crl_is_read() {
    let place = Place::new();
    place.run(async |database, log| {
        for byte in 1..=100 {
            log.append_durable(with("intent", vec![certificate(byte)])).await.unwrap();
        }
        let first: Vec<u8> = (1..=99).step_by(2).collect();
        log.append(changed(RevocationEvent::Revoke, &first, 0)).await.unwrap();
        let (mut from, mut read) = (SerialNumber::SMALLEST, Vec::new());
        for round in 0u8.. {
            let page = database.revoked(issuer(), from, None, Timestamp::UNIX_EPOCH, 7).await.unwrap();
            // Between pages somebody writes, and need not wait.
            let later = 2 * (round + 1);
            log.append(changed(RevocationEvent::Revoke, &[later], 1)).await.unwrap();
            let Some(last) = page.last() else { break };
            from = last.serial.next().unwrap();
            read.extend(page.into_iter().filter(|revoked| revoked.date <= noon()));
        }
        let serials: Vec<_> =
            read.iter().map(|revoked| *revoked.serial.as_bytes().first().unwrap()).collect();
        assert_eq!(serials, first);
        let mut from = SerialNumber::SMALLEST;
        let all = all_revoked(database, issuer(), &mut from, None, Timestamp::UNIX_EPOCH, noon()).await;
        assert_eq!(all.unwrap(), read);
    });
}
