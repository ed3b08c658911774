//! The plugin written by hand, loaded for real: rows, services and answers as they cross the ABI.

use crate::support::{Recorder, dir, hand_plugin, hand_plugin_in, loader, write};
use arrow_array::{Array, BinaryArray, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vwatch_loader::{
    CommandCall, Commit, Fault, FaultKind, Mode, Plugin, ProbeHandle, ReceivedRows, Rows, Tick, read_options,
};

const TICK: Tick = Tick {
    time_ns: 1_000,
    boottime_ns: 10,
    due_ns: 999,
    interval_ns: 1_000_000_000,
    sequence: 0,
    full: true,
};

/// The library stays mapped when its file is gone.
fn plugin() -> (Plugin, Arc<Recorder>) {
    let dir = dir();
    let host = Arc::new(Recorder::default());
    let file = write(dir.path(), "hand.so", &hand_plugin());
    let plugin = loader().load(&file, host.clone()).unwrap();
    assert_eq!(host.said(), Vec::<String>::new());
    (plugin, host)
}

fn open(plugin: &Plugin, case: &str) -> ProbeHandle {
    let entry = plugin.manifest().probe("rows").unwrap();
    let options = read_options(entry, json!({"case": case}).as_object().unwrap()).unwrap();
    plugin.open("rows", 1, &options).unwrap()
}

fn run(plugin: &Plugin, case: &str) -> Result<Commit, Fault> {
    open(plugin, case).run(TICK)
}

#[test]
fn the_manifest_and_the_file() {
    let dir = dir();
    let file = write(dir.path(), "hand.so", &hand_plugin());
    let plugin = loader().load(&file, Arc::new(Recorder::default())).unwrap();
    let manifest = plugin.manifest();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("hand", "1.0.0"));
    assert_eq!(manifest.table_index("happening"), Some(1));
    let probe = manifest.probe("rows").unwrap();
    assert_eq!(
        (probe.mode, probe.every, probe.default_on),
        (Mode::Poll, Duration::from_secs(1), false)
    );
    assert_eq!(manifest.commands[1].usage, "hand echo WORDS");
    assert!(manifest.commands[1].changes);
    assert_eq!(manifest.subscribers[0].tables, ["thing", "load"]);
    assert_eq!(plugin.file(), file);
    assert_eq!(plugin.identity().size, hand_plugin().len() as u64);
    assert_eq!(loader().inspect(&file).unwrap(), *plugin.identity());
}

/// A new version beside the old one: both serve, from two copies.
#[test]
fn a_new_version_in_place_of_the_old_one() {
    let dir = dir();
    let host = Arc::new(Recorder::default());
    let file = write(dir.path(), "hand.so", &hand_plugin());
    let old = loader().load(&file, host.clone()).unwrap();
    // Through the same file, as `cp` does: a mapping of the file itself would change under the old version.
    write(dir.path(), "hand.so", &hand_plugin_in(b"next"));
    let new = loader().load(&file, host).unwrap();
    assert_eq!(
        (old.manifest().version.as_str(), new.manifest().version.as_str()),
        ("1.0.0", "2.0.0")
    );
    assert!(!old.identity().same_content(new.identity()));
    for plugin in [&old, &new] {
        assert_eq!(run(plugin, "good").unwrap().rows(), 3);
    }
}

fn copies_mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let copies: BTreeSet<&str> = maps
        .lines()
        .filter(|line| line.contains("memfd:many.so"))
        .filter_map(|line| line.split_whitespace().nth(4))
        .collect();
    copies.len()
}

/// The C library knows libraries by path and inode; each load has to be a library of its own all the same.
#[test]
fn each_load_is_a_copy_of_its_own() {
    let dir = dir();
    let file = write(dir.path(), "many.so", &hand_plugin());
    let host = Arc::new(Recorder::default());
    let plugins: Vec<Plugin> = (0..5).map(|_| loader().load(&file, host.clone()).unwrap()).collect();
    assert_eq!(copies_mapped(), 5);
    drop(plugins);
    assert_eq!(copies_mapped(), 5, "libraries are never unloaded");
}

