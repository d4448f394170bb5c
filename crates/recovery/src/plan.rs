//! What a policy makes of a damaged log: which records stay, which are given up, and what becomes of each file. A pure
//! function of what was found.
//!
//! The rule: every LSN from the start of the log to the highest that can have been given to anybody is accounted for.
//! It is kept, or a recorded loss takes its place; so the files follow one another without a hole, and no lost LSN
//! is ever given again.
//!
//! | policy | file | becomes |
//! |---|---|---|
//! | any | whole, and what stands before it is what its header says | kept as it is |
//! | skip damaged | damaged, or its header names another predecessor | rewritten: its pieces, and losses between and behind them |
//! | skip damaged | missing | made: a header and a loss |
//! | until damage | the first one that is damaged | rewritten: its first piece if its header is good, and one loss to the end |
//! | until damage | missing | made: a header and one loss to the end |
//! | until damage | behind the first damage | set aside |

use std::fmt;

use braidlog_format::{Incarnation, Lsn, LsnRange};

use crate::survey::{HeaderState, Piece, Survey, Surveyed, missing};
use crate::{Damage, DamageCause, Loss, LossCause};

/// What becomes of a log of which acknowledged records cannot be read back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DamagePolicy {
    /// It is not opened, and no file is changed.
    #[default]
    Refuse,
    /// The records before the first damage stay: a state that the log once had. All others are given up, and the files
    /// behind the damage are set aside unread.
    UntilDamage,
    /// Every record stays that proves itself, in a whole batch. Those between are given up: the state is one that the log
    /// never had.
    SkipDamaged,
}

impl fmt::Display for DamagePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DamagePolicy::Refuse => "refuse",
            DamagePolicy::UntilDamage => "until-damage",
            DamagePolicy::SkipDamaged => "skip-damaged",
        })
    }
}

/// What became of the LSNs of a damaged log, each in one of the lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Records that are there.
    pub kept: Vec<LsnRange>,
    /// Records that are given up, though somebody may have been told that they were durable.
    pub lost: Vec<LsnRange>,
    /// LSNs that are given up with them, because nobody can tell whether records had them. Nothing says that anybody was
    /// told of one.
    pub never_acknowledged: Vec<LsnRange>,
    /// What had been given up before.
    pub earlier: Vec<Loss>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RepairPlan {
    pub(crate) policy: DamagePolicy,
    /// The segments of the log afterwards, in LSN order.
    pub(crate) segments: Vec<Planned>,
    /// Files that are no part of it any more, by their places in the survey.
    pub(crate) set_aside: Vec<usize>,
    /// No LSN up to here is ever given again.
    pub(crate) bound: Lsn,
    pub(crate) outcome: Outcome,
}

/// A segment of the log afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Planned {
    pub(crate) base: Lsn,
    /// The file of that name, by its place in the survey.
    pub(crate) file: Option<usize>,
    pub(crate) action: Action,
    /// Whether its header stays, as far as a rewritten segment's can.
    pub(crate) header_stays: bool,
    pub(crate) incarnation: Incarnation,
    /// What is in it, in LSN order.
    pub(crate) parts: Vec<Part>,
}

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Keep,
    Rewrite,
    Make,
}

/// A part of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Piece(Piece),
    Loss(Loss),
}

impl Part {
    pub(crate) fn lsns(&self) -> LsnRange {
        match self {
            Part::Piece(piece) => piece.lsns,
            Part::Loss(loss) => loss.lsns,
        }
    }
}

impl Planned {
    /// The last LSN; the one before its base if it has none.
    fn last(&self) -> Lsn {
        self.parts.last().map_or(self.base.prev(), |part| part.lsns().last)
    }
}

impl RepairPlan {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.set_aside.is_empty() && self.segments.iter().all(|segment| segment.action == Action::Keep)
    }

    /// What is given up.
    pub(crate) fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.segments.iter().flat_map(|segment| &segment.parts).filter_map(|part| match part {
            Part::Loss(loss) => Some(loss),
            Part::Piece(_) => None,
        })
    }
}

