//! Recording a host and asking what it was: answers against `ps`, `/proc` and the programs' own ends.

use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use vwatch_tests::host::query_file;
use vwatch_tests::{Host, SOON, now, program, until};

fn ps(pid: u32, field: &str) -> String {
    let out = Command::new("ps")
        .args(["-o", &format!("{field}="), "-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_process_is_what_ps_says() {
    let host = Host::recording();
    let child = program::start(host.dir(), "vw-agrees", "read line");
    let pid = child.id();
    let sql = format!("SELECT * FROM process WHERE pid = {pid} AND comm = 'vw-agrees'");
    let row = host.wait_for_rows(&sql).remove(0);
    assert_eq!(row["comm"], ps(pid, "comm"));
    assert_eq!(row["ppid"].to_string(), ps(pid, "ppid"));
    assert_eq!(row["uid"].to_string(), ps(pid, "uid"));
    assert_eq!(row["nice"].to_string(), ps(pid, "ni"));
    assert_eq!(row["num_threads"].to_string(), ps(pid, "nlwp"));
    assert_eq!(row["state"], ps(pid, "s"));
    assert_eq!((row["rss_bytes"].as_i64().unwrap() / 1024).to_string(), ps(pid, "rss"));
    assert_eq!(
        (row["vsize_bytes"].as_i64().unwrap() / 1024).to_string(),
        ps(pid, "vsz")
    );
    assert!(
        row["cmdline"].as_str().unwrap().ends_with("vw-agrees -c 'read line'"),
        "{row}"
    );
    assert_eq!(row["exe"], host.dir().join("vw-agrees").to_str().unwrap());
    assert_eq!(program::release(child), Some(1));
}

#[test]
fn every_process_of_ps_is_there() {
    let host = Host::recording();
    // Compared at one moment: what lived before and after the sample must be in it.
    let listed = || -> Vec<i64> {
        let out = Command::new("ps").args(["-e", "-o", "pid="]).output().unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .split_whitespace()
            .map(|p| p.parse().unwrap())
            .collect()
    };
    let before = listed();
    let since = now();
    let found = host.wait_for_rows(&format!("SELECT pid FROM process WHERE time > '{since}'"));
    let after = listed();
    let found: Vec<i64> = found.iter().map(|r| r["pid"].as_i64().unwrap()).collect();
    let missing: Vec<i64> = before
        .iter()
        .filter(|p| after.contains(p) && !found.contains(p))
        .copied()
        .collect();
    assert!(missing.is_empty(), "{missing:?} are missing");
}

#[test]
fn a_past_moment_has_the_process_and_a_later_one_has_not() {
    let host = Host::recording();
    let child = program::start(host.dir(), "vw-lived", "read line; exit 7");
    let pid = child.id();
    let of_it = "SELECT pid FROM process WHERE comm = 'vw-lived'";
    host.wait_for_rows(of_it);
    let alive = now();
    assert_eq!(program::release(child), Some(7));
    until("it is gone", SOON, || host.rows(of_it).is_empty().then_some(()));
    let gone = now();

    let then = host.query(of_it, &["--at", &alive]).whole();
    assert_eq!(then.len(), 1, "{then:?}");
    assert_eq!(then[0]["pid"], pid);
    assert!(host.query(of_it, &["--at", &gone]).whole().is_empty());

    let as_of = format!("SELECT pid FROM process FOR SYSTEM_TIME AS OF '{alive}' WHERE comm = 'vw-lived'");
    assert_eq!(host.rows(&as_of).len(), 1);
    if nix::unistd::geteuid().is_root() {
        let sql = format!("SELECT * FROM process_exit WHERE pid = {pid} AND comm = 'vw-lived'");
        let exit = host.wait_for_rows(&sql).remove(0);
        assert_eq!(exit["exit_code"], 7, "{exit}");
        assert_eq!(exit["exit_signal"], Value::Null, "{exit}");
    }
}

#[test]
fn a_killed_process_has_its_signal() {
    if !vwatch_tests::is_root_or_skip("a_killed_process_has_its_signal") {
        return;
    }
    let host = Host::recording();
    host.wait_for_rows("SELECT 1 AS x FROM vw_tables WHERE name = 'process_exit'");
    let mut child = program::start(host.dir(), "vw-killed", "read line");
    child.kill().unwrap();
    child.wait().unwrap();
    let exit = host
        .wait_for_rows(&format!("SELECT * FROM process_exit WHERE pid = {}", child.id()))
        .remove(0);
    assert_eq!(exit["exit_code"], Value::Null, "{exit}");
    assert_eq!(exit["exit_signal"], 9, "{exit}");
}

#[test]
fn an_instance_comes_works_and_goes() {
    let mut host = Host::recording();
    let add = ["probe", "add", "process.process", "every=250ms", "name=fast"];
    assert_eq!(host.ctl(&add).code, 0);
    let listed = host.instance("fast").expect("it is listed");
    assert_eq!(listed["probe"], "process.process");
    assert_eq!(listed["every_ms"], 250);
    let again = host.ctl(&add);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("fast"), "{again:?}");

    // Three or four samples a second arrive under its own name; the unnamed table goes on at its own pace.
    let per_second = "SELECT max(n) AS n FROM (SELECT date_trunc('second', time) AS s, count(DISTINCT time) AS n \
                      FROM process_history WHERE instance = 'fast' GROUP BY 1)";
    until("samples each 250 ms", SOON, || {
        host.query(per_second, &[])
            .whole()
            .first()
            .filter(|r| r["n"].as_i64() >= Some(3))
            .map(|_| ())
    });
    let other = host.rows("SELECT DISTINCT instance FROM process");
    assert_eq!(other.len(), 1);
    assert_eq!(other[0]["instance"], "process.process");

    assert_eq!(host.stop(), Some(0));
    host.start();
    assert!(host.instance("fast").is_some(), "instances added at run time come back");
    host.wait_for_rows("SELECT pid FROM process WHERE instance = 'fast' LIMIT 1");

    assert_eq!(host.ctl(&["probe", "remove", "fast"]).code, 0);
    assert!(host.instance("fast").is_none());
    assert_eq!(host.ctl(&["probe", "remove", "fast"]).code, 1);
    assert_eq!(host.stop(), Some(0));
    host.start();
    assert!(host.instance("fast").is_none(), "a removed instance stays removed");
    let history = host.rows("SELECT count(*) AS n FROM process_history WHERE instance = 'fast'");
    assert!(history[0]["n"].as_i64() > Some(0), "its history stays");
}

#[test]
fn figures_agree_with_proc() {
    let host = Host::recording();
    let load = host.wait_for_rows("SELECT * FROM load").remove(0);
    for column in ["load_1m", "load_5m", "load_15m"] {
        assert!(load[column].is_number(), "{load}");
    }
    let memory = host.wait_for_rows("SELECT * FROM memory").remove(0);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: i64 = meminfo
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(memory["mem_total_bytes"].as_i64(), Some(total * 1024), "{memory}");

    let cpus = host.wait_for_rows("SELECT cpu FROM cpu_time WHERE cpu <> 'total'");
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let online = stat
        .lines()
        .filter(|l| l.starts_with("cpu") && !l.starts_with("cpu "))
        .count();
    assert_eq!(cpus.len(), online);

    let row = host
        .wait_for_rows("SELECT hostname, kernel_release FROM host")
        .remove(0);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(row["kernel_release"], release.trim());
    let mounts = host.wait_for_rows("SELECT target FROM mount");
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.len(), mountinfo.lines().count());
}

