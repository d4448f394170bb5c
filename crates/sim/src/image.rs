//! The bytes of a file at one moment, in shared pages.
//!
//! The rule: a byte that was never written is zero, and so is every byte behind the end, so that a file
//! that is cut and grows again reads as zeros. Pages are shared between images until one is written,
//! and so is the map of them: a copy costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that a file system writes at once.
pub(crate) const PAGE: usize = 4096;
/// Bytes that a device writes at once.
pub(crate) const SECTOR: usize = 512;

pub(crate) type Page = [u8; PAGE];

#[derive(Clone, Default)]
pub(crate) struct Image {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
}

/// The pages that bytes `offset..offset + len` touch.
pub(crate) fn pages_of(offset: u64, len: u64) -> std::ops::Range<u64> {
    offset / PAGE as u64..(offset + len).div_ceil(PAGE as u64)
}

impl Image {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Image {
        let mut image = Image::default();
        image.write(0, bytes);
        image
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn pages(&self) -> &BTreeMap<u64, Arc<Page>> {
        &self.pages
    }

    /// A page; zeros if it was never written.
    pub(crate) fn page(&self, index: u64) -> Arc<Page> {
        self.pages.get(&index).cloned().unwrap_or_else(|| Arc::new([0; PAGE]))
    }

    /// Puts a page in place, without a change of length: `cut` has to follow if it may reach behind the end.
    pub(crate) fn set_page(&mut self, index: u64, page: Arc<Page>) {
        Arc::make_mut(&mut self.pages).insert(index, page);
    }

    /// Writes, and extends the file if the bytes reach behind its end.
    pub(crate) fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut at = offset;
        let pages = Arc::make_mut(&mut self.pages);
        while !data.is_empty() {
            let start = (at % PAGE as u64) as usize;
            let count = data.len().min(PAGE - start);
            let page = pages.entry(at / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[start..start + count].copy_from_slice(&data[..count]);
            data = &data[count..];
            at += count as u64;
        }
        self.len = self.len.max(at);
    }

    /// Reads up to the end of the file; how many bytes.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let start = (at % PAGE as u64) as usize;
            let part = &mut buf[done..count.min(done + PAGE - start)];
            match self.pages.get(&(at / PAGE as u64)) {
                Some(page) => part.copy_from_slice(&page[start..start + part.len()]),
                None => part.fill(0),
            }
            done += part.len();
        }
        count
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Adds length and bytes to a hash; a page of zeros counts as one that was never written.
    pub(crate) fn hash(&self, hash: &mut Hash) {
        hash.add(&self.len.to_le_bytes());
        for (index, page) in self.pages.iter() {
            if **page != [0; PAGE] {
                hash.add(&index.to_le_bytes());
                hash.add(&**page);
            }
        }
    }

    /// Extends with zeros to at least `len`.
    pub(crate) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Cuts to `len` if the file is longer, and makes zeros of whatever stands behind the end.
    pub(crate) fn cut(&mut self, len: u64) {
        let len = len.min(self.len);
        self.len = len;
        let (last, kept) = (len / PAGE as u64, (len % PAGE as u64) as usize);
        // Nothing to do is done without a copy of the map.
        if self.pages.range(last..).next().is_none() {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        pages.split_off(&len.div_ceil(PAGE as u64));
        if kept > 0
            && let Some(page) = pages.get_mut(&last)
        {
            Arc::make_mut(page)[kept..].fill(0);
        }
    }
}

/// A running hash of pieces of bytes, each with its length: quick, and no secret.
#[derive(Default)]
pub(crate) struct Hash(pub(crate) u64);

impl Hash {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for &byte in rest {
            self.mix(u64::from(byte));
        }
    }

    /// Folds the product with an odd constant (that of the golden ratio), so that every bit reaches every other.
    fn mix(&mut self, word: u64) {
        let product =
            u128::from(self.0.rotate_left(23) ^ word ^ 0x5851_F42D_4C95_7F2D) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_reads_as_a_plain_vector_would() {
        let mut rng = crate::Rng::new(1);
        let (mut image, mut model) = (Image::default(), Vec::<u8>::new());
        for _ in 0..2000 {
            let offset = rng.index(20_000);
            match rng.below(4) {
                0 => {
                    image.cut(offset as u64);
                    model.truncate(offset);
                }
                1 => {
                    image.grow(offset as u64);
                    model.resize(model.len().max(offset), 0);
                }
                _ => {
                    let mut data = vec![0; rng.index(9000)];
                    rng.fill(&mut data);
                    image.write(offset as u64, &data);
                    if !data.is_empty() {
                        model.resize(model.len().max(offset + data.len()), 0);
                        model[offset..offset + data.len()].copy_from_slice(&data);
                    } else {
                        model.resize(model.len().max(offset), 0);
                    }
                }
            }
            assert!(image.to_vec() == model);
        }
    }
}
