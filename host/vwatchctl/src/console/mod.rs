//! `vwatchctl console`: questions one after the other.
//!
//! On a terminal with an editor (history, completion, several lines until `;`); otherwise a script from standard input.

mod complete;
mod editor;
mod session;
mod statement;

use std::io::IsTerminal;

use crate::context::Context;
use crate::failure::{Failed, Outcome, say};
use session::{Flow, Session};

/// Longest statement of a script.
const MAX_STATEMENT: usize = 1 << 20;

pub async fn run(context: &Context) -> Result<Outcome, Failed> {
    match std::io::stdin().is_terminal() {
        true => editor::run(context).await,
        false => script(context).await,
    }
}

/// Runs all statements; the first that fails gives the exit status.
async fn script(context: &Context) -> Result<Outcome, Failed> {
    let mut session = Session::new(context, false);
    let mut text = String::new();
    let (mut failed, mut partial) = (None, false);
    let input = std::io::stdin();
    loop {
        let read = input.read_line(&mut text);
        let end = read.map_err(|e| Failed::because(format!("cannot read standard input: {e}")))? == 0;
        if text.len() > MAX_STATEMENT {
            return Err(Failed::because("a statement longer than 1 MiB; is a ; missing?"));
        }
        if !end && !statement::is_complete(&text) {
            continue;
        }
        for part in statement::split(&std::mem::take(&mut text)) {
            match session.run(&part).await {
                Ok(Flow::Done(outcome)) => partial |= outcome == Outcome::Partial,
                Ok(Flow::Quit) => return ended(failed, partial),
                Ok(Flow::Cancelled) => return Err(Failed::Said(crate::INTERRUPTED)),
                Err(e) if matches!(e.exit_code(), 0 | 3) => return Err(e),
                Err(e) => {
                    say(&e.render(context.color_errors));
                    failed.get_or_insert(e.exit_code());
                }
            }
        }
        if end {
            return ended(failed, partial);
        }
    }
}

fn ended(failed: Option<u8>, partial: bool) -> Result<Outcome, Failed> {
    match (failed, partial) {
        (Some(code), _) => Err(Failed::Said(code)),
        (None, true) => Ok(Outcome::Partial),
        (None, false) => Ok(Outcome::Done),
    }
}
