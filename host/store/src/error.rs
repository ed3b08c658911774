//! What can go wrong with a store. Each variant names the file, and the table, instance or record it is about.

use crate::damage::Damage;
use std::path::{Path, PathBuf};
use vwatch_model::table::SchemaError;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} is not a vwatchd store: {what}", path.display())]
    NotAStore { path: PathBuf, what: String },
    #[error("{} has store format {found}; this program knows formats up to {known}", path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{} is being written by process {pid}", path.display())]
    Held { path: PathBuf, pid: i32 },
    #[error("no space left for {}", path.display())]
    Full { path: PathBuf },
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    /// One part of it; the rest can be read.
    #[error("{} is damaged: {damage}", path.display())]
    DamagedPart { path: PathBuf, damage: Box<Damage> },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("table {table}: {what}")]
    Rows { table: String, what: String },
    #[error("table {table}, instance {instance}: a delta came before any full picture")]
    NoPicture { table: String, instance: String },
    #[error("table {table} has no column {column}")]
    NoColumn { table: String, column: String },
    #[error("table {table} is an event table: it has rows with their own times, and no picture at a time")]
    NotState { table: String },
    #[error("the store has no table with id {0}")]
    NoTable(u32),
    #[error("the store has no instance with id {0}")]
    NoInstance(u32),
    #[error("{what} is {bytes} bytes long; the limit is {limit}")]
    TooLong { what: String, bytes: usize, limit: usize },
    #[error("{what} is not valid: {why}")]
    Name { what: String, why: &'static str },
    #[error("could not {op} {}", path.display())]
    Io {
        path: PathBuf,
        op: &'static str,
        source: std::io::Error,
    },
    #[error("LMDB could not {op} in {}", path.display())]
    Lmdb {
        path: PathBuf,
        op: &'static str,
        source: lmdb::Error,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, op: &'static str, source: std::io::Error) -> Self {
        if matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
            return StoreError::Full { path: path.into() };
        }
        StoreError::Io {
            path: path.into(),
            op,
            source,
        }
    }

    pub(crate) fn lmdb(path: &Path, op: &'static str, source: lmdb::Error) -> Self {
        match source {
            lmdb::Error::MapFull | lmdb::Error::Other(libc::ENOSPC | libc::EDQUOT) => {
                StoreError::Full { path: path.into() }
            }
            // LMDB answers a short write with EIO, which is how a disk that fills up shows at first (mdb_page_flush in mdb.c).
            lmdb::Error::Other(libc::EIO) if disk_is_full(path) => StoreError::Full { path: path.into() },
            lmdb::Error::Corrupted | lmdb::Error::PageNotFound => StoreError::Damaged {
                path: path.into(),
                what: format!("LMDB could not {op}: {source}"),
            },
            lmdb::Error::Other(errno) => StoreError::io(path, op, std::io::Error::from_raw_os_error(errno)),
            _ => StoreError::Lmdb {
                path: path.into(),
                op,
                source,
            },
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        StoreError::Damaged {
            path: path.into(),
            what: what.into(),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Whether next to nothing is left where the store lies.
fn disk_is_full(store: &Path) -> bool {
    const LITTLE: u64 = 64 << 10;
    nix::sys::statvfs::statvfs(store).is_ok_and(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()) <= LITTLE)
}
