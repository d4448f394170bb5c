//! The seam through which the engine reaches threads and shared memory: the real ones, loom's or shuttle's.
//!
//! Everything whose interleavings matter takes its atomics, cells, locks, channels and parking from here, so
//! that a model checks the production code and not a copy of it. Counters for people stay with `std`.
//!
//! # The three bodies
//! * [`real`](self): re-exports and thin wrappers; nothing costs more than the thing itself.
//! * `--cfg braidlog_loom`: every interleaving of small models, and what the memory model allows.
//! * `--cfg braidlog_shuttle`: random schedules of the whole engine.
//!
//! The cfgs have names of their own because a bare `loom` would switch dependencies over too. Under loom and
//! shuttle all threads are coroutines of one thread: a real lock that is held across a switch would stop them
//! all, so every lock that may be is the seam's. Time does not pass there: a wait with a deadline may be over at
//! any moment.

#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
mod real;
#[cfg(not(any(braidlog_loom, braidlog_shuttle)))]
pub(crate) use real::*;

#[cfg(braidlog_loom)]
mod under_loom;
#[cfg(braidlog_loom)]
pub(crate) use under_loom::*;

#[cfg(braidlog_shuttle)]
mod under_shuttle;
#[cfg(braidlog_shuttle)]
pub(crate) use under_shuttle::*;

#[cfg(all(target_os = "linux", not(any(braidlog_loom, braidlog_shuttle))))]
mod linux_futex;
#[cfg(all(target_os = "linux", not(any(braidlog_loom, braidlog_shuttle))))]
pub(crate) use linux_futex::Futex;

#[cfg(any(not(target_os = "linux"), braidlog_loom, braidlog_shuttle))]
mod portable_futex;
#[cfg(any(not(target_os = "linux"), braidlog_loom, braidlog_shuttle))]
pub(crate) use portable_futex::Futex;

#[cfg(any(braidlog_loom, braidlog_shuttle))]
mod modelled;
#[cfg(any(braidlog_loom, braidlog_shuttle))]
pub(crate) use modelled::*;
