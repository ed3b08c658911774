//! One request from document to answer, within its limits.
//!
//! Time spent waiting for the client does not count against the time limit: a person paging through an answer holds no
//! transaction and burns no CPU. Work that never gives way to the runtime (the planning of a monstrous statement) is ended by
//! the process's own CPU limit.

use crate::answer::{self, AnswerWriter};
use crate::error::{SqlError, kind};
use crate::session::Session;
use crate::snapshot::{Asker, Snapshot};
use crate::zone::Zone;
use arrow_array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use vwatch_model::query::{Done, Failure, Limits, Request};
use vwatch_store::Reader;

pub const DEFAULT_MEMORY_BYTES: u64 = 512 << 20;
pub const DEFAULT_TIME_MS: u64 = 60_000;
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What the host lays down for a request.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What `now` is.
    pub now_ns: i64,
    /// A recorder is writing the store.
    pub live: bool,
    pub asker: Asker,
    /// The widest limits; what a request names itself can only be tighter.
    pub limits: Limits,
}

/// How the answer ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done(Done),
    Failed(Failure),
}

/// Answers `request` on `out`. An error means that the answer itself could not be written.
pub async fn answer<W: Write>(reader: Reader, request: &Request, terms: &Terms, out: W) -> Result<Outcome, SqlError> {
    let limits = within(request.limits, terms.limits);
    let started = Instant::now();
    let begun = match begin(reader, request, terms, limits).await {
        Ok(begun) => begun,
        Err(error) => {
            let failure = error.failure();
            answer::refuse(out, &failure)?;
            return Ok(Outcome::Failed(failure));
        }
    };
    let writer = AnswerWriter::begin(out, &begun.rows.schema())?;
    let mut sending = Sending {
        writer,
        session: begun.session,
        snapshot: begun.snapshot,
        deadline: started + Duration::from_millis(limits.time_ms.unwrap_or(DEFAULT_TIME_MS)),
        limits,
        sent_rows: 0,
    };
    match sending.rows(begun.rows, request.progress).await {
        Ok(()) => {
            sending.snapshot.tell_doubts();
            let done = Done {
                rows: sending.sent_rows,
                partial: sending.snapshot.meter.partial(),
                now_ns: terms.now_ns,
                scanned: sending.snapshot.meter.progress(),
                summary: None,
            };
            sending.writer.done(&done)?;
            Ok(Outcome::Done(done))
        }
        Err(error @ SqlError::Send(_)) => Err(error),
        Err(error) => {
            let failure = error.failure();
            sending.writer.failure(&failure)?;
            Ok(Outcome::Failed(failure))
        }
    }
}

struct Begun {
    session: Session,
    snapshot: Arc<Snapshot>,
    rows: SendableRecordBatchStream,
}

async fn begin(reader: Reader, request: &Request, terms: &Terms, limits: Limits) -> Result<Begun, SqlError> {
    let zone = Zone::parse(request.zone.as_deref().unwrap_or("UTC"))?;
    let catalog = reader.catalog()?;
    let mut snapshot = Snapshot::new(reader, catalog, zone, terms.now_ns, terms.live, terms.asker);
    snapshot.at_ns = request.at.map_or(terms.now_ns, |moment| moment.at(terms.now_ns));
    snapshot.from_ns = request.from.map_or(i64::MIN, |moment| moment.at(terms.now_ns));
    snapshot.to_ns = request.to.map_or(i64::MAX, |moment| moment.at(terms.now_ns));
    let snapshot = Arc::new(snapshot);
    let memory = limits.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES);
    let session = Session::new(
        snapshot.clone(),
        &request.sql,
        usize::try_from(memory).unwrap_or(usize::MAX),
    )?;
    let rows = session.run().await?;
    Ok(Begun {
        session,
        snapshot,
        rows,
    })
}

/// The tighter of two limits, with the defaults where neither is set.
fn within(asked: Limits, laid_down: Limits) -> Limits {
    let tighter = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Limits {
        memory_bytes: tighter(
            asked.memory_bytes,
            laid_down.memory_bytes.or(Some(DEFAULT_MEMORY_BYTES)),
        ),
        time_ms: tighter(asked.time_ms, laid_down.time_ms.or(Some(DEFAULT_TIME_MS))),
        rows: tighter(asked.rows, laid_down.rows),
    }
}

struct Sending<W: Write> {
    writer: AnswerWriter<W>,
    session: Session,
    snapshot: Arc<Snapshot>,
    deadline: Instant,
    limits: Limits,
    sent_rows: u64,
}

impl<W: Write> Sending<W> {
    async fn rows(&mut self, mut rows: SendableRecordBatchStream, progress: bool) -> Result<(), SqlError> {
        let mut next_progress = Instant::now() + PROGRESS_EVERY;
        loop {
            let wake = if progress {
                next_progress.min(self.deadline)
            } else {
                self.deadline
            };
            match timeout_at(wake, rows.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(batch))) => self.send(&batch)?,
                Ok(Some(Err(error))) => return Err(self.session.refused(&error)),
                Err(_) => {}
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(self.too_slow());
            }
            if progress && now >= next_progress {
                self.waiting(|writer, snapshot| writer.progress(&snapshot.meter.progress()))?;
                next_progress = Instant::now() + PROGRESS_EVERY;
            }
        }
    }

    fn send(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let room = self.limits.rows.map_or(u64::MAX, |limit| limit - self.sent_rows);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(batch.num_rows());
        let part = batch.slice(0, fits);
        if fits > 0 {
            self.waiting(|writer, _| writer.batch(&part))?;
            self.sent_rows += fits as u64;
        }
        match fits < batch.num_rows() {
            false => Ok(()),
            true => Err(SqlError::refused(
                kind::LIMIT,
                format!(
                    "the answer has more than {} rows, the limit; these are the first",
                    self.sent_rows
                ),
            )
            .hint("ask for less with WHERE or LIMIT, or raise the limit of rows")),
        }
    }

    /// Writes to the client; the time that takes is the client's, not the query's.
    fn waiting(
        &mut self,
        write: impl FnOnce(&mut AnswerWriter<W>, &Snapshot) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let before = Instant::now();
        write(&mut self.writer, &self.snapshot)?;
        self.deadline += before.elapsed();
        Ok(())
    }

    fn too_slow(&self) -> SqlError {
        let limit = Duration::from_millis(self.limits.time_ms.unwrap_or(DEFAULT_TIME_MS));
        let limit = vwatch_model::unit::format_duration(limit);
        SqlError::refused(kind::LIMIT, format!("the query ran longer than {limit}, its limit"))
            .hint("read a shorter time: WHERE time > '-1h', or --from and --to")
    }
}
