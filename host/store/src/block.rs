//! Blocks: a run of samples of one table and instance, or a run of events sorted by time. FORMAT.md has the bytes.
//!
//! A state block's first sample is a full picture; the others are what changed. Sample times rise strictly, so a time is
//! found by bisection; a clock that was stepped back begins a new block.

use crate::bytes::{self, Bytes, Flaw};
use crate::keys::BlockKey;
use crate::payload::{self, Changes, Encoder};
use crate::schema::Version;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 64;
const STAMP_BYTES: usize = 24;
const EMPTY: u32 = u32::MAX;

/// When a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SampleTime {
    pub time_ns: i64,
    pub boot_ns: i64,
    pub interval_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    State,
    Events,
}

/// What a block says of itself in front of its rows.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub kind: BlockKind,
    pub version: u32,
    pub first_ns: i64,
    pub last_ns: i64,
    pub rows: u32,
    pub slots: u32,
    pub raw_bytes: u32,
    /// Rows of the pictures at all its samples, or events.
    pub picture_rows: u64,
    stored_bytes: u32,
    crc: u32,
    /// Empty in a block of events.
    pub samples: Vec<SampleTime>,
    payload_at: usize,
}

impl Header {
    /// The last sample at or before a time.
    pub fn sample_at(&self, at_ns: i64) -> Option<usize> {
        self.samples.partition_point(|s| s.time_ns <= at_ns).checked_sub(1)
    }

    pub fn payload<'a>(&self, block: &'a [u8]) -> Result<&'a [u8], Flaw> {
        let mut bytes = Bytes::new(block);
        bytes.take(self.payload_at)?;
        let stored = bytes.take(self.stored_bytes as usize)?;
        if bytes::crc(&[stored]) != self.crc {
            return Err("the checksum of its rows does not match".into());
        }
        Ok(stored)
    }
}

/// A block's samples and rows, decoded or about to be encoded.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub kind: BlockKind,
    pub version: u32,
    pub samples: Vec<SampleTime>,
    pub changes: Changes,
    /// Times of the first and the last row or sample.
    pub first_ns: i64,
    pub last_ns: i64,
    /// Slots of the picture; 0 for events.
    pub slots: u32,
}

impl Content {
    /// `samples` is not empty.
    pub fn state(version: u32, samples: Vec<SampleTime>, changes: Changes) -> Content {
        let slots = changes.slot.iter().max().map_or(0, |s| s + 1);
        Content {
            kind: BlockKind::State,
            version,
            first_ns: samples.first().map_or(0, |s| s.time_ns),
            last_ns: samples.last().map_or(0, |s| s.time_ns),
            samples,
            changes,
            slots,
        }
    }

    /// `changes` has at least one row, and its rows are sorted by time.
    pub fn events(version: u32, changes: Changes) -> Content {
        let times = times(&changes);
        Content {
            kind: BlockKind::Events,
            version,
            first_ns: times.first().copied().unwrap_or(0),
            last_ns: times.last().copied().unwrap_or(0),
            samples: Vec::new(),
            changes,
            slots: 0,
        }
    }

    /// Rows of the pictures at all samples, or events.
    pub fn picture_rows(&self) -> u64 {
        if self.kind == BlockKind::Events {
            return self.changes.rows.num_rows() as u64;
        }
        let mut replay = Replay::new(self);
        let mut live = 0;
        let samples = 0..self.samples.len();
        samples
            .map(|sample| {
                live += replay.advance(self, sample);
                u64::try_from(live).unwrap_or(0)
            })
            .sum()
    }

    /// The block's value.
    pub fn encode(&self, key: &BlockKey, encoder: &mut Encoder) -> Result<Vec<u8>, Flaw> {
        let packed = encoder.pack(&self.changes)?;
        let mut out = Vec::with_capacity(HEADER_BYTES + self.samples.len() * STAMP_BYTES + packed.stored.len());
        let kind = match self.kind {
            BlockKind::State => 1,
            BlockKind::Events => 2,
        };
        out.extend_from_slice(&[FORMAT, kind, 0, 0]);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.first_ns.to_le_bytes());
        out.extend_from_slice(&self.last_ns.to_le_bytes());
        let numbers = [
            self.samples.len() as u32,
            self.changes.rows.num_rows() as u32,
            self.changes.gone_at.len() as u32,
            self.slots,
            packed.raw_bytes,
            packed.stored.len() as u32,
            bytes::crc(&[&packed.stored]),
        ];
        for n in numbers {
            out.extend_from_slice(&n.to_le_bytes());
        }
        let mut stamps = Vec::with_capacity(self.samples.len() * STAMP_BYTES);
        for sample in &self.samples {
            stamps.extend_from_slice(&sample.time_ns.to_le_bytes());
            stamps.extend_from_slice(&sample.boot_ns.to_le_bytes());
            stamps.extend_from_slice(&sample.interval_ns.to_le_bytes());
        }
        let picture_rows = self.picture_rows().to_le_bytes();
        let sum = bytes::crc(&[&key.encode(), &out, &picture_rows, &stamps]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&picture_rows);
        out.extend_from_slice(&stamps);
        out.extend_from_slice(&packed.stored);
        Ok(out)
    }
}

