//! From queued samples to one head record in one transaction.
//!
//! Full samples become deltas against the picture that the writer keeps; a keyframe goes in every 20 samples and wherever
//! a block begins: at the first sample of a wall-clock minute, after a clock that was stepped back, after a failed commit,
//! after a change of the table's columns, and when a block would grow too large.

use crate::assemble::{batch_bytes, event_times};
use crate::bytes::Flaw;
use crate::error::{Result, StoreError};
use crate::head::{Builder, Entry, Kind, Place};
use crate::payload::{self, Changes};
use crate::picture::Picture;
use crate::schema::{self, Version};
use crate::series::Series;
use crate::types::*;
use crate::writer::{MINUTE_NS, Stream, Writer};
use crate::{bytes, run};
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use lmdb::WriteFlags;
use std::sync::Arc;
use vwatch_model::time::Stamp;

/// Most bytes of one sample.
const SAMPLE_LIMIT: usize = 256 << 20;
/// A block is closed when its rows come to so many bytes, or it has so many samples.
const RUN_BYTES: usize = 64 << 20;
const RUN_SAMPLES: u32 = 65_000;
/// A commit with more than this goes into several head records.
const RECORD_BYTES: usize = 256 << 20;
/// Commits between two looks for dead readers.
const READER_CHECK_EVERY: u64 = 60;

impl Writer {
    /// Queues a sample for the next commit.
    ///
    /// # Errors
    /// `Rows` when the batches do not fit the table's newest declaration, `NoPicture` for a delta without a picture before
    /// it, `TooLong`. A sample that is refused leaves what is queued as it was.
    pub fn push(&mut self, mut sample: Sample) -> Result<()> {
        let table = self
            .tables
            .get(&sample.table)
            .ok_or(StoreError::NoTable(sample.table.0))?
            .clone();
        let instance = self
            .instances
            .get(&sample.instance)
            .ok_or(StoreError::NoInstance(sample.instance.0))?;
        let version = table.newest();
        let rows_error = |what: Flaw| StoreError::Rows {
            table: table.schema.name.clone(),
            what,
        };
        sample.body = match sample.body {
            Body::Full(batch) if table.is_state() => Body::Full(fit(batch, &version.arrow).map_err(rows_error)?),
            Body::Delta { changed, gone } if table.is_state() => {
                if !self.has_picture(&sample.table, &sample.instance, version) {
                    return Err(StoreError::NoPicture {
                        table: table.schema.name.clone(),
                        instance: instance.name.clone(),
                    });
                }
                Body::Delta {
                    changed: fit(changed, &version.arrow).map_err(rows_error)?,
                    gone: fit(gone, &version.key_arrow).map_err(rows_error)?,
                }
            }
            Body::Events(batch) if !table.is_state() => Body::Events(fit(batch, &version.arrow).map_err(rows_error)?),
            Body::Events(_) => return Err(rows_error("events in a state table".into())),
            Body::Full(_) | Body::Delta { .. } => return Err(rows_error("a picture in an event table".into())),
        };
        let bytes = match &sample.body {
            Body::Full(batch) | Body::Events(batch) => batch_bytes(batch),
            Body::Delta { changed, gone } => batch_bytes(changed) + batch_bytes(gone),
        };
        if bytes > SAMPLE_LIMIT {
            return Err(StoreError::TooLong {
                what: format!("a sample of {}", table.schema.name),
                bytes,
                limit: SAMPLE_LIMIT,
            });
        }
        self.queued.push((sample, version.clone()));
        Ok(())
    }

    /// Whether a delta has something to be a delta of: the picture, or a full sample queued before it.
    fn has_picture(&self, table: &TableId, instance: &InstanceId, version: &Arc<Version>) -> bool {
        let kept = self.streams.get(&(*table, *instance)).and_then(|s| s.picture.as_ref());
        let queued = |(s, v): &(Sample, Arc<Version>)| {
            let same = s.table == *table && s.instance == *instance && v.number == version.number;
            same && matches!(s.body, Body::Full(_))
        };
        kept.is_some_and(|p| p.version().number == version.number) || self.queued.iter().any(queued)
    }

    /// Makes everything queued durable in one transaction, then seals the minutes that have ended.
    ///
    /// # Errors
    /// The transaction's. What was queued is dropped then (not declarations of tables and instances), the store is as it
    /// was, and the next sample of each table is a full picture. A failed sealing is no error: it is tried again.
    pub fn commit(&mut self, now: Stamp) -> Result<Committed> {
        let minute = now.wall_ns.div_euclid(MINUTE_NS);
        let first_of_minute = self.minute != Some(minute);
        if first_of_minute {
            self.begin_blocks();
        }
        let mut committed = match self.write_head(now) {
            Ok(committed) => committed,
            Err(e) => {
                self.stats.failed_commits += 1;
                self.maintenance.starved |= matches!(e, StoreError::Full { .. });
                // No variant of ours leaves LMDB's own state in doubt; any of LMDB's may.
                self.reopen = !matches!(e, StoreError::Rows { .. });
                self.begin_blocks();
                return Err(e);
            }
        };
        if let Some(sequence) = committed.sequence
            && first_of_minute
        {
            self.minute_sequence = sequence;
        }
        if committed.sequence.is_some() || self.stats.head_records > 0 {
            let over = committed.sequence.is_none() && first_of_minute;
            let limit = if over { self.next_sequence } else { self.minute_sequence };
            self.minute = Some(minute);
            if over {
                self.minute_sequence = self.next_sequence;
            }
            committed.blocks = self.seal_before(limit);
        }
        if committed.sequence.is_some() && self.stats.commits.is_multiple_of(READER_CHECK_EVERY) {
            self.clear_dead_readers();
            self.tell_long_readers(now);
        }
        Ok(committed)
    }

