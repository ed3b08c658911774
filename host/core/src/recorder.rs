//! The recorder: configuration, plugins, instances and pipeline in one hand. What the control socket asks for and what plugins ask
//! for ends here.
//!
//! **Lock order:** `loading`, then `reconciling`, then the inner locks of plugins, instances and the board, which are held
//! briefly and never during a call into a plugin.

use crate::clock;
use crate::error::{RefusalKind, Refused};
use crate::instances::{self, Instances, Origin, Spec};
use crate::pipeline::Pipeline;
use crate::plugins::{Opener, Plugins};
use crate::query::Queries;
use crate::scheduler::task::{LoadedPlugin, Resolved};
use crate::scheduler::{Change, Scheduler, Target};
use crate::services::{OwnRows, Services};
use crate::streams::Streams;
use crate::taps::Taps;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};
use vwatch_config::{Config, nearest};
use vwatch_loader::{HostServices, Mode, ProbeEntry, Refusal, read_options};
use vwatch_model::control::{AddProbe, AvailableProbe, Instance, ProbeOption, Status, StoreStatus};
use vwatch_model::time::Stamp;

/// How long a request waits for an instance to have started, or to be gone, before it is answered.
const SETTLE: Duration = Duration::from_secs(3);
/// How long an old copy of a plugin is waited for before it is told to stop all the same.
const RETIRE: Duration = Duration::from_secs(20);

/// Keys of `probe add` that are the recorder's.
const RESERVED: [&str; 4] = ["every", "name", "for", "max_cpu"];

pub struct Recorder {
    this: Weak<Recorder>,
    config: RwLock<Arc<Config>>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) taps: Arc<Taps>,
    pub(crate) plugins: Plugins,
    pub(crate) streams: Streams,
    pub(crate) queries: Queries,
    instances: Mutex<Instances>,
    /// Held while a plugin file is loaded or unloaded.
    loading: Mutex<()>,
    /// Held while it is decided which instances there are.
    reconciling: Mutex<()>,
    /// Copies of plugins that may hand over rows of their own (instance 0).
    pub(crate) own_rows: Mutex<HashMap<u64, OwnRows>>,
    /// Counts loads.
    copies: AtomicU64,
    started: Stamp,
}

