//! The plugin that is built with the sdk, through the whole loader: what authors write, as the host gets it.

use crate::support::{Recorder, behaviours, dir, loader, write};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, Int64Array};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vwatch_loader::{
    CommandCall, Commit, Fault, FaultKind, Mode, Plugin, ProbeHandle, ReceivedRows, Refusal, Rows, Tick, read_options,
};

fn load(host: &Arc<Recorder>) -> Result<Plugin, Refusal> {
    let dir = dir();
    let file = write(dir.path(), "behaviours.so", &std::fs::read(behaviours()).unwrap());
    loader().load(&file, host.clone())
}

fn plugin() -> (Plugin, Arc<Recorder>) {
    let host = Arc::new(Recorder::default());
    (load(&host).unwrap(), host)
}

fn open(plugin: &Plugin, probe: &str, given: Value) -> Result<ProbeHandle, Fault> {
    let entry = plugin.manifest().probe(probe).unwrap();
    let options = read_options(entry, given.as_object().unwrap())?;
    plugin.open(probe, 7, &options)
}

fn tick(sequence: u64) -> Tick {
    Tick {
        time_ns: 1_700_000_000_000_000_000,
        boottime_ns: 1,
        due_ns: 1,
        interval_ns: 1,
        sequence,
        full: sequence == 0,
    }
}

fn command(plugin: &Plugin, name: &str, words: &[&str], stream: u64) -> Result<vwatch_loader::CommandAnswer, Fault> {
    plugin.command(&CommandCall {
        name: name.into(),
        words: words.iter().map(|w| w.to_string()).collect(),
        uid: 1000,
        gid: 100,
        pid: 42,
        stream,
    })
}

