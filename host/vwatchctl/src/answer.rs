//! A question and its answer: rows to the sink as they arrive, everything else to standard error.

use std::io::Read;

use vwatch_client::output::Sink;
use vwatch_client::{Answer, Part};
use vwatch_model::query::{Done, Partial, Request};

use crate::cli::Query;
use crate::context::Context;
use crate::failure::{Failed, Outcome, say};
use crate::progress::ProgressLine;

/// Longest question that is read from standard input.
const MAX_QUESTION: u64 = 1 << 20;

/// `vwatchctl query`.
pub async fn query(context: &Context, query: Query) -> Result<Outcome, Failed> {
    let sql = match query.sql.as_str() {
        "-" => read_question()?,
        _ => query.sql,
    };
    let request = Request {
        at: query.at,
        from: query.from,
        to: query.to,
        ..context.request(sql)
    };
    print(context, &request).await
}

fn read_question() -> Result<String, Failed> {
    let mut sql = String::new();
    let read = std::io::stdin().take(MAX_QUESTION + 1).read_to_string(&mut sql);
    read.map_err(|e| Failed::because(format!("cannot read the question from standard input: {e}")))?;
    if sql.len() as u64 > MAX_QUESTION {
        return Err(Failed::because("the question on standard input is longer than 1 MiB"));
    }
    Ok(sql)
}

/// Asks, and writes the answer to standard output.
pub async fn print(context: &Context, request: &Request) -> Result<Outcome, Failed> {
    let sink = context.sink()?;
    let done = stream(context, request, sink).await?;
    Ok(tell_partial(&done.partial))
}

/// Asks, and hands the answer to `sink` batch by batch.
pub async fn stream(context: &Context, request: &Request, mut sink: Box<dyn Sink>) -> Result<Done, Failed> {
    let mut talk = ProgressLine::new();
    let request = Request {
        progress: talk.is_wanted(),
        ..request.clone()
    };
    let about = |e| Failed::about(e, &request.sql);
    let mut answer = context.queries()?.ask(&request).await.map_err(about)?;
    let result = write(&mut answer, sink.as_mut(), &mut talk).await;
    talk.end();
    let done = result.map_err(|e| match e {
        Failed::Client(e) => about(e),
        other => other,
    })?;
    for note in sink.finish()? {
        say(&format!("note: {note}\n"));
    }
    Ok(done)
}

async fn write(answer: &mut Answer, sink: &mut dyn Sink, talk: &mut ProgressLine) -> Result<Done, Failed> {
    loop {
        match answer.next().await? {
            Some(Part::Schema(schema)) => sink.schema(&schema)?,
            Some(Part::Rows(batch)) => {
                talk.clear();
                sink.rows(&batch)?;
            }
            Some(Part::Progress(progress)) => talk.show(&progress),
            Some(Part::Done(done)) => return Ok(done),
            None => return Err(Failed::because("the answer has no end")),
        }
    }
}

/// Whether a sentence has `table` among its words.
fn names(sentence: &str, table: &str) -> bool {
    sentence
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == table)
}

/// Says why an answer is not whole, if it is not.
pub fn tell_partial(partial: &[Partial]) -> Outcome {
    for reason in partial {
        match &reason.table {
            Some(table) if !names(&reason.reason, table) => {
                say(&format!("partial answer: {table}: {}\n", reason.reason));
            }
            _ => say(&format!("partial answer: {}\n", reason.reason)),
        }
    }
    match partial.is_empty() {
        true => Outcome::Done,
        false => Outcome::Partial,
    }
}
