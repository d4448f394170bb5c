//! Compressing segments: those whose time has come, a step at a time, and on order.
//!
//! The rule: one segment is compressed at a time, by whoever has the lock: the chore for a step, who does it on order for
//! all of it. No event is told under it, nor inside of the directory, so a listener may call the log and close it. What is
//! under way when the log closes is given up before its directory is. The progress of a compression on order is told under the
//! lock: what would wait for the lock, or for somebody who may wait for it, is refused on that thread.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery::{Extent, PackHow, Packed, Packing, PackingEnd, Problem, RecoveryError};

use super::{Seen, Upkeep};
use crate::compress::{CompressProgress, CompressReport, KeptSegment, WhyKept};
use crate::event::Event;
use crate::log::Log;
use crate::{Error, Result};

/// Bytes that are gone through in one step of the chore.
const STEP: u64 = 512 << 10;

/// What is being compressed, and what is not to be.
#[derive(Debug, Default)]
pub(super) struct Compressing {
    /// The segment that the chore is at.
    current: Option<Packing>,
    /// Segments that stay as they are for the time of this handle: they would not be smaller, or are damaged.
    staying: BTreeSet<Lsn>,
    /// As of when nothing was due.
    looked: Option<Seen>,
    /// The uptime at which the next segment is due.
    due_at: Option<Duration>,
    /// How long the last step took, if there is another to come: as long as that the thread is left to others.
    rest: Option<Duration>,
}

impl Upkeep {
    /// Goes on for a step with the segment whose time has come; with all of them, to their ends, if it is `forced`.
    pub(super) fn compress_due(&self, log: &Log, forced: bool) -> Result<()> {
        let Some(age) = self.plan.compression.age() else { return Ok(()) };
        let how = PackHow { level: self.plan.compression_level, ..PackHow::default() };
        loop {
            // Once the log closes, it is another's to do.
            let Ok(inside) = log.enter() else { return Ok(()) };
            let began = self.plan.clock.monotonic();
            let stepped = {
                let mut compressing = match self.compressing.try_lock() {
                    Ok(compressing) => compressing,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    // On order, and all of it.
                    Err(TryLockError::WouldBlock) => return Ok(()),
                };
                compressing.rest = None;
                if self.state().stopped || log.gate.is_closing() {
                    return Ok(());
                }
                let stepped = self.step_due(log, &mut compressing, age, how);
                if !matches!(stepped, Ok(None)) {
                    let took = self.plan.clock.monotonic().saturating_sub(began);
                    compressing.rest = stepped.is_ok().then_some(took);
                }
                stepped
            };
            drop(inside);
            match stepped? {
                None => return Ok(()),
                Some(Some(PackingEnd::Packed(packed))) => self.compressed(&packed),
                Some(_) => {}
            }
            if !forced {
                return Ok(());
            }
        }
    }

    /// One step; what came of the segment if it was the last one, and `None` if nothing is due.
    fn step_due(
        &self,
        log: &Log,
        compressing: &mut Compressing,
        age: Duration,
        how: PackHow,
    ) -> Result<Option<Option<PackingEnd>>> {
        if compressing.current.is_none() {
            let Some((base, next)) = self.next_due(log, compressing, age)? else { return Ok(None) };
            let begun = Packing::begin(&self.plan.dir, &self.plan.store, base, next, how);
            compressing.current = Some(self.unless_damaged(begun, base, compressing)?);
        }
        let Some(mut packing) = compressing.current.take() else { return Ok(None) };
        let stepped = packing.step(STEP);
        let end = self.unless_damaged(stepped, packing.base(), compressing)?;
        match end {
            None => compressing.current = Some(packing),
            Some(PackingEnd::Packed(_)) => {}
            Some(_) => drop(compressing.staying.insert(packing.base())),
        }
        Ok(Some(end))
    }

    /// What is damaged is told once, and does not keep others from being compressed.
    fn unless_damaged<T>(
        &self,
        result: std::result::Result<T, RecoveryError>,
        base: Lsn,
        compressing: &mut Compressing,
    ) -> Result<T> {
        if let Err(RecoveryError::Damaged(_)) = &result {
            compressing.staying.insert(base);
        }
        self.recovered(result)
    }

    /// The segment that is to be compressed now, and the next one.
    fn next_due(
        &self,
        log: &Log,
        compressing: &mut Compressing,
        age: Duration,
    ) -> Result<Option<(Lsn, Lsn)>> {
        let (seen, uptime) = (self.look(log), self.uptime());
        if compressing.looked == Some(seen) && compressing.due_at.is_none_or(|at| uptime < at) {
            return Ok(None);
        }
        let segments = self.finished()?;
        let mut due_at = None;
        let state = self.state();
        for (base, next) in segments {
            if compressing.staying.contains(&base) {
                continue;
            }
            // What nobody noted is as good as new.
            let at = state.sealed_at.get(&base).copied().unwrap_or(uptime).saturating_add(age);
            if at <= uptime {
                return Ok(Some((base, next)));
            }
            due_at = Some(due_at.map_or(at, |due: Duration| due.min(at)));
        }
        drop(state);
        (compressing.looked, compressing.due_at) = (Some(seen), due_at);
        Ok(None)
    }

