//! Network interfaces, from `/sys/class/net` (kernel documentation: `ABI/testing/sysfs-class-net`).
//!
//! What an interface is and how it is set; what it has carried is in `net_io`. The interfaces are those of the network
//! namespace in which `/sys` was mounted.
//!
//! Cost: about 30 small files an interface, 0.3 ms each.

use crate::read::{self, Dir};
use vwatch_sdk::prelude::*;

/// Network interfaces: what they are and how they are set.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "net_interface", state)]
pub struct NetInterface {
    /// Source: the directory in `/sys/class/net`.
    #[row(key)]
    pub name: String,
    /// Number of the interface. Source: `ifindex`.
    pub ifindex: Option<i32>,
    /// Number of the interface below it, or its own; 0 when that is in another namespace. Source: `iflink`.
    pub iflink: Option<i32>,
    /// Kind of the driver: `bridge`, `vlan`, `bond`, `wlan`, `vxlan`; NULL for plain ones. Source: `DEVTYPE` in `uevent`.
    pub kind: Option<String>,
    /// Kind of the link layer: `ether`, `loopback`, `infiniband`, `none` or a number. Source: `type`, names of `linux/if_arp.h`.
    pub link_type: Option<String>,
    /// Address of the link layer. Source: `address`.
    pub mac: Option<String>,
    /// Where the address is from: `permanent`, `random`, `stolen` (of another device), `set`. Source: `addr_assign_type`.
    pub mac_origin: Option<String>,
    /// Broadcast address of the link layer. Source: `broadcast`.
    pub broadcast: Option<String>,
    /// Largest packet. Source: `mtu`.
    #[row(unit = "bytes")]
    pub mtu_bytes: Option<i64>,
    /// `up`, `down`, `unknown`, `dormant`, `lowerlayerdown`, `testing`, `notpresent` (RFC 2863). Source: `operstate`.
    pub operstate: Option<String>,
    /// The link is there; NULL while the interface is down. Source: `carrier`.
    pub carrier: Option<bool>,
    /// Times the link went up or down. Source: `carrier_changes`.
    #[row(counter)]
    pub carrier_changes: Option<i64>,
    /// Set up by an administrator. Source: `IFF_UP` in `flags`.
    pub up: Option<bool>,
    /// It takes packets for others. Source: `IFF_PROMISC` in `flags`.
    pub promiscuous: Option<bool>,
    /// All flags. Source: `flags`.
    pub flags: Option<u32>,
    /// Speed of the link, 10^6 bits a second; NULL when unknown. Source: `speed`.
    #[row(unit = "mbps")]
    pub speed_mbps: Option<i64>,
    /// `full` or `half`; NULL when unknown. Source: `duplex`.
    pub duplex: Option<String>,
    /// Source: `device/driver`.
    pub driver: Option<String>,
    /// Bus that its device is on: `pci`, `usb`, `virtio`. Source: `device/subsystem`.
    pub bus: Option<String>,
    /// Address of its device on that bus. Source: `device`.
    pub address: Option<String>,
    /// Vendor of the device, as the bus numbers them. Source: `device/vendor`.
    pub vendor: Option<String>,
    /// Model of the device. Source: `device/device`.
    pub device: Option<String>,
    /// NUMA node that the device is near to. Source: `device/numa_node`.
    pub numa_node: Option<i32>,
    /// Virtual functions that are set up. Source: `device/sriov_numvfs`.
    pub sriov_numvfs: Option<i64>,
    /// Packets that wait to be sent at most. Source: `tx_queue_len`.
    pub tx_queue_len: Option<i64>,
    /// Queues for sending. Source: `queues/tx-N`.
    pub tx_queues: i64,
    /// Queues for receiving. Source: `queues/rx-N`.
    pub rx_queues: i64,
    /// Bridge, bond or VRF that it is part of. Source: `master`.
    pub master: Option<String>,
    /// Interfaces that it stands on. Source: `lower_NAME`.
    pub lower: String,
    /// Interfaces that stand on it. Source: `upper_NAME`.
    pub upper: String,
    /// Bonding mode: `802.3ad`. Source: `bonding/mode`.
    pub bonding_mode: Option<String>,
    /// Slave of a bond that is in use. Source: `bonding/active_slave`.
    pub bonding_active_slave: Option<String>,
    /// Text that an administrator gave. Source: `ifalias`.
    pub ifalias: Option<String>,
    /// Source: `netdev_group`.
    pub netdev_group: Option<i64>,
    /// Name of the port that the hardware gives. Source: `phys_port_name`.
    pub phys_port_name: Option<String>,
    /// Number that the ports of one switch share. Source: `phys_switch_id`.
    pub phys_switch_id: Option<String>,
    /// Number of the port on the device. Source: `dev_port`.
    pub dev_port: Option<i64>,
    /// Something else holds the link down. Source: `proto_down`.
    pub proto_down: Option<bool>,
    /// Polling is done by threads of the kernel. Source: `threaded`.
    pub threaded: Option<bool>,
    /// Time that packets may wait to be merged. Source: `gro_flush_timeout`.
    #[row(unit = "ns")]
    pub gro_flush_timeout_ns: Option<i64>,
}

pub struct NetInterfaceProbe {
    net: Dir,
}

