//! Waits until what the writers had accepted is durable, and says so.
//!
//! The rule: a line is printed only after the log has called its LSN durable, and is handed to the system in
//! the same breath. So whenever the process is killed, what can be read from its output is true.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use braidlog::Durability;
use braidlog::{Lsn, LsnRange};
use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::Run;

use crate::failure::Failure;
use crate::output::Out;

/// How many appends may be on their way from the writers to here.
pub const ON_THEIR_WAY_MAX: usize = 1024;
/// How many may wait here for their sync. They are 40 bytes each; their payloads are the log's.
const WAITING_MAX: usize = 1 << 16;
/// How often to look what the background sync of `async` has done: its own interval.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One append, a record or a batch, that was accepted. Ordered by LSN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OnItsWay {
    last: Lsn,
    first: Lsn,
    first_line: u64,
    started: Instant,
}

impl OnItsWay {
    /// The lines from `first_line` on got these LSNs by an append that was called at `started`.
    pub fn new(first_line: u64, lsns: LsnRange, started: Instant) -> OnItsWay {
        OnItsWay { last: lsns.last, first: lsns.first, first_line, started }
    }
}

/// Prints acknowledgements and takes the time of commits.
pub struct Acknowledger<'a> {
    run: &'a Run<'a>,
    /// `None` without `--ack`, and once the reader of standard output has gone.
    output: Mutex<Option<Out>>,
}

impl<'a> Acknowledger<'a> {
    /// The acknowledger of `run`.
    pub fn new(run: &'a Run<'a>) -> Acknowledger<'a> {
        Acknowledger { run, output: Mutex::new(run.args.ack.then(Out::stdout)) }
    }

    /// Whether somebody has to wait for syncs beside the writers themselves.
    pub fn is_needed(&self) -> bool {
        match self.run.durability {
            Durability::Async => self.run.args.ack,
            Durability::Synchronous | Durability::GroupCommit => !self.run.args.blocking,
        }
    }

    /// Runs until the writers have ended and all they had accepted is durable, or the log has failed.
    pub fn run(&self, accepted: Receiver<OnItsWay>) {
        if let Err(failure) = self.wait_for_all(&accepted) {
            self.run.stop.fail(failure);
        }
        // Dropping the receiver turns away writers that wait to hand over more.
    }

    fn wait_for_all(&self, accepted: &Receiver<OnItsWay>) -> Result<(), Failure> {
        let mut waiting = BinaryHeap::new();
        let mut durable = Vec::new();
        loop {
            if waiting.is_empty() {
                let Ok(records) = accepted.recv() else { return Ok(()) };
                waiting.push(Reverse(records));
            }
            let room = WAITING_MAX - waiting.len();
            waiting.extend(accepted.try_iter().take(room).map(Reverse));
            if !self.leave_to_background(accepted, &mut waiting)
                && let Some(Reverse(oldest)) = waiting.peek()
            {
                self.run.wal.wait_durable(oldest.last)?;
            }
            let durable_lsn = self.run.wal.durable_lsn();
            while let Some(Reverse(records)) = waiting.peek().copied()
                && records.last <= durable_lsn
            {
                waiting.pop();
                durable.push(records);
            }
            self.committed(&durable)?;
            durable.clear();
        }
    }

    /// In `async`, lets the log sync when it does by itself: to wait for an LSN would ask for a sync at once,
    /// and that is another mode. False if somebody has to ask after all: too many wait, or no more will come.
    fn leave_to_background(
        &self,
        accepted: &Receiver<OnItsWay>,
        waiting: &mut BinaryHeap<Reverse<OnItsWay>>,
    ) -> bool {
        if self.run.durability != Durability::Async || waiting.len() >= WAITING_MAX {
            return false;
        }
        match accepted.recv_timeout(LOOK_AGAIN) {
            Ok(records) => waiting.push(Reverse(records)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Takes down that what the mode promises holds for these, and with `--ack`, where they must be durable,
    /// prints their lines.
    pub fn committed(&self, appends: &[OnItsWay]) -> Result<(), Failure> {
        if appends.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut latencies = self.run.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        for append in appends {
            latencies.record(now.saturating_duration_since(append.started));
        }
        drop(latencies);
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(out) = output.as_mut() else { return Ok(()) };
        match print(out, appends) {
            // Whoever wanted to know has gone. That is no reason to stop writing.
            Err(Failure::ClosedPipe) => {
                *output = None;
                Ok(())
            }
            printed => printed,
        }
    }
}

fn print(out: &mut Out, appends: &[OnItsWay]) -> Result<(), Failure> {
    out.write(|out| {
        for append in appends {
            for (line, lsn) in (append.first_line..).zip(append.first.0..=append.last.0) {
                writeln!(out, "{line}\t{lsn}")?;
            }
        }
        Ok(())
    })?;
    out.flush()
}
