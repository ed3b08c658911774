//! What an export leaves behind: every value of every type, read by others (the parquet crate, DuckDB); nothing that looks whole
//! and is not, however the export ends.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use vwatch_tests::duckdb::DuckDb;
use vwatch_tests::host::query_file;
use vwatch_tests::s3::{Parts, S3};
use vwatch_tests::{Host, SOON, built, until};

/// Rows with 64 KiB each, which text makes twice as much of: more than is sent in one piece.
const LARGE: [&str; 7] = [
    "probe",
    "add",
    "behaviours.beh_full",
    "name=large",
    "rows=60",
    "raw=64K",
    "every=300ms",
];

/// A stopped host that has recorded processes, and a column of every type.
fn recorded(large: bool) -> Host {
    let mut host = Host::new();
    host.drop_in(&built("libvwatch_behaviours.so"), "behaviours.so");
    host.start();
    host.wait_for_rows("SELECT pid FROM process LIMIT 1");
    host.wait_for_rows("SELECT id FROM beh_full_history WHERE runs > 1 LIMIT 1");
    if large {
        let answer = host.ctl(&LARGE);
        assert_eq!(answer.code, 0, "{answer:?}");
        host.wait_for_rows("SELECT id FROM beh_full_history WHERE instance = 'large' AND runs > 2 LIMIT 1");
    }
    host.stop();
    host
}

fn export(host: &Host, place: &str, more: &[&str]) -> Command {
    let mut command = Command::new(built("vwatchctl"));
    command
        .arg("--store")
        .arg(&host.store)
        .args(["export", place])
        .args(more);
    command.env("TZ", "Asia/Tokyo").stdin(Stdio::null());
    command
}

fn started(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files below a directory, by their path in it.
fn files(place: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![place.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => {
                    let name = path.strip_prefix(place).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, path);
                }
            }
        }
    }
    found
}

/// What is counted of a column. Numbers of every kind are exact in both engines but for sums of fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Fraction,
    Text,
    Bytes,
    Truth,
    Time,
}

/// Values that are there, the least and the greatest, and the sum (of the lengths, of the true ones).
#[derive(Debug, Clone, PartialEq)]
struct Figures {
    count: i128,
    least: Option<String>,
    greatest: Option<String>,
    sum: Option<f64>,
}

impl Kind {
    fn of(kind: &DataType) -> Kind {
        match kind {
            DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Kind::Whole,
            DataType::Float64 => Kind::Fraction,
            DataType::Utf8 => Kind::Text,
            DataType::Binary => Kind::Bytes,
            DataType::Boolean => Kind::Truth,
            DataType::Timestamp(..) => Kind::Time,
            other => panic!("a column of the unexpected type {other}"),
        }
    }

    /// The column as something that has an order, and as something that has a sum. Times are in microseconds.
    fn of_vwatch(self, c: &str) -> (String, String) {
        match self {
            Kind::Whole => (c.to_owned(), format!("CAST({c} AS DOUBLE)")),
            Kind::Fraction => (c.to_owned(), c.to_owned()),
            Kind::Text => (format!("encode({c}, 'hex')"), format!("octet_length({c})")),
            Kind::Bytes => (
                format!("encode({c}, 'hex')"),
                format!("octet_length(encode({c}, 'hex')) / 2"),
            ),
            Kind::Truth => (format!("CAST({c} AS INT)"), format!("CAST({c} AS INT)")),
            Kind::Time => (format!("CAST({c} AS BIGINT) / 1000"), "0".to_owned()),
        }
    }

    fn of_duckdb(self, c: &str) -> (String, String) {
        match self {
            Kind::Whole => (c.to_owned(), format!("CAST({c} AS DOUBLE)")),
            Kind::Fraction => (c.to_owned(), c.to_owned()),
            Kind::Text => (format!("lower(hex({c}))"), format!("strlen({c})")),
            Kind::Bytes => (format!("lower(hex({c}))"), format!("octet_length({c})")),
            Kind::Truth => (format!("CAST({c} AS INT)"), format!("CAST({c} AS INT)")),
            Kind::Time => (format!("epoch_ns({c}) // 1000"), "0".to_owned()),
        }
    }

