//! From samples of the head to runs: what the sealer stores, and what a reader makes of a head that is not sealed yet.

use crate::block::{Content, SampleTime};
use crate::bytes::Flaw;
use crate::columns::shape::{HeadShape, Places};
use crate::head::{Entry, Kind};
use crate::payload::{self, Changes, Opened, Told};
use crate::reader::take;
use crate::schema::Version;
use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, TimestampNanosecondType};
use arrow_array::{Array, GenericByteArray, RecordBatch, UInt32Array};
use arrow_schema::{DataType, SchemaRef};
use std::collections::HashMap;

/// Which sample and which slot each row of a run belongs to, and what has gone when, in the order in which they were recorded.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub version: u32,
    pub samples: Vec<SampleTime>,
    pub at: Vec<u32>,
    pub slot: Vec<u32>,
    pub gone_at: Vec<u32>,
    pub gone_slot: Vec<u32>,
}

impl Frame {
    /// Begins with a keyframe, whose rows have these slots.
    pub fn begin(entry: &Entry, slot: Vec<u32>) -> Frame {
        Frame {
            version: entry.version,
            samples: vec![sample_time(entry)],
            at: vec![0; slot.len()],
            slot,
            ..Frame::default()
        }
    }

    /// Adds the next sample; answers which of its rows count, None for all.
    pub fn push(&mut self, entry: &Entry, shape: HeadShape) -> Result<Option<Vec<u32>>, Flaw> {
        let behind = self.samples.last().is_some_and(|s| s.time_ns >= entry.time_ns);
        if entry.version != self.version || behind {
            return Err("samples that do not follow one another".into());
        }
        let index = self.samples.len() as u32;
        self.samples.push(sample_time(entry));
        let rows = shape.changed(entry);
        match &rows {
            Some(rows) => self.slot.extend(rows.iter().map(|&row| shape.slot[row as usize])),
            None => self.slot.extend(shape.slot),
        }
        self.at.resize(self.slot.len(), index);
        self.gone_slot.extend(shape.gone_slot);
        self.gone_at.resize(self.gone_slot.len(), index);
        Ok(rows)
    }

    pub fn places(&self) -> Places<'_> {
        Places {
            at: &self.at,
            slot: &self.slot,
            gone_at: &self.gone_at,
            gone_slot: &self.gone_slot,
        }
    }

    /// One more than the highest slot of a row.
    pub fn slots(&self) -> u32 {
        self.slot.iter().max().map_or(0, |s| s + 1)
    }

    /// Numbers the slots without holes where there are some: a run that begins at a later keyframe has not all of them.
    pub fn close_up(&mut self) {
        let highest = self.slot.iter().max().copied();
        let dense = highest.is_none_or(|slot| (slot as usize) < self.slot.len());
        if dense && self.gone_slot.iter().all(|&slot| Some(slot) <= highest) {
            return;
        }
        let mut new_of = HashMap::with_capacity(self.slot.len());
        for slot in &mut self.slot {
            let next = new_of.len() as u32;
            *slot = *new_of.entry(*slot).or_insert(next);
        }
        let mut gone_at = Vec::with_capacity(self.gone_at.len());
        let mut gone_slot = Vec::with_capacity(self.gone_at.len());
        for (at, slot) in self.gone_at.iter().zip(&self.gone_slot) {
            if let Some(&new) = new_of.get(slot) {
                gone_at.push(*at);
                gone_slot.push(new);
            }
        }
        self.gone_at = gone_at;
        self.gone_slot = gone_slot;
    }
}

/// Samples of the head as their rows, put together for a reader.
#[derive(Debug)]
pub(crate) struct Run {
    frame: Frame,
    batches: Vec<RecordBatch>,
}

impl Run {
    /// Begins with a keyframe.
    pub fn begin(entry: &Entry, changes: Changes) -> Run {
        Run {
            frame: Frame::begin(entry, changes.slot),
            batches: vec![changes.rows],
        }
    }

    /// Adds the next sample.
    pub fn push(&mut self, entry: &Entry, changes: Changes) -> Result<(), Flaw> {
        let Changes {
            rows,
            at,
            slot,
            gone_slot,
            ..
        } = changes;
        let wanted = self.frame.push(entry, HeadShape { slot, at, gone_slot })?;
        self.batches.push(match wanted {
            None => rows,
            Some(wanted) => take(&rows, &wanted.into())?,
        });
        Ok(())
    }

