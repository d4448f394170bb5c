//! Faults: which operation goes wrong, when, and how.
//!
//! The rule: a fault is armed with [`SimDisk::inject`](crate::SimDisk::inject) and counts operations from
//! then on; with a seed and the same operations it strikes at the same place.

use std::io::{Error, ErrorKind};

use crate::Rng;

/// A kind of operation, as a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Op {
    /// Every kind.
    Any,
    /// Making a file.
    Create,
    /// Opening an existing file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Allocating space.
    Allocate,
    /// Cutting or extending.
    SetLen,
    /// Syncing a file, data or all.
    Sync,
    /// Dropping clean pages.
    DropCache,
    /// Changing a name.
    Rename,
    /// Removing a name.
    Remove,
    /// Giving a file a name in another directory too.
    Link,
    /// Syncing a directory.
    SyncDir,
    /// Making a directory, one level of it.
    MakeDir,
    /// Opening a directory, after what is missing has been made.
    OpenDir,
    /// Listing a directory.
    List,
    /// Asking for the length of a file, or how many names it has.
    Len,
    /// Taking the writer lock.
    Lock,
    /// Asking whether somebody holds the writer lock.
    IsLocked,
    /// Beginning to watch a directory.
    Watch,
}

impl Op {
    pub(crate) fn covers(self, op: Op) -> bool {
        self == Op::Any || self == op
    }
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// The operation fails and does nothing.
    Fail(Code),
    /// The operation does its work and says that it failed.
    FailAfter(Code),
    /// A read or write does a part of its work.
    Short,
    /// A sync fails, and the data that it should have written is marked clean.
    Lose(Code),
    /// A write fails with a part of its range changed, drawn from the seed.
    Tear(Code, u64),
    /// The operation stays under way until the faults are cleared, and then goes on.
    Hang,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    Kind(ErrorKind),
    Os(i32),
}

impl Code {
    pub(crate) fn error(self) -> Error {
        match self {
            Code::Kind(kind) => Error::new(kind, "injected by the simulated disk"),
            Code::Os(code) => Error::from_raw_os_error(code),
        }
    }
}

/// The number of "input/output error", the same on every Unix.
const EIO: i32 = 5;

/// One thing that goes wrong: the next matching operation, unless told otherwise.
///
/// ```
/// use braidlog_sim::{Fault, Op, SimDisk};
///
/// let disk = SimDisk::new();
/// disk.inject(Fault::eio(Op::Write).nth(3)); // the third write from now fails, once
/// disk.inject(Fault::lost_sync().on(".wal")); // fsync fails once; what it should have written is gone
/// disk.inject(Fault::interrupted(Op::Read).times(5)); // a burst of signals
/// disk.inject(Fault::short(Op::Write).one_in(10, 42).forever());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    op: Op,
    suffix: String,
    /// Matching operations that are still spared.
    spare: u64,
    /// How often it strikes yet; `None`: for ever.
    times: Option<u64>,
    odds: Option<(u64, Rng)>,
    effect: Effect,
}

impl Fault {
    fn new(op: Op, effect: Effect) -> Fault {
        Fault { op, suffix: String::new(), spare: 0, times: Some(1), odds: None, effect }
    }

    /// The operation fails with an error of this kind and does nothing.
    pub fn error(op: Op, kind: ErrorKind) -> Fault {
        Fault::new(op, Effect::Fail(Code::Kind(kind)))
    }

    /// The operation fails with this error number of the operating system and does nothing.
    pub fn errno(op: Op, code: i32) -> Fault {
        Fault::new(op, Effect::Fail(Code::Os(code)))
    }

    /// The operation fails as on a broken device (`EIO`) and does nothing.
    pub fn eio(op: Op) -> Fault {
        Fault::errno(op, EIO)
    }

    /// The operation fails for lack of space and does nothing. See also
    /// [`SimDisk::set_capacity`](crate::SimDisk::set_capacity).
    pub fn no_space(op: Op) -> Fault {
        Fault::error(op, ErrorKind::StorageFull)
    }

    /// A signal interrupts the operation, which does nothing.
    pub fn interrupted(op: Op) -> Fault {
        Fault::error(op, ErrorKind::Interrupted)
    }

