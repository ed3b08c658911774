//! A plugin as a value: what `plugin!` collects, and the manifest made from it.

use crate::answer::Answer;
use crate::command::{Call, Command};
use crate::context::{Context, Shared};
use crate::emitter::Emitter;
use crate::error::{ProbeError, Result};
use crate::option::Options;
use crate::out::{Out, Writable};
use crate::probe::{Probe, StreamProbe};
use crate::received::{ReceivedRows, Subscriber};
use crate::row::{TableDescriptor, Tables};
use crate::tick::Tick;
use crate::{JsonObject, describe};
use std::sync::Arc;
use vwatch_abi::describe::{Manifest, Mode};
use vwatch_abi::v1;

/// A running probe of either kind.
pub(crate) trait Running: Send {
    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()>;
    fn start(&mut self, emitter: Emitter) -> Result<()>;
    fn stop(&mut self, out: &mut Out) -> Result<()>;
}

struct Polled<P>(P);

impl<P: Probe> Running for Polled<P> {
    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        self.0.run(tick, out)
    }

    fn start(&mut self, _: Emitter) -> Result<()> {
        Err(ProbeError::bad_input(format!(
            "probe {} is polled: it has no start",
            P::NAME
        )))
    }

    fn stop(&mut self, out: &mut Out) -> Result<()> {
        self.0.stop(out)
    }
}

struct Streaming<P: StreamProbe> {
    probe: P,
    started: bool,
}

impl<P: StreamProbe> Drop for Streaming<P> {
    /// A host that drops it without a stop still gets no rows afterwards.
    fn drop(&mut self) {
        if self.started {
            let _ = self.probe.stop();
        }
    }
}

impl<P: StreamProbe> Running for Streaming<P> {
    fn run(&mut self, _: &Tick, _: &mut Out) -> Result<()> {
        Err(ProbeError::bad_input(format!(
            "probe {} streams: it is not run",
            P::NAME
        )))
    }

    fn start(&mut self, emitter: Emitter) -> Result<()> {
        if self.started {
            return Err(ProbeError::bad_input(format!("probe {} runs already", P::NAME)));
        }
        self.probe.start(emitter)?;
        self.started = true;
        Ok(())
    }

    fn stop(&mut self, _: &mut Out) -> Result<()> {
        if !std::mem::take(&mut self.started) {
            return Ok(());
        }
        self.probe.stop()
    }
}

/// A probe of the plugin.
pub struct ProbeEntry {
    describe: describe::Probe,
    tables: Vec<TableDescriptor>,
    pub(crate) open: fn(&Context, &JsonObject) -> Result<Box<dyn Running>>,
}

impl ProbeEntry {
    pub fn poll<P: Probe>() -> Self {
        let probe = describe::Probe {
            name: P::NAME.to_owned(),
            doc: P::DOC.to_owned(),
            tables: Vec::new(),
            mode: Mode::Poll,
            every_ms: P::SCHEDULE.every_ms,
            default_on: P::SCHEDULE.default_on,
            options: P::Options::describe(),
        };
        Self::new::<P::Tables>(probe, |context, options| {
            let options = P::Options::decode(options)?;
            Ok(Box::new(Polled(P::open(context, options)?)))
        })
    }

    pub fn stream<P: StreamProbe>() -> Self {
        let probe = describe::Probe {
            name: P::NAME.to_owned(),
            doc: P::DOC.to_owned(),
            tables: Vec::new(),
            mode: Mode::Stream,
            every_ms: 0,
            default_on: P::DEFAULT_ON,
            options: P::Options::describe(),
        };
        Self::new::<P::Tables>(probe, |context, options| {
            let options = P::Options::decode(options)?;
            let probe = P::open(context, options)?;
            Ok(Box::new(Streaming { probe, started: false }))
        })
    }

    fn new<T: Tables>(
        mut describe: describe::Probe,
        open: fn(&Context, &JsonObject) -> Result<Box<dyn Running>>,
    ) -> Self {
        let tables = T::tables();
        describe.tables = tables.iter().map(|t| t.name.to_owned()).collect();
        ProbeEntry { describe, tables, open }
    }
}

/// An open subscriber.
pub(crate) trait Receiving: Send {
    fn receive(&mut self, rows: &ReceivedRows) -> Result<()>;
}

struct Subscribed<S>(S);

impl<S: Subscriber> Receiving for Subscribed<S> {
    fn receive(&mut self, rows: &ReceivedRows) -> Result<()> {
        self.0.receive(rows)
    }
}

