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
