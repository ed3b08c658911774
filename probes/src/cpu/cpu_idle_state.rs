//! How long and how often each CPU was in each idle state, from `/sys/devices/system/cpu/cpuN/cpuidle/stateN` (kernel
//! documentation: `admin-guide/pm/cpuidle`).
//!
//! A kernel without a cpuidle driver, as on most virtual machines, has no states: the probe is unsupported. A CPU
//! that is offline has rows where the kernel keeps its directory. The kernel adds the time of a stay when the stay ends.
//!
//! Cost: six small files for each state of a CPU, 50 us; what a state is, is read once.

use super::{no_such_cpu, only_cpu};
use crate::os::hand_over;
use crate::read::{self, Dir};
use crate::system::cpu_info::cpu_number;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Idle states of each CPU: the deeper one is, the less power it needs and the longer it takes to leave.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "cpu_idle_state", state)]
pub struct CpuIdleState {
    /// `cpu0` …, as in `cpu_time`. Source: `/sys/devices/system/cpu`.
    #[row(key)]
    pub cpu: String,
    /// Number of the state, 0 for the lightest. Source: `stateN` in `cpuN/cpuidle`.
    #[row(key)]
    pub state: i32,
    /// `POLL`, `C1`, `WFI` … Source: `name`.
    pub name: Option<String>,
    /// What it is, in the driver's words. Source: `desc`.
    pub desc: Option<String>,
    /// How long it takes at most to leave the state. Source: `latency`.
    #[row(unit = "ns")]
    pub latency_ns: Option<i64>,
    /// How long a stay has to be to be worth it. Source: `residency`, since Linux 3.15.
    #[row(unit = "ns")]
    pub residency_ns: Option<i64>,
    /// Not to be used: the administrator, or the driver from the start, says so. Source: `disable`, since Linux 3.10.
    pub disabled: Option<bool>,
    /// Times that the CPU was in the state. Source: `usage`.
    #[row(counter)]
    pub usage: i64,
    /// Time in the state. Source: `time`.
    #[row(unit = "ns", counter)]
    pub time_ns: i64,
    /// Stays too short for the state: a lighter one would have been right. Source: `above`, in newer kernels.
    #[row(counter)]
    pub above: Option<i64>,
    /// Stays so long that a deeper state would have been right. Source: `below`, in newer kernels.
    #[row(counter)]
    pub below: Option<i64>,
    /// Requests for the state that failed. Source: `rejected`, in newer kernels.
    #[row(counter)]
    pub rejected: Option<i64>,
}

/// Options of `cpu.cpu_idle_state`.
#[derive(Options)]
pub struct CpuIdleStateOptions {
    /// Only the CPU of this number.
    pub cpu: Option<i64>,
}

pub struct CpuIdleStateProbe {
    cpus: PathBuf,
    only: Option<String>,
    /// What each state of each CPU is.
    kinds: HashMap<(i32, i32), StateKind>,
    last: Vec<CpuIdleState>,
}

impl Probe for CpuIdleStateProbe {
    type Options = CpuIdleStateOptions;
    type Tables = CpuIdleState;
    const NAME: &'static str = "cpu_idle_state";
    const DOC: &'static str = "Time of every CPU in each idle state, from /sys/devices/system/cpu/cpuN/cpuidle";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, options: CpuIdleStateOptions) -> Result<Self> {
        Ok(CpuIdleStateProbe {
            cpus: context.sys_dir().join("devices/system/cpu"),
            only: only_cpu(options.cpu)?,
            kinds: HashMap::new(),
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let mut names = read::names(&self.cpus)?;
        if let Some(only) = &self.only {
            names.retain(|name| name == only);
            if names.is_empty() {
                return Err(no_such_cpu(only));
            }
        }
        let numbers: BTreeSet<i32> = names.iter().filter_map(|name| cpu_number(name)).collect();
        let mut rows = Vec::new();
        let mut kinds = HashMap::new();
        for cpu in numbers {
            let cpuidle = Dir::new(self.cpus.join(format!("cpu{cpu}/cpuidle")));
            let states = cpuidle.names();
            let states = states
                .iter()
                .filter_map(|name| name.strip_prefix("state")?.parse().ok());
            let states: BTreeSet<i32> = states.filter(|state| *state >= 0).collect();
            for state in states {
                let dir = cpuidle.dir(&format!("state{state}"));
                let kind = self
                    .kinds
                    .remove(&(cpu, state))
                    .unwrap_or_else(|| StateKind::read(&dir));
                rows.extend(row(cpu, state, &kind, &dir)?);
                kinds.insert((cpu, state), kind);
            }
        }
        self.kinds = kinds;
        if rows.is_empty() {
            let cpus = self.only.as_deref().unwrap_or("cpuN");
            let dir = self.cpus.join(cpus).join("cpuidle");
            return Err(ProbeError::unsupported(format!("{}: no idle states", dir.display())));
        }
        let same_key = |a: &CpuIdleState, b: &CpuIdleState| a.cpu == b.cpu && a.state == b.state;
        hand_over(rows, &mut self.last, same_key, tick, out);
        Ok(())
    }
}

struct StateKind {
    name: Option<String>,
    desc: Option<String>,
    latency_ns: Option<i64>,
    residency_ns: Option<i64>,
}

impl StateKind {
    fn read(state: &Dir) -> Self {
        let us = |name: &str| state.quantity(name).map(|us| us.saturating_mul(1000));
        StateKind {
            name: state.value("name"),
            desc: state.value("desc"),
            latency_ns: us("latency"),
            residency_ns: us("residency"),
        }
    }
}

/// None where the state has just gone.
fn row(cpu: i32, state: i32, kind: &StateKind, dir: &Dir) -> Result<Option<CpuIdleState>> {
    let (Some(usage), Some(time_us)) = (count(dir, "usage")?, count(dir, "time")?) else {
        return Ok(None);
    };
    Ok(Some(CpuIdleState {
        cpu: format!("cpu{cpu}"),
        state,
        name: kind.name.clone(),
        desc: kind.desc.clone(),
        latency_ns: kind.latency_ns,
        residency_ns: kind.residency_ns,
        disabled: dir.switch("disable"),
        usage: read::wrap(usage),
        time_ns: read::wrap(time_us.wrapping_mul(1000)),
        above: count(dir, "above")?.map(read::wrap),
        below: count(dir, "below")?.map(read::wrap),
        rejected: count(dir, "rejected")?.map(read::wrap),
    }))
}

/// The count in a file; none where there is no such file.
fn count(dir: &Dir, name: &str) -> Result<Option<u64>> {
    let Some(value) = dir.value(name) else { return Ok(None) };
    let path = dir.path().join(name);
    let parsed = value.parse();
    parsed
        .map(Some)
        .map_err(|_| ProbeError::failed(format!("{}: {value:.40} is not a count", path.display())))
}
