//! A call read from a body and checked, as an agent does it: pure.

use mesos::agent::{AttachInput, Call, CallType, GetContainers, LaunchSession};
use mesos::common::ContainerId;
use mesos::protobuf::{self, schema};
use serde_json::Value;

use super::answer::Refused;
use super::negotiate::Format;

/// The longest part of a container's id.
const LONGEST_ID: usize = 242;

/// A call with all that it needs.
#[derive(Debug, PartialEq)]
pub(super) enum Wanted {
    Health,
    Version,
    State,
    Tasks,
    Containers(GetContainers),
    Session(Box<LaunchSession>),
    Output(ContainerId),
    Input(Box<AttachInput>),
    Wait { container: ContainerId, call: CallType },
    Kill { container: ContainerId, signal: i32 },
    Remove(ContainerId),
}

/// Reads a call.
///
/// # Errors
/// A sentence; an agent answers 400 with it, or 500 in the midst of a stream.
pub(super) fn read(bytes: &[u8], format: Format) -> Result<Call, String> {
    let value: Value = match format {
        Format::Json => serde_json::from_slice(bytes)
            .map_err(|error| format!("Failed to parse body into JSON: {error}"))?,
        Format::Protobuf => protobuf::decode(&schema::CALL, bytes)
            .map_err(|_| "Failed to parse body into a protobuf object".to_owned())?,
    };
    if !value.is_object() {
        return Err("Expecting a JSON object".to_owned());
    }
    serde_json::from_value(value).map_err(|error| format!("Failed to convert JSON into a call: {error}"))
}

/// Its kind, and what it needs.
///
/// # Errors
/// 400 for what is missing or wrong, 501 for a call that is not served here.
pub(super) fn check(call: Call) -> Result<(CallType, Wanted), Refused> {
    let invalid = |text: String| Refused::bad(format!("Failed to validate agent::Call: {text}"));
    let kind = call.kind.as_ref().and_then(|kind| kind.known());
    let kind = kind.ok_or_else(|| invalid("Expecting 'type' to be present".to_owned()))?;
    let field = kind.as_str().to_lowercase();
    let absent = || invalid(format!("Expecting '{field}' to be present"));
    let known = |container: ContainerId| {
        let checked = check_id(&container);
        checked.map_err(|why| invalid(format!("'{field}.container_id' is invalid: {why}")))?;
        Ok::<_, Refused>(container)
    };
    let nested = |container: ContainerId| {
        let container = known(container)?;
        if container.parent.is_none() {
            return Err(invalid(format!("Expecting '{field}.container_id.parent' to be present")));
        }
        Ok(container)
    };
    let wanted = match kind {
        CallType::GetHealth => Wanted::Health,
        CallType::GetVersion => Wanted::Version,
        CallType::GetState => Wanted::State,
        CallType::GetTasks => Wanted::Tasks,
        CallType::GetContainers => Wanted::Containers(call.get_containers.unwrap_or_default()),
        CallType::LaunchNestedContainerSession => {
            let session = call.launch_nested_container_session.ok_or_else(absent)?;
            nested(session.container_id.clone())?;
            let linux = session.container.as_ref().and_then(|container| container.linux_info);
            if linux.and_then(|linux| linux.share_cgroups) == Some(false) {
                return Err(invalid(format!(
                    "'{field}.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for nested container sessions"
                )));
            }
            Wanted::Session(Box::new(session))
        }
        CallType::AttachContainerOutput => {
            Wanted::Output(known(call.attach_container_output.ok_or_else(absent)?.container_id)?)
        }
        CallType::AttachContainerInput => {
            let input = call.attach_container_input.ok_or_else(absent)?;
            input.container_id.clone().map(known).transpose()?;
            Wanted::Input(Box::new(input))
        }
        CallType::WaitContainer => {
            let container = known(call.wait_container.ok_or_else(absent)?.container_id)?;
            Wanted::Wait { container, call: kind }
        }
        CallType::WaitNestedContainer => {
            let container = nested(call.wait_nested_container.ok_or_else(absent)?.container_id)?;
            Wanted::Wait { container, call: kind }
        }
        CallType::KillContainer => {
            let kill = call.kill_container.ok_or_else(absent)?;
            Wanted::Kill { container: known(kill.container_id)?, signal: kill.signal.unwrap_or(9) }
        }
        CallType::KillNestedContainer => {
            let kill = call.kill_nested_container.ok_or_else(absent)?;
            Wanted::Kill { container: nested(kill.container_id)?, signal: kill.signal.unwrap_or(9) }
        }
        CallType::RemoveContainer => {
            Wanted::Remove(known(call.remove_container.ok_or_else(absent)?.container_id)?)
        }
        CallType::RemoveNestedContainer => {
            Wanted::Remove(nested(call.remove_nested_container.ok_or_else(absent)?.container_id)?)
        }
        _ => return Err(Refused::new(hyper::StatusCode::NOT_IMPLEMENTED, "501 Not Implemented.")),
    };
    Ok((kind, wanted))
}

