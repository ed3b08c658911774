//! vwatchd plugin: what the processors do. Binds the probes of `vwatch_probes::cpu`.

use vwatch_probes::cpu::{CpuFrequencyProbe, CpuTimeProbe, InterruptProbe, NumaStatProbe, SoftirqProbe};
use vwatch_sdk::plugin;

plugin! {
    name: "cpu",
    doc: "CPU time, frequencies, interrupts, softirqs, NUMA",
    probes: [CpuTimeProbe, CpuFrequencyProbe, InterruptProbe, NumaStatProbe, SoftirqProbe],
}
