//! A whole log read once more, from `docs/format.md` and `docs/recovery.md` alone: all files in memory, no
//! windows, no streaming, and without a line of the crates that are tested.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use crate::container::Files;
use crate::naive::{self, BLOCK, Fields, HEAD, Link, SegmentFields, Verdict, crc32, number};
use crate::naive_manifest::{self, Manifest};

/// The largest LSN.
const LSN_MAX: u64 = u64::MAX >> 1;
/// The most `.torn` files that a directory keeps.
const TORN_FILES_MAX: usize = 4;

/// Why a log is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Something that was promised is not there.
    Damaged {
        /// Name of the segment.
        segment: String,
        /// Where in it.
        offset: u64,
        /// The first LSN that cannot be had.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A newer version wrote it.
    Newer {
        /// Name of the segment.
        file: String,
        /// Where in it.
        offset: u64,
    },
    /// It is none of this log's.
    Foreign {
        /// Name of the file.
        file: String,
    },
}

/// How a log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// There is no segment.
    New,
    /// A seal ends it.
    Sealed,
    /// A whole batch ends it.
    Clean,
    /// So many bytes are cut.
    Torn(u64),
}

/// What opening for writing comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The log's identity, if it has one.
    pub log_id: Option<[u8; 16]>,
    /// The opening's number.
    pub incarnation: u64,
    /// The first LSN of the log.
    pub start: u64,
    /// The LSN that the next record takes.
    pub next: u64,
    /// What the next segment's header has to name.
    pub predecessor: Option<Link>,
    /// No entry is younger.
    pub timestamp_ns: u64,
    /// Transactions that are prepared and not decided, and where each begins.
    pub in_doubt: Vec<(u64, u64)>,
    /// Whether a file already has the name of the next segment.
    pub replaces_empty: bool,
    /// How it ended.
    pub ending: Ending,
    /// Seals that should be there and are not.
    pub damaged_seals: Vec<String>,
    /// The directory afterwards.
    pub after: Files,
}

/// A record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub fields: Fields,
    /// Its payload.
    pub payload: &'a [u8],
}

/// A segment with a valid header that belongs where it stands.
struct Segment<'a> {
    name: &'a str,
    bytes: &'a [u8],
    header: SegmentFields,
}

/// The segments of a directory, and the base of a last file that never began.
struct Chain<'a> {
    segments: Vec<Segment<'a>>,
    absent: Option<u64>,
}

/// The base that a segment's name says: LSNs are from 1.
pub fn segment_base(name: &str) -> Option<u64> {
    decimal(name.strip_suffix(".wal")?, 20).filter(|&base| base > 0)
}

/// Incarnation and base that the name of a kept tail says.
pub fn torn_name(name: &str) -> Option<(u64, u64)> {
    let (base, incarnation) = name.strip_suffix(".torn")?.split_once('-')?;
    let incarnation = decimal(incarnation, incarnation.len()).filter(|n| n.to_string() == incarnation)?;
    Some((incarnation, decimal(base, 20)?))
}

