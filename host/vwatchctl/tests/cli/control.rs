//! status, plugin, probe, and the commands of plugins.

use crate::fake::{Daemon, run, vwatchctl};

const STATUS: &str = r#"{"version":"0.1.0","pid":7,"uid":0,"started_ns":1714559400000000000,
 "store":{"path":"/vwatchd.db","file_bytes":1572864,"first_ns":1714559400000000000,"last_ns":null,"commits":3,"paused":"the disk is full"},
 "plugins_dir":"/p","config_file":null,"control_socket":"/c","query_socket":"/q","plugins_loaded":4,"plugins_refused":1,
 "instances":20,"instances_troubled":2,"cpu_ns":1500000000,"rss_bytes":20971520,"notes":["vwatch-query is missing"]}"#;

const INSTANCE: &str = r#"{"name":"fast","probe":"process.process","state":"denied","reason":"needs CAP_BPF","every_ms":250,
 "until_ns":null,"max_cpu":0.01,"options":{"threads":true},"tables":["process"],"origin":"added","runs":12,"failures":1,"missed":2,
 "rows":340,"cpu_us_per_run":1420.5,"last_run_ns":1714559400000000000,"last_rows":30}"#;

fn plugin(state: &str, reason: &str) -> String {
    format!(
        r#"{{"plugins":[{{"file":"/p/x.so","name":"","version":"","doc":"","state":"{state}","reason":{reason},"hint":"rebuild it",
        "probes":[],"tables":[],"since_ns":1714559400000000000}}]}}"#
    )
}

#[test]
fn status_is_text_for_people_and_the_document_for_programs() {
    let daemon = Daemon::default().control("GET /v1/status", 200, STATUS).start();
    let shown = daemon.run(&["status", "-o", "table"]).exits(0).out;
    for line in [
        "state     PAUSED: the disk is full\n",
        "vwatchd   0.1.0, pid 7, uid 0\n",
        "store     /vwatchd.db (1.5 MiB)\n",
        "plugins   4 loaded, 1 refused (vwatchctl plugin list says why) from /p\n",
        "note      vwatch-query is missing\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    assert!(shown.contains("started   2024-05-01T12:30:00.000+02:00 ("), "{shown}");
    let json = daemon.run(&["status"]).exits(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::from_str::<serde_json::Value>(STATUS).unwrap());
    let csv = daemon.run(&["status", "-o", "csv"]).exits(0).out;
    assert!(csv.contains(",2024-05-01T12:30:00+02:00,/vwatchd.db,1572864,"), "{csv}");
}

#[test]
fn instances_are_listed_with_their_reason() {
    let list = format!("{{\"instances\":[{INSTANCE}]}}");
    let daemon = Daemon::default()
        .control("GET /v1/probes", 200, &list)
        .control("GET /v1/probes/fast", 200, INSTANCE)
        .control("POST /v1/probes", 200, INSTANCE)
        .control("DELETE /v1/probes/fast", 200, INSTANCE)
        .start();
    let shown = daemon.run(&["probe", "list", "-o", "table"]).exits(0).out;
    assert_eq!(
        shown,
        "name  probe            state   every  runs  missed  rows  cpu/run  reason\n\
         fast  process.process  denied  250ms    12       2   340  1.4 ms   needs CAP_BPF\n"
    );
    let csv = daemon.run(&["probe", "list", "-o", "csv"]).exits(0).out;
    assert!(
        csv.ends_with("fast,process.process,denied,250,12,2,340,1420.5,needs CAP_BPF\n"),
        "{csv}"
    );
    let shown = daemon.run(&["probe", "show", "fast", "-o", "table"]).exits(0).out;
    assert!(
        shown.contains("options    threads=true\n") && shown.contains("max_cpu    1%\n"),
        "{shown}"
    );
    let added = daemon
        .run(&["probe", "add", "process.process", "every=250ms", "name=fast"])
        .exits(0);
    assert_eq!(
        added.err,
        "added fast (process.process, every 250ms): denied: needs CAP_BPF\n"
    );
    assert!(serde_json::from_str::<serde_json::Value>(&added.out).is_ok());
    let removed = daemon.run(&["probe", "remove", "fast", "-o", "table"]).exits(0);
    assert_eq!(
        (removed.out.as_str(), removed.err.as_str()),
        ("", "removed fast (process.process, every 250ms)\n")
    );
    let sent = r#"POST /v1/probes {"probe":"process.process","settings":{"every":"250ms","name":"fast"}}"#;
    assert!(daemon.requests().iter().any(|r| r == sent), "{:?}", daemon.requests());
    daemon.run(&["probe", "add", "a.b", "every=1s", "every=2s"]).exits(2);
}

#[test]
fn probes_that_can_be_added_come_with_their_options() {
    let list = r#"{"probes":[{"probe":"os.load","doc":"Load averages.","tables":["load"],"mode":"poll","every_ms":1000,"default_on":true,
        "options":[{"name":"deep","type":"bool","doc":"More of it.","default":false,"required":false}]}]}"#;
    let daemon = Daemon::default().control("GET /v1/probes/available", 200, list).start();
    let shown = daemon
        .run(&["probe", "list", "--available", "-o", "table"])
        .exits(0)
        .out;
    assert_eq!(
        shown,
        "os.load  (poll, every 1s, on by default)\n    Load averages.\n    tables: load\n    deep  More of it. (bool, default false)\n"
    );
}

