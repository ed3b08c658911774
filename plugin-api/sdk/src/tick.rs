//! The occasion of one run.

use std::time::Duration;
use vwatch_abi::v1;

/// Why and when a probe runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Wall clock when the run began, ns since the epoch: the `time` of the rows.
    pub time_ns: i64,
    /// `CLOCK_BOOTTIME` at the same moment.
    pub boottime_ns: i64,
    /// Wall clock time at which the run was due.
    pub due_ns: i64,
    /// The instance's interval.
    pub interval: Duration,
    /// Runs of this instance before this one.
    pub sequence: u64,
    /// The host needs a full picture: a delta will not do.
    pub full: bool,
}

impl From<v1::Tick> for Tick {
    fn from(tick: v1::Tick) -> Self {
        Tick {
            time_ns: tick.time_ns,
            boottime_ns: tick.boottime_ns,
            due_ns: tick.due_ns,
            interval: Duration::from_nanos(tick.interval_ns),
            sequence: tick.sequence,
            full: tick.full,
        }
    }
}

impl From<Tick> for v1::Tick {
    fn from(tick: Tick) -> Self {
        v1::Tick {
            time_ns: tick.time_ns,
            boottime_ns: tick.boottime_ns,
            due_ns: tick.due_ns,
            interval_ns: u64::try_from(tick.interval.as_nanos()).unwrap_or(u64::MAX),
            sequence: tick.sequence,
            full: tick.full,
        }
    }
}
