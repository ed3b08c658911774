//! Figures of the scheduler, from the lines of `/proc/stat` that are not about one CPU (proc_stat(5)).

use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Context switches, forks, interrupts and runnable processes of the whole host. Source: `/proc/stat`.
#[derive(Row, Debug, Clone, Default, PartialEq)]
#[row(table = "scheduler", state)]
pub struct Scheduler {
    /// Context switches since boot, over all CPUs.
    #[row(counter)]
    pub ctxt: i64,
    /// Processes and threads made since boot.
    #[row(counter)]
    pub processes: i64,
    /// Tasks that run or wait for a CPU now.
    pub procs_running: i64,
    /// Tasks that wait for I/O now.
    pub procs_blocked: i64,
    /// Interrupts served since boot, the unnumbered ones too.
    #[row(counter)]
    pub intr: i64,
    /// Softirqs served since boot.
    #[row(counter)]
    pub softirq: i64,
    /// When the host was booted, to the second, by the wall clock of now: it moves when the clock is set.
    pub btime: Timestamp,
}

pub struct SchedulerProbe {
    path: PathBuf,
}

impl Probe for SchedulerProbe {
    type Options = NoOptions;
    type Tables = Scheduler;
    const NAME: &'static str = "scheduler";
    const DOC: &'static str = "Context switches, forks, interrupts and runnable processes, from /proc/stat.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, _options: NoOptions) -> Result<Self> {
        let path = context.proc_dir().join("stat");
        read::text(&path)?;
        Ok(SchedulerProbe { path })
    }

    fn run(&mut self, _tick: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.path)?;
        let row = parse(&text)
            .ok_or_else(|| ProbeError::failed(format!("{}: it has no line `ctxt`", self.path.display())))?;
        out.full(vec![row]);
        Ok(())
    }
}

fn parse(text: &str) -> Option<Scheduler> {
    let mut row = Scheduler::default();
    let mut found = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let Some(value) = read::counter(value) else {
            continue;
        };
        match name {
            "intr" => row.intr = value,
            "ctxt" => (row.ctxt, found) = (value, true),
            "btime" => row.btime = Timestamp(value.saturating_mul(1_000_000_000)),
            "processes" => row.processes = value,
            "procs_running" => row.procs_running = value,
            "procs_blocked" => row.procs_blocked = value,
            "softirq" => row.softirq = value,
            _ => {}
        }
    }
    found.then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_file() {
        let text = "cpu  34247 0 4682 247431 852 0 35 18 0 0\ncpu0 1 2\nintr 303235 0 7\nctxt 396593\n\
                    btime 1795350922\nprocesses 13074\nprocs_running 2\nprocs_blocked 1\nsoftirq 194331 0 28632\n";
        let expect = Scheduler {
            ctxt: 396_593,
            processes: 13_074,
            procs_running: 2,
            procs_blocked: 1,
            intr: 303_235,
            softirq: 194_331,
            btime: Timestamp(1_795_350_922_000_000_000),
        };
        assert_eq!(parse(text), Some(expect));
        // Before 2.6.31 there was no line of softirqs.
        assert_eq!(
            parse("ctxt 9223372036854775809\n").map(|row| (row.ctxt, row.softirq)),
            Some((1, 0))
        );
        assert_eq!(parse(""), None);
        assert_eq!(parse("ctxt\nctxt x\n"), None);
    }
}
