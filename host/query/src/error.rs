//! Why a query has no answer, or no whole one.
//!
//! [`SqlError`] is what this crate's functions return; [`Failure`] is the document that the client gets. Inside the engine
//! a refusal travels as the engine's "external" error and comes out unchanged ([`crate::failure`]).

use arrow_schema::ArrowError;
use datafusion::common::DataFusionError;
use vwatch_model::query::Failure;
use vwatch_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The query is refused or failed; the document says why.
    #[error("{}", .0.message)]
    Refused(Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("rows of the store do not have the form that its catalog declares: {0}")]
    Rows(#[source] ArrowError),
    /// The answer could not be written: the client is gone.
    #[error("cannot write the answer: {0}")]
    Send(#[source] std::io::Error),
    #[error("cannot encode the answer: {0}")]
    Encode(#[source] ArrowError),
}

/// The kinds of a [`Failure`].
pub mod kind {
    pub const SYNTAX: &str = "syntax";
    pub const UNKNOWN_TABLE: &str = "unknown_table";
    pub const UNKNOWN_COLUMN: &str = "unknown_column";
    pub const UNSUPPORTED: &str = "unsupported";
    pub const LIMIT: &str = "limit";
    pub const STORE: &str = "store";
    pub const REQUEST: &str = "request";
    pub const DENIED: &str = "denied";
    pub const INTERNAL: &str = "internal";
}

/// 1-based line and column in the SQL text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl SqlError {
    pub fn refused(kind: &str, message: impl Into<String>) -> SqlError {
        SqlError::Refused(Failure {
            kind: kind.to_owned(),
            message: message.into(),
            ..Failure::default()
        })
    }

    /// Adds what to do about it. Only a refusal has room for it.
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        if let SqlError::Refused(failure) = &mut self {
            failure.hint = Some(hint.into());
        }
        self
    }

    /// Adds where in the SQL text it is, when that is known.
    pub fn at(mut self, place: Option<Place>) -> SqlError {
        if let (SqlError::Refused(failure), Some(place)) = (&mut self, place) {
            failure.line = Some(place.line);
            failure.column = Some(place.column);
        }
        self
    }

    /// The document for the client.
    pub fn failure(&self) -> Failure {
        let of = |kind: &str, hint: Option<&str>| Failure {
            kind: kind.to_owned(),
            message: self.to_string(),
            hint: hint.map(str::to_owned),
            ..Failure::default()
        };
        match self {
            SqlError::Refused(failure) => failure.clone(),
            SqlError::Store(_) => of(kind::STORE, None),
            SqlError::Rows(_) => of(kind::STORE, Some("the store may be damaged")),
            SqlError::Send(_) | SqlError::Encode(_) => of(kind::INTERNAL, None),
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
