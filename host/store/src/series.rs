//! What is kept of each table and instance that has ever met: the span of its blocks and how much is in them.
//!
//! **Invariants:** blocks, bytes, samples, rows and plain bytes are exact: what adds, replaces or deletes a block brings them up
//! to date in the same transaction. The times bound searches: every block lies between first and last, and none is longer
//! than the span or overlaps another without the flag; after blocks were deleted they may be wider than they need to be.

use crate::block;
use crate::bytes::{self, Bytes, Flaw};
use crate::keys::{self, BlockKey};
use crate::types::{InstanceId, TableId};

const FLAG_OVERLAP: u32 = 1;

/// What one run's blocks add to its series, which counts them as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub first_ns: i64,
    pub last_ns: i64,
    pub bytes: u64,
    pub samples: u64,
    /// Rows of the pictures at all its samples, or events.
    pub rows: u64,
    /// What these rows would take as plain columns.
    pub raw_bytes: u64,
}

impl Figures {
    /// Of the blocks of one run.
    pub fn of(run: &[(BlockKey, Vec<u8>)]) -> Result<Figures, Flaw> {
        let mut figures = Figures::default();
        for (key, value) in run {
            figures.add(&block::header(key, value)?, value.len());
        }
        Ok(figures)
    }

    /// One more block of the run, its value's length with it.
    pub fn add(&mut self, header: &block::Header, bytes: usize) {
        self.first_ns = self.first_ns.min(header.first_ns);
        self.last_ns = self.last_ns.max(header.last_ns);
        self.bytes += bytes as u64;
        self.samples = header.samples.len() as u64;
        self.rows += header.picture_rows;
        self.raw_bytes += plain_bytes(header.raw_bytes, header.rows, header.picture_rows);
    }
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            first_ns: i64::MAX,
            last_ns: i64::MIN,
            bytes: 0,
            samples: 0,
            rows: 0,
            raw_bytes: 0,
        }
    }
}

/// Bytes of `picture_rows` rows, when `rows` of them came to `raw_bytes`.
pub(crate) fn plain_bytes(raw_bytes: u64, rows: u32, picture_rows: u64) -> u64 {
    let bytes = u128::from(raw_bytes) * u128::from(picture_rows) / u128::from(rows.max(1));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    /// Number of the next block.
    pub next_block: u32,
    /// Some block begins before an earlier one ends: the clock was stepped back, or events came late.
    pub overlap: bool,
    /// Earliest and latest time in its blocks; the first is greater while there are none.
    pub first_ns: i64,
    pub last_ns: i64,
    /// Longest time from a block's first to its last row or sample.
    pub span_ns: u64,
    pub blocks: u64,
    pub bytes: u64,
    pub samples: u64,
    pub rows: u64,
    pub raw_bytes: u64,
}

impl Default for Series {
    fn default() -> Self {
        Series {
            next_block: 0,
            overlap: false,
            first_ns: i64::MAX,
            last_ns: i64::MIN,
            span_ns: 0,
            blocks: 0,
            bytes: 0,
            samples: 0,
            rows: 0,
            raw_bytes: 0,
        }
    }
}

impl Series {
    pub fn key(table: TableId, instance: InstanceId) -> [u8; 8] {
        keys::pair(table.0, instance.0)
    }

    /// A block of what was recorded last.
    pub fn add_block(&mut self, block: &Figures) {
        self.overlap |= block.first_ns <= self.last_ns;
        self.put_block(block);
    }

    /// A block in the place of others, which overlaps none that they did not.
    pub fn put_block(&mut self, block: &Figures) {
        self.first_ns = self.first_ns.min(block.first_ns);
        self.last_ns = self.last_ns.max(block.last_ns);
        self.span_ns = self.span_ns.max(block.last_ns.abs_diff(block.first_ns));
        self.next_block = self.next_block.wrapping_add(1);
        self.blocks += 1;
        self.bytes += block.bytes;
        self.samples += block.samples;
        self.rows += block.rows;
        self.raw_bytes = self.raw_bytes.saturating_add(block.raw_bytes);
    }

    /// A block is no more. Its times are looked after by [`Series::begin_at`].
    pub fn remove_block(&mut self, block: &Figures) {
        self.blocks = self.blocks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(block.bytes);
        self.samples = self.samples.saturating_sub(block.samples);
        self.rows = self.rows.saturating_sub(block.rows);
        self.raw_bytes = self.raw_bytes.saturating_sub(block.raw_bytes);
    }

    /// After blocks were deleted: the start of the first that is left; None when none is.
    pub fn begin_at(&mut self, first_ns: Option<i64>) {
        match first_ns {
            Some(first_ns) => self.first_ns = first_ns,
            None => {
                *self = Series {
                    next_block: self.next_block,
                    ..Series::default()
                }
            }
        }
    }

    /// Earliest and latest time, when it has blocks.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        (self.first_ns <= self.last_ns).then_some((self.first_ns, self.last_ns))
    }

    pub fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(72);
        body.extend_from_slice(&self.next_block.to_le_bytes());
        body.extend_from_slice(&(u32::from(self.overlap) * FLAG_OVERLAP).to_le_bytes());
        body.extend_from_slice(&self.first_ns.to_le_bytes());
        body.extend_from_slice(&self.last_ns.to_le_bytes());
        let counts = [
            self.span_ns,
            self.blocks,
            self.bytes,
            self.samples,
            self.rows,
            self.raw_bytes,
        ];
        for n in counts {
            body.extend_from_slice(&n.to_le_bytes());
        }
        bytes::checked(key, &body)
    }

    pub fn decode(key: &[u8], value: &[u8]) -> Result<Series, Flaw> {
        let mut fields = Bytes::new(bytes::check(key, value)?);
        Ok(Series {
            next_block: fields.u32()?,
            overlap: fields.u32()? & FLAG_OVERLAP != 0,
            first_ns: fields.i64()?,
            last_ns: fields.i64()?,
            span_ns: fields.u64()?,
            blocks: fields.u64()?,
            bytes: fields.u64()?,
            samples: fields.u64()?,
            rows: fields.u64()?,
            raw_bytes: fields.u64()?,
        })
    }
}
