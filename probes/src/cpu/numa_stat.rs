//! Where each NUMA node's memory was asked for and found, from `/sys/devices/system/node/nodeN/numastat` (kernel documentation:
//! `admin-guide/numastat`).
//!
//! An allocation that wants memory of node A and gets it of node B is a miss of B and foreign to A. A kernel without NUMA has no
//! nodes in `/sys`; a machine without NUMA has one, `node0`. An offline node has no directory and no row.
//!
//! Cost: one file each node, 10 us.

use super::bad_line;
use crate::os::hand_over;
use crate::read;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// Pages that each NUMA node gave out since boot, by who had asked whom.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "numa_stat", state)]
pub struct NumaStat {
    /// Number of the node, as `cpu_info.numa_node`. Source: `nodeN` in `/sys/devices/system/node`.
    #[row(key)]
    pub node: i32,
    /// Wanted of this node and got of it. Source: `numa_hit`.
    #[row(unit = "pages", counter)]
    pub numa_hit: i64,
    /// Got of this node, though another was preferred. Source: `numa_miss`.
    #[row(unit = "pages", counter)]
    pub numa_miss: i64,
    /// Wanted of this node and got of another. Source: `numa_foreign`.
    #[row(unit = "pages", counter)]
    pub numa_foreign: i64,
    /// Got of this node as an interleaving policy wanted. Source: `interleave_hit`.
    #[row(unit = "pages", counter)]
    pub interleave_hit: i64,
    /// Got of this node by a process that ran on it. Source: `local_node`.
    #[row(unit = "pages", counter)]
    pub local_node: i64,
    /// Got of this node by a process that ran on another. Source: `other_node`.
    #[row(unit = "pages", counter)]
    pub other_node: i64,
}

pub struct NumaStatProbe {
    nodes: PathBuf,
    last: Vec<NumaStat>,
}

impl Probe for NumaStatProbe {
    type Options = NoOptions;
    type Tables = NumaStat;
    const NAME: &'static str = "numa_stat";
    const DOC: &'static str = "Pages that each NUMA node gave out, from /sys/devices/system/node/nodeN/numastat";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(NumaStatProbe {
            nodes: context.sys_dir().join("devices/system/node"),
            last: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let names = read::names(&self.nodes)?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
        let mut numbers: Vec<i32> = numbers.filter(|node| *node >= 0).collect();
        numbers.sort_unstable();
        let mut rows = Vec::new();
        for node in numbers {
            let path = self.nodes.join(format!("node{node}/numastat"));
            match read::bytes(&path) {
                Ok(bytes) => rows.push(parse(&path, node, &String::from_utf8_lossy(&bytes))?),
                // The node went offline.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(read::error(&path, &error)),
            }
        }
        if rows.is_empty() {
            return Err(ProbeError::unsupported(format!(
                "{}: no NUMA node with numastat in it",
                self.nodes.display()
            )));
        }
        hand_over(rows, &mut self.last, |a, b| a.node == b.node, tick, out);
        Ok(())
    }
}

/// `numa_hit 146358` on each line. Names that later kernels may add are passed over.
fn parse(path: &Path, node: i32, text: &str) -> Result<NumaStat> {
    let mut pages = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let pair = line.split_once(' ');
        let pair = pair.and_then(|(name, value)| Some((name, read::counter(value.trim())?)));
        pages.push(pair.ok_or_else(|| bad_line(path, i + 1, "not a name and a count"))?);
    }
    let of = |wanted: &str| {
        let found = pages.iter().find(|(name, _)| *name == wanted);
        found
            .map(|(_, count)| *count)
            .ok_or_else(|| ProbeError::failed(format!("{}: no {wanted} in it", path.display())))
    };
    Ok(NumaStat {
        node,
        numa_hit: of("numa_hit")?,
        numa_miss: of("numa_miss")?,
        numa_foreign: of("numa_foreign")?,
        interleave_hit: of("interleave_hit")?,
        local_node: of("local_node")?,
        other_node: of("other_node")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "numa_hit 146358\nnuma_miss 1\nnuma_foreign 2\ninterleave_hit 8139\nlocal_node 136667\n\
                        other_node 9223372036854775809\n";

    #[test]
    fn names_find_their_columns() {
        let row = parse(Path::new("f"), 3, TEXT).unwrap();
        assert_eq!((row.node, row.numa_hit, row.numa_miss), (3, 146_358, 1));
        assert_eq!((row.numa_foreign, row.interleave_hit), (2, 8139));
        assert_eq!((row.local_node, row.other_node), (136_667, 1));
        let longer = format!("numa_new 7\n{TEXT}");
        assert_eq!(parse(Path::new("f"), 3, &longer), Ok(row));
    }

    #[test]
    fn damaged_text_is_named() {
        let failed = |text: &str| parse(Path::new("node3/numastat"), 3, text).unwrap_err().to_string();
        assert_eq!(failed(""), "node3/numastat: no numa_hit in it");
        assert_eq!(
            failed("numa_hit 1\nnuma_miss\n"),
            "node3/numastat:2: not a name and a count"
        );
        assert_eq!(failed("numa_hit x\n"), "node3/numastat:1: not a name and a count");
        let cut = TEXT.split_once("local_node").unwrap().0;
        assert_eq!(failed(cut), "node3/numastat: no local_node in it");
    }
}
