//! What a picture is worth when nothing was recorded.

use crate::recording::{Answer, Recording, SECOND, at, process, processes, request, ten_seconds};
use vwatch_model::query::Request;
use vwatch_sql::Terms;
use vwatch_store::Body;

fn count_at(recording: &Recording, seconds: f64) -> Answer {
    let moment = at(0) + (seconds * SECOND as f64) as i64;
    let at = Request {
        at: Some(vwatch_model::time::Moment::Ns(moment)),
        ..request("SELECT comm FROM process")
    };
    recording.answer(&at, &recording.terms())
}

/// The ten seconds, then a gap from 10:42:09.5 until 10:43:00, then more.
fn stopped(cause: &str) -> Recording {
    let mut recording = ten_seconds();
    recording.close(at(9) + SECOND / 2);
    recording.reopen(at(60));
    recording.gap((at(9) + SECOND / 2, at(60)), None, cause);
    let table = recording.table(&process());
    let instance = recording.instance("process.process", "process.process", true);
    for s in 60..63 {
        recording.push(table, instance, at(s), SECOND, Body::Full(processes(&[(1, "init", s)])));
        recording.commit(at(s) + SECOND / 4);
    }
    recording
}

#[test]
fn a_gap_ends_the_picture() {
    let recording = stopped("stopped");
    assert_eq!(count_at(&recording, 9.2).whole().len(), 2);
    assert_eq!(count_at(&recording, 9.4).whole().len(), 2);
    for seconds in [9.6, 10.0, 30.0, 59.9] {
        let answer = count_at(&recording, seconds);
        assert_eq!(answer.rows.len(), 0, "{seconds}");
        assert_eq!(answer.reasons().len(), 1, "{seconds}");
    }
    let reasons = count_at(&recording, 30.0).reasons();
    assert_eq!(
        reasons,
        ["no data at 10:42:30: the recorder was stopped from 10:42:09 until 10:43:00"]
    );
    assert_eq!(count_at(&recording, 60.0).whole(), ["init"]);
    assert_eq!(recording.ask("SELECT comm FROM process").whole(), ["init"]);
    // Between the end of the gap and the first sample after it there is nothing yet.
    let mut late = ten_seconds();
    late.close(at(9) + SECOND / 2);
    late.reopen(at(11));
    late.gap((at(9) + SECOND / 2, at(11)), None, "stopped");
    assert_eq!(count_at(&late, 11.2).rows.len(), 0);
}

#[test]
fn a_long_gap_is_found_after_it_was_sealed() {
    let mut recording = ten_seconds();
    let hours = 10 * 3600;
    recording.close(at(9) + SECOND / 2);
    recording.reopen(at(hours));
    recording.gap((at(9) + SECOND / 2, at(hours)), None, "killed");
    let table = recording.table(&process());
    let instance = recording.instance("process.process", "process.process", true);
    // Some minutes more, each of which the store seals.
    for s in (hours..hours + 600).step_by(10) {
        recording.push(
            table,
            instance,
            at(s),
            10 * SECOND,
            Body::Full(processes(&[(1, "init", s)])),
        );
        recording.commit(at(s) + SECOND / 4);
    }
    for seconds in [10.0, 3600.0, hours as f64 - 1.0] {
        let answer = count_at(&recording, seconds);
        assert_eq!(answer.rows.len(), 0, "{seconds}");
        assert!(
            answer.reasons()[0].contains("killed"),
            "{seconds}: {:?}",
            answer.reasons()
        );
    }
    assert_eq!(count_at(&recording, 9.4).whole().len(), 2);
    assert_eq!(count_at(&recording, hours as f64 + 599.0).whole(), ["init"]);
}

#[test]
fn each_cause_has_its_words() {
    for (cause, words) in [
        ("killed", "killed"),
        ("rebooted", "the host was down"),
        ("suspended", "suspended"),
        ("disk_full", "the disk was full"),
        ("store_error", "could not be written"),
    ] {
        let reasons = count_at(&stopped(cause), 30.0).reasons();
        assert!(reasons.len() == 1 && reasons[0].contains(words), "{cause}: {reasons:?}");
    }
}

#[test]
fn losses_that_leave_the_rest_standing_end_nothing() {
    for cause in ["missed_tick", "dropped", "clock_step"] {
        let mut recording = ten_seconds();
        recording.gap((at(9) + SECOND / 2, at(10) + SECOND / 2), None, cause);
        assert_eq!(count_at(&recording, 10.6).whole().len(), 2, "{cause}");
    }
}