    /// Parses four values of an answer.
    fn figures(self, values: &[Value]) -> Figures {
        let text = |v: &Value| match v {
            Value::Null => None,
            Value::String(s) => Some(s.clone()),
            other => Some(other.to_string()),
        };
        let ordered = |v: &Value| match self {
            // 1.0 and 1 are the same number.
            Kind::Fraction => text(v).map(|t| format!("{:?}", t.parse::<f64>().unwrap())),
            _ => text(v),
        };
        Figures {
            count: text(&values[0]).unwrap().parse().unwrap(),
            least: ordered(&values[1]),
            greatest: ordered(&values[2]),
            sum: text(&values[3]).map(|t| t.parse().unwrap()),
        }
    }
}

fn same(a: &Figures, b: &Figures) -> bool {
    let sums = match (a.sum, b.sum) {
        (Some(x), Some(y)) => (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
        (x, y) => x == y,
    };
    (a.count, &a.least, &a.greatest) == (b.count, &b.least, &b.greatest) && sums
}

type Columns = Vec<(String, Kind)>;

/// One row with four figures of each column.
fn question(columns: &Columns, from: &str, forms: fn(Kind, &str) -> (String, String)) -> String {
    let mut select = Vec::new();
    for (at, (name, kind)) in columns.iter().enumerate() {
        let quoted = format!("\"{name}\"");
        let (order, sum) = forms(*kind, &quoted);
        select.push(format!("count({quoted}) AS f{at:03}_0, min({order}) AS f{at:03}_1"));
        select.push(format!("max({order}) AS f{at:03}_2, sum({sum}) AS f{at:03}_3"));
    }
    format!("SELECT {} FROM {from}", select.join(", "))
}

/// What vwatch's own SQL says of the table.
fn ours(host: &Host, table: &str, columns: &Columns) -> Vec<Figures> {
    let kind = query_file(
        &host.store,
        &format!("SELECT kind FROM vw_tables WHERE name = '{table}'"),
        &[],
    )
    .whole();
    let history = match kind[0]["kind"] == "state" {
        true => format!("{table}_history"),
        false => table.to_owned(),
    };
    let sql = question(columns, &format!("{history} WHERE instance <> ''"), Kind::of_vwatch);
    let row = query_file(&host.store, &sql, &[]).whole().remove(0);
    let value = |at: usize, n: usize| row[format!("f{at:03}_{n}")].clone();
    let figures = columns.iter().enumerate();
    figures
        .map(|(at, (_, kind))| kind.figures(&[0, 1, 2, 3].map(|n| value(at, n))))
        .collect()
}

/// The batches of a file, which must be compressed with zstd.
fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    for group in reader.metadata().row_groups() {
        assert!(
            group
                .columns()
                .iter()
                .all(|c| matches!(c.compression(), Compression::ZSTD(_)))
        );
        assert!(group.num_rows() <= 1 << 20);
    }
    reader.build().unwrap().map(|batch| batch.unwrap()).collect()
}

