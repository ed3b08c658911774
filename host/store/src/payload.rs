//! What changed in a run of samples, and how one sample of it lies in the head.

use crate::assemble::batch_bytes;
use crate::bytes::{Bytes, Flaw};
use crate::columns::numbers::Effort;
use crate::columns::shape::{self, HeadShape};
use crate::columns::typed::{self, Column, Emitted, Entities};
use crate::columns::{self, Directory, Packer, Packing, Parts, Style};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use std::sync::Arc;

/// A sample in the head is read within a minute, and whole: few frames, compressed fast.
const HEAD: Style = Style {
    level: 1,
    group_bytes: 64 << 10,
};

/// What changed in a run of samples. Rows and the gone are in the order of their samples.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    pub rows: RecordBatch,
    /// Per row, its sample's index. Empty for events.
    pub at: Vec<u32>,
    /// Per row, the slot that it fills. Empty for events.
    pub slot: Vec<u32>,
    pub gone_at: Vec<u32>,
    pub gone_slot: Vec<u32>,
}

impl Changes {
    pub fn events(rows: RecordBatch) -> Changes {
        Changes {
            rows,
            at: Vec::new(),
            slot: Vec::new(),
            gone_at: Vec::new(),
            gone_slot: Vec::new(),
        }
    }
}

/// A head payload ready to be stored.
#[derive(Debug)]
pub(crate) struct HeadPayload {
    pub stored: Vec<u8>,
    /// Bytes of its rows as plain columns.
    pub raw_bytes: u32,
}

/// A sample as it lies in the head: length of the directory, directory, body.
pub(crate) fn pack(packer: &mut Packer, changes: &Changes) -> Result<HeadPayload, Flaw> {
    let columns = changes.rows.columns();
    let mut packing = Packing::new(HEAD);
    let mut item = Vec::new();
    shape::encode_head(changes, &mut item);
    packing.add(packer, &item, None)?;
    for column in columns {
        item.clear();
        let flat = typed::flatten(column)?;
        typed::encode(column.data_type(), &flat, None, Effort::Little, &mut item)?;
        packing.add(packer, &item, None)?;
    }
    let packed = packing.finish(packer)?;
    let mut stored = Vec::with_capacity(4 + packed.directory.len() + packed.body.len());
    stored.extend_from_slice(&(packed.directory.len() as u32).to_le_bytes());
    stored.extend_from_slice(&packed.directory);
    stored.extend_from_slice(&packed.body);
    let raw_bytes = u32::try_from(batch_bytes(&changes.rows)).unwrap_or(u32::MAX);
    let numbers = changes.rows.num_rows() * (1 + columns.len()) + changes.gone_slot.len();
    let least = columns::least_bytes(numbers as u64, packed.raw_bytes.max(raw_bytes.into()));
    stored.resize(stored.len().max(least), 0);
    Ok(HeadPayload { stored, raw_bytes })
}

/// What the record's directory says of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub rows: usize,
    pub gone: usize,
    /// Bytes of its rows as plain columns.
    pub raw_bytes: u32,
}

/// A payload of the head, its columns not decoded yet.
pub(crate) struct Opened {
    pub shape: HeadShape,
    pub parts: Parts,
}

/// Reads a payload's front and the groups of the columns `wanted` of `schema`.
pub(crate) fn open(stored: &[u8], told: Told, schema: &SchemaRef, wanted: &[usize]) -> Result<Opened, Flaw> {
    let Told { rows, gone, raw_bytes } = told;
    let mut bytes = Bytes::new(stored);
    let directory_bytes = bytes.u32()? as usize;
    let directory = Directory::parse(bytes.take(directory_bytes)?, 1 + schema.fields().len())?;
    let numbers = rows as u64 * (1 + schema.fields().len()) as u64 + gone as u64;
    if stored.len() < columns::least_bytes(numbers, directory.raw_bytes().max(raw_bytes.into())) {
        return Err("more rows than its bytes can hold".into());
    }
    let items = std::iter::once(0).chain(wanted.iter().map(|i| i + 1));
    let mut parts = Parts::copy(directory, bytes.rest(), items)?;
    let shape = shape::decode_head(parts.item(0)?, rows, gone)?;
    Ok(Opened { shape, parts })
}

