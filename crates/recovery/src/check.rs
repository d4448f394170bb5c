//! A verification at work: every segment from its header to its end, on and on behind what is damaged.
//!
//! The rule: it goes on wherever something proves itself. Behind a damaged payload that is the next entry, for
//! the header tells where it stands; behind a damaged header it is the first entry of any kind that is right in its place,
//! and only the LSNs between are lost.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{EntryHeader, Flags, Kind, Lsn, LsnRange, Predecessor, StreamKind};
use braidlog_storage::LogDir;

use crate::chain::{Chain, End, HeaderFound, Segment, header_in};
use crate::marks::{Behind, Lookout, find_entry, find_restart, look_behind};
use crate::packed_file::PackedFile;
use crate::scan::{Found, Scan, Step, Stop};
use crate::survey::{PLACES_MAX, together};
use crate::tail::cause_of;
use crate::verdict::{Facts, Place, Verdict, judge};
use crate::verify::{
    EntryVerdict, OnEntry, Problem, VerifyHow, VerifyProgress, VerifyReport, VerifyTail, Warning,
};
use crate::window::{STREAM_LEN, Window};
use crate::{Damage, DamageCause, Manifest, PackedFault, RecoveryError, StreamReader, seal};

mod beside;

/// Bytes between two calls of the progress function.
const TELL_BYTES: u64 = 1 << 20;

