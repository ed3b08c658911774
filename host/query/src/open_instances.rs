//! Which reads of a table are filtered on `instance`, and so open all of its instances.
//!
//! A table reads its default instance unless a condition of the query speaks of its `instance`. That is decided on the plan
//! as it was written, before the optimizer moves conditions about: what a query means must not depend on whether a
//! condition can be pushed into a scan (`instance IN (SELECT …)`, one side of an outer join). Each column of a condition is
//! traced down through renames to the scan it comes from. An equality of two tables' instances (`a.instance = b.instance`)
//! filters neither.

use crate::table::StoredTable;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use std::collections::BTreeSet;
use std::sync::Arc;
use vwatch_model::table::INSTANCE;

/// Positions in a node's output.
type Fields = BTreeSet<usize>;

/// Opens all instances of the scans whose `instance` a condition mentions.
pub fn mark(plan: LogicalPlan) -> Result<LogicalPlan> {
    mark_node(plan, &Fields::new()).map(|t| t.data)
}

/// `wanted`: the outputs of `plan` that conditions above it mention.
#[recursive::recursive]
fn mark_node(plan: LogicalPlan, wanted: &Fields) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::TableScan(mut scan) = plan {
        let mentioned = wanted.iter().any(|&i| {
            scan.projected_schema
                .fields()
                .get(i)
                .is_some_and(|f| f.name() == INSTANCE)
        });
        if mentioned && let Some(table) = source_as_provider(&scan.source)?.downcast_ref::<StoredTable>() {
            scan.source = provider_as_source(Arc::new(table.clone().all_instances()));
        }
        return Ok(Transformed::yes(LogicalPlan::TableScan(scan)));
    }
    let mut below = below(&plan, wanted);
    below.reverse();
    let plan = plan
        .map_children(|child| mark_node(child, &below.pop().unwrap_or_default()))?
        .data;
    plan.map_subqueries(|subquery| mark_node(subquery, &Fields::new()))
}

/// For each input of `plan`, the outputs of it that `wanted` and the plan's own conditions come from.
fn below(plan: &LogicalPlan, wanted: &Fields) -> Vec<Fields> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let mut fields = wanted.clone();
            fields.extend(mentioned(&filter.predicate, &filter.input));
            vec![fields]
        }
        LogicalPlan::Projection(projection) => {
            let of = wanted.iter().filter_map(|&i| projection.expr.get(i));
            vec![of.flat_map(|e| columns(e, projection.input.schema())).collect()]
        }
        LogicalPlan::Aggregate(aggregate) => {
            let of = wanted.iter().filter_map(|&i| aggregate.group_expr.get(i));
            vec![of.flat_map(|e| columns(e, aggregate.input.schema())).collect()]
        }
        LogicalPlan::Join(join) => {
            let mut wanted: Fields = wanted.clone();
            let both = join.left.schema().join(join.right.schema());
            if let (Some(condition), Ok(schema)) = (&join.filter, &both) {
                wanted.extend(mentioned_of(condition, schema, &|i| is_instance_below(plan, i)));
            }
            for (left, right) in &join.on {
                let condition = Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(left.clone()),
                    Operator::Eq,
                    Box::new(right.clone()),
                ));
                if let Ok(schema) = &both {
                    wanted.extend(mentioned_of(&condition, schema, &|i| is_instance_below(plan, i)));
                }
            }
            let width = join.left.schema().fields().len();
            let right = wanted.iter().filter(|&&i| i >= width).map(|i| i - width).collect();
            vec![wanted.into_iter().filter(|&i| i < width).collect(), right]
        }
        other => other.inputs().iter().map(|_| wanted.clone()).collect(),
    }
}

/// Outputs of `input` that a condition above it mentions.
fn mentioned(condition: &Expr, input: &LogicalPlan) -> Fields {
    mentioned_of(condition, input.schema(), &|i| is_instance(input, i))
}

fn mentioned_of(condition: &Expr, schema: &DFSchema, is_instance: &dyn Fn(usize) -> bool) -> Fields {
    let mut fields = Fields::new();
    for part in split_conjunction(condition) {
        if !matches_instances(part, schema, is_instance) {
            fields.extend(columns(part, schema));
        }
    }
    fields
}

/// `a.instance = b.instance`, also with one of the two from an outer query.
fn matches_instances(condition: &Expr, schema: &DFSchema, is_instance: &dyn Fn(usize) -> bool) -> bool {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return false;
    };
    let side = |e: &Expr| match e {
        Expr::Column(column) => schema.maybe_index_of_column(column).is_some_and(is_instance),
        Expr::OuterReferenceColumn(_, column) => column.name == INSTANCE,
        _ => false,
    };
    side(left) && side(right)
}

/// Positions of the columns of an expression; a subquery inside it counts by what it is compared with.
fn columns(expr: &Expr, schema: &DFSchema) -> Fields {
    let mut fields = Fields::new();
    let mut note = |column: &Column| fields.extend(schema.maybe_index_of_column(column));
    // The closure never fails, so neither does the walk.
    let _ = expr.apply(|e| {
        if let Expr::Column(column) = e {
            note(column);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    fields
}

/// Whether output `i` of `plan` is the `instance` column of a stored table.
#[recursive::recursive]
fn is_instance(plan: &LogicalPlan, i: usize) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => scan
            .projected_schema
            .fields()
            .get(i)
            .is_some_and(|f| f.name() == INSTANCE),
        LogicalPlan::Projection(projection) => match projection.expr.get(i).map(|e| e.clone().unalias_nested().data) {
            Some(Expr::Column(column)) => projection
                .input
                .schema()
                .maybe_index_of_column(&column)
                .is_some_and(|i| is_instance(&projection.input, i)),
            _ => false,
        },
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.get(i) {
            Some(Expr::Column(column)) => aggregate
                .input
                .schema()
                .maybe_index_of_column(column)
                .is_some_and(|i| is_instance(&aggregate.input, i)),
            _ => false,
        },
        LogicalPlan::Join(_) => is_instance_below(plan, i),
        other => match other.inputs().first() {
            Some(input) if input.schema().fields().len() > i => is_instance(input, i),
            _ => false,
        },
    }
}

/// As [`is_instance`], with `i` counted over the outputs of both inputs of a join.
fn is_instance_below(plan: &LogicalPlan, i: usize) -> bool {
    let LogicalPlan::Join(join) = plan else { return false };
    let width = join.left.schema().fields().len();
    match i.checked_sub(width) {
        Some(right) => is_instance(&join.right, right),
        None => is_instance(&join.left, i),
    }
}
