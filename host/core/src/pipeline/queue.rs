//! The queue between the threads that make rows and the writer's thread.
//!
//! **Invariant:** bounded in bytes and in deliveries; who delivers never waits. What does not fit is handed back, and the pipeline
//! records it as a gap. Questions (state, records) are always taken: whoever asks waits for the answer, so there are no more
//! of them than threads. The writer is woken for what cannot wait for the second's commit, not for every delivery.

use super::writer::Recording;
use crate::rows::CoreRow;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vwatch_loader::OutboxEntry;
use vwatch_store::Sample;

/// Bytes of Arrow buffers that may wait: some seconds of a large host while the disk stalls.
const MAX_BYTES: usize = 64 << 20;
const MAX_DELIVERIES: usize = 20_000;

/// What one run or one call of a plugin hands over: stored in one transaction.
#[derive(Default)]
pub struct Delivery {
    /// The plugin: owner of state and outbox.
    pub owner: String,
    pub samples: Vec<Sample>,
    pub rows: Vec<CoreRow>,
    pub state: Vec<(String, Option<Vec<u8>>)>,
    pub outbox: Vec<OutboxEntry>,
    pub outbox_done: Vec<String>,
    pub bytes: usize,
}

pub type Question = Box<dyn FnOnce(&mut Recording) + Send>;

pub enum Item {
    Delivery(Box<Delivery>),
    Row(CoreRow),
    Question(Question),
}

#[derive(Default)]
pub struct Taken {
    pub items: Vec<Item>,
    /// All runs that were due have ended.
    pub settled: bool,
    pub closed: bool,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    deliveries: usize,
    /// The writer should look before its time.
    urgent: bool,
    settled: bool,
    closed: bool,
}

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery, or hands it back when there is no room or no writer any more.
    pub fn deliver(&self, delivery: Box<Delivery>) -> Result<(), Box<Delivery>> {
        let mut state = self.lock();
        let full = state.bytes + delivery.bytes > MAX_BYTES || state.deliveries >= MAX_DELIVERIES;
        // An empty queue takes anything: one huge delivery must not be refused for ever.
        if state.closed || (full && state.deliveries > 0) {
            return Err(delivery);
        }
        state.bytes += delivery.bytes;
        state.deliveries += 1;
        let wake = !delivery.outbox.is_empty() || state.bytes > MAX_BYTES / 2;
        state.items.push_back(Item::Delivery(delivery));
        if wake {
            state.urgent = true;
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Queues a row of the core's own. These are few; they are never refused before the end.
    pub fn row(&self, row: CoreRow) {
        let mut state = self.lock();
        if !state.closed {
            state.items.push_back(Item::Row(row));
        }
    }

    /// Queues a question; false when the writer has ended.
    pub fn ask(&self, question: Question) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.items.push_back(Item::Question(question));
        state.urgent = true;
        self.wake.notify_one();
        true
    }

    /// All runs that were due have ended: the second may be committed.
    pub fn settled(&self) {
        let mut state = self.lock();
        state.settled = true;
        self.wake.notify_one();
    }

    /// Nothing is taken from now on; the writer ends after what is queued.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits until something cannot wait, at most until `deadline`, and takes everything.
    pub fn take(&self, deadline: Instant) -> Taken {
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.urgent || state.settled || state.closed || left == Duration::ZERO {
                break;
            }
            (state, _) = self
                .wake
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes = 0;
        state.deliveries = 0;
        state.urgent = false;
        Taken {
            items: std::mem::take(&mut state.items).into(),
            settled: std::mem::take(&mut state.settled),
            closed: state.closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(bytes: usize) -> Box<Delivery> {
        Box::new(Delivery {
            bytes,
            ..Delivery::default()
        })
    }

    #[test]
    fn bounded_in_bytes() {
        let queue = Queue::default();
        assert!(
            queue.deliver(delivery(MAX_BYTES + 1)).is_ok(),
            "an empty queue takes anything"
        );
        assert!(queue.deliver(delivery(1)).is_err());
        assert_eq!(queue.take(Instant::now()).items.len(), 1);
        assert!(queue.deliver(delivery(1)).is_ok());
    }

    #[test]
    fn closed_takes_nothing_more() {
        let queue = Queue::default();
        assert!(queue.deliver(delivery(1)).is_ok());
        queue.close();
        assert!(queue.deliver(delivery(1)).is_err());
        assert!(!queue.ask(Box::new(|_| ())));
        let taken = queue.take(Instant::now() + Duration::from_secs(60));
        assert!(taken.closed);
        assert_eq!(taken.items.len(), 1, "what was queued before is still taken");
    }

    #[test]
    fn an_outbox_entry_wakes_the_writer() {
        let queue = Queue::default();
        let mut urgent = delivery(1);
        urgent.outbox.push(OutboxEntry {
            id: "a".into(),
            body: Vec::new(),
        });
        assert!(queue.deliver(urgent).is_ok());
        let begun = Instant::now();
        queue.take(begun + Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
