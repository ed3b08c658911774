//! CPU time of every CPU, from `/proc/stat` (proc_stat(5)).
//!
//! The kernel counts in ticks of `USER_HZ`, 10 ms on nearly every machine: that is the resolution, whatever the unit. A CPU
//! that is offline has no line and so no row. `iowait` and `idle` may fall a little when a CPU goes offline and comes back.
//!
//! Cost: one file; the kernel also formats its interrupt counters there, so about 40 us on 2 CPUs and 1 ms on 256.

use super::{no_such_cpu, only_cpu};
use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Time each CPU has spent in each mode since boot. User time includes guest time, as the kernel counts it.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "cpu_time", state)]
pub struct CpuTime {
    /// `cpu0`, `cpu1` …, or `total`: the kernel's own sum over all CPUs. Source: first field of the line in `/proc/stat`.
    #[row(key)]
    pub cpu: String,
    /// In user mode, niced processes not included, guests included. Source: `user`.
    #[row(unit = "ns", counter)]
    pub user_ns: i64,
    /// In user mode with a positive nice value, guests included. Source: `nice`.
    #[row(unit = "ns", counter)]
    pub nice_ns: i64,
    /// In kernel mode, interrupts not included. Source: `system`.
    #[row(unit = "ns", counter)]
    pub system_ns: i64,
    /// Idle, with no I/O waited for. Source: `idle`.
    #[row(unit = "ns", counter)]
    pub idle_ns: i64,
    /// Idle while a task that last ran here waits for I/O. Source: `iowait`, since Linux 2.5.41.
    #[row(unit = "ns", counter)]
    pub iowait_ns: Option<i64>,
    /// Serving interrupts. Source: `irq`, since Linux 2.6.0.
    #[row(unit = "ns", counter)]
    pub irq_ns: Option<i64>,
    /// Serving softirqs. Source: `softirq`, since Linux 2.6.0.
    #[row(unit = "ns", counter)]
    pub softirq_ns: Option<i64>,
    /// Taken by the hypervisor for others while this guest wanted to run. Source: `steal`, since Linux 2.6.11.
    #[row(unit = "ns", counter)]
    pub steal_ns: Option<i64>,
    /// Running a virtual CPU of a guest; part of `user_ns`. Source: `guest`, since Linux 2.6.24.
    #[row(unit = "ns", counter)]
    pub guest_ns: Option<i64>,
    /// Running a virtual CPU of a niced guest; part of `nice_ns`. Source: `guest_nice`, since Linux 2.6.33.
    #[row(unit = "ns", counter)]
    pub guest_nice_ns: Option<i64>,
}

/// Options of `cpu.cpu_time`.
#[derive(Options)]
pub struct CpuTimeOptions {
    /// Only the CPU of this number.
    pub cpu: Option<i64>,
    /// Also the total over all CPUs.
    #[option(default = true)]
    pub total: bool,
}

pub struct CpuTimeProbe {
    stat: PathBuf,
    ticks_per_second: i64,
    only: Option<String>,
    total: bool,
}

