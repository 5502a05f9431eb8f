//! What was asked, by whom, with what verdict; and how it ended. One JSON line each.
//!
//! ```text
//!  Gate::ask -> Opened --line "open"--> file | stdout | syslog     cannot be written: nothing is granted
//!  Granted::close, Drop -> Closed --line "close"-->
//! ```
//! Control characters are escaped: a line is a line, also on a terminal. Of variables there are names only; tokens and what a session reads
//! never come here.

mod json;
mod sink;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::{Timestamp, Unit};
use serde::{Serialize, Serializer};
use uuid::Uuid;

pub use self::sink::AuditError;
use self::sink::{Importance, Sink};

/// Where syslogd and journald listen.
const SYSLOG: &str = "/dev/log";

/// Where audit lines go. As a flag: `none`, `-`, `syslog` (or `journald`), or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTo {
    /// Nowhere, which is said at the start.
    Nowhere,
    /// Standard output.
    Stdout,
    /// The end of this file, which may be renamed meanwhile: the next line is in a new one.
    File(PathBuf),
    /// The datagram socket of syslogd or journald (RFC 3164, authpriv).
    Syslog(PathBuf),
}

impl FromStr for AuditTo {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::Nowhere,
            "-" => Self::Stdout,
            "syslog" | "journald" => Self::Syslog(SYSLOG.into()),
            path => Self::File(path.into()),
        })
    }
}

/// Writes audit lines.
#[derive(Debug)]
pub struct Audit {
    sink: Option<Mutex<Sink>>,
    failures: AtomicU64,
}

impl Audit {
    /// Opens it.
    ///
    /// # Errors
    /// [`AuditError`]: it cannot be written to.
    pub fn open(to: &AuditTo) -> Result<Self, AuditError> {
        let sink = Sink::open(to)?.map(Mutex::new);
        if sink.is_none() {
            tracing::warn!("audit is off: nobody will know who did what");
        }
        Ok(Self { sink, failures: AtomicU64::new(0) })
    }

    /// Opens its file again (SIGHUP). If that fails, the next line says so and is not written: requests are denied until it can be.
    pub fn reopen(&self) {
        if let Some(sink) = &self.sink {
            sink.lock().unwrap_or_else(PoisonError::into_inner).reopen();
        }
    }

    /// How many lines could not be written. For metrics.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Writes that something is asked for.
    ///
    /// # Errors
    /// It could not be: nothing may be granted then.
    pub(crate) fn opened(&self, opened: &Opened<'_>) -> Result<(), AuditError> {
        let importance = match opened.verdict {
            Said::Allowed => Importance::Info,
            Said::Refused => Importance::Notice,
        };
        self.write(&Line { event: "open", time: now(), entry: opened }, importance)
    }

    /// Writes how it ended. There is nothing left to deny: a failure is logged and counted.
    pub(crate) fn closed(&self, closed: &Closed<'_>) {
        let line = Line { event: "close", time: now(), entry: closed };
        if let Err(error) = self.write(&line, Importance::Info) {
            tracing::error!(id = %closed.id, %error, "the end of a session is missing in the audit");
        }
    }

    fn write(&self, line: &impl Serialize, importance: Importance) -> Result<(), AuditError> {
        let Some(sink) = &self.sink else { return Ok(()) };
        let written = json::line(line)
            .map_err(AuditError::Json)
            .and_then(|line| sink.lock().unwrap_or_else(PoisonError::into_inner).write(&line, importance));
        if written.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    event: &'static str,
    time: String,
    #[serde(flatten)]
    entry: &'a T,
}

/// Something asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Opened<'a> {
    #[serde(serialize_with = "as_text")]
    pub(crate) id: Uuid,
    pub(crate) user: &'a str,
    pub(crate) groups: &'a [String],
    pub(crate) peer: SocketAddr,
    pub(crate) protocol: &'static str,
    pub(crate) verbs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) framework: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) command: &'a [String],
    pub(crate) verdict: Said,
    pub(crate) reason: &'a str,
}

/// What was said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Said {
    Allowed,
    Refused,
}

/// How it ended.
#[derive(Debug, Serialize)]
pub(crate) struct Closed<'a> {
    #[serde(serialize_with = "as_text")]
    pub(crate) id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<i32>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) duration_ms: u64,
    pub(crate) reason: &'a str,
}

/// RFC 3339, UTC, milliseconds.
fn now() -> String {
    let now = Timestamp::now();
    format!("{:.3}", now.round(Unit::Millisecond).unwrap_or(now))
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
