//! The store against a model: random tables, samples, clock steps, restarts; then every answer is compared with what a
//! `BTreeMap` of everything that was committed says, value for value.

mod left;

use crate::support::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use vwatch_model::{TableKind, TableSchema};
use vwatch_store::*;

/// What a test does. Numbers are reduced to what is there when it runs.
#[derive(Debug, Clone)]
enum Step {
    Full {
        stream: usize,
        rows: Vec<(u8, u64)>,
    },
    Delta {
        stream: usize,
        rows: Vec<(u8, u64)>,
        gone: Vec<u8>,
    },
    Events {
        stream: usize,
        rows: Vec<(i64, u64)>,
    },
    Commit,
    /// Time goes on (or back).
    Wait {
        ns: i64,
    },
    /// The process dies and the store is opened again.
    Reopen {
        clean: bool,
    },
    /// Two columns more, or back to as it was.
    Declare {
        table: usize,
        wide: bool,
    },
    /// The writer has time for maintenance.
    Maintain {
        times: u8,
    },
    /// Other rules of what is kept.
    Keep {
        hours: Option<u8>,
        thin: Vec<(u8, u8)>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let rows = || prop::collection::vec((0u8..12, 0u64..6), 0..14);
    prop_oneof![
        4 => (0usize..6, rows()).prop_map(|(stream, rows)| Step::Full { stream, rows }),
        4 => (0usize..6, rows(), prop::collection::vec(0u8..12, 0..4))
            .prop_map(|(stream, rows, gone)| Step::Delta { stream, rows, gone }),
        3 => (0usize..6, prop::collection::vec((-90 * SECOND..5 * SECOND, any::<u64>()), 0..6))
            .prop_map(|(stream, rows)| Step::Events { stream, rows }),
        8 => Just(Step::Commit),
        6 => prop_oneof![
            6 => SECOND / 4..3 * SECOND,
            2 => 10 * SECOND..70 * SECOND,
            1 => 2 * MINUTE..20 * MINUTE,
            1 => 20 * MINUTE..100 * MINUTE,
            1 => -90 * SECOND..0,
        ].prop_map(|ns| Step::Wait { ns }),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        1 => (0usize..3, any::<bool>()).prop_map(|(table, wide)| Step::Declare { table, wide }),
        3 => (1u8..30).prop_map(|times| Step::Maintain { times }),
        1 => (prop::option::of(1u8..8), prop::collection::vec((0u8..5, 1u8..200), 0..3))
            .prop_map(|(hours, thin)| Step::Keep { hours, thin }),
    ]
}

/// One sample as the model knows it: the whole picture, in the columns of the widest table.
#[derive(Debug, Clone)]
struct Known {
    time_ns: i64,
    picture: BTreeMap<Row, Row>,
}

#[derive(Debug, Default, Clone)]
struct Stream {
    /// What the next commit brings and what earlier ones brought.
    queued: Vec<Known>,
    samples: Vec<Known>,
    queued_events: Vec<(i64, Row)>,
    events: Vec<(i64, Row)>,
    last: Option<BTreeMap<Row, Row>>,
}

fn narrow(table: usize) -> TableSchema {
    match table {
        0 => process(),
        1 => load(),
        _ => exits(),
    }
}

fn wide(table: usize) -> TableSchema {
    let mut schema = narrow(table);
    let more = |name: &str, kind| vwatch_model::Column::new(name, kind, "").nullable();
    schema.columns.push(more("extra", vwatch_model::ColumnType::I64));
    // In another place than at the end.
    schema.columns.insert(1, more("note", vwatch_model::ColumnType::String));
    schema
}

/// A value for a column, made of a number; few numbers make values that often stay the same.
fn value(column: &vwatch_model::Column, seed: u64) -> Value {
    use vwatch_model::ColumnType::*;
    if column.nullable && seed.is_multiple_of(4) {
        return Value::Null;
    }
    match column.kind {
        Bool => Value::Bool(seed.is_multiple_of(2)),
        I32 | I64 => Value::Int(-(i128::from(seed % 1000))),
        U32 | U64 | Timestamp => Value::Int((seed % 1000).into()),
        F64 => Value::Float([0.5f64, f64::NAN, -0.0, 0.0, f64::INFINITY, 1e300][seed as usize % 6].to_bits()),
        String => Value::Text(["", "sh", "a b\nc", "ü"][seed as usize % 4].to_owned() + &"x".repeat(seed as usize % 3)),
        Bytes => Value::Bytes(vec![seed as u8; seed as usize % 5]),
    }
}

/// A row of a declaration, its key made of `key`, the rest of `seed`.
fn row(schema: &TableSchema, key: u8, seed: u64) -> Row {
    let column = |(i, c): (usize, &vwatch_model::Column)| match c.key {
        true => Value::Int(i128::from(key) + i as i128),
        false => value(c, seed.wrapping_add(i as u64 * u64::from(key))),
    };
    schema.columns.iter().enumerate().map(column).collect()
}

fn key_of(schema: &TableSchema, row: &Row) -> Row {
    schema.key_indices().into_iter().map(|i| row[i].clone()).collect()
}

/// A row of some declaration as the table is read: `names` without time and instance, what it lacks being null.
fn read_as(schema: &TableSchema, row: &Row, names: &[String]) -> Row {
    let index = |name: &String| schema.columns.iter().position(|c| c.name == *name);
    names
        .iter()
        .map(|n| index(n).map_or(Value::Null, |i| row[i].clone()))
        .collect()
}

struct World {
    directory: tempfile::TempDir,
    writer: Option<Writer>,
    now: i64,
    wide: [bool; 3],
    /// Table and instance ids of each stream: three tables, two instances.
    streams: Vec<Stream>,
    retention: Retention,
    /// What maintenance may have deleted: what is earlier.
    expired_before: i64,
    /// And thinned: what is earlier, down to the first in each step.
    thinned_before: BTreeMap<u64, i64>,
    /// A committed sample's rows in the layout in which they were given, so that nothing is lost to the model's own reading.
    declared: [TableSchema; 3],
}

const HOUR: i64 = 60 * MINUTE;
const INSTANCES: [&str; 2] = ["a.default", "fast"];

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let writer = open(&directory.path().join("s.db"), START);
        World {
            directory,
            writer: Some(writer),
            now: START,
            wide: [false; 3],
            streams: vec![Stream::default(); 6],
            retention: Retention::default(),
            expired_before: i64::MIN,
            thinned_before: BTreeMap::new(),
            declared: [narrow(0), narrow(1), narrow(2)],
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("s.db")
    }

