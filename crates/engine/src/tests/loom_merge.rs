//! Model of the merge: two writers on two stripes, and the gap between an LSN and its publication.

use std::sync::Arc;

use braidlog_format::{Kind, Lsn};

use super::model;
use crate::lsn::LsnAllocator;
use crate::merge::{Merge, Next};
use crate::primitive::thread;
use crate::stripe::Content;
use crate::stripes::{Placed, Stripes};

/// Gathers what the merge finds, until a gap or the end.
fn gather(merge: &mut Merge, stripes: &Stripes, out: &mut Vec<(Lsn, u8)>) {
    while let Some(next) = merge.peek(stripes) {
        let lsn = merge.next_lsn();
        let mut payload = [0];
        match next {
            Next::InRing { stripe, frame } => {
                let mut body = vec![0; frame.body_len as usize];
                stripes.get(stripe).read_body(&frame, 0, &mut body);
                merge.pass(stripes, stripe, &frame);
                payload[0] = body[32];
            }
            Next::Boxed { .. } => payload[0] = merge.take_boxed().body[32],
        }
        out.push((lsn, payload[0]));
    }
    merge.release(stripes);
}

fn check(stripe_of: [usize; 2]) {
    model(move || {
        let shared = Arc::new((Stripes::new(2, 128), LsnAllocator::new(Lsn(1))));
        let writers: Vec<_> = stripe_of
            .into_iter()
            .zip([b'a', b'b'])
            .map(|(stripe, payload)| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (stripes, lsns) = &*shared;
                    let content = Content::Record { kind: Kind(1), payload: &[payload], checksum: 0 };
                    match stripes.place(stripe, &content, lsns, || true) {
                        Placed::Yes { lsn, .. } => (lsn, payload),
                        other => unreachable!("there is room for both: {other:?}"),
                    }
                })
            })
            .collect();
        let (stripes, _) = &*shared;
        let mut merge = Merge::new(2, Lsn(1));
        let mut gathered = Vec::new();
        gather(&mut merge, stripes, &mut gathered);
        let mut wrote: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        wrote.sort();
        assert!(wrote.starts_with(&gathered), "a prefix, never past a gap");
        gather(&mut merge, stripes, &mut gathered);
        assert_eq!(gathered, wrote, "dense, in order, each once");
    });
}

#[test]
fn loom_merge_of_two_stripes_stops_at_the_gap() {
    check([0, 1]);
}

#[test]
fn loom_merge_finds_a_writer_that_moved_on_from_a_claimed_stripe() {
    check([0, 0]);
}

#[test]
fn loom_merge_releases_what_was_copied_and_no_more() {
    model(|| {
        // The ring takes two frames: the third stands where the first stood.
        let shared = Arc::new((Stripes::new(1, 128), LsnAllocator::new(Lsn(1))));
        let place = |shared: &(Stripes, LsnAllocator), payload| {
            let content = Content::Record { kind: Kind(1), payload: &[payload], checksum: 0 };
            shared.0.place(0, &content, &shared.1, || true)
        };
        for payload in *b"12" {
            assert!(matches!(place(&shared, payload), Placed::Yes { .. }));
        }
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || matches!(place(&shared, b'3'), Placed::Yes { .. }))
        };
        let (stripes, _) = &*shared;
        let mut merge = Merge::new(1, Lsn(1));
        let mut gathered = Vec::new();
        gather(&mut merge, stripes, &mut gathered);
        let wrote = 2 + usize::from(writer.join().unwrap());
        gather(&mut merge, stripes, &mut gathered);
        let all = [(Lsn(1), b'1'), (Lsn(2), b'2'), (Lsn(3), b'3')];
        assert_eq!(gathered, all[..wrote], "dense, in order, each once");
    });
}
