//! `vwatchctl export`: parts in a directory and in an S3 that this test plays (REST API of S3: PUT Object, and
//! CreateMultipartUpload, UploadPart, CompleteMultipartUpload).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vwatch_model::query::{DONE, Operation};

use crate::fake::{Daemon, Running, answer, partial, run, vwatchctl};
use crate::stream;

const DAY_NS: i64 = 86_400_000_000_000;
/// 2024-05-01, 00:00 UTC.
const START: i64 = 1_714_521_600_000_000_000;

fn times(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The answer to a question about the store: `load` has rows on two days.
fn stats() -> Vec<u8> {
    let rows = batch(vec![
        ("table_name", Arc::new(StringArray::from(vec!["load"])) as ArrayRef),
        ("first_time", times(&[START + 5])),
        ("last_time", times(&[START + DAY_NS + 7])),
        ("rows", Arc::new(UInt64Array::from(vec![6]))),
    ]);
    let done = r#"{"rows":1,"now_ns":1,"summary":{"store":{"host":"web-1","file_bytes":1,"page_bytes":1,"pages":1,"free_pages":0}}}"#;
    stream::answer(&[rows], &[(DONE, done)])
}

fn history(rows: usize) -> RecordBatch {
    let at: Vec<i64> = (0..rows as i64).map(|n| START + n).collect();
    // Numbers that zstd cannot make small, so that a large part is an upload of several pieces.
    let mut seed = 1u64;
    let noise = (0..rows).map(|_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed ^ (seed >> 29)) as i64
    });
    let noise: Int64Array = noise.map(Some).collect();
    batch(vec![("time", times(&at)), ("load", Arc::new(noise) as ArrayRef)])
}

fn daemon(rows: usize) -> Daemon {
    let kinds = batch(vec![
        (
            "name",
            Arc::new(StringArray::from(vec!["load", "load_history"])) as ArrayRef,
        ),
        ("kind", Arc::new(StringArray::from(vec!["state", "history"]))),
    ]);
    Daemon::default()
        .operation(Operation::Stats {}, stats())
        .query("SELECT name, kind FROM vw_tables", answer(&kinds))
        .query("SELECT * FROM load_history", answer(&history(rows)))
}

fn read_parquet(bytes: Vec<u8>) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    reader.build().unwrap().map(|b| b.unwrap()).collect()
}

fn rows_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[test]
fn a_part_for_each_day_and_the_questions_are_of_its_span() {
    let running = daemon(3).start();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("out");
    let export = |more: &[&str]| {
        let mut args = vec!["export", "--tables", "load", place.to_str().unwrap(), "-o", "jsonl"];
        args.extend(more);
        running.run(&args)
    };
    let ended = export(&[]).exits(0);
    let paths: Vec<String> = ended
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["path"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        paths,
        [
            "load/host=web-1/day=2024-05-01/part-0.parquet",
            "load/host=web-1/day=2024-05-02/part-0.parquet"
        ]
    );
    let read = read_parquet(std::fs::read(place.join(&paths[0])).unwrap());
    assert_eq!(rows_of(&read), 3);
    assert_eq!(read[0].column(1).to_data(), history(3).column(1).to_data());
    let asked: Vec<String> = questions(&running);
    assert_eq!(
        asked,
        [
            format!("{} {}", START + 5, START + DAY_NS - 1),
            format!("{} {}", START + DAY_NS, START + DAY_NS + 7)
        ]
    );
    // Part of a day has a name of its own, and other forms another ending.
    let ended = export(&[
        "--from",
        "2024-05-01T10:00:00Z",
        "--to",
        "2024-05-01T11:00:00Z",
        "--format",
        "csv",
    ])
    .exits(0);
    assert!(
        ended.out.contains("day=2024-05-01/part-100000-110000.csv"),
        "{}",
        ended.out
    );
    let csv = std::fs::read_to_string(place.join("load/host=web-1/day=2024-05-01/part-100000-110000.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4);
    running
        .run(&["export", "--tables", "lode", place.to_str().unwrap()])
        .exits(1);
    running.run(&["export", "--tables", "load", "ftp://x/y"]).exits(2);
}

/// From and to of every question about rows.
fn questions(running: &Running) -> Vec<String> {
    let ns = |m: Option<vwatch_model::time::Moment>| m.unwrap().at(0).to_string();
    let all = running
        .questions()
        .into_iter()
        .filter(|q| q.sql.starts_with("SELECT *"));
    all.map(|q| format!("{} {}", ns(q.from), ns(q.to))).collect()
}

#[test]
fn a_partial_answer_is_a_partial_export_and_a_failed_one_leaves_no_part() {
    let dir = tempfile::tempdir().unwrap();
    let base = || Daemon::default().operation(Operation::Stats {}, stats());
    let kinds = batch(vec![
        ("name", Arc::new(StringArray::from(vec!["load"])) as ArrayRef),
        ("kind", Arc::new(StringArray::from(vec!["state"]))),
    ]);
    let running = base()
        .query("SELECT name", answer(&kinds))
        .query("SELECT *", partial(&history(2), "block 3 is damaged"))
        .start();
    let place = dir.path().join("a");
    let ended = running
        .run(&["export", "--tables", "load", place.to_str().unwrap()])
        .exits(4);
    assert!(ended.err.contains("block 3 is damaged"), "{}", ended.err);
    // An answer that is cut off.
    let cut = stream::rows(&[history(2)]);
    let running = base()
        .query("SELECT name", answer(&kinds))
        .query("SELECT *", cut)
        .start();
    let place = dir.path().join("b");
    running
        .run(&["export", "--tables", "load", place.to_str().unwrap()])
        .exits(1);
    let day = place.join("load/host=web-1/day=2024-05-01");
    let left = std::fs::read_dir(day).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing that looks like a part");
}

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// An S3 on the loopback that keeps whole objects in memory. Answers its address.
fn s3(objects: Objects, requests: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pieces: Arc<Mutex<BTreeMap<u32, Vec<u8>>>> = Arc::default();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (objects, requests, pieces) = (objects.clone(), requests.clone(), pieces.clone());
            std::thread::spawn(move || while serve(&connection, &objects, &requests, &pieces).is_some() {});
        }
    });
    address
}

