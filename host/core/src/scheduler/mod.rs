//! The scheduler: runs each instance at the multiples of its interval, and tells of every tick that had no run.
//!
//! The schedule is absolute and aligned to the wall clock: a run that takes long does not move the next one. One thread looks
//! at the board and hands calls to the pool; it never calls into a plugin itself. When the wall clock is set or the machine
//! slept, due times are taken anew and a gap says so.
//!
//! **Invariants:** the board's lock is never held during a call into a plugin. A call that takes longer than the larger of ten
//! seconds and ten intervals is given up: its instance is quarantined, its thread written off, and what it may still
//! return is thrown away.

mod board;
mod pool;
mod run;
mod slot;
pub mod task;

#[cfg(test)]
mod slot_tests;
#[cfg(test)]
mod tests;

pub use board::Change;
pub use slot::Target;

use crate::clock::{self, ClockChange, ClockWatch, Reading};
use crate::error::{CoreError, Refused};
use crate::instances::{Origin, Spec};
use crate::pipeline::Pipeline;
use crate::rows::{CoreRow, Gap, ProbeRun};
use board::Board;
use pool::Pool;
use slot::{Busy, Step, Wake};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use task::Task;
use vwatch_config::SchedulerLimits;
use vwatch_loader::{Commit, Fault, FaultKind};
use vwatch_model::control::Instance;

/// The longest sleep: clock steps are noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

pub struct Scheduler {
    board: Mutex<Board>,
    wake: Condvar,
    pool: Arc<Pool>,
    pipeline: Arc<Pipeline>,
    run_limit: Mutex<Duration>,
    /// Boottime of the thread's last round; tells a watchdog that it lives.
    alive_ns: AtomicI64,
}

