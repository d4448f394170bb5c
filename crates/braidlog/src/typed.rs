//! Values in place of bytes: a [`Codec`] makes payloads of them, and looks at payloads as them.
//!
//! The rule: what a payload is, is never guessed. A record says the version of its schema; one that this handle does not know
//! is an error or is upgraded, and a record of another kind is handed on as it is.

#[cfg(feature = "postcard")]
mod postcard;
mod reading;
#[cfg(feature = "rkyv")]
mod rkyv;
mod schema;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::{Append, AppendError, Batch, BoxError, Durability, Error, Lsn, ReadOnly, Result, Ticket, Wal};

#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub use self::reading::{Readable, TypedRecord, TypedRecords, Value};
#[cfg(feature = "rkyv")]
pub use self::rkyv::{Rkyv, RkyvValidator};
pub use self::schema::Schema;

/// How values of a type become payloads, and payloads are looked at as values.
///
/// There is one for any type of `rkyv` and one for any of `serde`, each behind a cargo feature; an application may write its
/// own:
///
/// ```
/// use braidlog::{BoxError, Codec, TypedWal, Value, Wal};
///
/// /// A number, in as few digits as it has.
/// struct Digits;
///
/// impl Codec<u64> for Digits {
///     type View<'a> = u64;
///     type Scratch = String;
///
///     fn encode<'a>(&self, value: &u64, scratch: &'a mut String) -> Result<&'a [u8], BoxError> {
///         *scratch = value.to_string();
///         Ok(scratch.as_bytes())
///     }
///
///     fn decode<'a>(&self, payload: &'a [u8], _: &'a mut String) -> Result<u64, BoxError> {
///         Ok(std::str::from_utf8(payload)?.parse()?)
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let wal = TypedWal::new(Wal::options().open(dir.path())?, Digits);
/// wal.append(&40)?;
/// wal.append(&2)?;
/// let (mut records, mut sum) = (wal.replay()?, 0);
/// while let Some(record) = records.next_ref() {
///     if let Value::Current(number) = record?.value {
///         sum += number;
///     }
/// }
/// assert_eq!(sum, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec<T> {
    /// What a payload is looked at as. It may borrow from the payload.
    type View<'a>
    where
        T: 'a;
    /// Memory that is used again from one value to the next.
    type Scratch: Default;

    /// The payload of a value.
    ///
    /// # Errors
    /// Whatever keeps the value from being one. Nothing is appended.
    fn encode<'a>(&self, value: &T, scratch: &'a mut Self::Scratch) -> Result<&'a [u8], BoxError>;

    /// The value that `payload` is. The payload begins at a multiple of 8 bytes in memory where the reader can give it so;
    /// a codec that needs it so everywhere copies one that does not into `scratch`.
    ///
    /// # Errors
    /// The payload is no value. The codec must not believe the payload: another program may have appended it.
    fn decode<'a>(
        &self,
        payload: &'a [u8],
        scratch: &'a mut Self::Scratch,
    ) -> Result<Self::View<'a>, BoxError>;
}

/// A log that is open for writing, whose records of one kind are values of `T`.
pub type TypedWal<T, C> = TypedLog<Wal, T, C>;

/// A log that is only read, whose records of one kind are values of `T`.
///
/// ```
/// # #[cfg(feature = "postcard")] {
/// use braidlog::{Postcard, TypedReadOnly, TypedWal, Value, Wal};
///
/// # let dir = tempfile::tempdir()?;
/// let wal = TypedWal::new(Wal::options().open(dir.path())?, Postcard);
/// wal.append(&42_u64)?;
/// wal.wal().close()?;
///
/// let log = TypedReadOnly::<u64, _>::new(Wal::open_read_only(dir.path())?, Postcard);
/// let mut records = log.replay()?;
/// assert!(matches!(records.next_ref().unwrap()?.value, Value::Current(42)));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type TypedReadOnly<T, C> = TypedLog<ReadOnly, T, C>;

