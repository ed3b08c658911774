//! What a piece of work costs this process: CPU time (`CLOCK_PROCESS_CPUTIME_ID`) and wall time, and a scheduling group of
//! its own, so that other people's work on the machine does not share this one's slices (sched(7), autogroup).

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use std::time::Instant;

#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub cpu_ns: f64,
    pub wall_ns: f64,
}

impl Cost {
    pub fn add(&mut self, other: Cost) {
        self.cpu_ns += other.cpu_ns;
        self.wall_ns += other.wall_ns;
    }
}

pub fn cpu_ns() -> f64 {
    // Every kernel has this clock; a host without it measures nothing.
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0.0, |t| t.tv_sec() as f64 * 1e9 + t.tv_nsec() as f64)
}

/// Does `work` and says what it cost.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (wall, cpu) = (Instant::now(), cpu_ns());
    let done = work();
    let cost = Cost {
        cpu_ns: cpu_ns() - cpu,
        wall_ns: wall.elapsed().as_nanos() as f64,
    };
    (done, cost)
}

/// A session, and with it a scheduling group, of this process's own; it still ends with whoever started it.
pub fn own_group() {
    // A leader of a process group (started from a shell by hand) has a group already.
    let _ = nix::unistd::setsid();
    let _ = set_pdeathsig(Signal::SIGTERM);
}
