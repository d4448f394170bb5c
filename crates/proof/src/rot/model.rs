//! Which verdict is right on damaged files: computed from the map of the undamaged log, not from the bytes.
//!
//! The rule: an entry is right if its bytes are those that were written there, and wrong otherwise. The model
//! knows no checksum and decodes nothing; what recovery has to find out, it is told by the map. What the right
//! verdict is follows from `docs/format.md` ("Where a segment ends") and `docs/recovery.md`:
//!
//! * Opening and reading: headers and links first. A last segment that a seal ends is believed; any other is right
//!   up to the first wrong entry. There it is damaged if a right mark or seal behind vouches for the place, and
//!   ends there, less a batch that is not whole, if none does.
//! * Reading stops with an error at the first wrong entry before the last record, and lends nothing wrong.
//! * Verifying goes on behind each: behind a wrong payload at the next entry, else at the next right header of one.

use braidlog::ErrorKind;

use super::chain::{Chain, End, Fault, Link, chain_of};
use super::damage::Files;
use super::log::{Log, Segment, name_of};
use super::pen::{Role, Span};

/// A place that an error names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) offset: u64,
    /// The first and the last record that cannot be had because of it; `None` if there is none.
    pub(super) lsns: Option<(u64, u64)>,
}

impl Place {
    pub(super) fn new(file: &str, offset: u64, first: u64, last: u64) -> Place {
        Place { file: file.to_owned(), offset, lsns: (first <= last).then_some((first, last)) }
    }
}

/// Why a log is not opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Damaged(Place),
    /// The file is called newer or foreign.
    Other(ErrorKind, String),
}

/// How the last segment ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tail {
    Empty,
    Sealed,
    Unsealed,
    Torn { file: String, offset: u64, cut_bytes: u64 },
}

/// What opening has to find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Opened {
    /// The last record of the log.
    pub(super) last: u64,
    pub(super) tail: Tail,
    /// Segments whose seal should be there and is not right.
    pub(super) broken_seals: Vec<String>,
    /// The last segment and the length that it keeps.
    pub(super) kept: Option<(String, u64)>,
    /// Where reading all of it must fail; if not, it gives every record up to `last`, as written.
    pub(super) unreadable: Option<Place>,
}

/// What a verification has to report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verified {
    /// In the order in which they are told.
    pub(super) problems: Vec<Place>,
    /// Whether more than these may be told: where headers are wrong, what stands beside them may look wrong too.
    pub(super) more: bool,
    /// A problem that may be told or not: a closing seal that no crash left so, nor one flipped bit.
    pub(super) doubtful: Option<Place>,
    /// The records that are right and can be found.
    pub(super) records: u64,
    /// `None` where damage hides it.
    pub(super) tail: Option<Tail>,
}

/// Everything that is right to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdicts {
    /// Of opening for writing and of opening for reading.
    pub(super) open: Result<Opened, Refusal>,
    pub(super) verify: Result<Verified, Refusal>,
}

/// The right verdicts on these files of `log`.
pub(super) fn verdicts(log: &Log, files: &Files) -> Verdicts {
    let chain = chain_of(log, files);
    Verdicts { open: open(&chain), verify: verify(&chain) }
}

#[cfg(test)]
impl Verdicts {
    /// Verdicts that differ from these in one thing.
    pub(super) fn others(&self) -> Vec<Verdicts> {
        let nowhere = Place::new("no file", 0, 1, 1);
        let mut others = Vec::new();
        let opens = |open| Verdicts { open, verify: self.verify.clone() };
        match &self.open {
            Err(_) => others.push(opens(Err(Refusal::Damaged(nowhere.clone())))),
            Ok(opened) => {
                others.push(opens(Err(Refusal::Damaged(nowhere.clone()))));
                others.push(opens(Ok(Opened { last: opened.last + 1, ..opened.clone() })));
                others.push(opens(Ok(Opened { last: opened.last - 1, ..opened.clone() })));
                others.push(opens(Ok(Opened { tail: Tail::Empty, ..opened.clone() })));
                let broken_seals = vec!["no file".to_owned()];
                others.push(opens(Ok(Opened { broken_seals, ..opened.clone() })));
                let unreadable = opened.unreadable.is_none().then_some(nowhere.clone());
                others.push(opens(Ok(Opened { unreadable, ..opened.clone() })));
            }
        }
        let verifies = |verify| Verdicts { open: self.open.clone(), verify };
        others.push(verifies(Err(Refusal::Damaged(nowhere.clone()))));
        if let Ok(verified) = &self.verify {
            let mut problems = verified.problems.clone();
            problems.push(nowhere);
            others.push(verifies(Ok(Verified { problems, ..verified.clone() })));
            if !verified.more {
                let records = verified.records + 1;
                others.push(verifies(Ok(Verified { records, ..verified.clone() })));
            }
        }
        others
    }
}

