//! `time_bucket('10s', time)`: the beginning of the bucket that a time lies in, on the clock of the request's zone.
//!
//! Buckets are counted from midnight, those longer than a day from a Monday's. Where the clock is changed inside a bucket, the
//! bucket begins when the clock showed its beginning, so that a day is a day however many hours it has.

use crate::error::{SqlError, kind};
use crate::zone::{Offset, Zone};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, TimestampNanosecondArray};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const DAY_NS: i64 = 86_400_000_000_000;
/// Monday 1970-01-05.
const ANCHOR_NS: i64 = 4 * DAY_NS;
pub const NAME: &str = "time_bucket";
pub const FORM: &str =
    "time_bucket('10s', time), with a width such as '250ms', '5m', '1h', '1d' or interval '5 minutes'";

#[derive(Debug)]
struct TimeBucket {
    zone: Zone,
    signature: Signature,
}

pub fn function(zone: Zone) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(TimeBucket { zone, signature }))
}

impl PartialEq for TimeBucket {
    fn eq(&self, other: &TimeBucket) -> bool {
        self.zone.name() == other.zone.name()
    }
}

impl Eq for TimeBucket {}

impl Hash for TimeBucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.zone.name().hash(state);
    }
}

fn refused(message: impl Into<String>) -> SqlError {
    SqlError::refused(kind::REQUEST, message).hint(FORM)
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [width, time] = given else {
            let message = format!("time_bucket takes a width and a time, not {} arguments", given.len());
            return Err(refused(message).into());
        };
        let width = match width {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            other => return Err(refused(format!("{other} is no width of a time bucket")).into()),
        };
        let DataType::Timestamp(_, zone) = time else {
            return Err(refused(format!(
                "the second argument of time_bucket has to be a time, not {time}"
            ))
            .into());
        };
        Ok(vec![width, DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.get(1).cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(width), times] = args.args.as_slice() else {
            return Err(refused("the width of a time bucket has to be a constant").into());
        };
        let width_ns = width_ns(width)?;
        let times = times.to_array(args.number_rows)?;
        let times = times
            .as_primitive_opt::<TimestampNanosecondType>()
            .ok_or_else(|| refused("the second argument of time_bucket has to be a time"))?;
        // A time without a zone is what a clock shows, and is taken as it is.
        let mut buckets = Buckets::new(times.timezone().is_some().then_some(&self.zone), width_ns);
        let starts = times.values().iter().map(|t| buckets.start(*t)).collect();
        let starts = TimestampNanosecondArray::new(starts, times.nulls().cloned());
        Ok(ColumnarValue::Array(Arc::new(
            starts.with_timezone_opt(times.timezone().map(str::to_owned)),
        )))
    }
}

fn width_ns(width: &ScalarValue) -> Result<i64, SqlError> {
    let ns = match width {
        ScalarValue::Utf8(Some(text)) => {
            let width = vwatch_model::unit::parse_duration(text).map_err(|e| refused(e.to_string()))?;
            i64::try_from(width.as_nanos()).ok()
        }
        ScalarValue::IntervalMonthDayNano(Some(width)) if width.months != 0 => {
            return Err(
                SqlError::refused(kind::REQUEST, "months are of different lengths, and so no time buckets")
                    .hint("write date_trunc('month', time)"),
            );
        }
        ScalarValue::IntervalMonthDayNano(Some(width)) => {
            let days = i64::from(width.days).checked_mul(DAY_NS);
            days.and_then(|days| days.checked_add(width.nanoseconds))
        }
        _ => None,
    };
    ns.filter(|ns| *ns > 0)
        .ok_or_else(|| refused("the width of a time bucket has to be greater than 0"))
}

struct Buckets<'a> {
    zone: Option<&'a Zone>,
    width_ns: i64,
    offset: Offset,
}

impl<'a> Buckets<'a> {
    fn new(zone: Option<&'a Zone>, width_ns: i64) -> Buckets<'a> {
        let offset = Offset {
            ns: 0,
            from_ns: i64::MIN,
            to_ns: i64::MAX,
        };
        Buckets {
            offset: zone.map_or(offset, |z| z.offset(0)),
            zone,
            width_ns,
        }
    }

    fn start(&mut self, time: i64) -> i64 {
        if let Some(zone) = self.zone
            && !(self.offset.from_ns..self.offset.to_ns).contains(&time)
        {
            self.offset = zone.offset(time);
        }
        let clock = time.saturating_add(self.offset.ns);
        let into = clock.saturating_sub(ANCHOR_NS).rem_euclid(self.width_ns);
        let start = time.saturating_sub(into);
        if start >= self.offset.from_ns {
            return start;
        }
        let shown = self.zone.and_then(|z| z.moment_of_clock(clock - into));
        shown.filter(|moment| *moment <= time).unwrap_or(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: &str, width: &str, time: &str, expect: &str) {
        let ns = |text: &str| {
            let time: jiff::Timestamp = text.parse().unwrap();
            i64::try_from(time.as_nanosecond()).unwrap()
        };
        let zone = Zone::parse(zone).unwrap();
        let width = width_ns(&ScalarValue::Utf8(Some(width.to_owned()))).unwrap();
        let mut buckets = Buckets::new(Some(&zone), width);
        assert_eq!(buckets.start(ns(time)), ns(expect), "{time} by {width}");
    }

    #[test]
    fn buckets_begin_on_the_local_clock() {
        check("UTC", "10s", "2026-01-02T10:42:07.9Z", "2026-01-02T10:42:00Z");
        check("UTC", "250ms", "2026-01-02T10:42:07.9Z", "2026-01-02T10:42:07.75Z");
        check("UTC", "1d", "2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z");
        check("UTC", "1d", "1969-12-31T23:00:00Z", "1969-12-31T00:00:00Z");
        check("Asia/Kolkata", "1h", "2026-01-02T10:42:07Z", "2026-01-02T10:30:00Z");
        check("Asia/Kolkata", "1d", "2026-01-02T10:42:07Z", "2026-01-01T18:30:00Z");
        check("Europe/Berlin", "7d", "2026-01-02T10:42:07Z", "2025-12-28T23:00:00Z");
    }

    #[test]
    fn a_day_is_a_day_when_the_clocks_are_changed() {
        // 2026-03-29 has 23 hours in Berlin, 2026-10-25 has 25.
        check("Europe/Berlin", "1d", "2026-03-29T20:00:00Z", "2026-03-28T23:00:00Z");
        check("Europe/Berlin", "1d", "2026-10-25T22:59:00Z", "2026-10-24T22:00:00Z");
        // The hour that comes twice is two hours.
        check("Europe/Berlin", "1h", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z");
        check("Europe/Berlin", "1h", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z");
        // From 02:00 to 04:00 in a night in which the clock goes from 02:00 to 03:00.
        check("Europe/Berlin", "2h", "2026-03-29T01:10:00Z", "2026-03-29T01:00:00Z");
    }

    #[test]
    fn widths() {
        let interval = |months, days, nanoseconds| {
            let width = arrow_buffer::IntervalMonthDayNano::new(months, days, nanoseconds);
            width_ns(&ScalarValue::IntervalMonthDayNano(Some(width)))
        };
        assert_eq!(interval(0, 1, 5).unwrap(), DAY_NS + 5);
        assert!(interval(1, 0, 0).is_err() && interval(0, 0, 0).is_err() && interval(0, -1, 0).is_err());
        for bad in ["", "0s", "ten", "-1s"] {
            assert!(width_ns(&ScalarValue::Utf8(Some(bad.to_owned()))).is_err(), "{bad}");
        }
    }
}
