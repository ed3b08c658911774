//! For tests: plugins that do on demand what real ones must not, and a recorder over a store of its own.

use crate::calls::{PluginCalls, ProbeCalls};
use crate::instances::Instances;
use crate::pipeline::{Pipeline, WriterThread};
use crate::plugins::Opener;
use crate::query::Queries;
use crate::recorder::{Parts, Recorder};
use crate::scheduler::Scheduler;
use crate::taps::Taps;
use arrow_array::cast::AsArray;
use arrow_array::{Int32Array, RecordBatch, TimestampNanosecondArray};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vwatch_config::{Config, Overrides, SchedulerLimits};
use vwatch_loader::*;
use vwatch_model::table::{Access, Column, ColumnType, TableKind, TableSchema};
use vwatch_store::{OpenOptions, ReadMode, Reader, ScanRequest, Writer};

/// Waits until `done`; fails the test after half a minute.
pub fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the fake plugin saw and is to do.
#[derive(Default)]
pub struct Script {
    /// Ticks of all runs, by probe.
    pub ticks: Mutex<Vec<(String, Tick)>>,
    /// `hang` returns once this is set.
    pub release: AtomicBool,
    pub received: Mutex<Vec<(String, usize)>>,
    pub timers: Mutex<Vec<u64>>,
    pub stopped: AtomicBool,
    pub host: Mutex<Option<Arc<dyn HostServices>>>,
}

impl Script {
    pub fn runs(&self, probe: &str) -> usize {
        self.ticks
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| name == probe)
            .count()
    }

    pub fn ticks_of(&self, probe: &str) -> Vec<Tick> {
        self.ticks
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| name == probe)
            .map(|(_, tick)| *tick)
            .collect()
    }
}

pub struct FakePlugin {
    manifest: Manifest,
    file: PathBuf,
    pub script: Arc<Script>,
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column::new(name, kind, "For tests.")
}

fn table(name: &str, kind: TableKind, columns: Vec<Column>) -> TableSchema {
    TableSchema {
        name: name.into(),
        kind,
        doc: "For tests.".into(),
        access: Access::All,
        columns,
    }
}

/// Probes: `good`, `fail`, `panic`, `hang`, `unsupported`, `denied`, `no_data`, `slow` (each 50 ms), `push` (a stream).
pub fn manifest(name: &str) -> Manifest {
    let probe = |probe: &str, mode: Mode, default_on: bool| ProbeEntry {
        name: probe.into(),
        doc: "For tests.".into(),
        tables: vec![if mode == Mode::Poll { "fake" } else { "fake_event" }.into()],
        mode,
        every: Duration::from_millis(if mode == Mode::Poll { 50 } else { 0 }),
        default_on,
        options: vec![ProbeOption {
            name: "level".into(),
            kind: OptionType::Integer,
            doc: "A number.".into(),
            default: json!(1),
            required: false,
        }],
    };
    let polls = ["fail", "panic", "hang", "unsupported", "denied", "no_data", "slow"];
    let mut probes: Vec<ProbeEntry> = polls.iter().map(|name| probe(name, Mode::Poll, false)).collect();
    probes.push(probe("good", Mode::Poll, true));
    probes.push(probe("push", Mode::Stream, false));
    Manifest {
        name: name.into(),
        version: "1".into(),
        doc: "For tests.".into(),
        tables: vec![
            table("fake", TableKind::State, vec![column("id", ColumnType::I32).key()]),
            table(
                "fake_event",
                TableKind::Event,
                vec![column("time", ColumnType::Timestamp)],
            ),
        ],
        probes,
        subscribers: vec![SubscriberEntry {
            name: "watcher".into(),
            tables: vec!["fake".into()],
        }],
        commands: vec![CommandEntry {
            name: "fake say".into(),
            usage: "fake say WORD".into(),
            doc: "Says it.".into(),
            changes: false,
        }],
    }
}

/// A picture of one row.
pub fn picture(tables: &Manifest, id: i32) -> Commit {
    let rows = RecordBatch::try_new(tables.tables[0].arrow(), vec![Arc::new(Int32Array::from(vec![id]))]).unwrap();
    commit(0, Rows::Full(rows))
}

