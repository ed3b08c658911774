//! A plugin written by hand against the ABI, without the sdk: for the loader's tests, which need rows and manners that the
//! sdk would not let out.
//!
//! Its setup depends on [`MODE`], which the tests overwrite in a copy of the file. Its probe `rows` hands over what its
//! option `case` names. Its command `services` calls every service of the host and says what came of it.

mod cases;

use arrow_array::{ArrayRef, StringArray, StructArray};
use cases::{batch, case, commit, export, happenings, things};
use serde_json::{Value, json};
use std::sync::Arc;
use vwatch_abi::abi_stable::export_root_module;
use vwatch_abi::abi_stable::prefix_type::PrefixTypeTrait;
use vwatch_abi::abi_stable::sabi_trait::TD_Opaque;
use vwatch_abi::abi_stable::std_types::{ROption, RResult, RSlice, RStr, RString, RVec};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::v1::{self, batch_kind, fault};

/// The last four bytes say how the setup goes.
static MODE: [u8; 16] = *b"VWATCH-MODE=good";

#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static vwatch_plugin_abi_v1: v1::Mark = v1::Mark::THIS;

#[export_root_module]
fn module() -> v1::PluginModuleRef {
    v1::PluginModule { create }.leak_into_prefix()
}

fn mode() -> [u8; 4] {
    // SAFETY: a static of this type; volatile, since its bytes in the file may be others than those compiled.
    let mode = unsafe { std::ptr::read_volatile(&MODE) };
    [mode[12], mode[13], mode[14], mode[15]]
}

fn failed(code: u32, message: impl Into<RString>) -> v1::Fault {
    v1::Fault {
        code,
        message: message.into(),
        position: -1,
    }
}

extern "C" fn create(host: v1::HostBox) -> RResult<v1::PluginBox, v1::Fault> {
    match &mode() {
        b"flts" => return RResult::RErr(failed(fault::UNSUPPORTED, "this kernel\nhas no such thing")),
        b"abrt" => std::process::abort(),
        b"exit" => std::process::exit(7),
        b"quit" => std::process::exit(0),
        b"hang" => loop {
            std::thread::park();
        },
        b"segv" => {
            // SAFETY: not at all: this is how a broken plugin dies.
            unsafe { std::ptr::null_mut::<u32>().write_volatile(1) };
        }
        b"emit" => {
            let early = commit(vec![batch(0, batch_kind::FULL, export(&things()))]);
            if let RResult::RErr(fault) = host.emit(0, early) {
                return RResult::RErr(fault);
            }
        }
        b"talk" => println!("{{\"refused\":\"by the plugin's own words\",\"hint\":\"\",\"name\":null}}"),
        _ => {}
    }
    RResult::ROk(v1::PluginBox::from_value(Hand { host }, TD_Opaque))
}

struct Hand {
    host: v1::HostBox,
}

fn column(name: &str, kind: &str) -> Value {
    json!({"name": name, "type": kind})
}

