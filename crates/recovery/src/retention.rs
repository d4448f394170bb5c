//! What a log keeps and what it may give up: a decision made of plain values. No file is touched here and no
//! clock is asked.
//!
//! The rule: what is needed stays, whatever the limits say. Needed is all from the first LSN on that a kept
//! checkpoint, a hold or a reader may ask for; without a checkpoint, all. The limits can only make the log keep
//! more than that. Age is time during which the log was open, never the wall clock's.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use braidlog_format::Lsn;

use crate::Manifest;
use crate::checkpoint::chain::ends;

/// How much of a log is kept beyond what is needed, as limits. A segment goes when one of the limits lets it
/// go and nothing needs it; the newest segment always stays.
///
/// What is needed is never given up, whatever the limits are: what the checkpoints need from which the log may
/// be recovered, what a hold or a reader of this process still wants, and everything as long as there is no
/// checkpoint.
///
/// ```
/// use std::time::Duration;
///
/// use braidlog_recovery::Retention;
///
/// let week = Duration::from_secs(7 * 24 * 60 * 60);
/// let of_age = Retention::keep_all().age(week); // by age alone
/// let small = Retention::segments(4).bytes(256 << 20); // at most 4 segments, and at most 256 MiB
/// assert_ne!(of_age, small);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Retention {
    /// The newest so many segments are kept, the one under the pen counted. `None` is no limit.
    ///
    /// Default: 10. Minimum: 1.
    pub segments: Option<u32>,
    /// The newest segments are kept as long as their files together have at most so many bytes. `None` is no
    /// limit.
    ///
    /// Default: none.
    pub bytes: Option<u64>,
    /// A segment is kept for so long after it was finished. Only time counts during which the log is open for
    /// writing, so a wall clock that is wrong or jumps deletes nothing. `None` is no limit.
    ///
    /// Default: none.
    pub age: Option<Duration>,
    /// The newest so many checkpoints are kept. They are counted in chains: one that holds all of the state counts
    /// together with those that hold changes to it, because they are of no use
    /// without it. So with 2 of them any one file may be damaged. All that replaying from the last one of the oldest
    /// of them would read is needed, so that a damaged newest one costs a longer replay and no more.
    ///
    /// Default: 2. Minimum: 1.
    pub checkpoints: u32,
}

impl Retention {
    /// The newest `segments` segments, and two checkpoints.
    #[must_use]
    pub const fn segments(segments: u32) -> Retention {
        Retention { segments: Some(segments), bytes: None, age: None, checkpoints: 2 }
    }

    /// No limit: no segment ever goes by itself. Of the checkpoints two are kept.
    #[must_use]
    pub const fn keep_all() -> Retention {
        Retention { segments: None, bytes: None, age: None, checkpoints: 2 }
    }

    /// Sets [`bytes`](Retention#structfield.bytes).
    #[must_use]
    pub const fn bytes(self, bytes: u64) -> Retention {
        Retention { bytes: Some(bytes), ..self }
    }

    /// Sets [`age`](Retention#structfield.age).
    #[must_use]
    pub const fn age(self, age: Duration) -> Retention {
        Retention { age: Some(age), ..self }
    }

    /// Sets [`checkpoints`](Retention#structfield.checkpoints).
    #[must_use]
    pub const fn checkpoints(self, checkpoints: u32) -> Retention {
        Retention { checkpoints, ..self }
    }

    /// Whether no segment ever goes by itself.
    pub const fn keeps_all(&self) -> bool {
        self.segments.is_none() && self.bytes.is_none() && self.age.is_none()
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention::segments(10)
    }
}

/// A segment, as far as its keeping is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFacts {
    /// Its first LSN.
    pub base: Lsn,
    /// Bytes of its file.
    pub bytes: u64,
    /// Whether it is packed.
    pub packed: bool,
    /// When it was finished, in time for which the log had been open; `None` if nobody noted it.
    pub sealed_at: Option<Duration>,
}

