//! A stream: records of one name among all others in the log, numbered on their own.
//!
//! The rule: a record takes the next sequence of its stream in the moment in which it takes its LSN, or takes none. No waker is
//! run under the lock of a stream, and nobody waits under it for room, for a round or for space.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use braidlog_engine::{BatchBuf, BatchPoint, Commit, Engine, EngineError, How, Wait};
use braidlog_format::{Lsn, LsnRange, RecordFields};

use crate::appending::{Content, Entering, Lasting, Room, enter};
use crate::log::{LogRef, only};
use crate::streams::{Entry, StreamInfo};
use crate::{Append, Error, ErrorKind, Records, Replay, Result, Subscription, Ticket, Wal};

/// A stream of records in a log: a name, and a sequence of its own that counts 1, 2, 3 without a hole. Made by [`Wal::stream`].
///
/// All streams of a log share its files, its syncs and its total order, so a thousand of them cost what one does. Records of
/// one stream have rising LSNs; each carries the stream's number and its sequence
/// ([`RecordRef::fields`](crate::RecordRef#structfield.fields)), so one replay of the whole log serves all streams at once.
///
/// Appends to one stream are ordered by a lock, which nobody holds while he waits; those to different streams are not in each
/// other's way. Streams can be appended to from any number of threads and tasks; a clone is the same stream.
///
/// ```
/// # use braidlog::Wal;
/// # let dir = tempfile::tempdir()?;
/// # let wal = Wal::options().open(dir.path())?;
/// let orders = wal.stream("orders")?;
/// let mails = wal.stream("mails")?;
/// assert_eq!(orders.append(b"two apples")?.sequence, 1);
/// assert_eq!(mails.append(b"thank you")?.sequence, 1);
/// assert_eq!(orders.append(b"a pear")?.sequence, 2);
/// for record in orders.replay()? {
///     let record = record?;
///     println!("{} {} {:?}", record.lsn, record.fields.sequence.unwrap(), record.payload);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stream {
    log: LogRef,
    entry: Arc<Entry>,
}

/// Where a record of a stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Placed {
    /// Its place in the stream, from 1.
    pub sequence: u64,
    /// Its place in the log.
    pub lsn: Lsn,
}

/// # Streams
impl Wal {
    /// The stream of this name, which is made if there is none: durably, when this returns, and for as long as there is the log.
    /// The first call after an opening reads what was written since the log last noted how many records each stream has,
    /// about a segment.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name has not 1 to 255 bytes, or if it is new and the log has 10,000
    /// streams; [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io) and [`NoSpace`](crate::ErrorKind::NoSpace), as
    /// [`Wal::set_hold`]; as [`Wal::iter`], if those records cannot be read.
    pub fn stream(&self, name: &str) -> Result<Stream> {
        let mut streams = self.streams_named(&[name])?;
        Ok(streams.pop().expect("one was asked for"))
    }

    /// The streams of these names, in their order, as [`Wal::stream`]: all new ones with one change of the manifest.
    ///
    /// # Errors
    /// As [`Wal::stream`]; then none was made.
    pub fn streams_named(&self, names: &[&str]) -> Result<Vec<Stream>> {
        self.log.check_open()?;
        let entries = self.log.streams.named(&self.log, names)?;
        Ok(entries.into_iter().map(|entry| Stream { log: self.log.clone(), entry }).collect())
    }

    /// The log's streams, in the order of their numbers.
    ///
    /// # Errors
    /// As [`Wal::stream`] for one that is there.
    pub fn streams(&self) -> Result<Vec<StreamInfo>> {
        self.log.check_open()?;
        self.log.streams.all(&self.log)
    }
}

