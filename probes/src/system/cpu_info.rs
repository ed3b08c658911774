//! What each logical CPU is, from `/proc/cpuinfo` and `/sys/devices/system/cpu` (kernel documentation:
//! `ABI/testing/sysfs-devices-system-cpu`, `admin-guide/cputopology`).
//!
//! Works on x86, Arm, RISC-V, s390, POWER and LoongArch; what an architecture does not tell is NULL. The names of what
//! they do tell follow x86: Arm's implementer is `vendor`, its part is `model`, its variant and revision are `stepping`.
//! A CPU that is offline has its row, with `online` false and no topology.
//!
//! Cost: about 15 small files a CPU, 0.3 ms each CPU.

use super::proc_cpuinfo::ProcCpuinfo;
use crate::read::{self, Dir};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// What each logical CPU is, and where in the machine.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "cpu_info", state)]
pub struct CpuInfo {
    /// `cpu0` …: the name that `cpu_time` has too. Source: `/sys/devices/system/cpu`.
    #[row(key)]
    pub cpu: String,
    /// The number in it. Source: `/sys/devices/system/cpu`, `processor` in `/proc/cpuinfo`.
    pub processor: i32,
    /// The scheduler may use it. Source: `cpuN/online`, `/sys/devices/system/cpu/online`.
    pub online: bool,
    /// Socket; on some Arm kernels the cluster. Source: `cpuN/topology/physical_package_id`.
    pub package_id: Option<i32>,
    /// Die within the package. Source: `cpuN/topology/die_id`.
    pub die_id: Option<i32>,
    /// Cluster of cores that share something, within the die. Source: `cpuN/topology/cluster_id`.
    pub cluster_id: Option<i32>,
    /// Core within the package; may repeat from package to package. Source: `cpuN/topology/core_id`.
    pub core_id: Option<i32>,
    /// Book of a mainframe. Source: `cpuN/topology/book_id`.
    pub book_id: Option<i32>,
    /// Drawer of a mainframe. Source: `cpuN/topology/drawer_id`.
    pub drawer_id: Option<i32>,
    /// CPUs that are threads of the same core, this one too: `0,4`. Source: `cpuN/topology/core_cpus_list`, in older kernels
    /// `thread_siblings_list` or `thread_siblings`.
    pub thread_siblings: Option<String>,
    /// NUMA node. Source: `/sys/devices/system/node/nodeN/cpulist` or `cpumap`.
    pub numa_node: Option<i32>,
    /// Kind of core on a hybrid x86 machine, as its PMU is called: `core` or `atom`. Source: `/sys/devices/cpu_KIND/cpus`.
    pub core_type: Option<String>,
    /// Of 1024, how much the CPU can do next to the strongest one. Source: `cpuN/cpu_capacity`.
    pub cpu_capacity: Option<i64>,
    /// Kept free of ordinary tasks by `isolcpus`. Source: `/sys/devices/system/cpu/isolated`.
    pub isolated: Option<bool>,
    /// Source: `vendor_id`; Arm: `CPU implementer`; RISC-V: `mvendorid`.
    pub vendor: Option<String>,
    /// Source: `cpu family`; Arm: `CPU architecture`; RISC-V: `marchid`.
    pub family: Option<String>,
    /// Source: `model`; Arm: `CPU part`; RISC-V: `mimpid`; s390: `machine`.
    pub model: Option<String>,
    /// Source: `model name`; POWER: `cpu`; MIPS: `cpu model`; RISC-V: `uarch`.
    pub model_name: Option<String>,
    /// Source: `stepping`; Arm: `CPU variant` and `CPU revision` as `r1p2`; POWER: `revision`; s390: `version`.
    pub stepping: Option<String>,
    /// Revision of the microcode. Source: `microcode`, else `cpuN/microcode/version`.
    pub microcode: Option<String>,
    /// Source: `cpuN/cpufreq/cpuinfo_min_freq`.
    #[row(unit = "hz")]
    pub min_freq_hz: Option<i64>,
    /// Source: `cpuN/cpufreq/cpuinfo_max_freq`.
    #[row(unit = "hz")]
    pub max_freq_hz: Option<i64>,
    /// Frequency without boost. Source: `cpuN/cpufreq/base_frequency`, else `cpuN/acpi_cppc/nominal_freq`.
    #[row(unit = "hz")]
    pub base_freq_hz: Option<i64>,
    /// Lowest frequency that the policy allows. Source: `cpuN/cpufreq/scaling_min_freq`.
    #[row(unit = "hz")]
    pub scaling_min_freq_hz: Option<i64>,
    /// Highest frequency that the policy allows. Source: `cpuN/cpufreq/scaling_max_freq`.
    #[row(unit = "hz")]
    pub scaling_max_freq_hz: Option<i64>,
    /// Source: `cpuN/cpufreq/scaling_driver`.
    pub scaling_driver: Option<String>,
    /// Source: `cpuN/cpufreq/scaling_governor`.
    pub scaling_governor: Option<String>,
    /// The largest cache. Source: `cache size`, else the largest of `cpuN/cache/indexN/size`.
    #[row(unit = "bytes")]
    pub cache_bytes: Option<i64>,
    /// Width of a physical address. Source: `address sizes`.
    #[row(unit = "bits")]
    pub address_physical_bits: Option<i32>,
    /// Width of a virtual address. Source: `address sizes`.
    #[row(unit = "bits")]
    pub address_virtual_bits: Option<i32>,
    /// Number of its interrupt controller. Source: `apicid`.
    pub apicid: Option<i64>,
    /// Speed of the kernel's delay loop. Source: `bogomips`, `bogomips per cpu`.
    pub bogomips: Option<f64>,
    /// What it can do. Source: `flags`; Arm, s390, LoongArch: `Features`; RISC-V: `hart isa` or `isa`.
    pub flags: Option<String>,
    /// Flaws that the kernel knows of. Source: `bugs`.
    pub bugs: Option<String>,
}

