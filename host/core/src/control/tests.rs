use super::answer::Asked;
use super::peer::Peer;
use super::{openapi, serve};
use crate::error::{RefusalKind, Refused};
use crate::testing::{Bench, stored};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};
use vwatch_model::control::*;
use vwatch_model::table::{Column, ColumnType};

/// One request over the socket: status and body.
async fn ask(socket: &Path, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let answer = sender
        .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let document = serde_json::from_slice(&bytes);
    (
        status,
        document.unwrap_or_else(|e| panic!("{method} {path}: {e}: {bytes:?}")),
    )
}

/// Serves a recorder's control socket to `client`.
fn with_service<F: Future<Output = ()>>(bench: &Bench, client: impl FnOnce(PathBuf) -> F) {
    let socket = bench.dir.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(&socket).unwrap();
        let service = tokio::spawn(serve(listener, bench.recorder.clone()));
        client(socket).await;
        service.abort();
    });
}

#[test]
fn every_documented_path_answers_and_every_error_has_a_body() {
    let bench = Bench::new();
    bench.load("a.so", "fake").unwrap();
    let bodies = |path: &str| match path {
        "/v1/probes" => json!({"probe": "fake.good", "settings": {"name": "x"}}),
        "/v1/commands" => json!({"words": ["fake", "say", "hello"]}),
        _ => json!({"plugin": "nobody"}),
    };
    with_service(&bench, |socket| async move {
        let (status, document) = ask(&socket, "GET", "/v1/openapi.json", None).await;
        assert_eq!((status, &document), (200, &openapi::openapi()));
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in ["get", "post", "delete"]
                .into_iter()
                .filter(|m| methods.get(m).is_some())
            {
                let body = (method == "post").then(|| bodies(path));
                let real = path.replace("{name}", "fake.good");
                let (status, answer) = ask(&socket, &method.to_uppercase(), &real, body).await;
                let expected = if path.starts_with("/v1/plugins/") { 404 } else { 200 };
                assert_eq!(status, expected, "{method} {path}: {answer}");
                if expected == 404 {
                    assert_eq!(answer["kind"], "not_found");
                }
            }
        }
        for (method, path, body, expected) in [
            ("GET", "/v2/nothing", None, 404),
            ("GET", "/v1/probes/nobody", None, 404),
            ("DELETE", "/v1/status", None, 405),
            ("POST", "/v1/probes", Some(json!({"probe": 3})), 400),
            ("POST", "/v1/probes", Some(json!("x".repeat(2 << 20))), 400),
            ("POST", "/v1/commands", Some(json!({"words": ["fake", "sya"]})), 404),
            ("GET", "/v1/probes/%ff", None, 400),
        ] {
            let (status, answer) = ask(&socket, method, path, body).await;
            assert_eq!(status, expected, "{method} {path}: {answer}");
            assert!(answer["kind"].is_string() && answer["message"].is_string(), "{answer}");
        }
    });
    bench.end();
}

#[test]
fn requests_do_what_they_say() {
    let bench = Bench::new();
    bench.load("a.so", "fake").unwrap();
    with_service(&bench, |socket| async move {
        let add = json!({"probe": "fake.good", "settings": {"name": "fast", "every": "20ms"}});
        let (status, answer) = ask(&socket, "POST", "/v1/probes", Some(add.clone())).await;
        assert_eq!((status, &answer["every_ms"]), (200, &json!(20)));
        let (status, answer) = ask(&socket, "POST", "/v1/probes", Some(add)).await;
        assert_eq!((status, &answer["kind"]), (409, &json!("conflict")));
        let (_, answer) = ask(&socket, "GET", "/v1/probes", None).await;
        assert_eq!(answer["instances"].as_array().unwrap().len(), 2);
        let (status, _) = ask(&socket, "DELETE", "/v1/probes/fast", None).await;
        assert_eq!(status, 200);
        let (status, _) = ask(&socket, "DELETE", "/v1/probes/fast", None).await;
        assert_eq!(status, 404);
        let say = json!({"words": ["fake", "say", "hello", "world"]});
        let (status, answer) = ask(&socket, "POST", "/v1/commands", Some(say)).await;
        assert_eq!((status, &answer["notes"]), (200, &json!(["hello", "world"])));
        let (_, status) = ask(&socket, "GET", "/v1/status", None).await;
        assert_eq!(status["pid"], json!(std::process::id()));
        assert_eq!(status["plugins_loaded"], json!(1));
    });
    let dir = bench.end();
    let events = stored(dir.path(), "control_event");
    let told: Vec<_> = events
        .iter()
        .map(|e| (e["action"].clone(), e["outcome"].clone()))
        .collect();
    let expect = [
        ("probe_add", "ok"),
        ("probe_add", "conflict"),
        ("probe_remove", "ok"),
        ("probe_remove", "not_found"),
    ];
    assert_eq!(told, expect.map(|(action, outcome)| (json!(action), json!(outcome))));
    assert!(
        events.iter().all(|e| e["pid"] == json!(std::process::id() as i32)),
        "the client was this process"
    );
}

