//! Segments checked beside one another, by several threads.
//!
//! The rule: each segment is checked as it would be alone, and what was found is put together in the order of the log. So
//! the report is that of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use braidlog_format::Lsn;
use braidlog_storage::LogDir;

use super::{Check, progress_of};
use crate::chain::{Chain, Segment};
use crate::verify::{VerifyProgress, VerifyReport};
use crate::{Manifest, RecoveryError};

/// What a thread says.
enum Told {
    /// It is so far in the segment with this place.
    Progress(usize, VerifyProgress),
    /// It is done with it.
    Done(usize, Box<Result<VerifyReport, RecoveryError>>),
}

/// Checks all segments of the chain with so many threads at once.
pub(super) fn check(
    dir: &Arc<dyn LogDir>,
    chain: &Chain,
    manifest: &Manifest,
    report: VerifyReport,
    threads: usize,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let segments = &chain.segments;
    // Who takes a place; nothing else depends on it.
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    let blank = VerifyReport {
        records: 0,
        batches: 0,
        bytes: 0,
        last_lsn: Lsn::ZERO,
        losses: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        ..report.clone()
    };
    let work = |tell: mpsc::Sender<Told>| {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(segment) = segments.get(place) else { return };
            let done = check_one(dir, chain, manifest, segment, blank.clone(), &mut |progress| {
                // Whoever listened has gone, and nobody asks any more.
                let _ = tell.send(Told::Progress(place, progress));
            });
            let _ = tell.send(Told::Done(place, Box::new(done)));
        }
    };
    thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..threads.min(segments.len()) {
            let tell = tell.clone();
            let builder = thread::Builder::new().name("braidlog-verify".to_owned());
            started += usize::from(builder.spawn_scoped(scope, || work(tell)).is_ok());
        }
        if started == 0 {
            // The system has no threads to give.
            work(tell.clone());
        }
        drop(tell);
        gather(chain, report, &told, progress)
    })
}

fn check_one(
    dir: &Arc<dyn LogDir>,
    chain: &Chain,
    manifest: &Manifest,
    segment: &Segment,
    blank: VerifyReport,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let told = progress_of(chain);
    let mut check = Check { dir, manifest, progress, on_entry: None, told, report: blank, places: 0 };
    check.tell(segment);
    check.segment_unless_truncated(segment)?;
    Ok(check.report)
}

/// Puts together what the threads say, and tells the progress of them all.
fn gather(
    chain: &Chain,
    mut report: VerifyReport,
    told: &mpsc::Receiver<Told>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let count = chain.segments.len();
    let mut all = progress_of(chain);
    let mut far = vec![(0, 0); count];
    let mut done: Vec<Option<Result<VerifyReport, RecoveryError>>> = Vec::new();
    done.resize_with(count, || None);
    for told in told {
        let (place, bytes, records) = match told {
            Told::Progress(place, progress) => {
                all.segment = progress.segment;
                (place, progress.bytes_done, progress.records)
            }
            Told::Done(place, checked) => {
                all.segments_done += 1;
                let far = checked.as_ref().as_ref().map_or((0, 0), |report| (report.bytes, report.records));
                if let Some(done) = done.get_mut(place) {
                    *done = Some(*checked);
                }
                (place, far.0, far.1)
            }
        };
        if let Some(far) = far.get_mut(place) {
            all.bytes_done = all.bytes_done.saturating_sub(far.0).saturating_add(bytes);
            all.records = all.records.saturating_sub(far.1).saturating_add(records);
            *far = (bytes, records);
        }
        progress(all.clone());
    }
    // A thread that panicked has ended the scope before this counts.
    for checked in done.into_iter().flatten() {
        let checked = checked?;
        report.records += checked.records;
        report.batches += checked.batches;
        report.bytes = report.bytes.saturating_add(checked.bytes);
        report.last_lsn = report.last_lsn.max(checked.last_lsn);
        report.losses.extend(checked.losses);
        report.problems.extend(checked.problems);
        report.warnings.extend(checked.warnings);
        report.tail = checked.tail;
    }
    Ok(report)
}
