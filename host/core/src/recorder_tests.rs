//! The recorder with fake plugins: instances over restarts, new copies of plugins, services, a full disk.

use crate::error::RefusalKind;
use crate::testing::{Bench, event, manifest, stored, until};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vwatch_loader::{Commit, FaultKind, InstanceSpec};

#[test]
fn instances_added_and_removed_outlive_a_restart() {
    let bench = Bench::new();
    bench.load("a.so", "fake").unwrap();
    bench
        .add("fake.good", json!({"name": "fast", "every": "20ms"}))
        .unwrap();
    bench.recorder.remove_probe("fake.good").unwrap();
    assert_eq!(bench.recorder.scheduler.names(), ["fast"]);
    let bench = Bench::over(bench.end());
    bench.recorder.reconcile();
    assert_eq!(bench.state("fast"), "waiting", "its plugin is not loaded yet");
    bench.load("a.so", "fake").unwrap();
    until("it runs again", || bench.recorder.probe("fast").unwrap().runs > 1);
    assert_eq!(bench.recorder.probe("fast").unwrap().every_ms, Some(20));
    assert_eq!(
        bench.recorder.scheduler.names(),
        ["fast"],
        "the removed default stays removed"
    );
    let again = bench.add("fake.good", json!({})).unwrap();
    assert_eq!((again.name.as_str(), again.origin.as_str()), ("fake.good", "default"));
    bench.end();
}

#[test]
fn wrong_requests_are_refused_with_the_nearest_name() {
    let bench = Bench::new();
    bench.load("a.so", "fake").unwrap();
    let check = |probe: &str, settings: serde_json::Value, kind: RefusalKind, hint: &str| {
        let refused = bench.add(probe, settings).unwrap_err();
        assert_eq!(refused.kind, kind, "{refused:?}");
        let said = format!("{} {}", refused.message, refused.hint.clone().unwrap_or_default());
        assert!(said.contains(hint), "{said}");
    };
    check("fake.god", json!({}), RefusalKind::NotFound, "did you mean fake.good?");
    check("fkae.good", json!({}), RefusalKind::NotFound, "did you mean fake.good?");
    check("fake.good", json!({"lvl": "1"}), RefusalKind::BadInput, "level");
    check(
        "fake.good",
        json!({"evry": "1s"}),
        RefusalKind::BadInput,
        "did you mean every?",
    );
    check("fake.good", json!({"level": "many"}), RefusalKind::BadInput, "level");
    check(
        "fake.good",
        json!({"name": "fake.good"}),
        RefusalKind::Conflict,
        "another name",
    );
    check("fake.push", json!({"every": "1s"}), RefusalKind::BadInput, "no every");
    check(
        "fake.good",
        json!({"name": "x", "level": "13"}),
        RefusalKind::BadInput,
        "level 13 is not liked",
    );
    assert!(bench.recorder.probe("x").is_err(), "nothing is left of it");
    let refused = bench.recorder.remove_probe("fake.god").unwrap_err();
    assert_eq!(refused.hint.as_deref(), Some("did you mean fake.good?"));
    bench.end();
}

#[test]
fn a_new_version_replaces_the_old_one_and_a_bad_one_does_not() {
    let bench = Bench::new();
    let first = bench.load("a.so", "fake").unwrap();
    until("the first copy runs", || first.runs("good") > 1);
    let second = bench.load("a.so", "fake 2").unwrap();
    until("the second copy runs", || second.runs("good") > 1);
    until("the first copy is told of its end", || {
        first.stopped.load(Ordering::Relaxed)
    });
    let runs = first.runs("good");
    assert!(
        second.ticks_of("good")[0].full,
        "the new copy begins with a full picture"
    );
    // Refused: not a plugin; then one whose table has changed a column's type.
    assert!(bench.load("a.so", "bad").is_err());
    let refusal = bench.load("a.so", "fake retyped").err().unwrap();
    assert!(refusal.reason.contains("never changes its type"), "{}", refusal.reason);
    let before = second.runs("good");
    until("the second copy goes on", || second.runs("good") > before + 2);
    assert_eq!(first.runs("good"), runs);
    let listed = bench.recorder.plugins.list();
    assert_eq!(listed[0].state, "loaded");
    assert!(listed[0].reason.as_ref().unwrap().contains("the old one goes on"));
    let dir = bench.end();
    let events: Vec<_> = stored(dir.path(), "plugin_event")
        .iter()
        .map(|row| row["event"].clone())
        .collect();
    assert_eq!(
        events,
        [json!("loaded"), json!("replaced"), json!("refused"), json!("refused")]
    );
}