#[test]
fn a_gap_of_one_instance_ends_only_its_pictures() {
    let mut recording = ten_seconds();
    recording.gap((at(9) + SECOND / 2, at(10)), Some("process.process"), "quarantined");
    let answer = recording.ask("SELECT comm FROM process");
    assert_eq!(answer.rows.len(), 0);
    assert!(
        answer.reasons()[0].contains("process.process was quarantined"),
        "{:?}",
        answer.reasons()
    );
    assert_eq!(recording.ask("SELECT load_1m FROM load").whole(), ["0.9"]);
}

#[test]
fn a_picture_expires_after_three_intervals() {
    let recording = ten_seconds();
    // The recorder goes on, but this probe yields nothing.
    let terms = Terms {
        now_ns: at(30),
        ..recording.terms()
    };
    let sql = "SELECT comm FROM process FOR SYSTEM_TIME AS OF";
    let rows = recording.answer(&request(&format!("{sql} '10:42:12'")), &terms).whole();
    assert_eq!(rows.len(), 2);
    let answer = recording.answer(&request(&format!("{sql} '10:42:12.1'")), &terms);
    assert_eq!(answer.rows.len(), 0);
    assert_eq!(
        answer.reasons(),
        ["no data of process at 10:42:12: its last sample before is of 10:42:09, and one is taken every 1s"]
    );
}

#[test]
fn without_an_interval_a_picture_lasts() {
    let mut recording = Recording::begin();
    let table = recording.table(&process());
    let instance = recording.instance("process.process", "process.process", true);
    recording.push(table, instance, at(0), 0, Body::Full(processes(&[(1, "init", 1)])));
    recording.commit(at(3600));
    assert_eq!(recording.ask("SELECT comm FROM process").whole(), ["init"]);
}

#[test]
fn before_the_first_record_it_says_when_recording_began() {
    let recording = ten_seconds();
    let answer = count_at(&recording, -60.0);
    assert_eq!(answer.rows.len(), 0);
    assert_eq!(answer.reasons(), ["no data at 10:41:00: recording began at 10:42:00"]);
    let answer = recording.ask("SELECT comm FROM process FOR SYSTEM_TIME AS OF 'yesterday 10:42'");
    assert_eq!(
        answer.reasons(),
        ["no data at 2026-01-01 10:42:00: recording began at 10:42:00"]
    );
}

#[test]
fn after_the_last_record_it_says_where_recording_ends() {
    let mut recording = ten_seconds();
    recording.close(at(10));
    let answer = count_at(&recording, 120.0);
    assert_eq!(answer.rows.len(), 0);
    assert_eq!(
        answer.reasons(),
        ["no data at 10:44:00: the recording ends at 10:42:10"]
    );
}

#[test]
fn the_future_is_not_recorded() {
    let recording = ten_seconds();
    let reasons = count_at(&recording, 120.0).reasons();
    assert_eq!(
        reasons,
        ["no data at 10:44:00: that is in the future, it is 10:42:09 now"]
    );
}

#[test]
fn live_without_new_samples_expires_too() {
    let recording = ten_seconds();
    let terms = Terms {
        now_ns: at(60),
        ..recording.terms()
    };
    let answer = recording.answer(&request("SELECT comm FROM process"), &terms);
    assert_eq!(answer.rows.len(), 0);
    assert_eq!(answer.reasons().len(), 1);
}

#[test]
fn reasons_are_told_once_and_for_each_table() {
    let recording = stopped("stopped");
    let sql = "SELECT a.comm FROM process FOR SYSTEM_TIME AS OF '10:42:30' a, process FOR SYSTEM_TIME AS OF '10:42:30' b, \
               load FOR SYSTEM_TIME AS OF '10:42:30' c";
    let answer = recording.ask(sql);
    let done = answer.done.unwrap();
    let tables: Vec<_> = done.partial.iter().filter_map(|p| p.table.as_deref()).collect();
    assert!(tables.contains(&"process"), "{tables:?}");
    assert_eq!(tables.iter().filter(|t| **t == "process").count(), 1);
}

#[test]
fn a_table_that_nothing_has_filled_says_so() {
    let mut recording = Recording::begin();
    recording.table(&process());
    recording.commit(at(0));
    let answer = recording.ask("SELECT * FROM process");
    assert_eq!(answer.columns, ["time", "instance", "pid", "comm", "rss_bytes"]);
    assert_eq!(answer.reasons(), ["nothing has been recorded of process yet"]);
}
