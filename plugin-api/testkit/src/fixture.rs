//! A host in a directory: `proc/` and `sys/` trees that a test writes, or the real ones.

use crate::instance::TestInstance;
use crate::plugin::TestPlugin;
use crate::record::{Recorded, Recorder};
use crate::sampled::Sampled;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vwatch_sdk::__private::ProbeEntry;
use vwatch_sdk::describe::{Environment, Table};
use vwatch_sdk::{Definition, Probe, Result, StreamProbe};

/// A host for tests. Cheap to make; parallel tests each have their own.
pub struct FixtureHost {
    /// Kept for its removal at the end.
    _scratch: TempDir,
    root: PathBuf,
    recorder: Arc<Recorder>,
}

impl FixtureHost {
    /// With empty `proc/` and `sys/` in a directory of its own.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let scratch = scratch();
        let root = scratch.path().to_owned();
        for dir in ["proc", "sys"] {
            fs::create_dir(root.join(dir)).unwrap_or_else(|e| panic!("{dir}: {e}"));
        }
        let environment = environment(&root.join("proc"), &root.join("sys"), false, &root);
        Self::with(scratch, root, environment)
    }

    /// With the `proc/` and `sys/` in this directory, which must exist; nothing writes there but [`FixtureHost::file`].
    pub fn at(dir: impl AsRef<Path>) -> Self {
        let root = dir.as_ref().to_owned();
        assert!(root.join("proc").is_dir(), "{} has no proc/", root.display());
        let scratch = scratch();
        let environment = environment(&root.join("proc"), &root.join("sys"), false, scratch.path());
        Self::with(scratch, root, environment)
    }

    /// With the `/proc` and `/sys` of the kernel that runs.
    pub fn live() -> Self {
        let scratch = scratch();
        let root = PathBuf::from("/");
        let environment = environment(Path::new("/proc"), Path::new("/sys"), true, scratch.path());
        Self::with(scratch, root, environment)
    }

    fn with(scratch: TempDir, root: PathBuf, environment: Environment) -> Self {
        FixtureHost {
            _scratch: scratch,
            root,
            recorder: Arc::new(Recorder::new(environment)),
        }
    }

    /// Writes a file: `proc/stat`. Its directories are made.
    pub fn file(&self, path: &str, contents: impl AsRef<[u8]>) -> &Self {
        let file = self.path(path);
        let made = file.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&file, contents))
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self
    }

    /// The same while the host is being made.
    pub fn with_file(self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.file(path, contents);
        self
    }

    /// Makes a symbolic link, as `proc/12/exe` is one.
    pub fn link(&self, path: &str, target: impl AsRef<Path>) -> &Self {
        let link = self.path(path);
        let made = link.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| std::os::unix::fs::symlink(target, &link))
            .unwrap_or_else(|e| panic!("{}: {e}", link.display()));
        self
    }

    /// Removes a file or a whole directory.
    pub fn remove(&self, path: &str) -> &Self {
        let path = self.path(path);
        let gone = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        gone.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self
    }

    /// Where a path of the fixture is.
    pub fn path(&self, path: &str) -> PathBuf {
        assert!(!self.recorder.environment.live, "a live host's files are the kernel's");
        self.root.join(path)
    }

    /// The plugin's section of the configuration, before anything is opened.
    pub fn config(&self, config: Value) -> &Self {
        self.recorder.change(|r| r.config = config);
        self
    }

    /// A value of durable state, as an earlier life of the plugin left it.
    pub fn put_state(&self, key: &str, value: impl Into<Vec<u8>>) -> &Self {
        let value = value.into();
        self.recorder.change(|r| r.state.insert(key.to_owned(), value));
        self
    }

    /// A table that [`vwatch_sdk::Context::schema`] knows.
    pub fn put_schema(&self, table: Table) -> &Self {
        self.recorder.change(|r| r.schemas.insert(table.name.clone(), table));
        self
    }

    /// From now on, emitted rows are refused with [`vwatch_sdk::Kind::Busy`].
    pub fn refuse_rows(&self, refuse: bool) -> &Self {
        self.recorder.change(|r| r.refuse_rows = refuse);
        self
    }

    /// Opens an instance of a polled probe, with options as people write them: `cpu=1 total=false`.
    pub fn open<P: Probe>(&self, options: &str) -> Result<TestInstance> {
        self.load(alone(ProbeEntry::poll::<P>()))?.open(P::NAME, options)
    }

    /// Opens an instance of a stream probe; [`TestInstance::start`] begins it.
    pub fn open_stream<P: StreamProbe>(&self, options: &str) -> Result<TestInstance> {
        self.load(alone(ProbeEntry::stream::<P>()))?.open(P::NAME, options)
    }

    /// Opens a polled probe, runs it once, and stops it.
    pub fn run_once<P: Probe>(&self, options: &str) -> Result<Sampled> {
        let mut instance = self.open::<P>(options)?;
        let sampled = instance.run()?;
        instance.stop()?;
        Ok(sampled)
    }

    /// A whole plugin: `host.load(vwatch_plugin())`.
    pub fn load(&self, definition: Definition) -> Result<TestPlugin> {
        TestPlugin::create(definition, self.recorder.clone())
    }

    /// What the plugin has asked of the host so far.
    pub fn recorded<T>(&self, look: impl FnOnce(&Recorded) -> T) -> T {
        self.recorder.look(look)
    }

    /// Waits until the record is as `condition` wants it; panics after the deadline.
    pub fn wait_until(&self, within: Duration, condition: impl FnMut(&Recorded) -> bool) {
        assert!(
            self.recorder.wait(Instant::now() + within, condition),
            "the host did not see it within {within:?}"
        );
    }
}

/// A plugin of one probe.
fn alone(probe: ProbeEntry) -> Definition {
    Definition::new("test", "0.0.0", "One probe under test.").probe(probe)
}

fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("vwatch-fixture-")
        .tempdir()
        .unwrap_or_else(|e| panic!("no directory for a fixture: {e}"))
}

fn environment(proc_dir: &Path, sys_dir: &Path, live: bool, scratch: &Path) -> Environment {
    let document = json!({
        "host_version": env!("CARGO_PKG_VERSION"),
        "proc_dir": proc_dir,
        "sys_dir": sys_dir,
        "live": live,
        "state_dir": scratch.join("state"),
    });
    serde_json::from_value(document).unwrap_or_else(|e| panic!("{e}"))
}
