//! Models of the committers' seats: nobody sleeps past the end of the sync that covers its record, nor in the next
//! group while the role is free.

use std::sync::Arc;

use braidlog_format::Lsn;

use super::{model, model_with};
use crate::committers::Committers;
use crate::primitive::TriedMutex;
use crate::primitive::thread;
use crate::waiters::Waiters;

/// What a log has of it: the durable LSN, the seats, the role.
struct Log {
    waiters: Waiters,
    committers: Committers,
    role: TriedMutex<()>,
}

impl Log {
    fn new() -> Log {
        Log { waiters: Waiters::new(Lsn(0)), committers: Committers::new(Lsn(0)), role: TriedMutex::new(()) }
    }

    /// Syncs with the role held, unless another has done it.
    fn sync_up_to(&self, last: Lsn) {
        if self.waiters.durable() < last {
            self.committers.sync_begins(last);
            self.waiters.advance(last);
        }
    }

    /// What a role holder does that syncs up to each of these.
    fn lead(&self, syncs: &[Lsn]) {
        let role = self.role.lock();
        syncs.iter().for_each(|&last| self.sync_up_to(last));
        self.give_up(role);
    }

    /// As the role's drop.
    fn give_up(&self, role: impl Drop) {
        let sync = self.committers.last_sync();
        drop(role);
        self.committers.call_leader(sync);
        self.committers.call_satisfied(sync);
    }

    /// As [`Shared::wait_for`](crate::shared::Shared), by one who leads for up to `lsn` if nobody does.
    fn wait(&self, lsn: Lsn) {
        loop {
            let seat = self.committers.take_seat(lsn);
            if self.waiters.durable() >= lsn {
                return;
            }
            match self.role.try_lock() {
                Some(role) => {
                    self.sync_up_to(lsn);
                    self.give_up(role);
                }
                None => self.committers.sleep(seat),
            }
        }
    }
}

#[test]
fn loom_committer_that_sits_down_during_the_sync_is_called() {
    model(|| {
        let log = Arc::new(Log::new());
        let committer = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.wait(Lsn(1)))
        };
        log.lead(&[Lsn(1)]);
        committer.join().unwrap();
        assert_eq!(log.waiters.durable(), Lsn(1));
    });
}

#[test]
fn loom_committer_of_the_next_group_leads_when_the_role_is_free() {
    model(|| {
        let log = Arc::new(Log::new());
        let committer = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.wait(Lsn(2)))
        };
        log.lead(&[Lsn(1)]);
        committer.join().unwrap();
        assert_eq!(log.waiters.durable(), Lsn(2));
    });
}

#[test]
fn loom_committers_of_both_groups_return_from_syncs_under_one_role() {
    model_with(1, || {
        let log = Arc::new(Log::new());
        let committers: Vec<_> = [Lsn(1), Lsn(2)]
            .into_iter()
            .map(|lsn| {
                let log = Arc::clone(&log);
                thread::spawn(move || log.wait(lsn))
            })
            .collect();
        log.lead(&[Lsn(1), Lsn(2)]);
        committers.into_iter().for_each(|committer| committer.join().unwrap());
        assert_eq!(log.waiters.durable(), Lsn(2));
    });
}

/// Nobody calls for a leader here: the end of the sync that covers its record is all that ends a committer's sleep,
/// also if it finds its group from a sync that is over by the time it reads the count of calls.
#[test]
fn loom_committer_is_called_at_the_end_of_its_sync_whichever_it_is() {
    for lsn in [Lsn(1), Lsn(2)] {
        model(move || {
            let log = Arc::new(Log::new());
            let committer = {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    loop {
                        let seat = log.committers.take_seat(lsn);
                        if log.waiters.durable() >= lsn {
                            return;
                        }
                        log.committers.sleep(seat);
                    }
                })
            };
            log.sync_up_to(Lsn(1));
            log.sync_up_to(Lsn(2));
            log.committers.call_satisfied(log.committers.last_sync());
            committer.join().unwrap();
        });
    }
}

/// What a call follows is seen by whoever has seen the call, also if it was made to nobody.
#[test]
fn loom_who_sees_a_call_sees_what_it_is_for() {
    model(|| {
        let log = Arc::new(Log::new());
        let other = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let before = Committers::new(Lsn(0)).take_seat(Lsn(1));
                let seat = log.committers.take_seat(Lsn(1));
                let called = seat.calls() > before.calls();
                assert!(!called || log.waiters.durable() >= Lsn(1), "called for nothing");
            })
        };
        log.lead(&[Lsn(1)]);
        other.join().unwrap();
    });
}
