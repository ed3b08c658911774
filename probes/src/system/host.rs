//! The host as a whole: one row.
//!
//! From `/proc/sys/kernel`, `/proc/meminfo`, `/proc/stat`, `/sys/devices/system`, DMI (`/sys/class/dmi/id`) or the device
//! tree, and from files of the host's root: `/etc/os-release` (os-release(5)), `/etc/machine-id`, `/etc/localtime`. The root
//! is `/` on the running kernel, else `PROC/1/root`. Everything but the name of the host may be unknown: then it is NULL.
//!
//! Cost: about 70 small files, 1 ms.

use super::virtualization;
use crate::read::{self, Dir};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// The host: its names, kernel, system, hardware and limits.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "host", state)]
pub struct Host {
    /// Source: `/proc/sys/kernel/hostname`.
    #[row(key)]
    pub hostname: String,
    /// NIS domain. Source: `/proc/sys/kernel/domainname`.
    pub domainname: Option<String>,
    /// Id that stays with the installation. Source: `/etc/machine-id` (machine-id(5)).
    pub machine_id: Option<String>,
    /// Id of this boot. Source: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// When the kernel started, to the second; moves when the clock is set. Source: `btime` in `/proc/stat`.
    pub boot_time: Option<Timestamp>,
    /// `Linux`. Source: `/proc/sys/kernel/ostype`.
    pub kernel_name: Option<String>,
    /// Source: `/proc/sys/kernel/osrelease`.
    pub kernel_release: Option<String>,
    /// Build of the kernel. Source: `/proc/sys/kernel/version`.
    pub kernel_version: Option<String>,
    /// `x86_64`, `aarch64` … Source: `/proc/sys/kernel/arch` (since Linux 6.1), else uname(2).
    pub architecture: Option<String>,
    /// What the boot loader gave. Source: `/proc/cmdline`.
    pub kernel_cmdline: Option<String>,
    /// Why the kernel is not as built; 0 when it is (kernel documentation, `admin-guide/tainted-kernels`). Source:
    /// `/proc/sys/kernel/tainted`.
    pub kernel_tainted: Option<u64>,
    /// Security modules. Source: `/sys/kernel/security/lsm`.
    pub kernel_lsm: Option<String>,
    /// Clock that time is read from: `tsc`, `kvm-clock`. Source: `/sys/devices/system/clocksource/clocksource0/current_clocksource`.
    pub clocksource: Option<String>,
    /// Source: `ID` in `/etc/os-release`, else in `/usr/lib/os-release`, as all `os_` columns.
    pub os_id: Option<String>,
    /// Source: `ID_LIKE`.
    pub os_id_like: Option<String>,
    /// Source: `NAME`.
    pub os_name: Option<String>,
    /// Source: `PRETTY_NAME`.
    pub os_pretty_name: Option<String>,
    /// Source: `VERSION`.
    pub os_version: Option<String>,
    /// Source: `VERSION_ID`.
    pub os_version_id: Option<String>,
    /// Source: `VERSION_CODENAME`.
    pub os_version_codename: Option<String>,
    /// Source: `VARIANT_ID`.
    pub os_variant_id: Option<String>,
    /// Source: `BUILD_ID`.
    pub os_build_id: Option<String>,
    /// Name of process 1: `systemd`. Source: `/proc/1/comm`.
    pub init: Option<String>,
    /// `Europe/Berlin`. Source: `/etc/localtime`, else `/etc/timezone`.
    pub timezone: Option<String>,
    /// Memory that the kernel manages. Source: `MemTotal` in `/proc/meminfo`.
    #[row(unit = "bytes")]
    pub memory_bytes: Option<i64>,
    /// Swap. Source: `SwapTotal` in `/proc/meminfo`.
    #[row(unit = "bytes")]
    pub swap_bytes: Option<i64>,
    /// Source: `Hugepagesize` in `/proc/meminfo`.
    #[row(unit = "bytes")]
    pub hugepage_bytes: Option<i64>,
    /// Use of transparent huge pages: `always`, `madvise`, `never`. Source: `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub transparent_hugepage: Option<String>,
    /// Source: `sysconf(_SC_PAGESIZE)`; known of the running kernel only.
    #[row(unit = "bytes")]
    pub page_bytes: Option<i64>,
    /// `USER_HZ`. Source: `sysconf(_SC_CLK_TCK)`; known of the running kernel only.
    #[row(unit = "hz")]
    pub clock_ticks_hz: Option<i64>,
    /// CPUs in use. Source: `/sys/devices/system/cpu/online`, else lines in `/proc/stat`.
    pub cpus_online: Option<i64>,
    /// CPUs that are there. Source: `/sys/devices/system/cpu/present`.
    pub cpus_present: Option<i64>,
    /// CPUs that may be plugged in. Source: `/sys/devices/system/cpu/possible`.
    pub cpus_possible: Option<i64>,
    /// Cores run several threads. Source: `/sys/devices/system/cpu/smt/active`.
    pub smt: Option<bool>,
    /// NUMA nodes in use. Source: `/sys/devices/system/node/online`.
    pub numa_nodes: Option<i64>,
    /// Largest process id, plus one. Source: `/proc/sys/kernel/pid_max`.
    pub pid_max: Option<i64>,
    /// Threads that may be at a time. Source: `/proc/sys/kernel/threads-max`.
    pub threads_max: Option<i64>,
    /// Open files that may be at a time. Source: `/proc/sys/fs/file-max`.
    pub file_max: Option<i64>,
    /// Version of the control groups that hold processes: 1 or 2. Source: mounts of `cgroup2` and `cgroup` in
    /// `/proc/self/mountinfo`.
    pub cgroup_version: Option<i32>,
    /// Hypervisor under it, in the words of systemd-detect-virt(1). Source: CPUID, DMI, `/sys/hypervisor`, `/proc/sysinfo`.
    pub virtualization: Option<String>,
    /// Container around it. Source: `/proc/1/environ`, `/run/systemd/container` and other marks.
    pub container: Option<String>,
    /// `efi`, `devicetree` or `bios`. Source: what is in `/sys/firmware`.
    pub firmware: Option<String>,
    /// Source: `/sys/class/dmi/id/sys_vendor`.
    pub sys_vendor: Option<String>,
    /// Source: `/sys/class/dmi/id/product_name`, else `/sys/firmware/devicetree/base/model`.
    pub product_name: Option<String>,
    /// Source: `/sys/class/dmi/id/product_version`.
    pub product_version: Option<String>,
    /// Source: `/sys/class/dmi/id/product_family`.
    pub product_family: Option<String>,
    /// Source: `/sys/class/dmi/id/product_sku`.
    pub product_sku: Option<String>,
    /// Serial number; root alone may read it. Source: `/sys/class/dmi/id/product_serial`, else the device tree's `serial-number`.
    pub product_serial: Option<String>,
    /// Root alone may read it. Source: `/sys/class/dmi/id/product_uuid`.
    pub product_uuid: Option<String>,
    /// Source: `/sys/class/dmi/id/board_vendor`.
    pub board_vendor: Option<String>,
    /// Source: `/sys/class/dmi/id/board_name`.
    pub board_name: Option<String>,
    /// Source: `/sys/class/dmi/id/board_version`.
    pub board_version: Option<String>,
    /// Number of the kind of case (SMBIOS 7.4.1): 3 desktop, 10 notebook, 23 rack server. Source: `/sys/class/dmi/id/chassis_type`.
    pub chassis_type: Option<i32>,
    /// Source: `/sys/class/dmi/id/chassis_vendor`.
    pub chassis_vendor: Option<String>,
    /// Source: `/sys/class/dmi/id/bios_vendor`.
    pub bios_vendor: Option<String>,
    /// Source: `/sys/class/dmi/id/bios_version`.
    pub bios_version: Option<String>,
    /// `MM/DD/YYYY`. Source: `/sys/class/dmi/id/bios_date`.
    pub bios_date: Option<String>,
}

