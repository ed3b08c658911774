//! Start and end of the recorder: checks, store, threads, sockets, signals.
//!
//! Order of the start: configuration, sockets' directory, store (looked at by a child process first), writer, scheduler, sockets,
//! plugins. The end goes the other way round, and takes a few seconds at most, whatever a probe does.

use crate::clock;
use crate::control::{self, Peer};
use crate::error::CoreError;
use crate::instances::{self, Instances};
use crate::keep;
use crate::notify::Notify;
use crate::pipeline::{Pipeline, WriterThread};
use crate::query::{self, Queries};
use crate::recorder::{Parts, Recorder};
use crate::rows::{ControlEvent, CoreRow, Gap};
use crate::scheduler::Scheduler;
use crate::socket::{self, Bound};
use crate::taps::Taps;
use crate::watch;
use nix::unistd::geteuid;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use vwatch_config::{Config, ConfigError};
use vwatch_loader::Loader;
use vwatch_model::time::Stamp;
use vwatch_store::{OpenOptions, PreviousRun, Writer};

/// How long instances and plugins may take to end.
const STOP: Duration = Duration::from_secs(3);
/// How long the start waits for the first look at the plugins directory before it says that it is ready.
const FIRST_SCAN: Duration = Duration::from_secs(10);
/// Threads that sleep longer than this are taken for dead, and the watchdog is not fed.
const SILENCE_NS: i64 = 10_000_000_000;

/// What the binary brings.
pub struct Start {
    pub config: Config,
    /// Reads flags, environment and file again.
    pub reread: Box<dyn Fn() -> Result<Config, ConfigError>>,
    /// Takes in a configuration that was read again, for what is the binary's own (the log's level).
    pub reconfigured: Box<dyn Fn(&Config)>,
}

/// The trees that probes read belong to the running kernel: its boot id is there.
pub fn is_live(config: &Config) -> bool {
    let boot_id = |proc_dir: &Path| std::fs::read(proc_dir.join("sys/kernel/random/boot_id")).ok();
    let same_proc = config.proc_dir == Path::new("/proc")
        || boot_id(&config.proc_dir).is_some_and(|id| boot_id(Path::new("/proc")).as_ref() == Some(&id));
    same_proc && (config.sys_dir == Path::new("/sys") || config.sys_dir.join("kernel/mm").is_dir())
}

/// Runs the recorder until it is told to stop.
pub fn run(start: Start) -> Result<(), CoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_stack_size(1 << 20)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(|source| CoreError::system("start the runtime", source))?;
    let result = runtime.block_on(record(start));
    // Requests and queries that are still under way are not waited for.
    runtime.shutdown_background();
    result
}

async fn record(start: Start) -> Result<(), CoreError> {
    let config = start.config.clone();
    // First of all: a signal that comes before somebody listens for it ends the process with nothing closed.
    let told = Told::listen()?;
    socket::prepare_dir(&config.socket)?;
    let running = Running::begin(config.clone())?;
    let control = socket::bind(&config.socket);
    let sockets = control.and_then(|control| Ok((control, socket::bind(&config.query_socket())?)));
    let (control, queries) = match sockets {
        Ok(sockets) => sockets,
        Err(e) => {
            running.end()?;
            return Err(e);
        }
    };
    let files = [
        (control.path.clone(), control.ino()),
        (queries.path.clone(), queries.ino()),
    ];
    let result = serve(&start, &running, control, queries, told).await;
    for (path, ino) in files {
        Bound::remove(&path, ino);
    }
    running.recorder.streams.close_all();
    running.end()?;
    result
}

async fn serve(start: &Start, running: &Running, control: Bound, queries: Bound, told: Told) -> Result<(), CoreError> {
    let recorder = &running.recorder;
    let listener = |bound: Bound| {
        UnixListener::from_std(bound.listener).map_err(|source| CoreError::system("listen on the sockets", source))
    };
    let control = tokio::spawn(control::serve(listener(control)?, recorder.clone()));
    let queries = tokio::spawn(query::serve(listener(queries)?, recorder.clone()));
    let notify = Notify::from_env();
    let watching = watch::start(recorder.clone())?;
    let scanned = watching.scanned();
    let _ = tokio::time::timeout(FIRST_SCAN, async {
        while !scanned() {
            tokio::time::sleep(Duration::from_millis(10)).await
        }
    })
    .await;
    announce(recorder, &notify);
    // Reading and checking whole plugin files is over.
    crate::process::trim();
    obey(told, start, recorder, &notify).await;
    notify.stopping();
    watching.stop();
    control.abort();
    queries.abort();
    Ok(())
}

