//! Every peer gives back what it was given, and the yardsticks too: a comparison with a log that forgets is none.

use std::thread;

use braidlog_benches::scratch;

use super::{Appender, Peer, Setup};
use crate::record::{Source, Tally};

/// Records of each thread: enough to fill several buffers of the yardsticks.
const RECORDS: u64 = 20_000;
/// The same where each is waited for.
const DURABLE_RECORDS: u64 = 50;

/// How a test appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Async,
    Durable,
    Batches,
}

/// Appends from some threads, flushes, closes, and reads back.
fn assert_holds_every_record<P: Peer>(variant: &'static str, how: How, threads: u32) {
    let record_bytes = 128;
    let setup =
        Setup { threads, record_bytes, durable: how != How::Async, batches: how == How::Batches, variant };
    let records = if how == How::Async { RECORDS } else { DURABLE_RECORDS };
    let dir = scratch::directory(None).unwrap();

    let peer = P::open(dir.path(), &setup).unwrap();
    thread::scope(|scope| {
        for thread in 0..threads {
            let mut appender = peer.appender(thread).unwrap();
            scope.spawn(move || {
                let mut source = Source::new(thread, record_bytes);
                match how {
                    How::Async => (0..records).for_each(|_| appender.append(source.make()).unwrap()),
                    How::Durable => {
                        (0..records).for_each(|_| appender.append_durable(source.make()).unwrap())
                    }
                    How::Batches => (0..records / 10).for_each(|_| {
                        let batch: Vec<Vec<u8>> = (0..10).map(|_| source.make().to_vec()).collect();
                        appender.append_batch_durable(&batch).unwrap();
                    }),
                }
                appender.finish().unwrap();
            });
        }
    });
    peer.flush().unwrap();
    peer.close().unwrap();

    let mut tally = Tally::new(&vec![records; threads as usize], record_bytes);
    P::replay(dir.path(), &setup, |record| tally.take(record)).unwrap();
    let check = tally.finish();
    assert!(check.is_right() && check.read == records * u64::from(threads), "{check:?}");
}

#[test]
fn mutexvec_holds_every_record() {
    assert_holds_every_record::<super::mutexvec::MutexVec>("", How::Async, 4);
}

#[test]
fn directvec_holds_every_record() {
    assert_holds_every_record::<super::directvec::DirectVec>("", How::Async, 4);
}

#[test]
fn groupcommit_holds_every_record() {
    assert_holds_every_record::<super::groupcommit::GroupCommit>("", How::Durable, 4);
    assert_holds_every_record::<super::groupcommit::GroupCommit>("", How::Batches, 4);
}

#[test]
fn raw_device_holds_every_record() {
    assert_holds_every_record::<super::raw::Stream>("stream", How::Async, 1);
    assert_holds_every_record::<super::raw::Sync>("fdatasync", How::Durable, 1);
    assert_holds_every_record::<super::raw::Sync>("direct", How::Durable, 1);
}

#[test]
fn braidlog_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::braidlog::Braidlog>("", how, 4);
    }
}

#[test]
fn parse_loop_reads_every_record_of_braidlog() {
    assert_holds_every_record::<super::parse_loop::ParseLoop>("", How::Async, 4);
}

#[cfg(feature = "aletheiadb")]
#[test]
fn aletheiadb_holds_every_record() {
    assert_holds_every_record::<super::aletheiadb::Aletheiadb>("async", How::Async, 4);
    for how in [How::Durable, How::Batches] {
        assert_holds_every_record::<super::aletheiadb::Aletheiadb>("gc-1ms", how, 4);
        assert_holds_every_record::<super::aletheiadb::Aletheiadb>("sync", how, 4);
    }
}

#[cfg(feature = "commitlog")]
#[test]
fn commitlog_holds_every_record() {
    assert_holds_every_record::<super::commitlog::Commitlog>("", How::Async, 4);
}

#[cfg(feature = "fjall")]
#[test]
fn fjall_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::fjall::Fjall>("", how, 4);
    }
}

#[cfg(feature = "okaywal")]
#[test]
fn okaywal_holds_every_record() {
    assert_holds_every_record::<super::okaywal::Okaywal>("", How::Durable, 4);
    assert_holds_every_record::<super::okaywal::Okaywal>("", How::Batches, 4);
}

#[cfg(feature = "open-wal")]
#[test]
fn open_wal_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::open_wal::InMutex>("", how, 4);
    }
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::open_wal::Queued>("", how, 4);
    }
}

#[cfg(feature = "oxirs-vec")]
#[test]
fn oxirs_vec_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::oxirs_vec::OxirsVec>("", how, 4);
    }
}

#[cfg(feature = "raft-engine")]
#[test]
fn raft_engine_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::raft_engine::RaftEngine>("", how, 4);
    }
}

#[cfg(feature = "redb")]
#[test]
fn redb_holds_every_record() {
    assert_holds_every_record::<super::redb::Redb>("", How::Durable, 4);
    assert_holds_every_record::<super::redb::Redb>("", How::Batches, 4);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::rocksdb::Rocksdb>("", how, 4);
    }
}

#[cfg(feature = "sled")]
#[test]
fn sled_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::sled::Sled>("", how, 4);
    }
}

#[cfg(feature = "wal-db")]
#[test]
fn wal_db_holds_every_record() {
    for how in [How::Async, How::Durable, How::Batches] {
        assert_holds_every_record::<super::wal_db::WalDb>("", how, 4);
    }
}
