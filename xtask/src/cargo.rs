//! Calls of cargo, and where its results lie.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The profiles that people run, and the folder each one's results lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Between dev and release: what `run` builds.
    Quick,
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Release => "release",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Release => "release",
        }
    }
}

/// The programs of a host.
pub const PROGRAMS: [&str; 3] = ["vwatchd", "vwatchctl", "vwatch-query"];
/// The plugins that ship, by the last part of their package name.
pub const PLUGINS: [&str; 4] = ["cpu", "os", "process", "system"];

/// Top of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where everything built lies.
pub fn target_dir() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where `profile`'s results lie.
pub fn out_dir(profile: Profile) -> PathBuf {
    target_dir().join(profile.folder())
}

/// A cargo call at the top of the checkout.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
    cargo
}

/// Runs a command to its end; fails with its words when it fails.
pub fn done(command: &mut Command) -> Result<()> {
    let words = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {words}"))?;
    if !status.success() {
        bail!("{words}: {status}");
    }
    Ok(())
}

/// Builds the programs and the shipped plugins.
///
/// In two calls, since the recorder and its plugins are always in memory: within one call, cargo gives every crate all
/// features that any package asks for, and they would hold what the SQL engine wants of arrow (time zones, compression).
/// They are compiled for size and as one unit, too: a third less code (docs/adr/0006-the-recorder-is-small.md).
pub fn build(profile: Profile) -> Result<()> {
    let plugins = PLUGINS.map(|plugin| format!("vwatch-plugin-{plugin}"));
    let (recorder, clients): (Vec<&str>, Vec<&str>) = PROGRAMS.into_iter().partition(|p| *p == "vwatchd");
    let resident: Vec<&str> = recorder.into_iter().chain(plugins.iter().map(String::as_str)).collect();
    let small = ["opt-level=\"s\"", "lto=\"thin\""].map(|setting| format!("profile.{}.{setting}", profile.name()));
    for (packages, config) in [(resident, Some(small)), (clients, None)] {
        let mut cargo = cargo();
        cargo.args(["build", "--profile", profile.name()]);
        for setting in config.iter().flatten() {
            cargo.args(["--config", setting]);
        }
        for package in packages {
            cargo.args(["--package", package]);
        }
        done(&mut cargo)?;
    }
    Ok(())
}
