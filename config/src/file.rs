//! The file: which keys there are and what they mean. `config/vwatchd.conf` shows each with a comment.

use crate::error::ConfigError;
use crate::keep::{self, Keep};
use crate::table::{Source, Table};
use crate::{InstanceSection, LogLevel, Options, Place, ProbeSection, QueryLimits, SchedulerLimits};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vwatch_model::{name, unit};

/// Longest configuration that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the file says; None where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct File {
    pub store: Option<PathBuf>,
    pub store_map_bytes: Option<u64>,
    pub keep: Keep,
    pub plugins: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub remote_host: Option<String>,
    pub log_level: Option<LogLevel>,
    pub query: QueryLimits,
    pub scheduler: SchedulerLimits,
    pub probes: BTreeMap<String, ProbeSection>,
    pub instances: Vec<InstanceSection>,
    pub plugin_sections: BTreeMap<String, Map<String, Value>>,
}

impl File {
    pub fn read(path: &Path) -> Result<File, ConfigError> {
        let failed = |source| ConfigError::Read {
            file: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ConfigError::TooLong {
                file: path.to_owned(),
                bytes: std::fs::metadata(path).map_or(bytes.len() as u64, |m| m.len()),
                limit: MAX_FILE_BYTES,
            });
        }
        let text = String::from_utf8(bytes).map_err(|e| ConfigError::NotText {
            file: path.to_owned(),
            offset: e.utf8_error().valid_up_to(),
        })?;
        File::parse(path, &text)
    }

    /// Reads the text of a file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
        let source = Source { file: path, text };
        let parsed = toml::de::DeTable::parse(text).map_err(|e| ConfigError::Syntax {
            place: source.place(e.span().unwrap_or(0..0)),
            message: e.message().replace('\n', " "),
        })?;
        let mut top = Table::new(source, parsed.get_ref(), 0..0, "at the top of the file".to_owned());
        let store = keep::store(&mut top)?;
        let file = File {
            store: store.path,
            keep: store.keep,
            store_map_bytes: top.parsed("store-map", map_size)?,
            plugins: path_of(&mut top, "plugins")?,
            socket: path_of(&mut top, "socket")?,
            remote_host: top.string("remote-host")?.map(|(text, _)| text),
            log_level: log_level(&mut top)?,
            query: query(&mut top)?,
            scheduler: scheduler(&mut top)?,
            probes: probes(&mut top)?,
            instances: instances(&mut top)?,
            plugin_sections: plugin_sections(&mut top)?,
        };
        top.end()?;
        Ok(file)
    }
}

pub(crate) fn path_of(table: &mut Table<'_>, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    table.parsed(key, |text| {
        if text.starts_with('/') {
            Ok(PathBuf::from(text))
        } else {
            Err(format!("{text:?} is not an absolute path"))
        }
    })
}

fn map_size(text: &str) -> Result<u64, String> {
    let bytes = unit::parse_bytes(text).map_err(|e| e.to_string())?;
    if (16 << 20..=1 << 46).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{text:?} is not between 16MiB and 64TiB"))
    }
}

fn log_level(top: &mut Table<'_>) -> Result<Option<LogLevel>, ConfigError> {
    let Some(mut section) = top.table("log")? else {
        return Ok(None);
    };
    let level = section.parsed("level", |word| {
        LogLevel::parse(word).ok_or_else(|| format!("{word:?} is not one of {}", LogLevel::WORDS.join(", ")))
    })?;
    section.end()?;
    Ok(level)
}

fn query(top: &mut Table<'_>) -> Result<QueryLimits, ConfigError> {
    let mut limits = QueryLimits::default();
    let Some(mut section) = top.table("query")? else {
        return Ok(limits);
    };
    if let Some(bytes) = section.parsed("memory", |text| {
        at_least(unit::parse_bytes(text), text, 32 << 20, "32MiB")
    })? {
        limits.memory_bytes = bytes;
    }
    if let Some(time) = section.parsed("time", positive_duration)? {
        limits.time = time;
    }
    if let Some(rows) = section.count("rows")? {
        limits.rows = rows;
    }
    if let Some(connections) = section.count("connections")? {
        limits.connections = u32::try_from(connections).unwrap_or(u32::MAX).min(1024);
    }
    section.end()?;
    Ok(limits)
}

pub(crate) fn at_least(
    parsed: Result<u64, unit::UnitError>,
    text: &str,
    least: u64,
    word: &str,
) -> Result<u64, String> {
    let bytes = parsed.map_err(|e| e.to_string())?;
    if bytes >= least {
        Ok(bytes)
    } else {
        Err(format!("{text:?} is less than {word}"))
    }
}

