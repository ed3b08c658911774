//! How fast each CPU runs and how fast it may, from `/sys/devices/system/cpu/cpuN/cpufreq` (kernel documentation:
//! `admin-guide/pm/cpufreq`).
//!
//! Without cpufreq, as on most virtual machines, the frequency is what `/proc/cpuinfo` tells, and the other columns are NULL. Arm
//! tells none there: without cpufreq the probe is unsupported. A CPU that is offline has no row.
//!
//! Cost: `/proc/cpuinfo` and five small files a CPU. Reading a frequency can make the kernel measure it: Linux 4.13 to 5.17 on
//! x86 sleeps 10 to 20 ms for each CPU that was not measured within the last second. Opening `/proc/cpuinfo` lets most of these
//! kernels measure all CPUs at once, so it is read first.

use super::{no_such_cpu, only_cpu};
use crate::os::hand_over;
use crate::read::{self, Dir};
use crate::system::cpu_info::cpu_number;
use crate::system::proc_cpuinfo::ProcCpuinfo;
use std::collections::BTreeSet;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Frequency of each CPU that is online, and the policy for it.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "cpu_frequency", state)]
pub struct CpuFrequency {
    /// `cpu0` …, as in `cpu_time`. Source: `/sys/devices/system/cpu`, `processor` in `/proc/cpuinfo`.
    #[row(key)]
    pub cpu: String,
    /// What the CPU runs at: measured lately, or what the driver last asked for. Source: `cpuN/cpufreq/scaling_cur_freq`, else
    /// in `/proc/cpuinfo` `cpu MHz`; s390: `cpu MHz dynamic`; POWER: `clock`.
    #[row(unit = "khz")]
    pub cur_freq_khz: Option<i64>,
    /// Lowest frequency that the policy allows. Source: `cpuN/cpufreq/scaling_min_freq`.
    #[row(unit = "khz")]
    pub scaling_min_freq_khz: Option<i64>,
    /// Highest frequency that the policy allows. Source: `cpuN/cpufreq/scaling_max_freq`.
    #[row(unit = "khz")]
    pub scaling_max_freq_khz: Option<i64>,
    /// What chooses the frequency: `schedutil`, `powersave` … Source: `cpuN/cpufreq/scaling_governor`.
    pub scaling_governor: Option<String>,
    /// What sets it: `intel_pstate`, `acpi-cpufreq` … Source: `cpuN/cpufreq/scaling_driver`.
    pub scaling_driver: Option<String>,
}

/// Options of `cpu.cpu_frequency`.
#[derive(Options)]
pub struct CpuFrequencyOptions {
    /// Only the CPU of this number.
    pub cpu: Option<i64>,
}

pub struct CpuFrequencyProbe {
    cpuinfo: PathBuf,
    cpus: Dir,
    only: Option<String>,
    last: Vec<CpuFrequency>,
}

