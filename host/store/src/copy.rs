//! Copies of a store: a stream of one state of it while it is written, and its own file without free pages.
//!
//! LMDB copies from one read transaction (`mdb_env_copyfd2`): all pages as they lie in the file, or only those in use. Cost:
//! the file is read once; on a live store the reader's slot keeps the writer from using freed pages again until the end, so
//! whoever streams a copy bounds it in time.

use crate::contents::Walk;
use crate::env::{Env, resolve};
use crate::error::{Result, StoreError};
use crate::lock::WriterLock;
use crate::pages::{self, PageCounts};
use crate::reader::Reader;
use crate::{failpoint, run, tree};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl Reader {
    /// The pages of the file, counted from its list of free ones.
    pub fn pages(&self) -> Result<PageCounts> {
        let path = self.path();
        let free = self.env().free_pages()?;
        let meta = pages::check_file(path, self.file())?;
        let length = (self.file().metadata())
            .map_err(|e| StoreError::io(path, "stat", e))?
            .len();
        Ok(PageCounts {
            page_bytes: meta.page_bytes,
            total: meta.last_page.saturating_add(1),
            free,
            file_bytes: length,
        })
    }
}

/// Streams one state of the store into `out`.
///
/// # Errors
/// `Io` when `out` does not take it; the copy is worthless then.
pub fn copy_to(reader: &Reader, compact: bool, out: BorrowedFd<'_>) -> Result<()> {
    reader.env().copy(out, compact)
}

/// Sizes before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    pub before_bytes: u64,
    pub after_bytes: u64,
}

/// Rewrites a store that nobody writes without its free pages: into a file beside it, which is checked and then takes its
/// place. Until then the old file is untouched. Mode and owner stay.
///
/// # Errors
/// `Held` while a writer has it; `Damaged` when its pages are not sound; `Full`.
pub fn compact(path: &Path) -> Result<Compacted> {
    let path = resolve(path)?;
    pages::check(&path)?;
    let _lock = WriterLock::take(&path)?;
    tree::check(&path)?;
    let before = std::fs::metadata(&path).map_err(|e| StoreError::io(&path, "stat", e))?;
    let beside = beside(&path);
    remove_if_there(&beside)?;
    let written = write_compacted(&path, &beside, &before);
    let after_bytes = match written {
        Ok(bytes) => bytes,
        Err(e) => {
            let _ = remove_if_there(&beside);
            return Err(e);
        }
    };
    failpoint::hit("compact-before-rename");
    std::fs::rename(&beside, &path).map_err(|e| StoreError::io(&path, "move into place", e))?;
    failpoint::hit("compact-after-rename");
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| StoreError::io(directory, "sync", e))?;
    Ok(Compacted {
        before_bytes: before.len(),
        after_bytes,
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-compact");
    name.into()
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(path, "remove", e)),
        _ => Ok(()),
    }
}

/// The copy, whole and on disk. Answers its length.
fn write_compacted(path: &Path, beside: &Path, original: &std::fs::Metadata) -> Result<u64> {
    let io = |op| move |e| StoreError::io(beside, op, e);
    let out = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)
        .map_err(io("create"))?;
    let env = Env::open_copy(path)?;
    env.read(|txn, dbs| run::check_format(path, txn, dbs))?;
    env.copy(out.as_fd(), true)?;
    pages::renumber_copy(beside, &out, pages::check(path)?.transaction)?;
    let made = out.metadata().map_err(io("stat"))?;
    if (made.uid(), made.gid()) != (original.uid(), original.gid()) {
        let (uid, gid) = (Some(original.uid()), Some(original.gid()));
        std::os::unix::fs::fchown(&out, uid, gid).map_err(io("give its owner to"))?;
    }
    let mode = std::fs::Permissions::from_mode(original.mode() & 0o7777);
    out.set_permissions(mode).map_err(io("give its mode to"))?;
    out.sync_all().map_err(io("sync"))?;
    tree::check(beside)?;
    let copy = Env::open_copy(beside)?;
    let (old, new) = (entries(&env)?, entries(&copy)?);
    if old != new {
        return Err(StoreError::damaged(path, "its copy does not hold what it holds"));
    }
    Ok(made.len())
}

/// How many entries each database has.
fn entries(env: &Env) -> Result<Vec<usize>> {
    env.read(|txn, dbs| {
        let counts = dbs.all().into_iter().map(|db| {
            let count = Walk::new(env.path(), txn, db)?;
            let mut n = 0;
            count.each(|_, _| {
                n += 1;
                Ok(())
            })?;
            Ok(n)
        });
        counts.collect()
    })
}