    fn ids(&mut self, stream: usize) -> (TableId, InstanceId, TableSchema) {
        let schema = self.declared[stream / 2].clone();
        let writer = self.writer.as_mut().unwrap();
        let table = writer.table(&schema).unwrap();
        let instance = writer.instance(&instance(INSTANCES[stream % 2])).unwrap();
        (table, instance, schema)
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Full { stream, rows } if stream < 4 => self.full(stream, &rows),
            Step::Delta { stream, rows, gone } if stream < 4 => self.delta(stream, &rows, &gone),
            Step::Events { stream, rows } => self.events(4 + stream % 2, &rows),
            Step::Full { .. } | Step::Delta { .. } => {}
            Step::Commit => self.commit(),
            Step::Wait { ns } => self.now += ns,
            Step::Reopen { clean } => self.reopen(clean),
            Step::Maintain { times } => self.maintain(times),
            Step::Keep { hours, thin } => self.keep(hours, &thin),
            Step::Declare { table, wide: to } => {
                if self.wide[table] != to {
                    self.wide[table] = to;
                    self.declared[table] = if to { wide(table) } else { narrow(table) };
                    for stream in [table * 2, table * 2 + 1] {
                        self.ids(stream);
                        self.streams[stream].last = None;
                    }
                }
            }
        }
    }

    fn keep(&mut self, hours: Option<u8>, thin: &[(u8, u8)]) {
        let thin = thin.iter().map(|(hours, seconds)| Thin {
            after_ns: u64::from(*hours) * HOUR as u64,
            every_ns: u64::from(*seconds) * SECOND as u64,
        });
        self.retention.all = Rules {
            keep_ns: hours.map(|h| u64::from(h) * HOUR as u64),
            max_bytes: None,
            thin: Some(thin.collect()),
        };
        let retention = self.retention.clone();
        self.writer.as_mut().unwrap().set_retention(retention);
    }

    fn maintain(&mut self, times: u8) {
        let rules = &self.retention.all;
        if let Some(keep) = rules.keep_ns {
            self.expired_before = self.expired_before.max(self.now - keep as i64);
        }
        for thin in rules.thin.iter().flatten() {
            let before = self.thinned_before.entry(thin.every_ns).or_insert(i64::MIN);
            *before = (*before).max(self.now - thin.after_ns as i64);
        }
        for _ in 0..times {
            self.writer.as_mut().unwrap().maintain(stamp(self.now)).unwrap();
        }
    }

    fn full(&mut self, stream: usize, given: &[(u8, u64)]) {
        let (table, instance, schema) = self.ids(stream);
        let rows: Vec<Row> = given.iter().map(|(k, seed)| row(&schema, *k, *seed)).collect();
        let body = Body::Full(batch(&schema.arrow(), &rows));
        let now = self.now;
        self.writer
            .as_mut()
            .unwrap()
            .push(sample(table, instance, now, body))
            .unwrap();
        let picture: BTreeMap<Row, Row> = rows.into_iter().map(|r| (key_of(&schema, &r), r)).collect();
        self.know(stream, schema, picture);
    }

    fn delta(&mut self, stream: usize, given: &[(u8, u64)], gone: &[u8]) {
        let (table, instance, schema) = self.ids(stream);
        let rows: Vec<Row> = given.iter().map(|(k, seed)| row(&schema, *k, *seed)).collect();
        let gone: Vec<Row> = gone.iter().map(|k| key_of(&schema, &row(&schema, *k, 0))).collect();
        let body = Body::Delta {
            changed: batch(&schema.arrow(), &rows),
            gone: batch(&schema.key_arrow(), &gone),
        };
        let now = self.now;
        let pushed = self.writer.as_mut().unwrap().push(sample(table, instance, now, body));
        let Some(mut picture) = self.streams[stream].last.clone() else {
            assert!(matches!(pushed, Err(StoreError::NoPicture { .. })), "{pushed:?}");
            return;
        };
        pushed.unwrap();
        for key in &gone {
            picture.remove(key);
        }
        picture.extend(rows.into_iter().map(|r| (key_of(&schema, &r), r)));
        self.know(stream, schema, picture);
    }

    /// Pictures are kept as rows of the widest declaration.
    fn know(&mut self, stream: usize, schema: TableSchema, picture: BTreeMap<Row, Row>) {
        let names = widest_names(stream / 2);
        let as_read = picture
            .iter()
            .map(|(k, r)| (k.clone(), read_as(&schema, r, &names)))
            .collect();
        self.streams[stream].queued.push(Known {
            time_ns: self.now,
            picture: as_read,
        });
        self.streams[stream].last = Some(picture);
    }

    fn events(&mut self, stream: usize, given: &[(i64, u64)]) {
        let (table, instance, schema) = self.ids(stream);
        let now = self.now;
        let event = |(ns, seed): &(i64, u64)| {
            let mut row = row(&schema, 1, *seed);
            row[0] = Value::Int(i128::from(now + ns));
            row
        };
        let rows: Vec<Row> = given.iter().map(event).collect();
        let body = Body::Events(batch(&schema.arrow(), &rows));
        self.writer
            .as_mut()
            .unwrap()
            .push(sample(table, instance, now, body))
            .unwrap();
        let names = widest_names(stream / 2);
        let known = rows
            .iter()
            .zip(given)
            .map(|(r, (ns, _))| (now + ns, read_as(&schema, r, &names)));
        self.streams[stream].queued_events.extend(known);
    }

    fn commit(&mut self) {
        let now = stamp(self.now);
        self.writer.as_mut().unwrap().commit(now).unwrap();
        self.committed();
    }

    fn committed(&mut self) {
        for stream in &mut self.streams {
            let queued = std::mem::take(&mut stream.queued);
            stream.samples.extend(queued);
            let queued = std::mem::take(&mut stream.queued_events);
            stream.events.extend(queued);
        }
    }

    fn reopen(&mut self, clean: bool) {
        let writer = self.writer.take().unwrap();
        if clean {
            writer.close(stamp(self.now)).unwrap();
            self.committed();
        } else {
            drop(writer);
        }
        for stream in &mut self.streams {
            stream.queued.clear();
            stream.queued_events.clear();
            stream.last = None;
        }
        let mut writer = open(&self.path(), self.now);
        writer.set_retention(self.retention.clone());
        self.writer = Some(writer);
    }

    /// Compares everything that can be asked.
    fn check(&self, ats: &[i64]) {
        inspect(&self.path()).unwrap();
        let reader = Reader::open(&self.path(), ReadMode::Live).unwrap();
        let catalog = reader.catalog().unwrap();
        let every: Vec<u64> = self.thinned_before.keys().copied().collect();
        let id = |name: &str| catalog.instances.iter().find(|i| i.info.name == name).map(|i| i.id);
        for (index, stream) in self.streams.iter().enumerate() {
            let entry = catalog.tables.iter().find(|t| t.schema.name == narrow(index / 2).name);
            let (Some(entry), Some(instance)) = (entry, id(INSTANCES[index % 2])) else {
                assert!(stream.samples.is_empty() && stream.events.is_empty());
                continue;
            };
            let stream = &self.survivors(&reader, entry, instance, stream);
            let spans: Vec<(i64, i64)> = ats.windows(2).map(|w| (w[0].min(w[1]), w[0].max(w[1]))).collect();
            for (from_ns, to_ns) in spans.into_iter().chain([(i64::MIN, i64::MAX)]) {
                let request = ScanRequest {
                    from_ns,
                    to_ns,
                    ..everything(entry.id, vec![instance])
                };
                if entry.schema.kind == TableKind::Event {
                    check_events(&reader, request, entry, stream);
                } else {
                    check_scan(&reader, request, entry, stream);
                }
            }
            if entry.schema.kind == TableKind::State {
                for at in ats {
                    check_as_of(&reader, entry, instance, *at, stream, &every);
                }
            }
        }
    }
}

