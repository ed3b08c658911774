//! The plugin `os`: figures of the operating system as a whole. The measuring is in `vwatch-probes`.

use vwatch_probes::os::cgroup::CgroupProbe;
use vwatch_probes::os::disk_io::DiskIoProbe;
use vwatch_probes::os::file_table::FileTableProbe;
use vwatch_probes::os::load::LoadProbe;
use vwatch_probes::os::memory::MemoryProbe;
use vwatch_probes::os::net_io::NetIoProbe;
use vwatch_probes::os::net_protocol::NetProtocolProbe;
use vwatch_probes::os::pressure::PressureProbe;
use vwatch_probes::os::scheduler::SchedulerProbe;
use vwatch_probes::os::vmstat::VmstatProbe;
use vwatch_sdk::prelude::*;

plugin! {
    name: "os",
    doc: "Figures of the operating system: load, memory, disks, network, pressure, scheduler, open files, control groups.",
    probes: [
        LoadProbe, MemoryProbe, VmstatProbe, DiskIoProbe, NetIoProbe, PressureProbe, SchedulerProbe, FileTableProbe,
        NetProtocolProbe, CgroupProbe,
    ],
}
