//! Addresses of network interfaces, from the kernel over netlink (rtnetlink(7), `RTM_GETADDR`; `linux/if_addr.h`).
//!
//! No file of `/proc` has all of them, so the probe knows only the kernel that runs. Lifetimes run down each second and are
//! left out: whether there is one is `permanent`.
//!
//! Cost: one socket, one request and an answer for each 400 addresses, 0.1 ms.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use vwatch_sdk::prelude::*;

/// Addresses of network interfaces.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "net_address", state)]
pub struct NetAddress {
    /// Name of the interface. Source: `ifa_index`.
    #[row(key)]
    pub interface: String,
    /// The interface's own address. Source: `IFA_LOCAL`, else `IFA_ADDRESS`.
    #[row(key)]
    pub address: String,
    /// Bits of the network's part. Source: `ifa_prefixlen`.
    #[row(key, unit = "bits")]
    pub prefix_length: i32,
    /// `inet` or `inet6`. Source: `ifa_family`.
    pub family: String,
    /// Number of the interface. Source: `ifa_index`.
    pub ifindex: i32,
    /// Where it is valid: `global`, `site`, `link`, `host`, `nowhere` or a number. Source: `ifa_scope`.
    pub scope: String,
    /// Source: `IFA_BROADCAST`.
    pub broadcast: Option<String>,
    /// The other end of a point-to-point link. Source: `IFA_ADDRESS` where it is not the local one.
    pub peer: Option<String>,
    /// Name given with the address: `eth0:1`. Source: `IFA_LABEL`.
    pub label: Option<String>,
    /// It does not run out. Source: `IFA_F_PERMANENT`.
    pub permanent: bool,
    /// Not the first of its network. For IPv6: made for privacy. Source: `IFA_F_SECONDARY`.
    pub secondary: bool,
    /// Not to be used for new connections. Source: `IFA_F_DEPRECATED`.
    pub deprecated: bool,
    /// Not yet known to be free. Source: `IFA_F_TENTATIVE`.
    pub tentative: bool,
    /// Another host has it. Source: `IFA_F_DADFAILED`.
    pub dad_failed: bool,
    /// All flags. Source: `IFA_FLAGS`, else `ifa_flags`.
    pub flags: u32,
    /// Metric of its route. Source: `IFA_RT_PRIORITY`.
    pub metric: Option<i64>,
    /// Who gave it: 1 loopback, 2 router, 3 link-local. Source: `IFA_PROTO`, since Linux 5.18.
    pub proto: Option<i32>,
}

pub struct NetAddressProbe;

impl Probe for NetAddressProbe {
    type Options = NoOptions;
    type Tables = NetAddress;
    const NAME: &'static str = "net_address";
    const DOC: &'static str = "Addresses of network interfaces, over netlink";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        if !context.live() {
            return Err(ProbeError::unsupported(
                "addresses come over netlink from the kernel that runs, and --proc or --sys name another host's files",
            ));
        }
        Ok(NetAddressProbe)
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let mut rows = dump().map_err(|e| ProbeError::from(std::io::Error::from(e)))?;
        for row in &mut rows {
            row.interface = interface_name(row.ifindex);
        }
        // The kernel may list an address twice when the list changes while it is read.
        rows.sort_by(|a, b| {
            (&a.interface, &a.address, a.prefix_length).cmp(&(&b.interface, &b.address, b.prefix_length))
        });
        rows.dedup_by(|a, b| {
            (&a.interface, &a.address, a.prefix_length) == (&b.interface, &b.address, b.prefix_length)
        });
        out.full(rows);
        Ok(())
    }
}

/// An interface that has gone since has no name any more: `if7`.
fn interface_name(ifindex: i32) -> String {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has the IF_NAMESIZE bytes that if_indextoname(3) asks for, and it writes a C string or nothing.
    let known = unsafe { !libc::if_indextoname(ifindex as u32, name.as_mut_ptr()).is_null() };
    if !known {
        return format!("if{ifindex}");
    }
    let bytes = name.iter().take_while(|c| **c != 0).map(|c| *c as u8);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// What one message of the answer says.
enum Message {
    Address(Box<NetAddress>),
    Done,
    Error(i32),
    Other,
}

const HEADER: usize = 16;
const IFADDRMSG: usize = 8;

fn dump() -> nix::Result<Vec<NetAddress>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(2, 0))?;
    let mut request = [0u8; HEADER + IFADDRMSG];
    let request_flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[0..4].copy_from_slice(&((HEADER + IFADDRMSG) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETADDR.to_ne_bytes());
    request[6..8].copy_from_slice(&request_flags.to_ne_bytes());
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;

    let mut rows = Vec::new();
    // The kernel fills at most 32 KiB at a time.
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 {
            return Err(nix::errno::Errno::ECONNRESET);
        }
        for message in messages(&buffer[..length]) {
            match message {
                Message::Address(row) => rows.push(*row),
                Message::Done => return Ok(rows),
                Message::Error(errno) => return Err(nix::errno::Errno::from_raw(errno)),
                Message::Other => {}
            }
        }
    }
}

