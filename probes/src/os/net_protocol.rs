//! Figures of the network protocols, from `/proc/net/snmp`, `/proc/net/snmp6` and `/proc/net/netstat` (proc_pid_net(5)).
//!
//! The set of names differs from kernel to kernel (some 400 here), so a row is a protocol, a name and a value, and no name
//! is lost. Few of them change: the rest is not handed over again. A host without IPv6 has no `snmp6`.
//!
//! `/proc/net` is the network namespace of who reads it: that of process 1 is read where it can be, as `net_io` does.

use super::hand_over;
use crate::read;
use std::io;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// The names that do not count events: settings, limits and what there is now. All others are counters.
const GAUGES: [(&str, &str); 8] = [
    ("Ip", "Forwarding"),
    ("Ip", "DefaultTTL"),
    ("Tcp", "RtoAlgorithm"),
    ("Tcp", "RtoMin"),
    ("Tcp", "RtoMax"),
    ("Tcp", "MaxConn"),
    ("Tcp", "CurrEstab"),
    ("MPTcpExt", "MPCurrEstab"),
];

/// Counters (`Tcp` `RetransSegs`, `Udp` `NoPorts`, `TcpExt` `ListenDrops` …) and amounts (`Tcp` `CurrEstab`) of the network
/// protocols. Source: `/proc/net/snmp`, `/proc/net/snmp6`, `/proc/net/netstat`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "net_protocol", state)]
pub struct NetProtocol {
    /// The kernel's name of the protocol: `Ip`, `Tcp`, `TcpExt`, `Ip6` … For `snmp6`, the name up to its `6`.
    #[row(key)]
    pub protocol: String,
    /// The kernel's name of the value.
    #[row(key)]
    pub name: String,
    /// Since boot, where it is a counter; NULL where it is not.
    #[row(counter)]
    pub value: Option<i64>,
    /// What there is now, or is set, where it is not a counter: `CurrEstab`, `DefaultTTL` … NULL for counters.
    pub gauge: Option<i64>,
}

/// Options of `os.net_protocol`.
#[derive(Options)]
pub struct NetProtocolOptions {
    /// Only these protocols.
    pub protocols: Option<Vec<String>>,
    /// Only these names.
    pub names: Option<Vec<String>>,
}

pub struct NetProtocolProbe {
    dir: PathBuf,
    options: NetProtocolOptions,
    last: Vec<NetProtocol>,
}

impl Probe for NetProtocolProbe {
    type Options = NetProtocolOptions;
    type Tables = NetProtocol;
    const NAME: &'static str = "net_protocol";
    const DOC: &'static str = "Figures of the network protocols, from /proc/net/snmp, snmp6 and netstat.";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, options: NetProtocolOptions) -> Result<Self> {
        let of_init = context.proc_dir().join("1/net");
        let dir = match read::bytes(&of_init.join("snmp")) {
            Ok(_) => of_init,
            Err(_) => context.proc_dir().join("net"),
        };
        sample(&dir)?;
        Ok(NetProtocolProbe {
            dir,
            options,
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let mut rows = sample(&self.dir)?;
        let chosen = |names: &Option<Vec<String>>, name: &String| names.as_ref().is_none_or(|all| all.contains(name));
        rows.retain(|row| chosen(&self.options.protocols, &row.protocol) && chosen(&self.options.names, &row.name));
        let same_key = |a: &NetProtocol, b: &NetProtocol| a.protocol == b.protocol && a.name == b.name;
        hand_over(rows, &mut self.last, same_key, tick, out);
        Ok(())
    }
}

/// A parser answers with the number of the line that it does not know.
type Parser = fn(&str) -> std::result::Result<Vec<NetProtocol>, usize>;

/// The rows of the files that there are; at least one has to be.
fn sample(dir: &Path) -> Result<Vec<NetProtocol>> {
    let files: [(&str, Parser); 3] = [("snmp", parse_pairs), ("netstat", parse_pairs), ("snmp6", parse_names)];
    let mut rows = Vec::new();
    let mut found = false;
    for (name, parse) in files {
        let path = dir.join(name);
        let bytes = match read::bytes(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(read::error(&path, &e)),
        };
        found = true;
        let damaged = |line| ProbeError::failed(format!("{}: line {line}: not of its known form", path.display()));
        rows.extend(parse(&String::from_utf8_lossy(&bytes)).map_err(damaged)?);
    }
    if found {
        Ok(rows)
    } else {
        let why = format!("{}: neither snmp nor netstat nor snmp6 is there", dir.display());
        Err(ProbeError::unsupported(why))
    }
}

/// Pairs of lines: `Udp: InDatagrams NoPorts`, `Udp: 271 0`. One protocol may have several pairs (`IcmpMsg`).
fn parse_pairs(text: &str) -> std::result::Result<Vec<NetProtocol>, usize> {
    let mut rows = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, names)) = lines.next() {
        let (protocol, names) = names.split_once(':').ok_or(at + 1)?;
        let values = lines.next().and_then(|(_, line)| line.split_once(':'));
        let (_, values) = values.filter(|(of, _)| *of == protocol).ok_or(at + 2)?;
        let mut values = values.split_ascii_whitespace();
        for name in names.split_ascii_whitespace() {
            let value = values.next().and_then(|value| row(protocol, name, value));
            rows.push(value.ok_or(at + 2)?);
        }
        if values.next().is_some() {
            return Err(at + 2);
        }
    }
    Ok(rows)
}

