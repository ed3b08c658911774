//! The state of a table at a moment, or why it is not known.
//!
//! The last sample at or before T stands for T until it expires: three times its interval after it was taken, or when a
//! recorded gap begins after it and no later than T. A gap is a row of the `gap` table whose cause says that nothing was
//! recorded; missed ticks and dropped rows leave the rest of the picture standing. A gap that began before the sample does
//! not end it: the sample itself shows that recording went on.

use crate::error::SqlError;
use crate::snapshot::Snapshot;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, RecordBatch};
use vwatch_store::{Damage, InstanceEntry, Picture, ScanRequest, StoreError, TableEntry};

/// A picture expires after so many of its intervals.
const INTERVALS: u64 = 3;

/// Why there is no picture of an instance's table at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No sample at or before the moment.
    NotYet { first_ns: Option<i64> },
    /// Nothing was recorded then.
    Gap(Gap),
    /// The last sample is too old.
    Expired { last_ns: i64, interval_ns: u64 },
    /// It lies in a part of the store that cannot be read.
    Damaged(Box<Damage>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub from_ns: i64,
    pub until_ns: i64,
    pub cause: String,
}

/// Reads the picture of `instance` at `at_ns`.
pub fn read(
    snapshot: &Snapshot,
    table: &TableEntry,
    instance: &InstanceEntry,
    at_ns: i64,
    columns: &[String],
) -> Result<Result<Picture, Missing>, SqlError> {
    let picture = match snapshot.picture(table.id, instance.id, at_ns, columns) {
        Err(SqlError::Store(StoreError::DamagedPart { damage, .. })) => return Ok(Err(Missing::Damaged(damage))),
        picture => picture?,
    };
    let Some(picture) = picture else {
        return Ok(Err(Missing::NotYet {
            first_ns: table.first_ns,
        }));
    };
    let name = (&*table.schema.name, &*instance.info.name);
    if let Some(gap) = ending_gap(snapshot, name, picture.time_ns, at_ns)? {
        return Ok(Err(Missing::Gap(gap)));
    }
    let age = u64::try_from(at_ns.saturating_sub(picture.time_ns)).unwrap_or(0);
    if picture.interval_ns > 0 && age > picture.interval_ns.saturating_mul(INTERVALS) {
        return Ok(Err(Missing::Expired {
            last_ns: picture.time_ns,
            interval_ns: picture.interval_ns,
        }));
    }
    Ok(Ok(picture))
}

/// The gap that ends a picture of `after_ns` before or at `at_ns`: the one that `at_ns` lies in, else the last.
fn ending_gap(
    snapshot: &Snapshot,
    (table, instance): (&str, &str),
    after_ns: i64,
    at_ns: i64,
) -> Result<Option<Gap>, SqlError> {
    let Some(gaps) = snapshot.table("gap") else {
        return Ok(None);
    };
    let columns = ["time", "until", "probe_instance", "table_name", "cause"];
    let scan = snapshot.reader.scan(ScanRequest {
        table: gaps.id,
        instances: snapshot.instances(gaps.id).iter().map(|i| i.id).collect(),
        from_ns: after_ns,
        to_ns: at_ns,
        columns: Some(columns.map(str::to_owned).to_vec()),
        conditions: Vec::new(),
    })?;
    let mut found: Option<Gap> = None;
    for batch in scan {
        let batch = match batch {
            // A gap that cannot be read any more may have ended the picture.
            Err(StoreError::DamagedPart { damage, .. }) => {
                snapshot.meter.missing("gap", snapshot.damage_in_words(&damage));
                continue;
            }
            batch => batch?,
        };
        for gap in ends(&batch, table, instance) {
            let inside = |g: &Gap| g.until_ns >= at_ns;
            let better = found.as_ref().is_none_or(|f| !inside(f));
            if gap.until_ns > after_ns && better {
                found = Some(gap);
            }
        }
    }
    Ok(found)
}

/// The rows of a batch of `gap` that end pictures of this table and instance.
fn ends(batch: &RecordBatch, table: &str, instance: &str) -> Vec<Gap> {
    let time = |name: &str| {
        batch
            .column_by_name(name)?
            .as_primitive_opt::<TimestampNanosecondType>()
    };
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (Some(from), Some(until), Some(who), Some(what), Some(cause)) = (
        time("time"),
        time("until"),
        text("probe_instance"),
        text("table_name"),
        text("cause"),
    ) else {
        return Vec::new();
    };
    let concerns =
        |column: &arrow_array::StringArray, row: usize, name: &str| column.is_null(row) || column.value(row) == name;
    (0..batch.num_rows())
        .filter(|&row| !until.is_null(row) && nothing_recorded(cause.value(row)))
        .filter(|&row| concerns(who, row, instance) && concerns(what, row, table))
        .map(|row| Gap {
            from_ns: from.value(row),
            until_ns: until.value(row),
            cause: cause.value(row).to_owned(),
        })
        .collect()
}

/// Whether a gap of this cause means that nothing was recorded meanwhile.
fn nothing_recorded(cause: &str) -> bool {
    matches!(
        cause,
        "stopped" | "killed" | "rebooted" | "suspended" | "disk_full" | "store_error" | "quarantined" | "removed"
    )
}

/// The reason as a sentence with local times.
pub fn reason(snapshot: &Snapshot, table: &str, instance: &str, at_ns: i64, missing: &Missing) -> String {
    let words = |ns: i64| snapshot.zone.words(ns, snapshot.now_ns);
    let at = words(at_ns);
    match missing {
        Missing::NotYet { first_ns: None } => format!("nothing has been recorded of {table} yet"),
        Missing::NotYet { first_ns: Some(first) } => match snapshot.catalog.first_ns {
            Some(began) if at_ns < began => {
                format!("no data at {at}: recording began at {}", words(began))
            }
            _ if at_ns < *first => format!("no data of {table} at {at}: its recording began at {}", words(*first)),
            _ => format!("no data of {table} at {at}: instance {instance} had not recorded any yet"),
        },
        Missing::Gap(gap) => format!(
            "no data at {at}: {} from {} until {}",
            happened(&gap.cause, instance),
            words(gap.from_ns),
            words(gap.until_ns)
        ),
        Missing::Damaged(damage) => snapshot.damage_in_words(damage),
        Missing::Expired { last_ns, interval_ns } => {
            let last = words(*last_ns);
            let end = snapshot.catalog.last_commit.map(|stamp| stamp.wall_ns);
            if at_ns > snapshot.now_ns && snapshot.live {
                return format!(
                    "no data at {at}: that is in the future, it is {} now",
                    words(snapshot.now_ns)
                );
            }
            match end {
                Some(end) if !snapshot.live && at_ns > end => {
                    format!("no data at {at}: the recording ends at {}", words(end))
                }
                _ => format!(
                    "no data of {table} at {at}: its last sample before is of {last}, and one is taken every {}",
                    vwatch_model::unit::format_duration(std::time::Duration::from_nanos(*interval_ns))
                ),
            }
        }
    }
}

fn happened(cause: &str, instance: &str) -> String {
    match cause {
        "stopped" => "the recorder was stopped".to_owned(),
        "killed" => "the recorder had been killed and did not run".to_owned(),
        "rebooted" => "the host was down".to_owned(),
        "suspended" => "the host was suspended".to_owned(),
        "disk_full" => "the disk was full".to_owned(),
        "store_error" => "the store could not be written".to_owned(),
        "quarantined" => format!("instance {instance} was quarantined"),
        "removed" => format!("instance {instance} was removed"),
        other => format!("nothing was recorded ({other})"),
    }
}
