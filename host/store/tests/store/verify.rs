//! Checking, copying and compacting: a sound store is called so, every damaged block is named, and an interruption leaves a
//! store that holds what it held.

use crate::support::numbered::{self, Recorder, child, store_of_child};
use crate::support::*;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use vwatch_store::*;

const SAMPLES: u64 = 400;

fn recorded(directory: &Path) -> PathBuf {
    let path = directory.join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    for _ in 0..SAMPLES {
        recorder.record().unwrap();
    }
    path
}

fn check(reader: &Reader) -> (Verified, Vec<Flaw>) {
    let mut flaws = Vec::new();
    let done = verify(reader, &mut |step| {
        if let Step::Flaw(flaw) = step {
            flaws.push(flaw);
        }
        ControlFlow::Continue(())
    });
    (done.unwrap(), flaws)
}

#[test]
fn a_sound_store_is_counted_as_it_was_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    for mode in [ReadMode::Copy, ReadMode::Live] {
        let (done, flaws) = check(&Reader::open(&path, mode).unwrap());
        assert_eq!(flaws, []);
        let rows: usize = (0..SAMPLES)
            .map(|n| numbered::picture(n).len() + numbered::events(n).len())
            .sum();
        assert_eq!((done.samples, done.rows), (SAMPLES, rows as u64));
        assert!(done.blocks > 0 && done.blocks == done.blocks_total && done.head_records > 0 && done.pages > 0);
    }
}

/// Every byte of blocks and head belongs to something that a check names or to nothing that is read.
#[test]
fn what_is_damaged_is_named_with_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    compact(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let changed = directory.path().join("changed.db");
    let mut blocks = 0;
    for at in (2 * 4096 + 11..bytes.len()).step_by(97) {
        let mut copy = bytes.clone();
        copy[at] ^= 0x40;
        std::fs::write(&changed, &copy).unwrap();
        // Branch pages that LMDB would follow into nowhere are for children of the tests of files.
        if inspect(&changed).is_err_and(|e| e.to_string().contains(" tree")) {
            continue;
        }
        // What LMDB is not even shown is refused by name.
        let Ok(reader) = Reader::open(&changed, ReadMode::Copy) else {
            continue;
        };
        let (done, flaws) = check(&reader);
        assert_eq!(done.flaws, flaws.len() as u64);
        for flaw in flaws.iter().filter(|f| f.what == Where::Block) {
            assert!(flaw.from_ns.is_some() || flaw.sequence.is_none(), "byte {at}: {flaw:?}");
            blocks += u32::from(flaw.table.as_deref() == Some("process"));
        }
        let catalog = reader.catalog();
        if let (true, Ok(catalog)) = (flaws.is_empty(), &catalog) {
            let instances: Vec<_> = catalog.instances.iter().map(|i| i.id).collect();
            for table in &catalog.tables {
                let rows = reader.scan(everything(table.id, instances.clone())).unwrap();
                rows.for_each(|batch| drop(batch.unwrap_or_else(|e| panic!("byte {at}: sound, but {e}"))));
            }
        }
    }
    assert!(blocks > 0);
}

