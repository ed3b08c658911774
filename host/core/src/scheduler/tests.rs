use crate::testing::{Bench, stored, until};
use serde_json::json;
use std::sync::atomic::Ordering;

const MS: i64 = 1_000_000;

#[test]
fn runs_are_aligned_to_the_wall_clock() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    until("ten runs", || script.runs("good") >= 10);
    for tick in script.ticks_of("good") {
        assert_eq!(tick.due_ns % (50 * MS), 0);
        assert!(tick.time_ns >= tick.due_ns, "never before its time");
        assert_eq!(tick.interval_ns as i64, 50 * MS);
    }
    let ticks = script.ticks_of("good");
    assert!(ticks[0].full, "the first picture is a full one");
    assert!(
        ticks
            .windows(2)
            .all(|w| w[1].due_ns > w[0].due_ns && w[1].sequence == w[0].sequence + 1)
    );
    let dir = bench.end();
    let runs = stored(dir.path(), "probe_run");
    let good: Vec<_> = runs
        .iter()
        .filter(|r| r["probe_instance"] == json!("fake.good"))
        .collect();
    assert_eq!(good.len(), script.runs("good"), "one row of probe_run per run");
    assert!(
        good.iter()
            .all(|r| r["outcome"] == json!("ok") && r["rows"] == json!(1))
    );
}

#[test]
fn every_tick_has_a_run_or_is_counted_as_missed() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    bench.add("fake.slow", json!({})).unwrap();
    until("five slow runs", || script.runs("slow") >= 5);
    let ticks = script.ticks_of("slow");
    let dir = bench.end();
    let all = ticks.len();
    let (first, last) = (ticks[0].due_ns, ticks[all - 1].due_ns);
    let between: i64 = stored(dir.path(), "gap")
        .iter()
        .filter(|g| g["probe_instance"] == json!("fake.slow") && g["cause"] == json!("missed_tick"))
        .filter(|g| (first..last).contains(&g["time_ns"].as_i64().unwrap()))
        .map(|g| g["lost"].as_i64().unwrap())
        .sum();
    assert!(between > 0, "130 ms of work do not fit into 50 ms");
    assert_eq!((last - first) / (50 * MS), between + all as i64 - 1);
}

#[test]
fn a_hanging_probe_is_quarantined_and_the_rest_goes_on() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    bench.add("fake.hang", json!({"name": "h"})).unwrap();
    until("quarantine", || bench.state("h") == "quarantined");
    let reason = bench.recorder.probe("h").unwrap().reason.unwrap();
    assert_eq!(reason, "a run did not return within 500ms");
    let before = script.runs("good");
    until("others go on", || script.runs("good") > before + 5);
    // Its late return changes nothing.
    script.release.store(true, Ordering::Relaxed);
    let before = script.runs("good");
    until("others go on", || script.runs("good") > before + 5);
    assert_eq!(bench.state("h"), "quarantined");
    // Added again, it runs.
    bench.recorder.remove_probe("h").unwrap();
    bench.add("fake.hang", json!({"name": "h"})).unwrap();
    until("it runs", || bench.recorder.probe("h").unwrap().runs > 2);
    let dir = bench.end();
    let gaps = stored(dir.path(), "gap");
    let quarantined = |g: &&std::collections::BTreeMap<String, serde_json::Value>| g["cause"] == json!("quarantined");
    assert_eq!(
        gaps.iter().filter(quarantined).count(),
        2,
        "one for the hang, one until it was removed: {gaps:?}"
    );
    let timeouts = stored(dir.path(), "probe_run")
        .iter()
        .filter(|r| r["outcome"] == json!("timeout"))
        .count();
    assert_eq!(timeouts, 1);
}

#[test]
fn outcomes_show_in_the_state() {
    let bench = Bench::new();
    bench.load("a.so", "fake").unwrap();
    for probe in ["fail", "unsupported", "denied", "no_data", "panic"] {
        bench.add(&format!("fake.{probe}"), json!({"name": probe})).unwrap();
    }
    let check = |name: &str, state: &str| until(&format!("{name} is {state}"), || bench.state(name) == state);
    check("fail", "backoff");
    check("unsupported", "unsupported");
    check("denied", "denied");
    check("panic", "quarantined");
    until("no data is no trouble", || {
        bench.recorder.probe("no_data").unwrap().runs > 3
    });
    assert_eq!(bench.state("no_data"), "running");
    assert_eq!(bench.recorder.probe("panic").unwrap().failures, 3);
    assert_eq!(
        bench.recorder.probe("unsupported").unwrap().runs,
        1,
        "not asked again for a while"
    );
    bench.end();
}

#[test]
fn a_limited_instance_ends_by_itself() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    bench
        .add("fake.good", json!({"name": "short", "for": "300ms"}))
        .unwrap();
    until("it is gone", || bench.recorder.probe("short").is_err());
    until("the default one goes on", || script.runs("good") > 10);
    bench.end();
}

#[test]
fn the_last_commit_of_a_probe_is_stored() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    until("it runs", || script.runs("good") > 1);
    let dir = bench.end();
    assert!(script.stopped.load(Ordering::Relaxed), "the plugin was told of its end");
    let rows = stored(dir.path(), "fake");
    assert!(rows.iter().any(|row| row["id"] == json!(-1)), "what `stop` handed over");
    assert!(rows.iter().any(|row| row["id"] == json!(0)), "the first run");
}
