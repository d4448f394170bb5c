//! A waker may close the log that runs it, whoever waits for a waker that is to be run after it: closing waits for such, and they
//! are woken.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use braidlog::{CheckpointPolicy, DurabilityMode, ErrorKind, Lsn, Options, Rung, Wal};
use braidlog_sim::{Op, SimDisk};

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/patience.rs"]
mod patience;

use block_on::{block_on, waker};
use patience::PATIENCE;

const PATH: &str = "wal";
/// What is written by who leads the round, and what is written by the thread for that.
const LENS: [usize; 2] = [8, 400 << 10];

fn on(disk: &SimDisk) -> Options {
    let idle = DurabilityMode::Async { flush_interval: std::time::Duration::from_secs(3600) };
    let policy = CheckpointPolicy::never().records(Some(1));
    Wal::options().storage(Arc::new(disk.clone())).mode(idle).checkpoint_policy(policy)
}

/// Closes the log when it is woken, and tells what came of it.
struct Closes(Mutex<Option<Wal>>, Sender<braidlog::Result<()>>);

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        if let Some(wal) = self.0.lock().unwrap().take() {
            self.1.send(wal.close()).unwrap();
        }
    }
}

fn closes(wal: &Wal) -> (Waker, Receiver<braidlog::Result<()>>) {
    let (told, tells) = mpsc::channel();
    (Arc::new(Closes(Mutex::new(Some(wal.clone())), told)).into(), tells)
}

/// Has `closes` woken by a record, and this thread by the next one, by one and the same wake-up; then goes on.
fn wait_behind(wal: &Wal, disk: &SimDisk, rung: Rung, len: usize, closes: &Waker) {
    // Both are on their way before one is there.
    let held = match rung {
        Rung::Durable => disk.hold_syncs(),
        _ => disk.hold(Op::Write),
    };
    let tickets = [(); 2].map(|()| wal.submit(vec![7; len]).unwrap());
    let [mut first, second] = tickets.each_ref().map(|ticket| ticket.reach(rung));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(closes)).is_pending());
    let this_thread = waker();
    let mut second = pin!(second);
    let mut poll = || second.as_mut().poll(&mut Context::from_waker(&this_thread)).is_pending();
    assert!(poll());
    drop(held);
    loop {
        // Woken by nothing else.
        thread::park();
        if !poll() {
            return;
        }
    }
}

#[test]
fn a_waker_may_close_the_log_while_a_source_of_states_waits_for_a_later_one() {
    for (rung, len) in [Rung::Written, Rung::Durable].into_iter().flat_map(|rung| LENS.map(|len| (rung, len)))
    {
        let disk = SimDisk::new();
        let wal = on(&disk).open(PATH).unwrap();
        let (closes, closed) = closes(&wal);
        let once = Mutex::new(Some((closes, disk.clone())));
        wal.set_snapshot_source(move |wal| {
            if let Some((closes, disk)) = once.lock().unwrap().take() {
                wait_behind(wal, &disk, rung, len, &closes);
            }
            Ok(())
        });
        wal.append(b"due").unwrap();
        // The source may have closed it by then.
        let _ = wal.flush();
        closed.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{rung:?}, {len} bytes: it ends")).unwrap();
        assert_eq!(wal.flush().unwrap_err().kind(), ErrorKind::Closed);
        on(&disk).open(PATH).unwrap();
    }
}

#[test]
fn a_waker_may_close_the_log_while_a_checkpoint_waits_for_a_later_one() {
    for (rung, len) in [Rung::Written, Rung::Durable].into_iter().flat_map(|rung| LENS.map(|len| (rung, len)))
    {
        let disk = SimDisk::new();
        let wal = on(&disk).open(PATH).unwrap();
        wal.append(b"x").unwrap();
        wal.flush().unwrap();
        let (closes, closed) = closes(&wal);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let saved = wal.checkpoint(Lsn(1), |_| {
                wait_behind(&wal, &disk, rung, len, &closes);
                // The close waits for this checkpoint, on the thread that would write this or the one that would tell of it.
                match wal.submit(vec![7; len]) {
                    Ok(ticket) => assert_eq!(block_on(ticket.written())?, ticket.lsn()),
                    Err(refused) => assert_eq!(refused.error().kind(), ErrorKind::Closed),
                }
                Ok(())
            });
            tell.send(saved.map(drop)).unwrap();
        });
        closed.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{rung:?}, {len} bytes: it ends")).unwrap();
        told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{rung:?}, {len} bytes: it ends")).unwrap();
    }
}