fn is_prepared(name: &str) -> bool {
    let number = name.strip_suffix(".prep");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn decimal(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// LSN and number that the name of a checkpoint says.
fn checkpoint_name(name: &str) -> Option<(u64, u64)> {
    let (lsn, number) = name.strip_suffix(".ckpt")?.split_once('-')?;
    Some((decimal(lsn, 20)?, canonical(number)?))
}

/// Whether this is the name of a file that was begun and never finished.
fn is_unfinished(name: &str) -> bool {
    name == "MANIFEST.new" || name.strip_suffix(".ckpt.new").and_then(canonical).is_some()
}

/// A number without leading zeros.
fn canonical(text: &str) -> Option<u64> {
    decimal(text, text.len()).filter(|number| number.to_string() == text)
}

/// What opening this directory for writing must come to.
///
/// # Errors
/// Why it must be refused.
pub fn opening(files: &Files) -> Result<Opening, Refusal> {
    let manifest = naive_manifest::read(files)?;
    let chain = chain(files, manifest.start)?;
    let of_segments = chain.segments.first().map(|first| first.header.log_id);
    if manifest.log_id.zip(of_segments).is_some_and(|(manifest, segments)| manifest != segments) {
        return Err(Refusal::Foreign { file: naive_manifest::NAME.to_owned() });
    }
    let newest = chain.segments.iter().map(|segment| segment.header.incarnation).max();
    let mut opening = Opening {
        log_id: of_segments.or(manifest.log_id),
        incarnation: (newest.unwrap_or(0) + 1).max(manifest.gave_up.min(u64::MAX - 1)),
        start: manifest.start,
        next: 1,
        predecessor: None,
        timestamp_ns: 0,
        in_doubt: Vec::new(),
        replaces_empty: chain.absent.is_some(),
        ending: Ending::New,
        damaged_seals: Vec::new(),
        after: files.clone(),
    };
    for pair in chain.segments.windows(2) {
        if let [before, Segment { header: SegmentFields { link: Some(link), .. }, .. }] = pair
            && link.sealed
            && !seal_at_end(before).is_some_and(|seal| {
                (seal.last, seal.timestamp_ns, seal.checksum) == (link.last, link.timestamp_ns, link.checksum)
            })
        {
            opening.damaged_seals.push(before.name.to_owned());
        }
    }
    opening.after.retain(|name, _| {
        let goes = is_prepared(name)
            || is_unfinished(name)
            || segment_base(name).is_some_and(|base| base < manifest.start)
            || checkpoint_name(name).is_some_and(|named| !manifest.checkpoints.contains(&named));
        !goes
    });
    let mut end = (format!("{:020}.wal", 1), 0);
    if let Some(last) = chain.segments.last() {
        let kept = end_in(last, &mut opening)?;
        end = (last.name.to_owned(), kept);
    }
    check_end(&manifest, &opening, end)?;
    match chain.absent {
        Some(base) if base != opening.next => Err(Refusal::Damaged {
            segment: format!("{base:020}.wal"),
            offset: 0,
            first: base.min(opening.next),
            last: base.max(opening.next) - 1,
        }),
        _ => {
            opening.in_doubt = in_doubt(&chain.segments, opening.next - 1)?;
            Ok(opening)
        }
    }
}

/// That the log which opens so holds what was durable when its manifest was written; it ends there.
fn check_end(manifest: &Manifest, opening: &Opening, (name, kept): (String, usize)) -> Result<(), Refusal> {
    if opening.next > manifest.durable {
        return Ok(());
    }
    // Behind a seal, and in a log without a file, another file is missing.
    Err(match opening.ending {
        Ending::Sealed | Ending::New => {
            damaged(&format!("{:020}.wal", opening.next), 0, opening.next, manifest.durable)
        }
        Ending::Clean | Ending::Torn(_) => damaged(&name, kept, opening.next, manifest.durable),
    })
}

/// The records that a reader must get from the log that opens so.
///
/// # Errors
/// Why a reader must be refused on the way.
pub fn records<'a>(files: &'a Files, opening: &Opening) -> Result<Vec<Record<'a>>, Refusal> {
    let chain = chain(files, opening.start)?;
    let last = opening.next - 1;
    let mut all = Vec::new();
    for (index, segment) in chain.segments.iter().enumerate() {
        let next = chain.segments.get(index + 1);
        let until = next.map_or(last, |next| next.header.base - 1);
        if segment.header.base > last {
            break;
        }
        let walk = walk(segment, until);
        match walk.stop {
            Stop::Reached => {}
            Stop::Newer => {
                return Err(Refusal::Newer { file: segment.name.to_owned(), offset: walk.at as u64 });
            }
            _ => {
                return Err(damaged(segment.name, walk.at, walk.next, until));
            }
        }
        // A reader that goes on into the next segment has compared the last entry with the one named there.
        // A loss that reaches into the next segment.
        if let Some(entry) = walk.last.filter(|entry| entry.lsn > until) {
            return Err(damaged(segment.name, entry.at, until + 1, until));
        }
        if until < last
            && let Some(link) = next.and_then(|next| next.header.link)
            && let Some(entry) = walk.last
            && (!entry.may_be(link.timestamp_ns, link.checksum) || walk.batch_open)
        {
            return Err(damaged(segment.name, walk.at, link.last, link.last));
        }
        all.extend(walk.records);
    }
    Ok(all)
}

fn damaged(segment: &str, offset: usize, first: u64, last: u64) -> Refusal {
    Refusal::Damaged { segment: segment.to_owned(), offset: offset as u64, first, last }
}

/// What the first block of a file is.
enum Header {
    Valid(SegmentFields),
    NotStarted,
    Foreign,
    Newer,
    Damaged,
}

