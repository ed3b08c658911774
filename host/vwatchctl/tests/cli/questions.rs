//! query, tables, schema, show and diff over a query socket.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Array, Float64Array, RecordBatch, TimestampNanosecondArray, record_batch};
use arrow_schema::{DataType, Field, Schema};
use vwatch_model::query::DONE;
use vwatch_model::time::Moment;

use crate::fake::{Daemon, answer, partial, refusal, vwatchctl};
use crate::stream;

fn two_rows() -> RecordBatch {
    record_batch!(("pid", Int32, [1, 7]), ("comm", Utf8, [Some("init"), None])).unwrap()
}

#[test]
fn every_form_of_output() {
    let daemon = Daemon::default().query("SELECT", answer(&two_rows())).start();
    let out = |form: &str| daemon.run(&["query", "SELECT 1", "--output", form]).exits(0).out;
    assert_eq!(out("table"), "pid  comm\n  1  init\n  7\n");
    assert_eq!(
        out("json"),
        "[\n{\"pid\":1,\"comm\":\"init\"},\n{\"pid\":7,\"comm\":null}\n]\n"
    );
    assert_eq!(
        out("jsonl"),
        "{\"pid\":1,\"comm\":\"init\"}\n{\"pid\":7,\"comm\":null}\n"
    );
    assert_eq!(out("csv"), "pid,comm\n1,init\n7,\n");
    assert!(out("parquet").starts_with("PAR1"));
    assert!(out("arrow").contains("comm"));
    // Not a terminal: lines of JSON unless told otherwise.
    assert_eq!(daemon.run(&["query", "SELECT 1"]).exits(0).out, out("jsonl"));
    let colored = daemon
        .run(&["query", "SELECT 1", "-o", "table", "--color", "always"])
        .exits(0)
        .out;
    assert!(colored.contains("\x1b[1m"), "{colored}");
}

#[test]
fn the_question_carries_times_and_the_zone() {
    let daemon = Daemon::default().query("", answer(&two_rows())).start();
    let args = [
        "query",
        "-",
        "--at",
        "2024-05-01 12:30",
        "--from",
        "@5",
        "--to",
        "2024-05-01T00:00:00Z",
        "--timeout",
        "9s",
    ];
    daemon.run_with(&args, &[], "SELECT\n1").exits(0);
    let asked = &daemon.questions()[0];
    assert_eq!(asked.sql, "SELECT\n1");
    assert_eq!(asked.zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(asked.at, Some(Moment::Ns(1_714_559_400_000_000_000)));
    assert_eq!(
        (asked.from, asked.to),
        (
            Some(Moment::Ns(5_000_000_000)),
            Some(Moment::Ns(1_714_521_600_000_000_000))
        )
    );
    assert_eq!(asked.limits.time_ms, Some(9000));
    daemon
        .run_with(&["query", "SELECT 1"], &[("TZ", "IST-5:30")], "")
        .exits(0);
    assert_eq!(daemon.questions()[1].zone.as_deref(), Some("+05:30"));
}

#[test]
fn an_sql_error_shows_its_place() {
    let refused = refusal(
        "unknown_column",
        "there is no column rss",
        Some("did you mean rss_bytes?"),
        2,
        3,
    );
    let daemon = Daemon::default().query("", refused).start();
    let ended = daemon.run(&["query", "SELECT pid,\n  rss FROM process"]).exits(1);
    assert_eq!(ended.out, "");
    assert_eq!(
        ended.err,
        "error: there is no column rss\n   2 |   rss FROM process\n     |   ^\nhint: did you mean rss_bytes?\n"
    );
}

#[test]
fn a_partial_answer_is_exit_4_with_its_reasons() {
    let daemon = Daemon::default()
        .query("", partial(&two_rows(), "nothing was recorded then"))
        .start();
    let ended = daemon.run(&["query", "SELECT 1", "-o", "csv"]).exits(4);
    assert_eq!(ended.out, "pid,comm\n1,init\n7,\n");
    assert_eq!(ended.err, "partial answer: t: nothing was recorded then\n");
}

#[test]
fn a_cut_answer_is_a_failure() {
    let daemon = Daemon::default().query("", stream::answer(&[two_rows()], &[])).start();
    let ended = daemon.run(&["query", "SELECT 1", "-o", "json"]).exits(1);
    assert!(
        ended.err.starts_with("error: the answer was cut off\n"),
        "{}",
        ended.err
    );
    assert!(!ended.out.ends_with("]\n"), "{}", ended.out);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let many = RecordBatch::try_new(
        Arc::new(Schema::new(vec![Field::new("x", DataType::Float64, true)])),
        vec![Arc::new(Float64Array::from_iter_values((0..200_000).map(f64::from)))],
    );
    let daemon = Daemon::default().query("", answer(&many.unwrap())).start();
    for form in ["table", "json", "jsonl", "csv", "arrow", "parquet"] {
        let mut command = vwatchctl(&["query", "SELECT 1", "-o", form]);
        command
            .env("VWATCH_SOCKET", daemon.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()),
            (Some(0), ""),
            "{form}"
        );
    }
}

