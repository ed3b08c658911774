//! Columns of every type as numbers, and back: integers as they are, floats by their bits or as decimals, texts by their
//! place in a dictionary of the distinct ones.

use super::lane::{self, Cursor, Lane, Plan};
use super::numbers::{self, Effort, put_varint};
use super::shape::Ordered;
use crate::bytes::{Bytes, Flaw};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, BinaryType, ByteArrayType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType,
    UInt32Type, UInt64Type, Utf8Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, GenericByteArray, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use hashbrown::HashMap;
use std::sync::Arc;

/// Floats that are whole multiples of 10^-k are stored as those multiples.
const DECIMALS: [f64; 4] = [1.0, 100.0, 1_000.0, 1_000_000.0];
const RAW_BITS: u8 = 0xff;
/// Above this a float has no place for decimals, and not every whole number is one.
const EXACT: f64 = 9e15;
/// Most bytes of all texts of one column, which Arrow's offsets of 32 bits can address.
const TEXT_LIMIT: usize = i32::MAX as usize;

/// What a column of rows comes to before it is encoded.
pub(crate) struct Flat<'a> {
    /// In the order of the rows; anything where a row is NULL.
    pub values: Vec<i64>,
    pub valid: Option<Vec<bool>>,
    /// Of texts, which `values` number.
    pub texts: Vec<&'a [u8]>,
}

/// The column's rows, in the order of a block's, floats by their bits.
pub(crate) fn flatten<'a>(column: &'a ArrayRef, block: Option<&Ordered>) -> Result<Flat<'a>, Flaw> {
    fn primitive<T: ArrowPrimitiveType>(
        column: &ArrayRef,
        order: Option<&[u32]>,
        to: impl Fn(T::Native) -> i64,
    ) -> Vec<i64> {
        let values = column.as_primitive::<T>().values();
        match order {
            None => values.iter().map(|&v| to(v)).collect(),
            Some(order) => order.iter().map(|&i| to(values[i as usize])).collect(),
        }
    }
    let order = block.map(|b| b.order.as_slice());
    let mut texts = Vec::new();
    let values = match column.data_type() {
        DataType::Boolean => {
            let flags = column.as_boolean();
            rows(column.len(), order).map(|i| i64::from(flags.value(i))).collect()
        }
        DataType::Int32 => primitive::<Int32Type>(column, order, i64::from),
        DataType::Int64 => primitive::<Int64Type>(column, order, |v| v),
        DataType::UInt32 => primitive::<UInt32Type>(column, order, i64::from),
        DataType::UInt64 => primitive::<UInt64Type>(column, order, |v| v as i64),
        DataType::Float64 => primitive::<Float64Type>(column, order, |v| v.to_bits() as i64),
        DataType::Timestamp(..) => primitive::<TimestampNanosecondType>(column, order, |v| v),
        DataType::Utf8 => indices::<Utf8Type>(column, block, &mut texts),
        DataType::Binary => indices::<BinaryType>(column, block, &mut texts),
        kind => return Err(format!("a column of type {kind}")),
    };
    let valid = match column.null_count() {
        0 => None,
        _ => column
            .nulls()
            .map(|nulls| rows(column.len(), order).map(|i| nulls.is_valid(i)).collect()),
    };
    Ok(Flat { values, valid, texts })
}

fn rows(count: usize, order: Option<&[u32]>) -> impl Iterator<Item = usize> + '_ {
    let count = order.map_or(count, <[u32]>::len);
    (0..count).map(move |i| order.map_or(i, |o| o[i] as usize))
}

