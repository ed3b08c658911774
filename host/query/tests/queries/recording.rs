//! A store to ask: ten seconds of a small host from 2026-01-02 10:42:00 UTC on, and what an answer holds.

use arrow_array::builder::{Float64Builder, Int32Builder, Int64Builder, StringBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow_cast::display::array_value_to_string;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use vwatch_model::query::{DONE, Done, ERROR, Failure, Limits, PROGRESS, Progress, Request};
use vwatch_model::time::Stamp;
use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema, core_tables};
use vwatch_sql::{Asker, Terms};
use vwatch_store::{Body, InstanceId, InstanceInfo, OpenOptions, ReadMode, Reader, Sample, TableId, Writer};

/// 2026-01-02T10:42:00Z.
pub const T0: i64 = 1_767_350_520 * SECOND;
pub const SECOND: i64 = 1_000_000_000;

/// A moment in seconds after [`T0`].
pub fn at(seconds: i64) -> i64 {
    T0 + seconds * SECOND
}

fn stamp(wall_ns: i64) -> Stamp {
    Stamp {
        wall_ns,
        boot_ns: wall_ns - T0 + 3600 * SECOND,
    }
}

pub fn table(name: &str, kind: TableKind, columns: Vec<Column>) -> TableSchema {
    TableSchema {
        name: name.into(),
        kind,
        doc: format!("Test table {name}."),
        access: Access::All,
        columns,
    }
}

pub fn process() -> TableSchema {
    let columns = vec![
        Column::new("pid", ColumnType::I32, "Process id.").key(),
        Column::new("comm", ColumnType::String, "Command name."),
        Column::new("rss_bytes", ColumnType::I64, "Resident memory.")
            .nullable()
            .unit("bytes"),
    ];
    table("process", TableKind::State, columns)
}

/// Rows of [`process`].
pub fn processes(rows: &[(i32, &str, i64)]) -> RecordBatch {
    let (mut pid, mut comm, mut rss) = (Int32Builder::new(), StringBuilder::new(), Int64Builder::new());
    for row in rows {
        pid.append_value(row.0);
        comm.append_value(row.1);
        rss.append_value(row.2);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(pid.finish()), Arc::new(comm.finish()), Arc::new(rss.finish())];
    RecordBatch::try_new(process().arrow(), columns).unwrap()
}

pub struct Recording {
    dir: TempDir,
    writer: Option<Writer>,
}

impl Recording {
    pub fn begin() -> Recording {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vwatchd.db");
        let writer = Writer::open(&path, &OpenOptions::default(), stamp(T0), "boot-1").unwrap();
        Recording {
            dir,
            writer: Some(writer),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("vwatchd.db")
    }

    pub fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("the recording goes on")
    }

    pub fn table(&mut self, schema: &TableSchema) -> TableId {
        self.writer().table(schema).unwrap()
    }

    pub fn instance(&mut self, name: &str, probe: &str, default: bool) -> InstanceId {
        let info = InstanceInfo {
            name: name.into(),
            probe: probe.into(),
            default,
        };
        self.writer().instance(&info).unwrap()
    }

    pub fn push(&mut self, table: TableId, instance: InstanceId, time_ns: i64, interval_ns: i64, body: Body) {
        let sample = Sample {
            table,
            instance,
            time_ns,
            boot_ns: stamp(time_ns).boot_ns,
            interval_ns: interval_ns as u64,
            body,
        };
        self.writer().push(sample).unwrap();
    }

    pub fn commit(&mut self, now_ns: i64) {
        self.writer().commit(stamp(now_ns)).unwrap();
    }

    /// A row of `gap`, written when the gap ended.
    pub fn gap(&mut self, (from_ns, until_ns): (i64, i64), instance: Option<&str>, cause: &str) {
        let schema = core_tables::gap();
        let table = self.table(&schema);
        let core = self.instance(core_tables::INSTANCE_NAME, "core", true);
        let text = |value: Option<&str>| {
            let mut builder = StringBuilder::new();
            builder.append_option(value);
            Arc::new(builder.finish()) as ArrayRef
        };
        let mut lost = Int64Builder::new();
        lost.append_null();
        let time = |ns: i64| Arc::new(TimestampNanosecondArray::from(vec![ns]).with_timezone("UTC")) as ArrayRef;
        let columns = vec![
            time(from_ns),
            time(until_ns),
            text(instance),
            text(None),
            text(Some(cause)),
            Arc::new(lost.finish()),
            text(None),
        ];
        let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
        self.push(table, core, until_ns, 0, Body::Events(rows));
        self.commit(until_ns);
    }

