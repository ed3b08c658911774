//! The plugin over fixture hosts, through the ABI, against golden rows. `UPDATE_GOLDEN=1` writes them anew; then read the diff.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use vwatch_cpu::vwatch_plugin;
use vwatch_sdk::Kind;
use vwatch_testkit::FixtureHost;

const HOSTS: [&str; 3] = ["numa-server", "arm-board", "old-vm"];

fn fixture(host: &str) -> FixtureHost {
    FixtureHost::at(format!(
        "{}/../../tests/fixtures/hosts/{host}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

/// The tables of a probe on every fixture host.
fn golden(probe: &str, tables: &[&str]) {
    for name in HOSTS {
        let host = fixture(name);
        let sampled = host.load(vwatch_plugin()).unwrap().open(probe, "").unwrap().run();
        let sampled = sampled.unwrap();
        for table in tables {
            sampled.golden(table, &format!("tests/golden/{name}/{table}.txt"));
        }
    }
}

/// What a probe answers that has no rows.
#[track_caller]
fn refused(host: &FixtureHost, probe: &str, options: &str) -> (Kind, String) {
    let opened = host.load(vwatch_plugin()).unwrap().open(probe, options);
    let error = opened.and_then(|mut probe| probe.run()).err().unwrap();
    (error.kind, error.message)
}

/// The first words of a table's lines, without the heading.
fn first_words(text: &str, words: usize) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().take(words).collect::<Vec<_>>().join(" ");
    text.lines().skip(1).map(line).collect()
}

#[test]
fn cpu_time() {
    golden("cpu_time", &["cpu_time"]);
}

#[test]
fn interrupt() {
    golden("interrupt", &["interrupt", "interrupt_cpu"]);
}

#[test]
fn interrupts_of_one_cpu_or_of_none() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let sampled = plugin.open("interrupt", "cpu=5").unwrap().run().unwrap();
    let found = first_words(&sampled.text("interrupt_cpu"), 2);
    let expect = ["8", "36", "CAL", "LOC", "MCP", "NMI", "PMI", "RES", "TLB"].map(|irq| format!("{irq} cpu5"));
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(found), sorted(expect.to_vec()));
    assert_eq!(first_words(&sampled.text("interrupt"), 1).len(), 20);
    let sampled = plugin.open("interrupt", "per_cpu=false").unwrap().run().unwrap();
    assert_eq!(first_words(&sampled.text("interrupt_cpu"), 2), [""; 0]);
    assert_eq!(first_words(&sampled.text("interrupt"), 1).len(), 20);
    let (kind, message) = refused(&host, "interrupt", "cpu=7");
    assert_eq!((kind, message.contains("cpu7")), (Kind::NoData, true), "{message}");
    assert_eq!(refused(&host, "interrupt", "cpu=-1").0, Kind::BadInput);
}

