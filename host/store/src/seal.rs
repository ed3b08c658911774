//! Sealing: the head of the minutes that are over becomes blocks, in one transaction.
//!
//! Works from the head's own records, so what an earlier run left behind is sealed the same way. A record or payload that
//! has been damaged is reported and left out, up to the next keyframe; the rest is kept. Cost: once a minute, about what
//! encoding one keyframe and a minute's changes costs.

use crate::assemble;
use crate::bytes::Flaw;
use crate::contents::Walk;
use crate::draft::{Draft, Piece, Sealing};
use crate::error::{Result, StoreError};
use crate::head::{self, Entry, Kind};
use crate::keys::{self, BlockKey};
use crate::payload::Opened;
use crate::run;
use crate::schema::{Table, Version};
use crate::series::{Figures, Series};
use crate::types::{InstanceId, TableId};
use crate::writer::Writer;
use lmdb::WriteFlags;
use std::collections::BTreeMap;
use std::sync::Arc;
use vwatch_model::time::Stamp;

/// Events of about so many bytes as plain columns make a block.
const EVENT_BLOCK_BYTES: usize = 32 << 20;
/// Commits that go by after a failed sealing.
const RETRY_AFTER: u32 = 10;

/// Samples of one table and instance with their payloads as stored.
type Samples = Vec<(Entry, std::result::Result<Vec<u8>, Flaw>)>;

/// A copy of the head up to some record.
struct HeadCopy {
    keys: Vec<Vec<u8>>,
    samples: BTreeMap<(TableId, InstanceId), Samples>,
}

/// A block ready to be written.
struct Sealed {
    key: BlockKey,
    value: Vec<u8>,
}

impl Writer {
    /// Seals the head records before `limit`. An error is logged, counted, and left for a later attempt. Answers the number
    /// of blocks.
    pub(crate) fn seal_before(&mut self, limit: u64) -> u64 {
        if self.seal_wait > 0 {
            self.seal_wait -= 1;
            return 0;
        }
        match self.try_seal(limit, None) {
            Ok(blocks) => blocks,
            Err(e) => {
                tracing::warn!("sealing failed and will be tried again: {e}");
                self.stats.failed_seals += 1;
                self.seal_wait = RETRY_AFTER;
                self.reopen = true;
                0
            }
        }
    }

    /// `closed` also marks the store as cleanly closed.
    fn try_seal(&mut self, limit: u64, closed: Option<Stamp>) -> Result<u64> {
        self.usable()?;
        let head = self.copy_head(limit)?;
        if head.keys.is_empty() && closed.is_none() {
            return Ok(0);
        }
        let mut blocks = Vec::new();
        let mut changed: BTreeMap<(TableId, InstanceId), Series> = BTreeMap::new();
        for ((table, instance), samples) in head.samples {
            let Some(declared) = self.tables.get(&table).cloned() else {
                tracing::error!(table = table.0, "samples of a table that is not declared are left out");
                continue;
            };
            let stored = self.streams.get(&(table, instance)).map(|s| s.series);
            let mut series = stored.unwrap_or_default();
            let (mut sealed, mut after) = (Vec::new(), series);
            let made = self.encode_all(
                (table, instance),
                drafts(&declared, &samples, false),
                &mut sealed,
                &mut after,
            );
            if made.is_err() {
                // What cannot be read is left out; the rest is kept.
                (sealed, after) = (Vec::new(), series);
                self.encode_all(
                    (table, instance),
                    drafts(&declared, &samples, true),
                    &mut sealed,
                    &mut after,
                )?;
            }
            series = after;
            blocks.extend(sealed);
            changed.insert((table, instance), series);
        }
        self.write_blocks(&head.keys, &blocks, &changed, closed)?;
        for (key, series) in changed {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.series = series;
            }
        }
        self.stats.head_records = self.stats.head_records.saturating_sub(head.keys.len() as u64);
        self.stats.blocks_sealed += blocks.len() as u64;
        self.stats.block_bytes += blocks.iter().map(|b| b.value.len() as u64).sum::<u64>();
        Ok(blocks.len() as u64)
    }

    fn copy_head(&self, limit: u64) -> Result<HeadCopy> {
        self.env.read(|txn, dbs| {
            let mut copy = HeadCopy {
                keys: Vec::new(),
                samples: BTreeMap::new(),
            };
            let walk = Walk::new(&self.path, txn, dbs.head)?;
            let mut record = walk.first()?;
            while let Some((key, value)) = record {
                if keys::sequence(key).is_ok_and(|sequence| sequence >= limit) {
                    break;
                }
                copy.keys.push(key.to_vec());
                match head::directory(key, value) {
                    Ok(directory) => {
                        for entry in directory.entries {
                            let payload = entry.payload(value).map(<[u8]>::to_vec);
                            let of = copy.samples.entry((entry.table, entry.instance)).or_default();
                            of.push((entry, payload));
                        }
                    }
                    Err(e) => tracing::error!("a head record is damaged and left out: {e}"),
                }
                record = walk.next()?;
            }
            Ok(copy)
        })
    }

    fn encode_all(
        &mut self,
        (table, instance): (TableId, InstanceId),
        drafts: std::result::Result<Vec<Draft>, Flaw>,
        sealed: &mut Vec<Sealed>,
        series: &mut Series,
    ) -> Result<()> {
        let rows_error = |what| StoreError::Rows {
            table: self.tables[&table].schema.name.clone(),
            what,
        };
        for draft in drafts.map_err(rows_error)? {
            let key = BlockKey {
                table,
                instance,
                shard: 0,
                start_ns: draft.first_ns(),
                sequence: series.next_block,
            };
            let blocks = draft.encode(key, &mut self.packer).map_err(rows_error)?;
            let figures = Figures::of(&blocks).map_err(|e| StoreError::damaged(&self.path, e))?;
            series.add_block(&figures);
            sealed.extend(blocks.into_iter().map(|(key, value)| Sealed { key, value }));
        }
        Ok(())
    }

    fn write_blocks(
        &mut self,
        head_keys: &[Vec<u8>],
        blocks: &[Sealed],
        changed: &BTreeMap<(TableId, InstanceId), Series>,
        closed: Option<Stamp>,
    ) -> Result<()> {
        let mut this_run = self.run.clone();
        this_run.next_sequence = self.next_sequence;
        if let Some(now) = closed {
            this_run.clean = true;
            this_run.last_commit = Some(now);
        }
        let path = &self.path;
        let lmdb = |op: &'static str| move |e| StoreError::lmdb(path, op, e);
        self.env
            .write(["seal-before-commit", "seal-after-commit"], |txn, dbs| {
                for block in blocks {
                    txn.put(dbs.block, &block.key.encode(), &block.value, WriteFlags::NO_OVERWRITE)
                        .map_err(lmdb("write a block"))?;
                }
                for ((table, instance), series) in changed {
                    let key = Series::key(*table, *instance);
                    txn.put(dbs.series, &key, &series.encode(&key), WriteFlags::empty())
                        .map_err(lmdb("write a series"))?;
                }
                for key in head_keys {
                    txn.del(dbs.head, key, None).map_err(lmdb("delete a head record"))?;
                }
                run::put_run(path, txn, dbs, &this_run)
            })?;
        self.run = this_run;
        Ok(())
    }

    /// Commits what is queued, seals the head, and marks the store as cleanly closed.
    ///
    /// # Errors
    /// The commit's or the sealing's. The store is valid then, but not marked, and what was not sealed lies in the head.
    pub fn close(mut self, now: Stamp) -> Result<()> {
        let committed = self.commit(now);
        self.try_seal(self.next_sequence, Some(now))?;
        self.env.sync()?;
        committed.map(|_| ())
    }
}

