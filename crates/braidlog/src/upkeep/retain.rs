//! Giving up segments: by the retention, and on order. And the holds that keep them.
//!
//! The rule: what is needed is looked at and the log cut by it under one lock, which a new hold takes too.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use braidlog_format::{Lsn, SegmentName};
use braidlog_recovery::{
    Decision, Disposed, Extent, KeptBy, Manifest, Needs, Retention, SegmentAge, StreamFacts, standing,
    truncate,
};

use super::{Upkeep, with_space_of_spares};
use crate::event::Event;
use crate::log::Log;
use crate::{Error, ErrorKind, Result};

/// What a decision was made of. As long as all of it is the same, so is the decision, age aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    rotations: u64,
    manifest: u64,
    pin: Option<Lsn>,
}

impl Upkeep {
    /// Gives up what the retention does not keep.
    pub(super) fn keep_to_retention(&self, log: &Log, forced: bool) -> Result<()> {
        // What was given up keeps the segments that come from now on no longer.
        log.late_aborts.append(log);
        let seen = self.look(log);
        let by_age = self.plan.age().is_some();
        let failed = self
            .state()
            .failures
            .get(&crate::UpkeepTask::Retention)
            .is_some_and(|failing| failing.error.is_some());
        if !(forced || by_age || failed) && self.state().seen == Some(seen) {
            return Ok(());
        }
        // Once the log closes, it is another's to do.
        let Ok(inside) = log.enter() else { return Ok(()) };
        let noted;
        let event = {
            let _cutting = self.cut_lock();
            log.streams.note(log)?;
            let manifest = self.plan.store.current_with_streams();
            let mut extent = self.recovered(Extent::of(&self.plan.dir, manifest.log_start))?;
            let uptime = self.uptime();
            #[cfg(braidlog_sabotage)]
            let uptime = match uptime {
                _ if braidlog_sabotage::is("retention_goes_by_the_wall_clock") => {
                    Duration::from_nanos(self.plan.clock.wall_ns())
                }
                uptime => uptime,
            };
            noted = self.note_ages(&manifest, &mut extent, uptime);
            // What finds no space to be saved does not keep what gives some from going.
            if let Err(error) = &noted
                && error.kind() != ErrorKind::NoSpace
            {
                return noted;
            }
            self.save_streams(&extent)?;
            let limits = self.limits(&extent);
            let Decision { start, kept_by } =
                braidlog_recovery::retain(&limits, &extent.segments, &self.needs(log, &manifest), uptime);
            let standing = self.recovered(standing(&self.plan.dir, start, manifest.log_start))?;
            let (start, kept_by) = match standing.open_from {
                Some(begin) => (standing.base, KeptBy::Transaction { begin }),
                None => (start, kept_by),
            };
            self.state().kept_by = Some(kept_by);
            if start > manifest.log_start || extent.has_rubbish { self.cut(log, start)? } else { None }
        };
        // As of before: what changed meanwhile is looked at again, our own changes too.
        self.state().seen = Some(seen);
        drop(inside);
        self.tell(event);
        noted
    }

    /// Gives up the segments that lie wholly below `lsn`; where the log starts then.
    pub(crate) fn truncate_before(&self, log: &Log, lsn: Lsn) -> Result<Lsn> {
        let plan = &self.plan;
        log.late_aborts.append(log);
        let (start, event) = {
            let _cutting = self.cut_lock();
            log.streams.note(log)?;
            let manifest = plan.store.current();
            let needs = self.needs(log, &manifest);
            let (limit, by) = Needs { pin: None, streams: None, ..needs }.newest(manifest.log_start);
            if lsn > limit {
                let what = format!(
                    "cannot give up what lies below LSN {lsn}: {by} keeps the log from LSN {limit} on"
                );
                return Err(Error::refused(&plan.path, what));
            }
            // It stops where a reader stands, and where the streams are not counted.
            let event = with_space_of_spares(log, || self.cut(log, lsn))?;
            (plan.store.current().log_start, event)
        };
        self.tell(event);
        self.ask();
        Ok(start)
    }

    /// Cuts the log so that it starts with the segment that holds `lsn`, or earlier if somebody needs more.
    fn cut(&self, log: &Log, lsn: Lsn) -> Result<Option<Event>> {
        let plan = &self.plan;
        let recycle = |name: &str| match SegmentName::parse(name) {
            // Without a reserve, what is given up has to give space back: the next cut will need some.
            Some(_) if plan.store.can_do_without_space() => log.engine.recycle(name),
            // What is packed has not the length of a segment.
            _ => Ok(false),
        };
        let mut dispose = |name: &str| match recycle(name) {
            Ok(true) => Ok(Disposed::Recycled),
            Ok(false) => plan.dir.remove(name).map(|()| Disposed::Removed),
            // Its name may be gone; whatever kept the file from being used again does not keep it from going.
            Err(error) => match plan.dir.remove(name) {
                Ok(()) => Ok(Disposed::Removed),
                Err(_) => Err(error),
            },
        };
        let durable = log.engine.durable_lsn();
        let cut = truncate(&plan.dir, &plan.store, log.reader.pins(), durable, lsn, &mut dispose);
        let cut = self.recovered(cut)?;
        let (segments, recycled) = ((cut.removed + cut.recycled) as u64, cut.recycled as u64);
        let counts = &mut self.state().counts;
        counts.segments_removed += segments;
        counts.segments_recycled += recycled;
        counts.bytes_freed += cut.bytes;
        let event = Event::Truncated { first_lsn: cut.first_lsn, segments, recycled, bytes: cut.bytes };
        Ok((segments > 0).then_some(event))
    }

