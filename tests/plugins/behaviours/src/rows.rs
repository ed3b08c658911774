//! Rows of the behaviours' tables.

use vwatch_sdk::prelude::*;

/// One column of every type.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_full", state)]
pub struct Full {
    /// Number of the row, from 0.
    #[row(key)]
    pub id: i64,
    /// `row` and its number.
    pub name: String,
    /// The number is even.
    pub even: bool,
    /// The number, negative.
    pub small: i32,
    /// The number plus 2^31.
    pub large: u32,
    /// 2^63 plus the number.
    pub mask: u64,
    /// Half the number.
    #[row(unit = "percent")]
    pub half: f64,
    /// As many bytes as the number, each 0xab.
    pub raw: Vec<u8>,
    /// Time of the run.
    pub seen: Timestamp,
    /// Runs of the instance before this one.
    #[row(counter)]
    pub runs: i64,
    /// NULL in odd rows, empty in even ones.
    pub note: Option<String>,
}

/// A window of keys that moves on by one with each run.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_delta", state)]
pub struct Delta {
    /// Run in which the row came.
    #[row(key)]
    pub id: i64,
    /// Run in which the row last changed: rows with an id that divides by 3 change in each run.
    pub changed: i64,
}

/// Events from a thread.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_event", event)]
pub struct Event {
    /// When it was made.
    pub time: Timestamp,
    /// Number of the event since the instance began, from 0.
    pub number: i64,
    /// `even` or `odd`.
    pub parity: std::borrow::Cow<'static, str>,
}

/// That a probe which misbehaves ran in spite of it.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_ran", state)]
pub struct Ran {
    /// Name of the probe.
    #[row(key)]
    pub probe: String,
    /// Runs of the instance that ended well.
    #[row(counter)]
    pub runs: i64,
}

/// A count that lies in durable state.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_state", state)]
pub struct State {
    /// Runs of all instances ever, restarts included.
    #[row(counter)]
    pub count: i64,
    /// What the count was when the instance was opened.
    pub opened_at: i64,
}

/// The outbox as the probe sees it.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_outbox", state)]
pub struct Outbox {
    /// Entries put in by this instance.
    #[row(counter)]
    pub put: i64,
    /// Entries that were open when the run began.
    pub open: i64,
}

/// A timer that has run out.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_timer", event)]
pub struct Timer {
    /// When it ran out.
    pub time: Timestamp,
    /// How often it has, this time included.
    pub beat: i64,
}

/// What the subscriber has seen of `beh_full`.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "beh_counted", event)]
pub struct Counted {
    /// Time of the sample it saw.
    pub time: Timestamp,
    /// Instance that made the sample.
    pub from_instance: String,
    /// Rows of this sample.
    pub rows: i64,
    /// Sum of the column `id` over this sample.
    pub id_sum: i64,
    /// Rows of all samples since the plugin was loaded.
    #[row(counter)]
    pub all_rows: i64,
}
