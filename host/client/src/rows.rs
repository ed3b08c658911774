//! Rows that came as JSON (a command's answer, a list of the control socket) as a record batch, so that they leave through
//! the same output formats as a query's.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, Field, Schema};
use serde_json::{Map, Value};
use vwatch_model::table::{Column, ColumnType};

/// Lays `rows` out in `columns`. A value that is absent, null or of another type reads as NULL. Timestamps are nanoseconds
/// since the epoch, or RFC 3339; bytes are text. `zone` is the zone that timestamps will be shown in.
pub fn batch_from_rows(columns: &[Column], rows: &[Map<String, Value>], zone: &str) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for column in columns {
        let array = column_array(column, rows, zone);
        fields.push(Field::new(&column.name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}

fn column_array(column: &Column, rows: &[Map<String, Value>], zone: &str) -> ArrayRef {
    let values = rows.iter().map(|row| row.get(&column.name));
    let int = |v: Option<&Value>| v.and_then(Value::as_i64);
    let uint = |v: Option<&Value>| v.and_then(Value::as_u64);
    match column.kind {
        ColumnType::Bool => Arc::new(BooleanArray::from_iter(values.map(|v| v.and_then(Value::as_bool)))),
        ColumnType::I32 => Arc::new(Int32Array::from_iter(
            values.map(|v| int(v).and_then(|i| i32::try_from(i).ok())),
        )),
        ColumnType::I64 => Arc::new(Int64Array::from_iter(values.map(int))),
        ColumnType::U32 => Arc::new(UInt32Array::from_iter(
            values.map(|v| uint(v).and_then(|i| u32::try_from(i).ok())),
        )),
        ColumnType::U64 => Arc::new(UInt64Array::from_iter(values.map(uint))),
        ColumnType::F64 => Arc::new(Float64Array::from_iter(values.map(|v| v.and_then(Value::as_f64)))),
        ColumnType::String => Arc::new(StringArray::from_iter(values.map(|v| v.and_then(text)))),
        ColumnType::Bytes => {
            let mut bytes = BinaryBuilder::new();
            values.for_each(|v| bytes.append_option(v.and_then(Value::as_str)));
            Arc::new(bytes.finish())
        }
        ColumnType::Timestamp => Arc::new(array_of_times(column, rows).with_timezone(zone)),
    }
}

fn array_of_times(column: &Column, rows: &[Map<String, Value>]) -> TimestampNanosecondArray {
    let time = |v: &Value| match v {
        Value::String(text) => {
            let stamp: jiff::Timestamp = text.parse().ok()?;
            i64::try_from(stamp.as_nanosecond()).ok()
        }
        other => other.as_i64(),
    };
    TimestampNanosecondArray::from_iter(rows.iter().map(|row| row.get(&column.name).and_then(time)))
}

/// A string as it is; any other value as its JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, TimestampNanosecondType, UInt64Type};

    #[test]
    fn values_keep_their_types_and_misfits_are_null() {
        let columns = [
            Column::new("pid", ColumnType::I32, ""),
            Column::new("big", ColumnType::U64, ""),
            Column::new("at", ColumnType::Timestamp, ""),
            Column::new("name", ColumnType::String, ""),
        ];
        let rows: Vec<Map<String, Value>> = serde_json::from_str(
            r#"[{"pid": 7, "big": 18446744073709551615, "at": "2024-05-01T12:30:00+02:00", "name": "a"},
                {"pid": 3000000000, "at": 5, "name": [1]}]"#,
        )
        .unwrap();
        let batch = batch_from_rows(&columns, &rows, "Europe/Berlin").unwrap();
        let pid = batch.column(0).as_primitive::<Int32Type>();
        assert!(pid.value(0) == 7 && pid.is_null(1));
        assert_eq!(batch.column(1).as_primitive::<UInt64Type>().value(0), u64::MAX);
        let at = batch.column(2).as_primitive::<TimestampNanosecondType>();
        assert_eq!(at.value(0), 1_714_559_400_000_000_000);
        assert_eq!(at.timezone(), Some("Europe/Berlin"));
        assert_eq!(batch.column(3).as_string::<i32>().value(1), "[1]");
    }
}
