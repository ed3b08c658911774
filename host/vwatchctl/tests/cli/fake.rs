//! A daemon of canned answers, and vwatchctl run beside it with nothing of this machine's environment.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use tempfile::TempDir;
use vwatch_model::query::{DONE, ERROR, Request};
use vwatch_model::time::Moment;

use crate::stream;

/// Control answers by `METHOD PATH`, query answers by the beginning of the SQL.
#[derive(Default)]
pub struct Daemon {
    control: HashMap<String, (u16, String)>,
    queries: Vec<Canned>,
}

/// The SQL's beginning, the time it is asked for if that matters, the answer.
type Canned = (String, Option<Moment>, Vec<u8>);

pub struct Running {
    dir: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    questions: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    pub fn control(mut self, request: &str, status: u16, body: &str) -> Self {
        self.control.insert(request.to_owned(), (status, body.to_owned()));
        self
    }

    /// The first answer whose text the SQL begins with is taken.
    pub fn query(mut self, sql: &str, answer: Vec<u8>) -> Self {
        self.queries.push((sql.to_owned(), None, answer));
        self
    }

    /// An answer for one time.
    pub fn query_at(mut self, sql: &str, at: Moment, answer: Vec<u8>) -> Self {
        self.queries.push((sql.to_owned(), Some(at), answer));
        self
    }

    pub fn start(self) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let control = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let query = UnixListener::bind(dir.path().join("query.sock")).unwrap();
        let running = Running {
            dir,
            requests: Arc::default(),
            questions: Arc::default(),
        };
        let (requests, questions) = (running.requests.clone(), running.questions.clone());
        let (answers, queries) = (self.control, self.queries);
        // Both threads end with the test's process.
        std::thread::spawn(move || {
            control
                .incoming()
                .for_each(|c| serve_control(c.unwrap(), &answers, &requests))
        });
        std::thread::spawn(move || {
            query
                .incoming()
                .for_each(|c| serve_query(c.unwrap(), &queries, &questions))
        });
        running
    }
}

fn serve_control(mut c: UnixStream, answers: &HashMap<String, (u16, String)>, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(c.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some(first) = lines.first() else { return };
    let length = lines
        .iter()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let request = first.trim_end_matches(" HTTP/1.1").to_owned();
    let not_found = (
        404,
        r#"{"kind":"not_found","message":"no loaded plugin offers it"}"#.to_owned(),
    );
    let (status, answer) = answers.get(&request).unwrap_or(&not_found);
    requests
        .lock()
        .unwrap()
        .push(format!("{request} {}", String::from_utf8(body).unwrap()));
    let _ = write!(
        c,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
}

fn serve_query(mut c: UnixStream, answers: &[Canned], questions: &Mutex<Vec<Request>>) {
    let mut line = String::new();
    BufReader::new(c.try_clone().unwrap()).read_line(&mut line).unwrap();
    let Ok(request) = serde_json::from_str::<Request>(&line) else {
        return;
    };
    let fits = |(sql, at, _): &&Canned| request.sql.starts_with(sql) && at.is_none_or(|at| request.at == Some(at));
    let answer = answers.iter().find(fits);
    questions.lock().unwrap().push(request);
    if let Some((_, _, bytes)) = answer {
        let _ = c.write_all(bytes);
    }
}

impl Running {
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[], "")
    }

    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Ended {
        let mut command = vwatchctl(args);
        command.env("VWATCH_SOCKET", self.socket()).envs(env.iter().copied());
        run(command, input)
    }

    /// `METHOD PATH BODY` of every control request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn questions(&self) -> Vec<Request> {
        self.questions.lock().unwrap().clone()
    }
}

/// The built binary, with a time zone and nothing else from outside.
pub fn vwatchctl(args: &[&str]) -> Command {
    of(Path::new(env!("CARGO_BIN_EXE_vwatchctl")), args)
}

pub fn of(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("TZ", "Europe/Berlin")
        .env("HOME", "/nonexistent");
    command
}

pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read its input is no failure.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ended {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

impl Ended {
    /// Checks the exit status, and shows everything if it is another.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        self
    }
}

/// A whole answer of these rows.
pub fn answer(rows: &RecordBatch) -> Vec<u8> {
    let done = format!(r#"{{"rows":{},"now_ns":1}}"#, rows.num_rows());
    stream::answer(std::slice::from_ref(rows), &[(DONE, &done)])
}

/// One of which something is missing.
pub fn partial(rows: &RecordBatch, reason: &str) -> Vec<u8> {
    let partial =
        serde_json::json!({"rows": rows.num_rows(), "now_ns": 1, "partial": [{"table": "t", "reason": reason}]});
    stream::answer(std::slice::from_ref(rows), &[(DONE, &partial.to_string())])
}

pub fn refusal(kind: &str, message: &str, hint: Option<&str>, line: u64, column: u64) -> Vec<u8> {
    let failure = serde_json::json!({"kind": kind, "message": message, "hint": hint, "line": line, "column": column});
    stream::message(ERROR, &failure.to_string())
}
