//! Probes of the `cpu` plugin: what the processors do.

pub mod cpu_frequency;
pub mod cpu_idle_state;
pub mod cpu_time;
pub mod interrupt;
pub mod numa_stat;
pub mod softirq;

pub use cpu_frequency::CpuFrequencyProbe;
pub use cpu_idle_state::CpuIdleStateProbe;
pub use cpu_time::CpuTimeProbe;
pub use interrupt::InterruptProbe;
pub use numa_stat::NumaStatProbe;
pub use softirq::SoftirqProbe;

use std::path::Path;
use vwatch_sdk::prelude::*;

/// The name of the CPU that an option `cpu` asks for.
fn only_cpu(option: Option<i64>) -> Result<Option<String>> {
    match option {
        Some(cpu) if cpu < 0 => Err(ProbeError::bad_option(
            "cpu",
            format!("{cpu} is no number of a CPU; they count from 0"),
        )),
        cpu => Ok(cpu.map(|cpu| format!("cpu{cpu}"))),
    }
}

/// Nothing is known of the CPU asked for.
fn no_such_cpu(name: &str) -> ProbeError {
    ProbeError::no_data(format!("{name} is offline, or there is no such CPU"))
}

/// A line that is not as the kernel writes it; lines count from 1.
fn bad_line(path: &Path, line: usize, what: &str) -> ProbeError {
    ProbeError::failed(format!("{}:{line}: {what}", path.display()))
}

/// `cpu0` … of the heading of `/proc/interrupts` and `/proc/softirqs`, where they are `CPU0` …
fn heading(line: &str) -> Option<Vec<String>> {
    let words = line.split_ascii_whitespace();
    let names = words.map(|word| word.strip_prefix("CPU")?.parse::<u32>().ok());
    let names: Option<Vec<u32>> = names.collect();
    let names = names.filter(|names| !names.is_empty())?;
    Some(names.into_iter().map(|number| format!("cpu{number}")).collect())
}
