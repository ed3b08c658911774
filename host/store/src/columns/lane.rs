//! One column's values of a run of samples, as numbers: what each entity began with, and what changed after it.
//!
//! A *lane* keeps one number per entity (its first row) and one for each later row in which the column changed: the rows in
//! which it did not cost nothing. Changes are stored as the difference to the entity's value before, as the change of that
//! difference (regular counters), or as they are (gauges, dictionaries), whichever takes fewest bits. Lanes without later rows
//! (events, samples of the head) are a sequence of first ones.

use super::numbers::{self, Effort, Ranks, bits_at, put_bits, put_varint};
use crate::bytes::{Bytes, Flaw};

/// How the rows of a payload follow one another. Rows are sorted by sample, then by entity.
#[derive(Debug)]
pub(crate) struct Plan {
    pub entities: usize,
    /// Entity of each row.
    pub entity: Vec<u32>,
    /// The row is its entity's first; entities are numbered in the order of these.
    pub first: Vec<bool>,
}

const NONE: u8 = 0;
const ALL: u8 = 1;
const BITS: u8 = 2;
const LIST: u8 = 3;

const ABSOLUTE: u8 = 0;
const DIFFERENCE: u8 = 1;
const SECOND_DIFFERENCE: u8 = 2;

/// Appends a lane. `valid` is None where no row is NULL; values of NULL rows do not matter. Without a plan every row is
/// an entity's first.
pub(crate) fn encode(values: &[i64], valid: Option<&[bool]>, plan: Option<&Plan>, effort: Effort, out: &mut Vec<u8>) {
    let Some(plan) = plan else {
        put_some(values, valid, effort, out);
        return;
    };
    let firsts = |row: &usize| plan.first[*row];
    let rows: Vec<usize> = (0..values.len()).filter(firsts).collect();
    let base: Vec<i64> = rows.iter().map(|&r| values[r]).collect();
    let base_valid: Option<Vec<bool>> = valid.map(|v| rows.iter().map(|&r| v[r]).collect());
    put_some(&base, base_valid.as_deref(), effort, out);
    if rows.len() == values.len() {
        return;
    }
    let changes = changes(values, valid, plan);
    put_changed(&changes.changed, out);
    if changes.count == 0 {
        return;
    }
    put_nulls(changes.valid.as_deref(), out);
    let forms = [&changes.absolute, &changes.difference, &changes.second];
    let costs = forms.map(|form| numbers::cost(form));
    let form = (0..3).min_by_key(|&i| costs[i]).unwrap_or(0);
    out.push(form as u8);
    numbers::encode_with(effort, forms[form], out);
}

/// The later rows of a lane that differ from what their entity had.
struct Changes {
    /// Of each later row.
    changed: Vec<bool>,
    count: usize,
    /// Of each changed row; None when none became NULL.
    valid: Option<Vec<bool>>,
    /// Of each changed row that is not NULL.
    absolute: Vec<i64>,
    difference: Vec<i64>,
    second: Vec<i64>,
}

fn changes(values: &[i64], valid: Option<&[bool]>, plan: &Plan) -> Changes {
    let is_valid = |row: usize| valid.is_none_or(|v| v[row]);
    // The last value that was not NULL, its last difference, and whether the last row was one.
    let mut last = vec![0i64; plan.entities];
    let mut step = vec![0i64; plan.entities];
    let mut there = vec![false; plan.entities];
    let mut out = Changes {
        changed: Vec::with_capacity(values.len() - plan.entities),
        count: 0,
        valid: None,
        absolute: Vec::new(),
        difference: Vec::new(),
        second: Vec::new(),
    };
    let mut nulls = Vec::new();
    for (row, &value) in values.iter().enumerate() {
        let e = plan.entity[row] as usize;
        let now = is_valid(row);
        if plan.first[row] {
            there[e] = now;
            if now {
                last[e] = value;
            }
            continue;
        }
        let changed = now != there[e] || (now && value != last[e]);
        out.changed.push(changed);
        there[e] = now;
        if !changed {
            continue;
        }
        out.count += 1;
        nulls.push(now);
        if now {
            let difference = value.wrapping_sub(last[e]);
            out.absolute.push(value);
            out.difference.push(difference);
            out.second.push(difference.wrapping_sub(step[e]));
            (last[e], step[e]) = (value, difference);
        }
    }
    out.valid = nulls.contains(&false).then_some(nulls);
    out
}

