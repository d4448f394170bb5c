//! Two-phase commit over two logs: all or nothing whatever dies, at every storage operation; and what participants that fail are told.

use std::sync::Arc;

use braidlog::{
    BoxError, DamagePolicy, ErrorKind, LogParticipant, Options, Participant, TwoPhaseCommit, TwoPhaseError,
    Wal,
};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};
use proptest::collection::vec;
use proptest::prelude::*;

#[path = "support/crashes.rs"]
mod crashes;
#[path = "support/small_log.rs"]
mod small_log;

use small_log::{fill, small};

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

/// Two logs and their coordinator.
struct System {
    first: Wal,
    second: Wal,
    coordinator: TwoPhaseCommit,
}

impl System {
    /// Opens all three, and resolves what is in doubt.
    fn open(disk: &SimDisk) -> braidlog::Result<System> {
        let first = options(disk).open("first")?;
        let second = options(disk).open("second")?;
        let coordinator = TwoPhaseCommit::open(options(disk), "decisions")?;
        Ok(System { first, second, coordinator })
    }

    fn participants(&self) -> (LogParticipant, LogParticipant) {
        (LogParticipant::new("first", &self.first), LogParticipant::new("second", &self.second))
    }

    fn recover(&self) -> braidlog::Resolved {
        let (mut first, mut second) = self.participants();
        self.coordinator.recover(&mut [&mut first, &mut second])
    }

    /// A record with this number in each log, or in none.
    fn transfer(&self, number: u64) -> Result<(), BoxError> {
        let (mut first, mut second) = self.participants();
        first.transaction()?.append(1, number.to_le_bytes())?;
        second.transaction()?.append(1, number.to_le_bytes())?;
        let outcome = self.coordinator.commit(&mut [&mut first, &mut second])?;
        outcome.untold.into_iter().next().map_or(Ok(()), |untold| Err(untold.error))
    }

    /// The numbers that have taken effect in each log.
    fn numbers(&self) -> [Vec<u64>; 2] {
        [&self.first, &self.second].map(|wal| {
            let payloads = wal.replay().unwrap().map(|record| record.unwrap().payload);
            payloads.filter_map(|payload| Some(u64::from_le_bytes(payload.try_into().ok()?))).collect()
        })
    }

    fn close(&self) -> braidlog::Result<()> {
        self.first.close()?;
        self.second.close()?;
        self.coordinator.close()
    }
}

#[test]
fn crash_at_any_operation_leaves_each_transfer_in_both_logs_or_in_none() {
    let (mut in_doubt, mut committed, mut rolled_back) = (0, 0, 0);
    let look = |disk: &SimDisk, (_, acknowledged): &(System, u64), struck: crashes::Struck| {
        for profile in Profile::HONEST {
            for seed in 0..2 {
                let context = format!("{struck}, {profile:?}, seed {seed}");
                let mut after = disk.crash_clone(seed, profile);
                let mut found = Vec::new();
                for opening in 0..2 {
                    let system = System::open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
                    in_doubt += system.first.in_doubt().len() + system.second.in_doubt().len();
                    let resolved = system.recover();
                    assert!(resolved.untold.is_empty(), "{context}: {:?}", resolved.untold);
                    committed += resolved.committed.len();
                    rolled_back += resolved.rolled_back.len();
                    assert!(resolved.committed.is_disjoint(&resolved.rolled_back), "{context}");
                    assert!(system.first.in_doubt().is_empty() && system.second.in_doubt().is_empty());
                    assert!(system.coordinator.untold().is_empty(), "{context}");
                    let [first, second] = system.numbers();
                    assert_eq!(first, second, "{context}, opening {opening}");
                    assert!(first.iter().copied().eq(0..first.len() as u64), "{context}: {first:?}");
                    assert!(first.len() as u64 >= *acknowledged, "{context}: {first:?}");
                    assert!(opening == 0 || first == found, "{context}: what was decided stays");
                    found = first;
                    drop(system);
                    after = after.crash_clone(seed + 7, profile);
                }
            }
        }
    };
    let live = |(system, acknowledged): &mut (System, u64)| -> Result<(), BoxError> {
        for number in 0..3 {
            system.transfer(number)?;
            *acknowledged = number + 1;
        }
        Ok(system.close()?)
    };
    let (operations, _) = crashes::at_each_operation(|disk| (System::open(disk).unwrap(), 0), live, look);
    assert!(operations > 30, "{operations} operations");
    assert!(in_doubt > 20 && committed > 5 && rolled_back > 5, "{in_doubt}, {committed}, {rolled_back}");
}

/// A participant whose answers the test chooses.
#[derive(Debug, Default)]
struct Scripted {
    prepares: bool,
    listens: bool,
    in_doubt: Vec<Vec<u8>>,
    told: Vec<(Vec<u8>, bool)>,
}

