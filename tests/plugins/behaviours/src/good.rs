//! Probes that do as they should: pictures, deltas, events.

use crate::rows;
use vwatch_sdk::prelude::*;

/// Options of `beh_full`.
#[derive(Options)]
pub struct FullOptions {
    /// Rows of each picture.
    #[option(default = 3)]
    rows: i64,
    /// Put before the number in `name`.
    #[option(default = "row")]
    prefix: String,
    /// Added to `half`.
    #[option(default = 0.0)]
    add: f64,
    /// Numbers to leave out.
    #[option(default = "")]
    without: Vec<String>,
    /// Bytes of `raw`, for all rows.
    raw: Option<Bytes>,
}

pub struct Full(FullOptions);

impl Probe for Full {
    type Options = FullOptions;
    type Tables = rows::Full;
    const NAME: &'static str = "beh_full";
    const DOC: &'static str = "Pictures with a column of every type.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(_: &Context, options: FullOptions) -> Result<Self> {
        if options.rows < 0 {
            return Err(ProbeError::bad_option("rows", "there are no fewer than 0 rows"));
        }
        Ok(Full(options))
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let options = &self.0;
        let wanted = (0..options.rows).filter(|id| !options.without.contains(&id.to_string()));
        out.full(wanted.map(|id| row(id, tick, options)).collect());
        Ok(())
    }
}

fn row(id: i64, tick: &Tick, options: &FullOptions) -> rows::Full {
    let bytes = options.raw.map_or(id as u64, |Bytes(n)| n) as usize;
    rows::Full {
        id,
        name: format!("{}{id}", options.prefix),
        even: id % 2 == 0,
        small: -(id as i32),
        large: (1 << 31) + id as u32,
        mask: (1 << 63) + id as u64,
        half: id as f64 / 2.0 + options.add,
        raw: vec![0xab; bytes],
        seen: Timestamp::from_ns(tick.time_ns),
        runs: tick.sequence as i64,
        note: (id % 2 == 0).then(String::new),
    }
}

/// Options of `beh_delta`.
#[derive(Options)]
pub struct DeltaOptions {
    /// Rows that there are at each time.
    #[option(default = 4)]
    window: i64,
}

pub struct Delta(DeltaOptions);

impl Probe for Delta {
    type Options = DeltaOptions;
    type Tables = rows::Delta;
    const NAME: &'static str = "beh_delta";
    const DOC: &'static str = "A window of keys that moves on by one each run, told in deltas.";
    const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

    fn open(_: &Context, options: DeltaOptions) -> Result<Self> {
        Ok(Delta(options))
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let (last, window) = (tick.sequence as i64, self.0.window);
        let first = (last - window + 1).max(0);
        let touched = |id: &i64| id % 3 == 0 || *id == last;
        let row = |id: i64| rows::Delta {
            id,
            changed: if touched(&id) { last } else { id },
        };
        if tick.full {
            out.full((first..=last).map(row).collect());
        } else {
            let gone = (first > 0).then(|| rows::DeltaKey { id: first - 1 });
            out.delta(
                (first..=last).filter(touched).map(row).collect(),
                gone.into_iter().collect(),
            );
        }
        Ok(())
    }
}

/// Options of `beh_events`.
#[derive(Options)]
pub struct EventsOptions {
    /// Time between two bursts.
    #[option(default = "100ms")]
    pause: Duration,
    /// Events of a burst.
    #[option(default = 2)]
    burst: i64,
    /// After this many events, none come any more.
    limit: Option<i64>,
    /// One loss of this many rows is told after the first burst.
    #[option(default = 0)]
    lose: i64,
}

pub struct Events {
    pause: Duration,
    burst: i64,
    limit: i64,
    lose: i64,
    worker: Worker,
}

impl StreamProbe for Events {
    type Options = EventsOptions;
    type Tables = rows::Event;
    const NAME: &'static str = "beh_events";
    const DOC: &'static str = "Events from a thread of its own, and losses.";
    const DEFAULT_ON: bool = false;

    fn open(_: &Context, options: EventsOptions) -> Result<Self> {
        Ok(Events {
            pause: options.pause,
            burst: options.burst,
            limit: options.limit.unwrap_or(i64::MAX),
            lose: options.lose,
            worker: Worker::default(),
        })
    }

    fn start(&mut self, emitter: Emitter) -> Result<()> {
        let (pause, burst, limit, mut lose) = (self.pause, self.burst, self.limit, self.lose);
        self.worker = Worker::spawn("beh_events", move |stopping| {
            let mut next = 0;
            while !stopping.wait(pause) {
                let until = (next + burst).min(limit);
                match emitter.events((next..until).map(event).collect()) {
                    Ok(()) => next = until,
                    Err(error) => emitter.context().log(Level::Warning, &error.message),
                }
                if lose > 0 {
                    let now = Timestamp::now().ns();
                    emitter.lost::<rows::Event>(lose as u64, now - 1_000, now, "dropped")?;
                    lose = 0;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.worker.stop()
    }
}

fn event(number: i64) -> rows::Event {
    rows::Event {
        time: Timestamp::now(),
        number,
        parity: if number % 2 == 0 { "even" } else { "odd" }.into(),
    }
}
