//! The program itself: its arguments, its confinement, its ends.
#![cfg(test)]

use arrow_array::{ArrayRef, Int32Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use vwatch_model::query::{DONE, Done, ERROR, Failure, Operation, Request, Summary};
use vwatch_model::time::Stamp;
use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema};
use vwatch_store::{Body, InstanceInfo, OpenOptions, Sample, Writer};

fn now() -> Stamp {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Stamp {
        wall_ns: wall.as_nanos() as i64,
        boot_ns: 1_000_000_000,
    }
}

/// A store with one sample of three processes, still open for writing.
fn recording(dir: &Path) -> (PathBuf, Writer) {
    recording_of(dir, 3)
}

fn recording_of(dir: &Path, processes: i32) -> (PathBuf, Writer) {
    let path = dir.join("vwatchd.db");
    let mut writer = Writer::open(&path, &OpenOptions::default(), now(), "boot").unwrap();
    let schema = TableSchema {
        name: "process".into(),
        kind: TableKind::State,
        doc: String::new(),
        access: Access::All,
        columns: vec![Column::new("pid", ColumnType::I32, "Process id.").key()],
    };
    let table = writer.table(&schema).unwrap();
    let instance = writer
        .instance(&InstanceInfo {
            name: "process.process".into(),
            probe: "process.process".into(),
            default: true,
        })
        .unwrap();
    let pids: ArrayRef = Arc::new(Int32Array::from_iter_values(1..=processes));
    let stamp = now();
    writer
        .push(Sample {
            table,
            instance,
            time_ns: stamp.wall_ns,
            boot_ns: stamp.boot_ns,
            interval_ns: 3_600_000_000_000,
            body: Body::Full(RecordBatch::try_new(schema.arrow(), vec![pids]).unwrap()),
        })
        .unwrap();
    writer.commit(now()).unwrap();
    (path, writer)
}

fn closed(dir: &TempDir) -> PathBuf {
    let (path, writer) = recording(dir.path());
    writer.close(now()).unwrap();
    path
}

fn program(store: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vwatch-query"));
    command.arg("--store").arg(store).args(more);
    command
}

fn operation(operation: Operation) -> Vec<u8> {
    let request = Request {
        operation: Some(operation),
        ..Request::default()
    };
    let mut line = serde_json::to_vec(&request).unwrap();
    line.push(b'\n');
    line
}

fn line(sql: &str) -> Vec<u8> {
    let request = Request {
        sql: sql.into(),
        ..Request::default()
    };
    let mut line = serde_json::to_vec(&request).unwrap();
    line.push(b'\n');
    line
}

/// Runs the program with this input on a pipe, to its end.
fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

struct Answer {
    rows: usize,
    done: Option<Done>,
    failure: Option<Failure>,
}

fn read(bytes: &[u8]) -> Answer {
    let rows = StreamReader::try_new(bytes, None)
        .unwrap()
        .map(|b| b.unwrap().num_rows())
        .sum();
    let mut answer = Answer {
        rows,
        done: None,
        failure: None,
    };
    let mut rest = bytes;
    loop {
        let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        if length == 0 {
            return answer;
        }
        let message = root_as_message(&rest[8..8 + length]).unwrap();
        for pair in message.custom_metadata().iter().flat_map(|m| m.iter()) {
            match pair.key().unwrap() {
                DONE => answer.done = Some(serde_json::from_str(pair.value().unwrap()).unwrap()),
                ERROR => answer.failure = Some(serde_json::from_str(pair.value().unwrap()).unwrap()),
                _ => {}
            }
        }
        rest = &rest[8 + length + message.bodyLength() as usize..];
    }
}

fn failure(output: &Output) -> Failure {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    read(&output.stdout).failure.unwrap()
}

fn wait_for_end(child: &mut Child, within: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_copy_is_answered_at_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    let output = run(program(&path, &[]), &line("SELECT pid FROM process"));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = read(&output.stdout);
    assert_eq!(answer.rows, 3);
    let done = answer.done.unwrap();
    assert_eq!((done.rows, done.partial), (3, vec![]));
    assert!(done.now_ns < now().wall_ns);
}