fn serve(
    mut connection: &TcpStream,
    objects: &Objects,
    requests: &Mutex<Vec<String>>,
    pieces: &Mutex<BTreeMap<u32, Vec<u8>>>,
) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        lines
            .iter()
            .find_map(|l| Some(l.to_lowercase().strip_prefix(name)?.trim().to_owned()))
    };
    let mut body = vec![0; header("content-length:").map_or(0, |n| n.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let signed = header("authorization:").is_some_and(|a| a.contains("credential=test/"));
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    requests.lock().unwrap().push(format!("{method} {query}"));
    let answer = match (method, query) {
        _ if !signed => (403, String::new()),
        ("PUT", "") => {
            objects.lock().unwrap().insert(path.to_owned(), body);
            (200, String::new())
        }
        ("POST", "uploads" | "uploads=") => (
            200,
            "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>".to_owned(),
        ),
        ("PUT", query) => {
            let number = query.split('&').find_map(|p| p.strip_prefix("partNumber=")).unwrap();
            pieces.lock().unwrap().insert(number.parse().unwrap(), body);
            (200, String::new())
        }
        ("POST", _) => {
            let whole = std::mem::take(&mut *pieces.lock().unwrap())
                .into_values()
                .flatten()
                .collect();
            objects.lock().unwrap().insert(path.to_owned(), whole);
            (
                200,
                "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>".to_owned(),
            )
        }
        _ => (405, String::new()),
    };
    let (status, text) = answer;
    write!(
        connection,
        "HTTP/1.1 {status} X\r\nETag: \"e\"\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .ok()
}

#[test]
fn parts_go_to_an_s3_whole() {
    for (rows, uploads) in [(3, false), (2_000_000, true)] {
        let running = daemon(rows).start();
        let (objects, requests): (Objects, Arc<Mutex<Vec<String>>>) = Default::default();
        let address = s3(objects.clone(), requests.clone());
        let mut command = vwatchctl(&[
            "export",
            "--tables",
            "load",
            "s3://bucket/vw",
            "--to",
            "2024-05-01T23:00:00Z",
        ]);
        command
            .env("VWATCH_SOCKET", running.socket())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_ENDPOINT_URL", format!("http://{address}"));
        run(command, "").exits(0);
        let stored = objects.lock().unwrap().clone();
        let names: Vec<&String> = stored.keys().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(
            names[0].starts_with("/bucket/vw/load/host%3Dweb-1/day%3D2024-05-01/part-000000-230000.parquet"),
            "{names:?}"
        );
        let read = read_parquet(stored.into_values().next().unwrap());
        assert_eq!(rows_of(&read), rows);
        let pieces = requests
            .lock()
            .unwrap()
            .iter()
            .filter(|r| r.contains("partNumber"))
            .count();
        assert_eq!(pieces > 1, uploads, "{:?}", requests.lock().unwrap());
    }
}