fn columns_of(batch: &RecordBatch) -> Columns {
    let schema = batch.schema();
    let fields = schema.fields().iter();
    fields.map(|f| (f.name().clone(), Kind::of(f.data_type()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Figures of a column, counted value by value.
fn counted(parts: &[RecordBatch], at: usize, kind: Kind) -> Figures {
    let (mut count, mut sum) = (0, 0.0);
    let (mut numbers, mut fractions, mut texts) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for batch in parts {
        let column = batch.column(at);
        let widened = match column.data_type() {
            DataType::Int32 => arrow_cast::cast(column, &DataType::Int64).unwrap(),
            DataType::UInt32 => arrow_cast::cast(column, &DataType::UInt64).unwrap(),
            _ => column.clone(),
        };
        for row in (0..batch.num_rows()).filter(|&row| column.is_valid(row)) {
            count += 1;
            match (kind, widened.data_type()) {
                (Kind::Whole, DataType::Int64) => {
                    let value = widened.as_primitive::<Int64Type>().value(row);
                    numbers.insert(i128::from(value));
                    sum += value as f64;
                }
                (Kind::Whole, _) => {
                    let value = widened.as_primitive::<UInt64Type>().value(row);
                    numbers.insert(i128::from(value));
                    sum += value as f64;
                }
                (Kind::Fraction, _) => {
                    let value = widened.as_primitive::<Float64Type>().value(row);
                    fractions.push(value);
                    sum += value;
                }
                (Kind::Text, _) => {
                    let value = widened.as_string::<i32>().value(row);
                    sum += value.len() as f64;
                    texts.insert(hex(value.as_bytes()));
                }
                (Kind::Bytes, _) => {
                    let value = widened.as_binary::<i32>().value(row);
                    sum += value.len() as f64;
                    texts.insert(hex(value));
                }
                (Kind::Truth, _) => {
                    let value = widened.as_boolean().value(row);
                    numbers.insert(i128::from(value));
                    sum += f64::from(u8::from(value));
                }
                (Kind::Time, _) => {
                    let value = widened.as_primitive::<TimestampNanosecondType>().value(row);
                    numbers.insert(i128::from(value / 1000));
                }
            }
        }
    }
    fractions.sort_by(f64::total_cmp);
    let edge = |number: Option<&i128>, fraction: Option<&f64>, text: Option<&String>| {
        let number = number.map(i128::to_string);
        number.or(fraction.map(|f| format!("{f:?}"))).or(text.cloned())
    };
    Figures {
        count,
        least: edge(numbers.first(), fractions.first(), texts.first()),
        greatest: edge(numbers.last(), fractions.last(), texts.last()),
        sum: (count > 0 || (kind == Kind::Time && !parts.is_empty())).then_some(sum),
    }
}

/// The files of each table; every path must be `TABLE/host=NAME/day=DATE/part-….parquet`.
fn by_table(place: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let mut tables: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (file, path) in files(place) {
        let parts: Vec<&str> = file.split('/').collect();
        let [table, host, day, part] = parts[..] else {
            panic!("{file}")
        };
        assert_eq!(host, format!("host={name}"));
        let day: jiff::civil::Date = day.strip_prefix("day=").unwrap().parse().unwrap();
        assert!(part.starts_with("part-") && part.ends_with(".parquet"), "{file}");
        // A row lies in the day of its time, in UTC, whatever zone the exporter lives in.
        for batch in batches(&path) {
            let times = batch.column_by_name("time").unwrap();
            for ns in times.as_primitive::<TimestampNanosecondType>().values() {
                let stamp = jiff::Timestamp::from_nanosecond(i128::from(*ns)).unwrap();
                assert_eq!(stamp.to_zoned(jiff::tz::TimeZone::UTC).date(), day, "{file}");
            }
        }
        tables.entry(table.to_owned()).or_default().push(path);
    }
    tables
}

#[test]
fn every_value_is_in_the_files() {
    let host = recorded(false);
    let place = host.dir().join("out");
    let output = export(&host, place.to_str().unwrap(), &["--tables", "all"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let tables = by_table(&place);
    for table in ["process", "process_exit", "load", "beh_full", "probe_run"] {
        assert!(tables.contains_key(table), "{table} is missing in {:?}", tables.keys());
    }
    let duckdb = DuckDb::or_skip(host.dir(), "every_value_is_in_the_files (its second reading)");
    let mut kinds = BTreeSet::new();
    for (table, paths) in &tables {
        let parts: Vec<RecordBatch> = paths.iter().flat_map(|path| batches(path)).collect();
        let columns = columns_of(&parts[0]);
        kinds.extend(columns.iter().map(|(_, kind)| format!("{kind:?}")));
        let expected = ours(&host, table, &columns);
        let theirs = duckdb.as_ref().map(|duckdb| {
            let pattern = place.join(table).join("**/*.parquet");
            let from = format!("read_parquet('{}', hive_partitioning = true)", pattern.display());
            let rows = duckdb.ask(&[question(&columns, &from, Kind::of_duckdb)]).remove(0);
            let values = rows[0].as_array().unwrap().clone();
            let chunks = columns.iter().zip(values.chunks(4));
            chunks.map(|((_, kind), four)| kind.figures(four)).collect::<Vec<_>>()
        });
        for (at, (name, kind)) in columns.iter().enumerate() {
            let read = counted(&parts, at, *kind);
            assert!(
                same(&read, &expected[at]),
                "{table}.{name}: {read:?} of {:?}",
                expected[at]
            );
            if let Some(theirs) = &theirs {
                let read = &theirs[at];
                assert!(
                    same(read, &expected[at]),
                    "{table}.{name}: {read:?} of {:?}",
                    expected[at]
                );
            }
        }
    }
    assert_eq!(kinds.len(), 6, "a column of every kind: {kinds:?}");
    if let Some(duckdb) = duckdb {
        let all = place.join("process/**/*.parquet");
        let sql = format!(
            "SELECT DISTINCT host, CAST(day AS VARCHAR) FROM read_parquet('{}', hive_partitioning = true)",
            all.display()
        );
        let partitions = duckdb.ask(&[sql]).remove(0);
        assert_eq!(
            partitions.as_array().unwrap().len(),
            tables["process"].len(),
            "{partitions}"
        );
    }
}

const CSV: [&str; 4] = ["--tables", "beh_full", "--format", "csv"];

/// What the directory of a whole export holds: the measure for all others.
fn whole(host: &Host) -> BTreeMap<String, Vec<u8>> {
    let place = host.dir().join("whole");
    let output = export(host, place.to_str().unwrap(), &CSV).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let found = files(&place).into_iter();
    found.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

fn to_s3(host: &Host, s3: &S3) -> Command {
    let mut command = export(host, "s3://bucket/some/prefix", &CSV);
    s3.tell(&mut command);
    command
}

#[test]
fn an_object_store_gets_the_bytes_of_the_directory() {
    let host = recorded(true);
    let expected = whole(&host);
    let s3 = S3::start(Parts::Taken);
    let output = to_s3(&host, &s3).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert_eq!(s3.complaints(), Vec::<String>::new());
    assert!(
        s3.uploads_begun() > 0,
        "{:?} bytes in one piece",
        expected.values().map(Vec::len)
    );
    assert_eq!(s3.uploads_open(), 0);
    let objects = s3.objects();
    let named: Vec<String> = expected
        .keys()
        .map(|name| format!("bucket/some/prefix/{name}"))
        .collect();
    assert_eq!(objects.keys().collect::<Vec<_>>(), named.iter().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        assert!(
            &objects[&format!("bucket/some/prefix/{name}")] == bytes,
            "{name} differs"
        );
    }
}

#[test]
fn an_upload_that_is_refused_is_given_up_and_said() {
    let host = recorded(true);
    let s3 = S3::start(Parts::Refused);
    let output = to_s3(&host, &s3).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let said = words(&output);
    assert!(
        said.contains("s3://bucket/some/prefix") && said.contains("beh_full"),
        "{said}"
    );
    assert_eq!(s3.objects().len(), 0);
    assert_eq!((s3.uploads_begun(), s3.uploads_open()), (1, 0), "the upload is aborted");
}

#[test]
fn an_interrupted_upload_is_no_object() {
    let host = recorded(true);
    let s3 = S3::start(Parts::Held);
    let child = started(to_s3(&host, &s3));
    until("a part is on its way", SOON, || (s3.held() > 0).then_some(()));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", words(&output));
    assert_eq!(s3.objects().len(), 0);
}

#[test]
fn a_killed_export_leaves_no_file_that_looks_whole_and_the_next_one_clears_up() {
    let host = recorded(true);
    let expected = whole(&host);
    let place = host.dir().join("killed");
    let mut child = started(export(&host, place.to_str().unwrap(), &CSV));
    until("a part is being written", SOON, || {
        let ended = child.try_wait().unwrap().is_some();
        (ended || !files(&place).is_empty()).then_some(())
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    // It may have been quicker than this test. What bears the name of a part is whole in any case.
    for (name, path) in files(&place) {
        if name.ends_with(".csv") {
            assert!(fs::read(path).unwrap() == expected[&name], "{name} is not whole");
        }
    }
    let output = export(&host, place.to_str().unwrap(), &CSV).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let names: Vec<String> = files(&place).into_keys().collect();
    assert_eq!(names, expected.keys().cloned().collect::<Vec<_>>());
    for (name, path) in files(&place) {
        assert!(fs::read(path).unwrap() == expected[&name], "{name} differs");
    }
}
