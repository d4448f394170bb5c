//! Models of one stripe: claim hand-over, publish against gather, wrap, ring full; and the overflow list.

use std::sync::Arc;

use braidlog_format::{Kind, Lsn};

use super::model;
use crate::lsn::LsnAllocator;
use crate::primitive::thread;
use crate::stripe::overflow::{BoxedFrame, Overflow};
use crate::stripe::{Content, Published, Stripe};

/// Bytes of a frame with an 8-byte payload: 16 + 32 + 8.
const FRAME: u64 = 56;

fn record(payload: &[u8; 8]) -> Content<'_> {
    Content::Record { kind: Kind(1), payload, checksum: 0 }
}

/// Reads the frame at `position` and gives its LSN and payload.
fn read(stripe: &Stripe, position: u64) -> (Lsn, [u8; 8]) {
    let frame = stripe.frame_at(position);
    let mut payload = [0; 8];
    stripe.read_body(&frame, 32, &mut payload);
    (frame.lsn, payload)
}

#[test]
fn loom_stripe_hands_over_claims_and_keeps_lsns_rising() {
    model(|| {
        let shared = Arc::new((Stripe::new(128), LsnAllocator::new(Lsn(1))));
        let writers: Vec<_> = [*b"writer-a", *b"writer-b"]
            .into_iter()
            .map(|payload| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (stripe, lsns) = &*shared;
                    let claim = stripe.try_claim()?;
                    assert!(claim.has_space(FRAME - 16));
                    match claim.publish(&record(&payload), lsns) {
                        Published::Yes { lsn, .. } => Some((lsn, payload)),
                        Published::Ended => unreachable!("nobody ends the log"),
                    }
                })
            })
            .collect();
        // The coordinator gathers while they write: what is published is whole.
        let (stripe, _) = &*shared;
        let seen = stripe.published() / FRAME;
        let early: Vec<_> = (0..seen).map(|index| read(stripe, index * FRAME)).collect();
        let mut wrote: Vec<_> = writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect();
        wrote.sort();
        let all: Vec<_> = (0..stripe.published() / FRAME).map(|index| read(stripe, index * FRAME)).collect();
        assert_eq!(all, wrote, "LSNs rise along the ring and each payload stands behind its own");
        assert!(!all.is_empty() && all.starts_with(&early));
    });
}

#[test]
fn loom_stripe_wraps_only_into_released_space() {
    model(|| {
        let shared = Arc::new((Stripe::new(64), LsnAllocator::new(Lsn(1))));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (stripe, lsns) = &*shared;
                // The ring takes one frame: each next one waits for a release, and wraps.
                let mut published = 0;
                for payload in [*b"number-1", *b"number-2"] {
                    let claim = stripe.try_claim().expect("there is one writer");
                    if !claim.has_space(FRAME - 16) {
                        break;
                    }
                    assert!(matches!(claim.publish(&record(&payload), lsns), Published::Yes { .. }));
                    published += 1;
                }
                published
            })
        };
        let (stripe, _) = &*shared;
        let mut position = 0;
        let mut gather = |stripe: &Stripe| {
            if stripe.published() > position {
                let (lsn, payload) = read(stripe, position);
                assert_eq!(payload[7], b'0' + lsn.0 as u8, "a frame is not overwritten before its release");
                position += FRAME;
                stripe.release(position);
            }
        };
        gather(stripe);
        gather(stripe);
        let published = writer.join().unwrap();
        gather(stripe);
        gather(stripe);
        assert!((1..=2).contains(&published));
        assert_eq!(position, published * FRAME, "everything published was gathered once");
    });
}

#[test]
fn loom_overflow_list_gives_every_frame_once() {
    model(|| {
        let shared = Arc::new((Overflow::new(), LsnAllocator::new(Lsn(1))));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (overflow, lsns) = &*shared;
                    let mut frame = BoxedFrame::new(1, vec![7], 0);
                    frame.lsn = lsns.take(1).expect("nobody ends the log");
                    overflow.push(frame);
                })
            })
            .collect();
        let (overflow, _) = &*shared;
        let mut lsns = Vec::new();
        overflow.take(|frame| lsns.push((frame.lsn, frame.body.clone())));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        overflow.take(|frame| lsns.push((frame.lsn, frame.body.clone())));
        lsns.sort();
        assert_eq!(lsns, [(Lsn(1), vec![7]), (Lsn(2), vec![7])]);
    });
}

#[test]
fn loom_end_of_the_log_accepts_exactly_what_was_drawn_before() {
    model(|| {
        let shared = Arc::new((Stripe::new(128), LsnAllocator::new(Lsn(1))));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (stripe, lsns) = &*shared;
                let claim = stripe.try_claim().expect("there is one writer");
                assert!(claim.has_space(FRAME - 16));
                claim.publish(&record(b"accepted"), lsns)
            })
        };
        let (stripe, lsns) = &*shared;
        let last = lsns.end();
        let published = writer.join().unwrap();
        assert_eq!(lsns.last(), last);
        match published {
            Published::Yes { lsn, .. } => {
                assert_eq!(last, lsn, "the final drain waits for it");
                assert_eq!(stripe.published(), FRAME);
            }
            Published::Ended => {
                assert_eq!(last, Lsn(0));
                assert_eq!(stripe.published(), 0, "what was not accepted is not published");
            }
        }
    });
}
