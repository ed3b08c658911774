//! What plugins and the host itself keep in the store beside rows: state, outbox entries, records. All of it is committed in
//! one transaction with the rows, so what a plugin remembers never runs ahead of what is stored, nor behind.

use crate::bytes;
use crate::contents::Walk;
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use crate::keys;
use crate::writer::Writer;
use lmdb::{Database, RwTransaction, Transaction, WriteFlags};
use std::collections::BTreeMap;
use std::path::Path;

/// Most bytes of one value.
const VALUE_LIMIT: usize = 64 << 20;

/// Changes of one database that the next commit takes: None removes.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Everything queued.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    state: Changes,
    outbox: Changes,
    record: Changes,
}

impl Durable {
    pub fn is_empty(&self) -> bool {
        self.state.is_empty() && self.outbox.is_empty() && self.record.is_empty()
    }

    pub fn put(&self, path: &Path, txn: &mut RwTransaction<'_>, dbs: &Dbs) -> Result<()> {
        for (db, changes) in [
            (dbs.state, &self.state),
            (dbs.outbox, &self.outbox),
            (dbs.record, &self.record),
        ] {
            for (key, value) in changes {
                let done = match value {
                    Some(value) => txn.put(db, key, &bytes::checked(key, value), WriteFlags::empty()),
                    None => match txn.del(db, key, None) {
                        Err(lmdb::Error::NotFound) => Ok(()),
                        done => done,
                    },
                };
                done.map_err(|e| StoreError::lmdb(path, "write a durable value", e))?;
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Queues a plugin's value; None removes it.
    pub fn put_state(&mut self, owner: &str, key: &str, value: Option<&[u8]>) -> Result<()> {
        let full = keys::owned(owner, key)?;
        limit(|| format!("the value of {owner}'s key {key}"), value)?;
        self.durable.state.insert(full, value.map(<[u8]>::to_vec));
        Ok(())
    }

    /// A plugin's value, as the next commit will leave it.
    pub fn state(&self, owner: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let full = keys::owned(owner, key)?;
        if let Some(queued) = self.durable.state.get(&full) {
            return Ok(queued.clone());
        }
        self.env.read(|txn, dbs| match txn.get(dbs.state, &full) {
            Ok(value) => Ok(Some(self.value(&full, value)?.to_vec())),
            Err(lmdb::Error::NotFound) => Ok(None),
            Err(e) => Err(StoreError::lmdb(&self.path, "read a state", e)),
        })
    }

    /// A plugin's keys that begin with `prefix`, sorted.
    pub fn state_keys(&self, owner: &str, prefix: &str) -> Result<Vec<String>> {
        let found = self.owned(owner, prefix, |dbs| dbs.state, &self.durable.state, usize::MAX)?;
        Ok(found.into_iter().map(|(key, _)| key).collect())
    }

    /// Queues an entry for the outside; the same id replaces.
    pub fn put_outbox(&mut self, owner: &str, id: &str, body: &[u8]) -> Result<()> {
        let full = keys::owned(owner, id)?;
        limit(|| format!("{owner}'s outbox entry {id}"), Some(body))?;
        self.durable.outbox.insert(full, Some(body.to_vec()));
        Ok(())
    }

    /// Queues the removal of an entry that has been delivered.
    pub fn outbox_done(&mut self, owner: &str, id: &str) -> Result<()> {
        self.durable.outbox.insert(keys::owned(owner, id)?, None);
        Ok(())
    }

    /// The first `limit` entries of an owner by id, as the next commit will leave them.
    pub fn outbox(&self, owner: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>> {
        self.owned(owner, "", |dbs| dbs.outbox, &self.durable.outbox, limit)
    }

    /// Queues a document of the host's own; None removes it.
    pub fn put_record(&mut self, name: &str, json: Option<&str>) -> Result<()> {
        let key = keys::named(name)?;
        limit(|| format!("the record {name}"), json.map(str::as_bytes))?;
        self.durable.record.insert(key, json.map(|j| j.as_bytes().to_vec()));
        Ok(())
    }

    /// All documents by name, as the next commit will leave them.
    pub fn records(&self) -> Result<Vec<(String, String)>> {
        let found = self.entries(&[], |dbs| dbs.record, &self.durable.record, usize::MAX)?;
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| StoreError::damaged(&self.path, "a record that is not text"))
        };
        found
            .into_iter()
            .map(|(name, body)| Ok((text(name)?, text(body)?)))
            .collect()
    }

    fn owned(
        &self,
        owner: &str,
        prefix: &str,
        db: impl Fn(&Dbs) -> Database,
        queued: &Changes,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let owner_key = keys::owned(owner, "")?;
        let found = self.entries(&keys::owned(owner, prefix)?, db, queued, limit)?;
        let name = |key: &[u8]| {
            keys::owned_name(&owner_key, key)
                .map(str::to_owned)
                .ok_or_else(|| StoreError::damaged(&self.path, format!("a key of {owner} that is not text")))
        };
        found.into_iter().map(|(key, value)| Ok((name(&key)?, value))).collect()
    }

    /// Entries whose key begins with `prefix`, with what is queued laid over them.
    fn entries(
        &self,
        prefix: &[u8],
        db: impl Fn(&Dbs) -> Database,
        queued: &Changes,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        // What is queued can hide so many stored entries at most.
        let wanted = limit.saturating_add(queued.len());
        let mut merged: Changes = BTreeMap::new();
        self.env.read(|txn, dbs| {
            let walk = Walk::new(&self.path, txn, db(dbs))?;
            let mut entry = if prefix.is_empty() {
                walk.first()?
            } else {
                walk.at_or_after(prefix)?
            };
            while let Some((key, value)) = entry
                && key.starts_with(prefix)
                && merged.len() < wanted
            {
                merged.insert(key.to_vec(), Some(self.value(key, value)?.to_vec()));
                entry = walk.next()?;
            }
            Ok(())
        })?;
        let of_prefix = queued.iter().filter(|(key, _)| key.starts_with(prefix));
        merged.extend(of_prefix.map(|(key, value)| (key.clone(), value.clone())));
        let kept = merged.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Ok(kept.take(limit).collect())
    }

    fn value<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<&'a [u8]> {
        let named = || format!("the durable value {}", key.escape_ascii());
        bytes::check(key, value).map_err(|e| StoreError::damaged(&self.path, format!("{}: {e}", named())))
    }
}

fn limit(what: impl Fn() -> String, value: Option<&[u8]>) -> Result<()> {
    match value {
        Some(value) if value.len() > VALUE_LIMIT => Err(StoreError::TooLong {
            what: what(),
            bytes: value.len(),
            limit: VALUE_LIMIT,
        }),
        _ => Ok(()),
    }
}