#[test]
fn a_full_picture() {
    let (plugin, _) = plugin();
    let commit = run(&plugin, "good").unwrap();
    let [batch] = &commit.batches[..] else {
        panic!("{commit:?}")
    };
    assert_eq!((batch.table, batch.time_ns), (0, None));
    let Rows::Full(rows) = &batch.body else {
        panic!("{batch:?}")
    };
    assert_eq!(rows.schema(), plugin.manifest().tables[0].arrow());
    assert_eq!(rows.column(0).as_ref(), &Int32Array::from(vec![1, 2, 3]) as &dyn Array);
    assert_eq!(
        rows.column(1).as_ref(),
        &StringArray::from(vec!["one", "", "drei€"]) as &dyn Array
    );
    assert_eq!(
        rows.column(2).as_ref(),
        &Int64Array::from(vec![Some(10), None, Some(-1)]) as &dyn Array
    );
}

#[test]
fn rows_outlive_their_probe_and_plugin() {
    let (plugin, _) = plugin();
    let commit = run(&plugin, "good").unwrap();
    drop(plugin);
    let names = commit.batches[0].body.batch().column(1).clone();
    assert_eq!(
        names.as_ref(),
        &StringArray::from(vec!["one", "", "drei€"]) as &dyn Array
    );
}

#[test]
fn parts_and_nothing() {
    let (plugin, _) = plugin();
    let sliced = run(&plugin, "sliced").unwrap();
    let rows = sliced.batches[0].body.batch();
    assert_eq!(rows.column(0).as_ref(), &Int32Array::from(vec![2, 3]) as &dyn Array);
    assert_eq!(
        rows.column(1).as_ref(),
        &StringArray::from(vec!["", "drei€"]) as &dyn Array
    );
    assert_eq!(
        rows.column(2).as_ref(),
        &Int64Array::from(vec![None, Some(-1)]) as &dyn Array
    );
    let empty = run(&plugin, "empty").unwrap();
    assert_eq!((empty.batches.len(), empty.rows()), (1, 0));
}

#[test]
fn deltas() {
    let (plugin, _) = plugin();
    let commit = run(&plugin, "delta").unwrap();
    let Rows::Delta { changed, gone } = &commit.batches[0].body else {
        panic!("{commit:?}")
    };
    assert_eq!((changed.num_rows(), commit.batches[0].time_ns), (3, Some(1_001)));
    assert_eq!(gone.schema(), plugin.manifest().tables[0].key_arrow());
    assert_eq!(gone.column(0).as_ref(), &Int32Array::from(vec![9]) as &dyn Array);
    let commit = run(&plugin, "delta only").unwrap();
    let Rows::Delta { gone, .. } = &commit.batches[0].body else {
        panic!("{commit:?}")
    };
    assert_eq!(gone.num_rows(), 0);
}

#[test]
fn events_and_losses() {
    let (plugin, _) = plugin();
    let mut probe = open(&plugin, "events");
    for commit in [probe.run(TICK).unwrap(), probe.stop().unwrap()] {
        let Rows::Events(rows) = &commit.batches[0].body else {
            panic!("{commit:?}")
        };
        let time = TimestampNanosecondArray::from(vec![5, 6]).with_timezone("UTC");
        assert_eq!(rows.column(0).as_ref(), &time as &dyn Array);
        assert_eq!(
            rows.column(1).as_ref(),
            &BinaryArray::from(vec![Some(&b"\0\xff"[..]), None]) as &dyn Array
        );
    }
    assert_eq!(probe.start().unwrap_err().kind, FaultKind::Unsupported);
    let loss = run(&plugin, "loss").unwrap().losses.remove(0);
    assert_eq!((loss.table, loss.count, loss.from_ns, loss.until_ns), (1, 7, 4, 9));
    assert_eq!(loss.cause, "buffer full");
}

