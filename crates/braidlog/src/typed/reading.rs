//! Records, looked at as values.

use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use super::{Codec, Shared, TypedLog};
use crate::{Error, Lsn, ReadOnly, RecordRef, Records, Replay, Result, Wal};

/// A log that gives its records: a [`Wal`] or a [`ReadOnly`].
pub trait Readable: sealed::Readable {}

impl Readable for Wal {}
impl Readable for ReadOnly {}

mod sealed {
    use super::*;

    pub trait Readable {
        fn path_of(&self) -> &Arc<Path>;
        fn replay_of(&self, replay: Replay) -> Result<Records>;
        fn iter_of(&self, range: impl RangeBounds<Lsn>) -> Result<Records>;
    }

    impl Readable for Wal {
        fn path_of(&self) -> &Arc<Path> {
            &self.log.path
        }

        fn replay_of(&self, replay: Replay) -> Result<Records> {
            self.replay_with(replay)
        }

        fn iter_of(&self, range: impl RangeBounds<Lsn>) -> Result<Records> {
            self.iter(range)
        }
    }

    impl Readable for ReadOnly {
        fn path_of(&self) -> &Arc<Path> {
            &self.path
        }

        fn replay_of(&self, replay: Replay) -> Result<Records> {
            self.replay_with(replay)
        }

        fn iter_of(&self, range: impl RangeBounds<Lsn>) -> Result<Records> {
            self.iter(range)
        }
    }
}

/// # Reading values
impl<L: Readable, T, C: Codec<T>> TypedLog<L, T, C> {
    /// The values that [`Wal::replay`] gives, or [`ReadOnly::replay`].
    ///
    /// # Errors
    /// As there.
    pub fn replay(&self) -> Result<TypedRecords<'_, T, C>> {
        self.replay_with(Replay::new())
    }

    /// The values that [`Wal::replay_with`] gives, or [`ReadOnly::replay_with`].
    ///
    /// # Errors
    /// As there.
    pub fn replay_with(&self, replay: Replay) -> Result<TypedRecords<'_, T, C>> {
        Ok(self.read(self.log.replay_of(replay)?))
    }

    /// The values that [`Wal::iter`] gives, or [`ReadOnly::iter`].
    ///
    /// # Errors
    /// As there.
    pub fn iter(&self, range: impl RangeBounds<Lsn>) -> Result<TypedRecords<'_, T, C>> {
        Ok(self.read(self.log.iter_of(range)?))
    }

    /// Looks at records from anywhere as values.
    pub fn read(&self, records: Records) -> TypedRecords<'_, T, C> {
        TypedRecords { shared: &self.shared, records, scratch: C::Scratch::default() }
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
        match self.shared.value(&record, scratch, self.log.path_of()) {
            Ok(value) => Ok(TypedRecord { record, value }),
            Err(error) => Err(error),
        }
    }
}

impl<T, C: Codec<T>> Shared<T, C> {
    /// What a record is. `path` is that of its log, for an error.
    #[inline(always)]
    fn value<'a>(
        &self,
        record: &RecordRef<'a>,
        scratch: &'a mut C::Scratch,
        path: &Arc<Path>,
    ) -> Result<Value<'a, T, C>> {
        let kind = self.schema.kind;
        #[cfg(braidlog_sabotage)]
        let kind = if braidlog_sabotage::is("record_of_another_kind_taken_for_a_value") {
            record.kind.0
        } else {
            kind
        };
        if record.kind.0 != kind {
            return Ok(Value::Raw);
        }
        let version = record.fields.schema().unwrap_or(0);
        #[cfg(braidlog_sabotage)]
        let version = if braidlog_sabotage::is("every_schema_taken_for_this_one") {
            self.schema.version
        } else {
            version
        };
        if version != self.schema.version {
            return self.upgraded(record, version, path);
        }
        match self.codec.decode(record.payload, scratch) {
            Ok(view) => Ok(Value::Current(view)),
            Err(source) => Err(Error::codec(path, Some(record.lsn), source)),
        }
    }

    /// The value that a record of another version is.
    #[cold]
    fn upgraded<'a>(
        &self,
        record: &RecordRef<'a>,
        version: u32,
        path: &Arc<Path>,
    ) -> Result<Value<'a, T, C>> {
        #[cfg(braidlog_sabotage)]
        let version = match self.schema.upgrades.keys().next() {
            Some(&oldest) if braidlog_sabotage::is("upgrade_of_another_version") => oldest,
            _ => version,
        };
        let Some(upgrade) = self.schema.upgrades.get(&version) else {
            return Err(Error::unknown_schema(path, record.lsn, version, self.schema.version));
        };
        match upgrade(record.payload) {
            Ok(value) => Ok(Value::Upgraded(Box::new(value))),
            Err(source) => Err(Error::codec(path, Some(record.lsn), source)),
        }
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
    shared: &'t Shared<T, C>,
    records: Records,
    scratch: C::Scratch,
}

impl<T, C: Codec<T>> TypedRecords<'_, T, C> {
    /// The next record and the value that it is, lent until the next call; `None` at the end. One that is no value is an
    /// error, and the next call goes on behind it.
    ///
    /// # Errors
    /// As [`Records::next_ref`], which end it, and as [`TypedLog::decode`].
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<TypedRecord<'_, T, C>>> {
        let TypedRecords { shared, records, scratch } = self;
        let next = records.next_beside_path();
        // The record is looked at where it was put: a copy of it would take as long as the rest.
        match next {
            Some(Ok((path, ref record))) => match shared.value(record, scratch, path) {
                Ok(value) => Some(Ok(TypedRecord { record: *record, value })),
                Err(error) => Some(Err(error)),
            },
            Some(Err(error)) => Some(Err(error)),
            None => None,
        }
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
