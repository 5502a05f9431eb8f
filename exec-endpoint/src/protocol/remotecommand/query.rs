//! What a request's query asks for. Pure.
//!
//! `command` (repeated), `stdin`, `stdout`, `stderr`, `tty` are Kubernetes' (`PodExecOptions`); `user`, `env` (repeated `NAME=value`), `cwd`, `rows`,
//! `cols`, `signal` and `session` are ours. Others are ignored.

use std::str::FromStr as _;

use nix::sys::signal::Signal;
use task::control::WindowSize;

use crate::protocol::query::{self, Query};

/// A query that makes no sense: one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It cannot be read at all.
    #[error(transparent)]
    Unreadable(#[from] query::QueryError),
    /// Neither true nor false.
    #[error("{name}={value:?} is no boolean: use true or false")]
    Boolean {
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
    },
    /// Nothing to run.
    #[error("there is no command: give at least one command=")]
    NoCommand,
    /// No stream at all.
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStream,
    /// A parameter that may stand once stands twice.
    #[error("{0} stands more than once: give it once")]
    Repeated(&'static str),
    /// A parameter without a value.
    #[error("{0} is empty: give it a value or leave it out")]
    Empty(&'static str),
    /// Not a variable.
    #[error("env={0:?} is no variable: write NAME=value")]
    Variable(String),
    /// Not a size.
    #[error("{name}={value:?} is no size: use a number from 1 to 65535")]
    Size {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Half a size.
    #[error("rows and cols belong together: give both or none")]
    HalfSize,
    /// A size of nothing.
    #[error("rows and cols are a terminal's: add tty=true or leave them out")]
    SizeWithoutTty,
    /// No signal.
    #[error("there is no signal: give signal=TERM or signal=15")]
    NoSignal,
    /// Not a signal.
    #[error("signal={0:?} is no signal: use a name such as SIGTERM or a number from 1 to 64")]
    Signal(String),
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// It sends input.
    pub stdin: bool,
    /// It wants the output.
    pub stdout: bool,
    /// It wants the error output, and there is no terminal.
    pub stderr: bool,
    /// It wants a terminal.
    pub tty: bool,
}

/// What an exec asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecQuery {
    /// The streams.
    pub streams: Streams,
    /// The argv, never empty.
    pub command: Vec<String>,
    /// Another user.
    pub user: Option<String>,
    /// Variables.
    pub environment: Vec<(String, String)>,
    /// The folder.
    pub folder: Option<String>,
    /// The terminal's first size, if told here.
    pub size: Option<WindowSize>,
}

/// What a signal request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalQuery {
    /// Its number.
    pub signal: i32,
    /// A session's process instead of the task's.
    pub session: Option<String>,
}

/// Reads the query of an exec.
///
/// # Errors
/// [`QueryError`]: the sentence for the client.
pub fn exec(query: &str) -> Result<ExecQuery, QueryError> {
    let pairs = Query::parse(query)?;
    let streams = streams(&pairs)?;
    let command: Vec<String> = pairs.all("command").map(str::to_owned).collect();
    if command.first().is_none_or(String::is_empty) {
        return Err(QueryError::NoCommand);
    }
    let environment = pairs.all("env").map(variable).collect::<Result<_, _>>()?;
    let size = match (size(&pairs, "rows")?, size(&pairs, "cols")?) {
        (Some(rows), Some(columns)) => Some(WindowSize { rows, columns }),
        (None, None) => None,
        _ => return Err(QueryError::HalfSize),
    };
    if size.is_some() && !streams.tty {
        return Err(QueryError::SizeWithoutTty);
    }
    let (user, folder) = (text(&pairs, "user")?, text(&pairs, "cwd")?);
    Ok(ExecQuery { streams, command, user, environment, folder, size })
}

/// Reads the query of an attach.
///
/// # Errors
/// [`QueryError`]: the sentence for the client.
pub fn attach(query: &str) -> Result<Streams, QueryError> {
    streams(&Query::parse(query)?)
}

/// Reads the query of a signal.
///
/// # Errors
/// [`QueryError`]: the sentence for the client.
pub fn signal(query: &str) -> Result<SignalQuery, QueryError> {
    let pairs = Query::parse(query)?;
    let name = text(&pairs, "signal")?.ok_or(QueryError::NoSignal)?;
    let number = name.parse::<i32>().ok().filter(|number| (1..=64).contains(number));
    let named = || {
        let upper = name.to_ascii_uppercase();
        let whole = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        Signal::from_str(&whole).ok().map(|signal| signal as i32)
    };
    let signal = number.or_else(named).ok_or_else(|| QueryError::Signal(name.clone()))?;
    Ok(SignalQuery { signal, session: text(&pairs, "session")? })
}

fn once<'a>(pairs: &'a Query, name: &'static str) -> Result<Option<&'a str>, QueryError> {
    let mut values = pairs.all(name);
    let first = values.next();
    if values.next().is_some() { Err(QueryError::Repeated(name)) } else { Ok(first) }
}

fn text(pairs: &Query, name: &'static str) -> Result<Option<String>, QueryError> {
    match once(pairs, name)? {
        Some("") => Err(QueryError::Empty(name)),
        value => Ok(value.map(str::to_owned)),
    }
}

/// As the kubelet reads them: what is not there is false, and a terminal has no error output of its own.
fn streams(pairs: &Query) -> Result<Streams, QueryError> {
    let flag = |name| match once(pairs, name)? {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(value) => Err(QueryError::Boolean { name: String::from(name), value: value.to_owned() }),
    };
    let (stdin, stdout, stderr, tty) = (flag("stdin")?, flag("stdout")?, flag("stderr")?, flag("tty")?);
    if !(stdin || stdout || stderr) {
        return Err(QueryError::NoStream);
    }
    Ok(Streams { stdin, stdout, stderr: stderr && !tty, tty })
}

fn variable(text: &str) -> Result<(String, String), QueryError> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    // The value may be a secret: only a text without any value is told back.
    let (name, value) = pair.ok_or_else(|| {
        QueryError::Variable(if text.contains('=') { "=...".to_owned() } else { text.to_owned() })
    })?;
    Ok((name.to_owned(), value.to_owned()))
}

