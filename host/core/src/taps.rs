//! Deliveries to plugins: rows of the tables they subscribe to, timers, answers to their queries, their new configuration.
//!
//! One thread per plugin that has anything to receive, so that a slow or hung subscriber delays nobody else.
//! **Invariant:** offering never waits. What a subscriber is too slow to take is dropped and counted as a gap; the rows
//! themselves are stored all the same. Rows are shared, not copied: an offer costs some reference counts.

use crate::calls::PluginCalls;
use crate::pipeline::Losses;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use vwatch_loader::{Fault, ReceivedRows, Rows};
use vwatch_model::table::TableSchema;

/// Batches that may wait for one plugin.
const MAX_LETTERS: usize = 1024;
const MAX_BYTES: usize = 16 << 20;
const MAX_TIMERS: usize = 4096;

enum Letter {
    Rows {
        subscriber: usize,
        table: Arc<TableSchema>,
        instance: Arc<str>,
        time_ns: i64,
        body: Rows,
        bytes: usize,
    },
    Timer(u64),
    Answered(u64, Result<Vec<u8>, Fault>),
    Reconfigured(Value),
}

#[derive(Default)]
struct State {
    letters: VecDeque<Letter>,
    bytes: usize,
    /// Token, and when it is due.
    timers: HashMap<u64, Instant>,
    /// The plugin, once it is loaded.
    calls: Option<Arc<dyn PluginCalls>>,
    running: bool,
    closed: bool,
}

/// What waits for one plugin.
#[derive(Default)]
struct Mailbox {
    state: Mutex<State>,
    wake: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when there is no room.
    fn put(self: &Arc<Self>, plugin: &str, letter: Letter, bytes: usize) -> bool {
        let mut state = self.lock();
        if state.closed || state.letters.len() >= MAX_LETTERS || (state.bytes + bytes > MAX_BYTES && state.bytes > 0) {
            return false;
        }
        state.letters.push_back(letter);
        state.bytes += bytes;
        self.ready(plugin, &mut state);
        true
    }

    /// Starts the thread at the first need, wakes it later. Before the copy is loaded, letters just wait.
    fn ready(self: &Arc<Self>, plugin: &str, state: &mut State) {
        if state.running || state.calls.is_none() {
            self.wake.notify_one();
            return;
        }
        let mailbox = self.clone();
        let name = plugin.to_owned();
        match crate::process::spawn(&format!("in-{plugin}"), move || mailbox.read(&name)) {
            Ok(_) => state.running = true,
            Err(e) => tracing::warn!("plugin {plugin}: no thread for its deliveries: {e}"),
        }
    }

    /// The thread: one letter after the other, until closed.
    fn read(&self, plugin: &str) {
        while let Some((calls, letter)) = self.next() {
            let (what, answer) = match letter {
                Letter::Rows {
                    subscriber,
                    table,
                    instance,
                    time_ns,
                    body,
                    ..
                } => {
                    let rows = ReceivedRows {
                        table: &table,
                        instance: &instance,
                        time_ns,
                        body: &body,
                    };
                    ("receive", calls.receive(subscriber, &rows))
                }
                Letter::Timer(token) => ("timer", calls.timer(token)),
                Letter::Answered(token, answer) => ("answered", calls.answered(token, answer)),
                Letter::Reconfigured(config) => ("reconfigured", calls.reconfigured(&config)),
            };
            if let Err(fault) = answer {
                tracing::warn!("plugin {plugin}: {what}: {fault}");
            }
        }
    }

