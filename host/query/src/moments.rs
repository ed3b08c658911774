//! Times in SQL, as people write them.
//!
//! A text that stands where a timestamp is expected (`time > '10:42'`, `BETWEEN '-5m' AND 'now'`, `TIMESTAMP '2026-01-02
//! 10:42'`) is read by `vwatch_model::time::parse_moment` in the request's zone, as the flags of the command line are. Left
//! to itself the engine would read `TIMESTAMP '…'` as UTC and know none of the short forms.

use crate::error::{SqlError, kind};
use crate::statement;
use crate::zone::Zone;
use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, expr::InList,
};

/// Reads the texts of one request's SQL.
#[derive(Debug)]
pub struct Moments<'a> {
    pub zone: &'a Zone,
    pub now_ns: i64,
    pub sql: &'a str,
}

impl Moments<'_> {
    /// Replaces the texts in a whole plan, subqueries included, by timestamps.
    pub fn rewrite(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            let node = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let replaced = expr.transform_up(|e| self.replace(e, &schema))?;
                Ok(replaced.update_data(|e| name.restore(e)))
            })?;
            match node.transformed {
                true => Ok(Transformed::yes(node.data.recompute_schema()?)),
                false => Ok(node),
            }
        })
        .data()
    }

    /// Replaces the texts in an expression without columns.
    pub fn rewrite_constant(&self, expr: Expr) -> Result<Expr> {
        expr.transform_up(|e| self.replace(e, &DFSchema::empty())).data()
    }

    /// The moment that a text means.
    pub fn read(&self, text: &str) -> Result<i64, SqlError> {
        self.zone.moment(text, self.now_ns).map_err(|e| {
            SqlError::refused(kind::REQUEST, e.to_string()).at(statement::place_of_literal(self.sql, text))
        })
    }

    fn replace(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let is_time = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Timestamp(..)));
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let (left, right) = match (text(&left).is_some(), text(&right).is_some()) {
                    (true, false) if is_time(&right) => (self.timestamp(*left)?, *right),
                    (false, true) if is_time(&left) => (*left, self.timestamp(*right)?),
                    _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
                };
                let (left, right) = (Box::new(left), Box::new(right));
                Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
            }
            Expr::Between(between) if is_time(&between.expr) => {
                let low = Box::new(self.timestamp(*between.low)?);
                let high = Box::new(self.timestamp(*between.high)?);
                Ok(Transformed::yes(Expr::Between(Between { low, high, ..between })))
            }
            Expr::InList(list) if is_time(&list.expr) => {
                let items = list
                    .list
                    .into_iter()
                    .map(|item| self.timestamp(item))
                    .collect::<Result<_>>()?;
                Ok(Transformed::yes(Expr::InList(InList { list: items, ..list })))
            }
            // TIMESTAMP '…' is a cast of a text.
            other => match self.cast_of_text(&other) {
                Some(moment) => Ok(Transformed::yes(moment)),
                None => Ok(Transformed::no(other)),
            },
        }
    }

    /// `TIMESTAMP '…'`, a cast of a text to a timestamp without a zone. A text that is no moment is left to the engine.
    fn cast_of_text(&self, expr: &Expr) -> Option<Expr> {
        let (inner, field) = match expr {
            Expr::Cast(Cast { expr, field, .. }) | Expr::TryCast(TryCast { expr, field, .. }) => (expr, field),
            _ => return None,
        };
        let zoneless = matches!(field.data_type(), DataType::Timestamp(_, None));
        let ns = self.zone.moment(text(inner).filter(|_| zoneless)?, self.now_ns).ok()?;
        Some(self.literal(ns))
    }

    /// The timestamp of a text; anything else unchanged.
    fn timestamp(&self, expr: Expr) -> Result<Expr> {
        match text(&expr) {
            Some(text) => Ok(self.literal(self.read(text)?)),
            None => Ok(expr),
        }
    }

    fn literal(&self, ns: i64) -> Expr {
        let zone = Some(self.zone.name().clone());
        Expr::Literal(ScalarValue::TimestampNanosecond(Some(ns), zone), None)
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(t) | ScalarValue::LargeUtf8(t) | ScalarValue::Utf8View(t), _) => t.as_deref(),
        _ => None,
    }
}

fn compares(op: Operator) -> bool {
    use Operator::*;
    matches!(
        op,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}
