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
//! # How to crash-test your own recovery
//!
//! Reach all your files through `Storage`, the log's and your own; count what you were asked for and what you
//! have promised; then, while threads run: read what is promised, take an image, recover from it, and compare.
//! `crash_test.rs` among the examples of `braidlog` does so for a small key-value store with a snapshot file,
//! and finds the bugs that are planted in it.
//!
//! # Crashes
//!
//! [`SimDisk::crash_clone`] makes one image from a seed:
//!
//! | [`Profile`] | names not synced | bytes not synced | order |
//! |---|---|---|---|
//! | `Posix` | each change came through or not | each page old, any of its versions, or torn; lengths on their own | none |
//! | `Ordered` | up to one moment | up to the same moment, the last write cut at a sector | kept |
//! | `Kept` | all | all, and still not synced | kept |
//! | `LyingDisk` | as `Posix`, synced ones too | as `Posix`, synced ones too | none |
//!
//! After a handful of unsynced operations [`SimDisk::crash_images`] makes *all* images within a [`Bound`], each by
//! its number. No known class of crash bugs in file systems needs more than a few operations.
//!
//! A write that was called and has not returned is in doubt too: any part of it may be in the image of a power
//! cut. A directory is in doubt until the one above it is synced, which [`open_dir`](braidlog_storage::Storage::open_dir)
//! does before it returns: it makes and syncs one level after the other, and each is an operation that can be held
//! and failed.
//!
//! # While it runs
//!
//! - *Faults*: [`SimDisk::inject`] a [`Fault`] into any kind of operation ([`Op`]): errors of any kind, `EINTR`, short
//!   reads and writes, writes torn and failed, syncs that fail and lose, calls that hang; counted or at random.
//!   Also [`SimDisk::set_capacity`], [`SimDisk::keep_freed_space`], [`SimDisk::set_direct_supported`].
//! - *Moments*: [`SimDisk::hold`] keeps operations under way until the [`Hold`] is released.
//! - *Order*: [`SimDisk::reorder`] lets operations of several threads end in another order than they came.
//! - *Protocols*: [`SimDisk::counts`], [`SimDisk::take_trace`].
//! - *Strictness*: a direct handle refuses an offset, a length or a buffer that is not aligned, and a file that would
//!   be longer than a file can be.
//! - *Time*: [`SimClock`]. *Numbers*: [`Rng`]. *Payloads* that prove themselves: [`Stamp`].
//!
//! # At rest
//!
//! [`SimDisk::flip_bit`] and the methods in `_raw`: bytes and sectors overwritten, zeroed
//! ([`zero_raw`](SimDisk::zero_raw)), swapped ([`swap_raw`](SimDisk::swap_raw)), stale
//! ([`stale_raw`](SimDisk::stale_raw)) or written in the wrong place ([`misdirect_raw`](SimDisk::misdirect_raw)); files
//! cut, put, removed, duplicated, renamed or swapped.
//!
//! # What it does not simulate
//!
//! - Removal of directories, links, permissions, and names that move from one directory to another.
//! - A kill (`Kept`) in the middle of a call: a call that has not returned did nothing, or, once it took effect, all.
//! - A directory lost by [`Profile::LyingDisk`] after it was synced.
//! - Metadata that goes wrong: a crash leaves each directory as some set of changes, and never one that is damaged.
//! - Time: an operation takes none, unless it is held.

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
mod traffic;
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
