//! `vwatch-query` processes: one per connection to `query.sock`, and one per query of a plugin.
//!
//! **Invariant:** the recorder never reads or writes a query's rows for a client: the child has the connected socket as its input
//! and output. A child that outlives its time limit is killed; every child is reaped.

use crate::query_answer;
use crate::recorder::Recorder;
use nix::unistd::{Group, User, geteuid};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::Semaphore;
use vwatch_config::Config;
use vwatch_loader::{Fault, FaultKind, Query};
use vwatch_model::query::Request;
use vwatch_model::time::Moment;

/// Queries of plugins at the same time.
const PLUGIN_QUERIES: usize = 4;
/// The longest answer that a plugin is handed.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// Connections that may wait for others to end.
const MAX_WAITING: u32 = 64;
/// What a child may take beyond its own limit of time before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// The same where a client reads the answer: time spent waiting for it does not count, and the child itself gives up a
/// client that has read nothing for ten minutes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Where `vwatch-query` is: beside the recorder's own program, or in `../libexec/vwatchd/`.
pub fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let dir = own.parent()?;
    let places = [dir.join("vwatch-query"), dir.join("../libexec/vwatchd/vwatch-query")];
    places.into_iter().find(|place| place.is_file())
}

/// The command of one child.
fn command(program: &Path, config: &Config, asker_uid: u32) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--store")
        .arg(&config.store)
        .arg("--live")
        .arg("--asker-uid")
        .arg(asker_uid.to_string())
        .arg("--memory")
        .arg(config.query.memory_bytes.to_string())
        .arg("--time")
        .arg(config.query.time.as_millis().to_string())
        .arg("--rows")
        .arg(config.query.rows.to_string())
        .current_dir("/")
        .env_clear()
        .kill_on_drop(true);
    if let Ok(zone) = std::env::var("TZ") {
        command.env("TZ", zone);
    }
    if geteuid().is_root() {
        let (uid, gid) = unprivileged();
        command.arg("--drop-to").arg(format!("{uid}:{gid}"));
    }
    command
}

/// The user that queries run as: `vwatch`, or `nobody` where there is none.
fn unprivileged() -> (u32, u32) {
    let ids = |user: User| (user.uid.as_raw(), user.gid.as_raw());
    let known = ["vwatch", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten());
    // 65534 is the kernel's overflow id, and nobody's on every distribution.
    known.map_or_else(
        || {
            (
                65534,
                Group::from_name("nogroup")
                    .ok()
                    .flatten()
                    .map_or(65534, |g| g.gid.as_raw()),
            )
        },
        ids,
    )
}

/// Queries of plugins.
pub struct Queries {
    runtime: tokio::runtime::Handle,
    running: Arc<Semaphore>,
}

impl Queries {
    pub fn new(runtime: tokio::runtime::Handle) -> Queries {
        Queries {
            runtime,
            running: Arc::new(Semaphore::new(PLUGIN_QUERIES)),
        }
    }

    /// Asks the store for a plugin; `answer` gets the Arrow IPC stream, from another thread.
    pub fn ask(
        &self,
        config: &Config,
        query: Query,
        answer: impl FnOnce(Result<Vec<u8>, Fault>) + Send + 'static,
    ) -> Result<(), Fault> {
        let busy = |_| Fault::new(FaultKind::Busy, "too many queries of plugins are running");
        let permit = self.running.clone().try_acquire_owned().map_err(busy)?;
        let program = program().ok_or_else(|| Fault::new(FaultKind::Unsupported, MISSING))?;
        let command = command(&program, config, geteuid().as_raw());
        let limit = config.query.time + GRACE;
        self.runtime.spawn(async move {
            let run = collect(command, query);
            let bytes = tokio::time::timeout(limit, run).await;
            answer(bytes.unwrap_or_else(|_| Err(Fault::failed("the query took too long"))));
            drop(permit);
        });
        Ok(())
    }
}