#[test]
fn a_store_that_is_being_written_is_read_live() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = recording(dir.path());
    let begun = now().wall_ns;
    let output = run(program(&path, &[]), &line("SELECT pid FROM process"));
    let done = read(&output.stdout).done.unwrap();
    assert_eq!(done.rows, 3);
    assert!(done.now_ns >= begun, "now is real now beside a writer");
    drop(writer);
}

#[test]
fn operations_are_answered_as_queries_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    let done = |asked| read(&run(program(&path, &[]), &operation(asked)).stdout).done.unwrap();
    let verified = done(Operation::Verify {});
    let counts = matches!(
        verified.summary,
        Some(Summary::Verified {
            flaws: 0,
            samples: 1,
            rows: 3,
            blocks: 1,
            ..
        })
    );
    assert!(counts && verified.rows == 0, "{verified:?}");
    let stats = done(Operation::Stats {});
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(
        matches!(stats.summary, Some(Summary::Store { file_bytes, .. }) if file_bytes == size),
        "{stats:?}"
    );
    assert_eq!(stats.rows, 1);
    let copied = done(Operation::Copy { compact: false });
    assert!(
        matches!(copied.summary, Some(Summary::Copied { bytes }) if bytes > 0 && bytes <= size),
        "{copied:?}"
    );
    assert!(matches!(
        done(Operation::Compact {}).summary,
        Some(Summary::Compacted { .. })
    ));
    let mut both = operation(Operation::Verify {});
    let text = String::from_utf8(both.clone())
        .unwrap()
        .replacen("\"sql\":\"\"", "\"sql\":\"SELECT 1\"", 1);
    both = text.into_bytes();
    assert_eq!(failure(&run(program(&path, &[]), &both)).kind, "request");
}

#[test]
fn a_copy_is_for_whoever_sees_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    let denied = failure(&run(
        program(&path, &["--asker-uid", "54321"]),
        &operation(Operation::Copy { compact: false }),
    ));
    assert_eq!(denied.kind, "denied");
    let root = run(
        program(&path, &["--asker-uid", "0"]),
        &operation(Operation::Copy { compact: false }),
    );
    assert!(read(&root.stdout).done.is_some());
    // What a live store is refused, it is refused in words.
    let beside = tempfile::tempdir().unwrap();
    let (live, _writer) = recording(beside.path());
    let refused = failure(&run(program(&live, &["--live"]), &operation(Operation::Compact {})));
    assert!(refused.message.contains("being written"), "{refused:?}");
}

#[test]
fn a_file_that_cannot_be_opened_is_one_flaw() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..4096]).unwrap();
    let answer = read(&run(program(&path, &[]), &operation(Operation::Verify {})).stdout);
    assert_eq!(answer.rows, 1);
    assert!(matches!(
        answer.done.unwrap().summary,
        Some(Summary::Verified { flaws: 1, .. })
    ));
}

#[test]
fn what_is_no_store_is_told_in_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nothing.db");
    assert_eq!(failure(&run(program(&missing, &[]), &line("SELECT 1"))).kind, "store");
    assert!(!missing.exists(), "a query creates no store");
    let text = dir.path().join("text.db");
    std::fs::write(&text, "not a store at all\n".repeat(1000)).unwrap();
    let told = failure(&run(program(&text, &[]), &line("SELECT 1")));
    assert_eq!(told.kind, "store");
    assert!(told.message.contains("text.db"), "{told:?}");
}

#[test]
fn what_is_no_request_is_told_in_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    for input in [
        &b""[..],
        b"\n",
        b"SELECT 1\n",
        b"{\"sql\": 7}\n",
        b"\xff\xfe\n",
        b"[]\n",
    ] {
        assert_eq!(failure(&run(program(&path, &[]), input)).kind, "request", "{input:?}");
    }
    let long = line(&format!("SELECT '{}'", "x".repeat(2 << 20)));
    assert!(failure(&run(program(&path, &[]), &long)).message.contains("longer"));
    let output = run(program(&path, &["--no-such-flag"]), b"");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_failed_query_ends_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    let told = failure(&run(program(&path, &[]), &line("SELECT pid FROM proces")));
    assert_eq!(
        (told.kind.as_str(), told.line, told.column),
        ("unknown_table", Some(1), Some(17))
    );
    let told = failure(&run(program(&path, &["--rows", "2"]), &line("SELECT pid FROM process")));
    assert_eq!(told.kind, "limit");
}

