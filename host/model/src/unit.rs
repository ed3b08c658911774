//! Durations and sizes as people write them.

use std::time::Duration;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    #[error("{0:?} is not a duration; write a number and a unit: 250ms, 10s, 5m, 2h, 1d")]
    Duration(String),
    #[error("{0:?} is not a size; write a number and a unit: 512, 64KiB, 10MB, 2GiB")]
    Bytes(String),
    #[error("{0:?} is not a share of a CPU; write a percentage: 1%, 0.5%")]
    Percent(String),
}

/// `250ms`, `1.5s`, `10s`, `5m`, `2h`, `1d`, `500us`, `100ns`, and sums of them (`1h30m`).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(bad)?;
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" | "sec" => 1e9,
            "m" | "min" => 60e9,
            "h" => 3600e9,
            "d" => 86400e9,
            _ => return Err(bad()),
        };
        total += number * scale;
        rest = after.trim_start();
    }
    if !(0.0..=9.0e18).contains(&total) {
        return Err(bad());
    }
    Ok(Duration::from_nanos(total.round() as u64))
}

/// `512`, `64KiB`, `64K` (binary), `10MB` (decimal), `2GiB`.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Bytes(text.to_owned());
    let (number, unit, after) = number_and_unit(text.trim()).ok_or_else(bad)?;
    let scale: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1048576.0,
        "g" | "gib" => 1073741824.0,
        "t" | "tib" => 1099511627776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(bad()),
    };
    let bytes = number * scale;
    if !after.is_empty() || !(0.0..=9.0e18).contains(&bytes) {
        return Err(bad());
    }
    Ok(bytes.round() as u64)
}

/// `1%` as 0.01.
pub fn parse_percent(text: &str) -> Result<f64, UnitError> {
    let bad = || UnitError::Percent(text.to_owned());
    let number: f64 = text
        .trim()
        .strip_suffix('%')
        .ok_or_else(bad)?
        .trim()
        .parse()
        .map_err(|_| bad())?;
    if number > 0.0 && number <= 100_000.0 {
        Ok(number / 100.0)
    } else {
        Err(bad())
    }
}

/// The shortest exact writing of a duration that [`parse_duration`] reads back.
pub fn format_duration(d: Duration) -> String {
    let ns = d.as_nanos();
    for (unit, scale) in [
        ("d", 86_400_000_000_000u128),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ] {
        if ns >= scale && ns.is_multiple_of(scale) {
            return format!("{}{unit}", ns / scale);
        }
    }
    if ns == 0 { "0s".to_owned() } else { format!("{ns}ns") }
}

/// A number, the letters after it, and the rest. A bare number has an empty unit.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = text[..digits].parse::<f64>().ok()?;
    let tail = text[digits..].trim_start();
    let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
    Some((number, &tail[..letters], &tail[letters..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, ns: u64| assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        check("250ms", 250_000_000);
        check("1.5s", 1_500_000_000);
        check("1h30m", 5_400_000_000_000);
        check("2 m", 120_000_000_000);
        for bad in ["", "5", "5x", "ms", "-1s", "1e3s", "99999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for text in ["250ms", "90s", "7ns", "2h", "1d", "0s"] {
            let d = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(parse_bytes("4KiB"), Ok(4096));
        assert_eq!(parse_bytes("4k"), Ok(4096));
        assert_eq!(parse_bytes("10MB"), Ok(10_000_000));
        assert_eq!(parse_bytes("17"), Ok(17));
        assert!(parse_bytes("x").is_err() && parse_bytes("5 parsecs").is_err());
        assert_eq!(parse_percent("1%"), Ok(0.01));
        assert!(parse_percent("1").is_err() && parse_percent("0%").is_err());
    }
}
