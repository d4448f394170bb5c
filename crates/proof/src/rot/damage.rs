//! Damage at rest: what it is called, so that it can be asked for again, and what it does to the files.
//!
//! The rule: the name says all. `<log>:<damage>` and nothing else makes the same files again.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::log::{Log, name_of};

/// The files of a log's directory, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What became of the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    /// One bit of one byte.
    Flip { segment: usize, offset: usize, bit: u8 },
    /// A run of bytes was lost: it is zeros.
    Zeros { segment: usize, offset: usize, len: usize },
    /// A run of bytes was overwritten with ones.
    Ones { segment: usize, offset: usize, len: usize },
    /// A write was lost: the bytes are what they were before it.
    Stale { segment: usize, offset: usize, len: usize },
    /// A write went astray: the bytes are those of another place.
    Copied { segment: usize, offset: usize, len: usize, from: usize, from_offset: usize },
    /// The file ends early.
    Cut { segment: usize, len: usize },
    /// The file has zeros behind its end.
    Grown { segment: usize, len: usize },
    /// The file is gone.
    Missing { segment: usize },
    /// The file has another name.
    Renamed { segment: usize, name: String },
    /// The file is there twice.
    Duplicated { segment: usize, name: String },
    /// Two files have each other's name.
    Swapped { segment: usize, other: usize },
    /// Both.
    Both(Box<Damage>, Box<Damage>),
}

impl Damage {
    /// Under which name it is counted.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Damage::Flip { .. } => "bit flips",
            Damage::Zeros { .. } => "zeroed runs of sectors",
            Damage::Ones { .. } => "sectors of ones",
            Damage::Stale { .. } => "stale runs of sectors",
            Damage::Copied { .. } => "misplaced sectors and blocks",
            Damage::Cut { .. } => "cut files",
            Damage::Grown { .. } => "grown files",
            Damage::Missing { .. } => "missing files",
            Damage::Renamed { .. } => "renamed files",
            Damage::Duplicated { .. } => "duplicated files",
            Damage::Swapped { .. } => "swapped files",
            Damage::Both(..) => "pairs of damages",
        }
    }

    /// Whether it is of a kind that makes up nearly all damages.
    pub(super) fn is_one_of_many(&self) -> bool {
        matches!(self, Damage::Flip { .. } | Damage::Cut { .. } | Damage::Copied { .. })
    }

    /// Does it to the files of `log`.
    pub(super) fn apply(&self, log: &Log, files: &mut Files) {
        let name = |segment: usize| &log.segments[segment].name;
        match self {
            Damage::Flip { segment, offset, bit } => {
                overwrite(files, name(*segment), *offset, 1, |byte, _| byte ^ 1 << bit);
            }
            Damage::Zeros { segment, offset, len } => {
                overwrite(files, name(*segment), *offset, *len, |_, _| 0);
            }
            Damage::Ones { segment, offset, len } => {
                overwrite(files, name(*segment), *offset, *len, |_, _| 0xFF);
            }
            Damage::Stale { segment, offset, len } => {
                let before = &log.segments[*segment].before;
                overwrite(files, name(*segment), *offset, *len, |_, at| before[at]);
            }
            Damage::Copied { segment, offset, len, from, from_offset } => {
                let source = &log.segments[*from].bytes;
                let byte = |at: usize| source.get(from_offset + (at - offset)).copied();
                overwrite(files, name(*segment), *offset, *len, |old, at| byte(at).unwrap_or(old));
            }
            Damage::Cut { segment, len } => {
                if let Some(bytes) = files.get_mut(name(*segment)) {
                    bytes.truncate(*len);
                }
            }
            Damage::Grown { segment, len } => {
                if let Some(bytes) = files.get_mut(name(*segment)) {
                    bytes.resize((*len).max(bytes.len()), 0);
                }
            }
            Damage::Missing { segment } => {
                files.remove(name(*segment));
            }
            Damage::Renamed { segment, name: to } => {
                if let Some(bytes) = files.remove(name(*segment)) {
                    files.insert(to.clone(), bytes);
                }
            }
            Damage::Duplicated { segment, name: to } => {
                if let Some(bytes) = files.get(name(*segment)).cloned() {
                    files.insert(to.clone(), bytes);
                }
            }
            Damage::Swapped { segment, other } => {
                let (one, two) = (files.remove(name(*segment)), files.remove(name(*other)));
                files.extend(two.map(|bytes| (name(*segment).clone(), bytes)));
                files.extend(one.map(|bytes| (name(*other).clone(), bytes)));
            }
            Damage::Both(one, two) => {
                one.apply(log, files);
                two.apply(log, files);
            }
        }
    }

    /// The files of `log` with this damage.
    pub(super) fn files(&self, log: &Log) -> Files {
        let mut files =
            log.segments.iter().map(|segment| (segment.name.clone(), segment.bytes.clone())).collect();
        self.apply(log, &mut files);
        files
    }
}

