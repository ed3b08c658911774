//! Which instances there are to be: those that manifests and configuration ask for, those added at run time, less those
//! that a person has removed.
//!
//! Layers, the later one wins by name: defaults of the plugins seen so far, `[[instance]]` sections, `probe add`. What is added or
//! removed at run time is a record in the store and outlives restarts.

mod spec;

pub use spec::{Origin, Record, Spec};

use crate::pipeline::{Ended, Pipeline};
use std::collections::{BTreeMap, BTreeSet};
use vwatch_config::Config;
use vwatch_loader::Manifest;
use vwatch_store::StoreError;

const ADDED: &str = "instance/";
const REMOVED: &str = "removed/";

/// What was changed at run time, and the defaults of plugins.
#[derive(Debug, Default)]
pub struct Instances {
    added: BTreeMap<String, Record>,
    removed: BTreeSet<String>,
    /// Probes of the plugins seen so far that run by default, and those that do not.
    probes: BTreeMap<String, bool>,
}

impl Instances {
    /// Takes in the store's records; answers the names of instances whose time has passed, to be forgotten.
    pub fn restore(&mut self, records: Vec<(String, String)>, now_ns: i64) -> Vec<String> {
        let mut over = Vec::new();
        for (record, json) in records {
            if let Some(name) = record.strip_prefix(REMOVED) {
                self.removed.insert(name.to_owned());
            } else if let Some(name) = record.strip_prefix(ADDED) {
                match serde_json::from_str::<Record>(&json) {
                    Ok(found) if found.until_ns.is_some_and(|until| until <= now_ns) => over.push(name.to_owned()),
                    Ok(found) => {
                        self.added.insert(name.to_owned(), found);
                    }
                    Err(e) => tracing::warn!("the store's record of instance {name} cannot be read: {e}"),
                }
            }
        }
        over
    }

    /// A plugin was loaded. Its probes stay known after it has gone, so that their instances wait for it.
    pub fn learn(&mut self, manifest: &Manifest) {
        let prefix = format!("{}.", manifest.name);
        self.probes.retain(|probe, _| !probe.starts_with(&prefix));
        for probe in &manifest.probes {
            self.probes.insert(format!("{prefix}{}", probe.name), probe.default_on);
        }
    }

    pub fn wanted(&self, config: &Config, now_ns: i64) -> Vec<Spec> {
        let mut wanted = self.given(config);
        wanted.retain(|name, _| !self.removed.contains(name));
        for (name, record) in &self.added {
            if record.until_ns.is_none_or(|until| until > now_ns) {
                wanted.insert(name.clone(), Spec::from_record(name, record.clone()));
            }
        }
        wanted.into_values().collect()
    }

    /// What manifests and configuration ask for.
    fn given(&self, config: &Config) -> BTreeMap<String, Spec> {
        let mut given = BTreeMap::new();
        for (probe, default_on) in &self.probes {
            let section = config.probes.get(probe);
            if section.and_then(|s| s.enabled).unwrap_or(*default_on) {
                given.insert(probe.clone(), Spec::default_of(probe, section));
            }
        }
        for section in &config.instances {
            given.insert(section.name.clone(), Spec::from_config(section));
        }
        given
    }

    /// An instance was added by a person; answers the records to be written. One that was removed before and is asked for with
    /// nothing of its own becomes again what manifest and configuration say.
    pub fn add(&mut self, spec: &Spec, config: &Config) -> Vec<(String, Option<String>)> {
        let name = spec.name.to_string();
        let mut records = Vec::new();
        if self.removed.remove(&name) {
            records.push((format!("{REMOVED}{name}"), None));
        }
        let record = spec.record();
        let plain = record.every_ns.is_none() && record.until_ns.is_none() && record.max_cpu.is_none();
        let given = self
            .given(config)
            .get(&name)
            .is_some_and(|given| given.probe == spec.probe);
        if plain && record.options.is_empty() && given {
            return records;
        }
        // A map of strings, numbers and options has a JSON form.
        let json = serde_json::to_string(&record).unwrap_or_default();
        records.push((format!("{ADDED}{name}"), Some(json)));
        self.added.insert(name, record);
        records
    }

    /// An instance was removed by a person; answers the records to be written.
    pub fn remove(&mut self, name: &str, config: &Config) -> Vec<(String, Option<String>)> {
        let mut records = Vec::new();
        if self.added.remove(name).is_some() {
            records.push((format!("{ADDED}{name}"), None));
        }
        if self.given(config).contains_key(name) && self.removed.insert(name.to_owned()) {
            records.push((format!("{REMOVED}{name}"), Some("{}".to_owned())));
        }
        records
    }
}

