//! Probes of system, cpu and os over excerpts of real machines' `/proc` and `/sys`: archives in `$VWATCH_HOSTS`, by default
//! `../shared/hosts` beside the workspace. None of them may make a probe fail; lscpu(1), where it is installed, says how many
//! CPUs, sockets, cores and NUMA nodes there are.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

#[path = "real_hosts/cpu.rs"]
mod cpu;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vwatch_probes::cpu::CpuTimeProbe;
use vwatch_probes::cpu::cpu_time::CpuTime;
use vwatch_probes::os::cgroup::CgroupProbe;
use vwatch_probes::os::file_table::FileTableProbe;
use vwatch_probes::os::net_protocol::NetProtocolProbe;
use vwatch_probes::system::block_device::BlockDevice;
use vwatch_probes::system::cpu_cache::CpuCache;
use vwatch_probes::system::cpu_info::CpuInfo;
use vwatch_probes::system::numa_node::NumaNode;
use vwatch_probes::system::partition::Partition;
use vwatch_probes::system::pci_device::PciDevice;
use vwatch_probes::system::{
    BlockDeviceProbe, CpuCacheProbe, CpuInfoProbe, HostProbe, KernelModuleProbe, MountProbe, NetInterfaceProbe,
    NumaNodeProbe, PartitionProbe, PciDeviceProbe,
};
use vwatch_sdk::{Kind, Probe, ProbeError, Row};
use vwatch_testkit::{FixtureHost, Sampled};

#[test]
fn real_machines() {
    let archives = archives();
    if archives.is_empty() {
        println!("skipped real_machines: no archives of them in ../shared/hosts, nor in $VWATCH_HOSTS");
    }
    for archive in archives {
        let machine = Machine::unpack(&archive);
        machine.sample::<HostProbe>();
        machine.sample::<MountProbe>();
        machine.sample::<NetInterfaceProbe>();
        partitions_lie_on_their_disks(
            &machine,
            &machine.rows_or_none::<BlockDeviceProbe, BlockDevice>(),
            &machine.rows_or_none::<PartitionProbe, Partition>(),
        );
        devices_are_those_of_their_events(&machine, &machine.rows_or_none::<PciDeviceProbe, PciDevice>());
        let modules = machine.sample::<KernelModuleProbe>();
        assert_eq!(
            modules.is_some(),
            machine.root.join("proc/modules").is_file(),
            "{}",
            machine.name
        );
        machine.sample::<FileTableProbe>();
        machine.sample::<NetProtocolProbe>();
        machine.sample::<CgroupProbe>();
        if let Some(sampled) = machine.sample::<CpuTimeProbe>() {
            times_are_sane(&machine.name, &sampled.rows());
        }
        cpu::probes(&machine);
        let cpus: Vec<CpuInfo> = machine.sample::<CpuInfoProbe>().unwrap().rows();
        every_cpu_is_there(&machine, &cpus);
        kinds_of_cpus_are_told_apart(&machine.name, &cpus);
        as_lscpu_counts(&machine, &cpus);
        caches_are_as_lscpu_says(&machine, &machine.rows_or_none::<CpuCacheProbe, CpuCache>());
        nodes_are_as_lscpu_says(&machine, &machine.rows_or_none::<NumaNodeProbe, NumaNode>());
    }
}

struct Machine {
    name: String,
    root: PathBuf,
    host: FixtureHost,
    _unpacked: tempfile::TempDir,
}

impl Machine {
    fn unpack(archive: &Path) -> Self {
        // Thousands of small files: a disk takes seconds to make and remove them.
        let memory = Path::new("/dev/shm");
        let unpacked = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let unpacked = unpacked.unwrap();
        let mut tar = Command::new("tar");
        tar.arg("xf").arg(archive).arg("-C").arg(unpacked.path());
        assert!(tar.status().unwrap().success(), "tar xf {}", archive.display());
        let folders = fs::read_dir(unpacked.path()).unwrap().flatten();
        let mut folders = folders.map(|entry| entry.path());
        let root = folders
            .find(|path| path.join("sys").is_dir() || path.join("proc").is_dir())
            .unwrap();
        fs::create_dir_all(root.join("proc")).unwrap();
        Machine {
            name: archive.file_name().unwrap().to_string_lossy().into_owned(),
            host: FixtureHost::at(&root),
            root,
            _unpacked: unpacked,
        }
    }

