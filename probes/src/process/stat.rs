//! `/proc/PID/stat` (proc_pid_stat(5)): one line of 52 fields, 17 to 44 of them on older kernels.
//!
//! `comm` stands in parentheses and may itself hold parentheses, spaces and newlines: it ends at the *last*
//! `)` of the file, since all that follows is one letter and numbers.

use super::row::Process;
use crate::read;

/// What the figures of this kernel are counted in.
#[derive(Debug, Clone, Copy)]
pub struct Units {
    pub ticks_per_second: i64,
    pub page_bytes: i64,
}

impl Units {
    /// Those of the kernel that runs.
    pub fn of_this_kernel() -> Self {
        Units {
            ticks_per_second: read::ticks_per_second(),
            page_bytes: read::page_bytes(),
        }
    }
}

/// Where the program lies in memory, `startcode` and `startstack`: another place after each exec. Both 0 or 1 for all when the
/// reader may not know. Not for storing: it would help an attacker.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Image(u64, u64);

/// Fills the columns that come from `stat`; `None` when the text is not of the file's form, as when it was cut short.
pub fn fill(text: &[u8], units: Units, row: &mut Process) -> Option<Image> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    row.pid = std::str::from_utf8(&text[..open]).ok()?.trim().parse().ok()?;
    row.comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
    let mut fields = Fields {
        words: rest.split_ascii_whitespace(),
        units,
    };
    row.state = fields.words.next()?.to_owned();
    row.ppid = fields.id()?;
    row.pgrp = fields.id()?;
    row.session = fields.id()?;
    row.tty_nr = fields.amount()?;
    row.tpgid = fields.id()?;
    row.flags = fields.amount()?;
    row.minflt = fields.counter()?;
    row.cminflt = fields.counter()?;
    row.majflt = fields.counter()?;
    row.cmajflt = fields.counter()?;
    row.utime_ns = fields.ticks_ns()?;
    row.stime_ns = fields.ticks_ns()?;
    row.cutime_ns = fields.ticks_ns()?;
    row.cstime_ns = fields.ticks_ns()?;
    row.priority = fields.amount()?;
    row.nice = fields.id()?;
    row.num_threads = fields.amount()?;
    fields.skip(1); // itrealvalue
    row.start_ticks = fields.counter()?;
    row.vsize_bytes = fields.amount()?;
    row.rss_bytes = fields.amount()?.saturating_mul(units.page_bytes);
    row.rsslim_bytes = fields.limit();
    let startcode = fields.address();
    fields.skip(1); // endcode
    let image = Image(startcode, fields.address());
    fields.skip(9); // kstkesp … cnswap
    row.exit_signal = fields.id().unwrap_or_default();
    row.processor = fields.id().unwrap_or_default();
    row.rt_priority = fields.amount().unwrap_or_default();
    row.policy = fields.id().unwrap_or_default();
    row.delayacct_blkio_ns = fields.ticks_ns().unwrap_or_default();
    row.guest_time_ns = fields.ticks_ns().unwrap_or_default();
    row.cguest_time_ns = fields.ticks_ns().unwrap_or_default();
    fields.skip(7); // start_data … env_end
    row.exit_status = fields.id().unwrap_or_default();
    Some(image)
}

struct Fields<'a> {
    words: std::str::SplitAsciiWhitespace<'a>,
    units: Units,
}

