//! Where a statement ends: at a `;` that is not in a string, a quoted name or a comment. A line that begins with `\`, and the
//! words `help`, `quit` and `exit`, are statements of the console itself and end with their line.

/// Whether all that was typed can be run.
pub fn is_complete(text: &str) -> bool {
    let rest = unfinished(text);
    rest.trim().is_empty() || is_console_word(rest)
}

/// The statements in `text` in their order, without their `;`. What is left unfinished at the end is one too.
pub fn split(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut rest = text;
    while !rest.trim().is_empty() {
        let (statement, after) = next(rest).unwrap_or((rest, ""));
        if !only_comments(statement) {
            statements.push(statement.trim().to_owned());
        }
        rest = after;
    }
    statements
}

/// What stands after the last whole statement.
fn unfinished(text: &str) -> &str {
    let mut rest = text;
    while let Some((_, after)) = next(rest) {
        rest = after;
    }
    if only_comments(rest) { "" } else { rest }
}

/// The first statement and what follows it; none if it has no end yet.
fn next(text: &str) -> Option<(&str, &str)> {
    let trimmed = text.trim_start();
    if is_console_word(trimmed.lines().next().unwrap_or("")) {
        return trimmed.split_once('\n');
    }
    let end = terminator(text)?;
    Some((&text[..end], &text[end + 1..]))
}

fn is_console_word(line: &str) -> bool {
    let line = line.trim();
    let word = line.trim_end_matches(';').trim_end();
    line.starts_with('\\') || ["help", "quit", "exit"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// Place of the first `;` that ends a statement.
fn terminator(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        at = match (bytes[at], bytes.get(at + 1)) {
            (b';', _) => return Some(at),
            // A doubled quote ends one string and begins the next, which comes to the same.
            (quote @ (b'\'' | b'"'), _) => past(text, at + 1, if quote == b'"' { "\"" } else { "'" })?,
            (b'-', Some(b'-')) => past(text, at, "\n")?,
            (b'/', Some(b'*')) => past(text, at + 2, "*/")?,
            _ => at + 1,
        };
    }
    None
}

fn past(text: &str, from: usize, what: &str) -> Option<usize> {
    text.get(from..)?.find(what).map(|n| from + n + what.len())
}

fn only_comments(text: &str) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = match rest {
            _ if rest.starts_with("--") => past(rest, 0, "\n").unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => match past(rest, 2, "*/") {
                Some(end) => end,
                None => return false,
            },
            _ => return false,
        };
        rest = rest[end..].trim_start();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_ends_a_statement_but_not_in_text() {
        for open in [
            "SELECT 1",
            "SELECT ';",
            "SELECT 1 -- ;",
            "SELECT \"a;\n",
            "/* ; ",
            "SELECT 1; SELECT",
            "SELECT 'é",
        ] {
            assert!(!is_complete(open), "{open:?}");
        }
        for whole in [
            "SELECT 1;",
            "",
            "  \n",
            "SELECT ';' ;",
            "\\d process",
            "help",
            "SELECT 1; -- done",
            "quit;",
            "-- ;",
        ] {
            assert!(is_complete(whole), "{whole:?}");
        }
    }

    #[test]
    fn statements_come_one_by_one() {
        assert_eq!(split("SELECT 1; SELECT ';''' ;\n"), ["SELECT 1", "SELECT ';'''"]);
        assert_eq!(split("\\at -5m\nSELECT\n 1;\n\\q"), ["\\at -5m", "SELECT\n 1", "\\q"]);
        assert_eq!(split("SELECT 1 -- no end"), ["SELECT 1 -- no end"]);
        assert_eq!(split(" ; ;-- x\n"), Vec::<String>::new());
    }
}
