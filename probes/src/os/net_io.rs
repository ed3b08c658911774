//! Traffic of network interfaces, from `/proc/net/dev` (proc_pid_net(5)).
//!
//! `/proc/net` is the network namespace of who reads it. The host's own is that of process 1, so `/proc/1/net/dev` is read
//! where it can be: in a container that sees the host's `/proc` under another path the two differ.

use super::hand_over;
use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Bytes, packets and errors of each network interface since it appeared. Source: `/proc/net/dev`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "net_io", state)]
pub struct NetIo {
    /// Name of the interface.
    #[row(key)]
    pub interface: String,
    /// Bytes received.
    #[row(unit = "bytes", counter)]
    pub rx_bytes: i64,
    /// Packets received.
    #[row(counter)]
    pub rx_packets: i64,
    /// Bad packets received.
    #[row(counter)]
    pub rx_errs: i64,
    /// Received packets dropped for want of room or of a taker.
    #[row(counter)]
    pub rx_drop: i64,
    /// Overruns of the receiver's FIFO.
    #[row(counter)]
    pub rx_fifo: i64,
    /// Frames received with a wrong length, alignment or checksum.
    #[row(counter)]
    pub rx_frame: i64,
    /// Compressed packets received.
    #[row(counter)]
    pub rx_compressed: i64,
    /// Multicast packets received.
    #[row(counter)]
    pub rx_multicast: i64,
    /// Bytes sent.
    #[row(unit = "bytes", counter)]
    pub tx_bytes: i64,
    /// Packets sent.
    #[row(counter)]
    pub tx_packets: i64,
    /// Packets that could not be sent.
    #[row(counter)]
    pub tx_errs: i64,
    /// Packets dropped on the way out.
    #[row(counter)]
    pub tx_drop: i64,
    /// Underruns of the sender's FIFO.
    #[row(counter)]
    pub tx_fifo: i64,
    /// Collisions.
    #[row(counter)]
    pub tx_colls: i64,
    /// Losses of the carrier, aborted and late frames.
    #[row(counter)]
    pub tx_carrier: i64,
    /// Compressed packets sent.
    #[row(counter)]
    pub tx_compressed: i64,
}

/// Options of `os.net_io`.
#[derive(Options)]
pub struct NetIoOptions {
    /// Only these interfaces.
    pub interfaces: Option<Vec<String>>,
}

pub struct NetIoProbe {
    path: PathBuf,
    interfaces: Option<Vec<String>>,
    last: Vec<NetIo>,
}

impl Probe for NetIoProbe {
    type Options = NetIoOptions;
    type Tables = NetIo;
    const NAME: &'static str = "net_io";
    const DOC: &'static str = "Traffic of each network interface, from /proc/net/dev.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, options: NetIoOptions) -> Result<Self> {
        let of_init = context.proc_dir().join("1/net/dev");
        let path = match read::bytes(&of_init) {
            Ok(_) => of_init,
            Err(_) => context.proc_dir().join("net/dev"),
        };
        read::text(&path)?;
        Ok(NetIoProbe {
            path,
            interfaces: options.interfaces,
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.path)?;
        let wanted = |row: &NetIo| {
            self.interfaces
                .as_ref()
                .is_none_or(|names| names.contains(&row.interface))
        };
        let rows = text.lines().filter_map(parse_line).filter(wanted).collect();
        hand_over(rows, &mut self.last, |a, b| a.interface == b.interface, tick, out);
        Ok(())
    }
}

/// `  eth0: 146493598 …`: 16 figures. The two lines of headings have no colon. An old kernel's alias has one in its name.
fn parse_line(line: &str) -> Option<NetIo> {
    let (interface, figures) = line.rsplit_once(':')?;
    let mut words = figures.split_ascii_whitespace();
    let mut next = || read::counter(words.next()?);
    Some(NetIo {
        interface: interface.trim().to_owned(),
        rx_bytes: next()?,
        rx_packets: next()?,
        rx_errs: next()?,
        rx_drop: next()?,
        rx_fifo: next()?,
        rx_frame: next()?,
        rx_compressed: next()?,
        rx_multicast: next()?,
        tx_bytes: next()?,
        tx_packets: next()?,
        tx_errs: next()?,
        tx_drop: next()?,
        tx_fifo: next()?,
        tx_colls: next()?,
        tx_carrier: next()?,
        tx_compressed: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_line() {
        let row = parse_line("  eth0: 146493598    8789    1    2    3     4          5         6   727475    6862    7    8    9    10      11         12").unwrap();
        assert_eq!(
            (row.interface.as_str(), row.rx_bytes, row.rx_packets),
            ("eth0", 146_493_598, 8789)
        );
        assert_eq!((row.rx_errs, row.rx_drop, row.rx_fifo, row.rx_frame), (1, 2, 3, 4));
        assert_eq!(
            (row.rx_compressed, row.rx_multicast, row.tx_bytes, row.tx_packets),
            (5, 6, 727_475, 6862)
        );
        assert_eq!((row.tx_errs, row.tx_drop, row.tx_fifo, row.tx_colls), (7, 8, 9, 10));
        assert_eq!((row.tx_carrier, row.tx_compressed), (11, 12));
        // Wide figures leave no space after the colon.
        let wide = parse_line("eth0:9223372036854775807 1 0 0 0 0 0 0 9223372036854775808 1 0 0 0 0 0 0").unwrap();
        assert_eq!((wide.rx_bytes, wide.tx_bytes), (i64::MAX, 0));
        assert_eq!(
            parse_line("eth0:1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16")
                .unwrap()
                .interface,
            "eth0:1"
        );
        for heading in [
            "Inter-|   Receive                                                |  Transmit",
            " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs",
            "",
            "eth0:",
            "eth0: 1 2 3",
        ] {
            assert_eq!(parse_line(heading), None, "{heading}");
        }
    }
}
