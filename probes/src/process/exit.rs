//! The end of every process, from the kernel's taskstats (the kernel's `Documentation/accounting/taskstats.rst`).
//!
//! The kernel sends a message on generic netlink for each thread that ends, on whichever CPU; nothing is polled, so that a
//! process that lived for a millisecond has its row. Costs about 10 µs per thread that ends, and a wake-up each 200 ms.
//!
//! **Accuracy.** CPU time is what the scheduler measured up to the last tick or switch before the thread ended: it lacks at most
//! one tick (4 ms at 250 Hz) per thread, which for a process that lived for less can be all of it. `time` is when the message
//! was read, some 50 µs after the end.
//!
//! **Losses.** Messages wait in 16 MiB of the socket, some 8,000 ends; when they overflow the kernel says so, and the
//! loss becomes a gap of unknown count.

use super::groups::Groups;
use super::netlink::{LONGEST, Socket, family_attributes, messages};
use super::taskstats::{self, Exit, FIRST_VERSION};
use crate::read;
use nix::poll::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;
use vwatch_sdk::prelude::*;

/// Every process that ended, threads summed. Source: taskstats.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "process_exit", event)]
pub struct ProcessExit {
    /// When it ended.
    pub time: Timestamp,
    /// Process id.
    pub pid: i32,
    /// Process id of its parent; of who adopted it when the parent had ended.
    pub ppid: i32,
    /// Command name of its main thread.
    pub comm: String,
    /// What it gave to exit(2), 0 to 255. NULL when a signal killed it.
    pub exit_code: Option<i32>,
    /// Number of the signal that killed it. NULL when none did.
    pub exit_signal: Option<i32>,
    /// It left a core dump.
    pub core_dumped: bool,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// When it was started: `time` less `duration_ns`.
    pub start_time: Timestamp,
    /// How long it lived, suspended time not counted.
    #[row(unit = "ns")]
    pub duration_ns: i64,
    /// CPU time in user mode. Together with `stime_ns` what the scheduler had measured by the last tick: up to one tick per thread is
    /// not in it.
    #[row(unit = "ns")]
    pub utime_ns: i64,
    /// CPU time in kernel mode.
    #[row(unit = "ns")]
    pub stime_ns: i64,
    /// Largest resident memory of its last program. 0 for kernel threads.
    #[row(unit = "bytes")]
    pub max_rss_bytes: i64,
    /// Largest address space of its last program.
    #[row(unit = "bytes")]
    pub max_vsize_bytes: i64,
    /// Threads that it had, one after another too. NULL, as the sums that follow to `nonvoluntary_ctxt_switches`, when some of them
    /// had ended before the recorder listened.
    pub threads: Option<i64>,
    /// Page faults that needed no I/O.
    pub minflt: Option<i64>,
    /// Page faults that needed I/O.
    pub majflt: Option<i64>,
    /// Bytes read by system calls.
    #[row(unit = "bytes")]
    pub rchar: Option<i64>,
    /// Bytes written by system calls.
    #[row(unit = "bytes")]
    pub wchar: Option<i64>,
    /// System calls that read.
    pub syscr: Option<i64>,
    /// System calls that wrote.
    pub syscw: Option<i64>,
    /// Bytes fetched from storage.
    #[row(unit = "bytes")]
    pub read_bytes: Option<i64>,
    /// Bytes sent to storage, or to be sent.
    #[row(unit = "bytes")]
    pub write_bytes: Option<i64>,
    /// Bytes of those that were never sent, since their file was truncated.
    #[row(unit = "bytes")]
    pub cancelled_write_bytes: Option<i64>,
    /// Times its threads gave up their CPU.
    pub voluntary_ctxt_switches: Option<i64>,
    /// Times its threads were taken off their CPU.
    pub nonvoluntary_ctxt_switches: Option<i64>,
    /// Times its threads were put on a CPU.
    pub timeslices: i64,
    /// Time its threads waited for a CPU while they could run.
    #[row(unit = "ns")]
    pub run_delay_ns: i64,
    /// Time they waited for block I/O. NULL, as the delays that follow, without the sysctl `kernel.task_delayacct`.
    #[row(unit = "ns")]
    pub blkio_delay_ns: Option<i64>,
    /// Time they waited for pages from swap.
    #[row(unit = "ns")]
    pub swapin_delay_ns: Option<i64>,
    /// Time they reclaimed memory for themselves.
    #[row(unit = "ns")]
    pub freepages_delay_ns: Option<i64>,
    /// Time they waited for pages that had only just been reclaimed.
    #[row(unit = "ns")]
    pub thrashing_delay_ns: Option<i64>,
    /// Time they compacted memory for themselves.
    #[row(unit = "ns")]
    pub compact_delay_ns: Option<i64>,
    /// Time they copied pages that were shared until written to.
    #[row(unit = "ns")]
    pub wpcopy_delay_ns: Option<i64>,
    /// Time that interrupts took from them.
    #[row(unit = "ns")]
    pub irq_delay_ns: Option<i64>,
    /// Nice value at the end.
    pub nice: i32,
    /// Scheduling policy at the end: 0 other, 1 fifo, 2 rr, 3 batch, 5 idle, 6 deadline, 7 ext.
    pub policy: i32,
    /// It never called exec: a fork of its parent.
    pub forked_only: bool,
    /// It made use of a privilege.
    pub used_privilege: bool,
    /// Device of its program's file, as the kernel numbers it; 0 for kernel threads.
    pub exe_dev: u64,
    /// Inode of its program's file.
    pub exe_inode: u64,
}