    /// Rows, or none when the excerpt lacks the files. Any other answer is a defect.
    fn sample<P: Probe>(&self) -> Option<Sampled> {
        match self.host.run_once::<P>("") {
            Ok(sampled) => Some(sampled),
            Err(ProbeError {
                kind: Kind::Unsupported,
                ..
            }) => None,
            Err(error) => panic!("{}: {}: {:?} {error}", self.name, P::NAME, error.kind),
        }
    }

    /// The same, with none for a machine whose excerpt lacks the files.
    fn rows_or_none<P: Probe, R: Row>(&self) -> Vec<R> {
        self.sample::<P>().map(|sampled| sampled.rows()).unwrap_or_default()
    }

    /// How many different numbers `lscpu --parse` gives to the CPUs that are online, and how many CPUs those are.
    fn lscpu(&self, column: &str) -> Option<(usize, usize)> {
        let mut lscpu = Command::new("lscpu");
        lscpu.arg("--sysroot").arg(&self.root);
        lscpu.args(["--online", &format!("--parse=CPU,{column}")]);
        let output = lscpu.output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let numbers = rows.iter().filter_map(|line| line.split(',').nth(1));
        let distinct: BTreeSet<&str> = numbers.filter(|n| !n.is_empty()).collect();
        Some((distinct.len(), rows.len()))
    }
}

fn archives() -> Vec<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/hosts");
    let dir = std::env::var_os("VWATCH_HOSTS").map_or_else(default, PathBuf::from);
    let entries = fs::read_dir(&dir).map(|dir| dir.flatten().map(|entry| entry.path()).collect());
    let mut archives: Vec<PathBuf> = entries.unwrap_or_default();
    archives.retain(|path| path.to_string_lossy().contains(".tar."));
    archives.sort();
    archives
}

fn times_are_sane(name: &str, rows: &[CpuTime]) {
    let total = rows.iter().find(|row| row.cpu == "total").unwrap();
    let sum: i64 = rows
        .iter()
        .filter(|row| row.cpu != "total")
        .map(|row| row.idle_ns)
        .sum();
    // The kernel sums before it rounds to ticks.
    let rounding = 20_000_000 * rows.len() as i64;
    assert!(
        (sum - total.idle_ns).abs() <= rounding,
        "{name}: idle {} in total, {sum} in sum",
        total.idle_ns
    );
    assert!(rows.iter().all(|row| row.user_ns >= 0 && row.system_ns >= 0), "{name}");
}

fn every_cpu_is_there(machine: &Machine, cpus: &[CpuInfo]) {
    // Each directory is a CPU; a file `online` in it says no with a 0.
    let dirs = fs::read_dir(machine.root.join("sys/devices/system/cpu"))
        .unwrap()
        .flatten();
    let is_cpu = |name: &str| name.starts_with("cpu") && name[3..].parse::<u32>().is_ok();
    let dirs = dirs.filter(|entry| is_cpu(&entry.file_name().to_string_lossy()));
    let dirs: Vec<PathBuf> = dirs.map(|entry| entry.path()).collect();
    let is_off = |dir: &&PathBuf| fs::read_to_string(dir.join("online")).is_ok_and(|text| text.trim() == "0");
    let online: Vec<&CpuInfo> = cpus.iter().filter(|cpu| cpu.online).collect();
    assert_eq!(cpus.len(), dirs.len(), "{}", machine.name);
    let expect = dirs.len() - dirs.iter().filter(is_off).count();
    assert_eq!(online.len(), expect, "{}: CPUs online", machine.name);
    for cpu in online {
        let described = cpu.flags.is_some() && cpu.bogomips.is_some_and(|n| n > 0.0);
        // RISC-V has no delay loop to measure.
        assert!(
            described || machine.name.starts_with("rv64"),
            "{}: {}",
            machine.name,
            cpu.cpu
        );
    }
}

fn kinds_of_cpus_are_told_apart(name: &str, cpus: &[CpuInfo]) {
    if name.contains("hybrid") {
        let fastest: BTreeSet<_> = cpus.iter().map(|cpu| cpu.base_freq_hz).collect();
        assert!(fastest.len() > 1, "{name}: {fastest:?}");
    }
    if name.starts_with("arm-A510") {
        let parts: BTreeSet<_> = cpus.iter().filter_map(|cpu| cpu.model.as_deref()).collect();
        assert_eq!(
            parts.into_iter().collect::<Vec<_>>(),
            ["0xd46", "0xd47", "0xd4d", "0xd4e"]
        );
    }
}

