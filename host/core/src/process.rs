//! What the recorder does to its own process: threads with small stacks, few malloc arenas, a closed umask, and its own figures.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use std::path::Path;
use std::thread::JoinHandle;

/// Stack of the recorder's threads. Only touched pages cost memory; plugins' code runs on them too.
const STACK_BYTES: usize = 1 << 20;

/// Starts a named thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .stack_size(STACK_BYTES)
        .spawn(body)
}

/// To be called before any thread is started: files are made for the owner alone, as many may be open as the system allows
/// (probes keep a descriptor per process), and malloc keeps to one arena, since each further one (glibc: eight a CPU)
/// holds on to freed memory of its own, and what a probe's thread allocates the writer's frees.
pub fn prepare() {
    umask(Mode::from_bits_truncate(0o077));
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What cannot be raised stays: the probes look at the limit themselves.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only sets limits of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
        }
    }
}

/// Hands freed memory back to the kernel, after work that needed much of it for a moment: malloc itself gives back only what
/// lies at the top of an arena. A millisecond or less.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim takes the allocator's own locks, and has no other conditions.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Resident memory of this process, from field 2 of `/proc/self/statm` (proc(5)).
pub fn rss_bytes() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<i64>().ok())
        .unwrap_or(0);
    pages * page_bytes()
}

fn page_bytes() -> i64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .unwrap_or(4096)
}

/// Command name of a process, from `/proc/PID/comm`.
pub fn comm(pid: i32) -> Option<String> {
    let bytes = std::fs::read(Path::new("/proc").join(pid.to_string()).join("comm")).ok()?;
    Some(String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned())
}

/// A duration as people say it: `0.4 s`, `19.2 s`, `6 m 12 s`, `2 h 5 m`, `3 d 4 h`.
pub(crate) fn words(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
