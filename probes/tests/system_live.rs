//! Probes of system and cpu on the machine that runs the test, against other programs' answers: lscpu, findmnt, ip, lsblk, df,
//! uname. Where such a program is not installed, its test says so and ends.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use vwatch_probes::cpu::CpuTimeProbe;
use vwatch_probes::cpu::cpu_time::CpuTime;
use vwatch_probes::system::block_device::BlockDevice;
use vwatch_probes::system::cpu_cache::CpuCache;
use vwatch_probes::system::cpu_info::CpuInfo;
use vwatch_probes::system::host::Host;
use vwatch_probes::system::kernel_module::KernelModule;
use vwatch_probes::system::mount::Mount;
use vwatch_probes::system::net_address::NetAddress;
use vwatch_probes::system::net_interface::NetInterface;
use vwatch_probes::system::numa_node::NumaNode;
use vwatch_probes::system::partition::Partition;
use vwatch_probes::system::pci_device::PciDevice;
use vwatch_probes::system::{
    BlockDeviceProbe, CpuCacheProbe, CpuInfoProbe, HostProbe, KernelModuleProbe, MountProbe, NetAddressProbe,
    NetInterfaceProbe, NumaNodeProbe, PartitionProbe, PciDeviceProbe,
};
use vwatch_sdk::serde_json::Value;
use vwatch_sdk::{Kind, Probe, Row};
use vwatch_testkit::FixtureHost;

fn rows<P: Probe, R: Row>() -> Vec<R> {
    FixtureHost::live().run_once::<P>("").unwrap().rows()
}

/// Standard output of a program; `None`, and a word about it, when there is no such program or it fails.
fn output(test: &str, program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            println!("skipped {test}: {program} ended with {}", output.status);
            None
        }
        Err(error) => {
            println!("skipped {test}: {program}: {error}");
            None
        }
    }
}

#[test]
fn host_agrees_with_uname_and_the_kernel() {
    let host = rows::<HostProbe, Host>().remove(0);
    let Some(uname) = output("host_agrees_with_uname_and_the_kernel", "uname", &["-snrm"]) else {
        return;
    };
    let said = [
        Some(host.hostname.clone()),
        host.kernel_name,
        host.kernel_release,
        host.architecture,
    ];
    let words: Vec<&str> = uname.split_whitespace().collect();
    assert_eq!(said.map(Option::unwrap), [words[1], words[0], words[2], words[3]]);
    // SAFETY: sysconf takes no pointers.
    let (cpus, pages) = unsafe {
        (
            libc::sysconf(libc::_SC_NPROCESSORS_ONLN),
            libc::sysconf(libc::_SC_PHYS_PAGES),
        )
    };
    assert_eq!(host.cpus_online, Some(cpus));
    assert_eq!(host.memory_bytes, Some(pages * host.page_bytes.unwrap()));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let boot = host.boot_time.unwrap().0 as f64 / 1e9;
    assert!(
        (now - uptime - boot).abs() < 3.0,
        "booted at {boot}, up for {uptime} at {now}"
    );
}

