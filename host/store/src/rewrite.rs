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

/// A block as it is found: what its header says, not its rows.
#[derive(Debug)]
pub(crate) struct Part {
    pub key: BlockKey,
    /// None when it is damaged.
    pub header: Option<Header>,
    pub figures: Figures,
}

/// A block with its rows as stored.
pub(crate) struct Stored {
    pub header: Header,
    pub payload: Vec<u8>,
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
        self.delete.push(part.key.encode());
    }
}

/// Reads a block's key and header.
pub(crate) fn part(key: BlockKey, value: &[u8]) -> Part {
    match block::header(&key, value) {
        Ok(header) => Part {
            figures: Figures::of(&header, value.len()),
            key,
            header: Some(header),
        },
        Err(_) => Part {
            figures: Figures {
                first_ns: key.start_ns,
                last_ns: key.start_ns,
                bytes: value.len() as u64,
                samples: 0,
                rows: 0,
                raw_bytes: 0,
            },
            key,
            header: None,
        },
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
        if !more(part(contents::block_key(&writer.path, key)?, value))? {
            break;
        }
        entry = walk.next()?;
    }
    Ok(())
}

/// A block's bytes; None when it is not there or damaged, which is said in the log.
pub(crate) fn read(writer: &Writer, txn: &impl Transaction, dbs: &Dbs, key: &BlockKey) -> Result<Option<Stored>> {
    let value = match txn.get(dbs.block, &key.encode()) {
        Ok(value) => value,
        Err(lmdb::Error::NotFound) => return Ok(None),
        Err(e) => return Err(StoreError::lmdb(&writer.path, "read a block", e)),
    };
    let read = block::header(key, value).and_then(|header| {
        let payload = header.payload(value)?.to_vec();
        Ok(Stored { header, payload })
    });
    Ok(match read {
        Ok(stored) => Some(stored),
        Err(e) => {
            tracing::error!("{key} is damaged and left as it is: {e}");
            None
        }
    })
}

/// All of a block.
pub(crate) fn decode(table: &Table, stored: Stored) -> std::result::Result<Content, Flaw> {
    let version = table.version(stored.header.version)?;
    block::content(stored.header, &stored.payload, version, None)
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
        let value = content
            .encode(&key, &mut self.encoder)
            .map_err(|what| StoreError::Rows {
                table: self.tables[&key.table].schema.name.clone(),
                what,
            })?;
        let header = block::header(&key, &value).map_err(|e| StoreError::damaged(&self.path, e))?;
        batch
            .series(series_key, self)
            .put_block(&Figures::of(&header, value.len()));
        batch.put.push((key.encode(), value));
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
