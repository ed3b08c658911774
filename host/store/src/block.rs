//! Blocks: a run of samples of one table and instance, or a run of events sorted by time. FORMAT.md has the bytes.
//!
//! A state block's first sample is a full picture; the others are what changed. Sample times rise strictly, so a time is
//! found by bisection; a clock that was stepped back begins a new block. A run with very many entities is cut into *shards*,
//! each with all the samples and its share of the entities.

use crate::bytes::{self, Bytes, Flaw};
use crate::columns::numbers;
use crate::columns::shape::{ROWS_LIMIT, Shape};
use crate::columns::typed::{Column, Emitted, Entities};
use crate::columns::{self, Directory, Parts};
use crate::keys::BlockKey;
use crate::payload::{self, Changes};
use crate::schema::Version;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;

pub(crate) const FORMAT: u8 = 2;
pub(crate) const HEADER_BYTES: usize = 72;
const SUM_AT: usize = 64;
const EMPTY: u32 = u32::MAX;
/// Most samples of a block: their times are read whenever it is looked at.
pub(crate) const SAMPLES_LIMIT: usize = 1 << 17;
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
    /// Blocks that the run was cut into; this is one of them.
    pub shards: u16,
    pub version: u32,
    pub first_ns: i64,
    pub last_ns: i64,
    pub rows: u32,
    gone: u32,
    pub slots: u32,
    /// Bytes of its rows as plain columns.
    pub raw_bytes: u64,
    /// Rows of the pictures at all its samples, or events.
    pub picture_rows: u64,
    /// Empty in a block of events.
    pub samples: Vec<SampleTime>,
    directory_at: usize,
    body_at: usize,
}

impl Header {
    /// The last sample at or before a time.
    pub fn sample_at(&self, at_ns: i64) -> Option<usize> {
        self.samples.partition_point(|s| s.time_ns <= at_ns).checked_sub(1)
    }

    /// Where the columns of a version lie in the block, and what they hold.
    pub fn directory(&self, block: &[u8], version: &Version) -> Result<Directory, Flaw> {
        let raw = block
            .get(self.directory_at..self.body_at)
            .ok_or("its directory is cut off")?;
        let items = 1 + version.arrow.fields().len();
        let directory = Directory::parse(raw, items)?;
        let numbers = u64::from(self.rows) * items as u64 + u64::from(self.gone);
        match block.len() >= columns::least_bytes(numbers, directory.raw_bytes()) {
            true => Ok(directory),
            false => Err("more rows than its bytes can hold".into()),
        }
    }

    /// Copies what is needed to decode the columns `wanted` of its version.
    pub fn parts(&self, block: &[u8], directory: Directory, wanted: &[usize]) -> Result<Parts, Flaw> {
        let body = block.get(self.body_at..).ok_or("its columns are cut off")?;
        Parts::copy(directory, body, std::iter::once(0).chain(wanted.iter().map(|i| i + 1)))
    }

    pub fn shape(&self, parts: &mut Parts) -> Result<Shape, Flaw> {
        let shape = Shape::decode(
            parts.item(0)?,
            self.samples.len(),
            self.rows as usize,
            self.gone as usize,
        )?;
        match shape.entities == self.slots as usize {
            true => Ok(shape),
            false => Err("its entities are not as many as it says".into()),
        }
    }
}

/// A run's samples and rows, decoded or about to be encoded.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub kind: BlockKind,
    pub samples: Vec<SampleTime>,
    pub changes: Changes,
    /// Slots of the picture; 0 for events.
    pub slots: u32,
}

impl Content {
    /// `samples` is not empty.
    pub fn state(samples: Vec<SampleTime>, changes: Changes) -> Content {
        let slots = changes.slot.iter().max().map_or(0, |s| s + 1);
        Content {
            kind: BlockKind::State,
            samples,
            changes,
            slots,
        }
    }

    /// `changes` has at least one row, and its rows are sorted by time.
    pub fn events(changes: Changes) -> Content {
        Content {
            kind: BlockKind::Events,
            samples: Vec::new(),
            changes,
            slots: 0,
        }
    }
}

fn decode_times(bytes: &mut Bytes<'_>, count: usize) -> Result<Vec<SampleTime>, Flaw> {
    let wall = numbers::decode(bytes, count)?;
    let behind = numbers::decode(bytes, count)?;
    let interval = numbers::decode(bytes, count)?;
    if !bytes.rest().is_empty() {
        return Err("bytes after its times".into());
    }
    let sample = |i: usize| SampleTime {
        time_ns: wall[i],
        boot_ns: wall[i].wrapping_sub(behind[i]),
        interval_ns: interval[i] as u64,
    };
    Ok((0..count).map(sample).collect())
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
    let shards = fields.u16()?;
    let version = fields.u32()?;
    let (first_ns, last_ns) = (fields.i64()?, fields.i64()?);
    let (count, rows, gone, slots) = (fields.u32()? as usize, fields.u32()?, fields.u32()?, fields.u32()?);
    let (times_bytes, directory_bytes) = (fields.u32()? as usize, fields.u32()? as usize);
    let (raw_bytes, picture_rows) = (fields.u64()?, fields.u64()?);
    let sum = fields.u32()?;
    let (times, directory) = (bytes.take(times_bytes)?, bytes.take(directory_bytes)?);
    if bytes::crc(&[&key.encode(), &front[..SUM_AT], times, directory]) != sum {
        return Err("its header's checksum does not match".into());
    }
    if count > SAMPLES_LIMIT || rows as usize > ROWS_LIMIT {
        return Err(format!("{count} samples and {rows} rows are more than a block has"));
    }
    if block.len() < columns::least_bytes(u64::from(rows), raw_bytes) {
        return Err("more rows than its bytes can hold".into());
    }
    let samples = decode_times(&mut Bytes::new(times), count)?;
    let rising = samples.is_sorted_by(|a, b| a.time_ns < b.time_ns);
    let bounds = match (samples.first(), samples.last()) {
        (Some(first), Some(last)) => kind == BlockKind::State && first.time_ns == first_ns && last.time_ns == last_ns,
        _ => kind == BlockKind::Events && first_ns <= last_ns,
    };
    if !rising || !bounds || first_ns != key.start_ns || slots > rows || gone > rows || key.shard >= shards {
        return Err("its header contradicts itself".into());
    }
    let directory_at = HEADER_BYTES + times_bytes;
    Ok(Header {
        kind,
        shards,
        version,
        first_ns,
        last_ns,
        rows,
        gone,
        slots,
        raw_bytes,
        picture_rows,
        samples,
        directory_at,
        body_at: directory_at + directory_bytes,
    })
}

