//! A table of the store as the engine sees it: the picture at a moment, or every row with its time.
//!
//! Columns are `time`, `instance`, then the declared ones; timestamps carry the request's zone. What the engine may push
//! into a scan: the columns it needs, conditions on `instance` alone (decided exactly, over the names), and of a history bounds
//! on `time` and on stored columns (the engine filters the rows again). A scan of one instance comes in the order of time, and
//! says so, which saves a sort.

use crate::bounds::{self, Span};
use crate::conditions;
use crate::error::{SqlError, kind};
use crate::rate_columns::{Layout, Origin, RateColumn};
use crate::rates::Plan;
use crate::snapshot::Snapshot;
use crate::stream::{Source, StoredRows};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::StreamingTableExec;
use std::sync::Arc;
use vwatch_model::TableKind;
use vwatch_model::table::{INSTANCE, TIME};
use vwatch_store::{Condition, InstanceEntry, TableEntry};

/// What is read of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A state table as of a moment.
    Picture { at_ns: i64 },
    /// Every sample of a state table, every row of an event table.
    History,
}

#[derive(Debug, Clone)]
pub struct StoredTable {
    snapshot: Arc<Snapshot>,
    entry: Arc<TableEntry>,
    view: View,
    /// Rates instead of counters.
    rates: Option<Arc<Layout>>,
    /// A condition of the query mentions `instance`.
    open: bool,
    schema: SchemaRef,
}

impl StoredTable {
    pub fn new(snapshot: Arc<Snapshot>, entry: Arc<TableEntry>, view: View) -> StoredTable {
        let schema = shown(&entry.history_schema(), &snapshot.zone.timestamp());
        StoredTable {
            snapshot,
            entry,
            view,
            rates: None,
            open: false,
            schema,
        }
    }

    /// The table's rate view.
    pub fn rated(self, layout: Layout) -> StoredTable {
        StoredTable {
            schema: shown(&layout.schema, &self.snapshot.zone.timestamp()),
            rates: Some(Arc::new(layout)),
            ..self
        }
    }

    /// The same table as of another moment; None where there are no pictures.
    pub fn at(&self, at_ns: i64) -> Option<StoredTable> {
        matches!(self.view, View::Picture { .. }).then(|| StoredTable {
            view: View::Picture { at_ns },
            ..self.clone()
        })
    }

    /// The same table with every instance, to be filtered.
    pub fn all_instances(mut self) -> StoredTable {
        self.open = true;
        self
    }

    /// The instances that a scan under these filters reads.
    fn instances(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<InstanceEntry>> {
        if self.open {
            let all = self.snapshot.instances(self.entry.id);
            let kept = matching(state, &all, filters)?;
            return Ok(all
                .into_iter()
                .zip(kept)
                .filter(|(_, k)| *k)
                .map(|(i, _)| i.clone())
                .collect());
        }
        if let Some(instances) = self.snapshot.default_instances(&self.entry) {
            return Ok(instances.into_iter().cloned().collect());
        }
        let all = self.snapshot.instances(self.entry.id);
        let names: Vec<&str> = all.iter().map(|i| i.info.name.as_str()).collect();
        let table = &self.entry.schema.name;
        let reason = format!(
            "{table} has no default instance; choose with WHERE instance = '…': {}",
            names.join(", ")
        );
        self.snapshot.meter.missing(table, reason);
        Ok(Vec::new())
    }

    /// What the store may leave out. A rate needs the row before, so there only what is true of both: the keys.
    fn conditions<'a>(&self, filters: impl IntoIterator<Item = &'a Expr>) -> Vec<Condition> {
        let table = &self.entry.schema;
        let mut conditions = conditions::of(filters, table);
        if self.rates.is_some() {
            conditions.retain(|c| table.key_columns().any(|key| key.name == c.column));
        }
        conditions
    }

