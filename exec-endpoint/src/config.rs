//! The endpoint's flags, raw; and the configuration, checked once.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use hyper::Uri;

use crate::audit::AuditTo;
use crate::session::limits::Bounds;
use crate::session::timing::Timing;

/// Serves exec, attach, logs and status of this host's tasks over HTTPS: for kubex, kubectl and dcos. It runs as a user of its own,
/// without rights, beside the executors of the host. Every flag may stand in the environment.
#[derive(Debug, Clone, Parser)]
#[command(name = "exec-endpoint", version)]
pub struct Flags {
    /// Where to serve; systemd's socket, if it gives one, has precedence
    #[arg(long, env = "EXEC_ENDPOINT_LISTEN", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443")]
    pub listen: SocketAddr,
    /// The folder of the executors' control sockets
    #[arg(
        long,
        env = "EXEC_ENDPOINT_CONTROL_FOLDER",
        value_name = "FOLDER",
        default_value = "/run/kube-executor"
    )]
    pub control_folder: PathBuf,
    /// Serve the executors of this framework only
    #[arg(long, env = "EXEC_ENDPOINT_FRAMEWORK", value_name = "ID")]
    pub framework: Option<String>,
    /// The certificate and its chain, PEM
    #[arg(long, env = "EXEC_ENDPOINT_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: PathBuf,
    /// The certificate's key, PEM
    #[arg(long, env = "EXEC_ENDPOINT_TLS_KEY", value_name = "FILE")]
    pub tls_key: PathBuf,
    /// The authorities whose client certificates say who somebody is, PEM
    #[arg(long, env = "EXEC_ENDPOINT_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// The file of hashed tokens that say who somebody is
    #[arg(long, env = "EXEC_ENDPOINT_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Who may do what on which tasks, TOML; nobody may do what it does not say
    #[arg(long, env = "EXEC_ENDPOINT_POLICY", value_name = "FILE")]
    pub policy: PathBuf,
    /// Where the audit goes: a file, `-` (stdout), `syslog` or `none`
    #[arg(long, env = "EXEC_ENDPOINT_AUDIT", value_name = "FILE|-|syslog|none", default_value = "-")]
    pub audit: String,
    /// The URL that executors put into their tasks' statuses; by default this host's name and the port that is served
    #[arg(long, env = "EXEC_ENDPOINT_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Connections at once; one more is closed at once
    #[arg(long, env = "EXEC_ENDPOINT_MOST_CONNECTIONS", default_value = "4096")]
    pub most_connections: NonZeroUsize,
    /// Sessions at once
    #[arg(long, env = "EXEC_ENDPOINT_MOST_SESSIONS", default_value = "2048")]
    pub most_sessions: NonZeroUsize,
    /// Sessions of one user at once
    #[arg(long, env = "EXEC_ENDPOINT_MOST_SESSIONS_PER_USER", default_value = "1024")]
    pub most_sessions_per_user: NonZeroUsize,
    /// Sessions in one task at once
    #[arg(long, env = "EXEC_ENDPOINT_MOST_SESSIONS_PER_TASK", default_value = "1024")]
    pub most_sessions_per_task: NonZeroUsize,
    /// Seconds that a TLS handshake may take
    #[arg(long, env = "EXEC_ENDPOINT_HANDSHAKE_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub handshake_timeout: Duration,
    /// Seconds that a request's header may take
    #[arg(long, env = "EXEC_ENDPOINT_HEADER_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub header_timeout: Duration,
    /// Seconds after which a session in which nobody types and nothing is shown is ended; 0: never
    #[arg(long, env = "EXEC_ENDPOINT_IDLE_TIMEOUT", default_value = "0", value_parser = seconds)]
    pub idle_timeout: Duration,
    /// Seconds after which any session is ended; 0: never
    #[arg(long, env = "EXEC_ENDPOINT_SESSION_AGE", default_value = "0", value_parser = seconds)]
    pub session_age: Duration,
    /// Seconds between pings of a session
    #[arg(long, env = "EXEC_ENDPOINT_PING_INTERVAL", default_value = "15", value_parser = seconds)]
    pub ping_interval: Duration,
    /// Seconds without any sign of life after which a client counts as dead
    #[arg(long, env = "EXEC_ENDPOINT_DEAD_AFTER", default_value = "45", value_parser = seconds)]
    pub dead_after: Duration,
    /// How lines of the log look
    #[arg(long, env = "EXEC_ENDPOINT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// The least important lines that are logged
    #[arg(long, env = "EXEC_ENDPOINT_LOG_LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
    /// Check this configuration and its files, say what is wrong, and end
    #[arg(long)]
    pub check: bool,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the flags mean, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to serve, unless systemd gives a socket.
    pub listen: SocketAddr,
    /// Where executors' sockets are.
    pub sockets: ControlFolder,
    /// The certificate and its chain.
    pub tls_certificate: PathBuf,
    /// Its key.
    pub tls_key: PathBuf,
    /// Authorities of client certificates. There are these, or [`Self::tokens`], or both.
    pub client_ca: Option<PathBuf>,
    /// Hashed tokens.
    pub tokens: Option<PathBuf>,
    /// The policy.
    pub policy: PathBuf,
    /// Where the audit goes.
    pub audit: AuditTo,
    /// What executors are told; `None`: this host's name and the port that is served.
    pub url: Option<String>,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// Bounds on sessions.
    pub sessions: Bounds,
    /// Clocks of sessions.
    pub timing: Timing,
}

