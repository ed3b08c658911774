//! The statements of `docs/sql.md` do what the page says they do: each is run.

use crate::recording::{Recording, SECOND, at, exit_row, process_exit, request, table};
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use std::sync::Arc;
use vwatch_model::query::Request;
use vwatch_model::{Column, ColumnType, TableKind};
use vwatch_store::Body;

const PAGE: &str = include_str!("../../../../docs/sql.md");

/// The statements of the page's SQL blocks.
fn statements() -> Vec<String> {
    let mut all = Vec::new();
    for block in PAGE.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let statements = block.split(";\n").map(str::trim).filter(|s| !s.is_empty());
        all.extend(statements.map(str::to_owned));
    }
    all
}

/// A recording with the columns that the page names, from 10:39:00 to 10:42:04.
fn recording() -> Recording {
    let mut recording = Recording::begin();
    let counter = |name: &str, unit: Option<&str>| Column {
        counter: true,
        unit: unit.map(str::to_owned),
        ..Column::new(name, ColumnType::I64, "")
    };
    let columns = vec![
        Column::new("pid", ColumnType::I32, "").key(),
        Column::new("start_time", ColumnType::Timestamp, "").key(),
        Column::new("comm", ColumnType::String, ""),
        Column::new("rss_bytes", ColumnType::I64, ""),
        counter("utime_ns", Some("ns")),
        counter("stime_ns", Some("ns")),
        counter("minflt", None),
    ];
    let schema = table("process", TableKind::State, columns);
    let process = recording.table(&schema);
    let default = recording.instance("process.process", "process.process", true);
    let load_schema = table(
        "load",
        TableKind::State,
        vec![Column::new("load_1m", ColumnType::F64, "")],
    );
    let load = recording.table(&load_schema);
    let os = recording.instance("os.load", "os.load", true);
    for s in (-180..=4).step_by(2) {
        let mut rows = vec![(1, "init", 100), (4711, "postgres", 1000 + s)];
        if s < -60 {
            rows.push((9, "gone", 5));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|_| at(-3600))).with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))),
            Arc::new(Int64Array::from_iter_values(
                rows.iter().map(|_| (s + 180) * SECOND / 2),
            )),
            Arc::new(Int64Array::from_iter_values(
                rows.iter().map(|_| (s + 180) * SECOND / 4),
            )),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|_| (s + 180) * 3))),
        ];
        let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
        recording.push(process, default, at(s), 2 * SECOND, Body::Full(rows));
        let rows = vec![Arc::new(Float64Array::from(vec![0.5])) as ArrayRef];
        let rows = RecordBatch::try_new(load_schema.arrow(), rows).unwrap();
        recording.push(load, os, at(s), 2 * SECOND, Body::Full(rows));
        recording.commit(at(s));
    }
    let exits = recording.table(&process_exit());
    let exit = recording.instance("process.process_exit", "process.process_exit", true);
    recording.push(exits, exit, at(4), 0, Body::Events(exit_row(at(-60), 9, 0)));
    recording.commit(at(4));
    recording.gap((at(1), at(4)), None, "missed_tick");
    recording
}

#[test]
fn every_statement_of_the_page_runs() {
    let statements = statements();
    assert!(statements.len() >= 10, "{statements:?}");
    let recording = recording();
    let terms = recording.terms();
    for sql in statements {
        let answer = recording.answer(&request(&sql), &terms);
        assert_eq!(answer.failure, None, "{sql}");
        let chosen = sql.contains("instance = 'fast'");
        assert!(chosen || !answer.rows.is_empty(), "no rows: {sql}");
    }
}

#[test]
fn the_examples_answer_what_they_promise() {
    let recording = recording();
    let of = |words: &str| {
        let sql = statements().into_iter().find(|s| s.contains(words)).expect(words);
        recording.answer(&request(&sql), &recording.terms()).whole()
    };
    assert_eq!(of("What has grown"), ["4711|postgres|124", "1|init|0"]);
    assert_eq!(of("What is gone"), ["9|gone"]);
    assert_eq!(
        of("ORDER BY cpu_percent DESC"),
        ["1|init|75.0|3.0", "4711|postgres|75.0|3.0"]
    );
    assert_eq!(of("FROM process_rate FOR"), ["4711|75.0"]);
    let grown = of("delta(utime_ns");
    assert!(grown.contains(&format!("1|100|{}", 92 * SECOND)), "{grown:?}");
    assert!(of("rate(minflt").contains(&"2026-01-02T10:41:00Z|4711|3.0|0".to_owned()));
    assert_eq!(of("cpu_percent FROM process_rate_history").len(), 30);
    let rates = of("lag(utime_ns)");
    assert!(
        rates.len() > 10 && rates[1..].iter().all(|r| r.ends_with("|0.5") || r.ends_with("|1.0")),
        "{rates:?}"
    );
}

#[test]
fn functions_are_listed() {
    let recording = recording();
    let sql = Request {
        sql: "SHOW FUNCTIONS LIKE 'date_bin'".into(),
        ..Request::default()
    };
    assert!(!recording.answer(&sql, &recording.terms()).whole().is_empty());
}
