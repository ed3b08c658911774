//! Columns of every type as numbers, and back: integers as they are, floats by their bits or as decimals, texts by their
//! place in a dictionary of the distinct ones.

use super::lane::{self, Cursor, Lane, Plan};
use super::numbers::{self, Effort, put_varint};
use crate::bytes::{Bytes, Flaw};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, BinaryType, ByteArrayType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType,
    UInt32Type, UInt64Type, Utf8Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, GenericByteArray, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Floats that are whole multiples of 10^-k are stored as those multiples.
const DECIMALS: [f64; 4] = [1.0, 100.0, 1_000.0, 1_000_000.0];
const RAW_BITS: u8 = 0xff;
/// Above this a float has no place for decimals, and not every whole number is one.
const EXACT: f64 = 9e15;
/// Most bytes of all texts of one column, which Arrow's offsets of 32 bits can address.
const TEXT_LIMIT: usize = i32::MAX as usize;

/// What a column of rows comes to before it is encoded.
#[derive(Debug)]
pub(crate) struct Flat {
    /// In the order of the rows, floats by their bits; anything where a row is NULL.
    pub values: Vec<i64>,
    pub valid: Option<Vec<bool>>,
    /// Of texts, which `values` number.
    pub texts: Texts,
}

impl Flat {
    /// Bytes that the rows take as a plain column of texts, numbers or flags.
    pub fn raw_bytes(&self, kind: &DataType) -> u64 {
        let rows = self.values.len() as u64;
        let some = |row: usize| self.valid.as_ref().is_none_or(|v| v[row]);
        let values = match kind {
            DataType::Utf8 | DataType::Binary => {
                let length = |(row, &v): (usize, &i64)| {
                    if some(row) {
                        self.texts.get(v as usize).len() as u64
                    } else {
                        0
                    }
                };
                4 * rows + self.values.iter().enumerate().map(length).sum::<u64>()
            }
            DataType::Boolean => rows.div_ceil(8),
            DataType::Int32 | DataType::UInt32 => 4 * rows,
            _ => 8 * rows,
        };
        values + self.valid.as_ref().map_or(0, |_| rows.div_ceil(8))
    }

    /// Some of the rows in another order, with the texts that they have.
    pub fn in_order(&self, order: &[u32]) -> Result<Flat, Flaw> {
        let pick = |i: &u32| self.values[*i as usize];
        let mut values: Vec<i64> = order.iter().map(pick).collect();
        let valid = self
            .valid
            .as_ref()
            .map(|v| order.iter().map(|&i| v[i as usize]).collect());
        let valid: Option<Vec<bool>> = valid.filter(|v: &Vec<bool>| v.contains(&false));
        let mut texts = Texts::default();
        if self.texts.count() > 0 {
            let mut new_of = vec![-1; self.texts.count()];
            for (row, value) in values.iter_mut().enumerate() {
                if valid.as_ref().is_some_and(|v| !v[row]) {
                    *value = 0;
                    continue;
                }
                let new = &mut new_of[*value as usize];
                if *new < 0 {
                    *new = texts.push(self.texts.get(*value as usize))?;
                }
                *value = *new;
            }
        }
        Ok(Flat { values, valid, texts })
    }
}

/// The column's rows.
pub(crate) fn flatten(column: &ArrayRef) -> Result<Flat, Flaw> {
    fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef, to: impl Fn(T::Native) -> i64) -> Vec<i64> {
        column.as_primitive::<T>().values().iter().map(|&v| to(v)).collect()
    }
    let mut texts = Numbering::default();
    let values = match column.data_type() {
        DataType::Boolean => column.as_boolean().values().iter().map(i64::from).collect(),
        DataType::Int32 => primitive::<Int32Type>(column, i64::from),
        DataType::Int64 => primitive::<Int64Type>(column, |v| v),
        DataType::UInt32 => primitive::<UInt32Type>(column, i64::from),
        DataType::UInt64 => primitive::<UInt64Type>(column, |v| v as i64),
        DataType::Float64 => primitive::<Float64Type>(column, |v| v.to_bits() as i64),
        DataType::Timestamp(..) => primitive::<TimestampNanosecondType>(column, |v| v),
        DataType::Utf8 => indices::<Utf8Type>(column, &mut texts)?,
        DataType::Binary => indices::<BinaryType>(column, &mut texts)?,
        kind => return Err(format!("a column of type {kind}")),
    };
    let valid = match column.null_count() {
        0 => None,
        _ => column.nulls().map(|nulls| nulls.iter().collect()),
    };
    let texts = texts.texts;
    Ok(Flat { values, valid, texts })
}

/// Numbers each distinct text. Many rows have the text of the row before: those are not looked up.
fn indices<T: ByteArrayType>(column: &ArrayRef, texts: &mut Numbering) -> Result<Vec<i64>, Flaw> {
    let column: &GenericByteArray<T> = column.as_bytes::<T>();
    let nulls = column.nulls();
    let mut last: Option<i64> = None;
    let mut out = Vec::with_capacity(column.len());
    for i in 0..column.len() {
        if nulls.is_some_and(|n| n.is_null(i)) {
            out.push(0);
            continue;
        }
        let text: &[u8] = column.value(i).as_ref();
        let number = match last.filter(|&l| texts.texts.get(l as usize) == text) {
            Some(same) => same,
            None => texts.number(text)?,
        };
        last = Some(number);
        out.push(number);
    }
    Ok(out)
}

