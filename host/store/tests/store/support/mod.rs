//! Rows as plain values, to and from record batches, and what the tests of the store share.

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, StringBuilder, UInt32Builder,
    UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow_schema::{DataType, SchemaRef};
use std::sync::Arc;
use vwatch_model::time::Stamp;
use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema};
use vwatch_store::*;

pub mod numbered;

pub const SECOND: i64 = 1_000_000_000;
pub const MINUTE: i64 = 60 * SECOND;
/// Some full minute.
pub const START: i64 = 1_700_000_000 / 60 * 60 * SECOND;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i128),
    /// Bits, so that NaN is itself.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
}

pub type Row = Vec<Value>;

pub fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, f)| column(f.data_type(), rows.iter().map(|r| &r[i])))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).unwrap()
}

fn int(value: &Value) -> Option<i128> {
    match value {
        Value::Int(n) => Some(*n),
        Value::Null => None,
        other => panic!("{other:?} is no integer"),
    }
}

fn column<'a>(kind: &DataType, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    macro_rules! ints {
        ($builder:ident) => {{
            let mut b = $builder::new();
            values.for_each(|v| b.append_option(int(v).map(|n| n.try_into().unwrap())));
            Arc::new(b.finish())
        }};
    }
    match kind {
        DataType::Boolean => {
            let mut b = BooleanBuilder::new();
            values.for_each(|v| b.append_option(if let Value::Bool(x) = v { Some(*x) } else { None }));
            Arc::new(b.finish())
        }
        DataType::Int32 => ints!(Int32Builder),
        DataType::Int64 => ints!(Int64Builder),
        DataType::UInt32 => ints!(UInt32Builder),
        DataType::UInt64 => ints!(UInt64Builder),
        DataType::Float64 => {
            let mut b = Float64Builder::new();
            values.for_each(|v| {
                b.append_option(if let Value::Float(x) = v {
                    Some(f64::from_bits(*x))
                } else {
                    None
                })
            });
            Arc::new(b.finish())
        }
        DataType::Utf8 => {
            let mut b = StringBuilder::new();
            values.for_each(|v| b.append_option(if let Value::Text(x) = v { Some(x) } else { None }));
            Arc::new(b.finish())
        }
        DataType::Binary => {
            let mut b = BinaryBuilder::new();
            values.for_each(|v| b.append_option(if let Value::Bytes(x) = v { Some(x) } else { None }));
            Arc::new(b.finish())
        }
        DataType::Timestamp(_, zone) => {
            let times: Vec<Option<i64>> = values.map(|v| int(v).map(|n| n.try_into().unwrap())).collect();
            Arc::new(TimestampNanosecondArray::from(times).with_timezone_opt(zone.clone()))
        }
        other => panic!("{other}"),
    }
}

pub fn rows(batch: &RecordBatch) -> Vec<Row> {
    (0..batch.num_rows())
        .map(|i| batch.columns().iter().map(|c| value(c, i)).collect())
        .collect()
}

fn value(array: &ArrayRef, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(i)),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(i).into()),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(i).into()),
        DataType::UInt32 => Value::Int(array.as_primitive::<UInt32Type>().value(i).into()),
        DataType::UInt64 => Value::Int(array.as_primitive::<UInt64Type>().value(i).into()),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(i).to_bits()),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(i).to_owned()),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(i).to_vec()),
        DataType::Timestamp(..) => Value::Int(array.as_primitive::<TimestampNanosecondType>().value(i).into()),
        other => panic!("{other}"),
    }
}

pub fn table(name: &str, kind: TableKind, columns: Vec<Column>) -> TableSchema {
    TableSchema {
        name: name.into(),
        kind,
        doc: "A table of a test.".into(),
        access: Access::All,
        columns,
    }
}

/// A state table of processes with one column of each type.
pub fn process() -> TableSchema {
    use ColumnType::*;
    table(
        "process",
        TableKind::State,
        vec![
            Column::new("pid", I32, "Process.").key(),
            Column::new("start_time", U64, "Start.").key().unit("ns"),
            Column::new("comm", String, "Name."),
            Column::new("utime_ns", I64, "Time.").unit("ns"),
            Column::new("load", F64, "Load.").nullable(),
            Column::new("kernel", Bool, "Kernel thread.").nullable(),
            Column::new("environ", Bytes, "Environment.").nullable(),
            Column::new("seen", Timestamp, "Seen.").nullable(),
            Column::new("uid", U32, "User."),
        ],
    )
}

/// An event table.
pub fn exits() -> TableSchema {
    use ColumnType::*;
    table(
        "process_exit",
        TableKind::Event,
        vec![
            Column::new("time", Timestamp, "When."),
            Column::new("pid", I32, "Process."),
            Column::new("comm", String, "Name.").nullable(),
        ],
    )
}

/// A state table of one row.
pub fn load() -> TableSchema {
    table(
        "load",
        TableKind::State,
        vec![
            Column::new("load_1m", ColumnType::F64, "Load."),
            Column::new("running", ColumnType::I64, "Running."),
        ],
    )
}

pub fn instance(name: &str) -> InstanceInfo {
    InstanceInfo {
        name: name.into(),
        probe: "test.probe".into(),
        default: true,
    }
}

pub fn stamp(wall_ns: i64) -> Stamp {
    Stamp {
        wall_ns,
        boot_ns: wall_ns - START,
    }
}

pub fn sample(table: TableId, instance: InstanceId, time_ns: i64, body: Body) -> Sample {
    Sample {
        table,
        instance,
        time_ns,
        boot_ns: time_ns - START,
        interval_ns: SECOND as u64,
        body,
    }
}

/// In memory where there is such a place: for thousands of commits, each of which would wait for the disk.
pub fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub fn open(path: &std::path::Path, now: i64) -> Writer {
    Writer::open(path, &OpenOptions::default(), stamp(now), "boot-1").unwrap()
}

/// All rows of a scan, sorted within a time, each as `time, instance, the other columns`.
pub fn scan_all(reader: &Reader, request: ScanRequest) -> Vec<Row> {
    let mut out = Vec::new();
    for batch in reader.scan(request).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.num_rows() <= 8192);
        out.extend(rows(&batch));
    }
    out
}

pub fn everything(table: TableId, instances: Vec<InstanceId>) -> ScanRequest {
    ScanRequest {
        table,
        instances,
        from_ns: i64::MIN,
        to_ns: i64::MAX,
        columns: None,
        conditions: Vec::new(),
    }
}

/// How many rounds a test of many runs: what the environment says, so that more can be run than each time.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number of rounds"),
        Err(_) => usual,
    }
}
