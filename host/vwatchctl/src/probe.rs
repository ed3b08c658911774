//! `vwatchctl probe …`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use vwatch_model::control::{AddProbe, AvailableProbe, Instance};
use vwatch_model::table::{Column, ColumnType};
use vwatch_model::time::format_ns;

use crate::cli::Probe;
use crate::context::{Context, started};
use crate::failure::{Failed, Outcome, say};
use crate::listing::{Listing, clean, every, human_cpu, key_values, print_list, print_one, print_text};

pub async fn run(context: &Context, command: Probe) -> Result<Outcome, Failed> {
    let control = context.control()?;
    match command {
        Probe::List { available: true } => {
            let probes = control.available_probes().await?;
            if context.is_for_people() {
                print_text(&available_text(&probes))?;
            } else {
                print_list(context, &probes, available_listing)?;
            }
        }
        Probe::List { available: false } => {
            let instances = control.instances().await?;
            print_list(context, &instances, |i| listing(i, context.is_for_people()))?;
        }
        Probe::Add { probe, settings } => {
            let settings = distinct(settings)?;
            let instance = control.add_probe(&AddProbe { probe, settings }).await?;
            changed(context, "added", &instance)?;
        }
        Probe::Remove { name } => {
            let instance = control.remove_probe(&name).await?;
            changed(context, "removed", &instance)?;
        }
        Probe::Show { name } => {
            let instance = control.instance(&name).await?;
            print_one(context, &instance, text, |i| listing(i, false))?;
        }
    }
    Ok(Outcome::Done)
}

/// The settings as a document; one that stands twice is a mistake, not a choice.
fn distinct(settings: Vec<(String, String)>) -> Result<Map<String, Value>, Failed> {
    let mut map = Map::new();
    for (key, value) in settings {
        if map.insert(key.clone(), Value::String(value)).is_some() {
            return Err(Failed::Usage {
                message: format!("{key} is set twice"),
                hint: None,
            });
        }
    }
    Ok(map)
}

fn changed(context: &Context, done: &str, instance: &Instance) -> Result<(), Failed> {
    if !context.is_for_people() {
        print_list(context, std::slice::from_ref(instance), |i| listing(i, false))?;
    }
    let pace = instance
        .every_ms
        .map(|ms| format!(", every {}", every(ms)))
        .unwrap_or_default();
    let reason = match (done, &instance.reason) {
        ("added", Some(reason)) => format!(": {}: {}", instance.state, clean(reason)),
        _ => String::new(),
    };
    say(&format!(
        "{done} {} ({}{pace}){reason}\n",
        clean(&instance.name),
        clean(&instance.probe)
    ));
    Ok(())
}

/// With figures for people (`1s`, `85 us`), or with the figures themselves.
fn listing(instances: &[Instance], readable: bool) -> Listing {
    use ColumnType::*;
    let (pace, cost) = match readable {
        true => (("every", String), ("cpu/run", String)),
        false => (("every_ms", U64), ("cpu_us_per_run", F64)),
    };
    let columns = [
        ("name", String),
        ("probe", String),
        ("state", String),
        pace,
        ("runs", U64),
        ("missed", U64),
        ("rows", U64),
        cost,
        ("reason", String),
    ];
    Listing {
        columns: columns.map(|(name, kind)| Column::new(name, kind, "")).to_vec(),
        rows: instances.iter().map(row).collect(),
    }
}

fn row(i: &Instance) -> Map<String, Value> {
    let row = json!({
        "name": i.name, "probe": i.probe, "state": i.state, "every_ms": i.every_ms,
        "every": i.every_ms.map(every), "runs": i.runs, "missed": i.missed, "rows": i.rows,
        "cpu_us_per_run": i.cpu_us_per_run, "cpu/run": i.cpu_us_per_run.map(human_cpu), "reason": i.reason,
    });
    row.as_object().cloned().unwrap_or_default()
}

fn text(i: &Instance) -> String {
    let zone = started().time_zone();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let options: Vec<String> = i
        .options
        .iter()
        .map(|(key, value)| format!("{key}={}", word(value)))
        .collect();
    let mut pairs = vec![
        ("name", i.name.clone()),
        ("probe", i.probe.clone()),
        ("state", i.state.clone()),
    ];
    if let Some(reason) = &i.reason {
        pairs.push(("reason", reason.clone()));
    }
    pairs.extend([
        ("every", or_none(i.every_ms.map(every))),
        ("until", or_none(i.until_ns.map(|ns| format_ns(ns, zone)))),
        ("max_cpu", or_none(i.max_cpu.map(|share| format!("{}%", share * 100.0)))),
        ("options", or_none((!options.is_empty()).then(|| options.join(" ")))),
        ("tables", i.tables.join(", ")),
        ("origin", i.origin.clone()),
        (
            "runs",
            format!("{} ({} failed, {} missed)", i.runs, i.failures, i.missed),
        ),
        ("rows", i.rows.to_string()),
        ("cpu/run", or_none(i.cpu_us_per_run.map(human_cpu))),
        ("last run", or_none(i.last_run_ns.map(|ns| format_ns(ns, zone)))),
        ("last rows", or_none(i.last_rows.map(|n| n.to_string()))),
    ]);
    key_values(&pairs)
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One paragraph per probe: what it is, what it fills, how it can be set.
fn available_text(probes: &[AvailableProbe]) -> String {
    let mut text = String::new();
    for (n, probe) in probes.iter().enumerate() {
        text.push_str(if n > 0 { "\n" } else { "" });
        let pace = probe
            .every_ms
            .map(|ms| format!(", every {}", every(ms)))
            .unwrap_or_default();
        let on = if probe.default_on {
            "on by default"
        } else {
            "off by default"
        };
        let _ = writeln!(text, "{}  ({}{pace}, {on})", clean(&probe.probe), clean(&probe.mode));
        let _ = writeln!(text, "    {}", clean(&probe.doc));
        let _ = writeln!(text, "    tables: {}", clean(&probe.tables.join(", ")));
        let width = probe.options.iter().map(|o| o.name.len()).max().unwrap_or(0);
        for option in &probe.options {
            let default = match (&option.default, option.required) {
                (_, true) => ", required".to_owned(),
                (Value::Null, false) => String::new(),
                (value, false) => format!(", default {}", word(value)),
            };
            let (name, kind, doc) = (clean(&option.name), clean(&option.kind), clean(&option.doc));
            let _ = writeln!(text, "    {name:width$}  {doc} ({kind}{})", clean(&default));
        }
    }
    text
}

fn available_listing(probes: &[AvailableProbe]) -> Listing {
    use ColumnType::*;
    let columns = [
        ("probe", String),
        ("mode", String),
        ("every_ms", U64),
        ("default_on", Bool),
        ("tables", String),
        ("options", String),
        ("doc", String),
    ];
    let row = |p: &AvailableProbe| {
        let options: Vec<&str> = p.options.iter().map(|o| o.name.as_str()).collect();
        let row = json!({
            "probe": p.probe, "mode": p.mode, "every_ms": p.every_ms, "default_on": p.default_on,
            "tables": p.tables.join(", "), "options": options.join(", "), "doc": p.doc,
        });
        row.as_object().cloned().unwrap_or_default()
    };
    Listing {
        columns: columns.map(|(name, kind)| Column::new(name, kind, "")).to_vec(),
        rows: probes.iter().map(row).collect(),
    }
}
