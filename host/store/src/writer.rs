//! The writer: opens or makes a store, knows its tables and instances, and queues what the next commit takes.
//!
//! **Invariants:** one writer per store (see [`crate::lock`]). Everything queued between two commits becomes durable in one
//! LMDB transaction or not at all. Declarations of tables and instances stay queued until a commit takes them.

use crate::columns::Packer;
use crate::contents;
use crate::durable::Durable;
use crate::env::{Env, MapSize, resolve};
use crate::error::{Result, StoreError};
use crate::head::Directory;
use crate::held::Held;
use crate::lock::WriterLock;
use crate::maintain::Maintenance;
use crate::picture::Picture;
use crate::retention::{Retention, Upkeep};
use crate::run::{self, Run};
use crate::schema::{Table, Version};
use crate::series::Series;
use crate::types::*;
use crate::{failpoint, pages};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vwatch_model::TableSchema;
use vwatch_model::name::is_instance_name;
use vwatch_model::time::Stamp;

pub(crate) const MINUTE_NS: i64 = 60_000_000_000;

/// What the writer keeps of one table and instance.
pub(crate) struct Stream {
    pub series: Series,
    /// The series is in the file.
    pub stored: bool,
    /// Of a state table, once a full picture came.
    pub picture: Option<Picture>,
    /// The next sample begins a block.
    pub fresh: bool,
    /// Samples since the last keyframe.
    pub since_keyframe: u32,
    pub last_sample_ns: Option<i64>,
    /// Bytes and samples since the last fresh keyframe.
    pub run_bytes: usize,
    pub run_samples: u32,
    /// Times in the head and in the blocks.
    pub bounds: Option<(i64, i64)>,
    pub upkeep: Upkeep,
}

impl Stream {
    pub fn new(series: Series, stored: bool) -> Stream {
        Stream {
            bounds: series.bounds(),
            series,
            stored,
            picture: None,
            fresh: true,
            since_keyframe: 0,
            last_sample_ns: None,
            run_bytes: 0,
            run_samples: 0,
            upkeep: Upkeep::default(),
        }
    }

    /// Blocks were deleted from the front.
    pub fn narrow(&mut self) {
        if let Some((_, last)) = self.bounds {
            self.bounds = Some((self.series.bounds().map_or(last, |b| b.0), last));
        }
    }

    pub fn widen(&mut self, first_ns: i64, last_ns: i64) {
        self.bounds = Some(match self.bounds {
            None => (first_ns, last_ns),
            Some((first, last)) => (first.min(first_ns), last.max(last_ns)),
        });
    }
}

pub struct Writer {
    // Before the lock: the environment is closed while the store is still held.
    pub(crate) env: Env,
    pub(crate) path: PathBuf,
    pub(crate) size: MapSize,
    pub(crate) keyframe_every: u32,
    pub(crate) run: Run,
    /// The store knows that this run has begun.
    pub(crate) run_stored: bool,
    previous: Option<PreviousRun>,
    pub(crate) tables: BTreeMap<TableId, Arc<Table>>,
    pub(crate) new_versions: Vec<(TableId, Arc<Version>)>,
    pub(crate) instances: BTreeMap<InstanceId, InstanceInfo>,
    pub(crate) new_instances: BTreeSet<InstanceId>,
    pub(crate) streams: HashMap<(TableId, InstanceId), Stream>,
    /// Each sample with the declaration that its rows follow.
    pub(crate) queued: Vec<(Sample, Arc<Version>)>,
    pub(crate) durable: Durable,
    pub(crate) packer: Packer,
    pub(crate) next_sequence: u64,
    /// First head record of the minute that is not over.
    pub(crate) minute_sequence: u64,
    pub(crate) minute: Option<i64>,
    /// An error after which the environment is opened anew before it is used.
    pub(crate) reopen: bool,
    /// Commits to go by before sealing is tried again.
    pub(crate) seal_wait: u32,
    pub(crate) retention: Retention,
    pub(crate) maintenance: Maintenance,
    pub(crate) held: Held,
    pub(crate) stats: Stats,
    _lock: WriterLock,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Opens the store, making it if there is none (mode 0600), and marks it as running.
    ///
    /// # Errors
    /// `Held` while another process writes it; `NotAStore` and `NewerFormat` for a file that is not this program's, which
    /// is left as it is; `Damaged`; `Full`.
    pub fn open(path: &Path, options: &OpenOptions, now: Stamp, boot_id: &str) -> Result<Writer> {
        let path = resolve(path)?;
        if !needs_making(&path)? {
            // Before there is a lock file beside what may not be ours.
            pages::check(&path)?;
        }
        let lock = WriterLock::take(&path)?;
        let size = MapSize(usize::try_from(options.map_bytes).unwrap_or(usize::MAX) & !0xffff);
        let this_run = Run {
            boot_id: boot_id.to_owned(),
            host: host_name(),
            opened: now,
            last_commit: None,
            clean: false,
            next_sequence: 0,
        };
        if needs_making(&path)? {
            make(&path, size, &this_run)?;
        } else {
            pages::check(&path)?;
            // Without locks and read-only, so that a file that is refused has not been touched.
            let env = Env::open_copy(&path)?;
            env.read(|txn, dbs| run::check_format(&path, txn, dbs))?;
        }
        let env = Env::open_writer(&path, size)?;
        let mut writer = Writer::load(env, path, size, options, this_run, lock)?;
        writer.clear_dead_readers();
        match writer.put_run() {
            Ok(()) => {}
            // Recording begins paused: the next commit that succeeds takes it along.
            Err(e @ StoreError::Full { .. }) => tracing::warn!("{e}"),
            Err(e) => return Err(e),
        }
        Ok(writer)
    }