fn announce(recorder: &Arc<Recorder>, notify: &Notify) {
    recorder.check_sections();
    let config = recorder.config();
    if let Some(host) = &config.remote_host {
        tracing::warn!("remote-host {host} is set, but this version has no gateway: nothing listens on the network");
    }
    if let Some(cluster) = &config.cluster {
        tracing::warn!(
            "{} is there, but this version has no gateway: it is not read",
            cluster.display()
        );
    }
    if let Some(note) = query::note() {
        tracing::warn!("{note}");
    }
    let status = recorder.status();
    let line = format!(
        "recording into {}: {} instances of {} plugins",
        status.store.path, status.instances, status.plugins_loaded
    );
    tracing::info!("{line}; control socket {}", status.control_socket);
    notify.ready(&line);
    own_event(recorder, "start");
}

/// A control event that nobody asked for over the socket.
fn own_event(recorder: &Recorder, action: &'static str) {
    let own = Peer::own();
    recorder.pipeline.row(CoreRow::Control(ControlEvent {
        time_ns: clock::now().wall_ns,
        uid: own.uid,
        gid: own.gid,
        pid: own.pid,
        comm: crate::process::comm(own.pid),
        action,
        outcome: "ok".to_owned(),
        ..ControlEvent::default()
    }));
}

