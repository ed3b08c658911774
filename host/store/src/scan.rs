//! Scans: every row of a table in a span of time, from blocks and head, in the order of time per instance.
//!
//! The first, short transaction lists the blocks and copies the head; blocks are then fetched one by one, each in a
//! transaction of its own. So a scan sees one state of the store, each sample once also while its minute is being sealed,
//! and never keeps the file growing. A block that is gone when its turn comes was deleted, or became part of another: all before
//! its start has been answered then, nothing from there on, and what is left is listed anew in a later state. Memory: one block and its wanted columns, more only where blocks overlap in time
//! (a clock that was stepped back, events that came late), and those are merged.

use crate::assemble::{self, concat, event_times, sort_by_time};
use crate::block::{self, Content, Replay};
use crate::bytes::Flaw;
use crate::contents::{self, Walk};
use crate::env::Dbs;
use crate::error::{Result, StoreError};
use crate::head::{Entry, Kind};
use crate::keys::BlockKey;
use crate::reader::{Reader, decode_block, head_run, take};
use crate::schema::{Projection, Table, time_array};
use crate::types::{InstanceId, ScanRequest, TableId};
use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use lmdb::Transaction;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Most rows of one batch.
const BATCH_ROWS: usize = 8192;

/// Batches of at most 8,192 rows in the layout of [`Scan::schema`].
#[derive(Debug)]
pub struct Scan {
    reader: Reader,
    table: Arc<Table>,
    projection: Projection,
    to_ns: i64,
    blocks_total: u64,
    blocks_done: u64,
    instances: VecDeque<InstanceScan>,
    ready: VecDeque<RecordBatch>,
}

/// What is left to read of one instance.
#[derive(Debug)]
struct InstanceScan {
    id: InstanceId,
    name: Arc<str>,
    /// What is earlier is not wanted, or has been answered.
    from_ns: i64,
    /// By start, then by the order of recording.
    units: VecDeque<Unit>,
    /// State blocks that have begun and not ended.
    active: Vec<Active>,
    /// Events that are read and not answered yet, sorted.
    carry: Option<RecordBatch>,
}

#[derive(Debug)]
struct Unit {
    start_ns: i64,
    order: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Block(BlockKey),
    Head(Vec<HeadSample>),
}

type HeadSample = (u64, Entry, Vec<u8>);

#[derive(Debug)]
struct Active {
    content: Content,
    replay: Replay,
    order: u64,
    /// Samples that are wanted.
    next: usize,
    end: usize,
}

impl Active {
    fn due(&self) -> (i64, u64) {
        (self.content.samples[self.next].time_ns, self.order)
    }
}

impl Reader {
    /// Everything of a table with `from_ns <= time <= to_ns`.
    pub fn scan(&self, request: ScanRequest) -> Result<Scan> {
        let wanted: BTreeSet<InstanceId> = request.instances.iter().copied().collect();
        let mut blocks_total = 0;
        let (table, instances) = self.env().read(|txn, dbs| {
            let table = self.table(txn, dbs, request.table)?;
            let mut instances = VecDeque::new();
            for id in wanted {
                let name = self.instance_name(txn, dbs, id)?;
                let (units, blocks) = self.units(txn, dbs, (request.table, id), (request.from_ns, request.to_ns))?;
                blocks_total += blocks;
                instances.push_back(InstanceScan {
                    id,
                    name,
                    from_ns: request.from_ns,
                    units,
                    active: Vec::new(),
                    carry: None,
                });
            }
            Ok((table, instances))
        })?;
        Ok(Scan {
            projection: Projection::new(&table, request.columns.as_deref())?,
            reader: self.clone(),
            table,
            to_ns: request.to_ns,
            blocks_total,
            blocks_done: 0,
            instances,
            ready: VecDeque::new(),
        })
    }

