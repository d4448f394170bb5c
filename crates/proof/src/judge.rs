//! Opens images of crashes, as the next process would, and holds what they show against the model.
//!
//! Each image is read without being changed, recovered with a mix of options of its own, struck by another
//! power cut at once, and now and then written on: a reader shows what recovery keeps, and changes nothing;
//! what was recovered is durable (I9) and recovered again as it was (I8); the log goes on right behind it
//! (I7); nothing is called damage (I12). From some images recovery itself is struck, at each of its storage
//! operations, and the recovery of that again. In some, damage is done to a record for which the log itself
//! vouches by what it wrote later: that is never taken for a torn tail (I11).
//!
//! The rule: what an image shows is a function of its bytes, so images of the same bytes are opened once and
//! held against the model each time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use braidlog::{Append, Durability, ErrorKind, Incarnation, Lsn, Options, Records, Wal};
use braidlog_format::SegmentName;
use braidlog_sim::{Op, Profile, Rng, STAMP_LEN, SimDisk, Stamp};

use crate::counts::Counts;
use crate::history::History;
use crate::mix::{PATH, mixed, plain};
use crate::model::{FoundLife, Model, Seen, kind_of};
use crate::observed::{Observed, Observer, Side};

/// Images whose bytes are remembered.
const MEMO_MAX: usize = 4096;
/// Of so many different images one is written on, one has every byte verified, and from one recovery is struck.
const APPENDED: u64 = 5;
const VERIFIED: u64 = 5;
const STRUCK: u64 = 60;
/// In one of so many images a record is damaged.
const DAMAGED: u64 = 20;
/// Of so many images that strikes at recovery leave, from one recovery is struck again.
const STRUCK_AGAIN: u64 = 40;

/// Bytes of the header in front of a payload.
const HEADER_LEN: u64 = braidlog_format::ENTRY_HEADER_LEN;

/// What an image showed.
#[derive(Debug)]
pub struct Found {
    /// Its records from LSN 1 on, of checkpoints and of the log.
    pub records: Vec<Seen>,
    /// The incarnation that opening it for writing began.
    pub incarnation: Incarnation,
    /// What it said of its life.
    pub life: FoundLife,
}

/// Judges images, and counts them.
#[derive(Default, Debug)]
pub struct Judge {
    memo: HashMap<(u64, bool), Arc<Found>>,
    /// Fingerprints of images from which recovery was struck.
    struck: HashSet<u64>,
    counts: Counts,
}

impl Judge {
    /// What was judged so far, and begins to count anew.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Adds to the counts.
    pub fn count(&mut self, name: &'static str, n: u64) {
        self.counts.add(name, n);
    }

