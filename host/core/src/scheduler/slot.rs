//! One instance under the scheduler: what it is to do, what it is doing, and what became of it so far.
//!
//! Pure state: no locks, no clocks, no calls. [`Slot::step`] says what is to be done now, the `…ed` methods take in what was done.
//!
//! **Invariants:** at most one call into a probe at a time. Due times are multiples of the interval since the epoch. Every tick
//! either has a run or is counted as missed.

use super::task::{Done, OpenProbe, Resolved, Task};
use crate::clock::next_multiple;
use crate::instances::Spec;
use crate::rows::Gap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use vwatch_loader::{Fault, FaultKind, Mode};
use vwatch_model::unit::format_duration;
use vwatch_store::InstanceId;

const SECOND_NS: i64 = 1_000_000_000;
/// What a kernel or a privilege lacks does not come back soon.
const RETRY_NS: i64 = 600 * SECOND_NS;
const MAX_BACKOFF_NS: i64 = 300 * SECOND_NS;
const MAX_PANICS: u32 = 3;
const MAX_FAILURES: u32 = 20;

/// What an instance is to be.
#[derive(Clone)]
pub enum Target {
    Run(Arc<Resolved>),
    /// Its plugin is not loaded, or has no such probe.
    Waiting(String),
    /// Its settings are wrong.
    Refused(String),
}

/// How an instance fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Starting,
    Running,
    Backoff(String),
    Unsupported(String),
    Denied(String),
    /// Given up until its plugin is replaced, its settings change, or it is added again.
    Quarantined {
        reason: String,
        since_ns: i64,
    },
    Refused(String),
}

/// A call that is under way.
pub struct Busy {
    pub token: u64,
    /// Set when the call is given up.
    pub abandoned: Arc<AtomicBool>,
    pub since: Instant,
    pub since_ns: i64,
    pub what: &'static str,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub runs: u64,
    pub failures: u64,
    pub missed: u64,
    pub rows: u64,
    pub cpu_ns_mean: Option<f64>,
    pub last_run_ns: Option<i64>,
    pub last_rows: Option<u64>,
}

/// Ticks without a run, since the last one that had one.
#[derive(Debug, Clone, Copy)]
struct Missed {
    first_ns: i64,
    count: i64,
}

pub struct Slot {
    pub id: u64,
    pub spec: Spec,
    pub target: Target,
    pub condition: Condition,
    pub counts: Counts,
    pub store_instance: Option<InstanceId>,
    pub busy: Option<Busy>,
    /// Calls begun so far.
    pub tokens: u64,
    open: Option<OpenProbe>,
    /// What it is open on, or being opened on: whose rows are taken.
    pub current: Option<Arc<Resolved>>,
    /// To be closed and taken off the board.
    pub ending: bool,
    /// To be closed, and opened again on its target.
    reopen: bool,
    next_due_ns: i64,
    /// Factor on the interval, from `max_cpu`.
    stretch: i64,
    failures_in_row: u32,
    panics_in_row: u32,
    need_full: bool,
    sequence: u64,
    missed: Option<Missed>,
}

/// What is to be done with a slot now.
pub enum Step {
    Nothing,
    Begin(Task),
    /// The call under way has taken too long.
    GiveUp,
    Remove,
}

impl Slot {
    pub fn new(id: u64, spec: Spec, target: Target) -> Slot {
        Slot {
            id,
            spec,
            target,
            condition: Condition::Starting,
            counts: Counts::default(),
            store_instance: None,
            busy: None,
            tokens: 0,
            open: None,
            current: None,
            ending: false,
            reopen: false,
            next_due_ns: 0,
            stretch: 1,
            failures_in_row: 0,
            panics_in_row: 0,
            need_full: true,
            sequence: 0,
            missed: None,
        }
    }

    /// The interval in force; None for a streaming or unknown probe.
    pub fn interval_ns(&self) -> Option<i64> {
        match &self.target {
            Target::Run(resolved) if resolved.mode == Mode::Poll => Some(self.interval_of(resolved)),
            _ => None,
        }
    }

    fn interval_of(&self, resolved: &Resolved) -> i64 {
        let base = i64::try_from(resolved.every.as_nanos()).unwrap_or(i64::MAX).max(1);
        base.saturating_mul(self.stretch)
    }

    /// How long a call may take.
    pub fn limit(&self, least: Duration) -> Duration {
        let intervals = self.interval_ns().unwrap_or(0).saturating_mul(10);
        least.max(Duration::from_nanos(u64::try_from(intervals).unwrap_or(0)))
    }

