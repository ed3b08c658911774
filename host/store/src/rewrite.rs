//! Blocks replaced by others, or by nothing: what merging, thinning and expiry have in common.
//!
//! **Invariants:** one transaction deletes the old blocks, puts the new ones and brings `series` up to date. A block is never
//! changed under its key: a new one has a number of its own, so that a reader which holds a list of keys finds either the block
//! that it listed or none.

use crate::block::{self, Content, Header};
use crate::bytes::Flaw;
use crate::contents::{self, Walk};
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use crate::keys::{BLOCK_KEY_BYTES, BlockKey};
use crate::retention::{Maintained, SeriesKey, Work};
use crate::schema::Table;
use crate::series::{Figures, Series};
use crate::writer::Writer;
use lmdb::{Transaction, WriteFlags};
use std::collections::BTreeMap;

/// The blocks of a run as they are found: what the header of the first says, not their rows.
#[derive(Debug)]
pub(crate) struct Part {
    pub key: BlockKey,
    /// None when one of them is damaged.
    pub header: Option<Header>,
    pub shards: u16,
    pub figures: Figures,
}

/// The blocks of a run as stored.
pub(crate) struct Stored {
    pub header: Header,
    blocks: Vec<(BlockKey, Vec<u8>)>,
}

/// Changes to blocks, to be made in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    delete: Vec<[u8; BLOCK_KEY_BYTES]>,
    put: Vec<([u8; BLOCK_KEY_BYTES], Vec<u8>)>,
    series: BTreeMap<SeriesKey, Series>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty()
    }

    pub fn blocks(&self) -> usize {
        self.delete.len()
    }

    /// The series as it is after what is in the batch.
    fn series(&mut self, key: SeriesKey, writer: &Writer) -> &mut Series {
        let stored = || writer.streams.get(&key).map(|s| s.series).unwrap_or_default();
        self.series.entry(key).or_insert_with(stored)
    }

    pub fn delete(&mut self, writer: &Writer, part: &Part) {
        let series = self.series((part.key.table, part.key.instance), writer);
        series.remove_block(&part.figures);
        let shards = 0..part.shards;
        (self.delete).extend(shards.map(|shard| BlockKey { shard, ..part.key }.encode()));
    }
}

/// Looks at the blocks of a run, the first of which is given.
pub(crate) fn part(txn: &impl Transaction, dbs: &Dbs, key: BlockKey, first: &[u8]) -> Part {
    let mut shards = 1;
    let mut header = block::header(&key, first).ok();
    let mut figures = Figures {
        first_ns: key.start_ns,
        last_ns: key.start_ns,
        bytes: first.len() as u64,
        samples: 0,
        rows: 0,
        raw_bytes: 0,
    };
    if let Some(header) = &header {
        figures = Figures::of_block(header, first.len());
    }
    // Of a damaged one it is not known how many there are.
    while header.as_ref().is_none_or(|h| shards < h.shards) {
        let key = BlockKey { shard: shards, ..key };
        let Ok(value) = txn.get(dbs.block, &key.encode()) else {
            break;
        };
        shards += 1;
        match block::header(&key, value) {
            Ok(shard) => figures.add_shard(&Figures::of_block(&shard, value.len())),
            Err(_) => {
                figures.bytes += value.len() as u64;
                header = None;
            }
        }
    }
    Part {
        key,
        header: header.filter(|h| h.shards == shards),
        shards,
        figures,
    }
}

/// Blocks of a series that begin at `from_ns` or later, until `more` has enough.
pub(crate) fn each_part(
    writer: &Writer,
    txn: &impl Transaction,
    dbs: &Dbs,
    (table, instance): SeriesKey,
    from_ns: i64,
    mut more: impl FnMut(Part) -> Result<bool>,
) -> Result<()> {
    let first = BlockKey {
        table,
        instance,
        shard: 0,
        start_ns: from_ns,
        sequence: 0,
    }
    .encode();
    let walk = Walk::new(&writer.path, txn, dbs.block)?;
    let mut entry = walk.at_or_after(&first)?;
    while let Some((key, value)) = entry
        && contents::same_series(key, &first)
    {
        if !more(part(txn, dbs, contents::block_key(&writer.path, key)?, value))? {
            break;
        }
        entry = walk.next()?;
    }
    Ok(())
}

