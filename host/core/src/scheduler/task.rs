//! One call into a probe: what goes in, and what comes out. Runs on a thread of the pool, under no lock.

use crate::calls::{PluginCalls, ProbeCalls};
use crate::pipeline::KnownTable;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use vwatch_loader::{Fault, Mode};

/// A loaded copy of a plugin.
pub struct LoadedPlugin {
    pub name: Arc<str>,
    /// Counts loads: another copy of the same plugin has another number.
    pub copy: u64,
    pub calls: Arc<dyn PluginCalls>,
    /// In the manifest's order.
    pub tables: Vec<KnownTable>,
}

/// An instance's settings against a loaded plugin.
pub struct Resolved {
    pub plugin: Arc<LoadedPlugin>,
    pub probe: String,
    pub mode: Mode,
    /// Zero for a streaming probe.
    pub every: Duration,
    /// Typed, with defaults.
    pub options: Map<String, Value>,
    pub tables: Vec<String>,
}

/// A probe that was opened.
pub struct OpenProbe {
    pub handle: Box<dyn ProbeCalls>,
    pub resolved: Arc<Resolved>,
}

pub enum Task {
    Open(Arc<Resolved>),
    Run {
        open: OpenProbe,
        due_ns: i64,
        interval_ns: u64,
        sequence: u64,
        full: bool,
    },
    Stop(OpenProbe),
}

impl Task {
    /// For messages.
    pub fn word(&self) -> &'static str {
        match self {
            Task::Open(_) => "its opening",
            Task::Run { .. } => "a run",
            Task::Stop(_) => "its end",
        }
    }
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    pub time_ns: i64,
    pub cpu_ns: i64,
    pub rows: u64,
    /// Something of it was dropped on the way to the store.
    pub dropped: bool,
}

pub enum Done {
    Opened(Result<OpenProbe, Fault>),
    Ran {
        open: OpenProbe,
        run: Run,
        fault: Option<Fault>,
    },
    Stopped,
}
