//! What the host does for plugins, through the real daemon: each service is used by the plugin that is made for it.

use vwatch_tests::host::Answer;
use vwatch_tests::{Host, SOON, built, until};

/// A daemon with the os plugin and the one that uses every service.
fn host() -> Host {
    let mut host = Host::bare();
    host.drop_in(&built("libvwatch_os.so"), "os.so");
    host.drop_in(&built("libvwatch_behaviours.so"), "behaviours.so");
    host.start();
    host.wait_for_rows("SELECT * FROM load");
    host
}

fn add(host: &Host, probe: &str, settings: &[&str]) {
    let probe = format!("behaviours.{probe}");
    let mut words = vec!["probe", "add", &probe];
    words.extend(settings);
    let answer = host.ctl(&words);
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn beh(host: &Host, words: &[&str]) -> Answer {
    let mut all = vec!["--output", "jsonl", "command", "beh"];
    all.extend(words);
    host.ctl(&all)
}

#[test]
fn state_and_outbox_outlive_the_daemon() {
    let mut host = host();
    add(&host, "beh_state", &["every=200ms"]);
    add(&host, "beh_outbox", &["every=200ms"]);
    let count = |host: &Host| {
        host.wait_for_rows("SELECT count FROM beh_state")[0]["count"]
            .as_i64()
            .unwrap()
    };
    until("it counts", SOON, || (count(&host) >= 3).then_some(()));
    host.wait_for_rows("SELECT put FROM beh_outbox WHERE put > 0");
    let before = count(&host);
    host.kill();
    host.start();
    let opened = host.wait_for_rows("SELECT opened_at FROM beh_state WHERE opened_at > 0");
    assert!(
        opened[0]["opened_at"].as_i64().unwrap() >= before,
        "what was committed is there: {opened:?}"
    );
    let kept = beh(&host, &["stored", "beh_state/"]).whole();
    let begins = |prefix: &str| {
        kept.iter()
            .any(|k| k["key"].as_str().is_some_and(|key| key.starts_with(prefix)))
    };
    assert!(begins("beh_state/count") && begins("outbox "), "{kept:?}");
}

#[test]
fn a_subscriber_sees_what_is_recorded() {
    let host = host();
    add(&host, "beh_full", &["every=200ms", "name=seen"]);
    host.wait_for_rows("SELECT * FROM beh_counted");
}

#[test]
fn a_timer_runs_out_and_events_keep_their_order() {
    let host = host();
    add(&host, "beh_timer", &[]);
    host.wait_for_rows("SELECT * FROM beh_timer");
    add(&host, "beh_events", &[]);
    host.wait_for_rows("SELECT * FROM beh_event WHERE number >= 10");
    let rows = host.rows("SELECT number FROM beh_event ORDER BY time, number");
    let numbers: Vec<i64> = rows.iter().map(|r| r["number"].as_i64().unwrap()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
}

#[test]
fn a_plugin_starts_and_stops_instances() {
    let host = host();
    let started = beh(&host, &["start", "os.load", "extra", "200"]);
    assert_eq!(started.code, 0, "{started:?}");
    host.wait_for_rows("SELECT * FROM load WHERE instance = 'extra'");
    assert_eq!(host.instance("extra").unwrap()["origin"], "plugin");
    assert_eq!(beh(&host, &["stop", "extra"]).code, 0);
    until("it is gone", SOON, || host.instance("extra").is_none().then_some(()));
}

#[test]
fn a_plugin_asks_the_store() {
    let host = host();
    let answer = beh(
        &host,
        &["query", "SELECT max(time) AS last, count(*) AS n FROM load_history"],
    )
    .whole();
    assert!(answer[0]["n"].as_i64().unwrap() >= 1, "{answer:?}");
    let wrong = beh(&host, &["query", "SELECT nothing FROM nowhere"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("nowhere"), "{wrong:?}");
}

#[test]
fn commands_answer_stream_and_fail_at_a_place() {
    let mut host = host();
    let rows = beh(&host, &["echo", "one", "two words"]).whole();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["word"], "two words");
    let streamed = beh(&host, &["stream", "3"]);
    assert!(streamed.out.contains("line 3 of 3"), "{streamed:?}");
    let failed = beh(&host, &["fail", "good", "BAD"]);
    assert_eq!(failed.code, 1);
    let lines: Vec<&str> = failed.err.lines().collect();
    let line = lines
        .iter()
        .position(|l| l.contains("beh fail good BAD"))
        .expect("the line is shown");
    assert_eq!(lines[line].find("BAD"), lines[line + 1].find('^'), "{failed:?}");
    let panicked = beh(&host, &["panic"]);
    assert_eq!(panicked.code, 1, "{panicked:?}");
    assert!(host.is_running());
    let none = host.ctl(&["command", "no", "such", "words"]);
    assert_eq!(none.code, 1, "{none:?}");
}
