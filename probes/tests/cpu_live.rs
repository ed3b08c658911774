//! Probes of cpu on the machine that runs the test, against other files of the kernel.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use vwatch_probes::cpu::cpu_frequency::CpuFrequency;
use vwatch_probes::cpu::cpu_idle_state::CpuIdleState;
use vwatch_probes::cpu::interrupt::{Interrupt, InterruptCpu};
use vwatch_probes::cpu::numa_stat::NumaStat;
use vwatch_probes::cpu::softirq::Softirq;
use vwatch_probes::cpu::{CpuFrequencyProbe, CpuIdleStateProbe, InterruptProbe, NumaStatProbe, SoftirqProbe};
use vwatch_sdk::{Kind, Probe};
use vwatch_testkit::{FixtureHost, Sampled};

/// None, with the reason printed, when this kernel does not have it.
fn sample<P: Probe>(test: &str) -> Option<Sampled> {
    match FixtureHost::live().run_once::<P>("") {
        Ok(sampled) => Some(sampled),
        Err(error) => {
            assert_eq!(error.kind, Kind::Unsupported, "{error}");
            println!("skipped {test}: {error}");
            None
        }
    }
}

/// What `/sys/kernel/irq` says of each line: chip, actions, counts of all possible CPUs.
fn lines_of_sysfs() -> BTreeMap<String, [String; 3]> {
    let Ok(dirs) = fs::read_dir("/sys/kernel/irq") else {
        return BTreeMap::new();
    };
    let names = dirs.flatten().map(|entry| entry.file_name().into_string().unwrap());
    let lines = names.map(|name| {
        let said = ["chip_name", "actions", "per_cpu_count"].map(|file| {
            let text = fs::read_to_string(Path::new("/sys/kernel/irq").join(&name).join(file));
            text.unwrap_or_default().trim().to_owned()
        });
        (name, said)
    });
    lines.collect()
}

fn counts(text: &str) -> Vec<i64> {
    text.split(',').filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn interrupts_are_what_sysfs_says() {
    let test = "interrupts_are_what_sysfs_says";
    let before = lines_of_sysfs();
    let Some(sampled) = sample::<InterruptProbe>(test) else {
        return;
    };
    let after = lines_of_sysfs();
    if before.is_empty() {
        println!("skipped {test}: there is no /sys/kernel/irq");
        return;
    }
    let by_cpu: Vec<InterruptCpu> = sampled.rows();
    for row in sampled.rows::<Interrupt>() {
        let cpus = by_cpu.iter().filter(|cpu| cpu.irq == row.irq);
        let each: BTreeMap<usize, i64> = cpus.map(|c| (c.cpu[3..].parse().unwrap(), c.interrupts)).collect();
        if row.chip_name.is_none() {
            assert!(row.description.is_some() || each.is_empty(), "{row:?}");
            continue;
        }
        // A device may come or go, or a 32-bit count begin again; what was there before and after is compared.
        let (Some(was), Some(is)) = (before.get(&row.irq), after.get(&row.irq)) else {
            continue;
        };
        assert_eq!(row.chip_name.as_ref(), Some(&is[0]), "{row:?}");
        let actions = row.description.clone().unwrap_or_default().replace(", ", ",");
        assert_eq!(actions, is[1], "{row:?}");
        for (cpu, (low, high)) in counts(&was[2]).into_iter().zip(counts(&is[2])).enumerate() {
            let count = each.get(&cpu).copied().unwrap_or(0);
            assert!((low..=high).contains(&count) || high < low, "{row:?} cpu{cpu}: {count}");
        }
        assert_eq!(row.interrupts, each.values().sum::<i64>(), "{row:?}");
    }
}

/// The sums over all CPUs of `/proc/stat`, in the order of `/proc/softirqs`.
fn softirqs_of_stat() -> Vec<i64> {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("softirq ")).unwrap();
    line.split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap())
        .collect()
}

