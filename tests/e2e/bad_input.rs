//! Wrong configuration, sockets, stores, SQL and names: a clear error that names the thing, and nothing harmed.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Output;
use vwatch_tests::host::query_file;
use vwatch_tests::{Host, SOON, until};

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn a_wrong_configuration_is_named_by_file_line_and_nearest_key() {
    let host = Host::bare();
    let config = host.dir().join("vwatchd.conf");
    let check = |text: &str| {
        fs::write(&config, text).unwrap();
        let output = host
            .vwatchd()
            .arg("--config")
            .arg(&config)
            .arg("--check")
            .output()
            .unwrap();
        (output.status.code(), words(&output))
    };
    let (code, said) = check("# comment\nstoer = \"/x\"\n");
    assert_ne!(code, Some(0));
    for part in ["vwatchd.conf", "2", "stoer", "store"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let (code, said) = check("store = 5\n");
    assert_ne!(code, Some(0));
    assert!(said.contains("store") || said.contains("string"), "{said}");
    let (code, said) = check("store = \"unfinished\n");
    assert_ne!(code, Some(0));
    assert!(said.contains("vwatchd.conf"), "{said}");
}

#[test]
fn an_absent_plugins_directory_is_said() {
    let mut host = Host::bare();
    fs::remove_dir(host.plugins()).unwrap();
    let check = host.vwatchd().arg("--check").output().unwrap();
    assert!(words(&check).contains("plugins"), "{}", words(&check));
    host.start();
    assert!(host.log().contains("plugins"), "{}", host.log());
    assert!(host.is_running());
}

#[test]
fn another_programs_file_is_refused_untouched() {
    let host = Host::bare();
    let file = &host.store;
    for content in ["SQLite format 3\0 and so on", "just text\n"] {
        let bytes = content.repeat(500);
        fs::write(file, &bytes).unwrap();
        let output = host.vwatchd().output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert!(words(&output).contains(file.to_str().unwrap()), "{}", words(&output));
        assert_eq!(fs::read_to_string(file).unwrap(), bytes, "it is as it was");
        let asked = query_file(file, "SELECT 1", &[]);
        assert_eq!(asked.code, 1, "{asked:?}");
        assert!(asked.err.contains("host.db"), "{asked:?}");
    }
}

#[test]
fn a_second_daemon_is_refused_and_a_dead_ones_socket_taken_over() {
    let mut host = Host::recording();
    let second = host.vwatchd().output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", words(&second));
    assert!(words(&second).contains(&host.pid().to_string()), "{}", words(&second));
    // Another store, the same socket.
    let other = host.dir().join("other.db");
    let held = std::mem::replace(&mut host.store, other);
    let other = host.vwatchd().output().unwrap();
    assert_eq!(other.status.code(), Some(1), "{}", words(&other));
    assert!(words(&other).contains(&host.pid().to_string()), "{}", words(&other));
    host.store = held;
    host.kill();
    assert!(host.socket().exists(), "a killed daemon leaves its socket");
    host.start();
    assert!(host.is_running());
}

#[test]
fn somebody_elses_socket_is_not_taken() {
    let host = Host::bare();
    fs::create_dir_all(host.socket().parent().unwrap()).unwrap();
    let _held = UnixListener::bind(host.socket()).unwrap();
    let output = host.vwatchd().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("control.sock"), "{}", words(&output));
}

#[test]
fn sql_errors_point_at_the_place_and_the_nearest_name() {
    let host = Host::recording();
    let answer = host.query("SELECT pid FROM proces", &[]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("process"), "{answer:?}");
    assert!(answer.err.contains('^'), "{answer:?}");
    let answer = host.query("SELECT rss_byte FROM process", &[]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(
        answer.err.contains("rss_bytes") && answer.err.contains('^'),
        "{answer:?}"
    );
    let answer = host.query("SELECT pid FRM process WHERE", &[]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains('^'), "{answer:?}");
    let answer = host.query("DROP TABLE process", &[]);
    assert_eq!(answer.code, 1, "{answer:?}");
    let answer = host.query("SELECT * FROM process VERSION AS OF 3", &[]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert_eq!(host.query("SELECT 1", &["--at", "soonish"]).code, 2);
}

#[test]
fn before_the_first_record_is_said() {
    let host = Host::recording();
    let answer = host.query("SELECT pid FROM process", &["--at", "-2d"]);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.out.trim().is_empty());
    assert!(answer.err.contains("began"), "{answer:?}");
}

#[test]
fn unknown_probes_options_and_plugins_are_named_with_the_nearest() {
    let host = Host::recording();
    let answer = host.ctl(&["probe", "add", "process.proces"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("process.process"), "{answer:?}");
    let answer = host.ctl(&["probe", "add", "process.process", "evry=1s", "name=x"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("every"), "{answer:?}");
    let answer = host.ctl(&["probe", "add", "process.process", "every=fast", "name=x"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("fast"), "{answer:?}");
    assert_eq!(host.ctl(&["plugin", "load", "/nowhere/x.so"]).code, 1);
    assert_eq!(host.ctl(&["plugin", "unload", "nosuch"]).code, 1);
    assert_eq!(host.ctl(&["no-such-command"]).code, 2);
}

#[test]
fn no_daemon_is_exit_3() {
    let host = Host::bare();
    for args in [vec!["status"], vec!["probe", "list"], vec!["query", "SELECT 1"]] {
        let answer = host.ctl(&args);
        assert_eq!(answer.code, 3, "{args:?}: {answer:?}");
        assert!(
            answer.err.contains("control.sock") || answer.err.contains("query.sock"),
            "{answer:?}"
        );
    }
}

#[test]
fn the_control_socket_speaks_http_and_says_what_it_offers() {
    let mut host = Host::recording();
    let curl = |args: &[&str]| {
        let output = std::process::Command::new("curl")
            .arg("-s")
            .arg("--unix-socket")
            .arg(host.socket())
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let openapi: serde_json::Value = serde_json::from_str(&curl(&["http://vwatchd/v1/openapi.json"])).unwrap();
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3."));
    for path in ["/v1/status", "/v1/plugins", "/v1/probes", "/v1/probes/available"] {
        assert!(openapi["paths"][path]["get"].is_object(), "{path} is described");
        let body: serde_json::Value = serde_json::from_str(&curl(&[&format!("http://vwatchd{path}")])).unwrap();
        assert!(body.is_object(), "{path}");
    }
    let error: serde_json::Value = serde_json::from_str(&curl(&["http://vwatchd/v1/nothing"])).unwrap();
    assert_eq!(error["kind"], "not_found");
    let bad = curl(&[
        "-X",
        "POST",
        "-H",
        "content-type: application/json",
        "-d",
        "{nonsense",
        "http://vwatchd/v1/probes",
    ]);
    let bad: serde_json::Value = serde_json::from_str(&bad).unwrap();
    assert_eq!(bad["kind"], "bad_input");
    // Bytes that are no HTTP at all.
    use std::io::Write;
    let mut raw = std::os::unix::net::UnixStream::connect(host.socket()).unwrap();
    let _ = raw.write_all(&[0xff; 70_000]);
    drop(raw);
    assert!(host.is_running());
    until("each change is in the audit", SOON, || {
        let _ = host.ctl(&["probe", "add", "os.load", "name=audited"]);
        let rows = host.rows("SELECT uid, pid, action, target FROM control_event WHERE action = 'probe_add'");
        rows.first()
            .filter(|r| r["uid"].as_u64() == Some(u64::from(nix::unistd::geteuid().as_raw())))
            .map(|_| ())
    });
}