    pub fn finish(mut self) -> Result<Content, Flaw> {
        self.frame.close_up();
        let rows = concat(&self.batches)?;
        let Frame {
            samples,
            at,
            slot,
            gone_at,
            gone_slot,
            ..
        } = self.frame;
        let changes = Changes {
            rows,
            at,
            slot,
            gone_at,
            gone_slot,
        };
        Ok(Content::state(samples, changes))
    }
}

fn sample_time(entry: &Entry) -> SampleTime {
    SampleTime {
        time_ns: entry.time_ns,
        boot_ns: entry.boot_ns,
        interval_ns: entry.interval_ns,
    }
}

/// A payload of a head sample with all its columns, not decoded yet.
pub(crate) fn open(entry: &Entry, stored: &[u8], version: &Version) -> Result<Opened, Flaw> {
    let wanted = payload::wanted(&version.arrow, None);
    let opened = payload::open(stored, told(entry), &version.arrow, &wanted)?;
    slots(entry, opened.shape.slot.len())?;
    Ok(opened)
}

/// The rows of a payload of a head sample, checked against its directory entry.
pub(crate) fn decode(
    entry: &Entry,
    stored: &[u8],
    version: &Version,
    projection: Option<&[usize]>,
) -> Result<Changes, Flaw> {
    let changes = payload::unpack(stored, told(entry), &version.arrow, projection)?;
    slots(entry, changes.slot.len())?;
    Ok(changes)
}

fn told(entry: &Entry) -> Told {
    Told {
        rows: entry.rows as usize,
        gone: entry.gone as usize,
        raw_bytes: entry.raw_bytes(),
    }
}

/// Whether there are as many slots as the entry says.
fn slots(entry: &Entry, slots: usize) -> Result<(), Flaw> {
    let due = match entry.kind {
        Kind::Events => 0,
        Kind::Keyframe { .. } | Kind::Delta => entry.rows as usize,
    };
    match slots == due {
        true => Ok(()),
        false => Err(format!("slots of {slots} rows where {due} are due")),
    }
}

/// Times of event rows, the first column.
pub(crate) fn event_times(batch: &RecordBatch) -> Result<&[i64], Flaw> {
    let times = batch
        .columns()
        .first()
        .and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>());
    Ok(times.ok_or("rows without times")?.values())
}

/// Stable: rows of one time stay in the order in which they were recorded.
pub(crate) fn sort_by_time(batch: RecordBatch) -> Result<RecordBatch, Flaw> {
    let times = event_times(&batch)?;
    if times.is_sorted() {
        return Ok(batch);
    }
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by_key(|&i| times[i as usize]);
    arrow_select::take::take_record_batch(&batch, &UInt32Array::from(order)).map_err(|e| e.to_string())
}

/// One batch of several that have the same columns; there is at least one.
pub(crate) fn concat(batches: &[RecordBatch]) -> Result<RecordBatch, Flaw> {
    match batches {
        [] => Err("no rows to put together".into()),
        [one] => Ok(one.clone()),
        [first, ..] if first.num_columns() == 0 => {
            let rows = batches.iter().map(RecordBatch::num_rows).sum();
            empty_rows(first.schema(), rows)
        }
        [first, ..] => arrow_select::concat::concat_batches(&first.schema(), batches).map_err(|e| e.to_string()),
    }
}

/// A batch of rows without columns.
fn empty_rows(schema: SchemaRef, rows: usize) -> Result<RecordBatch, Flaw> {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, Vec::new(), &options).map_err(|e| e.to_string())
}

/// Bytes of a batch's own rows, whatever buffers they lie in.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| column_bytes(c)).sum()
}

fn column_bytes(column: &dyn Array) -> usize {
    fn texts<T: ByteArrayType<Offset = i32>>(column: &GenericByteArray<T>) -> usize {
        let offsets = column.value_offsets();
        let bytes = offsets
            .last()
            .zip(offsets.first())
            .map_or(0, |(last, first)| last - first);
        bytes as usize + size_of_val(offsets)
    }
    let rows = column.len();
    let values = match column.data_type() {
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => texts(column.as_string()),
        DataType::Binary => texts(column.as_binary()),
        kind => kind.primitive_width().unwrap_or(0) * rows,
    };
    values + column.nulls().map_or(0, |_| rows.div_ceil(8))
}