/// Numbers each distinct text. Most rows have the text that their entity had, or the row before: those are not looked up.
fn indices<'a, T: ByteArrayType>(column: &'a ArrayRef, block: Option<&Ordered>, texts: &mut Vec<&'a [u8]>) -> Vec<i64> {
    let column: &'a GenericByteArray<T> = column.as_bytes::<T>();
    let nulls = column.nulls();
    let mut known: HashMap<&[u8], i64> = HashMap::new();
    let mut last = 0;
    let mut of_entity = vec![0; block.map_or(0, |b| b.plan.entities)];
    let mut out = Vec::with_capacity(column.len());
    for (row, i) in rows(column.len(), block.map(|b| b.order.as_slice())).enumerate() {
        if nulls.is_some_and(|n| n.is_null(i)) {
            out.push(0);
            continue;
        }
        let text: &'a [u8] = column.value(i).as_ref();
        let entity = block.map(|b| b.plan.entity[row] as usize);
        let likely = entity.filter(|_| block.is_some_and(|b| !b.plan.first[row]));
        let likely = likely.map_or(last, |e| of_entity[e]);
        if texts.get(likely as usize) == Some(&text) {
            last = likely;
        } else {
            last = *known.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() as i64 - 1
            });
        }
        if let Some(e) = entity {
            of_entity[e] = last;
        }
        out.push(last);
    }
    out
}

/// Appends the column. Without a plan every row is the first of its entity.
pub(crate) fn encode(
    kind: &DataType,
    flat: &Flat<'_>,
    plan: Option<&Plan>,
    effort: Effort,
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    match kind {
        DataType::Utf8 | DataType::Binary => {
            let bytes: usize = flat.texts.iter().map(|t| t.len()).sum();
            if bytes > TEXT_LIMIT {
                return Err(format!(
                    "{bytes} bytes of texts in one column; the limit is {TEXT_LIMIT}"
                ));
            }
            put_varint(out, flat.texts.len() as u64);
            let lengths: Vec<i64> = flat.texts.iter().map(|t| t.len() as i64).collect();
            numbers::encode_with(effort, &lengths, out);
            for text in &flat.texts {
                out.extend_from_slice(text);
            }
            lane::encode(&flat.values, flat.valid.as_deref(), plan, effort, out);
        }
        DataType::Float64 => match decimals(flat) {
            Some((place, values)) => {
                out.push(place);
                lane::encode(&values, flat.valid.as_deref(), plan, effort, out);
            }
            None => {
                out.push(RAW_BITS);
                lane::encode(&flat.values, flat.valid.as_deref(), plan, effort, out);
            }
        },
        _ => lane::encode(&flat.values, flat.valid.as_deref(), plan, effort, out),
    }
    Ok(())
}

/// The floats as multiples of the largest unit that all of them are exact multiples of.
fn decimals(flat: &Flat<'_>) -> Option<(u8, Vec<i64>)> {
    let some = |i: usize| flat.valid.as_ref().is_none_or(|v| v[i]);
    (0u8..).zip(DECIMALS).find_map(|(place, unit)| {
        let multiple = |(i, &bits): (usize, &i64)| {
            if !some(i) {
                return Some(0);
            }
            let value = f64::from_bits(bits as u64);
            let scaled = (value * unit).round();
            let whole = scaled as i64;
            // By its bits: neither NaN nor the negative zero come back from a multiple.
            let same = scaled.abs() < EXACT && (whole as f64 / unit).to_bits() == bits as u64;
            same.then_some(whole)
        };
        let values: Option<Vec<i64>> = flat.values.iter().enumerate().map(multiple).collect();
        values.map(|v| (place, v))
    })
}

/// Distinct texts, one after the other.
#[derive(Debug)]
struct Texts {
    /// Where each begins, and where the last ends.
    starts: Vec<u32>,
    bytes: Vec<u8>,
}

impl Texts {
    fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

#[derive(Debug)]
enum Meaning {
    Number,
    /// Multiples of 1 / this.
    Decimal(f64),
    Text(Texts),
}

/// A decoded column and where it stands.
#[derive(Debug)]
pub(crate) struct Column {
    kind: DataType,
    meaning: Meaning,
    lane: Lane,
    cursor: Cursor,
}

impl Column {
    /// `later` has the entity of each row that is not an entity's first.
    pub fn decode(kind: &DataType, raw: &[u8], entities: usize, later: &[u32]) -> Result<Column, Flaw> {
        let mut bytes = Bytes::new(raw);
        let meaning = match kind {
            DataType::Utf8 | DataType::Binary => Meaning::Text(texts(&mut bytes)?),
            DataType::Float64 => match bytes.u8()? {
                RAW_BITS => Meaning::Number,
                place => Meaning::Decimal(*DECIMALS.get(usize::from(place)).ok_or("floats of an unknown unit")?),
            },
            _ => Meaning::Number,
        };
        let mut lane = lane::decode(&mut bytes, entities, later)?;
        if !bytes.rest().is_empty() {
            return Err("bytes after a column".into());
        }
        if let Meaning::Text(texts) = &meaning {
            check_texts(kind, texts, &lane)?;
        }
        let cursor = Cursor::new(&mut lane);
        Ok(Column {
            kind: kind.clone(),
            meaning,
            lane,
            cursor,
        })
    }

