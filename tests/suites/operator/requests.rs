//! The bytes that are sent to both.

use mesos::common::Blob;
use mesos::recordio;
use serde_json::{Value, json};

pub(crate) const PATH: &str = "/slave(1)/api/v1";
pub(crate) const JSON_TYPE: &str = "application/json";
pub(crate) const PROTOBUF_TYPE: &str = "application/x-protobuf";
pub(crate) const RECORDIO: &str = "application/recordio";

type Headers = &'static [(&'static str, &'static str)];

pub(crate) const JSON: Headers = &[("Content-Type", JSON_TYPE), ("Accept", JSON_TYPE)];
pub(crate) const PROTOBUF: Headers = &[("Content-Type", PROTOBUF_TYPE), ("Accept", PROTOBUF_TYPE)];
pub(crate) const STREAM: Headers =
    &[("Content-Type", JSON_TYPE), ("Accept", RECORDIO), ("Message-Accept", JSON_TYPE)];
pub(crate) const INPUT: Headers =
    &[("Content-Type", RECORDIO), ("Message-Content-Type", JSON_TYPE), ("Accept", JSON_TYPE)];

/// Headers of a call that does not stream, right and wrong.
pub(crate) const HEADERS: &[Headers] = &[
    &[],
    &[("Accept", JSON_TYPE)],
    &[("Content-Type", "")],
    &[("Content-Type", "text/plain")],
    &[("Content-Type", "application/json; charset=utf-8")],
    &[("Content-Type", "APPLICATION/JSON")],
    &[("Content-Type", JSON_TYPE)],
    &[("Content-Type", JSON_TYPE), ("Accept", "")],
    &[("Content-Type", JSON_TYPE), ("Accept", "*/*")],
    &[("Content-Type", JSON_TYPE), ("Accept", "application/*")],
    &[("Content-Type", JSON_TYPE), ("Accept", "text/html")],
    &[("Content-Type", JSON_TYPE), ("Accept", "APPLICATION/JSON")],
    &[("Content-Type", JSON_TYPE), ("Accept", "application/json; charset=utf-8")],
    &[("Content-Type", JSON_TYPE), ("Accept", "application/json;q=0")],
    &[("Content-Type", JSON_TYPE), ("Accept", "application/json;q=0, application/x-protobuf")],
    &[("Content-Type", JSON_TYPE), ("Accept", "text/html, application/json;q=0.5")],
    &[("Content-Type", JSON_TYPE), ("Accept", PROTOBUF_TYPE)],
    &[("Content-Type", JSON_TYPE), ("Accept", "application/x-protobuf, application/json")],
    &[("Content-Type", JSON_TYPE), ("Accept", RECORDIO)],
    &[("Content-Type", JSON_TYPE), ("Accept", RECORDIO), ("Message-Accept", JSON_TYPE)],
    &[("Content-Type", JSON_TYPE), ("Accept", RECORDIO), ("Message-Accept", "text/x")],
    &[("Content-Type", JSON_TYPE), ("Accept", JSON_TYPE), ("Message-Accept", JSON_TYPE)],
    &[
        ("Content-Type", JSON_TYPE),
        ("Accept", "application/json, application/recordio"),
        ("Message-Accept", JSON_TYPE),
    ],
    &[("Content-Type", JSON_TYPE), ("Accept", JSON_TYPE), ("Message-Content-Type", JSON_TYPE)],
    &[("Content-Type", RECORDIO), ("Accept", JSON_TYPE)],
    &[("Content-Type", RECORDIO), ("Accept", JSON_TYPE), ("Message-Content-Type", "text/x")],
    &[("Content-Type", JSON_TYPE), ("Accept-Encoding", "gzip")],
];

/// Bodies that no parser takes.
pub(crate) const UNREADABLE: &[&str] = &[
    "",
    "{",
    r#"{"type":3}"#,
    r#"{"type":"WAIT_CONTAINER","wait_container":{}}"#,
    r#"{"type":"WAIT_CONTAINER","wait_container":{"container_id":"x"}}"#,
    r#"{"type":"WAIT_CONTAINER","wait_container":[]}"#,
];

/// Bodies that are JSON and no call.
pub(crate) const READABLE_BUT_WRONG: &[&str] = &[
    "[]",
    "null",
    "3",
    "{}",
    r#"{"type":"NOPE"}"#,
    r#"{"type":"UNKNOWN"}"#,
    r#"{"type":"WAIT_CONTAINER"}"#,
    r#"{"type":"WAIT_NESTED_CONTAINER"}"#,
    r#"{"type":"KILL_CONTAINER"}"#,
    r#"{"type":"KILL_NESTED_CONTAINER"}"#,
    r#"{"type":"REMOVE_CONTAINER"}"#,
    r#"{"type":"REMOVE_NESTED_CONTAINER"}"#,
    r#"{"type":"LAUNCH_NESTED_CONTAINER_SESSION"}"#,
    r#"{"type":"ATTACH_CONTAINER_OUTPUT"}"#,
    r#"{"type":"GET_HEALTH","unknown":{"a":1}}"#,
    r#"{"type":"GET_HEALTH","type":"GET_HEALTH"}"#,
];

pub(crate) fn of_container(kind: &str, container: &Value) -> String {
    json!({"type": kind, kind.to_lowercase(): {"container_id": container}}).to_string()
}

pub(crate) fn session(container: &Value, command: &Value) -> Value {
    json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": {"container_id": container, "command": command}})
}

pub(crate) fn echo(text: &str) -> Value {
    json!({"value": "echo", "arguments": ["echo", text], "shell": false})
}

fn record(input: &Value) -> Vec<u8> {
    let call = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": input});
    recordio::encode(call.to_string().as_bytes())
}

pub(crate) fn input_id(container: &Value) -> Vec<u8> {
    record(&json!({"type": "CONTAINER_ID", "container_id": container}))
}

pub(crate) fn input(process_io: &Value) -> Vec<u8> {
    record(&json!({"type": "PROCESS_IO", "process_io": process_io}))
}

pub(crate) fn stdin(bytes: &[u8]) -> Vec<u8> {
    input(&json!({"type": "DATA", "data": {"type": "STDIN", "data": Blob(bytes.to_vec())}}))
}

pub(crate) fn resize(rows: u32, columns: u32) -> Vec<u8> {
    let size = json!({"window_size": {"rows": rows, "columns": columns}});
    input(&json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": size}}))
}

/// Records that are wrong for a process without a terminal.
pub(crate) fn wrong_inputs() -> Vec<Vec<u8>> {
    let control = |control: Value| input(&json!({"type": "CONTROL", "control": control}));
    vec![
        input(&json!({"type": "DATA", "data": {"type": "STDOUT", "data": "aGk="}})),
        input(&json!({"type": "DATA", "data": {"type": "STDIN"}})),
        input(&json!({"type": "DATA"})),
        input(&json!({})),
        record(&json!({"type": "PROCESS_IO"})),
        resize(1, 2),
        control(json!({"type": "TTY_INFO", "tty_info": {}})),
        control(json!({"type": "TTY_INFO"})),
        control(json!({"type": "HEARTBEAT"})),
        control(json!({"type": "HEARTBEAT", "heartbeat": {}})),
        control(json!({})),
        input(&json!({"type": "CONTROL"})),
    ]
}
