//! The decoders of what lies in a file, for fuzzers: any bytes in, rows or a flaw out.
//!
//! Checksums would keep a fuzzer out, so they are made right first. Bytes are decoded in all the ways in which readers and the
//! sealer do, with one declaration of a state table and one of an event table that have a column of each type. Compiled for
//! tests and with the feature `fuzzing` only.

mod mend;
mod seeds;
#[cfg(test)]
mod tests;

use crate::assemble::{self, Run};
use crate::block::{self, BlockKind, Replay};
use crate::bytes::{Bytes, Flaw};
use crate::columns::bounds::Summary;
use crate::columns::numbers;
use crate::columns::shape::{self, Shape};
use crate::columns::typed::{Column, Emitted, Entities};
use crate::columns::{Directory, Packer};
use crate::draft::{Draft, Piece, Sealing};
use crate::fetch::Wanted;
use crate::head::{self, Entry, Kind};
use crate::keys::BlockKey;
use crate::merge;
use crate::moving::Moving;
use crate::schema::{Projection, Table, Version};
use crate::types::{Condition, InstanceId, Scalar, TableId, Test};
use std::collections::BTreeMap;
use std::sync::Arc;
use vwatch_model::{Access, Column as Declared, ColumnType, TableKind, TableSchema};

pub use seeds::{block as block_seeds, columns as columns_seeds, head as head_seeds};

const STATE: TableId = TableId(1);
const EVENTS: TableId = TableId(2);
const INSTANCE: InstanceId = InstanceId(3);
const VERSION: u32 = 1;
/// Key of every head record.
const RECORD: [u8; 8] = 9u64.to_be_bytes();

/// A table with a column of each type.
fn version(kind: TableKind) -> Arc<Version> {
    use ColumnType::*;
    let mut columns = vec![Declared::new("time", Timestamp, "When.")];
    if kind == TableKind::State {
        columns = vec![
            Declared::new("pid", I32, "Key.").key(),
            Declared::new("seen", Timestamp, "Seen.").nullable(),
        ];
    }
    columns.extend([
        Declared::new("start", U64, "Start."),
        Declared::new("name", String, "Name.").nullable(),
        Declared::new("total", I64, "Total."),
        Declared::new("load", F64, "Load.").nullable(),
        Declared::new("idle", Bool, "Idle.").nullable(),
        Declared::new("data", Bytes, "Data.").nullable(),
        Declared::new("uid", U32, "User."),
    ]);
    let schema = TableSchema {
        name: "fuzzed".into(),
        kind,
        doc: "A table.".into(),
        access: Access::All,
        columns,
    };
    Arc::new(Version::new(VERSION, schema))
}

fn table(kind: TableKind) -> Table {
    let id = match kind {
        TableKind::State => STATE,
        TableKind::Event => EVENTS,
    };
    Table::new(id, BTreeMap::from([(VERSION, version(kind))]))
}

/// A block's value under the key that it says itself. Answers how many rows it has.
pub fn block(value: &[u8]) -> Result<usize, String> {
    let mut value = value.to_vec();
    let (key, kind) = mend::block(&mut value).ok_or("no block")?;
    let kind = match kind {
        BlockKind::State => TableKind::State,
        BlockKind::Events => TableKind::Event,
    };
    let table = table(kind);
    let version = table.version(VERSION)?.clone();
    let content = block::content(&key, &value, &version, None);
    if content.is_ok() {
        again(&key, &value, &version, kind)?;
    }
    let _ = block::content(&key, &value, &version, Some(&[0, 3]));
    if kind == TableKind::State {
        pictures(&key, &value, &table)?;
    }
    let content = content?;
    Ok(content.changes.rows.num_rows())
}

/// As maintenance reads it, and writes it again. What can be decoded can be encoded.
fn again(key: &BlockKey, value: &[u8], version: &Arc<Version>, kind: TableKind) -> Result<(), Flaw> {
    let block = || vec![(*key, value.to_vec())];
    if kind == TableKind::Event {
        return written(&merge::events(version, vec![block()])?, key);
    }
    // A block whose shards are elsewhere, or whose samples are all thinned away, is not one of its own.
    for every_ns in [None, Some(2_000_000_000)] {
        if let Some(draft) = merge::state(version, vec![block()], every_ns)? {
            written(&draft, key)?;
        }
    }
    // Its keys are looked for in itself; times that do not rise are no block.
    if let Ok(Some(draft)) = merge::state(version, vec![block(), block()], None) {
        let _ = draft.encode(*key, &mut Packer::new().map_err(|e| e.to_string())?);
    }
    Ok(())
}

fn written(draft: &Draft, key: &BlockKey) -> Result<(), Flaw> {
    let mut packer = Packer::new().map_err(|e| e.to_string())?;
    let key = BlockKey {
        start_ns: draft.first_ns(),
        ..*key
    };
    for (key, value) in draft.encode(key, &mut packer)? {
        block::header(&key, &value)?;
    }
    Ok(())
}

