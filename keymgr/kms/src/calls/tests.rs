use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures::executor::block_on;
use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// Calls on the runtime of a test, whose clock stands still unless everybody waits.
fn calls(at_once: usize) -> Calls {
    Calls::on("cloud", NonZeroUsize::new(at_once).unwrap(), LIMIT, Handle::current())
}

fn throttled() -> Failed {
    Failed::NotDone(Error::new(ErrorKind::Unavailable, "throttled"))
}

#[tokio::test(start_paused = true)]
async fn no_more_at_once_than_allowed_and_first_come_first_served() {
    let calls = calls(4);
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let order = Arc::new(Mutex::new(Vec::new()));
    let all = (0..64).map(|number| {
        let (under_way, most, order) = (under_way.clone(), most.clone(), order.clone());
        calls.run(move || {
            let (under_way, most, order) = (under_way.clone(), most.clone(), order.clone());
            async move {
                order.lock().unwrap().push(number);
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(10)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok(number)
            }
        })
    });
    let began = Instant::now();
    let answers: Result<Vec<_>, _> = join_all(all).await.into_iter().collect();
    assert_eq!(answers.unwrap(), (0..64).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 4);
    assert_eq!(*order.lock().unwrap(), (0..64).collect::<Vec<_>>());
    // 16 rounds of 10 ms each, and the clock's own millisecond a round.
    assert!(began.elapsed() <= Duration::from_millis(176), "{:?}", began.elapsed());
    assert_eq!(calls.outages(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_the_next_is_refused_at_once() {
    let calls = calls(2);
    let mut held: Vec<_> =
        (0..2 + WAITING).map(|_| Box::pin(calls.run(std::future::pending::<Result<(), Failed>>))).collect();
    for call in &mut held {
        assert!(poll!(call).is_pending());
    }
    let began = Instant::now();
    let refused = calls.run(|| async { Ok(()) }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("1024 calls wait for device `cloud` already"), "{refused}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    // Callers that go away make room, for their own turn and for those who wait.
    drop(held);
    sleep(Duration::from_millis(1)).await;
    calls.run(|| async { Ok(()) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_asking_and_not_from_the_turn() {
    let calls = calls(1);
    let began = Instant::now();
    let slow = || {
        calls.run(|| async {
            sleep(Duration::from_secs(7)).await;
            Ok(())
        })
    };
    let (first, second) = futures::join!(slow(), slow());
    first.unwrap();
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("`cloud` gave no answer within 10s"), "{error}");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(calls.outages(), 1);
    // And what ran out of time has given its place back.
    calls.run(|| async { Ok(()) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_done_is_tried_again() {
    let calls = calls(1);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let answer = calls.run(move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move { if number < 5 { Err(throttled()) } else { Ok(number) } }
    });
    assert_eq!(answer.await.unwrap(), 5);
    assert_eq!(calls.outages(), 0);

    for kind in [ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::Fault, ErrorKind::NotFound] {
        tries.store(0, Ordering::SeqCst);
        let counted = tries.clone();
        let answer = calls.run(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Err::<(), _>(Failed::Finally(Error::new(kind, "no"))) }
        });
        assert_eq!(answer.await.unwrap_err().kind(), kind);
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }
    assert_eq!(calls.outages(), 1, "a refusal is no outage");
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_end_with_the_limit() {
    let calls = calls(1);
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let began = Instant::now();
    let answer = calls.run(move || {
        noted.lock().unwrap().push(began.elapsed());
        async { Err::<(), _>(throttled()) }
    });
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().ends_with("within 10s: throttled"), "{error}");
    assert_eq!(began.elapsed().as_secs(), 10);
    let times = times.lock().unwrap();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut most = FIRST_PAUSE;
    for pause in &pauses {
        assert!(*pause >= most / 2 && *pause <= most + Duration::from_millis(2), "{pauses:?}");
        most = (most * 2).min(LONGEST_PAUSE);
    }
    assert!((12..=25).contains(&times.len()), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_went_away_is_given_up() {
    let calls = calls(1);
    let (dropped, told) = oneshot::channel::<()>();
    let dropped = Arc::new(Mutex::new(Some(dropped)));
    let mut call = Box::pin(calls.run(move || {
        let held = dropped.lock().unwrap().take();
        async move {
            let _held = held;
            std::future::pending::<Result<(), Failed>>().await
        }
    }));
    assert!(poll!(&mut call).is_pending());
    tokio::task::yield_now().await;
    drop(call);
    told.await.unwrap_err();
    calls.run(|| async { Ok(()) }).await.unwrap();
}

#[test]
fn whoever_waits_needs_no_runtime_and_may_have_one() {
    let calls = Calls::start("cloud", AT_ONCE, LIMIT).unwrap();
    let on_the_thread = || async {
        sleep(Duration::from_millis(1)).await;
        Ok(std::thread::current().name().map(str::to_owned))
    };
    assert_eq!(block_on(calls.run(on_the_thread)).unwrap().as_deref(), Some("cloud"));
    let panicked = block_on(calls.run(|| async { panic!("a call") as Result<(), Failed> })).unwrap_err();
    assert_eq!(panicked.kind(), ErrorKind::Fault);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        calls.run(on_the_thread).await.unwrap();
        // Dropped where a runtime must not wait.
        drop(calls);
    });
}
