//! Probes that do as they should not.

use crate::rows::Ran;
use std::path::Path;
use std::thread::sleep;
use vwatch_sdk::prelude::*;

/// Row of a misbehaving probe that ran all the same.
fn ran(probe: &str, tick: &Tick, out: &mut Out) {
    out.full(vec![Ran {
        probe: probe.to_owned(),
        runs: tick.sequence as i64,
    }]);
}

/// Where to misbehave.
fn place(name: &str, given: &str, known: &[&str]) -> Result<String> {
    if known.contains(&given) {
        Ok(given.to_owned())
    } else {
        Err(ProbeError::bad_option(
            name,
            format!("{given:?} is not one of {}", known.join(", ")),
        ))
    }
}

/// Options of `beh_panic`.
#[derive(Options)]
pub struct PanicOptions {
    /// `open`, `run`, `stop` or `drop`.
    #[option(default = "run")]
    r#where: String,
    /// Runs that end well before.
    #[option(default = 0)]
    first: i64,
}

pub struct Panic {
    place: String,
    first: i64,
}

impl Probe for Panic {
    type Options = PanicOptions;
    type Tables = Ran;
    const NAME: &'static str = "beh_panic";
    const DOC: &'static str = "Panics.";
    const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

    fn open(_: &Context, options: PanicOptions) -> Result<Self> {
        let place = place("where", &options.r#where, &["open", "run", "stop", "drop"])?;
        assert!(place != "open", "told to panic in open");
        Ok(Panic {
            place,
            first: options.first,
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        ran(Self::NAME, tick, out);
        assert!(
            self.place != "run" || (tick.sequence as i64) < self.first,
            "told to panic in run {}",
            tick.sequence
        );
        Ok(())
    }

    fn stop(&mut self, _: &mut Out) -> Result<()> {
        assert!(self.place != "stop", "told to panic in stop");
        Ok(())
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        // While a panic unwinds, a second one would end the process: that is nobody's to survive.
        assert!(
            self.place != "drop" || std::thread::panicking(),
            "told to panic in drop"
        );
    }
}

/// Options of `beh_panic_stream`.
#[derive(Options)]
pub struct PanicStreamOptions {
    /// `start`, `thread` or `stop`.
    #[option(default = "start")]
    r#where: String,
}

pub struct PanicStream {
    place: String,
    worker: Worker,
}

impl StreamProbe for PanicStream {
    type Options = PanicStreamOptions;
    type Tables = Ran;
    const NAME: &'static str = "beh_panic_stream";
    const DOC: &'static str = "Panics, streaming.";
    const DEFAULT_ON: bool = false;

    fn open(_: &Context, options: PanicStreamOptions) -> Result<Self> {
        Ok(PanicStream {
            place: place("where", &options.r#where, &["start", "thread", "stop"])?,
            worker: Worker::default(),
        })
    }

    fn start(&mut self, _: Emitter) -> Result<()> {
        assert!(self.place != "start", "told to panic in start");
        if self.place == "thread" {
            self.worker = Worker::spawn("beh_panic_stream", |_| panic!("told to panic in the thread"))?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        assert!(self.place != "stop", "told to panic in stop");
        self.worker.stop()
    }
}

/// Options of `beh_hang`.
#[derive(Options)]
pub struct HangOptions {
    /// Returns when this file exists; never, when it is not given.
    until: Option<String>,
    /// Returns after this long at the latest.
    lasting: Option<Duration>,
    /// Runs that end well before.
    #[option(default = 0)]
    first: i64,
}

pub struct Hang(HangOptions);

impl Probe for Hang {
    type Options = HangOptions;
    type Tables = Ran;
    const NAME: &'static str = "beh_hang";
    const DOC: &'static str = "Never returns, or not until a file exists.";
    const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

    fn open(_: &Context, options: HangOptions) -> Result<Self> {
        Ok(Hang(options))
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let step = Duration::from_millis(10);
        let mut hung = Duration::ZERO;
        while tick.sequence as i64 >= self.0.first && !self.let_go(hung) {
            sleep(step);
            hung += step;
        }
        ran(Self::NAME, tick, out);
        Ok(())
    }
}

impl Hang {
    fn let_go(&self, hung: Duration) -> bool {
        self.0.until.as_ref().is_some_and(|file| Path::new(file).exists())
            || self.0.lasting.is_some_and(|lasting| hung >= lasting)
    }
}

/// Options of `beh_slow`.
#[derive(Options)]
pub struct SlowOptions {
    /// How long a run takes.
    #[option(default = "300ms")]
    by: Duration,
    /// Spends the time computing rather than asleep.
    #[option(default = false)]
    busy: bool,
}

pub struct Slow(SlowOptions);

impl Probe for Slow {
    type Options = SlowOptions;
    type Tables = Ran;
    const NAME: &'static str = "beh_slow";
    const DOC: &'static str = "Takes its time.";
    const SCHEDULE: Schedule = Schedule::every_ms(100).on_demand();

    fn open(_: &Context, options: SlowOptions) -> Result<Self> {
        Ok(Slow(options))
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let began = std::time::Instant::now();
        if !self.0.busy {
            sleep(self.0.by);
        }
        while began.elapsed() < self.0.by {
            std::hint::spin_loop();
        }
        ran(Self::NAME, tick, out);
        Ok(())
    }
}

/// Options of `beh_fail`.
#[derive(Options)]
pub struct FailOptions {
    /// Runs that end well before the first failure.
    #[option(default = 0)]
    first: i64,
    /// Failures; then runs end well again.
    failures: Option<i64>,
    /// What the failure says.
    #[option(default = "told to fail")]
    message: String,
}

pub struct Fail(FailOptions);

impl Probe for Fail {
    type Options = FailOptions;
    type Tables = Ran;
    const NAME: &'static str = "beh_fail";
    const DOC: &'static str = "Fails; the rows of a failed run are not to be stored.";
    const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

    fn open(_: &Context, options: FailOptions) -> Result<Self> {
        Ok(Fail(options))
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        ran(Self::NAME, tick, out);
        let past_first = tick.sequence as i64 - self.0.first;
        if past_first >= 0 && self.0.failures.is_none_or(|n| past_first < n) {
            return Err(ProbeError::failed(self.0.message.clone()));
        }
        Ok(())
    }
}

/// Options of the probes that cannot.
#[derive(Options)]
pub struct CannotOptions {
    /// `open` or `run`.
    #[option(default = "open")]
    r#where: String,
}

/// Probes that answer one kind of error, in `open` or in each `run`.
macro_rules! cannot {
    ($($probe:ident, $name:literal, $doc:literal, $error:expr;)*) => {$(
        pub struct $probe;

        impl Probe for $probe {
            type Options = CannotOptions;
            type Tables = Ran;
            const NAME: &'static str = $name;
            const DOC: &'static str = $doc;
            const SCHEDULE: Schedule = Schedule::every_secs(1).on_demand();

            fn open(_: &Context, options: CannotOptions) -> Result<Self> {
                match place("where", &options.r#where, &["open", "run"])?.as_str() {
                    "open" => Err($error),
                    _ => Ok($probe),
                }
            }

            fn run(&mut self, _: &Tick, _: &mut Out) -> Result<()> {
                Err($error)
            }
        }
    )*};
}

cannot! {
    Unsupported, "beh_unsupported", "Says that the kernel cannot.", ProbeError::unsupported("this kernel has no behaviour");
    Denied, "beh_denied", "Says that it may not.", ProbeError::denied("behaviour needs CAP_SYS_BEHAVE");
    NoData, "beh_no_data", "Says that there is nothing.", ProbeError::no_data("nobody behaves");
}
