//! One append, as it is asked for: the payload and whatever differs from the log's defaults.

use braidlog_engine::Durability;

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
    pub(crate) payload: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) durability: Option<Durability>,
}

impl<'a> Append<'a> {
    /// A record of kind 0 with the durability of the log's mode. The payload may be empty.
    pub fn new<P: AsRef<[u8]> + ?Sized>(payload: &'a P) -> Append<'a> {
        Append { payload: payload.as_ref(), kind: 0, durability: None }
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
}