impl Probe for CpuFrequencyProbe {
    type Options = CpuFrequencyOptions;
    type Tables = CpuFrequency;
    const NAME: &'static str = "cpu_frequency";
    const DOC: &'static str = "Frequency of every CPU and its limits, from cpufreq in /sys or from /proc/cpuinfo";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, options: CpuFrequencyOptions) -> Result<Self> {
        Ok(CpuFrequencyProbe {
            cpuinfo: context.proc_dir().join("cpuinfo"),
            cpus: Dir::new(context.sys_dir().join("devices/system/cpu")),
            only: only_cpu(options.cpu)?,
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let cpuinfo = read::text(&self.cpuinfo);
        let names = self.cpus.names();
        let numbers: BTreeSet<i32> = names.iter().filter_map(|name| cpu_number(name)).collect();
        let mut rows: Vec<CpuFrequency> = numbers.into_iter().filter_map(|n| row(n, &self.cpus)).collect();
        let unread = match cpuinfo {
            Ok(text) => {
                add(&ProcCpuinfo::parse(&text), &mut rows);
                None
            }
            Err(error) => Some(error).filter(|error| error.kind != Kind::Unsupported),
        };
        rows.retain(CpuFrequency::is_something);
        if rows.is_empty() {
            return Err(unread.unwrap_or_else(|| {
                ProbeError::unsupported(format!(
                    "no CPU has cpufreq in {}, and {} tells no frequency",
                    self.cpus.path().display(),
                    self.cpuinfo.display()
                ))
            }));
        }
        if let Some(only) = &self.only {
            rows.retain(|row| row.cpu == *only);
            if rows.is_empty() {
                return Err(no_such_cpu(only));
            }
        }
        hand_over(rows, &mut self.last, |a, b| a.cpu == b.cpu, tick, out);
        Ok(())
    }
}

impl CpuFrequency {
    fn is_something(&self) -> bool {
        let numbers = [self.cur_freq_khz, self.scaling_min_freq_khz, self.scaling_max_freq_khz];
        numbers.iter().any(Option::is_some) || self.scaling_governor.is_some() || self.scaling_driver.is_some()
    }
}

/// What cpufreq says of a CPU; none of one that is offline.
fn row(number: i32, cpus: &Dir) -> Option<CpuFrequency> {
    let cpu = cpus.dir(&format!("cpu{number}"));
    if cpu.switch("online") == Some(false) {
        return None;
    }
    let cpufreq = cpu.dir("cpufreq");
    Some(CpuFrequency {
        cpu: format!("cpu{number}"),
        // `<unknown>` where the driver cannot tell.
        cur_freq_khz: cpufreq.quantity("scaling_cur_freq"),
        scaling_min_freq_khz: cpufreq.quantity("scaling_min_freq"),
        scaling_max_freq_khz: cpufreq.quantity("scaling_max_freq"),
        scaling_governor: cpufreq.value("scaling_governor"),
        scaling_driver: cpufreq.value("scaling_driver"),
    })
}

/// Frequencies where cpufreq told none, and CPUs where `/sys` has none at all.
fn add(cpuinfo: &ProcCpuinfo<'_>, rows: &mut Vec<CpuFrequency>) {
    let without_sys = rows.is_empty();
    for number in cpuinfo.numbers() {
        let cur_freq_khz = cpuinfo
            .get(number, &["cpu MHz", "cpu MHz dynamic", "clock"])
            .and_then(khz);
        let cpu = format!("cpu{number}");
        match rows.iter_mut().find(|row| row.cpu == cpu) {
            Some(row) => row.cur_freq_khz = row.cur_freq_khz.or(cur_freq_khz),
            None if without_sys => rows.push(CpuFrequency {
                cpu,
                cur_freq_khz,
                scaling_min_freq_khz: None,
                scaling_max_freq_khz: None,
                scaling_governor: None,
                scaling_driver: None,
            }),
            None => {}
        }
    }
}

/// `2400.084`, or `3425.000000MHz` as POWER writes it.
fn khz(mhz: &str) -> Option<i64> {
    let mhz: f64 = mhz.strip_suffix("MHz").unwrap_or(mhz).trim().parse().ok()?;
    // 0 is no frequency.
    (mhz > 0.0 && mhz < 1e9).then(|| (mhz * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_of_cpuinfo() {
        assert_eq!(khz("2400.084"), Some(2_400_084));
        assert_eq!(khz("3425.000000MHz"), Some(3_425_000));
        assert_eq!(khz("5200"), Some(5_200_000));
        for none in ["", "0.000", "-1", "NaN", "inf", "fast"] {
            assert_eq!(khz(none), None, "{none}");
        }
    }

    #[test]
    fn s390_and_power_have_their_own_names() {
        let found = |text: &str| {
            let mut rows = Vec::new();
            add(&ProcCpuinfo::parse(text), &mut rows);
            let rows = rows.into_iter().map(|row| (row.cpu, row.cur_freq_khz));
            rows.collect::<Vec<_>>()
        };
        let s390 = "processor 0: version = 00,  machine = 3906\n\ncpu number      : 0\ncpu MHz dynamic : 5208\n\
                    cpu MHz static  : 5208\n\n";
        assert_eq!(found(s390), [("cpu0".to_owned(), Some(5_208_000))]);
        let power = "processor\t: 8\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 2166.000000MHz\n\n";
        assert_eq!(found(power), [("cpu8".to_owned(), Some(2_166_000))]);
    }
}
