//! Block devices, from `/sys/block` (kernel documentation: `ABI/stable/sysfs-block`, `block/queue-sysfs`).
//!
//! Whole devices: partitions have a table of their own. Sizes in 512-byte sectors and KiB are turned into bytes.
//!
//! Cost: about 50 small files a device, 0.4 ms each.

use crate::read::{self, Dir};
use vwatch_sdk::prelude::*;

/// Disks, and whatever else the kernel calls a block device.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "block_device", state)]
pub struct BlockDevice {
    /// Name of the kernel: `sda`, `nvme0n1`, `dm-3`. Source: `/sys/block`.
    #[row(key)]
    pub name: String,
    /// What it is: `disk`, `cdrom`, `loop`, `dm`, `md`, `zram`, `ram`, `nbd`, `mtd`. Source: the directories that each kind has.
    pub kind: String,
    /// Source: `dev`.
    pub major: Option<i32>,
    /// Source: `dev`.
    pub minor: Option<i32>,
    /// Source: `size`.
    #[row(unit = "bytes")]
    pub size_bytes: Option<i64>,
    /// Source: `device/model`.
    pub model: Option<String>,
    /// Source: `device/vendor`.
    pub vendor: Option<String>,
    /// Revision of the firmware. Source: `device/rev`, `device/firmware_rev`.
    pub firmware: Option<String>,
    /// Source: `device/serial`, else `serial`.
    pub serial: Option<String>,
    /// Name that is the same in every host. Source: `wwid`, else `device/wwid`.
    pub wwid: Option<String>,
    /// State that the driver gives: `running`, `live`, `offline`. Source: `device/state`.
    pub device_state: Option<String>,
    /// Bus that the device is on: `scsi`, `nvme`, `virtio`, `mmc`. Source: `device/subsystem`.
    pub bus: Option<String>,
    /// Address on the bus: `0:0:0:0`, `nvme0`, `virtio1`. Source: `device`.
    pub address: Option<String>,
    /// Source: `device/driver`.
    pub driver: Option<String>,
    /// NUMA node that the device is near to. Source: `device/numa_node`, else `device/device/numa_node`.
    pub numa_node: Option<i32>,
    /// It has spinning parts, or is said to. Source: `queue/rotational`.
    pub rotational: Option<bool>,
    /// Its medium can be taken out. Source: `removable`.
    pub removable: Option<bool>,
    /// It cannot be written. Source: `ro`.
    pub read_only: Option<bool>,
    /// Only a path of a multipath device. Source: `hidden`.
    pub hidden: Option<bool>,
    /// Scheduler in use. Source: `queue/scheduler`.
    pub scheduler: Option<String>,
    /// Schedulers that could be used. Source: `queue/scheduler`.
    pub schedulers: Option<String>,
    /// Smallest unit that can be addressed. Source: `queue/logical_block_size`.
    #[row(unit = "bytes")]
    pub logical_block_bytes: Option<i64>,
    /// Smallest unit that can be written without reading. Source: `queue/physical_block_size`.
    #[row(unit = "bytes")]
    pub physical_block_bytes: Option<i64>,
    /// Smallest request that is not slow. Source: `queue/minimum_io_size`.
    #[row(unit = "bytes")]
    pub minimum_io_bytes: Option<i64>,
    /// Size of request that is best; 0 when not told. Source: `queue/optimal_io_size`.
    #[row(unit = "bytes")]
    pub optimal_io_bytes: Option<i64>,
    /// Largest request that is made. Source: `queue/max_sectors_kb`.
    #[row(unit = "bytes")]
    pub max_request_bytes: Option<i64>,
    /// Largest request that the hardware takes. Source: `queue/max_hw_sectors_kb`.
    #[row(unit = "bytes")]
    pub max_hw_request_bytes: Option<i64>,
    /// Pieces of memory in one request. Source: `queue/max_segments`.
    pub max_segments: Option<i64>,
    /// Read ahead of a sequential reader. Source: `queue/read_ahead_kb`.
    #[row(unit = "bytes")]
    pub read_ahead_bytes: Option<i64>,
    /// Requests that the device takes at a time. Source: `device/queue_depth`.
    pub queue_depth: Option<i64>,
    /// Requests that the scheduler holds. Source: `queue/nr_requests`.
    pub nr_requests: Option<i64>,
    /// Queues of the hardware. Source: directories in `mq`.
    pub nr_hw_queues: Option<i64>,
    /// `write back` or `write through`. Source: `queue/write_cache`.
    pub write_cache: Option<String>,
    /// It can write past its cache. Source: `queue/fua`.
    pub fua: Option<bool>,
    /// Pages must not change while they are written. Source: `queue/stable_writes`.
    pub stable_writes: Option<bool>,
    /// Memory of the device can be mapped. Source: `queue/dax`.
    pub dax: Option<bool>,
    /// Unit of a discard; 0 when it cannot. Source: `queue/discard_granularity`.
    #[row(unit = "bytes")]
    pub discard_granularity_bytes: Option<i64>,
    /// Largest discard. Source: `queue/discard_max_bytes`.
    #[row(unit = "bytes")]
    pub discard_max_bytes: Option<i64>,
    /// `none`, `host-aware` or `host-managed`. Source: `queue/zoned`.
    pub zoned: Option<String>,
    /// Merging of requests: 0 all, 1 simple, 2 none. Source: `queue/nomerges`.
    pub nomerges: Option<i64>,
    /// Completion on the CPU that asked: 0 no, 1 its group, 2 itself. Source: `queue/rq_affinity`.
    pub rq_affinity: Option<i64>,
    /// `disk_io` counts it. Source: `queue/iostats`.
    pub iostats: Option<bool>,
    /// Latency at which background writes are held back; 0 for never. Source: `queue/wbt_lat_usec`.
    #[row(unit = "us")]
    pub wbt_lat_us: Option<i64>,
    /// Number of partitions. Source: directories with a file `partition`.
    pub partitions: i64,
    /// Devices that it is made of, by name. Source: `slaves`.
    pub slaves: String,
    /// Devices made of it, by name. Source: `holders`.
    pub holders: String,
    /// Name of the mapping. Source: `dm/name`.
    pub dm_name: Option<String>,
    /// Source: `dm/uuid`.
    pub dm_uuid: Option<String>,
    /// The mapping is suspended. Source: `dm/suspended`.
    pub dm_suspended: Option<bool>,
    /// RAID level: `raid1`. Source: `md/level`.
    pub md_level: Option<String>,
    /// Disks that the array should have. Source: `md/raid_disks`.
    pub md_disks: Option<i64>,
    /// Disks that it lacks. Source: `md/degraded`.
    pub md_degraded: Option<i64>,
    /// `clean`, `active`, `inactive` … Source: `md/array_state`.
    pub md_state: Option<String>,
    /// File behind a loop device. Source: `loop/backing_file`.
    pub backing_file: Option<String>,
    /// Number of this device among all since boot: a name used again has another. Source: `diskseq`.
    pub diskseq: Option<i64>,
}

