//! Rows as they lie in the head and in blocks: the one place that knows the codec.
//!
//! A payload is one zstd frame (level 1) of: counts, which sample and which slot each row belongs to, and the rows as one
//! Arrow IPC record batch message without its schema, which is the table's. FORMAT.md has it byte by byte.
//!
//! A *slot* is the place of one entity (one key) in a table's picture, from its first row on: a later row in the same slot
//! replaces the earlier one, so reading needs neither keys nor hashing.
//!
//! **Invariant:** nothing here trusts a length: counts are checked against the bytes that are there before anything is
//! allocated or sliced, and Arrow's own validation runs on every column. Cost: about 0.1 us a row and column to encode.

use crate::bytes::{Bytes, Flaw};
use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{MessageHeader, MetadataVersion};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use std::collections::HashMap;

/// Most bytes of a payload before compression. A writer splits what is larger.
pub(crate) const RAW_LIMIT: usize = 1 << 30;
const HEADER_BYTES: usize = 32;
const ALIGN: usize = 64;
const LEVEL: i32 = 1;

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

/// A payload ready to be stored.
#[derive(Debug)]
pub(crate) struct Packed {
    pub stored: Vec<u8>,
    pub raw_bytes: u32,
}

/// Encodes payloads; keeps its compressor and buffers.
pub(crate) struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    pub fn new() -> std::io::Result<Encoder> {
        let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5).map_err(std::io::Error::other)?;
        Ok(Encoder {
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
            options,
            context: IpcWriteContext::default(),
        })
    }

    pub fn pack(&mut self, changes: &Changes) -> Result<Packed, Flaw> {
        let mut dictionaries = DictionaryTracker::new(false);
        let (_, message) = IpcDataGenerator {}
            .encode(&changes.rows, &mut dictionaries, &self.options, &mut self.context)
            .map_err(|e| e.to_string())?;
        let counts = [
            changes.rows.num_rows(),
            changes.gone_at.len(),
            message.ipc_message.len(),
        ];
        let numbers = 4 * (changes.at.len() + changes.slot.len() + 2 * changes.gone_at.len());
        let meta_end = HEADER_BYTES + numbers + message.ipc_message.len();
        let raw_bytes = meta_end.next_multiple_of(ALIGN) + message.arrow_data.len();
        if raw_bytes > RAW_LIMIT {
            return Err(format!("{raw_bytes} bytes of rows; the limit is {RAW_LIMIT}"));
        }
        let mut raw = Vec::with_capacity(raw_bytes);
        for count in counts {
            // All are below RAW_LIMIT.
            raw.extend_from_slice(&(count as u32).to_le_bytes());
        }
        raw.extend_from_slice(&u32::from(!changes.at.is_empty()).to_le_bytes());
        raw.extend_from_slice(&(message.arrow_data.len() as u64).to_le_bytes());
        raw.extend_from_slice(&[0; 8]);
        for numbers in [&changes.at, &changes.slot, &changes.gone_at, &changes.gone_slot] {
            raw.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        }
        raw.extend_from_slice(&message.ipc_message);
        raw.resize(meta_end.next_multiple_of(ALIGN), 0);
        raw.extend_from_slice(&message.arrow_data);
        let stored = self.compressor.compress(&raw).map_err(|e| e.to_string())?;
        Ok(Packed {
            stored,
            raw_bytes: raw_bytes as u32,
        })
    }
}

