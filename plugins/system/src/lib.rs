//! vwatchd plugin: what the host is made of. Binds the probes of `vwatch_probes::system`.

use vwatch_probes::system::{
    BlockDeviceProbe, CpuCacheProbe, CpuInfoProbe, HostProbe, KernelModuleProbe, MountProbe, NetAddressProbe,
    NetInterfaceProbe, NumaNodeProbe, PartitionProbe, PciDeviceProbe,
};
use vwatch_sdk::plugin;

plugin! {
    name: "system",
    doc: "Inventory of the host: system, CPUs, caches, NUMA nodes, mounts, network interfaces, block devices, partitions, PCI devices, kernel modules",
    probes: [
        HostProbe, CpuInfoProbe, CpuCacheProbe, NumaNodeProbe, MountProbe, NetInterfaceProbe, NetAddressProbe, BlockDeviceProbe, PartitionProbe, PciDeviceProbe, KernelModuleProbe,
    ],
}
