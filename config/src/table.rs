//! A TOML table read key by key: each key is asked for by name and type, and what was never asked for is an error.

use crate::error::{ConfigError, Place, nearest};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Text and name of the file, for places.
#[derive(Clone, Copy)]
pub struct Source<'t> {
    pub file: &'t Path,
    pub text: &'t str,
}

impl Source<'_> {
    pub fn place(&self, span: Range<usize>) -> Place {
        Place::at(self.file, self.text, span.start)
    }
}

/// A table under reading.
pub struct Table<'t> {
    source: Source<'t>,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    /// For messages: `in [query]`, or `at the top of the file`.
    within: String,
    known: BTreeSet<&'static str>,
}

/// A value and where it stands.
pub type Found<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Table<'t> {
    pub fn new(source: Source<'t>, table: &'t DeTable<'t>, span: Range<usize>, within: String) -> Self {
        Table {
            source,
            table,
            span,
            within,
            known: BTreeSet::new(),
        }
    }

    pub fn place(&self) -> Place {
        self.source.place(self.span.clone())
    }

    pub fn within(&self) -> &str {
        &self.within
    }

    fn find(&mut self, key: &'static str) -> Option<Found<'t>> {
        self.known.insert(key);
        self.table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(k, _)| k.get_ref() == key)
    }

    pub fn is_table(&self, key: &str) -> bool {
        let found = self.table.iter().find(|(k, _)| k.get_ref() == key);
        found.is_some_and(|(_, v)| v.get_ref().as_table().is_some())
    }

    pub fn string(&mut self, key: &'static str) -> Result<Option<(String, Place)>, ConfigError> {
        self.typed(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub fn bool(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        Ok(self.typed(key, "true or false", DeValue::as_bool)?.map(|(v, _)| v))
    }

    /// A whole number from 1 on.
    pub fn count(&mut self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        let found = self.typed(key, "a whole number", |v| integer(v))?;
        match found {
            None => Ok(None),
            Some((n, _)) if n >= 1 => Ok(Some(n as u64)),
            Some((n, place)) => Err(ConfigError::BadValue {
                place,
                key: key.to_owned(),
                message: format!("{n} is not a number from 1 on"),
            }),
        }
    }

    /// A string that `read` turns into something.
    pub fn parsed<T, E: std::fmt::Display>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((text, place)) = self.string(key)? else {
            return Ok(None);
        };
        read(&text).map(Some).map_err(|e| ConfigError::BadValue {
            place,
            key: key.to_owned(),
            message: e.to_string(),
        })
    }

    /// A sub-table.
    pub fn table(&mut self, key: &'static str) -> Result<Option<Table<'t>>, ConfigError> {
        let source = self.source;
        let Some(found) = self.find(key) else {
            return Ok(None);
        };
        let within = match self.within.strip_prefix("in [").and_then(|w| w.strip_suffix(']')) {
            Some(outer) => format!("in [{outer}.{key}]"),
            None => format!("in [{key}]"),
        };
        as_table(source, key, found, within).map(Some)
    }

    /// An array of tables.
    pub fn tables(&mut self, key: &'static str) -> Result<Vec<Table<'t>>, ConfigError> {
        let source = self.source;
        let Some(found) = self.find(key) else {
            return Ok(Vec::new());
        };
        let Some(array) = found.get_ref().as_array() else {
            return Err(wrong_type(source, key, "an array of tables", found));
        };
        array
            .iter()
            .map(|v| as_table(source, key, v, format!("in [[{key}]]")))
            .collect()
    }

    /// Every entry as a sub-table with its key.
    pub fn entries(&self) -> impl Iterator<Item = Result<(String, Table<'t>), ConfigError>> + '_ {
        let section = self.within.trim_start_matches("in [").trim_end_matches(']').to_owned();
        self.table.iter().map(move |(key, value)| {
            let name = key.get_ref().to_string();
            let mut table = as_table(self.source, &name, value, format!("in [{section}.{name:?}]"))?;
            table.span = key.span();
            Ok((name, table))
        })
    }

    /// Everything that no one asked for by name, as JSON with its places.
    pub fn rest(&self) -> Result<Vec<(String, Value, Place)>, ConfigError> {
        self.table
            .iter()
            .filter(|(k, _)| !self.known.contains(k.get_ref().as_ref()))
            .map(|(k, v)| {
                let place = self.source.place(k.span());
                Ok((k.get_ref().to_string(), json(self.source, k.get_ref(), v)?, place))
            })
            .collect()
    }

    /// Refuses what no one asked for.
    pub fn end(self) -> Result<(), ConfigError> {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.known.contains(name) {
                return Err(ConfigError::UnknownKey {
                    place: self.source.place(key.span()),
                    key: name.to_owned(),
                    within: self.within.clone(),
                    nearest: nearest(name, self.known.iter().copied()),
                });
            }
        }
        Ok(())
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&DeValue<'t>) -> Option<T>,
    ) -> Result<Option<(T, Place)>, ConfigError> {
        let source = self.source;
        let Some(found) = self.find(key) else {
            return Ok(None);
        };
        match read(found.get_ref()) {
            Some(value) => Ok(Some((value, source.place(found.span())))),
            None => Err(wrong_type(source, key, expected, found)),
        }
    }
}

fn as_table<'t>(source: Source<'t>, key: &str, found: Found<'t>, within: String) -> Result<Table<'t>, ConfigError> {
    match found.get_ref().as_table() {
        Some(table) => Ok(Table::new(source, table, found.span(), within)),
        None => Err(wrong_type(source, key, "a table", found)),
    }
}

fn wrong_type(source: Source<'_>, key: &str, expected: &'static str, found: Found<'_>) -> ConfigError {
    ConfigError::WrongType {
        place: source.place(found.span()),
        key: key.to_owned(),
        expected,
        found: format!("{} {}", article(found.get_ref().type_str()), found.get_ref().type_str()),
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A value as a plugin sees it. Dates become their text.
fn json(source: Source<'_>, key: &str, found: Found<'_>) -> Result<Value, ConfigError> {
    let bad = |message: String| ConfigError::BadValue {
        place: source.place(found.span()),
        key: key.to_owned(),
        message,
    };
    Ok(match found.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(when) => Value::from(when.to_string()),
        value @ DeValue::Integer(number) => match integer(value) {
            Some(n) => Value::from(n),
            None => return Err(bad(format!("{} is outside 64 bits", number.as_str()))),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(n) if n.is_finite() => Value::from(n),
            _ => return Err(bad(format!("{} is not a finite number", number.as_str()))),
        },
        DeValue::Array(array) => Value::Array(array.iter().map(|v| json(source, key, v)).collect::<Result<_, _>>()?),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(k, v)| Ok((k.get_ref().to_string(), json(source, k.get_ref(), v)?)))
                .collect::<Result<_, ConfigError>>()?,
        ),
    })
}
