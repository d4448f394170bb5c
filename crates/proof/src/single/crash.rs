//! Where crashes strike: the desk at which the disk, the model and the judge meet at each storage operation.
//!
//! The rule: an image is judged by the model as it is at that very moment.

use std::sync::{Mutex, MutexGuard, PoisonError};

use braidlog::{Lsn, Wal};
use braidlog_sim::{Op, Profile, Rng, SimDisk};

use crate::counts::Counts;
use crate::judge::{Judge, changes};
use crate::model::Model;
use crate::observed::{Observer, Side};

/// Images of one run, at most: a run that rotates much would take long.
const IMAGES_MAX: u64 = 1500;

/// What a crash left, and what had been promised at that moment: a run can go on from here.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) disk: SimDisk,
    pub(super) model: Model,
}

/// The disk as it is now, and everything that judges it.
#[derive(Debug)]
pub(super) struct Now {
    pub(super) disk: SimDisk,
    pub(super) model: Model,
    pub(super) judge: Judge,
    /// The open log, to be asked what it says is durable.
    pub(super) wal: Option<Wal>,
    /// The durable LSN that the log had when it failed: it must not move any more.
    pub(super) failed_at: Option<Lsn>,
    /// Storage operations until the run goes on from what a crash leaves.
    pub(super) until_crash: Option<u64>,
    /// What the run goes on from, once the call under way has returned.
    pub(super) fork: Option<Fork>,
    /// Whether images are taken.
    pub(super) is_watching: bool,
    rng: Rng,
    images: u64,
    /// After so many images no more are taken.
    pub(super) images_max: u64,
    /// An image is taken at one in so many moments that are worth one.
    pub(super) image_one_in: u64,
    crash: fn(&SimDisk, u64, Profile) -> SimDisk,
}

/// Shared by the driver and the storage's observer.
#[derive(Debug)]
pub(super) struct Desk(Mutex<Now>);

impl Desk {
    pub(super) fn new(seed: u64, crash: fn(&SimDisk, u64, Profile) -> SimDisk) -> Desk {
        Desk(Mutex::new(Now {
            disk: SimDisk::new(),
            model: Model::default(),
            judge: Judge::default(),
            wal: None,
            failed_at: None,
            until_crash: None,
            fork: None,
            is_watching: true,
            rng: Rng::new(seed ^ 0xC4A5_04E5),
            images: 0,
            images_max: IMAGES_MAX,
            image_one_in: 1,
            crash,
        }))
    }

    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_counts(&self) -> Counts {
        self.now().judge.take_counts()
    }
}

impl Observer for Desk {
    fn at(&self, side: Side, op: Op) {
        // A broken promise unwinds through the log, which may ask its storage for more.
        if std::thread::panicking() {
            return;
        }
        let mut now = self.now();
        if !now.is_watching {
            return;
        }
        now.look();
        let now = &mut *now;
        if let Some(left) = &mut now.until_crash {
            *left = left.saturating_sub(1);
            if *left == 0 {
                now.until_crash = None;
                now.fork();
            }
        }
        // Reading changes nothing, and what an operation has not done yet the one before has left: at these an
        // image is worth taking only because the model may know more by now.
        if changes(op) && (side == Side::After || now.rng.one_in(2)) || now.rng.one_in(50) {
            now.image();
        }
    }
}

impl Now {
    /// Believes what the log says is durable; after a failure it must say nothing new.
    pub(super) fn look(&mut self) {
        let Some(wal) = &self.wal else { return };
        let durable = wal.durable_lsn();
        match self.failed_at {
            Some(failed_at) => assert_eq!(durable, failed_at, "I10: an acknowledgement after the failure"),
            None => {
                let promised = self.model.durable();
                assert!(durable >= promised, "I6: {durable} is durable, {promised} was");
                self.model.acknowledge(durable);
                self.model.starts_at(wal.first_lsn());
            }
        }
    }

    /// Takes and judges an image of this moment.
    pub(super) fn image(&mut self) {
        if self.image_one_in > 1 && !self.rng.one_in(self.image_one_in) {
            return;
        }
        self.images += 1;
        if self.images > self.images_max {
            return;
        }
        let profile = self.any_profile();
        let seed = self.rng.next_u64();
        let image = (self.crash)(&self.disk, seed, profile);
        self.judge.image(&image, profile, &self.model, seed);
    }

    fn fork(&mut self) {
        let (profile, seed) = (self.any_profile(), self.rng.next_u64());
        let disk = (self.crash)(&self.disk, seed, profile);
        self.fork = Some(Fork { disk, model: self.model.clone() });
    }

    fn any_profile(&mut self) -> Profile {
        match self.rng.below(20) {
            0..11 => Profile::Posix,
            11..17 => Profile::Ordered,
            _ => Profile::Kept,
        }
    }
}
