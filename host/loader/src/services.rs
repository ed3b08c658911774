//! What the host does for its plugins. The recorder's core implements [`HostServices`]; this crate carries it over the ABI.

use crate::commit::{Commit, OutboxEntry};
use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use vwatch_model::TableSchema;

/// Services for plugins. `plugin` is the name of the plugin that asks. Called from any thread, also from within a call
/// into the plugin; must not call back into the plugin before it returns.
pub trait HostServices: Send + Sync {
    fn log(&self, plugin: &str, level: Level, message: &str);

    fn environment(&self) -> Environment;

    /// The plugin's section of the configuration, an object.
    fn config(&self, plugin: &str) -> Value;

    /// Any table that the host knows.
    fn schema(&self, table: &str) -> Option<TableSchema>;

    /// Queues a commit of an instance, or of the plugin itself (0). Its table indices are within the plugin's manifest.
    fn emit(&self, plugin: &str, instance: u64, commit: Commit) -> Result<(), Fault>;

    /// A value of the plugin's durable state, as last committed or queued.
    fn state(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>, Fault>;

    /// Keys of the plugin's durable state that begin with `prefix`, in byte order.
    fn state_keys(&self, plugin: &str, prefix: &str) -> Result<Vec<String>, Fault>;

    /// Entries of the plugin's outbox that nobody has acknowledged, oldest first.
    fn outbox(&self, plugin: &str, limit: usize) -> Result<Vec<OutboxEntry>, Fault>;

    /// Calls [`crate::Plugin::timer`] with `token` after `after`, once; again with the same token moves it, `None` cancels it.
    fn timer(&self, plugin: &str, token: u64, after: Option<Duration>) -> Result<(), Fault>;

    /// Starts an instance of any plugin's probe; answers its name.
    fn instance_start(&self, plugin: &str, spec: InstanceSpec) -> Result<String, Fault>;

    /// Stops an instance that this plugin started.
    fn instance_stop(&self, plugin: &str, name: &str) -> Result<(), Fault>;

    /// Sends bytes to a waiting client; `Gone` when it has left, `Busy` when the bytes were not taken.
    fn stream_send(&self, stream: u64, bytes: &[u8]) -> Result<(), Fault>;

    fn stream_close(&self, stream: u64) -> Result<(), Fault>;

    /// Asks the store; the answer goes to [`crate::Plugin::answered`] with `token`.
    fn query(&self, plugin: &str, token: u64, query: Query) -> Result<(), Fault>;
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// 1 error … 5 trace; what lies outside is taken for the nearest.
    pub(crate) fn from_abi(level: u8) -> Self {
        match level {
            0 | 1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        }
    }
}

/// Where a plugin runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the host.
    pub host_version: String,
    /// Where the kernel's `/proc` is mounted.
    pub proc_dir: String,
    /// Where the kernel's `/sys` is mounted.
    pub sys_dir: String,
    /// Those trees belong to the kernel that runs.
    pub live: bool,
    /// Directory for the plugin's own files.
    pub state_dir: String,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// `PLUGIN.PROBE`
    pub probe: String,
    /// Name of the instance; the host chooses one when empty.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub every_ms: Option<u64>,
    /// Ends by itself after this long.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Options as people write them, or in the form in which they cross.
    #[serde(default)]
    pub options: Map<String, Value>,
}

/// A question to the store; the answer is an Arrow IPC stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    pub sql: String,
    #[serde(default)]
    pub at_ns: Option<i64>,
    #[serde(default)]
    pub from_ns: Option<i64>,
    #[serde(default)]
    pub to_ns: Option<i64>,
}