pub struct CpuInfoProbe {
    cpuinfo: PathBuf,
    sys: Dir,
}

impl Probe for CpuInfoProbe {
    type Options = NoOptions;
    type Tables = CpuInfo;
    const NAME: &'static str = "cpu_info";
    const DOC: &'static str = "Model, features and place of every CPU, from /proc/cpuinfo and /sys/devices/system/cpu";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(CpuInfoProbe {
            cpuinfo: context.proc_dir().join("cpuinfo"),
            sys: Dir::new(context.sys_dir().join("devices")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.cpuinfo);
        let cpus = self.sys.dir("system/cpu");
        let numbers = cpus.names().into_iter().filter_map(|name| cpu_number(&name));
        let mut numbers: BTreeSet<i32> = numbers.collect();
        let text = match text {
            Err(error) if numbers.is_empty() => return Err(error),
            text => text.unwrap_or_default(),
        };
        let cpuinfo = ProcCpuinfo::parse(&text);
        numbers.extend(cpuinfo.numbers());
        if numbers.is_empty() {
            return Err(ProbeError::failed(format!("{}: no CPU in it", self.cpuinfo.display())));
        }
        let places = Places::read(&self.sys);
        let rows = numbers
            .into_iter()
            .map(|n| row(n, &cpuinfo, &cpus.dir(&format!("cpu{n}")), &places));
        out.full(rows.collect());
        Ok(())
    }
}

/// `cpu12` is 12; `cpufreq` and `cpuidle` are no CPUs.
pub(crate) fn cpu_number(name: &str) -> Option<i32> {
    name.strip_prefix("cpu")?.parse().ok().filter(|n| *n >= 0)
}

/// What the kernel tells by lists of CPUs.
struct Places {
    online: Option<Vec<u32>>,
    isolated: Option<Vec<u32>>,
    node: HashMap<u32, i32>,
    core_type: HashMap<u32, &'static str>,
}

impl Places {
    fn read(sys: &Dir) -> Self {
        let cpus = sys.dir("system/cpu");
        let mut node = HashMap::new();
        for name in sys.dir("system/node").names() {
            let Some(number) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else {
                continue;
            };
            for cpu in members(&sys.dir("system/node").dir(&name), "cpulist", "cpumap").unwrap_or_default() {
                // Firmware that puts a CPU into two nodes exists: the first one counts.
                node.entry(cpu).or_insert(number);
            }
        }
        let mut core_type = HashMap::new();
        for kind in ["core", "atom"] {
            let list = sys.value(&format!("cpu_{kind}/cpus")).unwrap_or_default();
            core_type.extend(read::list(&list).into_iter().map(|cpu| (cpu, kind)));
        }
        Places {
            online: cpus.value("online").map(|list| read::list(&list)),
            // The file is there and empty where no CPU is isolated.
            isolated: read::text(&cpus.path().join("isolated"))
                .ok()
                .map(|list| read::list(&list)),
            node,
            core_type,
        }
    }

    fn online(&self, number: u32, cpu: &Dir) -> bool {
        let listed = || self.online.as_ref().is_none_or(|online| online.contains(&number));
        cpu.switch("online").unwrap_or_else(listed)
    }
}

/// The CPUs of a list file or, on old kernels, a mask file.
pub(super) fn members(dir: &Dir, list: &str, mask: &str) -> Option<Vec<u32>> {
    match dir.value(list) {
        Some(text) => Some(read::list(&text)),
        None => dir.value(mask).map(|text| read::mask(&text)),
    }
}