    /// Ends the recording, as a daemon does that is stopped.
    pub fn close(&mut self, now_ns: i64) {
        self.writer
            .take()
            .expect("the recording goes on")
            .close(stamp(now_ns))
            .unwrap();
    }

    pub fn reopen(&mut self, now_ns: i64) {
        self.writer = Some(Writer::open(&self.path(), &OpenOptions::default(), stamp(now_ns), "boot-1").unwrap());
    }

    pub fn reader(&self) -> Reader {
        let mode = if self.writer.is_some() {
            ReadMode::Live
        } else {
            ReadMode::Copy
        };
        Reader::open(&self.path(), mode).unwrap()
    }

    pub fn ask(&self, sql: &str) -> Answer {
        self.answer(&request(sql), &self.terms())
    }

    /// Live: now is half a second after the last commit; else now is the last commit.
    pub fn terms(&self) -> Terms {
        let last = self
            .reader()
            .catalog()
            .unwrap()
            .last_commit
            .map_or(T0, |stamp| stamp.wall_ns);
        let live = self.writer.is_some();
        Terms {
            now_ns: if live { last + SECOND / 2 } else { last },
            live,
            asker: Asker::All,
            limits: Limits::default(),
        }
    }

    pub fn answer(&self, request: &Request, terms: &Terms) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut out = Vec::new();
        runtime
            .block_on(vwatch_sql::answer(self.reader(), request, terms, &mut out))
            .unwrap();
        Answer::read(&out)
    }
}

pub fn request(sql: &str) -> Request {
    Request {
        sql: sql.into(),
        ..Request::default()
    }
}

/// Ten samples of `process`, one a second from T0 on: pids 1 (init) and 2 (shell) all the time with rss 1000 + second, pid 3
/// (brief) in seconds 3, 4 and 5; `load` with its value; `process_exit` of pid 3 at 5.5 s. Still being written.
pub fn ten_seconds() -> Recording {
    let mut recording = Recording::begin();
    let process = recording.table(&process());
    let default = recording.instance("process.process", "process.process", true);
    let loads = table(
        "load",
        TableKind::State,
        vec![Column::new("load_1m", ColumnType::F64, "Load.").nullable()],
    );
    let load = recording.table(&loads);
    let os = recording.instance("os.load", "os.load", true);
    let exits = process_exit();
    let exit = recording.table(&exits);
    let exit_instance = recording.instance("process.process_exit", "process.process_exit", true);
    for s in 0..10 {
        let mut rows = vec![(1, "init", 1000 + s), (2, "shell", 2000 + s)];
        if (3..6).contains(&s) {
            rows.push((3, "brief", 3000 + s));
        }
        recording.push(process, default, at(s), SECOND, Body::Full(processes(&rows)));
        let mut value = Float64Builder::new();
        value.append_value(s as f64 / 10.0);
        let rows = RecordBatch::try_new(loads.arrow(), vec![Arc::new(value.finish()) as ArrayRef]).unwrap();
        recording.push(load, os, at(s), SECOND, Body::Full(rows));
        if s == 5 {
            let time = at(5) + SECOND / 2;
            recording.push(exit, exit_instance, time, 0, Body::Events(exit_row(time, 3, 7)));
        }
        recording.commit(at(s) + SECOND / 4);
    }
    recording
}

pub fn process_exit() -> TableSchema {
    let columns = vec![
        Column::new("time", ColumnType::Timestamp, "When it ended."),
        Column::new("pid", ColumnType::I32, "Process id."),
        Column::new("exit_code", ColumnType::I32, "Exit code.").nullable(),
    ];
    table("process_exit", TableKind::Event, columns)
}

