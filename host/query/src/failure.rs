//! The engine's errors in the words of this project: what is wrong, where, and what to write instead.

use crate::error::{Place, SqlError, kind};
use crate::{range_functions, statement, time_bucket};
use datafusion::common::{DataFusionError, SchemaError};
use vwatch_model::query::Failure;

/// Explains an error of the engine about `sql`. `columns` are the names that a mistyped column may have meant when the
/// engine does not say.
pub fn explain(error: &DataFusionError, sql: &str, columns: &[String]) -> Failure {
    if let Some(own) = own(error) {
        return own.failure();
    }
    let diagnosed = error.diagnostic().and_then(|d| d.span).map(|span| Place {
        line: span.start.line,
        column: span.start.column,
    });
    let explained = match error.find_root() {
        DataFusionError::SQL(parser, _) => parser_error(&parser.to_string()),
        DataFusionError::SchemaError(schema, _) => schema_error(schema, sql, columns),
        DataFusionError::NotImplemented(text) => SqlError::refused(kind::UNSUPPORTED, not_implemented(text)),
        DataFusionError::ResourcesExhausted(text) => memory(text),
        DataFusionError::Plan(text) => plan_error(text, sql),
        DataFusionError::Execution(text) | DataFusionError::Configuration(text) => {
            SqlError::refused(kind::REQUEST, plain(text))
        }
        DataFusionError::ArrowError(arrow, _) => SqlError::refused(kind::REQUEST, plain(&arrow.to_string())),
        other => SqlError::refused(kind::INTERNAL, plain(&other.message())),
    };
    // The engine's own span knows which of two equal names is meant; a search of the text finds the first.
    explained.at(diagnosed).failure()
}

/// The nearest of `names` to `name`, when it is near enough to be meant.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    names
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// This crate's own error, wherever the engine has wrapped it.
fn own(error: &DataFusionError) -> Option<&SqlError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<SqlError>() {
            Some(own) => Some(own),
            None => own(inner.downcast_ref::<DataFusionError>()?),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => own(inner),
        DataFusionError::Shared(inner) => own(inner),
        DataFusionError::Collection(all) => all.iter().find_map(own),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            arrow_schema::ArrowError::ExternalError(inner) => match inner.downcast_ref::<SqlError>() {
                Some(own) => Some(own),
                None => own(inner.downcast_ref::<DataFusionError>()?),
            },
            _ => None,
        },
        _ => None,
    }
}

/// `sql parser error: Expected: …, found: … at Line: 1, Column: 8`.
fn parser_error(text: &str) -> SqlError {
    if text.contains("recursion limit") {
        return SqlError::refused(kind::UNSUPPORTED, "the statement is nested too deeply");
    }
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, rest)) => (message, read_place(rest)),
        None => (text, None),
    };
    SqlError::refused(kind::SYNTAX, message.replace("Expected: ", "expected ")).at(place)
}

/// `1, Column: 8`.
fn read_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Place {
        line: line.trim().parse().ok()?,
        column: column.trim().parse().ok()?,
    })
}

fn schema_error(error: &SchemaError, sql: &str, columns: &[String]) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let refused = SqlError::refused(
                kind::UNKNOWN_COLUMN,
                format!("there is no column {}", field.flat_name()),
            )
            .at(statement::place_of(sql, &field.name));
            let known: Vec<&str> = match valid_fields.is_empty() {
                true => columns.iter().map(String::as_str).collect(),
                false => valid_fields.iter().map(|c| c.name.as_str()).collect(),
            };
            match nearest(&field.name, known.iter().copied()) {
                Some(name) if name == field.name => refused.hint(format!(
                    "{name} belongs to another table or alias of this query; check what stands before its dot"
                )),
                Some(name) => refused.hint(format!("did you mean {name}?")),
                None if known.is_empty() => refused,
                None => refused.hint(format!("columns: {}", list(&known))),
            }
        }
        SchemaError::AmbiguousReference { field } => SqlError::refused(
            kind::REQUEST,
            format!("{} is a column of several tables of this query", field.name),
        )
        .hint("write the table's name or alias before it")
        .at(statement::place_of(sql, &field.name)),
        SchemaError::DuplicateQualifiedField { qualifier, .. } => SqlError::refused(
            kind::REQUEST,
            format!("{} is read twice under one name", qualifier.table()),
        )
        .hint("give each an alias: process FOR SYSTEM_TIME AS OF '10:00' AS a JOIN process AS b …")
        .at(statement::place_of(sql, qualifier.table())),
        SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::refused(kind::REQUEST, format!("{name} is the name of two columns"))
                .hint("give one of them another name with AS")
                .at(statement::place_of(sql, name))
        }
    }
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name);
        }
    }
    let more = if distinct.len() > SHOWN { ", …" } else { "" };
    distinct.truncate(SHOWN);
    format!("{}{more}", distinct.join(", "))
}

