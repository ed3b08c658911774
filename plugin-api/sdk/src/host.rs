//! The services of the host, typed: durable state, outbox, timers, instances, queries.

use crate::context::Context;
use crate::error::{ProbeError, Result};
use crate::guard::{caught, lock};
use crate::out::check_key;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::time::Duration;
use vwatch_abi::abi_stable::std_types::{RResult, RSlice, RStr, RVec};
use vwatch_abi::describe::{Environment, InstanceSpec, Query, Table};
use vwatch_abi::v1::{Fault, HostBox};

/// Levels of the host's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error = 1,
    Warning = 2,
    Info = 3,
    Debug = 4,
    Trace = 5,
}

/// A timer that has not run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(u64);

/// Something that waits to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// As it was put in with [`crate::Out::outbox`].
    pub id: String,
    pub body: Vec<u8>,
}

/// An instance to start: `StartInstance::of("process.process").every(Duration::from_millis(250))`.
#[derive(Debug, Clone, PartialEq)]
pub struct StartInstance(InstanceSpec);

impl StartInstance {
    /// Of any plugin's probe, as `PLUGIN.PROBE`.
    pub fn of(probe: &str) -> Self {
        StartInstance(InstanceSpec {
            probe: probe.to_owned(),
            name: String::new(),
            every_ms: None,
            for_ms: None,
            options: serde_json::Map::new(),
        })
    }

    /// Otherwise the host chooses a name.
    pub fn named(mut self, name: &str) -> Self {
        self.0.name = name.to_owned();
        self
    }

    /// Otherwise the probe's own interval.
    pub fn every(mut self, interval: Duration) -> Self {
        self.0.every_ms = Some(milliseconds(interval));
        self
    }

    /// The instance ends by itself after this long.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.0.for_ms = Some(milliseconds(time));
        self
    }

    /// An option of the probe, as it crosses: durations in nanoseconds, sizes in bytes.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.options.insert(name.to_owned(), value.into());
        self
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

type TimerAction = Box<dyn FnOnce(&Context) -> Result<()> + Send>;
type AnswerAction = Box<dyn FnOnce(&Context, RResult<RVec<u8>, Fault>) -> Result<()> + Send>;

/// What waits for the host to call back. Tokens are never used twice.
#[derive(Default)]
struct Waiting {
    last_token: u64,
    timers: HashMap<u64, TimerAction>,
    answers: HashMap<u64, AnswerAction>,
}

/// A plugin's end of the line to its host.
pub(crate) struct Link {
    pub host: HostBox,
    pub environment: Environment,
    pub config: RwLock<Arc<Value>>,
    waiting: Mutex<Waiting>,
}

impl Link {
    pub fn new(host: HostBox) -> Result<Self> {
        let environment = serde_json::from_slice(&host.environment())
            .map_err(|e| ProbeError::failed(format!("the host's environment cannot be read: {e}")))?;
        let config = serde_json::from_slice(&host.config())
            .map_err(|e| ProbeError::failed(format!("the configuration cannot be read: {e}")))?;
        Ok(Link {
            host,
            environment,
            config: RwLock::new(Arc::new(config)),
            waiting: Mutex::default(),
        })
    }

    /// The action of a timer that has run out; a cancelled one has none.
    pub fn take_timer(&self, token: u64) -> Option<TimerAction> {
        lock(&self.waiting).timers.remove(&token)
    }

    pub fn take_answer(&self, token: u64) -> Option<AnswerAction> {
        lock(&self.waiting).answers.remove(&token)
    }

    /// Forgets everything that waits, and what its actions hold.
    pub fn forget_waiting(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        // An author's value may panic when dropped, and must not be dropped under the lock.
        let _ = caught(|| {
            drop(waiting);
            Ok(())
        });
    }
}

pub(crate) fn answered<T>(answer: RResult<T, Fault>) -> Result<T> {
    Result::from(answer).map_err(ProbeError::from)
}

/// The batches of an Arrow IPC stream. Decoded from the bytes in place: a length that lies cannot make it allocate.
fn read_answer(answer: RResult<RVec<u8>, Fault>) -> Result<Vec<RecordBatch>> {
    let mut bytes = Buffer::from_vec(answered(answer)?.into_vec());
    let wrong = |e: arrow_schema::ArrowError| ProbeError::failed(format!("the answer cannot be read: {e}"));
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut bytes).map_err(wrong)? {
        batches.push(batch);
    }
    decoder.finish().map_err(wrong)?;
    Ok(batches)
}

fn json<T: serde::Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| ProbeError::failed(format!("cannot be written as JSON: {e}")))
}

