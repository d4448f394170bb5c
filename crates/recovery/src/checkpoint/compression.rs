//! Chunks made smaller, if the cargo feature `zstd` is there.
//!
//! The rule: nothing is allocated by a length that a file claims before the claim is known to be at most a chunk's, and
//! what comes out must have exactly that length.

use braidlog_format::{CHECKPOINT_CHUNK_MAX, ZSTD};

/// Whether this build can make chunks smaller, and read such chunks.
pub(crate) const IS_SUPPORTED: bool = cfg!(feature = "zstd");

/// Why a compressed chunk cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// This build does not know the algorithm.
    Unsupported,
    /// The bytes are no such chunk.
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

/// The chunk of `plain_len` bytes that `packed` is.
pub(crate) fn decompress(algorithm: u8, plain_len: u32, packed: &[u8]) -> Result<Vec<u8>, Refusal> {
    if algorithm != ZSTD {
        return Err(Refusal::Unsupported);
    }
    let len = usize::try_from(plain_len).unwrap_or(usize::MAX);
    if len == 0 || len > CHECKPOINT_CHUNK_MAX {
        return Err(Refusal::Invalid);
    }
    unpack(packed, len)
}

#[cfg(feature = "zstd")]
fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>, Refusal> {
    let plain = zstd::bulk::decompress(packed, len).map_err(|_| Refusal::Invalid)?;
    if plain.len() == len { Ok(plain) } else { Err(Refusal::Invalid) }
}

#[cfg(not(feature = "zstd"))]
fn unpack(_packed: &[u8], _len: usize) -> Result<Vec<u8>, Refusal> {
    Err(Refusal::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_that_is_not_known_is_told_from_bytes_that_are_wrong() {
        assert_eq!(decompress(2, 10, b"whatever"), Err(Refusal::Unsupported));
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
}
