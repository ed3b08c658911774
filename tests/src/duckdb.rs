//! DuckDB, another engine, from its Python package in an environment of the test's own.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What fetching it may take.
const FETCH: Duration = Duration::from_secs(240);

/// Reads statements, one a line as a JSON string, and answers each with its rows, one a line.
const ASK: &str = "\
import duckdb, json, sys
connection = duckdb.connect()
connection.execute(\"SET TimeZone='UTC'\")
for line in sys.stdin:
    rows = connection.execute(json.loads(line)).fetchall()
    print(json.dumps(rows, default=str))
";

pub struct DuckDb {
    python: PathBuf,
}

impl DuckDb {
    /// Puts it into `dir`; says that `test` is skipped and why when there is no way to have it.
    pub fn or_skip(dir: &Path, test: &str) -> Option<DuckDb> {
        match fetch(&dir.join("duckdb")) {
            Ok(python) => Some(DuckDb { python }),
            Err(reason) => {
                eprintln!("skipped: {test} needs DuckDB: {reason}");
                None
            }
        }
    }

    /// The rows of each statement.
    pub fn ask(&self, statements: &[String]) -> Vec<Value> {
        let mut child = Command::new(&self.python)
            .args(["-c", ASK])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = child.stdin.take().unwrap();
        let lines: Vec<String> = statements
            .iter()
            .map(|sql| Value::from(sql.as_str()).to_string())
            .collect();
        // From a thread: it answers while it is still asked.
        let asking = std::thread::spawn(move || writeln!(to, "{}", lines.join("\n")));
        let output = child.wait_with_output().unwrap();
        asking.join().unwrap().unwrap();
        assert!(output.status.success(), "DuckDB ended with {}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn fetch(dir: &Path) -> Result<PathBuf, String> {
    let end = Instant::now() + FETCH;
    run(Command::new("python3").args(["-m", "venv"]).arg(dir), end)?;
    let python = dir.join("bin/python3");
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries",
        "0",
        "--timeout",
        "10",
        "duckdb",
    ];
    run(Command::new(&python).args(pip), end)?;
    Ok(python)
}

fn run(command: &mut Command, end: Instant) -> Result<(), String> {
    let shown = format!("{command:?}");
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().map_err(|e| format!("{shown}: {e}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{shown}: {status}")),
            Err(e) => return Err(format!("{shown}: {e}")),
            Ok(None) if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{shown}: not within {FETCH:?}"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
