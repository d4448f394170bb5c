//! The kept inputs of the fuzz targets, and a mutation of plain bytes as libFuzzer has one.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use braidlog_fuzz::mutate::Random;

fn dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

/// All kept inputs of a target: made ones, and those that once failed.
pub fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir(target)).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    inputs.sort();
    inputs
}

/// Compares seeds with the kept ones; writes them if `BRAIDLOG_WRITE_FIXTURES` is `seeds`.
pub fn assert_kept(target: &str, seeds: &[(&str, Vec<u8>)]) {
    for (name, bytes) in seeds {
        let path = dir(target).join(name);
        if std::env::var("BRAIDLOG_WRITE_FIXTURES").is_ok_and(|wanted| wanted == "seeds") {
            fs::create_dir_all(dir(target)).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == *bytes, "{name}");
    }
}

/// A mutation of bytes that knows nothing of the format.
pub fn plain(seed: u64) -> impl FnMut(&mut [u8], usize, usize) -> usize {
    let mut random = Random(seed);
    move |bytes, size, max| {
        let size = size.clamp(1, max);
        for _ in 0..1 + random.below(4) {
            bytes[random.below(size)] = random.bits() as u8;
        }
        size
    }
}

/// Mutates the inputs so often, each time one to three times in a row, and gives what came out to `check`.
pub fn mutations(
    inputs: &[(PathBuf, Vec<u8>)],
    runs: u32,
    mut mutate: impl FnMut(&mut [u8], usize, u32) -> usize,
    mut check: impl FnMut(&[u8]),
) {
    for run in 0..runs {
        let (_, input) = &inputs[run as usize % inputs.len()];
        let mut data = input.clone();
        data.resize(input.len().max(64) + 4096, 0);
        let mut size = input.len();
        for turn in 0..1 + run % 3 {
            size = mutate(&mut data, size, run.wrapping_mul(31).wrapping_add(turn));
        }
        check(&data[..size]);
    }
}
