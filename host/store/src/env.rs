//! The LMDB environment of a store file, and the one rule that LMDB leaves to its user: a process opens a file once.
//!
//! LMDB's lock file is guarded by `fcntl` locks, which belong to the process: a second opening in the same process would find
//! "nobody else here" and reset the reader table under the first, and its closing would drop the first one's locks. So
//! environments with locks are kept by device and inode and shared; a writer that comes after readers of its own process
//! reopens theirs for writing. Copies are opened without locks and are nobody's concern.
//!
//! **Invariant:** transactions live inside [`Env::read`] and [`Env::write`] only, so none is open while an environment is replaced.

use crate::error::{Result, StoreError};
use lmdb::{Database, DatabaseFlags, Environment, EnvironmentFlags, RoTransaction, RwTransaction, Transaction};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};

const MODE: libc::mode_t = 0o600;
const MAX_DATABASES: u32 = 16;

/// The named databases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dbs {
    pub meta: Database,
    pub schema: Database,
    pub instance: Database,
    pub series: Database,
    pub head: Database,
    pub block: Database,
    pub state: Database,
    pub outbox: Database,
    pub record: Database,
}

impl Dbs {
    fn each(mut open: impl FnMut(&'static str) -> lmdb::Result<Database>) -> lmdb::Result<Dbs> {
        Ok(Dbs {
            meta: open("meta")?,
            schema: open("schema")?,
            instance: open("instance")?,
            series: open("series")?,
            head: open("head")?,
            block: open("block")?,
            state: open("state")?,
            outbox: open("outbox")?,
            record: open("record")?,
        })
    }

    pub fn all(&self) -> [Database; 9] {
        [
            self.meta,
            self.schema,
            self.instance,
            self.series,
            self.head,
            self.block,
            self.state,
            self.outbox,
            self.record,
        ]
    }
}

#[derive(Debug)]
struct Opened {
    env: Environment,
    dbs: Dbs,
    writable: bool,
}

/// How to open for writing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapSize(pub usize);

#[derive(Debug)]
struct Slot {
    path: PathBuf,
    /// Device and inode, when it is in the registry.
    identity: Option<(u64, u64)>,
    opened: RwLock<Option<Opened>>,
}

/// A handle to a shared environment. The last one of a file closes it.
#[derive(Debug, Clone)]
pub(crate) struct Env(Option<Arc<Slot>>);

type Registry = HashMap<(u64, u64), Weak<Slot>>;
static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Env {
    fn drop(&mut self) {
        // Every handle lets go under the registry's lock: nobody opens the file while its last handle is closing it.
        let mut registry = registry();
        if let Some(slot) = self.0.take()
            && let Some(identity) = slot.identity
            && Arc::strong_count(&slot) == 1
        {
            registry.remove(&identity);
        }
    }
}

impl Env {
    /// For a writer, which holds the writer's lock. The file exists and is a store of this format.
    pub fn open_writer(path: &Path, size: MapSize) -> Result<Env> {
        preallocate_lock_file(path)?;
        let identity = identity(path)?;
        let mut registry = registry();
        if let Some(slot) = registry.get(&identity).and_then(Weak::upgrade) {
            let env = Env(Some(slot));
            // Dropping `env` on an error locks the registry.
            drop(registry);
            env.reopen(size)?;
            return Ok(env);
        }
        let opened = open(
            path,
            EnvironmentFlags::NO_META_SYNC | EnvironmentFlags::NO_TLS,
            Some(size),
        )?;
        Ok(register(&mut registry, path, identity, opened))
    }

    /// For a reader beside a writer, in this process or another.
    pub fn open_live(path: &Path) -> Result<Env> {
        let identity = identity(path)?;
        let mut registry = registry();
        if let Some(slot) = registry.get(&identity).and_then(Weak::upgrade) {
            return Ok(Env(Some(slot)));
        }
        let opened = open(path, EnvironmentFlags::READ_ONLY | EnvironmentFlags::NO_TLS, None)?;
        Ok(register(&mut registry, path, identity, opened))
    }

    /// For a file that nobody writes.
    pub fn open_copy(path: &Path) -> Result<Env> {
        let flags = EnvironmentFlags::READ_ONLY | EnvironmentFlags::NO_LOCK | EnvironmentFlags::NO_TLS;
        let opened = open(path, flags, None)?;
        Ok(Env(Some(Arc::new(Slot {
            path: path.into(),
            identity: None,
            opened: RwLock::new(Some(opened)),
        }))))
    }