    pub fn state_word(&self) -> &'static str {
        match (&self.target, &self.condition) {
            (Target::Waiting(_), _) => "waiting",
            (Target::Refused(_), _) | (_, Condition::Refused(_)) => "refused",
            (_, Condition::Starting) => "starting",
            (_, Condition::Running) => "running",
            (_, Condition::Backoff(_)) => "backoff",
            (_, Condition::Unsupported(_)) => "unsupported",
            (_, Condition::Denied(_)) => "denied",
            (_, Condition::Quarantined { .. }) => "quarantined",
        }
    }

    pub fn reason(&self) -> Option<String> {
        match (&self.target, &self.condition) {
            (Target::Waiting(why) | Target::Refused(why), _) => Some(why.clone()),
            (
                _,
                Condition::Backoff(why)
                | Condition::Unsupported(why)
                | Condition::Denied(why)
                | Condition::Refused(why)
                | Condition::Quarantined { reason: why, .. },
            ) => Some(why.clone()),
            (Target::Run(resolved), _) if self.stretch > 1 => Some(format!(
                "stretched from {}: a run costs {:.1} ms of CPU time, max_cpu allows {}%",
                format_duration(resolved.every),
                self.counts.cpu_ns_mean.unwrap_or(0.0) / 1e6,
                self.spec.max_cpu.unwrap_or(0.0) * 100.0,
            )),
            _ => None,
        }
    }

    /// The copy of its plugin that it is open on, or that is being called.
    pub fn open_copy(&self) -> Option<u64> {
        let in_use = self.open.is_some() || self.busy.is_some();
        self.current
            .as_ref()
            .filter(|_| in_use)
            .map(|resolved| resolved.plugin.copy)
    }

    /// Gives the slot other settings or another copy of its plugin. Answers a gap that ends with that.
    pub fn retarget(&mut self, spec: Spec, target: Target, now_ns: i64) -> Option<Gap> {
        let same_copy = match (&self.target, &target) {
            (Target::Run(a), Target::Run(b)) => a.plugin.copy == b.plugin.copy,
            (Target::Waiting(a), Target::Waiting(b)) | (Target::Refused(a), Target::Refused(b)) => a == b,
            _ => false,
        };
        let keep = same_copy && self.spec.runs_like(&spec) && !self.ending;
        self.ending = false;
        self.spec = spec;
        if keep {
            return None;
        }
        self.target = target;
        self.reopen = true;
        let gap = self.quarantine_gap(now_ns);
        self.condition = Condition::Starting;
        (self.failures_in_row, self.panics_in_row, self.stretch) = (0, 0, 1);
        self.next_due_ns = 0;
        self.need_full = true;
        gap
    }

    /// What is to be done at `now_ns`, wall clock.
    pub fn step(&mut self, now_ns: i64, limit: Duration) -> Step {
        if let Some(busy) = &self.busy {
            return if busy.since.elapsed() > self.limit(limit) {
                Step::GiveUp
            } else {
                Step::Nothing
            };
        }
        if self.spec.until_ns.is_some_and(|until| until <= now_ns) {
            self.ending = true;
        }
        if self.ending || self.reopen {
            if let Some(open) = self.open.take() {
                return Step::Begin(Task::Stop(open));
            }
            if self.ending {
                return Step::Remove;
            }
            self.reopen = false;
        }
        let Target::Run(resolved) = &self.target else {
            return Step::Nothing;
        };
        let resting = matches!(self.condition, Condition::Quarantined { .. } | Condition::Refused(_));
        if resting || now_ns < self.next_due_ns {
            return Step::Nothing;
        }
        match self.open.take() {
            None => {
                self.current = Some(resolved.clone());
                Step::Begin(Task::Open(resolved.clone()))
            }
            Some(open) if open.resolved.mode == Mode::Stream => {
                self.open = Some(open);
                Step::Nothing
            }
            Some(open) => Step::Begin(self.run(open, now_ns)),
        }
    }

    /// The run of the tick that is due; ticks that passed unseen are missed.
    fn run(&mut self, open: OpenProbe, now_ns: i64) -> Task {
        let interval_ns = self.interval_of(&open.resolved);
        let passed = (now_ns - self.next_due_ns) / interval_ns;
        if passed > 0 {
            self.miss(self.next_due_ns, passed);
            self.next_due_ns += passed * interval_ns;
        }
        let due_ns = self.next_due_ns;
        self.next_due_ns = next_multiple(now_ns, interval_ns);
        self.sequence += 1;
        Task::Run {
            open,
            due_ns,
            interval_ns: interval_ns as u64,
            sequence: self.sequence - 1,
            full: std::mem::take(&mut self.need_full),
        }
    }

    fn miss(&mut self, first_ns: i64, count: i64) {
        self.counts.missed += count as u64;
        let missed = self.missed.get_or_insert(Missed { first_ns, count: 0 });
        missed.count += count;
    }

    /// When the scheduler has something to do with it, wall clock; in the past: now.
    pub fn next_step_ns(&self) -> i64 {
        if self.ending || self.reopen {
            0
        } else {
            self.next_due_ns
        }
    }

    /// When [`Slot::step`] is to be asked again; None when nothing will happen by itself.
    pub fn wake(&self, limit: Duration) -> Option<Wake> {
        if let Some(busy) = &self.busy {
            return Some(Wake::At(busy.since + self.limit(limit)));
        }
        let until = self.spec.until_ns;
        let resting = matches!(self.condition, Condition::Quarantined { .. } | Condition::Refused(_));
        let streaming = self
            .open
            .as_ref()
            .is_some_and(|open| open.resolved.mode == Mode::Stream);
        let due = match &self.target {
            Target::Run(_) if !resting && !streaming => Some(self.next_due_ns),
            _ => None,
        };
        match (due, until) {
            (Some(a), Some(b)) => Some(Wake::Wall(a.min(b))),
            (a, b) => a.or(b).map(Wake::Wall),
        }
    }

    /// The gap of missed ticks, closed by a run or an end at `until_ns`.
    pub fn missed_gap(&mut self, until_ns: i64) -> Option<Gap> {
        let missed = self.missed.take()?;
        Some(Gap {
            from_ns: missed.first_ns,
            until_ns: until_ns.max(missed.first_ns),
            instance: Some(self.spec.name.clone()),
            cause: "missed_tick".into(),
            lost: Some(missed.count),
            message: Some(match missed.count {
                1 => "one tick passed while the run before was under way".to_owned(),
                n => format!("{n} ticks passed without a run"),
            }),
            ..Gap::default()
        })
    }

    /// The gap of a quarantine that ends at `until_ns`.
    pub fn quarantine_gap(&mut self, until_ns: i64) -> Option<Gap> {
        let Condition::Quarantined { reason, since_ns } = &self.condition else {
            return None;
        };
        Some(Gap {
            from_ns: *since_ns,
            until_ns: until_ns.max(*since_ns),
            instance: Some(self.spec.name.clone()),
            cause: "quarantined".into(),
            message: Some(reason.clone()),
            ..Gap::default()
        })
    }

    /// The call under way is given up. Answers the gap that this begins.
    pub fn gave_up(&mut self, now_ns: i64, limit: Duration) -> Option<Gap> {
        let busy = self.busy.take()?;
        self.current = None;
        if self.ending || self.reopen {
            // It was to be closed anyway.
            return None;
        }
        let reason = format!(
            "{} did not return within {}",
            busy.what,
            format_duration(self.limit(limit))
        );
        Some(self.quarantine(reason, busy.since_ns, now_ns))
    }

    fn quarantine(&mut self, reason: String, from_ns: i64, now_ns: i64) -> Gap {
        tracing::warn!("instance {} is quarantined: {reason}", self.spec.name);
        let interval_ns = self.interval_ns().unwrap_or(0);
        let ticks = if interval_ns > 0 {
            (now_ns - from_ns) / interval_ns
        } else {
            0
        };
        let before = self.missed.take();
        let first_ns = before.map_or(from_ns, |m| m.first_ns);
        self.counts.missed += ticks.max(0) as u64;
        self.condition = Condition::Quarantined {
            reason: reason.clone(),
            since_ns: now_ns,
        };
        Gap {
            from_ns: first_ns,
            until_ns: now_ns.max(first_ns),
            instance: Some(self.spec.name.clone()),
            cause: "quarantined".into(),
            lost: Some(ticks.max(0) + before.map_or(0, |m| m.count)),
            message: Some(format!("{reason}; there are no rows from then on")),
            ..Gap::default()
        }
    }

    /// Takes in what a call did. Answers gaps to record.
    pub fn done(&mut self, done: Done, now_ns: i64) -> Vec<Gap> {
        let since_ns = self.busy.take().map_or(now_ns, |busy| busy.since_ns);
        let mut gaps = Vec::new();
        match done {
            Done::Stopped => self.current = None,
            Done::Opened(Ok(open)) => {
                // The first run is at the next second (or sooner), not an hour from now.
                self.next_due_ns = next_multiple(now_ns, self.interval_of(&open.resolved).min(SECOND_NS));
                self.sequence = 0;
                self.need_full = true;
                self.condition = Condition::Running;
                if open.resolved.mode == Mode::Stream {
                    (self.failures_in_row, self.panics_in_row) = (0, 0);
                }
                self.open = Some(open);
            }
            Done::Opened(Err(fault)) => gaps.extend(self.failed(&fault, since_ns, now_ns)),
            Done::Ran { open, run, fault } => {
                gaps.extend(self.ran(open, &run, now_ns));
                match fault {
                    Some(fault) if fault.kind != FaultKind::NoData => {
                        gaps.extend(self.failed(&fault, since_ns, now_ns));
                    }
                    _ => {
                        (self.failures_in_row, self.panics_in_row) = (0, 0);
                        self.condition = Condition::Running;
                        self.need_full |= run.dropped;
                    }
                }
            }
        }
        gaps
    }

    fn ran(&mut self, open: OpenProbe, run: &super::task::Run, now_ns: i64) -> Option<Gap> {
        let gap = self.missed_gap(run.time_ns);
        self.counts.runs += 1;
        self.counts.rows += run.rows;
        self.counts.last_run_ns = Some(run.time_ns);
        self.counts.last_rows = Some(run.rows);
        let mean = self.counts.cpu_ns_mean.get_or_insert(run.cpu_ns as f64);
        *mean += (run.cpu_ns as f64 - *mean) / 8.0;
        self.stretch_to(&open.resolved, now_ns);
        let interval_ns = self.interval_of(&open.resolved);
        if now_ns >= self.next_due_ns {
            let passed = (now_ns - self.next_due_ns) / interval_ns + 1;
            self.miss(self.next_due_ns, passed);
            self.next_due_ns += passed * interval_ns;
        }
        self.open = Some(open);
        gap
    }

    /// Stretches the interval to keep the mean run within `max_cpu`; back once runs are cheaper by a good part.
    fn stretch_to(&mut self, resolved: &Resolved, now_ns: i64) {
        let (Some(max_cpu), Some(mean)) = (self.spec.max_cpu, self.counts.cpu_ns_mean) else {
            return;
        };
        let needed = mean / (max_cpu * resolved.every.as_nanos() as f64);
        let wanted = if needed.is_finite() {
            needed.ceil().clamp(1.0, 10_000.0) as i64
        } else {
            1
        };
        if wanted > self.stretch || (wanted < self.stretch && needed < 0.8 * (self.stretch - 1) as f64) {
            self.stretch = wanted;
            self.next_due_ns = next_multiple(now_ns, self.interval_of(resolved));
        }
    }

    fn failed(&mut self, fault: &Fault, since_ns: i64, now_ns: i64) -> Option<Gap> {
        self.need_full = true;
        let why = fault.message.clone();
        match fault.kind {
            FaultKind::Unsupported | FaultKind::Denied => {
                self.condition = match fault.kind {
                    FaultKind::Denied => Condition::Denied(why),
                    _ => Condition::Unsupported(why),
                };
                let pause_ns = self.interval_ns().unwrap_or(0).max(RETRY_NS);
                self.next_due_ns = next_multiple(now_ns, pause_ns);
                return None;
            }
            FaultKind::BadInput if self.open.is_none() => {
                self.condition = Condition::Refused(why);
                return None;
            }
            _ => {}
        }
        self.counts.failures += 1;
        self.failures_in_row += 1;
        self.panics_in_row = if fault.kind == FaultKind::Panicked {
            self.panics_in_row + 1
        } else {
            0
        };
        if self.panics_in_row >= MAX_PANICS || self.failures_in_row >= MAX_FAILURES {
            let (times, how) = match self.panics_in_row {
                MAX_PANICS.. => (self.panics_in_row, "panicked"),
                _ => (self.failures_in_row, "failed"),
            };
            return Some(self.quarantine(format!("{how} {times} times in a row: {why}"), since_ns, now_ns));
        }
        let interval_ns = self.interval_ns().unwrap_or(SECOND_NS);
        let pause_ns = interval_ns.saturating_mul(1 << (self.failures_in_row - 1).min(20));
        let pause_ns = pause_ns.min(MAX_BACKOFF_NS.max(interval_ns));
        self.next_due_ns = next_multiple(now_ns + pause_ns - interval_ns.min(pause_ns), interval_ns);
        self.condition = Condition::Backoff(why);
        None
    }

    /// Rows came from a streaming probe.
    pub fn emitted(&mut self, rows: u64, now_ns: i64) {
        self.counts.rows += rows;
        self.counts.last_run_ns = Some(now_ns);
        self.counts.last_rows = Some(rows);
    }

    /// The wall clock was set, or the machine slept: due times are taken anew, without missed ticks.
    pub fn realign(&mut self, now_ns: i64) {
        if let Some(interval_ns) = self.interval_ns()
            && self.next_due_ns != 0
        {
            self.next_due_ns = next_multiple(now_ns, interval_ns);
        }
    }
}

/// When a slot is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    At(Instant),
    Wall(i64),
}
