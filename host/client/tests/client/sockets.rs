//! Both clients against sockets that answer wrongly, late or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use vwatch_client::{ClientError, ControlClient, QueryClient, Source};
use vwatch_model::query::{DONE, Request};

use crate::{batches, stream};

const PATIENCE: Duration = Duration::from_secs(20);

/// A socket in a directory of its own; each connection gets `answer` after its first line has been read.
fn server(name: &str, answer: impl Fn(&mut UnixStream) + Send + 'static) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(name)).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut line = String::new();
            BufReader::new(connection.try_clone().unwrap())
                .read_line(&mut line)
                .unwrap();
            answer(&mut connection);
        }
    });
    let control = dir.path().join("control.sock");
    (dir, control)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

fn status(answer: &'static [u8]) -> ClientError {
    let (_dir, socket) = server("control.sock", move |c| c.write_all(answer).unwrap());
    let client = ControlClient::new(vec![socket], PATIENCE);
    run(client.status()).expect_err("it was taken for an answer")
}

#[test]
fn an_error_body_is_decoded() {
    let body = r#"{"kind":"denied","message":"only root may","hint":"sudo"}"#;
    let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let error = status(answer.leak().as_bytes());
    assert!(
        matches!(&error, ClientError::Control(body) if body.kind == "denied"),
        "{error:?}"
    );
    assert_eq!(
        (error.to_string().as_str(), error.hint().as_deref()),
        ("only root may", Some("sudo"))
    );
}

#[test]
fn wrong_answers_are_named() {
    let said = |answer| status(answer).to_string();
    assert!(said(b"220 mail ready\r\n").contains("is not HTTP"));
    assert!(said(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").contains("missing field"));
    let half = said(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{");
    assert!(half.contains("broke"), "{half}");
    let page = said(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops");
    assert!(page.contains("502 Bad Gateway: oops"), "{page}");
    let nothing = said(b"");
    assert!(nothing.contains("broke"), "{nothing}");
}

#[test]
fn a_daemon_that_says_nothing_is_given_up() {
    let (_dir, socket) = server("control.sock", |c| drop(c.read(&mut [0])));
    // Holds its connection open: reads until the client goes.
    let client = ControlClient::new(vec![socket], Duration::from_millis(50));
    let error = run(client.instances()).expect_err("it was answered");
    assert_eq!(error.to_string(), "GET /v1/probes took longer than 50ms");
}

#[test]
fn all_the_paths_that_were_tried_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let left_behind = dir.path().join("control.sock");
    drop(UnixListener::bind(&left_behind).unwrap());
    let absent = PathBuf::from("/nonexistent/control.sock");
    let client = ControlClient::new(vec![absent.clone(), left_behind.clone()], PATIENCE);
    let error = run(client.status()).expect_err("nobody is there");
    let want = format!(
        "no vwatchd answers (/nonexistent/control.sock: there is no such socket; {}: nobody listens on it)",
        left_behind.display()
    );
    assert_eq!(error.to_string(), want);
    assert!(error.hint().unwrap().contains("left behind"));
    let absent = ControlClient::new(vec![absent], PATIENCE);
    assert!(
        run(absent.status())
            .expect_err("nobody is there")
            .hint()
            .unwrap()
            .contains("is vwatchd running?")
    );
}

#[test]
fn a_command_may_go_on_after_its_answer() {
    let (_dir, socket) = server("control.sock", |c| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.vwatch.stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        // The first line ends within a chunk, and the stream goes on in the same one.
        let first = "{\"columns\":[],\"rows\":[],\"notes\":[\"begun\"]}\none ";
        write!(c, "{head}{:x}\r\n{first}\r\n3\r\ntwo\r\n0\r\n\r\n", first.len()).unwrap();
    });
    let client = ControlClient::new(vec![socket], PATIENCE);
    let (notes, bytes) = run(async {
        let reply = client.command(&["follow".to_owned()]).await.unwrap();
        let mut live = reply.live.unwrap();
        let mut bytes = Vec::new();
        while let Some(more) = live.next().await.unwrap() {
            bytes.extend(more);
        }
        (reply.answer.notes, bytes)
    });
    assert_eq!((notes, bytes), (vec!["begun".to_owned()], b"one two".to_vec()));
}

fn ask(control: &Path, timeout: Option<Duration>) -> Result<usize, ClientError> {
    let client = QueryClient::new(Source::Sockets(vec![control.to_path_buf()]), timeout);
    let whole = run(client.ask_whole(&Request {
        sql: "SELECT 1".into(),
        ..Request::default()
    }))?;
    Ok(whole.batches.iter().map(|b| b.num_rows()).sum())
}

#[test]
fn an_answer_without_its_end_is_an_error() {
    let whole = stream::answer(&[batches::processes()], &[(DONE, r#"{"rows":3,"now_ns":1}"#)]);
    let bytes = whole.clone();
    let (_dir, control) = server("query.sock", move |c| c.write_all(&bytes).unwrap());
    assert_eq!(ask(&control, None).unwrap(), 3);
    // An end mark alone says nothing about the answer.
    for cut in [
        stream::answer(&[batches::processes()], &[]),
        stream::rows(&[batches::processes()]),
        Vec::new(),
    ] {
        let (_dir, control) = server("query.sock", move |c| c.write_all(&cut).unwrap());
        let error = ask(&control, None).expect_err("it was taken for whole");
        assert!(matches!(error, ClientError::CutOff { .. }), "{error}");
        assert!(error.to_string().starts_with("the answer was cut off"));
    }
}

#[test]
fn an_answer_that_does_not_come_is_given_up() {
    let (_dir, control) = server("query.sock", |c| {
        c.write_all(&stream::rows(&[batches::processes()])).unwrap();
        // The end of the client is the end of this connection.
        drop(c.read(&mut [0]));
    });
    let error = ask(&control, Some(Duration::from_millis(50))).expect_err("it was whole");
    assert_eq!(error.to_string(), "the query took longer than 50ms");
}

#[test]
fn a_store_is_read_by_the_engine_beside_the_client_only() {
    let dir = tempfile::tempdir().unwrap();
    let client = |file: PathBuf| {
        let engines = vwatch_client::engine_places(&dir.path().join("bin/vwatchctl"));
        let client = QueryClient::new(Source::Store { file, engines }, None);
        run(client.ask_whole(&Request::default()))
            .expect_err("there is no engine")
            .to_string()
    };
    assert!(client(dir.path().join("none.db")).contains("cannot read the store"));
    let store = dir.path().join("store.db");
    std::fs::write(&store, "").unwrap();
    let said = client(store);
    assert!(
        said.contains("bin/vwatch-query") && said.contains("libexec/vwatchd/vwatch-query"),
        "{said}"
    );
}
