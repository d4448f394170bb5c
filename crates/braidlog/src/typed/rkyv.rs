//! Values of `rkyv`: a payload is looked at where it lies, after it has been validated, and nothing is deserialised.

use std::any::TypeId;

use rkyv::api::high::{HighSerializer, to_bytes_in};
use rkyv::bytecheck::CheckBytes;
use rkyv::de::{ErasedPtr, Metadata};
use rkyv::rancor::{self, Strategy};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::{SharedContext, SharedValidator, ValidationState};
use rkyv::{Archive, Serialize};

use crate::{BoxError, Codec};

/// The codec of [rkyv](https://rkyv.org) 0.8: a value is read as `&T::Archived`, validated and not deserialised.
///
/// Numbers in payloads are little-endian and relative pointers have 32 bits: this crate's feature sets rkyv's
/// `little_endian` and `pointer_width_32`.
///
/// ```
/// use braidlog::{Rkyv, TypedWal, Value, Wal};
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize)]
/// struct Paid { order: u64, cents: u64, by: String }
///
/// # let dir = tempfile::tempdir()?;
/// let wal = TypedWal::new(Wal::options().open(dir.path())?, Rkyv);
/// wal.append(&Paid { order: 7, cents: 995, by: "alice".into() })?;
/// let mut records = wal.replay()?;
/// while let Some(record) = records.next_ref() {
///     if let Value::Current(paid) = record?.value {
///         assert_eq!((paid.order.to_native(), paid.by.as_str()), (7, "alice"));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rkyv;

impl<T> Codec<T> for Rkyv
where
    T: Archive + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
    T::Archived: for<'a> CheckBytes<RkyvValidator<'a>>,
{
    type View<'a>
        = &'a T::Archived
    where
        T: 'a;
    type Scratch = AlignedVec;

    fn encode<'a>(&self, value: &T, scratch: &'a mut AlignedVec) -> Result<&'a [u8], BoxError> {
        let mut memory = std::mem::take(scratch);
        memory.clear();
        *scratch = to_bytes_in::<_, rancor::Error>(value, memory)?;
        Ok(scratch)
    }

    #[inline]
    fn decode<'a>(
        &self,
        payload: &'a [u8],
        scratch: &'a mut AlignedVec,
    ) -> Result<&'a T::Archived, BoxError> {
        let aligned = if payload.as_ptr().addr().is_multiple_of(align_of::<T::Archived>()) {
            payload
        } else {
            scratch.clear();
            scratch.extend_from_slice(payload);
            scratch
        };
        let mut validator = Validator::new(ArchiveValidator::new(aligned), SharedPointers::default());
        match rkyv::api::access_with_context::<T::Archived, _, rancor::Error>(aligned, &mut validator) {
            Ok(archived) => Ok(archived),
            Err(error) => Err(error.into()),
        }
    }
}

/// What [`Rkyv`] validates archives with: all that rkyv's own high-level validator proves.
pub type RkyvValidator<'a> = Strategy<Validator<ArchiveValidator<'a>, SharedPointers>, rancor::Error>;

/// The shared pointers that were met, of which most types have none: there is no map before the first.
#[derive(Debug, Default)]
pub struct SharedPointers(Option<Box<SharedValidator>>);

impl<E> SharedContext<E> for SharedPointers
where
    SharedValidator: SharedContext<E>,
{
    fn start_shared(
        &mut self,
        shared_type_id: TypeId,
        ptr: ErasedPtr,
        metadata_is_eq: unsafe fn(Metadata, Metadata) -> bool,
    ) -> Result<ValidationState, E> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("shared_pointers_not_compared") {
            self.0 = None;
        }
        self.0.get_or_insert_default().start_shared(shared_type_id, ptr, metadata_is_eq)
    }

    fn finish_shared(&mut self, shared_type_id: TypeId, ptr: ErasedPtr) -> Result<(), E> {
        self.0.get_or_insert_default().finish_shared(shared_type_id, ptr)
    }
}
