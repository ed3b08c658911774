//! Readers: what a store holds, and the picture at a time. Any number, in any process, while the writer writes.
//!
//! **Invariants:** every answer comes from one state of the store, seen in one short transaction; bytes are copied out and
//! decoded after it, so a slow reader never keeps the file growing. Cost of AS OF: one seek, one decode; within the minute
//! that is not sealed yet, the head's directories and at most 20 samples of the one table.

use crate::assemble::{self, Run};
use crate::block::{self, Content, Replay};
use crate::bytes::Flaw;
use crate::catalog::{Catalog, InstanceEntry, TableEntry};
use crate::contents::{self, Walk};
use crate::damage::{Damage, Part};
use crate::env::{Dbs, Env, resolve};
use crate::error::{Result, StoreError};
use crate::fetch::{Fetched, Wanted};
use crate::head::Entry;
use crate::head_read::{self, HeadSample};
use crate::keys::BlockKey;
use crate::schema::{Projection, Table, time_array};
use crate::types::*;
use crate::{pages, run, tree};
use arrow_array::{RecordBatch, UInt32Array};
use lmdb::Transaction;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A reader of one store. Cloning is cheap, and clones may be used from any thread.
#[derive(Debug, Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    /// Opened with the rights of whoever opened the reader, which may be given up since.
    file: File,
    /// Declarations do not change once they are committed, so they are parsed once.
    tables: Mutex<HashMap<TableId, Arc<Table>>>,
    names: Mutex<HashMap<InstanceId, Arc<str>>>,
    doubts: Doubts,
}

/// The check of a copy's pages, which runs beside the first questions.
#[derive(Debug, Default)]
struct Doubts {
    check: Mutex<Option<std::thread::JoinHandle<Vec<Flaw>>>>,
    found: OnceLock<Vec<Flaw>>,
}

/// A sample's bytes, and what to decode first to get to it.
struct Found {
    time_ns: i64,
    interval_ns: u64,
    bytes: FoundBytes,
}

enum FoundBytes {
    Blocks {
        key: BlockKey,
        /// The shards of one run.
        blocks: Vec<Fetched>,
        sample: usize,
    },
    /// A keyframe and the deltas after it.
    Head(Vec<HeadSample>),
}

impl Reader {
    /// # Errors
    /// `NotAStore`, `NewerFormat`, `Damaged`; `Io` when there is no file or, opened live, the lock file cannot be written.
    pub fn open(path: &Path, mode: ReadMode) -> Result<Reader> {
        let path = resolve(path)?;
        let file = File::open(&path).map_err(|e| StoreError::io(&path, "open", e))?;
        pages::check_file(&path, &file)?;
        let env = match mode {
            ReadMode::Live => Env::open_live(&path)?,
            ReadMode::Copy => Env::open_copy(&path)?,
        };
        env.read(|txn, dbs| run::check_format(&path, txn, dbs))?;
        let doubts = Doubts::default();
        if mode == ReadMode::Copy {
            let file = file.try_clone().map_err(|e| StoreError::io(&path, "open", e))?;
            let check = std::thread::Builder::new().name("pages".into());
            let check = check.spawn(move || pages_of(&path, &file));
            *doubts.check.lock().unwrap_or_else(PoisonError::into_inner) = check.ok();
        }
        Ok(Reader {
            inner: Arc::new(Inner {
                env,
                file,
                tables: Mutex::default(),
                names: Mutex::default(),
                doubts,
            }),
        })
    }

    /// What is wrong with the branch and leaf pages of a file opened as a copy: rows may be missing from any answer. Nothing for
    /// a live store, whose writer looked when it was opened. Waits for the check, which began with [`Reader::open`].
    pub fn doubts(&self) -> &[String] {
        let doubts = &self.inner.doubts;
        doubts.found.get_or_init(|| {
            let check = doubts.check.lock().unwrap_or_else(PoisonError::into_inner).take();
            check.and_then(|check| check.join().ok()).unwrap_or_default()
        })
    }

    pub(crate) fn env(&self) -> &Env {
        &self.inner.env
    }

    pub(crate) fn file(&self) -> &File {
        &self.inner.file
    }

