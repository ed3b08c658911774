//! Plugins by file: loaded, replaced, refused, unloaded. What happens to them is recorded in `plugin_event`.
//!
//! **Invariants:** one plugin name has one file; a second one is refused, naming the first. A file whose new version is refused
//! keeps serving its old one. Loading is done by one thread at a time (a trial load takes a child process), and never
//! under the lock that readers of the list take.

use crate::calls::PluginCalls;
use crate::clock;
use crate::pipeline::{KnownTable, Pipeline};
use crate::rows::{CoreRow, PluginEvent};
use crate::scheduler::task::LoadedPlugin;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vwatch_loader::{HostServices, Loader, Manifest, Refusal};
use vwatch_model::control;
use vwatch_model::table::TableSchema;

/// How a file becomes a plugin; the loader, outside tests.
pub trait Opener: Send + Sync {
    fn open(&self, file: &Path, services: Arc<dyn HostServices>) -> Result<Arc<dyn PluginCalls>, Refusal>;
}

impl Opener for Loader {
    fn open(&self, file: &Path, services: Arc<dyn HostServices>) -> Result<Arc<dyn PluginCalls>, Refusal> {
        Ok(Arc::new(self.load(file, services)?))
    }
}

/// Tells an unchanged file from a changed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    dev: u64,
    ino: u64,
    bytes: u64,
    mtime: (i64, i64),
    mode: u32,
    uid: u32,
}

impl FileStamp {
    fn of(file: &Path) -> Option<FileStamp> {
        let meta = std::fs::metadata(file).ok()?;
        Some(FileStamp {
            dev: meta.dev(),
            ino: meta.ino(),
            bytes: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            mode: meta.mode(),
            uid: meta.uid(),
        })
    }
}

#[derive(Default)]
struct PluginFile {
    loaded: Option<Arc<LoadedPlugin>>,
    /// Why its present content is not loaded.
    refusal: Option<Refusal>,
    /// What it was, after it was unloaded.
    was: Option<Manifest>,
    since_ns: i64,
    stamp: Option<FileStamp>,
}

/// What loading a file led to.
pub struct Loaded {
    pub plugin: Arc<LoadedPlugin>,
    /// The copy that it replaces.
    pub old: Option<Arc<LoadedPlugin>>,
}

pub struct Plugins {
    opener: Box<dyn Opener>,
    pipeline: Arc<Pipeline>,
    files: Mutex<BTreeMap<PathBuf, PluginFile>>,
}

