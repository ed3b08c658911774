//! Times: the two clocks of a sample, and how people write a moment.
//!
//! A time without a zone is local, in flags and in SQL literals alike.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Unit, Zoned};

/// A moment on both clocks. Their difference moves only when the wall clock is stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Nanoseconds since the epoch, `CLOCK_REALTIME`.
    pub wall_ns: i64,
    /// Nanoseconds since boot, suspended time included, `CLOCK_BOOTTIME`.
    pub boot_ns: i64,
}

/// A moment in a request. What people write relative to now is relative to the `now` of the store that answers: the last
/// commit of a copied file, the clock of a remote host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Nanoseconds since the epoch.
    Ns(i64),
    /// So many nanoseconds before now.
    AgoNs(i64),
}

impl Moment {
    /// Nanoseconds since the epoch, given that now is `now_ns`.
    pub fn at(self, now_ns: i64) -> i64 {
        match self {
            Moment::Ns(ns) => ns,
            Moment::AgoNs(ago_ns) => now_ns.saturating_sub(ago_ns),
        }
    }
}

/// Reads a moment as [`parse_moment`] does, but leaves `now` and `-5m` relative.
pub fn parse_relative(text: &str, now: &Zoned) -> Result<Moment, TimeError> {
    let ns = parse_moment(text, now)?;
    let written = text.trim();
    if written.starts_with('-') || written.eq_ignore_ascii_case("now") {
        return Ok(Moment::AgoNs(to_ns(now.timestamp(), text)? - ns));
    }
    Ok(Moment::Ns(ns))
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    #[error(
        "{0:?} is not a time; write RFC 3339 (2024-05-01T10:42:00+02:00), 10:42, 10:42:07, yesterday 10:42, 2024-05-01 10:42, -5m or now"
    )]
    Form(String),
    #[error("{0:?} is outside the times that can be stored (1678 to 2261)")]
    Range(String),
}

/// Reads a moment as people write it, relative to `now`: RFC 3339, `now`, `-5m`, `10:42[:07[.5]]` (today), `yesterday [10:42]`,
/// `today 10:42`, `2024-05-01`, `2024-05-01 10:42[:07]`, and `@` with seconds since the epoch. Without a zone it is local.
/// Answers nanoseconds since the epoch.
pub fn parse_moment(text: &str, now: &Zoned) -> Result<i64, TimeError> {
    let t = text.trim();
    let form = || TimeError::Form(text.to_owned());
    if t.eq_ignore_ascii_case("now") {
        return to_ns(now.timestamp(), text);
    }
    if let Some(back) = t.strip_prefix('-') {
        let d = crate::unit::parse_duration(back).map_err(|_| form())?;
        let span = i64::try_from(d.as_nanos()).map_err(|_| TimeError::Range(text.to_owned()))?;
        let then = now
            .timestamp()
            .checked_sub(span.nanoseconds())
            .map_err(|_| TimeError::Range(text.to_owned()))?;
        return to_ns(then, text);
    }
    if let Some(epoch) = t.strip_prefix('@') {
        let seconds: f64 = epoch.parse().map_err(|_| form())?;
        let whole = seconds.floor();
        if !(-9.2e9..=9.2e9).contains(&whole) {
            return Err(TimeError::Range(text.to_owned()));
        }
        return Ok(whole as i64 * 1_000_000_000 + ((seconds - whole) * 1e9).round() as i64);
    }
    if let Ok(stamp) = t.parse::<Timestamp>() {
        return to_ns(stamp, text);
    }
    let local = civil_moment(t, now).ok_or_else(form)?;
    let zoned = local
        .to_zoned(now.time_zone().clone())
        .map_err(|_| TimeError::Range(text.to_owned()))?;
    to_ns(zoned.timestamp(), text)
}

