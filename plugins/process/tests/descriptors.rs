//! A file of its own, so a process of its own: it changes the limit of open files.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};
use vwatch_probes::process::Process;
use vwatch_process::vwatch_plugin;
use vwatch_testkit::FixtureHost;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn at_most_half_of_the_descriptors_are_kept() {
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).unwrap();
    nix::sys::resource::setrlimit(limit, 64, hard).unwrap();
    let sleepers: Vec<_> = (0..50)
        .map(|_| Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
        .collect();
    let plugin = FixtureHost::live().load(vwatch_plugin()).unwrap();
    let before = open_files();
    let mut one = plugin.open("process", "").unwrap();
    let mut two = plugin.open("process", "").unwrap();
    for _ in 0..3 {
        for instance in [&mut one, &mut two] {
            let rows: Vec<Process> = instance.run_full().unwrap().rows();
            let seen = |pid: u32| rows.iter().any(|row| row.pid == pid as i32);
            assert!(sleepers.iter().all(|child| seen(child.id())));
        }
        let kept = open_files() - before;
        assert!((1..=32).contains(&kept), "{kept} descriptors kept");
    }
    drop((one, two));
    assert_eq!(open_files(), before);
    for mut child in sleepers {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
