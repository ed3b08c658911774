//! One open probe of a test.

use crate::plugin::Loaded;
use crate::sampled::Sampled;
use std::sync::Arc;
use std::time::Duration;
use vwatch_abi::v1::{self, ProbeBox};
use vwatch_sdk::{ProbeError, Result, Tick};

/// Time of the first run of a fixture instance; each run is one interval later.
const FIRST_RUN_NS: i64 = 1_700_000_000_000_000_000;
/// Boot time of the first run.
const FIRST_BOOTTIME_NS: i64 = 1_000_000_000_000;

/// An open instance. Its ticks are an interval apart, whatever time the test takes, and its first one asks for a full picture.
pub struct TestInstance {
    probe: ProbeBox,
    id: u64,
    loaded: Arc<Loaded>,
    interval: Duration,
    sequence: u64,
}

impl TestInstance {
    pub(crate) fn new(probe: ProbeBox, id: u64, loaded: Arc<Loaded>, interval: Duration) -> Self {
        TestInstance {
            probe,
            id,
            loaded,
            interval,
            sequence: 0,
        }
    }

    /// The tick that [`TestInstance::run`] would use next.
    pub fn next_tick(&self) -> Tick {
        let interval_ns = i64::try_from(self.interval.as_nanos()).unwrap_or(i64::MAX);
        let since = interval_ns.saturating_mul(i64::try_from(self.sequence).unwrap_or(i64::MAX));
        let time_ns = FIRST_RUN_NS.saturating_add(since);
        Tick {
            time_ns,
            boottime_ns: FIRST_BOOTTIME_NS.saturating_add(since),
            due_ns: time_ns,
            interval: self.interval,
            sequence: self.sequence,
            full: self.sequence == 0,
        }
    }

    /// The next run.
    pub fn run(&mut self) -> Result<Sampled> {
        self.run_tick(self.next_tick())
    }

    /// The next run, and the host wants a full picture.
    pub fn run_full(&mut self) -> Result<Sampled> {
        let tick = self.next_tick();
        self.run_tick(Tick { full: true, ..tick })
    }

    /// A run at this tick.
    pub fn run_tick(&mut self, tick: Tick) -> Result<Sampled> {
        self.sequence = tick.sequence + 1;
        let commit = Result::from(self.probe.run(tick.into())).map_err(ProbeError::from)?;
        self.take(commit, tick.time_ns)
    }

    /// Begins a stream probe.
    pub fn start(&mut self) -> Result<()> {
        Result::from(self.probe.start()).map_err(ProbeError::from)
    }

    /// The last call.
    pub fn stop(&mut self) -> Result<Sampled> {
        let time_ns = self.next_tick().time_ns;
        let commit = Result::from(self.probe.stop()).map_err(ProbeError::from)?;
        self.take(commit, time_ns)
    }

    /// What the instance has emitted since the last call of this: the rows of all its emissions.
    pub fn emitted(&self) -> Vec<Sampled> {
        self.loaded.emitted(|instance| instance == self.id)
    }

    fn take(&self, commit: v1::Commit, time_ns: i64) -> Result<Sampled> {
        self.loaded.recorder.change(|r| r.apply(&commit));
        Sampled::read(commit, &self.loaded.manifest.tables, time_ns)
    }
}