pub struct BlockDeviceProbe {
    block: Dir,
}

impl Probe for BlockDeviceProbe {
    type Options = NoOptions;
    type Tables = BlockDevice;
    const NAME: &'static str = "block_device";
    const DOC: &'static str = "Disks and other block devices, their limits and queues, from /sys/block";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(BlockDeviceProbe {
            block: Dir::new(context.sys_dir().join("block")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let names = read::names(self.block.path())?;
        let devices = names
            .iter()
            .map(|name| (name, self.block.dir(name)))
            .filter(|(_, dir)| dir.exists());
        out.full(devices.map(|(name, dir)| device(name, &dir)).collect());
        Ok(())
    }
}

fn device(name: &str, dir: &Dir) -> BlockDevice {
    let (major, minor) = numbers(&dir.value("dev").unwrap_or_default());
    let device = dir.dir("device");
    let base = BlockDevice {
        // The kernel writes `!` for the `/` in names such as `cciss/c0d0`.
        name: name.replace('!', "/"),
        kind: kind(name, dir),
        major,
        minor,
        size_bytes: dir.quantity("size").map(|sectors| sectors.saturating_mul(512)),
        model: device.value("model"),
        vendor: device.value("vendor"),
        firmware: device.value("rev").or_else(|| device.value("firmware_rev")),
        serial: device.value("serial").or_else(|| dir.value("serial")),
        wwid: dir.value("wwid").or_else(|| device.value("wwid")),
        device_state: device.value("state"),
        bus: device.link("subsystem"),
        address: dir.link("device"),
        driver: device.link("driver"),
        numa_node: device.id("numa_node").or_else(|| device.id("device/numa_node")),
        removable: dir.switch("removable"),
        read_only: dir.switch("ro"),
        hidden: dir.switch("hidden"),
        queue_depth: device.quantity("queue_depth"),
        nr_hw_queues: dir.dir("mq").exists().then(|| dir.dir("mq").names().len() as i64),
        partitions: dir
            .names()
            .iter()
            .filter(|part| dir.value(&format!("{part}/partition")).is_some())
            .count() as i64,
        slaves: dir.dir("slaves").names().join(","),
        holders: dir.dir("holders").names().join(","),
        dm_name: dir.value("dm/name"),
        dm_uuid: dir.value("dm/uuid"),
        dm_suspended: dir.switch("dm/suspended"),
        md_level: dir.value("md/level"),
        md_disks: dir.quantity("md/raid_disks"),
        md_degraded: dir.quantity("md/degraded"),
        md_state: dir.value("md/array_state"),
        backing_file: dir.value("loop/backing_file"),
        diskseq: dir.quantity("diskseq"),
        ..BlockDevice::default()
    };
    with_queue(base, &dir.dir("queue"))
}

