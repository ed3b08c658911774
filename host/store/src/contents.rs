//! Walks over the small databases and the head, the same for writer and readers. Each runs in the caller's transaction.

use crate::bytes;
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use crate::head::{self, Directory};
use crate::keys::{self, BLOCK_KEY_BYTES, BlockKey};
use crate::schema::{self, Table, Version};
use crate::series::Series;
use crate::types::{InstanceId, InstanceInfo, TableId};
use lmdb::{Cursor, Database, Transaction};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const MDB_FIRST: u32 = 0;
const MDB_LAST: u32 = 6;
const MDB_NEXT: u32 = 8;
const MDB_PREV: u32 = 12;
const MDB_SET_RANGE: u32 = 17;

pub(crate) type Pair<'txn> = (&'txn [u8], &'txn [u8]);

/// A cursor over one database whose steps answer None at the ends.
pub(crate) struct Walk<'txn> {
    path: &'txn Path,
    cursor: lmdb::RoCursor<'txn>,
}

impl<'txn> Walk<'txn> {
    pub fn new(path: &'txn Path, txn: &'txn impl Transaction, db: Database) -> Result<Walk<'txn>> {
        let cursor = txn
            .open_ro_cursor(db)
            .map_err(|e| StoreError::lmdb(path, "open a cursor", e))?;
        Ok(Walk { path, cursor })
    }

    fn step(&self, key: Option<&[u8]>, op: u32) -> Result<Option<Pair<'txn>>> {
        match self.cursor.get(key, None, op) {
            Ok((Some(key), value)) => Ok(Some((key, value))),
            Ok((None, _)) | Err(lmdb::Error::NotFound) => Ok(None),
            Err(e) => Err(StoreError::lmdb(self.path, "move a cursor", e)),
        }
    }

    pub fn first(&self) -> Result<Option<Pair<'txn>>> {
        self.step(None, MDB_FIRST)
    }

    pub fn last(&self) -> Result<Option<Pair<'txn>>> {
        self.step(None, MDB_LAST)
    }

    pub fn next(&self) -> Result<Option<Pair<'txn>>> {
        self.step(None, MDB_NEXT)
    }

    pub fn previous(&self) -> Result<Option<Pair<'txn>>> {
        self.step(None, MDB_PREV)
    }

    /// The first entry at or after `key`.
    pub fn at_or_after(&self, key: &[u8]) -> Result<Option<Pair<'txn>>> {
        self.step(Some(key), MDB_SET_RANGE)
    }

    /// The last entry at or before `key`: one seek.
    pub fn at_or_before(&self, key: &[u8]) -> Result<Option<Pair<'txn>>> {
        match self.at_or_after(key)? {
            None => self.last(),
            Some((found, value)) if found == key => Ok(Some((found, value))),
            Some(_) => self.previous(),
        }
    }

    /// Every entry, from the first.
    pub fn each(&self, mut f: impl FnMut(&'txn [u8], &'txn [u8]) -> Result<()>) -> Result<()> {
        let mut entry = self.first()?;
        while let Some((key, value)) = entry {
            f(key, value)?;
            entry = self.next()?;
        }
        Ok(())
    }
}

pub(crate) fn tables(path: &Path, txn: &impl Transaction, dbs: &Dbs) -> Result<BTreeMap<TableId, Arc<Table>>> {
    let mut versions = Vec::new();
    Walk::new(path, txn, dbs.schema)?.each(|key, value| {
        versions.push(schema::decode(key, value).map_err(|e| StoreError::damaged(path, e))?);
        Ok(())
    })?;
    schema::tables(path, versions)
}

/// Number of a table's newest version; None when there is no such table.
pub(crate) fn newest_version(path: &Path, txn: &impl Transaction, dbs: &Dbs, id: TableId) -> Result<Option<u32>> {
    let found = Walk::new(path, txn, dbs.schema)?.at_or_before(&keys::pair(id.0, u32::MAX))?;
    let Some((key, _)) = found else { return Ok(None) };
    let (table, version) = keys::split_pair(key).map_err(|e| StoreError::damaged(path, e))?;
    Ok((table == id.0).then_some(version))
}

/// One table with all its versions.
pub(crate) fn table(path: &Path, txn: &impl Transaction, dbs: &Dbs, id: TableId) -> Result<Option<Arc<Table>>> {
    let mut versions: Vec<(TableId, Version)> = Vec::new();
    let walk = Walk::new(path, txn, dbs.schema)?;
    let mut entry = walk.at_or_after(&keys::pair(id.0, 0))?;
    while let Some((key, value)) = entry {
        let (table, _) = keys::split_pair(key).map_err(|e| StoreError::damaged(path, e))?;
        if table != id.0 {
            break;
        }
        versions.push(schema::decode(key, value).map_err(|e| StoreError::damaged(path, e))?);
        entry = walk.next()?;
    }
    Ok(schema::tables(path, versions)?.remove(&id))
}

