//! Commands of plugins: `POST /v1/commands`.
//!
//! The answer is a `CommandAnswer`. Where the plugin goes on sending, it is a line with the `CommandAnswer`, then what the plugin
//! sends, as it is, until the plugin closes the stream or the client leaves; its content type is [`STREAM_TYPE`].

use super::answer::{Asked, aside, denied, read};
use super::json_rows;
use super::peer::Peer;
use crate::error::{RefusalKind, Refused};
use crate::recorder::Recorder;
use crate::scheduler::task::LoadedPlugin;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use vwatch_config::nearest;
use vwatch_loader::{CommandAnswer, CommandCall, CommandEntry, Fault};
use vwatch_model::control;

pub const STREAM_TYPE: &str = "application/vnd.vwatch.stream";
/// A command that takes longer is given up; its thread is left behind.
const LIMIT: Duration = Duration::from_secs(30);

pub async fn command(
    State(recorder): State<Arc<Recorder>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request: control::CommandRequest = match read(body) {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    let words = request.words;
    let (plugin, entry) = match recorder.find_command(&words) {
        Ok(found) => found,
        Err(refused) => return refused.into_response(),
    };
    let changes = entry.changes;
    let target = Some(format!("{} {}", plugin.name, entry.name));
    let detail = serde_json::to_string(&words).ok();
    let result = match changes && !peer.may_change() {
        true => Err(denied(peer)),
        false => carry_out(&recorder, plugin, entry, words, peer).await,
    };
    if changes {
        let asked = Asked {
            peer,
            action: "command",
            target,
            detail,
        };
        recorder.audit(asked, result.as_ref().err());
    }
    result.unwrap_or_else(IntoResponse::into_response)
}

async fn carry_out(
    recorder: &Arc<Recorder>,
    plugin: Arc<LoadedPlugin>,
    entry: CommandEntry,
    words: Vec<String>,
    peer: Peer,
) -> Result<Response, Refused> {
    let (number, receiver) = recorder.streams.open();
    // A plugin counts from the words after its command's name; a person sees the whole line.
    let before = entry.name.len() as u64 + 1;
    let call = CommandCall {
        words: words[entry.name.split(' ').count()..].to_vec(),
        name: entry.name,
        uid: peer.uid,
        gid: peer.gid,
        pid: peer.pid,
        stream: number,
    };
    let answer = call_plugin(plugin, call).await.map_err(|refused| Refused {
        position: refused.position.map(|position| position + before),
        ..refused
    });
    match answer {
        Ok(answer) if answer.streaming => {
            let first = aside(recorder.clone(), move |_| document(answer)).await?;
            streaming(&first, receiver)
        }
        other => {
            // The plugin may have closed it by itself.
            let _ = recorder.streams.close(number);
            let answer = other?;
            Ok(Json(aside(recorder.clone(), move |_| document(answer)).await?).into_response())
        }
    }
}

/// Calls the plugin on a thread of its own, which it may keep.
async fn call_plugin(plugin: Arc<LoadedPlugin>, call: CommandCall) -> Result<CommandAnswer, Refused> {
    let name = call.name.clone();
    let (sender, receiver) = tokio::sync::oneshot::channel::<Result<CommandAnswer, Fault>>();
    let work = move || {
        // Whoever asked may have given up.
        let _ = sender.send(plugin.calls.command(&call));
    };
    crate::process::spawn("command", work).map_err(|e| Refused::failed(format!("no thread for the command: {e}")))?;
    match tokio::time::timeout(LIMIT, receiver).await {
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(_)) => Err(Refused::failed(format!("command {name} ended without an answer"))),
        Err(_) => Err(Refused::failed(format!(
            "command {name} did not answer within {} s",
            LIMIT.as_secs()
        ))),
    }
}

fn document(answer: CommandAnswer) -> Result<control::CommandAnswer, Refused> {
    let rows = answer.rows.as_ref().map(json_rows::objects).unwrap_or_default();
    Ok(control::CommandAnswer {
        columns: answer.columns,
        rows,
        notes: answer.notes,
    })
}

fn streaming(first: &control::CommandAnswer, receiver: Receiver<Bytes>) -> Result<Response, Refused> {
    let mut line = serde_json::to_vec(first).map_err(|e| Refused::failed(e.to_string()))?;
    line.push(b'\n');
    let rest = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let pieces = stream::iter([Bytes::from(line)]).chain(rest).map(Ok::<_, Infallible>);
    Ok(([(CONTENT_TYPE, STREAM_TYPE)], Body::from_stream(pieces)).into_response())
}

impl Recorder {
    /// The command with the longest name that the words begin with.
    fn find_command(&self, words: &[String]) -> Result<(Arc<LoadedPlugin>, CommandEntry), Refused> {
        let mut best: Option<(usize, Arc<LoadedPlugin>, CommandEntry)> = None;
        let mut names = Vec::new();
        for plugin in self.plugins.loaded() {
            for entry in &plugin.calls.manifest().commands {
                let name: Vec<&str> = entry.name.split(' ').collect();
                let fits = words.len() >= name.len() && name.iter().zip(words).all(|(a, b)| a == b);
                if fits && best.as_ref().is_none_or(|(length, ..)| name.len() > *length) {
                    best = Some((name.len(), plugin.clone(), entry.clone()));
                }
                names.push(entry.name.clone());
            }
        }
        if let Some((_, plugin, entry)) = best {
            return Ok((plugin, entry));
        }
        let said = words.join(" ");
        let refused = match words.is_empty() {
            true => Refused::bad_input("a command has at least one word"),
            false => Refused::new(
                RefusalKind::NotFound,
                format!("no loaded plugin has a command {said:?}"),
            ),
        };
        Err(refused.nearest(nearest(&said, names.iter().map(String::as_str))))
    }
}
