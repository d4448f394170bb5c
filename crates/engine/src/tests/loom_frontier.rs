//! Models of the frontier between the preparer's zeros and the pen: no range of the file is written by both at once,
//! and zeros never follow a record.

use std::io::Result;
use std::sync::Arc;

use braidlog_storage::{AlignedBuf, LogFile};

use super::model;
use crate::preparer::Frontier;
use crate::primitive::atomic::{AtomicU8, Ordering::Relaxed};
use crate::primitive::thread;

const BLOCK: usize = 4096;
/// What a block holds: 0 for zeros.
const RECORD: u8 = 1;
/// Somebody writes the block just now.
const BUSY: u8 = 2;
const FRESH: u8 = 3;

/// A file that notices two writes of a block at once.
#[derive(Debug)]
struct Watched {
    blocks: [AtomicU8; 4],
}

impl Watched {
    fn new() -> Arc<Watched> {
        Arc::new(Watched { blocks: std::array::from_fn(|_| AtomicU8::new(FRESH)) })
    }

    fn holds(&self, block: usize) -> u8 {
        self.blocks[block].load(Relaxed)
    }
}

impl LogFile for Watched {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let first = offset as usize / BLOCK;
        let blocks = &self.blocks[first..first + buf.len() / BLOCK];
        for block in blocks {
            let was = block.swap(BUSY, Relaxed);
            assert_ne!(was, BUSY, "two write one block at once");
            assert!(was != RECORD || buf[0] == RECORD, "zeros over a record");
        }
        for block in blocks {
            block.store(buf[0], Relaxed);
        }
        Ok(buf.len())
    }

    fn len(&self) -> Result<u64> {
        Ok((self.blocks.len() * BLOCK) as u64)
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        unreachable!("nobody reads")
    }

    fn allocate(&self, _len: u64) -> Result<()> {
        Ok(())
    }

    fn set_len(&self, _len: u64) -> Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> Result<()> {
        Ok(())
    }
}

/// Lays zeros in a thread of its own, while `pen` writes with the frontier's leave.
fn check(pen: fn(&Frontier, &dyn Fn(usize))) {
    model(move || {
        let file = Watched::new();
        let end = (file.blocks.len() * BLOCK) as u64;
        let frontier = Arc::new(Frontier::new(Arc::clone(&file) as Arc<dyn LogFile>, 0, end, 0));
        let preparer = {
            let frontier = Arc::clone(&frontier);
            thread::spawn(move || {
                let zeros = AlignedBuf::zeroed(4 * BLOCK);
                frontier.lay_step(&zeros).unwrap();
            })
        };
        let record = [RECORD; BLOCK];
        pen(&frontier, &|block| {
            assert_eq!(file.write_at(&record, (block * BLOCK) as u64).unwrap(), BLOCK);
        });
        preparer.join().unwrap();
        assert_eq!(file.holds(0), RECORD, "zeros over a record");
        assert!((1..4).all(|block| file.holds(block) != BUSY));
    });
}

#[test]
fn loom_pen_and_zeros_never_write_one_range() {
    check(|frontier, write| {
        for block in 0..2 {
            frontier.take_over(((block + 1) * BLOCK) as u64);
            write(block);
        }
    });
}

#[test]
fn loom_seal_follows_the_last_zeros() {
    check(|frontier, write| {
        frontier.take_over(BLOCK as u64);
        write(0);
        frontier.stop();
        // The seal, and what is cut behind it: nobody else writes the file any more.
        (1..4).for_each(write);
    });
}