const FAMILY: &str = "TASKSTATS";
const COMMAND_GET: u8 = 1;
const OF_PID: u16 = 1;
const REGISTER_CPUS: u16 = 3;

/// What the socket holds while nobody reads.
const ROOM_BYTES: libc::c_int = 16 << 20;
/// Rows are handed over this often, or when there are [`MOST_ROWS`].
const HAND_OVER_EACH: Duration = Duration::from_millis(200);
const MOST_ROWS: usize = 1024;
const DELIVERY_WITHIN: Duration = Duration::from_secs(2);

pub struct ProcessExitProbe {
    delays: PathBuf,
    possible_cpus: String,
    worker: Worker,
}

impl StreamProbe for ProcessExitProbe {
    type Options = NoOptions;
    type Tables = ProcessExit;
    const NAME: &'static str = "process_exit";
    const DOC: &'static str = "The end of every process, from the kernel's taskstats.";
    const DEFAULT_ON: bool = true;

    fn open(context: &Context, _options: NoOptions) -> Result<Self> {
        if !context.live() {
            return Err(ProbeError::unsupported(
                "taskstats tell of the kernel that runs, and --proc names another's tree",
            ));
        }
        let (_, family) = connect()?;
        check_kernel(family)?;
        let possible_cpus = read::text(&context.sys_dir().join("devices/system/cpu/possible"))?;
        let possible_cpus = possible_cpus.trim().to_owned();
        check_delivery(&possible_cpus)?;
        Ok(ProcessExitProbe {
            delays: context.proc_dir().join("sys/kernel/task_delayacct"),
            possible_cpus,
            worker: Worker::default(),
        })
    }

    fn start(&mut self, emitter: Emitter) -> Result<()> {
        let (socket, family) = listen_on(&self.possible_cpus)?;
        let mut listener = Listener {
            socket,
            family,
            emitter,
            groups: Groups::new(read::switch(&self.delays) == Some(true)),
            rows: Vec::new(),
            sound_ns: Timestamp::now().0,
            losses: Losses::default(),
        };
        self.worker = Worker::spawn(Self::NAME, move |stopping| {
            let ended = listener.listen(stopping);
            if let Err(e) = &ended {
                let context = listener.emitter.context();
                context.log(
                    Level::Error,
                    &format!("no ends of processes are recorded any more: {e}"),
                );
            }
            ended
        })?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.worker.stop()
    }
}

fn connect() -> Result<(Socket, u16)> {
    let about = |e: io::Error| ProbeError::from(e).about("generic netlink");
    let socket = Socket::open().map_err(about)?;
    let family = socket.family(FAMILY).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ProbeError::unsupported("this kernel was built without CONFIG_TASKSTATS"),
        _ => about(e),
    })?;
    Ok((socket, family))
}

fn refused(error: io::Error) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            ProbeError::denied("taskstats need the capability CAP_NET_ADMIN in the initial user namespace")
        }
        Some(libc::EINVAL) => ProbeError::unsupported(
            "taskstats go to the host's own namespaces only, and the daemon is in a PID or user namespace of a container",
        ),
        _ => ProbeError::from(error).about("taskstats"),
    }
}

/// Asks for one's own figures: that needs the same privilege as listening, and tells the version.
fn check_kernel(family: u16) -> Result<()> {
    let socket = Socket::open()?;
    let answer = socket
        .request(family, COMMAND_GET, OF_PID, &std::process::id().to_ne_bytes())
        .map_err(refused)?;
    match taskstats::struct_of_thread(&answer).and_then(taskstats::version) {
        Some(version) if version >= FIRST_VERSION => Ok(()),
        Some(version) => Err(ProbeError::unsupported(format!(
            "this kernel's taskstats are of version {version}, which does not tell threads from processes: version \
             {FIRST_VERSION} (Linux 5.18) is needed"
        ))),
        None => Err(ProbeError::failed("taskstats: the kernel's answer has no figures")),
    }
}