    /// All that may have rows in the span, and how many of it are blocks.
    fn units(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        series: (TableId, InstanceId),
        span: (i64, i64),
    ) -> Result<(VecDeque<Unit>, u64)> {
        let mut units = self.block_units(txn, dbs, series, span)?;
        let blocks = units.len() as u64;
        units.extend(self.head_units(txn, dbs, series, span)?);
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

    /// The head's samples of one table and instance, as the runs that will be blocks.
    fn head_units(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        series: (TableId, InstanceId),
        (from_ns, to_ns): (i64, i64),
    ) -> Result<Vec<Unit>> {
        let mut runs: Vec<Vec<HeadSample>> = Vec::new();
        contents::each_head_record(self.path(), txn, dbs, |sequence, directory, record| {
            for entry in directory
                .entries
                .into_iter()
                .filter(|e| (e.table, e.instance) == series)
            {
                let payload = entry.payload(record);
                let payload = payload.map_err(|e| contents::head_flaw(self.path(), sequence, &e))?;
                let sample = (sequence, entry, payload.to_vec());
                match (entry.kind, runs.last_mut()) {
                    (Kind::Delta | Kind::Keyframe { fresh: false }, Some(run)) => run.push(sample),
                    (Kind::Events | Kind::Keyframe { .. }, _) => runs.push(vec![sample]),
                    (Kind::Delta, None) => {
                        let flaw = "a change without the picture before it";
                        return Err(contents::head_flaw(self.path(), sequence, flaw));
                    }
                }
            }
            Ok(())
        })?;
        let bounds = |run: &Vec<HeadSample>| match (run.first(), run.last()) {
            (Some((_, first, _)), Some((_, last, _))) => (first.time_ns, last.last_ns),
            _ => (i64::MAX, i64::MIN),
        };
        let units = runs.into_iter().enumerate().filter_map(|(i, run)| {
            let (first_ns, last_ns) = bounds(&run);
            (first_ns <= to_ns && last_ns >= from_ns).then(|| Unit {
                start_ns: first_ns,
                // After every block, whose numbers have 32 bits.
                order: (1 << 32) + i as u64,
                source: Source::Head(run),
            })
        });
        Ok(units.collect())
    }
}

impl Scan {
    /// Blocks that were listed; for progress.
    pub fn blocks_total(&self) -> u64 {
        self.blocks_total
    }

    /// Blocks that have been fetched.
    pub fn blocks_done(&self) -> u64 {
        self.blocks_done
    }

    pub fn schema(&self) -> SchemaRef {
        self.projection.schema.clone()
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(mut instance) = self.instances.pop_front() else {
                return Ok(None);
            };
            let more = if self.table.is_state() {
                self.step_state(&mut instance)?
            } else {
                self.step_events(&mut instance)?
            };
            if more {
                self.instances.push_front(instance);
            }
        }
    }

    /// Moves on by one batch of a state table; false at the end.
    fn step_state(&mut self, instance: &mut InstanceScan) -> Result<bool> {
        let due = |instance: &InstanceScan| instance.active.iter().map(Active::due).min();
        while let Some(unit) = instance.units.front()
            && due(instance).is_none_or(|(time, _)| unit.start_ns <= time)
        {
            let Some(unit) = instance.units.pop_front() else { break };
            let (order, start_ns) = (unit.order, unit.start_ns);
            let Some(contents) = self.load(unit, instance.from_ns)? else {
                self.list_anew(instance, start_ns)?;
                continue;
            };
            for content in contents {
                let from = content.samples.partition_point(|s| s.time_ns < instance.from_ns);
                let end = content.samples.partition_point(|s| s.time_ns <= self.to_ns);
                if from < end {
                    instance.active.push(Active {
                        replay: Replay::new(&content),
                        content,
                        order,
                        next: from,
                        end,
                    });
                }
            }
        }
        let Some(chosen) = (0..instance.active.len()).min_by_key(|&i| instance.active[i].due()) else {
            return Ok(!instance.units.is_empty());
        };
        let others = instance.active.iter().enumerate().filter(|(i, _)| *i != chosen);
        let other = others.map(|(_, a)| a.due()).min();
        let unit = instance.units.front().map(|u| u.start_ns);
        let block = &mut instance.active[chosen];
        let (mut rows, mut times) = (Vec::new(), Vec::new());
        while block.next < block.end && rows.len() < BATCH_ROWS {
            let due = block.due();
            if other.is_some_and(|o| o < due) || unit.is_some_and(|start| start <= due.0) {
                break;
            }
            block.replay.advance(&block.content, block.next);
            rows.extend(block.replay.rows());
            times.resize(rows.len(), due.0);
            block.next += 1;
        }
        let made = self.state_batches(&block.content, rows, times, &instance.name);
        made.map_err(|e| self.reader.damaged(&self.table.schema.name, &e))
            .map(|batches| self.ready.extend(batches))?;
        if block.next == block.end {
            instance.active.swap_remove(chosen);
        }
        Ok(true)
    }