impl Stream {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Its number, which its records carry.
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// The sequence of the last record that was accepted; 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.entry.lock().last_sequence()
    }

    /// Appends a record, as [`Wal::append`](crate::Wal::append). Costs 24 bytes more than it does there.
    ///
    /// # Errors
    /// As there, and [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no room and this thread is the log's own, or is at
    /// work in its directory.
    pub fn append(&self, payload: impl AsRef<[u8]>) -> Result<Placed> {
        self.append_with(Append::new(payload.as_ref()))
    }

    /// Appends a record with a kind, a durability, pieces or a schema of its own.
    ///
    /// # Errors
    /// As [`Stream::append`].
    pub fn append_with(&self, append: Append<'_>) -> Result<Placed> {
        let placed = match self.place(append) {
            Err(error) if error.kind() == ErrorKind::Full => {
                let (_, numbered) = enter(&self.log, None, self.numbered(append))?;
                numbered.placed.expect("it was accepted")
            }
            placed => placed?,
        };
        let durability = append.durability.unwrap_or(self.log.durability);
        self.log.wait_committed(only(placed.lsn), durability)?;
        Ok(placed)
    }

    /// Appends a record if there is room now, and waits for nothing.
    ///
    /// # Errors
    /// As [`Wal::submit`](crate::Wal::submit).
    pub fn submit(&self, append: Append<'_>) -> Result<(Placed, Ticket)> {
        let placed = self.place(append)?;
        Ok((placed, Ticket::new(self.log.clone(), only(placed.lsn))))
    }

    /// Appends a record, as [`Wal::append_async`](crate::Wal::append_async): the future is ready when [`Stream::append_with`]
    /// would return.
    pub fn append_async<'a>(&self, append: Append<'a>) -> StreamAppending<'a> {
        let durability = append.durability.unwrap_or(self.log.durability);
        let entering = Entering::new(self.log.clone(), None, self.numbered(append));
        StreamAppending { lasting: Lasting::new(entering, durability), placed: None }
    }

    /// The records of the stream behind the newest good checkpoint, as [`Wal::replay`](crate::Wal::replay) gives those of the whole
    /// log, and reads all of that to find them: who wants those of several streams replays the log once.
    ///
    /// # Errors
    /// As there.
    pub fn replay(&self) -> Result<Records> {
        self.replay_with(Replay::new())
    }

    /// As [`Stream::replay`], with a range and a point in time, threads, memory and a word on the progress. All of them are the
    /// log's, in LSNs.
    ///
    /// # Errors
    /// As [`Wal::replay_with`](crate::Wal::replay_with).
    pub fn replay_with(&self, replay: Replay) -> Result<Records> {
        Ok(self.wal().replay_with(replay)?.of_stream(self.id()))
    }

    /// Every record of the stream from the LSN `from` on, each as soon as it is durable, as [`Wal::subscribe`](crate::Wal::subscribe).
    ///
    /// # Errors
    /// As there.
    pub fn subscribe(&self, from: Lsn) -> Result<Subscription> {
        Ok(self.wal().subscribe(from)?.of_stream(self.id()))
    }

    fn wal(&self) -> Wal {
        Wal::of(self.log.clone())
    }

    /// Appends if there is room now.
    fn place(&self, append: Append<'_>) -> Result<Placed> {
        let durability = append.durability.unwrap_or(self.log.durability);
        let how = How { stripe: None, wait: Wait::Never, commit: Commit::Later(durability) };
        let engine = &self.log.engine;
        engine.under_a_lock(|| {
            let mut place = self.entry.lock();
            let sequence = place.last_sequence() + 1;
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("sequence_drawn_before_the_lsn") {
                place.came_to(sequence, Lsn::ZERO, 0);
                drop(place);
                let lsn = self.log.place(append.of_stream(self.id(), sequence), how)?;
                return Ok(Placed { sequence, lsn });
            }
            let lsn = self.log.place(append.of_stream(self.id(), sequence), how)?;
            place.came_to(sequence, lsn, engine.rotations());
            Ok(Placed { sequence, lsn })
        })
    }

    fn numbered<'a>(&self, append: Append<'a>) -> Numbered<'a> {
        Numbered { entry: self.entry.clone(), append, placed: None }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A record of a stream.
struct Numbered<'a> {
    entry: Arc<Entry>,
    append: Append<'a>,
    /// Set when it was accepted.
    placed: Option<Placed>,
}

impl Content for Numbered<'_> {
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        engine.under_a_lock(|| {
            let mut place = self.entry.lock();
            let sequence = place.last_sequence() + 1;
            let mut append = self.append.of_stream(self.entry.id, sequence);
            let lsns = ready!(append.poll_append(engine, room, waker))?;
            place.came_to(sequence, lsns.last, engine.rotations());
            self.placed = Some(Placed { sequence, lsn: lsns.last });
            Poll::Ready(Ok(lsns))
        })
    }
}

