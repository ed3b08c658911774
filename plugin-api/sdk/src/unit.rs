//! Durations and sizes as people write them, read when the plugin is compiled: the defaults of options.
//!
//! Whole numbers only; a sum (`1h30m`) is allowed. The host reads the same forms, and fractions besides.

const fn is_letter(c: u8) -> bool {
    c.is_ascii_alphabetic()
}

const fn word_is(text: &[u8], from: usize, until: usize, word: &[u8]) -> bool {
    if until - from != word.len() {
        return false;
    }
    let mut i = 0;
    while i < word.len() {
        if !text[from + i].eq_ignore_ascii_case(&word[i]) {
            return false;
        }
        i += 1;
    }
    true
}

/// The first of `units` that the letters from `from` to `until` name, as its factor; 0 for none.
const fn factor(text: &[u8], from: usize, until: usize, units: &[(&str, u64)]) -> u64 {
    let mut i = 0;
    while i < units.len() {
        if word_is(text, from, until, units[i].0.as_bytes()) {
            return units[i].1;
        }
        i += 1;
    }
    0
}

/// A sum of numbers with units.
const fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.as_bytes();
    let (mut total, mut at) = (0u64, 0);
    if text.is_empty() {
        return None;
    }
    while at < text.len() {
        let (mut number, digits) = (0u64, at);
        while at < text.len() && text[at].is_ascii_digit() {
            number = match number.checked_mul(10) {
                Some(n) => match n.checked_add((text[at] - b'0') as u64) {
                    Some(n) => n,
                    None => return None,
                },
                None => return None,
            };
            at += 1;
        }
        if at == digits {
            return None;
        }
        let letters = at;
        while at < text.len() && is_letter(text[at]) {
            at += 1;
        }
        let part = match number.checked_mul(factor(text, letters, at, units)) {
            Some(part) if part > 0 || number == 0 => part,
            _ => return None,
        };
        total = match total.checked_add(part) {
            Some(total) => total,
            None => return None,
        };
    }
    Some(total)
}

/// `250ms`, `10s`, `1h30m` in nanoseconds.
pub const fn duration_ns(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("sec", 1_000_000_000),
        ("m", 60_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    sum(text, UNITS)
}

/// `512`, `64KiB`, `64K` (binary), `10MB` (decimal) in bytes.
pub const fn bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("b", 1),
        ("k", 1 << 10),
        ("kib", 1 << 10),
        ("m", 1 << 20),
        ("mib", 1 << 20),
        ("g", 1 << 30),
        ("gib", 1 << 30),
        ("t", 1 << 40),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
    ];
    sum(text, UNITS)
}

/// For constants: a wrong literal is an error of the plugin's compilation.
pub const fn duration_ns_or_panic(text: &str) -> u64 {
    match duration_ns(text) {
        Some(ns) => ns,
        None => panic!("not a duration; write whole numbers with units: 250ms, 10s, 1h30m"),
    }
}

/// For constants: a wrong literal is an error of the plugin's compilation.
pub const fn bytes_or_panic(text: &str) -> u64 {
    match bytes(text) {
        Some(bytes) => bytes,
        None => panic!("not a size; write a whole number with a unit: 512, 64KiB, 10MB"),
    }
}

/// `a,b,c`; nothing for an empty text.
pub fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration_ns("250ms"), Some(250_000_000));
        assert_eq!(duration_ns("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration_ns("0s"), Some(0));
        for bad in [
            "",
            "5",
            "s",
            "5x",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "999999999999d",
        ] {
            assert_eq!(duration_ns(bad), None, "{bad}");
        }
        assert_eq!(bytes("4KiB"), Some(4096));
        assert_eq!(bytes("17"), Some(17));
        assert_eq!(bytes("10MB"), Some(10_000_000));
        assert_eq!(bytes("5 parsecs"), None);
        assert_eq!(list("a, b,,c"), ["a", "b", "c"]);
    }
}
