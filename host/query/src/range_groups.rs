//! What the range functions remember of each group, and how a row adds to it.
//!
//! One row of a group against the one before: the growth of a counter ([`crate::counter`]), or whether a value is another. The
//! rows have to come in the order of time, forward or backward: each has to lie before or after all that have come. So two
//! that were compared were neighbours indeed. **Invariant:** a group of rows in another order, or with two rows of one time (so
//! it mixes things that are counted apart), is an error, never a wrong number.
//!
//! Cost: a few nanoseconds a row, no allocation but for texts that change.

use crate::counter::Counter;
use crate::error::{SqlError, kind};
use arrow_array::types::{Int64Type, TimestampNanosecondType};
use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, BinaryArray, BooleanArray, Float64Array, PrimitiveArray,
};
use arrow_schema::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;
use std::sync::Arc;

/// Time of a group without rows.
const NONE: i64 = i64::MAX;

/// A value as it is remembered, and what a row after it adds.
pub trait Value: Clone + Default + Debug + Send + Sync + 'static {
    type Array: Array + 'static;
    type Seen<'a>: Copy;
    type Sum: ArrowPrimitiveType<Native: Counter> + Debug;
    /// Whether rows of one time are no matter as long as nothing is added.
    const SAME_TIME: bool;

    fn seen(array: &Self::Array, row: usize) -> Self::Seen<'_>;
    fn keep(&mut self, seen: Self::Seen<'_>);
    fn kept(&self) -> Self::Seen<'_>;
    fn added(&self, seen: Self::Seen<'_>) -> <Self::Sum as ArrowPrimitiveType>::Native;
    fn array<'a>(values: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef;
}

/// A counter.
#[derive(Debug)]
pub struct Grown<T: ArrowPrimitiveType>(T::Native);
/// A value of fixed size that is compared.
#[derive(Debug)]
pub struct Differs<T: ArrowPrimitiveType>(T::Native);
/// A text or bytes that are compared.
#[derive(Debug, Clone, Default)]
pub struct DiffersBytes(Vec<u8>);

macro_rules! remembered {
    ($name:ident) => {
        impl<T: ArrowPrimitiveType> Clone for $name<T> {
            fn clone(&self) -> Self {
                $name(self.0)
            }
        }

        impl<T: ArrowPrimitiveType> Default for $name<T> {
            fn default() -> Self {
                $name(T::default_value())
            }
        }
    };
}

remembered!(Grown);
remembered!(Differs);

impl<T: ArrowPrimitiveType<Native: Counter> + Debug> Value for Grown<T> {
    type Array = PrimitiveArray<T>;
    type Seen<'a> = T::Native;
    type Sum = T;
    const SAME_TIME: bool = false;

    fn seen(array: &PrimitiveArray<T>, row: usize) -> T::Native {
        array.values()[row]
    }

    fn keep(&mut self, seen: T::Native) {
        self.0 = seen;
    }

    fn kept(&self) -> T::Native {
        self.0
    }

    fn added(&self, seen: T::Native) -> T::Native {
        seen.since(self.0)
    }

    fn array<'a>(values: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(|v| v.map(|v| v.0)).collect::<PrimitiveArray<T>>())
    }
}

impl<T: ArrowPrimitiveType + Debug> Value for Differs<T> {
    type Array = PrimitiveArray<T>;
    type Seen<'a> = T::Native;
    type Sum = Int64Type;
    const SAME_TIME: bool = true;

    fn seen(array: &PrimitiveArray<T>, row: usize) -> T::Native {
        array.values()[row]
    }

    fn keep(&mut self, seen: T::Native) {
        self.0 = seen;
    }

    fn kept(&self) -> T::Native {
        self.0
    }

    fn added(&self, seen: T::Native) -> i64 {
        i64::from(seen.is_ne(self.0))
    }

    fn array<'a>(values: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(|v| v.map(|v| v.0)).collect::<PrimitiveArray<T>>())
    }
}

impl Value for DiffersBytes {
    type Array = BinaryArray;
    type Seen<'a> = &'a [u8];
    type Sum = Int64Type;
    const SAME_TIME: bool = true;

    fn seen(array: &BinaryArray, row: usize) -> &[u8] {
        array.value(row)
    }

    fn keep(&mut self, seen: &[u8]) {
        if self.0 != seen {
            self.0.clear();
            self.0.extend_from_slice(seen);
        }
    }

    fn kept(&self) -> &[u8] {
        &self.0
    }

