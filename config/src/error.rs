//! Errors of the configuration, each with its place in the file.

use std::fmt;
use std::path::PathBuf;

/// A place in the configuration: 1-based line and column (in characters); 0 where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// The place of byte `offset` of `text`.
    pub(crate) fn at(file: &std::path::Path, text: &str, offset: usize) -> Place {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Place {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{}: {bytes} bytes are too much for a configuration (at most {limit})", file.display())]
    TooLong { file: PathBuf, bytes: u64, limit: u64 },
    #[error("{}: not UTF-8 text from byte {offset} on", file.display())]
    NotText { file: PathBuf, offset: usize },
    #[error("{place}: {message}")]
    Syntax { place: Place, message: String },
    #[error("{place}: unknown key {key:?} {within}{}", hint(nearest))]
    UnknownKey {
        place: Place,
        key: String,
        within: String,
        nearest: Option<String>,
    },
    #[error("{place}: {key} must be {expected}, not {found}")]
    WrongType {
        place: Place,
        key: String,
        expected: &'static str,
        found: String,
    },
    #[error("{place}: {key}: {message}")]
    BadValue { place: Place, key: String, message: String },
    #[error("{place}: {within} needs the key {key:?}")]
    Missing {
        place: Place,
        within: String,
        key: &'static str,
    },
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => String::new(),
    }
}

/// The known name most like `name`, if one is near enough to be a slip.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| {
            *distance <= (name.chars().count().max(k.chars().count()) / 3).max(1) || is_part(name, k)
        })
        .min()
        .map(|(_, k)| k.to_owned())
}

/// `proc` for `process`, `process` for `process.process`: a word cut short, or one part of a dotted name.
fn is_part(name: &str, known: &str) -> bool {
    name.len() >= 3 && (known.starts_with(name) || known.split('.').any(|part| part == name))
}
