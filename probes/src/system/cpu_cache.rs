//! Caches of the CPUs, from `/sys/devices/system/cpu/cpuN/cache` (kernel documentation: `ABI/testing/sysfs-devices-system-cpu`).
//!
//! The kernel describes a cache once for each CPU that uses it; here it has one row. A CPU that is offline describes none.
//!
//! Cost: three small files for each cache of each CPU and eight more for each row, 0.2 ms each CPU.

use super::cpu_info::cpu_number;
use crate::read::{self, Dir};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use vwatch_sdk::prelude::*;

/// The caches of the CPUs, each once.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "cpu_cache", state)]
pub struct CpuCache {
    /// 1 is the nearest to the CPU. Source: `cpuN/cache/indexN/level`.
    #[row(key)]
    pub level: i32,
    /// What it holds: `Data`, `Instruction` or `Unified`. Source: `cpuN/cache/indexN/type`.
    #[row(key)]
    pub cache_type: String,
    /// CPUs that use it: `0-3,8`. Source: `cpuN/cache/indexN/shared_cpu_map`, else `shared_cpu_list`, else the CPU whose
    /// directory it is.
    #[row(key)]
    pub shared_cpus: String,
    /// Number that no other cache of this level and type has. Source: `cpuN/cache/indexN/id`.
    pub id: Option<i64>,
    /// Source: `cpuN/cache/indexN/size`.
    #[row(unit = "bytes")]
    pub size_bytes: Option<i64>,
    /// Smallest piece that moves between caches. Source: `cpuN/cache/indexN/coherency_line_size`.
    #[row(unit = "bytes")]
    pub line_bytes: Option<i64>,
    /// Places where one line may be; 0 on some machines when it may be anywhere. Source:
    /// `cpuN/cache/indexN/ways_of_associativity`.
    pub ways: Option<i64>,
    /// Source: `cpuN/cache/indexN/number_of_sets`.
    pub sets: Option<i64>,
    /// Lines that share one tag. Source: `cpuN/cache/indexN/physical_line_partition`.
    pub lines_per_tag: Option<i64>,
    /// When a write goes on to memory: `WriteThrough` or `WriteBack`. Source: `cpuN/cache/indexN/write_policy`.
    pub write_policy: Option<String>,
    /// What brings a line in: `ReadAllocate`, `WriteAllocate` or `ReadWriteAllocate`. Source:
    /// `cpuN/cache/indexN/allocation_policy`.
    pub allocation_policy: Option<String>,
}

pub struct CpuCacheProbe {
    cpus: Dir,
}

/// Level, type and CPUs.
type Key = (i32, String, Vec<u32>);

impl Probe for CpuCacheProbe {
    type Options = NoOptions;
    type Tables = CpuCache;
    const NAME: &'static str = "cpu_cache";
    const DOC: &'static str = "Caches of the CPUs and who shares them, from /sys/devices/system/cpu";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(CpuCacheProbe {
            cpus: Dir::new(context.sys_dir().join("devices/system/cpu")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let names = read::names(self.cpus.path())?;
        let mut numbers: Vec<i32> = names.iter().filter_map(|name| cpu_number(name)).collect();
        numbers.sort_unstable();
        let mut rows: BTreeMap<Key, CpuCache> = BTreeMap::new();
        for cpu in numbers {
            let caches = self.cpus.dir(&format!("cpu{cpu}/cache"));
            for index in caches.names().iter().filter(|name| name.starts_with("index")) {
                let dir = caches.dir(index);
                if let Some(key) = key(&dir, cpu as u32)
                    && let Entry::Vacant(vacant) = rows.entry(key)
                {
                    let row = row(&dir, vacant.key());
                    vacant.insert(row);
                }
            }
        }
        if rows.is_empty() {
            let cpus = self.cpus.path().display();
            let message = format!("{cpus}/cpu*/cache: the kernel describes no cache of this machine");
            return Err(ProbeError::unsupported(message));
        }
        out.full(rows.into_values().collect());
        Ok(())
    }
}

/// `None` when the directory has gone, or when firmware does not tell what the cache is.
fn key(dir: &Dir, cpu: u32) -> Option<Key> {
    let level = dir.number("level")?;
    let cache_type = dir.value("type")?;
    let of_map = dir.value("shared_cpu_map").map(|map| read::mask(&map));
    let shared = of_map.or_else(|| dir.value("shared_cpu_list").map(|list| read::list(&list)));
    let shared = shared.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| vec![cpu]);
    Some((level, cache_type, shared))
}

fn row(dir: &Dir, (level, cache_type, shared): &Key) -> CpuCache {
    CpuCache {
        level: *level,
        cache_type: cache_type.clone(),
        shared_cpus: read::write_list(shared),
        id: dir.quantity("id"),
        size_bytes: dir.value("size").and_then(|size| read::size_bytes(&size)),
        line_bytes: dir.quantity("coherency_line_size"),
        ways: dir.quantity("ways_of_associativity"),
        sets: dir.quantity("number_of_sets"),
        lines_per_tag: dir.quantity("physical_line_partition"),
        write_policy: dir.value("write_policy"),
        allocation_policy: dir.value("allocation_policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn who_shares_a_cache() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::new(root.path());
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        let shared = || key(&dir, 7).map(|(_, _, shared)| shared);
        write("level", "2\n");
        assert_eq!(shared(), None, "without a type");
        write("type", "Unified\n");
        assert_eq!(shared(), Some(vec![7]), "by its place");
        write("shared_cpu_list", "0-1,7\n");
        assert_eq!(shared(), Some(vec![0, 1, 7]), "by the list");
        write("shared_cpu_map", "00000000,00000084\n");
        assert_eq!(shared(), Some(vec![2, 7]), "by the map, which older kernels have too");
        write("level", "many\n");
        assert_eq!(shared(), None, "with a level that is no number");
    }
}
