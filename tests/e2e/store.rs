//! The store's file as a user handles it: copied while it is written, checked, compacted, damaged.

use serde_json::Value;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
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
