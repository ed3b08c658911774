//! The baseline: samples as below (facebookincubator/below, `store/src/lib.rs`) lays them down.
//!
//! A sample is one frame: CBOR (RFC 8949), a map from process to a map from field name to value. A frame is compressed by
//! zstd at its default level; the first of each 16 stands alone and is, uncompressed, the dictionary of the other 15. Each
//! frame has a 32-byte entry in an index. Processes are encoded from columns, without the tree of objects that is between
//! there: the time is a lower bound of theirs.

use crate::Failed;
use crate::cost::{self, Cost};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use std::collections::HashMap;
use zstd::bulk::{Compressor, Decompressor};

const CHUNK: usize = 16;
const INDEX_BYTES: usize = 32;
/// zstd's default, which below leaves as it is.
pub const LEVEL: i32 = 3;
/// Where the dictionary of a large host begins to be of full use; below cannot be set to it.
pub const STRONGER: i32 = 9;
const FRAME_LIMIT: usize = 1 << 28;

pub struct Log {
    level: i32,
    frames: Vec<Vec<u8>>,
    keyframe: Vec<u8>,
    rows: u64,
    cost: Cost,
}

impl Log {
    pub fn new(level: i32) -> Log {
        Log {
            level,
            frames: Vec::new(),
            keyframe: Vec::new(),
            rows: 0,
            cost: Cost::default(),
        }
    }

    pub fn push(&mut self, rows: &RecordBatch) -> Result<(), Failed> {
        let (packed, cost) = cost::of(|| self.pack(rows));
        self.frames.push(packed?);
        self.rows += rows.num_rows() as u64;
        self.cost.add(cost);
        Ok(())
    }

    fn pack(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Failed> {
        let frame = encode(rows)?;
        let alone = self.frames.len().is_multiple_of(CHUNK);
        let mut compressor = match alone {
            true => Compressor::new(self.level)?,
            false => Compressor::with_dictionary(self.level, &self.keyframe)?,
        };
        let packed = compressor.compress(&frame)?;
        if alone {
            self.keyframe = frame;
        }
        Ok(packed)
    }

    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    pub fn bytes_a_row(&self) -> f64 {
        let bytes: usize = self.frames.iter().map(|f| f.len() + INDEX_BYTES).sum();
        bytes as f64 / self.rows.max(1) as f64
    }

    pub fn cpu_us_a_row(&self) -> f64 {
        self.cost.cpu_ns / 1e3 / self.rows.max(1) as f64
    }

    /// The rows of one frame, after its chunk's first frame, without which it cannot be read.
    pub fn frame(&self, n: usize, fields: &Fields) -> Result<Vec<Row>, Failed> {
        let first = n / CHUNK * CHUNK;
        let keyframe = unpack(&self.frames[first], &[])?;
        match n == first {
            true => fields.rows(&keyframe),
            false => fields.rows(&unpack(&self.frames[n], &keyframe)?),
        }
    }

    /// All rows of a chunk, its first frame unpacked once.
    pub fn chunk(&self, chunk: usize, fields: &Fields) -> Result<usize, Failed> {
        let of_chunk = &self.frames[chunk * CHUNK..];
        let keyframe = unpack(&of_chunk[0], &[])?;
        let mut rows = fields.rows(&keyframe)?.len();
        for frame in of_chunk[1..].iter().take(CHUNK - 1) {
            rows += fields.rows(&unpack(frame, &keyframe)?)?.len();
        }
        Ok(rows)
    }

    pub fn chunks(&self) -> usize {
        self.frames.len().div_ceil(CHUNK)
    }
}

fn unpack(frame: &[u8], dictionary: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut decompressor = Decompressor::with_dictionary(dictionary)?;
    let bytes = Decompressor::upper_bound(frame).unwrap_or(FRAME_LIMIT);
    Ok(decompressor.decompress(frame, bytes.min(FRAME_LIMIT))?)
}

fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    match value {
        0..24 => out.push(major | value as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => head(out, 0, value),
        Err(_) => head(out, 1, !value as u64),
    }
}

/// The frame of one sample: its rows by their first column.
fn encode(rows: &RecordBatch) -> Result<Vec<u8>, Failed> {
    let mut out = Vec::with_capacity(rows.num_rows() * rows.num_columns() * 16);
    let schema = rows.schema();
    head(&mut out, 5, rows.num_rows() as u64);
    for row in 0..rows.num_rows() {
        value(&mut out, rows.column(0), row)?;
        head(&mut out, 5, rows.num_columns() as u64);
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            head(&mut out, 3, field.name().len() as u64);
            out.extend_from_slice(field.name().as_bytes());
            value(&mut out, column, row)?;
        }
    }
    Ok(out)
}