    /// How the rates of a query's columns are worked out; None where it wants none.
    fn plan(&self, schema: &SchemaRef) -> Result<Option<Plan>> {
        let Some(layout) = &self.rates else { return Ok(None) };
        let stored = shown(&self.entry.history_schema(), &self.snapshot.zone.timestamp());
        let computed = |c: &RateColumn| c.from != Origin::Stored && schema.field_with_name(&c.column.name).is_ok();
        if !layout.columns.iter().any(computed) {
            return Ok(None);
        }
        Ok(Some(Plan::new(layout, &self.entry.schema, schema.clone(), &stored)?))
    }

    fn source(&self, filters: &[Expr]) -> Source {
        match self.view {
            View::Picture { at_ns } => Source::Pictures { at_ns },
            View::History => {
                let asked = Span {
                    from_ns: self.snapshot.from_ns,
                    to_ns: self.snapshot.to_ns,
                };
                Source::Samples(asked.and(bounds::of(filters, &self.snapshot.zone)))
            }
        }
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let instances = self.instances(state, filters)?;
        let order = (instances.len() <= 1).then(|| by_time(&schema)).flatten();
        let rows = StoredRows::new(
            self.snapshot.clone(),
            self.entry.clone(),
            instances,
            self.source(filters),
            schema.clone(),
        )
        .fulfilling(self.conditions(filters))
        .rated(self.plan(&schema)?);
        let plan = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, order, false, limit)?;
        Ok(Arc::new(plan))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &Expr| {
            if self.open && about_instance(filter) {
                return TableProviderFilterPushDown::Exact;
            }
            let bounded =
                bounds::of_one(filter, &self.snapshot.zone).is_some() || !self.conditions([filter]).is_empty();
            match bounded && self.view == View::History {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            }
        };
        Ok(filters.iter().map(|f| support(f)).collect())
    }
}

/// The stored schema as it is answered: timestamps in the request's zone.
fn shown(stored: &Schema, timestamp: &DataType) -> SchemaRef {
    let shown = |field: &Field| match field.data_type() {
        DataType::Timestamp(..) => field.clone().with_data_type(timestamp.clone()),
        _ => field.clone(),
    };
    Arc::new(Schema::new(
        stored.fields().iter().map(|f| shown(f)).collect::<Vec<_>>(),
    ))
}

/// The order of a scan of one instance, where it has the time at all.
fn by_time(schema: &Schema) -> Option<LexOrdering> {
    let time = PhysicalColumn::new_with_schema(TIME, schema).ok()?;
    LexOrdering::new([PhysicalSortExpr::new_default(Arc::new(time)).asc().nulls_last()])
}

/// A condition whose only column is `instance`.
fn about_instance(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|c| c.name == INSTANCE) && !filter.is_volatile()
}

/// For each instance whether the conditions on `instance` alone accept its name.
fn matching(state: &dyn Session, all: &[&InstanceEntry], filters: &[Expr]) -> Result<Vec<bool>> {
    let schema = Schema::new(vec![Field::new(INSTANCE, DataType::Utf8, false)]);
    let named = DFSchema::try_from(schema.clone())?;
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|i| &*i.info.name)));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![names])?;
    let mut kept = vec![true; all.len()];
    for filter in filters.iter().filter(|f| about_instance(f)) {
        let accepted = state
            .create_physical_expr(filter.clone(), &named)?
            .evaluate(&batch)?
            .into_array(all.len())?;
        let Some(accepted) = accepted.as_boolean_opt() else {
            let message = format!("{filter} is not a condition");
            return Err(SqlError::refused(kind::REQUEST, message).into());
        };
        for (row, keep) in kept.iter_mut().enumerate() {
            *keep &= accepted.is_valid(row) && accepted.value(row);
        }
    }
    Ok(kept)
}

/// Names that the store is asked for: those of the answer, and `time` where the answer needs none, so that rows are counted.
pub fn stored_columns(schema: &Schema, owner: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    if let Some(owner) = owner
        && !names.iter().any(|n| n == owner)
    {
        names.push(owner.to_owned());
    }
    if names.is_empty() {
        names.push(TIME.to_owned());
    }
    names
}

/// Whether the table's history is another table, `T_history`.
pub fn has_history(entry: &TableEntry) -> bool {
    entry.schema.kind == TableKind::State
}
