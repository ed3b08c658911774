//! Pictures, histories, and how times are written.

use crate::recording::{Recording, SECOND, at, process, processes, request, ten_seconds};
use vwatch_model::query::Request;
use vwatch_model::time::Moment;
use vwatch_store::Body;

#[test]
fn now_is_the_last_sample() {
    let recording = ten_seconds();
    let rows = recording
        .ask("SELECT pid, comm, rss_bytes FROM process ORDER BY pid")
        .whole();
    assert_eq!(rows, ["1|init|1009", "2|shell|2009"]);
    let rows = recording.ask("SELECT * FROM process WHERE pid = 1").whole();
    assert_eq!(rows, ["2026-01-02T10:42:09Z|process.process|1|init|1009"]);
}

#[test]
fn a_store_that_nobody_writes_is_read_at_its_last_commit() {
    let mut recording = ten_seconds();
    recording.close(at(10));
    assert_eq!(recording.ask("SELECT count(*) FROM process").whole(), ["2"]);
    assert_eq!(recording.ask("SELECT now()").whole(), ["2026-01-02T10:42:10Z"]);
    let sql = "SELECT count(*) FROM process FOR SYSTEM_TIME AS OF now() - interval '5 seconds'";
    assert_eq!(recording.ask(sql).whole(), ["3"]);
}

#[test]
fn as_of_takes_the_last_sample_at_or_before() {
    let recording = ten_seconds();
    let check = |moment: &str, expect: &str| {
        let sql = format!("SELECT count(*), max(rss_bytes) FROM process FOR SYSTEM_TIME AS OF {moment}");
        assert_eq!(recording.ask(&sql).whole(), [expect], "{moment}");
    };
    // Now is 10:42:09.75.
    check("'10:42:04'", "3|3004");
    check("'10:42:03.9'", "3|3003");
    check("'10:42:03'", "3|3003");
    check("'10:42:02.999999999'", "2|2002");
    check("'2026-01-02 10:42:01'", "2|2001");
    check("'2026-01-02T10:42:01Z'", "2|2001");
    check("'2026-01-02T12:42:01+02:00'", "2|2001");
    check("'-5s'", "3|3004");
    check("'now'", "2|2009");
    check("'@1767350524'", "3|3004");
    check("TIMESTAMP '2026-01-02 10:42:04'", "3|3004");
    check("CAST('2026-01-02 10:42:04' AS TIMESTAMP)", "3|3004");
    check("now()", "2|2009");
    check("now() - interval '5 seconds'", "3|3004");
    check("current_timestamp - interval '5 seconds'", "3|3004");
    check("concat('10:42:', '04')", "3|3004");
}

#[test]
fn as_of_stands_wherever_a_table_stands() {
    let recording = ten_seconds();
    let rows = |sql: &str| recording.ask(sql).whole();
    let then = "FOR SYSTEM_TIME AS OF '10:42:04'";
    assert_eq!(
        rows(&format!(
            "SELECT a.pid, a.rss_bytes - b.rss_bytes AS grown FROM process a JOIN process {then} AS b USING (pid) ORDER BY pid"
        )),
        ["1|5", "2|5"]
    );
    assert_eq!(
        rows(&format!(
            "SELECT b.comm FROM process {then} b LEFT JOIN process a ON a.pid = b.pid WHERE a.pid IS NULL"
        )),
        ["brief"]
    );
    let earlier = "FOR SYSTEM_TIME AS OF '10:42:01'";
    assert_eq!(
        rows(&format!(
            "SELECT x.rss_bytes, y.rss_bytes, z.rss_bytes FROM process {earlier} x, process {then} y, process z \
             WHERE x.pid = 1 AND y.pid = 1 AND z.pid = 1"
        )),
        ["1001|1004|1009"]
    );
    assert_eq!(
        rows(&format!(
            "SELECT max(rss_bytes) FROM (SELECT * FROM process {then}) AS p"
        )),
        ["3004"]
    );
    assert_eq!(
        rows(&format!(
            "WITH p AS (SELECT * FROM process {then}) SELECT count(*) FROM p"
        )),
        ["3"]
    );
    assert_eq!(
        rows(&format!(
            "SELECT comm FROM process {then} WHERE pid NOT IN (SELECT pid FROM process)"
        )),
        ["brief"]
    );
    assert_eq!(
        rows(&format!(
            "SELECT (SELECT count(*) FROM process {then}) AS was, count(*) FROM process"
        )),
        ["3|2"]
    );
    assert_eq!(
        rows(&format!(
            "SELECT comm FROM process {then} EXCEPT SELECT comm FROM process"
        )),
        ["brief"]
    );
    assert_eq!(
        rows(&format!(
            "SELECT process.comm FROM process {then} WHERE process.pid = 3"
        )),
        ["brief"]
    );
    assert_eq!(rows(&format!("SELECT count(*) FROM vwatch.host.process {then}")), ["3"]);
}

#[test]
fn at_moves_now_for_tables_without_a_clause() {
    let recording = ten_seconds();
    let ask = |sql: &str| {
        let at = Request {
            at: Some(Moment::Ns(at(4))),
            ..request(sql)
        };
        recording.answer(&at, &recording.terms()).whole()
    };
    assert_eq!(ask("SELECT count(*) FROM process"), ["3"]);
    assert_eq!(
        ask("SELECT count(*) FROM process FOR SYSTEM_TIME AS OF '10:42:01'"),
        ["2"]
    );
    assert_eq!(ask("SELECT count(*) FROM process_history"), ["23"]);
}

