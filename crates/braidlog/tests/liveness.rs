//! Nobody waits for ever: whoever waits is served or told, whatever wakers, clocks and full disks do.
//!
//! The disk is simulated, so that a test can stop it at the moment that matters.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use braidlog::storage::Storage;
use braidlog::{DurabilityMode, ErrorKind, HealthState, Lsn, Ticket, Wal};
use braidlog_sim::{Fault, Op, SimClock, SimDisk};

#[path = "support/one_ring.rs"]
mod one_ring;
#[path = "support/patience.rs"]
mod patience;

use one_ring::one_ring;
use patience::until;

const PATH: &str = "wal";
/// How long a call may take that must return.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of "too many open files", the same on every Unix.
const EMFILE: i32 = 24;
/// An interval that no test sits out.
const HOUR: Duration = Duration::from_secs(3600);

/// Runs what must return.
#[track_caller]
fn returns<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(call()));
    receiver.recv_timeout(PATIENCE).expect("the call returns")
}

fn poll(ticket: &mut Ticket, waker: &Waker) -> Poll<Lsn> {
    Pin::new(ticket).poll(&mut Context::from_waker(waker)).map(Result::unwrap)
}

/// Tells that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_that_is_replaced_may_drop_another_ticket() {
    /// A task that owns a ticket.
    struct Owner(#[expect(dead_code, reason = "it is only dropped")] Mutex<Ticket>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }

    returns(|| {
        let disk = SimDisk::new();
        let wal = one_ring(&disk, DurabilityMode::Async { flush_interval: HOUR }).open(PATH).unwrap();
        let hold = disk.hold_syncs();
        let mut owned = wal.submit(b"owned").unwrap();
        assert!(poll(&mut owned, Waker::noop()).is_pending());
        let owner = Waker::from(Arc::new(Owner(Mutex::new(owned))));
        let mut moved = wal.submit(b"moved").unwrap();
        assert!(poll(&mut moved, &owner).is_pending());
        drop(owner);
        // Another task polls it: the last waker of the first goes, and the ticket that it owns.
        assert!(poll(&mut moved, Waker::noop()).is_pending());
        hold.release();
    });
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_being_served() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the test's");
        }
    }

    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let mut first = wal.submit(b"first").unwrap();
    let mut second = wal.submit(b"second").unwrap();
    let flag = Arc::new(Flag::default());
    assert!(poll(&mut first, &Waker::from(Arc::new(Panics))).is_pending());
    assert!(poll(&mut second, &flag.clone().into()).is_pending());
    hold.release();
    until(|| flag.is_raised());
    wal.append(b"the background thread lives").unwrap();
    until(|| wal.durable_lsn() == Lsn(3));
}

#[test]
fn a_task_that_found_another_at_work_is_woken_without_threads() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::Synchronous).background_threads(false).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let leader = thread::spawn({
        let wal = wal.clone();
        move || wal.append(b"led").unwrap()
    });
    hold.wait_for_held(1);
    let mut ticket = wal.submit(b"too late for that sync").unwrap();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    assert!(poll(&mut ticket, &waker).is_pending());
    hold.release();
    assert_eq!(leader.join().unwrap(), Lsn(1));
    assert!(flag.is_raised(), "nobody else would");
    assert_eq!(poll(&mut ticket, &waker), Poll::Ready(Lsn(2)));
}

#[test]
fn a_clock_that_stands_still_holds_nobody_back_without_threads() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new());
    let options =
        one_ring(&disk, DurabilityMode::group_commit()).background_threads(false).clock(clock.clone());
    let wal = options.open(PATH).unwrap();
    // Two records share a sync that takes its time: a later one may be held back in hope of a second.
    let _first = wal.submit(b"first").unwrap();
    let second = wal.submit(b"second").unwrap();
    let hold = disk.hold_syncs();
    let waiting = thread::spawn(move || second.wait().unwrap());
    hold.wait_for_held(1);
    clock.advance(Duration::from_millis(5));
    hold.release();
    waiting.join().unwrap();
    returns(move || wal.append(b"alone").unwrap());
}

#[test]
fn an_asynchronous_record_is_synced_in_time_in_a_segment_that_ages() {
    let disk = SimDisk::new();
    let options = one_ring(&disk, DurabilityMode::asynchronous()).segment_age_max(Some(HOUR));
    let wal = options.open(PATH).unwrap();
    for lsn in 1..=3 {
        wal.append(b"nobody waits").unwrap();
        until(|| wal.durable_lsn() == Lsn(lsn));
        // Once the mark is written, nothing is due but the next segment, in an hour.
        let reader = options.open_read_only(PATH).unwrap();
        until(|| reader.last_lsn().unwrap() == Lsn(lsn));
    }
}