    /// Judges an image of a crash with this profile. The seed decides about all that is done with it.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn image(&mut self, image: &SimDisk, profile: Profile, model: &Model, seed: u64) {
        self.image_with(image, profile, model, seed, STRUCK);
    }

    /// As [`Judge::image`], and recovery is struck at each of its operations from one in `struck` images.
    pub fn image_with(&mut self, image: &SimDisk, profile: Profile, model: &Model, seed: u64, struck: u64) {
        self.counts.add("images", 1);
        let mut rng = Rng::new(seed);
        let (found, fingerprint, is_new) = self.found(image, profile, &mut rng);
        model.check(&found.records, found.incarnation);
        model.check_life(&found.life);
        if rng.one_in(DAMAGED) {
            self.damage(image, model, found.life.first, &mut rng);
        }
        // "From each" means also from those that were seen before in another role.
        if (is_new || struck == 1) && rng.one_in(struck) && self.struck.insert(fingerprint) {
            self.strike_recovery(image, profile, &found, model, &mut rng, true);
        }
    }

    /// Flips a bit of a record, or of its header, for which something durable behind it vouches. What the log wrote to
    /// that end is put to the test here: rot is tried on logs that the harness itself has written.
    fn damage(&mut self, image: &SimDisk, model: &Model, first: Lsn, rng: &mut Rng) {
        if model.vouched() == Lsn::ZERO {
            return;
        }
        // The last ones are those which a mark that tells too little would lose.
        let behind = if rng.one_in(2) { rng.below(3) } else { rng.below(model.vouched().0) };
        let lsn = Lsn(model.vouched().0.saturating_sub(behind).max(1));
        // What the log has given up is no part of it any more.
        let Some(payload) = model.payload(lsn).filter(|_| lsn >= first) else { return };
        let copy = image.crash_clone(0, Profile::Kept);
        let (path, at) = place_of(&copy, lsn, &payload);
        let offset = at - HEADER_LEN + rng.below(HEADER_LEN + payload.len() as u64);
        copy.flip_bit(&path, offset, rng.below(8) as u32);
        let told = match on(plain(), &copy).open_read_only(PATH).and_then(|reader| reader.iter(..)) {
            Err(error) => Some(error),
            Ok(mut records) => std::iter::from_fn(|| records.next()).find_map(Result::err),
        };
        let Some(error) = told else { panic!("I11: damage to {lsn} in {path} at {offset} is not told") };
        assert_eq!(error.kind(), ErrorKind::Damaged, "I11: damage to {lsn} in {path} at {offset}: {error}");
        let is_told = error.lsns().is_some_and(|lsns| lsns.first <= lsn && lsn <= lsns.last);
        assert!(is_told, "I11: damage to {lsn} in {path} at {offset} is told as {error}");
        self.counts.add("damaged records told", 1);
    }

    /// What an image shows; its fingerprint, and whether no other image of the same bytes was opened before.
    fn found(&mut self, image: &SimDisk, profile: Profile, rng: &mut Rng) -> (Arc<Found>, u64, bool) {
        let fingerprint = image.fingerprint();
        // What a killed process leaves is not safe from a power cut, which follows.
        let key = (fingerprint, profile == Profile::Kept);
        if let Some(found) = self.memo.get(&key) {
            return (found.clone(), fingerprint, false);
        }
        self.counts.add("different images", 1);
        // Opening changes an image, and its bytes are needed for what follows.
        let copy = image.crash_clone(0, Profile::Kept);
        let found = Arc::new(self.examine(&copy, profile, fingerprint, rng));
        if self.memo.len() >= MEMO_MAX {
            self.memo.clear();
        }
        self.memo.insert(key, found.clone());
        (found, fingerprint, true)
    }

    fn examine(&mut self, disk: &SimDisk, profile: Profile, fingerprint: u64, rng: &mut Rng) -> Found {
        if rng.one_in(VERIFIED) {
            let report = on(plain(), disk).verify(PATH, |_| ()).unwrap_or_else(|error| panic!("{error}"));
            assert!(report.is_clean(), "I12: {:?}", report.problems);
        }
        let shown = read_only(disk);
        // A reader may drop from the cache what a failed sync has lost; it changes nothing on the device.
        let is_same = disk.fingerprint() == fingerprint || profile == Profile::Kept;
        assert!(is_same, "I8: a reader changes nothing");
        let wal = open(mixed(rng), disk);
        let records = history(&wal);
        let last = Lsn(records.len() as u64);
        let life = FoundLife::of(&wal);
        let kept = &records[(life.first.0 as usize - 1).min(records.len())..];
        assert_eq!(kept, shown, "I8: recovery keeps what a reader shows");
        assert_eq!((wal.last_lsn(), wal.durable_lsn()), (last, last), "I9: what was recovered is durable");
        let incarnation = wal.incarnation();
        let again = disk.crash_clone(rng.next_u64(), any_power_cut(rng));
        assert_eq!(read_only(&again), kept, "I9: recovered, and lost by a power cut right after");
        if rng.one_in(APPENDED) {
            self.go_on(disk, wal, &records, rng);
        }
        Found { records, incarnation, life }
    }

    /// The log goes on right behind what was recovered, and over another crash.
    fn go_on(&mut self, disk: &SimDisk, wal: Wal, records: &[Seen], rng: &mut Rng) {
        disk.set_capacity(None);
        if rng.one_in(4) {
            wal.maintain().unwrap_or_else(|error| panic!("I13: {error}"));
        }
        let stamp = Stamp::single(u32::MAX, 0);
        let payload = stamp.payload(STAMP_LEN + rng.index(100));
        let append = Append::new(&payload).kind(kind_of(stamp)).durability(Durability::Synchronous);
        let lsn = wal.append_with(append).unwrap_or_else(|error| panic!("I13: {error}"));
        assert_eq!(lsn.0, records.len() as u64 + 1, "I7: the next LSN");
        let incarnation = wal.incarnation();
        let after = if rng.one_in(2) {
            wal.close().unwrap_or_else(|error| panic!("I13: {error}"));
            disk.clone()
        } else {
            disk.crash_clone(rng.next_u64(), any_power_cut(rng))
        };
        drop(wal);
        let wal = open(mixed(rng), &after);
        let more = history(&wal);
        assert_eq!(more.len() as u64, lsn.0, "I1: the record behind what was recovered");
        assert_eq!(more[..records.len()], *records, "I1: what was recovered before");
        assert_eq!(more[records.len()].stamp, stamp, "I1: the record behind what was recovered");
        assert!(wal.incarnation() > incarnation, "I7: the incarnation rises");
        self.counts.add("logs gone on with", 1);
    }

    /// Strikes recovery of an image at each of its storage operations: what recovers from that is the same.
    fn strike_recovery(
        &mut self,
        image: &SimDisk,
        profile: Profile,
        found: &Found,
        model: &Model,
        rng: &mut Rng,
        is_first: bool,
    ) {
        for strike in struck(image, rng) {
            self.counts.add("images", 1);
            self.counts.add("images of a struck recovery", 1);
            let (again, ..) = self.found(&strike, Profile::Posix, rng);
            model.check(&again.records, again.incarnation);
            model.check_life(&again.life);
            // What a killed process left is safe from a power cut only once recovery has made it so.
            if profile != Profile::Kept {
                assert_eq!(again.records, found.records, "I8: a struck recovery comes to the same");
            }
            if is_first && rng.one_in(STRUCK_AGAIN) {
                self.strike_recovery(&strike, profile, found, model, rng, false);
            }
        }
    }
}