impl Fields<'_> {
    fn skip(&mut self, count: usize) {
        self.words.nth(count - 1);
    }

    fn id(&mut self) -> Option<i32> {
        self.words.next()?.parse().ok()
    }

    fn amount(&mut self) -> Option<i64> {
        read::quantity(self.words.next()?)
    }

    fn counter(&mut self) -> Option<i64> {
        read::counter(self.words.next()?)
    }

    fn address(&mut self) -> u64 {
        self.words.next().and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    /// Children's times are signed in the kernel, and below zero at worst by its rounding.
    fn ticks_ns(&mut self) -> Option<i64> {
        let ticks = self.amount()?.max(0) as u64;
        Some(read::ticks_ns(ticks, self.units.ticks_per_second))
    }

    /// The largest number of 64 or 32 bits stands for none.
    fn limit(&mut self) -> Option<i64> {
        let limit: u64 = self.words.next()?.parse().ok()?;
        (limit != u64::MAX && limit != u64::from(u32::MAX)).then_some(read::wrap(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units {
        ticks_per_second: 100,
        page_bytes: 4096,
    };

    fn parse(text: &[u8]) -> Option<Process> {
        let mut row = Process::default();
        fill(text, UNITS, &mut row).map(|_| row)
    }

    /// A real line but for its command name.
    fn line(comm: &[u8]) -> Vec<u8> {
        let rest = b") R 13061 13060 9891 34816 -1 4194304 104 1 2 3 250 99 7 8 20 -5 4 0 143968 3133440 394 \
            18446744073709551615 94179183964160 94179183984041 140725901240112 0 0 0 0 0 0 0 0 0 17 1 99 2 3 4 5 \
            94179184000048 94179184001664 94179517263872 140725901245120 140725901245172 140725901245172 140725901246443 256\n";
        [b"13071 (", comm, rest].concat()
    }

    #[test]
    fn every_field_lands_in_its_column() {
        let row = parse(&line(b"cat")).unwrap();
        assert_eq!(
            (row.pid, row.comm.as_str(), row.state.as_str(), row.ppid),
            (13071, "cat", "R", 13061)
        );
        assert_eq!(
            (row.pgrp, row.session, row.tty_nr, row.tpgid, row.flags),
            (13060, 9891, 34816, -1, 4_194_304)
        );
        assert_eq!((row.minflt, row.cminflt, row.majflt, row.cmajflt), (104, 1, 2, 3));
        assert_eq!((row.utime_ns, row.stime_ns), (2_500_000_000, 990_000_000));
        assert_eq!((row.cutime_ns, row.cstime_ns), (70_000_000, 80_000_000));
        assert_eq!(
            (row.priority, row.nice, row.num_threads, row.start_ticks),
            (20, -5, 4, 143_968)
        );
        assert_eq!(
            (row.vsize_bytes, row.rss_bytes, row.rsslim_bytes),
            (3_133_440, 394 * 4096, None)
        );
        assert_eq!(
            (row.exit_signal, row.processor, row.rt_priority, row.policy),
            (17, 1, 99, 2)
        );
        assert_eq!(
            (row.delayacct_blkio_ns, row.guest_time_ns, row.cguest_time_ns),
            (30_000_000, 40_000_000, 50_000_000)
        );
        assert_eq!(row.exit_status, 256);
    }

    #[test]
    fn another_program_has_another_image() {
        let image = |text: &[u8]| fill(text, UNITS, &mut Process::default()).unwrap();
        assert_eq!(image(&line(b"a")), Image(94_179_183_964_160, 140_725_901_240_112));
        assert_eq!(image(&line(b"a")), image(&line(b"b")));
    }

    #[test]
    fn command_names_of_all_sorts() {
        for comm in [
            "a) R 1 (b",
            "((((",
            "))",
            "two words",
            "line\nbreak",
            "",
            " ",
            "kworker/0:1H-kblockd",
        ] {
            let row = parse(&line(comm.as_bytes())).unwrap();
            assert_eq!((row.comm.as_str(), row.ppid), (comm, 13061));
        }
        assert_eq!(parse(&line(b"caf\xe9\xff")).unwrap().comm, "caf\u{fffd}\u{fffd}");
    }

    #[test]
    fn kernels_and_lines_that_end_early() {
        let whole = line(b"x");
        let text = String::from_utf8(whole.clone()).unwrap();
        // Linux 2.6.0 ended at field 39, `processor`.
        let old: String = text.split_inclusive(' ').take(39).collect();
        let row = parse(old.as_bytes()).unwrap();
        assert_eq!((row.processor, row.policy, row.exit_status), (1, 0, 0));
        let cut: String = text.split_inclusive(' ').take(20).collect();
        assert!(parse(cut.as_bytes()).is_none());
        for end in 0..whole.len() {
            parse(&whole[..end]);
        }
        for garbage in [&b""[..], b")(", b"1 (", b"1 () ", b"x (y) R 1"] {
            assert!(parse(garbage).is_none(), "{garbage:?}");
        }
    }

    #[test]
    fn counters_past_63_bits() {
        let text = String::from_utf8(line(b"x"))
            .unwrap()
            .replace(" 104 ", " 9223372036854775809 ");
        assert_eq!(parse(text.as_bytes()).unwrap().minflt, 1);
        let text = text.replace(" 250 ", " 18446744073709551615 ");
        assert!(parse(text.as_bytes()).unwrap().utime_ns >= 0);
    }
}
