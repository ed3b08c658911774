//! Probes, and a subscriber, that use the services of the host.

use crate::rows;
use crate::shared::Shared;
use std::sync::{Arc, Mutex, PoisonError};
use vwatch_sdk::prelude::*;
use vwatch_sdk::{Row, TimerId};

/// Key of the count in durable state.
const COUNT: &str = "beh_state/count";

pub struct State {
    context: Context,
    opened_at: i64,
}

impl Probe for State {
    type Options = NoOptions;
    type Tables = rows::State;
    const NAME: &'static str = "beh_state";
    const DOC: &'static str = "Counts up in durable state, over restarts.";
    const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(State {
            opened_at: context.state_json(COUNT)?.unwrap_or(0),
            context: context.clone(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let count = self.context.state_json::<i64>(COUNT)?.unwrap_or(0) + 1;
        out.full(vec![rows::State {
            count,
            opened_at: self.opened_at,
        }]);
        out.put_state_json(COUNT, &count);
        // One key that comes and goes.
        match tick.sequence % 2 {
            0 => out.put_state("beh_state/even", b"yes".as_slice()),
            _ => out.delete_state("beh_state/even"),
        }
        Ok(())
    }
}

/// Options of `beh_outbox`.
#[derive(Options)]
pub struct OutboxOptions {
    /// Entries that stay open: older ones are acknowledged.
    #[option(default = 3)]
    keep: i64,
}

pub struct Outbox {
    context: Context,
    keep: usize,
    put: i64,
}

impl Probe for Outbox {
    type Options = OutboxOptions;
    type Tables = rows::Outbox;
    const NAME: &'static str = "beh_outbox";
    const DOC: &'static str = "Puts entries into the outbox and acknowledges old ones.";
    const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

    fn open(context: &Context, options: OutboxOptions) -> Result<Self> {
        Ok(Outbox {
            context: context.clone(),
            keep: usize::try_from(options.keep).map_err(|_| ProbeError::bad_option("keep", "it is negative"))?,
            put: 0,
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let open = self.context.outbox(1000)?;
        self.put += 1;
        out.outbox(&format!("beh-{}", tick.time_ns), format!("body {}", self.put));
        let done = (open.len() + 1).saturating_sub(self.keep);
        for entry in open.iter().take(done) {
            out.outbox_done(&entry.id);
        }
        out.full(vec![rows::Outbox {
            put: self.put,
            open: open.len() as i64,
        }]);
        Ok(())
    }
}

/// Options of `beh_timer`.
#[derive(Options)]
pub struct TimerOptions {
    /// Time from beat to beat.
    #[option(default = "200ms")]
    pause: Duration,
}

/// The timer that is set now; none after the instance has stopped.
type Pending = Arc<Mutex<Option<TimerId>>>;

pub struct Timer {
    context: Context,
    pause: Duration,
    pending: Pending,
}

impl StreamProbe for Timer {
    type Options = TimerOptions;
    type Tables = rows::Timer;
    const NAME: &'static str = "beh_timer";
    const DOC: &'static str = "An event each time its timer runs out.";
    const DEFAULT_ON: bool = false;

    fn open(context: &Context, options: TimerOptions) -> Result<Self> {
        Ok(Timer {
            context: context.clone(),
            pause: options.pause,
            pending: Pending::default(),
        })
    }

    fn start(&mut self, emitter: Emitter) -> Result<()> {
        let pending = self.pending.clone();
        // Set under the lock, so that a beat that comes at once waits for it.
        let mut timer = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        *timer = Some(set(&self.context, emitter, pending, self.pause, 1)?);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let timer = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        timer.map_or(Ok(()), |timer| self.context.cancel_timer(timer))
    }
}

fn set(context: &Context, emitter: Emitter, pending: Pending, pause: Duration, beat: i64) -> Result<TimerId> {
    context.after(pause, move |context| {
        let next = pending.clone();
        let mut timer = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if timer.is_none() {
            return Ok(());
        }
        emitter.events(vec![rows::Timer {
            time: Timestamp::now(),
            beat,
        }])?;
        *timer = Some(set(context, emitter, next, pause, beat + 1)?);
        Ok(())
    })
}

/// Counts the rows of `beh_full`.
pub struct Counter {
    context: Context,
    all_rows: i64,
}

impl Subscriber for Counter {
    type Tables = rows::Counted;
    const NAME: &'static str = "beh_counter";
    const SUBSCRIBES: &'static [&'static str] = &[<rows::Full as Row>::TABLE.name];

    fn open(context: &Context) -> Result<Self> {
        Ok(Counter {
            context: context.clone(),
            all_rows: 0,
        })
    }

    fn receive(&mut self, received: &ReceivedRows) -> Result<()> {
        self.context.shared::<Shared>()?.may_panic("receive");
        let rows = received.rows.num_rows() as i64;
        self.all_rows += rows;
        self.context.emitter().events(vec![rows::Counted {
            time: Timestamp::from_ns(received.time_ns),
            from_instance: received.instance.clone(),
            rows,
            id_sum: received.column::<i64>("id")?.values().sum(),
            all_rows: self.all_rows,
        }])
    }
}
