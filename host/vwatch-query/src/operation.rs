//! What is asked of a store beside SQL: a check of everything, a copy, what it takes. Answers travel as a query's do.
//!
//! A long operation is bounded in time ([`LIMIT`]) whatever the limits of queries are: a check takes its transactions short, but a
//! copy holds one reader's slot from its first page to its last, and meanwhile the writer cannot use freed pages again. A
//! client that takes nothing for [`STUCK`] is given up for the same reason.
//!
//! **Invariant:** a copy holds the rows of every user, so it is given to whoever sees them anyway: root, and the user whose the
//! file is.

use anyhow::Context;
use arrow_array::{
    ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::fs::File;
use std::io::{PipeReader, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vwatch_model::query::{Done, Failure, Operation, Partial, Progress, Request, Summary};
use vwatch_model::unit::format_duration;
use vwatch_sql::answer::AnswerWriter;
use vwatch_sql::{Asker, Outcome, SqlError, kind};
use vwatch_store::{Flaw, Reader, Step, StoreError, Verified, verify};

/// The longest that an operation may take.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);
/// A client of a copy that reads nothing for so long is given up.
pub const STUCK: Duration = Duration::from_secs(60);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const CHUNK: usize = 1 << 20;

/// One operation to be done.
pub struct Task<'a> {
    pub request: &'a Request,
    pub asker: Asker,
    pub now_ns: i64,
    pub out: File,
    pub store: &'a Path,
    /// A recorder writes the store.
    pub live: bool,
}

pub fn run(task: Task<'_>, operation: Operation, opened: Result<Reader, StoreError>) -> anyhow::Result<Outcome> {
    if !task.request.sql.is_empty() {
        let message = "a request has either SQL or an operation";
        return refuse(task.out, kind::REQUEST, message, None);
    }
    let reader = match (opened, operation) {
        (Ok(reader), _) => reader,
        // That it cannot even be opened is what a check is for.
        (Err(e @ StoreError::Damaged { .. }), Operation::Verify {}) => return unopened(task, &e),
        (Err(e), _) => return crate::refuse(task.out, crate::store_failure(&e)),
    };
    match operation {
        Operation::Verify {} => check(task, &reader),
        Operation::Stats {} => stats(task, &reader),
        Operation::Compact {} if task.live => {
            let message =
                "the store is being written: free pages are used again, and a file without them can be copied";
            let hint =
                "vwatchctl store copy --compact FILE; or stop vwatchd, then vwatchctl --store FILE store compact";
            refuse(task.out, kind::REQUEST, message, Some(hint))
        }
        Operation::Compact {} => {
            drop(reader);
            compact(task)
        }
        Operation::Copy { compact } => match task.asker {
            Asker::All => copy(task, &reader, compact),
            Asker::User(_) => {
                let message = "a copy of the store holds every user's rows";
                let hint = "root may copy it, and the user that vwatchd runs as";
                refuse(task.out, kind::DENIED, message, Some(hint))
            }
        },
    }
}

fn refuse(out: File, kind: &str, message: &str, hint: Option<&str>) -> anyhow::Result<Outcome> {
    let failure = Failure {
        kind: kind.to_owned(),
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
        ..Failure::default()
    };
    crate::refuse(out, failure)
}

/// An answer being written, with its limit and its progress.
struct Answer {
    writer: AnswerWriter<File>,
    schema: SchemaRef,
    rows: u64,
    now_ns: i64,
    limit: Duration,
    deadline: Instant,
    /// None: nobody wants any.
    next_progress: Option<Instant>,
}

impl Answer {
    fn begin(task: Task<'_>, schema: SchemaRef) -> Result<Answer, SqlError> {
        let asked = task.request.limits.time_ms.map(Duration::from_millis);
        let limit = asked.map_or(LIMIT, |asked| asked.min(LIMIT));
        let now = Instant::now();
        Ok(Answer {
            writer: AnswerWriter::begin(task.out, &schema)?,
            schema,
            rows: 0,
            now_ns: task.now_ns,
            limit,
            deadline: now + limit,
            next_progress: task.request.progress.then_some(now + PROGRESS_EVERY),
        })
    }

    fn rows(&mut self, columns: Vec<ArrayRef>) -> Result<(), SqlError> {
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(SqlError::Encode)?;
        self.rows += batch.num_rows() as u64;
        match batch.num_rows() {
            0 => Ok(()),
            _ => self.writer.batch(&batch),
        }
    }

    fn progress(&mut self, progress: impl FnOnce() -> Progress) -> Result<(), SqlError> {
        let now = Instant::now();
        if self.next_progress.is_some_and(|next| now >= next) {
            self.next_progress = Some(now + PROGRESS_EVERY);
            self.writer.progress(&progress())?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn done(self, summary: Summary, partial: Vec<Partial>) -> anyhow::Result<Outcome> {
        let done = Done {
            rows: self.rows,
            partial,
            now_ns: self.now_ns,
            summary: Some(summary),
            ..Done::default()
        };
        self.writer.done(&done)?;
        Ok(Outcome::Done(done))
    }

    fn failed(self, failure: Failure) -> anyhow::Result<Outcome> {
        self.writer.failure(&failure)?;
        Ok(Outcome::Failed(failure))
    }
}

/// Timestamps are shown in the asker's zone.
fn timestamp(request: &Request) -> DataType {
    let zone = request.zone.as_deref().unwrap_or("UTC");
    DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.into()))
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn times(schema: &Schema, column: &str, values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let zone = match schema.field_with_name(column).map(Field::data_type) {
        Ok(DataType::Timestamp(_, zone)) => zone.clone(),
        _ => None,
    };
    Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone_opt(zone))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn numbers(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

fn flaw_schema(request: &Request) -> SchemaRef {
    schema(&[
        ("what", DataType::Utf8),
        ("table_name", DataType::Utf8),
        ("probe_instance", DataType::Utf8),
        ("from_time", timestamp(request)),
        ("to_time", timestamp(request)),
        ("sequence", DataType::UInt64),
        ("flaw", DataType::Utf8),
    ])
}

fn flaw_row(schema: &Schema, flaw: &Flaw) -> Vec<ArrayRef> {
    vec![
        texts(std::iter::once(Some(flaw.what.word()))),
        texts(std::iter::once(flaw.table.as_deref())),
        texts(std::iter::once(flaw.instance.as_deref())),
        times(schema, "from_time", std::iter::once(flaw.from_ns)),
        times(schema, "to_time", std::iter::once(flaw.to_ns)),
        numbers(std::iter::once(flaw.sequence)),
        texts(std::iter::once(Some(&*flaw.flaw))),
    ]
}

fn check(task: Task<'_>, reader: &Reader) -> anyhow::Result<Outcome> {
    let total = reader.pages().map_or(0, |pages| pages.file_bytes);
    let schema = flaw_schema(task.request);
    let mut answer = Answer::begin(task, schema.clone())?;
    let mut broken = Ok(());
    let mut late = false;
    let done = verify(reader, &mut |step| {
        broken = match step {
            Step::Flaw(flaw) => answer.rows(flaw_row(&schema, &flaw)),
            Step::Progress(done) => answer.progress(|| Progress {
                rows_scanned: done.rows,
                blocks_done: done.blocks,
                blocks_total: done.blocks_total,
                bytes_done: done.bytes,
                bytes_total: total.max(done.bytes),
                ..Progress::default()
            }),
        };
        late = answer.is_over();
        match broken.is_err() || late {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    broken?;
    let done = match done {
        Ok(done) => done,
        Err(e) => return answer.failed(crate::store_failure(&e)),
    };
    let partial = late.then(|| Partial {
        table: None,
        reason: format!(
            "the check was ended after {}: {} of {} blocks were looked at",
            format_duration(answer.limit),
            done.blocks,
            done.blocks_total
        ),
    });
    answer.done(verified(&done), partial.into_iter().collect())
}

fn verified(done: &Verified) -> Summary {
    Summary::Verified {
        flaws: done.flaws,
        pages: done.pages,
        head_records: done.head_records,
        blocks: done.blocks,
        samples: done.samples,
        rows: done.rows,
        bytes: done.bytes,
    }
}

/// A file that LMDB is not even shown: its meta pages say nothing that could be followed.
fn unopened(task: Task<'_>, error: &StoreError) -> anyhow::Result<Outcome> {
    let schema = flaw_schema(task.request);
    let mut answer = Answer::begin(task, schema.clone())?;
    answer.rows(vec![
        texts(std::iter::once(Some("page"))),
        texts(std::iter::once(None)),
        texts(std::iter::once(None)),
        times(&schema, "from_time", std::iter::once(None)),
        times(&schema, "to_time", std::iter::once(None)),
        numbers(std::iter::once(None)),
        texts(std::iter::once(Some(&*error.to_string()))),
    ])?;
    let done = Verified {
        flaws: 1,
        ..Verified::default()
    };
    answer.done(verified(&done), Vec::new())
}

fn stats(task: Task<'_>, reader: &Reader) -> anyhow::Result<Outcome> {
    let figures = reader
        .storage()
        .and_then(|storage| Ok((storage, reader.pages()?, reader.catalog()?)));
    let (storage, pages, catalog) = match figures {
        Ok(figures) => figures,
        Err(e) => return crate::refuse(task.out, crate::store_failure(&e)),
    };
    let columns = schema(&[
        ("table_name", DataType::Utf8),
        ("probe_instance", DataType::Utf8),
        ("first_time", timestamp(task.request)),
        ("last_time", timestamp(task.request)),
        ("samples", DataType::UInt64),
        ("rows", DataType::UInt64),
        ("blocks", DataType::UInt64),
        ("bytes", DataType::UInt64),
        ("head_bytes", DataType::UInt64),
        ("bytes_per_row", DataType::Float64),
        ("compression", DataType::Float64),
    ]);
    let mut answer = Answer::begin(task, columns.clone())?;
    let ratio = |a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64);
    let per_row: Float64Array = storage.iter().map(|t| ratio(t.bytes + t.head_bytes, t.rows)).collect();
    let saved: Float64Array = storage
        .iter()
        .map(|t| ratio(t.raw_bytes, t.bytes + t.head_bytes))
        .collect();
    answer.rows(vec![
        texts(storage.iter().map(|t| Some(&*t.table))),
        texts(storage.iter().map(|t| Some(&*t.instance))),
        times(&columns, "first_time", storage.iter().map(|t| t.first_ns)),
        times(&columns, "last_time", storage.iter().map(|t| t.last_ns)),
        numbers(storage.iter().map(|t| Some(t.samples))),
        numbers(storage.iter().map(|t| Some(t.rows))),
        numbers(storage.iter().map(|t| Some(t.blocks))),
        numbers(storage.iter().map(|t| Some(t.bytes))),
        numbers(storage.iter().map(|t| Some(t.head_bytes))),
        Arc::new(per_row),
        Arc::new(saved),
    ])?;
    let summary = Summary::Store {
        host: catalog.host,
        file_bytes: pages.file_bytes,
        page_bytes: pages.page_bytes,
        pages: pages.total,
        free_pages: pages.free,
    };
    answer.done(summary, Vec::new())
}

fn compact(task: Task<'_>) -> anyhow::Result<Outcome> {
    match vwatch_store::compact(task.store) {
        Ok(sizes) => Answer::begin(task, schema(&[]))?.done(
            Summary::Compacted {
                before_bytes: sizes.before_bytes,
                after_bytes: sizes.after_bytes,
            },
            Vec::new(),
        ),
        Err(e) => crate::refuse(task.out, crate::store_failure(&e)),
    }
}

/// LMDB writes the copy into a pipe, from a thread of its own; what comes out goes to the client.
fn copy(task: Task<'_>, reader: &Reader, compact: bool) -> anyhow::Result<Outcome> {
    let pages = match reader.pages() {
        Ok(pages) => pages,
        Err(e) => return crate::refuse(task.out, crate::store_failure(&e)),
    };
    let used = if compact {
        pages.total - pages.free.min(pages.total)
    } else {
        pages.total
    };
    let total = (used * pages.page_bytes).min(pages.file_bytes);
    let mut answer = Answer::begin(task, schema(&[("bytes", DataType::Binary)]))?;
    let (from, to) = std::io::pipe().context("a pipe for the copy")?;
    let reader = reader.clone();
    let copying = std::thread::Builder::new()
        .name("copy".to_owned())
        .spawn(move || vwatch_store::copy_to(&reader, compact, to.as_fd()))
        .context("a thread for the copy")?;
    let copied = match forward(&mut answer, from, total)? {
        Some(bytes) => bytes,
        None => {
            let limit = format_duration(answer.limit);
            return answer.failed(Failure {
                kind: kind::LIMIT.to_owned(),
                message: format!("the copy took longer than {limit}, which would keep the store growing"),
                hint: Some("copy to a faster place, or stop vwatchd and copy the file itself".to_owned()),
                ..Failure::default()
            });
        }
    };
    match copying.join() {
        Ok(Ok(())) => answer.done(Summary::Copied { bytes: copied }, Vec::new()),
        Ok(Err(e)) => answer.failed(crate::store_failure(&e)),
        Err(_) => anyhow::bail!("the copying thread died"),
    }
}

/// The copy's bytes as rows; None when it takes too long. Dropping the pipe ends the copying thread.
fn forward(answer: &mut Answer, mut from: PipeReader, total: u64) -> anyhow::Result<Option<u64>> {
    let mut done = 0;
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        (&mut from)
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)
            .context("the copy")?;
        if chunk.is_empty() {
            return Ok(Some(done));
        }
        if answer.is_over() {
            return Ok(None);
        }
        done += chunk.len() as u64;
        answer.rows(vec![Arc::new(BinaryArray::from_vec(vec![&chunk]))])?;
        answer.progress(|| Progress {
            bytes_done: done,
            bytes_total: total.max(done),
            ..Progress::default()
        })?;
    }
}
