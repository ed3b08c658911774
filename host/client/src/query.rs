//! Query client: one question, and its answer batch by batch.
//!
//! Two sources: the daemon's `query.sock` (beside its control socket), or a store file, read by a `vwatch-query` that this
//! client starts and that ends with the [`Answer`]. Dropping an answer closes the connection, which cancels the query.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vwatch_model::query::{Done, Progress, Request};

use crate::connect;
use crate::error::ClientError;
use crate::stream::{Message, MessageReader, StreamError, Talk};

/// How much of an engine's last words is kept.
const LAST_WORDS: usize = 4096;
/// How LMDB ends a process that it leads through damaged pages (signal(7)).
mod fatal {
    pub const ABRT: i32 = 6;
    pub const BUS: i32 = 7;
    pub const SEGV: i32 = 11;
}
/// Cap on waiting for an engine that has ended its output to end itself.
const ENGINE_END: Duration = Duration::from_secs(2);

/// Who answers.
#[derive(Debug, Clone)]
pub enum Source {
    /// Control sockets in the order to try; `query.sock` lies beside each.
    Sockets(Vec<PathBuf>),
    /// A store file, and the places where `vwatch-query` may be.
    Store { file: PathBuf, engines: Vec<PathBuf> },
}

/// Places of `vwatch-query` for a client whose executable is `exe`: beside it, or in the package's libexec. Never `PATH`:
/// what runs with the user's rights on a store must come with this program.
pub fn engine_places(exe: &Path) -> Vec<PathBuf> {
    let Some(dir) = exe.parent() else {
        return Vec::new();
    };
    let mut places = vec![dir.join("vwatch-query")];
    if let Some(prefix) = dir.parent() {
        places.push(prefix.join("libexec/vwatchd/vwatch-query"));
    }
    places
}

#[derive(Debug, Clone)]
pub struct QueryClient {
    source: Source,
    timeout: Option<Duration>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Schema(SchemaRef),
    Rows(RecordBatch),
    Progress(Progress),
    Done(Done),
}

/// A whole answer in memory.
#[derive(Debug, Clone)]
pub struct Whole {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub done: Done,
}

impl QueryClient {
    /// With a `timeout`, an answer that is not whole by then is an error.
    pub fn new(source: Source, timeout: Option<Duration>) -> Self {
        QueryClient { source, timeout }
    }

    /// Sends the question. Errors of the question itself come with the answer's parts.
    pub async fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let mut request = request.clone();
        if let Some(timeout) = self.timeout {
            let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            request.limits.time_ms = Some(request.limits.time_ms.map_or(ms, |own| own.min(ms)));
        }
        let mut line =
            serde_json::to_vec(&request).map_err(|e| ClientError::Stream(StreamError::Io(io::Error::other(e))))?;
        line.push(b'\n');
        let mut answer = match &self.source {
            Source::Sockets(sockets) => from_socket(sockets).await?,
            Source::Store { file, engines } => from_store(file, engines)?,
        };
        answer.limit = self.timeout.map(|t| (t, Instant::now() + t));
        // An engine that ends before it has read its question has said why in its answer.
        match answer.to.write_all(&line).await.and(answer.to.flush().await) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(ClientError::Stream(StreamError::Io(e))),
            _ => Ok(answer),
        }
    }

    /// Asks and keeps the whole answer: for small ones.
    pub async fn ask_whole(&self, request: &Request) -> Result<Whole, ClientError> {
        let mut answer = self.ask(request).await?;
        let (mut schema, mut batches) = (None, Vec::new());
        loop {
            match answer.next().await? {
                Some(Part::Schema(s)) => schema = Some(s),
                Some(Part::Rows(batch)) => batches.push(batch),
                Some(Part::Progress(_)) => {}
                Some(Part::Done(done)) => {
                    let schema = schema.ok_or(ClientError::CutOff { detail: None })?;
                    return Ok(Whole { schema, batches, done });
                }
                None => return Err(ClientError::CutOff { detail: None }),
            }
        }
    }
}

async fn from_socket(sockets: &[PathBuf]) -> Result<Answer, ClientError> {
    let candidates = sockets.iter().map(|control| connect::query_socket(control));
    let (stream, _) = connect::first(candidates).await?;
    let (from, to) = stream.into_split();
    Ok(Answer::new(Box::new(from), Box::new(to), None))
}

