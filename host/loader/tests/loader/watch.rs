//! Watching a plugins directory as people and package managers treat it.

use crate::support::{chmod, dir, write};
use std::collections::BTreeSet;
use std::fs::{File, rename};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vwatch_loader::DirChange::{Changed, DirBack, DirGone, Removed};
use vwatch_loader::{DirChange, WatchError, Watcher, scan_dir};

const LONG: Duration = Duration::from_secs(10);

/// Changes until `enough` says so, or the time is over.
#[track_caller]
fn until(watcher: &mut Watcher, enough: impl Fn(&[DirChange]) -> bool) -> Vec<DirChange> {
    let deadline = Instant::now() + LONG;
    let mut seen = Vec::new();
    while !enough(&seen) {
        assert!(Instant::now() < deadline, "only {seen:?}");
        seen.extend(watcher.next(Duration::from_millis(300)));
    }
    seen
}

/// Exactly these changes, and then none while everything is quiet.
#[track_caller]
fn check(watcher: &mut Watcher, expect: &[DirChange]) {
    let mut seen = until(watcher, |seen| seen.len() >= expect.len());
    // Longer than a file has to be quiet: a second report of the same burst would come now.
    seen.extend(watcher.next(Duration::from_millis(1_000)));
    assert_eq!(seen, expect);
}

#[test]
fn files_come_change_and_go() {
    let dir = dir();
    let there = write(dir.path(), "there.so", b"1");
    let mut watcher = Watcher::new(dir.path()).unwrap();
    assert_eq!(watcher.next(Duration::ZERO), []);
    let new = write(dir.path(), "new.so", b"1");
    check(&mut watcher, &[Changed(new.clone())]);
    write(dir.path(), "new.so", b"22");
    check(&mut watcher, &[Changed(new.clone())]);
    std::fs::remove_file(&there).unwrap();
    check(&mut watcher, &[Removed(there)]);
    // Written elsewhere and moved over: what packagers do.
    let elsewhere = write(dir.path(), ".new.so.tmp", b"333");
    rename(elsewhere, &new).unwrap();
    check(&mut watcher, &[Changed(new.clone())]);
    rename(&new, dir.path().join("renamed.so")).unwrap();
    check(&mut watcher, &[Removed(new), Changed(dir.path().join("renamed.so"))]);
}

#[test]
fn a_mode_that_is_mended_is_reported() {
    let dir = dir();
    let file = write(dir.path(), "p.so", b"1");
    chmod(&file, 0o666);
    let mut watcher = Watcher::new(dir.path()).unwrap();
    chmod(&file, 0o644);
    check(&mut watcher, &[Changed(file)]);
}

#[test]
fn links_are_reported_directories_and_hidden_files_are_not() {
    let dir = dir();
    let file = write(dir.path(), "p.so", b"1");
    let mut watcher = Watcher::new(dir.path()).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    write(dir.path(), ".hidden.so", b"1");
    let link = dir.path().join("link.so");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    check(&mut watcher, &[Changed(link.clone())]);
    assert_eq!(scan_dir(dir.path()).unwrap(), [link, file]);
}

