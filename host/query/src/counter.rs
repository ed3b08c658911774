//! How much a counter has grown between two readings of it.
//!
//! A counter only grows while what it counts lives. A value below the one before means that it was reset, and has counted from
//! zero since; but one that was just below 2^32 has wrapped, as the kernel's 32-bit counters do (the `unsigned int` ones of
//! `/proc/net/dev` and of drivers). More than one reset or wrap between two readings cannot be seen.

use std::fmt::Debug;

/// End of a 32-bit counter, and how close to it a value has to be for a fall to be a wrap.
const WRAP: u64 = 1 << 32;
const CLOSE: u64 = 1 << 28;

/// A number that counts.
pub trait Counter: Copy + Default + Debug + PartialOrd + Send + Sync + 'static {
    /// The growth from `before` to here.
    fn since(self, before: Self) -> Self;
    /// A sum of growths; it stays at the largest value rather than begin again.
    fn plus(self, more: Self) -> Self;
    fn as_f64(self) -> f64;
}

impl Counter for u64 {
    fn since(self, before: u64) -> u64 {
        if self >= before {
            self - before
        } else if (WRAP - CLOSE..WRAP).contains(&before) {
            self + (WRAP - before)
        } else {
            self
        }
    }

    fn plus(self, more: u64) -> u64 {
        self.saturating_add(more)
    }

    fn as_f64(self) -> f64 {
        self as f64
    }
}

/// Columns of 64 signed bits; what is below zero was never counted.
impl Counter for i64 {
    fn since(self, before: i64) -> i64 {
        if self >= before {
            return self.saturating_sub(before);
        }
        match (u64::try_from(self), u64::try_from(before)) {
            (Ok(now), Ok(before)) => i64::try_from(now.since(before)).unwrap_or(i64::MAX),
            _ => self.max(0),
        }
    }

    fn plus(self, more: i64) -> i64 {
        self.saturating_add(more)
    }

    fn as_f64(self) -> f64 {
        self as f64
    }
}

impl Counter for f64 {
    fn since(self, before: f64) -> f64 {
        if self >= before { self - before } else { self }
    }

    fn plus(self, more: f64) -> f64 {
        self + more
    }

    fn as_f64(self) -> f64 {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth() {
        let check = |before: u64, now: u64, expect: u64| assert_eq!(now.since(before), expect, "{before} to {now}");
        check(5, 7, 2);
        check(7, 7, 0);
        check(7, 5, 5);
        check(1 << 40, 3, 3);
        check((1 << 32) - 1, 0, 1);
        check((1 << 32) - (1 << 28), 10, (1 << 28) + 10);
        check((1 << 32) - (1 << 28) - 1, 10, 10);
        check(1 << 32, 10, 10);
        check(0, u64::MAX, u64::MAX);
        assert_eq!(u64::MAX.plus(1), u64::MAX);
        assert_eq!(((1i64 << 32) + 5).since((1 << 32) - 1), 6);
        assert_eq!(4i64.since((1 << 32) - 1), 5);
        assert_eq!((-3i64).since(-5), 2);
        assert_eq!((-7i64).since(-5), 0);
        assert_eq!(i64::MAX.since(i64::MIN), i64::MAX);
        assert_eq!(2.5f64.since(1.0), 1.5);
        assert_eq!(0.5f64.since(1.0), 0.5);
    }
}
