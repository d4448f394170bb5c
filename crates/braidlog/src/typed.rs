//! Values in place of bytes: a [`Codec`] makes payloads of them, and looks at payloads as them.
//!
//! The rule: what a payload is, is never guessed. A record says the version of its schema; one that this handle does not know
//! is an error or is upgraded, and a record of another kind is handed on as it is.

#[cfg(feature = "postcard")]
mod postcard;
#[cfg(feature = "rkyv")]
mod rkyv;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};

use crate::{
    Append, AppendError, Batch, BoxError, Durability, Error, Lsn, RecordRef, Records, Replay, Result, Ticket,
    Wal,
};

#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
#[cfg(feature = "rkyv")]
pub use self::rkyv::Rkyv;

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

/// Makes a value of the payload that an earlier schema had.
type Upgrade<T> = Box<dyn Fn(&[u8]) -> Result<T, BoxError> + Send + Sync>;

/// A log whose records of one kind are values of `T`.
///
/// A clone is another handle on the same; several types have a kind each, and a handle each made of a clone of the [`Wal`].
pub struct TypedWal<T, C: Codec<T>> {
    wal: Wal,
    shared: Arc<Shared<T, C>>,
}

struct Shared<T, C: Codec<T>> {
    codec: C,
    kind: u8,
    schema: u32,
    upgrades: BTreeMap<u32, Upgrade<T>>,
    /// Memory that the last append used.
    spare: Mutex<Option<C::Scratch>>,
}

impl<T, C: Codec<T>> TypedWal<T, C> {
    /// Values are records of kind 0, and their schema is version 0.
    pub fn new(wal: Wal, codec: C) -> TypedWal<T, C> {
        TypedWal::with(wal, codec, Schema::default())
    }

    /// With a kind, a version of the schema, and a way from earlier ones.
    pub fn with(wal: Wal, codec: C, schema: Schema<T>) -> TypedWal<T, C> {
        let Schema { kind, version, upgrades } = schema;
        let shared = Shared { codec, kind, schema: version, upgrades, spare: Mutex::default() };
        TypedWal { wal, shared: Arc::new(shared) }
    }

    /// The log.
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Appends a value, and returns as [`Wal::append`] does.
    ///
    /// # Errors
    /// [`Application`](crate::ErrorKind::Application) if the codec refuses the value, and as [`Wal::append_with`].
    pub fn append(&self, value: &T) -> Result<Lsn> {
        self.with_payload(value, |append| self.wal.append_with(append))
    }

    /// As [`TypedWal::append`], with a durability of the value's own.
    ///
    /// # Errors
    /// As [`TypedWal::append`].
    pub fn append_durable(&self, value: &T, durability: Durability) -> Result<Lsn> {
        self.with_payload(value, |append| self.wal.append_with(append.durability(durability)))
    }

    /// Appends a value if there is room, and waits for nothing, as [`Wal::submit`] does.
    ///
    /// # Errors
    /// As [`Wal::submit`], and [`Application`](crate::ErrorKind::Application) if the codec refuses the value. Both give the
    /// value back.
    pub fn submit<V: AsRef<T>>(&self, value: V) -> Result<Ticket, AppendError<V>> {
        let submitted = self.with_payload(value.as_ref(), |append| self.wal.submit_with(append));
        submitted.map_err(|error| AppendError::new(error, value))
    }

    /// Adds a value to a batch, beside records of any kind.
    ///
    /// # Errors
    /// As [`Batch::push`], and [`Application`](crate::ErrorKind::Application) if the codec refuses the value.
    pub fn push(&self, batch: &mut Batch, value: &T) -> Result<()> {
        self.with_payload(value, |append| batch.push_with(append).map(drop))
    }

    /// The values that [`Wal::replay`] gives.
    ///
    /// # Errors
    /// As there.
    pub fn replay(&self) -> Result<TypedRecords<'_, T, C>> {
        Ok(self.read(self.wal.replay()?))
    }

    /// The values that [`Wal::replay_with`] gives.
    ///
    /// # Errors
    /// As there.
    pub fn replay_with(&self, replay: Replay) -> Result<TypedRecords<'_, T, C>> {
        Ok(self.read(self.wal.replay_with(replay)?))
    }

    /// The values that [`Wal::iter`] gives.
    ///
    /// # Errors
    /// As there.
    pub fn iter(&self, range: impl RangeBounds<Lsn>) -> Result<TypedRecords<'_, T, C>> {
        Ok(self.read(self.wal.iter(range)?))
    }

    /// Looks at records from anywhere as values.
    pub fn read(&self, records: Records) -> TypedRecords<'_, T, C> {
        TypedRecords { typed: self, records, scratch: C::Scratch::default() }
    }

    /// Looks at a record from anywhere, a subscription or a partition, as a value. `scratch` is memory to use.
    ///
    /// # Errors
    /// [`Application`](crate::ErrorKind::Application) if the codec refuses the payload, or the upgrade does;
    /// [`Newer`](crate::ErrorKind::Newer) for a schema that is newer than this handle's;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an earlier one from which no upgrade was given.
    #[inline]
    pub fn decode<'a>(
        &self,
        record: RecordRef<'a>,
        scratch: &'a mut C::Scratch,
    ) -> Result<TypedRecord<'a, T, C>> {
        let Shared { codec, kind, schema, .. } = &*self.shared;
        if record.kind.0 != *kind {
            return Ok(TypedRecord { record, value: Value::Raw });
        }
        let version = record.fields.schema().unwrap_or(0);
        if version != *schema {
            return self.upgrade(record, version);
        }
        match codec.decode(record.payload, scratch) {
            Ok(view) => Ok(TypedRecord { record, value: Value::Current(view) }),
            Err(source) => Err(Error::codec(&self.wal.log.path, Some(record.lsn), source)),
        }
    }

    #[cold]
    fn upgrade<'a>(&self, record: RecordRef<'a>, version: u32) -> Result<TypedRecord<'a, T, C>> {
        let Shared { schema, upgrades, .. } = &*self.shared;
        let Some(upgrade) = upgrades.get(&version) else {
            return Err(Error::unknown_schema(&self.wal.log.path, record.lsn, version, *schema));
        };
        match upgrade(record.payload) {
            Ok(value) => Ok(TypedRecord { record, value: Value::Upgraded(Box::new(value)) }),
            Err(source) => Err(Error::codec(&self.wal.log.path, Some(record.lsn), source)),
        }
    }

    fn with_payload<R>(&self, value: &T, append: impl FnOnce(Append<'_>) -> Result<R>) -> Result<R> {
        let Shared { codec, kind, schema, spare, .. } = &*self.shared;
        // Whoever finds no memory, because another thread is at it, takes new.
        let mut scratch = spare.try_lock().ok().and_then(|mut spare| spare.take()).unwrap_or_default();
        let payload = codec.encode(value, &mut scratch);
        let payload = payload.map_err(|source| Error::codec(&self.wal.log.path, None, source))?;
        let plain = Append::new(payload).kind(*kind);
        let appended = append(if *schema == 0 { plain } else { plain.schema(*schema) });
        if let Ok(mut spare) = spare.try_lock() {
            *spare = Some(scratch);
        }
        appended
    }
}

