//! Streaming transactions that are given up where nothing can be appended: they keep no part of the log once something can.

use std::sync::Arc;

use braidlog::{Append, ErrorKind};
use braidlog_sim::{SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, fill, small};

#[test]
fn an_abort_without_space_lets_the_log_be_cut_when_there_is_some() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    disk.set_capacity(Some(9 << 20));
    let wal = small(&disk, &clock).open(PATH).unwrap();
    fill(&wal, 2);
    let mut tx = wal.begin_streaming().unwrap();
    let begin = tx.begin_lsn();
    let error = loop {
        match tx.append(1, vec![7; 8000]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    drop(tx);
    disk.set_capacity(None);
    fill(&wal, 3);
    // Another transaction: late aborts have their chance.
    let mut other = wal.begin_streaming().unwrap();
    other.append(1, b"x").unwrap();
    other.commit().unwrap();
    fill(&wal, 4);
    wal.flush().unwrap();
    let last = wal.durable_lsn();
    wal.checkpoint(last, |_| Ok(())).unwrap();
    let first = wal.truncate_before(last).unwrap();
    assert!(first > begin, "the log starts at {first}, the transaction that was given up began at {begin}");
}

#[test]
fn an_abort_without_room_lets_the_log_be_cut_though_no_transaction_follows() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = small(&disk, &clock).open(PATH).unwrap();
    fill(&wal, 1);
    let tx = wal.begin_streaming().unwrap();
    let begin = tx.begin_lsn();
    loop {
        match wal.submit_with(Append::new(&[1; 3000])) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                break;
            }
        }
    }
    // Fill to the last bytes.
    while wal.submit_with(Append::new(&[1; 1])).is_ok() {}
    drop(tx);
    fill(&wal, 1);
    wal.maintain().unwrap();
    fill(&wal, 4);
    let last = wal.durable_lsn();
    wal.checkpoint(last, |_| Ok(())).unwrap();
    let first = wal.truncate_before(last).unwrap();
    assert!(first > begin, "the log starts at {first}, the transaction that was given up began at {begin}");
}
