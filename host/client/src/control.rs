//! Control client: HTTP/1.1 over the control socket, one connection per request.
//!
//! Answers are bounded ([`MAX_ANSWER`]) and every request has a deadline that covers connecting too; only what a command
//! goes on sending after its answer ([`LiveStream`]) has neither.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use vwatch_model::control::*;

use crate::connect;
use crate::error::ClientError;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;
/// Content type of a command's answer that goes on after its first line.
const STREAM_TYPE: &str = "application/vnd.vwatch.stream";

/// Asks the daemon about itself and tells it what to do.
#[derive(Debug, Clone)]
pub struct ControlClient {
    sockets: Vec<PathBuf>,
    timeout: Duration,
}

impl ControlClient {
    /// `sockets` are tried in their order.
    pub fn new(sockets: Vec<PathBuf>, timeout: Duration) -> Self {
        ControlClient { sockets, timeout }
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    pub async fn plugins(&self) -> Result<Vec<Plugin>, ClientError> {
        Ok(self.get::<PluginList>("/v1/plugins").await?.plugins)
    }

    /// Loads the plugin in `file`, an absolute path.
    pub async fn load_plugin(&self, file: &str) -> Result<Vec<Plugin>, ClientError> {
        self.plugin("load", file).await
    }

    /// Unloads a plugin by name or file.
    pub async fn unload_plugin(&self, plugin: &str) -> Result<Vec<Plugin>, ClientError> {
        self.plugin("unload", plugin).await
    }

    /// Loads a plugin anew by name or file.
    pub async fn reload_plugin(&self, plugin: &str) -> Result<Vec<Plugin>, ClientError> {
        self.plugin("reload", plugin).await
    }

    pub async fn instances(&self) -> Result<Vec<Instance>, ClientError> {
        Ok(self.get::<InstanceList>("/v1/probes").await?.instances)
    }

    pub async fn instance(&self, name: &str) -> Result<Instance, ClientError> {
        self.get(&format!("/v1/probes/{}", path_segment(name))).await
    }

    pub async fn available_probes(&self) -> Result<Vec<AvailableProbe>, ClientError> {
        Ok(self.get::<ProbeList>("/v1/probes/available").await?.probes)
    }

    pub async fn add_probe(&self, request: &AddProbe) -> Result<Instance, ClientError> {
        self.call(Method::POST, "/v1/probes", Some(request)).await
    }

    pub async fn remove_probe(&self, name: &str) -> Result<Instance, ClientError> {
        let path = format!("/v1/probes/{}", path_segment(name));
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// A command of a plugin, in words.
    pub async fn command(&self, words: &[String]) -> Result<CommandReply, ClientError> {
        let request = CommandRequest { words: words.to_vec() };
        self.within("POST /v1/commands", async {
            let (path, mut reply) = self.send(Method::POST, "/v1/commands", Some(&request)).await?;
            let protocol = |what: String| ClientError::Protocol {
                path: path.clone(),
                what,
            };
            let answered =
                |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|e| protocol(format!("a command: {e}")));
            if !reply.is_stream() {
                let answer = answered(&reply.whole(&path).await?)?;
                return Ok(CommandReply { answer, live: None });
            }
            let line = reply.line(&path).await?;
            Ok(CommandReply {
                answer: answered(&line)?,
                live: Some(LiveStream {
                    reply,
                    path: path.clone(),
                }),
            })
        })
        .await
    }

    async fn plugin(&self, action: &str, plugin: &str) -> Result<Vec<Plugin>, ClientError> {
        let request = PluginRequest {
            plugin: plugin.to_owned(),
        };
        let path = format!("/v1/plugins/{action}");
        let answer: PluginList = self.call(Method::POST, &path, Some(&request)).await?;
        Ok(answer.plugins)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.within(&format!("{method} {path}"), async {
            let (socket, mut reply) = self.send(method.clone(), path, body).await?;
            let bytes = reply.whole(&socket).await?;
            serde_json::from_slice(&bytes).map_err(|e| ClientError::Protocol {
                path: socket,
                what: format!("{path}: {e}"),
            })
        })
        .await
    }

    async fn within<T>(
        &self,
        what: &str,
        exchange: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout {
                what: what.to_owned(),
                after: self.timeout,
            }),
        }
    }

    /// Sends a request to the first daemon that answers; its reply if that is no error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(PathBuf, Reply), ClientError> {
        let (stream, socket) = connect::first(self.sockets.iter().cloned()).await?;
        let protocol = |what: String| ClientError::Protocol {
            path: socket.clone(),
            what,
        };
        let json = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| protocol(e.to_string()))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(json)))
            .map_err(|e| protocol(e.to_string()))?;
        let mut reply = Reply::to(stream, request, &socket).await?;
        let status = reply.response.status();
        if status.is_success() {
            return Ok((socket, reply));
        }
        let bytes = reply.whole(&socket).await?;
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(ClientError::Control(body)),
            Err(_) => Err(protocol(format!("{status}: {}", start_of(&bytes)))),
        }
    }
}

