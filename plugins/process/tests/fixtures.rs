//! The probes of `process` over fixture hosts, through the ABI, against golden rows.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use std::fs;
use vwatch_probes::process::Process;
use vwatch_process::vwatch_plugin;
use vwatch_sdk::Kind;
use vwatch_testkit::FixtureHost;

fn host(name: &str) -> FixtureHost {
    FixtureHost::at(format!("../../tests/fixtures/hosts/{name}"))
}

/// Figures in ticks and pages depend on the machine: the golden rows are of one with 100 ticks a second and pages of 4 KiB.
fn has_usual_units() -> bool {
    vwatch_probes::read::ticks_per_second() == 100 && vwatch_probes::read::page_bytes() == 4096
}

#[test]
fn golden_rows() {
    if !has_usual_units() {
        println!("skipped golden_rows: this machine has other ticks or pages");
        return;
    }
    for name in ["small-vm", "busy-host"] {
        let plugin = host(name).load(vwatch_plugin()).unwrap();
        let sampled = plugin.open("process", "").unwrap().run().unwrap();
        sampled.golden("process", &format!("tests/golden/{name}/process.txt"));
    }
}

#[test]
fn odd_processes() {
    let plugin = host("small-vm").load(vwatch_plugin()).unwrap();
    let rows: Vec<Process> = plugin.open("process", "").unwrap().run().unwrap().rows();
    // 901 ended before its status was read, 902 before its stat was.
    assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [1, 2, 840, 900]);
    let [init, kthreadd, app, zombie] = rows.as_slice() else {
        unreachable!("counted above")
    };
    assert_eq!(
        (init.comm.as_str(), init.cmdline.as_deref()),
        ("systemd", Some("/sbin/init splash"))
    );
    assert_eq!(
        (init.exe.as_deref(), init.wchan.as_deref()),
        (Some("/usr/lib/systemd/systemd"), Some("ep_poll"))
    );
    assert_eq!((init.rchar, init.cancelled_write_bytes), (Some(91_234_567), Some(4096)));
    assert_eq!(
        (
            kthreadd.cmdline.as_deref(),
            kthreadd.exe.as_deref(),
            kthreadd.vm_hwm_bytes
        ),
        (None, None, None)
    );
    assert_eq!((kthreadd.kthread, kthreadd.cgroup.as_deref()), (Some(true), Some("/")));
    assert_eq!((app.comm.as_str(), app.state.as_str(), app.ppid), ("a) R 1 (b", "R", 1));
    assert_eq!(
        app.cmdline.as_deref(),
        Some("'/opt/my app/bin' '--name=x y' --password=*** --token *** ''")
    );
    assert_eq!(
        app.cgroup.as_deref(),
        Some("/user.slice/user-1000.slice/session-3.scope")
    );
    assert_eq!(
        (app.uid, app.user_name.as_deref(), app.oom_score_adj),
        (1000, Some("ada"), Some(200))
    );
    assert_eq!(
        (zombie.comm.as_str(), zombie.state.as_str(), zombie.exit_status),
        ("line\nbreak", "Z", 7 << 8)
    );
    // 100 ticks a second after a boot at 1700000000.
    if has_usual_units() {
        assert_eq!(app.start_time.0, 1_700_000_000_000_000_000 + 143_968 * 10_000_000);
    }
}

#[test]
fn the_next_sample_has_what_changed_and_what_ended() {
    let host = FixtureHost::new();
    host.file("proc/stat", "btime 1700000000\n");
    let from = fs::canonicalize("../../tests/fixtures/hosts/small-vm/proc").unwrap();
    for pid in ["1", "840", "900"] {
        for file in ["stat", "status", "io", "cmdline"] {
            host.file(
                &format!("proc/{pid}/{file}"),
                fs::read(from.join(pid).join(file)).unwrap(),
            );
        }
    }
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut process = plugin.open("process", "").unwrap();
    let mut shells = plugin.open("process", "comm=shell").unwrap();
    assert_eq!(process.run().unwrap().batch("process").num_rows(), 3);
    assert_eq!(shells.run().unwrap().batch("process").num_rows(), 0);
    let still = process.run().unwrap();
    assert_eq!(
        (
            still.table("process").rows.num_rows(),
            still.table("process").gone.num_rows()
        ),
        (0, 0)
    );

    // One ends; one ends and its pid is taken by another; one changes its name.
    host.remove("proc/900");
    let stat = fs::read_to_string(host.path("proc/840/stat")).unwrap();
    host.file("proc/840/stat", stat.replace(" 143968 ", " 150000 "));
    let stat = fs::read_to_string(host.path("proc/1/stat")).unwrap();
    host.file("proc/1/stat", stat.replace("systemd", "shell"));
    let next = process.run().unwrap();
    let changed: Vec<Process> = next.rows();
    let mut found: Vec<_> = changed
        .iter()
        .map(|row| (row.pid, row.start_ticks, row.comm.as_str()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [(1, 3, "shell"), (840, 150_000, "a) R 1 (b")]);
    let text = next.text("process");
    let gone: Vec<_> = text.lines().filter(|line| line.starts_with("gone")).collect();
    assert_eq!(gone, ["gone 840 143968", "gone 900 150000"]);
    assert_eq!(process.run_full().unwrap().batch("process").num_rows(), 2);

    // A filter's picture gains and loses rows as they come to match and cease to.
    assert_eq!(shells.run().unwrap().batch("process").num_rows(), 1);
    host.file("proc/1/stat", stat.replace("systemd", "other"));
    let next = shells.run().unwrap();
    assert_eq!(
        (
            next.table("process").rows.num_rows(),
            next.table("process").gone.num_rows()
        ),
        (0, 1)
    );
}

#[test]
fn options() {
    let plugin = host("small-vm").load(vwatch_plugin()).unwrap();
    let pids = |options: &str| -> Vec<i32> {
        let sampled = plugin.open("process", options).unwrap().run().unwrap();
        sampled.rows::<Process>().iter().map(|row| row.pid).collect()
    };
    assert_eq!(pids("pid=840"), [840]);
    assert_eq!(pids("pid=77"), [0i32; 0]);
    assert_eq!(pids("uid=1000"), [840, 900]);
    assert_eq!(pids("uid=0 comm=systemd"), [1]);
    assert_eq!(plugin.open("process", "pid=-4").err().unwrap().kind, Kind::BadInput);
}

#[test]
fn what_a_fixture_cannot_tell() {
    let plugin = host("small-vm").load(vwatch_plugin()).unwrap();
    let refused = plugin.open("process_exit", "").err().unwrap();
    assert_eq!(refused.kind, Kind::Unsupported);
    let bare = FixtureHost::new();
    let refused = bare.load(vwatch_plugin()).unwrap().open("process", "").err().unwrap();
    assert!(refused.message.contains("stat"), "{refused}");
}
