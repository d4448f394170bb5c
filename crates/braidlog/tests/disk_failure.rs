//! A disk that fails, fills up or does half of what it is asked: what is told, what is kept, what heals.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use braidlog::{Append, Durability, DurabilityMode, ErrorKind, HealthState, Lsn, Options, Wal};
use braidlog_sim::{Action, Fault, Op, Profile, SimDisk, Stamp, Traced};

#[path = "support/panicking.rs"]
mod panicking;
#[path = "support/patience.rs"]
mod patience;

use panicking::{At, Panicking};
use patience::until;

const PATH: &str = "wal";

/// Small segments and rings, so that a run passes every kind of file operation soon.
fn on(disk: &SimDisk) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .mode(DurabilityMode::Synchronous)
        .num_stripes(2)
        .stripe_capacity(4096)
        .segment_size(64 << 10)
        .write_buffer_size(8192)
}

fn payload(seq: u32) -> Vec<u8> {
    Stamp::single(0, seq).payload(2000 + (seq as usize * 97) % 9000)
}

/// Appends until `count` are acknowledged or one is refused; how many were acknowledged, and the refusal.
fn append_from(wal: &Wal, first: u32, count: u32) -> (u32, Option<braidlog::Error>) {
    for seq in first..first + count {
        match wal.append(payload(seq)) {
            Ok(lsn) => assert_eq!(lsn, Lsn(u64::from(seq) + 1)),
            Err(error) => return (seq - first, Some(error)),
        }
    }
    (count, None)
}

/// Opens what is there and checks it: dense, the very bytes, at least `acknowledged` and at most `begun`.
fn check(disk: &SimDisk, acknowledged: u32, begun: u32) -> u32 {
    let wal = on(disk).open(PATH).unwrap();
    let mut found = 0;
    for record in wal.replay().unwrap() {
        let record = record.unwrap();
        assert_eq!(record.lsn, Lsn(u64::from(found) + 1));
        assert_eq!(record.payload, payload(found));
        found += 1;
    }
    assert!(acknowledged <= found && found <= begun, "{found} found, {acknowledged} acknowledged of {begun}");
    assert_eq!(wal.append(payload(found)).unwrap(), Lsn(u64::from(found) + 1));
    wal.close().unwrap();
    found + 1
}

/// The same after the process died, and after the power was cut.
fn check_after_crashes(disk: &SimDisk, acknowledged: u32, begun: u32) {
    check(&disk.crash_clone(0, Profile::Kept), acknowledged, begun);
    for seed in 0..10 {
        check(&disk.crash_clone(seed, Profile::Posix), acknowledged, begun);
    }
}

/// What touched a file after the first failure, which was its own. With threads, a step of zeros above the
/// pen may have been under way at that moment; such a write is left out.
fn touched_after_failure(trace: &[Traced], background: bool) -> Vec<&Traced> {
    let failed = trace.iter().position(|traced| traced.error.is_some()).expect("the fault struck");
    let name = &trace[failed].name;
    let touches = |traced: &&Traced| match traced.action.op() {
        Op::Write => traced.name == *name && !background,
        Op::Sync | Op::SetLen | Op::Allocate | Op::Rename => traced.name == *name,
        _ => false,
    };
    trace[failed + 1..].iter().filter(touches).collect()
}

#[test]
fn a_file_whose_sync_failed_is_never_written_or_synced_again() {
    for fault in [Fault::eio(Op::Sync), Fault::lost_sync(), Fault::no_space(Op::Sync)] {
        for (nth, background) in [(1, false), (2, true), (2, false), (5, true), (5, false)] {
            let disk = SimDisk::new();
            let options = on(&disk).segment_size(1 << 20).background_threads(background);
            let wal = options.open(PATH).unwrap();
            disk.take_trace();
            disk.inject(fault.clone().nth(nth).on(".wal"));
            let (acknowledged, error) = append_from(&wal, 0, 50);
            let error = error.unwrap();
            assert_eq!(
                error.kind(),
                ErrorKind::Failed,
                "a sync refused for lack of space has failed: {error}"
            );
            assert!(error.is_indeterminate());
            assert!(append_from(&wal, acknowledged + 1, 1).1.is_some());
            assert!(wal.flush().is_err());
            assert!(wal.close().is_err());
            drop(wal);
            let trace = disk.take_trace();
            let again = touched_after_failure(&trace, background);
            assert!(again.is_empty(), "{again:?}");
            check_after_crashes(&disk, acknowledged, acknowledged + 1);
        }
    }
}

