//! What a table's filters say of its stored columns: bounds that a scan can compare with a block's statistics.
//!
//! Only a superset of the wanted rows is described (the engine filters again), so whatever is not understood says nothing.
//! A comparison with NULL is never true, and NULL is in no range, so NULL rows may be left out wherever a condition is found.
//! Ranges of floating point are not described: the engine sorts NaN behind all numbers, a block's statistics need not.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator};
use std::cmp::Ordering;
use vwatch_model::{ColumnType, TableSchema};
use vwatch_store::{Condition, Scalar, Test};

/// A list longer than this is described by its least and greatest value.
const LONGEST_LIST: usize = 1024;

/// What all of `filters` say together.
pub fn of<'a>(filters: impl IntoIterator<Item = &'a Expr>, table: &TableSchema) -> Vec<Condition> {
    filters.into_iter().flat_map(|f| of_one(f, table)).collect()
}

/// What one filter says; empty when that is nothing.
#[recursive::recursive]
pub fn of_one(filter: &Expr, table: &TableSchema) -> Vec<Condition> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => {
                let mut both = of_one(left, table);
                both.extend(of_one(right, table));
                both
            }
            Operator::Or => either(&of_one(left, table), &of_one(right, table)),
            op => compared(left, *op, right, table)
                .or_else(|| compared(right, op.swap()?, left, table))
                .into_iter()
                .collect(),
        },
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => [(Operator::GtEq, low), (Operator::LtEq, high)]
            .into_iter()
            .filter_map(|(op, bound)| compared(expr, op, bound, table))
            .collect(),
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => listed(expr, list, table).into_iter().collect(),
        Expr::Like(Like {
            negated: false,
            expr,
            pattern,
            escape_char: None,
            case_insensitive: false,
        }) => begins(expr, pattern, table).into_iter().collect(),
        Expr::Column(_) => flag(filter, true, table).into_iter().collect(),
        Expr::Not(inner) => flag(inner, false, table).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn compared(column: &Expr, op: Operator, value: &Expr, table: &TableSchema) -> Option<Condition> {
    let (column, kind) = stored(column, table)?;
    let value = constant(value, kind)?;
    let ranged = kind != ColumnType::F64;
    let test = match op {
        Operator::Eq => Test::In(vec![value]),
        Operator::GtEq if ranged => range(Some(value), None),
        Operator::Gt if ranged => range(Some(next(value)?), None),
        Operator::LtEq if ranged => range(None, Some(value)),
        Operator::Lt if ranged => range(None, Some(previous(value)?)),
        _ => return None,
    };
    Some(Condition { column, test })
}

fn listed(column: &Expr, list: &[Expr], table: &TableSchema) -> Option<Condition> {
    let (column, kind) = stored(column, table)?;
    let values: Option<Vec<Scalar>> = list.iter().map(|item| constant(item, kind)).collect();
    let test = in_or_hull(values?, kind != ColumnType::F64)?;
    Some(Condition { column, test })
}

/// `LIKE 'abc%'`: at least `abc`. There is no greatest text that begins so; `abd` is after all of them.
fn begins(column: &Expr, pattern: &Expr, table: &TableSchema) -> Option<Condition> {
    let (column, kind) = stored(column, table)?;
    let Scalar::String(pattern) = constant(pattern, kind)? else {
        return None;
    };
    let end = pattern.find(['%', '_', '\\'])?;
    let prefix = &pattern[..end];
    let last = prefix.chars().next_back()?;
    // The gap of the surrogates and the last character of all have no direct successor.
    let after = char::from_u32(u32::from(last) + 1).map(|c| format!("{}{c}", &prefix[..end - last.len_utf8()]));
    let test = range(Some(Scalar::String(prefix.to_owned())), after.map(Scalar::String));
    Some(Condition { column, test })
}

/// A boolean column as a condition of its own.
fn flag(column: &Expr, wanted: bool, table: &TableSchema) -> Option<Condition> {
    let (column, kind) = stored(column, table)?;
    let test = Test::In(vec![Scalar::Bool(wanted)]);
    (kind == ColumnType::Bool).then_some(Condition { column, test })
}