/// The parts that a recorder is put together from.
pub struct Parts {
    pub config: Config,
    pub pipeline: Arc<Pipeline>,
    pub scheduler: Arc<Scheduler>,
    pub taps: Arc<Taps>,
    pub opener: Box<dyn Opener>,
    pub queries: Queries,
    pub instances: Instances,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub fn new(parts: Parts) -> Arc<Recorder> {
        Arc::new_cyclic(|this| Recorder {
            this: this.clone(),
            config: RwLock::new(Arc::new(parts.config)),
            plugins: Plugins::new(parts.opener, parts.pipeline.clone()),
            pipeline: parts.pipeline,
            scheduler: parts.scheduler,
            taps: parts.taps,
            streams: Streams::default(),
            queries: parts.queries,
            instances: Mutex::new(parts.instances),
            loading: Mutex::default(),
            reconciling: Mutex::default(),
            own_rows: Mutex::default(),
            copies: AtomicU64::new(0),
            started: clock::now(),
        })
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn services(&self, copy: u64) -> Arc<dyn HostServices> {
        let recorder = self
            .this
            .upgrade()
            .expect("a recorder is made in an Arc, and `self` is borrowed from it");
        Arc::new(Services { recorder, copy })
    }

    // Plugins

    /// Loads a file, or its new version, and starts its default instances.
    pub fn load(&self, file: &Path) -> Result<(), Refusal> {
        let _loading = locked(&self.loading);
        self.load_now(file)
    }

    fn load_now(&self, file: &Path) -> Result<(), Refusal> {
        let copy = self.copies.fetch_add(1, Ordering::Relaxed) + 1;
        self.taps.expect(copy);
        let loaded = self.plugins.load(file, copy, self.services(copy)).inspect_err(|_| {
            self.taps.forget(copy);
            locked(&self.own_rows).remove(&copy);
        })?;
        let plugin = loaded.plugin;
        locked(&self.instances).learn(plugin.calls.manifest());
        if let Some(old) = loaded.old.as_ref().filter(|old| old.name != plugin.name) {
            self.detach(old);
        }
        self.taps.attach(copy, &plugin.name, plugin.calls.clone());
        self.deliver_early(&plugin);
        self.reconcile();
        if let Some(old) = loaded.old {
            self.retire(old);
        }
        Ok(())
    }

    /// A file of the plugins directory has changed.
    pub fn file_changed(&self, file: &Path) {
        let _loading = locked(&self.loading);
        if !self.plugins.is_current(file) {
            // A refusal is logged, recorded and listed.
            let _ = self.load_now(file);
        }
    }

    /// A file of the plugins directory has gone. A second file of the same plugin, refused until now, gets its turn.
    pub fn file_removed(&self, file: &Path) {
        let _loading = locked(&self.loading);
        let Some(plugin) = self.plugins.unload(file, true) else {
            return;
        };
        self.unloaded(&plugin);
        for other in self.plugins.refused_for(&plugin.name) {
            let _ = self.load_now(&other);
        }
    }

    /// Unloads a plugin until it is loaded again or its file changes.
    pub fn unload(&self, file: &Path) -> bool {
        let _loading = locked(&self.loading);
        let Some(plugin) = self.plugins.unload(file, false) else {
            return false;
        };
        self.unloaded(&plugin);
        true
    }

    fn unloaded(&self, plugin: &Arc<LoadedPlugin>) {
        self.detach(plugin);
        self.reconcile();
        self.retire(plugin.clone());
    }

    /// Nothing reaches the plugin any more, and what it started ends.
    fn detach(&self, plugin: &LoadedPlugin) {
        self.taps.unsubscribe(&plugin.name);
        for spec in self.scheduler.started_by(&plugin.name) {
            self.scheduler.change(Change::Stop(spec.name));
        }
    }

    /// Tells a copy of its end once no instance runs on it.
    fn retire(&self, plugin: Arc<LoadedPlugin>) {
        let Some(recorder) = self.this.upgrade() else {
            return;
        };
        let started = crate::process::spawn("plugin-retire", move || {
            if !recorder.scheduler.wait_for_copy(plugin.copy, Instant::now() + RETIRE) {
                tracing::warn!("plugin {}: an instance of its old copy does not end", plugin.name);
            }
            recorder.taps.forget(plugin.copy);
            // Its last rows may still come while it stops: the copy is forgotten after that.
            if let Err(fault) = plugin.calls.stop() {
                tracing::warn!("plugin {}: its end: {fault}", plugin.name);
            }
            locked(&recorder.own_rows).remove(&plugin.copy);
        });
        if let Err(e) = started {
            tracing::warn!("no thread to end the old copy of a plugin: {e}");
        }
    }

    // Instances

    /// Makes the scheduler run what is wanted now.
    pub fn reconcile(&self) {
        let _reconciling = locked(&self.reconciling);
        self.reconcile_now();
    }

    fn reconcile_now(&self) {
        let mut specs = locked(&self.instances).wanted(&self.config(), clock::now().wall_ns);
        let names: BTreeSet<Arc<str>> = specs.iter().map(|spec| spec.name.clone()).collect();
        let plugins = self.plugins.loaded();
        let started = plugins
            .iter()
            .flat_map(|plugin| self.scheduler.started_by(&plugin.name));
        specs.extend(started.filter(|spec| !names.contains(&spec.name)));
        let wanted = specs.into_iter().map(|spec| {
            let target = self.target(&spec);
            (spec, target)
        });
        self.scheduler.reconcile(wanted.collect());
    }

    /// What a specification comes to with the plugins that are loaded.
    fn target(&self, spec: &Spec) -> Target {
        let Some(plugin) = self.plugins.by_name(spec.plugin()) else {
            return Target::Waiting(format!("plugin {} is not loaded", spec.plugin()));
        };
        match resolve(&plugin, spec) {
            Ok(resolved) => Target::Run(Arc::new(resolved)),
            Err(refused) if refused.kind == RefusalKind::NotFound => Target::Waiting(refused.message),
            Err(refused) => {
                let place = spec.options.keys().find(|key| refused.message.contains(key.as_str()));
                match place.and_then(|key| spec.places.get(key)) {
                    Some(place) => Target::Refused(format!("{place}: {}", refused.message)),
                    None => Target::Refused(refused.message),
                }
            }
        }
    }

    pub fn add_probe(&self, request: &AddProbe) -> Result<Instance, Refused> {
        let spec = Spec::from_add(request, clock::now().wall_ns)?;
        let name = {
            let _reconciling = locked(&self.reconciling);
            let spec = self.check_new(spec)?;
            let records = locked(&self.instances).add(&spec, &self.config());
            self.save(records)?;
            self.reconcile_now();
            spec.name
        };
        let settled = |instance: Option<&Instance>| instance.is_none_or(|i| i.state != "starting");
        self.scheduler.wait_for(&name, Instant::now() + SETTLE, settled);
        match self.scheduler.instance(&name) {
            // The plugin itself does not take the options: nothing is left of the request.
            Some(instance) if instance.state == "refused" => {
                self.remove_probe(&name)?;
                Err(Refused::bad_input(instance.reason.unwrap_or_default()))
            }
            Some(instance) => Ok(instance),
            None => Err(Refused::failed(format!("instance {name} has ended already"))),
        }
    }

    /// The specification with a name, if plugin, probe, options and name are right.
    fn check_new(&self, mut spec: Spec) -> Result<Spec, Refused> {
        let Some(plugin) = self.plugins.by_name(spec.plugin()) else {
            let known: Vec<String> = self.available().into_iter().map(|p| p.probe).collect();
            let near = nearest(&spec.probe, known.iter().map(String::as_str));
            let message = match spec.probe.contains('.') {
                true => format!("no plugin {} is loaded", spec.plugin()),
                false => format!("{:?} is not of the form PLUGIN.PROBE", spec.probe),
            };
            return Err(Refused::not_found(message).nearest(near));
        };
        resolve(&plugin, &spec).map_err(|refused| hint_reserved(refused, &spec))?;
        if spec.name.is_empty() {
            spec.name = self.scheduler.free_name(&spec.probe)?;
        } else if self.scheduler.spec(&spec.name).is_some() {
            return Err(
                Refused::conflict(format!("there is an instance {} already", spec.name)).hint(format!(
                    "give another name=…, or remove it first: probe remove {}",
                    spec.name
                )),
            );
        }
        Ok(spec)
    }

    pub fn remove_probe(&self, name: &str) -> Result<Instance, Refused> {
        let before = self.probe(name)?;
        {
            let _reconciling = locked(&self.reconciling);
            match self.scheduler.spec(name).map(|spec| spec.origin) {
                Some(Origin::Plugin(_)) => self.scheduler.change(Change::Stop(name.into())),
                _ => {
                    let records = locked(&self.instances).remove(name, &self.config());
                    self.save(records)?;
                    self.reconcile_now();
                }
            }
        }
        self.scheduler
            .wait_for(name, Instant::now() + SETTLE, |instance| instance.is_none());
        Ok(before)
    }

    /// Writes records of instances. A store that takes nothing now gets them later: they stay queued.
    fn save(&self, records: Vec<(String, Option<String>)>) -> Result<(), Refused> {
        if let Err(e) = instances::save(&self.pipeline, records)? {
            tracing::warn!("the change of instances is not durable yet: {e}");
        }
        Ok(())
    }

    pub fn probe(&self, name: &str) -> Result<Instance, Refused> {
        self.scheduler.instance(name).ok_or_else(|| {
            let names = self.scheduler.names();
            let near = nearest(name, names.iter().map(String::as_str));
            Refused::not_found(format!("there is no instance {name}")).nearest(near)
        })
    }

    /// An instance that a plugin asks for.
    pub(crate) fn start_for(&self, plugin: &str, spec: vwatch_loader::InstanceSpec) -> Result<String, Refused> {
        let spec = Spec::from_plugin(plugin, spec, clock::now().wall_ns)?;
        let _reconciling = locked(&self.reconciling);
        let spec = self.check_new(spec)?;
        let name = spec.name.to_string();
        let target = self.target(&spec);
        self.scheduler.change(Change::Start(spec, target));
        Ok(name)
    }

    pub(crate) fn stop_for(&self, plugin: &str, name: &str) -> Result<(), Refused> {
        let _reconciling = locked(&self.reconciling);
        let own = Origin::Plugin(plugin.to_owned());
        match self.scheduler.spec(name) {
            Some(spec) if spec.origin == own => {
                self.scheduler.change(Change::Stop(spec.name));
                Ok(())
            }
            Some(_) => Err(Refused::new(
                RefusalKind::Denied,
                format!("instance {name} is not plugin {plugin}'s"),
            )),
            None => Err(Refused::not_found(format!("there is no instance {name}"))),
        }
    }

    // What there is

    pub fn available(&self) -> Vec<AvailableProbe> {
        let plugins = self.plugins.loaded();
        let mut probes: Vec<AvailableProbe> = plugins
            .iter()
            .flat_map(|plugin| {
                plugin
                    .calls
                    .manifest()
                    .probes
                    .iter()
                    .map(|probe| available(&plugin.name, probe))
            })
            .collect();
        probes.sort_by(|a, b| a.probe.cmp(&b.probe));
        probes
    }

    pub fn status(&self) -> Status {
        let config = self.config();
        let store = self.pipeline.store();
        let instances = self.scheduler.instances();
        let troubled = |i: &&Instance| !matches!(i.state.as_str(), "running" | "starting" | "stopping");
        let (plugins_loaded, plugins_refused) = self.plugins.counts();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id() as i32,
            uid: nix::unistd::geteuid().as_raw(),
            started_ns: self.started.wall_ns,
            store: StoreStatus {
                path: config.store.display().to_string(),
                file_bytes: store.stats.file_bytes,
                first_ns: store.stats.first_ns,
                last_ns: store.stats.last_ns,
                commits: store.stats.commits,
                paused: store.paused,
            },
            plugins_dir: config.plugins.display().to_string(),
            config_file: config.file.as_ref().map(|file| file.display().to_string()),
            control_socket: config.socket.display().to_string(),
            query_socket: config.query_socket().display().to_string(),
            plugins_loaded,
            plugins_refused,
            instances: instances.len() as u64,
            instances_troubled: instances.iter().filter(troubled).count() as u64,
            cpu_ns: clock::process_cpu_ns(),
            rss_bytes: crate::process::rss_bytes(),
            notes: crate::query::note().into_iter().collect(),
        }
    }

