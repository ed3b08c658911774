//! How an invocation ends: its exit status, and what is said about an error.

use std::io::Write;

use vwatch_client::ClientError;
use vwatch_client::output::OutputError;
use vwatch_model::query::Failure;

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Done, but something is missing; the reasons have been said.
    Partial,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    #[error("{message}")]
    Because { message: String, hint: Option<String> },
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An error in a question, which is shown with its place.
    #[error("{}", .failure.message)]
    Sql { failure: Box<Failure>, sql: String },
    /// Already said (a script in the console went on after it).
    #[error("failed")]
    Said(u8),
}

impl Failed {
    pub fn because(message: impl Into<String>) -> Self {
        Failed::Because {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds the question to an error that is about it.
    pub fn about(error: ClientError, sql: &str) -> Self {
        match error {
            ClientError::Query(failure) => Failed::Sql {
                failure: Box::new(failure),
                sql: sql.to_owned(),
            },
            other => Failed::Client(other),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            // Whoever read the output has what they wanted.
            Failed::Client(ClientError::Output(e)) if e.is_closed() => 0,
            Failed::Usage { .. } => 2,
            Failed::Client(ClientError::Unreachable(_)) => 3,
            Failed::Said(code) => *code,
            _ => 1,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Failed::Usage { hint, .. } | Failed::Because { hint, .. } => hint.clone(),
            Failed::Client(e) => e.hint(),
            Failed::Sql { failure, .. } => failure.hint.clone(),
            Failed::Said(_) => None,
        }
    }

    /// The error in words, the place in the question, the hint. Nothing for a closed pipe.
    pub fn render(&self, color: bool) -> String {
        if self.exit_code() == 0 || matches!(self, Failed::Said(_)) {
            return String::new();
        }
        let paint = |code: &str, text: &str| match color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let mut text = format!("{} {self}\n", paint("1;31", "error:"));
        if let Failed::Sql { failure, sql } = self
            && let Some(place) = caret(failure, sql)
        {
            text.push_str(&place);
        }
        if let Some(hint) = self.hint() {
            text.push_str(&format!("{} {hint}\n", paint("1;36", "hint:")));
        }
        text
    }
}

impl From<OutputError> for Failed {
    fn from(error: OutputError) -> Self {
        Failed::Client(ClientError::Output(error))
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        OutputError::Io(error).into()
    }
}

/// The line of the question that the error is about, with a mark under its place.
fn caret(failure: &Failure, sql: &str) -> Option<String> {
    let number = failure.line?;
    let line = sql.lines().nth(usize::try_from(number).ok()?.checked_sub(1)?)?;
    let before = usize::try_from(failure.column?).ok()?.saturating_sub(1);
    let gutter = format!("{number:>4} | ");
    // Tabs before the place stay tabs, so that the mark stands under it whatever their width.
    let indent: String = line
        .chars()
        .chain(std::iter::repeat(' '))
        .take(before.min(line.chars().count()))
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    Some(format!("{gutter}{line}\n     | {indent}^\n"))
}

/// Talk: to standard error, and nothing more if that is closed.
pub fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql_error(sql: &str, line: u64, column: u64) -> String {
        let failure = Failure {
            kind: "unknown_column".into(),
            message: "no column rss".into(),
            hint: Some("did you mean rss_bytes?".into()),
            line: Some(line),
            column: Some(column),
        };
        Failed::Sql {
            failure: Box::new(failure),
            sql: sql.into(),
        }
        .render(false)
    }

    #[test]
    fn the_mark_stands_under_the_place() {
        assert_eq!(
            sql_error("SELECT pid,\n\trss FROM process", 2, 2),
            "error: no column rss\n   2 | \trss FROM process\n     | \t^\nhint: did you mean rss_bytes?\n"
        );
    }

    #[test]
    fn a_place_that_is_not_there_does_no_harm() {
        assert!(sql_error("SELECT 1", 7, 1).starts_with("error: no column rss\nhint:"));
        assert!(sql_error("é", 1, 99).contains("   1 | é\n     |  ^\n"));
        assert!(sql_error("", 0, 0).starts_with("error: no column rss\nhint:"));
    }
}
