//! Models of the writes in flight, with the thread's own body: a sync covers every write that was handed over,
//! and nothing is written or synced behind one that failed.

use std::io::{self, Result};
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_storage::{AlignedBuf, IO_ALIGN, LogFile};

use super::model;
use super::small_log;
use crate::flight::{self, Target};
use crate::primitive::atomic::{AtomicU64, Ordering::Relaxed};
use crate::primitive::thread;
use crate::rung::Rung;

/// A file of blocks that remembers which of them are written, and refuses one.
#[derive(Debug)]
struct Remembering {
    /// A bit for each block.
    written: AtomicU64,
    /// The offset that is refused.
    refused: u64,
}

impl LogFile for Remembering {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        if offset == self.refused {
            return Err(io::Error::other("refused"));
        }
        let block = offset / IO_ALIGN as u64;
        assert_eq!(buf[0], block as u8, "the bytes that were handed over for this place");
        let before = self.written.fetch_or(1 << block, Relaxed);
        assert_eq!(before & (1 << block), 0, "a block is written twice");
        Ok(buf.len())
    }

    fn len(&self) -> Result<u64> {
        unreachable!("nobody asks")
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        unreachable!("nobody reads")
    }

    fn allocate(&self, _len: u64) -> Result<()> {
        unreachable!("nobody allocates")
    }

    fn set_len(&self, _len: u64) -> Result<()> {
        unreachable!("nobody cuts")
    }

    fn sync_data(&self) -> Result<()> {
        unreachable!("nobody syncs")
    }

    fn sync_all(&self) -> Result<()> {
        unreachable!("nobody syncs")
    }

    fn drop_cache(&self) -> Result<()> {
        unreachable!("nobody drops")
    }
}

/// Hands blocks over one after another until one is refused, and settles; the bits of the blocks handed over and of
/// those written, and whether all went well.
fn hand_over(blocks: u64, refused_block: u64, ends_early: bool) -> (u64, u64, bool) {
    let (engine, _disk) = small_log::open();
    let refused = refused_block * IO_ALIGN as u64;
    let file = Arc::new(Remembering { written: AtomicU64::new(0), refused });
    let target = Arc::new(Target { file: Arc::clone(&file) as Arc<dyn LogFile>, name: "file".to_owned() });
    let writing = {
        engine.shared.flight.connect();
        let engine = Arc::clone(&engine);
        thread::spawn(move || flight::run(&engine.shared))
    };
    let flight = &engine.shared.flight;
    let mut buffer = AlignedBuf::zeroed(IO_ALIGN);
    let mut handed_over = 0;
    let mut done = Ok(());
    for block in 0..blocks {
        if ends_early && block + 1 == blocks {
            flight.end();
        }
        buffer[0] = block as u8;
        done = flight.hand_over(&engine.shared, &target, &mut buffer, IO_ALIGN, block * IO_ALIGN as u64);
        if done.is_err() {
            break;
        }
        handed_over |= 1 << block;
    }
    let settled = done.and_then(|()| flight.settle()).is_ok();
    // What a sync would cover now.
    let written = file.written.load(Relaxed);
    flight.end();
    writing.join().unwrap();
    assert_eq!(file.written.load(Relaxed), written, "nothing is written behind the end of a wait for all");
    (handed_over, written, settled)
}

#[test]
fn loom_written_is_told_behind_every_write_of_the_round() {
    model(|| {
        let (engine, _disk) = small_log::open();
        let file = Arc::new(Remembering { written: AtomicU64::new(0), refused: u64::MAX });
        let target =
            Arc::new(Target { file: Arc::clone(&file) as Arc<dyn LogFile>, name: "file".to_owned() });
        engine.shared.flight.connect();
        let writing = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || flight::run(&engine.shared))
        };
        let flight = &engine.shared.flight;
        let look = || {
            let told = engine.watermark(Rung::Written).0;
            let blocks = file.written.load(Relaxed);
            assert!(blocks & 1 == 1 || told < 1, "told before the only write of the first round");
            assert!(blocks == 0b111 || told < 2, "told before the last write of the second round");
            told
        };
        let mut buffer = AlignedBuf::zeroed(IO_ALIGN);
        for block in 0..2 {
            buffer[0] = block;
            flight.hand_over(&engine.shared, &target, &mut buffer, IO_ALIGN, u64::from(block) << 12).unwrap();
            if block == 0 {
                flight.round_ends(&engine.shared, Lsn(1));
            }
            look();
        }
        // The end of the second round is written here, while what comes before it may be in flight.
        buffer[0] = 2;
        target.write(&engine.shared, &buffer, 2 << 12).unwrap();
        flight.round_ends(&engine.shared, Lsn(2));
        look();
        flight.settle().unwrap();
        assert_eq!(look(), 2, "who syncs now tells that it is written");
        flight.end();
        writing.join().unwrap();
    });
}

#[test]
fn loom_written_is_not_told_behind_a_write_that_failed() {
    model(|| {
        let (engine, _disk) = small_log::open();
        let file = Arc::new(Remembering { written: AtomicU64::new(0), refused: 0 });
        let target =
            Arc::new(Target { file: Arc::clone(&file) as Arc<dyn LogFile>, name: "file".to_owned() });
        engine.shared.flight.connect();
        let writing = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || flight::run(&engine.shared))
        };
        let flight = &engine.shared.flight;
        let mut buffer = AlignedBuf::zeroed(IO_ALIGN);
        flight.hand_over(&engine.shared, &target, &mut buffer, IO_ALIGN, 0).unwrap();
        flight.round_ends(&engine.shared, Lsn(1));
        assert!(flight.settle().is_err());
        flight.round_ends(&engine.shared, Lsn(2));
        flight.end();
        writing.join().unwrap();
        assert_eq!(engine.watermark(Rung::Written), Lsn(0));
    });
}

#[test]
fn loom_sync_covers_every_write_that_was_handed_over() {
    // One buffer more than there are, so that the last waits for one.
    model(|| {
        let (handed_over, written, settled) = hand_over(3, u64::MAX / IO_ALIGN as u64, false);
        assert!(settled);
        assert_eq!((handed_over, written), (0b111, 0b111));
    });
}

#[test]
fn loom_thread_that_ends_leaves_no_write_behind() {
    model(|| {
        let (handed_over, written, settled) = hand_over(2, u64::MAX / IO_ALIGN as u64, true);
        assert!(settled);
        assert_eq!((handed_over, written), (0b11, 0b11));
    });
}

#[test]
fn loom_nothing_is_written_behind_a_write_that_failed() {
    model(|| {
        let (_, written, settled) = hand_over(3, 1, false);
        assert!(!settled, "a write failed, and nobody was told");
        assert_eq!(written, 0b001);
    });
}