    // Configuration and end

    /// Takes in a configuration that was read again.
    pub fn reload(&self, mut new: Config) {
        let old = self.config();
        let fixed: [(&str, &PathBuf, &mut PathBuf); 5] = [
            ("store", &old.store, &mut new.store),
            ("plugins", &old.plugins, &mut new.plugins),
            ("socket", &old.socket, &mut new.socket),
            ("--proc", &old.proc_dir, &mut new.proc_dir),
            ("--sys", &old.sys_dir, &mut new.sys_dir),
        ];
        for (key, was, now) in fixed {
            if was != now {
                tracing::warn!(
                    "{key} changes from {} to {} with the next start only",
                    was.display(),
                    now.display()
                );
                now.clone_from(was);
            }
        }
        self.scheduler.set_run_limit(new.scheduler.run_limit);
        let retention = crate::keep::retention(&new.keep, &new.store);
        if old.keep != new.keep
            && let Err(e) = self
                .pipeline
                .ask(|recording| recording.writer().set_retention(retention))
        {
            tracing::warn!("the store keeps what it kept: {e}");
        }
        let sections = new.plugin_sections.clone();
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        for plugin in self.plugins.loaded() {
            let section =
                |config: &std::collections::BTreeMap<String, _>| config.get(&*plugin.name).cloned().unwrap_or_default();
            if section(&old.plugin_sections) != section(&sections) {
                self.taps
                    .reconfigured(plugin.copy, &plugin.name, Value::Object(section(&sections)));
            }
        }
        self.reconcile();
        self.check_sections();
    }

