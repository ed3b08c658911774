//! The table `process`.
//!
//! It has all of `/proc/PID/{stat,status,io}` (proc_pid_stat(5), proc_pid_status(5), proc_pid_io(5)) but for what would tell a
//! reader where a process's memory lies (`startcode` … `env_end`, `kstkesp`, `kstkeip`), which the kernel itself keeps from other
//! users, and for fields that are always 0 (`itrealvalue`, `nswap`, `cnswap`) or that stand in both files.
//!
//! The row is its own parse target: `stat`, `status` and `files` each fill the columns that they know.

use vwatch_sdk::prelude::*;

/// Every process. One row per process, threads summed. Source: `/proc/PID`.
#[derive(Row, Debug, Clone, Default, PartialEq)]
#[row(table = "process", state)]
pub struct Process {
    /// Process id. Source of this and of the columns to `exit_status`: `/proc/PID/stat`.
    #[row(key)]
    pub pid: i32,
    /// When it was started, in clock ticks (1/100 s here) since boot: with `pid` the process's identity.
    #[row(key, unit = "ticks")]
    pub start_ticks: i64,
    /// Process id of its parent; 0 when it has none that can be seen.
    pub ppid: i32,
    /// When it was started, by the wall clock: `start_ticks` after the boot as the daemon first saw it, so that it does
    /// not move when the clock is adjusted.
    pub start_time: Timestamp,
    /// Command name: at most 15 bytes, the process may change it.
    pub comm: String,
    /// Its arguments, joined by spaces, quoted where the shell would need it, secrets as `***`, at most 4 KiB. NULL for
    /// kernel threads and zombies. Source: `/proc/PID/cmdline`.
    pub cmdline: Option<String>,
    /// `R` running, `S` sleeping, `D` in uninterruptible sleep, `Z` zombie, `T` stopped, `t` stopped by a tracer, `I`
    /// idle kernel thread, `X` dead, `P` parked.
    pub state: String,
    /// Real user id. Source of this and of the columns to `nonvoluntary_ctxt_switches`, but for names:
    /// `/proc/PID/status`.
    pub uid: u32,
    /// Name of that user in `/etc/passwd`. NULL when it has none there.
    pub user_name: Option<String>,
    /// Effective user id.
    pub euid: u32,
    /// Saved set-user id.
    pub suid: u32,
    /// User id for access to files.
    pub fsuid: u32,
    /// Real group id.
    pub gid: u32,
    /// Name of that group in `/etc/group`. NULL when it has none there.
    pub group_name: Option<String>,
    /// Effective group id.
    pub egid: u32,
    /// Saved set-group id.
    pub sgid: u32,
    /// Group id for access to files.
    pub fsgid: u32,
    /// Supplementary group ids, separated by spaces.
    pub groups: String,
    /// Process group id.
    pub pgrp: i32,
    /// Session id.
    pub session: i32,
    /// Controlling terminal as a device number; 0 when it has none.
    pub tty_nr: i64,
    /// Foreground process group of that terminal; -1 when it has none.
    pub tpgid: i32,
    /// The kernel's `PF_*` flags.
    pub flags: i64,
    /// CPU time in user mode of all its threads, those that ended too. The kernel gives it in ticks of 10 ms.
    #[row(unit = "ns", counter)]
    pub utime_ns: i64,
    /// CPU time in kernel mode of all its threads.
    #[row(unit = "ns", counter)]
    pub stime_ns: i64,
    /// CPU time in user mode of children that it has waited for.
    #[row(unit = "ns", counter)]
    pub cutime_ns: i64,
    /// CPU time in kernel mode of children that it has waited for.
    #[row(unit = "ns", counter)]
    pub cstime_ns: i64,
    /// Time its virtual CPUs ran; part of `utime_ns`.
    #[row(unit = "ns", counter)]
    pub guest_time_ns: i64,
    /// The same of children that it has waited for.
    #[row(unit = "ns", counter)]
    pub cguest_time_ns: i64,
    /// Time it waited for block I/O; 0 without `kernel.task_delayacct`.
    #[row(unit = "ns", counter)]
    pub delayacct_blkio_ns: i64,
    /// Page faults that needed no I/O.
    #[row(counter)]
    pub minflt: i64,
    /// Page faults that needed I/O.
    #[row(counter)]
    pub majflt: i64,
    /// Minor faults of children that it has waited for.
    #[row(counter)]
    pub cminflt: i64,
    /// Major faults of children that it has waited for.
    #[row(counter)]
    pub cmajflt: i64,
    /// Priority as the scheduler has it: 20 + nice, or minus one minus the real-time priority.
    pub priority: i64,
    /// Nice value, 19 (low) to -20 (high).
    pub nice: i32,
    /// Real-time priority, 1 to 99; 0 when it has none.
    pub rt_priority: i64,
    /// Scheduling policy: 0 other, 1 fifo, 2 rr, 3 batch, 5 idle, 6 deadline, 7 ext.
    pub policy: i32,
    /// CPU on which it last ran.
    pub processor: i32,
    /// Threads that it has.
    pub num_threads: i64,
    /// Address space.
    #[row(unit = "bytes")]
    pub vsize_bytes: i64,
    /// Memory that is resident: anonymous, files and shared. `VmRSS` of `status` where there is one, which is exact.
    #[row(unit = "bytes")]
    pub rss_bytes: i64,
    /// Soft limit of resident memory. NULL when there is none.
    #[row(unit = "bytes")]
    pub rsslim_bytes: Option<i64>,
    /// Signal that its parent gets when it ends.
    pub exit_signal: i32,
    /// Wait status of a zombie; else 0, or hidden as 0.
    pub exit_status: i32,
    /// Mask of file modes.
    pub umask: Option<u32>,
    /// Process that traces it; 0 when none does.
    pub tracer_pid: i32,
    /// NUMA group; 0 when it has none.
    pub ngid: i32,
    /// Slots of its table of open files.
    pub fdsize: i64,
    /// Its ids in the PID namespaces that it is in, from the outermost seen to its own.
    pub ns_pid: Option<String>,
    /// It is a kernel thread. NULL before kernel 6.8.
    pub kthread: Option<bool>,
    /// Largest address space so far. The columns of memory are NULL for kernel threads and zombies.
    #[row(unit = "bytes")]
    pub vm_peak_bytes: Option<i64>,
    /// Locked memory.
    #[row(unit = "bytes")]
    pub vm_lck_bytes: Option<i64>,
    /// Pinned memory.
    #[row(unit = "bytes")]
    pub vm_pin_bytes: Option<i64>,
    /// Largest resident memory so far.
    #[row(unit = "bytes")]
    pub vm_hwm_bytes: Option<i64>,
    /// Resident anonymous memory.
    #[row(unit = "bytes")]
    pub rss_anon_bytes: Option<i64>,
    /// Resident mappings of files.
    #[row(unit = "bytes")]
    pub rss_file_bytes: Option<i64>,
    /// Resident shared memory.
    #[row(unit = "bytes")]
    pub rss_shmem_bytes: Option<i64>,
    /// Private writable address space without stack.
    #[row(unit = "bytes")]
    pub vm_data_bytes: Option<i64>,
    /// Address space of the main stack.
    #[row(unit = "bytes")]
    pub vm_stk_bytes: Option<i64>,
    /// Address space of the program's code.
    #[row(unit = "bytes")]
    pub vm_exe_bytes: Option<i64>,
    /// Address space of libraries' code.
    #[row(unit = "bytes")]
    pub vm_lib_bytes: Option<i64>,
    /// Page tables.
    #[row(unit = "bytes")]
    pub vm_pte_bytes: Option<i64>,
    /// Anonymous memory in swap.
    #[row(unit = "bytes")]
    pub vm_swap_bytes: Option<i64>,
    /// Memory in pages of hugetlbfs.
    #[row(unit = "bytes")]
    pub hugetlb_bytes: Option<i64>,
    /// It is writing a core dump.
    pub core_dumping: Option<bool>,
    /// It may get transparent huge pages.
    pub thp_enabled: Option<bool>,
    /// Signals queued for its user.
    pub sigq_queued: Option<i64>,
    /// How many there may be.
    pub sigq_limit: Option<i64>,
    /// Signals pending for the main thread: bit n-1 is signal n.
    pub sig_pnd: u64,
    /// Signals pending for the process.
    pub shd_pnd: u64,
    /// Signals blocked.
    pub sig_blk: u64,
    /// Signals ignored.
    pub sig_ign: u64,
    /// Signals caught.
    pub sig_cgt: u64,
    /// Inheritable capabilities: bit n is capability n.
    pub cap_inh: u64,
    /// Permitted capabilities.
    pub cap_prm: u64,
    /// Effective capabilities.
    pub cap_eff: u64,
    /// Bounding set of capabilities.
    pub cap_bnd: u64,
    /// Ambient capabilities.
    pub cap_amb: Option<u64>,
    /// It can gain no privilege by exec.
    pub no_new_privs: Option<bool>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: Option<i32>,
    /// Seccomp filters attached.
    pub seccomp_filters: Option<i32>,
    /// Mitigation of speculative store bypass.
    pub speculation_store_bypass: Option<String>,
    /// Mitigation of indirect branch speculation.
    pub speculation_indirect_branch: Option<String>,
    /// CPUs it may run on.
    pub cpus_allowed_list: Option<String>,
    /// NUMA nodes it may take memory from.
    pub mems_allowed_list: Option<String>,
    /// Times the main thread gave up its CPU.
    #[row(counter)]
    pub voluntary_ctxt_switches: Option<i64>,
    /// Times the main thread was taken off its CPU.
    #[row(counter)]
    pub nonvoluntary_ctxt_switches: Option<i64>,
    /// Bytes read by system calls, from caches and terminals too. Source of this and of the columns to
    /// `cancelled_write_bytes`: `/proc/PID/io`; NULL when the daemon may not read it.
    #[row(unit = "bytes", counter)]
    pub rchar: Option<i64>,
    /// Bytes written by system calls.
    #[row(unit = "bytes", counter)]
    pub wchar: Option<i64>,
    /// System calls that read.
    #[row(counter)]
    pub syscr: Option<i64>,
    /// System calls that write.
    #[row(counter)]
    pub syscw: Option<i64>,
    /// Bytes fetched from storage.
    #[row(unit = "bytes", counter)]
    pub read_bytes: Option<i64>,
    /// Bytes sent to storage, or to be sent.
    #[row(unit = "bytes", counter)]
    pub write_bytes: Option<i64>,
    /// Bytes of those that were never sent, since their file was truncated.
    #[row(unit = "bytes", counter)]
    pub cancelled_write_bytes: Option<i64>,
    /// Kernel function that it sleeps in. NULL when it does not, or the daemon may not know.
    pub wchan: Option<String>,
    /// How likely the kernel is to kill it for want of memory, 0 to 2000.
    pub oom_score: Option<i64>,
    /// What its owner adds to that: -1000 never, 1000 first.
    pub oom_score_adj: Option<i32>,
    /// Path of its program; ` (deleted)` follows when the file is gone. NULL for kernel threads, or when the daemon may
    /// not know.
    pub exe: Option<String>,
    /// Path of its control group: v2's, or where all is in v2's root, that of systemd, of memory, or of any other v1
    /// hierarchy.
    pub cgroup: Option<String>,
}
