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
use crate::columns::typed::Emitted;
use crate::damage::Damage;
use crate::error::{Result, StoreError};
use crate::fetch::{Fetched, Wanted};
use crate::head::Entry;
use crate::head_read::{self, HeadSample};
use crate::keys::BlockKey;
use crate::listing::{Source, Unit};
use crate::moving::Moving;
use crate::payload::Changes;
use crate::reader::{Reader, block_damage, head_run, take};
use crate::schema::{Projection, Table, time_array};
use crate::types::{Condition, InstanceId, ScanRequest};
use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use lmdb::Transaction;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Most rows of one batch.
const BATCH_ROWS: usize = 8192;

/// Batches of at most 8,192 rows in the layout of [`Scan::schema`].
#[derive(Debug)]
pub struct Scan {
    reader: Reader,
    table: Arc<Table>,
    projection: Projection,
    conditions: Vec<Condition>,
    to_ns: i64,
    blocks_total: u64,
    blocks_done: u64,
    instances: VecDeque<InstanceScan>,
    ready: VecDeque<RecordBatch>,
    /// Parts of the head that cannot be read and blocks that are lost, still to be told.
    damaged: VecDeque<Damage>,
    reached_ns: Option<i64>,
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
struct Active {
    run: StateRun,
    /// What to say if its rows turn out not to be readable.
    damage: Damage,
    order: u64,
    /// Times of its samples.
    times: Vec<i64>,
    /// Samples that are wanted.
    next: usize,
    end: usize,
}

/// A run of samples of a state table.
#[derive(Debug)]
enum StateRun {
    Head(Box<(Content, Replay)>),
    /// Its shards.
    Blocks(Vec<Moving>),
}

/// Rows of the answer's table, and the time of each.
type Timed = (RecordBatch, Vec<i64>);

impl Active {
    fn due(&self) -> (i64, u64) {
        (self.times[self.next], self.order)
    }

