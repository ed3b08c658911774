//! Sound blocks, head records and columns to begin with.

use super::{EVENTS, INSTANCE, RECORD, STATE, VERSION, key, version};
use crate::block::{self, BlockKind, Content, SampleTime};
use crate::bytes::Flaw;
use crate::columns::Packer;
use crate::columns::numbers::{Effort, encode};
use crate::columns::shape::Places;
use crate::columns::typed::{self, Flat};
use crate::encode::{self, Columns, Outline};
use crate::head::{Builder, Entry, Kind, Place};
use crate::keys::BlockKey;
use crate::payload::{self, Changes};
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::*;
use arrow_schema::DataType;
use std::sync::Arc;
use vwatch_model::TableKind;
use vwatch_model::time::Stamp;

const SECOND: i64 = 1_000_000_000;

/// Numbers without a pattern.
fn noise(i: usize) -> u64 {
    (i as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// `rows` rows from `from` on; `wild` ones have no pattern, so that they are stored as they are.
pub(super) fn rows(kind: TableKind, from: usize, rows: usize, wild: bool) -> Result<RecordBatch, Flaw> {
    fn primitive<T: ArrowPrimitiveType>(
        at: std::ops::Range<usize>,
        of: impl Fn(usize) -> Option<T::Native>,
    ) -> PrimitiveArray<T> {
        at.map(of).collect()
    }
    let at = from..from + rows;
    let number = |i: usize| if wild { noise(i) } else { i as u64 * 1000 };
    let some = |i: usize| !wild || !noise(i).is_multiple_of(7);
    let text = |i: usize| match wild {
        true => format!("{:x}", noise(i) >> (i % 5 * 8)),
        false => format!("name-{}", i % 3),
    };
    let schema = version(kind).arrow.clone();
    let column = |field: &Arc<arrow_schema::Field>| -> ArrayRef {
        let null = |i: usize| field.is_nullable() && !some(i);
        match field.data_type() {
            DataType::Int32 => Arc::new(primitive::<types::Int32Type>(at.clone(), |i| Some(i as i32))),
            DataType::UInt32 => Arc::new(primitive::<types::UInt32Type>(at.clone(), |i| Some(number(i) as u32))),
            DataType::UInt64 => Arc::new(primitive::<types::UInt64Type>(at.clone(), |i| Some(number(i)))),
            DataType::Int64 => Arc::new(primitive::<types::Int64Type>(at.clone(), |i| Some(number(i) as i64))),
            DataType::Float64 => Arc::new(primitive::<types::Float64Type>(at.clone(), |i| {
                (!null(i)).then(|| {
                    if wild {
                        f64::from_bits(number(i))
                    } else {
                        i as f64 / 100.0
                    }
                })
            })),
            DataType::Timestamp(_, zone) => Arc::new(
                primitive::<types::TimestampNanosecondType>(at.clone(), |i| (!null(i)).then_some(i as i64 * SECOND))
                    .with_timezone_opt(zone.clone()),
            ),
            DataType::Boolean => Arc::new(
                at.clone()
                    .map(|i| (!null(i)).then_some(number(i) % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
            DataType::Binary => Arc::new(
                at.clone()
                    .map(|i| (!null(i)).then(|| text(i).into_bytes()))
                    .collect::<BinaryArray>(),
            ),
            _ => Arc::new(at.clone().map(|i| (!null(i)).then(|| text(i))).collect::<StringArray>()),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema, columns).map_err(|e| e.to_string())
}

/// Four entities, of which each later sample changes two; one goes and comes back as another.
fn state(samples: u32, wild: bool) -> Result<Content, Flaw> {
    let mut changes = Changes::events(rows(TableKind::State, 0, 4 + 2 * samples as usize, wild)?);
    changes.at = vec![0; 4];
    changes.slot = (0..4).collect();
    for sample in 1..=samples {
        changes.at.extend([sample; 2]);
        changes
            .slot
            .extend([sample % 2, if sample % 5 == 3 { 3 + sample } else { 2 }]);
        if sample % 5 == 4 {
            changes.gone_at.push(sample);
            changes.gone_slot.push(2 + sample);
        }
    }
    let time = |i| SampleTime {
        time_ns: i64::from(i) * SECOND,
        boot_ns: i64::from(i) * SECOND - 5,
        interval_ns: SECOND as u64,
    };
    Ok(slots_closed(Content::state((0..=samples).map(time).collect(), changes)))
}

/// Slots numbered without holes, in the order of their first rows, as they are in a run.
fn slots_closed(mut content: Content) -> Content {
    let mut order: Vec<u32> = Vec::new();
    for slot in &mut content.changes.slot {
        let place = order.iter().position(|s| s == slot).unwrap_or_else(|| {
            order.push(*slot);
            order.len() - 1
        });
        *slot = place as u32;
    }
    let place = |slot: &u32| order.iter().position(|s| s == slot).unwrap_or(0) as u32;
    content.changes.gone_slot = content.changes.gone_slot.iter().map(place).collect();
    content.slots = order.len() as u32;
    content
}

impl Columns for RecordBatch {
    fn rows(&self) -> usize {
        self.num_rows()
    }

    fn count(&self) -> usize {
        self.num_columns()
    }

    fn kind(&self, column: usize) -> &DataType {
        self.column(column).data_type()
    }

    fn flat(&self, column: usize) -> Result<Flat, Flaw> {
        typed::flatten(self.column(column))
    }
}

/// A run's blocks: keys and values. `key` is that of its first shard.
pub(super) fn blocks_of(
    content: &Content,
    key: BlockKey,
    packer: &mut Packer,
) -> Result<Vec<(BlockKey, Vec<u8>)>, Flaw> {
    let changes = &content.changes;
    let times: Vec<i64> = match content.kind {
        BlockKind::State => content.samples.iter().map(|s| s.time_ns).collect(),
        BlockKind::Events => block::times(&content.changes).to_vec(),
    };
    let ends = (times[0], times[times.len() - 1]);
    let outline = Outline {
        kind: content.kind,
        version: VERSION,
        first_ns: ends.0,
        last_ns: ends.1,
        samples: &content.samples,
        places: Places {
            at: &changes.at,
            slot: &changes.slot,
            gone_at: &changes.gone_at,
            gone_slot: &changes.gone_slot,
        },
        slots: content.slots,
    };
    encode::blocks(outline, &changes.rows, key, packer)
}

/// Blocks: small and larger ones, regular and without a pattern, of both kinds.
pub fn block() -> Result<Vec<Vec<u8>>, String> {
    let mut packer = Packer::new().map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    for (count, wild) in [(0, true), (3, true), (3, false), (20, true), (59, false)] {
        let blocks = blocks_of(&state(count, wild)?, key(STATE, 0), &mut packer)?;
        out.extend(blocks.into_iter().map(|(_, value)| value));
        let events = Changes::events(rows(TableKind::Event, 0, 1 + count as usize, wild)?);
        let blocks = blocks_of(&Content::events(events), key(EVENTS, 0), &mut packer)?;
        out.extend(blocks.into_iter().map(|(_, value)| value));
    }
    Ok(out)
}

/// Head records: a keyframe, deltas and events in one.
pub fn head() -> Result<Vec<Vec<u8>>, String> {
    let mut packer = Packer::new().map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    for (count, wild) in [(2, true), (4, false), (12, true)] {
        let mut builder = Builder::default();
        for sample in 0..3u32 {
            let kind = [
                Kind::Keyframe { fresh: true },
                Kind::Delta,
                Kind::Keyframe { fresh: false },
            ][sample as usize];
            let mut changes = Changes::events(rows(TableKind::State, sample as usize, count, wild)?);
            changes.slot = (0..count as u32).collect();
            changes.at = (0..count as u32)
                .map(|i| u32::from(sample == 2 && i % 2 == 0))
                .collect();
            if sample == 1 {
                changes.gone_at = vec![0];
                changes.gone_slot = vec![1];
            }
            builder.push(
                entry(kind, i64::from(sample) * SECOND, &changes),
                payload::pack(&mut packer, &changes)?,
            );
        }
        let changes = Changes::events(rows(TableKind::Event, 0, count, wild)?);
        builder.push(entry(Kind::Events, 0, &changes), payload::pack(&mut packer, &changes)?);
        let commit = Stamp { wall_ns: 7, boot_ns: 7 };
        out.push(builder.finish(&RECORD, commit));
    }
    Ok(out)
}

fn entry(kind: Kind, time_ns: i64, changes: &Changes) -> Entry {
    Entry {
        table: if kind == Kind::Events { EVENTS } else { STATE },
        instance: INSTANCE,
        version: VERSION,
        kind,
        time_ns,
        last_ns: time_ns,
        boot_ns: time_ns,
        interval_ns: SECOND as u64,
        rows: changes.rows.num_rows() as u32,
        gone: changes.gone_slot.len() as u32,
        place: Place::default(),
    }
}

/// Columns of each type, without later rows; streams of numbers.
pub fn columns() -> Result<Vec<Vec<u8>>, String> {
    let mut out = Vec::new();
    for wild in [false, true] {
        let rows = rows(TableKind::State, 0, 9, wild)?;
        for (which, column) in rows.columns().iter().enumerate() {
            let mut raw = vec![which as u8, 9];
            let flat = typed::flatten(column)?;
            typed::encode(column.data_type(), &flat, None, Effort::Full, &mut raw)?;
            // What later rows change: none.
            raw.push(0);
            out.push(raw);
        }
        for which in [20, 21, 22, 23, 24] {
            let mut raw = vec![which, 16];
            let values: Vec<i64> = (0..16)
                .map(|i| if wild { noise(i) as i64 % 900 } else { 3 * i as i64 })
                .collect();
            encode(&values, &mut raw);
            out.push(raw);
        }
    }
    Ok(out)
}
