//! A crash at every storage operation of a log with transactions: each is there as a whole or not at all, with its id, and what was
//! committed is there.

use std::collections::HashSet;
use std::sync::Arc;

use braidlog::{Durability, Options, TxId, Wal};
use braidlog_sim::{Profile, SimClock, SimDisk};

#[path = "support/crashes.rs"]
mod crashes;
#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, small};

/// What takes effect together: payloads, and the transaction if it is one.
type Unit = (Vec<Vec<u8>>, Option<TxId>);

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

/// What was appended, in order, and how much of it was acknowledged.
#[derive(Default)]
struct Promised {
    units: Vec<Unit>,
    durable: usize,
    /// Every id that was given out, of what was given up too.
    ids: HashSet<TxId>,
}

impl Promised {
    fn payload(&self, place: usize, len: usize) -> Vec<u8> {
        let mut payload = vec![place as u8; len + 16];
        payload[..8].copy_from_slice(&(self.units.len() as u64).to_le_bytes());
        payload[8..16].copy_from_slice(&(place as u64).to_le_bytes());
        payload
    }

    /// A transaction of records of so many bytes, one of which was given up again.
    fn transaction(&mut self, wal: &Wal, lens: &[usize], later: bool) -> braidlog::Result<()> {
        let mut tx = wal.begin()?;
        assert!(self.ids.insert(tx.id()), "{} was given before", tx.id());
        let mut payloads = Vec::new();
        for (place, &len) in lens.iter().enumerate() {
            payloads.push(self.payload(place, len));
            tx.append(1, &payloads[place])?;
            let savepoint = tx.savepoint();
            tx.append(2, b"a mistake")?;
            tx.rollback_to(savepoint)?;
        }
        self.units.push((payloads, Some(tx.id())));
        if later {
            let ticket = tx.submit().map_err(|error| error.error().clone())?;
            ticket.wait()?;
        } else {
            tx.commit()?;
        }
        self.durable = self.units.len();
        Ok(())
    }

    fn single(&mut self, wal: &Wal) -> braidlog::Result<()> {
        let payload = self.payload(0, 100);
        self.units.push((vec![payload.clone()], None));
        wal.append(payload)?;
        self.durable = self.units.len();
        Ok(())
    }

    fn given_up(&mut self, wal: &Wal) -> braidlog::Result<()> {
        let mut tx = wal.begin()?;
        assert!(self.ids.insert(tx.id()));
        tx.append(3, b"never")?;
        tx.abort();
        Ok(())
    }

    /// A life of the log over several segments: what is promised is noted as it comes, up to the first error.
    fn live(&mut self, wal: &Wal) -> braidlog::Result<()> {
        self.single(wal)?;
        self.transaction(wal, &[10, 0, 5000], false)?;
        self.given_up(wal)?;
        self.transaction(wal, &[8000; 6], true)?;
        // Not asked to be durable, and nothing is promised of it until the next one is.
        let mut tx = wal.begin()?.durability(Durability::Async);
        assert!(self.ids.insert(tx.id()));
        let payloads = vec![self.payload(0, 30), self.payload(1, 40)];
        tx.append(1, &payloads[0])?.append(1, &payloads[1])?;
        self.units.push((payloads, Some(tx.id())));
        tx.commit()?;
        self.transaction(wal, &[8000; 5], false)?;
        self.single(wal)?;
        self.transaction(wal, &[1], false)?;
        wal.close()
    }

    /// What the log gives is some first part of what was appended, in whole units, and all that was acknowledged.
    #[track_caller]
    fn check(&self, wal: &Wal, context: &str) -> usize {
        let records: Vec<_> = wal.replay().unwrap().map(Result::unwrap).collect();
        let mut rest = &records[..];
        let mut found = 0;
        for (payloads, id) in &self.units {
            if rest.is_empty() {
                break;
            }
            let (unit, behind) = rest.split_at_checked(payloads.len()).unwrap_or_else(|| {
                panic!("{context}: {} of {} records of {id:?}", rest.len(), payloads.len())
            });
            for (record, payload) in unit.iter().zip(payloads) {
                assert_eq!((&record.payload, record.fields.transaction), (payload, *id), "{context}");
            }
            rest = behind;
            found += 1;
        }
        assert!(rest.is_empty(), "{context}: {} records that nobody appended", rest.len());
        assert!(found >= self.durable, "{context}: {found} of {} that were acknowledged", self.durable);
        found
    }
}

#[test]
fn a_crash_at_any_operation_leaves_each_transaction_whole_or_not_at_all() {
    let mut partial = 0;
    let look = |disk: &SimDisk, (_, promised): &(Wal, Promised), struck: crashes::Struck| {
        for profile in Profile::HONEST {
            for seed in 0..3 {
                let context = format!("{struck}, {profile:?}, seed {seed}");
                let after = disk.crash_clone(seed, profile);
                let wal = options(&after).open(PATH).unwrap_or_else(|error| panic!("{context}: {error}"));
                let found = promised.check(&wal, &context);
                partial += usize::from(found > 0 && found < 7);
                // It goes on, and no id comes twice.
                let ids = promised.ids.clone();
                let units = promised.units[..found].to_vec();
                let mut next = Promised { units, durable: found, ids };
                next.transaction(&wal, &[20, 30], false).unwrap();
                next.check(&wal, &context);
                drop(wal);
                let again = options(&after.crash_clone(seed, profile)).open(PATH).unwrap();
                next.check(&again, &context);
            }
        }
    };
    let (operations, (_, promised)) = crashes::at_each_operation(
        |disk| (options(disk).open(PATH).unwrap(), Promised::default()),
        |(wal, promised)| promised.live(wal),
        look,
    );
    assert_eq!(promised.durable, 7);
    assert!(operations > 40 && partial > 100, "{operations} operations, {partial} in the middle");
}
