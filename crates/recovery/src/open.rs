//! Opening a log for writing: list, check, scan, judge, repair, hand over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use braidlog_format::{Incarnation, LogId, LogTail, Lsn};
use braidlog_storage::LogDir;

use crate::chain::{self, Chain, End};
use crate::tail::{self, Tail, TailEnd};
use crate::window::{GLANCE_LEN, Window};
use crate::{
    DamagePolicy, InDoubt, Loss, Manifest, OnDamage, RecoveryError, RepairReport, damaged, dir, in_doubt,
    loss, repair, seal,
};

/// A log that is ready to be written on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// What the engine begins with.
    pub tail: LogTail,
    /// What was found and done.
    pub report: RecoveryReport,
    /// What the manifest says, for the [`ManifestStore`](crate::ManifestStore) of this opening.
    pub manifest: Arc<Manifest>,
}

/// What opening a log for writing found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The log's identity.
    pub log_id: LogId,
    /// The incarnation that is about to write.
    pub incarnation: Incarnation,
    /// Segment files with a header.
    pub segments: usize,
    /// The first LSN of the log, of which it may hold none yet.
    pub first_lsn: Lsn,
    /// The last LSN of the log; the one before the first if it holds none.
    pub last_lsn: Lsn,
    /// How the last segment ended.
    pub tail: TailState,
    /// LSNs that were given up, by this opening or earlier ones, in LSN order, each told once: no record has them, and none
    /// ever will. What an interrupted repair only meant to give up is not among them.
    pub losses: Vec<Loss>,
    /// Transactions that are prepared and not decided, by id. They take effect, or not, when somebody decides. To find them, the
    /// log was read from the beginning of the first of them on.
    pub in_doubt: Vec<InDoubt>,
    /// What this opening repaired; `None` if it did not have to, or might not.
    pub repaired: Option<RepairReport>,
    /// Names of segments whose seal should be there and is missing, torn or damaged. No record is lost by it.
    pub damaged_seals: Vec<String>,
    /// Names of left-over prepared files that were removed.
    pub removed_prepared: Vec<String>,
    /// Names of files that were removed because they are no part of the log any more: segments before its first
    /// LSN, checkpoints that it has forgotten, what was never finished, and compressed segments whose original is there.
    pub removed_orphans: Vec<String>,
    /// Names that mean nothing here and were left alone.
    pub ignored: Vec<String>,
    /// Bytes of entries that were read and checked.
    pub scanned_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// How the last segment of a log ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TailState {
    /// There was no segment: the log begins.
    NewLog,
    /// With a synced seal: the log was closed.
    Sealed,
    /// With a whole batch, and nothing but zeros behind it.
    Unsealed,
    /// With bytes that were never acknowledged. They were cut.
    Torn {
        /// Name of the segment.
        segment: String,
        /// Where it was cut: the end of its last whole batch.
        offset: u64,
        /// Bytes that were cut, trailing zeros not counted.
        cut_bytes: u64,
        /// Name of the file that keeps them (the first 16 MiB at most); `None` if there was no space.
        kept_as: Option<String>,
    },
}

/// Makes the log in `dir` ready for writing. The caller holds the directory's lock.
///
/// `new_log_id` is the identity of the log if it begins here; an existing log keeps its own.
///
/// # Errors
/// [`RecoveryError::Damaged`], [`RecoveryError::Newer`] and [`RecoveryError::Foreign`] leave every file as
/// it was. [`RecoveryError::Io`] may come at any step; what was done until then is done again, or found
/// done, by the next call.
pub fn recover(dir: &Arc<dyn LogDir>, new_log_id: LogId) -> Result<Recovered, RecoveryError> {
    recover_with(dir, new_log_id, None)
}

