//! Which rows of a picture differ from the picture before, column by column.
//!
//! Floats are compared by their bits, so a NaN that stays is no change and -0.0 after 0.0 is one. Cost: one typed compare
//! a value, about 1 ns; columns that are equal as a whole cost a `memcmp`.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, BinaryType, ByteArrayType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType,
    UInt32Type, UInt64Type, Utf8Type,
};
use arrow_array::{Array, ArrayRef, ArrowNativeTypeOp, GenericByteArray, RecordBatch};
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;

/// Row `new` of the new picture has the key that row `old` of the old one had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub old: u32,
    pub new: u32,
}

/// The rows that are compared.
struct Rows<'a> {
    pairs: &'a [Pair],
    /// Every row stands where it stood.
    in_place: bool,
}

/// Marks in `changed`, by row of `new`, each paired row with any differing value. Both batches have the same schema.
pub(crate) fn mark_changed(old: &RecordBatch, new: &RecordBatch, pairs: &[Pair], changed: &mut [bool]) {
    let rows = Rows {
        pairs,
        in_place: positional(pairs, new.num_rows()),
    };
    for (old, new) in old.columns().iter().zip(new.columns()) {
        match new.data_type() {
            DataType::Boolean => {
                let (old, new) = (old.as_boolean(), new.as_boolean());
                mark(old, new, pairs, changed, |o, n| old.value(o) == new.value(n));
            }
            DataType::Int32 => primitive::<Int32Type>(old, new, &rows, changed),
            DataType::Int64 => primitive::<Int64Type>(old, new, &rows, changed),
            DataType::UInt32 => primitive::<UInt32Type>(old, new, &rows, changed),
            DataType::UInt64 => primitive::<UInt64Type>(old, new, &rows, changed),
            DataType::Float64 => primitive::<Float64Type>(old, new, &rows, changed),
            DataType::Timestamp(..) => primitive::<TimestampNanosecondType>(old, new, &rows, changed),
            DataType::Utf8 => bytes::<Utf8Type>(old, new, &rows, changed),
            DataType::Binary => bytes::<BinaryType>(old, new, &rows, changed),
            // Not a column type of ours; taken for changed, which is never wrong.
            _ => changed.fill(true),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(old: &ArrayRef, new: &ArrayRef, rows: &Rows<'_>, changed: &mut [bool]) {
    let (old, new) = (old.as_primitive::<T>(), new.as_primitive::<T>());
    if rows.in_place && old.nulls() == new.nulls() && old.values().inner() == new.values().inner() {
        return;
    }
    let (before, after) = (old.values(), new.values());
    mark(old, new, rows.pairs, changed, |o, n| before[o].is_eq(after[n]));
}

fn bytes<T: ByteArrayType>(old: &ArrayRef, new: &ArrayRef, rows: &Rows<'_>, changed: &mut [bool]) {
    let (old, new) = (old.as_bytes::<T>(), new.as_bytes::<T>());
    let whole = |a: &GenericByteArray<T>| a.value_offsets().first().is_some_and(|first| first.as_usize() == 0);
    if rows.in_place
        && old.nulls() == new.nulls()
        && whole(old)
        && whole(new)
        && old.value_offsets() == new.value_offsets()
        && old.value_data() == new.value_data()
    {
        return;
    }
    mark(old, new, rows.pairs, changed, |o, n| {
        let (o, n): (&[u8], &[u8]) = (old.value(o).as_ref(), new.value(n).as_ref());
        o == n
    });
}

/// Every row stands where it stood.
fn positional(pairs: &[Pair], rows: usize) -> bool {
    pairs.len() == rows && pairs.iter().all(|p| p.old == p.new)
}

fn mark(old: &dyn Array, new: &dyn Array, pairs: &[Pair], changed: &mut [bool], same: impl Fn(usize, usize) -> bool) {
    let (old_nulls, new_nulls) = (old.nulls(), new.nulls());
    if old_nulls.is_none() && new_nulls.is_none() {
        for pair in pairs {
            changed[pair.new as usize] |= !same(pair.old as usize, pair.new as usize);
        }
        return;
    }
    for pair in pairs {
        let (o, n) = (pair.old as usize, pair.new as usize);
        let old_null = old_nulls.is_some_and(|nulls| nulls.is_null(o));
        let new_null = new_nulls.is_some_and(|nulls| nulls.is_null(n));
        changed[n] |= old_null != new_null || !(old_null || same(o, n));
    }
}
