//! Sleepers in the order of the LSNs that they wait for.
//!
//! The rule: one who comes in order costs the same whatever number wait already: it goes to the end of a ring buffer and is
//! taken from its beginning, and neither allocates once the buffer is large enough. Who comes behind a later one goes to
//! a tree, at the cost of a look-up there. Memory is that of those who wait: gaps that were left are closed when they are half
//! of the buffer, and a buffer that is mostly empty is given back.

use std::collections::{BTreeMap, VecDeque};

use braidlog_format::Lsn;

use super::{Key, Sleeper};

/// A buffer for so many is kept, however few wait.
const KEPT_CAPACITY: usize = 256;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Sorted by key. `None` is a place that was left; the first and the last place are taken.
    in_order: VecDeque<(Key, Option<Sleeper>)>,
    /// How many places were left.
    gaps: usize,
    /// Those who came behind a later one.
    stragglers: BTreeMap<Key, Sleeper>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.stragglers.is_empty()
    }

    /// Enters one; gives what stood under this key before.
    pub(super) fn enter(&mut self, key: Key, sleeper: Sleeper) -> Option<Sleeper> {
        match self.in_order.back() {
            Some((last, _)) if *last >= key => match self.place(key) {
                Some(place) => self.in_order[place].1.replace(sleeper),
                None => self.stragglers.insert(key, sleeper),
            },
            // One that is woken and enters anew is no straggler, but for a key that is there.
            _ if self.stragglers.contains_key(&key) => self.stragglers.insert(key, sleeper),
            _ => {
                self.in_order.push_back((key, Some(sleeper)));
                None
            }
        }
    }

    /// Whether somebody stands under this key.
    #[cfg(braidlog_sabotage)]
    pub(super) fn contains(&self, key: Key) -> bool {
        self.place(key).is_some() || self.stragglers.contains_key(&key)
    }

    /// Takes out who stands under this key.
    pub(super) fn leave(&mut self, key: Key) -> Option<Sleeper> {
        let Some(place) = self.place(key) else { return self.stragglers.remove(&key) };
        let gone = self.in_order[place].1.take();
        self.gaps += 1;
        while self.in_order.pop_back_if(|(_, sleeper)| sleeper.is_none()).is_some() {
            self.gaps -= 1;
        }
        self.pass_gaps();
        if self.gaps > self.in_order.len() / 2 {
            self.in_order.retain(|(_, sleeper)| sleeper.is_some());
            self.gaps = 0;
        }
        self.give_back();
        gone
    }

    /// Moves those who wait for no more than `reached` into `out`.
    pub(super) fn take_up_to(&mut self, reached: Lsn, out: &mut Vec<Sleeper>) {
        while let Some((_, sleeper)) = self.in_order.pop_front_if(|(key, _)| key.lsn() <= reached) {
            self.gaps -= usize::from(sleeper.is_none());
            out.extend(sleeper);
        }
        self.pass_gaps();
        while let Some(first) = self.stragglers.first_entry().filter(|first| first.key().lsn() <= reached) {
            out.push(first.remove());
        }
        self.give_back();
    }

    /// Moves everybody into `out`.
    pub(super) fn take_all(&mut self, out: &mut Vec<Sleeper>) {
        self.take_up_to(Lsn::MAX, out);
    }

    /// Where this key stands among those in order, if there is somebody.
    fn place(&self, key: Key) -> Option<usize> {
        let place = self.in_order.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.in_order[place].1.is_some().then_some(place)
    }

    /// Lets the buffer begin with one who waits.
    fn pass_gaps(&mut self) {
        while self.in_order.pop_front_if(|(_, sleeper)| sleeper.is_none()).is_some() {
            self.gaps -= 1;
        }
    }

    /// Gives memory back that many more waited in.
    fn give_back(&mut self) {
        let len = self.in_order.len().max(KEPT_CAPACITY);
        if self.in_order.capacity() / 4 > len {
            self.in_order.shrink_to(len * 2);
        }
    }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Wake, Waker};

    use braidlog_sim::Rng;

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn sleeper() -> Sleeper {
        Sleeper::Task(Waker::noop().clone())
    }

    /// What is taken is what waits for no more, whoever came, was replaced or left before, in whatever order.
    #[test]
    fn exactly_those_are_taken_who_wait_for_no_more() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut queue = Queue::default();
            let mut model = BTreeSet::new();
            let (mut reached, mut number) = (0, 0);
            for _ in 0..400 {
                match rng.index(8) {
                    0 => {
                        reached += rng.index(12) as u64;
                        let mut out = Vec::new();
                        queue.take_up_to(Lsn(reached), &mut out);
                        let rest = model.split_off(&Key(Lsn(reached + 1), 0));
                        assert_eq!(out.len(), std::mem::replace(&mut model, rest).len(), "seed {seed}");
                    }
                    1 | 2 if !model.is_empty() => {
                        let key = *model.iter().nth(rng.index(model.len())).unwrap();
                        if rng.index(2) == 0 {
                            assert!(queue.leave(key).is_some(), "seed {seed}");
                            assert!(queue.leave(key).is_none(), "seed {seed}: it left");
                            model.remove(&key);
                        } else {
                            assert!(queue.enter(key, sleeper()).is_some(), "seed {seed}: it replaces");
                        }
                    }
                    _ => {
                        number += 1;
                        let ahead = if rng.index(4) == 0 { rng.index(30) as u64 } else { number / 4 };
                        let key = Key(Lsn(reached + 1 + ahead), number);
                        assert!(queue.enter(key, sleeper()).is_none(), "seed {seed}");
                        model.insert(key);
                    }
                }
                assert_eq!(queue.is_empty(), model.is_empty(), "seed {seed}");
            }
            let mut out = Vec::new();
            queue.take_all(&mut out);
            assert_eq!(out.len(), model.len(), "seed {seed}");
        }
    }

    #[test]
    fn those_who_leave_and_come_again_take_no_more_memory() {
        let mut queue = Queue::default();
        queue.enter(Key(Lsn(1), 0), sleeper());
        queue.enter(Key(Lsn(1), 1), sleeper());
        // As one task that asks with a deadline, again and again, while others wait before and behind it.
        for number in 2..100_000 {
            queue.enter(Key(Lsn(1), number), sleeper());
            queue.leave(Key(Lsn(1), number - 1));
        }
        assert!(queue.in_order.len() <= 4, "{} places for two", queue.in_order.len());
    }

    #[test]
    fn memory_of_a_hundred_thousand_is_given_back() {
        let mut queue = Queue::default();
        for number in 0..100_000 {
            queue.enter(Key(Lsn(number + 1), number), sleeper());
        }
        let mut out = Vec::new();
        queue.take_up_to(Lsn(99_999), &mut out);
        assert_eq!(out.len(), 99_999);
        assert!(queue.in_order.capacity() <= 4 * KEPT_CAPACITY, "{} places", queue.in_order.capacity());
    }

    #[test]
    fn each_is_woken_once() {
        let counted = Arc::new(Counted::default());
        let mut queue = Queue::default();
        for number in 0..1000 {
            let waker = Waker::from(Arc::clone(&counted));
            queue.enter(Key(Lsn(number % 10 + 1), number), Sleeper::Task(waker));
        }
        let mut out = Vec::new();
        for reached in 1..=10 {
            queue.take_up_to(Lsn(reached), &mut out);
            assert_eq!(out.len(), reached as usize * 100);
        }
        out.into_iter().for_each(Sleeper::wake);
        assert_eq!(counted.0.load(Relaxed), 1000);
    }
}
