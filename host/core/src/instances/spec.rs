//! What an instance is to be: from a manifest's default, the configuration, `probe add`, or a plugin.

use crate::error::Refused;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vwatch_config::{InstanceSection, Place, ProbeSection};
use vwatch_loader::InstanceSpec;
use vwatch_model::control::AddProbe;
use vwatch_model::{name, unit};

/// Intervals that are accepted.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    Config,
    Added,
    /// Started by this plugin.
    Plugin(String),
}

impl Origin {
    pub fn word(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Config => "config",
            Origin::Added => "added",
            Origin::Plugin(_) => "plugin",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Spec {
    pub name: Arc<str>,
    /// `PLUGIN.PROBE`
    pub probe: Arc<str>,
    /// None: as the manifest says.
    pub every: Option<Duration>,
    /// When it ends by itself, wall clock.
    pub until_ns: Option<i64>,
    /// Share of one CPU.
    pub max_cpu: Option<f64>,
    /// As a person wrote them.
    pub options: Map<String, Value>,
    /// Where they stand in the configuration.
    pub places: BTreeMap<String, Place>,
    pub origin: Origin,
}

/// The durable form of an instance that was added at run time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub probe: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu: Option<f64>,
    #[serde(default)]
    pub options: Map<String, Value>,
}

impl Spec {
    pub fn plugin(&self) -> &str {
        self.probe.split_once('.').map_or("", |(plugin, _)| plugin)
    }

    pub fn probe_name(&self) -> &str {
        self.probe.split_once('.').map_or("", |(_, probe)| probe)
    }

    /// The default instance of a probe, with the configuration's settings for it.
    pub fn default_of(probe: &str, section: Option<&ProbeSection>) -> Spec {
        let section = section.cloned().unwrap_or_default();
        Spec {
            name: probe.into(),
            probe: probe.into(),
            every: section.every,
            until_ns: None,
            max_cpu: section.max_cpu,
            options: section.options.values,
            places: section.options.places,
            origin: Origin::Default,
        }
    }

    pub fn from_config(section: &InstanceSection) -> Spec {
        Spec {
            name: section.name.as_str().into(),
            probe: section.probe.as_str().into(),
            every: section.every,
            until_ns: None,
            max_cpu: section.max_cpu,
            options: section.options.values.clone(),
            places: section.options.places.clone(),
            origin: Origin::Config,
        }
    }

    pub fn from_record(name: &str, record: Record) -> Spec {
        Spec {
            name: name.into(),
            probe: record.probe.as_str().into(),
            every: record.every_ns.map(Duration::from_nanos),
            until_ns: record.until_ns,
            max_cpu: record.max_cpu,
            options: record.options,
            places: BTreeMap::new(),
            origin: Origin::Added,
        }
    }

    pub fn record(&self) -> Record {
        Record {
            probe: self.probe.to_string(),
            every_ns: self.every.and_then(|e| u64::try_from(e.as_nanos()).ok()),
            until_ns: self.until_ns,
            max_cpu: self.max_cpu,
            options: self.options.clone(),
        }
    }