    /// Says which sections of the configuration no loaded plugin answers to.
    pub fn check_sections(&self) -> Vec<String> {
        let known: Vec<String> = self.available().into_iter().map(|p| p.probe).collect();
        let mut complaints = Vec::new();
        for (probe, section) in &self.config().probes {
            if !known.contains(probe) {
                let near = nearest(probe, known.iter().map(String::as_str));
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                complaints.push(format!("{}: no loaded plugin has a probe {probe}{hint}", section.place));
            }
        }
        complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
        complaints
    }

    /// Ends instances, then plugins; what does not end by `deadline` is left behind.
    pub fn stop(&self, deadline: Instant) {
        self.scheduler.close(deadline);
        let (done, ended) = std::sync::mpsc::channel();
        let plugins = self.plugins.loaded();
        for plugin in &plugins {
            self.taps.forget(plugin.copy);
            let (calls, done) = (plugin.calls.clone(), done.clone());
            let started = crate::process::spawn("plugin-stop", move || {
                let answer = calls.stop();
                // Nobody may be waiting any more.
                let _ = done.send(answer);
            });
            if let Err(e) = started {
                tracing::warn!("plugin {} is not told of its end: {e}", plugin.name);
            }
        }
        drop(done);
        let deadline = deadline.max(Instant::now() + Duration::from_secs(1));
        for _ in &plugins {
            match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => tracing::warn!("a plugin's end: {fault}"),
                Err(_) => {
                    tracing::warn!("a plugin does not end; going on without it");
                    break;
                }
            }
        }
    }
}

