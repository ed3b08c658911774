//! Section `[store]`: how long samples are kept, what they may take, and how they are thinned out with age.

use crate::error::ConfigError;
use crate::table::Table;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use vwatch_model::{name, unit};

const DAY: Duration = Duration::from_secs(86400);

/// What is kept of all tables, and of single ones where they differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keep {
    pub all: KeepRules,
    pub tables: BTreeMap<String, KeepRules>,
}

/// None: as for all tables, or the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeepRules {
    pub keep: Option<Limit<Duration>>,
    pub max_bytes: Option<Limit<Size>>,
    pub thin: Option<Vec<ThinStep>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit<T> {
    At(T),
    /// The word `unlimited`.
    None,
}

impl<T> Limit<T> {
    pub fn value(self) -> Option<T> {
        match self {
            Limit::At(value) => Some(value),
            Limit::None => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    Bytes(u64),
    /// Of the file system that the store lies in.
    Share(f64),
}

/// Of samples older than `after`, one in each step of `every` is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThinStep {
    pub after: Duration,
    pub every: Duration,
}

impl Keep {
    /// With the built-in defaults where the file says nothing of all tables.
    pub(crate) fn or_default(mut self) -> Keep {
        let all = &mut self.all;
        all.keep.get_or_insert(Limit::At(30 * DAY));
        all.max_bytes.get_or_insert(Limit::At(Size::Share(0.1)));
        all.thin.get_or_insert_with(|| {
            let step = |days, every| ThinStep {
                after: days * DAY,
                every: Duration::from_secs(every),
            };
            vec![step(1, 10), step(7, 60)]
        });
        self
    }
}

impl std::fmt::Display for KeepRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        match self.keep {
            Some(Limit::At(keep)) => parts.push(format!("kept for {}", unit::format_duration(keep))),
            Some(Limit::None) => parts.push("kept for ever".to_owned()),
            None => {}
        }
        match self.max_bytes {
            Some(Limit::At(Size::Bytes(bytes))) => parts.push(format!("at most {bytes} bytes")),
            Some(Limit::At(Size::Share(share))) => parts.push(format!("at most {}% of the disk", share * 100.0)),
            Some(Limit::None) => parts.push("of any size".to_owned()),
            None => {}
        }
        for step in self.thin.iter().flatten() {
            let (after, every) = (unit::format_duration(step.after), unit::format_duration(step.every));
            parts.push(format!("after {after} one sample in {every}"));
        }
        if self.thin.as_ref().is_some_and(Vec::is_empty) {
            parts.push("never thinned".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

/// What `store` says: the path alone, or a section.
#[derive(Debug, Default)]
pub(crate) struct StoreSection {
    pub path: Option<PathBuf>,
    pub keep: Keep,
}

pub(crate) fn store(top: &mut Table<'_>) -> Result<StoreSection, ConfigError> {
    if !top.is_table("store") {
        let path = crate::file::path_of(top, "store")?;
        return Ok(StoreSection {
            path,
            ..StoreSection::default()
        });
    }
    let mut out = StoreSection::default();
    let Some(mut section) = top.table("store")? else {
        return Ok(out);
    };
    out.path = crate::file::path_of(&mut section, "path")?;
    out.keep.all = rules(&mut section, true)?;
    if let Some(tables) = section.table("table")? {
        for entry in tables.entries() {
            let (table, mut section) = entry?;
            if !name::is_identifier(&table) {
                return Err(ConfigError::BadValue {
                    place: section.place(),
                    key: "table".to_owned(),
                    message: format!("{table:?} is not a table's name"),
                });
            }
            out.keep.tables.insert(table, rules(&mut section, false)?);
            section.end()?;
        }
    }
    section.end()?;
    Ok(out)
}

fn rules(section: &mut Table<'_>, all: bool) -> Result<KeepRules, ConfigError> {
    let size = |text: &str| limit(text, |text| size(text, all));
    Ok(KeepRules {
        keep: section.parsed("keep", |text| limit(text, keep))?,
        max_bytes: section.parsed("max_bytes", size)?,
        thin: match section.has("thin") {
            false => None,
            true => Some(thin(section)?),
        },
    })
}

fn limit<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
    match text {
        "unlimited" => Ok(Limit::None),
        text => read(text).map(Limit::At),
    }
}

fn keep(text: &str) -> Result<Duration, String> {
    let keep = unit::parse_duration(text).map_err(|e| e.to_string())?;
    if keep < Duration::from_secs(600) {
        return Err(format!("{text:?} is less than 10m"));
    }
    Ok(keep)
}

fn size(text: &str, all: bool) -> Result<Size, String> {
    if all && text.ends_with('%') {
        let share = unit::parse_percent(text).map_err(|_| format!("{text:?} is not a share of the disk: 10%"))?;
        return match share <= 0.95 {
            true => Ok(Size::Share(share)),
            false => Err(format!("{text:?} is more than 95%")),
        };
    }
    let least = if all { 16 << 20 } else { 64 << 10 };
    let word = if all { "16MiB" } else { "64KiB" };
    crate::file::at_least(unit::parse_bytes(text), text, least, word).map(Size::Bytes)
}

fn thin(section: &mut Table<'_>) -> Result<Vec<ThinStep>, ConfigError> {
    let mut steps: Vec<ThinStep> = Vec::new();
    for mut table in section.tables("thin")? {
        let place = table.place();
        let missing = |key| ConfigError::Missing {
            place: place.clone(),
            within: "a step of thin".to_owned(),
            key,
        };
        let step = ThinStep {
            after: table.parsed("after", keep)?.ok_or_else(|| missing("after"))?,
            every: table
                .parsed("every", crate::file::interval)?
                .ok_or_else(|| missing("every"))?,
        };
        table.end()?;
        if steps
            .last()
            .is_some_and(|last| last.after >= step.after || last.every >= step.every)
        {
            return Err(ConfigError::BadValue {
                place,
                key: "thin".to_owned(),
                message: "each step is later and wider than the one before".to_owned(),
            });
        }
        steps.push(step);
    }
    Ok(steps)
}
