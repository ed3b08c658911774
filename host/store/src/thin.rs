//! Thinning: of the samples of a block, those that are left are the first in each step of a grid.
//!
//! They are samples that were taken, with their times and values; only their interval becomes the step, so that a picture
//! lasts until the next. What lived only between two of them is in no picture any more: events (which are not thinned) tell.

use crate::block::{Content, Replay, SampleTime};
use crate::bytes::Flaw;
use crate::payload::Changes;
use crate::reader::take;
use arrow_array::UInt32Array;

const NONE: u32 = u32::MAX;

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

/// A state block of the samples `kept` alone; `kept` rises and is not empty.
pub(crate) fn state(content: &Content, kept: &[usize], every_ns: u64) -> Result<Content, Flaw> {
    let mut replay = Replay::new(content);
    let mut before = vec![NONE; content.slots as usize];
    let mut slot_of = vec![NONE; content.slots as usize];
    let mut slots = 0;
    let mut samples = Vec::with_capacity(kept.len());
    let (mut at, mut slot, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gone_at, mut gone_slot) = (Vec::new(), Vec::new());
    for &sample in kept {
        replay.advance(content, sample);
        let index = samples.len() as u32;
        for (place, (&row, before)) in replay.places().iter().zip(&mut before).enumerate() {
            if row == *before {
                continue;
            }
            if row == NONE {
                gone_at.push(index);
                gone_slot.push(slot_of[place]);
            } else {
                if slot_of[place] == NONE {
                    slot_of[place] = slots;
                    slots += 1;
                }
                at.push(index);
                slot.push(slot_of[place]);
                rows.push(row);
            }
            *before = row;
        }
        let mut sample = content.samples[sample];
        if sample.interval_ns > 0 {
            sample.interval_ns = sample.interval_ns.max(every_ns);
        }
        samples.push(sample);
    }
    let changes = Changes {
        rows: take(&content.changes.rows, &UInt32Array::from(rows))?,
        at,
        slot,
        gone_at,
        gone_slot,
    };
    Ok(Content::state(content.version, samples, changes))
}