/// One block, all rows of the wanted columns of its version.
pub(crate) fn content(
    key: &BlockKey,
    block: &[u8],
    version: &Version,
    projection: Option<&[usize]>,
) -> Result<Content, Flaw> {
    let header = header(key, block)?;
    let wanted = payload::wanted(&version.arrow, projection);
    let mut parts = header.parts(block, header.directory(block, version)?, &wanted)?;
    parts.check()?;
    match header.kind {
        BlockKind::Events => events(header, &mut parts, version, &wanted),
        BlockKind::State => state(header, &mut parts, version, &wanted),
    }
}

/// Decodes a block of events: the wanted columns of its version, the time among them.
pub(crate) fn events(header: Header, parts: &mut Parts, version: &Version, wanted: &[usize]) -> Result<Content, Flaw> {
    let rows = header.rows as usize;
    let column = |i: &usize| {
        let field = version.arrow.field(*i);
        let what = |e: Flaw| format!("column {}: {e}", field.name());
        let column = Column::decode(field.data_type(), parts.item(i + 1)?, rows, &[]).map_err(what)?;
        let mut emitted = Emitted::with_capacity(rows);
        column.emit(Entities::First(rows), &mut emitted);
        column.array(emitted, header.raw_bytes)
    };
    let columns = wanted.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let changes = Changes::events(payload::batch(&version.arrow, wanted, columns, rows)?);
    let is_time = |c: &arrow_array::ArrayRef| c.as_primitive_opt::<TimestampNanosecondType>().is_some();
    if !changes.rows.columns().first().is_some_and(is_time) {
        return Err("its rows have no times".into());
    }
    let times = times(&changes);
    let ends = times.first() == Some(&header.first_ns) && times.last() == Some(&header.last_ns);
    if !ends || !times.is_sorted() {
        return Err("its rows are not in the order of their times".into());
    }
    Ok(Content {
        kind: BlockKind::Events,
        samples: Vec::new(),
        changes,
        slots: 0,
    })
}

/// Decodes every row of a state block, sample by sample.
fn state(header: Header, parts: &mut Parts, version: &Version, wanted: &[usize]) -> Result<Content, Flaw> {
    let shape = header.shape(parts)?;
    let samples = 0..header.samples.len();
    let mut changes = Changes::events(arrow_array::RecordBatch::new_empty(version.arrow.clone()));
    for sample in samples.clone() {
        let born = shape.born_of(sample).map(|e| e as u32);
        changes
            .slot
            .extend(shape.later[shape.later_of(sample)].iter().copied().chain(born));
        changes.at.resize(changes.slot.len(), sample as u32);
        changes.gone_slot.extend(&shape.gone[shape.gone_of(sample)]);
        changes.gone_at.resize(changes.gone_slot.len(), sample as u32);
    }
    let mut columns = Vec::with_capacity(wanted.len());
    for &i in wanted {
        let field = version.arrow.field(i);
        let what = |e: Flaw| format!("column {}: {e}", field.name());
        let raw = parts.item(i + 1)?;
        let mut column = Column::decode(field.data_type(), raw, shape.entities, &shape.later).map_err(what)?;
        let mut emitted = Emitted::with_capacity(changes.slot.len());
        let mut from = 0;
        for sample in samples.clone() {
            column.advance(&shape.later, shape.later_ends[sample]);
            let end = from + shape.later_of(sample).len() + shape.born_of(sample).len();
            column.emit(Entities::These(&changes.slot[from..end]), &mut emitted);
            from = end;
        }
        columns.push(column.array(emitted, header.raw_bytes)?);
    }
    changes.rows = payload::batch(&version.arrow, wanted, columns, changes.slot.len())?;
    Ok(Content {
        kind: BlockKind::State,
        samples: header.samples,
        changes,
        slots: header.slots,
    })
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

/// The picture of decoded rows, moved forward sample by sample.
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

    /// Applies all samples up to `sample`. Only forward.
    pub fn advance(&mut self, content: &Content, sample: usize) {
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
                self.slots[changes.gone_slot[self.next_gone] as usize] = EMPTY;
                self.next_gone += 1;
            } else {
                self.slots[changes.slot[self.next_row] as usize] = self.next_row as u32;
                self.next_row += 1;
            }
        }
    }

    /// Rows of the picture as it stands, in the order in which their entities came.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().copied().filter(|&r| r != EMPTY)
    }
}