#[test]
fn histories_have_every_sample() {
    let recording = ten_seconds();
    let rows = |sql: &str| recording.ask(sql).whole();
    assert_eq!(rows("SELECT count(*) FROM process_history"), ["23"]);
    assert_eq!(
        rows("SELECT time, comm FROM process_history WHERE pid = 3 ORDER BY time LIMIT 1"),
        ["2026-01-02T10:42:03Z|brief"]
    );
    assert_eq!(
        rows("SELECT p.comm, e.exit_code FROM process_exit e JOIN process_history p ON p.pid = e.pid GROUP BY ALL"),
        ["brief|7"]
    );
    assert_eq!(
        rows("SELECT time, pid FROM process_exit"),
        ["2026-01-02T10:42:05.500Z|3"]
    );
}

#[test]
fn bounds_of_the_request_are_inclusive() {
    let recording = ten_seconds();
    let bounded = Request {
        from: Some(Moment::Ns(at(3))),
        to: Some(Moment::Ns(at(5))),
        ..request("SELECT count(*) FROM process_history")
    };
    assert_eq!(recording.answer(&bounded, &recording.terms()).whole(), ["9"]);
    let events = Request {
        sql: "SELECT count(*) FROM process_exit".into(),
        ..bounded
    };
    assert_eq!(recording.answer(&events, &recording.terms()).whole(), ["0"]);
    let events = Request {
        to: Some(Moment::Ns(at(5) + SECOND / 2)),
        ..events
    };
    assert_eq!(recording.answer(&events, &recording.terms()).whole(), ["1"]);
}

#[test]
fn literals_are_local() {
    let recording = ten_seconds();
    let berlin = |sql: &str| {
        let local = Request {
            zone: Some("Europe/Berlin".into()),
            ..request(sql)
        };
        recording.answer(&local, &recording.terms()).whole()
    };
    for condition in [
        "time > '2026-01-02 11:42:07'",
        "time > '11:42:07'",
        "'11:42:07' < time",
        "time > TIMESTAMP '2026-01-02 11:42:07'",
        "time > '2026-01-02T10:42:07Z'",
        "time > TIMESTAMP '2026-01-02T10:42:07Z'",
        "time BETWEEN '11:42:08' AND '11:42:09'",
        "time >= now() - interval '2 seconds'",
        "time IN ('11:42:08', '11:42:09')",
        "time > '-2750ms'",
        "NOT time <= '11:42:07'",
        "time > to_timestamp('2026-01-02T10:42:07Z')",
    ] {
        let sql = format!("SELECT count(*) FROM process_history WHERE {condition}");
        assert_eq!(berlin(&sql), ["4"], "{condition}");
    }
    assert_eq!(
        berlin("SELECT time FROM process FOR SYSTEM_TIME AS OF '11:42:04' WHERE pid = 1"),
        ["2026-01-02T11:42:04+01:00"]
    );
    assert_eq!(
        berlin("SELECT time FROM process FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-02 11:42:04' WHERE pid = 1"),
        ["2026-01-02T11:42:04+01:00"]
    );
    assert_eq!(berlin("SELECT extract(hour FROM time) FROM load"), ["11"]);
    assert_eq!(
        berlin("SELECT date_trunc('hour', time) AS h, count(*) FROM process_history GROUP BY h"),
        ["2026-01-02T11:00:00+01:00|23"]
    );
    assert_eq!(berlin("SELECT now()"), ["2026-01-02T11:42:09.750+01:00"]);
}

#[test]
fn times_are_pushed_into_the_scan() {
    let mut recording = Recording::begin();
    let table = recording.table(&process());
    let instance = recording.instance("process.process", "process.process", true);
    // Ten minutes, so that the store has sealed blocks of several.
    for s in 0..600 {
        let rows = processes(&[(1, "init", s), (2, "shell", s)]);
        recording.push(table, instance, at(s), SECOND, Body::Full(rows));
        recording.commit(at(s) + SECOND / 4);
    }
    let all = recording.ask("SELECT count(*) FROM process_history");
    let everything = all.scanned();
    assert_eq!(everything.rows_scanned, 1200);
    assert_eq!(all.whole(), ["1200"]);
    for (condition, count, most) in [
        ("time > '10:51:49'", "20", 240),
        ("time >= '10:44:10' AND time < '10:44:20'", "20", 240),
        ("time BETWEEN '10:44:10' AND '10:44:19'", "20", 240),
        ("time = '10:44:10'", "2", 240),
        ("time > '10:44:10' AND pid = 1 AND '10:44:20' >= time", "10", 240),
        ("time > '2026-01-02T10:51:49Z'::timestamptz", "20", 240),
        ("time < '10:42:05' OR time BETWEEN '10:42:10' AND '10:42:14'", "20", 240),
        ("time > '11:00' AND time < '10:00'", "0", 0),
    ] {
        let answer = recording.ask(&format!("SELECT count(*) FROM process_history WHERE {condition}"));
        let read = answer.scanned().rows_scanned;
        assert!(read <= most, "{condition}: {read} rows read");
        assert_eq!(answer.whole(), [count], "{condition}");
    }
    let limited = recording.ask("SELECT time FROM process_history LIMIT 3");
    let read = limited.scanned();
    assert!(
        read.rows_scanned <= 240 && read.blocks_done < everything.blocks_done,
        "{read:?}"
    );
    assert_eq!(limited.whole().len(), 3);
}
