//! Why a call into a plugin, or a plugin's call into the host, was not done.

use vwatch_abi::v1;

/// Kinds of faults: the codes of `vwatch_abi::v1::fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It did not work this time.
    Failed,
    /// This kernel or machine cannot do it.
    Unsupported,
    /// A privilege is missing.
    Denied,
    /// There is nothing to report; not a failure.
    NoData,
    /// The plugin panicked.
    Panicked,
    /// An option, a command or what a plugin handed over is wrong.
    BadInput,
    /// The named thing does not exist.
    NotFound,
    /// The other side has left.
    Gone,
    /// Not now.
    Busy,
    /// `call` does not know the operation.
    NoSuchOperation,
}

/// Kinds and their codes on the wire.
const CODES: [(FaultKind, u32); 10] = [
    (FaultKind::Failed, v1::fault::FAILED),
    (FaultKind::Unsupported, v1::fault::UNSUPPORTED),
    (FaultKind::Denied, v1::fault::DENIED),
    (FaultKind::NoData, v1::fault::NO_DATA),
    (FaultKind::Panicked, v1::fault::PANICKED),
    (FaultKind::BadInput, v1::fault::BAD_INPUT),
    (FaultKind::NotFound, v1::fault::NOT_FOUND),
    (FaultKind::Gone, v1::fault::GONE),
    (FaultKind::Busy, v1::fault::BUSY),
    (FaultKind::NoSuchOperation, v1::fault::NO_SUCH_OPERATION),
];

impl FaultKind {
    /// The word for it in `probe_run.outcome` and in messages.
    pub fn word(self) -> &'static str {
        match self {
            FaultKind::Failed => "failed",
            FaultKind::Unsupported => "unsupported",
            FaultKind::Denied => "denied",
            FaultKind::NoData => "no_data",
            FaultKind::Panicked => "panicked",
            FaultKind::BadInput => "bad_input",
            FaultKind::NotFound => "not_found",
            FaultKind::Gone => "gone",
            FaultKind::Busy => "busy",
            FaultKind::NoSuchOperation => "no_such_operation",
        }
    }

    fn code(self) -> u32 {
        CODES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or(v1::fault::FAILED, |(_, code)| *code)
    }

    /// An unknown code is a failure like any other.
    fn from_code(code: u32) -> Self {
        CODES
            .iter()
            .find(|(_, c)| *c == code)
            .map_or(FaultKind::Failed, |(kind, _)| *kind)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
    /// Byte offset in the input that is wrong.
    pub position: Option<u64>,
}

impl Fault {
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault {
            kind,
            message: message.into(),
            position: None,
        }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Fault::new(FaultKind::Failed, message)
    }

    pub fn bad_input(message: impl Into<String>) -> Self {
        Fault::new(FaultKind::BadInput, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Fault::new(FaultKind::NotFound, message)
    }

    pub fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    pub(crate) fn from_abi(fault: &v1::Fault) -> Self {
        Fault {
            kind: FaultKind::from_code(fault.code),
            message: crate::convert::message(&fault.message),
            position: u64::try_from(fault.position).ok(),
        }
    }

    pub(crate) fn into_abi(self) -> v1::Fault {
        v1::Fault {
            code: self.kind.code(),
            message: self.message.into(),
            position: self.position.and_then(|p| i64::try_from(p).ok()).unwrap_or(-1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_codes() {
        for (kind, code) in CODES {
            assert_eq!(FaultKind::from_code(code), kind);
            assert_eq!(kind.code(), code);
        }
        assert_eq!(FaultKind::from_code(4711), FaultKind::Failed);
    }

    #[test]
    fn a_fault_crosses_and_comes_back() {
        let fault = Fault::bad_input("no column `cmm`").at(7);
        assert_eq!(Fault::from_abi(&fault.clone().into_abi()), fault);
        let long = Fault::failed("ä".repeat(10_000)).into_abi();
        assert_eq!(Fault::from_abi(&long).message.chars().count(), 8193);
        let plain = Fault::failed("");
        assert_eq!(Fault::from_abi(&plain.clone().into_abi()), plain);
    }
}
