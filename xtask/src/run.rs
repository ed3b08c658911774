//! Builds everything, and records this host.

use crate::cargo::{self, Profile};
use crate::{needs, stage};
use anyhow::{Result, bail};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn run(release: bool, flags: &[String]) -> Result<()> {
    needs::check(needs::BUILD)?;
    let profile = if release { Profile::Release } else { Profile::Quick };
    eprintln!("building vwatchd, vwatchctl, vwatch-query and the plugins (a first build takes some minutes) …");
    cargo::build(profile)?;
    let dir = cargo::out_dir(profile).join("stage");
    stage::lay_out(profile, &dir)?;

    let bin = dir.join("bin");
    let mut vwatchd = Command::new(bin.join("vwatchd"));
    if !given(flags, "--plugins") {
        vwatchd.arg("--plugins").arg(stage::plugins_dir(&dir));
    }
    if !given(flags, "--store") && std::env::var_os("VWATCH_STORE").is_none() {
        let store = state_dir()?.join("vwatchd.db");
        eprintln!("store: {}", store.display());
        vwatchd.arg("--store").arg(store);
    }
    vwatchd.args(flags);
    if !flags
        .iter()
        .any(|f| f == "--check" || f == "--help" || f == "--version")
    {
        say_what_to_try(&bin, flags);
    }
    bail!("cannot run vwatchd: {}", vwatchd.exec());
}

fn given(flags: &[String], name: &str) -> bool {
    flags.iter().any(|f| f == name || f.starts_with(&format!("{name}=")))
}

/// The user's state directory, made when it is not there.
fn state_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let Some(base) = base else {
        bail!("neither XDG_STATE_HOME nor HOME is set: say where with -- --store FILE")
    };
    let dir = base.join("vwatchd");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn say_what_to_try(bin: &Path, flags: &[String]) {
    let ctl = bin.join("vwatchctl");
    let ctl = ctl.display();
    let socket = flags
        .iter()
        .position(|f| f == "--socket")
        .and_then(|i| flags.get(i + 1));
    let socket = socket.map(|s| format!(" --socket {s}")).unwrap_or_default();
    eprintln!(
        "\nrecording starts; Ctrl-C ends it. In another terminal, try:\n  \
         {ctl}{socket} status\n  \
         {ctl}{socket} probe list\n  \
         {ctl}{socket} query \"SELECT pid, comm, rss_bytes FROM process ORDER BY rss_bytes DESC LIMIT 5\"\n  \
         {ctl}{socket} query \"SELECT time, load_1m FROM load_history\" --from -1m\n  \
         {ctl}{socket} diff process -30s now\n  \
         {ctl}{socket} console\n"
    );
}
