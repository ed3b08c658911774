//! What is too old or too much: the oldest blocks are deleted.
//!
//! First by age, then what single tables may take, then what the file may take. The file's pages in use are counted, not its
//! length: LMDB gives freed pages out again, and never returns them. So that a block finds its pages in a row, and for what is
//! freed but may still be read, a part of what the file may take is left free: an eighth and 16 MiB (a quarter, if that is
//! less), and more while the file grows all the same.

use crate::env::Dbs;
use crate::error::Result;
use crate::retention::{Maintained, SeriesKey, Work};
use crate::rewrite::{self, Batch, Part};
use crate::types::TableId;
use crate::writer::Writer;
use lmdb::Transaction;
use std::collections::{BTreeMap, BTreeSet};

/// Most blocks that one transaction deletes.
const BLOCKS: usize = 256;
/// Left free besides a share of what the file may take: some times the largest blocks, which matter in a small store.
const FREE_BYTES: u64 = 16 << 20;
const PAGE: u64 = 4096;
/// Larger values have pages of their own.
const INLINE: u64 = 2000;
/// What is deleted at once when the disk is full.
const STARVED_BYTES: u64 = 4 << 20;

/// What the pages in use may come to: less the nearer the file comes to what it may take, since it only grows when no free
/// pages in a row are found.
fn target_bytes(max_bytes: u64, file_bytes: u64) -> u64 {
    let near = match file_bytes.saturating_mul(16) / max_bytes.max(1) {
        0..=12 => 0,
        13 => max_bytes / 16,
        14 => max_bytes / 8,
        _ => max_bytes / 4,
    };
    max_bytes - max_bytes / 8 - (max_bytes / 4).min(FREE_BYTES) - near
}

fn page_bytes(part: &Part) -> u64 {
    match part.figures.bytes {
        bytes if bytes > INLINE => (bytes + 16).div_ceil(PAGE) * PAGE,
        bytes => bytes + 40,
    }
}

/// Deletes from the front of several series, the earliest block first.
struct Front {
    /// The first block of each series that is left.
    first: BTreeSet<(i64, SeriesKey)>,
    batch: Batch,
    freed: u64,
}

impl Front {
    fn new(series: impl Iterator<Item = (i64, SeriesKey)>) -> Front {
        Front {
            first: series.collect(),
            batch: Batch::default(),
            freed: 0,
        }
    }

    fn full(&self) -> bool {
        self.batch.runs() >= BLOCKS
    }

    /// Deletes the earliest blocks until `bytes` are freed.
    fn free(&mut self, writer: &Writer, txn: &impl Transaction, dbs: &Dbs, bytes: u64) -> Result<()> {
        while self.freed < bytes && !self.full() {
            let Some((from, series)) = self.first.pop_first() else {
                break;
            };
            let until = self.first.first().map_or(i64::MAX, |next| next.0);
            let mut next = None;
            let mut deleted = 0;
            rewrite::each_part(writer, txn, dbs, series, from, |part| {
                if self.batch.runs() >= BLOCKS || self.freed >= bytes || (deleted > 0 && part.key.start_ns > until) {
                    next = Some(part.key.start_ns);
                    return Ok(false);
                }
                self.freed += page_bytes(&part);
                self.batch.delete(writer, &part);
                deleted += 1;
                Ok(true)
            })?;
            if let Some(next) = next {
                if deleted == 0 {
                    break;
                }
                self.first.insert((next, series));
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Deletes what the rules no longer allow. `aged` is false while the clock is not to be trusted.
    pub(crate) fn expire(&mut self, now_ns: i64, aged: bool, starved: bool) -> Result<Maintained> {
        let mut batch = Batch::default();
        if aged {
            batch = self.expired_by_age(now_ns)?;
        }
        if batch.is_empty() {
            batch = self.expired_by_table()?;
        }
        if batch.is_empty() {
            batch = self.expired_by_file(starved)?;
        }
        self.apply(Work::Expire, batch)
    }

    /// The first blocks of all series that have some, of the tables that `wanted` names.
    fn fronts(&self, wanted: impl Fn(TableId) -> bool) -> Front {
        let of = self.streams.iter().filter(|((table, _), _)| wanted(*table));
        Front::new(of.filter_map(|(key, s)| s.series.bounds().map(|b| (b.0, *key))))
    }

    fn expired_by_age(&mut self, now_ns: i64) -> Result<Batch> {
        let mut due: Vec<(SeriesKey, i64, u64)> = Vec::new();
        for (key, stream) in &self.streams {
            let Some(keep) = (self.tables.get(&key.0)).and_then(|t| self.retention.keep_ns(&t.schema.name)) else {
                continue;
            };
            let cutoff = now_ns.saturating_sub_unsigned(keep);
            if stream.series.bounds().is_some_and(|b| b.0 < cutoff) && stream.upkeep.expire_wait_ns <= now_ns {
                due.push((*key, cutoff, keep));
            }
        }
        if due.is_empty() {
            return Ok(Batch::default());
        }
        let (batch, waits) = self.env.read(|txn, dbs| {
            let mut batch = Batch::default();
            let mut waits = Vec::new();
            for (key, cutoff, keep) in due {
                rewrite::each_part(self, txn, dbs, key, i64::MIN, |part| {
                    if part.figures.last_ns >= cutoff {
                        waits.push((key, part.figures.last_ns.saturating_add_unsigned(keep)));
                        return Ok(false);
                    }
                    if batch.runs() < BLOCKS {
                        batch.delete(self, &part);
                    }
                    Ok(batch.runs() < BLOCKS)
                })?;
            }
            Ok((batch, waits))
        })?;
        for (key, wait_ns) in waits {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.upkeep.expire_wait_ns = wait_ns.saturating_add(1);
            }
        }
        Ok(batch)
    }

    fn expired_by_table(&self) -> Result<Batch> {
        if self.retention.tables.values().all(|rules| rules.max_bytes.is_none()) {
            return Ok(Batch::default());
        }
        let mut bytes: BTreeMap<TableId, u64> = BTreeMap::new();
        for ((table, _), stream) in &self.streams {
            *bytes.entry(*table).or_default() += stream.series.bytes;
        }
        for (table, bytes) in bytes {
            let limit = (self.tables.get(&table)).and_then(|t| self.retention.table_bytes(&t.schema.name));
            let over = bytes.saturating_sub(limit.unwrap_or(u64::MAX));
            if over > 0 {
                let mut front = self.fronts(|of| of == table);
                self.env.read(|txn, dbs| front.free(self, txn, dbs, over))?;
                return Ok(front.batch);
            }
        }
        Ok(Batch::default())
    }

    fn expired_by_file(&self, starved: bool) -> Result<Batch> {
        let limit = self.retention.all.max_bytes;
        if limit.is_none() && !starved {
            return Ok(Batch::default());
        }
        let used = self.env.used_bytes()?;
        let file_bytes = std::fs::metadata(&self.path).map_or(0, |m| m.len());
        let target = limit.map_or(u64::MAX, |limit| target_bytes(limit, file_bytes));
        let mut over = used.saturating_sub(target);
        if starved && limit.is_some() {
            over = over.max(STARVED_BYTES.min(used / 16));
        }
        let mut front = self.fronts(|_| true);
        if over > 0 {
            self.env.read(|txn, dbs| front.free(self, txn, dbs, over))?;
        }
        Ok(front.batch)
    }
}