/// What holds of a row of which one of two conjunctions holds: of each column that both speak of, what either allows.
fn either(left: &[Condition], right: &[Condition]) -> Vec<Condition> {
    let mut columns: Vec<&str> = left.iter().map(|c| c.column.as_str()).collect();
    columns.sort_unstable();
    columns.dedup();
    let first = |side: &[Condition], column: &str| side.iter().find(|c| c.column == column).map(|c| c.test.clone());
    columns
        .into_iter()
        .filter_map(|column| {
            // The first of several conditions on a column is enough: the others only narrow it.
            let test = union(first(left, column)?, first(right, column)?)?;
            Some(Condition {
                column: column.to_owned(),
                test,
            })
        })
        .collect()
}

fn union(left: Test, right: Test) -> Option<Test> {
    if let (Test::In(a), Test::In(b)) = (&left, &right) {
        let ranged = !a.iter().chain(b).any(|v| matches!(v, Scalar::F64(_)));
        return in_or_hull(a.iter().chain(b).cloned().collect(), ranged);
    }
    let (low_a, high_a) = bounds(left)?;
    let (low_b, high_b) = bounds(right)?;
    let outer = |a: Option<Scalar>, b: Option<Scalar>, wanted| match (a, b) {
        (Some(a), Some(b)) => match order(&a, &b) {
            Some(found) => Ok(Some(if found == wanted { a } else { b })),
            None => Err(()),
        },
        _ => Ok(None),
    };
    let min = outer(low_a, low_b, Ordering::Less).ok()?;
    let max = outer(high_a, high_b, Ordering::Greater).ok()?;
    (min.is_some() || max.is_some()).then(|| range(min, max))
}

fn in_or_hull(values: Vec<Scalar>, ranged: bool) -> Option<Test> {
    if values.len() <= LONGEST_LIST {
        return Some(Test::In(values));
    }
    let (min, max) = bounds(Test::In(values))?;
    ranged.then(|| range(min, max))
}

/// Least and greatest value that a test allows; None when its values have no common order, or there are none.
fn bounds(test: Test) -> Option<(Option<Scalar>, Option<Scalar>)> {
    match test {
        Test::Range { min, max } => Some((min, max)),
        Test::In(values) => {
            let mut values = values.into_iter();
            let first = values.next()?;
            let (mut min, mut max) = (first.clone(), first);
            for value in values {
                if order(&value, &min)? == Ordering::Less {
                    min = value;
                } else if order(&value, &max)? == Ordering::Greater {
                    max = value;
                }
            }
            Some((Some(min), Some(max)))
        }
    }
}

fn range(min: Option<Scalar>, max: Option<Scalar>) -> Test {
    Test::Range { min, max }
}

