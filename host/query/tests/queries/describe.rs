//! What tables and columns there are.

use crate::recording::{Recording, at, owned, ten_seconds};

#[test]
fn vw_tables_lists_tables_and_histories() {
    let recording = ten_seconds();
    let rows = recording
        .ask("SELECT name, kind, columns, instances FROM vw_tables ORDER BY name")
        .whole();
    assert_eq!(
        rows,
        [
            "load|state|3|os.load",
            "load_history|history|3|os.load",
            "process|state|5|process.process",
            "process_exit|event|4|process.process_exit",
            "process_history|history|5|process.process",
        ]
    );
    let rows = recording
        .ask("SELECT first_time, last_time, access, doc FROM vw_tables WHERE name = 'process'")
        .whole();
    assert_eq!(
        rows,
        ["2026-01-02T10:42:00Z|2026-01-02T10:42:09Z|all|Test table process."]
    );
}

#[test]
fn vw_columns_describes_each() {
    let recording = ten_seconds();
    let sql = "SELECT position, name, type, unit, key, nullable FROM vw_columns WHERE table_name = 'process' ORDER BY position";
    let rows = recording.ask(sql).whole();
    assert_eq!(
        rows,
        [
            "1|time|timestamp||false|false",
            "2|instance|string||false|false",
            "3|pid|i32||true|false",
            "4|comm|string||false|true",
            "5|rss_bytes|i64|bytes|false|true",
        ]
    );
    let sql = "SELECT name, doc FROM vw_columns WHERE table_name = 'process_exit' ORDER BY position LIMIT 2";
    assert_eq!(
        recording.ask(sql).whole(),
        ["time|When it ended.", "instance|Instance whose probe made the row."]
    );
}

#[test]
fn the_standard_words_work_too() {
    let recording = ten_seconds();
    let tables = recording.ask("SHOW TABLES").whole();
    assert!(tables.iter().any(|t| t.contains("process_history")), "{tables:?}");
    let described = recording.ask("DESCRIBE process").whole();
    assert!(
        described.iter().any(|c| c.starts_with("rss_bytes|Int64")),
        "{described:?}"
    );
    assert!(
        !recording
            .ask("EXPLAIN SELECT * FROM process WHERE pid = 1")
            .whole()
            .is_empty()
    );
    assert!(!recording.ask("SHOW COLUMNS FROM process").whole().is_empty());
}

#[test]
fn who_may_read_is_told() {
    let mut recording = Recording::begin();
    recording.table(&owned());
    recording.commit(at(0));
    assert_eq!(
        recording
            .ask("SELECT access FROM vw_tables WHERE name = 'buffer'")
            .whole(),
        ["owner"]
    );
}

#[test]
fn an_empty_store_answers() {
    let mut recording = Recording::begin();
    recording.commit(at(0));
    assert_eq!(recording.ask("SELECT count(*) FROM vw_tables").whole(), ["0"]);
    assert_eq!(recording.ask("SELECT 1 + 1").whole(), ["2"]);
}

#[test]
fn store_table_says_what_each_takes() {
    let mut recording = ten_seconds();
    let ask = |recording: &Recording| {
        let sql = "SELECT table_name, probe_instance, first_time, last_time, samples, rows, bytes + head_bytes > 0, \
                   bytes_per_row > 0 AND compression > 0 FROM store_table ORDER BY table_name";
        recording.ask(sql).whole()
    };
    let expect = [
        "load|os.load|2026-01-02T10:42:00Z|2026-01-02T10:42:09Z|10|10|true|true",
        "process|process.process|2026-01-02T10:42:00Z|2026-01-02T10:42:09Z|10|23|true|true",
        "process_exit|process.process_exit|2026-01-02T10:42:05.500Z|2026-01-02T10:42:05.500Z|0|1|true|true",
    ];
    let head = ask(&recording);
    assert_eq!(head.len(), 3, "{head:?}");
    assert_eq!([&head[0], &head[2]], [expect[0], expect[2]]);
    assert_eq!(recording.ask("SELECT sum(blocks) FROM store_table").whole(), ["0"]);
    // Sealed into blocks, the rows are counted one by one.
    recording.close(at(10));
    recording.reopen(at(130));
    recording.commit(at(131));
    assert_eq!(ask(&recording), expect);
    assert_eq!(recording.ask("SELECT sum(blocks) FROM store_table").whole(), ["3"]);
}
