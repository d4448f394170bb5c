//! Mutations of whole directories: files come, go and change names; segments change what they say, grow rounds
//! and seals; and then lengths, LSNs, links, seals and checksums are made to fit again, or some of them are.

use crate::container::{self, Files};
use crate::mutate::{Random, repair, set_number, structural};
use crate::naive::{BLOCK, HEAD, crc32, header_checksum, is_seal, number};
use crate::naive_log::segment_base;
use crate::naive_manifest::NAME;

type Raw<'a> = dyn FnMut(&mut [u8], usize, usize) -> usize + 'a;

/// Names that are nearly those of a log, and others.
const NAMES: [&str; 18] = [
    "LOCK",
    "MANIFEST",
    "MANIFEST.new",
    "00000000000000000003-1.ckpt",
    "00000000000000000003-01.ckpt",
    "1.ckpt.new",
    "01.ckpt.new",
    "1.prep",
    "18446744073709551616.prep",
    "+1.prep",
    ".prep",
    "00000000000000000001-1.torn",
    "00000000000000000001-2.torn",
    "00000000000000000004-0.torn",
    "00000000000000000001-01.torn",
    "00000000000000000000.wal",
    "1.wal",
    "notes.txt",
];

/// Mutates as [`crate::mutate::mutate`] does, for this target.
pub fn mutate(data: &mut [u8], size: usize, seed: u32, raw: &mut Raw<'_>) -> usize {
    let mut random = Random(u64::from(seed));
    let max = data.len();
    if random.below(6) == 0 {
        return raw(data, size, max);
    }
    let mut files = container::decode(&data[..size]);
    for _ in 0..=random.below(3) {
        change(&mut files, &mut random, raw);
    }
    if random.below(8) != 0 {
        settle(&mut files, &mut random);
    }
    for _ in 0..random.below(3) {
        scar(&mut files, &mut random);
    }
    let bytes = container::encode(&files);
    if bytes.len() > max {
        return raw(data, size, max);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

fn pick_name(files: &Files, random: &mut Random) -> Option<String> {
    let segments: Vec<_> = files.keys().filter(|name| segment_base(name).is_some()).collect();
    let any: Vec<_> = files.keys().collect();
    if files.contains_key(NAME) && random.below(5) == 0 {
        return Some(NAME.to_owned());
    }
    let of = if random.below(8) == 0 || segments.is_empty() { &any } else { &segments };
    (!of.is_empty()).then(|| random.pick(of).clone())
}

fn a_name(random: &mut Random, base: u64) -> String {
    let base = match random.below(6) {
        0 => base.wrapping_add(1),
        1 => base.wrapping_sub(1),
        2 => 1,
        3 => random.below(20) as u64,
        _ => return random.pick(&NAMES).to_owned(),
    };
    match random.below(4) {
        0 => format!("{base:020}-{}.torn", random.below(9)),
        _ => format!("{base:020}.wal"),
    }
}

/// Changes one thing about the directory.
fn change(files: &mut Files, random: &mut Random, raw: &mut Raw<'_>) {
    let Some(name) = pick_name(files, random) else {
        files.insert(a_name(random, 1), vec![0; BLOCK * random.below(3)]);
        return;
    };
    let base = segment_base(&name).unwrap_or(1);
    let mut bytes = files.get(&name).cloned().unwrap_or_default();
    match random.below(14) {
        0..=4 | 6..=13 if name == NAME => change_manifest(&mut bytes, random, raw),
        0..=4 => structural(&mut bytes, random, raw),
        5 | 6 => add_round(&mut bytes, random),
        7 => add_seal(&mut bytes, random),
        8 => {
            files.remove(&name);
            if random.below(2) == 0 {
                files.insert(a_name(random, base), bytes);
            }
            return;
        }
        9 => {
            files.insert(a_name(random, base), bytes);
            return;
        }
        10 => {
            // A segment that goes on behind this one.
            let end = entries(&bytes).last().map_or(base, |entry| entry.lsn(&bytes));
            bytes.truncate(BLOCK);
            if bytes.len() == BLOCK {
                set_number(&mut bytes[32..36], random);
                bytes[40..48].copy_from_slice(&end.to_le_bytes());
                bytes[24] = bytes[24].wrapping_add(random.below(2) as u8);
                add_round(&mut bytes, random);
            }
            files.insert(format!("{end:020}.wal"), bytes);
            return;
        }
        11 => {
            // What stood in another file, at the same place or not.
            let Some(other) = pick_name(files, random) else { return };
            let from = files[&other].chunks(BLOCK).nth(random.below(8)).unwrap_or(&[]).to_vec();
            let at = BLOCK * random.below(8);
            if let Some(into) = bytes.get_mut(at..at + from.len()) {
                into.copy_from_slice(&from);
            }
        }
        12 => {
            let len = bytes.len().next_multiple_of(BLOCK) + BLOCK * random.below(3);
            bytes.resize(len, 0);
        }
        _ => {
            // A header field: links, salts, incarnations.
            if bytes.len() >= BLOCK {
                let (at, width) = random.pick(&[
                    (0, 4),
                    (4, 1),
                    (6, 2),
                    (8, 8),
                    (24, 8),
                    (32, 4),
                    (40, 8),
                    (48, 8),
                    (56, 8),
                    (64, 8),
                    (72, 4),
                    (76, 1),
                    (88, 1),
                    (90, 2),
                ]);
                set_number(&mut bytes[at..at + width], random);
                repair(&mut bytes);
            }
        }
    }
    files.insert(name, bytes);
}

/// Changes what a manifest says, or what entries it has.
fn change_manifest(bytes: &mut Vec<u8>, random: &mut Random, raw: &mut Raw<'_>) {
    let places = entries(bytes);
    let Some(&Place { at, len }) = places.get(random.below(places.len().max(1))) else {
        return structural(bytes, random, raw);
    };
    match random.below(6) {
        0 => structural(bytes, random, raw),
        1 => drop(bytes.drain(at..at + len)),
        2 => {
            let again = bytes[at..at + len].to_vec();
            bytes.splice(at..at, again);
        }
        3 => bytes[at + 20 + random.below(2)] = random.pick(&[0, 1, 2, 3, 6, 7, 8, 255]),
        4 if len >= HEAD + 8 => {
            // A small number more or less: the start, what is durable, a number.
            let word = at + HEAD + 8 * random.below((len - HEAD) / 8);
            let less = number(&bytes[word..word + 8]).wrapping_add(random.below(5) as u64).wrapping_sub(2);
            bytes[word..word + 8].copy_from_slice(&less.to_le_bytes());
        }
        _ if len >= HEAD + 8 => {
            let word = at + HEAD + 8 * random.below((len - HEAD) / 8);
            set_number(&mut bytes[word..word + 8], random);
        }
        _ => {}
    }
}

/// Makes the entries of a manifest follow one another, and their checksums right.
fn settle_manifest(bytes: &mut [u8]) {
    if bytes.len() < BLOCK {
        return;
    }
    repair(bytes);
    let (salt, created_at) = (number(&bytes[32..36]) as u32, number(&bytes[40..48]));
    let mut payload_bytes = 0;
    for (Place { at, len }, count) in entries(bytes).into_iter().zip(0_u64..) {
        let entry = &mut bytes[at..at + len];
        let payload_len = number(&entry[24..28]) as usize;
        if entry[20] == 0 && payload_len == 16 {
            entry[HEAD..HEAD + 8].copy_from_slice(&count.to_le_bytes());
            entry[HEAD + 8..].copy_from_slice(&u64::to_le_bytes(payload_bytes));
        }
        payload_bytes += payload_len as u64;
        entry[..8].copy_from_slice(&(count + 1).to_le_bytes());
        entry[8..16].copy_from_slice(&created_at.to_le_bytes());
        let sum = crc32(0, &entry[HEAD..HEAD + payload_len]).to_le_bytes();
        entry[28..32].copy_from_slice(&sum);
        let checksum = header_checksum(entry, salt, at as u64);
        entry[16..20].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// An entry by its place.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    len: usize,
}

impl Place {
    fn lsn(self, bytes: &[u8]) -> u64 {
        number(&bytes[self.at..self.at + 8])
    }
}

/// The entries as their lengths stand. Behind a hole they go on at the next block that begins with a mark or
/// a seal.
fn entries(bytes: &[u8]) -> Vec<Place> {
    let mut found = Vec::new();
    let (mut at, mut in_hole) = (BLOCK, false);
    while let Some(head) = bytes.get(at..at + HEAD) {
        let len = HEAD + (number(&head[24..28]) as usize).next_multiple_of(8);
        let begins = if in_hole { matches!(head[20], 240 | 242) } else { head.iter().any(|&byte| byte != 0) };
        in_hole = !begins || at + len > bytes.len();
        if in_hole {
            at = (at / BLOCK + 1) * BLOCK;
        } else {
            found.push(Place { at, len });
            at += len;
        }
    }
    found
}

fn put_entry(bytes: &mut Vec<u8>, at: usize, kind: u8, flags: u8, payload: &[u8]) -> usize {
    let len = HEAD + payload.len().next_multiple_of(8);
    bytes.resize(bytes.len().max(at + len), 0);
    bytes[at..at + len].fill(0);
    bytes[at + 20] = kind;
    bytes[at + 21] = flags;
    bytes[at + 24..at + 28].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes[at + HEAD..][..payload.len()].copy_from_slice(payload);
    at + len
}

/// Where the next round would stand.
fn end_of(bytes: &[u8]) -> usize {
    let end = entries(bytes).last().map_or(BLOCK, |last| last.at + last.len);
    end.next_multiple_of(BLOCK)
}

/// Adds a round; LSNs and checksums are for [`settle`].
fn add_round(bytes: &mut Vec<u8>, random: &mut Random) {
    let begin = end_of(bytes);
    let synced = if random.below(3) == 0 { BLOCK } else { begin } as u64;
    let mut mark = u64::MAX.to_le_bytes().to_vec();
    mark.extend(synced.to_le_bytes());
    let mut at = put_entry(bytes, begin, 240, 0, &mark);
    for _ in 0..random.below(4) {
        if random.below(12) == 0 {
            // A few LSNs given up; which ones is for `settle`.
            let mut loss = [0; 40];
            loss[8..16].copy_from_slice(&(random.below(4) as u64).to_le_bytes());
            loss[24] = random.pick(&[0, 1, 1, 1, 2, 2, 3]);
            at = put_entry(bytes, at, 251, random.pick(&[0, 0, 0, 0, 1, 8]), &loss);
            continue;
        }
        let payload = vec![random.bits() as u8; random.pick(&[0, 5, 40, 3000, 4096, 9000])];
        let (kind, flags) = (random.pick(&[0, 1, 7, 239]), random.pick(&[0, 0, 0, 1, 8]));
        at = put_entry(bytes, at, kind, flags, &payload);
    }
    let rest = at.next_multiple_of(BLOCK) - at;
    if rest > 0 {
        let rest = if rest < HEAD { rest + BLOCK } else { rest };
        put_entry(bytes, at, 241, 0, &vec![0; rest - HEAD]);
    }
}

fn add_seal(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = end_of(bytes);
    if at > BLOCK || bytes.len() >= BLOCK {
        let mut payload = vec![0; BLOCK - HEAD];
        let len = (payload.len() as u32).to_le_bytes();
        payload[BLOCK - HEAD - 4..].copy_from_slice(&len);
        bytes.truncate(at.max(BLOCK));
        if random.below(4) == 0 {
            // The cut before the seal was lost.
            bytes.resize(at + 2 * BLOCK, 0x77);
        }
        put_entry(bytes, at, 242, 0, &payload);
    }
}

/// How a segment ended, for the header of the next one.
#[derive(Clone, Copy, Default)]
struct End {
    base: u64,
    last: u64,
    timestamp_ns: u64,
    checksum: u32,
    sealed: bool,
}

/// Makes the files fit together, each thing with a chance to stay as it is.
fn settle(files: &mut Files, random: &mut Random) {
    if let Some(manifest) = files.get_mut(NAME)
        && random.below(5) != 0
    {
        settle_manifest(manifest);
    }
    let [renames, rebases, links, renumbers, reseals] = [(); 5].map(|()| random.below(5) != 0);
    let mut before: Option<End> = None;
    let names: Vec<String> = files.keys().filter(|name| segment_base(name).is_some()).cloned().collect();
    for name in names {
        let Some(mut bytes) = files.remove(&name) else { continue };
        let Some(mut base) = segment_base(&name) else { continue };
        if bytes.len() < BLOCK {
            files.insert(name, bytes);
            continue;
        }
        if let Some(before) = before
            && renames
        {
            base = before.last.wrapping_add(1);
        }
        if rebases {
            bytes[40..48].copy_from_slice(&base.to_le_bytes());
        }
        if links {
            let end = before.unwrap_or_default();
            bytes[48..56].copy_from_slice(&end.base.to_le_bytes());
            bytes[56..64].copy_from_slice(&end.last.to_le_bytes());
            bytes[64..72].copy_from_slice(&end.timestamp_ns.to_le_bytes());
            bytes[72..76].copy_from_slice(&end.checksum.to_le_bytes());
            bytes[76] = end.sealed.into();
        }
        let sum = crc32(0, &bytes[..BLOCK - 4]).to_le_bytes();
        bytes[BLOCK - 4..BLOCK].copy_from_slice(&sum);
        let end = settle_entries(&mut bytes, before, renumbers, reseals);
        if end.last >= end.base {
            before = Some(end);
        }
        files.insert(format!("{base:020}.wal"), bytes);
    }
}

/// Makes the entries of a segment follow one another, and their checksums right.
fn settle_entries(bytes: &mut [u8], before: Option<End>, renumbers: bool, reseals: bool) -> End {
    let salt = number(&bytes[32..36]) as u32;
    let base = number(&bytes[40..48]);
    let mut end = End { base, last: base.wrapping_sub(1), ..before.unwrap_or_default() };
    (end.base, end.sealed, end.checksum) = (base, false, 0);
    let mut timestamp_ns = end.timestamp_ns;
    let mut contiguous = BLOCK;
    for Place { at, len } in entries(bytes) {
        let entry = &mut bytes[at..at + len];
        let next = end.last.wrapping_add(1);
        if renumbers {
            // Behind a hole the numbers stand as they are, unless they fell.
            let lsn = if at == contiguous { next } else { next.max(number(&entry[..8])) };
            entry[..8].copy_from_slice(&lsn.to_le_bytes());
            timestamp_ns = timestamp_ns.max(number(&entry[8..16]));
            entry[8..16].copy_from_slice(&timestamp_ns.to_le_bytes());
            settle_mark(entry, lsn, at);
            settle_loss(entry, lsn);
        }
        let payload_len = number(&entry[24..28]) as usize;
        if reseals && entry[20] == 242 && is_seal(&entry[HEAD..HEAD + payload_len]) {
            let seal = &mut entry[HEAD..];
            seal[..8].copy_from_slice(&next.wrapping_sub(base).to_le_bytes());
            seal[8..16].copy_from_slice(&end.last.to_le_bytes());
            seal[16..24].copy_from_slice(&end.timestamp_ns.to_le_bytes());
            seal[24..28].copy_from_slice(&end.checksum.to_le_bytes());
        }
        let sum = crc32(0, &entry[HEAD..HEAD + payload_len]).to_le_bytes();
        entry[28..32].copy_from_slice(&sum);
        let checksum = header_checksum(entry, salt, at as u64);
        entry[16..20].copy_from_slice(&checksum.to_le_bytes());
        contiguous = at + len;
        end.sealed = entry[20] == 242;
        if entry[20] < 240 || (243..=250).contains(&entry[20]) {
            (end.last, end.timestamp_ns, end.checksum) =
                (number(&entry[..8]), number(&entry[8..16]), checksum);
        }
        if entry[20] == 251 && payload_len >= 32 {
            (end.last, end.timestamp_ns, end.checksum) =
                (number(&entry[HEAD + 8..HEAD + 16]), number(&entry[8..16]), checksum);
        }
    }
    end
}

/// Makes a loss give up as many LSNs as it did, from this one on.
fn settle_loss(entry: &mut [u8], lsn: u64) {
    if entry[20] == 251 && entry.len() >= HEAD + 32 {
        let count = number(&entry[HEAD + 8..HEAD + 16]).wrapping_sub(number(&entry[HEAD..HEAD + 8]));
        entry[HEAD..HEAD + 8].copy_from_slice(&lsn.to_le_bytes());
        entry[HEAD + 8..HEAD + 16].copy_from_slice(&lsn.wrapping_add(count).to_le_bytes());
    }
}

/// Makes a mark claim no more than stands before it.
fn settle_mark(entry: &mut [u8], lsn: u64, at: usize) {
    if entry[20] == 240 && entry.len() == HEAD + 16 {
        let durable = number(&entry[HEAD..HEAD + 8]).min(lsn.saturating_sub(1));
        let synced = number(&entry[HEAD + 8..]).min((at / BLOCK * BLOCK) as u64);
        entry[HEAD..HEAD + 8].copy_from_slice(&durable.to_le_bytes());
        entry[HEAD + 8..].copy_from_slice(&synced.to_le_bytes());
    }
}

/// Damage at rest, and what a crash leaves: nothing is made right behind it.
fn scar(files: &mut Files, random: &mut Random) {
    let Some(name) = pick_name(files, random) else { return };
    let Some(bytes) = files.get_mut(&name).filter(|bytes| !bytes.is_empty()) else { return };
    let blocks = bytes.len().div_ceil(BLOCK);
    let at = BLOCK * random.below(blocks) + random.pick(&[0, 0, 512, 4092, 8, 32]);
    let len = random.pick(&[1, 512, BLOCK, 3 * BLOCK]);
    let to = (at + len).min(bytes.len());
    match random.below(5) {
        0 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        1 => bytes.truncate(at),
        2 if at < to => bytes[at..to].fill(random.bits() as u8),
        3 => bytes.truncate(BLOCK * random.below(blocks + 1)),
        _ if at < to => bytes[at..to].fill(0),
        _ => {}
    }
}
