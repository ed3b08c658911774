//! The head as readers see it: the runs of samples of one table and instance, past records that are damaged.
//!
//! A record whose directory cannot be read may have held samples of any table, so what depends on it is not guessed: deltas
//! after it wait for the next keyframe, and a picture that it may have replaced is not answered.

use crate::bytes::Flaw;
use crate::contents;
use crate::damage::{Damage, Part};
use crate::env::Dbs;
use crate::error::Result;
use crate::head::{Entry, Kind};
use crate::types::{InstanceId, TableId};
use lmdb::Transaction;
use std::collections::BTreeMap;
use std::path::Path;

/// Number of the record, directory entry, payload.
pub(crate) type HeadSample = (u64, Entry, Vec<u8>);
type Series = (TableId, InstanceId);

/// A sample is committed within about a second of its time; what a damaged record held is no older than this before the
/// commit in front of it.
const LATE_NS: i64 = 2_000_000_000;

/// The samples of a series as the runs that will be blocks. Damage that concerns it is added to `damaged` by the record's number.
pub(crate) fn runs(
    path: &Path,
    txn: &impl Transaction,
    dbs: &Dbs,
    series: Series,
    damaged: &mut BTreeMap<u64, Damage>,
) -> Result<Vec<Vec<HeadSample>>> {
    let mut runs: Vec<Vec<HeadSample>> = Vec::new();
    let mut commit_ns = None;
    // The damage that the deltas which follow have lost their picture to.
    let mut broken_by: Option<u64> = None;
    contents::each_head_record_or_flaw(path, txn, dbs, |sequence, directory, record| {
        let directory = match directory {
            Ok(directory) => directory,
            Err(flaw) => {
                damaged
                    .entry(sequence)
                    .or_insert_with(|| record_damage(sequence, commit_ns, flaw));
                broken_by = Some(sequence);
                return Ok(());
            }
        };
        close(damaged, commit_ns, directory.commit.wall_ns);
        commit_ns = Some(directory.commit.wall_ns);
        for entry in directory
            .entries
            .into_iter()
            .filter(|e| (e.table, e.instance) == series)
        {
            let payload = match entry.payload(record) {
                Ok(payload) => payload.to_vec(),
                Err(flaw) => {
                    damaged.insert(sequence, entry_damage(sequence, &entry, flaw));
                    broken_by = Some(sequence).filter(|_| entry.kind != Kind::Events).or(broken_by);
                    continue;
                }
            };
            let sample = (sequence, entry, payload);
            match (entry.kind, broken_by, runs.last_mut()) {
                (Kind::Delta, Some(record), _) => lose(damaged, record, &entry),
                (Kind::Delta, None, None) => {
                    let flaw = "a change without the picture before it".to_owned();
                    damaged.insert(sequence, entry_damage(sequence, &entry, flaw));
                    broken_by = Some(sequence);
                }
                (Kind::Delta | Kind::Keyframe { fresh: false }, None, Some(run)) => run.push(sample),
                (Kind::Events, ..) => runs.push(vec![sample]),
                (Kind::Keyframe { .. }, ..) => {
                    broken_by = None;
                    runs.push(vec![sample]);
                }
            }
        }
        Ok(())
    })?;
    Ok(runs)
}

/// Damaged records that have no end yet end with the next commit.
fn close(damaged: &mut BTreeMap<u64, Damage>, before_ns: Option<i64>, commit_ns: i64) {
    let open = damaged.values_mut().rev().take_while(|d| d.to_ns.is_none());
    for damage in open.filter(|d| d.from_ns <= before_ns) {
        damage.to_ns = Some(commit_ns);
    }
}

/// A delta that cannot be applied any more is lost to the same damage.
fn lose(damaged: &mut BTreeMap<u64, Damage>, record: u64, entry: &Entry) {
    if let Some(damage) = damaged.get_mut(&record) {
        damage.to_ns = damage.to_ns.max(Some(entry.last_ns));
    }
}