/// What `policy` makes of the log that was surveyed. [`Refuse`](DamagePolicy::Refuse) changes nothing.
pub(crate) fn plan(survey: &Survey, policy: DamagePolicy) -> RepairPlan {
    let mut planner =
        Planner { survey, policy, segments: Vec::new(), set_aside: Vec::new(), next: survey.start };
    match policy {
        DamagePolicy::Refuse => {}
        #[cfg(braidlog_sabotage)]
        DamagePolicy::UntilDamage if braidlog_sabotage::is("until_damage_goes_on_behind_it") => {
            planner.skip_damaged();
        }
        DamagePolicy::UntilDamage => planner.until_damage(),
        DamagePolicy::SkipDamaged => planner.skip_damaged(),
    }
    let Planner { segments, set_aside, .. } = planner;
    let mut plan =
        RepairPlan { policy, segments, set_aside, bound: survey.bound, outcome: Outcome::default() };
    plan.outcome = outcome(survey, &plan);
    plan
}

struct Planner<'a> {
    survey: &'a Survey,
    policy: DamagePolicy,
    segments: Vec<Planned>,
    set_aside: Vec<usize>,
    /// The LSN that comes next.
    next: Lsn,
}

impl Planner<'_> {
    fn skip_damaged(&mut self) {
        for (index, file) in self.survey.files.iter().enumerate() {
            self.give_up_before(file);
            if self.is_left_for_the_next_opening(index, file) {
                return;
            }
            if self.is_whole(file) {
                self.keep(index, file);
            } else {
                self.rewrite(index, file, file.pieces.clone());
            }
        }
        self.give_up_the_end();
    }

    fn until_damage(&mut self) {
        for (index, file) in self.survey.files.iter().enumerate() {
            if self.is_left_for_the_next_opening(index, file) {
                return;
            }
            if file.base == self.next && self.is_whole(file) {
                self.keep(index, file);
                continue;
            }
            if file.base == self.next {
                let pieces = if self.is_header_right(file) { first_run(file) } else { Vec::new() };
                self.push(index, file, Action::Rewrite, pieces);
                self.set_aside = (index + 1..self.survey.files.len()).collect();
            } else {
                self.set_aside = (index..self.survey.files.len()).collect();
            }
            break;
        }
        self.give_up_the_end();
    }

    /// A last file that was never begun, where the log goes on, is replaced by the next opening.
    fn is_left_for_the_next_opening(&self, index: usize, file: &Surveyed) -> bool {
        let is_last = index + 1 == self.survey.files.len();
        let was_cut_there = self.segments.is_empty() && self.survey.start > Lsn::FIRST;
        file.header == HeaderState::NotStarted
            && is_last
            && !was_cut_there
            && file.base == self.next
            && self.survey.bound < file.base
    }

    /// Whether a file can stay as it is behind the segments that are planned.
    fn is_whole(&self, file: &Surveyed) -> bool {
        let holds_nothing = file.pieces.is_empty();
        // A segment without an LSN has no successor.
        let is_followed = self.survey.bound >= file.base;
        self.is_header_right(file) && file.damage.is_empty() && !(holds_nothing && is_followed)
    }

    /// Whether the header is good and names what stands before it.
    fn is_header_right(&self, file: &Surveyed) -> bool {
        let Some(header) = file.good_header() else { return false };
        match self.segments.last() {
            None => file.base == self.survey.start,
            Some(before) => {
                header.incarnation >= before.incarnation
                    && header
                        .predecessor
                        .is_some_and(|named| named.base == before.base && named.last == before.last())
            }
        }
    }

    fn keep(&mut self, index: usize, file: &Surveyed) {
        self.push(index, file, Action::Keep, file.pieces.clone());
    }

    fn push(&mut self, index: usize, file: &Surveyed, action: Action, pieces: Vec<Piece>) {
        let header_stays = self.is_header_right(file);
        let before = self.segments.last().map(|before| before.incarnation);
        let own = file.good_header().map(|header| header.incarnation);
        let incarnation = own.max(before).unwrap_or_else(|| self.first_incarnation());
        let parts: Vec<_> = pieces.into_iter().map(Part::Piece).collect();
        let planned =
            Planned { base: file.base, file: Some(index), action, header_stays, incarnation, parts };
        self.next = planned.last().next();
        self.segments.push(planned);
    }

    /// The incarnation of a segment before which there is none: no newer than the next one that is known. Where none stays
    /// behind it, the one that the manifest knows when those that are known have been set aside.
    fn first_incarnation(&self) -> Incarnation {
        if self.policy == DamagePolicy::UntilDamage {
            return self.survey.incarnation.max(Incarnation(1));
        }
        let known = self.survey.files.iter().filter_map(Surveyed::good_header);
        known.map(|header| header.incarnation).min().unwrap_or(Incarnation(1))
    }

    /// A damaged file: what proves itself, and losses between and behind.
    fn rewrite(&mut self, index: usize, file: &Surveyed, pieces: Vec<Piece>) {
        self.push(index, file, Action::Rewrite, Vec::new());
        self.next = file.base;
        for piece in pieces {
            self.give_up_to(piece.lsns.first.prev());
            self.next = piece.lsns.last.next();
            if let Some(planned) = self.segments.last_mut() {
                planned.parts.push(Part::Piece(piece));
            }
        }
        if let Some(limit) = file.limit {
            self.give_up_to(limit);
        }
    }

    /// Gives up the LSNs up to `last` in the segment that was planned last.
    fn give_up_to(&mut self, last: Lsn) {
        if self.next > last {
            return;
        }
        let lsns = LsnRange { first: self.next, last };
        let file = self.segments.last().and_then(|planned| planned.file);
        let damage = file.and_then(|file| self.survey.files.get(file)).map(|file| why(file, lsns));
        let loss = self.loss(lsns, damage);
        if let Some(planned) = self.segments.last_mut() {
            planned.parts.push(Part::Loss(loss));
        }
        self.next = last.next();
    }

    /// Gives up what is missing between the segment planned last and this file. Where its header names a segment that
    /// is missing, there will be one of that name.
    fn give_up_before(&mut self, file: &Surveyed) {
        if self.next >= file.base {
            return;
        }
        let named = file.good_header().and_then(|header| header.predecessor).map(|named| named.base);
        let last = file.base.prev();
        let is_open = self.segments.last().is_some_and(|before| before.action != Action::Keep);
        match named.filter(|&named| named >= self.next) {
            Some(named) if named == self.next => {}
            Some(named) if is_open => self.give_up_to(named.prev()),
            Some(named) => self.make(named.prev()),
            None if is_open => return self.give_up_to(last),
            None => {}
        }
        self.make(last);
    }

    /// A segment for LSNs of which there is no file.
    fn make(&mut self, last: Lsn) {
        let lsns = LsnRange { first: self.next, last };
        let before = self.segments.last().map(|before| before.incarnation);
        let incarnation = before.unwrap_or_else(|| self.first_incarnation());
        let loss = self.loss(lsns, None);
        self.segments.push(Planned {
            base: self.next,
            file: None,
            action: Action::Make,
            header_stays: false,
            incarnation,
            parts: vec![Part::Loss(loss)],
        });
        self.next = last.next();
    }

    /// Gives up what may have been given behind the end.
    fn give_up_the_end(&mut self) {
        let bound = self.survey.bound;
        let is_open = self.segments.last().is_some_and(|before| before.action != Action::Keep);
        if self.next <= bound {
            if is_open { self.give_up_to(bound) } else { self.make(bound) }
        }
    }

    fn loss(&self, lsns: LsnRange, damage: Option<Damage>) -> Loss {
        let (cause, damage) = match damage {
            Some(damage) => (LossCause::Damage, damage),
            None => (LossCause::FileMissing, missing(lsns)),
        };
        let Damage { segment, offset, cause: what, .. } = damage;
        let account = format!("{segment}, offset {offset}: {what}");
        Loss { lsns, incarnation: Incarnation(self.survey.incarnation.0.saturating_add(1)), cause, account }
    }
}

