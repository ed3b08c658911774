//! Answers: documents, errors, and the audit of changes.

use super::peer::Peer;
use crate::clock;
use crate::error::{RefusalKind, Refused};
use crate::recorder::Recorder;
use crate::rows::{ControlEvent, CoreRow};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::BadInput => StatusCode::BAD_REQUEST,
            RefusalKind::Denied => StatusCode::FORBIDDEN,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.body())).into_response()
    }
}

/// Does `work` on a thread where it may wait.
pub async fn aside<T: Send + 'static>(
    recorder: Arc<Recorder>,
    work: impl FnOnce(&Recorder) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(move || work(&recorder)).await;
    done.unwrap_or_else(|e| Err(Refused::failed(format!("the request was not carried out: {e}"))))
}

pub fn respond<T: Serialize>(result: Result<T, Refused>) -> Response {
    match result {
        Ok(document) => Json(document).into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// The body as a document.
pub fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refused> {
    let bytes = body.map_err(|e| Refused::bad_input(format!("body: {}", e.body_text())))?;
    serde_json::from_slice(&bytes).map_err(|e| Refused::bad_input(format!("body: {e}")))
}

/// A change that a peer asks for.
pub struct Asked {
    pub peer: Peer,
    pub action: &'static str,
    pub target: Option<String>,
    pub detail: Option<String>,
}

impl Asked {
    /// Carries the change out if the peer may; both is recorded.
    pub async fn change<T: Send + 'static>(
        self,
        recorder: Arc<Recorder>,
        work: impl FnOnce(&Recorder) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let result = match self.peer.may_change() {
            true => aside(recorder.clone(), work).await,
            false => Err(denied(self.peer)),
        };
        recorder.audit(self, result.as_ref().err());
        result
    }
}

pub fn denied(peer: Peer) -> Refused {
    Refused::new(RefusalKind::Denied, format!("user {} may look, not change", peer.uid))
        .hint("ask root, or the user that the daemon runs as")
}

impl Recorder {
    /// Records a change that was asked for, and what came of it.
    pub fn audit(&self, asked: Asked, refused: Option<&Refused>) {
        let comm = crate::process::comm(asked.peer.pid);
        let outcome = refused.map_or("ok", |refused| refused.kind.word());
        tracing::info!(
            "{} {} asked by user {} (process {}): {outcome}",
            asked.action,
            asked.target.as_deref().unwrap_or(""),
            asked.peer.uid,
            asked.peer.pid,
        );
        self.pipeline.row(CoreRow::Control(ControlEvent {
            time_ns: clock::now().wall_ns,
            uid: asked.peer.uid,
            gid: asked.peer.gid,
            pid: asked.peer.pid,
            comm,
            action: asked.action,
            target: asked.target,
            detail: asked.detail,
            outcome: outcome.to_owned(),
            message: refused.map(|refused| refused.message.clone()),
        }));
    }
}

pub async fn no_such_path(uri: Uri) -> Response {
    Refused::not_found(format!("there is nothing at {}", uri.path()))
        .hint("GET /v1/openapi.json describes what there is")
        .into_response()
}

pub async fn no_such_method(method: Method, uri: Uri) -> Response {
    let refused = Refused::bad_input(format!("{} does not know the method {method}", uri.path()));
    (StatusCode::METHOD_NOT_ALLOWED, Json(refused.body())).into_response()
}
