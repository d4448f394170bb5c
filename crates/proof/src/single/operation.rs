//! What a run does with the log: every kind of call, in any order, over several incarnations.
//!
//! The rule: every answer of the log is believed by the model or contradicted here; none is ignored.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use braidlog::storage::Clock;
use braidlog::{
    Append, Durability, Error, ErrorKind, HealthState, Lsn, LsnRange, Options, Result, Ticket, Wal, Writer,
};
use braidlog_sim::{Rng, STAMP_LEN, SimClock, Stamp};

use super::crash::{Desk, Now};
use super::fault::Illness;
use crate::history::History;
use crate::mix::{AGE, PATH, any_durability, any_len, mixed, plain};
use crate::model::{FoundLife, Seen, UnitId, kind_of};
use crate::observed::Observed;

/// Writers of one run: who a record is of, not who runs.
const WRITERS: usize = 3;
/// Faults strike less often in a row than this.
const TRIES: usize = 5;

/// One run.
pub(super) struct Driver {
    pub(super) rng: Rng,
    desk: Arc<Desk>,
    clock: Arc<SimClock>,
    /// How many records each writer has begun.
    begun: [u32; WRITERS],
}

/// One opening of the log.
pub(super) struct Open {
    pub(super) wal: Wal,
    writers: [Writer; 2],
    tickets: VecDeque<Ticket>,
    /// Whether an append that does not say waits until it is durable.
    waits: bool,
    pub(super) illness: Illness,
}

impl Driver {
    pub(super) fn new(rng: Rng, desk: Arc<Desk>, clock: Arc<SimClock>) -> Driver {
        Driver { rng, desk, clock, begun: [0; WRITERS] }
    }

