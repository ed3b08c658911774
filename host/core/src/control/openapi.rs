//! The OpenAPI document of the control socket, served at `/v1/openapi.json`.
//!
//! Written by hand from `vwatch_model::control`: a test holds that each schema has exactly the fields that its document has when
//! serialized, and that every path answers.

use axum::Json;
use serde_json::{Map, Value, json};

pub async fn document() -> Json<Value> {
    Json(openapi())
}

pub fn openapi() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "vwatchd control",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Control of the recorder over its Unix socket. Whoever the socket lets connect may read; root and \
                the daemon's own user may change. Times are nanoseconds since the epoch.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "curl --unix-socket /run/vwatchd/control.sock http://localhost/v1/status"}],
        "paths": paths(),
        "components": {"schemas": schemas()},
    })
}

fn paths() -> Value {
    let name = json!([{"name": "name", "in": "path", "required": true, "schema": {"type": "string"},
        "description": "Name of the instance."}]);
    let mut probe = operation("get", "One instance", None, "Instance");
    merge(
        &mut probe,
        operation("delete", "Removes an instance; answers it as it was", None, "Instance"),
    );
    probe["parameters"] = name;
    let mut probes = operation("get", "All instances", None, "InstanceList");
    merge(
        &mut probes,
        operation("post", "Adds an instance", Some("AddProbe"), "Instance"),
    );
    let mut commands = operation("post", "A command of a plugin", Some("CommandRequest"), "CommandAnswer");
    commands["post"]["responses"]["200"]["content"][super::commands::STREAM_TYPE] = json!({
        "schema": {"type": "string", "format": "binary", "description":
            "A line with the CommandAnswer, then what the plugin sends until it closes the stream."}});
    json!({
        "/v1/status": operation("get", "How the recorder fares", None, "Status"),
        "/v1/plugins": operation("get", "All plugin files, refused ones too", None, "PluginList"),
        "/v1/plugins/load": operation("post", "Loads a file", Some("PluginRequest"), "PluginList"),
        "/v1/plugins/unload": operation("post", "Unloads a plugin until its file changes", Some("PluginRequest"), "PluginList"),
        "/v1/plugins/reload": operation("post", "Loads a plugin's file again", Some("PluginRequest"), "PluginList"),
        "/v1/probes": probes,
        "/v1/probes/available": operation("get", "All probes of the loaded plugins", None, "ProbeList"),
        "/v1/probes/{name}": probe,
        "/v1/commands": commands,
        "/v1/openapi.json": {"get": {
            "summary": "This document",
            "responses": {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}}},
        }},
    })
}

fn operation(method: &str, summary: &str, body: Option<&str>, answer: &str) -> Value {
    let json_of = |schema: &str| json!({"application/json": {"schema": reference(schema)}});
    let mut operation = json!({
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": json_of(answer)},
            "default": {"description": "What is wrong", "content": json_of("ErrorBody")},
        },
    });
    if let Some(body) = body {
        operation["requestBody"] = json!({"required": true, "content": json_of(body)});
    }
    json!({ method: operation })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// `name: type` pairs; `?` after a type: may be null or absent; `[T]`: an array; a capital letter: another schema.
fn object(doc: &str, fields: &[(&str, &str)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, kind) in fields {
        let (kind, optional) = match kind.strip_suffix('?') {
            Some(kind) => (kind, true),
            None => (*kind, false),
        };
        let mut schema = schema_of(kind);
        if optional {
            schema = json!({"oneOf": [schema, {"type": "null"}]});
        } else {
            required.push(*name);
        }
        properties.insert((*name).to_owned(), schema);
    }
    json!({"type": "object", "description": doc, "properties": properties, "required": required})
}

fn schema_of(kind: &str) -> Value {
    if let Some(item) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({"type": "array", "items": schema_of(item)});
    }
    match kind {
        "integer" => json!({"type": "integer", "format": "int64"}),
        "any" => json!({}),
        simple if simple.starts_with(|c: char| c.is_ascii_lowercase()) => json!({"type": simple}),
        schema => reference(schema),
    }
}

fn schemas() -> Value {
    json!({
        "Status": object("How the recorder fares.", &[
            ("version", "string"), ("pid", "integer"), ("uid", "integer"), ("started_ns", "integer"), ("store", "StoreStatus"),
            ("plugins_dir", "string"), ("config_file", "string?"), ("control_socket", "string"), ("query_socket", "string"),
            ("plugins_loaded", "integer"), ("plugins_refused", "integer"), ("instances", "integer"),
            ("instances_troubled", "integer"), ("cpu_ns", "integer"), ("rss_bytes", "integer"), ("notes", "[string]"),
        ]),
        "StoreStatus": object("The store; `paused` says why nothing is recorded.", &[
            ("path", "string"), ("file_bytes", "integer"), ("first_ns", "integer?"), ("last_ns", "integer?"),
            ("commits", "integer"), ("paused", "string?"),
        ]),
        "PluginList": object("Plugin files.", &[("plugins", "[Plugin]")]),
        "Plugin": object("A plugin file; state: loaded, refused, unloaded.", &[
            ("file", "string"), ("name", "string"), ("version", "string"), ("doc", "string"), ("state", "string"),
            ("reason", "string?"), ("hint", "string?"), ("probes", "[string]"), ("tables", "[string]"), ("since_ns", "integer"),
        ]),
        "PluginRequest": object("A file to load; a name or file to unload or reload.", &[("plugin", "string")]),
        "InstanceList": object("Instances.", &[("instances", "[Instance]")]),
        "Instance": object(
            "A running probe; state: running, starting, stopping, backoff, quarantined, unsupported, denied, refused, waiting.", &[
            ("name", "string"), ("probe", "string"), ("state", "string"), ("reason", "string?"), ("every_ms", "integer?"),
            ("until_ns", "integer?"), ("max_cpu", "number?"), ("options", "object"), ("tables", "[string]"), ("origin", "string"),
            ("runs", "integer"), ("failures", "integer"), ("missed", "integer"), ("rows", "integer"),
            ("cpu_us_per_run", "number?"), ("last_run_ns", "integer?"), ("last_rows", "integer?"),
        ]),
        "ProbeList": object("Probes of loaded plugins.", &[("probes", "[AvailableProbe]")]),
        "AvailableProbe": object("A probe that instances can be made of.", &[
            ("probe", "string"), ("doc", "string"), ("tables", "[string]"), ("mode", "string"), ("every_ms", "integer?"),
            ("default_on", "boolean"), ("options", "[ProbeOption]"),
        ]),
        "ProbeOption": object("An option of a probe.", &[
            ("name", "string"), ("type", "string"), ("doc", "string"), ("default", "any"), ("required", "boolean"),
        ]),
        "AddProbe": object(
            "An instance to add; the settings every, name, for and max_cpu are the recorder's, the others the probe's.",
            &[("probe", "string"), ("settings", "object?")]),
        "CommandRequest": object("A command, word by word.", &[("words", "[string]")]),
        "CommandAnswer": object("Rows in answer to a command.", &[
            ("columns", "[Column]"), ("rows", "[object]"), ("notes", "[string]"),
        ]),
        "Column": object("A column; unit only where it has one.", &[
            ("name", "string"), ("type", "string"), ("unit", "string?"), ("doc", "string"), ("key", "boolean"),
            ("nullable", "boolean"), ("counter", "boolean"),
        ]),
        "ErrorBody": object("kind: not_found, bad_input, denied, conflict, unsupported, failed.", &[
            ("kind", "string"), ("message", "string"), ("hint", "string?"), ("position", "integer?"),
        ]),
    })
}
