//! Counters and amounts of the memory management, from `/proc/vmstat` (proc_vmstat(5)).
//!
//! The set of names differs from kernel to kernel (about 190 here), so a row is a name and a value, and no name is lost.
//! Fewer than half of the values change in a second: the rest is not handed over again.

use super::hand_over;
use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Counters (`pgfault`, `pswpin`, `oom_kill` …) and amounts in pages (`nr_free_pages`, `nr_dirty` …) of the kernel's memory
/// management. Source: `/proc/vmstat`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "vmstat", state)]
pub struct Vmstat {
    /// The kernel's name of the value.
    #[row(key)]
    pub name: String,
    /// Since boot for counters; for most names that begin with `nr_` what there is now, in pages.
    #[row(counter)]
    pub value: i64,
}

/// Options of `os.vmstat`.
#[derive(Options)]
pub struct VmstatOptions {
    /// Only these names.
    pub names: Option<Vec<String>>,
}

pub struct VmstatProbe {
    path: PathBuf,
    names: Option<Vec<String>>,
    last: Vec<Vmstat>,
}

impl Probe for VmstatProbe {
    type Options = VmstatOptions;
    type Tables = Vmstat;
    const NAME: &'static str = "vmstat";
    const DOC: &'static str = "Counters and amounts of the memory management, from /proc/vmstat.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, options: VmstatOptions) -> Result<Self> {
        let path = context.proc_dir().join("vmstat");
        read::text(&path)?;
        Ok(VmstatProbe {
            path,
            names: options.names,
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.path)?;
        let wanted = |row: &Vmstat| self.names.as_ref().is_none_or(|names| names.contains(&row.name));
        let rows = parse(&text).filter(wanted).collect();
        hand_over(rows, &mut self.last, |a, b| a.name == b.name, tick, out);
        Ok(())
    }
}

/// `nr_free_pages 3199470` on each line. Amounts summed over CPUs can dip below zero for a moment; the kernel shows 0 then.
fn parse(text: &str) -> impl Iterator<Item = Vmstat> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some(Vmstat {
            name: name.to_owned(),
            value: read::counter(value.trim())?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[(&str, i64)]) {
        let rows: Vec<_> = parse(text).collect();
        let found: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.value)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn forms_of_the_file() {
        check(
            "nr_free_pages 3199470\npgfault 7\n",
            &[("nr_free_pages", 3_199_470), ("pgfault", 7)],
        );
        check("pgfault 9223372036854775808\n", &[("pgfault", 0)]);
        check("", &[]);
        check("nonsense\nhalf a line\npgfault 1", &[("pgfault", 1)]);
    }
}
