//! `table FOR SYSTEM_TIME AS OF moment`: the planner hook that gives the clause its meaning.
//!
//! The engine parses the clause and drops it; this hook sees every table reference before the engine does. **Invariant:** a
//! reference with a version either becomes a scan at that moment or an error; none is handed on.

use crate::error::{SqlError, kind};
use crate::moments::Moments;
use crate::session::started_at;
use crate::snapshot::Snapshot;
use crate::statement::place_of;
use crate::table::StoredTable;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ObjectName, TableFactor, TableVersion};
use std::sync::Arc;

const FORMS: &str =
    "write a time as text: '10:42', 'yesterday 10:42', '2026-01-02 10:42:07', '-5m'; or now() - interval '5 minutes'";

#[derive(Debug)]
pub struct AsOf {
    pub snapshot: Arc<Snapshot>,
    pub sql: Arc<str>,
}

impl RelationPlanner for AsOf {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table {
            name,
            alias,
            args,
            version: Some(version),
            with_hints,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let TableVersion::ForSystemTimeAsOf(moment) = version else {
            let refused = SqlError::refused(kind::UNSUPPORTED, format!("{version} is not supported"));
            return Err(refused.hint(FORMS).at(place_of(&self.sql, &name.to_string())).into());
        };
        if args.is_some() {
            return Err(self.no_versions(&name, "it is a function").into());
        }
        let unversioned = context.plan(TableFactor::Table {
            name: name.clone(),
            alias: None,
            args,
            version: None,
            with_hints,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        })?;
        let at_ns = self.moment(moment, context)?;
        let plan = self.scan_at(&name, &unversioned, at_ns)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl AsOf {
    /// The scan of the same table at another moment.
    fn scan_at(&self, name: &ObjectName, unversioned: &LogicalPlan, at_ns: i64) -> Result<LogicalPlan> {
        let LogicalPlan::TableScan(scan) = unversioned else {
            return Err(self.no_versions(name, "it is a query of this statement").into());
        };
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<StoredTable>() else {
            return Err(self.no_versions(name, "it does not come from the store").into());
        };
        let Some(versioned) = table.at(at_ns) else {
            let why = "it is no picture of a moment, each of its rows has its own time";
            let hint = format!("write WHERE time <= '…' on {name}");
            return Err(self.no_versions(name, why).hint(hint).into());
        };
        let source = provider_as_source(Arc::new(versioned));
        LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?.build()
    }

    fn no_versions(&self, name: &ObjectName, why: &str) -> SqlError {
        let message = format!("{name} cannot be read FOR SYSTEM_TIME AS OF: {why}");
        SqlError::refused(kind::UNSUPPORTED, message)
            .hint("state tables have a state at each time; see vw_tables")
            .at(place_of(&self.sql, &name.to_string()))
    }

    /// What the constant after AS OF means, in nanoseconds since the epoch.
    fn moment(&self, expr: SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
        let written = expr.to_string();
        let moments = Moments {
            zone: &self.snapshot.zone,
            now_ns: self.snapshot.now_ns,
            sql: &self.sql,
        };
        let refused = |why: &str| {
            let message = format!("{written} is not a time to read a table at: {why}");
            SqlError::refused(kind::REQUEST, message)
                .hint(FORMS)
                .at(place_of(&self.sql, "SYSTEM_TIME"))
        };
        let schema = DFSchema::empty();
        let expr = context
            .sql_to_expr(expr, &schema)
            .map_err(|_| refused("it has to be a constant"))?;
        let expr = moments.rewrite_constant(expr)?;
        let provider = context.context_provider();
        let simplifier = ExprSimplifier::new(
            SimplifyContext::builder()
                .with_config_options(Arc::new(provider.options().clone()))
                .with_query_execution_start_time(started_at(self.snapshot.now_ns).query_execution_start_time)
                .build(),
        );
        let constant = simplifier
            .coerce(expr, &schema)
            .and_then(|e| simplifier.simplify(e))
            .map_err(|_| refused("it cannot be worked out"))?;
        let Expr::Literal(value, _) = constant else {
            return Err(refused("it has to be a constant").into());
        };
        let whole = |count: Option<i64>, unit: i64| count.and_then(|c| c.checked_mul(unit));
        let (ns, zoned) = match &value {
            ScalarValue::Utf8(Some(t)) | ScalarValue::Utf8View(Some(t)) | ScalarValue::LargeUtf8(Some(t)) => {
                return Ok(moments.read(t)?);
            }
            ScalarValue::TimestampNanosecond(v, zone) => (*v, zone.is_some()),
            ScalarValue::TimestampMicrosecond(v, zone) => (whole(*v, 1_000), zone.is_some()),
            ScalarValue::TimestampMillisecond(v, zone) => (whole(*v, 1_000_000), zone.is_some()),
            ScalarValue::TimestampSecond(v, zone) => (whole(*v, 1_000_000_000), zone.is_some()),
            ScalarValue::Date32(v) => (whole(v.map(i64::from), 86_400_000_000_000), false),
            value if value.is_null() => return Err(refused("it is NULL").into()),
            value if value.data_type().is_numeric() => {
                return Err(
                    refused("a bare number has no unit; seconds since the epoch are written '@1714559400'").into(),
                );
            }
            other => return Err(refused(&format!("it is of type {}", other.data_type())).into()),
        };
        let ns = match zoned {
            true => ns,
            false => ns.and_then(|civil| self.snapshot.zone.moment_of_clock(civil)),
        };
        ns.ok_or_else(|| refused("it is outside the times that can be stored").into())
    }
}
