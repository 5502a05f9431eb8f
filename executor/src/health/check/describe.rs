//! The words of messages.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use super::QUOTED;
use crate::spec::{Address, Command, HttpProbe, Probe};

/// How many bytes of a command are shown.
const SHOWN: usize = 200;

/// What was checked, as a message begins.
pub(super) struct Subject<'a>(pub(super) &'a Probe);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Probe::Http(http) => {
                let name = if http.tls.is_some() { "HTTPS" } else { "HTTP" };
                write!(out, "{name} check of {}", Url(http))
            }
            Probe::Tcp(address) => write!(out, "TCP check of {}", socket_address(*address)),
            Probe::Grpc(grpc) => {
                write!(out, "gRPC check of {}", socket_address(grpc.address))?;
                if grpc.service.is_empty() { Ok(()) } else { write!(out, " (service {:?})", grpc.service) }
            }
            Probe::Command { command, .. } => write!(out, "command check `{}`", shown(command)),
        }
    }
}

struct Url<'a>(&'a HttpProbe);

impl fmt::Display for Url<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.0.tls.is_some() { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", socket_address(self.0.address), self.0.path)
    }
}

/// An address as the standard library has it; it shows with the brackets that IPv6 needs.
pub(super) fn socket_address(address: Address) -> SocketAddr {
    SocketAddr::new(address.ip, address.port)
}

/// A command on one line: for one of `Command::shell`, its text.
fn shown(command: &Command) -> String {
    let line = match command.arguments.as_slice() {
        [_, flag, text] if command.file == "/bin/sh" && flag == "-c" => Cow::Borrowed(text.as_str()),
        arguments => Cow::Owned(arguments.join(" ")),
    };
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= SHOWN { line } else { format!("{}...", &line[..line.floor_char_boundary(SHOWN)]) }
}

/// Output or an answer as text: at most [`QUOTED`] bytes of it, white space around it left out, what is not UTF-8
/// replaced.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)]);
    let mut text = &text[..text.floor_char_boundary(QUOTED)];
    if bytes.len() > QUOTED {
        text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_command_shows_its_text_and_another_its_arguments() {
        assert_eq!(shown(&Command::shell("exit 1\ntrue")), "exit 1 true");
        let arguments = ["etcdctl", "endpoint", "health"].map(str::to_owned).to_vec();
        assert_eq!(shown(&Command { file: "/bin/etcdctl".to_owned(), arguments }), "etcdctl endpoint health");
    }

    #[test]
    fn a_long_command_is_cut_at_a_character() {
        let line = shown(&Command::shell(&"ä".repeat(500)));
        assert!(line.len() <= SHOWN + 3 && line.ends_with("ä..."), "{line}");
    }

    #[test]
    fn a_quote_is_cut_at_a_character_and_never_longer_than_allowed() {
        let long = "x".to_owned() + &"ä".repeat(QUOTED);
        let text = quoted(long.as_bytes());
        assert_eq!(text.len(), QUOTED - 1);
        assert!(text.ends_with('ä'));
        assert!(quoted(&vec![0xff; 2 * QUOTED]).len() <= QUOTED);
        assert_eq!(quoted(b" a\xffb\n"), "a\u{fffd}b");
    }
}
