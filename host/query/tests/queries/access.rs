//! Tables that answer the owner of a row only.

use crate::recording::{Recording, at, owned, owned_rows, request};
use vwatch_sql::{Asker, Terms};
use vwatch_store::Body;

fn traced() -> Recording {
    let mut recording = Recording::begin();
    let table = recording.table(&owned());
    let instance = recording.instance("trace:1", "ptrace-tracer.buffer", false);
    let rows = owned_rows(&[
        (at(0), 10, Some(1000)),
        (at(1), 11, Some(1001)),
        (at(2), 12, Some(1000)),
        (at(3), 13, None),
    ]);
    recording.push(table, instance, at(3), 0, Body::Events(rows));
    recording.commit(at(4));
    recording
}

fn ask(recording: &Recording, asker: Asker, sql: &str) -> Vec<String> {
    let terms = Terms {
        asker,
        ..recording.terms()
    };
    recording.answer(&request(sql), &terms).whole()
}

#[test]
fn root_sees_every_row() {
    let recording = traced();
    assert_eq!(ask(&recording, Asker::All, "SELECT count(*) FROM buffer"), ["4"]);
}

#[test]
fn others_see_their_own_whatever_they_ask() {
    let recording = traced();
    for (sql, expect) in [
        ("SELECT pid FROM buffer ORDER BY pid", vec!["10", "12"]),
        ("SELECT count(*) FROM buffer", vec!["2"]),
        ("SELECT count(*) FROM buffer WHERE owner_uid = 1001", vec!["0"]),
        ("SELECT count(*) FROM buffer WHERE owner_uid = 1001 OR true", vec!["2"]),
        ("SELECT count(*) FROM buffer WHERE owner_uid IS NULL", vec!["0"]),
        ("SELECT max(pid) FROM buffer WHERE instance LIKE '%'", vec!["12"]),
        (
            "WITH owner_uid AS (SELECT 1001) SELECT count(*) FROM buffer AS owner_uid",
            vec!["2"],
        ),
        (
            "SELECT count(*) FROM buffer WHERE (SELECT count(*) FROM buffer) = 4",
            vec!["0"],
        ),
        ("SELECT pid FROM buffer EXCEPT SELECT 10", vec!["12"]),
    ] {
        assert_eq!(ask(&recording, Asker::User(1000), sql), expect, "{sql}");
    }
    assert_eq!(ask(&recording, Asker::User(4711), "SELECT * FROM buffer").len(), 0);
}

#[test]
fn the_counts_of_an_answer_tell_nothing_of_others() {
    let recording = traced();
    let terms = Terms {
        asker: Asker::User(4711),
        ..recording.terms()
    };
    let answer = recording.answer(&request("SELECT * FROM buffer"), &terms);
    assert_eq!(answer.scanned().rows_scanned, 0);
}
