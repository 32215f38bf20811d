//! Work that takes a processor's time, on as many of them as there are.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does `work` for each of `items` and gives the results in their order. Whoever wants bounded memory asks for a few
/// items at a time.
pub(crate) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match items.get(at) {
                Some(item) => done.push((at, work(item))),
                None => return done,
            }
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut done = worker();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The bundles of a log, a few at a time.
pub(crate) fn windows(bundles: u64, at_a_time: u64) -> impl Iterator<Item = Vec<u64>> {
    let firsts = (0..bundles).step_by(at_a_time as usize);
    firsts.map(move |first| (first..bundles.min(first + at_a_time)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_items() {
        let items: Vec<u64> = windows(1000, 7).flatten().collect();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
        assert_eq!(each(&items, |item| item * 2), (0..1000).map(|item| item * 2).collect::<Vec<_>>());
        assert!(each(&[0u8; 0], |item| *item).is_empty());
    }

    #[test]
    #[should_panic(expected = "number 3")]
    fn a_panic_is_not_swallowed() {
        each(&[1, 2, 3, 4], |item| assert_ne!(*item, 3, "number 3"));
    }
}
