//! Benchmarks. Each prints its figures beside their goals and a baseline measured in the same run, in CPU time.
//!
//! The work is done by examples of the crates that are measured, built in profile `release`; captures and stores lie in
//! `target/bench`. A store that takes long to make is kept there for the next run.

use crate::capture::{self, Options};
use crate::cargo::{self, Profile, cargo, done, root, target_dir};
use crate::needs;
use anyhow::{Context, Result};
use clap::Subcommand;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A minute and a half of a small host; comes with the sources.
const SAMPLE: &str = "tests/fixtures/captures/host.arrows.zst";

#[derive(Subcommand)]
pub enum What {
    /// The store: bytes a row, encoding, AS OF, scans, event bursts, beside below's layout.
    Store {
        /// Captures to measure with; the one that comes with the sources when none is named.
        captures: Vec<PathBuf>,
    },
    /// SQL over a made-up day of a thousand processes, in process and by the whole command.
    Query {
        /// Processes of the made-up host.
        #[arg(long, default_value_t = 1000)]
        processes: u32,
        /// Hours of its history.
        #[arg(long, default_value_t = 24.0)]
        hours: f64,
        /// The capture whose processes the made-up ones are like.
        #[arg(long)]
        like: Option<PathBuf>,
    },
    /// Record the process history of this host, with a load on it, into a capture file.
    Capture(Options),
}

pub fn run(what: What) -> Result<()> {
    needs::check(needs::BUILD)?;
    match what {
        What::Store { captures } => store(&captures),
        What::Query { processes, hours, like } => query(processes, hours, like.as_deref()),
        What::Capture(options) => capture::run(&options),
    }
}

fn store(captures: &[PathBuf]) -> Result<()> {
    let mut bench = store_bench()?;
    bench.arg("bench").arg(dir()?);
    match captures.is_empty() {
        true => bench.arg(root().join(SAMPLE)),
        false => bench.args(captures),
    };
    done(&mut bench)
}

fn query(processes: u32, hours: f64, like: Option<&Path>) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--profile", "release"]);
    for package in ["vwatchctl", "vwatch-query", "vwatch-sql", "vwatch-store"] {
        build.args(["--package", package]);
    }
    build.args([
        "--bins",
        "--lib",
        "--example",
        "store_bench",
        "--example",
        "query_bench",
    ]);
    done(&mut build)?;
    let out = cargo::out_dir(Profile::Release);
    let examples = out.join("examples");
    let store = dir()?.join(format!("day-{processes}-{hours}h.db"));
    if !newer(&store, &examples.join("store_bench")) {
        eprintln!("making a history of {processes} processes and {hours} hours …");
        let unfinished = store.with_extension("unfinished");
        remove(&unfinished)?;
        let mut synthetic = Command::new(examples.join("store_bench"));
        synthetic.arg("synthetic").arg(&unfinished);
        synthetic.arg(like.map_or_else(|| root().join(SAMPLE), Path::to_path_buf));
        done(synthetic.args([processes.to_string(), hours.to_string()]))?;
        fs::rename(&unfinished, &store)?;
    }
    let mut bench = Command::new(examples.join("query_bench"));
    done(bench.arg(&store).arg(out.join("vwatchctl")))
}

/// The example that measures the store and reads and writes captures, built.
pub fn store_bench() -> Result<Command> {
    let mut build = cargo();
    build.args(["build", "--profile", "release", "--package", "vwatch-store"]);
    done(build.args(["--example", "store_bench"]))?;
    Ok(Command::new(
        cargo::out_dir(Profile::Release).join("examples/store_bench"),
    ))
}

/// Where captures and stores of benchmarks lie.
pub fn dir() -> Result<PathBuf> {
    let dir = target_dir().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Whether a store is there that the program as it is now has made.
fn newer(store: &Path, program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified());
    matches!((changed(store), changed(program)), (Ok(store), Ok(program)) if store > program)
}

/// Removes a store that may be there.
fn remove(store: &Path) -> Result<()> {
    for end in ["", "-lock", "-writer"] {
        let mut file = store.as_os_str().to_owned();
        file.push(end);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}