/// Durable state, outbox, timers, instances and queries.
impl Context {
    /// A value of the plugin's durable state, as last committed or queued. It is written with [`crate::Out::put_state`].
    pub fn state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let value = answered(self.link().host.state(RStr::from_str(key)))?;
        Ok(value.into_option().map(RVec::into_vec))
    }

    /// The same, read as JSON.
    pub fn state_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.state(key)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| ProbeError::failed(format!("state {key:?} cannot be read: {e}")))
    }

    /// Keys of the plugin's durable state that begin with `prefix`, in byte order.
    pub fn state_keys(&self, prefix: &str) -> Result<Vec<String>> {
        let keys = answered(self.link().host.state_keys(RStr::from_str(prefix)))?;
        Ok(keys.into_iter().map(String::from).collect())
    }

    /// Entries of the outbox that nobody has acknowledged with [`crate::Out::outbox_done`], oldest first.
    pub fn outbox(&self, limit: u32) -> Result<Vec<OutboxEntry>> {
        let entries = answered(self.link().host.outbox(limit))?;
        let own = |e: vwatch_abi::v1::OutboxEntry| OutboxEntry {
            id: e.id.into(),
            body: e.body.into_vec(),
        };
        Ok(entries.into_iter().map(own).collect())
    }

    /// Calls `action` after this long, once. One that repeats sets itself anew.
    pub fn after(
        &self,
        time: Duration,
        action: impl FnOnce(&Context) -> Result<()> + Send + 'static,
    ) -> Result<TimerId> {
        let token = {
            let mut waiting = lock(&self.link().waiting);
            waiting.last_token += 1;
            let token = waiting.last_token;
            waiting.timers.insert(token, Box::new(action));
            token
        };
        self.set_timer(token, time).inspect_err(|_| {
            self.link().take_timer(token);
        })?;
        Ok(TimerId(token))
    }

    /// Sets a timer that has not run out to run out after this long from now.
    pub fn move_timer(&self, timer: TimerId, time: Duration) -> Result<()> {
        if !lock(&self.link().waiting).timers.contains_key(&timer.0) {
            return Err(ProbeError::not_found("the timer has run out already"));
        }
        self.set_timer(timer.0, time)
    }

    /// Its action is never called. Nothing happens when it has been already.
    pub fn cancel_timer(&self, timer: TimerId) -> Result<()> {
        match self.link().take_timer(timer.0) {
            Some(action) => {
                drop(action);
                answered(self.link().host.timer(timer.0, u64::MAX))
            }
            None => Ok(()),
        }
    }

    fn set_timer(&self, token: u64, time: Duration) -> Result<()> {
        // `u64::MAX` cancels.
        let after_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX - 1);
        answered(self.link().host.timer(token, after_ns))
    }

    /// Starts an instance of any plugin's probe; answers its name.
    pub fn start_instance(&self, start: &StartInstance) -> Result<String> {
        let spec = json(&start.0)?;
        answered(self.link().host.instance_start(RSlice::from_slice(&spec))).map(String::from)
    }

    /// Stops an instance that this plugin started.
    pub fn stop_instance(&self, name: &str) -> Result<()> {
        answered(self.link().host.instance_stop(RStr::from_str(name)))
    }

    /// The columns of any table that the host knows.
    pub fn schema(&self, table: &str) -> Result<Table> {
        let bytes = answered(self.link().host.schema(RStr::from_str(table)))?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ProbeError::failed(format!("the schema of {table} cannot be read: {e}")))
    }

    /// Asks the store in SQL; `action` gets the answer, on a thread of the host.
    pub fn query(
        &self,
        query: &Query,
        action: impl FnOnce(&Context, Result<Vec<RecordBatch>>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let document = json(query)?;
        // Read here, not where the answer arrives: only a plugin that asks has the reader in it.
        let action = move |context: &Context, answer| action(context, read_answer(answer));
        let token = {
            let mut waiting = lock(&self.link().waiting);
            waiting.last_token += 1;
            let token = waiting.last_token;
            waiting.answers.insert(token, Box::new(action));
            token
        };
        answered(self.link().host.query(token, RSlice::from_slice(&document))).inspect_err(|_| {
            self.link().take_answer(token);
        })
    }

    /// Asks the store in SQL and waits for the answer: in a command, never where the host expects a prompt return.
    pub fn query_within(&self, query: &Query, limit: Duration) -> Result<Vec<RecordBatch>> {
        let (sender, receiver) = mpsc::channel();
        self.query(query, move |_, answer| {
            // The asker may have given up; then nobody wants the answer.
            let _ = sender.send(answer);
            Ok(())
        })?;
        receiver
            .recv_timeout(limit)
            .unwrap_or_else(|_| Err(ProbeError::failed(format!("no answer within {limit:?}"))))
    }

    /// Operations of the host that came after this version of the ABI.
    pub fn call_host(&self, operation: &str, input: &[u8]) -> Result<Vec<u8>> {
        answered(
            self.link()
                .host
                .call(RStr::from_str(operation), RSlice::from_slice(input)),
        )
        .map(RVec::into_vec)
    }
}