impl Plugins {
    pub fn new(opener: Box<dyn Opener>, pipeline: Arc<Pipeline>) -> Plugins {
        Plugins {
            opener,
            pipeline,
            files: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, PluginFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is loaded (or was refused) as it lies there now.
    pub fn is_current(&self, file: &Path) -> bool {
        let stamp = FileStamp::of(file);
        stamp.is_some()
            && self
                .lock()
                .get(file)
                .is_some_and(|known| known.stamp == stamp && known.was.is_none())
    }

    /// Loads a file, or its new version. The caller holds the lock of loading.
    /// `copy` is the number of the copy, for which `services` answer.
    pub fn load(&self, file: &Path, copy: u64, services: Arc<dyn HostServices>) -> Result<Loaded, Refusal> {
        let stamp = FileStamp::of(file);
        let outcome = self.open(file, copy, services);
        let now_ns = clock::now().wall_ns;
        let mut files = self.lock();
        let entry = files.entry(file.to_owned()).or_default();
        entry.stamp = stamp;
        entry.since_ns = now_ns;
        match outcome {
            Ok(plugin) => {
                let old = entry.loaded.replace(plugin.clone());
                entry.refusal = None;
                entry.was = None;
                let manifest = plugin.calls.manifest();
                let event = if old.is_some() { "replaced" } else { "loaded" };
                self.event(event, Some(&manifest.name), Some(&manifest.version), file, None);
                tracing::info!(
                    "plugin {} {} {event} from {}",
                    manifest.name,
                    manifest.version,
                    file.display()
                );
                Ok(Loaded { plugin, old })
            }
            Err(refusal) => {
                let old = if entry.loaded.is_some() {
                    "; its old version goes on"
                } else {
                    ""
                };
                tracing::warn!("plugin refused: {refusal}{old}");
                let message = format!("{}; {}{old}", refusal.reason, refusal.hint);
                self.event("refused", refusal.name.as_deref(), None, file, Some(message));
                entry.refusal = Some(refusal.clone());
                Err(refusal)
            }
        }
    }

    fn open(&self, file: &Path, copy: u64, services: Arc<dyn HostServices>) -> Result<Arc<LoadedPlugin>, Refusal> {
        let calls = self.opener.open(file, services)?;
        let manifest = calls.manifest();
        let refuse = |reason: String, hint: &str| Refusal {
            file: file.to_owned(),
            reason,
            hint: hint.to_owned(),
            name: Some(manifest.name.clone()),
        };
        if let Some(first) = self.file_of(&manifest.name).filter(|first| first != file) {
            let reason = format!("plugin {} is loaded from {} already", manifest.name, first.display());
            stop_aside(&calls);
            return Err(refuse(reason, "remove one of the two files"));
        }
        let tables = self.register(&calls).map_err(|(reason, hint)| {
            stop_aside(&calls);
            refuse(reason, hint)
        })?;
        Ok(Arc::new(LoadedPlugin {
            name: manifest.name.as_str().into(),
            copy,
            tables,
            calls,
        }))
    }

    /// Registers the plugin's tables with the store.
    fn register(&self, calls: &Arc<dyn PluginCalls>) -> Result<Vec<KnownTable>, (String, &'static str)> {
        let manifest = calls.manifest();
        for table in &manifest.tables {
            if let Some(other) = self.owner_of(table, &manifest.name) {
                let reason = format!("table {} is declared otherwise by plugin {other}", table.name);
                return Err((reason, "give the table another name"));
            }
        }
        let schemas = manifest.tables.clone();
        let answer = self.pipeline.ask(move |recording| {
            let mut tables = Vec::new();
            for schema in schemas {
                let id = recording.writer().table(&schema)?;
                tables.push(KnownTable {
                    schema: Arc::new(schema),
                    id,
                });
            }
            Ok(tables)
        });
        let hint = "what is stored keeps its form: give the changed column or table a new name";
        match answer {
            Ok(Ok(tables)) => Ok(tables),
            Ok(Err(e)) => {
                let e: vwatch_store::StoreError = e;
                Err((e.to_string(), hint))
            }
            Err(ended) => Err((ended.to_string(), "start the recorder again")),
        }
    }

    /// Another loaded plugin, or the recorder, that declares a table of this name in another way.
    fn owner_of(&self, table: &TableSchema, plugin: &str) -> Option<String> {
        if vwatch_model::core_tables::all()
            .iter()
            .any(|core| core.name == table.name)
        {
            return Some("core (the recorder itself)".to_owned());
        }
        let other = |loaded: &Arc<LoadedPlugin>| {
            let same = |known: &KnownTable| known.schema.name == table.name && *known.schema != *table;
            (&*loaded.name != plugin && loaded.tables.iter().any(same)).then(|| loaded.name.to_string())
        };
        self.loaded().iter().find_map(other)
    }

    /// Unloads the plugin of a file; None when none is loaded from it.
    pub fn unload(&self, file: &Path, removed: bool) -> Option<Arc<LoadedPlugin>> {
        let mut files = self.lock();
        if removed && files.get(file)?.loaded.is_none() {
            files.remove(file);
            return None;
        }
        let entry = files.get_mut(file)?;
        let plugin = entry.loaded.take()?;
        let manifest = plugin.calls.manifest();
        entry.was = Some(manifest.clone());
        entry.refusal = None;
        entry.since_ns = clock::now().wall_ns;
        let event = if removed { "removed" } else { "unloaded" };
        self.event(event, Some(&manifest.name), Some(&manifest.version), file, None);
        tracing::info!("plugin {} {event} ({})", manifest.name, file.display());
        if removed {
            files.remove(file);
        }
        Some(plugin)
    }

    fn event(&self, event: &'static str, name: Option<&str>, version: Option<&str>, file: &Path, why: Option<String>) {
        self.pipeline.row(CoreRow::Plugin(PluginEvent {
            time_ns: clock::now().wall_ns,
            plugin: name.map(str::to_owned),
            version: version.map(str::to_owned),
            file: file.display().to_string(),
            event,
            message: why,
        }));
    }

    pub fn loaded(&self) -> Vec<Arc<LoadedPlugin>> {
        self.lock().values().filter_map(|file| file.loaded.clone()).collect()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<LoadedPlugin>> {
        self.lock()
            .values()
            .filter_map(|file| file.loaded.as_ref())
            .find(|p| &*p.name == name)
            .cloned()
    }

    /// The file that a plugin is loaded from.
    pub fn file_of(&self, name: &str) -> Option<PathBuf> {
        let files = self.lock();
        let mut found = files
            .iter()
            .filter(|(_, file)| file.loaded.as_ref().is_some_and(|p| &*p.name == name));
        found.next().map(|(path, _)| path.clone())
    }

    /// The file of a plugin by its name (loaded or not) or by its path.
    pub fn find(&self, word: &str) -> Option<PathBuf> {
        let files = self.lock();
        let named = |file: &PluginFile| {
            let loaded = file.loaded.as_ref().is_some_and(|p| &*p.name == word);
            loaded || file.was.as_ref().is_some_and(|m| m.name == word)
        };
        let path = Path::new(word);
        let by_path = files.keys().find(|file| *file == path);
        by_path
            .or_else(|| files.iter().find(|(_, file)| named(file)).map(|(path, _)| path))
            .cloned()
    }

    /// Files that were refused because `name` was loaded from another file.
    pub fn refused_for(&self, name: &str) -> Vec<PathBuf> {
        let files = self.lock();
        let waits = |file: &&PluginFile| file.refusal.as_ref().is_some_and(|r| r.name.as_deref() == Some(name));
        files
            .iter()
            .filter(|(_, file)| waits(file))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Names and files, for hints.
    pub fn words(&self) -> Vec<String> {
        let files = self.lock();
        let names = files
            .values()
            .filter_map(|file| file.loaded.as_ref())
            .map(|p| p.name.to_string());
        names
            .chain(files.keys().map(|path| path.display().to_string()))
            .collect()
    }

    pub fn counts(&self) -> (u64, u64) {
        let files = self.lock();
        let loaded = files.values().filter(|file| file.loaded.is_some()).count();
        let refused = files.values().filter(|file| file.refusal.is_some()).count();
        (loaded as u64, refused as u64)
    }

    /// The table of any loaded plugin, or of the recorder.
    pub fn table(&self, name: &str) -> Option<TableSchema> {
        let core = vwatch_model::core_tables::all()
            .into_iter()
            .find(|table| table.name == name);
        core.or_else(|| {
            let loaded = self.loaded();
            let mut tables = loaded.iter().flat_map(|plugin| &plugin.tables);
            tables
                .find(|known| known.schema.name == name)
                .map(|known| (*known.schema).clone())
        })
    }

    pub fn list(&self) -> Vec<control::Plugin> {
        self.lock().iter().map(|(path, file)| describe(path, file)).collect()
    }

    pub fn describe(&self, path: &Path) -> Option<control::Plugin> {
        self.lock().get(path).map(|file| describe(path, file))
    }
}

fn describe(path: &Path, file: &PluginFile) -> control::Plugin {
    let manifest = file.loaded.as_ref().map(|p| p.calls.manifest()).or(file.was.as_ref());
    let state = match (&file.loaded, &file.refusal) {
        (Some(_), _) => "loaded",
        (None, Some(_)) => "refused",
        (None, None) => "unloaded",
    };
    let reason = file.refusal.as_ref().map(|refusal| match file.loaded {
        Some(_) => format!("its new version is refused, the old one goes on: {}", refusal.reason),
        None => refusal.reason.clone(),
    });
    let name = manifest.map(|m| m.name.clone());
    let refused_name = || file.refusal.as_ref().and_then(|refusal| refusal.name.clone());
    control::Plugin {
        file: path.display().to_string(),
        name: name.or_else(refused_name).unwrap_or_default(),
        version: manifest.map(|m| m.version.clone()).unwrap_or_default(),
        doc: manifest.map(|m| m.doc.clone()).unwrap_or_default(),
        state: state.to_owned(),
        reason,
        hint: file.refusal.as_ref().map(|refusal| refusal.hint.clone()),
        probes: manifest
            .map(|m| m.probes.iter().map(|p| p.name.clone()).collect())
            .unwrap_or_default(),
        tables: manifest
            .map(|m| m.tables.iter().map(|t| t.name.clone()).collect())
            .unwrap_or_default(),
        since_ns: file.since_ns,
    }
}

/// Ends a copy that never came into use, or is not used any more, on a thread of its own: it may hang.
pub fn stop_aside(calls: &Arc<dyn PluginCalls>) {
    let calls = calls.clone();
    let name = calls.manifest().name.clone();
    let started = crate::process::spawn("plugin-stop", move || {
        if let Err(fault) = calls.stop() {
            tracing::warn!("plugin {}: its end: {fault}", calls.manifest().name);
        }
    });
    if let Err(e) = started {
        tracing::warn!("plugin {name} is not told of its end: {e}");
    }
}
