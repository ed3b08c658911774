//! What goes into a store and what it says of itself: samples, instances, options, counts.

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};
use vwatch_model::time::Stamp;

/// A table of this store. Assigned at its first registration, stable for the file's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// An instance of this store: one name, for the file's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Size of the memory map, the most that the file can grow to. Costs nothing until used.
    pub map_bytes: u64,
    /// A state table's full picture goes into the head at least once in so many samples.
    pub keyframe_every: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            map_bytes: 1 << 40,
            keyframe_every: 20,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    pub name: String,
    /// `PLUGIN.PROBE`, or `core`.
    pub probe: String,
    /// It is the default instance of its probe's tables.
    pub default: bool,
}

/// Rows in the layout of [`vwatch_model::TableSchema::arrow`].
#[derive(Debug, Clone)]
pub enum Body {
    /// The whole picture of a state table.
    Full(RecordBatch),
    /// What changed since the sample before: `gone` keys (in the layout of `key_arrow`) are removed first, then the rows
    /// of `changed` are added or replaced.
    Delta { changed: RecordBatch, gone: RecordBatch },
    /// Rows of an event table.
    Events(RecordBatch),
}

#[derive(Debug, Clone)]
pub struct Sample {
    pub table: TableId,
    pub instance: InstanceId,
    /// When the reading began, wall clock.
    pub time_ns: i64,
    /// The same moment on the boottime clock.
    pub boot_ns: i64,
    /// Time to the next sample as planned; 0 when the sample never expires.
    pub interval_ns: u64,
    pub body: Body,
}

/// What one [`crate::Writer::commit`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Number of the head record written; None when nothing was queued.
    pub sequence: Option<u64>,
    pub samples: u64,
    /// Rows written to the head: all of a keyframe, the changed ones of a delta.
    pub rows: u64,
    pub head_bytes: u64,
    /// Blocks sealed after the commit.
    pub blocks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub file_bytes: u64,
    /// Since the writer was opened.
    pub commits: u64,
    pub failed_commits: u64,
    /// Records in the head.
    pub head_records: u64,
    /// Since the writer was opened.
    pub blocks_sealed: u64,
    pub block_bytes: u64,
    pub failed_seals: u64,
    /// Rows of full pictures that had the key of a later row of the same picture.
    pub duplicate_keys: u64,
    /// Blocks that were put together, thinned out and deleted, since the writer was opened.
    pub blocks_merged: u64,
    pub blocks_thinned: u64,
    pub blocks_expired: u64,
    /// Slots of readers that had died.
    pub readers_cleared: u64,
    /// Earliest and latest sample time in the store.
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
}

impl Stats {
    pub(crate) fn count(&mut self, done: &crate::retention::Maintained) {
        use crate::retention::Work;
        match done.work {
            Some(Work::Merge) => self.blocks_merged += done.blocks,
            Some(Work::Thin) => self.blocks_thinned += done.blocks,
            Some(Work::Expire) => self.blocks_expired += done.blocks,
            None => {}
        }
    }
}

/// What the store says of the run before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousRun {
    pub last_commit: Stamp,
    pub boot_id: String,
    /// It ended with [`crate::Writer::close`].
    pub clean: bool,
    pub instances: Vec<SeenInstance>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenInstance {
    pub id: InstanceId,
    pub info: InstanceInfo,
    /// Latest sample time of any of its tables.
    pub last_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Beside a running writer: shares LMDB's lock file with it, which must be writable.
    Live,
    /// A file that nobody writes: no locks, nothing but the file itself is touched.
    Copy,
}

/// The last sample of a state table at or before a time.
#[derive(Debug, Clone)]
pub struct Picture {
    pub time_ns: i64,
    /// 0 when it never expires.
    pub interval_ns: u64,
    /// In the layout of [`crate::TableEntry::history_schema`], or the columns asked for.
    pub rows: RecordBatch,
}

#[derive(Debug, Clone)]
pub struct ScanRequest {
    pub table: TableId,
    /// An empty list reads nothing.
    pub instances: Vec<InstanceId>,
    /// Inclusive, as is `to_ns`.
    pub from_ns: i64,
    pub to_ns: i64,
    /// Columns of the answer, in this order; None for all.
    pub columns: Option<Vec<String>>,
    /// What every wanted row fulfils. A scan may leave out rows that do not; whoever asks filters again.
    pub conditions: Vec<Condition>,
}

/// A bound on the values of one column. NULL is in no range.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub column: String,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Inclusive; None is open.
    Range { min: Option<Scalar>, max: Option<Scalar> },
    /// One of these.
    In(Vec<Scalar>),
}

/// A value as a condition names it. One of another type than the column's says nothing, and is not used.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    Bool(bool),
    /// Columns of `i32`, `i64`, `u32` and `timestamp` (nanoseconds since the epoch).
    I64(i64),
    /// Columns of `u64`.
    U64(u64),
    F64(f64),
    String(String),
}
