//! What the probes of cpu say of real machines.

use crate::Machine;
use vwatch_probes::cpu::{InterruptProbe, SoftirqProbe};

/// Runs every probe but `cpu_time`. Each checks that its rows can be.
pub fn probes(machine: &Machine) {
    machine.sample::<InterruptProbe>();
    machine.sample::<SoftirqProbe>();
}
