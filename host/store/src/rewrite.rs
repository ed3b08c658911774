//! Blocks replaced by others, or by nothing: what merging, thinning and expiry have in common.
//!
//! **Invariants:** one transaction deletes the old blocks, puts the new ones and brings `series` up to date. A block is never
//! changed under its key: a new one has a number of its own, so that a reader which holds a list of keys finds either the block
//! that it listed or none.

use crate::block::{self, Header};
use crate::bytes::Flaw;
use crate::contents::{self, Walk};
use crate::draft::Draft;
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use crate::keys::{BLOCK_KEY_BYTES, BlockKey};
use crate::retention::{Maintained, SeriesKey, Work};
use crate::series::{Figures, Series};
use crate::writer::Writer;
use lmdb::{Transaction, WriteFlags};
use std::collections::BTreeMap;

/// A run's blocks as they are found: what their headers say, not their rows.
#[derive(Debug)]
pub(crate) struct Part {
    /// Of the first shard.
    pub key: BlockKey,
    /// The first shard's; None when one of them is damaged.
    pub header: Option<Header>,
    pub figures: Figures,
    pub shards: u16,
    /// Rows and entities of all shards.
    pub rows: u64,
    pub slots: u64,
}

/// A run's blocks with their rows as stored.
pub(crate) struct Stored {
    pub version: u32,
    pub blocks: Vec<(BlockKey, Vec<u8>)>,
}

/// Changes to blocks, to be made in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    delete: Vec<[u8; BLOCK_KEY_BYTES]>,
    put: Vec<(BlockKey, Vec<u8>)>,
    /// Runs that are deleted.
    runs: usize,
    series: BTreeMap<SeriesKey, Series>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty()
    }

    pub fn runs(&self) -> usize {
        self.runs
    }

    /// The series as it is after what is in the batch.
    fn series(&mut self, key: SeriesKey, writer: &Writer) -> &mut Series {
        let stored = || writer.streams.get(&key).map(|s| s.series).unwrap_or_default();
        self.series.entry(key).or_insert_with(stored)
    }

    pub fn delete(&mut self, writer: &Writer, part: &Part) {
        let series = self.series((part.key.table, part.key.instance), writer);
        series.remove_block(&part.figures);
        let shards = (0..part.shards).map(|shard| BlockKey { shard, ..part.key }.encode());
        self.delete.extend(shards);
        self.runs += 1;
    }
}

/// Reads the headers of the blocks of a run whose first has this key and value.
fn part(writer: &Writer, txn: &impl Transaction, dbs: &Dbs, key: BlockKey, value: &[u8]) -> Result<Part> {
    let mut part = Part {
        key,
        header: None,
        figures: Figures::default(),
        shards: 0,
        rows: 0,
        slots: 0,
    };
    let mut sound = true;
    let mut shard = Some(value);
    while let Some(value) = shard {
        let key = BlockKey {
            shard: part.shards,
            ..key
        };
        match block::header(&key, value) {
            Ok(header) => {
                part.figures.add(&header, value.len());
                part.rows += u64::from(header.rows);
                part.slots += u64::from(header.slots);
                part.header.get_or_insert(header);
            }
            Err(_) => {
                part.figures.bytes += value.len() as u64;
                sound = false;
            }
        }
        part.shards += 1;
        let more = part.header.as_ref().is_none_or(|h| part.shards < h.shards);
        let key = BlockKey {
            shard: part.shards,
            ..key
        };
        shard = match more.then(|| txn.get(dbs.block, &key.encode())) {
            None | Some(Err(lmdb::Error::NotFound)) => None,
            Some(Ok(value)) => Some(value),
            Some(Err(e)) => return Err(StoreError::lmdb(&writer.path, "read a block", e)),
        };
    }
    if part.header.as_ref().is_none_or(|h| !sound || h.shards != part.shards) {
        part.header = None;
        part.figures.first_ns = key.start_ns;
        part.figures.last_ns = part.figures.last_ns.max(key.start_ns);
    }
    Ok(part)
}

/// Runs of a series that begin at `from_ns` or later, until `more` has enough.
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
        let key = contents::block_key(&writer.path, key)?;
        if !more(part(writer, txn, dbs, key, value)?)? {
            break;
        }
        entry = walk.next()?;
    }
    Ok(())
}

/// The bytes of a run's blocks.
pub(crate) fn read(writer: &Writer, txn: &impl Transaction, dbs: &Dbs, part: &Part) -> Result<Option<Stored>> {
    let Some(header) = &part.header else { return Ok(None) };
    let block = |shard| {
        let key = BlockKey { shard, ..part.key };
        match txn.get(dbs.block, &key.encode()) {
            Ok(value) => Ok((key, value.to_vec())),
            Err(e) => Err(StoreError::lmdb(&writer.path, "read a block", e)),
        }
    };
    Ok(Some(Stored {
        version: header.version,
        blocks: (0..part.shards).map(block).collect::<Result<_>>()?,
    }))
}

impl Writer {
    /// Puts into the batch that `draft` takes the place of `parts`; without one they are only deleted. After a flaw the batch is
    /// as it was.
    pub(crate) fn replace(
        &mut self,
        batch: &mut Batch,
        parts: &[Part],
        draft: Option<&Draft>,
    ) -> std::result::Result<(), Flaw> {
        let mut made = None;
        if let (Some(first), Some(draft)) = (parts.first(), draft) {
            let series_key = (first.key.table, first.key.instance);
            let key = BlockKey {
                start_ns: draft.first_ns(),
                sequence: batch.series(series_key, self).next_block,
                ..first.key
            };
            let blocks = draft.encode(key, &mut self.packer)?;
            made = Some((series_key, Figures::of(&blocks)?, blocks));
        }
        for part in parts {
            batch.delete(self, part);
        }
        if let Some((series_key, figures, blocks)) = made {
            batch.series(series_key, self).put_block(&figures);
            batch.put.extend(blocks);
        }
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
                txn.put(dbs.block, &key.encode(), value, WriteFlags::NO_OVERWRITE)
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
            blocks: batch.runs as u64,
            written: batch.put.iter().filter(|(key, _)| key.shard == 0).count() as u64,
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
