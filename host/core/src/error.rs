//! What keeps the recorder from starting, and why a request is not granted.

use std::path::PathBuf;
use vwatch_config::ConfigError;
use vwatch_loader::{Fault, FaultKind};
use vwatch_model::control::ErrorBody;
use vwatch_store::StoreError;

/// Why the recorder does not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("store: {0}")]
    Store(#[from] StoreError),
    #[error("store {}: {what}", path.display())]
    StoreCheck { path: PathBuf, what: String },
    #[error("socket {}: {what}", path.display())]
    Socket { path: PathBuf, what: String },
    #[error("cannot {what}: {source}")]
    System { what: String, source: std::io::Error },
}

impl CoreError {
    pub(crate) fn system(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        CoreError::System {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// The kinds of `ErrorBody`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    NotFound,
    BadInput,
    Denied,
    Conflict,
    Unsupported,
    Failed,
}

impl RefusalKind {
    pub fn word(self) -> &'static str {
        match self {
            RefusalKind::NotFound => "not_found",
            RefusalKind::BadInput => "bad_input",
            RefusalKind::Denied => "denied",
            RefusalKind::Conflict => "conflict",
            RefusalKind::Unsupported => "unsupported",
            RefusalKind::Failed => "failed",
        }
    }
}

/// Why a request of a person or a plugin is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub kind: RefusalKind,
    pub message: String,
    pub hint: Option<String>,
    /// Byte offset in the input.
    pub position: Option<u64>,
}

impl Refused {
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Refused {
            kind,
            message: message.into(),
            hint: None,
            position: None,
        }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Refused::new(RefusalKind::NotFound, message)
    }

    pub fn bad_input(message: impl Into<String>) -> Self {
        Refused::new(RefusalKind::BadInput, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Refused::new(RefusalKind::Conflict, message)
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Refused::new(RefusalKind::Failed, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// `did you mean …?`, when there is a near name.
    pub fn nearest(mut self, name: Option<String>) -> Self {
        if let Some(name) = name {
            self.hint = Some(format!("did you mean {name}?"));
        }
        self
    }

    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            kind: self.kind.word().to_owned(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            position: self.position,
        }
    }
}

impl From<crate::pipeline::Ended> for Refused {
    fn from(ended: crate::pipeline::Ended) -> Self {
        Refused::failed(ended.to_string())
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::BadInput => RefusalKind::BadInput,
            FaultKind::NotFound | FaultKind::NoData => RefusalKind::NotFound,
            FaultKind::Denied => RefusalKind::Denied,
            FaultKind::Unsupported | FaultKind::NoSuchOperation => RefusalKind::Unsupported,
            FaultKind::Busy => RefusalKind::Conflict,
            FaultKind::Failed | FaultKind::Panicked | FaultKind::Gone => RefusalKind::Failed,
        };
        Refused {
            kind,
            message: fault.message,
            hint: None,
            position: fault.position,
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        let kind = match refused.kind {
            RefusalKind::NotFound => FaultKind::NotFound,
            RefusalKind::BadInput => FaultKind::BadInput,
            RefusalKind::Denied => FaultKind::Denied,
            RefusalKind::Conflict => FaultKind::Busy,
            RefusalKind::Unsupported => FaultKind::Unsupported,
            RefusalKind::Failed => FaultKind::Failed,
        };
        let message = match refused.hint {
            Some(hint) => format!("{} ({hint})", refused.message),
            None => refused.message,
        };
        Fault {
            kind,
            message,
            position: refused.position,
        }
    }
}