/// Reads what is in front of a block's rows. Only those bytes of `block` are touched.
pub(crate) fn header(key: &BlockKey, block: &[u8]) -> Result<Header, Flaw> {
    let mut bytes = Bytes::new(block);
    let front = bytes.take(HEADER_BYTES)?;
    let mut fields = Bytes::new(front);
    let format = fields.u8()?;
    if format != FORMAT {
        return Err(format!("its format is {format}"));
    }
    let kind = match fields.u8()? {
        1 => BlockKind::State,
        2 => BlockKind::Events,
        n => return Err(format!("its kind is {n}")),
    };
    fields.take(2)?;
    let version = fields.u32()?;
    let (first_ns, last_ns) = (fields.i64()?, fields.i64()?);
    let (count, rows, gone, slots) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    let (raw_bytes, stored_bytes, crc, sum) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    let picture_rows = fields.u64()?;
    let stamps = bytes.take((count as usize).checked_mul(STAMP_BYTES).ok_or("count overflows")?)?;
    if bytes::crc(&[&key.encode(), &front[..52], &front[56..], stamps]) != sum {
        return Err("its header's checksum does not match".into());
    }
    let mut fields = Bytes::new(stamps);
    let mut samples = Vec::with_capacity(count as usize);
    for _ in 0..count {
        samples.push(SampleTime {
            time_ns: fields.i64()?,
            boot_ns: fields.i64()?,
            interval_ns: fields.u64()?,
        });
    }
    let rising = samples.is_sorted_by(|a, b| a.time_ns < b.time_ns);
    let bounds = match (samples.first(), samples.last()) {
        (Some(first), Some(last)) => first.time_ns == first_ns && last.time_ns == last_ns,
        _ => kind == BlockKind::Events && first_ns <= last_ns,
    };
    if !rising || !bounds || first_ns != key.start_ns || slots > rows || (gone > rows) {
        return Err("its header contradicts itself".into());
    }
    Ok(Header {
        kind,
        version,
        first_ns,
        last_ns,
        rows,
        slots,
        raw_bytes,
        picture_rows,
        stored_bytes,
        crc,
        samples,
        payload_at: HEADER_BYTES + stamps.len(),
    })
}

/// Decodes a block's rows: the wanted columns of its version.
pub(crate) fn content(
    header: Header,
    payload: &[u8],
    version: &Version,
    projection: Option<&[usize]>,
) -> Result<Content, Flaw> {
    let changes = payload::unpack(payload, header.raw_bytes, &version.arrow, projection)?;
    let count = changes.rows.num_rows();
    if count != header.rows as usize {
        return Err(format!("{count} rows where {} are due", header.rows));
    }
    match header.kind {
        BlockKind::Events => check_events(&header, &changes)?,
        BlockKind::State => check_state(&header, &changes)?,
    }
    Ok(Content {
        kind: header.kind,
        version: header.version,
        samples: header.samples,
        changes,
        first_ns: header.first_ns,
        last_ns: header.last_ns,
        slots: header.slots,
    })
}

fn check_events(header: &Header, changes: &Changes) -> Result<(), Flaw> {
    let is_time = |c: &arrow_array::ArrayRef| c.as_primitive_opt::<TimestampNanosecondType>().is_some();
    if !changes.rows.columns().first().is_some_and(is_time) {
        return Err("its rows have no times".into());
    }
    let times = times(changes);
    let ends = times.first() == Some(&header.first_ns) && times.last() == Some(&header.last_ns);
    if !ends || !times.is_sorted() {
        return Err("its rows are not in the order of their times".into());
    }
    Ok(())
}

fn check_state(header: &Header, changes: &Changes) -> Result<(), Flaw> {
    let samples = header.samples.len() as u32;
    let ordered = |at: &[u32]| at.is_sorted() && at.last().is_none_or(|&a| a < samples);
    let inside = |slots: &[u32]| slots.iter().all(|&s| s < header.slots);
    let whole = changes.at.len() == changes.rows.num_rows();
    if !whole
        || !ordered(&changes.at)
        || !ordered(&changes.gone_at)
        || !inside(&changes.slot)
        || !inside(&changes.gone_slot)
    {
        return Err("its rows do not fit its samples".into());
    }
    Ok(())
}

/// Times of a block of events, whose first column they are.
pub(crate) fn times(changes: &Changes) -> &[i64] {
    changes
        .rows
        .columns()
        .first()
        .and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>())
        .map_or(&[], |c| c.values())
}

/// A state block's picture, moved forward sample by sample.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Row in each slot.
    slots: Vec<u32>,
    next_row: usize,
    next_gone: usize,
}

impl Replay {
    pub fn new(content: &Content) -> Replay {
        Replay {
            slots: vec![EMPTY; content.slots as usize],
            next_row: 0,
            next_gone: 0,
        }
    }

    /// Applies all samples up to `sample`. Only forward. Answers by how many rows the picture grew.
    pub fn advance(&mut self, content: &Content, sample: usize) -> i64 {
        let mut grown = 0;
        let changes = &content.changes;
        let until = |at: &[u32], from: usize| from + at[from..].partition_point(|&a| a as usize <= sample);
        let rows_end = until(&changes.at, self.next_row);
        let gone_end = until(&changes.gone_at, self.next_gone);
        // Within a sample the gone go first; across samples their order is the samples'.
        while self.next_row < rows_end || self.next_gone < gone_end {
            let row_at = changes.at[..rows_end].get(self.next_row).copied().unwrap_or(EMPTY);
            let gone_at = changes.gone_at[..gone_end]
                .get(self.next_gone)
                .copied()
                .unwrap_or(EMPTY);
            if gone_at <= row_at {
                let place = &mut self.slots[changes.gone_slot[self.next_gone] as usize];
                grown -= i64::from(*place != EMPTY);
                *place = EMPTY;
                self.next_gone += 1;
            } else {
                let place = &mut self.slots[changes.slot[self.next_row] as usize];
                grown += i64::from(*place == EMPTY);
                *place = self.next_row as u32;
                self.next_row += 1;
            }
        }
        grown
    }

    /// The row in each slot, `u32::MAX` where there is none.
    pub fn places(&self) -> &[u32] {
        &self.slots
    }

    /// Rows of the picture as it stands, in the order in which their entities came.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().copied().filter(|&r| r != EMPTY)
    }
}
