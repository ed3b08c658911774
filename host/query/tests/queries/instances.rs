//! Which instances a table reads.

use crate::recording::{Recording, SECOND, at, exit_row, process, process_exit, processes, ten_seconds};
use vwatch_store::Body;

/// The ten seconds, with a faster instance beside the default one.
fn with_fast() -> Recording {
    let mut recording = ten_seconds();
    let table = recording.table(&process());
    let fast = recording.instance("fast", "process.process", false);
    for quarter in 0..4 {
        let time = at(9) + quarter * SECOND / 4;
        recording.push(
            table,
            fast,
            time,
            SECOND / 4,
            Body::Full(processes(&[(7, "fast7", quarter)])),
        );
    }
    recording.commit(at(9) + SECOND);
    recording
}

#[test]
fn an_unfiltered_table_reads_its_default_instance() {
    let recording = with_fast();
    let rows = |sql: &str| recording.ask(sql).whole();
    assert_eq!(rows("SELECT count(*) FROM process"), ["2"]);
    assert_eq!(
        rows("SELECT DISTINCT instance FROM process_history"),
        ["process.process"]
    );
    assert_eq!(rows("SELECT count(*) FROM process_history"), ["23"]);
    assert_eq!(
        rows("SELECT instance, count(*) FROM process GROUP BY instance"),
        ["process.process|2"]
    );
}

#[test]
fn a_condition_on_instance_opens_all() {
    let recording = with_fast();
    for (condition, expect) in [
        ("instance = 'fast'", "1"),
        ("'fast' = instance", "1"),
        ("instance IN ('fast', 'process.process')", "3"),
        ("instance LIKE 'fa%'", "1"),
        ("instance != 'process.process'", "1"),
        ("instance IS NOT NULL", "3"),
        ("instance = 'fast' OR pid = 1", "2"),
        ("instance = 'fast' OR instance = 'process.process'", "3"),
        ("lower(instance) = 'fast'", "1"),
        ("instance IN (SELECT 'fast')", "1"),
        ("instance = (SELECT max(x) FROM (VALUES ('fast')) AS v(x))", "1"),
        ("instance = 'nosuch'", "0"),
        ("instance = 'fast' AND instance = 'process.process'", "0"),
    ] {
        let answer = recording.ask(&format!("SELECT count(*) FROM process WHERE {condition}"));
        assert_eq!(answer.rows, [expect], "{condition}: {answer:?}");
    }
    let rows = |sql: &str| recording.ask(sql).whole();
    assert_eq!(
        rows("SELECT count(*) FROM process_history WHERE instance = 'fast'"),
        ["4"]
    );
    assert_eq!(rows("SELECT comm FROM process p WHERE p.instance = 'fast'"), ["fast7"]);
}

#[test]
fn conditions_are_found_through_renames_and_joins() {
    let recording = with_fast();
    let rows = |sql: &str| recording.ask(sql).whole();
    assert_eq!(
        rows("SELECT comm FROM (SELECT comm, instance AS i FROM process) AS p WHERE i = 'fast'"),
        ["fast7"]
    );
    assert_eq!(
        rows("WITH p AS (SELECT * FROM process) SELECT count(*) FROM p WHERE instance LIKE '%'"),
        ["3"]
    );
    // One side of an outer join: the condition cannot be pushed into the scan of the other.
    assert_eq!(
        rows("SELECT l.load_1m, p.comm FROM load l LEFT JOIN process p ON p.instance = 'fast'"),
        ["0.9|fast7"]
    );
    assert_eq!(
        rows("SELECT count(*) FROM load l FULL JOIN process p ON p.instance = 'fast' WHERE p.instance = 'fast'"),
        ["1"]
    );
    // An equality of two instances filters neither table.
    assert_eq!(
        rows("SELECT count(*) FROM process a JOIN process b ON a.pid = b.pid AND a.instance = b.instance"),
        ["2"]
    );
    assert_eq!(
        rows("SELECT count(*) FROM process a, process b WHERE a.instance = b.instance AND a.pid = b.pid"),
        ["2"]
    );
    // Only the table that is filtered is opened.
    assert_eq!(
        rows("SELECT count(*) FROM process a, process b WHERE a.instance = 'fast'"),
        ["2"]
    );
    assert_eq!(
        rows("SELECT count(*) FROM process WHERE instance = 'fast' UNION ALL SELECT count(*) FROM process"),
        ["1", "2"]
    );
    assert_eq!(
        rows("SELECT instance, count(*) AS n FROM process GROUP BY instance HAVING instance LIKE '%' ORDER BY n"),
        ["fast|1", "process.process|2"]
    );
}

#[test]
fn only_the_chosen_instances_are_read() {
    let recording = with_fast();
    let answer = recording.ask("SELECT count(*) FROM process_history WHERE instance = 'fast'");
    assert_eq!(answer.scanned().rows_scanned, 4);
}

#[test]
fn without_a_default_the_only_instance_is_read_and_of_several_none() {
    let mut recording = Recording::begin();
    let table = recording.table(&process());
    let one = recording.instance("one", "process.process", false);
    recording.push(table, one, at(0), SECOND, Body::Full(processes(&[(1, "a", 1)])));
    recording.commit(at(0));
    assert_eq!(recording.ask("SELECT comm FROM process").whole(), ["a"]);

    let two = recording.instance("two", "process.process", false);
    recording.push(table, two, at(0), SECOND, Body::Full(processes(&[(2, "b", 1)])));
    recording.commit(at(0) + 1);
    let answer = recording.ask("SELECT comm FROM process");
    assert_eq!(answer.rows.len(), 0);
    let reasons = answer.reasons();
    assert!(reasons.len() == 1 && reasons[0].contains("one, two"), "{reasons:?}");
    assert_eq!(
        recording.ask("SELECT comm FROM process WHERE instance = 'two'").whole(),
        ["b"]
    );
}

#[test]
fn event_tables_without_a_default_read_all() {
    let mut recording = Recording::begin();
    let table = recording.table(&process_exit());
    for (name, pid) in [("trace:1", 1), ("trace:2", 2)] {
        let instance = recording.instance(name, "ptrace-tracer.syscall", false);
        recording.push(table, instance, at(0), 0, Body::Events(exit_row(at(0), pid, 0)));
    }
    recording.commit(at(1));
    assert_eq!(recording.ask("SELECT count(*) FROM process_exit").whole(), ["2"]);
    assert_eq!(
        recording
            .ask("SELECT pid FROM process_exit WHERE instance = 'trace:2'")
            .whole(),
        ["2"]
    );
}
