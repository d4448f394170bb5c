//! A crash at every storage operation of a log with streams that is cut again and again: what is left of each stream is dense,
//! what was acknowledged is counted, and no sequence is given twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use braidlog::{Append, Durability, Lsn, Options, Wal};
use braidlog_sim::{Profile, SimClock, SimDisk};

#[path = "support/crashes.rs"]
mod crashes;
#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, small};

const NAMES: [&str; 3] = ["busy", "quiet", "late"];

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

/// How many records of each stream were acknowledged, and how many were begun.
#[derive(Clone, Default)]
struct Promised(BTreeMap<&'static str, (u64, u64)>);

impl Promised {
    fn append(&mut self, wal: &Wal, name: &'static str, len: usize) -> braidlog::Result<()> {
        let stream = wal.stream(name)?;
        let (durable, begun) = self.0.entry(name).or_default();
        *begun = stream.last_sequence() + 1;
        let position = stream.append(vec![name.len() as u8; len])?;
        assert_eq!(position.sequence, *begun, "{name}");
        *durable = *begun;
        Ok(())
    }

    /// One that nobody asked to be durable: nothing is promised of it until the next one is.
    fn append_later(&mut self, wal: &Wal, name: &'static str) -> braidlog::Result<()> {
        let later = Append::new(b"later").durability(Durability::Async);
        self.0.entry(name).or_default().1 = wal.stream(name)?.append_with(later)?.sequence;
        Ok(())
    }

    /// A life of the log over several segments, most of which go again.
    fn live(&mut self, wal: &Wal) -> braidlog::Result<()> {
        for round in 0..3 {
            self.append(wal, "quiet", 10)?;
            for _ in 0..9 {
                self.append(wal, "busy", 9000)?;
                wal.append([0; 500])?;
            }
            self.append_later(wal, "busy")?;
            wal.maintain()?;
            wal.checkpoint(wal.last_lsn(), |_| Ok(()))?;
            self.append(wal, "busy", 9000)?;
            wal.truncate_before(wal.durable_lsn().prev())?;
            if round == 1 {
                self.append(wal, "late", 10)?;
            }
        }
        wal.close()
    }

    /// What is left is dense, and each stream goes on behind all that was acknowledged and all that is left.
    fn check(&self, wal: &Wal, context: &str) {
        let mut found = BTreeMap::<u64, u64>::new();
        for record in wal.iter(..).unwrap() {
            let fields = record.unwrap().fields;
            if let Some((id, sequence)) = fields.stream.zip(fields.sequence) {
                let last = found.insert(id, sequence);
                assert!(
                    last.is_none_or(|last| last + 1 == sequence),
                    "{context}: {sequence} behind {last:?}"
                );
            }
        }
        for info in wal.streams().unwrap() {
            let name = NAMES.into_iter().find(|name| *name == info.name).unwrap();
            let (durable, begun) = self.0.get(name).copied().unwrap_or_default();
            let last = info.last_sequence;
            assert!((durable..=begun).contains(&last), "{context}: {name}: {last} of {durable} to {begun}");
            if let Some(found) = found.get(&info.id) {
                assert_eq!(*found, last, "{context}: {name}");
            }
        }
        let known = wal.streams().unwrap().len();
        let acknowledged = self.0.values().filter(|(durable, _)| *durable > 0).count();
        assert!(known >= acknowledged, "{context}: {known} of {acknowledged} streams");
    }
}

#[test]
fn a_crash_at_any_operation_leaves_dense_streams_that_go_on_behind_what_was_acknowledged() {
    let mut cut = 0;
    let look = |disk: &SimDisk, (_, promised): &(Wal, Promised), struck: crashes::Struck| {
        for profile in Profile::HONEST {
            let context = format!("{struck}, {profile:?}");
            let after = disk.crash_clone(struck.operation, profile);
            let wal = options(&after).open(PATH).unwrap_or_else(|error| panic!("{context}: {error}"));
            promised.check(&wal, &context);
            cut += usize::from(wal.first_lsn() > Lsn::FIRST);
            // It goes on, and crashes again.
            let mut next = promised.clone();
            for name in NAMES {
                next.append(&wal, name, 100).unwrap();
            }
            drop(wal);
            let again = options(&after.crash_clone(struck.operation, profile)).open(PATH).unwrap();
            next.check(&again, &context);
        }
    };
    let (operations, _) = crashes::at_each_operation(
        |disk| (options(disk).open(PATH).unwrap(), Promised::default()),
        |(wal, promised)| promised.live(wal),
        look,
    );
    assert!(operations > 60 && cut > 50, "{operations} operations, {cut} of a log that was cut");
}
