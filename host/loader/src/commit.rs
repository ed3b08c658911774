//! What a probe or a plugin hands over in one piece: one transaction of the store takes all of it.

use arrow_array::RecordBatch;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    pub batches: Vec<Batch>,
    pub losses: Vec<Loss>,
    /// Changes of the plugin's durable state: key (at most 400 bytes) and value, `None` to delete.
    pub state: Vec<(String, Option<Vec<u8>>)>,
    pub outbox: Vec<OutboxEntry>,
    /// Outbox entries that were delivered, or given up, and may be forgotten.
    pub outbox_done: Vec<String>,
}

impl Commit {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.losses.is_empty()
            && self.state.is_empty()
            && self.outbox.is_empty()
            && self.outbox_done.is_empty()
    }

    /// Rows in all batches; gone keys are not rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(|b| b.body.len()).sum()
    }

    /// Bytes of the Arrow buffers in all batches.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|b| b.body.bytes()).sum()
    }
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Index of the table in the manifest; always within it.
    pub table: usize,
    /// Time of the sample, ns since the epoch; `None` for the tick's own.
    pub time_ns: Option<i64>,
    pub body: Rows,
}

/// Rows as they are: their schema is `TableSchema::arrow()` (`key_arrow()` for gone keys), their kind fits the table's.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// The full picture of a state table.
    Full(RecordBatch),
    /// Changed and new rows of a state table, and the keys of gone ones.
    Delta { changed: RecordBatch, gone: RecordBatch },
    /// Rows of an event table.
    Events(RecordBatch),
}

impl Rows {
    pub fn len(&self) -> usize {
        self.batch().num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows; with a delta, the changed ones.
    pub fn batch(&self) -> &RecordBatch {
        match self {
            Rows::Full(rows) | Rows::Events(rows) => rows,
            Rows::Delta { changed, .. } => changed,
        }
    }

    fn bytes(&self) -> usize {
        let gone = match self {
            Rows::Delta { gone, .. } => gone.get_array_memory_size(),
            _ => 0,
        };
        self.batch().get_array_memory_size() + gone
    }
}

/// Rows that were lost before they could be handed over: becomes a row of `gap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Index of the table in the manifest; always within it.
    pub table: usize,
    /// Rows lost, as far as known; 0 when unknown.
    pub count: u64,
    pub from_ns: i64,
    pub until_ns: i64,
    pub cause: String,
}

/// Something to be delivered at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Stable over retries, unique in the plugin; at most 400 bytes.
    pub id: String,
    pub body: Vec<u8>,
}