/// The keyframe and the deltas up to the last sample of a series at or before a time; none when the head has none. The inner
/// error is damage that the answer depends on.
pub(crate) fn chain(
    path: &Path,
    txn: &impl Transaction,
    dbs: &Dbs,
    series: Series,
    at_ns: i64,
) -> Result<std::result::Result<Option<Vec<HeadSample>>, Damage>> {
    let mut samples: Vec<(u64, Entry, &[u8])> = Vec::new();
    let mut broken: Vec<Damage> = Vec::new();
    let mut commit_ns = None;
    contents::each_head_record_or_flaw(path, txn, dbs, |sequence, directory, record| {
        match directory {
            Ok(directory) => {
                commit_ns = Some(directory.commit.wall_ns);
                let of_series = directory
                    .entries
                    .into_iter()
                    .filter(|e| (e.table, e.instance) == series);
                samples.extend(of_series.map(|entry| (sequence, entry, record)));
            }
            Err(flaw) => broken.push(record_damage(sequence, commit_ns, flaw)),
        }
        Ok(())
    })?;
    let eligible = samples.iter().enumerate().filter(|(_, (_, e, _))| e.time_ns <= at_ns);
    let best = eligible.max_by_key(|(i, (_, e, _))| (e.time_ns, *i)).map(|(i, _)| i);
    let newest = best.map_or(0, |best| samples[best].0);
    // What came after the best sample may have held a better one.
    let hides = |d: &Damage| d.sequence > newest && d.from_ns.is_none_or(|from| from <= at_ns);
    if let Some(damage) = broken.iter().find(|d| hides(d)) {
        return Ok(Err(damage.clone()));
    }
    let Some(best) = best else { return Ok(Ok(None)) };
    let is_keyframe = |(_, e, _): &(u64, Entry, &[u8])| matches!(e.kind, Kind::Keyframe { .. });
    let keyframe = samples[..=best].iter().rposition(is_keyframe);
    let first = keyframe.map_or(0, |k| samples[k].0);
    if let Some(damage) = broken.iter().find(|d| (first..newest).contains(&d.sequence)) {
        return Ok(Err(damage.clone()));
    }
    let Some(keyframe) = keyframe else {
        let flaw = "a change without the picture before it".to_owned();
        return Ok(Err(entry_damage(newest, &samples[best].1, flaw)));
    };
    let copied = samples[keyframe..=best].iter().map(|(sequence, entry, record)| {
        let payload = entry.payload(record);
        let payload = payload.map_err(|flaw| entry_damage(*sequence, entry, flaw))?;
        Ok((*sequence, *entry, payload.to_vec()))
    });
    Ok(copied.collect::<std::result::Result<Vec<_>, Damage>>().map(Some))
}

/// A whole record; `before_ns` is the commit in front of it.
pub(crate) fn record_damage(sequence: u64, before_ns: Option<i64>, flaw: Flaw) -> Damage {
    Damage {
        part: Part::Head,
        table: None,
        instance: None,
        from_ns: before_ns.map(|ns| ns.saturating_sub(LATE_NS)),
        to_ns: None,
        sequence,
        flaw,
    }
}

/// One sample of a record.
pub(crate) fn entry_damage(sequence: u64, entry: &Entry, flaw: Flaw) -> Damage {
    Damage {
        part: Part::Head,
        table: None,
        instance: None,
        from_ns: Some(entry.time_ns),
        to_ns: Some(entry.last_ns),
        sequence,
        flaw,
    }
}

/// A run of samples whose rows do not fit together; what is wrong with them is for the caller to add.
pub(crate) fn run_damage(samples: &[HeadSample]) -> Damage {
    Damage {
        part: Part::Head,
        table: None,
        instance: None,
        from_ns: samples.first().map(|(_, e, _)| e.time_ns),
        to_ns: samples.last().map(|(_, e, _)| e.last_ns),
        sequence: samples.last().map_or(0, |(s, ..)| *s),
        flaw: Flaw::new(),
    }
}