/// The blocks of a run; None when they are not there or damaged, which is said in the log.
pub(crate) fn read(writer: &Writer, txn: &impl Transaction, dbs: &Dbs, key: &BlockKey) -> Result<Option<Stored>> {
    let get = |key: &BlockKey| match txn.get(dbs.block, &key.encode()) {
        Ok(value) => Ok(Some(value)),
        Err(lmdb::Error::NotFound) => Ok(None),
        Err(e) => Err(StoreError::lmdb(&writer.path, "read a block", e)),
    };
    let Some(value) = get(key)? else { return Ok(None) };
    let header = match block::header(key, value) {
        Ok(header) => header,
        Err(e) => {
            tracing::error!("{key} is damaged and left as it is: {e}");
            return Ok(None);
        }
    };
    let mut blocks = vec![(*key, value.to_vec())];
    for shard in 1..header.shards {
        let key = BlockKey { shard, ..*key };
        let Some(value) = get(&key)? else {
            tracing::error!("{key} is missing; what belongs to it is left as it is");
            return Ok(None);
        };
        blocks.push((key, value.to_vec()));
    }
    Ok(Some(Stored { header, blocks }))
}

/// All of a run.
pub(crate) fn decode(table: &Table, stored: Stored) -> std::result::Result<Content, Flaw> {
    let version = table.version(stored.header.version)?;
    let decode = |(key, value): &(BlockKey, Vec<u8>)| block::content(key, value, version, None);
    block::join(
        stored
            .blocks
            .iter()
            .map(decode)
            .collect::<std::result::Result<_, _>>()?,
    )
}

impl Writer {
    /// Puts into the batch that `content` takes the place of `parts`; without content they are only deleted.
    pub(crate) fn replace(&mut self, batch: &mut Batch, parts: &[Part], content: Option<&Content>) -> Result<()> {
        for part in parts {
            batch.delete(self, part);
        }
        let (Some(first), Some(content)) = (parts.first(), content) else {
            return Ok(());
        };
        let series_key = (first.key.table, first.key.instance);
        let key = BlockKey {
            start_ns: content.first_ns,
            sequence: batch.series(series_key, self).next_block,
            ..first.key
        };
        let blocks = content.encode(key, &mut self.packer).map_err(|what| StoreError::Rows {
            table: self.tables[&key.table].schema.name.clone(),
            what,
        })?;
        let figures = Figures::of(&blocks).map_err(|e| StoreError::damaged(&self.path, e))?;
        batch.series(series_key, self).put_block(&figures);
        (batch.put).extend(blocks.into_iter().map(|(key, value)| (key.encode(), value)));
        Ok(())
    }

    /// Makes the changes of a batch in one transaction.
    pub(crate) fn apply(&mut self, work: Work, mut batch: Batch) -> Result<Maintained> {
        if batch.is_empty() {
            return Ok(Maintained::default());
        }
        let path = &self.path;
        let lmdb = |op: &'static str| move |e| StoreError::lmdb(path, op, e);
        let series = std::mem::take(&mut batch.series);
        let series = self.env.write(work.points(), |txn, dbs| {
            for key in &batch.delete {
                txn.del(dbs.block, key, None).map_err(lmdb("delete a block"))?;
            }
            for (key, value) in &batch.put {
                txn.put(dbs.block, key, value, WriteFlags::NO_OVERWRITE)
                    .map_err(lmdb("write a block"))?;
            }
            let mut put = Vec::with_capacity(series.len());
            for ((table, instance), mut series) in series {
                let first = first_block(path, txn, dbs, (table, instance))?;
                series.begin_at(first.map(|key| key.start_ns));
                let key = Series::key(table, instance);
                txn.put(dbs.series, &key, &series.encode(&key), WriteFlags::empty())
                    .map_err(lmdb("write a series"))?;
                put.push(((table, instance), series));
            }
            Ok(put)
        })?;
        for (key, series) in series {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.series = series;
                stream.narrow();
            }
        }
        Ok(Maintained {
            work: Some(work),
            blocks: batch.delete.len() as u64,
            written: batch.put.len() as u64,
        })
    }
}

/// The first block of a series.
pub(crate) fn first_block(
    path: &std::path::Path,
    txn: &impl Transaction,
    dbs: &Dbs,
    (table, instance): SeriesKey,
) -> Result<Option<BlockKey>> {
    let first = BlockKey {
        table,
        instance,
        shard: 0,
        start_ns: i64::MIN,
        sequence: 0,
    }
    .encode();
    let found = Walk::new(path, txn, dbs.block)?.at_or_after(&first)?;
    match found.filter(|(key, _)| contents::same_series(key, &first)) {
        Some((key, _)) => contents::block_key(path, key).map(Some),
        None => Ok(None),
    }
}