/// Undoes [`Encoder::pack`]. `raw_bytes` is what the directory or block header says; `projection` are the wanted columns of
/// `schema`, in rising order.
pub(crate) fn unpack(
    stored: &[u8],
    raw_bytes: u32,
    schema: &SchemaRef,
    projection: Option<&[usize]>,
) -> Result<Changes, Flaw> {
    let raw = decompress(stored, raw_bytes as usize)?;
    let mut bytes = Bytes::new(&raw);
    let (rows, gone, meta) = (bytes.u32()? as usize, bytes.u32()? as usize, bytes.u32()? as usize);
    let slots = match bytes.u32()? {
        0 => 0,
        1 => rows,
        n => return Err(format!("payload kind {n}")),
    };
    let body_bytes = usize::try_from(bytes.u64()?).map_err(|e| e.to_string())?;
    bytes.take(8)?;
    let (at, slot) = (bytes.u32s(slots)?, bytes.u32s(slots)?);
    let (gone_at, gone_slot) = (bytes.u32s(gone)?, bytes.u32s(gone)?);
    let message = bytes.take(meta)?;
    let body_start = (raw.len() - bytes.rest().len()).next_multiple_of(ALIGN);
    if body_start.checked_add(body_bytes) != Some(raw.len()) {
        return Err(format!(
            "a body of {body_bytes} bytes from {body_start} in {} bytes",
            raw.len()
        ));
    }
    let body = raw.slice_with_length(body_start, body_bytes);
    let rows = read_batch(message, &body, rows, schema, projection)?;
    Ok(Changes {
        rows,
        at,
        slot,
        gone_at,
        gone_slot,
    })
}

fn decompress(stored: &[u8], raw_bytes: usize) -> Result<Buffer, Flaw> {
    if raw_bytes > RAW_LIMIT {
        return Err(format!("{raw_bytes} bytes of rows; the limit is {RAW_LIMIT}"));
    }
    // A frame says its own size: no allocation for a length that the frame does not have.
    let framed = zstd::zstd_safe::get_frame_content_size(stored).map_err(|e| e.to_string())?;
    if framed != Some(raw_bytes as u64) {
        return Err(format!("a frame of {framed:?} bytes where {raw_bytes} are due"));
    }
    let mut raw = MutableBuffer::from_len_zeroed(raw_bytes);
    let got = zstd::bulk::decompress_to_buffer(stored, raw.as_slice_mut()).map_err(|e| e.to_string())?;
    if got != raw_bytes {
        return Err(format!("{got} bytes where {raw_bytes} are due"));
    }
    Ok(raw.into())
}

fn read_batch(
    message: &[u8],
    body: &Buffer,
    rows: usize,
    schema: &SchemaRef,
    projection: Option<&[usize]>,
) -> Result<RecordBatch, Flaw> {
    // A flatbuffer's scalars are read at their alignment from the buffer's start.
    let aligned = Buffer::from(message);
    let message = arrow_ipc::root_as_message(&aligned).map_err(|e| e.to_string())?;
    if message.header_type() != MessageHeader::RecordBatch {
        return Err("an Arrow message that is no record batch".into());
    }
    let batch = message
        .header_as_record_batch()
        .ok_or("an Arrow message without its batch")?;
    check_layout(&batch, body.len(), rows, schema)?;
    let none = HashMap::new();
    arrow_ipc::reader::read_record_batch(body, batch, schema.clone(), &none, projection, &MetadataVersion::V5)
        .map_err(|e: ArrowError| e.to_string())
}

/// That every column has its node and buffers, and every buffer lies in the body: what Arrow's reader takes for granted.
fn check_layout(
    batch: &arrow_ipc::RecordBatch<'_>,
    body_bytes: usize,
    rows: usize,
    schema: &SchemaRef,
) -> Result<(), Flaw> {
    if batch.compression().is_some() || batch.variadicBufferCounts().is_some_and(|v| !v.is_empty()) {
        return Err("a batch in a form that is not used here".into());
    }
    if usize::try_from(batch.length()) != Ok(rows) {
        return Err(format!("a batch of {} rows where {rows} are due", batch.length()));
    }
    let nodes = batch.nodes().ok_or("a batch without nodes")?;
    let buffers = batch.buffers().ok_or("a batch without buffers")?;
    if nodes.len() != schema.fields().len() {
        return Err(format!(
            "{} columns where {} are due",
            nodes.len(),
            schema.fields().len()
        ));
    }
    let mut buffers = buffers.iter();
    for (node, field) in nodes.iter().zip(schema.fields()) {
        let nulls = usize::try_from(node.null_count()).map_err(|e| e.to_string())?;
        if usize::try_from(node.length()) != Ok(rows) || nulls > rows {
            return Err(format!("column {} has {} values", field.name(), node.length()));
        }
        for (i, least) in least_bytes(field.data_type(), rows, nulls).iter().flatten().enumerate() {
            let buffer = buffers.next().ok_or("buffers are missing")?;
            let start = usize::try_from(buffer.offset()).map_err(|e| e.to_string())?;
            let length = usize::try_from(buffer.length()).map_err(|e| e.to_string())?;
            let inside = start.checked_add(length).is_some_and(|end| end <= body_bytes);
            // Offsets are read as numbers of four bytes.
            let offsets = i == 1 && matches!(field.data_type(), DataType::Utf8 | DataType::Binary);
            let whole = !offsets || length.is_multiple_of(4);
            if !inside || !start.is_multiple_of(8) || length < *least || !whole {
                return Err(format!("buffer {i} of column {} does not fit", field.name()));
            }
        }
    }
    match buffers.next() {
        None => Ok(()),
        Some(_) => Err("more buffers than columns have".into()),
    }
}

