//! The host's side of the ABI, as a test sees it: every service answers from memory and is remembered.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use vwatch_abi::abi_stable::std_types::{ROption, RResult, RSlice, RStr, RString, RVec};
use vwatch_abi::describe::{Environment, InstanceSpec, Query, Table};
use vwatch_abi::v1;
use vwatch_abi::v1::{Commit, Fault, OutboxEntry, fault};

/// A line of the host's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// 1 error … 5 trace.
    pub level: u8,
    pub message: String,
}

/// What went to a waiting client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamRecord {
    pub bytes: Vec<u8>,
    pub closed: bool,
    /// The client has left: sends answer GONE.
    pub gone: bool,
}

/// Everything that a plugin has asked of the host.
#[derive(Default)]
pub struct Recorded {
    pub log: Vec<Logged>,
    pub config: Value,
    pub schemas: BTreeMap<String, Table>,
    /// Durable state as it is now.
    pub state: BTreeMap<String, Vec<u8>>,
    /// Outbox entries that nobody has acknowledged, oldest first.
    pub outbox: Vec<(String, Vec<u8>)>,
    /// Commits that were emitted and not yet taken by `TestPlugin::emitted`, with the instance's id.
    pub(crate) emitted: Vec<(u64, Commit)>,
    /// Commits emitted ever.
    pub emissions: u64,
    /// Timers that have not run out: nanoseconds from when they were set.
    pub timers: BTreeMap<u64, u64>,
    pub started: Vec<InstanceSpec>,
    pub stopped: Vec<String>,
    pub streams: BTreeMap<u64, StreamRecord>,
    /// Queries that have not been answered.
    pub queries: Vec<(u64, Query)>,
    /// Emitted rows are refused with BUSY.
    pub refuse_rows: bool,
}

impl Recorded {
    /// What a committed transaction changes.
    pub(crate) fn apply(&mut self, commit: &Commit) {
        for change in &commit.state {
            match &change.value {
                ROption::RSome(value) => self.state.insert(change.key.to_string(), value.to_vec()),
                ROption::RNone => self.state.remove(change.key.as_str()),
            };
        }
        for entry in &commit.outbox {
            match self.outbox.iter_mut().find(|(id, _)| id == entry.id.as_str()) {
                Some((_, body)) => *body = entry.body.to_vec(),
                None => self.outbox.push((entry.id.to_string(), entry.body.to_vec())),
            }
        }
        self.outbox
            .retain(|(id, _)| !commit.outbox_done.iter().any(|done| done.as_str() == id));
    }
}

/// The host that plugins under test are given.
pub(crate) struct Recorder {
    pub environment: Environment,
    recorded: Mutex<Recorded>,
    changed: Condvar,
}

