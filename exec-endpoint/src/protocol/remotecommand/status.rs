//! How a session ended: the status frame, the close frame, and the audit's reason. Pure.
//!
//! The status is a `metav1.Status` (v4 and v5 of remotecommand): `Success`; `Failure` with `NonZeroExitCode` and the code as a cause; `Failure` with another
//! reason when the session was cut, and then no code, so that nobody takes it for one of the command's.

use std::time::Duration;

use serde_json::{Value, json};
use task::control::{End, EndReason, RefusalKind};

use super::frame::Violation;
use crate::control::ControlError;
use crate::session::process::Ended;

/// Why a session ended.
#[derive(Debug)]
pub enum Cause {
    /// What it was opened for ended.
    Ended(Ended),
    /// It did not start.
    NotStarted(ControlError),
    /// The client closed it.
    ClientClosed,
    /// The client's connection ended.
    ClientGone,
    /// The client speaks nonsense.
    Violation(Violation),
    /// The client does not read what it is sent.
    NotReading(Duration),
    /// The client does not answer.
    Dead(Duration),
    /// Neither input nor output for so long.
    Idle(Duration),
    /// It lasted so long.
    Age(Duration),
    /// The endpoint ends.
    Draining,
}

/// What a session was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A process of its own.
    Exec,
    /// A task's streams: the task's end is its proper end.
    Attach,
}

/// What the client and the audit are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The status frame; none if the client has closed.
    pub status: Option<Value>,
    /// The close frame's code.
    pub close: u16,
    /// For the close frame and the audit.
    pub reason: String,
    /// The exit code, where there is one.
    pub code: Option<i32>,
}

impl Cause {
    /// What the client and the audit are told.
    pub fn told(&self, kind: Kind) -> Told {
        let failed = |close, name: &str, reason: String| Told {
            status: Some(failure(name, &reason)),
            close,
            reason,
            code: None,
        };
        match self {
            Self::Ended(Ended::Exited(end)) => exited(*end),
            Self::Ended(Ended::Cut(reason)) => {
                let (name, reason) = match reason {
                    EndReason::TaskEnded => ("TaskEnded", "the task ended"),
                    EndReason::PodEnded => ("PodEnded", "the pod ended"),
                };
                let mut told = failed(1000, name, reason.to_owned());
                if kind == Kind::Attach {
                    told.status = Some(json!({"metadata": {}, "status": "Success", "message": reason}));
                }
                told
            }
            Self::Ended(Ended::Lost(error)) => {
                failed(1011, "Lost", format!("the executor went away, how it ended is not known: {error}"))
            }
            Self::NotStarted(error) => failed(1000, refusal(error), error.to_string()),
            Self::ClientClosed | Self::ClientGone => {
                let closed = matches!(self, Self::ClientClosed);
                let reason = if closed { "the client closed" } else { "the client went away" };
                Told { status: None, close: 1000, reason: reason.to_owned(), code: None }
            }
            Self::Violation(violation) => {
                failed(violation.close_code(), "ProtocolError", violation.to_string())
            }
            Self::NotReading(time) => {
                failed(1001, "NotReading", format!("the client did not read for {time:?}"))
            }
            Self::Dead(time) => failed(1001, "Dead", format!("dead: no answer to pings for {time:?}")),
            Self::Idle(time) => failed(1001, "Idle", format!("idle: no input or output for {time:?}")),
            Self::Age(time) => failed(1001, "TooOld", format!("a session may last {time:?} at most")),
            Self::Draining => failed(1001, "Draining", "the endpoint is stopping".to_owned()),
        }
    }
}

/// Kubernetes' reason for a request that failed at the executor.
pub fn refusal(error: &ControlError) -> &'static str {
    match error {
        ControlError::Refused(refusal) => match refusal.kind {
            RefusalKind::UnknownTask => "NotFound",
            RefusalKind::NotRunning => "NotRunning",
            RefusalKind::Forbidden => "Forbidden",
            RefusalKind::Invalid => "BadRequest",
            RefusalKind::Failed => "StartError",
        },
        _ => "Unreachable",
    }
}

fn exited(end: End) -> Told {
    let code = end.shell_code();
    let reason = match end {
        End::Code(code) => format!("exited with {code}"),
        End::Signal(signal) => format!("killed by signal {signal}"),
    };
    let status = if code == 0 {
        json!({"metadata": {}, "status": "Success"})
    } else {
        json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: {reason}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        })
    };
    Told { status: Some(status), close: 1000, reason, code: Some(code) }
}

fn failure(reason: &str, message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": reason, "message": message})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_exited_with_zero_is_a_success() {
        let all = [
            Cause::Ended(Ended::Exited(End::Code(0))),
            Cause::Ended(Ended::Exited(End::Code(7))),
            Cause::Ended(Ended::Exited(End::Signal(9))),
            Cause::Ended(Ended::Cut(EndReason::TaskEnded)),
            Cause::Ended(Ended::Cut(EndReason::PodEnded)),
            Cause::Ended(Ended::Lost(ControlError::Silent("x".into()))),
            Cause::NotStarted(ControlError::Silent("x".into())),
            Cause::Violation(Violation::Unmasked),
            Cause::NotReading(Duration::from_secs(30)),
            Cause::Dead(Duration::from_secs(45)),
            Cause::Idle(Duration::from_secs(1)),
            Cause::Age(Duration::from_secs(1)),
            Cause::Draining,
        ];
        for (index, cause) in all.iter().enumerate() {
            let told = cause.told(Kind::Exec);
            let status = told.status.unwrap();
            assert_eq!(status["status"] == "Success", index == 0, "{cause:?}");
            assert_eq!(status["reason"] == "NonZeroExitCode", (1..=2).contains(&index), "{cause:?}");
            assert_eq!(status["details"].is_null(), told.code.unwrap_or(0) == 0, "{cause:?}");
        }
        let killed = all[2].told(Kind::Exec);
        let causes = &killed.status.unwrap()["details"]["causes"];
        assert_eq!((killed.code, &causes[0]["message"]), (Some(137), &json!("137")));
    }

    #[test]
    fn the_two_clocks_are_told_apart() {
        let reason = |cause: Cause| cause.told(Kind::Exec).reason;
        assert_eq!(reason(Cause::Dead(Duration::from_secs(45))), "dead: no answer to pings for 45s");
        assert_eq!(reason(Cause::Idle(Duration::from_secs(60))), "idle: no input or output for 60s");
    }

    #[test]
    fn an_attachment_ends_well_with_its_task() {
        let told = Cause::Ended(Ended::Cut(EndReason::TaskEnded)).told(Kind::Attach);
        let status = told.status.unwrap();
        assert_eq!((&status["status"], &status["message"]), (&json!("Success"), &json!("the task ended")));
    }
}
