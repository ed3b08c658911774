//! The documents of `control.sock`: HTTP with JSON bodies.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | GET /v1/status | | [`Status`] |
//! | GET /v1/plugins | | [`PluginList`] |
//! | POST /v1/plugins/load, /unload, /reload | [`PluginRequest`] | [`PluginList`] of the plugins concerned |
//! | GET /v1/probes | | [`InstanceList`] |
//! | GET /v1/probes/available | | [`ProbeList`] |
//! | GET /v1/probes/NAME | | [`Instance`] |
//! | POST /v1/probes | [`AddProbe`] | [`Instance`] |
//! | DELETE /v1/probes/NAME | | [`Instance`] as it was |
//! | POST /v1/commands | [`CommandRequest`] | [`CommandAnswer`] |
//! | GET /v1/openapi.json | | the OpenAPI document |
//!
//! Every error answer has an [`ErrorBody`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: i32,
    /// The daemon runs as root (or has what it needs to see everything).
    pub uid: u32,
    pub started_ns: i64,
    pub store: StoreStatus,
    pub plugins_dir: String,
    pub config_file: Option<String>,
    pub control_socket: String,
    pub query_socket: String,
    pub plugins_loaded: u64,
    pub plugins_refused: u64,
    pub instances: u64,
    /// Instances that are not running as they should.
    pub instances_troubled: u64,
    /// CPU time of the daemon since its start.
    pub cpu_ns: i64,
    pub rss_bytes: i64,
    /// What a person should know: a program that is missing, say.
    #[serde(default)]
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    pub path: String,
    pub file_bytes: u64,
    /// Time of the first and of the last sample.
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
    /// Commits since the daemon's start.
    pub commits: u64,
    /// Why recording is paused, when it is.
    pub paused: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginList {
    pub plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    pub file: String,
    /// Empty when the file was refused before its name could be known.
    pub name: String,
    pub version: String,
    pub doc: String,
    /// `loaded`, `refused`, `unloaded`
    pub state: String,
    /// Why it was refused, and what to do.
    pub reason: Option<String>,
    pub hint: Option<String>,
    pub probes: Vec<String>,
    pub tables: Vec<String>,
    pub since_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginRequest {
    /// A file for `load`; a plugin's name or file for `unload` and `reload`.
    pub plugin: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceList {
    pub instances: Vec<Instance>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub name: String,
    /// `PLUGIN.PROBE`
    pub probe: String,
    /// `running`, `starting`, `stopping`, `backoff`, `quarantined`, `unsupported`, `denied`, `refused` (its settings are wrong),
    /// `waiting` (its plugin is not loaded)
    pub state: String,
    /// Why it is not running, or not as often as it should.
    pub reason: Option<String>,
    pub every_ms: Option<u64>,
    /// When a limited instance ends.
    pub until_ns: Option<i64>,
    pub max_cpu: Option<f64>,
    pub options: Map<String, Value>,
    pub tables: Vec<String>,
    /// `default`, `config`, `added`, `plugin`
    pub origin: String,
    pub runs: u64,
    pub failures: u64,
    pub missed: u64,
    pub rows: u64,
    /// Mean over the recent runs.
    pub cpu_us_per_run: Option<f64>,
    pub last_run_ns: Option<i64>,
    pub last_rows: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeList {
    pub probes: Vec<AvailableProbe>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AvailableProbe {
    /// `PLUGIN.PROBE`
    pub probe: String,
    pub doc: String,
    pub tables: Vec<String>,
    /// `poll` or `stream`
    pub mode: String,
    pub every_ms: Option<u64>,
    pub default_on: bool,
    pub options: Vec<ProbeOption>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeOption {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub doc: String,
    pub default: Value,
    pub required: bool,
}

/// `probe add`: the reserved keys `every, name, for, max_cpu` stand among the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddProbe {
    /// `PLUGIN.PROBE`
    pub probe: String,
    /// As a person writes them: `{"every": "250ms", "name": "fast"}`.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// All words, as they were given: `["show", "alerts"]`.
    pub words: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandAnswer {
    pub columns: Vec<crate::table::Column>,
    /// One object per row.
    pub rows: Vec<Map<String, Value>>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// `not_found`, `bad_input`, `denied`, `conflict`, `unsupported`, `failed`
    pub kind: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Byte offset in the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}
