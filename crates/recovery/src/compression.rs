//! Bytes made smaller, if the cargo feature `zstd` is there: chunks of checkpoints and frames of segments.
//!
//! The rule: nothing is allocated by a length that a file claims before the claim is known to be at most a chunk's, and
//! what comes out must have exactly that length.

use braidlog_format::{CHECKPOINT_CHUNK_MAX, ZSTD};
#[cfg(feature = "zstd")]
use zstd::zstd_safe::CParameter;

/// Whether this build can make bytes smaller, and read such bytes.
pub(crate) const IS_SUPPORTED: bool = cfg!(feature = "zstd");

/// Why compressed bytes cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// This build does not know the algorithm.
    Unsupported,
    /// The bytes are not what was compressed.
    Invalid,
}

/// The bytes of a chunk when compressed, if that makes it smaller by more than `overhead`.
#[cfg(feature = "zstd")]
pub(crate) fn compress(plain: &[u8], overhead: usize) -> std::io::Result<Option<Vec<u8>>> {
    let packed = zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    Ok((packed.len() + overhead < plain.len()).then_some(packed))
}

#[cfg(not(feature = "zstd"))]
pub(crate) fn compress(_plain: &[u8], _overhead: usize) -> std::io::Result<Option<Vec<u8>>> {
    Ok(None)
}

/// Up to this level no match of less than 6 bytes is looked for. In a segment such ones are mostly digits that are alike
/// by chance: they make it no smaller, and each takes its time when it is unpacked (5 to 15 % in all, of lines of text).
#[cfg(feature = "zstd")]
const LONG_MATCHES_UP_TO: i32 = 12;

/// Makes one piece after another smaller.
#[cfg(feature = "zstd")]
pub(crate) struct Packer(zstd::bulk::Compressor<'static>);

#[cfg(feature = "zstd")]
impl Packer {
    /// At a level of zstd's: higher is smaller and slower.
    pub(crate) fn new(level: i32) -> std::io::Result<Packer> {
        let mut packer = zstd::bulk::Compressor::new(level)?;
        if level <= LONG_MATCHES_UP_TO {
            packer.set_parameter(CParameter::MinMatch(6))?;
        }
        Ok(Packer(packer))
    }

    pub(crate) fn pack(&mut self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.compress(plain)
    }
}

/// There is none in a build without the cargo feature `zstd`.
#[cfg(not(feature = "zstd"))]
pub(crate) struct Packer;

#[cfg(not(feature = "zstd"))]
impl Packer {
    pub(crate) fn new(_level: i32) -> std::io::Result<Packer> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn pack(&mut self, _plain: &[u8]) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

/// The chunk of `plain_len` bytes that `packed` is.
pub(crate) fn decompress(algorithm: u8, plain_len: u32, packed: &[u8]) -> Result<Vec<u8>, Refusal> {
    if algorithm != ZSTD {
        return Err(Refusal::Unsupported);
    }
    let len = usize::try_from(plain_len).unwrap_or(usize::MAX);
    if len == 0 || len > CHECKPOINT_CHUNK_MAX {
        return Err(Refusal::Invalid);
    }
    let mut plain = vec![0; len];
    unpack(packed, &mut plain)?;
    Ok(plain)
}

/// Fills `out` with what `packed` is, which must be as long.
pub(crate) fn decompress_into(algorithm: u8, packed: &[u8], out: &mut [u8]) -> Result<(), Refusal> {
    if algorithm == ZSTD { unpack(packed, out) } else { Err(Refusal::Unsupported) }
}

#[cfg(feature = "zstd")]
fn unpack(packed: &[u8], out: &mut [u8]) -> Result<(), Refusal> {
    use std::cell::RefCell;

    use zstd::bulk::Decompressor;

    thread_local! {
        /// Its tables are some hundred KiB, which are not made anew for each piece.
        static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let len = UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(Decompressor::new()?),
        };
        unpacker.decompress_to_buffer(packed, out)
    });
    if len.is_ok_and(|len| len == out.len()) { Ok(()) } else { Err(Refusal::Invalid) }
}

#[cfg(not(feature = "zstd"))]
fn unpack(_packed: &[u8], _out: &mut [u8]) -> Result<(), Refusal> {
    Err(Refusal::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_that_is_not_known_is_told_from_bytes_that_are_wrong() {
        assert_eq!(decompress(2, 10, b"whatever"), Err(Refusal::Unsupported));
        assert_eq!(decompress_into(2, b"whatever", &mut [0; 10]), Err(Refusal::Unsupported));
        assert_eq!(decompress(ZSTD, CHECKPOINT_CHUNK_MAX as u32 + 1, b""), Err(Refusal::Invalid));
        assert_eq!(decompress(ZSTD, 0, b""), Err(Refusal::Invalid));
        let refusal = if IS_SUPPORTED { Refusal::Invalid } else { Refusal::Unsupported };
        assert_eq!(decompress(ZSTD, 10, b"no frame of zstd"), Err(refusal));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_chunk_comes_back_and_only_with_its_own_length() {
        let plain = b"over and over and over ".repeat(1000);
        let packed = compress(&plain, 9).unwrap().expect("it repeats itself");
        assert!(packed.len() < plain.len() / 10);
        let len = plain.len() as u32;
        assert_eq!(decompress(ZSTD, len, &packed), Ok(plain));
        for wrong in [len - 1, len + 1] {
            assert_eq!(decompress(ZSTD, wrong, &packed), Err(Refusal::Invalid), "{wrong}");
        }
        assert_eq!(compress(b"short", 9).unwrap(), None, "it would not get smaller");
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn pieces_are_packed_one_after_another() {
        let mut packer = Packer::new(3).unwrap();
        for byte in 0..3 {
            let plain = [byte; 5000];
            let packed = packer.pack(&plain).unwrap();
            let mut out = [9; 5000];
            assert_eq!(decompress_into(ZSTD, &packed, &mut out), Ok(()));
            assert_eq!(out, plain);
        }
        for level in 1..=19 {
            let plain = b"at every level ".repeat(100);
            let packed = Packer::new(level).and_then(|mut packer| packer.pack(&plain)).unwrap();
            let mut out = vec![0; plain.len()];
            assert_eq!(decompress_into(ZSTD, &packed, &mut out), Ok(()), "{level}");
            assert_eq!(out, plain);
        }
    }
}
