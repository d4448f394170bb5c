//! A segment in a file that had an earlier life: whatever of that life stands behind the new one's end, it is neither
//! read nor called a torn tail, and what is torn or damaged of the new life is told as in any other file.
//!
//! Every test runs with two salts of the new life: one of its own, and the earlier one's once more, with which the LSNs
//! alone keep the old entries out.

mod support;

use braidlog_format::{BLOCK_LEN, Lsn, Salt};
use braidlog_recovery::{LogReader, RecoveryError, TailState, VerifyTail, Warning};
use braidlog_sim::{Profile, Rng, SimDisk};
use support::{
    Pen, assert_holds, files, header_of, open_dir, path, recovered, segment, segment_path, verified,
};

/// A log whose third segment begins in a file that was its first one: 9 rounds with a record each, and a seal. (Not its
/// second: a file is recycled when another is under the pen.) It runs with both salts.
fn in_recycled_files(check: impl Fn(SimDisk, Pen)) {
    for same_salt in [false, true] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.ahead = 0;
        for number in 0..9_u8 {
            pen.records(&[&[number; 200]]).sync();
        }
        let salt = pen.header.salt;
        pen.rotate().records(&[b"between"]);
        let earlier = disk.read_raw(segment_path(1));
        let salt = if same_salt { salt } else { Salt(salt.0 ^ 0x0110_1001) };
        pen.rotate_into(salt, &earlier);
        assert_eq!(disk.read_raw(segment_path(11)).len(), earlier.len());
        assert_eq!(disk.read_raw(segment_path(11))[4096..], earlier[4096..]);
        check(disk, pen);
    }
}

#[test]
fn earlier_life_behind_the_last_round_is_a_clean_end() {
    for rounds in 0..=9_u8 {
        in_recycled_files(|disk, mut pen| {
            for number in 0..rounds {
                pen.records(&[&[b'n', number]]).sync();
            }
            let report = verified(&disk).unwrap();
            assert!(report.is_clean() && report.warnings.is_empty(), "{report:?}");
            assert_eq!(report.tail, VerifyTail::Unsealed);
            let found = pen.assert_recovers(&disk);
            assert_eq!(found.report.tail, TailState::Unsealed, "{rounds} rounds");
            assert_eq!(found.report.damaged_seals, [""; 0]);
            assert_eq!(found.report.last_lsn, Lsn(10 + u64::from(rounds)));
            assert_eq!(disk.read_raw(segment_path(11)).len() as u64, pen.offset, "the old bytes are cut");
            assert_eq!(files(&disk).len(), 3, "nothing is kept of them");
            assert!(header_of(&disk.read_raw(segment_path(11))).recycled);
        });
    }
}

#[test]
fn sealed_segment_in_a_recycled_file_is_read_as_any_other() {
    in_recycled_files(|disk, mut pen| {
        pen.records(&[b"one", b"two"]).seal();
        assert!(verified(&disk).unwrap().is_clean());
        assert_eq!(pen.assert_recovers(&disk).report.tail, TailState::Sealed);
        // The cut before the seal was lost: the old bytes are back behind it.
        let sealed = disk.read_raw(segment_path(11));
        let mut longer = sealed.clone();
        longer.extend_from_slice(&disk.read_raw(segment_path(1))[sealed.len()..]);
        disk.put_raw(segment_path(11), &longer);
        assert_eq!(pen.assert_recovers(&disk).report.tail, TailState::Sealed);
        assert_eq!(disk.read_raw(segment_path(11)), sealed);
        assert!(verified(&disk).unwrap().is_clean());
    });
}

#[test]
fn torn_round_in_a_recycled_file_is_told_and_kept() {
    in_recycled_files(|disk, mut pen| {
        pen.records(&[b"acknowledged"]).sync().round(&[&[(1, b"in a"), (2, &[7; 5000])]]);
        // The last block of the round did not reach the device: the earlier life's is there.
        let earlier = disk.read_raw(segment_path(1));
        let from = pen.offset - BLOCK_LEN;
        disk.write_raw(segment_path(11), from, &earlier[from as usize..][..BLOCK_LEN as usize]);
        let torn = disk.read_raw(segment_path(11));
        let report = verified(&disk).unwrap();
        assert_eq!(report.tail, VerifyTail::Torn);
        assert!(matches!(&report.warnings[..], [Warning::TornTail { .. }]), "{:?}", report.warnings);
        let found = recovered(&disk).unwrap();
        let TailState::Torn { segment: name, offset, cut_bytes, kept_as } = found.report.tail else {
            panic!("{:?}", found.report.tail);
        };
        assert_eq!((name, found.report.last_lsn), (segment(11), Lsn(11)));
        assert_holds(&disk, &pen.model[..11]);
        // Up to the end of the entry whose header is there; what the earlier life has behind is not kept.
        assert!(cut_bytes > 5000 && offset + cut_bytes <= pen.offset, "{cut_bytes} bytes");
        let kept = disk.read_raw(path(&kept_as.expect("the cut bytes are kept")));
        assert_eq!(kept, torn[offset as usize..][..cut_bytes as usize]);
    });
}

