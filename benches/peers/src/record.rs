//! The records that every peer is given: each says whose it is and which, so that what comes back can be
//! counted. A record that is lost, doubled, out of its thread's order or changed does not go unseen.

use serde::{Deserialize, Serialize};

/// The least bytes of a record: what says which it is.
pub const RECORD_BYTES_MIN: usize = 24;

/// The words in front: the thread, and the sequence number with a check of both; the number stands at the end again.
const HEAD: usize = 16;

/// One thread's records: a buffer in which the numbers are renewed, so that making one takes a few nanoseconds.
#[derive(Clone, Debug)]
pub struct Source {
    bytes: Vec<u8>,
    thread: u32,
    next: u64,
}

impl Source {
    /// The records of a thread, each of so many bytes.
    ///
    /// # Panics
    /// If that is too few for a record.
    pub fn new(thread: u32, record_bytes: usize) -> Source {
        assert!(record_bytes >= RECORD_BYTES_MIN, "a record has at least {RECORD_BYTES_MIN} bytes");
        let bytes = (0..record_bytes).map(|at| filler(thread, at)).collect();
        Source { bytes, thread, next: 0 }
    }

    /// The next record.
    pub fn make(&mut self) -> &[u8] {
        put(&mut self.bytes, self.thread, self.next);
        self.next += 1;
        &self.bytes
    }

    /// How many were made.
    pub fn made(&self) -> u64 {
        self.next
    }
}

/// Writes the numbers of a record over a buffer that holds one of the same thread.
pub fn put(bytes: &mut [u8], thread: u32, sequence: u64) {
    bytes[..4].copy_from_slice(&thread.to_le_bytes());
    bytes[4..8].copy_from_slice(&check(thread, sequence).to_le_bytes());
    bytes[8..HEAD].copy_from_slice(&sequence.to_le_bytes());
    let end = bytes.len() - 8;
    bytes[end..].copy_from_slice(&sequence.to_le_bytes());
}

fn check(thread: u32, sequence: u64) -> u32 {
    let mixed = (sequence ^ u64::from(thread) << 40 ^ 0xB1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as u32
}

/// No byte equals its neighbours, so that a record that is shifted or torn is seen.
fn filler(thread: u32, at: usize) -> u8 {
    (at as u32).wrapping_mul(0x9D).wrapping_add(thread.wrapping_mul(0x35)) as u8
}

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Records that were read.
    pub read: u64,
    /// Acknowledged records that were not.
    pub missing: u64,
    /// Records that came more than once.
    pub duplicates: u64,
    /// Records that came after a later one of the same thread.
    pub disordered: u64,
    /// Records that no thread wrote so.
    pub damaged: u64,
    /// Records that came though they were not acknowledged. No fault: a failed append may be there.
    pub unacknowledged: u64,
}

impl Check {
    /// Whether all is there, once, in order and unchanged.
    pub fn is_right(&self) -> bool {
        self.missing + self.duplicates + self.disordered + self.damaged == 0
    }

    /// What is wrong, in words; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let counts = [
            (self.missing, "LOST"),
            (self.duplicates, "DUPLICATES"),
            (self.disordered, "OUT OF ORDER"),
            (self.damaged, "DAMAGED"),
        ];
        let told = counts.iter().filter(|(count, _)| *count > 0);
        told.map(|(count, what)| format!("{what}: {count} of {}", self.read + self.missing)).collect()
    }
}

/// Counts what comes back.
#[derive(Debug)]
pub struct Tally {
    threads: Vec<Thread>,
    check: Check,
}

#[derive(Debug)]
struct Thread {
    filler: Vec<u8>,
    acknowledged: u64,
    /// One bit for each sequence number.
    seen: Vec<u64>,
    next: u64,
}

impl Tally {
    /// For records of so many bytes, of which each thread had so many acknowledged.
    pub fn new(acknowledged: &[u64], record_bytes: usize) -> Tally {
        let thread = |(thread, &acknowledged): (usize, &u64)| Thread {
            filler: Source::new(thread as u32, record_bytes).bytes,
            acknowledged,
            seen: vec![0; (acknowledged as usize).div_ceil(64)],
            next: 0,
        };
        Tally { threads: acknowledged.iter().enumerate().map(thread).collect(), check: Check::default() }
    }

    /// Takes a record that came back.
    pub fn take(&mut self, record: &[u8]) {
        self.check.read += 1;
        let Some((thread, sequence)) = identity(&mut self.threads, record) else {
            self.check.damaged += 1;
            return;
        };
        if sequence >= thread.acknowledged {
            self.check.unacknowledged += 1;
            return;
        }
        let (word, bit) = (&mut thread.seen[(sequence / 64) as usize], 1_u64 << (sequence % 64));
        if *word & bit != 0 {
            self.check.duplicates += 1;
        } else if sequence < thread.next {
            self.check.disordered += 1;
        }
        *word |= bit;
        thread.next = thread.next.max(sequence + 1);
    }

    /// How many records were taken.
    pub fn read(&self) -> u64 {
        self.check.read
    }

    /// What is to be said when all have come back.
    pub fn finish(self) -> Check {
        let seen: u64 = self
            .threads
            .iter()
            .flat_map(|thread| &thread.seen)
            .map(|word| u64::from(word.count_ones()))
            .sum();
        let acknowledged: u64 = self.threads.iter().map(|thread| thread.acknowledged).sum();
        Check { missing: acknowledged - seen, ..self.check }
    }
}

/// Whose record this is and which, if it is as it was written.
fn identity<'tally>(threads: &'tally mut [Thread], record: &[u8]) -> Option<(&'tally mut Thread, u64)> {
    let number = u32::from_le_bytes(*record.first_chunk()?);
    let thread = threads.get_mut(number as usize)?;
    if record.len() != thread.filler.len() {
        return None;
    }
    let end = record.len() - 8;
    let sequence = u64::from_le_bytes(*record[8..].first_chunk()?);
    let is_right = record[4..8] == check(number, sequence).to_le_bytes()
        && record[end..] == sequence.to_le_bytes()
        && record[HEAD..end] == thread.filler[HEAD..end];
    is_right.then_some((thread, sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(thread: u32, sequence: u64) -> Vec<u8> {
        let mut source = Source::new(thread, 128);
        source.next = sequence;
        source.make().to_vec()
    }

    #[test]
    fn tally_finds_nothing_wrong_with_records_of_each_thread_in_order() {
        let mut tally = Tally::new(&[2, 70], 128);
        tally.take(&record(1, 0));
        tally.take(&record(0, 0));
        (1..70).for_each(|sequence| tally.take(&record(1, sequence)));
        tally.take(&record(0, 1));
        let check = tally.finish();
        assert_eq!(check, Check { read: 72, ..Check::default() });
        assert!(check.is_right() && check.faults().is_empty());
    }

    #[test]
    fn tally_counts_each_fault_by_its_name() {
        let mut tally = Tally::new(&[5], 128);
        for sequence in [0, 0, 2, 1, 7] {
            tally.take(&record(0, sequence));
        }
        for at in [0, 5, 9, 40, 127] {
            let mut changed = record(0, 4);
            changed[at] ^= 1;
            tally.take(&changed);
        }
        tally.take(&record(0, 4)[..127]);
        tally.take(&[]);
        let expected =
            Check { read: 12, missing: 2, duplicates: 1, disordered: 1, damaged: 7, unacknowledged: 1 };
        let check = tally.finish();
        assert_eq!(check, expected);
        assert!(!check.is_right());
        assert_eq!(check.faults()[0], "LOST: 2 of 14");
    }
}
