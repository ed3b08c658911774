//! Load averages, from `/proc/loadavg` (proc_loadavg(5)).

use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Load averages: tasks that run or wait for a CPU or in uninterruptible sleep, averaged over time. Source: `/proc/loadavg`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "load", state)]
pub struct Load {
    /// Averaged over 1 minute.
    pub load_1m: f64,
    /// Averaged over 5 minutes.
    pub load_5m: f64,
    /// Averaged over 15 minutes.
    pub load_15m: f64,
    /// Tasks (threads) that run or wait for a CPU now.
    pub runnable: i64,
    /// Tasks (threads) that exist.
    pub tasks_total: i64,
    /// Process or thread id that was given out last.
    pub last_pid: i32,
}

pub struct LoadProbe {
    path: PathBuf,
}

impl Probe for LoadProbe {
    type Options = NoOptions;
    type Tables = Load;
    const NAME: &'static str = "load";
    const DOC: &'static str = "Load averages, from /proc/loadavg.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, _options: NoOptions) -> Result<Self> {
        let path = context.proc_dir().join("loadavg");
        read::text(&path)?;
        Ok(LoadProbe { path })
    }

    fn run(&mut self, _tick: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.path)?;
        let load = parse(&text)
            .ok_or_else(|| ProbeError::failed(format!("{}: not of its known form: {text:?}", self.path.display())))?;
        out.full(vec![load]);
        Ok(())
    }
}

/// `0.51 0.55 0.34 2/123 13071`
fn parse(text: &str) -> Option<Load> {
    let mut words = text.split_ascii_whitespace();
    let mut average = || words.next()?.parse::<f64>().ok();
    let (load_1m, load_5m, load_15m) = (average()?, average()?, average()?);
    let (runnable, total) = words.next()?.split_once('/')?;
    Some(Load {
        load_1m,
        load_5m,
        load_15m,
        runnable: read::quantity(runnable)?,
        tasks_total: read::quantity(total)?,
        last_pid: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_file() {
        let load = parse("0.51 10.55 4096.34 2/123 13071\n").unwrap();
        assert_eq!((load.load_1m, load.load_5m, load.load_15m), (0.51, 10.55, 4096.34));
        assert_eq!((load.runnable, load.tasks_total, load.last_pid), (2, 123, 13071));
        for broken in [
            "",
            "\n",
            "0.1 0.2 0.3",
            "0.1 0.2 0.3 4 5",
            "a b c 1/2 3",
            "0.1 0.2 0.3 1/2",
        ] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }
}
