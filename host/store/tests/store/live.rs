//! Readers in other processes while the writer writes, seals, merges, thins and deletes; a reader that dies inside a transaction; two writers.

use crate::support::numbered::{self, Recorder, child, store_of_child, verify};
use crate::support::*;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use vwatch_store::{ReadMode, Reader, StoreError, Work, writer_pid};

/// The reading child: reads everything over and over until told to stop; what it sees never shrinks.
#[test]
fn child_reader() {
    let Some(path) = store_of_child() else { return };
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let mut seen = 0;
    let mut rounds = 0;
    while !path.with_extension("stop").exists() {
        let now = verify(&reader, &[]);
        assert!(now >= seen, "{now} samples after {seen}");
        seen = now;
        rounds += 1;
        println!("read {rounds}");
    }
}

#[test]
fn others_read_while_it_writes_and_seals() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.record().unwrap();
    let mut children: Vec<_> = (0..2)
        .map(|_| {
            let mut child = child("live::child_reader", &path).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            (child, lines)
        })
        .collect();
    let own = Reader::open(&path, ReadMode::Live).unwrap();
    let mut rounds = [0; 2];
    // Until both have read some rounds while at least four minutes were sealed.
    while recorder.next < 250 || rounds.iter().any(|r| *r < 5) {
        for _ in 0..30 {
            recorder.record().unwrap();
        }
        for (child, rounds) in children.iter_mut().zip(&mut rounds) {
            let line = child.1.next().expect("the reader goes on").unwrap();
            *rounds += usize::from(line.contains("read "));
        }
        if recorder.next < 120 {
            assert_eq!(verify(&own, &[]), recorder.next);
        }
    }
    std::fs::write(path.with_extension("stop"), "").unwrap();
    for (mut child, lines) in children {
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(verify(&own, &[]), recorder.next);
}

/// The reading child of a store that is merged, thinned and cut: every picture is right, and none that the rules keep is missing.
#[test]
fn child_reader_of_kept() {
    let Some(path) = store_of_child() else { return };
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let catalog = reader.catalog().unwrap();
    let table = catalog.tables.iter().find(|t| t.schema.name == "process").unwrap().id;
    let instance = catalog.instances[0].id;
    let mut rounds = 0;
    while !path.with_extension("stop").exists() {
        let numbers = numbered::pictures(&reader);
        let last = *numbers.last().unwrap();
        // By now more may have been deleted than when the scan began.
        let newest = reader.as_of(table, instance, i64::MAX, None).unwrap().unwrap();
        let oldest = (newest.time_ns - numbered::KEEP - START) / SECOND;
        for minute in (oldest.max(0)..=last).filter(|n| n % 60 == 0) {
            assert!(
                numbers.binary_search(&minute).is_ok(),
                "{minute} is missing of {numbers:?}"
            );
            let at = numbered::time(minute as u64) + 19 * SECOND;
            let then = reader.as_of(table, instance, at, None).unwrap();
            // It may have been deleted since.
            let then = then.map_or(numbered::time(minute as u64), |p| p.time_ns);
            assert_eq!(then, numbered::time(minute as u64));
        }
        rounds += 1;
        println!("read {rounds}");
    }
}

#[test]
fn others_read_while_it_merges_thins_and_deletes() {
    let directory = quick_directory();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.every = 20;
    recorder.maintains = false;
    recorder.writer.set_retention(numbered::rules());
    recorder.record().unwrap();
    let mut readers: Vec<_> = (0..2)
        .map(|_| {
            let mut child = child("live::child_reader_of_kept", &path).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            (child, lines)
        })
        .collect();
    let (mut merged, mut thinned, mut deleted) = (0, 0, 0);
    while merged < 20 || thinned < 3 || deleted < 5 {
        for _ in 0..90 {
            let n = recorder.record().unwrap();
            match recorder.writer.maintain(stamp(numbered::time(n))).unwrap().work {
                Some(Work::Merge) => merged += 1,
                Some(Work::Thin) => thinned += 1,
                Some(Work::Expire) => deleted += 1,
                None => {}
            }
        }
        for (_, lines) in &mut readers {
            lines.next().expect("the reader goes on").unwrap();
        }
        assert!(
            recorder.next < 40 * 3600,
            "{merged} merged, {thinned} thinned, {deleted} deleted"
        );
    }
    std::fs::write(path.with_extension("stop"), "").unwrap();
    for (mut child, lines) in readers {
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
    }
}

/// A child that begins a transaction with LMDB itself and stays in it.
#[test]
fn child_in_a_transaction() {
    let Some(path) = store_of_child() else { return };
    let flags = lmdb::EnvironmentFlags::NO_SUB_DIR | lmdb::EnvironmentFlags::READ_ONLY | lmdb::EnvironmentFlags::NO_TLS;
    let env = lmdb::Environment::new().set_flags(flags).open(&path).unwrap();
    let _txn = env.begin_ro_txn().unwrap();
    println!("inside");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn the_slot_of_a_dead_reader_is_cleared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.record().unwrap();
    let mut child = child("live::child_in_a_transaction", &path).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("inside")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(recorder.writer.stats().readers_cleared, 0);
    for _ in 0..60 {
        recorder.record().unwrap();
    }
    assert_eq!(recorder.writer.stats().readers_cleared, 1);
}

/// A child that holds the writer's lock until its input ends.
#[test]
fn child_holder() {
    let Some(path) = store_of_child() else { return };
    let _recorder = Recorder::open(&path).unwrap();
    println!("holding");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn one_writer_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    assert_eq!(writer_pid(&path).unwrap(), None);
    let mut child = child("live::child_holder", &path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("holding")));
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(writer_pid(&path).unwrap(), Some(pid));
    match Recorder::open(&path) {
        Err(StoreError::Held { pid: holder, .. }) => assert_eq!(holder, pid),
        other => panic!("{:?}", other.map(|_| ())),
    }
    // A link to it is the same store.
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Recorder::open(&link), Err(StoreError::Held { .. })));
    assert_eq!(writer_pid(&link).unwrap(), Some(pid));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(writer_pid(&path).unwrap(), None);
    let mut again = Recorder::open(&path).unwrap();
    again.record().unwrap();
    assert!(matches!(Recorder::open(&path), Err(StoreError::Held { pid, .. }) if pid == std::process::id() as i32));
}

#[test]
fn readers_of_the_same_process_outlive_writers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.record().unwrap();
    recorder.writer.close(stamp(numbered::time(1))).unwrap();
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    assert_eq!(verify(&reader, &[]), 1);
    assert!(reader.catalog().unwrap().clean_close);
    let mut recorder = Recorder::open(&path).unwrap();
    assert!(recorder.writer.previous().unwrap().clean);
    recorder.record().unwrap();
    assert_eq!(verify(&reader, &[]), 2);
    assert!(!reader.catalog().unwrap().clean_close);
    drop(recorder);
    assert_eq!(verify(&reader, &[]), 2);
    let clone = reader.clone();
    drop(reader);
    assert_eq!(std::thread::spawn(move || verify(&clone, &[])).join().unwrap(), 2);
}