fn put_changed(changed: &[bool], out: &mut Vec<u8>) {
    let count = changed.iter().filter(|c| **c).count();
    if count == 0 {
        out.push(NONE);
    } else if count == changed.len() {
        out.push(ALL);
    } else if count * 16 > changed.len() {
        out.push(BITS);
        put_bits(out, changed);
    } else {
        out.push(LIST);
        put_varint(out, count as u64);
        let mut next = 0;
        let mut gaps = Vec::with_capacity(count);
        for (i, _) in changed.iter().enumerate().filter(|(_, c)| **c) {
            gaps.push((i - next) as i64);
            next = i + 1;
        }
        numbers::encode(&gaps, out);
    }
}

fn changed_rows(bytes: &mut Bytes<'_>, rows: usize) -> Result<Vec<u32>, Flaw> {
    match bytes.u8()? {
        NONE => Ok(Vec::new()),
        ALL => Ok((0..rows as u32).collect()),
        BITS => numbers::ones_at(bytes, rows),
        LIST => {
            let count = numbers::size(bytes)?;
            if count > rows {
                return Err(format!("{count} changes of {rows} rows"));
            }
            let mut next = 0usize;
            let mut out = Vec::with_capacity(count);
            for gap in numbers::decode(bytes, count)? {
                let row = usize::try_from(gap).ok().and_then(|g| next.checked_add(g));
                let row = row.filter(|&r| r < rows).ok_or("a change of a row that is not there")?;
                out.push(row as u32);
                next = row + 1;
            }
            Ok(out)
        }
        mode => Err(format!("changes of mode {mode}")),
    }
}

/// Later rows that changed.
struct Changed {
    rows: Vec<u32>,
    /// Their places among all that changed; None when they are all.
    places: Option<Vec<u32>>,
    /// All that changed.
    count: usize,
}

impl Changed {
    fn all(rows: Vec<u32>) -> Changed {
        Changed {
            count: rows.len(),
            rows,
            places: None,
        }
    }
}

/// Of the rows that changed, those that are among `chosen`, which rise. A change is stored relative to the one before of its own
/// entity, so those of other entities are not needed.
fn some_changed_rows(bytes: &mut Bytes<'_>, rows: usize, chosen: &[u32]) -> Result<Changed, Flaw> {
    let mut ahead = *bytes;
    match ahead.u8()? {
        ALL => {
            *bytes = ahead;
            Ok(Changed {
                rows: chosen.to_vec(),
                places: Some(chosen.to_vec()),
                count: rows,
            })
        }
        BITS => {
            *bytes = ahead;
            let Ranks { set, rank, all } = numbers::ranks_at(bytes, rows, chosen)?;
            Ok(Changed {
                rows: set,
                places: Some(rank),
                count: all,
            })
        }
        _ => {
            let all = changed_rows(bytes, rows)?;
            let mut left = chosen;
            let mut is_chosen = |row: u32| {
                left = &left[left.partition_point(|&c| c < row)..];
                left.first() == Some(&row)
            };
            let count = all.len();
            let kept = (0u32..).zip(all).filter(|(_, row)| is_chosen(*row));
            let (places, rows) = kept.unzip();
            Ok(Changed {
                rows,
                places: Some(places),
                count,
            })
        }
    }
}

fn put_nulls(valid: Option<&[bool]>, out: &mut Vec<u8>) {
    match valid {
        None => out.push(NONE),
        Some(valid) if !valid.contains(&true) => out.push(ALL),
        Some(valid) if !valid.contains(&false) => out.push(NONE),
        Some(valid) => {
            out.push(BITS);
            put_bits(out, valid);
        }
    }
}

fn nulls(bytes: &mut Bytes<'_>, n: usize) -> Result<Option<Vec<bool>>, Flaw> {
    match bytes.u8()? {
        NONE => Ok(None),
        ALL => Ok(Some(vec![false; n])),
        BITS => bits_at(bytes, n).map(Some),
        mode => Err(format!("nulls of mode {mode}")),
    }
}

/// Nulls, then the numbers that are none.
fn put_some(values: &[i64], valid: Option<&[bool]>, effort: Effort, out: &mut Vec<u8>) {
    put_nulls(valid, out);
    match valid {
        None => numbers::encode_with(effort, values, out),
        Some(valid) => {
            let some: Vec<i64> = values.iter().zip(valid).filter(|(_, v)| **v).map(|(n, _)| *n).collect();
            numbers::encode_with(effort, &some, out);
        }
    }
}