#[test]
fn a_failed_write_is_told_and_nothing_is_acknowledged_after_it() {
    for fault in [Fault::eio(Op::Write), Fault::eio(Op::Write).after_effect()] {
        for (nth, background) in [(1, false), (1, true), (2, false), (3, true), (5, false), (7, true)] {
            let disk = SimDisk::new();
            let options = on(&disk).segment_size(1 << 20).background_threads(background);
            let wal = options.open(PATH).unwrap();
            disk.take_trace();
            disk.inject(fault.clone().nth(nth).on(".wal"));
            // With threads the write may be one of zeros ahead of the pen: a failure of the file as well.
            let (acknowledged, error) = append_from(&wal, 0, 1000);
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Failed);
            assert!(background || error.is_indeterminate());
            if let Some(lsns) = error.lsns() {
                assert_eq!(lsns.first, Lsn(u64::from(acknowledged) + 1));
            }
            let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
            assert_eq!(source.raw_os_error(), Some(5), "the system's own word is kept");
            assert_eq!(wal.append(b"x").unwrap_err().kind(), ErrorKind::Failed);
            assert_eq!(wal.durable_lsn(), Lsn(u64::from(acknowledged)));
            assert_eq!(wal.health().state, HealthState::Failed);
            assert!(wal.close().is_err());
            let trace = disk.take_trace();
            let again = touched_after_failure(&trace, background);
            assert!(background || again.is_empty(), "{again:?}");
            check_after_crashes(&disk, acknowledged, acknowledged + 1);
        }
    }
}

#[test]
fn a_failure_at_any_step_of_rotation_loses_nothing() {
    // Which step the nth of a kind is depends on the moment; that something is struck is checked.
    for op in [Op::Rename, Op::SyncDir, Op::SetLen, Op::Write, Op::Sync, Op::Create, Op::Allocate] {
        for nth in 1..8 {
            let disk = SimDisk::new();
            let wal = on(&disk).open(PATH).unwrap();
            disk.inject(Fault::eio(op).nth(nth));
            let mut begun = 0;
            let mut acknowledged = 0;
            let mut failed = false;
            // Twelve megabytes and more: a dozen rotations, however far a segment is allocated ahead.
            while begun < 2000 && !failed {
                let (count, error) = append_from(&wal, acknowledged, 1);
                begun += 1;
                acknowledged += count;
                if let Some(error) = error {
                    assert_eq!(error.kind(), ErrorKind::Failed, "{op:?} {nth}: {error}");
                    failed = true;
                }
            }
            let closed = wal.close();
            assert!(disk.faults_struck() > 0, "{op:?} {nth}: the run never got there");
            assert!(!failed || closed.is_err());
            disk.clear_faults();
            check_after_crashes(&disk, acknowledged, begun);
            check(&disk, acknowledged, begun);
        }
    }
}

#[test]
fn a_failure_at_any_step_of_opening_leaves_a_log_that_opens() {
    let ops = [
        Op::Create,
        Op::Open,
        Op::Read,
        Op::Write,
        Op::Allocate,
        Op::SetLen,
        Op::Sync,
        Op::Rename,
        Op::Remove,
        Op::SyncDir,
    ];
    let torn = {
        let disk = SimDisk::new();
        let wal = on(&disk).open(PATH).unwrap();
        append_from(&wal, 0, 30);
        // The last record is written and not known to be synced when the power fails.
        let hold = disk.hold_syncs();
        thread::scope(|scope| {
            scope.spawn(|| wal.append(payload(30)).unwrap());
            hold.wait_for_held(1);
            let torn = disk.crash_clone(0, Profile::Kept);
            hold.release();
            torn
        })
    };
    for op in ops {
        for fault in [Fault::eio(op), Fault::no_space(op), Fault::eio(op).after_effect()] {
            for nth in 1..6 {
                let disk = torn.crash_clone(nth, Profile::Kept);
                disk.inject(fault.clone().nth(nth));
                let opened = on(&disk).open(PATH);
                disk.clear_faults();
                if let Err(error) = &opened {
                    let lawful =
                        [ErrorKind::Io, ErrorKind::NoSpace, ErrorKind::Failed, ErrorKind::Unsupported];
                    assert!(lawful.contains(&error.kind()), "{op:?} {nth}: {error}");
                }
                drop(opened);
                for seed in 0..3 {
                    check(&disk.crash_clone(seed, Profile::Posix), 30, 31);
                }
                let count = check(&disk, 30, 31);
                check(&disk, count, count);
            }
        }
    }
}

