//! `vwatchctl plugin …`.

use std::path::Path;

use serde_json::{Map, Value, json};
use vwatch_model::control::Plugin;
use vwatch_model::table::{Column, ColumnType};

use crate::cli;
use crate::context::Context;
use crate::failure::{Failed, Outcome, say};
use crate::listing::{Listing, clean, print_list};

pub async fn run(context: &Context, command: cli::Plugin) -> Result<Outcome, Failed> {
    let control = context.control()?;
    let (done, plugins) = match command {
        cli::Plugin::List => ("", control.plugins().await?),
        cli::Plugin::Load { file } => {
            // The daemon has another working directory.
            let path = std::path::absolute(&file).map_err(|e| Failed::because(format!("{}: {e}", file.display())))?;
            let path = path
                .to_str()
                .ok_or_else(|| Failed::because(format!("{}: the name of the file is not UTF-8", file.display())))?;
            ("loaded", control.load_plugin(path).await?)
        }
        cli::Plugin::Unload { name } => ("unloaded", control.unload_plugin(&name).await?),
        cli::Plugin::Reload { name } => ("reloaded", control.reload_plugin(&name).await?),
    };
    if done.is_empty() {
        print_list(context, &plugins, |p| listing(p, context.is_for_people()))?;
        return Ok(Outcome::Done);
    }
    changed(context, done, &plugins)
}

/// What became of the plugins concerned. One that was refused is a failure.
fn changed(context: &Context, done: &str, plugins: &[Plugin]) -> Result<Outcome, Failed> {
    if !context.is_for_people() {
        print_list(context, plugins, |p| listing(p, false))?;
    }
    for plugin in plugins {
        let name = clean(if plugin.name.is_empty() {
            &plugin.file
        } else {
            &plugin.name
        });
        if plugin.state == "refused" {
            return Err(Failed::Because {
                message: match &plugin.reason {
                    Some(reason) => format!("{name} was refused: {}", clean(reason)),
                    None => format!("{name} was refused"),
                },
                hint: plugin.hint.clone(),
            });
        }
        let probes = plugin.probes.join(", ");
        say(&format!("{done} {name} {} ({probes})\n", clean(&plugin.version)));
    }
    Ok(Outcome::Done)
}

/// Whole paths in the forms for programs; for people they stand with the reason, where they matter.
fn listing(plugins: &[Plugin], readable: bool) -> Listing {
    use ColumnType::*;
    let columns = [
        ("name", String),
        ("version", String),
        ("state", String),
        ("since", Timestamp),
        ("file", String),
        ("probes", String),
        ("reason", String),
    ];
    Listing {
        columns: columns.map(|(name, kind)| Column::new(name, kind, "")).to_vec(),
        rows: plugins.iter().map(|p| row(p, readable)).collect(),
    }
}

fn row(plugin: &Plugin, readable: bool) -> Map<String, Value> {
    // What to do stands with the reason: nobody looks for it elsewhere.
    let place = if readable {
        format!("{}: ", plugin.file)
    } else {
        String::new()
    };
    let reason = match (&plugin.reason, &plugin.hint) {
        (Some(reason), Some(hint)) => Some(format!("{place}{reason}; {hint}")),
        (Some(reason), None) => Some(format!("{place}{reason}")),
        (None, _) => None,
    };
    let name = (!plugin.name.is_empty()).then_some(&plugin.name);
    let version = (!plugin.version.is_empty()).then_some(&plugin.version);
    let file = match Path::new(&plugin.file).file_name() {
        Some(file) if readable => file.to_string_lossy().into_owned(),
        _ => plugin.file.clone(),
    };
    let row = json!({
        "name": name, "version": version, "state": plugin.state, "since": plugin.since_ns, "file": file,
        "probes": plugin.probes.join(", "), "reason": reason,
    });
    row.as_object().cloned().unwrap_or_default()
}
