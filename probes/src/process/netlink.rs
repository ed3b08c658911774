//! Generic netlink, as much of it as one family of requests and notifications needs (netlink(7), the kernel's
//! `Documentation/userspace-api/netlink/intro.rst`).
//!
//! A message is a header of 16 bytes, one of the family of 4, and attributes; all in the machine's byte order, each padded to
//! 4 bytes. Lengths come from outside: each is checked, and what does not fit ends the reading.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// Of the family that knows the others.
const GET_FAMILY: u8 = 3;
const ATTRIBUTE_FAMILY_ID: u16 = 1;
const ATTRIBUTE_FAMILY_NAME: u16 = 2;

/// A request, and what the kernel says to it.
const ANSWER_WITHIN_MS: u16 = 2000;

/// The longest message of the kernel's.
pub const LONGEST: usize = 16 << 10;

pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// A socket that does not block.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket takes no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC) })?;
        // SAFETY: the descriptor was made above, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an all-zero sockaddr_nl is a valid one: the kernel chooses the port.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        // SAFETY: the pointer is to a sockaddr_nl of the length given.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length_of(&address)) })?;
        Ok(Socket { fd })
    }

    /// Sets aside room for `bytes` of messages that wait to be read: beyond the system's limit where that is allowed.
    pub fn set_room(&self, bytes: libc::c_int) {
        for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
            // SAFETY: the pointer is to a c_int, and the length is its length.
            let set = unsafe {
                libc::setsockopt(
                    self.fd.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const bytes).cast(),
                    length_of(&bytes),
                )
            };
            if set == 0 {
                return;
            }
        }
    }

    /// The number under which the kernel knows a family. `NotFound` when it does not.
    pub fn family(&self, name: &str) -> io::Result<u16> {
        let name = [name.as_bytes(), b"\0"].concat();
        let answer = self.request(libc::GENL_ID_CTRL as u16, GET_FAMILY, ATTRIBUTE_FAMILY_NAME, &name)?;
        attributes(&answer)
            .find(|(kind, _)| *kind == ATTRIBUTE_FAMILY_ID)
            .and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)))
            .ok_or_else(|| io::Error::other("the kernel's answer has no number of the family"))
    }

    /// Asks, and answers the attributes of what the kernel says: none when it only says yes.
    pub fn request(&self, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
        self.send(&message(family, command, attribute, value))?;
        let mut buffer = vec![0; LONGEST];
        let mut answer = Vec::new();
        loop {
            let mut ready = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(ANSWER_WITHIN_MS))? == 0 {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let Some(length) = self.receive(&mut buffer)? else {
                continue;
            };
            for (kind, body) in messages(&buffer[..length]) {
                if kind == libc::NLMSG_ERROR as u16 {
                    return match i32_at(body, 0) {
                        Some(0) => Ok(answer),
                        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
                        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
                    };
                } else if kind == family {
                    answer = body.get(FAMILY_HEADER..).unwrap_or_default().to_vec();
                }
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer is to `message.len()` bytes.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// One datagram of the kernel's, which may hold several messages. `None` when none waits. `ENOBUFS` when some were lost.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            // SAFETY: an all-zero sockaddr_nl is a valid one.
            let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            let mut from_length = length_of(&from);
            // SAFETY: the pointers are to `buffer.len()` bytes, to a sockaddr_nl and to its length.
            let got = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut from_length,
                )
            };
            if let Ok(length) = usize::try_from(got) {
                // Port 0 is the kernel; another process may not speak for it.
                if from.nl_pid == 0 {
                    return Ok(Some(length));
                }
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// A request with one attribute, that asks for a word of consent.
fn message(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(4);
    let length = HEADER + FAMILY_HEADER + ATTRIBUTE_HEADER + padded;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&(length as u32).to_ne_bytes());
    bytes.extend_from_slice(&family.to_ne_bytes());
    bytes.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]); // sequence number and port: one request at a time needs neither
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.extend_from_slice(&((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes());
    bytes.extend_from_slice(&attribute.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(length, 0);
    bytes
}

/// Kind and body of each message of a datagram.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let kind = u16_at(rest, 4)?;
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Kind and value of each attribute.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attributes of a message's body, behind the family's own header.
pub fn family_attributes(body: &[u8]) -> &[u8] {
    body.get(FAMILY_HEADER..).unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_read() {
        let one = message(0x1f, 3, 2, b"TASKSTATS\0");
        assert_eq!(one.len() % 4, 0);
        let two = [one.clone(), message(7, 1, 9, b"")].concat();
        let found: Vec<_> = messages(&two).collect();
        assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [0x1f, 7]);
        let values: Vec<_> = attributes(family_attributes(found[0].1)).collect();
        assert_eq!(values, [(2, &b"TASKSTATS\0"[..])]);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let whole = message(0x1f, 3, 2, b"abcdefgh");
        for end in 0..whole.len() {
            assert_eq!(messages(&whole[..end]).count(), 0);
        }
        for (at, value) in (0..whole.len()).flat_map(|at| [0u8, 1, 3, 255].map(|v| (at, v))) {
            let mut bytes = whole.clone();
            bytes[at] = value;
            for (_, body) in messages(&bytes).take(100) {
                assert!(attributes(family_attributes(body)).take(100).count() < 100);
            }
        }
    }

    #[test]
    fn the_kernel_knows_its_own_family() {
        let socket = Socket::open().unwrap();
        assert_eq!(socket.family("nlctrl").unwrap(), libc::GENL_ID_CTRL as u16);
        let unknown = socket.family("NO_SUCH_FAMILY").unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
    }
}
