//! Merging, thinning and expiry: what readers see meanwhile, what is left, and that the file keeps its bound.

use crate::support::numbered::{Recorder, events, picture, time, verify};
use crate::support::*;
use vwatch_store::*;

fn ids(reader: &Reader) -> (TableId, TableId, InstanceId) {
    let catalog = reader.catalog().unwrap();
    let id = |name: &str| catalog.tables.iter().find(|t| t.schema.name == name).unwrap().id;
    (id("process"), id("process_exit"), catalog.instances[0].id)
}

fn batch_rows(batch: Option<Result<arrow_array::RecordBatch, StoreError>>) -> Option<Vec<Row>> {
    batch.map(|b| rows(&b.unwrap()))
}

/// Maintains until nothing is left to do; answers what was done.
fn maintain(writer: &mut Writer, now_ns: i64) -> Vec<Work> {
    let mut done = Vec::new();
    let mut idle = 0;
    while idle < 4 {
        match writer.maintain(stamp(now_ns)).unwrap().work {
            Some(work) => {
                done.push(work);
                idle = 0;
            }
            None => idle += 1,
        }
        assert!(done.len() < 10_000, "it comes to no end");
    }
    done
}

/// Ten minutes in blocks of one minute, and the beginning of another in the head.
fn ten_minutes(path: &std::path::Path) -> Recorder {
    let mut recorder = Recorder::open(path).unwrap();
    recorder.maintains = false;
    for _ in 0..630 {
        recorder.record().unwrap();
    }
    recorder
}

/// Every scan is begun before the blocks are put together, and ended after that, at each place that it may have come to.
#[test]
fn a_scan_held_across_a_merge_has_each_row_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = ten_minutes(&path);
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let (process, exits, instance) = ids(&reader);
    for table in [process, exits] {
        let whole = scan_all(&reader, everything(table, vec![instance]));
        let mut held = Vec::new();
        for place in 0..12 {
            let mut scan = reader.scan(everything(table, vec![instance])).unwrap();
            let begun: Vec<Row> = (0..place).filter_map(|_| batch_rows(scan.next())).flatten().collect();
            assert!(place == 0 || !begun.is_empty());
            held.push((begun, scan));
        }
        let before = reader.storage().unwrap();
        let done = maintain(&mut recorder.writer, time(recorder.next) + 10 * MINUTE);
        if table == process {
            assert!(done.contains(&Work::Merge));
            let after = reader.storage().unwrap();
            assert!(after[0].blocks <= 5 && before[0].blocks == 10, "{before:?} {after:?}");
        }
        // The head of the listing is in a block by now, too.
        for _ in 0..90 {
            recorder.record().unwrap();
        }
        maintain(&mut recorder.writer, time(recorder.next) + 10 * MINUTE);
        for (mut got, scan) in held {
            for batch in scan {
                got.extend(rows(&batch.unwrap()));
            }
            // What was recorded meanwhile may be there, after all the rest.
            assert!(got.len() >= whole.len());
            let late = whole.last().unwrap()[0].clone();
            assert!(got[whole.len()..].iter().all(|row| row[0] > late));
            got.truncate(whole.len());
            assert_eq!(got, whole);
        }
    }
    verify(&reader, &[]);
}