/// As scans and AS OF read it: column by column, sample by sample, with conditions and without.
fn pictures(key: &BlockKey, value: &[u8], table: &Table) -> Result<(), Flaw> {
    let conditions = [Condition {
        column: "name".into(),
        test: Test::Range {
            min: Some(Scalar::String("b".into())),
            max: None,
        },
    }];
    let projection = Projection::new(table, None).map_err(|e| e.to_string())?;
    for conditions in [&[][..], &conditions] {
        let wanted = Wanted {
            table,
            projection: &projection,
            conditions,
            instance: "i",
        };
        let Some(fetched) = wanted.fetch(block::header(key, value)?, value)? else {
            continue;
        };
        let samples = fetched.header.samples.len();
        let Some(mut moving) = fetched.moving()? else { continue };
        emit(&mut moving, samples)?;
    }
    Ok(())
}

fn emit(moving: &mut Moving, samples: usize) -> Result<(), Flaw> {
    // A batch ends at some thousand rows, and a long block is read in batches.
    const ROWS: usize = 4096;
    for sample in 0..samples.min(1000) {
        moving.advance(sample);
        if moving.count() > ROWS && sample % 100 != 0 {
            continue;
        }
        let mut emitted = moving.begin(moving.count());
        moving.emit(&mut emitted);
        let rows = moving.batch(emitted, moving.count())?;
        if rows.num_rows() != moving.count() {
            return Err("a batch of other rows".into());
        }
    }
    Ok(())
}

/// A head record. Answers how many rows its samples have.
pub fn head(record: &[u8]) -> Result<usize, String> {
    let mut record = record.to_vec();
    mend::head(&mut record);
    let directory = head::directory(&RECORD, &record)?;
    let (state, events) = (version(TableKind::State), version(TableKind::Event));
    let mut run: Option<(Run, Sealing)> = None;
    let mut pieces = Vec::new();
    let mut rows = 0;
    for entry in &directory.entries {
        let version = match entry.kind {
            Kind::Events => &events,
            _ => &state,
        };
        let stored = entry.payload(&record)?;
        let changes = assemble::decode(entry, stored, version, None)?;
        let opened = assemble::open(entry, stored, version)?;
        rows += changes.rows.num_rows();
        let _ = assemble::decode(entry, stored, version, Some(&[0, 3]));
        match (entry.kind, &mut run) {
            (Kind::Events, _) => pieces.push(Piece::of_rows(opened.parts, entry.rows as usize, None)?),
            (Kind::Delta, None) => return Err("a change without the picture before it".into()),
            (Kind::Keyframe { fresh: false } | Kind::Delta, Some((run, sealing))) => {
                run.push(entry, changes)?;
                sealing.push(entry, opened)?;
            }
            (Kind::Keyframe { .. }, run) => {
                let begun = (
                    Run::begin(entry, changes),
                    Sealing::begin(version, entry, opened, true)?,
                );
                if let Some(over) = run.replace(begun) {
                    sealed(over, entry)?;
                }
            }
        }
    }
    if let (Some(run), Some(entry)) = (run, directory.entries.last()) {
        sealed(run, entry)?;
    }
    for draft in Draft::events_by_hour(&events, pieces)? {
        written(&draft, &key(EVENTS, 0))?;
    }
    Ok(rows)
}

/// A run as readers of the head replay it, and as the block that it becomes.
fn sealed((run, sealing): (Run, Sealing), entry: &Entry) -> Result<(), Flaw> {
    let content = run.finish()?;
    let mut replay = Replay::new(&content);
    for sample in 0..content.samples.len() {
        replay.advance(&content, sample);
        if replay.rows().any(|row| row as usize >= content.changes.rows.num_rows()) {
            return Err("a row that is not there".into());
        }
    }
    written(&sealing.finish(), &key(entry.table, 0))
}

fn key(table: TableId, start_ns: i64) -> BlockKey {
    BlockKey {
        table,
        instance: INSTANCE,
        shard: 0,
        start_ns,
        sequence: 1,
    }
}

/// A column's bytes before compression, behind two bytes that say which decoder and how many entities; likewise shapes,
/// directories and streams of numbers. Answers how many values there are.
pub fn columns(raw: &[u8]) -> Result<usize, String> {
    let mut bytes = Bytes::new(raw);
    let (which, entities) = (bytes.u8()?, usize::from(bytes.u8()?));
    let rest = bytes.rest();
    let version = version(TableKind::State);
    let fields = version.arrow.fields();
    // Entities whose values change later, some more than once.
    let later: Vec<u32> = (0..3 * entities as u32).map(|i| i * 7 % entities as u32).collect();
    match usize::from(which) {
        20 => Shape::decode(rest, entities % 16, entities, entities / 4).map(|s| s.entities),
        21 => shape::decode_head(rest, entities, entities / 4).map(|s| s.slot.len()),
        22 => Directory::parse(rest, 1 + entities % 16).map(|d| d.body_bytes),
        23 => Summary::read(&mut Bytes::new(rest)).map(|_| 1),
        24 => numbers::decode(&mut Bytes::new(rest), entities).map(|n| n.len()),
        which => {
            let kind = fields[which % fields.len()].data_type();
            let mut column = Column::decode(kind, rest, entities, &later)?;
            let mut emitted = Emitted::with_capacity(entities);
            for end in [0, later.len() / 2, later.len()] {
                column.advance(&later, end as u32);
                column.emit(Entities::First(entities), &mut emitted);
                for entity in 0..entities {
                    column.value(entity);
                }
            }
            column.array(emitted, 1 << 20).map(|array| array.len())
        }
    }
}