/// Replaces `len` bytes from `offset` on, as far as the file has them, each by what `new` makes of it and of its
/// place.
fn overwrite(files: &mut Files, name: &str, offset: usize, len: usize, new: impl Fn(u8, usize) -> u8) {
    let Some(bytes) = files.get_mut(name) else { return };
    let end = (offset + len).min(bytes.len());
    for (at, byte) in bytes.iter_mut().enumerate().take(end).skip(offset) {
        *byte = new(*byte, at);
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Flip { segment, offset, bit } => write!(f, "flip,{segment},{offset},{bit}"),
            Damage::Zeros { segment, offset, len } => write!(f, "zeros,{segment},{offset},{len}"),
            Damage::Ones { segment, offset, len } => write!(f, "ones,{segment},{offset},{len}"),
            Damage::Stale { segment, offset, len } => write!(f, "stale,{segment},{offset},{len}"),
            Damage::Copied { segment, offset, len, from, from_offset } => {
                write!(f, "copied,{segment},{offset},{len},{from},{from_offset}")
            }
            Damage::Cut { segment, len } => write!(f, "cut,{segment},{len}"),
            Damage::Grown { segment, len } => write!(f, "grown,{segment},{len}"),
            Damage::Missing { segment } => write!(f, "missing,{segment}"),
            Damage::Renamed { segment, name } => write!(f, "renamed,{segment},{name}"),
            Damage::Duplicated { segment, name } => write!(f, "duplicated,{segment},{name}"),
            Damage::Swapped { segment, other } => write!(f, "swapped,{segment},{other}"),
            Damage::Both(one, two) => write!(f, "{one}+{two}"),
        }
    }
}

impl FromStr for Damage {
    type Err = String;

    fn from_str(text: &str) -> Result<Damage, String> {
        if let Some((one, two)) = text.split_once('+') {
            return Ok(Damage::Both(Box::new(one.parse()?), Box::new(two.parse()?)));
        }
        let wrong = || format!("`{text}` names no damage");
        let words: Vec<&str> = text.split(',').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).ok_or_else(wrong);
        let name = |at: usize| words.get(at).map(|word| (*word).to_owned()).ok_or_else(wrong);
        let segment = number(1)?;
        let run = || Ok::<_, String>((number(2)?, number(3)?));
        Ok(match words[0] {
            "flip" => Damage::Flip { segment, offset: number(2)?, bit: number(3)? as u8 % 8 },
            "zeros" => run().map(|(offset, len)| Damage::Zeros { segment, offset, len })?,
            "ones" => run().map(|(offset, len)| Damage::Ones { segment, offset, len })?,
            "stale" => run().map(|(offset, len)| Damage::Stale { segment, offset, len })?,
            "copied" => {
                let ((offset, len), from, from_offset) = (run()?, number(4)?, number(5)?);
                Damage::Copied { segment, offset, len, from, from_offset }
            }
            "cut" => Damage::Cut { segment, len: number(2)? },
            "grown" => Damage::Grown { segment, len: number(2)? },
            "missing" => Damage::Missing { segment },
            "renamed" => Damage::Renamed { segment, name: name(2)? },
            "duplicated" => Damage::Duplicated { segment, name: name(2)? },
            "swapped" => Damage::Swapped { segment, other: number(2)? },
            _ => return Err(wrong()),
        })
    }
}

/// Bytes that a device writes at once.
const SECTOR: usize = 512;
/// Bytes that a file system writes at once.
const BLOCK: usize = 4096;

/// Every single damage to `log`.
pub(super) fn all(log: &Log) -> Vec<Damage> {
    let mut all = Vec::new();
    for segment in 0..log.segments.len() {
        flips(log, segment, &mut all);
        runs(log, segment, &mut all);
        misplaced(log, segment, SECTOR, &mut all);
        misplaced(log, segment, BLOCK, &mut all);
        let len = log.segments[segment].bytes.len();
        all.extend((0..len).map(|len| Damage::Cut { segment, len }));
        let grown = [len + 1, len + 31, len.next_multiple_of(BLOCK) + BLOCK, len + 3 * BLOCK];
        all.extend(grown.map(|len| Damage::Grown { segment, len }));
        names(log, segment, &mut all);
    }
    all
}

fn flips(log: &Log, segment: usize, all: &mut Vec<Damage>) {
    for offset in 0..log.segments[segment].bytes.len() {
        all.extend((0..8).map(|bit| Damage::Flip { segment, offset, bit }));
    }
}

