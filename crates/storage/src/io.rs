//! Whole reads and writes over calls that may be short or interrupted.

use std::io::{Error, ErrorKind, Result};

use crate::LogFile;

/// Writes all of `buf` at `offset`: short writes go on where they stopped, interrupted ones again.
///
/// # Errors
/// The first other error, with no word on how many bytes were written; `WriteZero` if the file takes none.
pub fn write_all_at(file: &dyn LogFile, mut buf: &[u8], mut offset: u64) -> Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(Error::new(ErrorKind::WriteZero, "the file took no bytes")),
            Ok(written) => {
                buf = &buf[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at `offset` until `buf` is full or the file ends; how many bytes were read.
///
/// # Errors
/// The first error that is not `Interrupted`.
pub fn read_full_at(file: &dyn LogFile, buf: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether an error says that the device or the quota has no space left: the one failure of a write that
/// heals.
pub fn is_no_space(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// A file that answers reads and writes from a list.
    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<Result<usize>>>);

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = Result<usize>>) -> Scripted {
            Scripted(Mutex::new(answers.into_iter().collect()))
        }

        fn answer(&self, len: usize) -> Result<usize> {
            let answer = self.0.lock().unwrap().pop_front().expect("no further call")?;
            assert!(answer <= len, "more than was asked for");
            Ok(answer)
        }
    }

    impl LogFile for Scripted {
        fn len(&self) -> Result<u64> {
            unreachable!()
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
            let count = self.answer(buf.len())?;
            for (byte, value) in buf[..count].iter_mut().zip(offset..) {
                *byte = value as u8;
            }
            Ok(count)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
            assert_eq!(u64::from(buf[0]), offset, "the bytes that belong at this offset");
            self.answer(buf.len())
        }
        fn allocate(&self, _len: u64) -> Result<()> {
            unreachable!()
        }
        fn set_len(&self, _len: u64) -> Result<()> {
            unreachable!()
        }
        fn sync_data(&self) -> Result<()> {
            unreachable!()
        }
        fn sync_all(&self) -> Result<()> {
            unreachable!()
        }
        fn drop_cache(&self) -> Result<()> {
            unreachable!()
        }
    }

    fn interrupted() -> Result<usize> {
        Err(ErrorKind::Interrupted.into())
    }

    #[test]
    fn short_and_interrupted_calls_go_on_where_they_stopped() {
        let bytes: Vec<u8> = (5..15).collect();
        let answers = || [interrupted(), Ok(3), Ok(1), interrupted(), Ok(6)];
        write_all_at(&Scripted::new(answers()), &bytes, 5).unwrap();
        let mut read = [0; 10];
        assert_eq!(read_full_at(&Scripted::new(answers()), &mut read, 5).unwrap(), 10);
        assert_eq!(read[..], bytes[..]);
    }

    #[test]
    fn a_read_stops_at_the_end_and_a_write_that_is_not_taken_fails() {
        let mut read = [0; 10];
        assert_eq!(read_full_at(&Scripted::new([Ok(4), Ok(0)]), &mut read, 0).unwrap(), 4);
        let error = write_all_at(&Scripted::new([Ok(1), Ok(0)]), &[0, 1], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
    }

    #[test]
    fn the_first_other_error_is_the_answer() {
        let broken = || Scripted::new([Ok(1), Err(ErrorKind::StorageFull.into())]);
        assert!(is_no_space(&write_all_at(&broken(), &[0, 1, 2], 0).unwrap_err()));
        assert!(is_no_space(&read_full_at(&broken(), &mut [0; 3], 0).unwrap_err()));
        assert!(!is_no_space(&ErrorKind::Other.into()));
    }
}
