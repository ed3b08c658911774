//! Reading the kernel's small files, and the few forms of text that recur in them.
//!
//! **Invariants:** a file that is not there is `Unsupported` when a probe cannot do without it and `None` when it can;
//! no file is read past [`LIMIT`]; a number that does not fit never panics (see [`counter`] and [`quantity`]).
//! Kernel text is bytes: what is not UTF-8 becomes U+FFFD.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use vwatch_sdk::prelude::*;

/// No file of a probe is longer; the longest real one, `/proc/cpuinfo` of 8,192 CPUs, is about 12 MB.
pub const LIMIT: u64 = 64 << 20;

/// The whole text of a file that the probe cannot do without. Absent is `Unsupported`, forbidden is `Denied`, else `Failed`;
/// each names the file.
pub fn text(path: &Path) -> Result<String> {
    bytes(path)
        .map(|b| String::from_utf8(b).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
        .map_err(|e| error(path, &e))
}

/// The bytes of a file.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What an I/O error on `path` means to a probe.
pub fn error(path: &Path, error: &io::Error) -> ProbeError {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ProbeError::unsupported(message),
        io::ErrorKind::PermissionDenied => ProbeError::denied(message),
        _ => ProbeError::failed(message),
    }
}

/// The value in a file of one value, without the white space around it. `None` when it is absent, unreadable or empty: most of
/// `/sys` is optional, and some of its files answer `EINVAL` or `ENODEV` for "not now".
pub fn value(path: &Path) -> Option<String> {
    let bytes = bytes(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The number in a file of one number.
pub fn number<T: FromStr>(path: &Path) -> Option<T> {
    value(path)?.parse().ok()
}

/// The mask or id in a file of one hexadecimal number, with or without `0x`.
pub fn hex(path: &Path) -> Option<u64> {
    let text = value(path)?;
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
}

/// The switch in a file that says `1` or `0`.
pub fn switch(path: &Path) -> Option<bool> {
    number::<u8>(path).map(|n| n != 0)
}

/// A directory of files of one value each, as `/sys` is made of. Everything in it is optional.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Dir(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn dir(&self, name: &str) -> Dir {
        Dir(self.0.join(name))
    }

    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// See [`value`].
    pub fn value(&self, name: &str) -> Option<String> {
        value(&self.0.join(name))
    }

    /// See [`number`].
    pub fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        number(&self.0.join(name))
    }

    /// An amount, see [`quantity`].
    pub fn quantity(&self, name: &str) -> Option<i64> {
        quantity(&self.value(name)?)
    }

    /// An id, of which the kernel says -1 for "none".
    pub fn id(&self, name: &str) -> Option<i32> {
        self.number(name).filter(|&id| id >= 0)
    }

    /// See [`hex`].
    pub fn hex(&self, name: &str) -> Option<u64> {
        hex(&self.0.join(name))
    }

    /// See [`switch`].
    pub fn switch(&self, name: &str) -> Option<bool> {
        switch(&self.0.join(name))
    }

    /// See [`link_name`].
    pub fn link(&self, name: &str) -> Option<String> {
        link_name(&self.0.join(name))
    }

    /// Names in the directory, sorted; none where it is not there.
    pub fn names(&self) -> Vec<String> {
        names(&self.0).unwrap_or_default()
    }
}

/// Names in a directory, sorted. Absent is `Unsupported`, forbidden is `Denied`.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| error(dir, &e))? {
        let entry = entry.map_err(|e| error(dir, &e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Last part of what a symbolic link points to.
pub fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// A counter of up to 64 bits. Tables count in `i64`: past 2^63 a counter begins again at 0, as one that wraps does.
pub fn counter(word: &str) -> Option<i64> {
    word.parse().ok().map(wrap)
}

/// The low 63 bits.
pub fn wrap(counter: u64) -> i64 {
    (counter & i64::MAX as u64) as i64
}

/// An amount of up to 64 bits; one that does not fit becomes the largest there is.
pub fn quantity(word: &str) -> Option<i64> {
    match word.parse::<i64>() {
        Ok(n) => Some(n),
        Err(_) => word.parse::<u64>().ok().map(|_| i64::MAX),
    }
}

/// An amount with the unit that the kernel writes (`16384 kB`, `512K`, `4M`) in bytes. The kernel's `kB` is 1,024.
pub fn size_bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[digits..].trim_start() {
        "" | "B" => 0,
        "K" | "kB" | "KB" | "KiB" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        _ => return None,
    };
    quantity(&text[..digits]).map(|n| n.saturating_mul(1 << shift))
}

/// `name : value` lines as `/proc/meminfo`, `/proc/PID/status` and `/proc/cpuinfo` have them; other lines are passed over.
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
}

/// The word in brackets: `mq-deadline` of `none [mq-deadline] kyber`.
pub fn chosen(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// A list of CPUs or nodes: `0-3,8,10-11`. Ranges are bounded by `u16`, twice what the kernel can count.
pub fn list(text: &str) -> Vec<u32> {
    let mut members = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            members.extend(u32::from(first)..=u32::from(last));
        }
    }
    members
}

