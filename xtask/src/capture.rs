//! `cargo xtask bench capture`: records this host under a load for a while, and writes the history of its processes as a
//! capture file (an Arrow IPC stream inside zstd; `host/store/examples/store_bench/capture.rs` has its form).

use crate::bench;
use crate::cargo::{self, Profile, done};
use crate::load::{self, Size};
use crate::stage;
use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// The file to write, by custom *.arrows.zst.
    out: PathBuf,
    /// How long to record.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Idle processes of the load.
    #[arg(long, default_value_t = 1000)]
    processes: u32,
    /// Busy processes of the load.
    #[arg(long, default_value_t = 50)]
    busy: u32,
    /// Short-lived processes a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Keep the load and kernel threads alone, without the host's other processes and its control groups.
    #[arg(long)]
    load_only: bool,
    /// Record with profile `release` instead of `quick`.
    #[arg(long)]
    release: bool,
    /// Record nothing: take the history of this store. A daemon may be writing it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["minutes", "processes", "busy", "rate", "load_only", "release"])]
    store: Option<PathBuf>,
}

/// The daemon's end takes a commit and a sealing.
const END_WITHIN: Duration = Duration::from_secs(30);

pub fn run(options: &Options) -> Result<()> {
    let mut store_bench = bench::store_bench()?;
    if let Some(store) = &options.store {
        return done(store_bench.arg("capture").arg(store).arg(&options.out));
    }
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Quick
    };
    cargo::build(profile)?;
    let staged = cargo::out_dir(profile).join("stage");
    stage::lay_out(profile, &staged)?;
    // Short, since the path of a socket has 108 bytes.
    let dir = std::env::temp_dir().join(format!("vwatch-capture-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let recorded = record(options, &staged, &dir).and_then(|(store, group)| {
        store_bench.arg("capture").arg(store).arg(&options.out);
        if options.load_only {
            store_bench.arg(group.to_string());
        }
        done(&mut store_bench)
    });
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    recorded
}

/// Records for as long as asked. Returns the store, and the process group of the load.
fn record(options: &Options, staged: &Path, dir: &Path) -> Result<(PathBuf, u32)> {
    let size = Size {
        idle: options.processes,
        busy: options.busy,
        rate: options.rate,
    };
    let mut load = load::start(dir, size)?;
    let group = load.id();
    let store = dir.join("host.db");
    let recorded = daemon(staged, dir, &store).and_then(|mut vwatchd| {
        let waited = wait(options.minutes, &mut load, &mut vwatchd);
        waited.and(end(&mut vwatchd))
    });
    drop(load.stdin.take());
    load.wait().context("the load")?;
    recorded.map(|()| (store, group))
}

fn daemon(staged: &Path, dir: &Path, store: &Path) -> Result<Child> {
    let log = fs::File::create(dir.join("vwatchd.log"))?;
    let mut vwatchd = Command::new(staged.join("bin/vwatchd"));
    vwatchd.arg("--store").arg(store);
    vwatchd.arg("--plugins").arg(stage::plugins_dir(staged));
    vwatchd.arg("--socket").arg(dir.join("run/control.sock"));
    vwatchd.stdin(Stdio::null()).stderr(log);
    vwatchd.spawn().context("cannot start vwatchd")
}

fn wait(minutes: f64, load: &mut Child, vwatchd: &mut Child) -> Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    eprintln!("recording for {minutes} minutes …");
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        for (what, child) in [("the load", &mut *load), ("vwatchd", &mut *vwatchd)] {
            if let Some(status) = child.try_wait()? {
                bail!("{what} ended: {status}");
            }
        }
    }
    Ok(())
}

fn end(vwatchd: &mut Child) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(vwatchd.id())?), Signal::SIGTERM)?;
    let until = Instant::now() + END_WITHIN;
    while Instant::now() < until {
        if let Some(status) = vwatchd.try_wait()? {
            anyhow::ensure!(status.success(), "vwatchd: {status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    vwatchd.kill()?;
    bail!("vwatchd did not end within {} s of SIGTERM", END_WITHIN.as_secs())
}
