//! Cuts a stream of bytes into lines, several at a time.
//!
//! Lines are bytes without their newline; what stands after the last newline is a line too. A line that is
//! complete is never held back while the stream is waited for (only a batch that is not full is), so that
//! somebody who types gets an answer. Memory is bounded: a line longer than a record may be is refused.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use crate::failure::Failure;
use crate::output;

/// The longest line: what a log with default options takes as one record.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How many bytes are gathered before a chunk that is no batch is handed on.
const CHUNK_BYTES_MAX: usize = 256 << 10;
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Some consecutive lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The number of the first line, from 1.
    pub first_line: u64,
    bytes: Vec<u8>,
    /// Where each line ends in `bytes`.
    ends: Vec<usize>,
}

impl Chunk {
    /// Each line with its number.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(self.ends.iter().copied());
        (self.first_line..).zip(ranges.map(|(start, end)| &self.bytes[start..end]))
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all lines.
    pub fn payload_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The lines of a stream.
pub struct Lines<R> {
    source: BufReader<R>,
    name: String,
    chunk_lines_max: usize,
    hold: bool,
    lines_read: u64,
}

impl<R: Read> Lines<R> {
    /// Lines of `source`, called `name` in messages, in chunks of at most `chunk_lines_max`; with `hold` each
    /// chunk but the last holds exactly that many.
    pub fn new(source: R, name: &str, chunk_lines_max: usize, hold: bool) -> Lines<R> {
        Lines {
            source: BufReader::with_capacity(READ_BUFFER_BYTES, source),
            name: name.to_string(),
            chunk_lines_max,
            hold,
            lines_read: 0,
        }
    }

    /// The next chunk; `None` at the end. Nothing follows an error.
    pub fn next_chunk(&mut self) -> Option<Result<Chunk, Failure>> {
        let mut chunk = Chunk { first_line: self.lines_read + 1, ..Chunk::default() };
        while chunk.len() < self.chunk_lines_max {
            let waits = !self.source.buffer().contains(&b'\n');
            let full = waits || chunk.bytes.len() >= CHUNK_BYTES_MAX;
            if !self.hold && full && chunk.len() > 0 {
                break;
            }
            match self.read_line(&mut chunk.bytes) {
                Ok(true) => {
                    chunk.ends.push(chunk.bytes.len());
                    self.lines_read += 1;
                }
                Ok(false) => break,
                Err(failure) => return Some(Err(failure)),
            }
        }
        (chunk.len() > 0).then_some(Ok(chunk))
    }

    /// Appends the next line to `line`; false at the end of the stream.
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Failure> {
        let start = line.len();
        let mut any = false;
        loop {
            let buffer = match self.source.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::of(&self.name, error)),
            };
            if buffer.is_empty() {
                return Ok(any);
            }
            any = true;
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or(buffer.len());
            if line.len() - start + taken > LINE_BYTES_MAX {
                return Err(Failure::Failed(format!(
                    "{}: line {} is longer than the {} that a record may have; split it",
                    self.name,
                    self.lines_read + 1,
                    output::bytes(LINE_BYTES_MAX as u64)
                )));
            }
            line.extend_from_slice(&buffer[..taken]);
            self.source.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8], chunk_lines: usize, hold: bool) -> Vec<Vec<(u64, Vec<u8>)>> {
        let mut lines = Lines::new(text, "text", chunk_lines, hold);
        std::iter::from_fn(|| lines.next_chunk())
            .map(|chunk| chunk.unwrap().lines().map(|(number, line)| (number, line.to_vec())).collect())
            .collect()
    }

    #[test]
    fn every_line_is_given_once_with_its_number() {
        let expected: Vec<(u64, Vec<u8>)> =
            vec![(1, b"a".to_vec()), (2, vec![]), (3, b"\xffb\r".to_vec()), (4, b"end".to_vec())];
        for chunk_lines in 1..6 {
            for hold in [false, true] {
                assert_eq!(cut(b"a\n\n\xffb\r\nend", chunk_lines, hold).concat(), expected);
            }
        }
        assert!(cut(b"", 3, true).is_empty());
        assert_eq!(cut(b"\n", 3, false), vec![vec![(1, vec![])]]);
    }

    #[test]
    fn a_batch_holds_exactly_its_lines_but_the_last() {
        let sizes: Vec<usize> = cut(b"1\n2\n3\n4\n5\n6\n7", 3, true).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 1]);
    }

    /// A stream that gives one piece a read, as a terminal does, and must not be read for a line more.
    struct Typed(Vec<&'static [u8]>);

    impl Read for Typed {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            assert!(!self.0.is_empty(), "read on although a complete line was there to hand over");
            let piece = self.0.remove(0);
            buf[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn a_complete_line_is_not_held_while_the_stream_is_waited_for() {
        let mut lines = Lines::new(Typed(vec![b"one\ntwo\nthr", b"ee\n"]), "typed", 64, false);
        assert_eq!(lines.next_chunk().unwrap().unwrap().len(), 2);
        let chunk = lines.next_chunk().unwrap().unwrap();
        assert_eq!(chunk.lines().collect::<Vec<_>>(), [(3, b"three".as_slice())]);
    }

    #[test]
    fn a_line_over_the_limit_is_refused_with_its_number() {
        let text = b"short\n".chain(std::io::repeat(b'x'));
        let mut lines = Lines::new(text, "endless", 1, false);
        assert_eq!(lines.next_chunk().unwrap().unwrap().len(), 1);
        let failure = lines.next_chunk().unwrap().unwrap_err();
        assert!(failure.message().unwrap().starts_with("endless: line 2 is longer than"), "{failure:?}");
    }
}
