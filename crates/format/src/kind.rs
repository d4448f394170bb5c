//! What an entry is (its kind) and how to read it (its flags).

use crate::DecodeError;

/// The kind of an entry, one byte. `0..=239` belong to the user, `240..=255` to the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Kind(pub u8);

impl Kind {
    /// The largest kind that a user may append.
    pub const USER_MAX: Kind = Kind(239);

    /// First entry of each round: how far the log, and this file, are known to be synced.
    pub const SYNC_MARK: Kind = Kind(240);
    /// Fills the file to the next block boundary.
    pub const PAD: Kind = Kind(241);
    /// Ends a segment and vouches for every byte before it.
    pub const SEAL: Kind = Kind(242);
    /// A transaction begins.
    pub const TX_BEGIN: Kind = Kind(243);
    /// A transaction commits.
    pub const TX_COMMIT: Kind = Kind(244);
    /// A transaction is given up.
    pub const TX_ABORT: Kind = Kind(245);
    /// A transaction is durable and undecided (two-phase commit).
    pub const TX_PREPARE: Kind = Kind(246);
    /// The decision on a prepared transaction.
    pub const TX_DECISION: Kind = Kind(247);
    /// A transaction goes back to a point inside it.
    pub const TX_GO_BACK: Kind = Kind(248);
    /// The application's state up to an LSN is safe elsewhere.
    pub const CHECKPOINT: Kind = Kind(249);
    /// A named point to which a log can be recovered.
    pub const RESTORE_POINT: Kind = Kind(250);
    /// A range of LSNs that was given up, recorded for ever.
    pub const LOSS: Kind = Kind(251);

    /// Whether the kind belongs to the user.
    pub const fn is_user(self) -> bool {
        self.0 <= Kind::USER_MAX.0
    }

    /// Whether an entry of this kind takes an LSN of its own. Others carry the next LSN.
    pub const fn takes_lsn(self) -> bool {
        self.is_user() || matches!(self.0, 243..=250)
    }

    /// The name of a log kind as `docs/format.md` writes it; `None` for the user's kinds.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            240 => "SyncMark",
            241 => "Pad",
            242 => "Seal",
            243 => "TxBegin",
            244 => "TxCommit",
            245 => "TxAbort",
            246 => "TxPrepare",
            247 => "TxDecision",
            248 => "TxGoBack",
            249 => "Checkpoint",
            250 => "RestorePoint",
            251 => "Loss",
            252..=255 => "Reserved",
            _ => return None,
        })
    }

    /// Whether version 1 gives this kind a meaning. One that it does not (252 to 255) is refused as
    /// newer unless the entry is flagged [`Flags::IGNORABLE`].
    pub const fn is_known(self) -> bool {
        self.0 <= Kind::LOSS.0
    }
}

/// The flag bits of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// The next entry that takes an LSN belongs to the same atomic batch.
    pub const BATCH_CONTINUES: Flags = Flags(1);
    /// The payload is compressed; an extended field says how.
    pub const COMPRESSED: Flags = Flags(2);
    /// The payload begins with [`ExtendedFields`](crate::ExtendedFields).
    pub const EXTENDED: Flags = Flags(4);
    /// A reader that does not know the kind may skip the entry.
    pub const IGNORABLE: Flags = Flags(8);

    const KNOWN: u8 = 0b1111;

    /// The bits as they stand on disk.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags that these bits mean.
    ///
    /// # Errors
    /// [`DecodeError::NewerFlags`] if a bit is set that version 1 does not define.
    pub const fn from_bits(bits: u8) -> Result<Flags, DecodeError> {
        if bits & !Flags::KNOWN == 0 { Ok(Flags(bits)) } else { Err(DecodeError::NewerFlags { bits }) }
    }

    /// Whether every flag of `other` is set here.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`'s.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}
