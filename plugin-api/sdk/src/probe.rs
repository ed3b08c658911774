//! What authors implement to bring rows.

use crate::context::Context;
use crate::emitter::Emitter;
use crate::error::Result;
use crate::option::Options;
use crate::out::Out;
use crate::row::Tables;
use crate::tick::Tick;

/// A probe that the host asks for rows at each tick.
///
/// One value is one instance; its calls never overlap. [`Probe::run`] ought to return within its interval: a slow one misses
/// ticks, one that never returns is quarantined.
pub trait Probe: Sized + Send + 'static {
    type Options: Options;
    /// The tables it fills: a row type, or a tuple of up to six.
    type Tables: Tables;
    /// `[a-z][a-z0-9_]*`: addressed as `PLUGIN.NAME`.
    const NAME: &'static str;
    /// One line for people.
    const DOC: &'static str;
    const SCHEDULE: Schedule;

    /// Makes an instance. Errors say what a person can do: an option that is wrong, a kernel that cannot
    /// ([`crate::ProbeError::unsupported`]), a privilege that is lacking ([`crate::ProbeError::denied`]).
    fn open(context: &Context, options: Self::Options) -> Result<Self>;

    /// One sample. When it answers an error, nothing that was added to `out` is stored.
    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()>;

    /// The last call: what is still to be handed over goes to `out`.
    fn stop(&mut self, out: &mut Out) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// When a polled probe runs unless a person says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub(crate) every_ms: u64,
    pub(crate) default_on: bool,
}

impl Schedule {
    pub const fn every_secs(seconds: u64) -> Self {
        Self::every_ms(seconds * 1000)
    }

    pub const fn every_ms(milliseconds: u64) -> Self {
        assert!(milliseconds > 0, "an interval is at least a millisecond");
        Schedule {
            every_ms: milliseconds,
            default_on: true,
        }
    }

    /// No instance runs until somebody adds one.
    pub const fn on_demand(mut self) -> Self {
        self.default_on = false;
        self
    }
}

/// A probe that pushes rows by itself, as they come.
///
/// [`crate::Worker`] gives it a thread that ends when it is told to.
pub trait StreamProbe: Sized + Send + 'static {
    type Options: Options;
    /// The tables it fills: a row type, or a tuple of up to six.
    type Tables: Tables;
    /// `[a-z][a-z0-9_]*`: addressed as `PLUGIN.NAME`.
    const NAME: &'static str;
    /// One line for people.
    const DOC: &'static str;
    /// An instance runs without being asked for.
    const DEFAULT_ON: bool;

    /// Makes an instance; see [`Probe::open`].
    fn open(context: &Context, options: Self::Options) -> Result<Self>;

    /// Begins. Must return soon: rows come from a thread of the probe's own.
    fn start(&mut self, emitter: Emitter) -> Result<()>;

    /// Ends what `start` began: no rows come after it has returned.
    fn stop(&mut self) -> Result<()>;
}
