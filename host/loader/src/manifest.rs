//! What a plugin says of itself, and the rules it keeps.
//!
//! The document comes from outside: its size, counts and every name are checked before anything is made of it.

use crate::refusal::Fail;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;
use vwatch_abi::describe;
use vwatch_model::table::SchemaError;
use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema, core_tables, name};

/// Bounds of a manifest: far above any sensible plugin, far below what would hurt the host.
const MAX_BYTES: usize = 1 << 20;
const MAX_ENTRIES: usize = 256;
const MAX_COLUMNS: usize = 1024;
const MAX_OPTIONS: usize = 64;
const MAX_COMMAND_WORDS: usize = 4;
const MAX_EVERY: Duration = Duration::from_secs(366 * 86_400);
/// Keys that `probe add` keeps for itself.
const RESERVED_OPTIONS: [&str; 4] = ["every", "name", "for", "max_cpu"];

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub doc: String,
    pub tables: Vec<TableSchema>,
    pub probes: Vec<ProbeEntry>,
    pub subscribers: Vec<SubscriberEntry>,
    pub commands: Vec<CommandEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeEntry {
    pub name: String,
    pub doc: String,
    /// Names of the tables it fills; all of them are in the manifest.
    pub tables: Vec<String>,
    pub mode: Mode,
    /// Default interval of a polled probe; zero for a streaming one.
    pub every: Duration,
    /// An instance of the probe's own name runs without being asked for.
    pub default_on: bool,
    pub options: Vec<ProbeOption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Poll,
    Stream,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeOption {
    pub name: String,
    pub kind: OptionType,
    pub doc: String,
    /// Of the option's type, in the form in which it crosses; null where there is none.
    pub default: Value,
    pub required: bool,
}

/// How an option's text is read, and the JSON form in which it crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionType {
    Bool,
    Integer,
    Float,
    String,
    /// Crosses as nanoseconds.
    Duration,
    /// Crosses as bytes.
    Bytes,
    /// Crosses as an array of strings.
    List,
}