    fn state_batches(
        &self,
        content: &Content,
        rows: Vec<u32>,
        times: Vec<i64>,
        instance: &str,
    ) -> std::result::Result<Vec<RecordBatch>, Flaw> {
        let chunks = rows.chunks(BATCH_ROWS).zip(times.chunks(BATCH_ROWS));
        let batch = |(rows, times): (&[u32], &[i64])| {
            let rows = take(&content.changes.rows, &UInt32Array::from(rows.to_vec()))?;
            self.projection.apply(&rows, time_array(times.to_vec()), instance)
        };
        chunks.map(batch).collect()
    }

    /// Moves on by one run of events; false at the end.
    fn step_events(&mut self, instance: &mut InstanceScan) -> Result<bool> {
        let Some(carry) = instance.carry.take() else {
            let Some(unit) = instance.units.pop_front() else {
                return Ok(false);
            };
            self.load_events(instance, unit, None)?;
            return Ok(true);
        };
        let damaged = |e: Flaw| self.reader.damaged(&self.table.schema.name, &e);
        let times = event_times(&carry).map_err(damaged)?;
        let overlap = instance.units.front().map(|u| u.start_ns);
        let free = overlap.map_or(times.len(), |start| times.partition_point(|&t| t < start));
        if free > 0 {
            let batches = self
                .event_batches(&carry.slice(0, free), &instance.name)
                .map_err(damaged)?;
            if free < carry.num_rows() {
                instance.carry = Some(carry.slice(free, carry.num_rows() - free));
            }
            self.ready.extend(batches);
            return Ok(true);
        }
        match instance.units.pop_front() {
            Some(unit) => self.load_events(instance, unit, Some(carry))?,
            None => instance.carry = Some(carry),
        }
        Ok(true)
    }

    /// Two sorted runs as one. Their columns are already the answer's, whatever version they came from.
    fn merge(&self, a: RecordBatch, b: RecordBatch) -> std::result::Result<RecordBatch, Flaw> {
        sort_by_time(concat(&[a, b])?)
    }

    /// Adds a unit's events in the span to those that are carried: their time, then the answer's columns, sorted.
    fn load_events(&mut self, instance: &mut InstanceScan, unit: Unit, carry: Option<RecordBatch>) -> Result<()> {
        let start_ns = unit.start_ns;
        let Some(contents) = self.load(unit, instance.from_ns)? else {
            // What was carried is at or after the start, and read again.
            return self.list_anew(instance, start_ns);
        };
        let damaged = |e: Flaw| self.reader.damaged(&self.table.schema.name, &e);
        let runs = contents.iter().map(|content| self.with_time(&content.changes.rows));
        let runs = runs.collect::<std::result::Result<Vec<_>, _>>().map_err(damaged)?;
        instance.carry = carry;
        if runs.is_empty() {
            return Ok(());
        }
        let wanted = concat(&runs).and_then(sort_by_time).and_then(|rows| {
            let times = event_times(&rows)?;
            let from = times.partition_point(|&t| t < instance.from_ns);
            let end = times.partition_point(|&t| t <= self.to_ns);
            Ok(rows.slice(from, end.saturating_sub(from)))
        });
        let wanted = wanted.map_err(damaged)?;
        if wanted.num_rows() > 0 {
            instance.carry = Some(match instance.carry.take() {
                None => wanted,
                Some(carry) => self.merge(carry, wanted).map_err(damaged)?,
            });
        }
        Ok(())
    }