#[test]
fn interrupts_that_have_not_come_are_not_handed_over_again() {
    let host = FixtureHost::new();
    let write = |text: &str| host.file("proc/interrupts", format!("      CPU0  CPU1\n{text}"));
    write("  1: 5 0 IO-APIC 1-edge i8042\nLOC: 10 20 Local timer interrupts\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut probe = plugin.open("interrupt", "").unwrap();
    let mut run = || {
        let sampled = probe.run().unwrap();
        let tables = ["interrupt", "interrupt_cpu"];
        tables.map(|table| first_words(&sampled.text(table), 1 + usize::from(table == "interrupt_cpu")))
    };
    assert_eq!(
        run(),
        [
            vec!["1".to_owned(), "LOC".to_owned()],
            vec!["1 cpu0".to_owned(), "LOC cpu0".to_owned(), "LOC cpu1".to_owned()]
        ]
    );
    write("  1: 5 0 IO-APIC 1-edge i8042\nLOC: 10 21 Local timer interrupts\n");
    assert_eq!(run(), [vec!["LOC".to_owned()], vec!["LOC cpu1".to_owned()]]);
    // The keyboard interrupts another CPU: a row is new.
    write("  1: 5 1 IO-APIC 1-edge i8042\nLOC: 10 21 Local timer interrupts\n");
    let [sources, by_cpu] = run();
    assert_eq!(sources, ["1"]);
    assert_eq!(by_cpu.len(), 4);
}

#[test]
fn interrupts_that_cannot_be_read_are_said() {
    let host = FixtureHost::new();
    let (kind, message) = refused(&host, "interrupt", "");
    assert_eq!(
        (kind, message.contains("proc/interrupts")),
        (Kind::Unsupported, true),
        "{message}"
    );
    host.file("proc/interrupts", "      CPU0\n  1: 5\nwhat is this\n");
    let (kind, message) = refused(&host, "interrupt", "");
    assert_eq!(
        (kind, message.contains("proc/interrupts:3")),
        (Kind::Failed, true),
        "{message}"
    );
}

#[test]
fn cpu_time_of_one_cpu() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let cpus = |options: &str| {
        let text = plugin
            .open("cpu_time", options)
            .unwrap()
            .run()
            .unwrap()
            .text("cpu_time");
        let names = text
            .lines()
            .skip(1)
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(cpus("cpu=2"), ["cpu2", "total"]);
    assert_eq!(cpus("cpu=2 total=false"), ["cpu2"]);
    assert_eq!(cpus("total=false").len(), 7);
}

#[test]
fn softirq() {
    golden("softirq", &["softirq"]);
}

#[test]
fn softirqs_of_one_cpu() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let sampled = plugin.open("softirq", "cpu=6").unwrap().run().unwrap();
    let mut found = first_words(&sampled.text("softirq"), 2);
    found.sort();
    let kinds = [
        "BLOCK", "HI", "HRTIMER", "IRQ_POLL", "NET_RX", "NET_TX", "RCU", "SCHED", "TASKLET", "TIMER",
    ];
    assert_eq!(found, kinds.map(|kind| format!("{kind} cpu6")));
    // Possible, but never online.
    let (kind, message) = refused(&host, "softirq", "cpu=7");
    assert_eq!((kind, message.contains("cpu7")), (Kind::NoData, true), "{message}");
    assert_eq!(refused(&host, "softirq", "cpu=-1").0, Kind::BadInput);
    let (kind, message) = refused(&FixtureHost::new(), "softirq", "");
    assert_eq!(
        (kind, message.contains("proc/softirqs")),
        (Kind::Unsupported, true),
        "{message}"
    );
}

#[test]
fn numa_stat() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let sampled = plugin.open("numa_stat", "").unwrap().run().unwrap();
    sampled.golden("numa_stat", "tests/golden/numa-server/numa_stat.txt");
}

#[test]
fn hosts_without_numa_nodes() {
    for name in ["arm-board", "old-vm"] {
        let (kind, message) = refused(&fixture(name), "numa_stat", "");
        assert_eq!(
            (kind, message.contains("system/node")),
            (Kind::Unsupported, true),
            "{name}: {message}"
        );
    }
    let host = FixtureHost::new();
    let node = "sys/devices/system/node";
    host.file(&format!("{node}/online"), "0\n");
    let (kind, message) = refused(&host, "numa_stat", "");
    assert_eq!(
        (kind, message.contains("no NUMA node")),
        (Kind::Unsupported, true),
        "{message}"
    );
    // A node whose directory is about to go is passed over; a damaged file is not.
    host.file(&format!("{node}/node3/cpulist"), "\n");
    assert_eq!(refused(&host, "numa_stat", "").0, Kind::Unsupported);
    host.file(&format!("{node}/node3/numastat"), "numa_hit 1\nnuma_miss\n");
    let (kind, message) = refused(&host, "numa_stat", "");
    assert_eq!(
        (kind, message.contains("node3/numastat:2")),
        (Kind::Failed, true),
        "{message}"
    );
}

#[test]
fn cpu_frequency() {
    golden("cpu_frequency", &["cpu_frequency"]);
}

#[test]
fn frequencies_of_one_cpu() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let sampled = plugin.open("cpu_frequency", "cpu=3").unwrap().run().unwrap();
    assert_eq!(first_words(&sampled.text("cpu_frequency"), 2), ["cpu3 3487002"]);
    let (kind, message) = refused(&host, "cpu_frequency", "cpu=7");
    assert_eq!((kind, message.contains("cpu7")), (Kind::NoData, true), "{message}");
    assert_eq!(refused(&host, "cpu_frequency", "cpu=-1").0, Kind::BadInput);
}

