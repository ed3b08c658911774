//! Rows of a command's answer as JSON objects. Times are RFC 3339 in UTC; bytes are hexadecimal.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Value};

pub fn objects(rows: &RecordBatch) -> Vec<Map<String, Value>> {
    let schema = rows.schema();
    let cell = |column: usize, row: usize| value(rows.column(column).as_ref(), row);
    (0..rows.num_rows())
        .map(|row| {
            let fields = schema.fields().iter().enumerate();
            fields
                .map(|(column, field)| (field.name().clone(), cell(column, row)))
                .collect()
        })
        .collect()
}

fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Binary => {
            let bytes = array.as_binary::<i32>().value(row);
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let ns = array.as_primitive::<TimestampNanosecondType>().value(row);
            vwatch_model::time::format_ns(ns, &jiff::tz::TimeZone::UTC).into()
        }
        // The nine types above are all that a column may have (`ColumnType`).
        other => format!("({other})").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, StringArray, TimestampNanosecondArray, UInt64Array};
    use arrow_schema::{Field, Schema};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn cells() {
        let zone: Arc<str> = "UTC".into();
        let fields = vec![
            Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.clone())),
                false,
            ),
            Field::new("mask", DataType::UInt64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("raw", DataType::Binary, false),
        ];
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![
                Arc::new(TimestampNanosecondArray::from(vec![1_714_559_400_250_000_000]).with_timezone(zone)),
                Arc::new(UInt64Array::from(vec![u64::MAX])),
                Arc::new(StringArray::from(vec![None::<&str>])),
                Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..]])),
            ],
        )
        .unwrap();
        assert_eq!(
            Value::from(objects(&rows)),
            json!([{"at": "2024-05-01T10:30:00.250+00:00", "mask": u64::MAX, "name": null, "raw": "00ff"}])
        );
    }
}
