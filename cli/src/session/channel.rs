//! The channels of a session: the first byte of each message (Kubernetes' `v4.channel.k8s.io`, `v5.channel.k8s.io`).

use std::ops::Range;

use serde::Deserialize;
use task::control::WindowSize;

use crate::output::Stream;

/// Input.
pub(crate) const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// The end of the input (v5).
pub(crate) const END_OF_STDIN: [u8; 2] = [CLOSE, STDIN];
/// The longest status.
const LONGEST_STATUS: usize = 64 * 1024;

/// The message with a terminal's size.
pub(crate) fn resize(WindowSize { rows, columns }: WindowSize) -> Vec<u8> {
    let mut message = vec![RESIZE];
    message.extend_from_slice(format!(r#"{{"Width":{columns},"Height":{rows}}}"#).as_bytes());
    message
}

/// Takes messages apart as they come.
#[derive(Debug, Default)]
pub(crate) struct Demultiplexer {
    channel: Option<u8>,
    status: Vec<u8>,
}

/// What a part of a message means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// These bytes are output.
    Output(Stream, Range<usize>),
    /// It has ended.
    Status(Outcome),
    /// Nothing, or not yet.
    Nothing,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this exit code.
    Code(u8),
    /// Without one, and why.
    Cut(String),
    /// It did not begin, and why.
    NotStarted(String),
    /// The server says nothing that makes sense.
    Nonsense(String),
}

impl Demultiplexer {
    /// A part of a message: where it lies in `bytes`, and whether the message begins and ends with it.
    pub(crate) fn take(&mut self, bytes: &[u8], range: Range<usize>, first: bool, last: bool) -> Meaning {
        if first {
            self.channel = None;
        }
        let range = match (self.channel, range.is_empty()) {
            (None, false) => {
                self.channel = Some(bytes[range.start]);
                range.start + 1..range.end
            }
            _ => range,
        };
        match self.channel {
            Some(STDOUT) if !range.is_empty() => Meaning::Output(Stream::Stdout, range),
            Some(STDERR) if !range.is_empty() => Meaning::Output(Stream::Stderr, range),
            Some(STATUS) => {
                self.status.extend_from_slice(&bytes[range]);
                if self.status.len() > LONGEST_STATUS {
                    return Meaning::Status(Outcome::Nonsense("a status that is too long".to_owned()));
                }
                if last { Meaning::Status(outcome(&self.status)) } else { Meaning::Nothing }
            }
            _ => Meaning::Nothing,
        }
    }
}

/// Kubernetes' metav1.Status, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    details: Option<Details>,
}

#[derive(Debug, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

fn outcome(bytes: &[u8]) -> Outcome {
    let status: Status = match serde_json::from_slice(bytes) {
        Ok(status) => status,
        Err(error) => return Outcome::Nonsense(format!("a status that cannot be read ({error})")),
    };
    if status.status == "Success" {
        return Outcome::Code(0);
    }
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let code =
        causes.iter().find(|cause| cause.reason == "ExitCode").map(|cause| cause.message.parse::<i64>());
    match code {
        // As wait(2) cuts it; a failure is never taken for a success.
        Some(Ok(code)) => {
            Outcome::Code(u8::try_from(code & 0xff).ok().filter(|&code| code != 0).unwrap_or(1))
        }
        Some(Err(_)) => Outcome::Nonsense("an exit code that is no number".to_owned()),
        None if status.message.is_empty() && status.reason.is_empty() => {
            Outcome::Nonsense("a status without a reason".to_owned())
        }
        None if status.message.is_empty() => {
            Outcome::Cut(format!("the session was ended: {}", status.reason))
        }
        None if NOT_STARTED.contains(&status.reason.as_str()) => Outcome::NotStarted(status.message),
        None => Outcome::Cut(status.message),
    }
}

/// The reasons of sessions that did not begin.
const NOT_STARTED: [&str; 6] =
    ["BadRequest", "Forbidden", "NotFound", "NotRunning", "StartError", "Unreachable"];

#[cfg(test)]
mod tests {
    use super::*;

    fn end(json: &str) -> Outcome {
        outcome(json.as_bytes())
    }

    #[test]
    fn exit_codes_come_from_the_cause_and_success_is_0() {
        assert_eq!(end(r#"{"status":"Success"}"#), Outcome::Code(0));
        let with = |code: &str| {
            end(&format!(
                r#"{{"status":"Failure","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
            ))
        };
        assert_eq!(
            (with("7"), with("143"), with("255")),
            (Outcome::Code(7), Outcome::Code(143), Outcome::Code(255))
        );
        assert_eq!((with("256"), with("-1")), (Outcome::Code(1), Outcome::Code(255)));
        assert!(matches!(with("x"), Outcome::Nonsense(_)));
    }

    #[test]
    fn a_session_that_was_cut_has_no_exit_code_but_a_reason() {
        assert_eq!(
            end(r#"{"status":"Failure","reason":"TaskEnded","message":"the task ended"}"#),
            Outcome::Cut("the task ended".into())
        );
        assert_eq!(
            end(r#"{"status":"Failure","reason":"StartError","message":"no such command"}"#),
            Outcome::NotStarted("no such command".into())
        );
        assert_eq!(
            end(r#"{"status":"Failure","reason":"Lost"}"#),
            Outcome::Cut("the session was ended: Lost".into())
        );
        assert!(matches!(end("{}"), Outcome::Nonsense(_)));
        assert!(matches!(end("nothing"), Outcome::Nonsense(_)));
    }

    #[test]
    fn messages_in_parts_keep_their_channel() {
        let mut channels = Demultiplexer::default();
        let bytes = b"\x01ab\x02c\x03{\"status\":\"Success\"}\x04zz";
        assert_eq!(channels.take(bytes, 0..0, true, false), Meaning::Nothing);
        assert_eq!(channels.take(bytes, 0..2, false, false), Meaning::Output(Stream::Stdout, 1..2));
        assert_eq!(channels.take(bytes, 2..3, false, true), Meaning::Output(Stream::Stdout, 2..3));
        assert_eq!(channels.take(bytes, 3..5, true, true), Meaning::Output(Stream::Stderr, 4..5));
        assert_eq!(channels.take(bytes, 26..29, true, true), Meaning::Nothing);
        assert_eq!(channels.take(bytes, 5..9, true, false), Meaning::Nothing);
        assert_eq!(channels.take(bytes, 9..26, false, true), Meaning::Status(Outcome::Code(0)));
    }

    #[test]
    fn an_endless_status_is_refused() {
        let mut channels = Demultiplexer::default();
        let bytes = vec![STATUS; LONGEST_STATUS + 2];
        assert!(matches!(
            channels.take(&bytes, 0..bytes.len(), true, false),
            Meaning::Status(Outcome::Nonsense(_))
        ));
    }

    #[test]
    fn a_size_is_told_as_kubernetes_does() {
        assert_eq!(resize(WindowSize { rows: 24, columns: 80 }), b"\x04{\"Width\":80,\"Height\":24}");
    }
}
