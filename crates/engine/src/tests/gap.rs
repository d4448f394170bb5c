//! What a leader owes to others while it waits for a gap to close.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use braidlog_format::{Kind, Lsn, LsnRange};

use super::small_log::{self, submit};
use crate::append::Wait;
use crate::stripe::Content;
use crate::stripe::overflow::BoxedFrame;

/// A writer drew LSN 2 and was suspended. The leader, who needs LSN 3, made LSN 1 durable and then kept the role
/// until the gap closed; the committer of LSN 1 slept as long, since calls come when the role is given up.
#[test]
fn committer_before_a_gap_returns_while_the_gap_is_open() {
    let (engine, _disk) = small_log::open();
    let shared = &engine.shared;
    let role = shared.try_role().expect("nobody else is there");
    let first = submit(&engine, 1).unwrap();
    let drawn = shared.lsns.take(1).expect("the log is open");
    let last = submit(&engine, 3).unwrap();
    assert_eq!([first, drawn, last], [Lsn(1), Lsn(2), Lsn(3)]);
    let returned = thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || tell.send(shared.wait_for(LsnRange { first, last: first }, Wait::Forever)));
        while !shared.committers.has_sleepers() {
            thread::yield_now();
        }
        let writer = scope.spawn(move || {
            let returned = told.recv_timeout(Duration::from_secs(10));
            let mut body = Vec::new();
            let content = Content::Record { kind: Kind(1), payload: &[], checksum: 0 };
            content.for_each_piece(|piece| body.extend_from_slice(piece));
            let mut frame = BoxedFrame::new(1, body, 0);
            frame.lsn = drawn;
            shared.stripes.overflow.push(frame);
            returned
        });
        shared.lead(role, last);
        writer.join().unwrap()
    });
    returned.expect("it returns before the gap closes").unwrap();
    assert_eq!(engine.durable_lsn(), last);
}
