//! The board: all instances, by id and by name.

use super::slot::{Slot, Target};
use super::task::Resolved;
use crate::instances::Spec;
use crate::rows::Gap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vwatch_model::control::Instance;

#[derive(Default)]
pub struct Board {
    pub slots: BTreeMap<u64, Slot>,
    next_id: u64,
    /// Nothing is started any more.
    pub closed: bool,
    /// When the scheduler's thread looks at the board next, wall clock.
    pub planned_ns: i64,
}

/// A change of one instance that is not part of what the configuration asks for.
pub enum Change {
    Start(Spec, Target),
    Stop(Arc<str>),
}

impl Board {
    pub fn by_name(&self, name: &str) -> Option<&Slot> {
        self.slots.values().find(|slot| &*slot.spec.name == name)
    }

    pub fn names(&self) -> Vec<String> {
        self.slots.values().map(|slot| slot.spec.name.to_string()).collect()
    }

    fn put(&mut self, spec: Spec, target: Target, now_ns: i64) -> Option<Gap> {
        if let Some(slot) = self.slots.values_mut().find(|slot| slot.spec.name == spec.name) {
            return slot.retarget(spec, target, now_ns);
        }
        if self.closed {
            return None;
        }
        self.next_id += 1;
        self.slots.insert(self.next_id, Slot::new(self.next_id, spec, target));
        None
    }

    pub fn reconcile(&mut self, wanted: Vec<(Spec, Target)>, now_ns: i64) -> Vec<Gap> {
        if self.closed {
            return Vec::new();
        }
        let names: BTreeSet<Arc<str>> = wanted.iter().map(|(spec, _)| spec.name.clone()).collect();
        for slot in self.slots.values_mut() {
            if !names.contains(&slot.spec.name) {
                slot.ending = true;
            }
        }
        wanted
            .into_iter()
            .filter_map(|(spec, target)| self.put(spec, target, now_ns))
            .collect()
    }

    pub fn change(&mut self, change: Change, now_ns: i64) -> Option<Gap> {
        match change {
            Change::Start(spec, target) => self.put(spec, target, now_ns),
            Change::Stop(name) => {
                if let Some(slot) = self.slots.values_mut().find(|slot| slot.spec.name == name) {
                    slot.ending = true;
                }
                None
            }
        }
    }

    /// Takes a slot off; answers the gaps that end with it.
    pub fn remove(&mut self, id: u64, now_ns: i64) -> Vec<Gap> {
        let Some(mut slot) = self.slots.remove(&id) else {
            return Vec::new();
        };
        [slot.missed_gap(now_ns), slot.quarantine_gap(now_ns)]
            .into_iter()
            .flatten()
            .collect()
    }

    pub fn uses_copy(&self, copy: u64) -> bool {
        self.slots.values().any(|slot| slot.open_copy() == Some(copy))
    }

    pub fn instances(&self) -> Vec<Instance> {
        let mut instances: Vec<_> = self.slots.values().map(instance).collect();
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        instances
    }
}

/// A slot as the control socket shows it.
pub fn instance(slot: &Slot) -> Instance {
    let resolved: Option<&Resolved> = match &slot.target {
        Target::Run(resolved) => Some(resolved),
        _ => None,
    };
    Instance {
        name: slot.spec.name.to_string(),
        probe: slot.spec.probe.to_string(),
        state: if slot.ending { "stopping" } else { slot.state_word() }.to_owned(),
        reason: slot.reason(),
        every_ms: slot.interval_ns().and_then(|ns| u64::try_from(ns / 1_000_000).ok()),
        until_ns: slot.spec.until_ns,
        max_cpu: slot.spec.max_cpu,
        options: resolved.map_or_else(|| slot.spec.options.clone(), |r| r.options.clone()),
        tables: resolved.map(|r| r.tables.clone()).unwrap_or_default(),
        origin: slot.spec.origin.word().to_owned(),
        runs: slot.counts.runs,
        failures: slot.counts.failures,
        missed: slot.counts.missed,
        rows: slot.counts.rows,
        cpu_us_per_run: slot.counts.cpu_ns_mean.map(|ns| ns / 1e3),
        last_run_ns: slot.counts.last_run_ns,
        last_rows: slot.counts.last_rows,
    }
}
