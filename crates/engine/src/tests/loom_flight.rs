//! Models of the writes in flight, with the thread's own body: a sync covers every write that was handed over,
//! and nothing is written or synced behind one that failed.

use std::io::{self, Result};
use std::sync::Arc;

use braidlog_storage::{AlignedBuf, IO_ALIGN, LogFile};

use super::model;
use super::small_log;
use crate::flight::{self, Target};
use crate::primitive::atomic::{AtomicU64, Ordering::Relaxed};
use crate::primitive::thread;

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