pub fn exit_row(time: i64, pid: i32, code: i32) -> RecordBatch {
    let int = |v: i32| {
        let mut builder = Int32Builder::new();
        builder.append_value(v);
        Arc::new(builder.finish()) as ArrayRef
    };
    let time = Arc::new(TimestampNanosecondArray::from(vec![time]).with_timezone("UTC")) as ArrayRef;
    RecordBatch::try_new(process_exit().arrow(), vec![time, int(pid), int(code)]).unwrap()
}

/// `buffer(time, pid, owner_uid)`, which answers the owner of a row only.
pub fn owned() -> TableSchema {
    let columns = vec![
        Column::new("time", ColumnType::Timestamp, "When."),
        Column::new("pid", ColumnType::I32, "Process id."),
        Column::new("owner_uid", ColumnType::U32, "Who may read it.").nullable(),
    ];
    TableSchema {
        access: Access::Owner,
        ..table("buffer", TableKind::Event, columns)
    }
}

pub fn owned_rows(rows: &[(i64, i32, Option<u32>)]) -> RecordBatch {
    let times: Vec<i64> = rows.iter().map(|r| r.0).collect();
    let (mut pid, mut owner) = (Int32Builder::new(), UInt32Builder::new());
    for row in rows {
        pid.append_value(row.1);
        owner.append_option(row.2);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
        Arc::new(pid.finish()),
        Arc::new(owner.finish()),
    ];
    RecordBatch::try_new(owned().arrow(), columns).unwrap()
}

#[derive(Debug)]
pub struct Answer {
    /// Every row, its columns joined by `|`.
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    pub progress: Vec<Progress>,
    pub done: Option<Done>,
    pub failure: Option<Failure>,
}

impl Answer {
    /// Reads an answer by the format's own rules: an Arrow reader for the rows, the messages' metadata for the documents.
    pub fn read(bytes: &[u8]) -> Answer {
        let reader = StreamReader::try_new(bytes, None).unwrap();
        let columns = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
        let mut rows = Vec::new();
        for batch in reader {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|c| array_value_to_string(c, row).unwrap());
                rows.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        let mut answer = Answer {
            rows,
            columns,
            progress: Vec::new(),
            done: None,
            failure: None,
        };
        answer.read_documents(bytes);
        answer
    }

    fn read_documents(&mut self, mut bytes: &[u8]) {
        loop {
            let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            if length == 0 {
                assert!(
                    self.done.is_some() != self.failure.is_some(),
                    "one of Done and Failure ends an answer"
                );
                return;
            }
            let message = root_as_message(&bytes[8..8 + length]).unwrap();
            for pair in message.custom_metadata().iter().flat_map(|m| m.iter()) {
                assert!(
                    self.done.is_none() && self.failure.is_none(),
                    "nothing comes after the end"
                );
                let json = pair.value().unwrap();
                match pair.key().unwrap() {
                    PROGRESS => self.progress.push(serde_json::from_str(json).unwrap()),
                    DONE => self.done = Some(serde_json::from_str(json).unwrap()),
                    ERROR => self.failure = Some(serde_json::from_str(json).unwrap()),
                    other => panic!("unknown document {other}"),
                }
            }
            bytes = &bytes[8 + length + message.bodyLength() as usize..];
        }
    }

    /// The rows of a whole answer: it succeeded, and nothing was missing.
    pub fn whole(self) -> Vec<String> {
        let done = self.done.unwrap_or_else(|| panic!("failed: {:?}", self.failure));
        assert_eq!(done.partial, [], "rows {:?}", self.rows);
        assert_eq!(done.rows as usize, self.rows.len());
        self.rows
    }

    /// The reasons of an answer that succeeded.
    pub fn reasons(&self) -> Vec<String> {
        let done = self
            .done
            .as_ref()
            .unwrap_or_else(|| panic!("failed: {:?}", self.failure));
        done.partial.iter().map(|p| p.reason.clone()).collect()
    }

    pub fn refusal(self) -> Failure {
        self.failure.unwrap_or_else(|| panic!("answered: {:?}", self.rows))
    }

    pub fn scanned(&self) -> Progress {
        self.done.as_ref().expect("the answer is done").scanned.clone()
    }
}
