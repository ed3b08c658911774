//! The probes of `os` over fixture hosts, through the ABI, against golden rows.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use vwatch_os::vwatch_plugin;
use vwatch_probes::os::file_table::FileTable;
use vwatch_sdk::Kind;
use vwatch_testkit::FixtureHost;

const PROBES: [&str; 9] = [
    "load",
    "memory",
    "vmstat",
    "disk_io",
    "net_io",
    "pressure",
    "scheduler",
    "file_table",
    "net_protocol",
];

fn host(name: &str) -> FixtureHost {
    FixtureHost::at(format!("../../tests/fixtures/hosts/{name}"))
}

#[test]
fn golden_rows() {
    for name in ["small-vm", "busy-host"] {
        let plugin = host(name).load(vwatch_plugin()).unwrap();
        for probe in PROBES {
            let sampled = plugin.open(probe, "").unwrap().run().unwrap();
            sampled.golden(probe, &format!("tests/golden/{name}/{probe}.txt"));
        }
    }
}

/// Every probe says which file it misses, and none of them panics on an empty one.
#[test]
fn files_that_are_missing_or_empty() {
    let bare = FixtureHost::new();
    let plugin = bare.load(vwatch_plugin()).unwrap();
    for probe in PROBES {
        let refused = plugin.open(probe, "").err().unwrap();
        assert_eq!(refused.kind, Kind::Unsupported, "{probe}: {refused}");
        assert!(refused.message.contains("/proc/"), "{probe}: {refused}");
    }
    for file in [
        "loadavg",
        "meminfo",
        "vmstat",
        "diskstats",
        "net/dev",
        "stat",
        "pressure/cpu",
        "sys/fs/file-nr",
        "net/snmp",
    ] {
        bare.file(&format!("proc/{file}"), "");
    }
    for probe in ["load", "memory", "scheduler", "file_table"] {
        let failed = plugin.open(probe, "").unwrap().run().unwrap_err();
        assert_eq!(failed.kind, Kind::Failed, "{probe}: {failed}");
    }
    for probe in ["vmstat", "disk_io", "net_io", "net_protocol"] {
        assert_eq!(
            plugin.open(probe, "").unwrap().run().unwrap().batch(probe).num_rows(),
            0
        );
    }
    assert_eq!(plugin.open("pressure", "").err().unwrap().kind, Kind::Unsupported);
}

#[test]
fn only_what_changed_is_handed_over() {
    let host = FixtureHost::new();
    host.file("proc/vmstat", "pgfault 1\npgpgin 5\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut vmstat = plugin.open("vmstat", "").unwrap();
    assert_eq!(
        vmstat.run().unwrap().text("vmstat"),
        "name     value\npgfault      1\npgpgin       5\n"
    );
    host.file("proc/vmstat", "pgfault 2\npgpgin 5\n");
    assert_eq!(vmstat.run().unwrap().text("vmstat"), "name     value\npgfault      2\n");
    assert_eq!(vmstat.run().unwrap().batch("vmstat").num_rows(), 0);
    // A name that comes or goes is a full picture, as is what the host asks for.
    host.file("proc/vmstat", "pgfault 2\n");
    assert_eq!(vmstat.run().unwrap().text("vmstat"), "name     value\npgfault      2\n");
    assert_eq!(vmstat.run_full().unwrap().batch("vmstat").num_rows(), 1);
}

#[test]
fn options_choose_rows() {
    let plugin = host("small-vm").load(vwatch_plugin()).unwrap();
    let rows = |probe: &str, options: &str| {
        plugin
            .open(probe, options)
            .unwrap()
            .run()
            .unwrap()
            .batch(probe)
            .num_rows()
    };
    assert_eq!(rows("disk_io", "devices=vda,vda1"), 2);
    assert_eq!(rows("net_io", "interfaces=lo"), 1);
    assert_eq!(rows("vmstat", "names=pgfault,none"), 1);
    assert_eq!(rows("net_protocol", "protocols=Udp,Udp6 names=NoPorts,InErrors"), 4);
}

#[test]
fn only_the_table_of_files_is_needed_and_damage_is_named() {
    let host = FixtureHost::new();
    host.file("proc/sys/fs/file-nr", "764\t0\t2466183\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut probe = plugin.open("file_table", "").unwrap();
    let row: FileTable = probe.run().unwrap().rows().remove(0);
    assert_eq!((row.nr_files, row.nr_inodes, row.nr_dentry), (764, None, None));
    host.file("proc/sys/fs/dentry-state", "321241\t317555\n");
    let failed = probe.run().unwrap_err();
    assert_eq!(failed.kind, Kind::Failed);
    assert!(failed.message.contains("dentry-state: line 1"), "{failed}");
}

#[test]
fn each_file_of_the_protocols_may_be_missing_and_damage_is_named() {
    let host = FixtureHost::new();
    host.file("proc/net/netstat", "TcpExt: ListenDrops\nTcpExt: 5\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut probe = plugin.open("net_protocol", "").unwrap();
    assert_eq!(probe.run().unwrap().batch("net_protocol").num_rows(), 1);
    host.file("proc/net/snmp", "Tcp: CurrEstab InSegs\nTcp: 7\n");
    let failed = probe.run().unwrap_err();
    assert_eq!(failed.kind, Kind::Failed);
    assert!(failed.message.contains("net/snmp: line 2"), "{failed}");
}