/// A subscriber of the plugin.
pub struct SubscriberEntry {
    describe: describe::Subscriber,
    tables: Vec<TableDescriptor>,
    pub(crate) open: fn(&Context) -> Result<Box<dyn Receiving>>,
    /// Named here, so that only a plugin with a subscriber has the reader in it.
    pub(crate) read: fn(v1::Received<'_>) -> Result<ReceivedRows>,
}

impl SubscriberEntry {
    pub fn of<S: Subscriber>() -> Self {
        SubscriberEntry {
            describe: describe::Subscriber {
                name: S::NAME.to_owned(),
                tables: S::SUBSCRIBES.iter().map(|t| (*t).to_owned()).collect(),
            },
            tables: S::Tables::tables(),
            open: |context| Ok(Box::new(Subscribed(S::open(context)?))),
            read: ReceivedRows::read,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.describe.name
    }
}

/// A command of the plugin.
pub struct CommandEntry {
    describe: describe::Command,
    pub(crate) run: fn(&Context, &mut Call) -> Result<Answer>,
}

impl CommandEntry {
    pub fn of<C: Command>() -> Self {
        CommandEntry {
            describe: describe::Command {
                name: C::NAME.to_owned(),
                usage: C::USAGE.to_owned(),
                doc: C::DOC.to_owned(),
                changes: C::CHANGES,
            },
            run: C::run,
        }
    }
}

type Setup = Box<dyn Fn(&Context) -> Result<Shared> + Send + Sync>;
pub(crate) type Hook = fn(&Context) -> Result<()>;

/// A plugin. [`crate::plugin!`] makes one; a test gives it to the testkit.
pub struct Definition {
    name: &'static str,
    version: &'static str,
    doc: &'static str,
    tables: Vec<TableDescriptor>,
    pub(crate) probes: Vec<ProbeEntry>,
    pub(crate) subscribers: Vec<SubscriberEntry>,
    pub(crate) commands: Vec<CommandEntry>,
    pub(crate) setup: Option<Setup>,
    pub(crate) reconfigured: Option<Hook>,
    pub(crate) stop: Option<Hook>,
}

impl Definition {
    pub fn new(name: &'static str, version: &'static str, doc: &'static str) -> Self {
        Definition {
            name,
            version,
            doc,
            tables: Vec::new(),
            probes: Vec::new(),
            subscribers: Vec::new(),
            commands: Vec::new(),
            setup: None,
            reconfigured: None,
            stop: None,
        }
    }

    pub fn probe(mut self, probe: ProbeEntry) -> Self {
        self.probes.push(probe);
        self
    }

    pub fn subscriber(mut self, subscriber: SubscriberEntry) -> Self {
        self.subscribers.push(subscriber);
        self
    }

    pub fn command(mut self, command: CommandEntry) -> Self {
        self.commands.push(command);
        self
    }

    /// Tables that the plugin itself emits rows to: from commands and timers.
    pub fn tables<T: Tables>(mut self) -> Self {
        self.tables.extend(T::tables());
        self
    }

    /// Makes the value that all parts of the plugin share.
    pub fn setup<T: Send + Sync + 'static>(mut self, setup: fn(&Context) -> Result<T>) -> Self {
        self.setup = Some(Box::new(move |context| Ok(Arc::new(setup(context)?))));
        self
    }

    /// Called after the configuration was read again.
    pub fn reconfigured(mut self, hook: Hook) -> Self {
        self.reconfigured = Some(hook);
        self
    }

    /// Called last, after all instances have stopped.
    pub fn stop(mut self, hook: Hook) -> Self {
        self.stop = Some(hook);
        self
    }

    /// What the plugin says of itself. An error when two of its types declare one table differently, or a name is used twice.
    pub fn manifest(&self) -> Result<Manifest> {
        unique("probe", self.probes.iter().map(|p| p.describe.name.as_str()))?;
        unique("subscriber", self.subscribers.iter().map(SubscriberEntry::name))?;
        unique("command", self.commands.iter().map(|c| c.describe.name.as_str()))?;
        Ok(Manifest {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            doc: self.doc.to_owned(),
            tables: self.all_tables()?.iter().map(TableDescriptor::describe).collect(),
            probes: self.probes.iter().map(|p| p.describe.clone()).collect(),
            subscribers: self.subscribers.iter().map(|s| s.describe.clone()).collect(),
            commands: self.commands.iter().map(|c| c.describe.clone()).collect(),
        })
    }

    /// Every table once, in the order of the manifest.
    fn all_tables(&self) -> Result<Vec<TableDescriptor>> {
        let declared = (self.probes.iter().flat_map(|p| &p.tables))
            .chain(self.subscribers.iter().flat_map(|s| &s.tables))
            .chain(&self.tables);
        let mut all: Vec<TableDescriptor> = Vec::new();
        for table in declared {
            match all.iter().find(|other| other.name == table.name) {
                None => all.push(*table),
                Some(same) if same == table => {}
                Some(_) => {
                    let message = format!("table {} is declared twice, differently", table.name);
                    return Err(ProbeError::failed(message));
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn find_probe(&self, name: &str) -> Result<&ProbeEntry> {
        let found = self.probes.iter().find(|p| p.describe.name == name);
        found.ok_or_else(|| ProbeError::not_found(format!("plugin {} has no probe {name}", self.name)))
    }

    pub(crate) fn find_command(&self, name: &str) -> Result<&CommandEntry> {
        let found = self.commands.iter().find(|c| c.describe.name == name);
        found.ok_or_else(|| ProbeError::not_found(format!("plugin {} has no command {name}", self.name)))
    }

    /// Where a probe's rows may go.
    pub(crate) fn writable_of_probe(&self, probe: &ProbeEntry) -> Result<Writable> {
        self.writable(format!("probe {}", probe.describe.name), &probe.tables)
    }

    /// Where rows of the plugin itself, its subscribers and commands may go.
    pub(crate) fn writable_of_plugin(&self) -> Result<Writable> {
        self.writable(format!("plugin {}", self.name), &self.all_tables()?)
    }

    fn writable(&self, whose: String, tables: &[TableDescriptor]) -> Result<Writable> {
        let all = self.all_tables()?;
        let index = |name| all.iter().position(|other| other.name == name);
        let tables = (tables.iter())
            .filter_map(|t| Some((t.name, u32::try_from(index(t.name)?).ok()?)))
            .collect();
        Ok(Writable { whose, tables })
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ProbeError::failed(format!("{what} {name} is declared twice")));
        }
    }
    Ok(())
}
