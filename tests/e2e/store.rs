//! The store's file as a user handles it: copied while it is written, checked, compacted, damaged, exported and read by
//! another engine.

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;
use vwatch_tests::host::{ctl_file, query_file};
use vwatch_tests::{Host, LONG, until};

/// A host that has recorded into a new minute, so that its store has blocks; stopped. Answers a copy made while it ran.
fn recorded() -> (Host, PathBuf) {
    let mut host = Host::recording();
    until("blocks are sealed", LONG, || {
        let stats = host.ctl(&["store", "stats", "-o", "jsonl"]);
        let sealed = stats
            .rows()
            .iter()
            .any(|t| t["table_name"] == "process" && t["blocks"].as_u64() > Some(0));
        sealed.then_some(())
    });
    let copy = host.dir().join("copy.db");
    let copied = host.ctl(&["store", "copy", copy.to_str().unwrap()]);
    assert_eq!(copied.code, 0, "{copied:?}");
    host.stop();
    (host, copy)
}

/// The copy alone, recorded once for all tests that need no daemon, in a directory of the test's own.
fn a_copy() -> (TempDir, PathBuf) {
    static COPY: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = COPY.get_or_init(|| std::fs::read(recorded().1).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    std::fs::write(&copy, bytes).unwrap();
    (dir, copy)
}

fn ctl(store: &Path, args: &[&str]) -> vwatch_tests::Answer {
    ctl_file(store, args)
}

const SUMS: &str =
    "SELECT count(*) AS n, sum(rss_bytes) AS s, min(pid) AS lo, max(pid) AS hi, min(time) AS t FROM process_history";

#[test]
fn a_live_store_is_copied_and_a_stopped_one_compacted() {
    let (host, copy) = recorded();
    assert_eq!(std::fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
    let verified = ctl(&copy, &["store", "verify", "-o", "jsonl"]);
    assert_eq!((verified.code, verified.out.as_str()), (0, ""), "{verified:?}");
    assert!(verified.err.starts_with("sound: "), "{verified:?}");
    // Everything of it is in the original, which was recorded further.
    let last = query_file(
        &copy,
        "SELECT CAST(max(time) AS varchar) AS t FROM process_history",
        &[],
    )
    .whole();
    let last = last[0]["t"].as_str().unwrap();
    let of = |store: &Path| query_file(store, &format!("{SUMS} WHERE time <= '{last}'"), &[]).whole();
    assert_eq!(of(&copy), of(&host.store));
    // A file that is there is not overwritten.
    let again = ctl(&host.store, &["store", "copy", copy.to_str().unwrap()]);
    assert!(again.code == 1 && again.err.contains("exists already"), "{again:?}");
    let forced = ctl(
        &host.store,
        &["store", "copy", "--force", "--compact", copy.to_str().unwrap()],
    );
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(
        query_file(&copy, SUMS, &[]).whole(),
        query_file(&host.store, SUMS, &[]).whole()
    );
    let beside = std::fs::read_dir(host.dir()).unwrap().flatten();
    let parts = beside.filter(|e| e.file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
    compaction_keeps_everything(host);
}

fn compaction_keeps_everything(host: Host) {
    let before = query_file(&host.store, SUMS, &[]).whole();
    let old = std::fs::metadata(&host.store).unwrap();
    let compacted = ctl(&host.store, &["store", "compact"]);
    assert_eq!(compacted.code, 0, "{compacted:?}");
    let new = std::fs::metadata(&host.store).unwrap();
    assert!(new.len() <= old.len());
    assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));
    assert_eq!(query_file(&host.store, SUMS, &[]).whole(), before);
    // And it is recorded into again.
    let mut host = host;
    host.start();
    host.wait_for_rows("SELECT pid FROM process LIMIT 1");
    let refused = host.ctl(&["store", "compact"]);
    assert!(
        refused.code == 1 && refused.err.contains("store copy --compact"),
        "{refused:?}"
    );
    let held = ctl(&host.store, &["store", "compact"]);
    assert_eq!(held.code, 1, "{held:?}");
}

#[test]
fn a_damaged_block_is_named_and_the_rest_answers() {
    let (dir, copy) = a_copy();
    let sound = query_file(&copy, "SELECT count(*) AS n FROM process_history", &[]).whole();
    let sound = sound[0]["n"].as_u64().unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    let damaged = dir.path().join("damaged.db");
    let mut named = 0;
    // The middle of every page: where one belongs to a block of process, verify says so, and a scan goes on after it.
    for page in 2..bytes.len() / 4096 {
        std::fs::write(&damaged, &bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&damaged).unwrap();
        file.write_all_at(&[bytes[page * 4096 + 2048] ^ 0x55], page as u64 * 4096 + 2048)
            .unwrap();
        let verified = ctl(&damaged, &["store", "verify", "-o", "jsonl"]);
        let flaws = match verified.code {
            0 => continue,
            _ => verified.rows(),
        };
        let of_process = |f: &&Value| f["what"] == "block" && f["table_name"] == "process";
        let Some(flaw) = flaws.iter().find(of_process) else {
            continue;
        };
        named += 1;
        assert!(flaw["from_time"].is_string() && flaw["sequence"].is_u64(), "{flaw}");
        let answer = query_file(&damaged, "SELECT count(*) AS n FROM process_history", &[]);
        // count(*) may need no damaged column; all columns do.
        let all = query_file(&damaged, "SELECT * FROM process_history", &[]);
        assert_eq!(all.code, 4, "page {page}: {}", all.err);
        assert!(all.err.contains("block") && all.err.contains("process"), "{}", all.err);
        let rows = all.out.lines().count() as u64;
        assert!(rows > 0 && rows < sound, "page {page}: {rows} of {sound} rows");
        assert!(answer.code == 0 || answer.code == 4, "{answer:?}");
        let load = query_file(&damaged, "SELECT count(*) AS n FROM load_history", &[]);
        assert_eq!(load.code, 0, "{load:?}");
        let from = flaw["from_time"].as_str().unwrap();
        let at = query_file(&damaged, "SELECT * FROM process", &["--at", from]);
        assert!(at.code == 4 && at.out.is_empty(), "page {page}: {}", at.err);
        if named == 2 {
            break;
        }
    }
    assert!(named > 0, "no page of {} held a block of process", bytes.len() / 4096);
}

#[test]
fn pages_damaged_at_random_never_end_in_a_wrong_row_or_a_silent_death() {
    let (dir, copy) = a_copy();
    let bytes = std::fs::read(&copy).unwrap();
    let damaged = dir.path().join("damaged.db");
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for round in 0..40 {
        let mut changed = bytes.clone();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Half of them where LMDB keeps what it follows: the beginnings of pages.
            let at = (seed >> 20) as usize % changed.len();
            let at = if round % 2 == 0 { at } else { at / 4096 * 4096 + at % 32 };
            changed[at] ^= (seed as u8) | 1;
        }
        std::fs::write(&damaged, &changed).unwrap();
        for args in [
            &["store", "verify"][..],
            &["query", "SELECT count(*), sum(rss_bytes) FROM process_history"],
        ] {
            let answer = ctl(&damaged, args);
            let said = !answer.err.trim().is_empty();
            assert!((0..=4).contains(&answer.code), "round {round}: {answer:?}");
            assert!(answer.code == 0 || said, "round {round}: {answer:?}");
            assert!(!answer.err.contains("panicked"), "round {round}: {answer:?}");
        }
    }
}

