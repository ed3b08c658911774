//! The `meta` database: the format, and what is known of the writer's runs.

use crate::bytes;
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use lmdb::{RwTransaction, Transaction, WriteFlags};
use serde::{Deserialize, Serialize};
use std::path::Path;
use vwatch_model::time::Stamp;

pub(crate) const FORMAT_NAME: &[u8; 12] = b"vwatch-store";
/// Version of everything in FORMAT.md.
pub(crate) const FORMAT_VERSION: u32 = 2;
const FORMAT_KEY: &[u8] = b"format";
const RUN_KEY: &[u8] = b"run";

/// The newest run of a writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub boot_id: String,
    pub host: String,
    pub opened: Stamp,
    /// As of the last sealing; a record in the head is newer.
    pub last_commit: Option<Stamp>,
    /// The writer closed the store.
    pub clean: bool,
    /// Number of the next head record, when the head is empty.
    pub next_sequence: u64,
}

pub(crate) fn put_format(txn: &mut RwTransaction<'_>, dbs: &Dbs) -> lmdb::Result<()> {
    let mut body = FORMAT_NAME.to_vec();
    body.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    txn.put(
        dbs.meta,
        &FORMAT_KEY,
        &bytes::checked(FORMAT_KEY, &body),
        WriteFlags::empty(),
    )
}

/// That this is a store, and of the format that this program writes.
pub(crate) fn check_format(path: &Path, txn: &impl Transaction, dbs: &Dbs) -> Result<()> {
    let foreign = || StoreError::NotAStore {
        path: path.into(),
        what: "it is another program's LMDB file".into(),
    };
    let value = match txn.get(dbs.meta, &FORMAT_KEY) {
        Ok(value) => value,
        Err(lmdb::Error::NotFound) => return Err(foreign()),
        Err(e) => return Err(StoreError::lmdb(path, "read its format", e)),
    };
    let body = bytes::check(FORMAT_KEY, value).map_err(|e| StoreError::damaged(path, format!("its format: {e}")))?;
    let version = body
        .strip_prefix(FORMAT_NAME)
        .and_then(|v| v.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or_else(foreign)?;
    match version {
        FORMAT_VERSION => Ok(()),
        found if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
            path: path.into(),
            found,
            known: FORMAT_VERSION,
        }),
        found => Err(StoreError::NotAStore {
            path: path.into(),
            what: format!("its format {found} was never released"),
        }),
    }
}

pub(crate) fn put_run(path: &Path, txn: &mut RwTransaction<'_>, dbs: &Dbs, run: &Run) -> Result<()> {
    let json = serde_json::to_vec(run).map_err(|e| StoreError::damaged(path, e.to_string()))?;
    txn.put(dbs.meta, &RUN_KEY, &bytes::checked(RUN_KEY, &json), WriteFlags::empty())
        .map_err(|e| StoreError::lmdb(path, "write its run", e))
}

pub(crate) fn run(path: &Path, txn: &impl Transaction, dbs: &Dbs) -> Result<Run> {
    let value = txn
        .get(dbs.meta, &RUN_KEY)
        .map_err(|e| StoreError::lmdb(path, "read its run", e))?;
    let flaw = |e: String| StoreError::damaged(path, format!("the record of its run: {e}"));
    let json = bytes::check(RUN_KEY, value).map_err(flaw)?;
    serde_json::from_slice(json).map_err(|e| flaw(e.to_string()))
}