pub struct HostProbe {
    proc_dir: Dir,
    sys_dir: Dir,
    /// Root directory of the host's files.
    root: PathBuf,
    live: bool,
}

impl Probe for HostProbe {
    type Options = NoOptions;
    type Tables = Host;
    const NAME: &'static str = "host";
    const DOC: &'static str = "The host: names, kernel, operating system, hardware, limits";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        let live = context.live();
        Ok(HostProbe {
            proc_dir: Dir::new(context.proc_dir()),
            sys_dir: Dir::new(context.sys_dir()),
            root: if live {
                PathBuf::from("/")
            } else {
                context.proc_dir().join("1/root")
            },
            live,
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let hostname = read::text(&self.proc_dir.path().join("sys/kernel/hostname"))?;
        let row = Host {
            hostname: hostname.trim().to_owned(),
            ..Host::default()
        };
        out.full(vec![self.hardware(self.limits(self.system(self.kernel(row))))]);
        Ok(())
    }
}

impl HostProbe {
    fn kernel(&self, row: Host) -> Host {
        let kernel = self.proc_dir.dir("sys/kernel");
        let stat = self.proc_dir.value("stat").unwrap_or_default();
        let uname = || nix::sys::utsname::uname().ok().filter(|_| self.live);
        Host {
            // The kernel writes `(none)` for a domain that is not set.
            domainname: kernel.value("domainname").filter(|name| name != "(none)"),
            boot_id: kernel.value("random/boot_id"),
            boot_time: boot_time(&stat),
            kernel_name: kernel.value("ostype"),
            kernel_release: kernel.value("osrelease"),
            kernel_version: kernel.value("version"),
            architecture: kernel
                .value("arch")
                .or_else(|| Some(uname()?.machine().to_string_lossy().into_owned())),
            kernel_cmdline: self.proc_dir.value("cmdline"),
            kernel_tainted: kernel.number("tainted"),
            kernel_lsm: self.sys_dir.value("kernel/security/lsm"),
            clocksource: self
                .sys_dir
                .value("devices/system/clocksource/clocksource0/current_clocksource"),
            init: self.proc_dir.value("1/comm"),
            virtualization: virtualization::hypervisor(&self.proc_dir, &self.sys_dir, self.live),
            container: virtualization::container(&self.proc_dir, &self.root),
            ..row
        }
    }