/// A python with duckdb, from `VWATCH_DUCKDB_PYTHON` or made here from PyPI.
fn duckdb(dir: &Path, test: &str) -> Option<PathBuf> {
    let works = |python: &Path| {
        let tried = Command::new(python).args(["-c", "import duckdb"]).output();
        tried.is_ok_and(|out| out.status.success())
    };
    if let Some(python) = std::env::var_os("VWATCH_DUCKDB_PYTHON").map(PathBuf::from)
        && works(&python)
    {
        return Some(python);
    }
    let venv = dir.join("venv");
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output();
    let python = venv.join("bin/python");
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries",
        "1",
        "--timeout",
        "10",
        "duckdb",
    ];
    let installed = made.is_ok()
        && Command::new(&python)
            .args(install)
            .output()
            .is_ok_and(|o| o.status.success());
    if !installed || !works(&python) {
        eprintln!("skipped: {test} needs python3 with duckdb, and PyPI did not give it");
        return None;
    }
    Some(python)
}

const READ_BACK: &str = r#"
import duckdb, json, sys
place = sys.argv[1]
out = {}
for table, columns in json.loads(sys.argv[2]).items():
    source = f"read_parquet('{place}/{table}/**/*.parquet', hive_partitioning=true)"
    figures = ", ".join(f"count({c}), CAST(sum({c}) AS VARCHAR), CAST(min({c}) AS VARCHAR), CAST(max({c}) AS VARCHAR)" for c in columns)
    row = duckdb.sql(f"SELECT count(*), count(DISTINCT host), count(DISTINCT day), {figures} FROM {source}").fetchall()[0]
    out[table] = [str(v) for v in row]
