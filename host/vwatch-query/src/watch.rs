//! Nobody waits for the answer any more: the client has hung up, or the recorder that started this process is gone.
//!
//! A thread waits for the hang-up of standard output (poll(2): POLLHUP on a socket closed at the other end, POLLERR on a pipe
//! whose reader is gone; a client that only ends its own sending causes neither) and ends the process at once, in the middle of
//! whatever it computes. The parent is watched by its id rather than with PR_SET_PDEATHSIG: that signal comes when the
//! *thread* that started the process ends (prctl(2)), and a recorder's threads come and go.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};

const LOOK_MS: u16 = 500;

pub fn end_with_the_client(live: bool) -> std::io::Result<()> {
    let out = std::io::stdout().as_fd().try_clone_to_owned()?;
    let parent = live.then(nix::unistd::getppid);
    std::thread::Builder::new()
        .name("hang-up".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            while !hung_up(out.as_fd()) && parent.is_none_or(|p| p == nix::unistd::getppid()) {}
            // SAFETY: _exit takes no pointers and does not return; nothing of this process outlives it but the store's
            // reader slot, which the writer clears (mdb_reader_check).
            unsafe { libc::_exit(1) }
        })?;
    Ok(())
}

/// Waits a while for the other end to go.
fn hung_up(out: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(out, PollFlags::empty())];
    match poll(&mut fds, PollTimeout::from(LOOK_MS)) {
        Ok(n) if n > 0 => {
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            fds[0].revents().is_some_and(|events| events.intersects(gone))
        }
        _ => false,
    }
}