    fn write_head(&mut self, now: Stamp) -> Result<Committed> {
        let samples = std::mem::take(&mut self.queued);
        let durable = std::mem::take(&mut self.durable);
        let declared = !self.new_versions.is_empty() || !self.new_instances.is_empty();
        if samples.is_empty() && durable.is_empty() && !declared {
            return Ok(Committed::default());
        }
        self.usable()?;
        let mut committed = Committed::default();
        let mut builders = vec![Builder::default()];
        for (sample, version) in samples {
            let Some((entry, changes)) = self.encode(sample, &version)? else {
                continue;
            };
            let table = &self.tables[&entry.table];
            let packed = payload::pack(&mut self.packer, &changes).map_err(|what| StoreError::Rows {
                table: table.schema.name.clone(),
                what,
            })?;
            committed.samples += 1;
            committed.rows += u64::from(entry.rows);
            if builders.last().is_some_and(|b| b.payload_bytes() > RECORD_BYTES) {
                builders.push(Builder::default());
            }
            if let Some(builder) = builders.last_mut() {
                builder.push(entry, packed);
            }
        }
        let records: Vec<(u64, Vec<u8>)> = (self.next_sequence..)
            .zip(builders.into_iter().filter(|b| !b.is_empty()))
            .map(|(sequence, builder)| (sequence, builder.finish(&sequence.to_be_bytes(), now)))
            .collect();
        self.put(&records, &durable)?;
        self.accept(&records, now, &mut committed);
        Ok(committed)
    }

    /// The commit's transaction.
    fn put(&self, records: &[(u64, Vec<u8>)], durable: &crate::durable::Durable) -> Result<()> {
        let path = &self.path;
        let lmdb = |op: &'static str| move |e| StoreError::lmdb(path, op, e);
        self.env.write(["before-commit", "after-commit"], |txn, dbs| {
            for (id, version) in &self.new_versions {
                let (key, value) = schema::encode(*id, version).map_err(|e| StoreError::damaged(path, e))?;
                txn.put(dbs.schema, &key, &value, WriteFlags::empty())
                    .map_err(lmdb("write a table's declaration"))?;
            }
            for id in &self.new_instances {
                let key = id.0.to_be_bytes();
                let json =
                    serde_json::to_vec(&self.instances[id]).map_err(|e| StoreError::damaged(path, e.to_string()))?;
                txn.put(dbs.instance, &key, &bytes::checked(&key, &json), WriteFlags::empty())
                    .map_err(lmdb("write an instance"))?;
            }
            for ((table, instance), stream) in self.streams.iter().filter(|(_, s)| !s.stored) {
                let key = Series::key(*table, *instance);
                txn.put(dbs.series, &key, &stream.series.encode(&key), WriteFlags::empty())
                    .map_err(lmdb("write a series"))?;
            }
            if !self.run_stored {
                run::put_run(path, txn, dbs, &self.run)?;
            }
            durable.put(path, txn, dbs)?;
            for (sequence, record) in records {
                txn.put(dbs.head, &sequence.to_be_bytes(), record, WriteFlags::APPEND)
                    .map_err(lmdb("write a head record"))?;
            }
            Ok(())
        })
    }

    /// Takes note of a commit that succeeded.
    fn accept(&mut self, records: &[(u64, Vec<u8>)], now: Stamp, committed: &mut Committed) {
        self.run_stored = true;
        self.new_versions.clear();
        self.new_instances.clear();
        for stream in self.streams.values_mut() {
            stream.stored = true;
        }
        committed.sequence = records.first().map(|(s, _)| *s);
        committed.head_bytes = records.iter().map(|(_, r)| r.len() as u64).sum();
        self.next_sequence += records.len() as u64;
        self.stats.head_records += records.len() as u64;
        self.stats.commits += 1;
        self.run.last_commit = Some(now);
    }

