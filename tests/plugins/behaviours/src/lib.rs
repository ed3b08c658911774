//! A plugin that uses every service of the host, and misbehaves on request: for the loader's tests of the ABI and for tests
//! end to end. Its tables begin with `beh_`, its commands with `beh`.
//!
//! | probe | what it does |
//! |---|---|
//! | `beh_full` | pictures with a column of every type |
//! | `beh_delta` | a window of keys that moves on by one each run: deltas with gone keys |
//! | `beh_events` | events from a thread of its own, and losses |
//! | `beh_panic`, `beh_panic_stream` | panics where `where` says |
//! | `beh_hang` | never returns, or not until a file exists |
//! | `beh_slow` | takes its time |
//! | `beh_fail`, `beh_unsupported`, `beh_denied`, `beh_no_data` | answers so |
//! | `beh_state` | counts up in durable state, over restarts |
//! | `beh_outbox` | puts entries into the outbox and acknowledges old ones |
//! | `beh_timer` | an event each time its timer runs out |
//!
//! Its configuration, `{"panic_in": ["setup", "receive", "reconfigured", "stop"]}`, makes the plugin's own entry points panic.

mod bad;
mod commands;
mod good;
mod rows;
mod services;
mod shared;
#[cfg(test)]
mod tests;

use vwatch_sdk::plugin;

plugin! {
    name: "behaviours",
    doc: "Every service of the host, and every way to misbehave.",
    setup: shared::setup,
    probes: [
        good::Full,
        good::Delta,
        bad::Panic,
        bad::Hang,
        bad::Slow,
        bad::Fail,
        bad::Unsupported,
        bad::Denied,
        bad::NoData,
        services::State,
        services::Outbox,
    ],
    streams: [good::Events, bad::PanicStream, services::Timer],
    subscribers: [services::Counter],
    commands: [
        commands::Echo,
        commands::Fail,
        commands::Panic,
        commands::Start,
        commands::Stop,
        commands::Query,
        commands::Live,
        commands::Schema,
        commands::Stored,
        commands::Report,
    ],
    reconfigured: shared::reconfigured,
    stop: shared::stop,
}