/// Undoes [`pack`]. `projection` are the wanted columns of `schema`, in rising order.
pub(crate) fn unpack(
    stored: &[u8],
    told: Told,
    schema: &SchemaRef,
    projection: Option<&[usize]>,
) -> Result<Changes, Flaw> {
    let wanted = wanted(schema, projection);
    let Opened { shape, mut parts } = open(stored, told, schema, &wanted)?;
    let HeadShape { slot, at, gone_slot } = shape;
    let column = |i: &usize| {
        let field = schema.field(*i);
        let what = |e: Flaw| format!("column {}: {e}", field.name());
        let column = Column::decode(field.data_type(), parts.item(i + 1)?, told.rows, &[]).map_err(what)?;
        let mut emitted = Emitted::with_capacity(told.rows);
        column.emit(Entities::First(told.rows), &mut emitted);
        column.array(emitted, told.raw_bytes.into())
    };
    let columns = wanted.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Changes {
        rows: batch(schema, &wanted, columns, told.rows)?,
        at,
        slot,
        gone_at: vec![0; gone_slot.len()],
        gone_slot,
    })
}

/// The columns of a projection, all without one.
pub(crate) fn wanted(schema: &SchemaRef, projection: Option<&[usize]>) -> Vec<usize> {
    projection.map_or_else(|| (0..schema.fields().len()).collect(), <[usize]>::to_vec)
}

/// A batch of some columns of a schema; of none, but still so many rows.
pub(crate) fn batch(
    schema: &SchemaRef,
    wanted: &[usize],
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, Flaw> {
    let schema = match wanted.len() == schema.fields().len() {
        true => schema.clone(),
        false => Arc::new(schema.project(wanted).map_err(|e| e.to_string())?),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int32Array, StringArray, UInt64Array};
    use arrow_schema::{DataType, Field, Schema};

    fn changes() -> Changes {
        let schema = Arc::new(Schema::new(vec![
            Field::new("pid", DataType::Int32, false),
            Field::new("comm", DataType::Utf8, true),
            Field::new("idle", DataType::Boolean, true),
            Field::new("load", DataType::Float64, false),
            Field::new("mask", DataType::UInt64, false),
            Field::new("data", DataType::Binary, true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("")])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            Arc::new(Float64Array::from(vec![0.5, f64::NAN, -0.0])),
            Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1])),
            Arc::new(BinaryArray::from(vec![None, None, None::<&[u8]>])),
        ];
        Changes {
            rows: RecordBatch::try_new(schema, columns).unwrap(),
            at: vec![0, 0, 1],
            slot: vec![0, 9, 7],
            gone_at: vec![0],
            gone_slot: vec![3],
        }
    }

    const TOLD: Told = Told {
        rows: 3,
        gone: 1,
        raw_bytes: 1000,
    };

    fn packed(given: &Changes) -> HeadPayload {
        pack(&mut Packer::new().unwrap(), given).unwrap()
    }

    #[test]
    fn comes_back_whole_and_in_part() {
        let given = changes();
        let stored = packed(&given).stored;
        let schema = given.rows.schema();
        let all = unpack(&stored, TOLD, &schema, None).unwrap();
        assert_eq!(format!("{:?}", all.rows), format!("{:?}", given.rows));
        assert_eq!((all.at, all.slot), (given.at, given.slot));
        assert_eq!((all.gone_at, all.gone_slot), (given.gone_at, given.gone_slot));
        let part = unpack(&stored, TOLD, &schema, Some(&[1])).unwrap();
        assert_eq!(part.rows, given.rows.project(&[1]).unwrap());
        let none = unpack(&stored, TOLD, &schema, Some(&[])).unwrap();
        assert_eq!((none.rows.num_rows(), none.rows.num_columns()), (3, 0));
    }

    /// The record's own checksum is the caller's.
    #[test]
    fn changed_bytes_are_an_error_or_rows_never_a_panic() {
        let given = changes();
        let stored = packed(&given).stored;
        for i in 0..stored.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut stored = stored.clone();
                stored[i] ^= flip;
                let _ = unpack(&stored, TOLD, &given.rows.schema(), None);
            }
        }
        for cut in 0..stored.len() {
            let short = unpack(&stored[..cut], TOLD, &given.rows.schema(), None);
            assert!(short.is_err(), "{cut}");
        }
        let more = Told { rows: 4, ..TOLD };
        assert!(unpack(&stored, more, &given.rows.schema(), None).is_err());
    }
}
