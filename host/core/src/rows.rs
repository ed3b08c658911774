//! Rows of the core's own tables (`vwatch_model::core_tables`), collected one by one and turned into one Arrow batch per
//! table and commit.

use arrow_array::builder::{Int32Builder, Int64Builder, StringBuilder, TimestampNanosecondBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch};
use std::borrow::Cow;
use std::sync::Arc;
use vwatch_model::core_tables;
use vwatch_model::table::{STORED_ZONE, TableSchema};

#[derive(Debug, Clone, PartialEq)]
pub enum CoreRow {
    Run(ProbeRun),
    Gap(Gap),
    Plugin(PluginEvent),
    Control(ControlEvent),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProbeRun {
    pub time_ns: i64,
    pub instance: Arc<str>,
    pub probe: Arc<str>,
    pub late_ns: i64,
    pub duration_ns: i64,
    pub cpu_ns: i64,
    pub rows: i64,
    pub bytes: i64,
    pub outcome: &'static str,
    pub message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gap {
    pub from_ns: i64,
    pub until_ns: i64,
    /// None: all.
    pub instance: Option<Arc<str>>,
    /// None: all of the instance.
    pub table: Option<String>,
    pub cause: Cow<'static, str>,
    pub lost: Option<i64>,
    pub message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginEvent {
    pub time_ns: i64,
    pub plugin: Option<String>,
    pub version: Option<String>,
    pub file: String,
    pub event: &'static str,
    pub message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ControlEvent {
    pub time_ns: i64,
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    pub comm: Option<String>,
    pub action: &'static str,
    pub target: Option<String>,
    pub detail: Option<String>,
    pub outcome: String,
    pub message: Option<String>,
}

/// The core's tables, in the order of [`batches`].
pub fn tables() -> [TableSchema; 4] {
    [
        core_tables::probe_run(),
        core_tables::gap(),
        core_tables::plugin_event(),
        core_tables::control_event(),
    ]
}

/// One batch per table of [`tables`] that has rows among `rows`, with its index.
pub fn batches(rows: &[CoreRow]) -> Vec<(usize, RecordBatch)> {
    let (mut runs, mut gaps, mut plugins, mut controls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match row {
            CoreRow::Run(row) => runs.push(row),
            CoreRow::Gap(row) => gaps.push(row),
            CoreRow::Plugin(row) => plugins.push(row),
            CoreRow::Control(row) => controls.push(row),
        }
    }
    let columns = [
        run_columns(&runs),
        gap_columns(&gaps),
        plugin_columns(&plugins),
        control_columns(&controls),
    ];
    columns
        .into_iter()
        .zip(tables())
        .enumerate()
        .filter(|(_, (columns, _))| !columns[0].is_empty())
        .map(|(i, (columns, table))| {
            let batch = RecordBatch::try_new(table.arrow(), columns)
                .expect("the columns are built in the order and with the types of core_tables");
            (i, batch)
        })
        .collect()
}

fn run_columns(rows: &[&ProbeRun]) -> Vec<ArrayRef> {
    vec![
        times(rows.iter().map(|r| r.time_ns)),
        strings(rows.iter().map(|r| Some(&*r.instance))),
        strings(rows.iter().map(|r| Some(&*r.probe))),
        numbers(rows.iter().map(|r| Some(r.late_ns))),
        numbers(rows.iter().map(|r| Some(r.duration_ns))),
        numbers(rows.iter().map(|r| Some(r.cpu_ns))),
        numbers(rows.iter().map(|r| Some(r.rows))),
        numbers(rows.iter().map(|r| Some(r.bytes))),
        strings(rows.iter().map(|r| Some(r.outcome))),
        strings(rows.iter().map(|r| r.message.as_deref())),
    ]
}

fn gap_columns(rows: &[&Gap]) -> Vec<ArrayRef> {
    vec![
        times(rows.iter().map(|r| r.from_ns)),
        times(rows.iter().map(|r| r.until_ns)),
        strings(rows.iter().map(|r| r.instance.as_deref())),
        strings(rows.iter().map(|r| r.table.as_deref())),
        strings(rows.iter().map(|r| Some(&*r.cause))),
        numbers(rows.iter().map(|r| r.lost)),
        strings(rows.iter().map(|r| r.message.as_deref())),
    ]
}

fn plugin_columns(rows: &[&PluginEvent]) -> Vec<ArrayRef> {
    vec![
        times(rows.iter().map(|r| r.time_ns)),
        strings(rows.iter().map(|r| r.plugin.as_deref())),
        strings(rows.iter().map(|r| r.version.as_deref())),
        strings(rows.iter().map(|r| Some(&*r.file))),
        strings(rows.iter().map(|r| Some(r.event))),
        strings(rows.iter().map(|r| r.message.as_deref())),
    ]
}

fn control_columns(rows: &[&ControlEvent]) -> Vec<ArrayRef> {
    let mut uids = UInt32Builder::with_capacity(rows.len());
    let mut gids = UInt32Builder::with_capacity(rows.len());
    let mut pids = Int32Builder::with_capacity(rows.len());
    for row in rows {
        uids.append_value(row.uid);
        gids.append_value(row.gid);
        pids.append_value(row.pid);
    }
    vec![
        times(rows.iter().map(|r| r.time_ns)),
        Arc::new(uids.finish()),
        Arc::new(gids.finish()),
        Arc::new(pids.finish()),
        strings(rows.iter().map(|r| r.comm.as_deref())),
        strings(rows.iter().map(|r| Some(r.action))),
        strings(rows.iter().map(|r| r.target.as_deref())),
        strings(rows.iter().map(|r| r.detail.as_deref())),
        strings(rows.iter().map(|r| Some(&*r.outcome))),
        strings(rows.iter().map(|r| r.message.as_deref())),
    ]
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    let mut builder = TimestampNanosecondBuilder::new().with_timezone(STORED_ZONE);
    values.for_each(|v| builder.append_value(v));
    Arc::new(builder.finish())
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let mut builder = Int64Builder::new();
    values.for_each(|v| builder.append_option(v));
    Arc::new(builder.finish())
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut builder = StringBuilder::new();
    values.for_each(|v| builder.append_option(v));
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_per_table_that_has_rows() {
        let gap = Gap {
            from_ns: 5,
            until_ns: 9,
            cause: "dropped".into(),
            lost: Some(3),
            ..Gap::default()
        };
        let control = ControlEvent {
            time_ns: 7,
            pid: 42,
            action: "probe_add",
            outcome: "ok".into(),
            ..ControlEvent::default()
        };
        let made = batches(&[CoreRow::Gap(gap.clone()), CoreRow::Control(control), CoreRow::Gap(gap)]);
        let shape: Vec<_> = made.iter().map(|(i, b)| (*i, b.num_rows())).collect();
        assert_eq!(shape, [(1, 2), (3, 1)]);
        assert_eq!(made[0].1.schema(), core_tables::gap().arrow());
    }

    #[test]
    fn the_tables_are_all_of_them() {
        assert_eq!(tables().to_vec(), core_tables::all());
    }
}
