//! The last picture of one table and instance, kept by the writer so that a full sample becomes what changed.
//!
//! Rows live in the batches they came in (*segments*); each entity (key) has a *slot* that says where its row is. A full
//! sample is compared with the picture column by column and takes its place; a delta's rows become a further segment, so
//! it costs what changed, not what there is. 1,000 rows of 60 columns in the same order as before: about 0.1 ms.

use crate::bytes::Flaw;
use crate::compare::{Pair, mark_changed};
use crate::schema::Version;
use arrow_array::{RecordBatch, UInt32Array};
use arrow_row::{RowConverter, Rows, SortField};
use std::collections::HashMap;
use std::sync::Arc;

const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);
const NONE: u32 = u32::MAX;
/// Segments are put together when there are more.
const SEGMENTS: usize = 64;

/// What a sample changed, in rows of [`Self::rows`] and slots.
#[derive(Debug)]
pub(crate) struct Change {
    /// The changed rows.
    pub rows: RecordBatch,
    pub slots: Vec<u32>,
    pub gone: Vec<u32>,
    /// Rows whose key came again later in the same sample.
    pub duplicates: u64,
}

/// Keys of some rows as comparable bytes. A table without key columns has one entity, whose key is empty.
enum Keys {
    Rows(Rows),
    One(usize),
}

impl Keys {
    fn len(&self) -> usize {
        match self {
            Keys::Rows(rows) => rows.num_rows(),
            Keys::One(n) => *n,
        }
    }

    fn get(&self, i: usize) -> &[u8] {
        match self {
            Keys::Rows(rows) => rows.row(i).data(),
            Keys::One(_) => &[],
        }
    }

    fn same(&self, other: &Keys) -> bool {
        self.len() == other.len() && (0..self.len()).all(|i| self.get(i) == other.get(i))
    }
}

pub(crate) struct Picture {
    version: Arc<Version>,
    converter: Option<RowConverter>,
    slot_of: HashMap<Box<[u8]>, u32>,
    /// Slot to segment and row.
    place: Vec<(u32, u32)>,
    segments: Vec<RecordBatch>,
    /// Keys and slots of the last sample's rows, while the picture is that one full sample without duplicates.
    last_full: Option<(Keys, Vec<u32>)>,
}