    fn next(&self) -> Option<(Arc<dyn PluginCalls>, Letter)> {
        let mut state = self.lock();
        loop {
            let calls = state.calls.clone().filter(|_| !state.closed)?;
            let now = Instant::now();
            let first = state.timers.iter().map(|(token, due)| (*due, *token)).min();
            if let Some((due, token)) = first
                && due <= now
            {
                state.timers.remove(&token);
                return Some((calls, Letter::Timer(token)));
            }
            if let Some(letter) = state.letters.pop_front() {
                if let Letter::Rows { bytes, .. } = &letter {
                    state.bytes -= bytes;
                }
                return Some((calls, letter));
            }
            let wait = first.map_or(Duration::from_secs(3600), |(due, _)| due - now);
            (state, _) = self
                .wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

type Subscribers = Vec<(Arc<str>, Arc<Mailbox>, usize)>;

/// All mailboxes, by copy of a plugin, and who subscribes to which table.
#[derive(Default)]
pub struct Taps {
    mailboxes: Mutex<BTreeMap<u64, Arc<Mailbox>>>,
    by_table: RwLock<HashMap<String, Subscribers>>,
    /// Where drops are counted; known once the pipeline stands.
    losses: OnceLock<Arc<Losses>>,
}

impl Taps {
    pub fn count_losses_in(&self, losses: Arc<Losses>) {
        // Set once, by the pipeline that is started over these taps.
        let _ = self.losses.set(losses);
    }

    /// Offers rows to everybody who subscribes to their table.
    pub fn offer(&self, table: &Arc<TableSchema>, instance: &Arc<str>, time_ns: i64, body: &Rows) {
        let by_table = self.by_table.read().unwrap_or_else(PoisonError::into_inner);
        for (plugin, mailbox, subscriber) in by_table.get(&table.name).into_iter().flatten() {
            let bytes = body.batch().get_array_memory_size();
            let letter = Letter::Rows {
                subscriber: *subscriber,
                table: table.clone(),
                instance: instance.clone(),
                time_ns,
                body: body.clone(),
                bytes,
            };
            if !mailbox.put(plugin, letter, bytes)
                && let Some(losses) = self.losses.get()
            {
                let why = "a subscriber was too slow: stored, but not handed to it";
                losses.count(Some(plugin), Some(&table.name), why, time_ns, body.len() as i64);
            }
        }
    }

    fn mailbox(&self, copy: u64) -> Option<Arc<Mailbox>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&copy)
            .cloned()
    }

    /// A copy of a plugin is about to be loaded: its timers and answers are kept for it.
    pub fn expect(&self, copy: u64) {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        mailboxes.insert(copy, Arc::new(Mailbox::default()));
    }

    /// The copy was loaded: what waits for it is delivered, and the rows that it subscribes to from now on. A copy before it gets
    /// no more rows.
    pub fn attach(&self, copy: u64, plugin: &Arc<str>, calls: Arc<dyn PluginCalls>) {
        let Some(mailbox) = self.mailbox(copy) else {
            return;
        };
        let subscribers = calls.manifest().subscribers.clone();
        {
            let mut state = mailbox.lock();
            state.calls = Some(calls);
            if !state.timers.is_empty() || !state.letters.is_empty() {
                mailbox.ready(plugin, &mut state);
            }
        }
        self.unsubscribe(plugin);
        let mut by_table = self.by_table.write().unwrap_or_else(PoisonError::into_inner);
        for (index, subscriber) in subscribers.iter().enumerate() {
            for table in &subscriber.tables {
                let list = by_table.entry(table.clone()).or_default();
                list.push((plugin.clone(), mailbox.clone(), index));
            }
        }
    }

    /// Nothing is delivered to the copy any more.
    pub fn forget(&self, copy: u64) {
        let mailbox = self
            .mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&copy);
        if let Some(mailbox) = mailbox {
            let mut state = mailbox.lock();
            state.closed = true;
            state.letters.clear();
            state.timers.clear();
            mailbox.wake.notify_one();
        }
    }

    /// The plugin gets no more rows.
    pub fn unsubscribe(&self, plugin: &str) {
        let mut by_table = self.by_table.write().unwrap_or_else(PoisonError::into_inner);
        for list in by_table.values_mut() {
            list.retain(|(name, _, _)| &**name != plugin);
        }
        by_table.retain(|_, list| !list.is_empty());
    }

    /// Sets, moves or (with None) cancels a timer. False when the copy has too many, or is not loaded any more.
    pub fn timer(&self, copy: u64, plugin: &str, token: u64, after: Option<Duration>) -> bool {
        let Some(mailbox) = self.mailbox(copy) else {
            return false;
        };
        let mut state = mailbox.lock();
        match after.and_then(|after| Instant::now().checked_add(after)) {
            None => {
                state.timers.remove(&token);
            }
            Some(_) if state.timers.len() >= MAX_TIMERS && !state.timers.contains_key(&token) => return false,
            Some(due) => {
                state.timers.insert(token, due);
            }
        }
        mailbox.ready(plugin, &mut state);
        true
    }

    pub fn answered(&self, copy: u64, plugin: &str, token: u64, answer: Result<Vec<u8>, Fault>) {
        self.put(copy, plugin, Letter::Answered(token, answer), "the answer to its query");
    }

    pub fn reconfigured(&self, copy: u64, plugin: &str, config: Value) {
        self.put(copy, plugin, Letter::Reconfigured(config), "its new configuration");
    }

    fn put(&self, copy: u64, plugin: &str, letter: Letter, what: &str) {
        let taken = self.mailbox(copy).is_some_and(|mailbox| mailbox.put(plugin, letter, 0));
        if !taken {
            tracing::warn!("plugin {plugin}: {what} is lost: it takes nothing");
        }
    }
}
