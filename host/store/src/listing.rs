//! What a scan has to read: the runs of a table and instance that may have rows in a span, in blocks and head.
//!
//! By keys and the head's directories alone: no block is touched. Cost: a step of a cursor a block.
//!
//! LMDB has no checksums: a key that a disk has changed leads searches astray, and blocks are not found any more. So what is
//! listed is held against what the series says of itself, and blocks that are lost are told of as damage.

use crate::contents::{self, Walk};
use crate::damage::{Damage, Part};
use crate::env::Dbs;
use crate::error::Result;
use crate::head_read::{self, HeadSample};
use crate::keys::BlockKey;
use crate::reader::Reader;
use crate::types::{InstanceId, TableId};
use lmdb::Transaction;
use std::collections::{BTreeMap, VecDeque};

/// A run to read: one that lies in blocks, or one of the head.
#[derive(Debug)]
pub(crate) struct Unit {
    pub start_ns: i64,
    pub order: u64,
    pub source: Source,
}

#[derive(Debug)]
pub(crate) enum Source {
    Block(BlockKey),
    Head(Vec<HeadSample>),
}

/// What a scan of one table and instance has to read.
#[derive(Debug)]
pub(crate) struct Listed {
    pub units: VecDeque<Unit>,
    /// How many of them are blocks.
    pub blocks: u64,
    /// Blocks of the span that are not found.
    pub lost: Option<Damage>,
}

impl Reader {
    /// All that may have rows in the span.
    pub(crate) fn units(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        series: (TableId, InstanceId),
        span: (i64, i64),
        damaged: &mut BTreeMap<u64, Damage>,
    ) -> Result<Listed> {
        let (mut units, lost) = self.block_units(txn, dbs, series, span)?;
        let blocks = units.len() as u64;
        units.extend(head_units(
            head_read::runs(self.path(), txn, dbs, series, damaged)?,
            span,
        ));
        units.sort_by_key(|u| (u.start_ns, u.order));
        Ok(Listed {
            units: units.into(),
            blocks,
            lost,
        })
    }

    /// Blocks that may have rows in the span, by their keys alone; and whether others are lost.
    fn block_units(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        (table, instance): (TableId, InstanceId),
        (from_ns, to_ns): (i64, i64),
    ) -> Result<(Vec<Unit>, Option<Damage>)> {
        let path = self.path();
        let mut units = Vec::new();
        let Some(series) = contents::series(path, txn, dbs, (table, instance))? else {
            return Ok((units, None));
        };
        let first = BlockKey {
            table,
            instance,
            shard: 0,
            // A block that begins earlier has ended before the span begins.
            start_ns: from_ns.saturating_sub_unsigned(series.span_ns),
            sequence: 0,
        }
        .encode();
        let walk = Walk::new(path, txn, dbs.block)?;
        let mut entry = walk.at_or_after(&first)?;
        let mut before = first;
        let mut in_order = true;
        // Whether the walk came to the end of the series, rather than to that of the span.
        let mut ended = true;
        while let Some((key, _)) = entry {
            in_order &= key >= before.as_slice();
            if !contents::same_series(key, &first) {
                break;
            }
            let key = contents::block_key(path, key)?;
            before = key.encode();
            in_order &= (series.first_ns..=series.last_ns).contains(&key.start_ns);
            if key.start_ns > to_ns {
                ended = false;
                break;
            }
            units.push(Unit {
                start_ns: key.start_ns,
                order: u64::from(key.sequence),
                source: Source::Block(key),
            });
            entry = walk.next()?;
        }
        let found = units.len() as u64;
        let whole = from_ns <= series.first_ns && to_ns >= series.last_ns;
        // The last block ends with the series, and none is longer than the span.
        let reached = units
            .last()
            .map_or(i64::MIN, |u| u.start_ns.saturating_add_unsigned(series.span_ns));
        let due_more = ended && !series.overlap && from_ns <= series.last_ns && reached < series.last_ns;
        let lost = series.blocks > 0 && (!in_order || due_more) || whole && found != series.blocks;
        let damage = || Damage {
            part: Part::Block,
            table: None,
            instance: None,
            from_ns: Some(from_ns.max(series.first_ns)),
            to_ns: Some(to_ns.min(series.last_ns)),
            sequence: series.next_block.into(),
            flaw: match whole {
                true => format!("{found} blocks are found where {} are due", series.blocks),
                false => "the keys of blocks are not what they were: some are not found".into(),
            },
        };
        Ok((units, lost.then(damage)))
    }
}

/// The head's samples of one table and instance, as the runs that will be blocks.
fn head_units(runs: Vec<Vec<HeadSample>>, (from_ns, to_ns): (i64, i64)) -> impl Iterator<Item = Unit> {
    let bounds = |run: &Vec<HeadSample>| match (run.first(), run.last()) {
        (Some((_, first, _)), Some((_, last, _))) => (first.time_ns, last.last_ns),
        _ => (i64::MAX, i64::MIN),
    };
    runs.into_iter().enumerate().filter_map(move |(i, run)| {
        let (first_ns, last_ns) = bounds(&run);
        (first_ns <= to_ns && last_ns >= from_ns).then(|| Unit {
            start_ns: first_ns,
            // After every block, whose numbers have 32 bits.
            order: (1 << 32) + i as u64,
            source: Source::Head(run),
        })
    })
}