    pub(crate) fn path(&self) -> &Path {
        self.inner.env.path()
    }

    /// A table with all its versions, as of this transaction.
    pub(crate) fn table(&self, txn: &impl Transaction, dbs: &Dbs, id: TableId) -> Result<Arc<Table>> {
        let newest = contents::newest_version(self.path(), txn, dbs, id)?.ok_or(StoreError::NoTable(id.0))?;
        let mut known = self.inner.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = known.get(&id)
            && table.newest().number == newest
        {
            return Ok(table.clone());
        }
        let table = contents::table(self.path(), txn, dbs, id)?.ok_or(StoreError::NoTable(id.0))?;
        known.insert(id, table.clone());
        Ok(table)
    }

    pub(crate) fn instance_name(&self, txn: &impl Transaction, dbs: &Dbs, id: InstanceId) -> Result<Arc<str>> {
        let mut known = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(&id) {
            return Ok(name.clone());
        }
        let key = id.0.to_be_bytes();
        let value = txn.get(dbs.instance, &key).map_err(|e| match e {
            lmdb::Error::NotFound => StoreError::NoInstance(id.0),
            e => StoreError::lmdb(self.path(), "read an instance", e),
        })?;
        let (_, info) = contents::decode_instance(self.path(), &key, value)?;
        let name: Arc<str> = info.name.into();
        known.insert(id, name.clone());
        Ok(name)
    }

    pub(crate) fn damaged(&self, what: &dyn std::fmt::Display, flaw: &Flaw) -> StoreError {
        StoreError::damaged(self.path(), format!("{what}: {flaw}"))
    }

    /// What the store holds.
    pub fn catalog(&self) -> Result<Catalog> {
        let path = self.path();
        self.env().read(|txn, dbs| {
            let run = run::run(path, txn, dbs)?;
            let series = contents::all_series(path, txn, dbs)?;
            let mut bounds: BTreeMap<TableId, (i64, i64)> = BTreeMap::new();
            let mut widen = |table, first: i64, last: i64| {
                let of = bounds.entry(table).or_insert((first, last));
                *of = (of.0.min(first), of.1.max(last));
            };
            for ((table, _), series) in &series {
                if let Some((first, last)) = series.bounds() {
                    widen(*table, first, last);
                }
            }
            let mut last_commit = run.last_commit;
            contents::each_head_record_or_flaw(path, txn, dbs, |_, directory, _| {
                // A damaged record is told of by whatever reads its samples.
                if let Ok(directory) = directory {
                    last_commit = Some(directory.commit);
                    for entry in &directory.entries {
                        widen(entry.table, entry.time_ns, entry.last_ns);
                    }
                }
                Ok(())
            })?;
            let table_entry = |(id, table): (TableId, Arc<Table>)| TableEntry {
                id,
                schema: table.schema.clone(),
                first_ns: bounds.get(&id).map(|b| b.0),
                last_ns: bounds.get(&id).map(|b| b.1),
            };
            let tables_of = |instance: InstanceId| series.keys().filter(move |k| k.1 == instance).map(|k| k.0);
            let instance_entry = |(id, info)| InstanceEntry {
                id,
                info,
                tables: tables_of(id).collect(),
            };
            Ok(Catalog {
                tables: contents::tables(path, txn, dbs)?.into_iter().map(table_entry).collect(),
                instances: contents::instances(path, txn, dbs)?
                    .into_iter()
                    .map(instance_entry)
                    .collect(),
                first_ns: bounds.values().map(|b| b.0).min(),
                last_commit,
                clean_close: run.clean,
                boot_id: run.boot_id,
                host: run.host,
            })
        })
    }