#[test]
fn softirqs_lie_between_two_readings_of_stat() {
    let before = softirqs_of_stat();
    let Some(sampled) = sample::<SoftirqProbe>("softirqs_lie_between_two_readings_of_stat") else {
        return;
    };
    let after = softirqs_of_stat();
    let rows: Vec<Softirq> = sampled.rows();
    let kinds = [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
    ];
    assert_eq!(before.len(), kinds.len());
    for (i, kind) in kinds.into_iter().enumerate() {
        let of_kind = rows.iter().filter(|row| row.softirq == kind);
        let sum: i64 = of_kind.map(|row| row.softirqs).sum();
        // On a host that has been up for long a count of /proc/stat, of 32 bits too, begins again.
        let (low, high) = (before[i], after[i]);
        assert!(
            (low..=high).contains(&sum) || sum > i64::from(u32::MAX),
            "{kind}: {sum} not in {low}..={high}"
        );
    }
}

/// A count of `/proc/vmstat`.
fn vmstat(name: &str) -> i64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

#[test]
fn pages_of_nodes_lie_between_two_readings_of_vmstat() {
    let names = [
        "numa_hit",
        "numa_miss",
        "numa_foreign",
        "numa_interleave",
        "numa_local",
        "numa_other",
    ];
    let test = "pages_of_nodes_lie_between_two_readings_of_vmstat";
    // Without nodes vmstat lacks the names.
    let Some(_) = sample::<NumaStatProbe>(test) else { return };
    let before = names.map(vmstat);
    let rows: Vec<NumaStat> = sample::<NumaStatProbe>(test).unwrap().rows();
    let after = names.map(vmstat);
    let of: [fn(&NumaStat) -> i64; 6] = [
        |row| row.numa_hit,
        |row| row.numa_miss,
        |row| row.numa_foreign,
        |row| row.interleave_hit,
        |row| row.local_node,
        |row| row.other_node,
    ];
    for (i, name) in names.into_iter().enumerate() {
        let sum: i64 = rows.iter().map(of[i]).sum();
        assert!(
            (before[i]..=after[i]).contains(&sum),
            "{name}: {sum} not in {}..={}",
            before[i],
            after[i]
        );
    }
}

#[test]
fn frequencies_are_of_the_cpus_that_lscpu_finds() {
    let test = "frequencies_are_of_the_cpus_that_lscpu_finds";
    let Some(sampled) = sample::<CpuFrequencyProbe>(test) else {
        return;
    };
    let lscpu = Command::new("lscpu").args(["--online", "--parse=CPU"]).output();
    let Some(lscpu) = lscpu.ok().filter(|output| output.status.success()) else {
        println!("skipped {test}: there is no lscpu(1)");
        return;
    };
    let text = String::from_utf8(lscpu.stdout).unwrap();
    let online = text.lines().filter(|line| !line.starts_with('#'));
    let mut online: Vec<String> = online.map(|number| format!("cpu{number}")).collect();
    let rows: Vec<CpuFrequency> = sampled.rows();
    let mut found: Vec<String> = rows.iter().map(|row| row.cpu.clone()).collect();
    online.sort();
    found.sort();
    assert_eq!(found, online);
    for row in rows {
        let khz = row.cur_freq_khz.unwrap_or(1_000_000);
        assert!((100_000..8_000_000).contains(&khz), "{row:?}");
        // The limits of the hardware hold those of the policy.
        let of = |file: &str| fs::read_to_string(format!("/sys/devices/system/cpu/{}/cpufreq/{file}", row.cpu));
        let khz = |file: &str| of(file).ok().and_then(|text| text.trim().parse::<i64>().ok());
        let limits = (khz("cpuinfo_min_freq"), khz("cpuinfo_max_freq"));
        if let ((Some(least), Some(most)), Some(min), Some(max)) =
            (limits, row.scaling_min_freq_khz, row.scaling_max_freq_khz)
        {
            assert!(least <= min && min <= max && max <= most, "{row:?}: {least} to {most}");
        }
    }
}

#[test]
fn no_cpu_was_idle_for_longer_than_the_host_is_up() {
    let test = "no_cpu_was_idle_for_longer_than_the_host_is_up";
    let Some(sampled) = sample::<CpuIdleStateProbe>(test) else {
        return;
    };
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let mut idle: BTreeMap<String, i64> = BTreeMap::new();
    for row in sampled.rows::<CpuIdleState>() {
        *idle.entry(row.cpu).or_default() += row.time_ns;
    }
    for (cpu, ns) in idle {
        assert!(ns as f64 / 1e9 <= seconds * 1.01 + 1.0, "{cpu}: {ns} ns of {seconds} s");
    }
}
