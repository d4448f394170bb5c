//! The logs that are damaged: small, and holding every kind of thing that a log can hold.

use braidlog_format::{BLOCK_LEN, Incarnation, LogId, Lsn, Salt, SegmentHeader, SegmentName, UserMetadata};

use super::pen::{Pen, Role, Span};

/// A record as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
    pub(super) batch_continues: bool,
}

/// One file and the map of what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) base: u64,
    /// The last LSN that was written to it.
    pub(super) last: u64,
    /// The base of the segment before it.
    pub(super) predecessor: Option<u64>,
    /// Whether its header says that the segment before it is sealed.
    pub(super) follows_sealed: bool,
    /// Its entries, one behind the other.
    pub(super) spans: Vec<Span>,
    /// Where they end; what stands behind was never acknowledged, is superseded, or is zeros.
    pub(super) written: u64,
    pub(super) bytes: Vec<u8>,
    /// What the device held in the same places before: zeros, or an earlier life of the file.
    pub(super) before: Vec<u8>,
}

impl Segment {
    /// Where its seal stands.
    pub(super) fn seal(&self) -> Option<&Span> {
        self.spans.last().filter(|span| span.role == Role::Seal)
    }
}

/// A log that is damaged in every way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Log {
    pub(super) label: &'static str,
    /// In LSN order.
    pub(super) segments: Vec<Segment>,
    /// From LSN 1 on, all that the files hold as long as nothing is damaged.
    pub(super) records: Vec<Record>,
}

impl Log {
    /// All of them.
    pub(super) fn all() -> Vec<Log> {
        vec![closed(), torn(EARLIER_SALT), unsealed()]
    }

    /// A log whose writer took the salt of the earlier life again: what no writer may do.
    #[cfg(test)]
    pub(super) fn with_one_salt() -> Log {
        torn(LAST_SALT)
    }
}

/// The salt of files in an earlier life.
const EARLIER_SALT: u32 = 0x01DE_57A1;
/// The salt of the last segment of the torn log.
const LAST_SALT: u32 = 0x0F0F_0003;

fn first_header(salt: u32) -> SegmentHeader {
    SegmentHeader {
        log_id: LogId(*b"the log that rot"),
        incarnation: Incarnation(1),
        salt: Salt(salt),
        base: Lsn::FIRST,
        predecessor: None,
        recycled: false,
        created_at_ns: 1_700_000_000_000_000_000,
        user_metadata: UserMetadata::new(b"mine").expect("it is short"),
        open_from: None,
    }
}

/// Bytes that look like nothing else in the log.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    braidlog_sim::Rng::new(seed).fill(&mut bytes);
    bytes
}

/// An earlier life of a file: another salt, other LSNs, and its entries such that behind `end` they could go on
/// where the new life stops: the first one there has the LSN `next`, is valid but for the salt, and so is what
/// follows, with marks and a seal that vouch for all of it.
fn earlier_life(salt: u32, base: u64, next: u64, end: u64) -> Vec<u8> {
    let mut pen = Pen::new(SegmentHeader {
        base: Lsn(base),
        predecessor: None,
        incarnation: Incarnation(1),
        // Not older than what stands before, so that nothing but the salt keeps it out.
        created_at_ns: 1_700_000_000_000_900_000,
        ..first_header(salt)
    });
    let fill = next - base;
    assert!(fill > 0, "the earlier life has entries before the end of the new one");
    pen.round(base - 1, BLOCK_LEN);
    for lsn in base..next {
        let left = next - lsn;
        let len = if left > 1 { 24 } else { pen.len_to(end) };
        pen.record(9, &noise(lsn, len));
    }
    assert_eq!(pen.offset(), end);
    if end.is_multiple_of(BLOCK_LEN) {
        pen.round(next - 1, end);
    }
    pen.record(9, b"of the earlier life").pad();
    let synced = pen.offset();
    pen.round(next, synced).record(9, &noise(77, 700)).pad().seal();
    pen.bytes().to_vec()
}

