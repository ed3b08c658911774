//! Probes of the `system` plugin: what the host is made of.
//!
//! Inventory changes rarely, and a picture that has not changed costs the store nothing: each probe looks once a minute.

pub mod block_device;
pub mod cpu_cache;
pub mod cpu_info;
pub mod host;
pub mod kernel_module;
pub mod mount;
pub mod net_address;
pub mod net_interface;
pub mod numa_node;
pub mod partition;
pub mod pci_device;
pub mod proc_cpuinfo;
pub mod virtualization;

pub use block_device::BlockDeviceProbe;
pub use cpu_cache::CpuCacheProbe;
pub use cpu_info::CpuInfoProbe;
pub use host::HostProbe;
pub use kernel_module::KernelModuleProbe;
pub use mount::MountProbe;
pub use net_address::NetAddressProbe;
pub use net_interface::NetInterfaceProbe;
pub use numa_node::NumaNodeProbe;
pub use partition::PartitionProbe;
pub use pci_device::PciDeviceProbe;
