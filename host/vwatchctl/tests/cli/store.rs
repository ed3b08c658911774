//! `--store`: the engine beside the binary, and no daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use arrow_array::record_batch;
use tempfile::TempDir;
use vwatch_model::query::Request;

use crate::fake::{Ended, answer, of, run};
use crate::stream;

/// vwatchctl in a directory of its own, beside an engine that is a shell script.
struct Installed {
    dir: TempDir,
}

impl Installed {
    fn new(engine: &str) -> Installed {
        let dir = tempfile::tempdir().unwrap();
        let own = Path::new(env!("CARGO_BIN_EXE_vwatchctl"));
        let program = dir.path().join("vwatchctl");
        if std::fs::hard_link(own, &program).is_err() {
            std::fs::copy(own, &program).unwrap();
        }
        std::fs::write(dir.path().join("store.db"), "").unwrap();
        // Written by another process: a descriptor open for writing that a parallel test's child inherits would make the script
        // "text file busy".
        let script = format!("#!/bin/sh\ncd {}\n{engine}\n", dir.path().display());
        let wrote = Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &script])
            .arg(dir.path().join("vwatch-query"))
            .status();
        assert!(wrote.unwrap().success());
        Installed { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Ended {
        let store = self.path("store.db");
        let args: Vec<&str> = ["--store", store.to_str().unwrap()]
            .iter()
            .chain(args)
            .copied()
            .collect();
        run(of(&self.path("vwatchctl"), &args), "")
    }
}

const ANSWERS: &str = "echo \"$@\" > arguments; read -r line; echo \"$line\" > request; cat answer";

#[test]
fn a_store_is_read_without_a_daemon() {
    let installed = Installed::new(ANSWERS);
    let rows = record_batch!(("pid", Int32, [1])).unwrap();
    std::fs::write(installed.path("answer"), answer(&rows)).unwrap();
    assert_eq!(
        installed
            .run(&["query", "SELECT pid FROM process", "-o", "csv"])
            .exits(0)
            .out,
        "pid\n1\n"
    );
    let arguments = std::fs::read_to_string(installed.path("arguments")).unwrap();
    assert_eq!(
        arguments.trim(),
        format!("--store {}", installed.path("store.db").display())
    );
    let request: Request = serde_json::from_slice(&std::fs::read(installed.path("request")).unwrap()).unwrap();
    assert_eq!(request.sql, "SELECT pid FROM process");
    for args in [&["show", "process"][..], &["tables"], &["query", "-"]] {
        installed.run(args).exits(0);
    }
    // The environment names a store too, and the command line's socket wins over it.
    let mut command = of(&installed.path("vwatchctl"), &["query", "SELECT 1", "-o", "csv"]);
    command.env("VWATCH_STORE", installed.path("store.db"));
    assert_eq!(run(command, "").exits(0).out, "pid\n1\n");
    let mut command = of(
        &installed.path("vwatchctl"),
        &["--socket", "/nonexistent/control.sock", "query", "SELECT 1"],
    );
    command.env("VWATCH_STORE", installed.path("store.db"));
    run(command, "").exits(3);
}

#[test]
fn commands_that_need_a_daemon_say_so() {
    let installed = Installed::new(ANSWERS);
    for args in [
        &["status"][..],
        &["plugin", "list"],
        &["probe", "list"],
        &["ack", "x"],
        &["show", "two", "words"],
    ] {
        let ended = installed.run(args).exits(2);
        assert!(ended.err.contains("needs a running daemon"), "{args:?}: {}", ended.err);
    }
}

#[test]
fn the_last_words_of_an_engine_are_told() {
    let installed = Installed::new("read -r line; cat answer; echo 'the store is damaged' >&2; exit 7");
    let rows = record_batch!(("pid", Int32, [1])).unwrap();
    std::fs::write(installed.path("answer"), stream::rows(&[rows])).unwrap();
    let ended = installed.run(&["query", "SELECT 1"]).exits(1);
    assert_eq!(
        ended.err,
        "error: the answer was cut off: vwatch-query ended with exit status: 7: the store is damaged\n"
    );
    // One that does not even read its question.
    let installed = Installed::new("echo 'not a store' >&2; exit 1");
    let ended = installed.run(&["query", "SELECT 1"]).exits(1);
    assert!(ended.err.contains("not a store"), "{}", ended.err);
}

#[test]
fn an_engine_elsewhere_is_not_used() {
    let installed = Installed::new(ANSWERS);
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(installed.path("vwatch-query"), elsewhere.path().join("vwatch-query")).unwrap();
    let store = installed.path("store.db");
    let args = ["--store", store.to_str().unwrap(), "tables"];
    let mut command = of(&installed.path("vwatchctl"), &args);
    command.env("PATH", elsewhere.path()).current_dir(elsewhere.path());
    let ended = run(command, "").exits(1);
    assert!(
        ended.err.contains("vwatch-query is not beside this program"),
        "{}",
        ended.err
    );
}
