//! What the kernel tells of a task that ends: `struct taskstats` (`linux/taskstats.h`, the kernel's
//! `Documentation/accounting/taskstats-struct.rst`).
//!
//! Each thread's end is one message: its own figures, and with the last thread of a process that had several also the sums
//! over the process of CPU time and delays. The struct grows at its end with each version, but for version 15 (kernels 6.14
//! and 6.15), which put fields in the middle; see [`shift`].

use super::netlink::attributes;

/// From this version on (kernel 5.18) the struct tells threads from processes: `ac_tgid`, and [`LAST_OF_GROUP`].
pub const FIRST_VERSION: u16 = 12;

/// `AGROUP`: the last thread of its process.
pub const LAST_OF_GROUP: u8 = 0x20;
/// `AFORK`: it never called exec.
pub const FORKED_ONLY: u8 = 0x01;
/// `ASU`: it made use of a privilege.
pub const USED_PRIVILEGE: u8 = 0x02;

const STATS: u16 = 3;
const OF_THREAD: u16 = 4;
const OF_PROCESS: u16 = 5;

/// Offsets of `struct taskstats` on all 64-bit machines, and on 32-bit ones since its 64-bit fields are aligned.
mod at {
    pub const VERSION: usize = 0;
    pub const EXIT_CODE: usize = 4;
    pub const FLAG: usize = 8;
    pub const NICE: usize = 9;
    pub const CPU_COUNT: usize = 16;
    pub const CPU_DELAY: usize = 24;
    pub const BLKIO_DELAY: usize = 40;
    pub const SWAPIN_DELAY: usize = 56;
    pub const CPU_RUN_VIRTUAL: usize = 72;
    pub const COMM: usize = 80;
    pub const SCHED: usize = 112;
    pub const UID: usize = 120;
    pub const GID: usize = 124;
    pub const PID: usize = 128;
    pub const PPID: usize = 132;
    pub const UTIME: usize = 152;
    pub const STIME: usize = 160;
    pub const MINFLT: usize = 168;
    pub const MAJFLT: usize = 176;
    pub const HIWATER_RSS: usize = 200;
    pub const HIWATER_VM: usize = 208;
    pub const READ_CHAR: usize = 216;
    pub const WRITE_CHAR: usize = 224;
    pub const READ_SYSCALLS: usize = 232;
    pub const WRITE_SYSCALLS: usize = 240;
    pub const READ_BYTES: usize = 248;
    pub const WRITE_BYTES: usize = 256;
    pub const CANCELLED_WRITE_BYTES: usize = 264;
    pub const NVCSW: usize = 272;
    pub const NIVCSW: usize = 280;
    pub const FREEPAGES_DELAY: usize = 320;
    pub const THRASHING_DELAY: usize = 336;
    pub const COMPACT_DELAY: usize = 360;
    pub const TGID: usize = 368;
    pub const TGETIME: usize = 376;
    pub const EXE_DEV: usize = 384;
    pub const EXE_INODE: usize = 392;
    pub const WPCOPY_DELAY: usize = 408;
    pub const IRQ_DELAY: usize = 424;
}

/// How far version 15 moved the field that is at `at` in all others: a `max` and a `min` stand there behind each delay.
fn shift(version: u16, at: usize) -> usize {
    if version != 15 {
        return 0;
    }
    // Ends of the delays of CPU, block I/O, swap-in, reclaim, thrashing, compaction, write-protect copies.
    let ends = [32, 48, 64, 328, 344, 368, 416];
    16 * ends.iter().filter(|end| at >= **end).count()
}

