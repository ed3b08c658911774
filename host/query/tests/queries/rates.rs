//! The rate views, against plain loops over the rows that were stored.

use crate::recording::{Recording, SECOND, T0, at, request, table};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use std::collections::BTreeMap;
use std::sync::Arc;
use vwatch_model::query::Request;
use vwatch_model::{Column, ColumnType, TableKind, TableSchema};
use vwatch_store::{Body, Sample};

/// (pid, start_ticks) and (utime, stime, minflt).
type Rows = BTreeMap<(i32, i64), [Option<i64>; 3]>;

struct Taken {
    wall_ns: i64,
    boot_ns: i64,
    rows: Rows,
}

fn counted() -> TableSchema {
    let counter = |name: &str, unit: Option<&str>| Column {
        counter: true,
        unit: unit.map(str::to_owned),
        ..Column::new(name, ColumnType::I64, "Counts.").nullable()
    };
    let columns = vec![
        Column::new("pid", ColumnType::I32, "Process id.").key(),
        Column::new("start_ticks", ColumnType::I64, "Start.").key(),
        Column::new("comm", ColumnType::String, "Command name."),
        counter("utime_ns", Some("ns")),
        counter("stime_ns", Some("ns")),
        counter("minflt", None),
    ];
    table("process", TableKind::State, columns)
}

fn batch(rows: &Rows) -> RecordBatch {
    let counter = |n: usize| Arc::new(rows.values().map(|v| v[n]).collect::<Int64Array>()) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.keys().map(|k| k.0).collect::<Int32Array>()),
        Arc::new(rows.keys().map(|k| k.1).collect::<Int64Array>()),
        Arc::new(rows.keys().map(|k| Some(format!("p{}", k.0))).collect::<StringArray>()),
        counter(0),
        counter(1),
        counter(2),
    ];
    RecordBatch::try_new(counted().arrow(), columns).unwrap()
}

/// Two minutes in which everything happens that can happen to counters.
fn eventful() -> (Recording, Vec<Taken>) {
    let wrap = 1i64 << 32;
    let mut taken = Vec::new();
    for s in 0..130i64 {
        // From 60 s to 70 s the recorder does not run; at 100 s the host has booted, with its clock half an hour ahead.
        if (60..70).contains(&s) || (100..104).contains(&s) {
            continue;
        }
        let booted = s >= 104;
        let mut rows = Rows::new();
        let busy = |rate: i64| s * rate * SECOND / 100;
        rows.insert((1, 1), [Some(busy(3)), Some(busy(1)), Some(s * 7)]);
        // A counter of 32 bits that wraps at 20 s.
        rows.insert((2, 2), [Some(0), Some(0), Some((wrap - 2000 + s * 100) % wrap)]);
        // Counts from zero again at 30 s, and is not known at 40 s.
        let reset = if s < 30 { 5000 + s * 11 } else { (s - 30) * 13 };
        rows.insert((3, 3), [Some(0), Some(0), (s != 40).then_some(reset)]);
        // Its number is given to another at 50 s.
        rows.insert((4, if s < 50 { 4 } else { 44 }), [Some(busy(50)), Some(0), Some(s)]);
        // Comes and goes.
        if s % 10 < 6 {
            rows.insert((5, 5), [Some(busy(10)), Some(busy(20)), Some(s * s)]);
        }
        let boot_ns = if booted {
            (s - 103) * SECOND
        } else {
            s * SECOND + 900 * SECOND
        };
        let wall_ns = if booted { at(s) + 1800 * SECOND } else { at(s) } + s % 3 * 1_000_000;
        taken.push(Taken {
            wall_ns,
            boot_ns: boot_ns + s % 3 * 1_000_000,
            rows,
        });
    }
    (store(&taken), taken)
}

