//! What a store's tables take: the figures behind `store_table` and `vwatchctl store stats`.
//!
//! From `series` and the directories of the head, so the cost is that of at most a minute's directories, whatever the size of
//! the store.

use crate::contents::{self, SeriesMap};
use crate::error::Result;
use crate::head::{Entry, Kind};
use crate::reader::Reader;
use crate::series::plain_bytes;
use crate::types::{InstanceId, TableId};
use std::collections::BTreeMap;

/// What one table takes for one instance, in blocks and head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStorage {
    pub table: String,
    pub instance: String,
    /// Times of its earliest and latest sample or event.
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
    /// Samples of a state table; 0 of an event table.
    pub samples: u64,
    /// Rows of the pictures at all samples, or events. In the head the picture at a sample that only has changes counts as
    /// large as the last whole one.
    pub rows: u64,
    pub blocks: u64,
    /// Bytes of its blocks.
    pub bytes: u64,
    /// Bytes of its rows in the head.
    pub head_bytes: u64,
    /// What `rows` would take as plain columns, uncompressed: to be compared with `bytes` and `head_bytes` together.
    pub raw_bytes: u64,
}

/// What lies in the head.
#[derive(Debug, Default)]
struct InHead {
    bounds: Option<(i64, i64)>,
    samples: u64,
    rows: u64,
    bytes: u64,
    raw_bytes: u64,
    /// Rows of the last whole picture.
    picture_rows: u64,
    /// Bytes of a row, as a fraction.
    row_bytes: (u32, u32),
}

impl InHead {
    fn add(&mut self, entry: &Entry) {
        let (first, last) = self.bounds.unwrap_or((entry.time_ns, entry.last_ns));
        self.bounds = Some((first.min(entry.time_ns), last.max(entry.last_ns)));
        self.bytes += u64::from(entry.stored_bytes());
        let rows = match entry.kind {
            Kind::Events => u64::from(entry.rows),
            Kind::Keyframe { .. } => {
                self.picture_rows = u64::from(entry.rows);
                self.picture_rows
            }
            Kind::Delta => self.picture_rows,
        };
        if entry.rows > 0 && entry.kind != Kind::Delta {
            self.row_bytes = (entry.raw_bytes(), entry.rows);
        }
        self.samples += u64::from(entry.kind != Kind::Events);
        self.rows += rows;
        self.raw_bytes =
            (self.raw_bytes).saturating_add(plain_bytes(u64::from(self.row_bytes.0), self.row_bytes.1, rows));
    }
}

impl Reader {
    /// What each table and instance takes, sorted by their names.
    pub fn storage(&self) -> Result<Vec<TableStorage>> {
        let path = self.path();
        let (series, head, mut out) = self.env().read(|txn, dbs| {
            let series: SeriesMap = contents::all_series(path, txn, dbs)?;
            let mut head: BTreeMap<(TableId, InstanceId), InHead> = BTreeMap::new();
            contents::each_head_record(path, txn, dbs, |_, directory, _| {
                for entry in &directory.entries {
                    head.entry((entry.table, entry.instance)).or_default().add(entry);
                }
                Ok(())
            })?;
            let mut out = Vec::with_capacity(series.len());
            for (table, instance) in series.keys() {
                let declared = self.table(txn, dbs, *table)?;
                let name = self.instance_name(txn, dbs, *instance)?;
                out.push((declared.schema.name.clone(), name.to_string(), (*table, *instance)));
            }
            Ok((series, head, out))
        })?;
        out.sort();
        let none = InHead::default();
        let entry = |(table, instance, key)| {
            let (series, head) = (&series[&key], head.get(&key).unwrap_or(&none));
            let bounds = [series.bounds(), head.bounds];
            TableStorage {
                table,
                instance,
                first_ns: bounds.iter().flatten().map(|b| b.0).min(),
                last_ns: bounds.iter().flatten().map(|b| b.1).max(),
                samples: series.samples + head.samples,
                rows: series.rows + head.rows,
                blocks: series.blocks,
                bytes: series.bytes,
                head_bytes: head.bytes,
                raw_bytes: series.raw_bytes.saturating_add(head.raw_bytes),
            }
        };
        Ok(out.into_iter().map(entry).collect())
    }
}