    fn added(&self, seen: &[u8]) -> i64 {
        i64::from(self.0 != seen)
    }

    fn array<'a>(values: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(|v| v.map(|v| v.0.as_slice())).collect::<BinaryArray>())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Sum,
    /// The sum over the seconds from the first to the last row.
    PerSecond,
}

#[derive(Debug)]
struct Group<V: Value> {
    first_ns: i64,
    last_ns: i64,
    first: V,
    last: V,
    sum: <V::Sum as ArrowPrimitiveType>::Native,
}

impl<V: Value> Default for Group<V> {
    fn default() -> Self {
        Group {
            first_ns: NONE,
            last_ns: NONE,
            first: V::default(),
            last: V::default(),
            sum: Default::default(),
        }
    }
}

impl<V: Value> Group<V> {
    fn is_empty(&self) -> bool {
        self.first_ns == NONE
    }

    /// Adds a row; false when it lies among the others.
    #[inline]
    fn add(&mut self, time: i64, seen: V::Seen<'_>) -> bool {
        if self.is_empty() || time <= self.last_ns {
            return self.add_in_front(time, seen);
        }
        self.sum = self.sum.plus(self.last.added(seen));
        self.last_ns = time;
        self.last.keep(seen);
        true
    }

    /// The first row, or one that does not come after the others.
    #[cold]
    fn add_in_front(&mut self, time: i64, seen: V::Seen<'_>) -> bool {
        let mut value = V::default();
        value.keep(seen);
        self.join(Group {
            first_ns: time,
            last_ns: time,
            first: value.clone(),
            last: value,
            sum: Default::default(),
        })
    }

    /// Adds a run of rows that lies before or after; false when it lies among the others.
    fn join(&mut self, mut other: Group<V>) -> bool {
        if self.is_empty() {
            *self = other;
            return true;
        }
        if other.first_ns < self.first_ns {
            std::mem::swap(self, &mut other);
        }
        let between = self.last.added(other.first.kept());
        let same = V::SAME_TIME && other.first_ns == self.last_ns && between == Default::default();
        if other.first_ns <= self.last_ns && !same {
            return false;
        }
        self.sum = self.sum.plus(between).plus(other.sum);
        self.last_ns = other.last_ns;
        self.last = other.last;
        true
    }
}

/// All groups of an aggregation.
#[derive(Debug)]
pub struct Runs<V: Value> {
    name: &'static str,
    answer: Answer,
    groups: Vec<Group<V>>,
}

impl<V: Value> Runs<V> {
    pub fn new(name: &'static str, answer: Answer) -> Runs<V> {
        Runs {
            name,
            answer,
            groups: Vec::new(),
        }
    }

    fn out_of_order(&self, group: usize, time: i64) -> SqlError {
        let name = self.name;
        let same = self.groups.get(group).is_some_and(|g| g.last_ns == time);
        let message = match same {
            true => format!("{name} met two rows of one time in one group"),
            false => format!("the rows of a group do not come to {name} in the order of time"),
        };
        let hint = match same {
            true => "group by all that tells one thing from another: GROUP BY pid, start_ticks; with several instances also \
                     by instance"
                .to_owned(),
            false => format!(
                "write {name}(…, time ORDER BY time); or, where several instances are read, add instance to GROUP BY"
            ),
        };
        SqlError::refused(kind::REQUEST, message).hint(hint)
    }

    fn answers(&self, groups: &[Group<V>]) -> ArrayRef {
        match self.answer {
            Answer::PerSecond => {
                let rate = |g: &Group<V>| {
                    let elapsed = g.last_ns.saturating_sub(g.first_ns);
                    (elapsed > 0).then(|| g.sum.as_f64() * 1e9 / elapsed as f64)
                };
                Arc::new(groups.iter().map(rate).collect::<Float64Array>())
            }
            Answer::Sum => {
                let sum = |g: &Group<V>| (!g.is_empty() || V::SAME_TIME).then_some(g.sum);
                Arc::new(groups.iter().map(sum).collect::<PrimitiveArray<V::Sum>>())
            }
        }
    }

