//! What the loader's tests share: the plugin written by hand, the checker, C libraries, and a host that writes down
//! everything it is asked for.

use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;
use tempfile::TempDir;
use vwatch_loader::{
    Commit, Environment, Fault, FaultKind, HostServices, InstanceSpec, Level, Loader, OutboxEntry, Plugin, Query,
    Refusal,
};
use vwatch_model::{Column, ColumnType, TableKind, TableSchema};

/// A host that writes down what plugins ask for.
#[derive(Default)]
pub struct Recorder {
    pub said: Mutex<Vec<String>>,
    pub commits: Mutex<Vec<(u64, Commit)>>,
    /// The plugin's configuration, when a test sets one.
    pub config: Mutex<Option<Value>>,
}

impl Recorder {
    pub fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }

    fn note(&self, plugin: &str, words: String) {
        self.said.lock().unwrap().push(format!("{plugin}: {words}"));
    }
}

impl HostServices for Recorder {
    fn log(&self, plugin: &str, level: Level, message: &str) {
        self.note(plugin, format!("{level:?} {message}"));
    }

    fn environment(&self) -> Environment {
        Environment {
            host_version: "9.9.9".into(),
            proc_dir: "/fixture/proc".into(),
            sys_dir: "/fixture/sys".into(),
            live: false,
            state_dir: "/fixture/state".into(),
        }
    }

    fn config(&self, plugin: &str) -> Value {
        let set = self.config.lock().unwrap().clone();
        set.unwrap_or_else(|| json!({"of": plugin}))
    }

    fn schema(&self, table: &str) -> Option<TableSchema> {
        (table == "load").then(|| TableSchema {
            name: "load".into(),
            kind: TableKind::State,
            doc: String::new(),
            access: Default::default(),
            columns: vec![Column::new("load_1m", ColumnType::F64, "")],
        })
    }

    fn emit(&self, plugin: &str, instance: u64, commit: Commit) -> Result<(), Fault> {
        self.note(plugin, format!("emit for {instance}: {} rows", commit.rows()));
        self.commits.lock().unwrap().push((instance, commit));
        Ok(())
    }

    fn state(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.note(plugin, format!("state {key}"));
        Ok((key == "k").then(|| b"value".to_vec()))
    }

    fn state_keys(&self, plugin: &str, prefix: &str) -> Result<Vec<String>, Fault> {
        self.note(plugin, format!("state_keys {prefix}"));
        Ok(vec!["p1".into(), "p2".into()])
    }

    fn outbox(&self, plugin: &str, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        self.note(plugin, format!("outbox {limit}"));
        Ok(vec![OutboxEntry {
            id: "mail-1".into(),
            body: b"hello".to_vec(),
        }])
    }

    fn timer(&self, plugin: &str, token: u64, after: Option<Duration>) -> Result<(), Fault> {
        self.note(plugin, format!("timer {token} {after:?}"));
        Ok(())
    }

    fn instance_start(&self, plugin: &str, spec: InstanceSpec) -> Result<String, Fault> {
        self.note(plugin, format!("start {}", serde_json::to_string(&spec).unwrap()));
        Ok(spec.name)
    }

    fn instance_stop(&self, plugin: &str, name: &str) -> Result<(), Fault> {
        self.note(plugin, format!("stop {name}"));
        Err(Fault::not_found("no such instance"))
    }

    fn stream_send(&self, stream: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.note("stream", format!("{stream} {}", String::from_utf8_lossy(bytes)));
        Err(Fault::new(FaultKind::Busy, "reads too slowly"))
    }

    /// A service with a fault of its own: the plugin has to live on.
    fn stream_close(&self, stream: u64) -> Result<(), Fault> {
        panic!("stream {stream} cannot be closed (this panic is part of a test)");
    }

    fn query(&self, plugin: &str, token: u64, query: Query) -> Result<(), Fault> {
        self.note(plugin, format!("query {token} {query:?}"));
        Ok(())
    }
}

