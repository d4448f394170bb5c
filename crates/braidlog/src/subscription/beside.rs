//! Following a log that another process writes: the system tells that files changed, and a look at them tells what is
//! durable.
//!
//! # The race that is handled
//! Something becomes durable between the look and the wait. The watch begins before the look, and tells what changed since
//! it began; a task leaves its waker before it looks once more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use braidlog_engine::Wait;
use braidlog_format::Lsn;
use braidlog_recovery::LogReader;
use braidlog_storage::{LogDir, Watch};

use super::source::Reached;
use crate::{Error, Result};

/// How long is waited at most before another look. Everything that a writer does ends a wait; this is for a file system that
/// forgets to tell, and for a task's thread to see that nobody needs it any more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often is looked where the system cannot tell.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The log of another process, or of none.
pub(crate) struct Beside {
    reader: Arc<LogReader>,
    dir: Arc<dyn LogDir>,
    path: Arc<Path>,
    /// The last record that may be shown, when somebody last looked.
    last: Lsn,
    /// For a thread that waits; begun when it first does.
    watch: Option<Changes>,
    /// For a task; its thread is started when it is first polled.
    task: Option<Arc<Task>>,
}

impl Beside {
    pub(crate) fn new(reader: Arc<LogReader>, dir: Arc<dyn LogDir>, path: Arc<Path>, last: Lsn) -> Beside {
        Beside { reader, dir, path, last, watch: None, task: None }
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(super) fn last(&self) -> Lsn {
        self.last
    }

    pub(super) fn wait_beyond(&mut self, seen: Lsn, wait: Wait) -> Result<Reached> {
        if self.watch.is_none() && wait != Wait::Never {
            self.watch = Some(self.changes()?);
        }
        loop {
            if let Some(durable) = self.look(seen)? {
                return Ok(Reached::Durable(durable));
            }
            let left = match wait {
                Wait::Forever => LOOK_AGAIN,
                Wait::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
                Wait::Never => Duration::ZERO,
            };
            let Some(watch) = self.watch.as_mut().filter(|_| !left.is_zero()) else {
                return Ok(Reached::NoFurther);
            };
            watch.wait(left.min(LOOK_AGAIN)).map_err(|source| cannot_watch(&self.path, source))?;
        }
    }

    pub(super) fn poll_beyond(&mut self, seen: Lsn, cx: &mut Context<'_>) -> Poll<Result<Reached>> {
        let task = match &self.task {
            Some(task) => Arc::clone(task),
            None => {
                let task = Arc::<Task>::default();
                let started = start(self.changes()?, Arc::downgrade(&task));
                started.map_err(|source| {
                    Error::open("start a thread to watch the directory", &self.path, source)
                })?;
                self.task = Some(Arc::clone(&task));
                task
            }
        };
        task.leave(cx.waker());
        if let Some(durable) = self.look(seen)? {
            return Poll::Ready(Ok(Reached::Durable(durable)));
        }
        match task.failure() {
            Some(source) => Poll::Ready(Err(cannot_watch(&self.path, source))),
            None => Poll::Pending,
        }
    }

    fn look(&mut self, seen: Lsn) -> Result<Option<Lsn>> {
        let last = self.reader.last_visible();
        self.last = last.map_err(|error| Error::recovery(&self.path, error))?;
        Ok(Some(self.last).filter(|last| *last > seen))
    }

    fn changes(&self) -> Result<Changes> {
        match self.dir.watch() {
            Ok(watch) => Ok(Changes::Told(watch)),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Changes::LookedFor),
            Err(source) => Err(cannot_watch(&self.path, source)),
        }
    }
}

fn cannot_watch(path: &Arc<Path>, source: io::Error) -> Error {
    Error::open("watch the directory", path, source)
}

/// How one learns that the directory may have changed.
enum Changes {
    Told(Box<dyn Watch>),
    LookedFor,
}

impl Changes {
    /// Returns when something may have changed, or after `timeout`.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self {
            Changes::Told(watch) => watch.wait(timeout).map(drop),
            Changes::LookedFor => {
                thread::park_timeout(timeout.min(LOOK_EVERY));
                Ok(())
            }
        }
    }
}

/// A task that waits, as its thread sees it.
#[derive(Default)]
struct Task(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    waker: Option<Waker>,
    failure: Option<io::Error>,
}

impl Task {
    fn leave(&self, waker: &Waker) {
        let before = self.waiting().waker.replace(waker.clone());
        // After the lock: it may be the last of a task that has the subscription.
        drop(before);
    }

    fn failure(&self) -> Option<io::Error> {
        self.waiting().failure.take()
    }

    fn wake(&self) {
        let waker = self.waiting().waker.take();
        if let Some(waker) = waker {
            // Foreign code. Its panic is told by the panic hook, and must not end the thread.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that wakes a task when something may have changed. It ends when the task's subscription is gone.
fn start(mut changes: Changes, task: Weak<Task>) -> io::Result<()> {
    let watch = move || {
        loop {
            let waited = changes.wait(LOOK_AGAIN);
            let Some(task) = task.upgrade() else { return };
            let is_over = waited.is_err();
            task.waiting().failure = waited.err();
            task.wake();
            if is_over {
                return;
            }
        }
    };
    thread::Builder::new().name("braidlog-follow".to_owned()).spawn(watch).map(drop)
}
