//! Tasks as frameworks send them: the builders of all tests of this module.

mod any;
mod good;
mod wrong;

use mesos::common::Blob;
use serde_json::{Value, json};

use super::parse;
use crate::spec::TaskSpec;

/// A task with these members besides the least there must be.
fn info(members: Value) -> Value {
    let mut info = json!({
        "name": "peer", "task_id": {"value": "peer-1"}, "agent_id": {"value": "a"}, "command": {"value": "sleep 1"},
    });
    let Value::Object(members) = members else { panic!("{members} is no object") };
    info.as_object_mut().unwrap().extend(members);
    info
}

/// A task with these settings.
fn with(settings: &Value) -> Value {
    info(json!({"data": Blob(settings.to_string().into_bytes())}))
}

/// A task whose command is in its settings.
fn commanded(command: Value) -> Value {
    let mut info = with(&json!({ "command": command }));
    info.as_object_mut().unwrap().remove("command");
    info
}

fn check(members: Value) -> Value {
    let mut check = json!({"role": "liveness", "http": {"port": 80}});
    let Value::Object(members) = members else { panic!("{members} is no object") };
    check.as_object_mut().unwrap().extend(members);
    with(&json!({"checks": [{"role": "readiness", "tcp": {"port": 1}}, check]}))
}

fn http(members: Value) -> Value {
    let Value::Object(mut members) = members else { panic!("{members} is no object") };
    members.entry("port").or_insert(json!(80));
    check(json!({ "http": members }))
}

fn uri(members: Value) -> Value {
    info(json!({"command": {"value": "true", "uris": [members]}}))
}

fn artifact(members: Value) -> Value {
    let mut artifact = json!({"url": "http://h/x.tar.gz", "sha256": "0".repeat(64)});
    let Value::Object(members) = members else { panic!("{members} is no object") };
    artifact.as_object_mut().unwrap().extend(members);
    with(&json!({ "artifacts": [artifact] }))
}

fn scalar(name: &str, value: Value) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

fn good(info: &Value) -> TaskSpec {
    parse(&info.to_string()).unwrap_or_else(|error| panic!("{error} in {info}"))
}

fn health(members: Value) -> Value {
    let mut check = json!({"type": "HTTP", "http": {"port": 80}});
    let Value::Object(members) = members else { panic!("{members} is no object") };
    check.as_object_mut().unwrap().extend(members);
    info(json!({ "health_check": check }))
}