fn header(bytes: &[u8]) -> Header {
    let all_zero = bytes.iter().all(|&byte| byte == 0);
    let Some(block) = bytes.first_chunk::<BLOCK>() else {
        let foreign = bytes.len() >= 4 && bytes[..4] != *b"GWAL" && !all_zero;
        return if foreign { Header::Foreign } else { Header::NotStarted };
    };
    if all_zero {
        return Header::NotStarted;
    }
    if let Some(fields) = naive::segment_header(block) {
        return Header::Valid(fields);
    }
    let right = crc32(0, &block[..BLOCK - 4]) == number(&block[BLOCK - 4..]) as u32;
    match &block[..4] {
        // One flipped bit makes no file foreign or newer, and neither do lost bytes.
        [0, 0, 0, 0] => Header::Damaged,
        _ if !right && is_one_bit_off(block) => Header::Damaged,
        magic if magic != b"GWAL" => Header::Foreign,
        _ if block[4] > 1 => Header::Newer,
        _ if !right || block[4] == 0 => Header::Damaged,
        _ if block[88] != 1 || block[6] > 1 || block[7] != 0 => Header::Newer,
        _ => Header::Damaged,
    }
}

/// Whether one flipped bit would make the checksum of a header block right.
pub(crate) fn is_one_bit_off(block: &[u8; BLOCK]) -> bool {
    static CHANGES: OnceLock<HashSet<u32>> = OnceLock::new();
    // A CRC is linear: the change that one bit makes is the same whatever the other bytes are.
    let changes = CHANGES.get_or_init(|| {
        let mut block = [0; BLOCK - 4];
        let zeros = crc32(0, &block);
        let mut changes: HashSet<u32> = (0..32).map(|bit| 1 << bit).collect();
        for bit in 0..8 * block.len() {
            let before = crc32(0, &[0; BLOCK][..bit / 8]);
            block[bit / 8] = 1 << (bit % 8);
            changes.insert(zeros ^ crc32(before, &block[bit / 8..]));
            block[bit / 8] = 0;
        }
        changes
    });
    changes.contains(&(crc32(0, &block[..BLOCK - 4]) ^ number(&block[BLOCK - 4..]) as u32))
}

fn chain(files: &Files, start: u64) -> Result<Chain<'_>, Refusal> {
    let named: Vec<(u64, &str, &[u8])> = files
        .iter()
        .filter_map(|(name, bytes)| segment_base(name).map(|base| (base, name.as_str(), bytes.as_slice())))
        .filter(|&(base, ..)| base >= start)
        .collect();
    if named.is_empty() && start > 1 {
        return Err(damaged(&format!("{start:020}.wal"), 0, start, LSN_MAX));
    }
    let mut chain = Chain { segments: Vec::new(), absent: None };
    for (index, &(base, name, bytes)) in named.iter().enumerate() {
        let next = named.get(index + 1).map(|&(base, ..)| base);
        let bad_header = damaged(name, 0, base, next.map_or(LSN_MAX, |next| next - 1));
        let header = match header(bytes) {
            Header::Valid(header) => header,
            // Where a log was cut there was a header.
            Header::NotStarted if next.is_none() && (index > 0 || start == 1) => {
                chain.absent = Some(base);
                break;
            }
            Header::Foreign => return Err(Refusal::Foreign { file: name.to_owned() }),
            Header::Newer => return Err(Refusal::Newer { file: name.to_owned(), offset: 0 }),
            Header::NotStarted | Header::Damaged => return Err(bad_header),
        };
        // There must be a next incarnation.
        if header.incarnation == u64::MAX {
            return Err(bad_header);
        }
        if chain.segments.first().is_some_and(|first: &Segment<'_>| first.header.log_id != header.log_id) {
            return Err(Refusal::Foreign { file: name.to_owned() });
        }
        if header.base != base {
            return Err(bad_header);
        }
        let missing = |first: u64| damaged(&format!("{first:020}.wal"), 0, first, base - 1);
        match (chain.segments.last(), header.link) {
            (None, _) if base == start => {}
            (None, _) => return Err(missing(start)),
            (Some(before), Some(link))
                if link.base == before.header.base && header.incarnation >= before.header.incarnation => {}
            (Some(before), Some(link)) if link.base > before.header.base => return Err(missing(link.base)),
            // Nothing is known to be lost: the header is there, and leads elsewhere.
            _ => return Err(damaged(name, 0, base, base - 1)),
        }
        chain.segments.push(Segment { name, bytes, header });
    }
    Ok(chain)
}

