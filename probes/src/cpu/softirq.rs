//! Softirqs by kind and by CPU, from `/proc/softirqs` (since Linux 2.6.31, `fs/proc/softirqs.c`).
//!
//! The file has a column for each CPU that the kernel could ever have: on many virtual machines ten times as many as there are.
//! A CPU of which every count is zero has not run since boot, and has no rows. One that went offline keeps its counts.
//!
//! The kernel counts in 32 bits: a count that passes 2^32 begins again at 0.
//!
//! Cost: one file of ten lines, 10 us on 2 CPUs.

use super::{bad_line, heading, no_such_cpu, only_cpu};
use crate::os::hand_over;
use crate::read;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// How often each CPU ran each kind of softirq, the work that interrupts put off.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "softirq", state)]
pub struct Softirq {
    /// `NET_RX`, `TIMER`, `BLOCK`, `RCU` … Source: first field of the line in `/proc/softirqs`.
    #[row(key)]
    pub softirq: String,
    /// `cpu0` …, as in `cpu_time`. Source: heading of the column in `/proc/softirqs`.
    #[row(key)]
    pub cpu: String,
    /// Runs since boot, in 32 bits. Source: the CPU's column in `/proc/softirqs`.
    #[row(counter)]
    pub softirqs: i64,
}

/// Options of `cpu.softirq`.
#[derive(Options)]
pub struct SoftirqOptions {
    /// Only the CPU of this number.
    pub cpu: Option<i64>,
}

pub struct SoftirqProbe {
    path: PathBuf,
    only: Option<String>,
    last: Vec<Softirq>,
}

impl Probe for SoftirqProbe {
    type Options = SoftirqOptions;
    type Tables = Softirq;
    const NAME: &'static str = "softirq";
    const DOC: &'static str = "Softirqs by kind and by CPU, from /proc/softirqs";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, options: SoftirqOptions) -> Result<Self> {
        Ok(SoftirqProbe {
            path: context.proc_dir().join("softirqs"),
            only: only_cpu(options.cpu)?,
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let mut rows = parse(&self.path, &read::text(&self.path)?)?;
        if let Some(only) = &self.only {
            rows.retain(|row| row.cpu == *only);
            if rows.is_empty() {
                return Err(no_such_cpu(only));
            }
        }
        let same_key = |a: &Softirq, b: &Softirq| a.softirq == b.softirq && a.cpu == b.cpu;
        hand_over(rows, &mut self.last, same_key, tick, out);
        Ok(())
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<Softirq>> {
    let mut lines = text.lines().enumerate();
    let cpus = lines.next().and_then(|(_, line)| heading(line));
    let cpus = cpus.ok_or_else(|| bad_line(path, 1, "no heading with the names of CPUs"))?;
    let mut parsed = Vec::new();
    for (i, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let line = parse_line(line).filter(|(_, counts)| counts.len() == cpus.len());
        parsed.push(line.ok_or_else(|| bad_line(path, i + 1, "not a kind of softirq with a count for each CPU"))?);
    }
    let has_run = |cpu: usize| parsed.iter().any(|(_, counts)| counts[cpu] > 0);
    let has_run: Vec<bool> = (0..cpus.len()).map(has_run).collect();
    let mut rows = Vec::new();
    for (softirq, counts) in parsed {
        let counts = cpus.iter().zip(counts).zip(&has_run).filter(|(_, has_run)| **has_run);
        rows.extend(counts.map(|((cpu, softirqs), _)| Softirq {
            softirq: softirq.to_owned(),
            cpu: cpu.clone(),
            softirqs,
        }));
    }
    Ok(rows)
}

fn parse_line(line: &str) -> Option<(&str, Vec<i64>)> {
    let (name, counts) = line.split_once(':')?;
    let counts: Option<Vec<i64>> = counts.split_ascii_whitespace().map(read::counter).collect();
    Some((name.trim(), counts?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_have_never_run_have_no_rows() {
        let text = "                    CPU0       CPU1       CPU2       CPU3       \n\
                    \x20         HI:          0          0          0          0\n\
                    \x20      TIMER:     990352          0     897303          0\n\
                    \x20     NET_RX:          0          0 4294967295          0\n";
        let rows = parse(Path::new("f"), text).unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.softirq.as_str(), row.cpu.as_str(), row.softirqs))
            .collect();
        assert_eq!(
            rows,
            [
                ("HI", "cpu0", 0),
                ("HI", "cpu2", 0),
                ("TIMER", "cpu0", 990_352),
                ("TIMER", "cpu2", 897_303),
                ("NET_RX", "cpu0", 0),
                ("NET_RX", "cpu2", 4_294_967_295),
            ]
        );
    }

    #[test]
    fn damaged_text_is_named() {
        let failed = |text: &str| parse(Path::new("/proc/softirqs"), text).unwrap_err().to_string();
        let heading = "/proc/softirqs:1: no heading with the names of CPUs";
        assert_eq!(failed(""), heading);
        assert_eq!(failed("  HI: 1 2\n"), heading);
        for line in ["HI", "HI:", "HI: 1", "HI: 1 2 3", "HI: 1 x"] {
            let expect = "/proc/softirqs:3: not a kind of softirq with a count for each CPU";
            assert_eq!(failed(&format!("  CPU0 CPU1\nTIMER: 1 2\n{line}\n")), expect, "{line}");
        }
    }
}
