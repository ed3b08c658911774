//! The child's half of the trial load: what `vwatchd --check-plugin FILE` runs.

use crate::commit::{Commit, OutboxEntry};
use crate::fault::{Fault, FaultKind};
use crate::file;
use crate::open;
use crate::refusal::Fail;
use crate::services::{Environment, HostServices, InstanceSpec, Level, Query};
use crate::trial::Verdict;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vwatch_model::TableSchema;

/// Loads a plugin with a host that does nothing, checks its manifest and prints it to standard output: as JSON, exit code
/// 0. A refusal is printed there too, as an object with `refused` and `hint`, exit code 1. The plugin's own output goes to
/// standard error. What crashes or hangs in the plugin crashes and hangs here: that is what the caller waits for.
pub fn check_child(file: &Path) -> i32 {
    let Ok(mut answer) = keep_stdout() else { return 1 };
    let (text, code) = match check(file) {
        Ok(manifest) => (manifest, 0),
        Err(fail) => {
            let verdict = Verdict {
                refused: fail.reason,
                hint: fail.hint,
            };
            (serde_json::to_vec(&verdict).unwrap_or_default(), 1)
        }
    };
    let said = answer.write_all(&text).and_then(|()| answer.write_all(b"\n"));
    if said.is_ok() { code } else { 1 }
}

/// Standard output for ourselves; what the plugin prints goes to standard error.
fn keep_stdout() -> nix::Result<File> {
    let own = nix::unistd::dup(std::io::stdout())?;
    nix::unistd::dup2_stdout(std::io::stderr())?;
    Ok(File::from(own))
}

/// Answers the manifest as the plugin wrote it: whoever reads it next reads the very same.
fn check(path: &Path) -> Result<Vec<u8>, Fail> {
    let copy = copy_of(path)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let opened = open::open(copy, &stem, None, Arc::new(NoHost))?;
    open::open_others();
    Ok(opened.document)
}

/// The parent's sealed copy, which has passed the first two gates; or a file that a person names, which has not.
fn copy_of(path: &Path) -> Result<OwnedFd, Fail> {
    if path.starts_with("/proc/self/fd")
        && let Ok(file) = File::open(path)
        && file::is_sealed(&file)
    {
        return Ok(file.into());
    }
    let copy = file::take(path)?;
    crate::elf::check(&copy.bytes)?;
    Ok(copy.memfd)
}

/// The host of a trial: takes everything, has nothing.
struct NoHost;

impl HostServices for NoHost {
    fn log(&self, plugin: &str, level: Level, message: &str) {
        // Standard error: the refusal shows its last line when the plugin crashes.
        eprintln!("{plugin}: {level:?}: {message}");
    }

    fn environment(&self) -> Environment {
        Environment {
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            proc_dir: "/proc".to_owned(),
            sys_dir: "/sys".to_owned(),
            live: true,
            state_dir: String::new(),
        }
    }

    fn config(&self, _plugin: &str) -> Value {
        Value::Object(serde_json::Map::new())
    }

    fn schema(&self, _table: &str) -> Option<TableSchema> {
        None
    }

    fn emit(&self, _plugin: &str, _instance: u64, _commit: Commit) -> Result<(), Fault> {
        Ok(())
    }

    fn state(&self, _plugin: &str, _key: &str) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn state_keys(&self, _plugin: &str, _prefix: &str) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }

    fn outbox(&self, _plugin: &str, _limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        Ok(Vec::new())
    }

    fn timer(&self, _plugin: &str, _token: u64, _after: Option<Duration>) -> Result<(), Fault> {
        Ok(())
    }

    fn instance_start(&self, _plugin: &str, spec: InstanceSpec) -> Result<String, Fault> {
        Ok(if spec.name.is_empty() { spec.probe } else { spec.name })
    }

    fn instance_stop(&self, _plugin: &str, _name: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn stream_send(&self, _stream: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::Gone, "nobody waits on this stream"))
    }

    fn stream_close(&self, _stream: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn query(&self, _plugin: &str, _token: u64, _query: Query) -> Result<(), Fault> {
        Ok(())
    }
}