#[test]
fn short_and_interrupted_calls_are_finished() {
    for (op, profile) in [(Op::Write, Profile::Posix), (Op::Read, Profile::Kept), (Op::Any, Profile::Posix)] {
        let disk = SimDisk::new();
        let wal = on(&disk).open(PATH).unwrap();
        disk.inject(Fault::short(op).one_in(3, 1).forever());
        for op in [Op::Read, Op::Write] {
            disk.inject(Fault::interrupted(op).one_in(3, 2).forever());
        }
        let (acknowledged, error) = append_from(&wal, 0, 300);
        assert!(error.is_none(), "{error:?}");
        for seq in (0..300).step_by(17) {
            let record = wal.read(Lsn(u64::from(seq) + 1)).unwrap().unwrap();
            assert_eq!(record.payload, payload(seq));
        }
        wal.close().unwrap();
        assert!(disk.faults_struck() > 100);
        check(&disk.crash_clone(7, profile), acknowledged, 300);
        // The faults are still there when the log is opened and replayed.
        check(&disk, acknowledged, 300);
    }
}

#[test]
fn a_write_refused_for_lack_of_space_is_written_again_at_the_same_place() {
    // The first record that needs two blocks is refused: whole, or when one of its blocks is written.
    const REFUSED: u32 = 30;
    const ALL: u32 = REFUSED + 20;
    for (times, is_short) in [(1, false), (3, false), (1, true), (3, true)] {
        let disk = SimDisk::new();
        // Without threads nobody lays zeros ahead: the refused write is the pen's.
        let wal = on(&disk).background_threads(false).open(PATH).unwrap();
        append_from(&wal, 0, REFUSED);
        disk.take_trace();
        if is_short {
            disk.inject(Fault::short(Op::Write).on(".wal"));
        }
        disk.inject(Fault::no_space(Op::Write).nth(1 + u64::from(is_short)).times(times).on(".wal"));
        assert_eq!(append_from(&wal, REFUSED, 1).0, 1, "it holds an LSN: it is not refused");
        let mut acknowledged = REFUSED + 1;
        while acknowledged < ALL {
            let (count, error) = append_from(&wal, acknowledged, ALL - acknowledged);
            acknowledged += count;
            // Appends without an LSN are refused until the log has seen that there is space.
            assert!(error.is_none_or(|error| error.kind() == ErrorKind::NoSpace));
        }
        let trace = disk.take_trace();
        let refused: Vec<_> = trace.iter().filter(|traced| traced.error.is_some()).collect();
        assert_eq!(refused.len() as u64, times);
        let place = |traced: &Traced| match traced.action {
            Action::Write { offset, len } => offset..offset + len,
            ref other => panic!("{other:?} is no write"),
        };
        for refusal in refused {
            assert!(is_short || place(refusal).end - place(refusal).start == 8192, "two blocks");
            let again = trace.iter().any(|traced| {
                traced.error.is_none()
                    && traced.name == refusal.name
                    && matches!(traced.action, Action::Write { .. })
                    && place(traced).start <= place(refusal).start
                    && place(traced).end >= place(refusal).end
            });
            assert!(again, "{refusal:?}");
        }
        wal.close().unwrap();
        check_after_crashes(&disk, ALL, ALL);
    }
}

#[test]
fn a_seal_refused_for_lack_of_space_is_written_again() {
    // A file system that never writes in place may refuse a write into allocated space. What holds an LSN waited
    // for space then, but the seal between two segments failed the log for good, and the record that came next.
    for (op, background) in [(Op::SetLen, false), (Op::SetLen, true), (Op::Write, false)] {
        let disk = SimDisk::new();
        let wal = on(&disk).background_threads(background).open(PATH).unwrap();
        // The last write to the first segment is its seal.
        let writes_before = if op == Op::Write { writes_to_first_segment() - 1 } else { 0 };
        disk.inject(Fault::no_space(op).nth(writes_before + 1).on(".wal"));
        let mut acknowledged = 0;
        while wal.metrics().rotations == 0 {
            let (count, error) = append_from(&wal, acknowledged, 1);
            acknowledged += count;
            // Appends without an LSN are refused until the log has seen that there is space.
            assert!(error.is_none_or(|error| error.kind() == ErrorKind::NoSpace));
        }
        assert_eq!(disk.faults_struck(), 1);
        wal.close().unwrap();
        check_after_crashes(&disk, acknowledged, acknowledged);
    }
}