/// A mask of CPUs or nodes, in hexadecimal words of 32 bits: `ff,00000003` is 0, 1 and 32 to 39.
pub fn mask(text: &str) -> Vec<u32> {
    let digits = text.trim().bytes().rev().filter(|b| *b != b',').take(1 << 14);
    let mut members = Vec::new();
    for (i, digit) in digits.enumerate() {
        let bits = (digit as char).to_digit(16).unwrap_or(0);
        members.extend(
            (0..4)
                .filter(|bit| bits & (1 << bit) != 0)
                .map(|bit| 4 * i as u32 + bit),
        );
    }
    members
}

/// Writes sorted members as the kernel writes a list: `0-3,8`.
pub fn write_list(members: &[u32]) -> String {
    let runs = members.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// Undoes the `\040` escapes of `/proc/self/mountinfo` and `/proc/swaps`.
pub fn unescape(word: &str) -> String {
    if !word.contains('\\') {
        return word.to_owned();
    }
    let bytes = word.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes
            .get(i + 1..i + 4)
            .filter(|digits| bytes[i] == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `USER_HZ` of the kernel that runs, of which a tick of `/proc/stat` and `/proc/PID/stat` is one part.
pub fn ticks_per_second() -> i64 {
    sysconf(libc::_SC_CLK_TCK).unwrap_or(100)
}

/// The same for the kernel that a probe reads. A fixture's cannot be asked: 100, as it is on every architecture but Alpha.
pub fn user_hz(live: bool) -> i64 {
    if live { ticks_per_second() } else { 100 }
}

/// Ticks in nanoseconds, wrapped as [`counter`] says.
pub fn ticks_ns(ticks: u64, per_second: i64) -> i64 {
    wrap((u128::from(ticks) * 1_000_000_000 / per_second.max(1) as u128) as u64)
}

/// Bytes of a page of this kernel.
pub fn page_bytes() -> i64 {
    sysconf(libc::_SC_PAGESIZE).unwrap_or(4096)
}

/// A duration in the nanoseconds of a column.
pub fn duration_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn sysconf(name: libc::c_int) -> Option<i64> {
    // SAFETY: sysconf takes no pointers and answers -1 for a name that it does not know.
    let value = unsafe { libc::sysconf(name) };
    #[allow(clippy::useless_conversion)] // c_long is 32 bits wide on 32-bit machines
    (value > 0).then_some(i64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size() {
        assert_eq!(counter("9223372036854775807"), Some(i64::MAX));
        assert_eq!(counter("9223372036854775808"), Some(0));
        assert_eq!(counter("18446744073709551615"), Some(i64::MAX));
        assert_eq!(counter("-1"), None);
        assert_eq!(quantity("-1"), Some(-1));
        assert_eq!(quantity("18446744073709551615"), Some(i64::MAX));
        assert_eq!(quantity("max"), None);
        assert_eq!(ticks_ns(250, 100), 2_500_000_000);
        assert_eq!(
            ticks_ns(u64::MAX, 0),
            wrap((u128::from(u64::MAX) * 1_000_000_000) as u64)
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(size_bytes("16384 kB"), Some(16 << 20));
        assert_eq!(size_bytes("512K\n"), Some(512 << 10));
        assert_eq!(size_bytes("32M"), Some(32 << 20));
        assert_eq!(size_bytes("7"), Some(7));
        assert_eq!(size_bytes("kB"), None);
        assert_eq!(size_bytes("12 parsecs"), None);
    }

    #[test]
    fn lists() {
        assert_eq!(list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(list("\n"), [0u32; 0]);
        assert_eq!(list("5-3,x,7"), [7]);
        assert_eq!(list("0-99999999999"), [0u32; 0]);
        assert_eq!(mask("ff,00000003\n"), [0, 1, 32, 33, 34, 35, 36, 37, 38, 39]);
        assert_eq!(mask("f0"), [4, 5, 6, 7]);
        assert_eq!(mask(""), [0u32; 0]);
        assert_eq!(mask("zz1"), [0]);
        assert_eq!(write_list(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!(write_list(&[]), "");
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"/mnt/my\040disk\134x"), r"/mnt/my disk\x");
        assert_eq!(unescape(r"end\04"), r"end\04");
        assert_eq!(unescape(r"\777\303\251"), "\u{fffd}é");
    }

    #[test]
    fn lines_of_pairs() {
        let found: Vec<_> = pairs("MemTotal:       16 kB\nnonsense\nbogomips\t: 4.0\n\nflags\t\t:\n").collect();
        assert_eq!(found, [("MemTotal", "16 kB"), ("bogomips", "4.0"), ("flags", "")]);
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, " 12\n").unwrap();
        assert_eq!(number::<i64>(&file), Some(12));
        assert_eq!(hex(&file), Some(0x12));
        fs::write(&file, "\n").unwrap();
        assert_eq!(value(&file), None);
        assert_eq!(value(&dir.path().join("none")), None);
        fs::write(&file, b"caf\xe9").unwrap();
        assert_eq!(text(&file).unwrap(), "caf\u{fffd}");
        assert_eq!(names(dir.path()).unwrap(), ["f"]);
        let absent = text(&dir.path().join("none")).unwrap_err();
        assert!(absent.to_string().contains("none"), "{absent}");
        assert!(names(&file).is_err());
    }

    #[test]
    fn the_kernel_that_runs() {
        assert!([100, 250, 300, 1000, 1024].contains(&ticks_per_second()));
        assert_eq!(user_hz(true), ticks_per_second());
        assert_eq!(user_hz(false), 100);
        assert!(page_bytes() >= 4096 && (page_bytes() as u64).is_power_of_two());
    }
}
