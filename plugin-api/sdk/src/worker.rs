//! A thread that ends when it is told to: what most stream probes need.

use crate::error::{ProbeError, Result};
use crate::guard::{lock, panicked};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread of a stream probe. Dropping it stops it, too.
///
/// ```
/// # use vwatch_sdk::prelude::*;
/// let mut worker = Worker::spawn("beat", |stopping| {
///     while !stopping.wait(Duration::from_secs(1)) {
///         // emit rows here
///     }
///     Ok(())
/// })?;
/// worker.stop()?;
/// # Ok::<(), ProbeError>(())
/// ```
#[derive(Default)]
pub struct Worker {
    running: Option<(Stopping, JoinHandle<Result<()>>)>,
}

/// Whether the thread is to end.
#[derive(Clone, Default)]
pub struct Stopping(Arc<(Mutex<bool>, Condvar)>);

impl Stopping {
    pub fn is_set(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits this long, or until the thread is to end: then true.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut stopping = lock(&self.0.0);
        while !*stopping {
            let left = until.map_or(Duration::from_secs(3600), |at| {
                at.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return false;
            }
            let (guard, _) = self
                .0
                .1
                .wait_timeout(stopping, left)
                .unwrap_or_else(PoisonError::into_inner);
            stopping = guard;
        }
        true
    }

    fn set(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }
}

impl Worker {
    /// Starts `work` on a thread of this name. It must return when [`Stopping`] says so.
    pub fn spawn(name: &str, work: impl FnOnce(&Stopping) -> Result<()> + Send + 'static) -> Result<Self> {
        let stopping = Stopping::default();
        let told = stopping.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&told))
            .map_err(|e| ProbeError::from(e).about(format!("thread {name}")))?;
        Ok(Worker {
            running: Some((stopping, thread)),
        })
    }

    /// The work has returned, or panicked; [`Worker::stop`] says with what.
    pub fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(|(_, thread)| thread.is_finished())
    }

    /// Tells the thread to end and waits for it. Answers what the work answered; a panic of it is an error.
    pub fn stop(&mut self) -> Result<()> {
        let Some((stopping, thread)) = self.running.take() else {
            return Ok(());
        };
        stopping.set();
        thread.join().unwrap_or_else(|payload| Err(panicked(payload)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn ends_when_told_and_tells_how() {
        let mut worker = Worker::spawn("t", |stopping| {
            while !stopping.wait(Duration::from_secs(60)) {}
            Err(ProbeError::failed("ended"))
        })
        .unwrap();
        assert!(!worker.has_ended());
        assert_eq!(worker.stop(), Err(ProbeError::failed("ended")));
        assert_eq!(worker.stop(), Ok(()));
        let mut worker = Worker::spawn("t", |_| panic!("odd")).unwrap();
        assert_eq!(worker.stop().unwrap_err().kind, Kind::Panicked);
    }
}