/// Figures that add up over the threads of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// By the clock tick: which mode the CPU was in when it ticked.
    pub utime_us: u64,
    pub stime_us: u64,
    /// Time on a CPU, as the scheduler measured it up to the last tick or switch.
    pub runtime_ns: u64,
    /// Times put on a CPU.
    pub timeslices: u64,
    pub run_delay_ns: u64,
    pub blkio_delay_ns: u64,
    pub swapin_delay_ns: u64,
    pub freepages_delay_ns: u64,
    pub thrashing_delay_ns: u64,
    pub compact_delay_ns: u64,
    pub wpcopy_delay_ns: u64,
    pub irq_delay_ns: u64,
    pub minflt: u64,
    pub majflt: u64,
    pub rchar: u64,
    pub wchar: u64,
    pub syscr: u64,
    pub syscw: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub cancelled_write_bytes: u64,
    pub nvcsw: u64,
    pub nivcsw: u64,
}

impl Sums {
    pub fn add(&mut self, other: &Sums) {
        let Sums {
            utime_us,
            stime_us,
            runtime_ns,
            timeslices,
            run_delay_ns,
            blkio_delay_ns,
            swapin_delay_ns,
            freepages_delay_ns,
            thrashing_delay_ns,
            compact_delay_ns,
            wpcopy_delay_ns,
            irq_delay_ns,
            minflt,
            majflt,
            rchar,
            wchar,
            syscr,
            syscw,
            read_bytes,
            write_bytes,
            cancelled_write_bytes,
            nvcsw,
            nivcsw,
        } = other;
        for (sum, more) in [
            (&mut self.utime_us, utime_us),
            (&mut self.stime_us, stime_us),
            (&mut self.runtime_ns, runtime_ns),
            (&mut self.timeslices, timeslices),
            (&mut self.run_delay_ns, run_delay_ns),
            (&mut self.blkio_delay_ns, blkio_delay_ns),
            (&mut self.swapin_delay_ns, swapin_delay_ns),
            (&mut self.freepages_delay_ns, freepages_delay_ns),
            (&mut self.thrashing_delay_ns, thrashing_delay_ns),
            (&mut self.compact_delay_ns, compact_delay_ns),
            (&mut self.wpcopy_delay_ns, wpcopy_delay_ns),
            (&mut self.irq_delay_ns, irq_delay_ns),
            (&mut self.minflt, minflt),
            (&mut self.majflt, majflt),
            (&mut self.rchar, rchar),
            (&mut self.wchar, wchar),
            (&mut self.syscr, syscr),
            (&mut self.syscw, syscw),
            (&mut self.read_bytes, read_bytes),
            (&mut self.write_bytes, write_bytes),
            (&mut self.cancelled_write_bytes, cancelled_write_bytes),
            (&mut self.nvcsw, nvcsw),
            (&mut self.nivcsw, nivcsw),
        ] {
            *sum = sum.wrapping_add(*more);
        }
    }
}

/// One `struct taskstats`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    pub version: u16,
    /// Wait status, as wait(2) gives it.
    pub exit_code: u32,
    pub flag: u8,
    pub nice: i8,
    pub comm: String,
    pub policy: u8,
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
    pub ppid: u32,
    pub tgid: u32,
    /// Since the process began.
    pub process_elapsed_us: u64,
    pub hiwater_rss_kib: u64,
    pub hiwater_vm_kib: u64,
    pub exe_dev: u64,
    pub exe_inode: u64,
    pub sums: Sums,
}

