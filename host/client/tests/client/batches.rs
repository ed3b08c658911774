//! Batches that go into answers.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Int64Builder, ListBuilder, StringViewBuilder};
use arrow_array::*;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().map(field).collect();
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns.into_iter().map(|(_, array)| array).collect(),
    )
    .unwrap()
}

/// What a question about processes answers.
pub fn processes() -> RecordBatch {
    let time = TimestampNanosecondArray::from(vec![1_714_559_400_123_456_789; 3]).with_timezone("Europe/Berlin");
    batch(vec![
        ("time", Arc::new(time)),
        ("pid", Arc::new(Int32Array::from(vec![1, 220, 31999]))),
        (
            "comm",
            Arc::new(StringArray::from(vec![Some("init"), Some("Web Content"), None])),
        ),
        ("rss_bytes", Arc::new(Int64Array::from(vec![12_345_678, 4096, 0]))),
        (
            "cpu_percent",
            Arc::new(Float64Array::from(vec![Some(0.1), Some(99.999_999_9), None])),
        ),
    ])
}

/// Every type and every value that some format trips over.
pub fn oddities() -> RecordBatch {
    let mut bytes = BinaryBuilder::new();
    bytes.append_value([0x00, 0xff, b'"']);
    bytes.append_value([]);
    bytes.append_null();
    let mut list = ListBuilder::new(Int64Builder::new());
    list.append_value([Some(1), None, Some(3)]);
    list.append_value([]);
    list.append_null();
    let mut view = StringViewBuilder::new();
    view.append_value("a view that is longer than twelve bytes");
    view.append_value("");
    view.append_null();
    let time = |unit| DataType::Timestamp(unit, Some("+05:30".into()));
    let seconds = TimestampSecondArray::from(vec![Some(0), Some(-1), None]).with_timezone("+05:30");
    assert_eq!(seconds.data_type(), &time(TimeUnit::Second));
    let decimal = Decimal128Array::from(vec![Some(12_345), Some(-1), None]).with_precision_and_scale(20, 2);
    let text = ["quote \" comma , line\nend", "", "\x1b[31mred\u{202e}\u{9b} 日本 \\"];
    batch(vec![
        ("text", Arc::new(StringArray::from(text.to_vec()))),
        (
            "i64",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![
                Some(u64::MAX),
                Some(9_007_199_254_740_993),
                None,
            ])),
        ),
        ("f64", Arc::new(Float64Array::from(vec![f64::NAN, 1e300, -0.000_012_5]))),
        (
            "f32",
            Arc::new(Float32Array::from(vec![0.1, f32::INFINITY, 16_777_216.0])),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        ("bytes", Arc::new(bytes.finish())),
        ("list", Arc::new(list.finish())),
        ("view", Arc::new(view.finish())),
        ("seconds", Arc::new(seconds)),
        (
            "local",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1_500_000),
                None,
                Some(i64::MAX),
            ])),
        ),
        ("day", Arc::new(Date32Array::from(vec![Some(19_844), None, Some(0)]))),
        ("decimal", Arc::new(decimal.unwrap())),
        ("nothing", Arc::new(NullArray::new(3))),
        (
            "text",
            Arc::new(StringArray::from(vec!["a column", "of the same", "name"])),
        ),
    ])
}
