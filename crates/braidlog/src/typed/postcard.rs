//! Values of `serde`, in the compact form of `postcard`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{BoxError, Codec};

/// The codec of any type of [serde](https://serde.rs), in the bytes of [postcard](https://docs.rs/postcard) 1.
///
/// ```
/// use braidlog::{Postcard, TypedWal, Value, Wal};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum Event { Paid { order: u64 }, Shipped(u64) }
///
/// # let dir = tempfile::tempdir()?;
/// let wal = TypedWal::new(Wal::options().open(dir.path())?, Postcard);
/// wal.append(&Event::Paid { order: 7 })?;
/// let mut records = wal.replay()?;
/// while let Some(record) = records.next_ref() {
///     if let Value::Current(event) = record?.value {
///         assert!(matches!(event, Event::Paid { order: 7 }));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Postcard;

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    type View<'a>
        = T
    where
        T: 'a;
    type Scratch = Vec<u8>;

    fn encode<'a>(&self, value: &T, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        let mut memory = std::mem::take(scratch);
        memory.clear();
        *scratch = postcard::to_extend(value, memory)?;
        Ok(scratch)
    }

    fn decode<'a>(&self, payload: &'a [u8], _: &'a mut Vec<u8>) -> Result<T, BoxError> {
        let (value, rest) = postcard::take_from_bytes(payload)?;
        if !rest.is_empty() {
            return Err(format!("{} bytes stand behind the value", rest.len()).into());
        }
        Ok(value)
    }
}
