//! Commands of plugins: the words go to the daemon, its rows come back.

use std::io::Write as _;

use vwatch_client::{ClientError, CommandReply};
use vwatch_model::control::ErrorBody;

use crate::cli::Words;
use crate::context::{Context, stdout};
use crate::failure::{Failed, Outcome, say};
use crate::listing::{Listing, clean};

/// A verb that vwatchctl knows and a plugin gives its meaning.
pub async fn verb(context: &Context, verb: &str, words: Words) -> Result<Outcome, Failed> {
    let mut all = vec![verb.to_owned()];
    all.extend(words.words);
    command(context, &all).await
}

pub async fn command(context: &Context, words: &[String]) -> Result<Outcome, Failed> {
    match context.control()?.command(words).await {
        Ok(reply) => print(context, reply).await,
        Err(ClientError::Control(body)) => Err(refused(words, body)),
        Err(e) => Err(e.into()),
    }
}

/// The answer of a plugin that knows the command; none when there is no such plugin.
pub async fn offered(context: &Context, words: &[String]) -> Result<Option<CommandReply>, Failed> {
    match context.control()?.command(words).await {
        Ok(reply) => Ok(Some(reply)),
        Err(ClientError::Control(body)) if body.kind == "not_found" => Ok(None),
        Err(ClientError::Control(body)) => Err(refused(words, body)),
        Err(e) => Err(e.into()),
    }
}

/// The daemon's or the plugin's own error, with its place in the words.
fn refused(words: &[String], body: ErrorBody) -> Failed {
    let hint = match body.kind.as_str() {
        "not_found" => body.hint.or(Some(
            "vwatchctl plugin list shows the plugins that are loaded".to_owned(),
        )),
        _ => body.hint,
    };
    Failed::Because {
        message: match body.position {
            Some(position) => format!("{}\n  {}", body.message, marked(words, position)),
            None => body.message,
        },
        hint,
    }
}

/// Rows if the command has any, what it says about them, and what it goes on to send.
pub async fn print(context: &Context, reply: CommandReply) -> Result<Outcome, Failed> {
    let answer = reply.answer;
    if !answer.columns.is_empty() {
        let (columns, rows) = (answer.columns, answer.rows);
        Listing { columns, rows }.print(context)?;
    }
    for note in &answer.notes {
        say(&format!("{}\n", clean(note)));
    }
    if let Some(mut live) = reply.live {
        let mut out = stdout();
        while let Some(bytes) = live.next().await? {
            out.write_all(&bytes)?;
            out.flush()?;
        }
    }
    Ok(Outcome::Done)
}

/// The words on one line, and a mark under the byte that the error is about.
fn marked(words: &[String], position: u64) -> String {
    let line = words.join(" ");
    let before = usize::try_from(position).unwrap_or(usize::MAX).min(line.len());
    let indent = line.char_indices().take_while(|(at, _)| *at < before).count();
    format!("{line}\n  {}^", " ".repeat(indent))
}

#[cfg(test)]
mod tests {
    use super::marked;

    #[test]
    fn the_mark_stands_under_the_byte() {
        let words = ["add".to_owned(), "alert é > x".to_owned()];
        assert_eq!(marked(&words, 13), "add alert é > x\n              ^");
        assert!(marked(&words, u64::MAX).ends_with('^'));
    }
}
