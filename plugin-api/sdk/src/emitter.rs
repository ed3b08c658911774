//! Handing rows over outside of a run.

use crate::cell::Timestamp;
use crate::context::Context;
use crate::error::Result;
use crate::host::answered;
use crate::out::Out;
use crate::row::{EventRow, Row, StateRow};
use vwatch_abi::v1::batch_kind;

/// Queues rows with the host, from any thread. One transaction takes all of one call. The host never waits for the plugin
/// here; when its queue is full it answers [`crate::Kind::Busy`] and the rows were not taken: count them, and report
/// them with [`Emitter::lost`] later.
#[derive(Clone)]
pub struct Emitter {
    context: Context,
}

impl Emitter {
    pub(crate) fn new(context: Context) -> Self {
        Emitter { context }
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    /// An empty set of rows and changes for [`Emitter::send`].
    pub fn out(&self) -> Out {
        self.context.out()
    }

    /// Rows that carry their own time.
    pub fn events<R: EventRow>(&self, rows: Vec<R>) -> Result<()> {
        self.with(|out| out.events(rows))
    }

    /// The full picture of a table now.
    pub fn full<R: StateRow>(&self, rows: Vec<R>) -> Result<()> {
        self.with(|out| out.full(rows))
    }

    /// What has changed since the last picture, and what is gone.
    pub fn delta<R: StateRow>(&self, changed: Vec<R>, gone: Vec<R::Key>) -> Result<()> {
        self.with(|out| out.delta(changed, gone))
    }

    /// See [`Out::lost`].
    pub fn lost<R: Row>(&self, count: u64, from_ns: i64, until_ns: i64, cause: &str) -> Result<()> {
        self.with(|out| out.lost::<R>(count, from_ns, until_ns, cause))
    }

    /// All of `out` in one transaction; pictures and deltas without a time get the time of this call. With an outbox entry in
    /// it, it is committed at once.
    pub fn send(&self, out: Out) -> Result<()> {
        if out.is_empty() {
            return out.finish().map(drop);
        }
        let mut commit = out.finish()?;
        let now_ns = Timestamp::now().ns();
        for batch in commit.batches.iter_mut() {
            if batch.kind != batch_kind::EVENTS && batch.time_ns == 0 {
                batch.time_ns = now_ns;
            }
        }
        answered(self.context.link().host.emit(self.context.instance(), commit))
    }

    fn with(&self, fill: impl FnOnce(&mut Out)) -> Result<()> {
        let mut out = self.out();
        fill(&mut out);
        self.send(out)
    }
}