/// Where executors' sockets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFolder {
    /// The folder of frameworks' folders.
    pub path: PathBuf,
    /// The only framework that is served, if not all are.
    pub framework: Option<String>,
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many at once.
    pub most: NonZeroUsize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a request's header may take, and the first one of a connection.
    pub header: Duration,
    /// After how long without a sign of life the kernel counts a client as dead.
    pub dead_after: Duration,
}

/// The flags make no sense together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could ever be known.
    #[error("nobody could be known: give --client-ca, --tokens, or both")]
    NobodyKnown,
    /// A path's part that is none.
    #[error("--framework {0:?} is no framework's id: it is the name of a folder")]
    Framework(String),
    /// An empty `--audit`.
    #[error("--audit is empty: give a file, -, syslog or none")]
    Audit,
    /// Not an address of this program.
    #[error("--url {0:?} is not of the form https://host:port")]
    Url(String),
    /// A time that has to be.
    #[error("{0} must be more than 0 seconds")]
    Zero(&'static str),
    /// A client would be dead before it could answer.
    #[error("--dead-after ({dead:?}) must be longer than --ping-interval ({ping:?})")]
    DeadBeforePing {
        /// `--ping-interval`.
        ping: Duration,
        /// `--dead-after`.
        dead: Duration,
    },
}