/// A seal.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seal {
    offset: usize,
    end: usize,
    last: u64,
    timestamp_ns: u64,
    checksum: u32,
    /// That of the seal's own entry.
    own_timestamp_ns: u64,
    /// How many transactions it lists.
    in_doubt: usize,
}

fn seal_at(segment: &Segment<'_>, offset: usize) -> Option<Seal> {
    let here = segment.bytes.get(offset..)?;
    let Verdict::Entry(fields) = naive::entry(here, segment.header.salt, offset as u64) else { return None };
    let payload = &here[HEAD..][..fields.payload_len as usize];
    if fields.kind != 242 || fields.flags != 0 || !naive::is_seal(payload) {
        return None;
    }
    let (count, last) = (number(&payload[..8]), number(&payload[8..16]));
    let next = last.checked_add(1)?;
    let agrees = fields.lsn == next && segment.header.base.checked_add(count) == Some(next);
    (agrees && next <= LSN_MAX).then(|| Seal {
        offset,
        end: offset + fields.entry_len() as usize,
        last,
        timestamp_ns: number(&payload[16..24]),
        checksum: number(&payload[24..28]) as u32,
        own_timestamp_ns: fields.timestamp_ns,
        in_doubt: number(&payload[28..32]) as usize,
    })
}

/// Where the last four bytes say that the seal starts.
fn claimed_seal(bytes: &[u8]) -> Option<usize> {
    let len = number(bytes.last_chunk::<4>()?) as usize;
    let start = bytes.len().checked_sub(HEAD + len)?;
    (len > 0 && bytes.len().is_multiple_of(BLOCK) && start.is_multiple_of(BLOCK) && start >= BLOCK)
        .then_some(start)
}

fn seal_at_end(segment: &Segment<'_>) -> Option<Seal> {
    seal_at(segment, claimed_seal(segment.bytes)?)
}

/// Why a walk ended.
enum Stop {
    /// All that was wanted was found.
    Reached,
    EndOfFile,
    Zeros,
    Bytes,
    Newer,
    Seal(Seal),
}

/// The last entry that takes an LSN, or the recorded loss that stands for it.
#[derive(Clone, Copy)]
struct LastEntry {
    at: usize,
    lsn: u64,
    timestamp_ns: u64,
    checksum: u32,
    lost: bool,
}

impl LastEntry {
    /// Whether a seal or the next header may name this entry by these values. For a lost one they may name any.
    fn may_be(&self, timestamp_ns: u64, checksum: u32) -> bool {
        self.lost || (self.timestamp_ns, self.checksum) == (timestamp_ns, checksum)
    }
}

/// A walk through a segment, entry by entry.
struct Walk<'a> {
    records: Vec<Record<'a>>,
    at: usize,
    next: u64,
    timestamp_ns: u64,
    batch_open: bool,
    last: Option<LastEntry>,
    /// Offset, last entry and timestamp where the last whole batch ends.
    kept: (usize, Option<LastEntry>, u64),
    stop: Stop,
}

fn walk<'a>(segment: &Segment<'a>, until: u64) -> Walk<'a> {
    let timestamp_ns = segment.header.link.map_or(0, |link| link.timestamp_ns);
    let mut walk = Walk {
        records: Vec::new(),
        at: BLOCK,
        next: segment.header.base,
        timestamp_ns,
        batch_open: false,
        last: None,
        kept: (BLOCK, None, timestamp_ns),
        stop: Stop::Reached,
    };
    while walk.next <= until {
        if let Err(stop) = step(segment, &mut walk) {
            walk.stop = stop;
            break;
        }
    }
    walk
}