/// Appends the column. Without a plan every row is the first of its entity.
pub(crate) fn encode(
    kind: &DataType,
    flat: &Flat,
    plan: Option<&Plan>,
    effort: Effort,
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    match kind {
        DataType::Utf8 | DataType::Binary => {
            put_varint(out, flat.texts.count() as u64);
            let lengths: Vec<i64> = flat.texts.iter().map(|t| t.len() as i64).collect();
            numbers::encode_with(effort, &lengths, out);
            out.extend_from_slice(&flat.texts.bytes);
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
fn decimals(flat: &Flat) -> Option<(u8, Vec<i64>)> {
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
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Where each ends.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Texts {
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, i: usize) -> &[u8] {
        let begin = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin as usize..self.ends[i] as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count()).map(|i| self.get(i))
    }

    /// Appends a text; answers its number.
    fn push(&mut self, text: &[u8]) -> Result<i64, Flaw> {
        let bytes = self.bytes.len() + text.len();
        if bytes > TEXT_LIMIT {
            return Err(format!(
                "{bytes} bytes of texts in one column; the limit is {TEXT_LIMIT}"
            ));
        }
        self.bytes.extend_from_slice(text);
        self.ends.push(bytes as u32);
        Ok(self.ends.len() as i64 - 1)
    }
}

/// Numbers texts in the order in which they first come.
#[derive(Debug, Default)]
struct Numbering {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    texts: Texts,
}

impl Numbering {
    fn number(&mut self, text: &[u8]) -> Result<i64, Flaw> {
        let hash = self.hasher.hash_one(text);
        let same = |place: &u32| self.texts.get(*place as usize) == text;
        if let Some(place) = self.places.find(hash, same) {
            return Ok(i64::from(*place));
        }
        let number = self.texts.push(text)?;
        let rehash = |place: &u32| self.hasher.hash_one(self.texts.get(*place as usize));
        self.places.insert_unique(hash, number as u32, rehash);
        Ok(number)
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
        Column::decode_some(kind, raw, entities, later, None)
    }

    /// The same, of which some entities alone will be asked for: those that have the `chosen` later rows, which rise.
    pub fn decode_some(
        kind: &DataType,
        raw: &[u8],
        entities: usize,
        later: &[u32],
        chosen: Option<&[u32]>,
    ) -> Result<Column, Flaw> {
        let mut bytes = Bytes::new(raw);
        let meaning = match kind {
            DataType::Utf8 | DataType::Binary => Meaning::Text(texts(&mut bytes)?),
            DataType::Float64 => match bytes.u8()? {
                RAW_BITS => Meaning::Number,
                place => Meaning::Decimal(*DECIMALS.get(usize::from(place)).ok_or("floats of an unknown unit")?),
            },
            _ => Meaning::Number,
        };
        let mut lane = lane::decode(&mut bytes, entities, later, chosen)?;
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
    let mut ends = Vec::with_capacity(count);
    let mut end = 0usize;
    for length in lengths {
        let length = usize::try_from(length).map_err(|_| "a text of negative length")?;
        end = end
            .checked_add(length)
            .filter(|&e| e <= TEXT_LIMIT)
            .ok_or("texts are too long")?;
        ends.push(end as u32);
    }
    let bytes = bytes.take(end)?.to_vec();
    Ok(Texts { ends, bytes })
}

/// That every index is one of a text, and that what is to be UTF-8 is.
fn check_texts(kind: &DataType, texts: &Texts, lane: &Lane) -> Result<(), Flaw> {
    let count = texts.count() as i64;
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
        let all = std::str::from_utf8(&texts.bytes).map_err(|e| format!("a text that is not UTF-8: {e}"))?;
        if !texts.ends.iter().all(|&end| all.is_char_boundary(end as usize)) {
            return Err("a text that ends within a character".into());
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

/// One column's rows of several payloads, put together.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    values: Vec<i64>,
    valid: Option<Vec<bool>>,
    texts: Numbering,
}

impl Gathered {
    /// Appends what a column has emitted.
    pub fn add(&mut self, column: &Column, emitted: &Emitted) -> Result<(), Flaw> {
        let Emitted { values, valid, .. } = emitted;
        if !valid.is_empty() && self.valid.is_none() {
            self.valid = Some(vec![true; self.values.len()]);
        }
        match &column.meaning {
            Meaning::Number => self.values.extend_from_slice(values),
            Meaning::Decimal(unit) => {
                let bits = |v: &i64| (*v as f64 / unit).to_bits() as i64;
                self.values.extend(values.iter().map(bits));
            }
            Meaning::Text(texts) => {
                let mut number_of = vec![-1; texts.count()];
                for (row, &value) in values.iter().enumerate() {
                    if valid.get(row) == Some(&false) {
                        self.values.push(0);
                        continue;
                    }
                    let number = &mut number_of[value as usize];
                    if *number < 0 {
                        *number = self.texts.number(texts.get(value as usize))?;
                    }
                    self.values.push(*number);
                }
            }
        }
        if let Some(all) = &mut self.valid {
            all.extend_from_slice(valid);
            all.resize(self.values.len(), true);
        }
        Ok(())
    }

    pub fn finish(self) -> Flat {
        Flat {
            values: self.values,
            valid: self.valid,
            texts: self.texts.texts,
        }
    }
}
