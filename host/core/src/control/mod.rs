//! The control service: HTTP with JSON on `control.sock` (documents: `vwatch_model::control`).
//!
//! Whoever the socket's mode lets connect may read; root and the daemon's own user may change. Every change that is asked for,
//! granted or not, becomes a row of `control_event` with the peer's credentials. Every error has an `ErrorBody`.
//!
//! **Invariants:** handlers run on threads of their own, so that a slow one holds up neither other clients nor the recording;
//! bodies and connections are bounded.

mod answer;
mod commands;
mod handlers;
mod json_rows;
mod openapi;
mod peer;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub use json_rows::objects;
pub use peer::{Gate, Peer};

use crate::recorder::Recorder;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use std::sync::Arc;

/// The longest request body.
const MAX_BODY_BYTES: usize = 1 << 20;

/// All routes.
pub fn router(recorder: Arc<Recorder>) -> Router {
    Router::new()
        .route("/v1/status", get(handlers::status))
        .route("/v1/plugins", get(handlers::plugins))
        .route("/v1/plugins/load", post(handlers::plugin_load))
        .route("/v1/plugins/unload", post(handlers::plugin_unload))
        .route("/v1/plugins/reload", post(handlers::plugin_reload))
        .route("/v1/probes", get(handlers::probes).post(handlers::probe_add))
        .route("/v1/probes/available", get(handlers::probes_available))
        .route("/v1/probes/{name}", get(handlers::probe).delete(handlers::probe_remove))
        .route("/v1/commands", post(commands::command))
        .route("/v1/openapi.json", get(openapi::document))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(recorder)
}

/// Serves until it is dropped.
pub async fn serve(listener: tokio::net::UnixListener, recorder: Arc<Recorder>) {
    let service = router(recorder).into_make_service_with_connect_info::<Peer>();
    if let Err(e) = axum::serve(Gate::new(listener), service).await {
        tracing::error!("control socket: {e}");
    }
}