    /// Sets a hold, or moves the one of that name.
    pub(crate) fn set_hold(&self, name: &str, lsn: Lsn) -> Result<()> {
        let path = &self.plan.path;
        let _cutting = self.cut_lock();
        let start = self.plan.store.current().log_start;
        if lsn < start {
            let what = format!(
                "the hold `{name}` asks for LSN {lsn}, and the log starts at LSN {start}: set it there or above"
            );
            return Err(Error::refused(path, what));
        }
        self.recovered(self.plan.store.set_hold(name, lsn))?;
        self.ask();
        Ok(())
    }

    /// Releases a hold; whether there was one.
    pub(crate) fn release_hold(&self, name: &str) -> Result<bool> {
        let was_there = self.recovered(self.plan.store.release_hold(name))?;
        self.ask();
        Ok(was_there)
    }

    /// Has the manifest say where the log ends, if it ends behind what the manifest knows, and with that the uptime, or
    /// alone if anything goes by it. The log closes, and all of it is durable.
    pub(crate) fn save_end(&self, last: Lsn) -> Result<()> {
        #[cfg(braidlog_sabotage)]
        let last = if braidlog_sabotage::is("end_not_saved_at_close") { Lsn::ZERO } else { last };
        let store = &self.plan.store;
        if self.plan.age().is_none() && last <= store.current().durable {
            return Ok(());
        }
        let uptime = self.uptime();
        self.recovered(store.change(|manifest| {
            manifest.durable = manifest.durable.max(last);
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("uptime_not_saved_at_close") {
                return;
            }
            self.write_ages(manifest, uptime);
        }))?;
        Ok(())
    }

    /// What needs the log now.
    fn needs(&self, log: &Log, manifest: &Manifest) -> Needs {
        log.checkpoints.needs(manifest, log.reader.pins().min())
    }

    pub(super) fn look(&self, log: &Log) -> Seen {
        let manifest = self.plan.store.current().number();
        Seen { rotations: log.engine.rotations(), manifest, pin: log.reader.pins().min() }
    }

    /// The first LSN that is needed, and by what: no order of a person but for the newest checkpoint passes it.
    pub(crate) fn oldest_needed(&self, log: &Log) -> (Lsn, KeptBy) {
        let manifest = self.plan.store.current();
        self.needs(log, &manifest).oldest(manifest.log_start)
    }

    /// The limits, the one on the whole log among them: segments go before its size is a warning.
    fn limits(&self, extent: &Extent) -> Retention {
        let retention = self.plan.retention;
        match self.plan.max_log_bytes {
            Some(most) if !retention.keeps_all() => {
                let others = extent.bytes.saturating_sub(extent.segment_bytes());
                let fine = (most / 10 * 8).saturating_sub(others);
                retention.bytes(retention.bytes.map_or(fine, |bytes| bytes.min(fine)))
            }
            _ => retention,
        }
    }

    /// Notes since when segments have been finished. One that nobody saw becoming so is as good as new.
    fn note_ages(&self, manifest: &Manifest, extent: &mut Extent, uptime: Duration) -> Result<()> {
        let mut has_new = false;
        let uptime_saved = {
            let mut state = self.state();
            let known = std::mem::take(&mut state.sealed_at);
            let finished = extent.segments.len().saturating_sub(1);
            let mut sealed_at = BTreeMap::new();
            for segment in extent.segments.iter_mut().take(finished) {
                has_new |= !known.contains_key(&segment.base);
                let at = known.get(&segment.base).copied().unwrap_or(uptime);
                segment.sealed_at = Some(at);
                sealed_at.insert(segment.base, at);
            }
            state.sealed_at = sealed_at;
            state.uptime_saved
        };
        // Without a limit on age, what was noted is saved with whatever else changes the manifest.
        let Some(age) = self.plan.age() else { return Ok(()) };
        let is_old_news = uptime.saturating_sub(uptime_saved) > age / 16;
        if has_new || is_old_news || manifest.ages.is_empty() && extent.segments.len() > 1 {
            self.save_ages(uptime)?;
        }
        Ok(())
    }

    /// Writes down how many records each stream has, once a segment was finished since: an opening counts on from there.
    fn save_streams(&self, extent: &Extent) -> Result<()> {
        let Some(under_the_pen) = extent.segments.last().map(|last| last.base) else { return Ok(()) };
        let store = &self.plan.store;
        let counted_to = |stream: &StreamFacts| stream.counted.as_of.next();
        if store.current().streams.iter().map(counted_to).min().is_none_or(|lowest| lowest >= under_the_pen) {
            return Ok(());
        }
        match self.recovered(store.save_streams()) {
            // The next opening has more to count, and what is cut says it anyway.
            Err(error) if error.kind() == ErrorKind::NoSpace => Ok(()),
            saved => saved,
        }
    }

    fn save_ages(&self, uptime: Duration) -> Result<()> {
        self.recovered(self.plan.store.change(|manifest| self.write_ages(manifest, uptime)))?;
        self.state().uptime_saved = uptime;
        Ok(())
    }

    fn write_ages(&self, manifest: &mut Manifest, uptime: Duration) {
        let start = manifest.log_start;
        manifest.uptime_ns = manifest.uptime_ns.max(as_ns(uptime));
        let state = self.state();
        let ages = state.sealed_at.iter().filter(|(base, _)| **base >= start);
        let age = |(&base, &at): (&Lsn, &Duration)| SegmentAge { base, sealed_at_uptime_ns: as_ns(at) };
        manifest.ages = ages.map(age).collect();
    }

    fn cut_lock(&self) -> MutexGuard<'_, ()> {
        self.cutting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