/// Numbers with 0 in the place of NULLs.
fn some(bytes: &mut Bytes<'_>, n: usize) -> Result<(Vec<i64>, Option<Vec<bool>>), Flaw> {
    let Some(valid) = nulls(bytes, n)? else {
        return Ok((numbers::decode(bytes, n)?, None));
    };
    let count = valid.iter().filter(|v| **v).count();
    let mut values = numbers::decode(bytes, count)?.into_iter();
    let spread = valid.iter().map(|&v| if v { values.next().unwrap_or(0) } else { 0 });
    Ok((spread.collect(), Some(valid)))
}

/// A decoded lane. Values are absolute; those of NULLs are 0.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Of each entity.
    pub base: Vec<i64>,
    pub base_valid: Option<Vec<bool>>,
    /// Later rows that differ, counted among the later rows, rising.
    pub changed: Vec<u32>,
    /// Of each of those.
    pub values: Vec<i64>,
    pub values_valid: Option<Vec<bool>>,
}

/// Reads a lane of `entities` first rows and of later rows of the entities in `later`. With `chosen`, which later rows of theirs
/// some entities have, rising, the changes of all others are left out.
pub(crate) fn decode(
    bytes: &mut Bytes<'_>,
    entities: usize,
    later: &[u32],
    chosen: Option<&[u32]>,
) -> Result<Lane, Flaw> {
    let (base, base_valid) = some(bytes, entities)?;
    let mut lane = Lane {
        base,
        base_valid,
        ..Lane::default()
    };
    if later.is_empty() {
        return Ok(lane);
    }
    let changed = match chosen {
        None => Changed::all(changed_rows(bytes, later.len())?),
        Some(chosen) => some_changed_rows(bytes, later.len(), chosen)?,
    };
    if changed.count == 0 {
        return Ok(lane);
    }
    lane.changed = changed.rows;
    lane.values_valid = nulls(bytes, changed.count)?;
    let form = bytes.u8()?;
    let count = match &lane.values_valid {
        None => changed.count,
        Some(valid) => valid.iter().filter(|v| **v).count(),
    };
    lane.values = match (&mut lane.values_valid, changed.places) {
        (None, None) => numbers::decode(bytes, count)?,
        (None, Some(places)) => numbers::decode_at(bytes, count, &places)?,
        (Some(valid), places) => {
            let stored = numbers::decode(bytes, count)?;
            let mut stored = stored.into_iter();
            let spread = valid.iter().map(|&v| if v { stored.next().unwrap_or(0) } else { 0 });
            let all: Vec<i64> = spread.collect();
            match places {
                None => all,
                Some(places) => {
                    *valid = places.iter().map(|&i| valid[i as usize]).collect();
                    places.iter().map(|&i| all[i as usize]).collect()
                }
            }
        }
    };
    resolve(&mut lane, later, form)?;
    Ok(lane)
}

/// Makes stored changes absolute.
fn resolve(lane: &mut Lane, later: &[u32], form: u8) -> Result<(), Flaw> {
    if form == ABSOLUTE {
        return Ok(());
    }
    if form != DIFFERENCE && form != SECOND_DIFFERENCE {
        return Err(format!("changes of form {form}"));
    }
    let mut last = lane.base.clone();
    let mut step = vec![0i64; if form == SECOND_DIFFERENCE { last.len() } else { 0 }];
    for (i, value) in lane.values.iter_mut().enumerate() {
        if lane.values_valid.as_ref().is_some_and(|v| !v[i]) {
            continue;
        }
        let e = later[lane.changed[i] as usize] as usize;
        let mut difference = *value;
        if form == SECOND_DIFFERENCE {
            difference = difference.wrapping_add(step[e]);
            step[e] = difference;
        }
        last[e] = last[e].wrapping_add(difference);
        *value = last[e];
    }
    Ok(())
}

/// A lane's value of every entity at some sample; moves forward only.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub values: Vec<i64>,
    /// None while no value was ever NULL.
    pub valid: Option<Vec<bool>>,
    next: usize,
}

impl Cursor {
    pub fn new(lane: &mut Lane) -> Cursor {
        let entities = lane.base.len();
        let valid = lane.base_valid.take();
        Cursor {
            values: std::mem::take(&mut lane.base),
            valid: valid.or_else(|| lane.values_valid.is_some().then(|| vec![true; entities])),
            next: 0,
        }
    }

