//! What a scan has to read: the runs of a table and instance that may have rows in a span, in blocks and head.
//!
//! By keys and the head's directories alone: no block is touched. Cost: a step of a cursor a block.

use crate::contents::{self, Walk};
use crate::damage::Damage;
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

impl Reader {
    /// All that may have rows in the span, and how many of it are blocks.
    pub(crate) fn units(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        series: (TableId, InstanceId),
        span: (i64, i64),
        damaged: &mut BTreeMap<u64, Damage>,
    ) -> Result<(VecDeque<Unit>, u64)> {
        let mut units = self.block_units(txn, dbs, series, span)?;
        let blocks = units.len() as u64;
        units.extend(head_units(
            head_read::runs(self.path(), txn, dbs, series, damaged)?,
            span,
        ));
        units.sort_by_key(|u| (u.start_ns, u.order));
        Ok((units.into(), blocks))
    }

    /// Blocks that may have rows in the span, by their keys alone.
    fn block_units(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        (table, instance): (TableId, InstanceId),
        (from_ns, to_ns): (i64, i64),
    ) -> Result<Vec<Unit>> {
        let path = self.path();
        let mut units = Vec::new();
        let Some(series) = contents::series(path, txn, dbs, (table, instance))? else {
            return Ok(units);
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
        while let Some((key, _)) = entry
            && contents::same_series(key, &first)
        {
            let key = contents::block_key(path, key)?;
            if key.start_ns > to_ns {
                break;
            }
            units.push(Unit {
                start_ns: key.start_ns,
                order: u64::from(key.sequence),
                source: Source::Block(key),
            });
            entry = walk.next()?;
        }
        Ok(units)
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
