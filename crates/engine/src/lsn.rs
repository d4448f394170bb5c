//! The LSN allocator: one counter, one `fetch_add`, and the bit that ends it.
//!
//! # Invariants
//! 1. LSNs are dense: each is given out once, a batch takes a contiguous band.
//! 2. The top bit is set once, for good. An LSN drawn after that is not accepted; every LSN drawn before
//!    it will be published, so the final drain knows what it waits for.

use braidlog_format::Lsn;
use crossbeam_utils::CachePadded;

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

const ENDED: u64 = 1 << 63;

/// Gives out LSNs until it is ended.
#[derive(Debug)]
pub(crate) struct LsnAllocator {
    /// The next LSN; from the top bit on, the log accepts no more. Written by every append, so it has its
    /// cache line for itself. An RMW reads the newest value in modification order whatever its ordering, which
    /// makes LSNs unique and monotone; the records themselves are published by their stripe. So accesses are
    /// `Relaxed`, but for the draw: it stands against the flusher's sleep.
    next: CachePadded<AtomicU64>,
    /// The last LSN that was accepted, once ended. Set under the lock in which the bit is set, so that
    /// whoever sees the bit and takes the lock sees the value.
    last: Mutex<Option<Lsn>>,
}

impl LsnAllocator {
    pub(crate) fn new(next: Lsn) -> LsnAllocator {
        LsnAllocator { next: CachePadded::new(AtomicU64::new(next.0)), last: Mutex::new(None) }
    }

    /// Draws `count` LSNs and gives the first; `None` if the log has ended and they are not accepted.
    #[must_use]
    pub(crate) fn take(&self, count: u64) -> Option<Lsn> {
        let first = self.next.fetch_add(count, SeqCst); // [flusher.sleep]
        (first & ENDED == 0).then_some(Lsn(first))
    }

    /// The last LSN given out and accepted.
    pub(crate) fn last(&self) -> Lsn {
        let next = self.next.load(Relaxed);
        if next & ENDED == 0 {
            return Lsn(next - 1);
        }
        self.last.lock().expect("set in the lock in which the bit is set")
    }

    /// Whether the log accepts no more. Who is told so sees what whoever ended it had done before.
    pub(crate) fn is_ended(&self) -> bool {
        // The bit tells nothing of what came before it; the lock in which it was set does.
        self.next.load(Relaxed) & ENDED != 0 && self.last.lock().is_some()
    }

    /// Ends the log; gives the last LSN that was accepted. Only the first call counts.
    pub(crate) fn end(&self) -> Lsn {
        let mut last = self.last.lock();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("end_in_two_steps") && last.is_none() {
            let next = self.next.load(Relaxed);
            self.next.store(next | ENDED, Relaxed);
            *last = Some(Lsn(next - 1));
        }
        *last.get_or_insert_with(|| Lsn(self.next.fetch_or(ENDED, Relaxed) - 1))
    }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn bands_are_contiguous_and_the_end_is_final() {
        let lsns = LsnAllocator::new(Lsn(5));
        assert_eq!(lsns.take(3), Some(Lsn(5)));
        assert_eq!(lsns.take(1), Some(Lsn(8)));
        assert_eq!(lsns.end(), Lsn(8));
        assert_eq!(lsns.take(1), None);
        assert_eq!(lsns.end(), Lsn(8));
        assert_eq!(lsns.last(), Lsn(8));
    }

    #[test]
    fn racing_draws_are_dense_and_all_before_the_end() {
        let lsns = LsnAllocator::new(Lsn(1));
        let mut drawn: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| std::iter::from_fn(|| lsns.take(1)).take(5000).map(|l| l.0).collect())
                })
                .collect();
            while lsns.last() < Lsn(100) {
                std::hint::spin_loop();
            }
            lsns.end();
            writers.into_iter().flat_map(|writer| -> Vec<u64> { writer.join().unwrap() }).collect()
        });
        drawn.sort_unstable();
        assert_eq!(drawn, (1..=lsns.last().0).collect::<Vec<_>>());
    }
}
