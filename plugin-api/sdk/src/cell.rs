//! The types that a field of a row may have, and how each becomes a column.

use crate::build::{BoolBuilder, NumberBuilder, TextBuilder};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampNanosecondArray,
    UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, TimeUnit};
use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe::ColumnType;

/// A moment: nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock now. In a probe, prefer the tick's own time.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    pub const fn from_ns(ns: i64) -> Self {
        Timestamp(ns)
    }

    pub const fn ns(self) -> i64 {
        self.0
    }
}

/// A type that a column can hold: `bool, i32, i64, u32, u64, f64, String, Cow<'static, str>, Vec<u8>, Timestamp`, and
/// `Option` of each, which makes the column nullable.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a column",
    label = "not a column type",
    note = "columns are bool, i32, i64, u32, u64, f64, String, Cow<'static, str>, Vec<u8>, Timestamp, or Option of one of these"
)]
pub trait Cell: Sized {
    const KIND: ColumnType;
    const NULLABLE: bool;
    type Builder;
    type Array: Array + Clone + 'static;

    /// Room for `rows` values.
    fn builder(rows: usize) -> Self::Builder;
    fn append(&self, builder: &mut Self::Builder);
    fn finish(builder: Self::Builder) -> ArrowArray;
    /// The value in row `at`, which is not null unless [`Cell::NULLABLE`].
    fn get(array: &Self::Array, at: usize) -> Self;
}

/// `Cell` for a type and for its `Option`: builder, array, how to make a builder, the value to append, the value read.
macro_rules! cells {
    ($($type:ty, $kind:ident, $builder:ty, $array:ty, $make:expr, |$put:ident| $append:expr, |$got:ident| $read:expr;)*) => {$(
        impl Cell for $type {
            const KIND: ColumnType = ColumnType::$kind;
            const NULLABLE: bool = false;
            type Builder = $builder;
            type Array = $array;

            fn builder(rows: usize) -> Self::Builder {
                let make: fn(usize) -> $builder = $make;
                make(rows)
            }

            fn append(&self, builder: &mut Self::Builder) {
                let $put = self;
                builder.append_value($append);
            }

            fn finish(builder: Self::Builder) -> ArrowArray {
                builder.finish()
            }

            fn get(array: &Self::Array, at: usize) -> Self {
                let $got = array.value(at);
                $read
            }
        }

        impl Cell for Option<$type> {
            const KIND: ColumnType = ColumnType::$kind;
            const NULLABLE: bool = true;
            type Builder = $builder;
            type Array = $array;

            fn builder(rows: usize) -> Self::Builder {
                <$type as Cell>::builder(rows)
            }

            fn append(&self, builder: &mut Self::Builder) {
                match self {
                    Some(value) => <$type as Cell>::append(value, builder),
                    None => builder.append_null(),
                }
            }

            fn finish(builder: Self::Builder) -> ArrowArray {
                <$type as Cell>::finish(builder)
            }

            fn get(array: &Self::Array, at: usize) -> Self {
                array.is_valid(at).then(|| <$type as Cell>::get(array, at))
            }
        }
    )*};
}

/// Bytes set aside for a text; more are taken as they come.
const TEXT_BYTES: usize = 16;

cells! {
    bool, Bool, BoolBuilder, BooleanArray, BoolBuilder::with_capacity, |v| *v, |v| v;
    i32, I32, NumberBuilder<i32>, Int32Array, NumberBuilder::with_capacity, |v| *v, |v| v;
    i64, I64, NumberBuilder<i64>, Int64Array, NumberBuilder::with_capacity, |v| *v, |v| v;
    u32, U32, NumberBuilder<u32>, UInt32Array, NumberBuilder::with_capacity, |v| *v, |v| v;
    u64, U64, NumberBuilder<u64>, UInt64Array, NumberBuilder::with_capacity, |v| *v, |v| v;
    f64, F64, NumberBuilder<f64>, Float64Array, NumberBuilder::with_capacity, |v| *v, |v| v;
    String, String, TextBuilder, StringArray, text_builder, |v| v, |v| v.to_owned();
    Cow<'static, str>, String, TextBuilder, StringArray, text_builder, |v| v.as_bytes(), |v| Cow::Owned(v.to_owned());
    Vec<u8>, Bytes, TextBuilder, BinaryArray, text_builder, |v| v, |v| v.to_vec();
    Timestamp, Timestamp, NumberBuilder<i64>, TimestampNanosecondArray, NumberBuilder::with_capacity, |v| v.0,
        |v| Timestamp(v);
}

fn text_builder(rows: usize) -> TextBuilder {
    TextBuilder::with_capacity(rows, rows * TEXT_BYTES)
}

/// The Arrow layout of a column type, as the ABI fixes it.
pub(crate) fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::I32 => DataType::Int32,
        ColumnType::I64 => DataType::Int64,
        ColumnType::U32 => DataType::UInt32,
        ColumnType::U64 => DataType::UInt64,
        ColumnType::F64 => DataType::Float64,
        ColumnType::String => DataType::Utf8,
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
    }
}

/// The column type of an Arrow layout, where there is one.
pub(crate) fn column_type(layout: &DataType) -> Option<ColumnType> {
    Some(match layout {
        DataType::Boolean => ColumnType::Bool,
        DataType::Int32 => ColumnType::I32,
        DataType::Int64 => ColumnType::I64,
        DataType::UInt32 => ColumnType::U32,
        DataType::UInt64 => ColumnType::U64,
        DataType::Float64 => ColumnType::F64,
        DataType::Utf8 => ColumnType::String,
        DataType::Binary => ColumnType::Bytes,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if &**zone == "UTC" => ColumnType::Timestamp,
        _ => return None,
    })
}