    /// No entity's value ever changes.
    pub fn is_constant(&self) -> bool {
        self.lane.changed.is_empty()
    }

    /// Moves on to the later rows before `end`.
    pub fn advance(&mut self, later: &[u32], end: u32) {
        self.cursor.advance(&self.lane, later, end);
    }

    /// A number of an entity as it stands; None for NULL. Of a text its bytes.
    pub fn value(&self, entity: usize) -> Option<Value<'_>> {
        if self.cursor.valid.as_ref().is_some_and(|v| !v[entity]) {
            return None;
        }
        let number = self.cursor.values[entity];
        Some(match (&self.meaning, &self.kind) {
            (Meaning::Text(texts), _) => Value::Text(texts.get(number as usize)),
            (Meaning::Decimal(unit), _) => Value::Float(number as f64 / unit),
            (Meaning::Number, DataType::Float64) => Value::Float(f64::from_bits(number as u64)),
            (Meaning::Number, _) => Value::Number(number),
        })
    }

    /// Appends the values of some entities as they stand, in this order; all of the first `n` where that is said.
    pub fn emit(&self, entities: Entities<'_>, out: &mut Emitted) {
        out.times += 1;
        match entities {
            Entities::First(n) => {
                out.values.extend_from_slice(&self.cursor.values[..n]);
                if let Some(valid) = &self.cursor.valid {
                    out.valid.extend_from_slice(&valid[..n]);
                }
            }
            Entities::These(list) => {
                out.values.extend(list.iter().map(|&e| self.cursor.values[e as usize]));
                if let Some(valid) = &self.cursor.valid {
                    out.valid.extend(list.iter().map(|&e| valid[e as usize]));
                }
            }
        }
    }

    /// The array of emitted values; of texts, they come to at most `text_bytes`.
    pub fn array(&self, emitted: Emitted, text_bytes: u64) -> Result<ArrayRef, Flaw> {
        let Emitted { values, valid, .. } = emitted;
        let nulls = (!valid.is_empty() && valid.contains(&false)).then(|| NullBuffer::from(valid));
        Ok(match &self.kind {
            DataType::Boolean => {
                let flags = BooleanBuffer::collect_bool(values.len(), |i| values[i] != 0);
                Arc::new(BooleanArray::new(flags, nulls))
            }
            DataType::Int32 => primitive::<Int32Type>(values.iter().map(|&v| v as i32).collect(), nulls),
            DataType::UInt32 => primitive::<UInt32Type>(values.iter().map(|&v| v as u32).collect(), nulls),
            DataType::UInt64 => primitive::<UInt64Type>(values.iter().map(|&v| v as u64).collect(), nulls),
            DataType::Float64 => {
                let float = |v: &i64| match self.meaning {
                    Meaning::Decimal(unit) => *v as f64 / unit,
                    _ => f64::from_bits(*v as u64),
                };
                primitive::<Float64Type>(values.iter().map(float).collect(), nulls)
            }
            DataType::Timestamp(_, zone) => Arc::new(
                PrimitiveArray::<TimestampNanosecondType>::new(ScalarBuffer::from(values), nulls)
                    .with_timezone_opt(zone.clone()),
            ),
            DataType::Utf8 => self.text_array::<Utf8Type>(&values, nulls, text_bytes)?,
            DataType::Binary => self.text_array::<BinaryType>(&values, nulls, text_bytes)?,
            _ => primitive::<Int64Type>(values, nulls),
        })
    }

