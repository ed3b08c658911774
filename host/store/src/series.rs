//! What is kept of each table and instance that has ever met: the span of its blocks.

use crate::bytes::{self, Bytes, Flaw};
use crate::keys;
use crate::types::{InstanceId, TableId};

const FLAG_OVERLAP: u32 = 1;

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
        }
    }
}

impl Series {
    pub fn key(table: TableId, instance: InstanceId) -> [u8; 8] {
        keys::pair(table.0, instance.0)
    }

    pub fn add_block(&mut self, first_ns: i64, last_ns: i64, bytes: usize) {
        self.overlap |= first_ns <= self.last_ns;
        self.first_ns = self.first_ns.min(first_ns);
        self.last_ns = self.last_ns.max(last_ns);
        self.span_ns = self.span_ns.max(last_ns.abs_diff(first_ns));
        self.next_block = self.next_block.wrapping_add(1);
        self.blocks += 1;
        self.bytes += bytes as u64;
    }

    /// Earliest and latest time, when it has blocks.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        (self.first_ns <= self.last_ns).then_some((self.first_ns, self.last_ns))
    }

    pub fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(48);
        body.extend_from_slice(&self.next_block.to_le_bytes());
        body.extend_from_slice(&(u32::from(self.overlap) * FLAG_OVERLAP).to_le_bytes());
        body.extend_from_slice(&self.first_ns.to_le_bytes());
        body.extend_from_slice(&self.last_ns.to_le_bytes());
        for n in [self.span_ns, self.blocks, self.bytes] {
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
        })
    }
}