fn check_id(container: &ContainerId) -> Result<(), String> {
    check_part(&container.value)?;
    match &container.parent {
        Some(parent) => check_id(parent).map_err(|why| format!("'ContainerID.parent' is invalid: {why}")),
        None => Ok(()),
    }
}

fn check_part(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".to_owned());
    }
    if id.len() > LONGEST_ID {
        return Err(format!("'ContainerID.value' '{id}' exceeds the maximum length ({LONGEST_ID})"));
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(format!("'{id}' contains invalid characters"));
    }
    if id.contains(['.', ' ']) {
        return Err(format!("'ContainerID.value' '{id}' contains invalid characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> Refused {
        check(read(json.as_bytes(), Format::Json).unwrap()).unwrap_err()
    }

    #[test]
    fn a_call_that_lacks_something_is_told_what_as_an_agent_tells_it() {
        for (json, text) in [
            ("{}", "Expecting 'type' to be present"),
            (r#"{"type":"NOPE"}"#, "Expecting 'type' to be present"),
            (r#"{"type":"WAIT_CONTAINER"}"#, "Expecting 'wait_container' to be present"),
            (
                r#"{"type":"KILL_NESTED_CONTAINER","kill_nested_container":{"container_id":{"value":"a"}}}"#,
                "Expecting 'kill_nested_container.container_id.parent' to be present",
            ),
            (
                r#"{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"a.b"}}}"#,
                "'kill_container.container_id' is invalid: 'ContainerID.value' 'a.b' contains invalid characters",
            ),
            (
                r#"{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"a/b"}}}"#,
                "'kill_container.container_id' is invalid: 'a/b' contains invalid characters",
            ),
            (
                r#"{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{
                    "container_id":{"value":"a","parent":{"value":"b"}},
                    "container":{"type":"MESOS","linux_info":{"share_cgroups":false}}}}"#,
                "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for nested container sessions",
            ),
        ] {
            assert_eq!(refused(json), Refused::bad(format!("Failed to validate agent::Call: {text}")));
        }
        for json in [r#"{"type":"UNKNOWN"}"#, r#"{"type":"PRUNE_IMAGES"}"#] {
            assert_eq!(refused(json).status().as_u16(), 501);
        }
    }

    #[test]
    fn a_parents_id_is_checked_too() {
        let id = ContainerId::new("..").nested("child");
        assert_eq!(check_id(&id), Err("'ContainerID.parent' is invalid: '..' is disallowed".to_owned()));
        assert!(check_id(&ContainerId::new("x".repeat(243))).is_err());
        assert!(check_id(&ContainerId::new("x".repeat(242)).nested("y")).is_ok());
    }

    #[test]
    fn what_is_no_call_is_no_call() {
        for text in
            ["", "{", "[]", "null", "{\"type\":3}", "{\"type\":\"WAIT_CONTAINER\",\"wait_container\":{}}"]
        {
            assert!(read(text.as_bytes(), Format::Json).is_err(), "{text}");
        }
        assert!(read(b"\xff\xff", Format::Protobuf).is_err());
        assert_eq!(read(b"", Format::Protobuf).unwrap(), Call::default());
    }
}