/// Cuts a datagram into messages: `nlmsghdr` and body, aligned to 4. What is cut off ends it.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 4)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(match i32::from(kind) {
            libc::NLMSG_DONE => Message::Done,
            libc::NLMSG_ERROR => Message::Error(u32_at(body, 0).map_or(libc::EIO, |e| (e as i32).saturating_neg())),
            _ if kind == libc::RTM_NEWADDR => {
                parse_address(body).map_or(Message::Other, |a| Message::Address(a.into()))
            }
            _ => Message::Other,
        })
    })
}

/// `ifaddrmsg` and its attributes. `None` for a family that is not IP, or a body cut off.
fn parse_address(body: &[u8]) -> Option<NetAddress> {
    let &[family, prefix_length, flags, scope, ..] = body else {
        return None;
    };
    let family = match i32::from(family) {
        libc::AF_INET => "inet",
        libc::AF_INET6 => "inet6",
        _ => return None,
    };
    let mut row = NetAddress {
        prefix_length: prefix_length.into(),
        family: family.to_owned(),
        ifindex: i32::try_from(u32_at(body, 4)?).ok()?,
        scope: scope_name(scope),
        flags: flags.into(),
        ..NetAddress::default()
    };
    let (mut address, mut local) = (None, None);
    for (kind, value) in attributes(&body[IFADDRMSG..]) {
        match kind {
            1 => address = ip(value),
            2 => local = ip(value),
            3 => row.label = text(value),
            4 => row.broadcast = ip(value).map(|ip| ip.to_string()),
            8 => row.flags = u32_at(value, 0).unwrap_or(row.flags),
            9 => row.metric = u32_at(value, 0).map(i64::from),
            11 => row.proto = value.first().copied().map(i32::from),
            _ => {}
        }
    }
    let own = local.or(address)?;
    row.address = own.to_string();
    row.peer = address.filter(|peer| *peer != own).map(|peer| peer.to_string());
    let has = |flag: u32| row.flags & flag != 0;
    (row.secondary, row.dad_failed, row.deprecated) = (has(0x01), has(0x08), has(0x20));
    (row.tentative, row.permanent) = (has(0x40), has(0x80));
    Some(row)
}

/// `rtattr`s: length, type and value, aligned to 4.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// `rtm_scope` of `linux/rtnetlink.h`.
fn scope_name(scope: u8) -> String {
    match scope {
        0 => "global".to_owned(),
        200 => "site".to_owned(),
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        255 => "nowhere".to_owned(),
        other => other.to_string(),
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(value).ok().map(|a| IpAddr::V4(Ipv4Addr::from(a)));
    let v6 = || <[u8; 16]>::try_from(value).ok().map(|a| IpAddr::V6(Ipv6Addr::from(a)));
    v4().or_else(v6)
}

fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    (end > 0).then(|| String::from_utf8_lossy(&value[..end]).into_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn address_body() -> Vec<u8> {
        let mut body = vec![libc::AF_INET as u8, 24, 0x80, 0];
        body.extend(7u32.to_ne_bytes());
        body.extend(attribute(1, &[10, 0, 0, 2]));
        body.extend(attribute(2, &[10, 0, 0, 1]));
        body.extend(attribute(3, b"eth0:1\0"));
        body.extend(attribute(4, &[10, 0, 0, 255]));
        body.extend(attribute(8, &0x281u32.to_ne_bytes()));
        body
    }

    #[test]
    fn an_address() {
        let row = parse_address(&address_body()).unwrap();
        let expect = NetAddress {
            address: "10.0.0.1".into(),
            prefix_length: 24,
            family: "inet".into(),
            ifindex: 7,
            scope: "global".into(),
            broadcast: Some("10.0.0.255".into()),
            peer: Some("10.0.0.2".into()),
            label: Some("eth0:1".into()),
            permanent: true,
            secondary: true,
            flags: 0x281,
            ..NetAddress::default()
        };
        assert_eq!(row, expect);
    }

    #[test]
    fn an_address_of_ipv6_has_no_local_one() {
        let mut body = vec![libc::AF_INET6 as u8, 64, 0x80, 253];
        body.extend(2u32.to_ne_bytes());
        body.extend(attribute(1, &Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets()));
        let row = parse_address(&body).unwrap();
        assert_eq!(
            (row.address.as_str(), row.scope.as_str(), row.peer),
            ("fe80::1", "link", None)
        );
    }

    #[test]
    fn a_stream_of_messages() {
        let mut bytes = message(libc::RTM_NEWADDR, &address_body());
        bytes.extend(message(99, &[1, 2, 3, 4]));
        bytes.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        let kinds: Vec<_> = messages(&bytes).collect();
        assert!(matches!(
            kinds[..],
            [Message::Address(_), Message::Other, Message::Done]
        ));
        let failed = message(libc::NLMSG_ERROR as u16, &(-libc::EPERM).to_ne_bytes());
        assert!(matches!(messages(&failed).next(), Some(Message::Error(libc::EPERM))));
    }

    #[test]
    fn bytes_cut_off_anywhere() {
        let whole = message(libc::RTM_NEWADDR, &address_body());
        for end in 0..whole.len() {
            assert!(messages(&whole[..end]).next().is_none(), "{end}");
        }
        let body = address_body();
        for end in 0..body.len() {
            parse_address(&body[..end]);
        }
        // A length of 0 would make no progress.
        assert!(messages(&[0; 64]).next().is_none());
        assert!(attributes(&[0; 64]).next().is_none());
    }
}
