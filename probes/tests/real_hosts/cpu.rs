//! What the probes of cpu say of real machines.

use crate::Machine;
use std::collections::BTreeMap;
use std::fs;
use vwatch_probes::cpu::cpu_frequency::CpuFrequency;
use vwatch_probes::cpu::cpu_idle_state::CpuIdleState;
use vwatch_probes::cpu::numa_stat::NumaStat;
use vwatch_probes::cpu::{CpuFrequencyProbe, CpuIdleStateProbe, InterruptProbe, NumaStatProbe, SoftirqProbe};

/// Runs every probe but `cpu_time`. Each checks that its rows can be.
pub fn probes(machine: &Machine) {
    machine.sample::<InterruptProbe>();
    machine.sample::<SoftirqProbe>();
    nodes_have_their_pages(machine);
    frequencies_are_those_of_the_machine(machine);
    states_are_those_of_the_driver(machine);
}

fn nodes_have_their_pages(machine: &Machine) {
    let nodes = fs::read_dir(machine.root.join("sys/devices/system/node"));
    let nodes = nodes.into_iter().flatten().flatten().map(|entry| entry.path());
    let expect = nodes.filter(|node| node.join("numastat").is_file()).count();
    let sampled = machine.sample::<NumaStatProbe>();
    assert_eq!(sampled.is_some(), expect > 0, "{}", machine.name);
    let rows: Vec<NumaStat> = sampled.map_or(Vec::new(), |sampled| sampled.rows());
    assert_eq!(rows.len(), expect, "{}", machine.name);
    for row in &rows {
        // Every page was given to somebody on this node or on another; the kernel counts without locks.
        let (got, given) = (row.numa_hit + row.numa_miss, row.local_node + row.other_node);
        assert!(
            got.abs_diff(given) <= 1000 + got as u64 / 100,
            "{}: {row:?}",
            machine.name
        );
    }
    let sum = |of: fn(&NumaStat) -> i64| rows.iter().map(of).sum::<i64>();
    let (missed, foreign) = (sum(|row| row.numa_miss), sum(|row| row.numa_foreign));
    assert!(
        missed.abs_diff(foreign) <= 1000 + missed as u64 / 100,
        "{}: {missed} missed, {foreign} foreign",
        machine.name
    );
}

fn frequencies_are_those_of_the_machine(machine: &Machine) {
    let name = &machine.name;
    let sampled = machine.sample::<CpuFrequencyProbe>();
    let rows: Vec<CpuFrequency> = sampled.map_or(Vec::new(), |sampled| sampled.rows());
    let cpuinfo = fs::read_to_string(machine.root.join("proc/cpuinfo")).unwrap_or_default();
    let told = cpuinfo.lines().any(|line| line.starts_with("cpu MHz\t"));
    // Every directory is a CPU; a file `online` in it says no with a 0.
    let cpu = |n: usize| machine.root.join(format!("sys/devices/system/cpu/cpu{n}"));
    let online = |n: &usize| cpu(*n).is_dir() && !fs::read_to_string(cpu(*n).join("online")).is_ok_and(|o| o == "0\n");
    let online: Vec<usize> = (0..1024).filter(online).collect();
    let scaled = online
        .iter()
        .filter(|n| cpu(**n).join("cpufreq/scaling_driver").is_file())
        .count();
    assert_eq!(rows.len(), if told { online.len() } else { scaled }, "{name}");
    for row in &rows {
        let khz = row.cur_freq_khz.unwrap();
        assert!((100_000..8_000_000).contains(&khz), "{name}: {row:?}");
        assert_eq!(row.scaling_driver.is_some(), scaled > 0, "{name}: {row:?}");
        assert!(row.scaling_min_freq_khz <= row.scaling_max_freq_khz, "{name}: {row:?}");
        // What is measured may be a little below the least that was asked for.
        let least = row.scaling_min_freq_khz.map_or(0, |khz| khz * 9 / 10);
        assert!(khz >= least, "{name}: {row:?}");
    }
    let mut drivers = BTreeMap::new();
    for driver in rows.iter().filter_map(|row| row.scaling_driver.as_deref()) {
        *drivers.entry(driver).or_insert(0) += 1;
    }
    if name.contains("hybrid") {
        assert_eq!(drivers, BTreeMap::from([("intel_pstate", 20)]), "{name}");
    }
    if name.starts_with("armv7") {
        assert_eq!(drivers.keys().collect::<Vec<_>>(), [&"exynos_cpufreq"], "{name}");
    }
}

fn states_are_those_of_the_driver(machine: &Machine) {
    let name = &machine.name;
    let rows: Vec<CpuIdleState> = machine.sample::<CpuIdleStateProbe>().map_or(Vec::new(), |s| s.rows());
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *names.entry(row.name.as_deref().unwrap()).or_insert(0) += 1;
        // No machine has been up for thirty years.
        assert!((0..1_000_000_000_000_000_000).contains(&row.time_ns), "{name}: {row:?}");
        assert!(row.usage > 0 || row.time_ns == 0, "{name}: {row:?}");
    }
    let names: Vec<(&str, usize)> = names.into_iter().collect();
    let expect: &[(&str, usize)] = match name.split_once('.').unwrap().0 {
        "40intel64-4n10c+pci-conflicts" => &[("C0", 40), ("NHM-C1", 40), ("NHM-C3", 40), ("NHM-C6", 40)],
        "x86_64-64cpu" => &[("C0", 64), ("NHM-C1", 64), ("NHM-C3", 64)],
        "arm-A510-A710-A715-X3" => &[("WFI", 8), ("gold-c4", 4), ("gold-plus-c4", 1), ("silver-c4", 3)],
        "armv7" => &[("C1", 1), ("WFI", 2)],
        // They have no directories of states.
        "nvidia-dgx-gb10" | "rv64-visionfive2" | "s390-lpar" => &[],
        _ => return,
    };
    assert_eq!(names, expect, "{name}");
}