fn as_lscpu_counts(machine: &Machine, cpus: &[CpuInfo]) {
    let name = &machine.name;
    let online: Vec<&CpuInfo> = cpus.iter().filter(|cpu| cpu.online).collect();
    let Some((cores, count)) = machine.lscpu("CORE") else {
        println!("skipped the part of real_machines with lscpu: there is none, or it cannot read {name}");
        return;
    };
    assert_eq!(online.len(), count, "{name}: CPUs online");
    // Elsewhere `core_id` repeats within a package, and what is a package differs from kernel to kernel. Where localities
    // conflict, lscpu believes `core_siblings` and the probe `physical_package_id`.
    if online.iter().all(|cpu| cpu.apicid.is_some()) && !name.contains("conflicts") {
        let siblings: BTreeSet<_> = online.iter().map(|cpu| cpu.thread_siblings.as_ref()).collect();
        assert_eq!(siblings.len(), cores, "{name}: cores");
        let sockets: BTreeSet<_> = online.iter().map(|cpu| cpu.package_id).collect();
        let expect = machine.lscpu("SOCKET").map(|(sockets, _)| sockets);
        assert_eq!(Some(sockets.len()), expect, "{name}: sockets");
    }
    // lscpu finds no node without `possible`, which some excerpts lack.
    let nodes: BTreeSet<_> = online.iter().filter_map(|cpu| cpu.numa_node).collect();
    if let Some((expect, _)) = machine.lscpu("NODE").filter(|(nodes, _)| *nodes > 0) {
        assert_eq!(nodes.len(), expect, "{name}: NUMA nodes");
    }
}