/// A log whose records of one kind are values of `T`: a [`TypedWal`] or a [`TypedReadOnly`].
///
/// A clone of the first is another handle on the same; several types have a kind each, and a handle each made of a clone of the
/// [`Wal`].
pub struct TypedLog<L, T, C: Codec<T>> {
    log: L,
    shared: Arc<Shared<T, C>>,
}

struct Shared<T, C: Codec<T>> {
    codec: C,
    schema: Schema<T>,
    /// Memory that the last append used.
    spare: Mutex<Option<C::Scratch>>,
}

impl<L: Readable, T, C: Codec<T>> TypedLog<L, T, C> {
    /// Values are records of kind 0, and their schema is version 0.
    pub fn new(log: L, codec: C) -> TypedLog<L, T, C> {
        TypedLog::with(log, codec, Schema::default())
    }

    /// With a kind, a version of the schema, and a way from earlier ones.
    pub fn with(log: L, codec: C, schema: Schema<T>) -> TypedLog<L, T, C> {
        TypedLog { log, shared: Arc::new(Shared { codec, schema, spare: Mutex::default() }) }
    }

    /// The log.
    pub fn log(&self) -> &L {
        &self.log
    }
}

impl<T, C: Codec<T>> TypedWal<T, C> {
    /// The log, as [`TypedLog::log`].
    pub fn wal(&self) -> &Wal {
        &self.log
    }

    /// Appends a value, and returns as [`Wal::append`] does.
    ///
    /// # Errors
    /// [`Application`](crate::ErrorKind::Application) if the codec refuses the value, and as [`Wal::append_with`].
    pub fn append(&self, value: &T) -> Result<Lsn> {
        self.with_payload(value, |append| self.log.append_with(append))
    }

    /// As [`TypedWal::append`], with a durability of the value's own.
    ///
    /// # Errors
    /// As [`TypedWal::append`].
    pub fn append_durable(&self, value: &T, durability: Durability) -> Result<Lsn> {
        self.with_payload(value, |append| self.log.append_with(append.durability(durability)))
    }

    /// Appends a value if there is room, and waits for nothing, as [`Wal::submit`] does.
    ///
    /// # Errors
    /// As [`Wal::submit`], and [`Application`](crate::ErrorKind::Application) if the codec refuses the value. Both give the
    /// value back.
    pub fn submit<V: AsRef<T>>(&self, value: V) -> Result<Ticket, AppendError<V>> {
        let submitted = self.with_payload(value.as_ref(), |append| self.log.submit_with(append));
        submitted.map_err(|error| AppendError::new(error, value))
    }

    /// Adds a value to a batch, beside records of any kind.
    ///
    /// # Errors
    /// As [`Batch::push`], and [`Application`](crate::ErrorKind::Application) if the codec refuses the value.
    pub fn push(&self, batch: &mut Batch, value: &T) -> Result<()> {
        self.with_payload(value, |append| batch.push_with(append).map(drop))
    }

    fn with_payload<R>(&self, value: &T, append: impl FnOnce(Append<'_>) -> Result<R>) -> Result<R> {
        let Shared { codec, schema, spare } = &*self.shared;
        // Whoever finds no memory, because another thread is at it, takes new.
        let mut scratch = spare.try_lock().ok().and_then(|mut spare| spare.take()).unwrap_or_default();
        let payload = codec.encode(value, &mut scratch);
        let payload = payload.map_err(|source| Error::codec(&self.log.log.path, None, source))?;
        let plain = Append::new(payload).kind(schema.kind);
        let appended = append(if schema.version == 0 { plain } else { plain.schema(schema.version) });
        if let Ok(mut spare) = spare.try_lock() {
            *spare = Some(scratch);
        }
        appended
    }
}

impl<L: Clone, T, C: Codec<T>> Clone for TypedLog<L, T, C> {
    fn clone(&self) -> TypedLog<L, T, C> {
        TypedLog { log: self.log.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<L: Readable, T, C: Codec<T>> fmt::Debug for TypedLog<L, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: &Path = self.log.path_of();
        f.debug_struct("TypedLog")
            .field("path", &path)
            .field("kind", &self.shared.schema.kind)
            .field("schema", &self.shared.schema.version)
            .field("type", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}
