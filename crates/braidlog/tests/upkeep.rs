//! The upkeep of an open log: checkpoints that are due, on whichever thread, events, failures, and the end of it all.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use braidlog::{
    CheckpointPolicy, DurabilityMode, ErrorKind, Event, HealthState, Lsn, Options, Retention, UpkeepTask, Wal,
};
use braidlog_sim::{SimClock, SimDisk};

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/small_log.rs"]
mod small_log;

use block_on::block_on;
use patience::PATIENCE;
use small_log::{PATH, append, fill, small};

/// A checkpoint whose content is its LSN.
fn checkpoint(wal: &Wal, lsn: Lsn) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    wal.checkpoint(lsn, |writer| Ok(io::Write::write_all(writer, &lsn.0.to_le_bytes())?))?;
    Ok(())
}

/// A log without threads, and what it tells.
fn log(policy: CheckpointPolicy) -> (Wal, Arc<SimClock>, Receiver<Event>) {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let (wal, events) = opened(small(&disk, &clock).checkpoint_policy(policy));
    (wal, clock, events)
}

fn opened(options: Options) -> (Wal, Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let sender = Mutex::new(sender);
    let options = options.on_event(move |event| drop(sender.lock().unwrap().send(event.clone())));
    (options.open(PATH).unwrap(), events)
}

/// A log with threads of its own.
fn lively(policy: CheckpointPolicy) -> (Wal, Receiver<Event>) {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let options = small(&disk, &clock).checkpoint_policy(policy).retention(Retention::segments(2));
    opened(options.clock(Options::default().clock).background_threads(true))
}

/// Waits for an event of this kind.
#[track_caller]
fn wait_for(events: &Receiver<Event>, is_it: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events.recv_timeout(PATIENCE).expect("the event comes");
        if is_it(&event) {
            return event;
        }
    }
}

#[test]
fn a_checkpoint_is_due_by_records_bytes_or_time_and_never_without_a_record() {
    let never = CheckpointPolicy::never();
    let (wal, clock, _) = log(never.records(Some(3)).interval(Some(Duration::from_secs(60))));
    clock.advance(Duration::from_secs(1000));
    assert!(!wal.checkpoint_due());
    append(&wal, 1);
    assert!(wal.checkpoint_due(), "by time");
    checkpoint(&wal, Lsn(1)).unwrap();
    append(&wal, 2);
    clock.advance(Duration::from_secs(59));
    assert!(!wal.checkpoint_due());
    append(&wal, 1);
    assert!(wal.checkpoint_due(), "by records");
    assert_eq!(wal.upkeep().records_since_checkpoint, 3);
    checkpoint(&wal, Lsn(4)).unwrap();
    assert!(!wal.checkpoint_due());
    let (wal, _, _) = log(never.bytes(Some(45_000)));
    append(&wal, 3);
    assert!(!wal.checkpoint_due());
    append(&wal, 3);
    assert!(wal.checkpoint_due(), "by bytes");
    let (wal, _, _) = log(never);
    fill(&wal, 3);
    assert!(!wal.checkpoint_due());
}

#[test]
fn that_one_is_due_is_told_once_until_one_is_taken() {
    let (wal, _, events) = log(CheckpointPolicy::never().records(Some(2)));
    append(&wal, 5);
    wal.maintain().unwrap();
    wal.maintain().unwrap();
    checkpoint(&wal, Lsn(4)).unwrap();
    append(&wal, 2);
    wal.maintain().unwrap();
    let told: Vec<_> = events.try_iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], format!("{:?}", Event::CheckpointDue { durable: Lsn(5), records: 5 }));
    assert_eq!(told[1], format!("{:?}", Event::CheckpointTaken { lsn: Lsn(4) }));
    assert_eq!(told[2], format!("{:?}", Event::CheckpointDue { durable: Lsn(7), records: 3 }));
}

#[test]
fn a_snapshot_source_takes_checkpoints_on_the_maintenance_thread_and_the_log_stays_bounded() {
    let (wal, events) = lively(CheckpointPolicy::never().records(Some(4)));
    let (sender, threads) = mpsc::channel();
    let sender = Mutex::new(sender);
    wal.set_snapshot_source(move |wal| {
        let _ = sender.lock().unwrap().send(std::thread::current().name().map(str::to_owned));
        checkpoint(wal, wal.durable_lsn())
    });
    fill(&wal, 6);
    wait_for(&events, |event| matches!(event, Event::CheckpointTaken { .. }));
    fill(&wal, 6);
    let truncated = wait_for(&events, |event| matches!(event, Event::Truncated { .. }));
    assert!(matches!(truncated, Event::Truncated { first_lsn, .. } if first_lsn > Lsn(1)));
    assert_eq!(threads.recv().unwrap().as_deref(), Some("braidlog-maintenance"));
    wal.close().unwrap();
    assert!(threads.recv_timeout(PATIENCE).is_ok() || threads.try_recv().is_err());
}