    /// Reads `probe add PLUGIN.PROBE KEY=VALUE…`. The name is empty when none was given.
    pub fn from_add(request: &AddProbe, now_ns: i64) -> Result<Spec, Refused> {
        let mut options = request.settings.clone();
        let mut take = |key: &str| -> Result<Option<String>, Refused> {
            match options.remove(key) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text)),
                Some(other) => Err(Refused::bad_input(format!("{key} must be a string, not {other}"))),
            }
        };
        let every = take("every")?.map(|text| duration("every", &text)).transpose()?;
        if let Some(every) = every {
            check_every(every)?;
        }
        let until = take("for")?.map(|text| duration("for", &text)).transpose()?;
        let max_cpu = take("max_cpu")?
            .map(|text| unit::parse_percent(&text).map_err(|e| Refused::bad_input(format!("max_cpu: {e}"))))
            .transpose()?;
        let name = take("name")?.unwrap_or_default();
        if !name.is_empty() {
            check_name(&name)?;
        }
        Ok(Spec {
            name: name.into(),
            probe: request.probe.as_str().into(),
            every,
            until_ns: until.map(|time| after(now_ns, time)),
            max_cpu,
            options,
            places: BTreeMap::new(),
            origin: Origin::Added,
        })
    }

    /// Reads what a plugin asks for. The name is empty when it leaves that to the host.
    pub fn from_plugin(plugin: &str, spec: InstanceSpec, now_ns: i64) -> Result<Spec, Refused> {
        let every = spec.every_ms.map(Duration::from_millis);
        if let Some(every) = every {
            check_every(every)?;
        }
        if !spec.name.is_empty() {
            check_name(&spec.name)?;
        }
        Ok(Spec {
            name: spec.name.into(),
            probe: spec.probe.into(),
            every,
            until_ns: spec.for_ms.map(|ms| after(now_ns, Duration::from_millis(ms))),
            max_cpu: None,
            options: spec.options,
            places: BTreeMap::new(),
            origin: Origin::Plugin(plugin.to_owned()),
        })
    }

    /// An instance of one need not be opened again to become the other.
    pub fn runs_like(&self, other: &Spec) -> bool {
        self.probe == other.probe
            && self.every == other.every
            && self.max_cpu == other.max_cpu
            && self.options == other.options
    }
}

fn duration(key: &str, text: &str) -> Result<Duration, Refused> {
    match unit::parse_duration(text) {
        Ok(Duration::ZERO) => Err(Refused::bad_input(format!("{key}: {text:?} is no time at all"))),
        Ok(duration) => Ok(duration),
        Err(e) => Err(Refused::bad_input(format!("{key}: {e}"))),
    }
}

fn check_every(every: Duration) -> Result<(), Refused> {
    if EVERY.contains(&every) {
        return Ok(());
    }
    let text = unit::format_duration(every);
    Err(Refused::bad_input(format!("every: {text} is not between 1ms and 7d")))
}

fn check_name(name: &str) -> Result<(), Refused> {
    if name::is_instance_name(name) && name != vwatch_model::core_tables::INSTANCE_NAME {
        return Ok(());
    }
    Err(Refused::bad_input(format!("{name:?} cannot be an instance's name"))
        .hint("letters, digits and _.:@-, beginning with a letter or digit; \"core\" is the recorder's own"))
}

fn after(now_ns: i64, time: Duration) -> i64 {
    now_ns.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn add(settings: Value) -> Result<Spec, Refused> {
        let request = AddProbe {
            probe: "process.process".into(),
            settings: settings.as_object().cloned().unwrap_or_default(),
        };
        Spec::from_add(&request, 1_000)
    }

    #[test]
    fn reserved_keys_are_the_hosts() {
        let spec = add(json!({"every": "250ms", "name": "fast", "for": "10s", "max_cpu": "2%", "pid": 7})).unwrap();
        assert_eq!(&*spec.name, "fast");
        assert_eq!(spec.every, Some(Duration::from_millis(250)));
        assert_eq!(spec.until_ns, Some(10_000_001_000));
        assert_eq!(spec.max_cpu, Some(0.02));
        assert_eq!(Value::Object(spec.options.clone()), json!({"pid": 7}));
        assert_eq!((spec.plugin(), spec.probe_name()), ("process", "process"));
        assert!(Spec::from_record("fast", spec.record()).runs_like(&spec));
    }

    #[test]
    fn wrong_settings_are_named() {
        let check = |settings: Value, part: &str| {
            let message = add(settings).unwrap_err().message;
            assert!(message.contains(part), "{message}");
        };
        check(json!({"every": "soon"}), "every: \"soon\" is not a duration");
        check(json!({"every": "0s"}), "no time at all");
        check(json!({"every": "1us"}), "every: 1us is not between");
        check(json!({"every": 5}), "every must be a string, not 5");
        check(json!({"name": "-x"}), "cannot be an instance's name");
        check(json!({"name": "core"}), "cannot be an instance's name");
        check(json!({"max_cpu": "1"}), "max_cpu: \"1\" is not a share");
    }
}
