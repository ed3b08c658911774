//! Blocks being written: a run of samples or events, one column at a time. FORMAT.md has the bytes.
//!
//! A run's rows may lie in memory or in other payloads ([`crate::draft`]); what is asked of them is one column after the other,
//! so that encoding needs room for one.

use crate::block::{BlockKind, FORMAT, HEADER_BYTES, SAMPLES_LIMIT, SampleTime};
use crate::bytes::{self, Flaw};
use crate::columns::bounds::Summary;
use crate::columns::numbers::{self, Effort};
use crate::columns::shape::{Ordered, Places, ROWS_LIMIT};
use crate::columns::typed::{self, Flat};
use crate::columns::{self, Packed, Packer, Packing, Style};
use crate::keys::BlockKey;
use arrow_schema::DataType;

/// A block stays for as long as it is kept, and is read a column at a time.
const BLOCK: Style = Style {
    level: 3,
    group_bytes: 4 << 10,
};
/// Entities of one block; a run with more is cut into shards of [`SHARD`].
const UNCUT: u32 = 2048;
const SHARD: u32 = 1024;

/// The rows of a run, a column at a time, each in the same order.
pub(crate) trait Columns {
    fn rows(&self) -> usize;

    fn count(&self) -> usize;

    fn kind(&self, column: usize) -> &DataType;

    fn flat(&self, column: usize) -> Result<Flat, Flaw>;
}

/// What there is to say of a run beside its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outline<'a> {
    pub kind: BlockKind,
    pub version: u32,
    pub first_ns: i64,
    pub last_ns: i64,
    /// Empty of events, like `places`.
    pub samples: &'a [SampleTime],
    pub places: Places<'a>,
    /// Above all of the places' slots.
    pub slots: u32,
}

/// One block being put together.
struct Open {
    key: BlockKey,
    /// None of events, whose rows stay in their order.
    ordered: Option<Ordered>,
    rows: usize,
    packing: Packing,
    /// The column that is being encoded.
    item: Vec<u8>,
    /// Bytes of its rows as plain columns.
    raw_bytes: u64,
}

/// The run's blocks: keys and values. `key` is that of its first shard.
pub(crate) fn blocks(
    outline: Outline<'_>,
    columns: &dyn Columns,
    key: BlockKey,
    packer: &mut Packer,
) -> Result<Vec<(BlockKey, Vec<u8>)>, Flaw> {
    let samples = outline.samples.len();
    if samples > SAMPLES_LIMIT {
        return Err(format!("{samples} samples are too many"));
    }
    if outline.places.gone_slot.iter().any(|&slot| slot >= outline.slots) {
        return Err("an entity is gone that never was".into());
    }
    let cuts = match outline.slots {
        0..=UNCUT => 1,
        slots => slots.div_ceil(SHARD),
    };
    let shards = u16::try_from(cuts).map_err(|_| format!("{} entities", outline.slots))?;
    let open = |shard: u16| {
        let ordered = match (outline.kind, shards) {
            (BlockKind::Events, _) => None,
            (BlockKind::State, 1) => Some(Ordered::new(outline.places, 0..outline.slots, samples)?),
            (BlockKind::State, _) => {
                let from = u32::from(shard) * SHARD;
                let own = from..outline.slots.min(from + SHARD);
                Some(Ordered::new(outline.places, own, samples)?)
            }
        };
        Open::new(BlockKey { shard, ..key }, ordered, columns.rows(), packer)
    };
    let mut blocks = (0..shards).map(open).collect::<Result<Vec<Open>, Flaw>>()?;
    for column in 0..columns.count() {
        let kind = columns.kind(column);
        let flat = columns.flat(column)?;
        for block in &mut blocks {
            block.add(kind, &flat, packer)?;
        }
    }
    let items = 1 + columns.count();
    let finish = |block: Open| block.finish(&outline, shards, items, packer);
    blocks.into_iter().map(finish).collect()
}

