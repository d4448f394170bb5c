//! An open file of a simulated disk.
//!
//! The rule: it is as strict as the strictest system. A direct handle refuses whatever is not aligned, a
//! read-only one every change; a write takes what fits on the disk and no more.

use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::Arc;

use braidlog_storage::{FileAccess, FileIo, IO_ALIGN, LogFile};

use crate::fault::Effect;
use crate::image::SECTOR;
use crate::node::NodeRef;
use crate::state::{Shared, State, no_space};
use crate::trace::Action;
use crate::traffic::Arrival;
use crate::{Op, Rng};

#[derive(Debug)]
pub(crate) struct SimFile {
    shared: Arc<Shared>,
    directory: Arc<PathBuf>,
    node: NodeRef,
    access: FileAccess,
    io: FileIo,
}

impl SimFile {
    /// A handle of a file that the state has already been told to retain.
    pub(crate) fn new(
        shared: Arc<Shared>,
        directory: Arc<PathBuf>,
        node: NodeRef,
        access: FileAccess,
        io: FileIo,
    ) -> SimFile {
        SimFile { shared, directory, node, access, io }
    }

    fn name(&self) -> Arc<str> {
        self.node.lock().name.clone()
    }

    fn operate<T>(&self, action: Action, run: impl FnOnce(&mut State, u64) -> Result<T>) -> Result<T> {
        self.shared.operate(&self.directory, || self.name(), action, run)
    }

    fn is_direct(&self) -> bool {
        self.io != FileIo::Buffered
    }

    fn check_aligned(&self, address: *const u8, len: usize, offset: u64) -> Result<()> {
        if !self.is_direct() {
            return Ok(());
        }
        let what = if !offset.is_multiple_of(IO_ALIGN as u64) {
            "the offset of direct I/O is not aligned"
        } else if !len.is_multiple_of(IO_ALIGN) {
            "the length of direct I/O is not aligned"
        } else if !address.addr().is_multiple_of(IO_ALIGN) {
            "the buffer of direct I/O is not aligned"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, what))
    }

    fn check_writable(&self) -> Result<()> {
        if self.access == FileAccess::Read {
            return Err(Error::new(ErrorKind::PermissionDenied, "the file is open for reading only"));
        }
        Ok(())
    }

    /// How much of `len` bytes a short read or write does.
    fn shorten(&self, len: u64) -> u64 {
        let unit = if self.is_direct() { IO_ALIGN as u64 } else { 1 };
        let half = len / 2 / unit * unit;
        if half == 0 { len.min(unit) } else { half }
    }

    fn write_now(&self, state: &mut State, data: &[u8], offset: u64) -> Result<u64> {
        let room = state.room_pages();
        let fits = self.node.lock().fits(offset, data.len() as u64, room);
        if fits == 0 && !data.is_empty() {
            return Err(no_space());
        }
        let sequence = state.next_sequence();
        let data = &data[..fits as usize];
        state.charging(&self.node, |node| match self.io {
            FileIo::DirectSync => node.write_durably(sequence, offset, data),
            FileIo::Direct | FileIo::Buffered => node.write(sequence, offset, data),
        });
        state.directory(&self.directory).version += 1;
        Ok(fits)
    }

    fn sync(&self, action: Action) -> Result<()> {
        let arrival = Arrival { op: Op::Sync, name: &|| self.name(), write: None };
        let (mut state, before, effect) = self.shared.enter(arrival);
        let is_complete = action == Action::SyncAll;
        let complete = || {
            let mut node = self.node.lock();
            if is_complete { node.sync_all(before) } else { node.sync_data(before) }
        };
        let result = match effect {
            Some(Effect::Fail(code)) => Err(code.error()),
            Some(Effect::FailAfter(code)) => {
                complete();
                Err(code.error())
            }
            Some(Effect::Lose(code)) => {
                self.node.lock().lose(before);
                Err(code.error())
            }
            Some(Effect::Short | Effect::Tear(..) | Effect::Hang) | None => {
                complete();
                Ok(())
            }
        };
        state.recorder.record(&self.directory, self.name(), action, &result);
        drop(state);
        self.shared.changed.notify_all();
        result
    }

    /// The part of a write of `data` that a torn one makes: a prefix in which some sectors are as before, and
    /// some garbage.
    fn torn(&self, data: &[u8], offset: u64, seed: u64) -> Vec<u8> {
        let mut rng = Rng::new(seed);
        let mut torn = vec![0; data.len()];
        self.node.lock().visible.read(offset, &mut torn);
        let (mut start, mut end) = (0, 0);
        while start < data.len() {
            let to_boundary = SECTOR - (offset + start as u64) as usize % SECTOR;
            let next = data.len().min(start + to_boundary);
            let kind = rng.below(5);
            match kind {
                0 | 1 => {}
                2 | 3 => torn[start..next].copy_from_slice(&data[start..next]),
                _ => rng.fill(&mut torn[start..next]),
            }
            // A file is extended only by what was written to it.
            end = if kind > 1 { next } else { end };
            start = next;
        }
        torn.truncate(end);
        torn
    }

    /// A read or write, and what it does if it is torn: its action is known only afterwards, as it may be short.
    fn transfer(
        &self,
        arrival: Arrival<'_>,
        asked: u64,
        action: impl Fn(u64) -> Action,
        run: impl FnOnce(&mut State, u64) -> Result<u64>,
        tear: impl FnOnce(&mut State, u64) -> Result<u64>,
    ) -> Result<usize> {
        let (mut state, _, effect) = self.shared.enter(arrival);
        let result = match effect {
            Some(Effect::Fail(code)) => Err(code.error()),
            Some(Effect::FailAfter(code)) => run(&mut state, asked).and(Err(code.error())),
            Some(Effect::Short) => run(&mut state, self.shorten(asked)),
            Some(Effect::Tear(code, seed)) => tear(&mut state, seed).and(Err(code.error())),
            Some(Effect::Lose(_) | Effect::Hang) | None => run(&mut state, asked),
        };
        let done = *result.as_ref().unwrap_or(&asked);
        state.recorder.record(&self.directory, self.name(), action(done), &result);
        drop(state);
        self.shared.changed.notify_all();
        result.map(|done| done as usize)
    }
}