/// The file that holds this record, and where its payload stands in it.
fn place_of(disk: &SimDisk, lsn: Lsn, payload: &[u8]) -> (String, u64) {
    let names = disk.list_raw(PATH).into_iter().map(|(name, _)| name);
    let bases = names.filter_map(|name| Some((SegmentName::parse(&name)?.0, name)));
    let (_, name) =
        bases.filter(|(base, _)| *base <= lsn).max().expect("I1: a segment holds what is durable");
    let path = format!("{PATH}/{name}");
    let bytes = disk.read_raw(&path);
    // Every entry starts at a multiple of eight, and its header as well.
    let at = (0..bytes.len()).step_by(8).find(|&at| bytes[at..].starts_with(payload));
    (path, at.unwrap_or_else(|| panic!("I1: {lsn} stands nowhere in {name}")) as u64)
}

/// What a crash before or after each storage operation of opening this image leaves.
fn struck(image: &SimDisk, rng: &mut Rng) -> Vec<SimDisk> {
    let disk = image.crash_clone(0, Profile::Kept);
    let strikes =
        Arc::new(Strikes { disk: disk.clone(), drawn: Mutex::new((Rng::new(rng.next_u64()), Vec::new())) });
    let storage = Observed::new(Arc::new(disk), strikes.clone());
    let wal = mixed(rng).storage(Arc::new(storage)).open(PATH);
    // Ending the log again is no part of recovery.
    let images = std::mem::take(&mut strikes.drawn().1);
    drop(wal.unwrap_or_else(|error| panic!("I12: {error}")));
    images
}

/// Takes an image at each operation that changes something.
#[derive(Debug)]
struct Strikes {
    disk: SimDisk,
    drawn: Mutex<(Rng, Vec<SimDisk>)>,
}

impl Strikes {
    fn drawn(&self) -> std::sync::MutexGuard<'_, (Rng, Vec<SimDisk>)> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Strikes {
    fn at(&self, side: Side, op: Op) {
        // What was asked for and has done nothing leaves what the operation before it left.
        if side == Side::Before || !changes(op) {
            return;
        }
        let (rng, images) = &mut *self.drawn();
        let profile = any_power_cut(rng);
        images.push(self.disk.crash_clone(rng.next_u64(), profile));
    }
}

/// Whether an operation changes what a crash leaves.
pub fn changes(op: Op) -> bool {
    !matches!(op, Op::Open | Op::Read | Op::DropCache)
}

/// A profile that loses what was not synced.
fn any_power_cut(rng: &mut Rng) -> Profile {
    if rng.one_in(3) { Profile::Ordered } else { Profile::Posix }
}

fn on(options: Options, disk: &SimDisk) -> Options {
    options.storage(Arc::new(disk.clone()))
}

fn open(options: Options, disk: &SimDisk) -> Wal {
    on(options, disk).open(PATH).unwrap_or_else(|error| panic!("I12: {error}"))
}

/// What a reader shows of a log that nobody has open.
fn read_only(disk: &SimDisk) -> Vec<Seen> {
    let reader = on(plain(), disk).open_read_only(PATH);
    read_all(reader.unwrap_or_else(|error| panic!("I12: {error}")).iter(..))
}

/// Everything that recovering the application gives, which passes over nothing: nothing is damaged.
fn history(wal: &Wal) -> Vec<Seen> {
    let (records, report) = History::of(wal).unwrap_or_else(|error| panic!("I12: {error}"));
    assert!(report.passed_over.is_empty(), "I12: {:?}", report.passed_over);
    records
}

/// All records of a range.
///
/// # Panics
/// If one cannot be read.
pub fn read_all(records: braidlog::Result<Records>) -> Vec<Seen> {
    let mut records = records.unwrap_or_else(|error| panic!("I12: {error}"));
    let mut seen = Vec::new();
    while let Some(record) = records.next_ref() {
        seen.push(Seen::new(&record.unwrap_or_else(|error| panic!("I12: {error}"))));
    }
    seen
}
