//! I/O of block devices and partitions, from `/proc/diskstats` (the kernel's `Documentation/admin-guide/iostats.rst`).
//!
//! Devices that nobody uses (`loop3`, `ram0`) have their row too; since it never changes it costs nothing.

use super::hand_over;
use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// What the kernel calls a sector here is always this, whatever the device's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// Requests, bytes and times of each block device and partition since it appeared. Source: `/proc/diskstats`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "disk_io", state)]
pub struct DiskIo {
    /// Name of the device: `sda`, `nvme0n1p1`.
    #[row(key)]
    pub device: String,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Reads completed.
    #[row(counter)]
    pub reads: i64,
    /// Reads merged into a neighbouring one before they were queued.
    #[row(counter)]
    pub reads_merged: i64,
    /// Bytes read.
    #[row(unit = "bytes", counter)]
    pub read_bytes: i64,
    /// Time that reads took, from queueing to completion, summed over reads. The kernel counts it in 32 bits of milliseconds.
    #[row(unit = "ns", counter)]
    pub read_time_ns: i64,
    /// Writes completed.
    #[row(counter)]
    pub writes: i64,
    /// Writes merged into a neighbouring one before they were queued.
    #[row(counter)]
    pub writes_merged: i64,
    /// Bytes written.
    #[row(unit = "bytes", counter)]
    pub write_bytes: i64,
    /// Time that writes took, summed over writes.
    #[row(unit = "ns", counter)]
    pub write_time_ns: i64,
    /// Requests given to the driver and not completed yet.
    pub in_flight: i64,
    /// Time with at least one request in flight.
    #[row(unit = "ns", counter)]
    pub io_time_ns: i64,
    /// Time weighted with the number of requests in flight: its rate is the mean queue length.
    #[row(unit = "ns", counter)]
    pub weighted_io_time_ns: i64,
    /// Discards completed. NULL before kernel 4.18.
    #[row(counter)]
    pub discards: Option<i64>,
    /// Discards merged into a neighbouring one.
    #[row(counter)]
    pub discards_merged: Option<i64>,
    /// Bytes discarded.
    #[row(unit = "bytes", counter)]
    pub discard_bytes: Option<i64>,
    /// Time that discards took, summed over discards.
    #[row(unit = "ns", counter)]
    pub discard_time_ns: Option<i64>,
    /// Flushes completed; not counted for partitions. NULL before kernel 5.5.
    #[row(counter)]
    pub flushes: Option<i64>,
    /// Time that flushes took, summed over flushes.
    #[row(unit = "ns", counter)]
    pub flush_time_ns: Option<i64>,
}

/// Options of `os.disk_io`.
#[derive(Options)]
pub struct DiskIoOptions {
    /// Only these devices.
    pub devices: Option<Vec<String>>,
}

pub struct DiskIoProbe {
    path: PathBuf,
    devices: Option<Vec<String>>,
    last: Vec<DiskIo>,
}

impl Probe for DiskIoProbe {
    type Options = DiskIoOptions;
    type Tables = DiskIo;
    const NAME: &'static str = "disk_io";
    const DOC: &'static str = "I/O of each block device and partition, from /proc/diskstats.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, options: DiskIoOptions) -> Result<Self> {
        let path = context.proc_dir().join("diskstats");
        read::text(&path)?;
        Ok(DiskIoProbe {
            path,
            devices: options.devices,
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.path)?;
        let wanted = |row: &DiskIo| self.devices.as_ref().is_none_or(|names| names.contains(&row.device));
        let rows = text.lines().filter_map(parse_line).filter(wanted).collect();
        hand_over(rows, &mut self.last, |a, b| a.device == b.device, tick, out);
        Ok(())
    }
}

/// `major minor name` and 11, 15 (kernel 4.18) or 17 (5.5) figures. A device's name never has white space in it: the kernel
/// puts `!` for `/` and refuses nothing else, but no driver uses any.
fn parse_line(line: &str) -> Option<DiskIo> {
    let mut words = line.split_ascii_whitespace();
    let major = words.next()?.parse().ok()?;
    let minor = words.next()?.parse().ok()?;
    let device = words.next()?.to_owned();
    let mut next = || words.next()?.parse::<u64>().ok();
    let bytes = |sectors: u64| read::wrap(sectors.wrapping_mul(SECTOR_BYTES));
    let ns = |ms: u64| read::wrap(ms.wrapping_mul(1_000_000));
    Some(DiskIo {
        device,
        major,
        minor,
        reads: read::wrap(next()?),
        reads_merged: read::wrap(next()?),
        read_bytes: bytes(next()?),
        read_time_ns: ns(next()?),
        writes: read::wrap(next()?),
        writes_merged: read::wrap(next()?),
        write_bytes: bytes(next()?),
        write_time_ns: ns(next()?),
        in_flight: read::wrap(next()?),
        io_time_ns: ns(next()?),
        weighted_io_time_ns: ns(next()?),
        discards: next().map(read::wrap),
        discards_merged: next().map(read::wrap),
        discard_bytes: next().map(bytes),
        discard_time_ns: next().map(ns),
        flushes: next().map(read::wrap),
        flush_time_ns: next().map(ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_today() {
        let row = parse_line(" 259       0 nvme0n1 100 2 800 40 50 3 1600 60 1 70 110 5 1 80 9 7 11\n").unwrap();
        assert_eq!((row.device.as_str(), row.major, row.minor), ("nvme0n1", 259, 0));
        assert_eq!(
            (row.reads, row.reads_merged, row.read_bytes, row.read_time_ns),
            (100, 2, 409_600, 40_000_000)
        );
        assert_eq!(
            (row.writes, row.writes_merged, row.write_bytes, row.write_time_ns),
            (50, 3, 819_200, 60_000_000)
        );
        assert_eq!(
            (row.in_flight, row.io_time_ns, row.weighted_io_time_ns),
            (1, 70_000_000, 110_000_000)
        );
        assert_eq!(
            (row.discards, row.discards_merged, row.discard_bytes),
            (Some(5), Some(1), Some(40_960))
        );
        assert_eq!(
            (row.discard_time_ns, row.flushes, row.flush_time_ns),
            (Some(9_000_000), Some(7), Some(11_000_000))
        );
    }

    #[test]
    fn old_kernels_and_odd_lines() {
        let row = parse_line("8 1 sda1 1 2 3 4 5 6 7 8 9 10 11").unwrap();
        assert_eq!(
            (row.weighted_io_time_ns, row.discards, row.flushes),
            (11_000_000, None, None)
        );
        let huge = parse_line("8 0 sda 9223372036854775808 0 18446744073709551615 0 0 0 0 0 0 0 0").unwrap();
        assert_eq!(huge.reads, 0);
        assert!(huge.read_bytes >= 0);
        assert_eq!(parse_line("8 1 sda1 1 2 3 4"), None);
        assert_eq!(parse_line(""), None);
        assert_eq!(parse_line("8 x sda 1 2 3 4 5 6 7 8 9 10 11"), None);
    }
}
