//! What can go wrong between a client and the daemon, said so that a person knows what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use vwatch_model::control::ErrorBody;
use vwatch_model::query::Failure;
use vwatch_model::unit::format_duration;

use crate::output::OutputError;
use crate::stream::StreamError;

/// A socket that was tried, and why it did not answer.
#[derive(Debug)]
pub struct Tried {
    pub path: PathBuf,
    pub error: io::Error,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.error.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::ConnectionRefused => "nobody listens on it".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => self.error.to_string(),
        };
        write!(f, "{}: {why}", self.path.display())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no vwatchd answers ({})", list(.0))]
    Unreachable(Vec<Tried>),
    /// The daemon's own answer to a control request.
    #[error("{}", .0.message)]
    Control(ErrorBody),
    /// The engine's own answer to a query.
    #[error("{}", .0.message)]
    Query(Failure),
    #[error("{what} took longer than {}", format_duration(*.after))]
    Timeout { what: String, after: Duration },
    #[error("the connection to {} broke: {source}", .path.display())]
    Connection { path: PathBuf, source: io::Error },
    /// The other side speaks something else than what was agreed.
    #[error("{} does not speak vwatchd's control protocol: {what}", .path.display())]
    Protocol { path: PathBuf, what: String },
    #[error("the answer cannot be read: {0}")]
    Stream(StreamError),
    #[error("the answer was cut off{}", .detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    CutOff { detail: Option<String> },
    /// LMDB believes its pages; where they are damaged in a bad place, it takes its process with it.
    #[error("reading {} killed vwatch-query (signal {signal}): its pages are damaged", .store.display())]
    EngineDied { store: PathBuf, signal: i32 },
    #[error("cannot read the store {}: {source}", .path.display())]
    NoStore { path: PathBuf, source: io::Error },
    #[error("the SQL engine vwatch-query is not beside this program (looked for {})", paths(.0))]
    NoEngine(Vec<PathBuf>),
    #[error("cannot start {}: {source}", .path.display())]
    EngineStart { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Unreachable(tried) => Some(unreachable_hint(tried)),
            ClientError::Control(body) => body.hint.clone(),
            ClientError::Query(failure) => failure.hint.clone(),
            ClientError::Timeout { .. } => Some("give it more time with --timeout".to_owned()),
            ClientError::CutOff { detail: None } => Some("the daemon's log says why its SQL engine ended".to_owned()),
            ClientError::EngineDied { .. } => Some(
                "ask for less, one table or a shorter time, or export what still answers; then go back to a copy"
                    .to_owned(),
            ),
            ClientError::NoEngine(_) => Some("install vwatch-query into the same directory".to_owned()),
            _ => None,
        }
    }
}

fn list(tried: &[Tried]) -> String {
    tried.iter().map(Tried::to_string).collect::<Vec<_>>().join("; ")
}

fn paths(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    shown.join(", ")
}

/// A refusal says more than an absence: somebody is there.
fn unreachable_hint(tried: &[Tried]) -> String {
    let any = |kind: io::ErrorKind| tried.iter().find(|t| t.error.kind() == kind);
    if any(io::ErrorKind::PermissionDenied).is_some() {
        return "a daemon may be there, but you may not talk to it: join the group vwatch, or become root".to_owned();
    }
    if let Some(dead) = any(io::ErrorKind::ConnectionRefused) {
        return format!(
            "{} was left behind by a daemon that has died; start vwatchd again",
            dead.path.display()
        );
    }
    "is vwatchd running? Start it, name its socket with --socket, or read a store file with --store".to_owned()
}
