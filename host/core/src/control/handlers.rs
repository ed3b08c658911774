//! What each path does.

use super::answer::{Asked, aside, read, respond};
use super::peer::Peer;
use crate::error::Refused;
use crate::recorder::Recorder;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use std::path::PathBuf;
use std::sync::Arc;
use vwatch_config::nearest;
use vwatch_loader::Refusal;
use vwatch_model::control::{AddProbe, InstanceList, PluginList, PluginRequest, ProbeList};

type Body = Result<Bytes, BytesRejection>;
type Name = Result<Path<String>, PathRejection>;
type Shared = State<Arc<Recorder>>;
type From = ConnectInfo<Peer>;

pub async fn status(State(recorder): Shared) -> Response {
    respond(aside(recorder, |recorder| Ok(recorder.status())).await)
}

pub async fn plugins(State(recorder): Shared) -> Response {
    let list = |recorder: &Recorder| {
        Ok(PluginList {
            plugins: recorder.plugins.list(),
        })
    };
    respond(aside(recorder, list).await)
}

pub async fn probes(State(recorder): Shared) -> Response {
    let list = |recorder: &Recorder| {
        Ok(InstanceList {
            instances: recorder.scheduler.instances(),
        })
    };
    respond(aside(recorder, list).await)
}

pub async fn probes_available(State(recorder): Shared) -> Response {
    let list = |recorder: &Recorder| {
        Ok(ProbeList {
            probes: recorder.available(),
        })
    };
    respond(aside(recorder, list).await)
}

fn named(name: Name) -> Result<String, Refused> {
    match name {
        Ok(Path(name)) => Ok(name),
        Err(e) => Err(Refused::bad_input(e.body_text())),
    }
}

pub async fn probe(State(recorder): Shared, name: Name) -> Response {
    match named(name) {
        Ok(name) => respond(aside(recorder, move |recorder| recorder.probe(&name)).await),
        Err(refused) => refused.into_response(),
    }
}

pub async fn probe_add(State(recorder): Shared, ConnectInfo(peer): From, body: Body) -> Response {
    let request: AddProbe = match read(body) {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    let asked = Asked {
        peer,
        action: "probe_add",
        target: Some(request.probe.clone()),
        detail: serde_json::to_string(&request.settings).ok(),
    };
    respond(
        asked
            .change(recorder, move |recorder| recorder.add_probe(&request))
            .await,
    )
}

pub async fn probe_remove(State(recorder): Shared, ConnectInfo(peer): From, name: Name) -> Response {
    let name = match named(name) {
        Ok(name) => name,
        Err(refused) => return refused.into_response(),
    };
    let asked = Asked {
        peer,
        action: "probe_remove",
        target: Some(name.clone()),
        detail: None,
    };
    respond(
        asked
            .change(recorder, move |recorder| recorder.remove_probe(&name))
            .await,
    )
}

pub async fn plugin_load(State(recorder): Shared, ConnectInfo(peer): From, body: Body) -> Response {
    plugin_change(recorder, peer, body, "plugin_load", load).await
}

pub async fn plugin_unload(State(recorder): Shared, ConnectInfo(peer): From, body: Body) -> Response {
    plugin_change(recorder, peer, body, "plugin_unload", unload).await
}

pub async fn plugin_reload(State(recorder): Shared, ConnectInfo(peer): From, body: Body) -> Response {
    plugin_change(recorder, peer, body, "plugin_reload", reload).await
}

async fn plugin_change(
    recorder: Arc<Recorder>,
    peer: Peer,
    body: Body,
    action: &'static str,
    work: fn(&Recorder, &str) -> Result<PathBuf, Refused>,
) -> Response {
    let request: PluginRequest = match read(body) {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    let asked = Asked {
        peer,
        action,
        target: Some(request.plugin.clone()),
        detail: None,
    };
    let change = move |recorder: &Recorder| {
        let file = work(recorder, &request.plugin)?;
        Ok(PluginList {
            plugins: recorder.plugins.describe(&file).into_iter().collect(),
        })
    };
    respond(asked.change(recorder, change).await)
}

fn load(recorder: &Recorder, word: &str) -> Result<PathBuf, Refused> {
    let file = recorder
        .plugins
        .find(word)
        .unwrap_or_else(|| match word.starts_with('/') {
            true => PathBuf::from(word),
            false => recorder.config().plugins.join(word),
        });
    if recorder.plugins.is_current(&file) && recorder.plugins.loaded().iter().any(|p| p.calls.file() == file) {
        return Err(Refused::conflict(format!("{} is loaded already", file.display())).hint("reload it instead"));
    }
    if !file.exists() {
        return Err(unknown(recorder, word, &format!("there is no file {}", file.display())));
    }
    recorder.load(&file).map_err(refusal)?;
    Ok(file)
}

fn unload(recorder: &Recorder, word: &str) -> Result<PathBuf, Refused> {
    let none = || unknown(recorder, word, &format!("no plugin {word} is loaded"));
    let file = recorder.plugins.find(word).ok_or_else(none)?;
    match recorder.unload(&file) {
        true => Ok(file),
        false => Err(none()),
    }
}

fn reload(recorder: &Recorder, word: &str) -> Result<PathBuf, Refused> {
    let none = || unknown(recorder, word, &format!("no plugin {word} is known"));
    let file = recorder.plugins.find(word).ok_or_else(none)?;
    recorder.load(&file).map_err(refusal)?;
    Ok(file)
}

fn unknown(recorder: &Recorder, word: &str, message: &str) -> Refused {
    let words = recorder.plugins.words();
    Refused::not_found(message).nearest(nearest(word, words.iter().map(String::as_str)))
}

fn refusal(refusal: Refusal) -> Refused {
    Refused::bad_input(format!("{}: {}", refusal.file.display(), refusal.reason)).hint(refusal.hint)
}