/// A moment without a zone.
fn civil_moment(t: &str, now: &Zoned) -> Option<civil::DateTime> {
    let today = now.date();
    let (word, rest) = t.split_once(' ').unwrap_or((t, ""));
    let day = match word.to_ascii_lowercase().as_str() {
        "yesterday" => Some(today.yesterday().ok()?),
        "today" => Some(today),
        _ => None,
    };
    if let Some(day) = day {
        let rest = rest.trim();
        return if rest.is_empty() {
            Some(day.at(0, 0, 0, 0))
        } else {
            Some(day.to_datetime(clock(rest)?))
        };
    }
    if let Some(time) = clock(t) {
        return Some(today.to_datetime(time));
    }
    if let Ok(at) = t.parse::<civil::DateTime>() {
        return Some(at);
    }
    t.parse::<civil::Date>().ok().map(|d| d.at(0, 0, 0, 0))
}

/// `10:42`, `10:42:07`, `10:42:07.25`.
fn clock(t: &str) -> Option<civil::Time> {
    if t.as_bytes().get(1) == Some(&b':') {
        return clock(&format!("0{t}"));
    }
    (t.as_bytes().get(2) == Some(&b':'))
        .then(|| t.parse::<civil::Time>().ok())
        .flatten()
}

fn to_ns(t: Timestamp, text: &str) -> Result<i64, TimeError> {
    i64::try_from(t.as_nanosecond()).map_err(|_| TimeError::Range(text.to_owned()))
}

/// RFC 3339 in `zone`, to the millisecond (finer digits are cut, never rounded up).
pub fn format_ns(ns: i64, zone: &TimeZone) -> String {
    match Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(t) => {
            let z = t.to_zoned(zone.clone());
            let cut = z
                .round(
                    jiff::ZonedRound::new()
                        .smallest(Unit::Millisecond)
                        .mode(jiff::RoundMode::Trunc),
                )
                .unwrap_or(z);
            cut.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
        }
        Err(_) => format!("@{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2024-05-01T10:30:00.5[Europe/Berlin]".parse().unwrap()
    }

    fn check(text: &str, expect: &str) {
        let ns = parse_moment(text, &now()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let want: Timestamp = expect.parse().unwrap();
        assert_eq!(ns as i128, want.as_nanosecond(), "{text}");
    }

    #[test]
    fn moments() {
        check("now", "2024-05-01T08:30:00.5Z");
        check("-5m", "2024-05-01T08:25:00.5Z");
        check("10:42", "2024-05-01T08:42:00Z");
        check("9:05:07.25", "2024-05-01T07:05:07.25Z");
        check("yesterday 10:42", "2024-04-30T08:42:00Z");
        check("yesterday", "2024-04-29T22:00:00Z");
        check("2024-03-01 10:42", "2024-03-01T09:42:00Z");
        check("2024-03-01T10:42:01", "2024-03-01T09:42:01Z");
        check("2024-05-01T10:42:00Z", "2024-05-01T10:42:00Z");
        check("2024-05-01T10:42:00+02:00", "2024-05-01T08:42:00Z");
        check("2024-05-01", "2024-04-30T22:00:00Z");
        check("@1714559400", "2024-05-01T10:30:00Z");
    }

    #[test]
    fn relative_moments_stay_relative() {
        assert_eq!(parse_relative("now", &now()), Ok(Moment::AgoNs(0)));
        assert_eq!(parse_relative("-5m", &now()), Ok(Moment::AgoNs(300_000_000_000)));
        assert_eq!(parse_relative("@7", &now()), Ok(Moment::Ns(7_000_000_000)));
        assert_eq!(Moment::AgoNs(5).at(12), 7);
        assert!(parse_relative("-5 parsecs", &now()).is_err());
    }

    #[test]
    fn not_moments() {
        for bad in ["", "soon", "25:00", "-5", "yesterday noonish", "10", "@x", "2024-13-01"] {
            assert!(parse_moment(bad, &now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn written_in_the_zone() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(
            format_ns(1_714_559_400_123_999_999, &zone),
            "2024-05-01T12:30:00.123+02:00"
        );
    }
}
