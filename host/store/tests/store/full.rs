//! A disk without space: commits fail as `Full`, nothing that was committed is lost, and recording goes on when there is
//! space again.

use crate::support::numbered::{Recorder, picture, time, verify};
use crate::support::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::os::fd::AsRawFd;
use std::path::Path;
use vwatch_store::{Body, OpenOptions, ReadMode, Reader, StoreError, inspect};

/// A small file system at `at`, for this thread alone. None where that is not allowed.
fn small_disk(at: &Path, bytes: u32) -> Option<()> {
    unshare(CloneFlags::CLONE_NEWNS).ok()?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(format!("size={bytes}").as_str()),
    )
    .ok()
}

#[test]
fn full_disk() {
    let directory = tempfile::tempdir().unwrap();
    if small_disk(directory.path(), 3 << 20).is_none() {
        eprintln!("full_disk skipped: mounting a tmpfs needs root");
        return;
    }
    let path = directory.path().join("s.db");
    let ballast = directory.path().join("ballast");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.maintains = false;
    recorder.record().unwrap();
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let mut missing = Vec::new();
    for round in 0..3 {
        // What fills the disk is another's file, down to a few pages.
        let mut filler = vec![1; 4 << 20];
        while std::fs::write(&ballast, &filler).is_err() {
            filler.truncate(filler.len() - 4096);
        }
        let begun = recorder.next;
        let mut failures = 0;
        while failures < 5 {
            match recorder.record() {
                Ok(_) => assert!(recorder.next < begun + 600, "the disk does not fill"),
                Err(StoreError::Full { path: full }) => {
                    assert_eq!(full, path);
                    missing.push(recorder.next);
                    recorder.next += 1;
                    failures += 1;
                }
                Err(e) => panic!("{e}"),
            }
            // Readers are not disturbed.
            if failures > 0 {
                verify(&reader, &missing);
            }
        }
        std::fs::remove_file(&ballast).unwrap();
        // The next sample of a delta's table is whole again.
        let n = recorder.next;
        let body = Body::Delta {
            changed: batch(&process().arrow(), &picture(n)),
            gone: batch(
                &process().key_arrow(),
                &if n.is_multiple_of(7) {
                    vec![vec![Value::Int(5), Value::Int(7)]]
                } else {
                    vec![]
                },
            ),
        };
        recorder
            .writer
            .push(sample(recorder.process, recorder.instance, time(n), body))
            .unwrap();
        let rows = Body::Events(batch(&exits().arrow(), &numbered::events(n)));
        recorder
            .writer
            .push(sample(recorder.exits, recorder.instance, time(n), rows))
            .unwrap();
        recorder.writer.commit(stamp(time(n))).unwrap();
        recorder.next += 1;
        for _ in 0..70 {
            recorder.record().unwrap();
        }
        assert_eq!(verify(&reader, &missing), recorder.next, "round {round}");
    }
    assert!(recorder.writer.stats().failed_commits >= 15);
    recorder.writer.close(stamp(time(recorder.next))).unwrap();
    inspect(&path).unwrap();
    assert!(verify(&Reader::open(&path, ReadMode::Copy).unwrap(), &missing) > 200);
}

#[test]
fn full_map() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let small = OpenOptions {
        map_bytes: 512 << 10,
        ..OpenOptions::default()
    };
    let mut recorder = Recorder::open_with(&path, &small).unwrap();
    recorder.maintains = false;
    let error = loop {
        if let Err(e) = recorder.record() {
            break e;
        }
        assert!(recorder.next < 20_000, "the map does not fill");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(matches!(recorder.record(), Err(StoreError::Full { .. })));
    let written = recorder.next;
    drop(recorder);
    let mut recorder = Recorder::open(&path).unwrap();
    assert_eq!(recorder.next, written);
    for _ in 0..130 {
        recorder.record().unwrap();
    }
    inspect(&path).unwrap();
    assert_eq!(
        verify(&Reader::open(&path, ReadMode::Live).unwrap(), &[]),
        written + 130
    );
}

/// The child: its file may not grow for a while (`RLIMIT_FSIZE`), which LMDB meets as an error that it does not know.
#[test]
fn child_with_a_limit() {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    let Some(path) = numbered::store_of_child() else { return };
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    let mut recorder = Recorder::open(&path).unwrap();
    let mut missing = Vec::new();
    for _ in 0..3 {
        let length = std::fs::metadata(&path).unwrap().len();
        setrlimit(Resource::RLIMIT_FSIZE, length, nix::libc::RLIM_INFINITY).unwrap();
        let begun = recorder.next;
        let mut failures = 0;
        while failures < 3 {
            match recorder.record() {
                Ok(_) => assert!(recorder.next < begun + 2000, "the file never has to grow"),
                Err(StoreError::Io { .. } | StoreError::Lmdb { .. }) => {
                    missing.push(recorder.next);
                    recorder.next += 1;
                    failures += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
        setrlimit(
            Resource::RLIMIT_FSIZE,
            nix::libc::RLIM_INFINITY,
            nix::libc::RLIM_INFINITY,
        )
        .unwrap();
        for _ in 0..70 {
            recorder.record().unwrap();
        }
        let reader = Reader::open(&path, ReadMode::Live).unwrap();
        assert_eq!(verify(&reader, &missing), recorder.next);
    }
    std::process::exit(42);
}

#[test]
fn writes_that_fail() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let output = numbered::child("full::child_with_a_limit", &path).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(42),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    inspect(&path).unwrap();
}

/// LMDB calls an environment broken for good after some errors; here its files can no longer be written to.
#[test]
fn a_broken_environment_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    recorder.record().unwrap();
    let read_only = std::fs::File::open(&path).unwrap();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        if std::fs::read_link(entry.path()).is_ok_and(|to| to == path) && fd != read_only.as_raw_fd() {
            // SAFETY: `fd` is one of LMDB's for this store; it stays open, and becomes one that cannot be written to.
            assert_eq!(unsafe { nix::libc::dup2(read_only.as_raw_fd(), fd) }, fd);
        }
    }
    let error = recorder.record().unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let lost = recorder.next;
    recorder.next += 1;
    for _ in 0..70 {
        recorder.record().unwrap();
    }
    assert_eq!(verify(&reader, &[lost]), recorder.next);
}
