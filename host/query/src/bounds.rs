//! The times that a table's filters leave: what a scan of a history has to read at all.
//!
//! Only a hull is taken from the filters (the engine filters the rows again), so whatever is not understood widens it.

use crate::zone::Zone;
use arrow_schema::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator, TryCast, expr::InList};
use vwatch_model::table::TIME;

/// An inclusive span of times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from_ns: i64,
    pub to_ns: i64,
}

impl Span {
    pub const ALL: Span = Span {
        from_ns: i64::MIN,
        to_ns: i64::MAX,
    };

    pub fn and(self, other: Span) -> Span {
        Span {
            from_ns: self.from_ns.max(other.from_ns),
            to_ns: self.to_ns.min(other.to_ns),
        }
    }

    fn or(self, other: Span) -> Span {
        Span {
            from_ns: self.from_ns.min(other.from_ns),
            to_ns: self.to_ns.max(other.to_ns),
        }
    }

    fn wider(self, by_ns: i64) -> Span {
        Span {
            from_ns: self.from_ns.saturating_sub(by_ns),
            to_ns: self.to_ns.saturating_add(by_ns),
        }
    }
}

/// A day and the widest offset between two zones: how far a moment may lie from the clock face that stands for it.
const CLOCK_FACE_NS: i64 = 26 * 3600 * 1_000_000_000;
const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// The span that all of `filters` allow.
pub fn of<'a>(filters: impl IntoIterator<Item = &'a Expr>, zone: &Zone) -> Span {
    filters
        .into_iter()
        .filter_map(|f| of_one(f, zone))
        .fold(Span::ALL, Span::and)
}

/// The span that one filter allows; None when it says nothing about the time.
#[recursive::recursive]
pub fn of_one(filter: &Expr, zone: &Zone) -> Option<Span> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => match (of_one(left, zone), of_one(right, zone)) {
                (Some(a), Some(b)) => Some(a.and(b)),
                (a, b) => a.or(b),
            },
            Operator::Or => Some(of_one(left, zone)?.or(of_one(right, zone)?)),
            _ => compared(left, *op, right, zone).or_else(|| compared(right, op.swap()?, left, zone)),
        },
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => {
            let slack = time_slack(expr)?;
            let (low, high) = (moment(low, zone)?, moment(high, zone)?);
            Some(
                Span {
                    from_ns: low.from_ns,
                    to_ns: high.to_ns,
                }
                .wider(slack),
            )
        }
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let slack = time_slack(expr)?;
            let moments: Option<Vec<Span>> = list.iter().map(|item| moment(item, zone)).collect();
            Some(moments?.into_iter().reduce(Span::or)?.wider(slack))
        }
        _ => None,
    }
}

fn compared(time: &Expr, op: Operator, value: &Expr, zone: &Zone) -> Option<Span> {
    let slack = time_slack(time)?;
    let value = moment(value, zone)?.wider(slack);
    let exact = value.from_ns == value.to_ns;
    let span = match op {
        Operator::Eq => value,
        Operator::GtEq => Span {
            to_ns: i64::MAX,
            ..value
        },
        Operator::Gt => Span {
            from_ns: if exact {
                value.from_ns.saturating_add(1)
            } else {
                value.from_ns
            },
            to_ns: i64::MAX,
        },
        Operator::LtEq => Span {
            from_ns: i64::MIN,
            ..value
        },
        Operator::Lt => Span {
            from_ns: i64::MIN,
            to_ns: if exact {
                value.to_ns.saturating_sub(1)
            } else {
                value.to_ns
            },
        },
        _ => return None,
    };
    Some(span)
}

/// How far the value of this expression may lie from the row's `time`; None when it is not the time at all.
fn time_slack(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Column(column) => (column.name == TIME).then_some(0),
        Expr::Cast(Cast { expr, field, .. }) | Expr::TryCast(TryCast { expr, field, .. }) => {
            let inner = time_slack(expr)?;
            let own = match field.data_type() {
                DataType::Timestamp(unit, Some(_)) => unit_ns(unit) - 1,
                DataType::Timestamp(_, None) | DataType::Date32 => CLOCK_FACE_NS,
                _ => return None,
            };
            Some(inner.saturating_add(own))
        }
        _ => None,
    }
}

/// The moments that a constant may stand for.
fn moment(expr: &Expr, zone: &Zone) -> Option<Span> {
    let Expr::Literal(value, _) = expr else { return None };
    let (count, unit, zoned) = match value {
        ScalarValue::TimestampSecond(v, zone) => ((*v)?, 1_000_000_000, zone.is_some()),
        ScalarValue::TimestampMillisecond(v, zone) => ((*v)?, 1_000_000, zone.is_some()),
        ScalarValue::TimestampMicrosecond(v, zone) => ((*v)?, 1_000, zone.is_some()),
        ScalarValue::TimestampNanosecond(v, zone) => ((*v)?, 1, zone.is_some()),
        ScalarValue::Date32(v) => (i64::from((*v)?), DAY_NS, false),
        _ => return None,
    };
    let ns = count.saturating_mul(unit);
    let point = |ns: i64| Span { from_ns: ns, to_ns: ns };
    if zoned {
        return Some(point(ns));
    }
    // A clock face: read in the zone it is one moment, but near a change of the clocks the engine may read another.
    Some(point(zone.moment_of_clock(ns).unwrap_or(ns)).wider(CLOCK_FACE_NS))
}

fn unit_ns(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    fn at(ns: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
    }

    fn check(filter: Expr, expect: Option<(i64, i64)>) {
        let span = of_one(&filter, &Zone::parse("UTC").unwrap());
        assert_eq!(span.map(|s| (s.from_ns, s.to_ns)), expect, "{filter}");
    }

    #[test]
    fn spans() {
        check(col("time").gt(at(5)), Some((6, i64::MAX)));
        check(col("time").gt_eq(at(5)), Some((5, i64::MAX)));
        check(at(5).gt(col("time")), Some((i64::MIN, 4)));
        check(col("time").lt_eq(at(5)), Some((i64::MIN, 5)));
        check(col("time").eq(at(5)), Some((5, 5)));
        check(col("time").between(at(5), at(9)), Some((5, 9)));
        check(col("time").not_between(at(5), at(9)), None);
        check(col("time").in_list(vec![at(9), at(5)], false), Some((5, 9)));
        check(col("time").in_list(vec![at(9), at(5)], true), None);
        check(col("time").not_eq(at(5)), None);
        check(col("pid").gt(at(5)), None);
    }

    #[test]
    fn both_and_either() {
        let low = col("time").gt_eq(at(5));
        let high = col("time").lt_eq(at(9));
        check(low.clone().and(high.clone()), Some((5, 9)));
        check(low.clone().and(col("pid").eq(lit(1))), Some((5, i64::MAX)));
        check(col("time").eq(at(3)).or(col("time").eq(at(7))), Some((3, 7)));
        check(low.or(col("pid").eq(lit(1))), None);
    }

    #[test]
    fn casts_widen() {
        let seconds = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
        let cast = datafusion::logical_expr::cast(col("time"), seconds);
        let nine = lit(ScalarValue::TimestampSecond(Some(9), Some("UTC".into())));
        check(cast.eq(nine), Some((8_000_000_001, 9_999_999_999)));
        let day = datafusion::logical_expr::cast(col("time"), DataType::Date32);
        let (from, to) = (DAY_NS - 2 * CLOCK_FACE_NS, DAY_NS + 2 * CLOCK_FACE_NS);
        check(day.eq(lit(ScalarValue::Date32(Some(1)))), Some((from, to)));
    }
}
