//! What a log keeps and what it gives up: never what a checkpoint, a hold or a reader needs, whatever the limits are,
//! whatever the clock says, and wherever it crashes.

use std::sync::Arc;
use std::time::Duration;

use braidlog::{
    Applied, BoxError, CheckpointReader, ErrorKind, Event, HealthState, KeptBy, Lsn, Options, RecordRef,
    Restore, Retention, SizeState, Wal,
};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;
#[path = "support/upkept.rs"]
mod upkept;

use small_log::{PATH, append, assert_reads, assert_records, bases, fill, small};
use upkept::Log;

const HOUR: Duration = Duration::from_secs(3600);

impl Log {
    /// What the upkeep does now; where the log starts then. All that it still has can be read.
    #[track_caller]
    fn maintained(&self) -> Lsn {
        self.wal.maintain().unwrap();
        let first = self.wal.first_lsn();
        assert_eq!(bases(&self.disk, PATH).first(), Some(&first.0));
        assert_records(self.wal.iter(..), first, self.wal.durable_lsn());
        first
    }
}

/// A checkpoint whose content is its LSN.
fn checkpoint(wal: &Wal, lsn: Lsn) {
    wal.checkpoint(lsn, |writer| Ok(std::io::Write::write_all(writer, &lsn.0.to_le_bytes())?)).unwrap();
}

fn segments(count: u32) -> impl Fn(Options) -> Options {
    move |options| options.retention(Retention::segments(count))
}

// What is needed

