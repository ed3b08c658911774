//! `vwatchctl status`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use vwatch_model::control::Status;
use vwatch_model::table::{Column, ColumnType};
use vwatch_model::time::format_ns;

use crate::context::{Context, started};
use crate::failure::{Failed, Outcome};
use crate::listing::{Listing, human_bytes, human_span, key_values, print_one};

pub async fn run(context: &Context) -> Result<Outcome, Failed> {
    let status = context.control()?.status().await?;
    print_one(context, &status, text, listing)?;
    Ok(Outcome::Done)
}

fn text(status: &Status) -> String {
    let zone = started().time_zone();
    let now_ns = started().timestamp().as_nanosecond();
    let up = Duration::from_nanos(u64::try_from(now_ns - i128::from(status.started_ns)).unwrap_or(0));
    let time = |ns: Option<i64>| ns.map_or("nothing yet".to_owned(), |ns| format_ns(ns, zone));
    let recorded = match (status.store.first_ns, status.store.last_ns) {
        (None, None) => "nothing yet".to_owned(),
        (first, last) => format!("{} to {}", time(first), time(last)),
    };
    let state = match &status.store.paused {
        Some(reason) => format!("PAUSED: {reason}"),
        None => "recording".to_owned(),
    };
    let refused = match status.plugins_refused {
        0 => String::new(),
        n => format!(", {n} refused (vwatchctl plugin list says why)"),
    };
    let troubled = match status.instances_troubled {
        0 => String::new(),
        n => format!(", {n} not running (vwatchctl probe list says why)"),
    };
    let mut pairs = vec![
        ("state", state),
        (
            "vwatchd",
            format!("{}, pid {}, uid {}", status.version, status.pid, status.uid),
        ),
        (
            "started",
            format!("{} ({} ago)", format_ns(status.started_ns, zone), human_span(up)),
        ),
        (
            "store",
            format!("{} ({})", status.store.path, human_bytes(status.store.file_bytes)),
        ),
        ("recorded", recorded),
        ("commits", format!("{} since the start", status.store.commits)),
        (
            "plugins",
            format!("{} loaded{refused} from {}", status.plugins_loaded, status.plugins_dir),
        ),
        ("probes", format!("{} instances{troubled}", status.instances)),
        ("cost", cost(status, up)),
        (
            "config",
            status.config_file.clone().unwrap_or_else(|| "defaults".to_owned()),
        ),
        ("control", status.control_socket.clone()),
        ("queries", status.query_socket.clone()),
    ];
    pairs.extend(status.notes.iter().map(|note| ("note", note.clone())));
    key_values(&pairs)
}

fn cost(status: &Status, up: Duration) -> String {
    let cpu = Duration::from_nanos(u64::try_from(status.cpu_ns).unwrap_or(0));
    let rss = human_bytes(u64::try_from(status.rss_bytes).unwrap_or(0));
    let share = match up.is_zero() {
        true => String::new(),
        false => format!(" ({:.2} % of one)", 100.0 * cpu.as_secs_f64() / up.as_secs_f64()),
    };
    format!("{} of CPU{share}, {rss} of memory", human_span(cpu))
}

fn listing(items: &[Status]) -> Listing {
    use ColumnType::*;
    let columns = [
        ("version", String),
        ("pid", I32),
        ("uid", U32),
        ("started", Timestamp),
        ("store", String),
        ("store_bytes", U64),
        ("first", Timestamp),
        ("last", Timestamp),
        ("commits", U64),
        ("paused", String),
        ("plugins_loaded", U64),
        ("plugins_refused", U64),
        ("instances", U64),
        ("instances_troubled", U64),
        ("cpu_ns", I64),
        ("rss_bytes", I64),
    ];
    Listing {
        columns: columns.map(|(name, kind)| Column::new(name, kind, "")).to_vec(),
        rows: items.iter().map(row).collect(),
    }
}

fn row(s: &Status) -> Map<String, Value> {
    let row = json!({
        "version": s.version, "pid": s.pid, "uid": s.uid, "started": s.started_ns, "store": s.store.path,
        "store_bytes": s.store.file_bytes, "first": s.store.first_ns, "last": s.store.last_ns,
        "commits": s.store.commits, "paused": s.store.paused, "plugins_loaded": s.plugins_loaded,
        "plugins_refused": s.plugins_refused, "instances": s.instances,
        "instances_troubled": s.instances_troubled, "cpu_ns": s.cpu_ns, "rss_bytes": s.rss_bytes,
    });
    row.as_object().cloned().unwrap_or_default()
}
