//! `vwatchctl query` as a user runs it: its CPU time and that of the engine that it starts, and the engine's memory.

use crate::Failed;
use crate::cost::Cost;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::wait;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(2);

pub struct Command {
    program: PathBuf,
    store: PathBuf,
    peak_bytes: Cell<u64>,
}

impl Command {
    pub fn new(program: &Path, store: &Path) -> Result<Command, Failed> {
        // An engine that outlives its client is counted too: it becomes a child of this process.
        set_child_subreaper(true)?;
        Ok(Command {
            program: program.to_owned(),
            store: store.to_owned(),
            peak_bytes: Cell::new(0),
        })
    }

    /// Most anonymous memory that an engine had, looked at every few milliseconds. Pages of the store's file, which the
    /// kernel takes back when it wants them, do not count.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.get()
    }

    /// Runs one statement to its end.
    pub fn run(&self, sql: &str) -> Result<Cost, Failed> {
        let (before, began) = (children_ns()?, Instant::now());
        let mut command = process::Command::new(&self.program);
        command
            .arg("--store")
            .arg(&self.store)
            .args(["query", sql, "--output", "arrow"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Some(bytes) = engine_bytes(child.id()) {
                self.peak_bytes.set(self.peak_bytes.get().max(bytes));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let wall_ns = began.elapsed().as_nanos() as f64;
        while wait().is_ok() {}
        if !status.success() {
            return Err(format!("vwatchctl query {sql:?}: {status}").into());
        }
        Ok(Cost {
            cpu_ns: children_ns()? - before,
            wall_ns,
        })
    }
}

/// CPU time of all children that have ended and of theirs.
fn children_ns() -> Result<f64, Failed> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(us as f64 * 1e3)
}

/// Anonymous memory of the child of a process, while there is one: `RssAnon` of `/proc/PID/status`.
fn engine_bytes(parent: u32) -> Option<u64> {
    let mut children = String::new();
    for task in fs::read_dir(format!("/proc/{parent}/task")).ok()? {
        children.push_str(&fs::read_to_string(task.ok()?.path().join("children")).ok()?);
    }
    let engine = children.split_whitespace().next()?;
    let status = fs::read_to_string(format!("/proc/{engine}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
