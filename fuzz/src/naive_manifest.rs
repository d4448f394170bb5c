//! The manifest read once more, from `docs/format.md` alone, and without a line of the crates that are tested.

use crate::container::Files;
use crate::naive::{self, BLOCK, HEAD, Verdict, crc32, number};
use crate::naive_log::{Refusal, is_one_bit_off};

/// The largest LSN.
const LSN_MAX: u64 = u64::MAX >> 1;
/// The name of the file.
pub const NAME: &str = "MANIFEST";

/// What of a manifest matters to who opens or reads the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The log that wrote it; `None` if there is no manifest.
    pub log_id: Option<[u8; 16]>,
    /// The base of the first segment.
    pub start: u64,
    /// The log holds every record up to here.
    pub durable: u64,
    /// LSN and number of each checkpoint.
    pub checkpoints: Vec<(u64, u64)>,
    /// The newest opening that gave something up.
    pub gave_up: u64,
}

/// What the manifest of a directory says.
///
/// # Errors
/// Why it must be refused.
pub fn read(files: &Files) -> Result<Manifest, Refusal> {
    let mut manifest = Manifest { log_id: None, start: 1, durable: 0, checkpoints: Vec::new(), gave_up: 0 };
    let Some(bytes) = files.get(NAME) else { return Ok(manifest) };
    let Some(block) = bytes.first_chunk::<BLOCK>() else { return Err(damaged(0)) };
    check_header(block)?;
    manifest.log_id = Some(std::array::from_fn(|index| block[8 + index]));
    let mut state = State::default();
    let salt = number(&block[32..36]) as u32;
    let (mut at, mut count, mut payload_bytes) = (BLOCK, 0, 0);
    loop {
        let fields = match naive::entry(&bytes[at..], salt, at as u64) {
            Verdict::Entry(fields) => fields,
            Verdict::NewerFlags | Verdict::NewerKind => {
                return Err(Refusal::Newer { file: NAME.to_owned(), offset: at as u64 });
            }
            _ => return Err(damaged(at)),
        };
        let fits = fields.lsn == count + 1
            && fields.timestamp_ns == number(&block[40..48])
            && fields.flags & 1 == 0
            && fields.payload_len <= 1 << 20;
        if !fits {
            return Err(damaged(at));
        }
        let payload = &bytes[at + HEAD..][..fields.payload_len as usize];
        let end = at + fields.entry_len() as usize;
        if fields.kind == 0 {
            let ends = payload.len() == 16
                && number(&payload[..8]) == count
                && number(&payload[8..]) == payload_bytes
                && end == bytes.len();
            if !ends {
                return Err(damaged(at));
            }
            // The head is the first entry, so there is one if there is any.
            return if count == 0 { Err(damaged(end)) } else { Ok(manifest) };
        }
        let is_head = fields.kind == 1;
        match fields.kind {
            1..=7 if !matches!(fields.flags, 0 | 8) => return Err(damaged(at)),
            1..=7 if is_head != (count == 0) => return Err(damaged(at)),
            1..=7 if !entry(&mut manifest, &mut state, fields.kind, payload) => return Err(damaged(at)),
            1..=7 => {}
            _ if fields.flags & 8 != 0 && count == 0 => return Err(damaged(at)),
            _ if fields.flags & 8 != 0 => {}
            _ => return Err(Refusal::Newer { file: NAME.to_owned(), offset: at as u64 }),
        }
        count += 1;
        payload_bytes += payload.len() as u64;
        at = end;
    }
}

fn damaged(offset: usize) -> Refusal {
    Refusal::Damaged { segment: NAME.to_owned(), offset: offset as u64, first: 1, last: 0 }
}

fn check_header(block: &[u8; BLOCK]) -> Result<(), Refusal> {
    let zeros = |from: usize, to: usize| block[from..to].iter().all(|&byte| byte == 0);
    let right = crc32(0, &block[..BLOCK - 4]) == number(&block[BLOCK - 4..]) as u32;
    let newer = || Err(Refusal::Newer { file: NAME.to_owned(), offset: 0 });
    match &block[..4] {
        [0, 0, 0, 0] => Err(damaged(0)),
        _ if !right && is_one_bit_off(block) => Err(damaged(0)),
        magic if magic != b"GMAN" => Err(Refusal::Foreign { file: NAME.to_owned() }),
        _ if block[4] > 1 => newer(),
        _ if !right || block[4] == 0 => Err(damaged(0)),
        _ if block[48] != 1 || block[6..8] != [0, 0] => newer(),
        _ if !(zeros(5, 6) && zeros(36, 40) && zeros(49, BLOCK - 4)) || zeros(24, 32) => Err(damaged(0)),
        _ => Ok(()),
    }
}

/// The last of each kind that has an order, and what the head says of numbers.
#[derive(Default)]
struct State {
    next_checkpoint: u64,
    checkpoint: u64,
    hold: Option<Vec<u8>>,
    age: u64,
    stream: u64,
}

/// Takes an entry of a known kind; whether it is one.
fn entry(manifest: &mut Manifest, state: &mut State, kind: u8, payload: &[u8]) -> bool {
    let word = |at: usize| number(&payload[at..at + 8]);
    let lsn = |lsn: u64| (1..=LSN_MAX).contains(&lsn);
    let is_name = |name: &[u8]| (1..=255).contains(&name.len()) && std::str::from_utf8(name).is_ok();
    match (kind, payload.len()) {
        (1, 32) => {
            (manifest.start, manifest.durable, state.next_checkpoint) = (word(0), word(8), word(24));
            lsn(word(0)) && word(8) <= LSN_MAX && word(0) <= word(8) + 1 && word(24) > 0
        }
        (2, 56) => {
            let (number, up_to, from, base) = (word(0), word(8), word(16), word(24));
            let fits = number > state.checkpoint
                && number < state.next_checkpoint
                && up_to <= LSN_MAX
                && lsn(from)
                && from <= up_to + 1
                && base < number
                && payload[52..] == [0; 4];
            state.checkpoint = number;
            manifest.checkpoints.push((up_to, number));
            fits
        }
        (3, 8..) => {
            let name = payload[8..].to_vec();
            let fits = lsn(word(0)) && is_name(&name) && state.hold.as_ref().is_none_or(|last| *last < name);
            state.hold = Some(name);
            fits
        }
        (4, 16..) => word(0) <= LSN_MAX && is_name(&payload[16..]),
        (5, 32..) => {
            manifest.gave_up = manifest.gave_up.max(word(16));
            lsn(word(0))
                && word(8) <= LSN_MAX
                && word(0) <= word(8)
                && matches!(payload[24], 1 | 2)
                && payload[25..32] == [0; 7]
                && std::str::from_utf8(&payload[32..]).is_ok()
        }
        (6, 16) => {
            let fits = lsn(word(0)) && word(0) > state.age;
            state.age = word(0);
            fits
        }
        (7, 24..) => {
            let (id, as_of) = (word(0), word(16));
            let fits = id > state.stream
                && as_of <= manifest.durable
                && as_of + 1 >= manifest.start
                && is_name(&payload[24..]);
            state.stream = id;
            fits
        }
        _ => false,
    }
}