/// Closed well. A rotated segment with a batch over a round boundary and an idle mark; one in a recycled file,
/// left without a seal and followed all the same, with its earlier life behind its end; a last one with a seal.
fn closed() -> Log {
    let mut records = Vec::new();
    let mut one = Pen::new(first_header(0x0A11_CE01));
    one.round(0, 4096).record(1, b"first").record(7, &noise(1, 100)).record(0, b"").pad();
    one.round(3, 8192).opening(1, b"a batch").opening(2, &noise(2, 60)).pad();
    one.round(3, 8192).opening(3, b"goes on in the next round").record(1, b"and ends").pad();
    one.round(7, 16384).pad();
    one.seal();

    let mut two = Pen::new(one.successor(0x0B0B_0002, true));
    two.round(7, 4096).record(1, b"in a recycled file").ignorable(b"of no known kind").pad();
    two.round(8, 8192).opening(4, &noise(3, 33)).record(5, &noise(4, 200)).pad();
    let end = two.offset();
    let life = earlier_life(EARLIER_SALT, 4, 11, end);

    let mut three = Pen::new(two.successor(0x0CAB_0003, false));
    three.round(10, 4096).record(1, b"the last segment").record(6, &noise(5, 90)).pad();
    three.round(12, 8192).opening(1, b"the last").record(1, b"batch").pad();
    three.seal();

    let segments = vec![
        one.finish(&[], Vec::new(), &mut records),
        two.finish(&life[end as usize..], life.clone(), &mut records),
        three.finish(&[], Vec::new(), &mut records),
    ];
    Log { label: "closed", segments, records }
}

/// Killed while a round was written into a recycled file. Its last batch is cut in the middle, at a sector; what
/// the device held there before are entries of the earlier life, the first with the very LSN that is expected.
fn torn(earlier_salt: u32) -> Log {
    let mut records = Vec::new();
    let mut one = Pen::new(first_header(0x0D0D_0001));
    one.round(0, 4096).record(1, b"first").record(2, &noise(11, 4500)).pad();
    one.round(2, 12288).record(3, b"idle from here on").pad();
    one.seal();

    let mut two = Pen::new(one.successor(0x0E0E_0002, true));
    two.round(3, 4096).record(1, b"killed, and cut to here").record(1, &noise(12, 50)).pad();
    let fit = two.len_to(3 * BLOCK_LEN) - 48;
    two.round(5, 8192).record(8, &noise(13, fit)).pad();
    two.round(6, 12288).record(4, b"without a pad");

    let mut three = Pen::new(two.successor(LAST_SALT, false));
    three.round(7, 4096).record(1, b"acknowledged").record(2, &noise(14, 500)).pad();
    three.round(9, 8192).record(1, b"whole, and never acknowledged");
    three.opening(2, b"cut");
    let sector = three.offset().next_multiple_of(512);
    let len = three.len_to(sector);
    three.opening(3, &noise(15, len));
    let end = three.offset();
    let life = earlier_life(earlier_salt, 6, 13, end);

    let segments = vec![
        one.finish(&[], Vec::new(), &mut records),
        two.finish(&[], Vec::new(), &mut records),
        three.finish(&life[end as usize..], life.clone(), &mut records),
    ];
    Log { label: "torn", segments, records }
}

/// Killed when nothing was under way. A payload holds whole frames of its own segment; the last group is synced
/// and no mark says so yet; behind it stand the zeros that were laid ahead.
fn unsealed() -> Log {
    let mut records = Vec::new();
    let mut one = Pen::new(first_header(0x1111_0001));
    one.round(0, 4096).opening(1, &noise(21, 7)).opening(1, &noise(22, 8)).record(1, &noise(23, 9)).pad();
    // Fewer than 32 bytes are left, so that the pad fills the next block too.
    let len = one.len_to(3 * BLOCK_LEN) - 48 - 24;
    one.round(3, 8192).record(2, &noise(24, len)).pad();
    one.seal();

    let mut two = Pen::new(one.successor(0x1222_0002, true));
    two.round(4, 4096).record(1, b"alone").pad();
    two.round(5, 8192).pad();
    two.seal();

    let mut three = Pen::new(two.successor(0x1333_0003, true));
    three.round(5, 4096).record(1, b"six").record(1, b"seven").pad();
    three.round(7, 8192).pad();
    // The copied marks and pads come to stand on block boundaries of the same segment.
    let mut frames = vec![0; three.len_to(4 * BLOCK_LEN) - 48];
    frames.extend_from_slice(&three.bytes()[4096..8192 + 48]);
    three.round(7, 12288).record(3, &frames).record(1, b"nine").pad();
    three.round(9, three.offset()).opening(1, b"the last").record(1, &noise(25, 64)).pad();

    let segments = vec![
        one.finish(&[], Vec::new(), &mut records),
        two.finish(&[], Vec::new(), &mut records),
        three.finish(&[0; 4096], Vec::new(), &mut records),
    ];
    Log { label: "unsealed", segments, records }
}

/// The file name of a segment with this base.
pub(super) fn name_of(base: u64) -> String {
    SegmentName(Lsn(base)).to_string()
}