    fn states(groups: &[Group<V>]) -> Vec<ArrayRef> {
        let some = |g: &Group<V>| !g.is_empty();
        let times = |of: fn(&Group<V>) -> i64| {
            let times = groups.iter().map(|g| some(g).then(|| of(g)));
            Arc::new(times.collect::<PrimitiveArray<Int64Type>>()) as ArrayRef
        };
        let sums = groups.iter().map(|g| some(g).then_some(g.sum));
        vec![
            times(|g| g.first_ns),
            times(|g| g.last_ns),
            V::array(groups.iter().map(|g| some(g).then_some(&g.first))),
            V::array(groups.iter().map(|g| some(g).then_some(&g.last))),
            Arc::new(sums.collect::<PrimitiveArray<V::Sum>>()),
        ]
    }

    fn grow(&mut self, count: usize) {
        if self.groups.len() < count {
            self.groups.resize_with(count, Group::default);
        }
    }
}

fn typed<A: Array + 'static>(arrays: &[ArrayRef], n: usize) -> Result<&A> {
    let array = arrays.get(n).and_then(|a| a.as_any().downcast_ref::<A>());
    Ok(array.ok_or_else(|| ArrowError::SchemaError(format!("argument {n} is of another type")))?)
}

impl<V: Value> GroupsAccumulator for Runs<V> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.grow(count);
        let seen: &V::Array = typed(values, 0)?;
        let times: &PrimitiveArray<TimestampNanosecondType> = typed(values, 1)?;
        let whole = filter.is_none() && seen.null_count() == 0 && times.null_count() == 0;
        for (row, (group, time)) in groups.iter().zip(times.values()).enumerate() {
            let counts = || {
                let kept = filter.is_none_or(|f| f.is_valid(row) && f.value(row));
                kept && seen.is_valid(row) && times.is_valid(row)
            };
            if (whole || counts()) && !self.groups[*group].add(*time, V::seen(seen, row)) {
                return Err(self.out_of_order(*group, *time).into());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = emit.take_needed(&mut self.groups);
        Ok(self.answers(&groups))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(Self::states(&emit.take_needed(&mut self.groups)))
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.grow(count);
        let first_times: &PrimitiveArray<Int64Type> = typed(states, 0)?;
        let last_times: &PrimitiveArray<Int64Type> = typed(states, 1)?;
        let (first, last): (&V::Array, &V::Array) = (typed(states, 2)?, typed(states, 3)?);
        let sums: &PrimitiveArray<V::Sum> = typed(states, 4)?;
        for (row, group) in groups.iter().enumerate() {
            if first_times.is_null(row) {
                continue;
            }
            let value = |array: &V::Array| {
                let mut value = V::default();
                value.keep(V::seen(array, row));
                value
            };
            let part = Group {
                first_ns: first_times.value(row),
                last_ns: last_times.value(row),
                first: value(first),
                last: value(last),
                sum: sums.value(row),
            };
            if !self.groups[*group].join(part) {
                let message = format!("{} met parts of a group that overlap in time", self.name);
                let hint = "aggregate each part of a UNION ALL on its own, or group by what tells them apart";
                return Err(SqlError::refused(kind::REQUEST, message).hint(hint).into());
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let count = values.first().map_or(0, |v| v.len());
        let mut alone = Runs::<V>::new(self.name, self.answer);
        let each: Vec<usize> = (0..count).collect();
        alone.update_batch(values, &each, filter, count)?;
        alone.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Group<V>>()
    }
}

/// The same without groups, and for windows.
#[derive(Debug)]
pub struct Single<V: Value> {
    runs: Runs<V>,
    /// As many zeros as a batch had rows.
    zeros: Vec<usize>,
}

impl<V: Value> Single<V> {
    pub fn new(mut runs: Runs<V>) -> Single<V> {
        runs.grow(1);
        Single {
            runs,
            zeros: Vec::new(),
        }
    }

    fn zeros(&mut self, count: usize) -> Vec<usize> {
        let mut zeros = std::mem::take(&mut self.zeros);
        zeros.resize(count, 0);
        zeros
    }
}

impl<V: Value> Accumulator for Single<V> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let zeros = self.zeros(values.first().map_or(0, |v| v.len()));
        let updated = self.runs.update_batch(values, &zeros, None, 1);
        self.zeros = zeros;
        updated
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.runs.answers(&self.runs.groups), 0)
    }

    fn size(&self) -> usize {
        self.runs.size() + self.zeros.capacity() * size_of::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = Runs::states(&self.runs.groups);
        states.iter().map(|s| ScalarValue::try_from_array(s, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let zeros = self.zeros(states.first().map_or(0, |v| v.len()));
        let merged = self.runs.merge_batch(states, &zeros, 1);
        self.zeros = zeros;
        merged
    }
}
