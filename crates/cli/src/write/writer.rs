//! One writer thread: takes lines and appends them.

use std::time::Instant;

use braidlog::{Append, Durability, LsnRange};
use crossbeam::channel::{Receiver, Sender};
use crossbeam::select;

use super::Run;
use super::acknowledger::{Acknowledger, OnItsWay};
use super::lines::Chunk;

use crate::failure::Failure;

/// Appends what `chunks` gives until it ends or the run is stopped.
pub fn run(
    run: &Run<'_>,
    chunks: &Receiver<Result<Chunk, Failure>>,
    accepted: &Sender<OnItsWay>,
    acknowledger: &Acknowledger<'_>,
) {
    let writer = Writer { run, handle: run.wal.writer(), accepted, acknowledger };
    loop {
        let chunk = select! {
            recv(chunks) -> chunk => chunk,
            recv(run.stop.heard()) -> _ => return,
        };
        let written = match chunk {
            Ok(Ok(chunk)) => writer.write(&chunk),
            Ok(Err(failure)) => Err(failure),
            Err(_) => return,
        };
        match written {
            Ok(true) => {}
            // The acknowledger has ended: it failed, and has said so.
            Ok(false) => return,
            Err(failure) => return run.stop.fail(failure),
        }
    }
}

struct Writer<'a> {
    run: &'a Run<'a>,
    handle: braidlog::Writer,
    accepted: &'a Sender<OnItsWay>,
    acknowledger: &'a Acknowledger<'a>,
}

impl Writer<'_> {
    /// Appends the lines of `chunk`; false if nobody waits for them any more.
    fn write(&self, chunk: &Chunk) -> Result<bool, Failure> {
        if self.run.args.batch > 1 {
            let started = Instant::now();
            let lsns = self.append_batch(chunk)?;
            self.run.count(chunk.len() as u64, chunk.payload_bytes());
            return self.hand_over(OnItsWay::new(chunk.first_line, lsns, started));
        }
        for (line, payload) in chunk.lines() {
            let started = Instant::now();
            let mut append = Append::new(payload).kind(self.run.kind);
            if self.is_pipelined() {
                append = append.durability(Durability::Async);
            }
            let lsn = self.handle.append_with(append)?;
            self.run.count(1, payload.len() as u64);
            let lsns = LsnRange { first: lsn, last: lsn };
            if !self.hand_over(OnItsWay::new(line, lsns, started))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn append_batch(&self, chunk: &Chunk) -> Result<LsnRange, Failure> {
        let mut batch = self.handle.batch();
        for (_, payload) in chunk.lines() {
            batch.push(self.run.kind, payload)?;
        }
        if self.is_pipelined() {
            batch = batch.durability(Durability::Async);
        }
        Ok(batch.commit()?)
    }

    /// Whether the append itself does not wait for a sync that the mode promises: the acknowledger does.
    fn is_pipelined(&self) -> bool {
        !self.run.args.blocking && self.run.durability != Durability::Async
    }

    fn hand_over(&self, records: OnItsWay) -> Result<bool, Failure> {
        if self.acknowledger.is_needed() {
            return Ok(self.accepted.send(records).is_ok());
        }
        // What the mode promises holds as soon as the append has returned.
        self.acknowledger.committed(&[records])?;
        Ok(true)
    }
}