/// A checkpoint, as far as the log that it needs is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointNeed {
    /// The last LSN whose effect it holds.
    pub lsn: Lsn,
    /// The LSN from which a replay on top of it starts.
    pub replay_from: Lsn,
}

/// What needs the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// The checkpoints that are kept, the newest last.
    pub checkpoints: Vec<CheckpointNeed>,
    /// The holds: name, and the first LSN that is still needed.
    pub holds: Vec<(String, Lsn)>,
    /// The first LSN that a reader of this process still needs.
    pub pin: Option<Lsn>,
    /// The first LSN of which it is not noted what it adds to the sequences of the streams.
    pub streams: Option<Lsn>,
}

/// What keeps a log from starting later than it does.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KeptBy {
    /// The limits of the [`Retention`], or that only one segment is left.
    Limits,
    /// There is no checkpoint: the log is all that there is of the state.
    NoCheckpoint,
    /// A checkpoint from which the log may be recovered.
    Checkpoint {
        /// The last LSN whose effect it holds.
        lsn: Lsn,
        /// The LSN from which a replay on top of it starts.
        replay_from: Lsn,
    },
    /// A hold.
    Hold {
        /// Its name.
        name: String,
        /// The first LSN that it keeps.
        lsn: Lsn,
    },
    /// A reader of this process.
    Reader {
        /// The first LSN that it may still read.
        lsn: Lsn,
    },
    /// A transaction that is open where the log might have started: what commits it there or later would lack its beginning.
    Transaction {
        /// Where it begins.
        begin: Lsn,
    },
    /// The streams: how many records they have is not noted yet from an LSN on.
    Streams {
        /// That LSN.
        lsn: Lsn,
    },
}

impl fmt::Display for KeptBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptBy::Limits => write!(f, "the limits of the retention"),
            KeptBy::NoCheckpoint => write!(f, "the lack of a checkpoint"),
            KeptBy::Checkpoint { lsn, replay_from } => {
                write!(f, "the checkpoint at LSN {lsn}, from which a replay starts at LSN {replay_from}")
            }
            KeptBy::Hold { name, lsn } => write!(f, "the hold `{name}` at LSN {lsn}"),
            KeptBy::Reader { lsn } => write!(f, "a reader at LSN {lsn}"),
            KeptBy::Transaction { begin } => write!(f, "a transaction that begins at LSN {begin}"),
            KeptBy::Streams { lsn } => write!(f, "streams whose records are not counted from LSN {lsn} on"),
        }
    }
}

/// Where a log may start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The first LSN of the oldest segment that stays.
    pub start: Lsn,
    /// What keeps that segment.
    pub kept_by: KeptBy,
}

impl Needs {
    /// What a manifest says, and where the first reader stands.
    pub fn of(manifest: &Manifest, pin: Option<Lsn>) -> Needs {
        Needs::without(manifest, pin, &BTreeSet::new())
    }

    /// As [`Needs::of`], but for the checkpoints with the numbers `bad`, and those that rest on them.
    pub(crate) fn without(manifest: &Manifest, pin: Option<Lsn>, bad: &BTreeSet<u64>) -> Needs {
        // Of checkpoints that build on each other the last one is what a recovery starts from.
        let checkpoints = ends(&manifest.checkpoints, bad);
        let holds = manifest.holds.iter();
        Needs {
            checkpoints: checkpoints
                .iter()
                .map(|checkpoint| CheckpointNeed { lsn: checkpoint.lsn, replay_from: checkpoint.replay_from })
                .collect(),
            holds: holds.map(|hold| (hold.name.clone(), hold.lsn)).collect(),
            pin,
            streams: manifest.uncounted_from(),
        }
    }

