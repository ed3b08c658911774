//! Carrying out a call on a thread of the pool: clocks around it, its rows into the pipeline, its outcome onto the board.

use super::Scheduler;
use super::pool::Fate;
use super::slot::Slot;
use super::task::{Done, OpenProbe, Resolved, Run, Task};
use crate::calls::outcome_word;
use crate::clock;
use crate::pipeline::{Delivered, Origin};
use crate::rows::{CoreRow, ProbeRun};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vwatch_loader::{Commit, Fault, FaultKind, Mode, Tick};
use vwatch_model::time::Stamp;
use vwatch_store::{InstanceId, InstanceInfo};

/// What a call must know of its slot.
struct Call {
    slot: u64,
    token: u64,
    abandoned: Arc<AtomicBool>,
    name: Arc<str>,
    probe: Arc<str>,
    store_instance: Option<InstanceId>,
}

impl Scheduler {
    pub(super) fn submit(self: &Arc<Self>, slot: &Slot, token: u64, abandoned: Arc<AtomicBool>, task: Task) {
        let call = Call {
            slot: slot.id,
            token,
            abandoned,
            name: slot.spec.name.clone(),
            probe: slot.spec.probe.clone(),
            store_instance: slot.store_instance,
        };
        let scheduler = self.clone();
        self.pool.submit(Box::new(move || {
            let done = match task {
                Task::Open(resolved) => Done::Opened(scheduler.open(&call, resolved)),
                Task::Run {
                    open,
                    due_ns,
                    interval_ns,
                    sequence,
                    full,
                } => {
                    let stamp = clock::now();
                    let tick = Tick {
                        time_ns: stamp.wall_ns,
                        boottime_ns: stamp.boot_ns,
                        due_ns,
                        interval_ns,
                        sequence,
                        full,
                    };
                    scheduler.run(&call, open, tick)
                }
                Task::Stop(open) => scheduler.stop(&call, open),
            };
            scheduler.finish(&call, done)
        }));
    }

    /// Puts the outcome on the board, unless the call was given up meanwhile.
    fn finish(&self, call: &Call, done: Done) -> Fate {
        let mut board = self.lock();
        let now_ns = clock::now().wall_ns;
        let current = |slot: &&mut Slot| slot.busy.as_ref().is_some_and(|busy| busy.token == call.token);
        let Some(slot) = board.slots.get_mut(&call.slot).filter(current) else {
            drop(board);
            // `done` may hold the probe: it is dropped here, where a hang holds up nobody.
            drop(done);
            return Fate::WrittenOff;
        };
        let was_run = matches!(done, Done::Ran { .. });
        for gap in slot.done(done, now_ns) {
            self.pipeline.row(CoreRow::Gap(gap));
        }
        let next_ns = slot.next_step_ns();
        let planned_ns = board.planned_ns;
        let settled = was_run && board.slots.values().all(|slot| slot.busy.is_none());
        drop(board);
        if settled {
            self.pipeline.settled();
        }
        // While the call was under way the slot had no due time that the scheduler's thread could sleep until.
        if next_ns < planned_ns || !was_run {
            self.wake.notify_all();
        }
        Fate::Kept
    }

    fn open(&self, call: &Call, resolved: Arc<Resolved>) -> Result<OpenProbe, Fault> {
        let info = InstanceInfo {
            name: call.name.to_string(),
            probe: call.probe.to_string(),
            default: call.name == call.probe,
        };
        let store_instance = self
            .pipeline
            .ask(move |recording| recording.writer().instance(&info))
            .map_err(|e| Fault::new(FaultKind::Gone, e.to_string()))?
            .map_err(|e| Fault::failed(e.to_string()))?;
        // Known before the probe is opened: a streaming one may emit from within `start`.
        if let Some(slot) = self.lock().slots.get_mut(&call.slot) {
            slot.store_instance = Some(store_instance);
        }
        let plugin = &resolved.plugin;
        let mut handle = guarded(|| plugin.calls.open(&resolved.probe, call.slot, &resolved.options))?;
        if resolved.mode == Mode::Stream {
            guarded(|| handle.start())?;
        }
        Ok(OpenProbe { handle, resolved })
    }

    fn run(&self, call: &Call, mut open: OpenProbe, tick: Tick) -> Done {
        let stamp = Stamp {
            wall_ns: tick.time_ns,
            boot_ns: tick.boottime_ns,
        };
        let cpu_before_ns = clock::thread_cpu_ns();
        let answer = guarded(|| open.handle.run(tick));
        let cpu_ns = clock::thread_cpu_ns() - cpu_before_ns;
        let (commit, fault) = match answer {
            Ok(commit) => (commit, None),
            Err(fault) => (Commit::default(), Some(fault)),
        };
        let row = ProbeRun {
            time_ns: tick.time_ns,
            instance: call.name.clone(),
            probe: call.probe.clone(),
            late_ns: (tick.time_ns - tick.due_ns).max(0),
            duration_ns: clock::now().boot_ns - tick.boottime_ns,
            cpu_ns,
            rows: commit.rows() as i64,
            bytes: commit.bytes() as i64,
            outcome: fault.as_ref().map_or("ok", |fault| outcome_word(fault.kind)),
            message: fault.as_ref().map(|fault| fault.message.clone()),
        };
        let delivered = self.deliver(call, &open, stamp, tick.interval_ns, commit, vec![CoreRow::Run(row)]);
        let run = Run {
            time_ns: tick.time_ns,
            cpu_ns,
            rows: delivered.rows,
            dropped: delivered.dropped,
        };
        Done::Ran { open, run, fault }
    }

    fn stop(&self, call: &Call, mut open: OpenProbe) -> Done {
        let stamp = clock::now();
        match guarded(|| open.handle.stop()) {
            Ok(commit) if commit.is_empty() => {}
            Ok(commit) => {
                let interval_ns = open.resolved.every.as_nanos() as u64;
                self.deliver(call, &open, stamp, interval_ns, commit, Vec::new());
            }
            Err(fault) => tracing::warn!("instance {}: its end: {fault}", call.name),
        }
        Done::Stopped
    }

    fn deliver(
        &self,
        call: &Call,
        open: &OpenProbe,
        stamp: Stamp,
        interval_ns: u64,
        commit: Commit,
        rows: Vec<CoreRow>,
    ) -> Delivered {
        let Some(store_instance) = call.store_instance else {
            return Delivered::default();
        };
        if call.abandoned.load(Ordering::Relaxed) {
            return Delivered::default();
        }
        let plugin = &open.resolved.plugin;
        let origin = Origin {
            plugin: &plugin.name,
            tables: &plugin.tables,
            instance: &call.name,
            store_instance,
            stamp,
            interval_ns,
        };
        self.pipeline.deliver(&origin, commit, rows)
    }
}

/// The sdk catches panics inside the plugin; this catches those of the host's own side of a call, so that a slot is never left
/// waiting for a thread that is no more.
fn guarded<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let message = "panicked on the host's side of the call (the log has the message)";
        Err(Fault::new(FaultKind::Panicked, message))
    })
}
