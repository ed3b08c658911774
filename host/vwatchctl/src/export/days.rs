//! Days and pieces of them: how a span is cut into parts, and a part into questions.
//!
//! Days are those of UTC, so that parts of hosts in several zones fit together. A question reads about [`QUESTION_ROWS`] rows, so
//! that no limit of time or rows on a single one is met however large the day.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const DAY_NS: i64 = 86_400_000_000_000;
const QUESTION_ROWS: u64 = 2_000_000;
/// Questions of a day at most: one a minute.
const MOST: u64 = 1440;

/// From and to, both included.
pub type Span = (i64, i64);

/// What goes into one part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// `2026-01-02`
    pub day: String,
    pub span: Span,
    /// `part-0` for a whole day, else with its times: the same export writes the same names.
    pub name: String,
}

/// The pieces of what a table holds (`held`) within what was asked for; None is open.
pub fn pieces(held: Span, from_ns: Option<i64>, to_ns: Option<i64>) -> Vec<Piece> {
    let first = held.0.max(from_ns.unwrap_or(i64::MIN));
    let last = held.1.min(to_ns.unwrap_or(i64::MAX));
    let days = first.div_euclid(DAY_NS)..=last.div_euclid(DAY_NS);
    if first > last {
        return Vec::new();
    }
    days.filter_map(|day| {
        let start = day.checked_mul(DAY_NS)?;
        let end = start.checked_add(DAY_NS - 1)?;
        let (from, to) = (from_ns.unwrap_or(start).max(start), to_ns.unwrap_or(end).min(end));
        let name = match (from, to) == (start, end) {
            true => "part-0".to_owned(),
            false => format!("part-{}-{}", clock(from - start), clock(to - start)),
        };
        Some(Piece {
            day: date(start)?.to_string(),
            span: (from.max(first), to.min(last)),
            name,
        })
    })
    .collect()
}

fn date(ns: i64) -> Option<Date> {
    let stamp = Timestamp::from_nanosecond(i128::from(ns)).ok()?;
    Some(stamp.to_zoned(TimeZone::UTC).date())
}

/// `101500`, and what is below the second where there is any: names of different spans differ.
fn clock(of_day_ns: i64) -> String {
    let (seconds, rest) = (of_day_ns / 1_000_000_000, of_day_ns % 1_000_000_000);
    let text = format!("{:02}{:02}{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match rest {
        0 => text,
        rest => format!("{text}.{rest:09}"),
    }
}

/// A span cut into questions, for a table that has `rows` rows in `held`.
pub fn questions(span: Span, held: Span, rows: u64) -> Vec<Span> {
    let length = |(from, to): Span| (i128::from(to) - i128::from(from) + 1).max(1) as u128;
    let expected = u128::from(rows) * length(span) / length(held);
    let count = u64::try_from(expected / u128::from(QUESTION_ROWS)).unwrap_or(MOST) + 1;
    let count = i128::from(count.min(MOST));
    let (from, total) = (i128::from(span.0), length(span) as i128);
    let edge = |n: i128| from + total * n / count;
    let spans = (0..count).map(|n| (edge(n) as i64, (edge(n + 1) - 1) as i64));
    spans.filter(|(from, to)| from <= to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    #[test]
    fn days_are_those_of_utc() {
        // 1970-01-02 22:00 to 1970-01-04 01:00
        let held = (DAY_NS + 22 * HOUR, 3 * DAY_NS + HOUR);
        let all = pieces(held, None, None);
        let days: Vec<_> = all.iter().map(|p| (p.day.as_str(), p.name.as_str(), p.span)).collect();
        assert_eq!(
            days,
            [
                ("1970-01-02", "part-0", (held.0, 2 * DAY_NS - 1)),
                ("1970-01-03", "part-0", (2 * DAY_NS, 3 * DAY_NS - 1)),
                ("1970-01-04", "part-0", (3 * DAY_NS, held.1)),
            ]
        );
        let cut = pieces(held, Some(2 * DAY_NS + 10 * HOUR), Some(2 * DAY_NS + 11 * HOUR));
        assert_eq!(cut.len(), 1);
        assert_eq!(cut[0].name, "part-100000-110000");
        // Before the epoch, and outside of what there is.
        assert_eq!(pieces((-1, -1), None, None)[0].day, "1969-12-31");
        assert_eq!(pieces(held, Some(held.1 + 1), None), []);
    }

    #[test]
    fn questions_cover_their_span_without_overlap() {
        for (span, rows) in [((0, DAY_NS - 1), 86_000_000), ((5, 5), 9), ((-7, 100), u64::MAX)] {
            let all = questions(span, (0, DAY_NS - 1), rows);
            assert_eq!((all[0].0, all[all.len() - 1].1), span, "{rows}");
            assert!(all.windows(2).all(|w| w[0].1 + 1 == w[1].0));
        }
        assert_eq!(questions((0, DAY_NS - 1), (0, DAY_NS - 1), 86_400_000).len(), 44);
    }
}