fn open(chain: &Chain<'_>) -> Result<Opened, Refusal> {
    match chain.faults.first() {
        Some(Fault::Damage(place)) => return Err(Refusal::Damaged(place.clone())),
        Some(Fault::Other(kind, file)) => return Err(Refusal::Other(*kind, file.clone())),
        None => {}
    }
    let mut broken_seals = Vec::new();
    for link in &chain.links {
        if let End::Named { sealed: true, .. } = link.end
            && !link.ends_with_its_seal()
        {
            broken_seals.push(link.name.clone());
        }
    }
    let mut opened = Opened { last: 0, tail: Tail::Empty, broken_seals, kept: None, unreadable: None };
    if let Some(last) = chain.links.last() {
        let found = tail(last).map_err(Refusal::Damaged)?;
        if found.seal_broken {
            opened.broken_seals.push(last.name.clone());
        }
        opened.last = found.last;
        opened.tail = found.tail;
        opened.kept = Some((last.name.clone(), found.end));
    }
    if let Some(place) = chain.absent.and_then(|base| misplaced(base, opened.last + 1)) {
        return Err(Refusal::Damaged(place));
    }
    opened.unreadable = unreadable(chain, opened.last);
    Ok(opened)
}

/// What is kept of a last segment.
struct Found {
    tail: Tail,
    last: u64,
    end: u64,
    seal_broken: bool,
}

fn tail(link: &Link<'_>) -> Result<Found, Place> {
    let segment = link.segment;
    if link.ends_with_its_seal() {
        let end = link.len();
        return Ok(Found { tail: Tail::Sealed, last: segment.last, end, seal_broken: false });
    }
    let stop = link.next_wrong(0);
    let kept = Kept::before(segment, stop);
    match (segment.spans.get(stop), segment.seal()) {
        (None, Some(seal)) => {
            let end = seal.bytes.end;
            return Ok(Found { tail: Tail::Sealed, last: segment.last, end, seal_broken: false });
        }
        (Some(wrong), _) => {
            if let Some(durable) = link.vouched(stop) {
                return Err(Place::new(&link.name, wrong.bytes.start, wrong.lsn, durable));
            }
        }
        (None, None) => {}
    }
    let offset = segment.spans.get(stop).map_or(segment.written, |span| span.bytes.start);
    let tail = ends_at(link, offset, &kept);
    let seal_broken = !kept.batch_open && link.was_meant_as_seal(offset);
    Ok(Found { tail, last: kept.last, end: kept.end, seal_broken })
}

/// How a segment ends in which nothing right stands from `offset` on, and nothing vouches for more.
fn ends_at(link: &Link<'_>, offset: u64, kept: &Kept) -> Tail {
    let rest = link.bytes.get(offset as usize..).unwrap_or(&[]);
    match rest.iter().rposition(|&byte| byte != 0) {
        None if !kept.batch_open => Tail::Unsealed,
        nonzero => {
            let end = nonzero.map_or(offset, |last| offset + last as u64 + 1);
            Tail::Torn { file: link.name.clone(), offset: kept.end, cut_bytes: end - kept.end }
        }
    }
}

/// What a scan keeps: all up to the end of the last whole batch.
struct Kept {
    end: u64,
    last: u64,
    batch_open: bool,
}

impl Kept {
    fn of_nothing(segment: &Segment) -> Kept {
        Kept { end: 4096, last: segment.base - 1, batch_open: false }
    }

    /// All spans before the one with index `stop` were read.
    fn before(segment: &Segment, stop: usize) -> Kept {
        let mut kept = Kept::of_nothing(segment);
        let mut last = kept.last;
        for span in &segment.spans[..stop] {
            kept.read(span, &mut last);
        }
        kept
    }

    fn read(&mut self, span: &Span, last: &mut u64) {
        if let Role::Record { batch_continues } = span.role {
            self.batch_open = batch_continues;
            *last = span.lsn;
        }
        if !self.batch_open {
            (self.end, self.last) = (span.bytes.end, *last);
        }
    }
}

/// Where reading the records up to `last` must fail.
fn unreadable(chain: &Chain<'_>, last: u64) -> Option<Place> {
    for link in &chain.links {
        let until = if let End::Named { last, .. } = link.end { last } else { last };
        for (index, span) in link.segment.spans.iter().enumerate() {
            if span.lsn > until {
                break;
            }
            if !link.is_right(index) {
                return Some(Place::new(&link.name, span.bytes.start, span.lsn, until));
            }
        }
    }
    None
}