    /// Applies the changes of the later rows before `end`.
    pub fn advance(&mut self, lane: &Lane, later: &[u32], end: u32) {
        while let Some(&row) = lane.changed.get(self.next)
            && row < end
        {
            let e = later[row as usize] as usize;
            self.values[e] = lane.values[self.next];
            if let Some(valid) = &mut self.valid {
                valid[e] = lane.values_valid.as_ref().is_none_or(|v| v[self.next]);
            }
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows of some entities: what each row holds, by replaying the decoded lane.
    fn round(rows: &[(u32, Option<i64>)]) {
        let mut number_of = std::collections::HashMap::new();
        let mut plan = Plan {
            entities: 0,
            entity: Vec::new(),
            first: Vec::new(),
        };
        for (e, _) in rows {
            let next = number_of.len() as u32;
            plan.first.push(!number_of.contains_key(e));
            plan.entity.push(*number_of.entry(*e).or_insert(next));
        }
        plan.entities = number_of.len();
        let values: Vec<i64> = rows.iter().map(|(_, v)| v.unwrap_or(77)).collect();
        let valid: Vec<bool> = rows.iter().map(|(_, v)| v.is_some()).collect();
        let mut out = Vec::new();
        encode(&values, Some(&valid), Some(&plan), Effort::Full, &mut out);
        let later: Vec<u32> = (0..rows.len())
            .filter(|&r| !plan.first[r])
            .map(|r| plan.entity[r])
            .collect();
        let mut bytes = Bytes::new(&out);
        let mut lane = decode(&mut bytes, plan.entities, &later, None).unwrap();
        assert!(bytes.rest().is_empty());
        some_of(&out, &plan, &later, rows);
        let mut cursor = Cursor::new(&mut lane);
        let mut seen = 0;
        for (row, (_, value)) in rows.iter().enumerate() {
            if !plan.first[row] {
                seen += 1;
                cursor.advance(&lane, &later, seen);
            }
            let e = plan.entity[row] as usize;
            let there = cursor.valid.as_ref().is_none_or(|v| v[e]);
            assert_eq!(there.then_some(cursor.values[e]), *value, "row {row}");
        }
    }

    /// The rows of some entities are the same without those of the others.
    fn some_of(out: &[u8], plan: &Plan, later: &[u32], rows: &[(u32, Option<i64>)]) {
        let wanted = |entity: u32| entity % 2 == 1;
        let chosen: Vec<u32> = (0..later.len() as u32)
            .filter(|&row| wanted(later[row as usize]))
            .collect();
        let mut bytes = Bytes::new(out);
        let mut lane = decode(&mut bytes, plan.entities, later, Some(&chosen)).unwrap();
        assert!(bytes.rest().is_empty());
        assert!(lane.changed.iter().all(|row| chosen.contains(row)));
        let mut cursor = Cursor::new(&mut lane);
        let mut seen = 0;
        for (row, (_, value)) in rows.iter().enumerate() {
            if !plan.first[row] {
                seen += 1;
                cursor.advance(&lane, later, seen);
            }
            let e = plan.entity[row];
            if wanted(e) {
                let there = cursor.valid.as_ref().is_none_or(|v| v[e as usize]);
                assert_eq!(there.then_some(cursor.values[e as usize]), *value, "row {row}");
            }
        }
    }

    #[test]
    fn nulls_come_and_go() {
        round(&[]);
        round(&[
            (1, None),
            (1, None),
            (1, Some(3)),
            (1, None),
            (1, Some(3)),
            (1, Some(4)),
        ]);
        round(&[
            (1, Some(i64::MIN)),
            (2, None),
            (1, Some(i64::MAX)),
            (2, Some(0)),
            (1, None),
            (1, Some(-1)),
        ]);
        let regular: Vec<_> = (0..100).map(|i| (i % 3, Some(i64::from(i) * 1000))).collect();
        round(&regular);
        let constant: Vec<_> = (0..100).map(|i| (i % 3, Some(9))).collect();
        round(&constant);
        let seldom: Vec<_> = (0..200).map(|i| (i % 3, Some(i64::from(i / 90)))).collect();
        round(&seldom);
    }

    proptest! {
        #[test]
        fn any_rows_come_back(rows in prop::collection::vec((0u32..6, prop::option::weighted(0.9, -40i64..40)), 0..200)) {
            round(&rows);
        }

        #[test]
        fn any_bytes_are_a_lane_or_an_error(
            raw in prop::collection::vec(any::<u8>(), 0..100),
            later in prop::collection::vec(0u32..4, 0..20),
        ) {
            let _ = decode(&mut Bytes::new(&raw), 4, &later, None);
            let chosen: Vec<u32> = (0..later.len() as u32).filter(|&row| later[row as usize] % 3 == 0).collect();
            let _ = decode(&mut Bytes::new(&raw), 4, &later, Some(&chosen));
        }
    }
}
