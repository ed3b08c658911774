//! The probes of `os` on the kernel that runs, against other programs' and `sysfs`'s word.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use vwatch_os::vwatch_plugin;
use vwatch_probes::os::cgroup::Cgroup;
use vwatch_probes::os::disk_io::DiskIo;
use vwatch_probes::os::file_table::FileTable;
use vwatch_probes::os::load::Load;
use vwatch_probes::os::memory::Memory;
use vwatch_probes::os::net_io::NetIo;
use vwatch_probes::os::net_protocol::NetProtocol;
use vwatch_probes::os::scheduler::Scheduler;
use vwatch_sdk::Row;
use vwatch_testkit::FixtureHost;

/// The rows of a probe on this host; None, with the reason printed, when this kernel does not have it.
fn rows<R: Row>(test: &str) -> Option<Vec<R>> {
    let plugin = FixtureHost::live().load(vwatch_plugin()).unwrap();
    match plugin.open(R::TABLE.name, "") {
        Ok(mut instance) => Some(instance.run().unwrap().rows()),
        Err(e) => {
            println!("skipped {test}: {e}");
            None
        }
    }
}

fn number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[test]
fn memory_is_what_free_says() {
    let Ok(output) = Command::new("free").args(["-b", "-w"]).output() else {
        println!("skipped memory_is_what_free_says: there is no free(1)");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| -> Vec<i64> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .map(|word| word.parse().unwrap())
            .collect()
    };
    let Some(rows) = rows::<Memory>("memory_is_what_free_says") else {
        return;
    };
    let [memory] = rows.as_slice() else {
        panic!("{} rows", rows.len())
    };
    assert_eq!(memory.mem_total_bytes, Some(line("Mem:")[0]));
    assert_eq!(memory.swap_total_bytes, Some(line("Swap:")[0]));
    let near = |a: Option<i64>, b: i64| a.unwrap().abs_diff(b) < 512 << 20;
    assert!(near(memory.mem_free_bytes, line("Mem:")[2]), "{memory:?}\n{text}");
    assert!(near(memory.mem_available_bytes, line("Mem:")[6]), "{memory:?}\n{text}");
}

#[test]
fn disks_are_what_sysfs_says() {
    let Some(rows) = rows::<DiskIo>("disks_are_what_sysfs_says") else {
        return;
    };
    let mut compared = 0;
    for row in rows {
        // Partitions have their own directory below their disk's.
        let Ok(text) = fs::read_to_string(format!("/sys/block/{}/stat", row.device)) else {
            continue;
        };
        let after: Vec<i64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let before = [
            row.reads,
            row.reads_merged,
            row.read_bytes / 512,
            row.read_time_ns / 1_000_000,
            row.writes,
        ];
        assert!(
            before.iter().zip(&after).all(|(b, a)| b <= a && a - b < 100_000),
            "{row:?} {text}"
        );
        compared += 1;
    }
    if compared == 0 {
        println!("skipped disks_are_what_sysfs_says: no disks here");
    }
}

#[test]
fn traffic_of_the_loopback_is_counted() {
    let loopback = || {
        rows::<NetIo>("traffic")
            .unwrap()
            .into_iter()
            .find(|row| row.interface == "lo")
            .unwrap()
    };
    let before = loopback();
    assert!(number("/sys/class/net/lo/statistics/rx_bytes").unwrap() >= before.rx_bytes);
    let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(&[7; 1000], to.local_addr().unwrap()).unwrap();
    to.recv(&mut [0; 1500]).unwrap();
    let after = loopback();
    assert!(after.tx_bytes - before.tx_bytes >= 1028, "{before:?} {after:?}");
    assert!(after.rx_packets > before.rx_packets);
    assert!(number("/sys/class/net/lo/statistics/rx_bytes").unwrap() >= after.rx_bytes);
}

#[test]
fn load_and_scheduler_go_with_what_happens() {
    let load = rows::<Load>("load").unwrap().pop().unwrap();
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    assert!(load.tasks_total > 1 && load.runnable >= 1, "{load:?} {text}");
    let scheduler = || rows::<Scheduler>("scheduler").unwrap().pop().unwrap();
    let before = scheduler();
    assert!(Command::new("true").status().unwrap().success());
    let after = scheduler();
    assert!(
        after.processes > before.processes && after.ctxt > before.ctxt,
        "{before:?} {after:?}"
    );
    let uptime: f64 = fs::read_to_string("/proc/uptime")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let since_boot = vwatch_sdk::Timestamp::now().0 - after.btime.0;
    assert!((since_boot as f64 / 1e9 - uptime).abs() < 5.0, "{since_boot} {uptime}");
}

