//! Files that are no store, stores from the future, and stores that were cut or changed: refused or read right, and never
//! touched by a refusal.

use crate::support::numbered::{Recorder, child, store_of_child, verify};
use crate::support::*;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use vwatch_store::{OpenOptions, ReadMode, Reader, StoreError, Writer, inspect};

fn open_all_ways(path: &Path) -> [StoreError; 4] {
    [
        Writer::open(path, &OpenOptions::default(), stamp(START), "boot").unwrap_err(),
        Reader::open(path, ReadMode::Live).unwrap_err(),
        Reader::open(path, ReadMode::Copy).unwrap_err(),
        inspect(path).unwrap_err(),
    ]
}

fn refused_untouched(path: &Path, expect: impl Fn(&StoreError) -> bool) {
    let before = std::fs::read(path).unwrap();
    for e in open_all_ways(path) {
        assert!(expect(&e), "{e}");
        assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
    }
    assert_eq!(std::fs::read(path).unwrap(), before);
}

#[test]
fn files_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let not_a_store = |e: &StoreError| matches!(e, StoreError::NotAStore { .. });
    for path in [
        file("text", &b"Dear diary, ".repeat(4000)),
        file("short", b"x"),
        file("zeros", &[0; 100_000]),
        file("sqlite", &[&b"SQLite format 3\0"[..], &[7; 20_000]].concat()),
    ] {
        refused_untouched(&path, not_a_store);
        let beside = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(beside, 4, "nothing was put beside it");
    }
    assert!(not_a_store(&inspect(directory.path()).unwrap_err()));
}

/// A file as LMDB makes it, with a database of some name and one entry in it.
fn lmdb_file(path: &Path, database: &str, key: &[u8], value: &[u8]) {
    use lmdb::Transaction;
    let env = lmdb::Environment::new()
        .set_flags(lmdb::EnvironmentFlags::NO_SUB_DIR | lmdb::EnvironmentFlags::NO_LOCK)
        .set_max_dbs(20)
        .open(path)
        .unwrap();
    let db = env.create_db(Some(database), lmdb::DatabaseFlags::empty()).unwrap();
    let mut txn = env.begin_rw_txn().unwrap();
    txn.put(db, &key, &value, lmdb::WriteFlags::empty()).unwrap();
    txn.commit().unwrap();
}

#[test]
fn the_lmdb_file_of_another_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mail.mdb");
    lmdb_file(&path, "folders", b"inbox", b"17");
    refused_untouched(
        &path,
        |e| matches!(e, StoreError::NotAStore { what, .. } if what.contains("another program")),
    );
    let path = directory.path().join("other.mdb");
    lmdb_file(&path, "meta", b"version", b"17");
    refused_untouched(&path, |e| matches!(e, StoreError::NotAStore { .. }));
}

#[test]
fn a_store_from_the_future() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    store(&path, 3);
    let body = [&b"vwatch-store"[..], &7u32.to_le_bytes()].concat();
    let mut crc = crc32fast::Hasher::new();
    crc.update(b"format");
    crc.update(&body);
    let value = [&crc.finalize().to_le_bytes()[..], &body].concat();
    lmdb_file(&path, "meta", b"format", &value);
    refused_untouched(&path, |e| {
        matches!(e, StoreError::NewerFormat { found: 7, known: 2, .. })
    });
}

/// A store with so many samples, some sealed, some in the head.
fn store(path: &Path, samples: u64) {
    let mut recorder = Recorder::open(path).unwrap();
    // Many small blocks, and few pages that are free.
    recorder.maintains = false;
    for _ in 0..samples {
        recorder.record().unwrap();
    }
}

/// The child: inspects the store, and when that finds nothing, reads everything. Its exit code says what came of it.
#[test]
fn child_inspector() {
    let Some(path) = store_of_child() else { return };
    if let Err(e) = inspect(&path) {
        println!("refused: {e}");
        std::process::exit(10);
    }
    let read = || -> Result<u64, StoreError> {
        let reader = Reader::open(&path, ReadMode::Copy)?;
        let catalog = reader.catalog()?;
        for table in &catalog.tables {
            let instances = catalog.instances.iter().map(|i| i.id).collect();
            for batch in reader.scan(everything(table.id, instances))? {
                batch?;
            }
        }
        Ok(verify(&reader, &[]))
    };
    match read() {
        Err(e) => {
            println!("failed: {e}");
            std::process::exit(11);
        }
        Ok(n) => {
            println!("samples: {n}");
            std::process::exit(12);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Refused(String),
    /// An error while reading, which names what is damaged.
    Failed(String),
    Right(u64),
    /// It panicked, or read something else than was written.
    Wrong(String),
    Killed(i32),
}

fn verdict(path: &Path) -> Verdict {
    let output = child("files::child_inspector", path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |word: &str| text.split_once(word).map_or("", |(_, rest)| rest).trim().to_owned();
    match (output.status.code(), output.status.signal()) {
        (Some(10), _) => Verdict::Refused(after("refused: ")),
        (Some(11), _) => Verdict::Failed(after("failed: ")),
        (Some(12), _) => Verdict::Right(after("samples: ").parse().unwrap()),
        (_, Some(signal)) => Verdict::Killed(signal),
        _ => Verdict::Wrong(text),
    }
}

/// Samples of [`good_store`]: 25 minutes, of which one is in the head.
const SAMPLES: u64 = 1500;

/// Without free pages, so that nearly every byte means something.
fn good_store(directory: &Path) -> (PathBuf, Vec<u8>) {
    let path = directory.join("s.db");
    store(&path, SAMPLES);
    vwatch_store::compact(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn cut_files() {
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes) = good_store(directory.path());
    assert_eq!(verdict(&path), Verdict::Right(SAMPLES));
    let cut_path = directory.path().join("cut.db");
    let pages = bytes.len() / 4096;
    let lengths = [1, 100, 4095, 4096, 8191, 8192, 8193, 12288].into_iter();
    for length in lengths.chain((3..pages).map(|p| p * 4096)).chain([bytes.len() - 1]) {
        std::fs::write(&cut_path, &bytes[..length]).unwrap();
        match verdict(&cut_path) {
            Verdict::Refused(_) => {}
            // The last pages may be free ones.
            Verdict::Right(SAMPLES) if length > bytes.len() / 2 => {}
            other => panic!("cut to {length} of {}: {other:?}", bytes.len()),
        }
    }
}

#[test]
fn changed_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (_, bytes) = good_store(directory.path());
    let path = directory.path().join("changed.db");
    let mut counts = [0; 3];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..rounds("VWATCH_DAMAGE_ROUNDS", 240) {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut changed = bytes.clone();
        let at = (seed >> 20) as usize % changed.len();
        match round % 3 {
            // One bit, one byte of a page's beginning, and a stretch.
            0 => changed[at] ^= 1 << (seed % 8),
            1 => changed[at / 4096 * 4096 + at % 64] ^= 0xff,
            _ => changed[at..(at + 40).min(bytes.len())].fill(seed as u8),
        }
        std::fs::write(&path, &changed).unwrap();
        match verdict(&path) {
            Verdict::Refused(what) => {
                assert!(what.contains("changed.db"), "{what}");
                counts[0] += 1;
            }
            Verdict::Failed(what) => {
                assert!(what.contains("damaged"), "{what}");
                counts[1] += 1;
            }
            // It hit a free page, or a part of a page that is not used.
            Verdict::Right(SAMPLES) => counts[2] += 1,
            other => panic!("round {round}, byte {at}: {other:?}"),
        }
    }
    assert!(counts.iter().all(|c| *c > 0), "refused, failed, unharmed: {counts:?}");
}