    /// A read or write does a part of its work, at least one byte; through a direct handle whole pages.
    /// One that is too small to be parted is left alone, and so is every other kind of operation.
    pub fn short(op: Op) -> Fault {
        Fault::new(op, Effect::Short)
    }

    /// A sync of a file fails with `EIO` as on Linux: what it should have written is marked clean. Reads
    /// through the cache still see it, the next sync succeeds, and after a crash it is gone.
    pub fn lost_sync() -> Fault {
        Fault::new(Op::Sync, Effect::Lose(Code::Os(EIO)))
    }

    /// A write fails with `EIO` and has changed a part of its range: of each sector of 512 bytes it is drawn
    /// from the seed whether it is as before, written, or garbage. Other kinds of operations are left alone.
    pub fn torn_write(seed: u64) -> Fault {
        Fault::new(Op::Write, Effect::Tear(Code::Os(EIO), seed))
    }

    /// The operation has been asked for and does not come back until
    /// [`SimDisk::clear_faults`](crate::SimDisk::clear_faults); then it does its work as if nothing had been.
    /// See [`SimDisk::wait_for_hung`](crate::SimDisk::wait_for_hung); a [`Hold`](crate::Hold) gives finer
    /// control.
    pub fn hang(op: Op) -> Fault {
        Fault::new(op, Effect::Hang)
    }

    /// It strikes at the `n`-th matching operation, counted from 1.
    pub fn nth(mut self, n: u64) -> Fault {
        self.spare = n.saturating_sub(1);
        self
    }

    /// It strikes at this many matching operations in a row.
    pub fn times(mut self, times: u64) -> Fault {
        self.times = Some(times);
        self
    }

    /// It strikes until [`SimDisk::clear_faults`](crate::SimDisk::clear_faults).
    pub fn forever(mut self) -> Fault {
        self.times = None;
        self
    }

    /// It strikes at random, once in `n` matching operations.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn one_in(mut self, n: u64, seed: u64) -> Fault {
        assert!(n > 0, "once in 0 times means nothing");
        self.odds = Some((n, Rng::new(seed)));
        self
    }

    /// It strikes only at files whose name ends so. A sync of a directory has no name.
    pub fn on(mut self, suffix: &str) -> Fault {
        self.suffix = suffix.to_owned();
        self
    }

    /// The operation does its work before it says that it failed: an error proves nothing.
    pub fn after_effect(mut self) -> Fault {
        if let Effect::Fail(code) = self.effect {
            self.effect = Effect::FailAfter(code);
        }
        self
    }

    /// Counts one operation; whether the fault is ready to strike at it.
    fn is_ready(&mut self, op: Op, name: &str) -> bool {
        if !self.op.covers(op) || !name.ends_with(&self.suffix) || self.times == Some(0) {
            return false;
        }
        let is_ready = self.spare == 0;
        self.spare = self.spare.saturating_sub(1);
        is_ready
    }

    /// Strikes, if the dice agree.
    fn strike(&mut self) -> Option<Effect> {
        if let Some((n, rng)) = &mut self.odds
            && !rng.one_in(*n)
        {
            return None;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        let effect = self.effect;
        if let Effect::Tear(_, seed) = &mut self.effect {
            // Another place the next time.
            *seed = seed.wrapping_add(1);
        }
        Some(effect)
    }
}

/// The faults that wait to strike.
#[derive(Default)]
pub(crate) struct Faults {
    armed: Vec<Fault>,
    pub(crate) struck: u64,
    /// Operations that hang now.
    pub(crate) hung: usize,
    /// How often the faults were cleared.
    pub(crate) clearings: u64,
}

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
        self.clearings += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// Counts one operation for every fault. Of those that are ready the one armed first strikes; the others
    /// stay ready.
    pub(crate) fn draw(&mut self, op: Op, name: &str) -> Option<Effect> {
        let mut effect = None;
        for fault in &mut self.armed {
            if fault.is_ready(op, name) && effect.is_none() {
                effect = fault.strike();
            }
        }
        self.armed.retain(|fault| fault.times != Some(0));
        self.struck += u64::from(effect.is_some());
        effect
    }
}