impl Picture {
    pub fn new(version: Arc<Version>) -> Result<Picture, Flaw> {
        let fields: Vec<SortField> = version
            .keys
            .iter()
            .map(|&i| SortField::new(version.arrow.field(i).data_type().clone()))
            .collect();
        let converter = match fields.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields).map_err(|e| e.to_string())?),
        };
        Ok(Picture {
            version,
            converter,
            slot_of: HashMap::new(),
            place: Vec::new(),
            segments: Vec::new(),
            last_full: None,
        })
    }

    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    fn keys(&self, columns: &[arrow_array::ArrayRef], rows: usize) -> Result<Keys, Flaw> {
        match &self.converter {
            None => Ok(Keys::One(rows)),
            Some(converter) => Ok(Keys::Rows(
                converter.convert_columns(columns).map_err(|e| e.to_string())?,
            )),
        }
    }

    fn keys_of(&self, batch: &RecordBatch) -> Result<Keys, Flaw> {
        let columns: Vec<_> = self.version.keys.iter().map(|&i| batch.column(i).clone()).collect();
        self.keys(&columns, batch.num_rows())
    }

    /// The slot of a key, a new one when it is new.
    fn slot(&mut self, key: &[u8]) -> u32 {
        if let Some(&slot) = self.slot_of.get(key) {
            return slot;
        }
        let slot = self.place.len() as u32;
        self.slot_of.insert(key.into(), slot);
        self.place.push(NOWHERE);
        slot
    }

    /// Takes a full sample and answers what it changed.
    pub fn full(&mut self, batch: RecordBatch) -> Result<Change, Flaw> {
        let keys = self.keys_of(&batch)?;
        let rows = batch.num_rows();
        if let Some((last, slots)) = &self.last_full
            && last.same(&keys)
        {
            let pairs: Vec<Pair> = (0..rows as u32).map(|i| Pair { old: i, new: i }).collect();
            let mut changed = vec![false; rows];
            mark_changed(&self.segments[0], &batch, &pairs, &mut changed);
            let change = change(&batch, &changed, slots, Vec::new(), 0)?;
            self.segments[0] = batch;
            return Ok(change);
        }
        self.compact()?;
        let mut row_of = vec![NONE; self.place.len()];
        let mut slots = Vec::with_capacity(rows);
        let mut duplicates = 0;
        for i in 0..rows {
            let slot = self.slot(keys.get(i));
            slots.push(slot);
            row_of.resize(self.place.len(), NONE);
            duplicates += u64::from(row_of[slot as usize] != NONE);
            row_of[slot as usize] = i as u32;
        }
        let mut changed = vec![false; rows];
        let mut pairs = Vec::with_capacity(rows);
        let mut gone = Vec::new();
        for (slot, &row) in row_of.iter().enumerate() {
            match (self.place[slot], row) {
                (NOWHERE, NONE) => {}
                (NOWHERE, row) => changed[row as usize] = true,
                (_, NONE) => gone.push(slot as u32),
                ((_, old), new) => pairs.push(Pair { old, new }),
            }
            self.place[slot] = if row == NONE { NOWHERE } else { (0, row) };
        }
        if let Some(old) = self.segments.first() {
            mark_changed(old, &batch, &pairs, &mut changed);
        }
        if !gone.is_empty() {
            self.slot_of.retain(|_, slot| row_of[*slot as usize] != NONE);
        }
        let change = change(&batch, &changed, &slots, gone, duplicates)?;
        self.segments = vec![batch];
        self.last_full = (duplicates == 0).then_some((keys, slots));
        Ok(change)
    }

    /// Takes a delta; rows of keys that come twice are cut to the last.
    pub fn delta(&mut self, changed: RecordBatch, gone: &RecordBatch) -> Result<Change, Flaw> {
        self.last_full = None;
        let gone_keys = self.keys(gone.columns(), gone.num_rows())?;
        let mut gone_slots = Vec::new();
        for i in 0..gone_keys.len() {
            if let Some(slot) = self.slot_of.remove(gone_keys.get(i)) {
                self.place[slot as usize] = NOWHERE;
                gone_slots.push(slot);
            }
        }
        let keys = self.keys_of(&changed)?;
        let segment = self.segments.len() as u32;
        let mut slots = Vec::with_capacity(keys.len());
        let mut duplicates = 0;
        for i in 0..keys.len() {
            let slot = self.slot(keys.get(i));
            duplicates += u64::from(self.place[slot as usize].0 == segment);
            self.place[slot as usize] = (segment, i as u32);
            slots.push(slot);
        }
        let live: Vec<bool> = (0..keys.len())
            .map(|i| self.place[slots[i] as usize] == (segment, i as u32))
            .collect();
        let change = change(&changed, &live, &slots, gone_slots, duplicates)?;
        self.segments.push(changed);
        if self.segments.len() > SEGMENTS {
            self.compact()?;
        }
        Ok(change)
    }

    /// All rows in the order of their slots, and the slots.
    pub fn all(&mut self) -> Result<(RecordBatch, Vec<u32>), Flaw> {
        self.compact()?;
        let live: Vec<u32> = (0..self.place.len() as u32)
            .filter(|&s| self.place[s as usize] != NOWHERE)
            .collect();
        let Some(segment) = self.segments.first() else {
            return Ok((RecordBatch::new_empty(self.version.arrow.clone()), live));
        };
        let rows: UInt32Array = live.iter().map(|&s| self.place[s as usize].1).collect();
        let in_place = rows.len() == segment.num_rows() && rows.values().iter().zip(0u32..).all(|(a, b)| *a == b);
        if in_place {
            return Ok((segment.clone(), live));
        }
        let batch = arrow_select::take::take_record_batch(segment, &rows).map_err(|e| e.to_string())?;
        Ok((batch, live))
    }

    /// Numbers the slots anew, without holes, in the order of the rows: a block begins.
    pub fn renumber(&mut self) -> Result<(), Flaw> {
        self.compact()?;
        let mut order: Vec<u32> = (0..self.place.len() as u32)
            .filter(|&s| self.place[s as usize] != NOWHERE)
            .collect();
        order.sort_unstable_by_key(|&s| self.place[s as usize]);
        let mut new_of = vec![NONE; self.place.len()];
        for (new, &old) in order.iter().enumerate() {
            new_of[old as usize] = new as u32;
        }
        self.place = order.iter().map(|&old| self.place[old as usize]).collect();
        for slot in self.slot_of.values_mut() {
            *slot = new_of[*slot as usize];
        }
        if let Some((_, slots)) = &mut self.last_full {
            for slot in slots {
                *slot = new_of[*slot as usize];
            }
        }
        Ok(())
    }

    /// Brings all rows into one segment.
    fn compact(&mut self) -> Result<(), Flaw> {
        if self.segments.len() <= 1 {
            return Ok(());
        }
        let live: Vec<usize> = (0..self.place.len()).filter(|&s| self.place[s] != NOWHERE).collect();
        let from: Vec<(usize, usize)> = live
            .iter()
            .map(|&s| (self.place[s].0 as usize, self.place[s].1 as usize))
            .collect();
        let segments: Vec<&RecordBatch> = self.segments.iter().collect();
        let batch = arrow_select::interleave::interleave_record_batch(&segments, &from).map_err(|e| e.to_string())?;
        for (row, &slot) in live.iter().enumerate() {
            self.place[slot] = (0, row as u32);
        }
        self.segments = vec![batch];
        Ok(())
    }
}

