//! A look at a store that may be damaged, before anyone relies on it.
//!
//! LMDB believes its pages, so a store that is bad in the wrong place ends the process that opens it: this is meant for a
//! child process, and a child that is killed by a signal is an answer too. In order: the meta pages and every branch and leaf
//! page by plain reads (nearly all that could kill); the format; then through LMDB all declarations, the head, and the
//! newest block of every table and instance. Cost: all leaf pages, which is little next to the blocks themselves.

use crate::block;
use crate::contents::{self, Walk};
use crate::env::{Env, resolve};
use crate::error::{Result, StoreError};
use crate::keys::BlockKey;
use crate::{run, tree};
use std::path::Path;

/// # Errors
/// `NotAStore`, `NewerFormat`, `Damaged`, `Io`.
pub fn inspect(path: &Path) -> Result<()> {
    let path = resolve(path)?;
    tree::check(&path)?;
    let env = Env::open_copy(&path)?;
    env.read(|txn, dbs| {
        run::check_format(&path, txn, dbs)?;
        run::run(&path, txn, dbs)?;
        let tables = contents::tables(&path, txn, dbs)?;
        let instances = contents::instances(&path, txn, dbs)?;
        let declared = |table, instance| {
            if tables.contains_key(&table) && instances.contains_key(&instance) {
                return Ok(());
            }
            let what = format!("table {} of instance {} is not declared", table.0, instance.0);
            Err(StoreError::damaged(&path, what))
        };
        contents::each_head_record(&path, txn, dbs, |sequence, directory, record| {
            for entry in &directory.entries {
                declared(entry.table, entry.instance)?;
                entry
                    .payload(record)
                    .map_err(|e| contents::head_flaw(&path, sequence, &e))?;
            }
            Ok(())
        })?;
        let blocks = Walk::new(&path, txn, dbs.block)?;
        for (table, instance) in contents::all_series(&path, txn, dbs)?.into_keys() {
            declared(table, instance)?;
            let last = BlockKey {
                table,
                instance,
                shard: u16::MAX,
                start_ns: i64::MAX,
                sequence: u32::MAX,
            };
            let Some((key, value)) = blocks.at_or_before(&last.encode())? else {
                continue;
            };
            let key = contents::block_key(&path, key)?;
            if (key.table, key.instance) != (table, instance) {
                continue;
            }
            let flaw = |e: String| StoreError::damaged(&path, format!("{key}: {e}"));
            let header = block::header(&key, value).map_err(flaw)?;
            let version = tables[&table].version(header.version).map_err(flaw)?;
            block::content(&key, value, version, None).map_err(flaw)?;
        }
        Ok(())
    })
}
