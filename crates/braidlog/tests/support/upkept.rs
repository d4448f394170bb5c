//! A small log whose events are kept, on a simulated disk and by a clock that stands still until it is moved.

use std::sync::{Arc, Mutex};

use braidlog::{Event, Options, Wal};
use braidlog_sim::{SimClock, SimDisk};

use crate::small_log::{PATH, small};

pub struct Log {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub wal: Wal,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Log {
    pub fn open(with: impl Fn(Options) -> Options) -> Log {
        Log::open_on(SimDisk::new(), Arc::new(SimClock::new()), with)
    }

    pub fn open_on(disk: SimDisk, clock: Arc<SimClock>, with: impl Fn(Options) -> Options) -> Log {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = events.clone();
        let options =
            with(small(&disk, &clock)).on_event(move |event| told.lock().unwrap().push(event.clone()));
        let wal = options.open(PATH).unwrap();
        Log { disk, clock, wal, events }
    }

    /// Closes the log and opens it again.
    pub fn reopen(self, with: impl Fn(Options) -> Options) -> Log {
        self.wal.close().unwrap();
        Log::open_on(self.disk, self.clock, with)
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}