impl v1::Plugin for Hand {
    fn manifest(&self) -> RVec<u8> {
        let environment: Value = serde_json::from_slice(&self.host.environment()).unwrap_or_default();
        let two_faced = &mode() == b"face" && environment["state_dir"] != "";
        let nullable = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true});
        let manifest = json!({
            "name": if two_faced { "other" } else { "hand" },
            "version": if &mode() == b"next" { "2.0.0" } else { "1.0.0" },
            "doc": "Written by hand.",
            "tables": [
                {"name": "thing", "kind": "state", "columns": [
                    {"name": "id", "type": "i32", "key": true}, column("name", "string"),
                    nullable("size_bytes", "i64"), column("flag", "bool")]},
                {"name": "happening", "kind": "event", "columns": [column("time", "timestamp"), nullable("blob", "bytes")]},
                {"name": "keyless", "kind": "state", "columns": [column("n", "i64")]},
            ],
            "probes": [{"name": "rows", "tables": ["thing", "happening", "keyless"], "every_ms": 1000,
                        "options": [{"name": "case", "type": "string", "required": true}]}],
            "subscribers": [{"name": "all", "tables": ["thing", "load"]}],
            "commands": [{"name": "services"}, {"name": "hand echo", "usage": "hand echo WORDS", "changes": true}],
        });
        match &mode() {
            b"json" => b"{\"name\": \"hand\",".to_vec().into(),
            b"name" => manifest
                .to_string()
                .replace("\"thing\"", "\"a thing\"")
                .into_bytes()
                .into(),
            _ => manifest.to_string().into_bytes().into(),
        }
    }

    fn open(&self, _: RStr<'_>, _: u64, options: RSlice<'_, u8>) -> RResult<v1::ProbeBox, v1::Fault> {
        let options: Value = serde_json::from_slice(&options).unwrap_or_default();
        let Some(case) = options["case"].as_str() else {
            return RResult::RErr(failed(fault::BAD_INPUT, "no case"));
        };
        RResult::ROk(v1::ProbeBox::from_value(Rows { case: case.to_owned() }, TD_Opaque))
    }

    /// Tells the host's log what came.
    fn receive(&self, subscriber: u32, rows: v1::Received<'_>) -> RResult<(), v1::Fault> {
        let words = format!(
            "received {subscriber} {} {} {} kind {} rows {} of {} gone {}",
            rows.table,
            rows.instance,
            rows.time_ns,
            rows.kind,
            rows.rows.length,
            rows.rows.n_children,
            rows.gone.length
        );
        self.host.log(3, RStr::from_str(&words));
        RResult::ROk(())
    }

    fn command(&self, request: v1::CommandRequest<'_>) -> RResult<v1::CommandAnswer, v1::Fault> {
        if request.command.as_str() == "services" {
            return RResult::ROk(v1::CommandAnswer {
                columns: RVec::new(),
                rows: ArrowArray::released(),
                notes: services(&self.host).into_iter().map(RString::from).collect(),
                streaming: false,
            });
        }
        let words: Vec<String> = serde_json::from_slice(&request.words).unwrap_or_default();
        let who = format!("{} {} {} {}", request.uid, request.gid, request.pid, request.stream);
        if words.is_empty() {
            let mut fault = failed(fault::BAD_INPUT, "no words");
            fault.position = 4;
            return RResult::RErr(fault);
        }
        let rows = StructArray::from(vec![(
            Arc::new(arrow_schema::Field::new("word", arrow_schema::DataType::Utf8, false)),
            Arc::new(StringArray::from(words)) as ArrayRef,
        )]);
        RResult::ROk(v1::CommandAnswer {
            columns: json!([column("word", "string")]).to_string().into_bytes().into(),
            rows: export(&rows),
            notes: vec![RString::from(who)].into(),
            streaming: true,
        })
    }

    fn timer(&self, token: u64) -> RResult<(), v1::Fault> {
        self.host.log(4, RStr::from_str(&format!("timer {token}")));
        RResult::ROk(())
    }

    fn answered(&self, token: u64, answer: RResult<RVec<u8>, v1::Fault>) -> RResult<(), v1::Fault> {
        let words = match answer {
            RResult::ROk(bytes) => format!("answer {token}: {} bytes", bytes.len()),
            RResult::RErr(fault) => format!(
                "answer {token}: fault {} {} {}",
                fault.code, fault.message, fault.position
            ),
        };
        self.host.log(1, RStr::from_str(&words));
        RResult::ROk(())
    }

    fn reconfigured(&self, config: RSlice<'_, u8>) -> RResult<(), v1::Fault> {
        self.host.log(2, RStr::from_str(&String::from_utf8_lossy(&config)));
        RResult::ROk(())
    }

    fn stop(&self) -> RResult<(), v1::Fault> {
        RResult::RErr(failed(4711, "an unknown code"))
    }

    fn call(&self, _: RStr<'_>, _: RSlice<'_, u8>) -> RResult<RVec<u8>, v1::Fault> {
        RResult::RErr(failed(fault::NO_SUCH_OPERATION, ""))
    }
}

