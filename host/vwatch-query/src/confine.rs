//! Giving up what a query does not need: another user's rights, new privileges, unbounded memory and CPU.
//!
//! `RLIMIT_DATA`, not `RLIMIT_AS`: the store is mapped at up to 1 TiB of address space, which costs nothing (setrlimit(2):
//! RLIMIT_DATA counts private writable pages only since Linux 4.7). The engine keeps its own count of the memory of large
//! operators and refuses politely; this limit is the wall behind it, and so is the CPU limit behind the time limit.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::socket::{setsockopt, sockopt::SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{Gid, Uid, geteuid, getuid, setgid, setgroups, setuid};
use std::os::fd::AsFd;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}

/// What the engine and its runtime need beside a query's own memory.
const ENGINE_BYTES: u64 = 256 << 20;
/// Freed memory that malloc keeps for the next block of a scan, and the size from which it maps memory for one allocation.
const KEPT_BYTES: i32 = 64 << 20;
const MAPPED_BYTES: i32 = 4 << 20;
/// CPU time that a check or a copy may take.
const OPERATION_CPU_S: u64 = crate::operation::LIMIT.as_secs() + 10;
/// A client that reads nothing for so long is given up.
const STUCK_CLIENT_S: i64 = 600;

pub fn parse_identity(text: &str) -> Result<Identity, String> {
    let form = || format!("{text:?} is not of the form UID:GID");
    let (uid, gid) = text.split_once(':').ok_or_else(form)?;
    Ok(Identity {
        uid: uid.parse().map_err(|_| form())?,
        gid: gid.parse().map_err(|_| form())?,
    })
}

pub fn confine(live: bool, drop_to: Option<Identity>, memory: u64, time_ms: u64) -> std::io::Result<()> {
    if let Some(identity) = drop_to {
        become_user(identity)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    lower(Resource::RLIMIT_CORE, 0)?;
    lower(
        Resource::RLIMIT_DATA,
        memory.saturating_mul(2).saturating_add(ENGINE_BYTES),
    )?;
    let cpu_s = (time_ms / 1000).saturating_add(10);
    lower_to(Resource::RLIMIT_CPU, cpu_s, cpu_s.max(OPERATION_CPU_S))?;
    if live {
        // Sockets are not files: a process that only answers on one never has to write a file. Where the log is one, a line
        // is lost, and not the process.
        ignore(Signal::SIGXFSZ)?;
        lower(Resource::RLIMIT_FSIZE, 0)?;
    }
    Ok(())
}

/// To be called before any thread is started. A scan frees what one block needed and asks for it again with the next; giving
/// it back to the kernel between the two was half of the CPU time of a scan of three columns.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only sets limits of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        }
    }
}

fn ignore(signal: Signal) -> std::io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so nothing can run at a bad moment.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

fn become_user(identity: Identity) -> std::io::Result<()> {
    if geteuid().is_root() {
        setgroups(&[])?;
    }
    setgid(Gid::from_raw(identity.gid))?;
    setuid(Uid::from_raw(identity.uid))?;
    let dropped = getuid().as_raw() == identity.uid && geteuid().as_raw() == identity.uid;
    // Root that can be taken back has not been given up.
    if !dropped || (identity.uid != 0 && setuid(Uid::from_raw(0)).is_ok()) {
        return Err(std::io::Error::other("the user could not be changed for good"));
    }
    Ok(())
}

/// Sets both limits of a resource; one that is already lower stays.
fn lower(resource: Resource, limit: rlim_t) -> std::io::Result<()> {
    lower_to(resource, limit, limit)
}

fn lower_to(resource: Resource, soft_limit: rlim_t, hard_limit: rlim_t) -> std::io::Result<()> {
    let (soft, hard) = getrlimit(resource)?;
    setrlimit(resource, soft.min(soft_limit), hard.min(hard_limit))?;
    Ok(())
}

/// An operation has a limit of its own, and its client must not hold a reader's slot by reading nothing.
pub fn for_an_operation() -> std::io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    setrlimit(Resource::RLIMIT_CPU, hard, hard)?;
    let patience = TimeVal::seconds(crate::operation::STUCK.as_secs() as i64);
    match setsockopt(&std::io::stdout(), SendTimeout, &patience) {
        Err(nix::Error::ENOTSOCK) => Ok(()),
        set => Ok(set?),
    }
}

/// A socket handed over by an asynchronous parent may be non-blocking; this process reads and writes it as a stream.
pub fn blocking(live: bool) -> std::io::Result<()> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    for fd in [stdin.as_fd(), stdout.as_fd()] {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        if flags.contains(OFlag::O_NONBLOCK) {
            fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        }
    }
    if !live {
        return Ok(());
    }
    match setsockopt(&stdout, SendTimeout, &TimeVal::seconds(STUCK_CLIENT_S)) {
        // The recorder asks for its plugins over a pipe, and watches the time itself.
        Err(nix::Error::ENOTSOCK) => Ok(()),
        set => Ok(set?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        assert_eq!(parse_identity("65534:12"), Ok(Identity { uid: 65534, gid: 12 }));
        for bad in ["", "1", "1:", ":1", "a:1", "1:2:3", "-1:2"] {
            assert!(parse_identity(bad).is_err(), "{bad}");
        }
    }
}