/// The close waited for the maintenance thread, whose source waited for a record of its own, which the background thread did not
/// serve any more. Nobody made it durable.
#[test]
fn a_source_that_waits_for_its_own_record_holds_up_no_close() {
    let disk = SimDisk::new();
    let options = small(&disk, &Arc::new(SimClock::new())).background_threads(true);
    let policy = CheckpointPolicy::never().records(Some(1));
    let wal = options.mode(DurabilityMode::asynchronous()).checkpoint_policy(policy).open(PATH).unwrap();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let syncs = Arc::new(Mutex::new(None));
    let (held, in_source) = (syncs.clone(), disk.clone());
    wal.set_snapshot_source(move |wal| {
        // While this sync is held, another record comes, which it does not cover.
        *held.lock().unwrap() = Some(in_source.hold_syncs());
        let mut first = pin!(wal.submit(b"first")?);
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        held.lock().unwrap().as_ref().unwrap().wait_for_held(1);
        let second = wal.submit(b"second")?;
        tell.lock().unwrap().send(()).unwrap();
        block_on(second)?;
        Ok(())
    });
    wal.append(b"due").unwrap();
    wal.flush().unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    let closing = wal.clone();
    let (closed, is_closed) = mpsc::channel();
    std::thread::spawn(move || closed.send(closing.close()));
    while !matches!(wal.submit(b"more"), Err(error) if error.error().kind() == ErrorKind::Closed) {
        std::thread::yield_now();
    }
    *syncs.lock().unwrap() = None;
    is_closed.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn a_source_that_fails_is_told_backs_off_and_is_asked_again() {
    let (wal, clock, events) = log(CheckpointPolicy::never().records(Some(1)));
    append(&wal, 1);
    let works = Arc::new(Mutex::new(0));
    let source = works.clone();
    wal.set_snapshot_source(move |wal| {
        let step = *source.lock().unwrap();
        match step {
            0 => Err(Box::new(io::Error::other("the store is busy"))),
            1 => panic!("a bug of the application"),
            2 => checkpoint(wal, Lsn(99)),
            _ => checkpoint(wal, wal.durable_lsn()),
        }
    });
    for (step, words, kind, seconds) in [
        (0, "the store is busy", ErrorKind::Io, 1),
        (1, "panicked", ErrorKind::Io, 2),
        (2, "99", ErrorKind::InvalidInput, 4),
    ] {
        *works.lock().unwrap() = step;
        let error = wal.maintain().unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(words), "{error}");
        let failing = wal.upkeep().failing;
        assert_eq!((failing[0].task, failing[0].failures), (UpkeepTask::Checkpoint, step + 1));
        assert_eq!(failing[0].retry_in, Duration::from_secs(seconds));
        let is_told = |event: &Event| {
            matches!(event, Event::UpkeepFailed { task: UpkeepTask::Checkpoint, retry_after, .. }
                if *retry_after == Duration::from_secs(seconds))
        };
        assert!(events.try_iter().any(|event| is_told(&event)));
        assert_eq!(wal.health().state, HealthState::Upkeep);
        // Other tasks are done meanwhile.
        assert_eq!(failing.len(), 1);
        append(&wal, 1);
    }
    clock.advance(Duration::from_secs(3));
    assert_eq!(wal.upkeep().failing[0].retry_in, Duration::from_secs(1));
    *works.lock().unwrap() = 3;
    wal.maintain().unwrap();
    assert!(wal.upkeep().failing.is_empty());
    assert_eq!(wal.health().state, HealthState::Ok);
    let healed = |event: Event| matches!(event, Event::UpkeepRecovered { task: UpkeepTask::Checkpoint });
    assert!(events.try_iter().any(healed));
    assert!(!wal.checkpoint_due());
}

#[test]
fn callbacks_may_call_the_log() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let handle: Arc<Mutex<Option<Wal>>> = Arc::default();
    let told = handle.clone();
    let options = small(&disk, &clock)
        .checkpoint_policy(CheckpointPolicy::never().records(Some(2)))
        .retention(Retention::segments(1));
    let options = options.on_event(move |event| {
        let wal = told.lock().unwrap().clone();
        let Some(wal) = wal else { return };
        if let Event::Truncated { first_lsn, .. } = event {
            wal.set_hold("listener", *first_lsn).unwrap();
        }
        wal.maintain().unwrap();
        drop(wal.pause_maintenance());
        assert!(wal.upkeep().runs > 0);
    });
    let wal = options.open(PATH).unwrap();
    *handle.lock().unwrap() = Some(wal.clone());
    wal.set_snapshot_source(|wal| {
        append(wal, 1);
        wal.maintain()?;
        checkpoint(wal, wal.durable_lsn())?;
        wal.truncate_before(Lsn(1))?;
        Ok(())
    });
    fill(&wal, 4);
    wal.maintain().unwrap();
    assert_eq!(wal.holds()[0].lsn, wal.first_lsn());
    assert!(wal.first_lsn() > Lsn(1));
    // It would hold itself.
    handle.lock().unwrap().take();
    wal.close().unwrap();
}