/// `target/PROFILE`, where this test's own program was built.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().and_then(Path::parent).unwrap().to_owned()
}

/// Builds something into the directory where this test's own program was built.
fn build(what: &[&str], once: &Once) {
    once.call_once(|| {
        let dir = target_dir();
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            None | Some("debug") => "dev",
            Some(name) => name,
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--profile", profile, "--target-dir"]);
        let status = cargo.arg(dir.parent().unwrap()).args(what).status().unwrap();
        assert!(status.success(), "cargo build {what:?}");
    });
}

/// An example of this package. `cargo test` has built it, unless it was told to build a single test only.
fn example(file: &str, name: &str, once: &Once) -> PathBuf {
    let path = target_dir().join("examples").join(file);
    if !path.exists() {
        build(&["-p", "vwatch-loader", "--example", name], once);
    }
    path
}

/// The plugin written by hand (`examples/hand_plugin`).
pub fn hand_plugin() -> Vec<u8> {
    static ONCE: Once = Once::new();
    std::fs::read(example("libhand_plugin.so", "hand_plugin", &ONCE)).unwrap()
}

/// A library whose root module has another layout (`examples/odd_plugin.rs`).
pub fn odd_plugin() -> Vec<u8> {
    static ONCE: Once = Once::new();
    std::fs::read(example("libodd_plugin.so", "odd_plugin", &ONCE)).unwrap()
}

/// The plugin written by hand, with another setup.
pub fn hand_plugin_in(mode: &[u8; 4]) -> Vec<u8> {
    let mut bytes = hand_plugin();
    let mark = b"VWATCH-MODE=";
    let at = bytes
        .windows(16)
        .position(|w| w.starts_with(mark) && w.ends_with(b"good"))
        .unwrap();
    bytes[at + mark.len()..at + 16].copy_from_slice(mode);
    bytes
}

/// The plugin that uses the sdk, and misbehaves on request.
pub fn behaviours() -> PathBuf {
    static ONCE: Once = Once::new();
    let path = target_dir().join("libvwatch_behaviours.so");
    // `cargo xtask test` builds it with the whole workspace; building it alone picks other features, and so builds it anew.
    if !path.exists() {
        build(&["-p", "vwatch-test-plugin"], &ONCE);
    }
    path
}

/// A loader whose trials run `examples/check_plugin.rs`.
pub fn loader() -> Loader {
    static ONCE: Once = Once::new();
    let program = example("check_plugin", "check_plugin", &ONCE);
    let mut loader = Loader::new();
    loader.checker.program = program;
    loader.checker.args = Vec::new();
    loader
}

/// A directory that nobody else can write to.
pub fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    chmod(&path, 0o644);
    path
}

pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn load(file: &Path) -> Result<Plugin, Refusal> {
    loader().load(file, Arc::new(Recorder::default()))
}

/// The refusal of a file, which names it and has a mend.
#[track_caller]
pub fn refusal(file: &Path) -> Refusal {
    let refusal = load(file).expect_err("a refusal");
    assert_eq!(refusal.file, file);
    assert!(!refusal.hint.is_empty(), "{refusal}");
    assert!(
        !refusal.reason.contains('\n') && refusal.reason.len() < 800,
        "{refusal}"
    );
    refusal
}

/// Builds a shared library from C, with `gcc` or what `CC` names. None when there is no compiler.
pub fn c_library(dir: &Path, name: &str, source: &str) -> Option<PathBuf> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "gcc".into());
    let (from, to) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    std::fs::write(&from, source).unwrap();
    let status = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-o"])
        .arg(&to)
        .arg(&from)
        .status();
    match status {
        Ok(status) => {
            assert!(status.success(), "{compiler} on {}", from.display());
            chmod(&to, 0o644);
            Some(to)
        }
        Err(error) => {
            println!("skipped: {name}: no C compiler ({compiler}): {error}");
            None
        }
    }
}

pub fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: {test}: only root can give files away");
    }
    root
}
