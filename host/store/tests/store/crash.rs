//! `kill -9` of the writer, at any moment and at each named point: every commit that was acknowledged is there unaltered,
//! and no commit is there by half. `VWATCH_CRASH_ROUNDS` runs so many rounds of each test instead of the usual.
//!
//! What this guards: the head and the blocks change places in one transaction; were a minute's head deleted and its blocks
//! written in two, a kill between them would lose a minute or show it twice.

use crate::support::numbered::{self, KEEP, Recorder, THIN_AFTER, child, store_of_child, verify};
use crate::support::*;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vwatch_store::{ReadMode, Reader, inspect, writer_pid};

/// The writing child: commits numbers and says which are done, until it dies.
#[test]
fn child_writer() {
    let Some(path) = store_of_child() else { return };
    let mut recorder = Recorder::open(&path).unwrap();
    loop {
        println!("done {}", recorder.record().unwrap());
    }
}

/// Runs a child until it has acknowledged `acks` more commits and a moment longer, kills it, and answers the last
/// acknowledged number.
fn run_and_kill(test: &str, path: &Path, acks: u64, longer: Duration) -> Option<u64> {
    let mut child = child(test, path).spawn().unwrap();
    let mut last = None;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    while seen < acks {
        let Some(Ok(line)) = lines.next() else {
            panic!("the writer ended by itself")
        };
        if let Some(n) = acknowledged(&line) {
            last = Some(n);
            seen += 1;
        }
    }
    let until = Instant::now() + longer;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // What it said before it died.
    lines
        .map_while(Result::ok)
        .filter_map(|l| acknowledged(&l))
        .last()
        .or(last)
}

/// Runs a child until it aborts at a point, and answers the last acknowledged number.
fn run_to_point(path: &Path, point: &str) -> Option<u64> {
    run_child_to_point("crash::child_writer", path, point)
}

fn run_child_to_point(test: &str, path: &Path, point: &str) -> Option<u64> {
    let mut child = child(test, path).env("VWATCH_FAILPOINT", point).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = lines.map_while(Result::ok).filter_map(|l| acknowledged(&l)).last();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6), "{point}: {status}");
    last
}

fn acknowledged(line: &str) -> Option<u64> {
    // The first line may follow the harness's own words.
    line.split_once("done ").and_then(|(_, n)| n.parse().ok())
}

/// All that was acknowledged is there, and at most the one commit that was under way.
fn check(path: &Path, acknowledged: Option<u64>) -> u64 {
    assert_eq!(writer_pid(path).unwrap(), None, "the dead writer's lock is free");
    inspect(path).unwrap();
    let count = verify(&Reader::open(path, ReadMode::Copy).unwrap(), &[]);
    let due = acknowledged.map_or(0, |n| n + 1);
    assert!(count == due || count == due + 1, "{count} samples, {due} acknowledged");
    count
}

#[test]
fn killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut all = None;
    // Not random, but as good as: each round dies elsewhere in a commit, every other one around a sealing.
    for round in 0..rounds("VWATCH_CRASH_ROUNDS", 24) {
        let acks = 1 + round * 37 % 61;
        let longer = Duration::from_micros(round * 173 % 2900);
        all = run_and_kill("crash::child_writer", &path, acks, longer).or(all);
        check(&path, all);
    }
    assert!(all.is_some_and(|n| n > 300));
    let recorder = Recorder::open(&path).unwrap();
    let previous = recorder.writer.previous().unwrap();
    assert!(!previous.clean);
    assert_eq!(
        previous.last_commit.wall_ns,
        crate::support::numbered::time(recorder.next - 1)
    );
}