    pub(super) fn run(&mut self) {
        for _ in 0..2 + self.rng.below(5) {
            let until_crash = self.rng.one_in(2).then(|| 1 + self.rng.below(120));
            self.now().until_crash = until_crash;
            if let Some(mut open) = self.open() {
                for _ in 0..2 + self.rng.below(12) {
                    self.operation(&mut open);
                    self.look(&open);
                    if self.now().fork.is_some() {
                        break;
                    }
                }
                self.end(open);
            }
            if self.now().fork.is_some() {
                self.go_on_from_fork();
            }
        }
    }

    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.desk.now()
    }

    // --- One incarnation ---

    /// Opens the log with other options than before. `None` if a crash struck meanwhile.
    fn open(&mut self) -> Option<Open> {
        let disk = self.now().disk.clone();
        let mut illness = Illness::draw(&disk, &mut self.rng);
        self.now().judge.count("incarnations", 1);
        let (wal, waits) = loop {
            let options = mixed(&mut self.rng).clock(self.clock.clone());
            let waits = options.mode.durability() != Durability::Async;
            let storage = Observed::new(Arc::new(disk.clone()), self.desk.clone());
            match options.storage(Arc::new(storage)).open(PATH) {
                Ok(wal) => break (wal, waits),
                Err(error) => {
                    let kind = error.kind();
                    let is_probe = kind == ErrorKind::Unsupported && illness == Illness::Failing;
                    assert!(illness.allows(kind) || is_probe, "{illness:?}: {error}");
                    self.now().judge.count("failed openings", 1);
                    Illness::heal(&disk);
                    illness = Illness::None;
                }
            }
        };
        if self.now().fork.is_some() {
            self.abandon(|| drop(wal));
            return None;
        }
        let found = self.history(illness, &wal);
        let life = FoundLife::of(&wal);
        let replay_from = wal.checkpoints().last().map(|newest| newest.replay_from);
        let mut now = self.now();
        now.model.check(&found, wal.incarnation());
        now.model.check_life(&life);
        now.model.settle(&found);
        now.model.settle_life(&life, replay_from);
        if wal.health().state == HealthState::Ok {
            now.model.incarnate(wal.incarnation());
            // The segment that it has begun names the last record before it.
            let found = now.model.durable();
            now.model.vouch(found);
        }
        now.wal = Some(wal.clone());
        now.failed_at = None;
        drop(now);
        assert_eq!(wal.last_lsn().0, found.len() as u64, "I7");
        let writers = [wal.writer(), wal.writer()];
        Some(Open { wal, writers, tickets: VecDeque::new(), waits, illness })
    }

    /// Ends an incarnation: by close, by dropping every handle, or by a crash that has struck.
    fn end(&mut self, open: Open) {
        let disk = self.now().disk.clone();
        if self.now().fork.is_some() {
            self.abandon(|| drop(open));
        } else if self.rng.one_in(2) {
            self.close(open);
        } else {
            self.now().wal = None;
            drop(open);
        }
        Illness::heal(&disk);
    }

    fn close(&mut self, open: Open) {
        let closed = open.wal.close();
        let has_failed = open.wal.health().state == HealthState::Failed;
        assert_eq!(closed.is_err(), has_failed, "I18: {closed:?}");
        match &closed {
            Ok(()) => {
                let mut now = self.now();
                let last = now.model.last();
                now.model.acknowledge(last);
                now.image();
            }
            Err(error) => {
                self.expect(&open, error);
                if let Some(lsns) = error.lsns() {
                    let durable = open.wal.durable_lsn();
                    assert_eq!(
                        lsns,
                        LsnRange { first: durable.next(), last: self.now().model.last() },
                        "I18"
                    );
                }
            }
        }
        assert_eq!(open.wal.close().is_err(), closed.is_err(), "closing again says the same");
        let late = open.wal.append(b"late").expect_err("the log is closed").kind();
        assert!(matches!(late, ErrorKind::Closed | ErrorKind::Failed), "{late:?}");
        self.now().wal = None;
    }

    /// The process is gone: what it still does is of no consequence.
    fn abandon(&self, drop_all: impl FnOnce()) {
        let mut now = self.now();
        now.is_watching = false;
        now.wal = None;
        drop(now);
        drop_all();
    }

    fn go_on_from_fork(&self) {
        let mut now = self.now();
        let fork = now.fork.take().expect("it was looked for");
        now.disk = fork.disk;
        Illness::heal(&now.disk);
        now.model = fork.model;
        now.wal = None;
        now.failed_at = None;
        now.is_watching = true;
        now.judge.count("crashes gone on from", 1);
    }

    // --- Operations ---

    fn operation(&mut self, open: &mut Open) {
        self.now().judge.count("operations", 1);
        match self.rng.below(34) {
            0..7 => self.append(open),
            7..10 => self.batch(open),
            10..12 => self.submit(open),
            12..15 => self.ticket(open),
            15 => self.flush(open),
            16 => self.wait_durable(open),
            17..19 => self.clock.advance(Duration::from_micros(self.rng.below(3000))),
            19 => self.clock.set_wall_ns(self.clock.wall_ns() - self.rng.below(1 << 32)),
            20 => self.read_one(open),
            21 => self.read_range(open),
            22 => self.read_beside(open),
            23 => self.images(),
            24 => self.space(open),
            25 => self.wrong_call(open),
            26..28 => self.burst(open),
            28..31 => self.checkpoint(open),
            31 => self.truncate(open),
            32 => self.maintain(open),
            _ => self.hold(open),
        }
    }

    /// Begins an append of `count` records.
    fn begin(&mut self, count: u16) -> (UnitId, Vec<(Stamp, Vec<u8>)>) {
        self.begin_with(count, |rng| if count == 1 { any_len(rng) } else { STAMP_LEN + rng.index(300) })
    }

    /// As [`Driver::begin`], with payloads of these lengths.
    fn begin_with(
        &mut self,
        count: u16,
        any_len: impl Fn(&mut Rng) -> usize,
    ) -> (UnitId, Vec<(Stamp, Vec<u8>)>) {
        let writer = self.rng.index(WRITERS);
        let seq = self.begun[writer];
        self.begun[writer] += u32::from(count);
        let stamp_of = |index| Stamp { writer: writer as u32, seq: seq + u32::from(index), index, count };
        let records: Vec<_> = (0..count)
            .map(|index| {
                let len = any_len(&mut self.rng);
                (stamp_of(index), stamp_of(index).payload(len))
            })
            .collect();
        let lens: Vec<_> = records.iter().map(|(_, payload)| payload.len()).collect();
        let id = self.now().model.begin(stamp_of(0), &lens);
        (id, records)
    }

    /// What an append came to, told to the model; `durable` was so when it began.
    fn told(&self, open: &Open, id: UnitId, result: &Result<LsnRange>, is_durable: bool, durable: Lsn) {
        let mut now = self.now();
        match result {
            Ok(lsns) => {
                assert_eq!(now.failed_at, None, "I10: accepted after the failure");
                assert_eq!(lsns.first, now.model.last().next(), "I7: LSNs are dense");
                now.model.accept(id, *lsns);
                if is_durable {
                    now.model.acknowledge(lsns.last);
                    // The round that made it durable begins with a mark that tells what was durable before.
                    now.model.vouch(durable);
                }
            }
            Err(error) => {
                match error.lsns() {
                    Some(lsns) => {
                        assert_eq!(now.failed_at, None, "I10: accepted after the failure");
                        now.model.accept_in_doubt(id, lsns);
                    }
                    None => now.model.refuse(id),
                }
                drop(now);
                self.expect(open, error);
            }
        }
    }

    /// Holds an error against what is wrong with the disk.
    pub(super) fn expect(&self, open: &Open, error: &Error) {
        assert!(open.illness.allows(error.kind()), "{:?}: {error}", open.illness);
        self.now().judge.count("errors told", 1);
    }

    fn append(&mut self, open: &Open) {
        let (id, records) = self.begin(1);
        let (stamp, payload) = &records[0];
        let writer = &open.writers[self.rng.index(2)];
        let durability = any_durability(&mut self.rng);
        let append = Append::new(payload).kind(kind_of(*stamp));
        let durable = open.wal.durable_lsn();
        // The other ways to append take no kind.
        let (result, is_durable) = match self.rng.below(4) {
            0 => (writer.append_with(append), open.waits),
            _ => (writer.append_with(append.durability(durability)), durability != Durability::Async),
        };
        self.told(open, id, &result.map(|lsn| LsnRange { first: lsn, last: lsn }), is_durable, durable);
    }

    fn batch(&mut self, open: &Open) {
        let count = if self.rng.one_in(6) { 1 + self.rng.below(40) } else { 1 + self.rng.below(5) };
        let (id, records) = self.begin(count as u16);
        let mut batch = open.writers[self.rng.index(2)].batch();
        for (stamp, payload) in &records {
            batch.push(kind_of(*stamp), payload).unwrap_or_else(|error| panic!("{error}"));
        }
        let durability = any_durability(&mut self.rng);
        let is_durable = durability != Durability::Async;
        let durable = open.wal.durable_lsn();
        let result = batch.durability(durability).commit();
        self.told(open, id, &result, is_durable, durable);
    }

    /// More than a ring takes, and nobody waits for it: rounds are written that no sync covers. If the segment ends
    /// now, it ends with them.
    fn burst(&mut self, open: &Open) {
        for _ in 0..2 + self.rng.below(5) {
            let (id, records) = self.begin_with(1, |rng| 1500 + rng.index(1500));
            let (stamp, payload) = &records[0];
            let append = Append::new(payload).kind(kind_of(*stamp)).durability(Durability::Async);
            let appended = open.writers[0].append_with(append);
            let is_refused = appended.is_err();
            self.told(open, id, &appended.map(|lsn| LsnRange { first: lsn, last: lsn }), false, Lsn::ZERO);
            if is_refused {
                return;
            }
        }
        if open.wal.metrics().written_lsn > open.wal.durable_lsn() {
            self.now().judge.count("bursts that no sync covered", 1);
        }
        if self.rng.one_in(2) {
            self.clock.advance(2 * AGE);
            self.append(open);
        }
    }

    fn submit(&mut self, open: &mut Open) {
        let count = 1 + self.rng.below(3) as u16;
        let (id, records) = self.begin(count);
        let mut batch = open.writers[0].batch();
        for (stamp, payload) in &records {
            batch.push(kind_of(*stamp), payload).unwrap_or_else(|error| panic!("{error}"));
        }
        match batch.submit() {
            Ok(ticket) => {
                self.told(open, id, &Ok(ticket.lsns()), false, Lsn::ZERO);
                open.tickets.push_back(ticket);
            }
            Err(failed) if failed.error().kind() == ErrorKind::Full => self.now().model.refuse(id),
            Err(failed) => self.told(open, id, &Err(failed.error().clone()), false, Lsn::ZERO),
        }
    }

    /// Waits for a ticket, polls it, or gives it up.
    fn ticket(&mut self, open: &mut Open) {
        let Some(mut ticket) = open.tickets.pop_front() else { return };
        let lsn = ticket.lsn();
        let waited = match self.rng.below(3) {
            0 => ticket.wait(),
            1 => match Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(waited) => waited,
                Poll::Pending => panic!("I13: without threads a poll does the work"),
            },
            _ => return,
        };
        self.waited(open, lsn, waited.map(drop));
    }

    fn flush(&mut self, open: &Open) {
        let last = self.now().model.last();
        self.waited(open, last, open.wal.flush());
    }

    fn wait_durable(&mut self, open: &Open) {
        let last = self.now().model.last();
        let lsn = Lsn(self.rng.below(last.0 + 2));
        let waited = open.wal.wait_durable(lsn);
        if lsn > last {
            let kind = waited.expect_err("nobody has this LSN").kind();
            assert_eq!(kind, ErrorKind::InvalidInput);
        } else {
            self.waited(open, lsn, waited);
        }
    }

    /// What a wait for durability came to.
    fn waited(&mut self, open: &Open, lsn: Lsn, result: Result<()>) {
        match result {
            Ok(()) => {
                let mut now = self.now();
                assert!(now.failed_at.is_none_or(|durable| lsn <= durable), "I10: {lsn} after the failure");
                now.model.acknowledge(lsn);
            }
            Err(error) => self.expect(open, &error),
        }
    }

    /// Reads; again if the disk fails to be read, which no fault does for long.
    fn read<T>(&self, illness: Illness, read: impl Fn() -> Result<T>) -> T {
        for _ in 0..TRIES {
            match read() {
                Ok(read) => return read,
                Err(error) => {
                    assert!(illness == Illness::Failing && error.kind() == ErrorKind::Io, "I12: {error}");
                }
            }
        }
        panic!("I13: the disk can be read by now")
    }

    fn read_one(&mut self, open: &Open) {
        let durable = open.wal.durable_lsn();
        let lsn = Lsn(self.rng.below(durable.0 + 3));
        let first = open.wal.first_lsn();
        if lsn >= Lsn::FIRST && lsn < first {
            let gone = open.wal.read(lsn).expect_err("it was given up").kind();
            assert_eq!(gone, ErrorKind::Truncated, "I16: {lsn}, and the log starts at {first}");
            return;
        }
        let record = self.read(open.illness, || open.wal.read(lsn));
        assert_eq!(record.is_some(), lsn >= Lsn::FIRST && lsn <= durable, "{lsn} of {durable}");
        if let Some(record) = record {
            assert_eq!((record.lsn, record.kind.0), (lsn, kind_of(Stamp::of(&record.payload))));
            assert_eq!(self.now().model.payload(lsn), Some(record.payload), "I4: {lsn}");
        }
    }

    fn read_range(&mut self, open: &Open) {
        let durable = open.wal.durable_lsn();
        let first = open.wal.first_lsn();
        let from = Lsn(first.0 + self.rng.below(durable.next().0 - first.0 + 1));
        let all = self.history(open.illness, &open.wal);
        self.now().model.check_shown(&all, durable);
        assert_eq!(all.len() as u64, durable.0, "everything durable is shown");
        let range: Vec<Seen> = self.read(open.illness, || open.wal.iter(from..)?.map(seen).collect());
        assert_eq!(range, all[(from.0 - 1).min(durable.0) as usize..]);
    }

    /// Another handle reads beside the writer.
    fn read_beside(&mut self, open: &Open) {
        let disk = self.now().disk.clone();
        let durable = open.wal.durable_lsn();
        let shown = self.recover(open.illness, || {
            let options: Options = plain().storage(Arc::new(disk.clone()));
            let mut history = History::default();
            options.open_read_only(PATH)?.recover(&mut history)?;
            Ok(history.records)
        });
        self.now().model.check_shown(&shown, durable);
    }

    /// Recovers the application; again while the disk fails to be read, for which a checkpoint may be passed over.
    fn recover(&self, illness: Illness, recover: impl Fn() -> Result<Vec<Seen>>) -> Vec<Seen> {
        self.read(illness, || {
            for _ in 1..TRIES {
                match recover() {
                    // A checkpoint that could not be read is none, and the log may begin behind the one before.
                    Err(error) if illness == Illness::Failing && error.kind() == ErrorKind::Damaged => {
                        self.now().judge.count("checkpoints that could not be read", 1);
                    }
                    recovered => return recovered,
                }
            }
            recover()
        })
    }

    /// Every durable record from LSN 1 on.
    pub(super) fn history(&self, illness: Illness, wal: &Wal) -> Vec<Seen> {
        self.recover(illness, || Ok(History::of(wal)?.0))
    }

    fn images(&mut self) {
        for _ in 0..self.rng.below(8) {
            self.now().image();
        }
    }

    /// Fills a disk that has little space even more, or frees it: then the log goes on by itself.
    fn space(&mut self, open: &mut Open) {
        if open.illness != Illness::Full {
            return;
        }
        let disk = self.now().disk.clone();
        if self.rng.one_in(2) {
            return Illness::fill(&disk, &mut self.rng);
        }
        Illness::heal(&disk);
        open.illness = Illness::None; // I17: from here on no append may fail.
        self.append(open);
        self.now().judge.count("full disks healed", 1);
    }

    /// Calls that are wrong leave nothing behind.
    fn wrong_call(&mut self, open: &Open) {
        let wal = &open.wal;
        let kind = match self.rng.below(3) {
            0 => wal.append_with(Append::new(b"").kind(240)).expect_err("a kind of the log's own").kind(),
            1 => wal.batch().commit().expect_err("an empty batch").kind(),
            _ => wal.wait_durable(Lsn::MAX).expect_err("nobody has this LSN").kind(),
        };
        assert_eq!(kind, ErrorKind::InvalidInput);
    }

    /// What holds after every call.
    fn look(&mut self, open: &Open) {
        let mut now = self.now();
        let settled = now.model.durable();
        now.look();
        if now.failed_at.is_none() && open.wal.health().state == HealthState::Failed {
            assert_eq!(open.illness, Illness::Failing, "{:?}", open.wal.health());
            now.failed_at = Some(open.wal.durable_lsn());
            now.judge.count("logs failed", 1);
        }
        let metrics = open.wal.metrics();
        assert!(metrics.durable_lsn <= metrics.written_lsn && metrics.written_lsn <= metrics.last_lsn, "I6");
        assert_eq!(open.wal.last_lsn(), now.model.last(), "I7: the last LSN");
        if now.model.durable() > settled {
            now.model.incarnate(open.wal.incarnation());
        }
        now.image();
    }
}

fn seen(record: Result<braidlog::Record>) -> Result<Seen> {
    let record = record?;
    Ok(Seen {
        lsn: record.lsn,
        timestamp_ns: record.timestamp_ns,
        stamp: Stamp::of(&record.payload),
        len: record.payload.len() as u32,
        kind: record.kind.0,
        batch_continues: record.batch_continues,
    })
}