impl Probe for NetInterfaceProbe {
    type Options = NoOptions;
    type Tables = NetInterface;
    const NAME: &'static str = "net_interface";
    const DOC: &'static str = "Network interfaces and their settings, from /sys/class/net";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(NetInterfaceProbe {
            net: Dir::new(context.sys_dir().join("class/net")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        // The directory also has files, such as `bonding_masters`.
        let names = read::names(self.net.path())?;
        let interfaces = names
            .iter()
            .map(|name| (name, self.net.dir(name)))
            .filter(|(_, dir)| dir.exists());
        out.full(interfaces.map(|(name, dir)| interface(name, &dir)).collect());
        Ok(())
    }
}

fn interface(name: &str, dir: &Dir) -> NetInterface {
    let flags = dir.hex("flags").map(|flags| flags as u32);
    let flag = |bit: i32| flags.map(|flags| flags & bit as u32 != 0);
    let device = dir.dir("device");
    let entries = dir.names();
    let beside = |prefix: &str| {
        entries
            .iter()
            .filter_map(|e| e.strip_prefix(prefix))
            .collect::<Vec<_>>()
            .join(",")
    };
    let queues = dir.dir("queues").names();
    let queues = |prefix: &str| queues.iter().filter(|q| q.starts_with(prefix)).count() as i64;
    NetInterface {
        name: name.to_owned(),
        ifindex: dir.number("ifindex"),
        iflink: dir.number("iflink"),
        kind: dir.value("uevent").and_then(|text| devtype(&text)),
        link_type: dir.number("type").map(link_type),
        mac: dir.value("address"),
        mac_origin: dir.number("addr_assign_type").map(mac_origin),
        broadcast: dir.value("broadcast"),
        mtu_bytes: dir.quantity("mtu"),
        operstate: dir.value("operstate"),
        carrier: dir.switch("carrier"),
        carrier_changes: dir.value("carrier_changes").and_then(|n| read::counter(&n)),
        up: flag(libc::IFF_UP),
        promiscuous: flag(libc::IFF_PROMISC),
        flags,
        speed_mbps: dir.value("speed").and_then(|text| speed_mbps(&text)),
        duplex: dir.value("duplex").filter(|duplex| duplex != "unknown"),
        driver: device.link("driver"),
        bus: device.link("subsystem"),
        address: dir.link("device"),
        vendor: device.value("vendor"),
        device: device.value("device"),
        numa_node: device.id("numa_node"),
        sriov_numvfs: device.quantity("sriov_numvfs"),
        tx_queue_len: dir.quantity("tx_queue_len"),
        tx_queues: queues("tx-"),
        rx_queues: queues("rx-"),
        master: dir.link("master"),
        lower: beside("lower_"),
        upper: beside("upper_"),
        // `802.3ad 4`: the name and the number of the mode.
        bonding_mode: dir
            .value("bonding/mode")
            .and_then(|mode| Some(mode.split(' ').next()?.to_owned())),
        bonding_active_slave: dir.value("bonding/active_slave"),
        ifalias: dir.value("ifalias"),
        netdev_group: dir.quantity("netdev_group"),
        phys_port_name: dir.value("phys_port_name"),
        phys_switch_id: dir.value("phys_switch_id"),
        dev_port: dir.quantity("dev_port"),
        proto_down: dir.switch("proto_down"),
        threaded: dir.switch("threaded"),
        gro_flush_timeout_ns: dir.quantity("gro_flush_timeout"),
    }
}

/// `-1`, or 2^32 - 1 in older kernels, stands for unknown; drivers without a link also say 0.
fn speed_mbps(text: &str) -> Option<i64> {
    read::quantity(text).filter(|speed| (1..i64::from(u32::MAX)).contains(speed))
}

fn devtype(uevent: &str) -> Option<String> {
    uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVTYPE="))
        .map(str::to_owned)
}

/// `NET_ADDR_*` of `linux/netdevice.h`.
fn mac_origin(assign_type: u8) -> String {
    match assign_type {
        0 => "permanent".to_owned(),
        1 => "random".to_owned(),
        2 => "stolen".to_owned(),
        3 => "set".to_owned(),
        other => other.to_string(),
    }
}

/// `ARPHRD_*` of `linux/if_arp.h`, in the words of ip-link(8).
fn link_type(arphrd: u16) -> String {
    let name = match arphrd {
        1 => "ether",
        24 => "ieee1394",
        32 => "infiniband",
        280 => "can",
        512 => "ppp",
        768 => "ipip",
        769 => "tunnel6",
        772 => "loopback",
        776 => "sit",
        778 => "gre",
        801 => "ieee802.11",
        803 => "ieee802.11/radiotap",
        804 => "ieee802.15.4",
        823 => "gre6",
        824 => "netlink",
        826 => "vsockmon",
        519 => "rawip",
        0xfffe => "none",
        0xffff => "void",
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        for (text, expect) in [
            ("1000", Some(1000)),
            ("800000", Some(800_000)),
            ("-1", None),
            ("4294967295", None),
            ("0", None),
            ("fast", None),
        ] {
            assert_eq!(speed_mbps(text), expect, "{text}");
        }
    }

    #[test]
    fn kinds() {
        assert_eq!(
            devtype("DEVTYPE=vlan\nINTERFACE=eth0.5\nIFINDEX=9").as_deref(),
            Some("vlan")
        );
        assert_eq!(devtype("INTERFACE=eth0\nIFINDEX=2"), None);
        assert_eq!(link_type(772), "loopback");
        assert_eq!(link_type(5555), "5555");
        assert_eq!(mac_origin(9), "9");
    }
}