#[test]
fn the_last_record_of_a_quiet_writer_is_seen_in_a_segment_that_ages() {
    let disk = SimDisk::new();
    let options = one_ring(&disk, DurabilityMode::Synchronous).segment_age_max(Some(HOUR));
    let wal = options.open(PATH).unwrap();
    let reader = options.open_read_only(PATH).unwrap();
    for lsn in 1..=3 {
        wal.append(b"led").unwrap();
        until(|| reader.last_lsn().unwrap() == Lsn(lsn));
    }
}

#[test]
fn a_record_too_large_for_a_full_disk_is_refused_and_others_are_not() {
    for background in [true, false] {
        let disk = SimDisk::new();
        let options = one_ring(&disk, DurabilityMode::Synchronous).background_threads(background);
        let wal = options.open(PATH).unwrap();
        wal.append(b"before").unwrap();
        disk.set_capacity(Some(disk.used_bytes() + (1 << 20)));
        let large = vec![7; 4 << 20];
        assert_eq!(wal.submit(&large).unwrap_err().error().kind(), ErrorKind::NoSpace);
        let handle = wal.clone();
        let refused = returns(move || (handle.append(&large).unwrap_err(), large));
        assert_eq!(refused.0.kind(), ErrorKind::NoSpace);
        assert!(!refused.0.is_indeterminate());
        assert_eq!(wal.append(b"small").unwrap(), Lsn(2));
        disk.set_capacity(None);
        assert_eq!(wal.append(&refused.1).unwrap(), Lsn(3));
    }
}

#[test]
fn a_large_record_whose_file_cannot_be_made_is_refused_and_the_log_goes_on() {
    for background in [true, false] {
        let disk = SimDisk::new();
        let options = one_ring(&disk, DurabilityMode::Synchronous).background_threads(background);
        let wal = options.open(PATH).unwrap();
        wal.append(b"before").unwrap();
        disk.inject(Fault::eio(Op::Create).forever());
        let large = vec![7; 8 << 20];
        let handle = wal.clone();
        let (error, large) = returns(move || (handle.append(&large).unwrap_err(), large));
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(!error.is_indeterminate());
        disk.clear_faults();
        assert_eq!(wal.append(b"small").unwrap(), Lsn(2));
        assert_eq!(wal.append(&large).unwrap(), Lsn(3));
    }
}

#[test]
fn an_aged_segment_stays_while_there_is_no_space_for_the_next() {
    for background in [true, false] {
        let disk = SimDisk::new();
        let clock = Arc::new(SimClock::new());
        let options = one_ring(&disk, DurabilityMode::Synchronous).background_threads(background);
        let options = options.clock(clock.clone()).segment_age_max(Some(Duration::from_secs(1)));
        let wal = options.open(PATH).unwrap();
        wal.append(b"it ages from here").unwrap();
        disk.inject(Fault::no_space(Op::Allocate).forever());
        clock.advance(Duration::from_secs(2));
        // There is room for this one in the aged segment, and only there.
        let handle = wal.clone();
        returns(move || handle.append(b"no space for another file").unwrap());
        assert_eq!(wal.metrics().rotations, 0);
        assert_eq!(wal.health().state, HealthState::Ok);
        disk.clear_faults();
        clock.advance(Duration::from_secs(2));
        wal.append(b"space has returned").unwrap();
        assert_eq!(wal.metrics().rotations, 1);
    }
}

#[test]
fn an_aged_segment_stays_while_the_next_cannot_be_made() {
    // A process that is out of file descriptors when a segment's time is up: there is room in it for all that can
    // hold an LSN, so nothing is wrong with the log. It used to fail for good, and the record with it.
    for background in [true, false] {
        let disk = SimDisk::new();
        let clock = Arc::new(SimClock::new());
        let options = one_ring(&disk, DurabilityMode::Synchronous).background_threads(background);
        let options = options.clock(clock.clone()).segment_age_max(Some(Duration::from_secs(1)));
        let wal = options.open(PATH).unwrap();
        wal.append(b"it ages from here").unwrap();
        disk.inject(Fault::errno(Op::Create, EMFILE).forever());
        clock.advance(Duration::from_secs(2));
        assert_eq!(wal.append(b"there is room for this one").unwrap(), Lsn(2));
        assert_eq!((wal.metrics().rotations, wal.health().state), (0, HealthState::Ok));
        disk.clear_faults();
        clock.advance(Duration::from_secs(2));
        wal.append(b"in a segment of its own").unwrap();
        assert_eq!(wal.metrics().rotations, 1);
    }
}