    /// The first LSN that is needed of a log that starts at `log_start`, and by what.
    pub fn oldest(&self, log_start: Lsn) -> (Lsn, KeptBy) {
        let oldest = self.usable(log_start).min_by_key(|checkpoint| checkpoint.replay_from);
        let oldest = match oldest {
            Some(&CheckpointNeed { lsn, replay_from }) => {
                (replay_from, KeptBy::Checkpoint { lsn, replay_from })
            }
            None => (log_start, KeptBy::NoCheckpoint),
        };
        #[cfg(braidlog_sabotage)]
        let oldest = match oldest {
            _ if braidlog_sabotage::is("retention_ignores_the_checkpoint") => (Lsn::MAX, KeptBy::Limits),
            oldest => oldest,
        };
        self.oldest_of_others(oldest)
    }

    /// The first LSN that a person's order may not pass: as [`Needs::oldest`], but of the checkpoints only the
    /// newest counts.
    pub fn newest(&self, log_start: Lsn) -> (Lsn, KeptBy) {
        // Of several at one LSN the last one: `max_by_key` takes it.
        let newest = self.usable(log_start).max_by_key(|checkpoint| checkpoint.lsn);
        let newest = Needs { checkpoints: newest.into_iter().copied().collect(), ..Needs::default() };
        self.oldest_of_others(newest.oldest(log_start))
    }

    /// One that would be replayed from below the log's start leads nowhere, and needs nothing any more.
    fn usable(&self, log_start: Lsn) -> impl Iterator<Item = &CheckpointNeed> {
        self.checkpoints.iter().filter(move |checkpoint| checkpoint.replay_from >= log_start)
    }

    fn oldest_of_others(&self, oldest: (Lsn, KeptBy)) -> (Lsn, KeptBy) {
        let holds =
            self.holds.iter().map(|(name, lsn)| (*lsn, KeptBy::Hold { name: name.clone(), lsn: *lsn }));
        #[cfg(braidlog_sabotage)]
        let holds = holds.filter(|_| !braidlog_sabotage::is("retention_ignores_holds"));
        let pin = self.pin.map(|lsn| (lsn, KeptBy::Reader { lsn }));
        #[cfg(braidlog_sabotage)]
        let pin = pin.filter(|_| !braidlog_sabotage::is("retention_ignores_readers"));
        let streams = self.streams.map(|lsn| (lsn, KeptBy::Streams { lsn }));
        holds
            .chain(pin)
            .chain(streams)
            .fold(oldest, |least, next| if next.0 < least.0 { next } else { least })
    }
}

/// Where the log may start by the limits and the needs. `segments` are in LSN order, the last is the one under
/// the pen; the first begins where the log starts now. `uptime` is for how long the log has been open in all.
pub fn retain(retention: &Retention, segments: &[SegmentFacts], needs: &Needs, uptime: Duration) -> Decision {
    let Some(log_start) = segments.first().map(|first| first.base) else {
        return Decision { start: Lsn::FIRST, kept_by: KeptBy::Limits };
    };
    let by_limits = first_within(retention, segments, uptime);
    let (needed, kept_by) = needs.oldest(log_start);
    let by_needs = segment_of(segments, needed);
    match by_needs < by_limits {
        true => Decision { start: by_needs, kept_by },
        false => Decision { start: by_limits, kept_by: KeptBy::Limits },
    }
}

/// The base of the segment that holds `lsn`: the newest that begins at or below it, or else the first.
pub fn segment_of(segments: &[SegmentFacts], lsn: Lsn) -> Lsn {
    let behind = segments.partition_point(|segment| segment.base <= lsn);
    let place = segments.get(behind.saturating_sub(1));
    place.map_or(Lsn::FIRST, |segment| segment.base)
}