#[test]
fn round_that_never_arrived_leaves_a_clean_end() {
    in_recycled_files(|disk, mut pen| {
        pen.records(&[b"acknowledged"]).sync();
        let before = disk.read_raw(segment_path(11));
        pen.records(&[b"never arrived"]);
        disk.put_raw(segment_path(11), &before);
        assert_eq!(pen.assert_recovers(&disk).report.tail, TailState::Unsealed);
    });
}

#[test]
fn no_crash_in_a_recycled_file_brings_an_earlier_entry_back() {
    for seed in 0..400 {
        in_recycled_files(|disk, mut pen| {
            let mut rng = Rng::new(seed);
            for number in 0..=rng.below(4) {
                // As long as a record of the earlier life, so that the next entry may stand where one of it does.
                pen.records(&[&[number as u8 ^ 0x5A; 200]]);
                if rng.one_in(2) {
                    pen.sync();
                }
            }
            if rng.one_in(4) {
                pen.sync().write_seal();
            }
            let after = disk.crash_clone(seed, Profile::HONEST[seed as usize % 3]);
            let found = pen.assert_recovers(&after);
            assert!(found.report.damaged_seals.len() <= 1);
            let mut next = Pen::reopen(&after, pen.model.clone());
            next.records(&[b"the log goes on"]).sync();
            next.assert_recovers(&after);
        });
    }
}

#[test]
fn damage_that_a_mark_covers_is_told_in_a_recycled_file_too() {
    in_recycled_files(|disk, mut pen| {
        pen.records(&[b"one"]).sync().records(&[b"two"]).sync().idle_mark().sync();
        for at in (BLOCK_LEN..3 * BLOCK_LEN).step_by(512) {
            let after = disk.crash_clone(at, Profile::Kept);
            let earlier = after.read_raw(segment_path(1));
            let sector = &earlier[at as usize..][..512];
            if after.read_raw(segment_path(11))[at as usize..][..512] == *sector {
                continue; // Zeros of a pad, in both lives.
            }
            after.write_raw(segment_path(11), at, sector);
            let error = recovered(&after).unwrap_err();
            let RecoveryError::Damaged(damage) = error else { panic!("{error}") };
            assert_eq!(damage.segment, segment(11), "sector at {at}");
            assert_eq!(verified(&after).unwrap().problems.len(), 1, "sector at {at}");
        }
    });
}

#[test]
fn reader_beside_a_writer_is_content_with_the_earlier_life_and_tells_damage() {
    in_recycled_files(|disk, mut pen| {
        let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
        let _lock = pen.dir.try_lock().unwrap().unwrap();
        assert_eq!(reader.last_visible().unwrap(), Lsn(10));
        for number in 0..3_u64 {
            pen.records(&[b"shown"]).sync().idle_mark().sync();
            assert_eq!(reader.last_visible().unwrap(), Lsn(11 + number));
        }
        // What it has not read yet is damaged before its next look, and marks go on behind it.
        let at = pen.offset;
        pen.records(&[b"damaged"]).sync().idle_mark().sync();
        disk.flip_bit(segment_path(11), at + 50, 3);
        let told = (0..4).find_map(|_| reader.last_visible().err());
        let Some(RecoveryError::Damaged(damage)) = told else { panic!("{told:?}") };
        assert_eq!((damage.segment, damage.offset), (segment(11), at + 48));
    });
}

#[test]
fn reader_that_waits_at_an_earlier_life_does_not_read_it_each_time() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let mut earlier = vec![0; 4 << 20];
    Rng::new(5).fill(&mut earlier);
    pen.records(&[b"one"]).rotate_into(Salt(9), &earlier);
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let _lock = pen.dir.try_lock().unwrap().unwrap();
    pen.records(&[b"two"]).sync().idle_mark().sync();
    let before = disk.counts().bytes_read;
    for _ in 0..64 {
        assert_eq!(reader.last_visible().unwrap(), Lsn(2));
    }
    let read = disk.counts().bytes_read - before;
    assert!(read < 32 * earlier.len() as u64, "{read} bytes in 64 looks");
}