#[test]
fn a_removed_file_stops_its_instances_and_frees_its_name() {
    let bench = Bench::new();
    let first = bench.load("a.so", "fake").unwrap();
    let refusal = bench.load("b.so", "fake").err().unwrap();
    assert!(refusal.reason.contains("a.so already"), "{}", refusal.reason);
    until("it runs", || first.runs("good") > 1);
    std::fs::remove_file(bench.path("b.so")).unwrap();
    bench.recorder.file_removed(&bench.path("b.so"));
    std::fs::remove_file(bench.path("a.so")).unwrap();
    bench.recorder.file_removed(&bench.path("a.so"));
    until("its instance waits", || bench.state("fake.good") == "waiting");
    until("it is told of its end", || first.stopped.load(Ordering::Relaxed));
    // Two files of one name: the second gets its turn when the first goes.
    bench.load("a.so", "fake").unwrap();
    assert!(bench.load("b.so", "fake").is_err());
    std::fs::remove_file(bench.path("a.so")).unwrap();
    bench.recorder.file_removed(&bench.path("a.so"));
    assert_eq!(bench.recorder.plugins.file_of("fake"), Some(bench.path("b.so")));
    until("it runs", || bench.state("fake.good") == "running");
    bench.end();
}

#[test]
fn a_stream_emits_and_an_old_copy_does_not() {
    let bench = Bench::new();
    let first = bench.load("a.so", "fake").unwrap();
    bench.add("fake.push", json!({"name": "p"})).unwrap();
    until("it is open", || bench.state("p") == "running");
    let tables = manifest("fake");
    let host = first.host.lock().unwrap().clone().unwrap();
    let emit = |id: u64| host.emit("fake", id, event(&tables, 1_700_000_000_000_000_000));
    // Ids are small numbers: the one whose rows count as the stream's is the stream's.
    let rows = || bench.recorder.probe("p").unwrap().rows;
    let id = (1..50).find(|id| emit(*id).is_ok() && rows() == 1).unwrap();
    assert_eq!(
        host.emit("fake", 999, Commit::default()).unwrap_err().kind,
        FaultKind::Gone
    );
    let second = bench.load("a.so", "fake 2").unwrap();
    until("the old copy has ended", || first.stopped.load(Ordering::Relaxed));
    assert_eq!(emit(id).unwrap_err().kind, FaultKind::Gone);
    let new_host = second.host.lock().unwrap().clone().unwrap();
    until("the new copy's rows are taken", || {
        new_host.emit("fake", id, event(&tables, 5)).is_ok()
    });
    let dir = bench.end();
    let events = stored(dir.path(), "fake_event");
    assert_eq!(events.iter().filter(|row| row["instance"] == json!("p")).count(), 2);
}