fn size(pairs: &Query, name: &'static str) -> Result<Option<u16>, QueryError> {
    let Some(value) = once(pairs, name)? else { return Ok(None) };
    let size = value.parse().ok().filter(|&size: &u16| size > 0);
    size.map(Some).ok_or_else(|| QueryError::Size { name, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    #[test]
    fn what_kubectl_sends_is_read() {
        let query =
            "command=sh&command=-c&command=echo+%22a+b%22&container=peer&stderr=true&stdin=true&stdout=true";
        let read = exec(query).unwrap();
        assert_eq!(read.command, ["sh", "-c", "echo \"a b\""]);
        assert_eq!(read.streams, Streams { stdin: true, stdout: true, stderr: true, tty: false });
        assert_eq!((read.user, read.environment.len(), read.size), (None, 0, None));
    }

    #[test]
    fn what_stock_clients_lack_is_read() {
        let query = "command=ls&stdout=1&tty=true&stderr=true&user=nobody&env=A=b%3Dc&env=B=&cwd=%2Ftmp&rows=24&cols=80&x=y";
        let read = exec(query).unwrap();
        assert_eq!(read.environment, [("A".into(), "b=c".into()), ("B".into(), String::new())]);
        assert_eq!((read.user.as_deref(), read.folder.as_deref()), (Some("nobody"), Some("/tmp")));
        assert_eq!(read.size, Some(WindowSize { rows: 24, columns: 80 }));
        assert!(!read.streams.stderr, "a terminal has one output");
    }

    #[test]
    fn every_wrong_value_is_told_with_what_to_do() {
        let wrong = [
            ("stdout=true", "there is no command"),
            ("stdout=true&command=", "there is no command"),
            ("command=a", "at least 1 of stdin"),
            ("command=a&stdout=yes", "no boolean"),
            ("command=a&stdout=true&stdout=false", "more than once"),
            ("command=%f0%28&stdout=true", "not UTF-8"),
            ("command=%0&stdout=true", "percent sign"),
            ("command=%00&stdout=true", "NUL"),
            ("command=a&stdout=true&user=", "user is empty"),
            ("command=a&stdout=true&env=A", "NAME=value"),
            ("command=a&stdout=true&env==secret", "NAME=value"),
            ("command=a&stdout=true&tty=true&rows=1", "belong together"),
            ("command=a&stdout=true&tty=true&rows=0&cols=1", "1 to 65535"),
            ("command=a&stdout=true&tty=true&rows=1&cols=65536", "1 to 65535"),
            ("command=a&stdout=true&rows=1&cols=1", "tty=true"),
        ];
        for (query, sentence) in wrong {
            let told = exec(query).unwrap_err().to_string();
            assert!(told.contains(sentence) && !told.contains("secret"), "{query}: {told}");
        }
    }

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        for query in ["signal=SIGTERM", "signal=term", "signal=15"] {
            assert_eq!(signal(query), Ok(SignalQuery { signal: 15, session: None }));
        }
        assert_eq!(signal("signal=34&session=x").unwrap().session.as_deref(), Some("x"));
        for query in ["", "signal=", "signal=0", "signal=65", "signal=-1", "signal=SIGFOO"] {
            assert!(signal(query).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in ".{0,200}") {
            let _ = (exec(&query), attach(&query), signal(&query));
        }

        #[test]
        fn any_argument_comes_through_the_encoding(argument in "[^\0]{1,50}") {
            let query = format!("stdout=true&command={}", utf8_percent_encode(&argument, NON_ALPHANUMERIC));
            prop_assert_eq!(exec(&query).unwrap().command, vec![argument]);
        }
    }
}
