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
    /// Empty when an operation is asked for.
    #[serde(default)]
    pub sql: String,
    /// Something else than SQL. Times do not go with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
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

/// What can be asked of a store beside SQL: `{"verify": {}}`. Answers are rows like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Looks at every page, declaration, head record and block. A row for each flaw: `what, table_name, probe_instance,
    /// from_time, to_time, sequence, flaw`; [`Summary::Verified`].
    Verify {},
    /// A consistent copy of the file: rows of one column `bytes`, to be put one after the other. For root and the daemon's user.
    Copy {
        /// Without free pages.
        #[serde(default)]
        compact: bool,
    },
    /// Rewrites a file that nobody writes without its free pages. [`Summary::Compacted`].
    Compact {},
    /// What the file holds and what it takes. A row for each table and instance; [`Summary::Store`].
    Stats {},
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
    /// Bytes done of an operation, and bytes to be done as far as known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_done: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_total: u64,
    /// Time of the newest row that a scan has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_ns: Option<i64>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
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
    /// What an operation came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    Verified {
        flaws: u64,
        /// Branch and leaf pages of the file.
        pages: u64,
        head_records: u64,
        blocks: u64,
        /// Samples of state tables, rows of all their pictures and of events.
        samples: u64,
        rows: u64,
        /// Of blocks, head records and values.
        bytes: u64,
    },
    Store {
        /// Name of the recorded host.
        host: String,
        file_bytes: u64,
        page_bytes: u64,
        pages: u64,
        free_pages: u64,
    },
    Copied {
        bytes: u64,
    },
    Compacted {
        before_bytes: u64,
        after_bytes: u64,
    },
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
    /// `syntax`, `unknown_table`, `unknown_column`, `unsupported`, `limit`, `store`, `request`, `denied`, `internal`
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_asked_for_in_json() {
        let of = |text: &str| serde_json::from_str::<Request>(text).map(|r| r.operation);
        assert_eq!(
            of(r#"{"operation": {"verify": {}}}"#).unwrap(),
            Some(Operation::Verify {})
        );
        let copy = of(r#"{"operation": {"copy": {"compact": true}}}"#).unwrap();
        assert_eq!(copy, Some(Operation::Copy { compact: true }));
        assert_eq!(of(r#"{"sql": "SELECT 1"}"#).unwrap(), None);
        assert!(of(r#"{"operation": {"format": {}}}"#).is_err());
        let plain = serde_json::to_string(&Request::default()).unwrap();
        assert!(!plain.contains("operation"), "{plain}");
    }
}