#[test]
fn killed_at_each_point() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    assert_eq!(run_to_point(&path, "create-before-rename"), None);
    assert!(!path.exists());
    let mut all = None;
    let mut count = 0u64;
    let points = [
        "before-commit",
        "after-commit",
        "seal-before-commit",
        "seal-after-commit",
    ];
    let rounds = rounds("VWATCH_CRASH_ROUNDS", 16);
    let points = (0..).flat_map(|round| points.map(|p| (round, p)));
    for (round, point) in points.take(rounds as usize) {
        let nth = 1 + round % 20 * 3;
        // A sealing comes once in sixty commits.
        let nth = if point.starts_with("seal") { 1 + nth / 5 } else { nth };
        all = run_to_point(&path, &format!("{point}:{nth}")).or(all);
        let before = count;
        count = check(&path, all.max(count.checked_sub(1)));
        assert!(count >= before);
        if point == "before-commit" {
            assert_eq!(count, all.map_or(0, |n| n + 1).max(before), "it was not committed");
        }
    }
}

/// Records of one number in twenty seconds, with rules that delete and thin: the second child.
#[test]
fn child_keeper() {
    let Some(path) = store_of_child() else { return };
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.every = 20;
    recorder.next = recorder.next.next_multiple_of(20);
    recorder.writer.set_retention(numbered::rules());
    loop {
        println!("done {}", recorder.record().unwrap());
    }
}

/// Every sample that the rules keep is there with its rows, and none twice; answers the last one's number.
fn check_kept(path: &Path, acknowledged: u64) -> u64 {
    inspect(path).unwrap();
    let reader = Reader::open(path, ReadMode::Copy).unwrap();
    let numbers = numbered::pictures(&reader);
    let last = *numbers.last().unwrap();
    assert!(last as u64 == acknowledged || last as u64 == acknowledged + 20);
    let now = numbered::time(last as u64);
    for n in (0..=last).step_by(20) {
        let time = START + n * SECOND;
        // The first of its minute, which starts at a full one, stays until it is too old.
        let kept = time >= now - THIN_AFTER || n % 60 == 0;
        let there = numbers.binary_search(&n).is_ok();
        assert!(there || !kept || time < now - KEEP, "{n} is missing");
    }
    let storage = reader.storage().unwrap();
    let process = storage.iter().find(|t| t.table == "process").unwrap();
    assert_eq!(process.samples, numbers.len() as u64);
    last as u64
}

#[test]
fn killed_at_each_point_of_maintenance() {
    let directory = quick_directory();
    let path = directory.path().join("s.db");
    let mut last = 0;
    let points = ["merge", "thin", "expire"]
        .iter()
        .flat_map(|work| ["before", "after"].map(|when| format!("{work}-{when}-commit")));
    let points: Vec<String> = points.collect();
    let rounds = rounds("VWATCH_CRASH_ROUNDS", 18);
    let points = (0..).flat_map(|round| points.iter().map(move |p| (round, p)));
    for (round, point) in points.take(rounds as usize) {
        let point = format!("{point}:{}", 1 + round % 3);
        last = run_child_to_point("crash::child_keeper", &path, &point).unwrap_or(last);
        last = check_kept(&path, last);
    }
    assert!(last > 3 * 3600);
}

/// Rewrites the store without its free pages, over and over.
#[test]
fn child_compactor() {
    let Some(path) = store_of_child() else { return };
    for n in 0u64.. {
        vwatch_store::compact(&path).unwrap();
        println!("done {n}");
    }
}

#[test]
fn killed_while_it_is_compacted() {
    let directory = quick_directory();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    for _ in 0..400 {
        recorder.record().unwrap();
    }
    drop(recorder);
    let points = ["compact-before-rename", "compact-after-rename"];
    for round in 0..rounds("VWATCH_CRASH_ROUNDS", 12) {
        match round % 3 {
            0 => run_and_kill(
                "crash::child_compactor",
                &path,
                1,
                Duration::from_micros(round * 1730 % 29_000),
            ),
            point => run_child_to_point("crash::child_compactor", &path, points[point as usize - 1]),
        };
        assert_eq!(check(&path, Some(399)), 400);
    }
    // What a dead one left behind does not stop the next.
    vwatch_store::compact(&path).unwrap();
    let left = std::fs::read_dir(directory.path()).unwrap();
    let left = left.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().ends_with("-compact"));
    assert_eq!(left.count(), 0);
    assert_eq!(check(&path, Some(399)), 400);
}
