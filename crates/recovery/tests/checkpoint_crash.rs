//! Checkpoints against crashes and failing disks: at every storage operation, what is named is whole.

mod support;

use braidlog_format::Lsn;
use braidlog_recovery::{CheckpointInfo, CheckpointOrder, RecoveryError, RestoreError};
use braidlog_sim::{Bound, Fault, Op, Profile, SimDisk};
use support::keys::{Keys, Store, log_of, order_at};
use support::{Pen, disk_with, files};

/// The most images of one moment that are looked at one by one.
const IMAGES_MAX: u64 = 5000;

/// What is done while the disk fails or the power goes: two checkpoints of different kinds, the second of which makes
/// the first chain go.
const STEPS: [CheckpointOrder; 3] = [
    CheckpointOrder { incremental: true, chains_kept: 1, deltas_max: 2, ..at(4) },
    CheckpointOrder { incremental: true, chains_kept: 1, deltas_max: 2, ..at(6) },
    CheckpointOrder { incremental: true, chains_kept: 1, deltas_max: 2, ..at(7) },
];

const fn at(lsn: u64) -> CheckpointOrder {
    CheckpointOrder { lsn: Lsn(lsn), durable: Lsn(lsn), replay_from: Lsn(lsn + 1), ..support::keys::ORDER }
}

/// A log of eight records with one checkpoint, all of it durable.
fn begun() -> (SimDisk, Pen) {
    let (disk, pen) = log_of(8);
    Store::open(&disk).write(&order_at(Lsn(2)), &Keys::of(&pen.model[..2])).unwrap();
    (disk_with(&files(&disk)), pen)
}

/// Takes the steps, however many succeed; the last checkpoint that was said to be there.
fn steps(store: &Store, pen: &Pen) -> Option<CheckpointInfo> {
    let step =
        |order: &CheckpointOrder| store.write(order, &Keys::of(&pen.model[..order.lsn.0 as usize])).ok();
    STEPS.iter().filter_map(step).last()
}

/// Crash images of this moment: all of them, or many.
fn images(disk: &SimDisk) -> Vec<SimDisk> {
    let all = [Bound::Damage, Bound::Sectors, Bound::Pages].map(|bound| disk.crash_images(bound));
    let few = all.iter().find(|images| images.total() <= IMAGES_MAX);
    let mut images: Vec<_> = few.into_iter().flat_map(|images| images.iter()).collect();
    for seed in 0..12 {
        images.extend(Profile::HONEST.map(|profile| disk.crash_clone(seed, profile)));
    }
    images
}

/// What was checkpointed is restored, with the records behind it, and nothing was passed over: no file that is named is
/// half a file. Gives the checkpoint that was used.
fn assert_restores(disk: &SimDisk, pen: &Pen, told: &str) -> CheckpointInfo {
    let store = Store::open(disk);
    let (keys, report) = store.restore(pen.durable).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert_eq!(keys, Keys::of(&pen.model), "{told}");
    assert_eq!(report.passed_over, [], "{told}");
    let used = report.checkpoint.expect("there was one before");
    assert_eq!(report.total, pen.durable.0 - used.lsn.0, "{told}");
    used
}

#[test]
fn a_crash_at_every_operation_leaves_whole_checkpoints() {
    let (begun, pen) = begun();
    let before = files(&begun);
    let mut crashes = 0;
    for after_effect in [false, true] {
        for n in 1.. {
            let disk = disk_with(&before);
            let store = Store::open(&disk);
            // From the n-th operation on nothing works any more: the power went there.
            let died = Fault::eio(Op::Any).nth(n);
            disk.inject(if after_effect { died.after_effect() } else { died });
            disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
            let said = steps(&store, &pen);
            let is_over = disk.faults_struck() == 0;
            disk.clear_faults();
            for (number, image) in images(&disk).into_iter().enumerate() {
                let told = format!("operation {n}, image {number}");
                let used = assert_restores(&image, &pen, &told);
                let least = said.as_ref().map_or(1, |info| info.number);
                assert!(
                    used.number >= least,
                    "{told}: {} is used, and {least} was said to be there",
                    used.number
                );
                // What was restored stays, and the next checkpoint is taken as if nothing had been.
                let next = steps(&Store::open(&image), &pen).unwrap_or_else(|| panic!("{told}"));
                let again = assert_restores(&image.crash_clone(0, Profile::Posix), &pen, &told);
                assert_eq!(again, next, "{told}");
                crashes += 1;
            }
            if is_over {
                break;
            }
        }
    }
    assert!(crashes > 4_000, "{crashes} images");
}