impl Flags {
    /// What they mean.
    ///
    /// # Errors
    /// [`ConfigError`]: the first thing that makes no sense.
    pub fn config(self) -> Result<Config, ConfigError> {
        if self.client_ca.is_none() && self.tokens.is_none() {
            return Err(ConfigError::NobodyKnown);
        }
        if let Some(framework) = self.framework.as_ref().filter(|id| !is_folder_name(id)) {
            return Err(ConfigError::Framework(framework.clone()));
        }
        let times = [
            ("--handshake-timeout", self.handshake_timeout),
            ("--header-timeout", self.header_timeout),
            ("--ping-interval", self.ping_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(ConfigError::Zero(name));
        }
        if self.dead_after <= self.ping_interval {
            return Err(ConfigError::DeadBeforePing { ping: self.ping_interval, dead: self.dead_after });
        }
        Ok(Config {
            listen: self.listen,
            sockets: ControlFolder { path: self.control_folder, framework: self.framework },
            tls_certificate: self.tls_certificate,
            tls_key: self.tls_key,
            client_ca: self.client_ca,
            tokens: self.tokens,
            policy: self.policy,
            audit: audit_to(&self.audit)?,
            url: self.url.map(|url| checked_url(&url)).transpose()?,
            connections: ConnectionLimits {
                most: self.most_connections,
                handshake: self.handshake_timeout,
                header: self.header_timeout,
                dead_after: self.dead_after,
            },
            sessions: Bounds {
                all: self.most_sessions,
                per_user: self.most_sessions_per_user,
                per_task: self.most_sessions_per_task,
            },
            timing: Timing {
                idle: unless_zero(self.idle_timeout),
                age: unless_zero(self.session_age),
                ping_interval: self.ping_interval,
                dead_after: self.dead_after,
            },
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds".to_owned())?;
    // Timers add it to a clock; a century is for ever.
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time <= Duration::from_secs(100 * 365 * 24 * 60 * 60))
        .ok_or_else(|| "it must be a number of seconds from 0 to a century".to_owned())
}

fn unless_zero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

fn is_folder_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}

fn audit_to(text: &str) -> Result<AuditTo, ConfigError> {
    if text.is_empty() {
        return Err(ConfigError::Audit);
    }
    text.parse().map_err(|never: std::convert::Infallible| match never {})
}

fn checked_url(text: &str) -> Result<String, ConfigError> {
    let wrong = || ConfigError::Url(text.to_owned());
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let authority = url.authority().ok_or_else(wrong)?;
    let plain = url.scheme_str() == Some("https")
        && url.path() == "/"
        && url.query().is_none()
        && !authority.as_str().contains('@');
    if plain { Ok(format!("https://{authority}")) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(more: &[&str]) -> Result<Flags, clap::Error> {
        let least = ["exec-endpoint", "--tls-certificate=c", "--tls-key=k", "--policy=p"];
        Flags::try_parse_from(least.iter().chain(more))
    }

    fn config(more: &[&str]) -> Result<Config, ConfigError> {
        flags(more).expect("they parse").config()
    }

    #[test]
    fn flags_have_the_defaults_that_are_promised() {
        let config = config(&["--client-ca=a"]).unwrap();
        assert_eq!(config.listen, "0.0.0.0:7443".parse().unwrap());
        assert_eq!(config.sockets, ControlFolder { path: "/run/kube-executor".into(), framework: None });
        assert_eq!(config.connections.most.get(), 4096);
        let Bounds { all, per_user, per_task } = config.sessions;
        assert_eq!((all.get(), per_user.get(), per_task.get()), (2048, 1024, 1024));
        assert_eq!((config.connections.handshake, config.connections.header).0, Duration::from_secs(10));
        assert_eq!((config.timing.idle, config.timing.age), (None, None));
        assert_eq!(config.timing.ping_interval, Duration::from_secs(15));
        assert_eq!(config.timing.dead_after, Duration::from_secs(45));
        assert_eq!((config.audit, config.url), (AuditTo::Stdout, None));
    }

    #[test]
    fn the_files_that_there_must_be_are_asked_for() {
        for lacking in
            [&["exec-endpoint"][..], &["exec-endpoint", "--tls-certificate=c", "--policy=p", "--tokens=t"]]
        {
            assert!(Flags::try_parse_from(lacking).is_err(), "{lacking:?}");
        }
        assert_eq!(config(&[]), Err(ConfigError::NobodyKnown));
        assert!(config(&["--tokens=t"]).is_ok());
    }

    #[test]
    fn nonsense_is_refused_when_parsed() {
        for bad in [
            ["--listen", "7443"],
            ["--most-sessions", "0"],
            ["--idle-timeout", "-1"],
            ["--session-age", "soon"],
            ["--session-age", "1e300"],
            ["--log-level", "loud"],
        ] {
            assert!(flags(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nonsense_that_shows_only_together_is_refused_with_its_flag() {
        for (bad, said) in [
            (&["--framework=.."][..], "--framework"),
            (&["--framework=a/b"], "--framework"),
            (&["--framework="], "--framework"),
            (&["--audit="], "--audit"),
            (&["--header-timeout=0"], "--header-timeout"),
            (&["--dead-after=15"], "--dead-after"),
            (&["--url=http://a:1"], "--url"),
            (&["--url=https://a:1/path"], "--url"),
            (&["--url=https://user:secret@a:1"], "--url"),
            (&["--url=a:1"], "--url"),
        ] {
            let flags: Vec<&str> = ["--client-ca=a"].iter().chain(bad).copied().collect();
            let error = config(&flags).unwrap_err().to_string();
            assert!(error.contains(said), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_url_loses_only_its_last_slash() {
        assert_eq!(checked_url("https://a.b:7443/").unwrap(), "https://a.b:7443");
        assert_eq!(checked_url("https://[::1]:7443").unwrap(), "https://[::1]:7443");
    }
}