#[test]
fn others_may_look_but_not_change() {
    let bench = Bench::new();
    let peer = Peer {
        uid: 4242,
        gid: 4242,
        pid: 1,
    };
    assert!(!peer.may_change());
    assert!(Peer { uid: 0, ..peer }.may_change() && Peer::own().may_change());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let asked = Asked {
        peer,
        action: "probe_remove",
        target: Some("x".into()),
        detail: None,
    };
    let recorder = bench.recorder.clone();
    let change = asked.change(recorder, |_| -> Result<(), Refused> { panic!("it is not carried out") });
    let refused = runtime.block_on(change).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Denied);
    let dir = bench.end();
    let events = stored(dir.path(), "control_event");
    assert_eq!(
        (&events[0]["uid"], &events[0]["outcome"]),
        (&json!(4242), &json!("denied"))
    );
}

/// The schemas' fields are those that the documents have.
#[test]
fn schemas_are_the_documents() {
    let bench = Bench::new();
    bench.load("a.so", "fake").unwrap();
    let check = |name: &str, document: Value| {
        let openapi = openapi::openapi();
        let schema = &openapi["components"]["schemas"][name];
        let documented: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let sent: BTreeSet<_> = document.as_object().unwrap().keys().cloned().collect();
        assert_eq!(documented, sent, "{name}");
    };
    let json = |value: Result<Value, serde_json::Error>| value.unwrap();
    let status = bench.recorder.status();
    check("StoreStatus", json(serde_json::to_value(&status.store)));
    check("Status", json(serde_json::to_value(status)));
    let plugin = bench.recorder.plugins.list().remove(0);
    check("Plugin", json(serde_json::to_value(&plugin)));
    let plugins = vec![plugin];
    check("PluginList", json(serde_json::to_value(PluginList { plugins })));
    let instances = bench.recorder.scheduler.instances();
    check("Instance", json(serde_json::to_value(&instances[0])));
    check("InstanceList", json(serde_json::to_value(InstanceList { instances })));
    let probes = bench.recorder.available();
    check("ProbeOption", json(serde_json::to_value(&probes[0].options[0])));
    check("AvailableProbe", json(serde_json::to_value(&probes[0])));
    check("ProbeList", json(serde_json::to_value(ProbeList { probes })));
    check("PluginRequest", json!({"plugin": ""}));
    let add = AddProbe {
        probe: String::new(),
        settings: Default::default(),
    };
    check("AddProbe", json(serde_json::to_value(add)));
    check(
        "CommandRequest",
        json(serde_json::to_value(CommandRequest { words: vec![] })),
    );
    let column = Column::new("a", ColumnType::I64, "").unit("ns");
    check("Column", json(serde_json::to_value(&column)));
    let answer = CommandAnswer {
        columns: vec![column],
        rows: vec![],
        notes: vec![],
    };
    check("CommandAnswer", json(serde_json::to_value(answer)));
    let error = ErrorBody {
        kind: String::new(),
        message: String::new(),
        hint: Some(String::new()),
        position: Some(0),
    };
    check("ErrorBody", json(serde_json::to_value(error)));
    bench.end();
}