fn scheduler(top: &mut Table<'_>) -> Result<SchedulerLimits, ConfigError> {
    let mut limits = SchedulerLimits::default();
    let Some(mut section) = top.table("scheduler")? else {
        return Ok(limits);
    };
    if let Some(limit) = section.parsed("run-limit", positive_duration)? {
        limits.run_limit = limit;
    }
    if let Some(workers) = section.count("workers")? {
        limits.workers = u32::try_from(workers).unwrap_or(u32::MAX).clamp(2, 1024);
    }
    section.end()?;
    Ok(limits)
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match unit::parse_duration(text).map_err(|e| e.to_string())? {
        Duration::ZERO => Err(format!("{text:?} is no time at all")),
        time => Ok(time),
    }
}

/// An interval of a probe: from a millisecond to a week.
pub fn interval(text: &str) -> Result<Duration, String> {
    let every = unit::parse_duration(text).map_err(|e| e.to_string())?;
    if (Duration::from_millis(1)..=Duration::from_secs(7 * 86400)).contains(&every) {
        Ok(every)
    } else {
        Err(format!("{text:?} is not between 1ms and 7d"))
    }
}

fn probes(top: &mut Table<'_>) -> Result<BTreeMap<String, ProbeSection>, ConfigError> {
    let Some(sections) = top.table("probe")? else {
        return Ok(BTreeMap::new());
    };
    let mut probes = BTreeMap::new();
    for entry in sections.entries() {
        let (probe, mut table) = entry?;
        check_probe_name(&probe, table.place())?;
        let section = ProbeSection {
            place: table.place(),
            enabled: table.bool("enabled")?,
            every: table.parsed("every", interval)?,
            max_cpu: table.parsed("max_cpu", unit::parse_percent)?,
            options: options(&table)?,
        };
        probes.insert(probe, section);
    }
    Ok(probes)
}

fn check_probe_name(probe: &str, place: Place) -> Result<(), ConfigError> {
    let whole = probe
        .split_once('.')
        .is_some_and(|(plugin, probe)| name::is_plugin_name(plugin) && name::is_identifier(probe));
    if whole {
        return Ok(());
    }
    Err(ConfigError::BadValue {
        place,
        key: "probe".to_owned(),
        message: format!("{probe:?} is not of the form PLUGIN.PROBE (write [probe.\"process.process\"], in quotes)"),
    })
}

fn instances(top: &mut Table<'_>) -> Result<Vec<InstanceSection>, ConfigError> {
    let mut instances: Vec<InstanceSection> = Vec::new();
    for mut table in top.tables("instance")? {
        let (probe, probe_place) = required(&mut table, "probe")?;
        check_probe_name(&probe, probe_place)?;
        let (name, name_place) = required(&mut table, "name")?;
        let bad_name = |message: String| ConfigError::BadValue {
            place: name_place.clone(),
            key: "name".to_owned(),
            message,
        };
        if !name::is_instance_name(&name) {
            return Err(bad_name(format!("{name:?} is not a name: letters, digits and _.:@-")));
        }
        if let Some(first) = instances.iter().find(|i| i.name == name) {
            return Err(bad_name(format!(
                "{name:?} is the instance of line {} already",
                first.place.line
            )));
        }
        let section = InstanceSection {
            place: name_place,
            probe,
            name,
            every: table.parsed("every", interval)?,
            max_cpu: table.parsed("max_cpu", unit::parse_percent)?,
            options: options(&table)?,
        };
        instances.push(section);
    }
    Ok(instances)
}

fn required(table: &mut Table<'_>, key: &'static str) -> Result<(String, Place), ConfigError> {
    let found = table.string(key)?;
    found.ok_or_else(|| ConfigError::Missing {
        place: table.place(),
        within: table.within().trim_start_matches("in ").to_owned(),
        key,
    })
}

/// The keys of a probe's own: everything that is not the host's.
fn options(table: &Table<'_>) -> Result<Options, ConfigError> {
    let mut options = Options::default();
    for (key, value, place) in table.rest()? {
        if matches!(value, Value::Object(_)) {
            return Err(ConfigError::WrongType {
                place,
                key,
                expected: "a simple value",
                found: "a table".to_owned(),
            });
        }
        options.places.insert(key.clone(), place);
        options.values.insert(key, value);
    }
    Ok(options)
}

fn plugin_sections(top: &mut Table<'_>) -> Result<BTreeMap<String, Map<String, Value>>, ConfigError> {
    let Some(sections) = top.table("plugin")? else {
        return Ok(BTreeMap::new());
    };
    let mut plugins = BTreeMap::new();
    for entry in sections.entries() {
        let (plugin, table) = entry?;
        if !name::is_plugin_name(&plugin) {
            return Err(ConfigError::BadValue {
                place: table.place(),
                key: "plugin".to_owned(),
                message: format!("{plugin:?} is not a plugin's name"),
            });
        }
        let values = table.rest()?.into_iter().map(|(key, value, _)| (key, value));
        plugins.insert(plugin, values.collect());
    }
    Ok(plugins)
}