/// Writes records, and commits them at once.
pub fn save(pipeline: &Pipeline, records: Vec<(String, Option<String>)>) -> Result<Result<(), StoreError>, Ended> {
    if records.is_empty() {
        return Ok(Ok(()));
    }
    pipeline.ask(move |recording| {
        for (name, json) in &records {
            recording.put_record(name, json.as_deref())?;
        }
        recording.commit()
    })
}

/// The records that forget instances whose time has passed.
pub fn forget(names: Vec<String>) -> Vec<(String, Option<String>)> {
    names.into_iter().map(|name| (format!("{ADDED}{name}"), None)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;
    use std::time::Duration;
    use vwatch_config::{File, Overrides};
    use vwatch_loader::{Mode, ProbeEntry};
    use vwatch_model::control::AddProbe;

    fn config(text: &str) -> Config {
        let overrides = Overrides {
            store: Some("/s".into()),
            ..Overrides::default()
        };
        let file = File::parse(Path::new("t"), text).unwrap();
        let mut config = Config::load(&overrides, 0, |_| None).unwrap();
        (config.probes, config.instances) = (file.probes, file.instances);
        config
    }

    fn manifest() -> Manifest {
        let probe = |name: &str, default_on| ProbeEntry {
            name: name.into(),
            doc: String::new(),
            tables: Vec::new(),
            mode: Mode::Poll,
            every: Duration::from_secs(1),
            default_on,
            options: Vec::new(),
        };
        Manifest {
            name: "p".into(),
            version: "1".into(),
            doc: String::new(),
            tables: Vec::new(),
            probes: vec![probe("a", true), probe("b", true), probe("c", false)],
            subscribers: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn names(instances: &Instances, config: &Config) -> Vec<String> {
        instances
            .wanted(config, 0)
            .iter()
            .map(|s| format!("{} {}", s.name, s.origin.word()))
            .collect()
    }

    fn add(settings: serde_json::Value) -> Spec {
        let request = AddProbe {
            probe: "p.a".into(),
            settings: settings.as_object().cloned().unwrap(),
        };
        Spec::from_add(&request, 0).unwrap()
    }

    #[test]
    fn layers() {
        let config = config(
            "[probe.\"p.b\"]\nenabled = false\n[probe.\"p.c\"]\nenabled = true\n[[instance]]\nprobe = \"p.a\"\nname = \"x\"",
        );
        let mut instances = Instances::default();
        instances.learn(&manifest());
        assert_eq!(names(&instances, &config), ["p.a default", "p.c default", "x config"]);
        instances.add(&add(json!({"name": "y", "every": "5s"})), &config);
        assert_eq!(
            names(&instances, &config),
            ["p.a default", "p.c default", "x config", "y added"]
        );
    }

    #[test]
    fn what_a_person_removes_stays_removed_until_added_again() {
        let config = config("");
        let mut instances = Instances::default();
        instances.learn(&manifest());
        let mut records: BTreeMap<String, Option<String>> = instances.remove("p.a", &config).into_iter().collect();
        assert_eq!(names(&instances, &config), ["p.b default"]);
        // After a restart too.
        let mut later = Instances::default();
        later.learn(&manifest());
        let kept = records.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?)));
        assert!(later.restore(kept.collect(), 0).is_empty());
        assert_eq!(names(&later, &config), ["p.b default"]);
        records.extend(later.add(&add(json!({"name": "p.a"})), &config));
        assert_eq!(names(&later, &config), ["p.a default", "p.b default"]);
        assert!(
            records.values().all(Option::is_none),
            "nothing is left of it: {records:?}"
        );
        // With settings of its own it shadows the default, and removing it removes both.
        later.add(&add(json!({"name": "p.a", "every": "5s"})), &config);
        assert_eq!(names(&later, &config), ["p.a added", "p.b default"]);
        assert_eq!(later.remove("p.a", &config).len(), 2);
        assert_eq!(names(&later, &config), ["p.b default"]);
    }

    #[test]
    fn limited_instances_are_forgotten() {
        let mut instances = Instances::default();
        let record = serde_json::to_string(&add(json!({"for": "1s"})).record()).unwrap();
        let over = instances.restore(vec![("instance/z".into(), record.clone())], 5_000_000_000);
        assert_eq!(over, ["z"]);
        assert!(instances.restore(vec![("instance/z".into(), record)], 5).is_empty());
        assert_eq!(instances.wanted(&config(""), 10).len(), 1);
        assert_eq!(instances.wanted(&config(""), 5_000_000_000).len(), 0);
    }
}