fn store(taken: &[Taken]) -> Recording {
    let mut recording = Recording::begin();
    let mut before_ns = T0;
    for sample in taken {
        if sample.wall_ns - before_ns > 5 * SECOND {
            recording.close(before_ns + 1);
            recording.reopen(sample.wall_ns - 1);
        }
        let table = recording.table(&counted());
        let instance = recording.instance("process.process", "process.process", true);
        let stored = Sample {
            table,
            instance,
            time_ns: sample.wall_ns,
            boot_ns: sample.boot_ns,
            interval_ns: SECOND as u64,
            body: Body::Full(batch(&sample.rows)),
        };
        recording.writer().push(stored).unwrap();
        recording.commit(sample.wall_ns + 1);
        before_ns = sample.wall_ns;
    }
    recording
}

/// What a counter grew by, by the rules of the documentation.
fn grown(before: i64, now: i64) -> i64 {
    let wrap = 1i64 << 32;
    match now - before {
        more if more >= 0 => more,
        _ if before < wrap && before >= wrap - (1 << 28) => now + wrap - before,
        _ => now,
    }
}

/// `time|pid|start|elapsed|utime_percent|stime_percent|minflt_per_s|cpu_percent` of every row, worked out one by one.
fn expected(taken: &[Taken]) -> Vec<Vec<Option<f64>>> {
    let mut all = Vec::new();
    for (n, sample) in taken.iter().enumerate() {
        let before = n.checked_sub(1).map(|b| &taken[b]);
        let before = before.filter(|b| b.boot_ns < sample.boot_ns);
        for (key, counters) in &sample.rows {
            let pair = before.and_then(|b| Some((b, b.rows.get(key)?)));
            let seconds = pair.map(|(b, _)| (sample.boot_ns - b.boot_ns) as f64 / 1e9);
            let rate = |n: usize, scale: f64| {
                let (_, old) = pair?;
                Some(grown(old[n]?, counters[n]?) as f64 * scale / seconds?)
            };
            let (user, system) = (rate(0, 1e-7), rate(1, 1e-7));
            all.push(vec![
                Some((sample.wall_ns - T0) as f64),
                Some(f64::from(key.0)),
                Some(key.1 as f64),
                seconds.map(|s| s * 1e9),
                user,
                system,
                rate(2, 1.0),
                user.zip(system).map(|(u, s)| u + s),
            ]);
        }
    }
    all
}

const WANTED: &str = "CAST(time AS BIGINT) - 1767350520000000000, pid, start_ticks, elapsed_ns, utime_percent, \
     stime_percent, minflt_per_s, cpu_percent";

fn numbers(rows: &[String]) -> Vec<Vec<Option<f64>>> {
    let number = |cell: &str| (!cell.is_empty()).then(|| cell.parse().unwrap());
    rows.iter().map(|row| row.split('|').map(number).collect()).collect()
}

fn same(found: &[Vec<Option<f64>>], expect: &[Vec<Option<f64>>], what: &str) {
    assert_eq!(found.len(), expect.len(), "{what}");
    for (found, expect) in found.iter().zip(expect) {
        for (f, e) in found.iter().zip(expect) {
            let near = match (f, e) {
                (Some(f), Some(e)) => (f - e).abs() <= e.abs() * 1e-9,
                (f, e) => f == e,
            };
            assert!(near, "{what}: {found:?} is not {expect:?}");
        }
    }
}