    /// Reads what the writer has to know of the store.
    fn load(
        env: Env,
        path: PathBuf,
        size: MapSize,
        options: &OpenOptions,
        mut run: Run,
        lock: WriterLock,
    ) -> Result<Writer> {
        let (before, tables, instances, series, head) = env.read(|txn, dbs| {
            let mut head = Vec::new();
            contents::each_head_record(&path, txn, dbs, |sequence, directory, _| {
                head.push((sequence, directory));
                Ok(())
            })?;
            Ok((
                run::run(&path, txn, dbs)?,
                contents::tables(&path, txn, dbs)?,
                contents::instances(&path, txn, dbs)?,
                contents::all_series(&path, txn, dbs)?,
                head,
            ))
        })?;
        let last_commit = head.last().map(|(_, d)| d.commit).or(before.last_commit);
        let next_sequence = head.last().map_or(0, |(s, _)| s + 1).max(before.next_sequence);
        let (minute, minute_sequence) = open_minute(&head, next_sequence);
        let mut streams: HashMap<_, _> = series.iter().map(|(k, s)| (*k, Stream::new(*s, true))).collect();
        for entry in head.iter().flat_map(|(_, d)| &d.entries) {
            let stream = streams
                .entry((entry.table, entry.instance))
                .or_insert_with(|| Stream::new(Series::default(), false));
            stream.widen(entry.time_ns, entry.last_ns);
        }
        run.last_commit = last_commit;
        run.next_sequence = next_sequence;
        let previous = last_commit.map(|last_commit| PreviousRun {
            last_commit,
            boot_id: before.boot_id,
            clean: before.clean,
            instances: seen(&instances, &streams),
        });
        let packer = Packer::new().map_err(|e| StoreError::io(&path, "start a compressor for", e))?;
        Ok(Writer {
            env,
            path,
            size,
            keyframe_every: options.keyframe_every.max(1),
            run,
            run_stored: false,
            previous,
            tables,
            new_versions: Vec::new(),
            instances,
            new_instances: BTreeSet::new(),
            streams,
            queued: Vec::new(),
            durable: Durable::default(),
            packer,
            next_sequence,
            minute_sequence,
            minute,
            reopen: false,
            seal_wait: 0,
            retention: Retention::default(),
            maintenance: Maintenance::default(),
            held: Held::default(),
            stats: Stats {
                head_records: head.len() as u64,
                ..Stats::default()
            },
            _lock: lock,
        })
    }

    fn put_run(&mut self) -> Result<()> {
        self.env
            .write(["", ""], |txn, dbs| run::put_run(&self.path, txn, dbs, &self.run))?;
        self.run_stored = true;
        Ok(())
    }

    /// The run before this one; None when nothing was ever committed.
    pub fn previous(&self) -> Option<&PreviousRun> {
        self.previous.as_ref()
    }

    /// The id of a table. A declaration that differs from the newest one becomes a new version, durable with the next commit.
    ///
    /// # Errors
    /// `Schema` when the declaration breaks the rules or cannot be read together with what is stored.
    pub fn table(&mut self, schema: &TableSchema) -> Result<TableId> {
        schema.check()?;
        let known = self.tables.values().find(|t| t.schema.name == schema.name).cloned();
        let (id, mut versions) = match &known {
            Some(table) if table.newest().schema == *schema => return Ok(table.id),
            Some(table) => (table.id, table.versions.clone()),
            None => {
                let next = self.tables.last_key_value().map_or(1, |(id, _)| id.0 + 1);
                (TableId(next), BTreeMap::new())
            }
        };
        for version in versions.values() {
            version.schema.evolves_to(schema)?;
        }
        let number = versions.last_key_value().map_or(1, |(n, _)| n + 1);
        let version = Arc::new(Version::new(number, schema.clone()));
        versions.insert(number, version.clone());
        self.tables.insert(id, Arc::new(Table::new(id, versions)));
        self.new_versions.push((id, version));
        Ok(id)
    }