#[test]
fn files_that_are_opened_are_counted_and_limits_are_what_sysctl_says() {
    let table = || rows::<FileTable>("file_table").unwrap().pop().unwrap();
    let before = table();
    let held: Vec<_> = (0..500).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
    let during = table();
    drop(held);
    // What a CPU has counted by itself is not seen until it is more than 32, or twice the number of CPUs.
    assert!(during.nr_files - before.nr_files > 100, "{before:?} {during:?}");
    assert!(during.nr_dentry > Some(0) && during.nr_inodes > Some(0), "{during:?}");
    let Ok(output) = Command::new("sysctl")
        .args(["-n", "fs.file-max", "fs.nr_open"])
        .output()
    else {
        println!("skipped the limits of file_table: there is no sysctl(8)");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let limits: Vec<Option<i64>> = text.lines().map(|line| line.parse().ok()).collect();
    assert_eq!(limits, [Some(during.max_files), during.nr_open]);
}

#[test]
fn connections_and_datagrams_are_counted() {
    let Some(first) = rows::<NetProtocol>("connections_and_datagrams_are_counted") else {
        return;
    };
    let all = || rows::<NetProtocol>("net_protocol").unwrap();
    let find = |rows: &[NetProtocol], protocol: &str, name: &str| {
        let mut found = rows.iter().filter(|row| row.protocol == protocol && row.name == name);
        found.next().unwrap().clone()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = |_| {
        (
            std::net::TcpStream::connect(address).unwrap(),
            listener.accept().unwrap(),
        )
    };
    let held: Vec<_> = (0..20).map(connect).collect();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[7], socket.local_addr().unwrap()).unwrap();
    socket.recv(&mut [0]).unwrap();
    let then = all();
    let grown = |protocol: &str, name: &str| {
        let value = |rows: &[NetProtocol]| find(rows, protocol, name).value.unwrap();
        value(&then) - value(&first)
    };
    assert!(grown("Tcp", "ActiveOpens") >= 20 && grown("Tcp", "PassiveOpens") >= 20);
    assert!(grown("Udp", "InDatagrams") >= 1 && grown("IpExt", "InOctets") > 0);
    // Established or waiting for this end to close, as the lists of sockets tell.
    let listed = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let states = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        states.filter(|state| ["01", "08"].contains(state)).count() as i64
    };
    let expect = listed("/proc/net/tcp") + listed("/proc/net/tcp6");
    let established = find(&then, "Tcp", "CurrEstab");
    assert_eq!(established.value, None);
    let found = established.gauge.unwrap();
    assert!(found >= 40 && found.abs_diff(expect) <= 20, "{found} {expect}");
    drop(held);
}

#[test]
fn all_values_of_the_protocols_are_there_once() {
    let Some(rows) = rows::<NetProtocol>("all_values_of_the_protocols_are_there_once") else {
        return;
    };
    let words = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().count()
    };
    let lines = |file: &str| fs::read_to_string(file).unwrap_or_default().lines().count();
    // Each pair of lines has the protocol's name twice.
    let pairs = |file: &str| (words(file) - lines(file)) / 2;
    let expect = pairs("/proc/net/snmp") + pairs("/proc/net/netstat") + lines("/proc/net/snmp6");
    let keys: std::collections::BTreeSet<_> = rows.iter().map(|row| (&row.protocol, &row.name)).collect();
    // The kernel leaves out types of ICMP messages until there are some.
    assert!(rows.len().abs_diff(expect) <= 4, "{} {expect}", rows.len());
    assert_eq!(keys.len(), rows.len());
    assert!(rows.iter().all(|row| row.value.is_some() != row.gauge.is_some()));
}

/// Directories of a group of this test, removed with it.
struct Group(Vec<std::path::PathBuf>);