impl OptionType {
    pub fn word(self) -> &'static str {
        match self {
            OptionType::Bool => "bool",
            OptionType::Integer => "integer",
            OptionType::Float => "float",
            OptionType::String => "string",
            OptionType::Duration => "duration",
            OptionType::Bytes => "bytes",
            OptionType::List => "list",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriberEntry {
    pub name: String,
    pub tables: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandEntry {
    /// First words of the command: `show alerts`.
    pub name: String,
    pub usage: String,
    pub doc: String,
    /// Changes something: only root (or the daemon's user) may.
    pub changes: bool,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("its manifest has {0} bytes; at most {MAX_BYTES} are read")]
    Size(usize),
    #[error("its manifest is not the JSON it should be: {0}")]
    Json(serde_json::Error),
    #[error("plugin name {0:?} is not of the form [a-z][a-z0-9_-]* (at most 64 characters)")]
    PluginName(String),
    #[error("version {0:?} is not 1 to 64 printable characters")]
    Version(String),
    #[error("it declares {count} {what}; at most {limit} are taken")]
    TooMany { what: String, count: usize, limit: usize },
    #[error("{what} name {name:?} is not of the form [a-z][a-z0-9_]* (at most 64 characters)")]
    Name { what: &'static str, name: String },
    #[error("{what} {name} is declared twice")]
    Twice { what: String, name: String },
    #[error(transparent)]
    Schema(SchemaError),
    #[error("table {0} is one of the host's own")]
    HostTable(String),
    #[error("probe {probe} fills table {table:?}, which the plugin does not declare")]
    NoSuchTable { probe: String, table: String },
    #[error("probe {0} fills no table")]
    NoTables(String),
    #[error("polled probe {0} has no interval of 1 ms to 366 days")]
    Interval(String),
    #[error("option {option} of probe {probe}: the key is the host's own")]
    ReservedOption { probe: String, option: String },
    #[error("option {option} of probe {probe}: its default {default} is no {kind}")]
    Default {
        probe: String,
        option: String,
        default: String,
        kind: &'static str,
    },
    #[error("option {option} of probe {probe} is required and has a default")]
    RequiredDefault { probe: String, option: String },
    #[error("command {0:?} is not one to {MAX_COMMAND_WORDS} words of the form [a-z][a-z0-9_-]*")]
    CommandName(String),
}

impl From<ManifestError> for Fail {
    fn from(error: ManifestError) -> Fail {
        Fail::new(error.to_string(), "the plugin's author has to correct its declarations")
    }
}

impl Manifest {
    /// Reads and checks the document of `Plugin::manifest`.
    pub(crate) fn read(json: &[u8]) -> Result<Manifest, ManifestError> {
        if json.len() > MAX_BYTES {
            return Err(ManifestError::Size(json.len()));
        }
        let said: describe::Manifest = serde_json::from_slice(json).map_err(ManifestError::Json)?;
        if !name::is_plugin_name(&said.name) {
            return Err(ManifestError::PluginName(said.name));
        }
        let printable = said.version.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if said.version.is_empty() || said.version.len() > 64 || !printable {
            return Err(ManifestError::Version(said.version));
        }
        bound("tables", said.tables.len(), MAX_ENTRIES)?;
        bound("probes", said.probes.len(), MAX_ENTRIES)?;
        bound("subscribers", said.subscribers.len(), MAX_ENTRIES)?;
        bound("commands", said.commands.len(), MAX_ENTRIES)?;
        let tables = tables(said.tables)?;
        let probes = probes(said.probes, &tables)?;
        Ok(Manifest {
            name: said.name,
            version: said.version,
            doc: said.doc,
            tables,
            probes,
            subscribers: subscribers(said.subscribers)?,
            commands: commands(said.commands)?,
        })
    }

    pub fn probe(&self, name: &str) -> Option<&ProbeEntry> {
        self.probes.iter().find(|p| p.name == name)
    }

    /// Index of a table, as [`crate::Batch::table`] has it.
    pub fn table_index(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.name == name)
    }
}

fn bound(what: impl Into<String>, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count <= limit {
        return Ok(());
    }
    Err(ManifestError::TooMany {
        what: what.into(),
        count,
        limit,
    })
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ManifestError::Twice {
                what: what.to_owned(),
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn identifier(what: &'static str, name: &str) -> Result<(), ManifestError> {
    if name::is_identifier(name) {
        return Ok(());
    }
    Err(ManifestError::Name {
        what,
        name: name.to_owned(),
    })
}

fn tables(said: Vec<describe::Table>) -> Result<Vec<TableSchema>, ManifestError> {
    let host = core_tables::all();
    let mut tables = Vec::with_capacity(said.len());
    for t in said {
        bound(format!("columns in table {:?}", t.name), t.columns.len(), MAX_COLUMNS)?;
        let table = TableSchema {
            name: t.name,
            kind: match t.kind {
                describe::TableKind::State => TableKind::State,
                describe::TableKind::Event => TableKind::Event,
            },
            doc: t.doc,
            access: match t.access {
                describe::Access::All => Access::All,
                describe::Access::Owner => Access::Owner,
            },
            columns: t.columns.into_iter().map(column).collect(),
        };
        table.check().map_err(ManifestError::Schema)?;
        if host.iter().any(|h| h.name == table.name) {
            return Err(ManifestError::HostTable(table.name));
        }
        tables.push(table);
    }
    distinct("table", tables.iter().map(|t| t.name.as_str()))?;
    Ok(tables)
}

/// A column as a plugin declares it, in a table or in the answer to a command.
pub(crate) fn column(c: describe::Column) -> Column {
    Column {
        name: c.name,
        kind: match c.kind {
            describe::ColumnType::Bool => ColumnType::Bool,
            describe::ColumnType::I32 => ColumnType::I32,
            describe::ColumnType::I64 => ColumnType::I64,
            describe::ColumnType::U32 => ColumnType::U32,
            describe::ColumnType::U64 => ColumnType::U64,
            describe::ColumnType::F64 => ColumnType::F64,
            describe::ColumnType::String => ColumnType::String,
            describe::ColumnType::Bytes => ColumnType::Bytes,
            describe::ColumnType::Timestamp => ColumnType::Timestamp,
        },
        unit: c.unit,
        doc: c.doc,
        key: c.key,
        nullable: c.nullable,
        counter: c.counter,
    }
}

fn probes(said: Vec<describe::Probe>, tables: &[TableSchema]) -> Result<Vec<ProbeEntry>, ManifestError> {
    let mut probes = Vec::with_capacity(said.len());
    for p in said {
        identifier("probe", &p.name)?;
        if p.tables.is_empty() {
            return Err(ManifestError::NoTables(p.name));
        }
        if let Some(missing) = p.tables.iter().find(|t| !tables.iter().any(|d| d.name == **t)) {
            return Err(ManifestError::NoSuchTable {
                probe: p.name,
                table: missing.clone(),
            });
        }
        distinct(
            &format!("in probe {}, table", p.name),
            p.tables.iter().map(String::as_str),
        )?;
        let (mode, every) = match p.mode {
            describe::Mode::Poll => (Mode::Poll, Duration::from_millis(p.every_ms)),
            describe::Mode::Stream => (Mode::Stream, Duration::ZERO),
        };
        if mode == Mode::Poll && (every.is_zero() || every > MAX_EVERY) {
            return Err(ManifestError::Interval(p.name));
        }
        let options = options(&p.name, p.options)?;
        probes.push(ProbeEntry {
            name: p.name,
            doc: p.doc,
            tables: p.tables,
            mode,
            every,
            default_on: p.default_on,
            options,
        });
    }
    distinct("probe", probes.iter().map(|p| p.name.as_str()))?;
    Ok(probes)
}

fn options(probe: &str, said: Vec<describe::ProbeOption>) -> Result<Vec<ProbeOption>, ManifestError> {
    bound(format!("options of probe {probe}"), said.len(), MAX_OPTIONS)?;
    let mut options = Vec::with_capacity(said.len());
    for o in said {
        identifier("option", &o.name)?;
        let at = || (probe.to_owned(), o.name.clone());
        if RESERVED_OPTIONS.contains(&o.name.as_str()) {
            let (probe, option) = at();
            return Err(ManifestError::ReservedOption { probe, option });
        }
        let kind = option_type(o.kind);
        if !o.default.is_null() && !crate::options::crosses_as(kind, &o.default) {
            let (probe, option) = at();
            return Err(ManifestError::Default {
                probe,
                option,
                default: o.default.to_string(),
                kind: kind.word(),
            });
        }
        if o.required && !o.default.is_null() {
            let (probe, option) = at();
            return Err(ManifestError::RequiredDefault { probe, option });
        }
        options.push(ProbeOption {
            name: o.name,
            kind,
            doc: o.doc,
            default: o.default,
            required: o.required,
        });
    }
    distinct(
        &format!("in probe {probe}, option"),
        options.iter().map(|o| o.name.as_str()),
    )?;
    Ok(options)
}

fn option_type(kind: describe::OptionType) -> OptionType {
    match kind {
        describe::OptionType::Bool => OptionType::Bool,
        describe::OptionType::Integer => OptionType::Integer,
        describe::OptionType::Float => OptionType::Float,
        describe::OptionType::String => OptionType::String,
        describe::OptionType::Duration => OptionType::Duration,
        describe::OptionType::Bytes => OptionType::Bytes,
        describe::OptionType::List => OptionType::List,
    }
}

fn subscribers(said: Vec<describe::Subscriber>) -> Result<Vec<SubscriberEntry>, ManifestError> {
    distinct("subscriber", said.iter().map(|s| s.name.as_str()))?;
    said.into_iter()
        .map(|s| {
            identifier("subscriber", &s.name)?;
            bound(format!("tables of subscriber {}", s.name), s.tables.len(), MAX_ENTRIES)?;
            for table in &s.tables {
                identifier("table", table)?;
            }
            distinct(
                &format!("in subscriber {}, table", s.name),
                s.tables.iter().map(String::as_str),
            )?;
            Ok(SubscriberEntry {
                name: s.name,
                tables: s.tables,
            })
        })
        .collect()
}

fn commands(said: Vec<describe::Command>) -> Result<Vec<CommandEntry>, ManifestError> {
    distinct("command", said.iter().map(|c| c.name.as_str()))?;
    said.into_iter()
        .map(|c| {
            let words: Vec<&str> = c.name.split(' ').collect();
            if words.len() > MAX_COMMAND_WORDS || !words.iter().all(|w| name::is_plugin_name(w)) {
                return Err(ManifestError::CommandName(c.name));
            }
            Ok(CommandEntry {
                name: c.name,
                usage: c.usage,
                doc: c.doc,
                changes: c.changes,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