/// As [`recover`], after a repair of what is damaged. With another policy than [`DamagePolicy::Refuse`] all of the log is
/// read, whether it is damaged or not.
///
/// # Errors
/// As [`recover`]. [`RecoveryError::Damaged`] is left for what a repair does not reach, such as the manifest.
pub fn recover_with(
    dir: &Arc<dyn LogDir>,
    new_log_id: LogId,
    on_damage: Option<&OnDamage<'_>>,
) -> Result<Recovered, RecoveryError> {
    let started = Instant::now();
    let repaired = match on_damage.filter(|how| how.policy != DamagePolicy::Refuse) {
        Some(how) => {
            Some(damaged::repair(dir, new_log_id, how, &mut |_| ())?).filter(|report| !report.is_clean())
        }
        None => None,
    };
    let listing = dir::list(dir)?;
    let manifest = Manifest::load(dir)?;
    let chain = chain::inspect(dir, &listing, manifest.log_start, &[], &mut chain::refuse)?;
    manifest.check_log_id(chain.log_id())?;
    keep_names(dir)?;

    let newest = chain.segments.iter().map(|segment| segment.header.incarnation.0).max();
    // Segments of newer openings may have been set aside, by this one.
    let newest = newest.max(manifest.newest_incarnation().map(|newest| newest.0));
    let incarnation = Incarnation(newest.unwrap_or(0).saturating_add(1));
    #[cfg(braidlog_sabotage)]
    let incarnation = match newest {
        Some(newest) if braidlog_sabotage::is("incarnation_not_raised") => Incarnation(newest),
        _ => incarnation,
    };
    let mut damaged_seals = damaged_seals(dir, &chain)?;
    let mut tail = chain.last().map(|last| tail::examine(dir, last)).transpose()?;
    let next_lsn = tail.as_ref().map_or(Lsn::FIRST, Tail::next_lsn);
    manifest.check_end(next_lsn, tail.as_ref().map(Tail::place))?;
    #[cfg(braidlog_sabotage)]
    let next_lsn = match next_lsn {
        Lsn(next) if next > 1 && braidlog_sabotage::is("last_lsn_given_again") => Lsn(next - 1),
        next_lsn => next_lsn,
    };
    let not_started = chain.check_not_started(next_lsn)?;
    let losses = loss::recorded(dir, &manifest, &mut chain::refuse)?;
    let in_doubt = match &tail {
        Some(tail) if tail.may_be_in_doubt => in_doubt::at_end(dir, &chain.segments, next_lsn.prev())?,
        _ => Vec::new(),
    };

    // The verdicts are in: from here on files change.
    repair::remove_prepared(dir, &listing)?;
    let removed_orphans = repair::remove_orphans(dir, &listing, &manifest)?;
    let state = match &mut tail {
        None => TailState::NewLog,
        Some(tail) => {
            let cut = repair::trim(dir, &listing, tail, incarnation)?;
            if tail.seal_broken {
                damaged_seals.push(tail.window.name().to_owned());
            }
            match tail.state {
                TailEnd::Sealed => TailState::Sealed,
                TailEnd::Clean => TailState::Unsealed,
                TailEnd::Torn => TailState::Torn {
                    segment: tail.window.name().to_owned(),
                    offset: tail.kept.end,
                    cut_bytes: cut.bytes,
                    kept_as: cut.kept_as,
                },
            }
        }
    };

    let holds_no_lsn = tail.as_ref().is_some_and(|tail| tail.kept.last.is_none());
    let log_id = chain.log_id().or(manifest.log_id()).unwrap_or(new_log_id);
    let report = RecoveryReport {
        log_id,
        incarnation,
        segments: chain.segments.len(),
        first_lsn: manifest.log_start,
        last_lsn: next_lsn.prev(),
        tail: state,
        losses,
        in_doubt,
        repaired,
        damaged_seals,
        removed_prepared: listing.prepared,
        removed_orphans,
        ignored: listing.unknown,
        scanned_bytes: tail.as_ref().map_or(0, |tail| tail.scanned_bytes),
        duration: started.elapsed(),
    };
    let tail = LogTail {
        log_id,
        incarnation,
        next_lsn,
        predecessor: tail.as_ref().and_then(Tail::predecessor),
        last_timestamp_ns: tail.as_ref().map_or(0, |tail| tail.kept.timestamp_ns),
        in_doubt: report.in_doubt.iter().map(InDoubt::open).collect(),
        replaces_empty: holds_no_lsn || not_started,
    };
    #[cfg(braidlog_sabotage)]
    let tail = match tail {
        tail if braidlog_sabotage::is("last_timestamp_forgotten") => LogTail { last_timestamp_ns: 0, ..tail },
        tail => tail,
    };
    Ok(Recovered { tail, report, manifest: Arc::new(manifest) })
}

/// Makes the names in the directory durable. A writer that was killed may have left some that only the cache
/// knows; what is built on them here must not outlive them.
fn keep_names(dir: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("names_not_synced_at_open") {
        return Ok(());
    }
    dir.sync().map_err(RecoveryError::io("sync", dir::path_of(dir)))
}

/// The names of earlier segments that were sealed and whose seal is not what the next header says.
fn damaged_seals(dir: &Arc<dyn LogDir>, chain: &Chain) -> Result<Vec<String>, RecoveryError> {
    let mut names = Vec::new();
    for segment in &chain.segments {
        if let End::Named(named) = &segment.end
            && named.sealed
        {
            let mut window = Window::open(dir, &segment.name, GLANCE_LEN)?;
            // One read: a log of years has many seals.
            window.fill_end()?;
            let seal = seal::at_end(&mut window, &segment.header)?;
            if !seal.is_some_and(|facts| facts.agrees_with(named)) {
                names.push(segment.name.clone());
            }
        }
    }
    Ok(names)
}
