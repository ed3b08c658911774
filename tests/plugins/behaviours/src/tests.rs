//! The plugin behind the ABI's objects, on the testkit's host.

use crate::rows;
use crate::vwatch_plugin;
use std::time::Duration;
use vwatch_sdk::{Kind, ProbeError, Row};
use vwatch_testkit::{FixtureHost, TestPlugin};

const SOON: Duration = Duration::from_secs(10);

fn loaded() -> (FixtureHost, TestPlugin) {
    let host = FixtureHost::new();
    let plugin = host.load(vwatch_plugin()).unwrap();
    (host, plugin)
}

fn error<T>(result: Result<T, ProbeError>) -> ProbeError {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

#[test]
fn every_column_type_crosses() {
    let (_host, plugin) = loaded();
    let mut instance = plugin.open("beh_full", "rows=3 prefix=p").unwrap();
    let sampled = instance.run().unwrap();
    assert_eq!(
        sampled.text("beh_full"),
        "\
id  name  even   small       large                 mask  half  raw                    seen  runs  note
 0  p0    true       0  2147483648  9223372036854775808     0  0x      1700000000000000000     0  \"\"
 1  p1    false     -1  2147483649  9223372036854775809   0.5  0xab    1700000000000000000     0  -
 2  p2    true      -2  2147483650  9223372036854775810     1  0xabab  1700000000000000000     0  \"\"
"
    );
    assert_eq!(sampled.rows::<rows::Full>().len(), 3);
    let mut without = plugin.open("beh_full", "rows=3 without=0,2 raw=2KiB").unwrap();
    let rows = without.run().unwrap().rows::<rows::Full>();
    assert_eq!((rows.len(), rows[0].id, rows[0].raw.len()), (1, 1, 2048));
}

#[test]
fn a_wrong_option_is_refused_by_name() {
    let (_host, plugin) = loaded();
    let refused = |options| error(plugin.open("beh_full", options)).message;
    assert_eq!(refused("row=3"), "no option \"row\"; did you mean \"rows\"?");
    assert_eq!(refused("rows=-1"), "option rows: there are no fewer than 0 rows");
    assert_eq!(error(plugin.open("beh_nothing", "")).kind, Kind::NotFound);
}

#[test]
fn deltas_add_up_to_the_picture() {
    let (_host, plugin) = loaded();
    let mut told = plugin.open("beh_delta", "window=4").unwrap();
    let mut rows: Vec<rows::Delta> = told.run().unwrap().rows();
    for _ in 1..12 {
        let tick = told.next_tick();
        let sampled = told.run().unwrap();
        let gone = vwatch_sdk::__private::Column::<i64>::of(&sampled.table("beh_delta").gone, "id").unwrap();
        let gone: Vec<i64> = gone.values().collect();
        let changed: Vec<rows::Delta> = sampled.rows();
        rows.retain(|row| !gone.contains(&row.id) && !changed.iter().any(|c| c.id == row.id));
        rows.extend(changed);
        rows.sort_by_key(|row| row.id);
        let mut picture = plugin.open("beh_delta", "window=4").unwrap();
        let picture = picture.run_tick(vwatch_sdk::Tick { full: true, ..tick }).unwrap();
        assert_eq!(rows, picture.rows::<rows::Delta>(), "run {}", tick.sequence);
    }
}

#[test]
fn events_stream_until_the_stop() {
    let (host, plugin) = loaded();
    let mut instance = plugin.open("beh_events", "pause=1ms burst=2 limit=5 lose=7").unwrap();
    assert_eq!(error(instance.run()).kind, Kind::BadInput);
    instance.start().unwrap();
    host.wait_until(SOON, |r| r.emissions >= 4);
    instance.stop().unwrap();
    let emitted = instance.emitted();
    let events: Vec<rows::Event> = emitted
        .iter()
        .filter(|s| s.has("beh_event"))
        .flat_map(|s| s.rows())
        .collect();
    assert_eq!(events.iter().map(|e| e.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!((&*events[2].parity, &*events[3].parity), ("even", "odd"));
    let losses: Vec<_> = emitted.into_iter().flat_map(|s| s.losses).collect();
    assert_eq!(losses, [("beh_event".to_owned(), 7, "dropped".to_owned())]);
}

#[test]
fn refused_rows_are_tried_again() {
    let (host, plugin) = loaded();
    host.refuse_rows(true);
    let mut instance = plugin.open("beh_events", "pause=1ms limit=2").unwrap();
    instance.start().unwrap();
    host.wait_until(SOON, |r| r.log.iter().any(|line| line.message == "the queue is full"));
    host.refuse_rows(false);
    host.wait_until(SOON, |r| r.emissions >= 1);
    instance.stop().unwrap();
    assert_eq!(instance.emitted()[0].rows::<rows::Event>()[0].number, 0);
}

#[test]
fn a_panic_is_an_answer() {
    let (_host, plugin) = loaded();
    let opened = error(plugin.open("beh_panic", "where=open"));
    assert_eq!(opened.kind, Kind::Panicked);
    assert_eq!(opened.message, "panicked: told to panic in open");
    let mut instance = plugin.open("beh_panic", "first=1").unwrap();
    instance.run().unwrap();
    let first = error(instance.run());
    assert_eq!(
        (first.kind, first.message.as_str()),
        (Kind::Panicked, "panicked: told to panic in run 1")
    );
    let again = error(instance.run());
    assert_eq!(again.kind, Kind::Panicked);
    assert_eq!(again.message, "stopped for good: it panicked: told to panic in run 1");
    let mut stopping = plugin.open("beh_panic", "where=stop").unwrap();
    stopping.run().unwrap();
    assert_eq!(error(stopping.stop()).kind, Kind::Panicked);
    drop(plugin.open("beh_panic", "where=drop").unwrap());
    let mut stream = plugin.open("beh_panic_stream", "").unwrap();
    assert_eq!(error(stream.start()).kind, Kind::Panicked);
    let mut thread = plugin.open("beh_panic_stream", "where=thread").unwrap();
    thread.start().unwrap();
    assert_eq!(error(thread.stop()).message, "panicked: told to panic in the thread");
    assert_eq!(
        error(plugin.command("beh panic")).message,
        "panicked: told to panic in a command"
    );
    // All the rest goes on.
    plugin.open("beh_full", "").unwrap().run().unwrap();
}

#[test]
fn entry_points_of_the_plugin_panic_on_request() {
    let host = FixtureHost::new();
    let panics = |places: &[&str]| vwatch_sdk::serde_json::json!({ "panic_in": places });
    host.config(panics(&["setup"]));
    assert_eq!(error(host.load(vwatch_plugin())).kind, Kind::Panicked);
    host.config(panics(&["receive", "reconfigured", "stop"]));
    let plugin = host.load(vwatch_plugin()).unwrap();
    let picture = plugin.open("beh_full", "").unwrap().run().unwrap();
    let received = plugin.give_sampled("beh_full", picture.table("beh_full"));
    assert_eq!(error(received).kind, Kind::Panicked);
    assert_eq!(error(plugin.stop()).kind, Kind::Panicked);
    plugin.reconfigure(panics(&[])).unwrap();
    assert_eq!(plugin.give_sampled("beh_full", picture.table("beh_full")).unwrap(), 1);
    assert_eq!(plugin.emitted()[0].rows::<rows::Counted>()[0].all_rows, 3);
    assert_eq!(
        error(plugin.reconfigure(panics(&["reconfigured"]))).kind,
        Kind::Panicked
    );
}

#[test]
fn failures_tell_what_they_are() {
    let (_host, plugin) = loaded();
    let mut failing = plugin.open("beh_fail", "first=1 failures=2 message=no").unwrap();
    let outcome: Vec<_> = (0..4)
        .map(|_| failing.run().map(|s| s.has("beh_ran")).map_err(|e| e.kind))
        .collect();
    assert_eq!(outcome, [Ok(true), Err(Kind::Failed), Err(Kind::Failed), Ok(true)]);
    for (probe, kind) in [
        ("beh_unsupported", Kind::Unsupported),
        ("beh_denied", Kind::Denied),
        ("beh_no_data", Kind::NoData),
    ] {
        assert_eq!(error(plugin.open(probe, "")).kind, kind);
        assert_eq!(error(plugin.open(probe, "where=run").unwrap().run()).kind, kind);
        assert_eq!(error(plugin.open(probe, "where=here")).kind, Kind::BadInput);
    }
}

#[test]
fn the_slow_and_the_hanging_return() {
    let (host, plugin) = loaded();
    plugin.open("beh_slow", "by=1ms busy=true").unwrap().run().unwrap();
    plugin.open("beh_hang", "lasting=20ms").unwrap().run().unwrap();
    plugin.open("beh_hang", "first=1").unwrap().run().unwrap();
    host.file("go", "");
    let until = format!("until={}", host.path("go").display());
    plugin.open("beh_hang", &until).unwrap().run().unwrap();
}

#[test]
fn durable_state_outlives_the_plugin() {
    let host = FixtureHost::new();
    for life in 0..3 {
        let plugin = host.load(vwatch_plugin()).unwrap();
        let mut instance = plugin.open("beh_state", "").unwrap();
        for run in 1..=2 {
            let rows = instance.run().unwrap().rows::<rows::State>();
            let want = rows::State {
                count: life * 2 + run,
                opened_at: life * 2,
            };
            assert_eq!(rows, [want]);
        }
        plugin.stop().unwrap();
    }
    host.recorded(|r| {
        assert_eq!(r.state["stops"], b"3");
        assert_eq!(r.state["beh_state/count"], b"6");
        assert!(!r.state.contains_key("beh_state/even"));
    });
}

#[test]
fn the_outbox_keeps_what_nobody_acknowledged() {
    let (host, plugin) = loaded();
    let mut instance = plugin.open("beh_outbox", "keep=2").unwrap();
    for _ in 0..5 {
        instance.run().unwrap();
    }
    host.recorded(|r| {
        let bodies: Vec<_> = r.outbox.iter().map(|(_, body)| body.as_slice()).collect();
        assert_eq!(bodies, [b"body 4", b"body 5"]);
    });
    let rows = instance.run().unwrap().rows::<rows::Outbox>();
    assert_eq!(rows, [rows::Outbox { put: 6, open: 2 }]);
}

#[test]
fn a_timer_beats_until_the_stop() {
    let (host, plugin) = loaded();
    let mut instance = plugin.open("beh_timer", "pause=3s").unwrap();
    instance.start().unwrap();
    host.recorded(|r| assert_eq!(r.timers.values().copied().collect::<Vec<_>>(), [3_000_000_000]));
    assert_eq!((plugin.run_timers().unwrap(), plugin.run_timers().unwrap()), (1, 1));
    instance.stop().unwrap();
    assert_eq!(plugin.run_timers().unwrap(), 0);
    let beats: Vec<i64> = (instance.emitted().iter())
        .flat_map(|s| s.rows::<rows::Timer>())
        .map(|r| r.beat)
        .collect();
    assert_eq!(beats, [1, 2]);
}

#[test]
fn the_subscriber_counts() {
    let (_host, plugin) = loaded();
    let subscriber = &plugin.manifest().subscribers[0];
    assert_eq!(
        (subscriber.name.as_str(), subscriber.tables.as_slice()),
        ("beh_counter", &["beh_full".to_owned()][..])
    );
    let picture = plugin.open("beh_full", "rows=4").unwrap().run().unwrap();
    plugin.give_sampled("one", picture.table("beh_full")).unwrap();
    let rows: Vec<rows::Full> = picture.rows();
    plugin.give_full("beh_counter", "two", 7, &rows[..2]).unwrap();
    let counted: Vec<rows::Counted> = plugin.emitted().iter().flat_map(|s| s.rows()).collect();
    let seen: Vec<_> = counted
        .iter()
        .map(|c| (c.from_instance.as_str(), c.rows, c.id_sum, c.all_rows))
        .collect();
    assert_eq!(seen, [("one", 4, 6, 4), ("two", 2, 1, 6)]);
    assert_eq!(counted[1].time.ns(), 7);
}

#[test]
fn commands_answer() {
    let (host, plugin) = loaded();
    let echo = plugin.command_by("beh echo a bcd", 1000, false).unwrap();
    assert_eq!(echo.text(), "word  bytes\na         1\nbcd       3\n");
    assert!(echo.notes[0].starts_with("uid 1000 gid 1000 pid "));
    let refused = error(plugin.command("beh fail good bad"));
    assert_eq!((refused.kind, refused.position), (Kind::BadInput, Some(5)));
    assert_eq!(error(plugin.command("beh fail")).position, Some(0));
    assert_eq!(error(plugin.command("nobody")).kind, Kind::NotFound);

    plugin.command("beh start process.process fast 250").unwrap();
    plugin.command("beh stop fast").unwrap();
    assert_eq!(error(plugin.command("beh stop slow")).kind, Kind::NotFound);
    assert_eq!(error(plugin.command("beh start p.q n soon")).position, Some(6));
    host.recorded(|r| {
        assert_eq!(
            (r.started[0].probe.as_str(), r.started[0].every_ms),
            ("process.process", Some(250))
        );
        assert_eq!(r.stopped, ["fast"]);
    });

    host.put_schema(<rows::Full as Row>::TABLE.describe());
    let schema = plugin.command("beh schema beh_full").unwrap();
    assert!(schema.text().contains("half    percent"), "{}", schema.text());
    host.put_state("k", "v");
    assert_eq!(
        plugin.command("beh stored k").unwrap().text(),
        "key  value\nk    0x76\n"
    );
    plugin.reconfigure(vwatch_sdk::serde_json::json!({"a": 1})).unwrap();
    let report = plugin.command("beh report").unwrap().text();
    assert!(
        report.contains("reconfigurations  1") && report.contains(r#""{\"a\":1}""#),
        "{report}"
    );
}

#[test]
fn live_output_ends_with_the_work_or_the_client() {
    let (host, plugin) = loaded();
    assert_eq!(error(plugin.command("beh stream 2")).kind, Kind::Unsupported);
    let answer = plugin.command_streaming("beh stream 2").unwrap();
    assert!(answer.streaming);
    host.wait_until(SOON, |r| r.streams[&answer.stream].closed);
    host.recorded(|r| assert_eq!(r.streams[&answer.stream].bytes, b"line 1 of 2\nline 2 of 2\n"));
    let endless = plugin.command_streaming("beh stream 1000000").unwrap();
    plugin.leave_stream(endless.stream);
    host.wait_until(SOON, |r| r.streams[&endless.stream].closed);
}

#[test]
fn a_query_is_answered() {
    let (host, plugin) = loaded();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| plugin.command("beh query SELECT 1"));
        host.wait_until(SOON, |r| r.queries.iter().any(|(_, query)| query.sql == "SELECT 1"));
        plugin.answer_query(Err(ProbeError::denied("not you"))).unwrap();
        assert_eq!(error(asking.join().unwrap()).kind, Kind::Denied);
        let asking = scope.spawn(|| plugin.command("beh query SELECT 2"));
        host.wait_until(SOON, |r| !r.queries.is_empty());
        let picture = plugin.open("beh_full", "").unwrap().run().unwrap();
        plugin
            .answer_query(Ok(vwatch_testkit::ipc_stream(picture.batch("beh_full"))))
            .unwrap();
        let answer = asking.join().unwrap().unwrap();
        assert_eq!(answer.notes, ["3 rows"]);
        assert_eq!(answer.text(), picture.text("beh_full"));
        let asking = scope.spawn(|| plugin.command("beh query SELECT 3"));
        host.wait_until(SOON, |r| !r.queries.is_empty());
        plugin.answer_query(Ok(b"no stream".to_vec())).unwrap();
        assert_eq!(error(asking.join().unwrap()).kind, Kind::Failed);
    });
}
