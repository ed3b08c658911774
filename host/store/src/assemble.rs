//! From samples of the head to blocks: what the sealer stores, and what a reader makes of a head that is not sealed yet.

use crate::block::{Content, SampleTime};
use crate::bytes::Flaw;
use crate::head::{Entry, Kind};
use crate::payload::{self, Changes, Told};
use crate::schema::Version;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use std::collections::HashMap;

/// Events of one hour go into one block, so that a late row (a gap that is told of after it) does not stretch the block.
const HOUR_NS: i64 = 3_600_000_000_000;
/// Events of about so many bytes make a block.
const EVENT_BLOCK_BYTES: usize = 32 << 20;

/// Samples of one table and instance, in the order in which they were recorded, put together into one block.
#[derive(Debug)]
pub(crate) struct Run {
    version: u32,
    samples: Vec<SampleTime>,
    batches: Vec<RecordBatch>,
    at: Vec<u32>,
    slot: Vec<u32>,
    gone_at: Vec<u32>,
    gone_slot: Vec<u32>,
}

impl Run {
    /// Begins with a keyframe.
    pub fn begin(entry: &Entry, changes: Changes) -> Run {
        Run {
            version: entry.version,
            samples: vec![sample_time(entry)],
            at: vec![0; changes.rows.num_rows()],
            slot: changes.slot,
            batches: vec![changes.rows],
            gone_at: Vec::new(),
            gone_slot: Vec::new(),
        }
    }

    /// Adds the next sample.
    pub fn push(&mut self, entry: &Entry, changes: Changes) -> Result<(), Flaw> {
        let behind = self.samples.last().is_some_and(|s| s.time_ns >= entry.time_ns);
        if entry.version != self.version || behind {
            return Err("samples that do not follow one another".into());
        }
        let index = self.samples.len() as u32;
        self.samples.push(sample_time(entry));
        let (rows, slots) = match entry.kind {
            Kind::Keyframe { .. } => only_changed(&changes)?,
            Kind::Delta | Kind::Events => (changes.rows, changes.slot),
        };
        self.at.resize(self.at.len() + rows.num_rows(), index);
        self.slot.extend(slots);
        self.gone_at.resize(self.gone_at.len() + changes.gone_slot.len(), index);
        self.gone_slot.extend(changes.gone_slot);
        self.batches.push(rows);
        Ok(())
    }

    pub fn finish(mut self) -> Result<Content, Flaw> {
        self.close_up();
        let rows = put_together(self.batches)?;
        Ok(Content::state(
            self.version,
            self.samples,
            Changes {
                rows,
                at: self.at,
                slot: self.slot,
                gone_at: self.gone_at,
                gone_slot: self.gone_slot,
            },
        ))
    }

    /// Numbers the slots without holes where there are some: a run that begins at a later keyframe has not all of them.
    fn close_up(&mut self) {
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

fn sample_time(entry: &Entry) -> SampleTime {
    SampleTime {
        time_ns: entry.time_ns,
        boot_ns: entry.boot_ns,
        interval_ns: entry.interval_ns,
    }
}

/// The rows of a keyframe that the sample changed.
fn only_changed(changes: &Changes) -> Result<(RecordBatch, Vec<u32>), Flaw> {
    let mask: BooleanArray = changes.at.iter().map(|&a| Some(a != 0)).collect();
    let slots = changes
        .slot
        .iter()
        .zip(&changes.at)
        .filter(|(_, a)| **a != 0)
        .map(|(s, _)| *s);
    let slots = slots.collect();
    let rows = arrow_select::filter::filter_record_batch(&changes.rows, &mask).map_err(|e| e.to_string())?;
    Ok((rows, slots))
}

/// A payload of a head sample, checked against its directory entry.
pub(crate) fn decode(
    entry: &Entry,
    stored: &[u8],
    version: &Version,
    projection: Option<&[usize]>,
) -> Result<Changes, Flaw> {
    let rows = entry.rows as usize;
    let told = Told {
        rows,
        gone: entry.gone as usize,
        raw_bytes: entry.raw_bytes(),
    };
    let changes = payload::unpack(stored, told, &version.arrow, projection)?;
    let slots = match entry.kind {
        Kind::Events => 0,
        Kind::Keyframe { .. } | Kind::Delta => rows,
    };
    match changes.at.len() == slots {
        true => Ok(changes),
        false => Err(format!("slots of {} rows where {slots} are due", changes.at.len())),
    }
}

/// Blocks of events of one version from the batches in which they came.
pub(crate) fn events(version: u32, batches: &[RecordBatch]) -> Result<Vec<Content>, Flaw> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (i, batch) in batches.iter().enumerate() {
        bytes += batch_bytes(batch);
        if bytes >= EVENT_BLOCK_BYTES || i + 1 == batches.len() {
            sorted_events(version, &batches[from..=i], &mut out)?;
            from = i + 1;
            bytes = 0;
        }
    }
    Ok(out)
}

fn sorted_events(version: u32, batches: &[RecordBatch], out: &mut Vec<Content>) -> Result<(), Flaw> {
    let sorted = sort_by_time(concat(batches)?)?;
    let times = event_times(&sorted)?;
    let mut from = 0;
    while from < times.len() {
        let hour = times[from].div_euclid(HOUR_NS);
        let count = times[from..].partition_point(|t| t.div_euclid(HOUR_NS) == hour);
        out.push(Content::events(version, Changes::events(sorted.slice(from, count))));
        from += count;
    }
    Ok(())
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

/// The same, giving up each column's parts as soon as they are one: both whole would be most of what a sealing needs.
fn put_together(batches: Vec<RecordBatch>) -> Result<RecordBatch, Flaw> {
    let schema = match batches.as_slice() {
        [] | [_] => return concat(&batches),
        [first, ..] if first.num_columns() == 0 => return concat(&batches),
        [first, ..] => first.schema(),
    };
    let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::with_capacity(batches.len()); schema.fields().len()];
    for batch in batches {
        let (_, parts, _) = batch.into_parts();
        for (column, part) in columns.iter_mut().zip(parts) {
            column.push(part);
        }
    }
    let whole = columns.into_iter().map(|parts| {
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        arrow_select::concat::concat(&parts)
    });
    let whole = whole.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    RecordBatch::try_new(schema, whole).map_err(|e| e.to_string())
}

/// A batch of rows without columns.
fn empty_rows(schema: SchemaRef, rows: usize) -> Result<RecordBatch, Flaw> {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, Vec::new(), &options).map_err(|e| e.to_string())
}

/// Bytes of a batch's own rows, whatever buffers they lie in.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    let of = |c: &arrow_array::ArrayRef| c.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(of).sum()
}