    /// Makes a new store file at `path`, which is nobody's yet, with what `fill` puts into it; all is on disk at return.
    pub fn create(
        path: &Path,
        size: MapSize,
        fill: impl FnOnce(&mut RwTransaction<'_>, &Dbs) -> Result<()>,
    ) -> Result<()> {
        let env = builder(EnvironmentFlags::NO_LOCK | EnvironmentFlags::NO_TLS, Some(size))
            .open_with_permissions(path, MODE)
            .map_err(|e| StoreError::lmdb(path, "create", e))?;
        let dbs = Dbs::each(|name| env.create_db(Some(name), DatabaseFlags::empty()))
            .map_err(|e| StoreError::lmdb(path, "create a database", e))?;
        let mut txn = env.begin_rw_txn().map_err(|e| StoreError::lmdb(path, "begin", e))?;
        fill(&mut txn, &dbs)?;
        txn.commit().map_err(|e| StoreError::lmdb(path, "commit", e))?;
        env.sync(true).map_err(|e| StoreError::lmdb(path, "sync", e))
    }

    fn slot(&self) -> &Slot {
        self.0.as_deref().expect("only drop takes it out")
    }

    pub fn path(&self) -> &Path {
        &self.slot().path
    }

    /// Closes and opens again for writing: after an error that LMDB calls fatal, and for a writer after readers.
    pub fn reopen(&self, size: MapSize) -> Result<()> {
        let mut opened = self.slot().opened.write().unwrap_or_else(PoisonError::into_inner);
        *opened = None;
        let flags = EnvironmentFlags::NO_META_SYNC | EnvironmentFlags::NO_TLS;
        *opened = Some(open(&self.slot().path, flags, Some(size))?);
        Ok(())
    }

    /// A short transaction that sees one state of the store. Not to be nested.
    pub fn read<T>(&self, f: impl FnOnce(&RoTransaction<'_>, &Dbs) -> Result<T>) -> Result<T> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref() else {
            return Err(closed(self.path()));
        };
        let txn = opened
            .env
            .begin_ro_txn()
            .map_err(|e| StoreError::lmdb(self.path(), "begin to read", e))?;
        f(&txn, &opened.dbs)
    }

    /// A transaction that is committed when `f` succeeds. `before_commit` and `after_commit` are fail points.
    pub fn write<T>(&self, points: [&str; 2], f: impl FnOnce(&mut RwTransaction<'_>, &Dbs) -> Result<T>) -> Result<T> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref().filter(|o| o.writable) else {
            return Err(closed(self.path()));
        };
        let mut txn = opened
            .env
            .begin_rw_txn()
            .map_err(|e| StoreError::lmdb(self.path(), "begin to write", e))?;
        let out = f(&mut txn, &opened.dbs)?;
        crate::failpoint::hit(points[0]);
        txn.commit().map_err(|e| StoreError::lmdb(self.path(), "commit", e))?;
        crate::failpoint::hit(points[1]);
        Ok(out)
    }

    /// All that was committed is on disk at return.
    pub fn sync(&self) -> Result<()> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref() else {
            return Err(closed(self.path()));
        };
        opened
            .env
            .sync(true)
            .map_err(|e| StoreError::lmdb(self.path(), "sync", e))
    }

    /// Pages in LMDB's own list of free ones.
    pub fn free_pages(&self) -> Result<u64> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref() else {
            return Err(closed(self.path()));
        };
        let free = opened.env.freelist();
        let free = free.map_err(|e| StoreError::lmdb(self.path(), "read the free list", e))?;
        Ok(free as u64)
    }

