//! Which blocks of a series may become one: neighbours in a window of the clock, within limits of size.
//!
//! **Invariants:** the parts of a group are of one version. Those of a state table follow one another in time, and no other
//! block lies within their times, so the one that takes their places is like them to every reader.

use crate::block::BlockKind;
use crate::env::Dbs;
use crate::error::Result;
use crate::retention::SeriesKey;
use crate::rewrite::{self, Part};
use crate::series::Series;
use crate::thin;
use crate::writer::Writer;
use lmdb::Transaction;

/// What a block may grow to by being put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub samples: usize,
    /// Estimated rows of the whole: one full picture and the changes.
    pub rows: u64,
    /// Bytes of the parts.
    pub bytes: u64,
}

/// Blocks of a window, and those around it that reach into it.
pub(crate) struct Window {
    pub parts: Vec<Part>,
    others: Vec<Part>,
    /// Start of the first block after the window, when the window is empty.
    pub next_ns: Option<i64>,
}

/// Reads the headers of the blocks that begin in `from_ns..until_ns`.
pub(crate) fn window(
    writer: &Writer,
    txn: &impl Transaction,
    dbs: &Dbs,
    key: SeriesKey,
    series: &Series,
    (from_ns, until_ns): (i64, i64),
) -> Result<Window> {
    let around = if series.overlap { series.span_ns } else { 0 };
    let mut window = Window {
        parts: Vec::new(),
        others: Vec::new(),
        next_ns: None,
    };
    let first = from_ns.saturating_sub_unsigned(around);
    rewrite::each_part(writer, txn, dbs, key, first, |part| {
        let start = part.key.start_ns;
        if (from_ns..until_ns).contains(&start) {
            window.parts.push(part);
        } else if start >= until_ns.saturating_add_unsigned(around) {
            window.next_ns = Some(start);
            return Ok(false);
        } else {
            window.others.push(part);
        }
        Ok(true)
    })?;
    if window.next_ns.is_none() {
        window.next_ns = window.others.iter().map(|p| p.key.start_ns).find(|&s| s >= until_ns);
    }
    Ok(window)
}

/// Rows and samples that a part has, or will have once thinned.
fn size(part: &Part, every_ns: Option<u64>) -> (usize, u64) {
    let Some(header) = &part.header else { return (0, 0) };
    let (all, rows) = (header.samples.len(), part.rows);
    match every_ns {
        None => (all, rows),
        Some(every) => {
            let kept = thin::kept(&header.samples, every, None).len();
            let least = part.slots.min(rows);
            (kept, least + (rows - least) * kept as u64 / all.max(1) as u64)
        }
    }
}

impl Window {
    /// The groups of the window, in the order of time; a group may be of one part.
    pub fn groups(self, limits: &Limits, every_ns: Option<u64>) -> Vec<Vec<Part>> {
        let mut groups: Vec<Vec<Part>> = Vec::new();
        let (mut samples, mut rows, mut bytes) = (0, 0, 0);
        let spans: Vec<(i64, i64)> = (self.parts.iter().chain(&self.others))
            .map(|p| (p.key.start_ns, p.figures.last_ns))
            .collect();
        for part in self.parts {
            let (part_samples, part_rows) = size(&part, every_ns);
            let base = part.slots.min(part_rows);
            let fits = samples + part_samples <= limits.samples
                && rows + part_rows - base <= limits.rows
                && bytes + part.figures.bytes <= limits.bytes;
            match groups.last_mut() {
                Some(group) if fits && follows(group, &part) => {
                    samples += part_samples;
                    rows += part_rows - base;
                    bytes += part.figures.bytes;
                    group.push(part);
                }
                _ => {
                    (samples, rows, bytes) = (part_samples, part_rows, part.figures.bytes);
                    groups.push(vec![part]);
                }
            }
        }
        groups.retain(|group| alone(group, &spans));
        groups
    }
}

fn follows(group: &[Part], part: &Part) -> bool {
    let (Some(last), Some(next)) = (group.last().and_then(|p| p.header.as_ref()), &part.header) else {
        return false;
    };
    let after = next.kind == BlockKind::Events || next.first_ns > last.last_ns;
    after && last.version == next.version && last.kind == next.kind
}

/// Whether the group can be read and replaced: no other block of a state table lies within its times.
fn alone(group: &[Part], spans: &[(i64, i64)]) -> bool {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return false;
    };
    let Some(header) = &first.header else { return false };
    if header.kind == BlockKind::Events {
        return true;
    }
    let (from, until) = (first.figures.first_ns, last.figures.last_ns);
    spans
        .iter()
        .filter(|(start, end)| *start <= until && *end >= from)
        .count()
        == group.len()
}
