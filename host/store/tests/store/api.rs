//! What the store answers to each kind of question and of mistake.

use crate::support::*;
use vwatch_model::table::SchemaError;
use vwatch_model::{Column, ColumnType, TableKind};
use vwatch_store::*;

fn fixture() -> (tempfile::TempDir, Writer, Reader) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let writer = open(&path, START);
    let reader = Reader::open(&path, ReadMode::Live).unwrap();
    (directory, writer, reader)
}

fn load_row(load: f64, running: i64) -> Row {
    vec![Value::Float(load.to_bits()), Value::Int(running.into())]
}

#[test]
fn may_cross_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Writer>();
    send::<Scan>();
    send::<Reader>();
    sync::<Reader>();
}

#[test]
fn a_new_store_is_private_and_empty() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, writer, reader) = fixture();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
    assert!(writer.previous().is_none());
    let catalog = reader.catalog().unwrap();
    assert!(catalog.tables.is_empty() && catalog.instances.is_empty() && catalog.last_commit.is_none());
    assert_eq!((catalog.boot_id.as_str(), catalog.clean_close), ("boot-1", false));
}

#[test]
fn the_catalog() {
    let (_directory, mut writer, reader) = fixture();
    let process = writer.table(&process()).unwrap();
    let load_table = writer.table(&load()).unwrap();
    let one = writer.instance(&instance("one")).unwrap();
    let two = writer.instance(&instance("two")).unwrap();
    assert_eq!(writer.instance(&instance("one")).unwrap(), one);
    for second in [0, 30, 90] {
        let now = START + second * SECOND;
        let body = Body::Full(batch(&load().arrow(), &[load_row(1.5, second)]));
        writer.push(sample(load_table, two, now - 7, body)).unwrap();
        writer.commit(stamp(now)).unwrap();
    }
    let catalog = reader.catalog().unwrap();
    let names: Vec<_> = catalog
        .tables
        .iter()
        .map(|t| (t.id, t.schema.name.as_str(), t.first_ns, t.last_ns))
        .collect();
    let (first, last) = (START - 7, START + 90 * SECOND - 7);
    let want = [
        (process, "process", None, None),
        (load_table, "load", Some(first), Some(last)),
    ];
    assert_eq!(names, want);
    let instances: Vec<_> = catalog.instances.iter().map(|i| (i.id, i.tables.clone())).collect();
    assert_eq!(instances, [(one, vec![]), (two, vec![load_table])]);
    assert_eq!(
        (catalog.first_ns, catalog.last_commit),
        (Some(first), Some(stamp(START + 90 * SECOND)))
    );
    let stats = writer.stats();
    assert_eq!(
        (stats.first_ns, stats.last_ns, stats.commits, stats.head_records),
        (Some(first), Some(last), 3, 1)
    );
    assert_eq!(stats.blocks_sealed, 1);
    // Under the same id when it is opened again, and with what is newly said of it.
    writer.close(stamp(START + 100 * SECOND)).unwrap();
    assert!(reader.catalog().unwrap().clean_close);
    let mut writer = open(&_directory.path().join("s.db"), START + 110 * SECOND);
    let told = InstanceInfo {
        default: false,
        ..instance("two")
    };
    assert_eq!(writer.instance(&told).unwrap(), two);
    writer.commit(stamp(START + 111 * SECOND)).unwrap();
    assert!(!reader.catalog().unwrap().instances[1].info.default);
    let previous = writer.previous().unwrap();
    assert_eq!(
        (previous.clean, previous.last_commit),
        (true, stamp(START + 100 * SECOND))
    );
    assert_eq!(previous.instances[1].last_ns, Some(last));
}