/// How many writes the first segment takes after opening, its seal included, if nothing fails.
fn writes_to_first_segment() -> u64 {
    let disk = SimDisk::new();
    let wal = on(&disk).background_threads(false).open(PATH).unwrap();
    disk.take_trace();
    for seq in 0.. {
        append_from(&wal, seq, 1);
        if wal.metrics().rotations > 0 {
            break;
        }
    }
    let trace = disk.take_trace();
    let is_write = |traced: &&Traced| traced.action.op() == Op::Write;
    let first = trace.iter().find(is_write).expect("it was written").name.clone();
    trace.iter().filter(is_write).filter(|traced| traced.name == first).count() as u64
}

#[test]
fn a_record_refused_for_lack_of_space_takes_none() {
    let disk = SimDisk::new();
    let wal = on(&disk).segment_age_max(Some(Duration::from_millis(1))).open(PATH).unwrap();
    wal.append(payload(0)).unwrap();
    // The next segment is due and cannot have its name: the log waits for space.
    disk.inject(Fault::no_space(Op::Rename).forever());
    until(|| {
        let _ = wal.submit([1; 10]); // Waits for nothing, and needs no more than a ring.
        wal.health().state == HealthState::NoSpace
    });
    let used = disk.used_bytes();
    for _ in 0..5 {
        // So large that a file would be made for it.
        let refused = wal.append(vec![1; 3 << 20]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoSpace);
    }
    // A common file may just have been made; one for each of these would be more.
    assert!(disk.used_bytes() < used + (3 << 20), "{} bytes more", disk.used_bytes() - used);
    disk.clear_faults();
    until(|| wal.health().state == HealthState::Ok);
    wal.append(vec![1; 3 << 20]).unwrap();
    wal.close().unwrap();
}

#[test]
fn a_full_disk_loses_nothing_and_heals() {
    for background in [true, false] {
        for mode in [DurabilityMode::Synchronous, DurabilityMode::async_batched()] {
            let disk = SimDisk::new();
            disk.set_capacity(Some(8 << 20));
            let wal = on(&disk).mode(mode).background_threads(background).open(PATH).unwrap();
            let mut accepted = 0;
            for round in 1..=3 {
                // A segment that ends gives back what it did not need, and the log may go on a little.
                until(|| {
                    let (count, error) = append_from(&wal, accepted, 20_000);
                    accepted += count;
                    let error = error.expect("the disk is full");
                    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                    assert!(!error.is_indeterminate(), "nothing was accepted");
                    // What holds an LSN has space, and everything but appending works.
                    wal.flush().unwrap();
                    wal.health().state == HealthState::NoSpace
                });
                assert_eq!(wal.durable_lsn(), Lsn(u64::from(accepted)));
                assert_eq!(wal.replay().unwrap().count() as u32, accepted);
                assert_eq!(wal.submit(b"x").unwrap_err().error().kind(), ErrorKind::NoSpace);
                check_full(&disk, accepted);

                disk.set_capacity(Some((8 << 20) * (round + 1)));
                // It heals by itself: nobody opens it again.
                until(|| {
                    if let Ok(lsn) = wal.append(payload(accepted)) {
                        accepted += 1;
                        assert_eq!(lsn, Lsn(u64::from(accepted)));
                    }
                    wal.health().state != HealthState::NoSpace
                });
            }
            wal.close().unwrap();
            disk.set_capacity(None);
            check_after_crashes(&disk, accepted, accepted);
        }
    }
}

/// A power cut on a full disk: the log opens without space, shows everything, and appends once there is some.
fn check_full(disk: &SimDisk, accepted: u32) {
    let disk = disk.crash_clone(1, Profile::Posix);
    let wal = on(&disk).open(PATH).unwrap();
    assert_eq!(wal.replay().unwrap().count() as u32, accepted);
    if let Err(error) = wal.append(payload(accepted)) {
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    }
    disk.set_capacity(None);
    until(|| wal.health().state != HealthState::NoSpace);
    let next = wal.last_lsn().next();
    assert_eq!(wal.append(payload(next.prev().0 as u32)).unwrap(), next);
    wal.close().unwrap();
}

