//! The row of a control group.

use vwatch_sdk::prelude::*;

/// Control groups, of version 2 and of version 1. What a group's controllers do not tell is NULL. Source: the mounts of
/// `cgroup2` and `cgroup`, mostly `/sys/fs/cgroup`.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "cgroup", state)]
pub struct Cgroup {
    /// Version of the hierarchy: 1 or 2. A host with both has rows of both.
    #[row(key)]
    pub version: i32,
    /// Path of the group, as `/proc/PID/cgroup` has it: `/system.slice/ssh.service`.
    #[row(key)]
    pub path: String,
    /// CPU time. Source: v2 `cpu.stat`, v1 `cpuacct.usage`.
    #[row(unit = "ns", counter)]
    pub usage_ns: Option<i64>,
    /// CPU time in user mode. Source: v2 `cpu.stat`, v1 `cpuacct.stat` in ticks.
    #[row(unit = "ns", counter)]
    pub user_ns: Option<i64>,
    /// CPU time in the kernel. Source: v2 `cpu.stat`, v1 `cpuacct.stat` in ticks.
    #[row(unit = "ns", counter)]
    pub system_ns: Option<i64>,
    /// Periods of its CPU limit that have passed. Source: `cpu.stat`.
    #[row(counter)]
    pub nr_periods: Option<i64>,
    /// Periods in which it used up its limit. Source: `cpu.stat`.
    #[row(counter)]
    pub nr_throttled: Option<i64>,
    /// Time in which it was held back by its limit, summed over CPUs. Source: `cpu.stat`.
    #[row(unit = "ns", counter)]
    pub throttled_ns: Option<i64>,
    /// Memory it uses, the page cache too. Source: v2 `memory.current`, v1 `memory.usage_in_bytes`.
    #[row(unit = "bytes")]
    pub memory_current_bytes: Option<i64>,
    /// Most memory it has used. Source: v2 `memory.peak` (Linux 5.19), v1 `memory.max_usage_in_bytes`.
    #[row(unit = "bytes")]
    pub memory_peak_bytes: Option<i64>,
    /// Limit of its memory; NULL for none. Source: v2 `memory.max`, v1 `memory.limit_in_bytes`.
    #[row(unit = "bytes")]
    pub memory_max_bytes: Option<i64>,
    /// Swap it uses. Source: v2 `memory.swap.current`, v1 `total_swap` of `memory.stat`.
    #[row(unit = "bytes")]
    pub swap_current_bytes: Option<i64>,
    /// Anonymous memory. Source: `memory.stat`, v2 `anon`, v1 `total_rss`.
    #[row(unit = "bytes")]
    pub anon_bytes: Option<i64>,
    /// Page cache, shared memory too. Source: `memory.stat`, v2 `file`, v1 `total_cache`.
    #[row(unit = "bytes")]
    pub file_bytes: Option<i64>,
    /// Memory of the kernel: stacks, page tables, slab and more. Source: v2 `kernel` of `memory.stat` (Linux 5.18), v1
    /// `memory.kmem.usage_in_bytes`.
    #[row(unit = "bytes")]
    pub kernel_bytes: Option<i64>,
    /// Slab of the kernel. Source: v2 `slab` of `memory.stat`.
    #[row(unit = "bytes")]
    pub slab_bytes: Option<i64>,
    /// Buffers of sockets. Source: v2 `sock` of `memory.stat`, v1 `memory.kmem.tcp.usage_in_bytes`.
    #[row(unit = "bytes")]
    pub sock_bytes: Option<i64>,
    /// Shared memory and tmpfs. Source: `memory.stat`, v2 `shmem`, v1 `total_shmem`.
    #[row(unit = "bytes")]
    pub shmem_bytes: Option<i64>,
    /// Files that are mapped. Source: `memory.stat`, v2 `file_mapped`, v1 `total_mapped_file`.
    #[row(unit = "bytes")]
    pub file_mapped_bytes: Option<i64>,
    /// Page cache that is to be written. Source: `memory.stat`, v2 `file_dirty`, v1 `total_dirty`.
    #[row(unit = "bytes")]
    pub file_dirty_bytes: Option<i64>,
    /// Page cache that is being written. Source: `memory.stat`, v2 `file_writeback`, v1 `total_writeback`.
    #[row(unit = "bytes")]
    pub file_writeback_bytes: Option<i64>,
    /// Page faults. Source: `memory.stat`, v2 `pgfault`, v1 `total_pgfault`.
    #[row(counter)]
    pub pgfault: Option<i64>,
    /// Page faults that had to wait for a device. Source: `memory.stat`, v2 `pgmajfault`, v1 `total_pgmajfault`.
    #[row(counter)]
    pub pgmajfault: Option<i64>,
    /// Processes killed for want of memory. Source: v2 `memory.events`, v1 `memory.oom_control`, there without the groups
    /// below.
    #[row(counter)]
    pub oom_kill: Option<i64>,
    /// Bytes read from devices; a stacked device counts as well as those under it. Source: v2 `rbytes` of `io.stat`, v1
    /// `blkio.throttle.io_service_bytes_recursive`, or without `_recursive` where there is none, which leaves out the groups
    /// below.
    #[row(unit = "bytes", counter)]
    pub io_read_bytes: Option<i64>,
    /// Bytes written. Source: as `io_read_bytes`, v2 `wbytes`.
    #[row(unit = "bytes", counter)]
    pub io_write_bytes: Option<i64>,
    /// Reads. Source: v2 `rios` of `io.stat`, v1 `blkio.throttle.io_serviced_recursive`.
    #[row(counter)]
    pub io_reads: Option<i64>,
    /// Writes. Source: as `io_reads`, v2 `wios`.
    #[row(counter)]
    pub io_writes: Option<i64>,
    /// Tasks (threads) in it. Source: `pids.current`.
    pub pids_current: Option<i64>,
    /// Limit of its tasks; NULL for none. Source: `pids.max`.
    pub pids_max: Option<i64>,
    /// Share of the last 10 seconds in which at least one task waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "percent")]
    pub cpu_some_avg10: Option<f64>,
    /// Share of the last minute in which at least one task waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "percent")]
    pub cpu_some_avg60: Option<f64>,
    /// Share of the last 5 minutes in which at least one task waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "percent")]
    pub cpu_some_avg300: Option<f64>,
    /// Time in which at least one task waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "ns", counter)]
    pub cpu_some_total_ns: Option<i64>,
    /// Share of the last 10 seconds in which all tasks that were not idle waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "percent")]
    pub cpu_full_avg10: Option<f64>,
    /// Share of the last minute in which all tasks that were not idle waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "percent")]
    pub cpu_full_avg60: Option<f64>,
    /// Share of the last 5 minutes in which all tasks that were not idle waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "percent")]
    pub cpu_full_avg300: Option<f64>,
    /// Time in which all tasks that were not idle waited for a CPU. Source: v2 `cpu.pressure`.
    #[row(unit = "ns", counter)]
    pub cpu_full_total_ns: Option<i64>,
    /// Share of the last 10 seconds in which at least one task waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "percent")]
    pub memory_some_avg10: Option<f64>,
    /// Share of the last minute in which at least one task waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "percent")]
    pub memory_some_avg60: Option<f64>,
    /// Share of the last 5 minutes in which at least one task waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "percent")]
    pub memory_some_avg300: Option<f64>,
    /// Time in which at least one task waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "ns", counter)]
    pub memory_some_total_ns: Option<i64>,
    /// Share of the last 10 seconds in which all tasks that were not idle waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "percent")]
    pub memory_full_avg10: Option<f64>,
    /// Share of the last minute in which all tasks that were not idle waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "percent")]
    pub memory_full_avg60: Option<f64>,
    /// Share of the last 5 minutes in which all tasks that were not idle waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "percent")]
    pub memory_full_avg300: Option<f64>,
    /// Time in which all tasks that were not idle waited for memory. Source: v2 `memory.pressure`.
    #[row(unit = "ns", counter)]
    pub memory_full_total_ns: Option<i64>,
    /// Share of the last 10 seconds in which at least one task waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "percent")]
    pub io_some_avg10: Option<f64>,
    /// Share of the last minute in which at least one task waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "percent")]
    pub io_some_avg60: Option<f64>,
    /// Share of the last 5 minutes in which at least one task waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "percent")]
    pub io_some_avg300: Option<f64>,
    /// Time in which at least one task waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "ns", counter)]
    pub io_some_total_ns: Option<i64>,
    /// Share of the last 10 seconds in which all tasks that were not idle waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "percent")]
    pub io_full_avg10: Option<f64>,
    /// Share of the last minute in which all tasks that were not idle waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "percent")]
    pub io_full_avg60: Option<f64>,
    /// Share of the last 5 minutes in which all tasks that were not idle waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "percent")]
    pub io_full_avg300: Option<f64>,
    /// Time in which all tasks that were not idle waited for I/O. Source: v2 `io.pressure`.
    #[row(unit = "ns", counter)]
    pub io_full_total_ns: Option<i64>,
}