#[test]
fn a_refused_plugin_is_listed_and_its_load_fails() {
    let refused = plugin("refused", r#""truncated""#);
    let daemon = Daemon::default()
        .control("GET /v1/plugins", 200, &refused)
        .control("POST /v1/plugins/load", 200, &refused)
        .start();
    let shown = daemon.run(&["plugin", "list", "-o", "table"]).exits(0).out;
    assert!(
        shown.contains("  x.so          /p/x.so: truncated; rebuild it\n"),
        "{shown}"
    );
    let load = daemon.run(&["plugin", "load", "x.so", "-o", "table"]).exits(1);
    assert_eq!(load.err, "error: /p/x.so was refused: truncated\nhint: rebuild it\n");
    // The daemon has another working directory.
    let here = std::env::current_dir().unwrap().join("x.so");
    let sent = format!("POST /v1/plugins/load {{\"plugin\":\"{}\"}}", here.display());
    assert!(daemon.requests().contains(&sent), "{:?}", daemon.requests());
}

#[test]
fn words_go_to_the_plugins() {
    let answer = r#"{"columns":[{"name":"alert","type":"string"},{"name":"since","type":"timestamp"}],
        "rows":[{"alert":"load","since":1714559400000000000}],"notes":["1 alert"]}"#;
    let daemon = Daemon::default().control("POST /v1/commands", 200, answer).start();
    let shown = daemon
        .run(&["-o", "csv", "add", "alert", "load", "--for", "5m"])
        .exits(0);
    assert_eq!(shown.out, "alert,since\nload,2024-05-01T12:30:00+02:00\n");
    assert_eq!(shown.err, "1 alert\n");
    daemon.run(&["show", "silences", "of", "today"]).exits(0);
    daemon.run(&["command", "x"]).exits(0);
    assert_eq!(
        daemon.requests(),
        [
            r#"POST /v1/commands {"words":["add","alert","load","--for","5m"]}"#,
            r#"POST /v1/commands {"words":["show","silences","of","today"]}"#,
            r#"POST /v1/commands {"words":["x"]}"#,
        ]
    );
}

#[test]
fn an_unknown_command_and_a_wrong_one_fail() {
    let daemon = Daemon::default().start();
    let none = daemon.run(&["ack", "load"]).exits(1).err;
    assert!(
        none.starts_with("error: no loaded plugin offers it\nhint: vwatchctl plugin list"),
        "{none}"
    );
    let wrong = r#"{"kind":"bad_input","message":"not a number","position":17}"#;
    let daemon = Daemon::default().control("POST /v1/commands", 400, wrong).start();
    let wrong = daemon.run(&["add", "alert", "load_1m > x"]).exits(1).err;
    assert_eq!(
        wrong,
        "error: not a number\n  add alert load_1m > x\n                   ^\n"
    );
}

#[test]
fn nobody_there_is_exit_3_with_the_paths_tried() {
    let mut command = vwatchctl(&["status"]);
    command.env("XDG_RUNTIME_DIR", "/nonexistent/run");
    let ended = run(command, "").exits(3);
    assert!(
        ended.err.contains("/control.sock: there is no such socket"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("hint: is vwatchd running?"), "{}", ended.err);
    for args in [
        &["query", "SELECT 1"][..],
        &["tables"],
        &["console"],
        &["show", "process"],
        &["ack", "x"],
    ] {
        run(
            vwatchctl(&[&["--socket", "/nonexistent/control.sock"], args].concat()),
            "SELECT 1;\n",
        )
        .exits(3);
    }
}

#[test]
fn a_mistake_on_the_command_line_is_exit_2() {
    for args in [
        &["frobnicate"][..],
        &["query", "SELECT 1", "--at", "soon"],
        &["status", "-o", "xml"],
        &["--socket", "a", "--store", "b", "tables"],
        &["show", "two", "words", "--limit", "3"],
        &["--store", "x.db", "status"],
    ] {
        let ended = run(vwatchctl(args), "").exits(2);
        assert!(
            ended.err.starts_with("error: ") && ended.out.is_empty(),
            "{args:?}: {}",
            ended.err
        );
    }
}
