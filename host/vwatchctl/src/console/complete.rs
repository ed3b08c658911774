//! Completion of tables, columns, SQL words and the console's own words.

use std::collections::BTreeSet;

/// What the console can offer to complete.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub tables: Vec<String>,
    /// (table, column)
    pub columns: Vec<(String, String)>,
}

pub const CONSOLE_WORDS: &[&str] = &[
    "\\at", "\\d", "\\from", "\\help", "\\o", "\\q", "\\timing", "\\to", "help", "quit",
];
const FORMATS: &[&str] = &["table", "json", "jsonl", "csv"];
const SQL_WORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AS OF",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FOR SYSTEM_TIME",
    "FROM",
    "GROUP BY",
    "HAVING",
    "IN",
    "INNER JOIN",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "RIGHT JOIN",
    "SELECT",
    "SUM",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "UNION",
    "USING",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Where the word before `pos` begins, and what it may become.
pub fn complete(names: &Names, line: &str, pos: usize) -> (usize, Vec<String>) {
    let before = line.get(..pos).unwrap_or(line);
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\\';
    let start = before
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_word(*c))
        .last()
        .map_or(pos, |(at, _)| at);
    let word = &before[start..];
    let head = before[..start].trim_start();
    if head.starts_with('\\') {
        return (start, after_console_word(names, head.trim_end(), word));
    }
    if word.starts_with('\\') {
        return (start, matching(CONSOLE_WORDS.iter().copied(), word));
    }
    if word.is_empty() && !head.ends_with('.') {
        return (start, Vec::new());
    }
    let columns = columns(names, line, head);
    if head.ends_with('.') {
        return (start, matching(columns.iter().map(String::as_str), word));
    }
    let tables = names.tables.iter().map(String::as_str);
    let mut found = matching(columns.iter().map(String::as_str).chain(tables), word);
    found.extend(matching(SQL_WORDS.iter().copied(), word));
    if head.is_empty() {
        found.extend(matching(CONSOLE_WORDS.iter().copied(), word));
    }
    // What is already whole comes first: Enter in an open menu takes the first.
    found.sort_by_key(|name| !name.eq_ignore_ascii_case(word));
    (start, found)
}

fn after_console_word(names: &Names, console_word: &str, word: &str) -> Vec<String> {
    match console_word {
        "\\d" => matching(names.tables.iter().map(String::as_str), word),
        "\\o" => matching(FORMATS.iter().copied(), word),
        _ => Vec::new(),
    }
}

/// Columns of the tables that the statement names; of all tables if it names none. Right after `TABLE.`, of that table.
fn columns(names: &Names, line: &str, head: &str) -> BTreeSet<String> {
    let split = |c: char| !c.is_alphanumeric() && c != '_';
    let qualifier = head.strip_suffix('.').and_then(|h| h.rsplit(split).next());
    let known = |word: &str| names.tables.iter().any(|t| t == word);
    let mentioned: BTreeSet<&str> = match qualifier.filter(|q| known(q)) {
        Some(table) => BTreeSet::from([table]),
        None => line.split(split).filter(|w| known(w)).collect(),
    };
    let of_mentioned = |table: &str| mentioned.is_empty() || mentioned.contains(table);
    let columns = names.columns.iter().filter(|(table, _)| of_mentioned(table));
    columns.map(|(_, column)| column.clone()).collect()
}

/// Those that begin with `word`, whatever its case.
fn matching<'a>(words: impl Iterator<Item = &'a str>, word: &str) -> Vec<String> {
    let begins = |w: &&str| {
        w.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let mut found: Vec<String> = words.filter(begins).map(str::to_owned).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let pair = |t: &str, c: &str| (t.to_owned(), c.to_owned());
        Names {
            tables: ["load", "process", "process_exit"].map(str::to_owned).to_vec(),
            columns: vec![
                pair("load", "load_1m"),
                pair("process", "pid"),
                pair("process", "processor"),
                pair("process", "rss_bytes"),
                pair("process_exit", "exit_code"),
                pair("process_exit", "pid"),
            ],
        }
    }

    fn check(line: &str, want: &[&str]) {
        let (line, pos) = match line.split_once('|') {
            Some((before, after)) => (format!("{before}{after}"), before.len()),
            None => (line.to_owned(), line.len()),
        };
        assert_eq!(complete(&names(), &line, pos).1, want, "{line:?}");
    }

    #[test]
    fn what_fits_the_place_is_offered() {
        check("SELECT p| FROM load", &["process", "process_exit", "PARTITION BY"]);
        check("SELECT process", &["process", "processor", "process_exit"]);
        check("SELECT pi| FROM process_exit", &["pid"]);
        check(
            "select ex| from process_exit",
            &["exit_code", "EXCEPT", "EXISTS", "EXPLAIN"],
        );
        check("SELECT process.r", &["rss_bytes"]);
        check("SELECT p.| FROM process p", &["pid", "processor", "rss_bytes"]);
        check("\\d proc", &["process", "process_exit"]);
        check("\\t", &["\\timing", "\\to"]);
        check("\\o js", &["json", "jsonl"]);
        check("q", &["quit"]);
        check("SELECT ", &[]);
        check("é", &[]);
    }
}