    /// The last sample of a state table at or before `at_ns`; None when there is none. Whether it has expired by then is for
    /// the caller to say, from its time and interval.
    pub fn as_of(
        &self,
        table: TableId,
        instance: InstanceId,
        at_ns: i64,
        columns: Option<&[String]>,
    ) -> Result<Option<Picture>> {
        let (projection, table, name, found) = self.env().read(|txn, dbs| {
            let declared = self.table(txn, dbs, table)?;
            if !declared.is_state() {
                return Err(StoreError::NotState {
                    table: declared.schema.name.clone(),
                });
            }
            let name = self.instance_name(txn, dbs, instance)?;
            let in_head = self.find_in_head(txn, dbs, (table, instance), at_ns)?;
            let projection = Projection::new(&declared, columns)?;
            let wanted = Wanted {
                table: &declared,
                projection: &projection,
                conditions: &[],
                instance: &name,
            };
            let after_ns = in_head.as_ref().map(|head| head.time_ns);
            let in_blocks = self.find_in_blocks(txn, dbs, wanted, instance, (at_ns, after_ns))?;
            // What is in the head was recorded after what is in the blocks.
            Ok((projection, declared, name, in_blocks.or(in_head)))
        })?;
        let Some(found) = found else { return Ok(None) };
        let rows = self.picture(&table, &name, &projection, found.time_ns, found.bytes)?;
        Ok(Some(Picture {
            time_ns: found.time_ns,
            interval_ns: found.interval_ns,
            rows,
        }))
    }

    fn find_in_head(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        series: (TableId, InstanceId),
        at_ns: i64,
    ) -> Result<Option<Found>> {
        let found = head_read::chain(self.path(), txn, dbs, series, at_ns)?;
        let found = found.map_err(|damage| self.name_series(txn, dbs, series, damage).error(self.path()))?;
        Ok(found.and_then(|chain| {
            let (_, last, _) = chain.last()?;
            Some(Found {
                time_ns: last.time_ns,
                interval_ns: last.interval_ns,
                bytes: FoundBytes::Head(chain),
            })
        }))
    }

    /// The last sample in the blocks until and with `at_ns`; None as well when it is not after `after_ns`.
    fn find_in_blocks(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        what: Wanted<'_>,
        instance: InstanceId,
        (at_ns, after_ns): (i64, Option<i64>),
    ) -> Result<Option<Found>> {
        let path = self.path();
        let table = what.table.id;
        let wanted = BlockKey {
            table,
            instance,
            shard: 0,
            start_ns: at_ns,
            sequence: u32::MAX,
        }
        .encode();
        let walk = Walk::new(path, txn, dbs.block)?;
        let mut best: Option<(BlockKey, block::Header, usize, &[u8])> = None;
        let mut span = None;
        let mut entry = walk.at_or_before(&wanted)?;
        while let Some((key, value)) = entry {
            if !contents::same_series(key, &wanted) {
                break;
            }
            let key = contents::block_key(path, key)?;
            let better = |time_ns| {
                best.as_ref().map(|(k, h, s, _)| (h.samples[*s].time_ns, k.sequence)) < Some((time_ns, key.sequence))
            };
            if best.as_ref().is_some_and(|(_, h, s, _)| {
                // A block that began this long before the best sample has ended before it.
                h.samples[*s].time_ns.saturating_sub_unsigned(span.unwrap_or(0)) > key.start_ns
            }) {
                break;
            }
            let damaged = |e: Flaw| what.damaged(path, &key, None, e);
            let header = block::header(&key, value).map_err(damaged)?;
            let sample = header
                .sample_at(at_ns)
                .ok_or_else(|| damaged("it has no samples".into()))?;
            if better(header.samples[sample].time_ns) {
                best = Some((key, header, sample, value));
            }
            if span.is_none() {
                match contents::series(path, txn, dbs, (table, instance))? {
                    // Only where blocks overlap can an earlier one hold a later sample.
                    Some(series) if series.overlap => span = Some(series.span_ns),
                    _ => break,
                }
            }
            entry = walk.previous()?;
        }
        let Some((key, header, sample, value)) = best else {
            return Ok(None);
        };
        let time = header.samples[sample];
        if after_ns.is_some_and(|after| time.time_ns <= after) {
            return Ok(None);
        }
        let blocks = self.fetch_run(txn, dbs, what, (&key, header, value))?;
        Ok(Some(Found {
            time_ns: time.time_ns,
            interval_ns: time.interval_ns,
            bytes: FoundBytes::Blocks { key, blocks, sample },
        }))
    }