fn step<'a>(segment: &Segment<'a>, walk: &mut Walk<'a>) -> Result<(), Stop> {
    let at = walk.at;
    let here = segment.bytes.get(at..).filter(|here| !here.is_empty()).ok_or(Stop::EndOfFile)?;
    let fields = match naive::entry(here, segment.header.salt, at as u64) {
        Verdict::Entry(fields) => fields,
        _ if here.iter().take(HEAD).all(|&byte| byte == 0) => return Err(Stop::Zeros),
        Verdict::NewerFlags | Verdict::NewerKind => return Err(Stop::Newer),
        _ => return Err(Stop::Bytes),
    };
    let payload = &here[HEAD..][..fields.payload_len as usize];
    if fields.lsn != walk.next || fields.lsn > LSN_MAX || fields.timestamp_ns < walk.timestamp_ns {
        return Err(Stop::Bytes);
    }
    // Compressed payloads are what this version's reader cannot follow, and so are fields that it does not know.
    let takes_lsn = fields.kind < 240 || (243..=250).contains(&fields.kind);
    let can_follow = takes_lsn && naive::has_fields_of_record(payload);
    let is_newer = fields.flags & 2 != 0 || (fields.flags & 4 != 0 && !can_follow);
    if is_newer && fields.kind != 251 {
        return Err(Stop::Newer);
    }
    if fields.kind == 251 {
        let lsn = last_lost(&fields, payload).filter(|_| !walk.batch_open).ok_or(Stop::Bytes)?;
        let Fields { timestamp_ns, checksum, .. } = fields;
        walk.last = Some(LastEntry { at, lsn, timestamp_ns, checksum, lost: true });
        walk.next = lsn + 1;
        walk.at += fields.entry_len() as usize;
        walk.timestamp_ns = timestamp_ns;
        walk.kept = (walk.at, walk.last, timestamp_ns);
        return Ok(());
    }
    if fields.kind == 240 && mark(&fields, payload, at).is_none() {
        return Err(Stop::Bytes);
    }
    if fields.kind == 242 {
        let seal = seal_at(segment, at);
        let seal = seal.filter(|seal| match walk.last {
            Some(last) => last.may_be(seal.timestamp_ns, seal.checksum),
            None => seal.checksum == 0,
        });
        return Err(seal.map_or(Stop::Bytes, Stop::Seal));
    }
    walk.at += fields.entry_len() as usize;
    walk.timestamp_ns = fields.timestamp_ns;
    if takes_lsn {
        let Fields { lsn, timestamp_ns, checksum, .. } = fields;
        let proper = if fields.flags & 4 != 0 { naive::extended(payload).map(|(_, proper)| proper) } else { None };
        walk.records.push(Record { fields, payload: proper.unwrap_or(payload) });
        walk.last = Some(LastEntry { at, lsn, timestamp_ns, checksum, lost: false });
        walk.next += 1;
        walk.batch_open = fields.flags & 1 != 0;
    }
    if !walk.batch_open {
        walk.kept = (walk.at, walk.last, walk.timestamp_ns);
    }
    Ok(())
}

/// The last LSN that a recorded loss gives up, if it is one.
fn last_lost(fields: &Fields, payload: &[u8]) -> Option<u64> {
    let (fixed, account) = payload.split_first_chunk::<32>()?;
    let (first, last) = (number(&fixed[..8]), number(&fixed[8..16]));
    let lsns = first == fields.lsn && (first..=LSN_MAX).contains(&last);
    let rest = matches!(fixed[24], 1 | 2) && fixed[25..].iter().all(|&byte| byte == 0);
    (fields.flags == 0 && lsns && rest && std::str::from_utf8(account).is_ok()).then_some(last)
}

/// Durable LSN and synced offset, if what a mark at `at` says can be true.
fn mark(fields: &Fields, payload: &[u8], at: usize) -> Option<(u64, u64)> {
    if fields.kind != 240 || fields.flags != 0 || !naive::is_sync_mark(payload) {
        return None;
    }
    let (durable, synced) = (number(&payload[..8]), number(&payload[8..]));
    (durable < fields.lsn && synced <= at as u64).then_some((durable, synced))
}

/// The last LSN that was durable, says what stands behind the failing offset and vouches for it.
fn vouched(segment: &Segment<'_>, walk: &Walk<'_>) -> Option<u64> {
    let base = segment.header.base;
    let boundaries = (walk.at / BLOCK + 1..).map(|block| block * BLOCK);
    let vouching = boundaries.take_while(|&at| at < segment.bytes.len()).filter_map(|at| {
        let here = &segment.bytes[at..];
        let Verdict::Entry(fields) = naive::entry(here, segment.header.salt, at as u64) else { return None };
        let (durable, synced) = match fields.kind {
            240 if (base..=LSN_MAX).contains(&fields.lsn) => {
                mark(&fields, &here[HEAD..][..fields.payload_len as usize], at)?
            }
            242 => seal_at(segment, at).map(|seal| (seal.last, seal.offset as u64))?,
            _ => return None,
        };
        // What denies the records that were read, or the segments before, vouches for nothing.
        let sane = durable + 1 >= base && fields.lsn >= walk.next;
        (sane && synced > walk.at as u64).then_some(durable)
    });
    vouching.max()
}