/// Calls every service once and writes down the answers.
fn services(host: &v1::HostBox) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fn said<T>(answer: RResult<T, v1::Fault>, show: impl FnOnce(T) -> String) -> String {
        match answer {
            RResult::ROk(value) => show(value),
            RResult::RErr(fault) => format!("fault {}: {}", fault.code, fault.message),
        }
    }
    let bytes = |value: RVec<u8>| text(&value);
    host.log(9, RStr::from_str("beyond trace"));
    let mut change = commit(vec![batch(1, batch_kind::EVENTS, export(&happenings()))]);
    change.state = vec![v1::StateChange {
        key: "k".into(),
        value: ROption::RNone,
    }]
    .into();
    change.outbox = vec![v1::OutboxEntry {
        id: "mail-1".into(),
        body: b"hello".to_vec().into(),
    }]
    .into();
    change.outbox_done = vec![RString::from("mail-0")].into();
    let spec =
        json!({"probe": "hand.rows", "name": "n", "for_ms": 5, "options": {"case": "good"}, "later": 1}).to_string();
    let query = json!({"sql": "SELECT 1", "at_ns": 3}).to_string();
    vec![
        format!("environment {}", text(&host.environment())),
        format!("config {}", text(&host.config())),
        format!("schema {}", said(host.schema(RStr::from_str("load")), bytes)),
        format!("no schema {}", said(host.schema(RStr::from_str("lod")), bytes)),
        format!("emit {}", said(host.emit(3, change), |()| "ok".into())),
        format!(
            "bad emit {}",
            said(host.emit(3, commit(vec![batch(9, 0, export(&things()))])), |()| "ok"
                .into())
        ),
        format!(
            "state {}",
            said(host.state(RStr::from_str("k")), |v| v
                .into_option()
                .map_or("none".into(), bytes))
        ),
        format!(
            "state_keys {}",
            said(host.state_keys(RStr::from_str("p")), |k| k.join(","))
        ),
        format!(
            "outbox {}",
            said(host.outbox(2), |o| o
                .iter()
                .map(|e| format!("{}={}", e.id, text(&e.body)))
                .collect())
        ),
        format!("timer {}", said(host.timer(5, 1_000), |()| "ok".into())),
        format!("cancel {}", said(host.timer(5, u64::MAX), |()| "ok".into())),
        format!(
            "start {}",
            said(host.instance_start(RSlice::from_slice(spec.as_bytes())), |n| n.into())
        ),
        format!(
            "bad start {}",
            said(host.instance_start(RSlice::from_slice(b"{")), |n| n.into())
        ),
        format!(
            "stop {}",
            said(host.instance_stop(RStr::from_str("n")), |()| "ok".into())
        ),
        format!(
            "send {}",
            said(host.stream_send(8, RSlice::from_slice(b"live")), |()| "ok".into())
        ),
        format!("close {}", said(host.stream_close(8), |()| "ok".into())),
        format!(
            "query {}",
            said(host.query(6, RSlice::from_slice(query.as_bytes())), |()| "ok".into())
        ),
        format!(
            "call {}",
            said(host.call(RStr::from_str("fly"), RSlice::from_slice(b"")), bytes)
        ),
    ]
}

struct Rows {
    case: String,
}

impl v1::Probe for Rows {
    fn run(&mut self, tick: v1::Tick) -> RResult<v1::Commit, v1::Fault> {
        RResult::ROk(case(&self.case, tick))
    }

    fn start(&mut self) -> RResult<(), v1::Fault> {
        RResult::RErr(failed(fault::UNSUPPORTED, "polled"))
    }

    fn stop(&mut self) -> RResult<v1::Commit, v1::Fault> {
        RResult::ROk(commit(vec![batch(1, batch_kind::EVENTS, export(&happenings()))]))
    }

    fn call(&mut self, _: RStr<'_>, _: RSlice<'_, u8>) -> RResult<RVec<u8>, v1::Fault> {
        RResult::RErr(failed(fault::NO_SUCH_OPERATION, ""))
    }
}
