//! What may be wrong with the disk while an incarnation of the log lives.
//!
//! The rule: whatever is wrong, it is known which errors the log may then give; any other is a broken promise.

use braidlog::ErrorKind;
use braidlog_sim::{Fault, Op, Rng, SimDisk};

/// The disk's state of health in one incarnation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Illness {
    /// It works, but for calls that are short or interrupted.
    None,
    /// It fails.
    Failing,
    /// It has little or no space.
    Full,
}

impl Illness {
    /// Draws an illness and infects the disk.
    pub(super) fn draw(disk: &SimDisk, rng: &mut Rng) -> Illness {
        if rng.one_in(3) {
            disk.inject(Fault::short(Op::Write).one_in(5, rng.next_u64()).forever());
            disk.inject(Fault::short(Op::Read).one_in(9, rng.next_u64()).forever());
            disk.inject(Fault::interrupted(Op::Write).one_in(9, rng.next_u64()).forever());
            disk.inject(Fault::interrupted(Op::Read).one_in(9, rng.next_u64()).forever());
        }
        match rng.below(9) {
            0 => {
                let ops = [
                    Op::Any,
                    Op::Create,
                    Op::Open,
                    Op::Read,
                    Op::Write,
                    Op::Allocate,
                    Op::SetLen,
                    Op::Sync,
                    Op::Rename,
                    Op::Remove,
                    Op::SyncDir,
                ];
                let fault =
                    Fault::eio(ops[rng.index(ops.len())]).nth(1 + rng.below(20)).times(1 + rng.below(3));
                disk.inject(if rng.one_in(2) { fault.after_effect() } else { fault });
                Illness::Failing
            }
            1 => {
                disk.inject(Fault::lost_sync().nth(1 + rng.below(10)));
                Illness::Failing
            }
            2 => {
                Illness::fill(disk, rng);
                Illness::Full
            }
            3 => {
                disk.inject(Fault::torn_write(rng.next_u64()).nth(1 + rng.below(20)));
                Illness::Failing
            }
            _ => Illness::None,
        }
    }

    /// Leaves the disk some free space, or none.
    pub(super) fn fill(disk: &SimDisk, rng: &mut Rng) {
        let free = if rng.one_in(2) { 0 } else { rng.below(4 << 20) };
        disk.set_capacity(Some(disk.used_bytes() + free));
    }

    /// Everything is well again.
    pub(super) fn heal(disk: &SimDisk) {
        disk.clear_faults();
        disk.set_capacity(None);
    }

    /// Whether the log may fail an append, a wait or a close so.
    pub(super) fn allows(self, kind: ErrorKind) -> bool {
        match self {
            Illness::None => false,
            Illness::Failing => matches!(kind, ErrorKind::Failed | ErrorKind::Io),
            Illness::Full => kind == ErrorKind::NoSpace,
        }
    }
}
