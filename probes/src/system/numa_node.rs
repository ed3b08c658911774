//! NUMA nodes, from `/sys/devices/system/node` (kernel documentation: `ABI/stable/sysfs-devices-node`).
//!
//! A kernel built without NUMA has no such directory; one built with it has at least `node0`, on every machine. What the
//! memory of a node is used for changes all the time and is not told here.
//!
//! Cost: about six small files a node, 0.1 ms each.

use super::cpu_info::members;
use crate::read::{self, Dir};
use std::path::Path;
use vwatch_sdk::prelude::*;

/// Places in the machine with memory, CPUs or both, to which some CPUs are nearer than others.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "numa_node", state)]
pub struct NumaNode {
    /// The number that `cpu_info.numa_node` has too. Source: `/sys/devices/system/node/nodeN`.
    #[row(key)]
    pub node: i32,
    /// Its CPUs: `0-3,8`; empty for a node with memory only. Source: `nodeN/cpulist`, in older kernels `cpumap`.
    pub cpus: String,
    /// Memory that the kernel manages there. Source: `MemTotal` in `nodeN/meminfo`.
    #[row(unit = "bytes")]
    pub memory_bytes: Option<i64>,
    /// How far it is to the memory of each node that is online, in their order, where 10 stands for its own: `10 21`. Source:
    /// `nodeN/distance`.
    pub distances: Option<String>,
    /// Huge pages that are set aside there, by size: `2048kB=512 1048576kB=0`. Source: `nodeN/hugepages/hugepages-SIZE/nr_hugepages`.
    pub hugepages: Option<String>,
    /// Memory in huge pages of all sizes. Source: `nodeN/hugepages/hugepages-SIZE/nr_hugepages`.
    #[row(unit = "bytes")]
    pub hugepages_bytes: Option<i64>,
}

pub struct NumaNodeProbe {
    nodes: Dir,
}

impl Probe for NumaNodeProbe {
    type Options = NoOptions;
    type Tables = NumaNode;
    const NAME: &'static str = "numa_node";
    const DOC: &'static str = "NUMA nodes, their CPUs, memory and distances, from /sys/devices/system/node";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(NumaNodeProbe {
            nodes: Dir::new(context.sys_dir().join("devices/system/node")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let names = read::names(self.nodes.path())?;
        let mut numbers: Vec<i32> = names.iter().filter_map(|name| node_number(name)).collect();
        numbers.sort_unstable();
        let rows = numbers
            .into_iter()
            .map(|node| row(node, &self.nodes.dir(&format!("node{node}"))));
        out.full(rows.collect::<Result<_>>()?);
        Ok(())
    }
}

/// `node12` is 12; beside the nodes there are `online`, `has_cpu` and others.
fn node_number(name: &str) -> Option<i32> {
    name.strip_prefix("node")?.parse().ok().filter(|n| *n >= 0)
}

fn row(node: i32, dir: &Dir) -> Result<NumaNode> {
    let cpus = members(dir, "cpulist", "cpumap").unwrap_or_default();
    let mut pools = pools(&dir.dir("hugepages"));
    pools.sort_unstable();
    let words: Vec<String> = pools
        .iter()
        .map(|(bytes, pages)| format!("{}kB={pages}", bytes >> 10))
        .collect();
    let bytes = pools.iter().fold(0i64, |sum, (bytes, pages)| {
        sum.saturating_add(bytes.saturating_mul(*pages))
    });
    Ok(NumaNode {
        node,
        cpus: read::write_list(&cpus),
        memory_bytes: memory_bytes(&dir.path().join("meminfo"))?,
        distances: dir.value("distance"),
        hugepages: (!pools.is_empty()).then(|| words.join(" ")),
        hugepages_bytes: (!pools.is_empty()).then_some(bytes),
    })
}

/// Bytes of a page and how many pages there are, of each size.
fn pools(dir: &Dir) -> Vec<(i64, i64)> {
    let names = dir.names();
    let pools = names.iter().filter_map(|name| {
        let bytes = read::size_bytes(name.strip_prefix("hugepages-")?)?;
        Some((bytes, dir.quantity(&format!("{name}/nr_hugepages"))?))
    });
    pools.collect()
}

/// `Node 0 MemTotal:       16769836 kB`. `None` where the file is not there, or lacks that line.
fn memory_bytes(meminfo: &Path) -> Result<Option<i64>> {
    let Some(text) = read::value(meminfo) else {
        return Ok(None);
    };
    let line = text.lines().find_map(|line| {
        let (name, total) = line.split_once(':')?;
        (name.split_whitespace().next_back() == Some("MemTotal")).then_some((line, total))
    });
    let Some((line, total)) = line else {
        return Ok(None);
    };
    match read::size_bytes(total) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(ProbeError::failed(format!(
            "{}: no amount of memory: {line:?}",
            meminfo.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_of_nodes() {
        assert_eq!(node_number("node12"), Some(12));
        for other in ["node", "node-1", "online", "node1x"] {
            assert_eq!(node_number(other), None, "{other}");
        }
    }

    #[test]
    fn memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("meminfo");
        assert_eq!(memory_bytes(&file).unwrap(), None, "no file");
        let check = |text: &str| {
            fs::write(&file, text).unwrap();
            memory_bytes(&file)
        };
        let text = "Node 3 MemTotal:       16769836 kB\nNode 3 MemFree:        16087204 kB\n";
        assert_eq!(check(text).unwrap(), Some(16_769_836 << 10));
        assert_eq!(check("Node 3 MemFree:        16087204 kB\n").unwrap(), None);
        let error = check("Node 3 MemTotal:   much\n").unwrap_err().to_string();
        assert!(error.contains("meminfo") && error.contains("much"), "{error}");
    }

    #[test]
    fn pages_of_each_size() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::new(root.path());
        assert_eq!(pools(&dir), []);
        for (name, pages) in [
            ("hugepages-2048kB", "512\n"),
            ("hugepages-1048576kB", "3\n"),
            ("other", "1\n"),
        ] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("nr_hugepages"), pages).unwrap();
        }
        fs::create_dir(root.path().join("hugepages-64kB")).unwrap();
        let mut found = pools(&dir);
        found.sort_unstable();
        assert_eq!(found, [(2 << 20, 512), (1 << 30, 3)]);
    }
}