#[test]
fn rows_that_do_not_fit_are_refused_by_name() {
    let (_directory, mut writer, _reader) = fixture();
    let table = writer.table(&load()).unwrap();
    let exits_table = writer.table(&exits()).unwrap();
    let one = writer.instance(&instance("one")).unwrap();
    let good = batch(&load().arrow(), &[load_row(0.5, 1)]);
    let mut refused = |table, body, words: &[&str]| {
        let error = writer.push(sample(table, one, START, body)).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    };
    refused(
        table,
        Body::Full(good.project(&[0]).unwrap()),
        &["load", "1 columns where 2"],
    );
    refused(
        table,
        Body::Full(good.project(&[1, 0]).unwrap()),
        &["load", "column 0 is running"],
    );
    let mut other = load();
    other.columns[1].kind = ColumnType::U64;
    let wrong = batch(&other.arrow(), &[load_row(0.5, 1)]);
    refused(table, Body::Full(wrong), &["load", "running", "UInt64", "Int64"]);
    other.columns[1] = Column::new("running", ColumnType::I64, "").nullable();
    let null = batch(&other.arrow(), &[vec![Value::Float(0), Value::Null]]);
    refused(table, Body::Full(null), &["load", "running", "1 nulls"]);
    refused(table, Body::Events(good.clone()), &["load", "events in a state table"]);
    refused(
        exits_table,
        Body::Full(good.clone()),
        &["process_exit", "a picture in an event table"],
    );
    refused(TableId(99), Body::Full(good.clone()), &["99"]);
    let gone = batch(&load().key_arrow(), &[]);
    refused(
        table,
        Body::Delta { changed: good, gone },
        &["load", "one", "before any full picture"],
    );
    assert_eq!(writer.commit(stamp(START)).unwrap().samples, 0);
}

#[test]
fn declarations_that_cannot_be_read_together() {
    let (_directory, mut writer, _reader) = fixture();
    let id = writer.table(&load()).unwrap();
    let mut other = load();
    other.columns[1].kind = ColumnType::U64;
    assert!(matches!(
        writer.table(&other),
        Err(StoreError::Schema(SchemaError::TypeChanged { .. }))
    ));
    let mut dropped = load();
    dropped.columns.pop();
    assert_eq!(writer.table(&dropped).unwrap(), id);
    // Not with the newest only.
    assert!(matches!(
        writer.table(&other),
        Err(StoreError::Schema(SchemaError::TypeChanged { .. }))
    ));
    let event = table("load", TableKind::Event, exits().columns);
    assert!(matches!(
        writer.table(&event),
        Err(StoreError::Schema(SchemaError::KindChanged(_)))
    ));
    let nameless = InstanceInfo {
        name: "a b".into(),
        ..instance("x")
    };
    assert!(matches!(writer.instance(&nameless), Err(StoreError::Name { .. })));
}

#[test]
fn questions() {
    let (_directory, mut writer, reader) = fixture();
    let table = writer.table(&load()).unwrap();
    let exits_table = writer.table(&exits()).unwrap();
    let one = writer.instance(&instance("one")).unwrap();
    // Without a key there is one row; of two the last counts.
    let body = Body::Full(batch(&load().arrow(), &[load_row(0.5, 1), load_row(0.75, 2)]));
    writer.push(sample(table, one, START, body)).unwrap();
    writer.commit(stamp(START)).unwrap();
    assert_eq!(writer.stats().duplicate_keys, 1);
    let picture = reader.as_of(table, one, START + 1, None).unwrap().unwrap();
    let time_and_name = [Value::Int(START.into()), Value::Text("one".into())];
    assert_eq!(rows(&picture.rows), [[&time_and_name[..], &load_row(0.75, 2)].concat()]);
    assert_eq!(
        picture.rows.schema(),
        reader.catalog().unwrap().tables[0].history_schema()
    );
    assert!(reader.as_of(table, one, START - 1, None).unwrap().is_none());
    let columns = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let some = reader
        .as_of(table, one, START, Some(&columns(&["running", "time"])))
        .unwrap()
        .unwrap();
    assert_eq!(rows(&some.rows), [[Value::Int(2), Value::Int(START.into())]]);
    let none = reader.as_of(table, one, START, Some(&[])).unwrap().unwrap();
    assert_eq!((none.rows.num_rows(), none.rows.num_columns()), (1, 0));
    assert!(matches!(
        reader.as_of(table, one, START, Some(&columns(&["x"]))),
        Err(StoreError::NoColumn { .. })
    ));
    assert!(matches!(
        reader.as_of(exits_table, one, START, None),
        Err(StoreError::NotState { .. })
    ));
    assert!(matches!(
        reader.as_of(TableId(9), one, START, None),
        Err(StoreError::NoTable(9))
    ));
    assert!(matches!(
        reader.as_of(table, InstanceId(9), START, None),
        Err(StoreError::NoInstance(9))
    ));
    let counted = ScanRequest {
        columns: Some(vec![]),
        conditions: Vec::new(),
        ..everything(table, vec![one, one])
    };
    let batches: Vec<_> = reader.scan(counted).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 1);
    assert!(scan_all(&reader, everything(table, vec![])).is_empty());
}

