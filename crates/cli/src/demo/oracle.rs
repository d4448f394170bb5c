//! What a log of these lines may and must hold, known without looking at any of the log's files.

use std::collections::{BTreeMap, HashMap};

use crate::failure::Failure;

/// One line of `braidlog write --ack`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// From 1.
    pub line: usize,
    /// Where the log says it is.
    pub lsn: u64,
}

impl Acknowledged {
    /// Reads `line-number<TAB>LSN`.
    pub fn parse(text: &[u8]) -> Result<Acknowledged, Failure> {
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split_once('\t'))
            .and_then(|(line, lsn)| Some(Acknowledged { line: line.parse().ok()?, lsn: lsn.parse().ok()? }))
            .ok_or_else(|| {
                Failure::Failed(format!("write printed no acknowledgement: {}", text.escape_ascii()))
            })
    }
}

/// A record that was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its LSN.
    pub lsn: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// The input, and what was acknowledged of it.
pub struct Oracle<'a> {
    /// Every line with how often it occurs.
    input: HashMap<&'a [u8], usize>,
    lines: Vec<&'a [u8]>,
    /// The line that was promised at each LSN.
    promised: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Oracle<'a> {
    /// For a log that is to hold `lines`.
    pub fn new(lines: &[&'a [u8]]) -> Oracle<'a> {
        let mut input = HashMap::new();
        for line in lines {
            *input.entry(*line).or_default() += 1;
        }
        Oracle { input, lines: lines.to_vec(), promised: BTreeMap::new() }
    }

    /// Takes down acknowledgements of `lines`.
    ///
    /// # Errors
    /// If one names a line that was not written, or one LSN was given to two lines.
    pub fn acknowledge(&mut self, lines: &[&'a [u8]], acknowledged: &[Acknowledged]) -> Result<(), String> {
        for Acknowledged { line, lsn } in acknowledged {
            let text = line
                .checked_sub(1)
                .and_then(|index| lines.get(index))
                .ok_or_else(|| format!("line {line} was acknowledged and never written"))?;
            if self.promised.insert(*lsn, text).is_some() {
                return Err(format!("LSN {lsn} was acknowledged twice"));
            }
        }
        Ok(())
    }

    /// How many lines were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.promised.len() as u64
    }

    /// Checks what was found in the log.
    ///
    /// # Errors
    /// The first promise that is broken: a gap or a double in the LSNs, a record that was never written or
    /// more often than it was written, an acknowledged line that is lost or stands elsewhere.
    pub fn check(&self, found: &[Found]) -> Result<(), String> {
        let mut left = self.input.clone();
        for (record, expected) in found.iter().zip(1..) {
            if record.lsn != expected {
                return Err(format!("LSN {} stands where LSN {expected} belongs", record.lsn));
            }
            match left.get_mut(record.payload.as_slice()) {
                None => return Err(format!("LSN {expected} holds what was never written")),
                Some(0) => {
                    return Err(format!("LSN {expected} repeats a line more often than it was written"));
                }
                Some(left) => *left -= 1,
            }
        }
        for (lsn, line) in &self.promised {
            let record = usize::try_from(*lsn - 1).ok().and_then(|index| found.get(index));
            match record {
                None => return Err(format!("LSN {lsn} was acknowledged and is lost")),
                Some(record) if record.payload != *line => {
                    return Err(format!("LSN {lsn} was acknowledged for another line"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The lines that `found` lacks, in the order of the input.
    pub fn missing(&self, found: &[Found]) -> Vec<&'a [u8]> {
        let mut there: HashMap<&[u8], usize> = HashMap::new();
        for record in found {
            *there.entry(&record.payload).or_default() += 1;
        }
        let is_missing = |line: &&[u8]| match there.get_mut(*line) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        self.lines.iter().copied().filter(is_missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&[u8]; 4] = [b"a", b"b", b"a", b"c"];

    fn found(payloads: &[&[u8]]) -> Vec<Found> {
        payloads.iter().zip(1..).map(|(payload, lsn)| Found { lsn, payload: payload.to_vec() }).collect()
    }

    fn oracle(acknowledged: &[(usize, u64)]) -> Oracle<'static> {
        let mut oracle = Oracle::new(&LINES);
        let acknowledged: Vec<_> =
            acknowledged.iter().map(|(line, lsn)| Acknowledged { line: *line, lsn: *lsn }).collect();
        oracle.acknowledge(&LINES, &acknowledged).unwrap();
        oracle
    }

    #[test]
    fn a_log_that_keeps_every_promise_passes() {
        let oracle = oracle(&[(2, 1), (3, 2)]);
        oracle.check(&found(&[b"b", b"a"])).unwrap();
        oracle.check(&found(&[b"b", b"a", b"c", b"a"])).unwrap();
        assert_eq!(oracle.missing(&found(&[b"b", b"a"])), [b"a", b"c"]);
        assert!(oracle.missing(&found(&[b"b", b"a", b"c", b"a"])).is_empty());
    }

    #[test]
    fn each_broken_promise_is_found() {
        let oracle = oracle(&[(2, 1), (3, 2)]);
        let broken: [(&[&[u8]], &str); 4] = [
            (&[b"b"], "LSN 2 was acknowledged and is lost"),
            (&[b"a", b"b"], "LSN 1 was acknowledged for another line"),
            (&[b"b", b"a", b"x"], "LSN 3 holds what was never written"),
            (&[b"b", b"a", b"c", b"c"], "LSN 4 repeats a line more often than it was written"),
        ];
        for (payloads, message) in broken {
            assert_eq!(oracle.check(&found(payloads)).unwrap_err(), message);
        }
        let mut gap = found(&[b"b", b"a", b"c"]);
        gap[2].lsn = 4;
        assert_eq!(oracle.check(&gap).unwrap_err(), "LSN 4 stands where LSN 3 belongs");
        gap[2].lsn = 2;
        assert_eq!(oracle.check(&gap).unwrap_err(), "LSN 2 stands where LSN 3 belongs");
    }

    #[test]
    fn an_acknowledgement_that_cannot_be_true_is_refused() {
        let mut oracle = Oracle::new(&LINES);
        let first = [Acknowledged { line: 1, lsn: 7 }];
        oracle.acknowledge(&LINES, &first).unwrap();
        assert_eq!(oracle.acknowledge(&LINES, &first).unwrap_err(), "LSN 7 was acknowledged twice");
        for line in [0, 5] {
            assert!(oracle.acknowledge(&LINES, &[Acknowledged { line, lsn: 9 }]).is_err());
        }
        assert!(Acknowledged::parse(b"3\t4").is_ok());
        assert!(Acknowledged::parse(b"3 4").is_err() && Acknowledged::parse(b"3\t").is_err());
    }
}
