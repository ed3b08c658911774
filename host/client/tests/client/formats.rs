//! Every output format over the same two answers, compared with golden files; the binary ones are read back by other code.
//! `UPDATE=1` rewrites the golden files: look at what changed.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::{RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vwatch_client::output::{Format, OutputError, Style, sink};

use crate::batches;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(format: Format, style: Style, batches: &[RecordBatch]) -> (Vec<u8>, Vec<String>) {
    let out = Shared::default();
    let mut sink = sink(format, style, Box::new(out.clone()));
    sink.schema(&batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| sink.rows(batch).unwrap());
    let notes = sink.finish().unwrap();
    drop(sink);
    (out.0.lock().unwrap().clone(), notes)
}

fn text(format: Format, style: Style, batches: &[RecordBatch]) -> String {
    String::from_utf8(write(format, style, batches).0).unwrap()
}

fn golden(name: &str, format: Format, style: Style, batches: &[RecordBatch]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let got = text(format, style, batches);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, want, "{name}; UPDATE=1 rewrites it");
}

const PLAIN: Style = Style {
    width: None,
    color: false,
    null: "",
    last_whole: false,
};

fn terminal(width: usize) -> Style {
    Style {
        width: Some(width),
        color: true,
        null: "NULL",
        last_whole: false,
    }
}

#[test]
fn text_formats() {
    for (name, batch) in [("processes", batches::processes()), ("oddities", batches::oddities())] {
        // In two batches: formats that have a head or brackets write them once.
        let batches = [batch.slice(0, 2), batch.slice(2, 1)];
        golden(&format!("{name}.table"), Format::Table, PLAIN, &batches);
        golden(&format!("{name}.json"), Format::Json, PLAIN, &batches);
        golden(&format!("{name}.jsonl"), Format::Jsonl, PLAIN, &batches);
        golden(&format!("{name}.csv"), Format::Csv, PLAIN, &batches);
    }
}

#[test]
fn tables_on_a_terminal() {
    let batch = batches::processes();
    golden(
        "processes.80.table",
        Format::Table,
        terminal(80),
        std::slice::from_ref(&batch),
    );
    // Too narrow and few rows: one column per line. More rows: columns are left out, and it says which.
    golden(
        "processes.40.table",
        Format::Table,
        terminal(40),
        std::slice::from_ref(&batch),
    );
    let (out, notes) = write(Format::Table, terminal(40), &[batch.clone(), batch]);
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 7);
    assert_eq!(
        notes,
        ["3 columns do not fit and are left out: comm, rss_bytes, cpu_percent"]
    );
}

#[test]
fn a_reason_is_never_cut() {
    let why = "it is a text, not a shared library; remove it from the plugins directory";
    let names = StringArray::from(vec!["a name that is rather long for its column", "b"]);
    let reasons = StringArray::from(vec![None, Some(why)]);
    let batch = batches::batch(vec![("name", Arc::new(names)), ("reason", Arc::new(reasons))]);
    let style = Style {
        width: Some(40),
        last_whole: true,
        ..PLAIN
    };
    let shown = text(Format::Table, style, &[batch.clone(), batch]);
    assert!(shown.lines().nth(2).unwrap().ends_with(why), "{shown}");
    assert!(shown.lines().nth(1).unwrap().ends_with("long for …"), "{shown}");
}

#[test]
fn json_is_exact() {
    let batch = batches::oddities();
    let json: serde_json::Value =
        serde_json::from_str(&text(Format::Json, PLAIN, std::slice::from_ref(&batch))).unwrap();
    let rows = json.as_array().unwrap();
    assert_eq!(rows[0]["u64"].as_u64(), Some(u64::MAX));
    assert_eq!(rows[1]["u64"].as_u64(), Some(9_007_199_254_740_993));
    assert_eq!(rows[0]["i64"].as_i64(), Some(i64::MIN));
    assert_eq!(rows[1]["f64"].as_f64(), Some(1e300));
    assert!(rows[0]["f64"].is_null());
    assert_eq!(rows[0]["bytes"], "00ff22");
    assert_eq!(rows[0]["list"], serde_json::json!([1, null, 3]));
    assert_eq!(rows[2]["text"], "\u{1b}[31mred\u{202e}\u{9b} 日本 \\");
    assert_eq!(rows[0]["text_2"], "a column");
    let lines = text(Format::Jsonl, PLAIN, &[batch]);
    let parsed: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(&parsed, rows);
}

#[test]
fn nothing_recorded_can_steer_a_terminal() {
    let shown = text(Format::Table, PLAIN, &[batches::oddities()]);
    assert!(!shown.contains('\x1b') && !shown.contains('\u{202e}'));
    assert_eq!(shown.lines().count(), 4);
}

#[test]
fn binary_formats_are_read_back() {
    for batch in [batches::processes(), batches::oddities()] {
        let (arrow, _) = write(Format::Arrow, PLAIN, &[batch.clone(), batch.clone()]);
        let read: Vec<RecordBatch> = StreamReader::try_new(&arrow[..], None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(format!("{read:?}"), format!("{:?}", [batch.clone(), batch]));
    }
    let batch = batches::processes();
    let (parquet, _) = write(Format::Parquet, PLAIN, std::slice::from_ref(&batch));
    let reader = ParquetRecordBatchReaderBuilder::try_new(hyper::body::Bytes::from(parquet)).unwrap();
    let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].columns(), batch.columns());
}

#[test]
fn answers_without_rows_are_whole_documents() {
    let none = batches::processes().slice(0, 0);
    assert_eq!(text(Format::Json, PLAIN, std::slice::from_ref(&none)), "[]\n");
    assert_eq!(text(Format::Jsonl, PLAIN, std::slice::from_ref(&none)), "");
    assert_eq!(
        text(Format::Csv, PLAIN, std::slice::from_ref(&none)),
        "time,pid,comm,rss_bytes,cpu_percent\n"
    );
    assert_eq!(
        text(Format::Table, PLAIN, &[none]),
        "time  pid  comm  rss_bytes  cpu_percent\n"
    );
}

#[test]
fn a_closed_pipe_is_told_from_other_errors() {
    struct Closed(io::ErrorKind);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let batch = batches::processes();
    for format in [
        Format::Table,
        Format::Json,
        Format::Jsonl,
        Format::Csv,
        Format::Arrow,
        Format::Parquet,
    ] {
        let outcome = |kind| -> Result<(), OutputError> {
            let mut sink = sink(format, PLAIN, Box::new(Closed(kind)));
            sink.schema(&batch.schema())?;
            sink.rows(&batch)?;
            sink.finish()?;
            Ok(())
        };
        let closed = outcome(io::ErrorKind::BrokenPipe).expect_err("it was written");
        assert!(closed.is_closed(), "{format:?}: {closed}");
        let full = outcome(io::ErrorKind::StorageFull).expect_err("it was written");
        assert!(!full.is_closed(), "{format:?}: {full}");
    }
}