/// What is wrong in rows becomes a fault that names table and column: never a panic, never a crash.
#[test]
fn rows_that_are_wrong() {
    let (plugin, _) = plugin();
    let check = |case: &str, expect: &str| {
        let fault = run(&plugin, case).expect_err(case);
        assert_eq!(
            (fault.kind, fault.message.as_str()),
            (FaultKind::BadInput, expect),
            "{case}"
        );
    };
    check("table", "rows for table number 3; the manifest has 3");
    check("loss table", "rows for table number 3; the manifest has 3");
    check("kind", "table thing: batch kind 3 is unknown");
    check(
        "events of a state",
        "table thing: it is a state table, and takes full pictures and deltas only",
    );
    check(
        "picture of events",
        "table happening: it is an event table, and takes events only",
    );
    check("gone with full", "table thing: gone keys without a delta");
    check(
        "keyless delta",
        "table keyless: a delta needs key columns, and it has none",
    );
    check("released", "table thing: no rows are given");
    check("columns", "table thing: 1 columns are given, 4 are declared");
    check(
        "negative length",
        "table thing: -1 rows at offset 0; at most 16777216 are taken at once",
    );
    check(
        "huge length",
        "table thing: 9223372036854775807 rows at offset 0; at most 16777216 are taken at once",
    );
    check(
        "huge offset",
        "table thing: 3 rows at offset 9223372036854775807; at most 16777216 are taken at once",
    );
    check("long parent", "table thing: column id: 3 values for 4 rows");
    check("no children", "table thing: there is no list of columns");
    check("row buffers", "table thing: the rows are not a struct array");
    check("null count", "table thing: 4 nulls in 3 rows");
    check("child length", "table thing: column id: 2 values for 3 rows");
    check(
        "child negative",
        "table thing: column id: -3 rows at offset 0; at most 16777216 are taken at once",
    );
    check(
        "child buffers",
        "table thing: column id: its array is not of type Int32",
    );
    check(
        "child no buffers",
        "table thing: column id: its array is not of type Int32",
    );
    check("child no values", "table thing: column id: its values are missing");
    check(
        "child nulls",
        "table thing: column name: 2 nulls, and no validity buffer",
    );
    check("null key", "table thing: column id: 1 nulls where none may be");
    check("dictionary", "table thing: column id: its array is not of type Int32");
    check("no offsets", "table thing: column name: its values are missing");
    check(
        "odd offsets",
        "table thing: column name: its offsets are not aligned to 4 bytes",
    );
    check("negative offset", "table thing: column name: its last offset is -3");
    check("no text", "table thing: column name: its text is missing");
    check("long key", "state key of 401 bytes; 1 to 400 are taken");
    for (case, part) in [("backwards", "offset"), ("not utf-8", "UTF8")] {
        let fault = run(&plugin, case).expect_err(case);
        assert!(
            fault.message.starts_with("table thing: column name: "),
            "{case}: {fault}"
        );
        assert!(
            fault.message.to_lowercase().contains(&part.to_lowercase()),
            "{case}: {fault}"
        );
    }
}

