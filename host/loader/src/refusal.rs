//! Why a plugin file is not loaded, and what to do about it.

use std::path::{Path, PathBuf};

/// The answer to a file that is not loaded. Every one names the file, the reason and the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}; {hint}", file.display())]
pub struct Refusal {
    pub file: PathBuf,
    /// What is wrong, in one line.
    pub reason: String,
    /// What to do.
    pub hint: String,
    /// Name of the plugin, when it got so far as to say it.
    pub name: Option<String>,
}

/// A reason and its mend, before the file's name is known to the code that finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fail {
    pub reason: String,
    pub hint: String,
}

impl Fail {
    pub(crate) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Fail {
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn of(self, file: &Path, name: Option<&str>) -> Refusal {
        Refusal {
            file: file.to_owned(),
            reason: self.reason,
            hint: self.hint,
            name: name.map(str::to_owned),
        }
    }
}

/// One readable line of at most `limit` characters out of whatever a library says.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > limit {
            break;
        }
    }
    if line.chars().count() > limit {
        line = line.chars().take(limit).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_errors_become_one_line() {
        assert_eq!(one_line("\n a\tb \n\n c\u{1b}[0m", 80), "a b c [0m");
        assert_eq!(one_line("aaaa bbbb", 6), "aaaa b…");
        assert_eq!(one_line("", 6), "");
    }

    #[test]
    fn a_refusal_says_all_three() {
        let refusal = Fail::new("is empty", "copy it again").of(Path::new("/p/x.so"), None);
        assert_eq!(refusal.to_string(), "/p/x.so: is empty; copy it again");
    }
}
