//! What the core asks of a plugin. The loader's [`Plugin`] is the one implementation outside tests; the traits are the
//! seam where tests put plugins that sleep, fail and hang on demand.
//!
//! **Invariant:** every call goes into foreign code. It is never made under a lock of the core's, and only from threads that the
//! rest can do without.

use serde_json::{Map, Value};
use std::path::Path;
use vwatch_loader::{
    CommandAnswer, CommandCall, Commit, Fault, FaultKind, Manifest, Plugin, ProbeHandle, ReceivedRows, Tick,
};

pub trait PluginCalls: Send + Sync {
    fn manifest(&self) -> &Manifest;
    fn file(&self) -> &Path;
    fn open(&self, probe: &str, instance: u64, options: &Map<String, Value>) -> Result<Box<dyn ProbeCalls>, Fault>;
    fn receive(&self, subscriber: usize, rows: &ReceivedRows<'_>) -> Result<(), Fault>;
    fn command(&self, call: &CommandCall) -> Result<CommandAnswer, Fault>;
    fn timer(&self, token: u64) -> Result<(), Fault>;
    fn answered(&self, token: u64, answer: Result<Vec<u8>, Fault>) -> Result<(), Fault>;
    fn reconfigured(&self, config: &Value) -> Result<(), Fault>;
    fn stop(&self) -> Result<(), Fault>;
}

pub trait ProbeCalls: Send {
    fn run(&mut self, tick: Tick) -> Result<Commit, Fault>;
    fn start(&mut self) -> Result<(), Fault>;
    fn stop(&mut self) -> Result<Commit, Fault>;
}

impl PluginCalls for Plugin {
    fn manifest(&self) -> &Manifest {
        self.manifest()
    }

    fn file(&self) -> &Path {
        self.file()
    }

    fn open(&self, probe: &str, instance: u64, options: &Map<String, Value>) -> Result<Box<dyn ProbeCalls>, Fault> {
        Ok(Box::new(self.open(probe, instance, options)?))
    }

    fn receive(&self, subscriber: usize, rows: &ReceivedRows<'_>) -> Result<(), Fault> {
        self.receive(subscriber, rows)
    }

    fn command(&self, call: &CommandCall) -> Result<CommandAnswer, Fault> {
        self.command(call)
    }

    fn timer(&self, token: u64) -> Result<(), Fault> {
        self.timer(token)
    }

    fn answered(&self, token: u64, answer: Result<Vec<u8>, Fault>) -> Result<(), Fault> {
        self.answered(token, answer)
    }

    fn reconfigured(&self, config: &Value) -> Result<(), Fault> {
        self.reconfigured(config)
    }

    fn stop(&self) -> Result<(), Fault> {
        self.stop()
    }
}

impl ProbeCalls for ProbeHandle {
    fn run(&mut self, tick: Tick) -> Result<Commit, Fault> {
        self.run(tick)
    }

    fn start(&mut self) -> Result<(), Fault> {
        self.start()
    }

    fn stop(&mut self) -> Result<Commit, Fault> {
        self.stop()
    }
}

/// The word of `probe_run.outcome` for a fault.
pub fn outcome_word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::NoData => "no_data",
        FaultKind::Unsupported => "unsupported",
        FaultKind::Denied => "denied",
        FaultKind::Panicked => "panicked",
        _ => "failed",
    }
}
