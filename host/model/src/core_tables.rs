//! The tables that the recorder itself fills: event tables under the instance [`INSTANCE_NAME`].

use crate::table::{Access, Column, ColumnType::*, TableKind, TableSchema};

/// Instance of every row of these tables.
pub const INSTANCE_NAME: &str = "core";

fn event(name: &str, doc: &str, columns: Vec<Column>) -> TableSchema {
    TableSchema {
        name: name.into(),
        kind: TableKind::Event,
        doc: doc.into(),
        access: Access::All,
        columns,
    }
}

fn time(doc: &str) -> Column {
    Column::new("time", Timestamp, doc)
}

/// One row per run of a polled probe.
pub fn probe_run() -> TableSchema {
    event(
        "probe_run",
        "One row per run of a probe: what it cost and what came of it. Source: the scheduler's own clocks.",
        vec![
            time("When the run began."),
            Column::new("probe_instance", String, "Instance that ran."),
            Column::new("probe", String, "PLUGIN.PROBE."),
            Column::new("late_ns", I64, "How long after its due time the run began.").unit("ns"),
            Column::new("duration_ns", I64, "Wall time of the run.").unit("ns"),
            Column::new("cpu_ns", I64, "CPU time of the run, user and system.").unit("ns"),
            Column::new("rows", I64, "Rows handed over."),
            Column::new("bytes", I64, "Bytes of Arrow buffers handed over.").unit("bytes"),
            Column::new(
                "outcome",
                String,
                "ok, no_data, unsupported, denied, failed, panicked, timeout.",
            ),
            Column::new("message", String, "Why, when the outcome is not ok.").nullable(),
        ],
    )
}

/// Every recorded loss.
pub fn gap() -> TableSchema {
    event(
        "gap",
        "Recorded losses: times when nothing was recorded, ticks that were missed, rows that were dropped.",
        vec![
            time("When the loss began."),
            Column::new("until", Timestamp, "When it ended."),
            Column::new("probe_instance", String, "Instance concerned; NULL for all.").nullable(),
            Column::new("table_name", String, "Table concerned; NULL for all of the instance.").nullable(),
            Column::new(
                "cause",
                String,
                "stopped, killed, rebooted, suspended, disk_full, store_error, missed_tick, quarantined, dropped, clock_step, removed.",
            ),
            Column::new("lost", I64, "Rows or ticks lost; NULL when unknown.").nullable(),
            Column::new("message", String, "The same in words.").nullable(),
        ],
    )
}

/// Plugins coming and going.
pub fn plugin_event() -> TableSchema {
    event(
        "plugin_event",
        "Plugins loaded, replaced, unloaded and refused.",
        vec![
            time("When it happened."),
            Column::new("plugin", String, "Name of the plugin; NULL when it could not be known.").nullable(),
            Column::new("version", String, "The plugin's own version.").nullable(),
            Column::new("file", String, "Path of the file."),
            Column::new("event", String, "loaded, replaced, unloaded, refused, removed."),
            Column::new("message", String, "Why.").nullable(),
        ],
    )
}

/// Every control action, with who asked.
pub fn control_event() -> TableSchema {
    event(
        "control_event",
        "Audit: every control action with the peer credentials of who asked for it.",
        vec![
            time("When it was asked."),
            Column::new("uid", U32, "User of the client."),
            Column::new("gid", U32, "Group of the client."),
            Column::new("pid", I32, "Process of the client."),
            Column::new("comm", String, "Command name of that process, as it was then.").nullable(),
            Column::new(
                "action",
                String,
                "probe_add, probe_remove, plugin_load, plugin_unload, plugin_reload, command, reload, start, stop.",
            ),
            Column::new("target", String, "What it was done to.").nullable(),
            Column::new("detail", String, "The request as JSON.").nullable(),
            Column::new("outcome", String, "ok, or the kind of the error."),
            Column::new("message", String, "The error.").nullable(),
        ],
    )
}

/// All of them.
pub fn all() -> Vec<TableSchema> {
    vec![probe_run(), gap(), plugin_event(), control_event()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn declarations_keep_the_rules() {
        for table in super::all() {
            assert_eq!(table.check(), Ok(()), "{}", table.name);
        }
    }
}