impl<T, C: Codec<T>> Clone for TypedWal<T, C> {
    fn clone(&self) -> TypedWal<T, C> {
        TypedWal { wal: self.wal.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<T, C: Codec<T>> fmt::Debug for TypedWal<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedWal")
            .field("path", &self.wal.path())
            .field("kind", &self.shared.kind)
            .field("schema", &self.shared.schema)
            .field("type", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}

/// Which records are values of `T`, and of which schema.
#[must_use = "it says what a `TypedWal` is to be"]
pub struct Schema<T> {
    kind: u8,
    version: u32,
    upgrades: BTreeMap<u32, Upgrade<T>>,
}

impl<T> Schema<T> {
    /// Version 0, for records of kind 0.
    pub fn new() -> Schema<T> {
        Schema { kind: 0, version: 0, upgrades: BTreeMap::new() }
    }

    /// Sets the kind that the values have: 0 to 239. Records of other kinds are no values.
    pub fn kind(self, kind: u8) -> Schema<T> {
        Schema { kind, ..self }
    }

    /// Sets the version that values are appended with. It is kept with each record, in 8 bytes; 0 is kept in none.
    pub fn version(self, version: u32) -> Schema<T> {
        Schema { version, ..self }
    }

    /// Says how the payload of an earlier `version` becomes a value. Each version has its own way to this one.
    pub fn upgrade(
        mut self,
        version: u32,
        upgrade: impl Fn(&[u8]) -> Result<T, BoxError> + Send + Sync + 'static,
    ) -> Schema<T> {
        self.upgrades.insert(version, Box::new(upgrade));
        self
    }
}

impl<T> Default for Schema<T> {
    fn default() -> Schema<T> {
        Schema::new()
    }
}

impl<T> fmt::Debug for Schema<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("upgrades", &self.upgrades.keys())
            .finish()
    }
}

/// A record, and the value that it is.
pub struct TypedRecord<'a, T: 'a, C: Codec<T>> {
    /// The record as it is in the log.
    pub record: RecordRef<'a>,
    /// What it is.
    pub value: Value<'a, T, C>,
}

/// What a record is.
pub enum Value<'a, T: 'a, C: Codec<T>> {
    /// A value of this schema, looked at where it lies.
    Current(C::View<'a>),
    /// A value of an earlier schema, made one of this. In a box, so that the others are small.
    Upgraded(Box<T>),
    /// Of another kind: no value of this type.
    Raw,
}

impl<'a, T, C: Codec<T>> fmt::Debug for TypedRecord<'a, T, C>
where
    Value<'a, T, C>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRecord").field("record", &self.record).field("value", &self.value).finish()
    }
}

impl<'a, T: fmt::Debug, C: Codec<T>> fmt::Debug for Value<'a, T, C>
where
    C::View<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Current(view) => f.debug_tuple("Current").field(view).finish(),
            Value::Upgraded(value) => f.debug_tuple("Upgraded").field(value).finish(),
            Value::Raw => f.write_str("Raw"),
        }
    }
}

/// [`Records`], looked at as values.
#[must_use = "records are read as they are asked for"]
pub struct TypedRecords<'t, T, C: Codec<T>> {
    typed: &'t TypedWal<T, C>,
    records: Records,
    scratch: C::Scratch,
}

impl<T, C: Codec<T>> TypedRecords<'_, T, C> {
    /// The next record and the value that it is, lent until the next call; `None` at the end. One that is no value is an
    /// error, and the next call goes on behind it.
    ///
    /// # Errors
    /// As [`Records::next_ref`], which end it, and as [`TypedWal::decode`].
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<TypedRecord<'_, T, C>>> {
        let record = match self.records.next_ref()? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        Some(self.typed.decode(record, &mut self.scratch))
    }

    /// As [`Records::applied_to`].
    pub fn applied_to(&self) -> Lsn {
        self.records.applied_to()
    }
}

impl<T, C: Codec<T>> fmt::Debug for TypedRecords<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRecords").field("records", &self.records).finish_non_exhaustive()
    }
}
