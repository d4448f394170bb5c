//! What the parts of the engine cost, each alone: the LSN allocator, a stripe, the merge, an entry's header, CRC, and
//! waking those who wait.
//!
//! `cargo bench -p braidlog-benches --bench components`. The only benchmark that looks inside: through the engine's
//! cargo feature `components`. What a part made is checked when the clock has stopped.
#![allow(missing_docs, reason = "what the macros make is called by criterion only")]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use braidlog_engine::components::{Allocator, Lanes, Waiting};
use braidlog_format::checksum::crc32;
use braidlog_format::{EntryHeader, Flags, Kind, Lsn, Salt, entry_len};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PAYLOAD: [u8; 128] = [0xB1; 128];
/// Bytes of a stripe, as by default.
const STRIPE_BYTES: usize = 1 << 20;
/// Frames that are placed before the stripes are emptied: they fit one.
const FRAMES: u64 = 4096;

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group
}

/// One draw, by one thread alone and by several at once.
fn allocator(criterion: &mut Criterion) {
    let mut group = group(criterion, "components/allocator");
    for threads in [1_u64, 2, 4] {
        group.throughput(Throughput::Elements(threads));
        group.bench_function(BenchmarkId::new("threads", threads), |bencher| {
            bencher.iter_custom(|iterations| {
                let allocator = Allocator::new();
                let took = race(threads, || {
                    for _ in 0..iterations {
                        black_box(allocator.take(1));
                    }
                });
                assert_eq!(allocator.last(), Lsn(iterations * threads), "each was drawn once");
                took
            });
        });
    }
    group.finish();
}

/// How long so many threads take that do the same at once.
fn race(threads: u64, work: impl Fn() + Sync) -> Duration {
    let ready = Barrier::new(threads as usize);
    thread::scope(|scope| {
        let racers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    ready.wait();
                    let start = Instant::now();
                    work();
                    (start, Instant::now())
                })
            })
            .collect();
        let times: Vec<_> = racers.into_iter().map(|racer| racer.join().expect("a racer ends")).collect();
        let start = times.iter().map(|time| time.0).min().expect("there is a racer");
        times.iter().map(|time| time.1).max().expect("there is a racer") - start
    })
}

/// Claim, copy and publish; then the merge of what is there, frame by frame.
fn stripe_and_merge(criterion: &mut Criterion) {
    let mut group = group(criterion, "components/stripe");
    let checksum = crc32(&PAYLOAD);
    let mut out = vec![0; FRAMES as usize * entry_len(PAYLOAD.len() as u64) as usize];
    for stripes in [1, 16] {
        let mut lanes = Lanes::new(stripes, STRIPE_BYTES);
        let mut last = Lsn::ZERO;
        // Places and gathers so many frames, and tells how long each took in all.
        let mut work = |iterations: u64| {
            let (mut placing, mut gathering) = (Duration::ZERO, Duration::ZERO);
            let mut left = iterations;
            while left > 0 {
                let frames = left.min(FRAMES);
                let start = Instant::now();
                for frame in 0..frames {
                    last = lanes.place(frame as usize, black_box(&PAYLOAD), checksum).expect("there is room");
                }
                let placed = Instant::now();
                let gathered = lanes.gather(&mut out);
                gathering += placed.elapsed();
                placing += placed - start;
                let len = frames as usize * entry_len(PAYLOAD.len() as u64) as usize;
                assert_eq!(gathered, (frames, len), "each was gathered once");
                assert_eq!(out[len - PAYLOAD.len()..len], PAYLOAD);
                left -= frames;
            }
            (placing, gathering)
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("claim, copy, publish", stripes), |bencher| {
            bencher.iter_custom(|iterations| work(iterations).0);
        });
        group.bench_function(BenchmarkId::new("merge and copy", stripes), |bencher| {
            bencher.iter_custom(|iterations| work(iterations).1);
        });
        assert!(last > Lsn::ZERO);
    }
    group.finish();
}

/// An entry's header: what a writer does, what the coordinator does, and proving it while reading.
fn header(criterion: &mut Criterion) {
    let mut group = group(criterion, "components/header");
    let (salt, offset) = (Salt(0x5EED), 4096);
    let unplaced = || EntryHeader::encode_unplaced(Kind(7), Flags::NONE, 128, 0xC0FFEE);
    group.bench_function("encode, unplaced", |bencher| {
        bencher.iter(|| {
            let (kind, len, checksum) = black_box((Kind(7), 128, 0xC0FFEE));
            EntryHeader::encode_unplaced(kind, Flags::NONE, len, checksum)
        });
    });
    let mut placed = unplaced();
    group.bench_function("place", |bencher| {
        bencher.iter(|| EntryHeader::place(black_box(&mut placed), black_box(Lsn(9)), 11, salt, offset));
    });
    EntryHeader::place(&mut placed, Lsn(9), 11, salt, offset);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| EntryHeader::decode(black_box(&placed), salt, offset));
    });
    let header = EntryHeader::decode(&placed, salt, offset).expect("it was placed there");
    assert_eq!((header.lsn, header.timestamp_ns, header.kind), (Lsn(9), 11, Kind(7)));
    assert_eq!((header.payload_len, header.payload_checksum), (128, 0xC0FFEE));
    group.finish();
}

fn crc(criterion: &mut Criterion) {
    let mut group = group(criterion, "components/crc32");
    for len in [28, 128, 1024] {
        let bytes = vec![0xB1; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| crc32(black_box(&bytes)));
        });
        let mut other = bytes.clone();
        other[len / 2] ^= 1;
        assert_ne!(crc32(&bytes), crc32(&other));
    }
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926, "the check value of CRC-32");
    group.finish();
}

/// From the durable LSN's step until the last of those who slept is awake.
fn wake_up(criterion: &mut Criterion) {
    let mut group = group(criterion, "components/wake-up");
    group.sample_size(10);
    for count in [1_u64, 64] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_custom(|iterations| wake(count, iterations));
        });
    }
    group.finish();
}

/// Puts `count` threads to sleep and wakes them, again and again; how long the waking took.
fn wake(count: u64, iterations: u64) -> Duration {
    let waiting = Waiting::new();
    let (awake, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let until = |counter: &dyn Fn() -> u64, value: u64| {
        while counter() < value {
            thread::yield_now();
        }
    };
    let mut took = Duration::ZERO;
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                for turn in 1.. {
                    waiting.wait(Lsn(turn));
                    awake.fetch_add(1, Ordering::Release);
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                }
            });
        }
        for turn in 1..=iterations {
            // All have been entered; whoever is not asleep yet has only that left to do.
            until(&|| waiting.entered(), turn * count);
            if turn == iterations {
                is_over.store(true, Ordering::Release);
            }
            let start = Instant::now();
            waiting.advance(Lsn(turn));
            until(&|| awake.load(Ordering::Acquire), turn * count);
            took += start.elapsed();
        }
    });
    assert_eq!(awake.into_inner(), iterations * count, "each was woken once a turn");
    took
}

criterion_group!(benches, allocator, stripe_and_merge, header, crc, wake_up);
criterion_main!(benches);