#[test]
fn thinned_pictures_are_those_of_their_times() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    for _ in 0..3500 {
        recorder.record().unwrap();
    }
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let (process, exits, instance) = ids(&reader);
    let before = reader.storage().unwrap();
    let mut held = reader.scan(everything(process, vec![instance])).unwrap();
    let mut got = batch_rows(held.next()).unwrap();
    recorder.writer.set_retention(Retention {
        all: Rules {
            thin: Some(vec![Thin {
                after_ns: 600 * SECOND as u64,
                every_ns: 10 * SECOND as u64,
            }]),
            ..Rules::default()
        },
        ..Retention::default()
    });
    let now_ns = time(recorder.next);
    assert!(maintain(&mut recorder.writer, now_ns).contains(&Work::Thin));
    let after = reader.storage().unwrap();
    assert!(after[0].samples < before[0].samples / 2, "{before:?} {after:?}");
    assert_eq!(after[1].rows, before[1].rows, "events are not thinned");
    assert_eq!(
        scan_all(&reader, everything(exits, vec![instance])).len() as u64,
        after[1].rows
    );
    // A window of thinning is a full hour, the first of those that are full.
    let hour = 3600 * SECOND;
    let until = (now_ns - 600 * SECOND).div_euclid(hour) * hour;
    for n in (0..recorder.next).step_by(7) {
        let got = reader.as_of(process, instance, time(n), None).unwrap().unwrap();
        let first_of_step = time(n).div_euclid(10 * SECOND) * 10 * SECOND;
        let (want_ns, want_interval) = match time(n) < until {
            true => (first_of_step.max(time(0)), 10 * SECOND),
            false => (time(n), SECOND),
        };
        assert_eq!((got.time_ns, got.interval_ns), (want_ns, want_interval as u64), "{n}");
        let number = (want_ns - START) / SECOND;
        let mut got: Vec<Row> = rows(&got.rows).into_iter().map(|r| r[2..].to_vec()).collect();
        got.sort();
        assert_eq!(got, picture(number as u64), "{n}");
    }
    // The scan that began before goes on with what is left.
    for batch in held {
        got.extend(rows(&batch.unwrap()));
    }
    assert!(got.is_sorted_by_key(|row| row[0].clone()));
    let last = got.last().unwrap()[0].clone();
    assert_eq!(last, Value::Int(time(recorder.next - 1).into()));
}

#[test]
fn old_blocks_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut recorder = Recorder::open(&path).unwrap();
    for _ in 0..3000 {
        recorder.record().unwrap();
    }
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let (process, exits, instance) = ids(&reader);
    let now_ns = time(recorder.next);
    let keep = |rules: Rules, table: &str, of_table: Rules| Retention {
        all: rules,
        tables: [(table.to_owned(), of_table)].into(),
    };
    let hours = |n: f64| Some((n * 3600e9) as u64);
    let aged = Rules {
        keep_ns: hours(0.5),
        ..Rules::default()
    };
    let shorter = Rules {
        keep_ns: hours(0.04),
        ..Rules::default()
    };
    recorder.writer.set_retention(keep(aged, "process_exit", shorter));
    assert!(maintain(&mut recorder.writer, now_ns).contains(&Work::Expire));
    let first = |table| {
        let rows = scan_all(&reader, everything(table, vec![instance]));
        match rows[0][0] {
            Value::Int(ns) => (now_ns - i64::try_from(ns).unwrap()) as f64 / 3600e9,
            _ => panic!("{:?}", rows[0]),
        }
    };
    // Whole blocks, of ten minutes at most; those of the exits had become one of what was the hour.
    assert!((0.5..0.67).contains(&first(process)), "{}", first(process));
    assert!((0.02..0.06).contains(&first(exits)), "{}", first(exits));
    let oldest = reader.storage().unwrap()[0].first_ns;
    assert_eq!(recorder.writer.stats().first_ns, oldest);
    let bytes = reader.storage().unwrap()[0].bytes;
    let small = Rules {
        max_bytes: Some(bytes / 2),
        ..Rules::default()
    };
    recorder.writer.set_retention(keep(Rules::default(), "process", small));
    maintain(&mut recorder.writer, now_ns);
    let after = reader.storage().unwrap();
    assert!(after[0].bytes <= bytes / 2 && after[0].bytes > bytes / 8, "{after:?}");
    assert!(first(process) < 0.5);
}

