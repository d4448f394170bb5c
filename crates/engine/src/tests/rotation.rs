//! What the end of a segment owes to those who wait for what is in it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_sim::{Fault, Op};

use super::small_log::{self, submit};
use crate::coordinator::Want;
use crate::rung::Rung;

/// Tells that it was woken.
struct Bell(mpsc::SyncSender<&'static str>, &'static str);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        let _ = self.0.try_send(self.1);
    }
}

/// The coordinator ended a segment, which made what stood there durable, and had to wait for space for the name of the next
/// one. It kept the role meanwhile, and so a ticket and a subscriber slept on a durable record for as long as the disk
/// was full.
#[test]
fn full_disk_that_holds_up_a_rotation_keeps_nobody_from_what_is_durable() {
    let (engine, disk) = small_log::open_for_threads();
    let shared = &engine.shared;
    let (bell, rung) = mpsc::sync_channel(2);
    let waker = |name| Waker::from(Arc::new(Bell(bell.clone(), name)));
    let first = submit(&engine, 1).unwrap();
    let (mut ticket, mut watch) = (None, None);
    assert!(matches!(
        engine.poll_reached(first, Rung::Durable, &mut ticket, &waker("ticket")),
        Poll::Pending
    ));
    assert!(matches!(engine.poll_beyond(Lsn(0), &mut watch, &waker("subscriber")), Poll::Pending));

    disk.inject(Fault::no_space(Op::Rename).forever());
    let is_over = AtomicBool::new(false);
    let mut woken = thread::scope(|scope| {
        scope.spawn(|| {
            // Nothing asks for a sync: the end of the segment makes it.
            while !is_over.load(Relaxed) {
                let _ = submit(&engine, 2);
                let _ = shared.role().step(shared, Want::Drain);
            }
        });
        let woken = [(), ()].map(|()| rung.recv_timeout(Duration::from_secs(10)).ok());
        is_over.store(true, Relaxed);
        disk.clear_faults();
        woken
    });
    woken.sort();
    assert_eq!(woken, [Some("subscriber"), Some("ticket")]);
    assert!(engine.durable_lsn() >= first);
    engine.close().unwrap();
}

/// The sync at the end of a segment fails: nothing of what stands there may be told as durable, before or after.
#[test]
fn end_of_a_segment_makes_nothing_durable_before_its_sync() {
    let (engine, disk) = small_log::open();
    let shared = &engine.shared;
    disk.inject(Fault::eio(Op::Sync).on("00000000000000000001.wal").forever());
    // Nothing but the end of the segment syncs it. It takes less than a hundred rounds.
    for _ in 0..100 {
        if submit(&engine, 1).is_err() {
            break;
        }
        let _ = shared.role().step(shared, Want::Drain);
    }
    assert!(shared.failure.get().is_some(), "the segment has ended");
    assert_eq!(engine.durable_lsn(), Lsn(0));
}
