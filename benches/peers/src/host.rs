//! What the operating system says of a process and its files, and how memory is put into a known state.

use std::fs::{self, File};
use std::hint;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::peer::Result;

/// How much memory is touched to make it warm: more than a cell writes.
const WARM_BYTES: usize = 4 << 30;

/// Processor time of this process, all threads, user and system.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The most memory that this process has had resident, in bytes.
///
/// # Errors
/// What the system says.
pub fn resident_bytes_max() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// All files in `dir` and below.
///
/// # Errors
/// What the system says.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Bytes that the files in `dir` take on the disk. Of a file with holes, what is allocated; of one that is
/// allocated beyond its end, its length.
///
/// # Errors
/// What the system says.
pub fn disk_bytes(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;

    let mut bytes = 0;
    for file in files(dir)? {
        let metadata = fs::metadata(file)?;
        bytes += metadata.len().min(metadata.blocks() * 512);
    }
    Ok(bytes)
}

/// Syncs the files in `dir`, for logs that have no call that does.
///
/// # Errors
/// What the system says.
pub fn sync_files(dir: &Path) -> io::Result<()> {
    files(dir)?.into_iter().try_for_each(|file| File::open(file)?.sync_data())
}

/// Reads the files in `dir`, so that they are in the page cache.
///
/// # Errors
/// What the system says.
pub fn read_files(dir: &Path) -> io::Result<()> {
    let mut buf = vec![0; 1 << 20];
    for path in files(dir)? {
        let mut file = File::open(path)?;
        while file.read(&mut buf)? > 0 {}
    }
    Ok(())
}

/// Lets the system forget what it has read; what is not yet written is written first.
///
/// # Errors
/// What the system says: only root may.
pub fn drop_page_cache() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Touches memory and frees it: a virtual machine that had given it back to its host has it again.
pub fn warm_memory() {
    // A page at a time: pages of zeros are there only once they are written to.
    let mut memory = vec![0_u8; WARM_BYTES];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    hint::black_box(&memory);
}

/// How fast the page cache takes bytes just now, in bytes per second. It differs by ten between memory that the
/// machine has and memory that it has to get from its host.
///
/// # Errors
/// What the system says.
pub fn page_cache_rate(dir: &Path) -> io::Result<f64> {
    use std::os::unix::fs::FileExt;

    const BYTES: u64 = 256 << 20;
    let path = dir.join("page-cache");
    let chunk = vec![0xB1; 1 << 20];
    let file = File::create(&path)?;
    let start = Instant::now();
    for offset in (0..BYTES).step_by(chunk.len()) {
        file.write_all_at(&chunk, offset)?;
    }
    let rate = BYTES as f64 / start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}