/// A month of three tables, a sample every twenty minutes, into a store that may take what some days of it need: the file never outgrows
/// its bound, whatever readers do, and what is left is what was recorded.
#[test]
fn a_month_in_a_bounded_file() {
    const LIMIT: u64 = 2 << 20;
    const STEP: i64 = 20 * MINUTE;
    // In memory where there is such a place: thousands of commits, each of which would wait for the disk.
    let directory = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = directory.path().join("s.db");
    let mut writer = open(&path, START);
    let tables = [process(), load(), exits()].map(|t| writer.table(&t).unwrap());
    let instance = writer.instance(&instance("numbered")).unwrap();
    writer.set_retention(Retention {
        all: Rules {
            keep_ns: None,
            max_bytes: Some(LIMIT),
            thin: Some(vec![Thin {
                after_ns: 2 * 86_400 * SECOND as u64,
                every_ns: 3600 * SECOND as u64,
            }]),
        },
        ..Retention::default()
    });
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    let at = |n: u64| START + n as i64 * STEP;
    let mut held = std::collections::VecDeque::new();
    let mut largest = 0;
    for n in 0..30 * 24 * 3u64 {
        let full = Body::Full(batch(&process().arrow(), &wide_picture(n)));
        writer.push(sample(tables[0], instance, at(n), full)).unwrap();
        let row = vec![Value::Float((n as f64).to_bits()), Value::Int(n.into())];
        writer
            .push(sample(
                tables[1],
                instance,
                at(n),
                Body::Full(batch(&load().arrow(), &[row])),
            ))
            .unwrap();
        let mut told = events(n);
        for (i, row) in told.iter_mut().enumerate() {
            row[0] = Value::Int(i128::from(at(n)) + i as i128);
        }
        let body = Body::Events(batch(&exits().arrow(), &told));
        writer.push(sample(tables[2], instance, at(n), body)).unwrap();
        writer.commit(stamp(at(n))).unwrap();
        for _ in 0..3 {
            writer.maintain(stamp(at(n))).unwrap();
        }
        largest = largest.max(writer.stats().file_bytes);
        // Scans that go on for hours while blocks are merged, thinned and deleted under them.
        if n % 97 == 0 {
            held.push_back(reader.scan(everything(tables[0], vec![instance])).unwrap());
        }
        for scan in &mut held {
            if n % 13 == 0 {
                scan.next().map(|b| b.unwrap());
            }
        }
        if held.len() > 8 {
            held.pop_front();
        }
    }
    let stats = writer.stats();
    assert!(
        stats.blocks_merged > 500 && stats.blocks_thinned > 50 && stats.blocks_expired > 20,
        "{stats:?}"
    );
    assert!(largest <= LIMIT, "the file came to {largest} bytes");
    assert!(largest > LIMIT / 2, "{largest}");
    let mut samples = 0;
    let got = scan_all(&reader, everything(tables[0], vec![instance]));
    for of_time in got.chunk_by(|a, b| a[0] == b[0]) {
        let Value::Int(ns) = of_time[0][0] else {
            panic!("no time")
        };
        let n = u64::try_from((i64::try_from(ns).unwrap() - START) / STEP).unwrap();
        let mut got: Vec<Row> = of_time.iter().map(|r| r[2..].to_vec()).collect();
        got.sort();
        assert_eq!(got, wide_picture(n), "{n}");
        samples += 1;
    }
    let kept = reader.storage().unwrap();
    let kept = kept.iter().find(|t| t.table == "process").unwrap();
    assert_eq!((kept.rows, kept.samples), (got.len() as u64, samples));
    assert!(samples > 72, "{samples}");
}

/// Sixty rows with bytes that nothing makes smaller, so that some days of them fill the store.
fn wide_picture(n: u64) -> Vec<Row> {
    let mut out: Vec<Row> = (0..12).flat_map(|_| picture(n)).collect();
    out.truncate(60);
    let mut seed = n;
    for (i, row) in out.iter_mut().enumerate() {
        row[0] = Value::Int(i as i128);
        let bytes = (0..8).flat_map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 7).to_le_bytes()
        });
        row[6] = Value::Bytes(bytes.collect());
    }
    out
}
