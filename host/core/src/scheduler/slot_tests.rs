//! The slot's decisions, with made-up clocks.

use super::slot::{Condition, Slot, Step, Target};
use super::task::{Done, LoadedPlugin, OpenProbe, Resolved, Run, Task};
use crate::calls::{PluginCalls, ProbeCalls};
use crate::instances::Spec;
use crate::plugins::Opener;
use crate::testing::FakeOpener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vwatch_config::ProbeSection;
use vwatch_loader::{Commit, Fault, FaultKind, Mode, Tick};

const S: i64 = 1_000_000_000;
const LIMIT: Duration = Duration::from_secs(10);

struct Idle;

impl ProbeCalls for Idle {
    fn run(&mut self, _: Tick) -> Result<Commit, Fault> {
        Ok(Commit::default())
    }

    fn start(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn stop(&mut self) -> Result<Commit, Fault> {
        Ok(Commit::default())
    }
}

fn target(copy: u64) -> Target {
    let host = crate::testing::Bench::new();
    let services = host.load("a.so", "fake").unwrap().host.lock().unwrap().clone().unwrap();
    let calls: Arc<dyn PluginCalls> = FakeOpener::default().open(Path::new("a"), services).unwrap();
    host.end();
    Target::Run(Arc::new(Resolved {
        plugin: Arc::new(LoadedPlugin {
            name: "fake".into(),
            copy,
            calls,
            tables: Vec::new(),
        }),
        probe: "good".into(),
        mode: Mode::Poll,
        every: Duration::from_secs(1),
        options: Default::default(),
        tables: Vec::new(),
    }))
}

fn slot(max_cpu: Option<f64>) -> Slot {
    let section = ProbeSection {
        max_cpu,
        ..ProbeSection::default()
    };
    Slot::new(1, Spec::default_of("fake.good", Some(&section)), target(1))
}

/// Opens the slot at `now_ns`.
fn open(slot: &mut Slot, now_ns: i64) {
    let Step::Begin(Task::Open(resolved)) = slot.step(now_ns, LIMIT) else {
        panic!("it is to be opened")
    };
    let handle = Box::new(Idle);
    slot.done(Done::Opened(Ok(OpenProbe { handle, resolved })), now_ns);
}

/// The due time of the run that is to begin at `now_ns`; it ends at `end_ns`.
fn run(slot: &mut Slot, now_ns: i64, end_ns: i64, cpu_ns: i64, fault: Option<FaultKind>) -> Option<i64> {
    let Step::Begin(Task::Run { open, due_ns, .. }) = slot.step(now_ns, LIMIT) else {
        return None;
    };
    let run = Run {
        time_ns: now_ns,
        cpu_ns,
        ..Run::default()
    };
    let fault = fault.map(|kind| Fault::new(kind, "as told"));
    slot.done(Done::Ran { open, run, fault }, end_ns);
    Some(due_ns)
}

#[test]
fn ticks_that_a_long_run_covers_are_missed() {
    let mut slot = slot(None);
    open(&mut slot, 10 * S + 1);
    assert_eq!(run(&mut slot, 10 * S + 2, 0, 0, None), None, "not before its time");
    assert_eq!(run(&mut slot, 11 * S + 5, 13 * S + 500, 0, None), Some(11 * S));
    assert_eq!(run(&mut slot, 13 * S + 600, 0, 0, None), None);
    assert_eq!(slot.counts.missed, 2, "12 and 13");
    assert_eq!(run(&mut slot, 14 * S + 1, 14 * S + 2, 0, None), Some(14 * S));
    // Nobody looked for three seconds.
    assert_eq!(run(&mut slot, 18 * S + 1, 18 * S + 2, 0, None), Some(18 * S));
    assert_eq!(slot.counts.missed, 2 + 3);
    assert_eq!(slot.next_step_ns(), 19 * S);
}

#[test]
fn a_step_of_the_clock_misses_nothing() {
    let mut slot = slot(None);
    open(&mut slot, 10 * S);
    run(&mut slot, 11 * S, 11 * S, 0, None);
    slot.realign(5000 * S + 3);
    assert_eq!(run(&mut slot, 5001 * S, 5001 * S, 0, None), Some(5001 * S));
    slot.realign(20 * S);
    assert_eq!(run(&mut slot, 21 * S, 21 * S, 0, None), Some(21 * S));
    assert_eq!(slot.counts.missed, 0);
}

#[test]
fn failures_back_off_and_end_in_quarantine() {
    let mut slot = slot(None);
    open(&mut slot, 0);
    let mut now_ns = S;
    let mut pauses = Vec::new();
    while !matches!(slot.condition, Condition::Quarantined { .. }) {
        assert!(run(&mut slot, now_ns, now_ns, 0, Some(FaultKind::Failed)).is_some());
        pauses.push((slot.next_step_ns() - now_ns) / S);
        now_ns = slot.next_step_ns().max(now_ns);
    }
    assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert_eq!(pauses.len(), 20);
    assert_eq!(slot.counts.missed, 0, "what is not tried is not missed");
}

#[test]
fn one_good_run_ends_the_backoff() {
    let mut slot = slot(None);
    open(&mut slot, 0);
    run(&mut slot, S, S, 0, Some(FaultKind::Failed));
    run(&mut slot, 2 * S, 2 * S, 0, Some(FaultKind::Failed));
    assert_eq!(slot.state_word(), "backoff");
    assert_eq!(run(&mut slot, 3 * S, 3 * S, 0, None), None);
    assert_eq!(run(&mut slot, 4 * S, 4 * S, 0, Some(FaultKind::NoData)), Some(4 * S));
    assert_eq!(slot.state_word(), "running");
    assert_eq!(slot.next_step_ns(), 5 * S);
}

#[test]
fn max_cpu_stretches_the_interval_and_says_so() {
    let mut slot = slot(Some(0.01));
    open(&mut slot, 0);
    // 35 ms each second are 3.5 %: every four seconds it is.
    run(&mut slot, S, S, 35_000_000, None);
    assert_eq!(slot.interval_ns(), Some(4 * S));
    assert_eq!(slot.next_step_ns(), 4 * S);
    assert!(
        slot.reason()
            .unwrap()
            .contains("stretched from 1s: a run costs 35.0 ms"),
        "{:?}",
        slot.reason()
    );
    let mut now_ns = 4 * S;
    for _ in 0..100 {
        run(&mut slot, now_ns, now_ns, 2_000_000, None);
        now_ns = slot.next_step_ns();
    }
    assert_eq!(slot.interval_ns(), Some(S), "cheap again");
    assert_eq!(slot.reason(), None);
}

#[test]
fn another_copy_means_opening_again() {
    let mut slot = slot(None);
    open(&mut slot, 0);
    let spec = slot.spec.clone();
    slot.retarget(spec.clone(), target(1), 0);
    assert!(
        matches!(slot.step(1, LIMIT), Step::Nothing),
        "the same copy, the same settings"
    );
    slot.retarget(spec, target(2), 0);
    assert!(matches!(slot.step(1, LIMIT), Step::Begin(Task::Stop(_))));
    slot.done(Done::Stopped, 2);
    assert!(matches!(slot.step(3, LIMIT), Step::Begin(Task::Open(resolved)) if resolved.plugin.copy == 2));
}