fn with_queue(device: BlockDevice, queue: &Dir) -> BlockDevice {
    let kib = |name: &str| queue.quantity(name).map(|kib| kib.saturating_mul(1024));
    let (scheduler, schedulers) = schedulers(&queue.value("scheduler").unwrap_or_default());
    BlockDevice {
        rotational: queue.switch("rotational"),
        scheduler,
        schedulers,
        logical_block_bytes: queue.quantity("logical_block_size"),
        physical_block_bytes: queue.quantity("physical_block_size"),
        minimum_io_bytes: queue.quantity("minimum_io_size"),
        optimal_io_bytes: queue.quantity("optimal_io_size"),
        max_request_bytes: kib("max_sectors_kb"),
        max_hw_request_bytes: kib("max_hw_sectors_kb"),
        max_segments: queue.quantity("max_segments"),
        read_ahead_bytes: kib("read_ahead_kb"),
        nr_requests: queue.quantity("nr_requests"),
        write_cache: queue.value("write_cache"),
        fua: queue.switch("fua"),
        stable_writes: queue.switch("stable_writes"),
        dax: queue.switch("dax"),
        discard_granularity_bytes: queue.quantity("discard_granularity"),
        discard_max_bytes: queue.quantity("discard_max_bytes"),
        zoned: queue.value("zoned"),
        nomerges: queue.quantity("nomerges"),
        rq_affinity: queue.quantity("rq_affinity"),
        iostats: queue.switch("iostats"),
        wbt_lat_us: queue.quantity("wbt_lat_usec"),
        ..device
    }
}

/// `8:16`
pub(super) fn numbers(text: &str) -> (Option<i32>, Option<i32>) {
    match text.split_once(':') {
        Some((major, minor)) => (major.parse().ok(), minor.parse().ok()),
        None => (None, None),
    }
}

/// SCSI type 5 is a CD-ROM (`scsi/scsi_proto.h`); the others have a directory or a name of their own.
fn kind(name: &str, dir: &Dir) -> String {
    let own = ["dm", "md", "loop"].into_iter().find(|kind| dir.dir(kind).exists());
    let kind = match own {
        Some(kind) => kind,
        None if dir.number("device/type") == Some(5) => "cdrom",
        // A loop device has its directory only while it has a file.
        None => ["loop", "zram", "ram", "nbd", "mtd"]
            .into_iter()
            .find(|kind| {
                name.strip_prefix(kind)
                    .is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
            })
            .unwrap_or("disk"),
    };
    kind.to_owned()
}

/// `none [mq-deadline] kyber`: the one in use, and all.
fn schedulers(text: &str) -> (Option<String>, Option<String>) {
    let all: Vec<&str> = text
        .split_whitespace()
        .map(|word| word.trim_matches(['[', ']']))
        .collect();
    // Devices without a scheduler only say `none`.
    let used = read::chosen(text).or(all.first().copied().filter(|_| all.len() == 1));
    (used.map(str::to_owned), (!all.is_empty()).then(|| all.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_in_use() {
        let check = |text: &str, used: Option<&str>, all: Option<&str>| {
            assert_eq!(
                schedulers(text),
                (used.map(str::to_owned), all.map(str::to_owned)),
                "{text:?}"
            );
        };
        check(
            "none [mq-deadline] kyber bfq \n",
            Some("mq-deadline"),
            Some("none mq-deadline kyber bfq"),
        );
        check("[none]", Some("none"), Some("none"));
        check("none", Some("none"), Some("none"));
        check("noop cfq", None, Some("noop cfq"));
        check("", None, None);
    }

    #[test]
    fn device_numbers() {
        assert_eq!(numbers("8:16"), (Some(8), Some(16)));
        assert_eq!(numbers(""), (None, None));
        assert_eq!(numbers("8:x"), (Some(8), None));
    }

    #[test]
    fn kinds() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, expect: &str| assert_eq!(kind(name, &Dir::new(dir.path())), expect, "{name}");
        check("sda", "disk");
        check("loop3", "loop");
        check("loopback", "disk");
        check("zram0", "zram");
        std::fs::create_dir(dir.path().join("device")).unwrap();
        std::fs::write(dir.path().join("device/type"), "5\n").unwrap();
        check("sr0", "cdrom");
        std::fs::create_dir(dir.path().join("dm")).unwrap();
        check("dm-0", "dm");
    }
}