/// A scan hands over what it can, and each damaged part once.
#[test]
fn a_scan_goes_on_after_a_damaged_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    compact(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let changed = directory.path().join("changed.db");
    let mut gone_on = 0;
    for at in (2 * 4096 + 11..bytes.len()).step_by(97) {
        let mut copy = bytes.clone();
        copy[at] ^= 0x40;
        std::fs::write(&changed, &copy).unwrap();
        if inspect(&changed).is_err_and(|e| e.to_string().contains(" tree")) {
            continue;
        }
        let Ok(reader) = Reader::open(&changed, ReadMode::Copy) else {
            continue;
        };
        let Ok(catalog) = reader.catalog() else { continue };
        let instances: Vec<_> = catalog.instances.iter().map(|i| i.id).collect();
        let Some(process) = catalog.tables.iter().find(|t| t.schema.name == "process") else {
            continue;
        };
        let Ok(scan) = reader.scan(everything(process.id, instances)) else {
            continue;
        };
        let (mut damaged, mut after, mut last) = (0, 0, i64::MIN);
        for batch in scan {
            match batch {
                Ok(batch) => {
                    for row in rows(&batch) {
                        let Value::Int(time) = row[0] else { panic!("{row:?}") };
                        assert!(last <= time as i64, "byte {at}: out of order");
                        last = time as i64;
                        let n = (last - START) / SECOND;
                        let picture = numbered::picture(n as u64);
                        assert!(picture.contains(&row[2..].to_vec()), "byte {at}: sample {n}: {row:?}");
                    }
                    after += damaged;
                }
                Err(StoreError::DamagedPart { damage, .. }) => {
                    assert_eq!(damage.table.as_deref(), Some("process"));
                    damaged += 1;
                }
                Err(e) => panic!("byte {at}: {e}"),
            }
        }
        gone_on += after;
    }
    assert!(gone_on > 0, "no block was damaged with others after it");
}

#[test]
fn a_streamed_copy_is_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    for (mode, compact) in [(ReadMode::Copy, false), (ReadMode::Live, false), (ReadMode::Live, true)] {
        let reader = Reader::open(&path, mode).unwrap();
        let (mut from, to) = std::io::pipe().unwrap();
        let copying = std::thread::spawn(move || copy_to(&reader, compact, to.as_fd()));
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        copying.join().unwrap().unwrap();
        let copy = directory.path().join("copy.db");
        std::fs::write(&copy, &bytes).unwrap();
        assert_eq!(
            numbered::verify(&Reader::open(&copy, ReadMode::Copy).unwrap(), &[]),
            SAMPLES
        );
    }
}

#[test]
fn a_copy_that_nobody_takes_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    let reader = Reader::open(&path, ReadMode::Copy).unwrap();
    for compact in [false, true] {
        let (from, to) = std::io::pipe().unwrap();
        drop(from);
        assert!(copy_to(&reader, compact, to.as_fd()).is_err());
    }
}

/// The child: compacts the store, and dies where the fail point says.
#[test]
fn child_compactor() {
    let Some(path) = store_of_child() else { return };
    compact(&path).unwrap();
}

#[test]
fn an_interrupted_compaction_leaves_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    for point in ["compact-before-rename", "compact-after-rename"] {
        let mut command = child("verify::child_compactor", &path);
        let ended = command
            .env("VWATCH_FAILPOINT", point)
            .stderr(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(!ended.status.success(), "{point} was not met");
        assert_eq!(
            numbered::verify(&Reader::open(&path, ReadMode::Copy).unwrap(), &[]),
            SAMPLES
        );
    }
    // What is left beside it is no hindrance, and the smaller file is recorded into.
    let sizes = compact(&path).unwrap();
    assert!(sizes.after_bytes <= sizes.before_bytes);
    let mut recorder = Recorder::open(&path).unwrap();
    assert_eq!(recorder.next, SAMPLES);
    recorder.record().unwrap();
    assert!(matches!(compact(&path), Err(StoreError::Held { .. })));
    // A reader that is there when the store is opened again shares its lock file, and both see the same states.
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    for _ in 0..70 {
        recorder.record().unwrap();
        assert_eq!(numbered::verify(&reader, &[]), recorder.next);
    }
}

#[test]
fn pages_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = recorded(directory.path());
    let pages = Reader::open(&path, ReadMode::Copy).unwrap().pages().unwrap();
    let file = std::fs::metadata(&path).unwrap().len();
    assert_eq!((pages.page_bytes, pages.file_bytes), (4096, file));
    assert!(pages.free > 0 && pages.free < pages.total && pages.total * 4096 <= file);
    compact(&path).unwrap();
    let compacted = Reader::open(&path, ReadMode::Copy).unwrap().pages().unwrap();
    // The list of free pages took some itself.
    assert!(
        compacted.free == 0 && compacted.total <= pages.total - pages.free,
        "{compacted:?} {pages:?}"
    );
}