    fn text_array<T: ByteArrayType<Offset = i32>>(
        &self,
        values: &[i64],
        nulls: Option<NullBuffer>,
        text_bytes: u64,
    ) -> Result<ArrayRef, Flaw> {
        let Meaning::Text(texts) = &self.meaning else {
            return Err("a text without its dictionary".into());
        };
        let some = |i: usize| nulls.as_ref().is_none_or(|n| n.is_valid(i));
        let mut ends = Vec::with_capacity(values.len() + 1);
        let mut end = 0usize;
        ends.push(0);
        for (i, &v) in values.iter().enumerate() {
            if some(i) {
                end += texts.get(v as usize).len();
            }
            ends.push(i32::try_from(end).map_err(|_| "texts longer than 2 GiB")?);
        }
        if end as u64 > text_bytes {
            return Err(format!("{end} bytes of texts where {text_bytes} are due at most"));
        }
        let mut bytes = Vec::with_capacity(end);
        for (i, &v) in values.iter().enumerate() {
            if some(i) {
                bytes.extend_from_slice(texts.get(v as usize));
            }
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        // SAFETY: the offsets rise from 0 to the length of `bytes`; of Utf8, each text was found to be UTF-8 by `check_texts`
        // when the column was decoded, and the array is whole texts one after the other.
        Ok(Arc::new(unsafe {
            GenericByteArray::<T>::new_unchecked(offsets, Buffer::from_vec(bytes), nulls)
        }))
    }
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

fn texts(bytes: &mut Bytes<'_>) -> Result<Texts, Flaw> {
    let count = numbers::size(bytes)?;
    // Each but the first, which may be empty, has a byte at least: texts are distinct.
    if count > bytes.rest().len().saturating_add(1) {
        return Err(format!("{count} texts in {} bytes", bytes.rest().len()));
    }
    let lengths = numbers::decode(bytes, count)?;
    let mut starts = Vec::with_capacity(count + 1);
    let mut end = 0usize;
    starts.push(0);
    for length in lengths {
        let length = usize::try_from(length).map_err(|_| "a text of negative length")?;
        end = end
            .checked_add(length)
            .filter(|&e| e <= TEXT_LIMIT)
            .ok_or("texts are too long")?;
        starts.push(end as u32);
    }
    let bytes = bytes.take(end)?.to_vec();
    Ok(Texts { starts, bytes })
}

/// That every index is one of a text, and that what is to be UTF-8 is.
fn check_texts(kind: &DataType, texts: &Texts, lane: &Lane) -> Result<(), Flaw> {
    let count = texts.starts.len() as i64 - 1;
    let inside = |values: &[i64], valid: &Option<Vec<bool>>| {
        let some = |i: usize| valid.as_ref().is_none_or(|v| v[i]);
        values
            .iter()
            .enumerate()
            .all(|(i, v)| (0..count).contains(v) || !some(i))
    };
    if !inside(&lane.base, &lane.base_valid) || !inside(&lane.values, &lane.values_valid) {
        return Err("a text that is not in the dictionary".into());
    }
    if *kind == DataType::Utf8 {
        for i in 0..texts.starts.len() - 1 {
            std::str::from_utf8(texts.get(i)).map_err(|e| format!("a text that is not UTF-8: {e}"))?;
        }
    }
    Ok(())
}

/// A value that is not NULL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// Integers, flags, times; unsigned ones by their bits.
    Number(i64),
    Float(f64),
    Text(&'a [u8]),
}

/// Which entities are emitted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entities<'a> {
    First(usize),
    These(&'a [u32]),
}

/// Values on their way to an array.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    values: Vec<i64>,
    /// Empty for a column that never has NULLs.
    valid: Vec<bool>,
    /// How many times some were emitted.
    pub times: u64,
}

impl Emitted {
    pub fn with_capacity(rows: usize) -> Emitted {
        Emitted {
            values: Vec::with_capacity(rows),
            valid: Vec::new(),
            times: 0,
        }
    }
}