impl Group {
    /// Some of them: what this host has mounted and lets us write.
    fn make(parents: &[&str]) -> Group {
        let name = format!("vwatch-test-{}", std::process::id());
        // Below a version 1 host's `/sys/fs/cgroup` itself there are no groups.
        let parents = parents
            .iter()
            .map(|dir| std::path::Path::new("/sys/fs/cgroup").join(dir));
        let parents = parents.filter(|dir| dir.join("cgroup.procs").exists());
        let dirs = parents.map(|dir| dir.join(&name));
        Group(dirs.filter(|dir| fs::create_dir(dir).is_ok()).collect())
    }

    fn has(&self, file: &str) -> Option<std::path::PathBuf> {
        self.0.iter().map(|dir| dir.join(file)).find(|path| path.exists())
    }

    fn number(&self, file: &str) -> Option<i64> {
        number(self.has(file)?.to_str()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.0 {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// What a program uses in a group of its own is what the group's files say, in each version that is mounted.
#[test]
fn a_group_that_works_is_told_as_its_files_say() {
    let mut compared = 0;
    let version_1 = ["cpu", "cpuacct", "cpu,cpuacct", "memory", "blkio", "pids"].as_slice();
    for (version, parents) in [(1, version_1), (2, ["", "unified"].as_slice())] {
        let group = Group::make(parents);
        if group.has("cpuacct.usage").is_none() && group.has("cpu.stat").is_none() {
            println!("skipped version {version} of a_group_that_works: no group can be made");
            continue;
        }
        let name = format!("/vwatch-test-{}", std::process::id());
        if let Some(path) = group.has("memory.limit_in_bytes").or(group.has("memory.max")) {
            fs::write(path, "67108864").unwrap();
        }
        if let Some(path) = group.has("cpu.cfs_quota_us") {
            fs::write(path, "20000").unwrap();
        }
        if let Some(path) = group.has("pids.max") {
            fs::write(path, "50").unwrap();
        }
        let join: String = group
            .0
            .iter()
            .map(|dir| format!("echo $$ > {}/cgroup.procs; ", dir.display()))
            .collect();
        let work = "dd if=/dev/zero of=/dev/null bs=1M count=1000 2>/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        assert!(
            Command::new("sh")
                .args(["-c", &format!("{join}{work}")])
                .status()
                .unwrap()
                .success()
        );
        let all = rows::<Cgroup>("a_group_that_works").unwrap();
        let row = all
            .iter()
            .find(|row| row.version == version && row.path == name)
            .unwrap();
        assert!(row.usage_ns > Some(1_000_000), "{row:?}");
        if version == 1 {
            // Nobody is in it any more: nothing moves.
            assert_eq!(row.usage_ns, group.number("cpuacct.usage"));
            assert_eq!(row.memory_peak_bytes, group.number("memory.max_usage_in_bytes"));
            assert!(row.memory_peak_bytes.is_none_or(|peak| peak >= 1 << 20), "{row:?}");
            assert_eq!(row.pids_current, group.number("pids.current"));
            if let Some(path) = group.has("cpu.stat") {
                let text = fs::read_to_string(path).unwrap();
                let held_back = |name: &str, value: i64| text.contains(&format!("{name} {value}\n"));
                assert!(held_back("nr_throttled", row.nr_throttled.unwrap()), "{row:?} {text}");
                assert!(held_back("throttled_time", row.throttled_ns.unwrap()), "{row:?} {text}");
                assert!(row.throttled_ns > Some(1_000_000), "{row:?} {text}");
            }
            if group.has("memory.stat").is_some() {
                assert!(
                    row.pgfault > Some(100) && row.memory_max_bytes == Some(64 << 20),
                    "{row:?}"
                );
            }
        } else {
            let text = fs::read_to_string(group.has("cpu.stat").unwrap()).unwrap();
            let usage = text.lines().next().unwrap().strip_prefix("usage_usec ").unwrap();
            assert_eq!(row.usage_ns, usage.parse::<i64>().ok().map(|us| us * 1000));
            assert_eq!(row.cpu_some_avg10.is_some(), group.has("cpu.pressure").is_some());
        }
        assert_eq!(row.pids_max, group.number("pids.max"));
        let root = all
            .iter()
            .find(|row| row.version == version && row.path == "/")
            .unwrap();
        assert!(root.usage_ns > row.usage_ns, "{root:?} {row:?}");
        compared += 1;
    }
    println!("{compared} versions compared");
}