/// A name and a value on each line: `Icmp6InMsgs 7`.
fn parse_names(text: &str) -> std::result::Result<Vec<NetProtocol>, usize> {
    let parse = |(at, line): (usize, &str)| {
        let (name, value) = line.split_once(char::is_whitespace).ok_or(at + 1)?;
        let (protocol, _) = name.split_once('6').ok_or(at + 1)?;
        let (protocol, name) = name.split_at(protocol.len() + 1);
        row(protocol, name, value.trim()).ok_or(at + 1)
    };
    text.lines().enumerate().map(parse).collect()
}

fn row(protocol: &str, name: &str, value: &str) -> Option<NetProtocol> {
    let is_gauge = GAUGES.contains(&(protocol, name));
    Some(NetProtocol {
        protocol: protocol.to_owned(),
        name: name.to_owned(),
        value: if is_gauge { None } else { Some(read::counter(value)?) },
        gauge: if is_gauge { Some(amount(value)?) } else { None },
    })
}

/// Amounts that are summed over CPUs can dip below zero for a moment, which the kernel writes as a number past 2^63.
fn amount(word: &str) -> Option<i64> {
    let negative = || word.parse::<u64>().ok().map(|_| 0);
    word.parse::<i64>().ok().or_else(negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rows: &[NetProtocol]) -> Vec<(&str, &str, Option<i64>, Option<i64>)> {
        rows.iter()
            .map(|row| (row.protocol.as_str(), row.name.as_str(), row.value, row.gauge))
            .collect()
    }

    #[test]
    fn pairs_of_lines() {
        let text = "Tcp: MaxConn CurrEstab InSegs\nTcp: -1 7 18446744073709551615\n\
                    IcmpMsg: InType3\nIcmpMsg: 3\nIcmpMsg: OutType3\nIcmpMsg: 4\n";
        assert_eq!(
            told(&parse_pairs(text).unwrap()),
            [
                ("Tcp", "MaxConn", None, Some(-1)),
                ("Tcp", "CurrEstab", None, Some(7)),
                ("Tcp", "InSegs", Some(i64::MAX), None),
                ("IcmpMsg", "InType3", Some(3), None),
                ("IcmpMsg", "OutType3", Some(4), None),
            ]
        );
        assert_eq!(parse_pairs(""), Ok(Vec::new()));
        assert_eq!(amount("18446744073709551615"), Some(0));
    }

    #[test]
    fn names_with_values() {
        let text = "Ip6InReceives                   \t3\nIcmp6OutType143                 \t8\nUdpLite6NoPorts\t0\n";
        assert_eq!(
            told(&parse_names(text).unwrap()),
            [
                ("Ip6", "InReceives", Some(3), None),
                ("Icmp6", "OutType143", Some(8), None),
                ("UdpLite6", "NoPorts", Some(0), None),
            ]
        );
    }

    #[test]
    fn damaged_lines_are_named() {
        for (text, line) in [
            ("Udp InDatagrams\nUdp: 1\n", 1),
            ("Udp: InDatagrams\n", 2),
            ("Udp: InDatagrams\nTcp: 1\n", 2),
            ("Udp: InDatagrams NoPorts\nUdp: 1\n", 2),
            ("Udp: InDatagrams\nUdp: 1 2\n", 2),
            ("Udp: InDatagrams\nUdp: 1\nTcp: InSegs\nTcp: x\n", 4),
        ] {
            assert_eq!(parse_pairs(text), Err(line), "{text}");
        }
        for text in [
            "Ip6InReceives 1\nIp6InOctets\n",
            "Ip6InReceives 1\nIpInOctets 1\n",
            "Ip6InReceives 1\nIp6InOctets x\n",
        ] {
            assert_eq!(parse_names(text), Err(2), "{text}");
        }
    }
}
