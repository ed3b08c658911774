//! Devices on the PCI bus, from `/sys/bus/pci/devices` (kernel documentation: `ABI/testing/sysfs-bus-pci`,
//! `PCI/sysfs-pci`).
//!
//! Numbers of vendors and kinds are those that the PCI-SIG gives out, in hexadecimal as the kernel writes them; their names
//! are in `pci.ids`, not in the kernel.
//!
//! **Invariant:** a device that sleeps is not woken. New kernels wake it to read the registers of its link, older ones answer
//! what cannot be: so its link is not asked for.
//!
//! Cost: about twenty small files a device, 0.1 ms each.

use crate::read::{self, Dir};
use vwatch_sdk::prelude::*;

/// Devices on the PCI bus.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "pci_device", state)]
pub struct PciDevice {
    /// Domain, bus, device and function: `0000:3b:00.0`. Source: `/sys/bus/pci/devices`.
    #[row(key)]
    pub address: String,
    /// Kind, in three bytes of class, subclass and programming interface: `0x020000` is an Ethernet controller. Source: `class`.
    pub class: Option<String>,
    /// `0x8086`. Source: `vendor`.
    pub vendor: Option<String>,
    /// Number that the vendor gave to this model. Source: `device`.
    pub device: Option<String>,
    /// Vendor of the board; `0x0000` when not told. Source: `subsystem_vendor`.
    pub subsystem_vendor: Option<String>,
    /// Number that the vendor of the board gave to it. Source: `subsystem_device`.
    pub subsystem_device: Option<String>,
    /// Source: `revision`.
    pub revision: Option<String>,
    /// NULL when none has taken it. Source: `driver`.
    pub driver: Option<String>,
    /// NUMA node that the device is near to. Source: `numa_node`.
    pub numa_node: Option<i32>,
    /// CPUs that the device is near to: `0-3,8`. Source: `local_cpulist`.
    pub local_cpus: Option<String>,
    /// How many hold it switched on; 0 is off. Source: `enable`.
    pub enable: Option<i64>,
    /// Group of devices that cannot be kept apart in memory. Source: `iommu_group`.
    pub iommu_group: Option<i32>,
    /// Speed of the PCIe link now, in 10^6 transfers a second on each lane; NULL while the device sleeps. Source:
    /// `current_link_speed`.
    #[row(unit = "mtps")]
    pub current_link_speed_mtps: Option<i64>,
    /// Lanes of the link now; NULL while there is no link or the device sleeps. Source: `current_link_width`.
    pub current_link_width: Option<i64>,
    /// Speed that the device is capable of; NULL while it sleeps. Source: `max_link_speed`.
    #[row(unit = "mtps")]
    pub max_link_speed_mtps: Option<i64>,
    /// Lanes that the device has; NULL while it sleeps. Source: `max_link_width`.
    pub max_link_width: Option<i64>,
    /// Device whose virtual function it is. Source: `physfn`.
    pub physfn: Option<String>,
    /// Virtual functions that are set up. Source: `sriov_numvfs`.
    pub sriov_numvfs: Option<i64>,
    /// Virtual functions that it can have. Source: `sriov_totalvfs`.
    pub sriov_totalvfs: Option<i64>,
    /// Name that the firmware gives to the device, as on the case: `NIC1`. Source: `label`.
    pub label: Option<String>,
}

pub struct PciDeviceProbe {
    devices: Dir,
}

impl Probe for PciDeviceProbe {
    type Options = NoOptions;
    type Tables = PciDevice;
    const NAME: &'static str = "pci_device";
    const DOC: &'static str = "Devices on the PCI bus, their drivers and links, from /sys/bus/pci/devices";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(PciDeviceProbe {
            devices: Dir::new(context.sys_dir().join("bus/pci/devices")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let names = read::names(self.devices.path())?;
        let devices = names
            .iter()
            .map(|name| (name, self.devices.dir(name)))
            .filter(|(_, dir)| dir.exists());
        out.full(devices.map(|(name, dir)| device(name, &dir)).collect());
        Ok(())
    }
}

fn device(address: &str, dir: &Dir) -> PciDevice {
    let device = PciDevice {
        address: address.to_owned(),
        class: dir.value("class"),
        vendor: dir.value("vendor"),
        device: dir.value("device"),
        subsystem_vendor: dir.value("subsystem_vendor"),
        subsystem_device: dir.value("subsystem_device"),
        revision: dir.value("revision"),
        driver: dir.link("driver"),
        numa_node: dir.id("numa_node"),
        local_cpus: dir.value("local_cpulist"),
        enable: dir.quantity("enable"),
        iommu_group: dir.link("iommu_group").and_then(|group| group.parse().ok()),
        physfn: dir.link("physfn"),
        sriov_numvfs: dir.quantity("sriov_numvfs"),
        sriov_totalvfs: dir.quantity("sriov_totalvfs"),
        label: dir.value("label"),
        ..PciDevice::default()
    };
    if sleeps(dir) {
        return device;
    }
    let speed = |name: &str| dir.value(name).and_then(|text| speed_mtps(&text));
    // 0 is no link, 255 stands for unknown.
    let width = |name: &str| dir.quantity(name).filter(|lanes| (1..255).contains(lanes));
    PciDevice {
        current_link_speed_mtps: speed("current_link_speed"),
        current_link_width: width("current_link_width"),
        max_link_speed_mtps: speed("max_link_speed"),
        max_link_width: width("max_link_width"),
        ..device
    }
}

fn sleeps(dir: &Dir) -> bool {
    let status = dir.value("power/runtime_status");
    status.is_some_and(|status| status.starts_with("suspend"))
}

/// `8.0 GT/s PCIe`, in older kernels `8 GT/s`; `Unknown` is `None`.
fn speed_mtps(text: &str) -> Option<i64> {
    let (number, _) = text.split_once(" GT/s")?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, tenths): (u16, u8) = (whole.parse().ok()?, tenths.parse().ok()?);
    (tenths < 10).then_some(1000 * i64::from(whole) + 100 * i64::from(tenths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn speeds() {
        for (text, expect) in [
            ("2.5 GT/s PCIe", Some(2500)),
            ("16.0 GT/s PCIe", Some(16_000)),
            ("8 GT/s", Some(8000)),
            ("Unknown", None),
            ("Unknown speed", None),
            ("x GT/s", None),
            ("2.55 GT/s", None),
        ] {
            assert_eq!(speed_mtps(text), expect, "{text}");
        }
    }

    #[test]
    fn a_device_that_sleeps_is_not_asked_for_its_link() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        fs::create_dir(root.path().join("power")).unwrap();
        write("current_link_speed", "8.0 GT/s PCIe\n");
        write("current_link_width", "16\n");
        write("max_link_width", "255\n");
        let link = || {
            let device = device("0000:01:00.0", &Dir::new(root.path()));
            (
                device.current_link_speed_mtps,
                device.current_link_width,
                device.max_link_width,
            )
        };
        assert_eq!(link(), (Some(8000), Some(16), None), "without power management");
        for (status, awake) in [
            ("active", true),
            ("suspended", false),
            ("suspending", false),
            ("unsupported", true),
        ] {
            write("power/runtime_status", status);
            let expect = if awake {
                (Some(8000), Some(16), None)
            } else {
                (None, None, None)
            };
            assert_eq!(link(), expect, "{status}");
        }
    }
}