print(json.dumps(out))
"#;

#[test]
fn another_engine_reads_what_was_exported() {
    let (dir, copy) = a_copy();
    let Some(python) = duckdb(dir.path(), "another_engine_reads_what_was_exported") else {
        return;
    };
    let place = dir.path().join("export");
    let export = |more: &[&str]| {
        let mut args = vec!["export", "--tables", "all", place.to_str().unwrap(), "-o", "jsonl"];
        args.extend(more);
        ctl(&copy, &args)
    };
    let exported = export(&[]).whole();
    // Whole-number columns of every table that has some: sums are exact in both engines.
    let kinds = query_file(
        &copy,
        "SELECT table_name, name FROM vw_columns WHERE type IN ('i32', 'i64', 'u32')",
        &[],
    )
    .whole();
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &kinds {
        let (table, name) = (row["table_name"].as_str().unwrap(), row["name"].as_str().unwrap());
        if exported.iter().any(|e| e["table_name"] == table) {
            columns.entry(table.to_owned()).or_default().push(format!("\"{name}\""));
        }
    }
    assert!(
        columns.contains_key("process") && columns.contains_key("process_exit"),
        "{columns:?}"
    );
    let read = || {
        let mut command = Command::new(&python);
        command
            .args(["-c", READ_BACK])
            .arg(&place)
            .arg(serde_json::to_string(&columns).unwrap());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<BTreeMap<String, Vec<String>>>(&out.stdout).unwrap()
    };
    let theirs = read();
    for (table, columns) in &columns {
        let is_state = query_file(
            &copy,
            &format!("SELECT kind FROM vw_tables WHERE name = '{table}'"),
            &[],
        )
        .whole();
        let from = match is_state[0]["kind"] == "state" {
            true => format!("{table}_history"),
            false => table.clone(),
        };
        let figures: Vec<String> = columns
            .iter()
            .flat_map(|c| ["count({c})", "sum({c})", "min({c})", "max({c})"].map(|f| f.replace("{c}", c)))
            .map(|f| format!("CAST({f} AS varchar)"))
            .enumerate()
            .map(|(i, f)| format!("{f} AS f{i:04}"))
            .collect();
        let sql = format!(
            "SELECT CAST(count(*) AS varchar) AS a, {} FROM {from} WHERE instance <> ''",
            figures.join(", ")
        );
        let ours = query_file(&copy, &sql, &[]).whole();
        let ours: Vec<String> = ours[0]
            .as_object()
            .unwrap()
            .values()
            .map(|v| v.as_str().unwrap_or("None").to_owned())
            .collect();
        let got = &theirs[table];
        assert_eq!((&got[0], &got[3..]), (&ours[0], &ours[1..]), "{table}");
        assert_eq!(got[1], "1", "one host");
    }
    // The same export writes the same files: nothing comes twice.
    assert_eq!(export(&[]).whole(), exported);
    assert_eq!(read(), theirs);
}