#[test]
fn ctrl_c_ends_a_query_with_130() {
    // Rows, and then nothing: no DONE, and the connection stays open.
    let listener_dir = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(listener_dir.path().join("query.sock")).unwrap();
    let (sender, closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut connection, &stream::rows(&[two_rows()])).unwrap();
        // Ends when the client is gone.
        let _ = connection.read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    let mut command = vwatchctl(&["query", "SELECT 1", "-o", "csv"]);
    command.env("VWATCH_SOCKET", listener_dir.path().join("control.sock"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut seen = [0; 8];
    out.read_exact(&mut seen).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let began = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    closed.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn show_makes_the_question() {
    let daemon = Daemon::default().query("", answer(&two_rows())).start();
    let args = [
        "show",
        "process",
        "--at",
        "@5",
        "--instance",
        "fast",
        "--columns",
        "pid,comm",
        "--where",
        "pid < 9",
        "--limit",
        "2",
    ];
    daemon.run(&args).exits(0);
    let asked = &daemon.questions()[0];
    assert_eq!(
        asked.sql,
        "SELECT \"pid\", \"comm\" FROM process WHERE instance = 'fast' AND (pid < 9\n) LIMIT 2"
    );
    assert_eq!(asked.at, Some(Moment::Ns(5_000_000_000)));
    assert_eq!(daemon.requests(), [""; 0]);
}

#[test]
fn what_is_no_table_may_be_a_command() {
    let no_table = || {
        refusal(
            "unknown_table",
            "there is no table alerts",
            Some("did you mean alert?"),
            1,
            15,
        )
    };
    let alerts = r#"{"columns":[{"name":"alert","type":"string"}],"rows":[{"alert":"load"}],"notes":[]}"#;
    let daemon = Daemon::default()
        .query("", no_table())
        .control("POST /v1/commands", 200, alerts)
        .start();
    assert_eq!(
        daemon.run(&["show", "alerts", "-o", "csv"]).exits(0).out,
        "alert\nload\n"
    );
    assert_eq!(daemon.requests(), [r#"POST /v1/commands {"words":["show","alerts"]}"#]);
    // Neither: the nearest table is the better help, and SQL that nobody wrote is not shown.
    let neither = Daemon::default().query("", no_table()).start();
    let ended = neither.run(&["show", "alerts"]).exits(1);
    assert_eq!(
        ended.err,
        "error: there is no table alerts\nhint: did you mean alert?\n"
    );
}

fn described(kind: &str) -> Daemon {
    let kind = record_batch!(("kind", Utf8, [kind]), ("doc", Utf8, ["Processes."])).unwrap();
    let marks = record_batch!(
        ("name", Utf8, ["time", "pid", "comm"]),
        ("unit", Utf8, [None::<&str>, None, None]),
        ("key", Boolean, [false, true, false]),
        ("counter", Boolean, [false, false, false])
    )
    .unwrap();
    let names = record_batch!(("name", Utf8, ["process", "load"])).unwrap();
    let columns = record_batch!(("table_name", Utf8, ["process"]), ("name", Utf8, ["pid"])).unwrap();
    Daemon::default()
        .query("SELECT kind, doc FROM vw_tables WHERE name = 'process'", answer(&kind))
        .query("SELECT kind, doc FROM vw_tables", answer(&kind.slice(0, 0)))
        .query(
            "SELECT name, unit, \"key\", counter FROM vw_columns WHERE",
            answer(&marks),
        )
        .query("SELECT name, type", answer(&columns))
        .query("SELECT name FROM vw_tables", answer(&names))
        .query("SELECT table_name, name", answer(&columns))
}

#[test]
fn schema_describes_a_table_and_guesses_at_an_unknown_one() {
    let daemon = described("state").start();
    let ended = daemon.run(&["schema", "process", "-o", "csv"]).exits(0);
    assert_eq!(
        (ended.out.as_str(), ended.err.as_str()),
        ("table_name,name\nprocess,pid\n", "process (state): Processes.\n")
    );
    let ended = daemon.run(&["schema", "proces"]).exits(1);
    assert_eq!(
        ended.err,
        "error: there is no table proces\nhint: did you mean process?\n"
    );
}

fn picture(at: i64, rows: &[(i32, &str)]) -> RecordBatch {
    let time = TimestampNanosecondArray::from(vec![at; rows.len()]).with_timezone("Europe/Berlin");
    let pid = arrow_array::Int32Array::from_iter_values(rows.iter().map(|r| r.0));
    let comm = arrow_array::StringArray::from_iter_values(rows.iter().map(|r| r.1));
    let fields = vec![
        Field::new("time", time.data_type().clone(), true),
        Field::new("pid", DataType::Int32, true),
        Field::new("comm", DataType::Utf8, true),
    ];
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        vec![Arc::new(time), Arc::new(pid), Arc::new(comm)],
    )
    .unwrap()
}

#[test]
fn diff_of_two_equal_pictures_is_empty() {
    let now = picture(1_714_559_400_000_000_000, &[(1, "init"), (7, "sh")]);
    let daemon = described("state")
        .query("SELECT * FROM process ORDER BY \"pid\"", answer(&now))
        .start();
    let ended = daemon.run(&["diff", "process", "@5", "@9", "-o", "table"]).exits(0);
    assert_eq!(
        ended.out,
        "process from 1970-01-01T01:00:05.000+01:00 to 1970-01-01T01:00:09.000+01:00\n"
    );
    assert_eq!(ended.err, "no difference\n");
    let asked = daemon.questions();
    let pictures: Vec<_> = asked
        .iter()
        .filter(|q| q.sql.starts_with("SELECT *"))
        .map(|q| q.at)
        .collect();
    assert_eq!(
        pictures,
        [Some(Moment::Ns(5_000_000_000)), Some(Moment::Ns(9_000_000_000))]
    );
}

#[test]
fn diff_says_what_started_and_ended() {
    let now = picture(1_714_559_400_000_000_000, &[(1, "init"), (7, "sh")]);
    let daemon = described("state")
        .query("SELECT \"time\", \"pid\", \"comm\" FROM process", answer(&now))
        .start();
    let args = ["diff", "process", "@5", "@9", "--columns", "comm", "-o", "table"];
    assert_eq!(daemon.run(&args).exits(0).err, "no difference\n");
    let daemon = described("state")
        .query_at("SELECT *", Moment::Ns(5_000_000_000), answer(&now.slice(0, 1)))
        .query("SELECT *", answer(&now.slice(1, 1)))
        .start();
    let ended = daemon.run(&["diff", "process", "@5", "@9", "-o", "table"]).exits(0);
    let lines: Vec<&str> = ended.out.lines().skip(1).collect();
    assert_eq!(lines, ["+ started  pid=7 comm=sh", "- ended    pid=1 comm=init"]);
    assert_eq!(ended.err, "1 started, 1 ended, 0 changed\n");
}

#[test]
fn diff_without_a_picture_says_so_instead_of_everything_went() {
    let none = picture(0, &[]);
    let daemon = described("state")
        .query("SELECT *", partial(&none, "recording began later"))
        .start();
    let ended = daemon.run(&["diff", "process", "@5", "@9", "-o", "csv"]).exits(4);
    assert_eq!(ended.out, "");
    assert!(
        ended.err.contains("recording began later") && ended.err.contains("nothing to compare"),
        "{}",
        ended.err
    );
    let ended = described("event")
        .start()
        .run(&["diff", "process", "@5", "@9"])
        .exits(1);
    assert!(ended.err.contains("no state table"), "{}", ended.err);
}

#[test]
fn progress_is_no_part_of_the_answer() {
    let mut bytes = stream::message(
        "vwatch.progress",
        r#"{"rows_scanned":5,"blocks_done":1,"blocks_total":9}"#,
    );
    bytes.extend(stream::answer(&[two_rows()], &[(DONE, r#"{"rows":2,"now_ns":1}"#)]));
    let daemon = Daemon::default().query("", bytes).start();
    let ended = daemon.run(&["query", "SELECT 1", "-o", "csv"]).exits(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("pid,comm\n1,init\n7,\n", ""));
    // Standard error is no terminal: no progress is asked for.
    assert!(!daemon.questions()[0].progress);
}
