//! The request: one line of JSON on standard input, bounded in length and in time.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use vwatch_model::query::{Failure, Request};
use vwatch_sql::kind;

const LONGEST: usize = 1 << 20;
/// What is read and thrown away of a request that is too long: closing a socket with unread bytes in it would take the
/// refusal away from the client (unix(7)).
const DISCARDED: usize = 64 << 20;

pub fn read_request(wait: Duration) -> Result<Request, Failure> {
    let stdin = std::io::stdin();
    let line = read_line(stdin.as_fd(), wait)?;
    // A list of values would be read as the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused("the request is not a JSON object"));
    }
    serde_json::from_slice(&line).map_err(|e| refused(format!("the request is not valid: {e}")))
}

fn refused(message: impl Into<String>) -> Failure {
    Failure {
        kind: kind::REQUEST.to_owned(),
        message: message.into(),
        ..Failure::default()
    }
}

/// Everything up to the first newline, or to the end of input.
fn read_line(fd: BorrowedFd<'_>, wait: Duration) -> Result<Vec<u8>, Failure> {
    let deadline = Instant::now() + wait;
    let mut line = Vec::new();
    let mut total = 0;
    let mut chunk = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(refused("no request came")),
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(refused(format!("cannot wait for the request: {e}"))),
        }
        let count = match read(fd, &mut chunk) {
            Ok(count) => count,
            Err(nix::Error::EINTR | nix::Error::EAGAIN) => continue,
            Err(e) => return Err(refused(format!("cannot read the request: {e}"))),
        };
        let newline = chunk[..count].iter().position(|&b| b == b'\n');
        total += count;
        if total <= LONGEST {
            line.extend_from_slice(&chunk[..newline.unwrap_or(count)]);
        }
        if newline.is_some() || count == 0 || total > DISCARDED {
            break;
        }
    }
    match total > LONGEST {
        true => Err(refused(format!("the request is longer than {LONGEST} bytes"))),
        false => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line_of(text: &[u8]) -> Result<Vec<u8>, Failure> {
        let (read, write) = std::io::pipe().unwrap();
        let text = text.to_vec();
        let writer = std::thread::spawn(move || {
            let mut write = write;
            // The reader may stop before the end.
            let _ = write.write_all(&text);
        });
        let line = read_line(read.as_fd(), Duration::from_secs(10));
        drop(read);
        writer.join().unwrap();
        line
    }

    #[test]
    fn lines() {
        assert_eq!(line_of(b"{\"sql\":\"x\"}\nrest").unwrap(), b"{\"sql\":\"x\"}");
        assert_eq!(line_of(b"no newline").unwrap(), b"no newline");
        assert_eq!(line_of(b"").unwrap(), b"");
        let long = vec![b'x'; LONGEST + 5];
        assert!(line_of(&long).unwrap_err().message.contains("longer"));
    }

    #[test]
    fn silence_ends() {
        let (read, _write) = std::io::pipe().unwrap();
        let failure = read_line(read.as_fd(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(failure.message, "no request came");
    }
}
