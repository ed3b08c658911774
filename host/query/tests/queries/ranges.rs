//! Range functions, against plain loops over the rows that were stored.

use crate::recording::{Answer, Recording, SECOND, at, request, table, ten_seconds};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use std::collections::BTreeMap;
use std::sync::Arc;
use vwatch_model::query::Request;
use vwatch_model::{Column, ColumnType, TableKind};
use vwatch_store::Body;

#[derive(Debug, Clone)]
struct Row {
    second: i64,
    pid: i32,
    state: &'static str,
    count: Option<i64>,
    wide: u64,
}

/// 200 s of processes whose numbers are given again, counters that are reset and wrap, and values that are not known.
fn rows() -> Vec<Row> {
    let mut all = Vec::new();
    let mut random = 12345u64;
    for second in 0..200 {
        for pid in 0..7i32 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            if random >> 60 == 0 {
                continue;
            }
            let base = second * i64::from(pid + 1) * 10;
            all.push(Row {
                second,
                pid,
                state: ["R", "S", "D"][(random >> 40) as usize % 3],
                count: match pid {
                    0 => (random >> 58 != 1).then_some(base),
                    1 => Some(base % 700),
                    2 => Some(((1i64 << 32) - 900 + base) % (1 << 32)),
                    _ => Some(base),
                },
                wide: u64::MAX - 2000 + second as u64,
            });
        }
    }
    all
}

fn recording(rows: &[Row]) -> Recording {
    let mut recording = Recording::begin();
    let schema = table(
        "counted",
        TableKind::State,
        vec![
            Column::new("pid", ColumnType::I32, "").key(),
            Column::new("state", ColumnType::String, ""),
            Column::new("count", ColumnType::I64, "").nullable(),
            Column::new("wide", ColumnType::U64, ""),
        ],
    );
    let id = recording.table(&schema);
    let instance = recording.instance("test.counted", "test.counted", true);
    for second in 0..200 {
        let of: Vec<&Row> = rows.iter().filter(|r| r.second == second).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(of.iter().map(|r| Some(r.pid)).collect::<Int32Array>()),
            Arc::new(of.iter().map(|r| Some(r.state)).collect::<StringArray>()),
            Arc::new(of.iter().map(|r| r.count).collect::<Int64Array>()),
            Arc::new(of.iter().map(|r| Some(r.wide)).collect::<UInt64Array>()),
        ];
        let batch = RecordBatch::try_new(schema.arrow(), columns).unwrap();
        recording.push(id, instance, at(second), SECOND, Body::Full(batch));
        recording.commit(at(second));
    }
    recording
}

fn grown(before: i64, now: i64) -> i64 {
    let wrap = 1i64 << 32;
    if now >= before {
        now - before
    } else if before < wrap && before >= wrap - (1 << 28) {
        now + wrap - before
    } else {
        now
    }
}

/// `pid|delta|rate|changes` of the rows, worked out one by one.
fn expected(rows: &[Row]) -> Vec<String> {
    let mut groups: BTreeMap<i32, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.pid).or_default().push(row);
    }
    let answer = |(pid, rows): (&i32, &Vec<&Row>)| {
        let counts: Vec<(i64, i64)> = rows.iter().filter_map(|r| Some((r.second, r.count?))).collect();
        let delta: i64 = counts.windows(2).map(|w| grown(w[0].1, w[1].1)).sum();
        let seconds = counts.last().unwrap().0 - counts[0].0;
        let rate = match seconds {
            0 => String::new(),
            s => format!("{:.6}", delta as f64 / s as f64),
        };
        let changes = rows.windows(2).filter(|w| w[0].state != w[1].state).count();
        format!("{pid}|{delta}|{rate}|{changes}")
    };
    groups.iter().map(answer).collect()
}

fn rounded(answer: Answer) -> Vec<String> {
    let round = |row: String| {
        let mut cells: Vec<String> = row.split('|').map(str::to_owned).collect();
        if let Ok(rate) = cells[2].parse::<f64>() {
            cells[2] = format!("{rate:.6}");
        }
        cells.join("|")
    };
    answer.whole().into_iter().map(round).collect()
}

const WANTED: &str = "delta(count, time), rate(count, time), changes(state, time)";

#[test]
fn groups() {
    let rows = rows();
    let recording = recording(&rows);
    let sql = format!("SELECT pid, {WANTED} FROM counted_history GROUP BY pid ORDER BY pid");
    assert_eq!(rounded(recording.ask(&sql)), expected(&rows));
    let sql = format!("SELECT pid, {WANTED} FROM counted_history WHERE time < '10:42:01' GROUP BY pid ORDER BY pid");
    let first: Vec<Row> = rows.iter().filter(|r| r.second < 1).cloned().collect();
    assert_eq!(rounded(recording.ask(&sql)), expected(&first));
    // Without groups, and with a filter of its own.
    for pid in 0..7 {
        let of: Vec<Row> = rows.iter().filter(|r| r.pid == pid).cloned().collect();
        let sql = format!("SELECT min(pid), {WANTED} FROM counted_history WHERE pid = {pid}");
        assert_eq!(rounded(recording.ask(&sql)), expected(&of));
        let sql = format!("SELECT delta(count, time) FILTER (WHERE pid = {pid}) FROM counted_history");
        let delta = expected(&of)[0].split('|').nth(1).unwrap().to_owned();
        assert_eq!(recording.ask(&sql).whole(), [delta]);
    }
    // The same from rows in the wrong order, sorted by the function's own ORDER BY, and in two halves.
    let sql = "SELECT pid, delta(count, time ORDER BY time), rate(count, time ORDER BY time), changes(state, time ORDER BY time) \
               FROM (SELECT * FROM counted_history WHERE time >= '10:43' UNION ALL \
               SELECT * FROM counted_history WHERE time < '10:43') GROUP BY pid ORDER BY pid";
    assert_eq!(rounded(recording.ask(sql)), expected(&rows));
    let unsorted = sql.replace(" ORDER BY time)", ")");
    assert_eq!(rounded(recording.ask(&unsorted)), expected(&rows));
    let sql = "SELECT pid, delta(count, time ORDER BY time), rate(count, time ORDER BY time), changes(state, time ORDER BY time) \
               FROM (SELECT * FROM counted_history ORDER BY (count * 7919) % 1000 LIMIT 5000) GROUP BY pid ORDER BY pid";
    assert_eq!(rounded(recording.ask(sql)), expected(&rows));
    // Backward in time is as good as forward.
    let sql = format!(
        "SELECT pid, {WANTED} FROM (SELECT * FROM counted_history ORDER BY time DESC LIMIT 5000) GROUP BY pid ORDER BY pid"
    );
    assert_eq!(rounded(recording.ask(&sql)), expected(&rows));
}