    fn system(&self, row: Host) -> Host {
        let text = ["etc/os-release", "usr/lib/os-release"]
            .into_iter()
            .find_map(|file| read::value(&self.root.join(file)))
            .unwrap_or_default();
        let mut release = parse_os_release(&text);
        let mut field = |name: &str| release.remove(name);
        Host {
            machine_id: read::value(&self.root.join("etc/machine-id")).filter(|id| id != "uninitialized"),
            os_id: field("ID"),
            os_id_like: field("ID_LIKE"),
            os_name: field("NAME"),
            os_pretty_name: field("PRETTY_NAME"),
            os_version: field("VERSION"),
            os_version_id: field("VERSION_ID"),
            os_version_codename: field("VERSION_CODENAME"),
            os_variant_id: field("VARIANT_ID"),
            os_build_id: field("BUILD_ID"),
            timezone: timezone(&self.root),
            ..row
        }
    }

    fn limits(&self, row: Host) -> Host {
        let meminfo = self.proc_dir.value("meminfo").unwrap_or_default();
        let memory = |name: &str| {
            let (_, size) = read::pairs(&meminfo).find(|(n, _)| *n == name)?;
            read::size_bytes(size)
        };
        let cpus = self.sys_dir.dir("devices/system/cpu");
        let count = |list: Option<String>| list.map(|list| read::list(&list).len() as i64);
        let stat = || cpus_in_stat(&self.proc_dir.value("stat")?);
        let sys = self.proc_dir.dir("sys");
        Host {
            memory_bytes: memory("MemTotal"),
            swap_bytes: memory("SwapTotal"),
            hugepage_bytes: memory("Hugepagesize"),
            transparent_hugepage: self
                .sys_dir
                .value("kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| read::chosen(&text).map(str::to_owned)),
            page_bytes: self.live.then(read::page_bytes),
            clock_ticks_hz: self.live.then(read::ticks_per_second),
            cpus_online: count(cpus.value("online")).or_else(stat),
            cpus_present: count(cpus.value("present")),
            cpus_possible: count(cpus.value("possible")),
            smt: cpus.switch("smt/active"),
            numa_nodes: count(self.sys_dir.value("devices/system/node/online")),
            pid_max: sys.quantity("kernel/pid_max"),
            threads_max: sys.quantity("kernel/threads-max"),
            file_max: sys.quantity("fs/file-max"),
            cgroup_version: cgroup_version(&self.proc_dir.value("self/mountinfo").unwrap_or_default()),
            ..row
        }
    }

    fn hardware(&self, row: Host) -> Host {
        let dmi = self.sys_dir.dir("class/dmi/id");
        let firmware = self.sys_dir.dir("firmware");
        let tree = firmware.dir("devicetree/base");
        let kind = [("efi", "efi"), ("devicetree", "devicetree"), ("dmi", "bios")]
            .into_iter()
            .find(|(dir, _)| firmware.dir(dir).exists());
        Host {
            firmware: kind.map(|(_, kind)| kind.to_owned()),
            sys_vendor: dmi.value("sys_vendor"),
            product_name: dmi.value("product_name").or_else(|| tree.value("model")),
            product_version: dmi.value("product_version"),
            product_family: dmi.value("product_family"),
            product_sku: dmi.value("product_sku"),
            product_serial: dmi.value("product_serial").or_else(|| tree.value("serial-number")),
            product_uuid: dmi.value("product_uuid"),
            board_vendor: dmi.value("board_vendor"),
            board_name: dmi.value("board_name"),
            board_version: dmi.value("board_version"),
            chassis_type: dmi.number("chassis_type"),
            chassis_vendor: dmi.value("chassis_vendor"),
            bios_vendor: dmi.value("bios_vendor"),
            bios_version: dmi.value("bios_version"),
            bios_date: dmi.value("bios_date"),
            ..row
        }
    }
}

/// `NAME=value` lines, where the value may stand in quotes as in a shell.
pub fn parse_os_release(text: &str) -> HashMap<&str, String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), unquote(value.trim())))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn unquote(value: &str) -> String {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(plain) = within('\'') {
        return plain.to_owned();
    }
    let text = within('"').unwrap_or(value);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

fn boot_time(stat: &str) -> Option<Timestamp> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(Timestamp(line.trim().parse::<i64>().ok()?.checked_mul(1_000_000_000)?))
}

