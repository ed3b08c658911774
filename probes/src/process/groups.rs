//! From the ends of threads to the ends of processes.
//!
//! The kernel speaks of each thread as it ends; the last one of a process brings the process's CPU time and delays. What it
//! does not sum up itself (faults, I/O, context switches) is summed here over the threads that were heard of. Where one was
//! not, because it ended before the recorder listened or its word was lost, those columns are NULL: never a part of the truth.

use super::exit::ProcessExit;
use super::taskstats::{Exit, FORKED_ONLY, Stats, Sums, USED_PRIVILEGE};
use crate::read;
use std::collections::HashMap;
use vwatch_sdk::prelude::*;

/// Processes of which some threads have ended.
pub struct Groups {
    begun: HashMap<u32, Begun>,
    delays: bool,
}

#[derive(Default)]
struct Begun {
    threads: i64,
    sums: Sums,
    /// Flags of all threads: some are those of the main thread alone.
    flags: u8,
    /// Command name of the main thread.
    comm: Option<String>,
}

impl Groups {
    /// `delays`: the sysctl `kernel.task_delayacct` is on, so that delays by other than the scheduler are known.
    pub fn new(delays: bool) -> Self {
        Groups {
            begun: HashMap::new(),
            delays,
        }
    }

    /// Takes a thread's end; answers the process's when it was the last.
    pub fn take(&mut self, exit: &Exit, now: Timestamp) -> Option<ProcessExit> {
        let Stats { tgid, pid, .. } = exit.thread;
        let last = exit.thread.is_last_of_process();
        let mut begun = self.begun.remove(&tgid).unwrap_or_default();
        begun.threads += 1;
        begun.sums.add(&exit.thread.sums);
        begun.flags |= exit.thread.flag;
        if pid == tgid {
            begun.comm = Some(exit.thread.comm.clone());
        }
        if last {
            return Some(self.row(&exit.thread, begun, exit.process.as_ref(), now));
        }
        self.begun.insert(tgid, begun);
        None
    }

    /// Words were lost: what is known of unfinished processes is no longer whole, and the last word of some will never come.
    pub fn forget(&mut self) {
        self.begun.clear();
    }

    fn row(&self, last: &Stats, begun: Begun, process: Option<&Sums>, now: Timestamp) -> ProcessExit {
        let sums = &begun.sums;
        // Every thread has been on a CPU, so that a thread that was not heard of is a time on a CPU that is not in the sum.
        let whole = process.is_none_or(|process| sums.timeslices >= process.timeslices);
        let of_process = process.unwrap_or(sums);
        let (utime_ns, stime_ns) = split(sums, of_process.runtime_ns);
        let summed = |value: u64| whole.then_some(read::wrap(value));
        let delay = |value: u64| self.delays.then_some(read::wrap(value));
        let duration_ns = read::wrap(last.process_elapsed_us.saturating_mul(1000));
        let signal = (last.exit_code & 0x7f) as i32;
        ProcessExit {
            time: now,
            pid: last.tgid as i32,
            ppid: last.ppid as i32,
            comm: begun.comm.unwrap_or_else(|| last.comm.clone()),
            exit_code: (signal == 0).then_some((last.exit_code >> 8 & 0xff) as i32),
            exit_signal: (signal != 0).then_some(signal),
            core_dumped: last.exit_code & 0x80 != 0,
            uid: last.uid,
            gid: last.gid,
            start_time: Timestamp(now.0.saturating_sub(duration_ns)),
            duration_ns,
            utime_ns,
            stime_ns,
            max_rss_bytes: read::wrap(last.hiwater_rss_kib.saturating_mul(1024)),
            max_vsize_bytes: read::wrap(last.hiwater_vm_kib.saturating_mul(1024)),
            threads: whole.then_some(begun.threads),
            minflt: summed(sums.minflt),
            majflt: summed(sums.majflt),
            rchar: summed(sums.rchar),
            wchar: summed(sums.wchar),
            syscr: summed(sums.syscr),
            syscw: summed(sums.syscw),
            read_bytes: summed(sums.read_bytes),
            write_bytes: summed(sums.write_bytes),
            cancelled_write_bytes: summed(sums.cancelled_write_bytes),
            voluntary_ctxt_switches: summed(sums.nvcsw),
            nonvoluntary_ctxt_switches: summed(sums.nivcsw),
            timeslices: read::wrap(of_process.timeslices),
            run_delay_ns: read::wrap(of_process.run_delay_ns),
            blkio_delay_ns: delay(of_process.blkio_delay_ns),
            swapin_delay_ns: delay(of_process.swapin_delay_ns),
            freepages_delay_ns: delay(of_process.freepages_delay_ns),
            thrashing_delay_ns: delay(of_process.thrashing_delay_ns),
            compact_delay_ns: delay(of_process.compact_delay_ns),
            wpcopy_delay_ns: delay(of_process.wpcopy_delay_ns),
            irq_delay_ns: delay(of_process.irq_delay_ns),
            nice: i32::from(last.nice),
            policy: i32::from(last.policy),
            forked_only: begun.flags & FORKED_ONLY != 0,
            used_privilege: begun.flags & USED_PRIVILEGE != 0,
            exe_dev: last.exe_dev,
            exe_inode: last.exe_inode,
        }
    }
}