impl LogFile for SimFile {
    fn len(&self) -> Result<u64> {
        self.shared.ask(Op::Len, &self.name(), |_| Ok(self.node.lock().visible.len()))
    }

    fn links(&self) -> Result<u64> {
        self.shared.ask(Op::Len, &self.name(), |state| Ok(state.links(&self.node)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        // The read that follows a short one at a crooked end of the file is not aligned, and finds nothing.
        if offset < self.node.lock().visible.len() {
            self.check_aligned(buf.as_ptr(), buf.len(), offset)?;
        }
        let asked = buf.len() as u64;
        let action = |len| Action::Read { offset, len };
        let arrival = Arrival { op: Op::Read, name: &|| self.name(), write: None };
        let run = |_: &mut State, count| {
            let part = &mut buf[..count as usize];
            Ok(self.node.lock().read(offset, part, self.is_direct()) as u64)
        };
        self.transfer(arrival, asked, action, run, |_, _| Ok(0))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.check_writable()?;
        self.check_aligned(buf.as_ptr(), buf.len(), offset)?;
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let action = |len| Action::Write { offset, len };
        let arrival =
            Arrival { op: Op::Write, name: &|| self.name(), write: Some((&self.node, offset, buf)) };
        let run = |state: &mut State, count| self.write_now(state, &buf[..count as usize], offset);
        let tear = |state: &mut State, seed| self.write_now(state, &self.torn(buf, offset, seed), offset);
        self.transfer(arrival, buf.len() as u64, action, run, tear)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.check_writable()?;
        if len > i64::MAX as u64 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.operate(Action::Allocate { len }, |state, _| {
            let (room, sequence) = (state.room_pages(), state.next_sequence());
            let is_complete = state.charging(&self.node, |node| node.allocate(sequence, len, room));
            if is_complete { Ok(()) } else { Err(no_space()) }
        })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.check_writable()?;
        if len > i64::MAX as u64 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.operate(Action::SetLen { len }, |state, _| {
            let sequence = state.next_sequence();
            state.charging(&self.node, |node| node.set_len(sequence, len));
            state.directory(&self.directory).version += 1;
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.sync(Action::SyncData)
    }

    fn sync_all(&self) -> Result<()> {
        self.sync(Action::SyncAll)
    }

    fn drop_cache(&self) -> Result<()> {
        self.operate(Action::DropCache, |state, _| {
            state.charging(&self.node, |node| node.drop_cache());
            Ok(())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.state.lock().release(&self.node);
    }
}