/// Whether a header at `at` proves itself; in a recycled file also that its LSN can be of this life.
fn is_proved(segment: &Segment<'_>, at: usize) -> bool {
    let here = segment.bytes.get(at..).unwrap_or(&[]);
    let proved = match naive::entry(here, segment.header.salt, at as u64) {
        Verdict::Short { need } => need > HEAD as u64 || here.len() >= HEAD,
        Verdict::PayloadChecksum | Verdict::Padding | Verdict::Entry(_) => true,
        _ => false,
    };
    let base = segment.header.base;
    let lsns = base..=base + (segment.bytes.len() / HEAD) as u64;
    proved && (!segment.header.recycled || lsns.contains(&number(&here[..8])))
}

/// Whether the bytes at `at` were meant to be a seal.
fn seal_was_meant(segment: &Segment<'_>, at: usize) -> bool {
    let claimed = !segment.header.recycled && claimed_seal(segment.bytes) == Some(at);
    claimed || (is_proved(segment, at) && segment.bytes[at + 20] == 242)
}

/// Where what a crash left behind `at` ends, if it left anything.
fn left_to(segment: &Segment<'_>, at: usize) -> Option<usize> {
    let bytes = segment.bytes;
    if !segment.header.recycled {
        return bytes.iter().rposition(|&byte| byte != 0).map(|last| last + 1).filter(|&end| end > at);
    }
    let proved = (at..bytes.len()).step_by(8).filter(|&at| is_proved(segment, at));
    let ends = proved.map(|at| {
        let padded = number(&bytes[at + 24..at + 28]).next_multiple_of(8) as usize;
        bytes.len().min(at + HEAD + padded)
    });
    ends.max()
}

/// Whether the last file ends with a seal that a walk through its entries does not come to. A seal inside another
/// entry, right for its place, is made by somebody who knows the salt, or by a mutation; recovery takes it at its
/// word, and verification tells.
pub fn ends_in_a_forged_seal(files: &Files) -> bool {
    let Ok(Manifest { start, .. }) = naive_manifest::read(files) else { return false };
    let Ok(Chain { segments, .. }) = chain(files, start) else { return false };
    segments.last().is_some_and(|last| {
        seal_at_end(last)
            .is_some_and(|seal| !matches!(walk(last, u64::MAX).stop, Stop::Seal(found) if found == seal))
    })
}

/// Whether the end of the last segment says that a transaction may be in doubt there.
fn may_be_in_doubt(segment: &Segment<'_>) -> bool {
    let listed = |seal: Seal| seal.in_doubt > 0;
    if let Some(seal) = seal_at_end(segment) {
        return listed(seal);
    }
    let walk = walk(segment, u64::MAX);
    let prepares = walk.records.iter().any(|record| record.fields.kind == 246);
    match walk.stop {
        Stop::Seal(seal) => listed(seal),
        _ => prepares || segment.header.open_from > 0,
    }
}

/// The transactions that are prepared and not decided behind the last record, `until`.
fn in_doubt(segments: &[Segment<'_>], until: u64) -> Result<Vec<(u64, u64)>, Refusal> {
    let Some((last, before)) = segments.split_last().filter(|(last, _)| may_be_in_doubt(last)) else {
        return Ok(Vec::new());
    };
    let listed = |segment: &Segment<'_>| {
        let link = last.header.link?;
        let seal = seal_at_end(segment)?;
        let agrees =
            (seal.last, seal.timestamp_ns, seal.checksum) == (link.last, link.timestamp_ns, link.checksum);
        agrees.then_some(seal.in_doubt)
    };
    let none_before = before.last().and_then(listed) == Some(0);
    let from = if last.header.open_from > 0 && !none_before { last.header.open_from } else { last.header.base };
    let first = segments.iter().rposition(|segment| segment.header.base <= from).unwrap_or(0);
    let mut found = BTreeMap::new();
    for (index, segment) in segments.iter().enumerate().skip(first) {
        let until = segments.get(index + 1).map_or(until, |next| next.header.base - 1);
        let walk = walk(segment, until);
        for Record { fields, payload } in &walk.records {
            let known = match fields.kind {
                246 => naive::is_prepare(payload),
                247 => naive::is_decision(payload),
                _ => continue,
            };
            if !known {
                return Err(damaged(segment.name, offset_of(segment, fields.lsn), fields.lsn, fields.lsn));
            }
            let id = number(&payload[..8]);
            match fields.kind {
                246 => _ = found.insert(id, number(&payload[8..16])),
                _ => _ = found.remove(&id),
            }
        }
        if walk.next <= until {
            return Err(match walk.stop {
                Stop::Newer => Refusal::Newer { file: segment.name.to_owned(), offset: walk.at as u64 },
                _ => damaged(segment.name, walk.at, walk.next, until),
            });
        }
    }
    Ok(found.into_iter().collect())
}

