//! A disk in memory that loses, tears, reorders and fails, to crash-test what stands on Braidlog.
//!
//! [`SimDisk`] is a [`Storage`](braidlog_storage::Storage): give it to the log in place of the operating
//! system, let your program run, and take an image of what a crash would leave, at any moment and as often
//! as you like, while it runs. Recover from the image and check what you promise. One seed is one outcome.
//!
//! ```
//! use std::path::Path;
//!
//! use braidlog_sim::{Profile, SimDisk};
//! use braidlog_storage::{FileAccess, FileIo, Storage, write_all_at};
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimDisk::new();
//! let dir = disk.open_dir(Path::new("data"), true)?;
//! let file = dir.open("log", FileAccess::CreateNew, FileIo::Buffered)?;
//! dir.sync()?; // the name is durable
//! write_all_at(&*file, b"promised", 0)?;
//! file.sync_data()?; // the bytes are durable
//! write_all_at(&*file, &[7; 5000], 4096)?; // and these are not
//!
//! for seed in 0..100 {
//!     let after = disk.crash_clone(seed, Profile::Posix);
//!     let bytes = after.read_raw("data/log");
//!     assert_eq!(&bytes[..8], b"promised", "seed {seed}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - *Crashes*: [`SimDisk::crash_clone`] with a [`Profile`]; for a handful of unsynced operations all that there
//!   are, with [`SimDisk::crash_images`].
//! - *Faults* while it runs: [`SimDisk::inject`] a [`Fault`], [`SimDisk::set_capacity`],
//!   [`SimDisk::set_direct_supported`].
//! - *Moments*: [`SimDisk::hold`] keeps operations under way until the [`Hold`] is released.
//! - *Protocols*: [`SimDisk::counts`], [`SimDisk::take_trace`].
//! - *Rot*: [`SimDisk::flip_bit`], [`SimDisk::write_raw`], [`SimDisk::truncate_raw`],
//!   [`SimDisk::remove_raw`], [`SimDisk::put_raw`].
//! - *Time*: [`SimClock`]. *Numbers*: [`Rng`]. *Payloads* that prove themselves: [`Stamp`].
//!
//! What it does not simulate: directories are durable as soon as they are made, removed directories do not
//! exist, and a failed write changes nothing.

mod disk;

mod crash;
mod damage;
mod enumeration;
mod fault;
mod hold;
mod trace;

mod clock;
mod rng;
mod stamp;

mod directory;
mod file;
mod history;
mod image;
mod node;
mod state;
mod watch;

pub use clock::SimClock;
pub use crash::Profile;
pub use disk::SimDisk;
pub use enumeration::{Bound, CrashImages};
pub use fault::{Fault, Op};
pub use hold::Hold;
pub use rng::Rng;
pub use stamp::{STAMP_LEN, Stamp};
pub use trace::{Action, Counts, TRACE_MAX, Traced};
