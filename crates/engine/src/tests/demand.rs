//! What those who ask tell those who decide when a round begins.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

use braidlog_format::Lsn;

use super::small_log::{self, submit};
use crate::rung::Rung;

/// A hold of group commit looks at what is urgent. A poll told the background thread alone, which then waited with the
/// role's holder until the hold was over, though a ticket that is polled asks for a sync at once.
#[test]
fn polled_ticket_ends_a_hold() {
    let (engine, _disk) = small_log::open_for_threads();
    let lsn = submit(&engine, 1).unwrap();
    let mut key = None;
    let polled = engine.poll_reached(lsn, Rung::Durable, &mut key, Waker::noop());
    assert!(matches!(polled, Poll::Pending));
    assert_eq!((engine.shared.demand.urgent(), engine.shared.demand.served()), (lsn, lsn));
    engine.forget(key.expect("it waits"));
}

/// The delay of an asynchronous record is counted from the beginning of the sync that left it behind.
#[test]
fn beginning_of_a_sync_is_noted() {
    let (engine, _disk) = small_log::open();
    let lsn = submit(&engine, 1).unwrap();
    let before = engine.shared.clock.monotonic();
    engine.shared.lead(engine.shared.try_role().expect("nobody else is there"), lsn);
    let after = engine.shared.clock.monotonic();
    assert_eq!((lsn, engine.durable_lsn()), (Lsn(1), Lsn(1)));
    let began = u128::from(engine.shared.sync_began.load(Relaxed));
    assert!((before.as_nanos()..after.as_nanos()).contains(&began), "{before:?}, {began} ns, {after:?}");
}
