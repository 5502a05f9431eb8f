//! What can go wrong, said so that one knows what to do next.

use std::io;
use std::path::PathBuf;

use hyper::StatusCode;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::config::ConfigError;

/// The exit code where kubex itself could not do it (as docker's).
pub(crate) const KUBEX_FAILED: u8 = 125;
/// The exit code where a session ended without one.
pub(crate) const NO_EXIT_CODE: u8 = 255;
/// The exit code where nobody reads the output any more: what a shell gives for SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 128 + 13;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file.
    #[error("{verb} {}: {source}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something of this machine: the terminal, stdin, a runtime.
    #[error("{verb}: {source}")]
    Local {
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("use {what}: {source}")]
    Credentials {
        /// Which file.
        what: String,
        /// Why not.
        source: TlsError,
    },
    /// The server cannot be reached.
    #[error("connect to {server}: {source}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no agreement about TLS.
    #[error("speak TLS with {server}: {source}")]
    Tls {
        /// With whom.
        server: String,
        /// Why not.
        source: TlsError,
    },
    /// The connection broke before there was an answer.
    #[error("ask {server}: {source}")]
    Unanswered {
        /// Whom.
        server: String,
        /// Why not.
        source: hyper::Error,
    },
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// How.
        status: StatusCode,
        /// Its sentence.
        message: String,
        /// Names near to the one asked for.
        near: Vec<String>,
    },
    /// The server speaks something else.
    #[error("{server} answered what kubex does not understand: {what}")]
    Strange {
        /// Who.
        server: String,
        /// What.
        what: String,
    },
    /// A session was cut.
    #[error("connection lost: {0}")]
    Lost(String),
    /// An answer was cut.
    #[error("connection lost: {0}")]
    Broken(String),
    /// The session ended, but not by its command.
    #[error("{0}")]
    Cut(String),
    /// The command could not be started.
    #[error("the command was not started: {0}")]
    NotStarted(String),
    /// The output cannot be written.
    #[error("write the output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// kubex's exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Lost(_) | Self::Broken(_) | Self::Cut(_) => NO_EXIT_CODE,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
            _ => KUBEX_FAILED,
        }
    }

    /// Says it on stderr; a closed pipe is nothing to talk about.
    pub(crate) fn tell(&self) {
        if self.code() == BROKEN_PIPE {
            return;
        }
        let mut text = format!("kubex: {}\n", printable(&self.to_string()));
        if let Some(step) = self.next_step() {
            text.push_str(&format!("  {}\n", printable(&step)));
        }
        crate::output::say(&text);
    }

    /// What to do about it.
    fn next_step(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                Some("is it overloaded, or a firewall in between? `kubex config view` shows which server is used".to_owned())
            }
            Self::Unreachable { .. } => Some(
                "does the exec endpoint run there? `kubex config view` shows which server is used, --server takes another"
                    .to_owned(),
            ),
            Self::Tls { source, .. } => tls_step(source).map(str::to_owned),
            Self::Unanswered { source, .. } => tls_cause(source).and_then(tls_step).map(str::to_owned),
            Self::Refused { status, near, .. } => refusal_step(*status, near),
            Self::Lost(_) => Some("what ran there was ended with the session; its exit code is not known".to_owned()),
            Self::Strange { .. } => Some("is that an exec endpoint? `kubex config view` shows which server is used".to_owned()),
            _ => None,
        }
    }
}

/// A peer's text without what would steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && char != '\n' { '\u{fffd}' } else { char }).collect()
}

fn refusal_step(status: StatusCode, near: &[String]) -> Option<String> {
    match status.as_u16() {
        401 => Some(
            "say who you are: --certificate and --key, --token-file, or the variable KUBEX_TOKEN".to_owned(),
        ),
        403 => Some("ask whoever keeps the endpoint's policy file for that right".to_owned()),
        404 if !near.is_empty() => {
            Some(format!("did you mean {}? `kubex task list` shows all", near.join(" or ")))
        }
        404 => Some("`kubex task list` shows which tasks there are".to_owned()),
        409 => Some("give more of the name".to_owned()),
        429 | 503 => Some("try again in a moment".to_owned()),
        _ => None,
    }
}

fn tls_step(error: &TlsError) -> Option<&'static str> {
    match error {
        // A CA with the same name but another key signed it, or none that is known.
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some(
                "the CA given (--ca, or `ca` of the context) did not sign the server's certificate; is it the endpoint's CA?",
            )
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("use a name or address that stands in the server's certificate"),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some(
                "the server's certificate has expired; it must be renewed there (or this machine's clock is wrong)",
            )
        }
        TlsError::InvalidCertificate(_) => Some("the server's certificate cannot be trusted"),
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("the server wants a client certificate: --certificate and --key")
        }
        TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::UnsupportedCertificate,
        ) => Some(
            "the server does not accept the client certificate: has it expired, is it of the endpoint's client CA?",
        ),
        TlsError::InvalidMessage(_) => Some("is that a TLS port?"),
        _ => None,
    }
}

/// The TLS error beneath an error, if there is one.
pub(crate) fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return Some(tls);
        }
        // An io::Error's source is what is beneath the error inside of it.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_kubexs_own_failures_lost_sessions_and_closed_pipes_apart() {
        assert_eq!(Failure::Usage("x".into()).code(), 125);
        assert_eq!(Failure::Lost("x".into()).code(), 255);
        assert_eq!(Failure::Cut("x".into()).code(), 255);
        assert_eq!(Failure::NotStarted("x".into()).code(), 125);
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).code(), 141);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).code(), 125);
    }

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let inner = TlsError::AlertReceived(AlertDescription::CertificateRequired);
        let error = io::Error::new(io::ErrorKind::InvalidData, inner.clone());
        assert_eq!(tls_cause(&error), Some(&inner));
        assert_eq!(tls_cause(&io::Error::other("x")), None);
    }

    #[test]
    fn a_servers_text_does_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }

    #[test]
    fn a_mistyped_name_gets_the_near_ones() {
        let step = refusal_step(StatusCode::NOT_FOUND, &["etcd-0-peer".to_owned()]);
        assert_eq!(step.as_deref(), Some("did you mean etcd-0-peer? `kubex task list` shows all"));
    }
}