#[test]
fn subscribers_timers_and_durable_state() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    until("rows reach the subscriber", || {
        script
            .received
            .lock()
            .unwrap()
            .iter()
            .any(|(instance, rows)| instance == "fake.good" && *rows == 1)
    });
    let host = script.host.lock().unwrap().clone().unwrap();
    host.timer("fake", 7, Some(Duration::from_millis(20))).unwrap();
    host.timer("fake", 8, Some(Duration::from_secs(600))).unwrap();
    host.timer("fake", 8, None).unwrap();
    until("the timer", || *script.timers.lock().unwrap() == [7]);
    let put = Commit {
        state: vec![("k".into(), Some(b"v".to_vec()))],
        ..Commit::default()
    };
    host.emit("fake", 0, put).unwrap();
    assert_eq!(host.state("fake", "k").unwrap(), Some(b"v".to_vec()), "as last queued");
    assert_eq!(host.state_keys("fake", "").unwrap(), ["k"]);
    assert_eq!(host.state("other", "k").unwrap(), None, "state is the plugin's own");
    let bench = Bench::over(bench.end());
    let script = bench.load("a.so", "fake").unwrap();
    let host = script.host.lock().unwrap().clone().unwrap();
    assert_eq!(host.state("fake", "k").unwrap(), Some(b"v".to_vec()), "after a restart");
    bench.end();
}

#[test]
fn plugins_start_and_stop_instances_of_their_own() {
    let bench = Bench::new();
    let script = bench.load("a.so", "fake").unwrap();
    let host = script.host.lock().unwrap().clone().unwrap();
    let spec = InstanceSpec {
        probe: "fake.good".into(),
        name: String::new(),
        every_ms: Some(20),
        for_ms: None,
        options: Default::default(),
    };
    let name = host.instance_start("fake", spec).unwrap();
    assert_eq!(name, "fake.good:2");
    until("it runs", || bench.recorder.probe(&name).unwrap().runs > 1);
    assert_eq!(bench.recorder.probe(&name).unwrap().origin, "plugin");
    assert_eq!(
        host.instance_stop("fake", "fake.good").unwrap_err().kind,
        FaultKind::Denied
    );
    bench.recorder.reconcile();
    assert_eq!(bench.state(&name), "running", "it is not the configuration's to end");
    host.instance_stop("fake", &name).unwrap();
    until("it is gone", || bench.recorder.probe(&name).is_err());
    bench.end();
}

/// A small filesystem of its own, unmounted in the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(dir: &std::path::Path) -> nix::Result<SmallDisk> {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("size=12m"))?;
        Ok(SmallDisk(dir.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The store's files may be open still.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_pauses_the_recording_and_a_gap_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(dir.path()) {
        Ok(disk) => disk,
        Err(e) => {
            println!("skipped: a_full_disk_pauses_the_recording_and_a_gap_says_so: no tmpfs can be mounted: {e}");
            return;
        }
    };
    let bench = Bench::over(dir);
    let script = bench.load("a.so", "fake").unwrap();
    until("it runs", || script.runs("good") > 1);
    let filler = bench.dir.path().join("filler");
    // A store that needs no new page goes on for a while on a full disk; many instances make it need some.
    for n in 0..20 {
        bench
            .add("fake.good", json!({"name": format!("g{n}"), "every": "5ms"}))
            .unwrap();
    }
    // Whatever is free is taken, page by page, until the store finds none.
    let file = std::fs::File::create(&filler).unwrap();
    until("recording is paused", || {
        while std::io::Write::write_all(&mut &file, &[0; 4096]).is_ok() {}
        bench.recorder.status().store.paused.is_some()
    });
    let before = script.runs("good");
    until("probes go on", || script.runs("good") > before + 5);
    bench
        .recorder
        .pipeline
        .row(crate::rows::CoreRow::Plugin(Default::default()));
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    until("recording goes on", || bench.recorder.status().store.paused.is_none());
    let before = bench.recorder.status().store.commits;
    until("some commits", || bench.recorder.status().store.commits > before + 2);
    let dir = bench.end();
    let gaps = stored(dir.path(), "gap");
    let full = gaps
        .iter()
        .find(|g| g["cause"] == json!("disk_full"))
        .expect("a gap for the full disk");
    assert!(full["lost"].as_i64().unwrap() > 0, "{full:?}");
    let kept = stored(dir.path(), "plugin_event")
        .iter()
        .any(|row| row["file"] == json!(""));
    assert!(kept, "rows of the core's own are written once there is room");
    drop(disk);
}