/// Where the entry with this LSN stands, which a walk came by.
fn offset_of(segment: &Segment<'_>, lsn: u64) -> usize {
    walk(segment, lsn).last.map_or(BLOCK, |last| last.at)
}

/// How the log ends in its last segment, and at which of its bytes.
fn end_in(segment: &Segment<'_>, opening: &mut Opening) -> Result<usize, Refusal> {
    let header = &segment.header;
    let linked = |last: u64, timestamp_ns: u64, checksum: u32, sealed: bool| {
        (last >= header.base)
            .then_some(Link { base: header.base, last, timestamp_ns, checksum, sealed })
            .or(header.link)
    };
    if let Some(seal) = seal_at_end(segment) {
        opening.next = seal.last + 1;
        opening.predecessor = linked(seal.last, seal.timestamp_ns, seal.checksum, true);
        opening.replaces_empty |= seal.last < header.base;
        opening.timestamp_ns = seal.own_timestamp_ns.max(seal.timestamp_ns);
        opening.ending = Ending::Sealed;
        return Ok(seal.end);
    }
    let walk = walk(segment, u64::MAX);
    let left_to = left_to(segment, walk.at);
    let (end, last, timestamp_ns) = walk.kept;
    let mut keep_until = end;
    let batch_cut = || damaged(segment.name, walk.at, walk.next, walk.next - 1);
    opening.timestamp_ns = timestamp_ns;
    opening.ending = match &walk.stop {
        Stop::Newer => {
            return Err(Refusal::Newer { file: segment.name.to_owned(), offset: walk.at as u64 });
        }
        Stop::Seal(_) if walk.batch_open => return Err(batch_cut()),
        Stop::Seal(seal) => {
            keep_until = seal.end;
            opening.timestamp_ns = timestamp_ns.max(seal.own_timestamp_ns);
            Ending::Sealed
        }
        _ => {
            if let Some(durable) = vouched(segment, &walk) {
                return Err(damaged(segment.name, walk.at, walk.next, durable));
            }
            if left_to.is_none() && !walk.batch_open {
                Ending::Clean
            } else {
                Ending::Torn((left_to.unwrap_or(walk.at) - end) as u64)
            }
        }
    };
    let sealed = opening.ending == Ending::Sealed;
    opening.next = last.map_or(header.base, |last| last.lsn + 1);
    opening.predecessor = last
        .map_or(header.link, |last| linked(last.lsn, last.timestamp_ns, last.checksum, sealed));
    opening.replaces_empty |= last.is_none();
    if !sealed && !walk.batch_open && seal_was_meant(segment, walk.at) {
        opening.damaged_seals.push(segment.name.to_owned());
    }
    if let Ending::Torn(bytes) = opening.ending
        && bytes > 0
    {
        keep_torn(opening, header.base, segment.bytes[end..][..bytes as usize].to_vec());
    }
    if segment.bytes.len() > keep_until {
        opening.after.insert(segment.name.to_owned(), segment.bytes[..keep_until].to_vec());
    }
    Ok(keep_until)
}

/// Puts what is cut beside the log, and removes the oldest such files beyond the newest few.
fn keep_torn(opening: &mut Opening, base: u64, bytes: Vec<u8>) {
    let name = format!("{base:020}-{}.torn", opening.incarnation);
    let others = opening.after.keys().filter(|other| **other != name);
    let mut others: Vec<_> =
        others.filter_map(|other| torn_name(other).map(|key| (key, other.clone()))).collect();
    others.sort();
    for (_, oldest) in others.iter().take(others.len().saturating_sub(TORN_FILES_MAX - 1)) {
        opening.after.remove(oldest);
    }
    opening.after.insert(name, bytes);
}
