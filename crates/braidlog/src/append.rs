//! One append, as it is asked for: the payload and whatever differs from the log's defaults.

use std::io::IoSlice;

use braidlog_engine::{Durability, EngineError, EntryParts};
use braidlog_format::{Kind, RecordFields, TxId};

/// A record to append, with its own kind or durability.
///
/// ```
/// use braidlog::{Append, Durability, Wal};
/// # let dir = tempfile::tempdir()?;
/// # let wal = Wal::options().open(dir.path())?;
/// wal.append_with(Append::new(b"order 7 paid").kind(3).durability(Durability::Synchronous))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "it is appended by `append_with`"]
pub struct Append<'a> {
    payload: Payload<'a>,
    fields: RecordFields,
    pub(crate) kind: u8,
    pub(crate) durability: Option<Durability>,
}

/// The bytes of a record, in one piece or several.
#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    One(&'a [u8]),
    Pieces(&'a [IoSlice<'a>]),
}

impl<'a> Append<'a> {
    /// A record of kind 0 with the durability of the log's mode. The payload may be empty.
    pub fn new<P: AsRef<[u8]> + ?Sized>(payload: &'a P) -> Append<'a> {
        Append::of(Payload::One(payload.as_ref()))
    }

    /// A record whose payload is these pieces, one behind the other. They are copied into the log from where they are.
    ///
    /// ```
    /// # use braidlog::{Append, Wal};
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = Wal::options().open(dir.path())?;
    /// use std::io::IoSlice;
    /// let lsn = wal.append_with(Append::vectored(&[IoSlice::new(b"head"), IoSlice::new(b"body")]))?;
    /// assert_eq!(wal.read(lsn)?.unwrap().payload, b"headbody");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vectored(pieces: &'a [IoSlice<'a>]) -> Append<'a> {
        Append::of(Payload::Pieces(pieces))
    }

    fn of(payload: Payload<'a>) -> Append<'a> {
        Append { payload, fields: RecordFields::default(), kind: 0, durability: None }
    }

    /// Sets the kind: 0 to 239, the application's to give a meaning. The append refuses others.
    pub fn kind(mut self, kind: u8) -> Append<'a> {
        self.kind = kind;
        self
    }

    /// Sets when the append returns, whatever the mode of the log says. The delays stay the log's own.
    pub fn durability(mut self, durability: Durability) -> Append<'a> {
        self.durability = Some(durability);
        self
    }

    /// Notes with the record which version of a schema its payload has: given back in
    /// [`RecordRef::fields`](crate::RecordRef#structfield.fields). Costs 8 bytes.
    pub fn schema(mut self, version: u32) -> Append<'a> {
        self.fields.schema = Some(version);
        self
    }

    /// Notes with the record that it belongs to a transaction.
    pub(crate) fn of_transaction(mut self, id: TxId) -> Append<'a> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("id_left_out_of_the_records") {
            return self;
        }
        self.fields.transaction = Some(id);
        self
    }

    /// Notes with the record that it takes effect only if a transaction does.
    pub(crate) fn provisional_in(mut self, id: TxId) -> Append<'a> {
        self.fields.transaction = Some(id);
        self.fields.provisional = true;
        self
    }

    /// Notes with the record that it belongs to a stream, and its place there.
    pub(crate) fn of_stream(mut self, id: u64, sequence: u64) -> Append<'a> {
        (self.fields.stream, self.fields.sequence) = (Some(id), Some(sequence));
        self
    }

    /// What it carries beside its payload.
    pub(crate) fn fields(&self) -> RecordFields {
        self.fields
    }

    /// The payload of a record that is in one piece and carries nothing else.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&'a [u8]> {
        match self.payload {
            Payload::One(payload) if self.fields.is_empty() => Some(payload),
            _ => None,
        }
    }

    /// Hands the entry over in pieces.
    ///
    /// # Errors
    /// [`EngineError::ReservedKind`]: the log's own kinds are no caller's.
    pub(crate) fn with_parts<T>(
        &self,
        take: impl FnOnce(EntryParts<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let kind = Kind(self.kind);
        if !kind.is_user() {
            return Err(EngineError::ReservedKind { kind: kind.0 });
        }
        let fields = self.fields.encode();
        let one;
        let pieces = match self.payload {
            Payload::One(payload) => {
                one = [IoSlice::new(payload)];
                &one
            }
            Payload::Pieces(pieces) => pieces,
        };
        take(EntryParts { kind, fields: &fields, pieces })
    }
}