#[test]
fn each_sample_against_the_one_before() {
    let (recording, taken) = eventful();
    let expect = expected(&taken);
    let known = |column: usize| expect.iter().filter(|r| r[column].is_some()).count();
    assert!(known(6) > 400 && known(6) < expect.len() && known(4) > known(6));
    let ask = |sql: &str| numbers(&recording.ask(sql).whole());
    let all = format!("SELECT {WANTED} FROM process_rate_history");
    same(&ask(&format!("{all} ORDER BY time, pid")), &expect, "all");
    // What is asked for does not change what a rate is.
    for pid in 1..=5 {
        let of: Vec<_> = expect
            .iter()
            .filter(|r| r[1] == Some(f64::from(pid)))
            .cloned()
            .collect();
        same(
            &ask(&format!("{all} WHERE pid = {pid} ORDER BY time")),
            &of,
            &format!("pid {pid}"),
        );
    }
    for (from, to) in [(0, 5), (28, 33), (59, 61), (61, 80), (70, 70), (1000, 3000)] {
        let span = format!(
            "time >= to_timestamp_seconds({}) AND time < to_timestamp_seconds({})",
            at(from) / SECOND,
            at(to + 1) / SECOND
        );
        let of = |r: &&Vec<Option<f64>>| {
            let time = r[0].unwrap() as i64;
            (from * SECOND..(to + 1) * SECOND).contains(&time)
        };
        let of: Vec<_> = expect.iter().filter(of).cloned().collect();
        same(&ask(&format!("{all} WHERE {span} ORDER BY time, pid")), &of, &span);
    }
    let busy = expect.iter().filter(|r| r[7].is_some_and(|p| p > 25.0)).count();
    let sql = "SELECT count(*) FROM process_rate_history WHERE cpu_percent > 25 AND comm LIKE 'p%'";
    assert_eq!(recording.ask(sql).whole(), [busy.to_string()]);
}

#[test]
fn a_moment_has_the_rates_of_its_last_sample() {
    let (recording, taken) = eventful();
    let expect = expected(&taken);
    for sample in taken.iter().step_by(7).chain(&taken[50..80]) {
        let of: Vec<_> = expect
            .iter()
            .filter(|r| r[0] == Some((sample.wall_ns - T0) as f64))
            .cloned()
            .collect();
        let moment = Request {
            at: Some(vwatch_model::time::Moment::Ns(sample.wall_ns + SECOND / 5)),
            ..request(&format!("SELECT {WANTED} FROM process_rate ORDER BY pid"))
        };
        let found = recording.answer(&moment, &recording.terms()).whole();
        same(&numbers(&found), &of, &format!("at {}", sample.wall_ns - T0));
    }
    let sql = format!("SELECT {WANTED} FROM process_rate FOR SYSTEM_TIME AS OF '10:42:21' ORDER BY pid");
    let at_21: Vec<_> = expect.iter().filter(|r| r[0] == Some(21e9)).cloned().collect();
    same(&numbers(&recording.ask(&sql).whole()), &at_21, "as of");
    // Now is the last sample; one sample alone has no rates.
    let last = taken.last().unwrap().wall_ns - T0;
    let now: Vec<_> = expect.iter().filter(|r| r[0] == Some(last as f64)).cloned().collect();
    let sql = format!("SELECT {WANTED} FROM process_rate ORDER BY pid");
    same(&numbers(&recording.ask(&sql).whole()), &now, "now");
    let first = store(&taken[..1]);
    assert_eq!(
        first
            .ask("SELECT count(*), count(elapsed_ns), count(minflt_per_s) FROM process_rate")
            .whole(),
        ["5|0|0"]
    );
}

#[test]
fn a_stepped_wall_clock_changes_no_rate() {
    let sample = |wall: i64, boot: i64, minflt: i64| Taken {
        wall_ns: at(wall),
        boot_ns: boot * SECOND,
        rows: Rows::from([((1, 1), [Some(0), Some(0), Some(minflt)])]),
    };
    // At 2 s the wall clock is put an hour ahead.
    let recording = store(&[
        sample(0, 5000, 0),
        sample(1, 5001, 10),
        sample(3602, 5002, 20),
        sample(3603, 5003, 30),
    ]);
    let rates = recording
        .ask("SELECT minflt_per_s FROM process_rate_history ORDER BY time")
        .whole();
    assert_eq!(rates, ["", "10.0", "10.0", "10.0"]);
}