impl Probe for CpuTimeProbe {
    type Options = CpuTimeOptions;
    type Tables = CpuTime;
    const NAME: &'static str = "cpu_time";
    const DOC: &'static str = "CPU time of every CPU in user, system, idle and other modes, from /proc/stat";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, options: CpuTimeOptions) -> Result<Self> {
        Ok(CpuTimeProbe {
            stat: context.proc_dir().join("stat"),
            ticks_per_second: read::user_hz(context.live()),
            only: only_cpu(options.cpu)?,
            total: options.total,
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let mut rows = parse_stat(&read::text(&self.stat)?, self.ticks_per_second);
        if rows.is_empty() {
            return Err(ProbeError::failed(format!(
                "{}: no line of a CPU in it",
                self.stat.display()
            )));
        }
        let only = self.only.as_deref();
        if let Some(only) = only.filter(|only| !rows.iter().any(|row| row.cpu == *only)) {
            return Err(no_such_cpu(only));
        }
        rows.retain(|row| match row.cpu.as_str() {
            "total" => self.total,
            cpu => only.is_none_or(|only| only == cpu),
        });
        out.full(rows);
        Ok(())
    }
}

/// The `cpu` lines of `/proc/stat`. Lines that are cut off before `idle` are passed over.
pub fn parse_stat(text: &str, ticks_per_second: i64) -> Vec<CpuTime> {
    text.lines()
        .take_while(|line| line.starts_with("cpu"))
        .filter_map(|line| parse_line(line, ticks_per_second))
        .collect()
}

fn parse_line(line: &str, ticks_per_second: i64) -> Option<CpuTime> {
    let (name, fields) = line.split_once(' ')?;
    let mut times = fields
        .split_ascii_whitespace()
        .map_while(|word| Some(read::ticks_ns(word.parse().ok()?, ticks_per_second)))
        .fuse();
    Some(CpuTime {
        cpu: if name == "cpu" { "total" } else { name }.to_owned(),
        user_ns: times.next()?,
        nice_ns: times.next()?,
        system_ns: times.next()?,
        idle_ns: times.next()?,
        iowait_ns: times.next(),
        irq_ns: times.next(),
        softirq_ns: times.next(),
        steal_ns: times.next(),
        guest_ns: times.next(),
        guest_nice_ns: times.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as `name user nice system idle iowait irq softirq steal guest guest_nice`, in ticks.
    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let rows: Vec<String> = parse_stat(text, 1_000_000_000)
            .into_iter()
            .map(|r| {
                let late = [
                    r.iowait_ns,
                    r.irq_ns,
                    r.softirq_ns,
                    r.steal_ns,
                    r.guest_ns,
                    r.guest_nice_ns,
                ];
                let late: String = late
                    .iter()
                    .map(|t| t.map_or(" -".to_owned(), |t| format!(" {t}")))
                    .collect();
                format!(
                    "{} {} {} {} {}{late}",
                    r.cpu, r.user_ns, r.nice_ns, r.system_ns, r.idle_ns
                )
            })
            .collect();
        assert_eq!(rows, expect);
    }

    #[test]
    fn kernels_old_and_new() {
        check(
            "cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0\n\
             cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0\n\
             cpu11 1 2 3 4 5 6 7 8 9 10\n\
             intr 8885917 17 0 0\nctxt 22848221062\nbtime 1605316999\ncpu9 9 9 9 9\n",
            &[
                "total 10132153 290696 3084719 46828483 16683 0 25195 0 175628 0",
                "cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0",
                "cpu11 1 2 3 4 5 6 7 8 9 10",
            ],
        );
        check("cpu  1 2 3 4 5 6 7 8\n", &["total 1 2 3 4 5 6 7 8 - -"]);
        check(
            "cpu  2255 34 2290 22625563\n",
            &["total 2255 34 2290 22625563 - - - - - -"],
        );
        check("cpu  1 2 3 4 5 6 7 8 9 10 11 12\n", &["total 1 2 3 4 5 6 7 8 9 10"]);
    }

    #[test]
    fn damaged_text() {
        check("", &[]);
        check("\n", &[]);
        check("cpu", &[]);
        check("cpu0 1 2 3\ncpu1 1 2 3 4\n", &["cpu1 1 2 3 4 - - - - - -"]);
        check("cpu0 1 2 3 4 x 6\n", &["cpu0 1 2 3 4 - - - - - -"]);
        check("cpu0 -1 2 3 4\n", &[]);
        check("softirq 1 2 3\ncpu0 1 2 3 4\n", &[]);
    }

    #[test]
    fn counters_past_2_to_the_63_begin_again() {
        check(
            "cpu0 9223372036854775807 9223372036854775808 18446744073709551615 9223372036854775813\n",
            &["cpu0 9223372036854775807 0 9223372036854775807 5 - - - - - -"],
        );
    }

    #[test]
    fn ticks_are_nanoseconds() {
        let rows = parse_stat("cpu0 3 0 0 12345\n", 100);
        assert_eq!((rows[0].user_ns, rows[0].idle_ns), (30_000_000, 123_450_000_000));
    }
}
