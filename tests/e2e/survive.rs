//! `kill -9`, restart, full disk, minute boundaries: what was committed is there, what is missing says so.

use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::process::Command;
use vwatch_tests::host::query_file;
use vwatch_tests::{Host, LONG, SOON, until};

const SAMPLES: &str = "SELECT time, load_1m, tasks_total FROM load_history ORDER BY time";

fn samples(host: &Host) -> BTreeMap<String, String> {
    let rows = host.rows(SAMPLES);
    rows.iter()
        .map(|r| (r["time"].as_str().unwrap().to_owned(), r.to_string()))
        .collect()
}

#[test]
fn kill_9_loses_nothing_and_leaves_a_gap() {
    let mut host = Host::recording();
    let mut kept = BTreeMap::new();
    for round in 0..4 {
        let enough = kept.len() + 3;
        until("samples", SOON, || (samples(&host).len() >= enough).then_some(()));
        kept = samples(&host);
        host.kill();
        let gap_began = epoch();
        until("two seconds pass", SOON, || (epoch() > gap_began + 2.2).then_some(()));
        host.start();
        let now = samples(&host);
        for (time, row) in &kept {
            assert_eq!(now.get(time), Some(row), "round {round}: the sample of {time} changed");
        }
        let inside = format!("@{:.3}", gap_began + 1.2);
        let answer = host.query("SELECT pid FROM process", &["--at", &inside]);
        assert_eq!(answer.code, 4, "{answer:?}");
        assert!(answer.out.trim().is_empty(), "{answer:?}");
        assert!(answer.err.contains("kill"), "the reason is said: {answer:?}");
        let gaps = host.wait_for_rows("SELECT * FROM gap WHERE cause = 'killed'");
        assert_eq!(gaps.len(), round + 1, "{gaps:?}");
    }
}

#[test]
fn a_clean_stop_is_a_gap_of_its_own_kind() {
    let mut host = Host::recording();
    assert_eq!(host.stop(), Some(0));
    let copy = host.dir().join("copy.db");
    std::fs::copy(&host.store, &copy).unwrap();
    let before = query_file(&copy, SAMPLES, &[]).whole();
    host.start();
    let gaps = host.wait_for_rows("SELECT * FROM gap WHERE cause = 'stopped'");
    assert_eq!(gaps.len(), 1);
    let after = host.rows(SAMPLES);
    assert_eq!(&after[..before.len()], &before[..]);
}

#[test]
fn a_minute_is_sealed_without_a_seam() {
    let host = Host::recording();
    let began = epoch();
    let minute = ((began / 60.0).floor() + 1.0) * 60.0;
    until("the minute has ended", LONG, || (epoch() > minute + 3.0).then_some(()));
    let rows = host.rows("SELECT time FROM load_history ORDER BY time");
    let mut times: Vec<&str> = rows.iter().map(|r| r["time"].as_str().unwrap()).collect();
    let all = times.len();
    times.dedup();
    assert_eq!(times.len(), all, "each sample once");
    let missed = host
        .rows("SELECT coalesce(sum(lost), 0) AS n FROM gap WHERE cause = 'missed_tick' AND probe_instance = 'os.load'");
    let expected = (epoch() - began) as usize;
    let missed = missed[0]["n"].as_i64().unwrap() as usize;
    assert!(
        all + missed + 3 >= expected,
        "{all} samples and {missed} missed ticks in {expected} seconds"
    );
}

#[test]
fn a_full_disk_pauses_the_recording() {
    if !vwatch_tests::is_root_or_skip("a_full_disk_pauses_the_recording") {
        return;
    }
    let mut host = Host::new();
    let disk = host.dir().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m", "none"])
        .arg(&disk)
        .status()
        .unwrap();
    if !mounted.success() {
        eprintln!("skipped: a_full_disk_pauses_the_recording needs to mount a tmpfs");
        return;
    }
    let unmount = Unmount(disk.clone());
    host.store = disk.join("host.db");
    host.start();
    host.wait_for_rows("SELECT pid FROM process LIMIT 1");
    let filler = disk.join("filler");
    let full = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", filler.display()))
        .output()
        .unwrap();
    assert!(!full.status.success(), "the disk is full");
    let paused = || {
        let status = host.ctl(&["status", "--output", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status.out).ok()?;
        let status = if status.is_array() { status[0].clone() } else { status };
        status["store"]["paused"].as_str().map(str::to_owned)
    };
    let why = until("recording pauses", LONG, paused);
    assert!(why.contains("full") || why.contains("space"), "{why}");
    let before = host.rows("SELECT count(*) AS n FROM load_history")[0]["n"]
        .as_i64()
        .unwrap();
    std::fs::remove_file(filler).unwrap();
    until("recording resumes", SOON, || paused().is_none().then_some(()));
    host.wait_for_rows("SELECT * FROM gap WHERE cause = 'disk_full'");
    until("samples come again", SOON, || {
        (host.rows("SELECT count(*) AS n FROM load_history")[0]["n"]
            .as_i64()
            .unwrap()
            > before)
            .then_some(())
    });
    assert!(host.is_running());
    assert_eq!(host.stop(), Some(0));
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_hangup_reads_the_configuration_again() {
    let mut host = Host::new();
    let config = host.dir().join("vwatchd.conf");
    std::fs::write(&config, "").unwrap();
    host.flags = vec!["--config".into(), config.to_str().unwrap().into()];
    host.start();
    std::fs::write(
        &config,
        "[[instance]]\nprobe = \"os.load\"\nname = \"often\"\nevery = \"500ms\"\n",
    )
    .unwrap();
    host.signal(Signal::SIGHUP);
    until("the new instance runs", SOON, || {
        host.instance("often").filter(|i| i["state"] == "running")
    });
    std::fs::write(&config, "[[instance]]\nprobee = \"os.load\"\n").unwrap();
    host.signal(Signal::SIGHUP);
    until("the error is said", SOON, || {
        host.log().contains("needs the key \"probe\"").then_some(())
    });
    assert!(host.instance("often").is_some(), "the last good configuration stays");
}

fn epoch() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}