    /// Turns a sample into a directory entry and its rows, and brings the picture forward. None for no events at all.
    fn encode(&mut self, sample: Sample, version: &Arc<Version>) -> Result<Option<(Entry, Changes)>> {
        let rows_error = |what: Flaw| StoreError::Rows {
            table: version.schema.name.clone(),
            what,
        };
        let mut entry = Entry {
            table: sample.table,
            instance: sample.instance,
            version: version.number,
            kind: Kind::Events,
            time_ns: sample.time_ns,
            last_ns: sample.time_ns,
            boot_ns: sample.boot_ns,
            interval_ns: sample.interval_ns,
            rows: 0,
            gone: 0,
            place: Place::default(),
        };
        if let Body::Events(batch) = &sample.body {
            let times = event_times(batch).map_err(rows_error)?;
            let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
                return Ok(None);
            };
            (entry.time_ns, entry.last_ns) = (*first, *last);
        }
        let stream = self
            .streams
            .entry((sample.table, sample.instance))
            .or_insert_with(|| Stream::new(Series::default(), false));
        let changes = match sample.body {
            Body::Events(batch) => Changes::events(batch),
            body => {
                let (kind, changes, duplicates) = stream
                    .state(body, version, sample.time_ns, self.keyframe_every)
                    .map_err(rows_error)?;
                self.stats.duplicate_keys += duplicates;
                entry.kind = kind;
                changes
            }
        };
        stream.widen(entry.time_ns, entry.last_ns);
        entry.rows = changes.rows.num_rows() as u32;
        entry.gone = changes.gone_at.len() as u32;
        Ok(Some((entry, changes)))
    }
}

impl Stream {
    /// Brings the picture forward by a sample, and decides in which form it is stored.
    fn state(
        &mut self,
        body: Body,
        version: &Arc<Version>,
        time_ns: i64,
        keyframe_every: u32,
    ) -> std::result::Result<(Kind, Changes, u64), Flaw> {
        // Out of its place while it is worked on: after an error it is not to be relied on.
        let before = self.picture.take().filter(|p| p.version().number == version.number);
        let same_version = before.is_some();
        let mut picture = match before {
            Some(picture) => picture,
            None => Picture::new(version.clone())?,
        };
        let change = match body {
            Body::Full(batch) | Body::Events(batch) => picture.full(batch)?,
            Body::Delta { changed, gone } => picture.delta(changed, &gone)?,
        };
        let fresh = self.fresh
            || !same_version
            || self.last_sample_ns.is_some_and(|last| time_ns <= last)
            || self.run_bytes > RUN_BYTES
            || self.run_samples >= RUN_SAMPLES;
        self.last_sample_ns = Some(time_ns);
        self.fresh = false;
        let (kind, changes) = if fresh {
            picture.renumber()?;
            let (rows, slot) = picture.all()?;
            self.run_bytes = 0;
            self.run_samples = 0;
            (
                Kind::Keyframe { fresh: true },
                keyframe(rows, slot, |_| true, Vec::new()),
            )
        } else if self.since_keyframe + 1 >= keyframe_every {
            let (rows, slot) = picture.all()?;
            let mut changed = change.slots;
            changed.sort_unstable();
            let is_changed = |slot: &u32| changed.binary_search(slot).is_ok();
            (
                Kind::Keyframe { fresh: false },
                keyframe(rows, slot, is_changed, change.gone),
            )
        } else {
            let at = vec![0; change.rows.num_rows()];
            (Kind::Delta, of_one_sample(change.rows, at, change.slots, change.gone))
        };
        self.since_keyframe = match kind {
            Kind::Keyframe { .. } => 0,
            Kind::Delta | Kind::Events => self.since_keyframe + 1,
        };
        self.picture = Some(picture);
        self.run_samples += 1;
        self.run_bytes += batch_bytes(&changes.rows);
        Ok((kind, changes, change.duplicates))
    }
}

fn keyframe(rows: RecordBatch, slot: Vec<u32>, changed: impl Fn(&u32) -> bool, gone: Vec<u32>) -> Changes {
    let at = slot.iter().map(|s| u32::from(changed(s))).collect();
    of_one_sample(rows, at, slot, gone)
}

fn of_one_sample(rows: RecordBatch, at: Vec<u32>, slot: Vec<u32>, gone: Vec<u32>) -> Changes {
    Changes {
        rows,
        at,
        slot,
        gone_at: vec![0; gone.len()],
        gone_slot: gone,
    }
}

/// The batch under the table's own schema, once its columns are found to be the table's.
fn fit(batch: RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, Flaw> {
    if batch.num_columns() != schema.fields().len() {
        let (got, due) = (batch.num_columns(), schema.fields().len());
        return Err(format!("{got} columns where {due} are declared"));
    }
    for (i, (column, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
        let name = batch.schema_ref().field(i).name();
        if name != field.name() {
            return Err(format!("its column {i} is {name} where {} is declared", field.name()));
        }
        if column.data_type() != field.data_type() {
            let (got, due) = (column.data_type(), field.data_type());
            return Err(format!("column {name} is {got} where {due} is declared"));
        }
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(format!(
                "column {name} has {} nulls and may have none",
                column.null_count()
            ));
        }
    }
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options).map_err(|e| e.to_string())
}