fn plan_error(text: &str, sql: &str) -> SqlError {
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or_default();
        let refused = SqlError::refused(kind::UNSUPPORTED, format!("there is no function {name}"))
            .at(statement::place_of(sql, name));
        return match rest.split("Did you mean '").nth(1).and_then(|r| r.split('\'').next()) {
            Some(near) => refused.hint(format!("did you mean {near}?")),
            None => refused,
        };
    }
    if let Some(name) = text
        .strip_prefix("table '")
        .and_then(|rest| rest.strip_suffix("' not found"))
    {
        return SqlError::refused(kind::UNKNOWN_TABLE, format!("there is no table {name}"))
            .hint("a table function needs its arguments: generate_series(1, 10)")
            .at(statement::place_of(sql, name));
    }
    if let Some((function, why)) = text.split_once(" user-defined coercion failed with: ") {
        return coercion(plain(function).trim_start_matches("Function "), why, sql);
    }
    if let Some((function, _)) = text.split_once(" failed to match any signature") {
        let message = format!(
            "{} cannot be used with values of these types",
            plain(function).replace("Function", "function")
        );
        return SqlError::refused(kind::REQUEST, message).hint("convert them: CAST(… AS DOUBLE)");
    }
    SqlError::refused(kind::REQUEST, plain(text))
}

/// A function that was given arguments that it does not take: `'delta'`, and its own words with the engine's after them.
fn coercion(function: &str, why: &str, sql: &str) -> SqlError {
    let name = function.trim_matches('\'');
    let why = why.split(". No function matches").next().unwrap_or(why);
    let refused = SqlError::refused(kind::REQUEST, plain(why)).at(statement::place_of(sql, name));
    let form = range_functions::form_of(name).or((name == time_bucket::NAME).then_some(time_bucket::FORM));
    match form {
        Some(form) => refused.hint(form),
        None => refused,
    }
}

fn not_implemented(text: &str) -> String {
    // The engine prints its syntax tree here, which says nothing to the person who wrote the SQL.
    match text.split_once("ast node") {
        Some(_) => "this form of SQL is not supported".to_owned(),
        None => plain(text),
    }
}

fn memory(text: &str) -> SqlError {
    let who = text.split('{').next().unwrap_or_default().trim();
    tracing::debug!(engine = text, "memory limit");
    let message = if who.is_empty() || text.starts_with("Failed to allocate") || text.contains("Resources exhausted") {
        "the query needs more memory than it may use".to_owned()
    } else {
        "the query needs more memory than it may use (its sort, join or grouping is too large)".to_owned()
    };
    SqlError::refused(kind::LIMIT, message)
        .hint("read a shorter time or fewer columns, or group before sorting and joining")
}

/// An engine's message without its own labels and its advice to report bugs.
fn plain(text: &str) -> String {
    let mut text = text.split("\nThis issue was likely").next().unwrap_or(text);
    text = text.split(".\nThis was likely").next().unwrap_or(text);
    for label in [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Internal error: ",
        "This feature is not implemented: ",
        "Parser error: ",
        "Cast error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Optimizer rule ",
        "External error: ",
    ] {
        text = text.strip_prefix(label).unwrap_or(text);
    }
    text.replace("DataFusion", "the engine").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let names = ["process", "process_history", "load", "net_io"];
        assert_eq!(nearest("proces", names), Some("process"));
        assert_eq!(nearest("Process_hist", names), Some("process_history"));
        assert_eq!(nearest("zzz", names), None);
    }

    #[test]
    fn parser_messages_lose_their_labels() {
        let failure =
            parser_error("sql parser error: Expected: an expression, found: EOF at Line: 3, Column: 9").failure();
        assert_eq!(failure.message, "expected an expression, found: EOF");
        assert_eq!((failure.line, failure.column), (Some(3), Some(9)));
    }
}
