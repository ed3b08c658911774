//! A loaded plugin and its open probes, in the host's terms.
//!
//! Calls go straight into the plugin's code, on the caller's thread and for as long as the plugin likes: limits of time
//! are the caller's business. Nothing of a plugin is ever unloaded: dropping a [`Plugin`] leaves its library mapped and its
//! object alive, since threads of its own may still run in it.

use crate::commit::{Commit, Rows};
use crate::convert;
use crate::fault::Fault;
use crate::file::Identity;
use crate::host_object::Tables;
use crate::manifest::{self, Manifest};
use crate::rows::{self, TableLayout};
use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use serde_json::{Map, Value};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vwatch_abi::abi_stable::std_types::{RResult, RSlice, RStr, RVec};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe;
use vwatch_abi::v1::{self, PluginBox, ProbeBox, batch_kind};
use vwatch_model::{Column, TableSchema, name};

/// Columns of a command's answer.
const MAX_ANSWER_COLUMNS: usize = 1024;
const MAX_NOTES: usize = 1000;

/// A plugin that was loaded. `Send + Sync`: its methods may be called from several threads at once.
pub struct Plugin {
    pub(crate) manifest: Manifest,
    pub(crate) file: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) tables: Tables,
    pub(crate) object: ManuallyDrop<PluginBox>,
}

/// The occasion of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Wall clock when the run began, ns since the epoch: the `time` of the rows.
    pub time_ns: i64,
    /// `CLOCK_BOOTTIME` at the same moment.
    pub boottime_ns: i64,
    /// Wall clock time at which the run was due.
    pub due_ns: i64,
    /// The instance's interval.
    pub interval_ns: u64,
    /// Runs of this instance before this one.
    pub sequence: u64,
    /// A full picture is needed: a delta will not do.
    pub full: bool,
}

/// Rows for a subscriber.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedRows<'a> {
    pub table: &'a TableSchema,
    /// Name of the instance.
    pub instance: &'a str,
    pub time_ns: i64,
    pub body: &'a Rows,
}

/// A command and who speaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandCall {
    /// The manifest's name of the command.
    pub name: String,
    /// The words that follow the name.
    pub words: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    /// Where live output may be sent; 0 when the client does not wait.
    pub stream: u64,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct CommandAnswer {
    pub columns: Vec<Column>,
    /// None when there is nothing to show.
    pub rows: Option<RecordBatch>,
    /// Things to tell the person: warnings, hints.
    pub notes: Vec<String>,
    /// The plugin keeps the stream and will close it.
    pub streaming: bool,
}

fn answered<T>(answer: RResult<T, v1::Fault>) -> Result<T, Fault> {
    answer.into_result().map_err(|fault| Fault::from_abi(&fault))
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(|e| Fault::failed(e.to_string()))
}

impl Plugin {
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file it was loaded from, as it was named.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Opens an instance of a probe; `options` as [`crate::read_options`] answers them.
    pub fn open(&self, probe: &str, instance: u64, options: &Map<String, Value>) -> Result<ProbeHandle, Fault> {
        let options = json(options)?;
        let opened = self
            .object
            .open(RStr::from_str(probe), instance, RSlice::from_slice(&options));
        Ok(ProbeHandle {
            object: answered(opened)?,
            tables: self.tables.clone(),
        })
    }

    /// Hands rows to the manifest's subscriber number `subscriber`. The buffers are shared, not copied.
    pub fn receive(&self, subscriber: usize, received: &ReceivedRows<'_>) -> Result<(), Fault> {
        let none = || Fault::not_found(format!("plugin {} has no subscriber {subscriber}", self.manifest.name));
        if subscriber >= self.manifest.subscribers.len() {
            return Err(none());
        }
        let subscriber = u32::try_from(subscriber).map_err(|_| none())?;
        let schema = json(received.table)?;
        let (kind, gone) = match received.body {
            Rows::Full(_) => (batch_kind::FULL, ArrowArray::released()),
            Rows::Delta { gone, .. } => (batch_kind::DELTA, rows::export(gone)),
            Rows::Events(_) => (batch_kind::EVENTS, ArrowArray::released()),
        };
        answered(self.object.receive(
            subscriber,
            v1::Received {
                table: RStr::from_str(&received.table.name),
                instance: RStr::from_str(received.instance),
                schema: RSlice::from_slice(&schema),
                time_ns: received.time_ns,
                kind,
                rows: rows::export(received.body.batch()),
                gone,
            },
        ))
    }

