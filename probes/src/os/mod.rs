//! Figures of the operating system as a whole: one file per probe.
//!
//! **Invariant:** each probe reads a few small kernel files each second or each ten, 10 to 60 µs of CPU time (`net_protocol`
//! and `cgroup` more), and keeps no file open. Where a table has many rows of which few change, [`hand_over`] hands over the
//! changed ones.

pub mod cgroup;
pub mod disk_io;
pub mod file_table;
pub mod load;
pub mod memory;
pub mod net_io;
pub mod net_protocol;
pub mod pressure;
pub mod scheduler;
pub mod vmstat;

use vwatch_sdk::StateRow;
use vwatch_sdk::prelude::*;

/// Hands over the rows that differ from those of the last sample, or the full picture when the host asks for one or when a
/// row has come, gone or moved, which is rare in these tables.
pub(crate) fn hand_over<R>(rows: Vec<R>, last: &mut Vec<R>, same_key: fn(&R, &R) -> bool, tick: &Tick, out: &mut Out)
where
    R: StateRow + Clone + PartialEq,
{
    let same_rows = rows.len() == last.len() && rows.iter().zip(last.iter()).all(|(a, b)| same_key(a, b));
    if tick.full || !same_rows {
        out.full(rows.clone());
    } else {
        let changed = rows.iter().zip(last.iter()).filter(|(now, was)| now != was);
        out.delta(changed.map(|(now, _)| now.clone()).collect(), Vec::new());
    }
    *last = rows;
}
