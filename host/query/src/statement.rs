//! From SQL text to one statement that only reads.
//!
//! The engine's parser accepts more than the engine acts on: version clauses, table samples, row locks and the like parse
//! and are then silently dropped. **Invariant:** nothing that changes what a query means is dropped: what is not acted on
//! is refused here, in every subquery and CTE too.

use crate::dialect::VersionedDialect;
use crate::error::{Place, SqlError, kind};
use crate::failure;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, SetExpr, Spanned, Statement as Sql, TableFactor, TableVersion, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use std::ops::ControlFlow;

const RECURSION_LIMIT: usize = 64;
/// Words and operators of a statement, commas and constants not counted: each can make its tree one level deeper, and
/// the parser frees that tree by recursion. A list of constants is flat.
const LONGEST: usize = 8000;
/// Levels of an expression (`1 + 1 + 1` has three): some of the engine's walks over it are bounded only by the stack.
const DEEPEST: usize = 500;

/// Parses the one statement of `sql` and refuses what does more, or less, than read.
pub fn parse(sql: &str) -> Result<Statement, SqlError> {
    let tokens = tokenize(sql)?;
    let weight = tokens.iter().filter(|t| deepens(&t.token)).count();
    if weight > LONGEST {
        return Err(SqlError::refused(
            kind::UNSUPPORTED,
            format!("the statement has {weight} words and operators; at most {LONGEST} are read"),
        )
        .hint("many values are better written as a list: pid IN (1, 2, …)"));
    }
    check_version_words(&tokens)?;
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&VersionedDialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| syntax(&e, sql))?;
    let statement = match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => statement,
        (None, _) => return Err(SqlError::refused(kind::SYNTAX, "there is no statement")),
        (Some(_), _) => {
            return Err(SqlError::refused(kind::UNSUPPORTED, "there are several statements")
                .hint("send one statement at a time"));
        }
    };
    check(&statement)?;
    Ok(statement)
}

/// Where a name stands in the text, outside of strings and comments.
pub fn place_of(sql: &str, name: &str) -> Option<Place> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_name = |token: &Token| match token {
        Token::Word(word) if word.quote_style.is_some() => word.value == last,
        Token::Word(word) => word.value.eq_ignore_ascii_case(last),
        _ => false,
    };
    let tokens = tokenize(sql).ok()?;
    tokens
        .iter()
        .find(|t| is_name(&t.token))
        .and_then(|t| place(t.span.start))
}

/// Where a string literal with this text stands.
pub fn place_of_literal(sql: &str, text: &str) -> Option<Place> {
    let tokens = tokenize(sql).ok()?;
    let found = tokens
        .iter()
        .find(|t| matches!(&t.token, Token::SingleQuotedString(s) if s == text));
    found.and_then(|t| place(t.span.start))
}

/// Whether a token may add a level to the tree of the statement.
fn deepens(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen
    )
}

fn place(at: Location) -> Option<Place> {
    (at.line > 0).then_some(Place {
        line: at.line,
        column: at.column,
    })
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    Tokenizer::new(&VersionedDialect, sql)
        .tokenize_with_location()
        .map_err(|e| SqlError::refused(kind::SYNTAX, e.message.clone()).at(place(e.location)))
}

fn syntax(error: &datafusion::common::DataFusionError, sql: &str) -> SqlError {
    let mut failure = failure::explain(error, sql, &[]);
    failure.kind = kind::SYNTAX.to_owned();
    let found = failure.message.to_ascii_uppercase();
    if found.contains("FOUND: SYSTEM_TIME") || found.contains("FOUND: FOR") {
        failure.hint = Some(
            "the time comes right after the table's name, before its alias: process FOR SYSTEM_TIME AS OF '10:42' AS p"
                .to_owned(),
        );
    }
    SqlError::Refused(failure)
}

