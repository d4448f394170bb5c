//! open-wal 0.2: one writer (`&mut self`), "durability-first".
//!
//! Two variants: `mutex`, the log in a mutex, and `queue`: "put a queue in front of the single writer thread — that is the intended
//! integration shape" (its book). The thread of the queue takes all that is there, appends it, commits once, and
//! wakes those who wait. Where nobody waits it commits after 4 MiB: "batch as many appends per commit as your
//! latency budget allows".

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle, Thread};

use open_wal::{Lsn, Wal, WalConfig};

use super::{Appender, Peer, Result, Setup};

/// Bytes that are appended before they are committed, where nobody waits.
const UNCOMMITTED_MAX: usize = 4 << 20;
/// Messages that may wait in the queue.
const QUEUED_MAX: usize = 16 << 10;

fn open(dir: &Path) -> Result<Wal> {
    Ok(Wal::open(dir, WalConfig::default())?.0)
}

fn replay(dir: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let wal = open(dir)?;
    let mut reader = wal.reader_from(Lsn(0))?;
    while let Some(record) = reader.next() {
        each(record?.1);
    }
    Ok(())
}

/// The log in a mutex; with it, the bytes that are not committed.
pub struct InMutex {
    state: Mutex<(Wal, usize)>,
}

impl InMutex {
    fn lock(&self) -> MutexGuard<'_, (Wal, usize)> {
        self.state.lock().expect("no thread panics with the log")
    }
}

impl Peer for InMutex {
    type Appender<'log> = &'log InMutex;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<InMutex> {
        Ok(InMutex { state: Mutex::new((open(dir)?, 0)) })
    }

    fn appender(&self, _thread: u32) -> Result<&InMutex> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        self.lock().0.commit()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, _setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        replay(dir, each)
    }
}

impl Appender for &InMutex {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let (wal, uncommitted) = &mut *state;
        wal.append(record)?;
        *uncommitted += record.len();
        if *uncommitted >= UNCOMMITTED_MAX {
            *uncommitted = 0;
            wal.commit()?;
        }
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.lock();
        state.0.append(record)?;
        state.0.commit()?;
        Ok(())
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut state = self.lock();
        for record in records {
            state.0.append(record)?;
        }
        state.0.commit()?;
        Ok(())
    }
}

/// What stands in the queue.
struct Message {
    records: Vec<Vec<u8>>,
    /// Who waits, if somebody does.
    waiter: Option<Arc<Waiter>>,
}

/// A thread that waits for its messages.
struct Waiter {
    thread: Mutex<Option<Thread>>,
    committed: AtomicU64,
}

/// The log behind a queue.
pub struct Queued {
    queue: Mutex<Option<SyncSender<Message>>>,
    writer: Mutex<Option<JoinHandle<Result<()>>>>,
}

/// A thread's way into the queue.
pub struct Producer {
    queue: SyncSender<Message>,
    waiter: Arc<Waiter>,
    sent: u64,
}

/// The writer thread.
fn write(mut wal: Wal, queue: &Receiver<Message>) -> Result<()> {
    let (mut waiters, mut uncommitted): (Vec<Arc<Waiter>>, _) = (Vec::new(), 0);
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(Message { records, waiter }) = next {
            for record in &records {
                wal.append(record)?;
                uncommitted += record.len();
            }
            waiters.extend(waiter);
            next = if uncommitted < UNCOMMITTED_MAX { queue.try_recv().ok() } else { None };
        }
        if uncommitted >= UNCOMMITTED_MAX || !waiters.is_empty() {
            wal.commit()?;
            uncommitted = 0;
        }
        for waiter in waiters.drain(..) {
            waiter.committed.fetch_add(1, Ordering::Release);
            if let Some(thread) = &*waiter.thread.lock().expect("no thread panics with it") {
                thread.unpark();
            }
        }
    }
    wal.commit()?;
    Ok(())
}

impl Peer for Queued {
    type Appender<'log> = Producer;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<Queued> {
        let wal = open(dir)?;
        let (queue, messages) = sync_channel(QUEUED_MAX);
        let writer = thread::spawn(move || write(wal, &messages));
        Ok(Queued { queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)) })
    }

    fn appender(&self, _thread: u32) -> Result<Producer> {
        let queue = self.queue.lock().expect("no thread panics with it").clone().ok_or("is closed")?;
        let waiter = Arc::new(Waiter { thread: Mutex::new(None), committed: AtomicU64::new(0) });
        Ok(Producer { queue, waiter, sent: 0 })
    }

    /// The end of the queue: the writer commits what is left and ends. All producers are gone.
    fn flush(&self) -> Result<()> {
        drop(self.queue.lock().expect("no thread panics with it").take());
        let writer = self.writer.lock().expect("no thread panics with it").take();
        writer.map_or(Ok(()), |writer| writer.join().map_err(|_| "the writer panicked")?)
    }

    fn close(self) -> Result<()> {
        self.flush()
    }

    fn replay(dir: &Path, _setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        replay(dir, each)
    }
}

impl Producer {
    fn send_and_wait(&mut self, records: Vec<Vec<u8>>) -> Result<()> {
        if self.sent == 0 {
            *self.waiter.thread.lock().expect("no thread panics with it") = Some(thread::current());
        }
        self.queue
            .send(Message { records, waiter: Some(self.waiter.clone()) })
            .map_err(|_| "the writer has ended")?;
        self.sent += 1;
        while self.waiter.committed.load(Ordering::Acquire) < self.sent {
            thread::park();
        }
        Ok(())
    }
}

impl Appender for Producer {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let message = Message { records: vec![record.to_vec()], waiter: None };
        Ok(self.queue.send(message).map_err(|_| "the writer has ended")?)
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.send_and_wait(vec![record.to_vec()])
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        self.send_and_wait(records.to_vec())
    }
}
