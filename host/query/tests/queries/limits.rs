//! Memory, time and rows: what a request may use, and the progress it tells.

use crate::recording::{Recording, SECOND, at, process, processes, request, ten_seconds};
use std::io::{Error, ErrorKind, Write};
use vwatch_model::query::{Limits, Request};
use vwatch_sql::{SqlError, Terms};
use vwatch_store::Body;

fn limited(sql: &str, limits: Limits) -> Request {
    Request { limits, ..request(sql) }
}

const MANY: &str = "SELECT a.value FROM generate_series(1, 300000) a, generate_series(1, 300000) b";

#[test]
fn rows() {
    let recording = ten_seconds();
    let three = Limits {
        rows: Some(3),
        ..Limits::default()
    };
    let answer = recording.answer(&limited("SELECT pid FROM process_history", three), &recording.terms());
    assert_eq!(answer.rows.len(), 3);
    let failure = answer.refusal();
    assert_eq!(failure.kind, "limit");
    assert!(failure.hint.is_some());
    let exact = limited("SELECT pid FROM process_history LIMIT 3", three);
    assert_eq!(recording.answer(&exact, &recording.terms()).whole().len(), 3);
    // A request cannot widen what the host lays down.
    let terms = Terms {
        limits: three,
        ..recording.terms()
    };
    let wide = Limits {
        rows: Some(1000),
        ..Limits::default()
    };
    let answer = recording.answer(&limited("SELECT pid FROM process_history", wide), &terms);
    assert_eq!(answer.refusal().kind, "limit");
}

#[test]
fn time() {
    let recording = ten_seconds();
    let brief = Limits {
        time_ms: Some(50),
        ..Limits::default()
    };
    for endless in [
        format!("SELECT count(*), sum(x.value) FROM ({MANY}) x"),
        format!("SELECT max(x.value) FROM ({MANY} WHERE a.value % 7 = b.value % 7) x"),
        format!("SELECT count(*) FROM ({MANY} WHERE a.value < b.value) x"),
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n".to_owned(),
    ] {
        let begun = std::time::Instant::now();
        let failure = recording
            .answer(&limited(&endless, brief), &recording.terms())
            .refusal();
        assert_eq!(failure.kind, "limit", "{endless}: {failure:?}");
        assert!(failure.message.contains("50ms"), "{endless}: {failure:?}");
        assert!(begun.elapsed().as_secs() < 20, "{endless}: {:?}", begun.elapsed());
    }
}

#[test]
fn memory() {
    let recording = ten_seconds();
    let small = Limits {
        memory_bytes: Some(1 << 20),
        ..Limits::default()
    };
    let sql = "SELECT value FROM generate_series(1, 3000000) ORDER BY value % 1000, value";
    let failure = recording.answer(&limited(sql, small), &recording.terms()).refusal();
    assert_eq!(failure.kind, "limit", "{failure:?}");
    assert!(failure.message.contains("memory"), "{failure:?}");
    assert!(failure.hint.is_some());
}

#[test]
fn progress_is_told_when_asked_for() {
    let recording = ten_seconds();
    let told = Request {
        progress: true,
        ..limited(
            &format!("SELECT count(*), sum(x.value) FROM ({MANY}) x"),
            Limits {
                time_ms: Some(1500),
                ..Limits::default()
            },
        )
    };
    let answer = recording.answer(&told, &recording.terms());
    assert!(!answer.progress.is_empty());
    assert_eq!(answer.refusal().kind, "limit");
    assert_eq!(recording.ask("SELECT * FROM process_history").progress, []);
}

#[test]
fn rows_come_in_pieces_and_in_order() {
    let mut recording = Recording::begin();
    let table = recording.table(&process());
    let instance = recording.instance("process.process", "process.process", true);
    let rows: Vec<(i32, &str, i64)> = (0..20_000).map(|pid| (pid, "p", 1)).collect();
    recording.push(table, instance, at(0), SECOND, Body::Full(processes(&rows)));
    recording.commit(at(0));
    let answer = recording.ask("SELECT pid FROM process");
    let rows = answer.whole();
    assert_eq!(rows.len(), 20_000);
    let mut pids: Vec<i32> = rows.iter().map(|r| r.parse().unwrap()).collect();
    pids.sort_unstable();
    assert!(pids.into_iter().eq(0..20_000));
}

/// On a stack of the size that a process's main thread has, where queries run.
#[test]
fn statements_of_any_shape_end() {
    let shapes = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(ask_all_shapes)
        .unwrap();
    shapes.join().unwrap();
}

fn ask_all_shapes() {
    let recording = ten_seconds();
    let long = |part: &str, joint: &str, count: usize| vec![part; count].join(joint);
    let ctes: Vec<String> = (1..400)
        .map(|i| format!("c{i} AS (SELECT * FROM c{})", i - 1))
        .collect();
    let mut answered = 0;
    for sql in [
        format!("SELECT {}", long("1", " + ", 490)),
        format!("SELECT {}", long("1", " + ", 7900)),
        format!("SELECT {}", long("1", " + ", 200_000)),
        format!(
            "SELECT count(*) FROM process_history WHERE {}",
            long("time = '10:42:03'", " OR ", 490)
        ),
        format!(
            "SELECT count(*) FROM process_history WHERE {}",
            long("pid = pid + 1", " OR ", 240)
        ),
        format!(
            "SELECT count(*) FROM process WHERE pid IN ({})",
            long("7", ", ", 30_000)
        ),
        long("SELECT pid FROM process", " UNION ALL ", 600),
        format!(
            "WITH c0 AS (SELECT * FROM process), {} SELECT count(*) FROM c399",
            ctes.join(", ")
        ),
        format!("SELECT {}1{}", "(".repeat(3000), ")".repeat(3000)),
        format!("SELECT {}1", "- ".repeat(3000)),
        format!("SELECT {}true", "NOT ".repeat(3000)),
        format!("SELECT 1{}", "::int".repeat(1900)),
        format!("{}process{}", "SELECT * FROM (".repeat(40), ")".repeat(40)),
    ] {
        let answer = recording.ask(&sql);
        answered += usize::from(answer.done.is_some());
        let refused = answer
            .failure
            .is_none_or(|f| matches!(f.kind.as_str(), "unsupported" | "syntax" | "limit"));
        assert!(refused, "{}", &sql[..60]);
    }
    assert!(answered >= 5, "{answered}");
}

/// A client that hangs up after the schema.
struct Gone {
    room: usize,
}

impl Write for Gone {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.room.checked_sub(bytes.len()) {
            Some(room) => {
                self.room = room;
                Ok(bytes.len())
            }
            None => Err(Error::from(ErrorKind::BrokenPipe)),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_client_that_is_gone_ends_the_query() {
    let recording = ten_seconds();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (reader, many, terms) = (recording.reader(), request(MANY), recording.terms());
    let ended = runtime.block_on(vwatch_sql::answer(reader, &many, &terms, Gone { room: 100_000 }));
    assert!(matches!(ended, Err(SqlError::Send(_))), "{ended:?}");
}
