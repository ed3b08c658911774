//! Whether the host is a guest, and of what.
//!
//! The evidence, strongest first, is what systemd-detect-virt(1) uses, and the words are its words: the hypervisor's name in
//! CPUID leaf 0x40000000, DMI strings, Xen's `/sys/hypervisor`, a mainframe's `/proc/sysinfo`, a device tree's hypervisor
//! node, and last the `hypervisor` flag, which names none. Containers tell by the environment of process 1 and by files.

use crate::read::{self, Dir};
use std::path::Path;

/// Hypervisor that the host runs on: `kvm`, `qemu`, `vmware`, `microsoft`, `oracle`, `xen`, `zvm`, `amazon` …, or `vm-other`.
pub fn hypervisor(proc_dir: &Dir, sys_dir: &Dir, live: bool) -> Option<String> {
    let named = live.then(cpuid_vendor).flatten();
    let by_cpuid = named.as_deref().and_then(by_cpuid);
    let dmi = sys_dir.dir("class/dmi/id");
    let dmi = [
        "product_name",
        "sys_vendor",
        "board_vendor",
        "bios_vendor",
        "product_version",
    ]
    .map(|file| dmi.value(file));
    let found = by_cpuid
        .or_else(|| dmi.iter().flatten().find_map(|text| by_dmi(text)))
        .or_else(|| (sys_dir.value("hypervisor/type")? == "xen").then_some("xen"))
        .or_else(|| by_sysinfo(&proc_dir.value("sysinfo")?))
        .or_else(|| by_device_tree(&sys_dir.value("firmware/devicetree/base/hypervisor/compatible")?))
        .or_else(|| has_hypervisor_flag(&proc_dir.value("cpuinfo")?).then_some("vm-other"));
    found.map(str::to_owned)
}

/// Container that process 1 runs in: `docker`, `podman`, `lxc`, `systemd-nspawn`, `wsl` … `root` is the host's root directory.
pub fn container(proc_dir: &Dir, root: &Path) -> Option<String> {
    let environ = read::bytes(&proc_dir.path().join("1/environ")).unwrap_or_default();
    by_environ(&environ)
        .or_else(|| read::value(&root.join("run/systemd/container")))
        .or_else(|| root.join(".dockerenv").exists().then(|| "docker".to_owned()))
        .or_else(|| root.join("run/.containerenv").exists().then(|| "podman".to_owned()))
        .or_else(|| is_wsl(&proc_dir.value("sys/kernel/osrelease")?).then(|| "wsl".to_owned()))
}

fn by_cpuid(vendor: &str) -> Option<&'static str> {
    Some(match vendor {
        "KVMKVMKVM" | "Linux KVM Hv" => "kvm",
        "TCGTCGTCGTCG" => "qemu",
        "VMwareVMware" => "vmware",
        "Microsoft Hv" => "microsoft",
        "XenVMMXenVMM" => "xen",
        "VBoxVBoxVBox" => "oracle",
        "bhyve bhyve" => "bhyve",
        "ACRNACRNACRN" => "acrn",
        "QNXQVMBSQG" => "qnx",
        "SRESRESRESRE" => "sre",
        "prl hyperv" | " lrpepyh  vr" => "parallels",
        _ => return None,
    })
}

fn by_dmi(text: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 18] = [
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("KubeVirt", "kvm"),
        ("Amazon EC2", "amazon"),
        ("QEMU", "qemu"),
        ("VMware", "vmware"),
        ("VMW", "vmware"),
        ("innotek GmbH", "oracle"),
        ("VirtualBox", "oracle"),
        ("Oracle Corporation", "oracle"),
        ("Xen", "xen"),
        ("Bochs", "bochs"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
        ("Hyper-V", "microsoft"),
        ("Virtual Machine", "microsoft"),
        ("Apple Virtualization", "apple"),
        ("Google Compute Engine", "google"),
    ];
    NAMES
        .iter()
        .find(|(begin, _)| text.starts_with(begin))
        .map(|(_, name)| *name)
}

/// `VM00 Control Program: KVM/Linux`
fn by_sysinfo(text: &str) -> Option<&'static str> {
    let (_, program) = read::pairs(text).find(|(name, _)| *name == "VM00 Control Program")?;
    Some(if program.contains("z/VM") { "zvm" } else { "kvm" })
}

fn by_device_tree(compatible: &str) -> Option<&'static str> {
    match compatible {
        "linux,kvm" => Some("kvm"),
        "vmware" => Some("vmware"),
        text if text.contains("xen") => Some("xen"),
        _ => Some("vm-other"),
    }
}

fn has_hypervisor_flag(cpuinfo: &str) -> bool {
    let flags = read::pairs(cpuinfo).find(|(name, _)| *name == "flags");
    flags.is_some_and(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

fn by_environ(environ: &[u8]) -> Option<String> {
    let value = environ
        .split(|b| *b == 0)
        .find_map(|entry| entry.strip_prefix(b"container="))?;
    (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
}

fn is_wsl(osrelease: &str) -> bool {
    osrelease.contains("Microsoft") || osrelease.contains("WSL")
}

/// The hypervisor's own name. Only x86 has it.
#[cfg(target_arch = "x86_64")]
fn cpuid_vendor() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    let name: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid_vendor() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_firmware() {
        for (text, expect) in [
            ("VMware7,1", Some("vmware")),
            ("KVM Virtual Machine", Some("kvm")),
            ("PowerEdge R740", None),
            ("innotek GmbH", Some("oracle")),
            ("", None),
        ] {
            assert_eq!(by_dmi(text), expect, "{text}");
        }
        assert_eq!(
            by_sysinfo("Manufacturer: IBM\nVM00 Control Program: KVM/Linux       \n"),
            Some("kvm")
        );
        assert_eq!(by_sysinfo("VM00 Control Program: z/VM    6.4.0\n"), Some("zvm"));
        assert_eq!(by_sysinfo("Manufacturer: IBM\n"), None);
    }

    #[test]
    fn flags_of_cpus() {
        assert!(has_hypervisor_flag(
            "processor : 0\nflags\t\t: fpu hypervisor lahf_lm\n"
        ));
        assert!(!has_hypervisor_flag("flags : fpu hypervisors\n") && !has_hypervisor_flag(""));
    }

    #[test]
    fn containers() {
        assert_eq!(by_environ(b"PATH=/bin\0container=lxc\0X=1\0").as_deref(), Some("lxc"));
        assert_eq!(by_environ(b"mycontainer=x\0container=\0"), None);
        assert_eq!(by_environ(b""), None);
        let root = tempfile::tempdir().unwrap();
        let proc_dir = Dir::new(root.path().join("proc"));
        assert_eq!(container(&proc_dir, root.path()), None);
        std::fs::write(root.path().join(".dockerenv"), "").unwrap();
        assert_eq!(container(&proc_dir, root.path()).as_deref(), Some("docker"));
    }
}