impl Stats {
    /// `None` when the struct is of a version before [`FIRST_VERSION`], or shorter than its version says.
    pub fn decode(bytes: &[u8]) -> Option<Stats> {
        let version = version(bytes).filter(|version| *version >= FIRST_VERSION)?;
        let field = Fields { bytes, version };
        let mut stats = Stats {
            version,
            exit_code: field.u32(at::EXIT_CODE)?,
            flag: field.u8(at::FLAG)?,
            nice: field.u8(at::NICE)? as i8,
            comm: field.text(at::COMM)?,
            policy: field.u8(at::SCHED)?,
            uid: field.u32(at::UID)?,
            gid: field.u32(at::GID)?,
            pid: field.u32(at::PID)?,
            ppid: field.u32(at::PPID)?,
            tgid: field.u32(at::TGID)?,
            process_elapsed_us: field.u64(at::TGETIME)?,
            hiwater_rss_kib: field.u64(at::HIWATER_RSS)?,
            hiwater_vm_kib: field.u64(at::HIWATER_VM)?,
            exe_dev: field.u64(at::EXE_DEV)?,
            exe_inode: field.u64(at::EXE_INODE)?,
            sums: Sums::default(),
        };
        let sums = &mut stats.sums;
        for (sum, at) in [
            (&mut sums.utime_us, at::UTIME),
            (&mut sums.stime_us, at::STIME),
            (&mut sums.runtime_ns, at::CPU_RUN_VIRTUAL),
            (&mut sums.timeslices, at::CPU_COUNT),
            (&mut sums.run_delay_ns, at::CPU_DELAY),
            (&mut sums.blkio_delay_ns, at::BLKIO_DELAY),
            (&mut sums.swapin_delay_ns, at::SWAPIN_DELAY),
            (&mut sums.freepages_delay_ns, at::FREEPAGES_DELAY),
            (&mut sums.thrashing_delay_ns, at::THRASHING_DELAY),
            (&mut sums.compact_delay_ns, at::COMPACT_DELAY),
            (&mut sums.minflt, at::MINFLT),
            (&mut sums.majflt, at::MAJFLT),
            (&mut sums.rchar, at::READ_CHAR),
            (&mut sums.wchar, at::WRITE_CHAR),
            (&mut sums.syscr, at::READ_SYSCALLS),
            (&mut sums.syscw, at::WRITE_SYSCALLS),
            (&mut sums.read_bytes, at::READ_BYTES),
            (&mut sums.write_bytes, at::WRITE_BYTES),
            (&mut sums.cancelled_write_bytes, at::CANCELLED_WRITE_BYTES),
            (&mut sums.nvcsw, at::NVCSW),
            (&mut sums.nivcsw, at::NIVCSW),
        ] {
            *sum = field.u64(at)?;
        }
        // Versions 13 and 14 brought these.
        sums.wpcopy_delay_ns = field.u64(at::WPCOPY_DELAY).unwrap_or_default();
        sums.irq_delay_ns = field.u64(at::IRQ_DELAY).unwrap_or_default();
        Some(stats)
    }

    /// A second word on a process's end: it comes with each thread, and this is the last.
    pub fn is_last_of_process(&self) -> bool {
        self.flag & LAST_OF_GROUP != 0
    }
}

/// The version that a struct says it is.
pub fn version(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at::VERSION..2)?.try_into().ok()?))
}

struct Fields<'a> {
    bytes: &'a [u8],
    version: u16,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let at = at + shift(self.version, at);
        self.bytes.get(at..at + N)?.try_into().ok()
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_ne_bytes)
    }

    fn text(&self, at: usize) -> Option<String> {
        let bytes = self.array::<32>(at)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// The end of one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    pub thread: Stats,
    /// With the last of several threads: CPU time and delays of all of them.
    pub process: Option<Sums>,
}

impl Exit {
    /// From the attributes of a notification.
    pub fn decode(message: &[u8]) -> Option<Exit> {
        let stats = |kind: u16| struct_of(message, kind);
        Some(Exit {
            thread: Stats::decode(stats(OF_THREAD)?)?,
            process: stats(OF_PROCESS).and_then(Stats::decode).map(|stats| stats.sums),
        })
    }
}

/// The struct of the thread in the answer to a question for one.
pub fn struct_of_thread(message: &[u8]) -> Option<&[u8]> {
    struct_of(message, OF_THREAD)
}