pub fn event(tables: &Manifest, time_ns: i64) -> Commit {
    let times = TimestampNanosecondArray::from(vec![time_ns]).with_timezone("UTC");
    commit(
        1,
        Rows::Events(RecordBatch::try_new(tables.tables[1].arrow(), vec![Arc::new(times)]).unwrap()),
    )
}

fn commit(table: usize, body: Rows) -> Commit {
    Commit {
        batches: vec![Batch {
            table,
            time_ns: None,
            body,
        }],
        ..Commit::default()
    }
}

struct FakeProbe {
    probe: String,
    manifest: Manifest,
    script: Arc<Script>,
}

impl ProbeCalls for FakeProbe {
    fn run(&mut self, tick: Tick) -> Result<Commit, Fault> {
        self.script.ticks.lock().unwrap().push((self.probe.clone(), tick));
        let fault = |kind| Err(Fault::new(kind, format!("{} as told", self.probe)));
        match self.probe.as_str() {
            "fail" => return fault(FaultKind::Failed),
            "panic" => panic!("panics as told"),
            "unsupported" => return fault(FaultKind::Unsupported),
            "denied" => return fault(FaultKind::Denied),
            "no_data" => return fault(FaultKind::NoData),
            "slow" => std::thread::sleep(Duration::from_millis(130)),
            "hang" => {
                while !self.script.release.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            _ => {}
        }
        Ok(picture(&self.manifest, tick.sequence as i32))
    }

    fn start(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn stop(&mut self) -> Result<Commit, Fault> {
        // The last word of a probe: a row that no run made.
        Ok(picture(&self.manifest, -1))
    }
}

impl PluginCalls for FakePlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn file(&self) -> &Path {
        &self.file
    }

    fn open(&self, probe: &str, _: u64, options: &Map<String, Value>) -> Result<Box<dyn ProbeCalls>, Fault> {
        if options["level"] == json!(13) {
            return Err(Fault::bad_input("level 13 is not liked"));
        }
        Ok(Box::new(FakeProbe {
            probe: probe.to_owned(),
            manifest: self.manifest.clone(),
            script: self.script.clone(),
        }))
    }

    fn receive(&self, _: usize, rows: &ReceivedRows<'_>) -> Result<(), Fault> {
        let mut received = self.script.received.lock().unwrap();
        received.push((rows.instance.to_owned(), rows.body.len()));
        Ok(())
    }

    fn command(&self, call: &CommandCall) -> Result<CommandAnswer, Fault> {
        Ok(CommandAnswer {
            notes: call.words.clone(),
            ..CommandAnswer::default()
        })
    }

    fn timer(&self, token: u64) -> Result<(), Fault> {
        self.script.timers.lock().unwrap().push(token);
        Ok(())
    }

    fn answered(&self, _: u64, _: Result<Vec<u8>, Fault>) -> Result<(), Fault> {
        Ok(())
    }

    fn reconfigured(&self, _: &Value) -> Result<(), Fault> {
        Ok(())
    }

    fn stop(&self) -> Result<(), Fault> {
        self.script.stopped.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Plugins by file name: `NAME.so` opens plugin NAME; a file with the text `bad` is refused.
#[derive(Default, Clone)]
pub struct FakeOpener {
    pub scripts: Arc<Mutex<BTreeMap<PathBuf, Arc<Script>>>>,
}

impl Opener for FakeOpener {
    fn open(&self, file: &Path, services: Arc<dyn HostServices>) -> Result<Arc<dyn PluginCalls>, Refusal> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains("bad") {
            return Err(Refusal {
                file: file.to_owned(),
                reason: "it is bad".into(),
                hint: "make it good".into(),
                name: None,
            });
        }
        let name = text.split_whitespace().next().unwrap_or("fake").to_owned();
        let script = Arc::new(Script::default());
        *script.host.lock().unwrap() = Some(services);
        self.scripts.lock().unwrap().insert(file.to_owned(), script.clone());
        let mut manifest = manifest(&name);
        if text.contains("retyped") {
            manifest.tables[0].columns[0].kind = ColumnType::String;
        }
        Ok(Arc::new(FakePlugin {
            manifest,
            file: file.to_owned(),
            script,
        }))
    }
}

/// A recorder over a store in a directory of its own.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub recorder: Arc<Recorder>,
    pub opener: FakeOpener,
    writer: Option<WriterThread>,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::over(tempfile::tempdir().unwrap())
    }