/// Columns of the widest declaration but for the time, sorted by name.
fn widest_names(table: usize) -> Vec<String> {
    let mut names: Vec<String> = wide(table)
        .columns
        .into_iter()
        .map(|c| c.name)
        .filter(|n| n != "time")
        .collect();
    names.sort();
    names
}

/// Which columns are asked for: those of the widest declaration that the store knows already.
fn asked(entry: &TableEntry, names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|n| entry.schema.column(n).is_some())
        .cloned()
        .collect()
}

/// A row of the model in the columns that were asked for.
fn only(names: &[String], asked: &[String], row: &Row) -> Row {
    names
        .iter()
        .zip(row)
        .filter(|(n, _)| asked.contains(n))
        .map(|(_, v)| v.clone())
        .collect()
}

fn table_of(entry: &TableEntry) -> usize {
    (0..3).find(|t| narrow(*t).name == entry.schema.name).unwrap()
}

fn check_as_of(reader: &Reader, entry: &TableEntry, instance: InstanceId, at: i64, stream: &Stream, every: &[u64]) {
    let names = widest_names(table_of(entry));
    let asked = asked(entry, &names);
    let got = reader.as_of(entry.id, instance, at, Some(&asked)).unwrap();
    let best = stream
        .samples
        .iter()
        .enumerate()
        .filter(|(_, s)| s.time_ns <= at)
        .max_by_key(|(i, s)| (s.time_ns, *i));
    let Some((_, want)) = best else {
        assert!(got.is_none());
        return;
    };
    let got = got.expect("a picture");
    assert_eq!(got.time_ns, want.time_ns);
    let thinned = |every: &u64| got.interval_ns == (*every).max(SECOND as u64);
    assert!(got.interval_ns == SECOND as u64 || every.iter().any(thinned));
    let mut got = rows(&got.rows);
    let mut want: Vec<Row> = want.picture.values().map(|r| only(&names, &asked, r)).collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

fn check_scan(reader: &Reader, request: ScanRequest, entry: &TableEntry, stream: &Stream) {
    let names = widest_names(table_of(entry));
    let asked = asked(entry, &names);
    let mut columns = vec!["time".to_owned()];
    columns.extend(asked.iter().cloned());
    let (from, to) = (request.from_ns, request.to_ns);
    let mut got = scan_all(
        reader,
        ScanRequest {
            columns: Some(columns),
            conditions: Vec::new(),
            ..request
        },
    );
    assert!(got.is_sorted_by_key(|r| r[0].clone()), "not in the order of time");
    let mut want: Vec<Row> = Vec::new();
    for sample in stream.samples.iter().filter(|s| s.time_ns >= from && s.time_ns <= to) {
        want.extend(sample.picture.values().map(|r| {
            let mut row = vec![Value::Int(sample.time_ns.into())];
            row.extend(only(&names, &asked, r));
            row
        }));
    }
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

fn check_events(reader: &Reader, request: ScanRequest, entry: &TableEntry, stream: &Stream) {
    let names = widest_names(table_of(entry));
    let asked = asked(entry, &names);
    let mut columns = vec!["time".to_owned()];
    columns.extend(asked.iter().cloned());
    let (from, to) = (request.from_ns, request.to_ns);
    let mut got = scan_all(
        reader,
        ScanRequest {
            columns: Some(columns),
            conditions: Vec::new(),
            ..request
        },
    );
    assert!(got.is_sorted_by_key(|r| r[0].clone()), "not in the order of time");
    let inside = stream.events.iter().filter(|(t, _)| *t >= from && *t <= to);
    let mut want: Vec<Row> = inside
        .map(|(t, r)| {
            let mut row = vec![Value::Int((*t).into())];
            row.extend(only(&names, &asked, r));
            row
        })
        .collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_is_its_model(
        steps in prop::collection::vec(step(), 1..160),
        ats in prop::collection::vec(prop_oneof![-2 * MINUTE..12 * MINUTE, 0..9 * HOUR], 2..8),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.commit();
        let ats: Vec<i64> = ats.into_iter().map(|at| START + at).collect();
        world.check(&ats);
        // The same of a copy, after the writer is gone.
        world.reopen(true);
        world.check(&ats);
    }
}