/// The damage that costs these LSNs.
fn why(file: &Surveyed, lsns: LsnRange) -> Damage {
    let overlaps = |damage: &&Damage| damage.lsns.first <= lsns.last && damage.lsns.last >= lsns.first;
    let damage = file.damage.iter().find(overlaps).or(file.damage.first());
    damage.cloned().unwrap_or_else(|| not_in_its_place(file))
}

/// What is wrong with a segment that proves itself and cannot stay: where it stands.
pub(crate) fn not_in_its_place(file: &Surveyed) -> Damage {
    let cause = match file.header {
        HeaderState::NotStarted => DamageCause::HeaderMissing,
        HeaderState::Good(_) | HeaderState::Lost(_) => DamageCause::Unlinked,
    };
    let lsns = LsnRange { first: file.base, last: file.base.prev() };
    Damage { segment: file.name.clone(), offset: 0, lsns, cause }
}

/// What proves itself from the beginning of a segment on, up to the first damage.
fn first_run(file: &Surveyed) -> Vec<Piece> {
    file.pieces.iter().take(1).filter(|piece| piece.lsns.first == file.base).copied().collect()
}

fn outcome(survey: &Survey, plan: &RepairPlan) -> Outcome {
    let mut outcome = Outcome::default();
    let kept_files =
        plan.segments.iter().filter_map(|planned| Some((survey.files.get(planned.file?)?, planned)));
    for (file, planned) in kept_files {
        let stays = |loss: &&Loss| {
            planned
                .parts
                .iter()
                .any(|part| matches!(part, Part::Piece(_)) && contains(part.lsns(), loss.lsns))
        };
        outcome.earlier.extend(file.losses.iter().filter(stays).cloned());
    }
    for part in plan.segments.iter().flat_map(|planned| &planned.parts) {
        let lsns = part.lsns();
        if let Part::Piece(_) = part {
            let mut first = lsns.first;
            for loss in outcome.earlier.iter().filter(|loss| contains(lsns, loss.lsns)) {
                add(&mut outcome.kept, LsnRange { first, last: loss.lsns.first.prev() });
                first = loss.lsns.last.next();
            }
            add(&mut outcome.kept, LsnRange { first, last: lsns.last });
        } else {
            let known = survey.acknowledged;
            add(&mut outcome.lost, LsnRange { first: lsns.first, last: lsns.last.min(known) });
            let first = lsns.first.max(known.next());
            add(&mut outcome.never_acknowledged, LsnRange { first, last: lsns.last });
        }
    }
    outcome
}