/// The runs that samples of one table and instance come to. `checked` leaves out samples whose columns cannot be decoded.
fn drafts(table: &Table, samples: &Samples, checked: bool) -> std::result::Result<Vec<Draft>, Flaw> {
    match table.is_state() {
        true => Ok(state_drafts(table, samples, checked)),
        false => event_drafts(table, samples, checked),
    }
}

fn state_drafts(table: &Table, samples: &Samples, checked: bool) -> Vec<Draft> {
    let mut out = Vec::new();
    let mut run: Option<Sealing> = None;
    for (entry, payload) in samples {
        let added = opened(table, entry, payload).and_then(|(version, opened)| match (&mut run, entry.kind) {
            (Some(run), Kind::Delta | Kind::Keyframe { fresh: false }) => run.push(entry, opened),
            (_, Kind::Delta | Kind::Events) => Err("a change without the picture before it".into()),
            (run, Kind::Keyframe { .. }) => {
                out.extend(run.take().map(Sealing::finish));
                *run = Some(Sealing::begin(version, entry, opened, checked)?);
                Ok(())
            }
        });
        if let Err(e) = added {
            tracing::error!(table = %table.schema.name, "a sample is left out: {e}");
            out.extend(run.take().map(Sealing::finish));
        }
    }
    out.extend(run.map(Sealing::finish));
    out
}

type OpenedOf<'a> = (&'a Arc<Version>, Opened);

fn opened<'a>(
    table: &'a Table,
    entry: &Entry,
    payload: &std::result::Result<Vec<u8>, Flaw>,
) -> std::result::Result<OpenedOf<'a>, Flaw> {
    let stored = payload.as_ref().map_err(Clone::clone)?;
    let version = table.version(entry.version)?;
    Ok((version, assemble::open(entry, stored, version)?))
}

fn event_drafts(table: &Table, samples: &Samples, checked: bool) -> std::result::Result<Vec<Draft>, Flaw> {
    let mut by_version: BTreeMap<u32, Vec<(u32, Piece)>> = BTreeMap::new();
    for (entry, payload) in samples {
        let piece = opened(table, entry, payload).and_then(|(version, opened)| {
            let piece = Piece::of_rows(opened.parts, entry.rows as usize, None)?;
            if checked {
                piece.sound(version)?;
            }
            Ok(piece)
        });
        match piece {
            Ok(piece) => by_version
                .entry(entry.version)
                .or_default()
                .push((entry.raw_bytes(), piece)),
            Err(e) => tracing::error!(table = %table.schema.name, "events are damaged and left out: {e}"),
        }
    }
    let mut out = Vec::new();
    for (version, pieces) in by_version {
        let version = table.version(version)?;
        let (mut bytes, mut of_block) = (0, Vec::new());
        for (raw_bytes, piece) in pieces {
            of_block.push(piece);
            bytes += raw_bytes as usize;
            if bytes >= EVENT_BLOCK_BYTES {
                out.extend(Draft::events_by_hour(version, std::mem::take(&mut of_block))?);
                bytes = 0;
            }
        }
        out.extend(Draft::events_by_hour(version, of_block)?);
    }
    Ok(out)
}