    pub fn command(&self, call: &CommandCall) -> Result<CommandAnswer, Fault> {
        let words = json(&call.words)?;
        let answer = answered(self.object.command(v1::CommandRequest {
            command: RStr::from_str(&call.name),
            words: RSlice::from_slice(&words),
            uid: call.uid,
            gid: call.gid,
            pid: call.pid,
            stream: call.stream,
        }))?;
        command_answer(&call.name, answer)
    }

    /// A timer of the plugin has run out.
    pub fn timer(&self, token: u64) -> Result<(), Fault> {
        answered(self.object.timer(token))
    }

    /// The answer to a query of the plugin: an Arrow IPC stream.
    pub fn answered(&self, token: u64, answer: Result<Vec<u8>, Fault>) -> Result<(), Fault> {
        let answer = answer.map(RVec::from).map_err(Fault::into_abi);
        answered(self.object.answered(token, answer.into()))
    }

    /// The configuration was read again; `config` is the plugin's section.
    pub fn reconfigured(&self, config: &Value) -> Result<(), Fault> {
        let config = json(config)?;
        answered(self.object.reconfigured(RSlice::from_slice(&config)))
    }

    /// The last call. All probes must be stopped.
    pub fn stop(&self) -> Result<(), Fault> {
        answered(self.object.stop())
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

fn command_answer(command: &str, answer: v1::CommandAnswer) -> Result<CommandAnswer, Fault> {
    let wrong = |why: String| Fault::bad_input(format!("answer to command {command}: {why}"));
    let rows = answer.rows;
    let said: Vec<describe::Column> = if answer.columns.is_empty() {
        Vec::new()
    } else {
        serde_json::from_slice(&answer.columns).map_err(|e| wrong(e.to_string()))?
    };
    if said.len() > MAX_ANSWER_COLUMNS {
        return Err(wrong(format!(
            "{} columns; at most {MAX_ANSWER_COLUMNS} are taken",
            said.len()
        )));
    }
    let columns: Vec<Column> = said.into_iter().map(manifest::column).collect();
    for (i, column) in columns.iter().enumerate() {
        if !name::is_identifier(&column.name) || columns[..i].iter().any(|c| c.name == column.name) {
            return Err(wrong(format!("column {:?} is misnamed or there twice", column.name)));
        }
    }
    let rows = if rows.is_released() {
        None
    } else {
        let fields = columns.iter().map(|c| Field::new(&c.name, c.kind.arrow(), c.nullable));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Some(rows::import(rows, &schema, &format!("answer to command {command}"))?)
    };
    Ok(CommandAnswer {
        columns,
        rows,
        notes: answer
            .notes
            .iter()
            .take(MAX_NOTES)
            .map(|n| convert::message(n))
            .collect(),
        streaming: answer.streaming,
    })
}

/// One open instance of a probe. `Send`, one call at a time. Dropping it drops the plugin's object.
pub struct ProbeHandle {
    object: ProbeBox,
    tables: Tables,
}

impl ProbeHandle {
    /// One sample of a polled probe.
    pub fn run(&mut self, tick: Tick) -> Result<Commit, Fault> {
        let commit = answered(self.object.run(v1::Tick {
            time_ns: tick.time_ns,
            boottime_ns: tick.boottime_ns,
            due_ns: tick.due_ns,
            interval_ns: tick.interval_ns,
            sequence: tick.sequence,
            full: tick.full,
        }))?;
        convert::commit(self.tables(), commit)
    }

    /// Begins a streaming probe: its rows come to [`crate::HostServices::emit`].
    pub fn start(&mut self) -> Result<(), Fault> {
        answered(self.object.start())
    }

    /// Ends the instance; answers what was still to be handed over.
    pub fn stop(&mut self) -> Result<Commit, Fault> {
        let commit = answered(self.object.stop())?;
        convert::commit(self.tables(), commit)
    }

    fn tables(&self) -> &[TableLayout] {
        self.tables.get().map_or(&[], Vec::as_slice)
    }
}

impl std::fmt::Debug for ProbeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeHandle").finish_non_exhaustive()
    }
}