/// A socket that gets the ends of all threads from now on.
fn listen_on(possible_cpus: &str) -> Result<(Socket, u16)> {
    let (socket, family) = connect()?;
    socket.set_room(ROOM_BYTES);
    let cpus = [possible_cpus.as_bytes(), b"\0"].concat();
    socket
        .request(family, COMMAND_GET, REGISTER_CPUS, &cpus)
        .map_err(refused)?;
    Ok((socket, family))
}

/// Lets a thread end and waits for the word of it. The kernel takes listeners from every network namespace, but sends in
/// that of the host alone, and says nothing of it.
fn check_delivery(possible_cpus: &str) -> Result<()> {
    let (socket, family) = listen_on(possible_cpus)?;
    let thread = std::thread::Builder::new().spawn(|| ())?;
    // Nothing in it can panic, and its end is all that is wanted of it.
    let _ = thread.join();
    let (own, until) = (std::process::id(), Instant::now() + DELIVERY_WITHIN);
    let mut buffer = vec![0; LONGEST];
    while Instant::now() < until {
        wait(&socket, HAND_OVER_EACH)?;
        while let Some(length) = socket.receive(&mut buffer)? {
            let mut ends = messages(&buffer[..length]).filter(|(kind, _)| *kind == family);
            let is_ours = |exit: Exit| exit.thread.tgid == own;
            if ends.any(|(_, body)| Exit::decode(family_attributes(body)).is_some_and(is_ours)) {
                return Ok(());
            }
        }
    }
    Err(ProbeError::unsupported(
        "taskstats do not arrive: they go to the host's own network namespace only, and the daemon seems to be in another",
    ))
}

/// Until there is something to read, but no longer than this.
fn wait(socket: &Socket, time: Duration) -> Result<()> {
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    // Rounded up: a wait of 0 ms would be no wait.
    let timeout = u16::try_from(time.as_millis() + 1).unwrap_or(u16::MAX);
    match poll(&mut ready, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(e) => Err(ProbeError::from(io::Error::from(e)).about("taskstats")),
    }
}

struct Listener {
    socket: Socket,
    family: u16,
    emitter: Emitter,
    groups: Groups,
    rows: Vec<ProcessExit>,
    /// When the socket was last read to its end: nothing before that is missing.
    sound_ns: i64,
    losses: Losses,
}

/// What the host has not been told of yet.
#[derive(Default)]
struct Losses {
    /// Messages overflowed the socket, at some time after this.
    overflow_since_ns: Option<i64>,
    /// Rows that the host would not take, and the time of the first of them.
    refused: u64,
    refused_since_ns: i64,
}

impl Listener {
    fn listen(&mut self, stopping: &Stopping) -> Result<()> {
        let mut buffer = vec![0; LONGEST];
        let mut hand_over_at = Instant::now() + HAND_OVER_EACH;
        while !stopping.is_set() {
            wait(&self.socket, hand_over_at.saturating_duration_since(Instant::now()))?;
            self.drain(&mut buffer)?;
            if Instant::now() >= hand_over_at {
                self.hand_over();
                hand_over_at = Instant::now() + HAND_OVER_EACH;
            }
        }
        self.drain(&mut buffer)?;
        self.hand_over();
        Ok(())
    }

    fn drain(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.socket.receive(buffer) {
                Ok(Some(length)) => self.take(&buffer[..length]),
                Ok(None) => break,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.groups.forget();
                    self.losses.overflow_since_ns.get_or_insert(self.sound_ns);
                }
                Err(e) => return Err(ProbeError::from(e).about("taskstats")),
            }
            if self.rows.len() >= MOST_ROWS {
                self.hand_over();
            }
        }
        self.sound_ns = Timestamp::now().0;
        Ok(())
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = Timestamp::now();
        for (kind, body) in messages(datagram) {
            if kind == self.family
                && let Some(exit) = Exit::decode(family_attributes(body))
            {
                self.rows.extend(self.groups.take(&exit, now));
            }
        }
    }

    /// A host that is too busy does not take rows: they are counted, and it is told when it takes some again.
    fn hand_over(&mut self) {
        let now_ns = Timestamp::now().0;
        let first_ns = self.rows.first().map_or(now_ns, |row| row.time.0);
        let count = self.rows.len() as u64;
        let mut out = self.emitter.out();
        out.events(std::mem::take(&mut self.rows));
        if let Some(since_ns) = self.losses.overflow_since_ns {
            out.lost::<ProcessExit>(0, since_ns, now_ns, "dropped");
        }
        if self.losses.refused > 0 {
            out.lost::<ProcessExit>(self.losses.refused, self.losses.refused_since_ns, now_ns, "dropped");
        }
        if out.is_empty() {
            return;
        }
        if self.emitter.send(out).is_ok() {
            self.losses = Losses::default();
        } else if count > 0 {
            if self.losses.refused == 0 {
                self.losses.refused_since_ns = first_ns;
            }
            self.losses.refused += count;
        }
    }
}
