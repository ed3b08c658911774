//! When the host was booted, to the nanosecond and the same over all samples: what start times are counted from.
//!
//! The kernel knows when a process was started in ticks since boot only. The wall clock at boot, "now less the time since
//! boot", moves with every adjustment of the clock, and with it would every start time. So it is taken once per boot and
//! kept in the plugin's durable state; it is taken anew when the clock has been set by more than [`STEP_NS`] (a host whose
//! clock was wrong until it heard from a time server). Identity is the tick and not the time: such a correction
//! changes `start_time` of all processes and makes none of them another.

use crate::read;
use std::path::Path;
use vwatch_sdk::prelude::*;

const STATE_KEY: &str = "boot";
const STEP_NS: i64 = 1_000_000_000;
const NS_PER_S: i64 = 1_000_000_000;

pub struct Origin {
    boot_id: String,
    boot_ns: i64,
    /// It is in the durable state.
    stored: bool,
    /// The clocks of the ticks are those of the host whose processes are read.
    live: bool,
}

impl Origin {
    pub fn open(context: &Context) -> Result<Self> {
        let boot_id = read::value(&context.proc_dir().join("sys/kernel/random/boot_id")).unwrap_or_default();
        let kept = if context.live() {
            context.state(STATE_KEY)?
        } else {
            None
        };
        let kept = kept.and_then(|bytes| parse(&String::from_utf8_lossy(&bytes), &boot_id));
        Ok(Origin {
            boot_ns: match kept {
                Some(ns) => ns,
                None => btime(&context.proc_dir().join("stat"))?,
            },
            stored: kept.is_some(),
            live: context.live(),
            boot_id,
        })
    }

    /// Looks whether the clock has been set. True when start times have to be computed again.
    pub fn follow(&mut self, tick: &Tick, out: &mut Out) -> bool {
        let boot_ns = tick.time_ns.saturating_sub(tick.boottime_ns);
        if !self.live || (self.stored && boot_ns.abs_diff(self.boot_ns) < STEP_NS as u64) {
            return false;
        }
        (self.boot_ns, self.stored) = (boot_ns, true);
        out.put_state(STATE_KEY, format!("{} {boot_ns}", self.boot_id));
        true
    }

    pub fn start_time(&self, start_ticks: i64, ticks_per_second: i64) -> Timestamp {
        let since_boot = read::ticks_ns(start_ticks.max(0) as u64, ticks_per_second);
        Timestamp(self.boot_ns.saturating_add(since_boot))
    }
}

/// `BOOT_ID NS`, if it is of this boot.
fn parse(text: &str, boot_id: &str) -> Option<i64> {
    let (id, ns) = text.split_once(' ')?;
    if id == boot_id { ns.parse().ok() } else { None }
}

/// The kernel's own answer, to the second: for a host that is not live, and until the first tick.
fn btime(path: &Path) -> Result<i64> {
    let text = read::text(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds: i64 = line
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| ProbeError::failed(format!("{}: it has no line `btime`", path.display())))?;
    Ok(seconds.saturating_mul(NS_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_another_boot_does_not_count() {
        assert_eq!(parse("a-b 5", "a-b"), Some(5));
        assert_eq!(parse("a-b 5", "a-c"), None);
        assert_eq!(parse("a-b", "a-b"), None);
        assert_eq!(parse("a-b x", "a-b"), None);
    }
}
