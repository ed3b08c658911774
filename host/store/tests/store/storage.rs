//! The figures of a store's tables against counts of what was put in.

use crate::support::numbered::{Recorder, events, picture, time};
use crate::support::stamp;
use vwatch_store::{ReadMode, Reader};

#[test]
fn figures_are_what_was_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.maintains = false;
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    assert_eq!(reader.storage().unwrap(), []);
    // Two minutes in blocks, ten seconds in the head.
    for _ in 0..130 {
        recorder.record().unwrap();
    }
    let event_rows: Vec<_> = (0..130).flat_map(events).collect();
    let picture_rows = |to: u64| (0..to).map(|n| picture(n).len() as u64).sum::<u64>();
    let storage = reader.storage().unwrap();
    let [process, exits] = &storage[..] else {
        panic!("{storage:?}")
    };
    assert_eq!(
        (process.table.as_str(), process.instance.as_str()),
        ("process", "numbered")
    );
    assert_eq!((process.first_ns, process.last_ns), (Some(time(0)), Some(time(129))));
    assert_eq!((process.samples, process.blocks), (130, 2));
    // In the head by the last whole picture, which has 6 rows where some samples have 5.
    assert!(process.rows.abs_diff(picture_rows(130)) <= 10, "{}", process.rows);
    assert!(process.raw_bytes > process.rows * 30 && process.head_bytes > 0);
    assert_eq!(exits.rows, event_rows.len() as u64);
    assert_eq!((exits.samples, exits.blocks), (0, 2));
    assert_eq!(process.bytes + exits.bytes, recorder.writer.stats().block_bytes);
    let now = stamp(time(130));
    recorder.writer.close(now).unwrap();
    let storage = reader.storage().unwrap();
    assert_eq!((storage[0].rows, storage[0].head_bytes), (picture_rows(130), 0));
    assert_eq!(storage[0].blocks, 3);
    // Put together, they are fewer, and have the same rows.
    let mut recorder = Recorder::open(&path).unwrap();
    for _ in 0..9 {
        recorder.writer.maintain(stamp(time(2000))).unwrap();
    }
    let merged = reader.storage().unwrap();
    assert!(merged[0].blocks < 3, "{merged:?}");
    for (before, after) in storage.iter().zip(&merged) {
        assert_eq!((after.samples, after.rows), (before.samples, before.rows));
        assert_eq!((after.first_ns, after.last_ns), (before.first_ns, before.last_ns));
    }
}