/// What a command answered, and what it goes on to send.
#[derive(Debug)]
pub struct CommandReply {
    pub answer: CommandAnswer,
    pub live: Option<LiveStream>,
}

/// Bytes that a plugin sends to whoever waits. Dropping it tells the plugin that nobody does any more.
#[derive(Debug)]
pub struct LiveStream {
    reply: Reply,
    path: PathBuf,
}

impl LiveStream {
    /// The next bytes; none when the plugin has closed the stream.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.reply.chunk(&self.path).await
    }
}

/// A response that is being read. The connection lives as long as this.
#[derive(Debug)]
struct Reply {
    response: Response<Incoming>,
    /// Read, but past the line that was asked for.
    ahead: Bytes,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Reply {
    async fn to(stream: UnixStream, request: Request<Full<Bytes>>, socket: &Path) -> Result<Reply, ClientError> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| broken(socket, e))?;
        let connection = tokio::spawn(connection);
        match sender.send_request(request).await {
            Ok(response) => Ok(Reply {
                response,
                ahead: Bytes::new(),
                connection,
            }),
            Err(e) => {
                connection.abort();
                Err(broken(socket, e))
            }
        }
    }

    fn is_stream(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes() == STREAM_TYPE.as_bytes())
    }

    async fn chunk(&mut self, socket: &Path) -> Result<Option<Bytes>, ClientError> {
        if !self.ahead.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ahead)));
        }
        while let Some(frame) = self.response.body_mut().frame().await {
            // Frames without data are trailers.
            if let Ok(bytes) = frame.map_err(|e| broken(socket, e))?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn whole(&mut self, socket: &Path) -> Result<Vec<u8>, ClientError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk(socket).await? {
            extend(&mut all, &bytes, socket)?;
        }
        Ok(all)
    }

    /// Up to the first line's end, which is not part of it.
    async fn line(&mut self, socket: &Path) -> Result<Vec<u8>, ClientError> {
        let mut line = Vec::new();
        while let Some(mut bytes) = self.chunk(socket).await? {
            if let Some(end) = bytes.iter().position(|b| *b == b'\n') {
                extend(&mut line, &bytes.split_to(end), socket)?;
                self.ahead = bytes.split_off(1);
                return Ok(line);
            }
            extend(&mut line, &bytes, socket)?;
        }
        Ok(line)
    }
}

fn extend(all: &mut Vec<u8>, bytes: &[u8], socket: &Path) -> Result<(), ClientError> {
    if all.len() + bytes.len() > MAX_ANSWER {
        return Err(ClientError::Protocol {
            path: socket.to_path_buf(),
            what: format!("an answer of more than {} MiB", MAX_ANSWER >> 20),
        });
    }
    all.extend_from_slice(bytes);
    Ok(())
}

fn broken(socket: &Path, error: hyper::Error) -> ClientError {
    let path = socket.to_path_buf();
    if error.is_parse() {
        let what = "what it sends is not HTTP".to_owned();
        return ClientError::Protocol { path, what };
    }
    ClientError::Connection {
        path,
        source: io::Error::other(error),
    }
}

/// Instance names are harmless in a path; what a person typed may not be.
fn path_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn start_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::path_segment;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(path_segment("trace:12@web"), "trace:12@web");
        assert_eq!(path_segment("a/../b?c d"), "a%2F..%2Fb%3Fc%20d");
    }
}