const MISSING: &str = "vwatch-query is neither beside vwatchd nor in ../libexec/vwatchd/";

/// What `status` has to say about queries.
pub fn note() -> Option<String> {
    program()
        .is_none()
        .then(|| format!("queries are not answered: {MISSING}"))
}

/// Runs a child on one end of a socket pair, as on a connection to `query.sock`, and takes its whole answer.
async fn collect(mut command: Command, query: Query) -> Result<Vec<u8>, Fault> {
    let failed = |e: std::io::Error| Fault::failed(format!("vwatch-query: {e}"));
    let request = Request {
        sql: query.sql,
        at: query.at_ns.map(Moment::Ns),
        from: query.from_ns.map(Moment::Ns),
        to: query.to_ns.map(Moment::Ns),
        ..Request::default()
    };
    let mut line = serde_json::to_vec(&request).map_err(|e| Fault::bad_input(e.to_string()))?;
    line.push(b'\n');
    let (mut socket, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = theirs.into_std().map_err(failed)?;
    theirs.set_nonblocking(false).map_err(failed)?;
    let output = OwnedFd::from(theirs.try_clone().map_err(failed)?);
    let spawned = command.stdin(OwnedFd::from(theirs)).stdout(output).spawn();
    // `command` holds the child's end: the answer is over when the child's own is closed.
    drop(command);
    let mut child = spawned.map_err(failed)?;
    socket.write_all(&line).await.map_err(failed)?;
    let mut bytes = Vec::new();
    socket
        .take(MAX_ANSWER_BYTES + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        // The child ends with `kill_on_drop`.
        return Err(Fault::failed(format!(
            "the answer has more than {MAX_ANSWER_BYTES} bytes"
        )));
    }
    let status = child.wait().await.map_err(failed)?;
    if bytes.is_empty() {
        return Err(Fault::failed(format!(
            "vwatch-query ended without an answer ({status})"
        )));
    }
    match query_answer::failure(&bytes) {
        Some(failure) => Err(query_answer::fault(failure)),
        None => Ok(bytes),
    }
}

/// Serves `query.sock` until it is dropped.
pub async fn serve(listener: UnixListener, recorder: Arc<Recorder>) {
    let running = Arc::new(Semaphore::new(recorder.config().query.connections as usize));
    let waiting = Arc::new(AtomicU32::new(0));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of file descriptors, most likely: they come back when connections end.
                tracing::warn!("query socket: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            waiting.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("query socket: a connection is closed, {MAX_WAITING} others wait");
            continue;
        }
        let (running, waiting, config) = (running.clone(), waiting.clone(), recorder.config());
        tokio::spawn(async move {
            let permit = running.acquire_owned().await;
            waiting.fetch_sub(1, Ordering::Relaxed);
            if let Err(e) = answer(stream, &config).await {
                tracing::warn!("query: {e}");
            }
            drop(permit);
        });
    }
}

/// Hands a connection to a child and waits for its end.
async fn answer(stream: UnixStream, config: &Config) -> std::io::Result<()> {
    let asker = stream.peer_cred()?;
    let program = program().ok_or_else(|| std::io::Error::other(MISSING))?;
    let socket = stream.into_std()?;
    socket.set_nonblocking(false)?;
    let output = OwnedFd::from(socket.try_clone()?);
    let mut command = command(&program, config, asker.uid());
    let spawned = command.stdin(OwnedFd::from(socket)).stdout(output).spawn();
    // `command` holds the socket too: the client must see its end with the child's.
    drop(command);
    let mut child = spawned?;
    match tokio::time::timeout(config.query.time + PATIENCE, child.wait()).await {
        Ok(status) => {
            let status = status?;
            if !status.success() {
                tracing::debug!("query of user {}: vwatch-query ended with {status}", asker.uid());
            }
        }
        Err(_) => {
            tracing::warn!(
                "query of user {}: killed after {:?}",
                asker.uid(),
                config.query.time + PATIENCE
            );
            child.kill().await?;
        }
    }
    Ok(())
}