/// The base of the oldest segment that the limits keep.
fn first_within(retention: &Retention, segments: &[SegmentFacts], uptime: Duration) -> Lsn {
    let mut bytes = segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.bytes));
    let mut count = segments.len();
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        let too_many = retention.segments.is_some_and(|most| count > most as usize);
        let too_large = retention.bytes.is_some_and(|most| bytes > most);
        // What nobody noted is as good as new.
        let age = segment.sealed_at.map(|at| uptime.saturating_sub(at));
        let too_old = retention.age.zip(age).is_some_and(|(most, age)| age >= most);
        if !(too_many || too_large || too_old) {
            return segment.base;
        }
        count = count.saturating_sub(1);
        bytes = bytes.saturating_sub(segment.bytes);
        if count == 1 {
            return next.base;
        }
    }
    segments.last().map_or(Lsn::FIRST, |last| last.base)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use std::collections::BTreeMap;

    use braidlog_format::ManifestCheckpoint;

    use super::*;
    use crate::Counted;

    fn segments(bases: &[u64]) -> Vec<SegmentFacts> {
        bases
            .iter()
            .map(|&base| SegmentFacts {
                base: Lsn(base),
                bytes: 100,
                packed: false,
                sealed_at: Some(Duration::ZERO),
            })
            .collect()
    }

    fn checkpoint(lsn: u64) -> CheckpointNeed {
        CheckpointNeed { lsn: Lsn(lsn), replay_from: Lsn(lsn + 1) }
    }

    fn retained(retention: Retention, needs: &Needs) -> (u64, KeptBy) {
        let log = segments(&[1, 11, 21, 31, 41]);
        let Decision { start, kept_by } = retain(&retention, &log, needs, Duration::from_secs(60));
        (start.0, kept_by)
    }

    #[test]
    fn without_a_checkpoint_nothing_goes() {
        let all = (1, KeptBy::NoCheckpoint);
        assert_eq!(retained(Retention::segments(1), &Needs::default()), all);
        assert_eq!(retained(Retention::segments(1).bytes(0).age(Duration::ZERO), &Needs::default()), all);
    }

    #[test]
    fn of_two_checkpoints_at_one_lsn_the_later_is_the_newest() {
        let need = |replay_from| CheckpointNeed { lsn: Lsn(9), replay_from: Lsn(replay_from) };
        for (checkpoints, newest) in [([need(3), need(10)], 10), ([need(10), need(3)], 3)] {
            let needs = Needs { checkpoints: checkpoints.to_vec(), ..Needs::default() };
            assert_eq!(needs.newest(Lsn(1)).0, Lsn(newest));
        }
    }

    #[test]
    fn oldest_kept_checkpoint_keeps_what_its_replay_reads() {
        let needs = Needs { checkpoints: vec![checkpoint(25), checkpoint(38)], ..Needs::default() };
        let kept_by = KeptBy::Checkpoint { lsn: Lsn(25), replay_from: Lsn(26) };
        assert_eq!(retained(Retention::segments(1), &needs), (21, kept_by));
        // An order of a person may pass all but the newest.
        assert_eq!(needs.newest(Lsn(1)).0, Lsn(39));
        // A transaction that was open then keeps more.
        let open = CheckpointNeed { lsn: Lsn(38), replay_from: Lsn(12) };
        let needs = Needs { checkpoints: vec![checkpoint(25), open], ..Needs::default() };
        assert_eq!(retained(Retention::segments(1), &needs).0, 11);
        assert_eq!(needs.newest(Lsn(1)).0, Lsn(12));
    }

    #[test]
    fn checkpoint_below_the_log_needs_nothing_and_does_not_count_as_one() {
        let needs = |lsns: &[u64]| Needs {
            checkpoints: lsns.iter().map(|&lsn| checkpoint(lsn)).collect(),
            ..Needs::default()
        };
        let log = &segments(&[21, 31, 41]);
        let retention = Retention::segments(1);
        assert_eq!(retain(&retention, log, &needs(&[5, 35]), Duration::ZERO).start, Lsn(31));
        let only_below = retain(&retention, log, &needs(&[5]), Duration::ZERO);
        assert_eq!(only_below, Decision { start: Lsn(21), kept_by: KeptBy::NoCheckpoint });
    }

    #[test]
    fn hold_and_reader_keep_what_they_name() {
        let checkpoints = vec![checkpoint(45)];
        let holds = vec![("replica".to_owned(), Lsn(33)), ("archive".to_owned(), Lsn(15))];
        let needs = Needs { checkpoints: checkpoints.clone(), holds, ..Needs::default() };
        let kept_by = KeptBy::Hold { name: "archive".to_owned(), lsn: Lsn(15) };
        assert_eq!(retained(Retention::segments(1), &needs), (11, kept_by));
        let needs = Needs { checkpoints, pin: Some(Lsn(30)), ..Needs::default() };
        assert_eq!(retained(Retention::segments(1), &needs), (21, KeptBy::Reader { lsn: Lsn(30) }));
    }

    #[test]
    fn streams_keep_what_counts_them() {
        let checkpoint = ManifestCheckpoint {
            number: 1,
            lsn: Lsn(90),
            replay_from: Lsn(91),
            base: 0,
            bytes: 5000,
            created_at_ns: 6,
            end_checksum: 7,
        };
        let mut manifest = Manifest::default();
        manifest.durable = Lsn(40);
        let id = manifest.add_stream("orders");
        manifest.checkpoints = vec![checkpoint];
        let mut counted_to = |lsn| {
            let counted = Counted { last_sequence: 3, as_of: Lsn(lsn) };
            manifest.count_streams(&BTreeMap::from([(id, counted)]));
            (manifest.needed_from(), Needs::of(&manifest, None).oldest(Lsn(1)))
        };
        let by_streams = |lsn| (Lsn(lsn), (Lsn(lsn), KeptBy::Streams { lsn: Lsn(lsn) }));
        assert_eq!(counted_to(40), by_streams(41));
        assert_eq!(counted_to(60), by_streams(61));
        // What was counted stays so.
        assert_eq!(counted_to(50), by_streams(61));
        assert_eq!(counted_to(95).0, Lsn(91), "the checkpoint needs more");
    }

    #[test]
    fn each_limit_lets_go_alone_and_the_newest_segment_stays() {
        let needs = &Needs { checkpoints: vec![checkpoint(1000)], ..Needs::default() };
        for (retention, start) in [
            (Retention::keep_all(), 1),
            (Retention::default(), 1),
            (Retention::segments(5), 1),
            (Retention::segments(4), 11),
            (Retention::segments(1), 41),
            (Retention::keep_all().bytes(500), 1),
            (Retention::keep_all().bytes(499), 11),
            (Retention::keep_all().bytes(0), 41),
            (Retention::keep_all().age(Duration::from_secs(61)), 1),
            (Retention::keep_all().age(Duration::from_secs(60)), 41),
            (Retention::segments(4).bytes(300), 21),
        ] {
            assert_eq!(retained(retention, needs), (start, KeptBy::Limits), "{retention:?}");
        }
    }

    #[test]
    fn age_that_nobody_noted_is_none() {
        let mut log = segments(&[1, 11, 21]);
        let needs = Needs { checkpoints: vec![checkpoint(1000)], ..Needs::default() };
        let by_age = Retention::keep_all().age(Duration::from_secs(1));
        let start = |log: &[SegmentFacts]| retain(&by_age, log, &needs, Duration::from_secs(9)).start.0;
        log[1].sealed_at = None;
        assert_eq!(start(&log), 11);
        // Sealed in a future that the count of hours has not reached: a manifest that was put back.
        log[0].sealed_at = Some(Duration::from_secs(1000));
        assert_eq!(start(&log), 1);
    }

    /// Whether a segment may go, asked of each alone: the rules as their documentation has them.
    fn may_go(
        retention: &Retention,
        log: &[SegmentFacts],
        place: usize,
        needs: &Needs,
        uptime: Duration,
    ) -> bool {
        let Some(next) = log.get(place + 1) else { return false };
        let log_start = log[0].base;
        let checkpoints: Vec<_> =
            needs.checkpoints.iter().filter(|checkpoint| checkpoint.replay_from >= log_start).collect();
        let is_needed = checkpoints.is_empty()
            || checkpoints.iter().any(|checkpoint| checkpoint.replay_from < next.base)
            || needs.holds.iter().any(|hold| hold.1 < next.base)
            || needs.pin.is_some_and(|pin| pin < next.base)
            || needs.streams.is_some_and(|lsn| lsn < next.base);
        let newer = &log[place..];
        let is_beyond = retention.segments.is_some_and(|most| newer.len() > most as usize)
            || retention
                .bytes
                .is_some_and(|most| newer.iter().map(|segment| segment.bytes).sum::<u64>() > most)
            || retention
                .age
                .is_some_and(|most| log[place].sealed_at.is_some_and(|at| uptime.saturating_sub(at) >= most));
        is_beyond && !is_needed
    }

    prop_compose! {
        fn log()(
            first in 1..50u64,
            parts in vec((1..20u64, 0..300u64, option::of(0..100u64)), 1..12),
        ) -> Vec<SegmentFacts> {
            let mut base = first;
            let segment = |(records, bytes, sealed_at): (u64, u64, Option<u64>)| {
                base += records;
                let sealed_at = sealed_at.map(Duration::from_secs);
                SegmentFacts { base: Lsn(base - records), bytes, packed: false, sealed_at }
            };
            parts.into_iter().map(segment).collect()
        }
    }

    prop_compose! {
        fn needs()(
            checkpoints in vec((1..260u64, 0..30u64), 0..4),
            holds in vec(1..260u64, 0..3),
            pin in option::of(1..260u64),
            streams in option::of(1..260u64),
        ) -> Needs {
            let checkpoint = |(lsn, open): (u64, u64)| {
                CheckpointNeed { lsn: Lsn(lsn), replay_from: Lsn((lsn + 1).saturating_sub(open).max(1)) }
            };
            Needs {
                checkpoints: checkpoints.into_iter().map(checkpoint).collect(),
                holds: holds.into_iter().map(|lsn| (lsn.to_string(), Lsn(lsn))).collect(),
                pin: pin.map(Lsn),
                streams: streams.map(Lsn),
            }
        }
    }

    prop_compose! {
        fn limits()(
            segments in option::of(1..12u32),
            bytes in option::of(0..2000u64),
            age in option::of(0..100u64),
        ) -> Retention {
            Retention { segments, bytes, age: age.map(Duration::from_secs), checkpoints: 2 }
        }
    }

    proptest! {
        #[test]
        fn what_goes_is_what_each_segment_alone_may(
            log in log(), needs in needs(), retention in limits(), uptime in 0..200u64,
        ) {
            let uptime = Duration::from_secs(uptime);
            let Decision { start, kept_by } = retain(&retention, &log, &needs, uptime);
            let stays = (0..log.len()).find(|&place| !may_go(&retention, &log, place, &needs, uptime));
            prop_assert_eq!(start, log[stays.unwrap()].base);
            // Whatever keeps it is at fault: a need only if the limits would have let more go.
            let more = retain(&retention, &log, &Needs { checkpoints: vec![checkpoint(10_000)], ..Needs::default() }, uptime);
            prop_assert_eq!(kept_by == KeptBy::Limits, more.start == start);
        }

        #[test]
        fn nothing_that_is_needed_ever_goes(
            log in log(), needs in needs(), retention in limits(), uptime in 0..200u64,
        ) {
            let start = retain(&retention, &log, &needs, Duration::from_secs(uptime)).start;
            let log_start = log[0].base;
            for need in needs.holds.iter().map(|hold| hold.1).chain(needs.pin) {
                prop_assert!(start <= need.max(log_start));
            }
            for checkpoint in &needs.checkpoints {
                prop_assert!(checkpoint.replay_from < log_start || start <= checkpoint.replay_from);
            }
            prop_assert!(start <= needs.newest(log_start).0.max(log_start));
        }
    }
}