    /// The id of an instance: the same name, the same id. What else is said of it is updated with the next commit.
    pub fn instance(&mut self, instance: &InstanceInfo) -> Result<InstanceId> {
        if !is_instance_name(&instance.name) {
            return Err(StoreError::Name {
                what: format!("the instance's name {:?}", instance.name),
                why: "it is not of the form [A-Za-z0-9][A-Za-z0-9_.:@-]*, at most 128 characters",
            });
        }
        let known = self.instances.iter().find(|(_, i)| i.name == instance.name);
        let id = match known {
            Some((id, info)) if info == instance => return Ok(*id),
            Some((id, _)) => *id,
            None => InstanceId(self.instances.last_key_value().map_or(1, |(id, _)| id.0 + 1)),
        };
        self.instances.insert(id, instance.clone());
        self.new_instances.insert(id);
        Ok(id)
    }

    /// What is kept from now on; [`Writer::maintain`] sees to it.
    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
        for stream in self.streams.values_mut() {
            stream.upkeep.expire_wait_ns = i64::MIN;
            stream.upkeep.thin_wait_ns = i64::MIN;
        }
    }

    pub fn stats(&self) -> Stats {
        let bounds = || self.streams.values().filter_map(|s| s.bounds);
        Stats {
            file_bytes: std::fs::metadata(&self.path).map_or(0, |m| m.len()),
            first_ns: bounds().map(|b| b.0).min(),
            last_ns: bounds().map(|b| b.1).max(),
            ..self.stats
        }
    }

    /// Takes the pages of the file that were looked at out of the process's resident memory, which grows with the file
    /// otherwise: each commit and each sealing looks at pages, and a fault maps those around it, too. To be called now and
    /// then; about 0.1 ms.
    pub fn forget_pages(&self) -> Result<()> {
        self.env.forget_pages()
    }

    /// The environment, opened anew when an error was fatal to it.
    pub(crate) fn usable(&mut self) -> Result<()> {
        if self.reopen {
            self.env.reopen(self.size)?;
            self.reopen = false;
        }
        Ok(())
    }

    pub(crate) fn clear_dead_readers(&mut self) {
        match self.env.clear_dead_readers() {
            Ok(0) => {}
            Ok(n) => {
                self.stats.readers_cleared += n;
                tracing::info!(n, "cleared the slots of readers that had died");
            }
            Err(e) => tracing::warn!("could not look for dead readers: {e}"),
        }
    }

    /// Says which readers keep old states of the store, and so its file growing.
    pub(crate) fn tell_long_readers(&mut self, now: Stamp) {
        match self.env.readers() {
            Ok(readers) => {
                for (pid, time_ns) in self.held.look(&readers, now.boot_ns) {
                    let seconds = time_ns / 1_000_000_000;
                    tracing::warn!(
                        "process {pid} has been reading one state of the store for {seconds} s; the file grows meanwhile"
                    );
                }
            }
            Err(e) => tracing::warn!("could not look for long readers: {e}"),
        }
    }

    /// The next sample of every table and instance begins a block.
    pub(crate) fn begin_blocks(&mut self) {
        for stream in self.streams.values_mut() {
            stream.fresh = true;
        }
    }
}

/// The minute of the newest record, and the first record of it: what is before that is due to be sealed.
fn open_minute(head: &[(u64, Directory)], next_sequence: u64) -> (Option<i64>, u64) {
    let minute_of = |d: &Directory| d.commit.wall_ns.div_euclid(MINUTE_NS);
    let minute = head.last().map(|(_, d)| minute_of(d));
    let first = match head.iter().rposition(|(_, d)| Some(minute_of(d)) != minute) {
        Some(i) => head[i].0 + 1,
        None => head.first().map_or(next_sequence, |(sequence, _)| *sequence),
    };
    (minute, first)
}

fn seen(
    instances: &BTreeMap<InstanceId, InstanceInfo>,
    streams: &HashMap<(TableId, InstanceId), Stream>,
) -> Vec<SeenInstance> {
    let last = |id: InstanceId| {
        let of = streams.iter().filter(|((_, i), _)| *i == id);
        of.filter_map(|(_, s)| s.bounds.map(|b| b.1)).max()
    };
    let entry = |(id, info): (&InstanceId, &InstanceInfo)| SeenInstance {
        id: *id,
        info: info.clone(),
        last_ns: last(*id),
    };
    instances.iter().map(entry).collect()
}

fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// No file, or one without a byte in it.
fn needs_making(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(StoreError::io(path, "stat", e)),
    }
}

/// Makes a store beside its place and moves it there: it is never seen half made.
fn make(path: &Path, size: MapSize, run: &Run) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-new");
    let new = PathBuf::from(name);
    match std::fs::remove_file(&new) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(StoreError::io(&new, "remove", e)),
    }
    Env::create(&new, size, |txn, dbs| {
        run::put_format(txn, dbs).map_err(|e| StoreError::lmdb(&new, "write the format", e))?;
        run::put_run(&new, txn, dbs, run)
    })?;
    failpoint::hit("create-before-rename");
    std::fs::rename(&new, path).map_err(|e| StoreError::io(path, "move into place", e))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| StoreError::io(directory, "sync", e))
}