/// Every sector, and every run of whole blocks.
fn runs(log: &Log, segment: usize, all: &mut Vec<Damage>) {
    let len = log.segments[segment].bytes.len();
    let sectors = (0..len).step_by(SECTOR).map(|offset| (offset, SECTOR));
    let blocks = (0..len).step_by(BLOCK).flat_map(|offset| {
        (offset + BLOCK..len + BLOCK).step_by(BLOCK).map(move |end| (offset, end - offset))
    });
    for (offset, len) in sectors.chain(blocks) {
        all.push(Damage::Zeros { segment, offset, len });
        all.push(Damage::Ones { segment, offset, len });
        all.push(Damage::Stale { segment, offset, len });
    }
}

/// Every sector, or block, replaced by every other one of the log.
fn misplaced(log: &Log, segment: usize, len: usize, all: &mut Vec<Damage>) {
    for offset in (0..log.segments[segment].bytes.len()).step_by(len) {
        for (from, source) in log.segments.iter().enumerate() {
            for from_offset in (0..source.bytes.len()).step_by(len) {
                if (from, from_offset) != (segment, offset) {
                    all.push(Damage::Copied { segment, offset, len, from, from_offset });
                }
            }
        }
    }
}

/// The file gone, under every other name that may mean something, there twice, and overwritten by another.
fn names(log: &Log, segment: usize, all: &mut Vec<Damage>) {
    all.push(Damage::Missing { segment });
    let next = log.records.len() as u64 + 1;
    let taken = |name: &String| log.segments.iter().any(|other| other.name == *name);
    let free = (0..next + 3).chain([1000, u64::MAX]).map(name_of).filter(|name| !taken(name));
    let others = ["7.prep", "a copy of it.wal", "LOCK.old"].map(str::to_owned);
    let torn = format!("{}-1.torn", name_of(1).trim_end_matches(".wal"));
    for name in free.chain(others).chain([torn]) {
        all.push(Damage::Renamed { segment, name: name.clone() });
        all.push(Damage::Duplicated { segment, name });
    }
    for (other, over) in log.segments.iter().enumerate().filter(|(other, _)| *other != segment) {
        all.push(Damage::Renamed { segment, name: over.name.clone() });
        all.push(Damage::Duplicated { segment, name: over.name.clone() });
        if segment < other {
            all.push(Damage::Swapped { segment, other });
        }
    }
}

/// One flipped bit in each field of each header and entry, at both ends of what it holds, and where nothing is.
pub(super) fn each_field(log: &Log) -> Vec<Damage> {
    // Where the fields of a segment header and of an entry header begin: the tables of `docs/format.md`.
    const HEADER: [usize; 24] =
        [0, 4, 5, 6, 8, 23, 24, 32, 36, 40, 48, 56, 64, 72, 76, 77, 80, 88, 89, 90, 92, 347, 348, 4092];
    const ENTRY: [usize; 8] = [0, 8, 16, 20, 21, 22, 24, 28];
    let mut all = Vec::new();
    for (segment, file) in log.segments.iter().enumerate() {
        let mut offsets = HEADER.to_vec();
        for span in &file.spans {
            let (start, end) = (span.bytes.start as usize, span.bytes.end as usize);
            offsets.extend(ENTRY.map(|field| start + field));
            offsets.extend([start + 32, start + 40, end - 8, end - 1].into_iter().filter(|at| *at < end));
        }
        offsets.extend((file.written as usize..file.bytes.len()).step_by(256));
        let bit = |offset: usize| (offset / 8 % 8) as u8;
        all.extend(offsets.into_iter().map(|offset| Damage::Flip { segment, offset, bit: bit(offset) }));
    }
    all
}

/// The damages of which two may come together: a file gets a name that another reads as its own only alone.
pub(super) fn pairable(all: &[Damage]) -> Vec<&Damage> {
    // Most of all damages are flips; each kind is to meet each.
    let (flips, others): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|damage| !matches!(damage, Damage::Renamed { .. } | Damage::Duplicated { .. }))
        .partition(|damage| matches!(damage, Damage::Flip { .. }));
    let step = (flips.len() / others.len().max(1)).max(1);
    flips.into_iter().step_by(step).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_damage_means_that_damage() {
        for log in Log::all() {
            let all = all(&log);
            for damage in all.iter().step_by(97).chain(all.iter().rev().take(200)) {
                assert_eq!(damage.to_string().parse().as_ref(), Ok(damage));
            }
            let both = Damage::Both(Box::new(all[0].clone()), Box::new(all[all.len() - 1].clone()));
            assert_eq!(both.to_string().parse(), Ok(both));
        }
        assert!("flip,0".parse::<Damage>().is_err());
    }
}
