//! An object store on loopback that knows the few requests of S3 by which objects are written: PutObject, CreateMultipartUpload,
//! UploadPart, CompleteMultipartUpload and AbortMultipartUpload (Amazon S3 API reference), addressed in path style.
//!
//! It looks at who signs a request and not at the signature. An object is there once it is whole: uploads in several parts
//! that were not completed are kept apart.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Bytes of a body that are taken.
const MAX_BODY: usize = 64 << 20;
const KEY: &str = "KEYOFTHETEST";
const REGION: &str = "eu-test-1";

/// What becomes of the parts of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    Taken,
    /// Answered with 403.
    Refused,
    /// Never answered.
    Held,
}

#[derive(Debug, Default)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, Vec<u8>>,
}

#[derive(Debug)]
struct State {
    parts: Parts,
    ended: bool,
    held: usize,
    uploads_begun: usize,
    uploads: BTreeMap<String, Upload>,
    /// By `BUCKET/KEY`.
    objects: BTreeMap<String, Vec<u8>>,
    /// What was asked that a store of objects would not have done.
    complaints: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

pub struct S3 {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl S3 {
    pub fn start(parts: Parts) -> S3 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            parts,
            ended: false,
            held: 0,
            uploads_begun: 0,
            uploads: BTreeMap::new(),
            objects: BTreeMap::new(),
            complaints: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let of_server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_server.clone();
                if shared.state().ended {
                    return;
                }
                // A client may go whenever it likes.
                std::thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        S3 { address, shared }
    }

    /// Points a program at this store, as a user would.
    pub fn tell(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        for variable in [
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ENDPOINT",
        ] {
            command.env_remove(variable);
        }
        for proxy in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ] {
            command.env_remove(proxy);
        }
    }

    /// The whole objects, by `BUCKET/KEY`.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.state().objects.clone()
    }

    pub fn uploads_begun(&self) -> usize {
        self.shared.state().uploads_begun
    }

    /// Uploads that were neither completed nor given up.
    pub fn uploads_open(&self) -> usize {
        self.shared.state().uploads.len()
    }

    /// Requests that wait for their answer.
    pub fn held(&self) -> usize {
        self.shared.state().held
    }

    pub fn complaints(&self) -> Vec<String> {
        self.shared.state().complaints.clone()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

struct Asked {
    method: String,
    /// `BUCKET/KEY`, decoded.
    object: String,
    query: BTreeMap<String, String>,
    signed_by: String,
    body: Vec<u8>,
}

struct Reply {
    status: &'static str,
    etag: Option<String>,
    body: String,
}

fn reply(status: &'static str, body: impl Into<String>) -> Reply {
    Reply {
        status,
        etag: None,
        body: body.into(),
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut to = stream;
    while let Some(asked) = read(&mut from)? {
        let Reply { status, etag, body } = answer(shared, asked);
        let etag = etag.map(|tag| format!("ETag: \"{tag}\"\r\n")).unwrap_or_default();
        let length = body.len();
        write!(to, "HTTP/1.1 {status}\r\n{etag}Content-Length: {length}\r\n\r\n{body}")?;
    }
    Ok(())
}

fn read(from: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(bad("no request"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut asked = Asked {
        method: method.to_owned(),
        object: decoded(path.trim_start_matches('/')),
        query: pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect(),
        signed_by: String::new(),
        body: Vec::new(),
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        from.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| bad("a length is a number"))?,
            "authorization" => asked.signed_by = value.trim().to_owned(),
            _ => {}
        }
    }
    if length > MAX_BODY {
        return Err(bad("too large"));
    }
    asked.body.resize(length, 0);
    from.read_exact(&mut asked.body)?;
    Ok(Some(asked))
}

fn answer(shared: &Shared, asked: Asked) -> Reply {
    let mut state = shared.state();
    let wanted = format!("AWS4-HMAC-SHA256 Credential={KEY}/");
    if !asked.signed_by.starts_with(&wanted) || !asked.signed_by.contains(REGION) {
        state.complaints.push(format!("signed by {:?}", asked.signed_by));
        return reply("403 Forbidden", "");
    }
    let upload = asked.query.get("uploadId").cloned();
    let etag = format!("{}-{}", asked.object.len(), asked.body.len());
    match (asked.method.as_str(), upload) {
        ("PUT", None) => {
            state.objects.insert(asked.object, asked.body);
            Reply {
                etag: Some(etag),
                ..reply("200 OK", "")
            }
        }
        ("POST", None) if asked.query.contains_key("uploads") => {
            state.uploads_begun += 1;
            let id = format!("upload-{}", state.uploads_begun);
            let upload = Upload {
                key: asked.object,
                ..Upload::default()
            };
            state.uploads.insert(id.clone(), upload);
            let body = format!("<UploadId>{id}</UploadId>");
            reply(
                "200 OK",
                format!("<InitiateMultipartUploadResult>{body}</InitiateMultipartUploadResult>"),
            )
        }
        ("PUT", Some(id)) => {
            while state.parts == Parts::Held && !state.ended {
                state.held += 1;
                state = shared.changed.wait(state).unwrap();
                state.held -= 1;
            }
            if state.parts != Parts::Taken {
                return reply("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>");
            }
            let number = asked.query.get("partNumber").and_then(|n| n.parse().ok());
            let (Some(upload), Some(number)) = (state.uploads.get_mut(&id), number) else {
                return unknown(&mut state, &asked);
            };
            upload.parts.insert(number, asked.body);
            Reply {
                etag: Some(etag),
                ..reply("200 OK", "")
            }
        }
        ("POST", Some(id)) => complete(&mut state, &id, &asked),
        ("DELETE", Some(id)) => match state.uploads.remove(&id) {
            Some(_) => reply("204 No Content", ""),
            None => unknown(&mut state, &asked),
        },
        _ => unknown(&mut state, &asked),
    }
}

fn complete(state: &mut State, id: &str, asked: &Asked) -> Reply {
    let Some(upload) = state.uploads.remove(id) else {
        return unknown(state, asked);
    };
    let listed = String::from_utf8_lossy(&asked.body).matches("<PartNumber>").count();
    let last = upload.parts.last_key_value().map_or(0, |(number, _)| *number as usize);
    if listed != last || upload.parts.len() != last || upload.key != asked.object {
        let complaint = format!("{listed} parts listed, {} of {last} there", upload.parts.len());
        state.complaints.push(complaint);
        return reply("400 Bad Request", "<Error><Code>InvalidPart</Code></Error>");
    }
    let whole = upload.parts.into_values().flatten().collect();
    state.objects.insert(upload.key, whole);
    reply(
        "200 OK",
        "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>",
    )
}

fn unknown(state: &mut State, asked: &Asked) -> Reply {
    let complaint = format!("{} {} {:?}", asked.method, asked.object, asked.query);
    state.complaints.push(complaint);
    reply("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>")
}

/// `%3D` is `=`.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}
