//! Neighbouring blocks of one table and instance as one: the full picture that each begins with is most of a block of a minute,
//! and all but the first repeat what the block before them ends with.
//!
//! State: an entity that is in two parts keeps its slot, and a part's first picture leaves only the rows that differ from the
//! last rows of the part before; a key that ended and came back has a new slot. Events: sorted by time, those of one time in
//! the order in which they were recorded. Cost: decoding the parts, one compare per value of their first pictures, encoding.

use crate::assemble::{concat, sort_by_time};
use crate::block::{Content, Replay};
use crate::bytes::Flaw;
use crate::compare::{Pair, mark_changed};
use crate::payload::Changes;
use crate::reader::take;
use crate::schema::Version;
use arrow_array::{RecordBatch, UInt32Array};
use arrow_row::{RowConverter, SortField};
use std::collections::HashMap;

/// Blocks of one version, each later than the one before, as one. There is at least one.
pub(crate) fn state(version: &Version, parts: impl Iterator<Item = Result<Content, Flaw>>) -> Result<Content, Flaw> {
    let mut merged: Option<Merged> = None;
    for part in parts {
        let part = part?;
        match &mut merged {
            None => merged = Some(Merged::begin(version, part)?),
            Some(merged) => merged.push(part)?,
        }
    }
    merged.ok_or("no blocks to put together")?.finish()
}

/// Blocks of events of one version as one.
pub(crate) fn events(version: u32, parts: Vec<Content>) -> Result<Content, Flaw> {
    let batches: Vec<RecordBatch> = parts.into_iter().map(|p| p.changes.rows).collect();
    Ok(Content::events(
        version,
        Changes::events(sort_by_time(concat(&batches)?)?),
    ))
}

/// What the parts so far come to.
struct Merged {
    keys: Keys,
    /// The last part, and in it the row of each live entity by key with its slot in the whole.
    last: RecordBatch,
    live: HashMap<Box<[u8]>, Entity>,
    slots: u32,
    content: Content,
    batches: Vec<RecordBatch>,
}

#[derive(Clone, Copy)]
struct Entity {
    slot: u32,
    row: u32,
}

/// Makes keys comparable; a table without key columns has one entity.
struct Keys {
    columns: Vec<usize>,
    converter: Option<RowConverter>,
}

impl Keys {
    fn new(version: &Version) -> Result<Keys, Flaw> {
        let field = |i: &usize| SortField::new(version.arrow.field(*i).data_type().clone());
        let fields: Vec<SortField> = version.keys.iter().map(field).collect();
        let converter = match fields.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields).map_err(|e| e.to_string())?),
        };
        Ok(Keys {
            columns: version.keys.clone(),
            converter,
        })
    }

    /// The keys of some rows.
    fn of(&self, batch: &RecordBatch, rows: &[u32]) -> Result<Vec<Box<[u8]>>, Flaw> {
        let Some(converter) = &self.converter else {
            return Ok(vec![Box::default(); rows.len()]);
        };
        let wanted = UInt32Array::from(rows.to_vec());
        let keys = take(&batch.project(&self.columns).map_err(|e| e.to_string())?, &wanted)?;
        let keys = converter.convert_columns(keys.columns()).map_err(|e| e.to_string())?;
        Ok(keys.iter().map(|key| key.data().into()).collect())
    }
}

impl Merged {
    fn begin(version: &Version, part: Content) -> Result<Merged, Flaw> {
        let mut merged = Merged {
            keys: Keys::new(version)?,
            last: part.changes.rows.clone(),
            live: HashMap::new(),
            slots: part.slots,
            batches: vec![part.changes.rows.clone()],
            content: part,
        };
        let slots: Vec<u32> = (0..merged.slots).collect();
        merged.live = merged.live_at_end(&merged.content, &slots)?;
        Ok(merged)
    }

