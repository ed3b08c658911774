//! Which rows of a table's samples are of the same thing: its key columns say so.
//!
//! Each thing that lives has a place; what is remembered of it lies in arrays indexed by that place. Keys of a few integers
//! are one number; others are compared as bytes. Samples list their things in much the same order, so the place that followed
//! the last one when it was met before is tried first: most rows need no hashing at all.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use datafusion::common::hash_utils::RandomState;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Things met before there is anything to gain by forgetting the ones that are gone.
const FEW: usize = 1024;
/// Number of a sample before the first.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub enum Entities {
    Numbers(Places<u128>),
    Bytes {
        converter: RowConverter,
        places: Places<Box<[u8]>>,
    },
}

impl Entities {
    /// `keys`: the types of the key columns.
    pub fn new(keys: &[DataType]) -> Result<Entities, ArrowError> {
        let bits: Option<usize> = keys.iter().map(bits_of).sum();
        if bits.is_some_and(|bits| bits <= 128) {
            return Ok(Entities::Numbers(Places::default()));
        }
        let fields = keys.iter().cloned().map(SortField::new).collect();
        Ok(Entities::Bytes {
            converter: RowConverter::new(fields)?,
            places: Places::default(),
        })
    }

    /// The place of each of `count` rows, which are of the sample `number`, added to `found` with whether the thing was in the
    /// sample before. Sample numbers rise from call to call.
    pub fn locate(&mut self, keys: &Keys, rows: std::ops::Range<usize>, number: u64, found: &mut Located) {
        match (self, keys) {
            (Entities::Numbers(places), Keys::Numbers(keys)) => {
                for row in rows {
                    found.push(places.find(&keys[row], number));
                }
            }
            (Entities::Bytes { places, .. }, Keys::Bytes(keys)) => {
                for row in rows {
                    found.push(places.find(keys.row(row).data(), number));
                }
            }
            _ => {}
        }
    }

    /// The keys of a batch of `count` rows.
    pub fn keys(&self, columns: &[ArrayRef], count: usize) -> Result<Keys, ArrowError> {
        match self {
            Entities::Numbers(_) => {
                let mut keys = vec![0u128; count];
                for column in columns {
                    pack(&mut keys, column)?;
                }
                Ok(Keys::Numbers(keys))
            }
            Entities::Bytes { converter, .. } => Ok(Keys::Bytes(converter.convert_columns(columns)?)),
        }
    }

    /// Places that are in use; what is remembered has as many entries.
    pub fn len(&self) -> usize {
        match self {
            Entities::Numbers(places) => places.keys.len(),
            Entities::Bytes { places, .. } => places.keys.len(),
        }
    }

    /// Forgets what was not in sample `since` or later. Some when places have moved: for each new place the old one.
    pub fn forget(&mut self, since: u64) -> Option<Vec<u32>> {
        match self {
            Entities::Numbers(places) => places.forget(since),
            Entities::Bytes { places, .. } => places.forget(since),
        }
    }
}

#[derive(Debug)]
pub enum Keys {
    Numbers(Vec<u128>),
    Bytes(Rows),
}

/// Where rows were found.
#[derive(Debug, Default)]
pub struct Located {
    pub places: Vec<u32>,
    /// The thing was in the sample before.
    pub known: Vec<bool>,
}

impl Located {
    fn push(&mut self, (place, known): (u32, bool)) {
        self.places.push(place);
        self.known.push(known);
    }

    pub fn clear(&mut self) {
        self.places.clear();
        self.known.clear();
    }
}

/// A key that is kept, and the form in which it is looked for.
pub trait Key: Hash + Eq + Clone + Borrow<Self::Sought> {
    type Sought: Hash + Eq + ?Sized;
    fn keep(sought: &Self::Sought) -> Self;
}

impl Key for u128 {
    type Sought = u128;
    fn keep(sought: &u128) -> u128 {
        *sought
    }
}

impl Key for Box<[u8]> {
    type Sought = [u8];
    fn keep(sought: &[u8]) -> Box<[u8]> {
        sought.into()
    }
}

#[derive(Debug)]
pub struct Places<K> {
    keys: Vec<K>,
    index: HashMap<K, u32, RandomState>,
    /// The place that was met after this one.
    next: Vec<u32>,
    /// The last sample that it was in.
    seen: Vec<u64>,
    last: u32,
    /// Places that were in use after forgetting the last time.
    kept: usize,
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Places {
            keys: Vec::new(),
            index: HashMap::default(),
            next: Vec::new(),
            seen: Vec::new(),
            last: 0,
            kept: 0,
        }
    }
}