fn row(number: i32, cpuinfo: &ProcCpuinfo<'_>, cpu: &Dir, places: &Places) -> CpuInfo {
    let index = number as u32;
    let said = |names: &[&str]| cpuinfo.get(number, names).map(str::to_owned);
    let (topology, cpufreq) = (cpu.dir("topology"), cpu.dir("cpufreq"));
    let khz = |name: &str| cpufreq.quantity(name).map(|khz| khz.saturating_mul(1000));
    let nominal_hz = || {
        cpu.quantity("acpi_cppc/nominal_freq")
            .map(|mhz| mhz.saturating_mul(1_000_000))
    };
    let (address_physical_bits, address_virtual_bits) = address_bits(cpuinfo.get(number, &["address sizes"]));
    CpuInfo {
        cpu: format!("cpu{number}"),
        processor: number,
        online: places.online(index, cpu),
        package_id: topology.id("physical_package_id"),
        die_id: topology.id("die_id"),
        cluster_id: topology.id("cluster_id"),
        core_id: topology.id("core_id"),
        book_id: topology.id("book_id"),
        drawer_id: topology.id("drawer_id"),
        thread_siblings: thread_siblings(&topology),
        numa_node: places.node.get(&index).copied(),
        core_type: places.core_type.get(&index).map(|kind| (*kind).to_owned()),
        cpu_capacity: cpu.quantity("cpu_capacity"),
        isolated: places.isolated.as_ref().map(|isolated| isolated.contains(&index)),
        vendor: said(&["vendor_id", "CPU implementer", "mvendorid"]),
        family: said(&["cpu family", "CPU architecture", "marchid"]),
        model: said(&["model", "CPU part", "mimpid", "machine"]),
        model_name: said(&["model name", "cpu", "cpu model", "uarch", "Processor"]),
        stepping: said(&["stepping"])
            .or_else(|| arm_revision(cpuinfo, number))
            .or_else(|| said(&["cpu revision", "revision", "version"])),
        microcode: said(&["microcode"]).or_else(|| cpu.value("microcode/version")),
        min_freq_hz: khz("cpuinfo_min_freq"),
        max_freq_hz: khz("cpuinfo_max_freq"),
        base_freq_hz: khz("base_frequency").or_else(nominal_hz),
        scaling_min_freq_hz: khz("scaling_min_freq"),
        scaling_max_freq_hz: khz("scaling_max_freq"),
        scaling_driver: cpufreq.value("scaling_driver"),
        scaling_governor: cpufreq.value("scaling_governor"),
        cache_bytes: cpuinfo
            .get(number, &["cache size"])
            .and_then(read::size_bytes)
            .or_else(|| largest_cache(&cpu.dir("cache"))),
        address_physical_bits,
        address_virtual_bits,
        apicid: cpuinfo.get(number, &["apicid"]).and_then(read::quantity),
        bogomips: cpuinfo
            .get(number, &["bogomips", "bogomips per cpu"])
            .and_then(|n| n.parse().ok()),
        flags: said(&["flags", "Features", "hart isa", "isa"]),
        bugs: said(&["bugs"]),
    }
}

fn thread_siblings(topology: &Dir) -> Option<String> {
    let list = || {
        topology
            .value("core_cpus_list")
            .or_else(|| topology.value("thread_siblings_list"))
    };
    let of_mask = || Some(read::write_list(&read::mask(&topology.value("thread_siblings")?)));
    list().or_else(of_mask).filter(|siblings| !siblings.is_empty())
}

/// `r1p2`, as Arm writes it.
fn arm_revision(cpuinfo: &ProcCpuinfo<'_>, cpu: i32) -> Option<String> {
    let variant = cpuinfo.get(cpu, &["CPU variant"])?;
    let variant = u8::from_str_radix(variant.trim_start_matches("0x"), 16).ok()?;
    Some(format!("r{variant}p{}", cpuinfo.get(cpu, &["CPU revision"])?))
}

/// `46 bits physical, 48 bits virtual`
fn address_bits(text: Option<&str>) -> (Option<i32>, Option<i32>) {
    let mut widths = text.unwrap_or_default().split(',').map(|part| {
        let (bits, _) = part.trim().split_once(' ')?;
        bits.parse().ok()
    });
    (widths.next().flatten(), widths.next().flatten())
}

fn largest_cache(cache: &Dir) -> Option<i64> {
    let sizes = cache.names().into_iter().filter(|name| name.starts_with("index"));
    sizes
        .filter_map(|name| read::size_bytes(&cache.dir(&name).value("size")?))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cpus() {
        assert_eq!(cpu_number("cpu12"), Some(12));
        for other in ["cpufreq", "cpu", "cpu-1", "possible", "cpu1x"] {
            assert_eq!(cpu_number(other), None, "{other}");
        }
    }

    #[test]
    fn widths_of_addresses() {
        assert_eq!(
            address_bits(Some("46 bits physical, 48 bits virtual")),
            (Some(46), Some(48))
        );
        assert_eq!(address_bits(Some("many")), (None, None));
        assert_eq!(address_bits(None), (None, None));
    }

    #[test]
    fn revisions_of_arm() {
        let check = |text: &str, expect: Option<&str>| {
            let info = ProcCpuinfo::parse(text);
            assert_eq!(arm_revision(&info, 0).as_deref(), expect);
        };
        check("processor : 0\nCPU variant\t: 0x3\nCPU revision\t: 1\n", Some("r3p1"));
        check("processor : 0\nCPU variant\t: 0xzz\nCPU revision\t: 1\n", None);
        check("processor : 0\nCPU revision\t: 1\n", None);
    }
}