#[test]
fn without_threads_an_append_is_told_that_no_file_can_be_made() {
    // The round that wants the next file tries once to make it. If it failed, and the room behind the gate was used
    // up, nobody tried again: every append from then on went in circles, also when the fault was over.
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::Synchronous).background_threads(false).open(PATH).unwrap();
    disk.inject(Fault::eio(Op::Create).forever());
    let handle = wal.clone();
    let error = returns(move || {
        loop {
            if let Err(error) = handle.append([1; 1000]) {
                return error;
            }
        }
    });
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(!error.is_indeterminate());
    let accepted = wal.last_lsn();
    assert_eq!(wal.durable_lsn(), accepted);
    assert_eq!(wal.submit([1; 1000]).unwrap_err().error().kind(), ErrorKind::Io);
    disk.clear_faults();
    let handle = wal.clone();
    assert_eq!(returns(move || handle.append([1; 1000]).unwrap()), accepted.next());
    wal.close().unwrap();
}

#[test]
fn a_log_opened_on_a_full_disk_without_direct_io_heals() {
    // Not even the file fits with which the way of I/O is tried. It used to be taken for direct, and the first file
    // for which there was space then failed the log.
    let disk = SimDisk::new();
    disk.set_direct_supported(false);
    disk.inject(Fault::no_space(Op::Create).forever());
    let wal = one_ring(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    assert_eq!(wal.append(b"no").unwrap_err().kind(), ErrorKind::NoSpace);
    disk.clear_faults();
    until(|| wal.health().state != HealthState::NoSpace);
    assert_eq!(wal.append(b"yes").unwrap(), Lsn(1));
    wal.close().unwrap();
}

#[test]
fn a_waker_may_close_a_log_that_another_closes() {
    // A close waits for the background thread, which makes a record durable and wakes its task, which closes the log
    // and waits for that very close. Both used to wait for ever.
    struct Closes(Wal, mpsc::Sender<ErrorKind>);
    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            self.1.send(self.0.close().unwrap_err().kind()).unwrap();
        }
    }

    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let mut ticket = wal.submit(b"awaited").unwrap();
    let (sender, told) = mpsc::channel();
    assert!(poll(&mut ticket, &Arc::new(Closes(wal.clone(), sender)).into()).is_pending());
    hold.wait_for_held(1);
    let handle = wal.clone();
    let closing = thread::spawn(move || handle.close());
    // Only this refusal tells that the close has begun: the rings, which nobody empties meanwhile, fill up as well.
    until(|| wal.submit(b"too late").is_err_and(|error| error.error().kind() == ErrorKind::Closed));
    hold.release();
    returns(move || closing.join().unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), ErrorKind::Closed);
    assert!(ticket.is_durable());
    wal.close().unwrap();
}

#[test]
fn what_is_accepted_beside_a_large_record_has_space() {
    let disk = SimDisk::new();
    let options = one_ring(&disk, DurabilityMode::Async { flush_interval: HOUR }).num_stripes(8);
    let options = options.stripe_capacity(1 << 20).write_buffer_size(64 << 10).background_threads(false);
    let wal = options.open(PATH).unwrap();
    let writers: Vec<_> = (0..8).map(|_| wal.writer()).collect();
    // A record that is not waited for goes to the stripe of its writer, until that is full.
    let fill = || {
        for writer in &writers {
            while writer.submit([1; 1000]).is_ok() {}
        }
    };
    // All rings and, behind them, a record that gets a file with room for it and for the rings. Then there is
    // no space for another.
    fill();
    let large = wal.submit(vec![9; 24 << 20]).unwrap().lsn();
    disk.inject(Fault::no_space(Op::Allocate).forever());
    let hold = disk.hold(Op::Write);
    let flushing = thread::spawn({
        let wal = wal.clone();
        move || wal.flush().unwrap()
    });
    // Before each write, also of the large record's parts, as much is accepted as can be.
    until(|| {
        if hold.held() > 0 {
            fill();
            hold.let_through(1);
        }
        flushing.is_finished()
    });
    hold.release();
    flushing.join().unwrap();
    assert!(wal.durable_lsn() >= large);
    returns(move || wal.flush().unwrap());
}

#[test]
fn close_waits_for_a_file_that_an_append_makes() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::Synchronous).background_threads(false).open(PATH).unwrap();
    let hold = disk.hold(Op::Allocate);
    let appending = thread::spawn({
        let wal = wal.clone();
        // So large that a file is made for it.
        move || wal.append(vec![7; 4 << 20]).unwrap_err()
    });
    hold.wait_for_held(1);
    let (sender, closed) = mpsc::channel();
    let closing = thread::spawn(move || {
        wal.close().unwrap();
        sender.send(()).unwrap();
    });
    // The directory is not given to the next writer, whose files would have the same names.
    assert!(closed.recv_timeout(Duration::from_millis(100)).is_err(), "a file is being made");
    hold.release();
    closing.join().unwrap();
    assert_eq!(appending.join().unwrap().kind(), ErrorKind::Closed);
    let left = disk.open_dir(Path::new(PATH), false).unwrap().list().unwrap();
    assert!(!left.iter().any(|entry| entry.name.ends_with(".prep")), "{left:?}");
}
