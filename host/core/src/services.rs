//! What plugins may ask of the host: [`HostServices`] over the recorder.
//!
//! Each loaded copy of a plugin has services of its own, so that what an old copy still says while a new one serves already is
//! read by the old copy's tables.

use crate::clock;
use crate::error::Refused;
use crate::pipeline::Origin;
use crate::recorder::{Recorder, locked};
use crate::scheduler::task::LoadedPlugin;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use vwatch_loader::{Commit, Environment, Fault, FaultKind, HostServices, InstanceSpec, Level, OutboxEntry, Query};
use vwatch_model::table::TableSchema;
use vwatch_store::{InstanceId, InstanceInfo, StoreError};

/// Longest line that a plugin may write to the log.
const MAX_LOG_CHARS: usize = 2000;

/// What a copy needs to hand over rows under instance 0: the plugin itself.
pub(crate) enum OwnRows {
    /// It is being loaded: what it hands over waits.
    Early(Vec<Commit>),
    Loaded(Arc<LoadedPlugin>, InstanceId),
}

/// Commits that may wait until their copy is loaded.
const MAX_EARLY: usize = 64;

/// The services for one copy.
pub struct Services {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) copy: u64,
}

impl HostServices for Services {
    fn log(&self, plugin: &str, level: Level, message: &str) {
        let text: String = message
            .chars()
            .take(MAX_LOG_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match level {
            Level::Error => tracing::error!("plugin {plugin}: {text}"),
            Level::Warn => tracing::warn!("plugin {plugin}: {text}"),
            Level::Info => tracing::info!("plugin {plugin}: {text}"),
            Level::Debug => tracing::debug!("plugin {plugin}: {text}"),
            Level::Trace => tracing::trace!("plugin {plugin}: {text}"),
        }
    }

    fn environment(&self) -> Environment {
        let config = self.recorder.config();
        let mut state_dir = config.store.clone().into_os_string();
        state_dir.push(".plugins");
        Environment {
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            live: crate::start::is_live(&config),
            proc_dir: config.proc_dir.display().to_string(),
            sys_dir: config.sys_dir.display().to_string(),
            state_dir: state_dir.to_string_lossy().into_owned(),
        }
    }

    fn config(&self, plugin: &str) -> Value {
        Value::Object(
            self.recorder
                .config()
                .plugin_sections
                .get(plugin)
                .cloned()
                .unwrap_or_default(),
        )
    }

    fn schema(&self, table: &str) -> Option<TableSchema> {
        self.recorder.plugins.table(table)
    }

    fn emit(&self, plugin: &str, instance: u64, commit: Commit) -> Result<(), Fault> {
        if instance != 0 {
            return self.recorder.scheduler.emit(self.copy, plugin, instance, commit);
        }
        let (loaded, store_instance) = {
            let mut own_rows = locked(&self.recorder.own_rows);
            match own_rows.entry(self.copy).or_insert_with(|| OwnRows::Early(Vec::new())) {
                OwnRows::Loaded(loaded, instance) => (loaded.clone(), *instance),
                OwnRows::Early(waiting) if waiting.len() < MAX_EARLY => {
                    waiting.push(commit);
                    return Ok(());
                }
                OwnRows::Early(_) => {
                    return Err(Fault::new(
                        FaultKind::Busy,
                        format!("plugin {plugin} is not loaded yet"),
                    ));
                }
            }
        };
        self.recorder.deliver_own(&loaded, store_instance, commit)
    }

    fn state(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        let (owner, key) = (plugin.to_owned(), key.to_owned());
        self.recorder.stored(move |writer| writer.state(&owner, &key))
    }

    fn state_keys(&self, plugin: &str, prefix: &str) -> Result<Vec<String>, Fault> {
        let (owner, prefix) = (plugin.to_owned(), prefix.to_owned());
        self.recorder.stored(move |writer| writer.state_keys(&owner, &prefix))
    }

    fn outbox(&self, plugin: &str, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        let owner = plugin.to_owned();
        let entries = self.recorder.stored(move |writer| writer.outbox(&owner, limit))?;
        Ok(entries.into_iter().map(|(id, body)| OutboxEntry { id, body }).collect())
    }

    fn timer(&self, plugin: &str, token: u64, after: Option<Duration>) -> Result<(), Fault> {
        match self.recorder.taps.timer(self.copy, plugin, token, after) {
            true => Ok(()),
            false => Err(Fault::new(
                FaultKind::Busy,
                "too many timers, or the plugin has been unloaded",
            )),
        }
    }

    fn instance_start(&self, plugin: &str, spec: InstanceSpec) -> Result<String, Fault> {
        Ok(self.recorder.start_for(plugin, spec)?)
    }

    fn instance_stop(&self, plugin: &str, name: &str) -> Result<(), Fault> {
        Ok(self.recorder.stop_for(plugin, name)?)
    }

    fn stream_send(&self, stream: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.recorder.streams.send(stream, bytes)
    }

    fn stream_close(&self, stream: u64) -> Result<(), Fault> {
        self.recorder.streams.close(stream)
    }

    fn query(&self, plugin: &str, token: u64, query: Query) -> Result<(), Fault> {
        let (taps, copy) = (self.recorder.taps.clone(), self.copy);
        let plugin = plugin.to_owned();
        let answer = move |answer| taps.answered(copy, &plugin, token, answer);
        self.recorder.queries.ask(&self.recorder.config(), query, answer)
    }
}

impl Recorder {
    /// Asks the store on the writer's thread.
    fn stored<T: Send + 'static>(
        &self,
        question: impl FnOnce(&vwatch_store::Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let answer = self.pipeline.ask(move |recording| question(recording.writer()));
        answer.map_err(Refused::from)?.map_err(|e| Fault::failed(e.to_string()))
    }

    /// A copy was loaded: what it has handed over of its own until now is stored.
    pub(crate) fn deliver_early(&self, plugin: &Arc<LoadedPlugin>) {
        let info = InstanceInfo {
            name: plugin.name.to_string(),
            probe: plugin.name.to_string(),
            default: true,
        };
        let store_instance = match self.pipeline.ask(move |recording| recording.writer().instance(&info)) {
            Ok(Ok(id)) => id,
            Ok(Err(e)) => return tracing::warn!("plugin {}: no rows of its own: {e}", plugin.name),
            Err(ended) => return tracing::warn!("plugin {}: no rows of its own: {ended}", plugin.name),
        };
        let loaded = OwnRows::Loaded(plugin.clone(), store_instance);
        let before = locked(&self.own_rows).insert(plugin.copy, loaded);
        if let Some(OwnRows::Early(waiting)) = before {
            for commit in waiting {
                if let Err(fault) = self.deliver_own(plugin, store_instance, commit) {
                    tracing::warn!("plugin {}: rows from its setup: {fault}", plugin.name);
                }
            }
        }
    }

    fn deliver_own(&self, plugin: &LoadedPlugin, store_instance: InstanceId, commit: Commit) -> Result<(), Fault> {
        let origin = Origin {
            plugin: &plugin.name,
            tables: &plugin.tables,
            instance: &plugin.name,
            store_instance,
            stamp: clock::now(),
            interval_ns: 0,
        };
        match self.pipeline.deliver(&origin, commit, Vec::new()).dropped {
            false => Ok(()),
            true => Err(Fault::new(
                FaultKind::Busy,
                "the writer's queue is full: the rows were dropped",
            )),
        }
    }
}
