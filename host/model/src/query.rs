//! The documents of `query.sock`: one request, one answer per connection.
//!
//! The client sends one line of JSON, a [`Request`]. The answer is an Arrow IPC stream. Talk travels inside it as record
//! batches of no rows whose message carries custom metadata: [`PROGRESS`], [`DONE`] or [`ERROR`], each with a JSON document as
//! value. The last message of a whole answer is DONE or ERROR; a stream that ends without one was cut off.

use crate::time::Moment;
use serde::{Deserialize, Serialize};

/// Metadata key of a [`Progress`] document.
pub const PROGRESS: &str = "vwatch.progress";
/// Metadata key of a [`Done`] document.
pub const DONE: &str = "vwatch.done";
/// Metadata key of a [`Failure`] document.
pub const ERROR: &str = "vwatch.error";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub sql: String,
    /// State tables are read as of this moment instead of now: `{"ns": …}` since the epoch, or `{"ago_ns": …}` before now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// Histories and event tables are read from this moment on,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
    /// and up to and with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Moment>,
    /// IANA name or `+02:00`: the zone of literals without one, and of timestamps in the answer. Default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Send [`Progress`] now and then.
    #[serde(default)]
    pub progress: bool,
    /// Tighter limits than the daemon's own; never wider.
    #[serde(default)]
    pub limits: Limits,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Stored rows read so far.
    pub rows_scanned: u64,
    /// Blocks read, and blocks to be read as far as known.
    pub blocks_done: u64,
    pub blocks_total: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Rows of the answer.
    pub rows: u64,
    /// Why the answer is not whole: gaps, expired pictures, a limit. Empty when it is whole.
    #[serde(default)]
    pub partial: Vec<Partial>,
    /// The moment that `now` was.
    pub now_ns: i64,
    #[serde(default)]
    pub scanned: Progress,
}

/// One reason why an answer is partial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A whole sentence, with local times.
    pub reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `syntax`, `unknown_table`, `unknown_column`, `unsupported`, `limit`, `store`, `request`, `internal`
    pub kind: String,
    pub message: String,
    /// What to do about it: the nearest name, another form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// 1-based place in the SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
}