/// The measured time on CPUs, split into user and kernel mode as the ticks saw them: what the kernel itself answers to wait4(2)
/// and in `/proc/PID/stat` (`cputime_adjust`). A process that no tick met was in user mode.
fn split(ticks: &Sums, runtime_ns: u64) -> (i64, i64) {
    let (utime, stime) = (u128::from(ticks.utime_us), u128::from(ticks.stime_us));
    let stime_ns = match (utime, stime) {
        (_, 0) => 0,
        (0, _) => runtime_ns,
        _ => (u128::from(runtime_ns) * stime / (utime + stime)) as u64,
    };
    (read::wrap(runtime_ns - stime_ns), read::wrap(stime_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tgid: u32, pid: u32, last: bool, comm: &str, sums: Sums) -> Exit {
        Exit {
            thread: Stats {
                tgid,
                pid,
                ppid: 1,
                comm: comm.to_owned(),
                flag: if last {
                    super::super::taskstats::LAST_OF_GROUP
                } else {
                    0
                },
                process_elapsed_us: 2_000_000,
                hiwater_rss_kib: 4,
                sums,
                ..Stats::default()
            },
            process: None,
        }
    }

    fn sums(utime_us: u64, stime_us: u64, runtime_ns: u64, timeslices: u64, minflt: u64) -> Sums {
        Sums {
            utime_us,
            stime_us,
            runtime_ns,
            timeslices,
            minflt,
            ..Sums::default()
        }
    }

    #[test]
    fn one_thread_is_one_row() {
        let mut groups = Groups::new(false);
        let mut exit = thread(10, 10, true, "sh", sums(0, 0, 3_100_000, 2, 50));
        exit.thread.exit_code = 7 << 8;
        let row = groups.take(&exit, Timestamp(5_000_000_000)).unwrap();
        assert_eq!((row.pid, row.ppid, row.comm.as_str()), (10, 1, "sh"));
        assert_eq!(
            (row.exit_code, row.exit_signal, row.core_dumped),
            (Some(7), None, false)
        );
        assert_eq!(
            (row.utime_ns, row.stime_ns, row.minflt, row.threads),
            (3_100_000, 0, Some(50), Some(1))
        );
        assert_eq!(
            (row.start_time, row.duration_ns),
            (Timestamp(3_000_000_000), 2_000_000_000)
        );
        assert_eq!((row.max_rss_bytes, row.blkio_delay_ns), (4096, None));
        exit.thread.exit_code = 9;
        let row = groups.take(&exit, Timestamp(0)).unwrap();
        assert_eq!(
            (row.exit_code, row.exit_signal, row.core_dumped),
            (None, Some(9), false)
        );
        exit.thread.exit_code = 0x80 | 11;
        let row = groups.take(&exit, Timestamp(0)).unwrap();
        assert_eq!(
            (row.exit_code, row.exit_signal, row.core_dumped),
            (None, Some(11), true)
        );
    }

    #[test]
    fn threads_are_summed_and_the_process_bears_its_main_threads_name() {
        let mut groups = Groups::new(false);
        let main = thread(10, 10, false, "server", sums(4000, 0, 5_000_000, 3, 1));
        let mut worker = thread(10, 12, true, "worker", sums(0, 4000, 3_000_000, 4, 2));
        worker.process = Some(sums(0, 0, 8_000_100, 7, 0));
        assert_eq!(groups.take(&main, Timestamp(0)), None);
        assert_eq!(
            groups.take(&thread(11, 11, false, "other", Sums::default()), Timestamp(0)),
            None
        );
        let row = groups.take(&worker, Timestamp(0)).unwrap();
        assert_eq!((row.pid, row.comm.as_str(), row.threads), (10, "server", Some(2)));
        assert_eq!(
            (row.utime_ns, row.stime_ns, row.minflt),
            (4_000_050, 4_000_050, Some(3))
        );
        assert_eq!(groups.begun.len(), 1);
        groups.forget();
        assert!(groups.begun.is_empty());
    }

    #[test]
    fn a_thread_that_was_not_heard_of_makes_the_sums_unknown() {
        let mut groups = Groups::new(false);
        let mut worker = thread(10, 12, true, "worker", sums(1000, 0, 3_000_000, 4, 2));
        worker.process = Some(sums(0, 0, 9_000_000, 5, 0));
        let row = groups.take(&worker, Timestamp(0)).unwrap();
        assert_eq!((row.minflt, row.read_bytes, row.threads), (None, None, None));
        assert_eq!((row.utime_ns, row.stime_ns, row.timeslices), (9_000_000, 0, 5));
        assert_eq!(row.comm, "worker");
    }

    #[test]
    fn no_figures_are_too_large() {
        let huge = sums(u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        let mut groups = Groups::new(false);
        groups.take(&thread(10, 11, false, "a", huge), Timestamp(i64::MIN));
        let row = groups
            .take(&thread(10, 10, true, "a", huge), Timestamp(i64::MIN))
            .unwrap();
        assert!(row.utime_ns >= 0 && row.stime_ns >= 0);
    }
}