#[test]
fn every_service_of_the_host() {
    let (plugin, host) = plugin();
    let call = CommandCall {
        name: "services".into(),
        words: Vec::new(),
        uid: 0,
        gid: 0,
        pid: 1,
        stream: 0,
    };
    let answer = plugin.command(&call).unwrap();
    assert!(answer.rows.is_none() && answer.columns.is_empty() && !answer.streaming);
    let expect = [
        r#"environment {"host_version":"9.9.9","proc_dir":"/fixture/proc","sys_dir":"/fixture/sys","live":false,"state_dir":"/fixture/state"}"#,
        r#"config {"of":"hand"}"#,
        r#"schema {"name":"load","kind":"state","doc":"","access":"all","columns":[{"name":"load_1m","type":"f64","doc":"","key":false,"nullable":false,"counter":false}]}"#,
        r#"no schema fault 7: there is no table "lod""#,
        "emit ok",
        "bad emit fault 6: rows for table number 9; the manifest has 3",
        "state value",
        "state_keys p1,p2",
        "outbox mail-1=hello",
        "timer ok",
        "cancel ok",
        "start n",
        "bad start fault 6: instance to start: EOF while parsing an object at line 1 column 1",
        "stop fault 7: no such instance",
        "send fault 9: reads too slowly",
        "close fault 1: the host's own service panicked; see its log",
        "query ok",
        "call fault 10: this host has no operation \"fly\"",
    ];
    assert_eq!(answer.notes, expect);
    let said = [
        "hand: Trace beyond trace",
        "hand: emit for 3: 2 rows",
        "hand: state k",
        "hand: state_keys p",
        "hand: outbox 2",
        "hand: timer 5 Some(1µs)",
        "hand: timer 5 None",
        r#"hand: start {"probe":"hand.rows","name":"n","every_ms":null,"for_ms":5,"options":{"case":"good"}}"#,
        "hand: stop n",
        "stream: 8 live",
        r#"hand: query 6 Query { sql: "SELECT 1", at_ns: Some(3), from_ns: None, to_ns: None }"#,
    ];
    assert_eq!(host.said(), said);
    let (_, commit) = host.commits.lock().unwrap().remove(0);
    assert_eq!(commit.state, [("k".to_owned(), None)]);
    assert_eq!(
        (commit.outbox[0].id.as_str(), &commit.outbox[0].body[..]),
        ("mail-1", &b"hello"[..])
    );
    assert_eq!(commit.outbox_done, ["mail-0"]);
}

#[test]
fn commands_and_their_answers() {
    let (plugin, _) = plugin();
    let mut call = CommandCall {
        name: "hand echo".into(),
        words: vec!["a".into(), "b c".into()],
        uid: 1000,
        gid: 100,
        pid: 77,
        stream: 5,
    };
    let answer = plugin.command(&call).unwrap();
    assert_eq!(answer.columns[0].name, "word");
    assert_eq!(
        answer.rows.unwrap().column(0).as_ref(),
        &StringArray::from(vec!["a", "b c"]) as &dyn Array
    );
    assert_eq!(answer.notes, ["1000 100 77 5"]);
    assert!(answer.streaming);
    call.words.clear();
    assert_eq!(plugin.command(&call).unwrap_err(), Fault::bad_input("no words").at(4));
}

#[test]
fn rows_and_messages_to_a_plugin() {
    let (plugin, host) = plugin();
    let table = &plugin.manifest().tables[0].clone();
    let receive = |subscriber, body: &Rows| {
        let rows = ReceivedRows {
            table,
            instance: "hand.rows",
            time_ns: 12,
            body,
        };
        plugin.receive(subscriber, &rows)
    };
    for case in ["sliced", "delta"] {
        let commit = run(&plugin, case).unwrap();
        receive(0, &commit.batches[0].body).unwrap();
    }
    let commit = run(&plugin, "good").unwrap();
    assert_eq!(
        receive(1, &commit.batches[0].body).unwrap_err().kind,
        FaultKind::NotFound
    );
    plugin.timer(17).unwrap();
    plugin.answered(1, Ok(vec![1, 2, 3])).unwrap();
    plugin
        .answered(2, Err(Fault::not_found("no table lod").at(14)))
        .unwrap();
    plugin.reconfigured(&json!({"a": 1})).unwrap();
    let said = [
        "hand: Info received 0 thing hand.rows 12 kind 0 rows 2 of 4 gone 0",
        "hand: Info received 0 thing hand.rows 12 kind 1 rows 3 of 4 gone 1",
        "hand: Debug timer 17",
        "hand: Error answer 1: 3 bytes",
        "hand: Error answer 2: fault 7 no table lod 14",
        "hand: Warn {\"a\":1}",
    ];
    assert_eq!(host.said(), said);
    let fault = plugin.stop().unwrap_err();
    assert_eq!(
        (fault.kind, fault.message.as_str()),
        (FaultKind::Failed, "an unknown code")
    );
    assert_eq!(
        plugin.open("rows", 1, &Default::default()).unwrap_err(),
        Fault::bad_input("no case")
    );
}