    /// What is live at the end of a part, whose slots are `slot_of` in the whole.
    fn live_at_end(&self, part: &Content, slot_of: &[u32]) -> Result<HashMap<Box<[u8]>, Entity>, Flaw> {
        let mut replay = Replay::new(part);
        replay.advance(part, part.samples.len().saturating_sub(1));
        let rows: Vec<u32> = replay.rows().collect();
        let keys = self.keys.of(&part.changes.rows, &rows)?;
        let entity = |row: u32| Entity {
            slot: slot_of[part.changes.slot[row as usize] as usize],
            row,
        };
        Ok(keys.into_iter().zip(rows.into_iter().map(entity)).collect())
    }

    /// Adds a part that follows the others.
    fn push(&mut self, part: Content) -> Result<(), Flaw> {
        let offset = self.content.samples.len() as u32;
        let mut replay = Replay::new(&part);
        replay.advance(&part, 0);
        let first: Vec<u32> = replay.rows().collect();
        let mut slot_of = vec![u32::MAX; part.slots as usize];
        let mut pairs = Vec::with_capacity(first.len());
        let mut wanted = vec![true; part.changes.rows.num_rows()];
        // Rows of its first sample that are no longer in the picture of it say nothing.
        let of_first = part.changes.at.partition_point(|&at| at == 0);
        wanted[..of_first].fill(false);
        for (key, row) in self.keys.of(&part.changes.rows, &first)?.iter().zip(&first) {
            let slot = &mut slot_of[part.changes.slot[*row as usize] as usize];
            if let Some(before) = self.live.remove(key) {
                *slot = before.slot;
                let (old, new) = (before.row, *row);
                pairs.push(Pair { old, new });
            } else {
                *slot = self.new_slot();
                wanted[*row as usize] = true;
            }
        }
        mark_changed(&self.last, &part.changes.rows, &pairs, &mut wanted);
        let mut ended: Vec<u32> = self.live.values().map(|e| e.slot).collect();
        ended.sort_unstable();
        self.gone(offset, ended);
        let rows: Vec<u32> = (0..part.changes.rows.num_rows() as u32)
            .filter(|&row| wanted[row as usize])
            .collect();
        for &row in &rows {
            let slot = &mut slot_of[part.changes.slot[row as usize] as usize];
            if *slot == u32::MAX {
                *slot = self.new_slot();
            }
        }
        self.live = self.live_at_end(&part, &slot_of)?;
        for (at, slot) in part.changes.gone_at.iter().zip(&part.changes.gone_slot) {
            let slot = slot_of[*slot as usize];
            self.gone(at + offset, (slot != u32::MAX).then_some(slot));
        }
        let changes = &mut self.content.changes;
        (changes.at).extend(rows.iter().map(|&row| part.changes.at[row as usize] + offset));
        (changes.slot).extend(
            rows.iter()
                .map(|&row| slot_of[part.changes.slot[row as usize] as usize]),
        );
        self.batches.push(take(&part.changes.rows, &UInt32Array::from(rows))?);
        self.content.samples.extend(&part.samples);
        self.last = part.changes.rows;
        Ok(())
    }

    fn new_slot(&mut self) -> u32 {
        self.slots += 1;
        self.slots - 1
    }

    fn gone(&mut self, at: u32, slots: impl IntoIterator<Item = u32>) {
        let changes = &mut self.content.changes;
        changes.gone_slot.extend(slots);
        changes.gone_at.resize(changes.gone_slot.len(), at);
    }

    fn finish(mut self) -> Result<Content, Flaw> {
        // Room before the whole is put together.
        self.last = self.last.slice(0, 0);
        self.live = HashMap::new();
        self.content.changes.rows = self.content.changes.rows.slice(0, 0);
        let rows = concat(&self.batches)?;
        drop(self.batches);
        let changes = Changes {
            rows,
            ..self.content.changes
        };
        Ok(Content::state(self.content.version, self.content.samples, changes))
    }
}
