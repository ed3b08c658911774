//! The daemon as a process: start, refusals, signals, end. No plugins: what they bring is tested elsewhere.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(place.path("plugins")).unwrap();
        place.write("vwatchd.conf", "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vwatchd"));
        for (flag, name) in [
            ("--config", "vwatchd.conf"),
            ("--store", "store.db"),
            ("--plugins", "plugins"),
            ("--socket", "run/control.sock"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end; for starts that are refused.
    fn refused(&self) -> (Output, String) {
        let output = self.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        (output, text)
    }

    /// Starts, and waits until the control socket answers.
    fn start(&self) -> Daemon {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let child = self.command().stderr(log).spawn().unwrap();
        let daemon = Daemon { child };
        until("the control socket answers", || self.get("/v1/status").is_some());
        daemon
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.path("run/control.sock")).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }
}

struct Daemon {
    child: Child,
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// The exit code, within ten seconds.
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already, where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn contents(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn starts_stops_and_says_how_long_it_was_away() {
    let place = Place::new();
    let mut daemon = place.start();
    assert!(place.path("run/query.sock").exists());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended(), Some(0), "{}", place.log());
    assert!(!place.path("run/control.sock").exists() && !place.path("run/query.sock").exists());
    let mut daemon = place.start();
    assert!(
        place.log().contains("vwatchd was stopped: nothing was recorded for"),
        "{}",
        place.log()
    );
    daemon.signal(Signal::SIGKILL);
    assert_eq!(daemon.ended(), None);
    assert!(
        place.path("run/control.sock").exists(),
        "a killed daemon leaves its socket"
    );
    let mut daemon = place.start();
    assert!(
        place.log().contains("left by a daemon that is no more"),
        "{}",
        place.log()
    );
    assert!(
        place.log().contains("vwatchd was killed: nothing was recorded for"),
        "{}",
        place.log()
    );
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
}

#[test]
fn a_second_daemon_is_refused_naming_the_first() {
    let place = Place::new();
    let mut daemon = place.start();
    let pid = daemon.child.id().to_string();
    let (_, text) = place.refused();
    assert!(text.contains(&format!("process {pid}")), "{text}");
    // Another store, the same socket.
    let output = place.command().arg("--check").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("written by process {pid}")));
    let other = Place::new();
    let mut command = other.command();
    let output = command.env_clear().output_with_socket(&place.path("run/control.sock"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("process {pid} listens there")), "{text}");
    assert!(place.get("/v1/status").is_some(), "the first is not disturbed");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended(), Some(0));
}

trait WithSocket {
    fn output_with_socket(&mut self, socket: &Path) -> Output;
}

impl WithSocket for Command {
    /// The same command line with another `--socket`.
    fn output_with_socket(&mut self, socket: &Path) -> Output {
        let args: Vec<_> = self.get_args().map(|arg| arg.to_owned()).collect();
        let at = args.iter().position(|arg| arg == "--socket").unwrap();
        let mut command = Command::new(self.get_program());
        command.args(&args[..=at]).arg(socket).args(&args[at + 2..]);
        command.stdin(Stdio::null()).output().unwrap()
    }
}

#[test]
fn a_file_that_is_no_store_is_refused_untouched() {
    let place = Place::new();
    for text in [&b"precious"[..], &[0; 10_000], b"SQLite format 3\0 and more of it"] {
        std::fs::write(place.path("store.db"), text).unwrap();
        let (_, said) = place.refused();
        assert!(said.contains("store.db"), "{said}");
        assert_eq!(contents(&place.path("store.db")), text);
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let place = Place::new();
    place.write("vwatchd.conf", "[query]\nmemroy = \"1GiB\"\n");
    let (_, text) = place.refused();
    assert!(
        text.contains("vwatchd.conf:2:1: unknown key \"memroy\" in [query]; did you mean \"memory\"?"),
        "{text}"
    );
    std::fs::remove_file(place.path("vwatchd.conf")).unwrap();
    let (_, text) = place.refused();
    assert!(text.contains("cannot read") && text.contains("vwatchd.conf"), "{text}");
}

#[test]
fn a_reload_takes_the_new_configuration_or_keeps_the_old() {
    let place = Place::new();
    let mut daemon = place.start();
    place.write("vwatchd.conf", "[[instance]]\nprobe = \"a.b\"\nname = \"waits\"\n");
    daemon.signal(Signal::SIGHUP);
    until("the new instance is there", || {
        place.get("/v1/probes").is_some_and(|text| text.contains("waits"))
    });
    place.write("vwatchd.conf", "nonsense = 1\n");
    daemon.signal(Signal::SIGHUP);
    until("the log says so", || {
        place.log().contains("the old configuration is kept")
    });
    assert!(place.get("/v1/probes").unwrap().contains("waits"));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended(), Some(0));
}

#[test]
fn a_missing_plugins_directory_is_waited_for() {
    let place = Place::new();
    std::fs::remove_dir(place.path("plugins")).unwrap();
    let mut daemon = place.start();
    until("the log says so", || {
        place.log().contains("nothing is recorded until it is there")
    });
    std::fs::create_dir(place.path("plugins")).unwrap();
    std::fs::write(place.path("plugins/garbage.so"), "no plugin").unwrap();
    until("the file is refused", || {
        place.get("/v1/plugins").is_some_and(|text| text.contains("refused"))
    });
    let output = place.command().arg("--check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("WRONG   plugin file") && text.contains("garbage.so"),
        "{text}"
    );
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended(), Some(0));
}