fn order(a: &Scalar, b: &Scalar) -> Option<Ordering> {
    match (a, b) {
        (Scalar::Bool(a), Scalar::Bool(b)) => Some(a.cmp(b)),
        (Scalar::I64(a), Scalar::I64(b)) => Some(a.cmp(b)),
        (Scalar::U64(a), Scalar::U64(b)) => Some(a.cmp(b)),
        (Scalar::String(a), Scalar::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The least value after this one, or this one where there is no telling; None when nothing can follow.
fn next(value: Scalar) -> Option<Scalar> {
    match value {
        Scalar::I64(v) => v.checked_add(1).map(Scalar::I64),
        Scalar::U64(v) => v.checked_add(1).map(Scalar::U64),
        other => Some(other),
    }
}

fn previous(value: Scalar) -> Option<Scalar> {
    match value {
        Scalar::I64(v) => v.checked_sub(1).map(Scalar::I64),
        Scalar::U64(v) => v.checked_sub(1).map(Scalar::U64),
        other => Some(other),
    }
}

/// The stored column that an expression is; a cast that keeps every value and their order is seen through.
fn stored(expr: &Expr, table: &TableSchema) -> Option<(String, ColumnType)> {
    match expr {
        Expr::Column(column) => {
            let stored = table.column(&column.name)?;
            // Times have bounds of their own.
            let described = !matches!(stored.kind, ColumnType::Timestamp | ColumnType::Bytes);
            described.then(|| (stored.name.clone(), stored.kind))
        }
        Expr::Cast(Cast { expr, field, .. }) => {
            use arrow_schema::DataType::*;
            let (column, kind) = stored(expr, table)?;
            let keeps = match kind {
                ColumnType::I32 => matches!(field.data_type(), Int32 | Int64),
                ColumnType::U32 => matches!(field.data_type(), UInt32 | Int64 | UInt64),
                ColumnType::I64 => matches!(field.data_type(), Int64),
                ColumnType::U64 => matches!(field.data_type(), UInt64),
                ColumnType::String => matches!(field.data_type(), Utf8 | LargeUtf8 | Utf8View),
                _ => false,
            };
            keeps.then_some((column, kind))
        }
        _ => None,
    }
}

/// A constant as a value of a column of this type; None when it is none or is NULL.
fn constant(expr: &Expr, kind: ColumnType) -> Option<Scalar> {
    let Expr::Literal(value, _) = expr else { return None };
    let whole: Option<i128> = match value {
        ScalarValue::Int8(v) => v.map(i128::from),
        ScalarValue::Int16(v) => v.map(i128::from),
        ScalarValue::Int32(v) => v.map(i128::from),
        ScalarValue::Int64(v) => v.map(i128::from),
        ScalarValue::UInt8(v) => v.map(i128::from),
        ScalarValue::UInt16(v) => v.map(i128::from),
        ScalarValue::UInt32(v) => v.map(i128::from),
        ScalarValue::UInt64(v) => v.map(i128::from),
        _ => None,
    };
    match kind {
        ColumnType::I32 | ColumnType::U32 | ColumnType::I64 => i64::try_from(whole?).ok().map(Scalar::I64),
        ColumnType::U64 => u64::try_from(whole?).ok().map(Scalar::U64),
        ColumnType::F64 => match value {
            ScalarValue::Float64(Some(v)) if !v.is_nan() => Some(Scalar::F64(*v)),
            _ => None,
        },
        ColumnType::Bool => match value {
            ScalarValue::Boolean(Some(v)) => Some(Scalar::Bool(*v)),
            _ => None,
        },
        ColumnType::String => match value {
            ScalarValue::Utf8(Some(v)) | ScalarValue::LargeUtf8(Some(v)) | ScalarValue::Utf8View(Some(v)) => {
                Some(Scalar::String(v.clone()))
            }
            _ => None,
        },
        ColumnType::Bytes | ColumnType::Timestamp => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::DataType;
    use datafusion::logical_expr::{cast, col, lit, not};
    use vwatch_model::{Access, Column, TableKind};

    fn table() -> TableSchema {
        let column = |name: &str, kind| Column::new(name, kind, "");
        TableSchema {
            name: "t".into(),
            kind: TableKind::State,
            doc: String::new(),
            access: Access::All,
            columns: vec![
                column("pid", ColumnType::I32),
                column("inode", ColumnType::U64),
                column("comm", ColumnType::String),
                column("share", ColumnType::F64),
                column("up", ColumnType::Bool),
                column("begun", ColumnType::Timestamp),
            ],
        }
    }

    fn check(filter: Expr, expect: &[(&str, Test)]) {
        let found = of_one(&filter, &table());
        let expect: Vec<Condition> = expect
            .iter()
            .map(|(column, test)| Condition {
                column: (*column).to_owned(),
                test: test.clone(),
            })
            .collect();
        assert_eq!(found, expect, "{filter}");
    }

    fn ints(min: Option<i64>, max: Option<i64>) -> Test {
        range(min.map(Scalar::I64), max.map(Scalar::I64))
    }

    fn words(words: &[&str]) -> Test {
        Test::In(words.iter().map(|w| Scalar::String((*w).to_owned())).collect())
    }

    #[test]
    fn comparisons() {
        check(col("pid").gt(lit(5)), &[("pid", ints(Some(6), None))]);
        check(lit(5).gt(col("pid")), &[("pid", ints(None, Some(4)))]);
        check(
            col("pid").between(lit(5), lit(9)),
            &[("pid", ints(Some(5), None)), ("pid", ints(None, Some(9)))],
        );
        check(col("pid").eq(lit(7)), &[("pid", Test::In(vec![Scalar::I64(7)]))]);
        check(
            col("inode").gt_eq(lit(u64::MAX)),
            &[("inode", range(Some(Scalar::U64(u64::MAX)), None))],
        );
        check(
            col("comm").lt(lit("b")),
            &[("comm", range(None, Some(Scalar::String("b".into()))))],
        );
        check(
            col("comm").in_list(vec![lit("a"), lit("b")], false),
            &[("comm", words(&["a", "b"]))],
        );
        check(
            col("share").eq(lit(0.5)),
            &[("share", Test::In(vec![Scalar::F64(0.5)]))],
        );
        check(
            col("up").and(not(col("up"))),
            &[
                ("up", Test::In(vec![Scalar::Bool(true)])),
                ("up", Test::In(vec![Scalar::Bool(false)])),
            ],
        );
    }

    #[test]
    fn prefixes() {
        let text = |t: &str| Some(Scalar::String(t.to_owned()));
        check(
            col("comm").like(lit("kworker/%")),
            &[("comm", range(text("kworker/"), text("kworker0")))],
        );
        check(
            col("comm").like(lit("\u{d7ff}%")),
            &[("comm", range(text("\u{d7ff}"), None))],
        );
        check(col("comm").like(lit("%x")), &[]);
        check(col("comm").like(lit("abc")), &[]);
        check(col("comm").not_like(lit("a%")), &[]);
    }

    #[test]
    fn both_and_either() {
        let one = col("pid").eq(lit(1));
        let two = col("pid").eq(lit(2));
        let named = col("comm").eq(lit("a"));
        check(
            one.clone().or(two.clone()),
            &[("pid", Test::In(vec![Scalar::I64(1), Scalar::I64(2)]))],
        );
        check(one.clone().or(col("pid").gt(lit(8))), &[("pid", ints(Some(1), None))]);
        check(col("pid").lt(lit(3)).or(col("pid").gt(lit(8))), &[]);
        check(one.clone().or(named.clone()), &[]);
        check(
            one.clone().and(named.clone()).or(two.and(named.clone())),
            &[
                ("comm", words(&["a", "a"])),
                ("pid", Test::In(vec![Scalar::I64(1), Scalar::I64(2)])),
            ],
        );
        check(
            one.and(col("comm").not_eq(lit("x"))),
            &[("pid", Test::In(vec![Scalar::I64(1)]))],
        );
    }

    #[test]
    fn what_says_nothing() {
        for filter in [
            col("pid").not_eq(lit(1)),
            col("pid").eq(lit(ScalarValue::Int32(None))),
            col("pid").in_list(vec![lit(1)], true),
            col("pid").not_between(lit(1), lit(2)),
            col("pid").eq(col("inode")),
            (col("pid") + lit(1)).eq(lit(2)),
            col("share").gt(lit(0.5)),
            col("share").eq(lit(f64::NAN)),
            col("inode").gt(lit(-1)),
            col("begun").gt(lit(ScalarValue::TimestampNanosecond(Some(1), None))),
            col("instance").eq(lit("x")),
            cast(col("pid"), DataType::Utf8).eq(lit("1")),
            cast(col("inode"), DataType::Int64).eq(lit(1i64)),
            not(col("pid").eq(lit(1))),
        ] {
            check(filter, &[]);
        }
    }

    #[test]
    fn casts_that_keep_values_are_seen_through() {
        let wide = cast(col("pid"), DataType::Int64);
        check(wide.gt(lit(5i64)), &[("pid", ints(Some(6), None))]);
    }

    #[test]
    fn long_lists_become_ranges() {
        let list: Vec<Expr> = (0..5000).rev().map(lit).collect();
        check(col("pid").in_list(list, false), &[("pid", ints(Some(0), Some(4999)))]);
    }
}