fn caches_are_as_lscpu_says(machine: &Machine, caches: &[CpuCache]) {
    let name = &machine.name;
    let described = walk(&machine.root.join("sys/devices/system/cpu"), "cache/index0/level");
    assert_eq!(
        caches.is_empty(),
        described == 0,
        "{name}: no cache of {described} CPUs"
    );
    for cache in caches {
        assert!((1..=4).contains(&cache.level), "{name}: {cache:?}");
        // AMD's L3 of that time leaves out the ways that its probe filter uses.
        if let CpuCache {
            size_bytes: Some(size),
            line_bytes: Some(line),
            ways: Some(ways),
            sets: Some(sets),
            ..
        } = cache
        {
            let (product, slack) = (line * ways * sets * cache.lines_per_tag.unwrap_or(1), size / 100);
            assert!((product - size).abs() <= slack, "{name}: {cache:?}");
        }
    }
    let mut lscpu = Command::new("lscpu");
    lscpu.arg("--sysroot").arg(&machine.root);
    lscpu.args(["--bytes", "--caches=NAME,ALL-SIZE"]);
    let Some(output) = lscpu.output().ok().filter(|output| output.status.success()) else {
        println!("skipped the part of real_machines with lscpu --caches: there is none, or it cannot read {name}");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.lines().skip(1).map(|line| line.split_whitespace());
    // No size where the kernel tells none.
    let bytes = |word: Option<&str>| word.map_or(0, |bytes| bytes.parse().unwrap());
    let expect: BTreeMap<String, i64> = words
        .filter_map(|mut words| Some((words.next()?.to_owned(), bytes(words.next()))))
        .collect();
    if expect.is_empty() {
        println!("skipped the part of real_machines with lscpu --caches: it finds none in {name}");
        return;
    }
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    for cache in caches {
        let letter = match cache.cache_type.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        *found.entry(format!("L{}{letter}", cache.level)).or_default() += cache.size_bytes.unwrap_or(0);
    }
    assert_eq!(found, expect, "{name}: bytes of each kind of cache");
}

fn nodes_are_as_lscpu_says(machine: &Machine, nodes: &[NumaNode]) {
    let name = &machine.name;
    let dir = machine.root.join("sys/devices/system/node");
    assert_eq!(nodes.len(), walk(&dir, "cpumap"), "{name}: NUMA nodes");
    for node in nodes {
        let told = dir.join(format!("node{}/meminfo", node.node)).is_file();
        assert_eq!(
            node.memory_bytes.is_some_and(|bytes| bytes > 1 << 30),
            told,
            "{name}: {node:?}"
        );
        if let Some(distances) = &node.distances {
            let words: Vec<&str> = distances.split(' ').collect();
            // These nodes are numbered without a gap.
            assert_eq!((words.len(), words[node.node as usize]), (nodes.len(), "10"), "{name}");
        }
    }
    let mut lscpu = Command::new("lscpu");
    lscpu.env("LC_ALL", "C").arg("--sysroot").arg(&machine.root);
    let Some(output) = lscpu.output().ok().filter(|output| output.status.success()) else {
        println!("skipped the part of real_machines with lscpu's NUMA nodes: there is none, or it cannot read {name}");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let expect: BTreeMap<i32, String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("NUMA node")?.split_once(" CPU(s):"))
        .map(|(node, cpus)| (node.parse().unwrap(), cpus.trim().to_owned()))
        .collect();
    let found: BTreeMap<i32, String> = nodes.iter().map(|node| (node.node, node.cpus.clone())).collect();
    assert_eq!(found, expect, "{name}: CPUs of the NUMA nodes");
}

fn partitions_lie_on_their_disks(machine: &Machine, disks: &[BlockDevice], partitions: &[Partition]) {
    let name = &machine.name;
    for disk in disks {
        let mut ends = 0;
        let mut parts: Vec<&Partition> = partitions.iter().filter(|part| part.disk == disk.name).collect();
        assert_eq!(parts.len() as i64, disk.partitions, "{name}: {}", disk.name);
        parts.sort_by_key(|part| part.start_bytes);
        for part in parts {
            // The logical partitions of an extended one lie behind its first two sectors, which are all that is shown of it.
            assert!(
                part.start_bytes.unwrap() >= ends,
                "{name}: {part:?} begins before {ends}"
            );
            ends = part.start_bytes.unwrap() + part.size_bytes.unwrap();
            assert!((1..=disk.size_bytes.unwrap()).contains(&ends), "{name}: {part:?}");
            assert_eq!(part.name, format!("{}{}", disk.name, part.number.unwrap()), "{name}");
        }
    }
    let expected = if name.contains("pci-conflicts") { 6 } else { 0 };
    assert_eq!(partitions.len(), expected, "{name}: partitions");
}

/// The kernel tells the ids of a device a second time, in other words, in its `uevent`.
fn devices_are_those_of_their_events(machine: &Machine, devices: &[PciDevice]) {
    let dir = machine.root.join("sys/bus/pci/devices");
    assert_eq!(devices.len(), walk(&dir, "uevent"), "{}: PCI devices", machine.name);
    for device in devices {
        let text = fs::read_to_string(dir.join(&device.address).join("uevent")).unwrap();
        let text = text.trim_matches('\0');
        let told = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let hex = |id: &Option<String>| u32::from_str_radix(id.as_ref()?.strip_prefix("0x")?, 16).ok();
        let pair = |ids: &str| {
            let (vendor, device) = ids.split_once(':')?;
            Some((
                u32::from_str_radix(vendor, 16).ok()?,
                u32::from_str_radix(device, 16).ok()?,
            ))
        };
        let name = format!("{}: {device:?}", machine.name);
        assert_eq!(told("PCI_SLOT_NAME"), Some(device.address.as_str()), "{name}");
        assert_eq!(told("DRIVER"), device.driver.as_deref(), "{name}");
        let class = told("PCI_CLASS").and_then(|class| u32::from_str_radix(class, 16).ok());
        assert!(class.is_some() && hex(&device.class) == class, "{name}");
        let (ids, board) = (told("PCI_ID").and_then(pair), told("PCI_SUBSYS_ID").and_then(pair));
        assert!(
            ids.is_some() && hex(&device.vendor).zip(hex(&device.device)) == ids,
            "{name}"
        );
        let found = hex(&device.subsystem_vendor).zip(hex(&device.subsystem_device));
        assert!(board.is_some() && found == board, "{name}");
    }
}

/// In how many subdirectories there is such a file.
fn walk(dir: &Path, file: &str) -> usize {
    let entries = fs::read_dir(dir).map(|dir| dir.flatten().collect::<Vec<_>>());
    let entries = entries.unwrap_or_default();
    entries.iter().filter(|entry| entry.path().join(file).is_file()).count()
}