impl<K: Key> Places<K> {
    fn find(&mut self, key: &K::Sought, number: u64) -> (u32, bool) {
        let guess = self.next.get(self.last as usize).copied().unwrap_or(0);
        let place = match self.keys.get(guess as usize) {
            Some(kept) if kept.borrow() == key => guess,
            _ => self.look_up(key),
        };
        if let Some(next) = self.next.get_mut(self.last as usize) {
            *next = place;
        }
        self.last = place;
        let seen = std::mem::replace(&mut self.seen[place as usize], number);
        (place, seen != NEVER && seen.wrapping_add(1) == number)
    }

    fn look_up(&mut self, key: &K::Sought) -> u32 {
        if let Some(place) = self.index.get(key) {
            return *place;
        }
        // More things than 32 bits count do not fit the memory of a query.
        let place = self.keys.len() as u32;
        self.keys.push(K::keep(key));
        self.index.insert(K::keep(key), place);
        self.next.push(place.wrapping_add(1));
        self.seen.push(NEVER);
        place
    }

    fn forget(&mut self, since: u64) -> Option<Vec<u32>> {
        if self.keys.len() < 2 * self.kept + FEW {
            return None;
        }
        let stay: Vec<u32> = (0..self.keys.len() as u32)
            .filter(|&p| self.seen[p as usize] != NEVER && self.seen[p as usize] >= since)
            .collect();
        self.keys = stay.iter().map(|&p| self.keys[p as usize].clone()).collect();
        self.seen = stay.iter().map(|&p| self.seen[p as usize]).collect();
        self.next = (1..=stay.len() as u32).collect();
        self.index = self.keys.iter().cloned().zip(0..).collect();
        self.last = 0;
        self.kept = stay.len();
        Some(stay)
    }
}

fn bits_of(kind: &DataType) -> Option<usize> {
    match kind {
        DataType::Boolean => Some(1),
        DataType::Int32 | DataType::UInt32 => Some(32),
        DataType::Int64 | DataType::UInt64 | DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(64),
        _ => None,
    }
}

/// Adds a column to keys that are numbers.
fn pack(keys: &mut [u128], column: &ArrayRef) -> Result<(), ArrowError> {
    fn add<T: Copy>(keys: &mut [u128], values: &[T], bits: u32, number: impl Fn(T) -> u64) {
        for (key, value) in keys.iter_mut().zip(values) {
            *key = *key << bits | u128::from(number(*value));
        }
    }
    match column.data_type() {
        DataType::Int32 => add(keys, column.as_primitive::<Int32Type>().values(), 32, |v| {
            u64::from(v as u32)
        }),
        DataType::UInt32 => add(keys, column.as_primitive::<UInt32Type>().values(), 32, u64::from),
        DataType::Int64 => add(keys, column.as_primitive::<Int64Type>().values(), 64, |v| v as u64),
        DataType::UInt64 => add(keys, column.as_primitive::<UInt64Type>().values(), 64, |v| v),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = column.as_primitive::<TimestampNanosecondType>().values();
            add(keys, values, 64, |v| v as u64);
        }
        DataType::Boolean => {
            for (key, value) in keys.iter_mut().zip(column.as_boolean().values()) {
                *key = *key << 1 | u128::from(value);
            }
        }
        other => return Err(ArrowError::SchemaError(format!("{other} is not a number"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int32Array, StringArray};
    use std::sync::Arc;

    fn check(columns: &[ArrayRef], numbers: &[u64], expect: &[bool]) {
        let kinds: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let mut entities = Entities::new(&kinds).unwrap();
        let keys = entities.keys(columns, numbers.len()).unwrap();
        let mut found = Located::default();
        for (row, number) in numbers.iter().enumerate() {
            entities.locate(&keys, row..row + 1, *number, &mut found);
        }
        assert_eq!(found.known, expect);
    }

    #[test]
    fn what_was_in_the_sample_before_is_known() {
        let pids = Int32Array::from(vec![1, -2, 1, -2, 3, 1, 3, -2, 3, 3]);
        let numbers = [0, 0, 1, 1, 1, 2, 2, 3, 3, 5];
        let expect = [false, false, true, true, false, true, true, false, true, false];
        let words: StringArray = pids.iter().map(|p| p.map(|p| format!("thing {p}"))).collect();
        check(&[Arc::new(pids)], &numbers, &expect);
        check(&[Arc::new(words)], &numbers, &expect);
    }

    #[test]
    fn the_gone_are_forgotten() {
        let mut places: Places<u128> = Places::default();
        for number in 0..100u64 {
            for thing in 0..100 {
                places.find(&(u128::from(number) * 100 + thing), number);
            }
            places.find(&u128::MAX, number);
            if let Some(stayed) = places.forget(number) {
                assert!(stayed.len() <= 102, "{}", stayed.len());
            }
            assert!(places.keys.len() < 2 * FEW, "{}", places.keys.len());
        }
        assert!(places.find(&u128::MAX, 100).1);
        assert!(!places.find(&17, 100).1);
    }
}
