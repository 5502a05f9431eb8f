//! What the agent tells an executor through its environment, checked once.
//!
//! Source: Mesos 1.11, `executorEnvironment` in `src/slave/slave.cpp` and `stout/duration.hpp`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderValue;
use mesos::common::{AgentId, ExecutorId, FrameworkId};

/// The variable whose value nobody else may see: the executor's token.
pub const TOKEN: &str = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN";

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// What is wrong with a variable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// It must be there.
    #[error("read environment: {variable} is not set; allowed: {allowed}")]
    Missing {
        /// Its name.
        variable: String,
        /// What its value may be.
        allowed: &'static str,
    },
    /// Its value cannot be used.
    #[error("read environment: {variable} is {value:?}; allowed: {allowed}")]
    Invalid {
        /// Its name.
        variable: String,
        /// Its value; a token's is not shown.
        value: String,
        /// What its value may be.
        allowed: &'static str,
    },
}

/// What the agent tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEnvironment {
    /// `MESOS_FRAMEWORK_ID`.
    pub framework_id: FrameworkId,
    /// `MESOS_EXECUTOR_ID`.
    pub executor_id: ExecutorId,
    /// `MESOS_SLAVE_ID`.
    pub agent_id: AgentId,
    /// The part of `MESOS_SLAVE_PID` before the `@`: `slave(1)`. The first part of every path.
    pub process_id: String,
    /// `MESOS_AGENT_ENDPOINT`.
    pub endpoint: SocketAddr,
    /// `MESOS_DOMAIN_SOCKET`.
    pub domain_socket: Option<PathBuf>,
    /// `MESOS_DIRECTORY`: the sandbox as the host sees it.
    pub directory: PathBuf,
    /// `MESOS_SANDBOX`: the sandbox as the executor sees it; `MESOS_DIRECTORY` when unset.
    pub sandbox: PathBuf,
    /// `MESOS_CHECKPOINT`.
    pub checkpoint: Checkpoint,
    /// `MESOS_RECOVERY_TIMEOUT`, or 15 minutes.
    pub recovery_timeout: Duration,
    /// `MESOS_SUBSCRIPTION_BACKOFF_MAX`, or 2 seconds.
    pub subscription_backoff_max: Duration,
    /// `MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD`, or 5 seconds.
    pub shutdown_grace_period: Duration,
    /// `MESOS_EXECUTOR_AUTHENTICATION_TOKEN`.
    pub token: Option<Token>,
    /// The TLS of the agent's endpoint; never that of its Unix socket.
    pub tls: Option<TlsEnvironment>,
}

/// Whether the framework's executors outlive a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// They do: a lost connection is made again.
    On,
    /// They do not: a lost connection is the end.
    Off,
}

/// A secret that shows itself nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

/// How the agent's endpoint is reached by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsEnvironment {
    /// The certificate and the key that the executor shows, PEM.
    pub identity: Option<IdentityFiles>,
    /// Whether the agent's certificate is checked. It is checked against the agent's IP address then, whatever
    /// `VERIFY_IPADD` says: there is no other name that the agent is known by.
    pub verify: Verify,
    /// PEM certificates of those who may sign the agent's.
    pub ca_file: Option<PathBuf>,
    /// A folder of such files.
    pub ca_dir: Option<PathBuf>,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Whether the agent's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It must be signed by a known authority and name the agent's IP address.
    Agent,
    /// It is taken as it is, as libprocess does unless told otherwise.
    Nothing,
}

const DURATION: &str = "a decimal number and one of ns, us, ms, secs, mins, hrs, days, weeks";
const BOOLEAN: &str = "1, 0, true or false";
const ABSOLUTE: &str = "an absolute path";

impl AgentEnvironment {
    /// Reads the variables that an agent sets. An empty optional variable counts as unset.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn parse(variables: &Variables) -> Result<Self, EnvironmentError> {
        let source = Source(variables);
        let directory =
            source.path("MESOS_DIRECTORY")?.ok_or_else(|| missing("MESOS_DIRECTORY", ABSOLUTE))?;
        let text = |variable: &'static str| source.required(variable, "an id").map(str::to_owned);
        Ok(Self {
            framework_id: FrameworkId::new(text("MESOS_FRAMEWORK_ID")?),
            executor_id: ExecutorId::new(text("MESOS_EXECUTOR_ID")?),
            agent_id: AgentId::new(text("MESOS_SLAVE_ID")?),
            process_id: process_id(source)?,
            endpoint: endpoint(source)?,
            domain_socket: source.path("MESOS_DOMAIN_SOCKET")?,
            sandbox: source.path("MESOS_SANDBOX")?.unwrap_or_else(|| directory.clone()),
            directory,
            checkpoint: match source.boolean("MESOS_CHECKPOINT")? {
                Some(true) => Checkpoint::On,
                Some(false) | None => Checkpoint::Off,
            },
            recovery_timeout: source.duration("MESOS_RECOVERY_TIMEOUT", Duration::from_secs(15 * 60))?,
            subscription_backoff_max: source
                .duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(2))?,
            shutdown_grace_period: source
                .duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration::from_secs(5))?,
            token: token(source)?,
            tls: tls(source)?,
        })
    }
}

#[derive(Clone, Copy)]
struct Source<'a>(&'a Variables);