/// Waits for something that another thread does.
#[track_caller]
fn wait(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_the_macro_declares_is_what_the_host_reads() {
    let (plugin, host) = plugin();
    let manifest = plugin.manifest();
    assert_eq!(manifest.name, "behaviours");
    let full = manifest.probe("beh_full").unwrap();
    assert_eq!(
        (full.mode, full.every, full.default_on),
        (Mode::Poll, Duration::from_secs(1), true)
    );
    let rows = full.options.iter().find(|o| o.name == "rows").unwrap();
    assert_eq!((rows.kind.word(), &rows.default), ("integer", &json!(3)));
    assert_eq!(manifest.probe("beh_events").unwrap().mode, Mode::Stream);
    assert_eq!(host.said(), ["behaviours: Info behaviours: set up"]);
}

#[test]
fn pictures_and_deltas() {
    let (plugin, _) = plugin();
    let mut full = open(&plugin, "beh_full", json!({"rows": "2", "raw": "1KiB"})).unwrap();
    let commit = full.run(tick(0)).unwrap();
    let rows = commit.batches[0].body.batch();
    let table = &plugin.manifest().tables[commit.batches[0].table];
    assert_eq!((table.name.as_str(), rows.schema()), ("beh_full", table.arrow()));
    let column = |name: &str| rows.column_by_name(name).unwrap();
    assert_eq!(
        column("mask").as_primitive::<UInt64Type>().values(),
        &[1 << 63, (1 << 63) + 1]
    );
    assert_eq!(column("raw").as_binary::<i32>().value(1).len(), 1024);
    assert_eq!((column("note").is_null(0), column("note").is_null(1)), (false, true));

    let mut delta = open(&plugin, "beh_delta", json!({"window": 2})).unwrap();
    let picture = delta.run(tick(0)).unwrap();
    assert!(matches!(picture.batches[0].body, Rows::Full(_)));
    let commit = delta.run(tick(4)).unwrap();
    let Rows::Delta { changed, gone } = &commit.batches[0].body else {
        panic!("{commit:?}")
    };
    assert_eq!(changed.column(0).as_primitive::<Int64Type>().values(), &[3, 4]);
    assert_eq!(gone.column(0).as_ref(), &Int64Array::from(vec![2]) as &dyn Array);
}

#[test]
fn every_answer_of_a_probe() {
    let (plugin, _) = plugin();
    let run = |probe: &str, options: Value| {
        open(&plugin, probe, options)
            .and_then(|mut probe| probe.run(tick(0)))
            .unwrap_err()
    };
    let kinds = [
        (
            "beh_unsupported",
            FaultKind::Unsupported,
            "this kernel has no behaviour",
        ),
        ("beh_denied", FaultKind::Denied, "behaviour needs CAP_SYS_BEHAVE"),
        ("beh_no_data", FaultKind::NoData, "nobody behaves"),
    ];
    for (probe, kind, message) in kinds {
        for place in ["open", "run"] {
            let fault = run(probe, json!({"where": place}));
            assert_eq!((fault.kind, fault.message.as_str()), (kind, message), "{place}");
        }
    }
    assert_eq!(run("beh_fail", json!({})), Fault::failed("told to fail"));
    assert_eq!(run("beh_fail", json!({"where": "x"})).kind, FaultKind::BadInput);
    assert_eq!(
        plugin.open("nothing", 1, &Default::default()).unwrap_err().kind,
        FaultKind::NotFound
    );
}

/// A panic in any entry point is a fault, and the plugin goes on.
#[test]
fn panics_stay_in_the_plugin() {
    let (plugin, host) = plugin();
    let panicked = |fault: Fault| assert_eq!(fault.kind, FaultKind::Panicked, "{fault}");
    panicked(open(&plugin, "beh_panic", json!({"where": "open"})).unwrap_err());
    panicked(open(&plugin, "beh_panic", json!({})).unwrap().run(tick(0)).unwrap_err());
    panicked(
        open(&plugin, "beh_panic", json!({"where": "stop"}))
            .unwrap()
            .stop()
            .unwrap_err(),
    );
    drop(open(&plugin, "beh_panic", json!({"where": "drop"})).unwrap());
    let stream = |place: &str| open(&plugin, "beh_panic_stream", json!({"where": place})).unwrap();
    panicked(stream("start").start().unwrap_err());
    let mut stopping = stream("stop");
    stopping.start().unwrap();
    panicked(stopping.stop().unwrap_err());
    let mut thread = stream("thread");
    thread.start().unwrap();
    panicked(thread.stop().unwrap_err());
    panicked(command(&plugin, "beh panic", &[], 0).unwrap_err());

    let sample = open(&plugin, "beh_full", json!({})).unwrap().run(tick(0)).unwrap();
    *host.config.lock().unwrap() = Some(json!({"panic_in": ["receive", "reconfigured", "stop"]}));
    let config = host.config.lock().unwrap().clone().unwrap();
    panicked(plugin.reconfigured(&config).unwrap_err());
    panicked(give(&plugin, &sample).unwrap_err());
    panicked(plugin.stop().unwrap_err());
    open(&plugin, "beh_full", json!({}))
        .unwrap()
        .run(tick(0))
        .expect("all the rest goes on");
}

/// A setup that panics only under the daemon's configuration has passed the trial.
#[test]
fn a_panic_in_the_setup_is_a_refusal() {
    let host = Arc::new(Recorder::default());
    *host.config.lock().unwrap() = Some(json!({"panic_in": ["setup"]}));
    let refused = load(&host).unwrap_err();
    assert!(refused.reason.starts_with("its setup says (panicked): "), "{refused}");
    assert_eq!(refused.name.as_deref(), Some("behaviours"));
}

fn give(plugin: &Plugin, commit: &Commit) -> Result<(), Fault> {
    let batch = &commit.batches[0];
    let table = &plugin.manifest().tables[batch.table];
    let subscriber = plugin
        .manifest()
        .subscribers
        .iter()
        .position(|s| s.tables.contains(&table.name));
    plugin.receive(
        subscriber.unwrap(),
        &ReceivedRows {
            table,
            instance: "mine",
            time_ns: 5,
            body: &batch.body,
        },
    )
}

#[test]
fn a_subscriber_gets_rows_and_emits_its_own() {
    let (plugin, host) = plugin();
    let sample = open(&plugin, "beh_full", json!({"rows": 4}))
        .unwrap()
        .run(tick(0))
        .unwrap();
    give(&plugin, &sample).unwrap();
    let (instance, commit) = host.commits.lock().unwrap().remove(0);
    assert_eq!(instance, 0);
    let rows = commit.batches[0].body.batch();
    assert_eq!(plugin.manifest().tables[commit.batches[0].table].name, "beh_counted");
    assert_eq!(
        rows.column_by_name("id_sum")
            .unwrap()
            .as_primitive::<Int64Type>()
            .value(0),
        6
    );
    assert_eq!(
        rows.column_by_name("from_instance")
            .unwrap()
            .as_string::<i32>()
            .value(0),
        "mine"
    );
}

#[test]
fn events_from_a_thread() {
    let (plugin, host) = plugin();
    let given = json!({"pause": "1ms", "burst": 2, "limit": 4, "lose": 7});
    let mut events = open(&plugin, "beh_events", given).unwrap();
    events.start().unwrap();
    let lost = || {
        host.commits
            .lock()
            .unwrap()
            .iter()
            .any(|(_, c)| c.losses.iter().any(|l| l.count == 7))
    };
    let rows = || {
        host.commits
            .lock()
            .unwrap()
            .iter()
            .map(|(_, c)| c.rows())
            .sum::<usize>()
    };
    wait(|| rows() == 4 && lost());
    events.stop().unwrap();
    let commits = host.commits.lock().unwrap();
    assert!(commits.iter().all(|(instance, _)| *instance == 7));
}

#[test]
fn timers_and_state() {
    let (plugin, host) = plugin();
    host.said();
    let mut timer = open(&plugin, "beh_timer", json!({"pause": "5s"})).unwrap();
    timer.start().unwrap();
    let said = host.said().remove(0);
    let token: u64 = said.split(' ').nth(2).unwrap().parse().unwrap();
    assert_eq!(said, format!("behaviours: timer {token} Some(5s)"));
    plugin.timer(token).unwrap();
    assert_eq!(host.commits.lock().unwrap().remove(0).1.rows(), 1);
    timer.stop().unwrap();
    assert!(
        host.said().last().unwrap().ends_with(" None"),
        "the next one is cancelled"
    );

    let mut state = open(&plugin, "beh_state", json!({})).unwrap();
    let put = |key: &str, value: &str| (key.to_owned(), Some(value.as_bytes().to_vec()));
    let commit = state.run(tick(0)).unwrap();
    assert_eq!(
        commit.state,
        [put("beh_state/count", "1"), put("beh_state/even", "yes")]
    );
    let commit = state.run(tick(1)).unwrap();
    assert_eq!(commit.state[1], ("beh_state/even".to_owned(), None));
    let mut outbox = open(&plugin, "beh_outbox", json!({"keep": 1})).unwrap();
    let commit = outbox.run(tick(0)).unwrap();
    assert_eq!(
        (commit.outbox.len(), &commit.outbox_done[..]),
        (1, &["mail-1".to_owned()][..])
    );
    plugin.stop().unwrap();
    let (_, last) = host.commits.lock().unwrap().pop().unwrap();
    assert_eq!(last.state, [("stops".to_owned(), Some(b"1".to_vec()))]);
}

#[test]
fn commands() {
    let (plugin, host) = plugin();
    let answer = command(&plugin, "beh echo", &["a", "bc"], 0).unwrap();
    assert_eq!(
        answer.rows.unwrap().column(1).as_primitive::<Int64Type>().values(),
        &[1, 2]
    );
    assert_eq!(answer.notes, ["uid 1000 gid 100 pid 42"]);
    let fault = command(&plugin, "beh fail", &["good", "bad"], 0).unwrap_err();
    assert_eq!(
        (fault.kind, fault.position.is_some()),
        (FaultKind::BadInput, true),
        "{fault}"
    );
    let answer = command(&plugin, "beh start", &["cpu.cpu_time", "mine", "250"], 0).unwrap();
    assert_eq!(answer.rows.unwrap().column(0).as_string::<i32>().value(0), "mine");
    assert_eq!(
        command(&plugin, "beh stop", &["mine"], 0).unwrap_err(),
        Fault::not_found("no such instance")
    );
    assert_eq!(
        command(&plugin, "beh nothing", &[], 0).unwrap_err().kind,
        FaultKind::NotFound
    );
    assert!(host.said().iter().any(|s| s.contains("\"every_ms\":250")));
}

/// The plugin waits in one thread for the answer that the host brings in another.
#[test]
fn a_query_and_its_answer() {
    let (plugin, host) = plugin();
    let asked = || {
        host.said
            .lock()
            .unwrap()
            .iter()
            .find_map(|s| s.strip_prefix("behaviours: query ").map(str::to_owned))
    };
    std::thread::scope(|scope| {
        let command = scope.spawn(|| command(&plugin, "beh query", &["SELECT", "2"], 0));
        wait(|| asked().is_some());
        let asked = asked().unwrap();
        assert!(asked.contains("SELECT 2"), "{asked}");
        let token: u64 = asked.split(' ').next().unwrap().parse().unwrap();
        plugin
            .answered(token, Err(Fault::bad_input("no such column").at(7)))
            .unwrap();
        let fault = command.join().unwrap().unwrap_err();
        assert_eq!(
            (fault.kind, fault.message.as_str()),
            (FaultKind::BadInput, "no such column")
        );
    });
}