    /// Writes the store as one transaction sees it into `out`, which takes it as a stream. A reader's slot is held until the
    /// end, so pages that the writer frees meanwhile are not used again; `compact` leaves out the free ones.
    pub fn copy(&self, out: BorrowedFd<'_>, compact: bool) -> Result<()> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref() else {
            return Err(closed(self.path()));
        };
        let flags = if compact { lmdb_sys::MDB_CP_COMPACT } else { 0 };
        // SAFETY: `env()` is the live environment that `opened` owns, and `out` is an open descriptor; both are borrowed for
        // the whole call.
        let code = unsafe { lmdb_sys::mdb_env_copyfd2(opened.env.env(), out.as_raw_fd(), flags) };
        match code {
            0 => Ok(()),
            code => Err(StoreError::lmdb(self.path(), "copy", lmdb::Error::from_err_code(code))),
        }
    }

    /// Unmaps the pages that were looked at; they stay in the page cache, and come back when they are needed.
    pub fn forget_pages(&self) -> Result<()> {
        let unmapped = |e| StoreError::io(self.path(), "unmap pages of", e);
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(unmapped)?;
        let Some((_, ino)) = self.slot().identity else {
            return Ok(());
        };
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            return Err(closed(self.path()));
        }
        for (start, bytes) in maps.lines().filter_map(|line| shared_map(line, ino)) {
            // SAFETY: a read-only shared mapping, so that dropping its pages loses nothing, also for who looks at one of them now;
            // the store's own stays while `opened` is borrowed.
            let code = unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
            if code != 0 {
                return Err(unmapped(std::io::Error::last_os_error()));
            }
        }
        Ok(())
    }

    /// Bytes of all pages in use, those that only a reader still sees left out. Costs ten small reads.
    pub fn used_bytes(&self) -> Result<u64> {
        /// LMDB's own tree of free pages.
        const FREE_TREE: lmdb_sys::MDB_dbi = 0;
        self.read(|txn, dbs| {
            let named = [
                dbs.meta,
                dbs.schema,
                dbs.instance,
                dbs.series,
                dbs.head,
                dbs.block,
                dbs.state,
                dbs.outbox,
                dbs.record,
            ];
            let trees = named.iter().map(Database::dbi).chain([FREE_TREE]);
            let mut bytes = 0;
            for tree in trees {
                let mut stat = std::mem::MaybeUninit::<lmdb_sys::MDB_stat>::zeroed();
                // SAFETY: the transaction is live for the whole call, the tree is one of its own, and LMDB writes a whole
                // `MDB_stat`, of which every pattern of bits is a value.
                let (code, stat) = unsafe {
                    let code = lmdb_sys::mdb_stat(txn.txn(), tree, stat.as_mut_ptr());
                    (code, stat.assume_init())
                };
                if code != 0 {
                    let e = lmdb::Error::from_err_code(code);
                    return Err(StoreError::lmdb(self.path(), "count its pages", e));
                }
                let pages = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
                bytes += pages as u64 * u64::from(stat.ms_psize);
            }
            Ok(bytes)
        })
    }

    /// Process and transaction of each reader that is inside one.
    pub fn readers(&self) -> Result<Vec<(i32, u64)>> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref() else {
            return Err(closed(self.path()));
        };
        crate::held::readers(&opened.env).map_err(|e| StoreError::lmdb(self.path(), "list its readers", e))
    }

    /// Clears the slots of readers that died; their old states would keep the file growing. Answers how many.
    pub fn clear_dead_readers(&self) -> Result<u64> {
        let opened = self.slot().opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref() else {
            return Err(closed(self.path()));
        };
        let mut dead = 0;
        // SAFETY: `env()` is the live environment that `opened` owns, and `opened` is borrowed for the whole call.
        let code = unsafe { lmdb_sys::mdb_reader_check(opened.env.env(), &mut dead) };
        if code != 0 {
            let e = lmdb::Error::from_err_code(code);
            return Err(StoreError::lmdb(self.path(), "clear dead readers", e));
        }
        Ok(u64::try_from(dead).unwrap_or(0))
    }
}

/// Address and length of a read-only shared mapping of the file, if the line of `/proc/self/maps` (proc(5)) is one. Devices
/// are not compared: on btrfs and overlayfs stat(2) says another one.
fn shared_map(line: &str, ino: u64) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, access, inode) = (fields.next()?, fields.next()?, fields.nth(2)?);
    let (from, to) = range.split_once('-')?;
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    let (from, to) = (address(from)?, address(to)?);
    (inode.parse() == Ok(ino) && access == "r--s").then(|| (from, to.saturating_sub(from)))
}

fn closed(path: &Path) -> StoreError {
    StoreError::Lmdb {
        path: path.into(),
        op: "use an environment that an earlier error has closed",
        source: lmdb::Error::Panic,
    }
}

fn register(registry: &mut Registry, path: &Path, identity: (u64, u64), opened: Opened) -> Env {
    let slot = Arc::new(Slot {
        path: path.into(),
        identity: Some(identity),
        opened: RwLock::new(Some(opened)),
    });
    registry.insert(identity, Arc::downgrade(&slot));
    Env(Some(slot))
}

fn builder(flags: EnvironmentFlags, size: Option<MapSize>) -> lmdb::EnvironmentBuilder {
    let mut builder = Environment::new();
    builder.set_flags(flags | EnvironmentFlags::NO_SUB_DIR);
    builder.set_max_dbs(MAX_DATABASES);
    if let Some(MapSize(bytes)) = size {
        builder.set_map_size(bytes);
    }
    builder
}