fn from_store(file: &Path, engines: &[PathBuf]) -> Result<Answer, ClientError> {
    // Said here, since it is the most common mistake and needs no engine.
    std::fs::metadata(file).map_err(|source| ClientError::NoStore {
        path: file.to_path_buf(),
        source,
    })?;
    let Some(engine) = engines.iter().find(|e| e.is_file()) else {
        return Err(ClientError::NoEngine(engines.to_vec()));
    };
    let start = |source| ClientError::EngineStart {
        path: engine.clone(),
        source,
    };
    let mut child = Command::new(engine)
        .arg("--store")
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let missing = || start(io::Error::other("it has no pipes"));
    let (Some(to), Some(from), Some(words)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(missing());
    };
    let words = tokio::spawn(last_words(words));
    Ok(Answer::new(
        Box::new(from),
        Box::new(to),
        Some(Engine {
            store: file.to_path_buf(),
            child,
            words,
        }),
    ))
}

/// Reads an engine's standard error to its end, so that it never blocks on it, and keeps the last of it.
async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..n]);
        let excess = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[derive(Debug)]
struct Engine {
    store: PathBuf,
    child: Child,
    words: JoinHandle<String>,
}

/// An answer as it arrives.
pub struct Answer {
    messages: MessageReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// Kept open for as long as the answer is wanted: the engine takes its end as "cancel".
    to: Box<dyn AsyncWrite + Send + Unpin>,
    engine: Option<Engine>,
    limit: Option<(Duration, Instant)>,
    over: bool,
}

impl Answer {
    fn new(
        from: Box<dyn AsyncRead + Send + Unpin>,
        to: Box<dyn AsyncWrite + Send + Unpin>,
        engine: Option<Engine>,
    ) -> Self {
        Answer {
            messages: MessageReader::new(from),
            to,
            engine,
            limit: None,
            over: false,
        }
    }

    /// The next part; none after [`Part::Done`] or an error.
    pub async fn next(&mut self) -> Result<Option<Part>, ClientError> {
        if self.over {
            return Ok(None);
        }
        let message = match self.limit {
            None => self.messages.next().await,
            Some((after, at)) => match tokio::time::timeout_at(at, self.messages.next()).await {
                Ok(message) => message,
                Err(_) => {
                    self.over = true;
                    let what = "the query".to_owned();
                    return Err(ClientError::Timeout { what, after });
                }
            },
        };
        match message {
            Ok(Message::Schema(schema)) => Ok(Some(Part::Schema(schema))),
            Ok(Message::Rows(batch)) => Ok(Some(Part::Rows(batch))),
            Ok(Message::Talk(Talk::Progress(progress))) => Ok(Some(Part::Progress(progress))),
            Ok(Message::Talk(Talk::Done(done))) => {
                self.over = true;
                Ok(Some(Part::Done(done)))
            }
            Ok(Message::Talk(Talk::Failure(failure))) => {
                self.over = true;
                Err(ClientError::Query(failure))
            }
            Ok(Message::End) | Err(StreamError::Truncated(_)) => Err(self.cut_off().await),
            Err(StreamError::Io(e)) if e.kind() == io::ErrorKind::ConnectionReset => Err(self.cut_off().await),
            Err(e) => {
                self.over = true;
                Err(ClientError::Stream(e))
            }
        }
    }

    /// The stream ended before the engine had said that it was done: what the engine can still tell about itself.
    async fn cut_off(&mut self) -> ClientError {
        self.over = true;
        let Some(engine) = &mut self.engine else {
            return ClientError::CutOff { detail: None };
        };
        let ending = async { (engine.child.wait().await, (&mut engine.words).await) };
        let Ok((status, words)) = tokio::time::timeout(ENGINE_END, ending).await else {
            return ClientError::CutOff { detail: None };
        };
        if let Ok(signal @ (fatal::ABRT | fatal::BUS | fatal::SEGV)) = status.as_ref().map(|s| s.signal().unwrap_or(0))
        {
            return ClientError::EngineDied {
                store: engine.store.clone(),
                signal,
            };
        }
        let status = status.map(|s| format!("vwatch-query ended with {s}"));
        let mut detail = status.unwrap_or_else(|e| e.to_string());
        if let Some(words) = words.ok().filter(|w| !w.is_empty()) {
            detail.push_str(": ");
            detail.push_str(&words);
        }
        ClientError::CutOff { detail: Some(detail) }
    }
}
