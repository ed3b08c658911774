//! A whole plugin under test, behind the ABI's own objects.

use crate::instance::TestInstance;
use crate::record::{Recorder, RecordingHost, StreamRecord};
use crate::sampled::{Sampled, SampledTable};
use crate::settings;
use crate::text::table_text;
use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vwatch_abi::abi_stable::sabi_trait::TD_Opaque;
use vwatch_abi::abi_stable::std_types::{RArc, RResult, RSlice, RStr, RVec};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe::{Column, Manifest, Table};
use vwatch_abi::v1::{CommandRequest, Fault, HostBox, PluginBox, Received, batch_kind};
use vwatch_sdk::__private::{create, export, import, rows as rows_of};
use vwatch_sdk::{Definition, EventRow, JsonObject, ProbeError, Result, Row, RowsKind, StateRow};

/// A plugin that has been created, and its host.
pub struct TestPlugin {
    loaded: Arc<Loaded>,
}

pub(crate) struct Loaded {
    plugin: PluginBox,
    pub manifest: Manifest,
    pub recorder: Arc<Recorder>,
    last_id: AtomicU64,
}

/// The answer to a command.
#[derive(Debug)]
pub struct Answered {
    pub columns: Vec<Column>,
    pub rows: RecordBatch,
    pub notes: Vec<String>,
    /// The plugin keeps the stream, which has this number in `Recorded::streams`.
    pub streaming: bool,
    pub stream: u64,
}

impl Answered {
    /// The rows as aligned text.
    pub fn text(&self) -> String {
        table_text(&self.columns, &self.rows)
    }
}

impl Loaded {
    pub fn emitted(&self, of: impl Fn(u64) -> bool) -> Vec<Sampled> {
        let taken = self.recorder.change(|r| {
            let (taken, left) = std::mem::take(&mut r.emitted).into_iter().partition(|(id, _)| of(*id));
            r.emitted = left;
            let taken: Vec<_> = taken;
            taken
        });
        let read = |commit| Sampled::read(commit, &self.manifest.tables, 0).unwrap_or_else(|e| panic!("emitted: {e}"));
        taken.into_iter().map(|(_, commit)| read(commit)).collect()
    }
}

impl TestPlugin {
    pub(crate) fn create(definition: Definition, recorder: Arc<Recorder>) -> Result<Self> {
        let host = HostBox::from_ptr(RArc::new(RecordingHost(recorder.clone())), TD_Opaque);
        let plugin = ok(create(|| definition, host))?;
        let manifest = serde_json::from_slice(&plugin.manifest()).unwrap_or_else(|e| panic!("the manifest: {e}"));
        Ok(TestPlugin {
            loaded: Arc::new(Loaded {
                plugin,
                manifest,
                recorder,
                last_id: AtomicU64::new(0),
            }),
        })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.loaded.manifest
    }

