//! `vwatchctl tables` and `vwatchctl schema`, from the store's own description: `vw_tables` and `vw_columns`.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use vwatch_client::Whole;
use vwatch_model::query::Request;

use crate::answer;
use crate::context::Context;
use crate::failure::{Failed, Outcome, say};

pub async fn list(context: &Context) -> Result<Outcome, Failed> {
    let sql = "SELECT name, kind, instances, first_time, last_time, doc FROM vw_tables ORDER BY name";
    answer::print(context, &context.request(sql)).await
}

pub async fn schema(context: &Context, table: &str) -> Result<Outcome, Failed> {
    let Some(description) = Description::of(context, table).await? else {
        return Err(unknown(context, table).await);
    };
    say(&format!("{table} ({}): {}\n", description.kind, description.doc));
    let sql = format!(
        "SELECT name, type, unit, \"key\", nullable, counter, doc FROM vw_columns \
         WHERE table_name = '{table}' ORDER BY \"position\""
    );
    answer::print(context, &context.request(sql)).await
}

/// What a table is.
pub struct Description {
    /// `state`, `event`, or a word for what is derived from those.
    pub kind: String,
    pub doc: String,
}

impl Description {
    /// None for a table that the store does not know. `table` is an identifier.
    pub async fn of(context: &Context, table: &str) -> Result<Option<Description>, Failed> {
        let sql = format!("SELECT kind, doc FROM vw_tables WHERE name = '{table}'");
        let whole = whole(context, &context.request(sql)).await?;
        let (kind, doc) = (strings(&whole, "kind"), strings(&whole, "doc"));
        Ok(kind
            .into_iter()
            .zip(doc)
            .next()
            .map(|(kind, doc)| Description { kind, doc }))
    }
}

/// What a column's values mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// Empty when it has none.
    pub unit: String,
    pub key: bool,
    pub counter: bool,
}

/// The columns of a table, in their order.
pub async fn columns(context: &Context, table: &str) -> Result<Vec<Column>, Failed> {
    let sql = format!(
        "SELECT name, unit, \"key\", counter FROM vw_columns WHERE table_name = '{table}' ORDER BY \"position\""
    );
    let whole = whole(context, &context.request(sql)).await?;
    let (units, keys, counters) = (
        strings(&whole, "unit"),
        strings(&whole, "key"),
        strings(&whole, "counter"),
    );
    let marks = units.into_iter().zip(keys).zip(counters);
    let column = |(name, ((unit, key), counter)): (String, ((String, String), String))| Column {
        name,
        unit,
        key: key == "true",
        counter: counter == "true",
    };
    Ok(strings(&whole, "name").into_iter().zip(marks).map(column).collect())
}

/// Names of all tables, and (table, column) of all columns: for completion.
pub async fn names(context: &Context) -> Result<(Vec<String>, Vec<(String, String)>), Failed> {
    let tables = whole(context, &context.request("SELECT name FROM vw_tables ORDER BY name")).await?;
    let sql = "SELECT table_name, name FROM vw_columns ORDER BY table_name, \"position\"";
    let columns = whole(context, &context.request(sql)).await?;
    let pairs = strings(&columns, "table_name")
        .into_iter()
        .zip(strings(&columns, "name"));
    Ok((strings(&tables, "name"), pairs.collect()))
}

/// The error about a table that is not there, with the nearest one that is.
pub async fn unknown(context: &Context, table: &str) -> Failed {
    let known = names(context).await.map(|(tables, _)| tables).unwrap_or_default();
    Failed::Because {
        message: format!("there is no table {table}"),
        hint: Some(match nearest(table, &known) {
            Some(name) => format!("did you mean {name}?"),
            None => "vwatchctl tables lists them".to_owned(),
        }),
    }
}

fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a String> {
    let close = known.iter().map(|name| (strsim::damerau_levenshtein(word, name), name));
    close
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

pub async fn whole(context: &Context, request: &Request) -> Result<Whole, Failed> {
    let answer = context.queries()?.ask_whole(request).await;
    answer.map_err(|e| Failed::about(e, &request.sql))
}

/// The values of a text column; NULL as the empty string, an absent column as no rows.
fn strings(whole: &Whole, column: &str) -> Vec<String> {
    let mut values = Vec::new();
    for batch in &whole.batches {
        let text = batch
            .column_by_name(column)
            .map(|a| arrow_cast::cast(a, &arrow_schema::DataType::Utf8));
        let Some(Ok(text)) = text else {
            continue;
        };
        let text = text.as_string::<i32>();
        let value = |row| if text.is_null(row) { "" } else { text.value(row) };
        values.extend((0..text.len()).map(|row| value(row).to_owned()));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        let known = ["process".to_owned(), "process_exit".to_owned(), "load".to_owned()];
        assert_eq!(nearest("proces", &known), Some(&known[0]));
        assert_eq!(nearest("porcess", &known), Some(&known[0]));
        assert_eq!(nearest("mount", &known), None);
    }
}
