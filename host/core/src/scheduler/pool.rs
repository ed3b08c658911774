//! Threads for runs of probes: few while probes are quick, more while some are slow.
//!
//! Two threads do for a host whose probes take milliseconds. A job that waits for longer than [`PATIENCE`] while all are busy
//! gets a thread of its own, up to the bound, so that a slow probe delays nobody by more than that; threads beyond the
//! first ones end once there was no such need for half a minute. A thread that hangs in a plugin is written off: it no longer counts, and ends if the plugin
//! ever returns.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BASE_THREADS: usize = 2;
/// How long a job may wait for a thread before another one is started.
pub const PATIENCE: Duration = Duration::from_millis(5);
const IDLE: Duration = Duration::from_secs(30);

/// What a job says of the thread that it ran on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// The thread was written off meanwhile, and is to end.
    WrittenOff,
}

pub type Job = Box<dyn FnOnce() -> Fate + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<(Instant, Job)>,
    idle: usize,
    live: usize,
    started: u64,
    /// When a further thread was needed last.
    needed: Option<Instant>,
}

pub struct Pool {
    state: Mutex<State>,
    wake: Condvar,
    max: usize,
}

impl Pool {
    pub fn new(max: usize) -> Arc<Pool> {
        Arc::new(Pool {
            state: Mutex::default(),
            wake: Condvar::new(),
            max: max.max(1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.queue.push_back((Instant::now(), job));
        if state.idle > 0 {
            self.wake.notify_one();
        } else if state.live < BASE_THREADS.min(self.max) {
            self.start_one(&mut state);
        }
    }

    /// Starts another thread when a job has waited for too long. Answers when to look again.
    pub fn relieve(self: &Arc<Self>) -> Option<Duration> {
        let mut state = self.lock();
        let waited = state.queue.front().map(|(since, _)| since.elapsed())?;
        if waited < PATIENCE {
            return Some(PATIENCE - waited);
        }
        if state.idle > 0 {
            // Woken already, and not yet on a CPU: another thread would not be there sooner.
            self.wake.notify_one();
        } else if state.live < self.max {
            state.needed = Some(Instant::now());
            self.start_one(&mut state);
        }
        Some(PATIENCE)
    }

    /// A thread hangs: it no longer counts.
    pub fn write_off(&self) {
        let mut state = self.lock();
        state.live = state.live.saturating_sub(1);
    }

    fn start_one(self: &Arc<Self>, state: &mut State) {
        let pool = self.clone();
        state.started += 1;
        match crate::process::spawn(&format!("run-{}", state.started), move || pool.work()) {
            Ok(_) => state.live += 1,
            Err(e) => tracing::warn!("no further thread for probes: {e}"),
        }
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if job() == Fate::WrittenOff {
                return;
            }
        }
    }

    /// The next job; None when the thread is to end (and no longer counts).
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.queue.pop_front() {
                return Some(job);
            }
            let unneeded = state.needed.is_none_or(|needed| needed.elapsed() > IDLE);
            if unneeded && state.live > BASE_THREADS {
                state.live -= 1;
                return None;
            }
            state.idle += 1;
            (state, _) = self
                .wake
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    #[cfg(test)]
    pub fn live(&self) -> usize {
        self.lock().live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Relieves the pool until `done` says so.
    fn until(pool: &Arc<Pool>, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "not within 20 s");
            if let Some(wait) = pool.relieve() {
                std::thread::sleep(wait);
            }
        }
    }

    #[test]
    fn hung_jobs_do_not_stop_others() {
        let pool = Pool::new(16);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..5 {
            let held = held.clone();
            pool.submit(Box::new(move || {
                // Ends when the sender is dropped.
                let _ = held.lock().unwrap().recv();
                Fate::WrittenOff
            }));
        }
        let (sender, results) = mpsc::channel();
        pool.submit(Box::new(move || {
            sender.send(7).unwrap();
            Fate::Kept
        }));
        let got = Mutex::new(None);
        until(&pool, || {
            let mut got = got.lock().unwrap();
            *got = got.or(results.try_recv().ok());
            *got == Some(7)
        });
        assert!(pool.live() > 5);
        (0..5).for_each(|_| pool.write_off());
        assert!(pool.live() <= 16 - 5);
        drop(release);
    }

    #[test]
    fn bounded() {
        let pool = Pool::new(3);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..10 {
            let held = held.clone();
            pool.submit(Box::new(move || {
                let _ = held.lock().unwrap().recv();
                Fate::Kept
            }));
        }
        for _ in 0..20 {
            pool.relieve();
            std::thread::sleep(PATIENCE);
        }
        assert_eq!(pool.live(), 3);
        drop(release);
    }
}
