//! What the probes of cpu say of real machines.

use crate::Machine;
use std::fs;
use vwatch_probes::cpu::numa_stat::NumaStat;
use vwatch_probes::cpu::{InterruptProbe, NumaStatProbe, SoftirqProbe};

/// Runs every probe but `cpu_time`. Each checks that its rows can be.
pub fn probes(machine: &Machine) {
    machine.sample::<InterruptProbe>();
    machine.sample::<SoftirqProbe>();
    nodes_have_their_pages(machine);
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
        let (got, given) = (
            row.numa_hit_pages + row.numa_miss_pages,
            row.local_node_pages + row.other_node_pages,
        );
        assert!(
            got.abs_diff(given) <= 1000 + got as u64 / 100,
            "{}: {row:?}",
            machine.name
        );
    }
    let sum = |of: fn(&NumaStat) -> i64| rows.iter().map(of).sum::<i64>();
    let (missed, foreign) = (sum(|row| row.numa_miss_pages), sum(|row| row.numa_foreign_pages));
    assert!(
        missed.abs_diff(foreign) <= 1000 + missed as u64 / 100,
        "{}: {missed} missed, {foreign} foreign",
        machine.name
    );
}
