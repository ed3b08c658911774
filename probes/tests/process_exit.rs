//! `process_exit` against the kernel's own word to the parent: wait4(2) of the tests' own children.
//!
//! A child that has to do something particular is this test program itself, run again for [`child_program`] alone.

// Helpers of a test may fail as the test itself may.
// Children are waited for by wait4(2), which clippy does not see.
#![allow(clippy::unwrap_used, clippy::zombie_processes)]

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use vwatch_probes::process::{ProcessExit, ProcessExitProbe};
use vwatch_sdk::{Kind, Timestamp};
use vwatch_testkit::{FixtureHost, Sampled, TestInstance};

const ROLE: &str = "VWATCH_TEST_CHILD";

struct Listening {
    instance: TestInstance,
    seen: Vec<ProcessExit>,
}

impl Listening {
    /// None, with the reason printed, where the kernel or the lack of privileges does not allow it.
    fn begin(test: &str) -> Option<Self> {
        let instance = match FixtureHost::live().open_stream::<ProcessExitProbe>("") {
            Ok(mut instance) => {
                instance.start().unwrap();
                instance
            }
            Err(e) => {
                assert!(matches!(e.kind, Kind::Denied | Kind::Unsupported), "{e:?}");
                println!("skipped {test}: {e}");
                return None;
            }
        };
        let seen = Vec::new();
        Some(Listening { instance, seen })
    }

    fn collect(&mut self) {
        for emitted in self.instance.emitted() {
            assert_eq!(emitted.losses, [], "nothing may be lost here");
            self.seen.extend(emitted.rows::<ProcessExit>());
        }
    }

