//! The clocks: stamps of samples, CPU time of a thread, and what happens to the wall clock.
//!
//! `CLOCK_REALTIME` may be set; `CLOCK_BOOTTIME` runs on in suspend, `CLOCK_MONOTONIC` does not (clock_gettime(2)). So a change
//! of wall − boot is a step of the wall clock, and a growth of boot − monotonic is a suspend. Reading a clock costs some 25 ns
//! (vDSO), the thread's CPU clock a system call.

use nix::time::{ClockId, clock_gettime};
use vwatch_model::time::Stamp;

/// Differences between clocks below this are adjustment (NTP slews at most 0.5 ms a second) and reading noise.
const STEP_NS: i64 = 100_000_000;

fn read(clock: ClockId) -> i64 {
    // The clocks that are asked for exist on every kernel that vwatchd runs on; 0 is what the kernel would have to answer.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}

/// Now, on both clocks.
pub fn now() -> Stamp {
    Stamp {
        wall_ns: read(ClockId::CLOCK_REALTIME),
        boot_ns: read(ClockId::CLOCK_BOOTTIME),
    }
}

/// CPU time of the calling thread, user and system.
pub fn thread_cpu_ns() -> i64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process, user and system.
pub fn process_cpu_ns() -> i64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// The kernel's id of this boot; empty where /proc does not tell.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// The first multiple of `interval_ns` since the epoch that is after `now_ns`.
pub fn next_multiple(now_ns: i64, interval_ns: i64) -> i64 {
    (now_ns.div_euclid(interval_ns) + 1) * interval_ns
}

/// All three clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub stamp: Stamp,
    pub monotonic_ns: i64,
}

impl Reading {
    pub fn take() -> Reading {
        Reading {
            stamp: now(),
            monotonic_ns: read(ClockId::CLOCK_MONOTONIC),
        }
    }
}

/// What happened between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    /// The wall clock was set, by `by_ns`: it would have shown `expected_ns` and shows `now_ns`.
    Stepped { by_ns: i64, expected_ns: i64, now_ns: i64 },
    /// The machine slept from about `from_ns` to `until_ns` (wall clock).
    Suspended { from_ns: i64, until_ns: i64 },
}

/// Compares each reading with the one before.
#[derive(Debug)]
pub struct ClockWatch {
    last: Reading,
}

impl ClockWatch {
    pub fn new(first: Reading) -> Self {
        ClockWatch { last: first }
    }

    pub fn look(&mut self, now: Reading) -> Vec<ClockChange> {
        let before = std::mem::replace(&mut self.last, now);
        let boot_ns = now.stamp.boot_ns - before.stamp.boot_ns;
        let mut changes = Vec::new();
        if boot_ns - (now.monotonic_ns - before.monotonic_ns) > STEP_NS {
            changes.push(ClockChange::Suspended {
                from_ns: before.stamp.wall_ns,
                until_ns: now.stamp.wall_ns,
            });
        }
        let expected_ns = before.stamp.wall_ns + boot_ns;
        let by_ns = now.stamp.wall_ns - expected_ns;
        if by_ns.abs() > STEP_NS {
            changes.push(ClockChange::Stepped {
                by_ns,
                expected_ns,
                now_ns: now.stamp.wall_ns,
            });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn reading(wall: i64, boot: i64, monotonic: i64) -> Reading {
        Reading {
            stamp: Stamp {
                wall_ns: wall,
                boot_ns: boot,
            },
            monotonic_ns: monotonic,
        }
    }

    #[test]
    fn steps_and_suspends_are_told_apart() {
        let mut watch = ClockWatch::new(reading(1000 * S, 10 * S, 10 * S));
        assert_eq!(watch.look(reading(1001 * S, 11 * S, 11 * S)), []);
        // NTP slews: 5 ms in ten seconds are no step, however long it goes on.
        for i in 1..=100 {
            let slewed = reading(
                (1001 + 10 * i) * S + i * 5_000_000,
                (11 + 10 * i) * S,
                (11 + 10 * i) * S,
            );
            assert_eq!(watch.look(slewed), []);
        }
        let mut watch = ClockWatch::new(reading(1000 * S, 10 * S, 10 * S));
        let back = watch.look(reading(500 * S, 11 * S, 11 * S));
        assert_eq!(
            back,
            [ClockChange::Stepped {
                by_ns: -501 * S,
                expected_ns: 1001 * S,
                now_ns: 500 * S
            }]
        );
        let slept = watch.look(reading(560 * S, 71 * S, 12 * S));
        assert_eq!(
            slept,
            [ClockChange::Suspended {
                from_ns: 500 * S,
                until_ns: 560 * S
            }]
        );
    }

    #[test]
    fn ticks_are_multiples_of_the_interval() {
        assert_eq!(next_multiple(10 * S + 1, S), 11 * S);
        assert_eq!(next_multiple(11 * S, S), 12 * S);
        assert_eq!(next_multiple(-1, S), 0);
        assert_eq!(next_multiple(3 * S + 260_000_000, S / 4), 3 * S + 500_000_000);
    }

    #[test]
    fn the_clocks_run() {
        let (a, b) = (Reading::take(), Reading::take());
        assert!(b.stamp.boot_ns >= a.stamp.boot_ns && a.stamp.boot_ns > 0 && a.stamp.wall_ns > 0);
        assert_eq!(boot_id().len(), 36);
    }
}
