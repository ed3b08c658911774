//! The probes of `os` over fixture hosts, through the ABI, against golden rows.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use vwatch_os::vwatch_plugin;
use vwatch_probes::os::cgroup::Cgroup;
use vwatch_probes::os::file_table::FileTable;
use vwatch_sdk::Kind;
use vwatch_testkit::{FixtureHost, Logged};

const PROBES: [&str; 10] = [
    "load",
    "memory",
    "vmstat",
    "disk_io",
    "net_io",
    "pressure",
    "scheduler",
    "file_table",
    "net_protocol",
    "cgroup",
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

/// Ten groups under two parents.
fn many_groups() -> FixtureHost {
    let host = FixtureHost::new();
    let mount = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    host.file("proc/self/mountinfo", mount);
    for parent in ["a", "b"] {
        for child in 0..4 {
            host.file(&format!("sys/fs/cgroup/{parent}/{child}/pids.current"), "1\n");
        }
        host.file(&format!("sys/fs/cgroup/{parent}/pids.current"), "4\n");
    }
    host
}

#[test]
fn the_groups_nearest_to_the_root_are_read() {
    let host = many_groups();
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut few = plugin.open("cgroup", "max_groups=5").unwrap();
    let rows: Vec<Cgroup> = few.run().unwrap().rows();
    few.run().unwrap();
    let warnings = host.recorded(|seen| {
        let told = |logged: &&Logged| logged.message.contains("more than 5 control groups");
        seen.log.iter().filter(told).count()
    });
    assert_eq!(warnings, 1);
    let paths: Vec<_> = rows.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(paths, ["/", "/a", "/b", "/a/0", "/a/1"]);
    let all: Vec<Cgroup> = plugin.open("cgroup", "").unwrap().run().unwrap().rows();
    assert_eq!(all.len(), 11);
    assert!(all[1..].iter().all(|row| row.pids_current >= Some(1)), "{all:?}");
    let refused = plugin.open("cgroup", "max_groups=0").err().unwrap();
    assert_eq!(refused.kind, Kind::BadInput, "{refused}");
}

#[test]
fn groups_come_and_go_and_no_mount_is_unsupported() {
    let host = many_groups();
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut probe = plugin.open("cgroup", "").unwrap();
    assert_eq!(probe.run().unwrap().batch("cgroup").num_rows(), 11);
    assert_eq!(probe.run().unwrap().batch("cgroup").num_rows(), 0);
    host.file("sys/fs/cgroup/a/pids.current", "3\n");
    let changed: Vec<Cgroup> = probe.run().unwrap().rows();
    assert_eq!((changed.len(), changed[0].pids_current), (1, Some(3)));
    host.remove("sys/fs/cgroup/b");
    assert_eq!(probe.run().unwrap().batch("cgroup").num_rows(), 6);
    host.file("proc/self/mountinfo", "27 1 254:0 / / rw - ext4 /dev/vda rw\n");
    let refused = plugin.open("cgroup", "").err().unwrap();
    assert_eq!(refused.kind, Kind::Unsupported);
    assert!(refused.message.contains("no control groups are mounted"), "{refused}");
}