impl Scripted {
    fn tell(&mut self, global_id: &[u8], commit: bool) -> Result<(), BoxError> {
        if !self.listens {
            return Err("not there".into());
        }
        self.in_doubt.retain(|other| other != global_id);
        self.told.push((global_id.to_vec(), commit));
        Ok(())
    }
}

impl Participant for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn prepare(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        if !self.prepares {
            return Err("no".into());
        }
        self.in_doubt.push(global_id.to_vec());
        Ok(())
    }

    fn commit(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        self.tell(global_id, true)
    }

    fn rollback(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        self.tell(global_id, false)
    }

    fn in_doubt(&mut self) -> Result<Vec<Vec<u8>>, BoxError> {
        if self.listens { Ok(self.in_doubt.clone()) } else { Err("not there".into()) }
    }
}

#[test]
fn participant_that_does_not_prepare_rolls_all_back() {
    let disk = SimDisk::new();
    let system = System::open(&disk).unwrap();
    let (mut first, _) = system.participants();
    first.transaction().unwrap().append(1, 7_u64.to_le_bytes()).unwrap();
    let mut refusing = Scripted { listens: true, ..Scripted::default() };
    let error = system.coordinator.commit(&mut [&mut first, &mut refusing]).unwrap_err();
    assert!(
        matches!(&error, TwoPhaseError::RolledBack { participant: Some(name), .. } if name == "scripted")
    );
    assert_eq!(error.to_string(), "rolled back, because `scripted` did not prepare: no");
    assert_eq!((system.numbers(), system.first.in_doubt()), ([vec![], vec![]], vec![]));
    assert!(system.coordinator.untold().is_empty());
    // And the next one begins anew.
    system.transfer(8).unwrap();
    assert_eq!(system.numbers(), [vec![8], vec![8]]);
}

#[test]
fn participant_that_cannot_be_told_is_told_later_also_after_a_restart_and_the_decision_stands() {
    let disk = SimDisk::new();
    let mut deaf = Scripted { prepares: true, ..Scripted::default() };
    let system = System::open(&disk).unwrap();
    let (mut first, _) = system.participants();
    first.transaction().unwrap().append(1, 7_u64.to_le_bytes()).unwrap();
    let outcome = system.coordinator.commit(&mut [&mut first, &mut deaf]).unwrap();
    assert_eq!(outcome.untold.len(), 1);
    assert_eq!((&outcome.untold[0].participant[..], system.numbers()), ("scripted", [vec![7], vec![]]));
    system.close().unwrap();
    drop((system, first));

    let system = System::open(&disk).unwrap();
    let committed = vec![outcome.global_id.clone()];
    assert_eq!(system.coordinator.untold(), committed);
    assert_eq!(system.coordinator.recover(&mut [&mut deaf]).untold.len(), 1);
    // Who is not asked is not known to have been told.
    assert!(system.recover().untold.is_empty());
    assert_eq!(system.coordinator.untold(), committed);
    deaf.listens = true;
    deaf.in_doubt.push(b"of another coordinator".to_vec());
    let (mut first, _) = system.participants();
    let resolved = system.coordinator.recover(&mut [&mut first, &mut deaf]);
    assert_eq!(resolved.committed.into_iter().collect::<Vec<_>>(), committed);
    assert_eq!(deaf.told, [(outcome.global_id, true)]);
    assert_eq!(deaf.in_doubt, [b"of another coordinator"]);
    assert!(system.coordinator.untold().is_empty() && resolved.rolled_back.is_empty());
}

/// The log of the coordinator failed while the decision was made durable. Nobody may be told either way until it is opened again: the
/// decision may be there.
#[test]
fn nobody_is_told_while_it_is_unknown_whether_the_decision_is_there() {
    let disk = SimDisk::new();
    let system = System::open(&disk).unwrap();
    system.transfer(1).unwrap();
    let mut scripted = Scripted { prepares: true, listens: true, ..Scripted::default() };
    disk.inject(Fault::eio(Op::Sync).after_effect().forever());
    let unknown = system.coordinator.commit(&mut [&mut scripted]).unwrap_err();
    assert!(matches!(unknown, TwoPhaseError::Unknown(_)), "{unknown}");
    disk.clear_faults();
    let resolved = system.coordinator.recover(&mut [&mut scripted]);
    assert!(resolved.committed.is_empty() && resolved.rolled_back.is_empty() && scripted.told.is_empty());
    assert_eq!(scripted.in_doubt.len(), 1);
    drop(system);
    let resolved = System::open(&disk).unwrap().coordinator.recover(&mut [&mut scripted]);
    assert_eq!(resolved.committed.len() + resolved.rolled_back.len(), 1);
    assert_eq!(scripted.told.len(), 1);
}

