//! The rows of one scan, read from the store as the engine asks for them.
//!
//! Memory: one block at a time, handed on in slices of [`SLICE_ROWS`]. The store's transactions are short; none is held while
//! the engine or the client is slow. Reading is synchronous, so the stream gives way to the runtime after
//! [`TURN`] of it: progress is told and limits are kept meanwhile.
//!
//! **Invariant:** rows of tables that answer only the owner of a row are filtered here, on what the store hands over, before
//! anything else of the query can see them.

use crate::bounds::Span;
use crate::error::SqlError;
use crate::picture::{self, Missing};
use crate::rates::{Plan, Rates};
use crate::snapshot::{Asker, Snapshot};
use crate::table::stored_columns;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt32Type};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::filter::filter_record_batch;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vwatch_model::Access;
use vwatch_model::table::OWNER_UID;
use vwatch_store::{Condition, InstanceEntry, Scan, ScanRequest, StoreError, TableEntry};

const SLICE_ROWS: usize = 8192;
const TURN: Duration = Duration::from_millis(20);

/// What a scan reads.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Pictures { at_ns: i64 },
    Samples(Span),
}

/// One scan, not yet begun.
#[derive(Debug)]
pub struct StoredRows {
    snapshot: Arc<Snapshot>,
    table: Arc<TableEntry>,
    instances: Arc<[InstanceEntry]>,
    source: Source,
    conditions: Vec<Condition>,
    rates: Option<Arc<Plan>>,
    schema: SchemaRef,
}

impl StoredRows {
    /// `schema` is what the scan yields: the columns of the table that the query needs.
    pub fn new(
        snapshot: Arc<Snapshot>,
        table: Arc<TableEntry>,
        instances: Vec<InstanceEntry>,
        source: Source,
        schema: SchemaRef,
    ) -> StoredRows {
        StoredRows {
            snapshot,
            table,
            instances: instances.into(),
            source,
            conditions: Vec::new(),
            rates: None,
            schema,
        }
    }

    /// Rates instead of counters. `schema` is the plan's output then.
    pub fn rated(mut self, plan: Option<Plan>) -> StoredRows {
        self.rates = plan.map(Arc::new);
        self
    }

    /// What every wanted row fulfils; the engine filters again.
    pub fn fulfilling(mut self, conditions: Vec<Condition>) -> StoredRows {
        self.conditions = conditions;
        self
    }
}