#[test]
fn views_of_the_contract_and_their_descriptions() {
    let counters = |names: &[(&str, Option<&str>)]| {
        let mut columns = vec![Column::new("name", ColumnType::String, "Which.").key()];
        columns.extend(names.iter().map(|(name, unit)| Column {
            counter: true,
            unit: unit.map(str::to_owned),
            ..Column::new(name, ColumnType::I64, "Counts.")
        }));
        columns
    };
    let mut recording = Recording::begin();
    let modes: Vec<(&str, Option<&str>)> = ["user_ns", "nice_ns", "system_ns", "idle_ns", "iowait_ns", "irq_ns"]
        .map(|n| (n, Some("ns")))
        .to_vec();
    for (name, columns) in [
        ("cpu_time", counters(&modes)),
        (
            "disk_io",
            counters(&[("read_bytes", Some("bytes")), ("io_time_ns", Some("ns"))]),
        ),
        ("net_io", counters(&[("rx_packets", None)])),
    ] {
        let schema = table(name, TableKind::State, columns);
        let id = recording.table(&schema);
        let instance = recording.instance(name, name, true);
        for s in 0..2 {
            let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a"]))];
            for n in 1..schema.columns.len() as i64 {
                columns.push(Arc::new(Int64Array::from(vec![s * n * SECOND / 100])));
            }
            let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
            recording.push(id, instance, at(s), SECOND, Body::Full(rows));
        }
        recording.commit(at(1));
    }
    let rows = |sql: &str| recording.ask(sql).whole();
    assert_eq!(
        rows("SELECT name FROM vw_tables WHERE kind = 'rate' ORDER BY name"),
        ["cpu_rate", "disk_rate", "net_rate"]
    );
    assert_eq!(
        rows("SELECT name FROM vw_tables WHERE kind = 'rate_history' ORDER BY name"),
        ["cpu_rate_history", "disk_rate_history", "net_rate_history"]
    );
    assert_eq!(
        rows("SELECT user_percent, idle_percent, busy_percent FROM cpu_rate"),
        rows("SELECT user_percent, idle_percent, busy_percent FROM cpu_time_rate")
    );
    // 1 % user, 2 % nice, 3 % system, 4 % idle, 5 % iowait, 6 % irq.
    assert_eq!(
        rows("SELECT user_percent, idle_percent, busy_percent FROM cpu_rate"),
        ["1.0|4.0|12.0"]
    );
    assert_eq!(
        rows("SELECT read_bytes_per_s, io_time_percent FROM disk_rate"),
        ["10000000.0|2.0"]
    );
    assert_eq!(rows("SELECT count(rx_packets_per_s) FROM net_io_rate_history"), ["1"]);
    assert_eq!(
        rows(
            "SELECT name, type, unit FROM vw_columns WHERE table_name = 'disk_rate' AND position > 3 ORDER BY position"
        ),
        [
            "elapsed_ns|i64|ns",
            "read_bytes_per_s|f64|per second",
            "io_time_percent|f64|percent"
        ]
    );
    assert_eq!(rows("SELECT * FROM net_rate LIMIT 0"), [""; 0]);
}

#[test]
fn mistakes_about_views_are_explained() {
    let recording = store(&eventful().1[..3]);
    for (sql, kind, words) in [
        (
            "SELECT * FROM process_rates",
            "unknown_table",
            "did you mean process_rate?",
        ),
        (
            "SELECT * FROM process_rate_histor",
            "unknown_table",
            "process_rate_history",
        ),
        (
            "SELECT utime_ns FROM process_rate",
            "unknown_column",
            "did you mean utime_percent?",
        ),
        (
            "SELECT minflt FROM process_rate",
            "unknown_column",
            "did you mean minflt_per_s?",
        ),
        (
            "SELECT * FROM process_rate_history FOR SYSTEM_TIME AS OF '10:42:01'",
            "unsupported",
            "WHERE time <= '…' on process_rate_history",
        ),
    ] {
        let failure = recording.ask(sql).refusal();
        assert_eq!(failure.kind, kind, "{sql}: {failure:?}");
        let text = format!("{} {}", failure.message, failure.hint.clone().unwrap_or_default());
        assert!(text.contains(words), "{sql}: {failure:?}");
        assert!(failure.line.is_some(), "{sql}: {failure:?}");
    }
}