#[test]
fn log_of_a_coordinator_stays_short_and_its_global_ids_never_come_twice() {
    let disk = SimDisk::new();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let coordinator = TwoPhaseCommit::open(options(&disk), "decisions").unwrap();
        for _ in 0..700 {
            let mut scripted = Scripted { prepares: true, listens: true, ..Scripted::default() };
            let outcome = coordinator.commit(&mut [&mut scripted]).unwrap();
            assert!(ids.insert(outcome.global_id));
        }
        coordinator.close().unwrap();
    }
    let kept = options(&disk).open_read_only("decisions").unwrap();
    let (first, last) = (kept.first_lsn().unwrap(), kept.last_lsn().unwrap());
    assert!(last.0 >= 4200 && last.0 - first.0 < 2500, "{first} to {last}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Transfers, some of which die with one of the three, between openings, crashes and records that fill segments: both logs have the same.
    #[test]
    fn both_logs_have_the_same_transfers_after_any_life(
        steps in vec((0..6u8, 1..60u64, any::<u64>()), 1..12),
    ) {
        let mut disk = SimDisk::new();
        let mut system = System::open(&disk).unwrap();
        let (mut number, mut acknowledged) = (0, Vec::new());
        for (step, n, seed) in steps {
            match step {
                0 => fill(&system.first, 1),
                1..=3 => {
                    system.transfer(number).unwrap();
                    acknowledged.push(number);
                    number += 1;
                }
                _ => {
                    disk.inject(Fault::eio(Op::Any).nth(n).forever());
                    let done = system.transfer(number).is_ok();
                    acknowledged.extend(done.then_some(number));
                    number += 1;
                    drop(system);
                    disk.clear_faults();
                    disk = disk.crash_clone(seed, Profile::HONEST[(seed % Profile::HONEST.len() as u64) as usize]);
                    system = System::open(&disk).unwrap();
                    prop_assert!(system.recover().untold.is_empty());
                }
            }
            let [first, second] = system.numbers();
            prop_assert_eq!(&first, &second);
            prop_assert!(acknowledged.iter().all(|number| first.contains(number)));
        }
    }
}

#[test]
fn recover_leaves_a_part_alone_that_is_under_way() {
    let disk = SimDisk::new();
    let options = || small(&disk, &Arc::new(SimClock::new()));
    let (first, second) = (options().open("first").unwrap(), options().open("second").unwrap());
    let coordinator = TwoPhaseCommit::open(options(), "decisions").unwrap();
    let (mut a, mut b) = (LogParticipant::new("first", &first), LogParticipant::new("second", &second));
    a.transaction().unwrap().append(1, b"0").unwrap();
    b.transaction().unwrap().append(1, b"0").unwrap();
    let outcome = coordinator.commit(&mut [&mut a, &mut b]).unwrap();
    // What a coordinator leaves that died, or that could not tell the first one that all is rolled back.
    let id = [&outcome.global_id[..outcome.global_id.iter().position(|&b| b == b'/').unwrap() + 1], b"left"]
        .concat();
    a.transaction().unwrap().append(1, b"left").unwrap();
    a.prepare(&id).unwrap();

    a.transaction().unwrap().append(1, b"alice -10").unwrap();
    let resolved = coordinator.recover(&mut [&mut a, &mut b]);
    assert!(resolved.rolled_back.contains(&id));
    b.transaction().unwrap().append(1, b"bob +10").unwrap();
    coordinator.commit(&mut [&mut a, &mut b]).unwrap();
    assert_eq!((first.replay().unwrap().count(), second.replay().unwrap().count()), (2, 2));
}

#[test]
fn participants_of_one_name_are_refused_and_rolled_back() {
    let disk = SimDisk::new();
    let system = System::open(&disk).unwrap();
    let mut twins = [&system.first, &system.second].map(|wal| LogParticipant::new("twin", wal));
    for twin in &mut twins {
        twin.transaction().unwrap().append(1, b"x").unwrap();
    }
    let [one, other] = &mut twins;
    let error = system.coordinator.commit(&mut [one, other]).unwrap_err();
    assert!(
        matches!(error, TwoPhaseError::RolledBack { .. }) && error.to_string().contains("one name"),
        "{error}"
    );
    assert_eq!((system.first.replay().unwrap().count(), system.first.in_doubt().len()), (0, 0));
}

#[test]
fn a_coordinator_that_has_lost_records_rolls_nothing_back() {
    let disk = SimDisk::new();
    let system = System::open(&disk).unwrap();
    for number in 0..3 {
        system.transfer(number).unwrap();
    }
    let disk = disk.crash_clone(1, Profile::HONEST[0]);
    // The payload of the first decision.
    let file = "decisions/00000000000000000001.wal";
    let bytes = disk.read_raw(file);
    let at = bytes.windows(5).position(|window| window == b"first").unwrap();
    disk.write_raw(file, at as u64, b"lost!");
    let lossy = options(&disk).on_damage(DamagePolicy::SkipDamaged);
    let error = TwoPhaseCommit::open(lossy, "decisions").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("were given up"), "{error}");
}
