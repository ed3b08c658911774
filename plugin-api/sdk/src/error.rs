//! What a probe answers when it has no rows to give.

use std::io;
use vwatch_abi::v1::{Fault, fault};

/// Of the sdk and of everything that authors implement.
pub type Result<T, E = ProbeError> = std::result::Result<T, E>;

/// How the host is to take a [`ProbeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It did not work this time: counted as a failure, tried again.
    Failed,
    /// This kernel or machine cannot do it: not tried again soon.
    Unsupported,
    /// The daemon lacks a privilege.
    Denied,
    /// There is nothing to report; not a failure.
    NoData,
    /// Code of the plugin panicked.
    Panicked,
    /// An option or a command is wrong.
    BadInput,
    /// The named thing does not exist.
    NotFound,
    /// The other side has left.
    Gone,
    /// Not now: the other side has too much to do.
    Busy,
    /// The other side does not know the operation.
    NoSuchOperation,
}

/// Why something was not done, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProbeError {
    pub kind: Kind,
    pub message: String,
    /// Byte offset in the command or option text.
    pub position: Option<u64>,
}

impl ProbeError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        ProbeError {
            kind,
            message: message.into(),
            position: None,
        }
    }

    /// It did not work this time.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// This kernel or machine cannot do it. Say what is missing.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// The daemon lacks a privilege. Say which.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, message)
    }

    /// There is nothing to report; not a failure.
    pub fn no_data(message: impl Into<String>) -> Self {
        Self::new(Kind::NoData, message)
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The input is wrong.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Kind::BadInput, message)
    }

    /// The option `name` is wrong.
    pub fn bad_option(name: &str, message: impl std::fmt::Display) -> Self {
        Self::new(Kind::BadInput, format!("option {name}: {message}"))
    }

    /// The same error, at this byte of the input.
    pub fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    /// The same error about `what`: a file, a device.
    pub fn about(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

/// `EACCES` and `EPERM` are [`Kind::Denied`], all else is [`Kind::Failed`].
impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            _ => Kind::Failed,
        };
        ProbeError::new(kind, error.to_string())
    }
}

impl From<ProbeError> for Fault {
    fn from(error: ProbeError) -> Self {
        Fault {
            code: match error.kind {
                Kind::Failed => fault::FAILED,
                Kind::Unsupported => fault::UNSUPPORTED,
                Kind::Denied => fault::DENIED,
                Kind::NoData => fault::NO_DATA,
                Kind::Panicked => fault::PANICKED,
                Kind::BadInput => fault::BAD_INPUT,
                Kind::NotFound => fault::NOT_FOUND,
                Kind::Gone => fault::GONE,
                Kind::Busy => fault::BUSY,
                Kind::NoSuchOperation => fault::NO_SUCH_OPERATION,
            },
            message: error.message.into(),
            position: error.position.and_then(|p| i64::try_from(p).ok()).unwrap_or(-1),
        }
    }
}

impl From<Fault> for ProbeError {
    fn from(fault: Fault) -> Self {
        ProbeError {
            kind: match fault.code {
                fault::UNSUPPORTED => Kind::Unsupported,
                fault::DENIED => Kind::Denied,
                fault::NO_DATA => Kind::NoData,
                fault::PANICKED => Kind::Panicked,
                fault::BAD_INPUT => Kind::BadInput,
                fault::NOT_FOUND => Kind::NotFound,
                fault::GONE => Kind::Gone,
                fault::BUSY => Kind::Busy,
                fault::NO_SUCH_OPERATION => Kind::NoSuchOperation,
                _ => Kind::Failed,
            },
            message: fault.message.into(),
            position: u64::try_from(fault.position).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_and_back() {
        for kind in [
            Kind::Failed,
            Kind::Unsupported,
            Kind::Denied,
            Kind::NoData,
            Kind::Panicked,
            Kind::BadInput,
            Kind::NotFound,
            Kind::Gone,
            Kind::Busy,
            Kind::NoSuchOperation,
        ] {
            let error = ProbeError::new(kind, "why").at(7);
            assert_eq!(ProbeError::from(Fault::from(error.clone())), error);
        }
        let unknown = Fault {
            code: 4711,
            message: "new".into(),
            position: -1,
        };
        assert_eq!(ProbeError::from(unknown), ProbeError::failed("new"));
    }

    #[test]
    fn the_kernels_refusals_are_denials() {
        for errno in [1, 13] {
            assert_eq!(ProbeError::from(io::Error::from_raw_os_error(errno)).kind, Kind::Denied);
        }
        assert_eq!(ProbeError::from(io::Error::from_raw_os_error(3)).kind, Kind::Failed);
    }
}