fn contains(outer: LsnRange, inner: LsnRange) -> bool {
    outer.contains(inner.first) && outer.contains(inner.last)
}

/// Adds a range behind others, to the last of them if it follows.
fn add(ranges: &mut Vec<LsnRange>, range: LsnRange) {
    if range.is_empty() {
        return;
    }
    match ranges.last_mut() {
        Some(last) if last.last.next() == range.first => last.last = range.last,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use braidlog_format::{LogId, Predecessor, Salt, SegmentHeader, UserMetadata};

    use super::*;
    use crate::scan::Position;

    /// What is left of a segment with ten LSNs.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Left {
        Whole,
        /// All of it but the header.
        NoHeader,
        /// Its header and all but three records in the middle.
        Hole,
        /// Its header and the first seven records.
        NoEnd,
        /// Its header and the last seven records.
        NoBeginning,
        /// Its header names another segment before it.
        Unlinked,
        /// Its name.
        Nothing,
        /// Zeros.
        NotStarted,
        /// There is no file.
        Missing,
    }

    const ALL: [Left; 9] = [
        Left::Whole,
        Left::NoHeader,
        Left::Hole,
        Left::NoEnd,
        Left::NoBeginning,
        Left::Unlinked,
        Left::Nothing,
        Left::NotStarted,
        Left::Missing,
    ];

    fn base(index: usize) -> Lsn {
        Lsn(10 * index as u64 + 1)
    }

    fn header(index: usize, left: Left) -> SegmentHeader {
        let index = if left == Left::Unlinked { index + 7 } else { index };
        let named = index.checked_sub(1).map(|before| Predecessor {
            base: if left == Left::Unlinked { Lsn(1) } else { base(before) },
            last: base(index).prev(),
            last_timestamp_ns: 0,
            last_checksum: 0,
            sealed: true,
        });
        SegmentHeader {
            log_id: LogId::default(),
            incarnation: Incarnation(index as u64 / 2 + 1),
            salt: Salt(index as u32),
            base: base(index),
            predecessor: named,
            recycled: false,
            created_at_ns: 0,
            user_metadata: UserMetadata::EMPTY,
            open_from: None,
        }
    }

    fn surveyed(index: usize, left: Left, limit: Option<Lsn>) -> Surveyed {
        let (base, last) = (base(index).0, base(index).0 + 9);
        let lsns: &[(u64, u64)] = match left {
            Left::Whole | Left::NoHeader | Left::Unlinked => &[(base, last)],
            Left::Hole => &[(base, base + 2), (base + 6, last)],
            Left::NoEnd => &[(base, base + 6)],
            Left::NoBeginning => &[(base + 3, last)],
            Left::Nothing | Left::NotStarted | Left::Missing => &[],
        };
        let piece = |&(first, last): &(u64, u64)| {
            let from = Position::first_of(&header(index, Left::Whole));
            Piece { from, to: 0, lsns: LsnRange { first: Lsn(first), last: Lsn(last) } }
        };
        let damage = Damage {
            segment: format!("{base}"),
            offset: 0,
            lsns: LsnRange { first: Lsn(base), last: Lsn(last) },
            cause: DamageCause::EndsEarly,
        };
        Surveyed {
            base: Lsn(base),
            name: format!("{base}.wal"),
            is_packed: false,
            len: 1,
            limit,
            header: match left {
                Left::NoHeader | Left::Nothing => HeaderState::Lost(None),
                Left::NotStarted => HeaderState::NotStarted,
                _ => HeaderState::Good(Box::new(header(index, left))),
            },
            pieces: lsns.iter().map(piece).collect(),
            last: None,
            sealed: true,
            in_doubt: Vec::new(),
            damage: if matches!(left, Left::Whole | Left::Unlinked | Left::NotStarted) {
                Vec::new()
            } else {
                vec![damage]
            },
            losses: Vec::new(),
        }
    }

    /// The log of these segments, of which LSNs up to `acknowledged` were, and which may have given those up to `bound`.
    fn log(left: &[Left], acknowledged: u64, bound: u64) -> Survey {
        let there: Vec<usize> = (0..left.len()).filter(|&index| left[index] != Left::Missing).collect();
        let file = |(place, &index): (usize, &usize)| {
            let limit = there.get(place + 1).map(|&next| match left[next] {
                Left::NoHeader | Left::Nothing | Left::NotStarted | Left::Unlinked => base(next).prev(),
                _ if next > index + 1 => base(next - 1).prev(),
                _ => base(next).prev(),
            });
            surveyed(index, left[index], limit)
        };
        Survey {
            log_id: None,
            start: Lsn::FIRST,
            files: there.iter().enumerate().map(file).collect(),
            acknowledged: Lsn(acknowledged),
            bound: Lsn(bound),
            incarnation: Incarnation(4),
            repeated: Vec::new(),
        }
    }

    fn lsns(ranges: &[LsnRange]) -> Vec<u64> {
        ranges.iter().flat_map(|range| range.first.0..=range.last.0).collect()
    }

    /// The LSNs that are proved, up to the first damage under the policy that goes no further.
    fn expected(left: &[Left], policy: DamagePolicy) -> Vec<u64> {
        let mut kept = Vec::new();
        for (index, &left) in left.iter().enumerate() {
            let base = base(index).0;
            kept.extend(match (left, policy) {
                (Left::Whole, _) => (base..base + 10).collect::<Vec<_>>(),
                (Left::NoHeader, DamagePolicy::SkipDamaged) => (base..base + 10).collect(),
                // Nothing stands before the first one that its header could deny.
                (Left::Unlinked, DamagePolicy::SkipDamaged) => (base..base + 10).collect(),
                (Left::Hole, DamagePolicy::SkipDamaged) => {
                    (base..base + 3).chain(base + 6..base + 10).collect()
                }
                (Left::Hole, _) => (base..base + 3).collect(),
                (Left::NoEnd, _) => (base..base + 7).collect(),
                (Left::NoBeginning, DamagePolicy::SkipDamaged) => (base + 3..base + 10).collect(),
                _ => Vec::new(),
            });
            if policy == DamagePolicy::UntilDamage && left != Left::Whole {
                break;
            }
        }
        kept
    }

    fn check(left: &[Left], policy: DamagePolicy, acknowledged: u64, bound: u64) {
        let context = format!("{left:?}, {policy}, {acknowledged}, {bound}");
        let survey = log(left, acknowledged, bound);
        let plan = plan(&survey, policy);
        // The files follow one another, and so do the parts in each.
        let mut next = Lsn::FIRST;
        for planned in &plan.segments {
            assert_eq!(planned.base, next, "{context}");
            for part in &planned.parts {
                assert_eq!(part.lsns().first, next, "{context}");
                next = part.lsns().last.next();
            }
            assert!(planned.action == Action::Keep || !planned.parts.is_empty(), "{context}");
        }
        assert_eq!(next.0, bound + 1, "{context}: what may have been given is not given again");
        assert!(plan.segments.windows(2).all(|pair| pair[0].incarnation <= pair[1].incarnation), "{context}");
        // Each file becomes one thing, and only whole ones stay.
        let planned = plan.segments.iter().filter_map(|planned| planned.file);
        let mut files: Vec<usize> = planned.chain(plan.set_aside.iter().copied()).collect();
        files.sort_unstable();
        let stays = survey.files.last().is_some_and(|file| {
            file.header == HeaderState::NotStarted && file.base == next && policy != DamagePolicy::Refuse
        });
        assert!(files.into_iter().eq(0..survey.files.len() - usize::from(stays)), "{context}");
        for planned in plan.segments.iter().filter(|planned| planned.action == Action::Keep) {
            let index = (planned.base.0 / 10) as usize;
            assert!(left[index] == Left::Whole, "{context}: {planned:?}");
            // Its header still says the truth.
            let before = plan.segments.iter().take_while(|before| before.base < planned.base).last();
            let named = header(index, Left::Whole).predecessor;
            assert_eq!(named.map(|named| named.base), before.map(|before| before.base), "{context}");
        }
        assert!(policy == DamagePolicy::UntilDamage || plan.set_aside.is_empty(), "{context}");
        // Every LSN is in one list.
        let Outcome { kept, lost, never_acknowledged, .. } = &plan.outcome;
        assert_eq!(lsns(kept), expected(left, policy), "{context}");
        assert!(lsns(lost).into_iter().all(|lsn| lsn <= acknowledged), "{context}");
        assert!(lsns(never_acknowledged).into_iter().all(|lsn| lsn > acknowledged), "{context}");
        let mut all = [lsns(kept), lsns(lost), lsns(never_acknowledged)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(1..=bound), "{context}");
        let is_whole = left.iter().all(|left| *left == Left::Whole) && bound == 10 * left.len() as u64;
        assert_eq!(plan.is_empty(), is_whole, "{context}");
    }

    #[test]
    fn every_input_is_accounted_for_to_the_last_lsn() {
        for first in ALL {
            for second in ALL {
                for third in ALL {
                    let left = [first, second, third];
                    // The first segment names none before it, so its header denies nothing.
                    if first == Left::Unlinked {
                        continue;
                    }
                    for policy in [DamagePolicy::UntilDamage, DamagePolicy::SkipDamaged] {
                        for (acknowledged, bound) in [(30, 30), (30, 34), (32, 34), (25, 30)] {
                            check(&left, policy, acknowledged, bound);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn refuse_plans_nothing() {
        for left in ALL {
            let plan = plan(&log(&[left], 10, 10), DamagePolicy::Refuse);
            assert!(plan.is_empty() && plan.outcome == Outcome::default());
        }
    }
}