/// Refuses the forms of `FOR SYSTEM_TIME` and `FOR VERSION` that the parser does not know, with a better word than its own.
fn check_version_words(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let words: Vec<(String, Location)> = tokens
        .iter()
        .filter(|t| !matches!(t.token, Token::Whitespace(_)))
        .map(|t| match &t.token {
            Token::Word(word) if word.quote_style.is_none() => (word.value.to_ascii_uppercase(), t.span.start),
            _ => (String::new(), t.span.start),
        })
        .collect();
    for (i, window) in words.windows(3).enumerate() {
        let [(first, at), (second, _), (third, _)] = window else {
            continue;
        };
        let versions = matches!(
            second.as_str(),
            "SYSTEM_TIME" | "SYSTEM_VERSION" | "VERSION" | "TIMESTAMP"
        );
        if first != "FOR" || !versions {
            continue;
        }
        let fourth = words.get(i + 3).map_or("", |(word, _)| word);
        if second == "SYSTEM_TIME" && third == "AS" && fourth == "OF" {
            continue;
        }
        let form = format!("FOR {second} {third}");
        return Err(SqlError::refused(
            kind::UNSUPPORTED,
            format!("{} is not supported; only FOR SYSTEM_TIME AS OF is", form.trim_end()),
        )
        .hint("a range of times is read from the history: SELECT … FROM process_history WHERE time BETWEEN … AND …")
        .at(place(*at)));
    }
    Ok(())
}

fn check(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(sql) => check_sql(sql),
        Statement::Explain(explain) => check(&explain.statement),
        Statement::CreateExternalTable(_) => Err(read_only("CREATE")),
        Statement::CopyTo(_) => Err(read_only("COPY")),
        Statement::Reset(_) => Err(read_only("RESET")),
    }
}

