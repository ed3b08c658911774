//! One recorded host: a daemon with its directory, and `vwatchctl` pointed at it.

use crate::deadline::{SOON, until};
use crate::{built, out_dir};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The plugins that ship.
pub const SHIPPED: [&str; 4] = ["system", "cpu", "os", "process"];

pub struct Host {
    dir: TempDir,
    daemon: Option<Child>,
    /// The store's file; in this host's directory unless the test says otherwise.
    pub store: PathBuf,
    /// Flags given to each daemon started here.
    pub flags: Vec<String>,
}

/// What `vwatchctl` answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    fn of(output: Output) -> Answer {
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as JSON lines.
    pub fn rows(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?} of {self:?}")))
            .collect()
    }

    /// The rows of a whole answer.
    #[track_caller]
    pub fn whole(self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        self.rows()
    }
}

impl Host {
    /// A directory with the shipped plugins, and no daemon yet.
    pub fn new() -> Host {
        let host = Host::bare();
        for name in SHIPPED {
            host.drop_in(&out_dir().join(format!("libvwatch_{name}.so")), &format!("{name}.so"));
        }
        host
    }

    /// A directory with an empty plugins directory, and no daemon yet.
    pub fn bare() -> Host {
        let dir = tempfile::Builder::new().prefix("vwatch-e2e-").tempdir().unwrap();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        fs::set_permissions(dir.path().join("plugins"), fs::Permissions::from_mode(0o755)).unwrap();
        Host {
            store: dir.path().join("host.db"),
            dir,
            daemon: None,
            flags: Vec::new(),
        }
    }

    /// A host whose daemon runs, and has recorded something.
    pub fn recording() -> Host {
        let mut host = Host::new();
        host.start();
        host.wait_for_rows("SELECT pid FROM process LIMIT 1");
        host
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn plugins(&self) -> PathBuf {
        self.dir().join("plugins")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join("run/control.sock")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Copies a file over `name` in the plugins directory, as `cp` does: in place.
    pub fn drop_in(&self, file: &Path, name: &str) {
        let to = self.plugins().join(name);
        fs::copy(file, &to)
            .unwrap_or_else(|e| panic!("{}: {e}; run the tests with `cargo xtask test`", file.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// The daemon's command line for this host.
    pub fn vwatchd(&self) -> Command {
        let mut command = Command::new(built("vwatchd"));
        command
            .arg("--store")
            .arg(&self.store)
            .arg("--plugins")
            .arg(self.plugins());
        command.arg("--socket").arg(self.socket()).args(&self.flags);
        for variable in [
            "VWATCH_CONFIG",
            "VWATCH_STORE",
            "VWATCH_PLUGINS",
            "VWATCH_SOCKET",
            "NOTIFY_SOCKET",
        ] {
            command.env_remove(variable);
        }
        command.env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Starts the daemon, and waits until it answers.
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir().join("log"))
            .unwrap();
        let child = self
            .vwatchd()
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let pid = self.pid();
        until("the daemon answers", SOON, || {
            if let Some(ended) = self.daemon.as_mut().and_then(|d| d.try_wait().unwrap()) {
                panic!("the daemon ended: {ended}\n{}", self.log());
            }
            let status = self.ctl(&["status", "--output", "json"]);
            (status.code == 0 && status.out.contains(&pid.to_string())).then_some(())
        });
    }

    pub fn pid(&self) -> i32 {
        self.daemon
            .as_ref()
            .map(|d| d.id() as i32)
            .expect("the daemon was started")
    }

    pub fn is_running(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|d| d.try_wait().unwrap().is_none())
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Ends the daemon as a service manager does. Answers its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(nix::sys::signal::SIGTERM);
        self.wait()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(nix::sys::signal::SIGKILL);
        self.wait();
    }

    fn wait(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        until("the daemon ends", SOON, || daemon.try_wait().unwrap()).code()
    }

    /// `vwatchctl` with this host's socket.
    pub fn ctl(&self, args: &[&str]) -> Answer {
        let mut command = Command::new(built("vwatchctl"));
        command.arg("--socket").arg(self.socket()).args(args);
        Answer::of(command.env("TZ", "UTC").stdin(Stdio::null()).output().unwrap())
    }

    /// `vwatchctl query SQL ARGS…` as JSON lines.
    pub fn query(&self, sql: &str, args: &[&str]) -> Answer {
        let mut all = vec!["query", sql, "--output", "jsonl"];
        all.extend(args);
        self.ctl(&all)
    }

    /// The rows of a whole answer.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        self.query(sql, &[]).whole()
    }

    /// Asks until there are rows.
    #[track_caller]
    pub fn wait_for_rows(&self, sql: &str) -> Vec<Value> {
        let mut last = None;
        let end = std::time::Instant::now() + SOON;
        while std::time::Instant::now() < end {
            let answer = self.query(sql, &[]);
            if answer.code == 0 && !answer.out.trim().is_empty() {
                return answer.rows();
            }
            last = Some(answer);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("no rows within {SOON:?}: {sql}\n{last:?}\nlog:\n{}", self.log());
    }

    /// The instance `name` as `probe list` shows it.
    pub fn instance(&self, name: &str) -> Option<Value> {
        let list = self.ctl(&["probe", "list", "--output", "jsonl"]).whole();
        list.into_iter().find(|i| i["name"] == name)
    }

    /// The plugin file `file` as `plugin list` shows it.
    pub fn plugin(&self, file: &str) -> Option<Value> {
        let list = self.ctl(&["plugin", "list", "--output", "jsonl"]).whole();
        list.into_iter()
            .find(|p| p["file"].as_str().is_some_and(|f| f.ends_with(file)))
    }
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// `vwatchctl --store FILE query SQL ARGS…` with no daemon.
pub fn query_file(store: &Path, sql: &str, args: &[&str]) -> Answer {
    let mut all = vec!["query", sql, "--output", "jsonl"];
    all.extend(args);
    ctl_file(store, &all)
}

/// `vwatchctl --store FILE ARGS…`.
pub fn ctl_file(store: &Path, args: &[&str]) -> Answer {
    let mut command = Command::new(built("vwatchctl"));
    command.arg("--store").arg(store).args(args);
    Answer::of(command.env("TZ", "UTC").stdin(Stdio::null()).output().unwrap())
}
