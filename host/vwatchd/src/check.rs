//! `vwatchd --check`: is what a start would need in order? Nothing is changed; plugins and store are looked at in child
//! processes.

use anyhow::Context;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use vwatch_config::{Config, Options, Place, nearest};
use vwatch_loader::{Loader, scan_dir};

/// Probes and the names of their options.
type Probes = BTreeMap<String, Vec<String>>;

/// What was found so far.
struct Report {
    good: bool,
}

impl Report {
    fn ok(&self, line: &str) {
        println!("ok      {line}");
    }

    fn note(&self, line: &str) {
        println!("note    {line}");
    }

    fn bad(&mut self, line: &str) {
        self.good = false;
        println!("WRONG   {line}");
    }
}

/// Prints what there is and what is wrong; true when nothing is.
pub fn report(config: &Config) -> anyhow::Result<bool> {
    let mut report = Report { good: true };
    match &config.file {
        Some(file) => report.ok(&format!("configuration {}", file.display())),
        None => report.note("no configuration file; defaults and flags hold"),
    }
    if config.remote_host.is_some() || config.cluster.is_some() {
        report.note("remote-host and the cluster document are not used: this version has no gateway");
    }
    store(config, &mut report)?;
    report.ok(&format!("samples are {}", config.keep.all));
    for (table, rules) in &config.keep.tables {
        report.ok(&format!("those of table {table} are {rules}"));
    }
    let probes = plugins(config, &mut report)?;
    sections(config, &probes, &mut report);
    if let Some(note) = vwatch_core::query_note() {
        report.bad(&note);
    }
    Ok(report.good)
}

fn store(config: &Config, report: &mut Report) -> anyhow::Result<()> {
    let path = &config.store;
    if !path.exists() {
        report.note(&format!("store {} is not there yet; a start makes it", path.display()));
        return Ok(());
    }
    if let Err(e) = vwatch_core::check_store(path) {
        report.bad(&e.to_string());
        return Ok(());
    }
    match vwatch_store::writer_pid(path).with_context(|| format!("store {}", path.display()))? {
        Some(pid) => report.note(&format!("store {} is being written by process {pid}", path.display())),
        None => report.ok(&format!("store {}", path.display())),
    }
    Ok(())
}

fn plugins(config: &Config, report: &mut Report) -> anyhow::Result<Probes> {
    let mut probes = Probes::new();
    let files = match scan_dir(&config.plugins) {
        Ok(files) => files,
        Err(e) => {
            report.bad(&e.to_string());
            return Ok(probes);
        }
    };
    if files.is_empty() {
        report.bad(&format!("there is no plugin in {}", config.plugins.display()));
    }
    for file in files {
        match try_plugin(&file)? {
            Ok(manifest) => {
                let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
                let name = text(&manifest, "name");
                report.ok(&format!(
                    "plugin {name} {} ({})",
                    text(&manifest, "version"),
                    file.display()
                ));
                for probe in manifest["probes"].as_array().into_iter().flatten() {
                    let options = probe["options"].as_array().into_iter().flatten();
                    let options = options.map(|option| text(option, "name")).collect();
                    probes.insert(format!("{name}.{}", text(probe, "name")), options);
                }
            }
            Err(why) => report.bad(&format!("plugin file {}: {why}", file.display())),
        }
    }
    Ok(probes)
}

/// The manifest that a plugin gives in a child, or why it is refused.
fn try_plugin(file: &Path) -> anyhow::Result<Result<Value, String>> {
    if let Err(refusal) = Loader::default().inspect(file) {
        return Ok(Err(format!("{}; {}", refusal.reason, refusal.hint)));
    }
    let child = Command::new("/proc/self/exe")
        .arg("--check-plugin")
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .context("start a child to try plugins")?;
    let Ok(document) = serde_json::from_slice::<Value>(&child.stdout) else {
        return Ok(Err(format!("it ends the process that loads it ({})", child.status)));
    };
    match document.get("refused") {
        Some(reason) => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Ok(Err(format!("{}; {}", text(reason), text(&document["hint"]))))
        }
        None => Ok(Ok(document)),
    }
}

/// Sections of the configuration that name probes and options.
fn sections(config: &Config, probes: &Probes, report: &mut Report) {
    for (probe, section) in &config.probes {
        section_of(probe, &section.place, &section.options, probes, report);
    }
    for section in &config.instances {
        section_of(&section.probe, &section.place, &section.options, probes, report);
    }
}

fn section_of(probe: &str, place: &Place, options: &Options, probes: &Probes, report: &mut Report) {
    let hint = |near: Option<String>| near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    let Some(known) = probes.get(probe) else {
        let near = hint(nearest(probe, probes.keys().map(String::as_str)));
        report.bad(&format!("{place}: no plugin has a probe {probe}{near}"));
        return;
    };
    for (option, place) in &options.places {
        if !known.contains(option) {
            let near = hint(nearest(option, known.iter().map(String::as_str)));
            report.bad(&format!("{place}: probe {probe} has no option {option}{near}"));
        }
    }
}

/// The child's half of the look at a store.
pub fn store_child(file: &Path) -> ExitCode {
    match vwatch_store::inspect(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