/// Points at a key of the recorder's own where an unknown option looks like one.
fn hint_reserved(refused: Refused, spec: &Spec) -> Refused {
    if refused.kind != RefusalKind::BadInput || refused.hint.is_some() || refused.message.contains("did you mean") {
        return refused;
    }
    let unknown = spec
        .options
        .keys()
        .filter(|key| refused.message.contains(&format!("no option {key:?}")));
    let near = unknown.filter_map(|key| nearest(key, RESERVED)).next();
    refused.nearest(near)
}

/// An instance's settings against its plugin's manifest.
fn resolve(plugin: &Arc<LoadedPlugin>, spec: &Spec) -> Result<Resolved, Refused> {
    let manifest = plugin.calls.manifest();
    let Some(entry) = manifest.probes.iter().find(|probe| probe.name == spec.probe_name()) else {
        let near = nearest(
            spec.probe_name(),
            manifest.probes.iter().map(|probe| probe.name.as_str()),
        );
        let message = format!("plugin {} has no probe {:?}", plugin.name, spec.probe_name());
        return Err(Refused::not_found(message).nearest(near.map(|near| format!("{}.{near}", plugin.name))));
    };
    let options = read_options(entry, &spec.options)?;
    if entry.mode == Mode::Stream && (spec.every.is_some() || spec.max_cpu.is_some()) {
        let message = format!(
            "probe {} pushes its rows by itself: it has no every and no max_cpu",
            spec.probe
        );
        return Err(Refused::bad_input(message));
    }
    Ok(Resolved {
        plugin: plugin.clone(),
        probe: entry.name.clone(),
        mode: entry.mode,
        every: spec.every.unwrap_or(entry.every),
        options,
        tables: entry.tables.clone(),
    })
}

fn available(plugin: &str, probe: &ProbeEntry) -> AvailableProbe {
    let poll = probe.mode == Mode::Poll;
    let every_ms = u64::try_from(probe.every.as_millis()).unwrap_or(u64::MAX);
    AvailableProbe {
        probe: format!("{plugin}.{}", probe.name),
        doc: probe.doc.clone(),
        tables: probe.tables.clone(),
        mode: if poll { "poll" } else { "stream" }.to_owned(),
        every_ms: poll.then_some(every_ms),
        default_on: probe.default_on,
        options: probe
            .options
            .iter()
            .map(|option| ProbeOption {
                name: option.name.clone(),
                kind: option.kind.word().to_owned(),
                doc: option.doc.clone(),
                default: option.default.clone(),
                required: option.required,
            })
            .collect(),
    }
}
