//! How much processor time this process has taken: its own threads and those of the log, in user mode and in
//! the kernel. What the kernel does in threads of its own is not in it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of all threads of this process since it began.
pub fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let before = used();
        while used() == before {
            std::hint::spin_loop();
        }
        assert!(used() > before);
    }
}