    /// Begins again at a time up to which everything has been answered, with the store as it is now.
    fn list_anew(&mut self, instance: &mut InstanceScan, from_ns: i64) -> Result<()> {
        let from_ns = from_ns.max(instance.from_ns);
        let series = (self.table.id, instance.id);
        let reader = &self.reader;
        let listed = instance.units.iter().filter(|u| matches!(u.source, Source::Block(_)));
        let listed = listed.count() as u64;
        let (units, blocks) = reader
            .env()
            .read(|txn, dbs| reader.units(txn, dbs, series, (from_ns, self.to_ns)))?;
        self.blocks_total = self.blocks_total.saturating_sub(listed) + blocks;
        instance.from_ns = from_ns;
        instance.units = units;
        instance.active.clear();
        instance.carry = None;
        Ok(())
    }

    /// The answer's columns behind the time, so that rows of several versions can be merged.
    fn with_time(&self, rows: &RecordBatch) -> std::result::Result<RecordBatch, Flaw> {
        let time = rows.columns().first().ok_or("rows without times")?.clone();
        let answer = self.projection.apply(rows, time.clone(), "")?;
        let mut fields = vec![self.table.history.field(0).clone()];
        fields.extend(self.projection.schema.fields().iter().map(|f| f.as_ref().clone()));
        let mut columns = vec![time];
        columns.extend(answer.columns().iter().cloned());
        RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).map_err(|e| e.to_string())
    }

    fn event_batches(&self, rows: &RecordBatch, instance: &str) -> std::result::Result<Vec<RecordBatch>, Flaw> {
        let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
        let batch = |start: usize| {
            let rows = rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start));
            self.projection.named(&rows, instance)
        };
        starts.map(batch).collect()
    }

    /// A unit's decoded blocks, none when it has nothing in the span; None when the unit is gone.
    fn load(&mut self, unit: Unit, from_ns: i64) -> Result<Option<Vec<Content>>> {
        match unit.source {
            Source::Head(samples) => {
                let sequence = samples.first().map_or(0, |(s, ..)| *s);
                let flaw = |e: Flaw| contents::head_flaw(self.reader.path(), sequence, &e);
                if self.table.is_state() {
                    let samples = samples.iter().map(|(_, e, p)| (e, p.as_slice()));
                    let run = head_run(&self.table, &self.projection, samples).map_err(flaw)?;
                    return Ok(Some(vec![run]));
                }
                let rows = samples.iter().map(|(_, entry, stored)| self.head_events(entry, stored));
                let rows = rows.collect::<std::result::Result<Vec<_>, _>>().map_err(flaw)?;
                let version = samples.first().map_or(0, |(_, e, _)| e.version);
                assemble::events(version, &rows).map_err(flaw).map(Some)
            }
            Source::Block(key) => {
                self.blocks_done += 1;
                self.fetch(&key, from_ns)
            }
        }
    }

    fn head_events(&self, entry: &Entry, stored: &[u8]) -> std::result::Result<RecordBatch, Flaw> {
        let version = self.table.version(entry.version)?;
        let wanted = self.projection.stored(version);
        Ok(assemble::decode(entry, stored, version, Some(&wanted))?.rows)
    }

    /// A block, nothing when it has nothing in the span; None when it is gone since it was listed.
    fn fetch(&self, key: &BlockKey, from_ns: i64) -> Result<Option<Vec<Content>>> {
        let reader = &self.reader;
        let damaged = |e: Flaw| reader.damaged(key, &e);
        let found = reader.env().read(|txn, dbs| {
            let block = match txn.get(dbs.block, &key.encode()) {
                Ok(block) => block,
                Err(lmdb::Error::NotFound) => return Ok(None),
                Err(e) => return Err(StoreError::lmdb(reader.path(), "read a block", e)),
            };
            let header = block::header(key, block).map_err(damaged)?;
            if header.last_ns < from_ns || header.first_ns > self.to_ns {
                return Ok(Some(None));
            }
            let payload = header.payload(block).map_err(damaged)?.to_vec();
            Ok(Some(Some((header, payload))))
        })?;
        let (header, payload) = match found {
            None => return Ok(None),
            Some(None) => return Ok(Some(Vec::new())),
            Some(Some(found)) => found,
        };
        let content = decode_block(&self.table, &self.projection, header, &payload);
        content.map(|content| Some(vec![content])).map_err(damaged)
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(batch) => batch.map(Ok),
            Err(e) => {
                // Nothing after an error: what would follow is not in order.
                self.instances.clear();
                self.ready.clear();
                Some(Err(e))
            }
        }
    }
}
