//! The log on one thread: random operations, options and faults, and a crash at every storage operation.
//!
//! Everything is drawn from one seed, and the log has no threads of its own, so that a seed is one run. Images
//! are taken before and after each storage operation, while the call that asked for it is under way, and
//! judged by what was promised at that moment; from some of them the run goes on, several crashes in a row.
//! Between incarnations all options change. In some of them the disk fails or is full: after the first
//! failure nothing more is acknowledged (I10), a full disk loses nothing and heals (I17), and when the faults
//! are over the log works again (I13).
//!
//! The log has a life of its own meanwhile: checkpoints, truncations, retention and holds. Its application
//! keeps all that it was ever told ([`crate::history`]), and is recovered from every image.
//!
//! The rule: the model is told before a call begins and after it has returned; whatever it does not know
//! about a call under way is in doubt, and nothing else.

use std::sync::Arc;

use braidlog_sim::{Profile, Rng, SimClock, SimDisk};

use crate::counts::Counts;
use crate::extent::Extent;

mod crash;
mod fault;
mod life;
mod operation;

use crash::Desk;
use operation::Driver;

/// Runs the seeds; counts images, operations, crashes and faults.
///
/// # Panics
/// If a promise is broken, with the seed and the command that breaks it again.
pub fn run(extent: &Extent) -> Counts {
    extent.run("single", round)
}

/// One run from one seed.
///
/// # Panics
/// If a promise is broken.
pub fn round(seed: u64) -> Counts {
    round_on(seed, |disk, seed, profile| disk.crash_clone(seed, profile))
}

/// One run in which crashes leave what `crash` says. For tests of this test: with
/// [`Profile::LyingDisk`] it has to fail.
///
/// # Panics
/// If a promise is broken.
pub fn round_on(seed: u64, crash: fn(&SimDisk, u64, Profile) -> SimDisk) -> Counts {
    drive(Rng::new(seed), Desk::new(seed, crash))
}

/// One run whose choices are these bytes: operations, options, faults and the moments of crashes. What each crash
/// leaves follows from the first eight. When they are used up, the run goes on as one of seed 0. At most so many
/// images are judged, of moments spread over the run.
///
/// # Panics
/// If a promise is broken.
pub fn round_from(choices: &[u8], images_max: u64) -> Counts {
    let mut rng = Rng::from_bytes(choices);
    let desk = Desk::new(rng.next_u64(), |disk, seed, profile| disk.crash_clone(seed, profile));
    {
        let mut now = desk.now();
        now.images_max = images_max;
        now.image_one_in = 8;
    }
    drive(rng, desk)
}

fn drive(rng: Rng, desk: Desk) -> Counts {
    let desk = Arc::new(desk);
    Driver::new(rng, desk.clone(), Arc::new(SimClock::new())).run();
    desk.take_counts()
}