    fn picture(
        &self,
        table: &Table,
        instance: &str,
        projection: &Projection,
        time_ns: i64,
        bytes: FoundBytes,
    ) -> Result<RecordBatch> {
        let part = |damage: Damage, flaw| {
            let named = Damage {
                table: Some(table.schema.name.clone()),
                instance: Some(instance.to_owned()),
                flaw,
                ..damage
            };
            named.error(self.path())
        };
        match bytes {
            FoundBytes::Blocks { key, blocks, sample } => {
                let last_ns = blocks.first().map(|b| b.header.last_ns);
                let rows = block_picture(projection, blocks, sample, time_ns, instance);
                rows.map_err(|e| part(block_damage(&key, last_ns, Flaw::new()), e))
            }
            FoundBytes::Head(samples) => {
                let sample = samples.len() - 1;
                let content = head_run(table, projection, samples.iter().map(|(_, e, p)| (e, p.as_slice())));
                let rows = content.and_then(|content| {
                    let mut replay = Replay::new(&content);
                    replay.advance(&content, sample);
                    let rows: UInt32Array = replay.rows().collect();
                    let times = time_array(vec![time_ns; rows.len()]);
                    projection.apply(&take(&content.changes.rows, &rows)?, times, instance)
                });
                rows.map_err(|e| part(head_read::run_damage(&samples), e))
            }
        }
    }

    /// Adds the names of its table and instance to a damage, as far as they can be read.
    fn name_series(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        (table, instance): (TableId, InstanceId),
        damage: Damage,
    ) -> Damage {
        let table = self.table(txn, dbs, table).ok().map(|t| t.schema.name.clone());
        let instance = self.instance_name(txn, dbs, instance).ok().map(|n| n.to_string());
        Damage {
            table: damage.table.or(table),
            instance: damage.instance.or(instance),
            ..damage
        }
    }
}

/// A block that cannot be read; `last_ns` where its header still says it.
pub(crate) fn block_damage(key: &BlockKey, last_ns: Option<i64>, flaw: Flaw) -> Damage {
    Damage {
        part: Part::Block,
        table: None,
        instance: None,
        from_ns: Some(key.start_ns),
        to_ns: last_ns,
        sequence: key.sequence.into(),
        flaw,
    }
}

/// The picture at a sample of a run.
fn block_picture(
    projection: &Projection,
    blocks: Vec<Fetched>,
    sample: usize,
    time_ns: i64,
    instance: &str,
) -> std::result::Result<RecordBatch, Flaw> {
    let mut shards = Vec::with_capacity(blocks.len());
    for block in blocks {
        let Some(mut moving) = block.moving()? else { continue };
        moving.advance(sample);
        let mut emitted = moving.begin(moving.count());
        moving.emit(&mut emitted);
        let rows = moving.batch(emitted, moving.count())?;
        shards.push(projection.apply(&rows, time_array(vec![time_ns; moving.count()]), instance)?);
    }
    match shards.as_slice() {
        [] => Ok(RecordBatch::new_empty(projection.schema.clone())),
        shards => assemble::concat(shards),
    }
}

fn pages_of(path: &Path, file: &File) -> Vec<Flaw> {
    match tree::flaws(path, file) {
        Ok((flaws, _)) => flaws,
        Err(e) => vec![e.to_string()],
    }
}

/// The rows at some places; of a batch without columns, none are needed.
pub(crate) fn take(rows: &RecordBatch, places: &UInt32Array) -> std::result::Result<RecordBatch, Flaw> {
    if rows.num_columns() == 0 {
        return Ok(rows.clone());
    }
    arrow_select::take::take_record_batch(rows, places).map_err(|e| e.to_string())
}

/// Samples of the head as the block that they would become. The first is a keyframe, and no other is fresh.
pub(crate) fn head_run<'a>(
    table: &Table,
    projection: &Projection,
    samples: impl Iterator<Item = (&'a Entry, &'a [u8])>,
) -> std::result::Result<Content, Flaw> {
    let mut run: Option<Run> = None;
    for (entry, stored) in samples {
        let version = table.version(entry.version)?;
        let changes = assemble::decode(entry, stored, version, Some(&projection.stored(version)))?;
        match &mut run {
            None => run = Some(Run::begin(entry, changes)),
            Some(run) => run.push(entry, changes)?,
        }
    }
    run.ok_or("no samples")?.finish()
}
