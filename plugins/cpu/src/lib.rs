//! vwatchd plugin: what the processors do. Binds the probes of `vwatch_probes::cpu`.

use vwatch_probes::cpu::{CpuTimeProbe, InterruptProbe, NumaStatProbe, SoftirqProbe};
use vwatch_sdk::plugin;

plugin! {
    name: "cpu",
    doc: "CPU time, interrupts, softirqs, NUMA",
    probes: [CpuTimeProbe, InterruptProbe, NumaStatProbe, SoftirqProbe],
}