#[test]
fn types_and_windows() {
    let rows = rows();
    let recording = recording(&rows);
    let ask = |sql: &str| recording.ask(sql).whole();
    let last = rows.iter().rfind(|r| r.pid == 5).unwrap();
    let first = rows.iter().find(|r| r.pid == 5).unwrap();
    let apart = last.second - first.second;
    assert_eq!(
        ask(
            "SELECT delta(wide, time), delta(CAST(pid AS INT), time), delta(count / 2.0, time), changes(wide > 7, time), \
             changes(time, time) > 100 FROM counted_history WHERE pid = 5"
        ),
        [format!("{apart}|0|{:.1}|0|true", apart as f64 * 30.0)]
    );
    assert_eq!(
        ask("SELECT delta(NULL, time), rate(count, time), changes(state, time) FROM counted_history WHERE pid = 99"),
        ["||0"]
    );
    let running =
        ask("SELECT delta(count, time) OVER (ORDER BY time) FROM counted_history WHERE pid = 5 ORDER BY time");
    let expect: Vec<String> = rows
        .iter()
        .filter(|r| r.pid == 5)
        .map(|r| ((r.second - first.second) * 60).to_string())
        .collect();
    assert_eq!(running, expect);
}

#[test]
fn rows_that_cannot_be_right_are_refused() {
    let recording = recording(&rows());
    for (sql, words) in [
        ("SELECT delta(count, time) FROM counted_history", "GROUP BY"),
        (
            "SELECT state, rate(count, time) FROM counted_history GROUP BY state",
            "one time",
        ),
        ("SELECT changes(state, time) FROM counted_history", "one time"),
        (
            "SELECT pid, delta(count, time) FROM (SELECT * FROM counted_history ORDER BY (count * 7919) % 1000 LIMIT 5000) \
             GROUP BY pid",
            "ORDER BY time",
        ),
        ("SELECT delta(count) FROM counted_history", "delta(counter, time)"),
        ("SELECT rate(count) FROM counted_history", "rate(counter, time)"),
        ("SELECT rate(state, time) FROM counted_history", "rate(counter, time)"),
        ("SELECT changes(state, count) FROM counted_history", "has to be a time"),
        ("SELECT delta(DISTINCT count, time) FROM counted_history", "DISTINCT"),
        ("SELECT time_bucket('10', time) FROM counted_history", "duration"),
        (
            "SELECT time_bucket('10s') FROM counted_history",
            "time_bucket('10s', time)",
        ),
        ("SELECT time_bucket(state, time) FROM counted_history", "constant"),
        (
            "SELECT time_bucket(interval '1 month', time) FROM counted_history",
            "date_trunc",
        ),
    ] {
        let failure = recording.ask(sql).refusal();
        assert_eq!(failure.kind, "request", "{sql}: {failure:?}");
        let text = format!("{} {}", failure.message, failure.hint.clone().unwrap_or_default());
        assert!(text.contains(words), "{sql}: {failure:?}");
        assert!(failure.hint.is_some(), "{sql}: {failure:?}");
        assert!(
            !text.contains("coercion") && !text.contains("planning"),
            "{sql}: {failure:?}"
        );
    }
}

#[test]
fn buckets() {
    let recording = ten_seconds();
    let rows = |sql: &str| recording.ask(sql).whole();
    assert_eq!(
        rows(
            "SELECT time_bucket('4s', time) AS at, count(*), max(rss_bytes) FROM process_history GROUP BY at ORDER BY at"
        ),
        [
            "2026-01-02T10:42:00Z|9|3003",
            "2026-01-02T10:42:04Z|10|3005",
            "2026-01-02T10:42:08Z|4|2009"
        ]
    );
    assert_eq!(
        rows("SELECT DISTINCT time_bucket(interval '1 minute', time) FROM process_history"),
        ["2026-01-02T10:42:00Z"]
    );
    let local = Request {
        zone: Some("Asia/Kolkata".into()),
        ..request("SELECT DISTINCT time_bucket('1d', time) FROM process_history")
    };
    assert_eq!(
        recording.answer(&local, &recording.terms()).whole(),
        ["2026-01-02T00:00:00+05:30"]
    );
    let rate = "SELECT time_bucket('5s', time) AS at, pid, delta(rss_bytes, time) FROM process_history WHERE pid = 1 \
                GROUP BY at, pid ORDER BY at";
    assert_eq!(rows(rate), ["2026-01-02T10:42:00Z|1|4", "2026-01-02T10:42:05Z|1|4"]);
}