fn change(
    batch: &RecordBatch,
    changed: &[bool],
    slots: &[u32],
    gone: Vec<u32>,
    duplicates: u64,
) -> Result<Change, Flaw> {
    let wanted: UInt32Array = (0..batch.num_rows() as u32).filter(|&i| changed[i as usize]).collect();
    let slots = wanted.values().iter().map(|&i| slots[i as usize]).collect();
    let rows = if wanted.len() == batch.num_rows() {
        batch.clone()
    } else {
        arrow_select::take::take_record_batch(batch, &wanted).map_err(|e| e.to_string())?
    };
    Ok(Change {
        rows,
        slots,
        gone,
        duplicates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, Int64Type};
    use arrow_array::{ArrayRef, Int32Array, Int64Array};
    use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema};

    fn picture() -> Picture {
        let schema = TableSchema {
            name: "process".into(),
            kind: TableKind::State,
            doc: String::new(),
            access: Access::All,
            columns: vec![
                Column::new("pid", ColumnType::I32, "").key(),
                Column::new("utime_ns", ColumnType::I64, ""),
            ],
        };
        Picture::new(Arc::new(Version::new(1, schema))).unwrap()
    }

    fn rows(picture: &Picture, given: &[(i32, i64)]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(given.iter().map(|r| r.0).collect::<Int32Array>()),
            Arc::new(given.iter().map(|r| r.1).collect::<Int64Array>()),
        ];
        RecordBatch::try_new(picture.version.arrow.clone(), columns).unwrap()
    }

    fn gone(picture: &Picture, pids: &[i32]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from(pids.to_vec()));
        RecordBatch::try_new(picture.version.key_arrow.clone(), vec![column]).unwrap()
    }

    fn read(batch: &RecordBatch) -> Vec<(i32, i64)> {
        let pids = batch.column(0).as_primitive::<Int32Type>().values();
        let times = batch.column(1).as_primitive::<Int64Type>().values();
        pids.iter().copied().zip(times.iter().copied()).collect()
    }

    fn full(picture: &mut Picture, given: &[(i32, i64)]) -> Change {
        let batch = rows(picture, given);
        picture.full(batch).unwrap()
    }

    #[test]
    fn a_full_sample_becomes_what_changed() {
        let mut p = picture();
        let change = full(&mut p, &[(1, 10), (2, 20), (3, 30)]);
        assert_eq!((read(&change.rows).len(), change.slots), (3, vec![0, 1, 2]));
        // The same rows in the same places.
        let change = full(&mut p, &[(1, 10), (2, 21), (3, 30)]);
        assert_eq!((read(&change.rows), change.slots), (vec![(2, 21)], vec![1]));
        // In other places, one gone, one new.
        let change = full(&mut p, &[(4, 40), (3, 30), (1, 11)]);
        assert_eq!((read(&change.rows), change.slots), (vec![(4, 40), (1, 11)], vec![3, 0]));
        assert_eq!(change.gone, [1]);
        let (all, slots) = p.all().unwrap();
        assert_eq!((read(&all), slots), (vec![(1, 11), (3, 30), (4, 40)], vec![0, 2, 3]));
        p.renumber().unwrap();
        let (all, slots) = p.all().unwrap();
        assert_eq!((read(&all), slots), (vec![(4, 40), (3, 30), (1, 11)], vec![0, 1, 2]));
        let change = full(&mut p, &[(4, 40), (3, 31), (1, 11)]);
        assert_eq!((read(&change.rows), change.slots), (vec![(3, 31)], vec![1]));
    }

    #[test]
    fn the_last_of_two_rows_of_a_key_counts() {
        let mut p = picture();
        let change = full(&mut p, &[(1, 10), (2, 20), (1, 11)]);
        assert_eq!((read(&change.rows), change.duplicates), (vec![(2, 20), (1, 11)], 1));
        let change = full(&mut p, &[(1, 11), (2, 20)]);
        assert_eq!((read(&change.rows), change.duplicates), (vec![], 0));
    }

    #[test]
    fn deltas_add_up() {
        let mut p = picture();
        full(&mut p, &[(1, 10), (2, 20)]);
        for round in 0..200i64 {
            let pid = (round % 7) as i32;
            let changed = rows(&p, &[(pid, round), (pid, round + 1000)]);
            let gone = gone(&p, &[((round + 3) % 7) as i32, 99]);
            let change = p.delta(changed, &gone).unwrap();
            assert_eq!((read(&change.rows), change.duplicates), (vec![(pid, round + 1000)], 1));
            assert!(change.gone.len() <= 1);
        }
        let (all, _) = p.all().unwrap();
        let mut all = read(&all);
        all.sort();
        // Rounds 196 to 199 set pids 0 to 3, round 196 removed 3 before, 197 to 199 removed 4, 5, 6.
        assert_eq!(all, [(0, 1196), (1, 1197), (2, 1198), (3, 1199)]);
        let change = full(&mut p, &[(0, 1196), (1, 0), (2, 1198), (3, 1199)]);
        assert_eq!(read(&change.rows), [(1, 0)]);
    }
}