#[test]
fn a_counter_read_twice_grows_by_what_was_done() {
    let host = Host::recording();
    let child = program::start(
        host.dir(),
        "vw-burns",
        "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; read line",
    );
    let pid = child.id();
    let ticks = || -> i64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        (fields[11].parse::<i64>().unwrap() + fields[12].parse::<i64>().unwrap()) * 10_000_000
    };
    until("it waits for its input", SOON, || (ps(pid, "s") == "S").then_some(()));
    let burnt = ticks();
    assert!(burnt > 0);
    let sql = format!("SELECT utime_ns + stime_ns AS cpu FROM process WHERE pid = {pid} AND comm = 'vw-burns'");
    until("the record has its CPU time", SOON, || {
        let rows = host.rows(&sql);
        rows.first().filter(|r| r["cpu"].as_i64() == Some(burnt)).map(|_| ())
    });
    program::release(child);
}

#[test]
fn outputs_hold_the_same_rows() {
    let host = Host::recording();
    let sql = "SELECT 1 AS one, 'a,b' AS word, CAST(NULL AS INT) AS nothing";
    let out = |format: &str| host.ctl(&["query", sql, "--output", format]);
    assert_eq!(out("jsonl").out.trim(), r#"{"one":1,"word":"a,b","nothing":null}"#);
    assert_eq!(out("csv").out, "one,word,nothing\n1,\"a,b\",\n");
    let json: Value = serde_json::from_str(&out("json").out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert!(out("table").out.contains("a,b"));
}

#[test]
fn a_copy_answers_as_the_host_did() {
    let mut host = Host::recording();
    let stop_after = "SELECT count(DISTINCT time) AS n FROM load_history";
    until("some samples", SOON, || {
        (host.rows(stop_after)[0]["n"].as_i64() >= Some(4)).then_some(())
    });
    let at = now();
    // A sample of before that moment may not be committed yet; once a later one is, the answer stands.
    host.wait_for_rows(&format!("SELECT pid FROM process_history WHERE time > '{at}' LIMIT 1"));
    let sql = "SELECT pid, comm, ppid, start_time FROM process ORDER BY pid";
    let live = host.query(sql, &["--at", &at]).whole();
    assert!(!live.is_empty());
    assert_eq!(host.stop(), Some(0));
    let copy = host.dir().join("copy.db");
    std::fs::copy(&host.store, &copy).unwrap();
    assert_eq!(query_file(&copy, sql, &["--at", &at]).whole(), live);
    // With no daemon, now is the last commit, and what is relative to now is relative to that.
    let ended = Instant::now();
    until("the last picture has expired by the wall clock", SOON, || {
        (ended.elapsed() > Duration::from_secs(4)).then_some(())
    });
    let last = query_file(&copy, sql, &[]).whole();
    assert!(!last.is_empty());
    assert_eq!(query_file(&copy, sql, &["--at", "now"]).whole(), last);
    assert!(!query_file(&copy, sql, &["--at", "-1s"]).whole().is_empty());
}
