//! Configuration of vwatchd: `/etc/vwatchd.conf` in TOML, under flags and environment, over built-in defaults.
//!
//! **Invariant:** nothing is guessed. An unknown key or a value of the wrong type is refused with file, line, column and the
//! nearest known key; a file is taken whole or not at all. Names of probes and their options are known only once plugins are
//! loaded, so they are kept with their [`Place`] and checked by the core.

mod error;
mod file;
mod keep;
mod table;

pub use error::{ConfigError, Place, nearest};
pub use file::{File, MAX_FILE_BYTES};
pub use keep::{Keep, KeepRules, Limit, Size, ThinStep};

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vwatch_model::paths;

/// What flags and environment say; a flag goes before its variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub config: Option<PathBuf>,
    pub cluster: Option<PathBuf>,
    pub store: Option<PathBuf>,
    pub plugins: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub proc_dir: Option<PathBuf>,
    pub sys_dir: Option<PathBuf>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that was read; None when the default one does not exist.
    pub file: Option<PathBuf>,
    pub store: PathBuf,
    pub store_map_bytes: u64,
    /// What the store keeps, with the defaults filled in.
    pub keep: Keep,
    pub plugins: PathBuf,
    pub socket: PathBuf,
    pub remote_host: Option<String>,
    /// The cluster document that was named, or that lies beside the configuration.
    pub cluster: Option<PathBuf>,
    pub proc_dir: PathBuf,
    pub sys_dir: PathBuf,
    pub log_level: LogLevel,
    pub query: QueryLimits,
    pub scheduler: SchedulerLimits,
    /// Sections `[probe."PLUGIN.PROBE"]`: settings of default instances.
    pub probes: BTreeMap<String, ProbeSection>,
    /// Sections `[[instance]]`.
    pub instances: Vec<InstanceSection>,
    /// Sections `[plugin.NAME]`, handed to the plugin as they are.
    pub plugin_sections: BTreeMap<String, Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub const WORDS: [&'static str; 5] = ["error", "warn", "info", "debug", "trace"];

    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    pub fn parse(word: &str) -> Option<LogLevel> {
        use LogLevel::*;
        let at = Self::WORDS.iter().position(|w| *w == word)?;
        Some([Error, Warn, Info, Debug, Trace][at])
    }
}

/// What one query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    pub memory_bytes: u64,
    pub time: Duration,
    pub rows: u64,
    /// Queries that run at the same time; more wait.
    pub connections: u32,
}

impl Default for QueryLimits {
    fn default() -> Self {
        QueryLimits {
            memory_bytes: 512 << 20,
            time: Duration::from_secs(60),
            rows: 50_000_000,
            connections: 8,
        }
    }
}

/// What one run of a probe may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// A run is given up after this, or after ten intervals where that is longer.
    pub run_limit: Duration,
    /// Threads for runs, at most.
    pub workers: u32,
}

impl Default for SchedulerLimits {
    fn default() -> Self {
        SchedulerLimits {
            run_limit: Duration::from_secs(10),
            workers: 64,
        }
    }
}

/// Settings of the default instance of a probe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeSection {
    pub place: Place,
    /// None: as the probe's manifest says.
    pub enabled: Option<bool>,
    pub every: Option<Duration>,
    /// Share of one CPU.
    pub max_cpu: Option<f64>,
    pub options: Options,
}

/// One more instance of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceSection {
    pub place: Place,
    /// `PLUGIN.PROBE`
    pub probe: String,
    pub name: String,
    pub every: Option<Duration>,
    pub max_cpu: Option<f64>,
    pub options: Options,
}

/// A probe's own options and where each stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub values: Map<String, Value>,
    pub places: BTreeMap<String, Place>,
}

impl Config {
    /// Reads the file and lays flags, environment and defaults around it. `env` is asked for the XDG directories only:
    /// variables of the daemon's own are in `overrides` already.
    pub fn load(overrides: &Overrides, uid: u32, env: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let (path, named) = match &overrides.config {
            Some(path) => (path.clone(), true),
            None => (PathBuf::from(paths::CONFIG_FILE), false),
        };
        let file = match File::read(&path) {
            Ok(file) => Some(file),
            Err(ConfigError::Read { source, .. }) if !named && source.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let found = file.is_some().then(|| path.clone());
        let file = file.unwrap_or_default();
        let defaults = paths::defaults(uid, env);
        let pick = |flag: &Option<PathBuf>, file: Option<PathBuf>, default: PathBuf| {
            absolute(flag.clone().or(file).unwrap_or(default))
        };
        Ok(Config {
            cluster: cluster_document(&overrides.cluster, &path)?,
            store: pick(&overrides.store, file.store, defaults.store)?,
            store_map_bytes: file.store_map_bytes.unwrap_or(1 << 40),
            keep: file.keep.or_default(),
            plugins: pick(&overrides.plugins, file.plugins, paths::PLUGINS_DIR.into())?,
            socket: pick(&overrides.socket, file.socket, defaults.control_socket)?,
            remote_host: file.remote_host,
            proc_dir: pick(&overrides.proc_dir, None, "/proc".into())?,
            sys_dir: pick(&overrides.sys_dir, None, "/sys".into())?,
            log_level: file.log_level.unwrap_or_default(),
            query: file.query,
            scheduler: file.scheduler,
            probes: file.probes,
            instances: file.instances,
            plugin_sections: file.plugin_sections,
            file: found,
        })
    }

    /// `query.sock` lies beside the control socket.
    pub fn query_socket(&self) -> PathBuf {
        self.socket.with_file_name(paths::QUERY_SOCKET_NAME)
    }
}

/// The cluster document: one that is named must exist, the default one may.
fn cluster_document(named: &Option<PathBuf>, config: &Path) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = named {
        return match std::fs::metadata(path) {
            Ok(_) => Ok(Some(path.clone())),
            Err(source) => Err(ConfigError::Read {
                file: path.clone(),
                source,
            }),
        };
    }
    let beside = config.with_file_name("vwatchd.cluster.json");
    Ok(beside.exists().then_some(beside))
}

/// A path relative to the working directory is made absolute once, at the start.
fn absolute(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|source| ConfigError::Read { file: path, source })
}

#[cfg(test)]
mod tests;