#[test]
fn hosts_that_tell_no_frequency() {
    let host = FixtureHost::new();
    let unsupported = || {
        let (kind, message) = refused(&host, "cpu_frequency", "");
        let names = message.contains("devices/system/cpu") && message.contains("proc/cpuinfo");
        assert_eq!((kind, names), (Kind::Unsupported, true), "{message}");
    };
    unsupported();
    // As Arm in a virtual machine.
    host.file("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 48.00\n\n");
    host.file("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n");
    unsupported();
    // What cannot be read could tell one.
    host.remove("proc/cpuinfo").file("proc/cpuinfo/file", "");
    let (kind, message) = refused(&host, "cpu_frequency", "");
    assert_eq!(
        (kind, message.contains("proc/cpuinfo")),
        (Kind::Failed, true),
        "{message}"
    );
    host.remove("proc/cpuinfo");
    // A driver that cannot tell the frequency.
    host.file("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>\n");
    unsupported();
    host.file("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    host.file("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2000.125\n\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let text = plugin
        .open("cpu_frequency", "")
        .unwrap()
        .run()
        .unwrap()
        .text("cpu_frequency");
    assert!(
        text.ends_with("performance       -\n") && text.contains(" 2000125 "),
        "{text}"
    );
}

#[test]
fn cpu_idle_state() {
    let host = fixture("arm-board");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let sampled = plugin.open("cpu_idle_state", "").unwrap().run().unwrap();
    sampled.golden("cpu_idle_state", "tests/golden/arm-board/cpu_idle_state.txt");
    let sampled = plugin.open("cpu_idle_state", "cpu=2").unwrap().run().unwrap();
    assert_eq!(first_words(&sampled.text("cpu_idle_state"), 2), ["cpu2 0", "cpu2 1"]);
    let (kind, message) = refused(&host, "cpu_idle_state", "cpu=9");
    assert_eq!((kind, message.contains("cpu9")), (Kind::NoData, true), "{message}");
    assert_eq!(refused(&host, "cpu_idle_state", "cpu=-1").0, Kind::BadInput);
}

#[test]
fn idle_states_of_new_kernels_and_none() {
    for name in ["numa-server", "old-vm"] {
        let (kind, message) = refused(&fixture(name), "cpu_idle_state", "");
        assert_eq!(
            (kind, message.contains("system/cpu")),
            (Kind::Unsupported, true),
            "{name}: {message}"
        );
    }
    let host = FixtureHost::new();
    assert_eq!(refused(&host, "cpu_idle_state", "").0, Kind::Unsupported);
    let write = |file: &str, text: &str| {
        host.file(&format!("sys/devices/system/cpu/cpu0/cpuidle/state10/{file}"), text);
    };
    for (file, text) in [
        ("usage", "7\n"),
        ("time", "18446744073709551\n"),
        ("above", "1\n"),
        ("below", "2\n"),
        ("rejected", "3\n"),
        ("disable", "0\n"),
    ] {
        write(file, text);
    }
    // A state that goes while it is read.
    host.file("sys/devices/system/cpu/cpu0/cpuidle/state11/usage", "7\n");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let text = plugin
        .open("cpu_idle_state", "")
        .unwrap()
        .run()
        .unwrap()
        .text("cpu_idle_state");
    let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    let expect = [
        "cpu0",
        "10",
        "-",
        "-",
        "-",
        "-",
        "false",
        "7",
        "9223372036854775192",
        "1",
        "2",
        "3",
    ];
    assert_eq!(words, expect);
    assert_eq!(text.lines().count(), 2);
    write("below", "many\n");
    let (kind, message) = refused(&host, "cpu_idle_state", "");
    assert_eq!(
        (kind, message.contains("state10/below: many")),
        (Kind::Failed, true),
        "{message}"
    );
}

#[test]
fn what_cannot_be_is_said() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let offline = plugin.open("cpu_time", "cpu=7").unwrap().run().unwrap_err();
    assert_eq!(
        (offline.kind, offline.message.contains("cpu7")),
        (Kind::NoData, true),
        "{offline}"
    );
    let negative = plugin.open("cpu_time", "cpu=-1").err().unwrap();
    assert_eq!(
        (negative.kind, negative.message.contains("cpu")),
        (Kind::BadInput, true),
        "{negative}"
    );

    let bare = FixtureHost::new();
    let run = || bare.load(vwatch_plugin()).unwrap().open("cpu_time", "").unwrap().run();
    let absent = run().unwrap_err();
    assert_eq!(
        (absent.kind, absent.message.contains("proc/stat")),
        (Kind::Unsupported, true),
        "{absent}"
    );
    bare.file("proc/stat", "");
    assert_eq!(run().unwrap_err().kind, Kind::Failed);
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
            let unit = ["ns", "us", "bytes", "hz", "khz", "pages", "mbps", "bits"]
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
