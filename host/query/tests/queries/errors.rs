//! Failures: their kind, their place, and what to do about them.

use crate::recording::{request, ten_seconds};
use vwatch_model::query::{Failure, Request};

fn check(sql: &str, kind: &str, place: Option<(u64, u64)>, words: &[&str]) -> Failure {
    let failure = ten_seconds().ask(sql).refusal();
    assert_eq!(failure.kind, kind, "{sql}: {failure:?}");
    if let Some((line, column)) = place {
        assert_eq!(
            (failure.line, failure.column),
            (Some(line), Some(column)),
            "{sql}: {failure:?}"
        );
    }
    let text = format!("{} {}", failure.message, failure.hint.clone().unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "{sql}: {word:?} is not in {text:?}");
    }
    for jargon in [
        "DataFusion",
        "Error during planning",
        "Execution error",
        "LogicalPlan",
        "Schema error",
        "ast node",
    ] {
        assert!(!text.contains(jargon), "{sql}: {text}");
    }
    failure
}

#[test]
fn syntax() {
    check("SELEC pid FROM process", "syntax", Some((1, 1)), &[]);
    check("SELECT pid\n  FROM process WHERE", "syntax", None, &["expected"]);
    check("SELECT pid FROM process WHERE pid = = 1", "syntax", Some((1, 37)), &[]);
    check("", "syntax", None, &["no statement"]);
    check("SELECT 'open", "syntax", Some((1, 8)), &[]);
}

#[test]
fn unknown_tables() {
    check(
        "SELECT * FROM proces",
        "unknown_table",
        Some((1, 15)),
        &["proces", "did you mean process?"],
    );
    check(
        "SELECT *\nFROM load\nJOIN process_hist USING (time)",
        "unknown_table",
        Some((3, 6)),
        &["process_history"],
    );
    check("SELECT * FROM zzzz", "unknown_table", Some((1, 15)), &["vw_tables"]);
    check(
        "SELECT * FROM load_histor FOR SYSTEM_TIME AS OF '10:42'",
        "unknown_table",
        Some((1, 15)),
        &["load_history"],
    );
    check("SELECT * FROM '/etc/passwd'", "unknown_table", None, &[]);
    check(
        "SELECT * FROM other.host.process",
        "unknown_table",
        None,
        &["other.host.process"],
    );
    check("DESCRIBE proces", "unknown_table", None, &["process"]);
    check(
        "SELECT 1 WHERE 1 IN (SELECT pid FROM proces)",
        "unknown_table",
        Some((1, 38)),
        &["process"],
    );
}

#[test]
fn unknown_columns() {
    check(
        "SELECT pidd FROM process",
        "unknown_column",
        Some((1, 8)),
        &["pidd", "did you mean pid?"],
    );
    check(
        "SELECT pid FROM process\nWHERE com = 'x'",
        "unknown_column",
        Some((2, 7)),
        &["comm"],
    );
    check(
        "SELECT p.rss FROM process p",
        "unknown_column",
        Some((1, 8)),
        &["rss_bytes"],
    );
    check(
        "SELECT pid FROM process ORDER BY qqqq",
        "unknown_column",
        Some((1, 34)),
        &["qqqq"],
    );
    check(
        "SELECT l.pid FROM process p, load l",
        "unknown_column",
        None,
        &["l.pid"],
    );
    check(
        "SELECT pid, count(*) FROM process GROUP BY pidd",
        "unknown_column",
        None,
        &["pidd"],
    );
}

#[test]
fn what_cannot_be_done() {
    check(
        "INSERT INTO process VALUES (1)",
        "unsupported",
        None,
        &["INSERT", "only read"],
    );
    check("SET datafusion.execution.batch_size = 1", "unsupported", None, &["SET"]);
    check("SELECT flor(1.5)", "unsupported", Some((1, 8)), &["flor", "floor"]);
    check(
        "SELECT * FROM process FOR SYSTEM_TIME BETWEEN '10:00' AND '11:00'",
        "unsupported",
        Some((1, 23)),
        &["_history"],
    );
    check(
        "SELECT * FROM process VERSION AS OF 3",
        "unsupported",
        None,
        &["VERSION AS OF"],
    );
    check(
        "SELECT pid FROM process p, load p",
        "request",
        None,
        &["twice", "alias"],
    );
    check("SELECT time FROM process, load", "request", None, &["several tables"]);
    check("SELECT sum(comm) FROM process", "request", None, &[]);
    check("SELECT pid / 0 FROM process", "request", None, &["zero"]);
    check("SELECT CAST(comm AS INT) FROM process", "request", None, &[]);
}

#[test]
fn versions_of_what_has_none() {
    let moment = "FOR SYSTEM_TIME AS OF '10:42:04'";
    for (sql, words) in [
        ("SELECT * FROM process_history @", "own time"),
        ("SELECT * FROM process_exit @", "WHERE time <="),
        ("SELECT * FROM vw_tables @", "store"),
        (
            "WITH p AS (SELECT * FROM process) SELECT * FROM p @",
            "query of this statement",
        ),
        (
            "WITH process AS (SELECT 1 AS pid) SELECT * FROM process @",
            "query of this statement",
        ),
        (
            "SELECT * FROM load WHERE time IN (SELECT time FROM process_exit @)",
            "process_exit",
        ),
        ("SELECT * FROM information_schema.tables @", "store"),
    ] {
        let sql = sql.replace('@', moment);
        check(&sql, "unsupported", None, &[words]);
    }
}

#[test]
fn times_that_are_none() {
    for (moment, words) in [
        ("'soon'", "not a time"),
        ("'25:00'", "not a time"),
        ("1714559400", "'@1714559400'"),
        ("17.5", "bare number"),
        ("NULL", "NULL"),
        ("pid", "constant"),
        ("random()", "bare number"),
        ("(SELECT max(time) FROM load)", "constant"),
        ("true", "Boolean"),
    ] {
        let failure = check(
            &format!("SELECT * FROM process FOR SYSTEM_TIME AS OF {moment}"),
            "request",
            None,
            &[],
        );
        let text = format!("{} {}", failure.message, failure.hint.clone().unwrap_or_default());
        let constant = moment == "random()" && text.contains("constant");
        assert!(text.contains(words) || constant, "{moment}: {text}");
        assert!(failure.line.is_some(), "{moment}: {failure:?}");
    }
    check(
        "SELECT * FROM process_history WHERE time > 'soon'",
        "request",
        Some((1, 44)),
        &["not a time"],
    );
}

#[test]
fn zones_that_are_none() {
    let recording = ten_seconds();
    let nowhere = Request {
        zone: Some("Mars/Olympus".into()),
        ..request("SELECT 1")
    };
    let failure = recording.answer(&nowhere, &recording.terms()).refusal();
    assert_eq!(failure.kind, "request");
    assert!(failure.message.contains("Mars/Olympus"));
}