#[test]
fn without_a_checkpoint_nothing_is_given_up() {
    let log = Log::open(|options| options.retention(Retention::segments(1).bytes(0).age(Duration::ZERO)));
    fill(&log.wal, 12);
    log.clock.advance(1000 * HOUR);
    assert_eq!(log.maintained(), Lsn(1));
    assert_eq!(log.wal.upkeep().kept_by, Some(KeptBy::NoCheckpoint));
    let error = log.wal.truncate_before(Lsn(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("lack of a checkpoint"), "{error}");
}

#[test]
fn what_the_oldest_kept_checkpoint_needs_stays_whatever_the_limits_are() {
    let log = Log::open(segments(1));
    fill(&log.wal, 6);
    checkpoint(&log.wal, Lsn(20));
    checkpoint(&log.wal, Lsn(40));
    let first = log.maintained();
    assert!(first > Lsn(1) && first <= Lsn(21), "{first}");
    let kept_by = KeptBy::Checkpoint { lsn: Lsn(20), replay_from: Lsn(21) };
    assert_eq!(log.wal.upkeep().kept_by, Some(kept_by));
    // An order may pass it, and not the newest.
    let next = log.wal.truncate_before(Lsn(41)).unwrap();
    assert!(next > Lsn(21) && next <= Lsn(41), "{next}");
    let error = log.wal.truncate_before(Lsn(42)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("checkpoint at LSN 40"), "{error}");
    assert_eq!(log.wal.first_lsn(), next);
}

#[test]
fn the_default_keeps_ten_segments_below_a_checkpoint() {
    let log = Log::open(|options| options);
    fill(&log.wal, 14);
    checkpoint(&log.wal, log.wal.last_lsn());
    checkpoint(&log.wal, log.wal.last_lsn());
    log.maintained();
    assert_eq!(bases(&log.disk, PATH).len(), 10);
    assert_eq!(log.wal.upkeep().kept_by, Some(KeptBy::Limits));
    let mut events = log.events();
    events.retain(|event| matches!(event, Event::Truncated { .. }));
    let [Event::Truncated { first_lsn, segments, bytes, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(first_lsn, log.wal.first_lsn());
    let status = log.wal.upkeep();
    assert_eq!((status.segments_removed, status.bytes_freed), (segments, bytes));
}

#[test]
fn a_hold_keeps_the_log_over_openings_until_it_is_moved_or_released() {
    let log = Log::open(segments(1));
    fill(&log.wal, 3);
    log.wal.set_hold("replica", Lsn(10)).unwrap();
    log.wal.set_hold("archive", Lsn(30)).unwrap();
    fill(&log.wal, 6);
    checkpoint(&log.wal, log.wal.last_lsn());
    let first = log.maintained();
    assert!(first <= Lsn(10), "{first}");
    let log = log.reopen(segments(1));
    let held: Vec<_> = log.wal.holds().into_iter().map(|hold| (hold.name, hold.lsn)).collect();
    assert_eq!(held, [("archive".to_owned(), Lsn(30)), ("replica".to_owned(), Lsn(10))]);
    assert_eq!(log.maintained(), first);
    let kept_by = KeptBy::Hold { name: "replica".to_owned(), lsn: Lsn(10) };
    assert_eq!(log.wal.upkeep().kept_by, Some(kept_by));
    let error = log.wal.truncate_before(Lsn(11)).unwrap_err();
    assert!(error.to_string().contains("`replica`"), "{error}");
    log.wal.set_hold("replica", Lsn(50)).unwrap();
    let first = log.maintained();
    assert!(first > Lsn(10) && first <= Lsn(30), "{first}");
    assert!(log.wal.release_hold("archive").unwrap());
    assert!(!log.wal.release_hold("archive").unwrap());
    let first = log.maintained();
    assert!(first > Lsn(30) && first <= Lsn(50), "{first}");
}

#[test]
fn a_hold_has_a_name_and_an_lsn_that_the_log_still_has() {
    let log = Log::open(segments(1));
    fill(&log.wal, 3);
    checkpoint(&log.wal, log.wal.last_lsn());
    let first = log.maintained();
    let refused = |name: &str, lsn: Lsn| {
        let error = log.wal.set_hold(name, lsn).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    assert!(refused("late", first.prev()).contains(&format!("starts at LSN {first}")));
    assert!(refused("", first).contains("1 to 255 bytes"));
    assert!(refused(&"x".repeat(256), first).contains("256"));
    log.wal.set_hold(&"x".repeat(255), first).unwrap();
    log.wal.set_hold("a name, with: anything / in it \u{1F512}", first).unwrap();
    assert_eq!(log.wal.holds().len(), 2);
}

#[test]
fn a_reader_of_this_process_keeps_its_files_and_lets_them_go() {
    let log = Log::open(segments(1));
    fill(&log.wal, 8);
    checkpoint(&log.wal, log.wal.last_lsn());
    let mut records = log.wal.iter(Lsn(15)..).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, Lsn(15));
    log.wal.maintain().unwrap();
    assert!(log.wal.first_lsn() > Lsn(1) && log.wal.first_lsn() <= Lsn(15));
    assert!(matches!(log.wal.upkeep().kept_by, Some(KeptBy::Reader { .. })));
    assert!(log.wal.truncate_before(Lsn(60)).unwrap() <= Lsn(15));
    let rest = records.by_ref().map(|record| record.unwrap().lsn.0).collect::<Vec<_>>();
    assert_eq!(rest, (16..=log.wal.durable_lsn().0).collect::<Vec<_>>());
    drop(records);
    assert!(log.maintained() > Lsn(40));
}

// The clock

#[test]
fn age_counts_while_the_log_is_open_and_over_openings() {
    let of_age = |options: Options| options.retention(Retention::keep_all().age(10 * HOUR));
    let log = Log::open(of_age);
    fill(&log.wal, 4);
    checkpoint(&log.wal, log.wal.last_lsn());
    assert_eq!(log.maintained(), Lsn(1));
    log.clock.advance(6 * HOUR);
    assert_eq!(log.maintained(), Lsn(1));
    // So little that only closing the log writes it down.
    log.clock.advance(HOUR / 2);
    let log = log.reopen(of_age);
    // Three and a half hours more make ten.
    log.clock.advance(HOUR * 7 / 2 - Duration::from_secs(1));
    assert_eq!(log.maintained(), Lsn(1));
    log.clock.advance(Duration::from_secs(1));
    let first = log.maintained();
    assert!(first > Lsn(8), "{first}");
    assert_eq!(log.wal.upkeep().uptime, 10 * HOUR);
}

#[test]
fn time_during_which_nobody_had_the_log_open_does_not_count() {
    let of_age = |options: Options| options.retention(Retention::keep_all().age(HOUR));
    let log = Log::open(of_age);
    fill(&log.wal, 4);
    checkpoint(&log.wal, log.wal.last_lsn());
    log.maintained();
    log.wal.close().unwrap();
    log.clock.advance(10_000 * HOUR);
    let log = Log::open_on(log.disk, log.clock, of_age);
    assert_eq!(log.maintained(), Lsn(1));
    log.clock.advance(HOUR);
    assert!(log.maintained() > Lsn(1));
}

#[test]
fn a_wall_clock_that_steps_back_or_jumps_ahead_deletes_nothing() {
    let of_age = |options: Options| options.retention(Retention::keep_all().age(HOUR));
    let years = |years: u64| years * 365 * 24 * 3600 * 1_000_000_000;
    let log = Log::open(of_age);
    log.clock.set_wall_ns(years(50));
    fill(&log.wal, 2);
    checkpoint(&log.wal, log.wal.last_lsn());
    for wall in [years(90), 0, years(20), years(500)] {
        log.clock.set_wall_ns(wall);
        assert_eq!(log.maintained(), Lsn(1), "{wall}");
        fill(&log.wal, 1);
        checkpoint(&log.wal, log.wal.last_lsn());
    }
    // Also not when the process started with a wrong one.
    log.clock.set_wall_ns(years(99));
    let log = log.reopen(of_age);
    assert_eq!(log.maintained(), Lsn(1));
    log.clock.set_wall_ns(0);
    assert_eq!(log.maintained(), Lsn(1));
    log.clock.advance(HOUR);
    assert!(log.maintained() > Lsn(1));
}

// Size

#[test]
fn size_is_told_as_a_state_and_limits_go_before_it_is_a_warning() {
    // The segment under the pen and the one that is prepared have 4.5 MB, the others 57 KB each.
    let most = 10_000_000;
    let log = Log::open(|options| options.retention(Retention::segments(1000)).max_log_bytes(Some(most)));
    let state = || (log.wal.upkeep().size, log.wal.health().state);
    fill(&log.wal, 8);
    log.maintained();
    assert_eq!(state(), (SizeState::Fine, HealthState::Ok));
    let mut seen = Vec::new();
    for _ in 0..13 {
        fill(&log.wal, 8);
        log.maintained();
        seen.push(state());
    }
    assert!(seen.contains(&(SizeState::Warning, HealthState::Ok)), "{seen:?}");
    assert_eq!(state(), (SizeState::Critical, HealthState::Upkeep));
    // With a checkpoint nothing needs it: the log is below 80 % again, at once.
    checkpoint(&log.wal, log.wal.last_lsn());
    log.maintained();
    assert_eq!(state(), (SizeState::Fine, HealthState::Ok));
    assert!(log.wal.upkeep().log_bytes < most / 10 * 8);
    let mut told = log.events();
    told.retain(|event| matches!(event, Event::SizeChanged { limit, .. } if *limit == most));
    let told: Vec<_> = told.iter().map(|event| format!("{event:?}")).collect();
    for state in ["Warning", "Critical"] {
        assert!(told.iter().any(|event| event.contains(state)), "{told:?}");
    }
    assert!(told.last().unwrap().contains("Fine"), "{told:?}");
}

// Upkeep

#[test]
fn upkeep_that_is_paused_gives_nothing_up_and_goes_on_afterwards() {
    let log = Log::open(segments(1));
    fill(&log.wal, 5);
    checkpoint(&log.wal, log.wal.last_lsn());
    let (pause, another) = (log.wal.pause_maintenance(), log.wal.pause_maintenance());
    assert!(log.wal.upkeep().paused);
    assert_eq!(log.maintained(), Lsn(1));
    drop(pause);
    assert_eq!(log.maintained(), Lsn(1));
    drop(another);
    assert!(log.maintained() > Lsn(1) && !log.wal.upkeep().paused);
}

#[test]
fn a_failure_at_any_operation_is_told_backs_off_and_heals_without_loss() {
    let mut failures = 0;
    for n in 1.. {
        let log = Log::open(segments(2));
        fill(&log.wal, 5);
        checkpoint(&log.wal, Lsn(20));
        checkpoint(&log.wal, log.wal.last_lsn());
        log.events();
        log.disk.inject(Fault::eio(Op::Any).nth(n));
        let struck = log.disk.faults_struck();
        let done = log.wal.maintain();
        log.disk.clear_faults();
        if log.disk.faults_struck() == struck {
            done.unwrap();
            break;
        }
        let Err(error) = done else {
            // A file that cannot be used again goes, which is no failure.
            let first = log.maintained();
            assert!(first > Lsn(1) && first <= Lsn(21), "operation {n}: {first}");
            continue;
        };
        failures += 1;
        assert_eq!(error.kind(), ErrorKind::Io, "operation {n}: {error}");
        let failing = log.wal.upkeep().failing;
        assert_eq!((failing.len(), failing[0].failures), (1, 1), "{failing:?}");
        assert_eq!(failing[0].retry_in, Duration::from_secs(1));
        assert_eq!(log.wal.health().state, HealthState::Upkeep);
        let task = failing[0].task;
        let is_told =
            |event: &Event| matches!(event, Event::UpkeepFailed { task: told, .. } if *told == task);
        assert!(log.events().iter().any(is_told));
        // Nothing but the upkeep has noticed.
        append(&log.wal, 1);
        assert_records(log.wal.iter(..), log.wal.first_lsn(), log.wal.durable_lsn());
        let first = log.maintained();
        assert!(first > Lsn(1) && first <= Lsn(21), "operation {n}: {first}");
        assert_eq!(log.wal.health().state, HealthState::Ok);
        let has_healed =
            |event: &Event| matches!(event, Event::UpkeepRecovered { task: told } if *told == task);
        assert!(log.events().iter().any(has_healed));
    }
    assert!(failures > 10, "{failures} failures");
}

#[test]
fn a_crash_at_any_operation_of_a_truncation_loses_nothing_that_is_needed() {
    let mut operations = 0;
    for after_effect in [false, true] {
        for n in 1.. {
            let log = Log::open(segments(2));
            fill(&log.wal, 5);
            checkpoint(&log.wal, Lsn(20));
            log.wal.set_hold("replica", Lsn(17)).unwrap();
            let last = log.wal.durable_lsn();
            let died = Fault::eio(Op::Any).nth(n);
            log.disk.inject(if after_effect { died.after_effect() } else { died });
            log.disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
            let struck = log.disk.faults_struck();
            let _ = log.wal.maintain();
            let is_over = log.disk.faults_struck() == struck;
            log.disk.clear_faults();
            if is_over {
                operations += n - 1;
                break;
            }
            for seed in 0..6 {
                for profile in Profile::HONEST {
                    let context = format!("operation {n}, {profile:?}, seed {seed}");
                    let after = log.disk.crash_clone(seed, profile);
                    let report = small(&after, &log.clock).verify(PATH, |_| ()).unwrap();
                    assert!(report.is_clean(), "{context}: {:?}", report.problems);
                    let reader = small(&after, &log.clock).open_read_only(PATH).unwrap();
                    assert_eq!(assert_reads(&reader), last, "{context}");
                    let again = Log::open_on(after, log.clock.clone(), segments(2));
                    let first = again.wal.first_lsn();
                    assert!(first <= Lsn(17), "{context}: {first}");
                    assert_eq!(bases(&again.disk, PATH).first(), Some(&first.0), "{context}");
                    assert_eq!(again.wal.holds().len(), 1, "{context}");
                    append(&again.wal, 1);
                    let first = again.maintained();
                    assert!(first > Lsn(1) && first <= Lsn(17), "{context}: {first}");
                }
            }
        }
    }
    assert!(operations > 20, "{operations} operations");
}

#[test]
fn a_listener_that_panics_hurts_nobody() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let options = small(&disk, &clock).retention(Retention::segments(1));
    let wal = options.on_event(|event| panic!("a bug of the application: {event:?}")).open(PATH).unwrap();
    fill(&wal, 4);
    checkpoint(&wal, wal.last_lsn());
    wal.maintain().unwrap();
    assert!(wal.first_lsn() > Lsn(1));
    append(&wal, 1);
    wal.close().unwrap();
}

#[test]
fn a_closed_log_keeps_its_peace() {
    let log = Log::open(segments(1));
    append(&log.wal, 3);
    log.wal.close().unwrap();
    let names = || log.disk.list_raw(PATH);
    let before = names();
    let kinds = [
        log.wal.maintain().unwrap_err().kind(),
        log.wal.truncate_before(Lsn(2)).unwrap_err().kind(),
        log.wal.set_hold("late", Lsn(2)).unwrap_err().kind(),
        log.wal.release_hold("late").unwrap_err().kind(),
        log.wal.backup("elsewhere").unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed; 5]);
    drop(log.wal.pause_maintenance());
    assert_eq!(names(), before);
    assert!(log.wal.upkeep().failing.is_empty());
}

#[test]
fn an_order_leaves_what_the_newest_checkpoint_that_can_be_read_needs() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let options = small(&disk, &clock).retention(Retention::keep_all());
    let wal = options.open(PATH).unwrap();
    fill(&wal, 2);
    let older = wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
    fill(&wal, 2);
    let newer = wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
    fill(&wal, 2);
    disk.flip_bit(format!("{PATH}/{}", newer.file), 4150, 2);
    let mut state = Nothing(Lsn::ZERO);
    assert_eq!(wal.recover(&mut state).unwrap().checkpoint, Some(older.clone()));
    // A recovery by the older one would not get back to here any more.
    let error = wal.truncate_before(newer.replay_from).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&format!("checkpoint at LSN {}", older.lsn)), "{error}");
    wal.truncate_before(older.replay_from).unwrap();
    assert_eq!(wal.recover(&mut state).unwrap().checkpoint, Some(older));
    // The next one is as good as any.
    let newest = wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
    wal.truncate_before(newest.replay_from).unwrap();
    assert_eq!(wal.recover(&mut state).unwrap().checkpoint, Some(newest));
}

#[test]
fn files_that_wait_to_be_used_again_never_keep_a_full_disk_full() {
    for by_order in [false, true] {
        let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
        let wal = small(&disk, &clock).retention(Retention::segments(2)).open(PATH).unwrap();
        fill(&wal, 8);
        let newest = wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
        let first = wal.truncate_before(Lsn(4 * small_log::PER_SEGMENT)).unwrap();
        assert!(wal.upkeep().segments_recycled > 0);
        // Not a byte for the manifest that lets more go, and no reserve for it either.
        for name in ["MANIFEST.reserve", "MANIFEST.reserve2", "MANIFEST.reserve3"] {
            disk.remove_raw(format!("{PATH}/{name}"));
        }
        disk.set_capacity(Some(disk.used_bytes()));
        let cut = if by_order { wal.truncate_before(newest.lsn).map(|_| ()) } else { wal.maintain() };
        cut.unwrap();
        assert!(wal.first_lsn() > first);
    }
}

/// A state of which only the last LSN is known.
struct Nothing(Lsn);

impl Restore for Nothing {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        self.0 = part.lsn();
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        assert_eq!(record.lsn, self.0.next());
        self.0 = record.lsn;
        Ok(Applied::Applied)
    }
}
