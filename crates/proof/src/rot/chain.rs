//! The model's view of the directory: which file is which segment, where each ends, what is wrong with headers and
//! links, and which bytes of each are those that were written.

use braidlog::ErrorKind;
use braidlog_format::{Lsn, MAGIC, SegmentName};

use super::damage::Files;
use super::log::{Log, Segment, name_of};
use super::model::Place;
use super::pen::Role;

/// Something wrong with headers or links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Damage(Place),
    /// The file is called newer or foreign, and nothing behind it is looked at.
    Other(ErrorKind, String),
}

/// Where a segment ends, as far as the others know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It is the last one.
    Open,
    /// The next header says so.
    Named { last: u64, sealed: bool },
    /// The name of the next file, whose header is wrong, says so.
    Before { last: u64 },
    /// Nobody does.
    Unknown,
}

/// A file whose header is right and belongs to its name.
pub(super) struct Link<'a> {
    pub(super) name: String,
    pub(super) segment: &'a Segment,
    pub(super) bytes: &'a [u8],
    pub(super) end: End,
}

/// The segments of the directory.
pub(super) struct Chain<'a> {
    pub(super) links: Vec<Link<'a>>,
    /// In the order in which they are met.
    pub(super) faults: Vec<Fault>,
    /// The base of a last file that never began.
    pub(super) absent: Option<u64>,
}

/// What the first block of a file is.
enum Header<'a> {
    Of(&'a Segment),
    /// Of an earlier life of some file.
    OfAnother,
    NotStarted,
    Wrong,
    Newer,
    Foreign,
}

fn header_of<'a>(log: &'a Log, bytes: &[u8]) -> Header<'a> {
    let Some(block) = bytes.get(..4096) else {
        let begins = bytes.len() < MAGIC.len() || bytes.starts_with(&MAGIC);
        let is_zero = bytes.iter().all(|&byte| byte == 0);
        return if begins || is_zero { Header::NotStarted } else { Header::Foreign };
    };
    for segment in &log.segments {
        match differing_bits(block, &segment.bytes[..4096], 2) {
            0 => return Header::Of(segment),
            // However it looks: one flipped bit is damage.
            1 => return Header::Wrong,
            _ => {}
        }
        if block == &segment.before[..4096] && block.starts_with(&MAGIC) {
            return Header::OfAnother;
        }
    }
    if bytes.iter().all(|&byte| byte == 0) {
        Header::NotStarted
    } else if block.starts_with(&[0; 4]) {
        Header::Wrong
    } else if !block.starts_with(&MAGIC) {
        Header::Foreign
    } else if block[4] > 1 {
        Header::Newer
    } else {
        Header::Wrong
    }
}

/// How many bits differ, counted up to `most`.
fn differing_bits(one: &[u8], two: &[u8], most: u32) -> u32 {
    if one == two {
        return 0;
    }
    let mut bits = 0;
    for (one, two) in one.iter().zip(two) {
        bits += (one ^ two).count_ones();
        if bits >= most {
            break;
        }
    }
    bits
}

/// The chain of these files.
pub(super) fn chain_of<'a>(log: &'a Log, files: &'a Files) -> Chain<'a> {
    let mut chain = Chain { links: Vec::new(), faults: Vec::new(), absent: None };
    let named = files.iter().filter_map(|(name, bytes)| Some((SegmentName::parse(name)?.0.0, bytes)));
    let named: Vec<(u64, &Vec<u8>)> = named.collect();
    for (index, &(base, bytes)) in named.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| named[before].0);
        let next = named.get(index + 1).map(|(base, _)| *base);
        let found = header_of(log, bytes);
        match found {
            Header::Of(segment) if segment.base == base => {
                link(&mut chain, before, segment);
                let (name, end) = (segment.name.clone(), End::Open);
                chain.links.push(Link { name, segment, bytes, end });
            }
            Header::NotStarted if next.is_none() => chain.absent = Some(base),
            Header::Foreign => {
                chain.faults.push(Fault::Other(ErrorKind::Foreign, name_of(base)));
                return chain;
            }
            Header::Newer => {
                chain.faults.push(Fault::Other(ErrorKind::Newer, name_of(base)));
                return chain;
            }
            Header::Of(_) | Header::OfAnother | Header::NotStarted | Header::Wrong => {
                let last = next.map_or(Lsn::MAX.0, |next| next.saturating_sub(1));
                chain.faults.push(Fault::Damage(Place::new(&name_of(base), 0, base, last)));
                if before.is_none() && base != 1 {
                    chain.faults.push(missing(1, base));
                }
                if let Some(link) = chain.links.last_mut().filter(|link| Some(link.segment.base) == before) {
                    link.end = End::Before { last: base.saturating_sub(1) };
                }
            }
        }
    }
    chain
}

