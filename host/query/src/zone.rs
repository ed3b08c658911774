//! The request's time zone: how literals without a zone are read, and how times are written in answers and reasons.
//!
//! Two libraries have to agree on it: the engine computes with the zone's name (its own copy of the zone database),
//! `vwatch_model::time` with jiff's. A name that either does not know is refused, so that no answer mixes two zones.

use crate::error::{SqlError, kind};
use arrow_array::timezone::Tz;
use arrow_schema::{DataType, TimeUnit};
use jiff::Timestamp;
use jiff::tz::{self, TimeZone};
use std::sync::Arc;
use vwatch_model::time::{TimeError, parse_moment};

/// How far the clock is ahead of UTC, and from when until when.
#[derive(Debug, Clone, Copy)]
pub struct Offset {
    pub ns: i64,
    /// The moment from which it is so.
    pub from_ns: i64,
    /// The first moment at which it is not.
    pub to_ns: i64,
}

#[derive(Debug, Clone)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl Zone {
    /// `UTC`, an IANA name, or an offset of the form `+02:00`.
    pub fn parse(name: &str) -> Result<Zone, SqlError> {
        let unknown = || {
            SqlError::refused(kind::REQUEST, format!("no time zone {name:?} is known here"))
                .hint("write an IANA name such as Europe/Berlin, an offset such as +02:00, or UTC")
        };
        let rules = match fixed_offset(name) {
            Some(offset) => TimeZone::fixed(offset),
            None if name.eq_ignore_ascii_case("utc") => TimeZone::UTC,
            None => TimeZone::get(name).map_err(|_| unknown())?,
        };
        let name = if rules == TimeZone::UTC { "UTC" } else { name };
        name.parse::<Tz>().map_err(|_| unknown())?;
        Ok(Zone {
            name: name.into(),
            rules,
        })
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Type of a timestamp in an answer.
    pub fn timestamp(&self) -> DataType {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(self.name.clone()))
    }

    /// Reads a moment as people write it, local where it names no zone.
    pub fn moment(&self, text: &str, now_ns: i64) -> Result<i64, TimeError> {
        let now = Timestamp::from_nanosecond(i128::from(now_ns)).map_err(|_| TimeError::Range(text.to_owned()))?;
        parse_moment(text, &now.to_zoned(self.rules.clone()))
    }

    /// What the wall clock of the zone showed when it was `civil_ns` nanoseconds after 1970-01-01 00:00 on that clock.
    pub fn moment_of_clock(&self, civil_ns: i64) -> Option<i64> {
        let civil = Timestamp::from_nanosecond(i128::from(civil_ns)).ok()?;
        let local = civil.to_zoned(TimeZone::UTC).datetime();
        let moment = local.to_zoned(self.rules.clone()).ok()?.timestamp();
        i64::try_from(moment.as_nanosecond()).ok()
    }

    /// The clock's offset at a moment.
    pub fn offset(&self, ns: i64) -> Offset {
        let always = |ns| Offset {
            ns,
            from_ns: i64::MIN,
            to_ns: i64::MAX,
        };
        let Ok(at) = Timestamp::from_nanosecond(i128::from(ns)) else {
            return always(0);
        };
        let moment = |t: Timestamp| i64::try_from(t.as_nanosecond()).ok();
        // A change at this very moment has happened.
        let after = Timestamp::from_nanosecond(i128::from(ns) + 1).unwrap_or(at);
        let before = self.rules.preceding(after).next();
        let next = self.rules.following(at).next();
        Offset {
            from_ns: before.and_then(|t| moment(t.timestamp())).unwrap_or(i64::MIN),
            to_ns: next.and_then(|t| moment(t.timestamp())).unwrap_or(i64::MAX),
            ..always(i64::from(self.rules.to_offset(at).seconds()) * 1_000_000_000)
        }
    }

    /// For sentences: `10:42:07` on the day of `now_ns`, else `2026-01-02 10:42:07`.
    pub fn words(&self, ns: i64, now_ns: i64) -> String {
        let local = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).map(|t| t.to_zoned(self.rules.clone()));
        match (local(ns), local(now_ns)) {
            (Ok(at), Ok(now)) if at.date() == now.date() => at.strftime("%H:%M:%S").to_string(),
            (Ok(at), _) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            (Err(_), _) => format!("@{}", ns / 1_000_000_000),
        }
    }
}

/// `+02:00`, `-05:30`.
fn fixed_offset(text: &str) -> Option<tz::Offset> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60)
        .then(|| tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_350_527_000_000_000; // 2026-01-02T10:42:07Z

    #[test]
    fn names_and_offsets() {
        let check = |zone: &str, text: &str, expect: &str| {
            let ns = Zone::parse(zone).unwrap().moment(text, NOW).unwrap();
            let want: Timestamp = expect.parse().unwrap();
            assert_eq!(i128::from(ns), want.as_nanosecond(), "{zone} {text}");
        };
        check("UTC", "10:42", "2026-01-02T10:42:00Z");
        check("Europe/Berlin", "10:42", "2026-01-02T09:42:00Z");
        check("-05:30", "2026-01-02 10:42", "2026-01-02T16:12:00Z");
        for bad in ["", "Mars/Olympus", "+2", "+25:00", "+0a:00"] {
            assert!(Zone::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sentences_name_the_day_only_when_it_is_another() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        assert_eq!(zone.words(NOW, NOW), "11:42:07");
        assert_eq!(zone.words(NOW - 86_400_000_000_000, NOW), "2026-01-01 11:42:07");
    }

    #[test]
    fn clock_face_to_moment() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        assert_eq!(zone.moment_of_clock(NOW), Some(NOW - 3_600_000_000_000));
    }
}
