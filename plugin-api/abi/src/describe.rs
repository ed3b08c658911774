//! Documents that cross the ABI as JSON: what a plugin is and what it brings.
//!
//! Unknown fields are ignored and missing ones take the default given here, so that documents may grow.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a plugin says of itself: the answer of `Plugin::manifest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the plugin: `[a-z][a-z0-9_-]*`; probes are addressed as `PLUGIN.PROBE`.
    pub name: String,
    /// The plugin's own version, as its author writes it.
    pub version: String,
    #[serde(default)]
    pub doc: String,
    #[serde(default)]
    pub tables: Vec<Table>,
    #[serde(default)]
    pub probes: Vec<Probe>,
    #[serde(default)]
    pub subscribers: Vec<Subscriber>,
    #[serde(default)]
    pub commands: Vec<Command>,
}

/// A table that the plugin's probes fill. [`crate::v1::Batch::table`] is its index in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// `[a-z][a-z0-9_]*`, singular.
    pub name: String,
    pub kind: TableKind,
    #[serde(default)]
    pub doc: String,
    #[serde(default)]
    pub access: Access,
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// A full picture at every sample time, keyed by the key columns.
    State,
    /// Rows that each carry their own time, in a first column `time`.
    Event,
}

/// Who may read a table's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Everybody who may query.
    #[default]
    All,
    /// Root, and the user in the row's column `owner_uid`.
    Owner,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// `[a-z][a-z0-9_]*`; ends in its unit where it has one.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// `ns`, `bytes`, `percent`, `pages` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default)]
    pub doc: String,
    /// Part of the row's identity within one picture.
    #[serde(default)]
    pub key: bool,
    #[serde(default)]
    pub nullable: bool,
    /// Only grows while the thing it counts lives; a fall means a restart.
    #[serde(default)]
    pub counter: bool,
}

/// Column types and their Arrow layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Boolean
    Bool,
    /// Int32
    I32,
    /// Int64: quantities and counters
    I64,
    /// UInt32
    U32,
    /// UInt64: masks and addresses
    U64,
    /// Float64
    F64,
    /// Utf8
    String,
    /// Binary
    Bytes,
    /// Timestamp(Nanosecond, "UTC")
    Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// `[a-z][a-z0-9_]*`
    pub name: String,
    #[serde(default)]
    pub doc: String,
    /// Names of the tables it fills.
    pub tables: Vec<String>,
    #[serde(default)]
    pub mode: Mode,
    /// Default interval of a polled probe.
    #[serde(default)]
    pub every_ms: u64,
    /// An instance of the probe's own name runs without being asked for.
    #[serde(default)]
    pub default_on: bool,
    #[serde(default)]
    pub options: Vec<ProbeOption>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `run` is called at each tick.
    #[default]
    Poll,
    /// `start` is called once; rows come through `Host::emit` until `stop`.
    Stream,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeOption {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: OptionType,
    #[serde(default)]
    pub doc: String,
    /// Value taken when the option is not given; `null` where there is none.
    #[serde(default)]
    pub default: Value,
    #[serde(default)]
    pub required: bool,
}

/// How the host reads an option's text before it crosses as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionType {
    Bool,
    Integer,
    Float,
    String,
    /// `250ms`, `10s`; crosses as a number of nanoseconds.
    Duration,
    /// `4KiB`, `2MB`; crosses as a number of bytes.
    Bytes,
    /// `a,b,c`; crosses as an array of strings.
    List,
}

/// Asks for every batch of the named tables. [`crate::v1::Plugin::receive`] gets its index in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscriber {
    pub name: String,
    pub tables: Vec<String>,
}

/// A word, or words, that `vwatchctl` and the control socket pass on to the plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// First words of the command: `show alerts`.
    pub name: String,
    #[serde(default)]
    pub usage: String,
    #[serde(default)]
    pub doc: String,
    /// Changes something: only root (or the daemon's user) may.
    #[serde(default)]
    pub changes: bool,
}

/// Where a plugin runs: the answer of `Host::environment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the host.
    pub host_version: String,
    /// Where the kernel's `/proc` is mounted.
    pub proc_dir: String,
    /// Where the kernel's `/sys` is mounted.
    pub sys_dir: String,
    /// Those trees belong to the kernel that runs; BPF and netlink speak of the same host.
    pub live: bool,
    /// Directory for the plugin's own files, created on first use by the plugin.
    #[serde(default)]
    pub state_dir: String,
}

/// What to start: the argument of `Host::instance_start`.
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
    #[serde(default)]
    pub options: serde_json::Map<String, Value>,
}

/// A question to the store: the argument of `Host::query`. The answer is an Arrow IPC stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    pub sql: String,
    /// State tables are read as of this time.
    #[serde(default)]
    pub at_ns: Option<i64>,
    /// Histories and events are read from this time on,
    #[serde(default)]
    pub from_ns: Option<i64>,
    /// and up to this one.
    #[serde(default)]
    pub to_ns: Option<i64>,
}