fn verify(chain: &Chain<'_>) -> Result<Verified, Refusal> {
    let mut verified = Verified { problems: Vec::new(), more: false, doubtful: None, records: 0, tail: None };
    for fault in &chain.faults {
        match fault {
            Fault::Damage(place) => verified.problems.push(place.clone()),
            Fault::Other(kind, file) => return Err(Refusal::Other(*kind, file.clone())),
        }
    }
    let structure_is_right = verified.problems.is_empty();
    let mut last = 0;
    // Beside a file that is missing nobody knows where the one before it ends.
    verified.more = !structure_is_right;
    for link in &chain.links {
        let before = verified.problems.len();
        match link.end {
            End::Open => {
                (verified.tail, last) = verify_last(link, &mut verified);
            }
            End::Named { last, sealed } => verify_earlier(link, last, sealed, &mut verified),
            End::Before { last } => verify_earlier(link, last, false, &mut verified),
            End::Unknown => {
                verify_earlier(link, link.segment.last, false, &mut verified);
                verified.problems.truncate(before);
            }
        }
    }
    if chain.links.is_empty() && structure_is_right {
        verified.tail = Some(Tail::Empty);
    }
    if !structure_is_right {
        verified.tail = None;
    }
    if let Some(base) = chain.absent {
        // What else is wrong may hide where the log goes on.
        verified.more |= !verified.problems.is_empty();
        verified.problems.extend(misplaced(base, last + 1).filter(|_| !verified.more));
    }
    Ok(verified)
}

/// What is wrong if the file with this base never began and the log goes on at `next`.
fn misplaced(base: u64, next: u64) -> Option<Place> {
    (base != next).then(|| Place::new(&name_of(base), 0, next.min(base), next.max(base) - 1))
}

/// Tells the wrong place at `index` and goes on behind it, `None` if there is nowhere to; records up to `until`
/// are lost then.
fn pass(link: &Link<'_>, index: usize, until: u64, verified: &mut Verified) -> Option<usize> {
    let spans = &link.segment.spans;
    let wrong = &spans[index];
    let (goes_on, next) = if link.is_header_right(index) {
        (Some(index + 1), wrong.next_lsn())
    } else {
        let restart = link.next_header(index, until);
        (restart, restart.map_or(until + 1, |restart| spans[restart].lsn))
    };
    let last = until.min(next - 1);
    verified.problems.push(Place::new(&link.name, wrong.bytes.start, wrong.lsn, last));
    goes_on
}

/// Counts right records from span `index` on, up to the first wrong one or the first beyond `until`.
fn walk(link: &Link<'_>, mut index: usize, until: u64, verified: &mut Verified) -> usize {
    while let Some(span) = link.segment.spans.get(index)
        && span.lsn <= until
        && link.is_right(index)
    {
        verified.records += u64::from(matches!(span.role, Role::Record { .. }));
        index += 1;
    }
    index
}

fn verify_earlier(link: &Link<'_>, last: u64, sealed: bool, verified: &mut Verified) {
    let spans = &link.segment.spans;
    let mut index = 0;
    loop {
        index = walk(link, index, last, verified);
        if spans.get(index).is_none_or(|span| span.lsn > last) {
            break;
        }
        match pass(link, index, last, verified) {
            Some(next) => index = next,
            None => return,
        }
    }
    // What stands between the last record and the seal loses nothing, and nor does the seal.
    while sealed && let Some(span) = spans.get(index) {
        let is_right = link.is_right(index) && (span.role != Role::Seal || span.bytes.end == link.len());
        if is_right {
            index += 1;
            continue;
        }
        verified.problems.push(Place::new(&link.name, span.bytes.start, last + 1, last));
        match link.next_evidence(index) {
            Some(next) => index = next,
            None => return,
        }
    }
}

/// How the last segment ends, and the last LSN of a whole batch in it.
fn verify_last(link: &Link<'_>, verified: &mut Verified) -> (Option<Tail>, u64) {
    let segment = link.segment;
    let mut kept = Kept::of_nothing(segment);
    let (mut index, mut last) = (0, kept.last);
    loop {
        let stop = walk(link, index, u64::MAX, verified);
        segment.spans[index..stop].iter().for_each(|span| kept.read(span, &mut last));
        index = stop;
        if index == segment.spans.len() && segment.seal().is_some() {
            return (Some(Tail::Sealed), kept.last);
        }
        if index < segment.spans.len() && link.vouched(index).is_some() {
            let Some(next) = pass(link, index, u64::MAX - 1, verified) else { return (None, kept.last) };
            // The header of an entry whose payload is wrong is believed; what follows a gap begins a batch.
            if next == index + 1 && link.is_header_right(index) {
                kept.read(&segment.spans[index], &mut last);
            } else {
                kept.batch_open = false;
            }
            index = next;
            continue;
        }
        let offset = segment.spans.get(index).map_or(segment.written, |span| span.bytes.start);
        if !kept.batch_open && link.was_meant_as_seal(offset) {
            let place = Place::new(&link.name, offset, 1, 0);
            // Sectors that still are, in whole or in part, what they were before the seal was written may be left
            // so by a crash, and must not be called damage. One flipped bit elsewhere is none. What looks like
            // neither may be called either.
            if !link.may_be_unfinished(index) {
                if link.flipped_bits(index) == Some(1) {
                    verified.problems.push(place);
                } else {
                    verified.doubtful = Some(place);
                }
            }
        }
        return (Some(ends_at(link, offset, &kept)), kept.last);
    }
}
