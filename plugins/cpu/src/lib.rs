//! vwatchd plugin: what the processors do. Binds the probes of `vwatch_probes::cpu`.

use vwatch_probes::cpu::{
    CpuFrequencyProbe, CpuIdleStateProbe, CpuTimeProbe, InterruptProbe, NumaStatProbe, SoftirqProbe,
};
use vwatch_sdk::plugin;

plugin! {
    name: "cpu",
    doc: "CPU time, frequencies, idle states, interrupts, softirqs, NUMA",
    probes: [CpuTimeProbe, CpuFrequencyProbe, CpuIdleStateProbe, InterruptProbe, NumaStatProbe, SoftirqProbe],
}