#[test]
fn a_name_of_a_segment_is_durable_before_anything_in_it_is() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    append_from(&wal, 0, 1000);
    wal.close().unwrap();
    let trace = disk.take_trace();
    let mut renamed = 0;
    for (index, traced) in trace.iter().enumerate() {
        let Action::Rename { to, .. } = &traced.action else { continue };
        if !to.ends_with(".wal") {
            continue;
        }
        renamed += 1;
        let before = &trace[..index];
        let written = before.iter().rposition(|t| t.name == traced.name && t.action.op() == Op::Write);
        let synced = before.iter().rposition(|t| t.name == traced.name && t.action.op() == Op::Sync);
        assert!(written.is_some() && written < synced, "{to}: its header is synced before it is named");
        let after = &trace[index + 1..];
        let dir_synced = after.iter().position(|t| t.action.op() == Op::SyncDir);
        let data_synced = after.iter().position(|t| *t.name == **to && t.action.op() == Op::Sync);
        let dir_synced = dir_synced.expect("the directory is synced after the rename");
        assert!(data_synced.is_none_or(|data| dir_synced < data), "{to}: its name is synced before its data");
    }
    assert!(renamed > 3, "{renamed} segments");
}

#[test]
fn a_segment_is_sealed_and_synced_before_the_next_has_a_name() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    append_from(&wal, 0, 1000);
    wal.close().unwrap();
    let trace = disk.take_trace();
    let mut current: Option<String> = None;
    for (index, traced) in trace.iter().enumerate() {
        let Action::Rename { to, .. } = &traced.action else { continue };
        if let Some(name) = current.replace(to.clone()) {
            let last = trace.iter().rposition(|t| *t.name == *name && t.action.op() == Op::Write).unwrap();
            let synced = trace.iter().rposition(|t| *t.name == *name && t.action.op() == Op::Sync).unwrap();
            assert!(
                last < synced && synced < index,
                "{name} is written, sealed and synced before {to} is named"
            );
        }
    }
}

/// A seal vouches for all bytes before it. Were it written while a round is still in the cache, a power cut could
/// leave the seal and not the round, and a tail that was never acknowledged would be called damage.
#[test]
fn a_seal_is_written_when_all_before_it_is_synced() {
    let disk = SimDisk::new();
    let wal = on(&disk).background_threads(false).open(PATH).unwrap();
    append_from(&wal, 0, 500);
    wal.close().unwrap();
    let trace = disk.take_trace();
    let mut sealed = 0;
    for (index, traced) in trace.iter().enumerate() {
        // The cut to the seal's end comes with the seal, and only with it.
        if traced.action.op() != Op::SetLen || !traced.name.ends_with(".wal") {
            continue;
        }
        sealed += 1;
        let mut before = trace[..index].iter().filter(|t| t.name == traced.name).rev();
        let last = before.find(|t| matches!(t.action.op(), Op::Write | Op::Sync));
        assert_eq!(last.map(|t| t.action.op()), Some(Op::Sync), "{}: sealed on unsynced bytes", traced.name);
    }
    assert!(sealed > 3, "{sealed} segments");
}

#[test]
fn the_pen_writes_each_byte_once_and_only_moves_on() {
    let disk = SimDisk::new();
    // Without threads nobody lays zeros ahead: every write is the pen's.
    let wal = on(&disk).background_threads(false).open(PATH).unwrap();
    append_from(&wal, 0, 500);
    wal.close().unwrap();
    let mut pens: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let trace = disk.take_trace();
    for traced in trace.iter().filter(|traced| traced.name.ends_with(".wal")) {
        if let Action::Write { offset, len } = traced.action {
            let pen = pens.entry(traced.name.clone()).or_default();
            assert!(offset >= *pen, "{}: a write at {offset}, the pen was at {pen}", traced.name);
            assert!(offset.is_multiple_of(4096) && len.is_multiple_of(4096));
            *pen = offset + len;
        }
    }
    assert!(pens.len() > 1);
}

