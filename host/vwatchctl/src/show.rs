//! `vwatchctl show`: a table, or what a plugin has to show.
//!
//! One word that is a table's name is a table. Everything else is a plugin's command, if a daemon is there to have one.

use vwatch_model::name::is_identifier;
use vwatch_model::query::Request;

use crate::answer;
use crate::cli::Show;
use crate::context::Context;
use crate::failure::{Failed, Outcome};
use crate::forward;

pub async fn run(context: &Context, show: Show) -> Result<Outcome, Failed> {
    let table = match show.words.as_slice() {
        [word] if is_identifier(word) => word,
        _ => return command(context, &show, None).await,
    };
    let request = Request {
        at: show.at,
        ..context.request(select(table, &show))
    };
    match answer::print(context, &request).await {
        Err(Failed::Sql { failure, sql }) if failure.kind == "unknown_table" => {
            command(context, &show, Some(Failed::Sql { failure, sql })).await
        }
        other => other,
    }
}

/// The words as a plugin's command. When there is none such, `otherwise` is the better error.
async fn command(context: &Context, show: &Show, otherwise: Option<Failed>) -> Result<Outcome, Failed> {
    let words: Vec<String> = std::iter::once("show".to_owned()).chain(show.words.clone()).collect();
    let for_tables = show.at.is_some()
        || show.instance.is_some()
        || !show.columns.is_empty()
        || show.filter.is_some()
        || show.limit.is_some();
    match otherwise {
        Some(error) if for_tables || !context.has_daemon() => Err(plain(error)),
        None if for_tables => Err(Failed::Usage {
            message: format!("{:?} is not the name of a table", show.words.join(" ")),
            hint: Some("--at, --instance, --columns, --where and --limit go with one table".to_owned()),
        }),
        Some(error) => match forward::offered(context, &words).await? {
            Some(reply) => forward::print(context, reply).await,
            None => Err(plain(error)),
        },
        None => forward::command(context, &words).await,
    }
}

/// Without the SQL: nobody wrote it.
fn plain(error: Failed) -> Failed {
    match error {
        Failed::Sql { failure, .. } => Failed::Because {
            message: failure.message,
            hint: failure.hint,
        },
        other => other,
    }
}

fn select(table: &str, show: &Show) -> String {
    let columns = match show.columns.is_empty() {
        true => "*".to_owned(),
        false => quoted(&show.columns),
    };
    let mut sql = format!("SELECT {columns} FROM {table}");
    sql.push_str(&conditions(show.instance.as_deref(), show.filter.as_deref()));
    if let Some(limit) = show.limit {
        sql.push_str(&format!(" LIMIT {limit}"));
    }
    sql
}

/// Names that are checked to be identifiers may still be words of SQL (`key`).
pub fn quoted(columns: &[String]) -> String {
    columns
        .iter()
        .map(|c| format!("\"{c}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// ` WHERE …` for an instance and a condition, on a line of its own so that a comment in it ends there.
pub fn conditions(instance: Option<&str>, filter: Option<&str>) -> String {
    let instance = instance.map(|name| format!("instance = '{}'", name.replace('\'', "''")));
    let filter = filter.map(|condition| format!("({condition}\n)"));
    let parts: Vec<String> = instance.into_iter().chain(filter).collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", parts.join(" AND ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_closed() {
        assert_eq!(conditions(None, None), "");
        assert_eq!(conditions(Some("o'x"), None), " WHERE instance = 'o''x'");
        assert_eq!(
            conditions(Some("fast"), Some("pid = 1 OR pid = 2 -- both")),
            " WHERE instance = 'fast' AND (pid = 1 OR pid = 2 -- both\n)"
        );
    }
}