const ENDLESS: &str = "SELECT sum(a.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

/// The program as the daemon starts it: a connected socket as standard input and output.
fn on_a_socket(path: &Path, more: &[&str]) -> (UnixStream, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let fd = |s: &UnixStream| Stdio::from(OwnedFd::from(s.try_clone().unwrap()));
    let child = program(path, &["--live"])
        .args(more)
        .stdin(fd(&theirs))
        .stdout(fd(&theirs))
        .spawn()
        .unwrap();
    (ours, child)
}

#[test]
fn a_socket_is_answered_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = recording(dir.path());
    let (mut client, mut child) = on_a_socket(&path, &["--asker-uid", "4711"]);
    client.write_all(&line("SELECT pid FROM process")).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(read(&bytes).done.unwrap().rows, 3);
    assert!(wait_for_end(&mut child, Duration::from_secs(20)).unwrap().success());
    drop(writer);
}

#[test]
fn a_live_store_is_answered_on_pipes_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = recording(dir.path());
    let output = run(
        program(&path, &["--live", "--asker-uid", "0"]),
        &line("SELECT pid FROM process"),
    );
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(read(&output.stdout).done.unwrap().rows, 3);
    drop(writer);
}

#[test]
fn a_client_that_hangs_up_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = recording(dir.path());
    let (mut client, mut child) = on_a_socket(&path, &[]);
    client.write_all(&line(ENDLESS)).unwrap();
    // The schema has come: it computes.
    let mut first = [0; 4];
    client.read_exact(&mut first).unwrap();
    drop(client);
    let status = wait_for_end(&mut child, Duration::from_secs(20));
    assert_eq!(status.and_then(|s| s.code()), Some(1), "it computes for nobody");
    drop(writer);
}

#[test]
fn time_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed(&dir);
    let told = failure(&run(program(&path, &["--time", "300"]), &line(ENDLESS)));
    assert_eq!(told.kind, "limit");
}

#[test]
fn memory_is_limited() {
    const LIMIT: u64 = 64 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = recording_of(dir.path(), 20_000);
    writer.close(now()).unwrap();
    run(program(&path, &[]), &line("SELECT count(*) FROM process"));
    let base = largest_child();
    let pairs = "FROM process_history a CROSS JOIN process_history b";
    for sql in [
        format!("SELECT a.pid, b.pid {pairs} ORDER BY a.pid * b.pid, b.pid"),
        "SELECT array_agg(a.value * b.value) FROM generate_series(1, 20000) a, generate_series(1, 20000) b".to_owned(),
        format!("SELECT count(DISTINCT concat(a.pid, ' of ', b.pid)) {pairs}"),
        format!("SELECT string_agg(concat(a.pid, b.pid), ',') {pairs}"),
    ] {
        let output = run(program(&path, &["--memory", &LIMIT.to_string()]), &line(&sql));
        let told = failure(&output);
        assert_eq!(told.kind, "limit", "{sql}: {told:?}");
        assert!(told.message.contains("memory"), "{sql}: {told:?}");
    }
    // The limit, and one step beyond it: what doubles its size as it grows.
    let (before, largest) = (base, largest_child());
    assert!(largest < before + 2 * LIMIT, "{before}, then {largest} bytes");
}

/// Most memory that a process started by this one has had resident.
fn largest_child() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    usage.max_rss() as u64 * 1024
}

#[test]
fn rights_are_given_up_before_the_request_is_read() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped rights_are_given_up_before_the_request_is_read: needs root to change users");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = recording(dir.path());
    let (mut client, mut child) = on_a_socket(&path, &["--drop-to", "65534:65533"]);
    let status = format!("/proc/{}/status", child.id());
    let of = |key: &str| {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while of("NoNewPrivs:") != "1" && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(of("Uid:"), "65534 65534 65534 65534");
    assert_eq!(of("Gid:"), "65533 65533 65533 65533");
    assert_eq!(of("Groups:"), "");
    assert_eq!(of("CapEff:"), "0000000000000000");
    // The store is closed to that user, and yet it is answered: it was opened before.
    client.write_all(&line("SELECT pid FROM process")).unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(read(&bytes).done.unwrap().rows, 3);
    assert!(wait_for_end(&mut child, Duration::from_secs(20)).unwrap().success());
    drop(writer);
}
