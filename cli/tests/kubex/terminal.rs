//! Sessions with a terminal: a real one, raw while the session lives, and as it was before afterwards, whatever happens.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use crate::server::Server;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

/// kubex on a terminal of its own. Killed when dropped.
struct Session {
    child: Child,
    master: File,
    slave: OwnedFd,
    before: Termios,
    seen: String,
}

impl Session {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = server.kubex(arguments);
        let child =
            command.env("TERM", "xterm-test").stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        Self { child, master: pty.master.into(), slave: pty.slave, before, seen: String::new() }
    }

    /// Reads until this is shown.
    fn expect(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut buffer = [0; 1024];
            let count = self.master.read(&mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    /// The exit code; the terminal must be as it was before.
    fn end(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(tcgetattr(&self.slave).unwrap() == self.before, "the terminal is not restored");
        code
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SHELL: [&str; 6] = ["task", "exec", "-it", "local", "sh", "-c"];

fn shell(server: &Server, script: &str) -> Session {
    let mut arguments = SHELL.to_vec();
    arguments.push(script);
    Session::start(server, &arguments)
}

#[test]
fn a_terminal_has_the_size_the_name_and_the_keys_of_ours() {
    let server = Server::start();
    let mut session = shell(&server, "stty size; echo $TERM; read line; echo got $line; exit 9");
    session.expect("33 99");
    session.expect("xterm-test");
    assert!(session.is_raw());
    session.type_in("abc\r");
    session.expect("got abc");
    assert_eq!(session.end(), Some(9));
    assert!(
        server.requests()[0].contains("&tty=true&env=TERM%3Dxterm-test&rows=33&cols=99"),
        "{:?}",
        server.requests()
    );
}

#[test]
fn a_change_of_size_is_told() {
    let server = Server::start();
    let mut session = shell(&server, "echo ready; read line");
    session.expect("ready");
    let size = rustix::termios::Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&session.master, size).unwrap();
    // The terminal is not kubex's controlling one here: the kernel's signal is sent by hand.
    kill(Pid::from_raw(i32::try_from(session.child.id()).unwrap()), Signal::SIGWINCH).unwrap();
    while !server.sizes().iter().any(|size| size == r#"{"Width":120,"Height":50}"#) {
        std::thread::yield_now();
    }
    session.type_in("\r");
    assert_eq!(session.end(), Some(0));
}

#[test]
fn an_escape_after_a_new_line_ends_it() {
    let server = Server::start();
    let mut session = shell(&server, "echo ready; exec cat");
    session.expect("ready");
    session.type_in("a~.\r~");
    session.expect("a~.");
    session.type_in(".");
    assert_eq!(session.end(), Some(255));
}

#[test]
fn signals_restore_the_terminal() {
    let server = Server::start();
    for (signal, code) in
        [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130), (Signal::SIGQUIT, 131)]
    {
        let mut session = shell(&server, "echo ready; exec sleep 1000");
        session.expect("ready");
        assert!(session.is_raw());
        kill(Pid::from_raw(i32::try_from(session.child.id()).unwrap()), signal).unwrap();
        assert_eq!(session.end(), Some(code), "{signal}");
    }
}

#[test]
fn a_lost_connection_restores_the_terminal() {
    let server = Server::start();
    let mut session = shell(&server, "echo ready; exec sleep 1000");
    session.expect("ready");
    drop(server);
    session.expect("kubex: connection lost: ");
    assert_eq!(session.end(), Some(255));
}

#[test]
fn ctrl_c_goes_to_the_command_as_a_key() {
    let server = Server::start();
    // No session of its own there, so no signal either: it is read as the key it is.
    let mut session = shell(&server, "stty raw; echo ready; head -c 1 | od -An -tx1");
    session.expect("ready");
    session.type_in("\u{3}");
    session.expect("03");
    assert_eq!(session.end(), Some(0));
}

#[test]
fn a_terminal_without_one_is_refused() {
    let server = Server::start();
    let output = server.kubex(&["task", "exec", "-it", "local", "sh"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("-t needs a terminal"));
    assert!(server.requests().is_empty());
}
