//! The probe `process` on the kernel that runs, against `ps` and the tests' own children.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vwatch_probes::process::Process;
use vwatch_process::vwatch_plugin;
use vwatch_sdk::Tick;
use vwatch_testkit::{FixtureHost, Sampled, TestInstance};

/// A child that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper() -> Ended {
    let mut sleeper = Ended(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap());
    assert_eq!(sleeper.0.try_wait().unwrap(), None);
    sleeper
}

fn open(options: &str) -> TestInstance {
    FixtureHost::live()
        .load(vwatch_plugin())
        .unwrap()
        .open("process", options)
        .unwrap()
}

/// A run at the clocks of now.
fn run(instance: &mut TestInstance) -> Sampled {
    let tick = instance.next_tick();
    instance.run_tick(now(tick)).unwrap()
}

fn now(tick: Tick) -> Tick {
    let time_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    Tick {
        time_ns,
        boottime_ns: (uptime * 1e9) as i64,
        ..tick
    }
}

fn find(rows: &[Process], pid: u32) -> Option<&Process> {
    rows.iter().find(|row| row.pid == pid as i32)
}

/// Runs until the row of `pid` is handed over and is as wanted.
fn wait_for(instance: &mut TestInstance, pid: u32, wanted: impl Fn(&Process) -> bool) -> Process {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let rows: Vec<Process> = run(instance).rows();
        match find(&rows, pid).filter(|row| wanted(row)) {
            Some(row) => return row.clone(),
            None => assert!(
                Instant::now() < until,
                "{pid} did not become as wanted: {:?}",
                find(&rows, pid)
            ),
        }
        std::thread::yield_now();
    }
}

#[test]
fn agrees_with_ps() {
    let columns = "pid=,ppid=,pgid=,sid=,uid=,euid=,rgid=,ni=,nlwp=,vsz=,rss=,tpgid=,cputimes=,comm=";
    let child = sleeper();
    wait_for(&mut open(""), child.0.id(), |row| row.comm == "sleep");
    let ps = || Command::new("ps").args(["-e", "-ww", "-o", columns]).output();
    let Ok(before) = ps() else {
        println!("skipped agrees_with_ps: there is no ps(1)");
        return;
    };
    let rows: Vec<Process> = run(&mut open("")).rows();
    // What is the same before and after was so in between.
    let after = ps().unwrap();
    let after = String::from_utf8_lossy(&after.stdout);
    let after: HashSet<&str> = after.lines().collect();
    let rows: HashMap<i32, &Process> = rows.iter().map(|row| (row.pid, row)).collect();
    let mut compared = 0;
    for line in String::from_utf8_lossy(&before.stdout)
        .lines()
        .filter(|line| after.contains(line))
    {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<i64>().unwrap_or(0);
        let Some(row) = rows.get(&(number(0) as i32)) else {
            continue;
        };
        assert_eq!(
            [row.ppid, row.pgrp, row.session].map(i64::from),
            [1, 2, 3].map(number),
            "{line}\n{row:?}"
        );
        assert_eq!(
            [row.uid, row.euid, row.gid].map(i64::from),
            [4, 5, 6].map(number),
            "{line}\n{row:?}"
        );
        if words[7] != "-" {
            assert_eq!(
                (i64::from(row.nice), row.num_threads),
                (number(7), number(8)),
                "{line}\n{row:?}"
            );
        }
        let cpu_s = (row.utime_ns + row.stime_ns) / 1_000_000_000;
        assert!((0..=2).contains(&(cpu_s - number(12))), "{line}\n{row:?}");
        if row.pid as u32 == child.0.id() {
            assert_eq!(
                (row.vsize_bytes, row.rss_bytes),
                (number(9) * 1024, number(10) * 1024),
                "{line}\n{row:?}"
            );
            assert_eq!(row.comm, words[13]);
            assert_eq!(row.cmdline.as_deref(), Some("sleep 600"));
        }
        compared += 1;
    }
    assert!(compared >= 2 && rows.contains_key(&1), "{compared} processes compared");
}