/// A record of a stream on its way into the log, as a future that gives its place. Made by [`Stream::append_async`].
///
/// As [`Appending`](crate::Appending): dropped before the record is accepted, it leaves nothing behind, and its sequence is the
/// next one's; dropped later, the record is in the log.
///
/// # Errors
/// As [`Stream::append`].
#[must_use = "futures do nothing unless polled"]
pub struct StreamAppending<'a> {
    lasting: Lasting<Numbered<'a>>,
    /// Set when it was accepted.
    placed: Option<Placed>,
}

impl Future for StreamAppending<'_> {
    type Output = Result<Placed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Placed>> {
        let StreamAppending { lasting, placed } = self.get_mut();
        ready!(lasting.poll_telling(cx, |numbered| *placed = numbered.placed))?;
        Poll::Ready(Ok(placed.expect("it was accepted")))
    }
}

impl fmt::Debug for StreamAppending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamAppending").field("placed", &self.placed).finish_non_exhaustive()
    }
}

/// The records of a batch that belong to streams: where they stand in it, and what they carry.
#[derive(Default)]
pub(crate) struct OfStreams(Vec<OfStream>);

struct OfStream {
    entry: Arc<Entry>,
    at: BatchPoint,
    fields: RecordFields,
}

impl OfStreams {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a record to a batch. Its sequence is drawn when the batch is appended.
    pub(crate) fn push(
        &mut self,
        records: &mut BatchBuf,
        stream: &Stream,
        append: Append<'_>,
    ) -> Result<(), EngineError> {
        let at = records.point();
        let append = append.of_stream(stream.id(), 0);
        append.with_parts(|parts| records.push_parts(&parts))?;
        self.0.push(OfStream { entry: stream.entry.clone(), at, fields: append.fields() });
        Ok(())
    }

    /// Lets `append` append the batch, with the next sequences of its streams. It must not wait. A batch without streams is appended as it
    /// is.
    pub(crate) fn place(
        &self,
        records: &mut BatchBuf,
        engine: &Engine,
        append: impl FnOnce(&BatchBuf) -> Poll<Result<LsnRange, EngineError>>,
    ) -> Poll<Result<LsnRange, EngineError>> {
        if self.is_empty() {
            return append(records);
        }
        engine.under_a_lock(|| self.place_locked(records, engine, append))
    }

    fn place_locked(
        &self,
        records: &mut BatchBuf,
        engine: &Engine,
        append: impl FnOnce(&BatchBuf) -> Poll<Result<LsnRange, EngineError>>,
    ) -> Poll<Result<LsnRange, EngineError>> {
        let mut entries: Vec<&Arc<Entry>> = self.0.iter().map(|record| &record.entry).collect();
        // In one order for all batches, so that no two wait for each other.
        entries.sort_unstable_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        let mut places: Vec<_> = entries
            .iter()
            .map(|entry| {
                let place = entry.lock();
                let last = place.last_sequence();
                (entry.id, place, last)
            })
            .collect();
        for OfStream { entry, at, fields } in &self.0 {
            let found = places.binary_search_by_key(&entry.id, |(id, ..)| *id);
            let Some((.., last)) = found.ok().and_then(|index| places.get_mut(index)) else { continue };
            *last += 1;
            let mut fields = *fields;
            fields.sequence = Some(*last);
            records.rewrite_fields(*at, &fields.encode());
        }
        let lsns = ready!(append(records))?;
        let rotations = engine.rotations();
        for (_, place, last) in &mut places {
            place.came_to(*last, lsns.last, rotations);
        }
        Poll::Ready(Ok(lsns))
    }
}

/// That a stream is one of this log.
pub(crate) fn check_stream(log: &LogRef, stream: &Stream) -> Result<()> {
    if Arc::ptr_eq(log.shared(), stream.log.shared()) {
        return Ok(());
    }
    let what =
        format!("the stream `{}` is one of another log, or of another opening of this one", stream.name());
    Err(Error::refused(&log.path, what))
}