#[test]
fn cpu_info_agrees_with_lscpu() {
    let Some(text) = output(
        "cpu_info_agrees_with_lscpu",
        "lscpu",
        &["--online", "--parse=CPU,SOCKET,NODE"],
    ) else {
        return;
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let expect: BTreeMap<i32, String> = lines
        .filter_map(|line| line.split_once(','))
        .map(|(cpu, place)| (cpu.parse().unwrap(), place.to_owned()))
        .collect();
    let text = |n: Option<i32>| n.map_or(String::new(), |n| n.to_string());
    let found: BTreeMap<i32, String> = rows::<CpuInfoProbe, CpuInfo>()
        .iter()
        .filter(|cpu| cpu.online)
        .map(|cpu| {
            (
                cpu.processor,
                format!("{},{}", text(cpu.package_id), text(cpu.numa_node)),
            )
        })
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn cpu_cache_agrees_with_lscpu() {
    const TEST: &str = "cpu_cache_agrees_with_lscpu";
    let arguments = [
        "--bytes",
        "--caches=LEVEL,TYPE,ONE-SIZE,ALL-SIZE,WAYS,SETS,COHERENCY-SIZE",
    ];
    let Some(text) = output(TEST, "lscpu", &arguments) else {
        return;
    };
    let caches = match FixtureHost::live().run_once::<CpuCacheProbe>("") {
        Ok(sampled) => sampled.rows::<CpuCache>(),
        Err(refused) => {
            assert_eq!((refused.kind, text.trim()), (Kind::Unsupported, ""), "{refused}");
            return;
        }
    };
    let mut bytes: BTreeMap<(i32, &str), i64> = BTreeMap::new();
    for cache in &caches {
        *bytes.entry((cache.level, &cache.cache_type)).or_default() += cache.size_bytes.unwrap_or(0);
    }
    let text_of = |n: Option<i64>| n.map_or(String::new(), |n| n.to_string());
    let found: BTreeSet<String> = caches
        .iter()
        .map(|cache| {
            let all = bytes[&(cache.level, cache.cache_type.as_str())];
            let numbers = [cache.ways, cache.sets, cache.line_bytes].map(text_of).join(" ");
            let size = text_of(cache.size_bytes);
            format!("{} {} {size} {all} {numbers}", cache.level, cache.cache_type)
        })
        .collect();
    let lines = text.lines().skip(1);
    let expect: BTreeSet<String> = lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    // Of caches of one kind that differ, lscpu describes one.
    assert!(expect.is_subset(&found), "{expect:?} is not in {found:?}");
}

#[test]
fn memory_and_cpus_of_all_nodes_are_those_of_the_host() {
    let nodes = match FixtureHost::live().run_once::<NumaNodeProbe>("") {
        Ok(sampled) => sampled.rows::<NumaNode>(),
        Err(refused) => {
            assert_eq!(refused.kind, Kind::Unsupported, "{refused}");
            assert!(!Path::new("/sys/devices/system/node").exists(), "{refused}");
            return;
        }
    };
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total: i64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    let sum: i64 = nodes.iter().filter_map(|node| node.memory_bytes).sum();
    assert_eq!(sum, total << 10, "{nodes:?}");
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if let [node] = &nodes[..] {
        assert_eq!(node.cpus, online.trim());
    }
    let Some(text) = output(
        "memory_and_cpus_of_all_nodes_are_those_of_the_host",
        "lscpu",
        &["--parse=CPU,NODE"],
    ) else {
        return;
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let expect: BTreeSet<i32> = lines.filter_map(|line| line.split(',').nth(1)?.parse().ok()).collect();
    let found: BTreeSet<i32> = nodes.iter().filter(|n| !n.cpus.is_empty()).map(|n| n.node).collect();
    assert_eq!(found, expect);
}

#[test]
fn cpu_time_lies_between_two_readings_of_the_kernel() {
    let read = || -> BTreeMap<String, Vec<i64>> {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let lines = text.lines().filter(|line| line.starts_with("cpu"));
        let words = lines.map(|line| line.split_whitespace());
        let named = words.map(|mut words| {
            (
                words.next().unwrap().to_owned(),
                words.map(|n| n.parse().unwrap()).collect(),
            )
        });
        named.collect()
    };
    // SAFETY: sysconf takes no pointers.
    let tick_ns = 1_000_000_000 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let before = read();
    let found = rows::<CpuTimeProbe, CpuTime>();
    let after = read();
    assert_eq!(found.len(), before.len());
    for row in found {
        let name = if row.cpu == "total" { "cpu" } else { &row.cpu };
        for (i, ns) in [row.user_ns, row.nice_ns, row.system_ns, row.idle_ns]
            .into_iter()
            .enumerate()
        {
            let (low, high) = (before[name][i] * tick_ns, after[name][i] * tick_ns);
            assert!(
                (low..=high).contains(&ns),
                "{name} field {i}: {ns} not in {low}..={high}"
            );
        }
    }
}

/// findmnt's picture of the same process whose mounts the probe reads.
fn findmnt(test: &str) -> Option<Vec<Value>> {
    let task = if fs::read("/proc/1/mountinfo").is_ok() {
        "1"
    } else {
        "self"
    };
    let list = "--output=ID,PARENT,TARGET,FSTYPE,MAJ:MIN,OPTIONS,PROPAGATION";
    let file = format!("/proc/{task}/mountinfo");
    let text = output(test, "findmnt", &["--list", "--json", "--tab-file", &file, list])?;
    let json: Value = vwatch_sdk::serde_json::from_str(&text).unwrap();
    Some(json["filesystems"].as_array().unwrap().clone())
}

#[test]
fn mount_agrees_with_findmnt() {
    let Some(expect) = findmnt("mount_agrees_with_findmnt") else {
        return;
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let expect: BTreeSet<[String; 4]> = expect
        .iter()
        .map(|m| {
            [
                text(&m["id"]),
                text(&m["parent"]),
                text(&m["target"]),
                text(&m["fstype"]),
            ]
        })
        .collect();
    let found: BTreeSet<[String; 4]> = rows::<MountProbe, Mount>()
        .into_iter()
        .map(|m| [m.mount_id.to_string(), m.parent_id.to_string(), m.target, m.fstype])
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn space_of_the_root_agrees_with_df() {
    let Some(text) = output(
        "space_of_the_root_agrees_with_df",
        "df",
        &["--block-size=1", "--output=size,itotal", "/"],
    ) else {
        return;
    };
    let numbers: Vec<i64> = text
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    let mounts = rows::<MountProbe, Mount>();
    let root = mounts.iter().find(|m| m.target == "/" && m.block_bytes.is_some());
    let Some(root) = root else {
        println!("skipped space_of_the_root_agrees_with_df: the kernel does not tell mounts apart (needs Linux 5.8)");
        return;
    };
    assert_eq!(
        (root.total_bytes, root.inodes),
        (Some(numbers[0]), Some(numbers[1]).filter(|n| *n > 0))
    );
    assert!(root.free_bytes >= root.available_bytes && root.total_bytes >= root.free_bytes);
}

#[test]
fn interfaces_and_addresses_agree_with_ip() {
    let Some(text) = output("interfaces_and_addresses_agree_with_ip", "ip", &["-json", "address"]) else {
        return;
    };
    let json: Value = vwatch_sdk::serde_json::from_str(&text).unwrap();
    let links = json.as_array().unwrap();
    let expect: BTreeSet<(String, i64, i64, String)> = links
        .iter()
        .map(|l| {
            let text = |name: &str| l[name].as_str().unwrap_or_default().to_owned();
            (
                text("ifname"),
                l["ifindex"].as_i64().unwrap(),
                l["mtu"].as_i64().unwrap(),
                text("address"),
            )
        })
        .collect();
    let found: BTreeSet<(String, i64, i64, String)> = rows::<NetInterfaceProbe, NetInterface>()
        .into_iter()
        .map(|i| {
            (
                i.name,
                i.ifindex.unwrap().into(),
                i.mtu_bytes.unwrap(),
                i.mac.unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(found, expect);

    let expect: BTreeSet<(String, String, i64, String)> = links
        .iter()
        .flat_map(|link| {
            link["addr_info"]
                .as_array()
                .unwrap()
                .iter()
                .map(move |info| (link, info))
        })
        .map(|(link, info)| {
            let name = link["ifname"].as_str().unwrap().to_owned();
            let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
            (name, text("local"), info["prefixlen"].as_i64().unwrap(), text("scope"))
        })
        .collect();
    let found: BTreeSet<(String, String, i64, String)> = rows::<NetAddressProbe, NetAddress>()
        .into_iter()
        .map(|a| (a.interface, a.address, a.prefix_length.into(), a.scope))
        .collect();
    assert_eq!(found, expect);
    assert!(
        found.iter().any(|address| address.1 == "127.0.0.1"),
        "no address at all: {found:?}"
    );
}

#[test]
fn block_devices_agree_with_lsblk() {
    let arguments = [
        "--all",
        "--nodeps",
        "--json",
        "--bytes",
        "--output=KNAME,MAJ:MIN,SIZE,RO,ROTA,LOG-SEC,PHY-SEC",
    ];
    let Some(text) = output("block_devices_agree_with_lsblk", "lsblk", &arguments) else {
        return;
    };
    let json: Value = vwatch_sdk::serde_json::from_str(&text).unwrap();
    let expect: BTreeMap<String, String> = json["blockdevices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            let fields = ["maj:min", "size", "ro", "rota", "log-sec", "phy-sec"].map(|field| d[field].to_string());
            (
                d["kname"].as_str().unwrap().to_owned(),
                fields.join(" ").replace('"', ""),
            )
        })
        .collect();
    let found: BTreeMap<String, BlockDevice> = rows::<BlockDeviceProbe, BlockDevice>()
        .into_iter()
        .map(|d| (d.name.clone(), d))
        .collect();
    // lsblk leaves out RAM disks and devices without a medium.
    assert!(
        !expect.is_empty() && expect.keys().all(|name| found.contains_key(name)),
        "{expect:?}"
    );
    for (name, expect) in expect {
        let d = &found[&name];
        let numbers = [d.size_bytes, d.logical_block_bytes, d.physical_block_bytes].map(Option::unwrap);
        let (read_only, rotational) = (d.read_only.unwrap(), d.rotational.unwrap());
        let text = format!(
            "{}:{} {} {read_only} {rotational} {} {}",
            d.major.unwrap(),
            d.minor.unwrap(),
            numbers[0],
            numbers[1],
            numbers[2]
        );
        assert_eq!(text, expect, "{name}");
    }
}

#[test]
fn partitions_agree_with_lsblk() {
    let arguments = [
        "--all",
        "--list",
        "--json",
        "--bytes",
        "--output=KNAME,TYPE,PKNAME,MAJ:MIN,SIZE,RO",
    ];
    let Some(text) = output("partitions_agree_with_lsblk", "lsblk", &arguments) else {
        return;
    };
    let json: Value = vwatch_sdk::serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let devices = json["blockdevices"].as_array().unwrap().iter();
    let expect: BTreeSet<String> = devices
        .filter(|device| device["type"] == "part")
        .map(|d| {
            ["kname", "pkname", "maj:min", "size", "ro"]
                .map(|field| text(&d[field]))
                .join(" ")
        })
        .collect();
    let found: BTreeSet<String> = rows::<PartitionProbe, Partition>()
        .into_iter()
        .map(|p| {
            let (major, minor) = (p.major.unwrap(), p.minor.unwrap());
            let (bytes, read_only) = (p.size_bytes.unwrap(), p.read_only.unwrap());
            format!("{} {} {major}:{minor} {bytes} {read_only}", p.name, p.disk)
        })
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn modules_are_those_of_sysfs() {
    let modules = match FixtureHost::live().run_once::<KernelModuleProbe>("") {
        Ok(sampled) => sampled.rows::<KernelModule>(),
        Err(refused) => {
            assert_eq!(refused.kind, Kind::Unsupported, "{refused}");
            assert!(!Path::new("/proc/modules").exists(), "{refused}");
            println!("skipped modules_are_those_of_sysfs: {refused}");
            return;
        }
    };
    // What is built in has a directory too, for its parameters, but no state.
    let text = |name: &str, file: &str| fs::read_to_string(format!("/sys/module/{name}/{file}")).ok();
    let dirs = fs::read_dir("/sys/module").unwrap().flatten();
    let expect: BTreeSet<(String, String)> = dirs
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| text(name, "initstate").is_some())
        .map(|name| (text(&name, "taint").unwrap_or_default().trim().to_owned(), name))
        .collect();
    let found = modules.into_iter().map(|m| (m.taint.unwrap_or_default(), m.name));
    assert_eq!(found.collect::<BTreeSet<_>>(), expect);
}

#[test]
fn pci_devices_are_those_of_proc_and_lspci() {
    const TEST: &str = "pci_devices_are_those_of_proc_and_lspci";
    let devices = match FixtureHost::live().run_once::<PciDeviceProbe>("") {
        Ok(sampled) => sampled.rows::<PciDevice>(),
        Err(refused) => {
            assert_eq!(refused.kind, Kind::Unsupported, "{refused}");
            assert!(!Path::new("/sys/bus/pci/devices").exists(), "{refused}");
            return;
        }
    };
    let digits = |id: &Option<String>| id.as_ref().unwrap().trim_start_matches("0x").to_owned();
    // `0008\t1af41045\t0…`: bus, device and function in eight bits each; vendor and device; and the driver at the end.
    match fs::read_to_string("/proc/bus/pci/devices") {
        Ok(text) => {
            let lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
            let expect: BTreeSet<String> = lines.map(|words| format!("{} {}", words[0], words[1])).collect();
            let found = devices.iter().map(|d| {
                // Domains have no place in that file.
                let (_, place) = d.address.split_once(':').unwrap();
                let part = |range| u32::from_str_radix(&place[range], 16).unwrap();
                let devfn = part(3..5) << 3 | part(6..7);
                format!(
                    "{:02x}{devfn:02x} {}{}",
                    part(0..2),
                    digits(&d.vendor),
                    digits(&d.device)
                )
            });
            assert_eq!(found.collect::<BTreeSet<_>>(), expect);
        }
        Err(error) => println!("skipped a part of {TEST}: /proc/bus/pci/devices: {error}"),
    }
    let Some(text) = output(TEST, "lspci", &["-D", "-n"]) else {
        return;
    };
    // `0000:00:01.0 0200: 1af4:1041 (rev 01)`
    let expect: BTreeSet<String> = text
        .lines()
        .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "))
        .collect();
    let found = devices.iter().map(|d| {
        let class = digits(&d.class)[..4].to_owned();
        format!("{} {class}: {}:{}", d.address, digits(&d.vendor), digits(&d.device))
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), expect);
}

#[test]
fn addresses_of_a_copied_host_are_unsupported() {
    let refused = FixtureHost::new().run_once::<NetAddressProbe>("").unwrap_err();
    assert_eq!(refused.kind, Kind::Unsupported);
}
