//! aletheiadb 0.2: its concurrent write-ahead log (`storage::wal::concurrent_system`), apart from the database.
//!
//! Its entries are graph operations, so that a record is the one property of a node that is created. Variants are its
//! durability modes: `async`, `sync` (its default), and group commit with its default delay of 2 ms and with the
//! least that it allows, 1 ms. `segments_to_retain` is raised: with the default of 10 the log forgets all but
//! the last 704 MiB.

use std::path::Path;
use std::thread;

use aletheiadb::core::id::NodeId;
use aletheiadb::core::interning::{GLOBAL_INTERNER, InternedString};
use aletheiadb::core::property::{PropertyMapBuilder, PropertyValue};
use aletheiadb::core::temporal::{Timestamp, time};
use aletheiadb::storage::wal::concurrent_system::{ConcurrentWalSystem, ConcurrentWalSystemConfig};
use aletheiadb::storage::wal::{DurabilityMode, LSN, WalOperation};

use super::{Appender, Peer, Result, Setup};

/// The log.
pub struct Aletheiadb {
    wal: ConcurrentWalSystem,
    label: InternedString,
    key: InternedString,
    now: Timestamp,
    /// Whether a commit is registered for a group: that is what starts one.
    has_groups: bool,
}

/// A thread's way in.
pub struct Thread<'log>(&'log Aletheiadb);

fn config(dir: &Path, setup: &Setup) -> Result<ConcurrentWalSystemConfig> {
    let (mode, interval_ms) = match setup.variant {
        "async" => (DurabilityMode::async_mode_validated(10)?, 10),
        "gc-1ms" => (DurabilityMode::group_commit_validated(1, 200)?, 1),
        "gc-2ms" => (DurabilityMode::group_commit_default(), 2),
        _ => (DurabilityMode::Synchronous, 10),
    };
    // With its default of 10 ms a group waits for that, whatever its own delay is.
    let mut config =
        ConcurrentWalSystemConfig::new(dir).with_durability_mode(mode).with_flush_interval_ms(interval_ms);
    config.segments_to_retain = usize::MAX;
    Ok(config)
}

impl Aletheiadb {
    fn operation(&self, record: &[u8]) -> Result<WalOperation> {
        let properties =
            PropertyMapBuilder::new().insert_by_key(self.key, PropertyValue::bytes(record)).build();
        Ok(WalOperation::CreateNode {
            node_id: NodeId::new(1)?,
            label: self.label,
            properties,
            valid_from: self.now,
            provenance: None,
        })
    }

    /// Waits for what was appended, as the documentation of `commit` says.
    fn commit(&self) -> Result<()> {
        if let Some(epoch) = self.wal.commit()? {
            let coordinator = self.wal.group_commit_coordinator().ok_or("no coordinator")?;
            coordinator.wait_for_flush(epoch)?;
        }
        Ok(())
    }
}

impl Peer for Aletheiadb {
    type Appender<'log> = Thread<'log>;

    /// `Async` never syncs.
    const FLUSH_SYNCS: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<Aletheiadb> {
        Ok(Aletheiadb {
            wal: ConcurrentWalSystem::new(config(dir, setup)?)?,
            label: GLOBAL_INTERNER.intern("Record")?,
            key: GLOBAL_INTERNER.intern("payload")?,
            now: time::now(),
            has_groups: setup.variant.starts_with("gc"),
        })
    }

    fn appender(&self, _thread: u32) -> Result<Thread<'_>> {
        Ok(Thread(self))
    }

    fn flush(&self) -> Result<()> {
        self.wal.flush()?;
        // What its own thread has taken out of the rings and not written yet is not flushed by that.
        while self.wal.total_flushed() < self.wal.total_appends() {
            if !self.wal.is_healthy() {
                return Err("it is not healthy".into());
            }
            thread::yield_now();
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.wal.shutdown();
        Ok(())
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let wal = ConcurrentWalSystem::new(config(dir, setup)?)?;
        let key = GLOBAL_INTERNER.intern("payload")?;
        for entry in wal.read_from(LSN::initial())? {
            if let WalOperation::CreateNode { properties, .. } = entry.operation {
                each(
                    properties
                        .get_by_interned_key(&key)
                        .and_then(PropertyValue::as_bytes)
                        .unwrap_or_default(),
                );
            }
        }
        Ok(())
    }

    fn note(&self) -> Option<String> {
        let unflushed = self.wal.total_appends() - self.wal.total_flushed();
        (unflushed > 0).then(|| format!("{unflushed} appended and not flushed"))
    }
}

impl Appender for Thread<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.0.wal.append_async(self.0.operation(record)?)?;
        if self.0.has_groups {
            // Its epoch is what one would wait for.
            self.0.wal.commit()?;
        }
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.0.wal.append(self.0.operation(record)?)?;
        self.0.commit()
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let operations = records.iter().map(|record| self.0.operation(record)).collect::<Result<_>>()?;
        self.0.wal.append_batch(operations)?;
        self.0.commit()
    }
}