impl Open {
    fn new(key: BlockKey, ordered: Option<Ordered>, rows: usize, packer: &mut Packer) -> Result<Open, Flaw> {
        let rows = ordered.as_ref().map_or(rows, |o| o.order.len());
        if rows > ROWS_LIMIT {
            return Err(format!("{rows} rows are too many"));
        }
        let mut shape = Vec::new();
        if let Some(ordered) = &ordered {
            ordered.encode(&mut shape);
        }
        let mut packing = Packing::new(BLOCK);
        packing.add(packer, &shape, None)?;
        Ok(Open {
            key,
            ordered,
            rows,
            packing,
            item: shape,
            raw_bytes: 0,
        })
    }

    fn add(&mut self, kind: &DataType, flat: &Flat, packer: &mut Packer) -> Result<(), Flaw> {
        let picked;
        let flat = match &self.ordered {
            Some(ordered) => {
                picked = flat.in_order(&ordered.order)?;
                &picked
            }
            None => flat,
        };
        self.item.clear();
        let plan = self.ordered.as_ref().map(|o| &o.plan);
        typed::encode(kind, flat, plan, Effort::Full, &mut self.item)?;
        self.raw_bytes += flat.raw_bytes(kind);
        self.packing.add(packer, &self.item, Some(Summary::of(kind, flat)))
    }

    fn finish(
        self,
        outline: &Outline<'_>,
        shards: u16,
        items: usize,
        packer: &mut Packer,
    ) -> Result<(BlockKey, Vec<u8>), Flaw> {
        let packed = self.packing.finish(packer)?;
        let (ordered, rows) = (&self.ordered, self.rows);
        let gone = ordered.as_ref().map_or(0, Ordered::gone);
        let entities = ordered.as_ref().map_or(0, |o| o.plan.entities);
        let picture_rows = ordered.as_ref().map_or(rows as u64, Ordered::picture_rows);
        let times = encode_times(outline.samples);
        let Packed { directory, body, .. } = &packed;
        let mut out = Vec::with_capacity(HEADER_BYTES + times.len() + directory.len() + body.len());
        let kind = match outline.kind {
            BlockKind::State => 1,
            BlockKind::Events => 2,
        };
        out.extend_from_slice(&[FORMAT, kind]);
        out.extend_from_slice(&shards.to_le_bytes());
        out.extend_from_slice(&outline.version.to_le_bytes());
        out.extend_from_slice(&outline.first_ns.to_le_bytes());
        out.extend_from_slice(&outline.last_ns.to_le_bytes());
        let samples = outline.samples.len();
        for n in [samples, rows, gone, entities, times.len(), directory.len()] {
            out.extend_from_slice(&u32::try_from(n).map_err(|e| e.to_string())?.to_le_bytes());
        }
        out.extend_from_slice(&self.raw_bytes.to_le_bytes());
        out.extend_from_slice(&picture_rows.to_le_bytes());
        let sum = bytes::crc(&[&self.key.encode(), &out, &times, directory]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(HEADER_BYTES, 0);
        out.extend_from_slice(&times);
        out.extend_from_slice(directory);
        out.extend_from_slice(body);
        let numbers = (rows * items + gone) as u64;
        let least = columns::least_bytes(numbers, self.raw_bytes.max(packed.raw_bytes));
        out.resize(out.len().max(least), 0);
        Ok((self.key, out))
    }
}

/// Wall times, how far the boottime clock lies behind them, intervals.
fn encode_times(samples: &[SampleTime]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |of: &dyn Fn(&SampleTime) -> i64| {
        let column: Vec<i64> = samples.iter().map(of).collect();
        numbers::encode(&column, &mut out);
    };
    put(&|s| s.time_ns);
    put(&|s| s.time_ns.wrapping_sub(s.boot_ns));
    put(&|s| s.interval_ns as i64);
    out
}
