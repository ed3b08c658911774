//! A plugin's commit becomes the host's: kinds against the tables' kinds, indices against the manifest, lengths against
//! their bounds.

use crate::commit::{Batch, Commit, Loss, OutboxEntry, Rows};
use crate::fault::Fault;
use crate::rows::{self, TableLayout};
use arrow_array::RecordBatch;
use vwatch_abi::abi_stable::std_types::{ROption, RVec};
use vwatch_abi::v1::{self, batch_kind};
use vwatch_model::TableKind;

/// Bounds of one commit.
const MAX_BATCHES: usize = 4096;
const MAX_ENTRIES: usize = 1 << 16;
/// The store's keys are at most 511 bytes, with a prefix of ours.
const MAX_KEY_BYTES: usize = 400;
const MAX_VALUE_BYTES: usize = 16 << 20;
const MAX_CAUSE_CHARS: usize = 1000;

/// Bound of a message for people: of a fault, a note, a line of the log.
const MAX_MESSAGE_CHARS: usize = 8192;

/// A message for people. Its end is cut off when it is a book.
pub(crate) fn message(said: &str) -> String {
    let mut text = text(said);
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Text of a plugin. Its bytes should be UTF-8 by their type, but nobody has checked that on the way.
pub(crate) fn text(said: &str) -> String {
    String::from_utf8_lossy(said.as_bytes()).into_owned()
}

pub(crate) fn commit(tables: &[TableLayout], given: v1::Commit) -> Result<Commit, Fault> {
    bound("batches", given.batches.len(), MAX_BATCHES)?;
    bound("losses", given.losses.len(), MAX_ENTRIES)?;
    bound("state changes", given.state.len(), MAX_ENTRIES)?;
    bound("outbox entries", given.outbox.len(), MAX_ENTRIES)?;
    bound("finished outbox entries", given.outbox_done.len(), MAX_ENTRIES)?;
    Ok(Commit {
        batches: collect(given.batches, |b| batch(tables, b))?,
        losses: collect(given.losses, |l| loss(tables, l))?,
        state: collect(given.state, state_change)?,
        outbox: collect(given.outbox, outbox_entry)?,
        outbox_done: collect(given.outbox_done, |id| key("outbox id", &id))?,
    })
}

fn collect<T, U>(given: RVec<T>, one: impl FnMut(T) -> Result<U, Fault>) -> Result<Vec<U>, Fault> {
    given.into_iter().map(one).collect()
}

fn bound(what: &str, count: usize, limit: usize) -> Result<(), Fault> {
    if count <= limit {
        return Ok(());
    }
    Err(Fault::bad_input(format!(
        "{count} {what} at once; at most {limit} are taken"
    )))
}

fn table(tables: &[TableLayout], index: u32) -> Result<(usize, &TableLayout), Fault> {
    let at = index as usize;
    tables.get(at).map(|t| (at, t)).ok_or_else(|| {
        Fault::bad_input(format!(
            "rows for table number {index}; the manifest has {}",
            tables.len()
        ))
    })
}

fn batch(tables: &[TableLayout], given: v1::Batch) -> Result<Batch, Fault> {
    let (index, table) = table(tables, given.table)?;
    let what = format!("table {}", table.schema.name);
    let wrong = |why: &str| Err(Fault::bad_input(format!("{what}: {why}")));
    let state = table.schema.kind == TableKind::State;
    if given.kind != batch_kind::DELTA && !given.gone.is_released() {
        return wrong("gone keys without a delta");
    }
    let body = match given.kind {
        batch_kind::FULL | batch_kind::DELTA if !state => {
            return wrong("it is an event table, and takes events only");
        }
        batch_kind::EVENTS if state => {
            return wrong("it is a state table, and takes full pictures and deltas only");
        }
        batch_kind::FULL => Rows::Full(rows::import(given.rows, &table.arrow, &what)?),
        batch_kind::EVENTS => Rows::Events(rows::import(given.rows, &table.arrow, &what)?),
        batch_kind::DELTA => {
            if table.keys.fields().is_empty() {
                return wrong("a delta needs key columns, and it has none");
            }
            let gone = if given.gone.is_released() {
                RecordBatch::new_empty(table.keys.clone())
            } else {
                rows::import(given.gone, &table.keys, &format!("{what}, gone keys"))?
            };
            Rows::Delta {
                changed: rows::import(given.rows, &table.arrow, &what)?,
                gone,
            }
        }
        kind => return wrong(&format!("batch kind {kind} is unknown")),
    };
    Ok(Batch {
        table: index,
        time_ns: (given.time_ns != 0).then_some(given.time_ns),
        body,
    })
}

fn loss(tables: &[TableLayout], given: v1::Loss) -> Result<Loss, Fault> {
    let (index, _) = table(tables, given.table)?;
    Ok(Loss {
        table: index,
        count: given.count,
        from_ns: given.from_ns.min(given.until_ns),
        until_ns: given.until_ns.max(given.from_ns),
        cause: text(&given.cause).chars().take(MAX_CAUSE_CHARS).collect(),
    })
}

fn key(what: &str, given: &str) -> Result<String, Fault> {
    let key = text(given);
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Fault::bad_input(format!(
            "{what} of {} bytes; 1 to {MAX_KEY_BYTES} are taken",
            key.len()
        )));
    }
    Ok(key)
}

fn value(what: &str, id: &str, bytes: RVec<u8>) -> Result<Vec<u8>, Fault> {
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(Fault::bad_input(format!(
            "{what} {id:?} has {} bytes; at most {MAX_VALUE_BYTES} are taken",
            bytes.len()
        )));
    }
    Ok(bytes.to_vec())
}

fn state_change(given: v1::StateChange) -> Result<(String, Option<Vec<u8>>), Fault> {
    let key = key("state key", &given.key)?;
    let value = match given.value {
        ROption::RSome(bytes) => Some(value("state value", &key, bytes)?),
        ROption::RNone => None,
    };
    Ok((key, value))
}

fn outbox_entry(given: v1::OutboxEntry) -> Result<OutboxEntry, Fault> {
    let id = key("outbox id", &given.id)?;
    let body = value("outbox entry", &id, given.body)?;
    Ok(OutboxEntry { id, body })
}
