//! Filters answer the same whether the store uses them or not; a scan's own order saves a sort.

use crate::recording::{Recording, SECOND, at, process, processes, ten_seconds};
use vwatch_store::Body;

/// What the ten seconds hold: (second, pid, comm, rss).
fn rows() -> Vec<(i64, i32, &'static str, i64)> {
    let mut all = Vec::new();
    for s in 0..10 {
        all.push((s, 1, "init", 1000 + s));
        all.push((s, 2, "shell", 2000 + s));
        if (3..6).contains(&s) {
            all.push((s, 3, "brief", 3000 + s));
        }
    }
    all
}

#[test]
fn filters_on_columns() {
    let recording = ten_seconds();
    type Wanted = fn(&(i64, i32, &str, i64)) -> bool;
    let cases: [(&str, Wanted); 10] = [
        ("pid = 3", |r| r.1 == 3),
        ("pid IN (1, 3) AND rss_bytes > 1004", |r| r.1 != 2 && r.3 > 1004),
        ("comm = 'shell' OR comm LIKE 'br%'", |r| r.2 != "init"),
        ("comm LIKE 'b_ief'", |r| r.2 == "brief"),
        ("rss_bytes BETWEEN 2003 AND 3003", |r| (2003..=3003).contains(&r.3)),
        ("pid < 2 OR pid > 2", |r| r.1 != 2),
        ("NOT pid = 2", |r| r.1 != 2),
        ("pid = 1 AND pid = 2", |_| false),
        ("CAST(pid AS BIGINT) >= 3 AND time > '10:42:03'", |r| {
            r.1 >= 3 && r.0 > 3
        }),
        ("rss_bytes IS NULL OR rss_bytes = 1000", |r| r.3 == 1000),
    ];
    for (condition, wanted) in cases {
        let expect = rows().iter().filter(|r| wanted(r)).count();
        let sql = format!("SELECT count(*) FROM process_history WHERE {condition}");
        assert_eq!(recording.ask(&sql).whole(), [expect.to_string()], "{condition}");
    }
}

#[test]
fn a_null_passes_no_condition() {
    let mut recording = ten_seconds();
    let table = recording.table(&process());
    let instance = recording.instance("process.process", "process.process", true);
    let empty = arrow_array::new_null_array(&arrow_schema::DataType::Int64, 1);
    let mut columns = processes(&[(9, "none", 0)]).columns().to_vec();
    columns[2] = empty;
    let batch = arrow_array::RecordBatch::try_new(process().arrow(), columns).unwrap();
    recording.push(table, instance, at(10), SECOND, Body::Full(batch));
    recording.commit(at(10));
    let count = |condition: &str| {
        let sql = format!("SELECT count(*) FROM process_history WHERE pid = 9 AND {condition}");
        recording.ask(&sql).whole()
    };
    assert_eq!(count("rss_bytes IS NULL"), ["1"]);
    assert_eq!(count("rss_bytes >= 0"), ["0"]);
    assert_eq!(count("rss_bytes = 0 OR rss_bytes IS NULL"), ["1"]);
}

#[test]
fn one_instance_comes_in_the_order_of_time() {
    let mut recording = ten_seconds();
    let plan = |recording: &Recording, sql: &str| recording.ask(&format!("EXPLAIN {sql}")).whole().join("\n");
    let sql = "SELECT time, pid FROM process_history WHERE pid < 3 ORDER BY time LIMIT 5";
    assert!(!plan(&recording, sql).contains("SortExec"), "{}", plan(&recording, sql));
    assert_eq!(
        recording.ask(sql).whole()[3..],
        ["2026-01-02T10:42:01Z|2", "2026-01-02T10:42:02Z|1"]
    );
    let fast = recording.instance("fast", "process.process", false);
    let table = recording.table(&process());
    recording.push(table, fast, at(4), SECOND, Body::Full(processes(&[(1, "init", 7)])));
    recording.commit(at(10));
    let both = "SELECT time FROM process_history WHERE instance LIKE '%' ORDER BY time";
    assert!(plan(&recording, both).contains("SortExec"));
    let times = recording.ask(both).whole();
    assert_eq!(times.len(), 24);
    assert!(times.is_sorted());
}