/// Least bytes of each buffer of a column: validity, then values or offsets, then bytes.
fn least_bytes(kind: &DataType, rows: usize, nulls: usize) -> [Option<usize>; 3] {
    let mask = Some(if nulls == 0 { 0 } else { rows.div_ceil(8) });
    match kind {
        DataType::Utf8 | DataType::Binary => [mask, Some(if rows == 0 { 0 } else { (rows + 1) * 4 }), Some(0)],
        DataType::Boolean => [mask, Some(rows.div_ceil(8)), None],
        kind => [mask, Some(rows * kind.primitive_width().unwrap_or(0)), None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int32Array, StringArray};
    use arrow_schema::{Field, Schema};
    use std::sync::Arc;

    fn changes() -> Changes {
        let schema = Arc::new(Schema::new(vec![
            Field::new("pid", DataType::Int32, false),
            Field::new("comm", DataType::Utf8, true),
            Field::new("idle", DataType::Boolean, true),
            Field::new("load", DataType::Float64, false),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            Arc::new(Float64Array::from(vec![0.5, f64::NAN, -0.0])),
        ];
        Changes {
            rows: RecordBatch::try_new(schema, columns).unwrap(),
            at: vec![0, 0, 1],
            slot: vec![0, 1, 0],
            gone_at: vec![1],
            gone_slot: vec![1],
        }
    }

    #[test]
    fn comes_back_whole_and_in_part() {
        let given = changes();
        let packed = Encoder::new().unwrap().pack(&given).unwrap();
        let schema = given.rows.schema();
        let all = unpack(&packed.stored, packed.raw_bytes, &schema, None).unwrap();
        assert_eq!(format!("{:?}", all.rows), format!("{:?}", given.rows));
        assert_eq!((all.at, all.slot), (given.at, given.slot));
        assert_eq!((all.gone_at, all.gone_slot), (given.gone_at, given.gone_slot));
        let part = unpack(&packed.stored, packed.raw_bytes, &schema, Some(&[1])).unwrap();
        assert_eq!(part.rows, given.rows.project(&[1]).unwrap());
        let none = unpack(&packed.stored, packed.raw_bytes, &schema, Some(&[])).unwrap();
        assert_eq!((none.rows.num_rows(), none.rows.num_columns()), (3, 0));
    }

    /// The checksum is the caller's; here every byte of the raw payload is changed under a right one.
    #[test]
    fn changed_bytes_are_an_error_or_rows_never_a_panic() {
        let given = changes();
        let packed = Encoder::new().unwrap().pack(&given).unwrap();
        let raw = zstd::bulk::decompress(&packed.stored, 1 << 20).unwrap();
        for i in 0..raw.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut raw = raw.clone();
                raw[i] ^= flip;
                let stored = zstd::bulk::compress(&raw, 1).unwrap();
                let _ = unpack(&stored, packed.raw_bytes, &given.rows.schema(), None);
            }
        }
        for cut in 0..raw.len() {
            let stored = zstd::bulk::compress(&raw[..cut], 1).unwrap();
            assert!(
                unpack(&stored, cut as u32, &given.rows.schema(), None).is_err(),
                "{cut}"
            );
        }
    }
}