    /// The finished segments that are not compressed, each with the base of the one behind it.
    fn finished(&self) -> Result<Vec<(Lsn, Lsn)>> {
        let extent = self.recovered(Extent::of(&self.plan.dir, self.plan.store.current().log_start))?;
        let pairs = extent.segments.iter().zip(extent.segments.iter().skip(1));
        Ok(pairs.filter(|(one, _)| !one.packed).map(|(one, next)| (one.base, next.base)).collect())
    }

    /// Compresses all finished segments that lie below `before`.
    pub(crate) fn compress_now(
        &self,
        log: &Log,
        before: Option<Lsn>,
        how: PackHow,
        progress: &mut dyn FnMut(CompressProgress),
    ) -> Result<CompressReport> {
        if self.is_compressing_here() || log.checkpoints.is_writing_here() {
            let what = "this thread is compressing or writing a checkpoint, for which others may be waiting: compress afterwards";
            return Err(Error::refused(&self.plan.path, what.to_owned()));
        }
        let inside = log.enter()?;
        let began = self.plan.clock.monotonic();
        let mut report = CompressReport::default();
        let mut packed = Vec::new();
        let mut compressing = self.compressing();
        let on_order = OnOrder::begin(self);
        // It may be at one of them, and begins anew.
        compressing.current = None;
        let segments = self.finished()?.into_iter();
        let wanted: Vec<_> =
            segments.filter(|(_, next)| before.is_none_or(|before| *next <= before)).collect();
        let (mut done, mut left) = (0, wanted.len() as u64);
        for (base, next) in wanted {
            let compressed = self.compress_one(log, (base, next), how, &mut |at, total: u64| {
                // The others are taken to be as long as this one.
                let bytes_total = done + total.saturating_mul(left);
                progress(CompressProgress { segment: base, bytes_done: done + at, bytes_total });
                done += if at == total { total } else { 0 };
            });
            left -= 1;
            match compressed {
                Ok(PackingEnd::Packed(one)) => {
                    report.compressed += 1;
                    report.plain_bytes += one.plain_bytes;
                    report.compressed_bytes += one.packed_bytes;
                    packed.push(one);
                }
                Ok(end) => report.kept.push(KeptSegment { base, why: why_kept(&end) }),
                Err(Failed::Log(error)) => return Err(error),
                Err(Failed::Packing(RecoveryError::Damaged(damage))) => {
                    report.damaged.push(Problem::from(damage));
                }
                Err(Failed::Packing(error)) => return self.recovered(Err(error)),
            }
        }
        drop(on_order);
        drop(compressing);
        drop(inside);
        packed.iter().for_each(|packed| self.compressed(packed));
        report.duration = self.plan.clock.monotonic().saturating_sub(began);
        self.ask();
        Ok(report)
    }

    fn compress_one(
        &self,
        log: &Log,
        (base, next): (Lsn, Lsn),
        how: PackHow,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<PackingEnd, Failed> {
        let mut packing = Packing::begin(&self.plan.dir, &self.plan.store, base, next, how)?;
        loop {
            if log.gate.is_closing() {
                return Err(Failed::Log(Error::closed(&self.plan.path)));
            }
            let end = packing.step(STEP)?;
            progress(packing.bytes_done(), packing.bytes_total());
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Counts and tells a segment that was compressed.
    fn compressed(&self, packed: &Packed) {
        let &Packed { base, plain_bytes, packed_bytes, .. } = packed;
        {
            let mut state = self.state();
            state.counts.segments_compressed += 1;
            state.counts.bytes_saved += plain_bytes.saturating_sub(packed_bytes);
            // The log is smaller.
            state.measured = None;
        }
        self.tell([Event::Compressed { base, plain_bytes, compressed_bytes: packed_bytes }]);
    }

    /// Whether this thread is compressing on order, and has called back.
    pub(super) fn is_compressing_here(&self) -> bool {
        *self.compressing_by() == Some(thread::current().id())
    }

    fn compressing_by(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.compressing_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After which time the chore goes on.
    pub(super) fn compress_again(&self) -> Option<Duration> {
        // Who compresses on order asks for the chore when it is done.
        let compressing = self.compressing.try_lock().ok()?;
        let until_due = compressing.due_at.map(|at| at.saturating_sub(self.uptime()));
        compressing.rest.or(until_due)
    }

    /// Gives up what is under way.
    pub(super) fn stop_compressing(&self) {
        let mut compressing = self.compressing();
        compressing.current = None;
    }

    /// What the lock guards is whole between any two steps.
    fn compressing(&self) -> MutexGuard<'_, Compressing> {
        self.compressing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names the thread that compresses on order, until it is dropped.
struct OnOrder<'a>(&'a Upkeep);

impl OnOrder<'_> {
    fn begin(upkeep: &Upkeep) -> OnOrder<'_> {
        *upkeep.compressing_by() = Some(thread::current().id());
        OnOrder(upkeep)
    }
}

impl Drop for OnOrder<'_> {
    fn drop(&mut self) {
        *self.0.compressing_by() = None;
    }
}

fn why_kept(end: &PackingEnd) -> WhyKept {
    match end {
        PackingEnd::NotSmaller(_) => WhyKept::NotSmaller,
        PackingEnd::TooLarge => WhyKept::TooLarge,
        _ => WhyKept::Gone,
    }
}

/// Why a segment was not compressed on order.
enum Failed {
    Log(Error),
    Packing(RecoveryError),
}

impl From<RecoveryError> for Failed {
    fn from(error: RecoveryError) -> Failed {
        Failed::Packing(error)
    }
}
