//! When the samples of a state table were taken, on both clocks: what tells how much time really lies between two of them,
//! and that a boot lies between. Read from block headers and head directories alone; cost: 24 bytes a sample.

use crate::block;
use crate::contents::{self, Walk};
use crate::error::Result;
use crate::keys::BlockKey;
use crate::reader::Reader;
use crate::types::{InstanceId, TableId};
use vwatch_model::time::Stamp;

impl Reader {
    /// Stamps of the samples with `from_ns <= wall_ns <= to_ns`, by their wall time, each wall time once.
    pub fn stamps(&self, table: TableId, instance: InstanceId, from_ns: i64, to_ns: i64) -> Result<Vec<Stamp>> {
        let path = self.path();
        let mut stamps = self.env().read(|txn, dbs| {
            let mut stamps = Vec::new();
            let mut note = |wall_ns: i64, boot_ns: i64| {
                if (from_ns..=to_ns).contains(&wall_ns) {
                    stamps.push(Stamp { wall_ns, boot_ns });
                }
            };
            if let Some(series) = contents::series(path, txn, dbs, (table, instance))? {
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
                while let Some((key, value)) = entry
                    && contents::same_series(key, &first)
                {
                    let key = contents::block_key(path, key)?;
                    if key.start_ns > to_ns {
                        break;
                    }
                    // What is damaged is told by whoever reads its rows.
                    if let Ok(header) = block::header(&key, value) {
                        for sample in &header.samples {
                            note(sample.time_ns, sample.boot_ns);
                        }
                    }
                    entry = walk.next()?;
                }
            }
            contents::each_head_record_or_flaw(path, txn, dbs, |_, directory, _| {
                for entry in directory.iter().flat_map(|d| &d.entries) {
                    if (entry.table, entry.instance) == (table, instance) {
                        note(entry.time_ns, entry.boot_ns);
                    }
                }
                Ok(())
            })?;
            Ok(stamps)
        })?;
        stamps.sort_by_key(|s| s.wall_ns);
        stamps.dedup_by_key(|s| s.wall_ns);
        Ok(stamps)
    }
}