    /// The pictures of the next samples, while `free` says that they are next, of about a batch.
    fn pictures(&mut self, free: impl Fn((i64, u64)) -> bool) -> std::result::Result<Vec<Timed>, Flaw> {
        let more = |active: (i64, u64), rows: usize| rows < BATCH_ROWS && free(active);
        match &mut self.run {
            StateRun::Head(head) => {
                let (content, replay) = head.as_mut();
                let (mut rows, mut times) = (Vec::new(), Vec::new());
                while self.next < self.end && more((self.times[self.next], self.order), rows.len()) {
                    replay.advance(content, self.next);
                    rows.extend(replay.rows());
                    times.resize(rows.len(), self.times[self.next]);
                    self.next += 1;
                }
                Ok(vec![(take(&content.changes.rows, &UInt32Array::from(rows))?, times)])
            }
            StateRun::Blocks(shards) => {
                let Some(first) = shards.first() else {
                    self.next = self.end;
                    return Ok(Vec::new());
                };
                let capacity = BATCH_ROWS + first.count();
                let left = self.end - self.next;
                let begin = |shard: &Moving| shard.begin(capacity.min(shard.most(left)));
                let mut open: Vec<_> = shards.iter().map(|s| (begin(s), Vec::new())).collect();
                while self.next < self.end
                    && more(
                        (self.times[self.next], self.order),
                        open.iter().map(|(_, t)| t.len()).sum(),
                    )
                {
                    for (shard, (emitted, times)) in shards.iter_mut().zip(&mut open) {
                        shard.advance(self.next);
                        shard.emit(emitted);
                        times.resize(times.len() + shard.count(), self.times[self.next]);
                    }
                    self.next += 1;
                    if shards.len() > 1 {
                        // The shards' rows of one sample stand together.
                        break;
                    }
                }
                let batch = |(shard, (emitted, times)): (&Moving, (Vec<Emitted>, Vec<i64>))| {
                    Ok((shard.batch(emitted, times.len())?, times))
                };
                shards.iter().zip(open).map(batch).collect()
            }
        }
    }
}

impl Reader {
    /// Everything of a table with `from_ns <= time <= to_ns`.
    pub fn scan(&self, request: ScanRequest) -> Result<Scan> {
        let wanted: BTreeSet<InstanceId> = request.instances.iter().copied().collect();
        let mut blocks_total = 0;
        let mut damaged = BTreeMap::new();
        let mut lost = Vec::new();
        let (table, instances) = self.env().read(|txn, dbs| {
            let table = self.table(txn, dbs, request.table)?;
            let mut instances = VecDeque::new();
            for id in wanted {
                let name = self.instance_name(txn, dbs, id)?;
                let span = (request.from_ns, request.to_ns);
                let listed = self.units(txn, dbs, (request.table, id), span, &mut damaged)?;
                blocks_total += listed.blocks;
                lost.extend(listed.lost.map(|damage| Damage {
                    instance: Some(name.to_string()),
                    ..damage
                }));
                instances.push_back(InstanceScan {
                    id,
                    name,
                    from_ns: request.from_ns,
                    units: listed.units,
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
            conditions: request.conditions,
            to_ns: request.to_ns,
            blocks_total,
            blocks_done: 0,
            instances,
            ready: VecDeque::new(),
            damaged: lost
                .into_iter()
                .chain(damaged.into_values())
                .filter(|d| d.meets(request.from_ns, request.to_ns))
                .collect(),
            reached_ns: None,
        })
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

    /// Time of the newest row that the scan has come to in the instance that it reads now; for progress.
    pub fn reached_ns(&self) -> Option<i64> {
        self.reached_ns
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
                self.step_state(&mut instance)
            } else {
                self.step_events(&mut instance)
            };
            // A damaged part has been taken out of what is left to read, so that the next step goes on after it.
            if matches!(more, Ok(true) | Err(StoreError::DamagedPart { .. })) {
                self.instances.push_front(instance);
            }
            more?;
        }
    }

    /// Moves on by one batch of a state table; false at the end.
    fn step_state(&mut self, instance: &mut InstanceScan) -> Result<bool> {
        let due = |instance: &InstanceScan| instance.active.iter().map(Active::due).min();
        while let Some(unit) = instance.units.front()
            && due(instance).is_none_or(|(time, _)| unit.start_ns <= time)
        {
            let Some(unit) = instance.units.pop_front() else { break };
            let start_ns = unit.start_ns;
            match self.activate(unit, instance)? {
                Some(active) => instance.active.extend(active),
                None => self.list_anew(instance, start_ns)?,
            }
        }
        let Some(chosen) = (0..instance.active.len()).min_by_key(|&i| instance.active[i].due()) else {
            return Ok(!instance.units.is_empty());
        };
        let others = instance.active.iter().enumerate().filter(|(i, _)| *i != chosen);
        let other = others.map(|(_, a)| a.due()).min();
        let unit = instance.units.front().map(|u| u.start_ns);
        let block = &mut instance.active[chosen];
        let first = block.due();
        let free =
            |due: (i64, u64)| due == first || (other.is_none_or(|o| o > due) && unit.is_none_or(|start| start > due.0));
        let name = &instance.name;
        let made = block.pictures(free).and_then(|pictures| {
            let answer = |(rows, times)| self.projection.apply(&rows, time_array(times), name);
            pictures
                .into_iter()
                .map(answer)
                .collect::<std::result::Result<Vec<_>, _>>()
        });
        let made = match made {
            Ok(made) => made,
            Err(flaw) => {
                let block = instance.active.swap_remove(chosen);
                return Err(self.damaged_part(block.damage, name, flaw));
            }
        };
        self.reached_ns = Some(first.0);
        self.ready.extend(made.iter().flat_map(sliced));
        if block.next == block.end {
            instance.active.swap_remove(chosen);
        }
        Ok(true)
    }

    /// A unit's run, nothing when it has no samples in the span; None when the unit is gone.
    fn activate(&mut self, unit: Unit, instance: &InstanceScan) -> Result<Option<Option<Active>>> {
        let (from_ns, instance) = (instance.from_ns, &*instance.name);
        let order = unit.order;
        let (run, samples, damage) = match unit.source {
            Source::Head(samples) => {
                let damage = head_read::run_damage(&samples);
                let content = self.load_head(&samples, instance)?;
                let times = content.samples.clone();
                let replay = Replay::new(&content);
                (StateRun::Head(Box::new((content, replay))), times, damage)
            }
            Source::Block(key) => {
                let Some(fetched) = self.fetch(&key, from_ns, instance)? else {
                    return Ok(None);
                };
                let Some(header) = fetched.first().map(|f| &f.header) else {
                    return Ok(Some(None));
                };
                let samples = header.samples.clone();
                let last_ns = Some(header.last_ns);
                let shards = fetched.into_iter().map(|f| {
                    f.moving()
                        .map_err(|e| self.wanted(instance).damaged(self.reader.path(), &key, last_ns, e))
                });
                let shards = shards.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
                if shards.is_empty() {
                    return Ok(Some(None));
                }
                (
                    StateRun::Blocks(shards),
                    samples,
                    block_damage(&key, last_ns, Flaw::new()),
                )
            }
        };
        let next = samples.partition_point(|s| s.time_ns < from_ns);
        let end = samples.partition_point(|s| s.time_ns <= self.to_ns);
        Ok(Some((next < end).then(|| Active {
            run,
            damage,
            order,
            times: samples.iter().map(|s| s.time_ns).collect(),
            next,
            end,
        })))
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
            self.reached_ns = Some(times[free - 1]);
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
        // After damage it goes on with what was carried.
        instance.carry = carry;
        let Some(contents) = self.load(unit, instance)? else {
            // What was carried is at or after the start, and read again.
            return self.list_anew(instance, start_ns);
        };
        let damaged = |e: Flaw| self.reader.damaged(&self.table.schema.name, &e);
        let runs = contents.iter().map(|content| self.with_time(&content.changes.rows));
        let runs = runs.collect::<std::result::Result<Vec<_>, _>>().map_err(damaged)?;
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
        // Damage in the head, and blocks that are lost, were found by the first listing.
        let mut damaged = BTreeMap::new();
        let span = (from_ns, self.to_ns);
        let anew = reader
            .env()
            .read(|txn, dbs| reader.units(txn, dbs, series, span, &mut damaged))?;
        self.blocks_total = self.blocks_total.saturating_sub(listed) + anew.blocks;
        instance.from_ns = from_ns;
        instance.units = anew.units;
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

    /// A unit's decoded events, none when it has nothing in the span; None when the unit is gone.
    fn load(&mut self, unit: Unit, instance: &InstanceScan) -> Result<Option<Vec<Content>>> {
        let (from_ns, instance) = (instance.from_ns, &*instance.name);
        match unit.source {
            Source::Head(samples) => {
                let flaw = |e: Flaw| self.damaged_part(head_read::run_damage(&samples), instance, e);
                let rows = samples.iter().map(|(_, entry, stored)| self.head_events(entry, stored));
                let rows = rows.collect::<std::result::Result<Vec<_>, _>>().map_err(flaw)?;
                let rows = concat(&rows).and_then(sort_by_time).map_err(flaw)?;
                let content = (rows.num_rows() > 0).then(|| Content::events(Changes::events(rows)));
                Ok(Some(content.into_iter().collect()))
            }
            Source::Block(key) => {
                let Some(fetched) = self.fetch(&key, from_ns, instance)? else {
                    return Ok(None);
                };
                let last_ns = fetched.first().map(|f| f.header.last_ns);
                let decode = |f: Fetched| {
                    let Fetched {
                        header,
                        mut parts,
                        version,
                        wanted,
                        ..
                    } = f;
                    block::events(header, &mut parts, &version, &wanted)
                };
                let blocks = fetched.into_iter().map(decode);
                blocks
                    .collect::<std::result::Result<_, _>>()
                    .map(Some)
                    .map_err(|e| self.wanted(instance).damaged(self.reader.path(), &key, last_ns, e))
            }
        }
    }

    fn load_head(&self, samples: &[HeadSample], instance: &str) -> Result<Content> {
        let content = head_run(
            &self.table,
            &self.projection,
            samples.iter().map(|(_, e, p)| (e, p.as_slice())),
        );
        content.map_err(|e| self.damaged_part(head_read::run_damage(samples), instance, e))
    }

    fn head_events(&self, entry: &Entry, stored: &[u8]) -> std::result::Result<RecordBatch, Flaw> {
        let version = self.table.version(entry.version)?;
        let wanted = self.projection.stored(version);
        Ok(assemble::decode(entry, stored, version, Some(&wanted))?.rows)
    }

    /// The blocks of a run, none when it has nothing that is wanted; None when it is gone since it was listed.
    fn fetch(&mut self, key: &BlockKey, from_ns: i64, instance: &str) -> Result<Option<Vec<Fetched>>> {
        self.blocks_done += 1;
        let reader = &self.reader;
        let wanted = self.wanted(instance);
        reader.env().read(|txn, dbs| {
            let block = match txn.get(dbs.block, &key.encode()) {
                Ok(block) => block,
                Err(lmdb::Error::NotFound) => return Ok(None),
                Err(e) => return Err(StoreError::lmdb(reader.path(), "read a block", e)),
            };
            let header = block::header(key, block).map_err(|e| wanted.damaged(reader.path(), key, None, e))?;
            if header.last_ns < from_ns || header.first_ns > self.to_ns {
                return Ok(Some(Vec::new()));
            }
            reader.fetch_run(txn, dbs, wanted, (key, header, block)).map(Some)
        })
    }

    fn wanted<'a>(&'a self, instance: &'a str) -> Wanted<'a> {
        Wanted {
            table: &self.table,
            projection: &self.projection,
            conditions: &self.conditions,
            instance,
        }
    }

    fn damaged_part(&self, damage: Damage, instance: &str, flaw: Flaw) -> StoreError {
        let named = Damage {
            table: Some(self.table.schema.name.clone()),
            instance: Some(instance.to_owned()),
            flaw,
            ..damage
        };
        named.error(self.reader.path())
    }
}

/// A batch in parts of at most [`BATCH_ROWS`].
fn sliced(batch: &RecordBatch) -> Vec<RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
    starts
        .map(|s| batch.slice(s, BATCH_ROWS.min(batch.num_rows() - s)))
        .collect()
}

/// After [`StoreError::DamagedPart`] the scan goes on with what can be read; any other error is its end.
impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(damage) = self.damaged.pop_front() {
            return Some(Err(Damage {
                table: Some(self.table.schema.name.clone()),
                ..damage
            }
            .error(self.reader.path())));
        }
        match self.step() {
            Ok(batch) => batch.map(Ok),
            Err(e @ StoreError::DamagedPart { .. }) => Some(Err(e)),
            Err(e) => {
                // Nothing after such an error: what would follow is not in order.
                self.instances.clear();
                self.ready.clear();
                Some(Err(e))
            }
        }
    }
}