/// The signals that the recorder listens for.
struct Told {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Told {
    fn listen() -> Result<Told, CoreError> {
        let listen = |kind| signal(kind).map_err(|source| CoreError::system("listen for signals", source));
        Ok(Told {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// Does what signals say; ends with the one that asks for the end.
async fn obey(mut told: Told, start: &Start, recorder: &Arc<Recorder>, notify: &Notify) {
    let every = Notify::watchdog_every().unwrap_or(Duration::from_secs(3600));
    let mut watchdog = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = told.terminate.recv() => break,
            _ = told.interrupt.recv() => break,
            _ = told.hangup.recv() => {
                notify.reloading();
                reload(start, recorder);
                notify.ready("recording");
            }
            _ = watchdog.tick() => {
                let silent_ns = recorder.scheduler.silent_ns().max(recorder.pipeline.writer_silent_ns());
                if silent_ns < SILENCE_NS {
                    notify.watchdog();
                } else {
                    tracing::error!("the recorder's own threads have been silent for {} s", silent_ns / 1_000_000_000);
                }
            }
        }
    }
    tracing::info!("stopping");
    own_event(recorder, "stop");
}

fn reload(start: &Start, recorder: &Arc<Recorder>) {
    match (start.reread)() {
        Ok(config) => {
            (start.reconfigured)(&config);
            recorder.reload(config);
            tracing::info!("the configuration was read again");
            own_event(recorder, "reload");
        }
        Err(e) => tracing::error!("the old configuration is kept: {e}"),
    }
}

/// The threads of a recorder.
struct Running {
    recorder: Arc<Recorder>,
    writer: WriterThread,
}

impl Running {
    fn begin(config: Config) -> Result<Running, CoreError> {
        make_store_dir(&config.store)?;
        check_store(&config.store)?;
        let options = OpenOptions {
            map_bytes: config.store_map_bytes,
            ..OpenOptions::default()
        };
        let now = clock::now();
        let boot_id = clock::boot_id();
        let mut writer = Writer::open(&config.store, &options, now, &boot_id)?;
        writer.set_retention(keep::retention(&config.keep, &config.store));
        let mut instances = Instances::default();
        let over = instances.restore(writer.records()?, now.wall_ns);
        let gap = writer
            .previous()
            .and_then(|previous| gap_since(previous, now, &boot_id));
        writer.commit(now)?;
        let taps = Arc::new(Taps::default());
        let (pipeline, writer) = Pipeline::start(writer, taps.clone())?;
        if let Some(gap) = gap {
            tracing::info!("{}", gap.message.as_deref().unwrap_or_default());
            // In the store before anybody can ask about the time that it covers.
            let told = pipeline.ask(move |recording| {
                recording.row(CoreRow::Gap(gap));
                recording.commit()
            });
            if let Ok(Err(e)) = told {
                tracing::warn!("the time since the last run is not in the store as a gap yet: {e}");
            }
        }
        if let Ok(Err(e)) = instances::save(&pipeline, instances::forget(over)) {
            tracing::warn!("instances whose time has passed are not forgotten yet: {e}");
        }
        let (scheduler, _) = Scheduler::start(pipeline.clone(), config.scheduler)?;
        let recorder = Recorder::new(Parts {
            config,
            pipeline,
            scheduler,
            taps,
            opener: Box::new(Loader::default()),
            queries: Queries::new(tokio::runtime::Handle::current()),
            instances,
        });
        recorder.reconcile();
        Ok(Running { recorder, writer })
    }

    /// Ends instances, plugins and writer, in this order; the store is closed cleanly.
    fn end(self) -> Result<(), CoreError> {
        self.recorder.stop(Instant::now() + STOP);
        self.recorder.pipeline.close();
        match self.writer.join() {
            Ok(result) => Ok(result?),
            Err(_) => Err(CoreError::system(
                "end the writer's thread",
                std::io::Error::other("it panicked"),
            )),
        }
    }
}

/// The time since the run before, as a gap of everything.
fn gap_since(previous: &PreviousRun, now: Stamp, boot_id: &str) -> Option<Gap> {
    let last_ns = previous.last_commit.wall_ns;
    if last_ns == 0 {
        return None;
    }
    let rebooted = previous.boot_id != boot_id;
    let time = crate::process::words(Duration::from_nanos((now.wall_ns - last_ns).max(0) as u64));
    let (cause, words) = match (previous.clean, rebooted) {
        (true, false) => ("stopped", "vwatchd was stopped".to_owned()),
        (true, true) => ("stopped", "vwatchd was stopped, and the host was rebooted".to_owned()),
        (false, false) => ("killed", "vwatchd was killed".to_owned()),
        (false, true) => ("rebooted", "the host went down without stopping vwatchd".to_owned()),
    };
    Some(Gap {
        from_ns: last_ns.min(now.wall_ns),
        until_ns: now.wall_ns.max(last_ns),
        cause: cause.into(),
        message: Some(format!("{words}: nothing was recorded for {time}")),
        ..Gap::default()
    })
}

/// The directory of the user's own store is made; any other must be there.
fn make_store_dir(store: &Path) -> Result<(), CoreError> {
    let Some(dir) = store.parent() else {
        return Ok(());
    };
    if dir.exists() {
        return Ok(());
    }
    if !geteuid().is_root() {
        return std::fs::create_dir_all(dir).map_err(|e| CoreError::system(format!("make {}", dir.display()), e));
    }
    Err(CoreError::StoreCheck {
        path: store.to_owned(),
        what: format!(
            "there is no directory {}; make it, or choose another --store",
            dir.display()
        ),
    })
}

/// Lets a child process look at the store first: a damaged one can kill the process that maps it.
pub fn check_store(store: &Path) -> Result<(), CoreError> {
    if !store.exists() {
        return Ok(());
    }
    let refuse = |what: String| CoreError::StoreCheck {
        path: store.to_owned(),
        what,
    };
    let child = std::process::Command::new("/proc/self/exe")
        .arg("--check-store")
        .arg(store)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| refuse(format!("cannot be checked: {e}")))?;
    if child.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&child.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(refuse(match child.status.code() {
        Some(_) if !said.is_empty() => format!("{said}; it is left as it is"),
        Some(code) => format!("the check of the store ended with {code}; it is left as it is"),
        None => format!(
            "damaged: the process that looked at it died ({}); it is left as it is",
            child.status
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_runs_is_a_gap() {
        let stamp = |s: i64| Stamp {
            wall_ns: s * 1_000_000_000,
            boot_ns: s,
        };
        let check = |clean: bool, boot_id: &str, cause: &str, words: &str| {
            let previous = PreviousRun {
                last_commit: stamp(100),
                boot_id: boot_id.to_owned(),
                clean,
                instances: Vec::new(),
            };
            let gap = gap_since(&previous, stamp(112), "this").unwrap();
            assert_eq!((gap.from_ns, gap.until_ns), (stamp(100).wall_ns, stamp(112).wall_ns));
            assert_eq!(gap.cause, cause);
            assert_eq!(gap.message.as_deref(), Some(words));
        };
        check(
            true,
            "this",
            "stopped",
            "vwatchd was stopped: nothing was recorded for 12.0 s",
        );
        check(
            false,
            "this",
            "killed",
            "vwatchd was killed: nothing was recorded for 12.0 s",
        );
        check(
            false,
            "other",
            "rebooted",
            "the host went down without stopping vwatchd: nothing was recorded for 12.0 s",
        );
    }
}
