//! Blocks out of the store: in one short transaction, what decoding the wanted columns will need, and no more.

use crate::block::{self, Header};
use crate::bytes::Flaw;
use crate::columns::Parts;
use crate::damage::Damage;
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use crate::keys::BlockKey;
use crate::moving::{self, Moving, OnColumn};
use crate::reader::{Reader, block_damage};
use crate::schema::{Projection, Table, Version};
use crate::types::Condition;
use lmdb::Transaction;
use std::path::Path;
use std::sync::Arc;

/// What is wanted of a table's blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub table: &'a Table,
    pub projection: &'a Projection,
    pub conditions: &'a [Condition],
    /// Whose blocks they are, for what is said of damage.
    pub instance: &'a str,
}

/// One block, its columns not decoded yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub header: Header,
    pub parts: Parts,
    pub version: Arc<Version>,
    /// Columns of the version.
    pub wanted: Vec<usize>,
    conditions: Vec<OnColumn>,
}

impl Fetched {
    /// A state block's picture; None when no entity fulfils the conditions.
    pub fn moving(self) -> std::result::Result<Option<Moving>, Flaw> {
        Moving::open(self.header, self.parts, &self.version, self.wanted, &self.conditions)
    }
}

impl Wanted<'_> {
    /// A block that cannot be read; `last_ns` where its header still says it.
    pub fn damaged(&self, path: &Path, key: &BlockKey, last_ns: Option<i64>, flaw: Flaw) -> StoreError {
        let named = Damage {
            table: Some(self.table.schema.name.clone()),
            instance: Some(self.instance.to_owned()),
            ..block_damage(key, last_ns, flaw)
        };
        named.error(path)
    }

    /// None when no row of the block can fulfil the conditions.
    pub(crate) fn fetch(&self, header: Header, block: &[u8]) -> std::result::Result<Option<Fetched>, Flaw> {
        let version = self.table.version(header.version)?.clone();
        let mut conditions = Vec::with_capacity(self.conditions.len());
        for condition in self.conditions {
            // A column that the version does not have is NULL.
            let Ok(column) = version.arrow.index_of(&condition.column) else {
                return Ok(None);
            };
            conditions.push((column, condition.test.clone()));
        }
        let directory = header.directory(block, &version)?;
        if !moving::admits(&directory, &conditions) {
            return Ok(None);
        }
        let wanted = self.projection.stored(&version);
        let parts = header.parts(block, directory, &wanted)?;
        Ok(Some(Fetched {
            header,
            parts,
            version,
            wanted,
            conditions,
        }))
    }
}

impl Reader {
    /// The blocks of the run whose first block has this key, header and value; without those that cannot fulfil the conditions.
    pub(crate) fn fetch_run(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        wanted: Wanted<'_>,
        (key, header, block): (&BlockKey, Header, &[u8]),
    ) -> Result<Vec<Fetched>> {
        let (shards, last_ns) = (header.shards, Some(header.last_ns));
        let damaged = |e: Flaw| wanted.damaged(self.path(), key, last_ns, e);
        let mut out = Vec::new();
        out.extend(wanted.fetch(header, block).map_err(damaged)?);
        for shard in 1..shards {
            let key = BlockKey { shard, ..*key };
            let block = match txn.get(dbs.block, &key.encode()) {
                Ok(block) => block,
                Err(lmdb::Error::NotFound) => return Err(damaged("it is missing".into())),
                Err(e) => return Err(StoreError::lmdb(self.path(), "read a block", e)),
            };
            let header = block::header(&key, block).map_err(damaged)?;
            out.extend(wanted.fetch(header, block).map_err(damaged)?);
        }
        Ok(out)
    }
}
