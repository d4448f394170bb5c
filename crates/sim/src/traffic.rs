//! What every operation passes between its call and its effect: reordering, holds, faults.
//!
//! The rule: it waits only for something that comes without it. An operation in the reorder room waits for
//! ones that arrived there before or at most [`OVERTAKEN_MAX`] after it; held and hung ones wait for the test.
//! A write that waits is under way: a crash may leave any part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Result;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::MutexGuard;

use crate::fault::Effect;
use crate::hold::PATIENCE;
use crate::node::NodeRef;
use crate::state::{Shared, State};
use crate::trace::Action;
use crate::{Op, Rng};

/// How many operations that arrived later may overtake one.
const OVERTAKEN_MAX: u64 = 8;
/// How often an arriving operation lets other threads go first, at most.
const YIELDS_MAX: u64 = 4;

/// An operation that arrives.
pub(crate) struct Arrival<'a> {
    pub(crate) op: Op,
    pub(crate) name: &'a dyn Fn() -> Arc<str>,
    /// If it is a write: the file, the offset and the bytes.
    pub(crate) write: Option<(&'a NodeRef, u64, &'a [u8])>,
}

/// A write that has been called and has not returned.
pub(crate) struct WriteUnderWay {
    pub(crate) node: NodeRef,
    pub(crate) offset: u64,
    pub(crate) data: Arc<[u8]>,
}

/// Operations that wait before they take effect.
#[derive(Default)]
pub(crate) struct Traffic {
    next_id: u64,
    /// In the order in which they were called.
    pub(crate) writes: BTreeMap<u64, WriteUnderWay>,
    pub(crate) room: Option<Room>,
}

/// Where operations wait to be reordered.
pub(crate) struct Room {
    rng: Rng,
    arrivals: u64,
    /// Who waits: a turn drawn at arrival, and the number of the arrival.
    waiting: BTreeSet<(u64, u64)>,
}

impl Room {
    pub(crate) fn new(seed: u64) -> Room {
        Room { rng: Rng::new(seed), arrivals: 0, waiting: BTreeSet::new() }
    }

    fn arrive(&mut self) -> ((u64, u64), u64) {
        self.arrivals += 1;
        let ticket = (self.arrivals + self.rng.below(OVERTAKEN_MAX + 1), self.arrivals);
        self.waiting.insert(ticket);
        (ticket, self.rng.below(YIELDS_MAX + 1))
    }
}

impl Shared {
    /// Runs an operation whose action is known beforehand. `run` gets the state and the place below which a
    /// sync covers everything.
    pub(crate) fn operate<T>(
        &self,
        directory: &Arc<PathBuf>,
        name: impl Fn() -> Arc<str>,
        action: Action,
        run: impl FnOnce(&mut State, u64) -> Result<T>,
    ) -> Result<T> {
        self.pass(action.op(), &name, run, |state, result| {
            state.recorder.record(directory, name(), action, result);
        })
    }

    /// Answers a question: as `operate`, without a record.
    pub(crate) fn ask<T>(&self, op: Op, name: &str, run: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.pass(op, &|| name.into(), |state, _| run(state), |_, _| {})
    }

    fn pass<T>(
        &self,
        op: Op,
        name: &dyn Fn() -> Arc<str>,
        run: impl FnOnce(&mut State, u64) -> Result<T>,
        record: impl FnOnce(&mut State, &Result<T>),
    ) -> Result<T> {
        let (mut state, before, effect) = self.enter(Arrival { op, name, write: None });
        // A handle that nobody gets is dropped behind the lock, which its drop takes.
        let mut unwanted = None;
        let result = match effect {
            Some(Effect::Fail(code)) => Err(code.error()),
            Some(Effect::FailAfter(code)) => {
                unwanted = Some(run(&mut state, before));
                Err(code.error())
            }
            _ => run(&mut state, before),
        };
        record(&mut state, &result);
        drop(state);
        self.changed.notify_all();
        drop(unwanted);
        result
    }

    /// Passes the reorder room and the holds, and draws a fault.
    pub(crate) fn enter(&self, arrival: Arrival<'_>) -> (MutexGuard<'_, State>, u64, Option<Effect>) {
        let mut state = self.state.lock();
        let before = state.sequence();
        let under_way = arrival.write.filter(|_| state.may_wait()).map(|(node, offset, data)| {
            let traffic = &mut state.traffic;
            traffic.next_id += 1;
            let write = WriteUnderWay { node: node.clone(), offset, data: data.into() };
            traffic.writes.insert(traffic.next_id, write);
            traffic.next_id
        });
        self.pass_room(&mut state);
        self.pass_holds(&mut state, arrival.op);
        let mut effect = state.faults.draw(arrival.op, &(arrival.name)());
        if effect == Some(Effect::Hang) {
            effect = None;
            self.hang(&mut state);
        }
        if let Some(id) = under_way {
            state.traffic.writes.remove(&id);
        }
        (state, before, effect)
    }

    /// Waits until it is this operation's turn, which is drawn among the ones that are here with it.
    fn pass_room(&self, state: &mut MutexGuard<'_, State>) {
        let Some(room) = &mut state.traffic.room else { return };
        let (ticket, yields) = room.arrive();
        for _ in 0..yields {
            // Others may arrive meanwhile; if none does, nothing is lost.
            MutexGuard::unlocked(state, thread::yield_now);
        }
        while let Some(room) = &state.traffic.room
            && room.waiting.first() != Some(&ticket)
            && room.waiting.contains(&ticket)
        {
            self.changed.wait(state);
        }
        if let Some(room) = &mut state.traffic.room {
            room.waiting.remove(&ticket);
        }
        self.changed.notify_all();
    }

    fn hang(&self, state: &mut MutexGuard<'_, State>) {
        let clearings = state.faults.clearings;
        state.faults.hung += 1;
        self.changed.notify_all();
        while state.faults.clearings == clearings {
            self.changed.wait(state);
        }
        state.faults.hung -= 1;
    }

    pub(crate) fn wait_for_hung(&self, n: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        while state.faults.hung < n {
            let timed_out = self.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!timed_out, "{} operations hang, not {n}", state.faults.hung);
        }
    }
}

impl State {
    /// Whether an operation may have to wait before it takes effect.
    fn may_wait(&self) -> bool {
        self.traffic.room.is_some() || !self.holds.is_empty() || !self.faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_draws_another_order_and_nobody_is_overtaken_by_many() {
        let order = |seed| {
            let mut room = Room::new(seed);
            for _ in 0..200 {
                room.arrive();
            }
            room.waiting.into_iter().map(|(_, arrival)| arrival).collect::<Vec<_>>()
        };
        let drawn = order(1);
        assert!(!drawn.is_sorted());
        for (place, &arrival) in drawn.iter().enumerate() {
            let later = drawn[..place].iter().filter(|&&other| other > arrival).count() as u64;
            assert!(later <= OVERTAKEN_MAX, "{later} overtook arrival {arrival}");
        }
        assert_eq!(drawn, order(1));
        assert_ne!(drawn, order(2));
    }
}