impl PartitionStream for StoredRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let restricted = self.table.schema.access == Access::Owner;
        let owner = match self.snapshot.asker {
            Asker::User(uid) if restricted => Some(uid),
            _ => None,
        };
        let stored = self.rates.as_ref().map_or(&self.schema, |plan| &plan.input);
        let reading = Reading {
            snapshot: self.snapshot.clone(),
            table: self.table.clone(),
            instances: self.instances.clone(),
            source: self.source,
            conditions: self.conditions.clone(),
            columns: stored_columns(stored, owner.map(|_| OWNER_UID)),
            schema: stored.clone(),
            plan: self.rates.clone(),
            rates: None,
            owner,
            next_instance: 0,
            found: false,
            missing: Vec::new(),
            scan: None,
            block: None,
        };
        let rows = stream::try_unfold((reading, Instant::now()), |(mut reading, mut turn)| async move {
            if turn.elapsed() > TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
            let batch = reading.next()?;
            Ok(batch.map(|batch| (batch, (reading, turn))))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

struct Reading {
    snapshot: Arc<Snapshot>,
    table: Arc<TableEntry>,
    instances: Arc<[InstanceEntry]>,
    source: Source,
    conditions: Vec<Condition>,
    columns: Vec<String>,
    /// What is read, before rates are worked out.
    schema: SchemaRef,
    plan: Option<Arc<Plan>>,
    /// Rates of the instance that is being read.
    rates: Option<Rates>,
    /// Only rows of this user.
    owner: Option<u32>,
    next_instance: usize,
    /// An instance had a picture.
    found: bool,
    missing: Vec<(usize, Missing)>,
    scan: Option<Scan>,
    /// What is left of the block being handed on.
    block: Option<RecordBatch>,
}

impl Reading {
    fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            if let Some(block) = self.block.take() {
                let rows = block.num_rows();
                if rows > SLICE_ROWS {
                    self.block = Some(block.slice(SLICE_ROWS, rows - SLICE_ROWS));
                }
                return Ok(Some(block.slice(0, rows.min(SLICE_ROWS))));
            }
            let stored = match self.source {
                Source::Pictures { at_ns } => self.next_picture(at_ns)?,
                Source::Samples(span) => self.next_block(span)?,
            };
            let Some(stored) = stored else { return Ok(None) };
            let mut shown = self.shown(&stored).map_err(SqlError::Rows)?;
            self.snapshot.meter.rows_read(shown.num_rows());
            if let Some(rates) = &mut self.rates {
                shown = rates.of(&shown).map_err(SqlError::Rows)?;
            }
            if shown.num_rows() > 0 {
                self.block = Some(shown);
            }
        }
    }

    fn next_picture(&mut self, at_ns: i64) -> Result<Option<RecordBatch>, SqlError> {
        while let Some(instance) = self.instances.get(self.next_instance) {
            let number = self.next_instance;
            self.next_instance += 1;
            match picture::read(&self.snapshot, &self.table, instance, at_ns, &self.columns)? {
                Ok(picture) => {
                    self.found = true;
                    self.snapshot.meter.blocks_read(1);
                    self.begin_rates(number, picture.time_ns, picture.time_ns)?;
                    return Ok(Some(picture.rows));
                }
                Err(missing) => self.missing.push((number, missing)),
            }
        }
        self.tell_missing(at_ns);
        Ok(None)
    }

    /// Tells why there is no picture. An instance that was removed or is just not there any more is no loss as long as
    /// another has the table; a gap of one that should be there is.
    fn tell_missing(&mut self, at_ns: i64) {
        const TOLD: usize = 5;
        let table = &self.table.schema.name;
        if self.instances.is_empty() && self.table.last_ns.is_none() {
            let reason = format!("nothing has been recorded of {table} yet");
            self.snapshot.meter.missing(table, reason);
        }
        let loss = |missing: &Missing| match missing {
            Missing::Gap(gap) => gap.cause != "removed",
            Missing::Damaged(_) => true,
            Missing::NotYet { .. } | Missing::Expired { .. } => false,
        };
        for (number, missing) in self
            .missing
            .drain(..)
            .filter(|(_, m)| !self.found || loss(m))
            .take(TOLD)
        {
            let instance = &self.instances[number].info.name;
            let reason = picture::reason(&self.snapshot, table, instance, at_ns, &missing);
            self.snapshot.meter.missing(table, reason);
        }
    }

    fn next_block(&mut self, span: Span) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            if let Some(scan) = &mut self.scan {
                let before = scan.blocks_done();
                let batch = scan.next().transpose();
                let meter = &self.snapshot.meter;
                meter.blocks_read(scan.blocks_done() - before);
                if let Some(reached) = scan.reached_ns() {
                    meter.reached(reached);
                }
                match batch {
                    Ok(Some(batch)) => return Ok(Some(batch)),
                    Ok(None) => self.scan = None,
                    // The scan goes on after a part that is damaged.
                    Err(StoreError::DamagedPart { damage, .. }) => {
                        let reason = self.snapshot.damage_in_words(&damage);
                        meter.missing(&self.table.schema.name, reason);
                        continue;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            let number = self.next_instance;
            if span.from_ns > span.to_ns || number >= self.instances.len() {
                return Ok(None);
            }
            // Rates are worked out of one instance at a time.
            self.next_instance = if self.plan.is_some() {
                number + 1
            } else {
                self.instances.len()
            };
            let to_ns = self.begin_rates(number, span.from_ns, span.to_ns)?;
            let scan = self.snapshot.reader.scan(ScanRequest {
                table: self.table.id,
                instances: self.instances[number..self.next_instance]
                    .iter()
                    .map(|i| i.id)
                    .collect(),
                from_ns: span.from_ns,
                to_ns,
                columns: Some(self.columns.clone()),
                conditions: self.conditions.clone(),
            })?;
            self.snapshot.meter.expect_blocks(scan.blocks_total());
            self.scan = Some(scan);
        }
    }

    /// Makes ready for the rates of the samples of an instance in a span: reads the one before. Answers where the span ends
    /// whose samples are known; a recorder goes on meanwhile.
    fn begin_rates(&mut self, number: usize, from_ns: i64, to_ns: i64) -> Result<i64, SqlError> {
        let Some(plan) = &self.plan else {
            return Ok(to_ns);
        };
        let (table, instance) = (self.table.id, self.instances[number].id);
        let before = match from_ns.checked_sub(1) {
            Some(before_ns) => match self.snapshot.picture(table, instance, before_ns, &self.columns) {
                // Without the sample before, the first rates are not known.
                Err(SqlError::Store(StoreError::DamagedPart { .. })) => None,
                picture => picture?,
            },
            None => None,
        };
        let first_ns = before.as_ref().map_or(from_ns, |picture| picture.time_ns);
        let stamps = self.snapshot.reader.stamps(table, instance, first_ns, to_ns)?;
        let last_ns = stamps.last().map_or(to_ns, |stamp| stamp.wall_ns);
        let mut rates = Rates::new(plan.clone(), stamps).map_err(SqlError::Rows)?;
        if let Some(picture) = before {
            let shown = self.shown(&picture.rows).map_err(SqlError::Rows)?;
            self.snapshot.meter.rows_read(shown.num_rows());
            rates.of(&shown).map_err(SqlError::Rows)?;
        }
        self.rates = Some(rates);
        Ok(last_ns)
    }

    /// The asker's rows of a stored batch, in the layout that the query sees.
    fn shown(&self, stored: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let own = match self.owner {
            Some(uid) => filter_record_batch(stored, &rows_of(stored, uid)?)?,
            None => stored.clone(),
        };
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match own.column_by_name(field.name()) {
                Some(column) => Ok(in_zone(column, field.data_type())),
                None => Err(ArrowError::SchemaError(format!("column {} is missing", field.name()))),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(own.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

/// Rows whose `owner_uid` is `uid`. A batch without the column has none.
fn rows_of(stored: &RecordBatch, uid: u32) -> Result<BooleanArray, ArrowError> {
    let owners = stored
        .column_by_name(OWNER_UID)
        .and_then(|c| c.as_primitive_opt::<UInt32Type>())
        .ok_or_else(|| ArrowError::SchemaError(format!("column {OWNER_UID} is missing")))?;
    Ok(owners.iter().map(|owner| Some(owner == Some(uid))).collect())
}

/// The same moments, labelled with another zone.
fn in_zone(column: &ArrayRef, shown: &DataType) -> ArrayRef {
    match (shown, column.as_primitive_opt::<TimestampNanosecondType>()) {
        (DataType::Timestamp(_, zone), Some(times)) => Arc::new(times.clone().with_timezone_opt(zone.clone())),
        _ => column.clone(),
    }
}