fn struct_of(message: &[u8], kind: u16) -> Option<&[u8]> {
    let (_, nested) = attributes(message).find(|(k, _)| *k == kind)?;
    attributes(nested).find(|(k, _)| *k == STATS).map(|(_, value)| value)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A struct of this version with the fields given set, as the kernel would lay it out.
    pub fn struct_with(version: u16, fields: &[(usize, u64)], comm: &str) -> Vec<u8> {
        let mut bytes = vec![0u8; if version == 15 { 544 } else { 432 }];
        bytes[..2].copy_from_slice(&version.to_ne_bytes());
        for (at, value) in fields {
            let width = match *at {
                at::FLAG | at::NICE | at::SCHED => 1,
                at::EXIT_CODE | at::UID | at::GID | at::PID | at::PPID | at::TGID => 4,
                _ => 8,
            };
            let at = at + shift(version, *at);
            bytes[at..at + width].copy_from_slice(&value.to_ne_bytes()[..width]);
        }
        let at = at::COMM + shift(version, at::COMM);
        bytes[at..at + comm.len()].copy_from_slice(comm.as_bytes());
        bytes
    }

    /// Attributes of a notification: the thread's struct, and that of the process.
    pub fn notification(thread: &[u8], process: Option<&[u8]>) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let nested = |kind: u16, id: u16, stats: &[u8]| {
            attribute(
                kind,
                &[attribute(id, &1u32.to_ne_bytes()), attribute(STATS, stats)].concat(),
            )
        };
        let mut bytes = nested(OF_THREAD, 1, thread);
        if let Some(process) = process {
            bytes.extend_from_slice(&nested(OF_PROCESS, 2, process));
        }
        bytes
    }

    #[test]
    fn every_version_has_its_fields_at_their_places() {
        let fields = [
            (at::EXIT_CODE, 7 << 8),
            (at::FLAG, u64::from(LAST_OF_GROUP)),
            (at::NICE, (-5i64) as u64),
            (at::BLKIO_DELAY, 11),
            (at::CPU_RUN_VIRTUAL, 12),
            (at::UID, 1000),
            (at::PID, 4321),
            (at::MINFLT, 1 << 63),
            (at::NIVCSW, 13),
            (at::THRASHING_DELAY, 14),
            (at::COMPACT_DELAY, 15),
            (at::TGID, 4320),
            (at::EXE_INODE, 16),
            (at::IRQ_DELAY, 17),
        ];
        for version in [12, 13, 14, 15, 16, 99] {
            let stats = Stats::decode(&struct_with(version, &fields, "a) b")).unwrap();
            assert_eq!(
                (stats.version, stats.exit_code, stats.nice, stats.comm.as_str()),
                (version, 1792, -5, "a) b")
            );
            assert_eq!(
                (stats.uid, stats.pid, stats.tgid, stats.exe_inode),
                (1000, 4321, 4320, 16)
            );
            let sums = stats.sums;
            assert_eq!(
                (sums.blkio_delay_ns, sums.runtime_ns, sums.minflt, sums.nivcsw),
                (11, 12, 1 << 63, 13)
            );
            assert_eq!(
                (sums.thrashing_delay_ns, sums.compact_delay_ns, sums.irq_delay_ns),
                (14, 15, 17)
            );
            assert!(stats.is_last_of_process());
        }
        assert_eq!(Stats::decode(&struct_with(11, &fields, "x")), None);
    }

    #[test]
    fn short_and_broken_messages() {
        let whole = struct_with(12, &[(at::PID, 1)], "x");
        // Version 12 ends before the delays of versions 13 and 14.
        assert_eq!(Stats::decode(&whole[..400]).unwrap().sums.irq_delay_ns, 0);
        for end in 0..400 {
            assert_eq!(Stats::decode(&whole[..end]), None, "{end}");
        }
        let message = notification(&whole, Some(&whole));
        assert!(Exit::decode(&message).unwrap().process.is_some());
        for end in 0..message.len() {
            let _ = Exit::decode(&message[..end]);
        }
        assert_eq!(Exit::decode(b""), None);
    }

    #[test]
    fn sums_add_every_field() {
        let one = Stats::decode(&struct_with(16, &[(at::NVCSW, 3), (at::IRQ_DELAY, 4)], "x"))
            .unwrap()
            .sums;
        let mut sum = one;
        sum.add(&one);
        assert_eq!((sum.nvcsw, sum.irq_delay_ns, sum.utime_us), (6, 8, 0));
    }
}