/// Checks all segments of the chain, whose own problems are in the report already.
pub(crate) fn check_segments(
    dir: &Arc<dyn LogDir>,
    chain: &Chain,
    manifest: &Manifest,
    report: VerifyReport,
    how: VerifyHow<'_>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let VerifyHow { threads, on_entry } = how;
    let mut report = match on_entry {
        None if threads > 1 && chain.segments.len() > 1 => {
            beside::check(dir, chain, manifest, report, threads, progress)?
        }
        on_entry => {
            let told = progress_of(chain);
            let mut on_entry = on_entry.map(|on_entry| move |entry: &EntryVerdict<'_>| on_entry(entry));
            let on_entry = on_entry.as_mut().map(|on_entry| on_entry as &mut OnEntry<'_>);
            let mut check = Check { dir, manifest, progress, on_entry, told, report, places: 0 };
            for segment in &chain.segments {
                check.tell(segment);
                check.segment_unless_truncated(segment)?;
                check.told.segments_done += 1;
                check.tell(segment);
            }
            check.report
        }
    };
    if chain.segments.is_empty() && !report.live && report.problems.is_empty() {
        vouched(manifest, &mut report, Lsn::FIRST, None)?;
    }
    Ok(report)
}

/// What is told before anything was read.
fn progress_of(chain: &Chain) -> VerifyProgress {
    // As they were before they were packed.
    let lens = chain.segments.iter().map(|segment| segment.plain_len);
    VerifyProgress {
        segment: String::new(),
        segments_done: 0,
        segments_total: chain.segments.len(),
        bytes_done: 0,
        bytes_total: lens.fold(0, u64::saturating_add),
        records: 0,
    }
}

/// Tells if a log that ends there, and goes on with `next_lsn`, holds less than the manifest says.
fn vouched(
    manifest: &Manifest,
    report: &mut VerifyReport,
    next_lsn: Lsn,
    end: Option<(&str, u64, bool)>,
) -> Result<(), RecoveryError> {
    match manifest.check_end(next_lsn, end) {
        Err(RecoveryError::Damaged(damage)) => report.problems.push(damage.into()),
        other => other?,
    }
    Ok(())
}

struct Check<'a> {
    dir: &'a Arc<dyn LogDir>,
    manifest: &'a Manifest,
    progress: &'a mut dyn FnMut(VerifyProgress),
    on_entry: Option<&'a mut OnEntry<'a>>,
    /// What was told last.
    told: VerifyProgress,
    report: VerifyReport,
    /// Damaged places of the segment until now.
    places: usize,
}

impl Check<'_> {
    /// Beside a writer nothing counts against a segment that the log has given up meanwhile.
    fn segment_unless_truncated(&mut self, segment: &Segment) -> Result<(), RecoveryError> {
        let problems = self.report.problems.len();
        let checked = self.segment(segment);
        if self.report.live
            && (checked.is_err() || self.report.problems.len() > problems)
            && Manifest::load(self.dir)?.log_start > segment.header.base
        {
            self.report.problems.truncate(problems);
            return Ok(());
        }
        checked
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), RecoveryError> {
        self.places = 0;
        let is_last = segment.end == End::Open;
        if is_last {
            // Unless it is found to end well.
            self.report.tail = if self.report.live { VerifyTail::Live } else { VerifyTail::Damaged };
        }
        let mut window = match Window::open_device(self.dir, &segment.name, STREAM_LEN) {
            // A packed one, and it was whole when the headers were read.
            Err(RecoveryError::Damaged(damage)) => {
                let lsns =
                    LsnRange { first: damage.lsns.first, last: segment.end.last().unwrap_or(Lsn::MAX) };
                self.problem(segment, damage.offset, lsns, damage.cause);
                return Ok(());
            }
            window => window?,
        };
        match header_in(&mut window)? {
            HeaderFound::Valid(header) if *header == segment.header => {}
            // The writer replaced an empty segment since the headers were read.
            HeaderFound::Valid(_) if is_last && self.report.live => return Ok(()),
            found => {
                let last = segment.end.last().unwrap_or(Lsn::MAX);
                return match found.expect(&segment.name, segment.header.base, last) {
                    Err(RecoveryError::Damaged(damage)) => {
                        self.report.problems.push(damage.into());
                        Ok(())
                    }
                    other => other.map(drop),
                };
            }
        }
        let (problems, packed) = (self.report.problems.len(), window.packed().cloned());
        let mut scan = Scan::new(window, &segment.header);
        if is_last {
            self.last_segment(segment, &mut scan)?;
        } else {
            self.earlier_segment(segment, &mut scan)?;
        }
        if let Some(kept) = scan.at.kept().last {
            self.report.last_lsn = self.report.last_lsn.max(kept.lsn);
        }
        match packed.filter(|_| self.report.problems.len() == problems) {
            Some(packed) => self.packed(segment, &packed),
            None => Ok(()),
        }
    }

    /// Checks every byte of a packed segment of which no record is damaged.
    fn packed(&mut self, segment: &Segment, packed: &PackedFile) -> Result<(), RecoveryError> {
        let read = || -> Result<(), RecoveryError> {
            let file = Arc::clone(packed.file());
            let mut stream = StreamReader::of_file(file, &segment.name, StreamKind::Packed)?;
            while stream.next_entry()?.is_some() {}
            Ok(())
        };
        match read() {
            Err(RecoveryError::Damaged(Damage { offset: at, cause, .. })) => {
                let cause = match cause {
                    DamageCause::Entry(what) => DamageCause::Packed { at, what: PackedFault::Entry(what) },
                    cause => cause,
                };
                let nothing = LsnRange { first: segment.header.base, last: segment.header.base.prev() };
                self.problem(segment, 0, nothing, cause);
                Ok(())
            }
            read => read,
        }
    }

    fn earlier_segment(&mut self, segment: &Segment, scan: &mut Scan) -> Result<(), RecoveryError> {
        let until = segment.end.last();
        while let Some(stop) = self.walk(segment, scan, until)? {
            // Nobody knows where a segment before a missing one ends.
            let is_end = matches!(stop, Stop::EndOfFile | Stop::Zeros(_) | Stop::Seal(_));
            if until.is_none() && is_end && !scan.at.batch_open {
                return Ok(());
            }
            if !self.pass(segment, scan, &stop, until)? {
                return Ok(());
            }
        }
        if let Some(last) = scan.at.last
            && scan.at.batch_open
        {
            let lsns = LsnRange { first: last.lsn, last: last.lsn };
            self.problem(segment, last.offset, lsns, DamageCause::BatchCut);
        }
        if let (Some(last), Some(until)) = (scan.at.last, until)
            && last.lsn > until
        {
            // A loss that reaches into the next segment.
            let lsns = LsnRange { first: until.next(), last: until };
            self.problem(segment, last.offset, lsns, DamageCause::LastEntryDiffers);
        }
        if let End::Named(named) = &segment.end {
            if let Some(last) = scan.at.last
                && last.lsn == named.last
                && last.differs_from(named)
            {
                let lsns = LsnRange { first: last.lsn, last: last.lsn };
                self.problem(segment, last.offset, lsns, DamageCause::LastEntryDiffers);
            }
            // Behind the last entry of a segment that a crash left without a seal, bytes are superseded.
            if named.sealed {
                self.seal_of(segment, scan, named)?;
            }
        }
        Ok(())
    }

    /// Checks what stands between the last record of an earlier segment and its seal, and the seal.
    fn seal_of(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        named: &Predecessor,
    ) -> Result<(), RecoveryError> {
        let nothing = LsnRange { first: named.last.next(), last: named.last };
        loop {
            let stop = self.walk(segment, scan, Some(named.last.next()))?;
            let offset = scan.at.offset;
            let Some(stop) = stop else {
                // A record where the next segment's header says that there is none.
                self.problem(segment, offset, nothing, DamageCause::Seal);
                return Ok(());
            };
            if let Stop::Seal(facts) = &stop {
                self.count_bytes(facts.end - facts.offset);
                if !facts.agrees_with(named) || facts.end != scan.window.len() {
                    self.problem(segment, offset, nothing, DamageCause::Seal);
                }
                return Ok(());
            }
            let restart = find_restart(&mut scan.window, &segment.header, &scan.at)?;
            let Some(restart) = restart.filter(|restart| restart.next == named.last.next()) else {
                self.problem(segment, offset, nothing, DamageCause::Seal);
                return Ok(());
            };
            self.problem(segment, offset, nothing, cause_of(&scan.window, &stop, &scan.at));
            scan.resume(restart.offset, restart.next);
        }
    }

    fn last_segment(&mut self, segment: &Segment, scan: &mut Scan) -> Result<(), RecoveryError> {
        // Up to here something that was seen already vouches for every byte.
        let mut vouched_offset = 0;
        let mut looked_again = None;
        let mut lookout = Lookout::default();
        while let Some(stop) = self.walk(segment, scan, None)? {
            let offset = scan.at.offset;
            let behind = match stop {
                Stop::Seal(_) | Stop::Newer(_) => Behind::default(),
                _ if offset < vouched_offset => Behind::vouching_for(&scan.at),
                _ if self.report.live => look_behind(&mut scan.window, &segment.header, &scan.at)?,
                _ => lookout.look_behind(&mut scan.window, &segment.header, &scan.at)?,
            };
            vouched_offset = vouched_offset.max(behind.synced_offset);
            let verdict = judge(Facts::of_stop(Place::Last, &stop, &behind, scan.at.batch_open));
            match verdict {
                Verdict::CleanEnd | Verdict::TornTail if self.report.live => return Ok(()),
                Verdict::Sealed | Verdict::CleanEnd | Verdict::TornTail => {
                    self.end(segment, scan, verdict, &stop, &behind)?;
                    let sealed = self.report.tail == VerifyTail::Sealed;
                    if self.report.tail == VerifyTail::Damaged || self.report.live {
                        return Ok(());
                    }
                    let kept = scan.at.kept();
                    let next_lsn = kept.last.map_or(segment.header.base, |last| last.lsn.next());
                    let end = Some((segment.name.as_str(), kept.end, sealed));
                    return vouched(self.manifest, &mut self.report, next_lsn, end);
                }
                _ if self.report.live && looked_again != Some(offset) => {
                    looked_again = Some(offset);
                    if !self.look_again(segment, scan)? {
                        return Ok(());
                    }
                }
                _ => {
                    if !self.pass(segment, scan, &stop, behind.vouched)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The scan of the last segment has come to its lawful end.
    fn end(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        verdict: Verdict,
        stop: &Stop,
        behind: &Behind,
    ) -> Result<(), RecoveryError> {
        // Recovery takes a seal at the end of the file at its word and reads nothing else. So one that stands
        // elsewhere than where the entries end, or denies them, is damage: no crash leaves it.
        if let Some(closing) = seal::at_end(&mut scan.window, &segment.header)?
            && !matches!(stop, Stop::Seal(facts) if facts.offset == closing.offset)
        {
            let lsns = LsnRange { first: scan.at.next, last: closing.last_lsn };
            self.problem(segment, scan.at.offset, lsns, DamageCause::Seal);
            return Ok(());
        }
        match (verdict, stop) {
            (Verdict::TornTail, _) => return self.torn_tail(segment, scan, behind),
            (_, Stop::Seal(facts)) => {
                self.count_bytes(facts.end - facts.offset);
                self.report.tail = VerifyTail::Sealed;
            }
            _ => self.report.tail = VerifyTail::Unsealed,
        }
        Ok(())
    }

    /// Tells what a crash, or damage that looks as one, left at the end of a log that nobody writes.
    fn torn_tail(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        behind: &Behind,
    ) -> Result<(), RecoveryError> {
        self.report.tail = VerifyTail::Torn;
        let (name, offset) = (segment.name.clone(), scan.at.offset);
        let window = &mut scan.window;
        let warning = if !scan.at.batch_open && seal::was_meant(window, &segment.header, offset)? {
            if seal::was_flipped(window, &segment.header, offset)? {
                let lsns = LsnRange { first: scan.at.next, last: scan.at.next.prev() };
                self.problem(segment, offset, lsns, DamageCause::Seal);
                return Ok(());
            }
            Warning::UnfinishedSeal { segment: name, offset }
        } else {
            Warning::TornTail { segment: name, offset: scan.at.kept().end, bytes: behind.cut_bytes(&scan.at) }
        };
        self.report.warnings.push(warning);
        Ok(())
    }

    /// Steps on while entries are valid, up to the one with the LSN `until`; why it stopped, if it did before.
    fn walk(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        until: Option<Lsn>,
    ) -> Result<Option<Stop>, RecoveryError> {
        while until.is_none_or(|until| scan.at.next <= until) {
            match scan.step()? {
                Step::Entry(found) => {
                    self.report.losses.extend(scan.loss(&found));
                    self.count(segment, &found.header);
                    let Found { header, offset } = found;
                    self.verdict(segment, offset, header.lsn, Some((header.kind, header.payload_len)), None);
                }
                Step::Stop(Stop::Newer(what)) => {
                    let file = segment.name.clone();
                    return Err(RecoveryError::Newer { file, offset: scan.at.offset, what });
                }
                Step::Stop(stop) => return Ok(Some(stop)),
            }
        }
        Ok(None)
    }

    /// Tells the damaged place at which the scan stands, and goes on behind it. Whether there is where to; if
    /// not, the LSNs up to `lost_to` are lost with it.
    fn pass(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        stop: &Stop,
        lost_to: Option<Lsn>,
    ) -> Result<bool, RecoveryError> {
        let (offset, first, cause) = (scan.at.offset, scan.at.next, cause_of(&scan.window, stop, &scan.at));
        let end = segment.end.last().unwrap_or(Lsn::MAX);
        let behind = match stop {
            Stop::Seal(_) => None,
            Stop::Invalid(_, Some(proved)) => {
                scan.skip(proved);
                None
            }
            _ => find_entry(&mut scan.window, &scan.at, end)?,
        };
        if let Some(behind) = behind {
            scan.resume(behind.offset, behind.header.lsn);
        }
        let goes_on = scan.at.offset > offset;
        let last = if goes_on { scan.at.next.prev() } else { lost_to.unwrap_or(first.prev()) };
        let last = last.min(end);
        let entry = match stop {
            Stop::Invalid(_, Some(proved)) => Some((proved.header.kind, proved.header.payload_len)),
            _ => None,
        };
        self.verdict(segment, offset, first, entry, Some(cause));
        self.problem(segment, offset, LsnRange { first, last }, cause);
        Ok(goes_on)
    }

    /// Tells the verdict on what stands at an offset.
    fn verdict(
        &mut self,
        segment: &Segment,
        offset: u64,
        lsn: Lsn,
        entry: Option<(Kind, u32)>,
        damage: Option<DamageCause>,
    ) {
        if let Some(on_entry) = &mut self.on_entry {
            let (kind, payload_len) = entry.unzip();
            on_entry(&EntryVerdict { segment: &segment.name, offset, lsn, kind, payload_len, damage });
        }
    }

    /// Reads the failing place again through the name. Whether it is the same file still.
    fn look_again(&mut self, segment: &Segment, scan: &mut Scan) -> Result<bool, RecoveryError> {
        let mut window = match Window::open_device(self.dir, &segment.name, STREAM_LEN) {
            Ok(window) => window,
            Err(RecoveryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let same = matches!(header_in(&mut window)?, HeaderFound::Valid(header) if *header == segment.header);
        scan.window = window;
        Ok(same)
    }

    fn problem(&mut self, segment: &Segment, offset: u64, lsns: LsnRange, what: DamageCause) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("verify_keeps_quiet") {
            return;
        }
        let told = self.report.problems.last_mut().filter(|_| self.places >= PLACES_MAX);
        match told {
            Some(last) => last.lsns = together(last.lsns, lsns),
            None => self.report.problems.push(Problem { segment: segment.name.clone(), offset, lsns, what }),
        }
        self.places += 1;
    }

    fn count(&mut self, segment: &Segment, entry: &EntryHeader) {
        if entry.kind.takes_lsn() {
            self.report.records += 1;
            self.report.batches += u64::from(!entry.flags.contains(Flags::BATCH_CONTINUES));
        }
        self.count_bytes(entry.entry_len());
        if self.report.bytes.saturating_sub(self.told.bytes_done) >= TELL_BYTES {
            self.tell(segment);
        }
    }

    fn count_bytes(&mut self, bytes: u64) {
        self.report.bytes = self.report.bytes.saturating_add(bytes);
    }

    fn tell(&mut self, segment: &Segment) {
        self.told.segment.clone_from(&segment.name);
        self.told.bytes_done = self.report.bytes;
        self.told.records = self.report.records;
        (self.progress)(self.told.clone());
    }
}
