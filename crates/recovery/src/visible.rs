//! How much of a log a reader may show: what is durable, and no more.
//!
//! # Beside a writer
//! The highest sync mark in the last segment says how far the log is durable, and so do a seal, the header
//! of a newer segment, and the manifest: what it names, a restore point or a checkpoint, can be read at once. What
//! follows all of these may be half written and is nobody's damage.
//!
//! # On a dead log
//! What recovery would keep, by the same code ([`tail`]).
//!
//! # A race that is handled
//! A writer may rotate, replace an empty segment, open or close while this looks. So a verdict stands only
//! when two looks in a row reach it, each of which lists the directory and reads header and bytes anew,
//! through the name. The manifest is read after the listing: a file of the listing that a truncation takes away
//! is then either below the log start, or not found, and looked for again.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{Kind, Lsn, Salt, SyncMark};
use braidlog_storage::LogDir;

use crate::chain::{self, Chain, Segment, header_in};
use crate::dir;
use crate::marks::look_behind;
use crate::scan::{Position, Scan, Step, Stop};
use crate::tail;
use crate::window::{STREAM_LEN, Window};
use crate::{Damage, Manifest, RecoveryError};

/// The most looks before a directory that never stands still is an error.
const LOOKS_MAX: usize = 32;

/// What a reader knows about how far a log may be shown.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// The segments at the last look.
    pub(crate) chain: Chain,
    /// The first LSN of the log at the last look.
    pub(crate) first: Lsn,
    /// The last LSN that may be shown; it never goes back.
    pub(crate) last: Lsn,
    /// Whether a valid seal ended the last segment at the last look.
    pub(crate) sealed: bool,
    /// Where the last look stopped in the last segment.
    tracked: Option<Tracked>,
    /// The dead last segment that was judged: its base, salt and length.
    judged: Option<(Lsn, Salt, u64)>,
}

/// How far the segment under a writer's pen was read.
#[derive(Clone, Copy, Debug)]
struct Tracked {
    at: Position,
    /// Whether what lies behind was looked at.
    looked_behind: bool,
    /// How many looks in a row stopped here.
    stops: u32,
}

impl Tracked {
    /// Whether a look that stopped so must see what lies behind. A writer has zeros in front of its pen, or in a
    /// recycled file bytes of an earlier life: that nothing of this one stands behind them is looked at once for each segment. Bytes
    /// may also be damage, with which a look stops at the same place again and again: there it is looked at less and
    /// less often, so that a reader that waits does not read the rest of the file each time.
    fn must_look_behind(&self, stop: &Stop, recycled: bool) -> bool {
        match stop {
            Stop::Zeros(_) => !self.looked_behind,
            Stop::Invalid(_, None) if recycled => {
                !self.looked_behind || (self.stops > 1 && self.stops.is_power_of_two())
            }
            Stop::Invalid(..) => true,
            Stop::EndOfFile | Stop::Seal(_) | Stop::Newer(_) => false,
        }
    }
}

/// What one look came to.
enum Look {
    Done,
    /// The directory changed under it.
    Again,
}