/// A slow writer: one report once the file is closed, not one for each piece.
#[test]
fn a_file_is_left_alone_while_it_is_written() {
    let dir = dir();
    let mut watcher = Watcher::new(dir.path()).unwrap();
    let path = dir.path().join("slow.so");
    let mut file = File::create(&path).unwrap();
    for _ in 0..6 {
        file.write_all(b"piece").unwrap();
        let written = Instant::now();
        // The pace of the writer, shorter than the time after which a writer counts as gone.
        let changes = watcher.next(Duration::from_millis(150));
        if written.elapsed() > Duration::from_millis(600) {
            println!("skipped: a_file_is_left_alone_while_it_is_written: the machine is too busy to keep the pace");
            return;
        }
        assert_eq!(changes, []);
    }
    drop(file);
    let closed = Instant::now();
    check(&mut watcher, &[Changed(path)]);
    assert!(closed.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_file_that_comes_and_goes_at_once_was_never_there() {
    let dir = dir();
    let mut watcher = Watcher::new(dir.path()).unwrap();
    std::fs::remove_file(write(dir.path(), "brief.so", b"1")).unwrap();
    assert_eq!(watcher.next(Duration::from_millis(1_000)), []);
}

#[test]
fn a_directory_that_is_not_there() {
    let dir = dir();
    let absent = dir.path().join("absent");
    let error = Watcher::new(&absent).map(drop).unwrap_err();
    let expect = format!("the plugins directory {} cannot be watched: ", absent.display());
    assert!(error.to_string().starts_with(&expect), "{error}");
    assert!(matches!(scan_dir(&absent), Err(WatchError::Read { .. })));
    assert!(matches!(
        Watcher::new(Path::new("plugins")),
        Err(WatchError::Relative(_))
    ));
    let file = write(dir.path(), "file", b"");
    assert!(matches!(Watcher::new(&file), Err(WatchError::Watch { .. })));
}

#[test]
fn a_directory_that_goes_and_comes_back() {
    let dir = dir();
    let plugins = dir.path().join("lib/vwatchd/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let a = write(&plugins, "a.so", b"1");
    let mut watcher = Watcher::new(&plugins).unwrap();
    // Its parents too, so that the nearest one left has to be watched.
    std::fs::remove_dir_all(dir.path().join("lib")).unwrap();
    let seen = until(&mut watcher, |seen| {
        seen.contains(&Removed(a.clone())) && seen.contains(&DirGone(plugins.clone()))
    });
    assert_eq!(seen.iter().filter(|c| **c == Removed(a.clone())).count(), 1, "{seen:?}");
    std::fs::create_dir_all(&plugins).unwrap();
    let b = write(&plugins, "b.so", b"1");
    let expect = [DirBack(plugins.clone()), Changed(b.clone())];
    check(&mut watcher, &expect);
    let c = write(&plugins, "c.so", b"1");
    check(&mut watcher, &[Changed(c.clone())]);

    // Another directory in its place at once.
    rename(&plugins, dir.path().join("old")).unwrap();
    std::fs::create_dir(&plugins).unwrap();
    let d = write(&plugins, "d.so", b"1");
    let seen = until(&mut watcher, |seen| seen.contains(&Changed(d.clone())));
    let expect = [
        DirGone(plugins.clone()),
        Removed(b),
        Removed(c),
        DirBack(plugins),
        Changed(d),
    ];
    assert_eq!(seen, expect);
}

#[test]
fn a_link_to_the_directory_that_is_turned() {
    let dir = dir();
    let (one, two, link) = (
        dir.path().join("one"),
        dir.path().join("two"),
        dir.path().join("plugins"),
    );
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&two).unwrap();
    write(&one, "a.so", b"1");
    write(&two, "b.so", b"1");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let mut watcher = Watcher::new(&link).unwrap();
    std::os::unix::fs::symlink(&two, dir.path().join("next")).unwrap();
    rename(dir.path().join("next"), &link).unwrap();
    let expect = [
        DirGone(link.clone()),
        Removed(link.join("a.so")),
        DirBack(link.clone()),
        Changed(link.join("b.so")),
    ];
    check(&mut watcher, &expect);
}

/// More events than the kernel queues: nothing is missed, since the directory is compared then.
#[test]
fn an_overflow_loses_nothing() {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        println!("skipped: an_overflow_loses_nothing: the queue takes {limit} events");
        return;
    }
    let dir = dir();
    let gone = write(dir.path(), "gone.so", b"1");
    let mut watcher = Watcher::new(dir.path()).unwrap();
    // Two names in turn, since the kernel merges an event with the same one before it.
    for i in 0..limit {
        let to = dir.path().join(format!("noise{}.so", i % 2));
        File::create(&to).unwrap();
    }
    std::fs::remove_file(&gone).unwrap();
    let files: BTreeSet<PathBuf> = (0..50).map(|i| write(dir.path(), &format!("p{i}.so"), b"1")).collect();
    let found = |seen: &[DirChange]| -> BTreeSet<PathBuf> {
        seen.iter()
            .filter_map(|c| if let Changed(p) = c { Some(p.clone()) } else { None })
            .collect()
    };
    until(&mut watcher, |seen| {
        files.is_subset(&found(seen)) && seen.contains(&Removed(gone.clone()))
    });
}

#[test]
fn the_descriptor_wakes_a_poller() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let dir = dir();
    let mut watcher = Watcher::new(dir.path()).unwrap();
    let readable = |watcher: &Watcher, wait: PollTimeout| {
        let mut fds = [PollFd::new(watcher.fd(), PollFlags::POLLIN)];
        poll(&mut fds, wait).unwrap() == 1
    };
    assert!(!readable(&watcher, PollTimeout::ZERO));
    let file = write(dir.path(), "p.so", b"1");
    assert!(readable(&watcher, PollTimeout::from(5_000u16)));
    check(&mut watcher, &[Changed(file)]);
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert!(readable(&watcher, PollTimeout::from(5_000u16)));
    until(&mut watcher, |seen| seen.contains(&DirGone(dir.path().to_owned())));
    std::fs::create_dir(dir.path()).unwrap();
    assert!(readable(&watcher, PollTimeout::from(5_000u16)), "the parent is watched");
}
