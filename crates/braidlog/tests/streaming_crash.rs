//! A crash at every storage operation of a log with streaming transactions: what takes effect is some first part of what did, each
//! transaction whole or not at all, and what was committed is there. One that had no commit never comes back.

use std::collections::HashSet;
use std::sync::Arc;

use braidlog::{Append, Durability, Options, StreamingTransaction, TxId, Wal};
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

/// What was appended, in the order in which it takes effect, and how much of it was acknowledged.
#[derive(Default)]
struct Promised {
    units: Vec<Unit>,
    durable: usize,
    /// Payloads that were made.
    made: u64,
    /// Every id that was given out, of what was given up too.
    ids: HashSet<TxId>,
}

/// A transaction that is open, and what is to take effect of it.
struct Open {
    tx: StreamingTransaction,
    payloads: Vec<Vec<u8>>,
}

impl Promised {
    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.made += 1;
        let mut payload = vec![(self.made % 251) as u8; len + 8];
        payload[..8].copy_from_slice(&self.made.to_le_bytes());
        payload
    }

    fn single(&mut self, wal: &Wal, durability: Durability) -> braidlog::Result<()> {
        let payload = self.payload(100);
        self.units.push((vec![payload.clone()], None));
        wal.append_with(Append::new(&payload).durability(durability))?;
        if durability != Durability::Async {
            self.durable = self.units.len();
        }
        Ok(())
    }

    fn begin(&mut self, wal: &Wal) -> braidlog::Result<Open> {
        let tx = wal.begin_streaming()?;
        assert!(self.ids.insert(tx.id()), "{} was given before", tx.id());
        Ok(Open { tx, payloads: Vec::new() })
    }

    /// Records of so many bytes, and behind each one that is given up again.
    fn records(&mut self, open: &mut Open, lens: &[usize]) -> braidlog::Result<()> {
        for &len in lens {
            let payload = self.payload(len);
            open.tx.append(1, &payload)?;
            open.payloads.push(payload);
            let savepoint = open.tx.savepoint();
            open.tx.append(2, b"a mistake")?;
            open.tx.rollback_to(savepoint)?;
        }
        Ok(())
    }

    fn commit(&mut self, open: Open) -> braidlog::Result<()> {
        self.units.push((open.payloads, Some(open.tx.id())));
        open.tx.commit()?;
        self.durable = self.units.len();
        Ok(())
    }

    /// A life of the log over several segments: what is promised is noted as it comes, up to the first error.
    fn live(&mut self, wal: &Wal) -> braidlog::Result<()> {
        self.single(wal, Durability::Synchronous)?;
        let mut long = self.begin(wal)?;
        self.records(&mut long, &[10, 0, 5000])?;
        let mut short = self.begin(wal)?;
        self.records(&mut short, &[8000, 8000])?;
        self.records(&mut long, &[3000])?;
        self.single(wal, Durability::Synchronous)?;
        let mut given_up = self.begin(wal)?;
        self.records(&mut given_up, &[500])?;
        self.commit(short)?;
        drop(given_up);
        self.records(&mut long, &[8000; 8])?;
        self.single(wal, Durability::Async)?;
        let mut other = self.begin(wal)?;
        self.records(&mut other, &[20])?;
        self.records(&mut long, &[1])?;
        self.commit(long)?;
        self.commit(other)?;
        let mut never = self.begin(wal)?;
        self.records(&mut never, &[50])?;
        self.single(wal, Durability::Synchronous)?;
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
                assert_eq!(record.effective_at, unit[0].effective_at, "{context}");
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
fn a_crash_at_any_operation_leaves_each_streaming_transaction_whole_or_not_at_all() {
    let mut partial = 0;
    let look = |disk: &SimDisk, (_, promised): &(Wal, Promised), struck: crashes::Struck| {
        for profile in Profile::HONEST {
            for seed in 0..2 {
                let context = format!("{struck}, {profile:?}, seed {seed}");
                let after = disk.crash_clone(seed, profile);
                let wal = options(&after).open(PATH).unwrap_or_else(|error| panic!("{context}: {error}"));
                let found = promised.check(&wal, &context);
                partial += usize::from(found > 0 && found < 7);
                // It goes on, no id comes twice, and what was open stays without effect.
                let (ids, made) = (promised.ids.clone(), promised.made);
                let units = promised.units[..found].to_vec();
                let mut next = Promised { units, durable: found, made, ids };
                let mut tx = next.begin(&wal).unwrap();
                next.records(&mut tx, &[20, 30]).unwrap();
                next.commit(tx).unwrap();
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