fn check_sql(sql: &Sql) -> Result<(), SqlError> {
    match sql {
        Sql::Query(_)
        | Sql::ExplainTable { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. } => {}
        Sql::Explain { statement, .. } => return check_sql(statement),
        other => {
            let text = other.to_string();
            return Err(read_only(text.split_whitespace().next().unwrap_or_default()));
        }
    }
    match sql.visit(&mut Check::default()) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn read_only(word: &str) -> SqlError {
    SqlError::refused(kind::UNSUPPORTED, format!("{word} is not possible: queries only read"))
        .hint("what can be asked: SELECT, WITH … SELECT, EXPLAIN, SHOW TABLES, DESCRIBE table")
}

/// Refuses the parts of a query that the engine would drop without a word.
#[derive(Default)]
struct Check {
    depth: usize,
}

impl Visitor for Check {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<SqlError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("an expression has more than {DEEPEST} levels");
            return ControlFlow::Break(
                SqlError::refused(kind::UNSUPPORTED, message).hint("write many values as a list: pid IN (1, 2, …)"),
            );
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let refused = [
            (!query.locks.is_empty(), "FOR UPDATE and FOR SHARE"),
            (query.for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
            (!query.pipe_operators.is_empty(), "the pipe operator"),
        ];
        if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
            return not_supported(what, query.span().start);
        }
        match query.body.as_ref() {
            SetExpr::Insert(_) => ControlFlow::Break(read_only("INSERT")),
            SetExpr::Update(_) => ControlFlow::Break(read_only("UPDATE")),
            SetExpr::Delete(_) => ControlFlow::Break(read_only("DELETE")),
            SetExpr::Merge(_) => ControlFlow::Break(read_only("MERGE")),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
        let refused = [
            (select.into.is_some(), "SELECT … INTO"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (select.value_table_mode.is_some(), "SELECT AS VALUE"),
        ];
        match refused.iter().find(|(found, _)| *found) {
            Some((_, what)) => not_supported(what, select.span().start),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SqlError> {
        let TableFactor::Table {
            name,
            version,
            with_hints,
            partitions,
            with_ordinality,
            json_path,
            sample,
            index_hints,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let refused = [
            (sample.is_some(), "TABLESAMPLE"),
            (!with_hints.is_empty() || !index_hints.is_empty(), "a hint to a table"),
            (!partitions.is_empty(), "PARTITION"),
            (*with_ordinality, "WITH ORDINALITY"),
            (json_path.is_some(), "a path into a table"),
        ];
        if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
            return not_supported(what, start_of(name));
        }
        match version {
            None | Some(TableVersion::ForSystemTimeAsOf(_)) => ControlFlow::Continue(()),
            Some(TableVersion::TimestampAsOf(_)) => refuse_version("TIMESTAMP AS OF", name),
            Some(TableVersion::VersionAsOf(_)) => refuse_version("VERSION AS OF", name),
            Some(TableVersion::Function(_)) => refuse_version("AT (…) or BEFORE (…) after a table", name),
            Some(TableVersion::Changes { .. }) => refuse_version("CHANGES", name),
        }
    }
}

fn refuse_version(form: &str, name: &ObjectName) -> ControlFlow<SqlError> {
    ControlFlow::Break(
        SqlError::refused(kind::UNSUPPORTED, format!("{form} is not supported"))
            .hint(format!("write {name} FOR SYSTEM_TIME AS OF '…'"))
            .at(place(start_of(name))),
    )
}

fn not_supported(what: &str, at: Location) -> ControlFlow<SqlError> {
    ControlFlow::Break(SqlError::refused(kind::UNSUPPORTED, format!("{what} is not supported")).at(place(at)))
}

fn start_of(name: &ObjectName) -> Location {
    name.span().start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> vwatch_model::query::Failure {
        match parse(sql) {
            Ok(_) => panic!("{sql} is accepted"),
            Err(e) => e.failure(),
        }
    }

    #[test]
    fn reading_is_all_there_is() {
        for sql in [
            "SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a;",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
            "DESCRIBE process",
            "SELECT * FROM process FOR SYSTEM_TIME AS OF '10:42' AS p JOIN load USING (time)",
        ] {
            assert!(parse(sql).is_ok(), "{sql}: {:?}", parse(sql).err());
        }
        for sql in [
            "CREATE TABLE a (b INT)",
            "CREATE VIEW v AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY process TO '/tmp/x'",
            "COPY (SELECT 1) TO '/tmp/x.json'",
            "INSERT INTO process VALUES (1)",
            "UPDATE process SET pid = 1",
            "DELETE FROM process",
            "DROP TABLE process",
            "SET datafusion.execution.time_zone = 'UTC'",
            "EXPLAIN INSERT INTO process VALUES (1)",
            "SELECT 1 INTO t",
            "SELECT * FROM process FOR UPDATE",
            "SELECT * FROM process TABLESAMPLE BERNOULLI (10)",
            "SELECT 1; SELECT 2",
            "PREPARE p AS SELECT 1",
            "BEGIN",
        ] {
            assert_eq!(refusal(sql).kind, kind::UNSUPPORTED, "{sql}: {:?}", refusal(sql));
        }
    }

    #[test]
    fn every_other_version_clause_is_refused() {
        for sql in [
            "SELECT * FROM process VERSION AS OF 2",
            "SELECT * FROM process TIMESTAMP AS OF '2026-01-02'",
            "SELECT * FROM process AT(TIMESTAMP => '2026-01-02')",
            "SELECT * FROM process BEFORE(TIMESTAMP => '2026-01-02')",
            "SELECT * FROM process FOR SYSTEM_TIME BETWEEN '10:00' AND '11:00'",
            "SELECT * FROM process FOR SYSTEM_TIME FROM '10:00' TO '11:00'",
            "SELECT * FROM process FOR SYSTEM_TIME ALL",
            "SELECT * FROM process FOR SYSTEM_VERSION AS OF 3",
            "SELECT * FROM process FOR VERSION AS OF 3",
            "SELECT * FROM process FOR TIMESTAMP AS OF '10:00'",
            "SELECT * FROM (SELECT * FROM process VERSION AS OF 2) p",
            "WITH p AS (SELECT * FROM process VERSION AS OF 2) SELECT * FROM p",
            "SELECT (SELECT max(pid) FROM process VERSION AS OF 2)",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM process FOR SYSTEM_TIME ALL)",
        ] {
            let failure = refusal(sql);
            assert_eq!(failure.kind, kind::UNSUPPORTED, "{sql}: {failure:?}");
            assert!(
                failure.line == Some(1) && failure.column.is_some(),
                "{sql}: {failure:?}"
            );
        }
    }

    #[test]
    fn places() {
        let failure = refusal("SELECT pid\nFORM process");
        assert_eq!(
            (failure.kind.as_str(), failure.line),
            (kind::SYNTAX, Some(2)),
            "{failure:?}"
        );
        let failure = refusal("SELECT 'open");
        assert_eq!(
            (failure.kind.as_str(), failure.column),
            (kind::SYNTAX, Some(8)),
            "{failure:?}"
        );
        let failure = refusal("SELECT * FROM process p FOR SYSTEM_TIME AS OF '10:42'");
        assert!(failure.hint.is_some_and(|h| h.contains("alias")));
        assert_eq!(refusal("").kind, kind::SYNTAX);
        assert_eq!(refusal("  -- nothing").kind, kind::SYNTAX);
        assert_eq!(
            place_of("SELECT 'pidd',\n pidd", "pidd"),
            Some(Place { line: 2, column: 2 })
        );
    }
}