#[test]
fn large_pictures_come_in_parts() {
    let (_directory, mut writer, reader) = fixture();
    let schema = table(
        "big",
        TableKind::State,
        vec![
            Column::new("id", ColumnType::I64, "").key(),
            Column::new("n", ColumnType::I64, ""),
        ],
    );
    let id = writer.table(&schema).unwrap();
    let one = writer.instance(&instance("one")).unwrap();
    let picture = |n: i128| {
        (0..20_000)
            .map(|i| vec![Value::Int(i), Value::Int(if i < 3 { n } else { 0 })])
            .collect::<Vec<_>>()
    };
    for n in 0..3 {
        let now = START + n * SECOND;
        let body = Body::Full(batch(&schema.arrow(), &picture(n.into())));
        writer.push(sample(id, one, now, body)).unwrap();
        writer.commit(stamp(now)).unwrap();
    }
    let check = || {
        let got = scan_all(&reader, everything(id, vec![one]));
        assert_eq!(got.len(), 60_000);
        let middle: Vec<Row> = got[20_000..40_000].iter().map(|r| r[2..].to_vec()).collect();
        assert_eq!(middle, picture(1));
    };
    check();
    writer.commit(stamp(START + MINUTE)).unwrap();
    check();
    // The second and third samples brought three rows each, not the picture again.
    assert!(writer.stats().block_bytes < 200_000, "{}", writer.stats().block_bytes);
}

#[test]
fn durable_values() {
    let (directory, mut writer, _reader) = fixture();
    writer.put_state("alerting", "alert/a", Some(b"1")).unwrap();
    writer.put_state("alerting", "alert/b", Some(b"2")).unwrap();
    writer.put_state("alerting", "other", Some(b"")).unwrap();
    writer.put_state("alert", "ing", Some(b"x")).unwrap();
    writer.put_outbox("alerting", "2", b"mail").unwrap();
    writer.put_outbox("alerting", "1", b"hook").unwrap();
    writer.put_record("instance/fast", Some("{}")).unwrap();
    // Seen before they are committed.
    let check = |writer: &Writer| {
        assert_eq!(writer.state("alerting", "alert/b").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(writer.state("alerting", "other").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(writer.state("alerting", "alert/c").unwrap(), None);
        assert_eq!(writer.state_keys("alerting", "alert/").unwrap(), ["alert/a", "alert/b"]);
        assert_eq!(writer.state_keys("alert", "").unwrap(), ["ing"]);
        assert_eq!(
            writer.outbox("alerting", 9).unwrap(),
            [("1".into(), b"hook".to_vec()), ("2".into(), b"mail".to_vec())]
        );
        assert_eq!(writer.outbox("alerting", 1).unwrap().len(), 1);
        assert_eq!(
            writer.records().unwrap(),
            [("instance/fast".to_owned(), "{}".to_owned())]
        );
    };
    check(&writer);
    writer.commit(stamp(START)).unwrap();
    check(&writer);
    drop(writer);
    let mut writer = open(&directory.path().join("s.db"), START);
    check(&writer);
    writer.put_state("alerting", "alert/a", None).unwrap();
    writer.outbox_done("alerting", "1").unwrap();
    writer.put_record("instance/fast", None).unwrap();
    let changed = |writer: &Writer| {
        assert_eq!(writer.state_keys("alerting", "alert/").unwrap(), ["alert/b"]);
        assert_eq!(writer.outbox("alerting", 1).unwrap(), [("2".into(), b"mail".to_vec())]);
        assert!(writer.records().unwrap().is_empty());
    };
    changed(&writer);
    writer.commit(stamp(START)).unwrap();
    changed(&writer);
    assert!(matches!(
        writer.put_state("a", &"k".repeat(501), None),
        Err(StoreError::TooLong { .. })
    ));
}