#[test]
fn a_failure_of_any_operation_costs_one_checkpoint_at_the_most() {
    let (begun, pen) = begun();
    let before = files(&begun);
    let mut failures = 0;
    for (name, fault) in [
        ("fails", Fault::eio as fn(Op) -> Fault),
        ("fails afterwards", |op| Fault::eio(op).after_effect()),
        ("is full", Fault::no_space),
        ("loses its pages", |_| Fault::lost_sync()),
        ("tears", |_| Fault::torn_write(5)),
    ] {
        // The application gives up at the first failure, or goes on.
        for (n, goes_on) in (1..).flat_map(|n| [(n, false), (n, true)]) {
            let disk = disk_with(&before);
            let store = Store::open(&disk);
            disk.inject(fault(Op::Any).nth(n));
            let taken: Vec<_> = STEPS
                .iter()
                .map(|order| store.write(order, &Keys::of(&pen.model[..order.lsn.0 as usize])))
                .take_while(|written| goes_on || written.is_ok())
                .flatten()
                .collect();
            let is_over = disk.faults_struck() == 0;
            disk.clear_faults();
            let told = format!("operation {n} {name}, goes on: {goes_on}");
            assert!(taken.len() >= 2 || !goes_on, "{told}: {} of three checkpoints were taken", taken.len());
            // What this process knows of, and what the next one finds, now and after a power cut.
            let (keys, report) = store.restore(pen.durable).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert_eq!((keys, report.passed_over.len()), (Keys::of(&pen.model), 0), "{told}");
            let least = taken.last().map_or(1, |info| info.number);
            assert_eq!(report.checkpoint.map(|info| info.number), Some(least), "{told}");
            for seed in 0..8 {
                let used = assert_restores(&disk.crash_clone(seed, Profile::Posix), &pen, &told);
                assert!(used.number >= least, "{told}");
            }
            assert_restores(&disk.crash_clone(0, Profile::Kept), &pen, &told);
            if is_over {
                break;
            }
            failures += 1;
        }
    }
    assert!(failures > 80, "{failures} failures");
}

#[test]
fn a_sync_that_failed_is_never_asked_for_again_on_that_file() {
    let (disk, pen) = begun();
    let store = Store::open(&disk);
    disk.inject(Fault::lost_sync());
    let order = order_at(Lsn(8));
    store.write(&order, &Keys::of(&pen.model)).unwrap_err();
    disk.take_trace();
    let info = store.write(&order, &Keys::of(&pen.model)).unwrap();
    assert_eq!(info.number, 3, "the number of the one that failed is not given again");
    assert!(
        disk.take_trace().iter().all(|traced| !traced.name.starts_with("2.ckpt")),
        "its file is left alone"
    );
    assert_restores(&disk.crash_clone(0, Profile::Posix), &pen, "after the second");
}

#[test]
fn a_checkpoint_that_the_manifest_could_not_name_leaves_no_file() {
    let (disk, pen) = begun();
    let store = Store::open(&disk);
    let keys = Keys::of(&pen.model);
    let files = || disk.list_raw("log").iter().filter(|(name, _)| name.contains(".ckpt")).count();
    let before = files();
    // It would fill a full disk, and then nothing that makes space could be written either.
    for _ in 0..3 {
        disk.inject(Fault::no_space(Op::Write).on("MANIFEST.new"));
        store.write(&order_at(Lsn(8)), &keys).unwrap_err();
        assert_eq!(files(), before);
    }
    // The manifest on disk names it, though nobody was told so: it stays until the next one does not.
    disk.inject(Fault::eio(Op::Rename).on("MANIFEST.new").after_effect());
    store.write(&order_at(Lsn(8)), &keys).unwrap_err();
    assert_eq!(files(), before + 1);
    assert_restores(&disk.crash_clone(0, Profile::Kept), &pen, "by the manifest on disk");
    let info = store.write(&order_at(Lsn(8)), &keys).unwrap();
    let named = store.checkpoints.list().len();
    assert_eq!(files(), named, "no other is left");
    assert_eq!(assert_restores(&disk.crash_clone(0, Profile::Kept), &pen, "after it").number, info.number);
}

#[test]
fn a_disk_that_fails_while_it_is_read_never_leads_to_another_state() {
    let (begun, pen) = begun();
    steps(&Store::open(&begun), &pen).unwrap();
    let expected = Keys::of(&pen.model);
    let (mut told, mut passed_over) = (0, 0);
    for fault in [Fault::eio, Fault::interrupted, Fault::short] {
        for (n, times) in (1..).flat_map(|n| [(n, 1), (n, 3)]) {
            let store = Store::open(&begun);
            let struck = begun.faults_struck();
            begun.inject(fault(Op::Any).nth(n).times(times));
            let restored = store.restore(pen.durable);
            let is_over = begun.faults_struck() == struck;
            begun.clear_faults();
            match restored {
                Ok((keys, report)) => {
                    assert_eq!(keys, expected, "operation {n}");
                    passed_over += u32::from(!report.passed_over.is_empty());
                }
                Err(RestoreError::Recovery(error)) => {
                    assert!(matches!(error, RecoveryError::Io { .. }), "operation {n}: {error}");
                    told += 1;
                }
                Err(error) => panic!("operation {n}: {error}"),
            }
            if is_over {
                break;
            }
        }
    }
    assert!(told > 10 && passed_over > 2, "{told} errors, {passed_over} with something passed over");
    assert_restores(&begun, &pen, "when it works again");
}
