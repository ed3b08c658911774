//! The third gate: a child process loads the plugin first.
//!
//! Constructors run, symbols are bound and the plugin is made there; a crash, a hang, an `exit` in any of it costs a child.
//! The child is the daemon's own program with `--check-plugin` ([`crate::check_child`]). Cost: a fork, an exec and one load,
//! some tens of milliseconds, once per plugin file.

use crate::file;
use crate::refusal::{Fail, one_line};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Bytes kept of what the child says: a manifest is at most 1 MiB.
const MAX_OUTPUT: usize = 2 << 20;
/// Address space of the child. Generous: libraries reserve much that they never use.
const MAX_ADDRESS_SPACE: u64 = 8 << 30;

/// The program that loads a plugin for trial: it gets the file's path as its last argument and does what
/// [`crate::check_child`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checker {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub time_limit: Duration,
}

impl Default for Checker {
    fn default() -> Self {
        Checker {
            // Also after the daemon's file was replaced: it is the program that runs.
            program: "/proc/self/exe".into(),
            args: vec!["--check-plugin".into()],
            time_limit: Duration::from_secs(10),
        }
    }
}

/// What the child writes to its standard output, instead of a manifest, when it refuses.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub refused: String,
    pub hint: String,
}

struct Outcome {
    /// None when the time was over.
    status: Option<ExitStatus>,
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Loads the copy in a child. Answers the manifest document that the plugin gave there.
pub(crate) fn run(checker: &Checker, copy: &OwnedFd) -> Result<Vec<u8>, Fail> {
    let outcome = spawn(checker, copy)
        .and_then(|child| watch(child, checker.time_limit))
        .map_err(|e| {
            let reason = format!("it could not be tried in a child process: {e}");
            Fail::new(reason, "see to the daemon's limits, then reload it")
        })?;
    judge(checker, outcome)
}

fn spawn(checker: &Checker, copy: &OwnedFd) -> std::io::Result<Child> {
    let fd = copy.as_raw_fd();
    let cpu_seconds = checker.time_limit.as_secs() + 1;
    let mut command = Command::new(&checker.program);
    command
        .args(&checker.args)
        .arg(file::fd_path(copy))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // SAFETY: between fork and exec only async-signal-safe system calls are made, on values that were made before.
    unsafe {
        command.pre_exec(move || confine(fd, cpu_seconds).map_err(std::io::Error::from));
    }
    command.spawn()
}

/// In the child, before exec: it ends with its parent, inherits the copy, and is limited.
fn confine(copy: i32, cpu_seconds: u64) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Limits can only be lowered without privilege: where one is lower already, it stays.
    // Core: 1, not 0, so that the kernel starts no core handler either (core(5): 0 does not apply to pipes).
    if setrlimit(Resource::RLIMIT_CORE, 1, 1).is_err() {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    }
    let _ = setrlimit(Resource::RLIMIT_CPU, cpu_seconds, cpu_seconds);
    let _ = setrlimit(Resource::RLIMIT_AS, MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE);
    // SAFETY: the descriptor is open in the parent, and so in its forked child.
    let copy = unsafe { BorrowedFd::borrow_raw(copy) };
    fcntl(copy, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Reads what the child says until it ends or its time is over, and reaps it.
fn watch(mut child: Child, limit: Duration) -> std::io::Result<Outcome> {
    let seen = listen(&mut child, limit);
    // What it may have started dies with it; the group's number is ours until the child is reaped.
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let _ = killpg(group, Signal::SIGKILL);
    let status = child.wait()?;
    let (ended, out, err) = seen?;
    Ok(Outcome {
        status: ended.then_some(status),
        out,
        err,
    })
}

fn listen(child: &mut Child, limit: Duration) -> std::io::Result<(bool, Vec<u8>, Vec<u8>)> {
    let deadline = Instant::now() + limit;
    let ended = pidfd(child)?;
    let mut out = Listener::new(child.stdout.take())?;
    let mut err = Listener::new(child.stderr.take())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((false, out.heard, err.heard));
        }
        let mut fds = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            out.pipe
                .iter()
                .chain(&err.pipe)
                .map(|p| PollFd::new(p.as_fd(), PollFlags::POLLIN)),
        );
        // A millisecond more than the rest, so that the last wait ends after the deadline, not just before it.
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX - 1) + 1;
        match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let dead = fds[0].any().unwrap_or(false);
        out.hear();
        err.hear();
        if dead {
            return Ok((true, out.heard, err.heard));
        }
    }
}

fn pidfd(child: &Child) -> std::io::Result<OwnedFd> {
    // SAFETY: a system call on numbers; the child is not reaped, so its pid is its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has just given us this descriptor (always below 2^31).
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// One pipe of the child.
struct Listener {
    /// None when it has been closed.
    pipe: Option<std::fs::File>,
    heard: Vec<u8>,
}

impl Listener {
    fn new<P: Into<OwnedFd>>(pipe: Option<P>) -> std::io::Result<Listener> {
        let pipe = pipe.map(|p| std::fs::File::from(p.into()));
        if let Some(pipe) = &pipe {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Listener {
            pipe,
            heard: Vec::new(),
        })
    }

    /// Takes what is there. What is beyond the bound is read and forgotten, so that the child does not block.
    fn hear(&mut self) {
        let mut buffer = [0; 16384];
        // As much as fits a pipe, then the clock is looked at again.
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    let room = MAX_OUTPUT.saturating_sub(self.heard.len());
                    self.heard.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => self.pipe = None,
            }
        }
    }
}

const AUTHOR: &str = "the plugin's author has to mend it";

fn judge(checker: &Checker, outcome: Outcome) -> Result<Vec<u8>, Fail> {
    let Some(status) = outcome.status else {
        let reason = format!(
            "it does not finish loading within {} s",
            checker.time_limit.as_secs_f64()
        );
        return Err(Fail::new(reason, AUTHOR));
    };
    if let Some(signal) = status.signal() {
        let name = Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned());
        let reason = match last_line(&outcome.err) {
            Some(line) => format!("it crashes when loaded ({name}): {line}"),
            None => format!("it crashes when loaded ({name})"),
        };
        let hint = format!("if the file is whole, {AUTHOR}");
        return Err(Fail::new(reason, hint));
    }
    if status.success() && outcome.out.ends_with(b"\n") {
        return Ok(outcome.out);
    }
    if let Ok(verdict) = serde_json::from_slice::<Verdict>(&outcome.out) {
        return Err(Fail::new(verdict.refused, verdict.hint));
    }
    let code = status.code().unwrap_or(-1);
    let reason = match last_line(&outcome.err) {
        Some(line) => format!("it ends the process that loads it (exit code {code}): {line}"),
        None => format!("it ends the process that loads it (exit code {code})"),
    };
    Err(Fail::new(reason, AUTHOR))
}

fn last_line(err: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(err);
    let line = text.lines().rev().map(|l| one_line(l, 200)).find(|l| !l.is_empty())?;
    Some(line)
}
