//! Plugins dropped into the directory of a running daemon: good ones serve, bad ones are refused by name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vwatch_tests::{Host, SOON, built, out_dir, until};

/// The example plugin, as a third party builds it: in its own workspace.
fn example() -> PathBuf {
    built("libvwatch_sysctl.so")
}

#[test]
fn a_dropped_plugin_serves_is_replaced_and_leaves_its_history() {
    let mut host = Host::recording();
    let dropped = Instant::now();
    host.drop_in(&example(), "example.so");
    let listed = until("the plugin is loaded", SOON, || {
        host.plugin("example.so").filter(|p| p["state"] == "loaded")
    });
    let table = listed["tables"][0].as_str().expect("it brings a table").to_owned();
    let sql = format!("SELECT * FROM {table}");
    until("its table can be queried", SOON, || {
        let answer = host.query(&sql, &[]);
        (answer.code == 0 && !answer.out.is_empty()).then_some(())
    });
    let took = dropped.elapsed();
    eprintln!("from drop to the first row: {took:?}");

    // The same plugin again, its bytes changed where nothing reads them.
    let changed = host.dir().join("changed.so");
    let mut bytes = fs::read(example()).unwrap();
    bytes.extend_from_slice(b"a later build");
    fs::write(&changed, bytes).unwrap();
    host.drop_in(&changed, "example.so");
    host.wait_for_rows("SELECT * FROM plugin_event WHERE event = 'replaced'");
    host.wait_for_rows(&sql);

    fs::remove_file(host.plugins().join("example.so")).unwrap();
    host.wait_for_rows("SELECT * FROM plugin_event WHERE event = 'removed'");
    until("its instances stop", SOON, || {
        let list = host.ctl(&["probe", "list", "--output", "jsonl"]).whole();
        let of_it = |i: &serde_json::Value| i["tables"][0] == table.as_str();
        list.iter().all(|i| !of_it(i) || i["state"] == "waiting").then_some(())
    });
    assert!(
        !host.rows(&format!("SELECT * FROM {table}_history")).is_empty(),
        "its history stays"
    );
    assert!(host.is_running());
}

#[test]
fn every_bad_file_is_refused_with_its_reason() {
    let mut host = Host::recording();
    let dir = host.plugins();
    let good = fs::read(out_dir().join("libvwatch_cpu.so")).unwrap();
    let libc = [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/libc.so.6",
        "/lib64/libc.so.6",
        "/lib/aarch64-linux-gnu/libc.so.6",
    ]
    .into_iter()
    .find(|p| fs::exists(p).unwrap_or(false))
    .expect("a C library");
    let garbage: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("garbage.so", garbage),
        ("text.so", b"#!/bin/sh\necho no plugin\n".to_vec()),
        ("empty.so", Vec::new()),
        ("half.so", good[..good.len() / 2].to_vec()),
        ("head.so", good[..64].to_vec()),
        ("foreign.so", fs::read(libc).unwrap()),
        ("writable.so", good.clone()),
    ];
    for (name, bytes) in &files {
        let path = dir.join(format!(".{name}"));
        fs::write(&path, bytes).unwrap();
        let mode = if *name == "writable.so" { 0o666 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(path, dir.join(name)).unwrap();
    }
    for (name, _) in &files {
        let listed = until(&format!("{name} is refused"), SOON, || {
            host.plugin(name).filter(|p| p["state"] == "refused")
        });
        assert!(listed["reason"].as_str().is_some_and(|r| r.len() > 10), "{listed}");
        assert!(listed["hint"].as_str().is_some_and(|h| h.len() > 5), "{listed}");
    }
    assert!(host.is_running());
    let rows = host.wait_for_rows("SELECT file, message FROM plugin_event WHERE event = 'refused'");
    assert!(rows.iter().all(|r| r["message"].is_string()));

    // A mended file is loaded without being touched again.
    fs::remove_file(dir.join("cpu.so")).unwrap();
    until("cpu.so is gone", SOON, || {
        host.plugin("cpu.so")
            .is_none_or(|p| p["state"] != "loaded")
            .then_some(())
    });
    fs::set_permissions(dir.join("writable.so"), fs::Permissions::from_mode(0o644)).unwrap();
    until("the mended file is loaded", SOON, || {
        host.plugin("writable.so").filter(|p| p["state"] == "loaded")
    });
}

#[test]
fn a_misbehaving_probe_harms_nobody_else() {
    let mut host = Host::new();
    host.drop_in(&built("libvwatch_behaviours.so"), "behaviours.so");
    let config = host.dir().join("vwatchd.conf");
    fs::write(&config, "[scheduler]\nrun-limit = \"2s\"\n").unwrap();
    host.flags = vec!["--config".into(), config.to_str().unwrap().into()];
    host.start();
    until("the plugin is loaded", SOON, || {
        host.plugin("behaviours.so").filter(|p| p["state"] == "loaded")
    });
    let plugin = host.plugin("behaviours.so").unwrap()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    for probe in ["beh_panic", "beh_hang", "beh_fail", "beh_unsupported", "beh_denied"] {
        let answer = host.ctl(&[
            "probe",
            "add",
            &format!("{plugin}.{probe}"),
            "every=200ms",
            &format!("name={probe}"),
        ]);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    for (name, state) in [
        ("beh_panic", "quarantined"),
        ("beh_hang", "quarantined"),
        ("beh_fail", "backoff"),
        ("beh_unsupported", "unsupported"),
        ("beh_denied", "denied"),
    ] {
        let seen = until(&format!("{name} is {state}"), SOON, || {
            host.instance(name).filter(|i| i["state"] == state)
        });
        assert!(seen["reason"].as_str().is_some_and(|r| !r.is_empty()), "{seen}");
    }
    // The others go on: samples of the last seconds are there, each second.
    let from = Instant::now();
    let count = || {
        host.rows("SELECT count(DISTINCT time) AS n FROM load_history")[0]["n"]
            .as_i64()
            .unwrap()
    };
    let before = count();
    until("the others go on", SOON, || (count() >= before + 3).then_some(()));
    assert!(from.elapsed() < Duration::from_secs(15));
    assert_eq!(host.stop(), Some(0), "a hung probe does not hold up the end");
}