impl Scheduler {
    pub fn start(
        pipeline: Arc<Pipeline>,
        limits: SchedulerLimits,
    ) -> Result<(Arc<Scheduler>, JoinHandle<()>), CoreError> {
        let scheduler = Arc::new(Scheduler {
            board: Mutex::default(),
            wake: Condvar::new(),
            pool: Pool::new(limits.workers as usize),
            pipeline,
            run_limit: Mutex::new(limits.run_limit),
            alive_ns: AtomicI64::new(clock::now().boot_ns),
        });
        let own = scheduler.clone();
        let thread = crate::process::spawn("scheduler", move || own.schedule())
            .map_err(|source| CoreError::system("start the scheduler's thread", source))?;
        Ok((scheduler, thread))
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> Duration {
        *self.run_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_run_limit(&self, limit: Duration) {
        *self.run_limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    /// How long ago the thread began its last round.
    pub fn silent_ns(&self) -> i64 {
        clock::now().boot_ns - self.alive_ns.load(Ordering::Relaxed)
    }

    /// The thread's loop; ends when the board is closed and empty.
    fn schedule(self: Arc<Self>) {
        let mut watch = ClockWatch::new(Reading::take());
        let mut board = self.lock();
        loop {
            let reading = Reading::take();
            self.alive_ns.store(reading.stamp.boot_ns, Ordering::Relaxed);
            let now_ns = reading.stamp.wall_ns;
            for change in watch.look(reading) {
                board.slots.values_mut().for_each(|slot| slot.realign(now_ns));
                self.pipeline.row(CoreRow::Gap(clock_gap(change)));
            }
            let limit = self.limit();
            let mut removed = Vec::new();
            for (id, slot) in &mut board.slots {
                match slot.step(now_ns, limit) {
                    Step::Nothing => {}
                    Step::Begin(task) => {
                        let busy = begin(slot, &task, now_ns);
                        let (token, abandoned) = (busy.token, busy.abandoned.clone());
                        slot.busy = Some(busy);
                        self.submit(slot, token, abandoned, task);
                    }
                    Step::GiveUp => self.give_up(slot, now_ns),
                    Step::Remove => removed.push(*id),
                }
            }
            for id in removed {
                for gap in board.remove(id, now_ns) {
                    self.pipeline.row(CoreRow::Gap(gap));
                }
                self.wake.notify_all();
            }
            if board.closed && board.slots.is_empty() {
                return;
            }
            let sleep = self.sleep(&board, limit);
            board.planned_ns = clock::now().wall_ns + sleep.as_nanos() as i64;
            board = match self.wake.wait_timeout(board, sleep) {
                Ok((board, _)) => board,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Until the first thing that is due.
    fn sleep(&self, board: &Board, limit: Duration) -> Duration {
        let (now, now_ns) = (Instant::now(), clock::now().wall_ns);
        let until = |wake: Wake| match wake {
            Wake::At(at) => at.saturating_duration_since(now) + Duration::from_millis(1),
            Wake::Wall(ns) => Duration::from_nanos((ns - now_ns).max(0) as u64),
        };
        let slots = board
            .slots
            .values()
            .filter_map(|slot| slot.wake(limit))
            .map(until)
            .min();
        let pool = self.pool.relieve();
        [slots, pool].into_iter().flatten().fold(LONGEST_SLEEP, Duration::min)
    }

    /// A call takes too long: its thread is written off.
    fn give_up(&self, slot: &mut slot::Slot, now_ns: i64) {
        if let Some(busy) = &slot.busy {
            busy.abandoned.store(true, Ordering::Relaxed);
            self.pool.write_off();
            let took = busy.since.elapsed();
            self.pipeline.row(CoreRow::Run(ProbeRun {
                time_ns: busy.since_ns,
                instance: slot.spec.name.clone(),
                probe: slot.spec.probe.clone(),
                late_ns: 0,
                duration_ns: took.as_nanos() as i64,
                cpu_ns: 0,
                rows: 0,
                bytes: 0,
                outcome: "timeout",
                message: Some(format!(
                    "{} was given up after {}",
                    busy.what,
                    crate::process::words(took)
                )),
            }));
        }
        if let Some(gap) = slot.gave_up(now_ns, self.limit()) {
            self.pipeline.row(CoreRow::Gap(gap));
        }
    }

    /// Makes the board what `wanted` says. Instances of plugins, which come and go by [`Change`]s of their own, are kept.
    pub fn reconcile(&self, wanted: Vec<(Spec, Target)>) {
        let gaps = self.lock().reconcile(wanted, clock::now().wall_ns);
        for gap in gaps {
            self.pipeline.row(CoreRow::Gap(gap));
        }
        self.wake.notify_all();
    }

    pub fn instances(&self) -> Vec<Instance> {
        self.lock().instances()
    }

    pub fn instance(&self, name: &str) -> Option<Instance> {
        self.lock().by_name(name).map(board::instance)
    }

    /// The specification behind a name, unless it is ending.
    pub fn spec(&self, name: &str) -> Option<Spec> {
        self.lock()
            .by_name(name)
            .filter(|slot| !slot.ending)
            .map(|slot| slot.spec.clone())
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().names()
    }

    /// Waits until `done` holds for the instance (None: it is gone), at most until `deadline`.
    pub fn wait_for(&self, name: &str, deadline: Instant, done: impl Fn(Option<&Instance>) -> bool) -> bool {
        let mut board = self.lock();
        loop {
            let instance = board.by_name(name).map(board::instance);
            if done(instance.as_ref()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            // Also woken by changes; looked at ten times a second for those that wake nobody.
            let wait = left.min(Duration::from_millis(100));
            board = match self.wake.wait_timeout(board, wait) {
                Ok((board, _)) => board,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// No instance runs on this copy of a plugin any more, or the deadline has passed.
    pub fn wait_for_copy(&self, copy: u64, deadline: Instant) -> bool {
        while self.lock().uses_copy(copy) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Takes rows that a plugin emits for one of its instances.
    pub fn emit(&self, copy: u64, plugin: &str, id: u64, commit: Commit) -> Result<(), Fault> {
        let stamp = clock::now();
        let rows = commit.rows() as u64;
        let (resolved, name, store_instance) = {
            let mut board = self.lock();
            let slot = board.slots.get_mut(&id);
            let gone = || {
                Fault::new(
                    FaultKind::Gone,
                    format!("no instance {id} of plugin {plugin} is running"),
                )
            };
            let slot = slot.ok_or_else(gone)?;
            let resolved = slot
                .current
                .clone()
                .filter(|resolved| resolved.plugin.copy == copy)
                .ok_or_else(gone)?;
            let store = slot.store_instance.ok_or_else(gone)?;
            slot.emitted(rows, stamp.wall_ns);
            (resolved, slot.spec.name.clone(), store)
        };
        let origin = crate::pipeline::Origin {
            plugin,
            tables: &resolved.plugin.tables,
            instance: &name,
            store_instance,
            stamp,
            interval_ns: resolved.every.as_nanos() as u64,
        };
        match self.pipeline.deliver(&origin, commit, Vec::new()).dropped {
            false => Ok(()),
            true => Err(Fault::new(
                FaultKind::Busy,
                "the writer's queue is full: the rows were dropped",
            )),
        }
    }

    /// Stops all instances; true when all have stopped by `deadline`. The gaps that end with the recorder are recorded.
    pub fn close(&self, deadline: Instant) -> bool {
        {
            let mut board = self.lock();
            board.closed = true;
            board.slots.values_mut().for_each(|slot| slot.ending = true);
        }
        self.wake.notify_all();
        let mut board = self.lock();
        while !board.slots.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                let now_ns = clock::now().wall_ns;
                for slot in board.slots.values_mut() {
                    tracing::warn!("instance {} does not stop; going on without it", slot.spec.name);
                    if let Some(gap) = slot.missed_gap(now_ns) {
                        self.pipeline.row(CoreRow::Gap(gap));
                    }
                }
                return false;
            }
            board = match self.wake.wait_timeout(board, left.min(Duration::from_millis(50))) {
                Ok((board, _)) => board,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// The name for an instance of `probe` that has none: the probe's own if it is free, else with the next number.
    pub fn free_name(&self, probe: &str) -> Result<Arc<str>, Refused> {
        let board = self.lock();
        let numbered = (2..10_000).map(|n| format!("{probe}:{n}"));
        std::iter::once(probe.to_owned())
            .chain(numbered)
            .find(|name| board.by_name(name).is_none())
            .map(Arc::from)
            .ok_or_else(|| Refused::conflict(format!("too many instances of {probe}")))
    }

    /// Starts or changes one instance beside the others.
    pub fn change(&self, change: Change) {
        let gap = self.lock().change(change, clock::now().wall_ns);
        if let Some(gap) = gap {
            self.pipeline.row(CoreRow::Gap(gap));
        }
        self.wake.notify_all();
    }

    /// Instances that `plugin` started.
    pub fn started_by(&self, plugin: &str) -> Vec<Spec> {
        let board = self.lock();
        let own = Origin::Plugin(plugin.to_owned());
        board
            .slots
            .values()
            .filter(|slot| slot.spec.origin == own)
            .map(|slot| slot.spec.clone())
            .collect()
    }
}

fn begin(slot: &mut slot::Slot, task: &Task, now_ns: i64) -> Busy {
    slot.tokens += 1;
    Busy {
        token: slot.tokens,
        abandoned: Arc::new(AtomicBool::new(false)),
        since: Instant::now(),
        since_ns: now_ns,
        what: task.word(),
    }
}

/// What happened to the clocks, as a gap of all instances.
fn clock_gap(change: ClockChange) -> Gap {
    let words = |ns: i64| crate::process::words(Duration::from_nanos(ns.unsigned_abs()));
    match change {
        ClockChange::Suspended { from_ns, until_ns } => Gap {
            from_ns,
            until_ns,
            cause: "suspended".into(),
            message: Some(format!("the machine slept for {}", words(until_ns - from_ns))),
            ..Gap::default()
        },
        ClockChange::Stepped {
            by_ns,
            expected_ns,
            now_ns,
        } => Gap {
            from_ns: expected_ns.min(now_ns),
            until_ns: expected_ns.max(now_ns),
            cause: "clock_step".into(),
            message: Some(match by_ns >= 0 {
                true => format!(
                    "the wall clock was set forward by {}: these times were skipped",
                    words(by_ns)
                ),
                false => format!(
                    "the wall clock was set back by {}: these times were passed twice",
                    words(by_ns)
                ),
            }),
            ..Gap::default()
        },
    }
}