/// Links `segment` to what stands before it, the file with the base `before`.
fn link(chain: &mut Chain<'_>, before: Option<u64>, segment: &Segment) {
    let Some(before) = before else {
        if segment.base != 1 {
            chain.faults.push(missing(1, segment.base));
        }
        return;
    };
    let end = match segment.predecessor {
        Some(named) if named == before => {
            End::Named { last: segment.base - 1, sealed: segment.follows_sealed }
        }
        Some(named) if named > before => {
            chain.faults.push(missing(named, segment.base));
            End::Unknown
        }
        _ => {
            let place = Place::new(&segment.name, 0, segment.base, segment.base - 1);
            chain.faults.push(Fault::Damage(place));
            End::Unknown
        }
    };
    if let Some(link) = chain.links.last_mut().filter(|link| link.segment.base == before) {
        link.end = end;
    }
}

fn missing(first: u64, next: u64) -> Fault {
    Fault::Damage(Place::new(&name_of(first), 0, first, next.saturating_sub(1)))
}

impl Link<'_> {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn is_written(&self, range: std::ops::Range<u64>) -> bool {
        let range = range.start as usize..range.end as usize;
        self.bytes.get(range.clone()) == self.segment.bytes.get(range)
    }

    /// Whether the entry with this index stands there as it was written.
    pub(super) fn is_right(&self, index: usize) -> bool {
        self.is_written(self.segment.spans[index].bytes.clone())
    }

    /// Whether its header does, and the file holds the rest of it, whatever it is.
    pub(super) fn is_header_right(&self, index: usize) -> bool {
        let span = &self.segment.spans[index];
        self.is_written(span.header()) && span.bytes.end <= self.len()
    }

    /// The first wrong entry from `index` on.
    pub(super) fn next_wrong(&self, index: usize) -> usize {
        let count = self.segment.spans.len();
        (index..count).find(|&index| !self.is_right(index)).unwrap_or(count)
    }

    /// The first entry behind the wrong one with this index that has a right header and an LSN that the segment can have.
    pub(super) fn next_header(&self, index: usize, last: u64) -> Option<usize> {
        let spans = &self.segment.spans;
        (index + 1..spans.len()).find(|&behind| spans[behind].lsn <= last + 1 && self.is_header_right(behind))
    }

    /// The first right mark or seal behind the wrong entry with this index.
    pub(super) fn next_evidence(&self, index: usize) -> Option<usize> {
        (index + 1..self.segment.spans.len()).find(|&behind| {
            matches!(self.segment.spans[behind].role, Role::Mark { .. } | Role::Seal) && self.is_right(behind)
        })
    }

    /// The last LSN that a right mark or seal behind says was durable, among those that say that the entry with
    /// this index was synced.
    pub(super) fn vouched(&self, index: usize) -> Option<u64> {
        let offset = self.segment.spans[index].bytes.start;
        let behind = (index + 1..self.segment.spans.len()).filter(|&behind| self.is_right(behind));
        let durable = behind.filter_map(|behind| match self.segment.spans[behind].role {
            Role::Mark { durable, synced } => (synced > offset).then_some(durable),
            Role::Seal => Some(self.segment.last),
            _ => None,
        });
        durable.max()
    }

    /// Whether the file ends with the seal that was written there.
    pub(super) fn ends_with_its_seal(&self) -> bool {
        let index = self.segment.spans.len() - 1;
        self.segment.seal().is_some_and(|seal| seal.bytes.end == self.len()) && self.is_right(index)
    }

    /// Whether what stands at `offset` has the header of a seal, or the last bytes of the file say that one
    /// starts there.
    pub(super) fn was_meant_as_seal(&self, offset: u64) -> bool {
        let seal = self.segment.seal().filter(|seal| seal.bytes.start == offset);
        let by_header = seal.is_some_and(|seal| self.is_written(seal.header()));
        let trailer = self.bytes.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let by_trailer = trailer > 0
            && self.len().is_multiple_of(4096)
            && offset.is_multiple_of(4096)
            && offset + 32 + u64::from(trailer) == self.len();
        by_header || by_trailer
    }

    /// How many bits of the entry with this index differ; `None` if the file does not hold all of it.
    pub(super) fn flipped_bits(&self, index: usize) -> Option<u32> {
        let span = self.segment.spans.get(index)?;
        let range = span.bytes.start as usize..span.bytes.end as usize;
        Some(differing_bits(self.bytes.get(range.clone())?, &self.segment.bytes[range], u32::MAX))
    }

    /// Whether a write of this entry that a crash interrupted may have left it so: each sector as written, or as it
    /// was before, or torn between the two at any byte, or not there.
    pub(super) fn may_be_unfinished(&self, index: usize) -> bool {
        let Some(span) = self.segment.spans.get(index) else { return true };
        let whole = span.bytes.start as usize..(span.bytes.end as usize).min(self.bytes.len());
        whole.step_by(512).all(|start| {
            let sector = start..(start + 512).min(self.bytes.len());
            let found = &self.bytes[sector.clone()];
            let (new, old) = (&self.segment.bytes[sector.clone()], &self.segment.before[sector]);
            let is_torn = |first: &[u8], then: &[u8]| {
                let seam = found.iter().zip(first).take_while(|(found, first)| found == first).count();
                found[seam..] == then[seam..found.len()]
            };
            is_torn(new, old) || is_torn(old, new)
        })
    }
}