impl Recorder {
    pub fn new(environment: Environment) -> Self {
        Recorder {
            environment,
            recorded: Mutex::new(Recorded {
                config: json!({}),
                ..Recorded::default()
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn look<T>(&self, look: impl FnOnce(&Recorded) -> T) -> T {
        look(&self.lock())
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Recorded) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Whether `condition` came to hold before `until`.
    pub fn wait(&self, until: Instant, mut condition: impl FnMut(&Recorded) -> bool) -> bool {
        let mut recorded = self.lock();
        while !condition(&recorded) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let (guard, _) = self
                .changed
                .wait_timeout(recorded, left)
                .unwrap_or_else(PoisonError::into_inner);
            recorded = guard;
        }
        true
    }
}

/// The same behind the ABI's reference counting.
pub(crate) struct RecordingHost(pub Arc<Recorder>);

fn refused<T>(code: u32, message: impl Into<RString>) -> RResult<T, Fault> {
    RResult::RErr(Fault {
        code,
        message: message.into(),
        position: -1,
    })
}

fn bytes(document: &impl serde::Serialize) -> RVec<u8> {
    let text = serde_json::to_vec(document).unwrap_or_else(|e| panic!("a document of the testkit: {e}"));
    RVec::from(text)
}

impl v1::Host for RecordingHost {
    fn log(&self, level: u8, message: RStr<'_>) {
        let message = message.to_string();
        self.0.change(|r| r.log.push(Logged { level, message }));
    }

    fn environment(&self) -> RVec<u8> {
        bytes(&self.0.environment)
    }

    fn config(&self) -> RVec<u8> {
        self.0.look(|r| bytes(&r.config))
    }

    fn schema(&self, table: RStr<'_>) -> RResult<RVec<u8>, Fault> {
        match self.0.look(|r| r.schemas.get(table.as_str()).map(bytes)) {
            Some(schema) => RResult::ROk(schema),
            None => refused(fault::NOT_FOUND, format!("no table {table}")),
        }
    }

    fn emit(&self, instance: u64, commit: Commit) -> RResult<(), Fault> {
        self.0.change(|r| {
            if r.refuse_rows {
                return refused(fault::BUSY, "the queue is full");
            }
            r.apply(&commit);
            r.emitted.push((instance, commit));
            r.emissions += 1;
            RResult::ROk(())
        })
    }

    fn state(&self, key: RStr<'_>) -> RResult<ROption<RVec<u8>>, Fault> {
        let value = self.0.look(|r| r.state.get(key.as_str()).cloned());
        RResult::ROk(value.map(RVec::from).into())
    }

    fn state_keys(&self, prefix: RStr<'_>) -> RResult<RVec<RString>, Fault> {
        RResult::ROk(self.0.look(|r| {
            let keys = r.state.keys().filter(|key| key.starts_with(prefix.as_str()));
            keys.map(|key| RString::from(key.as_str())).collect()
        }))
    }

    fn outbox(&self, limit: u32) -> RResult<RVec<OutboxEntry>, Fault> {
        let entry = |(id, body): &(String, Vec<u8>)| OutboxEntry {
            id: id.as_str().into(),
            body: body.clone().into(),
        };
        RResult::ROk(
            self.0
                .look(|r| r.outbox.iter().take(limit as usize).map(entry).collect()),
        )
    }

    fn timer(&self, token: u64, after_ns: u64) -> RResult<(), Fault> {
        self.0.change(|r| match after_ns {
            u64::MAX => r.timers.remove(&token),
            after_ns => r.timers.insert(token, after_ns),
        });
        RResult::ROk(())
    }

    fn instance_start(&self, spec: RSlice<'_, u8>) -> RResult<RString, Fault> {
        let spec: InstanceSpec = match serde_json::from_slice(spec.as_slice()) {
            Ok(spec) => spec,
            Err(e) => return refused(fault::BAD_INPUT, e.to_string()),
        };
        RResult::ROk(self.0.change(|r| {
            let name = match spec.name.as_str() {
                "" => format!("{}-{}", spec.probe, r.started.len() + 1),
                name => name.to_owned(),
            };
            r.started.push(InstanceSpec {
                name: name.clone(),
                ..spec
            });
            RString::from(name)
        }))
    }

    fn instance_stop(&self, name: RStr<'_>) -> RResult<(), Fault> {
        self.0.change(|r| {
            if r.started.iter().any(|spec| spec.name == name.as_str()) {
                r.stopped.push(name.to_string());
                RResult::ROk(())
            } else {
                refused(fault::NOT_FOUND, format!("no instance {name} of this plugin"))
            }
        })
    }

    fn stream_send(&self, stream: u64, bytes: RSlice<'_, u8>) -> RResult<(), Fault> {
        self.0.change(|r| match r.streams.get_mut(&stream) {
            Some(record) if !record.gone && !record.closed => {
                record.bytes.extend_from_slice(bytes.as_slice());
                RResult::ROk(())
            }
            _ => refused(fault::GONE, "the client has left"),
        })
    }

    fn stream_close(&self, stream: u64) -> RResult<(), Fault> {
        self.0.change(|r| match r.streams.get_mut(&stream) {
            Some(record) => {
                record.closed = true;
                RResult::ROk(())
            }
            None => refused(fault::GONE, "no such stream"),
        })
    }

    fn query(&self, token: u64, query: RSlice<'_, u8>) -> RResult<(), Fault> {
        match serde_json::from_slice(query.as_slice()) {
            Ok(query) => {
                self.0.change(|r| r.queries.push((token, query)));
                RResult::ROk(())
            }
            Err(e) => refused(fault::BAD_INPUT, e.to_string()),
        }
    }

    fn call(&self, op: RStr<'_>, _: RSlice<'_, u8>) -> RResult<RVec<u8>, Fault> {
        refused(fault::NO_SUCH_OPERATION, format!("no operation {op}"))
    }
}
