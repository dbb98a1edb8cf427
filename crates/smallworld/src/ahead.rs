//! Making things on several threads ahead of the one that uses them, in order.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// How many finished things wait on each thread.
const WAITING: usize = 2;

/// Runs `body` with an iterator over `make(n)` for the numbers in order, each made on one of `threads`
/// threads ahead of its use. Which thread makes what changes nothing of the result.
pub(crate) fn ahead<T: Send, R>(
    numbers: Range<u64>,
    threads: usize,
    make: impl Fn(u64) -> T + Sync,
    body: impl FnOnce(&mut dyn Iterator<Item = T>) -> R,
) -> R {
    let threads = threads.max(1);
    thread::scope(|scope| {
        let mut lines: Vec<Receiver<T>> = Vec::new();
        for first in 0..threads as u64 {
            let (send, receive) = sync_channel(WAITING);
            lines.push(receive);
            let (numbers, make) = (numbers.clone(), &make);
            scope.spawn(move || {
                for number in numbers.skip(first as usize).step_by(threads) {
                    // The other end is gone where `body` ended early.
                    if send.send(make(number)).is_err() {
                        break;
                    }
                }
            });
        }
        let mut things = (0..numbers.end.saturating_sub(numbers.start))
            .map_while(|i| lines[i as usize % threads].recv().ok());
        let result = body(&mut things);
        drop(things);
        drop(lines);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::ahead;

    #[test]
    fn the_order_is_that_of_the_numbers() {
        for threads in [1, 3, 8] {
            let squares: Vec<u64> = ahead(5..25, threads, |n| n * n, |things| things.collect());
            assert_eq!(squares, (5..25).map(|n| n * n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_early_end_leaves_no_thread_waiting() {
        let first: Vec<u64> = ahead(0..1_000_000, 3, |n| n, |things| things.take(2).collect());
        assert_eq!(first, [0, 1]);
    }
}
