//! What all parts of the plugin share, and the entry points of the plugin itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use vwatch_sdk::prelude::*;
use vwatch_sdk::serde_json::Value;

/// Counters of calls, and the configuration's word on panics.
#[derive(Default)]
pub struct Shared {
    pub commands: AtomicU64,
    pub reconfigurations: AtomicU64,
    panic_in: Mutex<Vec<String>>,
}

impl Shared {
    /// Panics when the configuration says so for `place`.
    pub fn may_panic(&self, place: &str) {
        let told = match self.panic_in.lock() {
            Ok(places) => places.iter().any(|p| p == place),
            Err(_) => false,
        };
        assert!(!told, "the configuration says to panic in {place}");
    }

    fn read(&self, context: &Context) {
        let places = context.config().get("panic_in").and_then(Value::as_array);
        let places = places
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned);
        if let Ok(mut known) = self.panic_in.lock() {
            *known = places.collect();
        }
    }
}

pub fn setup(context: &Context) -> Result<Shared> {
    let shared = Shared::default();
    shared.read(context);
    shared.may_panic("setup");
    context.log(Level::Info, "behaviours: set up");
    Ok(shared)
}

pub fn reconfigured(context: &Context) -> Result<()> {
    let shared: &Shared = context.shared()?;
    shared.read(context);
    shared.reconfigurations.fetch_add(1, Ordering::Relaxed);
    shared.may_panic("reconfigured");
    context.log(Level::Info, "behaviours: configuration read again");
    Ok(())
}

/// Leaves a mark in durable state, so that a test sees that the last call came and that its work was committed.
pub fn stop(context: &Context) -> Result<()> {
    context.shared::<Shared>()?.may_panic("stop");
    let stops: i64 = context.state_json("stops")?.unwrap_or(0);
    let mut out = context.out();
    out.put_state_json("stops", &(stops + 1));
    context.emitter().send(out)
}