fn open(path: &Path, flags: EnvironmentFlags, size: Option<MapSize>) -> Result<Opened> {
    let env = builder(flags, size)
        .open_with_permissions(path, MODE)
        .map_err(|e| StoreError::lmdb(path, "open", e))?;
    let dbs = Dbs::each(|name| env.open_db(Some(name))).map_err(|e| match e {
        lmdb::Error::NotFound | lmdb::Error::Incompatible => StoreError::NotAStore {
            path: path.into(),
            what: "it is another program's LMDB file".into(),
        },
        e => StoreError::lmdb(path, "open a database", e),
    })?;
    Ok(Opened {
        env,
        dbs,
        writable: !flags.contains(EnvironmentFlags::READ_ONLY),
    })
}

fn identity(path: &Path) -> Result<(u64, u64)> {
    let metadata = std::fs::metadata(path).map_err(|e| StoreError::io(path, "stat", e))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The path with its links followed, so that every way to a store leads to the same lock files. A file that does not exist
/// yet keeps its name.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(StoreError::Name {
            what: path.display().to_string(),
            why: "it contains a NUL",
        });
    }
    match path.canonicalize() {
        Ok(path) => return Ok(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(StoreError::io(path, "resolve", e)),
    }
    let name = path.file_name().ok_or_else(|| StoreError::Name {
        what: path.display().to_string(),
        why: "it names no file",
    })?;
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let parent = parent
        .canonicalize()
        .map_err(|e| StoreError::io(parent, "resolve", e))?;
    Ok(parent.join(name))
}

/// Gives the lock file its blocks while there is an error to report: LMDB maps it, and a page that the disk has no room for
/// would be a SIGBUS later. Only before LMDB has it open in this process: closing it here would drop LMDB's locks.
fn preallocate_lock_file(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Header and 126 readers, LMDB's default. No more: readers that have mapped the file would not see the rest.
    const BYTES: libc::off_t = 8192;
    if registry().contains_key(&identity(path)?) {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let lock = PathBuf::from(name);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(&lock)
        .map_err(|e| StoreError::io(&lock, "open", e))?;
    let length = file.metadata().map_err(|e| StoreError::io(&lock, "stat", e))?.len();
    if length >= BYTES as u64 {
        return Ok(());
    }
    nix::fcntl::posix_fallocate(&file, 0, BYTES).map_err(|e| StoreError::io(&lock, "allocate", e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmdb::WriteFlags;

    /// Resident bytes of the file's mapping, from `/proc/self/smaps`.
    fn resident_kb(ino: u64) -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = text.lines().skip_while(|line| shared_map(line, ino).is_none());
        let rss = lines
            .find_map(|line| line.strip_prefix("Rss:"))
            .expect("the file is mapped");
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn forgotten_pages_are_not_resident_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let size = MapSize(1 << 30);
        Env::create(&path, size, |_, _| Ok(())).unwrap();
        let env = Env::open_writer(&path, size).unwrap();
        let value = vec![7u8; 4 << 20];
        env.write(["", ""], |txn, dbs| {
            txn.put(dbs.block, b"k", &value, WriteFlags::empty()).unwrap();
            Ok(())
        })
        .unwrap();
        let comes_back = || {
            env.read(|txn, dbs| Ok(txn.get(dbs.block, b"k").unwrap() == value))
                .unwrap()
        };
        let ino = std::fs::metadata(&path).unwrap().ino();
        assert!(comes_back());
        assert!(resident_kb(ino) >= 4 << 10);
        env.forget_pages().unwrap();
        assert!(resident_kb(ino) < 4 << 10, "{} kB", resident_kb(ino));
        assert!(comes_back());
    }

    #[test]
    fn lines_of_maps() {
        let map = |line: &str| shared_map(line, 42);
        let own = "7f0000000000-7f0000003000 r--s 00000000 08:01 42      /var/lib/vwatchd/vwatchd.db";
        assert_eq!(map(own), Some((0x7f00_0000_0000, 0x3000)));
        assert_eq!(map(&own.replace("r--s", "rw-s")), None);
        assert_eq!(map(&own.replace(" 42 ", " 43 ")), None);
        assert_eq!(map("7f0000000000-7f0000003000 rw-p 00000000 00:00 0"), None);
        assert_eq!(map("Rss:  42 kB"), None);
        assert_eq!(map(""), None);
    }
}
