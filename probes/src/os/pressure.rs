//! Pressure stall information, from `/proc/pressure/*` (the kernel's `Documentation/accounting/psi.rst`).

use crate::read;
use std::io;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

const RESOURCES: [&str; 4] = ["cpu", "memory", "io", "irq"];

/// How long tasks have been stalled for want of a resource. Source: `/proc/pressure`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "pressure", state)]
pub struct Pressure {
    /// `cpu`, `memory`, `io` or `irq`.
    #[row(key)]
    pub resource: String,
    /// `some`: at least one task was stalled; `full`: all tasks that were not idle were stalled at once.
    #[row(key)]
    pub kind: String,
    /// Share of the last 10 seconds.
    #[row(unit = "percent")]
    pub avg10: f64,
    /// Share of the last minute.
    #[row(unit = "percent")]
    pub avg60: f64,
    /// Share of the last 5 minutes.
    #[row(unit = "percent")]
    pub avg300: f64,
    /// Stalled time since boot.
    #[row(unit = "ns", counter)]
    pub total_ns: i64,
}

pub struct PressureProbe {
    dir: PathBuf,
}

impl Probe for PressureProbe {
    type Options = NoOptions;
    type Tables = Pressure;
    const NAME: &'static str = "pressure";
    const DOC: &'static str = "Pressure stall information, from /proc/pressure.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, _options: NoOptions) -> Result<Self> {
        let dir = context.proc_dir().join("pressure");
        sample(&dir)?;
        Ok(PressureProbe { dir })
    }

    fn run(&mut self, _tick: &Tick, out: &mut Out) -> Result<()> {
        out.full(sample(&self.dir)?);
        Ok(())
    }
}

/// All resources that this kernel watches: `irq` came with 6.1, `full` of `cpu` with 5.13.
fn sample(dir: &Path) -> Result<Vec<Pressure>> {
    let mut rows = Vec::new();
    for resource in RESOURCES {
        let path = dir.join(resource);
        match read::bytes(&path) {
            Ok(bytes) => rows.extend(parse(resource, &String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Err(ProbeError::unsupported(format!(
                    "{}: {e}: the kernel was booted without psi=1",
                    path.display()
                )));
            }
            Err(e) => return Err(read::error(&path, &e)),
        }
    }
    if rows.is_empty() {
        let why = format!(
            "{}: there is none (a kernel before 4.20, or built without CONFIG_PSI)",
            dir.display()
        );
        return Err(ProbeError::unsupported(why));
    }
    Ok(rows)
}

/// `some avg10=0.51 avg60=0.55 avg300=0.34 total=13497912`, total in microseconds.
pub(super) fn parse(resource: &str, text: &str) -> Vec<Pressure> {
    text.lines().filter_map(|line| parse_line(resource, line)).collect()
}

fn parse_line(resource: &str, line: &str) -> Option<Pressure> {
    let (kind, values) = line.split_once(' ')?;
    let value = |name: &str| {
        let named = |word: &'_ str| {
            word.split_once('=')
                .filter(|(n, _)| *n == name)
                .map(|(_, v)| v.to_owned())
        };
        values.split_ascii_whitespace().find_map(named)
    };
    let average = |name: &str| value(name)?.parse::<f64>().ok();
    Some(Pressure {
        resource: resource.to_owned(),
        kind: kind.to_owned(),
        avg10: average("avg10")?,
        avg60: average("avg60")?,
        avg300: average("avg300")?,
        total_ns: read::wrap(value("total")?.parse::<u64>().ok()?.wrapping_mul(1000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_file() {
        let rows = parse(
            "io",
            "some avg10=0.51 avg60=12.55 avg300=99.34 total=13497912\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        );
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].kind.as_str(), rows[0].avg60, rows[0].total_ns),
            ("some", 12.55, 13_497_912_000)
        );
        assert_eq!(
            (rows[1].kind.as_str(), rows[1].avg10, rows[1].total_ns),
            ("full", 0.0, 0)
        );
        assert!(parse("io", "").is_empty());
        assert!(parse("io", "some avg10=0.51 avg60=12.55\nfull\n").is_empty());
    }
}