    /// A table of the manifest.
    pub fn table(&self, name: &str) -> &Table {
        let found = self.manifest().tables.iter().find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("the plugin declares no table {name}"))
    }

    /// Opens an instance, with options as people write them.
    pub fn open(&self, probe: &str, options: &str) -> Result<TestInstance> {
        let known = self.manifest().probes.iter().find(|p| p.name == probe);
        let given = settings::parse(options, known.map_or(&[], |p| p.options.as_slice()))?;
        self.open_with(probe, &given)
    }

    /// Opens an instance with options as they cross.
    pub fn open_with(&self, probe: &str, options: &JsonObject) -> Result<TestInstance> {
        let text = json(options);
        let id = self.loaded.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let opened = ok(self
            .loaded
            .plugin
            .open(RStr::from_str(probe), id, RSlice::from_slice(&text)))?;
        let known = self.manifest().probes.iter().find(|p| p.name == probe);
        let interval = Duration::from_millis(known.map_or(1000, |p| p.every_ms.max(1)));
        Ok(TestInstance::new(opened, id, self.loaded.clone(), interval))
    }

    /// Speaks a command as root, without a stream: the longest name in the manifest that the words begin with.
    pub fn command(&self, words: &str) -> Result<Answered> {
        self.command_by(words, 0, false)
    }

    /// The same with a client that waits for live output.
    pub fn command_streaming(&self, words: &str) -> Result<Answered> {
        self.command_by(words, 0, true)
    }

    /// The same as the user `uid`.
    pub fn command_by(&self, words: &str, uid: u32, wait: bool) -> Result<Answered> {
        let begins = |name: &str| words == name || words.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
        let names = self.manifest().commands.iter().map(|c| c.name.as_str());
        let Some(name) = names.filter(|name| begins(name)).max_by_key(|name| name.len()) else {
            return Err(ProbeError::not_found(format!(
                "no command of the plugin begins {words:?}"
            )));
        };
        let rest: Vec<&str> = words[name.len()..].split_whitespace().collect();
        let text = json(&rest);
        let stream = if wait { self.open_stream() } else { 0 };
        let answer = ok(self.loaded.plugin.command(CommandRequest {
            command: RStr::from_str(name),
            words: RSlice::from_slice(&text),
            uid,
            gid: uid,
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            stream,
        }))?;
        let columns: Vec<Column> =
            serde_json::from_slice(&answer.columns).unwrap_or_else(|e| panic!("the answer's columns: {e}"));
        Ok(Answered {
            rows: import(answer.rows, &columns)?,
            columns,
            notes: answer.notes.into_iter().map(String::from).collect(),
            streaming: answer.streaming,
            stream,
        })
    }

    fn open_stream(&self) -> u64 {
        self.loaded.recorder.change(|r| {
            let id = r.streams.keys().last().map_or(1, |last| last + 1);
            r.streams.insert(id, StreamRecord::default());
            id
        })
    }

    /// The waiting client leaves.
    pub fn leave_stream(&self, stream: u64) {
        self.loaded.recorder.change(|r| {
            if let Some(record) = r.streams.get_mut(&stream) {
                record.gone = true;
            }
        });
    }

    /// Gives a picture to the subscriber of this name.
    pub fn give_full<R: StateRow>(&self, subscriber: &str, instance: &str, time_ns: i64, rows: &[R]) -> Result<()> {
        self.give(subscriber, instance, time_ns, batch_kind::FULL, rows)
    }

    /// Gives events to the subscriber of this name.
    pub fn give_events<R: EventRow>(&self, subscriber: &str, instance: &str, time_ns: i64, rows: &[R]) -> Result<()> {
        self.give(subscriber, instance, time_ns, batch_kind::EVENTS, rows)
    }

    /// Gives a table of a sample to every subscriber that names it, as the host would; answers how many there were.
    pub fn give_sampled(&self, instance: &str, sampled: &SampledTable) -> Result<usize> {
        let kind = match sampled.kind {
            RowsKind::Full => batch_kind::FULL,
            RowsKind::Delta => batch_kind::DELTA,
            RowsKind::Events => batch_kind::EVENTS,
        };
        let schema = json(&sampled.table);
        let mut given = 0;
        for (index, subscriber) in self.manifest().subscribers.iter().enumerate() {
            if subscriber.tables.contains(&sampled.table.name) {
                let rows = export(&sampled.rows);
                let gone = match sampled.gone.num_columns() {
                    0 => ArrowArray::released(),
                    _ => export(&sampled.gone),
                };
                let names = (sampled.table.name.as_str(), instance);
                ok(self.receive(index, names, &schema, (sampled.time_ns, kind), rows, gone))?;
                given += 1;
            }
        }
        Ok(given)
    }

    fn give<R: Row>(&self, subscriber: &str, instance: &str, time_ns: i64, kind: u8, rows: &[R]) -> Result<()> {
        let found = self.manifest().subscribers.iter().position(|s| s.name == subscriber);
        let index = found.unwrap_or_else(|| panic!("the plugin has no subscriber {subscriber}"));
        let names = (R::TABLE.name, instance);
        let schema = json(&R::TABLE.describe());
        let array = rows_of(R::columns(rows))?;
        ok(self.receive(index, names, &schema, (time_ns, kind), array, ArrowArray::released()))
    }

    fn receive(
        &self,
        index: usize,
        (table, instance): (&str, &str),
        schema: &[u8],
        (time_ns, kind): (i64, u8),
        rows: ArrowArray,
        gone: ArrowArray,
    ) -> RResult<(), Fault> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let received = Received {
            table: RStr::from_str(table),
            instance: RStr::from_str(instance),
            schema: RSlice::from_slice(schema),
            time_ns,
            kind,
            rows,
            gone,
        };
        self.loaded.plugin.receive(index, received)
    }

    /// Lets all timers that are set run out, in the order of their times; answers how many there were.
    pub fn run_timers(&self) -> Result<usize> {
        let mut due: Vec<(u64, u64)> = self.loaded.recorder.change(|r| {
            let timers = std::mem::take(&mut r.timers);
            timers.into_iter().map(|(token, after_ns)| (after_ns, token)).collect()
        });
        due.sort_unstable();
        for (_, token) in &due {
            ok(self.loaded.plugin.timer(*token))?;
        }
        Ok(due.len())
    }

    /// Answers the oldest open query with the bytes of an Arrow IPC stream, or with an error.
    pub fn answer_query(&self, answer: Result<Vec<u8>>) -> Result<()> {
        let (token, _) = self.loaded.recorder.change(|r| {
            assert!(!r.queries.is_empty(), "the plugin has asked nothing");
            r.queries.remove(0)
        });
        let answer = match answer {
            Ok(bytes) => RResult::ROk(RVec::from(bytes)),
            Err(error) => RResult::RErr(Fault::from(error)),
        };
        ok(self.loaded.plugin.answered(token, answer))
    }

    /// The configuration was read again.
    pub fn reconfigure(&self, config: Value) -> Result<()> {
        let text = json(&config);
        self.loaded.recorder.change(|r| r.config = config);
        ok(self.loaded.plugin.reconfigured(RSlice::from_slice(&text)))
    }

    /// What subscribers, commands and timers have emitted since the last call of this.
    pub fn emitted(&self) -> Vec<Sampled> {
        self.loaded.emitted(|instance| instance == 0)
    }

    /// The last call.
    pub fn stop(&self) -> Result<()> {
        ok(self.loaded.plugin.stop())
    }
}

fn ok<T>(result: RResult<T, Fault>) -> Result<T> {
    Result::from(result).map_err(ProbeError::from)
}

fn json(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|e| panic!("a document of the test: {e}"))
}

/// The bytes of an Arrow IPC stream with this batch: what [`TestPlugin::answer_query`] takes.
pub fn ipc_stream(batch: &RecordBatch) -> Vec<u8> {
    let stream = StreamWriter::try_new(Vec::new(), &batch.schema()).and_then(|mut writer| {
        writer.write(batch)?;
        writer.into_inner()
    });
    stream.unwrap_or_else(|e| panic!("an IPC stream: {e}"))
}