    /// A recorder over the store that is there already, as after a restart.
    pub fn over(dir: tempfile::TempDir) -> Bench {
        let overrides = Overrides {
            store: Some(dir.path().join("store.db")),
            plugins: Some(dir.path().join("plugins")),
            socket: Some(dir.path().join("run/control.sock")),
            ..Overrides::default()
        };
        let mut config = Config::load(&overrides, 1, |_| None).unwrap();
        config.scheduler = SchedulerLimits {
            run_limit: Duration::from_millis(300),
            workers: 16,
        };
        std::fs::create_dir_all(&config.plugins).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let now = crate::clock::now();
        let writer = Writer::open(&config.store, &OpenOptions::default(), now, "boot").unwrap();
        let mut instances = Instances::default();
        instances.restore(writer.records().unwrap(), now.wall_ns);
        let taps = Arc::new(Taps::default());
        let (pipeline, writer) = Pipeline::start(writer, taps.clone()).unwrap();
        let (scheduler, _) = Scheduler::start(pipeline.clone(), config.scheduler).unwrap();
        let opener = FakeOpener::default();
        let recorder = Recorder::new(Parts {
            config,
            pipeline,
            scheduler,
            taps,
            opener: Box::new(opener.clone()),
            queries: Queries::new(runtime.handle().clone()),
            instances,
        });
        Bench {
            dir,
            recorder,
            opener,
            writer: Some(writer),
            _runtime: runtime,
        }
    }

    /// Writes a plugin file and loads it.
    pub fn load(&self, file: &str, text: &str) -> Result<Arc<Script>, Refusal> {
        let path = self.path(file);
        std::fs::write(&path, text).unwrap();
        self.recorder.load(&path)?;
        Ok(self.opener.scripts.lock().unwrap()[&path].clone())
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.recorder.config().plugins.join(file)
    }

    pub fn add(&self, probe: &str, settings: Value) -> Result<vwatch_model::control::Instance, crate::error::Refused> {
        self.recorder.add_probe(&vwatch_model::control::AddProbe {
            probe: probe.into(),
            settings: settings.as_object().cloned().unwrap_or_default(),
        })
    }

    pub fn state(&self, instance: &str) -> String {
        self.recorder
            .scheduler
            .instance(instance)
            .map(|i| i.state)
            .unwrap_or_default()
    }

    /// Stops the recorder and answers its directory.
    pub fn end(mut self) -> tempfile::TempDir {
        self.recorder.stop(Instant::now() + Duration::from_secs(5));
        self.recorder.pipeline.close();
        self.writer.take().unwrap().join().unwrap().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

/// All rows of a table of a store that was closed, as text: one string per row, columns by name.
pub fn stored(dir: &Path, table: &str) -> Vec<BTreeMap<String, Value>> {
    let reader = Reader::open(&dir.join("store.db"), ReadMode::Copy).unwrap();
    let catalog = reader.catalog().unwrap();
    let entry = catalog.tables.iter().find(|t| t.schema.name == table).unwrap();
    let request = ScanRequest {
        table: entry.id,
        instances: catalog.instances.iter().map(|i| i.id).collect(),
        from_ns: i64::MIN,
        to_ns: i64::MAX,
        columns: None,
        conditions: Vec::new(),
    };
    let mut rows = Vec::new();
    for batch in reader.scan(request).unwrap() {
        let batch = batch.unwrap();
        let times = batch
            .column(0)
            .as_primitive::<arrow_array::types::TimestampNanosecondType>()
            .clone();
        for (i, object) in crate::control::objects(&batch).into_iter().enumerate() {
            let mut row: BTreeMap<String, Value> = object.into_iter().collect();
            row.insert("time_ns".into(), times.value(i).into());
            rows.push(row);
        }
    }
    rows
}