#[test]
fn closing_waits_for_a_checkpoint_that_is_being_taken_and_ends_the_source() {
    let (wal, events) = lively(CheckpointPolicy::never().records(Some(1)));
    let (entered, is_inside) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let pipes = Mutex::new((entered, may_go));
    let alive = Arc::new(());
    let counted = alive.clone();
    wal.set_snapshot_source(move |wal| {
        let _ = &counted;
        let pipes = pipes.lock().unwrap();
        pipes.0.send(())?;
        pipes.1.recv()?;
        checkpoint(wal, wal.durable_lsn())
    });
    append(&wal, 1);
    is_inside.recv_timeout(PATIENCE).unwrap();
    let closing = wal.clone();
    let closed = std::thread::spawn(move || closing.close());
    patience::until(|| wal.flush().is_err());
    go.send(()).unwrap();
    closed.join().unwrap().unwrap();
    assert_eq!(Arc::strong_count(&alive), 1, "the source is gone with what it owns");
    let has_failed = events.try_iter().any(|event| matches!(event, Event::UpkeepFailed { .. }));
    assert!(!has_failed, "to be closed is no failure");
}

#[test]
fn a_log_whose_handles_are_gone_ends_whatever_is_registered() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let options = small(&disk, &clock)
        .clock(Options::default().clock)
        .background_threads(true)
        .checkpoint_policy(CheckpointPolicy::never().records(Some(1)))
        .on_event(|_| ());
    let wal = options.open(PATH).unwrap();
    wal.set_snapshot_source(|wal| checkpoint(wal, wal.durable_lsn()));
    append(&wal, 3);
    drop(wal);
    let again = options.open(PATH).unwrap();
    assert_eq!(again.last_lsn(), Lsn(3));
}

#[test]
fn dropping_the_last_handle_frees_the_directory_whatever_the_upkeep_is_at() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let options = small(&disk, &clock)
        .clock(Options::default().clock)
        .background_threads(true)
        .checkpoint_policy(CheckpointPolicy::never().records(Some(1)));
    // Opening has the upkeep begin, which is under way when the handle goes.
    for _ in 0..100 {
        drop(options.open(PATH).unwrap());
    }
    let wal = options.open(PATH).unwrap();
    let (entered, is_inside) = mpsc::channel();
    let entered = Mutex::new(entered);
    wal.set_snapshot_source(move |wal| {
        entered.lock().unwrap().send(())?;
        // What it was given does not keep the log open, nor does a clone of that.
        let writer = wal.clone().writer();
        patience::until(|| writer.append(b"x").is_err());
        Ok(())
    });
    append(&wal, 1);
    is_inside.recv_timeout(PATIENCE).unwrap();
    drop(wal);
    options.open(PATH).unwrap();
}

#[test]
fn a_callback_of_a_caller_s_upkeep_may_close_the_log() {
    let (wal, _events) = lively(CheckpointPolicy::never().records(Some(1)));
    let pause = wal.pause_maintenance();
    append(&wal, 1);
    let (ended, has_ended) = mpsc::channel();
    // It would wait for the maintenance thread, which waits for its turn.
    std::thread::spawn(move || {
        let caller = std::thread::current().id();
        wal.set_snapshot_source(move |wal| {
            if std::thread::current().id() == caller {
                // Asks the maintenance thread to look.
                checkpoint(wal, wal.durable_lsn())?;
                wal.close()?;
            }
            Ok(())
        });
        drop(pause);
        wal.maintain().unwrap();
        ended.send(wal.flush().unwrap_err().kind()).unwrap();
    });
    assert_eq!(has_ended.recv_timeout(PATIENCE), Ok(ErrorKind::Closed));
}

#[test]
fn who_writes_a_checkpoint_never_waits_for_an_upkeep_that_waits_for_it() {
    let (wal, _events) = lively(CheckpointPolicy::never().records(Some(1)));
    let pause = wal.pause_maintenance();
    append(&wal, 1);
    let (entered, is_inside) = mpsc::channel();
    let entered = Mutex::new(entered);
    wal.set_snapshot_source(move |wal| {
        entered.lock().unwrap().send(())?;
        checkpoint(wal, wal.durable_lsn())
    });
    let (ended, has_ended) = mpsc::channel();
    std::thread::spawn(move || {
        let written = wal.checkpoint(Lsn(1), |_| {
            // From here on the maintenance thread waits, or soon will.
            drop(pause);
            is_inside.recv_timeout(PATIENCE)?;
            drop(wal.pause_maintenance());
            assert_eq!(wal.maintain().unwrap_err().kind(), ErrorKind::InvalidInput);
            Ok(())
        });
        ended.send(written.is_ok()).unwrap();
        wal.close().unwrap();
    });
    assert_eq!(has_ended.recv_timeout(PATIENCE), Ok(true));
}