pub(crate) fn decode_instance(path: &Path, key: &[u8], value: &[u8]) -> Result<(InstanceId, InstanceInfo)> {
    let flaw = |e: String| StoreError::damaged(path, format!("an instance: {e}"));
    let id = keys::single(key).map_err(flaw)?;
    let json = bytes::check(key, value).map_err(flaw)?;
    let info = serde_json::from_slice(json).map_err(|e| flaw(e.to_string()))?;
    Ok((InstanceId(id), info))
}

pub(crate) fn instances(path: &Path, txn: &impl Transaction, dbs: &Dbs) -> Result<BTreeMap<InstanceId, InstanceInfo>> {
    let mut out = BTreeMap::new();
    Walk::new(path, txn, dbs.instance)?.each(|key, value| {
        let (id, info) = decode_instance(path, key, value)?;
        out.insert(id, info);
        Ok(())
    })?;
    Ok(out)
}

pub(crate) type SeriesMap = BTreeMap<(TableId, InstanceId), Series>;

pub(crate) fn all_series(path: &Path, txn: &impl Transaction, dbs: &Dbs) -> Result<SeriesMap> {
    let mut out = BTreeMap::new();
    Walk::new(path, txn, dbs.series)?.each(|key, value| {
        let flaw = |e: String| StoreError::damaged(path, format!("the span of a table's instance: {e}"));
        let (table, instance) = keys::split_pair(key).map_err(flaw)?;
        let series = Series::decode(key, value).map_err(flaw)?;
        out.insert((TableId(table), InstanceId(instance)), series);
        Ok(())
    })?;
    Ok(out)
}

/// The series of one table and instance; None when they never met.
pub(crate) fn series(
    path: &Path,
    txn: &impl Transaction,
    dbs: &Dbs,
    (table, instance): (TableId, InstanceId),
) -> Result<Option<Series>> {
    let key = Series::key(table, instance);
    match txn.get(dbs.series, &key) {
        Ok(value) => {
            let flaw = |e: String| StoreError::damaged(path, format!("the span of a table's instance: {e}"));
            Ok(Some(Series::decode(&key, value).map_err(flaw)?))
        }
        Err(lmdb::Error::NotFound) => Ok(None),
        Err(e) => Err(StoreError::lmdb(path, "read a series", e)),
    }
}

/// Every head record in order: number, directory, bytes.
pub(crate) fn each_head_record<'txn>(
    path: &'txn Path,
    txn: &'txn impl Transaction,
    dbs: &Dbs,
    mut f: impl FnMut(u64, Directory, &'txn [u8]) -> Result<()>,
) -> Result<()> {
    each_head_record_or_flaw(path, txn, dbs, |sequence, directory, record| {
        f(sequence, directory.map_err(|e| head_flaw(path, sequence, &e))?, record)
    })
}

/// The same for readers, which go on after a record whose directory is damaged.
pub(crate) fn each_head_record_or_flaw<'txn>(
    path: &'txn Path,
    txn: &'txn impl Transaction,
    dbs: &Dbs,
    mut f: impl FnMut(u64, std::result::Result<Directory, bytes::Flaw>, &'txn [u8]) -> Result<()>,
) -> Result<()> {
    Walk::new(path, txn, dbs.head)?.each(|key, record| {
        match keys::sequence(key) {
            Ok(sequence) => f(sequence, head::directory(key, record), record),
            // Nobody knows where it belongs: after everything, where it may hide the most.
            Err(flaw) => f(u64::MAX, Err(flaw), record),
        }
    })
}

pub(crate) fn head_flaw(path: &Path, sequence: u64, flaw: &str) -> StoreError {
    StoreError::damaged(path, format!("head record {sequence}: {flaw}"))
}

/// The block key that an entry of the block database has.
pub(crate) fn block_key(path: &Path, key: &[u8]) -> Result<BlockKey> {
    BlockKey::decode(key).map_err(|e| StoreError::damaged(path, e))
}

/// Whether two block keys are of the same table, instance and shard.
pub(crate) fn same_series(a: &[u8], b: &[u8; BLOCK_KEY_BYTES]) -> bool {
    a.len() == BLOCK_KEY_BYTES && a[..10] == b[..10]
}
