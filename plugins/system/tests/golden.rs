//! The plugin over fixture hosts, through the ABI, against golden rows. `UPDATE_GOLDEN=1` writes them anew; then read the diff.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use vwatch_sdk::Kind;
use vwatch_system::vwatch_plugin;
use vwatch_testkit::FixtureHost;

const HOSTS: [&str; 3] = ["numa-server", "arm-board", "old-vm"];

fn fixture(host: &str) -> FixtureHost {
    FixtureHost::at(format!(
        "{}/../../tests/fixtures/hosts/{host}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

fn golden(probe: &str) {
    golden_of(probe, &HOSTS);
}

/// Rows of some hosts; the others do not have the thing, and the answer says so.
fn golden_of(probe: &str, hosts: &[&str]) {
    for name in HOSTS.into_iter().filter(|name| !hosts.contains(name)) {
        let host = fixture(name);
        let mut instance = host.load(vwatch_plugin()).unwrap().open(probe, "").unwrap();
        let refused = instance.run().unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported, "{name}: {refused}");
    }
    for name in hosts {
        let host = fixture(name);
        let mut instance = host.load(vwatch_plugin()).unwrap().open(probe, "").unwrap();
        let sampled = instance.run().unwrap();
        sampled.golden(probe, &format!("tests/golden/{name}/{probe}.txt"));
    }
}

#[test]
fn host() {
    golden("host");
}

#[test]
fn cpu_info() {
    golden("cpu_info");
}

#[test]
fn cpu_cache() {
    golden_of("cpu_cache", &["numa-server", "arm-board"]);
}

#[test]
fn numa_node() {
    golden_of("numa_node", &["numa-server", "old-vm"]);
}

#[test]
fn mount() {
    golden("mount");
}

#[test]
fn net_interface() {
    golden("net_interface");
}

#[test]
fn block_device() {
    golden("block_device");
}

#[test]
fn partition() {
    golden("partition");
}

#[test]
fn pci_device() {
    golden_of("pci_device", &["numa-server", "old-vm"]);
}

#[test]
fn kernel_module() {
    golden_of("kernel_module", &["numa-server", "old-vm"]);
}

#[test]
fn a_line_of_no_module_is_told_with_its_file() {
    let host = FixtureHost::new();
    host.file("proc/modules", "vfat 20480 1 - Live 0x0\nfat much 1 vfat, Live 0x0\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let failed = plugin.open("kernel_module", "").unwrap().run().unwrap_err();
    assert_eq!(failed.kind, Kind::Failed);
    assert!(
        failed.message.contains("proc/modules") && failed.message.contains("fat much"),
        "{failed}"
    );
}

#[test]
fn net_address_needs_the_kernel_that_runs() {
    let host = fixture("numa-server");
    let refused = host
        .load(vwatch_plugin())
        .unwrap()
        .open("net_address", "")
        .err()
        .unwrap();
    assert_eq!(refused.kind, Kind::Unsupported);
    assert!(refused.message.contains("netlink"), "{refused}");
}

#[test]
fn a_host_without_files_is_unsupported_not_failed() {
    let bare = FixtureHost::new();
    let plugin = bare.load(vwatch_plugin()).unwrap();
    for (probe, file) in [
        ("host", "sys/kernel/hostname"),
        ("cpu_info", "cpuinfo"),
        ("cpu_cache", "devices/system/cpu"),
        ("numa_node", "devices/system/node"),
        ("mount", "self/mountinfo"),
        ("net_interface", "class/net"),
        ("block_device", "block"),
        ("partition", "block"),
        ("pci_device", "bus/pci/devices"),
        ("kernel_module", "modules"),
    ] {
        let refused = plugin.open(probe, "").unwrap().run().unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported, "{probe}");
        assert!(refused.message.contains(file), "{probe}: {refused}");
    }
}

#[test]
fn empty_files_are_no_error_where_they_are_optional() {
    let bare = FixtureHost::new();
    bare.file("proc/sys/kernel/hostname", "h\n").file("proc/cpuinfo", "");
    bare.file("proc/self/mountinfo", "")
        .file("proc/stat", "")
        .file("proc/meminfo", "");
    bare.file("sys/class/net/lo/ifindex", "")
        .file("sys/block/sda/size", "\n");
    let plugin = bare.load(vwatch_plugin()).unwrap();
    let rows = |probe: &str| plugin.open(probe, "").unwrap().run().unwrap().batch(probe).num_rows();
    assert_eq!(
        (rows("host"), rows("mount"), rows("net_interface"), rows("block_device")),
        (1, 0, 1, 1)
    );
    let none = plugin.open("cpu_info", "").unwrap().run().unwrap_err();
    assert_eq!(none.kind, Kind::Failed);
}

#[test]
fn every_column_says_what_it_is_and_where_it_is_from() {
    let host = FixtureHost::new();
    let plugin = host.load(vwatch_plugin()).unwrap();
    for table in &plugin.manifest().tables {
        assert!(!table.doc.is_empty(), "{}", table.name);
        for column in &table.columns {
            let name = format!("{}.{}", table.name, column.name);
            assert!(column.doc.contains("Source: "), "{name}: {}", column.doc);
            let unit = ["ns", "us", "bytes", "hz", "mbps", "mtps", "bits"]
                .into_iter()
                .find(|u| name.ends_with(&format!("_{u}")));
            assert!(
                unit.is_none() || column.unit.as_deref() == unit,
                "{name}: {:?}",
                column.unit
            );
        }
    }
}