impl Visible {
    /// Looks how far the log may be shown now.
    pub(crate) fn look(&mut self, dir: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
        let mut verdict: Option<Damage> = None;
        let mut looks = 0;
        loop {
            looks += 1;
            match self.look_once(dir, verdict.is_some()) {
                Ok(Look::Done) => return Ok(()),
                Ok(Look::Again) if looks < LOOKS_MAX => verdict = None,
                Ok(Look::Again) => {
                    return Err(RecoveryError::io("look at", dir::path_of(dir))(ErrorKind::TimedOut.into()));
                }
                Err(RecoveryError::Damaged(damage))
                    if looks < LOOKS_MAX && verdict.as_ref() != Some(&damage) =>
                {
                    verdict = Some(damage);
                }
                Err(RecoveryError::Io { source, .. })
                    if looks < LOOKS_MAX && source.kind() == ErrorKind::NotFound =>
                {
                    verdict = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn look_once(&mut self, dir: &Arc<dyn LogDir>, doubted: bool) -> Result<Look, RecoveryError> {
        let is_locked = || dir.is_locked().map_err(RecoveryError::io("query", "LOCK"));
        let live = is_locked()?;
        let listing = dir::list(dir)?;
        let known = if doubted { &[] } else { self.chain.segments.as_slice() };
        let manifest = Manifest::load(dir)?;
        let chain = chain::inspect(dir, &listing, manifest.log_start, known, &mut chain::refuse)?;
        manifest.check_log_id(chain.log_id())?;
        self.first = manifest.log_start;
        let look = match chain.last() {
            None => {
                if !live {
                    manifest.check_end(Lsn::FIRST, None)?;
                }
                chain.check_not_started(Lsn::FIRST)?;
                Look::Done
            }
            // The next header is written only when all before it is durable.
            Some(last) => {
                self.last = self.last.max(last.header.base.prev());
                if live {
                    self.look_beside_writer(dir, last, manifest.durable, doubted)?
                } else {
                    let looked = self.look_at_dead(dir, &chain, last, &manifest)?;
                    // A writer that opened meanwhile may have written behind the sync.
                    if is_locked()? { Look::Again } else { self.show(looked) }
                }
            }
        };
        self.chain = chain;
        Ok(look)
    }

    fn look_beside_writer(
        &mut self,
        dir: &Arc<dyn LogDir>,
        last: &Segment,
        vouched: Lsn,
        doubted: bool,
    ) -> Result<Look, RecoveryError> {
        let mut window = if doubted {
            Window::open_device(dir, &last.name, STREAM_LEN)?
        } else {
            Window::open(dir, &last.name, STREAM_LEN)?
        };
        let header = header_in(&mut window)?.expect(window.name(), last.header.base, Lsn::MAX)?;
        if header.salt != last.header.salt {
            return Ok(Look::Again);
        }
        let tracked =
            self.tracked.filter(|Tracked { at, .. }| at.base == header.base && at.salt == header.salt);
        let mut tracked =
            tracked.unwrap_or(Tracked { at: Position::first_of(&header), looked_behind: false, stops: 0 });
        let mut scan = Scan::at(window, tracked.at);
        self.sealed = false;
        let stop = loop {
            match scan.step()? {
                Step::Entry(found) if found.header.kind == Kind::SYNC_MARK => {
                    if let Ok(mark) = SyncMark::decode(scan.payload(&found)) {
                        self.last = self.last.max(mark.durable_lsn);
                    }
                }
                Step::Entry(_) => {}
                Step::Stop(stop) => break stop,
            }
        };
        let at = scan.at;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("reader_passes_the_mark") {
            self.last = self.last.max(at.next.prev());
        }
        // The manifest may be of a moment after the listing, and then speak of a segment that is not in it.
        if vouched < at.next {
            self.last = self.last.max(vouched);
        }
        tracked.stops = if at.offset == tracked.at.offset { tracked.stops.saturating_add(1) } else { 1 };
        tracked.at = at;
        self.tracked = Some(tracked);
        match &stop {
            Stop::Seal(facts) => {
                self.last = self.last.max(facts.last_lsn);
                self.sealed = true;
            }
            Stop::Newer(what) => {
                return Err(RecoveryError::Newer { file: last.name.clone(), offset: at.offset, what: *what });
            }
            stop if !doubted && !tracked.must_look_behind(stop, header.recycled) => {}
            Stop::EndOfFile => {}
            Stop::Zeros(_) | Stop::Invalid(..) => {
                let behind = look_behind(&mut scan.window, &header, &at)?;
                if behind.vouched.is_some() {
                    return Err(tail::damage(&scan.window, &at, &stop, behind.vouched));
                }
                tracked.looked_behind = true;
                self.tracked = Some(tracked);
            }
        }
        Ok(Look::Done)
    }

    /// What a dead log shows: its last LSN, and whether it is sealed.
    fn look_at_dead(
        &mut self,
        dir: &Arc<dyn LogDir>,
        chain: &Chain,
        last: &Segment,
        manifest: &Manifest,
    ) -> Result<(Lsn, bool), RecoveryError> {
        let key = (last.header.base, last.header.salt, last.len);
        if self.judged == Some(key) {
            return Ok((self.last, self.sealed));
        }
        self.judged = None;
        let tail = tail::examine(dir, last)?;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("reader_cuts_the_tail") {
            let mut tail = tail::examine(dir, last)?;
            crate::repair::trim(dir, &dir::list(dir)?, &mut tail, last.header.incarnation)?;
        }
        manifest.check_end(tail.next_lsn(), Some(tail.place()))?;
        chain.check_not_started(tail.next_lsn())?;
        self.judged = Some(key);
        Ok((tail.next_lsn().prev(), tail.state == tail::TailEnd::Sealed))
    }

    fn show(&mut self, (last, sealed): (Lsn, bool)) -> Look {
        self.last = self.last.max(last);
        self.sealed = sealed;
        Look::Done
    }
}
