//! Which rows of a picture differ from the picture before, column by column.
//!
//! Floats are compared by their bits, so a NaN that stays is no change and -0.0 after 0.0 is one. Cost: one typed compare
//! a value, about 1 ns; columns that are equal as a whole cost a `memcmp`.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, BinaryType, ByteArrayType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType,
    UInt32Type, UInt64Type, Utf8Type,
};
use arrow_array::{Array, ArrayRef, ArrowNativeTypeOp, RecordBatch};
use arrow_schema::DataType;

/// Row `new` of the new picture has the key that row `old` of the old one had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub old: u32,
    pub new: u32,
}

/// Marks in `changed`, by row of `new`, each paired row with any differing value. Both batches have the same schema.
pub(crate) fn mark_changed(old: &RecordBatch, new: &RecordBatch, pairs: &[Pair], changed: &mut [bool]) {
    for (old, new) in old.columns().iter().zip(new.columns()) {
        match new.data_type() {
            DataType::Boolean => {
                let (old, new) = (old.as_boolean(), new.as_boolean());
                mark(old, new, pairs, changed, |o, n| old.value(o) == new.value(n));
            }
            DataType::Int32 => primitive::<Int32Type>(old, new, pairs, changed),
            DataType::Int64 => primitive::<Int64Type>(old, new, pairs, changed),
            DataType::UInt32 => primitive::<UInt32Type>(old, new, pairs, changed),
            DataType::UInt64 => primitive::<UInt64Type>(old, new, pairs, changed),
            DataType::Float64 => primitive::<Float64Type>(old, new, pairs, changed),
            DataType::Timestamp(..) => primitive::<TimestampNanosecondType>(old, new, pairs, changed),
            DataType::Utf8 => bytes::<Utf8Type>(old, new, pairs, changed),
            DataType::Binary => bytes::<BinaryType>(old, new, pairs, changed),
            // Not a column type of ours; taken for changed, which is never wrong.
            _ => changed.fill(true),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(old: &ArrayRef, new: &ArrayRef, pairs: &[Pair], changed: &mut [bool]) {
    let (old, new) = (old.as_primitive::<T>(), new.as_primitive::<T>());
    if old.null_count() == 0
        && new.null_count() == 0
        && old.values().inner() == new.values().inner()
        && positional(pairs, new.len())
    {
        return;
    }
    let (before, after) = (old.values(), new.values());
    mark(old, new, pairs, changed, |o, n| before[o].is_eq(after[n]));
}

fn bytes<T: ByteArrayType>(old: &ArrayRef, new: &ArrayRef, pairs: &[Pair], changed: &mut [bool]) {
    let (old, new) = (old.as_bytes::<T>(), new.as_bytes::<T>());
    mark(old, new, pairs, changed, |o, n| {
        let (o, n): (&[u8], &[u8]) = (old.value(o).as_ref(), new.value(n).as_ref());
        o == n
    });
}

/// Every row stands where it stood.
fn positional(pairs: &[Pair], rows: usize) -> bool {
    pairs.len() == rows && pairs.iter().all(|p| p.old == p.new)
}

fn mark(old: &dyn Array, new: &dyn Array, pairs: &[Pair], changed: &mut [bool], same: impl Fn(usize, usize) -> bool) {
    let nulls = old.null_count() > 0 || new.null_count() > 0;
    for pair in pairs {
        let (o, n) = (pair.old as usize, pair.new as usize);
        let equal = if nulls && (old.is_null(o) || new.is_null(n)) {
            old.is_null(o) == new.is_null(n)
        } else {
            same(o, n)
        };
        changed[n] |= !equal;
    }
}