#[test]
fn a_process_comes_idles_and_goes() {
    let mut instance = open("");
    run(&mut instance);
    let child = sleeper();
    let pid = child.0.id();
    let row = wait_for(&mut instance, pid, |row| row.comm == "sleep" && row.state == "S");
    assert_eq!(row.ppid as u32, std::process::id());
    let started_s =
        (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64 - row.start_time.0) / 1_000_000_000;
    assert!((0..20).contains(&started_s), "started {started_s} s ago");
    assert!(
        row.exe.as_deref().is_some_and(|exe| exe.starts_with('/')),
        "{:?}",
        row.exe
    );
    // It does nothing, so that nothing is said of it, until it ends.
    let idle = (0..3)
        .filter(|_| find(&run(&mut instance).rows::<Process>(), pid).is_some())
        .count();
    assert!(idle <= 1, "an idle process was handed over {idle} times in 3 samples");
    drop(child);
    let text = run(&mut instance).text("process");
    assert!(text.contains(&format!("gone {pid} {}\n", row.start_ticks)), "{text}");
}

#[test]
fn another_program_in_the_same_process() {
    let mut shell = Command::new("sh");
    let script = "read line; exec sh -c 'read more; exit 3' second --password=hunter2";
    shell.args(["-c", script]).stdin(Stdio::piped());
    let mut shell = Ended(shell.spawn().unwrap());
    let pid = shell.0.id();
    let mut instance = open(&format!("pid={pid}"));
    let first = wait_for(&mut instance, pid, |row| {
        row.cmdline.as_deref().is_some_and(|line| line.contains("read line"))
    });
    let stdin = shell.0.stdin.as_mut().unwrap();
    writeln!(stdin).unwrap();
    let begun = Instant::now();
    let second = wait_for(&mut instance, pid, |row| {
        row.cmdline.as_deref() != first.cmdline.as_deref()
    });
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "only the reading of all files found it"
    );
    assert_eq!(
        second.cmdline.as_deref(),
        Some("sh -c 'read more; exit 3' second --password=***")
    );
    assert_eq!(
        (second.start_ticks, second.start_time),
        (first.start_ticks, first.start_time)
    );
}

#[test]
fn cpu_time_and_io_are_counted() {
    let mut shell = Command::new("sh");
    let script = "read go; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; printf %01000d 7; read end";
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = Ended(shell.spawn().unwrap());
    let pid = shell.0.id();
    let mut instance = open(&format!("pid={pid}"));
    let before = wait_for(&mut instance, pid, |row| row.comm == "sh");
    writeln!(shell.0.stdin.as_mut().unwrap()).unwrap();
    let after = wait_for(&mut instance, pid, |row| {
        row.wchar.is_some_and(|w| w >= before.wchar.unwrap_or(0) + 1000)
    });
    assert!(
        after.utime_ns + after.stime_ns > before.utime_ns + before.stime_ns,
        "{before:?}\n{after:?}"
    );
    assert!(after.syscw > before.syscw && after.minflt >= before.minflt);
}

#[test]
fn start_times_do_not_move_with_the_clock_but_when_it_is_set() {
    let child = sleeper();
    let options = format!("pid={}", child.0.id());
    let host = FixtureHost::live();
    let plugin = host.load(vwatch_plugin()).unwrap();
    let mut instance = plugin.open("process", &options).unwrap();
    let tick = now(instance.next_tick());
    let start = |sampled: &Sampled| sampled.rows::<Process>()[0].start_time.0;
    let first = start(&instance.run_tick(tick).unwrap());
    let later = |tick: Tick, slewed_ns: i64| Tick {
        time_ns: tick.time_ns + 1_000_000_000 + slewed_ns,
        boottime_ns: tick.boottime_ns + 1_000_000_000,
        sequence: tick.sequence + 1,
        full: true,
        ..tick
    };
    let second = later(tick, 400_000_000);
    assert_eq!(start(&instance.run_tick(second).unwrap()), first);
    // An instance that is opened later, or after a restart, counts from the same moment.
    let mut other = plugin.open("process", &options).unwrap();
    assert_eq!(start(&other.run_tick(Tick { sequence: 0, ..second }).unwrap()), first);
    let set = later(second, 3_600_000_000_000);
    let delta = instance.run_tick(Tick { full: false, ..set }).unwrap();
    assert_eq!(start(&delta), first + 3_600_400_000_000);
}
