//! What a run does for the log's own life: checkpoints, truncations, retention, holds.
//!
//! The rule: the model knows before a call what it may come to, so that a crash during the call is judged too.

use braidlog::{Checkpoint, ErrorKind, Lsn};

use super::fault::Illness;
use super::operation::{Driver, Open};
use crate::history::History;

impl Driver {
    /// Saves the state of some durable LSN, with or without open transactions, all of it or what changed.
    pub(super) fn checkpoint(&mut self, open: &Open) {
        let history = History { records: self.history(open.illness, &open.wal) };
        let newest = open.wal.checkpoints().last().map_or(Lsn::ZERO, |newest| newest.lsn);
        let last = history.records.len() as u64;
        let back = if self.rng.one_in(2) { 0 } else { self.rng.below(last - newest.0 + 1) };
        let lsn = Lsn(last - back);
        let first = open.wal.first_lsn();
        let open_for = if self.rng.one_in(3) { self.rng.below(lsn.next().0 - first.0 + 1) } else { 0 };
        let replay_from = Lsn(lsn.next().0 - open_for);
        let mut order = Checkpoint::at(lsn).replay_from(replay_from);
        if self.rng.one_in(2) {
            order = order.incremental();
        }
        self.now().model.begin_checkpoint(replay_from);
        match open.wal.checkpoint_with(order, |writer| history.write(lsn, writer)) {
            Ok(taken) => {
                let mut now = self.now();
                now.model.checkpoint(taken.number);
                now.judge.count("checkpoints", 1);
                if taken.base.is_some() {
                    now.judge.count("checkpoints of changes", 1);
                }
                drop(now);
                match self.rng.below(3) {
                    0 => self.truncate(open),
                    1 => self.maintain(open),
                    _ => {}
                }
            }
            Err(error) => self.expect(open, &error),
        }
    }

    /// Gives up what lies below some LSN, which is refused if that is needed.
    pub(super) fn truncate(&mut self, open: &Open) {
        let (first, durable) = (open.wal.first_lsn(), open.wal.durable_lsn());
        let checkpoints = open.wal.checkpoints();
        let newest = checkpoints.last().map(|newest| newest.replay_from);
        let holds = open.wal.holds().into_iter().map(|hold| hold.lsn);
        let limit = holds.fold(newest.unwrap_or(first), Lsn::min);
        let lsn = if self.rng.one_in(2) { limit } else { Lsn(1 + self.rng.below(durable.next().0)) };
        let refusal = match open.wal.truncate_before(lsn) {
            Ok(start) => {
                assert_eq!(start, open.wal.first_lsn());
                assert!(start == first || start <= lsn, "I16: {start}, and {lsn} was asked for");
                if start > first {
                    self.now().judge.count("truncations", 1);
                }
                None
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => Some(error),
            Err(error) => return self.expect(open, &error),
        };
        // A checkpoint that the disk would not read is none: then more is kept.
        let needs_more = open.illness == Illness::Failing;
        let is_right = refusal.is_some() == (lsn > limit) || needs_more && refusal.is_some();
        assert!(is_right, "I16: {lsn}, and {limit} is needed: {refusal:?}, {:?}", open.illness);
    }

    /// Has the retention do its work.
    pub(super) fn maintain(&mut self, open: &Open) {
        let first = open.wal.first_lsn();
        if let Err(error) = open.wal.maintain() {
            self.expect(open, &error);
        }
        if open.wal.first_lsn() > first {
            self.now().judge.count("cuts by the retention", 1);
        }
    }

    /// Sets, moves or releases a hold.
    pub(super) fn hold(&mut self, open: &Open) {
        let name = ["archive", "replica"][self.rng.index(2)];
        self.now().model.doubt_hold(name);
        if !self.rng.one_in(3) {
            if let Err(error) = open.wal.release_hold(name) {
                self.expect(open, &error);
            }
            return;
        }
        let first = open.wal.first_lsn();
        let lsn = Lsn(first.0 + self.rng.below(open.wal.durable_lsn().next().0 - first.0 + 1));
        match open.wal.set_hold(name, lsn) {
            Ok(()) => self.now().model.hold(name, lsn),
            Err(error) => self.expect(open, &error),
        }
    }
}