fn cpus_in_stat(stat: &str) -> Option<i64> {
    let lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    let count = lines.filter(|line| !line.starts_with("cpu ")).count() as i64;
    (count > 0).then_some(count)
}

/// A hybrid of both holds processes in version 1.
fn cgroup_version(mountinfo: &str) -> Option<i32> {
    let mounts = super::mount::parse_mountinfo(mountinfo);
    let mounted = |fstype: &str| mounts.iter().any(|m| m.fstype == fstype);
    match (mounted("cgroup"), mounted("cgroup2")) {
        (true, _) => Some(1),
        (false, true) => Some(2),
        (false, false) => None,
    }
}

/// The part of where `/etc/localtime` points that names the zone.
fn timezone(root: &Path) -> Option<String> {
    let target = std::fs::read_link(root.join("etc/localtime")).ok();
    let target = target.as_deref().and_then(Path::to_str);
    let zone = target
        .and_then(|path| path.split_once("zoneinfo/"))
        .map(|(_, zone)| zone.to_owned());
    zone.or_else(|| read::value(&root.join("etc/timezone")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release() {
        let check = |text: &str, name: &str, expect: Option<&str>| {
            assert_eq!(parse_os_release(text).get(name).map(String::as_str), expect, "{text}");
        };
        let debian =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n# ID=x\nHOME_URL=\"https://a/?b=c\"\nEMPTY=\n";
        check(debian, "PRETTY_NAME", Some("Debian GNU/Linux 12 (bookworm)"));
        check(debian, "ID", Some("debian"));
        check(debian, "HOME_URL", Some("https://a/?b=c"));
        check(debian, "EMPTY", None);
        check(r#"NAME="a \"b\" \$c \\""#, "NAME", Some(r#"a "b" $c \"#));
        check("NAME='it\\s'", "NAME", Some("it\\s"));
        check("NAME=\"", "NAME", Some("\""));
        check("garbage", "garbage", None);
    }

    #[test]
    fn boot() {
        assert_eq!(
            boot_time("ctxt 5\nbtime 1700000000\n"),
            Some(Timestamp(1_700_000_000_000_000_000))
        );
        assert_eq!(boot_time("btime 99999999999999\n"), None);
        assert_eq!(boot_time(""), None);
    }

    #[test]
    fn counts() {
        assert_eq!(cpus_in_stat("cpu  1 2\ncpu0 1\ncpu7 2\nintr 5\n"), Some(2));
        assert_eq!(cpus_in_stat(""), None);
        let v2 = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_version(v2), Some(2));
        assert_eq!(
            cgroup_version(&format!("{v2}2 0 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")),
            Some(1)
        );
        assert_eq!(cgroup_version(""), None);
    }

    #[test]
    fn zones() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        assert_eq!(timezone(root.path()), None);
        std::fs::write(root.path().join("etc/timezone"), "Etc/UTC\n").unwrap();
        assert_eq!(timezone(root.path()).as_deref(), Some("Etc/UTC"));
        std::os::unix::fs::symlink("../usr/share/zoneinfo/Europe/Berlin", root.path().join("etc/localtime")).unwrap();
        assert_eq!(timezone(root.path()).as_deref(), Some("Europe/Berlin"));
    }
}
