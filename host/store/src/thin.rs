//! Thinning: of the samples of a block, those that are left are the first in each step of a grid.
//!
//! They are samples that were taken, with their times and values; only their interval becomes the step, so that a picture
//! lasts until the next. What lived only between two of them is in no picture any more: events (which are not thinned) tell.

use crate::block::SampleTime;

/// The step of the grid that a time lies in.
pub(crate) fn step(time_ns: i64, every_ns: u64) -> i64 {
    time_ns.div_euclid(i64::try_from(every_ns).unwrap_or(i64::MAX).max(1))
}

/// Which samples stay, when the one before them lies in step `before`.
pub(crate) fn kept(samples: &[SampleTime], every_ns: u64, mut before: Option<i64>) -> Vec<usize> {
    let mut out = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let step = step(sample.time_ns, every_ns);
        if before != Some(step) {
            before = Some(step);
            out.push(i);
        }
    }
    out
}