fn value(out: &mut Vec<u8>, column: &dyn Array, row: usize) -> Result<(), Failed> {
    if column.is_null(row) {
        out.push(0xf6);
        return Ok(());
    }
    match column.data_type() {
        DataType::Boolean => out.push(0xf4 | u8::from(column.as_boolean().value(row))),
        DataType::Int32 => integer(out, i64::from(column.as_primitive::<Int32Type>().value(row))),
        DataType::Int64 => integer(out, column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => head(out, 0, u64::from(column.as_primitive::<UInt32Type>().value(row))),
        DataType::UInt64 => head(out, 0, column.as_primitive::<UInt64Type>().value(row)),
        DataType::Timestamp(..) => integer(out, column.as_primitive::<TimestampNanosecondType>().value(row)),
        DataType::Float64 => {
            out.push(0xfb);
            out.extend_from_slice(&column.as_primitive::<Float64Type>().value(row).to_be_bytes());
        }
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row);
            head(out, 3, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        other => return Err(format!("the baseline has no form for {other}").into()),
    }
    Ok(())
}

/// A value as a reader of CBOR has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
}

pub type Row = Vec<Value>;

/// The fields of a row, found by name as a deserialiser of structs does.
pub struct Fields(HashMap<String, usize>);

impl Fields {
    pub fn of(rows: &RecordBatch) -> Fields {
        let schema = rows.schema();
        let names = schema.fields().iter().enumerate();
        Fields(names.map(|(n, field)| (field.name().clone(), n)).collect())
    }

    fn rows(&self, frame: &[u8]) -> Result<Vec<Row>, Failed> {
        let mut bytes = frame;
        let (_, count) = take_head(&mut bytes)?;
        let mut rows = Vec::with_capacity(count.min(1 << 20) as usize);
        for _ in 0..count {
            take_value(&mut bytes)?;
            let (_, fields) = take_head(&mut bytes)?;
            let mut row = vec![Value::Null; self.0.len()];
            for _ in 0..fields {
                let (_, length) = take_head(&mut bytes)?;
                let name = std::str::from_utf8(take(&mut bytes, length as usize)?)?;
                let at = *self.0.get(name).ok_or("a field that nobody knows")?;
                row[at] = take_value(&mut bytes)?;
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Failed> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or("a frame that ends too early")?;
    *bytes = rest;
    Ok(taken)
}

fn take_head(bytes: &mut &[u8]) -> Result<(u8, u64), Failed> {
    let first = take(bytes, 1)?[0];
    let value = match first & 0x1f {
        n @ 0..24 => u64::from(n),
        n @ 24..28 => {
            let more = take(bytes, 1 << (n - 24))?;
            more.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        }
        n => return Err(format!("a length of kind {n}").into()),
    };
    Ok((first >> 5, value))
}

fn take_value(bytes: &mut &[u8]) -> Result<Value, Failed> {
    let first = *bytes.first().ok_or("a frame that ends too early")?;
    let (major, value) = take_head(bytes)?;
    Ok(match (major, first) {
        (0, _) => Value::Integer(i128::from(value)),
        (1, _) => Value::Integer(-1 - i128::from(value)),
        (3, _) => Value::Text(std::str::from_utf8(take(bytes, value as usize)?)?.to_owned()),
        (_, 0xf4 | 0xf5) => Value::Bool(first == 0xf5),
        (_, 0xf6) => Value::Null,
        (_, 0xfb) => Value::Float(f64::from_bits(value)),
        _ => return Err(format!("a value that begins with {first:#x}").into()),
    })
}