#[test]
fn a_panic_while_writing_fails_the_log_and_wakes_everyone() {
    for at in [At::Write, At::Sync] {
        for background in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let trap = Panicking::new(at);
            let options = Wal::options().mode(DurabilityMode::Synchronous).background_threads(background);
            let wal = options.clone().storage(Arc::new(trap.clone())).open(dir.path()).unwrap();
            wal.append(b"safe").unwrap();
            trap.arm();
            thread::scope(|scope| {
                let ticket = wal.submit(b"x").unwrap();
                let writers: Vec<_> = (0..8).map(|_| scope.spawn(|| wal.append(b"x"))).collect();
                let ticket = scope.spawn(|| ticket.wait());
                // The one that was leading panics, every other is told; none waits for ever.
                let mut panicked = 0;
                for end in writers.into_iter().map(|writer| writer.join()).chain([ticket.join()]) {
                    match end {
                        Ok(Ok(lsn)) => assert!(wal.durable_lsn() >= lsn),
                        Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Failed, "{error}"),
                        Err(_) => panicked += 1,
                    }
                }
                assert!(panicked <= 1, "{panicked} threads panicked");
            });
            // The trap may have caught the thread that lays zeros, behind everybody's back.
            until(|| wal.health().state == HealthState::Failed);
            assert_eq!(wal.append(b"x").unwrap_err().kind(), ErrorKind::Failed);
            assert_eq!(wal.close().unwrap_err().kind(), ErrorKind::Failed);
            drop(wal);
            let wal = options.open(dir.path()).unwrap();
            assert_eq!(wal.read(Lsn(1)).unwrap().unwrap().payload, b"safe");
            wal.append(b"goes on").unwrap();
        }
    }
}

/// A record larger than the write buffer is handed over buffer by buffer, so the trap catches the thread that writes
/// them; whoever leads the round waits for it.
#[test]
fn a_panic_in_a_write_in_flight_fails_the_log_and_frees_who_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let trap = Panicking::new(At::Write);
    let options = Wal::options().mode(DurabilityMode::Synchronous).write_buffer_size(8192);
    let wal = options.clone().storage(Arc::new(trap.clone())).open(dir.path()).unwrap();
    trap.arm();
    let (tell, told) = mpsc::channel();
    let appending = wal.clone();
    thread::spawn(move || tell.send(appending.append(vec![1; 64 << 10])));
    let appended = told.recv_timeout(patience::PATIENCE).expect("the append returns");
    assert_eq!(appended.unwrap_err().kind(), ErrorKind::Failed);
    assert_eq!(wal.durable_lsn(), Lsn(0));
    assert_eq!(wal.close().unwrap_err().kind(), ErrorKind::Failed);
    drop(wal);
    options.open(dir.path()).unwrap().append(b"goes on").unwrap();
}

#[test]
fn a_background_failure_reaches_those_who_never_waited() {
    let disk = SimDisk::new();
    let wal = on(&disk).mode(DurabilityMode::asynchronous()).open(PATH).unwrap();
    disk.inject(Fault::eio(Op::Sync).on(".wal"));
    wal.append(b"returned at once").unwrap();
    until(|| wal.health().state == HealthState::Failed);
    assert_eq!(wal.append(b"x").unwrap_err().kind(), ErrorKind::Failed);
    assert_eq!(wal.flush().unwrap_err().kind(), ErrorKind::Failed);
    let error = wal.close().unwrap_err();
    assert_eq!(error.lsns().unwrap().first, Lsn(1), "{error}");
}

#[test]
fn an_explicit_way_of_io_that_the_disk_lacks_is_named() {
    use braidlog::{IoMode, SyncMethod};
    let disk = SimDisk::new();
    disk.set_direct_supported(false);
    let error = on(&disk).io_mode(IoMode::Direct).open(PATH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("Direct"), "{error}");
    let error = on(&disk).sync_method(SyncMethod::DirectSync).open(PATH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("DirectSync"), "{error}");
    let wal = on(&disk).open(PATH).unwrap();
    let (acknowledged, _) = append_from(&wal, 0, 20);
    wal.close().unwrap();
    check_after_crashes(&disk, acknowledged, 20);
}

#[test]
fn each_way_of_io_survives_a_power_cut() {
    use braidlog::{IoMode, SyncMethod};
    for (io_mode, sync_method) in [
        (IoMode::Buffered, SyncMethod::Fdatasync),
        (IoMode::Buffered, SyncMethod::Fsync),
        (IoMode::Direct, SyncMethod::Fdatasync),
        (IoMode::Direct, SyncMethod::Fsync),
        (IoMode::Auto, SyncMethod::DirectSync),
    ] {
        let disk = SimDisk::new();
        let wal = on(&disk).io_mode(io_mode).sync_method(sync_method).open(PATH).unwrap();
        let (acknowledged, error) = append_from(&wal, 0, 200);
        assert!(error.is_none(), "{error:?}");
        check_after_crashes(&disk, acknowledged, 200);
        wal.append_with(Append::new(&payload(200)).durability(Durability::Async)).unwrap();
        wal.close().unwrap();
        check_after_crashes(&disk, 201, 201);
    }
}