    fn find(&mut self, pid: u32) -> ProcessExit {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            self.collect();
            if let Some(row) = self.seen.iter().find(|row| row.pid == pid as i32) {
                return row.clone();
            }
            assert!(Instant::now() < until, "the end of {pid} was not seen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The status and the resource use of a child that has ended, as its parent gets them.
fn wait4(child: &Child) -> (ExitStatus, libc::rusage) {
    let (mut status, pid) = (0, child.id() as libc::pid_t);
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are to an int and an rusage of ours.
    let got = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(got, pid, "{}", io::Error::last_os_error());
    (ExitStatus::from_raw(status), usage)
}

fn ns(time: libc::timeval) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_usec * 1000
}

fn child(role: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_program", "--nocapture"])
        .env(ROLE, role);
    // Else a program with one test would run it on its main thread.
    command.env("RUST_TEST_THREADS", "2");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// What the children do. Does nothing when it runs as a test.
#[test]
fn child_program() {
    let burn = |milliseconds: u64| {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        while Instant::now() < until {
            std::hint::black_box((0..1000).sum::<u64>());
        }
    };
    match std::env::var(ROLE).as_deref() {
        Ok("threads") => {
            let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(move || burn(150))).collect();
            for thread in threads {
                thread.join().unwrap();
            }
            std::process::exit(9);
        }
        Ok("memory") => {
            std::hint::black_box(vec![1u8; 64 << 20]);
            std::process::exit(0);
        }
        Ok("abort") => std::process::abort(),
        _ => {}
    }
}

#[test]
fn codes_and_signals() {
    let Some(mut listening) = Listening::begin("codes_and_signals") else {
        return;
    };
    for (script, code, signal) in [
        ("exit 0", Some(0), None),
        ("exit 7", Some(7), None),
        ("exit 255", Some(255), None),
        ("kill -KILL $$", None, Some(libc::SIGKILL)),
        ("kill -TERM $$", None, Some(libc::SIGTERM)),
    ] {
        let before = Timestamp::now();
        let mut command = Command::new("sh");
        let child = command.args(["-c", script]).arg0("a shell").spawn().unwrap();
        let (status, _) = wait4(&child);
        let row = listening.find(child.id());
        assert_eq!((row.exit_code, row.exit_signal), (code, signal), "{script}");
        assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
        assert_eq!(
            (row.ppid as u32, row.comm.as_str(), row.core_dumped),
            (std::process::id(), "sh", false)
        );
        // SAFETY: neither call can fail.
        assert_eq!((row.uid, row.gid), unsafe { (libc::getuid(), libc::getgid()) });
        assert!(row.time >= before && row.time <= Timestamp::now(), "{row:?}");
        let since = row.start_time.0 - before.0;
        assert!(
            (-100_000_000..5_000_000_000).contains(&since),
            "started {since} ns after {before:?}: {row:?}"
        );
        assert!(
            row.duration_ns > 0 && row.max_rss_bytes > 0 && row.minflt.unwrap() > 0,
            "{row:?}"
        );
        assert_eq!((row.threads, row.forked_only), (Some(1), false));
    }
}

#[test]
fn a_core_dump_is_known() {
    let Some(mut listening) = Listening::begin("a_core_dump_is_known") else {
        return;
    };
    let child = child("abort");
    let (status, _) = wait4(&child);
    let row = listening.find(child.id());
    assert_eq!(
        (row.exit_signal, row.core_dumped),
        (Some(libc::SIGABRT), status.core_dumped())
    );
}

#[test]
fn threads_make_one_row_with_their_sum() {
    let Some(mut listening) = Listening::begin("threads_make_one_row_with_their_sum") else {
        return;
    };
    let child = child("threads");
    let (status, usage) = wait4(&child);
    assert_eq!(status.code(), Some(9));
    let row = listening.find(child.id());
    assert_eq!((row.exit_code, row.exit_signal), (Some(9), None));
    // The main thread, the one that runs the test, and three: all threads of a test program.
    assert_eq!(row.threads, Some(5), "{row:?}");
    let (measured, told) = (row.utime_ns + row.stime_ns, ns(usage.ru_utime) + ns(usage.ru_stime));
    // Up to one tick of each thread is not told by taskstats; at 100 Hz that is 10 ms.
    assert!(
        (told - 50_000_000..=told + 1_000_000).contains(&measured),
        "{measured} of {told} ns: {row:?}"
    );
    assert!(
        row.minflt.unwrap().abs_diff(usage.ru_minflt) < 20,
        "{row:?} {}",
        usage.ru_minflt
    );
    let switches = row.voluntary_ctxt_switches.unwrap() + row.nonvoluntary_ctxt_switches.unwrap();
    assert!(switches.abs_diff(usage.ru_nvcsw + usage.ru_nivcsw) <= 10, "{row:?}");
    listening.instance.stop().unwrap();
    listening.collect();
    assert_eq!(
        listening.seen.iter().filter(|row| row.pid == child.id() as i32).count(),
        1
    );
}

#[test]
fn cpu_time_and_memory_are_those_of_the_childs_rusage() {
    let Some(mut listening) = Listening::begin("cpu_time_and_memory_are_those_of_the_childs_rusage") else {
        return;
    };
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    for _ in 0..5 {
        let busy = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let (_, usage) = wait4(&busy);
        let row = listening.find(busy.id());
        let (measured, told) = (row.utime_ns + row.stime_ns, ns(usage.ru_utime) + ns(usage.ru_stime));
        assert!(
            (told - 11_000_000..=told + 1_000_000).contains(&measured),
            "{measured} of {told} ns: {row:?}"
        );
        assert_eq!((row.minflt, row.majflt), (Some(usage.ru_minflt), Some(usage.ru_majflt)));
    }
    let large = child("memory");
    let (_, usage) = wait4(&large);
    let row = listening.find(large.id());
    assert!(row.max_rss_bytes > 64 << 20, "{row:?}");
    assert!(
        row.max_rss_bytes.abs_diff(usage.ru_maxrss * 1024) < 4 << 20,
        "{row:?} {}",
        usage.ru_maxrss
    );
}

#[test]
fn of_500_short_lives_none_is_missed() {
    let Some(mut listening) = Listening::begin("of_500_short_lives_none_is_missed") else {
        return;
    };
    let mut pids = Vec::new();
    for _ in 0..50 {
        let children: Vec<_> = (0..10).map(|_| Command::new("true").spawn().unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
            pids.push(child.id());
        }
    }
    for pid in pids {
        let row = listening.find(pid);
        assert_eq!(
            (row.comm.as_str(), row.exit_code, row.ppid as u32),
            ("true", Some(0), std::process::id())
        );
    }
    listening.instance.stop().unwrap();
}

#[test]
fn a_host_that_takes_no_rows_is_told_how_many_were_lost() {
    let host = FixtureHost::live();
    let mut instance = match host.open_stream::<ProcessExitProbe>("") {
        Ok(instance) => instance,
        Err(e) => return println!("skipped a_host_that_takes_no_rows_is_told_how_many_were_lost: {e}"),
    };
    instance.start().unwrap();
    let (mut pids, mut rows, mut lost) = (Vec::new(), Vec::new(), 0);
    let mut take = |emitted: Vec<Sampled>| {
        for emitted in emitted {
            lost += emitted.losses.iter().map(|(_, count, _)| count).sum::<u64>();
            if emitted.has("process_exit") {
                rows.extend(emitted.rows::<ProcessExit>());
            }
        }
        lost
    };
    let until = Instant::now() + Duration::from_secs(20);
    while take(instance.emitted()) == 0 {
        assert!(Instant::now() < until, "no loss was told");
        host.refuse_rows(true);
        // Long enough for two attempts to hand rows over.
        let refusing = Instant::now() + Duration::from_millis(400);
        while Instant::now() < refusing {
            let mut child = Command::new("true").spawn().unwrap();
            pids.push(child.id());
            assert!(child.wait().unwrap().success());
        }
        let emissions = host.recorded(|r| r.emissions);
        host.refuse_rows(false);
        host.wait_until(Duration::from_secs(20), |r| r.emissions > emissions);
    }
    instance.stop().unwrap();
    take(instance.emitted());
    let missing = pids
        .iter()
        .filter(|pid| !rows.iter().any(|row| row.pid == **pid as i32))
        .count();
    assert!(
        missing > 0 && missing as u64 <= lost,
        "{missing} of {} missing, {lost} told",
        pids.len()
    );
}

#[test]
fn without_the_privilege_it_says_so() {
    // SAFETY: geteuid cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if root {
        return println!("skipped without_the_privilege_it_says_so: it is run by root");
    }
    let refused = FixtureHost::live().open_stream::<ProcessExitProbe>("").err().unwrap();
    assert!(
        refused.kind == Kind::Unsupported || refused.message.contains("CAP_NET_ADMIN"),
        "{refused}"
    );
}