impl<'a> Source<'a> {
    fn optional(self, variable: &str) -> Option<&'a str> {
        self.0.get(variable).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn required(self, variable: &str, allowed: &'static str) -> Result<&'a str, EnvironmentError> {
        self.optional(variable).ok_or_else(|| missing(variable, allowed))
    }

    fn path(self, variable: &str) -> Result<Option<PathBuf>, EnvironmentError> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        let path = PathBuf::from(value);
        if path.is_absolute() { Ok(Some(path)) } else { Err(invalid(variable, value, ABSOLUTE)) }
    }

    fn boolean(self, variable: &str) -> Result<Option<bool>, EnvironmentError> {
        match self.optional(variable) {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(value) => Err(invalid(variable, value, BOOLEAN)),
        }
    }

    fn duration(self, variable: &str, default: Duration) -> Result<Duration, EnvironmentError> {
        let Some(value) = self.optional(variable) else {
            return Ok(default);
        };
        parse_duration(value).ok_or_else(|| invalid(variable, value, DURATION))
    }
}

fn missing(variable: &str, allowed: &'static str) -> EnvironmentError {
    EnvironmentError::Missing { variable: variable.to_owned(), allowed }
}

fn invalid(variable: &str, value: &str, allowed: &'static str) -> EnvironmentError {
    EnvironmentError::Invalid { variable: variable.to_owned(), value: value.to_owned(), allowed }
}

fn process_id(source: Source<'_>) -> Result<String, EnvironmentError> {
    const VARIABLE: &str = "MESOS_SLAVE_PID";
    const ALLOWED: &str =
        "an id of letters, digits, ( ) - _ and ., then @ and an address, as in slave(1)@127.0.0.1:5051";
    let value = source.required(VARIABLE, ALLOWED)?;
    let in_a_path = |byte: u8| byte.is_ascii_alphanumeric() || b"()-_.".contains(&byte);
    match value.split_once('@') {
        Some((id, _)) if !id.is_empty() && id.bytes().all(in_a_path) => Ok(id.to_owned()),
        _ => Err(invalid(VARIABLE, value, ALLOWED)),
    }
}

fn endpoint(source: Source<'_>) -> Result<SocketAddr, EnvironmentError> {
    const VARIABLE: &str = "MESOS_AGENT_ENDPOINT";
    const ALLOWED: &str = "an IP address and a port, as in 127.0.0.1:5051";
    let value = source.required(VARIABLE, ALLOWED)?;
    value.parse().map_err(|_| invalid(VARIABLE, value, ALLOWED))
}

fn token(source: Source<'_>) -> Result<Option<Token>, EnvironmentError> {
    let Some(value) = source.optional(TOKEN) else {
        return Ok(None);
    };
    let wrong = || invalid(TOKEN, "(not shown)", "printable characters");
    Token::new(value).map(Some).ok_or_else(wrong)
}

impl Token {
    /// A token; `None` when it has characters that a header cannot hold.
    pub fn new(value: &str) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {value}")).ok()?;
        header.set_sensitive(true);
        Some(Self(header))
    }

    /// The value of the `Authorization` header.
    pub(crate) fn authorization(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(...)")
    }
}

fn tls(source: Source<'_>) -> Result<Option<TlsEnvironment>, EnvironmentError> {
    // SSL_CERT_FILE and others of the old names mean other things to other programs, so all of one prefix or none.
    let prefix = if source.boolean("LIBPROCESS_SSL_ENABLED")?.is_some() { "LIBPROCESS_SSL_" } else { "SSL_" };
    let name = |end: &str| format!("{prefix}{end}");
    if source.boolean(&name("ENABLED"))? != Some(true) {
        return Ok(None);
    }
    let identity = match (source.path(&name("CERT_FILE"))?, source.path(&name("KEY_FILE"))?) {
        (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return Err(missing(&name("KEY_FILE"), "the path of the key of CERT_FILE")),
        (None, Some(_)) => {
            return Err(missing(&name("CERT_FILE"), "the path of the certificate of KEY_FILE"));
        }
    };
    source.boolean(&name("VERIFY_IPADD"))?;
    let verify = match source.boolean(&name("VERIFY_SERVER_CERT"))? {
        Some(verify) => verify,
        None => source.boolean(&name("VERIFY_CERT"))?.unwrap_or(false),
    };
    Ok(Some(TlsEnvironment {
        identity,
        verify: if verify { Verify::Agent } else { Verify::Nothing },
        ca_file: source.path(&name("CA_FILE"))?,
        ca_dir: source.path(&name("CA_DIR"))?,
    }))
}

/// Reads a duration as Mesos writes it: `1.5hrs`. At most 2^63 - 1 nanoseconds, as there.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "ns" => Duration::from_nanos(1),
        "us" => Duration::from_micros(1),
        "ms" => Duration::from_millis(1),
        "secs" => Duration::from_secs(1),
        "mins" => Duration::from_secs(60),
        "hrs" => Duration::from_secs(60 * 60),
        "days" => Duration::from_secs(24 * 60 * 60),
        "weeks" => Duration::from_secs(7 * 24 * 60 * 60),
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let duration = Duration::try_from_secs_f64(unit.as_secs_f64() * number).ok()?;
    i64::try_from(duration.as_nanos()).ok().map(|_| duration)
}

#[cfg(test)]
mod tests;
