//! Packing on the simulated disk, and a log that is worth it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;

use braidlog_format::{LogId, Lsn, PackedName};
use braidlog_recovery::{
    LogReader, Manifest, ManifestStore, PackHow, Packing, PackingEnd, Records, RecoveryError,
};
use braidlog_sim::{Rng, SimClock, SimDisk};
use braidlog_storage::LogDir;

use super::{LOG_ID, Pen, open_dir};

/// The bases of the segments of a directory, in order, packed or not.
pub fn bases(disk: &SimDisk) -> Vec<u64> {
    let base = |name: &str| {
        name.split_once(".wal").and_then(
            |(base, rest)| {
                if matches!(rest, "" | "z") { base.parse().ok() } else { None }
            },
        )
    };
    let mut bases: Vec<u64> = disk.list_raw(super::DIR).iter().filter_map(|(name, _)| base(name)).collect();
    bases.sort_unstable();
    bases.dedup();
    bases
}

pub fn packed_name(base: u64) -> String {
    PackedName(Lsn(base)).to_string()
}

/// The store of the log's writer.
pub fn store_of(dir: &Arc<dyn LogDir>) -> Arc<ManifestStore> {
    let manifest = Arc::new(Manifest::load(dir).unwrap());
    let log_id: LogId = manifest.log_id().unwrap_or(LOG_ID);
    Arc::new(ManifestStore::new(Arc::clone(dir), Arc::new(SimClock::new()), log_id, manifest))
}

/// Packs a segment in steps of `step` bytes.
pub fn pack_in_steps(
    dir: &Arc<dyn LogDir>,
    store: &Arc<ManifestStore>,
    (base, next): (u64, u64),
    frame_bytes: usize,
    step: u64,
) -> Result<PackingEnd, RecoveryError> {
    let how = PackHow { frame_bytes, ..PackHow::default() };
    let mut packing = Packing::begin(dir, store, Lsn(base), Lsn(next), how)?;
    loop {
        let before = packing.bytes_done();
        if let Some(end) = packing.step(step)? {
            assert_eq!(packing.bytes_done(), packing.bytes_total());
            return Ok(end);
        }
        assert!(packing.bytes_done() >= before, "it goes forward");
    }
}

/// Packs every segment but the last with frames of about `frame_bytes`; how many were.
pub fn pack_all(disk: &SimDisk, frame_bytes: usize) -> usize {
    let (dir, bases) = (open_dir(disk), bases(disk));
    let store = store_of(&dir);
    let packed = bases.windows(2).filter(|pair| {
        let end = pack_in_steps(&dir, &store, (pair[0], pair[1]), frame_bytes, 10_000).unwrap();
        matches!(end, PackingEnd::Packed(_))
    });
    packed.count()
}

/// Text, of which no two pieces are alike.
pub fn text(rng: &mut Rng, len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["order", "paid", "customer", "shipped", "item", "returned", "invoice", "note"];
    let mut text = Vec::new();
    while text.len() < len {
        text.extend_from_slice(WORDS[rng.index(WORDS.len())].as_bytes());
        text.extend_from_slice(format!(" {} ", rng.below(1000)).as_bytes());
    }
    text.truncate(len);
    text
}

/// Segments with and without a seal, batches, idle marks, one that cannot be made smaller, entries larger than a frame,
/// and small ones.
pub fn log(seed: u64) -> Pen {
    let disk = SimDisk::new();
    let mut rng = Rng::new(seed);
    let mut pen = Pen::new(&disk);
    for segment in 0..5 {
        for round in 0..rng.below(8) + 4 {
            let large = if segment == 0 && round == 2 { Some(1_300_000) } else { None };
            let medium = rng.one_in(6).then_some(70_000);
            let sizes: Vec<usize> =
                (0..rng.below(60) + 1).map(|_| rng.below(300) as usize).chain(medium).chain(large).collect();
            let payloads: Vec<Vec<u8>> = sizes.iter().map(|&size| text(&mut rng, size)).collect();
            let entries: Vec<(u8, &[u8])> = payloads.iter().map(|payload| (7, payload.as_slice())).collect();
            let in_batches: Vec<&[(u8, &[u8])]> = entries.chunks(rng.index(5) + 1).collect();
            pen.round(&in_batches);
            if rng.one_in(2) {
                pen.sync();
            }
            if rng.one_in(4) {
                pen.idle_mark();
            }
        }
        match segment {
            0 | 2 | 3 => {
                pen.rotate();
            }
            1 => {
                // A crash: the segment is left without a seal.
                pen.sync();
                let model = pen.model.clone();
                pen = Pen::reopen(&disk, model);
            }
            _ => {
                pen.seal();
            }
        }
    }
    pen
}

/// What a replay gives: each record, and the error with which it ends.
pub fn told(mut records: Records) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(record) = records.next_ref() {
        match record {
            Ok(record) => told.push(format!("{record:?}")),
            Err(error) => told.push(format!("{error:?}")),
        }
    }
    told
}

/// The records of a range, as the writer's process reads them.
pub fn records(disk: &SimDisk, from: u64, to: u64) -> Records {
    LogReader::of_writer(open_dir(disk), Lsn::FIRST).iter(Lsn(from), Lsn(to)).unwrap()
}

/// Three segments of text, the last of which is being written; and their bases.
pub fn small_log() -> (SimDisk, Pen, [u64; 3]) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let mut rng = Rng::new(4);
    let mut bases = vec![1];
    for _ in 0..2 {
        for _ in 0..3 {
            let payloads: Vec<_> = (0..4).map(|_| text(&mut rng, 900)).collect();
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            pen.records(&payloads);
        }
        pen.rotate();
        bases.push(pen.next.0);
    }
    pen.records(&[b"last"]).sync();
    (disk, pen, bases.try_into().unwrap())
}
