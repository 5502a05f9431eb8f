//! One check, once.
//!
//! ```text
//!  Probe + Surroundings -> http | grpc -> tls -> tcp  -> Outcome
//!                       -> command
//! ```
//!
//! A failure's message is for the task's owner to read: what was checked, then what happened. All of a check lives in
//! one future: dropped, its connection is closed, its command killed.

mod command;
mod describe;
mod grpc;
mod http;
mod tcp;
pub mod tls;

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::describe::Subject;
use self::tls::TlsCache;
use super::{Observed, Outcome, Surroundings};
use crate::spec::Probe;

/// How many bytes of an answer or of output are quoted in a message.
const QUOTED: usize = 10 * 1024;

/// The name that requests bear.
const USER_AGENT: &str = "kube-executor";

/// Does one check, which may take as long as `timeout`; running out of time is a failure. `tls` belongs to this probe:
/// what its last check made of the certificate files.
pub async fn check(
    probe: &Probe,
    surroundings: &Surroundings,
    timeout: Option<Duration>,
    tls: &mut TlsCache,
) -> Outcome {
    let done = match timeout {
        None => attempt(probe, surroundings, None, tls).await,
        Some(timeout) => {
            let deadline = Instant::now().checked_add(timeout);
            tokio::time::timeout(timeout, attempt(probe, surroundings, deadline, tls))
                .await
                .unwrap_or_else(|_| Err(Miss::failure(format!("timed out after {timeout:?}"))))
        }
    };
    match done {
        Ok(observed) => Outcome::Success(observed),
        Err(Miss::Failure { text, observed }) => {
            Outcome::Failure { message: format!("{}: {text}", Subject(probe)), observed }
        }
        Err(Miss::Unknown { text }) => Outcome::Unknown { message: format!("{}: {text}", Subject(probe)) },
    }
}

/// Why a check did not succeed; the text goes on after what was checked.
#[derive(Debug)]
enum Miss {
    Failure { text: String, observed: Observed },
    Unknown { text: String },
}

impl Miss {
    /// A failure at which nothing was seen.
    fn failure(text: impl Into<String>) -> Self {
        Self::Failure { text: text.into(), observed: Observed::Nothing }
    }
}

async fn attempt(
    probe: &Probe,
    surroundings: &Surroundings,
    deadline: Option<Instant>,
    tls: &mut TlsCache,
) -> Result<Observed, Miss> {
    match probe {
        Probe::Http(http) => http::check(http, &surroundings.sockets, deadline, tls).await,
        Probe::Tcp(address) => tcp::check(*address, &surroundings.sockets).await,
        Probe::Grpc(grpc) => grpc::check(grpc, &surroundings.sockets, tls).await,
        Probe::Command { command, environment } => {
            command::check(command, environment, surroundings.commands.as_ref()).await
        }
    }
}
